mod closures;
mod keeping;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Rate, RefusedStep, Spent};

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(1_000_000 + seconds))
}

const HOUR: u64 = 3600;

/// The limits of Let's Encrypt.
fn theirs() -> Limits {
    let rate = |text: &str| text.parse().unwrap();
    let rates = [
        (Limit::NewAccounts, rate("10/3h")),
        (Limit::NewOrders, rate("300/3h")),
        (Limit::CertificatesPerName, rate("50/7d")),
        (Limit::CertificatesPerSet, rate("5/7d")),
        (Limit::FailedAuthorizations, rate("5/1h")),
        (Limit::ConsecutiveFailures, rate("1152/1152d")),
    ];
    let directory = "https://ca.example/directory".to_owned();
    let rates = BTreeMap::from(rates);
    Limits { directory, rates, exempts_replacements: true, exempts_renewals: true }
}

fn only(limit: Limit, rate: &str) -> Limits {
    Limits { rates: BTreeMap::from([(limit, rate.parse().unwrap())]), ..Limits::default() }
}

fn names(texts: &[&str]) -> Vec<Identifier> {
    texts.iter().map(|it| it.parse().unwrap()).collect()
}

const BY_HAND: OrderKind = OrderKind { replaces: false, renews: false, by_hand: true };
const BY_TIME: OrderKind = OrderKind { by_hand: false, ..BY_HAND };

fn wish(identifiers: &[Identifier], kind: OrderKind) -> OrderWish<'_> {
    OrderWish { identifiers, kind, lifetime: Some(Duration::from_secs(90 * DAY)) }
}

/// Orders `wish` at each of `moments` for as long as that is not refused; returns how often.
fn ordered(
    record: &mut LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    moments: impl IntoIterator<Item = Timestamp>,
) -> usize {
    let mut count = 0;
    for now in moments {
        if refusal(record, limits, wish, now).is_none() {
            spend_order(record, limits, wish, now);
            tidy(record, now);
            count += 1;
        }
    }
    count
}

fn again(now: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::repeat_n(now, 1000)
}

#[track_caller]
fn refused(
    record: &LedgerRecord,
    limits: &Limits,
    wish: &OrderWish<'_>,
    now: Timestamp,
) -> (Limit, Timestamp) {
    let refusal = refusal(record, limits, wish, now).expect("it is let pass");
    (refusal.limit, refusal.until)
}

#[test]
fn a_limit_is_spent_at_once_and_comes_back_one_by_one() {
    let limits = only(Limit::CertificatesPerSet, "5/7d");
    let site = names(&["a.example"]);
    let mut record = LedgerRecord::default();
    assert_eq!(ordered(&mut record, &limits, &wish(&site, BY_HAND), again(at(0))), 5);
    let next = at(7 * DAY / 5);
    assert_eq!(
        refused(&record, &limits, &wish(&site, BY_HAND), at(1)),
        (Limit::CertificatesPerSet, next)
    );
    let before = next.saturating_sub(Duration::from_millis(1));
    assert!(refusal(&record, &limits, &wish(&site, BY_HAND), before).is_some());
    assert_eq!(ordered(&mut record, &limits, &wish(&site, BY_HAND), again(next)), 1);
    let other = names(&["b.example"]);
    assert_eq!(ordered(&mut record, &limits, &wish(&other, BY_HAND), again(at(1))), 5);
}

#[test]
fn what_is_left_is_told_with_the_moment_of_the_next() {
    let limits = only(Limit::CertificatesPerSet, "5/7d");
    let site = names(&["a.example"]);
    let mut record = LedgerRecord::default();
    let left_at = |record: &LedgerRecord, now| {
        let all = left(record, &limits, &wish(&site, BY_HAND), now);
        (all[0].left, all[0].of, all[0].next_at)
    };
    assert_eq!(left_at(&record, at(0)), (5, 5, None));
    for _ in 0..3 {
        spend_order(&mut record, &limits, &wish(&site, BY_HAND), at(0));
    }
    assert_eq!(left_at(&record, at(0)), (2, 5, Some(at(7 * DAY / 5))));
    assert_eq!(left_at(&record, at(7 * DAY / 5)), (3, 5, Some(at(14 * DAY / 5))));
    assert_eq!(left_at(&record, at(21 * DAY / 5)), (5, 5, None));
}

