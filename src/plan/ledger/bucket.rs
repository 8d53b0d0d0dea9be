//! One limit of one subject, as a token bucket.
//!
//! It is kept as the moment at which it is full again, which says all.
//!
//! Not here: which buckets something costs ([`super`]).

use std::time::Duration;

use crate::model::{LedgerRecord, Limit, LimitStatus, Limits, Rate, Spent, Timestamp, rough};

use super::step_back;
use super::subject::about;

/// So many orders that may turn out not to count are on their way at once; more are not missed
/// where nothing is left.
const OVERDRAFT: u32 = 16;

/// A bucket, and whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) limit: Limit,
    pub(super) key: String,
    pub(super) rate: Rate,
}

impl Bucket {
    pub(super) fn of(limits: &Limits, limit: Limit, key: &str) -> Option<Self> {
        let rate = *limits.rates.get(&limit)?;
        Some(Self { limit, key: key.to_owned(), rate })
    }

    pub(super) fn own(limit: Limit, key: &str, count: u32, interval: Duration) -> Self {
        let rate = Rate { count, per: interval.saturating_mul(count) };
        Self { limit, key: key.to_owned(), rate }
    }

    /// When it is full again.
    fn whole_at(&self, record: &LedgerRecord, now: Timestamp) -> Timestamp {
        self.noted(record).map_or(now, |it| {
            let missing = it.whole_at.saturating_sub(step_back(record, now)).since(now);
            now.saturating_add(self.at_this_rate(missing, it.interval_ms).min(self.most()))
        })
    }

    /// The most that can be missing. What the CA is yet to say does not count is spent for a moment
    /// even where nothing is left; if that were not noted, to give it back would make one of
    /// nothing.
    fn most(&self) -> Duration {
        let overdraft = self.rate.interval().saturating_mul(OVERDRAFT).min(self.rate.per);
        self.rate.per.saturating_add(overdraft)
    }

    /// What `missing` at a rate of one each `interval_ms` is at the rate of today: the life of a
    /// certificate comes to be known, or an operator writes another limit.
    fn at_this_rate(&self, missing: Duration, interval_ms: u64) -> Duration {
        let ours = self.rate.interval().as_millis();
        let theirs = u128::from(interval_ms.max(1));
        if ours == theirs {
            return missing;
        }
        let milliseconds = missing.as_millis().saturating_mul(ours).div_ceil(theirs);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }

    /// How much is missing, as the time until it is there.
    fn missing(&self, record: &LedgerRecord, now: Timestamp) -> Duration {
        self.whole_at(record, now).since(now)
    }

    /// Until when nothing is left; `None` if there is something.
    pub(super) fn empty_until(&self, record: &LedgerRecord, now: Timestamp) -> Option<Timestamp> {
        let room = self.rate.per.saturating_sub(self.rate.interval());
        let wait = self.missing(record, now).checked_sub(room).filter(|it| !it.is_zero())?;
        Some(now.saturating_add(wait))
    }

    pub(super) fn status(&self, record: &LedgerRecord, now: Timestamp) -> LimitStatus {
        let (missing, interval) = (self.missing(record, now), self.rate.interval());
        let spent = missing.as_millis().div_ceil(interval.as_millis().max(1));
        let spent = u32::try_from(spent).unwrap_or(u32::MAX).min(self.rate.count);
        let next = missing.saturating_sub(interval.saturating_mul(spent.saturating_sub(1)));
        LimitStatus {
            limit: self.limit.as_str().to_owned(),
            about: about(self.limit, &self.key),
            left: self.rate.count - spent,
            of: self.rate.count,
            per: rough(self.rate.per),
            next_at: (spent > 0).then(|| now.saturating_add(next)),
        }
    }

    pub(super) fn spend(&self, record: &mut LedgerRecord, now: Timestamp) {
        let latest = now.saturating_add(self.most());
        let whole_at = self.whole_at(record, now).saturating_add(self.rate.interval()).min(latest);
        let of_limit = record.spent.entry(self.limit.as_str().to_owned()).or_default();
        of_limit.insert(self.key.clone(), self.spent(whole_at));
    }

    /// Gives back what was spent at `spent_at`, but for what time has given back since: while
    /// nothing else was missing, that was this.
    pub(super) fn give_back(&self, record: &mut LedgerRecord, spent_at: Timestamp, now: Timestamp) {
        if self.noted(record).is_none() {
            return;
        }
        let rest = self.rate.interval().saturating_sub(now.since(spent_at));
        let less = self.spent(self.whole_at(record, now).saturating_sub(rest));
        if let Some(of_limit) = record.spent.get_mut(self.limit.as_str()) {
            of_limit.insert(self.key.clone(), less);
        }
    }

    fn noted(&self, record: &LedgerRecord) -> Option<Spent> {
        record.spent.get(self.limit.as_str())?.get(&self.key).copied()
    }

    fn spent(&self, whole_at: Timestamp) -> Spent {
        let interval_ms = u64::try_from(self.rate.interval().as_millis()).unwrap_or(u64::MAX);
        Spent { whole_at, interval_ms }
    }
}
