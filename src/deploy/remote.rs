//! The deployer as the daemon sees it: a process with more rights, behind a socket.
//!
//! Not here: that process ([`super::serve`]).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire::{self, Answer, Complaint, LineError, MAX_ANSWER, Outcome, Request, Verb};
use super::{
    DeployError, DeployRequest, Deployer, Installed, ProgramSettings, ReloadSettings,
    TargetSettings,
};
use crate::model::{CertificateName, Explain, Retry, TargetName};

/// How long the deployer may take to take a request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long its answer may take beside the programs it runs.
const MARGIN: Duration = Duration::from_secs(60);

/// The deployer process could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody takes requests.
    #[error("the deployer can't be reached at {}", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the deployer did not answer within {}", humantime::format_duration(*limit))]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It broke off in the middle, or its answer is not understood.
    #[error("the deployer broke off without an answer that is understood")]
    BrokeOff(#[source] LineError),
    /// It says that it did not do it, and why.
    #[error("{}", .0.message)]
    Failed(Complaint),
}

/// What the deployer calls its failures, which we call the same.
const CODES: [&str; 8] = [
    "deploy.unknown_target",
    "deploy.not_listed",
    "deploy.source",
    "deploy.install",
    "deploy.nothing_kept",
    "deploy.test",
    "deploy.reload",
    wire::REFUSED,
];

impl Explain for RemoteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "deploy.deployer_unreachable",
            Self::TimedOut { .. } | Self::BrokeOff(_) => "deploy.deployer_failed",
            Self::Failed(complaint) => {
                let known = CODES.into_iter().find(|it| *it == complaint.code);
                known.unwrap_or("deploy.deployer_failed")
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Failed(Complaint { needs_change: true, .. }) => Retry::AfterChange,
            Self::Failed(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::BrokeOff(_) => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(
                    "only the user whom the deployer works for may ask it: SocketUser= of \
                      renewd-deployer.socket"
                        .into(),
                )
            }
            Self::Unreachable { .. } => Some(
                "`systemctl status renewd-deployer.socket` says more; without a deployer write \
                 deployer = \"direct\""
                    .into(),
            ),
            Self::TimedOut { .. } | Self::BrokeOff(_) => {
                Some("`journalctl -u renewd-deployer` says more; it is asked again".into())
            }
            Self::Failed(complaint) => complaint.hint.clone(),
        }
    }
}

/// Has the deployer process do everything.
#[derive(Debug)]
pub struct SocketDeployer {
    path: PathBuf,
    limit: Duration,
}

impl SocketDeployer {
    /// Asks at the socket `path`, for `targets`. Whether anybody listens is seen when something is
    /// asked.
    #[must_use]
    pub fn new(path: PathBuf, targets: &BTreeMap<TargetName, TargetSettings>) -> Self {
        let longest = targets.values().map(longest_program).max().unwrap_or_default();
        // A test may be run twice, or wait for that of another certificate.
        Self { path, limit: longest * 2 + MARGIN }
    }

    /// Whether there is a socket at `path`, or where it leads, and it is for the present user.
    #[must_use]
    pub fn is_there(path: &Path) -> bool {
        let own = rustix::process::geteuid().as_raw();
        fs::metadata(path).is_ok_and(|it| it.file_type().is_socket() && it.uid() == own)
    }

    async fn ask(&self, verb: Verb, request: &DeployRequest) -> Result<Outcome, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable { path: self.path.clone(), source };
        let connected = timeout(CONNECT_LIMIT, UnixStream::connect(&self.path)).await;
        let mut stream = connected
            .map_err(|_late| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        let line = wire::line(&Request::new(verb, request)).map_err(RemoteError::BrokeOff)?;
        let asking = async {
            // Whoever refuses us before we have said anything has answered all the same.
            let written = stream.write_all(&line).await;
            match wire::read::<Answer>(&mut stream, MAX_ANSWER).await {
                Err(error @ (LineError::Nothing | LineError::Cut)) => {
                    Err(written.err().map_or(error, LineError::Broken))
                }
                other => other,
            }
        };
        let answer = timeout(self.limit, asking)
            .await
            .map_err(|_late| RemoteError::TimedOut { limit: self.limit })?
            .map_err(RemoteError::BrokeOff)?;
        match answer {
            Answer { version: wire::VERSION, result: Outcome::Failed(complaint) } => {
                Err(RemoteError::Failed(complaint))
            }
            Answer { version: wire::VERSION, result } => Ok(result),
            Answer { version, .. } => Err(RemoteError::BrokeOff(LineError::Version(version))),
        }
    }