#[test]
fn orders_are_counted_by_account_registered_name_and_set() {
    let mut record = LedgerRecord::default();
    let limits = theirs();
    let sets: Vec<_> =
        (0..60).map(|it| names(&[&format!("host{it}.example.co.uk"), "10.0.0.1"])).collect();
    let placed = sets.iter().map(|it| ordered(&mut record, &limits, &wish(it, BY_TIME), [at(0)]));
    assert_eq!(placed.sum::<usize>(), 50);
    let more = names(&["www.example.co.uk"]);
    let refusal = refusal(&record, &limits, &wish(&more, BY_TIME), at(0)).unwrap();
    assert_eq!(refusal.about, "example.co.uk");
    assert_eq!(refusal.limit, Limit::CertificatesPerName);
    assert!(refusal.to_string().contains("50 certificates for example.co.uk"), "{refusal}");
    // Another name below the same public suffix is another's.
    assert_eq!(ordered(&mut record, &limits, &wish(&names(&["other.co.uk"]), BY_TIME), [at(0)]), 1);
    let address = names(&["10.0.0.1"]);
    assert_eq!(
        refused(&record, &limits, &wish(&address, BY_TIME), at(0)).0,
        Limit::CertificatesPerName
    );
}

#[test]
fn names_are_counted_by_what_was_registered_and_ipv6_by_its_network() {
    let of =
        |text: &str| registered_names(&names(&[text])).into_iter().collect::<Vec<_>>().join(", ");
    assert_eq!(of("*.a.b.example.com"), "example.com");
    assert_eq!(of("a.example.co.uk"), "example.co.uk");
    assert_eq!(of("user.github.io"), "user.github.io");
    assert_eq!(of("co.uk"), "co.uk");
    assert_eq!(of("localhost"), "localhost");
    assert_eq!(of("192.0.2.7"), "192.0.2.7");
    assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
}

#[test]
fn the_order_of_a_replacement_counts_for_nothing_and_its_certificate_as_a_renewals() {
    let limits = theirs();
    let site = names(&["a.example"]);
    let replacing = OrderKind { replaces: true, renews: true, by_hand: false };
    let renewing = OrderKind { replaces: false, ..replacing };
    let another = OrderKind { renews: false, ..replacing };
    let mut record = LedgerRecord::default();
    let spent = |record: &LedgerRecord, limit: Limit| record.spent.contains_key(limit.as_str());

    spend_order(&mut record, &limits, &wish(&site, another), at(0));
    assert!(spent(&record, Limit::NewOrders), "until the CA took it, it may count");
    settle_replacement(&mut record, &limits, &wish(&site, another), at(0));
    tidy(&mut record, at(0));
    assert!(!spent(&record, Limit::NewOrders));
    assert!(
        spent(&record, Limit::CertificatesPerSet) && spent(&record, Limit::CertificatesPerName)
    );
    assert!(spent(&record, Limit::OwnRenewals), "our own caps know no exemption");

    let mut record = LedgerRecord::default();
    spend_order(&mut record, &limits, &wish(&site, replacing), at(0));
    settle_replacement(&mut record, &limits, &wish(&site, replacing), at(0));
    tidy(&mut record, at(0));
    assert!(spent(&record, Limit::CertificatesPerSet));
    assert!(!spent(&record, Limit::NewOrders) && !spent(&record, Limit::CertificatesPerName));

    spend_order(&mut record, &limits, &wish(&site, renewing), at(0));
    tidy(&mut record, at(0));
    assert!(spent(&record, Limit::CertificatesPerSet));
    assert!(!spent(&record, Limit::NewOrders) && !spent(&record, Limit::CertificatesPerName));
    spend_order(&mut record, &limits, &wish(&site, BY_TIME), at(0));
    assert!(spent(&record, Limit::NewOrders) && spent(&record, Limit::CertificatesPerName));

    // A CA of which no exemption is known counts everything.
    let strict = Limits { exempts_replacements: false, exempts_renewals: false, ..theirs() };
    let mut record = LedgerRecord::default();
    spend_order(&mut record, &strict, &wish(&site, replacing), at(0));
    settle_replacement(&mut record, &strict, &wish(&site, replacing), at(0));
    tidy(&mut record, at(0));
    assert!(spent(&record, Limit::NewOrders));
}

