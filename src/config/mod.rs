//! From configuration files to a checked [`Config`], with every fault at once.
//!
//! In order: `files` reads the main file and what it includes into trees (`tree`, `json`) in which
//! every value knows its line; `shape` and `field` read those into the tables of `raw`, whose
//! documentation is the reference; `resolve` fills in the defaults and holds each entry against
//! the others. Faults are collected all the way ([`Faults`]).
//!
//! The main file is strict: a fault in it refuses the configuration. A fault in an included file
//! refuses the entry it stands in ([`Config::rejected`]); a syntax error, the file
//! ([`Config::rejected_files`]).
//!
//! Not here: whether CAs answer, programs exist or folders can be written; watching
//! [`Config::files`]; keeping what was good before (both [`crate::daemon`]).

mod digest;
mod fault;
mod tree;
mod json;
mod suggest;
mod field;
mod text;
mod shape;
mod raw;
mod exposure;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod secret;
mod url;
mod resolve;
mod reference;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::acme::CaSettings;
use crate::deploy::TargetSettings;
use crate::local_ca::LocalCaSettings;
use crate::model::{CaName, CertificateName, CertificateSpec, Fingerprint, SolverName, TargetName};
use crate::observe::AlertSettings;
use crate::solver::SolverSettings;
use crate::store::StoreSettings;

use files::Snapshot;
use secret::Secrets;

pub use digest::digest;
pub use fault::{Fault, Faults, Severity};
pub use reference::{reference, schema};
pub use show::show;
pub use text::TargetKind;

/// A whole configuration, checked, with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state is kept.
    pub store: StoreSettings,
    /// Whether the state may lie where it is lost at the end of the machine or container.
    pub ephemeral: bool,
    /// Who installs and reloads.
    pub deployer: DeployerChoice,
    /// The certificates that are wanted, in the order of the files.
    pub certificates: Vec<CertificateSpec>,
    /// All CAs: those with a table and the built-in ones.
    pub cas: BTreeMap<CaName, Ca>,
    /// All solvers, `web` among them.
    pub solvers: BTreeMap<SolverName, SolverSettings>,
    /// All targets with a table, and the built-in ones that certificates name.
    pub targets: BTreeMap<TargetName, TargetSettings>,
    /// What kind of server each of [`Self::targets`] is.
    pub kinds: BTreeMap<TargetName, TargetKind>,
    /// Who is told of trouble, and when.
    pub alerts: AlertSettings,
    /// How many certificates are worked on at once.
    pub parallel: usize,
    /// Every file and folder whose change may change the configuration. Files may be replaced by
    /// another or be links whose target changes: it is their names that count.
    pub files: Vec<PathBuf>,
    /// The [`digest()`] of [`Self::files`] as they were read.
    pub seen: Fingerprint,
    /// What the operator should know: nobody will be told of trouble, or an entry or a file was
    /// refused ([`Severity::Rejection`]).
    pub warnings: Vec<Fault>,
    /// The certificates whose entries were refused, as far as their names could be read.
    pub rejected: Vec<CertificateName>,
    /// The included files that were refused as a whole: the certificates that came from them
    /// ([`CertificateSpec::source`]) are refused too.
    pub rejected_files: BTreeSet<PathBuf>,
    /// For [`show()`].
    shown: Vec<show::Section>,
}

impl Config {
    /// The names of all credentials that the service manager is to pass (keys that end in
    /// `_credential`), whether they were there to be read or not.
    #[must_use]
    pub fn credentials(&self) -> BTreeSet<String> {
        let lines = self.shown.iter().flat_map(|it| &it.lines);
        let named = lines.filter(|it| it.key.ends_with("_credential"));
        named.map(|it| it.value.trim_matches('"').to_owned()).collect()
    }

    /// Whether what `spec` was read from is refused by now, its entry or its whole file.
    #[must_use]
    pub fn has_rejected(&self, spec: &CertificateSpec) -> bool {
        // Of an entry whose `key` can't be read nobody knows that it stood for a pair.
        let named = [Some(&spec.name), spec.paired_with.as_ref()];
        named.into_iter().flatten().any(|name| self.rejected.contains(name))
            || self.rejected_files.contains(&spec.source)
    }

    /// The CAs that some certificate may be ordered from, that are known without a table, and that
    /// are not for tests: those whose limits a needless order counts against.
    #[must_use]
    pub fn public_cas(&self) -> BTreeSet<&CaName> {
        let known = resolve::known_directories();
        let is_public = |name: &&CaName| match self.cas.get(*name) {
            Some(Ca::Acme(settings)) => !settings.test && known.contains(&settings.directory),
            Some(Ca::Local(_)) | None => false,
        };
        self.certificates.iter().flat_map(|it| &it.cas).filter(is_public).collect()
    }
}

