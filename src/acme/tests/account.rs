//! The account: made once, found again, lost.

use super::scripted::{Reply, ScriptedCa, request};
use crate::acme::{AcmeError, ExternalAccountBinding};
use crate::model::{Explain, Retry, Secret};

#[tokio::test]
async fn the_key_is_kept_before_the_ca_hears_of_it_and_used_again_after_a_failure() {
    let ca = ScriptedCa::start().await;
    ca.on("/account", [Reply::text(500, "out of order")]);
    ca.client().account_url().await.unwrap_err();
    let (record, key) = ca.vault.account().unwrap();
    assert_eq!(record.url, None);

    ca.on("/account", [Reply::text(200, "{}").with("location", ca.at("/account/7"))]);
    assert_eq!(ca.client().account_url().await.unwrap(), ca.at("/account/7"));
    let (record, same_key) = ca.vault.account().unwrap();
    assert_eq!((record.url, same_key), (Some(ca.at("/account/7")), key));
    let seen = ca.seen("/account");
    assert_eq!(seen[0].header["jwk"], seen[1].header["jwk"]);
    assert_eq!(seen[0].payload["contact"][0], "mailto:ops@example.com");
    assert_eq!(seen[0].payload["termsOfServiceAgreed"], true);
}

#[tokio::test]
async fn a_known_account_costs_no_request() {
    let ca = ScriptedCa::start().await;
    ca.client().account_url().await.unwrap();
    let before = ca.seen("/account").len();
    assert_eq!(ca.client().account_url().await.unwrap(), ca.at("/account/1"));
    assert_eq!(ca.seen("/account").len(), before);
}

#[tokio::test]
async fn an_account_of_another_directory_is_set_aside() {
    let ca = ScriptedCa::start().await;
    ca.client().account_url().await.unwrap();
    ca.vault.change(|record| record.directory = "https://other.example/dir".into());
    ca.client().account_url().await.unwrap();
    assert_eq!(ca.vault.set_aside()[0].directory, "https://other.example/dir");
    let seen = ca.seen("/account");
    assert_ne!(seen[0].header["jwk"], seen[1].header["jwk"]);
}

#[tokio::test]
async fn nothing_is_signed_before_the_terms_are_agreed_to() {
    let ca = ScriptedCa::start().await;
    let mut settings = ca.settings();
    settings.terms_of_service_agreed = false;
    let error = ca.client_with(settings).account_url().await.unwrap_err();
    assert_eq!(error.retry(), Retry::AfterChange);
    assert!(error.hint().unwrap().contains("https://ca.example/terms"));
    assert!(ca.seen("/account").is_empty() && ca.vault.account().is_none());
}

#[tokio::test]
async fn a_binding_the_ca_requires_is_missed_before_it_is_asked_and_sent_where_it_is_there() {
    let ca = ScriptedCa::start().await;
    let mut directory = ca.directory();
    directory["meta"]["externalAccountRequired"] = true.into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    let error = ca.client().account_url().await.unwrap_err();
    assert_eq!(error.code(), "acme.external_account_required");
    assert!(ca.seen("/account").is_empty());

    let mut settings = ca.settings();
    let hmac_key = Secret::new("AAECAwQFBgcICQ".into());
    settings.external_account_binding =
        Some(ExternalAccountBinding { key_id: "kid-1".into(), hmac_key });
    ca.client_with(settings).account_url().await.unwrap();
    let binding = &ca.seen("/account")[0].payload["externalAccountBinding"];
    assert!(binding["protected"].is_string() && binding["signature"].is_string());
}

#[tokio::test]
async fn new_contacts_are_told_once() {
    let ca = ScriptedCa::start().await;
    ca.client().account_url().await.unwrap();
    let mut settings = ca.settings();
    settings.contact = vec!["mailto:new@example.com".into()];
    ca.on("/account/1", [Reply::text(200, "{}")]);
    for _ in 0..2 {
        ca.client_with(settings.clone()).account_url().await.unwrap();
    }
    let seen = ca.seen("/account/1");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].payload["contact"][0], "mailto:new@example.com");
}

#[tokio::test]
async fn an_account_the_ca_denies_is_found_again_by_its_key() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    ca.on("/account", [Reply::text(200, "{}").with("location", ca.at("/account/2"))]);
    ca.on("/order", [Reply::problem(400, "accountDoesNotExist"), ca.placed("pending")]);
    client.new_order(&request()).await.unwrap();
    assert_eq!(client.account_url().await.unwrap(), ca.at("/account/2"));
    let seen = ca.seen("/account");
    assert_eq!(seen[1].payload["onlyReturnExisting"], true);
    assert_eq!(seen[0].header["jwk"], seen[1].header["jwk"]);
    assert!(ca.vault.set_aside().is_empty());
}

#[tokio::test]
async fn a_forgotten_account_is_made_anew_once_and_then_given_up() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    ca.on(
        "/account",
        [
            Reply::problem(400, "accountDoesNotExist"),
            Reply::text(201, "{}").with("location", ca.at("/account/2")),
        ],
    );
    ca.on("/order", [Reply::problem(400, "accountDoesNotExist")]);
    for _ in 0..3 {
        let error = client.new_order(&request()).await.unwrap_err();
        assert!(matches!(error, AcmeError::AccountLost { .. }), "{error}");
        assert_eq!(error.retry(), Retry::AfterChange);
    }
    // One at first, one look by key, one anew.
    assert_eq!(ca.seen("/account").len(), 3);
    assert_eq!(ca.vault.set_aside().len(), 1);
}

#[tokio::test]
async fn a_closed_account_stops_and_says_so() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [Reply::problem(403, "unauthorized")]);
    let error = ca.client().new_order(&request()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::AfterChange);
    assert!(error.hint().unwrap().contains("account"));
}
