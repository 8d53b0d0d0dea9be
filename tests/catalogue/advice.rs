//! Advice when to renew that is wrong, missing or unsteady, and replacements that are refused
//! (A21 to A24).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use renewd::model::{Event, Timestamp};
use renewd::sys::clock::Clock;

use crate::ca::{Advice, How, Step, Times};
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// Advice as text.
fn advice(start: &str, end: &str) -> Option<Advice> {
    Some(Advice { start: start.into(), end: end.into(), explanation: None })
}

/// A21: windows without sense. None leads to an order before its time, and none keeps one away.
#[tokio::test]
async fn windows_without_sense_cost_no_order_and_no_certificate() {
    for (start, end) in [
        ("2027-01-20T00:00:00Z", "2027-01-10T00:00:00Z"),
        ("2027-01-20T00:00:00Z", "2027-01-20T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("9999-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("99999-01-01T00:00:00Z", "soon"),
        ("", ""),
    ] {
        let world = World::start().await;
        world.ca.with(|it| it.advice_for_all = advice(start, end));
        world.ca.with(|it| it.options.poll_after = DAY);
        world.renewed().await;
        world.live(50 * DAY).await;
        assert_eq!(world.ca.issued(), 1, "{start} {end}");
        world.live(26 * DAY).await;
        assert_eq!(world.ca.issued(), 2, "{start} {end}: the reserve at the latest");
        let polls = world.ca.count(Step::RenewalInfo);
        assert!(polls <= 77 * 4 + 10, "{start} {end}: {polls}");
    }
}

/// A21: a window that is over means now, and once a day at most.
#[tokio::test]
async fn a_window_that_is_over_leads_to_one_order_a_day_at_most() {
    for (start, end) in [
        ("0001-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("1990-01-01T00:00:00Z", "1990-01-02T00:00:00Z"),
        ("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
    ] {
        let world = World::start().await;
        world.ca.with(|it| it.advice_for_all = advice(start, end));
        world.renewed().await;
        world.live(5 * DAY).await;
        assert!((2..=6).contains(&world.ca.issued()), "{start}: {}", world.ca.issued());
    }
}

/// A22: no answer, or one of no use: asked again in hours, and the usual moment counts.
#[tokio::test]
async fn without_advice_the_usual_moment_counts() {
    for how in [
        How::status(404),
        How::page(500, "<html>"),
        How::page(200, "<html>"),
        How::header("retry-after", &[]),
        How::Closed,
        How::problem(429, "rateLimited").with("retry-after", "86400"),
    ] {
        let what = format!("{how:?}");
        let world = World::start().await;
        world.ca.fault(Step::RenewalInfo, how, Times::Always);
        world.renewed().await;
        world.live(DAY).await;
        let polls = world.ca.count(Step::RenewalInfo);
        assert!(polls <= 9, "{what}: {polls}");
        world.clock.advance(55 * DAY);
        world.live(DAY).await;
        assert_eq!(world.ca.issued(), 1, "{what}");
        world.clock.advance(2 * DAY);
        world.live(3 * DAY).await;
        assert_eq!(world.ca.issued(), 2, "{what}");
        assert_eq!(world.state()["attempts"]["failures"], 0, "{what}");
    }
}

/// A22: a CA that does not answer is waited for once, however many certificates would ask it.
#[tokio::test]
async fn who_gives_no_advice_is_waited_for_once_and_asked_again_a_little_later() {
    let certificate = |name| format!("[[certificate]]\ntargets = []\ndomains = [\"{name}\"]\n");
    let certificate = ["a.example", "b.example", "c.example"].map(certificate).concat();
    let world = World::with(Setting { certificate, ..Setting::default() }).await;
    assert_eq!(world.work_all().await, 4);
    world.ca.fault(Step::RenewalInfo, How::Closed, Times::Always);
    world.clock.advance(DAY);
    let count = || world.ca.count(Step::RenewalInfo);
    let before = count();
    world.work().await;
    let one = count() - before;
    assert!(one > 0);
    world.work_all().await;
    assert_eq!(count(), before + one);
    world.clock.advance(MINUTE);
    world.work_all().await;
    assert_eq!(count(), before + 2 * one, "the first of those whose time has come");
}

/// A22: what was said of the old certificate counts for nothing after its renewal.
#[tokio::test]
async fn advice_about_the_old_certificate_does_not_replace_the_new_one() {
    let world = World::start().await;
    world.renewed().await;
    let past = advice("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z").unwrap();
    world.ca.with(|it| {
        let id = it.certificates.values().next().unwrap().id.clone();
        it.advice.insert(id, past.clone());
    });
    world.live(10 * DAY).await;
    assert_eq!(world.ca.issued(), 2);
    let second = world.ca.seen(Step::NewOrder).pop().unwrap();
    assert!(second.payload["replaces"].is_string(), "{second:?}");
}

/// A23: advice that changes with each poll, now and later.
#[tokio::test]
async fn advice_that_changes_its_mind_is_told_and_leads_to_no_second_order() {
    let world = World::start().await;
    let polls = Arc::new(AtomicU64::new(0));
    let clock = world.clock.clone();
    let flipping = How::edit(move |it| {
        let odd = polls.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let at = |days: u32| clock.now().saturating_add(DAY * days);
        let (start, end): (Timestamp, Timestamp) =
            if odd { (at(20), at(21)) } else { (at(50), at(51)) };
        it["suggestedWindow"]["start"] = start.to_string().into();
        it["suggestedWindow"]["end"] = end.to_string().into();
    });
    world.ca.fault(Step::RenewalInfo, flipping, Times::Always);
    world.renewed().await;
    world.live(15 * DAY).await;
    assert_eq!(world.ca.issued(), 1);
    let unsteady = |it: &Event| matches!(it, Event::SuggestionUnsteady { .. });
    assert!(world.told.all().iter().any(unsteady));

    // Now, later, now: an order a day at most.
    let world = World::start().await;
    let polls = Arc::new(AtomicU64::new(0));
    let clock = world.clock.clone();
    let flipping = How::edit(move |it| {
        let now = polls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let start = if now {
            clock.now().saturating_sub(DAY)
        } else {
            clock.now().saturating_add(DAY * 40)
        };
        it["suggestedWindow"]["start"] = start.to_string().into();
        it["suggestedWindow"]["end"] = start.saturating_add(MINUTE).to_string().into();
    });
    world.ca.fault(Step::RenewalInfo, flipping, Times::Always);
    world.renewed().await;
    world.live(10 * DAY).await;
    assert!(world.ca.issued() <= 11, "{}", world.ca.issued());
    let orders: Vec<Timestamp> = world.ca.seen(Step::NewOrder).iter().map(|it| it.at).collect();
    for pair in orders.windows(2) {
        assert!(pair[1].since(pair[0]) >= DAY - Duration::from_secs(1), "{orders:?}");
    }
}

/// A24: a CA that does not want to hear of a replacement.
#[tokio::test]
async fn a_refused_replacement_is_ordered_once_more_without_it() {
    for (status, kind) in [
        (409, "alreadyReplaced"),
        (409, "conflict"),
        (404, "malformed"),
        (400, "malformed"),
        (403, "unauthorized"),
        (500, "serverInternal"),
    ] {
        let world = World::start().await;
        world.renewed().await;
        world.clock.advance(62 * DAY);
        world.ca.fault(Step::NewOrder, How::problem(status, kind), Times::Count(1));
        world.renewed().await;
        let orders = world.ca.seen(Step::NewOrder);
        let replaces = orders.iter().map(|it| it.payload["replaces"].is_string());
        assert_eq!(replaces.collect::<Vec<_>>(), [false, true, false], "{status} {kind}");
    }
    // What is limited or paused is not asked again at once.
    let world = World::start().await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    let limited = How::problem(429, "rateLimited").with("retry-after", "600");
    world.ca.fault(Step::NewOrder, limited, Times::Count(1));
    world.failed().await;
    assert_eq!(world.orders(), 2);
}

/// A24, A02: what the CA says of the order without it is what it has said.
#[tokio::test]
async fn a_limit_that_ends_the_order_without_replaces_is_waited_for() {
    let world = World::start().await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    let limited = How::problem(429, "rateLimited").with("retry-after", "36000");
    world.ca.fault(Step::NewOrder, How::problem(500, "serverInternal"), Times::Count(1));
    world.ca.fault(Step::NewOrder, limited, Times::Count(1));
    let failure = world.failed().await;
    assert_eq!((failure.code.as_str(), world.orders()), ("acme.rate_limited", 3), "{failure:?}");
    world.live(10 * HOUR - MINUTE).await;
    assert_eq!(world.orders(), 3);
    world.clock.advance(2 * MINUTE);
    world.renewed().await;
}
