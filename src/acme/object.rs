//! The CA's objects (RFC 8555 §7.1), read leniently: unknown fields, states and challenge types
//! are survived.
//!
//! instant-acme reads the same answers with closed lists of states and stops at a word that it
//! does not know. So it is [`shown`] each object in its own words, and what the CA really said is
//! read here.
//!
//! Not here: what to do in a state ([`super::order`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::problem::Problem;
use super::renewal_info::is_printable;
use crate::model::{ChallengeType, Identifier, escaped};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$state_doc:meta])* $state:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(from = "String")]
        pub enum $name {
            $($(#[$state_doc])* $state,)*
            /// A state that RFC 8555 does not know, as the CA wrote it: one to wait in.
            Unknown(String),
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$state,)*
                    _ => Self::Unknown(text),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$state => f.pad($text),)*
                    Self::Unknown(text) => f.pad(&escaped(text)),
                }
            }
        }
    };
}

status! {
    /// The state of an order (RFC 8555 §7.1.6).
    OrderStatus {
        /// Authorizations are missing.
        Pending = "pending",
        /// It waits to be finalized.
        Ready = "ready",
        /// The CA is making the certificate.
        Processing = "processing",
        /// The certificate is there.
        Valid = "valid",
        /// It came to nothing.
        Invalid = "invalid",
    }
}

status! {
    /// The state of an authorization (RFC 8555 §7.1.6).
    AuthorizationStatus {
        /// A challenge is to be answered.
        Pending = "pending",
        /// Control is proven.
        Valid = "valid",
        /// A challenge failed.
        Invalid = "invalid",
        /// We gave it up.
        Deactivated = "deactivated",
        /// Its time is over.
        Expired = "expired",
        /// The CA took it back.
        Revoked = "revoked",
    }
}

status! {
    /// The state of a challenge (RFC 8555 §7.1.6).
    ChallengeStatus {
        /// It is to be answered.
        Pending = "pending",
        /// The CA is looking.
        Processing = "processing",
        /// The CA found what it looked for.
        Valid = "valid",
        /// It did not.
        Invalid = "invalid",
    }
}

/// The CA's map of itself (RFC 8555 §7.1.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    pub(super) new_nonce: String,
    pub(super) new_account: String,
    pub(super) new_order: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_change: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoke_cert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) renewal_info: Option<String>,
    #[serde(default)]
    pub(super) meta: DirectoryMeta,
}

/// What the CA says of itself (RFC 8555 §7.1.1).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DirectoryMeta {
    /// Where they are. What can't be printed safely counts as none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "printable")]
    pub(super) terms_of_service: Option<String>,
    #[serde(default)]
    pub(super) external_account_required: bool,
    #[serde(default, skip_serializing)]
    pub(super) profiles: BTreeMap<String, Value>,
    /// The names by which it goes in CAA records.
    #[serde(default, skip_serializing)]
    pub(super) caa_identities: Vec<String>,
    /// What accounts are named below in records of dns-persist-01.
    #[serde(default, skip_serializing)]
    pub(super) account_hash_prefix: Option<String>,
}

fn printable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let url = Value::deserialize(deserializer)?;
    Ok(url.as_str().filter(|it| is_printable(it)).map(str::to_owned))
}

/// An order (RFC 8555 §7.1.3).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OrderObject {
    pub(super) status: OrderStatus,
    pub(super) identifiers: Vec<IdentifierObject>,
    /// How many there are; where they are, instant-acme knows.
    #[serde(default)]
    pub(super) authorizations: Vec<IgnoredAny>,
    #[serde(default)]
    pub(super) expires: Option<String>,
    #[serde(default)]
    error: Value,
}

impl OrderObject {
    /// Why the order came to nothing, if the CA says so.
    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::of_value(&self.error)
    }
}

/// An identifier as a CA writes it (RFC 8555 §7.1.3).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct IdentifierObject {
    #[serde(rename = "type")]
    kind: String,
    pub(super) value: String,
}

impl IdentifierObject {
    /// The identifier; `None` if it is of a type that we never ask for, or not in order.
    pub(super) fn identifier(&self) -> Option<Identifier> {
        let identifier: Identifier = self.value.parse().ok()?;
        let kind = match identifier {
            Identifier::Dns(_) => "dns",
            Identifier::Ip(_) => "ip",
        };
        (kind == self.kind).then_some(identifier)
    }
}

/// An authorization (RFC 8555 §7.1.4).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AuthorizationObject {
    pub(super) identifier: IdentifierObject,
    pub(super) status: AuthorizationStatus,
    #[serde(default)]
    pub(super) wildcard: bool,
    pub(super) challenges: Vec<ChallengeObject>,
}