#[test]
fn an_exempt_order_is_let_pass_where_another_would_be_refused() {
    let limits = Limits { exempts_replacements: true, ..only(Limit::CertificatesPerSet, "1/7d") };
    let site = names(&["a.example"]);
    let mut record = LedgerRecord::default();
    spend_order(&mut record, &limits, &wish(&site, BY_HAND), at(0));
    assert!(refusal(&record, &limits, &wish(&site, BY_HAND), at(0)).is_some());
    let replacing = OrderKind { replaces: true, ..BY_HAND };
    assert_eq!(refusal(&record, &limits, &wish(&site, replacing), at(0)), None);
    // The overdraft is never more than all there is, once again.
    for _ in 0..100 {
        spend_order(&mut record, &limits, &wish(&site, replacing), at(0));
    }
    assert_eq!(refused(&record, &limits, &wish(&site, BY_HAND), at(0)).1, at(14 * DAY));
}

#[test]
fn what_the_ca_did_not_take_is_given_back_and_what_it_may_have_taken_stays_an_order() {
    let limits = theirs();
    let site = names(&["a.example"]);
    let order = wish(&site, BY_TIME);
    let mut record = LedgerRecord::default();
    spend_order(&mut record, &limits, &order, at(0));
    give_order_back(&mut record, &limits, &order, OrderEnd::NotPlaced, at(0), at(0));
    tidy(&mut record, at(0));
    assert!(record.spent.is_empty(), "{record:?}");

    spend_order(&mut record, &limits, &order, at(0));
    give_order_back(&mut record, &limits, &order, OrderEnd::MaybePlaced, at(0), at(0));
    tidy(&mut record, at(0));
    assert_eq!(record.spent.keys().collect::<Vec<_>>(), ["new_orders"]);
}

/// D10, A18, A23, P13: whoever makes us renew one certificate again and again, be it somebody who
/// destroys its key, a CA that sends wrong ones or flips its advice, or a supervisor's loop.
#[test]
fn renewals_of_one_set_end_at_a_cap_that_scales_with_the_life() {
    let limits = Limits::default();
    let site = names(&["a.example"]);
    for life in [90 * DAY, 6 * DAY, HOUR] {
        let order = OrderWish { lifetime: Some(Duration::from_secs(life)), ..wish(&site, BY_TIME) };
        let mut record = LedgerRecord::default();
        assert_eq!(ordered(&mut record, &limits, &order, again(at(0))), 5);
        let (limit, until) = refused(&record, &limits, &order, at(0));
        assert_eq!((limit, until), (Limit::OwnRenewals, at(life / 60)));
        // Asked for all the time, for a whole life: the five, and one each sixtieth.
        let seconds = (0..=life).step_by(usize::try_from(life / 5000).unwrap().max(1)).map(at);
        let more = ordered(&mut record, &limits, &order, seconds);
        assert!((59..=60).contains(&more), "{more}");
        // Whoever asks by hand has a cap of his own, which ends as well.
        let by_hand = OrderWish { kind: BY_HAND, ..order };
        let mut record = LedgerRecord::default();
        assert_eq!(ordered(&mut record, &limits, &order, again(at(0))), 5);
        assert_eq!(ordered(&mut record, &limits, &by_hand, again(at(0))), 95);
        assert_eq!(refused(&record, &limits, &by_hand, at(0)).0, Limit::OwnCertificates);
    }
}

