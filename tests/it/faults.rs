//! What an operator sees of faults and of states: in the configuration, in status and plan, in exit
//! codes and logs; and that no secret is in any of it.

use std::time::Duration;

use renewd::sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{
    Finished, PebbleOptions, Workspace, eventually, free_port, program, run, write, write_secret,
};

/// Replaces `old` in the site's configuration.
#[track_caller]
fn edit(site: &Site, old: &str, new: &str) {
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    assert!(config.contains(old), "{config}");
    write(&site.workspace.config_file(), config.replacen(old, new, 1));
}

/// `text` with what differs from run to run replaced by what it is.
fn filtered(text: &str, known: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (value, name) in known {
        text = text.replace(value, name);
    }
    let words = text.split_inclusive(|it: char| it.is_whitespace() || "\",()".contains(it));
    words
        .map(|word| {
            let core = word.trim_end_matches(|it: char| it.is_whitespace() || "\",()".contains(it));
            let end = word.get(core.len()..).unwrap_or_default();
            if is_time(core) { format!("TIME{end}") } else { word.to_owned() }
        })
        .collect()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.starts_with("20") && word.contains('T')
}

const SIX_FAULTS: &str = "\
conf.d/tenant.toml:3: certificate.window: comes with a later version
  hint: take it out; this version would not heed it
conf.d/tenant.toml:5: solver.own: there is no `webroot` and no `listen`
  hint: write webroot = \"/var/www/html\" or listen = \"127.0.0.1:8402\"
conf.d/tenant.toml:7: solver.own.webrot: there is no such key here
  hint: write `webroot`
renewd.toml:6: contact: \"ops@example.com\" is not a URL that starts with mailto:
  hint: write \"mailto:ops@example.com\"
renewd.toml:9: certificate.targest: there is no such key here
  hint: write `targets`
renewd.toml:10: certificate.key: \"p257\" is not a kind of key
  hint: write \"p256\"
";

#[test]
fn six_faults_in_two_files_are_told_at_once_by_every_command() {
    let workspace = Workspace::new();
    workspace.write_config(
        "terms_of_service_agreed = true\ninclude = [\"conf.d/*.toml\"]\n\
         contact = \"ops@example.com\"\n[[certificate]]\ndomains = [\"a.example\"]\n\
         targest = []\nkey = \"p257\"\n",
    );
    workspace.write(
        "conf.d/tenant.toml",
        "[[certificate]]\ndomains = [\"b.example\"]\nwindow = \"x\"\n\n\
         [solver.own]\ntype = \"http-01\"\nwebrot = \"/srv\"\n",
    );
    let folder = format!("{}/", workspace.path().display());
    for command in ["check", "run", "renew"] {
        let refused = workspace.renewd(&[command]);
        assert_eq!((refused.code, refused.stdout.as_str()), (3, ""), "{command}: {refused}");
        let told = refused.stderr.replace(&folder, "");
        assert_eq!(told, format!("error: {SIX_FAULTS}"), "{command}");
    }
    assert!(!workspace.path().join("state").exists(), "a refused configuration wrote something");
}

/// A certificate of a tenant's own, which lives for 30 seconds.
const TENANT: &str = "[[certificate]]\nname = \"tenant\"\ndomains = [\"tenant.example\"]\n\
                      targets = []\nprofile = \"short\"\nsolver = \"web-port\"\n";

