//! Certificates, statuses and receivers for tests.

use std::time::Duration;

use crate::model::{
    CertificateStatus, Condition, EndpointCondition, Fingerprint, Health, RenewalCondition,
    STATUS_FORMAT, StatusDocument, TargetStatus, Timestamp,
};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The moment that every test begins at.
pub(crate) fn start() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

/// A document about `certificates`.
pub(crate) fn status(certificates: Vec<CertificateStatus>) -> StatusDocument {
    StatusDocument {
        format: STATUS_FORMAT,
        host: "web1".into(),
        written_at: start(),
        notices: Vec::new(),
        certificates,
    }
}

/// A served certificate that began `age` ago and lives for `life`.
pub(crate) fn served(name: &str, age: Duration, life: Duration) -> CertificateStatus {
    let not_before = start().saturating_sub(age);
    CertificateStatus {
        name: name.parse().unwrap(),
        domains: vec![format!("{name}.example.com").parse().unwrap()],
        health: Health::Ok,
        condition: Condition::Served,
        renewal: RenewalCondition::Idle,
        reason: "not due".into(),
        not_before: Some(not_before),
        not_after: Some(not_before.saturating_add(life)),
        life_left: None,
        serial: Some("04:A1".into()),
        sha256: Some(Fingerprint::try_from("ab".repeat(32)).unwrap()),
        issuer: Some("Example Issuing CA R1".into()),
        ca: Some("letsencrypt".parse().unwrap()),
        failing_ca: None,
        stand_in: None,
        stand_ins: Vec::new(),
        generation: Some("0002".into()),
        explanation_url: None,
        renew_at: Some(not_before.saturating_add(life / 3 * 2)),
        next_attempt_at: None,
        failures: 0,
        since: None,
        last_error: None,
        error_code: None,
        hint: None,
        allowance: None,
        targets: Vec::new(),
        records: Vec::new(),
        revocation: None,
    }
}

/// `certificate`, its renewal failing for `span` with `code`.
pub(crate) fn failing(
    certificate: CertificateStatus,
    span: Duration,
    code: &str,
) -> CertificateStatus {
    CertificateStatus {
        renewal: RenewalCondition::BackingOff,
        failures: 3,
        since: Some(start().saturating_sub(span)),
        next_attempt_at: Some(start().saturating_add(Duration::from_secs(600))),
        last_error: Some("the CA refused the order".into()),
        error_code: Some(code.into()),
        hint: Some("look at the CAA records".into()),
        ..certificate
    }
}

/// A certificate that is wanted and not there.
pub(crate) fn missing(name: &str) -> CertificateStatus {
    CertificateStatus {
        condition: Condition::Missing,
        renewal: RenewalCondition::Due,
        not_before: None,
        not_after: None,
        serial: None,
        sha256: None,
        issuer: None,
        generation: None,
        renew_at: None,
        ..served(name, Duration::ZERO, DAY)
    }
}

/// A target that fails for `span`.
pub(crate) fn failing_target(name: &str, span: Duration) -> TargetStatus {
    TargetStatus {
        name: name.parse().unwrap(),
        state: EndpointCondition::Failed,
        next_attempt_at: Some(start().saturating_add(Duration::from_secs(300))),
        last_error: Some("127.0.0.1:443 serves another certificate".into()),
        error_code: Some("deploy.not_served".into()),
        hint: Some("see what holds the port".into()),
        failures: 4,
        since: Some(start().saturating_sub(span)),
        endpoints: Vec::new(),
    }
}
