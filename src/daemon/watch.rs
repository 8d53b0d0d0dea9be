//! Sees that files change: those of the configuration, and those that servers read.
//!
//! Folders are watched, never files: a watch on a file dies with the first atomic replacement, and
//! a ConfigMap's file is never named in an event at all. An event only says that it is worth
//! looking: the configuration counts as changed when a hash of all its files has changed and then
//! stayed the same for the quiet time, so that a tool that writes file by file causes one reload.
//! Where watching is not possible (limits, network file systems) a slow poll takes its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::assemble::Base;
use crate::config::{self, Config};
use crate::model::{CertificateName, Event, Failure, Fingerprint, Timestamp};
use crate::sys::clock::Clock;

/// No change for this long ends a series of changes.
const QUIET: Duration = Duration::from_millis(500);
/// Without any event the files are looked at this often.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Files of the configuration.
    Config,
    /// Files of these certificates.
    Certificates(Vec<CertificateName>),
}

/// Files that were read, and what they were then.
type Read = (Vec<PathBuf>, Fingerprint);

/// Watches until it is dropped.
pub(super) struct Watch {
    files: channel::Sender<Read>,
    changed: mpsc::Receiver<Changed>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    /// Watches the files of `config` and the certificates in its store.
    pub(super) fn start(base: &Base, config: &Config) -> Self {
        let (files, followed) = channel::channel((config.files.clone(), config.seen));
        let (sender, changed) = mpsc::channel(16);
        // Both begin here and not in their tasks: what changes from now on is seen. So is what has
        // changed since the configuration was read, which may be a while ago: the store may have
        // been another process's until now.
        let first = Followed::begin(config.files.clone(), config.seen);
        let configuration =
            tokio::spawn(watch_config(first, followed, sender.clone(), base.clock.clone()));
        let touched = Touched::begin(&config.store.certs_dir());
        if touched.is_none() {
            base.observer.observe(&Event::Degraded { failure: unwatched(base.clock.now()) });
        }
        let live = tokio::spawn(watch_certificates(touched, sender));
        Self { files, changed, tasks: [configuration, live] }
    }

    /// From now on the files of `config` are those to be watched.
    pub(super) fn follow(&self, config: &Config) {
        self.files.send_replace((config.files.clone(), config.seen));
    }

    /// Waits for the next change.
    pub(super) async fn changed(&mut self) -> Option<Changed> {
        self.changed.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn unwatched(at: Timestamp) -> Failure {
    Failure {
        at,
        code: "agent.degraded".to_owned(),
        message: "certificates can't be watched: what somebody does to them is found by the \
                  regular looks alone"
            .to_owned(),
        hint: Some("raise fs.inotify.max_user_watches".to_owned()),
    }
}

/// Files that are watched, and what they were when last looked at.
struct Followed {
    files: Vec<PathBuf>,
    known: Fingerprint,
    pokes: mpsc::Receiver<()>,
    // Dropping it ends the watch; without one the poll is left.
    _watcher: Option<RecommendedWatcher>,
    // Without this a lost watcher would be a closed channel, and no poll.
    _poke: mpsc::Sender<()>,
}

impl Followed {
    /// Watches `files` from now on, in which `known` was seen.
    fn begin(files: Vec<PathBuf>, known: Fingerprint) -> Self {
        let (poke, pokes) = mpsc::channel(1);
        let watcher = watcher(&folders(&files), poke.clone());
        Self { files, known, pokes, _watcher: watcher, _poke: poke }
    }

    /// Waits until the files may have changed.
    async fn poked(&mut self) {
        drop(timeout(POLL_INTERVAL, self.pokes.recv()).await);
    }

    /// Whether the files have changed; then once they have come to rest.
    async fn has_changed(&mut self, clock: &dyn Clock) -> bool {
        let mut now = hash(&self.files).await;
        if now == self.known {
            return false;
        }
        loop {
            clock.sleep(QUIET).await;
            let later = hash(&self.files).await;
            if later == now {
                break;
            }
            now = later;
        }
        self.known = now;
        true
    }
}

async fn watch_config(
    mut followed: Followed,
    mut files: channel::Receiver<Read>,
    changed: mpsc::Sender<Changed>,
    clock: Arc<dyn Clock>,
) {
    loop {
        if followed.has_changed(&*clock).await && changed.send(Changed::Config).await.is_err() {
            return;
        }
        tokio::select! {
            result = files.changed() => {
                if result.is_err() {
                    return;
                }
                let (wanted, seen) = files.borrow_and_update().clone();
                // They may have changed since they were read. Of the same files more may be known.
                let known = if wanted == followed.files { followed.known } else { seen };
                let begun = tokio::task::spawn_blocking(move || Followed::begin(wanted, known));
                followed = match begun.await {
                    Ok(followed) => followed,
                    Err(_ended) => return,
                };
            }
            () = followed.poked() => {}
        }
    }
}

/// The folders in which a change of `files` shows: those that hold them, and those that hold what
/// they point to.
fn folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for file in files {
        if file.is_dir() {
            folders.insert(file.clone());
        }
        folders.extend(file.parent().map(Path::to_owned));
        if let Ok(real) = file.canonicalize() {
            folders.extend(real.parent().map(Path::to_owned));
        }
    }
    folders
}

/// A watcher on `folders` that pokes; `None` where the system has no watch left.
fn watcher(folders: &BTreeSet<PathBuf>, poke: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |it| tells(it.kind)) {
            // One that waits already is as good as two.
            poke.try_send(()).unwrap_or_default();
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).ok()?;
    for folder in folders {
        // A folder that can't be watched is polled.
        drop(watcher.watch(folder, RecursiveMode::NonRecursive));
    }
    Some(watcher)
}

