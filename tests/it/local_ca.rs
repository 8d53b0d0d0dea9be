//! The built-in CA: what it issues is served by nginx and accepted by OpenSSL and curl with the
//! printed root, and refused by both outside its name constraints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use renewd::local_ca::{Authority, LeafRequest, LocalCaSettings, Serial, sign_leaf};
use renewd::model::{AuthorityRole, AuthorityVault, CaName, Chain, KeyType, PrivateKey};
use renewd::store::{Store, StoreSettings};
use renewd::sys::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::site::{LIMIT, target};
use crate::support::{
    Finished, Nginx, NginxOptions, Peers, TlsServer, Workspace, curl, eventually, program, run,
    served_serial, write, write_secret,
};

const EXAMPLE: &str = include_str!("../../examples/local.toml");
const INSIDE: &str = "www.internal.example";

/// The example in a folder of its own.
fn example() -> Workspace {
    let workspace = Workspace::new();
    write(&workspace.config_file(), EXAMPLE);
    workspace
}

/// A command that has to go well; what it printed.
#[track_caller]
fn well(workspace: &Workspace, arguments: &[&str]) -> String {
    let done = workspace.renewd(arguments);
    assert_eq!(done.code, 0, "{arguments:?}: {done}");
    done.stdout
}

/// Writes the roots that `renewd ca root` prints to a file.
#[track_caller]
fn root_file(workspace: &Workspace) -> PathBuf {
    let pem = well(workspace, &["ca", "root"]);
    workspace.write("root.pem", &pem)
}

/// nginx on the chain and key in `folder`, for `name`.
#[track_caller]
fn nginx(folder: &Path, name: &str) -> Nginx {
    let [fullchain, privkey] = ["fullchain.pem", "privkey.pem"].map(|it| folder.join(it));
    let servers =
        vec![TlsServer { names: vec![name.to_owned()], fullchain, privkey, second: None }];
    Nginx::start(&NginxOptions { servers, ..NginxOptions::default() })
}

#[track_caller]
fn openssl(arguments: &[&str]) -> Finished {
    let openssl = Peers::locate().openssl.to_string_lossy().into_owned();
    run(&mut program(&[&[openssl.as_str()], arguments].concat()), LIMIT)
}

/// What OpenSSL says of the chain in `folder`, strictly and for a server.
#[track_caller]
fn openssl_verify(root: &Path, folder: &Path) -> Finished {
    openssl_verify_for("sslserver", root, folder)
}

#[track_caller]
fn openssl_verify_for(purpose: &str, root: &Path, folder: &Path) -> Finished {
    let [cert, chain] = ["cert.pem", "chain.pem"].map(|it| folder.join(it));
    let paths = [root, &chain, &cert].map(|it| it.to_str().unwrap());
    let [root, chain, cert] = paths;
    let strict = ["verify", "-x509_strict", "-purpose", purpose];
    openssl(&[&strict[..], &["-CAfile", root, "-untrusted", chain, cert]].concat())
}

/// What curl says of the server for `name`, trusting `root` alone.
#[track_caller]
fn ask(nginx: &Nginx, root: &Path, name: &str) -> Result<String, String> {
    let port = nginx.https().port();
    let resolve = format!("{name}:{port}:127.0.0.1");
    let url = format!("https://{name}:{port}/");
    curl(&["--cacert", root.to_str().unwrap(), "--resolve", &resolve, &url])
}

