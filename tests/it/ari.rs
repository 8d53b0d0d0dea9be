//! The CA advises when to renew (RFC 9773), through a real Pebble whose advice the test sets.

use std::time::Duration;

use renewd::model::Timestamp;
use renewd::sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{Endpoint, edit_json, eventually};

const DAY: Duration = Duration::from_hours(24);

/// A site without a server: what matters here happens between renewd and the CA.
fn site() -> Site {
    Site::with(&SiteOptions::held_only())
}

#[track_caller]
fn renew(site: &Site) {
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
}

/// What is remembered of the CA's advice.
#[track_caller]
fn suggestion(site: &Site) -> Value {
    let state: Value = serde_json::from_slice(&std::fs::read(site.state_file()).unwrap()).unwrap();
    state["suggestion"].clone()
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn window(start: Timestamp, end: Timestamp) -> Value {
    json!({ "suggestedWindow": { "start": start, "end": end } })
}

/// Lets the held certificate seem to have come two days ago: what has just come is kept for a day.
#[track_caller]
fn let_it_age(site: &Site) {
    let path = site.workspace.certificate(NAME).join("current/meta.json");
    edit_json(&path, |it| it["origin"]["issued_at"] = json!(now().saturating_sub(DAY * 2)));
}

fn orders(site: &Site) -> usize {
    site.pebble.requests().count(Endpoint::NewOrder)
}

#[test]
fn a_new_certificate_is_asked_about_once_and_renewed_in_the_window() {
    let site = site();
    renew(&site);
    assert_eq!(site.pebble.requests().count(Endpoint::RenewalInfo), 1);
    renew(&site);
    assert_eq!(site.pebble.requests().count(Endpoint::RenewalInfo), 1, "not before its time");

    let selected: Timestamp =
        suggestion(&site)["selected_renewal"].as_str().unwrap().parse().unwrap();
    let status = site.status();
    assert_eq!(status["renew_at"], json!(selected), "{status:#}");
    let plan = site.renewd(&["plan"]);
    assert!(plan.stdout.contains(", the CA suggests that moment"), "{plan}");

    let (start, end) = (now().saturating_add(DAY * 20), now().saturating_add(DAY * 21));
    site.advise(&window(start, end));
    renew(&site);
    let moved: Timestamp = suggestion(&site)["selected_renewal"].as_str().unwrap().parse().unwrap();
    assert!(start <= moved.saturating_add(Duration::from_secs(1)) && moved <= end, "{moved}");
    assert_eq!(orders(&site), 1);
}

#[test]
fn a_window_in_the_past_is_followed_at_once_replaces_and_is_forgotten_with_the_old_one() {
    let site = site();
    renew(&site);
    let_it_age(&site);
    let old = suggestion(&site)["certificate_id"].clone();
    let mut answer = window(now().saturating_sub(DAY * 2), now().saturating_sub(DAY));
    answer["explanationURL"] = json!("https://ca.example/incident");
    site.advise(&answer);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("the CA wants this certificate replaced now"), "{done}");
    assert!(done.stderr.contains("https://ca.example/incident"), "{done}");
    let found = (orders(&site), site.current());
    assert_eq!(found, (2, Some("0002".into())), "{done}\n{}", site.pebble.log());
    assert_ne!(suggestion(&site)["certificate_id"], old);
    assert!(suggestion(&site)["explanation_url"].is_null());
    // The CA took the order for a replacement: a second one of the same is a fault to it.
    assert!(!site.pebble.log().contains("alreadyReplaced"), "{}", site.pebble.log());
    renew(&site);
    assert_eq!(orders(&site), 2);
}

#[test]
fn a_certificate_that_has_just_come_is_not_ordered_again_whatever_the_ca_advises() {
    let site = site();
    renew(&site);
    site.advise(&window(now().saturating_sub(DAY * 2), now().saturating_sub(DAY)));
    renew(&site);
    let status = site.status();
    assert_eq!(status["renewal"], "idle", "{status:#}");
    assert_eq!(orders(&site), 1);
}

#[test]
fn an_answer_that_can_not_be_used_changes_nothing_and_fails_nothing() {
    let site = site();
    renew(&site);
    let before = suggestion(&site);
    let inverted = window(now(), now().saturating_sub(DAY));
    for answer in [inverted, json!({ "suggestedWindow": { "start": "soon" } }), json!({})] {
        site.advise(&answer);
        renew(&site);
        let after = suggestion(&site);
        assert_eq!(after["selected_renewal"], before["selected_renewal"], "{answer}");
        assert!(after["failures"].as_u64() > Some(0), "{after}");
    }
    assert_eq!(orders(&site), 1);
}

