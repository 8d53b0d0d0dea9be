//! What is told of a trouble from its beginning to its end.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::model::{CertificateStatus, RenewalCondition, Secret, TargetStatus};
use crate::observe::alert::testing::{
    DAY, failing, failing_target, missing, served, start, status,
};
use crate::observe::alert::trouble::troubles;
use crate::observe::{AlertSettings, Channel};

/// What is told when `certificates` stand so at `now`: type and, if resolved, of what.
fn told(
    book: &mut AlertBook,
    certificates: &[CertificateStatus],
    now: Timestamp,
) -> Vec<(AlertType, Health, Option<AlertType>)> {
    let status = status(certificates.to_vec());
    let found = troubles(&status, &AlertSettings::default(), now);
    let messages = reconcile(book, &found, &Unsettled::default(), now);
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
    assert_eq!(told(&mut book, &with("acme.unavailable"), start()), [down]);
}

#[test]
fn both_ends_of_a_trouble_carry_the_same_key_also_if_the_machine_is_renamed() {
    let mut book = AlertBook::default();
    let mut document = status(vec![blocked("api")]);
    let settings = AlertSettings::default();
    let known = Unsettled::default();
    let first = reconcile(&mut book, &troubles(&document, &settings, start()), &known, start());
    document.host = "other".into();
    let again = reconcile(&mut book, &troubles(&document, &settings, start()), &known, start());
    assert_eq!(again, []);
    let over = reconcile(&mut book, &[], &Unsettled::default(), start());
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
    let messages = reconcile(&mut book, &found, &Unsettled::default(), start());
    assert_eq!(messages.len(), 21);
    let summary = messages.last().unwrap();
    assert_eq!(summary.kind, AlertType::RenewalFailed);
    assert_eq!((summary.alerts.len(), summary.certificates.len()), (480, 480));
    assert_eq!(
        summary.title,
        "480 more alerts of the type renewal.failed: c020, c021, c022, c023, c024 and 475 more"
    );
    assert_eq!(reconcile(&mut book, &found, &Unsettled::default(), start()), [], "told twice");

    let over = reconcile(&mut book, &[], &Unsettled::default(), start());
    assert_eq!(over.len(), 21);
    assert_eq!(over.last().unwrap().alerts.len(), 480);
    assert_eq!(over.last().unwrap().worst(), Health::Warning);
    let keys: BTreeSet<&str> = messages.iter().chain(&over).map(|it| it.id.as_str()).collect();
    assert_eq!(keys.len(), 42, "every message has its own id");
}

