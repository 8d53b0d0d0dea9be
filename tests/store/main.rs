//! The certificates below a state directory, as servers and a restarted agent find them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
use renewd::local_ca::placeholder;
use renewd::model::{
    CertificateName, Chain, Explain, Fingerprint, Generation, Held, IssuedCertificate, KeyType,
    Origin, PrivateKey, Timestamp,
};
use renewd::store::{HeldError, Store, StoreSettings};
use renewd::sys::atomic::{self, Access};
use renewd::sys::clock::SystemClock;
use renewd::sys::user;

mod processes;

struct World {
    store: Store,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: open(folder.path()).await, folder }
    }

    /// Ends the store and opens it anew, as after a crash.
    async fn reopened(self) -> Self {
        let Self { store, folder } = self;
        drop(store);
        Self { store: open(folder.path()).await, folder }
    }

    /// A path in the folder of the certificate.
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("certs/example.com").join(path)
    }

    async fn add(&self, issued: &IssuedCertificate) -> Held {
        self.store.add(&name(), issued, None).await.unwrap()
    }

    async fn held(&self) -> Held {
        self.store.held(&name()).await.unwrap().unwrap()
    }

    async fn repair(&self) -> Option<String> {
        self.store.repair(&name(), None).await.unwrap()
    }

    fn current(&self) -> String {
        fs::read_link(self.path("current")).unwrap().to_str().unwrap().to_owned()
    }

    /// What lies in the folder of the certificate.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(&self, path: &str, content: &str) {
        atomic::write(&self.path(path), content.as_bytes(), Access::mode(0o644)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

async fn open(state_dir: &Path) -> Store {
    let settings =
        StoreSettings { state_dir: state_dir.to_owned(), run_dir: state_dir.join("run") };
    // A victim that was killed may take a moment to let go of its lock.
    let wait = Duration::from_secs(20);
    Store::open(&settings, Arc::new(SystemClock::new()), wait).await.unwrap()
}

fn name() -> CertificateName {
    "example.com".parse().unwrap()
}

/// A certificate that is valid from `day` on.
fn issued(day: u64) -> IssuedCertificate {
    let now = Timestamp::EPOCH.saturating_add(Duration::from_secs((20_000 + day) * 86_400));
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let chain = placeholder(&["example.com".parse().unwrap()], &key, now).unwrap();
    let origin = Origin {
        preferred_chain: None,
        ca: "lab".parse().unwrap(),
        directory: "https://ca.example/dir".into(),
        profile: None,
        key_type: KeyType::P256,
        csr: None,
        issued_at: now,
        order_url: None,
        test: false,
    };
    IssuedCertificate { chain, key: Some(key), origin }
}

/// A group that we may give files to: any number for root, our own for others.
fn group() -> (String, u32) {
    let id = if user::own_user_id() == 0 { 54_321 } else { user::own_group_id() };
    (id.to_string(), id)
}

/// Mode, owner and group.
fn rights(path: &Path) -> (u32, u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

/// What a server finds that follows the link once.
fn served(root: &Path) -> Fingerprint {
    let directory = root.join(fs::read_link(root.join("current")).unwrap());
    let chain = Chain::parse_pem(&fs::read(directory.join("fullchain.pem")).unwrap()).unwrap();
    let key = PrivateKey::from_pem(&fs::read(directory.join("privkey.pem")).unwrap()).unwrap();
    assert_eq!(chain.leaf.public_key, key.public_key().unwrap(), "key and certificate differ");
    chain.leaf.sha256
}

/// As [`issued`], signed by an intermediate that comes with it.
fn issued_with_issuer(day: u64) -> IssuedCertificate {
    let authority = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    };
    let [of_root, of_issuer] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let root = CertifiedIssuer::self_signed(authority("Root"), of_root).unwrap();
    let intermediate = authority("Intermediate").signed_by(&of_issuer, &root).unwrap();
    let issuer = Issuer::new(authority("Intermediate"), of_issuer);
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let parameters = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    let leaf = parameters.signed_by(&key.pair().unwrap(), &issuer).unwrap();
    let certificates = vec![leaf.der().clone(), intermediate.der().clone()];
    let chain = Chain::from_der(certificates).unwrap();
    IssuedCertificate { chain, key: Some(key), ..issued(day) }
}

#[tokio::test]
async fn what_is_held_says_whether_its_issuer_has_to_be_shown_with_it() {
    let world = World::new().await;
    assert!(!world.add(&issued(1)).await.needs_issuer);
    assert!(world.add(&issued_with_issuer(2)).await.needs_issuer);
    assert!(world.held().await.needs_issuer);
}

#[tokio::test]
async fn what_is_added_is_held_with_its_origin_and_named_as_certbot_names_it() {
    let world = World::new().await;
    assert_eq!(world.store.held(&name()).await.unwrap(), None);
    let first = issued(1);
    let held = world.add(&first).await;
    assert_eq!(held.generation, Some(Generation(1)));
    assert_eq!(held.origin.as_ref(), Some(&first.origin));
    assert_eq!(held.leaf, first.chain.leaf);
    assert_eq!(held.directory, world.path("0001"));
    assert_eq!(world.current(), "0001");
    assert_eq!(world.names(), ["0001", "current"]);
    assert_eq!(world.read("current/fullchain.pem"), first.chain.full_pem());
    assert_eq!(world.read("current/cert.pem"), first.chain.leaf_pem());
    assert_eq!(world.read("current/chain.pem"), "");
    assert_eq!(world.read("current/privkey.pem"), first.key.as_ref().unwrap().secret_pem());
    let combined =
        format!("{}{}", first.key.as_ref().unwrap().secret_pem(), first.chain.full_pem());
    assert_eq!(world.read("current/combined.pem"), combined);

    let world = world.reopened().await;
    assert_eq!(world.held().await, held);
}

#[tokio::test]
async fn every_file_has_its_rights_with_and_without_a_group() {
    let world = World::new().await;
    let (own, (group, group_id)) = (rights(world.folder.path()), group());
    for (group, group_id, secret) in [(None, own.2, 0o600), (Some(&*group), group_id, 0o640)] {
        let held = world.store.add(&name(), &issued(1), group).await.unwrap();
        assert_eq!(rights(&held.directory), (0o750, own.1, group_id));
        for file in ["fullchain.pem", "cert.pem", "chain.pem", "meta.json"] {
            assert_eq!(rights(&held.directory.join(file)), (0o644, own.1, group_id), "{file}");
        }
        for file in ["privkey.pem", "combined.pem"] {
            assert_eq!(rights(&held.directory.join(file)), (secret, own.1, group_id), "{file}");
        }
    }
    assert_eq!(rights(&world.path("")).0, 0o711);
}

#[tokio::test]
async fn a_group_that_does_not_exist_is_named_and_nothing_is_stored() {
    let world = World::new().await;
    let error = world.store.add(&name(), &issued(1), Some("no-such-group")).await.unwrap_err();
    assert!(error.hint().unwrap().contains("groupadd --system no-such-group"), "{error:?}");
    assert_eq!(world.store.held(&name()).await.unwrap(), None);
}

#[tokio::test]
async fn who_was_taken_over_changes_nothing_more() {
    let world = World::new().await;
    let first = world.add(&issued(1)).await;
    // As on a network's file system that ignores locks: the next one got a number too.
    let lease = world.folder.path().join("private/locks/state.json");
    atomic::write(&lease, br#"{"fencing":99,"pid":1}"#, Access::mode(0o600)).unwrap();
    let error = world.store.add(&name(), &issued(2), None).await.unwrap_err();
    assert!(error.source.to_string().contains("taken over"), "{error:?}");
    assert_eq!(world.held().await, first);
    assert_eq!(world.names(), ["0001", "current"]);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let world = World::new().await;
    let mut mixed = issued(1);
    mixed.key = issued(1).key;
    let error = world.store.add(&name(), &mixed, None).await.unwrap_err();
    assert_eq!(error.source.to_string(), "key and certificate do not belong together");
    let printed = format!("{error:?} {mixed:?}");
    assert!(!printed.contains("PRIVATE KEY"), "{printed}");
    assert!(!world.path("").exists());
}

#[tokio::test]
async fn the_same_certificate_added_twice_is_one_generation() {
    let world = World::new().await;
    world.add(&issued(1)).await;
    let second = issued(2);
    world.add(&second).await;
    // As after a crash between the folder and the link.
    atomic::link(&world.path("current"), Path::new("0001")).unwrap();
    let world = world.reopened().await;
    assert_eq!(world.add(&second).await.generation, Some(Generation(2)));
    assert_eq!(world.names(), ["0001", "0002", "current"]);
    assert_eq!(world.current(), "0002");
}

#[tokio::test]
async fn half_a_generation_is_never_held_and_is_swept() {
    let world = World::new().await;
    let first = world.add(&issued(1)).await;
    let half = world.path(".renewd-half");
    atomic::directory(&half, Access::mode(0o700)).unwrap();
    world.write(".renewd-half/fullchain.pem", &issued(2).chain.full_pem());
    let world = world.reopened().await;
    assert_eq!(world.held().await, first);
    assert_eq!(world.names(), ["0001", "current"]);
}

#[tokio::test]
async fn a_placeholder_stands_in_until_the_first_certificate_and_never_again() {
    let world = World::new().await;
    let stand_in = issued(1);
    let put = async |it: &IssuedCertificate| {
        world
            .store
            .put_placeholder(&name(), &it.chain, it.key.as_ref().unwrap(), None)
            .await
            .unwrap()
    };
    let held = put(&stand_in).await.unwrap();
    assert!(held.is_placeholder() && held.origin.is_none());
    assert_eq!(world.current(), "placeholder");
    assert!(world.read("placeholder/meta.json").contains("\"placeholder\": true"));

    let other = issued(2);
    let held = put(&other).await.unwrap();
    assert_eq!((held.fingerprint(), held.is_placeholder()), (other.chain.leaf.sha256, true));

    let real = world.add(&issued(3)).await;
    assert!(!real.is_placeholder());
    assert_eq!(put(&stand_in).await, None);
    assert_eq!(world.held().await, real);
    world.store.prune(&name(), &BTreeSet::new()).await.unwrap();
    assert_eq!(world.names(), ["0001", "current"]);
}

#[tokio::test]
async fn three_are_kept_and_the_current_one_and_those_still_served() {
    let world = World::new().await;
    let mut held = Vec::new();
    for day in 1..=7 {
        held.push(world.add(&issued(day)).await);
    }
    let [first, second] = [held[0].fingerprint(), held[1].fingerprint()];
    world.store.switch(&name(), first).await.unwrap();
    let served = BTreeSet::from([second]);
    assert_eq!(world.store.prune(&name(), &served).await.unwrap(), 2);
    assert_eq!(world.names(), ["0001", "0002", "0005", "0006", "0007", "current"]);
    assert_eq!(world.store.prune(&name(), &served).await.unwrap(), 0);
    let generations = world.store.generations(&name()).await.unwrap();
    assert_eq!(generations[1], (Generation(2), second));
    assert_eq!(generations.len(), 5);
    assert!(world.store.switch(&name(), held[2].fingerprint()).await.is_err());
    assert_eq!(world.add(&issued(8)).await.generation, Some(Generation(8)));
}

#[tokio::test]
async fn nothing_is_pruned_while_what_is_held_is_in_doubt() {
    let world = World::new().await;
    for day in 1..=5 {
        world.add(&issued(day)).await;
    }
    world.write("0005/fullchain.pem", "");
    assert_eq!(world.store.prune(&name(), &BTreeSet::new()).await.unwrap(), 0);
    assert_eq!(world.names().len(), 6);
}

/// D02: a socket can't be opened, whoever asks: the system refuses, and nothing is known.
#[tokio::test]
async fn what_the_system_refuses_to_read_now_is_neither_gone_nor_pruned() {
    let world = World::new().await;
    let first = world.add(&issued(1)).await.fingerprint();
    for day in 2..=5 {
        world.add(&issued(day)).await;
    }
    let keep = BTreeSet::from([first]);
    for file in ["fullchain.pem", "privkey.pem", "meta.json"] {
        let path = format!("0001/{file}");
        let content = world.read(&path);
        fs::remove_file(world.path(&path)).unwrap();
        let socket = UnixListener::bind(world.path(&path)).unwrap();
        assert!(world.store.stored(&name(), first).await.is_err(), "{file}");
        assert!(world.store.key(&name(), first).await.is_err(), "{file}");
        world.store.prune(&name(), &keep).await.unwrap();
        assert_eq!(world.names(), ["0001", "0003", "0004", "0005", "current"], "{file}");
        drop(socket);
        fs::remove_file(world.path(&path)).unwrap();
        world.write(&path, &content);
        assert!(world.store.stored(&name(), first).await.unwrap().is_some(), "{file}");
    }
    // What origin it had is not forgotten for that either.
    assert!(world.repair().await.is_some(), "the rights of what was written");
    let content = world.read("0005/meta.json");
    fs::remove_file(world.path("0005/meta.json")).unwrap();
    let _socket = UnixListener::bind(world.path("0005/meta.json")).unwrap();
    assert!(world.store.held(&name()).await.unwrap_err().is_systems_fault());
    assert_eq!(world.repair().await, None);
    fs::remove_file(world.path("0005/meta.json")).unwrap();
    world.write("0005/meta.json", &content);
    assert!(world.held().await.origin.is_some());
}

#[tokio::test]
async fn what_was_changed_by_hand_is_unreadable_and_says_how() {
    let world = World::new().await;
    let error = async || world.store.held(&name()).await.unwrap_err();
    world.add(&issued(1)).await;
    let other = issued(2);
    world.write("0001/privkey.pem", other.key.as_ref().unwrap().secret_pem());
    assert!(matches!(error().await, HeldError::Mismatch(_)));
    world.write("0001/fullchain.pem", &other.chain.full_pem());
    assert!(matches!(error().await, HeldError::Replaced { .. }));
    world.write("0001/fullchain.pem", "");
    assert!(matches!(error().await, HeldError::Chain { .. }));
    fs::remove_file(world.path("0001/fullchain.pem")).unwrap();
    assert!(matches!(error().await, HeldError::Read(_)));
    symlink("/etc/hostname", world.path("0001/fullchain.pem")).unwrap();
    let planted = error().await;
    assert!(matches!(planted, HeldError::Read(_)) && !planted.is_systems_fault());
    assert_eq!(planted.code(), "store.unreadable");
    atomic::link(&world.path("current"), Path::new("../../private")).unwrap();
    assert!(matches!(error().await, HeldError::StrangeLink(_)));
    fs::remove_file(world.path("current")).unwrap();
    assert!(matches!(error().await, HeldError::LinkMissing(_)));
}

#[tokio::test]
async fn nothing_is_said_to_be_repaired_where_nothing_is_wrong() {
    let world = World::new().await;
    assert_eq!(world.repair().await, None);
    let stand_in = issued(1);
    world
        .store
        .put_placeholder(&name(), &stand_in.chain, stand_in.key.as_ref().unwrap(), None)
        .await
        .unwrap();
    assert_eq!(world.repair().await, None);
    let (group, group_id) = group();
    world.store.add(&name(), &issued(2), Some(&group)).await.unwrap();
    world.store.repair(&name(), Some(&group)).await.unwrap();
    assert_eq!(world.store.repair(&name(), Some(&group)).await.unwrap(), None);
    // A group that was given later is given to what was there before.
    let key = rights(&world.path("placeholder/privkey.pem"));
    assert_eq!((key.0, key.2), (0o640, group_id));
}

#[tokio::test]
async fn a_certificate_whose_key_is_elsewhere_is_kept_without_one() {
    let world = World::new().await;
    let mut here = issued(1);
    let csr = Fingerprint::of(b"request");
    here.origin.csr = Some(csr);
    let refused = world.store.add(&name(), &here, None).await;
    assert!(refused.is_err(), "a key is here that is to be elsewhere");
    let elsewhere = IssuedCertificate { key: None, ..here };
    let held = world.add(&elsewhere).await;
    let files = || -> BTreeSet<String> {
        let entries = fs::read_dir(world.path("0001")).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    let expected = ["cert.pem", "chain.pem", "fullchain.pem", "meta.json"];
    assert_eq!(files(), expected.map(str::to_owned).into());
    assert_eq!(held.origin.as_ref().unwrap().csr, Some(csr));
    let stored = world.store.stored(&name(), held.fingerprint()).await.unwrap().unwrap();
    assert!(stored.key.is_none());
    assert!(world.store.key(&name(), held.fingerprint()).await.unwrap().is_none());

    assert_eq!(world.repair().await, None);
    fs::remove_file(world.path("0001/cert.pem")).unwrap();
    assert_eq!(world.repair().await.unwrap(), "0001: cert.pem was missing");
    assert_eq!(files(), expected.map(str::to_owned).into());
    assert_eq!(world.held().await, held);

    let lost = IssuedCertificate { key: None, ..issued(2) };
    assert!(world.store.add(&name(), &lost, None).await.is_err(), "a key is lost");
}

#[tokio::test]
async fn each_file_that_is_lost_or_changed_comes_back_from_the_others() {
    let world = World::new().await;
    let held = world.add(&issued(1)).await;
    let files =
        ["fullchain.pem", "cert.pem", "chain.pem", "privkey.pem", "combined.pem", "meta.json"];
    for file in files {
        let path = format!("0001/{file}");
        let before = world.read(&path);
        fs::remove_file(world.path(&path)).unwrap();
        let said = world.repair().await.unwrap();
        assert_eq!(said, format!("0001: {file} was missing"));
        assert_eq!(world.held().await.leaf, held.leaf);
        if file == "meta.json" {
            assert_eq!(world.held().await.origin, None);
        } else {
            assert_eq!(world.read(&path), before);
            world.write(&path, "garbage");
            let said = world.repair().await.unwrap();
            assert!(said.starts_with(&format!("0001: {file} had been changed")), "{said}");
            assert_eq!(world.read(&path), before);
        }
        assert_eq!(world.repair().await, None, "{file}");
    }
}

#[tokio::test]
async fn a_pair_that_somebody_put_in_the_place_of_ours_goes_away_again() {
    let world = World::new().await;
    let held = world.add(&issued(1)).await;
    let other = issued(2);
    world.write("0001/fullchain.pem", &other.chain.full_pem());
    world.write("0001/privkey.pem", other.key.as_ref().unwrap().secret_pem());
    world.repair().await.unwrap();
    assert_eq!(world.held().await, held);
}

#[tokio::test]
async fn a_key_that_others_can_read_is_closed_again() {
    let world = World::new().await;
    world.add(&issued(1)).await;
    let key = world.read("0001/privkey.pem");
    world.write("0001/privkey.pem", &key);
    atomic::directory(&world.path("0001"), Access::mode(0o755)).unwrap();
    atomic::directory(&world.path(""), Access::mode(0o777)).unwrap();
    let said = world.repair().await.unwrap();
    for part in ["the folder had mode 777", "0001: privkey.pem had mode 644", "0001: the folder"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(rights(&world.path("0001/privkey.pem")).0, 0o600);
    assert_eq!((rights(&world.path("0001")).0, rights(&world.path("")).0), (0o750, 0o711));
}

#[tokio::test]
async fn a_lost_link_leads_to_what_is_valid_longest_again() {
    let world = World::new().await;
    world.add(&issued(1)).await;
    let longest = world.add(&issued(9)).await;
    world.add(&issued(5)).await;
    let broken = world.path("current");
    let cases: [(&str, &dyn Fn()); 3] = [
        ("current was missing", &|| fs::remove_file(&broken).unwrap()),
        ("current was not a link", &|| atomic::link(&broken, Path::new("/etc")).unwrap()),
        ("current led to no usable", &|| atomic::link(&broken, Path::new("0077")).unwrap()),
    ];
    for (said, damage) in cases {
        damage();
        assert!(world.repair().await.unwrap().starts_with(said));
        assert_eq!(world.held().await, longest);
    }
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_link_is_kept_aside() {
    let world = World::new().await;
    let held = world.add(&issued(1)).await;
    fs::remove_file(world.path("current")).unwrap();
    atomic::directory(&world.path("current"), Access::mode(0o700)).unwrap();
    world.write("current/precious", "x");
    world.repair().await.unwrap();
    assert_eq!(world.held().await, held);
    let aside = world.names().into_iter().find(|it| it.starts_with("current.aside-")).unwrap();
    assert_eq!(world.read(&format!("{aside}/precious")), "x");
}

#[tokio::test]
async fn a_broken_generation_is_passed_over_for_an_older_whole_one() {
    let world = World::new().await;
    let whole = world.add(&issued(1)).await;
    world.add(&issued(2)).await;
    fs::remove_file(world.path("0002/privkey.pem")).unwrap();
    fs::remove_file(world.path("0002/combined.pem")).unwrap();
    world.repair().await.unwrap();
    assert_eq!(world.held().await, whole);
    assert_eq!(world.add(&issued(3)).await.generation, Some(Generation(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_follows_the_link_once_always_finds_a_pair() {
    let world = World::new().await;
    world.add(&issued(0)).await;
    let (root, ended) = (world.path(""), Arc::new(AtomicBool::new(false)));
    let reader = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let mut seen = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                seen.insert(served(&root));
            }
            seen.len()
        }
    });
    for day in 1..=100 {
        world.add(&issued(day)).await;
    }
    ended.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 1);
    assert_eq!(world.current(), "0101");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_can_be_asked_while_generations_come_and_go() {
    let world = Arc::new(World::new().await);
    world.add(&issued(0)).await;
    let writer = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            for day in 1..=30 {
                world.add(&issued(day)).await;
                world.store.prune(&name(), &BTreeSet::new()).await.unwrap();
            }
        }
    });
    while !writer.is_finished() {
        world.held().await;
    }
    writer.await.unwrap();
    assert_eq!(world.names().len(), 4);
}
