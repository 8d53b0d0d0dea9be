//! Generations: the issued certificates of one name, as the store keeps them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CaName, Chain, Fingerprint, KeyType, Leaf, PrivateKey, Timestamp};

/// The label of a stored generation: `0001` and up. Its identity is its leaf's [`Fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u32);

impl Generation {
    /// The label after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// A name is no generation's label.
#[derive(Debug, thiserror::Error)]
#[error("not a generation's label: four or more digits")]
pub struct GenerationError;

impl FromStr for Generation {
    type Err = GenerationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() < 4 || !text.bytes().all(|it| it.is_ascii_digit()) {
            return Err(GenerationError);
        }
        let generation = text.parse().map(Self).map_err(|_too_large| GenerationError)?;
        // 00001 would be a second name of 0001.
        if generation.to_string() == text { Ok(generation) } else { Err(GenerationError) }
    }
}

/// Where a certificate came from: what `meta.json` says beside its PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The CA, as the configuration names it.
    pub ca: CaName,
    /// That CA's directory URL when the certificate was ordered.
    pub directory: String,
    /// The profile that was asked for.
    #[serde(default)]
    pub profile: Option<String>,
    /// The chain that was preferred when it was downloaded, whether the CA had it or not.
    #[serde(default)]
    pub preferred_chain: Option<String>,
    /// The kind of its key.
    pub key_type: KeyType,
    /// The SHA-256 of the certificate request, where that was brought and the key is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<Fingerprint>,
    /// When we got it, by our clock (its `not_before` may be back-dated).
    pub issued_at: Timestamp,
    /// The order it came from.
    #[serde(default)]
    pub order_url: Option<String>,
    /// Whether the CA is one for tests.
    #[serde(default)]
    pub test: bool,
}

/// A certificate fresh from a CA, checked, not yet stored.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// Leaf first.
    pub chain: Chain,
    /// The leaf's key; `None` where it is elsewhere, as [`Origin::csr`] says.
    pub key: Option<PrivateKey>,
    /// Where it came from.
    pub origin: Origin,
}

/// The certificate that `current` points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its label; `None` for the placeholder.
    pub generation: Option<Generation>,
    /// What it says.
    pub leaf: Leaf,
    /// As [`Chain::needs_issuer`] says.
    pub needs_issuer: bool,
    /// Where it came from; `None` for the placeholder, or where `meta.json` was lost.
    pub origin: Option<Origin>,
    /// The folder with its files, through no link.
    pub directory: PathBuf,
}

impl Held {
    /// Whether this is the self-signed stand-in.
    #[must_use]
    pub const fn is_placeholder(&self) -> bool {
        self.generation.is_none()
    }

    /// Its identity.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.leaf.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_one_spelling() {
        assert_eq!("0002".parse::<Generation>().unwrap(), Generation(2));
        assert_eq!("12345".parse::<Generation>().unwrap().to_string(), "12345");
        for wrong in ["2", "00002", "+002", "current", "placeholder", "99999999999"] {
            assert!(wrong.parse::<Generation>().is_err(), "{wrong}");
        }
    }
}
