//! What has been told, and what is still to be delivered to whom: one JSON document, kept by the
//! [`crate::model::Outbox`], so that a restart neither repeats nor forgets a message.
//!
//! # Rules
//!
//! - A receiver that could not be reached waits as a whole: 5 s, 30 s, 2 min, 10 min, then an hour.
//! - A message that its receiver refused for its content waits alone by the same ladder; others go
//!   on.
//! - The worst is delivered first, then the oldest; but messages about one trouble never overtake
//!   each other, or its end would come before its beginning. What was refused goes when there is
//!   newer news of the same trouble: accepted after that, it would be told for ever.
//! - A queue holds at most [`MAX_QUEUE`] messages. What has newer news of the same trouble behind
//!   it makes room, then the oldest of the least severe, news of an end last. A trouble that made
//!   room counts as missed by its receiver ([`super::retell()`]).
//! - Nobody is told that messages do not reach himself: what he can't take would grow by it.
//! - While a part of the configuration is refused, the queues of receivers that may stand there
//!   stay.
//!
//! # Not here
//!
//! What is told ([`super::reconcile()`]), and the network ([`super::deliver`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{CertificateName, Fingerprint, Health, Timestamp};
use crate::observe::{AlertSettings, ReceiverSettings};

use super::message::{AlertType, Message};
use super::undelivered;

/// How many messages wait for one receiver at most.
pub const MAX_QUEUE: usize = 1000;

/// How long is waited after the first failure, the second, and so on; the last for ever.
const LADDER: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    MAX_PAUSE,
];

const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

const FORMAT: u32 = 1;

/// What has been told, and what is still to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertBook {
    /// The number of this form.
    pub format: u32,
    /// What was told and is not over, by the trouble's key.
    #[serde(default)]
    pub open: BTreeMap<String, OpenAlert>,
    /// Which certificate was held when the status was last seen, to notice renewals.
    #[serde(default)]
    pub held: BTreeMap<CertificateName, Option<Fingerprint>>,
    /// What waits, by the receiver's name.
    #[serde(default)]
    pub queues: BTreeMap<String, Queue>,
}

impl Default for AlertBook {
    fn default() -> Self {
        Self {
            format: FORMAT,
            open: BTreeMap::new(),
            held: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }
}

/// One trouble that was told and is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// When it was first told.
    pub opened_at: Timestamp,
    /// What was told last.
    pub message: Message,
}

/// What waits for one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Oldest first.
    #[serde(default)]
    pub messages: VecDeque<Queued>,
    /// How often the receiver could not be reached, in a row.
    #[serde(default)]
    pub failures: u32,
    /// When the receiver is tried again.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
    /// When an Alertmanager was last told all that is open.
    #[serde(default)]
    pub repeated_at: Option<Timestamp>,
    /// Whether it is told of that messages do not reach the receiver: until all that waits is
    /// taken.
    #[serde(default)]
    pub is_noted: bool,
    /// When what is failing now failed first.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    /// Why it failed last, in words that hold no secret.
    #[serde(default)]
    pub last_error: Option<String>,
    /// How many messages had to make room since what is failing now failed first.
    #[serde(default)]
    pub dropped: u64,
    /// What is too little for the receiver, as last known.
    #[serde(default)]
    pub least: Option<Health>,
    /// The keys of troubles that it was not told of, since their messages had to make room.
    #[serde(default)]
    pub missed: BTreeSet<String>,
}

/// One message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// What is to be told.
    pub message: Message,
    /// How often the receiver refused it.
    #[serde(default)]
    pub refusals: u32,
    /// When it is tried again.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
}