#[test]
fn the_example_runs_on_an_empty_machine_and_openssl_and_curl_accept_it() {
    let workspace = example();
    let trial = well(&workspace, &["renew", "--dry-run"]);
    assert!(trial.contains("site: the trial went well"), "{trial}");
    assert!(!workspace.path().join("state/private").exists(), "the trial touched what is live");

    well(&workspace, &["renew"]);
    let status: Value = serde_json::from_str(&well(&workspace, &["status", "--json"])).unwrap();
    let status = &status["certificates"][0];
    assert_eq!(
        (&status["condition"], &status["health"]),
        (&"held".into(), &"ok".into()),
        "{status:#}"
    );
    let current = workspace.certificate("site").join("current");
    let nginx = nginx(&current, INSIDE);
    let served = EXAMPLE.replace("# targets", "targets") + &target(&nginx);
    write(&workspace.config_file(), &served);
    well(&workspace, &["renew", "--force", "site"]);
    assert!(well(&workspace, &["status"]).contains("served"));

    let root = root_file(&workspace);
    let verified = openssl_verify(&root, &current);
    assert_eq!(verified.code, 0, "{verified}");
    assert_ne!(openssl_verify_for("sslclient", &root, &current).code, 0);
    assert_eq!(ask(&nginx, &root, INSIDE).unwrap(), "served\n");
    assert_eq!(ask(&nginx, &root, "127.0.0.1").unwrap(), "served\n");
    let address = nginx.https().to_string();
    let client = openssl(
        &[
            &["s_client", "-connect", &address, "-servername", INSIDE, "-verify_hostname", INSIDE],
            &["-verify_return_error", "-CAfile", root.to_str().unwrap()][..],
        ]
        .concat(),
    );
    assert_eq!(client.code, 0, "{client}");
    assert!(client.stdout.contains("Verify return code: 0 (ok)"), "{client}");
    // Another CA of the same settings is another CA.
    let other = example();
    well(&other, &["ca", "init"]);
    assert!(ask(&nginx, &root_file(&other), INSIDE).is_err());
}

/// Signs a leaf for `name` with the intermediate of `workspace`, past all that would refuse it;
/// lays it out as the store does.
async fn sign_past_the_check(workspace: &Workspace, ca: &CaName, name: &str) -> PathBuf {
    let state = workspace.path();
    let settings = StoreSettings { state_dir: state.join("state"), run_dir: state.join("run") };
    let clock = Arc::new(SystemClock::new());
    let store = Store::open(&settings, clock.clone(), LIMIT).await.unwrap();
    let records = store.list_authorities(ca).await.unwrap();
    let record = records.iter().find(|it| it.label.role == AuthorityRole::Intermediate).unwrap();
    let signer = Authority::parse(record).unwrap();
    let pem = store.load_authority_key(ca, signer.label).await.unwrap().unwrap();
    let signer_key = PrivateKey::from_pem(pem.reveal().as_bytes()).unwrap();

    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let request = LeafRequest {
        identifiers: vec![name.parse().unwrap()],
        public_key: key.public_key().unwrap(),
        key_type: KeyType::P256,
    };
    let settings = LocalCaSettings::new(ca.clone());
    let by = (&signer, &signer_key);
    let chain = sign_leaf(&request, by, &settings, clock.now(), Serial::new([7; 16])).unwrap();
    lay_out(workspace, name, &chain, &key)
}

