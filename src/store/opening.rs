//! The store as a whole: opening it, and being its only writer.
//!
//! # Rules
//!
//! 1. Nothing but folders is made before the lease `state` is held.
//! 2. A state directory whose version asks for a newer reader is refused before anything in it is
//!    touched, also for looking; any other is taken, so that a version can be put back. What a
//!    newer version said of itself stays.
//! 3. What a crash left is swept by whoever opens the store to write, in `run_dir` but by a guest:
//!    a daemon may be writing its status file there.
//!
//! Not here: what is kept ([`super::certificates`], [`super::documents`], [`super::accounts`],
//! [`super::orders`], [`super::ports`]).

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lineage::Lineage;
use super::{
    DirectoryEngine, Engine, EngineError, Expected, Key, Lease, OpenError, StoreSettings, blocking,
};
use crate::model::{CertificateName, StorageError, Timestamp};
use crate::sys::atomic::{self, Access};
use crate::sys::clock::{Clock, SystemClock};

/// The form in which this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The oldest reader that understands what this version writes.
const MIN_READER: u32 = 1;

/// The document that says so is no larger.
const MAX_VERSION_BYTES: usize = 64 * 1024;

/// The lease of the one writer.
const STATE: &str = "state";

/// The folders below `private/`.
const PRIVATE: [&str; 8] =
    ["accounts", "alerts", "ca", "certificates", "challenges", "dns", "ledger", "targets"];

/// `private/version`. A newer version may leave out or add what it likes, but not `min_reader`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    format: u32,
    #[serde(default)]
    min_reader: u32,
}

/// Everything below one state directory. As long as one that writes exists, no other process has
/// one. Shared in an [`Arc`].
#[derive(Debug)]
pub struct Store {
    pub(super) settings: StoreSettings,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) clock: Arc<dyn Clock>,
    /// `None` where the store was opened for reading.
    pub(super) lease: Option<Arc<Lease>>,
    /// Held while files below `certs/` are changed.
    pub(super) writing: Arc<Mutex<()>>,
    /// Held while it is looked at and changed what is to be revoked.
    pub(super) revoking: tokio::sync::Mutex<()>,
}

impl Store {
    /// Opens the state directory to write: makes its folders, becomes its only writer, and sweeps
    /// what a crash left. Waits up to `wait` for another process to end.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if another process holds it, a newer version wrote it, or it can't be used.
    pub async fn open(
        settings: &StoreSettings,
        clock: Arc<dyn Clock>,
        wait: Duration,
    ) -> Result<Self, OpenError> {
        let store = Self::open_as_guest(settings, clock, wait).await?;
        let (run_dir, now) = (settings.run_dir.clone(), store.clock.now());
        // Only what lies in it: the status file, and what it was to become.
        let swept = blocking(move || atomic::sweep(&run_dir, Duration::ZERO, now)).await;
        swept.map_err(|it| OpenError::Unusable {
            state_dir: settings.state_dir.clone(),
            source: it.into(),
        })?;
        Ok(store)
    }

