//! The built-in CA over the years, with a vault in memory and a hand at the clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::model::{
    AuthorityLabel, AuthorityRecord, AuthorityRole, AuthorityVault, CaName, Chain, Explain,
    Identifier, KeyType, PrivateKey, Retry, Secret, StorageError, Timestamp,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Certificate and key of each label, as text.
type Kept = BTreeMap<AuthorityLabel, [Option<String>; 2]>;

#[derive(Debug, Default)]
struct Vault {
    kept: Mutex<Kept>,
    aside: Mutex<Vec<AuthorityLabel>>,
}

impl Vault {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.kept().keys().map(ToString::to_string).collect()
    }

    fn aside(&self) -> Vec<String> {
        self.aside.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl AuthorityVault for Vault {
    async fn list_authorities(&self, _: &CaName) -> Result<Vec<AuthorityRecord>, StorageError> {
        let record = |(label, [certificate, key]): (&AuthorityLabel, &[Option<String>; 2])| {
            let certificate = certificate.clone().map(String::into_bytes);
            AuthorityRecord { label: *label, certificate, has_key: key.is_some() }
        };
        Ok(self.kept().iter().map(record).collect())
    }

    async fn load_authority_key(
        &self,
        _: &CaName,
        label: AuthorityLabel,
    ) -> Result<Option<Secret>, StorageError> {
        Ok(self.kept().get(&label).and_then(|it| it[1].clone()).map(Secret::new))
    }

    async fn save_authority_key(
        &self,
        _: &CaName,
        label: AuthorityLabel,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        let before = self.kept().insert(label, [None, Some(key.secret_pem().to_owned())]);
        assert_eq!(before, None, "{label} was written over");
        Ok(())
    }

    async fn save_authority_certificate(
        &self,
        _: &CaName,
        label: AuthorityLabel,
        pem: &str,
    ) -> Result<(), StorageError> {
        let mut kept = self.kept();
        let [certificate, key] = kept.get_mut(&label).expect("the key comes first");
        assert!(certificate.is_none() && key.is_some(), "{label}");
        *certificate = Some(pem.to_owned());
        Ok(())
    }

    async fn set_authority_aside(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError> {
        self.aside.lock().unwrap().push(label);
        self.remove_authority(ca, label).await
    }

    async fn remove_authority(
        &self,
        _: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError> {
        self.kept().remove(&label);
        Ok(())
    }

    fn authority_place(&self, ca: &CaName) -> String {
        format!("/state/ca/{ca}")
    }
}

/// A CA, and the key that all its leafs are for.
struct World {
    vault: std::sync::Arc<Vault>,
    settings: LocalCaSettings,
    key: PrivateKey,
}

impl World {
    fn new() -> Self {
        Self {
            vault: std::sync::Arc::default(),
            settings: LocalCaSettings::new("inside".parse().unwrap()),
            key: PrivateKey::generate(KeyType::P256).unwrap(),
        }
    }

    fn ca(&self) -> LocalCa {
        LocalCa::new(self.settings.clone(), self.vault.clone())
    }

    async fn issue(&self, name: &str, now: Timestamp) -> Result<Chain, LocalCaError> {
        let request = LeafRequest {
            identifiers: vec![name.parse().unwrap()],
            public_key: self.key.public_key().unwrap(),
            key_type: KeyType::P256,
        };
        self.ca().issue(request, now).await
    }

    /// The number of the root that the leaf of `now` leads to.
    async fn root_at(&self, now: Timestamp) -> u32 {
        let chain = self.issue("a.example", now).await.unwrap();
        let roots = self.ca().roots(now).await.unwrap();
        let has_signed = |root: &&Authority| {
            let mut certificates = chain.certificates().to_vec();
            certificates.push(root.certificate.clone());
            Chain::from_der(certificates).is_ok()
        };
        roots.iter().find(has_signed).unwrap().label.number
    }

    async fn roots_at(&self, now: Timestamp) -> Vec<u32> {
        self.ca().roots(now).await.unwrap().iter().map(|it| it.label.number).collect()
    }

    /// Breaks or removes the certificate (0) or key (1) of `label`.
    fn spoil(&self, label: &str, which: usize, with: Option<&str>) {
        let mut kept = self.vault.kept();
        kept.get_mut(&label.parse().unwrap()).unwrap()[which] = with.map(str::to_owned);
    }
}

fn start() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn day(days: u32) -> Timestamp {
    start().saturating_add(DAY * days)
}

#[tokio::test]
async fn a_first_leaf_makes_a_root_and_an_intermediate_and_a_second_nothing() {
    let world = World::new();
    let chain = world.issue("*.a.example", start()).await.unwrap();
    assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001"]);
    assert_eq!(chain.certificates().len(), 2);
    let leaf = &chain.leaf;
    assert_eq!(leaf.identifiers, ["*.a.example".parse().unwrap()].into());
    assert_eq!(leaf.public_key, world.key.public_key().unwrap());
    assert!(!leaf.is_ca && leaf.authority_key_identifier.is_some());
    assert!(leaf.issuer.starts_with("CN=renewd inside intermediate "), "{}", leaf.issuer);
    assert_eq!(leaf.validity.lifetime(), DAY * 30);
    assert_eq!(leaf.validity.not_before, start().saturating_sub(HOUR));
    assert_eq!((leaf.serial.len(), leaf.serial[0]), (17, 1));
    let second = world.issue("*.a.example", start()).await.unwrap();
    assert_ne!(second.leaf.serial, leaf.serial);
    assert_eq!(second.certificates()[1], chain.certificates()[1]);
    assert_eq!(world.vault.names().len(), 2);
}

#[tokio::test]
async fn a_leaf_of_30_seconds_begins_3_seconds_ago() {
    let mut world = World::new();
    world.settings.lifetime = Duration::from_secs(30);
    let chain = world.issue("a.example", start()).await.unwrap();
    assert_eq!(chain.leaf.validity.lifetime(), Duration::from_secs(30));
    assert_eq!(start().since(chain.leaf.validity.not_before), Duration::from_secs(3));
}

#[tokio::test]
async fn an_intermediate_signs_for_half_its_life_and_goes_away_when_it_ends() {
    let world = World::new();
    world.issue("a.example", start()).await.unwrap();
    world.issue("a.example", day(182)).await.unwrap();
    assert_eq!(world.vault.names().len(), 2);
    let chain = world.issue("a.example", day(183)).await.unwrap();
    assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001", "intermediate-0002"]);
    let signer = crate::model::Leaf::parse(&chain.certificates()[1]).unwrap();
    assert!(chain.leaf.validity.not_after < signer.validity.not_after);
    world.issue("a.example", day(366)).await.unwrap();
    assert_eq!(world.vault.names(), ["root-0001", "intermediate-0002", "intermediate-0003"]);
}

#[tokio::test]
async fn an_intermediate_that_has_not_a_leafs_life_left_signs_no_more() {
    let mut world = World::new();
    world.issue("a.example", start()).await.unwrap();
    // Longer leafs than half an intermediate's life: only a changed setting leads there.
    world.settings.lifetime = DAY * 200;
    world.issue("a.example", day(140)).await.unwrap();
    assert_eq!(world.vault.names().len(), 2);
    world.issue("a.example", day(150)).await.unwrap();
    assert_eq!(world.vault.names().len(), 3);
}

#[tokio::test]
async fn a_root_has_a_successor_in_time_that_signs_when_it_could_be_known() {
    let world = World::new();
    let years =
        |it: f64| start().saturating_add(LocalCaSettings::INTERMEDIATE_LIFETIME.mul_f64(it));
    for (at, printed, signing) in [
        (0.0, [1].as_slice(), 1),
        (7.4, &[1], 1),
        (7.6, &[1, 2], 1),
        (8.7, &[1, 2], 1),
        (8.9, &[1, 2], 2),
        (9.9, &[1, 2], 2),
        (10.1, &[2], 2),
    ] {
        assert_eq!(world.root_at(years(at)).await, signing, "after {at} years");
        assert_eq!(world.roots_at(years(at)).await, printed, "after {at} years");
    }
}

#[tokio::test]
async fn a_successor_that_was_made_late_waits_as_long_as_the_old_root_can_sign() {
    let world = World::new();
    world.issue("a.example", start()).await.unwrap();
    // Nothing ran until ten months before the end: nobody knows the new root yet.
    let late = day(3652 - 300);
    assert_eq!(world.root_at(late).await, 1);
    assert_eq!(world.roots_at(late).await, [1, 2]);
    let chain = world.issue("a.example", day(3652 - 40)).await.unwrap();
    assert!(chain.leaf.validity.lifetime() == DAY * 30);
    assert_eq!(world.root_at(day(3652 - 40)).await, 1);
    assert_eq!(world.root_at(day(3652 - 20)).await, 2);
}

#[tokio::test]
async fn an_expired_root_is_followed_only_if_a_human_wants_it() {
    let world = World::new();
    world.issue("a.example", start()).await.unwrap();
    let error = world.issue("a.example", day(4000)).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("local_ca.root_expired", Retry::AfterChange));
    assert!(world.ca().roots(day(4000)).await.is_err());
    world.ca().prepare(NewRoot::ByHand, day(4000)).await.unwrap();
    assert_eq!(world.root_at(day(4000)).await, 2);
}

#[tokio::test]
async fn a_clock_that_is_behind_makes_no_second_root() {
    let world = World::new();
    world.issue("a.example", start()).await.unwrap();
    for by_hand in [NewRoot::InTime, NewRoot::ByHand] {
        let error = world.ca().prepare(by_hand, Timestamp::EPOCH).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("local_ca.clock", Retry::BackOff));
    }
    assert_eq!(world.vault.names().len(), 2);
}

#[tokio::test]
async fn killed_between_key_and_certificate_it_goes_on_with_the_key() {
    let world = World::new();
    let label = |role| AuthorityLabel { role, number: 1 };
    let root = PrivateKey::generate(KeyType::P384).unwrap();
    let ca = &world.settings.name;
    world.vault.save_authority_key(ca, label(AuthorityRole::Root), &root).await.unwrap();
    world.ca().prepare(NewRoot::InTime, start()).await.unwrap();
    assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001"]);
    let roots = world.ca().roots(start()).await.unwrap();
    assert_eq!(roots[0].facts.public_key, root.public_key().unwrap());

    world.spoil("intermediate-0001", 0, None);
    world.issue("a.example", start()).await.unwrap();
    assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001"]);

    // The same for a successor, years later.
    world.issue("a.example", day(2900)).await.unwrap();
    world.spoil("root-0002", 0, None);
    world.issue("a.example", day(2901)).await.unwrap();
    assert_eq!(world.roots_at(day(2901)).await, [1, 2]);
    assert!(world.vault.aside().is_empty());
}

#[tokio::test]
async fn a_lost_or_broken_root_is_an_error_that_says_what_to_do_and_never_another_root() {
    for with in [
        None,
        Some(""),
        Some("garbage"),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        let world = World::new();
        world.issue("a.example", start()).await.unwrap();
        world.spoil("root-0001", 0, with);
        let error = world.issue("a.example", start()).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("local_ca.root_lost", Retry::AfterChange));
        let hint = error.hint().unwrap();
        assert!(hint.contains("/state/ca/inside/root-0001/cert.pem"), "{hint}");
        assert!(world.ca().prepare(NewRoot::ByHand, start()).await.is_err());
        assert!(world.ca().roots(start()).await.is_err());
        assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001"]);
    }
}

