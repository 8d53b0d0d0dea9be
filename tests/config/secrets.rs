//! Files that others could write or read, and secrets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use renewd::config::{self, Ca};

use crate::{QUIET, TERMS, Workspace};

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
fn files_in_the_place_of_which_others_may_put_theirs_are_refused() {
    let workspace = Workspace::with(&format!("{TERMS}{QUIET}"));
    fs::create_dir(workspace.path("conf.d")).unwrap();
    workspace.write("conf.d/one.toml", "");
    let open = |folder: &str, mode: u32| {
        fs::set_permissions(workspace.path(folder), fs::Permissions::from_mode(mode)).unwrap();
    };
    open("conf.d", 0o757);
    let warnings = workspace.warnings();
    let expected = "conf.d/one.toml: stands in a folder that anybody can write to (mode 0757)\n  \
                    hint: chmod o-w conf.d\n";
    assert_eq!(warnings, expected);
    open("conf.d", 0o1777);
    assert_eq!(workspace.warnings(), "");
    open("conf.d", 0o755);
    // What the name leads to counts too.
    workspace.write("shared/two.toml", "");
    open("shared", 0o777);
    std::os::unix::fs::symlink(
        workspace.path("shared/two.toml"),
        workspace.path("conf.d/two.toml"),
    )
    .unwrap();
    assert!(workspace.warnings().starts_with("conf.d/two.toml: stands in a folder that anybody"));
    open("shared", 0o755);
    open("", 0o777);
    assert!(workspace.faults().starts_with("renewd.toml: stands in a folder that anybody can"));
    open("", 0o700);
}

/// C03: root runs the programs that a configuration names, so whose it is matters.
#[test]
fn files_of_others_are_refused_where_root_reads_them() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let workspace = Workspace::with(QUIET);
    let give = |name: &str| {
        std::os::unix::fs::chown(workspace.path(name), Some(54_321), None).unwrap();
    };
    give("renewd.toml");
    assert_eq!(
        workspace.faults(),
        "renewd.toml: belongs to the user 54321, and root runs what it says\n  \
         hint: chown root renewd.toml\n"
    );
    let workspace = Workspace::with(&format!("{TERMS}{QUIET}"));
    fs::create_dir(workspace.path("conf.d")).unwrap();
    workspace.write("conf.d/own.toml", "");
    assert_eq!((workspace.warnings(), workspace.load().rejected_files.len()), (String::new(), 0));
    std::os::unix::fs::chown(workspace.path("conf.d/own.toml"), Some(54_321), None).unwrap();
    assert!(workspace.warnings().starts_with("conf.d/own.toml: belongs to the user 54321"));
    assert_eq!(workspace.load().rejected_files.len(), 1);
}

#[test]
fn what_lies_in_conf_d_is_read_unless_the_main_file_says_otherwise() {
    let workspace = Workspace::with(&format!("{TERMS}{QUIET}"));
    fs::create_dir(workspace.path("conf.d")).unwrap();
    workspace.write("conf.d/one.toml", "[[certificate]]\ndomains = [\"one.example\"]\n");
    workspace.write("conf.d/two.json", r#"{ "certificate": [{ "domains": ["two.example"] }] }"#);
    assert_eq!(workspace.load().certificates.len(), 2);
    workspace.write("renewd.toml", &format!("{TERMS}include = []\n{QUIET}"));
    assert_eq!(workspace.load().certificates.len(), 0);
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
    fs::set_permissions(&beat, fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(
        workspace.faults(),
        "renewd.toml:3: alerts.heartbeat_url_file: beat can be written by its group or by others \
         (mode 0660)\n  hint: chmod go-w beat\n"
    );
    let elsewhere = format!("{TERMS}[alerts]\nheartbeat_url_file = \"open/beat\"\n");
    workspace.write("renewd.toml", &elsewhere);
    workspace.write_with_mode("open/beat", "https://watch.example/canary\n", 0o600);
    fs::set_permissions(workspace.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        workspace.faults().contains("open/beat stands in a folder that anybody can write to"),
        "{}",
        workspace.faults()
    );

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

/// C03: who writes these roots is whatever CA he likes.
#[test]
fn roots_that_others_may_write_are_refused() {
    let table = "[ca.lab]\ndirectory = \"https://ca.example/\"\ntrust = \"root.pem\"\n";
    let workspace = Workspace::with(&format!("{TERMS}{QUIET}{table}"));
    assert_eq!(workspace.load().rejected_files.len(), 0, "that it is missing is seen elsewhere");
    workspace.write_with_mode("root.pem", "", 0o664);
    assert!(
        workspace.faults().contains(
            "ca.lab.trust: root.pem can be written by its group or by others (mode 0664)\n  \
             hint: chmod go-w root.pem\n"
        ),
        "{}",
        workspace.faults()
    );
    workspace.write_with_mode("root.pem", "", 0o644);
    workspace.load();
}

/// C04: a secret that is missing, empty, with a line end or a BOM.
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
    let Ca::Acme(ca) = &config.cas[&"zerossl".parse().unwrap()] else { panic!("not ACME") };
    assert!(ca.external_account_binding.is_none());
}
