//! The ledger: what a CA allows is counted before it is asked, on disk, for all certificates at
//! once. Pebble limits nothing, so all that is refused here was refused by us.

use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions, Tls};
use crate::support::{PebbleOptions, run, write, write_secret};

/// A site whose CA has `limits`, and `more` tables.
fn site(limits: &str, more: &str) -> Site {
    Site::with(&SiteOptions {
        pebble: PebbleOptions { always_valid: true, ..PebbleOptions::default() },
        tls: Tls::Later,
        tables: format!("[ca.lab.limits]\n{limits}\n{more}"),
        ..SiteOptions::default()
    })
}

fn ledger(site: &Site) -> std::path::PathBuf {
    site.workspace.path().join("state/private/ledger/lab.json")
}

/// How many orders the CA was asked for.
fn orders(site: &Site) -> usize {
    site.pebble.log().matches("Added order").count()
}

#[track_caller]
fn plan(site: &Site) -> Value {
    let shown = site.renewd(&["plan", NAME, "--json"]);
    assert_eq!(shown.code, 0, "{shown}");
    serde_json::from_str::<Value>(&shown.stdout).unwrap()[0].clone()
}

#[test]
fn what_the_ca_would_refuse_is_not_asked_for_whoever_asks_and_whatever_restarts() {
    let site = site("certificates_per_set = \"2/1h\"", "");
    assert_eq!(site.renewd(&["renew"]).code, 0, "{}", site.pebble.log());
    let left = plan(&site)["allowance"]["limits"][0].clone();
    assert_eq!((&left["limit"], &left["left"]), (&"certificates_per_set".into(), &1.into()));
    assert_eq!(site.renewd(&["renew", "--force", NAME]).code, 0);

    let refused = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("2 certificates for this set of names in 1h"), "{refused}");
    assert_eq!(orders(&site), 2, "{}", site.pebble.log());
    let shown = site.renewd(&["show", NAME]);
    assert!(shown.stdout.contains("0 of 2 certificates for this set of names"), "{shown}");
    let planned = site.renewd(&["plan", NAME]).stdout;
    assert!(planned.contains("  lab: would be refused until 20"), "{planned}");
    // Nothing has failed, and what is held is as wanted.
    let status = site.status();
    assert_eq!((&status["health"], &status["failures"]), (&"ok".into(), &0.into()), "{status}");
    assert!(status["allowance"]["refused_until"].is_string(), "{status}");
}

/// D11: and a ledger that can't be understood is made of the certificates that are held, and stops
/// nothing.
#[test]
fn eight_certificates_at_once_spend_what_there_is_and_no_more() {
    let more: String = (0..8)
        .map(|it| {
            format!(
                "[[certificate]]\nname = \"more{it}\"\ndomains = [\"more{it}.example\"]\n\
                 profile = \"default\"\ntargets = []\n"
            )
        })
        .collect();
    let site = site("new_orders = \"3/1h\"", &more);
    let renewed = site.renewd(&["renew"]);
    assert_eq!(orders(&site), 3, "{renewed}\n{}", site.pebble.log());
    let all: Value = serde_json::from_str(&site.renewd(&["status", "--json"]).stdout).unwrap();
    let all = all["certificates"].as_array().unwrap();
    let held_back: Vec<_> = all.iter().filter(|it| it["error_code"] == "ledger.limit").collect();
    assert_eq!(held_back.len(), 6, "{all:?}");
    for status in held_back {
        assert_eq!(status["renewal"], "backing_off", "{status}");
        assert_eq!(status["next_attempt_at"], status["allowance"]["refused_until"], "{status}");
        assert_eq!(status["failures"], 0, "{status}");
    }
    // Again, in another process: nothing is asked.
    site.renewd(&["renew"]);
    assert_eq!(orders(&site), 3);

    write_secret(&ledger(&site), "{", 0o600);
    site.renewd(&["renew"]);
    assert_eq!(orders(&site), 3, "{}", site.pebble.log());
    let file = site.workspace.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, text.replace("new_orders = \"3/1h\"", "new_orders = \"4/1h\""));
    write_secret(&ledger(&site), "{", 0o600);
    site.renewd(&["renew"]);
    assert_eq!(orders(&site), 4, "{}", site.pebble.log());
}

