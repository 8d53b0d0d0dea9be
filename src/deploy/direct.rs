//! The deployer in this process: for containers, for machines without systemd, and behind the
//! deployer's socket, where it works for a [`Client`] whom it does not trust.
//!
//! One target does one thing at a time: a test never runs beside a reload or between the renames of
//! an install. Targets do not wait for each other.
//!
//! Nothing is waited for without a limit: a mount that hangs would be waited for for ever. What
//! hangs keeps its target, and whoever wants something there is told what does not end.
//!
//! Not here: asking the servers what they serve ([`super::verify()`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::client::Client;
use super::lent::Lent;
use super::placement::Placement;
use super::programs::Launch;
use super::reach::Reach;
use super::source::Material;
use super::turn::{Endless, Held, Turn};
use super::{
    DeployError, DeployRequest, Deployer, Doing, InstallError, Installed, ReloadError,
    ReloadSettings, SourceError, TargetSettings, install, programs,
};
use crate::model::{CertificateName, TargetName, chain_text};

/// How long anything may take that is done to a target's files; a mount that hangs takes for ever.
const FILES_LIMIT: Duration = Duration::from_secs(30);

/// How long a test or a reload may take beside its program, which a test may run twice: to look it
/// up, to lend it files, to end it.
const MARGIN: Duration = Duration::from_secs(45);

/// Does everything by itself, with the rights of this process.
#[derive(Debug)]
pub struct DirectDeployer {
    certs_dir: PathBuf,
    previous_dir: PathBuf,
    targets: BTreeMap<TargetName, Target>,
    /// For whom it works; `None`: for this process.
    client: Option<Arc<Client>>,
    limits: Limits,
}

/// How long what has no limit of its own may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    files: Duration,
    beside_programs: Duration,
}

#[derive(Debug)]
struct Target {
    settings: TargetSettings,
    shared: Arc<Shared>,
}

/// What a deployer has in common with the one whose place it takes.
#[derive(Debug, Default)]
struct Shared {
    /// Reloads that were ever asked for.
    reloads_asked: AtomicU64,
    last_reload: Mutex<LastReload>,
    /// Whose turn it is to do anything to the target.
    at_work: Arc<Turn>,
    /// Whose turn it is to look whether it could take a certificate.
    looked_at: Arc<Turn>,
}

/// How the last reload that serves all certificates went.
#[derive(Debug, Default)]
struct LastReload {
    /// Whom it served: every request up to this one had been made when it began.
    serves: u64,
    /// As what settings said.
    settings: Option<ReloadSettings>,
    failed: Option<Arc<ReloadError>>,
}

impl DirectDeployer {
    /// For `targets`, with the store's certificates in `certs_dir`. `previous_dir` (made with mode
    /// 0700) is its own: it keeps there what installs replaced, and what a crash needs. With a
    /// client the folder `lent` beside it is its own too.
    #[must_use]
    pub fn new(
        certs_dir: PathBuf,
        previous_dir: PathBuf,
        targets: BTreeMap<TargetName, TargetSettings>,
    ) -> Self {
        let target = |settings| Target { settings, shared: Arc::default() };
        let targets = targets.into_iter().map(|(name, it)| (name, target(it))).collect();
        let limits = Limits { files: FILES_LIMIT, beside_programs: MARGIN };
        Self { certs_dir, previous_dir, targets, client: None, limits }
    }

    /// Works for `client` from now on: what it asks for has to be allowed to it, what it has stored
    /// is taken for a stranger's, and only programs that nobody but root can change are run.
    #[must_use]
    pub fn on_behalf_of(mut self, client: Client) -> Self {
        self.client = Some(Arc::new(client));
        self
    }

    /// Takes the place of `previous`, which may be at work still: neither does anything to a target
    /// beside the other.
    #[must_use]
    pub fn in_place_of(mut self, previous: &Self) -> Self {
        for (name, target) in &mut self.targets {
            if let Some(before) = previous.targets.get(name) {
                target.shared = Arc::clone(&before.shared);
            }
        }
        self
    }

    /// Whether each target of this one has its turns in common with `other`.
    #[cfg(test)]
    pub(crate) fn shares_turns_with(&self, other: &Self) -> bool {
        self.targets.iter().all(|(name, it)| {
            other.targets.get(name).is_some_and(|other| Arc::ptr_eq(&it.shared, &other.shared))
        })
    }

    /// The target of `request`, if it may be asked for.
    fn target(&self, request: &DeployRequest) -> Result<&Target, DeployError> {
        self.target_of(&request.certificate, &request.target)
    }

