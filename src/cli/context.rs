//! What most commands begin with: the configuration, and either the running daemon or the store.

use std::env;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::api::Client;
use crate::assemble::{Agent, Base, build, check_lasting};
use crate::config::{self, Config, Environment};
use crate::model::{CertificateName, CertificateSpec, Explain, Observer, chain_text};
use crate::observe::log::LogObserver;
use crate::solver::HandedSockets;
use crate::store::{OpenError, Store};
use crate::sys::activation::Sockets;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::host;

use super::arguments::Global;
use super::exit::Exit;
use super::output;
use super::owner::{self, OwnDeployer};

/// How long another process that writes the state directory is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to answer what costs it no work: one that is stuck is no reason to
/// learn nothing.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// How long a daemon's work is waited for: an order may take five minutes, and again to be issued.
const WORK_WAIT: Duration = Duration::from_secs(15 * 60);

/// A command can't go on; what to tell has been told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(pub(super) Exit);

/// What a command runs with.
#[derive(Debug)]
pub(super) struct Context {
    /// The configuration file.
    pub(super) config_file: PathBuf,
    /// What configurations may read of the environment.
    pub(super) environment: Environment,
    /// The configuration.
    pub(super) config: Config,
    /// Whether the secrets that it names were read; without them some receivers are missing.
    pub(super) has_secrets: bool,
    /// What systemd listens on for this process; only a daemon is handed anything.
    pub(super) sockets: Sockets,
}

impl Context {
    /// Reads the configuration; tells all its faults if it has any.
    ///
    /// # Errors
    ///
    /// Exit code 3 if it can't be used.
    pub(super) fn load(global: &Global) -> Result<Self, Ended> {
        let environment = environment();
        let config_file = absolute(&global.config);
        match config::load(&config_file, &environment) {
            Ok(config) => Ok(Self::with(config_file, environment, config, true)),
            Err(faults) => {
                output::problem(&faults.to_string(), None);
                Err(Ended(Exit::Configuration))
            }
        }
    }

    /// As [`Context::load`], for commands that only look: whoever may not read the secrets can
    /// still see how things stand.
    ///
    /// # Errors
    ///
    /// As [`Context::load`].
    pub(super) fn load_to_look(global: &Global) -> Result<Self, Ended> {
        let environment = environment();
        let config_file = absolute(&global.config);
        if config::load(&config_file, &environment).is_err()
            && let Ok(config) = config::load_without_secrets(&config_file, &environment)
        {
            return Ok(Self::with(config_file, environment, config, false));
        }
        Self::load(global)
    }

    fn with(
        config_file: PathBuf,
        environment: Environment,
        config: Config,
        has_secrets: bool,
    ) -> Self {
        let sockets = Sockets::default();
        Self { config_file, environment, config, has_secrets, sockets }
    }

    /// A client for the daemon that runs on this configuration, if one listens and we may ask it:
    /// for questions that can be answered without it too.
    #[must_use]
    pub(super) fn daemon(&self) -> Option<Client> {
        self.client(ANSWER_WAIT).ok().flatten()
    }

    /// A client for that daemon, for what it alone may do while it runs, and which may take as long
    /// as `wait` says; `None` where none listens.
    ///
    /// # Errors
    ///
    /// Exit code 1 if there is one that we may not ask.
    pub(super) fn daemon_at_work(&self, wait: Option<Duration>) -> Result<Option<Client>, Ended> {
        self.client(wait.unwrap_or(WORK_WAIT)).map_err(|error| {
            let socket = self.config.store.control_socket();
            let message = format!("the daemon can't be asked at {}: {error}", socket.display());
            output::problem(
                &message,
                Some("run as root, or as a member of the group renewd-admin"),
            );
            Ended(Exit::Failed)
        })
    }

    fn client(&self, wait: Duration) -> io::Result<Option<Client>> {
        let socket = self.config.store.control_socket();
        match UnixStream::connect(&socket) {
            Ok(_listens) => Ok(Client::new(&socket, wait).ok()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_nobody) => Ok(None),
        }
    }

