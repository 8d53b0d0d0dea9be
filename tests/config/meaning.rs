//! What a configuration without faults means.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use renewd::config::Ca;
use renewd::deploy::ReloadSettings;
use renewd::model::KeyType;
use renewd::solver::SolverMethod;

use crate::{QUIET, TERMS, Workspace, check, loads};

#[test]
fn the_smallest_configuration_means_what_the_manual_says() {
    let text =
        "[[certificate]]\ndomains = [\"Example.com\", \"www.example.com\"]\ntargets = [\"nginx\"]";
    let config = loads(text);
    let spec = &config.certificates[0];
    assert_eq!(spec.name.as_str(), "example.com");
    assert_eq!(spec.cas[0].as_str(), "letsencrypt");
    assert_eq!(spec.key_type, KeyType::P256);
    assert!(spec.placeholder && spec.verify);
    assert!(spec.solvers.values().all(|it| it.as_str() == "web"));
    assert_eq!(spec.solvers.len(), 2);
    let web = &config.solvers[&"web".parse().unwrap()];
    let directory = PathBuf::from("/run/renewd/acme-challenge");
    assert_eq!(web.method, SolverMethod::Webroot { directory, flat: true });
    let nginx = &config.targets[&"nginx".parse().unwrap()];
    assert_eq!(nginx.test.as_ref().unwrap().arguments, ["nginx", "-t"]);
    assert!(
        matches!(&nginx.reload, Some(ReloadSettings::Systemd { unit, .. }) if unit == "nginx.service")
    );
    let endpoints: Vec<_> =
        nginx.verify.iter().map(|it| (it.address.as_str(), it.required)).collect();
    assert_eq!(endpoints, [("127.0.0.1:443", false), ("[::1]:443", false)]);
    assert_eq!(config.targets.len(), 1);
    assert_eq!((config.parallel, config.store.state_dir.to_str()), (8, Some("/var/lib/renewd")));
    let Ca::Acme(ca) = &config.cas[&"letsencrypt-staging".parse().unwrap()] else {
        panic!("not ACME")
    };
    assert!(ca.test && ca.terms_of_service_agreed);
}

#[test]
fn a_hundred_names_are_the_limit_and_the_same_name_counts_once() {
    let domains = |count: usize| {
        let names: Vec<String> = (0..count).map(|it| format!("\"n{it}.example\"")).collect();
        format!("[[certificate]]\ndomains = [{}]", names.join(", "))
    };
    assert_eq!(loads(&domains(100)).certificates[0].identifiers.len(), 100);
    check(
        &domains(101),
        "renewd.toml:3: certificate.domains: 101 domains are more than the 100 that CAs take\n  \
         hint: make several certificates of it\n",
    );
    let workspace = Workspace::with(&format!(
        "{TERMS}{QUIET}[[certificate]]\ndomains = [\"a.example\", \"A.Example.\"]\n"
    ));
    assert_eq!(workspace.load().certificates[0].identifiers.len(), 1);
    assert_eq!(
        workspace.warnings(),
        "renewd.toml:6: certificate.domains: a.example stands here a second time\n"
    );
}

#[test]
fn certificate_comes_before_group_before_defaults_before_built_in() {
    let config = loads(
        "[defaults]\nkey = \"p384\"\nread_group = \"all\"\nprofile = \"classic\"\nverify = false\n\
         [group.short]\nprofile = \"shortlived\"\nread_group = \"short\"\n\
         [[certificate]]\ndomains = [\"a.example\"]\ngroup = \"short\"\nread_group = \"own\"\n\
         [[certificate]]\ndomains = [\"b.example\"]",
    );
    let [first, second] = config.certificates.as_slice() else { panic!("not two") };
    let view = |spec: &renewd::model::CertificateSpec| {
        let of = |it: &Option<String>| it.clone().unwrap_or_default();
        (spec.key_type, of(&spec.read_group), of(&spec.profile), spec.verify, spec.placeholder)
    };
    let expected =
        |group: &str, profile: &str| (KeyType::P384, group.into(), profile.into(), false, true);
    assert_eq!(view(first), expected("own", "shortlived"));
    assert_eq!(view(second), expected("all", "classic"));
}

#[test]
fn the_most_specific_solver_proves_each_identifier() {
    let config = loads(
        "[solver.wide]\ntype = \"http-01\"\nwebroot = \"/w\"\nfor = [\"*.example.net\"]\n\
         [solver.narrow]\ntype = \"http-01\"\nlisten = [\"127.0.0.1:80\", \"[::1]:80\"]\nfor = [\"*.b.example.net\"]\n\
         [[certificate]]\ndomains = [\"a.example.net\", \"a.b.example.net\", \"example.net\"]\n\
         [[certificate]]\ndomains = [\"c.example.net\"]\nsolver = \"narrow\"",
    );
    let solver = |spec: usize, name: &str| {
        config.certificates[spec].solvers[&name.parse().unwrap()].to_string()
    };
    assert_eq!(solver(0, "a.example.net"), "wide");
    assert_eq!(solver(0, "a.b.example.net"), "narrow");
    assert_eq!(solver(0, "example.net"), "web");
    assert_eq!(solver(1, "c.example.net"), "narrow");
}