#[test]
fn a_tenants_broken_file_leaves_the_others_working_and_its_last_good_version_in_force() {
    let site = Site::with(&SiteOptions::held_only());
    edit(&site, "terms_of_service", "include = [\"conf.d/*.toml\"]\nterms_of_service");
    let tenant = site.workspace.write("conf.d/tenant.toml", TENANT);
    let daemon = site.daemon();
    let status = |name: &'static str| {
        let shown = site.renewd(&["status", "--json"]);
        let document: Value = serde_json::from_str(&shown.stdout).unwrap_or(Value::Null);
        let all = document["certificates"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|it| it["name"] == name).unwrap_or(Value::Null);
        (found, document)
    };
    let held = eventually(LIMIT, "the tenant's certificate is held", || {
        let (found, document) = status("tenant");
        if found["condition"] == "held" { Ok(found) } else { Err((document, daemon.log())) }
    });

    for broken in ["[[certificate]\n", &TENANT.replace("profile", "profil")] {
        write(&tenant, broken);
        let notice = eventually(LIMIT, "the refusal is shown", || {
            let (_, document) = status("tenant");
            let notices = document["notices"].as_array().cloned().unwrap_or_default();
            let found = notices.into_iter().find(|it| it["code"] == "config.rejected");
            found.ok_or_else(|| (document, daemon.log()))
        });
        assert_eq!(notice["health"], "warning");
        assert!(notice["message"].as_str().unwrap().contains("tenant"), "{notice:#}");
        // It is renewed as if nothing had happened.
        let before = status("tenant").0["serial"].clone();
        eventually(LIMIT, "the tenant's certificate is renewed", || {
            let (found, document) = status("tenant");
            let is_new = found["serial"].is_string() && found["serial"] != before;
            if is_new { Ok(()) } else { Err((document, daemon.log())) }
        });
        let other = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(other.code, 0, "{other}");
        let checked = site.renewd(&["check"]);
        assert_eq!(checked.code, 3, "{checked}");
        assert!(checked.stdout.contains("refused: "), "{checked}");
        assert!(checked.stdout.contains("conf.d/tenant.toml:"), "{checked}");
        let warned = site.renewd(&["status", "--fail-on", "warning"]);
        assert_eq!(warned.code, 1, "{warned}");
        assert!(warned.stdout.contains("parts of included files were refused"), "{warned}");
        assert!(warned.stdout.contains("what was in force of them stays"), "{warned}");
    }
    assert_ne!(status("tenant").0["serial"], held["serial"]);
    let refused = site.renewd(&["show", "tenant"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("the entry of tenant was refused"), "{refused}");

    write(&tenant, TENANT);
    eventually(LIMIT, "the notice is gone", || {
        let (found, document) = status("tenant");
        let is_gone = !document["notices"].to_string().contains("config.rejected");
        if is_gone && found["name"] == "tenant" { Ok(()) } else { Err(document) }
    });
}

#[test]
fn status_plan_and_show_say_what_is_wanted_and_held() {
    let site = Site::with(&SiteOptions::held_only());
    let missing = site.renewd(&["status"]);
    assert_eq!(missing.code, 0, "{missing}");
    assert_eq!(
        missing.stdout,
        "NAME  CONDITION  HEALTH  EXPIRES  RENEWS  TARGETS  NEXT/REASON\n\
         site  missing    ok      -        due     -        there is no certificate yet\n\n\
         Nobody will be told of trouble: there is no [[alert]] and no heartbeat.\n"
    );
    let plan = site.renewd(&["plan"]);
    assert_eq!(
        (plan.code, plan.stdout.as_str()),
        (0, "site: order now: there is no certificate yet\n")
    );
    let wanted: Value = serde_json::from_str(&site.renewd(&["status", "--json"]).stdout).unwrap();
    assert_eq!(wanted["certificates"][0]["ca"], "lab", "{wanted:#}");

    let renewed = site.renewd(&["renew"]);
    assert_eq!((renewed.code, renewed.stdout.as_str()), (0, "site: renewed, held\n"), "{renewed}");
    // The moment is chosen by chance in a window of the CA's: here in one of a minute.
    let near_sixty_days = |minutes| {
        let days = Duration::from_hours(60 * 24) - Duration::from_mins(minutes);
        SystemClock::new().now().saturating_add(days)
    };
    let window = json!({ "start": near_sixty_days(31), "end": near_sixty_days(30) });
    site.advise(&json!({ "suggestedWindow": window }));
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let plan = site.renewd(&["plan", NAME]);
    assert_eq!(
        (plan.code, filtered(&plan.stdout, &[]).as_str()),
        (0, "site: keep until TIME, the CA suggests that moment\n"),
        "{plan}"
    );
    let held = site.renewd(&["status"]);
    assert_eq!(
        held.stdout,
        "NAME  CONDITION  HEALTH  EXPIRES     RENEWS      TARGETS  NEXT/REASON\n\
         site  held       ok      in 89d 23h  in 59d 23h  -        the CA suggests that moment\n\n\
         Nobody will be told of trouble: there is no [[alert]] and no heartbeat.\n"
    );
    check_show(&site);
    for command in [&["status", "other"][..], &["plan", "other"], &["show", "other"]] {
        let unknown = site.renewd(command);
        assert_eq!(unknown.code, 2, "{unknown}");
        assert!(unknown.stderr.contains("there is no certificate named other"), "{unknown}");
        assert!(unknown.stderr.contains("hint: the configuration has: site"), "{unknown}");
    }
}

