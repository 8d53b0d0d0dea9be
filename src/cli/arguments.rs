//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::{CaName, CertificateName, Identifier, RevocationReason, SolverName};

/// Keeps TLS certificates alive: orders and renews them, hands them to servers, proves that they
/// are served, and warns while there is still time.
#[derive(Debug, Parser)]
#[command(name = "renewd", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 as wanted; 1 something failed, or an open warning; 2 usage; \
3 configuration; 4 waited for another process in vain; 5 the state directory can't be used; \
6 critical: what is served is wrong, expired, or soon will be."
)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        env = "RENEWD_CONFIG",
        value_name = "FILE",
        default_value = "/etc/renewd/renewd.toml"
    )]
    pub config: PathBuf,
    /// Print JSON where something is shown.
    #[arg(long, global = true)]
    pub json: bool,
    /// The form of the log on standard error; by default journald under systemd, and else text, but
    /// JSON of `run` and `deployer` where that is no terminal.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Whether to use colour; `NO_COLOR` turns it off too.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A short line for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Structured entries to systemd's journal.
    Journald,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground. SIGHUP reloads the configuration, SIGTERM ends it.
    Run,
    /// Bring what is due to served, and end. Named certificates need not wait after failures.
    Renew(RenewArguments),
    /// Show what would be done now, and why.
    Plan {
        /// Which certificates; all if none is named.
        names: Vec<CertificateName>,
    },
    /// Show what is wanted, held and served, the next try, and why.
    Status(StatusArguments),
    /// Show everything about one certificate: its files, and the lines for the server.
    Show {
        /// Which one.
        name: CertificateName,
    },
    /// Hand certificates to their servers again: install, test, reload, verify.
    Deploy(DeployArguments),
    /// Have the CA revoke a certificate, for good; and replace it, if its key is in other hands or
    /// --reissue is given.
    Revoke(RevokeArguments),
    /// Check the configuration and the world that it names. Changes nothing.
    Check(CheckArguments),
    /// Show the configuration in force, or the reference of all keys.
    Config {
        /// What to show.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Send alerts by hand, to see that they arrive.
    Alert {
        /// What to do.
        #[command(subcommand)]
        command: AlertCommand,
    },
    /// The account at a CA: how it stands, its contacts, its key, its end.
    Account {
        /// What to do.
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// The built-in CA: its roots, for trust stores.
    Ca {
        /// What to do.
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Try the ways in which DNS is changed.
    Dns {
        /// What to do.
        #[command(subcommand)]
        command: DnsCommand,
    },
    /// Have the running daemon read its configuration again.
    Reload,
    /// Install files and reload servers as root, for the daemon; started by systemd.
    #[command(hide = true)]
    Deployer(DeployerArguments),
}

/// For whom to deploy.
#[derive(Debug, Args)]
pub struct DeployerArguments {
    /// The one user who may ask: the daemon's.
    #[arg(long, value_name = "NAME", default_value = "renewd")]
    pub user: String,
    /// Where earlier files are kept, so that they can be put back; by default where systemd says.
    #[arg(long, value_name = "FOLDER", env = "STATE_DIRECTORY", hide_env = true)]
    #[arg(default_value = "/var/lib/renewd-deployer")]
    pub state_dir: PathBuf,
    /// End when the standard input ends: for whoever starts a deployer and can't signal it later.
    #[arg(long)]
    pub until_input_ends: bool,
}

/// What to renew, and how.
#[derive(Debug, Args)]
pub struct RenewArguments {
    /// Which certificates; all that are due if none is named.
    pub names: Vec<CertificateName>,
    /// What is done that is not done by itself.
    #[command(flatten)]
    pub beyond: Beyond,
    /// Go the whole way at a CA for tests, with an account and folder of its own; nothing live is
    /// touched.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: the CA for tests to go to, in place of the twin of the certificate's own.
    #[arg(long, value_name = "CA", requires = "dry_run")]
    pub ca: Option<CaName>,
    /// How long to wait for another process, or for the daemon's work; then exit code 4.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
}

/// What a renewal does only where a human wants it.
#[derive(Clone, Copy, Debug, Args)]
pub struct Beyond {
    /// Also what is not due. The CA's own limits still hold.
    #[arg(long)]
    pub force: bool,
    /// Let a certificate of a CA for tests replace one of a real CA. No browser trusts it.
    #[arg(long)]
    pub allow_untrusted: bool,
}

/// What to show.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Which certificates; all if none is named.
    pub names: Vec<CertificateName>,
    /// Ask every server now what it serves.
    #[arg(long)]
    pub probe: bool,
    /// Exit with 1 on a warning and 6 on what is critical, or with 6 on that alone.
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
}

/// From which severity on `status` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// On any trouble.
    Warning,
    /// On what is critical.
    Critical,
}

