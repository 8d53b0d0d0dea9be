//! Authorizations and challenges (RFC 8555 §7.1.4, §8) as those see them who prove control.
//!
//! Not here: asking the CA for them ([`super::order`]).

use super::object::{AuthorizationObject, AuthorizationStatus, ChallengeObject, ChallengeStatus};
use super::problem::Problem;
use super::renewal_info::is_printable;
use crate::model::{ChallengeType, Identifier, KeyAuthorization, StandingRecord, Token, escaped};

/// The CA's word on one identifier (RFC 8555 §7.1.4).
#[derive(Clone, Debug)]
pub struct Authorization {
    /// What is to be proven; for a wildcard the name without its `*.`.
    pub identifier: Identifier,
    /// Whether it is for all names one label below.
    pub wildcard: bool,
    /// Whether it has been proven.
    pub status: AuthorizationStatus,
    /// The ways to prove it, of the types that we know.
    pub challenges: Vec<Challenge>,
    /// All types of challenge that the CA offers, also those that we do not know.
    pub offered: Vec<String>,
}

impl Authorization {
    /// The identifier as the order has it: a wildcard with its `*.`.
    #[must_use]
    pub fn ordered_identifier(&self) -> Identifier {
        match &self.identifier {
            Identifier::Dns(name) if self.wildcard => Identifier::Dns(format!("*.{name}")),
            other => other.clone(),
        }
    }
}

/// One way to prove control (RFC 8555 §8).
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Which way.
    pub challenge_type: ChallengeType,
    /// Names what is to be shown. The type's own name for dns-persist-01, which has none.
    pub token: Token,
    /// What is to be shown (RFC 8555 §8.1).
    pub key_authorization: KeyAuthorization,
    /// Where the CA is told to look.
    pub url: String,
    /// How far it has got.
    pub status: ChallengeStatus,
    /// What is to be proven; for a wildcard the name without its `*.`.
    pub identifier: Identifier,
    /// The URL of the account that is to prove it.
    pub account_url: String,
    /// With dns-persist-01: the record that the CA wants to find.
    pub standing: Option<StandingRecord>,
}

/// The account as challenges write of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prover<'a> {
    pub(super) account_url: &'a str,
    pub(super) thumbprint: &'a str,
    /// What the directory says for dns-persist-01, since its draft -02.
    pub(super) account_hash_prefix: Option<&'a str>,
}

/// One identifier that could not be validated.
pub(super) struct ValidationFailure {
    /// As the order has it.
    pub(super) identifier: Identifier,
    pub(super) challenge: String,
    pub(super) problem: Problem,
}

/// Reads `object` for an order of `ordered` by `prover`.
///
/// # Errors
///
/// Says what is wrong: nothing is shown for an identifier that was not ordered, nor under a token
/// that could be a path.
pub(super) fn read(
    object: &AuthorizationObject,
    ordered: &[Identifier],
    prover: Prover<'_>,
) -> Result<Authorization, &'static str> {
    let (identifier, wildcard) = subject(object).ok_or("is for no identifier that we know")?;
    let mut authorization = Authorization {
        identifier,
        wildcard,
        status: object.status.clone(),
        challenges: Vec::new(),
        offered: object.challenges.iter().map(|it| escaped(it.kind())).collect(),
    };
    if !ordered.contains(&authorization.ordered_identifier()) {
        return Err("is for an identifier that was not ordered");
    }
    for challenge in &object.challenges {
        let Some(challenge_type) = known_type(challenge) else { continue };
        let again = authorization.challenges.iter().any(|it| it.challenge_type == challenge_type);
        if again || challenge.url().is_empty() {
            continue;
        }
        let mut standing = None;
        let mut token = challenge.token();
        if challenge_type == ChallengeType::DnsPersist01 {
            token = challenge_type.as_str();
            standing = standing_record(challenge, &authorization, prover);
            // Of a later draft, or out of order: no way for us, and none to stop for.
            if standing.is_none() {
                continue;
            }
        }
        let token: Token = token.parse().map_err(|_not_one| "holds a token that can't be one")?;
        authorization.challenges.push(Challenge {
            challenge_type,
            key_authorization: KeyAuthorization::new(format!("{token}.{}", prover.thumbprint)),
            token,
            url: challenge.url().to_owned(),
            status: challenge.status(),
            identifier: authorization.identifier.clone(),
            account_url: prover.account_url.to_owned(),
            standing,
        });
    }
    Ok(authorization)
}

