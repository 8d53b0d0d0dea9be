//! The configuration as its operator meets it: files in, faults or a [`Config`] out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use renewd::config::{self, Ca, Config, Environment, Severity};
use renewd::deploy::ReloadSettings;
use renewd::model::KeyType;
use renewd::observe::Channel;
use renewd::solver::SolverMethod;
use renewd::sys::atomic::{self, Access};

const TERMS: &str = "terms_of_service_agreed = true\n";
/// Keeps the warning that nobody will be told out of what a test looks at.
const QUIET: &str = "[[alert]]\ntype = \"command\"\ncommand = [\"tell\"]\n";

/// A folder with configuration files.
struct Workspace {
    directory: tempfile::TempDir,
    environment: Environment,
}

impl Workspace {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), environment: Environment::default() }
    }

    /// With `text` as the main file.
    fn with(text: &str) -> Self {
        let workspace = Self::new();
        workspace.write("renewd.toml", text);
        workspace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        self.write_with_mode(name, text, 0o644);
    }

    fn write_with_mode(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        atomic::write(&path, text.as_bytes(), Access::mode(mode)).unwrap();
    }

    fn load(&self) -> Config {
        match config::load(&self.path("renewd.toml"), &self.environment) {
            Ok(config) => config,
            Err(faults) => panic!("{faults}"),
        }
    }

    /// The faults that the configuration is refused for, without this folder's path.
    fn faults(&self) -> String {
        let faults = config::load(&self.path("renewd.toml"), &self.environment).unwrap_err();
        self.plain(&format!("{faults}\n"))
    }

    fn warnings(&self) -> String {
        let warnings: Vec<String> =
            self.load().warnings.iter().map(|it| format!("{it}\n")).collect();
        self.plain(&warnings.concat())
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

/// Loads `text` with terms agreed and an alert, and compares its faults.
#[track_caller]
fn check(text: &str, faults: &str) {
    let workspace = Workspace::with(&format!("{TERMS}{text}\n{QUIET}"));
    assert_eq!(workspace.faults(), faults);
}

/// Loads `text` with terms agreed and an alert: it has no fault and no warning.
#[track_caller]
fn loads(text: &str) -> Config {
    let workspace = Workspace::with(&format!("{TERMS}{text}\n{QUIET}"));
    assert_eq!(workspace.warnings(), "");
    workspace.load()
}

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
    let Ca::Acme(ca) = &config.cas[&"letsencrypt-staging".parse().unwrap()];
    assert!(ca.test && ca.terms_of_service_agreed);
}

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
         [solver.s]\ntype = \"dns-01\"\nprovider = \"x\"\ntoken_file = \"t\"\nfor = [\"*.three.example\"]\n",
    );
    let config = workspace.load();
    assert_eq!(config.certificates.len(), 1);
    let rejected: Vec<_> = config.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["a.three.example", "one.example"]);
    assert_eq!(
        workspace.warnings(),
        r#"lab.toml:2: ca.lab.directory: "http://lab.example/dir" is http, which is for loopback alone: write https
lab.toml:4: solver.s.type: "dns-01" comes with a later version
  hint: this version has type = "http-01"
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

#[test]
fn what_comes_later_is_refused_and_never_ignored() {
    let text = "[ca.inside]\ntype = \"local\"\n\
        [solver.dns]\ntype = \"tls-alpn-01\"\n\
        [[certificate]]\ndomains = [\"a.example\"]\nkey = [\"p256\", \"rsa2048\"]\n\
        preferred_chain = \"X\"\nreuse_key = true\ncsr_file = \"a.csr\"\nmode = \"x\"\nwindow = \"x\"";
    let workspace = Workspace::with(&format!("{TERMS}{text}\n{QUIET}"));
    let faults = workspace.faults();
    let lines: Vec<&str> = faults.lines().filter(|it| !it.starts_with("  ")).collect();
    assert_eq!(lines.len(), 8, "{faults}");
    for (line, number) in lines.iter().zip([3, 5, 8, 9, 10, 11, 12, 13]) {
        assert!(line.starts_with(&format!("renewd.toml:{number}: ")), "{line}");
        assert!(line.ends_with("comes with a later version"), "{line}");
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
         prove: it does http-01\n  hint: only dns-01 proves wildcards (RFC 8555 §7.1.3), and it \
         comes with a later version: list the names one by one\n",
    );
}

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
fn files_that_others_may_write_are_refused() {
    let workspace = Workspace::new();
    workspace.write_with_mode("renewd.toml", TERMS, 0o664);
    let faults = workspace.faults();
    assert!(
        faults.starts_with(
            "renewd.toml: can be written by its group or by others (mode 0664)\n  hint: chmod go-w "
        ),
        "{faults}"
    );
    workspace.write("renewd.toml", &format!("{TERMS}include = [\"more.toml\"]\n{QUIET}"));
    workspace.write_with_mode("more.toml", "", 0o646);
    assert!(workspace.warnings().starts_with("more.toml: can be written"));
    assert_eq!(workspace.load().rejected_files.len(), 1);
}

#[test]
fn secrets_that_others_may_read_are_refused_and_credentials_are_not() {
    let mut workspace =
        Workspace::with(&format!("{TERMS}[alerts]\nheartbeat_url_file = \"beat\"\n"));
    workspace.write_with_mode("beat", "https://watch.example/canary\n", 0o644);
    assert_eq!(
        workspace.faults(),
        "renewd.toml:3: alerts.heartbeat_url_file: beat holds a secret that everybody can reach \
         (mode 0644)\n  hint: chmod o-rwx beat\n"
    );
    let beat = workspace.path("beat");
    fs::set_permissions(&beat, fs::Permissions::from_mode(0o640)).unwrap();
    let config = workspace.load();
    assert_eq!(config.alerts.heartbeat_url.unwrap().reveal(), "https://watch.example/canary");
    assert!(config.files.contains(&beat));

    workspace
        .write("renewd.toml", &format!("{TERMS}[alerts]\nheartbeat_url_credential = \"beat\"\n"));
    assert_eq!(
        workspace.faults(),
        "renewd.toml:3: alerts.heartbeat_url_credential: there is no credential \"beat\": systemd \
         has passed none\n  hint: add `LoadCredential=beat:/path` to the unit\n"
    );
    fs::set_permissions(&beat, fs::Permissions::from_mode(0o444)).unwrap();
    workspace.environment.credentials_directory = Some(workspace.directory.path().to_owned());
    assert!(workspace.load().alerts.heartbeat_url.is_some());
}

#[test]
fn secrets_lose_what_editors_add_and_must_not_be_empty() {
    let workspace = Workspace::with(&format!("{TERMS}[alerts]\nheartbeat_url_file = \"beat\"\n"));
    let fault = |text: &str| {
        workspace.write_with_mode("beat", text, 0o600);
        workspace.faults()
    };
    let begin = "renewd.toml:3: alerts.heartbeat_url_file: beat ";
    assert_eq!(fault(""), format!("{begin}is empty\n"));
    assert_eq!(fault("\u{feff}\n"), format!("{begin}is empty\n"));
    assert_eq!(
        fault("https://a\nhttps://b\n"),
        format!("{begin}holds more than one line, or control characters\n")
    );
    workspace.write_with_mode("beat", "\u{feff}https://watch.example/\r\n", 0o600);
    assert_eq!(workspace.load().alerts.heartbeat_url.unwrap().reveal(), "https://watch.example/");
    fs::remove_file(workspace.path("beat")).unwrap();
    assert!(workspace.faults().starts_with(&format!("{begin}cannot be read: No such file")));
}

#[test]
fn no_secret_is_ever_printed() {
    let mut workspace = Workspace::with(&format!(
        "{TERMS}[ca.zerossl]\neab_kid = \"k\"\neab_hmac_env = \"HMAC\"\n\
         [alerts]\nheartbeat_url = \"https://watch.example/canary\"\n\
         [[alert]]\ntype = \"webhook\"\nurl = \"https://hook.example/canary\"\nsecret_file = \"key\"\n\
         [[certificate]]\ndomains = [\"a.example\"]\nca = \"zerossl\"\n"
    ));
    workspace.environment.variables = BTreeMap::from([("HMAC".to_owned(), "canary0".to_owned())]);
    workspace.write_with_mode("key", "whsec_canarycanary\n", 0o600);
    let config = workspace.load();
    let printed = format!("{config:?} {:?} {}", workspace.environment, config::show(&config, None));
    assert!(!printed.contains("canary"), "{printed}");

    // Wrong in each place that a secret can stand in.
    workspace.environment.variables.insert("HMAC".to_owned(), "canary!".to_owned());
    workspace.write_with_mode("key", "canary!\n", 0o600);
    let text = fs::read_to_string(workspace.path("renewd.toml")).unwrap();
    workspace.write("renewd.toml", &text.replace("https://", "http://"));
    let faults = workspace.faults();
    assert_eq!(faults.lines().filter(|it| it.starts_with("renewd.toml:")).count(), 4, "{faults}");
    assert!(!faults.contains("canary"), "{faults}");
}

#[test]
fn a_process_that_must_not_hold_secrets_does_without_them() {
    let workspace = Workspace::with(&format!(
        "{TERMS}[ca.zerossl]\neab_kid = \"k\"\neab_hmac_credential = \"hmac\"\n\
         [alerts]\nheartbeat_url_env = \"BEAT\"\n\
         [[alert]]\ntype = \"webhook\"\nurl_file = \"missing\"\n\
         [[certificate]]\ndomains = [\"a.example\"]\nca = \"zerossl\"\n"
    ));
    let path = workspace.path("renewd.toml");
    assert_eq!(config::load(&path, &workspace.environment).unwrap_err().len(), 3);
    let config = config::load_without_secrets(&path, &workspace.environment).unwrap();
    assert_eq!((config.certificates.len(), config.warnings.len()), (1, 0));
    let Ca::Acme(ca) = &config.cas[&"zerossl".parse().unwrap()];
    assert!(ca.external_account_binding.is_none());
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

#[test]
fn each_value_in_force_is_shown_with_its_origin() {
    let workspace = Workspace::with(&format!(
        "{TERMS}[defaults]\ntargets = [\"nginx\"]\n[group.short]\nprofile = \"shortlived\"\n\
         [[certificate]]\ngroup = \"short\"\ndomains = [\"a.example\"]\n\
         [[certificate]]\ndomains = [\"b.example\"]\nca = \"google\"\n{QUIET}"
    ));
    let config = workspace.load();
    let name = "a.example".parse().unwrap();
    assert_eq!(
        workspace.plain(&config::show(&config, Some(&name))),
        r#"[ca.letsencrypt]
type = "acme"  # built-in
directory = "https://acme-v02.api.letsencrypt.org/directory"  # built-in
test = false  # built-in

[target.nginx]
test = ["nginx", "-t"]  # built-in
reload = { systemd = "nginx.service" }  # built-in
timeout = "1m"  # built-in
verify = [{ address = "127.0.0.1:443" }, { address = "[::1]:443" }]  # built-in
verify_timeout = "30s"  # built-in

[[certificate]]  # a.example
name = "a.example"  # built-in
group = "short"  # renewd.toml:7
domains = ["a.example"]  # renewd.toml:8
key = "p256"  # built-in
profile = "shortlived"  # renewd.toml:5, group short
targets = ["nginx"]  # renewd.toml:3, defaults
verify = true  # built-in
placeholder = true  # built-in
ca = "letsencrypt"  # built-in
solver = "web"  # built-in
"#
    );
    assert_eq!(config::show(&config, Some(&"c.example".parse().unwrap())), "");
    let all = config::show(&config, None);
    for part in
        ["state_dir = \"/var/lib/renewd\"  # built-in", "[ca.google]", "# b.example", "# command-1"]
    {
        assert!(all.contains(part), "{part} is not in {all}");
    }
}

#[test]
fn every_example_loads() {
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        // A copy, since a checkout may be writable by its group and holds no secrets.
        let mut workspace = Workspace::with(&fs::read_to_string(&path).unwrap());
        for (name, text) in [
            ("zerossl.hmac", "c2VjcmV0"),
            ("webhook.key", "whsec_c2VjcmV0"),
            ("heartbeat.url", "https://watch.example.com/renewd"),
            ("alertmanager.url", "http://127.0.0.1:9093"),
            ("google-hmac", "c2VjcmV0"),
            ("hook-url", "https://hooks.example.com/"),
            ("hook-key", "c2VjcmV0"),
        ] {
            workspace.write_with_mode(name, text, 0o600);
        }
        workspace.environment.credentials_directory = Some(workspace.directory.path().to_owned());
        for (name, value) in [
            ("SSLCOM_HMAC", "c2VjcmV0"),
            ("HOOK_URL", "https://hooks.example.com/"),
            ("HOOK_KEY", "c2VjcmV0"),
        ] {
            workspace.environment.variables.insert(name.to_owned(), value.to_owned());
        }
        assert!(!workspace.load().certificates.is_empty(), "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["minimal.toml", "full.toml", "nginx.toml", "container.toml"] {
        assert!(names.iter().any(|it| it == name), "{name} is missing");
    }
}

#[test]
fn the_full_example_and_the_reference_name_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/full.toml");
    let full = fs::read_to_string(path).unwrap();
    let reference = config::reference();
    let mut keys = Vec::new();
    collect_keys(&config::schema(), &mut keys);
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let has = |text: &str| {
            text.lines().any(|line| {
                let words = line.split([' ', '{', ',', '[', ']', '.', '#']);
                words.into_iter().any(|it| it == key)
            })
        };
        assert!(has(&full), "{key} is not in examples/full.toml");
        assert!(has(&reference), "{key} is not in the reference");
    }
}

/// The keys of every table of `schema`.
fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        let later =
            |it: &serde_json::Value| *it == serde_json::json!(false) || it.get("not").is_some();
        keys.extend(properties.iter().filter(|(_, it)| !later(it)).map(|(key, _)| key.clone()));
    }
    match schema {
        serde_json::Value::Object(members) => {
            members.values().for_each(|it| collect_keys(it, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|it| collect_keys(it, keys)),
        _ => {}
    }
}
