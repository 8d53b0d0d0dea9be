//! When the standing records of dns-persist-01 are looked at, and what was found there means.
//!
//! # Rules
//!
//! 1. they are looked at every twentieth of the certificate's life, but every six hours at least
//!    and once a minute at most; without a certificate every six hours. A look asks name servers
//!    alone
//! 2. at once where nobody has looked yet, or another record is wanted than when somebody did: the
//!    account has another key, or is another
//! 3. a record that ends before the certificate does ends soon: the next renewal may come too late
//!    for it
//! 4. what could not be found out changes nothing
//!
//! Not here: looking ([`crate::lifecycle`]).

use std::time::Duration;

use crate::model::{
    FoundRecord, RecordCondition, StandingState, StandingWatch, Timestamp, Validity,
};

/// The longest pause between two looks.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(60);
/// At least so many looks in a life.
const LOOKS_A_LIFE: u32 = 20;

/// When the records of `watch` are looked at next, for a certificate that is valid for `validity`.
#[must_use]
pub fn next_look_at(
    watch: &StandingWatch,
    validity: Option<Validity>,
    now: Timestamp,
) -> Timestamp {
    // A moment in the future is one of a clock that was put right since.
    let Some(looked_at) = watch.looked_at.filter(|it| *it <= now) else { return Timestamp::EPOCH };
    let share = validity.map_or(LONGEST, |it| it.lifetime() / LOOKS_A_LIFE);
    looked_at.saturating_add(share.min(LONGEST).max(SHORTEST))
}

/// What `found` means for a certificate that ends at `not_after`, and when the record ends.
#[must_use]
pub fn condition(
    found: Option<FoundRecord>,
    not_after: Option<Timestamp>,
    now: Timestamp,
) -> (RecordCondition, Option<Timestamp>) {
    match found.map(|it| it.state) {
        None => (RecordCondition::Unknown, None),
        Some(StandingState::Missing) => (RecordCondition::Missing, None),
        Some(StandingState::Unreadable) => (RecordCondition::Unreadable, None),
        Some(StandingState::OtherAccount) => (RecordCondition::OtherAccount, None),
        Some(StandingState::NotForWildcards) => (RecordCondition::NotForWildcards, None),
        Some(StandingState::Ended(until)) => (RecordCondition::Ended, Some(until)),
        Some(StandingState::Fits(None)) => (RecordCondition::Right, None),
        Some(StandingState::Fits(Some(until))) => {
            let condition = match not_after {
                _ if until <= now => RecordCondition::Ended,
                Some(not_after) if until < not_after => RecordCondition::EndsSoon,
                _ => RecordCondition::Right,
            };
            (condition, Some(until))
        }
    }
}

/// What is remembered of a record in the state `state` at `now`, of which `known` was known.
#[must_use]
pub fn found(known: Option<FoundRecord>, state: StandingState, now: Timestamp) -> FoundRecord {
    match known {
        Some(known) if known.state == state => known,
        _ => FoundRecord { state, since: now },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds))
    }

    #[track_caller]
    fn check_pause(life: Option<u64>, seconds: u64) {
        let watch = StandingWatch {
            ca: "lab".parse().unwrap(),
            directory: "https://ca.example/dir".into(),
            looked_at: Some(at(100)),
            records: Vec::new(),
        };
        let validity = life.map(|it| Validity { not_before: at(0), not_after: at(it) });
        assert_eq!(next_look_at(&watch, validity, at(200)), at(100 + seconds), "{life:?}");
        let early = next_look_at(&watch, validity, at(99));
        assert_eq!(early, Timestamp::EPOCH, "the clock was ahead");
        let never = StandingWatch { looked_at: None, ..watch };
        assert_eq!(next_look_at(&never, validity, at(200)), Timestamp::EPOCH);
    }

    #[test]
    fn records_are_looked_at_every_twentieth_of_a_life_within_bounds() {
        check_pause(None, DAY / 4);
        check_pause(Some(90 * DAY), DAY / 4);
        check_pause(Some(5 * DAY), DAY / 4);
        check_pause(Some(4 * DAY), DAY / 5);
        check_pause(Some(DAY), DAY / 20);
        check_pause(Some(30), 60);
    }

    #[track_caller]
    fn check(state: StandingState, now: u64, expected: RecordCondition) {
        let found = Some(FoundRecord { state, since: at(1) });
        assert_eq!(condition(found, Some(at(1000)), at(now)).0, expected, "{state:?} at {now}");
    }

    #[test]
    fn a_record_that_ends_before_the_certificate_ends_soon() {
        use RecordCondition as C;
        let until = |it| StandingState::Fits(Some(at(it)));
        check(StandingState::Fits(None), 10, C::Right);
        check(until(1000), 10, C::Right);
        check(until(999), 10, C::EndsSoon);
        check(until(999), 998, C::EndsSoon);
        check(until(999), 999, C::Ended);
        check(StandingState::Ended(at(5)), 10, C::Ended);
        check(StandingState::Missing, 10, C::Missing);
        check(StandingState::OtherAccount, 10, C::OtherAccount);
        check(StandingState::NotForWildcards, 10, C::NotForWildcards);
        check(StandingState::Unreadable, 10, C::Unreadable);
        assert_eq!(condition(None, None, at(1)), (C::Unknown, None));
        let short = FoundRecord { state: until(999), since: at(1) };
        assert_eq!(condition(Some(short), None, at(10)), (C::Right, Some(at(999))));
    }

    #[test]
    fn it_is_known_since_when_a_record_is_as_it_is() {
        let first = found(None, StandingState::Missing, at(5));
        assert_eq!(found(Some(first), StandingState::Missing, at(9)).since, at(5));
        assert_eq!(found(Some(first), StandingState::Fits(None), at(9)).since, at(9));
    }
}
