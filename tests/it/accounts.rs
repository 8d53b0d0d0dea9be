//! The account at a real Pebble, by the commands that operators have: looked at, given new contacts
//! and another key, ended; and what orders do then.

use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions, Tls};
use crate::support::{Endpoint, Pebble, PebbleOptions, eventually, run};

fn site() -> Site {
    let options = SiteOptions { tls: Tls::Later, ..SiteOptions::default() };
    with(&SiteOptions {
        pebble: PebbleOptions { always_valid: true, ..PebbleOptions::default() },
        ..options
    })
}

fn with(options: &SiteOptions) -> Site {
    let site = Site::with(options);
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", site.pebble.log());
    site
}

/// What `renewd account WORDS --json` prints.
#[track_caller]
fn account(site: &Site, words: &[&str]) -> Value {
    let done = site.renewd(&[&["account"], words, &["--json"]].concat());
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    serde_json::from_str(&done.stdout).unwrap()
}

const CONTACT: &str = "contact = [\"mailto:ops@example.com\"]\n";

/// Puts `lines` behind the line `before` of the configuration.
#[track_caller]
fn configure(site: &Site, before: &str, lines: &str) {
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    assert!(config.contains(before), "{config}");
    site.workspace.write("renewd.toml", &config.replacen(before, &format!("{before}{lines}"), 1));
}

/// The code of the failure of a forced renewal.
#[track_caller]
fn refused(site: &Site) -> Value {
    let renewed = site.renewd(&["renew", "--force", NAME, "--json"]);
    assert_eq!(renewed.code, 1, "{renewed}");
    let reports: Value = serde_json::from_str(&renewed.stdout).unwrap();
    reports[0]["failures"][0].clone()
}

#[track_caller]
fn force(site: &Site) {
    let renewed = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", site.pebble.log());
}

#[test]
fn an_account_is_shown_updated_and_rolled_over_and_orders_go_on() {
    let site = site();
    let shown = account(&site, &["show"]);
    assert_eq!((&shown["ca"], &shown["status"]), (&"lab".into(), &"valid".into()), "{shown}");
    assert!(shown["terms"].as_str().unwrap().starts_with("data:"), "{shown}");

    configure(&site, "terms_of_service_agreed = true\n", CONTACT);
    let updated = account(&site, &["update"]);
    assert_eq!(updated["contact"][0], "mailto:ops@example.com");

    let rolled = account(&site, &["rollover"]);
    assert_eq!(rolled["url"], shown["url"]);
    assert_ne!(rolled["thumbprint"], shown["thumbprint"]);
    force(&site);
    assert_eq!(account(&site, &["show"])["thumbprint"], rolled["thumbprint"]);
}

#[test]
fn beside_a_daemon_the_account_is_its_business() {
    let site = site();
    let before = account(&site, &["show"]);
    let mut daemon = site.daemon();
    let socket = site.workspace.path().join("run/control.sock");
    eventually(LIMIT, "the daemon listens", || {
        std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|_no| daemon.log())
    });
    let rolled = account(&site, &["rollover"]);
    assert_ne!(rolled["thumbprint"], before["thumbprint"]);
    force(&site);
    let unknown = site.renewd(&["account", "show", "nowhere"]);
    assert_eq!(unknown.code, 2, "{unknown}");
    daemon.terminate(LIMIT);
}

#[test]
fn a_deactivated_account_is_not_replaced_unasked() {
    let site = site();
    let asked = site.renewd(&["account", "deactivate"]);
    assert_eq!(asked.code, 2, "{asked}");
    assert_eq!(account(&site, &["show"])["status"], "valid");

    assert_eq!(account(&site, &["deactivate", "--yes"])["status"], "deactivated");
    let registered = site.pebble.requests().count(Endpoint::NewAccount);
    for _ in 0..2 {
        let failure = refused(&site);
        assert_eq!(failure["code"], "acme.account_deactivated");
        assert!(failure["hint"].as_str().unwrap().contains("renewd account register"));
    }
    assert_eq!(site.pebble.requests().count(Endpoint::NewAccount), registered);

    assert_eq!(account(&site, &["register"])["status"], "valid");
    force(&site);
}

