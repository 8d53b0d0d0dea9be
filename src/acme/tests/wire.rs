//! Nonces, the directory, limits, and answers that are no answers.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;

use super::scripted::{Reply, ScriptedCa, request};
use crate::acme::AcmeError;
use crate::model::{Explain, Retry, Timestamp, chain_text};
use crate::sys::clock::Clock;

#[tokio::test]
async fn a_page_instead_of_a_problem_keeps_its_status_and_retry_after() {
    let ca = ScriptedCa::start().await;
    let page = Reply::text(503, "<html>down for maintenance</html>").with("retry-after", "120");
    ca.on("/order", [page]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    let until: Timestamp = "2026-11-23T10:02:00Z".parse().unwrap();
    assert_eq!(error.retry(), Retry::NotBefore(until));
    let text = chain_text(&error);
    assert!(text.contains("<html>down for maintenance</html> (HTTP 503)"), "{text}");
    assert!(text.contains(&format!("lab: cannot place an order at {}", ca.at("/order"))), "{text}");
}

#[tokio::test]
async fn no_retry_after_can_do_more_than_make_us_wait_a_week() {
    for (value, expected) in [
        ("18446744073709551615", Retry::NotBefore("2026-11-30T10:00:00Z".parse().unwrap())),
        (
            "Mon, 23 Nov 2026 11:00:00 GMT",
            Retry::NotBefore("2026-11-23T11:00:00Z".parse().unwrap()),
        ),
        ("Mon, 23 Nov 2020 11:00:00 GMT", Retry::BackOff),
        ("-1", Retry::BackOff),
        ("soon", Retry::BackOff),
    ] {
        let ca = ScriptedCa::start().await;
        ca.on("/order", [Reply::problem(429, "rateLimited").with("retry-after", value)]);
        let error = ca.client().new_order(&request()).await.unwrap_err();
        assert_eq!(error.retry(), expected, "{value}");
        assert_eq!(error.code(), "acme.rate_limited");
    }
}

/// A32: our clock is ten minutes ahead of the CA's.
#[tokio::test]
async fn a_moment_of_the_cas_clock_is_as_far_away_as_it_is_there() {
    let ca = ScriptedCa::start().await;
    let limited = Reply::problem(429, "rateLimited")
        .with("date", "Mon, 23 Nov 2026 09:50:00 GMT")
        .with("retry-after", "Mon, 23 Nov 2026 09:55:00 GMT");
    ca.on("/order", [limited]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::NotBefore("2026-11-23T10:05:00Z".parse().unwrap()));
}

#[tokio::test]
async fn what_is_out_of_order_is_asked_again_within_a_day_whatever_it_says() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [Reply::text(503, "down").with("retry-after", "604800")]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    let tomorrow = ca.clock.now().saturating_add(Duration::from_hours(24));
    assert_eq!(error.retry(), Retry::NotBefore(tomorrow));
}

#[tokio::test]
async fn nine_refused_nonces_in_a_row_are_survived() {
    let ca = ScriptedCa::start().await;
    let mut replies = vec![Reply::problem(400, "badNonce"); 9];
    replies.push(ca.placed("pending"));
    ca.on("/order", replies);
    ca.client().new_order(&request()).await.unwrap();

    let seen = ca.seen("/order");
    let nonces: BTreeSet<&str> =
        seen.iter().map(|it| it.header["nonce"].as_str().unwrap()).collect();
    assert_eq!((seen.len(), nonces.len()), (10, 10), "each try has a nonce of its own");
    assert!(
        seen.iter().all(|it| it.payload == seen[0].payload && it.header["url"] == ca.at("/order"))
    );
}

#[tokio::test]
async fn where_a_nonce_was_refused_the_kept_ones_are_not_tried() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [ca.placed("pending")]);
    let (client, one) = (ca.client(), request());
    join_all([(); 4].map(|()| client.new_order(&one))).await;
    let before = client.traffic().nonces;

    ca.on("/order", [Reply::problem(400, "badNonce"), ca.placed("pending")]);
    client.new_order(&one).await.unwrap();
    join_all([(); 2].map(|()| client.new_order(&one))).await;
    assert_eq!(client.traffic().nonces, before + 1, "only the nonce of the last answer was left");
}

#[tokio::test]
async fn a_ca_that_refuses_every_nonce_is_asked_ten_times() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [Reply::problem(400, "badNonce")]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert!(matches!(error, AcmeError::NoncesRefused { .. }), "{error}");
    assert_eq!(error.retry(), Retry::BackOff);
    assert_eq!(ca.seen("/order").len(), 10);
    assert!(ca.clock.waits().len() >= 6, "there are pauses between the later tries");
}

