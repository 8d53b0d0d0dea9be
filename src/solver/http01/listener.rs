//! http-01 by a web server of our own, which is there only while there is something to prove.
//!
//! All addresses are opened at the first proof and closed with the last one; the proofs of several
//! orders share them. An address that systemd handed over is taken as it is ([`super::handed`]). It answers a known token on the host that it is for, and nothing else: a
//! server that forwards requests to it must keep their `Host`
//! (`proxy_set_header Host $host;` in nginx).
//!
//! Not here: reading requests ([`super::request`]) and the limits of connections
//! ([`super::connections`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::AbortHandle;

use super::connections::{Find, Limits, serve};
use super::handed::HandedSockets;
use super::request::Asked;
use super::suited;
use crate::model::{ChallengeType, Identifier, KeyAuthorization, Proof, Token};
use crate::solver::{CleanUp, Presented, Solver, SolverError};

/// How many connections the system keeps for us until we accept them.
const BACKLOG: u32 = 128;

/// Shows proofs by itself, on addresses that it holds only while there are any.
#[derive(Debug)]
pub struct Listener {
    /// Those to be opened.
    addresses: Vec<SocketAddr>,
    limits: Limits,
    board: Arc<Board>,
    /// What is shown on those that are open all the time.
    handed: Vec<Arc<Board>>,
}

impl Listener {
    /// For all of `addresses` at once, of which those in `handed` are taken from there. No other is
    /// opened yet. To be called where tasks can be started.
    ///
    /// # Errors
    ///
    /// If there are none, or one that was handed over can't be used.
    pub fn new(addresses: Vec<SocketAddr>, handed: &HandedSockets) -> Result<Self, SolverError> {
        if addresses.is_empty() {
            return Err(SolverError::NoAddress);
        }
        let mut boards = Vec::new();
        let mut own = Vec::new();
        for address in addresses {
            let board = handed.board(address);
            match board.map_err(|source| SolverError::Listen { address, source })? {
                Some(board) => boards.push(board),
                None => own.push(address),
            }
        }
        let (limits, board) = (Limits::default(), Arc::default());
        Ok(Self { addresses: own, limits, board, handed: boards })
    }

    /// The addresses that we opened and that are open now, in the order of the configuration, with the ports that the
    /// system chose where that says 0. Empty while there is nothing to prove.
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
        let open = |&address| {
            let listener = self.bind(address).and_then(|it| it.listen(BACKLOG)).map(Arc::new);
            listener.map_err(|source| SolverError::Listen { address, source })
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
            // Alone, [::] means IPv4 too, whatever the system's default; beside 0.0.0.0 it must not.
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
        ChallengeType::Http01
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
        suited(proof)?;
        let mut state = self.board.state();
        if !self.addresses.is_empty() && state.open.as_ref().is_none_or(|it| it.task.is_finished())
        {
            state.open = None;
            state.open = Some(self.open()?);
        }
        // Under the same lock: the end of another proof would close what was just opened.
        let mut all = vec![self.board.show_in(&mut state, proof)];
        drop(state);
        all.extend(self.handed.iter().map(|it| it.show_in(&mut it.state(), proof)));
        Ok(Presented(Box::new(Shown { _all: all })))
    }

    async fn clean_up_leftover(&self, _: &Identifier, _: &Token) -> Result<(), SolverError> {
        // What we show ends with the process.
        Ok(())
    }
}

/// What is shown, and the sockets that are open for it.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with a number of its own: two orders may show the same one.
    proofs: Vec<(u64, Proof)>,
    next_number: u64,
    /// `None` while there are no proofs, and where others opened the sockets.
    open: Option<Open>,
}

impl Board {
    /// Shows `proof` until the result is dropped, with the lock of `state` held.
    fn show_in(self: &Arc<Self>, state: &mut State, proof: &Proof) -> Pinned {
        let number = state.next_number;
        state.next_number += 1;
        state.proofs.push((number, proof.clone()));
        Pinned { board: Arc::clone(self), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Find for Board {
    fn find(&self, asked: &Asked<'_>) -> Option<KeyAuthorization> {
        let state = self.state();
        let fits = |proof: &Proof| proof.token == asked.token && asked.host.is(&proof.identifier);
        let (_, proof) = state.proofs.iter().find(|(_, proof)| fits(proof))?;
        Some(proof.key_authorization.clone())
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
struct Shown {
    _all: Vec<Pinned>,
}

/// One proof on one board.
struct Pinned {
    board: Arc<Board>,
    number: u64,
}

#[async_trait]
impl CleanUp for Shown {
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
