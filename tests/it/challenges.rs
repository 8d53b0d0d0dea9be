//! Every way to prove control but dns-01 alone, and addresses, against a Pebble with its faults on.

use std::fmt::Write;
use std::net::TcpListener;

use crate::site::{NAME, Site, SiteOptions, Tls};
use crate::support::{Bind, BindOptions, Endpoint, Lag, PebbleOptions, alternative_names};

/// A name that proves itself to be of more than 64 bytes, which no subject can hold.
const LONG: &str =
    "a-name-that-no-subject-of-a-certificate-can-hold.for-it-is-too-long.site.example";

fn faulty() -> PebbleOptions {
    PebbleOptions {
        nonce_reject: 20,
        validation_sleep: 1,
        strict: true,
        ..PebbleOptions::default()
    }
}

/// A site without a server for `identifiers`.
fn held(pebble: PebbleOptions, identifiers: &[&str], tables: String) -> SiteOptions {
    SiteOptions {
        pebble,
        identifiers: identifiers.iter().map(|it| (*it).to_owned()).collect(),
        tables,
        tls: Tls::Later,
        ..SiteOptions::default()
    }
}

/// `[solver.NAME]` that listens on `port` of each of `hosts`, for `identifiers`.
fn listener(name: &str, kind: &str, hosts: &[&str], port: u16, identifiers: &[&str]) -> String {
    let addresses: Vec<String> = hosts.iter().map(|it| format!("{it}:{port}")).collect();
    let mut text = format!("[solver.{name}]\ntype = {kind:?}\nlisten = {addresses:?}\n");
    writeln!(text, "for = {identifiers:?}").unwrap();
    text
}

/// One run gets the certificate, for exactly `identifiers`.
#[track_caller]
fn check_held(site: &Site, identifiers: &[&str]) {
    // By its name: an earlier failure is not waited for.
    let done = site.renewd(&["renew", NAME]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    // Not by its requests, of which some are sent again for their nonces.
    assert_eq!(site.pebble.log().matches("Added order ").count(), 1);
    let status = site.status();
    let names: Vec<&str> =
        status["domains"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(names, identifiers, "{status:#}");
    let file = site.workspace.certificate(NAME).join("current/cert.pem");
    let shown = alternative_names(&file);
    for identifier in identifiers {
        let address = identifier.parse::<std::net::IpAddr>();
        let wanted = match address {
            Ok(std::net::IpAddr::V4(address)) => format!("IP Address:{address}"),
            // OpenSSL writes every group.
            Ok(std::net::IpAddr::V6(_)) => "IP Address:0:0:0:0:0:0:0:1".to_owned(),
            Err(_) => format!("DNS:{identifier}"),
        };
        assert!(shown.contains(&wanted), "{wanted}: {shown}");
    }
}

#[test]
fn names_and_addresses_of_both_families_are_proven_by_tls_alpn_01() {
    let pebble = faulty();
    let identifiers = ["site.example", "xn--bcher-kva.example", "127.0.0.1", "::1"];
    let hosts = ["127.0.0.1", "[::1]"];
    let tables = listener("tls", "tls-alpn-01", &hosts, pebble.tls_port, &identifiers);
    let site = Site::with(&held(pebble, &identifiers, tables));
    check_held(&site, &identifiers);
    let closed = std::net::TcpStream::connect(("127.0.0.1", site.pebble.tls_port()));
    assert!(closed.is_err(), "the listener is open while there is nothing to prove");
}

#[test]
fn addresses_of_both_families_are_proven_by_http_01() {
    let pebble = faulty();
    let identifiers = ["127.0.0.1", "::1", LONG];
    let hosts = ["127.0.0.1", "[::1]"];
    let tables = listener("own", "http-01", &hosts, pebble.http_port, &identifiers);
    let site = Site::with(&held(pebble, &identifiers, tables));
    check_held(&site, &identifiers);
}

#[test]
fn several_solvers_prove_one_order_each_what_it_is_for() {
    let pebble = faulty();
    let identifiers = ["web.example", "tls.example", "::1"];
    let mut tables =
        listener("tls", "tls-alpn-01", &["127.0.0.1"], pebble.tls_port, &["tls.example"]);
    tables.push_str(&listener("own", "http-01", &["[::1]"], pebble.http_port, &["::1"]));
    let options = SiteOptions { tls: Tls::Store, ..held(pebble, &identifiers, tables) };
    let site = Site::with(&options);
    check_held(&site, &identifiers);
    assert_eq!(site.status()["condition"], "served");
    // Nobody shows the third by HTTP, nor the others elsewhere.
    let log = site.pebble.log();
    for (identifier, by_http) in [("web.example", true), ("tls.example", false), ("[::1]", true)] {
        assert_eq!(log.contains(&format!("HTTP: http://{identifier}:")), by_http, "{log}");
    }
}

/// P14: port 80 or 443 is taken or not permitted.
#[test]
fn a_taken_port_of_tls_alpn_01_costs_no_order() {
    let pebble = faulty();
    let port = pebble.tls_port;
    let identifiers = ["site.example"];
    let tables = listener("tls", "tls-alpn-01", &["127.0.0.1"], port, &identifiers);
    let site = Site::with(&held(pebble, &identifiers, tables));
    let in_the_way = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 1, "{done}");
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), 0);
    let status = site.status();
    assert_eq!(status["error_code"], "solver.listen", "{status:#}");
    assert!(status["hint"].as_str().unwrap().contains("acme-tls/1"), "{status:#}");
    drop(in_the_way);
    check_held(&site, &identifiers);
}

