//! Decides whether the clock can be believed.
//!
//! # Rules
//!
//! 1. While the machine runs, the clock may go on by as much as the machine has run (asleep or
//!    awake) since the clock was last known to be right, give or take five minutes.
//! 2. After another start of the machine nobody knows how long it was off: a day more is believed,
//!    and nothing before the last moment that is known.
//! 3. One that was never known to be right is believed.
//! 4. A clock that is not believed is compared with the CA's. If they agree, it is right from then
//!    on. If not, renewals that are due by it and not by the CA's wait ([`super::decide_renewal`]),
//!    but for the first few: the CA's may be the one that is wrong.
//! 5. A CA's clock alone, without a jump of ours, changes nothing but what is told.
//!
//! # Not here
//!
//! Asking the CA ([`crate::lifecycle`]).

use std::time::Duration;

use crate::model::{ClockRecord, Timestamp, Uptime};

/// Clocks that differ by no more agree.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// A machine that was off is believed to have been so for so long.
const OFF: Duration = Duration::from_secs(86_400);
/// The moment that is known to be right is written down again after this.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// So many renewals are let pass while the clock is in doubt.
const LET_PASS: u32 = 3;

/// How the clock stands to what was known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be believed.
    Steady,
    /// It is ahead of what it should be.
    Ahead,
    /// It is behind what it should be.
    Behind,
}

/// How a clock that says `now` stands to `record`, when the machine has run for `uptime`.
#[must_use]
pub fn standing(record: Option<&ClockRecord>, now: Timestamp, uptime: &Uptime) -> Standing {
    let Some(record) = record else { return Standing::Steady };
    let has_run = Duration::from_millis(record.elapsed_ms);
    let same_start = uptime.boot.is_some() && uptime.boot == record.boot;
    let (least, most) = match uptime.elapsed.checked_sub(has_run).filter(|_| same_start) {
        Some(since) => (since, since),
        None => (Duration::ZERO, OFF),
    };
    let earliest = record.right_at.saturating_add(least).saturating_sub(TOLERANCE);
    let latest = record.right_at.saturating_add(most).saturating_add(TOLERANCE);
    if now < earliest {
        Standing::Behind
    } else if now > latest {
        Standing::Ahead
    } else {
        Standing::Steady
    }
}

/// Whether it is time to write down that the clock is right.
#[must_use]
pub fn is_to_be_noted(record: Option<&ClockRecord>, now: Timestamp, uptime: &Uptime) -> bool {
    standing(record, now, uptime) == Standing::Steady
        && record.is_none_or(|it| now.since(it.right_at) >= NOTED_EVERY)
}

/// Whether two clocks agree.
#[must_use]
pub fn agree(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) <= TOLERANCE
}

/// Whether one more renewal is let pass while the clock is in doubt.
#[must_use]
pub fn lets_pass(record: Option<&ClockRecord>) -> bool {
    record.is_none_or(|it| it.passed < LET_PASS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(1_700_000_000 + seconds))
    }

    fn uptime(boot: &str, seconds: u64) -> Uptime {
        Uptime { boot: Some(boot.to_owned()), elapsed: Duration::from_secs(seconds) }
    }

    /// Right at 0, when the machine `a` had run for 100 seconds.
    fn known() -> ClockRecord {
        ClockRecord::right(at(0), &uptime("a", 100))
    }

    #[track_caller]
    fn check(now: Timestamp, uptime: &Uptime, expected: Standing) {
        assert_eq!(standing(Some(&known()), now, uptime), expected);
    }

    /// T01, T02: a step is seen in either direction, however far, and nothing else is one.
    #[test]
    fn a_clock_that_steps_while_the_machine_runs_is_not_believed() {
        let a_minute_later = uptime("a", 160);
        check(at(60), &a_minute_later, Standing::Steady);
        check(at(360), &a_minute_later, Standing::Steady);
        check(at(361), &a_minute_later, Standing::Ahead);
        check(at(3650 * DAY), &a_minute_later, Standing::Ahead);
        check(at(0).saturating_sub(Duration::from_secs(240)), &a_minute_later, Standing::Steady);
        check(at(0).saturating_sub(Duration::from_secs(241)), &a_minute_later, Standing::Behind);
        check(Timestamp::EPOCH, &a_minute_later, Standing::Behind);
        assert_eq!(standing(None, Timestamp::MAX, &a_minute_later), Standing::Steady);
    }

    /// T04: a machine that slept for 20 days has run for as long, and its clock is right.
    #[test]
    fn a_machine_that_slept_has_a_clock_that_is_believed() {
        check(at(20 * DAY), &uptime("a", 20 * DAY + 100), Standing::Steady);
    }

    #[test]
    fn after_another_start_a_day_more_is_believed_and_nothing_before() {
        for other in [uptime("b", 5), uptime("a", 5), Uptime::default()] {
            check(at(DAY), &other, Standing::Steady);
            check(at(DAY + 301), &other, Standing::Ahead);
            check(at(0).saturating_sub(Duration::from_secs(301)), &other, Standing::Behind);
        }
    }

    #[test]
    fn what_is_right_is_written_down_every_hour_and_what_is_not_never() {
        let noted = |now, uptime: &Uptime| is_to_be_noted(Some(&known()), now, uptime);
        assert!(!noted(at(3599), &uptime("a", 3699)));
        assert!(noted(at(3600), &uptime("a", 3700)));
        assert!(!noted(at(3600), &uptime("a", 160)));
        assert!(is_to_be_noted(None, at(0), &uptime("a", 0)));
    }

    #[test]
    fn three_renewals_are_let_pass() {
        let passed = |passed| lets_pass(Some(&ClockRecord { passed, ..known() }));
        assert_eq!([0, 2, 3, u32::MAX].map(passed), [true, true, false, false]);
        assert!(lets_pass(None));
    }

    proptest! {
        /// T03: no second too much or too little (leap seconds), and no hour of summer, is a step;
        /// and no number panics.
        #[test]
        fn nothing_that_a_file_or_a_clock_says_panics(
            now in any::<u64>(), right in any::<u64>(), elapsed_ms in any::<u64>(), ran in any::<u64>(),
        ) {
            let moment = |it: u64| Timestamp::EPOCH.saturating_add(Duration::from_millis(it));
            let boot = Some("a".to_owned());
            let record =
                ClockRecord { right_at: moment(right), boot: boot.clone(), elapsed_ms, passed: 0 };
            let uptime = Uptime { boot, elapsed: Duration::from_millis(ran) };
            let found = standing(Some(&record), moment(now), &uptime);
            prop_assert_eq!(found, standing(Some(&record), moment(now), &uptime));
            let later = Uptime { elapsed: uptime.elapsed.saturating_add(TOLERANCE), ..uptime };
            let right = ClockRecord::right(moment(right), &uptime_of(&later));
            prop_assert_eq!(standing(Some(&right), right.right_at, &later), Standing::Steady);
        }
    }

    fn uptime_of(uptime: &Uptime) -> Uptime {
        uptime.clone()
    }
}
