//! The deployer in this process: for containers, for machines without systemd, and behind the
//! deployer's socket, where it works for a [`Client`] whom it does not trust.
//!
//! One target does one thing at a time: a test never runs beside a reload or between the renames of
//! an install. Targets do not wait for each other.
//!
//! Not here: asking the servers what they serve ([`super::verify()`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::client::Client;
use super::lent::Lent;
use super::placement::Placement;
use super::programs::Launch;
use super::source::Material;
use super::{
    DeployError, DeployRequest, Deployer, InstallError, Installed, ReloadError, ReloadSettings,
    TargetSettings, install, programs,
};
use crate::model::{CertificateName, TargetName};

/// How long a look at a target's folders may take; a mount that hangs takes for ever.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Does everything by itself, with the rights of this process.
#[derive(Debug)]
pub struct DirectDeployer {
    certs_dir: PathBuf,
    previous_dir: PathBuf,
    targets: BTreeMap<TargetName, Target>,
    /// For whom it works; `None`: for this process.
    client: Option<Arc<Client>>,
}

#[derive(Debug)]
struct Target {
    settings: TargetSettings,
    /// Reloads that were ever asked for.
    reloads_asked: Arc<AtomicU64>,
    /// Held while anything is done to the target.
    at_work: Arc<Mutex<LastReload>>,
    // Held while it is looked at whether it could take a certificate.
    looked_at: Arc<Mutex<()>>,
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
    /// 0700) is its own: it keeps there what installs replaced, and what a crash needs. With a client
    /// the folder `lent` beside it is its own too.
    #[must_use]
    pub fn new(
        certs_dir: PathBuf,
        previous_dir: PathBuf,
        targets: BTreeMap<TargetName, TargetSettings>,
    ) -> Self {
        let target = |settings| Target {
            settings,
            reloads_asked: Arc::default(),
            at_work: Arc::default(),
            looked_at: Arc::default(),
        };
        let targets = targets.into_iter().map(|(name, it)| (name, target(it))).collect();
        Self { certs_dir, previous_dir, targets, client: None }
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
                target.reloads_asked = Arc::clone(&before.reloads_asked);
                target.at_work = Arc::clone(&before.at_work);
                target.looked_at = Arc::clone(&before.looked_at);
            }
        }
        self
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

    fn launch(&self) -> Launch {
        Launch::on_behalf_of(self.client.clone())
    }

    /// A client's generation, if it is what it should be before a server is told of it.
    async fn check_material(
        &self,
        request: &DeployRequest,
    ) -> Result<Option<Material>, DeployError> {
        if self.client.is_some() { self.material(request).await.map(Some) } else { Ok(None) }
    }

    /// A copy of `material` for a program that may read it, if it is a stranger's. The target has
    /// to be at work for this alone.
    async fn lend(
        &self,
        request: &DeployRequest,
        material: Option<Material>,
    ) -> Result<Option<Lent>, DeployError> {
        let (Some(client), Some(material)) = (self.client.clone(), material) else {
            return Ok(None);
        };
        let (lent_dir, wanted) = (self.previous_dir.with_file_name("lent"), request.clone());
        let lend = move || {
            let lend = |_stranger| Lent::new(&lent_dir, &wanted, &material);
            client.stranger().map(lend).transpose()
        };
        let lent = spawn_blocking(lend).await.unwrap_or_else(|it| Err(InstallError::BrokenOff(it)));
        lent.map_err(|source| install_failed(request, source))
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
        let read = spawn_blocking(read).await;
        let broken_off =
            |error| DeployError::Install { target, source: InstallError::BrokenOff(error) };
        read.map_err(broken_off)?.map_err(|source| DeployError::Source {
            certificate,
            generation,
            source,
        })
    }
}

#[async_trait]
impl Deployer for DirectDeployer {
    /// The first error is told, after all others were repaired too.
    async fn repair(&self) -> Result<(), DeployError> {
        let mut result = Ok(());
        for (name, target) in &self.targets {
            let at_work = Arc::clone(&target.at_work).lock_owned().await;
            let (previous_dir, target) = (self.previous_dir.clone(), name.clone());
            let repaired = blocking(at_work, move || repair_all(&previous_dir, &target)).await;
            if result.is_ok() {
                let failed = |source| DeployError::Install { target: name.clone(), source };
                result = repaired.map_err(failed);
            }
        }
        result
    }

    async fn check(
        &self,
        certificate: &CertificateName,
        target: &TargetName,
    ) -> Result<(), DeployError> {
        let known = self.target_of(certificate, target)?;
        let (settings, alone) = (known.settings.clone(), Arc::clone(&known.looked_at));
        let (certificate, client) = (certificate.clone(), self.client.clone());
        let looked = async {
            // One look that hangs for ever holds one thread, and is not followed by others.
            let alone = alone.lock_owned().await;
            let look = move || {
                let checked = check(&settings, &certificate, client);
                drop(alone);
                checked
            };
            spawn_blocking(look).await.map_err(InstallError::BrokenOff)
        };
        let silent = |_late| Err(InstallError::Silent { limit: CHECK_LIMIT });
        timeout(CHECK_LIMIT, looked)
            .await
            .unwrap_or_else(silent)
            .unwrap_or_else(|source| Err(DeployError::Install { target: target.clone(), source }))
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
        let at_work = Arc::clone(&target.at_work).lock_owned().await;
        let work = move || {
            if let Some(stranger) = client.and_then(|it| it.stranger()) {
                install::check_folders(&settings, &certificate, &stranger)?;
            }
            install::install(&settings, &material, &certificate, &placement)
        };
        blocking(at_work, work).await.map_err(|source| install_failed(request, source))
    }

