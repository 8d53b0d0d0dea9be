//! Accepts and serves the connections of a listener, within limits.
//!
//! Everyone may connect, and most who do are not the CA. A connection has one request, a deadline
//! for its head and one for all of it. When there are too many, the oldest one goes: a request of
//! the CA takes milliseconds, so whoever has been here longest is not the CA, and silent clients
//! can't keep it out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Board, Dialogue};
use crate::solver::{http01, tls_alpn01};

/// What a client may use.
#[derive(Clone, Copy, Debug)]
pub(in crate::solver) struct Limits {
    /// Until the last byte of the request's head, or the end of the handshake.
    pub(in crate::solver) head: Duration,
    /// Until the end of the connection.
    pub(in crate::solver) total: Duration,
    /// Connections at once, over all addresses.
    pub(in crate::solver) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), total: Duration::from_secs(30), connections: 64 }
    }
}

/// After a failed accept: without it, running out of descriptors would keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves all `listeners` until dropped; then all its connections are gone too.
pub(super) async fn serve(listeners: Vec<Arc<TcpListener>>, board: Arc<Board>, limits: Limits) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    for turn in 0_usize.. {
        let stream = loop {
            tokio::select! {
                accepted = accept(&listeners, turn) => break accepted,
                Some(_ended) = connections.join_next() => {
                    oldest_first.retain(|it| !it.is_finished());
                }
            }
        };
        let Ok(stream) = stream else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.len() >= limits.connections {
            if let Some(oldest) = oldest_first.pop_front() {
                oldest.abort();
            }
            drop(connections.join_next().await);
        }
        let served = converse(stream, Arc::clone(&board), limits);
        oldest_first.push_back(connections.spawn(served));
    }
}

/// The next connection of any of `listeners`. `turn` says which of them is asked first, so that a
/// flood on one address does not shut out the others.
async fn accept(listeners: &[Arc<TcpListener>], turn: usize) -> io::Result<TcpStream> {
    poll_fn(|context| {
        let first = turn % listeners.len().max(1);
        for listener in listeners.iter().cycle().skip(first).take(listeners.len()) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _peer)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

/// Says on `stream` what there is to say, or gives up at the limits.
async fn converse(stream: TcpStream, board: Arc<Board>, limits: Limits) {
    let said = async {
        match board.dialogue() {
            Dialogue::Http01 => http01::converse(stream, board, limits).await,
            Dialogue::TlsAlpn01 => tls_alpn01::converse(stream, board, limits).await,
        }
    };
    drop(timeout(limits.total, said).await);
}
