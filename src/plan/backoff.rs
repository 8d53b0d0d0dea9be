//! How long to wait after a failure: two ladders, one for each side.
//!
//! # Rules
//!
//! 1. Failures of the CA's side wait 1 min, 10 min, 100 min, then a day (what Let's Encrypt asks of
//!    clients), but never more than a tenth of the life that is left, and at least 10 s.
//! 2. A certificate that is missing or has expired has no life left to hurry for: the plain ladder.
//! 3. Local failures (reload, port, disk) wait 5 s, 30 s, 2 min, then 5 min for ever: nobody but
//!    the operator's own machine is asked.
//! 4. Both are spread by ±20 %, local ones to no more than 5 min 30 s; and no number of failures
//!    makes a pause of zero (CVE-2025-55753 was a counter that overflowed to one).

use std::time::Duration;

const CA_LADDER: [Duration; 4] = [minutes(1), minutes(10), minutes(100), minutes(24 * 60)];
const LOCAL_LADDER: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), minutes(2), minutes(5)];
/// A server that was mended serves the new certificate within six minutes without being told: this
/// pause, and the time that a reload and its proof take.
const LONGEST_LOCAL: Duration = Duration::from_secs(330);
const SHORTEST: Duration = Duration::from_secs(10);
/// A pause takes at most this part of the life that is left.
const LIFE_PART: u32 = 10;
/// The part of a pause that [`Jitter`] can add or take.
const SPREAD: f64 = 0.2;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A random number from -1 to 1, made by the caller: decisions make no randomness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No spread.
    pub const NONE: Self = Self(0.0);

    /// From any number; cut to -1 to 1, and what is no number is none.
    #[must_use]
    pub fn new(value: f64) -> Self {
        if value.is_nan() { Self::NONE } else { Self(value.clamp(-1.0, 1.0)) }
    }

    /// The same as a share of a whole, from 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        (self.0 + 1.0) / 2.0
    }

    fn spread(self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + SPREAD * self.0)
    }
}

/// The pause after the `failures`th failure in a row on the CA's side.
#[must_use]
pub fn after_ca_failure(failures: u32, life_left: Option<Duration>, jitter: Jitter) -> Duration {
    let step = rung(&CA_LADDER, failures);
    let pause = match life_left {
        Some(left) if !left.is_zero() => step.min(SHORTEST.max(left / LIFE_PART)),
        _ => step,
    };
    jitter.spread(pause)
}

/// The pause after the `failures`th failure in a row on our side.
#[must_use]
pub fn after_local_failure(failures: u32, jitter: Jitter) -> Duration {
    jitter.spread(rung(&LOCAL_LADDER, failures)).min(LONGEST_LOCAL)
}

fn rung(ladder: &[Duration], failures: u32) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    ladder.get(index).or_else(|| ladder.last()).copied().unwrap_or(SHORTEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn the_cas_ladder_has_four_rungs() {
        let pause = |failures| after_ca_failure(failures, Some(DAY * 60), Jitter::NONE);
        assert_eq!([1, 2, 3, 4, 5].map(pause), [minutes(1), minutes(10), minutes(100), DAY, DAY]);
    }

    #[test]
    fn little_life_left_shortens_the_pause_to_a_tenth_of_it() {
        let pause = |left| after_ca_failure(4, Some(left), Jitter::NONE);
        assert_eq!(pause(DAY), DAY / 10);
        assert_eq!(pause(Duration::from_secs(101)), Duration::from_millis(10_100));
        assert_eq!(pause(Duration::from_secs(30)), SHORTEST);
    }

    #[test]
    fn without_life_the_plain_ladder_holds() {
        assert_eq!(after_ca_failure(1, Some(Duration::ZERO), Jitter::NONE), minutes(1));
        assert_eq!(after_ca_failure(9, None, Jitter::NONE), DAY);
    }

    #[test]
    fn the_local_ladder_ends_at_five_minutes() {
        let pause = |failures| after_local_failure(failures, Jitter::NONE).as_secs();
        assert_eq!([1, 2, 3, 4, 1_000_000].map(pause), [5, 30, 120, 300, 300]);
        assert_eq!(after_local_failure(4, Jitter::new(1.0)), LONGEST_LOCAL);
    }

    proptest! {
        #[test]
        fn no_number_of_failures_makes_a_pause_of_zero_or_more_than_a_day_and_a_fifth(
            failures in any::<u32>(), left in proptest::option::of(0_u64..10_000_000_000), jitter in any::<f64>(),
        ) {
            let jitter = Jitter::new(jitter);
            let pause = after_ca_failure(failures, left.map(Duration::from_secs), jitter);
            prop_assert!(pause >= Duration::from_secs(8) && pause <= DAY.mul_f64(1.2), "{pause:?}");
            let pause = after_local_failure(failures, jitter);
            prop_assert!(pause >= Duration::from_secs(4) && pause <= Duration::from_secs(360), "{pause:?}");
        }
    }

    /// T08: a million failures in a row.
    #[test]
    fn a_million_failures_in_a_row_wait_as_long_as_the_fourth() {
        for jitter in [-1.0, 0.0, 1.0].map(Jitter::new) {
            let (ca, local) = (after_ca_failure(4, None, jitter), after_local_failure(4, jitter));
            assert!(ca >= DAY.mul_f64(0.8) && local >= minutes(4));
            for failures in (5..=1_000_000).chain([u32::MAX - 1, u32::MAX]) {
                assert_eq!(after_ca_failure(failures, None, jitter), ca, "{failures}");
                assert_eq!(after_local_failure(failures, jitter), local, "{failures}");
            }
        }
    }
}
