//! Commands beside a daemon, and by root without one: no file changes its owner, and nothing is
//! asked twice of the CA.
//!
//! Without a daemon it needs root to show anything: only root can become the owner of another
//! user's files. Run as anybody else, the tests of that are left out, and those with a daemon stay.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::site::{LIMIT, NAME, Site, SiteOptions, Tls};
use crate::support::{Endpoint, PebbleOptions, Workspace};

/// Nobody is called so.
const OWNER: u32 = 54_321;

/// Each path below `folder` with its owner and group.
fn owners(folder: &Path) -> BTreeMap<PathBuf, (u32, u32)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        // A daemon may have taken away what it wrote beside.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        found.insert(path.clone(), (metadata.uid(), metadata.gid()));
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|it| it.unwrap().path()));
        }
    }
    found
}

/// A site whose certificates live long enough to be renewed by force alone.
fn lasting() -> SiteOptions {
    let profiles = vec![("default".into(), Duration::from_hours(1))];
    SiteOptions {
        pebble: PebbleOptions { profiles, ..PebbleOptions::default() },
        ..SiteOptions::default()
    }
}

#[test]
fn a_renewal_beside_a_daemon_is_one_order_of_one_account_and_every_file_keeps_its_owner() {
    let site = Site::with(&lasting());
    let mut daemon = site.daemon();
    let before = site.await_condition("served");
    let state = site.workspace.path().join("state");
    let owner = state.metadata().map(|it| (it.uid(), it.gid())).unwrap();
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);

    let renewed = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", daemon.log());
    assert_ne!(site.status()["serial"], before["serial"]);

    let strangers: Vec<_> = owners(&state).into_iter().filter(|(_, it)| *it != owner).collect();
    assert_eq!(strangers, []);
    let requests = site.pebble.requests();
    assert_eq!(requests.count(Endpoint::NewOrder), 2, "{requests:#?}");
    assert_eq!(requests.count(Endpoint::Finalize), 2, "{requests:#?}");
    assert_eq!(requests.count(Endpoint::NewAccount), 1, "{requests:#?}");
    assert_eq!(daemon.terminate(LIMIT), 0, "{}", daemon.log());
}

#[test]
fn root_without_a_daemon_acts_as_the_owner_and_servers_are_told_all_the_same() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let site = Site::with(&lasting());
    // As another user's: the owner gets through to it, and the configuration stays root's.
    let folder = site.workspace.path();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    let state = folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    for path in owners(&state).keys() {
        std::os::unix::fs::lchown(path, Some(OWNER), Some(OWNER)).unwrap();
    }
    let run = folder.join("run");
    std::fs::create_dir_all(&run).unwrap();
    for path in owners(&run).keys() {
        chown(path, Some(OWNER), Some(OWNER)).unwrap();
    }

    for orders in 1..=2 {
        let renewed = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(renewed.code, 0, "{renewed}");
        let status = site.status();
        assert_eq!(status["condition"], "served", "{status:#}");
        assert_eq!(status["serial"], site.served_serial().unwrap().as_str());
        let requests = site.pebble.requests();
        assert_eq!(requests.count(Endpoint::NewOrder), orders, "{requests:#?}");
        assert_eq!(requests.count(Endpoint::NewAccount), 1, "{requests:#?}");
        // What was ordered is now to be found out from what is held, beside what only root may
        // list.
        if orders == 1 {
            std::fs::remove_dir_all(state.join("private/ledger")).unwrap();
            let root_only = state.join("certs/lost+found");
            std::fs::create_dir(&root_only).unwrap();
            std::fs::set_permissions(&root_only, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let test_ca = config.replace("[ca.lab]", "[ca.lab]\ntest = true");
    crate::support::write(&site.workspace.config_file(), test_ca);
    let trial = site.renewd(&["renew", "--dry-run"]);
    assert_eq!(trial.code, 0, "{trial}");
    assert!(trial.stdout.contains("nginx: its test passes; "), "{trial}");
    std::fs::remove_dir(state.join("certs/lost+found")).unwrap();
    let strangers: Vec<_> =
        owners(&state).into_iter().filter(|(_, it)| *it != (OWNER, OWNER)).collect();
    assert_eq!(strangers, []);
    // The deployer that it started went with it.
    assert!(!run.join("deployer.sock").exists());
}

#[test]
fn root_changes_nothing_that_the_owner_planted_beside_his_state() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let site = Site::with(&lasting());
    let folder = site.workspace.path();
    let path = |name: &str| folder.join(name);
    let (victim, run) = (path("victim"), path("run"));
    for name in ["state", "victim"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    drop(std::fs::remove_dir_all(&run));
    symlink(&victim, path("state-deployer")).unwrap();
    for planted in [folder.to_owned(), path("state")] {
        chown(&planted, Some(OWNER), Some(OWNER)).unwrap();
    }
    let rights = || victim.metadata().map(|it| (it.uid(), it.mode() & 0o7777)).unwrap();
    let before = rights();
    // The run directory is missing, leads nowhere yet, or leads elsewhere.
    for link in [None, Some(path("nowhere")), Some(victim.clone())] {
        drop(std::fs::remove_file(&run));
        link.iter().for_each(|it| symlink(it, &run).unwrap());
        let refused = site.renewd(&["renew"]);
        assert_eq!(refused.code, 5, "{refused}");
        assert!(refused.stderr.contains("hint: "), "{refused}");
        assert_eq!(rights(), before, "{link:?}: {refused}");
        assert!(!path("nowhere").exists());
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn a_daemon_that_root_starts_on_another_users_state_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let site = Site::with(&SiteOptions { tls: Tls::Later, ..SiteOptions::default() });
    let state = site.workspace.path().join("state");
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(OWNER), Some(OWNER)).unwrap();
    let refused = site.renewd(&["run"]);
    assert_eq!(refused.code, 5, "{refused}");
    assert!(refused.stderr.contains("belongs to the user 54321"), "{refused}");
    assert!(refused.stderr.contains("hint: "), "{refused}");
    assert_eq!(owners(&state).len(), 1, "nothing was made there");
}

#[test]
fn state_that_is_lost_at_the_next_start_is_refused_for_a_public_ca_and_nothing_is_written() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let workspace = Workspace::new();
    let write = |head: &str| {
        let text = format!("{head}terms_of_service_agreed = true\n[[certificate]]\n");
        let text = format!("{text}domains = [\"site.example\"]\ntargets = []\n");
        workspace.write_config(&text);
    };
    // The state directory stays where the configuration says, and lies in memory all the same.
    symlink(memory.path(), workspace.path().join("state")).unwrap();
    write("");
    for command in ["run", "renew"] {
        let refused = workspace.renewd(&[command]);
        assert_eq!(refused.code, 5, "{command}: {refused}");
        assert!(refused.stderr.contains("is on tmpfs"), "{command}: {refused}");
        assert!(refused.stderr.contains("ephemeral = true"), "{command}: {refused}");
    }
    let checked = workspace.renewd(&["check"]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.stdout.contains("is on tmpfs"), "{checked}");
    write("ephemeral = true\n");
    let checked = workspace.renewd(&["check"]);
    assert!(!checked.stdout.contains("tmpfs"), "{checked}");
    assert_eq!(std::fs::read_dir(memory.path()).unwrap().count(), 0);
}
