//! A disk that fails when a test says so: a library that is loaded before the system's
//! (`failing.c`), which has one call below a folder fail, and notes all of them.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::power::Change;
use super::process::{program, run};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/failing.c");

/// How long the C compiler may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The library, built.
#[derive(Debug)]
pub struct FailingDisk {
    folder: TempDir,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// `open`, `write`, `fsync`, `rename`, `mkdir`, `symlink` or `unlink`.
    pub call: &'static str,
    /// The first of these calls that fails, from 1.
    pub at: usize,
    /// The last.
    pub until: usize,
    /// With which error.
    pub errno: i32,
}

/// A call as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As in [`Failure::call`].
    pub call: String,
    /// For which file or folder; of a rename where from.
    pub path: PathBuf,
    /// The mode that something was made with; 0 where nothing was.
    pub mode: u32,
    /// Whether it was made to fail.
    pub failed: bool,
}

impl FailingDisk {
    /// Builds it.
    ///
    /// # Panics
    ///
    /// Without a C compiler.
    #[must_use]
    #[track_caller]
    pub fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("failing.so");
        let mut command = program(&["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o"]);
        let built = run(command.arg(library).args([SOURCE, "-ldl"]), LIMIT);
        assert_eq!(built.code, 0, "{built}");
        Self { folder }
    }

    /// Has `command` meet `failure` below `folder`; none if it is only to be watched.
    pub fn below<'a>(
        &self,
        command: &'a mut Command,
        folder: &Path,
        failure: Option<Failure>,
    ) -> &'a mut Command {
        std::fs::write(self.log(), "").unwrap();
        command.env("LD_PRELOAD", self.folder.path().join("failing.so"));
        command.env("FAILING_BELOW", folder).env("FAILING_LOG", self.log());
        if let Some(Failure { call, at, until, errno }) = failure {
            command.env("FAILING_CALL", call).env("FAILING_AT", at.to_string());
            command.env("FAILING_UNTIL", until.to_string());
            command.env("FAILING_ERRNO", errno.to_string());
        }
        command
    }

    /// Has all that `command` changes below `folder` put on record.
    pub fn recorded<'a>(&self, command: &'a mut Command, folder: &Path) -> &'a mut Command {
        std::fs::write(self.record(), "").unwrap();
        command.env("LD_PRELOAD", self.folder.path().join("failing.so"));
        command.env("FAILING_BELOW", folder).env("FAILING_RECORD", self.record())
    }

    /// What the last command of [`FailingDisk::recorded`] changed, in its order.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        Change::read_all(&std::fs::read(self.record()).unwrap())
    }

    /// What the last command of [`FailingDisk::below`] did there.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let read = |line: &str| {
            let mut words = line.rsplitn(3, ' ');
            let failed = words.next()? == "1";
            let mode = u32::from_str_radix(words.next()?, 8).ok()?;
            let (call, path) = words.next()?.split_once(' ')?;
            Some(Call { call: call.to_owned(), path: path.into(), mode, failed })
        };
        text.lines().filter_map(read).collect()
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("record")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("calls")
    }
}
