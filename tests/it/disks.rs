//! Disks that are full, read-only or broken: what servers read stays whole, nothing is ordered that
//! could not be kept, and all goes on by itself afterwards.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use renewd::model::Chain;
use renewd::model::PrivateKey;

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{
    Endpoint, FailingDisk, Failure, Finished, Mounts, Running, Workspace, edit_json, eventually,
    run, write,
};

/// Numbers of errors, as errno(3) names them.
const EIO: i32 = 5;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// Every failure is tried where this is set; else every third of those of which there are many.
const SWEEP: &str = "RENEWD_TEST_SWEEP";

/// A certificate of the built-in CA.
fn local() -> Workspace {
    let workspace = Workspace::new();
    workspace.write_config(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
         [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = []\n",
    );
    workspace
}

fn state(workspace: &Workspace) -> PathBuf {
    workspace.path().join("state")
}

/// What is held is a whole pair; which one.
#[track_caller]
fn check_whole(workspace: &Workspace) -> String {
    let folder = workspace.certificate(NAME).join("current");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let chain = Chain::parse_pem(&read("fullchain.pem")).unwrap();
    let key = PrivateKey::from_pem(&read("privkey.pem")).unwrap();
    assert_eq!(chain.leaf.public_key, key.public_key().unwrap(), "a torn pair");
    chain.leaf.sha256.to_string()
}

/// All temporary files of ours below `folder`.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(".renewd") {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found
}

/// Runs the built program among the mounts of `mounts`.
#[track_caller]
fn inside(mounts: &Mounts, site: &Site, args: &[&str]) -> Finished {
    run(&mut mounts.inside(&site.workspace.command(args)), LIMIT)
}

