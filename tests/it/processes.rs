//! Processes that are stopped, killed, flooded with signals or left behind, and programs that do
//! what programs do.

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{
    Endpoint, Running, Workspace, edit_json, eventually, program, run, write, write_secret,
};

/// How long the daemon may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A certificate of the built-in CA that goes to a target which runs `script` to reload, and what
/// it is called by.
fn local(script: &str) -> (Workspace, PathBuf) {
    let workspace = Workspace::new();
    let script = workspace.write_secret("after-renewal", &format!("#!/bin/sh\n{script}\n"), 0o755);
    workspace.write_config(&format!(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
         [target.own]\ntype = \"command\"\nverify = []\nreload = {{ command = [{script:?}] }}\n\
         [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = [\"own\"]\n"
    ));
    (workspace, script)
}

fn document(workspace: &Workspace) -> Value {
    let shown = workspace.renewd(&["status", "--json"]);
    serde_json::from_str(&shown.stdout).unwrap_or(Value::Null)
}

/// Waits until the certificate's status is as `is_right` says.
#[track_caller]
fn await_status(workspace: &Workspace, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    eventually(LIMIT, what, || {
        let status = document(workspace)["certificates"][0].clone();
        if is_right(&status) { Ok(status) } else { Err(status) }
    })
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// D09: an install was interrupted, and what it is to be finished on hangs at the next start. A
/// journal that is a pipe stands in for that: whoever opens it waits.
#[test]
fn told_to_end_while_a_mount_hangs_at_the_start_it_does_not_wait_for_it() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path().join("etc")).unwrap();
    workspace.write_config(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n[target.own]\ntype = \"other\"\n\
         install = [{ file = \"fullchain\", path = \"etc/site.pem\" }]\n\
         [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = [\"own\"]\n",
    );
    let renewed = workspace.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    let ends = |arguments: &[&str], kept: &str, socket: &str| {
        let folder = workspace.path().join(kept).join("own/site");
        std::fs::create_dir_all(&folder).unwrap();
        let journal = folder.join("journal.json");
        mknodat(CWD, &journal, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mut process = workspace.spawn(arguments);
        let socket = workspace.path().join(socket);
        eventually(LIMIT, "it listens", || UnixStream::connect(&socket).map(drop));
        assert_eq!(process.terminate(END_LIMIT), 0, "{}", process.log());
    };
    let user = rustix::process::geteuid().as_raw().to_string();
    let deployer = ["deployer", "--state-dir", "deployer-state", "--user", &user];
    ends(&deployer, "deployer-state/previous", "run/deployer.sock");
    ends(&["run"], "state/private/previous", "run/control.sock");
}

/// P02: told to end while a program runs that will not end, it ends in time, leaves no process, and
/// the next start does what was left.
#[test]
fn told_to_end_during_a_program_it_ends_in_time_and_leaves_nothing_running() {
    let hang = "trap '' TERM; echo $$ >> \"${0%/*}/started\"; while :; do sleep 1000; done";
    let (workspace, script) = local(hang);
    let started = workspace.path().join("started");
    let mut daemon = workspace.spawn(&["run"]);
    eventually(LIMIT, "the program runs", || match lines(&started) {
        0 => Err(daemon.log()),
        _ => Ok(()),
    });
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
    await_end_of_first(&started);

    write_secret(&script, "#!/bin/sh\nexit 0\n", 0o755);
    let next = workspace.renewd(&["renew", NAME]);
    assert_eq!(next.code, 0, "{next}");
    assert_eq!(document(&workspace)["certificates"][0]["condition"], "held");
}

/// Waits for the end of the first program that wrote its number to `started`.
#[track_caller]
fn await_end_of_first(started: &Path) {
    let numbers = std::fs::read_to_string(started).unwrap();
    let number = numbers.lines().next().unwrap();
    eventually(LIMIT, "the program is gone", || {
        let command = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        if command.is_empty() { Ok(()) } else { Err(command) }
    });
}

