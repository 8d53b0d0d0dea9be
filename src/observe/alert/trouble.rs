//! Decides what is wrong in this moment, and how badly. Pure: the same status at the same time
//! always gives the same troubles, whatever was told before.
//!
//! # Rules
//!
//! Thresholds are shares of the held certificate's life, since lifetimes shrink.
//!
//! - `certificate.expired`, `certificate.revoked`: at once, critical.
//! - `certificate.expiring`: no more than the warning share of life is left; critical from the
//!   critical share on.
//! - `certificate.missing`: nothing, or only a placeholder, is held, and a first renewal failed or
//!   15 minutes have passed. It stands for `renewal.failed`, which has no life to measure by.
//! - `renewal.failed`: failing for the share `failing_for` of life; at once where a human is needed
//!   (blocked), our own cap holds renewals back, the CA explains why it wants the certificate
//!   replaced, or the warning share is reached. Always a warning: how near the end is,
//!   `certificate.expiring` says. Waiting for what the CA allows is no failure.
//!   It is told likewise, and with the record's trouble, where a standing record in DNS
//!   (dns-persist-01) is not right: the next renewal will fail, and only a human can set it.
//! - `deploy.failed`: a target failing for 15 minutes, or a tenth of life where life is below a day
//!   and that is less.
//! - What began in the future was written by a clock that has been put back since: it counts by how
//!   far off it is, and so is told in twice its time at most.
//! - `ca.unavailable` stands for the failed renewals of all certificates of one CA: one cause, one
//!   trouble; by the same thresholds, and at once where nothing is held. `account.action_required`
//!   likewise, at once.
//! - `config.rejected`, `agent.degraded`: for as long as the status document has the notice.
//!
//! A certificate that is not wanted any more (unmanaged) is never in trouble.
//!
//! # Not here
//!
//! What has been told of it already: [`super::reconcile()`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{
    CLOCK_WRONG, CaName, CertificateName, CertificateStatus, Condition, EndpointCondition, Health,
    LIMIT_OF_CA, Notice, RecordStatus, RenewalCondition, StatusDocument, TargetName, TargetStatus,
    Timestamp, Validity,
};
use crate::observe::AlertSettings;

use super::message::AlertType;
use super::wording;

/// Error codes that say: the CA can't be reached or does not work.
pub const CA_CODES: &[&str] =
    &["acme.unreachable", "acme.unavailable", "acme.server_internal", "acme.bad_nonce"];

/// Error codes that say: a human must put the account with the CA right.
pub const ACCOUNT_CODES: &[&str] = &[
    "account.action_required",
    "acme.account_closed",
    "acme.account_deactivated",
    "acme.account_does_not_exist",
    "acme.account_key",
    "acme.account_lost",
    "acme.account_refused",
    "acme.external_account_required",
    "acme.invalid_contact",
    "acme.terms_not_agreed",
    "acme.unsupported_contact",
    "acme.user_action_required",
];

/// How long a target may fail, and a first certificate be missing, before anyone is told.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Lifetimes below this get a shorter patience: a tenth of them.
const SHORT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of thing.
    pub kind: AlertType,
    /// Warning or critical.
    pub severity: Health,
    /// Says which trouble this is, the same for as long as it lasts and after restarts: kind, and
    /// certificate, target, CA or cause, as far as the kind has them.
    pub key: String,
    /// In one line, for people.
    pub title: String,
    /// The machine.
    pub host: String,
    /// The certificate, if it is about one.
    pub certificate: Option<CertificateName>,
    /// The target, if it is about one.
    pub target: Option<TargetName>,
    /// The CA, if it is about one.
    pub ca: Option<CaName>,
    /// All certificates that are in it; one, or those of a CA, or none.
    pub affected: Vec<CertificateName>,
    /// Since when, as far as known.
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
    pub explanation_url: Option<String>,
    /// What a human can run.
    pub command: String,
}

/// The trouble that the systemd unit `unit` failed; `how` says it in words.
pub(super) fn unit_failed(host: &str, unit: &str, how: &str) -> Trouble {
    let kind = AlertType::AgentDegraded;
    Trouble {
        kind,
        severity: Health::Warning,
        key: format!("{kind}/{unit}"),
        title: format!("{unit} failed on {host}: {how}"),
        host: host.to_owned(),
        certificate: None,
        target: None,
        ca: None,
        affected: Vec::new(),
        since: None,
        attempts: 0,
        not_after: None,
        next_attempt_at: None,
        error_code: Some("agent.unit_failed".to_owned()),
        hint: Some("until it runs again nothing is renewed; its log says why".to_owned()),
        explanation_url: None,
        command: format!("journalctl -u {unit}"),
    }
}