/// D01: nothing is ordered where there is no room for it, which is a failure of our own side that
/// is shown, and over as soon as there is room.
#[test]
fn nothing_is_ordered_while_the_disk_is_full_and_all_goes_well_once_it_has_room() {
    let site = Site::with(&SiteOptions::held_only());
    let mounts = Mounts::new();
    let folder = state(&site.workspace);
    std::fs::create_dir(&folder).unwrap();
    mounts.mount_memory(&folder, "size=3m");
    let filler = folder.join("of-somebody-else").display().to_string();
    // Enough for what is written about the failure, not for what would come of an order.
    for (blocks, code) in [("2600", "store.not_ready"), ("3072", "")] {
        let fill = format!("head -c {blocks}K /dev/zero > {filler} || true");
        mounts.run(&["sh", "-c", &fill]);
        let refused = inside(&mounts, &site, &["renew"]);
        assert_eq!(refused.code, 5, "{refused}");
        assert!(refused.stderr.contains("make room"), "{refused}");
        assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 0, "{refused}");
        if !code.is_empty() {
            let shown = inside(&mounts, &site, &["status", "--json"]).stdout;
            // On a slow machine the pause of five seconds may be over by now.
            assert!(shown.contains(code) && shown.contains("\"failures\": 1"), "{shown}");
            assert!(refused.stderr.contains("so nothing was ordered"), "{refused}");
        }
    }
    mounts.run(&["rm", &filler]);
    let renewed = inside(&mounts, &site, &["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);

    // D02: where nothing can be written at all, what is held is shown, and that is all.
    mounts.run(&["mount", "-o", "remount,ro", folder.to_str().unwrap()]);
    let refused = inside(&mounts, &site, &["renew", "--force", NAME]);
    assert_eq!(refused.code, 5, "{refused}");
    assert!(refused.stderr.contains("Read-only"), "{refused}");
    assert!(refused.stderr.contains("hint: make the file system of the state"), "{refused}");
    let shown = inside(&mounts, &site, &["status", "--json"]);
    assert!(shown.stdout.contains("\"condition\": \"held\""), "{shown}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
    let left = mounts.run(&["find", folder.to_str().unwrap(), "-name", ".renewd*"]);
    assert_eq!(left.stdout, "", "something was left behind");
}

/// D01, S03: what is held is shown and served, nothing is ordered, and it is told, until the daemon
/// can write again.
#[test]
fn a_store_that_became_unwritable_keeps_what_it_has_orders_nothing_and_says_so() {
    let site = Site::with(&SiteOptions::held_only());
    let mounts = Mounts::new();
    let folder = state(&site.workspace);
    std::fs::create_dir(&folder).unwrap();
    mounts.mount_memory(&folder, "size=8m");
    let log = site.workspace.path().join("renewd.log");
    let mut command = mounts.inside(&site.workspace.command(&["run"]));
    let mut daemon = Running::start("renewd", &mut command, &log);
    let before = site.await_condition("held")["sha256"].clone();

    let filler = folder.join("of-somebody-else").display().to_string();
    mounts.run(&["sh", "-c", &format!("cat /dev/zero > {filler} || true")]);
    let refused = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(refused.code, 5, "{refused}");
    let said = &refused.stderr;
    assert!(said.contains("No space left") && said.contains("make room"), "{refused}");
    let status = site.status();
    assert_eq!((&status["condition"], &status["sha256"]), (&"held".into(), &before));
    let shown = site.renewd(&["status", "--json"]).stdout;
    assert!(shown.contains("No space left"), "{shown}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);

    mounts.run(&["rm", &filler]);
    let renewed = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", daemon.log());
    assert_ne!(site.status()["sha256"], before);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

/// Which failures of `call` are tried, of `count` that there are.
fn tried(count: usize) -> impl Iterator<Item = usize> {
    let step = if std::env::var_os(SWEEP).is_some() || count < 4 { 1 } else { 3 };
    (1..=count).step_by(step)
}

/// D01, D02, D03: whichever call fails, for once or from then on, the old pair is held or the new
/// one, and the next run goes well and leaves nothing behind.
#[test]
fn whichever_call_of_the_disk_fails_a_whole_pair_is_held_and_the_next_run_goes_well() {
    let disk = FailingDisk::build();
    let workspace = local();
    let first = workspace.renewd(&["renew"]);
    assert_eq!(first.code, 0, "{first}");
    let folder = state(&workspace);
    let force = ["renew", "--force", NAME];
    let watched = run(disk.below(&mut workspace.command(&force), &folder, None), LIMIT);
    assert_eq!(watched.code, 0, "{watched}");
    let calls = disk.calls();

    let mut told = String::new();
    for (call, errno, lasts) in [
        ("write", ENOSPC, true),
        ("fsync", EIO, false),
        ("open", EMFILE, true),
        ("open", EACCES, false),
        ("rename", EROFS, false),
        ("mkdir", EDQUOT, false),
        ("symlink", ENOSPC, true),
    ] {
        let count = calls.iter().filter(|it| it.call == call).count();
        assert!(count > 0, "no {call} was seen: {calls:?}");
        let mut met = 0;
        for at in tried(count) {
            let until = if lasts { usize::MAX >> 1 } else { at };
            let failure = Failure { call, at, until, errno };
            let mut command = workspace.command(&force);
            let failed = run(disk.below(&mut command, &folder, Some(failure)), LIMIT);
            assert!([0, 1, 5].contains(&failed.code), "{failure:?}: {failed}");
            check_whole(&workspace);
            let again = workspace.renewd(&["renew", NAME]);
            assert_eq!(again.code, 0, "{failure:?}: {again}");
            assert_eq!(leftovers(&folder), [] as [PathBuf; 0], "{failure:?}");
            met += usize::from(failed.code != 0);
            writeln!(told, "{call} {at} of {count}: {}", failed.code).unwrap();
        }
        // A failure that is not told is none that was met.
        assert!(met > 0, "no failure of {call} was told of:\n{told}");
    }
}

/// D01, D03: with a CA that counts: what fails on the way is never paid for a third time, and what
/// was finalized is never ordered again.
#[test]
fn whatever_fails_during_an_order_is_gone_on_with_and_not_ordered_anew() {
    let disk = FailingDisk::build();
    let site = Site::with(&SiteOptions::held_only());
    let folder = state(&site.workspace);
    assert_eq!(site.renewd(&["renew"]).code, 0);
    // Of a renewal, as they are below: a first order has more calls, and other ones.
    let mut command = site.workspace.command(&["renew", "--force", NAME]);
    let watched = run(disk.below(&mut command, &folder, None), LIMIT);
    assert_eq!(watched.code, 0, "{watched}");
    let calls = disk.calls();
    let count = |call: &str| calls.iter().filter(|it| it.call == call).count();
    for (call, errno) in [("write", ENOSPC), ("fsync", EIO)] {
        let last = count(call);
        let mut met = 0;
        for at in [last / 4, last * 2 / 5, last / 2, last * 3 / 5, last * 3 / 4] {
            let seen = |endpoint| site.pebble.requests().count(endpoint);
            let [orders, finalized] = [Endpoint::NewOrder, Endpoint::Finalize].map(seen);
            let failure = Failure { call, at, until: at, errno };
            let mut command = site.workspace.command(&["renew", "--force", NAME]);
            let failed = run(disk.below(&mut command, &folder, Some(failure)), LIMIT);
            assert!(disk.calls().iter().any(|it| it.failed), "{failure:?} was not met: {failed}");
            met += usize::from(failed.code != 0);
            check_whole(&site.workspace);
            let again = site.renewd(&["renew", NAME]);
            assert_eq!(again.code, 0, "{failure:?}: {failed}\n{again}");
            assert!(seen(Endpoint::NewOrder) <= orders + 2, "{failure:?}: {failed}");
            assert!(seen(Endpoint::Finalize) <= finalized + 1, "{failure:?}: {failed}");
            assert_eq!(leftovers(&folder), [] as [PathBuf; 0], "{failure:?}");
        }
        // The others were of notes that the order can do without.
        assert!(met >= 3, "of five failures of {call} {met} were told of");
    }
}

/// D02: with hardly a descriptor left nothing panics, nothing is torn, and it is over by itself.
#[test]
fn too_few_descriptors_are_a_failure_like_any_other() {
    let site = Site::with(&SiteOptions::held_only());
    for limit in [8, 11, 14, 18] {
        let renewd = site.workspace.command(&["renew", NAME]);
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut command = crate::support::program(&["sh", "-c", &script]);
        command.arg(renewd.get_program()).args(renewd.get_args());
        command.env("RENEWD_CONFIG", site.workspace.config_file());
        let done = run(&mut command, LIMIT);
        assert!([0, 1, 5].contains(&done.code), "{limit}: {done}");
    }
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    check_whole(&site.workspace);
    assert!(site.pebble.requests().count(Endpoint::NewOrder) <= 2);
}

/// D08: whatever the umask, nothing is ever made wider than it is to be, not for a moment.
#[test]
fn nothing_is_made_wider_than_it_stays_whatever_the_umask() {
    let disk = FailingDisk::build();
    let workspace = local();
    let renewd = workspace.command(&["renew"]);
    let mut command = crate::support::program(&["sh", "-c", "umask 000; exec \"$0\" \"$@\""]);
    command.arg(renewd.get_program()).args(renewd.get_args());
    command.env("RENEWD_CONFIG", workspace.config_file());
    let folder = state(&workspace);
    let done = run(disk.below(&mut command, &folder, None), LIMIT);
    assert_eq!(done.code, 0, "{done}");
    let calls = disk.calls();
    let made = calls.iter().filter(|it| it.call == "open");
    for call in made.clone() {
        assert_eq!(call.mode & 0o077, 0, "{call:?}");
    }
    assert!(made.count() > 10, "{calls:?}");

    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    let mut pending = vec![folder.join("private")];
    while let Some(path) = pending.pop() {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|it| it.unwrap().path()));
        }
    }
    assert_eq!(mode(&folder), 0o711);
    let generation = workspace.certificate(NAME).join("0001");
    for (file, expected) in [("", 0o750), ("privkey.pem", 0o600), ("combined.pem", 0o600)] {
        assert_eq!(mode(&generation.join(file)), expected, "{file}");
    }
}

/// D13: what can't be printed, logged or put into a folder for temporary files stops nothing.
#[test]
fn a_full_disk_of_the_log_or_of_temporary_files_stops_no_renewal() {
    let site = Site::with(&SiteOptions::held_only());
    let silent = |args: &[&str], more: &str| {
        let renewd = site.workspace.command(args);
        let script =
            format!("TMPDIR=/nonexistent {more} exec \"$0\" \"$@\" >/dev/full 2>/dev/full");
        let mut command = crate::support::program(&["sh", "-c", &script]);
        command.arg(renewd.get_program()).args(renewd.get_args());
        command.env("RENEWD_CONFIG", site.workspace.config_file());
        command
    };
    let wrong = run(&mut silent(&["renew", "nosuch"], ""), LIMIT);
    assert!(wrong.code > 0 && wrong.code < 100, "a panic: {wrong}");
    let renewed = run(&mut silent(&["renew"], ""), LIMIT);
    assert_eq!(renewed.code, 0, "{renewed}");
    let first = check_whole(&site.workspace);

    let log = site.workspace.path().join("unused.log");
    let mut command = silent(&["run", "--log-level", "debug"], "");
    let mut daemon = Running::start("renewd", &mut command, &log);
    eventually(LIMIT, "the daemon answers", || {
        let shown = site.renewd(&["plan"]);
        if shown.code == 0 && site.workspace.path().join("run/control.sock").exists() {
            Ok(())
        } else {
            Err(shown)
        }
    });
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    assert_ne!(check_whole(&site.workspace), first);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);
}