#[test]
fn centuries_mean_the_usual_moment_and_a_late_window_the_reserve() {
    let site = site();
    renew(&site);
    let not_after: Timestamp = site.status()["not_after"].as_str().unwrap().parse().unwrap();
    let reserve = not_after.saturating_sub(DAY * 15);
    let centuries = json!({ "suggestedWindow":
        { "start": now().saturating_add(DAY), "end": "9999-12-31T23:59:59Z" } });
    let late = window(not_after, not_after.saturating_add(DAY));
    let usual = not_after.saturating_sub(DAY * 30);
    for (answer, expected) in [(centuries, usual), (late, reserve)] {
        site.advise(&answer);
        renew(&site);
        let renew_at: Timestamp = site.status()["renew_at"].as_str().unwrap().parse().unwrap();
        let off = renew_at.since(expected).max(expected.since(renew_at));
        assert!(off < Duration::from_secs(5), "{renew_at} is not {expected}");
    }
    assert_eq!(orders(&site), 1);
}

#[test]
fn a_ca_that_changes_its_mind_at_each_poll_is_not_followed_and_causes_no_order() {
    let site = site();
    renew(&site);
    let at = |days| now().saturating_add(DAY * days);
    let windows = [window(at(20), at(21)), window(at(50), at(51))];
    let mut told = String::new();
    for answer in windows.iter().cycle().take(6) {
        site.advise(answer);
        let done = site.renewd(&["renew"]);
        assert_eq!(done.code, 0, "{done}");
        told.push_str(&done.stderr);
    }
    assert!(told.contains("the CA keeps changing its advice, which is not followed"), "{told}");
    let selected: Timestamp =
        suggestion(&site)["selected_renewal"].as_str().unwrap().parse().unwrap();
    assert!(selected <= at(21), "{selected}");
    assert_eq!(orders(&site), 1);
}

#[test]
fn a_certificate_that_was_replaced_behind_our_back_is_replaced_all_the_same() {
    let site = site();
    renew(&site);
    // As if the new certificate had been lost: the CA knows that the old one was replaced.
    let certs = site.workspace.certificate(NAME);
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    std::fs::remove_file(certs.join("current")).unwrap();
    std::os::unix::fs::symlink("0001", certs.join("current")).unwrap();
    std::fs::remove_dir_all(certs.join("0002")).unwrap();

    let again = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(again.code, 0, "{again}\n{}", site.pebble.log());
    assert!(again.stderr.contains("ordering without replaces"), "{again}");
    // One of them was refused, which is not counted if Pebble has a fault with the lost one's number.
    assert!((3..=4).contains(&orders(&site)), "{}", site.pebble.log());
}

#[test]
fn the_daemon_asks_by_itself_and_follows() {
    let site = site();
    renew(&site);
    let_it_age(&site);
    site.advise(&window(now().saturating_sub(DAY * 2), now().saturating_sub(DAY)));
    let _daemon = site.daemon();
    eventually(LIMIT, "the daemon has renewed", || match site.current().as_deref() {
        Some("0002") => Ok(()),
        other => Err(other.map(str::to_owned)),
    });
    eventually(LIMIT, "it has asked about the new one", || {
        let asked = site.pebble.requests().count(Endpoint::RenewalInfo);
        if asked == 3 { Ok(()) } else { Err(asked) }
    });
}

#[test]
fn a_profile_that_has_vanished_waits_for_a_human_and_names_those_that_there_are() {
    let site = Site::with(&SiteOptions {
        certificate: "profile = \"vanished\"\n".into(),
        ..SiteOptions::held_only()
    });
    let done = site.renewd(&["renew"]);
    assert_ne!(done.code, 0, "{done}");
    let status = site.status();
    assert_eq!(
        (&status["renewal"], &status["error_code"]),
        (&json!("blocked"), &json!("acme.invalid_profile"))
    );
    let hint = status["hint"].as_str().unwrap();
    assert!(hint.contains("default") && hint.contains("short"), "{hint}");
    assert_eq!(orders(&site), 0);
}
