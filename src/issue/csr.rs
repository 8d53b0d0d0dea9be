//! The certificate's key, and the request that carries its public half (RFC 8555 §7.4, RFC 2986).
//!
//! A request has an empty subject and names its identifiers in the subject alternative name alone:
//! CAs no longer read the common name, and refuse one of more than 64 bytes.
//!
//! Not here: where the key is kept while the order is under way ([`crate::model::KeyVault`]).

use rcgen::{CertificateParams, DistinguishedName, SanType};
use tokio::sync::Semaphore;

use crate::model::{Explain, Identifier, KeyError, KeyType, PrivateKey, Retry};

/// A request for a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// There is nothing to certify.
    #[error("a certificate request needs at least one identifier")]
    NoIdentifier,
    /// A name that the request can't carry; no parsed [`Identifier`] is one.
    #[error("{identifier} can't be written in a certificate request")]
    Unwritable {
        /// The name.
        identifier: Identifier,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// The key can't be used.
    #[error("the key of the certificate can't be used")]
    Key(#[source] KeyError),
    /// The request could not be signed.
    #[error("the certificate request can't be signed")]
    Unsigned(#[source] rcgen::Error),
}

impl Explain for CsrError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoIdentifier | Self::Unwritable { .. } => "issue.unusable_identifiers",
            Self::Key(_) | Self::Unsigned(_) => "issue.unusable_key",
        }
    }

    fn retry(&self) -> Retry {
        Retry::AfterChange
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoIdentifier | Self::Unwritable { .. } => {
                "correct what the certificate is for in the configuration".into()
            }
            Self::Key(_) | Self::Unsigned(_) => {
                "take reuse_key off the certificate, so that it gets a new key".into()
            }
        })
    }
}

/// The request for a certificate for `identifiers` and the public half of `key`, signed by `key`,
/// as DER (RFC 2986).
///
/// # Errors
///
/// If there is no identifier, or the key can't be used.
pub(super) fn build(identifiers: &[Identifier], key: &PrivateKey) -> Result<Vec<u8>, CsrError> {
    if identifiers.is_empty() {
        return Err(CsrError::NoIdentifier);
    }
    let mut parameters = CertificateParams::default();
    // The library's default is a name of its own.
    parameters.distinguished_name = DistinguishedName::new();
    parameters.subject_alt_names =
        identifiers.iter().map(alternative_name).collect::<Result<_, _>>()?;
    let pair = key.pair().map_err(CsrError::Key)?;
    let request = parameters.serialize_request(&pair).map_err(CsrError::Unsigned)?;
    Ok(request.der().to_vec())
}

fn alternative_name(identifier: &Identifier) -> Result<SanType, CsrError> {
    match identifier {
        Identifier::Ip(address) => Ok(SanType::IpAddress(*address)),
        Identifier::Dns(name) => name
            .as_str()
            .try_into()
            .map(SanType::DnsName)
            .map_err(|source| CsrError::Unwritable { identifier: identifier.clone(), source }),
    }
}

/// Slow kinds of keys being made, in the whole process: each takes up to seconds of a processor,
/// and many at once would keep everything else waiting.
static SLOW_KEYS: Semaphore = Semaphore::const_new(1);

/// Makes a new key from the system's generator. Other tasks go on meanwhile; slow kinds are made
/// one after the other.
///
/// # Errors
///
/// If the generator fails, or the process is ending.
pub(super) async fn generate_key(key_type: KeyType) -> Result<PrivateKey, KeyError> {
    if !key_type.is_slow() {
        return PrivateKey::generate(key_type);
    }
    let turn = SLOW_KEYS.acquire().await;
    let made = tokio::task::spawn_blocking(move || {
        // The work goes on if nobody waits for it any more, and so its turn does.
        let _turn = turn;
        PrivateKey::generate(key_type)
    });
    match made.await {
        Ok(key) => key,
        Err(broken) => match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_ending) => Err(KeyError::Unusable(rcgen::Error::KeyGenerationUnavailable)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::process::{self, Program};

    fn identifiers(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|it| it.parse().unwrap()).collect()
    }

    /// What OpenSSL says of the request `der`, whose signature it also checks.
    async fn openssl(der: Vec<u8>) -> String {
        let arguments = ["openssl", "req", "-inform", "DER", "-verify", "-noout", "-text"];
        let program = Program {
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: vec![],
            input: der,
            directory: None,
            timeout: Duration::from_secs(60),
        };
        process::run(&program).await.unwrap().output
    }

    #[tokio::test]
    async fn openssl_reads_and_verifies_a_request_of_each_kind_of_key() {
        let names = identifiers(&["example.com", "*.example.net", "192.0.2.7", "2001:db8::1"]);
        for (key_type, public_key) in [
            (KeyType::P256, "NIST CURVE: P-256"),
            (KeyType::P384, "NIST CURVE: P-384"),
            (KeyType::Rsa2048, "Public-Key: (2048 bit)"),
            (KeyType::Rsa3072, "Public-Key: (3072 bit)"),
            (KeyType::Rsa4096, "Public-Key: (4096 bit)"),
        ] {
            let key = generate_key(key_type).await.unwrap();
            let text = openssl(build(&names, &key).unwrap()).await;
            assert!(text.contains("self-signature verify OK"), "{key_type}: {text}");
            assert!(text.contains(public_key), "{key_type}: {text}");
            let subject = text.lines().map(str::trim).find(|it| it.starts_with("Subject:"));
            assert_eq!(subject, Some("Subject:"), "{text}");
            let names = "DNS:example.com, DNS:*.example.net, IP Address:192.0.2.7, \
                         IP Address:2001:DB8:0:0:0:0:0:1";
            assert!(text.lines().any(|it| it.trim() == names), "{text}");
            assert_eq!(text.matches("X509v3 ").count(), 1, "{text}");
        }
    }

    #[tokio::test]
    async fn a_request_for_nothing_is_refused() {
        let key = generate_key(KeyType::P256).await.unwrap();
        assert!(matches!(build(&[], &key), Err(CsrError::NoIdentifier)));
    }

    #[tokio::test]
    async fn giving_up_on_a_slow_key_does_not_block_the_next_one() {
        use futures_util::FutureExt;

        for _ in 0..3 {
            drop(generate_key(KeyType::Rsa2048).now_or_never());
        }
        let next = tokio::time::timeout(Duration::from_secs(60), generate_key(KeyType::Rsa2048));
        assert!(next.await.unwrap().is_ok());
    }
}
