//! When it is looked at whether a stand-in would issue if it were asked.
//!
//! # Rules
//!
//! 1. once a day, spread by a fifth, so that many certificates do not look together
//! 2. one that would not is looked at again after an hour: it may have been for a moment
//! 3. at once where something else is wanted, or the clock was put back since
//!
//! Not here: looking ([`crate::lifecycle`]).

use std::time::Duration;

use super::backoff::Jitter;
use crate::model::{Fitness, Timestamp};

const INTERVAL: Duration = Duration::from_hours(24);
const UNFIT_INTERVAL: Duration = Duration::from_hours(1);

/// When a stand-in of which this is `known` is looked at for what has the digest `spec`.
#[must_use]
pub fn next_check_at(known: Option<&Fitness>, spec: &str, now: Timestamp) -> Timestamp {
    match known {
        Some(known) if known.spec == spec && known.checked_at <= now => known.next_check_at,
        _ => Timestamp::EPOCH,
    }
}

/// When one that was looked at `now`, and is `fit` or not, is looked at again.
#[must_use]
pub fn after(fit: bool, jitter: Jitter, now: Timestamp) -> Timestamp {
    let interval = if fit { INTERVAL } else { UNFIT_INTERVAL };
    now.saturating_add(interval.mul_f64(0.8 + 0.4 * jitter.share()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hours: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(hours * 3600))
    }

    #[test]
    fn a_fit_one_is_looked_at_daily_and_another_hourly() {
        assert_eq!(after(true, Jitter::NONE, hour(10)), hour(34));
        assert_eq!(after(false, Jitter::NONE, hour(10)), hour(11));
        assert!(after(true, Jitter::new(1.0), hour(10)) < hour(39));
        assert!(after(true, Jitter::new(-1.0), hour(10)) > hour(29));
    }

    #[test]
    fn another_wish_and_a_clock_that_was_put_back_are_looked_at_at_once() {
        let known = Fitness {
            checked_at: hour(10),
            next_check_at: hour(34),
            spec: "a".to_owned(),
            unfit_since: None,
            fault: None,
        };
        assert_eq!(next_check_at(Some(&known), "a", hour(10)), hour(34));
        assert_eq!(next_check_at(Some(&known), "b", hour(10)), Timestamp::EPOCH);
        assert_eq!(next_check_at(Some(&known), "a", hour(9)), Timestamp::EPOCH);
        assert_eq!(next_check_at(None, "a", hour(10)), Timestamp::EPOCH);
    }
}
