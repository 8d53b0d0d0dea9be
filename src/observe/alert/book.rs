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

use std::collections::btree_map::Entry;
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

    /// Adds what is told, held and waits by `other`, which was kept beside this one and is newer.
    pub(super) fn take_in(&mut self, other: Self) {
        for (key, alert) in other.open {
            let known = self.open.entry(key).or_insert_with(|| alert.clone());
            if known.message.severity < alert.message.severity {
                known.message = alert.message;
            }
        }
        self.held.extend(other.held);
        for (receiver, queue) in other.queues {
            match self.queues.entry(receiver) {
                Entry::Vacant(free) => {
                    free.insert(queue);
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    queue.messages.into_iter().for_each(|it| known.push(it.message));
                    known.missed.extend(queue.missed);
                }
            }
        }
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
mod tests;
