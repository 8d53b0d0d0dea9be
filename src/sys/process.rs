//! Starts programs: an argument list and no shell, a clean environment, a process group of their
//! own, a time limit, and an output that is read to its end but kept only in part.
//!
//! A program may hang, fork, ignore signals, or print a gigabyte: none of it stops the agent.
//! When the limit passes the whole group is told to end (TERM), and killed two seconds later.
//!
//! Where we are process 1, as in a container, the system leaves us what others' children leave:
//! [`reap_orphans`] takes it.
//!
//! Not here: which programs, and what their exit means.

#![expect(clippy::disallowed_methods, reason = "this is what starts programs for all others")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::trust::{self, DistrustError};
use crate::model::escaped;

/// How much of a program's output is kept, in bytes; the rest is read and thrown away.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// How much of a line is repeated in a message, in characters.
const MAX_TOLD: usize = 500;

/// Where programs without a slash in their name are looked for.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// From the polite request to end until the group is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Our own children, whose end somebody here waits for.
static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Read while one is started, so that none is taken for somebody else's before it is among those.
static STARTING: RwLock<()> = RwLock::new(());

/// A program to be run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment, besides `PATH` and `LANG=C.UTF-8`.
    pub environment: Vec<(String, OsString)>,
    /// What it reads from its standard input.
    pub input: Vec<u8>,
    /// The folder it runs in; `/` if `None`.
    pub directory: Option<PathBuf>,
    /// When it is killed.
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What came of a program that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Standard output and standard error, at most [`MAX_OUTPUT`] bytes, control characters
    /// escaped, line ends kept.
    pub output: String,
}

/// A program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The argument list is empty.
    #[error("no program is named")]
    Nothing,
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could have put it there, so it was not started.
    #[error("{program} is not run as root")]
    Untrusted {
        /// The program.
        program: String,
        /// Who could.
        #[source]
        source: DistrustError,
    },
    /// It did not end in time and was killed with all its children.
    #[error("{program} did not end within {} and was killed", humantime::format_duration(*limit))]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
        /// What it had printed.
        output: String,
    },
    /// It ended, and not with exit code 0.
    #[error("{program} {}", ended_text(ended, output))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: Ended,
        /// What it printed.
        output: String,
    },
}

/// Where the program `name` is, if there is one that can be run. A name without a slash is looked
/// for in [`SEARCH_PATH`]. Blocks.
///
/// # Errors
///
/// [`ProcessError::Start`] if it is not there, or is no program.
pub fn find(name: &str) -> Result<PathBuf, ProcessError> {
    let failed = |kind: std::io::ErrorKind| ProcessError::Start {
        program: name.to_owned(),
        source: kind.into(),
    };
    let path = located(name).ok_or_else(|| failed(std::io::ErrorKind::NotFound))?;
    let is_program = path.metadata().is_ok_and(|it| it.permissions().mode() & 0o111 != 0);
    if is_program { Ok(path) } else { Err(failed(std::io::ErrorKind::PermissionDenied)) }
}

/// Where a file called `name` is.
fn located(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|it| it.is_file());
    }
    SEARCH_PATH.split(':').map(|it| Path::new(it).join(name)).find(|it| it.is_file())
}

/// Where the program `name` is, if nobody but root and the present user can change
/// it. A name without a slash is looked for in [`SEARCH_PATH`]. Blocks.
///
/// # Errors
///
/// [`ProcessError::Start`] if it is not there, [`ProcessError::Untrusted`] if others can change it.
pub fn find_trusted(name: &str) -> Result<PathBuf, ProcessError> {
    let missing = || ProcessError::Start {
        program: name.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    };
    let path = located(name).ok_or_else(missing)?;
    trust::check(&path)
        .map_err(|source| ProcessError::Untrusted { program: name.to_owned(), source })?;
    // The name it was called by stays: some programs are what they are called.
    Ok(path)
}

