//! Addresses that systemd listens on and handed over at the start (socket activation): so that a
//! process without rights proves on port 80.
//!
//! Such a socket stays open for as long as systemd wants it to, whether there is something to prove
//! or not; to leave connections lying in it would have clients wait for nothing. So it is served
//! from the first solver that names its address on, to the end of the process, and answers
//! what is no proof as it does all the time. One board for each socket: the solvers of the old and
//! of a reloaded configuration accept from the same queue, and each must know what the other shows.
//!
//! Not here: taking the sockets ([`crate::sys::activation`]).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::connections::{Limits, serve};
use super::{Board, Dialogue};
use crate::sys::activation::Sockets;

/// The sockets that were handed over, and what is shown on them. Copies share both.
#[derive(Clone, Debug, Default)]
pub struct HandedSockets {
    sockets: Sockets,
    boards: Arc<Mutex<BTreeMap<SocketAddr, Arc<Board>>>>,
}

impl HandedSockets {
    /// All of `sockets`, none of them served yet.
    #[must_use]
    pub fn new(sockets: Sockets) -> Self {
        Self { sockets, boards: Arc::default() }
    }

    /// What is shown on `address`, where `dialogue` is spoken from now on; `None` if it was not
    /// handed over. To be called where tasks can be started.
    pub(super) fn board(
        &self,
        address: SocketAddr,
        dialogue: Dialogue,
    ) -> io::Result<Option<Arc<Board>>> {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = boards.get(&address) {
            if board.dialogue() != dialogue {
                let message = format!("it is in use for {} already", board.dialogue());
                return Err(io::Error::other(message));
            }
            return Ok(Some(Arc::clone(board)));
        }
        let Some(socket) = self.sockets.tcp(address).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let board = Arc::new(Board::new(dialogue));
        let listener = Arc::new(TcpListener::from_std(socket)?);
        // Ends with the process: another configuration may name the address again.
        drop(tokio::spawn(serve(vec![listener], Arc::clone(&board), Limits::default())));
        boards.insert(address, Arc::clone(&board));
        Ok(Some(board))
    }
}
