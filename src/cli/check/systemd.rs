//! What systemd's units need for a configuration, beside what they come with, and the drop-in files
//! that give it to them.
//!
//! The daemon's unit writes to its state and run directories alone and is in no group but its own;
//! the deployer's writes where its own file says. Pure: the configuration decides.
//!
//! Not here: what the installed units have ([`super::units`]).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, DeployerChoice};
use crate::model::escaped;
use crate::solver::SolverMethod;
use crate::store::StoreSettings;

/// The daemon's unit.
pub(super) const DAEMON: &str = "renewd.service";
/// The deployer's unit.
pub(super) const DEPLOYER: &str = "renewd-deployer.service";

/// The unit of a round without a daemon: the daemon's sandbox, so the daemon's needs.
const ROUND: &str = "renewd-renew.service";
/// The unit that tells of a failed one: it reads the receivers' secrets.
const ALERT: &str = "renewd-alert@.service";

/// The name of our drop-in files.
const FILE: &str = "configuration.conf";

/// Ports below need a capability.
const FIRST_FREE_PORT: u16 = 1024;

/// One setting that one unit needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// To be in this group.
    Group(String),
    /// To write below this folder.
    Writes(PathBuf),
    /// To read below this folder, which the unit may not see.
    Reads(PathBuf),
    /// To listen on ports below 1024.
    LowPorts,
    /// To be passed this credential.
    Credential(String),
}

/// What each unit needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The daemon.
    pub(super) daemon: BTreeSet<Need>,
    /// The deployer.
    pub(super) deployer: BTreeSet<Need>,
}

/// A drop-in file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DropIn {
    /// The unit that it is for.
    pub(super) unit: &'static str,
    /// Where it goes.
    pub(super) path: String,
    /// What it holds.
    pub(super) content: String,
}

/// What `config` needs of the units.
pub(super) fn needs(config: &Config) -> Needs {
    let mut needs = Needs::default();
    let built_in = StoreSettings::default();
    let groups = config.certificates.iter().filter_map(|it| it.read_group.clone());
    needs.daemon.extend(groups.map(Need::Group));
    needs.daemon.extend(config.credentials().into_iter().map(Need::Credential));

    for (ours, usual) in
        [(&config.store.state_dir, built_in.state_dir), (&config.store.run_dir, built_in.run_dir)]
    {
        if *ours != usual {
            needs.daemon.insert(Need::Writes(ours.clone()));
        }
    }
    if hiding(&config.store.state_dir) != Hiding::Nothing {
        needs.deployer.insert(Need::Reads(config.store.state_dir.clone()));
    }
    let used: BTreeSet<_> = config.certificates.iter().flat_map(|it| it.solvers.values()).collect();
    for solver in used.into_iter().filter_map(|it| config.solvers.get(it)) {
        if let SolverMethod::Webroot { directory, .. } = &solver.method
            && !directory.starts_with(&config.store.run_dir)
        {
            needs.daemon.insert(Need::Writes(directory.clone()));
        }
        if let SolverMethod::Listener { addresses } | SolverMethod::TlsAlpn01 { addresses } =
            &solver.method
            && addresses.iter().any(|it| it.port() < FIRST_FREE_PORT)
        {
            needs.daemon.insert(Need::LowPorts);
        }
    }
    let installs = install_folders(config).into_iter().map(Need::Writes);
    match config.deployer {
        DeployerChoice::Direct => needs.daemon.extend(installs),
        DeployerChoice::Auto | DeployerChoice::Socket => needs.deployer.extend(installs),
    }
    needs
}

/// The folders that `install` writes to.
fn install_folders(config: &Config) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for spec in &config.certificates {
        for target in spec.targets.iter().filter_map(|it| config.targets.get(it)) {
            let paths = target.install.iter();
            let paths = paths.map(|it| it.path.replace("{name}", spec.name.as_str()));
            folders.extend(paths.filter_map(|it| Path::new(&it).parent().map(Path::to_owned)));
        }
    }
    folders
}

/// The drop-in files that give `needs`, which `config_file` has; none for a unit without any.
pub(super) fn drop_ins(needs: &Needs, config_file: &Path) -> Vec<DropIn> {
    let is_credential = |it: &&Need| matches!(it, Need::Credential(_));
    let credentials = needs.daemon.iter().filter(is_credential).cloned().collect();
    let units = [
        (DAEMON, &needs.daemon),
        (ROUND, &needs.daemon),
        (ALERT, &credentials),
        (DEPLOYER, &needs.deployer),
    ];
    let with_needs = units.into_iter().filter(|(_, needs)| !needs.is_empty());
    with_needs.map(|(unit, needs)| drop_in(unit, needs, config_file)).collect()
}

