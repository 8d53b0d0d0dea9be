//! The signals that the process itself gets: reload and end.

use std::path::Path;
use std::{fs, io};

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: end.
    End,
}

/// Waits for signals. From its making on, none of them ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    hangup: Option<unix::Signal>,
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// If the system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        let hangup = Some(unix::signal(SignalKind::hangup())?);
        Ok(Self { hangup, ..Self::listen_to_the_end()? })
    }

    /// The same, but for SIGHUP where whoever started this process had it ignored, as `nohup` does.
    ///
    /// # Errors
    ///
    /// If the system refuses the handlers.
    pub fn listen_unless_ignored() -> io::Result<Self> {
        // A handler takes the place of what was inherited, so this comes first.
        let is_ignored = is_hangup_ignored(Path::new("/proc/self/status"));
        let mut signals = Self::listen_to_the_end()?;
        if !is_ignored {
            signals.hangup = Some(unix::signal(SignalKind::hangup())?);
        }
        Ok(signals)
    }

    fn listen_to_the_end() -> io::Result<Self> {
        Ok(Self {
            hangup: None,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal; several of one kind that came meanwhile are one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = hung_up(self.hangup.as_mut()) => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
        }
    }
}

async fn hung_up(hangup: Option<&mut unix::Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process whose status stands in the file `status` ignores SIGHUP. Where that can't be
/// read, as without /proc, it counts as not ignored, which is how nearly all processes begin.
fn is_hangup_ignored(status: &Path) -> bool {
    fs::read_to_string(status).is_ok_and(|it| ignores_hangup(&it))
}

/// Whether the process that `status` (`/proc/PID/status`) is of ignores SIGHUP, the first of the
/// mask.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    mask.is_some_and(|it| it & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_from_the_start_is_seen_in_the_mask() {
        let status =
            |mask: &str| format!("Name:\tx\nSigBlk:\tffffffff\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(ignores_hangup(&status("0000000000000001")));
        assert!(ignores_hangup(&status("0000000000001003")));
        assert!(!ignores_hangup(&status("0000000000001002")));
        assert!(!ignores_hangup(""));
    }

    #[test]
    fn without_proc_nothing_counts_as_ignored() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_hangup_ignored(&folder.path().join("status")));
    }
}
