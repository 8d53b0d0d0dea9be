//! The deployer process: the main job through its socket, and what a daemon that fell into wrong
//! hands can do with it.
//!
//! As root and as anybody else: whoever runs the tests is the user whom the deployer works for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use renewd::model::{Chain, PrivateKey};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site};
use crate::support::{Endpoint, Running, eventually, grow, write, write_secret};

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

/// Every file that stands outside of what the daemon itself may write, with its content.
fn outside(workspace: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![workspace.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_the_daemons = path.starts_with(workspace.join("state"))
                || path.extension().is_some_and(|it| it == "log");
            let kind = path.symlink_metadata().unwrap().file_type();
            if is_the_daemons || kind.is_socket() || kind.is_fifo() {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                files.insert(path, content);
            }
        }
    }
    files
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

/// One thing that a daemon in wrong hands may try: what it plants, what it says, and a phrase of
/// the answer.
struct Attack {
    what: &'static str,
    plant: fn(&World),
    line: String,
    phrase: &'static str,
}

fn attack(
    what: &'static str,
    plant: fn(&World),
    line: impl Into<String>,
    phrase: &'static str,
) -> Attack {
    Attack { what, plant, line: line.into(), phrase }
}

/// What is said alone is enough.
fn nothing(_world: &World) {}

/// A request for what is planted.
fn wanted(what: &'static str, plant: fn(&World), phrase: &'static str) -> Attack {
    attack(what, plant, install("99"), phrase)
}

/// Something else in the place of a file or folder.
fn planted_things() -> Vec<Attack> {
    fn victim(world: &World) -> PathBuf {
        world.path("victim.pem")
    }
    vec![
        wanted(
            "a link for the chain",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                std::fs::remove_file(world.planted().join("fullchain.pem")).unwrap();
                symlink(victim(world), world.planted().join("fullchain.pem")).unwrap();
            },
            "cannot open",
        ),
        wanted(
            "a link for the key",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                std::fs::remove_file(world.planted().join("privkey.pem")).unwrap();
                symlink(victim(world), world.planted().join("privkey.pem")).unwrap();
            },
            "cannot open",
        ),
        wanted(
            "a link for the generation",
            |world| {
                plant(&world.path("state/elsewhere"), &[IDENTIFIER]);
                symlink(world.path("state/elsewhere"), world.planted()).unwrap();
            },
            "cannot open the folder",
        ),
        wanted(
            "a hard link for the key",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                let key = world.planted().join("privkey.pem");
                std::fs::hard_link(&key, world.planted().join("second")).unwrap();
            },
            "more than one hard link",
        ),
        wanted(
            "a pipe for the chain",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                let pipe = world.planted().join("fullchain.pem");
                std::fs::remove_file(&pipe).unwrap();
                mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
            },
            "not a regular file",
        ),
        wanted(
            "a folder for the key",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                let key = world.planted().join("privkey.pem");
                std::fs::remove_file(&key).unwrap();
                std::fs::create_dir(&key).unwrap();
            },
            "not a regular file",
        ),
    ]
}

/// Files that hold what they should not.
fn planted_content() -> Vec<Attack> {
    vec![
        wanted(
            "the certificate of another name",
            |world| plant(&world.planted(), &["foreign.example"]),
            "exactly the names",
        ),
        wanted(
            "a certificate of one name more",
            |world| plant(&world.planted(), &[IDENTIFIER, "foreign.example"]),
            "exactly the names",
        ),
        wanted(
            "a key that does not fit",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                let key = KeyPair::generate().unwrap().serialize_pem();
                write_secret(&world.planted().join("privkey.pem"), key, 0o600);
            },
            "does not belong to the certificate",
        ),
        wanted(
            "a gigabyte",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                grow(&world.planted().join("fullchain.pem"), 1 << 30);
            },
            "too large",
        ),
        wanted(
            "garbage",
            |world| {
                plant(&world.planted(), &[IDENTIFIER]);
                write(&world.planted().join("fullchain.pem"), [0xff; 1000]);
            },
            "can't be deployed",
        ),
    ]
}