#[tokio::test]
async fn a_ca_without_usable_nonces_is_not_asked_in_circles() {
    let ca = ScriptedCa::start().await;
    ca.on("/nonce", [Reply::text(200, "").with("replay-nonce", "not a nonce!")]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert!(matches!(error, AcmeError::Malformed { .. }), "{error}");
    assert_eq!(ca.seen("/nonce").len(), 1);
}

#[tokio::test]
async fn orders_side_by_side_share_account_directory_and_nonces() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [ca.placed("pending")]);
    let client = ca.client();
    let (one, other) = (request(), request());
    let placed = join_all([&one, &other, &one, &other].map(|it| client.new_order(it))).await;
    assert!(placed.iter().all(Result::is_ok));
    client.new_order(&one).await.unwrap();

    let traffic = client.traffic();
    assert_eq!((traffic.directories, traffic.signed), (1, 1 + 5));
    assert!(traffic.nonces <= 4, "at most one for each of the four: {traffic:?}");
    assert!(ca.seen("/nonce").iter().all(|it| it.method == Method::HEAD));
}

#[tokio::test]
async fn a_directory_is_fetched_again_where_its_urls_lead_nowhere() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    client.new_order(&request()).await.unwrap_err();
    assert_eq!(ca.seen("/dir").len(), 1);
    ca.on("/order", [ca.placed("pending")]);
    client.new_order(&request()).await.unwrap();
    assert_eq!(ca.seen("/dir").len(), 2);
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_cut_off() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [Reply::text(201, vec![b' '; 1024 * 1024 + 1])]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert!(chain_text(&error).contains("larger than 1048576 bytes"), "{}", chain_text(&error));
}

#[tokio::test]
async fn garbage_is_an_error_that_shows_where_it_came_from() {
    for body in ["", "null", "{\"status\":", "<html>", "{\"status\":5}", &"[".repeat(100_000)] {
        let ca = ScriptedCa::start().await;
        let garbage = Reply::text(201, body.to_owned()).with("location", ca.at("/order/1"));
        ca.on("/order", [garbage]);
        let error = ca.client().new_order(&request()).await.unwrap_err();
        assert!(matches!(error, AcmeError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains("/order") && error.to_string().len() < 1000, "{error}");
    }
}

#[tokio::test]
async fn a_redirected_post_is_not_followed() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [Reply::text(307, "").with("location", ca.at("/elsewhere"))]);
    ca.client().new_order(&request()).await.unwrap_err();
    assert!(ca.seen("/elsewhere").is_empty());
}

#[tokio::test]
async fn a_url_of_the_ca_that_is_not_https_is_not_asked() {
    let ca = ScriptedCa::start().await;
    let mut directory = ca.directory();
    directory["newOrder"] = "http://192.0.2.1/order".into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert!(chain_text(&error).contains("not https"), "{}", chain_text(&error));
}

#[tokio::test]
async fn a_clock_that_differs_by_more_than_five_minutes_is_told() {
    let ca = ScriptedCa::start().await;
    for (date, seconds) in [
        ("Mon, 23 Nov 2026 10:05:00 GMT", None),
        ("Mon, 23 Nov 2026 10:05:01 GMT", Some(301)),
        ("Mon, 23 Nov 2026 09:00:00 GMT", Some(3600)),
    ] {
        ca.on("/account", [Reply::text(500, "").with("date", date)]);
        let client = ca.client();
        client.account_url().await.unwrap_err();
        assert_eq!(client.clock_skew().map(|it| it.as_secs()), seconds, "{date}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_asked_for_once_by_all_that_need_it() {
    let ca = ScriptedCa::start().await;
    ca.on("/dir", [Reply::text(503, "out of order")]);
    let client = ca.client();
    for round in 1..=3 {
        let request = request();
        let orders = (0..20).map(|_| client.new_order(&request));
        for placed in join_all(orders).await {
            let error = placed.unwrap_err();
            assert!(chain_text(&error).contains("out of order"), "{error}");
        }
        assert_eq!(ca.seen("/dir").len(), round);
        ca.clock.sleep(Duration::from_secs(15)).await;
    }
    ca.on("/dir", [Reply::json(200, &ca.directory())]);
    client.account_url().await.unwrap();
}
