//! The listener, speaking TLS, asked as a CA asks and as others do.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use ::aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme,
    SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::model::{ChallengeType, KeyAuthorization, Proof};
use crate::solver::{Dialogue, HandedSockets, Listener, Solver, SolverError};

/// Far longer than anything here takes, and shorter than the limits of a connection.
const SOON: Duration = Duration::from_secs(8);

fn proof(identifier: &str, token: &str) -> Proof {
    let http01 = crate::solver::tests::proof(identifier, token);
    Proof { challenge_type: ChallengeType::TlsAlpn01, ..http01 }
}

fn listener() -> Listener {
    let address = "127.0.0.1:0".parse().unwrap();
    Listener::new(Dialogue::TlsAlpn01, vec![address], &HandedSockets::default()).unwrap()
}

fn address_of(listener: &Listener) -> SocketAddr {
    listener.bound_addresses()[0]
}

/// Takes every certificate, as a CA does before it looks at it.
#[derive(Debug)]
struct TakesAll;

impl ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client gets which asks for `name` and offers `protocols`; what it is cut
/// off by if it gets none.
async fn ask_by(
    version: &'static SupportedProtocolVersion,
    address: SocketAddr,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<Vec<u8>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAll))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = timeout(SOON, connecting).await.expect("the handshake ends")?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ACME_TLS));
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown.len(), 1);
    let shown = shown[0].to_vec();
    // Nothing is said after the handshake, and the server ends it properly.
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the connection is closed")?;
    assert!(rest.is_empty());
    Ok(shown)
}

async fn ask(address: SocketAddr, name: &str) -> std::io::Result<Vec<u8>> {
    ask_by(&version::TLS13, address, name, &["acme-tls/1"]).await
}

/// What a CA demands of `certificate` (RFC 8737 §3).
#[track_caller]
fn assert_proves(certificate: &[u8], identifier: &str, token: &str) {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let [name] = &names.value.general_names[..] else { panic!("{names:?}") };
    let name = match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        GeneralName::IPAddress(octets) => {
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*octets).unwrap()).to_string()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(name, identifier);
    let acme: Vec<_> = (certificate.extensions().iter())
        .filter(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
        .collect();
    let [acme] = acme[..] else { panic!("{acme:?}") };
    assert!(acme.critical);
    assert!(matches!(acme.parsed_extension(), ParsedExtension::UnsupportedExtension { .. }));
    let text = KeyAuthorization::new(format!("{token}.thumbprint"));
    let expected = digest(&SHA256, text.as_str().as_bytes());
    assert_eq!(acme.value, [&[4, 32], expected.as_ref()].concat());
    certificate.verify_signature(None).unwrap();
}

#[track_caller]
fn assert_alert(result: std::io::Result<Vec<u8>>, expected: AlertDescription) {
    let error = result.expect_err("a certificate was shown");
    let source = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    assert_eq!(source, Some(&rustls::Error::AlertReceived(expected)), "{error}");
}

#[tokio::test]
async fn each_version_of_tls_gets_the_certificate_of_the_name_it_asks_for() {
    let listener = listener();
    let _first = listener.present(&proof("example.com", "abc")).await.unwrap();
    let second = listener.present(&proof("other.example", "def")).await.unwrap();
    let address = address_of(&listener);
    for version in [&version::TLS12, &version::TLS13] {
        let protocols = ["acme-tls/1"];
        let shown = ask_by(version, address, "example.com", &protocols).await.unwrap();
        assert_proves(&shown, "example.com", "abc");
        let shown = ask_by(version, address, "OTHER.example", &protocols).await.unwrap();
        assert_proves(&shown, "other.example", "def");
    }
    second.clean_up().await.unwrap();
    assert_alert(ask(address, "other.example").await, AlertDescription::AccessDenied);
}

#[tokio::test]
async fn an_address_is_asked_for_by_its_reverse_name() {
    let listener = listener();
    let _v4 = listener.present(&proof("192.0.2.1", "abc")).await.unwrap();
    let _v6 = listener.present(&proof("2001:db8::1", "def")).await.unwrap();
    let address = address_of(&listener);
    let shown = ask(address, "1.2.0.192.in-addr.arpa").await.unwrap();
    assert_proves(&shown, "192.0.2.1", "abc");
    let name = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_proves(&ask(address, name).await.unwrap(), "2001:db8::1", "def");
}

