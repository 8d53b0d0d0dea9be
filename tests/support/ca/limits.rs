//! The CA's limits, as token buckets: the numbers of Let's Encrypt, or any others.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use renewd::model::Timestamp;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// New accounts, of all clients.
    NewAccounts,
    /// New orders of an account.
    Orders,
    /// Certificates for a registered name: here its last two labels.
    PerRegisteredName,
    /// Certificates for exactly one set of identifiers.
    PerSet,
    /// Failed authorizations of an identifier.
    Failures,
}

/// How much there is of each; what is not listed is not limited.
#[derive(Clone, Debug, Default)]
pub struct Limits(pub BTreeMap<Limit, Allowance>);

/// So many at once, and one more each `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At once.
    pub capacity: u32,
    /// The time in which one comes back.
    pub refill: Duration,
}

impl Limits {
    /// Those of Let's Encrypt in August 2026.
    #[must_use]
    pub fn lets_encrypt() -> Self {
        let of =
            |capacity, refill: u64| Allowance { capacity, refill: Duration::from_secs(refill) };
        Self(BTreeMap::from([
            (Limit::NewAccounts, of(10, 18 * 60)),
            (Limit::Orders, of(300, 36)),
            (Limit::PerRegisteredName, of(50, 202 * 60)),
            (Limit::PerSet, of(5, 34 * 3600)),
            (Limit::Failures, of(5, 12 * 60)),
        ]))
    }
}

/// What is left of each.
#[derive(Debug, Default)]
pub struct Buckets {
    used: HashMap<(Limit, String), (f64, Timestamp)>,
    /// How often each limit was run into.
    pub refused: BTreeMap<Limit, u64>,
}

impl Buckets {
    /// How long `subject` has to wait for one more; `None` if it need not.
    pub fn wait(
        &mut self,
        limits: &Limits,
        limit: Limit,
        subject: &str,
        now: Timestamp,
    ) -> Option<Duration> {
        let allowance = limits.0.get(&limit)?;
        let used = self.used_now(*allowance, limit, subject, now);
        let left = f64::from(allowance.capacity) - used;
        (left < 1.0).then(|| {
            *self.refused.entry(limit).or_default() += 1;
            allowance.refill.mul_f64(1.0 - left.max(0.0)).max(Duration::from_secs(1))
        })
    }

    /// Takes one.
    pub fn take(&mut self, limits: &Limits, limit: Limit, subject: &str, now: Timestamp) {
        let Some(allowance) = limits.0.get(&limit) else { return };
        let used = self.used_now(*allowance, limit, subject, now);
        self.used.insert((limit, subject.to_owned()), (used + 1.0, now));
    }

    /// Forgets what has filled up again.
    pub fn prune(&mut self, limits: &Limits, now: Timestamp) {
        self.used.retain(|(limit, _), (used, at)| {
            let Some(allowance) = limits.0.get(limit) else { return false };
            now.since(*at).as_secs_f64() < *used * allowance.refill.as_secs_f64()
        });
    }

    fn used_now(&self, allowance: Allowance, limit: Limit, subject: &str, now: Timestamp) -> f64 {
        let Some((used, at)) = self.used.get(&(limit, subject.to_owned())) else { return 0.0 };
        let back = now.since(*at).as_secs_f64() / allowance.refill.as_secs_f64();
        (used - back).max(0.0)
    }
}

/// What counts as the registered name of `identifier`.
#[must_use]
pub(super) fn registered(identifier: &str) -> String {
    let labels: Vec<&str> = identifier.rsplit('.').take(2).collect();
    labels.into_iter().rev().collect::<Vec<_>>().join(".")
}
