//! What is told: one message, the same for every receiver, and its body as Standard Webhooks says.
//!
//! Not here: when a message is made ([`super::reconcile()`]), and how it travels
//! ([`super::deliver`]).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{CaName, CertificateName, Health, TargetName, Timestamp};

use super::trouble::Trouble;

/// How many alerts, and how many certificates, a body lists at most, and in how many bytes: a
/// receiver may refuse what is larger than 64 KiB, and would refuse it for ever.
const MAX_LISTED: usize = 100;
const MAX_LISTED_BYTES: usize = 28 * 1024;

/// What a message is about; the `type` of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlertType {
    /// Little of the held certificate's life is left.
    #[serde(rename = "certificate.expiring")]
    CertificateExpiring,
    /// The held certificate is past its end.
    #[serde(rename = "certificate.expired")]
    CertificateExpired,
    /// A wanted certificate has never been there.
    #[serde(rename = "certificate.missing")]
    CertificateMissing,
    /// The CA revoked the held certificate.
    #[serde(rename = "certificate.revoked")]
    CertificateRevoked,
    /// A renewal fails.
    #[serde(rename = "renewal.failed")]
    RenewalFailed,
    /// A target does not come to serve what is held.
    #[serde(rename = "deploy.failed")]
    DeployFailed,
    /// A certificate was renewed: good news.
    #[serde(rename = "certificate.renewed")]
    CertificateRenewed,
    /// The configuration was refused.
    #[serde(rename = "config.rejected")]
    ConfigRejected,
    /// The agent itself is not as it should be.
    #[serde(rename = "agent.degraded")]
    AgentDegraded,
    /// The account with a CA needs a human.
    #[serde(rename = "account.action_required")]
    AccountActionRequired,
    /// A CA can't be reached or does not work.
    #[serde(rename = "ca.unavailable")]
    CaUnavailable,
    /// Something told before is over.
    #[serde(rename = "alert.resolved")]
    AlertResolved,
    /// `renewd alert test`.
    #[serde(rename = "alert.test")]
    AlertTest,
}

impl AlertType {
    /// The type's word, as in the body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateExpiring => "certificate.expiring",
            Self::CertificateExpired => "certificate.expired",
            Self::CertificateMissing => "certificate.missing",
            Self::CertificateRevoked => "certificate.revoked",
            Self::RenewalFailed => "renewal.failed",
            Self::DeployFailed => "deploy.failed",
            Self::CertificateRenewed => "certificate.renewed",
            Self::ConfigRejected => "config.rejected",
            Self::AgentDegraded => "agent.degraded",
            Self::AccountActionRequired => "account.action_required",
            Self::CaUnavailable => "ca.unavailable",
            Self::AlertResolved => "alert.resolved",
            Self::AlertTest => "alert.test",
        }
    }

    /// Whether a trouble of this kind, gone for a certificate that now has one of `other`, did not
    /// end but got worse or found its cause.
    pub(super) const fn continues_as(self, other: Self) -> bool {
        matches!(
            (self, other),
            (
                Self::CertificateExpiring,
                Self::CertificateExpired | Self::CertificateRevoked | Self::CertificateMissing
            ) | (Self::CertificateExpired, Self::CertificateRevoked | Self::CertificateMissing)
                | (Self::CertificateMissing, Self::CaUnavailable | Self::AccountActionRequired)
                | (
                    Self::RenewalFailed,
                    Self::CertificateMissing | Self::CaUnavailable | Self::AccountActionRequired
                )
        )
    }
}