#[tokio::test]
async fn a_lost_root_key_is_missed_only_when_it_has_to_sign() {
    let foreign = PrivateKey::generate(KeyType::P384).unwrap();
    for with in [None, Some("garbage"), Some(foreign.secret_pem())] {
        let world = World::new();
        world.issue("a.example", start()).await.unwrap();
        world.spoil("root-0001", 1, with);
        world.issue("a.example", day(100)).await.unwrap();
        let error = world.issue("a.example", day(200)).await.unwrap_err();
        assert!(matches!(error, LocalCaError::RootKeyLost { .. }), "{error}");
        assert!(error.hint().unwrap().contains("key.pem"));
        assert_eq!(world.vault.names(), ["root-0001", "intermediate-0001"]);
    }
}

#[tokio::test]
async fn a_broken_intermediate_is_set_aside_and_another_made() {
    for (which, with) in [(0, Some("garbage")), (1, None), (1, Some("garbage"))] {
        let world = World::new();
        let first = world.issue("a.example", start()).await.unwrap();
        world.spoil("intermediate-0001", which, with);
        let second = world.issue("a.example", start()).await.unwrap();
        assert_ne!(first.certificates()[1], second.certificates()[1]);
        assert_eq!(world.vault.aside(), ["intermediate-0001"], "{which} {with:?}");
    }
}

