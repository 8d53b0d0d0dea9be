//! Who did not answer a moment ago, so that ten thousand certificates do not wait for them one
//! after the other, in slots that others need.
//!
//! Only of questions that nothing hangs on: a renewal asks its CA by its own pauses.
//!
//! Not here: how long an answer is waited for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What is remembered of those who were silent, each until a moment of the monotonic clock.
#[derive(Debug, Default)]
pub struct Silences(Mutex<HashMap<String, Duration>>);

impl Silences {
    /// Whether `whom` need not be asked at `now`.
    pub(super) fn has(&self, whom: &str, now: Duration) -> bool {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(whom).is_some_and(|until| *until > now)
    }

    /// Notes that `whom` was silent, and for how long after `now` nobody asks again.
    pub(super) fn note(&self, whom: &str, now: Duration, span: Duration) {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, until| *until > now);
        silent.insert(whom.to_owned(), now.saturating_add(span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_was_silent_is_asked_again_after_a_while_and_all_others_at_once() {
        let silences = Silences::default();
        silences.note("lab", 10 * SECOND, 5 * SECOND);
        assert!(silences.has("lab", 14 * SECOND) && !silences.has("other", 14 * SECOND));
        assert!(!silences.has("lab", 15 * SECOND));
        silences.note("other", 20 * SECOND, SECOND);
        assert_eq!(silences.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
