//! A server of our own, which is there only while there is something to prove: over HTTP for
//! http-01, over TLS for tls-alpn-01.
//!
//! All addresses are opened at the first proof and closed with the last one; the proofs of several
//! orders share them. An address that systemd handed over is taken as it is ([`handed`]).
//!
//! Not here: what is said on a connection ([`super::http01`], [`super::tls_alpn01`]) and the limits
//! of connections ([`connections`]).

mod connections;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzz;
mod handed;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::AbortHandle;

use super::tls_alpn01::ChallengeCertificate;
use super::{CleanUp, Presented, Solver, SolverError, suited};
use crate::model::{ChallengeType, Identifier, Proof, Token};
use connections::serve;

pub(super) use connections::Limits;
pub use handed::HandedSockets;

/// How many connections the system keeps for us until we accept them.
const BACKLOG: u32 = 128;

/// What is said on the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialogue {
    /// http-01 (RFC 8555 §8.3). A server that forwards requests to it must keep their `Host`
    /// (`proxy_set_header Host $host;` in nginx).
    Http01,
    /// tls-alpn-01 (RFC 8737). A server that forwards connections to it must not end their TLS.
    TlsAlpn01,
}

impl Dialogue {
    const fn challenge_type(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }
}

impl fmt::Display for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.challenge_type().fmt(f)
    }
}

/// Shows proofs by itself, on addresses that it holds only while there are any.
#[derive(Debug)]
pub struct Listener {
    dialogue: Dialogue,
    /// Those to be opened.
    addresses: Vec<SocketAddr>,
    limits: Limits,
    board: Arc<Board>,
    /// What is shown on those that are open all the time.
    handed: Vec<Arc<Board>>,
}

impl Listener {
    /// For `dialogue` on all of `addresses` at once, of which those in `handed` are taken from
    /// there. No other is opened yet. To be called where tasks can be started.
    ///
    /// # Errors
    ///
    /// If there are none, or one that was handed over can't be used.
    pub fn new(
        dialogue: Dialogue,
        addresses: Vec<SocketAddr>,
        handed: &HandedSockets,
    ) -> Result<Self, SolverError> {
        let challenge_type = dialogue.challenge_type();
        if addresses.is_empty() {
            return Err(SolverError::NoAddress);
        }
        let mut boards = Vec::new();
        let mut own = Vec::new();
        for address in addresses {
            let failed = |source| SolverError::Listen { address, challenge_type, source };
            match handed.board(address, dialogue).map_err(failed)? {
                Some(board) => boards.push(board),
                None => own.push(address),
            }
        }
        let (limits, board) = (Limits::default(), Arc::new(Board::new(dialogue)));
        Ok(Self { dialogue, addresses: own, limits, board, handed: boards })
    }

    /// The addresses that we opened and that are open now, in the order of the configuration, with
    /// the ports that the system chose where that says 0. Empty while there is nothing to prove.
    #[must_use]
    pub fn bound_addresses(&self) -> Vec<SocketAddr> {
        let state = self.board.state();
        let listeners = state.open.iter().flat_map(|it| &it.listeners);
        listeners.filter_map(|it| it.local_addr().ok()).collect()
    }

    fn open(&self) -> Result<Open, SolverError> {
        let listeners = self.listen()?;
        let served = serve(listeners.clone(), Arc::clone(&self.board), self.limits);
        Ok(Open { listeners, task: tokio::spawn(served).abort_handle() })
    }

    /// Opens all addresses, or none.
    fn listen(&self) -> Result<Vec<Arc<TcpListener>>, SolverError> {
        let challenge_type = self.dialogue.challenge_type();
        let open = |&address| {
            let listener = self.bind(address).and_then(|it| it.listen(BACKLOG)).map(Arc::new);
            listener.map_err(|source| SolverError::Listen { address, challenge_type, source })
        };
        self.addresses.iter().map(open).collect()
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of the last time may still linger on the port.
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // Alone, [::] means IPv4 too, whatever the system's default; beside 0.0.0.0 it must
            // not.
            let any_v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            let v6_only = !address.ip().is_unspecified() || self.addresses.contains(&any_v4);
            sockopt::set_ipv6_v6only(&socket, v6_only)?;
        }
        socket.bind(address)?;
        Ok(socket)
    }
}

#[async_trait]
impl Solver for Listener {
    fn challenge_type(&self) -> ChallengeType {
        self.dialogue.challenge_type()
    }