    /// As [`Store::open`], where `run_dir` is that of another store, whose writer may be at work in
    /// it: what lies there stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub async fn open_as_guest(
        settings: &StoreSettings,
        clock: Arc<dyn Clock>,
        wait: Duration,
    ) -> Result<Self, OpenError> {
        Self::check_readable(settings)?;
        let (state_dir, private) = (settings.state_dir.clone(), settings.private_dir());
        let unusable = |source: Box<dyn Error + Send + Sync>| OpenError::Unusable {
            state_dir: settings.state_dir.clone(),
            source,
        };

        let made = blocking(move || {
            atomic::directory(&state_dir, Access::mode(0o711))?;
            atomic::directory(&private, Access::mode(0o700))
        });
        made.await.map_err(|it| unusable(it.into()))?.map_err(|it| unusable(it.into()))?;
        let engine = Arc::new(DirectoryEngine::new(settings.private_dir(), Arc::clone(&clock)));
        let lease = engine.acquire(STATE, wait).await.map_err(|error| match error {
            EngineError::Held { pid, .. } => {
                OpenError::Held { state_dir: settings.state_dir.clone(), pid }
            }
            error => unusable(error.into()),
        })?;
        let store = Self {
            settings: settings.clone(),
            engine,
            clock,
            lease: Some(Arc::new(lease)),
            writing: Arc::default(),
            revoking: tokio::sync::Mutex::default(),
        };
        store.check_version().await?;
        let (settings, now) = (settings.clone(), store.clock.now());
        let prepared = blocking(move || prepare(&settings, now)).await;
        prepared.map_err(|it| unusable(it.into()))?.map_err(|it| unusable(it.into()))?;
        Ok(store)
    }

    /// Opens the state directory to look at it beside whoever writes. Touches nothing; whatever
    /// would write fails with [`super::ReadOnlyError`].
    #[must_use]
    pub fn open_read_only(settings: &StoreSettings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let engine = DirectoryEngine::new(settings.private_dir(), Arc::clone(&clock));
        Self {
            settings: settings.clone(),
            engine: Arc::new(engine),
            clock,
            lease: None,
            writing: Arc::default(),
            revoking: tokio::sync::Mutex::default(),
        }
    }

    /// Whether this version understands what lies in the state directory. Touches nothing; where
    /// there is nothing, or nothing that may be read, there is nothing to be misread.
    ///
    /// # Errors
    ///
    /// [`OpenError::TooNew`] if a newer version wrote it in a form that this one can't read.
    pub fn check_readable(settings: &StoreSettings) -> Result<(), OpenError> {
        let path = settings.private_dir().join(Key::version().as_str());
        let Ok(found) = super::file::read(&path, MAX_VERSION_BYTES) else { return Ok(()) };
        match serde_json::from_slice(&found.bytes) {
            Ok(Version { min_reader, .. }) if min_reader > FORMAT => {
                Err(OpenError::TooNew { state_dir: settings.state_dir.clone(), min_reader })
            }
            _ => Ok(()),
        }
    }

    /// Where it lies.
    #[must_use]
    pub const fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// The documents, for what keeps its own: to watch them, or to hold a lease.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// The folder of the certificate `name`; stable, the unit to mount into a container.
    #[must_use]
    pub fn certificate_dir(&self, name: &CertificateName) -> PathBuf {
        self.settings.certs_dir().join(name.as_str())
    }

    pub(super) fn lineage(&self, name: &CertificateName) -> Lineage {
        Lineage::new(self.certificate_dir(name))
    }

    /// The right to write.
    pub(super) fn lease(&self, place: &dyn std::fmt::Display) -> Result<&Arc<Lease>, StorageError> {
        self.lease.as_ref().ok_or_else(|| StorageError {
            action: "write",
            place: place.to_string(),
            source: super::ReadOnlyError.into(),
        })
    }

    async fn check_version(&self) -> Result<(), OpenError> {
        let state_dir = || self.settings.state_dir.clone();
        let unusable = |source| OpenError::Unusable { state_dir: state_dir(), source };

        let key = Key::version();
        let document = self.engine.load(&key).await.map_err(|it| unusable(it.into()))?;
        let found = document.as_ref().map(|it| serde_json::from_slice::<Version>(&it.content));
        if let Some(Err(error)) = &found {
            self.quarantine(&key, error).await.map_err(|it| unusable(it.into()))?;
        }
        match found.and_then(Result::ok) {
            Some(Version { min_reader, .. }) if min_reader > FORMAT => {
                Err(OpenError::TooNew { state_dir: state_dir(), min_reader })
            }
            Some(Version { format, .. }) if format >= FORMAT => Ok(()),
            _ => {
                let ours = Version { format: FORMAT, min_reader: MIN_READER };
                let text = serde_json::to_vec(&ours).map_err(|it| unusable(it.into()))?;
                let lease = self.lease(&key).map_err(|it| unusable(it.into()))?;
                let saved = self.engine.save(&key, &text, Expected::Anything, lease).await;
                saved.map(drop).map_err(|it| unusable(it.into()))
            }
        }
    }
}