/// A site whose CA and whose solver `dns` of type `kind` ask `bind` alone; `more` are further lines
/// of the solver.
pub(crate) fn by_dns(bind: &Bind, kind: &str, more: &str, identifiers: &[&str]) -> Site {
    let server = bind.primary();
    let mut tables = format!("[solver.dns]\ntype = {kind:?}\nresolvers = [\"{server}\"]\n");
    writeln!(tables, "nameservers = [\"{server}\"]\nfor = {identifiers:?}\n{more}").unwrap();
    let pebble = PebbleOptions { resolver: Some(server), ..faulty() };
    Site::with(&held(pebble, identifiers, tables))
}

pub(crate) fn bind() -> Bind {
    bind_with("")
}

/// One with `records` in its zone.
pub(crate) fn bind_with(records: &str) -> Bind {
    let zones = vec![("site.example".to_owned(), records.to_owned())];
    Bind::start(&BindOptions { zones, locked: Vec::new(), lag: Lag::Seconds })
}

#[test]
fn apex_and_wildcard_are_proven_by_dns_account_01_in_one_order() {
    let bind = bind();
    let mut more = format!("provider = \"rfc2136\"\nserver = \"{}\"\n", bind.primary());
    writeln!(more, "key_file = {:?}", bind.key_file()).unwrap();
    let identifiers = ["site.example", "*.site.example"];
    let site = by_dns(&bind, "dns-account-01", &more, &identifiers);
    check_held(&site, &identifiers);
}

#[test]
fn a_standing_record_is_printed_waited_for_and_believed() {
    let bind = bind();
    let identifiers = ["site.example", "*.site.example"];
    let more = "propagation_timeout = \"1s\"\n";
    let site = by_dns(&bind, "dns-persist-01", more, &identifiers);
    let asked = site.renewd(&["dns", "persist", NAME]);
    assert_eq!(asked.code, 1, "{asked}\n{}", site.pebble.log());
    assert!(asked.stderr.contains("no record is for this CA"), "{asked}");
    let record = |line: &str| {
        let (name, value) = line.split_once(". IN TXT ").unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    let records: Vec<_> = asked.stdout.lines().map(record).collect();
    let [one, other] = &records[..] else { panic!("{asked}") };
    assert!(records.iter().all(|it| it.0 == "_validation-persist.site.example"), "{asked}");
    let (wildcard, plain) =
        if one.1.ends_with("; policy=wildcard") { (one, other) } else { (other, one) };
    assert_eq!(wildcard.1, format!("{}; policy=wildcard", plain.1));

    // One that is missing, or not enough, costs no attempt at the CA.
    for value in [None, Some(plain.1.as_str())] {
        if let Some(value) = value {
            bind.set_txt(&plain.0, value);
        }
        let done = site.renewd(&["renew", NAME]);
        assert_eq!(done.code, 1, "{done}");
        let status = site.status();
        assert_eq!(status["error_code"], "dns.persist", "{status:#}");
        assert!(status["hint"].as_str().unwrap().contains(&plain.0), "{status:#}");
    }
    assert_eq!(site.pebble.requests().count(Endpoint::Challenge), 0);

    bind.set_txt(&wildcard.0, &wildcard.1);
    let asked = site.renewd(&["dns", "persist", NAME]);
    assert_eq!(asked.code, 0, "{asked}");
    let done = site.renewd(&["renew", NAME]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(site.status()["condition"], "held");
}