/// All about the one certificate, as people and programs get it.
#[track_caller]
fn check_show(site: &Site) {
    let document: Value = serde_json::from_str(&site.renewd(&["status", "--json"]).stdout).unwrap();
    let status = &document["certificates"][0];
    let text = |key: &str| status[key].as_str().unwrap().to_owned();
    let (serial, sha256, issuer) = (text("serial"), text("sha256"), text("issuer"));
    let folder = site.workspace.path().display().to_string();
    let known =
        [(serial.as_str(), "SERIAL"), (&sha256, "SHA256"), (&issuer, "ISSUER"), (&folder, "/W")];

    let mut fields: Vec<&String> = status.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "allowance",
            "ca",
            "condition",
            "domains",
            "error_code",
            "explanation_url",
            "failing_ca",
            "failures",
            "generation",
            "health",
            "hint",
            "issuer",
            "last_error",
            "life_left",
            "name",
            "next_attempt_at",
            "not_after",
            "not_before",
            "reason",
            "records",
            "renew_at",
            "renewal",
            "revocation",
            "serial",
            "sha256",
            "since",
            "stand_in",
            "stand_ins",
            "targets"
        ]
    );
    assert_eq!((&document["format"], &status["generation"]), (&1.into(), &"0001".into()));

    let shown = site.renewd(&["show", NAME]);
    assert_eq!(shown.code, 0, "{shown}");
    let expected = "\
name        site
domains     site.example
condition   held
health      ok
renewal     idle
reason      the CA suggests that moment
not before  TIME
not after   TIME (in 89d 23h)
renews      TIME (in 59d 23h)
next try    TIME (in 59d 23h)
ca          lab
issuer      ISSUER
serial      SERIAL
sha256      SHA256
generation  0001

files
  /W/state/certs/site/current/fullchain.pem
