//! `renewd deployer`: the process that installs files and reloads servers as root, for the daemon.
//!
//! What it does is in the configuration and nowhere else; so nobody but root may be able to change
//! that, which is looked at for each request. A configuration that is faulty, or that others could
//! have written, serves nobody until it is put right.
//!
//! Not here: what is said on the socket, and what is done ([`crate::deploy`]).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixListener;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::config::{self, Config, Environment};
use crate::deploy::{Authority, Client, Complaint, DeployServer, Deployer, DirectDeployer};
use crate::model::{Explain, Fingerprint, chain_text};
use crate::sys::activation::Sockets;
use crate::sys::atomic::Access;
use crate::sys::clock::SystemClock;
use crate::sys::signals::{Signal, Signals};
use crate::sys::socket::{self, Bound};
use crate::sys::trust::{self, DistrustError};
use crate::sys::user;

use super::arguments::{DeployerArguments, Global};
use super::context::Ended;
use super::exit::Exit;
use super::output;

/// What the socket unit calls its socket.
const SOCKET_NAME: &str = "deployer";
/// How long a deployer that systemd started goes on without a connection: it is started again.
const IDLE: Duration = Duration::from_secs(60);

/// Serves until it is told to end, or, where systemd started it, until nobody asks any more.
pub(super) async fn deployer(
    global: &Global,
    arguments: &DeployerArguments,
    sockets: &Sockets,
) -> Result<Exit, Ended> {
    let mut signals = Signals::listen().map_err(|error| {
        output::problem(&format!("cannot listen for signals: {error}"), None);
        Ended(Exit::Failed)
    })?;
    let user = user::user_id(&arguments.user).map_err(|error| {
        output::problem(&chain_text(&error), error.hint().as_deref());
        Ended(Exit::Usage)
    })?;
    let previous_dir = prepare_state(&arguments.state_dir)?;
    let config_file = std::path::absolute(&global.config).unwrap_or_else(|_| global.config.clone());
    let configured =
        Arc::new(Configured { config_file, previous_dir, user, in_force: Mutex::new(None) });
    let handed = sockets.unix(SOCKET_NAME).map_err(|error| {
        output::problem(&chain_text(&error), None);
        Ended(Exit::State)
    })?;
    let (listener, idle, _bound) = match handed.into_iter().next() {
        Some(listener) => {
            let listener = UnixListener::from_std(listener).map_err(|error| {
                output::problem(&format!("cannot use the socket of systemd: {error}"), None);
                Ended(Exit::State)
            })?;
            // What is wrong with the configuration is told to whoever asks: to fail here would
            // have systemd give up the socket.
            (listener, Some(IDLE), None)
        }
        None => {
            let (listener, bound) = configured.bind().await?;
            (listener, None, Some(bound))
        }
    };
    let end = async {
        tokio::select! {
            // The configuration is read anew for each request as it is.
            () = async { while signals.next().await == Signal::Reload {} } => {}
            () = input_end(), if arguments.until_input_ends => {}
        }
    };
    let mut end = std::pin::pin!(end);
    // Repairs what an earlier one left, before anybody asks.
    let repaired = tokio::select! {
        repaired = configured.current() => repaired,
        () = &mut end => return Ok(Exit::AsWanted),
    };
    if let Err(error) = repaired {
        tracing::warn!(
            error = chain_text(&error),
            "what an earlier deployer left is not looked at"
        );
    }
    tracing::info!(user, "the deployer takes requests");
    let clock = Arc::new(SystemClock::new());
    DeployServer { listener, user, authority: configured, idle, clock }.serve(end).await;
    Ok(Exit::AsWanted)
}

/// Waits until whoever holds the other end of our standard input has closed it, or is gone.
async fn input_end() {
    let reading = spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
    drop(reading.await);
}

/// The folder for earlier files, below `state_dir`, which nobody else can get at.
fn prepare_state(state_dir: &Path) -> Result<PathBuf, Ended> {
    let hint = "the folder is to be root's alone: StateDirectory=renewd-deployer in the unit, or \
                --state-dir";
    let failed = |error: &dyn std::error::Error| {
        output::problem(&chain_text(error), Some(hint));
        Ended(Exit::State)
    };
    let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    trust::directory(&state_dir, Access::mode(0o700)).map_err(|error| failed(&error))?;
    trust::check(&state_dir).map_err(|error| failed(&error))?;
    Ok(state_dir.join("previous"))
}

/// Makes `run_dir` for the daemon's user and his group, if it is not there; one that is there stays
/// as it is.
pub(super) fn make_run_dir(run_dir: &Path, user: u32, group: Option<u32>) -> Result<(), Ended> {
    if run_dir.is_dir() {
        return Ok(());
    }
    let access = Access { mode: 0o755, owner: Some(user), group };
    trust::directory(run_dir, access).map_err(|error| {
        let hint = format!("make it: install -d -m 0755 -o {user} {}", run_dir.display());
        let message = format!("there is no run directory: {}", chain_text(&error));
        output::problem(&message, Some(&hint));
        Ended(Exit::State)
    })
}

/// What the configuration says, read again whenever it has changed.
struct Configured {
    config_file: PathBuf,
    previous_dir: PathBuf,
    user: u32,
    in_force: Mutex<Option<InForce>>,
}

/// A configuration at work.
struct InForce {
    /// What was looked at, and how it was then.
    files: Vec<(PathBuf, Option<Stamp>)>,
    deployer: Arc<DirectDeployer>,
}

/// How a file is told from what it was before: device, inode, size, and the moments of its last
/// change and of its content's, in nanoseconds.
type Stamp = (u64, u64, u64, i128, i128);

