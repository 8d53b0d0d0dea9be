//! Kinds of keys: one, or a pair; kept, or elsewhere.

use rcgen::{CertificateParams, DistinguishedName};
use renewd::config;
use renewd::model::{KeySource, KeyType, PrivateKey};

use crate::{QUIET, TERMS, Workspace, check, loads};

/// Name, kind of key and the other one of each certificate of `text`.
fn certificates(text: &str) -> Vec<(String, KeyType, Option<String>)> {
    let view = |it: &renewd::model::CertificateSpec| {
        (it.name.to_string(), it.key_type, it.paired_with.as_ref().map(ToString::to_string))
    };
    loads(text).certificates.iter().map(view).collect()
}

#[test]
fn two_kinds_of_key_make_two_certificates_and_the_ecdsa_one_keeps_the_name() {
    let pair = |name: &str, ecdsa, rsa| {
        let second = format!("{name}.rsa");
        vec![(name.to_owned(), ecdsa, Some(second.clone())), (second, rsa, Some(name.to_owned()))]
    };
    for keys in ["[\"p256\", \"rsa2048\"]", "[\"rsa2048\", \"p256\"]"] {
        let text = format!("[[certificate]]\ndomains = [\"a.example\"]\nkey = {keys}");
        assert_eq!(certificates(&text), pair("a.example", KeyType::P256, KeyType::Rsa2048));
    }
    let of_defaults = "[defaults]\nkey = [\"rsa4096\", \"p384\"]\n\
                       [[certificate]]\nname = \"shop\"\ndomains = [\"a.example\"]\n\
                       [[certificate]]\ndomains = [\"b.example\"]\nkey = \"p256\"\n\
                       [[certificate]]\ndomains = [\"c.example\"]\nkey = [\"rsa3072\"]";
    let mut all = pair("shop", KeyType::P384, KeyType::Rsa4096);
    all.push(("b.example".to_owned(), KeyType::P256, None));
    all.push(("c.example".to_owned(), KeyType::Rsa3072, None));
    assert_eq!(certificates(of_defaults), all);
    let wildcard = "[solver.dns]\ntype = \"dns-01\"\nprovider = \"httpreq\"\n\
                    url = \"https://dns.example\"\n[[certificate]]\nsolver = \"dns\"\n\
                    domains = [\"*.a.example\"]\nkey = [\"p256\", \"rsa2048\"]";
    let named = pair("wildcard.a.example", KeyType::P256, KeyType::Rsa2048);
    assert_eq!(certificates(wildcard), named);
}

#[test]
fn what_is_no_pair_is_refused() {
    let text = |keys: &str| format!("[[certificate]]\ndomains = [\"a.example\"]\nkey = {keys}");
    let hint = "  hint: write one kind, or a pair such as key = [\"p256\", \"rsa2048\"]\n";
    for (keys, family) in
        [("p256, p384", "ECDSA"), ("rsa2048, rsa4096", "RSA"), ("p256, p256", "ECDSA")]
    {
        let (one, other) = keys.split_once(", ").unwrap();
        check(
            &text(&format!("[{one:?}, {other:?}]")),
            &format!(
                "renewd.toml:4: certificate.key: {one} and {other} are both {family}: a pair is one \
                 ECDSA and one RSA key\n{hint}"
            ),
        );
    }
    check(
        &text("[\"p256\", \"p384\", \"rsa2048\"]"),
        &format!(
            "renewd.toml:4: certificate.key: names 3 kinds of key: a certificate has one, or a \
             pair\n{hint}"
        ),
    );
    check(&text("[]"), "renewd.toml:4: certificate.key: names no kind of key\n");
}

#[test]
fn the_second_name_of_a_pair_is_nobody_elses_and_no_longer_than_names_are() {
    let pair = "[[certificate]]\nname = \"a\"\ndomains = [\"a.example\"]\n\
                key = [\"p256\", \"rsa2048\"]\n";
    let other = "[[certificate]]\nname = \"a.rsa\"\ndomains = [\"b.example\"]\n";
    let hint = "  hint: give one of them another `name`\n";
    check(
        &format!("{other}{pair}"),
        &format!(
            "renewd.toml:6: certificate.name: there is a second certificate a.rsa, the RSA one of a \
             pair, the first is at renewd.toml:3\n{hint}"
        ),
    );
    check(
        &format!("{pair}{other}"),
        &format!(
            "renewd.toml:7: certificate.name: there is a second certificate a.rsa, the first is at \
             renewd.toml:3, the RSA one of a pair\n{hint}"
        ),
    );
    let named = |length: usize| pair.replace("\"a\"", &format!("{:?}", "a".repeat(length)));
    assert_eq!(loads(&named(60)).certificates[1].name.as_str().len(), 64);
    let name = "a".repeat(61);
    check(
        &named(61),
        &format!(
            "renewd.toml:5: certificate.key: {name}.rsa, which is the RSA one of the pair, is longer \
             than names may be\n  hint: give it a `name` of at most 60 characters\n"
        ),
    );
}