#[tokio::test]
async fn what_is_not_permitted_is_refused_before_anything_is_made() {
    let mut world = World::new();
    world.settings.permitted =
        ["internal.example", "10.0.0.0/8"].map(|it| it.parse().unwrap()).into();
    let error = world.issue("a.example", start()).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("local_ca.not_permitted", Retry::AfterChange));
    assert_eq!(
        error.to_string(),
        "the CA inside may not certify a.example: permitted is internal.example, 10.0.0.0/8"
    );
    assert!(world.vault.names().is_empty());
    for name in ["*.internal.example", "10.1.2.3"] {
        world.issue(name, start()).await.unwrap();
    }
}

#[tokio::test]
async fn a_root_certifies_what_it_was_made_for_whatever_is_permitted_later() {
    let mut world = World::new();
    world.settings.permitted = ["a.example"].map(|it| it.parse().unwrap()).into();
    world.issue("a.example", start()).await.unwrap();
    world.settings.permitted = ["a.example", "b.example"].map(|it| it.parse().unwrap()).into();
    let error = world.issue("b.example", start()).await.unwrap_err();
    assert!(matches!(error, LocalCaError::NotPermittedByRoot { .. }), "{error}");
    assert!(error.hint().unwrap().contains("/state/ca/inside"));

    // Less is in force at once: a new intermediate permits no more.
    world.settings.permitted = ["www.a.example"].map(|it| it.parse().unwrap()).into();
    let chain = world.issue("www.a.example", start()).await.unwrap();
    let record = AuthorityRecord {
        label: "intermediate-0001".parse().unwrap(),
        certificate: Some(chain.issuers_pem().into_bytes()),
        has_key: true,
    };
    assert_eq!(Authority::parse(&record).unwrap().permitted, world.settings.permitted);
}

