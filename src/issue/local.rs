//! A certificate of the built-in CA: a key, and a leaf at once.
//!
//! There is no order and nothing to prove, so nothing is journalled: what is lost with the process
//! before it is stored has cost nobody anything.
//!
//! Not here: what the CA may certify, and what it signs with ([`crate::local_ca`]).

use super::subject_key::SubjectKey;
use super::{IssueError, Issuer, check};
use crate::local_ca::{LeafRequest, LocalCa};
use crate::model::{CertificateSpec, IssuedCertificate, Origin, PrivateKey};

impl Issuer {
    /// Gets a certificate for `spec` from the built-in CA `local`, for the key `reused` or a new
    /// one.
    pub(super) async fn issue_locally(
        &self,
        spec: &CertificateSpec,
        local: &LocalCa,
        reused: Option<&PrivateKey>,
    ) -> Result<IssuedCertificate, IssueError> {
        // An order at the CA that was asked before this one.
        self.make_way(spec, &local.settings().name).await?;
        let key = SubjectKey::choose(spec, reused).await?;
        let request = LeafRequest {
            identifiers: spec.identifiers.clone(),
            public_key: key.public_key()?,
            key_type: spec.key_type,
        };
        let now = self.clock.now();
        let chain = local.issue(request, now).await?;
        check::check(&chain, &key, &spec.identifiers, now)?;
        let settings = local.settings();
        let origin = Origin {
            ca: settings.name.clone(),
            directory: settings.directory(),
            profile: spec.profile.clone(),
            // There is only one chain: the wish counts as heard.
            preferred_chain: spec.preferred_chain.clone(),
            key_type: spec.key_type,
            csr: spec.request().map(|it| it.sha256),
            issued_at: now,
            order_url: None,
            test: false,
        };
        Ok(IssuedCertificate { chain, key: key.ours(), origin })
    }
}
