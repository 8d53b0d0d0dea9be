//! Orders that the CA takes, and is not done with: how long they are waited for (A13, A34).

use std::time::Duration;

use renewd::plan::Asked;

use crate::ca::{CaOptions, How, Step, Times};
use crate::orders::{about_to_end, placed};
use crate::world::{DAY, HOUR, Setting, World};

/// Longer than any test.
const NEVER: Duration = Duration::from_hours(10_000 * 24);

/// Has the CA say no end of its orders where `leaves_out` says so of their state.
fn leave_out_ends(world: &World, leaves_out: fn(&str) -> bool) {
    for step in [Step::NewOrder, Step::Order, Step::Finalize] {
        let edit = How::edit(move |it| {
            if leaves_out(it["status"].as_str().unwrap_or_default()) {
                drop(it.as_object_mut().unwrap().remove("expires"));
            }
        });
        world.ca.fault(step, edit, Times::Always);
    }
}

/// A13: a CA has to say when an order ends only while it is pending or valid (RFC 8555 §7.1.3).
/// What it said then holds.
#[tokio::test]
async fn an_order_in_processing_whose_end_is_not_said_again_is_given_up_at_that_end() {
    let options =
        CaOptions { issuing_takes: NEVER, order_lifetime: 2 * DAY, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    leave_out_ends(&world, |status| status == "processing");
    assert_eq!(world.failed().await.code, "acme.still_waiting");
    world.ca.with(|it| it.options.issuing_takes = Duration::ZERO);
    world.clock.advance(30 * HOUR);
    let world = world.restart().await;
    let outcome = world.work_asked(Asked::ByName).await;
    assert_eq!((outcome.failures.len(), placed(&world)), (1, 1), "it is kept: {outcome:?}");
    world.clock.advance(20 * HOUR);
    let outcome = world.work_asked(Asked::ByName).await;
    assert!(outcome.renewed, "{outcome:?}");
    assert_eq!(placed(&world), 2);
}

/// A13, A34: the order would outlive what is held, or nobody knows when it ends, and the CA only
/// says that it is not done with it.
#[tokio::test]
async fn no_order_that_the_ca_is_not_done_with_is_waited_for_until_what_is_held_ends() {
    for (is_proven, says_end) in [(true, true), (true, false), (false, true)] {
        let what = format!("proven: {is_proven}, with an end: {says_end}");
        let world = about_to_end().await;
        let held = world.held();
        world.ca.with(|it| match is_proven {
            true => it.options.issuing_takes = NEVER,
            false => it.options.validation_takes = NEVER,
        });
        if !says_end {
            leave_out_ends(&world, |_| true);
        }
        assert_eq!(world.failed().await.code, "acme.still_waiting", "{what}");
        world.ca.with(|it| {
            (it.options.issuing_takes, it.options.validation_takes) = Default::default();
        });
        world.live(6 * HOUR).await;
        assert_ne!(world.held(), held, "{what}: {:#?}", world.told.all());
        // One that is proven counts as issued there.
        assert_eq!((placed(&world), world.ca.issued()), (3, 2 + u64::from(is_proven)), "{what}");
    }
}

/// A34: the same where nothing is held: once a week, not once in the months that it would live, and
/// not before a human at the CA could have agreed.
#[tokio::test]
async fn a_first_order_that_would_be_in_processing_for_months_is_given_up_after_a_week() {
    let options =
        CaOptions { issuing_takes: NEVER, order_lifetime: 90 * DAY, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    world.failed().await;
    world.ca.with(|it| it.options.issuing_takes = Duration::ZERO);
    world.live(6 * DAY).await;
    assert_eq!((world.held(), world.orders()), (None, 1));
    world.live(2 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!(world.orders(), 2);
}
