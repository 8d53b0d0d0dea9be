//! What of the ledger is kept: of which time, of which directory, and how much of it.
//!
//! Not here: where it is kept ([`crate::lifecycle`]).

use std::collections::BTreeMap;
use std::mem::take;
use std::time::Duration;

use crate::model::{
    Counted, LedgerRecord, Limit, Limits, OrderKind, OrderWish, PastOrder, Timestamp,
};

use super::{note_lifetime, spend_order, step_back};

/// So much is kept of each limit. What is forgotten first is what would be whole first.
pub(super) const MAX_ENTRIES: usize = 10_000;
/// Of so many directories that a CA's name has stood for before.
pub(super) const MAX_DIRECTORIES: usize = 8;

/// Makes `record` that of the CA with this `directory`.
pub fn turn_to(record: &mut LedgerRecord, directory: &str) {
    let former = record.directory.replace(directory.to_owned());
    let Some(former) = former.filter(|it| it != directory) else { return };
    let (own, theirs) = take(&mut record.spent).into_iter().partition(|(word, _)| is_own(word));
    let left = Counted { spent: theirs, closed: take(&mut record.closed) };
    let found = record.elsewhere.remove(directory).unwrap_or_default();
    record.spent = own;
    record.spent.extend(found.spent);
    record.closed = found.closed;
    if record.elsewhere.len() >= MAX_DIRECTORIES {
        let over_first = record.elsewhere.iter().min_by_key(|(_, it)| last_moment(it));
        let over_first = over_first.map(|(directory, _)| directory.clone());
        over_first.and_then(|it| record.elsewhere.remove(&it));
    }
    record.elsewhere.insert(former, left);
}

/// What can be said of a CA with `limits` where no record is, or none that can be understood: that
/// the orders whose certificates are held were placed. What else was spent, and what the CA said,
/// is not known; where that matters, the CA says it again.
#[must_use]
pub fn rebuilt(limits: &Limits, mut orders: Vec<PastOrder>, now: Timestamp) -> LedgerRecord {
    let mut record =
        LedgerRecord { directory: Some(limits.directory.clone()), ..LedgerRecord::default() };
    orders.sort_by_key(|it| it.issued_at);
    for PastOrder { identifiers, issued_at, lifetime, renews } in orders {
        let kind = OrderKind { replaces: false, renews, by_hand: false };
        let wish = OrderWish { identifiers: &identifiers, kind, lifetime: Some(lifetime) };
        // One of tomorrow is a clock's fault, and was placed at the latest now.
        spend_order(&mut record, limits, &wish, issued_at.min(now));
        note_lifetime(&mut record, &identifiers, lifetime);
    }
    tidy(&mut record, now);
    record
}

/// Whether this is the word of a cap of our own.
fn is_own(word: &str) -> bool {
    Limit::ALL.iter().any(|it| it.is_own() && it.as_str() == word)
}

/// When nothing of `counted` matters any more.
fn last_moment(counted: &Counted) -> Option<Timestamp> {
    let spent = counted.spent.values().flat_map(BTreeMap::values).map(|it| it.whole_at);
    let closed = counted.closed.values().flat_map(BTreeMap::values).map(|it| it.until);
    spent.chain(closed).max()
}

/// Makes `record` ready to be written at `now`: of this time, and without what is over.
pub fn tidy(record: &mut LedgerRecord, now: Timestamp) {
    let step_back = step_back(record, now);
    record.written_at = Some(now);
    let here = (&mut record.spent, &mut record.closed);
    let elsewhere = record.elsewhere.values_mut().map(|it| (&mut it.spent, &mut it.closed));
    for (spent, closed) in elsewhere.chain([here]) {
        for of_limit in spent.values_mut() {
            keep_what_is_to_come(of_limit, step_back, now, |it| &mut it.whole_at);
        }
        spent.retain(|_, of_limit| !of_limit.is_empty());
        for closures in closed.values_mut() {
            keep_what_is_to_come(closures, step_back, now, |it| &mut it.until);
        }
        closed.retain(|_, closures| !closures.is_empty());
    }
    record.elsewhere.retain(|_, it| *it != Counted::default());
    let certificates = record.spent.get(Limit::OwnCertificates.as_str());
    record.lifetimes.retain(|set, _| certificates.is_some_and(|it| it.contains_key(set)));
}

/// Has the moments of `entries` come sooner by `step_back`, and forgets those that are over at
/// `now`, and of too many the next to be.
fn keep_what_is_to_come<T>(
    entries: &mut BTreeMap<String, T>,
    step_back: Duration,
    now: Timestamp,
    moment: impl Fn(&mut T) -> &mut Timestamp,
) {
    entries.retain(|_, it| {
        let moment = moment(it);
        *moment = moment.saturating_sub(step_back);
        *moment > now
    });
    let surplus = entries.len().saturating_sub(MAX_ENTRIES);
    if surplus == 0 {
        return;
    }
    let mut moments: Vec<Timestamp> = entries.values_mut().map(|it| *moment(it)).collect();
    moments.sort_unstable();
    let Some(limit) = moments.get(surplus).copied() else { return };
    entries.retain(|_, it| *moment(it) >= limit);
}