impl fmt::Display for AlertType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One message. Made once and kept until delivered, so that every try sends the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same over all tries and receivers: who got it already knows it by this.
    pub id: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: AlertType,
    /// When it was made.
    pub at: Timestamp,
    /// How bad it is; [`Health::Ok`] for good news.
    pub severity: Health,
    /// Joins the messages about one trouble.
    pub dedup_key: String,
    /// In one line, for people.
    pub title: String,
    /// The machine, as it was called when the trouble began.
    pub host: String,
    /// The certificate, if it is about one.
    pub certificate: Option<CertificateName>,
    /// The target, if it is about one.
    pub target: Option<TargetName>,
    /// The CA, if it is about one.
    pub ca: Option<CaName>,
    /// All certificates that are in it.
    pub certificates: Vec<CertificateName>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// The end of the held certificate.
    pub not_after: Option<Timestamp>,
    /// When it is tried again by itself.
    pub next_attempt_at: Option<Timestamp>,
    /// A stable word for the cause.
    pub error_code: Option<String>,
    /// What a human can do.
    pub hint: Option<String>,
    /// Where the CA says why it wants the certificate replaced, if it does.
    #[serde(default)]
    pub explanation_url: Option<String>,
    /// What a human can run.
    pub command: String,
    /// What it says to be over.
    #[serde(default)]
    pub resolves: Option<Resolved>,
    /// The single alerts that a summary stands for; empty for a single message.
    #[serde(default)]
    pub alerts: Vec<Affected>,
}

/// What an `alert.resolved` says to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// What it was about.
    #[serde(rename = "type")]
    pub kind: AlertType,
    /// How bad it became: who was not told of that is not told of its end.
    pub severity: Health,
}

/// One alert within a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// What it is or was about.
    #[serde(rename = "type")]
    pub kind: AlertType,
    /// How bad it is or was.
    pub severity: Health,
    /// Joins the messages about it.
    pub dedup_key: String,
    /// In one line, for people.
    pub title: String,
    /// The certificate, if it is about one.
    pub certificate: Option<CertificateName>,
    /// The target, if it is about one.
    pub target: Option<TargetName>,
}

impl Message {
    /// The message that `trouble` is there.
    pub(super) fn of_trouble(trouble: &Trouble, now: Timestamp) -> Self {
        let trouble = trouble.clone();
        Self {
            id: String::new(),
            kind: trouble.kind,
            at: now,
            severity: trouble.severity,
            dedup_key: format!("{}/{}", trouble.host, trouble.key),
            title: trouble.title,
            host: trouble.host,
            certificate: trouble.certificate,
            target: trouble.target,
            ca: trouble.ca,
            certificates: trouble.affected,
            since: trouble.since,
            attempts: trouble.attempts,
            not_after: trouble.not_after,
            next_attempt_at: trouble.next_attempt_at,
            error_code: trouble.error_code,
            hint: trouble.hint,
            explanation_url: trouble.explanation_url,
            command: trouble.command,
            resolves: None,
            alerts: Vec::new(),
        }
        .with_id()
    }

    /// The message that what `self` told of is over.
    pub(super) fn resolved(&self, now: Timestamp) -> Self {
        Self {
            kind: AlertType::AlertResolved,
            at: now,
            severity: Health::Ok,
            title: format!("resolved: {}", self.title),
            next_attempt_at: None,
            hint: None,
            resolves: Some(Resolved { kind: self.kind, severity: self.severity }),
            ..self.clone()
        }
        .with_id()
    }

    /// A message about nothing that is wrong: good news, or a test.
    pub(super) fn plain(kind: AlertType, host: &str, title: String, now: Timestamp) -> Self {
        Self {
            id: String::new(),
            kind,
            at: now,
            severity: Health::Ok,
            dedup_key: format!("{host}/{kind}"),
            title,
            host: host.to_owned(),
            certificate: None,
            target: None,
            ca: None,
            certificates: Vec::new(),
            since: None,
            attempts: 0,
            not_after: None,
            next_attempt_at: None,
            error_code: None,
            hint: None,
            explanation_url: None,
            command: "renewd status".to_owned(),
            resolves: None,
            alerts: Vec::new(),
        }
        .with_id()
    }

