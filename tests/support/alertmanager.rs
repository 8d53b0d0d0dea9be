//! Prometheus' alertmanager, the real one.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::curl::curl;
use super::files::write;
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::wait::eventually;

/// How long it may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running alertmanager on loopback, which keeps what it is sent and tells nobody.
#[derive(Debug)]
pub struct Alertmanager {
    port: u16,
    // Dropped before the folder that it writes to.
    _process: Running,
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        (1..5).find_map(|_| Self::try_start(free_port())).unwrap_or_else(|| {
            panic!("no port for alertmanager in several tries");
        })
    }

    /// One try; none if somebody else took the port.
    #[track_caller]
    fn try_start(port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("alertmanager.yml");
        write(&config, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n");
        let mut command = Command::new(Peers::locate().alertmanager);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        let log = folder.path().join("log");
        let mut process = Running::start("alertmanager", &mut command, &log);

        let ready = format!("http://127.0.0.1:{port}/-/ready");
        let started = eventually(START_LIMIT, "alertmanager is ready", || {
            if process.ended().is_some() {
                assert!(process.log().contains("address already in use"), "{}", process.log());
                return Ok(false);
            }
            curl(&[&ready]).map(|_| true)
        });
        started.then_some(Self { port, _process: process, _folder: folder })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The alerts that it holds, as its API v2 lists them; resolved ones are not among them.
    #[must_use]
    #[track_caller]
    pub fn alerts(&self) -> Vec<serde_json::Value> {
        let answer = curl(&[&format!("{}/api/v2/alerts", self.url())]).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}
