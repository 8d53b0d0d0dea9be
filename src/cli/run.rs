//! `renewd run`: the daemon in the foreground.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::ControlSocket;
use crate::config::Environment;
use crate::daemon::Daemon;
use crate::model::{Event, chain_text};
use crate::store::StoreSettings;
use crate::sys::activation::Sockets;
use crate::sys::atomic::{self, Access};
use crate::sys::notify::Supervisor;
use crate::sys::signals::Signals;
use crate::sys::user;

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;

/// How long those who asked something may take to fetch their answers when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Runs until it is told to end. Solvers that name the address of one of `sockets` take it.
pub(super) async fn run(global: &Global, sockets: &Sockets) -> Result<Exit, Ended> {
    let signals = Signals::listen().map_err(|error| {
        output::problem(&format!("cannot listen for signals: {error}"), None);
        Ended(Exit::Failed)
    })?;
    let context = Context { sockets: sockets.clone(), ..Context::load(global)? };
    for warning in &context.config.warnings {
        output::talk(&warning.to_string());
    }
    let (config_file, environment) = (context.config_file.clone(), context.environment.clone());
    let settings = context.config.store.clone();
    refuse_root(&settings)?;
    let (base, agent, _none) = context.open(None).await?;
    if let Err(error) = make_run_folders(&settings) {
        output::problem(&chain_text(&error), Some("make the run directory writable"));
        return Err(Ended(Exit::State));
    }
    // A daemon that no command can reach is no use to anybody who has to mend something.
    let socket = ControlSocket::bind(&settings.control_socket()).map_err(|error| {
        let hint = "make the run directory writable, or choose another run_dir (with a short path)";
        output::problem(&chain_text(&error), Some(hint));
        Ended(Exit::State)
    })?;
    base.observer.observe(&Event::ConfigLoaded { certificates: agent.config.certificates.len() });

    let supervisor = supervisor(&environment);
    let daemon = Daemon { base, agent: Arc::new(agent), config_file, environment, supervisor };
    let (running, handle) = daemon.prepare();
    let (end, ended) = oneshot::channel::<()>();
    let until = async { drop(ended.await) };
    let mut serving = tokio::spawn(socket.serve(handle, until));
    running.run(signals).await;
    drop(end);
    if tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err() {
        // A peer that holds its connection must not keep the socket's file here.
        serving.abort();
        drop(serving.await);
    }
    Ok(Exit::AsWanted)
}

/// A daemon that root starts on another user's state would either leave files there that the user's
/// own daemon can't use, or be the user's with no way back to root at the next reload.
fn refuse_root(settings: &StoreSettings) -> Result<(), Ended> {
    let state_dir = settings.state_dir.display();
    let Some((owner, _)) = user::other_owner_of(&settings.state_dir) else { return Ok(()) };
    let message = format!(
        "the state directory {state_dir} belongs to the user {owner}, and this daemon would be root"
    );
    let hint = format!(
        "start it as that user (`systemctl start renewd` does), or make the state root's: \
         chown -R 0:0 {state_dir}"
    );
    output::problem(&message, Some(&hint));
    Err(Ended(Exit::State))
}

/// Who wants to know how this process is, if anybody. One that can't be told is no reason not to
/// run: certificates matter more.
fn supervisor(environment: &Environment) -> Supervisor {
    let variable = |name: &str| environment.variables.get(name).cloned();
    Supervisor::from_variables(variable).unwrap_or_else(|error| {
        output::problem(
            &chain_text(&error),
            Some("the service manager will think it never started"),
        );
        Supervisor::default()
    })
}

fn make_run_folders(settings: &StoreSettings) -> Result<(), atomic::WriteError> {
    atomic::directory(&settings.run_dir, Access::mode(0o755))?;
    atomic::directory(&settings.challenge_dir(), Access::mode(0o755))
}