/// S04: a state directory from a backup does not take a newer certificate out of service; nothing
/// is ordered for that reason, it is told, and the next renewal replaces both.
#[test]
fn a_restored_backup_leaves_the_newer_certificate_served_until_the_next_renewal() {
    let site = Site::start();
    let renew = |args: &[&str], code| {
        let done = site.renewd(args);
        assert_eq!(done.code, code, "{done}");
        done
    };
    renew(&["renew"], 0);
    let (folder, backup) = (state(&site.workspace), site.workspace.path().join("backup"));
    let copy = |from: &Path, to: &Path| {
        let paths = [from, to].map(|it| it.to_str().unwrap());
        let copied = run(&mut crate::support::program(&["cp", "-a", paths[0], paths[1]]), LIMIT);
        assert_eq!(copied.code, 0, "{copied}");
    };
    copy(&folder, &backup);
    renew(&["renew", "--force", NAME], 0);
    let newer = site.served_serial().unwrap();

    std::fs::remove_dir_all(&folder).unwrap();
    copy(&backup, &folder);
    // The backup is of last month, as far as it knows.
    edit_json(&site.workspace.certificate(NAME).join("current/meta.json"), |it| {
        it["origin"]["issued_at"] = "2026-01-01T00:00:00Z".into();
    });
    edit_json(&folder.join("private/targets/nginx/site.json"), |it| {
        it["checked_at"] = "2026-01-01T00:00:00Z".into();
    });
    let orders = site.pebble.requests().count(Endpoint::NewOrder);
    for args in [&["renew"][..], &["renew", NAME], &["deploy", "--pending"]] {
        let done = renew(args, 1);
        assert!(done.stderr.contains("serves a newer certificate for site.example"), "{done}");
        assert_eq!(site.served_serial().unwrap(), newer, "{args:?}");
    }
    let status = site.status();
    let target = &status["targets"][0];
    assert_eq!(target["error_code"], "deploy.serves_newer", "{status:#}");
    assert!(target["hint"].as_str().unwrap().contains("renewd renew --force site"), "{status:#}");
    assert_eq!(status["health"], "warning", "{status:#}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders, "nothing is ordered");

    renew(&["renew", "--force", NAME], 0);
    let status = site.await_condition("served");
    assert_ne!(site.served_serial().unwrap(), newer);
    assert_eq!(status["health"], "ok", "{status:#}");
}

/// S04: a backup that two machines go on from, with an order under way: the order is paid for once
/// and its certificate is there for both; what they do after that takes nothing from the other.
#[test]
fn a_backup_that_two_machines_go_on_from_serves_both() {
    let site = Site::with(&SiteOptions::held_only());
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let mut command = site.workspace.command(&["renew", "--force", NAME]);
    let killed = run(command.env("RENEWD_CRASH_AT", "issue.after_finalize"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 2);

    let folder = tempfile::tempdir().unwrap();
    let machines = ["one", "two"].map(|it| folder.path().join(it));
    for machine in &machines {
        let paths = [site.workspace.path(), machine].map(|it| it.to_str().unwrap());
        let copied = run(&mut crate::support::program(&["cp", "-a", paths[0], paths[1]]), LIMIT);
        assert_eq!(copied.code, 0, "{copied}");
    }
    let on = |machine: &Path, args: &[&str]| {
        let mut command = site.workspace.command(args);
        command.env("RENEWD_CONFIG", machine.join("renewd.toml")).current_dir(machine);
        let done = run(&mut command, LIMIT);
        assert_eq!(done.code, 0, "{done}");
        done.stdout
    };
    let leaf = |machine: &Path| {
        std::fs::read(machine.join("state/certs").join(NAME).join("current/cert.pem")).unwrap()
    };
    machines.iter().for_each(|it| drop(on(it, &["renew", NAME])));
    assert_eq!(leaf(&machines[0]), leaf(&machines[1]));
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 2, "it was paid for");
    assert_eq!(site.pebble.requests().count(Endpoint::NewAccount), 1);

    on(&machines[0], &["renew", "--force", NAME]);
    on(&machines[1], &["renew"]);
    assert_ne!(leaf(&machines[0]), leaf(&machines[1]));
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 3);
    for machine in &machines {
        let status: serde_json::Value =
            serde_json::from_str(&on(machine, &["status", "--json"])).unwrap();
        let certificate = &status["certificates"][0];
        assert_eq!(certificate["condition"], "held", "{status:#}");
    }
}

