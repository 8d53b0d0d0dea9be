//! Kinds of keys: one, or a pair.

use renewd::config;
use renewd::model::{KeySource, KeyType};

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
    let rejected = workspace.load().rejected;
    let rejected: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["a.example", "a.example.rsa"]);
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