    /// Opens the store to write, and builds everything on it. Root becomes the owner of the state
    /// directory before that, so that nothing root leaves is another's than the daemon's.
    ///
    /// # Errors
    ///
    /// Exit code 4 if another process holds it all the time, 5 if it can't be used or lies where it
    /// is lost, 3 if the configuration can't be put to work.
    pub(super) async fn open(
        mut self,
        wait: Option<Duration>,
    ) -> Result<(Base, Agent, OwnDeployer), Ended> {
        let (clock, deployer) = self.ready_to_write().await?;
        let wait = wait.unwrap_or(LOCK_WAIT);
        let opened = Store::open(&self.config.store, clock.clone(), wait).await;
        let store = opened.map_err(|error| refused(&error))?;
        let (base, agent) = self.assemble(store, clock, Arc::new(LogObserver))?;
        Ok((base, agent, deployer))
    }

    /// As [`Context::open`] for a trial, which has a state directory of its own and not a run
    /// directory; `observer` hears of everything.
    ///
    /// # Errors
    ///
    /// As [`Context::open`].
    pub(super) async fn open_trial(
        mut self,
        wait: Option<Duration>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Base, Agent, OwnDeployer), Ended> {
        let (clock, deployer) = self.ready_to_write().await?;
        let wait = wait.unwrap_or(LOCK_WAIT);
        let opened = Store::open_as_guest(&self.config.store, clock.clone(), wait).await;
        let store = opened.map_err(|error| refused(&error))?;
        let (base, agent) = self.assemble(store, clock, observer)?;
        Ok((base, agent, deployer))
    }

    /// What comes before a store is opened to write, and holds for it.
    async fn ready_to_write(&mut self) -> Result<(Arc<dyn Clock>, OwnDeployer), Ended> {
        check_lasting(&self.config).map_err(|error| {
            output::problem(&error.to_string(), error.hint().as_deref());
            Ended(Exit::State)
        })?;
        let deployer = owner::become_owner(&mut self.config, &self.config_file).await?;
        Ok((Arc::new(SystemClock::new()), deployer))
    }

    /// Opens the store to read, beside a daemon or not, and builds everything on it.
    ///
    /// # Errors
    ///
    /// As [`Context::open`].
    pub(super) fn open_read_only(self) -> Result<(Base, Agent), Ended> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Store::check_readable(&self.config.store).map_err(|error| refused(&error))?;
        let store = Store::open_read_only(&self.config.store);
        self.assemble(store, clock, Arc::new(LogObserver))
    }

    fn assemble(
        self,
        store: Store,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Base, Agent), Ended> {
        let base = Base {
            store: Arc::new(store),
            clock,
            observer,
            host: host::name(),
            handed: HandedSockets::new(self.sockets),
        };
        match build(self.config, &base, None) {
            Ok(agent) => Ok((base, agent)),
            Err(error) => {
                output::problem(&chain_text(&error), Some("run `renewd check`"));
                Err(Ended(Exit::Configuration))
            }
        }
    }
}

/// Tells why the store can't be used.
fn refused(error: &OpenError) -> Ended {
    let (hint, exit) = match error {
        OpenError::Held { .. } => {
            ("another renewd writes there: wait for it, or raise --wait".to_owned(), Exit::Waited)
        }
        OpenError::TooNew { .. } => (error.hint().unwrap_or_default(), Exit::State),
        OpenError::Unusable { .. } => {
            let usual =
                "run as root or as the owner of the state directory, and see that it is writable";
            (error.hint().unwrap_or_else(|| usual.to_owned()), Exit::State)
        }
    };
    output::problem(&chain_text(error), Some(&hint));
    Ended(exit)
}

/// The specs that `names` stand for, or all.
///
/// # Errors
///
/// Exit code 2 if one is not in the configuration, 3 if its entry was refused.
pub(super) fn selected(
    config: &Config,
    names: &[CertificateName],
) -> Result<Vec<CertificateSpec>, Ended> {
    for name in names {
        if config.rejected.contains(name) {
            let message = format!("the entry of {name} was refused");
            output::problem(&message, Some("run `renewd check`, and mend what it names"));
            return Err(Ended(Exit::Configuration));
        }
        if !config.certificates.iter().any(|it| it.name == *name) {
            let known: Vec<_> = config.certificates.iter().map(|it| it.name.as_str()).collect();
            let hint = format!("the configuration has: {}", known.join(", "));
            output::problem(&format!("there is no certificate named {name}"), Some(&hint));
            return Err(Ended(Exit::Usage));
        }
    }
    let all = config.certificates.iter();
    Ok(all.filter(|it| names.is_empty() || names.contains(&it.name)).cloned().collect())
}

/// What a configuration may read of this process's environment.
#[must_use]
pub(super) fn environment() -> Environment {
    Environment {
        variables: env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        credentials_directory: env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_no_current_folder| path.to_owned())
}
