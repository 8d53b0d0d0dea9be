//! The record of dns-persist-01 (draft-ietf-acme-dns-persist): which one a CA wants, and what one
//! that is there is worth. It stands in DNS for good, binds a name to an account, and is set by
//! people; nothing secret is needed to renew by it.
//!
//! The drafts differ in how the record names the account: up to -01 by its URL; since -02 by a hash
//! over the name, the account key's thumbprint and that URL, which a new account key changes.
//!
//! Not here: asking for it ([`crate::solver`]), and what the CA says of it ([`crate::acme`]).

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{StandingTerms, Timestamp};

/// What a CA wants to find for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRecord {
    /// What the CA calls itself; any of them will do, the first is written.
    issuers: Vec<String>,
    /// The account, in each way that the CA takes; the first is written.
    account_uris: Vec<String>,
    /// Below which URL the account is named by a hash, if it is.
    hash_prefix: Option<String>,
    /// Whether it is for all names below too.
    wildcard: bool,
}

/// What the records that are there are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "until")]
pub enum StandingState {
    /// None of them is for this CA.
    Missing,
    /// One is for this CA, and can't be read.
    Unreadable,
    /// One is for this CA and names another account, or this one with an earlier key.
    OtherAccount,
    /// One is for this account, but not for wildcards.
    NotForWildcards,
    /// One was right until then.
    Ended(Timestamp),
    /// One is right, until then if that is told.
    Fits(Option<Timestamp>),
}

impl StandingState {
    /// The more it is worth, the more this is: what has no end is worth most.
    fn rank(self) -> (u8, u64) {
        match self {
            Self::Missing => (0, 0),
            Self::Unreadable => (1, 0),
            Self::OtherAccount => (2, 0),
            Self::NotForWildcards => (3, 0),
            Self::Ended(at) => (4, at.unix_seconds()),
            Self::Fits(until) => (5, until.map_or(u64::MAX, Timestamp::unix_seconds)),
        }
    }
}

impl fmt::Display for StandingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no record is for this CA"),
            Self::Unreadable => f.write_str("the record for this CA can't be read"),
            Self::OtherAccount => {
                f.write_str("the record for this CA names another account, or an earlier key")
            }
            Self::NotForWildcards => f.write_str("the record is not for wildcards"),
            Self::Ended(at) => write!(f, "the record was for the time until {at}"),
            Self::Fits(None) => f.write_str("the record is there"),
            Self::Fits(Some(until)) => write!(f, "the record is there, until {until}"),
        }
    }
}

impl StandingRecord {
    /// As drafts up to -01 have it: the account is named by its URL.
    #[must_use]
    pub fn plain(issuers: Vec<String>, account_url: &str, wildcard: bool) -> Self {
        Self { issuers, account_uris: vec![account_url.to_owned()], hash_prefix: None, wildcard }
    }

    /// As drafts since -02 have it: the account is named by a hash below `prefix`, which is over
    /// `name` (without `*.`), or over `*` where the operator does not mind that names are seen to
    /// have the same account.
    #[must_use]
    pub fn hashed(
        issuers: Vec<String>,
        prefix: &str,
        name: &str,
        thumbprint: &str,
        account_url: &str,
        wildcard: bool,
    ) -> Self {
        let uri = |name: &str| {
            // A DNS name has at most 253 bytes, so its length is one byte.
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            let parts = [&[length], name.as_bytes(), thumbprint.as_bytes(), account_url.as_bytes()];
            let hash = digest::digest(&digest::SHA256, &parts.concat());
            format!("{prefix}sha-256/{}", BASE64_URL_SAFE_NO_PAD.encode(hash))
        };
        let hash_prefix = Some(prefix.to_owned());
        Self { issuers, account_uris: vec![uri(name), uri("*")], hash_prefix, wildcard }
    }

    /// What is known of it whatever the account.
    #[must_use]
    pub fn terms(&self) -> StandingTerms {
        StandingTerms { issuers: self.issuers.clone(), hash_prefix: self.hash_prefix.clone() }
    }

    /// The text of the TXT record to be set.
    #[must_use]
    pub fn value(&self) -> String {
        let first = |list: &[String]| list.first().cloned().unwrap_or_default();
        let policy = if self.wildcard { "; policy=wildcard" } else { "" };
        format!("{}; accounturi={}{policy}", first(&self.issuers), first(&self.account_uris))
    }

    /// What the best of `values`, all TXT records at the name, is worth at `now`.
    #[must_use]
    pub fn judge<'a>(
        &self,
        values: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> StandingState {
        let judged = values.into_iter().map(|value| self.judge_one(value, now));
        judged.max_by_key(|it| it.rank()).unwrap_or(StandingState::Missing)
    }