/// What is wrong at `now` according to `status`; in the order of the certificates, the agent's own
/// troubles last.
#[must_use]
pub fn troubles(status: &StatusDocument, settings: &AlertSettings, now: Timestamp) -> Vec<Trouble> {
    found(status, settings, now, true)
}

/// The keys of all that is wrong at `now` according to `status`, for however short a time.
#[must_use]
pub(super) fn present(
    status: &StatusDocument,
    settings: &AlertSettings,
    now: Timestamp,
) -> BTreeSet<String> {
    found(status, settings, now, false).into_iter().map(|it| it.key).collect()
}

fn found(
    status: &StatusDocument,
    settings: &AlertSettings,
    now: Timestamp,
    is_patient: bool,
) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut by_ca: BTreeMap<(AlertType, String), Vec<Facts<'_>>> = BTreeMap::new();

    for certificate in &status.certificates {
        if certificate.condition == Condition::Unmanaged {
            continue;
        }
        let facts = Facts { is_patient, ..Facts::of(certificate, settings, now) };
        let mut kinds = facts.of_what_is_held();
        match facts.shared_cause() {
            Some(kind) => {
                let ca = facts.asked_ca().map_or_else(String::new, ToString::to_string);
                by_ca.entry((kind, ca)).or_default().push(facts.clone());
                if !is_patient {
                    // What was told before the CA's trouble came is not over by that.
                    kinds.extend(facts.of_the_renewal());
                    found.extend(facts.of_records(&status.host));
                }
            }
            None => kinds.extend(facts.of_the_renewal()),
        }
        if !kinds.contains(&AlertType::RenewalFailed) && facts.shared_cause().is_none() {
            found.extend(facts.of_records(&status.host));
        }
        found.extend(kinds.into_iter().map(|kind| facts.trouble(kind, &status.host)));
        found.extend(certificate.targets.iter().filter_map(|it| facts.of_target(it, &status.host)));
    }
    for ((kind, _), members) in &by_ca {
        found.extend(of_ca(*kind, members, &status.host));
    }
    found.extend(of_the_agent(&status.notices, &status.host));
    found
}

/// One certificate's status with what follows from it at this time.
#[derive(Clone)]
struct Facts<'a> {
    status: &'a CertificateStatus,
    settings: &'a AlertSettings,
    validity: Option<Validity>,
    now: Timestamp,
    /// Whether what has not lasted is no trouble yet.
    is_patient: bool,
}

impl<'a> Facts<'a> {
    fn of(status: &'a CertificateStatus, settings: &'a AlertSettings, now: Timestamp) -> Self {
        let validity = match (status.not_before, status.not_after) {
            (Some(not_before), Some(not_after)) if !is_missing(status.condition) => {
                Some(Validity { not_before, not_after })
            }
            _ => None,
        };
        Self { status, settings, validity, now, is_patient: true }
    }

    /// What is wrong with the certificate that is held, whatever the renewal does.
    fn of_what_is_held(&self) -> Vec<AlertType> {
        match self.status.condition {
            Condition::Revoked => vec![AlertType::CertificateRevoked],
            _ if self.has_expired() => vec![AlertType::CertificateExpired],
            Condition::Missing | Condition::Placeholder if self.is_missed() => {
                vec![AlertType::CertificateMissing]
            }
            _ if self.is_within(self.settings.warning) => vec![AlertType::CertificateExpiring],
            _ => Vec::new(),
        }
    }

    /// The CA that gives no other certificate; what is held may have come from elsewhere.
    fn asked_ca(&self) -> Option<&CaName> {
        self.status.failing_ca.as_ref().or(self.status.ca.as_ref())
    }

    fn of_the_renewal(&self) -> Option<AlertType> {
        let told_otherwise = is_missing(self.status.condition);
        (!told_otherwise && self.has_failed_long_enough()).then_some(AlertType::RenewalFailed)
    }

    /// The kind of trouble that this certificate shares with others of its CA.
    fn shared_cause(&self) -> Option<AlertType> {
        let code = self.status.error_code.as_deref()?;
        if !self.is_failing() {
            None
        } else if ACCOUNT_CODES.contains(&code) {
            Some(AlertType::AccountActionRequired)
        } else if CA_CODES.contains(&code) {
            Some(AlertType::CaUnavailable)
        } else {
            None
        }
    }

