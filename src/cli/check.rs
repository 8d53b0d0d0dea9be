//! `renewd check`: the configuration and the world that it names. Changes nothing.
//!
//! Not here: who can read what ([`machine`], decided in [`rights`]); what systemd's units need
//! ([`systemd`]) and have ([`units`]).

mod machine;
mod rights;
mod systemd;
mod units;

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::assemble::{Agent, DeployedBy, ON_A_NETWORK, check_lasting};
use crate::config::Severity;
use crate::deploy::{ReloadSettings, TargetSettings};
use crate::model::{Explain, Notice, chain_text};
use crate::sys::process::SEARCH_PATH;

use super::arguments::{CheckArguments, Global};
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;

/// One thing that is not as the configuration needs it.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    message: String,
    hint: Option<String>,
}

/// Checks everything; exit code 3 for faults of the configuration, also where only an entry of an
/// included file is refused, 1 for those of the world.
pub(super) async fn check(global: &Global, arguments: &CheckArguments) -> Result<Exit, Ended> {
    if arguments.systemd {
        return drop_ins(global);
    }
    let context = Context::load(global)?;
    let faults = context.config.warnings.clone();
    let is_rejected = faults.iter().any(|it| it.severity == Severity::Rejection);
    let certificates = context.config.certificates.len();
    let file = context.config_file.clone();
    let passing = check_lasting(&context.config).err();
    let (_base, agent) = context.open_read_only()?;
    let on_a_network = agent.notices.iter().find(|it| it.code == ON_A_NETWORK);
    let mut findings = findings(&agent, &file).await;
    findings.extend(passing.map(|error| Finding {
        subject: "state_dir".to_owned(),
        message: error.to_string(),
        hint: error.hint(),
    }));
    if global.json {
        output::json(&serde_json::json!({
            "certificates": certificates,
            "warnings": faults
                .iter()
                .map(ToString::to_string)
                .chain(on_a_network.map(|it| it.message.clone()))
                .collect::<Vec<_>>(),
            "deployer": agent.deployed_by.to_string(),
            "findings": findings,
        }));
    } else {
        for fault in &faults {
            let word = if fault.severity == Severity::Rejection { "refused" } else { "warning" };
            output::data(&format!("{word}: {fault}"));
        }
        if let Some(Notice { message, hint, .. }) = on_a_network {
            let hint = hint.as_deref().unwrap_or_default();
            output::data(&format!("warning: {message}\n  hint: {hint}"));
        }
        for finding in &findings {
            output::data(&format!("{}: {}", finding.subject, finding.message));
            if let Some(hint) = &finding.hint {
                output::data(&format!("  hint: {hint}"));
            }
        }
        if findings.is_empty() && !is_rejected {
            output::data(&format!(
                "{}: {}, no faults",
                file.display(),
                output::counted(certificates)
            ));
        }
        if !agent.config.targets.is_empty() {
            output::data(&format!("servers are handed certificates by {}", agent.deployed_by));
        }
    }
    Ok(match (is_rejected, findings.is_empty()) {
        (true, _) => Exit::Configuration,
        (false, false) => Exit::Failed,
        (false, true) => Exit::AsWanted,
    })
}

/// Prints what systemd's units need for the configuration; reads no secret, since those may be
/// there for the units alone.
fn drop_ins(global: &Global) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let needs = systemd::needs(&context.config);
    let files = systemd::drop_ins(&needs, &context.config_file);
    if global.json {
        output::json(&serde_json::json!({ "files": files }));
        return Ok(Exit::AsWanted);
    }
    if files.is_empty() {
        output::talk("the units need nothing beside what they come with for this configuration");
    }
    let texts: Vec<&str> = files.iter().map(|it| it.content.as_str()).collect();
    if !texts.is_empty() {
        output::data(&texts.join("\n"));
    }
    Ok(Exit::AsWanted)
}

