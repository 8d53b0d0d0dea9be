//! The CA's objects (RFC 8555 §7.1), and how they look in JSON.

use renewd::model::Timestamp;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::model::Model;

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its key, as JWK.
    pub key: Value,
    /// valid, deactivated or revoked.
    pub status: &'static str,
    /// Whom to tell.
    pub contact: Value,
}

/// What an order is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// dns or ip.
    pub kind: String,
    /// With its `*.`, in an order.
    pub value: String,
}

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose.
    pub account: u64,
    /// For what.
    pub identifiers: Vec<Named>,
    /// Under which profile.
    pub profile: Option<String>,
    /// Which certificate it replaces.
    pub replaces: Option<String>,
    /// Its authorizations.
    pub authorizations: Vec<u64>,
    /// Its state.
    pub status: &'static str,
    /// Until when it is to be finalized.
    pub expires: Timestamp,
    /// When it becomes valid, once finalized.
    pub valid_at: Timestamp,
    /// Its certificate.
    pub certificate: Option<u64>,
    /// Why it came to nothing.
    pub error: Option<Value>,
}

/// An authorization.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// Whose.
    pub account: u64,
    /// For what; without `*.`.
    pub identifier: Named,
    /// Whether for all names one label below.
    pub wildcard: bool,
    /// Its state.
    pub status: &'static str,
    /// Until when it holds.
    pub expires: Timestamp,
    /// The ways to prove it.
    pub challenges: Vec<Challenge>,
    /// What comes of the challenge that was answered, and when.
    pub outcome: Option<Outcome>,
}

/// What comes of a challenge.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From when on it is seen.
    pub at: Timestamp,
    /// Which challenge.
    pub challenge: usize,
    /// What is wrong, if anything.
    pub problem: Option<Value>,
}

/// A challenge.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Its type.
    pub kind: &'static str,
    /// Its token.
    pub token: String,
    /// Its state.
    pub status: &'static str,
    /// What was wrong.
    pub error: Option<Value>,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Whose.
    pub account: u64,
    /// Its leaf.
    pub der: CertificateDer<'static>,
    /// Its name by RFC 9773 §4.1.
    pub id: String,
    /// What it is for.
    pub names: Vec<String>,
    /// Its life.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// The order that replaces it.
    pub replaced_by: Option<u64>,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// Advice when to renew, as it is sent.
#[derive(Clone, Debug)]
pub struct Advice {
    /// The beginning of the window.
    pub start: String,
    /// Its end.
    pub end: String,
    /// Where it says why.
    pub explanation: Option<String>,
}

impl Advice {
    /// The window between two moments.
    #[must_use]
    pub fn between(start: Timestamp, end: Timestamp) -> Self {
        Self { start: start.to_string(), end: end.to_string(), explanation: None }
    }
}

impl Named {
    pub(super) fn json(&self) -> Value {
        json!({ "type": self.kind, "value": self.value })
    }
}

impl Model {
    pub(super) fn order_json(&self, number: u64) -> Value {
        let order = &self.orders[&number];
        let authorizations: Vec<String> = (order.authorizations.iter())
            .map(|it| self.at(&format!("/authorization/{it}")))
            .collect();
        let mut value = json!({
            "status": order.status, "expires": order.expires,
            "identifiers": order.identifiers.iter().map(Named::json).collect::<Vec<_>>(),
            "authorizations": authorizations, "finalize": self.at(&format!("/finalize/{number}")),
        });
        if let (Some(certificate), "valid") = (order.certificate, order.status) {
            value["certificate"] = json!(self.at(&format!("/certificate/{certificate}")));
        }
        for (key, text) in [("profile", &order.profile), ("replaces", &order.replaces)] {
            if let Some(text) = text {
                value[key] = json!(text);
            }
        }
        if let Some(error) = &order.error {
            value["error"] = error.clone();
        }
        value
    }

    pub(super) fn authorization_json(&self, number: u64) -> Value {
        let authorization = &self.authorizations[&number];
        let indices = 0..authorization.challenges.len();
        let mut value = json!({
            "status": authorization.status, "expires": authorization.expires,
            "identifier": authorization.identifier.json(),
            "challenges": indices.map(|it| self.challenge_json(number, it)).collect::<Vec<_>>(),
        });
        if authorization.wildcard {
            value["wildcard"] = true.into();
        }
        value
    }

    pub(super) fn challenge_json(&self, number: u64, index: usize) -> Value {
        let challenge = &self.authorizations[&number].challenges[index];
        let mut value = json!({
            "type": challenge.kind, "token": challenge.token, "status": challenge.status,
            "url": self.at(&format!("/challenge/{number}/{index}")),
        });
        if let Some(error) = &challenge.error {
            value["error"] = error.clone();
        }
        value
    }
}
