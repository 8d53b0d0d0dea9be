//! The units as they are installed, with their drop-ins: what they give the daemon and the
//! deployer, held against what the configuration needs.
//!
//! Files are read, systemd is not asked: what is looked for is a drop-in that nobody put in place.
//!
//! Not here: what is needed ([`super::systemd`]).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use super::systemd::{DAEMON, DEPLOYER, Hiding, Need, Needs, hiding};

/// The configuration that the packaged units read.
const PACKAGED_CONFIG: &str = "/etc/renewd/renewd.toml";

/// Where units lie, the first wins.
const FOLDERS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// The units that are installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    daemon: Option<Unit>,
    deployer: Option<Unit>,
}

/// The settings of the section `[Service]` of one unit and its drop-ins, in the order in which they
/// count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unit {
    settings: Vec<(String, String)>,
}

/// The units that run on `config_file`: none for a configuration that is not the packaged one.
pub(super) fn of_configuration(config_file: &Path) -> Units {
    if config_file == Path::new(PACKAGED_CONFIG) { read(Path::new("/")) } else { Units::default() }
}

/// The units below `root`.
fn read(root: &Path) -> Units {
    Units { daemon: Unit::read(root, DAEMON), deployer: Unit::read(root, DEPLOYER) }
}

/// What `needs` has and `units` do not give.
pub(super) fn findings(needs: &Needs, units: &Units) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, needs, unit) in
        [(DAEMON, &needs.daemon, &units.daemon), (DEPLOYER, &needs.deployer, &units.deployer)]
    {
        let Some(unit) = unit else { continue };
        let missing: Vec<String> =
            needs.iter().filter(|it| !unit.gives(it)).map(in_words).collect();
        if !missing.is_empty() {
            findings.push(Finding {
                subject: format!("unit {name}"),
                message: format!("it does not let renewd {}", missing.join(", nor ")),
                hint: Some(format!(
                    "put what `renewd check --systemd` prints where it says, then run \
                     `systemctl daemon-reload` and `systemctl try-restart {name}`"
                )),
            });
        }
    }
    findings
}

fn in_words(need: &Need) -> String {
    match need {
        Need::Group(group) => format!("give keys to the group {group}"),
        Need::Writes(path) => format!("write to {}", path.display()),
        Need::Reads(path) => format!("read {}", path.display()),
        Need::LowPorts => "listen on a port below 1024".to_owned(),
        Need::Credential(name) => format!("have the credential {name}"),
    }
}

impl Units {
    /// Whether the daemon's unit puts it into `group`.
    pub(super) fn daemon_has_group(&self, group: &str) -> bool {
        self.daemon.as_ref().is_some_and(|it| it.gives(&Need::Group(group.to_owned())))
    }
}

impl Unit {
    /// The unit `name` below `root`; `None` if it is not installed.
    fn read(root: &Path, name: &str) -> Option<Self> {
        let folders = FOLDERS.map(|it| root.join(it));
        let text = folders.iter().find_map(|it| fs::read_to_string(it.join(name)).ok())?;
        let mut unit = Self::default();
        unit.add(&text);
        for file in drop_in_files(&folders, name) {
            unit.add(&fs::read_to_string(file).unwrap_or_default());
        }
        Some(unit)
    }

