//! How long to wait between two looks at an order, purely.
//!
//! The CA's Retry-After is followed; without one it is 1, 2, 4 … 30 seconds. What does not fit
//! into the time that is left is not waited for.
//!
//! Not here: the looking ([`super::order`]).

use std::time::Duration;

/// The longest wait between two looks, where the CA names none.
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// A row of looks that ends.
#[derive(Debug)]
pub(super) struct Polling {
    deadline: Duration,
    interval: Duration,
}

impl Polling {
    /// Looks until `limit` after `now`, a moment of [`crate::sys::clock::Clock::monotonic`].
    pub(super) const fn new(now: Duration, limit: Duration) -> Self {
        Self { deadline: now.saturating_add(limit), interval: Duration::from_secs(1) }
    }

    /// How long to wait at `now` before the next look, where the CA asked for `retry_after`;
    /// `None` if there is no time for another.
    pub(super) fn next(
        &mut self,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let left = self.deadline.saturating_sub(now);
        let wait = match retry_after {
            // To ask earlier than the CA wants would be rude, and later there is no time.
            Some(wait) if wait > left => return None,
            Some(wait) => wait,
            None => self.interval.min(left),
        };
        self.interval = self.interval.saturating_mul(2).min(MAX_INTERVAL);
        (!left.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn without_a_word_of_the_ca_the_waits_grow_to_30_seconds_and_end_at_the_limit() {
        let mut polling = Polling::new(seconds(100), seconds(100));
        let mut now = seconds(100);
        let mut waits = Vec::new();
        while let Some(wait) = polling.next(now, None) {
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 9]);
    }

    #[test]
    fn the_cas_word_is_followed_unless_there_is_no_time_for_it() {
        let mut polling = Polling::new(seconds(0), seconds(60));
        assert_eq!(polling.next(seconds(0), Some(seconds(5))), Some(seconds(5)));
        assert_eq!(polling.next(seconds(5), Some(seconds(55))), Some(seconds(55)));
        assert_eq!(polling.next(seconds(5), Some(seconds(56))), None);
        assert_eq!(polling.next(seconds(61), None), None);
    }
}
