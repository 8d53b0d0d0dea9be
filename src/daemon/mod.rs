//! All certificates, for as long as the process runs.
//!
//! One task, the scheduler, owns all decisions about when: it wakes at the moment that a plan
//! names, when a file changes, when a human asks, and on a coarse tick as a safety net; it starts
//! bounded parallel work, one piece at a time for each certificate. Another, the herald, tells:
//! status file, alerts, heartbeat. A panic in one certificate's work ends nothing else, and work
//! that never ends is given up: both are told, and tried again. At the end of the process the work
//! that does not end in time is dropped, and what it showed is taken away, or left to the journal.
//!
//! # Not here
//!
//! What is done for a certificate ([`crate::lifecycle`]); the socket ([`crate::api`]).

mod entry;
mod herald;
mod limit;
mod notices;
mod pass;
mod reload;
mod requests;
mod scheduler;
mod supervision;
mod tick;
mod turn;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch as channel};

use crate::acme::{AccountAction, AccountReport};
use crate::assemble::{Agent, Base, RevokeReport, WorkReport};
use crate::config::Environment;
use crate::lifecycle::Outcome;
use crate::model::{CaName, CertificateName, Failure, RevocationRequest, StatusDocument};
use crate::observe::{Alerts, DeliveryError};
use crate::plan::Asked;
use crate::sys::notify::Supervisor;
use crate::sys::signals::Signals;

/// How long work that is under way may go on after the request to end.
///
/// With what may come after it, less than the 20 s in which the process is to end: 5 s until what
/// was dropped is taken away, beside which the herald tells the last (2 s twice), and 2 s of the
/// control socket.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Requests that wait for the scheduler at most; more are refused.
const COMMAND_QUEUE: usize = 64;

/// What a daemon is started with.
#[derive(Debug)]
pub struct Daemon {
    /// What outlives configurations.
    pub base: Base,
    /// The configuration in force.
    pub agent: Arc<Agent>,
    /// The file that it came from, to be watched and read again.
    pub config_file: PathBuf,
    /// What configurations may read of the process's environment.
    pub environment: Environment,
    /// Who wants to know how the process is.
    pub supervisor: Supervisor,
}

/// Asks the running daemon for things.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: channel::Receiver<Shown>,
    alerts: Arc<Alerts>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// What the scheduler shows.
#[derive(Clone, Debug)]
struct Shown {
    document: StatusDocument,
    /// Whether every certificate was looked at since it came in: before that, what is missing from
    /// the document says nothing.
    is_whole: bool,
}

/// One request to the scheduler.
#[derive(Debug)]
enum Command {
    Plan(Vec<CertificateName>, oneshot::Sender<Vec<Outcome>>),
    Work(Vec<CertificateName>, Asked, oneshot::Sender<Result<Vec<WorkReport>, Refused>>),
    Account(CaName, AccountAction, oneshot::Sender<Result<AccountOutcome, Refused>>),
    AskToRevoke(
        CertificateName,
        RevocationRequest,
        oneshot::Sender<Result<Result<(), Failure>, Refused>>,
    ),
    AwaitsRevocation(CertificateName, oneshot::Sender<bool>),
    Reload(oneshot::Sender<Result<Reloaded, String>>),
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How many certificates are in force.
    pub certificates: usize,
    /// The faults of entries and included files that were refused: their last good versions stay.
    #[serde(default)]
    pub rejected: Vec<String>,
}

/// What came of a revocation that was asked for.
pub type RevokeOutcome = Result<RevokeReport, Failure>;

/// What came of something that was done to an account.
pub type AccountOutcome = Result<AccountReport, Failure>;

/// The daemon did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The configuration names no such certificate.
    #[error("the configuration has no certificate named {0}")]
    Unknown(CertificateName),
    /// The configuration has no such CA that speaks ACME.
    #[error("the configuration has no CA named {0} that speaks ACME")]
    UnknownCa(CaName),
    /// The new configuration has faults; the old one stays in force.
    #[error("the configuration was refused, the old one stays in force:\n{0}")]
    Faulty(String),
    /// Too many requests wait already.
    #[error("the daemon has too many requests to answer")]
    Busy,
    /// It is ending, or the answer was lost.
    #[error("the daemon is ending")]
    Ending,
}

