//! The whole of renewd in this process, at a scripted CA, with a clock that nobody waits for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use renewd::assemble::{self, Agent, Base};
use renewd::config::{self, Environment};
use renewd::lifecycle::Outcome;
use renewd::model::{
    CertificateSpec, Chain, Event, Failure, Fingerprint, Journal, Observer, PrivateKey, Timestamp,
};
use renewd::plan::Asked;
use renewd::solver::{HandedSockets, Solver};
use renewd::store::Store;
use renewd::sys::clock::Clock;
use tempfile::TempDir;

use crate::ca::{CaOptions, Proofs, ScriptedCa, Step, VirtualClock};
use crate::support::write;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// How the CA behaves; proofs are looked for in the folder of the solver `web`.
    pub(crate) ca: CaOptions,
    /// What the certificate is for.
    pub(crate) names: Vec<String>,
    /// Further lines of the certificate.
    pub(crate) certificate: String,
    /// Further tables of the configuration.
    pub(crate) tables: String,
    /// A clock of renewd's own; by default it has the CA's.
    pub(crate) clock: Option<Arc<VirtualClock>>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            ca: CaOptions::default(),
            names: vec!["site.example".into(), "www.site.example".into()],
            certificate: String::new(),
            tables: String::new(),
            clock: None,
        }
    }
}

/// renewd, its state directory, and its CA.
pub(crate) struct World {
    pub(crate) ca: ScriptedCa,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) agent: Agent,
    pub(crate) base: Base,
    pub(crate) told: Arc<Told>,
    folder: TempDir,
}

/// Everything that was told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Event>>);

impl Observer for Told {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Told {
    /// All events so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

impl World {
    /// At a friendly CA.
    pub(crate) async fn start() -> Self {
        Self::with(Setting::default()).await
    }

    /// At a CA of the given kind.
    pub(crate) async fn with(mut setting: Setting) -> Self {
        // In memory: what a disk does is asked elsewhere, and here would only take time.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        if setting.ca.proofs == Proofs::Accepted {
            setting.ca.proofs = Proofs::Files(folder.path().join("run/acme-challenge"));
        }
        let ca = ScriptedCa::start(setting.ca).await;
        let text = format!(
            "state_dir = \"state\"\nrun_dir = \"run\"\ndeployer = \"direct\"\n\
             terms_of_service_agreed = true\ndefault_ca = \"lab\"\n\
             [ca.lab]\ndirectory = {:?}\ntrust = \"root.pem\"\n{}\n\
             [[certificate]]\nname = \"site\"\ndomains = {:?}\ntargets = []\n{}\n",
            ca.directory(),
            setting.tables,
            setting.names,
            setting.certificate
        );
        write(&folder.path().join("renewd.toml"), text);
        // The CA speaks plain HTTP; without this each client would read all roots of the system.
        write(&folder.path().join("root.pem"), ca.root_pem());
        let clock = setting.clock.unwrap_or_else(|| ca.clock());
        let told = Arc::new(Told::default());
        let base = open(folder.path(), &clock, &told).await;
        let agent = assemble::build(loaded(folder.path()), &base, None).unwrap();
        Self { ca, clock, agent, base, told, folder }
    }

    /// As after a kill and a new start: nothing is left but what is on disk.
    pub(crate) async fn restart(self) -> Self {
        let Self { ca, clock, agent, base, told, folder } = self;
        drop((agent, base));
        let base = open(folder.path(), &clock, &told).await;
        let agent = assemble::build(loaded(folder.path()), &base, None).unwrap();
        Self { ca, clock, agent, base, told, folder }
    }

    /// Has proofs shown in another way, made from the one that is configured.
    pub(crate) fn show_by(&mut self, way: impl Fn(Arc<dyn Solver>) -> Arc<dyn Solver>) {
        let lifecycle = Arc::get_mut(&mut self.agent.lifecycle).unwrap();
        let issuer = Arc::get_mut(&mut lifecycle.issuer).unwrap();
        issuer.solvers.values_mut().for_each(|it| *it = way(it.clone()));
    }

    /// Has orders journalled by `journal`.
    pub(crate) fn journal_by(&mut self, journal: Arc<dyn Journal>) {
        let lifecycle = Arc::get_mut(&mut self.agent.lifecycle).unwrap();
        Arc::get_mut(&mut lifecycle.issuer).unwrap().journal = journal;
    }

