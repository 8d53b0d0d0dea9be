//! Which key a certificate is for: one of a pair, against a server that has both; the same as
//! before; elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use renewd::model::{Chain, KeyType, Leaf};
use serde_json::Value;

use crate::site::{NAME, ProofBy, Site, SiteOptions, Tls, target};
use crate::support::{
    Nginx, NginxOptions, Pebble, PebbleOptions, Peers, TlsServer, Workspace, program, run,
    served_certificate_to, write,
};

/// What the certificates are for.
const IDENTIFIER: &str = "site.example";

/// The RSA one of the pair.
const RSA: &str = "site.rsa";

/// A server that has both certificates of a pair side by side.
struct Pair {
    pebble: Pebble,
    nginx: Nginx,
    workspace: Workspace,
}

impl Pair {
    /// Has nginx load the placeholders of a pair whose CA nobody could reach yet.
    fn start() -> Self {
        let pebble = Pebble::start(&PebbleOptions::default());
        let workspace = Workspace::new();
        workspace.write_config(&format!(
            "terms_of_service_agreed = true\n[ca.lab]\ndirectory = \"https://127.0.0.1:1/dir\"\n{}",
            certificate("[]")
        ));
        let failed = workspace.renewd(&["renew"]);
        assert_eq!(failed.code, 1, "{failed}");
        let nginx = Nginx::start(&NginxOptions {
            http_port: Some(pebble.http_port()),
            challenges: Some(workspace.path().join("run/acme-challenge")),
            servers: vec![server(&workspace)],
        });
        let (directory, trust) = (pebble.directory(), pebble.root_file());
        workspace.write_config(&format!(
            "terms_of_service_agreed = true\n[ca.lab]\ndirectory = {directory:?}\n\
             trust = {trust:?}\n{}{}",
            target(&nginx),
            certificate("[\"nginx\"]")
        ));
        Self { pebble, nginx, workspace }
    }

    #[track_caller]
    fn renew(&self, arguments: &[&str]) {
        let done = self.workspace.renewd(&[&["renew"], arguments].concat());
        assert_eq!(done.code, 0, "{done}\n{}", self.pebble.log());
    }

    /// The leaf that OpenSSL is shown by TLS of `version` when it takes `signatures` alone.
    #[track_caller]
    fn served(&self, version: &str, signatures: &str) -> Leaf {
        let options = [version, "-sigalgs", signatures];
        let pem = served_certificate_to(self.nginx.https(), Some(IDENTIFIER), &options).unwrap();
        Chain::parse_pem(pem.as_bytes()).unwrap().leaf
    }

    /// What is served to clients that take ECDSA keys alone, and to those that take RSA keys alone;
    /// in both versions of TLS.
    #[track_caller]
    fn served_to_each(&self) -> [Leaf; 2] {
        self.nginx.settle();
        ["ECDSA+SHA256", "RSA-PSS+SHA256:RSA+SHA256"].map(|signatures| {
            let leaf = self.served("-tls1_3", signatures);
            assert_eq!(self.served("-tls1_2", signatures).sha256, leaf.sha256);
            leaf
        })
    }

    /// Both certificates are served by status, and status says of each what the clients see.
    #[track_caller]
    fn check_served(&self) -> [Leaf; 2] {
        let served = self.served_to_each();
        let shown = self.workspace.renewd(&["status", "--json"]);
        let document: Value = serde_json::from_str(&shown.stdout).unwrap();
        for ((status, name), leaf) in
            document["certificates"].as_array().unwrap().iter().zip([NAME, RSA]).zip(&served)
        {
            assert_eq!((&status["name"], &status["condition"]), (&name.into(), &"served".into()));
            assert_eq!(status["health"], "ok", "{status:#}");
            assert_eq!(status["serial"], leaf.serial_text().as_str(), "{status:#}");
        }
        assert_eq!(document["certificates"].as_array().unwrap().len(), 2, "{document:#}");
        served
    }
}

fn certificate(targets: &str) -> String {
    format!(
        "[[certificate]]\nname = {NAME:?}\ndomains = [{IDENTIFIER:?}]\nca = \"lab\"\n\
         profile = \"default\"\nkey = [\"rsa2048\", \"p256\"]\ntargets = {targets}\n"
    )
}

/// The files of both certificates.
fn server(workspace: &Workspace) -> TlsServer {
    let files = |name: &str| -> [PathBuf; 2] {
        let folder = workspace.certificate(name).join("current");
        ["fullchain.pem", "privkey.pem"].map(|it| folder.join(it))
    };
    let [fullchain, privkey] = files(NAME);
    let second = Some(files(RSA));
    TlsServer { names: vec![IDENTIFIER.to_owned()], fullchain, privkey, second }
}

