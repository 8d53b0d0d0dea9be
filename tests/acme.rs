//! The ACME client against a real Pebble: the friendly way, and what Pebble can do to make it hard.
//!
//! Not here: what only a scripted CA does (`src/acme/tests`), and issuing as a whole.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::Response;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use renewd::acme::{
    AcmeClient, AcmeError, AuthorizationStatus, CaSettings, ExternalAccountBinding, OrderRequest,
    OrderStatus,
};
use renewd::model::{ChallengeType, Explain, Identifier, KeyVault, Leaf, Secret, pem};
use renewd::sys::clock::SystemClock;
use support::{Endpoint, Pebble, PebbleOptions};
use vault::MemoryVault;

#[path = "support/mod.rs"]
pub mod support;
#[path = "support/vault.rs"]
pub mod vault;

/// No wait of a test is longer than this.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_order_of_one_name_takes_seven_requests_and_one_nonce() {
    // Where the machine or the CA stands still for a second, one look more is made: once of three.
    for tries_left in (0..3).rev() {
        let world = World::start(&PebbleOptions::default()).await;
        let client = world.client();
        client.account_url().await.unwrap();
        let before = world.pebble.requests();

        let chain = world.issue(&client, &["seven.example"]).await.unwrap();
        assert!(pem::parse_certificates(chain.as_bytes()).unwrap().len() >= 2);

        let after = world.pebble.requests();
        let count = |endpoint| after.count(endpoint) - before.count(endpoint);
        let own = (count(Endpoint::NewNonce), count(Endpoint::Directory));
        assert_eq!(own, (0, 0), "{:?}", after.0);
        let traffic = client.traffic();
        assert_eq!((traffic.nonces, traffic.directories), (1, 1));
        if after.order_flow() <= 7 {
            assert_eq!(traffic.signed, 1 + 7);
            return;
        }
        assert!(tries_left > 0, "{:?}", after.0);
    }
}

#[tokio::test]
async fn orders_side_by_side_share_their_nonces() {
    let world = World::start(&PebbleOptions::default()).await;
    let client = world.client();
    let names: Vec<String> = (0..8).map(|it| format!("side-{it}.example")).collect();
    try_join_all(names.iter().map(|it| world.issue(&client, std::slice::from_ref(it))))
        .await
        .unwrap();

    let traffic = client.traffic();
    assert!(traffic.nonces <= 8, "more than one for each order: {traffic:?}");
    assert_eq!(traffic.directories, 1);
    assert_eq!(world.pebble.requests().count(Endpoint::NewAccount), 1);
}

#[tokio::test]
async fn a_ca_that_refuses_many_nonces_and_sleeps_is_survived() {
    let options =
        PebbleOptions { nonce_reject: 15, validation_sleep: 2, ..PebbleOptions::default() };
    let world = World::start(&options).await;
    let client = world.client();
    let names = [["one.example", "two.example"], ["three.example", "four.example"]];
    for issued in join_all(names.iter().map(|it| world.issue(&client, it))).await {
        issued.unwrap();
    }
}

#[tokio::test]
async fn an_order_of_several_names_and_an_address_is_issued_under_its_profile() {
    let options = PebbleOptions { strict: true, ..PebbleOptions::default() };
    let world = World::start(&options).await;
    let client = world.client();
    let mut request = ordering(&["a.example", "b.a.example", "127.0.0.1"]);
    request.profile = Some("short".into());
    let chain = world.issue_request(&client, &request).await.unwrap();
    let leaf = Leaf::parse(&pem::parse_certificates(chain.as_bytes()).unwrap()[0]).unwrap();
    for identifier in &request.identifiers {
        assert!(leaf.covers(identifier), "{identifier:?} is not in {leaf:?}");
    }
    assert!(
        leaf.validity.not_after.since(leaf.validity.not_before) <= Duration::from_secs(30),
        "{leaf:?}"
    );
}

#[tokio::test]
async fn authorizations_that_are_used_again_need_no_challenge() {
    let options = PebbleOptions { authorization_reuse: 100, ..PebbleOptions::default() };
    let world = World::start(&options).await;
    let client = world.client();
    world.issue(&client, &["again.example"]).await.unwrap();
    let before = world.pebble.requests().count(Endpoint::Challenge);
    world.issue(&client, &["again.example"]).await.unwrap();
    assert_eq!(world.pebble.requests().count(Endpoint::Challenge), before);
}

