//! Orders that do not go the straight way.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Reply, ScriptedCa, request};
use crate::acme::{AcmeError, AuthorizationStatus, Order, OrderRequest, OrderStatus};
use crate::model::{Explain, Retry, chain_text};
use crate::sys::clock::Clock;

const MINUTE: Duration = Duration::from_secs(60);
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// A client's order at `ca`, which answers newOrder with one in `status`.
async fn placed(ca: &ScriptedCa, status: &str) -> Order {
    ca.on("/order", [ca.placed(status)]);
    ca.client().new_order(&request()).await.unwrap()
}

#[tokio::test]
async fn an_order_for_other_identifiers_is_refused_before_anything_is_shown() {
    let ca = ScriptedCa::start().await;
    for identifiers in [
        json!([{ "type": "dns", "value": "example.com" }]),
        json!([
            { "type": "dns", "value": "example.com" }, { "type": "dns", "value": "www.example.com" },
            { "type": "dns", "value": "evil.example" }
        ]),
        json!([{ "type": "dns", "value": "example.com" }, { "type": "ip", "value": "192.0.2.1" }]),
    ] {
        let mut order = ca.order("pending");
        order["identifiers"] = identifiers;
        ca.on("/order", [Reply::json(201, &order).with("location", ca.at("/order/1"))]);
        let error = ca.client().new_order(&request()).await.unwrap_err();
        assert!(matches!(error, AcmeError::IdentifiersDiffer { .. }), "{error}");
        assert!(error.is_end_of_order());
    }
    assert!(ca.seen("/authz/1").is_empty());
}

#[tokio::test]
async fn an_order_with_authorizations_without_number_is_refused_before_any_is_fetched() {
    let ca = ScriptedCa::start().await;
    for (count, is_taken) in [(1000, true), (1001, false)] {
        let mut order = ca.order("pending");
        order["authorizations"] = vec![json!(ca.at("/authz/1")); count].into();
        ca.on("/order", [Reply::json(201, &order).with("location", ca.at("/order/1"))]);
        let placed = ca.client().new_order(&request()).await;
        assert_eq!(placed.is_ok(), is_taken, "{count}");
        if let Err(error) = placed {
            let text = chain_text(&error);
            assert!(text.contains("has more authorizations than anybody needs"), "{text}");
        }
    }
    assert!(ca.seen("/authz/1").is_empty());
}

#[tokio::test]
async fn unknown_states_types_and_fields_are_survived_to_the_certificate() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("limbo");
    let authorization = json!({
        "status": "limbo", "identifier": { "type": "dns", "value": "example.com" },
        "challenges": [
            { "type": "quantum-01", "url": ca.at("/challenge/9"), "issuer-domain-names": ["ca"] },
            { "type": "http-01", "url": ca.at("/challenge/1"), "token": "abc", "status": "pending" }
        ]
    });
    ca.on("/authz/1", [Reply::json(200, &authorization)]);
    ca.on("/order/1", ["pondering", "ready", "reconsidering", "valid"].map(|it| ca.looked_at(it)));
    ca.on("/finalize", [ca.looked_at("mulling")]);
    ca.on("/certificate", [Reply::text(200, CHAIN)]);

    let mut order = placed(&ca, "fresh").await;
    assert_eq!(order.status(), OrderStatus::Unknown("fresh".into()));
    let authorizations = order.authorizations().await.unwrap();
    assert_eq!(authorizations[0].status, AuthorizationStatus::Unknown("limbo".into()));
    assert_eq!(authorizations[0].offered, ["quantum-01", "http-01"]);
    for authorization in &authorizations {
        order.respond(&authorization.challenges[0]).await.unwrap();
    }
    order.wait_until_ready(MINUTE).await.unwrap();
    order.finalize(b"csr").await.unwrap();
    assert_eq!(order.download(MINUTE).await.unwrap(), CHAIN);
    assert_eq!(ca.seen("/finalize").len(), 1);
}

#[tokio::test]
async fn authorizations_are_fetched_once_and_answered_challenges_left_alone() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("pending");
    let mut order = placed(&ca, "pending").await;
    order.authorizations().await.unwrap();
    let mut challenge = order.authorizations().await.unwrap()[1].challenges[0].clone();
    assert_eq!(ca.seen("/authz/1").len(), 1);
    order.respond(&challenge).await.unwrap();
    assert_eq!((ca.seen("/challenge/1").len(), ca.seen("/challenge/2").len()), (0, 1));
    challenge.status = crate::acme::ChallengeStatus::Valid;
    order.respond(&challenge).await.unwrap();
    assert_eq!(ca.seen("/challenge/2").len(), 1);

    challenge.status = crate::acme::ChallengeStatus::Pending;
    challenge.url = ca.at("/challenge/of-another-order");
    order.respond(&challenge).await.unwrap_err();
    assert!(ca.seen("/challenge/of-another-order").is_empty());
}

