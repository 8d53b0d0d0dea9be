//! What is told of a trouble from its beginning to its end.

use std::time::Duration;

use super::*;
use crate::model::{CertificateStatus, RenewalCondition};
use crate::observe::AlertSettings;
use crate::observe::alert::testing::{DAY, failing, missing, served, start, status};
use crate::observe::alert::trouble::troubles;

/// What is told when `certificates` stand so at `now`: type and, if resolved, of what.
fn told(
    book: &mut AlertBook,
    certificates: &[CertificateStatus],
    now: Timestamp,
) -> Vec<(AlertType, Health, Option<AlertType>)> {
    let status = status(certificates.to_vec());
    let found = troubles(&status, &AlertSettings::default(), now);
    let messages = reconcile(book, &found, now);
    messages.iter().map(|it| (it.kind, it.worst(), it.resolves.map(|it| it.kind))).collect()
}

fn blocked(name: &str) -> CertificateStatus {
    CertificateStatus {
        renewal: RenewalCondition::Blocked,
        ..failing(served(name, DAY, 90 * DAY), Duration::ZERO, "acme.caa")
    }
}

#[test]
fn a_trouble_is_told_once_again_as_it_gets_worse_and_when_it_is_over() {
    let mut book = AlertBook::default();
    let held = [served("api", 60 * DAY, 90 * DAY)];
    let at = |days: u32| start().saturating_add(days * DAY);
    assert_eq!(told(&mut book, &held, at(0)), []);
    let warning = (AlertType::CertificateExpiring, Health::Warning, None);
    assert_eq!(told(&mut book, &held, at(8)), [warning]);
    assert_eq!(told(&mut book, &held, at(9)), []);
    let critical = (AlertType::CertificateExpiring, Health::Critical, None);
    assert_eq!(told(&mut book, &held, at(20)), [critical]);
    assert_eq!(told(&mut book, &held, at(21)), []);

    let over = (AlertType::AlertResolved, Health::Critical, Some(AlertType::CertificateExpiring));
    let renewed = [served("api", Duration::ZERO, 90 * DAY)];
    assert_eq!(told(&mut book, &renewed, at(22)), [over]);
    assert_eq!(told(&mut book, &renewed, at(22)), []);
    assert!(book.open.is_empty());
}

#[test]
fn what_goes_on_as_something_worse_is_not_over() {
    let mut book = AlertBook::default();
    let held = [served("api", 80 * DAY, 90 * DAY)];
    assert_eq!(told(&mut book, &held, start()).len(), 1);
    let expired = (AlertType::CertificateExpired, Health::Critical, None);
    let later = start().saturating_add(11 * DAY);
    assert_eq!(told(&mut book, &held, later), [expired]);
    // Both are over together, so that nothing stays open at a receiver.
    let renewed = [served("api", Duration::ZERO, 90 * DAY)];
    let over = told(&mut book, &renewed, later);
    assert_eq!(over.len(), 2, "{over:?}");
    assert!(over.iter().all(|(kind, ..)| *kind == AlertType::AlertResolved));
}

#[test]
fn a_failure_that_turns_out_to_be_the_cas_is_not_over() {
    let mut book = AlertBook::default();
    let with = |code| [failing(served("api", 60 * DAY, 90 * DAY), 9 * DAY, code)];
    let failed = (AlertType::RenewalFailed, Health::Warning, None);
    assert_eq!(told(&mut book, &with("acme.refused"), start()), [failed]);
    let down = (AlertType::CaUnavailable, Health::Warning, None);
    assert_eq!(told(&mut book, &with("ca.unavailable"), start()), [down]);
}

#[test]
fn both_ends_of_a_trouble_carry_the_same_key_also_if_the_machine_is_renamed() {
    let mut book = AlertBook::default();
    let mut document = status(vec![blocked("api")]);
    let settings = AlertSettings::default();
    let first = reconcile(&mut book, &troubles(&document, &settings, start()), start());
    document.host = "other".into();
    let again = reconcile(&mut book, &troubles(&document, &settings, start()), start());
    assert_eq!(again, []);
    let over = reconcile(&mut book, &[], start());
    assert_eq!(over[0].dedup_key, first[0].dedup_key);
    assert_eq!(first[0].dedup_key, "web1/renewal.failed/api");
    assert_ne!(over[0].id, first[0].id);
}

/// W04: 500 certificates fail at once.
#[test]
fn many_at_once_are_twenty_and_a_summary_of_the_rest() {
    let mut book = AlertBook::default();
    let many: Vec<_> = (0..500).map(|it| blocked(&format!("c{it:03}"))).collect();
    let found = troubles(&status(many), &AlertSettings::default(), start());
    let messages = reconcile(&mut book, &found, start());
    assert_eq!(messages.len(), 21);
    let summary = messages.last().unwrap();
    assert_eq!(summary.kind, AlertType::RenewalFailed);
    assert_eq!((summary.alerts.len(), summary.certificates.len()), (480, 480));
    assert_eq!(
        summary.title,
        "480 more alerts of the type renewal.failed: c020, c021, c022, c023, c024, …"
    );
    assert_eq!(reconcile(&mut book, &found, start()), [], "told twice");

    let over = reconcile(&mut book, &[], start());
    assert_eq!(over.len(), 21);
    assert_eq!(over.last().unwrap().alerts.len(), 480);
    assert_eq!(over.last().unwrap().worst(), Health::Warning);
    let keys: std::collections::BTreeSet<&str> =
        messages.iter().chain(&over).map(|it| it.id.as_str()).collect();
    assert_eq!(keys.len(), 42, "every message has its own id");
}

#[test]
fn the_worst_are_told_singly() {
    let mut book = AlertBook::default();
    let mut many: Vec<_> = (0..30).map(|it| blocked(&format!("c{it:03}"))).collect();
    many.push(served("worst", 91 * DAY, 90 * DAY));
    let found = troubles(&status(many), &AlertSettings::default(), start());
    let messages = reconcile(&mut book, &found, start());
    assert_eq!(messages[0].kind, AlertType::CertificateExpired);
    assert_eq!(messages[0].body()["data"]["certificate"], "worst");
}

#[test]
fn a_reloaded_book_tells_nothing_twice() {
    let mut book = AlertBook::default();
    let held = [blocked("api")];
    assert_eq!(told(&mut book, &held, start()).len(), 1);
    let mut reloaded = AlertBook::parse(&book.to_bytes().unwrap()).unwrap();
    assert_eq!(reloaded, book);
    assert_eq!(told(&mut reloaded, &held, start()), []);
    assert_eq!(told(&mut reloaded, &[], start()).len(), 1);
}

#[test]
fn a_renewal_is_told_once_and_not_of_a_certificate_seen_for_the_first_time() {
    let mut book = AlertBook::default();
    let mut tell = |certificate: CertificateStatus| {
        renewals(&mut book, &status(vec![certificate]), start()).len()
    };
    assert_eq!(tell(served("api", DAY, 90 * DAY)), 0);
    let next = CertificateStatus {
        sha256: Some("cd".repeat(32).try_into().unwrap()),
        ..served("api", DAY, 90 * DAY)
    };
    assert_eq!(tell(next.clone()), 1);
    assert_eq!(tell(next), 0);
    // The first certificate ever is one, too.
    assert_eq!(tell(missing("new")), 0);
    assert_eq!(tell(served("new", DAY, 90 * DAY)), 1);
}
