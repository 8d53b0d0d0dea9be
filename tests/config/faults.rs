//! Faults: all of them at once, each with its place and a hint.

use std::path::Path;

use renewd::config::{DeployerChoice, Severity};
use renewd::observe::Channel;

use crate::{QUIET, TERMS, Workspace, check, loads};

/// C01: slips, unknown keys, keys twice, wrong types and units.
#[test]
fn six_faults_in_two_files_are_told_at_once() {
    let workspace = Workspace::with(
        "include = [\"conf.d/*\"]\n\
         agree_tos = true\n\
         email = \"ops@example.com\"\n\
         \n\
         [[certificate]]\n\
         hosts = [\"example.com\"]\n\
         domains = [\"exa mple.com\"]\n",
    );
    workspace.write(
        "conf.d/shop.json",
        "{\"certificate\": [\n  {\"domains\": [\"shop.example\"],\n   \"targets\": [\"ngnix\"]}],\n \"target\": {\"apache\": {\n   \"verify_timeout\": 30}}}\n",
    );
    assert_eq!(
        workspace.faults(),
        r#"conf.d/shop.json:3: certificate.targets: there is no target "ngnix"
  hint: write "nginx"
conf.d/shop.json:5: target.apache.verify_timeout: expected a span of time in quotes, with a unit, found a bare number
  hint: write "30s"
renewd.toml: terms_of_service_agreed: the terms of service of the CA are not agreed to
  hint: read the terms of service of your CA, then write `terms_of_service_agreed = true` at the top of the file
renewd.toml:2: agree_tos: there is no such key here
  hint: write `terms_of_service_agreed`
renewd.toml:3: email: there is no such key here
  hint: write `contact`
renewd.toml:6: certificate.hosts: there is no such key here
  hint: write `domains`
renewd.toml:7: certificate.domains: "exa mple.com" is not a host name: labels are letters, digits and inner hyphens
"#
    );
}

/// A key in quotes may hold anything, and so may the name of a file.
#[test]
fn nothing_in_an_included_file_can_write_to_the_terminal_of_who_reads_its_faults() {
    let workspace = Workspace::with(&format!("{TERMS}include = [\"conf.d/*.toml\"]\n{QUIET}"));
    workspace.write("conf.d/a\u{1b}[2J.toml", "\"x\\u001b[31m\\ny\\u202e\" = 1\n");
    assert_eq!(
        workspace.warnings(),
        "conf.d/a\\u{1b}[2J.toml:1: x\\u{1b}[31m y: there is no such key here\n"
    );
}

#[test]
fn a_tenants_broken_entries_leave_the_others_working() {
    let workspace = Workspace::with(&format!(
        "{TERMS}include = [\"conf.d/*.toml\"]\n{QUIET}[[certificate]]\ndomains = [\"main.example\"]\n"
    ));
    workspace.write("conf.d/a.toml", "[[certificate]]\ndomains = [\"a.example\"]\n");
    workspace.write(
        "conf.d/b.toml",
        "state_dir = \"/tmp\"\n\
         [[certificate]]\ndomains = [\"b1.example\"]\nkey = \"p521\"\n\
         [[certificate]]\ndomains = [\"b2.example\"]\n\
         [[certificate]]\nname = \"a.example\"\ndomains = [\"b3.example\"]\n",
    );
    workspace.write("conf.d/c.toml", "[[certificate]\ndomains = [\"c.example\"]\n");
    let config = workspace.load();
    let names: Vec<_> = config.certificates.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["main.example", "a.example", "b2.example"]);
    assert_eq!(config.certificates[1].source, workspace.path("conf.d/a.toml"));
    let rejected: Vec<_> = config.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["b1.example"]);
    assert_eq!(config.rejected_files, [workspace.path("conf.d/c.toml")].into());
    assert!(config.alerts.is_partial, "nobody knows what that file names");
    assert!(config.warnings.iter().all(|it| it.severity == Severity::Rejection));
    assert_eq!(
        workspace.warnings(),
        r#"conf.d/b.toml:1: state_dir: only the main file may say this
  hint: put it into the main file; an included file holds tables of certificates, targets, solvers, CAs, groups and alerts
conf.d/b.toml:4: certificate.key: "p521" is not a kind of key
  hint: write "p256"
conf.d/b.toml:8: certificate.name: there is a second certificate a.example, the first is at conf.d/a.toml:1
  hint: give one of them another `name`
conf.d/c.toml:1: unclosed array table, expected `]`
"#
    );
    for file in ["renewd.toml", "conf.d", "conf.d/a.toml", "conf.d/c.toml"] {
        assert!(config.files.contains(&workspace.path(file)), "{file}");
    }
}

