//! Private documents as files below one folder: mode 0600, in folders of mode 0700.
//!
//! A revision is the SHA-256 of the content, so that a file changed by hand has another one. A
//! lease is a lock of flock(2), which the system frees when its holder dies, and a fencing number
//! beside it, which holds where the file system of a network ignores such locks.
//!
//! Not here: what is written below `certs/`.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::engine::{Document, Engine, EngineError, Expected, Lease, Revision, Watch};
use super::{Key, blocking, file};
use crate::model::Fingerprint;
use crate::sys::atomic::{self, Access};
use crate::sys::clock::Clock;
use crate::sys::crash;

/// No document of ours is larger, in bytes.
const MAX_DOCUMENT: usize = 32 << 20;

/// How many changes a slow watcher may be behind before it is told that it missed some.
const WATCH_BACKLOG: usize = 256;

/// How often a lock that is taken is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Keeps documents in a folder of this machine.
#[derive(Clone, Debug)]
pub struct DirectoryEngine {
    folder: Arc<Folder>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    changes: broadcast::Sender<Key>,
    /// Between the look at a revision and the write nobody else of this process may write.
    writing: Mutex<()>,
}

/// `locks/<name>.json`: to whom a lease was last given.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    fencing: u64,
    pid: u32,
}

impl DirectoryEngine {
    /// Documents below the folder `root`. Touches nothing.
    #[must_use]
    pub fn new(root: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let (changes, _) = broadcast::channel(WATCH_BACKLOG);
        Self { folder: Arc::new(Folder { root, changes, writing: Mutex::new(()) }), clock }
    }

    async fn run<T, F>(&self, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Folder) -> Result<T, EngineError> + Send + 'static,
    {
        let folder = Arc::clone(&self.folder);
        let finished = blocking(move || work(&folder)).await;
        finished.map_err(medium("work on", &self.folder.root))?
    }
}

#[async_trait]
impl Engine for DirectoryEngine {
    async fn load(&self, key: &Key) -> Result<Option<Document>, EngineError> {
        let key = key.clone();
        self.run(move |folder| folder.load(&key)).await
    }

    async fn save(
        &self,
        key: &Key,
        content: &[u8],
        expected: Expected,
        lease: &Lease,
    ) -> Result<Revision, EngineError> {
        let (key, number) = (key.clone(), (lease.name(), lease.fencing()));
        let content = zeroize::Zeroizing::new(content.to_vec());
        self.run(move |folder| {
            let _writing = folder.writing.lock().unwrap_or_else(PoisonError::into_inner);
            folder.confirm(number)?;
            folder.check(&key, &expected)?;
            folder.save(&key, &content)?;
            Ok(revision(&content))
        })
        .await
    }

    async fn remove(
        &self,
        key: &Key,
        expected: Expected,
        lease: &Lease,
    ) -> Result<(), EngineError> {
        let (key, number) = (key.clone(), (lease.name(), lease.fencing()));
        self.run(move |folder| {
            let _writing = folder.writing.lock().unwrap_or_else(PoisonError::into_inner);
            folder.confirm(number)?;
            folder.check(&key, &expected)?;
            folder.remove(&key)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Key>, EngineError> {
        let prefix = prefix.to_owned();
        self.run(move |folder| folder.list(&prefix)).await
    }

    async fn acquire(&self, name: &'static str, wait: Duration) -> Result<Lease, EngineError> {
        let give_up_at = self.clock.monotonic().saturating_add(wait);
        loop {
            if let Some(lease) = self.run(move |folder| folder.try_acquire(name)).await? {
                return Ok(lease);
            }
            let left = give_up_at.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                let holder = self.run(move |folder| folder.holder(name)).await?;
                return Err(EngineError::Held { name, pid: holder.map(|it| it.pid) });
            }
            self.clock.sleep(left.min(LOCK_INTERVAL)).await;
        }
    }

    async fn confirm(&self, lease: &Lease) -> Result<(), EngineError> {
        let number = (lease.name(), lease.fencing());
        self.run(move |folder| folder.confirm(number)).await
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.folder.changes.subscribe())
    }
}

impl Folder {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn load(&self, key: &Key) -> Result<Option<Document>, EngineError> {
        let path = self.path(key);
        match file::read(&path, MAX_DOCUMENT) {
            Ok(read) => {
                let revision = revision(&read.bytes);
                Ok(Some(Document { content: read.bytes, revision }))
            }
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(medium("load", &path)(error)),
        }
    }

    fn check(&self, key: &Key, expected: &Expected) -> Result<(), EngineError> {
        let holds = match expected {
            Expected::Anything => true,
            Expected::Absent => self.load(key)?.is_none(),
            Expected::Revision(revision) => {
                self.load(key)?.is_some_and(|it| it.revision == *revision)
            }
        };
        if holds { Ok(()) } else { Err(EngineError::Conflict { key: key.to_string() }) }
    }

