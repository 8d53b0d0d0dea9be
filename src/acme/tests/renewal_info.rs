//! What a CA says, or does not say, of when to renew; and other chains than its first.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Reply, ScriptedCa, request};
use crate::acme::AcmeClient;
use crate::model::{CertificateId, Fingerprint, Leaf, RenewalInfo, Timestamp, Validity};

const MINUTE: Duration = Duration::from_secs(60);
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const OTHER: &str = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

fn id() -> CertificateId {
    CertificateId::of(&Leaf {
        sha256: Fingerprint::of(b""),
        serial: vec![0, 0x87],
        identifiers: std::collections::BTreeSet::new(),
        validity: Validity { not_before: Timestamp::EPOCH, not_after: Timestamp::MAX },
        issuer: String::new(),
        issuer_der: Vec::new(),
        subject_der: Vec::new(),
        public_key: Vec::new(),
        key_type: None,
        authority_key_identifier: Some(vec![1, 2, 3]),
        is_ca: false,
    })
    .unwrap()
}

/// A CA with renewalInfo, and a client of it.
async fn advising(replies: impl IntoIterator<Item = Reply>) -> (ScriptedCa, AcmeClient) {
    let ca = ScriptedCa::start().await;
    let mut directory = ca.directory();
    directory["renewalInfo"] = ca.at("/ari/").into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    ca.on(&format!("/ari/{}", id()), replies);
    let client = ca.client();
    (ca, client)
}

fn window() -> Reply {
    let window = json!({ "start": "2026-12-01T00:00:00Z", "end": "2026-12-02T00:00:00Z" });
    Reply::json(200, &json!({ "suggestedWindow": window }))
}

const NO_ADVICE: RenewalInfo =
    RenewalInfo { suggested_window: None, explanation_url: None, poll_after: None };

#[tokio::test]
async fn advice_is_one_unsigned_request() {
    let (ca, client) = advising([window().with("retry-after", "120")]).await;
    let info = client.renewal_info(&id()).await.unwrap();
    assert!(info.suggested_window.is_some());
    assert_eq!(info.poll_after, Some(2 * MINUTE));
    let seen = ca.seen(&format!("/ari/{}", id()));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, http::Method::GET);
    assert!(seen[0].header.is_null() && ca.seen("/account").is_empty());
}

#[tokio::test]
async fn a_ca_without_renewal_info_has_no_advice() {
    let ca = ScriptedCa::start().await;
    assert_eq!(ca.client().renewal_info(&id()).await.unwrap(), NO_ADVICE);
}

#[tokio::test]
async fn a_certificate_that_the_ca_does_not_know_has_no_advice() {
    for status in [404, 409, 410] {
        let (_ca, client) = advising([Reply::problem(status, "malformed")]).await;
        assert_eq!(client.renewal_info(&id()).await.unwrap(), NO_ADVICE, "{status}");
    }
}

#[tokio::test]
async fn what_passes_is_told_from_what_lasts() {
    let html = "<html>we are down</html>";
    let inverted = json!({ "suggestedWindow":
        { "start": "2026-12-02T00:00:00Z", "end": "2026-12-01T00:00:00Z" } });
    for (reply, is_transient) in [
        (Reply::text(500, html), true),
        (Reply::text(503, html).with("retry-after", "60"), true),
        (Reply::problem(429, "rateLimited").with("retry-after", "60"), true),
        (Reply::text(200, html), false),
        (Reply::json(200, &inverted), false),
        (Reply::json(200, &json!({})), false),
        (Reply::problem(403, "unauthorized"), false),
    ] {
        let (_ca, client) = advising([reply]).await;
        let error = client.renewal_info(&id()).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{error}");
    }
}

/// A downloaded order whose certificate came with `links`.
async fn downloaded(ca: &ScriptedCa, links: &str) -> crate::acme::Order {
    ca.on("/certificate", [Reply::text(200, CHAIN).with("link", links)]);
    ca.on("/order", [ca.placed("valid")]);
    let mut order = ca.client().new_order(&request()).await.unwrap();
    assert_eq!(order.download(MINUTE).await.unwrap(), CHAIN);
    order
}

#[tokio::test]
async fn other_chains_are_fetched_signed_and_without_a_payload() {
    let ca = ScriptedCa::start().await;
    ca.on("/certificate/1", [Reply::text(200, OTHER)]);
    let link = format!("<{}>;rel=\"alternate\"", ca.at("/certificate/1"));
    let order = downloaded(&ca, &link).await;
    assert_eq!(order.alternates(), [ca.at("/certificate/1")]);
    let chain = order.download_alternate(&order.alternates()[0]).await.unwrap();
    assert_eq!(chain, OTHER);
    let seen = ca.seen("/certificate/1");
    assert_eq!((seen.len(), &seen[0].method), (1, &http::Method::POST));
    assert_eq!(seen[0].header["kid"], ca.at("/account/1").as_str());
    assert!(seen[0].payload.is_null());
}

#[tokio::test]
async fn no_more_than_eight_other_chains_are_known_and_one_that_is_none_is_a_fault() {
    let ca = ScriptedCa::start().await;
    let links: Vec<String> =
        (1..20).map(|it| format!("<{}>;rel=\"alternate\"", ca.at(&format!("/c/{it}")))).collect();
    let order = downloaded(&ca, &links.join(", ")).await;
    assert_eq!(order.alternates().len(), 8);
    ca.on("/c/1", [Reply::text(200, "<html>")]);
    for url in [ca.at("/c/1"), ca.at("/c/2")] {
        order.download_alternate(&url).await.unwrap_err();
    }
}
