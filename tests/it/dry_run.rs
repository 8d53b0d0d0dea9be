//! `renewd renew --dry-run` goes the whole way at a Pebble for tests, and leaves what is live as it
//! is: every file of the state, what is installed, what is served, the account at the real CA.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use renewd::model::Fingerprint;
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, target};
use crate::support::{Endpoint, Pebble, PebbleOptions, eventually};

/// Each path below `folder`, but the trial's own, with its owner, rights and content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, String)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        if path == folder.join("dry-run") {
            continue;
        }
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            String::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            Fingerprint::of(&fs::read(&path).unwrap()).to_string()
        };
        found.insert(path, (metadata.uid(), metadata.permissions().mode(), content));
    }
    found
}

/// A site that serves, with installed files, and a second Pebble for tests that its configuration
/// calls `trial` and that would use every authorization again.
fn scene() -> (Site, Pebble) {
    let site = Site::start();
    let trial = Pebble::start(&PebbleOptions {
        http_port: site.pebble.http_port(),
        authorization_reuse: 100,
        ..PebbleOptions::default()
    });
    let mut config = fs::read_to_string(site.workspace.config_file()).unwrap();
    let installed = site.workspace.path().join("installed.pem");
    let table = target(site.nginx());
    let install = format!("{table}install = [{{ file = \"fullchain\", path = {installed:?} }}]\n");
    config = config.replace(&table, &install);
    let (directory, trust) = (trial.directory(), trial.root_file());
    let ca = format!("[ca.trial]\ndirectory = {directory:?}\ntrust = {trust:?}\ntest = true\n");
    config = config.replace("[ca.lab]", &format!("{ca}[ca.lab]"));
    crate::support::write(&site.workspace.config_file(), &config);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert!(installed.exists());
    (site, trial)
}

#[test]
fn a_dry_run_goes_the_whole_way_and_touches_nothing_that_is_live() {
    let (site, trial) = scene();
    let root = site.workspace.path();
    let state = root.join("state");
    let look = || {
        let installed = fs::read_to_string(root.join("installed.pem")).unwrap();
        let asked = site.pebble.requests().0.len();
        (contents(&state), contents(&root.join("run")), installed, site.served_serial(), asked)
    };
    let before = look();

    let own = site.renewd(&["renew", "--dry-run"]);
    assert_eq!(own.code, 1, "{own}");
    assert!(own.stderr.contains("no twin for tests"), "{own}");
    for (ca, why) in [("lab", "lab is not for tests"), ("nosuch", "there is no CA named nosuch")] {
        let refused = site.renewd(&["renew", "--dry-run", "--ca", ca]);
        assert_eq!(refused.code, 2, "{refused}");
        assert!(refused.stderr.contains(why), "{refused}");
    }
    // Control is proven each time, although this CA would use every authorization again.
    for orders in 1..=2 {
        let tried = site.renewd(&["renew", "--dry-run", "--ca", "trial", NAME]);
        assert_eq!(tried.code, 0, "{tried}\n{}", trial.log());
        for what in [
            "site: the trial went well",
            "ca       trial at https://",
            "account  https://",
            "proven   site.example by http-01 with web",
            "issued   serial ",
            "nginx: its test passes; ",
            "as site.example serves what is held",
            "not proven: that nginx would load and serve it",
            "not proven: that lab itself would issue it now",
        ] {
            assert!(tried.stdout.contains(what), "{what} is not in {tried}");
        }
        assert_eq!(trial.requests().count(Endpoint::NewOrder), orders);
        assert_eq!(trial.requests().count(Endpoint::NewAccount), 1);
    }
    let json = site.renewd(&["renew", "--dry-run", "--ca", "trial", "--json"]);
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(told[0]["renewed"], true, "{told:#}");
    assert_eq!(told[0]["targets"][0]["test"]["result"], "passed", "{told:#}");
    let proven = told[0]["steps"].as_array().unwrap().iter().any(|it| it["step"] == "proven");
    assert!(proven, "{told:#}");

    site.nginx().break_config();
    let broken = site.renewd(&["renew", "--dry-run", "--ca", "trial"]);
    assert_eq!(broken.code, 1, "{broken}");
    assert!(broken.stdout.contains("its test fails"), "{broken}");
    site.nginx().repair_config();

    let after = look();
    assert_eq!(after.0, before.0, "the state");
    assert_eq!((&after.1, &after.2, &after.3), (&before.1, &before.2, &before.3));
    assert_eq!(after.4, before.4, "requests at the real CA");
    check_that_a_signal_ends_a_test(&site);
}

/// A signal ends a trial also while a target is tested.
#[track_caller]
fn check_that_a_signal_ends_a_test(site: &Site) {
    let begun = site.workspace.path().join("begun");
    let hanging = ["sh", "-c", &format!("echo > {begun:?}; exec tail -f /dev/null")];
    let config = fs::read_to_string(site.workspace.config_file()).unwrap();
    let own = format!("test = {:?}", site.nginx().test_command());
    crate::support::write(
        &site.workspace.config_file(),
        config.replace(&own, &format!("test = {hanging:?}")),
    );
    let mut trial = site.workspace.spawn(&["renew", "--dry-run", "--ca", "trial"]);
    eventually(
        LIMIT,
        "a target is tested",
        || {
            if begun.exists() { Ok(()) } else { Err(trial.log()) }
        },
    );
    assert_eq!(trial.terminate(Duration::from_secs(20)), 1, "{}", trial.log());
}

#[test]
fn beside_a_daemon_a_trial_goes_well_and_one_that_can_not_prove_control_says_so() {
    let (site, trial) = scene();
    // What a daemon leaves that is killed while it writes its status file.
    let written = site.workspace.path().join("run/.renewd-status");
    crate::support::write(&written, "{");
    let mut daemon = site.daemon();
    let socket = site.workspace.path().join("run/control.sock");
    eventually(LIMIT, "the daemon listens", || {
        std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|_no| daemon.log())
    });
    let before = site.await_condition("served");
    assert!(!written.exists(), "nobody else writes there while a daemon starts");
    crate::support::write(&written, "{");
    let tried = site.renewd(&["renew", "--dry-run", "--ca", "trial"]);
    assert_eq!(tried.code, 0, "{tried}\n{}", trial.log());
    assert!(written.exists(), "it may be what the daemon writes");
    assert_eq!(site.status()["serial"], before["serial"]);
    assert_eq!(daemon.terminate(LIMIT), 0, "{}", daemon.log());

    let mut config = fs::read_to_string(site.workspace.config_file()).unwrap();
    writeln!(config, "[solver.nowhere]\ntype = \"http-01\"\nwebroot = {:?}", "elsewhere").unwrap();
    let config =
        config.replace("profile = \"default\"", "profile = \"default\"\nsolver = \"nowhere\"");
    crate::support::write(&site.workspace.config_file(), &config);
    let tried = site.renewd(&["renew", "--dry-run", "--ca", "trial"]);
    assert_eq!(tried.code, 1, "{tried}");
    assert!(tried.stdout.contains("the trial did not go well"), "{tried}");
    assert!(tried.stderr.contains("elsewhere"), "{tried}");
    assert_eq!(site.status()["failures"], 0, "what is live does not know of it");
}