/// Runs `program` to its end. Exit code 0 is the only success.
///
/// On return nothing of its process group is left running.
///
/// # Errors
///
/// If it could not be started, was killed at the limit, or did not exit with 0.
pub async fn run(program: &Program) -> Result<Finished, ProcessError> {
    let name = program.arguments.first().ok_or(ProcessError::Nothing)?.clone();
    let limit = program.timeout;
    let Ok(started) = timeout(limit, start(program)).await else {
        return Err(ProcessError::TimedOut { program: name, limit, output: String::new() });
    };
    let failed = |source| ProcessError::Start { program: name.clone(), source };
    let (mut child, group) = started.map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let input = child.stdin.take();
    let content = program.input.clone();
    let feed = async move {
        if let Some(mut input) = input {
            // A program that does not read its input is no fault of ours.
            drop(input.write_all(&content).await);
        }
    };
    let mut kept = (Vec::new(), Vec::new());
    let reading =
        async { tokio::join!(drain(stdout, &mut kept.0), drain(stderr, &mut kept.1), feed) };

    // The pipes may be held open by a grandchild that outlives the program: the program's own end
    // is what counts, and what the pipes hold then is all that is waited for.
    let ended = {
        let mut reading = std::pin::pin!(reading);
        let waiting = async {
            tokio::select! {
                status = child.wait() => {
                    drop(timeout(GRACE, &mut reading).await);
                    status
                }
                _ = &mut reading => child.wait().await,
            }
        };
        timeout(program.timeout, waiting).await
    };
    group.end(&mut child).await;
    let output = text_of(&kept.0, &kept.1);
    let Ok(status) = ended else {
        return Err(ProcessError::TimedOut { program: name, limit, output });
    };
    let status = status.map_err(|source| ProcessError::Start { program: name.clone(), source })?;
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    };
    if ended == Ended::Code(0) {
        Ok(Finished { ended, output })
    } else {
        Err(ProcessError::Failed { program: name, ended, output })
    }
}

/// A program that runs beside this process. Its standard input ends when this is dropped or this
/// process is gone, which is its sign to end: so also where we may not signal it any more.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    input: Option<ChildStdin>,
}

/// Starts `arguments` to run beside this process, with what it has to say on our standard error.
///
/// # Errors
///
/// If it could not be started.
pub fn accompany(arguments: &[OsString]) -> Result<Companion, ProcessError> {
    let (name, rest) = arguments.split_first().ok_or(ProcessError::Nothing)?;
    let mut command = Command::new(name);
    command
        .args(rest)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // The terminal's interrupt is for us: it ends when we have done with it.
        .process_group(0);
    let spawned = spawn(&mut command);
    let program = || name.to_string_lossy().into_owned();
    let mut child = spawned.map_err(|source| ProcessError::Start { program: program(), source })?;
    let input = child.stdin.take();
    Ok(Companion { child, input })
}

impl Companion {
    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Has it end, and waits up to `limit` until it has.
    pub async fn end(mut self, limit: Duration) {
        drop(self.input.take());
        drop(timeout(limit, self.child.wait()).await);
    }
}

/// Starts `program` on a thread of its own: where the file system that it is on hangs, that does
/// not come back.
async fn start(program: &Program) -> std::io::Result<(Child, Group)> {
    let (name, arguments) = program.arguments.split_first().ok_or(std::io::ErrorKind::NotFound)?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LANG", "C.UTF-8")
        .envs(program.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(program.directory.clone().unwrap_or_else(|| PathBuf::from("/")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // The group is made there: whoever waits here may give up meanwhile.
    let started = spawn_blocking(move || {
        let child = spawn(&mut command)?;
        let group = Group::of(&child);
        Ok((child, group))
    });
    started.await?
}

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    awaited().extend(child.id());
    Ok(child)
}

fn awaited() -> MutexGuard<'static, BTreeSet<u32>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the exit states of processes that the system made children of ours because their parents
/// are gone, and that have ended: nobody else will. Only process 1 is left such; for all others
/// nothing happens. Blocks for no longer than it takes to look through `/proc`.
pub fn reap_orphans() {
    if std::process::id() != 1 {
        return;
    }
    let Ok(_starting) = STARTING.try_write() else { return };
    let awaited = awaited();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|it| it.parse::<u32>().ok());
        let Some(number) = number.filter(|it| !awaited.contains(it)) else { continue };
        let status = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if is_ended_child_of(&status, 1)
            && let Some(id) = Pid::from_raw(number.cast_signed())
        {
            // Gone already is as good.
            waitpid(Some(id), WaitOptions::NOHANG).unwrap_or_default();
        }
    }
}