/// The record that a challenge of dns-persist-01 wants to find, in the form of the draft that its
/// field for the issuers tells.
fn standing_record(
    challenge: &ChallengeObject,
    authorization: &Authorization,
    prover: Prover<'_>,
) -> Option<StandingRecord> {
    let Identifier::Dns(name) = &authorization.identifier else { return None };
    let (url, wildcard) = (prover.account_url, authorization.wildcard);
    // People copy it into their zones: a CA must not write there what it likes.
    if ![url, prover.account_hash_prefix.unwrap_or_default()].into_iter().all(is_parameter) {
        return None;
    }
    if let Some(issuers) = challenge.issuer_domain_names() {
        let prefix = prover.account_hash_prefix?;
        let thumbprint = prover.thumbprint;
        return Some(StandingRecord::hashed(issuers, prefix, name, thumbprint, url, wildcard));
    }
    Some(StandingRecord::plain(challenge.issuer_domain_names_of_old()?, url, wildcard))
}

/// Whether `url` can be the value of a parameter in a record of dns-persist-01, which are those of
/// CAA records (RFC 8659 §4.2), and is safe between the quotes of a zone file.
fn is_parameter(url: &str) -> bool {
    is_printable(url) && !url.contains(';')
}

/// What could not be validated, in the order of the identifiers.
pub(super) fn failures<'a>(
    authorizations: impl Iterator<Item = &'a AuthorizationObject>,
) -> Vec<ValidationFailure> {
    let mut failures: Vec<_> = authorizations
        .filter(|it| it.status == AuthorizationStatus::Invalid)
        .filter_map(|object| {
            let (identifier, wildcard) = subject(object)?;
            let identifier = match identifier {
                Identifier::Dns(name) if wildcard => Identifier::Dns(format!("*.{name}")),
                other => other,
            };
            let failed = |it: &&ChallengeObject| it.problem().is_some();
            let challenge = object.challenges.iter().find(failed)?;
            let problem = challenge.problem()?;
            Some(ValidationFailure { identifier, challenge: escaped(challenge.kind()), problem })
        })
        .collect();
    failures.sort_by(|one, other| one.identifier.cmp(&other.identifier));
    failures
}

/// instant-acme's word for a type of challenge.
pub(super) fn in_their_words(challenge_type: ChallengeType) -> instant_acme::ChallengeType {
    match challenge_type {
        ChallengeType::Http01 => instant_acme::ChallengeType::Http01,
        ChallengeType::Dns01 => instant_acme::ChallengeType::Dns01,
        ChallengeType::TlsAlpn01 => instant_acme::ChallengeType::TlsAlpn01,
        ChallengeType::DnsAccount01 | ChallengeType::DnsPersist01 => {
            instant_acme::ChallengeType::Unknown(challenge_type.as_str().to_owned())
        }
    }
}

/// The identifier without `*.`, and whether it is a wildcard.
fn subject(object: &AuthorizationObject) -> Option<(Identifier, bool)> {
    let identifier = object.identifier.identifier()?;
    Some(match &identifier {
        // Against RFC 8555 §7.1.4, but clear.
        Identifier::Dns(name) if name.starts_with("*.") => {
            (Identifier::Dns(name.chars().skip(2).collect()), true)
        }
        _ => (identifier, object.wildcard),
    })
}