    fn judge_one(&self, value: &str, now: Timestamp) -> StandingState {
        let mut parts = value.split(';').map(str::trim);
        let issuer = parts.next().unwrap_or_default();
        let issuer = issuer.strip_suffix('.').unwrap_or(issuer);
        if !self.issuers.iter().any(|it| it.eq_ignore_ascii_case(issuer)) {
            return StandingState::Missing;
        }
        let Some(found) = Parameters::read(parts) else { return StandingState::Unreadable };
        if !found.account_uri.is_some_and(|uri| self.account_uris.iter().any(|it| it == uri)) {
            return StandingState::OtherAccount;
        }
        let is_for_wildcards = found.policy.is_some_and(|it| it.eq_ignore_ascii_case("wildcard"));
        if self.wildcard && !is_for_wildcards {
            return StandingState::NotForWildcards;
        }
        match found.until {
            Some(until) if until <= now => StandingState::Ended(until),
            until => StandingState::Fits(until),
        }
    }
}

/// What stands behind the issuer, as in CAA records (RFC 8659 §4.2).
#[derive(Default)]
struct Parameters<'a> {
    account_uri: Option<&'a str>,
    policy: Option<&'a str>,
    until: Option<Timestamp>,
}

impl<'a> Parameters<'a> {
    /// `None` where a CA would refuse them: no `=`, the same twice, a time that is none.
    fn read(parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut read = Self::default();
        for part in parts.filter(|it| !it.is_empty()) {
            let (key, value) = part.split_once('=')?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            let again = match key.as_str() {
                "accounturi" => read.account_uri.replace(value).is_some(),
                "policy" => read.policy.replace(value).is_some(),
                "persistuntil" => {
                    let seconds = value.parse().ok()?;
                    read.until.replace(Timestamp::from_unix_seconds(seconds)).is_some()
                }
                // To be passed over, as the drafts say.
                _ => false,
            };
            if again {
                return None;
            }
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "https://ca.example/acct/123";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn plain(wildcard: bool) -> StandingRecord {
        let issuers = ["authority.example", "other.example"].map(String::from);
        StandingRecord::plain(issuers.into(), ACCOUNT, wildcard)
    }

    fn hashed() -> StandingRecord {
        let issuers = vec!["authority.example".to_owned()];
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let prefix = "https://ca.example/account-hash/";
        StandingRecord::hashed(issuers, prefix, "example.com", thumbprint, ACCOUNT, false)
    }

    #[test]
    fn the_record_of_the_first_drafts_names_the_account_by_its_url() {
        let value = "authority.example; accounturi=https://ca.example/acct/123";
        assert_eq!(plain(false).value(), value);
        assert_eq!(plain(true).value(), format!("{value}; policy=wildcard"));
    }

    #[test]
    fn the_record_of_draft_02_names_it_by_the_hash_of_section_10_2() {
        let hash = "https://ca.example/account-hash/sha-256/\
                    5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw";
        assert_eq!(hashed().value(), format!("authority.example; accounturi={hash}"));
        let shared = "authority.example; accounturi=https://ca.example/account-hash/sha-256/\
                      NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug";
        assert_eq!(hashed().judge([shared], at(0)), StandingState::Fits(None));
        let plain = plain(false).value();
        assert_eq!(hashed().judge([plain.as_str()], at(0)), StandingState::OtherAccount);
    }

    #[test]
    fn each_way_to_be_wrong_is_told_apart() {
        use StandingState as S;
        let account = format!("accounturi={ACCOUNT}");
        let check = |value: &str, wildcard, expected| {
            assert_eq!(plain(wildcard).judge([value], at(100)), expected, "{value}");
        };
        check("authority.example", false, S::OtherAccount);
        check("v=spf1 -all", false, S::Missing);
        check(&format!("third.example; {account}"), false, S::Missing);
        check(&format!("OTHER.example.;{account}"), false, S::Fits(None));
        check("authority.example; accounturi=https://ca.example/acct/4", false, S::OtherAccount);
        check(&format!("authority.example; {account}; {account}"), false, S::Unreadable);
        check(&format!("authority.example; {account}; persistUntil=soon"), false, S::Unreadable);
        check(&format!("authority.example; {account}"), true, S::NotForWildcards);
        check(&format!("authority.example; {account}; policy=Wildcard"), true, S::Fits(None));
        let until = |it| format!("authority.example; {account}; PERSISTUNTIL={it}; new=1");
        check(&until(100), false, S::Ended(at(100)));
        check(&until(101), false, S::Fits(Some(at(101))));
    }

    #[test]
    fn the_best_of_several_records_counts() {
        let right = plain(false).value();
        let values = ["authority.example", right.as_str(), "v=spf1 -all"];
        assert_eq!(plain(false).judge(values, at(0)), StandingState::Fits(None));
        let ending = format!("{right}; persistUntil=10");
        let values = [right.as_str(), ending.as_str()];
        assert_eq!(plain(false).judge(values, at(0)), StandingState::Fits(None));
        assert_eq!(plain(false).judge([], at(0)), StandingState::Missing);
    }
}
