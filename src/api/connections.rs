//! Accepts and serves the connections of the control socket, within limits.
//!
//! A connection has one request, a deadline for its head, one for its body, and one for all of it.
//! Whoever is silent costs the others nothing: where all places are taken, the oldest connection
//! that has not asked yet goes. One whose answer is being worked out stays.
//!
//! Not here: who may ask, and what ([`super::server`]).

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use http_body_util::LengthLimitError;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::server::{Peer, refusal};

/// What a peer may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the last byte of the request's head, and again until that of its body.
    pub(super) request: Duration,
    /// Until the end of the connection. Work may take long: see the longest wait of the commands.
    pub(super) total: Duration,
    /// Connections at once.
    pub(super) connections: usize,
    /// The largest request body, in bytes.
    pub(super) body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            total: Duration::from_secs(60 * 60),
            connections: 64,
            body: 64 * 1024,
        }
    }
}

/// After a failed accept: without it, running out of descriptors would keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `end` is done, and then until all answers that are being
/// worked out are given.
pub(super) async fn serve(
    listener: UnixListener,
    router: Router,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let router = router.layer(middleware::from_fn(whole)).layer(Extension(limits));
    let mut end = std::pin::pin!(end);
    let mut connections = Connections::default();
    loop {
        let has_room = connections.make_room(limits.connections);
        tokio::select! {
            () = &mut end => break,
            Some(_ended) = connections.tasks.join_next() => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => connections.begin(stream, &router, limits),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    connections.finish().await;
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<Connection>,
}

struct Connection {
    task: AbortHandle,
    has_asked: Arc<AtomicBool>,
}

impl Connection {
    fn is_idle(&self) -> bool {
        !self.has_asked.load(Ordering::Acquire)
    }
}

/// To be set once a connection's request is whole.
#[derive(Clone, Debug)]
struct Asked(Arc<AtomicBool>);

impl Connections {
    /// Whether one more may come. Where all places are taken, the oldest silent one is ended for
    /// it, and the place is free when it has gone.
    fn make_room(&mut self, limit: usize) -> bool {
        self.oldest_first.retain(|it| !it.task.is_finished());
        if self.tasks.len() < limit {
            return true;
        }
        let silent = self.oldest_first.iter().position(Connection::is_idle);
        if let Some(silent) = silent.and_then(|it| self.oldest_first.remove(it)) {
            silent.task.abort();
        }
        false
    }

    fn begin(&mut self, stream: UnixStream, router: &Router, limits: Limits) {
        let has_asked = Arc::new(AtomicBool::new(false));
        let router = router
            .clone()
            .layer(Extension(Asked(Arc::clone(&has_asked))))
            .layer(Extension(ConnectInfo(Peer::of(&stream))));
        let task = self.tasks.spawn(converse(stream, router, limits));
        self.oldest_first.push_back(Connection { task, has_asked });
    }

    async fn finish(mut self) {
        self.oldest_first.iter().filter(|it| it.is_idle()).for_each(|it| it.task.abort());
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Answers one request on `stream`, or gives up at the limits.
async fn converse(stream: UnixStream, router: Router, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A peer that has gone away is no fault.
    drop(timeout(limits.total, connection).await);
}

/// Hands a request on when all of it is there.
async fn whole(
    Extension(limits): Extension<Limits>,
    Extension(Asked(has_asked)): Extension<Asked>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(read) = timeout(limits.request, to_bytes(body, limits.body)).await else {
        return refusal(StatusCode::REQUEST_TIMEOUT, "too_slow", "the request took too long");
    };
    let body = match read {
        Ok(body) => body,
        Err(error) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => {
            let message = format!("a request may have {} bytes", limits.body);
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message);
        }
        Err(_broken_off) => {
            return refusal(StatusCode::BAD_REQUEST, "bad_request", "the request broke off");
        }
    };
    has_asked.store(true, Ordering::Release);
    next.run(axum::extract::Request::from_parts(parts, Body::from(body))).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    struct Served {
        folder: tempfile::TempDir,
        /// Opens the answer of `/slow`.
        gate: Arc<Notify>,
        end: Option<oneshot::Sender<()>>,
        serving: JoinHandle<()>,
    }

    impl Served {
        fn start(limits: Limits) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
            let gate = Arc::new(Notify::new());
            let slow = Arc::clone(&gate);
            let router = Router::new()
                .route("/", get(|| async { "here" }))
                .route("/body", post(|body: String| async move { body }))
                .route("/slow", get(|| async move { slow.notified().await }));
            let (end, ended) = oneshot::channel();
            let until = async { drop(ended.await) };
            let serving = tokio::spawn(serve(listener, router, limits, until));
            Self { folder, gate, end: Some(end), serving }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("socket")
        }

        async fn ask(&self, request: &str) -> String {
            let mut stream = sent(&self.path(), request).await;
            all(&mut stream).await
        }
    }

    async fn sent(path: &Path, request: &str) -> UnixStream {
        let mut stream = timeout(LIMIT, UnixStream::connect(path)).await.unwrap().unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// What comes until the connection's end; being cut off is one.
    async fn all(stream: &mut UnixStream) -> String {
        let mut answer = Vec::new();
        let read = timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        drop(read.expect("the connection is not closed"));
        String::from_utf8(answer).unwrap()
    }

    const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

    /// H03: slow, idle and many connections.
    #[tokio::test]
    async fn silent_connections_never_keep_anybody_out_and_what_is_asked_stays() {
        // Their own deadline must not be what helps.
        let limits = Limits { connections: 4, request: LIMIT * 9, ..Limits::default() };
        let served = Served::start(limits);
        let mut slow = sent(&served.path(), SLOW).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(sent(&served.path(), "GET / HT").await);
            assert!(served.ask(ASK).await.ends_with("here"));
        }
        served.gate.notify_one();
        assert!(all(&mut slow).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn half_a_head_and_half_a_body_are_given_up() {
        let limits = Limits { request: Duration::from_secs(2), ..Limits::default() };
        let served = Served::start(limits);
        served.ask("GET / HTTP/1.1\r\nhost").await;
        let head = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
        assert!(served.ask(head).await.starts_with("HTTP/1.1 408"));
        assert!(served.ask(ASK).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_body_has_its_limit_and_a_connection_one_request() {
        let served = Served::start(Limits { body: 4, ..Limits::default() });
        let post = |length: usize, body: &str| {
            format!("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        assert!(served.ask(&post(4, "four")).await.ends_with("four"));
        assert!(served.ask(&post(5, "fives")).await.starts_with("HTTP/1.1 413"));
        let twice = served.ask(&format!("{ASK}{ASK}")).await;
        assert_eq!(twice.matches("here").count(), 1, "{twice}");
    }

    #[tokio::test]
    async fn at_the_end_answers_are_given_and_silent_ones_let_go() {
        let mut served = Served::start(Limits::default());
        let mut slow = sent(&served.path(), SLOW).await;
        // A connection after it was served, so that one was accepted.
        served.ask(ASK).await;
        let mut silent = sent(&served.path(), "GET").await;
        served.ask(ASK).await;
        served.end.take();
        assert_eq!(all(&mut silent).await, "");
        assert!(!served.serving.is_finished());
        served.gate.notify_one();
        assert!(all(&mut slow).await.starts_with("HTTP/1.1 200"));
        timeout(LIMIT, served.serving).await.unwrap().unwrap();
    }
}