    /// As after a change of the configuration and a new start.
    pub(crate) async fn reconfigured(self, edit: impl Fn(&str) -> String) -> Self {
        let file = self.path("renewd.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        write(&file, edit(&text));
        self.restart().await
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The one certificate.
    pub(crate) fn spec(&self) -> CertificateSpec {
        self.agent.config.certificates[0].clone()
    }

    /// Does what is due now.
    pub(crate) async fn work(&self) -> Outcome {
        self.work_asked(Asked::ByTime).await
    }

    /// The same on somebody's wish.
    pub(crate) async fn work_asked(&self, asked: Asked) -> Outcome {
        self.agent.lifecycle.work(&self.spec(), asked).await.unwrap()
    }

    /// Does what is due now for all certificates, one after the other; says how many were renewed.
    pub(crate) async fn work_all(&self) -> usize {
        let mut renewed = 0;
        for spec in &self.agent.config.certificates {
            let outcome = self.agent.lifecycle.work(spec, Asked::ByTime).await.unwrap();
            renewed += usize::from(outcome.renewed);
        }
        renewed
    }

    /// Does what is due, and expects a new certificate.
    #[track_caller]
    pub(crate) fn renewed(&self) -> impl Future<Output = Outcome> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.work().await;
            assert!(outcome.renewed, "at {caller}: {:?} {:?}", outcome.failures, outcome.plan);
            outcome
        }
    }

    /// Does what is due, and expects it to fail, for one reason.
    #[track_caller]
    pub(crate) fn failed(&self) -> impl Future<Output = Failure> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.work().await;
            let [failure] = outcome.failures.as_slice() else {
                panic!("at {caller}: {:?} {:?}", outcome.failures, outcome.plan)
            };
            failure.clone()
        }
    }

    /// Lives through `span` as the daemon does: works, then sleeps until there is something to do.
    /// Says how often it worked.
    pub(crate) async fn live(&self, span: Duration) -> u32 {
        let end = self.now().saturating_add(span);
        let mut rounds = 0;
        while self.now() < end {
            let outcome = self.work().await;
            rounds += 1;
            assert!(rounds < 10_000, "a hot loop: {:?}", outcome.plan);
            let soon = self.now().saturating_add(Duration::from_secs(1));
            self.clock.advance_to(outcome.plan.wake_at().max(soon).min(end));
        }
        rounds
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The certificate that servers read now, which must be a whole and matching pair; none while
    /// there is only a placeholder.
    #[track_caller]
    pub(crate) fn held(&self) -> Option<Fingerprint> {
        let folder = self.path("state/certs/site/current");
        let target = std::fs::read_link(&folder).ok()?;
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let chain = Chain::parse_pem(&read("fullchain.pem")).unwrap();
        let key = PrivateKey::from_pem(&read("privkey.pem")).unwrap();
        assert_eq!(chain.leaf.public_key, key.public_key().unwrap(), "a torn pair");
        (target != Path::new("placeholder")).then_some(chain.leaf.sha256)
    }

    /// The proofs that are visible.
    pub(crate) fn proofs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("run/acme-challenge"));
        let names = entries.into_iter().flatten().map(|it| it.unwrap().file_name());
        names.map(|it| it.into_string().unwrap()).collect()
    }

    /// What is remembered of the renewal.
    pub(crate) fn state(&self) -> serde_json::Value {
        let file = self.path("state/private/certificates/site/state.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    /// How many orders the CA was asked for.
    pub(crate) fn orders(&self) -> u64 {
        self.ca.count(Step::NewOrder)
    }
}

async fn open(folder: &Path, clock: &Arc<VirtualClock>, told: &Arc<Told>) -> Base {
    let config = loaded(folder);
    let clock: Arc<dyn Clock> = clock.clone();
    let store = Store::open(&config.store, clock.clone(), MINUTE).await.unwrap();
    Base {
        store: Arc::new(store),
        clock,
        observer: told.clone(),
        host: "host.example".into(),
        handed: HandedSockets::default(),
    }
}

#[track_caller]
pub(crate) fn loaded(folder: &Path) -> config::Config {
    let loaded = config::load(&folder.join("renewd.toml"), &Environment::default());
    loaded.unwrap_or_else(|faults| panic!("{faults}"))
}
