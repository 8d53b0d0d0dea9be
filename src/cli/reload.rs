//! `renewd reload`: the running daemon reads its configuration again.

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::{output, renew};

/// Asks for a reload; a configuration with faults is refused here already.
pub(super) async fn reload(global: &Global) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    let Some(daemon) = context.daemon() else {
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
    Ok(Exit::AsWanted)
}
