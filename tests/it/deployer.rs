//! The deployer process: the main job through its socket. What a daemon that fell into wrong hands
//! can do with it is in [`attacks`].
//!
//! As root and as anybody else: whoever runs the tests is the user whom the deployer works for.

mod attacks;

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use renewd::model::{Chain, PrivateKey};
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site};
use crate::support::{Endpoint, Running, eventually, write, write_secret};

/// The one identifier of the certificate.
const IDENTIFIER: &str = "site.example";

/// How long a deployer may take to answer anything that runs no program, on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A site whose daemon and commands work through a deployer process.
struct World {
    site: Site,
    deployer: Running,
}

impl World {
    fn start() -> Self {
        let site = site();
        let deployer = start_deployer(&site);
        Self { site, deployer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.workspace.path().join(name)
    }

    /// What is answered to `line`.
    fn ask(&self, line: &[u8]) -> String {
        ask(&self.path("run/deployer.sock"), line)
    }

    /// The folder of the planted generation 99.
    fn planted(&self) -> PathBuf {
        self.site.workspace.certificate(NAME).join("0099")
    }

    /// The calls that the deployer has logged, each as its verb and outcome.
    fn logged(&self, outcome: &str) -> usize {
        let is_wanted = |line: &&str| {
            let entry: Value = serde_json::from_str(line).unwrap_or(Value::Null);
            entry.to_string().contains(&format!("\"outcome\":\"{outcome}\""))
        };
        self.deployer.log().lines().filter(is_wanted).count()
    }
}

/// A site whose configuration says `deployer = "socket"`, and installs files in `etc`.
fn site() -> Site {
    let site = Site::start();
    let workspace = &site.workspace;
    let file = workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    // The server's program has to be where nobody else can change it.
    let program = workspace.write_secret("bin/nginx", "", 0o755);
    let nginx = site.nginx().test_command()[0].clone();
    write_secret(&program, format!("#!/bin/sh\nexec {nginx} \"$@\"\n"), 0o755);
    std::fs::create_dir(workspace.path().join("etc")).unwrap();
    let install = "install = [{ file = \"fullchain\", path = \"etc/{name}.pem\" }, \
                   { file = \"privkey\", path = \"etc/{name}.key\" }]";
    let text = text
        .replace("deployer = \"direct\"", "deployer = \"socket\"")
        .replace(&format!("{nginx:?}"), &format!("{program:?}"))
        .replace("[target.nginx]", &format!("[target.nginx]\n{install}"));
    let unlisted = "[target.mail]\ntype = \"other\"\n\
                    install = [{ file = \"privkey\", path = \"etc/mail.key\" }]\n";
    let text = text.replace("[ca.lab]", &format!("{unlisted}[ca.lab]"));
    write(&file, text);
    site
}

fn start_deployer(site: &Site) -> Running {
    start_deployer_that_dies_at("", site)
}

fn start_deployer_that_dies_at(point: &str, site: &Site) -> Running {
    let socket = site.workspace.path().join("run/deployer.sock");
    let mut deployer = site.workspace.command(&arguments(own()).each_ref().map(String::as_str));
    deployer.env("RENEWD_CRASH_AT", point);
    let log = site.workspace.path().join("deployer.log");
    let deployer = Running::start("deployer", &mut deployer, &log);
    eventually(LIMIT, "the deployer listens", || {
        UnixStream::connect(&socket).map_err(|_refused| deployer.log()).map(drop)
    });
    deployer
}

fn arguments(user: u32) -> [String; 7] {
    let user = user.to_string();
    ["deployer", "--log-format", "json", "--state-dir", "deployer-state", "--user", &user]
        .map(str::to_owned)
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What the deployer at `socket` answers to `line`.
fn ask(socket: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    // Whoever is refused at once may not even be able to say it all.
    drop(stream.write_all(line));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

fn request(verb: &str, certificate: &str, generation: &str, target: &str) -> String {
    format!(
        "{{\"version\":1,\"verb\":\"{verb}\",\"certificate\":\"{certificate}\",\
         \"generation\":{generation},\"target\":\"{target}\"}}\n"
    )
}

fn install(generation: &str) -> String {
    request("install", NAME, generation, "nginx")
}

/// Plants a whole generation at `folder`: a certificate for `names` with its key.
fn plant(folder: &Path, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    write(&folder.join("fullchain.pem"), certificate.pem());
    write_secret(&folder.join("privkey.pem"), key.serialize_pem(), 0o600);
}

#[test]
fn a_certificate_is_served_through_the_deployer_and_nothing_is_run_by_the_daemon() {
    let world = World::start();
    let checked = world.site.renewd(&["check"]);
    assert!(checked.stdout.contains("by the deployer at "), "{checked}");
    let mut daemon = world.site.daemon();
    let status = world.site.await_condition("served");
    assert_eq!(status["serial"], world.site.served_serial().unwrap().as_str());
    for verb in ["check", "install", "test", "reload"] {
        let said = format!("\"verb\":\"{verb}\"");
        assert!(world.deployer.log().contains(&said), "{}", world.deployer.log());
    }
    let installed = world.path("etc/site.key").metadata().unwrap();
    assert_eq!((installed.mode() & 0o7777, installed.uid()), (0o600, own()));
    // Undo data is the deployer's own.
    assert!(!world.path("state/private/previous").exists());
    let kept = world.path("deployer-state").metadata().unwrap();
    assert_eq!(kept.mode() & 0o7777, 0o700);
    let shown = world.site.renewd(&["status"]);
    assert!(shown.stdout.contains("by the deployer at "), "{shown}");
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

/// Names that the CA does not certify yet are no reason to call failed what is served.
#[test]
fn what_is_served_stays_so_while_there_is_no_certificate_with_its_new_names() {
    let world = World::start();
    let file = world.site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = format!("{text}\n[ca.lab.limits]\nnew_orders = \"1/7d\"\n");
    write(&file, &text);
    let first = world.site.renewd(&["renew"]);
    assert_eq!(first.code, 0, "{first}");
    let wider = text.replace("[\"site.example\"]", "[\"site.example\", \"new.example\"]");
    assert_ne!(wider, text);
    write(&file, wider);
    // As it is after five minutes: it is looked at again.
    let state = world.path("state/private/targets/nginx/site.json");
    let kept = std::fs::read_to_string(&state).unwrap();
    let mut kept: Value = serde_json::from_str(&kept).unwrap();
    kept["checked_at"] = "2026-01-01T00:00:00Z".into();
    write_secret(&state, kept.to_string(), 0o600);
    world.site.renewd(&["renew"]);
    let status = world.site.status();
    assert_eq!(status["condition"], "served", "{status:#}");
    assert_ne!(status["targets"][0]["checked_at"], "2026-01-01T00:00:00Z", "{status:#}");
    let log = world.deployer.log();
    assert_eq!(log.matches("\"code\":\"deploy.source\"").count(), 1, "{log}");
}

#[test]
fn a_deployer_that_is_gone_is_a_failure_with_a_hint_and_made_up_for_when_it_is_back() {
    let world = World::start();
    let World { site, mut deployer } = world;
    deployer.kill();
    // Whoever goes to no target needs no deployer.
    let file = site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, text.replace("targets = [\"nginx\"]", "targets = []"));
    let mut daemon = site.daemon();
    site.await_condition("held");
    write(&file, text);
    let target = eventually(LIMIT, "it is told that the deployer is gone", || {
        let target = site.status()["targets"][0].clone();
        if target["error_code"].is_string() { Ok(target) } else { Err(target) }
    });
    assert_eq!(target["error_code"], "deploy.deployer_unreachable", "{target:#}");
    let hint = target["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("systemctl status renewd-deployer.socket"), "{target:#}");

    // The socket's file was left, and is replaced.
    let _deployer = start_deployer(&site);
    let status = site.await_condition("served");
    assert_eq!(status["serial"], site.served_serial().unwrap().as_str());
    assert_eq!(orders(&site), 1);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

/// D04, P09: killed between the files of an install, it has put them right before it answers
/// anybody.
#[test]
fn a_deployer_that_is_killed_between_two_files_puts_a_pair_in_place_when_it_comes_back() {
    let World { site, mut deployer } = World::start();
    assert_eq!(site.renewd(&["renew"]).code, 0, "{}", deployer.log());
    for (at, orders_then) in
        [("atomic.moved:etc/site.pem", 2), ("atomic.moved:etc/site.key", 3), ("deploy.removed", 4)]
    {
        assert_eq!(deployer.terminate(LIMIT), 0, "{}", deployer.log());
        deployer = start_deployer_that_dies_at(at, &site);
        let failed = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(failed.code, 1, "{at}: {failed}");
        deployer.kill();

        deployer = start_deployer(&site);
        let refused = ask(&site.workspace.path().join("run/deployer.sock"), b"x\n");
        assert!(refused.contains("not understood"), "{refused}");
        let installed = |name: &str| std::fs::read(site.workspace.path().join(name)).unwrap();
        let chain = Chain::parse_pem(&installed("etc/site.pem")).unwrap();
        let key = PrivateKey::from_pem(&installed("etc/site.key")).unwrap();
        assert_eq!(chain.leaf.public_key, key.public_key().unwrap(), "{at}: a torn pair");
        let renewed = site.renewd(&["renew", NAME]);
        assert_eq!(renewed.code, 0, "{at}: {renewed}\n{}", deployer.log());
        assert_eq!(site.status()["serial"], site.served_serial().unwrap().as_str(), "{at}");
        assert_eq!(orders(&site), orders_then, "{at}");
    }
    let _ended = deployer.terminate(LIMIT);
}

fn orders(site: &Site) -> usize {
    site.pebble.requests().count(Endpoint::NewOrder)
}

#[test]
fn nothing_is_ordered_while_the_deployer_is_gone_and_all_goes_on_by_itself_once_it_is_there() {
    let site = site();
    let mut daemon = site.daemon();
    let status = eventually(LIMIT, "it is told that no target is ready", || {
        let status = site.status();
        if status["error_code"] == "deploy.not_ready" { Ok(status) } else { Err(status) }
    });
    let told = ["last_error", "hint"].map(|it| status[it].as_str().unwrap_or_default());
    assert!(told[0].contains("the deployer can't be reached at "), "{status:#}");
    assert!(told[1].contains("systemctl status renewd-deployer.socket"), "{status:#}");
    assert_eq!(orders(&site), 0);

    let _deployer = start_deployer(&site);
    let status = site.await_condition("served");
    assert_eq!(status["serial"], site.served_serial().unwrap().as_str());
    assert_eq!(orders(&site), 1);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

#[test]
fn what_the_deployer_could_not_install_is_not_ordered_until_it_can() {
    let world = World::start();
    let site = &world.site;
    let folder = world.path("etc");
    std::fs::remove_dir(&folder).unwrap();
    let (program, aside) = (world.path("bin/nginx"), world.path("bin/nginx.aside"));
    rename(&program, &aside);
    let refused = |what: &str| {
        let renewed = site.renewd(&["renew", NAME]);
        assert_eq!(renewed.code, 1, "{renewed}");
        assert!(renewed.stderr.contains("so nothing was ordered"), "{renewed}");
        assert!(renewed.stderr.contains(what), "{renewed}");
        assert_eq!(site.status()["error_code"], "deploy.not_ready");
        assert_eq!(orders(site), 0);
    };
    refused(&format!("install -d -m 0755 {}", folder.display()));
    std::fs::create_dir(&folder).unwrap();
    refused(&format!("cannot start {}", program.display()));
    rename(&aside, &program);
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", world.deployer.log());
    assert_eq!(orders(site), 1);
}

#[expect(clippy::disallowed_methods, reason = "what an operator or an attacker does is not atomic")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

#[test]
fn a_configuration_that_others_can_write_serves_nobody_until_it_is_put_right() {
    let world = World::start();
    plant(&world.planted(), &[IDENTIFIER]);
    assert!(world.ask(install("99").as_bytes()).contains("changed"));
    let file = world.site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    for (mode, phrase) in [(0o664, "not to be trusted"), (0o644, "unchanged")] {
        write_secret(&file, &text, mode);
        let answer = world.ask(install("99").as_bytes());
        assert!(answer.contains(phrase), "{mode:o}: {answer}");
    }
    // What is taken out of it may not be asked for any more, from that moment on.
    write(&file, text.replace("targets = [\"nginx\"]", "targets = []"));
    assert!(world.ask(install("99").as_bytes()).contains("does not hand"));
    write(&file, format!("{text}\nno_such_key = 1\n"));
    assert!(world.ask(install("99").as_bytes()).contains("has faults"));
}

#[test]
fn a_deployer_that_systemd_starts_serves_the_socket_it_is_given_and_one_user_alone() {
    let site = site();
    let socket = site.workspace.path().join("handed.sock");
    for (user, phrase) in [(own(), "no certificate other"), (own() + 1, "only the user")] {
        drop(std::fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket).unwrap();
        let arguments = arguments(user);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let state = site.workspace.path().join("deployer-state").display().to_string();
        arguments[4] = &state;
        let mut deployer = site.workspace.spawn_activated("deployer", listener, &arguments);
        let answer = ask(&socket, request("install", "other", "1", "nginx").as_bytes());
        assert!(answer.contains(phrase), "{answer}\n{}", deployer.log());
        assert_eq!(deployer.terminate(Duration::from_secs(20)), 0, "{}", deployer.log());
        assert!(socket.exists(), "the socket is systemd's");
    }
}
