//! `renewd plan`: what would be done now, and why.

use crate::api::{PlanEntry, WorkRequest};
use crate::model::CertificateName;
use crate::observe::text;
use crate::plan::Asked;

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::{output, renew};

/// What goes without saying of a certificate that is kept.
const NOT_DUE: &str = "it is not due";

/// Shows the plan of `names`, or of all.
pub(super) async fn plan(global: &Global, names: Vec<CertificateName>) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let specs = selected(&context.config, &names)?;
    let entries = match context.daemon() {
        Some(daemon) => {
            let request = WorkRequest { names, ..WorkRequest::default() };
            daemon.plan(&request).await.map_err(|error| renew::ended(&error))?
        }
        None => {
            let (_base, agent) = context.open_read_only()?;
            let mut entries = Vec::new();
            for spec in &specs {
                match agent.lifecycle.look(spec, Asked::ByTime).await {
                    Ok(outcome) => entries.push(PlanEntry::of(&outcome)),
                    Err(error) => {
                        let hint = "run as root or as the owner of the state directory";
                        output::problem(&crate::model::chain_text(&error), Some(hint));
                        return Err(Ended(Exit::State));
                    }
                }
            }
            entries
        }
    };
    if global.json {
        output::json(&entries);
    } else {
        entries.iter().for_each(show);
    }
    Ok(Exit::AsWanted)
}

/// Whether it waits for what its CA allows.
fn is_held_back(entry: &PlanEntry) -> bool {
    let refused = entry.allowance.as_ref().and_then(|it| it.refused_by.as_deref());
    refused.is_some_and(|it| entry.reason.contains(it))
}

fn show(entry: &PlanEntry) {
    let at = entry.at.map(|it| it.to_string()).unwrap_or_default();
    let renewal = match entry.renewal.as_str() {
        "keep" if entry.reason == NOT_DUE => format!("keep until {at}"),
        "keep" => format!("keep until {at}, {}", entry.reason),
        "issue" => format!("order now: {}", entry.reason),
        "back_off" if is_held_back(entry) => format!("order at {at}: {}", entry.reason),
        "back_off" => format!("order at {at}, after failures: {}", entry.reason),
        _ => format!("blocked until a human changes something: {}", entry.reason),
    };
    output::data(&format!("{}: {renewal}", entry.name));
    if let Some(allowance) = &entry.allowance
        && let Some(line) = text::allowance(allowance)
    {
        output::data(&format!("  {line}"));
    }
    for target in &entry.targets {
        let at = target.at.map(|it| format!(" at {it}")).unwrap_or_default();
        let reason = target.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        let what = match target.deployment.as_str() {
            "served" if at.is_empty() => "nothing to do".to_owned(),
            "served" => format!("look again{at}"),
            "look" => "look what it serves".to_owned(),
            "deploy" => format!("deploy now{reason}"),
            "back_off" => format!("deploy{at}, after failures{reason}"),
            _ => "nothing to hand over yet".to_owned(),
        };
        output::data(&format!("  {}: {what}", target.name));
    }
}