/// P02: a run without a daemon does the same, and the second signal does not wait for it.
#[test]
fn a_run_that_is_told_to_end_leaves_no_program_and_a_second_signal_ends_it_at_once() {
    let hang = "trap '' TERM; echo $$ >> \"${0%/*}/started\"; while :; do sleep 1000; done";
    let (workspace, script) = local(hang);
    let started = workspace.path().join("started");
    let begin = |count| {
        let run = workspace.spawn(&["renew"]);
        eventually(LIMIT, "the program runs", || {
            if lines(&started) == count { Ok(()) } else { Err(run.log()) }
        });
        run
    };
    let mut run = begin(1);
    assert_eq!(run.terminate(END_LIMIT), 1, "{}", run.log());
    assert!(run.log().contains("site: a signal stopped the work on it"), "{}", run.log());
    await_end_of_first(&started);

    let mut run = begin(2);
    run.signal(Signal::INT);
    eventually(LIMIT, "it is told", || {
        let log = run.log();
        if log.matches("stopping, for a signal came").count() == 2 { Ok(()) } else { Err(log) }
    });
    run.signal(Signal::INT);
    assert_eq!(run.wait(END_LIMIT), 1, "{}", run.log());
    assert!(run.log().contains("ended at once by a second signal"), "{}", run.log());
    // At once: nobody was there to end the program.
    let numbers = std::fs::read_to_string(&started).unwrap();
    let group = format!("-{}", numbers.lines().last().unwrap());
    let killed = crate::support::run(&mut program(&["kill", "-KILL", "--", &group]), LIMIT);
    assert_eq!(killed.code, 0, "{killed}");

    write_secret(&script, "#!/bin/sh\nexit 0\n", 0o755);
    let next = workspace.renewd(&["renew", NAME]);
    assert_eq!(next.code, 0, "{next}");
}

/// P03: a thousand signals are a few readings, and the last of them counts.
#[test]
fn a_thousand_reloads_by_signal_are_few_readings_and_the_last_counts() {
    let (workspace, _) = local("exit 0");
    let mut daemon = workspace.spawn(&["run"]);
    await_status(&workspace, "it is held", |it| it["condition"] == "held");
    let before = daemon.log().matches("configuration").count();
    for _ in 0..1000 {
        daemon.signal(Signal::HUP);
    }
    let text = std::fs::read_to_string(workspace.config_file()).unwrap();
    write(&workspace.config_file(), text.replace("site.example", "new.example"));
    daemon.signal(Signal::HUP);
    await_status(&workspace, "the new name is held", |it| {
        it["domains"][0] == "new.example" && it["condition"] == "held"
    });
    let readings = daemon.log().matches("configuration").count() - before;
    assert!(readings < 300, "{readings} readings\n{}", daemon.log());
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
}

/// P06: whatever is wrong with a program, the certificate stays, the target has failed and says
/// why, and it is tried again by itself.
#[test]
fn a_program_that_fails_in_any_way_is_told_and_run_again_by_itself() {
    let (workspace, script) = local("exit 0");
    let first = workspace.renewd(&["renew"]);
    assert_eq!(first.code, 0, "{first}");
    let held = document(&workspace)["certificates"][0]["sha256"].clone();
    let by_hand = |content: &str, mode, words: &str| {
        write_secret(&script, content, mode);
        let failed = workspace.renewd(&["deploy", NAME]);
        assert_eq!(failed.code, 1, "{failed}");
        let target = document(&workspace)["certificates"][0]["targets"][0].clone();
        assert_eq!(
            (&target["state"], &target["error_code"]),
            (&"failed".into(), &"deploy.reload".into(),)
        );
        assert!(target["last_error"].as_str().unwrap().contains(words), "{target:#}");
        assert!(target["next_attempt_at"].is_string(), "{target:#}");
    };
    by_hand("#!/bin/sh\nexit 3\n", 0o755, "exit code 3");
    by_hand("#!/bin/sh\nkill -9 $$\n", 0o755, "signal 9");
    by_hand("#!/bin/sh\nexit 0\n", 0o644, "cannot start");
    by_hand("#!/no/such/interpreter\n", 0o755, "cannot start");
    std::fs::remove_file(&script).unwrap();
    by_hand("", 0o644, "cannot start");

    // It goes well again at its second run, with nobody asking.
    let twice = "#!/bin/sh\necho run >> \"${0%/*}/runs\"\n[ $(wc -l < \"${0%/*}/runs\") -gt 1 ]\n";
    write_secret(&script, twice, 0o755);
    let failed = workspace.renewd(&["deploy", NAME]);
    assert_eq!(failed.code, 1, "{failed}");
    let runs = workspace.path().join("runs");
    edit_json(&workspace.path().join("state/private/targets/own/site.json"), |state| {
        // As after the first failure: five seconds.
        state["attempts"]["failures"] = 1.into();
        state["attempts"]["next_attempt_at"] = state["attempts"]["last"]["at"].clone();
    });
    let mut daemon = workspace.spawn(&["run"]);
    let status = await_status(&workspace, "it goes well", |it| it["condition"] == "held");
    assert_eq!((lines(&runs), &status["sha256"]), (2, &held), "{}", daemon.log());
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
}