/// What is said on the socket, with nothing planted.
fn spoken_attacks() -> Vec<Attack> {
    let said = |what, line, phrase| attack(what, nothing, line, phrase);
    let refused = "deploy.refused";
    let long = "a".repeat(4096);
    vec![
        said("another verb", request("exec", NAME, "1", "nginx"), refused),
        said("the repair", request("repair", NAME, "1", "nginx"), refused),
        said("no verb", request("", NAME, "1", "nginx"), refused),
        said("a path for a name", request("install", "../../etc", "1", "nginx"), refused),
        said("an absolute name", request("install", "/etc/passwd", "1", "nginx"), refused),
        said("a NUL in a name", request("install", "site\\u0000", "1", "nginx"), refused),
        said("a name of 4 kB", request("install", &long, "1", "nginx"), refused),
        said("a target's path", request("reload", NAME, "1", "../nginx"), refused),
        said("a negative generation", install("-1"), refused),
        said("a generation's path", install("\"../0001\""), refused),
        said("a key more", install("1,\"path\":\"/etc/shadow\""), refused),
        said("a line of 1 MB", "x".repeat(1 << 20), refused),
        said("half a request", install("1")[..40].to_owned(), refused),
        said("two requests", install("1") + &install("1"), refused),
        said("no JSON", "GET / HTTP/1.1\r\n\r\n".to_owned(), refused),
        said("another certificate", request("install", "other", "1", "nginx"), "no certificate"),
        said("an unlisted target", request("install", NAME, "1", "mail"), "does not hand"),
        said("an unknown target", request("reload", NAME, "1", "sshd"), "does not hand"),
        said("a generation that is not there", install("4294967295"), "cannot open the folder"),
        said("to reload for none", request("reload", NAME, "77", "nginx"), "cannot open"),
        said("to check a path", request("check", "../../etc", "0", "nginx"), refused),
        said("to check a target's path", request("check", NAME, "0", "/etc/nginx"), refused),
        said("to check a folder", request("check", NAME, "0,\"path\":\"/root\"", "nginx"), refused),
        said("to check for another", request("check", "other", "0", "nginx"), "no certificate"),
        said("to check what is unlisted", request("check", NAME, "0", "mail"), "does not hand"),
        said("to check what is unknown", request("check", NAME, "0", "sshd"), "does not hand"),
    ]
}

#[test]
fn a_daemon_in_wrong_hands_writes_nothing_that_the_configuration_does_not_list() {
    let world = World::start();
    let renewed = world.site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", world.deployer.log());
    world.site.workspace.write_secret("victim.pem", "precious", 0o600);
    let before = outside(world.site.workspace.path());
    let vain = || world.logged("failed") + world.logged("refused");

    let cases = [planted_things(), planted_content(), spoken_attacks()];
    for (tried, case) in (1..).zip(cases.into_iter().flatten()) {
        (case.plant)(&world);
        let answer = world.ask(case.line.as_bytes());
        assert!(answer.contains(case.phrase), "{}: {answer}", case.what);
        assert!(!answer.contains("precious"), "{}: {answer}", case.what);
        assert_eq!(outside(world.site.workspace.path()), before, "{}", case.what);
        assert_eq!(vain(), tried, "{} is not logged: {}", case.what, world.deployer.log());
        drop(std::fs::remove_dir_all(world.planted()));
        drop(std::fs::remove_file(world.planted()));
    }
    let checked = world.ask(request("check", NAME, "0", "nginx").as_bytes());
    assert!(checked.contains("\"done\""), "{checked}");
    folders_that_are_links(&world);
    assert_eq!(outside(world.site.workspace.path()), before);

    silence_and_floods(&world);
    assert_eq!(outside(world.site.workspace.path()), before);

    let serial = world.site.served_serial();
    let renewed = world.site.renewd(&["renew", "--force", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", world.deployer.log());
    assert_ne!(world.site.served_serial(), serial);
}

/// The folders above the generations are the daemon's too.
fn folders_that_are_links(world: &World) {
    for name in ["state/certs/site", "state/certs"] {
        let (folder, moved) = (world.path(name), world.path("state/moved"));
        plant(&world.planted(), &[IDENTIFIER]);
        rename(&folder, &moved);
        symlink(&moved, &folder).unwrap();
        let answer = world.ask(install("99").as_bytes());
        assert!(answer.contains("cannot open the folder"), "{name}: {answer}");
        std::fs::remove_file(&folder).unwrap();
        rename(&moved, &folder);
        std::fs::remove_dir_all(world.planted()).unwrap();
    }
}

/// Connections that stall, and a thousand requests: others are answered all the while.
fn silence_and_floods(world: &World) {
    let socket = world.path("run/deployer.sock");
    let mut silent: Vec<UnixStream> =
        (0..64).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for stream in &mut silent {
        stream.write_all(b"{\"version\":1,").unwrap();
    }
    let answer = world.ask(request("put_back", "other", "1", "nginx").as_bytes());
    assert!(answer.contains("no certificate other"), "{answer}");
    drop(silent);

    let line = request("reload", "other", "1", "nginx");
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    // Whom the machine keeps from writing for 100 ms is taken for silent.
                    let answers = std::iter::repeat_with(|| ask(&socket, line.as_bytes()));
                    let mut answers = answers.take(20);
                    let answer = answers.find(|it| !it.contains("did not come in time")).unwrap();
                    assert!(answer.contains("no certificate other"), "{answer}");
                }
            });
        }
    });
    eventually(LIMIT, "it is told that not every call was logged", || {
        let log = world.deployer.log();
        if log.contains("too many calls to log them all") { Ok(()) } else { Err(log.len()) }
    });
    assert!(world.logged("failed") < 700, "{}", world.logged("failed"));
}
