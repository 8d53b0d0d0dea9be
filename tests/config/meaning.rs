//! What a configuration without faults means.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use renewd::config::Ca;
use renewd::deploy::ReloadSettings;
use renewd::model::{CaName, KeyType, Limit};
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
fn names_are_put_in_normal_form_and_shown_so() {
    let workspace = Workspace::with(&format!(
        "{TERMS}{QUIET}[[certificate]]\nname = \"a\"\n\
         domains = [\"BÜCHER.example.\", \"xn--bcher-kva.example\", \"www.EXAMPLE.com\"]\n"
    ));
    let config = workspace.load();
    let names: Vec<_> =
        config.certificates[0].identifiers.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["xn--bcher-kva.example", "www.example.com"]);
    assert_eq!(
        workspace.warnings(),
        "renewd.toml:7: certificate.domains: xn--bcher-kva.example stands here a second time\n"
    );
    let shown = renewd::config::show(&config, None);
    assert!(shown.contains("\"xn--bcher-kva.example\", "), "{shown}");
}

#[test]
fn what_lets_encrypt_refuses_is_said_before_an_order() {
    let many: Vec<String> = (0..26).map(|it| format!("\"n{it}.example\"")).collect();
    let of = |domains: &str, more: &str| format!("[[certificate]]\ndomains = [{domains}]\n{more}");
    for profile in ["tlsserver", "shortlived"] {
        check(
            &of(&many.join(", "), &format!("profile = {profile:?}")),
            &format!(
                "renewd.toml:3: certificate.domains: 26 domains are more than the 25 that \
                 letsencrypt takes under the profile {profile}\n  \
                 hint: make several certificates of it\n"
            ),
        );
        loads(&of(&many[..25].join(", "), &format!("profile = {profile:?}")));
    }
    loads(&of(&many.join(", "), "profile = \"classic\""));
    check(
        &of("\"a.example\", \"192.0.2.1\"", ""),
        "renewd.toml:3: certificate.domains: 192.0.2.1 is an address, which letsencrypt certifies \
         under the profile shortlived alone\n  hint: write profile = \"shortlived\"\n",
    );
    loads(&of("\"192.0.2.1\"", "profile = \"shortlived\""));
    check(
        &of("\"intranet\"", ""),
        "renewd.toml:3: certificate.domains: intranet is not a name of the public DNS, and \
         letsencrypt certifies no other\n  \
         hint: write the whole name, or name a CA of your own\n",
    );
    let dns = "[solver.dns]\ntype = \"dns-01\"\nprovider = \"httpreq\"\nurl = \"https://dns.example\"\n\
               for = [\"*.a.example\", \"a.example\"]\n";
    check(
        &format!("{dns}{}", of("\"*.a.example\", \"a.example\", \"www.a.example\"", "")),
        "renewd.toml:8: certificate.domains: www.a.example is covered by *.a.example, and \
         letsencrypt refuses it beside that\n  hint: take it out: the wildcard is enough\n",
    );
    let lab = "[ca.lab]\ndirectory = \"https://ca.example/dir\"\n";
    let names = of("\"intranet\", \"192.0.2.1\"", "ca = \"lab\"");
    loads(&format!("{lab}{names}"));
}

#[test]
fn a_solver_of_tls_alpn_01_listens_where_cas_look() {
    let config = loads(
        "[solver.tls]\ntype = \"tls-alpn-01\"\n[solver.other]\ntype = \"tls-alpn-01\"\n\
         listen = \"[::1]:8443\"",
    );
    let method = |name: &str| config.solvers[&name.parse().unwrap()].method.clone();
    let at = |text: &str| SolverMethod::TlsAlpn01 { addresses: vec![text.parse().unwrap()] };
    assert_eq!(method("tls"), at("0.0.0.0:443"));
    assert_eq!(method("other"), at("[::1]:8443"));
    check(
        "[solver.tls]\ntype = \"tls-alpn-01\"\n\
         [[certificate]]\ndomains = [\"*.a.example\"]\nsolver = \"tls\"",
        "renewd.toml:5: certificate.domains: *.a.example is a wildcard, which solver tls cannot \
         prove: it does tls-alpn-01\n  \
         hint: only dns-01 proves wildcards (RFC 8555 §7.1.3): add a solver of that type for it, \
         or list the names one by one\n",
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
fn cas_for_tests_and_real_ones_in_one_list_are_warned_of() {
    let warnings = |list: &str| {
        let certificate = format!("[[certificate]]\ndomains = [\"a.example\"]\nca = [{list}]\n");
        Workspace::with(&format!("{TERMS}{certificate}{QUIET}")).warnings()
    };
    assert_eq!(
        warnings("\"letsencrypt\", \"letsencrypt-staging\""),
        "renewd.toml:4: certificate.ca: letsencrypt-staging is for tests: it stands in only while \
         no certificate of a real CA is held\n  hint: name real CAs alone, or CAs for tests alone\n"
    );
    assert_eq!(
        warnings("\"letsencrypt-staging\", \"letsencrypt\""),
        "renewd.toml:4: certificate.ca: letsencrypt-staging is for tests: it is asked no more once \
         letsencrypt has given a certificate\n  hint: name real CAs alone, or CAs for tests alone\n"
    );
    assert_eq!(warnings("\"letsencrypt\", \"sslcom\""), "");
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

#[test]
fn what_is_known_of_a_cas_limits_holds_key_by_key_and_by_its_directory() {
    let text = r#"
        terms_of_service_agreed = true
        default_ca = "own"
        [ca.own]
        directory = "https://acme-v02.api.letsencrypt.org/directory"
        limits = { new_orders = "3000/3h", new_accounts = "none" }
        [ca.lab]
        directory = "https://localhost:14000/dir"
        limits = { certificates_per_set = "2/1h" }
        [[certificate]]
        domains = ["a.example"]
    "#;
    let config = Workspace::with(text).load();
    let limits = |name: &str| match &config.cas[&name.parse::<CaName>().unwrap()] {
        Ca::Acme(settings) => settings.limits.clone(),
        Ca::Local(_) => panic!("{name} is built in"),
    };
    let rate = |name: &str, limit| limits(name).rates.get(&limit).map(ToString::to_string);
    assert_eq!(rate("own", Limit::NewOrders).as_deref(), Some("3000/3h"));
    assert_eq!(rate("own", Limit::NewAccounts), None);
    assert_eq!(rate("own", Limit::CertificatesPerSet).as_deref(), Some("5/7d"));
    assert_eq!(rate("letsencrypt", Limit::NewAccounts).as_deref(), Some("10/3h"));
    assert_eq!(rate("letsencrypt-staging", Limit::NewOrders).as_deref(), Some("1500/3h"));
    assert!(limits("own").exempts_replacements && limits("own").exempts_renewals);
    assert_eq!(rate("lab", Limit::CertificatesPerSet).as_deref(), Some("2/1h"));
    assert!(limits("zerossl").rates.is_empty() && !limits("lab").exempts_renewals);
}
