//! Sockets that systemd bound and handed over at the start of this process (`sd_listen_fds(3)`): so
//! that a process without rights can serve a low port, and none starts before it is asked.
//!
//! Not here: which of them are used, and for what.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process;
use std::sync::Arc;

use listenfd::ListenFd;

/// Says for which process the sockets are: the environment may be an ancestor's.
const PROCESS_VARIABLE: &str = "LISTEN_PID";
/// The sockets' names, with colons between them.
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";

/// The sockets that were handed over. Copies share them.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    handed: Arc<[Socket]>,
}

#[derive(Debug)]
struct Socket {
    /// `FileDescriptorName=` of the socket unit, or that unit's own name.
    name: String,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Sockets were handed over that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// It listens on nothing that we know.
    #[error("the socket {name:?} that was handed over listens neither on a path nor on a TCP port")]
    NotAListener {
        /// Its name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("the socket {name:?} that was handed over can't be used")]
    Unusable {
        /// Its name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Sockets {
    /// Takes all sockets that were handed to this process, none of which blocks or is inherited
    /// by children from then on. The second call finds none.
    ///
    /// To be called before any thread is started: it takes `LISTEN_PID` and `LISTEN_FDS` out of
    /// the environment.
    ///
    /// # Errors
    ///
    /// If one of them is no listener.
    pub fn take() -> Result<Self, ActivationError> {
        let names = env::var(NAMES_VARIABLE).unwrap_or_default();
        // The crate takes sockets without this variable too, which only its own tool leaves out.
        let ours = env::var(PROCESS_VARIABLE).is_ok_and(|it| it == process::id().to_string());
        let mut handed = ListenFd::from_env();
        if !ours {
            return Ok(Self::default());
        }
        let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
        let indices = 0..handed.len();
        let take = |(index, name)| socket(&mut handed, index, name);
        let sockets = indices.zip(names).map(take).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { handed: sockets.into() })
    }

    /// As if systemd had handed over `listeners`, without names.
    #[cfg(test)]
    pub(crate) fn of_tcp(listeners: impl IntoIterator<Item = TcpListener>) -> Self {
        let socket = |listener: TcpListener| {
            listener.set_nonblocking(true).unwrap();
            Socket { name: String::new(), listener: Listener::Tcp(listener) }
        };
        Self { handed: listeners.into_iter().map(socket).collect() }
    }

    /// Whether nothing was handed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handed.is_empty()
    }

    /// The Unix sockets called `name`, in systemd's order: fit for tokio's
    /// `UnixListener::from_std`.
    ///
    /// # Errors
    ///
    /// If the system gives no more handles.
    pub fn unix(&self, name: &str) -> Result<Vec<UnixListener>, ActivationError> {
        let wanted = |it: &&Socket| it.name == name;
        let copies = self.handed.iter().filter(wanted).filter_map(|it| match &it.listener {
            Listener::Unix(listener) => Some(it.copied(listener.try_clone())),
            Listener::Tcp(_) => None,
        });
        copies.collect()
    }

    /// The TCP socket that listens on `address`, whatever it is called: fit for tokio's
    /// `TcpListener::from_std`. One that listens on all addresses is not meant by one of them.
    ///
    /// # Errors
    ///
    /// If the system gives no more handles.
    pub fn tcp(&self, address: SocketAddr) -> Result<Option<TcpListener>, ActivationError> {
        let copy = self.handed.iter().find_map(|it| match &it.listener {
            Listener::Tcp(listener) if listener.local_addr().ok() == Some(address) => {
                Some(it.copied(listener.try_clone()))
            }
            Listener::Tcp(_) | Listener::Unix(_) => None,
        });
        copy.transpose()
    }
}

impl Socket {
    fn copied<T>(&self, copy: io::Result<T>) -> Result<T, ActivationError> {
        copy.map_err(|source| ActivationError::Unusable { name: self.name.clone(), source })
    }
}

impl Listener {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }
}

/// The socket at `index`, of either kind.
fn socket(handed: &mut ListenFd, index: usize, name: String) -> Result<Socket, ActivationError> {
    let listener = match handed.take_unix_listener(index) {
        Ok(Some(listener)) => Ok(Listener::Unix(listener)),
        Ok(None) => Err(io::ErrorKind::NotFound.into()),
        Err(_not_unix) => handed
            .take_tcp_listener(index)
            .and_then(|it| it.map(Listener::Tcp).ok_or_else(|| io::ErrorKind::NotFound.into())),
    };
    let listener = match listener {
        Ok(listener) => listener,
        Err(source) => return Err(ActivationError::NotAListener { name, source }),
    };
    match listener.set_nonblocking() {
        Ok(()) => Ok(Socket { name, listener }),
        Err(source) => Err(ActivationError::Unusable { name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(listeners: impl IntoIterator<Item = (&'static str, Listener)>) -> Sockets {
        let socket = |(name, listener): (&str, _)| Socket { name: name.to_owned(), listener };
        Sockets { handed: listeners.into_iter().map(socket).collect() }
    }

    #[test]
    fn without_systemd_there_is_none() {
        assert!(Sockets::take().unwrap().is_empty());
    }

    #[test]
    fn a_unix_socket_is_found_by_its_name_and_a_tcp_socket_by_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let sockets = sockets([("deployer", Listener::Unix(unix)), ("http", Listener::Tcp(tcp))]);
        assert_eq!(sockets.unix("deployer").unwrap().len(), 1);
        assert!(sockets.unix("http").unwrap().is_empty());
        assert!(sockets.unix("other").unwrap().is_empty());
        assert_eq!(sockets.tcp(address).unwrap().unwrap().local_addr().unwrap(), address);
        assert!(sockets.tcp("0.0.0.0:80".parse().unwrap()).unwrap().is_none());
        // A reload of the configuration asks again.
        assert!(sockets.tcp(address).unwrap().is_some());
    }
}