#[test]
fn a_tenants_broken_entry_asks_for_no_terms() {
    let workspace = Workspace::with(&format!(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
         {QUIET}[[certificate]]\ndomains = [\"main.example\"]\n"
    ));
    workspace.write("conf.d/b.toml", "[[certificate]]\ndomain = \"b.example\"\n");
    assert_eq!(workspace.load().certificates.len(), 1);
}

#[test]
fn what_depends_on_a_refused_entry_is_refused_with_it_and_nothing_else_is() {
    let workspace = Workspace::with(&format!(
        "{TERMS}include = [\"lab.toml\"]\n{QUIET}\
         [[certificate]]\ndomains = [\"one.example\"]\nca = \"lab\"\n\
         [[certificate]]\ndomains = [\"two.example\"]\n\
         [[certificate]]\ndomains = [\"a.three.example\"]\n"
    ));
    workspace.write(
        "lab.toml",
        "[ca.lab]\ndirectory = \"http://lab.example/dir\"\n\
         [solver.s]\ntype = \"tls-alpn-01\"\nwebroot = \"/srv\"\n\
         for = [\"*.three.example\"]\n",
    );
    let config = workspace.load();
    assert_eq!(config.certificates.len(), 1);
    let rejected: Vec<_> = config.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["a.three.example", "one.example"]);
    assert_eq!(
        workspace.warnings(),
        r#"lab.toml:2: ca.lab.directory: "http://lab.example/dir" is http, which is for loopback alone: write https
lab.toml:5: solver.s.webroot: means nothing for tls-alpn-01
  hint: take it out
renewd.toml:8: certificate.ca: the ca "lab" was refused
renewd.toml:12: certificate.domains: the solver "s" was refused
"#
    );
}

#[test]
fn a_table_that_stands_twice_is_told_with_both_places() {
    check(
        "[ca.lab]\ndirectory = \"https://a.example/\"\n[ca.lab]\ntest = true",
        "renewd.toml:4: [ca.lab] stands here a second time, first in line 2\n  \
         hint: put both into one, or name one of them otherwise\n",
    );
    check(
        "[[certificate]]\ndomains = [\"a.example\"]\n[[certificate]]\ndomains = [\"a.example\"]",
        "renewd.toml:4: certificate.name: there is a second certificate a.example, the first is at \
         renewd.toml:2\n  hint: give one of them another `name`\n",
    );
    let workspace = Workspace::with(&format!(
        "{TERMS}include = [\"more.toml\"]\n[target.nginx]\ntimeout = \"5s\"\n{QUIET}"
    ));
    workspace.write("more.toml", "\n[target.nginx]\ntimeout = \"6s\"\n");
    assert_eq!(
        workspace.warnings(),
        "more.toml:2: target.nginx: stands here a second time, first at renewd.toml:3\n  \
         hint: put both into one, or name one of them otherwise\n"
    );
}

