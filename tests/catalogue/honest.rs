//! The same flows at the scripted CA and at Pebble: what one of them does otherwise than the other
//! fails here, so that nobody believes the scripted one more than it deserves.

use std::sync::Arc;
use std::time::Duration;

use renewd::acme::{
    AccountAction, AcmeClient, AcmeError, AuthorizationStatus, CaSettings, ExternalAccountBinding,
    Order, OrderRequest, OrderStatus,
};
use renewd::model::{
    CertificateId, Chain, ChallengeType, Explain, Identifier, KeyType, KeyVault, PrivateKey,
    RevocationReason, Secret,
};
use renewd::sys::clock::{Clock, SystemClock};

use crate::ca::{CaOptions, ScriptedCa};
use crate::support::{Pebble, PebbleOptions};
use crate::vault::MemoryVault;

const LIMIT: Duration = Duration::from_secs(60);
const HMAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Either of the two.
enum Ca {
    Scripted(ScriptedCa),
    Pebble(Box<Pebble>),
}

/// A CA with an account at it.
struct At {
    ca: Ca,
    vault: Arc<MemoryVault>,
    binding: bool,
}

impl At {
    /// Both of them, each with two alternate chains; every proof is accepted.
    async fn both(binding: bool) -> [Self; 2] {
        let bound = binding.then(|| ("kid-1".to_owned(), HMAC_KEY.to_owned()));
        let options = PebbleOptions {
            always_valid: true,
            alternate_roots: 2,
            external_account_binding: bound.clone(),
            ..PebbleOptions::default()
        };
        let pebble = tokio::task::spawn_blocking(move || Pebble::start(&options)).await.unwrap();
        let options = CaOptions { alternates: 2, binding: bound, ..CaOptions::default() };
        let scripted = ScriptedCa::start(options).await;
        [Ca::Scripted(scripted), Ca::Pebble(Box::new(pebble))].map(|ca| Self {
            ca,
            vault: Arc::default(),
            binding,
        })
    }

    fn settings(&self) -> CaSettings {
        let (directory, trust) = match &self.ca {
            Ca::Scripted(ca) => (ca.directory(), None),
            Ca::Pebble(ca) => (ca.directory(), Some(ca.root_file())),
        };
        CaSettings {
            name: "lab".parse().unwrap(),
            directory,
            trust,
            test: true,
            contact: vec!["mailto:ops@example.com".into()],
            terms_of_service_agreed: true,
            external_account_binding: self.binding.then(|| ExternalAccountBinding {
                key_id: "kid-1".into(),
                hmac_key: Secret::new(HMAC_KEY.into()),
            }),
            limits: renewd::model::Limits::default(),
        }
    }

    fn client(&self) -> AcmeClient {
        let clock: Arc<dyn Clock> = match &self.ca {
            Ca::Scripted(ca) => ca.clock(),
            Ca::Pebble(_) => Arc::new(SystemClock::new()),
        };
        let vault = Arc::clone(&self.vault) as Arc<dyn KeyVault>;
        AcmeClient::new(self.settings(), vault, clock).unwrap()
    }
}

/// An order for `names`.
fn asking(names: &[&str]) -> OrderRequest {
    let identifiers = names.iter().map(|it| it.parse().unwrap()).collect();
    OrderRequest { identifiers, profile: Some("default".into()), replaces: None }
}

fn csr(names: &[Identifier], key: &PrivateKey) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(Identifier::value).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let pair = rcgen::KeyPair::from_pem(key.secret_pem()).unwrap();
    params.serialize_request(&pair).unwrap().der().to_vec()
}

async fn prove(order: &mut Order) {
    for authorization in order.authorizations().await.unwrap() {
        let wanted = |it: &&renewd::acme::Challenge| it.challenge_type == ChallengeType::Http01;
        let challenge = authorization.challenges.iter().find(wanted);
        if authorization.status == AuthorizationStatus::Pending {
            order.respond(challenge.unwrap()).await.unwrap();
        }
    }
    order.wait_until_ready(LIMIT).await.unwrap();
}

async fn issue(client: &AcmeClient, request: &OrderRequest) -> (Order, Chain, PrivateKey) {
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let mut order = client.new_order(request).await.unwrap();
    prove(&mut order).await;
    order.finalize(&csr(&request.identifiers, &key)).await.unwrap();
    let pem = order.download(LIMIT).await.unwrap();
    (order, Chain::parse_pem(pem.as_bytes()).unwrap(), key)
}

#[tokio::test]
async fn both_issue_what_was_ordered_with_all_their_chains() {
    for at in At::both(false).await {
        let client = at.client();
        let request = asking(&["a.example", "b.example", "127.0.0.1"]);
        let (order, chain, key) = issue(&client, &request).await;
        assert_eq!(chain.leaf.public_key, key.public_key().unwrap());
        assert_eq!(chain.leaf.identifiers, request.identifiers.iter().cloned().collect());
        assert_eq!(order.alternates().len(), 2);
        for url in order.alternates() {
            let other = order.download_alternate(url).await.unwrap();
            let other = Chain::parse_pem(other.as_bytes()).unwrap();
            assert_eq!(other.leaf.sha256, chain.leaf.sha256);
            assert_ne!(other.issuer_names().last(), chain.issuer_names().last());
        }
        // Taken up again it is valid, and finalized no more.
        let mut again = client.order(order.url()).await.unwrap();
        assert_eq!(again.status(), OrderStatus::Valid);
        again.finalize(&csr(&request.identifiers, &key)).await.unwrap();
        assert_eq!(again.download(LIMIT).await.unwrap().matches("BEGIN").count(), 2);
    }
}

