//! Tests of the deployer in this process: files, programs, and who waits for whom.

use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::deploy::{InstallContent, InstallSettings, ProgramSettings};
use crate::model::{CertificateSpec, Explain, Generation, Identifier, KeyType, chain_text};
use crate::probe::test_server::Certified;
use crate::sys::atomic::{self, Access};

mod check;
mod client;
mod hanging;

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
async fn put_back_brings_the_files_that_the_server_was_last_told_to_load() {
    let world = World::new();
    world.store(2, &Certified::new(&["example.com"]));
    world.store(3, &Certified::new(&["example.com"]));
    let deployer = world.deployer();
    let error = deployer.put_back(&request(1)).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingKept { .. }), "{error}");

    deployer.install(&request(1)).await.unwrap();
    deployer.reload(&request(1)).await.unwrap();
    let error = deployer.put_back(&request(1)).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingKept { .. }), "{error}");
    let first = (world.read("etc/site.pem"), world.read("etc/site.key"));
    deployer.install(&request(2)).await.unwrap();
    // A second set in the place of one that was not tested.
    deployer.install(&request(3)).await.unwrap();
    deployer.install(&request(2)).await.unwrap();
    assert_eq!(deployer.install(&request(2)).await.unwrap(), Installed::Unchanged);
    deployer.put_back(&request(2)).await.unwrap();
    assert_eq!((world.read("etc/site.pem"), world.read("etc/site.key")), first);
    assert_eq!(deployer.install(&request(2)).await.unwrap(), Installed::Changed);
}

/// A trial runs the test beside the daemon, and must not take from it what it may put back.
#[tokio::test]
async fn a_test_that_passes_leaves_what_can_be_put_back() {
    let mut world = World::new();
    world.settings.test = Some(program_of("/bin/true", &[]));
    let deployer = world.deployer();
    deployer.install(&request(1)).await.unwrap();
    deployer.test(&request(1)).await.unwrap();
    deployer.put_back(&request(1)).await.unwrap();
    assert!(!world.path("etc/site.pem").exists(), "there was none");
}

/// D10: what somebody did to the files, and was put right, is nothing to go back to.
#[tokio::test]
async fn what_a_repair_replaced_is_never_put_back() {
    let world = World::new();
    world.store(2, &Certified::new(&["example.com"]));
    let deployer = world.deployer();
    deployer.install(&request(1)).await.unwrap();
    deployer.reload(&request(1)).await.unwrap();
    let first = (world.read("etc/site.pem"), world.read("etc/site.key"));
    atomic::write(&world.path("etc/site.pem"), b"junk", Access::mode(0o644)).unwrap();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Changed);
    deployer.install(&request(2)).await.unwrap();
    deployer.put_back(&request(2)).await.unwrap();
    assert_eq!((world.read("etc/site.pem"), world.read("etc/site.key")), first);
}

#[tokio::test]
async fn each_kind_of_reload_accepts_what_stands_there() {
    let mut world = World::new();
    world.store(2, &Certified::new(&["example.com"]));
    // One for each certificate, and one for all that are asked for.
    symlink("/bin/true", world.path("systemctl")).unwrap();
    let for_all = world.path("systemctl").display().to_string();
    for program in [None, Some("/bin/true"), Some(&*for_all)] {
        world.settings.reload = program.map(|it| ReloadSettings::Command(program_of(it, &[])));
        let deployer = world.deployer();
        for generation in [1, 2] {
            deployer.install(&request(generation)).await.unwrap();
            deployer.reload(&request(generation)).await.unwrap();
            let error = deployer.put_back(&request(generation)).await.unwrap_err();
            assert!(matches!(error, DeployError::NothingKept { .. }), "{program:?}: {error}");
        }
    }
}

/// A reload is for the certificate's sake: that earlier copies can't be removed is no reason to go
/// without.
#[tokio::test]
async fn what_can_not_be_accepted_is_loaded_all_the_same() {
    let mut world = World::new();
    world.reload_by("/bin/true", &[]);
    let deployer = world.deployer();
    deployer.install(&request(1)).await.unwrap();
    let record = world.path("previous/web/site/accepted.json");
    fs::remove_file(&record).unwrap();
    atomic::directory(&record.join("in-the-way"), Access::mode(0o700)).unwrap();
    deployer.reload(&request(1)).await.unwrap();
    assert_eq!(deployer.install(&request(1)).await.unwrap(), Installed::Unchanged);
    world.store(2, &Certified::new(&["example.com"]));
    assert_eq!(deployer.install(&request(2)).await.unwrap(), Installed::Changed);
    deployer.reload(&request(2)).await.unwrap();
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
        symlink("/bin/sh", &script).unwrap();
        world.reload_by(&script.display().to_string(), &["-c", &format!("echo told >> {told}")]);
        world.deployer()
    };
    let first = deployer_of("first");
    let second = deployer_of("second").in_place_of(&first);
    let name: TargetName = "web".parse().unwrap();
    let turn = &first.targets[&name].shared.at_work;
    let held = turn.take(Doing::Install, Duration::from_secs(60)).await.unwrap();
    assert!(Arc::ptr_eq(turn, &second.targets[&name].shared.at_work));
    let request = request(1);
    let (one, other) = (first.reload(&request), second.reload(&request));
    let both = async { tokio::join!(one, other) };
    let mut both = std::pin::pin!(both);
    // Both have asked now, and the first to go would serve both, had they one configuration.
    assert!(futures_util::FutureExt::now_or_never(&mut both).is_none());
    drop(held);
    let (one, other) = both.await;
    one.unwrap();
    other.unwrap();
    assert_eq!(
        (world.read("told-first"), world.read("told-second")),
        ("told\n".into(), "told\n".into())
    );
}
