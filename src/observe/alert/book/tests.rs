//! Who is told what next, what makes room for what, and what is known of who takes nothing.

use std::path::PathBuf;

use super::super::wording;
use super::*;
use crate::model::Secret;
use crate::observe::Channel;

fn receivers(names: &[&str]) -> AlertSettings {
    let receiver = |name: &&str| ReceiverSettings {
        name: (*name).to_owned(),
        channel: Channel::Webhook { url: Secret::new("https://a/".into()), secret: None },
        min_severity: Health::Warning,
        tell_renewed: false,
        source: PathBuf::new(),
    };
    AlertSettings { receivers: names.iter().map(receiver).collect(), ..AlertSettings::default() }
}

fn message(number: usize, severity: Health) -> Message {
    let kind = AlertType::AgentDegraded;
    let plain = Message::plain(kind, "web1", format!("number {number}"), Timestamp::EPOCH);
    Message { severity, ..plain }
}

#[test]
fn a_full_queue_lets_go_of_the_oldest_of_the_least_severe() {
    let mut book = AlertBook::default();
    let all = receivers(&["a"]);
    let mut messages = vec![message(0, Health::Critical), message(1, Health::Warning)];
    messages.extend((2..MAX_QUEUE).map(|it| message(it, Health::Warning)));
    assert!(book.enqueue(&messages, &all, Timestamp::EPOCH).is_empty());
    let dropped = book.enqueue(&[message(MAX_QUEUE, Health::Critical)], &all, Timestamp::EPOCH);
    assert_eq!(dropped.get("a"), Some(&1));
    let queue = &book.queues["a"].messages;
    let titles: Vec<&str> = queue.iter().map(|it| it.message.title.as_str()).collect();
    assert_eq!(titles.len(), MAX_QUEUE);
    assert_eq!(titles[..2], ["number 0", "number 2"]);
}

#[test]
fn the_end_of_a_trouble_makes_room_after_its_beginning_and_both_are_not_missed() {
    let mut book = AlertBook::default();
    let all = receivers(&["a"]);
    let keyed = |number: usize| Message {
        dedup_key: format!("web1/{number}"),
        ..message(number, Health::Warning)
    };
    let ended = keyed(0).resolved(Timestamp::EPOCH);
    let mut messages = vec![ended.clone(), keyed(1), keyed(2)];
    messages.extend((3..MAX_QUEUE).map(&keyed));
    messages.push(Message { title: "1 is worse".into(), ..keyed(1) });
    messages.push(keyed(MAX_QUEUE));
    assert_eq!(book.enqueue(&messages, &all, Timestamp::EPOCH).get("a"), Some(&2));
    let queue = &book.queues["a"];
    assert_eq!(queue.messages[0].message, ended);
    // Of 1 the newer message tells.
    assert_eq!(queue.missed.iter().collect::<Vec<_>>(), ["web1/2"]);
}

#[test]
fn the_worst_is_due_first_and_no_trouble_ends_before_it_begins() {
    let mut book = AlertBook::default();
    let keyed = |key: &str, number, severity| Message {
        dedup_key: key.to_owned(),
        ..message(number, severity)
    };
    let [warning, critical] = [Health::Warning, Health::Critical];
    let grown = keyed("x", 2, critical);
    let messages = [
        keyed("w", 0, warning),
        keyed("x", 1, warning),
        grown.clone(),
        grown.resolved(Timestamp::EPOCH),
        keyed("y", 4, critical),
    ];
    book.enqueue(&messages, &receivers(&["a"]), Timestamp::EPOCH);
    let mut order = Vec::new();
    while let Some(message) = book.due("a", Timestamp::EPOCH).cloned() {
        order.push(message.title.clone());
        book.delivered("a", &[message.id]);
    }
    let expected = ["number 1", "number 2", "resolved: number 2", "number 4", "number 0"];
    assert_eq!(order, expected);
}

#[test]
fn the_pauses_grow_to_an_hour_and_stay_there() {
    let mut book = AlertBook::default();
    book.enqueue(&[message(0, Health::Warning)], &receivers(&["a"]), Timestamp::EPOCH);
    let now = Timestamp::from_unix_seconds(1_000_000);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let next = book.failed("a", &[], Fault::Receiver, "no answer", now).unwrap();
        pauses.push(next.since(now).as_secs());
    }
    assert_eq!(pauses, [5, 30, 120, 600, 3600, 3600]);
    assert_eq!(pause(u32::MAX), MAX_PAUSE);
}

