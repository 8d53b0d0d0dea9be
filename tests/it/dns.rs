//! dns-01 by RFC 2136, against BIND with a secondary that lags, and a Pebble that believes the
//! secondary alone.

use std::fmt::Write;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use crate::site::{LIMIT, NAME, Site, SiteOptions, Tls};
use crate::support::{
    Bind, BindOptions, Endpoint, Lag, PebbleOptions, Peers, Running, eventually, free_port, write,
    write_secret,
};

/// A user whom nobody is.
const OWNER: u32 = 54_321;

/// What somebody else has put where ours go.
const FOREIGN: &str = "of somebody else";

/// The zones of every test: `site.example` with a foreign value (and with twelve at `old`), an
/// alias that leads elsewhere, one that leads in a circle, a zone of its own below, and one that
/// nobody may change, into which a wildcard alias leads from `wild.example`.
fn bind(lag: Lag) -> Bind {
    let zone = |name: &str, records: &str| (name.to_owned(), records.to_owned());
    let mut site = String::from(
        "_acme-challenge TXT \"of somebody else\"\n\
         _acme-challenge.www CNAME www.proofs.example.\n\
         _acme-challenge.loop CNAME one.proofs.example.\n\
         _acme-challenge.own NS ns1.proofs.example.\n",
    );
    for run in 0..12 {
        writeln!(site, "_acme-challenge.old TXT \"of run {run}\"").unwrap();
    }
    Bind::start(&BindOptions {
        zones: vec![
            zone("site.example", &site),
            zone("proofs.example", "one CNAME two\ntwo CNAME one\nwww TXT \"of somebody else\""),
            zone("_acme-challenge.own.site.example", ""),
            zone("wild.example", "* CNAME lb.locked.example."),
        ],
        locked: vec![zone("locked.example", "")],
        lag,
    })
}

/// A solver that changes `bind` with the key in `key_file`.
fn solver(bind: &Bind, key_file: &Path) -> String {
    let (primary, secondary) = (bind.primary(), bind.secondary());
    let mut text = String::from("[solver.dns]\ntype = \"dns-01\"\nprovider = \"rfc2136\"\n");
    writeln!(text, "server = \"{primary}\"\nkey_file = {key_file:?}").unwrap();
    writeln!(text, "resolvers = [\"{primary}\"]").unwrap();
    writeln!(text, "nameservers = [\"{primary}\", \"{secondary}\"]").unwrap();
    text
}

/// A site without a server, whose CA asks the secondary of `bind`.
fn site(bind: &Bind, identifiers: &[&str], more: &str) -> Site {
    let resolver = Some(bind.secondary());
    Site::with(&SiteOptions {
        pebble: PebbleOptions { resolver, strict: true, ..PebbleOptions::default() },
        identifiers: identifiers.iter().map(|it| (*it).to_owned()).collect(),
        certificate: "solver = \"dns\"\n".to_owned(),
        tables: solver(bind, &bind.key_file()) + more,
        tls: Tls::Later,
        ..SiteOptions::default()
    })
}

#[track_caller]
fn check_only_foreign(bind: &Bind, name: &str) {
    let values: Vec<_> = bind.values(name).into_iter().collect();
    assert_eq!(values, [FOREIGN], "{name}");
}

/// N06, too: others' values stay, and from many on they are told of.
#[test]
fn apex_and_wildcard_are_proven_in_one_order_beside_values_of_others() {
    let bind = bind(Lag::Seconds);
    let names = ["", "*.", "www.", "own.", "old."].map(|it| format!("{it}site.example"));
    let site = site(&bind, &names.each_ref().map(String::as_str), "");
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let told = |it: &&str| it.contains("values of others are beside ours");
    let told: Vec<&str> = done.stderr.lines().filter(told).collect();
    assert!(told.len() == 1 && told[0].contains("_acme-challenge.old.site.example"), "{done}");
    assert!(told[0].contains("others=12"), "{done}");
    assert_eq!(bind.values("_acme-challenge.old.site.example").len(), 12);
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
    assert_eq!(site.status()["condition"], "held");
    check_only_foreign(&bind, "_acme-challenge.site.example");
    check_only_foreign(&bind, "www.proofs.example");
    assert!(bind.values("_acme-challenge.own.site.example").is_empty());
}

/// N13: the servers of the site are somebody else's, whose zone takes no proofs of ours.
#[test]
fn a_wildcard_alias_is_no_delegation_and_stands_again_after_the_proof() {
    let bind = bind(Lag::Seconds);
    let site = site(&bind, &["wild.example", "*.wild.example"], "");
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(site.status()["condition"], "held");
    let done = site.renewd(&["dns", "test", "dns", "www.wild.example"]);
    assert_eq!(done.code, 0, "{done}");
    let held = "zone wild.example holds _acme-challenge.www.wild.example";
    assert!(done.stdout.starts_with(held), "{done}");
    for name in ["_acme-challenge.wild.example", "_acme-challenge.www.wild.example"] {
        let left: Vec<_> = bind.values(name).into_iter().collect();
        assert_eq!(left, ["lb.locked.example."], "{name}");
    }
}

