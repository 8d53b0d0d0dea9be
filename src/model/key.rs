//! Keys of certificates: their kinds, and a private key that can't print itself.
//!
//! Not here: where keys are kept ([`crate::store`]); account keys, which `acme` alone understands
//! but carries in the same [`PrivateKey`].

use std::fmt;
use std::str::FromStr;

use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::pem::{self, PemError};

/// The kind of a certificate's key. P-256 is the default; public CAs take no other kinds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// ECDSA on NIST P-256.
    #[default]
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl KeyType {
    /// All of them, as the configuration writes them.
    pub const ALL: [Self; 5] =
        [Self::P256, Self::P384, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }

    /// What it signs with.
    #[must_use]
    pub const fn family(self) -> KeyFamily {
        match self {
            Self::P256 | Self::P384 => KeyFamily::Ecdsa,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyFamily::Rsa,
        }
    }

    /// Whether making one takes long enough (RSA: up to seconds) to need a thread of its own.
    #[must_use]
    pub const fn is_slow(self) -> bool {
        matches!(self.family(), KeyFamily::Rsa)
    }
}

/// What keys sign with. A TLS client says which it takes, and a server that has a certificate of
/// each shows the one that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFamily {
    /// Elliptic curves.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl fmt::Display for KeyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        })
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for KeyType {
    type Err = KeyTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(KeyTypeError)
    }
}

/// A text is no kind of key.
#[derive(Debug, thiserror::Error)]
#[error("not a kind of key: p256, p384, rsa2048, rsa3072 or rsa4096")]
pub struct KeyTypeError;

/// A key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not PEM, or holds no key.
    #[error("the private key {0}")]
    Pem(#[source] PemError),
    /// The system's generator or the library refused.
    #[error("the private key can't be made or used")]
    Unusable(#[source] rcgen::Error),
}

/// A private key, as PEM. Prints only its name, and is wiped from memory when dropped.
///
/// The bytes are kept as they were made or read: rcgen writes a loaded SEC1 or PKCS#1 key under the
/// wrong label (`rustls/rcgen#453`), so no key is ever serialised a second time.
pub struct PrivateKey {
    pem: Zeroizing<String>,
}

impl PrivateKey {
    /// A new key from the system's generator. RSA takes up to seconds: see [`KeyType::is_slow`].
    ///
    /// # Errors
    ///
    /// If the generator fails.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let pair = match key_type {
            KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyType::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyType::Rsa2048 => rsa(RsaKeySize::_2048),
            KeyType::Rsa3072 => rsa(RsaKeySize::_3072),
            KeyType::Rsa4096 => rsa(RsaKeySize::_4096),
        };
        let pair = pair.map_err(KeyError::Unusable)?;
        Ok(Self { pem: Zeroizing::new(pair.serialize_pem().replace("\r\n", "\n")) })
    }

    /// The first key of `pem`, in PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    ///
    /// If there is none, or none that can sign.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        pem::parse_private_key(pem).map_err(KeyError::Pem)?;
        let key = Self { pem: Zeroizing::new(String::from_utf8_lossy(pem).into_owned()) };
        key.pair()?;
        Ok(key)
    }

    /// The same key once more, for somebody else to keep.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { pem: self.pem.clone() }
    }

    /// The key as PEM; never to be logged or sent.
    #[must_use]
    pub fn secret_pem(&self) -> &str {
        &self.pem
    }

    /// The key as DER in the form it was read in; never to be logged or sent.
    ///
    /// # Errors
    ///
    /// None for a key made by this type's constructors.
    pub fn secret_der(&self) -> Result<rustls_pki_types::PrivateKeyDer<'static>, KeyError> {
        pem::parse_private_key(self.pem.as_bytes()).map_err(KeyError::Pem)
    }

    /// The pair that signs, for rcgen.
    ///
    /// # Errors
    ///
    /// If the library can't use the key.
    pub fn pair(&self) -> Result<KeyPair, KeyError> {
        // Not from the text: rcgen takes its first section, whatever that is.
        KeyPair::try_from(&self.secret_der()?).map_err(KeyError::Unusable)
    }

    /// The `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7) of its public half, as DER: equal to
    /// [`super::Leaf::public_key`] exactly if key and certificate belong together.
    ///
    /// # Errors
    ///
    /// If the library can't use the key.
    pub fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.pair()?.subject_public_key_info())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A secret text: a token, an HMAC key, a password. Prints only its name, and is wiped when
/// dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text` secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret; never to be logged.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_ever_printed() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey");
        assert_eq!(format!("{:?}", Secret::new("canary".into())), "Secret");
    }

    #[test]
    fn each_kind_is_made_and_read_back_with_the_same_public_half() {
        for key_type in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
            let key = PrivateKey::generate(key_type).unwrap();
            let read = PrivateKey::from_pem(key.secret_pem().as_bytes()).unwrap();
            assert_eq!(key.public_key().unwrap(), read.public_key().unwrap(), "{key_type}");
        }
    }

    #[test]
    fn garbage_is_no_key() {
        assert!(PrivateKey::from_pem(b"garbage").is_err());
        // `openssl ecparam -genkey` puts the curve's name before the key.
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n\
                          -----END EC PARAMETERS-----\n";
        let behind = PrivateKey::from_pem(format!("{parameters}{}", key.secret_pem()).as_bytes());
        assert_eq!(behind.unwrap().public_key().unwrap(), key.public_key().unwrap());
        let hollow = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(PrivateKey::from_pem(hollow), Err(KeyError::Unusable(_))));
    }
}
