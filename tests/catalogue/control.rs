//! Authorizations, accounts and the directory that do not stay as they were, and strings that are
//! meant to be believed (A25 to A29, A31, A32).

use std::time::Duration;

use renewd::model::Event;
use renewd::plan::Renewal;
use serde_json::{Value, json};

use crate::ca::{CaOptions, How, Reply, Step, Times};
use crate::world::{DAY, HOUR, Setting, World};

/// A25: two of thirty names fail.
#[tokio::test]
async fn of_thirty_names_those_that_failed_are_named_and_no_proof_is_left() {
    let names = (0..30).map(|it| format!("n{it}.example")).collect();
    let world = World::with(Setting { names, ..Setting::default() }).await;
    world.ca.with(|it| {
        it.refused.insert("n7.example".into(), "dns".into());
        it.refused.insert("n23.example".into(), "unauthorized".into());
    });
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.validation_failed", "{failure:?}");
    for name in ["n7.example", "n23.example"] {
        assert!(failure.message.contains(name), "{failure:?}");
    }
    assert!(!failure.message.contains("n8.example"), "{failure:?}");
    assert!(world.proofs().is_empty(), "{:?}", world.proofs());
    world.live(DAY).await;
    assert!(world.orders() <= 5, "{}", world.orders());
    world.ca.with(|it| it.refused.clear());
    world.live(2 * DAY).await;
    assert!(world.held().is_some());
}

/// N09: a broken AAAA, port 80 shut, a captive portal: only the CA sees that. Its words are told,
/// with what to look at, and it is asked a few times a day.
#[tokio::test]
async fn what_only_the_ca_can_see_is_told_in_its_words_with_what_to_look_at() {
    for (kind, hint) in [("connection", "port 80 of every address"), ("unauthorized", "over IPv6")]
    {
        let world = World::start().await;
        world.ca.with(|it| drop(it.refused.insert("site.example".into(), kind.into())));
        let failure = world.failed().await;
        assert_eq!(failure.code, "acme.validation_failed", "{failure:?}");
        assert!(failure.message.contains("as scripted"), "{failure:?}");
        assert!(failure.hint.as_ref().is_some_and(|it| it.contains(hint)), "{failure:?}");
        world.live(DAY).await;
        assert!(world.orders() <= 5, "{kind}: {}", world.orders());
    }
}

/// A25: the CA refuses the order for single names.
#[tokio::test]
async fn subproblems_are_told_with_their_names() {
    let body = json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "some are rejected",
        "subproblems": [{
            "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "on a list",
            "identifier": { "type": "dns", "value": "www.site.example" }
        }]
    });
    let world = World::start().await;
    world.ca.fault(Step::NewOrder, How::Instead(Reply::json(403, &body)), Times::Always);
    let failure = world.failed().await;
    assert!(failure.message.contains("www.site.example: on a list"), "{failure:?}");
    assert!(matches!(world.work().await.plan.renewal, Renewal::Blocked { until: Some(_), .. }));
    world.live(2 * DAY).await;
    assert!(world.orders() <= 4, "{}", world.orders());
}

/// A26: authorizations are taken back while they are proven.
#[tokio::test]
async fn an_authorization_that_is_taken_back_leads_to_a_new_order() {
    for status in ["deactivated", "revoked", "expired"] {
        let world = World::start().await;
        let take_back = How::after(move |ca| {
            ca.authorizations.values_mut().for_each(|it| it.status = status);
        });
        world.ca.fault(Step::Order, take_back, Times::Count(1));
        world.ca.with(|it| it.options.validation_takes = Duration::from_secs(2));
        let failure = world.failed().await;
        assert!(failure.message.contains(status), "{failure:?}");
        assert!(world.proofs().is_empty());
        world.live(HOUR).await;
        assert!(world.held().is_some(), "{status}");
        assert_eq!((world.orders(), world.ca.issued()), (2, 1), "{status}");
    }
}