    fn of_target(&self, target: &TargetStatus, host: &str) -> Option<Trouble> {
        // Unproven too: whom nobody can see to serve may serve nothing at all.
        if !matches!(target.state, EndpointCondition::Failed | EndpointCondition::Unproven) {
            return None;
        }
        let since = target.since.or(self.status.since);
        let lifetime = self.validity.map(|it| it.lifetime());
        let patience = match lifetime {
            Some(lifetime) if lifetime < SHORT_LIFE => PATIENCE.min(lifetime / 10),
            _ => PATIENCE,
        };
        if since.is_some_and(|it| !self.has_lasted(it, patience)) {
            return None;
        }
        let kind = AlertType::DeployFailed;
        Some(Trouble {
            key: format!("{kind}/{}/{}", self.status.name, target.name),
            title: wording::deploy_failed(&self.status.name, target, since, self.now),
            target: Some(target.name.clone()),
            since,
            attempts: target.failures,
            next_attempt_at: target.next_attempt_at,
            error_code: target.error_code.clone(),
            hint: target.hint.clone(),
            ..self.trouble(kind, host)
        })
    }

    /// What is wrong with the standing records that the next renewal needs: the trouble that it
    /// would be in, before it is.
    fn of_records(&self, host: &str) -> Option<Trouble> {
        if is_missing(self.status.condition) {
            // Its first renewal tells.
            return None;
        }
        let mut wrong = self.status.records.iter().filter(|it| it.trouble().is_some());
        let first = wrong.next()?;
        let (kind, trouble) = (AlertType::RenewalFailed, first.trouble()?);
        Some(Trouble {
            title: wording::record_wrong(&self.status.name, &trouble, wrong.count()),
            since: first.since,
            attempts: 0,
            error_code: Some(RecordStatus::ERROR_CODE.to_owned()),
            hint: Some(first.hint()),
            command: format!("renewd dns persist {}", self.status.name),
            ..self.trouble(kind, host)
        })
    }

    fn trouble(&self, kind: AlertType, host: &str) -> Trouble {
        let status = self.status;
        Trouble {
            kind,
            severity: self.severity(kind),
            key: format!("{kind}/{}", status.name),
            title: wording::of_certificate(kind, status, self.now),
            host: host.to_owned(),
            certificate: Some(status.name.clone()),
            target: None,
            ca: status.ca.clone(),
            affected: vec![status.name.clone()],
            since: status.since,
            attempts: status.failures,
            not_after: status.not_after.filter(|_| self.validity.is_some()),
            next_attempt_at: status.next_attempt_at,
            error_code: status.error_code.clone(),
            hint: status.hint.clone(),
            explanation_url: status.explanation_url.clone(),
            command: format!("renewd status {}", status.name),
        }
    }

    fn severity(&self, kind: AlertType) -> Health {
        let critical = match kind {
            AlertType::CertificateExpired | AlertType::CertificateRevoked => true,
            AlertType::CertificateExpiring => self.is_critical(),
            // How near the end is, certificate.expiring says.
            AlertType::RenewalFailed => false,
            _ => self.is_critical() || self.status.health == Health::Critical,
        };
        if critical { Health::Critical } else { Health::Warning }
    }

    fn is_critical(&self) -> bool {
        self.has_expired() || self.is_within(self.settings.critical)
    }

    fn has_expired(&self) -> bool {
        self.status.condition == Condition::Expired
            || self.validity.is_some_and(|it| it.has_expired(self.now))
    }

    /// Whether no more than `share` of life is left.
    fn is_within(&self, share: crate::model::Share) -> bool {
        self.validity.is_some_and(|it| it.life_left(self.now) <= share.of(it.lifetime()))
    }

    /// Whether the certificate that is not there should be by now. A CA that is down is told of as
    /// such first.
    fn is_missed(&self) -> bool {
        let waited = self.status.since.is_some_and(|it| self.has_lasted(it, PATIENCE));
        waited || (self.is_failing() && self.shared_cause().is_none() && !self.waits_a_little())
    }

    /// Whether what began at `since` has gone on for `span`.
    fn has_lasted(&self, since: Timestamp, span: Duration) -> bool {
        !self.is_patient || self.now.since(since).max(since.since(self.now)) >= span
    }

    /// Whether it only waits for what its CA allows, or for a right clock (of which a notice
    /// tells): that is no failure.
    fn waits_for_the_ca(&self) -> bool {
        self.status.error_code.as_deref().is_some_and(|it| it == LIMIT_OF_CA || it == CLOCK_WRONG)
    }

    /// Whether that wait is over soon.
    fn waits_a_little(&self) -> bool {
        let next = self.status.next_attempt_at;
        self.waits_for_the_ca() && next.is_some_and(|it| it.since(self.now) < PATIENCE)
    }