#[test]
fn the_files_of_a_pair_are_installed_side_by_side() {
    let target = |path: &str| {
        format!(
            "[target.web]\ntype = \"other\"\ninstall = [{{ file = \"fullchain\", path = {path:?} }}]\n\
             [[certificate]]\ndomains = [\"a.example\"]\nkey = [\"p256\", \"rsa2048\"]\n\
             targets = [\"web\"]"
        )
    };
    loads(&target("/etc/tls/{name}.pem"));
    check(
        &target("/etc/tls/site.pem"),
        "renewd.toml:5: certificate: target web would install /etc/tls/site.pem for certificate \
         a.example.rsa, which certificate a.example at renewd.toml:5 already has\n  \
         hint: write {name} into the path of the target\n",
    );
}

#[test]
fn each_one_of_a_pair_is_shown_with_its_name_and_kind_of_key() {
    let config = loads(
        "[[certificate]]\nname = \"a\"\ndomains = [\"a.example\"]\nkey = [\"rsa2048\", \"p256\"]",
    );
    let workspace = Workspace::new();
    let shown = |name: &str| config::show(&config, Some(&name.parse().unwrap()));
    for (name, of_name, key) in [("a", "", "p256"), ("a.rsa", "built-in", "rsa2048")] {
        let text = workspace.plain(&shown(name));
        assert!(
            text.contains(&format!("[[certificate]]  # {name}\nname = {name:?}  # ")),
            "{text}"
        );
        assert!(text.contains(&format!("name = {name:?}  # {of_name}")), "{text}");
        assert!(text.contains(&format!("\nkey = {key:?}  # ")), "{text}");
        assert_eq!(text.matches("[[certificate]]").count(), 1, "{text}");
        assert_eq!(text.matches("\nname = ").count(), 1, "{text}");
    }
}

#[test]
fn a_refused_entry_refuses_both_of_its_pair() {
    let workspace = Workspace::with(&format!("{TERMS}include = [\"a.toml\"]\n{QUIET}"));
    workspace.write(
        "a.toml",
        "[[certificate]]\ndomains = [\"a.example\"]\nkey = [\"p256\", \"rsa2048\"]\nca = \"x\"\n",
    );
    let config = workspace.load();
    let rejected: Vec<_> = config.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["a.example", "a.example.rsa"]);
    // What was told of them is not over.
    let wanted: Vec<_> = config.certificates.iter().map(|it| &it.name).collect();
    let wanted = wanted.into_iter().chain(&config.rejected);
    assert!(wanted.eq(&config.alerts.wanted), "{:?}", config.alerts.wanted);
    assert!(config.alerts.is_partial);
}

#[test]
fn a_key_is_used_again_on_request_alone() {
    let config = loads(
        "[defaults]\nreuse_key = true\n[[certificate]]\ndomains = [\"a.example\"]\n\
         [[certificate]]\ndomains = [\"b.example\"]\nreuse_key = false\n\
         [[certificate]]\ndomains = [\"c.example\"]\nkey = [\"p256\", \"rsa2048\"]",
    );
    let sources: Vec<_> = config.certificates.iter().map(|it| it.key_source.clone()).collect();
    let kept = KeySource::Kept;
    assert_eq!(sources, [kept.clone(), KeySource::Fresh, kept.clone(), kept]);
}

/// A request for `names`, as PEM.
fn request(names: &[&str], key_type: KeyType) -> String {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name = DistinguishedName::new();
    let key = PrivateKey::generate(key_type).unwrap();
    parameters.serialize_request(&key.pair().unwrap()).unwrap().pem().unwrap()
}

/// A configuration of one certificate for `a.example` with `lines`, and the request `a.csr`.
fn with_request(lines: &str, request: &str) -> Workspace {
    let workspace = Workspace::with(&format!(
        "{TERMS}{QUIET}[target.web]\ntype = \"other\"\n\
         install = [{{ file = \"fullchain\", path = \"/etc/a.pem\" }}]\n\
         [target.mail]\ntype = \"other\"\n\
         install = [{{ file = \"combined\", path = \"/etc/{{name}}.both\" }}]\n\
         [[certificate]]\ndomains = [\"a.example\", \"www.a.example\"]\n\
         csr_file = \"a.csr\"\n{lines}"
    ));
    workspace.write("a.csr", request);
    workspace
}

