//! Each rule, on both sides of its limit.

use std::time::Duration;

use super::*;
use crate::model::RecordCondition;
use crate::observe::alert::message::Message;
use crate::observe::alert::testing::{
    DAY, failing, failing_target, missing, served, start, status,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Kind and severity of all that is wrong with `certificates`.
fn found(certificates: Vec<CertificateStatus>) -> Vec<(AlertType, Health)> {
    all(certificates).into_iter().map(|it| (it.kind, it.severity)).collect()
}

fn all(certificates: Vec<CertificateStatus>) -> Vec<Trouble> {
    troubles(&status(certificates), &AlertSettings::default(), start())
}

/// A certificate that lives for `life`, of which `left` is left, is in these troubles.
#[track_caller]
fn check_life(life: Duration, left: Duration, expected: &[(AlertType, Health)]) {
    assert_eq!(found(vec![served("api", life - left, life)]), expected, "{left:?} of {life:?}");
}

#[test]
fn thresholds_are_shares_of_life_for_90_days_6_days_and_30_seconds() {
    let second = Duration::from_secs(1);
    for life in [90 * DAY, 6 * DAY, 30 * second] {
        let warning = [(AlertType::CertificateExpiring, Health::Warning)];
        let critical = [(AlertType::CertificateExpiring, Health::Critical)];
        let moment = Duration::from_millis(1);
        check_life(life, life, &[]);
        check_life(life, life / 4 + moment, &[]);
        check_life(life, life / 4, &warning);
        check_life(life, life / 8 + moment, &warning);
        check_life(life, life / 8, &critical);
        check_life(life, Duration::ZERO, &critical);
    }
}

#[test]
fn past_its_end_a_certificate_has_expired_whatever_the_status_says() {
    let expired = served("api", 91 * DAY, 90 * DAY);
    assert_eq!(found(vec![expired]), [(AlertType::CertificateExpired, Health::Critical)]);
}

#[test]
fn a_standing_record_that_is_not_right_is_the_renewal_that_it_will_fail() {
    let record = |state| RecordStatus {
        identifier: "api.example.com".parse().unwrap(),
        name: "_validation-persist.api.example.com".into(),
        value: "authority.example".into(),
        state,
        until: None,
        since: Some(start()),
        checked_at: Some(start()),
    };
    let with = |states: &[RecordCondition], status: CertificateStatus| CertificateStatus {
        records: states.iter().map(|it| record(*it)).collect(),
        ..status
    };
    let fine = || served("api", DAY, 90 * DAY);
    use RecordCondition as C;
    assert_eq!(found(vec![with(&[C::Right, C::Unknown], fine())]), []);
    let expected = [(AlertType::RenewalFailed, Health::Warning)];
    let wrong = all(vec![with(&[C::Right, C::Missing, C::Ended], fine())]);
    let [trouble] = &wrong[..] else { panic!("{wrong:?}") };
    assert_eq!((trouble.kind, trouble.severity), expected[0]);
    assert_eq!((trouble.key.as_str(), trouble.attempts), ("renewal.failed/api", 0));
    assert!(trouble.title.ends_with("a renewal needs it, and 1 more record"), "{}", trouble.title);
    assert_eq!(trouble.error_code.as_deref(), Some("dns.persist"));

    // One trouble, one message: also while the renewal itself fails, or has never succeeded.
    let failing = failing(served("api", 50 * DAY, 84 * DAY), 7 * DAY, "dns.persist");
    assert_eq!(found(vec![with(&[C::Missing], failing)]), expected);
    assert_eq!(found(vec![with(&[C::Missing], missing("api"))]), []);
}

#[test]
fn a_revoked_certificate_is_told_of_as_that_alone() {
    let revoked =
        CertificateStatus { condition: Condition::Revoked, ..served("api", 89 * DAY, 90 * DAY) };
    assert_eq!(found(vec![revoked]), [(AlertType::CertificateRevoked, Health::Critical)]);
}

#[test]
fn a_failing_renewal_is_told_of_after_a_twelfth_of_life() {
    let life = 84 * DAY;
    let young = |span| failing(served("api", 50 * DAY, life), span, "acme.refused");
    assert_eq!(found(vec![young(7 * DAY - MINUTE)]), []);
    assert_eq!(found(vec![young(7 * DAY)]), [(AlertType::RenewalFailed, Health::Warning)]);

    let short = |span| failing(served("api", 15 * MINUTE, 36 * MINUTE), span, "acme.refused");
    assert_eq!(found(vec![short(2 * MINUTE)]), []);
    assert_eq!(found(vec![short(3 * MINUTE)]), [(AlertType::RenewalFailed, Health::Warning)]);
}

#[test]
fn a_renewal_that_needs_a_human_is_told_of_at_once() {
    let blocked = CertificateStatus {
        renewal: RenewalCondition::Blocked,
        ..failing(served("api", 50 * DAY, 90 * DAY), MINUTE, "acme.caa")
    };
    assert_eq!(found(vec![blocked]), [(AlertType::RenewalFailed, Health::Warning)]);
}

#[test]
fn a_renewal_that_fails_under_the_warning_share_is_told_of_at_once() {
    let late = failing(served("api", 68 * DAY, 90 * DAY), MINUTE, "acme.refused");
    let expected = [
        (AlertType::CertificateExpiring, Health::Warning),
        (AlertType::RenewalFailed, Health::Warning),
    ];
    assert_eq!(found(vec![late]), expected);
}

#[test]
fn a_first_certificate_is_missed_after_a_failure_or_15_minutes() {
    let waiting =
        |span| CertificateStatus { since: Some(start().saturating_sub(span)), ..missing("api") };
    let expected = [(AlertType::CertificateMissing, Health::Warning)];
    assert_eq!(found(vec![missing("api")]), []);
    assert_eq!(found(vec![waiting(14 * MINUTE)]), []);
    assert_eq!(found(vec![waiting(15 * MINUTE)]), expected);
    assert_eq!(found(vec![failing(missing("api"), MINUTE, "acme.refused")]), expected);
}

#[test]
fn a_renewal_that_the_ca_explains_is_told_of_at_its_first_failure_with_the_explanation() {
    let fails = || failing(served("api", 20 * DAY, 90 * DAY), MINUTE, "acme.refused");
    assert_eq!(found(vec![fails()]), []);
    let url = || Some("https://ca.example/incident".to_owned());
    let advised = || CertificateStatus { explanation_url: url(), ..fails() };
    assert_eq!(found(vec![advised()]), [(AlertType::RenewalFailed, Health::Warning)]);
    let trouble = all(vec![advised()]).remove(0);
    let body = Message::of_trouble(&trouble, start()).body();
    assert_eq!(body["data"]["explanation_url"], "https://ca.example/incident");
    let calm = CertificateStatus { explanation_url: url(), ..served("api", 20 * DAY, 90 * DAY) };
    assert_eq!(found(vec![calm]), []);
}

#[test]
fn a_placeholder_never_expires() {
    let old = CertificateStatus {
        condition: Condition::Placeholder,
        ..served("api", 100 * DAY, 90 * DAY)
    };
    assert_eq!(found(vec![old]), []);
}

#[test]
fn a_failing_target_is_told_of_after_15_minutes() {
    let at = |span, life| {
        let targets = vec![failing_target("nginx", span)];
        vec![CertificateStatus { targets, ..served("api", Duration::ZERO, life) }]
    };
    assert_eq!(found(at(14 * MINUTE, 90 * DAY)), []);
    assert_eq!(found(at(15 * MINUTE, 90 * DAY)), [(AlertType::DeployFailed, Health::Warning)]);
    // A tenth of life, where that is less.
    assert_eq!(found(at(2 * MINUTE, 30 * MINUTE)), []);
    assert_eq!(found(at(3 * MINUTE, 30 * MINUTE)), [(AlertType::DeployFailed, Health::Warning)]);

    let trouble = all(at(15 * MINUTE, 90 * DAY)).remove(0);
    assert_eq!(trouble.key, "deploy.failed/api/nginx");
    assert_eq!(
        trouble.title,
        "nginx does not serve api, failing for 15m: 127.0.0.1:443 serves another certificate"
    );
    assert_eq!(trouble.attempts, 4);
}

#[test]
fn a_target_that_nobody_can_see_to_serve_is_told_of_too() {
    let mut target = failing_target("nginx", 15 * MINUTE);
    target.state = EndpointCondition::Unproven;
    target.last_error = Some("nobody is there".into());
    let unproven =
        CertificateStatus { targets: vec![target], ..served("api", Duration::ZERO, 90 * DAY) };
    let trouble = all(vec![unproven]).remove(0);
    assert_eq!(trouble.kind, AlertType::DeployFailed);
    assert_eq!(
        trouble.title,
        "nginx was never seen to serve api, failing for 15m: nobody is there"
    );
}

#[test]
fn a_ca_that_is_down_is_one_trouble_for_all_its_certificates() {
    let down = |name: &str, age| failing(served(name, age, 90 * DAY), 8 * DAY, "acme.unavailable");
    let other = CertificateStatus { ca: Some("zerossl".parse().unwrap()), ..down("c", 60 * DAY) };
    let found = all(vec![down("a", 60 * DAY), down("b", 60 * DAY), other]);
    let keys: Vec<&str> = found.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["ca.unavailable/letsencrypt", "ca.unavailable/zerossl"]);
    assert_eq!(found[0].affected.len(), 2);
    assert_eq!(found[0].certificate, None);
    assert_eq!(
        found[0].title,
        "the CA letsencrypt is not available; 2 certificates wait: the CA refused the order"
    );
}

