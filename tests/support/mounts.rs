//! File systems that are mounted for one test alone: in a mount namespace that nobody else sees,
//! and that goes away with its value.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Finished, Running, program, run};
use super::wait::eventually;

/// How long a mount may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A mount namespace, held by a process that sleeps in it.
#[derive(Debug)]
pub struct Mounts {
    holder: Running,
    _folder: TempDir,
}

impl Mounts {
    /// A namespace with the mounts of the machine.
    ///
    /// # Panics
    ///
    /// If it cannot be made: that needs root. A test of disks without disks has failed, it is not
    /// skipped.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("ready");
        let script = "touch \"$0\" && exec sleep 3600";
        let mut command =
            program(&["unshare", "-m", "--propagation", "private", "sh", "-c", script]);
        let log = folder.path().join("log");
        let mut holder = Running::start("unshare", command.arg(&marker), &log);
        eventually(
            LIMIT,
            "there is a mount namespace (this test mounts, and needs root)",
            || match (marker.exists(), holder.ended()) {
                (true, None) => Ok(()),
                (_, ended) => Err((ended, holder.log())),
            },
        );
        Self { holder, _folder: folder }
    }

    /// `command`, to be run with the mounts of this namespace. It begins in `/`.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut entering = Command::new("nsenter");
        entering.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid())).arg("--");
        entering.arg(command.get_program()).args(command.get_args()).env_clear();
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                entering.env(key, value);
            }
        }
        entering.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        entering
    }

    /// Runs the program `args` in it, which has to go well.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Finished {
        let done = run(&mut self.inside(&program(args)), LIMIT);
        assert_eq!(done.code, 0, "{args:?} (mounting needs root): {done}");
        done
    }

    /// Mounts an empty file system in memory at `path`, with `options` such as `size=4m`.
    #[track_caller]
    pub fn mount_memory(&self, path: &Path, options: &str) {
        self.run(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", path.to_str().unwrap()]);
    }
}

impl Default for Mounts {
    fn default() -> Self {
        Self::new()
    }
}
