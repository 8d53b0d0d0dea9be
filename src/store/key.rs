//! The names of private documents, in every engine.
//!
//! A key is made of names that were checked ([`crate::model::CertificateName`] and its kin) and of
//! words of ours, so that no key can leave its place.
//!
//! Not here: what the documents hold.

use std::fmt;

use crate::model::{AuthorityLabel, CaName, CertificateName, Fingerprint, TargetName};

/// What the keys of all lists of revoked certificates begin with.
pub(super) const REVOCATION_LISTS: &str = "crl/";
/// What the keys of all that could not be removed from DNS begin with.
pub(super) const LEFTOVERS: &str = "dns/";

/// What the keys of all that is remembered of certificates begin with.
pub(super) const CERTIFICATES: &str = "certificates/";

/// The longest part of a key between two slashes, in bytes: a name, and what is put behind it.
const MAX_PART: usize = 128;

/// The most parts of a key.
const MAX_PARTS: usize = 8;

/// Names one private document, such as `certificates/example.com/state.json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Reads a key that an engine listed, or that is written in code.
    ///
    /// `None` if `text` could leave its place: an empty part, one that begins with neither letter
    /// nor digit, or other characters than a-z, 0-9, `.`, `_`, `-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |part: &str| {
            let alphanumeric = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
            part.len() <= MAX_PART
                && part.bytes().next().is_some_and(alphanumeric)
                && part.bytes().all(|it| alphanumeric(it) || b"._-".contains(&it))
        };
        let parts = text.split('/').count();
        (parts <= MAX_PARTS && text.split('/').all(fits)).then(|| Self(text.to_owned()))
    }

    /// The key as text, parts joined by slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The document `file` of a certificate.
    pub(super) fn certificate(name: &CertificateName, file: &'static str) -> Self {
        Self(format!("{CERTIFICATES}{name}/{file}"))
    }

    /// The document `file` of the order of a certificate that was set aside for `ca`.
    pub(super) fn set_aside(name: &CertificateName, ca: &CaName, file: &'static str) -> Self {
        Self(format!("{}{ca}/{file}", Self::all_set_aside(name)))
    }

    /// What the keys of all orders of a certificate begin with that were set aside.
    pub(super) fn all_set_aside(name: &CertificateName) -> String {
        format!("certificates/{name}/aside/")
    }

    /// The document `file` of the account at `ca`.
    pub(super) fn account(ca: &CaName, file: &'static str) -> Self {
        Self(format!("accounts/{ca}/{file}"))
    }

    /// The document `file` of a CA certificate of our own, in its folder or, with a `suffix` to
    /// that folder's name, in one beside it.
    pub(super) fn authority(
        ca: &CaName,
        label: AuthorityLabel,
        suffix: &str,
        file: &'static str,
    ) -> Self {
        Self(format!("{}{label}{suffix}/{file}", Self::authorities(ca)))
    }

    /// What the keys of all CA certificates of `ca` begin with.
    pub(super) fn authorities(ca: &CaName) -> String {
        format!("ca/{ca}/")
    }

    /// The state of a certificate at a target.
    pub(super) fn target(target: &TargetName, name: &CertificateName) -> Self {
        Self(format!("targets/{target}/{name}.json"))
    }

    /// The document `file` of the list of revoked certificates that lies at `url`.
    pub(super) fn revocation_list(url: &str, file: &'static str) -> Self {
        Self(format!("{REVOCATION_LISTS}{}/{file}", Fingerprint::of(url.as_bytes())))
    }

    /// What could not be removed from DNS, by the digest of where it is.
    pub(super) fn leftover(digest: &Fingerprint) -> Self {
        Self(format!("{LEFTOVERS}{digest}.json"))
    }

    /// What was spent of the limits of `ca`.
    pub(super) fn ledger(ca: &CaName) -> Self {
        Self(format!("ledger/{ca}.json"))
    }

    /// When the clock was last known to be right.
    pub(super) fn clock() -> Self {
        Self("clock.json".to_owned())
    }

    /// The alerts that wait.
    pub(super) fn outbox() -> Self {
        Self("alerts/outbox.json".to_owned())
    }

    /// The version of what is on disk.
    pub(super) fn version() -> Self {
        Self("version".to_owned())
    }

    /// The document of a lease.
    pub(super) fn lease(name: &'static str) -> Self {
        Self(format!("locks/{name}.json"))
    }

    /// This key with `suffix` behind its last part.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        Self(format!("{self}{suffix}"))
    }

    /// The same file of the account in a folder beside it, whose name ends in `suffix`.
    pub(super) fn account_aside(ca: &CaName, suffix: &str, file: &'static str) -> Self {
        Self(format!("accounts/{ca}{suffix}/{file}"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_key_leaves_its_place() {
        for wrong in ["", "/", "a/", "/a", "a//b", "../a", "a/..", "a/.b", "A", "a b", "a/\0"] {
            assert_eq!(Key::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Key::parse("a/b.json").unwrap().as_str(), "a/b.json");
        assert!(Key::parse(&"a".repeat(MAX_PART + 1)).is_none());
        assert!(Key::parse(&["a"; MAX_PARTS + 1].join("/")).is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_certificate_is_called_its_key_is_one(name in "[a-z0-9][a-z0-9._-]{0,63}") {
            let name: CertificateName = name.parse().unwrap();
            let target: TargetName = "nginx".parse().unwrap();
            let aside = ".corrupt-20261123t100000z";
            for key in [
                Key::certificate(&name, "state.json").with_suffix(aside),
                Key::target(&target, &name).with_suffix(aside),
            ] {
                prop_assert_eq!(Key::parse(key.as_str()), Some(key));
            }
        }

        #[test]
        fn a_key_has_no_part_that_points_upwards(text in ".{0,40}") {
            if let Some(key) = Key::parse(&text) {
                prop_assert!(key.as_str().split('/').all(|it| !it.is_empty() && !it.starts_with('.')));
            }
        }
    }
}
