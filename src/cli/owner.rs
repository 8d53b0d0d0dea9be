//! Root becomes the owner of the state directory before it touches anything there.
//!
//! What root writes as root is root's, and a daemon that is not could neither read nor replace it.
//! So a command that opens the store to write, or tries what the daemon is to do, goes on as the
//! owner, with the owner's rights and no more: what it can do then, the daemon can. Servers are told
//! by a deployer: by the one that listens, else by one that is started beforehand, while this
//! process is still root.
//!
//! Not here: how a process becomes another user's ([`crate::sys::user`]).

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, DeployerChoice};
use crate::model::{Explain, chain_text};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::process::{self, Companion};
use crate::sys::user;

use super::context::Ended;
use super::deployer::make_run_dir;
use super::exit::Exit;
use super::output;

/// How long a deployer may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked at whether it does.
const START_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take to end: as long as what it is doing then may take, and a little.
const END_LIMIT: Duration = Duration::from_secs(25);

/// The deployer that a command started for itself, if it needed one.
#[derive(Debug, Default)]
#[must_use = "it ends when this is dropped, and nobody waits for that"]
pub(super) struct OwnDeployer(Option<Companion>);

impl OwnDeployer {
    /// Has it end, and waits until its socket is gone, which a daemon might take for one that
    /// stays.
    pub(super) async fn end(self) {
        if let Some(companion) = self.0 {
            companion.end(END_LIMIT).await;
        }
    }
}

/// If this process is root's and the state directory of `config` is another user's, becomes that
/// user for good. What that user could not do is done before: the run directory is there, and a
/// deployer listens if there is anything to deploy.
///
/// # Errors
///
/// Exit code 5 if that can't be done.
pub(super) async fn become_owner(
    config: &mut Config,
    config_file: &Path,
) -> Result<OwnDeployer, Ended> {
    let state_dir = config.store.state_dir.clone();
    let Some((owner, group)) = user::other_owner_of(&state_dir) else {
        return Ok(OwnDeployer::default());
    };
    make_run_dir(&config.store.run_dir, owner, Some(group))?;
    let mut deployer = OwnDeployer::default();
    if config.certificates.iter().any(|it| !it.targets.is_empty()) {
        // Whatever the configuration says: this process will not have the rights.
        config.deployer = DeployerChoice::Socket;
        let socket = config.store.deployer_socket();
        if UnixStream::connect(&socket).is_err() {
            deployer = start_deployer(config, config_file, owner).await?;
        }
    }
    drop_root(config)?;
    Ok(deployer)
}

/// As [`become_owner`], for what deploys nothing.
///
/// # Errors
///
/// Exit code 5 if that can't be done.
pub(super) fn drop_root(config: &Config) -> Result<(), Ended> {
    let became = user::become_owner_of(&config.store.state_dir);
    became.map(drop).map_err(|error| {
        output::problem(&chain_text(&error), error.hint().as_deref());
        Ended(Exit::State)
    })
}

async fn start_deployer(
    config: &Config,
    config_file: &Path,
    owner: u32,
) -> Result<OwnDeployer, Ended> {
    let hint = "start one: `systemctl start renewd-deployer.socket`, or ask the daemon to do it: \
                `systemctl start renewd`, then the same command again";
    let program = env::current_exe().map_err(|error| failed(&error, hint))?;
    let arguments: [OsString; 11] = [
        program.into(),
        "--config".into(),
        config_file.into(),
        "--log-level".into(),
        "warn".into(),
        "deployer".into(),
        "--user".into(),
        owner.to_string().into(),
        "--state-dir".into(),
        beside(&config.store.state_dir).into(),
        "--until-input-ends".into(),
    ];
    let mut companion = process::accompany(&arguments).map_err(|error| failed(&error, hint))?;
    let (clock, socket) = (SystemClock::new(), config.store.deployer_socket());
    while let Err(error) = UnixStream::connect(&socket) {
        if companion.has_ended() {
            let ended = io::Error::other("the deployer that was started for this has ended");
            return Err(failed(&ended, hint));
        }
        if clock.monotonic() > START_LIMIT {
            companion.end(START_INTERVAL).await;
            return Err(failed(&error, hint));
        }
        clock.sleep(START_INTERVAL).await;
    }
    Ok(OwnDeployer(Some(companion)))
}

/// Where the deployer of the state directory `state_dir` keeps earlier files: for the usual one,
/// where that of systemd does.
fn beside(state_dir: &Path) -> PathBuf {
    let mut name = state_dir.as_os_str().to_owned();
    name.push("-deployer");
    name.into()
}

fn failed(error: &dyn std::error::Error, hint: &str) -> Ended {
    output::problem(&chain_text(error), Some(hint));
    Ended(Exit::State)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_files_of_the_usual_state_directory_lie_where_systemd_has_them() {
        let usual = crate::store::StoreSettings::default();
        assert_eq!(beside(&usual.state_dir), Path::new("/var/lib/renewd-deployer"));
    }
}