/// N01, N07: where the way to a proof can't be found nothing is ordered, and no account made.
#[test]
fn an_alias_without_end_and_a_resolver_that_is_gone_cost_the_ca_nothing() {
    let bind = bind(Lag::Seconds);
    let site = site(&bind, &["site.example", "loop.site.example"], "");
    let file = site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let without_loop = text.replace(", \"loop.site.example\"", "");
    let resolvers = |it: &dyn std::fmt::Display| format!("resolvers = [\"{it}\"]");
    let gone = resolvers(&format!("127.0.0.1:{}", free_port()));
    let gone = without_loop.replace(&resolvers(&bind.primary()), &gone);
    assert!(gone != without_loop && without_loop != text, "{text}");
    for (text, code) in [(&text, "dns.alias"), (&gone, "dns.resolver")] {
        write(&file, text);
        let done = site.renewd(&["renew", NAME]);
        assert_eq!(done.code, 1, "{done}");
        assert!(done.stderr.contains("so nothing was ordered"), "{done}");
        assert_eq!(site.status()["error_code"], code, "{done}");
        for endpoint in [Endpoint::NewAccount, Endpoint::NewOrder] {
            assert_eq!(site.pebble.requests().count(endpoint), 0, "{endpoint:?}");
        }
    }
    write(&file, without_loop);
    let done = site.renewd(&["renew", NAME]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1);
}

/// N04: a record that some name servers lack.
#[test]
fn a_secondary_that_never_has_it_costs_no_attempt_and_leaves_nothing() {
    let bind = bind(Lag::ForEver);
    let site = site(&bind, &["site.example"], "propagation_timeout = \"2s\"\n");
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 1, "{done}");
    let shown = site.renewd(&["status", "--json"]).stdout;
    let secondary = bind.secondary().to_string();
    assert!(shown.contains("dns.not_visible") && shown.contains(&secondary), "{shown}");
    assert_eq!(site.pebble.requests().count(Endpoint::Challenge), 0);
    check_only_foreign(&bind, "_acme-challenge.site.example");
}

/// N06: records that a killed run left; values of others.
#[cfg(feature = "crash-points")]
#[test]
fn after_a_kill_nothing_of_ours_is_left_once_it_has_started_again() {
    let bind = bind(Lag::Seconds);
    let site = site(&bind, &["site.example", "*.site.example"], "");
    let mut command = site.workspace.command(&["renew"]);
    let killed = crate::support::run(command.env("RENEWD_CRASH_AT", "issue.presented"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    assert_eq!(bind.values("_acme-challenge.site.example").len(), 3);
    let journal = site.workspace.path().join("state/private/certificates").join(NAME);
    let journal = std::fs::read_to_string(journal.join("order.json")).unwrap();
    assert!(journal.contains("\"zone\""), "{journal}");

    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    check_only_foreign(&bind, "_acme-challenge.site.example");
}

/// A site whose records are changed by a program that takes a moment to remove one, at a secondary
/// that never has them: so proofs stay shown. The CA asks the primary.
fn unproven_site(bind: &Bind) -> Site {
    let (primary, secondary) = (bind.primary(), bind.secondary());
    let (nsupdate, key_file, port) = (Peers::locate().nsupdate, bind.key_file(), primary.port());
    let script = format!(
        "#!/bin/sh\nchange=\"add $2. 5\"\n\
         [ $1 = add ] || {{ sleep 0.1; change=\"delete $2.\"; }}\n\
         printf 'server 127.0.0.1 {port}\\nzone %s\\nupdate %s TXT \"%s\"\\nsend\\n' \
         \"$4.\" \"$change\" \"$3\" | {nsupdate:?} -k {key_file:?}\n"
    );
    let change = bind.key_file().with_file_name("change");
    write_secret(&change, script, 0o755);
    Site::with(&SiteOptions {
        pebble: PebbleOptions { resolver: Some(primary), strict: true, ..PebbleOptions::default() },
        identifiers: vec!["site.example".to_owned(), "*.site.example".to_owned()],
        certificate: "solver = \"dns\"\n".to_owned(),
        tables: format!(
            "[solver.dns]\ntype = \"dns-01\"\nprovider = \"program\"\nprogram = [{change:?}]\n\
             resolvers = [\"{primary}\"]\nnameservers = [\"{primary}\", \"{secondary}\"]\n"
        ),
        tls: Tls::Later,
        ..SiteOptions::default()
    })
}

/// Waits until `bind` has both proofs beside the value of others.
#[track_caller]
fn await_shown(bind: &Bind, run: &Running) {
    eventually(LIMIT, "both proofs are shown", || {
        let values = bind.values("_acme-challenge.site.example");
        if values.len() == 3 { Ok(()) } else { Err(run.log()) }
    });
}

/// P02: told to end during an order, a program, a write.
#[test]
fn a_daemon_that_is_told_to_end_during_a_proof_takes_its_records_away_before_it_is_gone() {
    let bind = bind(Lag::ForEver);
    let site = unproven_site(&bind);
    let mut daemon = site.daemon();
    await_shown(&bind, &daemon);
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    check_only_foreign(&bind, "_acme-challenge.site.example");
    assert_eq!(site.pebble.requests().count(Endpoint::Challenge), 0, "{}", daemon.log());
}

/// P02: told to end during an order, a program, a write.
#[test]
fn a_run_that_is_told_to_end_takes_its_records_away_and_the_next_goes_on_with_its_order() {
    let bind = bind(Lag::ForEver);
    let site = unproven_site(&bind);
    let mut run = site.workspace.spawn(&["renew"]);
    await_shown(&bind, &run);
    assert_eq!(run.terminate(LIMIT), 1, "{}", run.log());
    check_only_foreign(&bind, "_acme-challenge.site.example");
    let log = run.log();
    assert!(log.contains("stopping, for a signal came"), "{log}");
    assert!(log.contains("site: a signal stopped the work on it"), "{log}");
    assert!(!log.contains("still visible"), "{log}");

    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let lagging = format!(", \"{}\"]", bind.secondary());
    write(&site.workspace.config_file(), config.replace(&lagging, "]"));
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 1, "the same order");
    check_only_foreign(&bind, "_acme-challenge.site.example");
}

#[test]
fn a_solver_is_proven_without_a_ca() {
    let bind = bind(Lag::Seconds);
    let site = site(&bind, &["site.example"], "");
    let done = site.renewd(&["dns", "test", "dns", "*.www.site.example"]);
    assert_eq!(done.code, 0, "{done}");
    let steps = [
        "_acme-challenge.www.site.example leads to www.proofs.example",
        "zone proofs.example holds www.proofs.example",
        "name servers to ask: 127.0.0.1:",
        "added the value renewd-test-",
        "all name servers that answer have it, beside 1 of others, which stay",
        "removed it",
        "no name server that answers has it any more",
    ];
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), steps.len(), "{done}");
    for (line, step) in lines.iter().zip(steps) {
        assert!(line.starts_with(step), "{line:?} is not {step:?}");
    }
    check_only_foreign(&bind, "www.proofs.example");
    assert_eq!(site.pebble.requests().count(Endpoint::NewNonce), 0, "no CA is needed");
}

