//! How one certificate stands, in the words of `status`: from what is wanted, held and served in
//! this moment, never from flags that say that a job was done.

use crate::issue::IssueError;
use crate::model::{
    Attempts, CLOCK_WRONG, CaName, CertificateId, CertificateSpec, CertificateStatus, Condition,
    EndpointCondition, EndpointState, Explain, Failure, Health, Held, RecordStatus,
    RenewalCondition, StandIn, StandInStatus, TargetName, TargetState, Timestamp,
};
use crate::plan::{DeployReason, Deployment, Plan, Reason, Renewal, serves_newer};

use super::facts::Facts;
use super::{Lifecycle, TargetStatus};

/// Describes `spec` by `facts` and `plan`.
pub(super) fn describe(
    lifecycle: &Lifecycle,
    spec: &CertificateSpec,
    facts: &Facts,
    plan: &Plan,
    now: Timestamp,
) -> CertificateStatus {
    let held = facts.held();
    let certificate = held.filter(|it| !it.is_placeholder());
    let targets: Vec<TargetStatus> = facts
        .targets
        .iter()
        .zip(&plan.deployments)
        .map(|((name, state), (_, deployment))| target_status(name, state, deployment, held, now))
        .collect();
    let condition = match condition(held, &targets, now) {
        Condition::Expired => Condition::Expired,
        _ if facts.revocation().is_some() => Condition::Revoked,
        condition => condition,
    };
    let records = lifecycle.records(spec, facts);
    let trouble = trouble(&facts.state.attempts, &plan.renewal, &targets, &records);
    let by_records = match records.iter().any(|it| it.trouble().is_some()) {
        true => Health::Warning,
        false => Health::Ok,
    };
    let health = health(lifecycle, facts, condition, &targets, now)
        .max(by_records)
        .max(by_refusal(&plan.renewal, condition));
    let (renew_at, reason) = renewal_words(plan);
    CertificateStatus {
        name: spec.name.clone(),
        domains: spec.identifiers.clone(),
        health,
        condition,
        renewal: renewal_condition(&plan.renewal),
        reason,
        not_before: certificate.map(|it| it.leaf.validity.not_before),
        not_after: certificate.map(|it| it.leaf.validity.not_after),
        life_left: certificate.map(|it| share_left(it, now)),
        serial: certificate.map(|it| it.leaf.serial_text()),
        sha256: certificate.map(Held::fingerprint),
        issuer: certificate.map(|it| it.leaf.issuer.clone()),
        ca: match certificate {
            Some(held) => held.origin.as_ref().map(|it| it.ca.clone()),
            None => spec.first_ca().cloned(),
        },
        failing_ca: failing_ca(facts, &plan.renewal),
        stand_in: certificate.and_then(|it| stand_in(it, facts)),
        stand_ins: stand_ins(spec, facts),
        generation: certificate.and_then(|it| it.generation).map(|it| it.to_string()),
        renew_at,
        explanation_url: certificate.and_then(|it| explanation_url(it, facts)),
        next_attempt_at: next_attempt_at(plan, now),
        failures: trouble.failures,
        since: trouble.since,
        last_error: trouble.last_error,
        error_code: trouble.error_code,
        hint: trouble.hint.or_else(|| way_out(spec, &plan.renewal)),
        allowance: lifecycle.allowance(spec, facts),
        targets,
        records,
        revocation: super::revocation::status(spec, facts),
    }
}

/// The CA that the failures of a renewal which is wanted are of, the last of them.
fn failing_ca(facts: &Facts, renewal: &Renewal) -> Option<CaName> {
    let fails = facts.state.attempts.failures > 0 && !matches!(renewal, Renewal::Keep { .. });
    facts.state.attempted_ca.clone().filter(|_| fails)
}

/// Why `held` did not come from the first CA, if it did not.
fn stand_in(held: &Held, facts: &Facts) -> Option<StandIn> {
    facts.state.stand_in.clone().filter(|it| it.certificate == held.fingerprint())
}