    /// Adds the settings of `text`, one file.
    fn add(&mut self, text: &str) {
        let mut is_service = false;
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if line.starts_with('[') {
                is_service = line == "[Service]";
            } else if is_service
                && !line.starts_with(['#', ';'])
                && let Some((key, value)) = line.split_once('=')
            {
                let (key, value) = (key.trim(), value.trim());
                if value.is_empty() {
                    // An empty value takes back what was set before.
                    self.settings.retain(|(known, _)| known != key);
                }
                self.settings.push((key.to_owned(), value.to_owned()));
            }
        }
    }

    /// All words of all settings of `keys`, without the marks before a path.
    fn words(&self, keys: &[&str]) -> Vec<String> {
        let settings = self.settings.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        settings.flat_map(|(_, value)| words(value)).collect()
    }

    /// The last value of `key`.
    fn last(&self, key: &str) -> &str {
        let found = self.settings.iter().rev().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value.as_str())
    }

    fn gives(&self, need: &Need) -> bool {
        match need {
            Need::Group(group) => self.words(&["Group", "SupplementaryGroups"]).contains(group),
            Need::Writes(path) => self.shows(path) && self.lets_write(path),
            Need::Reads(path) => self.shows(path),
            Need::LowPorts => {
                let capability = "CAP_NET_BIND_SERVICE".to_owned();
                self.words(&["AmbientCapabilities"]).contains(&capability)
            }
            Need::Credential(name) => {
                let keys = ["LoadCredential", "LoadCredentialEncrypted", "SetCredential"];
                let named = |it: &String| it.split(':').next() == Some(name);
                self.words(&keys).iter().any(named)
            }
        }
    }

    /// Whether `path` can be seen.
    fn shows(&self, path: &Path) -> bool {
        let is_hidden = match hiding(path) {
            Hiding::Nothing => false,
            Hiding::Home => is_on(self.last("ProtectHome")) || self.last("ProtectHome") == "tmpfs",
            Hiding::Temporary => is_on(self.last("PrivateTmp")),
        };
        !is_hidden || self.names(path, &["BindPaths", "BindReadOnlyPaths"])
    }

    fn lets_write(&self, path: &Path) -> bool {
        let is_below = |folders: &[&str]| folders.iter().any(|it| path.starts_with(it));
        let is_guarded = match self.last("ProtectSystem") {
            "strict" => true,
            "full" => is_below(&["/usr", "/boot", "/efi", "/etc"]),
            other => is_on(other) && is_below(&["/usr", "/boot", "/efi"]),
        };
        !is_guarded || self.names(path, &["ReadWritePaths", "BindPaths"])
    }

    /// Whether `path` or a folder above it is among the values of `keys`.
    fn names(&self, path: &Path, keys: &[&str]) -> bool {
        let values = self.words(keys);
        values.iter().any(|it| {
            // A source and where it is shown; only what is shown at its own place counts.
            let it = it.trim_start_matches(['-', '+']);
            path.starts_with(it.split(':').next().unwrap_or(it))
        })
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1" | "read-only")
}

/// The drop-ins of the unit `name`, in the order of their names; of two with one name the first
/// folder's.
fn drop_in_files(folders: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder.join(format!("{name}.d"))).into_iter().flatten();
        for path in entries.flatten().map(|it| it.path()) {
            let is_drop_in = path.extension().is_some_and(|it| it == "conf");
            if is_drop_in && seen.insert(path.file_name().map(ToOwned::to_owned)) {
                files.push(path);
            }
        }
    }
    files.sort_by_key(|it| it.file_name().map(ToOwned::to_owned));
    files
}