/// A26: the way that is configured is not offered.
#[tokio::test]
async fn a_challenge_that_is_not_offered_is_told_beside_those_that_are() {
    let world = World::start().await;
    let without = How::edit(|it| {
        let challenges = it["challenges"].as_array_mut().unwrap();
        challenges.retain(|it| it["type"] != "http-01");
    });
    world.ca.fault(Step::Authorization, without, Times::Always);
    let failure = world.failed().await;
    assert_eq!(failure.code, "issue.no_challenge");
    let told = "offered: dns-01, tls-alpn-01; configured: http-01";
    assert!(failure.message.contains(told), "{failure:?}");
    world.live(2 * DAY).await;
    assert!(world.orders() <= 4, "{}", world.orders());
}

/// A27: the CA forgot the account; once, and again and again.
#[tokio::test]
async fn an_account_that_is_forgotten_is_made_anew_once_and_not_in_a_storm() {
    let world = World::start().await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    world.ca.fault(Step::NewOrder, How::after(|ca| ca.accounts.clear()), Times::Count(1));
    world.renewed().await;
    assert_eq!(world.ca.with(|it| it.accounts.len()), 1);

    let world = World::start().await;
    let denied = How::problem(400, "accountDoesNotExist");
    world.ca.fault(Step::NewOrder, denied, Times::Always);
    world.failed().await;
    world.live(DAY).await;
    assert!(world.ca.count(Step::NewAccount) <= 20, "{}", world.ca.count(Step::NewAccount));
    assert!(world.ca.with(|it| it.accounts.len()) <= 3);
}

/// A27: the account was ended at the CA. No other is made unasked.
#[tokio::test]
async fn an_account_that_was_ended_waits_for_a_human() {
    let world = World::start().await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    world.ca.with(|it| it.accounts.values_mut().for_each(|it| it.status = "deactivated"));
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.account_closed", "{failure:?}");
    assert!(failure.hint.unwrap().contains("renewd account register"));
    let before = world.ca.count(Step::NewAccount);
    world.live(3 * DAY).await;
    assert_eq!(world.ca.count(Step::NewAccount), before);
    // Each try says once that it replaces, and once not.
    assert!(world.orders() <= 11, "{}", world.orders());
}

/// A28: a human is to act at the CA: once a day is enough, and he is told where.
#[tokio::test]
async fn what_a_human_must_do_is_told_with_its_url_and_tried_daily() {
    let detail = "Your account is temporarily prevented from requesting certificates for \
                  site.example. Please visit: https://ca.example/unpause?jwt=a.b-c_d";
    let paused = Reply::problem(429, "rateLimited", detail);
    let terms = "<https://ca.example/terms/2>;rel=\"terms-of-service\"";
    let changed = Reply::problem(403, "userActionRequired", "agree").with("link", terms);
    let mut instance = crate::ca::problem("userActionRequired", "act");
    instance["instance"] = json!("https://ca.example/act");
    for (reply, url) in [
        (paused, "https://ca.example/unpause?jwt=a.b-c_d"),
        (changed, "https://ca.example/terms/2"),
        (Reply::json(403, &instance), "https://ca.example/act"),
    ] {
        let world = World::start().await;
        world.ca.fault(Step::NewOrder, How::Instead(reply), Times::Always);
        let failure = world.failed().await;
        assert!(failure.hint.as_ref().is_some_and(|it| it.contains(url)), "{failure:?}");
        assert!(matches!(world.work().await.plan.renewal, Renewal::Blocked { .. }), "{url}");
        world.live(3 * DAY).await;
        assert!(world.orders() <= 5, "{url}: {}", world.orders());
    }
}

/// A29: the directory's URLs are others, and it has no advice any more.
#[tokio::test]
async fn a_directory_that_changes_is_fetched_again() {
    let world = World::start().await;
    world.renewed().await;
    world.live(57 * DAY).await;
    world.ca.with(|it| {
        it.move_resources();
        it.options.renewal_info = false;
    });
    world.live(6 * DAY).await;
    assert_eq!(world.ca.issued(), 2, "{:#?}", world.told.all());
    let last = world.ca.seen(Step::NewOrder).pop().unwrap();
    assert!(last.path.starts_with("/acme-2/"), "{last:?}");
    assert!(last.payload["replaces"].is_null(), "{last:?}");

    // In the middle of a process that has just read it.
    let world = World::start().await;
    world.ca.fault(Step::NewAccount, How::after(|ca| ca.move_resources()), Times::Count(1));
    world.live(HOUR).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert!(world.ca.count(Step::Directory) <= 4, "{}", world.ca.count(Step::Directory));
}