#[test]
fn each_client_is_served_the_one_of_a_pair_that_it_takes_and_each_is_renewed_by_itself() {
    let pair = Pair::start();
    let kinds = |it: &[Leaf; 2]| it.each_ref().map(|it| it.key_type.unwrap());
    let placeholders = pair.served_to_each();
    assert_eq!(kinds(&placeholders), [KeyType::P256, KeyType::Rsa2048]);
    assert!(placeholders.iter().all(Leaf::is_self_issued));

    pair.renew(&[]);
    let first = pair.check_served();
    assert_eq!(kinds(&first), [KeyType::P256, KeyType::Rsa2048]);
    assert!(!first.iter().any(Leaf::is_self_issued));

    pair.renew(&["--force", NAME]);
    let [ecdsa, rsa] = pair.check_served();
    assert_ne!(ecdsa.sha256, first[0].sha256);
    assert_eq!(rsa.sha256, first[1].sha256);
    pair.renew(&["--force", RSA]);
    let last = pair.check_served();
    assert_eq!(last[0].sha256, ecdsa.sha256);
    assert_ne!(last[1].sha256, rsa.sha256);

    let shown = pair.workspace.renewd(&["show", NAME]);
    for part in ["with site.rsa", "/site.rsa/current/privkey.pem;", "/site/current/privkey.pem;"] {
        assert!(shown.stdout.contains(part), "{shown}");
    }
}

/// The held leaf and the PEM of its key.
fn held(site: &Site) -> (Leaf, String) {
    let folder = site.workspace.certificate(NAME).join("current");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    (Chain::parse_pem(read("fullchain.pem").as_bytes()).unwrap().leaf, read("privkey.pem"))
}

/// A change that has the next certificate ordered, by `arguments` or by itself; its leaf and key.
#[track_caller]
fn replaced(site: &Site, arguments: &[&str]) -> (Leaf, String, String) {
    let done = site.renewd(arguments);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let status = site.status();
    assert_eq!(status["condition"], "served", "{status:#}");
    assert_eq!(status["serial"], site.served_serial().unwrap().as_str(), "{status:#}");
    let (leaf, key) = held(site);
    (leaf, key, done.stderr)
}

#[test]
fn a_key_is_used_again_until_it_is_of_another_kind_or_in_other_hands() {
    let certificate = "reuse_key = true\n".to_owned();
    let site = Site::with(&SiteOptions { certificate, ..SiteOptions::default() });
    let (first, first_key, told) = replaced(&site, &["renew"]);
    assert!(!told.contains("not used again"), "{told}");

    let (second, second_key, told) = replaced(&site, &["renew", "--force", NAME]);
    assert_eq!((&second.public_key, &second_key), (&first.public_key, &first_key));
    assert_ne!(second.serial, first.serial);
    assert!(!told.contains("not used again"), "{told}");

    let file = site.workspace.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    write(&file, format!("{config}key = \"p384\"\n"));
    let (third, third_key, told) = replaced(&site, &["renew"]);
    assert_eq!(third.key_type, Some(KeyType::P384));
    assert!(told.contains("the key is not used again") && told.contains("to be p384"), "{told}");

    let revoke = ["revoke", NAME, "--reason", "keyCompromise", "--yes"];
    let (fourth, fourth_key, told) = replaced(&site, &revoke);
    assert_ne!(fourth.public_key, third.public_key);
    assert_ne!(fourth_key, third_key);
    assert!(told.contains("it is in other hands"), "{told}");
    let (fifth, _, _) = replaced(&site, &["renew", "--force", NAME]);
    assert_eq!(fifth.public_key, fourth.public_key);
    let history = site.workspace.path().join("state/private/certificates/site/history.jsonl");
    let history = std::fs::read_to_string(history).unwrap();
    assert_eq!(history.matches("\"new_key\"").count(), 2, "{history}");
}

