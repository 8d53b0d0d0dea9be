//! The CA's own TLS (A30): whoever can't prove to be the CA is told nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use renewd::acme::{AcmeClient, CaSettings, OrderRequest};
use renewd::assemble::{self, Agent};
use renewd::model::{Explain, chain_text};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::write;
use crate::world::{World, loaded};

fn root() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What stands in the way of a server's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Expired,
    NotYet,
    WrongHost,
    UnknownRoot,
    SelfSigned,
}

fn acceptor(flaw: Flaw, trusted: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let name = if flaw == Flaw::WrongHost { "other.example" } else { "localhost" };
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    #[expect(clippy::disallowed_methods, reason = "TLS asks the machine's clock")]
    let now = OffsetDateTime::from(std::time::SystemTime::now());
    (params.not_before, params.not_after) = match flaw {
        Flaw::Expired => (now - Duration::days(90), now - Duration::days(1)),
        Flaw::NotYet => (now + Duration::days(1), now + Duration::days(90)),
        _ => (now - Duration::days(1), now + Duration::days(89)),
    };
    let key = KeyPair::generate().unwrap();
    let leaf = match flaw {
        Flaw::UnknownRoot => params.signed_by(&key, &root()).unwrap(),
        Flaw::SelfSigned => params.self_signed(&key).unwrap(),
        _ => params.signed_by(&key, trusted).unwrap(),
    };
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], der)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers 503 to whoever gets through, and counts them.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, requests: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut head = [0; 1024];
        if stream.read(&mut head).await.is_ok_and(|it| it > 0) {
            requests.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(stream.write_all(answer).await);
            drop(stream.shutdown().await);
        }
    }
}

/// Says a few bytes to whoever connects, in place of a handshake of today.
async fn babble(listener: TcpListener, bytes: &'static [u8]) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut hello = [0; 4096];
        drop(stream.read(&mut hello).await);
        drop(TcpStream::write_all(&mut stream, bytes).await);
        drop(stream.shutdown().await);
    }
}

/// What comes of an order at the CA whose directory is at `port`.
async fn asked(world: &World, port: u16) -> (String, String) {
    let settings = CaSettings {
        name: "lab".parse().unwrap(),
        directory: format!("https://localhost:{port}/dir"),
        trust: Some(world.path("trusted.pem")),
        test: false,
        contact: Vec::new(),
        terms_of_service_agreed: true,
        external_account_binding: None,
        limits: renewd::model::Limits::default(),
    };
    let client = AcmeClient::new(settings, world.base.store.clone(), world.base.clock.clone());
    let identifiers = vec!["site.example".parse().unwrap()];
    let request = OrderRequest { identifiers, profile: Some("any".into()), replaces: None };
    let error = client.unwrap().new_order(&request).await.unwrap_err();
    (error.code().to_owned(), chain_text(&error))
}

/// A30: expired, not yet valid, for another host, of another root, of none.
#[tokio::test]
async fn a_server_that_cannot_prove_to_be_the_ca_is_told_nothing() {
    let world = World::start().await;
    let trusted = root();
    write(&world.path("trusted.pem"), trusted.pem());
    for flaw in [
        Flaw::None,
        Flaw::Expired,
        Flaw::NotYet,
        Flaw::WrongHost,
        Flaw::UnknownRoot,
        Flaw::SelfSigned,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicU64::new(0));
        let server = tokio::spawn(serve(listener, acceptor(flaw, &trusted), requests.clone()));
        let (code, message) = asked(&world, port).await;
        server.abort();
        let got_through = requests.load(Ordering::Relaxed);
        if flaw == Flaw::None {
            assert_eq!((code.as_str(), got_through), ("acme.unavailable", 1), "{message}");
        } else {
            assert_eq!(
                (code.as_str(), got_through),
                ("acme.unreachable", 0),
                "{flaw:?}: {message}"
            );
            assert!(message.contains(&format!("https://localhost:{port}/dir")), "{message}");
        }
    }
}

/// A `ServerHello` of TLS 1.0 (RFC 2246 §7.4.1.3) for `TLS_RSA_WITH_AES_128_CBC_SHA`.
const HELLO_OF_TLS_1_0: &[u8] = &[
    22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 47, 0,
];

/// A30: TLS of the past, none, or something else: no way back to it.
#[tokio::test]
async fn there_is_no_way_back_to_old_tls_or_none() {
    let world = World::start().await;
    write(&world.path("trusted.pem"), root().pem());
    let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let bytes: [&'static [u8]; 4] =
        [HELLO_OF_TLS_1_0, &[21, 3, 1, 0, 2, 2, 70], plain, b"220 mail.example ESMTP\r\n"];
    for bytes in bytes {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(babble(listener, bytes));
        let (code, message) = asked(&world, port).await;
        server.abort();
        assert_eq!(code, "acme.unreachable", "{message}");
    }
}

/// A30: a CA that comes to another root is trusted by that one after a reload, not after a restart.
#[tokio::test]
async fn roots_that_were_replaced_are_read_at_the_next_reload() {
    let world = World::start().await;
    let lab = "lab".parse().unwrap();
    let client = |agent: &Agent| agent.lifecycle.issuer.clients.get(&lab).unwrap().clone();
    let reloaded = || {
        let config = loaded(world.path("renewd.toml").parent().unwrap());
        assemble::build(config, &world.base, Some(&world.agent)).unwrap()
    };
    let before = client(&world.agent);
    assert!(Arc::ptr_eq(&client(&reloaded()), &before), "with all that it knows");
    write(&world.path("root.pem"), root().pem());
    assert!(!Arc::ptr_eq(&client(&reloaded()), &before));
}
