//! A mount that hangs: what is said of it, and who has to wait for it. A journal that is a pipe
//! stands in for one: whoever opens it waits until somebody writes to it.

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};

use super::*;

/// How long what must not hang may take, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Hangs whoever wants to install `site` to one target.
struct Hanging(PathBuf);

impl Hanging {
    fn at(world: &World, target: &str) -> Self {
        let journal = world.path(&format!("previous/{target}/site/journal.json"));
        atomic::directory(journal.parent().unwrap(), Access::mode(0o700)).unwrap();
        mknodat(CWD, &journal, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        Self(journal)
    }

    /// Lets go on whoever hangs, once there is somebody.
    async fn let_go(self) {
        let opened = async {
            while !self.open() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, opened).await.expect("somebody hangs");
    }

    /// Whether somebody hangs there, who goes on now.
    fn open(&self) -> bool {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(CWD, &self.0, flags, Mode::empty()).is_ok()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // The runtime waits for its threads, also where a test has failed.
        self.open();
    }
}

/// A deployer for `world`'s target and for `mail`, the same with other files.
fn deployer_with_mail(world: &World) -> DirectDeployer {
    let web = world.settings.clone();
    let mut mail = TargetSettings { name: "mail".parse().unwrap(), ..web.clone() };
    for file in &mut mail.install {
        file.path = file.path.replace("{name}", "{name}-mail");
    }
    let targets = [(web.name.clone(), web), (mail.name.clone(), mail)];
    DirectDeployer::new(world.path("certs"), world.path("previous"), targets.into())
}

/// The same, which waits for little.
fn hasty(world: &World) -> DirectDeployer {
    let limit = Duration::from_millis(300);
    let limits = Limits { files: limit, beside_programs: limit };
    DirectDeployer { limits, ..deployer_with_mail(world) }
}

/// What `done` says, which has to end.
async fn told(done: impl Future<Output = Result<(), DeployError>>) -> DeployError {
    timeout(LIMIT, done).await.expect("it is waited for without end").unwrap_err()
}

#[tokio::test]
async fn an_install_that_hangs_is_told_and_keeps_its_target_alone_until_it_ends() {
    let mut world = World::new();
    world.settings.test = Some(program_of("true", &[]));
    world.reload_by("true", &[]);
    let hanging = Hanging::at(&world, "web");
    let first = hasty(&world);
    let error = told(async {
        loop {
            // A machine that is busy may take as long to read the generation.
            match first.install(&request(1)).await {
                Err(DeployError::Source { .. }) => {}
                other => break other.map(drop),
            }
        }
    })
    .await;
    let text = chain_text(&error);
    assert_eq!(error.code(), "deploy.silent");
    assert!(
        text.starts_with("target web does not answer: an install of its files, begun "),
        "{text}"
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains(&world.path("etc").display().to_string()), "{hint}");

    // Whoever takes its place finds the target as it is.
    let second = deployer_with_mail(&world).in_place_of(&first);
    let asked = request(1);
    let check = second.check(&asked.certificate, &asked.target);
    for error in [
        told(async { second.install(&asked).await.map(drop) }).await,
        told(second.test(&asked)).await,
        told(second.reload(&asked)).await,
        told(second.put_back(&asked)).await,
        told(second.repair()).await,
        told(check).await,
    ] {
        let doing = |it: &DeployError| match it {
            DeployError::Silent { target, doing, .. } => Some((target.to_string(), *doing)),
            _ => None,
        };
        assert_eq!(doing(&error), Some(("web".into(), Doing::Install)), "{error}");
    }
    assert!(!world.path("etc/site.pem").exists());

    let other = DeployRequest { target: "mail".parse().unwrap(), ..request(1) };
    second.check(&other.certificate, &other.target).await.unwrap();
    assert_eq!(second.install(&other).await.unwrap(), Installed::Changed);
    second.test(&other).await.unwrap();
    second.reload(&other).await.unwrap();
    assert!(world.path("etc/site-mail.pem").exists());

    hanging.let_go().await;
    wait_for(&world.path("etc/site.key")).await;
    let installed = async { while second.install(&request(1)).await.is_err() {} };
    timeout(LIMIT, installed).await.expect("it goes on when the mount answers");
    second.reload(&request(1)).await.unwrap();
}

#[tokio::test]
async fn a_repair_that_hangs_is_told_and_holds_up_no_other_target() {
    let world = World::new();
    // The first in order is the one that hangs.
    let hanging = Hanging::at(&world, "mail");
    let journal = world.path("previous/web/site/journal.json");
    let broken = || {
        atomic::directory(journal.parent().unwrap(), Access::mode(0o700)).unwrap();
        atomic::write(&journal, b"broken", Access::mode(0o600)).unwrap();
    };
    let gone = async || {
        while journal.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    broken();
    let patient = deployer_with_mail(&world);
    let repairing = patient.repair();
    let mut repairing = std::pin::pin!(repairing);
    tokio::select! {
        result = &mut repairing => panic!("{result:?}"),
        repaired = timeout(LIMIT, gone()) => repaired.expect("one is repaired beside the other"),
    }
    hanging.let_go().await;
    timeout(LIMIT, repairing).await.unwrap().unwrap();

    let hanging = Hanging::at(&world, "mail");
    broken();
    let error = told(hasty(&world).repair()).await;
    assert!(
        chain_text(&error).starts_with("target mail does not answer: the repair of its files"),
        "{error}"
    );
    timeout(LIMIT, gone()).await.unwrap();
    hanging.let_go().await;
}

#[tokio::test]
async fn a_program_that_can_not_be_ended_in_time_is_not_waited_for() {
    let mut world = World::new();
    // It is told to end after a second and killed two seconds later; its limit is two.
    let settings = ProgramSettings {
        timeout: Duration::from_secs(1),
        ..program_of("sh", &["-c", "trap '' TERM; while :; do sleep 0.1; done"])
    };
    world.settings.test = Some(settings.clone());
    world.settings.reload = Some(ReloadSettings::Command(settings));
    let nothing = Limits { files: LIMIT, beside_programs: Duration::ZERO };
    let deployer = || DirectDeployer { limits: nothing, ..world.deployer() };
    let (tester, reloader) = (deployer(), deployer());
    let asked = request(1);
    let (tested, reloaded) = tokio::join!(told(tester.test(&asked)), told(reloader.reload(&asked)));
    for (error, doing) in [(tested, "its test"), (reloaded, "its reload")] {
        assert!(error.to_string().contains(doing), "{error}");
        assert_eq!(error.code(), "deploy.silent");
        assert!(error.hint().unwrap().contains("trap"), "{error}");
    }
}

/// What a crash left of an install of `etc/site.pem` and `etc/site.key`, none of them in place.
fn interrupt(world: &World) {
    let folder = world.path("previous/web/site");
    let etc = world.path("etc").display().to_string();
    for path in ["etc/site.pem", "etc/site.key"] {
        atomic::write(&world.path(path), b"old", Access::mode(0o600)).unwrap();
    }
    for path in ["etc/.renewd_next-1", "etc/.renewd_next-2"] {
        atomic::write(&world.path(path), b"new", Access::mode(0o600)).unwrap();
    }
    atomic::directory(&folder.join("kept-1"), Access::mode(0o700)).unwrap();
    for copy in ["0", "1"] {
        atomic::write(&folder.join("kept-1").join(copy), b"old", Access::mode(0o600)).unwrap();
    }
    let was = r#"{"kind":"file","copy":"N","mode":384,"owner":null,"group":null}"#;
    let files = format!(
        r#"[{{"path":"{etc}/site.pem","was":{}}},{{"path":"{etc}/site.key","was":{}}}]"#,
        was.replace('N', "0"),
        was.replace('N', "1")
    );
    atomic::write(&folder.join("kept-1/files.json"), files.as_bytes(), Access::mode(0o600))
        .unwrap();
    let journal = format!(
        r#"{{"phase":"placing","moves":[
            {{"from":"{etc}/.renewd_next-1","to":"{etc}/site.pem"}},
            {{"from":"{etc}/.renewd_next-2","to":"{etc}/site.key"}}],
            "kept":"kept-1","copies":true}}"#
    );
    let path = folder.join("journal.json");
    atomic::write(&path, journal.as_bytes(), Access::mode(0o600)).unwrap();
}