#[tokio::test]
async fn an_authorization_that_is_not_understood_is_never_passed_over() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("pending");
    let strange = json!({
        "status": "pending", "identifier": { "type": "dns", "value": "example.com" },
        "challenges": [17]
    });
    ca.on("/authz/1", [Reply::json(200, &strange)]);
    let mut order = placed(&ca, "pending").await;
    for _ in 0..2 {
        let error = order.authorizations().await.unwrap_err();
        assert!(matches!(error, AcmeError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_old_order_that_is_valid_is_only_downloaded() {
    let ca = ScriptedCa::start().await;
    ca.on("/certificate", [Reply::text(200, CHAIN)]);
    let mut order = placed(&ca, "valid").await;
    order.wait_until_ready(MINUTE).await.unwrap();
    order.finalize(b"csr").await.unwrap();
    assert_eq!(order.download(MINUTE).await.unwrap(), CHAIN);
    assert!(ca.seen("/finalize").is_empty() && ca.seen("/order/1").is_empty());
}

#[tokio::test]
async fn an_order_is_taken_up_again_by_its_url() {
    let ca = ScriptedCa::start().await;
    let url = placed(&ca, "pending").await.url().to_owned();
    ca.on("/order/1", [ca.looked_at("ready")]);
    let order = ca.client().order(&url).await.unwrap();
    assert_eq!((order.url(), order.status()), (url.as_str(), OrderStatus::Ready));
    order.check_identifiers(&request().identifiers).unwrap();

    let gone = ca.client().order(&ca.at("/order/2")).await.unwrap_err();
    assert!(gone.is_end_of_order());

    // What a human has to do for the account is not said of the order, which may be filled.
    for kind in ["userActionRequired", "externalAccountRequired"] {
        ca.on("/order/1", [Reply::problem(403, kind)]);
        assert!(!ca.client().order(&url).await.unwrap_err().is_end_of_order(), "{kind}");
    }
    // Of an account that is not known any more a new order makes another.
    ca.on("/order/1", [Reply::problem(400, "accountDoesNotExist")]);
    assert!(ca.client().order(&url).await.unwrap_err().is_end_of_order());
}

#[tokio::test]
async fn polling_follows_the_ca_and_never_longer_than_the_limit() {
    let ca = ScriptedCa::start().await;
    let mut order = placed(&ca, "pending").await;
    ca.on("/order/1", [ca.looked_at("pending").with("retry-after", "7"), ca.looked_at("ready")]);
    order.wait_until_ready(MINUTE).await.unwrap();
    assert_eq!(ca.clock.waits(), [1, 7]);

    let mut order = placed(&ca, "pending").await;
    ca.on("/order/1", [ca.looked_at("pending").with("retry-after", "18446744073709551615")]);
    let error = order.wait_until_ready(MINUTE).await.unwrap_err();
    assert!(matches!(error, AcmeError::StillWaiting { .. }), "{error}");
    let Retry::NotBefore(at) = error.retry() else { panic!("{error:?}") };
    assert!(at.since(ca.clock.now()) <= Duration::from_hours(24), "{at}");
    assert!(!error.is_end_of_order());
}

#[tokio::test]
async fn trouble_that_passes_is_waited_out_and_trouble_that_stays_is_told() {
    let ca = ScriptedCa::start().await;
    let mut order = placed(&ca, "pending").await;
    ca.on(
        "/order/1",
        [
            Reply::text(502, "<html>"),
            Reply::problem(503, "rateLimited").with("retry-after", "5"),
            ca.looked_at("ready"),
        ],
    );
    order.wait_until_ready(MINUTE).await.unwrap();

    let mut order = placed(&ca, "pending").await;
    ca.on("/order/1", [Reply::text(502, "<html>")]);
    let error = order.wait_until_ready(MINUTE).await.unwrap_err();
    assert!(matches!(error, AcmeError::Unavailable { .. }), "{error}");
    assert!(ca.seen("/order/1").len() < 15);
}

#[tokio::test]
async fn an_invalid_order_names_every_identifier_that_failed() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("pending");
    let mut order = placed(&ca, "pending").await;
    order.authorizations().await.unwrap();
    for (number, name) in [(1, "example.com"), (2, "www.example.com")] {
        let problem = json!({
            "type": "urn:ietf:params:acme:error:connection", "detail": "no route\u{1b}[31m"
        });
        let authorization = json!({
            "status": "invalid", "identifier": { "type": "dns", "value": name },
            "challenges": [
                { "type": "dns-01", "url": ca.at("/c"), "token": "abc", "status": "pending" },
                { "type": "http-01", "url": ca.at("/c"), "token": "abc", "status": "invalid", "error": problem }
            ]
        });
        ca.on(&format!("/authz/{number}"), [Reply::json(200, &authorization)]);
    }
    ca.on("/order/1", [ca.looked_at("invalid")]);
    let error = order.wait_until_ready(MINUTE).await.unwrap_err();
    assert_eq!(
        chain_text(&error),
        "lab: the CA could not validate example.com by http-01 (nor www.example.com): \
         no route\\u{1b}[31m (connection)"
    );
    assert_eq!((error.retry(), error.is_end_of_order()), (Retry::BackOff, true));
    assert!(error.hint().unwrap().contains("port 80"));
}

#[tokio::test]
async fn an_authorization_that_was_taken_back_ends_the_order() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("revoked");
    ca.on("/order/1", [ca.looked_at("invalid")]);
    let mut order = placed(&ca, "pending").await;
    let error = order.wait_until_ready(MINUTE).await.unwrap_err();
    assert!(matches!(error, AcmeError::AuthorizationLost { .. }), "{error}");
    assert_eq!((error.retry(), error.is_end_of_order()), (Retry::BackOff, true));
}

#[tokio::test]
async fn a_finalize_without_an_answer_is_followed_by_a_look_and_not_by_another() {
    let ca = ScriptedCa::start().await;
    ca.on("/finalize", [Reply::text(504, "gateway time-out")]);
    ca.on("/order/1", [ca.looked_at("valid")]);
    ca.on("/certificate", [Reply::text(200, CHAIN)]);
    let mut order = placed(&ca, "ready").await;
    order.finalize(b"csr").await.unwrap();
    assert_eq!(order.download(MINUTE).await.unwrap(), CHAIN);
    assert_eq!(ca.seen("/finalize").len(), 1);
}

#[tokio::test]
async fn a_finalize_that_never_arrived_leaves_the_order_to_the_next_attempt() {
    let ca = ScriptedCa::start().await;
    ca.on("/finalize", [Reply::text(504, "gateway time-out")]);
    ca.on("/order/1", [ca.looked_at("ready")]);
    let mut order = placed(&ca, "ready").await;
    let error = order.finalize(b"csr").await.unwrap_err();
    assert!(matches!(error, AcmeError::Unavailable { .. }), "{error}");
    assert!(!error.is_end_of_order());
    assert_eq!(ca.seen("/finalize").len(), 1);
}

#[tokio::test]
async fn an_order_called_not_ready_is_polled_and_finalized_again_a_few_times() {
    let ca = ScriptedCa::start().await;
    let not_ready = Reply::problem(403, "orderNotReady");
    ca.on("/finalize", [not_ready.clone(), ca.looked_at("processing")]);
    ca.on("/order/1", [ca.looked_at("pending"), ca.looked_at("ready")]);
    placed(&ca, "ready").await.finalize(b"csr").await.unwrap();
    assert_eq!(ca.seen("/finalize").len(), 2);

    ca.on("/finalize", [not_ready]);
    let error = placed(&ca, "ready").await.finalize(b"csr").await.unwrap_err();
    assert_eq!(error.code(), "acme.order_not_ready");
    assert_eq!(ca.seen("/finalize").len(), 2 + 3);
}

#[tokio::test]
async fn a_refused_csr_is_not_sent_again() {
    let ca = ScriptedCa::start().await;
    ca.on("/finalize", [Reply::problem(400, "badCSR")]);
    let error = placed(&ca, "ready").await.finalize(b"csr").await.unwrap_err();
    assert_eq!((error.retry(), error.is_end_of_order()), (Retry::AfterChange, true));
    assert_eq!(ca.seen("/finalize").len(), 1);
}

#[tokio::test]
async fn an_order_that_stays_in_processing_ends_at_its_expiry() {
    let ca = ScriptedCa::start().await;
    let mut processing = ca.order("processing");
    processing["expires"] = "2026-11-23T10:00:20Z".into();
    ca.on("/order/1", [Reply::json(200, &processing)]);
    ca.on("/order", [Reply::json(201, &processing).with("location", ca.at("/order/1"))]);
    let mut order = ca.client().new_order(&request()).await.unwrap();
    let error = order.download(Duration::from_hours(24)).await.unwrap_err();
    assert!(matches!(error, AcmeError::StillWaiting { .. }), "{error}");
    assert_eq!(ca.clock.waits().iter().sum::<u64>(), 20);
}

#[tokio::test]
async fn what_is_no_certificate_is_not_handed_on() {
    let ca = ScriptedCa::start().await;
    ca.on("/certificate", [Reply::text(200, "<html>please log in</html>")]);
    let error = placed(&ca, "valid").await.download(MINUTE).await.unwrap_err();
    assert!(chain_text(&error).contains("<html>please log in</html>"), "{error}");
    assert!(!error.is_end_of_order());
}

#[tokio::test]
async fn an_abandoned_order_leaves_no_pending_authorization() {
    let ca = ScriptedCa::start().await;
    ca.give_authorizations("pending");
    let mut order = placed(&ca, "pending").await;
    order.authorizations().await.unwrap();
    order.abandon().await;
    for path in ["/authz/1", "/authz/2"] {
        assert_eq!(ca.seen(path).last().unwrap().payload["status"], "deactivated");
    }
}

#[tokio::test]
async fn a_profile_the_ca_does_not_offer_is_not_asked_for() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [ca.placed("pending")]);
    let with = |profile: &str| OrderRequest { profile: Some(profile.into()), ..request() };
    let error = ca.client().new_order(&with("shortlived")).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("acme.invalid_profile", Retry::AfterChange));
    assert!(error.hint().unwrap().contains("short"));
    assert!(ca.seen("/order").is_empty());
    ca.client().new_order(&with("short")).await.unwrap();
    assert_eq!(ca.seen("/order")[0].payload["profile"], "short");
}