/// D09: where a file system of the network forgets a lock, the higher number wins all the same; see
/// also S02.
#[test]
fn a_lock_that_was_lost_makes_no_second_writer() {
    let workspace = local();
    let first = workspace.renewd(&["renew"]);
    assert_eq!(first.code, 0, "{first}");
    let mut daemon = workspace.spawn(&["run"]);
    let locks = state(&workspace).join("private/locks");
    eventually(LIMIT, "the daemon is there", || {
        if workspace.path().join("run/control.sock").exists() { Ok(()) } else { Err(daemon.log()) }
    });
    std::fs::remove_file(locks.join("state")).unwrap();
    // Another run directory: this one knows nothing of the daemon's socket.
    let text = std::fs::read_to_string(workspace.config_file()).unwrap();
    let other = workspace.path().join("other.toml");
    write(&other, text.replace("run_dir = \"run\"", "run_dir = \"other-run\""));
    let other = ["-c", other.to_str().unwrap(), "renew", "--force", NAME];
    let taken_over = workspace.renewd(&other);
    assert_eq!(taken_over.code, 0, "{taken_over}");
    let held = check_whole(&workspace);

    let late = workspace.renewd(&["renew", "--force", NAME]);
    assert_ne!(late.code, 0, "{late}\n{}", daemon.log());
    assert_eq!(check_whole(&workspace), held, "the late one wrote");
    daemon.terminate(Duration::from_secs(20));
}
