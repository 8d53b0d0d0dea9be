//! Deployments to a real nginx: the same master serves the new certificate, or says why not.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair};
use renewd::deploy::{
    DeployError, DeployRequest, Deployer, DirectDeployer, InstallContent, InstallSettings,
    Installed, ProgramSettings, ReloadSettings, TargetSettings, VerifySettings, Wanted, look,
    verify,
};
use renewd::model::{
    Chain, EndpointCondition, EndpointState, Generation, Identifier, Leaf, chain_text,
};
use renewd::probe::{self, Approach};
use renewd::sys::clock::SystemClock;
use tempfile::TempDir;

use crate::support::{
    self, Nginx, NginxOptions, TlsServer, eventually, run, self_signed, served_serial, write,
    write_secret,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Which of its ways to reload a target takes.
#[derive(Clone, Copy)]
enum Reload {
    Command,
    Signal,
}

/// A store with the generations 1 to 3 of `site`, and an nginx that reads what is installed of it.
struct World {
    folder: TempDir,
    nginx: Nginx,
    deployer: DirectDeployer,
    settings: TargetSettings,
}

impl World {
    /// Generation 1 is installed and served.
    async fn new(reload: Reload) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for generation in 1..=3 {
            let files = generation_folder(folder.path(), generation);
            self_signed("site.example", &files.join("fullchain.pem"), &files.join("privkey.pem"));
        }
        let [fullchain, privkey] = ["site.pem", "site.key"].map(|it| folder.path().join(it));
        let mut settings = settings(&fullchain, &privkey);
        let installer = deployer(folder.path(), &settings);
        installer.install(&request(1)).await.unwrap();
        let server =
            TlsServer { names: vec!["site.example".into()], fullchain, privkey, second: None };
        let nginx =
            Nginx::start(&NginxOptions { servers: vec![server], ..NginxOptions::default() });
        settings.test = Some(program(nginx.test_command()));
        settings.reload = Some(match reload {
            Reload::Command => ReloadSettings::Command(program(nginx.reload_command())),
            Reload::Signal => {
                ReloadSettings::Signal { signal: "HUP".into(), pid_file: nginx.pid_file() }
            }
        });
        settings.verify = vec![VerifySettings {
            address: nginx.https().to_string(),
            names: Vec::new(),
            starttls: None,
            required: true,
        }];
        let deployer = deployer(folder.path(), &settings);
        Self { folder, nginx, deployer, settings }
    }

    fn leaf(&self, generation: u32) -> Leaf {
        let file = generation_folder(self.folder.path(), generation).join("fullchain.pem");
        Chain::parse_pem(&std::fs::read(file).unwrap()).unwrap().leaf
    }

    /// Installs, tests and reloads.
    async fn deploy(&self, generation: u32) -> Result<(), DeployError> {
        let request = request(generation);
        self.deployer.install(&request).await?;
        self.deployer.test(&request).await?;
        self.deployer.reload(&request).await
    }

    /// Waits for proof that `generation` is served, and asks OpenSSL for a second opinion.
    async fn assert_serves(&self, generation: u32) -> Vec<EndpointState> {
        let (leaf, clock) = (self.leaf(generation), SystemClock::new());
        let names = vec!["site.example".parse().unwrap()];
        let wanted = Wanted { leaf: &leaf, needs_issuer: false, names, only: None };
        let verified = verify(&self.settings, &wanted, &[], &clock).await;
        assert_eq!(verified.state, EndpointCondition::Served, "{verified:?}");
        // On a loaded machine a worker that was told to quit may accept once more.
        eventually(LIMIT, "OpenSSL sees it too", || {
            let serial = served_serial(self.nginx.https(), Some("site.example"));
            if serial == Some(leaf.serial_text()) { Ok(()) } else { Err(serial) }
        });
        verified.endpoints
    }
}

fn generation_folder(folder: &Path, generation: u32) -> PathBuf {
    folder.join("certs/site").join(Generation(generation).to_string())
}

/// A leaf for `name` and the intermediate that signed it; its key in the file `privkey`.
fn issued(name: &str, privkey: &Path) -> Chain {
    let authority = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    };
    let [of_root, of_issuer, key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root = CertifiedIssuer::self_signed(authority("Root"), of_root).unwrap();
    let intermediate = authority("Intermediate").signed_by(&of_issuer, &root).unwrap();
    let issuer = Issuer::new(authority("Intermediate"), of_issuer);
    let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = parameters.signed_by(&key, &issuer).unwrap();
    write_secret(privkey, key.serialize_pem(), 0o600);
    Chain::from_der(vec![leaf.der().clone(), intermediate.der().clone()]).unwrap()
}

fn settings(fullchain: &Path, privkey: &Path) -> TargetSettings {
    let file = |content, path: &Path| InstallSettings {
        content,
        path: path.display().to_string(),
        owner: None,
        group: None,
        mode: None,
    };
    TargetSettings {
        name: "nginx".parse().unwrap(),
        install: vec![
            file(InstallContent::FullChain, fullchain),
            file(InstallContent::PrivateKey, privkey),
        ],
        test: None,
        reload: None,
        verify: Vec::new(),
        verify_timeout: LIMIT,
    }
}

