//! Revocation at a real Pebble, as its management port tells it: by either key, for each order of
//! things, and what is served then.

use std::path::PathBuf;

use renewd::sys::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions};
use crate::support::{Nginx, NginxOptions, PebbleOptions, eventually, free_port, write};

pub(crate) fn site() -> Site {
    site_with("")
}

fn site_with(certificate: &str) -> Site {
    let pebble = PebbleOptions { always_valid: true, ..PebbleOptions::default() };
    let certificate = certificate.to_owned();
    let site = Site::with(&SiteOptions { pebble, certificate, ..SiteOptions::default() });
    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", site.pebble.log());
    site
}

/// What Pebble says of the certificate with the serial number `serial`.
pub(crate) fn at_the_ca(site: &Site, serial: &Value) -> Value {
    let path = format!("cert-status-by-serial/{}", serial.as_str().unwrap().to_lowercase());
    serde_json::from_str(&site.pebble.management(&path)).unwrap()
}

#[track_caller]
fn revoke(site: &Site, options: &[&str]) {
    let done = site.renewd(&[&["revoke", NAME, "--yes"], options].concat());
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
}

#[test]
fn a_certificate_whose_key_is_lost_is_revoked_and_replaced_with_another_key() {
    let site = site();
    let before = site.status();
    let key = site.workspace.certificate(NAME).join("current/privkey.pem");
    let old_key = std::fs::read_to_string(&key).unwrap();
    let asked = site.renewd(&["revoke", NAME, "--reason", "keyCompromise"]);
    assert_eq!(asked.code, 2, "{asked}");
    assert_eq!(at_the_ca(&site, &before["serial"])["Status"], "Valid");

    revoke(&site, &["--reason", "keyCompromise"]);
    let revoked = at_the_ca(&site, &before["serial"]);
    assert_eq!((&revoked["Status"], &revoked["Reason"]), (&"Revoked".into(), &1.into()));
    let after = site.status();
    assert_eq!(after["condition"], "served", "{after}");
    assert_ne!(after["serial"], before["serial"]);
    assert_eq!(at_the_ca(&site, &after["serial"])["Status"], "Valid");
    assert_ne!(std::fs::read_to_string(&key).unwrap(), old_key);
}

#[test]
fn a_superseded_certificate_is_revoked_once_the_new_one_is_served() {
    let site = site();
    let before = site.status();
    // The server's own test fails, so that it goes on with the old certificate.
    site.nginx().break_config();
    let done = site.renewd(&["revoke", NAME, "--yes", "--reason", "superseded", "--reissue"]);
    assert_eq!(done.code, 1, "{done}");
    assert_eq!(at_the_ca(&site, &before["serial"])["Status"], "Valid", "{done}");
    assert_eq!(site.served_serial().as_ref(), before["serial"].as_str().map(String::from).as_ref());

    site.nginx().repair_config();
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}");
    let revoked = at_the_ca(&site, &before["serial"]);
    assert_eq!((&revoked["Status"], &revoked["Reason"]), (&"Revoked".into(), &4.into()));
    let after = site.status();
    assert_eq!(after["condition"], "served", "{after}");
    assert_eq!(site.current().unwrap(), "0002", "one new certificate was enough");
}

#[test]
fn a_certificate_that_is_not_replaced_stays_and_is_said_to_be_revoked() {
    let site = site_with("key = \"rsa2048\"\n");
    let before = site.status();
    revoke(&site, &["--reason", "cessationOfOperation", "--key", "certificate"]);
    let revoked = at_the_ca(&site, &before["serial"]);
    assert_eq!((&revoked["Status"], &revoked["Reason"]), (&"Revoked".into(), &5.into()));
    let after = site.status();
    assert_eq!(after["condition"], "revoked", "{after}");
    assert_eq!((&after["health"], &after["renewal"]), (&"critical".into(), &"idle".into()));
    assert_eq!(after["serial"], before["serial"]);

    let again = site.renewd(&["revoke", NAME, "--yes"]);
    assert_eq!(again.code, 1, "{again}");
    assert!(again.stderr.contains("revoked already"), "{again}");
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    assert_eq!(site.status()["condition"], "served");
}

#[test]
fn what_the_ca_has_revoked_already_counts_as_revoked() {
    let site = site();
    let before = site.status();
    revoke(&site, &[]);
    // As if another machine had asked for it.
    site.workspace.write(&format!("state/private/certificates/{NAME}/state.json"), "{}");
    revoke(&site, &["--key", "certificate", "--no-reissue"]);
    assert_eq!(at_the_ca(&site, &before["serial"])["Status"], "Revoked");
    assert_eq!(site.status()["condition"], "revoked");
}