/// P13: a supervisor that starts us again and again, while something ends us right after each
/// order, before anybody knows its URL.
#[test]
fn who_is_killed_after_each_order_and_started_again_places_five() {
    let site = site("", "");
    for _ in 0..8 {
        let mut command = site.workspace.command(&["renew"]);
        run(command.env("RENEWD_CRASH_AT", "issue.ordered"), LIMIT);
    }
    assert_eq!(orders(&site), 5, "{}", site.pebble.log());
    let held_back = site.renewd(&["renew"]);
    assert_eq!(held_back.code, 1, "{held_back}");
    assert_eq!(site.status()["error_code"], "ledger.cap");
    assert_eq!(site.renewd(&["renew", NAME]).code, 0, "{}", site.pebble.log());
}

/// P13: the same while proofs are shown. A kill is no failed authorization: the order goes on.
#[test]
fn who_is_killed_while_it_proves_and_started_again_has_not_failed() {
    let site = site("failed_authorizations = \"2/1h\"", "");
    for _ in 0..6 {
        let mut command = site.workspace.command(&["renew"]);
        let killed = run(command.env("RENEWD_CRASH_AT", "issue.presented"), LIMIT);
        assert_eq!(killed.code, -1, "{killed}");
    }
    assert_eq!(site.renewd(&["renew"]).code, 0, "{}", site.pebble.log());
    assert_eq!(orders(&site), 1, "{}", site.pebble.log());
    let spent = std::fs::read_to_string(ledger(&site)).unwrap();
    assert!(!spent.contains("failed_authorizations"), "{spent}");
}

/// D10, P13: somebody who destroys what is held again and again, and a supervisor that starts us as
/// often, come to an end, which is told.
#[test]
fn a_certificate_that_is_destroyed_again_and_again_is_renewed_five_times() {
    let site = site("", "");
    let destroy = || {
        let held = site.workspace.certificate(NAME);
        std::fs::remove_dir_all(held).unwrap();
    };
    for _ in 0..5 {
        assert_eq!(site.renewd(&["renew"]).code, 0, "{}", site.pebble.log());
        destroy();
    }
    for _ in 0..3 {
        let renewed = site.renewd(&["renew"]);
        assert_eq!(renewed.code, 1, "{renewed}");
    }
    assert_eq!(orders(&site), 5, "{}", site.pebble.log());
    let status = site.status();
    assert_eq!(status["error_code"], "ledger.cap", "{status}");
    assert_eq!(status["health"], "warning", "{status}");
    assert_eq!(site.renewd(&["status", "--fail-on", "warning"]).code, 1);
    // A human may have one more.
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert_eq!(orders(&site), 6);
}

/// An account that was made by hand counts as any other.
#[test]
fn an_account_made_by_hand_is_counted() {
    let site = site("new_accounts = \"1/1h\"", "");
    let registered = site.renewd(&["account", "register"]);
    assert_eq!(registered.code, 0, "{registered}");
    let replaced = site.renewd(&["account", "register", "--replace"]);
    assert_eq!(replaced.code, 1, "{replaced}");
    assert!(replaced.stderr.contains("1 new accounts in 1h"), "{replaced}");
    std::fs::remove_dir_all(site.workspace.path().join("state/private/accounts")).unwrap();
    let renewed = site.renewd(&["renew"]);
    assert_eq!((renewed.code, orders(&site)), (1, 0), "{renewed}");
    assert!(renewed.stderr.contains("1 new accounts in 1h"), "{renewed}");
}
