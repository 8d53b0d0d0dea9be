//! What has been told, and what is still to be delivered to whom: one JSON document, kept by the
//! [`crate::model::Outbox`], so that a restart neither repeats nor forgets a message.
//!
//! # Rules
//!
//! - A receiver that could not be reached waits as a whole: 5 s, 30 s, 2 min, 10 min, then an hour.
//! - A message that its receiver refused for its content waits alone by the same ladder; others go
//!   on.
//! - A queue holds at most [`MAX_QUEUE`] messages; the oldest of the least severe makes room.
//!
//! # Not here
//!
//! What is told ([`super::reconcile()`]), and the network ([`super::deliver`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{CertificateName, Fingerprint, Health, Timestamp};
use crate::observe::ReceiverSettings;

use super::message::{AlertType, Message};

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
}

/// One message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// What is to be told.
    pub message: Message,
    /// How often that was tried.
    #[serde(default)]
    pub attempts: u32,
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

    /// Lets `messages` wait for those of `receivers` who want to hear of them, and forgets the
    /// queues of receivers that are no more. Returns how many older messages had to make room, by
    /// receiver.
    pub fn enqueue(
        &mut self,
        messages: &[Message],
        receivers: &[ReceiverSettings],
    ) -> BTreeMap<String, usize> {
        self.queues.retain(|name, _| receivers.iter().any(|it| it.name == *name));
        let mut dropped = BTreeMap::new();
        for receiver in receivers {
            let queue = self.queues.entry(receiver.name.clone()).or_default();
            let wanted = messages.iter().filter(|it| wants(receiver, it));
            queue.messages.extend(wanted.map(|message| Queued {
                message: message.clone(),
                attempts: 0,
                next_attempt_at: None,
            }));
            let excess = queue.messages.len().saturating_sub(MAX_QUEUE);
            for _ in 0..excess {
                queue.drop_least();
            }
            if excess > 0 {
                dropped.insert(receiver.name.clone(), excess);
            }
        }
        dropped
    }

    /// The message that `receiver` is to be told next, if one is due at `now`.
    #[must_use]
    pub fn due(&self, receiver: &str, now: Timestamp) -> Option<&Message> {
        let queue = self.queues.get(receiver).filter(|it| it.may_be_tried(now))?;
        let due = queue.messages.iter().find(|it| has_come(it.next_attempt_at, now))?;
        Some(&due.message)
    }

    /// Notes that `receiver` has the messages with `ids`.
    pub fn delivered(&mut self, receiver: &str, ids: &[String]) {
        if let Some(queue) = self.queues.get_mut(receiver) {
            queue.messages.retain(|it| !ids.contains(&it.message.id));
            queue.failures = 0;
            queue.next_attempt_at = None;
        }
    }

    /// Notes that `receiver` could not be told the messages with `ids`; returns when it is tried
    /// again.
    pub fn failed(
        &mut self,
        receiver: &str,
        ids: &[String],
        whose: Fault,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let queue = self.queues.get_mut(receiver)?;
        let mut next = None;
        for queued in queue.messages.iter_mut().filter(|it| ids.contains(&it.message.id)) {
            queued.attempts = queued.attempts.saturating_add(1);
            if whose == Fault::Message {
                queued.next_attempt_at = Some(now.saturating_add(pause(queued.attempts)));
                next = queued.next_attempt_at;
            }
        }
        if whose == Fault::Receiver {
            queue.failures = queue.failures.saturating_add(1);
            queue.next_attempt_at = Some(now.saturating_add(pause(queue.failures)));
            next = queue.next_attempt_at;
        }
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

    fn drop_least(&mut self) {
        let least = self.messages.iter().map(|it| it.message.worst()).min();
        let position = self.messages.iter().position(|it| Some(it.message.worst()) == least);
        if let Some(position) = position {
            self.messages.remove(position);
        }
    }
}

fn wants(receiver: &ReceiverSettings, message: &Message) -> bool {
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
    use super::*;
    use crate::model::Secret;
    use crate::observe::Channel;

    fn receivers(names: &[&str]) -> Vec<ReceiverSettings> {
        let receiver = |name: &&str| ReceiverSettings {
            name: (*name).to_owned(),
            channel: Channel::Webhook { url: Secret::new("https://a/".into()), secret: None },
            min_severity: Health::Warning,
            tell_renewed: false,
        };
        names.iter().map(receiver).collect()
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
        assert!(book.enqueue(&messages, &all).is_empty());
        let dropped = book.enqueue(&[message(MAX_QUEUE, Health::Critical)], &all);
        assert_eq!(dropped.get("a"), Some(&1));
        let queue = &book.queues["a"].messages;
        let titles: Vec<&str> = queue.iter().map(|it| it.message.title.as_str()).collect();
        assert_eq!(titles.len(), MAX_QUEUE);
        assert_eq!(titles[..2], ["number 0", "number 2"]);
    }

    #[test]
    fn the_pauses_grow_to_an_hour_and_stay_there() {
        let mut book = AlertBook::default();
        book.enqueue(&[message(0, Health::Warning)], &receivers(&["a"]));
        let now = Timestamp::from_unix_seconds(1_000_000);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let next = book.failed("a", &[], Fault::Receiver, now).unwrap();
            pauses.push(next.since(now).as_secs());
        }
        assert_eq!(pauses, [5, 30, 120, 600, 3600, 3600]);
        assert_eq!(pause(u32::MAX), MAX_PAUSE);
    }

    #[test]
    fn a_pause_that_a_wrong_clock_wrote_holds_nothing_up() {
        let mut book = AlertBook::default();
        book.enqueue(&[message(0, Health::Warning)], &receivers(&["a"]));
        let wrong = Timestamp::from_unix_seconds(9_000_000);
        book.failed("a", &[], Fault::Receiver, wrong);
        assert!(book.due("a", wrong).is_none());
        assert!(book.due("a", Timestamp::from_unix_seconds(1_000_000)).is_some());
        assert_eq!(book.wait("a", Timestamp::EPOCH), Some(Duration::ZERO));
    }

    #[test]
    fn the_queue_of_a_receiver_that_is_no_more_is_forgotten() {
        let mut book = AlertBook::default();
        book.enqueue(&[message(0, Health::Warning)], &receivers(&["a", "b"]));
        book.enqueue(&[], &receivers(&["b"]));
        assert_eq!(book.queues.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_book_of_an_older_version_is_read() {
        let book = AlertBook::parse(br#"{"format":1,"later":"field"}"#).unwrap();
        assert_eq!(book, AlertBook::default());
        assert!(AlertBook::parse(b"\0\0").is_err());
    }
}