#[cfg(feature = "crash-points")]
#[test]
fn killed_while_a_key_is_used_again_the_same_order_goes_on() {
    use crate::site::LIMIT;
    use crate::support::{Endpoint, run};

    let certificate = "reuse_key = true\n".to_owned();
    let site = Site::with(&SiteOptions { certificate, ..SiteOptions::default() });
    let (first, first_key, _) = replaced(&site, &["renew"]);
    let mut command = site.workspace.command(&["renew", "--force", NAME]);
    let killed = run(command.env("RENEWD_CRASH_AT", "issue.after_finalize"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    let orders = site.pebble.requests().count(Endpoint::NewOrder);

    let (second, second_key, _) = replaced(&site, &["renew"]);
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders, "it was paid for twice");
    assert_ne!(second.serial, first.serial);
    assert_eq!(second_key, first_key);
    let journal = site.workspace.path().join("state/private/certificates").join(NAME);
    assert!(!journal.join("order.json").exists(), "an order that is over is in the journal");
}

/// Has OpenSSL make a request as `site.csr`: for the key in `elsewhere/site.key`, or for a new one,
/// which it leaves there.
#[track_caller]
fn request(site: &Site, is_new: bool) {
    let key = site.workspace.path().join("elsewhere/site.key").display().to_string();
    let csr = site.workspace.path().join("site.csr").display().to_string();
    let names = format!("subjectAltName=DNS:{IDENTIFIER}");
    let openssl = Peers::locate().openssl.display().to_string();
    let mut arguments = vec![openssl.as_str(), "req", "-new", "-out", &csr];
    arguments.extend(["-subj", "/", "-addext", &names]);
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", &key];
    if is_new {
        std::fs::create_dir_all(site.workspace.path().join("elsewhere")).unwrap();
        arguments.extend(curve);
    } else {
        arguments.extend(["-key", &key]);
    }
    let done = run(&mut program(&arguments), Duration::from_secs(60));
    assert_eq!(done.code, 0, "{done}");
}

/// The names of the files of the held generation.
fn files(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir(site.workspace.certificate(NAME).join("current")).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A site whose key is elsewhere, with a certificate, and an nginx that has both.
fn with_key_elsewhere() -> Site {
    let mut site = Site::with(&SiteOptions {
        certificate: "csr_file = \"site.csr\"\n".to_owned(),
        proof: ProofBy::Listener,
        tls: Tls::Later,
        ..SiteOptions::default()
    });
    request(&site, true);
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let server = TlsServer {
        names: vec![IDENTIFIER.to_owned()],
        fullchain: site.workspace.certificate(NAME).join("current/fullchain.pem"),
        privkey: site.workspace.path().join("elsewhere/site.key"),
        second: None,
    };
    let nginx = Nginx::start(&NginxOptions { servers: vec![server], ..NginxOptions::default() });
    let file = site.workspace.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace("targets = []", "targets = [\"nginx\"]");
    write(&file, config.replace("[[certificate]]", &format!("{}[[certificate]]", target(&nginx))));
    site.nginx = Some(nginx);
    site
}

/// What `renew` brings to served is for the key that is elsewhere; returns its leaf.
#[track_caller]
fn check_elsewhere(site: &Site) -> Leaf {
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}\n{}", site.pebble.log());
    let status = site.status();
    assert_eq!(status["condition"], "served", "{status:#}");
    assert_eq!(status["serial"], site.served_serial().unwrap().as_str(), "{status:#}");
    assert_eq!(files(site), ["cert.pem", "chain.pem", "fullchain.pem", "meta.json"]);
    let chain = site.workspace.certificate(NAME).join("current/fullchain.pem");
    Chain::parse_pem(&std::fs::read(chain).unwrap()).unwrap().leaf
}

#[test]
fn a_request_whose_key_is_elsewhere_is_certified_served_and_followed_when_it_changes() {
    let site = with_key_elsewhere();
    let first = check_elsewhere(&site);
    let pending = site.workspace.path().join("state/private/certificates/site/next/privkey.pem");
    assert!(!pending.exists());
    let shown = site.renewd(&["show", NAME]);
    assert!(shown.stdout.contains("The key is elsewhere"), "{shown}");

    request(&site, false);
    let plan = site.renewd(&["plan"]);
    assert!(plan.stdout.contains("its certificate request is another one"), "{plan}");
    let second = check_elsewhere(&site);
    assert_eq!(second.public_key, first.public_key);
    assert_ne!(second.serial, first.serial);
    let plan = site.renewd(&["plan"]);
    assert!(plan.stdout.contains("keep until"), "{plan}");

    let revoke = site.renewd(&["revoke", NAME, "--key", "certificate", "--yes"]);
    assert_eq!(revoke.code, 1, "{revoke}");
    assert!(revoke.stderr.contains("is elsewhere, and can't sign"), "{revoke}");
    site.renewd(&["revoke", NAME, "--reason", "keyCompromise", "--yes"]);
    let status = site.status();
    assert_eq!(
        (&status["condition"], &status["error_code"]),
        (&"revoked".into(), &"issue.key".into())
    );
    assert!(status["hint"].as_str().unwrap().contains("in the place of csr_file"), "{status:#}");
    request(&site, true);
    let third = check_elsewhere(&site);
    assert_ne!(third.public_key, second.public_key);
}