/// What is known of each stand-in.
fn stand_ins(spec: &CertificateSpec, facts: &Facts) -> Vec<StandInStatus> {
    let known = |ca| Some(StandInStatus::of(ca, facts.state.fitness.get(ca)?));
    spec.cas.iter().skip(1).filter_map(known).collect()
}

/// What a human can do about what is blocked without having failed.
fn way_out(spec: &CertificateSpec, renewal: &Renewal) -> Option<String> {
    match renewal {
        Renewal::Blocked { reason: Reason::TestCa(_), .. } => Some(format!(
            "name a real CA; or let it replace that one: renewd renew {} --allow-untrusted",
            spec.name
        )),
        _ => None,
    }
}

/// Why whoever asks for a renewal by hand gets none now, by `renewal`; `None` if none is due.
pub(super) fn why_nothing(
    spec: &CertificateSpec,
    facts: &Facts,
    renewal: &Renewal,
    now: Timestamp,
) -> Option<Failure> {
    match renewal {
        Renewal::BackOff { reason: Reason::HeldBack(_, refusal), .. } => {
            Some(IssueError::HeldBack(Box::new(refusal.clone())).failure(now))
        }
        Renewal::BackOff { until, reason } => {
            // A stand-in's success leaves what another CA said.
            let of_cas = facts.state.cas.values().map(|it| &it.attempts);
            let by_word = of_cas.filter(|it| it.forbidden_until(now) == Some(*until));
            let said = std::iter::once(&facts.state.attempts).chain(by_word);
            let last = said.filter_map(|it| it.last.clone()).next();
            let last = last.unwrap_or_else(|| Failure {
                at: now,
                code: "renewal.waits".to_owned(),
                message: reason.to_string(),
                hint: None,
            });
            let message = format!("nothing is asked before {until}: {}", last.message);
            Some(Failure { at: now, message, ..last })
        }
        Renewal::Blocked { reason: reason @ Reason::TestCa(_), .. } => Some(Failure {
            at: now,
            code: "renewal.test_ca".to_owned(),
            message: format!("nothing is asked: {reason}"),
            hint: way_out(spec, renewal),
        }),
        Renewal::Blocked { .. } => facts.state.attempts.last.clone(),
        Renewal::Issue(_) | Renewal::Keep { .. } => None,
    }
}

/// Where the CA says why it suggests the moment for `held`.
fn explanation_url(held: &Held, facts: &Facts) -> Option<String> {
    let id = CertificateId::of(&held.leaf)?;
    let known = facts.state.suggestion.as_ref().filter(|it| it.certificate_id == id)?;
    known.explanation_url.clone()
}

/// The part of the life of `held` that is left at `now`, from 1 to 0.
fn share_left(held: &Held, now: Timestamp) -> f64 {
    let lifetime = held.leaf.validity.lifetime().as_secs_f64();
    if lifetime <= 0.0 {
        return 0.0;
    }
    let share = held.leaf.validity.life_left(now).as_secs_f64() / lifetime;
    (share * 10_000.0).round() / 10_000.0
}

/// What operators should see first.
#[derive(Default)]
struct Trouble {
    failures: u32,
    since: Option<Timestamp>,
    last_error: Option<String>,
    error_code: Option<String>,
    hint: Option<String>,
}

