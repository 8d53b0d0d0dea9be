//! Whom messages do not reach, and that the record of what was told can't be kept: said in the
//! status, and so to every other receiver, for the log alone is read by nobody who waits for an
//! alert, or for a heartbeat.
//!
//! # Rules
//!
//! - It is said of a receiver that failed [`PATIENCE`] times in a row or for [`LONG`], refused one
//!   message as often, or did so badly that messages were dropped; until it has taken all that
//!   waits. With less than that, one which takes a message now and then would be told of again and
//!   again.
//! - The words name the receiver and hold no URL, and nothing that a program printed.
//! - Each receiver is a trouble of its own, whatever else the words come to say of it.
//!
//! # Not here
//!
//! When it is tried again ([`super::book`]).

use std::time::Duration;

use crate::model::{Health, Notice, Timestamp};
use crate::observe::ReceiverSettings;

use super::book::{AlertBook, Queue};
use super::message::AlertType;
use super::wording;

/// The code of the notice that messages do not reach a receiver.
pub const ALERTS_UNDELIVERED: &str = "agent.alerts_undelivered";

/// The code of the notice that the record of alerts can't be kept.
pub const ALERTS_UNKEPT: &str = "agent.alerts_unkept";

/// How many failures in a row are worth telling.
pub(super) const PATIENCE: u32 = 3;

const HINT: &str = "see the log for more, put the receiver right, then try it: renewd alert test; \
    what waits is sent within an hour";

/// What helps where the record can't be read or written.
pub(super) const UNKEPT_HINT: &str = "make the state directory readable and writable for renewd, \
    with room on the disk; until then no heartbeat is sent, and the next start tells again what is \
    open";

/// For how long something may fail before that is worth telling, however seldom it was tried.
const LONG: Duration = Duration::from_hours(1);

/// Begins the part of the words that says who it is about.
const SUBJECT_BEGINS: &str = "alerts for ";

/// Ends the part of the words that says who it is about.
const SUBJECT_ENDS: &str = " do not arrive";

impl AlertBook {
    /// A notice for each of `receivers` whom messages do not reach.
    #[must_use]
    pub fn undelivered(&self, receivers: &[ReceiverSettings]) -> Vec<Notice> {
        let of_one = |receiver: &ReceiverSettings| {
            let queue = self.queues.get(&receiver.name).filter(|it| it.is_noted)?;
            let since = queue.failing_since?;
            let why = queue.last_error.as_deref().unwrap_or("too many at once");
            let mut message = format!(
                "{}{SUBJECT_ENDS}: {why}; since {since}, {} wait",
                subject_of(&receiver.name),
                queue.messages.len()
            );
            if queue.dropped > 0 {
                message.push_str(&format!(", {} made room for others", queue.dropped));
            }
            Some(Notice {
                code: ALERTS_UNDELIVERED.to_owned(),
                health: Health::Warning,
                message,
                since,
                hint: Some(HINT.to_owned()),
            })
        };
        receivers.iter().filter_map(of_one).collect()
    }
}

/// That the record can't be kept at `now`, and why.
pub(super) fn unkept(why: &str, now: Timestamp) -> Notice {
    Notice {
        code: ALERTS_UNKEPT.to_owned(),
        health: Health::Warning,
        message: format!("the record of alerts can't be kept: {why}"),
        since: now,
        hint: Some(UNKEPT_HINT.to_owned()),
    }
}

/// Whether that messages do not reach the receiver of `queue` is worth telling at `now`.
pub(super) fn is_failing(queue: &Queue, now: Timestamp) -> bool {
    queue.failures >= PATIENCE
        || queue.dropped > 0
        || queue.failing_since.is_some_and(|it| now.since(it) >= LONG)
        || queue.messages.iter().any(|it| it.refusals >= PATIENCE)
}

/// Whether a trouble with `key` is that messages do not reach `receiver`.
pub(super) fn is_about(receiver: &str, key: &str) -> bool {
    key.ends_with(&format!("/{}/{}", AlertType::AgentDegraded, cause_for(receiver)))
}

/// What the key of that trouble ends with.
pub(super) fn cause_for(receiver: &str) -> String {
    wording::cause(ALERTS_UNDELIVERED, &subject_of(receiver))
}

/// Whether a trouble with `key` is that messages do not reach some receiver.
pub(super) fn is_of_any(key: &str) -> bool {
    key.contains(&format!("/{}/{ALERTS_UNDELIVERED}-", AlertType::AgentDegraded))
}

fn subject_of(receiver: &str) -> String {
    format!("{SUBJECT_BEGINS}{receiver}")
}

/// Whom a notice with this message is about.
pub(super) fn subject(message: &str) -> &str {
    message.split_once(SUBJECT_ENDS).map_or(message, |(subject, _)| subject)
}