#[test]
fn a_pause_that_a_wrong_clock_wrote_holds_nothing_up() {
    let mut book = AlertBook::default();
    book.enqueue(&[message(0, Health::Warning)], &receivers(&["a"]), Timestamp::EPOCH);
    let wrong = Timestamp::from_unix_seconds(9_000_000);
    book.failed("a", &[], Fault::Receiver, "no answer", wrong);
    assert!(book.due("a", wrong).is_none());
    assert!(book.due("a", Timestamp::from_unix_seconds(1_000_000)).is_some());
    assert_eq!(book.wait("a", Timestamp::EPOCH), Some(Duration::ZERO));
}

fn keyed(key: &str, number: usize, severity: Health) -> Message {
    Message { dedup_key: key.to_owned(), ..message(number, severity) }.with_id()
}

#[test]
fn what_was_refused_goes_when_there_is_newer_news_of_it() {
    let mut book = AlertBook::default();
    let all = receivers(&["a"]);
    let first = keyed("x", 0, Health::Warning);
    let other = keyed("y", 1, Health::Warning);
    drop(book.enqueue(&[first.clone(), other.clone()], &all, Timestamp::EPOCH));
    let refused = [first.id.clone(), other.id.clone()];
    book.failed("a", &refused, Fault::Message, "no", Timestamp::EPOCH);
    let end = first.resolved(Timestamp::EPOCH);
    drop(book.enqueue(std::slice::from_ref(&end), &all, Timestamp::EPOCH));
    let left = book.queues["a"].messages.iter().map(|it| it.message.id.clone());
    assert_eq!(left.collect::<Vec<_>>(), [other.id, end.id]);
}

#[test]
fn a_beginning_that_makes_room_is_missed_though_an_older_end_of_it_waits() {
    let mut book = AlertBook::default();
    let all = receivers(&["a"]);
    let again = keyed("x", 1, Health::Warning);
    let mut messages = vec![keyed("x", 0, Health::Warning).resolved(Timestamp::EPOCH)];
    let rest = (1..MAX_QUEUE).map(|it| keyed(&format!("c{it}"), it, Health::Critical));
    messages.extend(rest);
    messages.push(again);
    drop(book.enqueue(&messages, &all, Timestamp::EPOCH));
    assert!(book.queues["a"].missed.is_empty(), "the older one of both makes room");
    drop(book.enqueue(&[keyed("z", 0, Health::Critical)], &all, Timestamp::EPOCH));
    assert_eq!(book.queues["a"].missed.iter().collect::<Vec<_>>(), ["x"]);
}

/// Else who takes a message now and then is told that he does not, and so for ever.
#[test]
fn who_does_not_take_messages_is_told_of_until_all_is_taken_and_never_to_himself() {
    let mut book = AlertBook::default();
    let all = receivers(&["a", "b"]);
    let messages = [0, 1].map(|it| keyed(&format!("{it}"), it, Health::Warning));
    drop(book.enqueue(&messages, &all, Timestamp::EPOCH));
    for _ in 0..3 {
        assert_eq!(book.undelivered(&all.receivers), []);
        book.failed("a", &[], Fault::Receiver, "no answer", Timestamp::EPOCH);
    }
    let [notice] = <[_; 1]>::try_from(book.undelivered(&all.receivers)).unwrap();
    book.delivered("a", &[messages[0].id.clone()]);
    assert_eq!(book.undelivered(&all.receivers).len(), 1);
    let key = format!("web1/agent.degraded/{}", wording::cause_of(&notice));
    drop(book.enqueue(&[keyed(&key, 2, Health::Warning)], &all, Timestamp::EPOCH));
    assert_eq!(book.queues["a"].messages.len(), 1);
    assert_eq!(book.queues["b"].messages.len(), 3);
    book.delivered("a", &[messages[1].id.clone()]);
    assert_eq!(book.undelivered(&all.receivers), []);
}