#[test]
fn a_daemon_revokes_and_replaces_when_asked() {
    let site = site_with("key = \"p384\"\n");
    let before = site.status();
    let mut daemon = site.daemon();
    let socket = site.workspace.path().join("run/control.sock");
    eventually(LIMIT, "the daemon listens", || {
        std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|_no| daemon.log())
    });
    revoke(&site, &["--reason", "keyCompromise", "--key", "certificate"]);
    assert_eq!(at_the_ca(&site, &before["serial"])["Status"], "Revoked");
    let after = site.await_condition("served");
    assert_ne!(after["serial"], before["serial"]);
    daemon.terminate(LIMIT);
}

// Pebble's certificates name no list and it makes none, so for what follows a certificate with a
// list is put into the store, of an issuer of the test's own, as if Pebble had given it yesterday.

/// Where nginx shows the list: what it shows over plain HTTP lies there.
const PLACE: &str = ".well-known/acme-challenge/list.crl";

/// An issuer, a certificate of it in the store, and a server with its list.
struct Listed {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    server: Nginx,
    list: PathBuf,
}

impl Listed {
    /// Puts the certificate into the store of `site`, in place of what is there.
    fn new(site: &Site) -> Self {
        let port = free_port();
        let server = Nginx::start(&NginxOptions { http_port: Some(port), ..Default::default() });
        let list = server.webroot().join(PLACE);
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages =
            vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);

        let mut params = rcgen::CertificateParams::new(vec!["site.example".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(4711));
        let now = SystemClock::new().now().to_string();
        let year: i32 = now[..4].parse().unwrap();
        params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
        let uris = vec![format!("http://{}/{PLACE}", server.http())];
        params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris }];
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();

        let folder = format!("state/certs/{NAME}/0001");
        let put = |file: &str, content: &str| {
            site.workspace.write(&format!("{folder}/{file}"), content);
        };
        let key = key.serialize_pem();
        put("fullchain.pem", &format!("{leaf}{authority}"));
        put("cert.pem", &leaf);
        put("chain.pem", &authority);
        put("privkey.pem", &key);
        put("combined.pem", &format!("{key}{leaf}{authority}"));
        let meta = site.workspace.certificate(NAME).join("0001/meta.json");
        let mut meta: Value =
            serde_json::from_str(&std::fs::read_to_string(meta).unwrap()).unwrap();
        let chain = renewd::model::Chain::parse_pem(leaf.as_bytes()).unwrap();
        meta["sha256"] = chain.leaf.sha256.to_string().into();
        meta["origin"]["issued_at"] = "2026-11-01T00:00:00Z".into();
        put("meta.json", &meta.to_string());
        Self { issuer, server, list }
    }

    /// Publishes a list with the serial numbers `revoked`.
    fn publish(&self, revoked: &[u64]) {
        let revoked = revoked.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2026, 11, 1),
            reason_code: Some(rcgen::RevocationReason::PrivilegeWithdrawn),
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 11, 2),
            next_update: rcgen::date_time_ymd(2036, 11, 9),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        write(&self.list, list.der());
    }
}

/// How many lines of the history say `what`.
fn history(site: &Site, what: &str) -> usize {
    let path = format!("state/private/certificates/{NAME}/history.jsonl");
    let text = std::fs::read_to_string(site.workspace.path().join(path)).unwrap();
    text.lines().filter(|it| it.contains(&format!("\"what\":\"{what}\""))).count()
}

#[test]
fn a_certificate_on_its_cas_list_is_replaced_at_once() {
    let site = site();
    let listed = Listed::new(&site);
    listed.publish(&[1, 4711]);
    let before = site.status();
    assert_eq!(before["serial"], "1267", "{before}");

    let renewed = site.renewd(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert_eq!(history(&site, "revoked"), 1, "{renewed}");
    let after = site.status();
    assert_eq!((&after["condition"], &after["generation"]), (&"served".into(), &"0002".into()));
    assert!(renewed.stderr.contains("it is revoked"), "{renewed}");
}

#[test]
fn a_certificate_that_is_on_no_list_or_whose_list_cannot_be_had_is_kept() {
    let site = site();
    let listed = Listed::new(&site);
    // There is none yet.
    let renewed = site.renewd(&["renew"]);
    assert!(renewed.stderr.contains("is not known"), "{renewed}");
    listed.publish(&[1]);
    let forget = format!("state/private/certificates/{NAME}/state.json");
    site.workspace.write(&forget, "{}");
    for _ in 0..2 {
        let renewed = site.renewd(&["renew"]);
        assert!(!renewed.stderr.contains("is not known"), "{renewed}");
    }
    let after = site.status();
    assert_eq!((&after["serial"], &after["renewal"]), (&"1267".into(), &"idle".into()), "{after}");
    let kept = site.workspace.path().join("state/private/crl");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 1);
    assert_eq!(history(&site, "revoked"), 0);
    drop(listed.server);
}