    async fn check(&self) -> Result<(), SolverError> {
        let state = self.board.state();
        if state.open.is_some() {
            return Ok(());
        }
        // For a moment they are really open, since only that shows whether another program, or one
        // of our own addresses, stands in the way: binding alone is allowed beside a listener.
        drop(self.listen()?);
        Ok(())
    }

    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError> {
        suited(proof, self.dialogue.challenge_type())?;
        let shown = Arc::new(match self.dialogue {
            Dialogue::Http01 => Shown::Http01(proof.clone()),
            Dialogue::TlsAlpn01 => Shown::TlsAlpn01(ChallengeCertificate::new(proof)?),
        });
        let mut state = self.board.state();
        if !self.addresses.is_empty() && state.open.as_ref().is_none_or(|it| it.task.is_finished())
        {
            state.open = None;
            state.open = Some(self.open()?);
        }
        // Under the same lock: the end of another proof would close what was just opened.
        let own = self.board.show_in(&mut state, &shown);
        // Not under it: what was shown so far goes away if one of the others is busy.
        drop(state);
        let handed = self.handed.iter().map(|it| it.show_in(&mut it.state(), &shown));
        let all: Option<Vec<Pinned>> = std::iter::once(own).chain(handed).collect();
        let busy = || SolverError::Busy { identifier: proof.identifier.clone() };
        let all = all.ok_or_else(busy)?;
        Ok(Presented(Box::new(AllPinned { _all: all })))
    }

    async fn clean_up_leftover(&self, _: &Identifier, _: &Token) -> Result<(), SolverError> {
        // What we show ends with the process.
        Ok(())
    }
}

/// What one proof looks like to those who ask.
#[derive(Debug)]
pub(super) enum Shown {
    /// A resource.
    Http01(Proof),
    /// A certificate.
    TlsAlpn01(ChallengeCertificate),
}

impl Shown {
    /// Whether those who ask could not be shown `other` too: nothing in a client hello says which
    /// order it is for.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TlsAlpn01(one), Self::TlsAlpn01(other)) => one.excludes(other),
            (Self::Http01(_) | Self::TlsAlpn01(_), _) => false,
        }
    }
}

/// What is shown, and the sockets that are open for it.
#[derive(Debug)]
pub(super) struct Board {
    dialogue: Dialogue,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with a number of its own: two orders may show the same one.
    proofs: Vec<(u64, Arc<Shown>)>,
    next_number: u64,
    /// `None` while there are no proofs, and where others opened the sockets.
    open: Option<Open>,
}

impl Board {
    pub(super) fn new(dialogue: Dialogue) -> Self {
        Self { dialogue, state: Mutex::default() }
    }

    const fn dialogue(&self) -> Dialogue {
        self.dialogue
    }

    /// The first that `choose` chooses of what is shown.
    pub(super) fn find<T>(&self, choose: impl Fn(&Shown) -> Option<T>) -> Option<T> {
        self.state().proofs.iter().find_map(|(_, shown)| choose(shown))
    }

    /// Shows it until the result is dropped, with the lock of `state` held; `None` if it can't be
    /// shown beside what is.
    fn show_in(self: &Arc<Self>, state: &mut State, shown: &Arc<Shown>) -> Option<Pinned> {
        if state.proofs.iter().any(|(_, it)| it.excludes(shown)) {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        state.proofs.push((number, Arc::clone(shown)));
        Some(Pinned { board: Arc::clone(self), number })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listening sockets and the task that serves them; closed when dropped.
#[derive(Debug)]
struct Open {
    listeners: Vec<Arc<TcpListener>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
        // The task may take a moment to go, and its share of the sockets with it. From here on
        // they take no connections, and the addresses can be opened anew.
        for listener in &self.listeners {
            shutdown(listener, Shutdown::Both).unwrap_or_default();
        }
    }
}

/// One proof that is shown, on all boards.
struct AllPinned {
    _all: Vec<Pinned>,
}

/// One proof on one board.
struct Pinned {
    board: Arc<Board>,
    number: u64,
}

#[async_trait]
impl CleanUp for AllPinned {
    async fn clean_up(self: Box<Self>) -> Result<(), SolverError> {
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = self.board.state();
        state.proofs.retain(|(number, _)| *number != self.number);
        if state.proofs.is_empty() {
            state.open = None;
        }
    }
}

#[cfg(test)]
mod tests;