#[tokio::test]
async fn whoever_is_no_ca_gets_an_alert_and_no_certificate() {
    let listener = listener();
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = address_of(&listener);
    for version in [&version::TLS12, &version::TLS13] {
        for (name, protocols) in [
            ("example.com", &[][..]),
            ("example.com", &["h2", "http/1.1"]),
            ("example.com", &["acme-tls/1", "h2"]),
            ("example.com", &["acme-tls/2"]),
            ("www.example.com", &["acme-tls/1"]),
            // No SNI is sent for an address.
            ("127.0.0.1", &["acme-tls/1"]),
        ] {
            let asked = ask_by(version, address, name, protocols).await;
            assert_alert(asked, AlertDescription::AccessDenied);
        }
    }
}

#[tokio::test]
async fn one_name_is_proven_for_one_order_at_a_time() {
    let listener = listener();
    let first = listener.present(&proof("example.com", "abc")).await.unwrap();
    let _again = listener.present(&proof("example.com", "abc")).await.unwrap();
    let busy = listener.present(&proof("example.com", "other")).await.unwrap_err();
    assert!(matches!(busy, SolverError::Busy { .. }), "{busy}");
    first.clean_up().await.unwrap();
    drop(_again);
    let _other = listener.present(&proof("example.com", "other")).await.unwrap();
    let shown = ask(address_of(&listener), "example.com").await.unwrap();
    assert_proves(&shown, "example.com", "other");
}

#[tokio::test]
async fn a_port_that_is_taken_is_found_before_anything_is_ordered() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let handed = HandedSockets::default();
    let listener = Listener::new(Dialogue::TlsAlpn01, vec![address], &handed).unwrap();
    let Err(SolverError::Listen { source, .. }) = listener.check().await else {
        panic!("the port is not seen to be taken");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_handed_socket_speaks_one_language() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let handed = HandedSockets::new(crate::sys::activation::Sockets::of_tcp([socket]));
    let make = |dialogue| Listener::new(dialogue, vec![address], &handed);
    let listener = make(Dialogue::TlsAlpn01).unwrap();
    assert!(make(Dialogue::Http01).is_err());
    assert_alert(ask(address, "example.com").await, AlertDescription::AccessDenied);
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    assert_proves(&ask(address, "example.com").await.unwrap(), "example.com", "abc");
}

/// A client hello of a CA for `example.com`, as it is on the wire.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAll))
        .with_no_client_auth();
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    let name = ServerName::try_from("example.com").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_client_hello_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut hello = client_hello();
        for (index, byte) in changes {
            let index = index.index(hello.len());
            hello[index] = byte;
        }
        if is_cut {
            hello.truncate(cut.index(hello.len()));
        }
        let board = Arc::new(Board::new(Dialogue::TlsAlpn01));
        let config = Arc::new(server_config(board).unwrap());
        let mut connection = rustls::ServerConnection::new(config).unwrap();
        let mut wire = hello.as_slice();
        while !wire.is_empty() && connection.read_tls(&mut wire).is_ok_and(|it| it > 0) {
            // Nothing is shown, so that nothing can be answered but an alert.
            if connection.process_new_packets().is_err() {
                break;
            }
        }
        prop_assert!(connection.is_handshaking());
    }
}

#[tokio::test]
async fn garbage_and_silence_end_and_keep_nobody_out() {
    let listener = listener();
    let _presented = listener.present(&proof("example.com", "abc")).await.unwrap();
    let address = address_of(&listener);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(timeout(SOON, garbage.read_to_end(&mut answer)).await.expect("it is closed"));
    // An alert (21), and no certificate.
    assert!(answer.len() < 16 && answer.first() == Some(&21), "{answer:?}");
    assert_proves(&ask(address, "example.com").await.unwrap(), "example.com", "abc");
}