#[test]
fn the_ca_that_fails_is_told_of_and_not_the_stand_in_that_gave_what_is_held() {
    let status = CertificateStatus {
        ca: Some("zerossl".parse().unwrap()),
        failing_ca: Some("letsencrypt".parse().unwrap()),
        ..failing(served("a", 60 * DAY, 90 * DAY), 20 * DAY, "acme.unavailable")
    };
    let found = all(vec![status]);
    assert_eq!(found[0].key, "ca.unavailable/letsencrypt");
    assert_eq!(found[0].ca, Some("letsencrypt".parse().unwrap()));
    assert!(
        found[0].title.starts_with("the CA letsencrypt is not available"),
        "{}",
        found[0].title
    );
}

#[test]
fn a_ca_that_is_down_for_a_moment_is_nobodys_business() {
    let down = failing(served("a", 60 * DAY, 90 * DAY), DAY, "acme.unavailable");
    assert_eq!(found(vec![down]), []);
}

#[test]
fn where_nothing_is_held_a_ca_that_is_down_is_told_of_first_and_then_what_is_missing() {
    let down = |span| failing(missing("a"), span, "acme.unavailable");
    assert_eq!(found(vec![down(MINUTE)]), [(AlertType::CaUnavailable, Health::Warning)]);
    let expected = [
        (AlertType::CertificateMissing, Health::Warning),
        (AlertType::CaUnavailable, Health::Warning),
    ];
    assert_eq!(found(vec![down(15 * MINUTE)]), expected);
}

