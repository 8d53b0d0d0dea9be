//! The account: made once, found again, lost.

use std::time::Duration;

use serde_json::json;

use super::scripted::{Reply, ScriptedCa, request};
use crate::acme::{AccountAction, AcmeError, ExternalAccountBinding};
use crate::model::{Explain, Retry, Secret};
use crate::sys::clock::Clock;

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

#[tokio::test]
async fn an_account_that_is_denied_again_is_not_made_anew_for_three_hours_also_after_a_restart() {
    let ca = ScriptedCa::start().await;
    ca.client().account_url().await.unwrap();
    ca.on(
        "/account",
        [
            Reply::problem(400, "accountDoesNotExist"),
            Reply::text(201, "{}").with("location", ca.at("/account/2")),
            Reply::problem(400, "accountDoesNotExist"),
            Reply::text(201, "{}").with("location", ca.at("/account/3")),
        ],
    );
    ca.on("/order", [Reply::problem(400, "accountDoesNotExist")]);
    let pause = Duration::from_secs(3 * 60 * 60);
    for (wait, asked) in [(Duration::ZERO, 3), (pause - Duration::from_secs(1), 3), (pause, 5)] {
        ca.clock.sleep(wait).await;
        // Each is a process of its own.
        let error = ca.client().new_order(&request()).await.unwrap_err();
        assert!(matches!(error, AcmeError::AccountLost { .. }), "{error}");
        assert_eq!(ca.seen("/account").len(), asked, "after {wait:?}");
        ca.vault.change(|record| assert!(record.recovered_at.is_some()));
    }
}

#[tokio::test]
async fn a_rollover_without_an_answer_is_settled_by_the_key_that_the_ca_knows() {
    for (answers, next_is_known) in [(vec![200], true), (vec![400, 200], false)] {
        let ca = ScriptedCa::start().await;
        let client = ca.client();
        client.account_url().await.unwrap();
        let (_, former) = ca.vault.account().unwrap();
        ca.on("/key-change", [Reply::text(500, "out of order")]);
        client.tend_account(AccountAction::RollOver).await.unwrap_err();
        let next = ca.vault.next_key().unwrap();
        assert_eq!(ca.vault.account().unwrap().1, former);

        let known = |status| match status {
            200 => Reply::text(200, "{}").with("location", ca.at("/account/1")),
            _ => Reply::problem(400, "accountDoesNotExist"),
        };
        ca.on("/account", answers.iter().map(|it| known(*it)));
        assert_eq!(client.account_url().await.unwrap(), ca.at("/account/1"));
        let wanted = if next_is_known { next } else { former };
        assert_eq!((ca.vault.account().unwrap().1, ca.vault.next_key()), (wanted, None));
    }
}

#[tokio::test]
async fn a_key_change_holds_the_old_key_and_is_signed_by_both() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    ca.on("/key-change", [Reply::text(200, "{}")]);
    ca.on("/account/1", [Reply::json(200, &json!({ "status": "valid" }))]);
    let report = client.tend_account(AccountAction::RollOver).await.unwrap();
    assert_eq!((report.status.as_str(), report.url), ("valid", Some(ca.at("/account/1"))));
    let (registered, change) = (&ca.seen("/account")[0], &ca.seen("/key-change")[0]);
    assert_eq!(change.header["kid"], ca.at("/account/1"));
    let inner = change.inner();
    assert_eq!(inner.payload["oldKey"], registered.header["jwk"]);
    assert_eq!(inner.payload["account"], ca.at("/account/1"));
    assert_eq!(inner.header["url"], change.header["url"]);
    assert!(inner.header["nonce"].is_null());
    assert_ne!(inner.header["jwk"], registered.header["jwk"]);
}