#[test]
fn a_certificate_of_seconds_is_renewed_as_often_as_it_must_be() {
    let site = names(&["a.example"]);
    let order = OrderWish { lifetime: Some(Duration::from_secs(30)), ..wish(&site, BY_TIME) };
    let mut record = LedgerRecord::default();
    let moments = (0..100).map(|it| at(it * 10));
    assert_eq!(ordered(&mut record, &Limits::default(), &order, moments), 100);
}

#[test]
fn an_unknown_life_is_taken_for_ten_days() {
    let site = names(&["a.example"]);
    let order = OrderWish { lifetime: None, ..wish(&site, BY_TIME) };
    let mut record = LedgerRecord::default();
    ordered(&mut record, &Limits::default(), &order, again(at(0)));
    assert_eq!(refused(&record, &Limits::default(), &order, at(0)).1, at(4 * HOUR));
    note_lifetime(&mut record, &site, Duration::from_secs(HOUR));
    assert_eq!(known_lifetime(&record, &site), Some(Duration::from_secs(HOUR)));
    tidy(&mut record, at(0));
    assert_eq!(known_lifetime(&record, &site), Some(Duration::from_secs(HOUR)));
    tidy(&mut record, at(20 * DAY));
    assert_eq!(record, LedgerRecord { written_at: Some(at(20 * DAY)), ..LedgerRecord::default() });
}

#[test]
fn four_failures_an_hour_and_ten_a_day_are_all_that_one_identifier_gets() {
    let limits = Limits::default();
    let (site, life) = (names(&["*.a.example"]), Some(Duration::from_secs(90 * DAY)));
    let mut record = LedgerRecord::default();
    let mut failed = 0;
    for minute in 0..24 * 60 {
        let now = at(minute * 60);
        if proof_refusal(&record, &limits, &site, life, now).is_none() {
            spend_proof(&mut record, &limits, &site, life, now);
            failed += 1;
        }
        assert!(minute >= 15 || failed <= 4, "{failed} in {minute} minutes");
    }
    assert_eq!(failed, 19, "ten, and the nine that came back");
    // The name below the star is the same authorization; another has its own.
    let bare = names(&["a.example"]);
    let now = at(24 * HOUR - 60);
    assert!(proof_refusal(&record, &limits, &bare, life, now).is_some());
    assert!(proof_refusal(&record, &limits, &names(&["b.a.example"]), life, now).is_none());
    // No order is placed that can't be proven.
    let limit = refused(&record, &limits, &wish(&bare, BY_HAND), now).0;
    assert_eq!(limit, Limit::OwnFailuresPerDay);
    // A short life has no time for that.
    let short = Some(Duration::from_secs(120));
    let mut record = LedgerRecord::default();
    for _ in 0..4 {
        spend_proof(&mut record, &limits, &site, short, at(0));
    }
    let refusal = proof_refusal(&record, &limits, &site, short, at(0)).unwrap();
    assert_eq!(refusal.until, at(12));
}

#[test]
fn a_success_ends_the_failures_in_a_row_and_gives_back_what_was_not_one() {
    let limits = theirs();
    let site = names(&["a.example"]);
    let mut record = LedgerRecord::default();
    spend_proof(&mut record, &limits, &site, None, at(0));
    assert_eq!(record.spent.len(), 4);
    give_proof_back(&mut record, &limits, &site, None, at(0), at(0));
    note_proven(&mut record, &site);
    tidy(&mut record, at(0));
    assert!(record.spent.is_empty());
    for _ in 0..3 {
        spend_proof(&mut record, &limits, &site, None, at(0));
    }
    note_proven(&mut record, &site);
    tidy(&mut record, at(0));
    assert!(record.spent.contains_key("failed_authorizations"));
    assert!(!record.spent.contains_key("consecutive_failures"));
}

