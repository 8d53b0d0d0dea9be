//! dns-01 by each way to change DNS that has a real peer: PowerDNS by its API and by updates, Knot,
//! Route 53, a script of acme.sh; and what becomes of a record that can't be removed.
//!
//! Not here: BIND ([`crate::dns`]).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::site::{LIMIT, Site, SiteOptions, Tls};
#[cfg(feature = "crash-points")]
use crate::support::Moto;
use crate::support::{
    Bind, BindOptions, Finished, HttpRequests, Knot, Lag, PebbleOptions, Peers, PowerDns, program,
    run, txt_values, write, write_secret,
};

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
    let steps =
        ["all name servers that answer have it", "removed it", "no name server that answers"];
    assert!(steps.iter().all(|it| done.stdout.contains(it)), "{done}");
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

/// A site whose CA takes any proof for fulfilled, for ways to change DNS that answer no DNS.
fn site_of_credulous_ca(identifiers: &[&str], tables: String) -> Site {
    Site::with(&SiteOptions {
        pebble: PebbleOptions { always_valid: true, strict: true, ..PebbleOptions::default() },
        identifiers: identifiers.iter().map(|it| (*it).to_owned()).collect(),
        certificate: "solver = \"dns\"\n".to_owned(),
        tables,
        tls: Tls::Later,
        ..SiteOptions::default()
    })
}

/// A solver that finds its zones at `resolver`, and asks no name server for its records.
fn blind_solver(resolver: SocketAddr, lines: &str) -> String {
    format!(
        "[solver.dns]\ntype = \"dns-01\"\nresolvers = [\"{resolver}\"]\nnameservers = []\n{lines}"
    )
}

