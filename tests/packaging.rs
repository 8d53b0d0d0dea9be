//! What packages and images are made of, as far as that can be seen without building one.
//!
//! Not here: the packages themselves, which is tests/package.sh.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// Made by packaging/build.sh.
const BUILT: [&str; 3] = ["target/release/", "target/pages/", "target/rpm/"];

#[test]
fn every_source_of_a_package_is_in_the_tree() {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    let deb = assets(&metadata["deb"]).map(|it| it[0].as_str().unwrap().to_owned());
    let rpm = assets(&metadata["generate-rpm"]).map(|it| it["source"].as_str().unwrap().to_owned());
    let sources: Vec<String> =
        deb.chain(rpm).filter(|it| !BUILT.iter().any(|built| it.starts_with(built))).collect();
    assert!(sources.len() > 20, "{sources:?}");
    for source in sources {
        let found = glob::glob(root().join(&source).to_str().unwrap()).unwrap().count();
        assert!(found > 0, "there is no {source}");
    }
}

#[test]
fn what_the_image_copies_is_in_the_tree_and_sent_to_the_engine() {
    let ignored = read("packaging/container/Dockerfile.dockerignore");
    let sent: Vec<&str> = ignored.lines().filter_map(|it| it.strip_prefix('!')).collect();
    let dockerfile = read("packaging/container/Dockerfile");
    let mut copied = 0;
    for line in dockerfile.lines().filter_map(|it| it.strip_prefix("COPY ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((_to, from)) = words.split_last().filter(|_| !line.starts_with("--from")) else {
            continue;
        };
        for source in from {
            assert!(root().join(source).exists(), "COPY {source}: it is not there");
            assert!(sent.contains(source), "COPY {source}: the engine is not sent it");
            copied += 1;
        }
    }
    assert!(copied > 4, "{copied} sources only");
}

#[test]
fn what_works_for_the_daemon_is_confined_like_it() {
    let daemon = sandbox("renewd.service");
    assert!(daemon.len() > 30, "{daemon:?}");
    assert_eq!(sandbox("renewd-renew.service"), daemon);
    assert_eq!(sandbox("renewd-alert@.service"), daemon);
}

#[test]
fn the_changelog_of_the_package_is_about_this_version() {
    let first = read("packaging/debian/changelog").lines().next().unwrap().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert!(first.starts_with(&format!("renewd ({version}-")), "{first}");
}

/// The directives of `unit` below its heading `Sandbox`.
fn sandbox(unit: &str) -> Vec<String> {
    let text = read(&format!("packaging/systemd/{unit}"));
    let (_, below) = text.split_once("# Sandbox\n").unwrap_or_else(|| panic!("{unit} has none"));
    let lines = below.lines().take_while(|it| !it.starts_with('['));
    lines.filter(|it| !it.is_empty() && !it.starts_with('#')).map(str::to_owned).collect()
}

fn assets(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["assets"].as_array().unwrap().iter()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
