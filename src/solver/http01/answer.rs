//! One request to our listener, answered: the key authorization that it asks for, or 404.
//!
//! Not here: accepting connections, and their limits in number ([`crate::solver::listener`]).

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::request::Asked;
use crate::model::KeyAuthorization;
use crate::solver::listener::{Board, Limits, Shown};

/// The largest head of a request, in bytes. A CA's has a few hundred; hyper takes no lower limit.
const MAX_HEAD: usize = 8192;

/// Answers one request on `stream` with what `board` shows, or gives up at the limit for its head.
pub(in crate::solver) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    board: Arc<Board>,
    limits: Limits,
) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let found = Asked::parse(&request).and_then(|asked| find(&board, &asked));
        std::future::ready(response(found))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a conversation with a stranger ends is of no interest.
    drop(connection.await);
}

/// `None` if it is not known, or not on that host.
fn find(board: &Board, asked: &Asked<'_>) -> Option<KeyAuthorization> {
    board.find(|shown| match shown {
        Shown::Http01(proof) if proof.token == asked.token && asked.host.is(&proof.identifier) => {
            Some(proof.key_authorization.clone())
        }
        Shown::Http01(_) | Shown::TlsAlpn01(_) => None,
    })
}

fn response(found: Option<KeyAuthorization>) -> Result<Response<Full<Bytes>>, http::Error> {
    let Some(found) = found else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Full::default());
    };
    Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Full::from(found.as_str().to_owned()))
}