fn known_type(challenge: &ChallengeObject) -> Option<ChallengeType> {
    ChallengeType::ALL.into_iter().find(|it| it.as_str() == challenge.kind())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(identifier: &str, wildcard: bool, challenges: &Value) -> AuthorizationObject {
        serde_json::from_value(json!({
            "status": "pending", "identifier": { "type": "dns", "value": identifier },
            "wildcard": wildcard, "challenges": challenges
        }))
        .unwrap()
    }

    const PROVER: Prover<'_> =
        Prover { account_url: "https://ca/acct/1", thumbprint: "print", account_hash_prefix: None };

    fn ordered() -> Vec<Identifier> {
        ["example.com", "*.example.com"].map(|it| it.parse().unwrap()).to_vec()
    }

    fn http01(token: &str) -> Value {
        json!([{ "type": "http-01", "url": "https://ca/c/1", "token": token, "status": "pending" }])
    }

    #[test]
    fn a_wildcard_is_proven_without_its_star() {
        for (value, wildcard) in [("example.com", true), ("*.example.com", false)] {
            let read = read(&object(value, wildcard, &http01("abc")), &ordered(), PROVER).unwrap();
            assert_eq!(read.identifier.to_string(), "example.com");
            assert_eq!(read.ordered_identifier().to_string(), "*.example.com");
            assert_eq!(read.challenges[0].key_authorization.as_str(), "abc.print");
        }
    }

    #[test]
    fn nothing_is_shown_for_what_was_not_ordered_or_under_a_path() {
        let strange = object("example.org", false, &http01("abc"));
        assert!(read(&strange, &ordered(), PROVER).is_err());
        for token in ["", "../../etc/cron.d/x", "a;$(id)", &"a".repeat(10_000)] {
            let hostile = object("example.com", false, &http01(token));
            assert!(read(&hostile, &ordered(), PROVER).is_err(), "{token}");
        }
    }

    #[test]
    fn types_that_we_do_not_know_are_offered_and_passed_over() {
        let challenges = json!([
            { "type": "dns-persist-01", "url": "https://ca/c/1" },
            { "type": "dns-persist-01", "url": "https://ca/c/2", "issuer-domain-names": [] },
            { "type": "x\x1b", "token": 5 }
        ]);
        let read = read(&object("example.com", false, &challenges), &ordered(), PROVER).unwrap();
        assert!(read.challenges.is_empty());
        assert_eq!(read.offered, ["dns-persist-01", "dns-persist-01", "x\\u{1b}"]);
    }
    #[test]
    fn each_draft_of_dns_persist_01_is_read_without_a_token() {
        let challenge = |key: &str| json!([{ "type": "dns-persist-01", "url": "https://ca/c/1", key: ["ca.example"] }]);
        let prefix = Some("https://ca/hash/");
        let hashing = Prover { account_hash_prefix: prefix, ..PROVER };
        let value = |key: &str, prover| {
            let read = read(&object("example.com", true, &challenge(key)), &ordered(), prover);
            let challenges = read.unwrap().challenges;
            challenges.first().map(|it| it.standing.as_ref().unwrap().value())
        };
        assert_eq!(
            value("issuer-domain-names", hashing).unwrap(),
            "ca.example; accounturi=https://ca/acct/1; policy=wildcard"
        );
        let hashed = value("issuerDomainNames", hashing).unwrap();
        assert!(hashed.starts_with("ca.example; accounturi=https://ca/hash/sha-256/"), "{hashed}");
        assert_eq!(value("issuerDomainNames", PROVER), None, "nothing to hash below");
    }

    #[test]
    fn a_ca_writes_nothing_into_a_zone_but_where_it_knows_accounts() {
        for wrong in ["\x1b[31m", "\"", "\n", ";", " ", "\\", "é"] {
            let url = format!("https://ca/hash/{wrong}");
            for (key, prover) in [
                ("issuerDomainNames", Prover { account_hash_prefix: Some(&url), ..PROVER }),
                ("issuer-domain-names", Prover { account_url: &url, ..PROVER }),
            ] {
                let challenges = json!([{ "type": "dns-persist-01", "url": "https://ca/c/1", key: ["ca.example"] }]);
                let read = read(&object("example.com", true, &challenges), &ordered(), prover);
                assert!(read.unwrap().challenges.is_empty(), "{url:?}");
            }
        }
    }
}
