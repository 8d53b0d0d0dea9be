//! What is shown of a configuration, and the examples.

use std::fs;
use std::path::Path;

use renewd::config;

use crate::{QUIET, TERMS, Workspace};

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
limits = { new_accounts = "10/3h", new_orders = "300/3h", certificates_per_domain = "50/7d", certificates_per_set = "5/7d", failed_authorizations = "5/1h", consecutive_failures = "1152/1152d", exempt = ["replacements", "renewals"] }  # built-in

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
reuse_key = false  # built-in
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
fn what_is_shown_of_an_included_file_can_not_write_to_a_terminal() {
    let workspace = Workspace::with(&format!("{TERMS}include = [\"conf.d/*.toml\"]\n{QUIET}"));
    workspace.write(
        "conf.d/dns.toml",
        "[solver.dns]\ntype = \"dns-01\"\nprovider = \"program\"\nprogram = [\"/bin/true\"]\n\
         options = { \"A\\u001b[2J\" = \"b\" }\n",
    );
    let shown = config::show(&workspace.load(), None);
    assert!(shown.contains("options = { A\\u{1b}[2J = \"b\" }"), "{shown}");
    assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
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
            ("renewd.key", "key \"k\" { algorithm hmac-sha256; secret \"Y2FuYXJ5\"; };"),
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
    for name in [
        "minimal",
        "full",
        "nginx",
        "container",
        "local",
        "apache",
        "haproxy",
        "mail",
        "postgresql",
        "mosquitto",
    ] {
        assert!(names.iter().any(|it| *it == format!("{name}.toml")), "{name} is missing");
    }
}

#[test]
fn the_configurations_that_packages_bring_load() {
    let of_the_package = Workspace::with(include_str!("../../packaging/renewd.toml")).load();
    assert!(of_the_package.certificates.is_empty(), "it must start nothing as it is");
    let of_the_image =
        Workspace::with(include_str!("../../packaging/container/renewd.toml")).load();
    assert_eq!(of_the_image.certificates.len(), 1);
}

#[test]
fn the_configuration_of_the_package_with_its_examples_taken_in_loads() {
    let shipped = include_str!("../../packaging/renewd.toml");
    let is_example = |it: &str| it.starts_with('#') && !it.starts_with("# ") && it.len() > 1;
    let lines = shipped.lines().map(|it| if is_example(it) { &it[1..] } else { it });
    let config = Workspace::with(&lines.collect::<Vec<_>>().join("\n")).load();
    assert_eq!((config.certificates.len(), config.alerts.receivers.len()), (1, 1));
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