#[tokio::test]
async fn a_refused_replacement_is_ordered_once_more_without_saying_so() {
    let ca = ScriptedCa::start().await;
    let replacing = OrderRequest { replaces: Some("aYhba4.AIdlQyE".into()), ..request() };
    ca.on("/order", [ca.placed("pending")]);
    ca.client().new_order(&replacing).await.unwrap();
    assert!(ca.seen("/order")[0].payload["replaces"].is_null(), "the CA has no renewalInfo");

    let mut directory = ca.directory();
    directory["renewalInfo"] = ca.at("/renewal-info").into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    for (status, kind) in [
        (409, "alreadyReplaced"),
        (409, "conflict"),
        (404, "malformed"),
        (400, "malformed"),
        (500, "serverInternal"),
    ] {
        let refusal = Reply::problem(status, kind);
        ca.on("/order", [refusal, ca.placed("pending")]);
        ca.client().new_order(&replacing).await.unwrap();
    }
    let asked: Vec<bool> =
        ca.seen("/order").iter().map(|it| it.payload["replaces"].is_string()).collect();
    let expected: Vec<bool> = (0..11).map(|it| it % 2 == 1).collect();
    assert_eq!(asked, expected);

    for (sent, (status, kind)) in (1..).zip([(429, "rateLimited"), (503, "serverInternal")]) {
        ca.on("/order", [Reply::problem(status, kind), ca.placed("pending")]);
        ca.client().new_order(&replacing).await.unwrap_err();
        assert_eq!(ca.seen("/order").len(), asked.len() + sent, "{status} holds for any order");
    }
}