/// A document is no alert book.
#[derive(Debug, thiserror::Error)]
#[error("the record of alerts can't be read, so open troubles are told again")]
pub struct BookError(#[from] serde_json::Error);

impl AlertBook {
    /// Reads what [`AlertBook::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// If the document is damaged.
    pub fn parse(document: &[u8]) -> Result<Self, BookError> {
        Ok(serde_json::from_slice(document)?)
    }

    /// The book as a document.
    ///
    /// # Errors
    ///
    /// None in practice: every part of it can be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BookError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Lets `messages` wait for those receivers in `settings` who want to hear of them, and forgets
    /// the queues of receivers that are no more. Returns how many older messages had to make room,
    /// by receiver.
    pub fn enqueue(
        &mut self,
        messages: &[Message],
        settings: &AlertSettings,
        now: Timestamp,
    ) -> BTreeMap<String, usize> {
        let is_there = |name: &str| settings.receivers.iter().any(|it| it.name == name);
        self.queues.retain(|name, _| settings.is_partial || is_there(name));
        let is_older = |it: &&OpenAlert| it.opened_at < now;
        let older = self.open.values().filter(is_older).map(|it| it.message.dedup_key.as_str());
        let older: BTreeSet<&str> = older.collect();
        for (name, queue) in self.queues.iter_mut().filter(|(name, _)| !is_there(name)) {
            let wanted = messages.iter().filter(|it| !undelivered::is_about(name, &it.dedup_key));
            queue.keep_up(wanted, &older, now);
        }
        let mut dropped = BTreeMap::new();
        for receiver in &settings.receivers {
            let queue = self.queues.entry(receiver.name.clone()).or_default();
            queue.least = Some(receiver.min_severity);
            for message in messages.iter().filter(|it| wants(receiver, it)) {
                queue.push(message.clone());
            }
            let excess = queue.messages.len().saturating_sub(MAX_QUEUE);
            for _ in 0..excess {
                queue.drop_least(now);
            }
            if excess > 0 {
                dropped.insert(receiver.name.clone(), excess);
            }
        }
        dropped
    }

    /// The message that `receiver` is to be told next, if one is due at `now`: the worst, then the
    /// oldest, or what waits longer about the same trouble.
    #[must_use]
    pub fn due(&self, receiver: &str, now: Timestamp) -> Option<&Message> {
        let queue = self.queues.get(receiver).filter(|it| it.may_be_tried(now))?;
        let due = queue.messages.iter().filter(|it| has_come(it.next_attempt_at, now));
        let due: Vec<&Message> = due.map(|it| &it.message).collect();
        let worst = due.iter().map(|it| it.worst()).max()?;
        let mut next = due.iter().position(|it| it.worst() == worst)?;
        while let Some(message) = due.get(next) {
            let about: BTreeSet<&str> = message.keys().collect();
            let is_same = |it: &&Message| it.keys().any(|key| about.contains(key));
            match due.iter().take(next).position(is_same) {
                Some(earlier) => next = earlier,
                None => break,
            }
        }
        due.get(next).copied()
    }

    /// Notes that `receiver` has the messages with `ids`.
    pub fn delivered(&mut self, receiver: &str, ids: &[String]) {
        let Some(queue) = self.queues.get_mut(receiver) else { return };
        queue.messages.retain(|it| !ids.contains(&it.message.id));
        queue.failures = 0;
        queue.next_attempt_at = None;
        let is_well = !queue.is_noted && queue.messages.iter().all(|it| it.refusals == 0);
        if is_well || queue.messages.is_empty() {
            queue.is_noted = false;
            queue.failing_since = None;
            queue.last_error = None;
            queue.dropped = 0;
        }
    }

    /// Notes that `receiver` could not be told the messages with `ids`, and `why`; returns when it
    /// is tried again.
    pub fn failed(
        &mut self,
        receiver: &str,
        ids: &[String],
        whose: Fault,
        why: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let queue = self.queues.get_mut(receiver)?;
        queue.failing_since.get_or_insert(now);
        queue.last_error = Some(why.to_owned());
        let mut next = None;
        for queued in queue.messages.iter_mut().filter(|it| ids.contains(&it.message.id)) {
            if whose == Fault::Message {
                queued.refusals = queued.refusals.saturating_add(1);
                queued.next_attempt_at = Some(now.saturating_add(pause(queued.refusals)));
                next = queued.next_attempt_at;
            }
        }
        queue.drop_stale();
        if whose == Fault::Receiver {
            queue.failures = queue.failures.saturating_add(1);
            queue.next_attempt_at = Some(now.saturating_add(pause(queue.failures)));
            next = queue.next_attempt_at;
        }
        queue.is_noted |= undelivered::is_failing(queue, now);
        next
    }

    /// How long until something of `receiver`'s queue is due; `None` if nothing waits.
    #[must_use]
    pub fn wait(&self, receiver: &str, now: Timestamp) -> Option<Duration> {
        let queue = self.queues.get(receiver)?;
        let until = |moment: Option<Timestamp>| match moment {
            Some(moment) if !has_come(Some(moment), now) => moment.since(now),
            _ => Duration::ZERO,
        };
        let receiver = queue.next_attempt_at.map(|it| until(Some(it)));
        let first = queue.messages.iter().map(|it| until(it.next_attempt_at)).min();
        // A pause of its own without a message is an Alertmanager's, which has all to be repeated.
        first.map(|it| it.max(receiver.unwrap_or_default())).or(receiver)
    }
}

/// On whose side a failed delivery lies, which says what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets through to it now.
    Receiver,
    /// It takes others, and refuses this one.
    Message,
}

