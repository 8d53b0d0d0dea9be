//! `renewd alert test`.

use crate::model::{Explain, chain_text};

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;

/// Sends a test message to every receiver and says how each took it.
pub(super) async fn test(global: &Global) -> Result<Exit, Ended> {
    let (_base, agent) = Context::load(global)?.open_read_only()?;
    let results = agent.alerts.test().await;
    if results.is_empty() {
        output::problem(
            "nobody would be told: there is no [[alert]]",
            Some("add one to the configuration"),
        );
        return Ok(Exit::Failed);
    }
    let mut exit = Exit::AsWanted;
    if global.json {
        let shown: Vec<_> = results
            .iter()
            .map(|(receiver, it)| {
                serde_json::json!({
                    "receiver": receiver,
                    "delivered": it.is_ok(),
                    "error": it.as_ref().err().map(|it| chain_text(it)),
                })
            })
            .collect();
        output::json(&shown);
        let all = results.iter().all(|(_, it)| it.is_ok());
        return Ok(if all { Exit::AsWanted } else { Exit::Failed });
    }
    for (receiver, result) in results {
        match result {
            Ok(()) => output::data(&format!("{receiver}: delivered")),
            Err(error) => {
                exit = Exit::Failed;
                let message = format!("{receiver}: {}", chain_text(&error));
                output::problem(&message, error.hint().as_deref());
            }
        }
    }
    Ok(exit)
}