/// The configuration can't be followed.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    /// Others could have written it.
    #[error("the configuration is not to be trusted")]
    Distrusted(#[from] DistrustError),
    /// It has faults.
    #[error("the configuration has faults: {0}")]
    Faulty(String),
    /// The reading was broken off.
    #[error("the configuration was not read")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl ConfigError {
    fn complaint(&self) -> Complaint {
        let hint = match self {
            Self::Distrusted(error) => error.hint(),
            Self::Faulty(_) => Some("run `renewd check` as root, and mend what it names".into()),
            Self::BrokenOff(_) => None,
        };
        Complaint::refusal(&chain_text(self), &hint.unwrap_or_default())
    }
}

impl Configured {
    /// Makes the socket that the configuration means, for the one user.
    async fn bind(&self) -> Result<(UnixListener, Bound), Ended> {
        let config = self.load().await.map_err(|error| {
            output::problem(&chain_text(&error), error.complaint().hint.as_deref());
            Ended(Exit::Configuration)
        })?;
        let path = config.store.deployer_socket();
        make_run_dir(&config.store.run_dir, self.user, None)?;
        let listening = socket::listen_for(&path, self.user);
        let bound = listening.and_then(|(it, bound)| Ok((UnixListener::from_std(it)?, bound)));
        bound.map_err(|error| {
            let message = format!("cannot listen on {}: {error}", path.display());
            output::problem(&message, Some("make the run directory, root's or the daemon's"));
            Ended(Exit::State)
        })
    }

    async fn load(&self) -> Result<Config, ConfigError> {
        let config_file = self.config_file.clone();
        spawn_blocking(move || load(&config_file)).await?
    }

    /// The deployer of the configuration as it is now.
    async fn current(&self) -> Result<Arc<DirectDeployer>, ConfigError> {
        let mut in_force = self.in_force.lock().await;
        if let Some(known) = in_force.as_ref() {
            let files = known.files.clone();
            if spawn_blocking(move || are_unchanged(&files)).await?? {
                return Ok(Arc::clone(&known.deployer));
            }
        }
        let config = self.load().await?;
        let files = config.files.clone();
        let files = spawn_blocking(move || stamped(&files, config.seen)).await?;
        let client = Client::new(self.user, &config.certificates);
        let deployer = DirectDeployer::new(
            config.store.certs_dir(),
            self.previous_dir.clone(),
            config.targets.clone(),
        )
        .on_behalf_of(client);
        let is_first = in_force.is_none();
        let deployer = Arc::new(match in_force.as_ref() {
            Some(known) => deployer.in_place_of(&known.deployer),
            None => deployer,
        });
        // Before the repair: whoever asks for it may go away, and what it has begun goes on. The
        // next must find the same turns at the targets.
        *in_force = Some(InForce { files, deployer: Arc::clone(&deployer) });
        if is_first && let Err(error) = deployer.repair().await {
            // Whoever installs to that target repairs it, or is told why it can't be done.
            let hint = error.hint();
            let error = chain_text(&error);
            tracing::warn!(error, hint, "what an earlier deployer left can't be put right");
        }
        Ok(deployer)
    }
}

#[async_trait]
impl Authority for Configured {
    async fn deployer(&self) -> Result<Arc<dyn Deployer>, Complaint> {
        match self.current().await {
            Ok(deployer) => Ok(deployer),
            Err(error) => Err(error.complaint()),
        }
    }
}

/// The configuration at `config_file`, if nobody but root and the present user can change it.
fn load(config_file: &Path) -> Result<Config, ConfigError> {
    trust::check(config_file)?;
    let config = config::load_without_secrets(config_file, &Environment::default())
        .map_err(|faults| ConfigError::Faulty(faults.to_string()))?;
    check_all(config.files.iter().map(PathBuf::as_path))?;
    Ok(config)
}

fn check_all<'a>(files: impl Iterator<Item = &'a Path>) -> Result<(), DistrustError> {
    for file in files {
        match trust::check(file) {
            // An included file that is not there: what leads to it has been judged.
            Err(DistrustError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// `files` with their stamps; without, so that they count as changed, if they are not what was `seen`
/// when they were read: which files there are is known only then.
fn stamped(files: &[PathBuf], seen: Fingerprint) -> Vec<(PathBuf, Option<Stamp>)> {
    let mut stamped: Vec<_> = files.iter().map(|it| (it.clone(), stamp(it))).collect();
    if config::digest(files) != seen {
        stamped.iter_mut().for_each(|(_, stamp)| *stamp = None);
    }
    stamped
}

/// Whether nothing has changed since the stamps of `files` were taken; nobody else may have come
/// to be able to change anything, either.
fn are_unchanged(files: &[(PathBuf, Option<Stamp>)]) -> Result<bool, DistrustError> {
    check_all(files.iter().map(|(path, _)| path.as_path()))?;
    Ok(files.iter().all(|(path, before)| stamp(path) == *before))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    let moment = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let changed = moment(metadata.ctime(), metadata.ctime_nsec());
    let modified = moment(metadata.mtime(), metadata.mtime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.len(), changed, modified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic;

    /// P03: what changes between the reading and the stamps must not be taken for what was read.
    #[test]
    fn a_configuration_that_changes_while_it_is_taken_in_is_read_at_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let write =
            |text: &str| atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
        write("parallel = 2\n");
        let config = load(&file).unwrap();
        assert!(are_unchanged(&stamped(&config.files, config.seen)).unwrap());
        write("parallel = 3\n");
        assert!(!are_unchanged(&stamped(&config.files, config.seen)).unwrap());
        let config = load(&file).unwrap();
        assert!(are_unchanged(&stamped(&config.files, config.seen)).unwrap());
    }
}
