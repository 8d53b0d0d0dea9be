//! State directories that released versions left behind, as this version finds them.
//!
//! `tests/state/VERSION` holds each of them; the README beside them says how they are made.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use renewd::model::{Generation, Held, KeyVault, Outbox, TargetName};
use renewd::store::{Store, StoreSettings};
use renewd::sys::atomic::{self, Access};
use renewd::sys::clock::SystemClock;
use renewd::sys::process::{self, Program};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Every version that was released.
const VERSIONS: [&str; 1] = ["0.1.0"];

/// The certificate in each of them.
const NAME: &str = "site";

/// A copy of what one version left, with the rights it had there: git keeps none.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn of(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&kept().join(version), folder.path());
        Self { folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn open(&self) -> Store {
        let settings =
            StoreSettings { state_dir: self.state(), run_dir: self.folder.path().join("run") };
        Store::open(&settings, Arc::new(SystemClock::new()), Duration::ZERO).await.unwrap()
    }

    /// What `renewd` prints with this configuration, and whether it ended with 0.
    async fn renewd(&self, arguments: &[&str]) -> (bool, String) {
        let config = self.folder.path().join("renewd.toml").display().to_string();
        let mut all = vec![env!("CARGO_BIN_EXE_renewd").to_owned(), "-c".to_owned(), config];
        all.extend(arguments.iter().map(|it| (*it).to_owned()));
        let program = Program {
            arguments: all,
            environment: Vec::new(),
            input: Vec::new(),
            directory: None,
            timeout: Duration::from_secs(60),
        };
        match process::run(&program).await {
            Ok(finished) => (true, finished.output),
            Err(error) => (false, format!("{error:?}")),
        }
    }

    async fn status(&self) -> Value {
        let (_, shown) = self.renewd(&["status", "--json"]).await;
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state")
}

/// Copies the folder `from` into the folder `to`: links as links, everything for its owner alone.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_symlink() {
            atomic::link(&copied, &fs::read_link(&path).unwrap()).unwrap();
        } else if path.is_dir() {
            fs::create_dir(&copied).unwrap();
            fs::set_permissions(&copied, Permissions::from_mode(0o700)).unwrap();
            copy(&path, &copied);
        } else {
            write(&copied, &fs::read(&path).unwrap());
        }
    }
}

fn write(path: &Path, content: &[u8]) {
    atomic::write(path, content, Access::mode(0o600)).unwrap();
}

/// All files below `folder` that end in `.json` or `.jsonl`.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|it| it == "json" || it == "jsonl") {
            found.push(path);
        }
    }
    found
}

/// All that was left of the certificate is found.
async fn assert_whole(world: &World) {
    let name = NAME.parse().unwrap();
    let store = world.open().await;
    let held = store.held(&name).await.unwrap().unwrap();
    assert_eq!(held.generation, Some(Generation(2)));
    let origin = held.origin.as_ref().unwrap();
    assert_eq!(origin.ca.as_str(), "lab");
    assert_eq!(store.generations(&name).await.unwrap().len(), 2);

    let history = store.history(&name).await.unwrap();
    let what: Vec<&str> = history.iter().filter_map(|it| it["what"].as_str()).collect();
    assert_eq!(what, ["renewed", "deployed", "renewed", "deployed"]);
    let (account, _key) = store.load_account(&origin.ca).await.unwrap().unwrap();
    assert_eq!(account.directory, origin.directory);
    let state = store.certificate_state(&name).await.unwrap();
    assert_eq!(state.attempted_ca.as_ref(), Some(&origin.ca));
    assert_deployed(&store, &held).await;
    drop(store);

    let documents = documents(&world.state().join("private"));
    let corrupt = documents.iter().find(|it| it.to_string_lossy().contains("corrupt"));
    assert_eq!(corrupt, None, "a document was not understood");
    assert_needs_nothing(world).await;
}

/// It is known that the target serves `held`, and the alert about that waits.
async fn assert_deployed(store: &Store, held: &Held) {
    let target: TargetName = "nginx".parse().unwrap();
    let state = store.target_state(&target, &NAME.parse().unwrap()).await.unwrap();
    let fingerprint = Some(held.fingerprint());
    assert_eq!((state.installed, state.reloaded), (fingerprint, fingerprint));
    assert_eq!(state.served, fingerprint);
    assert!(state.endpoints.iter().all(|it| it.ever_served), "{state:?}");
    assert_eq!(state.endpoints.len(), 2);
    let waiting = String::from_utf8(store.load_alerts().await.unwrap().unwrap()).unwrap();
    assert!(waiting.contains("site was renewed and is valid until"), "{waiting}");
}

