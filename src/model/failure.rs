//! What went wrong, in the form that outlives the process: for status, alerts and backing off.
//!
//! Each module has typed errors of its own; at the edge of `lifecycle` they become this.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What the scheduler should do after a failure; the only thing it needs to know of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again by the ladder.
    BackOff,
    /// The CA said how long to wait: not before then, whoever asks.
    NotBefore(Timestamp),
    /// Nothing will change until a human changes something; tried again once a day all the same.
    AfterChange,
}

/// One failure as kept on disk and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// A stable word for programs, such as `acme.rate_limited`.
    pub code: String,
    /// The error and its causes, in one line.
    pub message: String,
    /// What a human can do.
    #[serde(default)]
    pub hint: Option<String>,
}

/// An error that knows what it is called and what follows from it.
pub trait Explain: Error {
    /// A stable word for programs: `area.what`.
    fn code(&self) -> &'static str;
    /// When to try again.
    fn retry(&self) -> Retry;
    /// What a human can do, if anything.
    fn hint(&self) -> Option<String>;

    /// This error as it is kept.
    fn failure(&self, now: Timestamp) -> Failure
    where
        Self: Sized,
    {
        let message = chain_text(self);
        Failure { at: now, code: self.code().to_owned(), message, hint: self.hint() }
    }
}

/// `error` and all its sources as one line, control characters escaped: messages may carry what a
/// CA or a program sent.
#[must_use]
pub fn chain_text(error: &dyn Error) -> String {
    let mut text = escaped(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = escaped(&cause.to_string());
        // Libraries often print their source too: what has been said is not said again.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `text` in one line, control characters escaped and bidirectional marks dropped.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => safe.push(' '),
            it if it.is_control() => safe.extend(it.escape_default()),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            it => safe.push(it),
        }
    }
    safe
}

/// How often something failed, and when it is tried again. Kept on disk, so that neither a restart
/// nor a supervisor's loop asks a CA more often than the ladder says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// The first of them.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// The last of them.
    #[serde(default)]
    pub last: Option<Failure>,
    /// When the ladder allows the next try.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
    /// Until when a try was held back that nothing spoke against before it began.
    #[serde(default)]
    pub held_until: Option<Timestamp>,
    /// When the CA allows the next try, whoever asks for it.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Whether only a change by a human is expected to help.
    #[serde(default)]
    pub needs_change: bool,
}

/// A failure that seems to lie no further in the future says nothing of the clock that noted it.
const MAX_STEP: Duration = Duration::from_secs(5 * 60);

/// No try is held back for longer without a look whether it still has to be.
const LONGEST_HOLD: Duration = Duration::from_secs(10 * 60);

