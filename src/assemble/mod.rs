//! Builds everything from a configuration, once, for the daemon and for every command.
//!
//! Not here: reading the configuration; doing anything with what is built.

mod lasting;
mod report;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::acme::{AccountAction, AccountReport, AcmeClient, AcmeError};
use crate::config::{Ca, Config, DeployerChoice, Severity};
use crate::deploy::{Deployer, DirectDeployer, SocketDeployer};
use crate::issue::{Bookkeeper, Entry, IssueError, Issuer, Request, Twins};
use crate::lifecycle::{Books, Lifecycle, Silences, Timekeeper, digest};
use crate::local_ca::LocalCa;
use crate::model::{
    CaName, CertificateName, CertificateSpec, Fingerprint, Health, KeySource, Notice, Observer,
    SolverName, Timestamp,
};
use crate::observe::Alerts;
use crate::plan::WantedCa;
use crate::plan::backoff::Jitter;
use crate::solver::{
    self, Dns01, DnsLabel, HandedSockets, Solver, SolverError, SolverMethod, SolverSettings,
};
use crate::store::Store;
use crate::sys::clock::Clock;

pub use lasting::{ON_A_NETWORK, PassingState, check_lasting};
pub use report::{RevokeReport, WorkReport, report};

/// What stays the same while configurations come and go.
#[derive(Clone)]
pub struct Base {
    /// The open store.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Hears of everything.
    pub observer: Arc<dyn Observer>,
    /// The machine's host name.
    pub host: String,
    /// What systemd listens on for us.
    pub handed: HandedSockets,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Everything that one configuration stands for.
pub struct Agent {
    /// What it was built from.
    pub config: Config,
    /// What to do for each certificate.
    pub lifecycle: Arc<Lifecycle>,
    /// Who installs files and reloads servers.
    pub deployed_by: DeployedBy,
    direct_deployer: Option<Arc<DirectDeployer>>,
    /// Who is told. The same for all configurations of a process, since it holds what is not yet
    /// delivered: who puts this one in force tells it so ([`Alerts::reconfigure`]).
    pub alerts: Arc<Alerts>,
    /// What is wrong with the agent itself, as far as the configuration shows it.
    pub notices: Vec<Notice>,
}

/// A configuration that was let pass can't be put to work.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A CA's trusted root can't be read, or TLS can't be set up.
    #[error("the CA {ca} can't be used")]
    Ca {
        /// Which one.
        ca: CaName,
        /// Why.
        #[source]
        source: AcmeError,
    },
    /// A solver's settings can't work.
    #[error("the solver {solver} can't be used")]
    Solver {
        /// Which one.
        solver: SolverName,
        /// Why.
        #[source]
        source: SolverError,
    },
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Agent {
    /// The spec named `name`.
    #[must_use]
    pub fn spec(&self, name: &CertificateName) -> Option<&CertificateSpec> {
        self.config.certificates.iter().find(|it| it.name == *name)
    }

    /// Does `action` to the account at `ca`, and says how it stands then and which standing records
    /// in DNS are to be set anew; `None` if there is no such CA with accounts. An account that may
    /// be made is counted before.
    pub async fn tend_account(
        &self,
        ca: &CaName,
        action: AccountAction,
    ) -> Option<Result<AccountReport, IssueError>> {
        let client = self.lifecycle.issuer.clients.get(ca)?;
        let mut report = match self.tend_counted(client, action).await {
            Ok(report) => report,
            error => return Some(error),
        };
        if action.changes_identity() {
            let specs = &self.config.certificates;
            report.changed_records = self.lifecycle.account_changed(ca, specs).await;
        }
        Some(Ok(report))
    }

    async fn tend_counted(
        &self,
        client: &AcmeClient,
        action: AccountAction,
    ) -> Result<AccountReport, IssueError> {
        let (ca, books) = (&client.settings().name, &self.lifecycle.books);
        if !action.may_make() {
            return Ok(client.tend_account(action).await?);
        }
        let before = client.standing_account().await?.map(|it| it.url);
        books.ask(ca, Request::Account).await?;
        let done = client.tend_account(action).await;
        let is_none_made = match &done {
            Ok(report) => report.url == before,
            // The account may be made, and only the look at it fail.
            Err(error) => {
                let after = client.standing_account().await;
                error.is_surely_not_done() && after.is_ok_and(|it| it.map(|it| it.url) == before)
            }
        };
        if is_none_made {
            books.note(ca, Entry::NoAccount).await;
        }
        Ok(done?)
    }

    /// What is to be known of the agent itself: what is wrong with its configuration or with the
    /// clock, and CAs whose terms of service are others by now than those that were agreed to.
    #[must_use]
    pub fn all_notices(&self) -> Vec<Notice> {
        let changed = self.lifecycle.issuer.clients.iter().filter_map(|(ca, client)| {
            let (terms, since) = client.changed_terms()?;
            Some(Notice {
                code: "account.terms_changed".to_owned(),
                health: Health::Ok,
                message: format!("{ca}: the CA has other terms of service now: {terms}"),
                since,
                hint: Some(format!("read them, then run `renewd account update {ca}`")),
            })
        });
        let clock = self.lifecycle.timekeeper.notice();
        self.notices.iter().cloned().chain(changed).chain(clock).collect()
    }
}

/// Builds what `config` stands for. Makes no request and writes nothing.
///
/// What `previous` has and `config` did not change is taken over: clients with their connections
/// and nonces, so that a reload costs the CA nothing.
///
/// # Errors
///
/// Says which part can't be used; nothing of `previous` has been touched then.
pub fn build(
    config: Config,
    base: &Base,
    previous: Option<&Agent>,
) -> Result<Agent, AssembleError> {
    let deployed_by = deployed_by(&config);
    let books = Arc::new(books(&config, base, previous));
    let clients = clients(&config, base, previous)?;
    let known_twins = previous.map(|it| &it.lifecycle.issuer.twins);
    let cas = clients.keys().cloned().collect();
    let issuer = Issuer {
        twins: Twins::among(&config.certificates, &cas, known_twins),
        registering: clients.keys().map(|it| (it.clone(), tokio::sync::Mutex::default())).collect(),
        clients,
        local: local_cas(&config, base),
        solvers: solvers(&config, &base.handed, &deployed_by)?,
        journal: base.store.clone(),
        books: books.clone(),
        clock: base.clock.clone(),
        observer: base.observer.clone(),
    };
    let (deployer, direct_deployer) = deployer(&config, &deployed_by, previous);
    let lifecycle = Lifecycle {
        store: base.store.clone(),
        issuer: Arc::new(issuer),
        books,
        timekeeper: match previous {
            Some(previous) => previous.lifecycle.timekeeper.clone(),
            None => Arc::new(Timekeeper::new(base.store.clone(), base.clock.clone())),
        },
        deployer,
        targets: config.targets.clone(),
        cas: wanted_cas(&config),
        digests: digests(&config),
        knows_all_wanted: !config.alerts.is_partial,
        warning: config.alerts.warning,
        critical: config.alerts.critical,
        clock: base.clock.clone(),
        observer: base.observer.clone(),
        jitter: || Jitter::new(fastrand::f64() * 2.0 - 1.0),
        silences: Silences::default(),
    };
    let alerts = previous.map_or_else(|| alerts(&config, base), |it| it.alerts.clone());
    let notices = notices(&config, &deployed_by, base.clock.now());
    let lifecycle = Arc::new(lifecycle);
    Ok(Agent { config, lifecycle, deployed_by, direct_deployer, alerts, notices })
}

/// Who installs files and reloads servers, as it was settled when everything was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployedBy {
    /// This process.
    ThisProcess,
    /// The deployer, behind this socket.
    Deployer(PathBuf),
}