#[tokio::test]
async fn an_account_whose_record_was_lost_is_found_by_its_key() {
    let world = World::start(&PebbleOptions::default()).await;
    let url = world.client().account_url().await.unwrap();
    world.vault.account(|record| {
        record.url = None;
    });
    assert_eq!(world.client().account_url().await.unwrap(), url);
    // And with the record, without a word to the CA.
    let before = world.pebble.requests().count(Endpoint::NewAccount);
    assert_eq!(world.client().account_url().await.unwrap(), url);
    assert_eq!(world.pebble.requests().count(Endpoint::NewAccount), before);
}

#[tokio::test]
async fn an_account_that_the_ca_forgot_is_made_anew() {
    let before = World::start(&PebbleOptions::default()).await;
    before.client().account_url().await.unwrap();
    let mut world = World::start(&PebbleOptions::default()).await;
    world.vault = Arc::clone(&before.vault);
    world.vault.account(|record| {
        record.directory = world.pebble.directory();
        // The other Pebble's URL, at the host of this one.
        let number = record.url.take().unwrap();
        let number = number.rsplit('/').next().unwrap().to_owned();
        record.url =
            Some(world.pebble.directory().replace("/dir", &format!("/my-account/{number}")));
    });
    let client = world.client();
    world.issue(&client, &["forgotten.example"]).await.unwrap();
    // One look by the key, one anew.
    assert_eq!(world.pebble.requests().count(Endpoint::NewAccount), 2);
}

#[tokio::test]
async fn new_contacts_reach_the_ca() {
    let world = World::start(&PebbleOptions::default()).await;
    world.client().account_url().await.unwrap();
    let mut settings = world.settings();
    settings.contact = vec!["mailto:new@example.com".into()];
    world.client_with(settings).account_url().await.unwrap();
    let contact = world.vault.account(|record| record.contact.clone());
    assert_eq!(contact, ["mailto:new@example.com"]);
}

#[tokio::test]
async fn an_external_account_binding_is_demanded_and_given() {
    let hmac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let options = PebbleOptions {
        external_account_binding: Some(("kid-1".into(), hmac_key.into())),
        ..PebbleOptions::default()
    };
    let world = World::start(&options).await;
    let error = world.client().account_url().await.unwrap_err();
    assert_eq!(error.code(), "acme.external_account_required");

    let mut settings = world.settings();
    settings.external_account_binding = Some(ExternalAccountBinding {
        key_id: "kid-1".into(),
        hmac_key: Secret::new(hmac_key.into()),
    });
    let client = world.client_with(settings);
    world.issue(&client, &["bound.example"]).await.unwrap();
}

#[tokio::test]
async fn a_failed_validation_names_the_identifier_and_what_the_ca_found() {
    let world = World::start(&PebbleOptions::default()).await;
    let client = world.client();
    let mut order = client.new_order(&ordering(&["wrong.example"])).await.unwrap();
    for authorization in order.authorizations().await.unwrap() {
        for challenge in authorization.challenges {
            if challenge.challenge_type == ChallengeType::Http01 {
                order.respond(&challenge).await.unwrap();
            }
        }
    }
    let error = order.wait_until_ready(LIMIT).await.unwrap_err();
    let AcmeError::ValidationFailed { identifier, challenge, problem, .. } = &error else {
        unreachable!("{error:?}");
    };
    assert_eq!((identifier.to_string().as_str(), challenge.as_str()), ("wrong.example", "http-01"));
    assert!(!problem.detail.is_empty());
    assert!(error.is_end_of_order());
}

#[tokio::test]
async fn an_order_is_taken_up_again_by_another_process_and_finalized_once() {
    let world = World::start(&PebbleOptions::default()).await;
    let mut order = world.client().new_order(&ordering(&["resumed.example"])).await.unwrap();
    world.prove(&mut order).await.unwrap();

    let mut order = world.client().order(order.url()).await.unwrap();
    order.wait_until_ready(LIMIT).await.unwrap();
    order.finalize(&csr(&["resumed.example"])).await.unwrap();

    let mut order = world.client().order(order.url()).await.unwrap();
    order.finalize(&csr(&["resumed.example"])).await.unwrap();
    order.download(LIMIT).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Valid);
    assert_eq!(world.pebble.requests().count(Endpoint::Finalize), 1);
}