/// A challenge (RFC 8555 §8). Types that nobody knows yet may have any fields.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ChallengeObject {
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    url: Value,
    #[serde(default)]
    token: Value,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    error: Value,
    /// Of dns-persist-01, since its draft -02.
    #[serde(rename = "issuerDomainNames", default)]
    issuer_domain_names: Value,
    /// Of dns-persist-01, up to its draft -01.
    #[serde(rename = "issuer-domain-names", default)]
    issuer_domain_names_of_old: Value,
}

/// How many names a CA may have in a challenge of dns-persist-01.
const MAX_ISSUERS: usize = 10;

/// The names in `value`; `None` if it is no list of 1 to 10 host names.
fn issuers(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array().filter(|it| (1..=MAX_ISSUERS).contains(&it.len()))?;
    let name = |it: &Value| match it.as_str()?.parse().ok()? {
        Identifier::Dns(name) if !name.starts_with("*.") => Some(name),
        _ => None,
    };
    names.iter().map(name).collect()
}

impl ChallengeObject {
    pub(super) fn issuer_domain_names(&self) -> Option<Vec<String>> {
        issuers(&self.issuer_domain_names)
    }

    pub(super) fn issuer_domain_names_of_old(&self) -> Option<Vec<String>> {
        issuers(&self.issuer_domain_names_of_old)
    }

    pub(super) fn kind(&self) -> &str {
        self.kind.as_str().unwrap_or_default()
    }

    pub(super) fn url(&self) -> &str {
        self.url.as_str().unwrap_or_default()
    }

    pub(super) fn token(&self) -> &str {
        self.token.as_str().unwrap_or_default()
    }

    /// Its state; pending if it has none, as RFC 8555 §8 begins.
    pub(super) fn status(&self) -> ChallengeStatus {
        self.status.as_str().unwrap_or("pending").to_owned().into()
    }

    /// What the CA found, if that was not what it looked for.
    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::of_value(&self.error)
    }
}

/// The answer `body` in the words that instant-acme knows.
///
/// Orders, authorizations and challenges lose their errors, which it would stop at, and states it
/// has no word for become ones to wait in; authorizations keep only challenges of known types.
/// `replaces` is what was asked for: instant-acme drops an order that does not repeat it. All else,
/// such as certificates, stays as it is.
pub(super) fn shown(body: &Bytes, replaces: Option<&str>) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else { return body.clone() };
    object.remove("error");
    if object.contains_key("finalize") {
        set_known(object.get_mut("status"), &ORDER_STATES, "processing");
        object.remove("replaces");
        if let Some(replaces) = replaces {
            object.insert("replaces".into(), replaces.into());
        }
    } else if let Some(challenges) = object.get_mut("challenges").and_then(Value::as_array_mut) {
        challenges.retain_mut(make_known_challenge);
        set_known(object.get_mut("status"), &AUTHORIZATION_STATES, "pending");
    } else if object.contains_key("token") {
        set_known(object.get_mut("status"), &CHALLENGE_STATES, "processing");
    }
    Value::Object(object).to_string().into()
}

fn make_known_challenge(challenge: &mut Value) -> bool {
    let Some(challenge) = challenge.as_object_mut() else { return false };
    let is_standing =
        challenge.get("type").and_then(Value::as_str) == Some(ChallengeType::DnsPersist01.as_str());
    if is_standing {
        challenge.entry("token").or_insert_with(|| "".into());
    }
    let text = |key: &str| challenge.get(key).and_then(Value::as_str);
    let is_known = text("type")
        .is_some_and(|it| ChallengeType::ALL.iter().any(|one| one.as_str() == it))
        && text("url").is_some()
        && text("token").is_some();
    challenge.remove("error");
    challenge.entry("status").or_insert_with(|| "pending".into());
    set_known(challenge.get_mut("status"), &CHALLENGE_STATES, "processing");
    is_known
}

fn set_known(status: Option<&mut Value>, known: &[&str], otherwise: &str) {
    if let Some(status) = status
        && status.as_str().is_some_and(|it| !known.contains(&it))
    {
        *status = otherwise.into();
    }
}

const ORDER_STATES: [&str; 5] = ["pending", "ready", "processing", "valid", "invalid"];
const AUTHORIZATION_STATES: [&str; 6] =
    ["pending", "valid", "invalid", "deactivated", "expired", "revoked"];
