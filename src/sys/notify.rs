//! Tells whoever started this process how it is (`sd_notify(3)`): ready, reloading, ending, alive,
//! and one line for people.
//!
//! Each message is one datagram to the socket that `NOTIFY_SOCKET` names, a path or (with `@`) an
//! abstract address; without that variable there is nobody to tell, and nothing is told. Programs
//! that we start never see the variable: [`super::process`] gives them an environment of their own.
//!
//! Not here: when what is told ([`crate::daemon`]).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::clock;
use crate::model::escaped;

/// Names the socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// After how many microseconds without a sign of life the process is killed.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// For which process that holds: the variables may be an ancestor's.
const WATCHED_VARIABLE: &str = "WATCHDOG_PID";
/// How long one message may wait for its reader: whoever does not read must not hold us up.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);
/// The longest line for people, in characters.
const MAX_LINE: usize = 400;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The start, or a reload, is over.
    Ready,
    /// A reload has begun; [`Message::Ready`] ends it, also if it came to nothing.
    Reloading,
    /// The end has begun.
    Stopping,
    /// The process is alive.
    Alive,
    /// How it is, in one line.
    Status(&'a str),
}

/// Whoever started this process, and wants to know how it is.
#[derive(Debug, Default)]
pub struct Supervisor {
    way: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

/// What is told does not reach the supervisor.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The variable names no address that we know.
    #[error("NOTIFY_SOCKET names no socket: {address:?}")]
    Address {
        /// What it says.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused the message, or its reader left it lying.
    #[error("cannot tell the service manager {message}")]
    Send {
        /// What it was to hear.
        message: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Supervisor {
    /// The one that `variable` names, which answers with the values of the process's environment.
    /// There may be none.
    ///
    /// # Errors
    ///
    /// If there is one and it can't be told anything.
    pub fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, NotifyError> {
        let Some(text) = variable(SOCKET_VARIABLE).filter(|it| !it.is_empty()) else {
            return Ok(Self::default());
        };
        let way = way(&text).map_err(|source| NotifyError::Address { address: text, source })?;
        let is_ours =
            variable(WATCHED_VARIABLE).is_none_or(|it| it == std::process::id().to_string());
        let limit = variable(WATCHDOG_VARIABLE).filter(|_| is_ours);
        let limit = limit.and_then(|it| it.parse().ok()).filter(|it| *it > 0);
        Ok(Self { way: Some(way), watchdog: limit.map(Duration::from_micros) })
    }

    /// After how long without [`Message::Alive`] this process is killed, if ever.
    #[must_use]
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells `messages` at once. Waits at most a quarter of a second.
    ///
    /// # Errors
    ///
    /// If they did not get through; none of them did then.
    pub fn tell(&self, messages: &[Message<'_>]) -> Result<(), NotifyError> {
        let Some((socket, address)) = &self.way else { return Ok(()) };
        let lines: Vec<String> = messages.iter().map(line).collect();
        let text = lines.join("\n");
        match socket.send_to_addr(text.as_bytes(), address) {
            Ok(_) => Ok(()),
            Err(source) => Err(NotifyError::Send { message: text.replace('\n', " "), source }),
        }
    }
}

fn way(address: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if address.starts_with('/') => SocketAddr::from_pathname(address)?,
        None => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

fn line(message: &Message<'_>) -> String {
    match message {
        Message::Ready => "READY=1".to_owned(),
        // Without the moment, newer supervisors take a reload for one of before.
        Message::Reloading => {
            format!("RELOADING=1\nMONOTONIC_USEC={}", clock::since_boot().as_micros())
        }
        Message::Stopping => "STOPPING=1".to_owned(),
        Message::Alive => "WATCHDOG=1".to_owned(),
        // A line end in it would begin another message.
        Message::Status(text) => {
            let text: String = escaped(text).chars().take(MAX_LINE).collect();
            format!("STATUS={text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(
        pairs: &[(&'static str, &str)],
    ) -> impl Fn(&'static str) -> Option<String> + use<> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        move |name| pairs.iter().find(|(it, _)| *it == name).map(|(_, value)| value.clone())
    }

    fn received(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn several_messages_are_one_datagram_and_a_line_end_begins_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        let supervisor = Supervisor::from_variables(variables(&[("NOTIFY_SOCKET", path)])).unwrap();
        supervisor.tell(&[Message::Ready, Message::Status("a\nSTOPPING=1")]).unwrap();
        let text = received(&socket);
        assert!(text.starts_with("READY=1\nSTATUS=a"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        supervisor.tell(&[Message::Status(&"x".repeat(9000))]).unwrap();
        assert!(received(&socket).len() < 500);
        assert_eq!(supervisor.watchdog(), None);
    }

    #[test]
    fn a_reload_carries_the_moment_of_the_clock_that_never_steps() {
        let name = format!("@renewd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor =
            Supervisor::from_variables(variables(&[("NOTIFY_SOCKET", &name)])).unwrap();
        let before = clock::since_boot().as_micros();
        supervisor.tell(&[Message::Reloading]).unwrap();
        let text = received(&socket);
        let moment = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let moment: u128 = moment.parse().unwrap();
        assert!((before..=clock::since_boot().as_micros()).contains(&moment), "{text}");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        let limit = |pid: &str| {
            let pairs =
                [("NOTIFY_SOCKET", "/x"), ("WATCHDOG_USEC", "5000000"), ("WATCHDOG_PID", pid)];
            Supervisor::from_variables(variables(&pairs)).unwrap().watchdog()
        };
        assert_eq!(limit(&own), Some(Duration::from_secs(5)));
        assert_eq!(limit("1"), None);
    }

    #[test]
    fn without_a_supervisor_nothing_is_told_and_one_that_is_gone_is_an_error() {
        let nobody = Supervisor::from_variables(|_| None).unwrap();
        nobody.tell(&[Message::Ready]).unwrap();
        let gone = [("NOTIFY_SOCKET", "/nowhere/notify")];
        let gone = Supervisor::from_variables(variables(&gone)).unwrap();
        let error = gone.tell(&[Message::Stopping]).unwrap_err();
        assert_eq!(error.to_string(), "cannot tell the service manager STOPPING=1");
        let strange = [("NOTIFY_SOCKET", "vsock:2:1234")];
        assert!(Supervisor::from_variables(variables(&strange)).is_err());
    }
}
