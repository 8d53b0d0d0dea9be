//! Decides what a CA would refuse, and what we hold back ourselves, before the CA is asked.
//!
//! # Rules
//!
//! 1. Each limit is a token bucket. What is asked for is spent before it is asked for, and given
//!    back if the CA did not count it, unless time has given it back before: a crash between the
//!    two counts.
//! 2. Names are counted by their registered name (public suffix list and one label more), addresses
//!    by themselves, IPv6 by /64; a wildcard fails as the name below its star.
//! 3. As Let's Encrypt counts: an order that replaces a certificate by name (RFC 9773 §5) counts
//!    against nothing, one for the same set as an earlier certificate against the set alone. Until
//!    the CA has taken the order as one that replaces, it is counted as if it did not.
//! 4. What the CA refused until a moment, with its own words, is closed until then for all that it
//!    said it of. Where it did not say, for all that share a registered name with the order: less
//!    would have the siblings earn the same refusal one by one, more would let one name's trouble
//!    stop all others. A second such refusal for another name closes the account's orders. What
//!    several orders hear at once closes for the longest of it; but the CA's own word ends a guess.
//! 5. Caps of our own hold for every CA, whatever it advises, and whatever configuration, clock or
//!    a supervisor says: for one set five renewals at once and one more every sixtieth of a life
//!    (36 hours of 90 days, about what Let's Encrypt allows), or a hundred and one more every
//!    hundredth with those that humans ask for; for one identifier four failed authorizations an
//!    hour and ten a day, and for short lives one more every tenth.
//! 6. At another rate (a life that comes to be known, a limit that is written anew) as much is
//!    spent as before, not for as long.
//! 7. A clock that went back makes no time pass: what was spent stays spent for as long as it was
//!    to be when it was last written.
//! 8. What a CA counts is counted by its directory: where its name comes to stand for another one,
//!    that one has counted nothing of it, and it is there again when the name goes back. Our own
//!    caps go along.
//! 9. Where there is no record, those orders count whose certificates are held.
//!
//! # Not here
//!
//! Keeping it, and counting when several certificates ask at once ([`crate::lifecycle`]).

mod bucket;
mod keeping;
mod said;
mod subject;

use std::time::Duration;

use crate::model::{
    Closure, Identifier, LedgerRecord, Limit, LimitStatus, Limits, OrderEnd, OrderKind, OrderWish,
    Refusal, Said, Timestamp,
};

pub use keeping::{rebuilt, tidy, turn_to};

use bucket::Bucket;
use said::{guessed_elsewhere, scope};
use subject::{about, proven_names, registered_names, set_key};

/// So many renewals of one set may come at once; one more after each such part of a life.
const RENEWALS: u32 = 5;
const RENEWAL_PARTS: u32 = 60;
/// As above, with those that humans ask for.
const CERTIFICATES: u32 = 100;
const CERTIFICATE_PARTS: u32 = 100;
/// Failed authorizations of one identifier in an hour and in a day, where its life is not shorter.
const FAILURES_PER_HOUR: u32 = 4;
const FAILURES_PER_DAY: u32 = 10;
/// One failure more is allowed at the latest after this part of a life, but not sooner than this.
const FAILURE_PARTS: u32 = 10;
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);
/// The life that a certificate is taken to have where none of its set has come yet.
const UNKNOWN_LIFE: Duration = Duration::from_secs(10 * DAY);
/// No closure lasts longer, whatever the CA or a clock says.
const LONGEST_CLOSURE: Duration = Duration::from_secs(7 * DAY);
/// The CA's words are kept so far.
const MAX_SAID: usize = 300;
const DAY: u64 = 86_400;

/// What of `wish` would be refused at `now`; the refusal that lasts longest.
#[must_use]
pub fn refusal(
    record: &LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let doors = doors_of_order(limits, wish).into_iter();
    let closed = doors.filter_map(|(limit, key)| closed(record, limit, &key, now));
    let empty = limits_of_order(limits, wish).into_iter();
    let empty = empty.filter_map(|it| empty_bucket(record, &it, now));
    let proof = proof_refusal(record, limits, wish.identifiers, wish.lifetime, now);
    closed.chain(empty).chain(proof).max_by_key(|it| it.until)
}