/// What to hand over.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// Which certificates; all if none is named.
    pub names: Vec<CertificateName>,
    /// Only what is not served yet.
    #[arg(long)]
    pub pending: bool,
    /// How long to wait for another process, or for the daemon's work; then exit code 4.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
}

/// What to revoke, and how.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// Which one.
    pub name: CertificateName,
    /// Why: unspecified, keyCompromise, affiliationChanged, superseded or cessationOfOperation.
    #[arg(long, value_name = "REASON", default_value_t)]
    pub reason: RevocationReason,
    /// Which key asks for it.
    #[arg(long, value_name = "KEY", default_value = "account")]
    pub key: RevokeKey,
    /// What comes in its place.
    #[command(flatten)]
    pub successor: Successor,
    /// Really do it.
    #[arg(long)]
    pub yes: bool,
    /// How long to wait for another process, or for the daemon's work; then exit code 4.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
}

/// What comes in a revoked certificate's place.
#[derive(Clone, Copy, Debug, Args)]
pub struct Successor {
    /// Put another certificate in its place first; with keyCompromise, right after.
    #[arg(long, conflicts_with = "no_reissue")]
    pub reissue: bool,
    /// Put no other in its place out of turn, not even with keyCompromise.
    #[arg(long)]
    pub no_reissue: bool,
}

/// Which key asks for a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RevokeKey {
    /// That of the account.
    Account,
    /// The certificate's own.
    Certificate,
}

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Print the settings that systemd's units need for this configuration, as drop-in files.
    #[arg(long)]
    pub systemd: bool,
}

/// What to show of the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// What is in force, and where each value comes from.
    Show {
        /// Only this certificate.
        name: Option<CertificateName>,
    },
    /// Every key, with its default and meaning.
    Reference,
    /// The JSON Schema of the configuration.
    Schema,
}

/// What to do about an account.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Ask the CA how the account stands.
    Show(WhichAccount),
    /// Tell the CA the contacts of the configuration, and agree to its terms of service of today.
    Update(WhichAccount),
    /// Give the account another key. Killed at any moment, the next use goes on with the key that
    /// the CA knows.
    Rollover(WhichAccount),
    /// End the account for good. Nothing is ordered from the CA until another is registered.
    Deactivate {
        /// Which one.
        #[command(flatten)]
        which: WhichAccount,
        /// Really do it.
        #[arg(long)]
        yes: bool,
    },
    /// Register an account now: the first, or one in place of one that was deactivated or
    /// forgotten.
    Register {
        /// Which one.
        #[command(flatten)]
        which: WhichAccount,
        /// Set aside also an account that the CA may still know.
        #[arg(long)]
        replace: bool,
    },
}

/// Which account.
#[derive(Clone, Debug, Args)]
pub struct WhichAccount {
    /// At which CA; needed if the certificates come from several.
    pub ca: Option<CaName>,
    /// How long to wait for another process, or for the daemon's work; then exit code 4.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
}

/// What to do about the built-in CA.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Print the roots that belong into trust stores, as PEM. Makes nothing.
    Root {
        /// Which CA; needed if there are several of type local.
        name: Option<CaName>,
    },
    /// Make the root now, not with the first certificate, and print it. One that is there stays.
    Init {
        /// Which CA; needed if there are several of type local.
        name: Option<CaName>,
        /// How long to wait for another process; then exit code 4.
        #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
}

/// What to do about alerts.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Send a test message to every receiver.
    Test,
    /// Tell every receiver that a unit of systemd failed; for `OnFailure=`.
    UnitFailed {
        /// The unit, such as renewd.service.
        unit: String,
    },
}

/// What to do about DNS.
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Prove a solver without a CA: add a record, see it at every name server, remove it, see it
    /// gone.
    Test {
        /// The solver, as the configuration calls it.
        solver: SolverName,
        /// The name that it is to prove; the record goes below it.
        name: Identifier,
    },
    /// Print the TXT records that dns-persist-01 wants for a certificate, and what is there. Places
    /// an order to see what the CA wants, and gives it up.
    Persist {
        /// The certificate.
        name: CertificateName,
    },
}