/// C08: a configuration of a newer version, a downgrade.
#[test]
fn what_comes_later_is_refused_and_never_ignored() {
    let text = "[ca.inside]\ntype = \"acme\"\ndirectory = \"https://ca.example/\"\n\
        [[certificate]]\ndomains = [\"a.example\"]\n\
        mode = \"x\"\nwindow = \"x\"";
    let workspace = Workspace::with(&format!("{TERMS}{text}\n{QUIET}"));
    let faults = workspace.faults();
    let lines: Vec<&str> = faults.lines().filter(|it| !it.starts_with("  ")).collect();
    assert_eq!(lines.len(), 2, "{faults}");
    for (line, number) in lines.iter().zip([7, 8]) {
        assert!(line.starts_with(&format!("renewd.toml:{number}: ")), "{line}");
        assert!(line.ends_with("comes with a later version"), "{line}");
    }
}

#[test]
fn a_built_in_ca_and_what_is_asked_of_it_must_fit() {
    check(
        "[ca.inside]\ntype = \"local\"\ndirectory = \"https://ca.example/\"",
        "renewd.toml:2: ca.inside: a CA of type \"local\" has no `directory`\n  hint: take it out\n",
    );
    check(
        "[ca.inside]\ndirectory = \"https://ca.example/\"\nlifetime = \"7d\"",
        "renewd.toml:2: ca.inside: a CA of type \"acme\" has no `lifetime`\n  \
         hint: take it out, or write type = \"local\"\n",
    );
    check(
        "[ca.inside]\ntype = \"local\"\nlifetime = \"200d\"",
        "renewd.toml:2: ca.inside: `intermediate_lifetime` (1year) is less than 2 times `lifetime` \
         (6months 17days 8h 38m 24s)\n  \
         hint: write intermediate_lifetime = \"1year 1month 4days 7h 26m 24s\", or a shorter \
         lifetime\n",
    );
    check(
        "[ca.inside]\ntype = \"local\"\nlifetime = 7",
        "renewd.toml:4: ca.inside.lifetime: expected a lifetime in quotes, with a unit, found a \
         bare number\n  hint: write \"7d\"\n",
    );
    check(
        "[ca.inside]\ntype = \"local\"\npermitted = [\"*.example.com\"]",
        "renewd.toml:4: ca.inside.permitted: \"*.example.com\" is a wildcard: write \
         \"example.com\", which permits all names below it too\n",
    );
    let inside = "[ca.inside]\ntype = \"local\"\npermitted = [\"a.example\"]\n";
    check(
        &format!("{inside}[[certificate]]\ndomains = [\"b.example\"]\nca = \"inside\""),
        "renewd.toml:6: certificate.domains: the CA inside may not certify b.example: permitted is \
         a.example\n  hint: take it off, or name another CA\n",
    );
    check(
        &format!(
            "{inside}[[certificate]]\ndomains = [\"a.example\"]\nca = \"inside\"\nprofile = \"x\""
        ),
        "renewd.toml:8: certificate.profile: the CA inside is built in, and has no profiles\n  \
         hint: take it out; how long it is valid stands at the CA\n",
    );
    loads(&format!("{inside}[[certificate]]\ndomains = [\"*.a.example\"]\nca = \"inside\""));
}

#[test]
fn every_way_to_deploy_is_taken() {
    for (way, choice) in [
        ("auto", DeployerChoice::Auto),
        ("direct", DeployerChoice::Direct),
        ("socket", DeployerChoice::Socket),
    ] {
        let config = loads(&format!("deployer = \"{way}\""));
        assert_eq!(config.deployer, choice);
    }
}