/// Whether `status`, as `/proc/PID/stat` has it, is of a child of `parent` that has ended and was
/// not waited for.
fn is_ended_child_of(status: &str, parent: u32) -> bool {
    // Names may hold anything, closing brackets too: the last one ends the name.
    let Some((_, rest)) = status.rsplit_once(')') else { return false };
    let mut fields = rest.split_whitespace();
    fields.next() == Some("Z") && fields.next() == Some(parent.to_string().as_str())
}

/// A program's process group, which is ended when its work is given up, however that comes.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Ends whatever still runs: politely if the program itself does, and then by force.
    async fn end(mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        if child.id().is_some() {
            signal_group(group, Signal::TERM);
            drop(timeout(GRACE, child.wait()).await);
        }
        signal_group(group, Signal::KILL);
        drop(child.wait().await);
        self.0 = None;
        forget(group);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            signal_group(group, Signal::KILL);
            forget(group);
        }
    }
}

/// Nobody waits any more for the child whose group is `group`.
fn forget(group: Pid) {
    awaited().remove(&group.as_raw_nonzero().get().cast_unsigned());
}

fn signal_group(group: Pid, signal: Signal) {
    // A group that is gone already is what is wanted.
    kill_process_group(group, signal).unwrap_or_default();
}

pub(super) async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(count.min(room)));
    }
}

