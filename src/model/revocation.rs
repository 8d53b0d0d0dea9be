//! Revocation: what is asked for, what is known, in words and on disk.
//!
//! Not here: asking the CA ([`crate::acme`]), reading its lists ([`super::look_up`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Attempts, Failure, Fingerprint, RevocationListError, Timestamp};

/// Why a certificate is revoked, as far as its subscriber may say (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationReason {
    /// None is given.
    #[default]
    Unspecified,
    /// Somebody else has the key, or may have it.
    KeyCompromise,
    /// The names belong to somebody else by now.
    AffiliationChanged,
    /// Another certificate stands in its place.
    Superseded,
    /// What it was for is over.
    CessationOfOperation,
}

impl RevocationReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    /// The number that stands for it in lists and requests (RFC 5280 §5.3.1).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
        }
    }

    /// The RFC's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is no reason to revoke.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a reason: unspecified, keyCompromise, affiliationChanged, superseded or \
     cessationOfOperation"
)]
pub struct RevocationReasonError;

impl FromStr for RevocationReason {
    type Err = RevocationReasonError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(RevocationReasonError)
    }
}

/// Which key asks for a revocation (RFC 8555 §7.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKey {
    /// The account's.
    #[default]
    Account,
    /// The certificate's own, for which no account is needed.
    Certificate,
}

/// What a human wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// Why.
    #[serde(default)]
    pub reason: RevocationReason,
    /// Which key asks.
    #[serde(default)]
    pub key: RevocationKey,
    /// Whether another certificate is ordered in its place; if not said, exactly where the key is
    /// in other hands.
    #[serde(default)]
    pub reissue: Option<bool>,
}

impl RevocationRequest {
    /// Whether another certificate is ordered in its place, out of turn.
    #[must_use]
    pub fn reissues(&self) -> bool {
        self.reissue.unwrap_or(self.reason == RevocationReason::KeyCompromise)
    }

    /// Whether the old certificate is revoked before there is another. A key in other hands is not
    /// waited for: whoever has it may use it meanwhile.
    #[must_use]
    pub fn revokes_first(&self) -> bool {
        !self.reissues() || self.reason == RevocationReason::KeyCompromise
    }
}

/// A revocation that was asked for and not done yet (`revocation.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRevocation {
    /// Which certificate.
    pub certificate: Fingerprint,
    /// What is wanted.
    pub request: RevocationRequest,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How asking the CA went.
    #[serde(default)]
    pub attempts: Attempts,
    /// Why the CA is not asked any more: it said no. What else was wanted is done all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Failure>,
}

/// Who had a certificate revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedBy {
    /// Somebody on this machine.
    Us,
    /// The CA, or somebody who asked it: seen on its list.
    Others,
}

/// What is known of a certificate that is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Which certificate.
    pub certificate: Fingerprint,
    /// Since when we know it.
    pub since: Timestamp,
    /// Why, in the RFC's word.
    #[serde(default)]
    pub reason: Option<String>,
    /// On whose wish.
    pub by: RevokedBy,
    /// Whether another is ordered in its place, out of turn.
    #[serde(default)]
    pub reissue: bool,
}

/// The last look at the lists of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationCheck {
    /// Which certificate.
    pub certificate: Fingerprint,
    /// When.
    pub checked_at: Timestamp,
}

/// A CA's list as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptList {
    /// Where it came from.
    pub url: String,
    /// When the server was last asked for it.
    pub fetched_at: Timestamp,
    /// What the server calls this state of it (RFC 9110 §8.8.3).
    #[serde(default)]
    pub etag: Option<String>,
    /// The SHA-256 of the list, so that one that was damaged is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Fingerprint>,
    /// When it changed last, as the server says (RFC 9110 §8.8.2).
    #[serde(default)]
    pub last_modified: Option<String>,
}

/// It is not known whether a certificate is revoked.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The list can't be had.
    #[error("cannot fetch the list of revoked certificates at {url}")]
    NotFetched {
        /// Where it should be.
        url: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is there says nothing about it.
    #[error("what is at {url} can't be used")]
    Unusable {
        /// Where it is.
        url: String,
        /// Why not.
        #[source]
        source: RevocationListError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_key_is_revoked_at_once_and_all_else_once_its_successor_is_served() {
        let request = |reason, reissue| RevocationRequest { reason, reissue, ..Default::default() };
        let order = |it: RevocationRequest| (it.reissues(), it.revokes_first());
        assert_eq!(order(request(RevocationReason::KeyCompromise, None)), (true, true));
        assert_eq!(order(request(RevocationReason::KeyCompromise, Some(false))), (false, true));
        assert_eq!(order(request(RevocationReason::Superseded, None)), (false, true));
        assert_eq!(order(request(RevocationReason::Superseded, Some(true))), (true, false));
    }

    #[test]
    fn each_reason_has_the_rfcs_word_and_number() {
        let codes = RevocationReason::ALL.map(RevocationReason::code);
        assert_eq!(codes, [0, 1, 3, 4, 5]);
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse::<RevocationReason>().unwrap(), reason);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        assert!("certificateHold".parse::<RevocationReason>().is_err());
    }
}
