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
use super::{DeployError, DeployRequest, Deployer, Installed, TargetSettings};
use crate::model::{CertificateName, Explain, Retry, TargetName};

/// How long the deployer may take to take a request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long its answer may take beside the programs it runs: longer than it takes itself to say
/// that a target does not answer.
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
const CODES: [&str; 9] = [
    "deploy.unknown_target",
    "deploy.not_listed",
    "deploy.source",
    "deploy.install",
    "deploy.nothing_kept",
    "deploy.test",
    "deploy.reload",
    "deploy.silent",
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
                "`systemctl status renewd-deployer.socket` says more, and it is asked again; \
                 without a deployer write deployer = \"direct\""
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
        let longest =
            targets.values().map(TargetSettings::longest_program).max().unwrap_or_default();
        // A test may be run twice, or wait for that of another certificate.
        Self { path, limit: longest * 2 + MARGIN }
    }

    /// Whether there is a socket at `path`, or where it leads, and it is for the present user.
    #[must_use]
    pub fn is_there(path: &Path) -> bool {
        let own = rustix::process::geteuid().as_raw();
        fs::metadata(path).is_ok_and(|it| it.file_type().is_socket() && it.uid() == own)
    }

    /// What is answered to `request` within `limit`.
    async fn ask(&self, request: &Request, limit: Duration) -> Result<Outcome, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable { path: self.path.clone(), source };
        let connected = timeout(CONNECT_LIMIT, UnixStream::connect(&self.path)).await;
        let mut stream = connected
            .map_err(|_late| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        let line = wire::line(request).map_err(RemoteError::BrokeOff)?;
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
        let answer = timeout(limit, asking)
            .await
            .map_err(|_late| RemoteError::TimedOut { limit })?
            .map_err(RemoteError::BrokeOff)?;
        match answer {
            Answer { version: wire::VERSION, result: Outcome::Failed(complaint) } => {
                Err(RemoteError::Failed(complaint))
            }
            Answer { version: wire::VERSION, result } => Ok(result),
            Answer { version, .. } => Err(RemoteError::BrokeOff(LineError::Version(version))),
        }
    }

    /// Has `verb` done, where there is nothing to be told but that it is done.
    async fn done(&self, verb: Verb, request: &DeployRequest) -> Result<(), DeployError> {
        self.ask(&Request::new(verb, request), self.limit).await?;
        Ok(())
    }
}

#[async_trait]
impl Deployer for SocketDeployer {
    /// Has systemd start the deployer, which repairs then what a crash or a power cut left. To one
    /// that is there it means nothing: a restart of ours is no reason to touch an install that it
    /// may be in the middle of. One that can't be reached is told of when there is something to
    /// install.
    async fn repair(&self) -> Result<(), DeployError> {
        drop(timeout(CONNECT_LIMIT, UnixStream::connect(&self.path)).await);
        Ok(())
    }

    /// An older deployer, which does not know the verb, can't say: it is seen when it is done.
    /// Daemon and deployer are not exchanged in one moment, and no renewal is to wait for that.
    async fn check(
        &self,
        certificate: &CertificateName,
        target: &TargetName,
    ) -> Result<(), DeployError> {
        // No program is run for it.
        match self.ask(&Request::check(certificate, target), MARGIN).await {
            Err(RemoteError::Failed(complaint)) if complaint.is_about_words() => {
                tracing::debug!(%certificate, %target, "an older deployer can't say");
                Ok(())
            }
            asked => Ok(asked.map(drop)?),
        }
    }

    async fn install(&self, request: &DeployRequest) -> Result<Installed, DeployError> {
        match self.ask(&Request::new(Verb::Install, request), self.limit).await? {
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
        ask_for(Verb::Test, answer).await
    }

    /// As [`ask`], for `verb`: a test, or else a check.
    async fn ask_for(verb: Verb, answer: &'static [u8]) -> Result<(), DeployError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployer.sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(SocketDeployer::is_there(&path));
        let deployer = SocketDeployer::new(path, &BTreeMap::new());
        let serving = async {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            let request: Request = wire::read(&mut stream, wire::MAX_REQUEST).await.unwrap();
            assert_eq!(request.verb, verb);
            stream.write_all(answer).await.unwrap();
        };
        let request = request();
        let asking = async {
            match verb {
                Verb::Check => deployer.check(&request.certificate, &request.target).await,
                _ => deployer.test(&request).await,
            }
        };
        tokio::join!(asking, serving).0
    }

    /// D04: after a power cut systemd has only the socket, and starts the deployer for whoever
    /// connects.
    #[tokio::test]
    async fn a_deployer_is_started_for_repair_and_one_that_is_gone_stops_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployer.sock");
        let deployer = SocketDeployer::new(path.clone(), &BTreeMap::new());
        deployer.repair().await.unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        deployer.repair().await.unwrap();
        timeout(CONNECT_LIMIT, listener.accept()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_deployer_that_does_not_know_the_question_holds_up_no_order() {
        let older = br#"{"version":1,"result":{"failed":{"code":"deploy.refused","message":"the line is not understood: unknown variant `check`, expected one of `install`, `test`, `reload`, `put_back` at line 1 column 27","hint":"daemon and deployer are to be of one version","needs_change":false}}}
"#;
        ask_for(Verb::Check, older).await.unwrap();
        assert_eq!(
            ask(older).await.unwrap_err().code(),
            "deploy.refused",
            "it is no answer to others"
        );

        // Whoever knows the question and refuses it, or breaks off, would install nothing.
        for (answer, code) in [
            (
                &br#"{"version":1,"result":{"failed":{"code":"deploy.refused","message":"the configuration has faults","hint":null,"needs_change":false}}}
"#[..],
                "deploy.refused",
            ),
            (
                br#"{"version":1,"result":{"failed":{"code":"deploy.install","message":"the line is not understood","hint":null,"needs_change":false}}}
"#,
                "deploy.install",
            ),
            (b"", "deploy.deployer_failed"),
        ] {
            assert_eq!(ask_for(Verb::Check, answer).await.unwrap_err().code(), code);
        }
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