#[test]
fn an_account_that_was_ended_elsewhere_stops_and_is_not_made_anew() {
    let site = site();
    let folder = site.workspace.path().join("state/private/accounts/lab/account.json");
    let before = std::fs::read_to_string(&folder).unwrap();
    account(&site, &["deactivate", "--yes"]);
    // As if another machine with the same account had done it.
    site.workspace.write("state/private/accounts/lab/account.json", &before);
    assert_eq!(refused(&site)["code"], "acme.account_closed");
    assert_eq!(std::fs::read_to_string(&folder).unwrap(), before);
}

#[test]
fn an_account_is_bound_with_our_own_key_and_contact() {
    let hmac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let pebble = PebbleOptions {
        external_account_binding: Some(("kid-1".into(), hmac_key.into())),
        always_valid: true,
        ..PebbleOptions::default()
    };
    let site = Site::with(&SiteOptions { pebble, tls: Tls::Later, ..SiteOptions::default() });
    let refused = site.renewd(&["renew"]);
    assert_eq!(refused.code, 1, "{refused}");

    // As it is copied from a CA's page: with a line's end.
    site.workspace.write_secret("eab.key", &format!(" {hmac_key}\n"), 0o600);
    configure(&site, "[ca.lab]\n", "eab_kid = \"kid-1\"\neab_hmac_file = \"eab.key\"\n");
    configure(&site, "terms_of_service_agreed = true\n", CONTACT);
    force(&site);
    let shown = account(&site, &["show"]);
    assert_eq!((&shown["eab_key_id"], &shown["status"]), (&"kid-1".into(), &"valid".into()));
    assert_eq!(shown["contact"][0], "mailto:ops@example.com");
}

#[test]
fn another_directory_under_a_cas_name_sets_the_account_aside() {
    let site = site();
    let before = account(&site, &["show"]);
    let moved = Pebble::start(&PebbleOptions { always_valid: true, ..PebbleOptions::default() });
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let [from, to] = [&site.pebble, &moved].map(|it| (it.directory(), it.root_file()));
    let config =
        config.replace(&from.0, &to.0).replace(from.1.to_str().unwrap(), to.1.to_str().unwrap());
    site.workspace.write("renewd.toml", &config);

    // What the other directory issued is not that CA's: it is replaced, by a new account.
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", moved.log());
    assert_eq!(site.current().as_deref(), Some("0002"));
    let after = account(&site, &["show"]);
    assert_ne!(after["thumbprint"], before["thumbprint"]);
    assert_eq!(moved.requests().count(Endpoint::NewAccount), 1);
    let folder = site.workspace.path().join("state/private/accounts");
    let kept: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(kept.iter().any(|it| it.starts_with("lab.aside-")), "{kept:?}");
}

#[cfg(feature = "crash-points")]
#[test]
fn killed_at_every_step_of_a_rollover_the_account_is_usable() {
    let site = site();
    let url = account(&site, &["show"])["url"].clone();
    let points = ["acme.rollover_kept", "acme.rollover_done", "store.account_key"];
    for point in points {
        let before = account(&site, &["show"])["thumbprint"].clone();
        let mut command = site.workspace.command(&["account", "rollover"]);
        let killed = run(command.env("RENEWD_CRASH_AT", point), LIMIT);
        assert_eq!(killed.code, -1, "{point} was not passed: {killed}");
        force(&site);
        let after = account(&site, &["show"]);
        assert_eq!((&after["url"], &after["status"]), (&url, &"valid".into()), "{point}");
        let was_done = point != "acme.rollover_kept";
        assert_eq!(after["thumbprint"] != before, was_done, "{point}");
        let next = site.workspace.path().join("state/private/accounts/lab/next_key.pem");
        assert!(!next.exists(), "{point}");
    }
    account(&site, &["rollover"]);
    force(&site);
}
