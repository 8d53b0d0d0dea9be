//! What fuzzing feeds to a listener: the bytes of whoever connects, over a connection in memory.

use std::sync::{Arc, LazyLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Board, ChallengeCertificate, Dialogue, Limits, Pinned, Shown};
use crate::model::{KeyAuthorization, Proof};
use crate::solver::{http01, tls_alpn01};
use crate::sys::fuzz::block_on;

/// What is shown to those who ask rightly.
const ANSWER: &str = "abc.print";

/// Asks the server of http-01, which shows the token `abc` on `example.com`.
pub fn http01_request(bytes: &[u8]) {
    let board = Arc::clone(&HTTP01.0);
    let answer = exchange(bytes, |stream| http01::converse(stream, board, Limits::default()));
    let shown = answer.windows(ANSWER.len()).any(|it| it == ANSWER.as_bytes());
    let path = b"/.well-known/acme-challenge/abc";
    assert!(!shown || bytes.windows(path.len()).any(|it| it == path), "shown without being asked");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "no answer in HTTP");
}

/// Shakes hands with the server of tls-alpn-01, which shows a certificate for `example.com`.
pub fn client_hello(bytes: &[u8]) {
    let board = Arc::clone(&TLS_ALPN01.0);
    let answer = exchange(bytes, |stream| tls_alpn01::converse(stream, board, Limits::default()));
    // Handshake or alert, and never a stranger's words.
    assert!(answer.first().is_none_or(|it| matches!(it, 20..=23)), "no answer in TLS");
}

static HTTP01: LazyLock<(Arc<Board>, Option<Pinned>)> =
    LazyLock::new(|| shown(Dialogue::Http01, |proof| Some(Shown::Http01(proof))));

static TLS_ALPN01: LazyLock<(Arc<Board>, Option<Pinned>)> = LazyLock::new(|| {
    let certificate = |proof: Proof| ChallengeCertificate::new(&proof).ok().map(Shown::TlsAlpn01);
    shown(Dialogue::TlsAlpn01, certificate)
});

#[expect(clippy::expect_used, reason = "a target that shows nothing tries nothing")]
fn shown(
    dialogue: Dialogue,
    show: impl FnOnce(Proof) -> Option<Shown>,
) -> (Arc<Board>, Option<Pinned>) {
    let proof = Proof {
        challenge_type: dialogue.challenge_type(),
        identifier: "example.com".parse().expect("a name"),
        token: "abc".parse().expect("a token"),
        key_authorization: KeyAuthorization::new(ANSWER.to_owned()),
        account_url: "https://ca.example/acct/1".to_owned(),
        standing: None,
    };
    let board = Arc::new(Board::new(dialogue));
    let shown = Arc::new(show(proof).expect("a proof can be shown"));
    let pinned = board.show_in(&mut board.state(), &shown);
    (board, pinned)
}

/// What `server` answers to somebody who sends `bytes` and nothing more.
fn exchange<F: Future<Output = ()>>(
    bytes: &[u8],
    server: impl FnOnce(DuplexStream) -> F,
) -> Vec<u8> {
    let (mut near, far) = duplex(64 * 1024);
    let ask = async {
        drop(near.write_all(bytes).await);
        drop(near.shutdown().await);
        let mut answer = Vec::new();
        drop(near.read_to_end(&mut answer).await);
        answer
    };
    block_on(async { tokio::join!(ask, server(far)).0 })
}
