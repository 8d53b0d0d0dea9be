//! Has a CA revoke a certificate that came from it.
//!
//! Not here: when, and what follows ([`crate::lifecycle`]).

use super::{IssueError, Issuer};
use crate::model::{IssuedCertificate, RevocationKey, RevocationRequest};

impl Issuer {
    /// Has the CA that `certificate` came from revoke it. One that is revoked already is a success.
    ///
    /// # Errors
    ///
    /// If the configuration has that CA no more, or the CA does not do it.
    pub async fn revoke(
        &self,
        certificate: &IssuedCertificate,
        request: &RevocationRequest,
    ) -> Result<(), IssueError> {
        let IssuedCertificate { chain, key, origin } = certificate;
        let ca = &origin.ca;
        if self.local.contains_key(ca) {
            return Err(IssueError::NoRevocation(ca.clone()));
        }
        let client = self.clients.get(ca);
        let client = client.filter(|it| it.settings().directory == origin.directory);
        let client = client.ok_or_else(|| IssueError::OriginUnknown {
            ca: ca.clone(),
            directory: origin.directory.clone(),
        })?;
        let Some(leaf) = chain.certificates().first() else { return Ok(()) };
        let signer = match request.key {
            RevocationKey::Account => None,
            RevocationKey::Certificate => Some(key.as_ref().ok_or(IssueError::KeyElsewhere)?),
        };
        Ok(client.revoke(leaf, signer, request.reason).await?)
    }
}
