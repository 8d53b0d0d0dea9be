//! A service manager's ear: what a daemon tells over `NOTIFY_SOCKET` (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::wait::eventually;

/// Hears one daemon.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Supervisor {
    /// Listens on a socket in `folder`.
    #[must_use]
    #[track_caller]
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, heard: Vec::new() }
    }

    /// Has `command` tell how it is, and show life at least every `watchdog`.
    pub fn supervise(&self, command: &mut Command, watchdog: Duration) {
        command.env("NOTIFY_SOCKET", &self.path);
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    /// All datagrams up to now, in their order.
    #[track_caller]
    pub fn heard(&mut self) -> &[String] {
        let mut buffer = [0; 8192];
        while let Ok(count) = self.socket.recv(&mut buffer) {
            let (message, _) = buffer.split_at(count);
            self.heard.push(String::from_utf8_lossy(message).into_owned());
        }
        &self.heard
    }

    /// Waits for a datagram that holds `wanted`, and forgets it and all before it.
    #[track_caller]
    pub fn await_message(&mut self, limit: Duration, wanted: &str) -> String {
        eventually(limit, &format!("{wanted:?} is told"), || {
            let found = self.heard().iter().position(|it| it.contains(wanted));
            match found.and_then(|it| self.heard.drain(..=it).next_back()) {
                Some(message) => Ok(message),
                None => Err(self.heard.clone()),
            }
        })
    }
}
