//! The name and the value that dns-01 asks for (RFC 8555 §8.4).
//!
//! Not here: where that name leads, and which zone it is in ([`super::zone`]).

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hickory_proto::rr::Name;

use crate::model::{Identifier, KeyAuthorization};

use super::DnsError;

/// The label in front of what is to be proven.
const LABEL: &str = "_acme-challenge";

/// The name at which the CA looks for proofs of `identifier`: that of a wildcard is its base's.
///
/// # Errors
///
/// If it is an address, or too long to have a label put in front (253 bytes, RFC 1035 §2.3.4).
pub(super) fn challenge_name(identifier: &Identifier) -> Result<Name, DnsError> {
    let unsuited = || DnsError::Unsuited { identifier: identifier.clone() };
    let Identifier::Dns(host) = identifier else { return Err(unsuited()) };
    let base = host.strip_prefix("*.").unwrap_or(host);
    let text = format!("{LABEL}.{base}.");
    // One more for the dot at the end, which the limit does not count.
    if text.len() > 254 {
        return Err(unsuited());
    }
    Name::from_ascii(text).map_err(|_too_long| unsuited())
}

/// The value of the TXT record: the digest of the key authorization.
#[must_use]
pub(super) fn txt_value(key_authorization: &KeyAuthorization) -> String {
    let digest = digest::digest(&digest::SHA256, key_authorization.as_str().as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

/// `name` as records are journalled: lower case, no dot at the end.
#[must_use]
pub(super) fn text(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_proven_at_the_name_of_its_base() {
        let name =
            |text: &str| challenge_name(&text.parse().unwrap()).map(|it| super::text(&it)).ok();
        assert_eq!(name("example.com").as_deref(), Some("_acme-challenge.example.com"));
        assert_eq!(name("*.example.com").as_deref(), Some("_acme-challenge.example.com"));
        assert_eq!(name("192.0.2.1"), None);
        let long = |length: usize| {
            let labels = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
            format!("{labels}.{}", "d".repeat(length - labels.len() - 1))
        };
        assert!(name(&long(237)).is_some());
        assert_eq!(name(&long(238)), None);
    }

    #[test]
    fn the_value_is_the_digest_of_rfc_8555_8_4() {
        // From `printf %s abc.print | openssl dgst -sha256 -binary | basenc --base64url`.
        let value = txt_value(&KeyAuthorization::new("abc.print".to_owned()));
        assert_eq!(value, "sNyFIqB-fr3TkJYRjHA62nr045CVFd4geegiwYSl9Mo");
    }
}