/// Whether an event can mean a change. Reading a file is an event too, and our own reading would
/// wake us for ever.
const fn tells(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// As [`config::digest()`], off the async threads.
async fn hash(files: &[PathBuf]) -> Fingerprint {
    let files = files.to_owned();
    let hashing = tokio::task::spawn_blocking(move || config::digest(&files));
    hashing.await.unwrap_or_else(|_ended| Fingerprint::of(b""))
}

/// Certificates whose files somebody touches, while this is kept.
struct Touched {
    names: mpsc::Receiver<CertificateName>,
    _watcher: RecommendedWatcher,
}

impl Touched {
    /// Watches everything below `certs_dir`; `None` where the system has no watch left.
    fn begin(certs_dir: &Path) -> Option<Self> {
        let (touched, names) = mpsc::channel(1024);
        let root = certs_dir.to_owned();
        let on_event = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !tells(event.kind) {
                return;
            }
            for name in event.paths.iter().filter_map(|it| certificate(&root, it)) {
                // What is lost here is found by the next regular look.
                drop(touched.try_send(name));
            }
        };
        let mut watcher = notify::recommended_watcher(on_event).ok()?;
        watcher.watch(certs_dir, RecursiveMode::Recursive).ok()?;
        Some(Self { names, _watcher: watcher })
    }
}

/// Tells of certificates whose files somebody touched. Our own writes are among them: the look that
/// follows finds everything in order, and ends there.
async fn watch_certificates(touched: Option<Touched>, changed: mpsc::Sender<Changed>) {
    let Some(mut touched) = touched else { return };
    while let Some(first) = touched.names.recv().await {
        let mut all = BTreeSet::from([first]);
        while let Ok(Some(next)) = timeout(QUIET, touched.names.recv()).await {
            all.insert(next);
            if all.len() > 1000 {
                break;
            }
        }
        if changed.send(Changed::Certificates(all.into_iter().collect())).await.is_err() {
            return;
        }
    }
}

