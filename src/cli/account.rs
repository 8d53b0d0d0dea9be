//! `renewd account`: the account at a CA.
//!
//! Beside a running daemon it is asked, since it signs with the account's key; without one the work
//! is done here. Both do the same.
//!
//! Not here: what is done ([`crate::acme`]).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::acme::{AccountAction, AccountReport};
use crate::api::AccountRequest;
use crate::config::{Ca, Config};
use crate::daemon::AccountOutcome;
use crate::model::{CaName, Explain, escaped};

use super::arguments::{AccountCommand, Global, WhichAccount};
use super::context::{Context, Ended};
use super::exit::Exit;
use super::output;
use super::renew::{ended, spinner};

/// Does one of the things that can be done to an account.
pub(super) async fn account(global: &Global, command: AccountCommand) -> Result<Exit, Ended> {
    let (which, action) = match command {
        AccountCommand::Show(which) => (which, AccountAction::Show),
        AccountCommand::Update(which) => (which, AccountAction::Update),
        AccountCommand::Rollover(which) => (which, AccountAction::RollOver),
        AccountCommand::Deactivate { which, yes } => {
            confirm(yes)?;
            (which, AccountAction::Deactivate)
        }
        AccountCommand::Register { which, replace: false } => (which, AccountAction::Register),
        AccountCommand::Register { which, replace: true } => (which, AccountAction::Replace),
    };
    tend(global, which, action).await
}

fn confirm(yes: bool) -> Result<(), Ended> {
    if yes {
        return Ok(());
    }
    let message = "an account that is deactivated can't be brought back, and was not touched";
    output::problem(message, Some("repeat the command with --yes to do it"));
    Err(Ended(Exit::Usage))
}

async fn tend(global: &Global, which: WhichAccount, action: AccountAction) -> Result<Exit, Ended> {
    let context = Context::load_to_look(global)?;
    let ca = chosen(&context.config, which.ca)?;
    let outcome = match context.daemon_at_work(which.wait)? {
        Some(daemon) => {
            let bar = spinner("the daemon is at work");
            let answer = daemon.account(&AccountRequest { ca, action }).await;
            bar.finish_and_clear();
            answer.map_err(|error| ended(&error))?
        }
        None => do_it(Context::load(global)?, ca, action, which.wait).await?,
    };
    match outcome {
        Ok(report) => {
            if global.json {
                output::json(&report);
            } else {
                show(&report);
            }
            Ok(Exit::AsWanted)
        }
        Err(failure) => {
            output::problem(&failure.message, failure.hint.as_deref());
            Ok(Exit::of_failures(&[failure]))
        }
    }
}

/// Does it here, as the only writer of the state directory.
async fn do_it(
    context: Context,
    ca: CaName,
    action: AccountAction,
    wait: Option<Duration>,
) -> Result<AccountOutcome, Ended> {
    let (base, agent, deployer) = context.open(wait).await?;
    let outcome = agent.tend_account(&ca, action).await;
    deployer.end().await;
    // `chosen` has seen that it is there.
    let Some(outcome) = outcome else { return Err(Ended(Exit::Usage)) };
    Ok(outcome.map_err(|error| error.failure(base.clock.now())))
}

/// The CA that is meant: the named one, or the only one that certificates come from.
fn chosen(config: &Config, named: Option<CaName>) -> Result<CaName, Ended> {
    let speaks_acme = |name: &CaName| matches!(config.cas.get(name), Some(Ca::Acme(_)));
    let used: BTreeSet<CaName> =
        config.certificates.iter().flat_map(|it| it.cas.iter().cloned()).collect();
    let used: Vec<CaName> = used.into_iter().filter(speaks_acme).collect();
    let names: Vec<&str> = used.iter().map(CaName::as_str).collect();
    let message = match (named, used.as_slice()) {
        (Some(name), _) if speaks_acme(&name) => return Ok(name),
        (Some(name), _) => format!("there is no CA named {name} that has accounts"),
        (None, [only]) => return Ok(only.clone()),
        (None, []) => "no certificate comes from a CA that has accounts".to_owned(),
        (None, _) => "the certificates come from several CAs: name one".to_owned(),
    };
    let hint = format!("certificates come from: {}", names.join(", "));
    output::problem(&message, Some(&hint).filter(|_| !names.is_empty()).map(String::as_str));
    Err(Ended(Exit::Usage))
}

fn show(report: &AccountReport) {
    let line = |name: &str, value: &str| output::data(&format!("{name:<12} {}", escaped(value)));
    let some = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line(name, &value);
        }
    };
    line("CA", report.ca.as_str());
    line("directory", &report.directory);
    some("account", report.url.clone());
    line("status", &report.status);
    line("contact", &report.contact.join(", "));
    some("key", report.thumbprint.clone());
    some("binding", report.eab_key_id.clone());
    some("terms", report.terms.clone());
    some("registered", report.registered_at.map(|it| it.to_string()));
    some("deactivated", report.deactivated_at.map(|it| it.to_string()));
    for record in &report.changed_records {
        output::talk(&format!(
            "{} is not renewed before this record names the account as it is now:",
            record.certificate
        ));
        let (name, value) = (escaped(&record.name), escaped(&record.value));
        output::data(&format!("{name}. IN TXT \"{value}\""));
    }
    if let Some(terms) = &report.changed_terms {
        let terms = escaped(terms);
        let hint = format!("read them, then run `renewd account update {}`", report.ca);
        output::talk(&format!("the CA has other terms of service now: {terms}; {hint}"));
    }
}