fn lay_out(workspace: &Workspace, name: &str, chain: &Chain, key: &PrivateKey) -> PathBuf {
    let folder = workspace.path().join("signed").join(name);
    write(&folder.join("fullchain.pem"), chain.full_pem());
    write(&folder.join("cert.pem"), chain.leaf_pem());
    write(&folder.join("chain.pem"), chain.issuers_pem());
    write_secret(&folder.join("privkey.pem"), key.secret_pem(), 0o600);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_refuse_what_is_signed_outside_the_name_constraints() {
    let workspace = Workspace::new();
    workspace.write_config(
        "[ca.both]\ntype = \"local\"\npermitted = [\"internal.example\", \"10.0.0.0/8\"]\n\
         [ca.names]\ntype = \"local\"\npermitted = [\"internal.example\"]\n\
         [ca.networks]\ntype = \"local\"\npermitted = [\"10.0.0.0/8\"]\n",
    );
    for (ca, inside, outside) in [
        ("both", &["a.internal.example", "10.1.2.3"][..], &["a.foreign.example", "192.0.2.1"][..]),
        ("names", &["*.internal.example"], &["internal.example.org", "10.1.2.3", "2001:db8::1"]),
        ("networks", &["10.1.2.3"], &["a.internal.example", "11.0.0.1", "2001:db8::1"]),
    ] {
        well(&workspace, &["ca", "init", ca]);
        let root = workspace.write(&format!("{ca}.pem"), &well(&workspace, &["ca", "root", ca]));
        let name: CaName = ca.parse().unwrap();
        for identifier in inside {
            let folder = sign_past_the_check(&workspace, &name, identifier).await;
            let verified = openssl_verify(&root, &folder);
            assert_eq!(verified.code, 0, "{ca}: {identifier}: {verified}");
        }
        for identifier in outside {
            let folder = sign_past_the_check(&workspace, &name, identifier).await;
            let verified = openssl_verify(&root, &folder);
            assert_ne!(verified.code, 0, "{ca}: OpenSSL accepts {identifier}");
            assert!(
                verified.stderr.contains("subtree violation"),
                "{ca}: {identifier}: {verified}"
            );
        }
    }
    let root = workspace.path().join("both.pem");
    for (name, accepted) in [("a.internal.example", true), ("a.foreign.example", false)] {
        let name_of_ca = "both".parse().unwrap();
        let folder = sign_past_the_check(&workspace, &name_of_ca, name).await;
        let answer = ask(&nginx(&folder, name), &root, name);
        assert_eq!(answer.is_ok(), accepted, "curl, {name}: {answer:?}");
        if let Err(error) = answer {
            assert!(error.contains("subtree violation"), "{error}");
        }
    }
}

#[test]
fn certificates_of_30_seconds_are_renewed_by_the_daemon_and_the_root_printed_beside_it() {
    let workspace = Workspace::new();
    let config = "[ca.inside]\ntype = \"local\"\nlifetime = \"30s\"\nclient_auth = true\n\
                  [[certificate]]\nname = \"site\"\ndomains = [\"www.internal.example\"]\n\
                  ca = \"inside\"\nkey = \"rsa2048\"\n";
    workspace.write_config(config);
    well(&workspace, &["renew"]);
    let current = workspace.certificate("site").join("current");
    let nginx = nginx(&current, INSIDE);
    workspace.write_config(&format!("{config}targets = [\"nginx\"]\n{}", target(&nginx)));
    let daemon = workspace.spawn(&["run"]);
    let root = root_file(&workspace);
    let mut serials: Vec<String> = Vec::new();
    eventually(LIMIT, "three certificates are served one after the other", || {
        let serial = served_serial(nginx.https(), Some(INSIDE)).unwrap();
        if serials.last() != Some(&serial) {
            assert_eq!(ask(&nginx, &root, INSIDE).unwrap(), "served\n");
            serials.push(serial);
        }
        if serials.len() >= 3 { Ok(()) } else { Err((serials.clone(), daemon.log())) }
    });
    assert_eq!(root_file(&workspace), root);
    assert_eq!(well(&workspace, &["ca", "init"]), well(&workspace, &["ca", "root"]));
    let roots: Value = serde_json::from_str(&well(&workspace, &["ca", "root", "--json"])).unwrap();
    let pem = std::fs::read_to_string(&root).unwrap();
    assert_eq!((&roots[0]["name"], &roots[0]["pem"]), (&"root-0001".into(), &pem.into()));
    assert_eq!(roots.as_array().map(Vec::len), Some(1));
    for purpose in ["sslserver", "sslclient"] {
        let verified = openssl_verify_for(purpose, &root, &current);
        assert_eq!(verified.code, 0, "{verified}");
    }
}

#[test]
fn the_root_is_printed_when_there_is_one_and_looking_makes_nothing() {
    let workspace = example();
    let none = workspace.renewd(&["ca", "root"]);
    assert_eq!((none.code, none.stdout.as_str()), (1, ""), "{none}");
    assert!(none.stderr.contains("the CA inside has no root yet"), "{none}");
    assert!(none.stderr.contains("`renewd ca init`"), "{none}");
    assert!(!workspace.path().join("state").exists());

    let made = well(&workspace, &["ca", "init"]);
    assert_eq!(made.matches("BEGIN CERTIFICATE").count(), 1, "{made}");
    assert_eq!(well(&workspace, &["ca", "root", "inside"]), made);
    assert_eq!(well(&workspace, &["ca", "init"]), made, "the root stays");
    well(&workspace, &["renew"]);
    assert_eq!(well(&workspace, &["ca", "root"]), made);

    let other = workspace.renewd(&["ca", "root", "outside"]);
    assert_eq!(other.code, 2, "{other}");
    assert!(other.stderr.contains("the built-in CAs are: inside"), "{other}");
    let two = EXAMPLE.replace("[[certificate]]", "[ca.second]\ntype = \"local\"\n[[certificate]]");
    write(&workspace.config_file(), two);
    let several = workspace.renewd(&["ca", "root"]);
    assert_eq!(several.code, 2, "{several}");
    assert!(several.stderr.contains("name one: inside, second"), "{several}");
    workspace.write_config("");
    let absent = workspace.renewd(&["ca", "root"]);
    assert_eq!(absent.code, 2, "{absent}");
    assert!(absent.stderr.contains("no built-in CA"), "{absent}");
}

#[test]
fn a_root_that_is_lost_fails_the_renewal_and_is_never_replaced() {
    let workspace = example();
    well(&workspace, &["renew"]);
    let root = workspace.path().join("state/private/ca/inside/root-0001/cert.pem");
    let pem = std::fs::read(&root).unwrap();
    write_secret(&root, "", 0o600);
    let failed = workspace.renewd(&["renew", "--force", "site"]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("root-0001/cert.pem, from a backup"), "{failed}");
    assert_eq!(workspace.renewd(&["ca", "init"]).code, 1);
    write_secret(&root, pem, 0o600);
    well(&workspace, &["renew", "--force", "site"]);
    let kept = std::fs::read_dir(workspace.path().join("state/private/ca/inside")).unwrap();
    assert_eq!(kept.count(), 2, "one root and one intermediate");
}

/// The keys in the folder of the CA, by the name of their folders.
#[cfg(feature = "crash-points")]
fn keys(workspace: &Workspace) -> Vec<(String, String)> {
    let folders = std::fs::read_dir(workspace.path().join("state/private/ca/inside")).unwrap();
    let mut keys: Vec<_> = folders
        .map(|it| it.unwrap())
        .map(|it| {
            let key = std::fs::read_to_string(it.path().join("key.pem")).unwrap();
            (it.file_name().into_string().unwrap(), key)
        })
        .collect();
    keys.sort();
    keys
}

#[cfg(feature = "crash-points")]
#[test]
fn killed_with_a_key_and_no_certificate_it_goes_on_with_that_key() {
    let workspace = example();
    let mut command = workspace.command(&["renew"]);
    let killed = run(command.env("RENEWD_CRASH_AT", "local_ca.key"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    let root_key = keys(&workspace);
    assert_eq!(root_key.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["root-0001"]);

    well(&workspace, &["ca", "init"]);
    assert_eq!(keys(&workspace).last(), root_key.last());
    // As if the kill had come a step later.
    let intermediate = "state/private/ca/inside/intermediate-0001/cert.pem";
    std::fs::remove_file(workspace.path().join(intermediate)).unwrap();
    let before = keys(&workspace);
    well(&workspace, &["renew"]);
    assert_eq!(keys(&workspace), before);
    let root = root_file(&workspace);
    let current = workspace.certificate("site").join("current");
    assert_eq!(openssl_verify(&root, &current).code, 0);
}