/// Makes the folders and sweeps what a crash left.
fn prepare(settings: &StoreSettings, now: Timestamp) -> Result<(), atomic::WriteError> {
    let (certs, private) = (settings.certs_dir(), settings.private_dir());
    atomic::directory(&certs, Access::mode(0o711))?;
    for folder in PRIVATE {
        atomic::directory(&private.join(folder), Access::mode(0o700))?;
    }
    atomic::sweep(&certs, Duration::ZERO, now);
    for folder in folders_in(&certs) {
        Lineage::new(folder).sweep(now);
    }
    let mut pending = vec![private];
    while let Some(folder) = pending.pop() {
        atomic::sweep(&folder, Duration::ZERO, now);
        pending.extend(folders_in(&folder));
    }
    Ok(())
}

/// The folders in `folder`, through no link.
pub(super) fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_folder = |it: &fs::DirEntry| it.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_folder).map(|it| it.path()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::Explain;

    /// A store in a folder that goes away with it.
    pub(in crate::store) struct World {
        pub(in crate::store) store: Store,
        pub(in crate::store) folder: tempfile::TempDir,
    }

    impl World {
        pub(in crate::store) async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path(), Duration::ZERO).await.unwrap();
            Self { store, folder }
        }

        pub(in crate::store) fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        /// Ends the store and opens it anew, as after a crash.
        pub(in crate::store) async fn reopened(self) -> Self {
            let Self { store, folder } = self;
            drop(store);
            // A program that another test starts just now may hold its lock for a moment.
            let store = open(folder.path(), Duration::from_secs(20)).await.unwrap();
            Self { store, folder }
        }
    }

    fn settings(state_dir: &Path) -> StoreSettings {
        StoreSettings { state_dir: state_dir.to_owned(), run_dir: state_dir.join("run") }
    }

    async fn open(state_dir: &Path, wait: Duration) -> Result<Store, OpenError> {
        Store::open(&settings(state_dir), Arc::new(SystemClock::new()), wait).await
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn opening_makes_the_folders_with_their_rights() {
        let world = World::new().await;
        assert_eq!(mode(world.folder.path()), 0o711);
        assert_eq!(mode(&world.path("certs")), 0o711);
        for folder in ["", "accounts", "alerts", "certificates", "ledger", "locks", "targets"] {
            assert_eq!(mode(&world.path("private").join(folder)), 0o700, "{folder}");
        }
        assert_eq!(mode(&world.path("private/version")), 0o600);
        assert_eq!(mode(&world.path("private/locks/state")), 0o600);
    }

    #[tokio::test]
    async fn the_second_to_open_waits_and_then_says_who_is_in_the_way() {
        let world = World::new().await;
        let error = open(world.folder.path(), Duration::from_millis(120)).await.unwrap_err();
        let us = std::process::id();
        assert!(matches!(error, OpenError::Held { pid: Some(pid), .. } if pid == us), "{error}");
        assert_eq!(error.code(), "store.held");
    }

    #[tokio::test]
    async fn the_second_to_open_gets_in_as_soon_as_the_first_is_gone() {
        let world = World::new().await;
        let path = world.folder.path().to_owned();
        let mut second = tokio::spawn(async move { open(&path, Duration::from_secs(60)).await });
        let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
        assert!(early.is_err(), "it did not wait: {early:?}");
        drop(world.store);
        let opened = tokio::time::timeout(Duration::from_secs(30), second).await;
        opened.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_reader_needs_no_lock_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().join("none");
        let store = Store::open_read_only(&settings(&state_dir));
        let name: CertificateName = "example.com".parse().unwrap();
        assert_eq!(store.held(&name).await.unwrap(), None);
        assert_eq!(store.certificate_state(&name).await.unwrap(), Default::default());
        let error = store.save_certificate_state(&name, &Default::default()).await.unwrap_err();
        assert!(error.source.is::<super::super::ReadOnlyError>(), "{error:?}");
        assert!(!state_dir.exists());
    }

    #[tokio::test]
    async fn only_a_version_that_asks_for_a_newer_reader_is_refused() {
        let world = World::new().await;
        let version = world.path("private/version");
        for (text, kept) in [
            (r#"{"format":9,"min_reader":1,"more":true}"#, true),
            ("", false),
            ("garbage", false),
            ("1", false),
        ] {
            atomic::write(&version, text.as_bytes(), Access::mode(0o600)).unwrap();
            world.store.check_version().await.unwrap();
            assert_eq!(fs::read_to_string(&version).unwrap() == text, kept, "{text}");
        }
        for newer in [r#"{"format":9,"min_reader":2}"#, r#"{"min_reader":2,"form":"other"}"#] {
            atomic::write(&version, newer.as_bytes(), Access::mode(0o600)).unwrap();
            let error = world.store.check_version().await.unwrap_err();
            assert!(matches!(error, OpenError::TooNew { min_reader: 2, .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn what_a_newer_version_wrote_is_refused_untouched() {
        let World { store, folder } = World::new().await;
        drop(store);
        let version = folder.path().join("private/version");
        atomic::write(&version, br#"{"format":9,"min_reader":2}"#, Access::mode(0o600)).unwrap();
        let lease = folder.path().join("private/locks/state.json");
        let left = folder.path().join("private/alerts/.renewd-left");
        atomic::write(&left, b"", Access::mode(0o600)).unwrap();
        let ledger = folder.path().join("private/ledger");
        fs::remove_dir(&ledger).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let before = fs::read(&lease).unwrap();

        let error = open(folder.path(), Duration::ZERO).await.unwrap_err();
        assert_eq!(
            (error.code(), error.retry()),
            ("store.too_new", crate::model::Retry::AfterChange)
        );
        assert_eq!(fs::read(&lease).unwrap(), before);
        assert!(left.exists() && !ledger.exists());
        assert_eq!(mode(folder.path()), 0o755);
        assert!(Store::check_readable(&settings(folder.path())).is_err());
    }

    #[tokio::test]
    async fn what_a_crash_left_is_swept_and_nothing_else() {
        let world = World::new().await;
        let at = |path: &str| world.path(path);
        let left = [
            "certs/a/.renewd-half/fullchain.pem",
            "certs/a/.renewd-link",
            "private/certificates/a/.renewd-x",
        ];
        let kept = ["certs/a/0001/fullchain.pem", "certs/a/notes", "private/certificates/a/x"];
        for path in left.iter().chain(&kept) {
            let path = at(path);
            atomic::directory(path.parent().unwrap(), Access::mode(0o700)).unwrap();
            atomic::write(&path, b"", Access::mode(0o600)).unwrap();
        }
        let world = world.reopened().await;
        for path in left {
            assert!(!world.path(path).exists(), "{path}");
        }
        assert!(!world.path("certs/a/.renewd-half").exists());
        for path in kept {
            assert!(world.path(path).exists(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_status_file_that_was_being_written_goes_at_once_and_a_guest_leaves_it() {
        let world = World::new().await;
        let written = world.path("run/.renewd-status");
        atomic::directory(&world.path("run"), Access::mode(0o755)).unwrap();
        atomic::write(&written, b"{", Access::mode(0o600)).unwrap();
        let own =
            StoreSettings { state_dir: world.path("dry-run"), ..world.store.settings.clone() };
        let clock = Arc::new(SystemClock::new());
        drop(Store::open_as_guest(&own, clock, Duration::ZERO).await.unwrap());
        assert!(written.exists(), "it may be that of a daemon");
        let world = world.reopened().await;
        assert!(!world.path("run/.renewd-status").exists());
    }

    #[tokio::test]
    async fn a_state_directory_that_can_not_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        atomic::write(&file, b"", Access::mode(0o600)).unwrap();
        let error = open(&file.join("state"), Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
