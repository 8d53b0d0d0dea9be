//! Whom messages do not reach: said in the status, and so to every other receiver, for the log alone
//! is read by nobody who waits for an alert.
//!
//! # Rules
//!
//! - It is said of a receiver that failed [`PATIENCE`] times in a row, refused one message as often,
//!   or did so badly that messages were dropped; until it takes one again.
//! - The words name the receiver and hold no URL, and nothing that a program printed.
//! - Each receiver is a trouble of its own, whatever else the words come to say of it.
//!
//! # Not here
//!
//! When it is tried again ([`super::book`]).

use crate::model::{Health, Notice};
use crate::observe::ReceiverSettings;

use super::book::{AlertBook, Queue};

/// The code of the notice that messages do not reach a receiver.
pub const ALERTS_UNDELIVERED: &str = "agent.alerts_undelivered";

/// How many failures in a row are worth telling.
pub(super) const PATIENCE: u32 = 3;

const HINT: &str = "see the log for more, put the receiver right, then try it: renewd alert test; \
    what waits is sent within an hour";

/// Ends the part of the words that says who it is about.
const SUBJECT_ENDS: &str = " do not arrive";

impl AlertBook {
    /// A notice for each of `receivers` whom messages do not reach.
    #[must_use]
    pub fn undelivered(&self, receivers: &[ReceiverSettings]) -> Vec<Notice> {
        let of_one = |receiver: &ReceiverSettings| {
            let queue = self.queues.get(&receiver.name).filter(|it| is_failing(it))?;
            let since = queue.failing_since?;
            let why = queue.last_error.as_deref().unwrap_or("too many at once");
            let mut message = format!(
                "alerts for {}{SUBJECT_ENDS}: {why}; since {since}, {} wait",
                receiver.name,
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

fn is_failing(queue: &Queue) -> bool {
    queue.failures >= PATIENCE
        || queue.dropped > 0
        || queue.messages.iter().any(|it| it.next_attempt_at.is_some() && it.attempts >= PATIENCE)
}

/// Whom a notice with this message is about.
pub(super) fn subject(message: &str) -> &str {
    message.split_once(SUBJECT_ENDS).map_or(message, |(subject, _)| subject)
}
