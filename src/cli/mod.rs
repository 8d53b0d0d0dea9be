//! The commands: one file each; the only place that prints.
//!
//! Not here: anything that a command does beside asking, waiting and showing.

mod account;
mod alert;
mod ca;
pub mod arguments;
mod check;
mod config;
mod context;
mod deployer;
mod dns;
mod dry_run;
pub mod exit;
mod interruption;
mod output;
mod owner;
mod persist;
mod plan;
mod reload;
mod renew;
mod revoke;
mod run;
mod show;
mod status;
mod trial;

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;

use crate::observe::log;
use crate::sys::activation::Sockets;
use crate::sys::dump;

use arguments::{AlertCommand, Arguments, CaCommand, Command, ConfigCommand, Global, LogFormat};
use context::Ended;
use exit::Exit;

/// Runs the command line and returns what the process ends with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            let is_help = !error.use_stderr();
            return if is_help { Exit::AsWanted } else { Exit::Usage }.into();
        }
    };
    // Before any thread: it changes the environment.
    let sockets = match Sockets::take() {
        Ok(sockets) => sockets,
        Err(error) => {
            let hint = "renewd takes stream sockets alone: correct the socket unit";
            output::problem(&crate::model::chain_text(&error), Some(hint));
            return Exit::Usage.into();
        }
    };
    // Before the first TLS connection: with two providers in a process the choice would be a panic.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    if let Err(error) = start_log(&arguments) {
        output::problem(&crate::model::chain_text(&error), None);
        return Exit::Usage.into();
    }
    dump::prevent();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::problem(&format!("cannot start: {error}"), None);
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(dispatch(arguments, &sockets)).unwrap_or_else(|Ended(exit)| exit);
    // Work that blocks (a name lookup, say) must not hold the process's end.
    runtime.shutdown_background();
    exit.into()
}

async fn dispatch(arguments: Arguments, sockets: &Sockets) -> Result<Exit, Ended> {
    let global = &arguments.global;
    match arguments.command {
        Command::Run => run::run(global, sockets).await,
        Command::Renew(arguments) => Box::pin(renew::renew(global, arguments)).await,
        Command::Plan { names } => plan::plan(global, names).await,
        Command::Status(arguments) => status::status(global, &arguments).await,
        Command::Show { name } => show::show(global, name).await,
        Command::Deploy(arguments) => renew::deploy(global, arguments).await,
        Command::Revoke(arguments) => Box::pin(revoke::revoke(global, arguments)).await,
        Command::Check(arguments) => check::check(global, &arguments).await,
        Command::Config { command } => dispatch_config(global, &command),
        Command::Account { command } => account::account(global, command).await,
        Command::Ca { command } => dispatch_ca(global, command).await,
        Command::Alert { command } => dispatch_alert(global, command).await,
        Command::Dns { command } => dns::run(global, &command).await,
        Command::Reload => reload::reload(global).await,
        Command::Deployer(arguments) => deployer::deployer(global, &arguments, sockets).await,
    }
}

fn dispatch_config(global: &Global, command: &ConfigCommand) -> Result<Exit, Ended> {
    match command {
        ConfigCommand::Show { name } => config::show(global, name.as_ref()),
        ConfigCommand::Reference => Ok(config::reference()),
        ConfigCommand::Schema => Ok(config::schema()),
    }
}

async fn dispatch_ca(global: &Global, command: CaCommand) -> Result<Exit, Ended> {
    match command {
        CaCommand::Root { name } => ca::root(global, name.as_ref()).await,
        CaCommand::Init { name, wait } => ca::init(global, name.as_ref(), wait).await,
    }
}

async fn dispatch_alert(global: &Global, command: AlertCommand) -> Result<Exit, Ended> {
    match command {
        AlertCommand::Test => alert::test(global).await,
        AlertCommand::UnitFailed { unit } => alert::unit_failed(global, &unit).await,
    }
}

/// Begins to log. Where the journal suits and is out of reach, as in a sandbox of its own, its
/// stream of lines is not.
fn start_log(arguments: &Arguments) -> Result<(), log::LogError> {
    let (level, color) = (&arguments.global.log_level, has_color(&arguments.global));
    match log::init(log_format(arguments), level, color) {
        Err(log::LogError::Journal(_)) if arguments.global.log_format.is_none() => {
            log::init(log::LogFormat::Text, level, color)
        }
        done => done,
    }
}

/// The log's form: what was asked for, else what suits whoever reads it.
fn log_format(arguments: &Arguments) -> log::LogFormat {
    match arguments.global.log_format {
        Some(LogFormat::Text) => log::LogFormat::Text,
        Some(LogFormat::Json) => log::LogFormat::Json,
        Some(LogFormat::Journald) => log::LogFormat::Journald,
        None => match log::LogFormat::here() {
            // Only the logs of daemon and deployer are read by machines; who runs another command
            // reads it himself, also in what cron sends.
            log::LogFormat::Json
                if !matches!(arguments.command, Command::Run | Command::Deployer(_)) =>
            {
                log::LogFormat::Text
            }
            suited => suited,
        },
    }
}

fn has_color(global: &Global) -> bool {
    match global.color {
        arguments::Color::Always => true,
        arguments::Color::Never => false,
        arguments::Color::Auto => !no_color() && io::stderr().is_terminal(),
    }
}

/// Whether the `NO_COLOR` convention asks for none.
fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty())
}