#[test]
fn who_is_tried_seldom_is_told_of_after_an_hour() {
    let mut book = AlertBook::default();
    let all = receivers(&["a"]);
    drop(book.enqueue(&[message(0, Health::Warning)], &all, Timestamp::EPOCH));
    for (second, count) in [(0, 0), (3600, 1)] {
        let now = Timestamp::from_unix_seconds(second);
        book.failed("a", &[], Fault::Receiver, "no answer", now);
        assert_eq!(book.undelivered(&all.receivers).len(), count);
    }
}

#[test]
fn while_a_part_of_the_configuration_is_refused_no_queue_is_forgotten() {
    let mut book = AlertBook::default();
    let [first, second] = ["x", "y"].map(|key| keyed(key, 0, Health::Warning));
    drop(book.enqueue(std::slice::from_ref(&first), &receivers(&["a"]), Timestamp::EPOCH));
    let partial = AlertSettings { is_partial: true, ..AlertSettings::default() };
    let end = first.resolved(Timestamp::EPOCH);
    drop(book.enqueue(&[second, end.clone()], &partial, Timestamp::EPOCH));
    let queue = &book.queues["a"];
    let waiting: Vec<_> = queue.messages.iter().map(|it| &it.message).collect();
    assert_eq!(waiting, [&first, &end]);
    assert_eq!(queue.missed.iter().collect::<Vec<_>>(), ["y"]);
}

#[test]
fn who_is_not_there_hears_of_what_he_knows_and_of_nothing_that_he_did_not_want() {
    let mut book = AlertBook::default();
    let mut all = receivers(&["a"]);
    all.receivers[0].min_severity = Health::Critical;
    let [mild, known] =
        [("mild", Health::Warning), ("known", Health::Critical)].map(|(key, it)| keyed(key, 0, it));
    for message in [&mild, &known] {
        let open = OpenAlert { opened_at: Timestamp::EPOCH, message: message.clone() };
        book.open.insert(message.dedup_key.clone(), open);
    }
    drop(book.enqueue(&[mild.clone(), known.clone()], &all, Timestamp::EPOCH));
    book.delivered("a", std::slice::from_ref(&known.id));
    let partial = AlertSettings { is_partial: true, ..AlertSettings::default() };
    let later = Timestamp::from_unix_seconds(60);
    let worse = keyed("known", 1, Health::Critical);
    let own = format!("web1/agent.degraded/{}", undelivered::cause_for("a"));
    let own = keyed(&own, 2, Health::Critical);
    let ends = [&mild, &known, &own].map(|it| it.resolved(later));
    let news = [std::slice::from_ref(&worse), ends.as_slice()].concat();
    drop(book.enqueue(&news, &partial, later));
    let waiting = book.queues["a"].messages.iter().map(|it| it.message.id.clone());
    assert_eq!(waiting.collect::<Vec<_>>(), [worse.id, ends[1].id.clone()]);
    assert!(book.queues["a"].missed.is_empty());
}

/// It would be told for ever.
#[test]
fn a_beginning_that_is_refused_when_its_end_waits_is_not_tried_again() {
    let mut book = AlertBook::default();
    let first = keyed("x", 0, Health::Warning);
    let end = first.resolved(Timestamp::EPOCH);
    let both = [first.clone(), end.clone()];
    drop(book.enqueue(&both, &receivers(&["a"]), Timestamp::EPOCH));
    book.failed("a", &[first.id], Fault::Message, "no", Timestamp::EPOCH);
    let left = book.queues["a"].messages.iter().map(|it| &it.message);
    assert_eq!(left.collect::<Vec<_>>(), [&end]);
}

#[test]
fn the_queue_of_a_receiver_that_is_no_more_is_forgotten() {
    let mut book = AlertBook::default();
    book.enqueue(&[message(0, Health::Warning)], &receivers(&["a", "b"]), Timestamp::EPOCH);
    book.enqueue(&[], &receivers(&["b"]), Timestamp::EPOCH);
    assert_eq!(book.queues.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_book_of_an_older_version_is_read() {
    let book = AlertBook::parse(br#"{"format":1,"later":"field"}"#).unwrap();
    assert_eq!(book, AlertBook::default());
    assert!(AlertBook::parse(b"\0\0").is_err());
}