#[test]
fn the_worst_are_told_singly() {
    let mut book = AlertBook::default();
    let mut many: Vec<_> = (0..30).map(|it| blocked(&format!("c{it:03}"))).collect();
    many.push(served("worst", 91 * DAY, 90 * DAY));
    let found = troubles(&status(many), &AlertSettings::default(), start());
    let messages = reconcile(&mut book, &found, &Unsettled::default(), start());
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

/// W04: more alerts than a receiver's queue holds, some with long causes.
#[test]
fn no_message_is_larger_than_a_receiver_takes_and_each_says_how_many_it_leaves_out() {
    let long = |number: u32| CertificateStatus {
        last_error: Some(format!("{number} {}", "ü".repeat(1000))),
        ..blocked(&format!("{number:04}{}", "n".repeat(50)))
    };
    for (kind, code) in
        [(AlertType::RenewalFailed, "acme.caa"), (AlertType::CaUnavailable, "acme.unavailable")]
    {
        let many =
            (0..3000).map(|it| CertificateStatus { error_code: Some(code.into()), ..long(it) });
        let found = troubles(&status(many.collect()), &AlertSettings::default(), start());
        let messages = reconcile(&mut AlertBook::default(), &found, &Unsettled::default(), start());
        let last = messages.last().unwrap();
        assert_eq!(last.kind, kind);
        for message in &messages {
            let size = message.body().to_string().len();
            assert!(size < 64 * 1024, "{size} bytes");
        }
        let data = last.body()["data"].clone();
        let (listed, rest) = ("certificates", "more_certificates");
        assert_eq!(data[listed].as_array().unwrap().len(), 100);
        assert_eq!(data[rest], last.certificates.len() - 100);
        if !last.alerts.is_empty() {
            let listed = data["alerts"].as_array().unwrap().len();
            assert!(listed > 10, "{listed}");
            assert_eq!(data["more_alerts"], last.alerts.len() - listed);
        }
    }
}

/// W04: what had to make room is told when there is room, once, and only if it is not over.
#[test]
fn what_a_receiver_missed_is_told_as_soon_as_there_is_room() {
    let receiver = ReceiverSettings {
        name: "a".into(),
        channel: Channel::Webhook { url: Secret::new("https://a/".into()), secret: None },
        min_severity: Health::Warning,
        tell_renewed: false,
        source: PathBuf::new(),
    };
    let settings = AlertSettings { receivers: vec![receiver], ..AlertSettings::default() };
    let receivers = &settings.receivers;
    let mut book = AlertBook::default();
    let names: Vec<String> = (0..MAX_QUEUE + 30).map(|it| format!("c{it:04}")).collect();
    // One after another, so that each has its own message.
    for count in (20..=names.len()).step_by(20).chain([names.len()]) {
        let found: Vec<_> = names.iter().take(count).map(|it| blocked(it)).collect();
        let found = troubles(&status(found), &AlertSettings::default(), start());
        let messages = reconcile(&mut book, &found, &Unsettled::default(), start());
        drop(book.enqueue(&messages, &settings, start()));
        retell(&mut book, receivers, start());
    }
    let queue = &book.queues["a"];
    assert_eq!((queue.messages.len(), queue.missed.len(), queue.dropped), (MAX_QUEUE, 30, 30));

    // The first of those that were missed is over meanwhile.
    let rest: Vec<_> = names.iter().skip(1).map(|it| blocked(it)).collect();
    let found = troubles(&status(rest), &AlertSettings::default(), start());
    let mut told = BTreeSet::new();
    for _ in 0..2 {
        while let Some(message) = book.due("a", start()).cloned() {
            assert!(told.insert(message.id.clone()), "{} twice", message.title);
            if message.opens() {
                told.extend(message.keys().map(str::to_owned));
            }
            book.delivered("a", &[message.id]);
        }
        let messages = reconcile(&mut book, &found, &Unsettled::default(), start());
        drop(book.enqueue(&messages, &settings, start()));
        retell(&mut book, receivers, start());
    }
    let key = |name: &str| format!("web1/renewal.failed/{name}");
    let untold: Vec<_> = names.iter().filter(|it| !told.contains(&key(it))).collect();
    assert_eq!(untold, [&names[0]], "its end is told, not its beginning");
}

/// A first look that failed is no end of anything.
#[test]
fn of_a_certificate_that_could_not_be_looked_at_nothing_is_over() {
    let mut book = AlertBook::default();
    let expired = served("api", 91 * DAY, 90 * DAY);
    let failing = failing(served("www", 60 * DAY, 90 * DAY), 9 * DAY, "acme.unavailable");
    assert_eq!(told(&mut book, &[expired, failing], start()).len(), 2);
    let wanted = ["api", "www", "new"].map(|it| it.parse().unwrap()).into();
    let wanted = AlertSettings { wanted, ..AlertSettings::default() };
    let seen = status(vec![served("new", DAY, 90 * DAY)]);
    // What names them may be in a file that can't be read.
    let partial = AlertSettings { is_partial: true, ..AlertSettings::default() };
    for settings in [wanted, partial] {
        let hidden = Unsettled::of(&seen, &settings, &book, start());
        let unseen: Vec<_> = hidden.unseen.iter().map(CertificateName::as_str).collect();
        assert_eq!(unseen, ["api", "www"]);
        assert_eq!(reconcile(&mut book, &[], &hidden, start()), []);
    }
    // Taken out of the configuration, it is.
    let known = Unsettled::of(&seen, &AlertSettings::default(), &book, start());
    assert_eq!(reconcile(&mut book, &[], &known, start()).len(), 2);
}

#[test]
fn what_several_share_is_over_when_those_that_could_be_looked_at_are_well() {
    let mut book = AlertBook::default();
    let down = |name| failing(served(name, 60 * DAY, 90 * DAY), 9 * DAY, "acme.unavailable");
    assert_eq!(told(&mut book, &[down("api"), down("www")], start()).len(), 1);
    let wanted = ["api", "www"].map(|it| it.parse().unwrap()).into();
    let settings = AlertSettings { wanted, ..AlertSettings::default() };
    for (certificates, over) in [(vec![], 0), (vec![served("api", DAY, 90 * DAY)], 1)] {
        let hidden = Unsettled::of(&status(certificates), &settings, &book, start());
        assert_eq!(reconcile(&mut book, &[], &hidden, start()).len(), over);
    }
}

/// T03: what began in the future of a clock that was set is not over when its time comes.
#[test]
fn what_is_there_is_not_over_because_it_has_not_lasted() {
    let mut book = AlertBook::default();
    let since = start().saturating_add(Duration::from_secs(3600));
    let mut certificate = served("api", DAY, 90 * DAY);
    certificate.targets = vec![TargetStatus { since: Some(since), ..failing_target("nginx", DAY) }];
    let document = status(vec![certificate]);
    let settings = AlertSettings::default();
    let mut pass = |minutes: u64| {
        let now = start().saturating_add(Duration::from_secs(minutes * 60));
        let found = troubles(&document, &settings, now);
        let unsettled = Unsettled::of(&document, &settings, &book, now);
        reconcile(&mut book, &found, &unsettled, now).len()
    };
    assert_eq!([0, 50, 60, 70, 80].map(&mut pass), [1, 0, 0, 0, 0]);
}

#[test]
fn what_failed_is_not_over_because_the_ca_is_away_for_a_moment() {
    let mut book = AlertBook::default();
    assert_eq!(told(&mut book, &[blocked("api")], start()).len(), 1);
    let away = failing(served("api", DAY, 90 * DAY), Duration::from_secs(60), "acme.unavailable");
    let document = status(vec![away]);
    let settings = AlertSettings::default();
    let found = troubles(&document, &settings, start());
    assert_eq!(found, []);
    let unsettled = Unsettled::of(&document, &settings, &book, start());
    assert_eq!(reconcile(&mut book, &found, &unsettled, start()), []);
}

#[test]
fn summaries_that_are_made_at_once_have_their_own_keys() {
    let mut book = AlertBook::default();
    let of_age =
        |days: u32| (0..30).map(move |it| served(&format!("c{days}-{it}"), DAY * days, 90 * DAY));
    let expiring = of_age(70).chain(of_age(85)).collect();
    let found = troubles(&status(expiring), &AlertSettings::default(), start());
    let messages = reconcile(&mut book, &found, &Unsettled::default(), start());
    let summaries: Vec<_> = messages.iter().filter(|it| !it.alerts.is_empty()).collect();
    let keys: BTreeSet<&str> = summaries.iter().map(|it| it.dedup_key.as_str()).collect();
    assert_eq!((summaries.len(), keys.len()), (2, 2), "{keys:?}");
}