#[cfg(feature = "crash-points")]
#[test]
fn route_53_holds_ours_beside_those_of_others_until_they_are_proven() {
    let moto = Moto::start();
    let zone = moto.make_zone("site.example");
    moto.set_txt(&zone, "_acme-challenge.site.example", &[FOREIGN]);
    let proofs = moto.make_zone("proofs.example");
    moto.set_txt(&proofs, "www.proofs.example", &[FOREIGN]);
    let resolver = Knot::start(ZONES);

    // moto's answer to who holds a name lacks a field that Amazon's has, so the zones' ids are
    // given.
    let url = moto.url();
    let lines = |id: &str| {
        format!(
            "provider = \"route53\"\nurl = \"{url}\"\noptions = {{ hosted_zone_id = \"{id}\" }}\n\
             key_file = \"aws.id\"\nsecret_file = \"aws.secret\"\n"
        )
    };
    let [tables, others] = [&zone, &proofs].map(|it| blind_solver(resolver.address(), &lines(it)));
    let site = site_of_credulous_ca(
        &["site.example", "*.site.example"],
        tables + &others.replace("solver.dns", "solver.other"),
    );
    write_secret(&site.workspace.path().join("aws.id"), "test", 0o600);
    write_secret(&site.workspace.path().join("aws.secret"), "test", 0o600);
    let mut command = site.workspace.command(&["renew"]);
    let killed = run(command.env("RENEWD_CRASH_AT", "issue.presented"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    let values = moto.txt_values(&zone);
    assert!(values.len() == 3 && values.contains(&FOREIGN.to_owned()), "{values:?}");

    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert_eq!(moto.txt_values(&zone), [FOREIGN]);
    check_rehearsed(&site.renewd(&["dns", "test", "other", "www.site.example"]));
    assert_eq!(moto.txt_values(&proofs), [FOREIGN]);
}

#[test]
fn what_could_not_be_removed_outlives_its_order_and_is_removed_by_the_next_run() {
    let (changer, resolver) = (HttpRequests::start(), Knot::start(ZONES));
    let lines = format!("provider = \"httpreq\"\nurl = \"{}\"\n", changer.url());
    let site = site_of_credulous_ca(&["site.example"], blind_solver(resolver.address(), &lines));
    let folder = site.workspace.path().join("state/private/dns");
    let kept = || std::fs::read_dir(&folder).unwrap().count();

    check_rehearsed(&site.renewd(&["dns", "test", "dns", "www.site.example"]));
    let before = changer.asked();
    changer.refuse_cleanup(true);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(kept(), 1);

    changer.refuse_cleanup(false);
    let refused = changer.asked().len();
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(kept(), 0);
    let asked = changer.asked();
    let bodies = |path: &str, range: &[(String, String)]| {
        let of = range.iter().filter(|(it, _)| it == path).map(|(_, body)| body.clone());
        of.collect::<BTreeSet<_>>()
    };
    let presented = bodies("/present", &asked[before.len()..]);
    assert_eq!(presented.len(), 1, "{asked:?}");
    assert_eq!(bodies("/cleanup", &asked[refused..]), presented);
}

#[test]
fn an_acme_sh_script_changes_bind() {
    let zone = |name: &str, records: &str| (name.to_owned(), records.to_owned());
    let bind = Bind::start(&BindOptions {
        zones: vec![
            zone("site.example", "_acme-challenge.www CNAME www.proofs.example."),
            zone("proofs.example", ""),
        ],
        locked: vec![],
        lag: Lag::Seconds,
    });
    let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme-sh-dns.sh");
    let acme_sh = std::fs::canonicalize(Peers::locate().acme_sh).unwrap();
    let (home, tools) = (acme_sh.parent().unwrap(), Peers::locate().dig);
    let (tools, key_file) = (tools.parent().unwrap(), bind.key_file());
    let (primary, secondary) = (bind.primary(), bind.secondary());
    let (host, port) = (primary.ip(), primary.port());
    let tables = format!(
        "[solver.dns]\ntype = \"dns-01\"\nprovider = \"program\"\n\
         program = [{adapter:?}, \"dns_nsupdate\"]\nkey_file = \"dns.env\"\n\
         options = {{ ACME_SH_HOME = {home:?}, ACME_SH_PATH = {tools:?}, \
         NSUPDATE_SERVER = \"{host}\", NSUPDATE_SERVER_PORT = \"{port}\" }}\n\
         resolvers = [\"{primary}\"]\nnameservers = [\"{primary}\", \"{secondary}\"]\n"
    );
    let site = Site::with(&SiteOptions {
        pebble: PebbleOptions {
            resolver: Some(bind.secondary()),
            strict: true,
            ..PebbleOptions::default()
        },
        identifiers: vec!["site.example".to_owned(), "*.site.example".to_owned()],
        certificate: "solver = \"dns\"\n".to_owned(),
        tables,
        tls: Tls::Later,
        ..SiteOptions::default()
    });
    let environment = format!("# where its key is\nNSUPDATE_KEY={}\n", key_file.display());
    write_secret(&site.workspace.path().join("dns.env"), environment, 0o600);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    assert!(bind.values("_acme-challenge.site.example").is_empty());
    check_rehearsed(&site.renewd(&["dns", "test", "dns", "www.site.example"]));

    // Beside a deployer the daemon's rights are not those of programs.
    let config = site.workspace.path().join("renewd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let other = "[[certificate]]\nname = \"other\"\ndomains = [\"other.site.example\"]\n\
                 targets = []\nsolver = \"dns\"\n";
    let beside = text.replace("deployer = \"direct\"", "deployer = \"socket\"");
    assert_ne!(beside, text);
    write(&config, beside + other);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 1, "{done}");
    let shown = site.renewd(&["status", "--json"]).stdout;
    assert!(shown.contains("runs no program that changes DNS"), "{shown}");
    assert!(shown.contains("deployer = \\\"direct\\\""), "{shown}");
}

#[test]
fn the_adapter_hands_acme_sh_nothing_that_a_shell_could_misread() {
    let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme-sh-dns.sh");
    let adapter = adapter.to_str().unwrap();
    let zone = "site.example";
    for [script, action, name, value] in [
        ["../dns_nsupdate", "add", "a.site.example", "v"],
        ["dns_nsupdate;id", "add", "a.site.example", "v"],
        ["dns_nsupdate", "add; id", "a.site.example", "v"],
        ["dns_nsupdate", "add", "$(id).site.example", "v"],
        ["dns_nsupdate", "add", "-a.site.example", "v"],
        ["dns_nsupdate", "add", "a.site.example", "v\nsend"],
    ] {
        let done = run(&mut program(&[adapter, script, action, name, value, zone]), LIMIT);
        assert_eq!(done.code, 2, "{done}");
        assert!(
            done.stderr.starts_with("acme-sh-dns: n") || done.stderr.contains("the "),
            "{done}"
        );
    }
}