impl Attempts {
    /// Until when the ladder, or what held the last one back, has a try at `now` wait; `None` if
    /// neither does.
    #[must_use]
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        let ladder = self.next_attempt_at.filter(|it| self.heeds(*it, now));
        // One that is further away was noted by a clock that has been put right since.
        let latest = now.saturating_add(LONGEST_HOLD);
        ladder.max(self.held_until.filter(|it| now < *it && *it <= latest))
    }

    /// Notes that a try at `now` was held back until `until`, which is no failure.
    pub fn hold(&mut self, now: Timestamp, until: Timestamp) {
        self.held_until = Some(until.min(now.saturating_add(LONGEST_HOLD)));
    }

    /// Until when the CA forbids a try at `now`, whoever asks for it; `None` if it does not.
    #[must_use]
    pub fn forbidden_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|it| self.heeds(*it, now))
    }

    /// Whether a wait until `until` counts at `now`. Where the failure that it was noted at lies in
    /// the future, the clock was ahead then, and has been put right since. A wait that is not
    /// shorter than that step still counts, and becomes twice as long at most: all that fail are
    /// not to ask at once, nor against the CA's word, since the clock was in local time until NTP
    /// mended it. Any other would come hours late, or years, so it counts for nothing.
    fn heeds(&self, until: Timestamp, now: Timestamp) -> bool {
        let noted_at = self.last.as_ref().map_or(now, |it| it.at);
        let wait = until.since(noted_at);
        now < until && noted_at.since(now) <= wait.max(MAX_STEP)
    }

    /// Notes a failure; the next try comes after `pause` (the ladder's), or when `retry` says.
    pub fn fail(&mut self, failure: Failure, retry: Retry, pause: Duration) {
        let now = failure.at;
        // A word that does not count any more must not come back with the time of this failure.
        self.not_before = self.forbidden_until(now);
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        self.needs_change = retry == Retry::AfterChange;
        let by_ladder = now.saturating_add(pause);
        self.next_attempt_at = Some(match retry {
            Retry::NotBefore(moment) => {
                self.not_before = Some(moment);
                by_ladder.max(moment)
            }
            Retry::BackOff | Retry::AfterChange => by_ladder,
        });
        self.last = Some(failure);
    }

    /// Counts from nothing again, for what is tried is another thing by now; that there is trouble,
    /// and since when, is still so.
    pub fn begin_anew(&mut self) {
        *self = Self { since: self.since, ..Self::default() };
    }

    /// Notes a success: nothing is left of the failures before it.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: u64) -> Failure {
        let at = Timestamp::EPOCH.saturating_add(Duration::from_secs(at));
        Failure { at, code: "test.failed".into(), message: "failed".into(), hint: None }
    }

    #[test]
    fn what_begins_anew_counts_from_nothing_and_has_been_in_trouble_for_as_long() {
        let mut attempts = Attempts::default();
        attempts.fail(failure(10), Retry::AfterChange, Duration::from_secs(60));
        attempts.begin_anew();
        assert_eq!((attempts.failures, attempts.next_attempt_at), (0, None));
        attempts.fail(failure(100), Retry::BackOff, Duration::from_secs(60));
        assert_eq!(attempts.failures, 1);
        assert_eq!(attempts.since, Some(Timestamp::from_unix_seconds(10)));
    }

    #[test]
    fn failures_count_up_and_a_success_forgets_them() {
        let mut attempts = Attempts::default();
        attempts.fail(failure(10), Retry::BackOff, Duration::from_secs(60));
        attempts.fail(failure(100), Retry::AfterChange, Duration::from_secs(600));
        assert_eq!((attempts.failures, attempts.needs_change), (2, true));
        assert_eq!(attempts.since, Some(Timestamp::from_unix_seconds(10)));
        assert_eq!(attempts.next_attempt_at, Some(Timestamp::from_unix_seconds(700)));
        attempts.succeed();
        assert_eq!(attempts, Attempts::default());
    }

    #[test]
    fn the_cas_word_holds_even_where_the_ladder_is_shorter() {
        let mut attempts = Attempts::default();
        let until = Timestamp::from_unix_seconds(5000);
        attempts.fail(failure(0), Retry::NotBefore(until), Duration::from_secs(60));
        assert_eq!((attempts.next_attempt_at, attempts.not_before), (Some(until), Some(until)));
    }

    /// T02: the clock was ahead, by up to the wait itself or by more.
    #[test]
    fn a_wait_that_a_wrong_clock_began_ends_when_it_is_put_right() {
        let at = Timestamp::from_unix_seconds;
        let waits = |attempts: &Attempts, now| {
            (attempts.waits_until(at(now)), attempts.forbidden_until(at(now)))
        };
        let mut attempts = Attempts::default();
        attempts.fail(failure(10_000), Retry::NotBefore(at(14_000)), Duration::from_secs(60));
        let both = (Some(at(14_000)), Some(at(14_000)));
        for now in [10_000, 9_700, 6_400, 6_000] {
            assert_eq!(waits(&attempts, now), both, "at {now}");
        }
        assert_eq!(
            waits(&attempts, 5_999),
            (None, None),
            "no wait becomes more than twice as long"
        );
        assert_eq!(waits(&attempts, 14_000), (None, None));

        // A short pause of our own: what it may be late by is a small step, and no more.
        let mut attempts = Attempts::default();
        attempts.fail(failure(10_000), Retry::BackOff, Duration::from_secs(60));
        assert_eq!(waits(&attempts, 9_700), (Some(at(10_060)), None));
        assert_eq!(waits(&attempts, 9_699), (None, None));
    }

    /// T01: what a clock noted that was far ahead is not heeded after a later failure either.
    #[test]
    fn a_word_that_a_wrong_clock_noted_does_not_come_back() {
        let at = Timestamp::from_unix_seconds;
        for ahead in [3 * 86_400, 10 * 366 * 86_400] {
            let mut attempts = Attempts::default();
            let first = failure(1000 + ahead);
            let said = Retry::NotBefore(first.at.saturating_add(Duration::from_hours(2)));
            attempts.fail(first, said, Duration::from_secs(60));
            assert_eq!(attempts.forbidden_until(at(1000)), None, "{ahead}");
            attempts.fail(failure(1000), Retry::BackOff, Duration::from_secs(60));
            assert_eq!(attempts.forbidden_until(at(1001)), None, "{ahead}");
            assert_eq!(attempts.waits_until(at(1001)), Some(at(1060)), "{ahead}");
        }
    }

    #[test]
    fn what_strangers_sent_can_not_write_to_a_terminal() {
        assert_eq!(escaped("a\x1b[31m\nb\u{202e}c"), "a\\u{1b}[31m bc");
    }

    #[test]
    fn a_count_of_failures_that_is_full_stays_full() {
        let mut attempts = Attempts { failures: u32::MAX - 1, ..Attempts::default() };
        for at in [10, 20, 30] {
            attempts.fail(failure(at), Retry::BackOff, Duration::from_secs(60));
        }
        assert_eq!(attempts.failures, u32::MAX);
        assert_eq!(attempts.next_attempt_at, Some(Timestamp::from_unix_seconds(90)));
    }

    #[test]
    fn what_is_held_back_waits_a_little_and_never_for_a_clock_that_was_wrong() {
        let at = Timestamp::from_unix_seconds;
        let mut attempts = Attempts::default();
        attempts.hold(at(1000), at(1030));
        assert_eq!((attempts.waits_until(at(1000)), attempts.failures), (Some(at(1030)), 0));
        assert_eq!(attempts.waits_until(at(1030)), None);
        attempts.hold(at(1000), at(1_000_000));
        assert_eq!(attempts.waits_until(at(1000)), Some(at(1600)));
        assert_eq!(attempts.waits_until(at(900)), None);
        assert_eq!(attempts.forbidden_until(at(1000)), None);
    }
}