#[tokio::test]
async fn an_abandoned_order_has_no_pending_authorization_left() {
    let world = World::start(&PebbleOptions::default()).await;
    let client = world.client();
    let mut order = client.new_order(&ordering(&["given-up.example"])).await.unwrap();
    order.authorizations().await.unwrap();
    order.abandon().await;
    let mut order = client.order(order.url()).await.unwrap();
    let authorizations = order.authorizations().await.unwrap();
    assert_eq!(authorizations[0].status, AuthorizationStatus::Deactivated);
}

#[tokio::test]
async fn a_ca_that_another_root_vouches_for_is_not_asked() {
    let world = World::start(&PebbleOptions::default()).await;
    let mut settings = world.settings();
    settings.trust = None;
    let error = world.client_with(settings).account_url().await.unwrap_err();
    assert_eq!(error.code(), "acme.unreachable");
    assert_eq!(world.pebble.requests().count(Endpoint::NewAccount), 0);
}

/// A Pebble, a vault, and a web server that answers http-01 for every name.
struct World {
    pebble: Pebble,
    vault: Arc<MemoryVault>,
    proofs: Proofs,
}

type Proofs = Arc<Mutex<HashMap<String, String>>>;

impl World {
    async fn start(options: &PebbleOptions) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let http_port = listener.local_addr().unwrap().port();
        let options = PebbleOptions { http_port, ..options.clone() };
        let pebble = tokio::task::spawn_blocking(move || Pebble::start(&options)).await.unwrap();
        let proofs = Proofs::default();
        drop(tokio::spawn(serve(listener, Arc::clone(&proofs))));
        Self { pebble, vault: Arc::default(), proofs }
    }

    fn settings(&self) -> CaSettings {
        CaSettings {
            name: "pebble".parse().unwrap(),
            directory: self.pebble.directory(),
            trust: Some(self.pebble.root_file()),
            test: true,
            contact: vec!["mailto:ops@example.com".into()],
            terms_of_service_agreed: true,
            external_account_binding: None,
            limits: renewd::model::Limits::default(),
        }
    }

    fn client(&self) -> AcmeClient {
        self.client_with(self.settings())
    }

    fn client_with(&self, settings: CaSettings) -> AcmeClient {
        let vault = Arc::clone(&self.vault) as Arc<dyn KeyVault>;
        AcmeClient::new(settings, vault, Arc::new(SystemClock::new())).unwrap()
    }

    async fn issue<T: AsRef<str>>(
        &self,
        client: &AcmeClient,
        names: &[T],
    ) -> Result<String, AcmeError> {
        self.issue_request(client, &ordering(names)).await
    }

    async fn issue_request(
        &self,
        client: &AcmeClient,
        request: &OrderRequest,
    ) -> Result<String, AcmeError> {
        let mut order = client.new_order(request).await?;
        self.prove(&mut order).await?;
        order.wait_until_ready(LIMIT).await?;
        let names: Vec<String> = request.identifiers.iter().map(Identifier::value).collect();
        order.finalize(&csr(&names)).await?;
        order.download(LIMIT).await
    }

    /// Shows and answers http-01 for each authorization that needs it.
    async fn prove(&self, order: &mut renewd::acme::Order) -> Result<(), AcmeError> {
        for authorization in order.authorizations().await? {
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let is_http =
                |it: &&renewd::acme::Challenge| it.challenge_type == ChallengeType::Http01;
            let challenge = authorization.challenges.iter().find(is_http).unwrap();
            let proof = challenge.key_authorization.as_str().to_owned();
            self.proofs.lock().unwrap().insert(challenge.token.to_string(), proof);
            order.respond(challenge).await?;
        }
        Ok(())
    }
}

async fn serve(listener: tokio::net::TcpListener, proofs: Proofs) {
    while let Ok((stream, _)) = listener.accept().await {
        let proofs = Arc::clone(&proofs);
        let answering = hyper::service::service_fn(move |request: http::Request<_>| {
            let token = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let proof = proofs.lock().unwrap().get(&token).cloned().unwrap_or_default();
            async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(proof)))) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answering);
        drop(tokio::spawn(async move { drop(connection.await) }));
    }
}

fn ordering<T: AsRef<str>>(names: &[T]) -> OrderRequest {
    let identifiers = names.iter().map(|it| it.as_ref().parse().unwrap()).collect();
    OrderRequest { identifiers, profile: None, replaces: None }
}

fn csr<T: AsRef<str>>(names: &[T]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|it| it.as_ref().to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}
