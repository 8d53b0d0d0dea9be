//! `renewd dns`: which command it is, and `renewd dns test`.
//!
//! Not here: `renewd dns persist` ([`super::persist`]).

use crate::assemble::{DeployedBy, deployed_by};
use crate::model::{ChallengeType, Explain, Identifier, SolverName, chain_text};
use crate::solver::{Dns01, DnsLabel, SolverError, SolverMethod};

use super::arguments::{DnsCommand, Global};
use super::context::{Context, Ended};
use super::exit::Exit;
use super::interruption::attended;
use super::{output, owner, persist};

/// Runs `command`.
pub(super) async fn run(global: &Global, command: &DnsCommand) -> Result<Exit, Ended> {
    match command {
        DnsCommand::Test { solver, name } => test(global, solver, name).await,
        DnsCommand::Persist { name } => persist::persist(global, name).await,
    }
}

/// Proves `solver` without a CA: adds a value of chance where a proof of `identifier` would go,
/// sees it at every name server, removes it, and sees it gone. Each step is printed as it is done.
async fn test(
    global: &Global,
    solver: &SolverName,
    identifier: &Identifier,
) -> Result<Exit, Ended> {
    let context = Context::load(global)?;
    let solvers = &context.config.solvers;
    let Some(settings) = solvers.get(solver) else {
        let known: Vec<_> = solvers.keys().map(SolverName::as_str).collect();
        let hint = format!("the configuration has: {}", known.join(", "));
        output::problem(&format!("there is no solver named {solver}"), Some(&hint));
        return Err(Ended(Exit::Usage));
    };
    let (SolverMethod::Dns01(settings) | SolverMethod::DnsAccount01(settings)) = &settings.method
    else {
        let message = format!("the solver {solver} does not do {}", ChallengeType::Dns01);
        output::problem(&message, Some("name one with type = \"dns-01\" or \"dns-account-01\""));
        return Err(Ended(Exit::Usage));
    };
    let mut steps = Vec::new();
    // As the daemon does it: what it can't do there is not to work here, least of all as root.
    owner::drop_root(&context.config)?;
    let built = match deployed_by(&context.config) {
        DeployedBy::Deployer(_) => Dns01::without_programs(DnsLabel::Common, settings),
        DeployedBy::ThisProcess => Dns01::new(DnsLabel::Common, settings),
    };
    let done = match built {
        Ok(solver) => {
            let tell = |step: crate::solver::dns01::Step| {
                let step = step.to_string();
                if !global.json {
                    output::data(&step);
                }
                steps.push(step);
            };
            let rehearsed =
                attended(async |stop| stop.unless_come(solver.rehearse(identifier, tell)).await);
            rehearsed.await?.unwrap_or(Err(SolverError::Interrupted))
        }
        Err(error) => Err(error.into()),
    };
    if global.json {
        output::json(&serde_json::json!({
            "solver": solver.as_str(),
            "identifier": identifier.to_string(),
            "steps": steps,
            "works": done.is_ok(),
            "error": done.as_ref().err().map(|it| chain_text(it)),
            "hint": done.as_ref().err().and_then(Explain::hint),
        }));
    }
    match done {
        Ok(()) => Ok(Exit::AsWanted),
        Err(error) => {
            if !global.json {
                output::problem(&chain_text(&error), error.hint().as_deref());
            }
            Ok(Exit::Failed)
        }
    }
}
