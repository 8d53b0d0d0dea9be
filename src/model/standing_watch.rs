//! What is remembered of the standing records (dns-persist-01) of one certificate, so that they can
//! be looked at between renewals: which ones the CA wants, as its challenges said, and what was
//! there when they were last looked at.
//!
//! Unknown fields are passed over and missing ones have defaults.
//!
//! Not here: when they are looked at, and what a finding means ([`crate::plan::standing`]).

use serde::{Deserialize, Serialize};

use super::{CaName, CertificateName, Identifier, StandingRecord, StandingState, Timestamp};

/// What a challenge says of the record that its CA wants, beside the account: enough to know the
/// record later, with whatever key the account has then, and without another order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingTerms {
    /// What the CA calls itself; any of them will do.
    pub issuers: Vec<String>,
    /// Below which URL the CA names accounts by a hash (drafts since -02); `None` where it names
    /// them by their URL.
    #[serde(default)]
    pub hash_prefix: Option<String>,
}

/// The account, as records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingAccount {
    /// Its URL.
    pub url: String,
    /// The thumbprint of its key (RFC 7638).
    pub thumbprint: String,
}

impl StandingTerms {
    /// The record for `identifier`, as it was ordered, by `account`; `None` for an address.
    #[must_use]
    pub fn record(
        &self,
        identifier: &Identifier,
        account: &StandingAccount,
    ) -> Option<StandingRecord> {
        let Identifier::Dns(ordered) = identifier else { return None };
        let base = ordered.strip_prefix("*.");
        let (name, wildcard) = (base.unwrap_or(ordered), base.is_some());
        let StandingAccount { url, thumbprint } = account;
        let issuers = self.issuers.clone();
        Some(match &self.hash_prefix {
            Some(prefix) => {
                StandingRecord::hashed(issuers, prefix, name, thumbprint, url, wildcard)
            }
            None => StandingRecord::plain(issuers, url, wildcard),
        })
    }
}

/// What there is at the name of one standing record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingFinding {
    /// The least that any server which answers has.
    pub state: StandingState,
    /// The servers that have it.
    pub servers: String,
}

/// `private/certificates/<name>/standing.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingWatch {
    /// The CA that wants them.
    pub ca: CaName,
    /// Its directory URL: another CA may want others.
    pub directory: String,
    /// When they were last looked at; `None` if they are to be looked at now.
    #[serde(default)]
    pub looked_at: Option<Timestamp>,
    /// One for each identifier that is proven so.
    #[serde(default)]
    pub records: Vec<WatchedRecord>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedRecord {
    /// What it is for, as ordered: a wildcard with its `*.`.
    pub identifier: Identifier,
    /// Its name in DNS.
    pub name: String,
    /// What the CA said of it.
    pub terms: StandingTerms,
    /// The text that was wanted when that was last known: another account key may change it.
    pub value: String,
    /// What was there when it was last looked at; `None` if nobody knows yet.
    #[serde(default)]
    pub found: Option<FoundRecord>,
}

/// What was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRecord {
    /// What it was worth.
    pub state: StandingState,
    /// Since when it has been seen to be so.
    pub since: Timestamp,
}

/// A record that is to be set anew, since the account has another key or is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRecord {
    /// For which certificate.
    pub certificate: CertificateName,
    /// Its name in DNS.
    pub name: String,
    /// What it has to be now.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(thumbprint: &str) -> StandingAccount {
        StandingAccount { url: "https://ca.example/acct/123".into(), thumbprint: thumbprint.into() }
    }

    fn value(terms: &StandingTerms, identifier: &str, thumbprint: &str) -> Option<String> {
        let record = terms.record(&identifier.parse().unwrap(), &account(thumbprint));
        record.map(|it| it.value())
    }

    #[test]
    fn the_record_is_known_again_from_what_the_challenge_said() {
        let issuers = vec!["authority.example".to_owned()];
        let url = "authority.example; accounturi=https://ca.example/acct/123";
        let plain = StandingTerms { issuers: issuers.clone(), hash_prefix: None };
        assert_eq!(value(&plain, "example.com", "a").as_deref(), Some(url));
        let wildcard = format!("{url}; policy=wildcard");
        assert_eq!(value(&plain, "*.example.com", "a"), Some(wildcard));
        assert_eq!(value(&plain, "192.0.2.1", "a"), None);

        let hash_prefix = Some("https://ca.example/account-hash/".to_owned());
        let hashed = StandingTerms { issuers, hash_prefix };
        // The example of draft -02, section 10.2.
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let known = value(&hashed, "example.com", thumbprint).unwrap();
        assert!(known.ends_with("/5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"), "{known}");
        let of_wildcard = value(&hashed, "*.example.com", thumbprint).unwrap();
        assert_eq!(of_wildcard, format!("{known}; policy=wildcard"));
    }

    #[test]
    fn another_account_key_changes_the_record_of_later_drafts_alone() {
        let issuers = vec!["authority.example".to_owned()];
        let plain = StandingTerms { issuers, hash_prefix: None };
        assert_eq!(value(&plain, "example.com", "a"), value(&plain, "example.com", "b"));
        let hashed = StandingTerms { hash_prefix: Some("https://ca.example/".into()), ..plain };
        assert_ne!(value(&hashed, "example.com", "a"), value(&hashed, "example.com", "b"));
    }

    #[test]
    fn what_was_found_is_read_again_and_what_is_missing_or_new_is_passed_over() {
        let at = Timestamp::from_unix_seconds;
        let states = [
            StandingState::Missing,
            StandingState::OtherAccount,
            StandingState::Ended(at(5)),
            StandingState::Fits(None),
            StandingState::Fits(Some(at(9))),
        ];
        for state in states {
            let found = FoundRecord { state, since: at(7) };
            let text = serde_json::to_string(&found).unwrap();
            assert_eq!(serde_json::from_str::<FoundRecord>(&text).unwrap(), found, "{text}");
        }
        let text = r#"{"ca":"lab","directory":"https://ca.example/dir","new":1,"records":[
            {"identifier":"example.com","name":"_validation-persist.example.com",
             "terms":{"issuers":["authority.example"]},"value":"authority.example"}]}"#;
        let watch: StandingWatch = serde_json::from_str(text).unwrap();
        assert_eq!((watch.looked_at, watch.records[0].found), (None, None));
    }
}
