//! `renewd reload`: the running daemon reads its configuration again.
//!
//! For people and for `ExecReload=` of a systemd unit: it ends when the new configuration is in
//! force (exit code 0), or was refused and the old one is still in force (3, the faults on standard
//! error). Where parts of included files were refused, the rest is in force, and the exit code is 3
//! as well.

use std::time::Duration;

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::{output, renew};

/// How long the daemon may read: less than systemd gives a reload (90 s).
const READING: Duration = Duration::from_secs(60);

/// Asks for a reload. Faults that can be seen from here are told without asking; the secrets are
/// the daemon's to read.
pub(super) async fn reload(global: &Global) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let Some(daemon) = context.daemon_at_work(Some(READING))? else {
        let socket = context.config.store.control_socket();
        let message = format!("no daemon listens on {}", socket.display());
        output::problem(&message, Some("start it with `renewd run`"));
        return Err(Ended(Exit::Failed));
    };
    let reloaded = daemon.reload().await.map_err(|error| renew::ended(&error))?;
    if global.json {
        output::json(&reloaded);
    } else {
        output::data(&format!("reloaded: {}", output::counted(reloaded.certificates)));
    }
    if reloaded.rejected.is_empty() {
        return Ok(Exit::AsWanted);
    }
    let message = format!("parts were refused:\n{}", reloaded.rejected.join("\n"));
    output::problem(&message, Some("mend them; until then their last good versions stay in force"));
    Ok(Exit::Configuration)
}