/// What the CA may have closed for an order of `wish`: nothing that it does not count it against.
/// So a flood of new names, ours or another machine's, keeps no renewal waiting; and where the CA
/// should count it all the same, it says so to that one order.
fn doors_of_order(limits: &Limits, wish: &OrderWish<'_>) -> Vec<(Limit, String)> {
    let is_exempt = wish.kind.replaces && limits.exempts_replacements;
    let counts_the_set_alone = wish.kind.renews && limits.exempts_renewals;
    let mut doors = vec![(Limit::Requests, String::new())];
    if !is_exempt && !counts_the_set_alone {
        doors.push((Limit::NewOrders, String::new()));
        let names = registered_names(wish.identifiers).into_iter();
        doors.extend(names.map(|it| (Limit::CertificatesPerName, it)));
    }
    if !is_exempt {
        doors.push((Limit::CertificatesPerSet, set_key(wish.identifiers)));
    }
    doors
}

/// Why nothing at all can be asked at `now`.
#[must_use]
pub fn request_refusal(record: &LedgerRecord, now: Timestamp) -> Option<Refusal> {
    closed(record, Limit::Requests, "", now)
}

/// What of proving control of `identifiers` would be refused at `now`.
#[must_use]
pub fn proof_refusal(
    record: &LedgerRecord,
    limits: &Limits,
    identifiers: &[Identifier],
    lifetime: Option<Duration>,
    now: Timestamp,
) -> Option<Refusal> {
    let requests = request_refusal(record, now).into_iter();
    let names = proven_names(identifiers);
    let closed = names.iter().filter_map(|it| closed(record, Limit::FailedAuthorizations, it, now));
    let empty = of_proof(limits, identifiers, lifetime).into_iter();
    let empty = empty.filter_map(|it| empty_bucket(record, &it, now));
    requests.chain(closed).chain(empty).max_by_key(|it| it.until)
}

/// Why no new account can be made at `now`.
#[must_use]
pub fn account_refusal(record: &LedgerRecord, limits: &Limits, now: Timestamp) -> Option<Refusal> {
    refusal_of_one(record, limits, Limit::NewAccounts, now)
}

/// Why no order can be placed at `now` that is given up as soon as it is seen.
#[must_use]
pub fn glance_refusal(record: &LedgerRecord, limits: &Limits, now: Timestamp) -> Option<Refusal> {
    refusal_of_one(record, limits, Limit::NewOrders, now)
}

fn refusal_of_one(
    record: &LedgerRecord,
    limits: &Limits,
    limit: Limit,
    now: Timestamp,
) -> Option<Refusal> {
    let doors = [Limit::Requests, limit].into_iter();
    let closed = doors.filter_map(|it| closed(record, it, "", now));
    let empty = Bucket::of(limits, limit, "");
    let empty = empty.and_then(|it| empty_bucket(record, &it, now));
    closed.chain(empty).max_by_key(|it| it.until)
}

/// Spends a new account.
pub fn spend_account(record: &mut LedgerRecord, limits: &Limits, now: Timestamp) {
    spend_one(record, limits, Limit::NewAccounts, now);
}

/// Spends an order that is given up as soon as it is seen.
pub fn spend_glance(record: &mut LedgerRecord, limits: &Limits, now: Timestamp) {
    spend_one(record, limits, Limit::NewOrders, now);
}

fn spend_one(record: &mut LedgerRecord, limits: &Limits, limit: Limit, now: Timestamp) {
    if let Some(bucket) = Bucket::of(limits, limit, "") {
        bucket.spend(record, now);
    }
}

/// Gives back an account that was asked for just now, and not made.
pub fn give_account_back(record: &mut LedgerRecord, limits: &Limits, now: Timestamp) {
    if let Some(bucket) = Bucket::of(limits, Limit::NewAccounts, "") {
        bucket.give_back(record, now, now);
    }
}

/// Spends what the order of `wish` may cost; one that is to replace a certificate, as if it did
/// not: whether it does, the CA says with the order.
pub fn spend_order(
    record: &mut LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    now: Timestamp,
) {
    for bucket in of_order(limits, &as_plain(wish)) {
        bucket.spend(record, now);
    }
}

/// Gives back what the order of `wish`, placed just now, did not cost, since the CA took it for a
/// replacement: the order. Its certificate counts as any other, for those that come after it.
pub fn settle_replacement(
    record: &mut LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    now: Timestamp,
) {
    let costs = of_order(limits, wish);
    for bucket in of_order(limits, &as_plain(wish)) {
        if !costs.contains(&bucket) {
            bucket.give_back(record, now, now);
        }
    }
}