#[tokio::test]
async fn both_take_a_replacement_once_and_say_when_to_renew() {
    for at in At::both(false).await {
        let client = at.client();
        let (_, chain, _) = issue(&client, &asking(&["a.example"])).await;
        let id = CertificateId::of(&chain.leaf).unwrap();
        let info = client.renewal_info(&id).await.unwrap();
        let window = info.suggested_window.unwrap();
        assert!(chain.leaf.validity.not_before < window.start);
        assert!(window.end < chain.leaf.validity.not_after);
        assert!(info.poll_after.is_some());

        let request = OrderRequest { replaces: Some(id.to_string()), ..asking(&["a.example"]) };
        issue(&client, &request).await;
        // The second one is refused with replaces, and taken without. It asks for a name that is
        // not proven, since what is proven may have it ready at once.
        let request =
            OrderRequest { replaces: request.replaces, ..asking(&["a.example", "b.example"]) };
        let mut again = client.new_order(&request).await.unwrap();
        assert_eq!(again.status(), OrderStatus::Pending);
        again.abandon().await;
        let mut again = client.order(again.url()).await.unwrap();
        let authorizations = again.authorizations().await.unwrap();
        let new = authorizations.iter().find(|it| it.identifier.value() == "b.example");
        assert_eq!(new.unwrap().status, AuthorizationStatus::Deactivated);
    }
}

#[tokio::test]
async fn both_revoke_by_account_and_by_key_and_once() {
    for at in At::both(false).await {
        let client = at.client();
        let (_, by_account, _) = issue(&client, &asking(&["a.example"])).await;
        let (_, by_key, key) = issue(&client, &asking(&["b.example"])).await;
        let der = |chain: &Chain| chain.certificates().first().unwrap().to_vec();
        for _ in 0..2 {
            let reason = RevocationReason::Superseded;
            client.revoke(&der(&by_account), None, reason).await.unwrap();
        }
        let reason = RevocationReason::KeyCompromise;
        client.revoke(&der(&by_key), Some(&key), reason).await.unwrap();
        let stranger = PrivateKey::generate(KeyType::P256).unwrap();
        let (_, other, _) = issue(&client, &asking(&["c.example"])).await;
        assert!(client.revoke(&der(&other), Some(&stranger), reason).await.is_err());
    }
}

#[tokio::test]
async fn both_find_an_account_by_its_key_give_it_another_and_end_it() {
    for at in At::both(false).await {
        let url = at.client().account_url().await.unwrap();
        at.vault.account(|it| it.url = None);
        assert_eq!(at.client().account_url().await.unwrap(), url);

        let client = at.client();
        let before = client.tend_account(AccountAction::Show).await.unwrap();
        let after = client.tend_account(AccountAction::RollOver).await.unwrap();
        assert_ne!(before.thumbprint, after.thumbprint);
        assert_eq!((before.url, &*before.status), (after.url, "valid"));
        issue(&client, &asking(&["a.example"])).await;
        at.vault.account(|it| it.url = None);
        assert_eq!(at.client().account_url().await.unwrap(), url);

        client.tend_account(AccountAction::Deactivate).await.unwrap();
        at.vault.account(|it| it.deactivated_at = None);
        let error = at.client().new_order(&asking(&["a.example"])).await.unwrap_err();
        assert_eq!(error.code(), "acme.account_closed", "{error}");
    }
}

#[tokio::test]
async fn both_want_a_binding_and_take_the_right_one() {
    for mut at in At::both(true).await {
        issue(&at.client(), &asking(&["a.example"])).await;
        at.binding = false;
        at.vault = Arc::default();
        let error = at.client().account_url().await.unwrap_err();
        assert_eq!(error.code(), "acme.external_account_required");
    }
}

#[tokio::test]
async fn both_refuse_what_is_out_of_order() {
    for at in At::both(false).await {
        let client = at.client();
        let code = |error: AcmeError| error.code().to_owned();
        let unknown = OrderRequest { profile: Some("none".into()), ..asking(&["a.example"]) };
        let error = client.new_order(&unknown).await.unwrap_err();
        assert_eq!(code(error), "acme.invalid_profile");

        let mut order = client.new_order(&asking(&["a.example"])).await.unwrap();
        let elsewhere = format!("{}9999", order.url());
        assert!(client.order(&elsewhere).await.unwrap_err().is_end_of_order());

        prove(&mut order).await;
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let other = csr(&["b.example".parse().unwrap()], &key);
        let error = order.finalize(&other).await.unwrap_err();
        assert!(error.is_end_of_order(), "{error}");

        // Of another account: not even to look at.
        let stranger = AcmeClient::new(
            at.settings(),
            Arc::<MemoryVault>::default(),
            Arc::new(SystemClock::new()),
        );
        assert!(stranger.unwrap().order(order.url()).await.is_err());
    }
}
