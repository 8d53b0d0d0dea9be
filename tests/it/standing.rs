//! Standing records (dns-persist-01) are watched between renewals: at a real BIND, for certificates
//! of a real Pebble.
//!
//! Not here: proving by them ([`crate::challenges`]).

use std::fs;

use serde_json::Value;

use crate::challenges::{bind, by_dns};
use crate::site::{NAME, Site};
use crate::support::{Bind, Finished, edit_json, eventually};

const RECORD: &str = "_validation-persist.site.example";

/// A site whose certificate was proven by the record that is returned beside it; receivers'
/// messages are in `told.jsonl`.
fn proven(bind: &Bind) -> (Site, String) {
    let site = by_dns(bind, "dns-persist-01", "propagation_timeout = \"1s\"\n", &["site.example"]);
    let told = site.workspace.path().join("told.jsonl");
    let config = fs::read_to_string(site.workspace.config_file()).unwrap();
    let alert = format!(
        "\n[[alert]]\ntype = \"command\"\ncommand = [\"/usr/bin/tee\", \"-a\", {told:?}]\n"
    );
    crate::support::write(&site.workspace.config_file(), config + &alert);
    let asked = site.renewd(&["dns", "persist", NAME]);
    let (_, value) = asked.stdout.trim().split_once(". IN TXT ").unwrap();
    let value = value.trim_matches('"').to_owned();
    bind.set_txt(RECORD, &value);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    (site, value)
}

/// The types and causes of the messages that were sent, oldest first.
fn told(site: &Site) -> Vec<(String, Value)> {
    let text = fs::read_to_string(site.workspace.path().join("told.jsonl")).unwrap_or_default();
    let read = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let message = |it: Value| (it["type"].as_str().unwrap().to_owned(), it["data"].clone());
    read.map(|it| message(it.unwrap())).collect()
}

#[track_caller]
fn check_wrong(site: &Site, done: &Finished, state: &str) -> Value {
    assert_eq!(done.code, 1, "{done}");
    let status = site.status();
    assert_eq!(status["records"][0]["state"], state, "{status:#}");
    assert_eq!((&status["health"], &status["condition"]), (&"warning".into(), &"held".into()));
    assert_eq!((&status["renewal"], &status["failures"]), (&"idle".into(), &0.into()));
    assert_eq!(status["error_code"], "dns.persist");
    assert!(status["hint"].as_str().unwrap().contains(RECORD), "{status:#}");
    status
}

