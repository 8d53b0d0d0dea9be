//! A certificate is ordered, stored, served and proven, on a CA with its faults switched on.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use renewd::model::{Journal, OrderRecord, Origin, PrivateKey};
use renewd::store::{Store, StoreSettings};
use renewd::sys::clock::SystemClock;
use serde_json::Value;

use crate::site::{NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Endpoint, PebbleOptions, alternative_names};

/// Pebble as it comes, so that clients learn to cope.
fn faulty() -> PebbleOptions {
    PebbleOptions {
        nonce_reject: 20,
        authorization_reuse: 50,
        validation_sleep: 2,
        strict: true,
        ..PebbleOptions::default()
    }
}

fn three_names(proof: ProofBy) -> SiteOptions {
    let identifiers = ["site.example", "www.site.example", "api.site.example"].map(String::from);
    SiteOptions {
        pebble: faulty(),
        identifiers: identifiers.into(),
        proof,
        ..SiteOptions::default()
    }
}

/// One run brings the certificate to served, and OpenSSL sees what status says.
#[track_caller]
fn check_served(site: &Site) {
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let status = site.status();
    assert_eq!(status["condition"], "served", "{status:#}");
    assert_eq!(status["health"], "ok", "{status:#}");
    let serial = site.served_serial().unwrap();
    assert_eq!(status["serial"], serial.as_str(), "{status:#}");
}

#[test]
fn three_names_by_webroot_behind_nginx_are_served() {
    let site = Site::with(&three_names(ProofBy::Webroot));
    check_served(&site);
    let left = std::fs::read_dir(site.workspace.path().join("run/acme-challenge")).unwrap();
    assert_eq!(left.count(), 0, "challenge files were left");
}

#[test]
fn three_names_by_a_listener_are_served() {
    let site = Site::with(&three_names(ProofBy::Listener));
    check_served(&site);
    let closed = std::net::TcpStream::connect(("127.0.0.1", site.pebble.http_port()));
    assert!(closed.is_err(), "the listener is open while there is nothing to prove");
}

#[test]
fn every_kind_of_key_is_issued_and_served() {
    for key in ["p384", "rsa2048", "rsa3072", "rsa4096"] {
        let certificate = format!("key = {key:?}\n");
        let site = Site::with(&SiteOptions { certificate, ..SiteOptions::default() });
        check_served(&site);
    }
}

#[test]
fn what_is_not_due_is_not_asked_for_again_and_force_is() {
    let site = Site::start();
    check_served(&site);
    let first = site.served_serial();
    let orders = site.pebble.requests().count(Endpoint::NewOrder);

    check_served(&site);
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders);
    assert_eq!(site.served_serial(), first);

    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    assert_ne!(site.served_serial(), first);
    assert_eq!(site.current().as_deref(), Some("0002"));
    let history = site.workspace.path().join("state/private/certificates/site/history.jsonl");
    let history = std::fs::read_to_string(history).unwrap();
    let told: Vec<bool> = history.lines().map(|it| it.contains("\"renewed\"")).collect();
    assert_eq!(told, [true, false, true, false], "{history}");
}

#[test]
fn changed_names_and_keys_are_ordered_anew() {
    let site = Site::start();
    check_served(&site);
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let more = config.replace("[\"site.example\"]", "[\"site.example\", \"www.site.example\"]");
    assert_ne!(config, more);
    crate::support::write(&site.workspace.config_file(), &more);
    let plan = site.renewd(&["plan"]);
    assert!(plan.stdout.contains("www.site.example is not on it"), "{plan}");
    check_served(&site);
    assert_eq!(site.current().as_deref(), Some("0002"));

    let key = format!("{more}key = \"p384\"\n");
    crate::support::write(&site.workspace.config_file(), &key);
    check_served(&site);
    assert_eq!(site.current().as_deref(), Some("0003"));
}