fn certificate(root: &Path, path: &Path) -> Option<CertificateName> {
    let inside = path.strip_prefix(root).ok()?;
    inside.components().next()?.as_os_str().to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::atomic::{self, Access};
    use crate::sys::clock::SystemClock;

    const LIMIT: Duration = Duration::from_secs(60);

    fn write(path: &Path, text: &str) {
        atomic::write(path, text.as_bytes(), Access::mode(0o600)).unwrap();
    }

    /// A watch on `files`; what changes from now on is seen.
    fn watching(files: Vec<PathBuf>) -> (channel::Sender<Read>, mpsc::Receiver<Changed>) {
        let known = config::digest(&files);
        following(files, known)
    }

    /// A watch on `files`, in which `known` was seen.
    fn following(
        files: Vec<PathBuf>,
        known: Fingerprint,
    ) -> (channel::Sender<Read>, mpsc::Receiver<Changed>) {
        let first = Followed::begin(files.clone(), known);
        let (sender, followed) = channel::channel((files, known));
        let (changes, changed) = mpsc::channel(16);
        tokio::spawn(watch_config(first, followed, changes, Arc::new(SystemClock::new())));
        (sender, changed)
    }

    async fn next(changed: &mut mpsc::Receiver<Changed>) -> Option<Changed> {
        timeout(LIMIT, changed.recv()).await.unwrap()
    }

    #[tokio::test]
    async fn many_writes_are_one_change_and_the_same_content_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        write(&file, "a");
        let (_files, mut changed) = watching(vec![file.clone()]);
        for round in 0..5 {
            write(&file, &format!("b{round}"));
        }
        assert_eq!(next(&mut changed).await, Some(Changed::Config));
        write(&file, "b4");
        let quiet = timeout(QUIET * 4, changed.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }

    #[tokio::test]
    async fn a_config_map_that_is_swapped_by_its_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "a"), ("v2", "b")] {
            atomic::directory(&folder.path().join(version), Access::mode(0o700)).unwrap();
            write(&folder.path().join(version).join("renewd.toml"), text);
        }
        atomic::link(&folder.path().join("..data"), Path::new("v1")).unwrap();
        let file = folder.path().join("renewd.toml");
        symlink("..data/renewd.toml", &file).unwrap();
        let (_files, mut changed) = watching(vec![file]);
        atomic::link(&folder.path().join("..data"), Path::new("v2")).unwrap();
        assert_eq!(next(&mut changed).await, Some(Changed::Config));
    }

    #[tokio::test]
    async fn a_new_file_in_an_included_folder_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let included = folder.path().join("conf.d");
        atomic::directory(&included, Access::mode(0o700)).unwrap();
        let (_files, mut changed) = watching(vec![included.clone()]);
        write(&included.join("new.toml"), "x");
        assert_eq!(next(&mut changed).await, Some(Changed::Config));
    }

    #[tokio::test]
    async fn what_changed_before_the_watch_began_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        write(&file, "as it was read");
        let read = config::digest(std::slice::from_ref(&file));
        write(&file, "as it is now");
        let (_files, mut changed) = following(vec![file], read);
        // Long before the poll.
        let found = timeout(POLL_INTERVAL / 2, changed.recv()).await.unwrap();
        assert_eq!(found, Some(Changed::Config));
    }

    #[tokio::test]
    async fn what_changed_after_it_was_read_and_before_it_is_followed_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one.toml", "two.toml"].map(|it| folder.path().join(it));
        write(&one, "1");
        write(&two, "as it was read");
        let (files, mut changed) = watching(vec![one.clone()]);
        let both = vec![one, two.clone()];
        let read = config::digest(&both);
        write(&two, "as it is now");
        files.send_replace((both, read));
        let found = timeout(POLL_INTERVAL / 2, changed.recv()).await.unwrap();
        assert_eq!(found, Some(Changed::Config));
    }

    #[tokio::test]
    async fn a_touched_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let generation = folder.path().join("example.com/0001");
        atomic::directory(&generation, Access::mode(0o700)).unwrap();
        let (changes, mut changed) = mpsc::channel(16);
        tokio::spawn(watch_certificates(Touched::begin(folder.path()), changes));
        write(&generation.join("fullchain.pem"), "x");
        let expected = Changed::Certificates(vec!["example.com".parse().unwrap()]);
        assert_eq!(next(&mut changed).await, Some(expected));
    }
}
