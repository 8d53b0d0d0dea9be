//! A folder with a configuration, and the built program run in it.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::files::{write, write_secret};
use super::process::{Finished, Running, run};

/// How long one command may take, unless the test says otherwise.
const RUN_LIMIT: Duration = Duration::from_mins(3);

/// A folder of its own, which goes away with the test.
#[derive(Debug)]
pub struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// An empty one.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file, whether it has been written or not.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.path().join("renewd.toml")
    }

    /// Writes the configuration, below two lines that keep state in this folder: `state_dir` is
    /// `state`, `run_dir` is `run`.
    #[track_caller]
    pub fn write_config(&self, text: &str) {
        let head = "state_dir = \"state\"\nrun_dir = \"run\"\ndeployer = \"direct\"\n";
        write(&self.config_file(), format!("{head}{text}"));
    }

    /// Writes a file at `path` in this folder, mode 0644; returns where it is.
    #[track_caller]
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path().join(path);
        write(&path, content);
        path
    }

    /// Writes a file at `path` in this folder with `mode`; returns where it is.
    #[track_caller]
    pub fn write_secret(&self, path: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.path().join(path);
        write_secret(&path, content, mode);
        path
    }

    /// The folder where the certificate called `name` is kept.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.path().join("state/certs").join(name)
    }

    /// Runs `renewd` with this configuration to its end.
    ///
    /// # Panics
    ///
    /// If it takes longer than three minutes.
    #[track_caller]
    pub fn renewd(&self, args: &[&str]) -> Finished {
        run(&mut self.command(args), RUN_LIMIT)
    }

    /// Starts `renewd` with this configuration, to run until it is dropped or told to end.
    #[must_use]
    #[track_caller]
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_with(args, &[])
    }

    /// As [`Workspace::spawn`], with `variables` in its environment.
    #[must_use]
    #[track_caller]
    pub fn spawn_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        Running::start("renewd", &mut command, &self.path().join("renewd.log"))
    }

    /// Starts `renewd` as systemd starts a service with a socket: `socket` is handed over, called
    /// `name`. What it writes is in `NAME.log` in this folder.
    #[must_use]
    #[track_caller]
    pub fn spawn_activated(&self, name: &str, socket: UnixListener, args: &[&str]) -> Running {
        let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_renewd")]).args(args);
        command.env("LISTEN_FDNAMES", name).env("RENEWD_CONFIG", self.config_file());
        let log = self.path().join(format!("{name}.log"));
        Running::start_with(name, &mut command, &log, OwnedFd::from(socket).into())
    }

    /// The command line, with nothing of the test's environment but PATH.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_renewd"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.path());
        command.env("RENEWD_CONFIG", self.config_file()).current_dir(self.path());
        command.args(args);
        command
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}