/// How often it is read at most, while others change it.
const MAX_READINGS: usize = 4;

/// Who installs files and reloads servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployerChoice {
    /// The deployer's socket if it is there, else this process.
    Auto,
    /// This process.
    Direct,
    /// The deployer's socket.
    Socket,
}

/// One CA, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// It speaks ACME.
    Acme(CaSettings),
    /// It is built in.
    Local(LocalCaSettings),
}

impl Ca {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &CaName {
        match self {
            Self::Acme(settings) => &settings.name,
            Self::Local(settings) => &settings.name,
        }
    }

    /// Its directory URL, or what stands for one.
    #[must_use]
    pub fn directory(&self) -> String {
        match self {
            Self::Acme(settings) => settings.directory.clone(),
            Self::Local(settings) => settings.directory(),
        }
    }

    /// Whether it is one for tests.
    #[must_use]
    pub const fn is_test(&self) -> bool {
        match self {
            Self::Acme(settings) => settings.test,
            Self::Local(_) => false,
        }
    }
}

/// What the process was started with, as far as the configuration asks for it.
#[derive(Clone, Default)]
pub struct Environment {
    /// The variables: `RENEWD_DEFAULT_CA`, and those that `*_env` keys name.
    pub variables: BTreeMap<String, String>,
    /// Where systemd put credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials_directory: Option<PathBuf>,
}

impl std::fmt::Debug for Environment {
    // The values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("credentials_directory", &self.credentials_directory)
            .finish()
    }
}

/// Loads the configuration at `path`, TOML or (if it ends in `.json`) JSON.
///
/// Reads files and changes nothing.
///
/// # Errors
///
/// Every fault of the main file and of all others, if the main file has any.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Faults> {
    load_at_rest(|| read(path, environment, Secrets::Read))
}

/// As [`load`], but reads no secret: for processes that must not or can't hold them, such as the
/// deployer or a user's `status`. CAs come without external account bindings, and of the alerts,
/// those that need a secret are left out.
///
/// # Errors
///
/// As [`load`], without the faults of secrets.
pub fn load_without_secrets(path: &Path, environment: &Environment) -> Result<Config, Faults> {
    load_at_rest(|| read(path, environment, Secrets::PassOver))
}

fn read(
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
) -> Result<(Config, Snapshot), Faults> {
    let (documents, snapshot) = files::read_all(path)?;
    Ok((resolve::resolve(documents, environment, secrets)?, snapshot))
}

/// What `read` reads while nobody changes it, if that comes to be: what changes during a reading
/// would be taken for read, and never be looked for again.
fn load_at_rest(
    mut read: impl FnMut() -> Result<(Config, Snapshot), Faults>,
) -> Result<Config, Faults> {
    let (mut config, mut snapshot) = read()?;
    for _ in 1..MAX_READINGS {
        if snapshot.holds() {
            break;
        }
        (config, snapshot) = read()?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic::{self, Access};

    const MAIN: &str = "terms_of_service_agreed = true\n";

    /// Reads a configuration of which a file is added after each reading up to the `changes`th;
    /// returns how many readings there were, and what was read last.
    fn load_beside(changes: usize) -> (usize, Config) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            atomic::write(&folder.path().join(name), text.as_bytes(), Access::mode(0o600)).unwrap();
        };
        atomic::directory(&folder.path().join("conf.d"), Access::mode(0o700)).unwrap();
        write("renewd.toml", MAIN);
        let main = folder.path().join("renewd.toml");
        let mut readings = 0;
        let config = load_at_rest(|| {
            let done = read(&main, &Environment::default(), Secrets::Read)?;
            readings += 1;
            if readings <= changes {
                let text = format!("[[certificate]]\ndomains = [\"c{readings}.example\"]\n");
                write(&format!("conf.d/{readings}.toml"), &text);
            }
            Ok(done)
        });
        let config = config.unwrap();
        let is_there = config.seen == digest(&config.files);
        assert_eq!(is_there, changes < MAX_READINGS, "what is said to be read is what is there");
        (readings, config)
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let (readings, config) = load_beside(0);
        assert_eq!((readings, config.certificates.len()), (1, 0));
        let (readings, config) = load_beside(2);
        assert_eq!((readings, config.certificates.len()), (3, 2));
    }

    #[test]
    fn what_never_comes_to_rest_is_read_all_the_same() {
        let (readings, config) = load_beside(usize::MAX);
        assert_eq!((readings, config.certificates.len()), (MAX_READINGS, MAX_READINGS - 1));
    }
}