/// What holds the renewal back, else its failures, else the first failing target's, else what is
/// wrong with a record that the next renewal needs.
///
/// Failures of a renewal that is not wanted any more, since what was wanted has changed back, are
/// nobody's trouble.
fn trouble(
    attempts: &Attempts,
    renewal: &Renewal,
    targets: &[TargetStatus],
    records: &[RecordStatus],
) -> Trouble {
    if let Renewal::BackOff { reason: Reason::HeldBack(_, refusal), .. } = renewal {
        // What has used up the allowance is what there is to mend.
        let last = attempts.last.as_ref().filter(|_| attempts.failures > 0);
        let before = last.map(|it| format!("; the last try failed: {}", it.message));
        return Trouble {
            failures: attempts.failures,
            since: attempts.since,
            last_error: Some(format!("{refusal}{}", before.unwrap_or_default())),
            error_code: Some(refusal.code().to_owned()),
            hint: Some(refusal.hint().to_owned()),
        };
    }
    if attempts.failures > 0 && !matches!(renewal, Renewal::Keep { .. }) {
        let last = attempts.last.as_ref();
        return Trouble {
            failures: attempts.failures,
            since: attempts.since,
            last_error: last.map(|it| it.message.clone()),
            error_code: last.map(|it| it.code.clone()),
            hint: last.and_then(|it| it.hint.clone()),
        };
    }
    if let Renewal::BackOff { reason: Reason::ClockDoubted(_, doubt), .. } = renewal {
        return Trouble {
            last_error: Some(doubt.to_string()),
            error_code: Some(CLOCK_WRONG.to_owned()),
            hint: Some("set the clock right (`timedatectl`)".to_owned()),
            ..Trouble::default()
        };
    }
    if let Some(target) = targets.iter().find(|it| it.failures > 0) {
        return Trouble {
            failures: target.failures,
            since: target.since,
            last_error: target.last_error.clone(),
            error_code: target.error_code.clone(),
            hint: target.hint.clone(),
        };
    }
    let wrong = records.iter().find_map(|it| Some((it, it.trouble()?)));
    wrong.map_or_else(Trouble::default, |(record, trouble)| Trouble {
        failures: 0,
        since: record.since,
        last_error: Some(trouble),
        error_code: Some(RecordStatus::ERROR_CODE.to_owned()),
        hint: Some(record.hint()),
    })
}

/// When something is next tried, at the CA or at a target. A look at what is served is none.
fn next_attempt_at(plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let renewal = match &plan.renewal {
        Renewal::Keep { renew_at, .. } => Some(*renew_at),
        Renewal::Issue(_) => Some(now),
        Renewal::BackOff { until, .. } => Some(*until),
        Renewal::Blocked { until, .. } => *until,
    };
    let deployments = plan.deployments.iter().filter_map(|(_, deployment)| match deployment {
        Deployment::Deploy(_) => Some(now),
        Deployment::BackOff { until, .. } => Some(*until),
        Deployment::Served { .. } | Deployment::Nothing | Deployment::Look => None,
    });
    renewal.into_iter().chain(deployments).min()
}

fn target_status(
    name: &TargetName,
    state: &TargetState,
    deployment: &Deployment,
    held: Option<&Held>,
    now: Timestamp,
) -> TargetStatus {
    let is_for_held = state.attempted.is_some() && state.attempted == held.map(Held::fingerprint);
    let failing = is_for_held && state.attempts.failures > 0;
    let last = state.attempts.last.as_ref().filter(|_| failing);
    let next_attempt_at = match deployment {
        Deployment::Deploy(_) => Some(now),
        Deployment::BackOff { until, .. } => Some(*until),
        Deployment::Served { .. } | Deployment::Nothing | Deployment::Look => None,
    };
    TargetStatus {
        name: name.clone(),
        state: target_condition(deployment, failing, state),
        next_attempt_at,
        last_error: last.map(|it| it.message.clone()),
        error_code: last.map(|it| it.code.clone()),
        hint: last.and_then(|it| it.hint.clone()),
        failures: if failing { state.attempts.failures } else { 0 },
        since: state.attempts.since.filter(|_| failing),
        endpoints: state.endpoints.clone(),
    }
}

fn target_condition(
    deployment: &Deployment,
    failing: bool,
    state: &TargetState,
) -> EndpointCondition {
    match deployment {
        // Only what was seen is called served: where nobody is asked, there is nothing to see.
        Deployment::Served { .. } | Deployment::Look if state.served.is_none() => {
            EndpointCondition::Installed
        }
        Deployment::Served { .. } | Deployment::Look => EndpointCondition::Served,
        Deployment::Nothing => EndpointCondition::Waiting,
        Deployment::Deploy(reason) | Deployment::BackOff { reason, .. } => {
            let unproven = !state.endpoints.is_empty()
                && state.endpoints.iter().all(|it| it.state == EndpointCondition::Unproven);
            match reason {
                DeployReason::NotServed if failing && unproven => EndpointCondition::Unproven,
                _ if failing => EndpointCondition::Failed,
                _ => EndpointCondition::Waiting,
            }
        }
    }
}

