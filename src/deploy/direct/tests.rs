//! Tests of the deployer in this process: files, programs, and who waits for whom.

use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::deploy::{InstallContent, InstallSettings, ProgramSettings};
use crate::model::{CertificateSpec, Explain, Generation, Identifier, KeyType, chain_text};
use crate::probe::test_server::Certified;
use crate::sys::atomic::{self, Access};

/// A store with generations of `site`, a server's folder `etc`, and a target `web`.
struct World {
    folder: tempfile::TempDir,
    settings: TargetSettings,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/etc/{{name}}.{name}", folder.path().display());
        let file = |content, name| InstallSettings {
            content,
            path: path(name),
            owner: None,
            group: None,
            mode: None,
        };
        let settings = TargetSettings {
            name: "web".parse().unwrap(),
            install: vec![
                file(InstallContent::FullChain, "pem"),
                file(InstallContent::PrivateKey, "key"),
            ],
            test: None,
            reload: None,
            verify: Vec::new(),
            verify_timeout: Duration::from_secs(30),
        };
        atomic::directory(&folder.path().join("etc"), Access::mode(0o755)).unwrap();
        let world = Self { folder, settings };
        world.store(1, &Certified::new(&["example.com"]));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn generation(&self, generation: u32) -> PathBuf {
        self.path("certs/site").join(Generation(generation).to_string())
    }

    fn store(&self, generation: u32, certified: &Certified) {
        let folder = self.generation(generation);
        atomic::directory(&folder, Access::mode(0o750)).unwrap();
        let write = |name: &str, content: &str| {
            atomic::write(&folder.join(name), content.as_bytes(), Access::mode(0o640)).unwrap();
        };
        write("fullchain.pem", &certified.certificate_pem);
        write("privkey.pem", &certified.key_pem);
    }

    fn deployer(&self) -> DirectDeployer {
        let targets = [(self.settings.name.clone(), self.settings.clone())];
        DirectDeployer::new(self.path("certs"), self.path("previous"), targets.into())
    }

    /// Lets `reload` be `program` with `arguments`.
    fn reload_by(&mut self, program: &str, arguments: &[&str]) {
        self.settings.reload = Some(ReloadSettings::Command(program_of(program, arguments)));
    }

    fn mode(&self, name: &str) -> u32 {
        self.path(name).symlink_metadata().unwrap().mode() & 0o7777
    }
}

fn program_of(program: &str, arguments: &[&str]) -> ProgramSettings {
    let arguments = std::iter::once(program).chain(arguments.iter().copied());
    ProgramSettings {
        arguments: arguments.map(str::to_owned).collect(),
        timeout: Duration::from_secs(60),
    }
}

fn request(generation: u32) -> DeployRequest {
    DeployRequest {
        certificate: "site".parse().unwrap(),
        generation: Generation(generation),
        target: "web".parse().unwrap(),
    }
}

#[tokio::test]
async fn files_are_installed_with_their_rights_and_left_alone_when_right() {
    let mut world = World::new();
    world.settings.install[0].mode = Some(0o604);
    let deployer = world.deployer();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    assert_eq!((world.mode("etc/site.pem"), world.mode("etc/site.key")), (0o604, 0o600));
    assert_eq!(world.read("etc/site.pem"), world.read("certs/site/0001/fullchain.pem"));
    assert_eq!(world.read("etc/site.key"), world.read("certs/site/0001/privkey.pem"));

    let written = world.path("etc/site.key").metadata().unwrap().ino();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Unchanged);
    assert_eq!(world.path("etc/site.key").metadata().unwrap().ino(), written);

    let content = world.read("etc/site.key");
    atomic::write(&world.path("etc/site.key"), content.as_bytes(), Access::mode(0o644)).unwrap();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    assert_eq!(world.mode("etc/site.key"), 0o600);
}

#[tokio::test]
async fn owner_and_group_are_as_configured() {
    let mut world = World::new();
    let is_root = rustix::process::geteuid().is_root();
    // Only root may give files away; everybody may give them to himself.
    let (owner, group) = if is_root {
        (54321, 54322)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    world.settings.install[1].owner = Some(owner.to_string());
    world.settings.install[1].group = Some(group.to_string());
    let deployer = world.deployer();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    let metadata = world.path("etc/site.key").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (owner, group));
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Unchanged);
}