";
    let shown = filtered(&shown.stdout, &known);
    assert!(shown.starts_with(expected), "{shown}");
    for line in ["ssl_certificate /W/state/certs/site/current/fullchain.pem;", "HAProxy", "Postfix"]
    {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn what_is_in_force_and_what_could_be_is_shown() {
    let site = Site::with(&SiteOptions::held_only());
    let shown = site.renewd(&["config", "show", NAME]);
    assert_eq!(shown.code, 0, "{shown}");
    let folder = format!("{}/", site.workspace.path().display());
    let text = shown.stdout.replace(&folder, "");
    assert!(text.contains("domains = [\"site.example\"]  # renewd.toml:"), "{text}");
    assert!(text.contains("key = \"p256\"  # built-in"), "{text}");
    assert_eq!(site.renewd(&["config", "show", "other"]).code, 2);

    let reference = site.renewd(&["config", "reference"]);
    assert_eq!(reference.code, 0, "{reference}");
    assert!(reference.stdout.contains("failing_for"), "{reference}");
    let schema: Value =
        serde_json::from_str(&site.renewd(&["config", "schema"]).stdout).unwrap_or(Value::Null);
    assert!(schema["properties"]["certificate"].is_object(), "{schema:#}");
}

#[test]
fn a_state_directory_that_cannot_be_used_ends_with_5() {
    let site = Site::with(&SiteOptions::held_only());
    site.workspace.write("state", "a file where a folder should be");
    for command in ["renew", "run", "status"] {
        let refused = site.renewd(&[command]);
        assert_eq!(refused.code, 5, "{command}: {refused}");
        assert!(refused.stderr.contains("hint: "), "{command}: {refused}");
    }
}

#[test]
fn to_wait_in_vain_for_the_daemon_ends_with_4() {
    let mut site = Site::with(&SiteOptions::held_only());
    let daemon = site.daemon();
    site.await_condition("held");
    site.pebble.pause();
    let waited = site.renewd(&["renew", "--force", NAME, "--wait", "1s"]);
    assert_eq!(waited.code, 4, "{waited}\n{}", daemon.log());
    assert!(waited.stderr.contains("hint: it goes on"), "{waited}");
    site.pebble.resume();
}

#[test]
fn what_has_expired_is_critical() {
    // A quarter of it is left for the first look.
    let profiles = vec![("short".into(), Duration::from_secs(60))];
    let mut site = Site::with(&SiteOptions {
        pebble: PebbleOptions { profiles, ..PebbleOptions::default() },
        certificate: "profile = \"short\"\n".into(),
        ..SiteOptions::held_only()
    });
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert_eq!(site.renewd(&["status", "--fail-on", "warning"]).code, 0);
    site.pebble.pause();

    let fails: &dyn Fn(&str) -> Finished = &|on| site.renewd(&["status", "--fail-on", on]);
    eventually(LIMIT, "it has expired", || {
        let shown = fails("critical");
        if shown.code == 6 && shown.stdout.contains("expired") { Ok(()) } else { Err(shown) }
    });
    assert_eq!(fails("warning").code, 6);
    assert_eq!(site.renewd(&["status"]).code, 0, "status alone only shows");
    let failed = site.renewd(&["renew"]);
    assert_eq!(failed.code, 6, "{failed}");
    site.pebble.resume();
}

#[test]
fn no_secret_is_printed_logged_or_shown() {
    const CANARY: &str = "Y2FuYXJ5LWluLWEtY2FnZQ";
    let site = Site::with(&SiteOptions::held_only());
    let folder = site.workspace.path();
    let url = format!("http://127.0.0.1:{}/{CANARY}?token={CANARY}", free_port());
    write_secret(&folder.join("hook.url"), &url, 0o600);
    write_secret(&folder.join("heartbeat.url"), &url, 0o600);
    write_secret(&folder.join("hook.key"), format!("whsec_{CANARY}=="), 0o600);
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    write(
        &site.workspace.config_file(),
        format!(
            "{config}\n[alerts]\nheartbeat_url_file = \"heartbeat.url\"\n[[alert]]\n\
             type = \"webhook\"\nurl_file = \"hook.url\"\nsecret_file = \"hook.key\"\n\
             tell_renewed = true\n"
        ),
    );
    let mut daemon = site.workspace.spawn(&["run", "--log-level", "trace"]);
    site.await_condition("held");
    // The first certificate renews nothing, so only the second is told of.
    assert_eq!(site.renewd(&["renew", "--force"]).code, 0, "{}", daemon.log());
    eventually(LIMIT, "an alert and a heartbeat could not be delivered", || {
        let log = daemon.log();
        let both = log.contains("\"webhook-1\"") && log.contains("\"heartbeat\"");
        if both { Ok(()) } else { Err(log) }
    });
    let mut printed = String::new();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["plan", "--json"],
        &["show", NAME],
        &["check"],
        &["config", "show"],
        &["alert", "test"],
        &["renew", "--force", "--json"],
    ] {
        printed.push_str(&site.renewd(command).to_string());
    }
    printed.push_str(&std::fs::read_to_string(folder.join("run/status.json")).unwrap());
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    printed.push_str(&daemon.log());
    let leak = printed.lines().find(|it| it.contains(CANARY));
    assert_eq!(leak, None);
}