impl fmt::Display for DeployedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisProcess => f.write_str("renewd itself (direct)"),
            Self::Deployer(path) => write!(f, "the deployer at {}", path.display()),
        }
    }
}

/// What the configuration's choice comes to on this machine, now.
#[must_use]
pub fn deployed_by(config: &Config) -> DeployedBy {
    let path = config.store.deployer_socket();
    match config.deployer {
        DeployerChoice::Direct => DeployedBy::ThisProcess,
        DeployerChoice::Socket => DeployedBy::Deployer(path),
        DeployerChoice::Auto if SocketDeployer::is_there(&path) => DeployedBy::Deployer(path),
        DeployerChoice::Auto => DeployedBy::ThisProcess,
    }
}

/// The deployer, and it again if it is this process. That of `previous` where it does the same; else
/// one that knows what that does to each target.
fn deployer(
    config: &Config,
    by: &DeployedBy,
    previous: Option<&Agent>,
) -> (Arc<dyn Deployer>, Option<Arc<DirectDeployer>>) {
    let is_same = |it: &&Agent| {
        it.config.targets == config.targets
            && it.config.store == config.store
            && it.deployed_by == *by
    };
    if let Some(previous) = previous.filter(is_same) {
        return (previous.lifecycle.deployer.clone(), previous.direct_deployer.clone());
    }
    let settings = &config.store;
    match by {
        DeployedBy::Deployer(path) => {
            (Arc::new(SocketDeployer::new(path.clone(), &config.targets)), None)
        }
        DeployedBy::ThisProcess => {
            let deployer = DirectDeployer::new(
                settings.certs_dir(),
                settings.private_dir().join("previous"),
                config.targets.clone(),
            );
            let before = previous.and_then(|it| it.direct_deployer.as_deref());
            let deployer = Arc::new(match before {
                Some(before) => deployer.in_place_of(before),
                None => deployer,
            });
            (deployer.clone(), Some(deployer))
        }
    }
}

