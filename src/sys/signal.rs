//! Sends a signal to the process whose number stands in a file.
//!
//! A pid file is written by others and outlives the process it names, so it is read with a bound,
//! and never taken to mean a whole group, every process, init or ourselves.
//!
//! Not here: signals that are sent to us.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, getpid, kill_process, test_kill_process};

use super::trust::DistrustError;

/// The signals that servers take as orders, without `SIG`.
pub const SIGNAL_NAMES: [&str; 7] = ["HUP", "USR1", "USR2", "INT", "TERM", "QUIT", "WINCH"];

/// A pid file holds one number and a line end; nothing longer is read.
const MAX_PID_FILE_BYTES: u64 = 64;

/// A signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// Not one of [`SIGNAL_NAMES`].
    #[error("{0:?} is no signal for a server: {list}", list = SIGNAL_NAMES.join(", "))]
    UnknownSignal(String),
    /// The pid file is missing or can't be read.
    #[error("cannot read the pid file {}", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody who is not trusted could have chosen the process.
    #[error("no process is signalled as root by the pid file {}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Who could.
        #[source]
        source: DistrustError,
    },
    /// The pid file does not hold the number of a process that may be signalled.
    #[error("the pid file {} holds no usable process number: {content:?}", path.display())]
    NoProcessNumber {
        /// The file.
        path: PathBuf,
        /// What it holds, as far as it was read.
        content: String,
    },
    /// No process has that number.
    #[error("process {number} of the pid file {} does not run", path.display())]
    NotRunning {
        /// The file.
        path: PathBuf,
        /// What it holds.
        number: i32,
    },
    /// The system refused.
    #[error("cannot signal process {number}")]
    Refused {
        /// The process.
        number: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Sends the signal called `name` to the process whose number stands in `pid_file`. Blocks for as
/// long as the file's system does.
///
/// # Errors
///
/// [`SignalError`]; nothing was sent then.
pub fn send_to_pid_file(name: &str, pid_file: &Path) -> Result<(), SignalError> {
    let signal = signal_of(name).ok_or_else(|| SignalError::UnknownSignal(name.to_owned()))?;
    let process = read_pid_file(pid_file)?;
    let number = process.as_raw_nonzero().get();
    let refused = |errno: rustix::io::Errno| match errno {
        rustix::io::Errno::SRCH => SignalError::NotRunning { path: pid_file.to_owned(), number },
        _ => SignalError::Refused { number, source: errno.into() },
    };
    test_kill_process(process).map_err(refused)?;
    kill_process(process, signal).map_err(refused)
}

fn read_pid_file(path: &Path) -> Result<Pid, SignalError> {
    let failed = |source| SignalError::PidFile { path: path.to_owned(), source };
    // The open of a FIFO would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PID_FILE_BYTES).read_to_end(&mut content).map_err(failed)?;
    let text = String::from_utf8_lossy(&content).into_owned();
    // Some servers write more lines (sendmail its command, postmaster its folder).
    let number = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
    number
        .filter(|it| *it > 1)
        .and_then(Pid::from_raw)
        .filter(|it| *it != getpid())
        .ok_or_else(|| SignalError::NoProcessNumber { path: path.to_owned(), content: text })
}

fn signal_of(name: &str) -> Option<Signal> {
    match name {
        "HUP" => Some(Signal::HUP),
        "USR1" => Some(Signal::USR1),
        "USR2" => Some(Signal::USR2),
        "INT" => Some(Signal::INT),
        "TERM" => Some(Signal::TERM),
        "QUIT" => Some(Signal::QUIT),
        "WINCH" => Some(Signal::WINCH),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic::{Access, write};

    fn send(content: &str) -> Result<(), SignalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        write(&path, content.as_bytes(), Access::mode(0o644)).unwrap();
        send_to_pid_file("WINCH", &path)
    }

    #[test]
    fn every_name_is_a_signal_and_no_other_word_is() {
        assert!(SIGNAL_NAMES.iter().all(|name| signal_of(name).is_some()));
        for wrong in ["KILL", "hup", "SIGHUP", "1", ""] {
            let sent = send_to_pid_file(wrong, Path::new("/nowhere"));
            assert!(matches!(sent, Err(SignalError::UnknownSignal(_))), "{wrong}");
        }
    }

    #[test]
    fn a_pid_file_never_means_a_group_init_everything_or_ourselves() {
        let ours = std::process::id().to_string();
        for wrong in ["", "0", "1", "-1", "-5", "12x", "99999999999", "\n12", "1\u{0}2", &ours] {
            let sent = send(wrong);
            assert!(matches!(sent, Err(SignalError::NoProcessNumber { .. })), "{wrong:?} {sent:?}");
        }
        assert!(matches!(send(&"9".repeat(1 << 20)), Err(SignalError::NoProcessNumber { .. })));
    }

    #[test]
    fn a_process_that_is_gone_and_a_missing_file_are_told_apart() {
        // The kernel's numbers end at 2^22.
        assert!(matches!(
            send("4194305\n"),
            Err(SignalError::NotRunning { number: 4_194_305, .. })
        ));
        let missing = send_to_pid_file("HUP", Path::new("/nowhere/server.pid")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the pid file /nowhere/server.pid");
        assert!(matches!(
            send_to_pid_file("HUP", Path::new("/dev/zero")),
            Err(SignalError::PidFile { .. })
        ));
    }
}