#[test]
fn accounts_are_counted_too() {
    let limits = theirs();
    let mut record = LedgerRecord::default();
    for _ in 0..10 {
        assert_eq!(account_refusal(&record, &limits, at(0)), None);
        spend_account(&mut record, &limits, at(0));
    }
    assert_eq!(account_refusal(&record, &limits, at(0)).unwrap().until, at(18 * 60));
    give_account_back(&mut record, &limits, at(0));
    assert_eq!(account_refusal(&record, &limits, at(0)), None);
}

/// Has the CA say `text` to an order for `www.a.example` and `b.example`.
fn heard(record: &mut LedgerRecord, text: &str) {
    hear(record, &names(&["www.a.example", "b.example"]), text);
}

fn hear(record: &mut LedgerRecord, identifiers: &[Identifier], text: &str) {
    let said = Said { step: RefusedStep::Order, status: 429, text, until: at(HOUR) };
    note_refusal(record, identifiers, &said, at(0));
}

/// A02: what turns out not to count leaves an empty limit as empty as it was.
#[test]
fn what_the_ca_does_not_count_gives_nothing_to_those_whom_it_counts() {
    let limits = theirs();
    let mut record = LedgerRecord::default();
    let sites: Vec<_> = (0..60).map(|it| names(&[&format!("n{it}.a.example")])).collect();
    let mut placed = 0;
    for site in &sites {
        placed += ordered(&mut record, &limits, &wish(site, BY_HAND), [at(0)]);
    }
    assert_eq!(placed, 50);
    let plain = wish(&sites[59], BY_HAND);
    for site in sites.iter().take(20) {
        let replacing = wish(site, OrderKind { replaces: true, ..BY_HAND });
        assert_eq!(refusal(&record, &limits, &replacing, at(1)), None);
        spend_order(&mut record, &limits, &replacing, at(1));
        settle_replacement(&mut record, &limits, &replacing, at(1));
        tidy(&mut record, at(1));
        assert_eq!(refused(&record, &limits, &plain, at(1)).0, Limit::CertificatesPerName);
    }
}

/// A02: what the CA refused until a moment is closed until then for all that it said it of.
#[test]
fn what_the_ca_refused_is_closed_for_all_that_it_concerns_and_for_nobody_else() {
    let same = names(&["b.example", "www.a.example"]);
    let sibling = names(&["mail.a.example"]);
    let stranger = names(&["c.example"]);
    let texts = [
        (
            "too many certificates (5) already issued for this exact set of identifiers in the last \
             168h0m0s, retry after 2026-11-28 14:10:00 UTC",
            [true, false, false],
        ),
        (
            "too many certificates (50) already issued for \"a.example\" in the last 168h0m0s",
            [true, true, false],
        ),
        ("too many new orders (300) from this account in the last 3h0m0s", [true, true, true]),
        (
            "too many failed authorizations (5) for \"www.a.example\" in the last 1h0m0s",
            [true, false, false],
        ),
        ("slow down", [true, true, false]),
        ("Service busy; retry later.", [true, true, true]),
        ("too many new registrations (10) from this IP address", [false, false, false]),
    ];
    for (text, expected) in texts {
        let mut record = LedgerRecord::default();
        heard(&mut record, text);
        let closed = [&same, &sibling, &stranger].map(|it| {
            let wish = wish(it, BY_HAND);
            let refusal = refusal(&record, &Limits::default(), &wish, at(HOUR - 1));
            assert_eq!(super::refusal(&record, &Limits::default(), &wish, at(HOUR)), None);
            refusal.is_some_and(|it| it.said.is_some_and(|it| it == text[..it.len()]))
        });
        assert_eq!(closed, expected, "{text}");
    }
    // Whom the CA exempts it does not mean, unless nothing at all is to be asked of it.
    for (text, _) in texts {
        let mut record = LedgerRecord::default();
        heard(&mut record, text);
        for kind in [
            OrderKind { replaces: true, ..BY_TIME },
            OrderKind { renews: true, replaces: true, ..BY_TIME },
        ] {
            let refusal = refusal(&record, &theirs(), &wish(&sibling, kind), at(HOUR - 1));
            assert_eq!(refusal.is_some(), text.starts_with("Service busy"), "{text}");
        }
    }
    let mut record = LedgerRecord::default();
    heard(&mut record, "too many new registrations (10) from this IP address");
    assert!(account_refusal(&record, &Limits::default(), at(0)).is_some());
}