fn condition(held: Option<&Held>, targets: &[TargetStatus], now: Timestamp) -> Condition {
    let Some(held) = held else { return Condition::Missing };
    if held.is_placeholder() {
        return Condition::Placeholder;
    }
    if held.leaf.validity.has_expired(now) {
        return Condition::Expired;
    }
    let is = |state| move |it: &TargetStatus| it.state == state;
    if targets.iter().all(is(EndpointCondition::Installed)) {
        return Condition::Held;
    }
    let fine = |it: &TargetStatus| {
        matches!(it.state, EndpointCondition::Installed | EndpointCondition::Served)
    };
    if targets.iter().all(fine) { Condition::Served } else { Condition::NotServed }
}

fn health(
    lifecycle: &Lifecycle,
    facts: &Facts,
    condition: Condition,
    targets: &[TargetStatus],
    now: Timestamp,
) -> Health {
    let held = facts.held().filter(|it| !it.is_placeholder());
    let by_life = held.map_or(Health::Ok, |held| by_life_left(lifecycle, held, now));
    let by_condition = match condition {
        Condition::Expired | Condition::Revoked => Health::Critical,
        Condition::Missing | Condition::Placeholder if facts.state.attempts.failures > 0 => {
            Health::Warning
        }
        _ if targets.iter().any(|it| serves_a_stranger(it, facts, now)) => Health::Critical,
        _ if targets.iter().any(|it| it.failures > 0) => Health::Warning,
        _ => Health::Ok,
    };
    by_life.max(by_condition)
}

/// A renewal that our own cap ended is worth a look, and so is one that there is nothing without.
fn by_refusal(renewal: &Renewal, condition: Condition) -> Health {
    let is_missing = matches!(condition, Condition::Missing | Condition::Placeholder);
    match renewal {
        Renewal::BackOff { reason: Reason::HeldBack(_, refusal), .. }
            if is_missing || refusal.limit.is_own() =>
        {
            Health::Warning
        }
        _ => Health::Ok,
    }
}

fn by_life_left(lifecycle: &Lifecycle, held: &Held, now: Timestamp) -> Health {
    let validity = held.leaf.validity;
    let left = validity.life_left(now);
    if left <= lifecycle.critical.of(validity.lifetime()) {
        Health::Critical
    } else if left <= lifecycle.warning.of(validity.lifetime()) {
        Health::Warning
    } else {
        Health::Ok
    }
}

/// Whether a failing target has an endpoint that once served ours and now serves nothing, or a
/// certificate that is none of those we keep. Serving our previous one is only late, and one that
/// is newer than ours does no harm.
fn serves_a_stranger(target: &TargetStatus, facts: &Facts, now: Timestamp) -> bool {
    let is_newer =
        |it: &EndpointState| facts.held().is_some_and(|held| serves_newer(it, held, now));
    target.failures > 0
        && target.endpoints.iter().any(|endpoint| {
            let known = endpoint.served_sha256.is_some_and(|it| facts.kept.contains(&it));
            let is_strange = !known && !is_newer(endpoint);
            endpoint.state == EndpointCondition::Failed && endpoint.ever_served && is_strange
        })
}

fn renewal_condition(renewal: &Renewal) -> RenewalCondition {
    match renewal {
        Renewal::Keep { .. } => RenewalCondition::Idle,
        Renewal::Issue(_) => RenewalCondition::Due,
        Renewal::BackOff { .. } => RenewalCondition::BackingOff,
        Renewal::Blocked { .. } => RenewalCondition::Blocked,
    }
}