#[test]
fn keys_in_the_wrong_place_and_slips_get_a_hint() {
    check(
        "[[certificate]]\ndomain = \"a.example\"\ntargest = []\ncontact = [\"a\"]\n\
         [ca.lab]\neab_hmac = \"x\"\ndirectory = \"https://a.example/\"",
        "renewd.toml:2: certificate: there is no `domains`\n  \
           hint: write domains = [\"www.example.com\"]\n\
         renewd.toml:3: certificate.domain: there is no such key here\n  hint: write `domains`\n\
         renewd.toml:4: certificate.targest: there is no such key here\n  hint: write `targets`\n\
         renewd.toml:5: certificate.contact: there is no such key here\n  \
           hint: `contact` stands at the top of the main file, before the first table\n\
         renewd.toml:7: ca.lab.eab_hmac: there is no such key here\n  \
           hint: a secret never stands in the configuration: write `eab_hmac_file`, \
           `eab_hmac_credential` or `eab_hmac_env`\n",
    );
}

#[test]
fn values_of_the_wrong_kind_get_a_hint() {
    check(
        "parallel = \"8\"\ndeployer = \"sockets\"\ncontact = \"ops@example.com\"\n\
         [[certificate]]\ndomains = \"a.example\"\nplaceholder = \"true\"\nverify = 1979-05-27\n\
         [alerts]\nwarning = \"2\"\n[target.nginx]\ntimeout = \"60\"\nverify_timeout = 5",
        "renewd.toml:2: parallel: expected a number, found a text\n\
         renewd.toml:3: deployer: \"sockets\" is not a way to deploy\n  hint: write \"socket\"\n\
         renewd.toml:4: contact: \"ops@example.com\" is not a URL that starts with mailto:\n  \
           hint: write \"mailto:ops@example.com\"\n\
         renewd.toml:6: certificate.domains: expected a list, found a text\n  \
           hint: write [\"a.example\"]\n\
         renewd.toml:7: certificate.placeholder: expected true or false, found a text\n  \
           hint: write it without quotes\n\
         renewd.toml:8: certificate.verify: expected true or false, found a date\n\
         renewd.toml:10: alerts.warning: \"2\" is not a share of a lifetime: write a fraction below \
           one, such as \"1/4\"\n\
         renewd.toml:12: target.nginx.timeout: \"60\" has no unit: write \"60s\"\n\
         renewd.toml:13: target.nginx.verify_timeout: expected a span of time in quotes, with a \
           unit, found a bare number\n  hint: write \"5s\"\n",
    );
}

#[test]
fn no_order_is_possible_without_the_terms() {
    let workspace = Workspace::with(&format!(
        "terms_of_service_agreed = false\n[[certificate]]\ndomains = [\"a.example\"]\n{QUIET}"
    ));
    assert!(workspace.faults().starts_with(
        "renewd.toml:1: terms_of_service_agreed: the terms of service of the CA are not agreed to\n"
    ));
}

#[test]
fn a_wildcard_needs_dns_01() {
    check(
        "[[certificate]]\ndomains = [\n  \"example.com\",\n  \"*.example.com\",\n]",
        "renewd.toml:5: certificate.domains: *.example.com is a wildcard, which solver web cannot \
         prove: it does http-01\n  hint: only dns-01 proves wildcards (RFC 8555 §7.1.3): add a \
         solver of that type for it, or list the names one by one\n",
    );
}

#[test]
fn a_solver_for_dns_says_what_its_provider_lacks() {
    let solver =
        |lines: &str| format!("[solver.s]\ntype = \"dns-01\"\nprovider = \"rfc2136\"\n{lines}");
    check(
        &solver("server = \"ns1.example.com\"\nwebroot = \"/srv\"\n"),
        "renewd.toml:2: solver.s: there is no `key_file`, which rfc2136 needs\n  hint: key_file: \
         the TSIG key as tsig-keygen writes it\nrenewd.toml:6: solver.s.webroot: means nothing \
         for dns-01\n  hint: take it out\n",
    );
    check(
        "[solver.s]\ntype = \"http-01\"\nlisten = \"127.0.0.1:80\"\ntoken_env = \"T\"\n",
        "renewd.toml:5: solver.s.token_env: means nothing for http-01\n  hint: take it out\n",
    );
}