#[test]
fn an_account_that_needs_a_human_is_told_of_at_once() {
    let lost = failing(served("a", 60 * DAY, 90 * DAY), MINUTE, "account.action_required");
    assert_eq!(found(vec![lost]), [(AlertType::AccountActionRequired, Health::Warning)]);
}

#[test]
fn what_is_not_wanted_any_more_is_in_no_trouble() {
    let left_over =
        CertificateStatus { condition: Condition::Unmanaged, ..served("a", 100 * DAY, 90 * DAY) };
    assert_eq!(found(vec![left_over]), []);
}

#[test]
fn notices_are_troubles_of_the_agent_but_silence_is_told_to_nobody() {
    let notice = |code: &str, message: &str| Notice {
        code: code.into(),
        health: Health::Warning,
        message: message.into(),
        since: start(),
        hint: None,
    };
    let mut document = status(Vec::new());
    document.notices = vec![
        notice("agent.silent", "nobody will be told"),
        notice("config.rejected", "renewd.toml:3: unknown key"),
        notice("config.rejected", "conf.d/a.toml:1: unknown key"),
        notice("agent.degraded", "the disk has 12 kB left"),
        notice("store.failed", "the clock is 400 s off"),
    ];
    let keys = |document: &StatusDocument| -> Vec<String> {
        let found = troubles(document, &AlertSettings::default(), start());
        found.into_iter().map(|it| it.key).collect()
    };
    let before = keys(&document);
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before.contains(&"config.rejected".to_owned()));
    // Only the number changed, so it is the same trouble.
    document.notices[3].message = "the disk has 11 kB left".into();
    assert_eq!(keys(&document), before);
}