async fn findings(agent: &Agent, config_file: &Path) -> Vec<Finding> {
    let mut findings: Vec<_> = missing_deployer(agent).into_iter().collect();
    let used: BTreeSet<_> =
        agent.config.certificates.iter().flat_map(|it| it.solvers.values()).collect();
    for name in used {
        let Some(solver) = agent.lifecycle.issuer.solvers.get(name) else { continue };
        if let Err(error) = solver.check().await {
            findings.push(Finding {
                subject: format!("solver {name}"),
                message: chain_text(&error),
                hint: error.hint(),
            });
        }
    }
    findings.extend(unfit_stand_ins(agent).await);
    let used: BTreeSet<_> = agent.config.certificates.iter().flat_map(|it| &it.targets).collect();
    for name in used {
        if let Some(target) = agent.config.targets.get(name) {
            findings.extend(missing_programs(target));
            findings.extend(missing_folders(agent, target));
        }
    }
    let needs = systemd::needs(&agent.config);
    let units = units::of_configuration(config_file);
    findings.extend(machine::findings(&agent.config, &units));
    findings.extend(units::findings(&needs, &units));
    findings
}

/// CAs that could not stand in, each cause once.
async fn unfit_stand_ins(agent: &Agent) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for spec in &agent.config.certificates {
        for (ca, error) in agent.lifecycle.unfit_stand_ins(spec).await {
            let (subject, message) = (format!("stand-in {ca}"), chain_text(&error));
            if !findings.iter().any(|it| it.subject == subject && it.message == message) {
                findings.push(Finding { subject, message, hint: error.hint() });
            }
        }
    }
    findings
}

/// That there is nobody at the deployer's socket, where the configuration relies on it.
fn missing_deployer(agent: &Agent) -> Option<Finding> {
    let DeployedBy::Deployer(path) = &agent.deployed_by else { return None };
    let kind = path.metadata().map(|it| it.file_type());
    if kind.is_ok_and(|it| it.is_socket()) {
        return None;
    }
    Some(Finding {
        subject: "deployer".to_owned(),
        message: format!("there is no socket at {}", path.display()),
        hint: Some("start it: systemctl enable --now renewd-deployer.socket".to_owned()),
    })
}

/// Programs of `target` that are not there.
fn missing_programs(target: &TargetSettings) -> Vec<Finding> {
    let reload = match &target.reload {
        Some(ReloadSettings::Command(program)) => program.arguments.first().cloned(),
        Some(ReloadSettings::Systemd { .. }) => Some("systemctl".to_owned()),
        Some(ReloadSettings::Signal { .. }) | None => None,
    };
    let test = target.test.as_ref().and_then(|it| it.arguments.first().cloned());
    let missing = test.into_iter().chain(reload).filter(|it| !is_there(it));
    missing
        .map(|program| Finding {
            subject: format!("target {}", target.name),
            message: format!("the program {program} is not there"),
            hint: Some(format!(
                "install it, or write its whole path (looked for in {SEARCH_PATH})"
            )),
        })
        .collect()
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    SEARCH_PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

/// Folders that `target` wants files in and that are not there.
fn missing_folders(agent: &Agent, target: &TargetSettings) -> Vec<Finding> {
    let users = agent.config.certificates.iter().filter(|it| it.targets.contains(&target.name));
    let folders: BTreeSet<PathBuf> = users
        .flat_map(|spec| {
            let paths =
                target.install.iter().map(|it| it.path.replace("{name}", spec.name.as_str()));
            paths.filter_map(|it| Path::new(&it).parent().map(Path::to_owned))
        })
        .filter(|it| !it.is_dir())
        .collect();
    folders
        .into_iter()
        .map(|folder| Finding {
            subject: format!("target {}", target.name),
            message: format!("the folder {} is not there", folder.display()),
            hint: Some(format!("make it: mkdir -p {}", folder.display())),
        })
        .collect()
}