fn deployer(folder: &Path, settings: &TargetSettings) -> DirectDeployer {
    let targets = BTreeMap::from([(settings.name.clone(), settings.clone())]);
    DirectDeployer::new(folder.join("certs"), folder.join("previous"), targets)
}

fn program(arguments: Vec<String>) -> ProgramSettings {
    ProgramSettings { arguments, timeout: LIMIT }
}

fn request(generation: u32) -> DeployRequest {
    DeployRequest {
        certificate: "site".parse().unwrap(),
        generation: Generation(generation),
        target: "nginx".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_reload_makes_the_same_nginx_serve_the_new_certificate() {
    for reload in [Reload::Command, Reload::Signal] {
        let world = World::new(reload).await;
        let master = world.nginx.master_pid();
        world.assert_serves(1).await;
        world.deploy(2).await.unwrap();
        let endpoints = world.assert_serves(2).await;
        assert!(endpoints.iter().all(|it| it.ever_served));
        assert_eq!(
            std::fs::read_to_string(world.nginx.pid_file()).unwrap().trim(),
            master.to_string()
        );
        assert_eq!(world.deployer.install(&request(2)).await.unwrap(), Installed::Unchanged);
    }
}

#[tokio::test]
async fn a_broken_configuration_is_reported_in_nginxs_words_and_reloaded_once_repaired() {
    let world = World::new(Reload::Command).await;
    world.nginx.break_config();
    let error = world.deploy(2).await.unwrap_err();
    let text = chain_text(&error);
    assert!(matches!(error, DeployError::Test { .. }), "{text}");
    assert!(text.contains("unknown directive \"no_such_directive\""), "{text}");
    world.assert_serves(1).await;

    world.nginx.repair_config();
    world.deploy(2).await.unwrap();
    world.assert_serves(2).await;
}

#[tokio::test]
async fn files_that_are_put_back_are_served_again_after_a_reload() {
    let world = World::new(Reload::Command).await;
    world.deploy(1).await.unwrap();
    world.deployer.install(&request(2)).await.unwrap();
    // By somebody else: what the deployer tells it to load is not put back any more.
    let command = world.nginx.reload_command();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let reloaded = run(&mut support::program(&command), LIMIT);
    assert_eq!(reloaded.code, 0, "{reloaded}");
    world.assert_serves(2).await;
    world.deployer.put_back(&request(2)).await.unwrap();
    world.deployer.reload(&request(2)).await.unwrap();
    world.assert_serves(1).await;
}

#[tokio::test]
async fn many_reloads_at_once_end_with_the_last_certificate_served() {
    let world = World::new(Reload::Command).await;
    world.deployer.install(&request(3)).await.unwrap();
    let requests: Vec<_> = (0..20).map(|_| request(3)).collect();
    let reloads = requests.iter().map(|it| world.deployer.reload(it));
    for reloaded in futures_util::future::join_all(reloads).await {
        reloaded.unwrap();
    }
    world.assert_serves(3).await;
}

/// A vhost that was set up with `cert.pem`: most clients refuse what it shows.
#[tokio::test]
async fn an_nginx_that_shows_the_leaf_alone_does_not_serve_it_though_nobody_named_it() {
    let folder = tempfile::tempdir().unwrap();
    let [fullchain, cert, privkey] =
        ["fullchain.pem", "cert.pem", "privkey.pem"].map(|it| folder.path().join(it));
    let chain = issued("site.example", &privkey);
    write(&fullchain, chain.full_pem());
    write(&cert, chain.leaf_pem());
    let names = vec!["site.example".parse().unwrap()];
    let needs_issuer = chain.needs_issuer();
    let wanted = Wanted { leaf: &chain.leaf, needs_issuer, names, only: None };
    for (file, state) in [(fullchain, EndpointCondition::Served), (cert, EndpointCondition::Failed)]
    {
        let privkey = privkey.clone();
        let server = TlsServer {
            names: vec!["site.example".into()],
            fullchain: file.clone(),
            privkey: privkey.clone(),
            second: None,
        };
        let nginx =
            Nginx::start(&NginxOptions { servers: vec![server], ..NginxOptions::default() });
        let address = nginx.https().to_string();
        let guess = VerifySettings { address, names: Vec::new(), starttls: None, required: false };
        let settings = TargetSettings { verify: vec![guess], ..settings(&file, &privkey) };
        let seen = look(&settings, &wanted, &[], &SystemClock::new()).await;
        assert_eq!(seen.state, state, "{seen:?}");
    }
}

#[tokio::test]
async fn nginx_shows_its_certificate_also_for_an_address() {
    let world = World::new(Reload::Command).await;
    let address = world.nginx.https();
    let name = Identifier::Ip(address.ip());
    let served = probe::ask(&address.to_string(), &name, Approach::default(), LIMIT).await.unwrap();
    assert_eq!((served.leaf.sha256, served.key_proven), (world.leaf(1).sha256, true));
    assert_eq!(served.address, address);
}