#[test]
fn what_an_operator_writes_of_a_target_replaces_its_kinds_defaults() {
    let config = loads(
        "[target.edge]\ntype = \"nginx\"\nverify = [{ address = \"10.0.0.1:443\" }]\n\
         reload = { signal = \"SIGHUP\", pid_file = \"edge.pid\" }\n\
         [target.silent]\ntype = \"haproxy\"\nverify = []\ntest = []",
    );
    let edge = &config.targets[&"edge".parse().unwrap()];
    assert_eq!(edge.verify.len(), 1);
    assert!(edge.verify[0].required);
    assert!(edge.test.is_some());
    assert!(matches!(&edge.reload, Some(ReloadSettings::Signal { signal, pid_file })
        if signal == "HUP" && pid_file.is_absolute()));
    let silent = &config.targets[&"silent".parse().unwrap()];
    assert!(silent.verify.is_empty() && silent.test.is_none() && silent.reload.is_some());
}

#[test]
fn a_target_must_be_known_or_say_its_type() {
    check(
        "[target.edge]\nreload = { systemd = \"a\", signal = \"HUP\" }\nverify = [{ address = \"::1:443\" }]\n\
         install = [{ file = \"privkey\", path = \"/k\", mode = \"0644\" }]",
        "renewd.toml:2: target.edge: edge is not a known kind of target, and there is no `type`\n  \
           hint: write type = \"command\" or type = \"other\" if it brings its own programs, or the \
           kind of server that it is\n\
         renewd.toml:3: target.edge.reload: is not one way to reload\n  \
           hint: write { systemd = \"UNIT\" }, { signal = \"HUP\", pid_file = \"FILE\" } or \
           { command = [\"PROGRAM\", \"ARGUMENT\"] }\n\
         renewd.toml:4: target.edge.verify.address: \"::1:443\" is not host:port or [address]:port\n\
         renewd.toml:5: target.edge.install.mode: lets everybody reach a private key\n  \
           hint: write mode = \"0640\" and a group that may read it\n",
    );
}

#[test]
fn a_main_file_behind_links_is_read_beside_its_name() {
    let workspace = Workspace::new();
    workspace.write(
        "..2026/renewd.toml",
        &format!("{TERMS}state_dir = \"state\"\ninclude = [\"*.json\"]\n{QUIET}"),
    );
    workspace.write("..2026/site.json", "{\"certificate\": [{\"domains\": [\"a.example\"]}]}");
    symlink("..2026", workspace.path("..data")).unwrap();
    symlink("..data/renewd.toml", workspace.path("renewd.toml")).unwrap();
    symlink("..data/site.json", workspace.path("site.json")).unwrap();
    let config = workspace.load();
    assert_eq!(config.store.state_dir, workspace.path("state"));
    assert_eq!(config.certificates[0].source, workspace.path("site.json"));
    assert!(config.files.contains(&workspace.path("renewd.toml")));
}

#[test]
fn the_main_file_may_be_missing_or_no_text() {
    let workspace = Workspace::new();
    assert!(workspace.faults().starts_with("renewd.toml: cannot be read: No such file"));
    fs::create_dir(workspace.path("renewd.toml")).unwrap();
    assert_eq!(workspace.faults(), "renewd.toml: is not a regular file\n");
    let workspace = Workspace::with("a = 1\nb = = 2\nc = 3 4\n");
    assert!(workspace.faults().starts_with("renewd.toml:2: "));
}

#[test]
fn the_default_ca_comes_from_the_environment_before_the_file() {
    let mut workspace = Workspace::with(&format!(
        "{TERMS}default_ca = \"google\"\n{QUIET}[[certificate]]\ndomains = [\"a.example\"]\n"
    ));
    let ca = |workspace: &Workspace| workspace.load().certificates[0].cas[0].to_string();
    assert_eq!(ca(&workspace), "google");
    let variables = &mut workspace.environment.variables;
    variables.insert("RENEWD_DEFAULT_CA".to_owned(), "letsencrypt-staging".to_owned());
    assert_eq!(ca(&workspace), "letsencrypt-staging");
    workspace
        .environment
        .variables
        .insert("RENEWD_DEFAULT_CA".to_owned(), "letsencript".to_owned());
    assert_eq!(
        workspace.faults(),
        "RENEWD_DEFAULT_CA: there is no ca \"letsencript\"\n  hint: write \"letsencrypt\"\n"
    );
}

#[test]
fn a_stand_in_that_is_not_asked_yet_is_not_passed_over_in_silence() {
    let workspace = Workspace::with(&format!(
        "{TERMS}[[certificate]]\ndomains = [\"a.example\"]\n\
         ca = [\"letsencrypt\", \"letsencrypt-staging\"]\n{QUIET}"
    ));
    assert_eq!(
        workspace.warnings(),
        "renewd.toml:4: certificate.ca: only letsencrypt is asked: stand-ins come with a later version\n"
    );
}

#[test]
fn the_built_in_ca_wants_no_terms_and_no_proofs() {
    let workspace = Workspace::with(
        "[ca.inside]\ntype = \"local\"\nlifetime = \"30s\"\n\
         [[certificate]]\ndomains = [\"*.a.example\", \"10.0.0.1\"]\nca = \"inside\"\n",
    );
    let config = workspace.load();
    assert!(config.certificates[0].solvers.is_empty());
    let Ca::Local(ca) = &config.cas[&"inside".parse().unwrap()] else { panic!("not local") };
    assert_eq!(ca.lifetime.as_secs(), 30);
    assert_eq!(ca.root_lifetime.as_secs(), 315_576_000);
    assert_eq!((ca.common_name.as_str(), ca.permitted.is_empty()), ("renewd inside", true));
}
