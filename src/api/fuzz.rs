//! What fuzzing feeds to this module: the bytes of an administrator's connection to the control
//! socket.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::error::Error;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::connections::{self, Limits};
use super::server::{Admins, router};
use crate::assemble::{Base, build};
use crate::config::{self, Environment};
use crate::daemon::{Daemon, Handle};
use crate::model::{Event, Observer};
use crate::solver::HandedSockets;
use crate::store::Store;
use crate::sys::atomic::{self, Access};
use crate::sys::clock::SystemClock;
use crate::sys::fuzz::block_on;
use crate::sys::notify::Supervisor;

/// A certificate, so that there is a name to ask for, and nobody to be told of anything.
const CONFIG: &str = "state_dir = \"state\"\nrun_dir = \"run\"\nterms_of_service_agreed = true\n\
                      default_ca = \"dead\"\n[ca.dead]\ndirectory = \"https://127.0.0.1:1/dir\"\n\
                      [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = []\n";

/// Sends `bytes` and nothing more to the control socket of a daemon that is ending: its answers are
/// its status, what it knows nothing of, and that it ends.
pub fn control(bytes: &[u8]) {
    let socket = &SOCKET.1;
    let answer = block_on(async {
        let mut answer = Vec::new();
        if let Ok(mut stream) = UnixStream::connect(socket).await {
            drop(stream.write_all(bytes).await);
            drop(stream.shutdown().await);
            drop(stream.read_to_end(&mut answer).await);
        }
        answer
    });
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "no answer in HTTP: {answer}");
    assert!(!answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.len() < 128 * 1024, "{} bytes", answer.len());
}

/// The socket, which is served as long as somebody asks, and the folder that it is in.
#[expect(clippy::expect_used, reason = "a target without a socket tries nothing")]
static SOCKET: LazyLock<(TempDir, PathBuf)> =
    LazyLock::new(|| block_on(serve()).expect("a socket is served"));

async fn serve() -> Result<(TempDir, PathBuf), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("control.sock");
    let listener = UnixListener::bind(&socket)?;
    let admins = Admins { own: rustix::process::geteuid().as_raw(), group: None };
    let router = router(handle(&folder).await?, admins);
    tokio::spawn(connections::serve(listener, router, Limits::default(), pending()));
    Ok((folder, socket))
}

async fn handle(folder: &TempDir) -> Result<Handle, Box<dyn Error>> {
    let config_file = folder.path().join("renewd.toml");
    atomic::write(&config_file, CONFIG.as_bytes(), Access::mode(0o600))?;
    let config = config::load(&config_file, &Environment::default())?;
    let clock = Arc::new(SystemClock::new());
    let base = Base {
        store: Arc::new(Store::open(&config.store, clock.clone(), Duration::ZERO).await?),
        clock,
        observer: Arc::new(Nobody),
        host: "fuzz".to_owned(),
        handed: HandedSockets::default(),
    };
    let agent = Arc::new(build(config, &base, None)?);
    let (environment, supervisor) = (Environment::default(), Supervisor::default());
    let daemon = Daemon { base, agent, config_file, environment, supervisor };
    // What would run it goes away here.
    Ok(daemon.prepare().1)
}

struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _event: &Event) {}
}