/// P10: as process 1 of a container it also takes what the children of others leave.
#[test]
fn as_the_first_process_of_a_container_it_leaves_no_zombie() {
    // Two forks: whoever ends last belongs to process 1 by then.
    let orphan = "(sh -c '(sleep 0.2; exit 0) & exit 0' &)\nexit 0";
    let (workspace, _) = local(orphan);
    let renewd = workspace.command(&["run"]);
    let mut command = program(&["unshare", "-pf", "--kill-child", "--mount-proc"]);
    command.arg(renewd.get_program()).args(renewd.get_args());
    command.env("RENEWD_CONFIG", workspace.config_file()).current_dir(workspace.path());
    let log = workspace.path().join("renewd.log");
    let mut container = Running::start("unshare (needs root)", &mut command, &log);
    await_status(&workspace, "it is held", |it| it["condition"] == "held");
    let children = format!("/proc/{0}/task/{0}/children", container.pid());
    let daemon = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let zombies = || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let rest = status.rsplit_once(')').map(|it| it.1.trim().to_owned());
            if rest.is_some_and(|it| it.starts_with(&format!("Z {daemon} "))) {
                found.push(status);
            }
        }
        found
    };
    for _ in 0..3 {
        let forced = workspace.renewd(&["renew", "--force", NAME]);
        assert_eq!(forced.code, 0, "{forced}\n{}", container.log());
    }
    eventually(LIMIT, "all orphans are taken", || {
        // Something has to happen for the loop to turn before its half minute is over.
        drop(workspace.renewd(&["reload"]));
        let found = zombies();
        if found.is_empty() { Ok(()) } else { Err(found) }
    });
    container.kill();
}