/// Puts the order of the held certificate back into the journal, as a process leaves it that dies
/// just after storing.
fn reopen_order(site: &Site) {
    let held = site.workspace.certificate(NAME).join("current");
    let meta: Value =
        serde_json::from_slice(&std::fs::read(held.join("meta.json")).unwrap()).unwrap();
    let origin: Origin = serde_json::from_value(meta["origin"].clone()).unwrap();
    let key = PrivateKey::from_pem(&std::fs::read(held.join("privkey.pem")).unwrap()).unwrap();
    let record = OrderRecord {
        ca: origin.ca,
        directory: origin.directory,
        order_url: origin.order_url,
        identifiers: vec!["site.example".parse().unwrap()],
        profile: origin.profile,
        key_type: origin.key_type,
        csr: None,
        placed_at: origin.issued_at,
        expires_at: None,
        stuck_since: None,
        counted: None,
        unsettled: Vec::new(),
        proofs_spent_at: None,
        presented: Vec::new(),
    };
    let [state_dir, run_dir] = ["state", "run"].map(|it| site.workspace.path().join(it));
    let name = NAME.parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let settings = StoreSettings { state_dir, run_dir };
        let clock = Arc::new(SystemClock::new());
        let store = Store::open(&settings, clock, Duration::from_secs(10)).await.unwrap();
        store.save_pending_key(&name, &key).await.unwrap();
        store.save_order(&name, &record).await.unwrap();
    });
}

#[test]
fn the_order_of_a_stored_certificate_is_not_taken_up_again() {
    let site = Site::start();
    check_served(&site);
    let first = site.served_serial();
    reopen_order(&site);
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    assert_ne!(site.served_serial(), first, "the old certificate was downloaded again");

    reopen_order(&site);
    check_served(&site);
    let journal = site.workspace.path().join("state/private/certificates").join(NAME);
    assert!(!journal.join("order.json").exists(), "an order that is over is in the journal");
}

#[test]
fn a_filled_order_is_downloaded_although_its_solver_can_not_work_any_more() {
    let site = Site::with(&SiteOptions { proof: ProofBy::Listener, ..SiteOptions::default() });
    check_served(&site);
    let first = site.served_serial();
    let orders = site.pebble.requests().count(Endpoint::NewOrder);
    reopen_order(&site);
    std::fs::remove_dir_all(site.workspace.certificate(NAME)).unwrap();

    let _in_the_way = TcpListener::bind(("127.0.0.1", site.pebble.http_port())).unwrap();
    check_served(&site);
    assert_eq!(site.served_serial(), first);
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders);
}

#[test]
fn an_install_that_a_crash_interrupted_is_repaired_at_the_next_start() {
    let site = Site::start();
    check_served(&site);
    let folder = site.workspace.path().join("state/private/previous/nginx").join(NAME);
    std::fs::create_dir_all(&folder).unwrap();
    let journal = folder.join("journal.json");
    crate::support::write(&journal, "broken");
    check_served(&site);
    assert!(!journal.exists(), "nothing was repaired");
}

#[test]
fn nothing_secret_is_readable_by_others() {
    let site = Site::start();
    check_served(&site);
    let state = site.workspace.path().join("state");
    let mut pending = vec![state.clone()];
    let mut keys = 0;
    while let Some(path) = pending.pop() {
        let mode = path.symlink_metadata().unwrap().mode() & 0o7777;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_private = path.starts_with(state.join("private"));
        if path.is_dir() && !path.is_symlink() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            assert!(!is_private || mode == 0o700, "{} {mode:o}", path.display());
        } else if is_private || name == "privkey.pem" || name == "combined.pem" || name == "key.pem"
        {
            keys += 1;
            assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
        }
    }
    assert!(keys >= 4, "only {keys} files looked at");
}

#[test]
fn names_that_mean_the_same_are_ordered_once_in_normal_form() {
    let pebble = PebbleOptions { strict: true, ..PebbleOptions::default() };
    let names = ["Bücher.Example.", "xn--bcher-kva.example", "SITE.example", "site.example."];
    let identifiers = names.map(str::to_owned).to_vec();
    let proof = ProofBy::Listener;
    let options = SiteOptions { pebble, identifiers, proof, ..SiteOptions::default() };
    let site = Site::with(&SiteOptions { tls: Tls::Later, ..options });
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let names = serde_json::json!(["xn--bcher-kva.example", "site.example"]);
    assert_eq!(site.status()["domains"], names);
    let shown = alternative_names(&site.workspace.certificate(NAME).join("current/cert.pem"));
    assert_eq!(shown.matches("DNS:").count(), 2, "{shown}");
    assert_eq!(site.pebble.log().matches("Added order ").count(), 1);
}
