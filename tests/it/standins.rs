//! Stand-ins: two real CAs, of which the first is down, too busy or does not want to; and back.
//!
//! Not here: kills between the two ([`crate::standins_crash`]).

use serde_json::Value;

use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{
    Endpoint, Finished, Front, Manner, Pebble, PebbleOptions, eventually, free_port, write,
};

/// A site with a second CA, and a front before the first.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) front: Front,
    spare: Pebble,
}

impl World {
    /// The first CA, `lab`, is behind the front; `spare` stands in. `certificate` are further lines
    /// of the certificate.
    pub(crate) fn start(tls: Tls, certificate: &str) -> Self {
        Self::with(tls, certificate, PebbleOptions::default())
    }

    /// The same, with a stand-in that behaves as `spare` says.
    pub(crate) fn with(tls: Tls, certificate: &str, spare: PebbleOptions) -> Self {
        let proof = if tls == Tls::Store { ProofBy::Webroot } else { ProofBy::Listener };
        let http_port = free_port();
        let pebble = PebbleOptions { http_port, ..PebbleOptions::default() };
        let spare = Pebble::start(&PebbleOptions { http_port, ..spare });
        let (directory, trust) = (spare.directory(), spare.root_file());
        let site = Site::with(&SiteOptions {
            pebble,
            proof,
            tls,
            tables: format!("[ca.spare]\ndirectory = {directory:?}\ntrust = {trust:?}\n"),
            certificate: format!("ca = [\"lab\", \"spare\"]\n{certificate}"),
            ..SiteOptions::default()
        });
        let front = site.pebble.front();
        let world = Self { site, front, spare };
        world.edit(&world.site.pebble.directory(), &world.front.directory());
        world
    }

    fn edit(&self, old: &str, new: &str) {
        let file = self.site.workspace.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        assert!(config.contains(old), "{config}");
        write(&file, config.replacen(old, new, 1));
    }

    /// `renewd renew` with these arguments.
    #[track_caller]
    pub(crate) fn renew(&self, args: &[&str]) -> Finished {
        self.site.renewd(&[&["renew"], args].concat())
    }

    /// A private file of the certificate.
    #[cfg(feature = "crash-points")]
    pub(crate) fn private(&self, file: &str) -> std::path::PathBuf {
        let folder = self.site.workspace.path().join("state/private/certificates");
        folder.join(NAME).join(file)
    }

    /// The CA of what is held.
    pub(crate) fn ca(&self) -> Value {
        self.site.status()["ca"].clone()
    }

    /// How many orders the stand-in has seen.
    pub(crate) fn orders_at_spare(&self) -> usize {
        self.spare.requests().count(Endpoint::NewOrder)
    }
}

fn answering(status: u16, head: &str, problem: &str) -> Manner {
    Manner::Answering { status, head: head.to_owned(), problem: problem.to_owned() }
}