#[test]
fn a_key_in_the_form_of_bind_is_read_and_never_shown() {
    let solver = "[solver.s]\ntype = \"dns-01\"\nprovider = \"rfc2136\"\nserver = \"ns1\"\n\
                  key_file = \"renewd.key\"\n[[certificate]]\ndomains = [\"*.a.example\"]\n\
                  solver = \"s\"\nverify = false\n";
    let workspace = Workspace::with(&format!("{TERMS}{QUIET}{solver}"));
    workspace.write_with_mode("renewd.key", "canary", 0o600);
    assert!(workspace.faults().contains("solver.s.key_file: is not a key in BIND's form"));
    let key = "key \"k\" {\n\talgorithm hmac-sha256;\n\tsecret \"Y2FuYXJ5\";\n};\n";
    workspace.write_with_mode("renewd.key", key, 0o600);
    assert!(!format!("{:?}", workspace.load()).contains("Y2FuYXJ5"));
    let address = format!("{TERMS}{QUIET}{}", solver.replace("*.a.example", "192.0.2.1"));
    workspace.write("renewd.toml", &address);
    assert!(workspace.faults().contains("192.0.2.1 is an address, which solver s cannot prove"));
}

/// D12: two certificates with one path.
#[test]
fn two_certificates_never_share_a_file() {
    let certificates = "[[certificate]]\ndomains = [\"a.example\"]\ntargets = [\"nginx\"]\n\
        [[certificate]]\ndomains = [\"b.example\"]\ntargets = [\"nginx\"]\n";
    let target = |path: &str| {
        format!(
            "{certificates}[target.nginx]\ninstall = [{{ file = \"combined\", path = \"{path}\" }}]"
        )
    };
    check(
        &target("/etc/site.pem"),
        "renewd.toml:5: certificate: target nginx would install /etc/site.pem for certificate \
         b.example, which certificate a.example at renewd.toml:2 already has\n  \
         hint: write {name} into the path of the target\n",
    );
    let config = loads(&target("tls/{name}.pem"));
    let nginx = &config.targets[&"nginx".parse().unwrap()];
    assert!(Path::new(&nginx.install[0].path).is_absolute());
    assert!(nginx.install[0].path.ends_with("/tls/{name}.pem"));
}

#[test]
fn alerts_are_checked_against_their_type() {
    let workspace = Workspace::with(&format!(
        "{TERMS}[[alert]]\ntype = \"webhook\"\ncommand = [\"x\"]\n\
         [[alert]]\ntype = \"command\"\nurl = \"https://a.example/\"\n\
         [[alert]]\ntype = \"webhok\"\n\
         [alerts]\nwarning = \"1/8\"\ncritical = \"1/4\"\n"
    ));
    assert_eq!(
        workspace.faults(),
        r#"renewd.toml:2: alert: there is no `url`
  hint: write `url`, or `url_file` if it is as good as a password
renewd.toml:4: alert.command: a receiver of type "webhook" has no `command`
renewd.toml:5: alert: there is no `command`
  hint: write command = ["/path/to/program"]
renewd.toml:7: alert.url: a receiver of type "command" has no `url`
renewd.toml:9: alert.type: "webhok" is not a type of receiver
  hint: write "webhook"
renewd.toml:12: alerts.critical: 1/4 is not less than `warning`, 1/8
  hint: a warning must come before it is critical
"#
    );
    let config = loads("[[alert]]\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:9093\"");
    assert_eq!(config.alerts.receivers[0].name, "alertmanager-1");
    assert!(matches!(config.alerts.receivers[0].channel, Channel::Alertmanager { .. }));
}

#[test]
fn it_is_said_when_nobody_will_be_told() {
    let workspace = Workspace::with(TERMS);
    assert_eq!(
        workspace.warnings(),
        "renewd.toml: nobody will be told of trouble: there is no [[alert]] and no heartbeat\n  \
         hint: add an [[alert]], or heartbeat_url_file to [alerts]\n"
    );
}