#[tokio::test]
async fn a_target_without_files_has_nothing_to_install_or_put_back() {
    let mut world = World::new();
    world.settings.install.clear();
    assert_eq!(world.deployer().install(&request(1)).await.unwrap(), Installed::Nothing);
    world.deployer().put_back(&request(1)).await.unwrap();
}

#[tokio::test]
async fn planted_links_are_replaced_and_never_followed() {
    let world = World::new();
    atomic::write(&world.path("victim"), b"precious", Access::mode(0o600)).unwrap();
    symlink(world.path("victim"), world.path("etc/site.pem")).unwrap();
    fs::hard_link(world.path("victim"), world.path("etc/site.key")).unwrap();
    world.deployer().install(&request(1)).await.unwrap();
    assert_eq!(world.read("victim"), "precious");
    assert!(world.path("etc/site.pem").symlink_metadata().unwrap().is_file());
    assert_eq!(world.path("etc/site.key").metadata().unwrap().nlink(), 1);
}

#[tokio::test]
async fn put_back_brings_the_files_of_the_last_install_that_changed_something() {
    let world = World::new();
    world.store(2, &Certified::new(&["example.com"]));
    let deployer = world.deployer();
    let error = deployer.put_back(&request(1)).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingKept { .. }), "{error}");

    deployer.install(&request(1)).await.unwrap();
    let first = (world.read("etc/site.pem"), world.read("etc/site.key"));
    deployer.install(&request(2)).await.unwrap();
    assert_eq!(deployer.install(&request(2)).await.unwrap(), Installed::Unchanged);
    deployer.put_back(&request(2)).await.unwrap();
    assert_eq!((world.read("etc/site.pem"), world.read("etc/site.key")), first);
    assert_eq!(deployer.install(&request(2)).await.unwrap(), Installed::Changed);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_never_installed() {
    let world = World::new();
    let other = Certified::new(&["example.com"]);
    let key = world.generation(1).join("privkey.pem");
    atomic::write(&key, other.key_pem.as_bytes(), Access::mode(0o640)).unwrap();
    let error = world.deployer().install(&request(1)).await.unwrap_err();
    assert_eq!(
        chain_text(&error),
        "generation 0001 of site can't be deployed: the private key does not belong to the \
         certificate"
    );
    assert!(!world.path("etc/site.pem").exists());
}

#[tokio::test]
async fn a_generation_is_read_through_no_link_and_not_without_bound() {
    let world = World::new();
    let (real, key) = (world.path("real.pem"), world.generation(1).join("privkey.pem"));
    let refuses = async |what: &str| {
        let error = world.deployer().install(&request(1)).await.unwrap_err();
        assert!(matches!(error, DeployError::Source { .. }), "{what}: {error}");
    };
    atomic::rename(&key, &real).unwrap();
    symlink(&real, &key).unwrap();
    refuses("a link").await;
    fs::remove_file(&key).unwrap();
    fs::hard_link(&real, &key).unwrap();
    refuses("a second name").await;
    atomic::write(&key, &vec![b'x'; 600 * 1024], Access::mode(0o600)).unwrap();
    refuses("too large").await;
    fs::remove_dir_all(world.path("certs/site/0001")).unwrap();
    symlink(world.folder.path(), world.path("certs/site/0001")).unwrap();
    refuses("a folder that is a link").await;
}

#[tokio::test]
async fn a_missing_folder_and_a_path_out_of_bounds_say_what_to_do() {
    let mut world = World::new();
    let etc = world.path("etc").display().to_string();
    world.settings.install[1].path = format!("{etc}/no/such.key");
    let error = world.deployer().install(&request(1)).await.unwrap_err();
    assert_eq!(
        chain_text(&error),
        format!("cannot install the files of target web: the folder {etc}/no is not there")
    );
    assert!(error.hint().unwrap().contains("install -d -m 0755"));
    assert!(!world.path("etc/site.pem").exists(), "half of the files was installed");

    for wrong in ["relative.pem", "/etc/../x", "/", "", "/etc/"] {
        world.settings.install[1].path = wrong.into();
        let error = world.deployer().install(&request(1)).await.unwrap_err();
        let DeployError::Install { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, InstallError::NotAPath { .. }), "{wrong:?}: {source}");
    }
    world.settings.install[1].path = etc;
    let error = world.deployer().install(&request(1)).await.unwrap_err();
    assert!(chain_text(&error).ends_with("is not a file, and is not replaced"), "{error}");
}