    /// Whether the renewal is failing.
    fn is_failing(&self) -> bool {
        self.is_blocked()
            || self.status.renewal == RenewalCondition::BackingOff
            || (self.status.failures > 0 && !self.tells_of_a_target())
    }

    /// Whether the failures that the status tells of are a target's: those of the renewal come
    /// first there, and a target's where it has none.
    fn tells_of_a_target(&self) -> bool {
        let status = self.status;
        status.targets.iter().any(|it| {
            it.failures == status.failures
                && it.since == status.since
                && it.error_code == status.error_code
        })
    }

    fn is_blocked(&self) -> bool {
        self.status.renewal == RenewalCondition::Blocked
    }

    fn has_failed_long_enough(&self) -> bool {
        let Some(validity) = self.validity else {
            // Nothing to measure by: where nothing is held, the first failure is the time.
            return self.is_failing();
        };
        let limit = self.settings.failing_for.of(validity.lifetime());
        let since = self.status.since;
        let for_long = match since {
            Some(since) => self.has_lasted(since, limit),
            None => !self.waits_for_the_ca(),
        };
        let pressing = self.is_blocked()
            || self.has_expired()
            || self.is_within(self.settings.warning)
            // The CA says why it wants it replaced: it may be revoked soon.
            || self.status.explanation_url.is_some();
        self.is_failing() && (pressing || for_long)
    }
}

/// The one trouble that `members`, which share a CA, have with it.
fn of_ca(kind: AlertType, members: &[Facts<'_>], host: &str) -> Option<Trouble> {
    let told_now =
        |it: &Facts<'_>| kind == AlertType::AccountActionRequired || it.has_failed_long_enough();
    if !members.iter().any(told_now) {
        return None;
    }
    let first = members.first()?;
    let ca = first.asked_ca().cloned();
    let key = ca.as_ref().map_or_else(|| kind.to_string(), |ca| format!("{kind}/{ca}"));
    Some(Trouble {
        severity: members.iter().map(|it| it.severity(kind)).max().unwrap_or(Health::Warning),
        key,
        title: wording::of_ca(kind, ca.as_ref(), members.len(), first.status.last_error.as_deref()),
        certificate: None,
        ca,
        affected: members.iter().map(|it| it.status.name.clone()).collect(),
        since: members.iter().filter_map(|it| it.status.since).min(),
        attempts: members.iter().map(|it| it.status.failures).max().unwrap_or_default(),
        not_after: members.iter().filter_map(|it| it.trouble(kind, host).not_after).min(),
        next_attempt_at: members.iter().filter_map(|it| it.status.next_attempt_at).min(),
        explanation_url: None,
        command: "renewd status".to_owned(),
        ..first.trouble(kind, host)
    })
}

/// The troubles of the agent itself. That nobody is told (`agent.silent`) is told to nobody.
fn of_the_agent(notices: &[Notice], host: &str) -> Vec<Trouble> {
    let mut by_key: BTreeMap<String, Trouble> = BTreeMap::new();
    for notice in notices {
        let Some(trouble) = of_notice(notice, host) else { continue };
        let known = by_key.entry(trouble.key.clone()).or_insert_with(|| trouble.clone());
        known.severity = known.severity.max(trouble.severity);
    }
    by_key.into_values().collect()
}

fn of_notice(notice: &Notice, host: &str) -> Option<Trouble> {
    if notice.health == Health::Ok || notice.code == "agent.silent" {
        return None;
    }
    let kind = if notice.code == AlertType::ConfigRejected.as_str() {
        AlertType::ConfigRejected
    } else {
        AlertType::AgentDegraded
    };
    let (key, command) = match kind {
        AlertType::ConfigRejected => (kind.to_string(), "renewd check"),
        _ => (format!("{kind}/{}", wording::cause_of(notice)), "renewd status"),
    };
    Some(Trouble {
        kind,
        severity: notice.health,
        key,
        title: wording::of_notice(notice),
        host: host.to_owned(),
        certificate: None,
        target: None,
        ca: None,
        affected: Vec::new(),
        since: Some(notice.since),
        attempts: 0,
        not_after: None,
        next_attempt_at: None,
        error_code: Some(notice.code.clone()),
        hint: notice.hint.clone(),
        explanation_url: None,
        command: command.to_owned(),
    })
}

const fn is_missing(condition: Condition) -> bool {
    matches!(condition, Condition::Missing | Condition::Placeholder)
}

#[cfg(test)]
mod tests;