/// The words of `value`: separated by spaces, in quotes or not (systemd.syntax(7)).
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut has_begun) = (None, false);
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.extend(characters.next()),
            ('%', _) => {
                // `%%` is a percent sign; other specifiers stay as they are and fit nothing.
                let next = characters.next();
                word.push('%');
                word.extend(next.filter(|it| *it != '%'));
            }
            (_, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            (_, None) if character.is_whitespace() => {
                if has_begun {
                    words.push(std::mem::take(&mut word));
                }
                has_begun = false;
                continue;
            }
            _ => word.push(character),
        }
        has_begun = true;
    }
    if has_begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::systemd::drop_ins;
    use super::*;
    use crate::sys::atomic::{self, Access};

    const SANDBOX: &str = "[Unit]\nBindPaths=/home\n[Service]\nUser=renewd\nProtectSystem=strict\n\
                           ProtectHome=yes\nPrivateTmp=yes\nReadWritePaths=/var/lib/renewd \\\n\
                           /srv/shared\nSupplementaryGroups=renewd-admin\n";

    fn needs() -> Needs {
        let daemon = [
            Need::Group("ssl-cert".into()),
            Need::Writes("/srv/my 100% \"site\"".into()),
            Need::Writes("/home/me/www".into()),
            Need::Writes("/tmp/www".into()),
            Need::LowPorts,
            Need::Credential("hook".into()),
        ];
        Needs {
            daemon: daemon.into_iter().collect(),
            deployer: [Need::Writes("/etc/tls".into())].into_iter().collect(),
        }
    }

    fn write(path: &Path, text: &str) {
        atomic::directory(path.parent().unwrap(), Access::mode(0o755)).unwrap();
        atomic::write(path, text.as_bytes(), Access::mode(0o644)).unwrap();
    }

    #[test]
    fn what_no_drop_in_gives_is_told_until_the_one_that_is_printed_is_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(read(root), Units::default());
        assert!(findings(&needs(), &read(root)).is_empty(), "there is no unit");

        write(&root.join("usr/lib/systemd/system").join(DAEMON), SANDBOX);
        write(&root.join("lib/systemd/system").join(DEPLOYER), "[Service]\nProtectSystem=full\n");
        let told = findings(&needs(), &read(root));
        assert_eq!(told.len(), 2, "{told:?}");
        for words in [
            "it does not let renewd give keys to the group ssl-cert",
            "write to /srv/my 100% \"site\"",
            "write to /home/me/www",
            "write to /tmp/www",
            "listen on a port below 1024",
            "have the credential hook",
        ] {
            assert!(told[0].message.contains(words), "{words}: {told:?}");
        }
        assert!(told[1].message.ends_with("write to /etc/tls"), "{told:?}");
        assert!(!read(root).daemon_has_group("ssl-cert"));

        for file in drop_ins(&needs(), Path::new(PACKAGED_CONFIG)) {
            write(&root.join(file.path.trim_start_matches('/')), &file.content);
        }
        let told = findings(&needs(), &read(root));
        assert!(told.is_empty(), "{told:?}");
        assert!(read(root).daemon_has_group("ssl-cert"));
    }

    #[test]
    fn what_the_unit_itself_gives_needs_no_drop_in() {
        let mut unit = Unit::default();
        unit.add(SANDBOX);
        assert!(unit.gives(&Need::Writes("/srv/shared/site".into())));
        assert!(!unit.gives(&Need::Writes("/srv/shared-not".into())));
        assert!(unit.gives(&Need::Group("renewd-admin".into())));
        assert!(!unit.gives(&Need::Reads("/home/me".into())), "that was in another section");
        unit.add("[Service]\nSupplementaryGroups=\nProtectSystem=full\n");
        assert!(!unit.gives(&Need::Group("renewd-admin".into())), "it was taken back");
        assert!(unit.gives(&Need::Writes("/opt/www".into())), "only /etc and /usr are guarded");
        assert!(!unit.gives(&Need::Writes("/etc/tls".into())));
    }

    #[test]
    fn of_two_drop_ins_with_one_name_the_administrators_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&root.join("lib/systemd/system").join(DAEMON), SANDBOX);
        for (place, group) in [("usr/lib", "vendor"), ("etc", "admin")] {
            let file = format!("{place}/systemd/system/{DAEMON}.d/groups.conf");
            write(&root.join(file), &format!("[Service]\nSupplementaryGroups={group}\n"));
        }
        let units = read(root);
        assert!(units.daemon_has_group("admin"));
        assert!(!units.daemon_has_group("vendor"));
    }

    #[test]
    fn words_are_taken_apart_as_systemd_does() {
        assert_eq!(words(r#"a  "-/b c" d\ e 'f"g' 1%%"#), ["a", "-/b c", "d e", "f\"g", "1%"]);
        assert_eq!(words(""), Vec::<String>::new());
    }
}
