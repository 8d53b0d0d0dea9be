//! A moment, as everything above the wire speaks of it.
//!
//! Not here: the clock ([`crate::sys::clock`]); spans, which are [`Duration`]s.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment in UTC, to the millisecond, from 1970 to the end of the year 9999.
///
/// All sums saturate at the ends of that range: times come from certificates, CAs and files, and
/// none of them may make us panic. What lies before 1970 (an X.509 date of 1950) counts as 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    milliseconds: u64,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { milliseconds: 0 };
    /// 9999-12-31T23:59:59Z: the last moment that RFC 3339 and RFC 5280 §4.1.2.5 can write.
    pub const MAX: Self = Self { milliseconds: 253_402_300_799_000 };

    /// The moment `seconds` after (or before, which is cut) 1970.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        Self::clamped(seconds.saturating_mul(1000))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        self.milliseconds / 1000
    }

    /// The moment `span` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self::clamped(self.milliseconds.saturating_add(span))
    }

    /// The moment `span` earlier, at least [`Timestamp::EPOCH`].
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self { milliseconds: self.milliseconds.saturating_sub(span) }
    }

    /// The span from `earlier` to this moment; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.milliseconds.saturating_sub(earlier.milliseconds))
    }

    fn clamped(milliseconds: u64) -> Self {
        Self { milliseconds: milliseconds.min(Self::MAX.milliseconds) }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::EPOCH.saturating_add(since_epoch)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(timestamp.milliseconds)
    }
}

/// RFC 3339 in UTC; with milliseconds only where they are not zero.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milliseconds.is_multiple_of(1000) {
            humantime::format_rfc3339_seconds((*self).into()).fmt(f)
        } else {
            humantime::format_rfc3339_millis((*self).into()).fmt(f)
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not an RFC 3339 time in UTC.
#[derive(Debug, thiserror::Error)]
#[error("not a time in RFC 3339 and UTC")]
pub struct TimestampError(#[from] humantime::TimestampError);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(humantime::parse_rfc3339_weak(text)?.into())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_string()
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_and_reads_rfc_3339() {
        let timestamp: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert_eq!(timestamp.to_string(), "2026-11-23T10:00:00Z");
        assert_eq!(
            timestamp.saturating_add(Duration::from_millis(5)).to_string(),
            "2026-11-23T10:00:00.005Z"
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    /// T03: there are no zones here, and a leap second is one of the minute that it ends.
    #[test]
    fn a_leap_second_is_a_moment_and_a_zone_is_refused() {
        let leap: Timestamp = "2016-12-31T23:59:60Z".parse().unwrap();
        let next: Timestamp = "2017-01-01T00:00:00Z".parse().unwrap();
        assert!(next.since(leap) <= Duration::from_secs(1) && leap <= next);
        assert!("2026-07-01T02:00:00+02:00".parse::<Timestamp>().is_err());
    }

    #[test]
    fn every_sum_saturates_and_still_prints() {
        let far = Timestamp::MAX.saturating_add(Duration::MAX);
        assert_eq!(far, Timestamp::MAX);
        assert_eq!(far.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_unix_seconds(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_seconds(-1), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.saturating_sub(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }

    prop_compose! {
        fn moment()(milliseconds in 0..=Timestamp::MAX.milliseconds) -> Timestamp {
            Timestamp { milliseconds }
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_read_back_as_it_was_written(moment in moment()) {
            prop_assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        }

        #[test]
        fn no_sum_leaves_the_range_or_goes_the_wrong_way(
            one in moment(), other in moment(), seconds in any::<u64>(), nanoseconds in 0_u32..1_000_000_000,
        ) {
            let span = Duration::new(seconds, nanoseconds);
            let (later, earlier) = (one.saturating_add(span), one.saturating_sub(span));
            prop_assert!(earlier <= one && one <= later && later <= Timestamp::MAX);
            let (first, last) = (one.min(other), one.max(other));
            prop_assert_eq!(first.saturating_add(last.since(first)), last);
            prop_assert_eq!(last.saturating_sub(last.since(first)), first);
        }
    }
}