fn renewal_words(plan: &Plan) -> (Option<Timestamp>, String) {
    match &plan.renewal {
        Renewal::Keep { renew_at, reason } => (Some(*renew_at), reason.of_keeping().to_owned()),
        Renewal::Issue(reason)
        | Renewal::BackOff { reason, .. }
        | Renewal::Blocked { reason, .. } => (None, reason.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Failure, Limit, Refusal, Retry};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    /// A renewal that has been failing since 100.
    fn failing() -> Attempts {
        let failure = |at, code: &str| Failure {
            at,
            code: code.into(),
            message: format!("{code} failed"),
            hint: Some("look".into()),
        };
        let mut attempts = Attempts::default();
        attempts.fail(failure(at(100), "acme.first"), Retry::BackOff, Duration::ZERO);
        attempts.fail(failure(at(200), "acme.last"), Retry::BackOff, Duration::ZERO);
        attempts
    }

    fn target(name: &str, failures: u32) -> TargetStatus {
        TargetStatus {
            name: name.parse().unwrap(),
            state: EndpointCondition::Failed,
            next_attempt_at: None,
            last_error: Some(format!("{name} failed")),
            error_code: Some(format!("deploy.{name}")),
            hint: None,
            failures,
            since: Some(at(50)),
            endpoints: Vec::new(),
        }
    }

    #[track_caller]
    fn check(
        attempts: &Attempts,
        renewal: &Renewal,
        targets: &[TargetStatus],
        expected: (u32, Option<i64>, Option<&str>),
    ) {
        let found = trouble(attempts, renewal, targets, &[]);
        let since = expected.1.map(at);
        assert_eq!((found.failures, found.since, found.error_code.as_deref()), {
            (expected.0, since, expected.2)
        });
        assert_eq!(found.last_error.is_some(), expected.0 > 0);
    }

    #[test]
    fn the_first_trouble_is_the_renewals_else_that_of_a_target_and_never_a_mixture() {
        let keep = Renewal::Keep { renew_at: at(900), reason: Reason::LifePassed };
        let waiting = Renewal::BackOff { until: at(300), reason: Reason::LifePassed };
        let due = Renewal::Issue(Reason::LifePassed);
        let targets = [target("a", 0), target("b", 4)];
        for renewal in [&waiting, &due] {
            check(&failing(), renewal, &targets, (2, Some(100), Some("acme.last")));
            check(&Attempts::default(), renewal, &targets, (4, Some(50), Some("deploy.b")));
        }
        check(&Attempts::default(), &keep, &targets, (4, Some(50), Some("deploy.b")));
        check(&Attempts::default(), &keep, &[], (0, None, None));
    }

    /// Also where nobody is there to try it.
    #[test]
    fn a_target_whose_pause_is_over_is_tried_next_now() {
        let (name, state) = ("nginx".parse().unwrap(), TargetState::default());
        let next =
            |deployment| target_status(&name, &state, &deployment, None, at(900)).next_attempt_at;
        assert_eq!(next(Deployment::Deploy(DeployReason::NotServed)), Some(at(900)));
        let waits = Deployment::BackOff { until: at(950), reason: DeployReason::NotServed };
        assert_eq!(next(waits), Some(at(950)));
        assert_eq!(next(Deployment::Nothing), None);
    }

    /// What used up the allowance is what there is to mend.
    #[test]
    fn what_is_held_back_is_told_with_what_failed_last() {
        let refusal = Refusal {
            limit: Limit::OwnFailuresPerHour,
            about: "example.com".into(),
            rate: None,
            until: at(900),
            said: None,
        };
        let reason = Reason::HeldBack(Box::new(Reason::LifePassed), refusal);
        let renewal = Renewal::BackOff { until: at(900), reason };
        let found = trouble(&failing(), &renewal, &[], &[]);
        let text = found.last_error.unwrap();
        assert!(text.ends_with("; the last try failed: acme.last failed"), "{text}");
        assert_eq!((found.failures, found.error_code.as_deref()), (2, Some("ledger.cap")));
        let found = trouble(&Attempts::default(), &renewal, &[], &[]);
        assert!(!found.last_error.unwrap().contains("last try"));
    }

    #[test]
    fn what_failed_and_is_wanted_no_more_is_no_trouble() {
        let keep = Renewal::Keep { renew_at: at(900), reason: Reason::LifePassed };
        check(&failing(), &keep, &[], (0, None, None));
    }
}