#[tokio::test]
async fn the_key_does_not_change_while_an_order_is_under_way() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    ca.on("/order", [ca.placed("pending")]);
    ca.on("/key-change", [Reply::text(200, "{}")]);
    ca.on("/account/1", [Reply::json(200, &json!({ "status": "valid" }))]);
    let order = client.new_order(&request()).await.unwrap();
    let mut rollover = Box::pin(client.tend_account(AccountAction::RollOver));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut rollover).await.is_err());
    assert!(ca.seen("/key-change").is_empty());
    drop(order);
    rollover.await.unwrap();
    assert_eq!(ca.seen("/key-change").len(), 1);
}

#[tokio::test]
async fn a_deactivated_account_stops_all_and_is_replaced_by_hand_alone() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    ca.on("/account/1", [Reply::json(200, &json!({ "status": "deactivated" }))]);
    let report = client.tend_account(AccountAction::Deactivate).await.unwrap();
    assert_eq!(report.status, "deactivated");
    assert_eq!(ca.seen("/account/1")[0].payload["status"], "deactivated");

    let asked = ca.seen("/account").len();
    for client in [client, ca.client()] {
        let error = client.new_order(&request()).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("acme.account_deactivated", Retry::AfterChange));
        assert!(error.hint().unwrap().contains("renewd account register"));
    }
    assert_eq!(ca.seen("/account").len(), asked, "nothing was asked of the CA");

    ca.on("/account", [Reply::text(201, "{}").with("location", ca.at("/account/2"))]);
    ca.on("/account/2", [Reply::json(200, &json!({ "status": "valid" }))]);
    let report = ca.client().tend_account(AccountAction::Register).await.unwrap();
    assert_eq!((report.status.as_str(), report.url), ("valid", Some(ca.at("/account/2"))));
    assert_eq!(ca.vault.set_aside().len(), 1);
}

#[tokio::test]
async fn an_account_that_the_ca_did_not_end_is_not_marked_as_ended() {
    let ca = ScriptedCa::start().await;
    let client = ca.client();
    client.account_url().await.unwrap();
    ca.on("/account/1", [Reply::text(500, "out of order")]);
    client.tend_account(AccountAction::Deactivate).await.unwrap_err();
    assert_eq!(ca.vault.account().unwrap().0.deactivated_at, None);
    client.account_url().await.unwrap();
}

#[tokio::test]
async fn other_terms_of_service_are_told_and_stop_nothing_until_they_are_agreed_to() {
    let ca = ScriptedCa::start().await;
    ca.on("/order", [ca.placed("pending")]);
    let client = ca.client();
    client.new_order(&request()).await.unwrap();
    assert_eq!(client.changed_terms(), None);
    assert_eq!(ca.vault.account().unwrap().0.terms.unwrap(), "https://ca.example/terms");

    let mut directory = ca.directory();
    directory["meta"]["termsOfService"] = "https://ca.example/terms-2".into();
    ca.on("/dir", [Reply::json(200, &directory)]);
    ca.on("/account/1", [Reply::json(200, &json!({ "status": "valid" }))]);
    let client = ca.client();
    client.new_order(&request()).await.unwrap();
    assert_eq!(client.changed_terms().unwrap().0, "https://ca.example/terms-2");
    let shown = client.tend_account(AccountAction::Show).await.unwrap();
    assert_eq!(shown.changed_terms.unwrap(), "https://ca.example/terms-2");

    let agreed = client.tend_account(AccountAction::Update).await.unwrap();
    assert_eq!((agreed.changed_terms, client.changed_terms()), (None, None));
    assert_eq!(ca.vault.account().unwrap().0.terms.unwrap(), "https://ca.example/terms-2");
}

#[tokio::test]
async fn nothing_that_is_done_to_an_account_makes_one() {
    let ca = ScriptedCa::start().await;
    for action in [AccountAction::Update, AccountAction::RollOver, AccountAction::Deactivate] {
        let error = ca.client().tend_account(action).await.unwrap_err();
        assert_eq!(error.code(), "acme.no_account", "{action:?}");
    }
    let shown = ca.client().tend_account(AccountAction::Show).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.url), ("none", None));
    assert!(ca.seen("/account").is_empty() && ca.vault.account().is_none());
}