/// A02: a CA that does not say what it limits is taken at its word twice at most.
#[test]
fn a_second_refusal_that_says_nothing_closes_the_account() {
    let stranger = names(&["c.example"]);
    let mut record = LedgerRecord::default();
    heard(&mut record, "no");
    heard(&mut record, "no");
    let closed = |record: &LedgerRecord| {
        refusal(record, &Limits::default(), &wish(&names(&["d.example"]), BY_HAND), at(1)).is_some()
    };
    assert!(!closed(&record), "it was said of the same names");
    hear(&mut record, &stranger, "no");
    assert!(closed(&record));
}

/// A03, A04: no moment closes anything for more than a week.
#[test]
fn no_closure_lasts_longer_than_a_week() {
    let site = names(&["a.example"]);
    let mut record = LedgerRecord::default();
    let said = Said { step: RefusedStep::Order, status: 429, text: "", until: Timestamp::MAX };
    note_refusal(&mut record, &site, &said, at(0));
    let (_, until) = refused(&record, &Limits::default(), &wish(&site, BY_HAND), at(0));
    assert_eq!(until, at(7 * DAY));
}

/// T01, T02: a clock that goes back makes no time pass, and what a wrong one noted is no wait for
/// years.
#[test]
fn a_clock_that_goes_back_leaves_what_is_spent_and_what_is_left() {
    let limits = only(Limit::CertificatesPerSet, "5/7d");
    let site = names(&["a.example"]);
    let order = wish(&site, BY_HAND);
    let mut record = LedgerRecord::default();
    let late = at(3650 * DAY);
    ordered(&mut record, &limits, &order, again(late));
    hear(&mut record, &names(&["b.example"]), "too many new orders");
    for now in [at(0), Timestamp::EPOCH] {
        let until = refused(&record, &limits, &order, now).1;
        assert_eq!(until, now.saturating_add(Duration::from_secs(7 * DAY / 5)), "at {now}");
        tidy(&mut record, now);
        assert_eq!(refused(&record, &limits, &order, now).1, until);
    }
}

