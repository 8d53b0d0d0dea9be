//! The key of a placeholder, and the placeholder itself.
//!
//! Whatever the wanted kind of key is, P-256 does for a stand-in and is made at once. Of a pair
//! both are needed in their own family: a server that is given two certificates of one family drops
//! one.
//!
//! Not here: what a placeholder looks like ([`crate::local_ca`]), and when one is put down
//! ([`crate::lifecycle`]).

use super::csr::generate_key;
use crate::local_ca::{self, PlaceholderError};
use crate::model::{CertificateSpec, Chain, KeyFamily, KeyType, PrivateKey, Timestamp};

/// A stand-in for the certificate of `spec` until there is one, made at `now`.
///
/// # Errors
///
/// [`PlaceholderError`]; none is expected while the system's generator works.
pub async fn placeholder(
    spec: &CertificateSpec,
    now: Timestamp,
) -> Result<(Chain, PrivateKey), PlaceholderError> {
    let key_type = match (&spec.paired_with, spec.key_type.family()) {
        (Some(_), KeyFamily::Rsa) => KeyType::Rsa2048,
        (Some(_), KeyFamily::Ecdsa) | (None, _) => KeyType::P256,
    };
    let key = generate_key(key_type).await?;
    Ok((local_ca::placeholder(&spec.identifiers, &key, now)?, key))
}