/// What the daemon refuses to run must not seem to work, nor be run as root.
#[test]
fn beside_a_deployer_no_program_is_run_to_prove_a_solver_either() {
    let bind = bind(Lag::ForEver);
    let site = unproven_site(&bind);
    let file = site.workspace.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let beside = config.replace("deployer = \"direct\"", "deployer = \"socket\"");
    assert_ne!(beside, config);
    write(&file, beside);
    let done = site.renewd(&["dns", "test", "dns", "site.example"]);
    assert_eq!(done.code, 1, "{done}");
    assert!(done.stderr.contains("beside a deployer renewd runs no program"), "{done}");
    check_only_foreign(&bind, "_acme-challenge.site.example");
}

/// Root would run it with rights that the daemon has not.
#[test]
fn a_program_is_run_as_the_owner_of_the_state_to_prove_a_solver() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let bind = bind(Lag::Seconds);
    let site = unproven_site(&bind);
    let folder = site.workspace.path();
    std::fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
    let (state, told) = (folder.join("state"), folder.join("told"));
    for owned in [&state, &told] {
        std::fs::create_dir_all(owned).unwrap();
        chown(owned, Some(OWNER), Some(OWNER)).unwrap();
    }
    let who = folder.join("who");
    write_secret(&who, format!("#!/bin/sh\nid -u > {told:?}/who\nexit 1\n"), 0o755);
    let file = site.workspace.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let change = bind.key_file().with_file_name("change");
    write(&file, config.replace(&format!("{change:?}"), &format!("{who:?}")));
    let done = site.renewd(&["dns", "test", "dns", "site.example"]);
    assert_eq!(done.code, 1, "{done}");
    let ran_as = std::fs::read_to_string(told.join("who")).unwrap_or_else(|_| panic!("{done}"));
    assert_eq!(ran_as.trim(), OWNER.to_string(), "{done}");
}

#[test]
fn each_refusal_says_what_to_do() {
    let bind = bind(Lag::Seconds);
    let site = site(&bind, &["site.example"], "");
    let check = |key_file: &Path, name: &str, message: &str, hint: &str| {
        let tables = solver(&bind, key_file);
        site.workspace.write_config(&format!("terms_of_service_agreed = true\n{tables}"));
        let done = site.renewd(&["dns", "test", "dns", name]);
        assert_eq!(done.code, 1, "{done}");
        assert!(done.stderr.contains(message), "{message}: {done}");
        assert!(done.stderr.contains(hint), "{hint}: {done}");
    };
    let good = bind.key_file();
    check(&bind.unknown_key_file(), "site.example", "BADKEY", "put the same key file there");
    check(&bind.wrong_key_file(), "site.example", "BADSIG", "another secret for this key");
    check(&good, "locked.example", "REFUSED", "update-policy");
    check(&good, "loop.site.example", "lead in a circle", "dig CNAME");
    check(&good, "elsewhere.invalid", "no resolver answers", "resolvers =");
}