const CHALLENGE_STATES: [&str; 4] = ["pending", "processing", "valid", "invalid"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn as_shown(object: &Value) -> Bytes {
        shown(&object.to_string().into(), None)
    }

    fn order(status: &str) -> Value {
        json!({
            "status": status, "expires": "2026-12-01T00:00:00Z", "future": { "a": [1] },
            "identifiers": [{ "type": "dns", "value": "EXAMPLE.com" }],
            "authorizations": ["https://ca/authz/1"], "finalize": "https://ca/finalize/1",
            "error": { "type": "urn:ietf:params:acme:error:dns", "detail": "no answer" }
        })
    }

    #[test]
    fn an_order_in_an_unknown_state_is_one_to_wait_for() {
        let order = order("pondering");
        let read: OrderObject = serde_json::from_value(order.clone()).unwrap();
        assert_eq!(read.status, OrderStatus::Unknown("pondering".into()));
        assert_eq!(read.problem().unwrap().detail, "no answer");
        let theirs: instant_acme::OrderState = serde_json::from_slice(&as_shown(&order)).unwrap();
        assert_eq!(theirs.status, instant_acme::OrderStatus::Processing);
        assert!(theirs.error.is_none());
    }

    #[test]
    fn terms_of_service_that_could_write_to_a_terminal_are_none() {
        let terms = |terms: Value| {
            let object = json!({
                "newNonce": "https://ca/n", "newAccount": "https://ca/a", "newOrder": "https://ca/o",
                "meta": { "termsOfService": terms, "externalAccountRequired": true }
            });
            let directory: Directory = serde_json::from_value(object).unwrap();
            assert!(directory.meta.external_account_required);
            directory.meta.terms_of_service
        };
        let fine = "https://ca.example/terms?v=1.2#top";
        assert_eq!(terms(fine.into()).as_deref(), Some(fine));
        for wrong in
            ["https://ca/\x1b[2J", "https://ca/\"", "https://ca/\nrm", "https://ca/ a", "é"]
        {
            assert_eq!(terms(wrong.into()), None, "{wrong:?}");
        }
        assert_eq!(terms(json!(["https://ca/"])), None);
    }

    #[test]
    fn an_authorization_survives_challenges_of_tomorrow() {
        let authorization = json!({
            "status": "limbo", "identifier": { "type": "ip", "value": "2001:db8::1" },
            "challenges": [
                { "type": "dns-persist-01", "url": "https://ca/c/1", "issuer-domain-names": ["ca"] },
                { "type": "quantum-01", "token": 5, "status": 7 },
                { "type": "http-01", "url": "https://ca/c/2", "token": "abc", "status": "new" },
                17
            ]
        });
        let theirs: instant_acme::AuthorizationState =
            serde_json::from_slice(&as_shown(&authorization)).unwrap();
        assert_eq!(theirs.status, instant_acme::AuthorizationStatus::Pending);
        assert_eq!(theirs.challenges.len(), 2);

        let mut ours = authorization;
        ours["challenges"].as_array_mut().unwrap().pop();
        let ours: AuthorizationObject = serde_json::from_value(ours).unwrap();
        let kinds: Vec<&str> = ours.challenges.iter().map(ChallengeObject::kind).collect();
        assert_eq!(kinds, ["dns-persist-01", "quantum-01", "http-01"]);
        assert_eq!(ours.challenges[1].status(), ChallengeStatus::Pending);
        assert_eq!(ours.identifier.identifier().unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn the_order_shown_repeats_what_it_replaces() {
        let shown = shown(&order("pending").to_string().into(), Some("aYhba4.AIdlQyE"));
        let theirs: instant_acme::OrderState = serde_json::from_slice(&shown).unwrap();
        assert_eq!(theirs.replaces.unwrap().to_string(), "aYhba4.AIdlQyE");
    }

    #[test]
    fn certificates_and_garbage_are_shown_as_they_are() {
        for body in ["-----BEGIN CERTIFICATE-----", "[1]", "", "{\"a\":"] {
            assert_eq!(shown(&body.into(), None), body);
        }
    }

    #[test]
    fn an_identifier_must_be_of_the_type_it_says() {
        let read = |kind: &str, value: &str| {
            IdentifierObject { kind: kind.into(), value: value.into() }.identifier()
        };
        assert!(read("dns", "example.com").is_some() && read("ip", "192.0.2.1").is_some());
        assert!(read("dns", "192.0.2.1").is_none() && read("ip", "example.com").is_none());
        assert!(read("email", "a@example.com").is_none() && read("dns", "../x").is_none());
    }
}