    /// The target called `name`, if anything may be asked for `certificate` there.
    fn target_of(
        &self,
        certificate: &CertificateName,
        name: &TargetName,
    ) -> Result<&Target, DeployError> {
        if let Some(client) = &self.client {
            client.check(certificate, name)?;
        }
        self.targets.get(name).ok_or_else(|| DeployError::UnknownTarget { target: name.clone() })
    }

    fn placement(&self, request: &DeployRequest) -> Placement {
        Placement::new(&self.previous_dir, &request.target, &request.certificate)
    }

    /// How programs are started in the `turn` of a target.
    fn launch(&self, turn: &Arc<Held>) -> Launch {
        Launch::on_behalf_of(self.client.clone()).in_turn(turn)
    }

    /// How long a program of `target` may take, with all that belongs to it.
    fn program_limit(&self, target: &Target) -> Duration {
        let programs = target.settings.longest_program().saturating_mul(2);
        programs.saturating_add(self.limits.beside_programs)
    }

    /// A client's generation, if it is what it should be before a server is told of it.
    async fn check_material(
        &self,
        request: &DeployRequest,
    ) -> Result<Option<Material>, DeployError> {
        if self.client.is_some() { self.material(request).await.map(Some) } else { Ok(None) }
    }

    /// A copy of `material` for a program that may read it, if it is a stranger's. The `turn` has
    /// to be this one's alone.
    async fn lend(
        &self,
        request: &DeployRequest,
        material: Option<Material>,
        turn: &Arc<Held>,
    ) -> Result<Option<Lent>, DeployError> {
        let (Some(client), Some(material)) = (self.client.clone(), material) else {
            return Ok(None);
        };
        let (lent_dir, wanted) = (self.previous_dir.with_file_name("lent"), request.clone());
        let turn = Arc::clone(turn);
        let lend = move || {
            let lend = |_stranger| Lent::new(&lent_dir, &wanted, &material);
            let lent = client.stranger().map(lend).transpose();
            drop(turn);
            lent
        };
        let lent = spawn_blocking(lend).await.unwrap_or_else(|it| Err(InstallError::BrokenOff(it)));
        lent.map_err(install_failed(&request.target))
    }

    /// Reads the generation, so that nothing is deployed that is not whole.
    async fn material(&self, request: &DeployRequest) -> Result<Material, DeployError> {
        let DeployRequest { certificate, generation, target } = request.clone();
        let (certs_dir, name) = (self.certs_dir.clone(), certificate.clone());
        let client = self.client.clone();
        let read = move || {
            let demands = client.as_ref().and_then(|it| it.demands(&name));
            Material::read(&certs_dir, &name, generation, demands)
        };
        let limit = self.limits.files;
        let read = match timeout(limit, spawn_blocking(read)).await {
            Ok(read) => read.map_err(InstallError::BrokenOff).map_err(install_failed(&target))?,
            Err(_late) => Err(SourceError::Silent { folder: self.certs_dir.clone(), limit }),
        };
        read.map_err(|source| DeployError::Source { certificate, generation, source })
    }

    /// Does `work`, which blocks and changes files of `target`, in its turn.
    async fn change<T: Send + 'static>(
        &self,
        target: &Target,
        doing: Doing,
        work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
    ) -> Result<T, DeployError> {
        let failed = install_failed(&target.settings.name);
        let work = move || work().map_err(failed);
        self.blocking(target, &target.shared.at_work, doing, work).await
    }

    /// Does `work`, which blocks, in the `turn` of `target`. What does not end keeps the turn, and
    /// is not waited for.
    async fn blocking<T: Send + 'static>(
        &self,
        target: &Target,
        turn: &Arc<Turn>,
        doing: Doing,
        work: impl FnOnce() -> Result<T, DeployError> + Send + 'static,
    ) -> Result<T, DeployError> {
        let limit = self.limits.files;
        let held = turn.take(doing, limit).await.map_err(|it| target.silent(it))?;
        let working = spawn_blocking(move || {
            let done = work();
            drop(held);
            done
        });
        let broken_off =
            |error| install_failed(&target.settings.name)(InstallError::BrokenOff(error));
        let working = async { working.await.map_err(broken_off)? };
        target.within(limit, doing, working).await
    }

    /// Accepts the files of `request`, which its server is told to load. The `turn` has to be this
    /// one's alone. That they can't be accepted is told, and no reason to go without a reload:
    /// earlier ones are put back then if the next are refused.
    async fn accept(&self, target: &Target, request: &DeployRequest, turn: &Arc<Held>) {
        let (settings, certificate) = (target.settings.install.clone(), &request.certificate);
        let (placement, name) = (self.placement(request), certificate.clone());
        let (turn, client) = (Arc::clone(turn), self.client.clone());
        let accept = move || {
            let stranger = client.and_then(|it| it.stranger());
            let accepted = install::accept(&settings, &name, &placement, stranger.as_ref());
            drop(turn);
            accepted
        };
        // Whoever comes next is told what does not end.
        let Ok(accepted) = timeout(self.limits.files, spawn_blocking(accept)).await else { return };
        let why = match accepted.map_err(InstallError::BrokenOff).flatten() {
            Ok(true) => return,
            Ok(false) => "they are not what was put there".to_owned(),
            Err(error) => chain_text(&error),
        };
        let target = &request.target;
        tracing::warn!(%certificate, %target, error = why, "files are loaded and not accepted");
    }

    /// Repairs all files of `target` that a crash left.
    async fn repair_target(&self, target: &Target) -> Result<(), DeployError> {
        let (previous_dir, client) = (self.previous_dir.clone(), self.client.clone());
        let settings = target.settings.clone();
        let work = move || repair_all(&previous_dir, &settings, client.as_deref());
        self.change(target, Doing::Repair, work).await
    }
}