/// A33: the CA is down; where there is nothing to wait with, a stand-in is asked.
#[test]
fn a_first_certificate_comes_from_the_stand_in_when_connections_to_the_first_ca_are_refused() {
    let mut world = World::start(Tls::Store, "");
    world.front.be(&Manner::Closed);
    let once = world.renew(&[]);
    assert_eq!(once.code, 1, "an outage may be over in a minute: {once}");
    assert_eq!(world.orders_at_spare(), 0);
    let status = world.site.status();
    assert_eq!(status["failing_ca"], "lab", "{status:#}");

    let twice = world.renew(&[NAME]);
    assert_eq!(twice.code, 0, "{twice}");
    assert!(twice.stderr.contains("a stand-in is asked"), "{twice}");
    assert!(twice.stderr.contains("ca=spare stands_in_for=lab"), "{twice}");
    assert!(
        twice.stderr.contains("lab failed, and there is no certificate to wait with"),
        "{twice}"
    );
    let status = world.site.await_condition("served");
    assert_eq!(world.site.served_serial().as_deref(), status["serial"].as_str());
    assert_eq!(status["ca"], "spare", "{status:#}");
    assert_eq!(status["stand_in"]["stands_in_for"], "lab", "{status:#}");
    assert_eq!((&status["health"], &status["renewal"]), (&"ok".into(), &"idle".into()));
    let shown = world.site.renewd(&["status"]);
    assert!(shown.stdout.contains("site: from the stand-in spare: lab failed"), "{shown}");

    // What is held is kept, although the first is back; at the next renewal that is asked first.
    world.front.be(&Manner::Open);
    assert_eq!(world.renew(&[]).code, 0);
    assert_eq!(world.ca(), "spare");
    let forced = world.renew(&["--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    let status = world.site.status();
    assert_eq!((&status["ca"], &status["stand_in"]), (&"lab".into(), &Value::Null), "{status:#}");
    assert_eq!(world.orders_at_spare(), 1);
}

#[test]
fn a_ca_that_limits_our_rate_is_not_asked_before_its_time_and_the_stand_in_is_at_once() {
    let mut world = World::start(Tls::Later, "");
    world.front.be(&answering(429, "Retry-After: 7200", "rateLimited"));
    let done = world.renew(&[]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("lab can't be asked before 20"), "{done}");
    assert_eq!(world.ca(), "spare");
    // Its word outlives the success of another and binds humans; and with a new certificate there
    // is time to wait for the first.
    world.front.be(&Manner::Open);
    let before = world.site.pebble.requests();
    let forced = world.renew(&["--force", NAME]);
    assert_eq!(world.orders_at_spare(), 1, "{forced}");
    assert_eq!(world.site.pebble.requests(), before, "{forced}");
}

/// A33: the same, where a life runs out; the first is asked again as soon as it answers.
#[test]
fn a_life_that_runs_out_is_renewed_by_the_stand_in_while_the_first_answers_503() {
    let mut world = World::start(Tls::Store, "profile = \"short\"\n");
    let daemon = world.site.daemon();
    world.site.await_condition("served");
    assert_eq!(world.ca(), "lab");
    world.front.be(&answering(503, "", "serverInternal"));
    let status = eventually(LIMIT, "the stand-in's certificate is served", || {
        let status = world.site.status();
        let is_served = status["ca"] == "spare" && status["condition"] == "served";
        if is_served { Ok(status) } else { Err((status, daemon.log())) }
    });
    let log = daemon.log();
    // The last where the machine stood still while there was time.
    let reasons =
        ["lab has failed since", "little of the life", "there is no certificate to wait with"];
    assert!(reasons.iter().any(|it| log.contains(it)), "{log}");
    assert!(status["stand_in"]["reason"].as_str().unwrap().starts_with("lab "), "{status:#}");

    world.front.be(&Manner::Open);
    eventually(LIMIT, "the first is used again at the next renewal", || {
        let status = world.site.status();
        let is_back = status["ca"] == "lab" && status["condition"] == "served";
        if is_back { Ok(()) } else { Err((status, daemon.log())) }
    });
    drop(daemon);
}

/// A33: the same, where there is time to wait.
#[test]
fn with_plenty_of_life_left_nothing_is_hurried() {
    let mut world = World::start(Tls::Later, "");
    assert_eq!(world.renew(&[]).code, 0);
    world.front.be(&Manner::Closed);
    for _ in 0..3 {
        let forced = world.renew(&["--force", NAME]);
        assert_eq!(forced.code, 1, "{forced}");
    }
    assert_eq!((world.ca(), world.orders_at_spare()), ("lab".into(), 0));
}

#[test]
fn a_refusal_of_the_first_ca_sends_a_new_site_to_the_stand_in() {
    let mut world = World::start(Tls::Later, "");
    world.front.be(&answering(403, "", "rejectedIdentifier"));
    let done = world.renew(&[]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(world.ca(), "spare");
}

#[test]
fn a_proof_that_the_ca_does_not_find_is_not_tried_at_the_stand_in() {
    let world = World::start(Tls::Later, "");
    // Both look at a port where nobody shows anything.
    let port = world.site.pebble.http_port();
    world.edit(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()));
    for _ in 0..2 {
        let failed = world.renew(&[NAME]);
        assert_eq!(failed.code, 1, "{failed}");
    }
    assert_eq!(world.site.status()["error_code"], "acme.validation_failed");
    assert_eq!(world.orders_at_spare(), 0);
}

#[test]
fn a_stand_in_that_lacks_a_binding_is_told_of_while_all_is_well_until_it_has_one() {
    let key = "c2VjcmV0".repeat(6);
    let binding = Some(("kid".to_owned(), key.clone()));
    let needs_binding =
        PebbleOptions { external_account_binding: binding, ..PebbleOptions::default() };
    let world = World::with(Tls::Later, "", needs_binding);
    let checked = world.site.renewd(&["check"]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(
        checked.stdout.contains("stand-in spare: spare: the CA requires an external"),
        "{checked}"
    );
    let done = world.renew(&[]);
    assert_eq!(done.code, 0, "{done}");
    assert!(done.stderr.contains("a stand-in is not fit certificate=site ca=spare"), "{done}");
    let status = world.site.status();
    let known = &status["stand_ins"][0];
    assert_eq!((&known["ca"], &known["fit"]), (&"spare".into(), &false.into()), "{status:#}");
    assert_eq!(known["error_code"], "acme.external_account_required");
    let shown = world.site.renewd(&["status", "--fail-on", "warning"]);
    assert_eq!(shown.code, 1, "{shown}");
    assert!(shown.stdout.contains("spare could not stand in (certificates: 1)"), "{shown}");
    assert!(shown.stdout.contains("hint: get a key identifier"), "{shown}");
    // Not again at each run: once a day, or an hour while it is not fit.
    let before = world.spare.requests();
    assert_eq!(world.renew(&[]).code, 0);
    assert_eq!(world.spare.requests(), before);
    assert_eq!(before.count(Endpoint::NewAccount), 0);

    // Another wish is looked at at once.
    world.site.workspace.write_secret("spare.hmac", &key, 0o600);
    world.edit("[ca.spare]", "[ca.spare]\neab_kid = \"kid\"\neab_hmac_file = \"spare.hmac\"");
    let mended = world.renew(&[]);
    assert_eq!(mended.code, 0, "{mended}");
    assert!(mended.stderr.contains("a stand-in is fit again"), "{mended}");
    assert_eq!(world.site.status()["stand_ins"][0]["fit"], true);
    let shown = world.site.renewd(&["status", "--fail-on", "warning"]);
    assert_eq!(shown.code, 0, "{shown}");
}

#[test]
fn a_stand_in_that_caa_records_do_not_allow_is_not_fit() {
    let world = World::start(Tls::Later, "");
    let resolver = world.spare.dns_server();
    world.edit("solver = \"web-port\"", "solver = \"standing\"");
    world.edit(
        "[ca.lab]",
        &format!(
            "[solver.standing]\ntype = \"dns-persist-01\"\nresolvers = [\"{resolver}\"]\n[ca.lab]"
        ),
    );
    let told = || world.site.renewd(&["check"]).stdout;
    world.spare.allow_only("example", "other.example");
    let forbidden = told();
    let fault = "CAA records keep it from issuing for site.example: only other.example may issue";
    assert!(forbidden.contains(fault), "{forbidden}");
    // The name's own records count, not those above it.
    world.spare.allow_only("site.example", "pebble.letsencrypt.org");
    let allowed = told();
    assert!(!allowed.contains("stand-in spare"), "{allowed}");
}

#[test]
fn a_test_ca_replaces_a_real_certificate_only_where_a_human_allows_it() {
    let site = Site::with(&SiteOptions::held_only());
    assert_eq!(site.renewd(&["renew"]).code, 0);
    let file = site.workspace.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    // The same CA by another name: real before, for tests now.
    let config =
        config.replace("\"lab\"", "\"trial\"").replace("[ca.lab]", "[ca.trial]\ntest = true");
    write(&file, config);
    let refused = site.renewd(&["renew", "--force", NAME]);
    assert_eq!((refused.code, &site.status()["ca"]), (1, &"lab".into()), "{refused}");
    assert!(refused.stderr.contains("nothing is asked: the CA trial is for tests"), "{refused}");
    let status = site.status();
    assert_eq!(status["renewal"], "blocked", "{status:#}");
    let hint = status["hint"].as_str().unwrap();
    assert!(hint.contains("renewd renew site --allow-untrusted"), "{hint}");

    let allowed = site.renewd(&["renew", NAME, "--allow-untrusted"]);
    assert_eq!(allowed.code, 0, "{allowed}");
    let status = site.status();
    assert_eq!(
        (&status["ca"], &status["renewal"]),
        (&"trial".into(), &"idle".into()),
        "{status:#}"
    );
    // From then on it is renewed as any other.
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!((forced.code, site.current().as_deref()), (0, Some("0003")), "{forced}");
}