#[test]
fn the_daemons_log_is_json_with_the_certificate_and_the_reason() {
    let site = Site::with(&SiteOptions::held_only());
    let daemon = site.daemon();
    site.await_condition("held");
    let log = daemon.log();
    // The first line is the test's own.
    let lines = log.lines().filter(|it| it.starts_with('{'));
    let lines: Vec<Value> = lines.map(|it| serde_json::from_str(it).unwrap()).collect();
    let begins = lines.iter().find(|it| it["message"] == "renewal begins");
    let begins = begins.unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&begins["certificate"], &begins["level"]), (&NAME.into(), &"INFO".into()));
    assert_eq!(begins["reason"], "there is only a placeholder");
    let renewed = lines.iter().find(|it| it["message"] == "certificate renewed");
    assert_eq!(renewed.unwrap()["certificate"], NAME, "{log}");
}

/// Under systemd, and without its journal's socket, as in a container or a sandbox: needs root to
/// have none.
#[test]
fn a_run_whose_journal_is_out_of_reach_logs_lines_unless_it_was_to_use_that() {
    let workspace = Workspace::new();
    workspace.write_config(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n[[certificate]]\nname = \"site\"\n\
         domains = [\"site.example\"]\ntargets = []\n",
    );
    let line = "mount -t tmpfs none /run && exec 2>log && \
                export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec \"$@\"";
    let run_so = |arguments: &[&str]| {
        let renewd = env!("CARGO_BIN_EXE_renewd");
        let start = ["unshare", "-m", "/bin/sh", "-c", line, "sh", renewd, "-c", "renewd.toml"];
        let mut command = program(&[&start, arguments].concat());
        let done = run(command.current_dir(workspace.path()), LIMIT);
        (done.code, std::fs::read_to_string(workspace.path().join("log")).unwrap())
    };
    let (code, log) = run_so(&["renew"]);
    assert_eq!(code, 0, "{log}");
    assert!(log.contains(" INFO renewal begins certificate=site"), "{log}");
    let (code, log) = run_so(&["renew", "--log-format", "journald"]);
    assert_ne!(code, 0, "{log}");
    assert!(log.contains("cannot reach the journal"), "{log}");
}

#[test]
fn status_can_be_seen_by_whoever_may_not_read_the_secrets() {
    let tables = "[[alert]]\ntype = \"webhook\"\nurl_file = \"not-for-you.url\"\n".into();
    let site = Site::with(&SiteOptions { tables, ..SiteOptions::held_only() });
    let checked = site.renewd(&["check"]);
    assert_eq!(checked.code, 3, "{checked}");
    assert!(checked.stderr.contains("not-for-you.url"), "{checked}");
    let shown = site.renewd(&["status"]);
    assert_eq!(shown.code, 0, "{shown}");
    assert!(shown.stdout.contains(NAME), "{shown}");
    assert!(!shown.stdout.contains("Nobody will be told"), "{shown}");
}

#[test]
fn colour_is_for_those_who_want_it() {
    let site = Site::with(&SiteOptions::held_only());
    let plain = site.renewd(&["status"]);
    assert!(!plain.stdout.contains('\x1b'), "{plain}");
    let asked = site.renewd(&["status", "--color", "always"]);
    assert!(asked.stdout.contains('\x1b'), "{asked}");
    let mut unwanted = site.workspace.command(&["status"]);
    unwanted.env("NO_COLOR", "1").env("TERM", "xterm-256color");
    let unwanted = run(&mut unwanted, LIMIT);
    assert!(!unwanted.stdout.contains('\x1b'), "{unwanted}");
    assert!(!unwanted.stderr.contains('\x1b'), "{unwanted}");
}