#[async_trait]
impl Deployer for DirectDeployer {
    /// Targets side by side. The first error is returned, and all others are in the log.
    async fn repair(&self) -> Result<(), DeployError> {
        let repaired = join_all(self.targets.values().map(|it| self.repair_target(it))).await;
        let mut errors = repaired.into_iter().filter_map(Result::err);
        let first = errors.next();
        for error in errors {
            tracing::warn!(error = chain_text(&error), "what a crash left can't be put right");
        }
        first.map_or(Ok(()), Err)
    }

    async fn check(
        &self,
        certificate: &CertificateName,
        target: &TargetName,
    ) -> Result<(), DeployError> {
        let known = self.target_of(certificate, target)?;
        if let Some(endless) = known.shared.at_work.endless() {
            return Err(known.silent(endless));
        }
        let settings = known.settings.clone();
        let (certificate, client) = (certificate.clone(), self.client.clone());
        let look = move || check(&settings, &certificate, client);
        self.blocking(known, &known.shared.looked_at, Doing::Look, look).await
    }

    async fn install(&self, request: &DeployRequest) -> Result<Installed, DeployError> {
        let target = self.target(request)?;
        if target.settings.install.is_empty() {
            self.check_material(request).await?;
            return Ok(Installed::Nothing);
        }
        let material = self.material(request).await?;
        let settings = target.settings.install.clone();
        let (certificate, placement) = (request.certificate.clone(), self.placement(request));
        let client = self.client.clone();
        let work = move || {
            let stranger = client.and_then(|it| it.stranger());
            let reach = Reach::new(&settings, &certificate, stranger);
            install::install(&settings, &material, &certificate, &placement, &reach)
        };
        self.change(target, Doing::Install, work).await
    }

    async fn test(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let material = self.check_material(request).await?;
        let Some(settings) = &target.settings.test else { return Ok(()) };
        let limit = self.program_limit(target);
        let turn = target.take(Doing::Test, limit).await?;
        let testing = async {
            let material = material.filter(|_| !programs::steers_servers(settings));
            let lent = self.lend(request, material, &turn).await?;
            let certs_dir = lent.as_ref().map_or(&*self.certs_dir, Lent::certs_dir);
            let tested = programs::test(settings, request, certs_dir, self.launch(&turn)).await;
            tested.map_err(|source| DeployError::Test {
                target: request.target.clone(),
                command: programs::command_line(settings),
                source,
            })
        };
        target.within(limit, Doing::Test, testing).await
    }

    async fn reload(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let material = self.check_material(request).await?;
        let limit = self.program_limit(target);
        let Some(settings) = &target.settings.reload else {
            if !target.settings.install.is_empty() {
                let turn = target.take(Doing::Reload, limit).await?;
                self.accept(target, request, &turn).await;
            }
            return Ok(());
        };
        if programs::serves_all(settings) {
            return self.reload_once(target, settings, request).await;
        }
        let turn = target.take(Doing::Reload, limit).await?;
        self.accept(target, request, &turn).await;
        let reloading = async {
            let lent = self.lend(request, material, &turn).await?;
            let certs_dir = lent.as_ref().map_or(&*self.certs_dir, Lent::certs_dir);
            let reloaded = programs::reload(settings, request, certs_dir, self.launch(&turn)).await;
            reloaded.map_err(|error| target.reload_failed(Arc::new(error)))
        };
        target.within(limit, Doing::Reload, reloading).await
    }

    async fn put_back(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let settings = target.settings.install.clone();
        if settings.is_empty() {
            return Ok(());
        }
        let (certificate, placement) = (request.certificate.clone(), self.placement(request));
        let client = self.client.clone();
        let work = move || {
            let stranger = client.and_then(|it| it.stranger());
            let reach = Reach::new(&settings, &certificate, stranger);
            install::put_back(&settings, &certificate, &placement, &reach)
        };
        if self.change(target, Doing::PutBack, work).await? {
            return Ok(());
        }
        let DeployRequest { certificate, target, .. } = request.clone();
        Err(DeployError::NothingKept { certificate, target })
    }
}

