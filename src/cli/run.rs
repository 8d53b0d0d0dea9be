//! `renewd run`: the daemon in the foreground.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::ControlSocket;
use crate::config::Environment;
use crate::daemon::Daemon;
use crate::model::{Event, chain_text};
use crate::sys::atomic::{self, Access};
use crate::sys::notify::Supervisor;
use crate::sys::signals::Signals;

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;

/// How long those who asked something may take to fetch their answers when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Runs until it is told to end.
pub(super) async fn run(global: &Global) -> Result<Exit, Ended> {
    let signals = Signals::listen().map_err(|error| {
        output::problem(&format!("cannot listen for signals: {error}"), None);
        Ended(Exit::Failed)
    })?;
    let context = Context::load(global)?;
    for warning in &context.config.warnings {
        output::talk(&warning.to_string());
    }
    let (config_file, environment) = (context.config_file.clone(), context.environment.clone());
    let settings = context.config.store.clone();
    let (base, agent) = context.open(None).await?;
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

fn make_run_folders(settings: &crate::store::StoreSettings) -> Result<(), atomic::WriteError> {
    atomic::directory(&settings.run_dir, Access::mode(0o755))?;
    atomic::directory(&settings.challenge_dir(), Access::mode(0o755))
}