#[test]
fn a_record_that_is_missing_changed_or_ends_soon_is_told_before_a_renewal_fails() {
    let bind = bind();
    let (site, value) = proven(&bind);
    let orders = site.pebble.log().matches("Added order ").count();
    let status = site.status();
    assert_eq!(status["records"][0]["state"], "right", "{status:#}");
    assert_eq!(status["records"][0]["value"], value.as_str());
    assert_eq!((&status["health"], told(&site).len()), (&"ok".into(), 0), "{status:#}");

    bind.set_txt(RECORD, "v=spf1 -all");
    let status = site.status();
    assert_eq!(status["records"][0]["state"], "right", "nobody has looked yet");
    let probed = site.renewd(&["status", "--probe", "--json"]);
    let probed: Value = serde_json::from_str(&probed.stdout).unwrap();
    assert_eq!(probed["certificates"][0]["records"][0]["state"], "missing", "{probed:#}");
    // Time has not come, so a run looks nowhere; one for this certificate does.
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let done = site.renewd(&["renew", NAME]);
    check_wrong(&site, &done, "missing");
    assert!(done.stderr.contains("a standing record is not right"), "{done}");
    let [(kind, data)] = &told(&site)[..] else { panic!("{:?}", told(&site)) };
    assert_eq!((kind.as_str(), &data["error_code"]), ("renewal.failed", &"dns.persist".into()));
    assert_eq!(data["command"], format!("renewd dns persist {NAME}"));
    assert!(data["hint"].as_str().unwrap().contains(&value), "{data:#}");

    let cases = [
        (value.replace("my-account", "other-account"), "other_account"),
        (format!("{value}; persistUntil=4102444800"), "right"),
        (format!("{value}; persistUntil=1"), "ended"),
        (format!("{value}; persistUntil=soon"), "unreadable"),
    ];
    for (record, state) in cases {
        bind.set_txt(RECORD, &record);
        let done = site.renewd(&["renew", NAME]);
        if state == "right" {
            assert_eq!(done.code, 0, "{done}");
            assert_eq!(site.status()["records"][0]["state"], state);
        } else {
            check_wrong(&site, &done, state);
        }
    }
    let not_after: String = site.status()["not_after"].as_str().unwrap().to_owned();
    let not_after: renewd::model::Timestamp = not_after.parse().unwrap();
    bind.set_txt(RECORD, &format!("{value}; persistUntil={}", not_after.unix_seconds() - 1));
    let done = site.renewd(&["renew", NAME]);
    let status = check_wrong(&site, &done, "ends_soon");
    assert!(status["hint"].as_str().unwrap().contains("persistUntil"), "{status:#}");

    bind.set_txt(RECORD, &value);
    let done = site.renewd(&["renew", NAME]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(site.status()["error_code"], Value::Null);
    let kinds: Vec<String> = told(&site).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.last().map(String::as_str), Some("alert.resolved"), "{kinds:?}");
    let now = site.pebble.log().matches("Added order ").count();
    assert_eq!(now, orders, "looking places no order");
}

/// What is remembered of the records, changed by `change`.
#[track_caller]
fn remember(site: &Site, change: impl FnOnce(&mut Value)) {
    let path = site.state_file().with_file_name("standing.json");
    edit_json(&path, change);
}

#[test]
fn a_daemon_looks_at_records_by_itself_and_a_rollover_says_which_it_changes() {
    let bind = bind();
    let (site, value) = proven(&bind);
    bind.set_txt(RECORD, "v=spf1 -all");
    remember(&site, |watch| watch["looked_at"] = "1970-01-01T00:00:00Z".into());
    let mut daemon = site.daemon();
    let status = eventually(crate::site::LIMIT, "the daemon has looked", || {
        let status = site.status();
        if status["records"][0]["state"] == "missing" { Ok(status) } else { Err(daemon.log()) }
    });
    assert_eq!(status["health"], "warning", "{status:#}");

    // No server of draft -02 is there to ask, which names accounts by a hash over their key: as if
    // the CA had wanted that.
    let account = site.renewd(&["account", "rollover"]);
    assert_eq!(account.code, 0, "{account}");
    assert!(!account.stdout.contains("IN TXT"), "{account}");
    daemon.terminate(crate::site::LIMIT);
    let hashed = "https://ca.example/account-hash/";
    remember(&site, |watch| {
        watch["records"][0]["terms"]["hash_prefix"] = hashed.into();
    });
    let probed = site.renewd(&["renew", NAME]);
    assert_eq!(probed.code, 1, "{probed}");
    let before = site.status()["records"][0]["value"].clone();
    assert!(before.as_str().unwrap().contains("account-hash/sha-256/"), "{before}");
    bind.set_txt(RECORD, before.as_str().unwrap());
    assert_eq!(site.renewd(&["renew", NAME]).code, 0);

    let account = site.renewd(&["account", "rollover"]);
    assert_eq!(account.code, 0, "{account}");
    let (name, now) = account.stdout.split_once(". IN TXT ").unwrap();
    assert!(name.ends_with(RECORD) && now.contains("account-hash/sha-256/"), "{account}");
    assert!(!now.contains(before.as_str().unwrap()) && !now.contains(&value), "{account}");
    assert!(account.stderr.contains("is not renewed before"), "{account}");
    // It is looked at soon, without being told to.
    let done = site.renewd(&["renew"]);
    check_wrong(&site, &done, "other_account");
}