fn drop_in(unit: &'static str, needs: &BTreeSet<Need>, config_file: &Path) -> DropIn {
    let path = format!("/etc/systemd/system/{unit}.d/{FILE}");
    let mut content = format!(
        "# {path}\n# What {} needs of this unit, by `renewd check --systemd`. Afterwards:\n\
         # systemctl daemon-reload && systemctl try-restart {unit}\n[Service]\n",
        escaped(&config_file.display().to_string())
    );
    let mut written = BTreeSet::new();
    for (about, lines) in needs.iter().map(lines) {
        for text in about.into_iter().map(|it| format!("# {it}")).chain(lines) {
            // Some settings are the same for several needs.
            if written.insert(text.clone()) {
                // Writing to a String never fails.
                let _written = writeln!(content, "{text}");
            }
        }
    }
    DropIn { unit, path, content }
}

/// What is said of `need`, and the settings that meet it.
fn lines(need: &Need) -> (Option<String>, Vec<String>) {
    match need {
        Need::Group(group) => match word(group) {
            Some(group) => (None, vec![format!("SupplementaryGroups={group}")]),
            None => (Some(unwritable("group", group)), Vec::new()),
        },
        Need::Writes(path) => paths(path, &["ReadWritePaths"], "BindPaths"),
        Need::Reads(path) => paths(path, &[], "BindReadOnlyPaths"),
        Need::LowPorts => (
            Some("for a listener on a port below 1024".to_owned()),
            ["AmbientCapabilities", "CapabilityBoundingSet"]
                .map(|it| format!("{it}=CAP_NET_BIND_SERVICE"))
                .to_vec(),
        ),
        Need::Credential(name) if is_plain(name) => (
            Some(format!("the secret {name}: put it at that path, readable for root alone")),
            vec![format!("LoadCredential={name}:/etc/credstore/{name}")],
        ),
        Need::Credential(name) => (Some(unwritable("credential", name)), Vec::new()),
    }
}

fn paths(path: &Path, always: &[&str], bind: &str) -> (Option<String>, Vec<String>) {
    // One folder that is missing must not keep the unit from starting: hence the dash.
    let Some(value) = path.to_str().and_then(|it| word(&format!("-{it}"))) else {
        return (Some(unwritable("path", &path.to_string_lossy())), Vec::new());
    };
    let mut keys = always.to_vec();
    let mut lines = Vec::new();
    match hiding(path) {
        Hiding::Nothing => {}
        Hiding::Home => {
            // `yes` would hide what is bound there too.
            lines.push("ProtectHome=tmpfs".to_owned());
            keys.push(bind);
        }
        Hiding::Temporary => keys.push(bind),
    }
    lines.extend(keys.into_iter().map(|key| format!("{key}={value}")));
    (None, lines)
}

/// What hides a path from a sandboxed unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hiding {
    /// Nothing does.
    Nothing,
    /// `ProtectHome=`.
    Home,
    /// `PrivateTmp=`.
    Temporary,
}

/// What may hide `path` from a unit.
pub(super) fn hiding(path: &Path) -> Hiding {
    let is_below = |folders: &[&str]| folders.iter().any(|it| path.starts_with(it));
    if is_below(&["/home", "/root", "/run/user"]) {
        Hiding::Home
    } else if is_below(&["/tmp", "/var/tmp"]) {
        Hiding::Temporary
    } else {
        Hiding::Nothing
    }
}

fn unwritable(what: &str, text: &str) -> String {
    format!("the {what} {} can't be written in a unit: give it a plainer name", escaped(text))
}

/// Whether `name` needs no quotes anywhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it))
}

