//! `renewd status`: wanted, held and served; the next try, and why.
//!
//! A running daemon is asked; without one the store is read; who may read neither gets the status
//! file that the last one wrote, with its age.

use std::io;

use crate::assemble::Agent;
use crate::config::Config;
use crate::model::{
    CertificateName, Health, STATUS_FORMAT, StatusDocument, StorageError, Timestamp, chain_text,
};
use crate::observe::text;
use crate::plan::Asked;
use crate::sys::clock::{Clock, SystemClock};

use super::arguments::{FailOn, Global, StatusArguments};
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::output;

/// Shows how things stand; fails by it if asked to.
pub(super) async fn status(global: &Global, arguments: &StatusArguments) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    selected(&context.config, &arguments.names)?;
    let mut document = document(context, arguments.probe).await?;
    if !arguments.names.is_empty() {
        document.certificates.retain(|it| arguments.names.contains(&it.name));
    }
    let now = SystemClock::new().now();
    if global.json {
        output::json(&document);
    } else {
        output::data(&text::table(&document, now, output::look(global)));
    }
    Ok(exit(document.health(), arguments.fail_on))
}

/// How everything stands, by whoever can tell.
pub(super) async fn document(context: Context, probe: bool) -> Result<StatusDocument, Ended> {
    if let Some(daemon) = context.daemon().filter(|_| !probe) {
        match daemon.status().await {
            Ok(document) => return Ok(document),
            Err(error) => {
                output::talk(&format!("the daemon was not asked: {}", chain_text(&error)))
            }
        }
    }
    let (config, has_secrets) = (context.config.clone(), context.has_secrets);
    let (base, mut agent) = context.open_read_only()?;
    if !has_secrets {
        // Whether somebody is told can't be known without knowing how.
        agent.notices.retain(|it| it.code != "agent.silent");
    }
    let now = base.clock.now();
    match read(&agent, probe).await {
        Ok(certificates) => {
            let mut document = StatusDocument {
                format: STATUS_FORMAT,
                host: base.host,
                written_at: now,
                notices: agent.all_notices(),
                certificates,
            };
            document.note_unfit_stand_ins();
            document.note_revocations();
            agent.alerts.note_undelivered(&mut document).await;
            Ok(document)
        }
        Err(error) => from_file(&config, &error, now),
    }
}

async fn read(
    agent: &Agent,
    probe: bool,
) -> Result<Vec<crate::model::CertificateStatus>, StorageError> {
    let mut certificates = Vec::new();
    for spec in &agent.config.certificates {
        let outcome = if probe {
            agent.lifecycle.probe(spec).await?
        } else {
            agent.lifecycle.look(spec, Asked::ByTime).await?
        };
        certificates.push(outcome.status);
    }
    Ok(certificates)
}

/// What the last daemon wrote, where the store may not be read.
fn from_file(config: &Config, why: &StorageError, now: Timestamp) -> Result<StatusDocument, Ended> {
    let path = config.store.status_file();
    let read = std::fs::read(&path);
    let parsed = read.and_then(|it| serde_json::from_slice(&it).map_err(io::Error::other));
    match parsed {
        Ok(document) => {
            let document: StatusDocument = document;
            let age = now.since(document.written_at);
            let age = humantime::format_duration(std::time::Duration::from_secs(age.as_secs()));
            output::talk(&format!("from {}, written {age} ago", path.display()));
            Ok(document)
        }
        Err(_unreadable) => {
            let hint = "run as root or as the owner of the state directory";
            output::problem(&chain_text(why), Some(hint));
            Err(Ended(Exit::State))
        }
    }
}

const fn exit(health: Health, fail_on: Option<FailOn>) -> Exit {
    match (fail_on, health) {
        (Some(FailOn::Warning), health) => Exit::of(health),
        (Some(FailOn::Critical), Health::Critical) => Exit::Critical,
        (Some(FailOn::Critical), _) | (None, _) => Exit::AsWanted,
    }
}

/// The status of `name` alone.
pub(super) fn only(
    document: StatusDocument,
    name: &CertificateName,
) -> Option<crate::model::CertificateStatus> {
    document.certificates.into_iter().find(|it| it.name == *name)
}