/// Neither `status` nor `plan` wants anything of a CA.
async fn assert_needs_nothing(world: &World) {
    let status = world.status().await;
    let certificate = &status["certificates"][0];
    assert_eq!((&certificate["name"], &certificate["condition"]), (&NAME.into(), &"served".into()));
    assert_eq!((&certificate["health"], &certificate["renewal"]), (&"ok".into(), &"idle".into()));
    assert_eq!(certificate["targets"][0]["state"], "served", "{status:#}");
    let (is_fine, plan) = world.renewd(&["plan"]).await;
    assert!(is_fine && plan.starts_with("site: keep until "), "{plan}");
}

#[tokio::test]
async fn all_that_a_released_version_left_is_found_and_nothing_is_ordered_anew() {
    for version in VERSIONS {
        let world = World::of(version);
        // First as it was found, before anything has been written.
        assert_needs_nothing(&world).await;
        assert_whole(&world).await;
    }
}

#[tokio::test]
async fn an_alert_that_waited_is_delivered_by_this_version() {
    for version in VERSIONS {
        let world = World::of(version);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let file = world.folder.path().join("renewd.toml");
        let config = fs::read_to_string(&file).unwrap();
        let config = config.replace("127.0.0.1:1/", &format!("{address}/"));
        // Its nginx is gone, so nobody is asked what is served.
        let config = config.replace("[[certificate]]\n", "[[certificate]]\nverify = false\n");
        write(&file, config.as_bytes());

        let receive = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            let mut buffer = [0; 4096];
            while !text.contains("\"data\"") || !text.ends_with('}') {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "{text}");
                text.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap()));
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            text
        };
        let received = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(receive, world.renewd(&["renew"]))
        });
        let (received, (is_fine, told)) = received.await.unwrap();
        assert!(is_fine, "{told}");
        assert!(received.contains("msg_39afbfe8afef700d71b455434f727d10"), "{received}");
        assert!(received.contains("\"certificate.renewed\""), "{received}");
    }
}

#[tokio::test]
async fn every_folder_in_tests_state_is_a_version_that_is_tested() {
    let entries = fs::read_dir(kept()).unwrap().flatten().map(|it| it.path());
    let mut folders: Vec<String> = entries
        .filter(|it| it.is_dir())
        .filter_map(|it| Some(it.file_name()?.to_str()?.to_owned()))
        .collect();
    folders.sort();
    assert_eq!(folders, VERSIONS);
}

#[tokio::test]
async fn what_the_next_version_adds_is_passed_over() {
    for version in VERSIONS {
        let world = World::of(version);
        let mut seen = 0;
        for path in documents(&world.state()) {
            let text = fs::read_to_string(&path).unwrap();
            let is_lines = path.extension().is_some_and(|it| it == "jsonl");
            let parts: Vec<&str> = if is_lines { text.lines().collect() } else { vec![&text] };
            let mut changed = String::new();
            for part in parts {
                let mut document: Value = serde_json::from_str(part).unwrap();
                let added = serde_json::json!({ "of": ["the", "next", 1] });
                document.as_object_mut().unwrap().insert("added".to_owned(), added);
                changed.push_str(&format!("{document}\n"));
                seen += 1;
            }
            write(&path, changed.as_bytes());
        }
        assert!(seen > 8, "{seen} documents");
        let newer = br#"{"format":2,"min_reader":1,"added":"by the next version"}"#;
        let file = world.state().join("private/version");
        write(&file, newer);
        assert_whole(&world).await;
        assert_eq!(fs::read(&file).unwrap(), newer, "what the newer one said of itself stays");
    }
}

#[tokio::test]
async fn state_that_needs_a_newer_version_is_refused_by_every_command_and_stays_as_it_is() {
    let world = World::of("0.1.0");
    write(&world.state().join("private/version"), br#"{"format":3,"min_reader":2}"#);
    let before = snapshot(&world.state());
    for command in ["renew", "run", "status", "plan", "deploy", "check"] {
        let (is_fine, told) = world.renewd(&[command]).await;
        assert!(!is_fine && told.contains("Code(5)"), "{command}: {told}");
        assert!(told.contains("was written by a newer renewd"), "{command}: {told}");
        assert!(told.contains("hint: install the newer version again"), "{command}: {told}");
    }
    assert_eq!(snapshot(&world.state()), before);
}

/// The path, mode and content of everything below `folder`.
fn snapshot(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        all.push((path.clone(), mode, content));
        if path.is_dir() && !path.is_symlink() {
            all.extend(snapshot(&path));
        }
    }
    all.sort();
    all
}