fn alerts(config: &Config, base: &Base) -> Arc<Alerts> {
    Arc::new(Alerts::new(
        config.alerts.clone(),
        base.store.clone(),
        base.clock.clone(),
        base.host.clone(),
        base.observer.clone(),
    ))
}

fn clients(
    config: &Config,
    base: &Base,
    previous: Option<&Agent>,
) -> Result<BTreeMap<CaName, Arc<AcmeClient>>, AssembleError> {
    let mut clients = BTreeMap::new();
    for (name, ca) in &config.cas {
        let Ca::Acme(settings) = ca else { continue };
        let known = previous.and_then(|it| it.lifecycle.issuer.clients.get(name));
        let client = match known.filter(|it| it.settings() == settings && it.trusts_what_is_there())
        {
            Some(client) => client.clone(),
            None => {
                let client =
                    AcmeClient::new(settings.clone(), base.store.clone(), base.clock.clone());
                Arc::new(client.map_err(|source| AssembleError::Ca { ca: name.clone(), source })?)
            }
        };
        clients.insert(name.clone(), client);
    }
    Ok(clients)
}

/// The books, which go on from `previous`: what was spent stays spent.
fn books(config: &Config, base: &Base, previous: Option<&Agent>) -> Books {
    let limits = config.cas.iter().filter_map(|(name, ca)| match ca {
        Ca::Acme(settings) => Some((name.clone(), settings.limits.clone())),
        Ca::Local(_) => None,
    });
    let limits = limits.collect();
    match previous {
        Some(previous) => previous.lifecycle.books.with_limits(limits),
        None => Books::new(base.store.clone(), limits, base.clock.clone()),
    }
}

fn local_cas(config: &Config, base: &Base) -> BTreeMap<CaName, Arc<LocalCa>> {
    let built = config.cas.iter().filter_map(|(name, ca)| match ca {
        Ca::Local(settings) => {
            Some((name.clone(), Arc::new(LocalCa::new(settings.clone(), base.store.clone()))))
        }
        Ca::Acme(_) => None,
    });
    built.collect()
}

fn solvers(
    config: &Config,
    handed: &HandedSockets,
    by: &DeployedBy,
) -> Result<BTreeMap<SolverName, Arc<dyn Solver>>, AssembleError> {
    let made = |settings: &SolverSettings| -> Result<Arc<dyn Solver>, SolverError> {
        match (&settings.method, by) {
            // Beside a deployer this process has the network and the secrets, and runs nothing.
            (SolverMethod::Dns01(dns), DeployedBy::Deployer(_)) => {
                Ok(Arc::new(Dns01::without_programs(DnsLabel::Common, dns)?))
            }
            (SolverMethod::DnsAccount01(dns), DeployedBy::Deployer(_)) => {
                Ok(Arc::new(Dns01::without_programs(DnsLabel::OfAccount, dns)?))
            }
            _ => solver::build(settings, handed),
        }
    };
    let build = |(name, settings): (&SolverName, _)| match made(settings) {
        Ok(solver) => Ok((name.clone(), solver)),
        Err(source) => Err(AssembleError::Solver { solver: name.clone(), source }),
    };
    config.solvers.iter().map(build).collect()
}

fn wanted_cas(config: &Config) -> BTreeMap<CaName, WantedCa> {
    let wanted = config.cas.iter().map(|(name, ca)| {
        let wanted = WantedCa {
            name: name.clone(),
            directory: ca.directory(),
            test: ca.is_test(),
            wants_proof: matches!(ca, Ca::Acme(_)),
        };
        (name.clone(), wanted)
    });
    wanted.collect()
}