impl Handle {
    /// How everything stands, as last found out.
    #[must_use]
    pub fn status(&self) -> StatusDocument {
        let mut document = self.status.borrow().document.clone();
        document.notices.extend(self.alerts.notices().borrow().iter().cloned());
        document
    }

    /// What would be done now for `names`, or for all.
    ///
    /// # Errors
    ///
    /// If the daemon is ending or has too much to do.
    pub async fn plan(&self, names: Vec<CertificateName>) -> Result<Vec<Outcome>, Refused> {
        self.ask(|reply| Command::Plan(names, reply)).await
    }

    /// Does what is due for `names`, or for all, and waits until it is done.
    ///
    /// # Errors
    ///
    /// If a name is unknown, or the daemon is ending or has too much to do.
    pub async fn work(
        &self,
        names: Vec<CertificateName>,
        asked: Asked,
    ) -> Result<Vec<WorkReport>, Refused> {
        self.ask(|reply| Command::Work(names, asked, reply)).await?
    }

    /// Does `action` to the account at `ca`.
    ///
    /// # Errors
    ///
    /// If the CA is unknown, or the daemon is ending or has too much to do. What the CA refused is
    /// in the outcome.
    pub async fn account(
        &self,
        ca: CaName,
        action: AccountAction,
    ) -> Result<AccountOutcome, Refused> {
        self.ask(|reply| Command::Account(ca, action, reply)).await?
    }

    /// Has the certificate `name` revoked, and another put in its place if that is wanted, and
    /// waits until what can be done now is done.
    ///
    /// # Errors
    ///
    /// If the name is unknown, or the daemon is ending or has too much to do. What can't be revoked
    /// is in the outcome.
    pub async fn revoke(
        &self,
        name: CertificateName,
        request: RevocationRequest,
    ) -> Result<RevokeOutcome, Refused> {
        let asked = self.ask(|reply| Command::AskToRevoke(name.clone(), request, reply)).await??;
        if let Err(failure) = asked {
            return Ok(Err(failure));
        }
        let reports = self.work(vec![name.clone()], Asked::ByName).await?;
        let report = reports.into_iter().next().ok_or(Refused::Ending)?;
        let pending = self.ask(|reply| Command::AwaitsRevocation(name, reply)).await?;
        Ok(Ok(RevokeReport { report, pending }))
    }

    /// Reads the configuration again and puts it in force; when this returns, it is.
    ///
    /// # Errors
    ///
    /// If it has faults, all of them in the message; then the old one stays.
    pub async fn reload(&self) -> Result<Reloaded, Refused> {
        self.ask(Command::Reload).await?.map_err(Refused::Faulty)
    }

    /// Sends a test message to every receiver of alerts, and says how each took it.
    pub async fn test_alerts(&self) -> Vec<(String, Result<(), DeliveryError>)> {
        self.alerts.test().await
    }

    async fn ask<Reply>(
        &self,
        command: impl FnOnce(oneshot::Sender<Reply>) -> Command,
    ) -> Result<Reply, Refused> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Ending,
        })?;
        answer.await.map_err(|_ended| Refused::Ending)
    }
}

impl Daemon {
    /// The daemon, not yet running, and the handle to ask it.
    #[must_use]
    pub fn prepare(self) -> (Running, Handle) {
        let (commands, received) = mpsc::channel(COMMAND_QUEUE);
        let document = scheduler::empty_document(&self.base, &self.agent);
        let (status_writer, status) = channel::channel(Shown { document, is_whole: false });
        let alerts = self.agent.alerts.clone();
        (
            Running { daemon: self, commands: received, status: status_writer },
            Handle { commands, status, alerts },
        )
    }
}

/// A daemon that is ready to run.
#[derive(Debug)]
pub struct Running {
    daemon: Daemon,
    commands: mpsc::Receiver<Command>,
    status: channel::Sender<Shown>,
}

impl Running {
    /// Runs until `signals` ask for the end; then lets work under way finish for a while, and drops
    /// it. Files and sockets of proofs are gone then; records in DNS are waited for some seconds,
    /// and those that stay are taken away by the next start.
    pub async fn run(self, signals: Signals) {
        scheduler::run(self.daemon, self.commands, self.status, signals).await;
    }
}