/// `text` as one word in a unit's list (systemd.syntax(7)); `None` if it can't be one.
fn word(text: &str) -> Option<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return None;
    }
    // A percent sign begins a specifier (systemd.unit(5)).
    let text = text.replace('%', "%%");
    let is_bare = |it: char| it.is_alphanumeric() || "/._-+@%,=~#".contains(it);
    if text.chars().all(is_bare) {
        return Some(text);
    }
    Some(format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::sys::atomic::{self, Access};

    /// What the configuration `text` in `folder` needs.
    fn needs_of(folder: &Path, text: &str) -> Needs {
        let main = folder.join("renewd.toml");
        let text = format!("terms_of_service_agreed = true\n{text}");
        atomic::write(&main, text.as_bytes(), Access::mode(0o644)).unwrap();
        needs(&config::load_without_secrets(&main, &Environment::default()).unwrap())
    }

    fn set(needs: &[Need]) -> BTreeSet<Need> {
        needs.iter().cloned().collect()
    }

    #[test]
    fn the_smallest_configuration_needs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let needs = needs_of(
            folder.path(),
            "[[certificate]]\ndomains = [\"a.example\"]\ntargets = [\"nginx\"]\n",
        );
        assert_eq!(needs, Needs::default());
        assert_eq!(drop_ins(&needs, Path::new("/etc/renewd/renewd.toml")), []);
    }

    #[test]
    fn groups_webroots_low_ports_credentials_and_installs_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let needs = needs_of(
            folder.path(),
            "state_dir = \"/srv/state\"\n\
             [ca.eab]\ndirectory = \"https://ca.example/\"\neab_kid = \"k\"\neab_hmac_credential = \"ca-hmac\"\n\
             [solver.docroot]\ntype = \"http-01\"\nwebroot = \"/srv/www\"\nfor = [\"a.example\"]\n\
             [solver.unused]\ntype = \"http-01\"\nwebroot = \"/srv/unused\"\nfor = [\"z.example\"]\n\
             [solver.own]\ntype = \"http-01\"\nlisten = [\"0.0.0.0:80\"]\nfor = [\"b.example\"]\n\
             [solver.high]\ntype = \"http-01\"\nlisten = [\"127.0.0.1:1024\"]\nfor = [\"c.example\"]\n\
             [target.files]\ntype = \"other\"\n\
             install = [{ file = \"fullchain\", path = \"/etc/tls/{name}/a.pem\" }]\n\
             [[certificate]]\nname = \"a\"\ndomains = [\"a.example\"]\ntargets = [\"files\"]\n\
             read_group = \"ssl-cert\"\n\
             [[certificate]]\nname = \"b\"\ndomains = [\"b.example\", \"c.example\"]\ntargets = [\"files\"]\n\
             read_group = \"ssl-cert\"\n",
        );
        let expected = set(&[
            Need::Group("ssl-cert".into()),
            Need::Writes("/srv/state".into()),
            Need::Writes("/srv/www".into()),
            Need::LowPorts,
            Need::Credential("ca-hmac".into()),
        ]);
        assert_eq!(needs.daemon, expected);
        let installs = [Need::Writes("/etc/tls/a".into()), Need::Writes("/etc/tls/b".into())];
        assert_eq!(needs.deployer, set(&installs));
    }

    #[test]
    fn in_direct_mode_the_daemon_itself_writes_what_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let needs = needs_of(
            folder.path(),
            "deployer = \"direct\"\n[target.files]\ntype = \"other\"\n\
             install = [{ file = \"cert\", path = \"/etc/tls/a.pem\" }]\n\
             [[certificate]]\ndomains = [\"a.example\"]\ntargets = [\"files\"]\n",
        );
        assert_eq!(needs.daemon, set(&[Need::Writes("/etc/tls".into())]));
        assert!(needs.deployer.is_empty());
    }

    #[test]
    fn a_drop_in_says_where_it_goes_and_is_a_file_that_systemd_reads() {
        let needs = Needs {
            daemon: set(&[
                Need::Group("ssl-cert".into()),
                Need::Writes("/srv/my 100% \"site\"".into()),
                Need::Writes("/home/me/www".into()),
                Need::Writes("/root/www".into()),
                Need::Writes("/tmp/www".into()),
                Need::LowPorts,
                Need::Credential("hook".into()),
            ]),
            deployer: set(&[Need::Reads("/home/state".into())]),
        };
        let files = drop_ins(&needs, Path::new("/etc/renewd/renewd.toml"));
        assert_eq!(
            files[0].content,
            r#"# /etc/systemd/system/renewd.service.d/configuration.conf
# What /etc/renewd/renewd.toml needs of this unit, by `renewd check --systemd`. Afterwards:
# systemctl daemon-reload && systemctl try-restart renewd.service
[Service]
SupplementaryGroups=ssl-cert
ProtectHome=tmpfs
ReadWritePaths=-/home/me/www
BindPaths=-/home/me/www
ReadWritePaths=-/root/www
BindPaths=-/root/www
ReadWritePaths="-/srv/my 100%% \"site\""
ReadWritePaths=-/tmp/www
BindPaths=-/tmp/www
# for a listener on a port below 1024
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
# the secret hook: put it at that path, readable for root alone
LoadCredential=hook:/etc/credstore/hook
"#
        );
        let settings = |it: &DropIn| it.content.split_once("[Service]").unwrap().1.to_owned();
        assert_eq!(files[1].unit, "renewd-renew.service");
        assert_eq!(
            settings(&files[1]),
            settings(&files[0]),
            "a round is sandboxed as the daemon is"
        );
        assert_eq!(files[2].unit, "renewd-alert@.service");
        assert!(files[2].content.ends_with("LoadCredential=hook:/etc/credstore/hook\n"));
        assert!(!files[2].content.contains("ssl-cert"), "{}", files[2].content);
        assert_eq!(
            files[3].path,
            "/etc/systemd/system/renewd-deployer.service.d/configuration.conf"
        );
        assert!(
            files[3]
                .content
                .ends_with("[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths=-/home/state\n")
        );
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_unit() {
        let needs = Needs {
            daemon: set(&[
                Need::Group("a\nExecStartPre=/bin/evil".into()),
                Need::Writes("/srv/a\n[Install]".into()),
                Need::Credential("a b\nUser=root".into()),
            ]),
            ..Needs::default()
        };
        let files = drop_ins(&needs, Path::new("/etc/a\nUser=root"));
        let settings = files[0].content.lines().filter(|it| !it.starts_with('#'));
        assert_eq!(settings.collect::<Vec<_>>(), ["[Service]"]);
    }
}
