//! The CA's advice when to renew (RFC 9773), and what we made of it.
//!
//! Not here: choosing a moment ([`crate::plan`]); asking the CA ([`crate::acme`]).

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Leaf, Timestamp};

/// How a certificate is called towards its CA (RFC 9773 §4.1): its authority key identifier and
/// serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateId(String);

impl CertificateId {
    /// Of `leaf`; `None` if it has no authority key identifier, for which there is no advice.
    #[must_use]
    pub fn of(leaf: &Leaf) -> Option<Self> {
        let authority = leaf.authority_key_identifier.as_ref().filter(|it| !it.is_empty())?;
        let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Some(Self(format!("{}.{}", encoded(authority), encoded(&leaf.serial))))
    }

    /// As it stands in a URL and in `replaces`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The time in which the CA wants a certificate renewed (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedWindow {
    /// Not earlier.
    pub start: Timestamp,
    /// Not later.
    pub end: Timestamp,
}

impl SuggestedWindow {
    /// From `start` to `end`; `None` unless it ends after it begins (RFC 9773 §4.2: such an answer
    /// counts for nothing).
    #[must_use]
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (end > start).then_some(Self { start, end })
    }

    /// Whether `moment` is in it.
    #[must_use]
    pub fn contains(self, moment: Timestamp) -> bool {
        self.start <= moment && moment < self.end
    }
}

/// What a CA answered when it was asked about one certificate (RFC 9773 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// When to renew; `None` if the CA has no advice for this certificate, or for any.
    pub suggested_window: Option<SuggestedWindow>,
    /// Where a human can read why; https, printable, at most 2 KiB.
    pub explanation_url: Option<String>,
    /// When the CA wants to be asked again (RFC 9773 §4.3), if it says so.
    pub poll_after: Option<Duration>,
}

/// What is remembered of a CA's advice for one certificate (in `state.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// The certificate that it is for: what was said of an older one counts for nothing.
    pub certificate_id: CertificateId,
    /// The window that was last suggested.
    #[serde(default)]
    pub window: Option<SuggestedWindow>,
    /// The moment that was chosen in it, once: it does not wander with restarts.
    #[serde(default)]
    pub selected_renewal: Option<Timestamp>,
    /// Where the CA says why.
    #[serde(default)]
    pub explanation_url: Option<String>,
    /// When the CA is asked next.
    pub next_poll_at: Timestamp,
    /// Answers in a row that did not come, or that could not be used.
    #[serde(default)]
    pub failures: u32,
    /// When the window changed, as far as it still matters.
    #[serde(default)]
    pub changed_at: Vec<Timestamp>,
}

impl Suggestion {
    /// Nothing known of `certificate_id` yet; the CA is to be asked at once.
    #[must_use]
    pub const fn unknown(certificate_id: CertificateId) -> Self {
        Self {
            certificate_id,
            window: None,
            selected_renewal: None,
            explanation_url: None,
            next_poll_at: Timestamp::EPOCH,
            failures: 0,
            changed_at: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Fingerprint, Validity};

    fn leaf(authority_key_identifier: Option<Vec<u8>>, serial: &[u8]) -> Leaf {
        Leaf {
            sha256: Fingerprint::of(b""),
            serial: serial.to_vec(),
            identifiers: BTreeSet::new(),
            validity: Validity { not_before: Timestamp::EPOCH, not_after: Timestamp::MAX },
            issuer: String::new(),
            issuer_der: Vec::new(),
            subject_der: Vec::new(),
            public_key: Vec::new(),
            key_type: None,
            authority_key_identifier,
            is_ca: false,
        }
    }

    #[test]
    fn the_example_of_rfc_9773_section_4_1_is_named_as_there() {
        let authority = vec![
            0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0,
            0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
        ];
        let serial = [0x00, 0x87, 0x65, 0x43, 0x21];
        let id = CertificateId::of(&leaf(Some(authority), &serial)).unwrap();
        assert_eq!(id.as_str(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    }

    #[test]
    fn without_an_authority_key_identifier_there_is_no_name() {
        assert_eq!(CertificateId::of(&leaf(None, &[1])), None);
        assert_eq!(CertificateId::of(&leaf(Some(Vec::new()), &[1])), None);
    }

    #[test]
    fn a_window_ends_after_it_begins() {
        let at = Timestamp::from_unix_seconds;
        assert!(SuggestedWindow::new(at(5), at(6)).is_some());
        assert!(SuggestedWindow::new(at(5), at(5)).is_none());
        assert!(SuggestedWindow::new(at(6), at(5)).is_none());
    }

    proptest! {
        #[test]
        fn a_name_leads_back_to_its_certificate_and_no_other(
            authority in vec(any::<u8>(), 1..40), serial in vec(any::<u8>(), 0..40),
        ) {
            let id = CertificateId::of(&leaf(Some(authority.clone()), &serial)).unwrap();
            let (first, second) = id.as_str().split_once('.').unwrap();
            prop_assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(first).unwrap(), authority);
            prop_assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(second).unwrap(), serial);
            let fits = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
            prop_assert!(id.as_str().chars().all(fits), "{}", id);
        }
    }
}