#[tokio::test]
async fn an_unknown_owner_or_target_is_named() {
    let mut world = World::new();
    world.settings.install[0].owner = Some("no-such-user".into());
    let error = world.deployer().install(&request(1)).await.unwrap_err();
    assert!(error.hint().unwrap().contains("useradd --system no-such-user"));
    let stranger = DeployRequest { target: "other".parse().unwrap(), ..request(1) };
    let error = world.deployer().reload(&stranger).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("deploy.unknown_target", "there is no target other".to_owned())
    );
}

#[tokio::test]
async fn a_failed_test_says_what_the_program_said() {
    let mut world = World::new();
    let script = "echo \"$RENEWD_CERTIFICATE: no such directive\" >&2; exit 1";
    world.settings.test = Some(program_of("sh", &["-c", script]));
    let error = world.deployer().test(&request(1)).await.unwrap_err();
    assert_eq!(
        chain_text(&error),
        "the test of target web failed: sh ended with exit code 1: site: no such directive"
    );
    assert!(error.hint().unwrap().contains("run `sh -c"));
}

#[tokio::test]
async fn a_test_that_saw_the_switch_of_a_pair_is_repeated_once() {
    let mut world = World::new();
    let log = world.path("log").display().to_string();
    let script = format!(
        "echo x >>{log}; [ $(wc -l <{log}) -ge $0 ] || {{ echo key values mismatch; exit 1; }}"
    );
    world.settings.test = Some(program_of("sh", &["-c", &script, "2"]));
    world.deployer().test(&request(1)).await.unwrap();
    world.settings.test = Some(program_of("sh", &["-c", &script, "9"]));
    world.deployer().test(&request(1)).await.unwrap_err();
    assert_eq!(world.read("log").lines().count(), 4);
}

#[tokio::test]
async fn one_reload_serves_all_who_asked_before_it_began() {
    let mut world = World::new();
    let (log, go) = (world.path("log"), world.path("go"));
    // A link called as a server's own tool is called, which steers the whole server.
    let tool = world.path("nginx");
    symlink("/bin/sh", &tool).unwrap();
    let script =
        format!("echo x >>{}; while [ ! -e {} ]; do sleep 0.01; done", log.display(), go.display());
    world.reload_by(&tool.display().to_string(), &["-c", &script]);
    let deployer = Arc::new(world.deployer());
    let first = tokio::spawn({
        let deployer = Arc::clone(&deployer);
        async move { deployer.reload(&request(1)).await }
    });
    wait_for(&log).await;
    let requests: Vec<_> = (0..20).map(|_| request(1)).collect();
    let others = join_all(requests.iter().map(|it| deployer.reload(it)));
    let release = async { atomic::write(&go, b"", Access::mode(0o600)).unwrap() };
    let (others, ()) = tokio::join!(others, release);
    assert!(others.iter().all(Result::is_ok));
    first.await.unwrap().unwrap();
    assert_eq!(world.read("log").lines().count(), 2, "the first began before the others asked");
    deployer.reload(&request(1)).await.unwrap();
    assert_eq!(world.read("log").lines().count(), 3, "a later request has a reload of its own");
}

#[tokio::test]
async fn a_script_is_run_for_each_certificate_and_never_beside_itself() {
    let mut world = World::new();
    let (log, busy) = (world.path("log"), world.path("busy"));
    let script = format!(
        "mkdir {busy} && echo $RENEWD_GENERATION >>{log} && sleep 0.02 && rmdir {busy}",
        busy = busy.display(),
        log = log.display()
    );
    world.reload_by("sh", &["-c", &script]);
    let deployer = world.deployer();
    let requests: Vec<_> = (1..=5).map(request).collect();
    let reloads = join_all(requests.iter().map(|it| deployer.reload(it))).await;
    assert!(reloads.iter().all(Result::is_ok), "{reloads:?}");
    let mut seen: Vec<_> = world.read("log").lines().map(str::to_owned).collect();
    seen.sort();
    assert_eq!(seen, ["0001", "0002", "0003", "0004", "0005"]);
}