/// A24: the first may have been placed, and what counts is what the CA says of the second.
#[tokio::test]
async fn what_the_ca_says_of_the_order_without_replaces_is_what_counts() {
    let ca = ScriptedCa::start().await;
    let mut directory = ca.directory();
    directory["renewalInfo"] = ca.at("/renewal-info").into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    let replacing = OrderRequest { replaces: Some("aYhba4.AIdlQyE".into()), ..request() };
    let client = ca.client();
    let said = async |first: Reply, second: Reply| {
        ca.on("/order", [first, second]);
        client.new_order(&replacing).await.unwrap_err()
    };
    let in_ten_hours = Retry::NotBefore("2026-11-23T20:00:00Z".parse().unwrap());
    let limited = || Reply::problem(429, "rateLimited").with("retry-after", "36000");
    for (second, retry) in [
        (limited(), in_ten_hours),
        (Reply::problem(403, "caa"), Retry::AfterChange),
        (Reply::problem(403, "userActionRequired"), Retry::AfterChange),
        (Reply::text(502, "<html>"), Retry::BackOff),
    ] {
        let error = said(Reply::problem(500, "serverInternal"), second).await;
        assert_eq!((error.retry(), error.is_surely_not_done()), (retry, false), "{error:?}");
    }
    let error = said(Reply::problem(409, "alreadyReplaced"), limited()).await;
    assert_eq!((error.retry(), error.is_surely_not_done()), (in_ten_hours, true), "{error:?}");
}

#[tokio::test]
async fn the_whole_way_can_run_in_a_task_of_its_own() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [ca.placed("valid")]);
    ca.on("/certificate", [Reply::text(200, CHAIN)]);
    let client = ca.client();
    let run = async move {
        let mut order = client.new_order(&request()).await?;
        order.wait_until_ready(MINUTE).await?;
        order.finalize(b"csr").await?;
        order.download(MINUTE).await
    };
    assert_eq!(tokio::spawn(run).await.unwrap().unwrap(), CHAIN);
}