/// What is told as over while it goes on is looked at by nobody any more.
#[test]
fn a_trouble_of_the_agent_is_the_same_one_however_it_is_said() {
    let key = |code: &str, message: &str| {
        let notice = Notice {
            code: code.into(),
            health: Health::Warning,
            message: message.into(),
            since: start(),
            hint: None,
        };
        wording::cause_of(&notice)
    };
    let same = [
        ("agent.storage", "2 certificates stand still: b: full", "3 certificates stand still: a"),
        ("agent.behind", "2 wait, the first since 1-1T1:1Z", "3 wait, the first since 1-1T1:1.5Z"),
        ("agent.clock", "the clock is wrong: it says", "the CA says it is; renewals wait"),
        ("revocation.not_done", "site: is still not revoked: timeout", "site: the CA refuses"),
        ("ca.unfit", "lab could not stand in (2): timeout", "lab could not stand in (3): refused"),
    ];
    for (code, one, other) in same {
        assert_eq!(key(code, one), key(code, other), "{code}");
    }
    let others = [
        ("revocation.not_done", "site: refused", "shop: refused"),
        ("ca.unfit", "lab could not stand in", "other could not stand in"),
        ("agent.degraded", "the work on a panicked", "the work on b panicked"),
    ];
    for (code, one, other) in others {
        assert_ne!(key(code, one), key(code, other), "{code}");
    }
}

#[test]
fn a_failing_target_is_no_failing_renewal() {
    let target = failing_target("nginx", DAY);
    for renewal in [RenewalCondition::Idle, RenewalCondition::Due, RenewalCondition::Running] {
        let certificate = CertificateStatus {
            renewal,
            failures: target.failures,
            since: target.since,
            last_error: target.last_error.clone(),
            error_code: target.error_code.clone(),
            targets: vec![target.clone()],
            ..served("a", DAY, 90 * DAY)
        };
        let found = troubles(&status(vec![certificate]), &AlertSettings::default(), start());
        let kinds: Vec<AlertType> = found.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [AlertType::DeployFailed], "{renewal:?}");
    }
}

#[test]
fn waiting_for_what_the_ca_allows_is_no_failure_and_our_own_cap_is_told_at_once() {
    let waiting = |code: &str, wait: Duration| CertificateStatus {
        renewal: RenewalCondition::BackingOff,
        error_code: Some(code.into()),
        last_error: Some("would be refused".into()),
        next_attempt_at: Some(start().saturating_add(wait)),
        ..served("a", 61 * DAY, 90 * DAY)
    };
    let kinds = |certificate: CertificateStatus| -> Vec<AlertType> {
        let found = troubles(&status(vec![certificate]), &AlertSettings::default(), start());
        found.into_iter().map(|it| it.kind).collect()
    };
    assert_eq!(kinds(waiting("ledger.limit", DAY)), []);
    assert_eq!(kinds(waiting("ledger.cap", DAY)), [AlertType::RenewalFailed]);
    let missing = |wait| CertificateStatus {
        condition: Condition::Missing,
        not_before: None,
        not_after: None,
        ..waiting("ledger.limit", wait)
    };
    assert_eq!(kinds(missing(Duration::from_secs(60))), []);
    assert_eq!(kinds(missing(DAY)), [AlertType::CertificateMissing]);
}

/// A clock that was put back.
#[test]
fn what_began_in_the_future_is_told_all_the_same() {
    let ahead = start().saturating_add(400 * DAY);
    let target = TargetStatus { since: Some(ahead), ..failing_target("nginx", DAY) };
    let unserved = CertificateStatus { targets: vec![target], ..served("api", DAY, 90 * DAY) };
    assert_eq!(found(vec![unserved]), [(AlertType::DeployFailed, Health::Warning)]);
    let absent = CertificateStatus { since: Some(ahead), ..missing("api") };
    assert_eq!(found(vec![absent]), [(AlertType::CertificateMissing, Health::Warning)]);
    let failed = failing(served("api", DAY, 90 * DAY), DAY, "acme.refused");
    let failed = CertificateStatus { since: Some(ahead), ..failed };
    assert_eq!(found(vec![failed]), [(AlertType::RenewalFailed, Health::Warning)]);
    // A clock that is put right by a moment makes nothing older.
    let soon = start().saturating_add(MINUTE);
    assert_eq!(found(vec![CertificateStatus { since: Some(soon), ..missing("api") }]), []);
}

/// W05: two receivers, one word apart.
#[test]
fn each_receiver_that_is_not_reached_is_a_trouble_of_its_own_whatever_the_reason() {
    let key = |name: &str, why: &str| {
        let notice = Notice {
            code: crate::observe::alert::ALERTS_UNDELIVERED.to_owned(),
            health: Health::Warning,
            message: format!("alerts for {name} do not arrive: {why}"),
            since: start(),
            hint: None,
        };
        of_notice(&notice, "web1").unwrap().key
    };
    assert_ne!(key("hook1", "no answer"), key("hook2", "no answer"));
    assert_eq!(key("hook1", "no answer"), key("hook1", "the receiver answered 404 Not Found"));
}