#[tokio::test]
async fn a_failed_reload_fails_for_all_whom_it_was_to_serve() {
    let mut world = World::new();
    let tool = world.path("nginx");
    symlink("/bin/sh", &tool).unwrap();
    world.reload_by(&tool.display().to_string(), &["-c", "echo refused; exit 1"]);
    let deployer = world.deployer();
    let requests = [request(1), request(1), request(1)];
    for reload in join_all(requests.iter().map(|it| deployer.reload(it))).await {
        let error = reload.unwrap_err();
        assert_eq!(error.code(), "deploy.reload");
        assert!(chain_text(&error).ends_with("nginx ended with exit code 1: refused"), "{error}");
    }
}

#[tokio::test]
async fn a_signal_reaches_the_process_of_the_pid_file() {
    let mut world = World::new();
    let (pid_file, log) = (world.path("server.pid"), world.path("log"));
    let script = format!(
        "trap 'echo hup >{}; exit 0' HUP; echo $$ >{1}.new; mv {1}.new {1}; \
         while :; do sleep 0.01; done",
        log.display(),
        pid_file.display()
    );
    let server = program_of("sh", &["-c", &script]);
    world.settings.test = Some(server);
    world.settings.reload =
        Some(ReloadSettings::Signal { signal: "HUP".into(), pid_file: pid_file.clone() });
    let deployer = Arc::new(world.deployer());
    // The server stands in as the test of a target of its own, so that it runs beside the reload.
    let other = world.deployer();
    let running = tokio::spawn(async move { other.test(&request(1)).await });
    wait_for(&pid_file).await;
    deployer.reload(&request(1)).await.unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(world.read("log"), "hup\n");
    fs::remove_file(&pid_file).unwrap();
    let error = deployer.reload(&request(1)).await.unwrap_err();
    assert_eq!(error.hint().unwrap(), "is the server running, and is that its pid file?");
}

#[tokio::test]
async fn what_a_crash_left_is_found_at_the_start_and_at_the_next_install() {
    let world = World::new();
    let deployer = world.deployer();
    deployer.repair().await.unwrap();
    deployer.install(&request(1)).await.unwrap();
    let journal = world.path("previous/web/site/journal.json");
    atomic::write(&journal, b"broken", Access::mode(0o600)).unwrap();
    deployer.repair().await.unwrap();
    assert!(!journal.exists());
    atomic::write(&journal, b"broken", Access::mode(0o600)).unwrap();
    deployer.install(&request(1)).await.unwrap();
    assert!(!journal.exists(), "an install repairs before it looks");
}

/// Waits until `path` is there.
async fn wait_for(path: &Path) {
    for _ in 0..6000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} did not come", path.display());
}

/// The world's deployer as it works for a user that it does not trust, who may ask for `names`.
fn on_behalf_of(world: &World, user: u32, names: &[&str]) -> DirectDeployer {
    let identifiers: Vec<Identifier> = names.iter().map(|it| it.parse().unwrap()).collect();
    let spec = CertificateSpec {
        preferred_chain: None,
        name: "site".parse().unwrap(),
        identifiers,
        cas: Vec::new(),
        key_type: KeyType::P256,
        profile: None,
        solvers: BTreeMap::new(),
        targets: vec!["web".parse().unwrap()],
        verify_names: Vec::new(),
        verify: true,
        read_group: None,
        placeholder: true,
        source: PathBuf::new(),
    };
    world.deployer().on_behalf_of(Client::new(user, &[spec]))
}

