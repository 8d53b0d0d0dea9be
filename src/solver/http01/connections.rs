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

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::request::Asked;
use crate::model::KeyAuthorization;

/// What a client may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the last byte of the request's head.
    pub(super) head: Duration,
    /// Until the end of the connection.
    pub(super) total: Duration,
    /// Connections at once, over all addresses.
    pub(super) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), total: Duration::from_secs(30), connections: 64 }
    }
}

/// The largest head of a request, in bytes. A CA's has a few hundred; hyper takes no lower limit.
const MAX_HEAD: usize = 8192;

/// After a failed accept: without it, running out of descriptors would keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Finds the key authorization that a request asks for.
pub(super) trait Find: Send + Sync + 'static {
    /// `None` if it is not known, or not on that host.
    fn find(&self, asked: &Asked<'_>) -> Option<KeyAuthorization>;
}

/// Serves all `listeners` until dropped; then all its connections are gone too.
pub(super) async fn serve(
    listeners: Vec<Arc<TcpListener>>,
    proofs: Arc<impl Find>,
    limits: Limits,
) {
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
        let served = converse(stream, Arc::clone(&proofs), limits);
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

/// Answers one request on `stream`, or gives up at the limits.
async fn converse(stream: TcpStream, proofs: Arc<impl Find>, limits: Limits) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let found = Asked::parse(&request).and_then(|asked| proofs.find(&asked));
        std::future::ready(response(found))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a conversation with a stranger ends is of no interest.
    drop(timeout(limits.total, connection).await);
}

fn response(found: Option<KeyAuthorization>) -> Result<Response<Full<Bytes>>, http::Error> {
    let Some(found) = found else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Full::default());
    };
    Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Full::from(found.as_str().to_owned()))
}