proptest! {
    /// However the clock steps, no more is let pass than what there is and what its steps ahead
    /// could have brought back: a step back brings nothing.
    #[test]
    fn no_steps_of_the_clock_bring_more_than_the_time_that_they_seem_to_pass(
        steps in proptest::collection::vec(-400_000_i64..200_000, 1..200),
        count in 1_u32..20, hours in 1_u64..200,
    ) {
        let rate = Rate { count, per: Duration::from_secs(hours * HOUR) };
        let limits = Limits {
            rates: BTreeMap::from([(Limit::CertificatesPerSet, rate)]),
            ..Limits::default()
        };
        let site = names(&["a.example"]);
        let order = wish(&site, BY_HAND);
        let mut record = LedgerRecord::default();
        let (mut now, mut ahead, mut placed) = (at(0), Duration::ZERO, 0_u128);
        for step in steps {
            let span = Duration::from_secs(step.unsigned_abs());
            if step < 0 {
                now = now.saturating_sub(span);
            } else {
                now = now.saturating_add(span);
                ahead += span;
            }
            if refusal(&record, &limits, &order, now).is_none() {
                tidy(&mut record, now);
                spend_order(&mut record, &limits, &order, now);
                placed += 1;
            }
            tidy(&mut record, now);
        }
        let came_back = ahead.as_millis() / rate.interval().as_millis() + 1;
        prop_assert!(placed <= u128::from(count) + came_back, "{placed} of {count}, {came_back}");
    }

    /// In no window does a bucket give more than what it holds and what came back meanwhile,
    /// however late an order turns out not to count.
    #[test]
    fn no_sequence_of_orders_and_clocks_overdraws_a_limit(
        steps in proptest::collection::vec((0_u64..200_000, 0_usize..6), 1..200),
        count in 1_u32..20, hours in 1_u64..200,
    ) {
        let rate = Rate { count, per: Duration::from_secs(hours * HOUR) };
        let limits = Limits {
            rates: BTreeMap::from([(Limit::CertificatesPerSet, rate)]),
            ..Limits::default()
        };
        let site = names(&["a.example"]);
        let order = wish(&site, BY_HAND);
        let mut record = LedgerRecord::default();
        let (mut now, mut placed, mut open) = (at(0), Vec::new(), Vec::new());
        for (number, (step, fate)) in steps.into_iter().enumerate() {
            now = now.saturating_add(Duration::from_secs(step));
            open.retain(|(spent_at, until)| {
                if *until <= number {
                    let end = OrderEnd::NotPlaced;
                    give_order_back(&mut record, &limits, &order, end, *spent_at, now);
                }
                *until > number
            });
            if refusal(&record, &limits, &order, now).is_some() {
                continue;
            }
            spend_order(&mut record, &limits, &order, now);
            match fate {
                0..3 => placed.push(now),
                fate => open.push((now, number + (fate - 2) * 3)),
            }
            tidy(&mut record, now);
        }
        for (first, begin) in placed.iter().enumerate() {
            for (last, end) in placed.iter().enumerate().skip(first) {
                let came_back = end.since(*begin).as_millis() / rate.interval().as_millis() + 1;
                let most = u128::from(count) + came_back;
                prop_assert!(u128::try_from(last - first + 1).unwrap() <= most);
            }
        }
    }

    /// Whatever stands in the file, and whatever the clock says, nothing panics and no refusal lies
    /// further ahead than the longest limit.
    #[test]
    fn no_record_and_no_clock_makes_a_wait_for_ever(
        noted in any::<u64>(), written in any::<u64>(), now in any::<u64>(),
    ) {
        let moment = |seconds: u64| Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds));
        let (limits, site, now) = (theirs(), names(&["a.example"]), moment(now));
        let mut record =
            LedgerRecord { written_at: Some(moment(written)), ..LedgerRecord::default() };
        for limit in Limit::ALL {
            let key = if limit == Limit::NewOrders { String::new() } else { set_key(&site) };
            record
                .spent
                .entry(limit.as_str().to_owned())
                .or_default()
                .insert(key, Spent { whole_at: moment(noted), interval_ms: written });
        }
        if let Some(refusal) = refusal(&record, &limits, &wish(&site, BY_TIME), now) {
            prop_assert!(refusal.until.since(now) <= Duration::from_secs(45 * DAY));
        }
        tidy(&mut record, now);
        spend_order(&mut record, &limits, &wish(&site, BY_TIME), now);
        prop_assert!(!left(&record, &limits, &wish(&site, BY_TIME), now).is_empty());
    }
}

/// The first certificate of a set comes before anybody knows how long it lives.
#[test]
fn what_was_spent_at_one_rate_is_as_much_at_another() {
    let site = names(&["a.example"]);
    let limits = Limits::default();
    let unknown = OrderWish { lifetime: None, ..wish(&site, BY_TIME) };
    let mut record = LedgerRecord::default();
    spend_order(&mut record, &limits, &unknown, at(0));
    tidy(&mut record, at(0));
    for life in [30, HOUR, 90 * DAY] {
        let known = OrderWish { lifetime: Some(Duration::from_secs(life)), ..unknown };
        let mut record = record.clone();
        assert_eq!(ordered(&mut record, &limits, &known, again(at(0))), 4, "{life}");
    }
    let [few, more] = ["1/1h", "2/1h"].map(|it| only(Limit::NewOrders, it));
    let by_hand = wish(&site, BY_HAND);
    let mut record = LedgerRecord::default();
    assert_eq!(ordered(&mut record, &few, &by_hand, again(at(0))), 1);
    assert_eq!(ordered(&mut record, &more, &by_hand, again(at(0))), 1);
}