/// Nobody is called so, and nobody trusts him.
const STRANGER: u32 = 54_321;

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[tokio::test]
async fn a_client_gets_what_the_configuration_lists_and_nothing_else() {
    let mut world = World::new();
    let target = world.settings.clone();
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    let unknown = DeployRequest { certificate: "other".parse().unwrap(), ..request(1) };
    let error = deployer.install(&unknown).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownCertificate { .. }), "{error}");
    // There is such a target, and the certificate does not go there.
    world.settings = TargetSettings { name: "mail".parse().unwrap(), ..target };
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    let unlisted = DeployRequest { target: "mail".parse().unwrap(), ..request(1) };
    for result in [
        deployer.install(&unlisted).await.map(drop),
        deployer.test(&unlisted).await,
        deployer.reload(&unlisted).await,
        deployer.put_back(&unlisted).await,
    ] {
        assert!(matches!(result, Err(DeployError::NotListed { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_clients_certificate_is_for_exactly_the_names_of_the_configuration() {
    let world = World::new();
    world.store(1, &Certified::new(&["example.com", "*.example.com", "192.0.2.7"]));
    let install = async |names: &[&str]| {
        on_behalf_of(&world, own(), names).install(&request(1)).await.map(drop)
    };
    for names in [
        &["example.com"][..],
        &["example.com", "*.example.com"],
        &["example.com", "*.example.com", "192.0.2.8"],
        &["example.com", "*.example.com", "192.0.2.7", "www.example.com"],
    ] {
        let error = install(names).await.unwrap_err();
        assert!(chain_text(&error).contains("exactly the names"), "{error}");
    }
    install(&["192.0.2.7", "example.com", "*.example.com"]).await.unwrap();
}

#[tokio::test]
async fn a_clients_files_are_his_own_and_reached_through_no_link() {
    let world = World::new();
    let refusal = async |user: u32| {
        let deployer = on_behalf_of(&world, user, &["example.com"]);
        let error = deployer.install(&request(1)).await.unwrap_err();
        chain_text(&error)
    };
    assert!(refusal(own() + 1).await.contains("does not belong"));
    // The folder of all certificates is the client's too: he could make it a link.
    atomic::rename(&world.path("certs"), &world.path("elsewhere")).unwrap();
    symlink(world.path("elsewhere"), world.path("certs")).unwrap();
    assert!(refusal(own()).await.contains("cannot open the folder"));
    assert!(world.deployer().install(&request(1)).await.is_ok(), "it is the operator's own");
}

#[tokio::test]
async fn a_server_is_not_told_of_a_clients_generation_that_is_not_what_it_should_be() {
    let mut world = World::new();
    world.settings.install.clear();
    world.reload_by("/bin/true", &[]);
    world.settings.test = Some(program_of("/bin/true", &[]));
    world.store(1, &Certified::new(&["foreign.example"]));
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    for result in [
        deployer.install(&request(1)).await.map(drop),
        deployer.test(&request(1)).await,
        deployer.reload(&request(1)).await,
    ] {
        assert!(matches!(result, Err(DeployError::Source { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn for_a_client_no_program_is_run_that_others_could_have_put_there() {
    let mut world = World::new();
    let script = world.path("etc/reload");
    atomic::write(&script, b"#!/bin/sh\necho told\n", Access::mode(0o775)).unwrap();
    let script_text = script.display().to_string();
    world.reload_by(&script_text, &[]);
    world.settings.test = Some(program_of(&script_text, &[]));
    let deployer = on_behalf_of(&world, own(), &["example.com"]);
    for error in [
        deployer.reload(&request(1)).await.unwrap_err(),
        deployer.test(&request(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.hint().unwrap(), format!("chmod go-w {script_text}"), "{error}");
    }
    world.deployer().reload(&request(1)).await.unwrap();
}

/// Gives `path` and all below it to [`STRANGER`], which only root can.
fn give_to_stranger(path: &Path) {
    lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    for entry in fs::read_dir(path).into_iter().flatten() {
        give_to_stranger(&entry.unwrap().path());
    }
}

#[tokio::test]
async fn a_client_can_not_choose_whom_a_signal_reaches() {
    if own() != 0 {
        return;
    }
    let mut world = World::new();
    give_to_stranger(&world.path("certs"));
    let folder = world.path("run");
    atomic::directory(&folder, Access::mode(0o755)).unwrap();
    let pid_file = folder.join("server.pid");
    let signal = |pid_file| ReloadSettings::Signal { signal: "HUP".into(), pid_file };
    world.settings.reload = Some(signal(pid_file.clone()));
    let started = world.path("started");
    let script = format!(
        "trap 'exit 3' HUP; echo $$ >{0}.new; mv {0}.new {0}; while :; do sleep 0.01; done",
        started.display()
    );
    world.settings.test = Some(program_of("sh", &["-c", &script]));
    let other = world.deployer();
    let running = tokio::spawn(async move { other.test(&request(1)).await });
    wait_for(&started).await;
    let deployer = on_behalf_of(&world, STRANGER, &["example.com"]);
    let refused = async |what: &str| {
        let error = deployer.reload(&request(1)).await.unwrap_err();
        assert!(chain_text(&error).contains(what), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert!(!running.is_finished(), "it was signalled");
    };

    let number = fs::read(&started).unwrap();
    refused("cannot read the pid file").await;
    atomic::write(&pid_file, &number, Access::mode(0o644)).unwrap();
    give_to_stranger(&pid_file);
    refused("belongs to the user 54321").await;
    atomic::write(&pid_file, &number, Access::mode(0o666)).unwrap();
    refused("can be written by the user 54321").await;
    atomic::write(&pid_file, &number, Access::mode(0o644)).unwrap();
    lchown(&folder, Some(STRANGER), None).unwrap();
    refused("belongs to the user 54321").await;
    lchown(&folder, Some(0), None).unwrap();
    deployer.reload(&request(1)).await.unwrap();
    assert!(running.await.unwrap().unwrap_err().to_string().contains("test"));
}

#[tokio::test]
async fn what_a_program_reads_as_root_can_not_be_exchanged_by_a_client() {
    if own() != 0 {
        return;
    }
    let mut world = World::new();
    give_to_stranger(&world.path("certs"));
    let script = "cd \"$RENEWD_DIRECTORY\"; pwd -P >$0; cat privkey.pem >>$0; \
                  cmp \"$RENEWD_PRIVKEY\" privkey.pem; cmp \"$RENEWD_FULLCHAIN\" fullchain.pem";
    let seen = world.path("seen");
    world.reload_by("/bin/sh", &["-ec", script, &seen.display().to_string()]);
    let deployer = on_behalf_of(&world, STRANGER, &["example.com"]);
    deployer.reload(&request(1)).await.unwrap();
    let text = world.read("seen");
    let (place, key) = text.split_once('\n').unwrap();
    assert_eq!(Path::new(place), world.path("lent/web/site/0001").as_path());
    assert_eq!(key, world.read("certs/site/0001/privkey.pem"));
    assert!(!Path::new(place).exists());
    assert_eq!(world.mode("lent"), 0o700);
    // Whoever is trusted with everything anyway sees the store.
    world.deployer().reload(&request(1)).await.unwrap();
    assert!(world.read("seen").starts_with(&world.generation(1).display().to_string()));
}

#[tokio::test]
async fn nothing_that_stands_beside_chain_and_key_is_installed() {
    let world = World::new();
    let certified = Certified::new(&["example.com"]);
    let folder = world.generation(1);
    let junk = "<script>\n";
    for (name, text) in
        [("fullchain.pem", &certified.certificate_pem), ("privkey.pem", &certified.key_pem)]
    {
        let text = format!("{junk}{text}{junk}");
        atomic::write(&folder.join(name), text.as_bytes(), Access::mode(0o600)).unwrap();
    }
    world.deployer().install(&request(1)).await.unwrap();
    for name in ["etc/site.pem", "etc/site.key"] {
        assert!(!world.read(name).contains("script"), "{name}");
    }
}

#[tokio::test]
async fn a_deployer_in_place_of_another_waits_for_it_and_reloads_as_it_was_told_itself() {
    let mut world = World::new();
    let mut deployer_of = |name: &str| {
        let script = world.path(name).join("nginx");
        atomic::directory(&world.path(name), Access::mode(0o755)).unwrap();
        let told = world.path(&format!("told-{name}")).display().to_string();
        let text = format!("#!/bin/sh\necho told >> {told}\n");
        atomic::write(&script, text.as_bytes(), Access::mode(0o755)).unwrap();
        world.reload_by(&script.display().to_string(), &[]);
        world.deployer()
    };
    let first = deployer_of("first");
    let second = deployer_of("second").in_place_of(&first);
    let name: TargetName = "web".parse().unwrap();
    let at_work = Arc::clone(&first.targets[&name].at_work).lock_owned().await;
    assert!(second.targets[&name].at_work.try_lock().is_err());
    let request = request(1);
    let (one, other) = (first.reload(&request), second.reload(&request));
    let both = async { tokio::join!(one, other) };
    let mut both = std::pin::pin!(both);
    // Both have asked now, and the first to go would serve both, had they one configuration.
    assert!(futures_util::FutureExt::now_or_never(&mut both).is_none());
    drop(at_work);
    let (one, other) = both.await;
    one.unwrap();
    other.unwrap();
    assert_eq!(
        (world.read("told-first"), world.read("told-second")),
        ("told\n".into(), "told\n".into())
    );
}
