//! Killed while an order makes way for another CA, or is taken up again, renewd loses neither it
//! nor its key, and leaves no proof of it to be seen.
//!
//! Needs the feature `crash-points`. Not here: when a stand-in is asked ([`crate::standins`]);
//! kills at the steps of an order at one CA ([`crate::crash`]).

use std::fs;

use serde_json::Value;

use crate::site::{LIMIT, NAME, Tls};
use crate::standins::World;
use crate::support::{Endpoint, Finished, Manner, PebbleOptions, run};

/// Where an order and its key lie: on its way, and set aside.
const PLACES: [[&str; 2]; 2] =
    [["order.json", "next/privkey.pem"], ["aside/lab/order.json", "aside/lab/privkey.pem"]];

/// A run that is to die at `point`.
#[track_caller]
fn killed_at(world: &World, point: &str) {
    let mut command = world.site.workspace.command(&["renew", NAME]);
    let killed = run(command.env("RENEWD_CRASH_AT", point), LIMIT);
    assert_eq!(killed.code, -1, "{point} was not passed: {killed}");
}

/// The first CA's order and its key, as they lie on their way.
#[track_caller]
fn on_its_way(world: &World) -> (Value, String) {
    let [order, key] = PLACES[0].map(|it| fs::read_to_string(world.private(it)).unwrap());
    let order: Value = serde_json::from_str(&order).unwrap();
    (order["order_url"].clone(), key)
}

/// `order` is on record, with its key wherever it is, and no proof of it is shown.
#[track_caller]
fn check_kept(world: &World, order: &(Value, String), after: &str) {
    let mut found = 0;
    for [place, key] in PLACES {
        let Ok(text) = fs::read(world.private(place)) else { continue };
        let record: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(record["order_url"], order.0, "{after}: {place}");
        let key = fs::read_to_string(world.private(key)).unwrap_or_default();
        assert!(key == order.1, "{after}: another key than that of {place}");
        found += 1;
    }
    assert!(found > 0, "{after}: the order is lost");
    check_no_proof(world, after);
}

#[track_caller]
fn check_no_proof(world: &World, after: &str) {
    assert_eq!(proofs(world), 0, "{after}: a proof is shown");
}

fn proofs(world: &World) -> usize {
    let shown = fs::read_dir(world.site.workspace.path().join("run/acme-challenge"));
    shown.map_or(0, Iterator::count)
}

/// `done` ended well, and nothing is left of any order.
#[track_caller]
fn check_done(world: &World, done: &Finished) {
    assert_eq!(done.code, 0, "{done}\n{}", world.site.pebble.log());
    for file in PLACES.as_flattened() {
        assert!(!world.private(file).exists(), "{file} is left");
    }
    check_no_proof(world, "at the end");
    let status = world.site.await_condition("served");
    assert_eq!(world.site.served_serial().as_deref(), status["serial"].as_str());
}

#[test]
fn an_order_that_makes_way_for_another_ca_keeps_its_key_whatever_step_a_kill_comes_at() {
    // Until it is mended, the stand-in takes no account: the first one's order stays aside.
    let needs_binding = PebbleOptions {
        external_account_binding: Some(("kid".to_owned(), "c2VjcmV0".repeat(6))),
        ..PebbleOptions::default()
    };
    let mut world = World::with(Tls::Store, "", needs_binding);
    killed_at(&world, "issue.presented");
    let order = on_its_way(&world);
    assert_eq!(proofs(&world), 1);
    world.front.be(&Manner::Closed);
    let failed = world.renew(&[NAME]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(on_its_way(&world) == order, "its CA is asked first");

    // Each run takes it up for the first CA, which is down, and sets it aside for the stand-in.
    for point in [
        "atomic.renamed:aside/lab/order.json",
        "atomic.renamed:aside/lab/privkey.pem",
        "store.order_set_aside",
        "store.removed:site/order.json",
        "atomic.renamed:next/privkey.pem",
        "store.order_taken_up",
        "store.removed:aside/lab/order.json",
    ] {
        killed_at(&world, point);
        check_kept(&world, &order, point);
    }
    let failed = world.renew(&[NAME]);
    assert_eq!(failed.code, 1, "{failed}");
    assert_eq!(world.site.status()["error_code"], "acme.external_account_required");
    assert!(!world.private("order.json").exists() && !world.private("next/privkey.pem").exists());
    check_kept(&world, &order, "set aside");

    world.front.be(&Manner::Open);
    let done = world.renew(&[NAME]);
    assert!(done.stderr.contains("order of an earlier run goes on"), "{done}");
    check_done(&world, &done);
    assert_eq!(world.ca(), "lab");
    let asked = world.site.pebble.requests();
    let paid = [Endpoint::NewOrder, Endpoint::Finalize].map(|it| asked.count(it));
    assert_eq!(paid, [1, 1], "it is paid for once");
    let key = world.site.workspace.certificate(NAME).join("current/privkey.pem");
    assert!(fs::read_to_string(key).unwrap() == order.1, "it is for another key");
}

#[test]
fn an_order_of_a_ca_that_is_down_keeps_nobody_from_the_stand_in_and_is_forgotten_then() {
    let mut world = World::start(Tls::Store, "");
    // The first CA has just been told to issue: it may have, and nobody knows.
    killed_at(&world, "issue.after_finalize");
    let order = on_its_way(&world);
    world.front.be(&Manner::Closed);
    assert_eq!(world.renew(&[NAME]).code, 1);
    assert!(on_its_way(&world) == order, "its CA is asked first");
    killed_at(&world, "store.order_set_aside");
    check_kept(&world, &order, "set aside");
    // With another order on its way, too, it is kept until there is a certificate.
    killed_at(&world, "issue.after_finalize");
    check_set_aside(&world, &order);
    let done = world.renew(&[NAME]);
    check_done(&world, &done);
    assert_eq!((world.ca(), world.orders_at_spare()), ("spare".into(), 1));
}

/// D04: killed as soon as the stand-in's certificate is stored. What was set aside for the renewal
/// that it ends is forgotten by the next run, as are the failures of it.
#[test]
fn what_failed_and_was_set_aside_is_over_with_the_stand_ins_certificate_though_a_kill_came_then() {
    let mut world = World::start(Tls::Store, "");
    killed_at(&world, "issue.after_finalize");
    let order = on_its_way(&world);
    world.front.be(&Manner::Closed);
    assert_eq!(world.renew(&[NAME]).code, 1);
    killed_at(&world, "lifecycle.stored");
    check_set_aside(&world, &order);
    assert_ne!(failures(&world), 0);
    let done = world.renew(&[NAME]);
    check_done(&world, &done);
    assert_eq!((world.ca(), world.orders_at_spare()), ("spare".into(), 1));
    assert_eq!(failures(&world), 0);
}

/// How many failures are remembered.
fn failures(world: &World) -> Value {
    let text = fs::read(world.private("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    state["attempts"]["failures"].clone()
}

/// `order` is aside, and another with a key of its own is on its way.
#[track_caller]
fn check_set_aside(world: &World, order: &(Value, String)) {
    let [record, key] = PLACES[1].map(|it| fs::read_to_string(world.private(it)).unwrap());
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(record["order_url"] == order.0 && key == order.1, "it is not aside");
    let other = on_its_way(world);
    assert!(other.0 != order.0 && other.1 != order.1, "none of its own");
}
