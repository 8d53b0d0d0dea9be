//! What a daemon that fell into wrong hands can do with the deployer: what it plants, what it says,
//! and how much of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{IDENTIFIER, World, ask, install, plant, rename, request};
use crate::site::{LIMIT, NAME};
use crate::support::{eventually, grow, write, write_secret};

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