    async fn test(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let material = self.check_material(request).await?;
        let Some(settings) = &target.settings.test else { return Ok(()) };
        let at_work = target.at_work.lock().await;
        let material = material.filter(|_| !programs::steers_servers(settings));
        let lent = self.lend(request, material).await?;
        let certs_dir = lent.as_ref().map_or(&*self.certs_dir, Lent::certs_dir);
        let tested = programs::test(settings, request, certs_dir, self.launch()).await;
        drop((lent, at_work));
        tested.map_err(|source| DeployError::Test {
            target: request.target.clone(),
            command: programs::command_line(settings),
            source,
        })
    }

    async fn reload(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let material = self.check_material(request).await?;
        let Some(settings) = &target.settings.reload else { return Ok(()) };
        let failed = |source| DeployError::Reload { target: request.target.clone(), source };
        if programs::serves_all(settings) {
            let reloaded =
                target.reload_once(settings, request, &self.certs_dir, self.launch()).await;
            return reloaded.map_err(failed);
        }
        let at_work = target.at_work.lock().await;
        let lent = self.lend(request, material).await?;
        let certs_dir = lent.as_ref().map_or(&*self.certs_dir, Lent::certs_dir);
        let reloaded = programs::reload(settings, request, certs_dir, self.launch()).await;
        drop((lent, at_work));
        reloaded.map_err(|error| failed(Arc::new(error)))
    }

    async fn put_back(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let target = self.target(request)?;
        let settings = target.settings.install.clone();
        if settings.is_empty() {
            return Ok(());
        }
        let (certificate, placement) = (request.certificate.clone(), self.placement(request));
        let client = self.client.clone();
        let at_work = Arc::clone(&target.at_work).lock_owned().await;
        let work = move || {
            if let Some(stranger) = client.and_then(|it| it.stranger()) {
                install::check_folders(&settings, &certificate, &stranger)?;
            }
            install::put_back(&settings, &certificate, &placement)
        };
        let found = blocking(at_work, work).await.map_err(|it| install_failed(request, it))?;
        if found {
            return Ok(());
        }
        let DeployRequest { certificate, target, .. } = request.clone();
        Err(DeployError::NothingKept { certificate, target })
    }
}

impl Target {
    /// Reloads, unless a reload that began after this was asked for has done so.
    async fn reload_once(
        &self,
        settings: &ReloadSettings,
        request: &DeployRequest,
        certs_dir: &Path,
        launch: Launch,
    ) -> Result<(), Arc<ReloadError>> {
        let mine = self.reloads_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.at_work.lock().await;
        if last.serves < mine || last.settings.as_ref() != Some(settings) {
            let serves = self.reloads_asked.load(Ordering::SeqCst);
            let reloaded = programs::reload(settings, request, certs_dir, launch).await;
            let failed = reloaded.err().map(Arc::new);
            *last = LastReload { serves, settings: Some(settings.clone()), failed };
        }
        last.failed.clone().map_or(Ok(()), Err)
    }
}

/// Does `work`, which blocks, with the target to itself, also if nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    at_work: OwnedMutexGuard<LastReload>,
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    let done = spawn_blocking(move || {
        let done = work();
        drop(at_work);
        done
    });
    done.await.map_err(InstallError::BrokenOff)?
}

fn install_failed(request: &DeployRequest, source: InstallError) -> DeployError {
    DeployError::Install { target: request.target.clone(), source }
}

/// Whether a target with `settings` could be handed a new `certificate` on behalf of `client`.
/// Blocks.
fn check(
    settings: &TargetSettings,
    certificate: &CertificateName,
    client: Option<Arc<Client>>,
) -> Result<(), DeployError> {
    let target = || settings.name.clone();
    let install_failed = |source| DeployError::Install { target: target(), source };
    if let Some(stranger) = client.as_ref().and_then(|it| it.stranger()) {
        install::check_folders(&settings.install, certificate, &stranger)
            .map_err(install_failed)?;
    }
    install::check_writable(&settings.install, certificate).map_err(install_failed)?;
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

fn repair_all(previous_dir: &Path, target: &TargetName) -> Result<(), InstallError> {
    let mut result = Ok(());
    let entries = fs::read_dir(previous_dir.join(target.as_str()));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_str().map(str::parse::<CertificateName>);
        let Some(Ok(certificate)) = name else { continue };
        let repaired = Placement::new(previous_dir, target, &certificate).repair();
        if result.is_ok() {
            result = repaired;
        }
    }
    result
}

#[cfg(test)]
mod tests;