/// Gives back what an order without a certificate does not cost, which `spent` says the kind of,
/// and which was spent at `spent_at`.
pub fn give_order_back(
    record: &mut LedgerRecord,
    limits: &Limits,
    spent: &OrderWish<'_>,
    end: OrderEnd,
    spent_at: Timestamp,
    now: Timestamp,
) {
    for bucket in of_order(limits, spent) {
        if end == OrderEnd::NotPlaced || bucket.limit != Limit::NewOrders {
            bucket.give_back(record, spent_at, now);
        }
    }
}

/// Spends a failed authorization of each of `identifiers`, which may come to that.
pub fn spend_proof(
    record: &mut LedgerRecord,
    limits: &Limits,
    identifiers: &[Identifier],
    lifetime: Option<Duration>,
    now: Timestamp,
) {
    for bucket in of_proof(limits, identifiers, lifetime) {
        bucket.spend(record, now);
    }
}

/// Gives back those that were spent at `spent_at`: none of `identifiers` failed.
pub fn give_proof_back(
    record: &mut LedgerRecord,
    limits: &Limits,
    identifiers: &[Identifier],
    lifetime: Option<Duration>,
    spent_at: Timestamp,
    now: Timestamp,
) {
    for bucket in of_proof(limits, identifiers, lifetime) {
        bucket.give_back(record, spent_at, now);
    }
}

/// Notes that control of `identifiers` was proven: no failure before counts as one in a row.
pub fn note_proven(record: &mut LedgerRecord, identifiers: &[Identifier]) {
    if let Some(in_a_row) = record.spent.get_mut(Limit::ConsecutiveFailures.as_str()) {
        for name in proven_names(identifiers) {
            in_a_row.remove(&name);
        }
    }
}

/// Notes how long a certificate for `identifiers` lives.
pub fn note_lifetime(record: &mut LedgerRecord, identifiers: &[Identifier], lifetime: Duration) {
    record.lifetimes.insert(set_key(identifiers), lifetime.as_secs());
}

/// How long the last certificate for `identifiers` lived, if that is still known.
#[must_use]
pub fn known_lifetime(record: &LedgerRecord, identifiers: &[Identifier]) -> Option<Duration> {
    record.lifetimes.get(&set_key(identifiers)).map(|it| Duration::from_secs(*it))
}

/// Notes that the CA said no to an order for `identifiers`, or to an account.
pub fn note_refusal(
    record: &mut LedgerRecord,
    identifiers: &[Identifier],
    said: &Said<'_>,
    now: Timestamp,
) {
    let (doors, is_guess) = scope(identifiers, said);
    let other_guess = is_guess && guessed_elsewhere(record, &doors, now);
    let doors = if other_guess { vec![(Limit::NewOrders, String::new())] } else { doors };
    let until = said.until.min(now.saturating_add(LONGEST_CLOSURE));
    let text: String = said.text.chars().take(MAX_SAID).collect();
    for (limit, key) in doors {
        let closure = Closure { until, said: text.clone(), is_guess };
        close(record, limit, key, closure, now);
    }
}

/// Closes the door of `limit` and `key`, unless what it is closed by already lasts longer. The
/// CA's own word takes the place of a guess, however long, and no guess that of its own word.
fn close(
    record: &mut LedgerRecord,
    limit: Limit,
    key: String,
    mut closure: Closure,
    now: Timestamp,
) {
    let standing = closed(record, limit, &key, now).map(|it| it.until);
    let of_limit = record.closed.entry(limit.as_str().to_owned()).or_default();
    if let (Some(until), Some(former)) = (standing, of_limit.get(&key)) {
        let is_corrected = former.is_guess && !closure.is_guess;
        if until >= closure.until && !is_corrected {
            return;
        }
        closure.is_guess &= former.is_guess;
    }
    of_limit.insert(key, closure);
}

/// How much is left for an order of `wish`, limit by limit.
#[must_use]
pub fn left(
    record: &LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    now: Timestamp,
) -> Vec<LimitStatus> {
    let of_order = limits_of_order(limits, wish);
    let of_proof = of_proof(limits, wish.identifiers, wish.lifetime);
    // A hundred names that never failed are worth no line each, nor caps that nobody is near.
    let is_worth_it = |bucket: &Bucket, status: &LimitStatus| match bucket.limit {
        it if it.is_own() => status.left <= status.of / 2,
        Limit::FailedAuthorizations | Limit::ConsecutiveFailures => status.left < status.of,
        _ => true,
    };
    let all = of_order.into_iter().chain(of_proof);
    let all = all.map(|it| (it.status(record, now), it));
    all.filter(|(status, bucket)| is_worth_it(bucket, status)).map(|(status, _)| status).collect()
}

