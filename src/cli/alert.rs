//! `renewd alert test`, and what systemd runs when a unit of ours failed.
//!
//! Beside a daemon it is the daemon that sends: its secrets, its way to the network, are what is to
//! be tried.

use std::time::Duration;

use crate::api::AlertTried;
use crate::observe::DeliveryError;

use super::arguments::Global;
use super::context::{Context, Ended};
use super::exit::Exit;
use super::{output, renew};

/// How long all receivers together may take.
const SENDING: Duration = Duration::from_secs(120);

/// The variables in which systemd tells a unit of `OnFailure=` how the other one ended
/// (systemd.exec(5)).
const RESULT: &str = "MONITOR_SERVICE_RESULT";
const STATUS: &str = "MONITOR_EXIT_STATUS";

/// The unit that runs `renewd renew`.
const ROUND: &str = "renewd-renew.service";

/// Sends a test message to every receiver and says how each took it.
pub(super) async fn test(global: &Global) -> Result<Exit, Ended> {
    let tried = try_all(global).await?;
    if tried.is_empty() {
        output::problem(
            "nobody would be told: there is no [[alert]]",
            Some("add one to the configuration"),
        );
        return Ok(Exit::Failed);
    }
    Ok(report(global, &tried))
}

/// Tells every receiver of warnings that `unit` failed, unless it ended in a way that it has told
/// of itself, and says how each took it.
pub(super) async fn unit_failed(global: &Global, unit: &str) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    let variable = |name| context.environment.variables.get(name).map(String::as_str);
    let Some(how) = how_it_failed(unit, variable(RESULT), variable(STATUS)) else {
        output::data(&format!("{unit}: has told of what failed by itself"));
        return Ok(Exit::AsWanted);
    };
    let (_base, agent) = context.open_read_only()?;
    let tried = in_words(&agent.alerts.unit_failed(unit, &how).await);
    if tried.is_empty() {
        // Nothing that systemd could try again.
        output::talk(&format!("{unit} failed ({how}), and no [[alert]] wants to hear of it"));
        return Ok(Exit::AsWanted);
    }
    Ok(report(global, &tried))
}

/// How `unit` failed, in words; `None` if whoever is to be told has been.
///
/// A round that ended with these codes has told it itself: certificates that failed or are in
/// danger have thresholds of their own. One that could not use the state directory may have kept
/// nothing of what it told, and is told of besides.
fn how_it_failed(unit: &str, result: Option<&str>, status: Option<&str>) -> Option<String> {
    let told = [Exit::Failed, Exit::Critical].map(|it| (it as u8).to_string());
    match (result, status) {
        (Some("exit-code"), Some(status))
            if unit == ROUND && told.iter().any(|it| it == status) =>
        {
            None
        }
        (Some("exit-code"), Some(status)) => Some(format!("it ended with exit code {status}")),
        (Some(result), _) => Some(format!("systemd says {result}")),
        (None, _) => Some("it is not known how".to_owned()),
    }
}

async fn try_all(global: &Global) -> Result<Vec<AlertTried>, Ended> {
    let context = Context::load_to_look(global)?;
    if let Some(daemon) = context.daemon_at_work(Some(SENDING))? {
        return daemon.test_alerts().await.map_err(|error| renew::ended(&error));
    }
    let (_base, agent) = Context::load(global)?.open_read_only()?;
    Ok(in_words(&agent.alerts.test().await))
}

fn in_words(results: &[(String, Result<(), DeliveryError>)]) -> Vec<AlertTried> {
    results.iter().map(|(receiver, result)| AlertTried::of(receiver, result)).collect()
}

fn report(global: &Global, tried: &[AlertTried]) -> Exit {
    if global.json {
        output::json(&tried);
    } else {
        tried.iter().for_each(show);
    }
    if tried.iter().all(|it| it.delivered) { Exit::AsWanted } else { Exit::Failed }
}

fn show(tried: &AlertTried) {
    match &tried.error {
        None => output::data(&format!("{}: delivered", tried.receiver)),
        Some(error) => {
            let message = format!("{}: {error}", tried.receiver);
            output::problem(&message, tried.hint.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_has_told_itself_is_not_told_again() {
        let how = |unit, result, status| how_it_failed(unit, Some(result), Some(status));
        assert_eq!(how(ROUND, "exit-code", "1"), None);
        assert_eq!(how(ROUND, "exit-code", "6"), None);
        let refused = how(ROUND, "exit-code", "3");
        assert_eq!(refused.as_deref(), Some("it ended with exit code 3"));
        let daemon = how("renewd.service", "exit-code", "1");
        assert_eq!(daemon.as_deref(), Some("it ended with exit code 1"));
        let frozen = how("renewd.service", "watchdog", "ABRT");
        assert_eq!(frozen.as_deref(), Some("systemd says watchdog"));
        assert!(how_it_failed("renewd.service", None, None).is_some());
    }
}