/// A31: tokens that are paths, commands, or no tokens.
#[tokio::test]
async fn a_token_that_is_none_is_refused_and_nothing_is_written() {
    let long = "a".repeat(10_000);
    for token in
        ["../../etc/cron.d/x", "..", "a\0b", &long, "", "a;$(id)", "a b", "é", "/etc/passwd"]
    {
        let world = World::start().await;
        let hostile = token.to_owned();
        let how = How::edit(move |it| it["challenges"][0]["token"] = json!(hostile));
        world.ca.fault(Step::Authorization, how, Times::Always);
        let failure = world.failed().await;
        assert_eq!(failure.code, "acme.not_understood", "{token:?}: {failure:?}");
        assert!(failure.message.len() < 1500 && !failure.message.contains('\0'), "{failure:?}");
        assert!(world.proofs().is_empty(), "{token:?}: {:?}", world.proofs());
        assert!(!world.path("etc").exists() && world.ca.count(Step::Challenge) == 0);
        world.live(DAY).await;
        assert!(world.orders() <= 5, "{token:?}: {}", world.orders());
    }
}

/// A31: commands and escapes in every string of a problem are text, and stay text.
#[tokio::test]
async fn what_the_ca_says_is_shown_and_never_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("owned");
    let command = format!("$(touch {})", trace.display());
    let hostile = format!("`id`;{command}\x1b]0;x\x07\r\n2026 FAKE LINE");
    let mut body = crate::ca::problem(&hostile, &hostile);
    body["instance"] = json!(hostile);
    body["subproblems"] =
        json!([{ "type": hostile, "detail": hostile, "identifier": { "value": hostile } }]);
    let world = World::start().await;
    world.ca.fault(Step::NewOrder, How::Instead(Reply::json(400, &body)), Times::Always);
    let failure = world.failed().await;
    let shown = format!("{}{:?}", failure.message, failure.hint);
    assert!(shown.contains(&command), "{shown}");
    assert!(!trace.exists());
    assert!(!shown.contains(['\x1b', '\x07', '\r', '\n']), "{shown}");
    let told = format!("{:?}", world.told.all());
    assert!(!told.contains(['\x1b', '\x07']), "{told}");
}

/// A32: the CA's clock and ours differ. It is known, and changes nothing.
#[tokio::test]
async fn a_clock_that_differs_from_the_cas_is_known_and_harms_nothing() {
    let mut planned = Vec::new();
    for skew in [0, 301 + 60, -3600] {
        let ca = CaOptions { date_skew: skew, renewal_info: false, ..CaOptions::default() };
        let world = World::with(Setting { ca, ..Setting::default() }).await;
        let outcome = world.renewed().await;
        let client = &world.agent.lifecycle.issuer.clients[&"lab".parse().unwrap()];
        assert_eq!(client.clock_skew().is_some(), skew != 0, "{skew}");
        planned.push(outcome.status.renew_at);
        let failed = |it: &Event| matches!(it, Event::RenewalFailed { .. });
        assert!(!world.told.all().iter().any(failed));
    }
    assert_eq!(planned[0], planned[1]);
    assert_eq!(planned[0], planned[2]);
}

/// What is remembered of a renewal that a human must mend says so.
#[tokio::test]
async fn what_waits_for_a_human_is_remembered_as_such() {
    let world = World::start().await;
    world.ca.fault(Step::NewOrder, How::problem(403, "caa"), Times::Always);
    world.failed().await;
    let world = world.restart().await;
    let state: Value = world.state();
    assert_eq!(state["attempts"]["needs_change"], true, "{state:#}");
    assert!(matches!(world.work().await.plan.renewal, Renewal::Blocked { .. }));
}