/// For each certificate a digest of its CAs and solvers and of what is ordered, so that a change of
/// any of them is tried at once. Their `Debug` form shows no secret.
fn digests(config: &Config) -> BTreeMap<CertificateName, String> {
    let of_one = |spec: &CertificateSpec| {
        let mut parts = vec![format!("{:?}", (&spec.identifiers, spec.key_type, &spec.profile))];
        parts.extend(spec.cas.iter().map(|it| format!("{:?}", config.cas.get(it))));
        parts.extend(spec.cas.iter().filter_map(|it| binding(config.cas.get(it)?)));
        parts.extend(spec.solvers.values().map(|it| format!("{:?}", config.solvers.get(it))));
        // A CA may refuse a key that it has seen.
        parts.extend(spec.request().map(|it| it.sha256.to_string()));
        parts.extend((spec.key_source == KeySource::Kept).then(|| "reuse_key".to_owned()));
        (spec.name.clone(), digest(&parts))
    };
    config.certificates.iter().map(of_one).collect()
}

/// What tells one key of an external account binding from another, and is none itself.
fn binding(ca: &Ca) -> Option<String> {
    let Ca::Acme(settings) = ca else { return None };
    let binding = settings.external_account_binding.as_ref()?;
    Some(Fingerprint::of(binding.hmac_key.reveal().as_bytes()).to_string())
}

/// Warnings of the configuration as the status shows them.
fn notices(config: &Config, deployed_by: &DeployedBy, since: Timestamp) -> Vec<Notice> {
    let mut notices = Vec::new();
    if !config.targets.is_empty() {
        notices.push(Notice {
            code: "agent.deployer".to_owned(),
            health: Health::Ok,
            message: format!("files are installed and servers reloaded by {deployed_by}"),
            since,
            hint: None,
        });
    }
    if config.alerts.receivers.is_empty() && config.alerts.heartbeat_url.is_none() {
        notices.push(Notice {
            code: "agent.silent".to_owned(),
            health: Health::Ok,
            message: "nobody will be told of trouble: there is no [[alert]] and no heartbeat"
                .to_owned(),
            since,
            hint: Some("add an [[alert]] to the configuration".to_owned()),
        });
    }
    notices.extend(lasting::on_a_network(config, since));
    if config.alerts.is_partial {
        let entries = config.rejected.iter().map(ToString::to_string);
        let files = config.rejected_files.iter().map(|it| it.display().to_string());
        let mut refused: Vec<String> = entries.chain(files).collect();
        if refused.is_empty() {
            // Of an entry without a name, or of what is no certificate, only the place is known.
            let faults = config.warnings.iter().filter(|it| it.severity == Severity::Rejection);
            let texts = faults.take(5).map(ToString::to_string);
            refused.extend(texts.filter_map(|it| it.lines().next().map(str::to_owned)));
        }
        let rest = if config.certificates.iter().any(|it| config.has_rejected(it)) {
            "until the next start what was in force of them stays"
        } else {
            "what they ask for is neither renewed nor watched"
        };
        notices.push(Notice {
            code: "config.rejected".to_owned(),
            health: Health::Warning,
            message: format!(
                "parts of included files were refused: {}; {rest}",
                refused.join(", ")
            ),
            since,
            hint: Some("run `renewd check`".to_owned()),
        });
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::testing::base;
    use super::*;
    use crate::config::{self, Environment};
    use crate::sys::atomic::{self, Access};
    use crate::sys::clock::SystemClock;

    /// P03: a reload while the former configuration is at work on a target.
    #[tokio::test]
    async fn a_new_configuration_knows_what_is_done_to_the_targets_of_the_former() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let config = |timeout: &str| {
            let text = format!(
                "state_dir = \"state\"\nrun_dir = \"run\"\ndeployer = \"direct\"\n\
                 default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
                 [target.web]\ntype = \"other\"\nverify_timeout = \"{timeout}\"\n\
                 [[certificate]]\ndomains = [\"a.example\"]\ntargets = [\"web\"]\n"
            );
            atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
            config::load(&file, &Environment::default()).unwrap()
        };
        let base = base(&config("10s"), Arc::new(SystemClock::new())).await;
        let former = build(config("10s"), &base, None).unwrap();
        let present = build(config("20s"), &base, Some(&former)).unwrap();
        assert_ne!(former.config.targets, present.config.targets);
        let deployer = |agent: &Agent| agent.direct_deployer.clone().unwrap();
        assert!(deployer(&present).shares_turns_with(&deployer(&former)));
        let stranger = build(config("20s"), &base, None).unwrap();
        assert!(!deployer(&present).shares_turns_with(&deployer(&stranger)));
    }
}