const BOTH: [&str; 2] = ["www.a.example", "a.example"];

#[test]
fn a_request_that_is_brought_says_which_key_it_is_for() {
    let workspace = with_request("targets = [\"web\"]\n", &request(&BOTH, KeyType::P384));
    assert_eq!(workspace.warnings(), "");
    let config = workspace.load();
    let spec = &config.certificates[0];
    assert_eq!(
        (spec.key_type, spec.placeholder, spec.paired_with.is_some()),
        (KeyType::P384, false, false)
    );
    assert!(matches!(&spec.key_source, KeySource::Elsewhere(it) if it.key_type == KeyType::P384));
    assert!(config.files.contains(&workspace.path("a.csr")), "a change of it is seen");
    let shown = workspace.plain(&config::show(&config, Some(&spec.name)));
    for line in [
        "key = \"p384\"  # renewd.toml:13\n",
        "csr_file = \"a.csr\"  # renewd.toml:13\n",
        "placeholder = false  # built-in\n",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    let same = with_request("key = \"p384\"\n", &request(&BOTH, KeyType::P384));
    assert_eq!(same.load().certificates[0].key_type, KeyType::P384);
}

#[test]
fn what_others_say_of_every_key_does_not_bind_one_that_is_elsewhere() {
    let workspace = Workspace::with(&format!(
        "{TERMS}{QUIET}[defaults]\nkey = [\"p256\", \"rsa2048\"]\nreuse_key = true\n\
         placeholder = true\n[[certificate]]\ndomains = [\"a.example\"]\ncsr_file = \"a.csr\"\n"
    ));
    workspace.write("a.csr", &request(&["a.example"], KeyType::P256));
    let config = workspace.load();
    assert_eq!(config.certificates.len(), 1);
    assert!(matches!(config.certificates[0].key_source, KeySource::Elsewhere(_)));
}

#[test]
fn what_contradicts_a_request_is_told_with_its_line() {
    let of =
        |lines: &str, names: &[&str]| with_request(lines, &request(names, KeyType::P256)).faults();
    assert_eq!(
        of("", &["a.example", "b.example"]),
        "renewd.toml:13: certificate.csr_file: asks for other names than `domains` (missing: \
         www.a.example; not in `domains`: b.example)\n  \
         hint: make the request anew for exactly `domains`, or correct those\n"
    );
    assert_eq!(
        of("key = \"rsa2048\"\nplaceholder = true\ntargets = [\"web\", \"mail\"]\n", &BOTH),
        "renewd.toml:14: certificate.key: contradicts csr_file, whose key is p256\n  \
           hint: take it out: the request says it\n\
         renewd.toml:15: certificate.placeholder: none can be made where the key is elsewhere \
         (csr_file)\n  \
           hint: take it out, and start the server when the certificate is there\n\
         renewd.toml:16: certificate.targets: target mail installs combined.pem, and the key is \
         elsewhere (csr_file)\n  \
           hint: name a target that installs fullchain, cert or chain alone\n"
    );
    assert!(of("key = [\"p256\", \"rsa2048\"]\n", &BOTH).contains("contradicts csr_file"));
    check(
        "[defaults]\ncsr_file = \"a.csr\"",
        "renewd.toml:3: defaults.csr_file: belongs to one certificate alone\n",
    );
}

#[test]
fn a_request_that_can_not_be_read_or_that_others_may_write_is_refused() {
    let good = request(&BOTH, KeyType::P256);
    let of = |content: &str| with_request("", content).plain(&with_request("", content).faults());
    assert!(
        of("garbage").ends_with("a.csr is not a certificate request (PKCS#10), as PEM or DER\n")
    );
    assert!(of(&"-----BEGIN ".repeat(9000)).ends_with("a.csr is larger than 65536 bytes\n"));
    let workspace = with_request("", &good);
    workspace.write_with_mode("a.csr", &good, 0o664);
    assert_eq!(
        workspace.faults(),
        "renewd.toml:13: certificate.csr_file: a.csr can be written by its group or by others (mode \
         0664)\n  hint: chmod go-w a.csr\n"
    );
    std::fs::remove_file(workspace.path("a.csr")).unwrap();
    assert!(workspace.faults().contains("a.csr cannot be read: No such file"));
}
