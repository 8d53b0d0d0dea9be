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
pub(super) const LABEL: &str = "_acme-challenge";

/// The one of dns-persist-01.
const STANDING_LABEL: &str = "_validation-persist";

/// The name at which the CA looks for proofs of `identifier`: that of a wildcard is its base's.
///
/// # Errors
///
/// If it is an address, or too long to have a label put in front (253 bytes, RFC 1035 §2.3.4).
pub(super) fn challenge_name(identifier: &Identifier) -> Result<Name, DnsError> {
    name_below(LABEL, identifier)
}

/// The name at which the CA looks for proofs of `identifier` by the account at `account_url` alone
/// (draft-ietf-acme-dns-account-label).
///
/// # Errors
///
/// As [`challenge_name`].
pub(super) fn account_name(identifier: &Identifier, account_url: &str) -> Result<Name, DnsError> {
    name_below(&format!("{}.{LABEL}", account_label(account_url)), identifier)
}

/// The name at which the CA looks for a standing record of `identifier`
/// (draft-ietf-acme-dns-persist).
///
/// # Errors
///
/// As [`challenge_name`].
pub(super) fn standing_name(identifier: &Identifier) -> Result<Name, DnsError> {
    name_below(STANDING_LABEL, identifier)
}

/// An underscore and the first ten bytes of the URL's SHA-256 in base32 (RFC 4648 §6).
fn account_label(account_url: &str) -> String {
    const ALPHABET: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r',
        's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    let digest = digest::digest(&digest::SHA256, account_url.as_bytes());
    let bits = digest.as_ref().iter().take(10).fold(0_u128, |bits, it| bits << 8 | u128::from(*it));
    let letter = |turn: u32| ALPHABET.get((bits >> (75 - 5 * turn)) as usize & 31);
    std::iter::once('_').chain((0..16).filter_map(letter).copied()).collect()
}

fn name_below(label: &str, identifier: &Identifier) -> Result<Name, DnsError> {
    let unsuited = || DnsError::Unsuited { identifier: identifier.clone() };
    let Identifier::Dns(host) = identifier else { return Err(unsuited()) };
    let base = host.strip_prefix("*.").unwrap_or(host);
    let text = format!("{label}.{base}.");
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
    fn the_label_of_an_account_is_that_of_the_draft() {
        let url = "https://example.com/acme/acct/ExampleAccount";
        let name = account_name(&"*.example.org".parse().unwrap(), url).unwrap();
        assert_eq!(text(&name), "_ujmmovf2vn55tgye._acme-challenge.example.org");
        let standing = standing_name(&"*.example.org".parse().unwrap()).unwrap();
        assert_eq!(text(&standing), "_validation-persist.example.org");
    }

    #[test]
    fn the_value_is_the_digest_of_rfc_8555_8_4() {
        // From `printf %s abc.print | openssl dgst -sha256 -binary | basenc --base64url`.
        let value = txt_value(&KeyAuthorization::new("abc.print".to_owned()));
        assert_eq!(value, "sNyFIqB-fr3TkJYRjHA62nr045CVFd4geegiwYSl9Mo");
    }
}
