//! Killed at whatever step of a revocation, renewd goes on from there: what was asked for is done
//! at the CA, once, and at most one certificate comes of it.
//!
//! Needs the feature `crash-points`. Not here: what a revocation does ([`crate::revocation`]);
//! kills at the steps of an order ([`crate::crash`]).

use serde_json::Value;

use crate::revocation::{at_the_ca, site};
use crate::site::{LIMIT, NAME, Site};
use crate::support::run;

/// The steps of every revocation, in the order in which they are passed where it comes first.
const STEPS: [&str; 3] =
    ["lifecycle.revocation_asked", "lifecycle.revocation_done", "lifecycle.revocation_noted"];

#[test]
fn killed_at_every_step_a_key_in_other_hands_ends_revoked_and_replaced_once() {
    let site = site();
    for point in STEPS.into_iter().chain(["issue.after_finalize", "lifecycle.stored"]) {
        let old = killed_at(&site, point, &["--reason", "keyCompromise"]);
        check_replaced(&site, &old, 1, point);
    }
}

#[test]
fn killed_at_every_step_the_old_one_is_revoked_after_the_new_one_is_served() {
    let site = site();
    let between = ["store.current", "deploy.before_reload"];
    for point in STEPS.into_iter().chain(between) {
        let old = killed_at(&site, point, &["--reason", "superseded", "--reissue"]);
        check_replaced(&site, &old, 4, point);
    }
}

#[test]
fn killed_at_every_step_what_is_not_to_be_replaced_is_revoked_and_nothing_is_ordered() {
    let site = site();
    for point in STEPS {
        let issued = issued(&site);
        let by = ["--reason", "cessationOfOperation", "--key", "certificate"];
        let old = killed_at(&site, point, &by);
        let status = next_run(&site, point);
        assert_eq!(status["condition"], "revoked", "{point}: {status:#}");
        assert_eq!(status["serial"], old, "{point}");
        check_at_the_ca(&site, &old, 5, point);
        assert_eq!(self::issued(&site), issued, "{point}");
        let forced = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(forced.code, 0, "{point}: {forced}");
    }
}

/// Kills a revocation with `options` at `point`; returns the serial number of what it is about.
#[track_caller]
fn killed_at(site: &Site, point: &str, options: &[&str]) -> Value {
    let old = site.status()["serial"].clone();
    let arguments = [&["revoke", NAME, "--yes"], options].concat();
    let mut command = site.workspace.command(&arguments);
    let killed = run(command.env("RENEWD_CRASH_AT", point), LIMIT);
    assert_eq!(killed.code, -1, "{point} was not passed: {killed}");
    old
}

/// The next start; returns the status after it. Whatever was under way is not there any more.
#[track_caller]
fn next_run(site: &Site, point: &str) -> Value {
    let next = site.renewd(&["renew"]);
    assert!(next.code == 0 || next.code == 6, "{point}: {next}\n{}", site.pebble.log());
    let private = site.workspace.path().join("state/private/certificates").join(NAME);
    for open in ["revocation.json", "order.json", "next/privkey.pem"] {
        assert!(!private.join(open).exists(), "{point}: {open} is there");
    }
    site.status()
}

#[track_caller]
fn check_replaced(site: &Site, old: &Value, reason: u8, point: &str) {
    // What was issued before the kill counts too: each revocation costs one certificate in all.
    let before = issued(site);
    let status = next_run(site, point);
    assert_eq!(status["condition"], "served", "{point}: {status:#}");
    assert_eq!(status["health"], "ok", "{point}: {status:#}");
    assert_ne!(&status["serial"], old, "{point}");
    assert_eq!(site.served_serial().as_deref(), status["serial"].as_str(), "{point}");
    check_at_the_ca(site, old, reason, point);
    assert_eq!(at_the_ca(site, &status["serial"])["Status"], "Valid", "{point}");
    let generation: usize = status["generation"].as_str().unwrap().parse().unwrap();
    assert_eq!(issued(site), generation, "{point}: before the next start {before}");
}

#[track_caller]
fn check_at_the_ca(site: &Site, serial: &Value, reason: u8, point: &str) {
    let revoked = at_the_ca(site, serial);
    let found = (&revoked["Status"], &revoked["Reason"]);
    assert_eq!(found, (&"Revoked".into(), &reason.into()), "{point}");
}

/// How many certificates the CA has issued.
fn issued(site: &Site) -> usize {
    site.pebble.log().lines().filter(|it| it.contains("Issued certificate serial ")).count()
}