/// How far the clock stands behind the moment at which `record` was written.
fn step_back(record: &LedgerRecord, now: Timestamp) -> Duration {
    record.written_at.map_or(Duration::ZERO, |it| it.since(now))
}

/// `wish` as if it replaced nothing.
fn as_plain<'a>(wish: &OrderWish<'a>) -> OrderWish<'a> {
    OrderWish { kind: OrderKind { replaces: false, ..wish.kind }, ..*wish }
}

/// What an order of `wish` is held to: of what it costs, our own caps alone if the CA exempts it.
fn limits_of_order(limits: &Limits, wish: &OrderWish<'_>) -> Vec<Bucket> {
    let is_exempt = wish.kind.replaces && limits.exempts_replacements;
    let costs = of_order(limits, wish).into_iter();
    costs.filter(|it| !is_exempt || it.limit.is_own()).collect()
}

/// What an order of `wish` costs, with its certificate: that is counted also of one that is exempt
/// (Boulder, `countCertificateIssued`).
fn of_order(limits: &Limits, wish: &OrderWish<'_>) -> Vec<Bucket> {
    let OrderKind { replaces, renews, by_hand } = wish.kind;
    let is_exempt = replaces && limits.exempts_replacements;
    let counts_the_set_alone = renews && limits.exempts_renewals;
    let set = set_key(wish.identifiers);
    let mut buckets = Vec::new();
    if !is_exempt && !counts_the_set_alone {
        buckets.extend(Bucket::of(limits, Limit::NewOrders, ""));
    }
    if !counts_the_set_alone {
        for name in registered_names(wish.identifiers) {
            buckets.extend(Bucket::of(limits, Limit::CertificatesPerName, &name));
        }
    }
    buckets.extend(Bucket::of(limits, Limit::CertificatesPerSet, &set));
    let life = wish.lifetime.unwrap_or(UNKNOWN_LIFE);
    if !by_hand {
        buckets.push(Bucket::own(Limit::OwnRenewals, &set, RENEWALS, life / RENEWAL_PARTS));
    }
    let interval = life / CERTIFICATE_PARTS;
    buckets.push(Bucket::own(Limit::OwnCertificates, &set, CERTIFICATES, interval));
    buckets
}

/// What a failed authorization of each of `identifiers` costs.
fn of_proof(
    limits: &Limits,
    identifiers: &[Identifier],
    lifetime: Option<Duration>,
) -> Vec<Bucket> {
    let longest = lifetime.map_or(Duration::MAX, |it| it / FAILURE_PARTS).max(SHORTEST_INTERVAL);
    let hourly = (Duration::from_hours(1) / FAILURES_PER_HOUR).min(longest);
    let daily = (Duration::from_hours(24) / FAILURES_PER_DAY).min(longest);
    let mut buckets = Vec::new();
    for name in proven_names(identifiers) {
        buckets.extend(Bucket::of(limits, Limit::FailedAuthorizations, &name));
        buckets.extend(Bucket::of(limits, Limit::ConsecutiveFailures, &name));
        let hour = Limit::OwnFailuresPerHour;
        buckets.push(Bucket::own(hour, &name, FAILURES_PER_HOUR, hourly));
        buckets.push(Bucket::own(Limit::OwnFailuresPerDay, &name, FAILURES_PER_DAY, daily));
    }
    buckets
}

fn empty_bucket(record: &LedgerRecord, bucket: &Bucket, now: Timestamp) -> Option<Refusal> {
    let until = bucket.empty_until(record, now)?;
    let about = about(bucket.limit, &bucket.key);
    Some(Refusal { limit: bucket.limit, about, rate: Some(bucket.rate), until, said: None })
}

fn closed(record: &LedgerRecord, limit: Limit, key: &str, now: Timestamp) -> Option<Refusal> {
    let closure = record.closed.get(limit.as_str())?.get(key)?;
    let until = closure.until.saturating_sub(step_back(record, now));
    let until = until.min(now.saturating_add(LONGEST_CLOSURE));
    (until > now).then(|| Refusal {
        limit,
        about: about(limit, key),
        rate: None,
        until,
        said: Some(closure.said.clone()),
    })
}

#[cfg(test)]
mod tests;