    /// As [`Self::ask`], where there is nothing to be told but that it is done.
    async fn done(&self, verb: Verb, request: &DeployRequest) -> Result<(), DeployError> {
        self.ask(verb, request).await?;
        Ok(())
    }
}

#[async_trait]
impl Deployer for SocketDeployer {
    /// Nothing: the deployer repairs what a crash of its own left before its first request, and a
    /// restart of ours is no reason to touch an install that it may be in the middle of.
    async fn repair(&self) -> Result<(), DeployError> {
        Ok(())
    }

    /// Nothing is said: this process sees neither the folders nor the programs as the deployer does,
    /// and the deployer is asked for nothing but its verbs.
    async fn check(&self, _: &CertificateName, _: &TargetName) -> Result<(), DeployError> {
        Ok(())
    }

    async fn install(&self, request: &DeployRequest) -> Result<Installed, DeployError> {
        match self.ask(Verb::Install, request).await? {
            Outcome::Installed(installed) => Ok(installed),
            // The server is told once more than it need be, if at all.
            Outcome::Done | Outcome::Failed(_) => Ok(Installed::Changed),
        }
    }

    async fn test(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.done(Verb::Test, request).await
    }

    async fn reload(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.done(Verb::Reload, request).await
    }

    async fn put_back(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.done(Verb::PutBack, request).await
    }
}

/// How long the slowest program of `target` may run.
fn longest_program(target: &TargetSettings) -> Duration {
    let reload = match &target.reload {
        Some(ReloadSettings::Systemd { timeout, .. }) => Some(*timeout),
        Some(ReloadSettings::Command(ProgramSettings { timeout, .. })) => Some(*timeout),
        Some(ReloadSettings::Signal { .. }) | None => None,
    };
    let test = target.test.as_ref().map(|it| it.timeout);
    reload.max(test).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::model::{Generation, chain_text};

    fn request() -> DeployRequest {
        DeployRequest {
            certificate: "site".parse().unwrap(),
            generation: Generation(1),
            target: "web".parse().unwrap(),
        }
    }

    /// Asks a deployer that takes one connection and says `answer`.
    async fn ask(answer: &'static [u8]) -> Result<(), DeployError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployer.sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(SocketDeployer::is_there(&path));
        let deployer = SocketDeployer::new(path, &BTreeMap::new());
        let serving = async {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            let request: Request = wire::read(&mut stream, wire::MAX_REQUEST).await.unwrap();
            assert_eq!(request.verb, Verb::Test);
            stream.write_all(answer).await.unwrap();
        };
        let request = request();
        tokio::join!(deployer.test(&request), serving).0
    }

    #[tokio::test]
    async fn what_the_deployer_says_is_kept_with_its_code_and_hint() {
        let error = ask(
            br#"{"version":1,"result":{"failed":{"code":"deploy.test","message":"the test of target web failed: nginx ended with exit code 1: [emerg] no","hint":"run `nginx -t`","needs_change":false}}}
"#,
        )
        .await
        .unwrap_err();
        assert_eq!(error.code(), "deploy.test");
        assert_eq!(error.hint().unwrap(), "run `nginx -t`");
        assert!(chain_text(&error).ends_with("exit code 1: [emerg] no"), "{error}");
        assert_eq!(error.retry(), Retry::BackOff);
    }

    #[tokio::test]
    async fn a_deployer_that_breaks_off_or_talks_nonsense_is_a_failure_that_is_repeated() {
        for answer in [
            &b""[..],
            b"{\"version\":1,",
            b"{\"version\":2,\"result\":\"done\"}\n",
            b"nonsense\n",
            b"{\"version\":1,\"result\":\"done\"}\nmore\n",
        ] {
            let error = ask(answer).await.unwrap_err();
            assert_eq!(error.code(), "deploy.deployer_failed", "{answer:?}");
            assert_eq!(error.retry(), Retry::BackOff);
            assert!(error.hint().unwrap().contains("journalctl -u renewd-deployer"));
        }
        ask(b"{\"version\":1,\"result\":\"done\"}\n").await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_found_where_a_link_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("socket"), folder.path().join("deployer.sock"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(!SocketDeployer::is_there(&link));
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(SocketDeployer::is_there(&link));
    }

    #[tokio::test]
    async fn a_deployer_that_is_not_there_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployer.sock");
        assert!(!SocketDeployer::is_there(&path));
        let deployer = SocketDeployer::new(path, &BTreeMap::new());
        let error = deployer.reload(&request()).await.unwrap_err();
        assert_eq!(error.code(), "deploy.deployer_unreachable");
        assert!(error.hint().unwrap().contains("systemctl status renewd-deployer.socket"));
    }
}