/// What was printed, line by line. What is too long is cut; the reason for a failure, which stands
/// on standard error as a rule, has its room whatever is on standard output.
pub(super) fn text_of(stdout: &[u8], stderr: &[u8]) -> String {
    let mut text = String::new();
    for (stream, limit) in [(stdout, MAX_OUTPUT / 2), (stderr, MAX_OUTPUT)] {
        for line in stream.split(|byte| *byte == b'\n') {
            let line = escaped(&String::from_utf8_lossy(line));
            let room = limit.saturating_sub(text.len() + 1);
            let line = line.trim_end();
            let (line, _) = line.split_at(line.floor_char_boundary(room));
            if !line.trim().is_empty() {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

pub(super) fn ended_text(ended: &Ended, output: &str) -> String {
    let mut text = match ended {
        Ended::Code(code) => format!("ended with exit code {code}"),
        Ended::Signal(signal) => format!("was ended by signal {signal}"),
    };
    // People look for the reason at the end of what a program printed.
    let last: Vec<&str> = output.lines().rev().take(3).collect();
    for (number, line) in last.iter().rev().enumerate() {
        text.push_str(if number == 0 { ": " } else { " | " });
        text.extend(line.chars().take(MAX_TOLD));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Program {
        Program {
            arguments: vec!["sh".into(), "-c".into(), script.into()],
            environment: vec![("RENEWD_NAME".into(), "example".into())],
            input: b"from the agent\n".to_vec(),
            directory: None,
            timeout: limit,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_gets_its_input_and_a_clean_environment() {
        let finished = run(&shell("cat; env | sort", LONG)).await.unwrap();
        let lines: Vec<&str> = finished.output.lines().collect();
        assert_eq!(lines.first(), Some(&"from the agent"));
        assert!(lines.contains(&"RENEWD_NAME=example"));
        assert!(!finished.output.contains("CARGO"), "{}", finished.output);
    }

    #[tokio::test]
    async fn a_failure_says_how_it_ended_and_what_was_printed() {
        let error = run(&shell("echo broken >&2; exit 3", LONG)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit code 3: broken");
        let error = run(&shell("kill -9 $$", LONG)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh was ended by signal 9");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let program = Program { arguments: vec!["/no/such".into()], ..shell("", LONG) };
        assert_eq!(run(&program).await.unwrap_err().to_string(), "cannot start /no/such");
        let program = Program { arguments: vec![], ..shell("", LONG) };
        assert!(matches!(run(&program).await, Err(ProcessError::Nothing)));
    }

    /// P04: a program hangs, forks, ignores TERM, holds the pipe.
    #[tokio::test]
    async fn a_hanging_program_that_ignores_signals_is_killed_with_its_children() {
        let script = "trap '' TERM; (trap '' TERM; sleep 300) & echo $!; sleep 300";
        let error = run(&shell(script, Duration::from_secs(3))).await.unwrap_err();
        let ProcessError::TimedOut { output, .. } = error else { panic!("{error}") };
        let child: i32 = output.trim().parse().unwrap();
        let gone = || !Path::new(&format!("/proc/{child}/exe")).exists();
        for _ in 0..500 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {child} still runs");
    }

    #[tokio::test]
    async fn a_companion_ends_with_its_input_and_not_before() {
        let arguments = ["sh", "-c", "cat >/dev/null"].map(OsString::from);
        let mut companion = accompany(&arguments).unwrap();
        assert!(!companion.has_ended());
        let id = companion.child.id().unwrap();
        companion.end(LONG).await;
        assert!(!Path::new(&format!("/proc/{id}/exe")).exists());
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipes_does_not_hold_us() {
        let finished = run(&shell("sleep 300 & echo done", LONG)).await.unwrap();
        assert_eq!(finished.output, "done\n");
    }

    #[test]
    fn only_what_has_ended_and_was_left_to_us_is_an_orphan() {
        assert!(is_ended_child_of("17 (sh) Z 1 17 17 0 -1", 1));
        assert!(is_ended_child_of("17 (a) b (c) Z 1 17", 1));
        assert!(!is_ended_child_of("17 (sh) S 1 17", 1));
        assert!(!is_ended_child_of("17 (sh) Z 12 17", 1));
        assert!(!is_ended_child_of("17 (sh", 1));
        assert!(!is_ended_child_of("", 1));
    }

    /// P05: what never ends, in one line, with bytes that are no text and would steer a terminal.
    #[tokio::test]
    async fn what_is_printed_without_end_is_read_until_the_limit_and_kept_in_part() {
        let script = "printf 'begin\\377\\000\\033]0;title\\007'; exec cat /dev/zero";
        let error = run(&shell(script, Duration::from_secs(2))).await.unwrap_err();
        let ProcessError::TimedOut { output, .. } = error else { panic!("{error}") };
        assert!(output.starts_with("begin"), "{}", &output[..20]);
        let is_plain = |it: char| it == '\n' || !it.is_control();
        assert!(output.chars().all(is_plain), "{}", &output[..80]);
        assert!((MAX_OUTPUT / 4..=MAX_OUTPUT).contains(&output.len()), "{}", output.len());
    }

    #[tokio::test]
    async fn a_flood_is_read_to_its_end_and_kept_in_part() {
        let script = "head -c 20000000 /dev/zero | tr '\\0' x; printf '\\033[31m' >&2";
        let finished = run(&shell(script, LONG)).await.unwrap();
        assert!(finished.output.len() <= MAX_OUTPUT, "{}", finished.output.len());
        assert!(!finished.output.contains('\x1b'));
    }

    #[tokio::test]
    async fn a_flood_hides_neither_its_beginning_nor_the_reason_on_standard_error() {
        let script = "head -c 200000 /dev/zero | tr '\\0' x; echo the reason >&2; exit 1";
        let error = run(&shell(script, LONG)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sh ended with exit code 1: xxx"), "{text}");
        assert!(text.ends_with("x | the reason") && text.len() < 2000, "{text}");
    }
}
