//! What is kept of the ledger, and for how long.

use super::super::keeping::{MAX_DIRECTORIES, MAX_ENTRIES};
use super::*;
use crate::model::PastOrder;

#[test]
fn what_is_kept_is_bounded_and_the_nearest_to_whole_is_forgotten_first() {
    let mut record = LedgerRecord::default();
    let of_limit = record.spent.entry("certificates_per_set".to_owned()).or_default();
    for it in 0..12_000_u64 {
        of_limit.insert(format!("{it:05}"), Spent { whole_at: at(1 + it), interval_ms: 1 });
    }
    tidy(&mut record, at(0));
    let kept = &record.spent["certificates_per_set"];
    assert_eq!(kept.len(), MAX_ENTRIES);
    assert!(!kept.contains_key("01999") && kept.contains_key("02000"));
}

/// Also of what lies elsewhere; and there is an end to how much may lie there.
#[test]
fn what_another_directory_counted_is_of_its_time_too_and_forgotten_when_it_is_over() {
    let limits = only(Limit::NewOrders, "2/1h");
    let site = names(&["a.example"]);
    let order = wish(&site, BY_HAND);
    let mut record = LedgerRecord::default();
    turn_to(&mut record, "one");
    assert_eq!(ordered(&mut record, &limits, &order, again(at(10 * HOUR))), 2);
    turn_to(&mut record, "two");
    // Ten hours back: it lasts as long as it was to.
    tidy(&mut record, at(0));
    assert_eq!(record.elsewhere["one"].spent["new_orders"][""].whole_at, at(HOUR));
    turn_to(&mut record, "one");
    assert_eq!(refused(&record, &limits, &order, at(0)).1, at(HOUR / 2));
    turn_to(&mut record, "two");
    tidy(&mut record, at(HOUR));
    assert!(record.elsewhere.is_empty(), "{record:?}");

    for it in 0..100 {
        turn_to(&mut record, &format!("{it:02}"));
        spend_order(&mut record, &limits, &order, at(HOUR));
    }
    assert_eq!(record.elsewhere.len(), MAX_DIRECTORIES);
}

#[test]
fn of_too_many_directories_the_one_whose_counts_are_over_first_is_forgotten() {
    let site = names(&["a.example"]);
    let order = wish(&site, BY_HAND);
    let mut record = LedgerRecord::default();
    for it in 0..=MAX_DIRECTORIES {
        turn_to(&mut record, &format!("{it}"));
        // The fourth has the least, the first by its name the most.
        let per = if it == 3 { 1 } else { 100 - it };
        let limits = only(Limit::NewOrders, &format!("1/{per}h"));
        spend_order(&mut record, &limits, &order, at(0));
    }
    turn_to(&mut record, "last");
    assert!(record.elsewhere.contains_key("0") && !record.elsewhere.contains_key("3"));
    let former = MAX_DIRECTORIES.to_string();
    assert!(record.elsewhere.contains_key(&former), "{record:?}");
}

/// Orders that come to nothing are given back when they have ended. By then time has done a part of
/// it, and what is missing still is that of others.
#[test]
fn what_time_has_given_back_is_not_given_back_again() {
    let limits = only(Limit::CertificatesPerSet, "10/10h");
    let site = names(&["a.example"]);
    let order = wish(&site, BY_HAND);
    let left_after = |more: u32, ended: Timestamp| {
        let mut record = LedgerRecord::default();
        for _ in 0..4 {
            spend_order(&mut record, &limits, &order, at(0));
        }
        for _ in 0..more {
            spend_order(&mut record, &limits, &order, ended);
        }
        for _ in 0..4 {
            let end = OrderEnd::MaybePlaced;
            give_order_back(&mut record, &limits, &order, end, at(0), ended);
        }
        left(&record, &limits, &order, ended)[0].left
    };
    assert_eq!(left_after(0, at(0)), 10);
    assert_eq!(left_after(1, at(0)), 9);
    assert_eq!(left_after(1, at(5 * HOUR)), 9);
    assert_eq!(left_after(6, at(5 * HOUR)), 4);
    assert!(left_after(1, at(HOUR / 2)) <= 9);
}

/// D11: each order counts when it was placed, and as the CA counts it; what is long over does not.
#[test]
fn without_a_record_the_orders_count_whose_certificates_are_held() {
    let mut limits = only(Limit::CertificatesPerSet, "5/5d");
    limits.rates.insert(Limit::NewOrders, "9/1d".parse().unwrap());
    limits.exempts_renewals = true;
    limits.directory = "here".to_owned();
    let site = names(&["a.example"]);
    let past = |issued_at, renews| PastOrder {
        identifiers: site.clone(),
        issued_at,
        lifetime: Duration::from_hours(24 * 90),
        renews,
    };
    let now = at(100 * HOUR);
    let orders = vec![past(at(99 * HOUR), true), past(at(0), false), past(at(98 * HOUR), false)];
    let record = rebuilt(&limits, orders, now);
    let [orders, set] = ["new_orders", "certificates_per_set"].map(|limit| {
        let left = left(&record, &limits, &wish(&site, BY_HAND), now);
        left.iter().find(|it| it.limit == limit).unwrap().left
    });
    assert_eq!((orders, set), (8, 3));
    // Who asked for them is not known: they count as if nobody had.
    assert!(record.spent.contains_key("own_renewals"), "{record:?}");
    assert_eq!(known_lifetime(&record, &site), Some(Duration::from_hours(24 * 90)));
    assert_eq!(record.directory.as_deref(), Some("here"));

    // A clock that was ahead makes nothing of tomorrow of it.
    let record = rebuilt(&limits, vec![past(at(5_000 * HOUR), false)], now);
    let whole_at = record.spent["certificates_per_set"].values().next().unwrap().whole_at;
    assert_eq!(whole_at, at(124 * HOUR));
    assert_eq!(rebuilt(&limits, Vec::new(), now).spent, [].into());
}
