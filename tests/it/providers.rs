//! dns-01 by each way to change DNS that has a real peer: PowerDNS by its API and by updates, Knot,
//! Route 53.
//!
//! Not here: BIND ([`crate::dns`]).

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::site::{Site, SiteOptions, Tls};
use crate::support::{Finished, Knot, PebbleOptions, PowerDns, txt_values};

/// What somebody else has put where ours go.
const FOREIGN: &str = "of somebody else";

/// The zones of every test: a foreign value where ours go, and an alias into the other zone.
const ZONES: &[(&str, &str)] = &[
    (
        "site.example",
        "_acme-challenge TXT \"of somebody else\"\n\
         _acme-challenge.www CNAME www.proofs.example.",
    ),
    ("proofs.example", "www TXT \"of somebody else\""),
];

/// A solver that `lines` say of how DNS is changed, and whose one name server is `server`.
fn solver(server: SocketAddr, lines: &str) -> String {
    let mut text = String::from("[solver.dns]\ntype = \"dns-01\"\n");
    writeln!(text, "resolvers = [\"{server}\"]\nnameservers = [\"{server}\"]\n{lines}").unwrap();
    text
}

fn rfc2136(server: SocketAddr, key_file: &Path) -> String {
    format!("provider = \"rfc2136\"\nserver = \"{server}\"\nkey_file = {key_file:?}\n")
}

/// Gets a certificate for apex and wildcard from a CA that asks `server`, and proves the solver
/// over an alias; looks that values of others are all that is left.
#[track_caller]
fn check(server: SocketAddr, lines: &str) {
    let site = Site::with(&SiteOptions {
        pebble: PebbleOptions { resolver: Some(server), strict: true, ..PebbleOptions::default() },
        identifiers: vec!["site.example".to_owned(), "*.site.example".to_owned()],
        certificate: "solver = \"dns\"\n".to_owned(),
        tables: solver(server, lines),
        tls: Tls::Later,
        ..SiteOptions::default()
    });
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(site.status()["condition"], "held");
    check_only_foreign(server, "_acme-challenge.site.example");

    let done = site.renewd(&["dns", "test", "dns", "www.site.example"]);
    check_rehearsed(&done);
    check_only_foreign(server, "www.proofs.example");
}

#[track_caller]
fn check_rehearsed(done: &Finished) {
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stdout.contains("leads to www.proofs.example"), "{done}");
    assert!(done.stdout.contains("all name servers that answer have it"), "{done}");
    assert!(done.stdout.ends_with("no name server that answers has it any more\n"), "{done}");
}

#[track_caller]
fn check_only_foreign(server: SocketAddr, name: &str) {
    let values: Vec<_> = txt_values(server, name).into_iter().collect();
    assert_eq!(values, [FOREIGN], "{name}");
}

#[test]
fn powerdns_is_changed_by_its_api_and_by_updates() {
    let server = PowerDns::start(ZONES);
    let (url, key_file) = (server.api(), server.api_key_file());
    let lines = format!("provider = \"pdns\"\nurl = \"{url}\"\nkey_file = {key_file:?}\n");
    check(server.address(), &lines);
    check(server.address(), &rfc2136(server.address(), &server.key_file()));
}

#[test]
fn knot_is_changed_by_updates() {
    let server = Knot::start(ZONES);
    check(server.address(), &rfc2136(server.address(), &server.key_file()));
}