impl DirectDeployer {
    /// Reloads, unless a reload that began after this was asked for has done so.
    async fn reload_once(
        &self,
        target: &Target,
        settings: &ReloadSettings,
        request: &DeployRequest,
    ) -> Result<(), DeployError> {
        let shared = &target.shared;
        let mine = shared.reloads_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let limit = self.program_limit(target);
        let turn = target.take(Doing::Reload, limit).await?;
        self.accept(target, request, &turn).await;
        let last = || shared.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        let is_served =
            |it: &LastReload| it.serves >= mine && it.settings.as_ref() == Some(settings);
        if !is_served(&last()) {
            let serves = shared.reloads_asked.load(Ordering::SeqCst);
            let launch = self.launch(&turn);
            let reloading =
                async { Ok(programs::reload(settings, request, &self.certs_dir, launch).await) };
            let reloaded = target.within(limit, Doing::Reload, reloading).await?;
            let failed = reloaded.err().map(Arc::new);
            *last() = LastReload { serves, settings: Some(settings.clone()), failed };
        }
        last().failed.clone().map_or(Ok(()), |error| Err(target.reload_failed(error)))
    }
}

impl Target {
    /// Takes the turn to do something that may take as long as `limit`.
    async fn take(&self, doing: Doing, limit: Duration) -> Result<Arc<Held>, DeployError> {
        self.shared.at_work.take(doing, limit).await.map_err(|it| self.silent(it))
    }

    /// What comes of `work` within `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        doing: Doing,
        work: impl Future<Output = Result<T, DeployError>>,
    ) -> Result<T, DeployError> {
        let late = |_| Err(self.silent(Endless { doing, ago: limit }));
        timeout(limit, work).await.unwrap_or_else(late)
    }

    fn silent(&self, Endless { doing, ago }: Endless) -> DeployError {
        let settings = &self.settings;
        let tests = settings.test.iter().map(programs::command_line);
        let reloads = settings.reload.iter().map(programs::reload_line);
        let places = match doing {
            Doing::Repair | Doing::Install | Doing::PutBack => settings.folders(),
            Doing::Test => tests.collect(),
            Doing::Reload => reloads.chain(settings.folders()).collect(),
            Doing::Look => settings.folders().into_iter().chain(tests).chain(reloads).collect(),
        };
        DeployError::Silent { target: settings.name.clone(), doing, ago, places }
    }

    fn reload_failed(&self, source: Arc<ReloadError>) -> DeployError {
        DeployError::Reload { target: self.settings.name.clone(), source }
    }
}

fn install_failed(target: &TargetName) -> impl FnOnce(InstallError) -> DeployError + use<> {
    let target = target.clone();
    |source| DeployError::Install { target, source }
}

/// Whether a target with `settings` could be handed a new `certificate` on behalf of `client`.
/// Blocks.
fn check(
    settings: &TargetSettings,
    certificate: &CertificateName,
    client: Option<Arc<Client>>,
) -> Result<(), DeployError> {
    let target = || settings.name.clone();
    let stranger = client.as_ref().and_then(|it| it.stranger());
    install::check_folders(&settings.install, certificate, stranger.as_ref())
        .and_then(|()| install::check_writable(&settings.install, certificate))
        .map_err(install_failed(&settings.name))?;
    let launch = Launch::on_behalf_of(client);
    if let Some(test) = &settings.test {
        programs::check(test, &launch).map_err(|source| DeployError::Test {
            target: target(),
            command: programs::command_line(test),
            source,
        })?;
    }
    let Some(reload) = &settings.reload else { return Ok(()) };
    programs::check_reload(reload, &launch)
        .map_err(|error| DeployError::Reload { target: target(), source: Arc::new(error) })
}

/// Finishes or undoes what a crash interrupted at the target with `settings`, within what `client`
/// may have done there. Blocks.
fn repair_all(
    previous_dir: &Path,
    settings: &TargetSettings,
    client: Option<&Client>,
) -> Result<(), InstallError> {
    let mut result = Ok(());
    let target = &settings.name;
    let entries = fs::read_dir(previous_dir.join(target.as_str()));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_str().map(str::parse::<CertificateName>);
        let Some(Ok(certificate)) = name else { continue };
        let reach = Reach::for_client(&settings.install, &certificate, target, client);
        let repaired = Placement::new(previous_dir, target, &certificate).repair(&reach);
        if result.is_ok() {
            result = repaired;
        }
    }
    result
}

#[cfg(test)]
mod tests;