#[tokio::test]
async fn a_leaf_ends_with_its_signer_at_the_latest() {
    let world = World::new();
    world.issue("a.example", start()).await.unwrap();
    let records = world.vault.list_authorities(&world.settings.name).await.unwrap();
    let signer = Authority::parse(records.last().unwrap()).unwrap();
    let pem = world.vault.load_authority_key(&world.settings.name, signer.label).await.unwrap();
    let key = PrivateKey::from_pem(pem.unwrap().reveal().as_bytes()).unwrap();
    let request = LeafRequest {
        identifiers: vec![Identifier::Dns("a.example".into())],
        public_key: world.key.public_key().unwrap(),
        key_type: KeyType::P256,
    };
    let sign =
        |now| sign_leaf(&request, (&signer, &key), &world.settings, now, Serial::new([0; 16]));
    let end = signer.facts.validity.not_after;
    assert_eq!(sign(end.saturating_sub(HOUR)).unwrap().leaf.validity.not_after, end);
    assert!(matches!(sign(end), Err(SignError::SignerExpired(_))));
}

#[tokio::test]
async fn a_certificate_that_is_no_cas_signs_nothing() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key);
    let record = AuthorityRecord {
        label: "root-0001".parse().unwrap(),
        certificate: Some(certificate.unwrap().pem().into_bytes()),
        has_key: true,
    };
    assert!(matches!(Authority::parse(&record), Err(AuthorityError::NotOfACa)));
}
