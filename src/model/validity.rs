//! How long something is valid, and which share of that is left.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The time in which a certificate is valid (RFC 5280 §4.1.2.5), both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// From `not_before` to `not_after`; zero for a certificate that was never valid.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// What is left of it at `now`; never more than the lifetime.
    #[must_use]
    pub fn life_left(&self, now: Timestamp) -> Duration {
        self.not_after.since(now).min(self.lifetime())
    }

    /// Whether the last moment has passed.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// Whether `now` lies inside.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// A share of a lifetime, such as `1/4`: how every threshold is given, since lifetimes shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share {
    numerator: u32,
    denominator: u32,
}

impl Share {
    /// `numerator/denominator`; a zero denominator counts as one, and more than the whole as it.
    #[must_use]
    pub const fn new(numerator: u32, denominator: u32) -> Self {
        let denominator = if denominator == 0 { 1 } else { denominator };
        let numerator = if numerator > denominator { denominator } else { numerator };
        Self { numerator, denominator }
    }

    /// This share of `span`.
    #[must_use]
    pub fn of(self, span: Duration) -> Duration {
        let milliseconds =
            span.as_millis() * u128::from(self.numerator) / u128::from(self.denominator);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

/// A text is not a share.
#[derive(Debug, thiserror::Error)]
#[error("not a share of a lifetime: write a fraction below one, such as \"1/4\"")]
pub struct ShareError;

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (numerator, denominator) = text.split_once('/').ok_or(ShareError)?;
        let numerator: u32 = numerator.trim().parse().map_err(|_not_a_number| ShareError)?;
        let denominator: u32 = denominator.trim().parse().map_err(|_not_a_number| ShareError)?;
        if numerator == 0 || numerator >= denominator {
            return Err(ShareError);
        }
        Ok(Self { numerator, denominator })
    }
}

impl TryFrom<String> for Share {
    type Error = ShareError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_that_ends_before_it_begins_has_no_life() {
        let never = Validity { not_before: Timestamp::MAX, not_after: Timestamp::EPOCH };
        assert_eq!(never.lifetime(), Duration::ZERO);
        assert_eq!(never.life_left(Timestamp::EPOCH), Duration::ZERO);
    }

    #[test]
    fn life_left_before_the_first_moment_is_the_whole_life() {
        let validity = Validity {
            not_before: Timestamp::from_unix_seconds(1000),
            not_after: Timestamp::from_unix_seconds(2000),
        };
        assert_eq!(validity.life_left(Timestamp::EPOCH), Duration::from_secs(1000));
        assert_eq!(
            validity.life_left(Timestamp::from_unix_seconds(1900)),
            Duration::from_secs(100)
        );
        assert!(!validity.has_expired(Timestamp::from_unix_seconds(2000)));
        assert!(validity.has_expired(Timestamp::from_unix_seconds(2001)));
    }

    #[test]
    fn a_share_is_a_fraction_below_one() {
        assert_eq!(
            "1/4".parse::<Share>().unwrap().of(Duration::from_secs(400)),
            Duration::from_secs(100)
        );
        for wrong in ["", "4", "0/4", "4/4", "5/4", "1/0", "-1/4", "a/b", "1/4/5"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_and_every_share_of_it_is_at_most_the_whole(
            moments in any::<[i64; 3]>(), numerator in any::<u32>(), denominator in any::<u32>(),
        ) {
            let [not_before, not_after, now] = moments.map(Timestamp::from_unix_seconds);
            let validity = Validity { not_before, not_after };
            let left = validity.life_left(now);
            prop_assert!(left <= validity.lifetime());
            prop_assert!(!validity.has_expired(now) || left.is_zero());
            prop_assert!(!validity.contains(now) || left == not_after.since(now));
            prop_assert!(Share::new(numerator, denominator).of(left) <= left);
        }
    }
}