    fn save(&self, key: &Key, content: &[u8]) -> Result<(), EngineError> {
        let path = self.path(key);
        self.make_folders_of(key).map_err(medium("make the folder of", &path))?;
        atomic::write(&path, content, Access::mode(0o600)).map_err(medium("save", &path))?;
        self.tell(key);
        Ok(())
    }

    fn remove(&self, key: &Key) -> Result<(), EngineError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => {
                crash::point_at("store.removed", &path);
                let folder = path.parent().unwrap_or(&path);
                atomic::flush_directory(folder).map_err(medium("remove", &path))?;
                self.tell(key);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(medium("remove", &path)(error)),
        }
    }

    /// Each folder from the root down to the document gets its mode, not the last one alone.
    fn make_folders_of(&self, key: &Key) -> Result<(), atomic::WriteError> {
        let mut folder = self.root.clone();
        atomic::directory(&folder, Access::mode(0o700))?;
        let Some((above, _)) = key.as_str().rsplit_once('/') else { return Ok(()) };
        for part in above.split('/') {
            folder.push(part);
            atomic::directory(&folder, Access::mode(0o700))?;
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>, EngineError> {
        let mut keys = BTreeSet::new();
        // Nothing above the folder that all of them are in is looked at: there may be thousands.
        let above = prefix.rsplit_once('/').map(|(above, _)| above);
        let above = above.filter(|it| Key::parse(it).is_some()).unwrap_or_default();
        let from = self.root.join(above);
        if from.symlink_metadata().is_ok_and(|it| !it.is_dir()) {
            return Ok(Vec::new());
        }
        let above = if above.is_empty() { String::new() } else { format!("{above}/") };
        let mut pending = vec![(from, above)];
        while let Some((folder, above)) = pending.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(medium("list", &folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(medium("list", &folder))?;
                let name = format!("{above}{}", entry.file_name().to_string_lossy());
                // What has no key of ours for a name is a temporary file, or a stranger's.
                let Some(key) = Key::parse(&name) else { continue };
                let kind = entry.file_type().map_err(medium("list", &folder))?;
                let below = format!("{name}/");
                if kind.is_dir() && (below.starts_with(prefix) || prefix.starts_with(&below)) {
                    pending.push((entry.path(), below));
                } else if kind.is_file() && name.starts_with(prefix) {
                    keys.insert(key);
                }
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// The lease `name` if nobody has it.
    fn try_acquire(&self, name: &'static str) -> Result<Option<Lease>, EngineError> {
        let key = Key::lease(name);
        let path = self.root.join("locks").join(name);
        self.make_folders_of(&key).map_err(medium("make the folder of", &path))?;
        let lock: File = atomic::lock_file(&path).map_err(medium("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(medium("lock", &path)(error)),
        }
        let before = self.holder(name)?.map_or(0, |it| it.fencing);
        let holder = Holder { fencing: before.saturating_add(1), pid: std::process::id() };
        let text = serde_json::to_vec(&holder).map_err(medium("write", &path))?;
        self.save(&key, &text)?;
        Ok(Some(Lease::new(name, holder.fencing, Some(lock))))
    }

    /// To whom the lease `name` was last given; `None` also if that can't be understood.
    fn holder(&self, name: &'static str) -> Result<Option<Holder>, EngineError> {
        let document = self.load(&Key::lease(name))?;
        Ok(document.and_then(|it| serde_json::from_slice(&it.content).ok()))
    }

    fn confirm(&self, (name, fencing): (&'static str, u64)) -> Result<(), EngineError> {
        match self.holder(name)? {
            Some(holder) if holder.fencing != fencing => Err(EngineError::Fenced { fencing }),
            _ => Ok(()),
        }
    }

    /// Nobody may be listening, which is no fault.
    fn tell(&self, key: &Key) {
        drop(self.changes.send(key.clone()));
    }
}

fn revision(content: &[u8]) -> Revision {
    Revision::new(Fingerprint::of(content).to_string())
}

/// Wraps what the medium said.
fn medium<E>(action: &'static str, path: &Path) -> impl FnOnce(E) -> EngineError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let place = path.display().to_string();
    move |source| EngineError::Medium { action, place, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Change;
    use super::*;
    use crate::sys::clock::SystemClock;

    const NO_WAIT: Duration = Duration::ZERO;

    struct World {
        folder: tempfile::TempDir,
        engine: DirectoryEngine,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(&folder.path().join("private"));
        World { folder, engine }
    }

    fn engine(root: &Path) -> DirectoryEngine {
        DirectoryEngine::new(root.to_owned(), Arc::new(SystemClock::new()))
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_document_is_changed_only_from_the_revision_that_was_expected() {
        let World { engine, folder: _folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        let key = key("certificates/a/state.json");
        let save =
            async |content: &[u8], expected| engine.save(&key, content, expected, &lease).await;

        let first = save(b"1", Expected::Absent).await.unwrap();
        assert!(matches!(save(b"2", Expected::Absent).await, Err(EngineError::Conflict { .. })));
        let second = save(b"2", Expected::Revision(first.clone())).await.unwrap();
        let late = save(b"3", Expected::Revision(first)).await;
        assert!(matches!(late, Err(EngineError::Conflict { .. })));
        let loaded = engine.load(&key).await.unwrap().unwrap();
        assert_eq!((loaded.content.as_slice(), &loaded.revision), (&b"2"[..], &second));
        engine.remove(&key, Expected::Revision(second), &lease).await.unwrap();
        assert!(engine.load(&key).await.unwrap().is_none());
        engine.remove(&key, Expected::Anything, &lease).await.unwrap();
    }

    #[tokio::test]
    async fn every_folder_is_ours_alone_and_so_is_every_file() {
        let World { engine, folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        engine.save(&key("a/b/c.json"), b"{}", Expected::Anything, &lease).await.unwrap();
        let mode = |path: &str| {
            let path = folder.path().join("private").join(path);
            path.metadata().unwrap().permissions().mode() & 0o7777
        };
        for path in ["", "a", "a/b", "locks"] {
            assert_eq!(mode(path), 0o700, "{path}");
        }
        for path in ["a/b/c.json", "locks/state", "locks/state.json"] {
            assert_eq!(mode(path), 0o600, "{path}");
        }
    }

    #[tokio::test]
    async fn keys_are_listed_by_prefix_without_what_is_not_ours() {
        let World { engine, folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        for text in ["accounts/b/key.pem", "accounts/a/key.pem", "accountsx", "version"] {
            engine.save(&key(text), b"x", Expected::Anything, &lease).await.unwrap();
        }
        let stranger = folder.path().join("private/accounts/.renewd-x");
        atomic::write(&stranger, b"", Access::mode(0o600)).unwrap();
        let listed = async |prefix: &str| engine.list(prefix).await.unwrap();
        assert_eq!(
            listed("accounts/").await,
            [key("accounts/a/key.pem"), key("accounts/b/key.pem")]
        );
        assert_eq!(listed("accounts/a/k").await, [key("accounts/a/key.pem")]);
        assert_eq!(listed("accounts").await.len(), 3);
        assert!(listed("none/").await.is_empty());
    }

    /// S05: clocks that differ among those who share.
    #[tokio::test]
    async fn a_lease_has_one_holder_and_each_holder_a_higher_number() {
        let World { engine, folder } = world();
        let first = engine.acquire("state", NO_WAIT).await.unwrap();
        let other = self::engine(&folder.path().join("private"));
        let refused = other.acquire("state", NO_WAIT).await.unwrap_err();
        let us = std::process::id();
        assert!(matches!(refused, EngineError::Held { pid: Some(pid), .. } if pid == us));
        let before = first.fencing();
        drop(first);
        // A program that another test starts just now may hold the lock for a moment.
        let next = other.acquire("state", Duration::from_secs(20)).await.unwrap();
        assert!(next.fencing() > before);
    }

    #[tokio::test]
    async fn who_lost_the_lease_writes_nothing_even_if_the_lock_did_not_tell() {
        let World { engine, folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        // As on a network's file system that ignores locks: the next one got a number too.
        let taken_over = br#"{"fencing":99,"pid":1}"#;
        let path = folder.path().join("private/locks/state.json");
        atomic::write(&path, taken_over, Access::mode(0o600)).unwrap();

        let saved = engine.save(&key("a"), b"x", Expected::Anything, &lease).await;
        assert!(matches!(saved, Err(EngineError::Fenced { .. })));
        let removed = engine.remove(&key("a"), Expected::Anything, &lease).await;
        assert!(matches!(removed, Err(EngineError::Fenced { .. })));
        assert!(engine.confirm(&lease).await.is_err());
        assert!(engine.load(&key("a")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_watcher_hears_of_its_prefix_and_is_told_when_it_missed_something() {
        let World { engine, folder: _folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        let mut watch = engine.watch("b/");
        for text in ["a/1", "b/2"] {
            engine.save(&key(text), b"x", Expected::Anything, &lease).await.unwrap();
        }
        assert_eq!(watch.next().await, Some(Change::Document(key("b/2"))));
        for _ in 0..=WATCH_BACKLOG {
            engine.folder.tell(&key("b/2"));
        }
        assert_eq!(watch.next().await, Some(Change::Missed));
    }

    #[tokio::test]
    async fn what_a_document_holds_is_never_printed() {
        let World { engine, folder: _folder } = world();
        let lease = engine.acquire("state", NO_WAIT).await.unwrap();
        engine.save(&key("a"), b"canary", Expected::Anything, &lease).await.unwrap();
        let printed = format!("{:?} {engine:?}", engine.load(&key("a")).await.unwrap());
        assert!(!printed.contains("canary") && !printed.contains("99, 97, 110"), "{printed}");
    }
}
