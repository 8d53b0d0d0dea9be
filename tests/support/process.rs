//! Programs that a test runs to their end, or keeps running until it is over.

#![expect(clippy::disallowed_methods, reason = "tests start programs, and write down their output")]
#![expect(clippy::print_stderr, reason = "a test that fails shows the logs of its peers")]

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::wait::eventually;

/// How long a peer may take to end by itself before it is killed.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The command line `args`, for [`run`] and [`Running::start`].
///
/// # Panics
///
/// If it is empty.
#[must_use]
#[track_caller]
pub fn program(args: &[impl AsRef<OsStr>]) -> Command {
    let (name, rest) = args.split_first().unwrap();
    let mut command = Command::new(name);
    command.args(rest);
    command
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// All it wrote to standard output.
    pub stdout: String,
    /// All it wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs `command` to its end, with nothing on its standard input.
///
/// # Panics
///
/// If it cannot start, or has not ended after `limit`; it is killed then, with all it started.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let name = format!("{command:?}");
    // Files, not pipes: they never fill up, and a grandchild that holds one cannot block us.
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let mut child = Group::spawn(command);
    let status = eventually(limit, &format!("{name} ends"), || child.ended().ok_or("running"));
    Finished {
        code: status.code().unwrap_or(-1),
        stdout: text_of(&mut stdout),
        stderr: text_of(&mut stderr),
    }
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A program that runs until this is dropped, or until it is told to end.
///
/// Its standard output and error go to one log, which is printed if the test panics.
#[derive(Debug)]
pub struct Running {
    name: String,
    log: PathBuf,
    child: Group,
}

impl Running {
    /// Starts `command`, called `name` in messages, with its output in the file `log`.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let mut file = File::options().create(true).append(true).open(log).unwrap();
        writeln!(file, "--- {command:?}").unwrap();
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = Group::spawn(command);
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// As [`Running::start`], with `input` as the standard input.
    #[track_caller]
    pub fn start_with(name: &str, command: &mut Command, log: &Path, input: Stdio) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(input).stdout(file.try_clone().unwrap()).stderr(file);
        let child = Group::spawn(command);
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.child.id()
    }

    /// All it has written, from every start with the same log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has; -1 stands for a signal.
    #[must_use]
    pub fn ended(&mut self) -> Option<i32> {
        self.child.ended().map(|status| status.code().unwrap_or(-1))
    }

    /// Sends `signal` to this process alone; nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // The id of a child that was waited for can belong to a stranger.
        if self.ended().is_none() {
            rustix::process::kill_process(self.child.id(), signal).unwrap();
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    ///
    /// If it has not ended after `limit`.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> i32 {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Kills it and all that it started (SIGKILL): what a power cut looks like from inside.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    ///
    /// If it has not ended after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let what = format!("{} ends", self.name);
        eventually(limit, &what, || self.ended().ok_or_else(|| self.log()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

/// A child in a process group of its own, which ends with this value.
#[derive(Debug)]
struct Group {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Group {
    #[track_caller]
    fn spawn(command: &mut Command) -> Self {
        let spawned = command.process_group(0).spawn();
        let child = spawned.unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"));
        Self { child, ended: None }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// How the child ended, if it has; what it left in its group is killed then.
    fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(self.id()), options).unwrap()?;
            self.kill();
        }
        self.ended
    }

    /// Kills the group and reaps the child: in this order, since the id of the group is ours only
    /// while the child has not been reaped.
    fn kill(&mut self) {
        if self.ended.is_none() {
            rustix::process::kill_process_group(self.id(), Signal::KILL).ok();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended().is_none() {
            rustix::process::kill_process(self.id(), Signal::TERM).ok();
            super::wait::within(END_LIMIT, || self.ended().is_some());
        }
        self.kill();
    }
}