    /// With the id that follows from what it says and when.
    pub(super) fn with_id(mut self) -> Self {
        let facts = (&self.dedup_key, self.kind.as_str(), self.at, severity_text(self.severity));
        let parts: String = self.alerts.iter().map(|it| it.dedup_key.as_str()).collect();
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            format!("{facts:?}{}{parts}", self.title).as_bytes(),
        );
        let hex: String = digest.as_ref().iter().take(16).map(|it| format!("{it:02x}")).collect();
        self.id = format!("msg_{hex}");
        self
    }

    /// How bad it was at its worst, which says who hears of it.
    #[must_use]
    pub fn worst(&self) -> Health {
        self.resolves.map_or(self.severity, |it| it.severity)
    }

    /// Whether it says that something is wrong now.
    pub(super) fn opens(&self) -> bool {
        !matches!(
            self.kind,
            AlertType::AlertResolved | AlertType::CertificateRenewed | AlertType::AlertTest
        )
    }

    /// The keys of the troubles that it tells of.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        let own = self.alerts.is_empty().then_some(self.dedup_key.as_str());
        own.into_iter().chain(self.alerts.iter().map(|it| it.dedup_key.as_str()))
    }

    /// The keys of all troubles that it tells of, and its own.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let own = std::iter::once(self.dedup_key.as_str());
        own.chain(self.alerts.iter().map(|it| it.dedup_key.as_str()))
    }

    /// This message as it stands in a summary.
    pub(super) fn as_affected(&self) -> Affected {
        let told = self.resolves.unwrap_or(Resolved { kind: self.kind, severity: self.severity });
        Affected {
            kind: told.kind,
            severity: told.severity,
            dedup_key: self.dedup_key.clone(),
            title: self.title.clone(),
            certificate: self.certificate.clone(),
            target: self.target.clone(),
        }
    }

    /// The body, as every receiver but Alertmanager gets it: `type`, `timestamp` and `data`. A
    /// field of `data` that does not apply is null; `resolves`, `explanation_url`, `certificates`
    /// (of more than one) and `alerts` (of a summary) are there only where they say something.
    /// Where there are too many of those, `more_certificates` and `more_alerts` count the rest.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut data = json!({
            "severity": self.severity,
            "dedup_key": self.dedup_key,
            "title": self.title,
            "host": self.host,
            "certificate": self.certificate,
            "target": self.target,
            "ca": self.ca,
            "since": self.since,
            "attempts": self.attempts,
            "not_after": self.not_after,
            "next_attempt_at": self.next_attempt_at,
            "error_code": self.error_code,
            "hint": self.hint,
            "command": self.command,
        });
        if let Some(fields) = data.as_object_mut() {
            if let Some(resolves) = self.resolves {
                fields.insert("resolves".into(), json!(resolves.kind));
            }
            if let Some(url) = &self.explanation_url {
                fields.insert("explanation_url".into(), json!(url));
            }
            if self.certificate.is_none() && !self.certificates.is_empty() {
                list(fields, "certificates", &self.certificates);
            }
            if !self.alerts.is_empty() {
                list(fields, "alerts", &self.alerts);
            }
        }
        json!({ "type": self.kind, "timestamp": self.at, "data": data })
    }
}

/// Puts as many of `items` as may be under `name` into `fields`, and the count of the rest.
fn list<T: Serialize>(fields: &mut serde_json::Map<String, Value>, name: &str, items: &[T]) {
    let mut room = MAX_LISTED_BYTES;
    let mut listed = Vec::new();
    for value in items.iter().take(MAX_LISTED).map(|it| json!(it)) {
        let Some(left) = room.checked_sub(value.to_string().len()) else { break };
        room = left;
        listed.push(value);
    }
    let rest = items.len().saturating_sub(listed.len());
    fields.insert(name.to_owned(), Value::Array(listed));
    if rest > 0 {
        fields.insert(format!("more_{name}"), json!(rest));
    }
}

/// The word for a severity.
pub(super) const fn severity_text(severity: Health) -> &'static str {
    match severity {
        Health::Ok => "ok",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}
