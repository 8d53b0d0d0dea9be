//! The certificate that proves one identifier (RFC 8737 §3): self-signed, for this identifier
//! alone, with the digest of the key authorization in `acmeIdentifier`. It and its key are in
//! memory only.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::model::{Identifier, KeyAuthorization, Proof};
use crate::solver::SolverError;

/// A certificate for one proof, and the SNI that it is asked for by.
#[derive(Clone)]
pub(in crate::solver) struct ChallengeCertificate {
    server_name: String,
    key_authorization: KeyAuthorization,
    key: Arc<CertifiedKey>,
}

impl fmt::Debug for ChallengeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengeCertificate")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl ChallengeCertificate {
    /// A new one that shows `proof`.
    ///
    /// # Errors
    ///
    /// If no key or certificate could be made.
    pub(in crate::solver) fn new(proof: &Proof) -> Result<Self, SolverError> {
        let failed = |reason: String| SolverError::Certificate {
            identifier: proof.identifier.clone(),
            reason,
        };
        let certified = certify(proof).map_err(|it| failed(it.to_string()))?;
        let (certificate, key) = certified;
        let key = any_supported_type(&key).map_err(|it| failed(it.to_string()))?;
        Ok(Self {
            server_name: server_name(&proof.identifier),
            key_authorization: proof.key_authorization.clone(),
            key: Arc::new(CertifiedKey::new(vec![certificate], key)),
        })
    }

    /// Whether a client that wants to speak with `name` is to be shown this.
    pub(in crate::solver) fn is_for(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.server_name.eq_ignore_ascii_case(name)
    }

    /// Whether it is asked for by the same name as `other`, and proves something else.
    pub(in crate::solver) fn excludes(&self, other: &Self) -> bool {
        self.server_name == other.server_name && self.key_authorization != other.key_authorization
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

type Certified = (rustls_pki_types::CertificateDer<'static>, PrivateKeyDer<'static>);

fn certify(proof: &Proof) -> Result<Certified, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([proof.identifier.value()])?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "ACME challenge");
    params.distinguished_name = name;
    let digest = digest::digest(&digest::SHA256, proof.key_authorization.as_str().as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((certificate.der().clone(), key.into()))
}

/// What a CA sends as SNI (RFC 8737 §3, RFC 8738 §6).
fn server_name(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(address)) => {
            let octets = address.octets().into_iter().rev();
            let nibbles = octets.map(|it| format!("{:x}.{:x}.", it & 0xf, it >> 4));
            format!("{}ip6.arpa", nibbles.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_name_in_the_reverse_tree() {
        let name = |text: &str| server_name(&text.parse().unwrap());
        assert_eq!(name("example.com"), "example.com");
        // The examples of RFC 8738 §6.
        assert_eq!(name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            name("2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