/// D04: what was right when the crash came may not be so any more.
#[tokio::test]
async fn at_the_start_nothing_is_finished_that_the_configuration_does_not_name() {
    let repaired = async |world: &World, client: Option<Client>| {
        interrupt(world);
        let deployer = world.deployer();
        let deployer = match client {
            Some(client) => deployer.on_behalf_of(client),
            None => deployer,
        };
        deployer.repair().await.unwrap();
        assert_eq!(fs::read_dir(world.path("etc")).unwrap().count(), 2, "nothing is left beside");
        assert!(!world.path("previous/web/site/journal.json").exists());
        (world.read("etc/site.pem"), world.read("etc/site.key"))
    };
    let pair = |text: &str| (text.to_owned(), text.to_owned());
    let mut world = World::new();
    assert_eq!(repaired(&world, None).await, pair("new"));
    // The deployer's own user, for whom nothing is listed.
    let client = Client::new(rustix::process::geteuid().as_raw(), &[]);
    assert_eq!(repaired(&world, Some(client)).await, pair("old"));
    world.settings.install[1].path = world.path("etc/elsewhere.key").display().to_string();
    assert_eq!(repaired(&world, None).await, pair("old"));
    world.settings.install.clear();
    assert_eq!(repaired(&world, None).await, pair("old"));
}