/// P12: a daemon that has renewed thirty times has no more files open than after the third.
#[test]
fn thirty_renewals_open_no_descriptors_and_keep_no_memory() {
    let (workspace, _) = local("exit 0");
    let mut daemon = workspace.spawn(&["run"]);
    await_status(&workspace, "it is held", |it| it["condition"] == "held");
    let descriptors =
        |daemon: &Running| std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let memory = |daemon: &Running| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find(|it| it.starts_with("RssAnon:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let (mut seen, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let forced = workspace.renewd(&["renew", "--force", NAME]);
        assert_eq!(forced.code, 0, "{forced}\n{}", daemon.log());
        seen.push(descriptors(&daemon));
        resident.push(memory(&daemon));
    }
    // In KiB; twenty renewals that kept what each needs (some hundreds) would not pass.
    let (early, late) =
        (resident[5..10].iter().max().unwrap(), resident[25..].iter().min().unwrap());
    assert!(*late <= early + 4096, "memory grows: {resident:?}");
    let early = seen[2];
    eventually(LIMIT, "no more descriptors are open than early on", || {
        let now = descriptors(&daemon);
        if now <= early + 2 { Ok(()) } else { Err(seen.clone()) }
    });
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
}

/// S01: the lock of a process that was killed is free at once, even if its number is somebody's.
#[test]
fn a_killed_holders_lock_is_free_at_once_whoever_has_its_number_now() {
    let (workspace, _) = local("exit 0");
    let mut daemon = workspace.spawn(&["run"]);
    await_status(&workspace, "it is held", |it| it["condition"] == "held");
    daemon.kill();
    let lease = workspace.path().join("state/private/locks/state.json");
    edit_json(&lease, |it| it["pid"] = std::process::id().into());
    let next = workspace.renewd(&["renew", "--force", "--wait", "0s", NAME]);
    assert_eq!(next.code, 0, "{next}");
}

/// S02: who was stopped while another took over orders nothing and writes nothing when it goes on.
#[test]
fn a_daemon_that_was_stopped_while_another_took_over_writes_and_orders_nothing_more() {
    let mut site = Site::with(&SiteOptions::held_only());
    // It gets no further than its first request.
    site.pebble.pause();
    let mut daemon = site.daemon();
    eventually(LIMIT, "the daemon works on it", || {
        let log = daemon.log();
        if log.contains("renewal begins") { Ok(()) } else { Err(log) }
    });
    let folder = site.workspace.path().join("state");
    eventually(LIMIT, "it is stopped, and not in a write", || {
        daemon.signal(Signal::STOP);
        if !tree(&folder).contains("/.renewd") {
            return Ok(());
        }
        daemon.signal(Signal::CONT);
        Err("in a write")
    });
    site.pebble.resume();
    std::fs::remove_file(folder.join("private/locks/state")).unwrap();
    let text = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let other = site.workspace.path().join("other.toml");
    write(&other, text.replace("run_dir = \"run\"", "run_dir = \"other-run\""));
    let other = ["-c", other.to_str().unwrap(), "renew", NAME];
    let taken_over = site.renewd(&other);
    assert_eq!(taken_over.code, 0, "{taken_over}");
    let before = tree(&folder);

    daemon.signal(Signal::CONT);
    eventually(LIMIT, "the late one is refused", || {
        let log = daemon.log();
        if log.contains("another process") || log.contains("taken over") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert_eq!(tree(&folder), before, "{}", daemon.log());
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
    daemon.terminate(END_LIMIT);
    assert_eq!(tree(&folder), before, "{}", daemon.log());
}

/// Every file below `folder` with what it holds or where it leads, in one text.
fn tree(folder: &Path) -> String {
    let mut text = String::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_symlink() {
            writeln!(text, "{} {:?}", path.display(), std::fs::read_link(&path)).unwrap();
        } else if path.is_dir() {
            let mut below: Vec<_> =
                std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
            below.sort();
            pending.extend(below);
        } else {
            // What is written just now may be gone by now.
            let content = std::fs::read(&path).unwrap_or_default();
            writeln!(text, "{} {}", path.display(), String::from_utf8_lossy(&content)).unwrap();
        }
    }
    text
}

/// C02: a configuration that was taken away is told of, and the last one stays in force.
#[test]
fn a_configuration_that_was_removed_stays_in_force_until_there_is_another() {
    let (workspace, _) = local("exit 0");
    let mut daemon = workspace.spawn(&["run"]);
    await_status(&workspace, "it is held", |it| it["condition"] == "held");
    let text = std::fs::read_to_string(workspace.config_file()).unwrap();
    let shown = workspace.path().join("run/status.json");
    let codes = || {
        let document = std::fs::read(&shown).unwrap_or_default();
        let document: Value = serde_json::from_slice(&document).unwrap_or(Value::Null);
        let notices = document["notices"].as_array().cloned().unwrap_or_default();
        let all: Vec<String> = notices.iter().map(|it| it["code"].to_string()).collect();
        (all.join(" "), document["certificates"][0]["condition"].clone())
    };
    std::fs::remove_file(workspace.config_file()).unwrap();
    eventually(LIMIT, "it is told", || match codes() {
        (codes, condition) if codes.contains("config.rejected") => {
            assert_eq!(condition, "held");
            Ok(())
        }
        other => Err(other),
    });
    write(&workspace.config_file(), text);
    eventually(LIMIT, "it is over", || match codes() {
        (codes, _) if codes.contains("config.rejected") => Err(codes),
        _ => Ok(()),
    });
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
}

/// C06: what is taken out of the configuration is left as it is: nothing ordered, nothing revoked.
#[test]
fn a_certificate_that_is_taken_out_stays_on_disk_and_is_not_revoked() {
    let site = Site::with(&SiteOptions::held_only());
    let mut daemon = site.daemon();
    site.await_condition("held");
    let before = tree(&site.workspace.certificate(NAME));
    let text = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let others = text.replace("site.example", "other.example").replace("\"site\"", "\"other\"");
    write(&site.workspace.config_file(), others);
    let reloaded = site.renewd(&["reload"]);
    assert_eq!(reloaded.code, 0, "{reloaded}");
    eventually(LIMIT, "the other is held", || {
        let status = site.status();
        let is_other = status["name"] == "other" && status["condition"] == "held";
        if is_other { Ok(()) } else { Err(status) }
    });
    assert_eq!(tree(&site.workspace.certificate(NAME)), before);
    let asked = site.pebble.requests();
    assert_eq!((asked.count(Endpoint::Revoke), asked.count(Endpoint::NewOrder)), (0, 2));
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
}

/// N01: without any network it starts, shows what there is, and tries again after a pause.
#[test]
fn without_a_network_it_starts_serves_what_it_has_and_tries_again() {
    let site = Site::with(&SiteOptions::held_only());
    let renewd = site.workspace.command(&["run"]);
    let mut command = program(&["unshare", "-n"]);
    command.arg(renewd.get_program()).args(renewd.get_args());
    command.env("RENEWD_CONFIG", site.workspace.config_file()).current_dir(site.workspace.path());
    let log = site.workspace.path().join("renewd.log");
    let mut daemon = Running::start("unshare (needs root)", &mut command, &log);
    let status = await_status(&site.workspace, "it has failed", |it| it["failures"] == 1);
    assert_eq!(
        (&status["condition"], &status["renewal"]),
        (&"placeholder".into(), &"backing_off".into(),)
    );
    assert!(status["next_attempt_at"].is_string() && status["hint"].is_string(), "{status:#}");
    // The first pause is about a minute.
    let again = LIMIT * 3;
    eventually(again, "it has tried again", || {
        let status = document(&site.workspace)["certificates"][0].clone();
        if status["failures"] == 2 { Ok(()) } else { Err(status) }
    });
    assert!(site.workspace.certificate(NAME).join("current/fullchain.pem").exists());
    assert_eq!(daemon.terminate(END_LIMIT), 0, "{}", daemon.log());
    let back = site.renewd(&["renew", NAME]);
    assert_eq!(back.code, 0, "{back}");
}

/// W05: where nobody can be told, exit codes and status say it all the same.
#[test]
fn with_nobody_to_tell_the_exit_code_still_says_that_it_is_critical() {
    let workspace = Workspace::new();
    workspace.write_config(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\nlifetime = \"30s\"\n\
         [[alert]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n\
         [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = []\n",
    );
    let renewed = workspace.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    eventually(LIMIT, "it is critical", || {
        let shown = workspace.renewd(&["status", "--fail-on", "critical"]);
        if shown.code == 6 { Ok(()) } else { Err(shown) }
    });
    let test = run(&mut workspace.command(&["alert", "test"]), LIMIT);
    assert_eq!(test.code, 1, "{test}");

    // What the ladder comes to after half a minute.
    let book = r#"{"format":1,"queues":{"webhook-1":{"failures":3,"is_noted":true,"failing_since":"2026-11-23T10:00:00Z"}}}"#;
    workspace.write_secret("state/private/alerts/outbox.json", book, 0o600);
    let shown = workspace.renewd(&["status"]);
    assert!(shown.stdout.contains("alerts for webhook-1 do not arrive"), "{shown}");
}