impl Queue {
    /// Whether the receiver's pause is over at `now`.
    #[must_use]
    pub fn may_be_tried(&self, now: Timestamp) -> bool {
        has_come(self.next_attempt_at, now)
    }

    /// Lets `message` wait, which says all that was missed of its troubles.
    pub(super) fn push(&mut self, message: Message) {
        for key in message.keys() {
            self.missed.remove(key);
        }
        self.messages.push_back(Queued { message, refusals: 0, next_attempt_at: None });
        self.drop_stale();
    }

    /// Lets go of what was refused and has newer news behind it.
    fn drop_stale(&mut self) {
        if self.messages.iter().all(|it| it.refusals == 0) {
            return;
        }
        let mut ranks = self.ranks().into_iter();
        self.messages.retain(|it| {
            let is_news = ranks.next().is_none_or(|(is_news, ..)| is_news);
            is_news || it.refusals == 0
        });
    }

    /// Notes `messages` for a receiver that is not there now: what began is told when it is there
    /// again, if it is not over; what is news of `older` troubles or ended, if it knows of them.
    fn keep_up<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a Message>,
        older: &BTreeSet<&str>,
        now: Timestamp,
    ) {
        let is_about_trouble = |it: &&Message| it.opens() || it.resolves.is_some();
        let least = self.least;
        let is_enough = |it: &&Message| least.is_none_or(|least| it.worst() >= least);
        for message in messages.filter(is_about_trouble).filter(is_enough) {
            let is_new = message.opens() && !message.troubles().any(|it| older.contains(it));
            let is_missed = message.troubles().all(|it| self.missed.contains(it));
            if is_new || is_missed && message.opens() {
                self.missed.extend(message.troubles().map(str::to_owned));
            } else if is_missed {
                message.troubles().for_each(|it| drop(self.missed.take(it)));
            } else {
                self.push(message.clone());
            }
        }
        while self.messages.len() > MAX_QUEUE {
            self.drop_least(now);
        }
    }

    /// Lets go of what is the least loss.
    fn drop_least(&mut self, now: Timestamp) {
        let least = self.ranks().into_iter().enumerate().min_by_key(|(_, rank)| *rank);
        let Some((position, (is_news, ..))) = least else { return };
        let Some(dropped) = self.messages.remove(position) else { return };
        if !is_news {
            return;
        }
        self.dropped = self.dropped.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.is_noted = true;
        if dropped.message.opens() {
            let behind = self.messages.iter().skip(position);
            let told: BTreeSet<&str> = behind.flat_map(|it| it.message.keys()).collect();
            let missed = dropped.message.troubles().filter(|it| !told.contains(it));
            let missed: Vec<String> = missed.map(str::to_owned).collect();
            self.missed.extend(missed);
        }
    }

    /// What each message is worth: whether nothing newer of the same trouble waits, how bad it is,
    /// and whether it is about an end.
    fn ranks(&self) -> Vec<(bool, Health, bool)> {
        let mut newer = BTreeSet::new();
        let rank = |it: &Queued| {
            let is_news = !it.message.troubles().all(|key| newer.contains(key));
            newer.extend(it.message.troubles().map(str::to_owned));
            (is_news, it.message.worst(), it.message.resolves.is_some())
        };
        let mut ranks: Vec<_> = self.messages.iter().rev().map(rank).collect();
        ranks.reverse();
        ranks
    }
}

pub(super) fn wants(receiver: &ReceiverSettings, message: &Message) -> bool {
    if undelivered::is_about(&receiver.name, &message.dedup_key) {
        return false;
    }
    match message.kind {
        AlertType::CertificateRenewed => receiver.tell_renewed,
        AlertType::AlertTest => true,
        _ => message.worst() >= receiver.min_severity.max(Health::Warning),
    }
}

/// Whether `moment` has come. One that is further away than any pause was written by a clock that
/// has been put back since.
fn has_come(moment: Option<Timestamp>, now: Timestamp) -> bool {
    moment.is_none_or(|it| it <= now || it.since(now) > MAX_PAUSE)
}

fn pause(failures: u32) -> Duration {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    LADDER.get(step).copied().unwrap_or(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
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
        AlertSettings {
            receivers: names.iter().map(receiver).collect(),
            ..AlertSettings::default()
        }
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
        let [mild, known] = [("mild", Health::Warning), ("known", Health::Critical)]
            .map(|(key, it)| keyed(key, 0, it));
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
}
