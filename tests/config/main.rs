//! The configuration as its operator meets it: files in, faults or a [`Config`] out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use renewd::config::{self, Config, Environment};
use renewd::sys::atomic::{self, Access};

mod faults;
mod keys;
mod meaning;
mod secrets;
mod shown;

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
