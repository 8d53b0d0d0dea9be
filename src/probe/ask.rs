//! One question to one address: which certificate do you serve for this name?

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::recorder::Recorder;
use super::{DialogueError, StartTls, dialogue, resolve};
use crate::model::{Identifier, KeyFamily, Leaf, LeafError};

/// What a server showed.
#[derive(Clone, Debug)]
pub struct Served {
    /// The first certificate.
    pub leaf: Leaf,
    /// All certificates, leaf first, as sent; who knows whether they make a chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether the server proved that it holds the leaf's key. Without that, it shows a certificate
    /// and can't serve with it.
    pub key_proven: bool,
    /// Where we asked.
    pub address: SocketAddr,
}

/// How a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approach {
    /// The protocol spoken before TLS begins.
    pub starttls: Option<StartTls>,
    /// The only keys that we take, if not all.
    pub only: Option<KeyFamily>,
}

/// A server did not show a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not `host:port` or `[ipv6]:port`.
    #[error("{address:?} is not host:port or [ipv6]:port")]
    NotAnAddress {
        /// As configured.
        address: String,
    },
    /// A wildcard, which no client asks for.
    #[error("no client asks for {name}")]
    NotAName {
        /// The name.
        name: Identifier,
    },
    /// The host name has no address.
    #[error("cannot resolve {address}")]
    Resolve {
        /// As configured.
        address: String,
        /// From the system's resolver.
        #[source]
        source: io::Error,
    },
    /// Nobody accepts the connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The dialogue before TLS failed.
    #[error("{address} does not begin TLS by {protocol}")]
    Dialogue {
        /// Where.
        address: SocketAddr,
        /// Whose dialogue.
        protocol: StartTls,
        /// What was said instead.
        #[source]
        source: DialogueError,
    },
    /// The handshake ended before a certificate came.
    #[error("{address} ended the TLS handshake without a certificate")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// What TLS says of it.
        #[source]
        source: io::Error,
    },
    /// What it showed is no certificate.
    #[error("the certificate that {address} shows can't be read")]
    Unreadable {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: LeafError,
    },
    /// No answer in time.
    #[error("{address} did not answer within {}", humantime::format_duration(*limit))]
    TimedOut {
        /// Where.
        address: String,
        /// The limit.
        limit: Duration,
    },
}

/// Asks `address` (`host:port`, `[ipv6]:port`) which certificate it serves for `name`, in one fresh
/// handshake with the first of its addresses. An IP address is asked for without SNI (RFC 6066 §3).
///
/// Ends within twice `limit`: once to resolve, once to ask.
///
/// # Errors
///
/// [`ProbeError`] if no certificate was shown.
pub async fn ask(
    address: &str,
    name: &Identifier,
    approach: Approach,
    limit: Duration,
) -> Result<Served, ProbeError> {
    let addresses = resolve(address, limit).await?;
    let Some(first) = addresses.first() else {
        return Err(ProbeError::NotAnAddress { address: address.to_owned() });
    };
    ask_at(*first, name, approach, limit).await
}

/// As [`ask`], at one socket address; ends within `limit`.
///
/// # Errors
///
/// [`ProbeError`] if no certificate was shown.
pub async fn ask_at(
    address: SocketAddr,
    name: &Identifier,
    approach: Approach,
    limit: Duration,
) -> Result<Served, ProbeError> {
    let server_name = server_name(name)?;
    let recorder = Recorder::new(approach.only);
    let shaking = shake_hands(address, server_name, approach.starttls, &recorder);
    let answered = timeout(limit, shaking).await;
    let recorded = recorder.take();
    let Some(first) = recorded.chain.first() else {
        return Err(match answered {
            Ok(Err(error)) => error,
            Ok(Ok(())) => ProbeError::Handshake { address, source: io::ErrorKind::Other.into() },
            Err(_elapsed) => ProbeError::TimedOut { address: address.to_string(), limit },
        });
    };
    // What was shown before the handshake failed counts: a server may demand a certificate of us.
    let leaf = Leaf::parse(first).map_err(|source| ProbeError::Unreadable { address, source })?;
    Ok(Served { leaf, chain: recorded.chain, key_proven: recorded.key_proven, address })
}

fn server_name(name: &Identifier) -> Result<ServerName<'static>, ProbeError> {
    match name {
        Identifier::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
        Identifier::Dns(host) => ServerName::try_from(host.clone())
            .map_err(|_not_a_host| ProbeError::NotAName { name: name.clone() }),
    }
}

async fn shake_hands(
    address: SocketAddr,
    name: ServerName<'static>,
    starttls: Option<StartTls>,
    recorder: &Arc<Recorder>,
) -> Result<(), ProbeError> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|source| ProbeError::Connect { address, source })?;
    if let Some(protocol) = starttls {
        dialogue::upgrade(&mut stream, protocol).await.map_err(|source| ProbeError::Dialogue {
            address,
            protocol,
            source,
        })?;
    }
    let failed = |source| ProbeError::Handshake { address, source };
    let config = recorder.config().map_err(|error| failed(io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(name, stream).await.map_err(failed)?;
    // A polite end keeps the server's log clean; what it says to that is of no interest.
    drop(tls.shutdown().await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::KeyType;
    use crate::probe::test_server::{Certified, Manners, TestServer, silent_socket};

    const LIMIT: Duration = Duration::from_secs(60);

    fn name(text: &str) -> Identifier {
        text.parse().unwrap()
    }

    /// As everybody asks.
    const PLAIN: Approach = Approach { starttls: None, only: None };

    async fn ask_with(manners: Manners, approach: Approach) -> (Served, Certified) {
        let certified = Certified::new(&["example.com"]);
        let listener = silent_socket().listen(8).unwrap();
        let server = TestServer::start_with(&certified, manners, listener);
        let asked = ask(&server.address.to_string(), &name("example.com"), approach, LIMIT).await;
        (asked.unwrap(), certified)
    }

    #[tokio::test]
    async fn the_certificate_is_recorded_with_the_proof_of_its_key_in_both_versions() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let manners = Manners { only: Some(version), ..Manners::default() };
            let (served, certified) = ask_with(manners, PLAIN).await;
            assert_eq!(served.leaf, certified.leaf);
            assert_eq!((served.chain.len(), served.key_proven), (1, true));
        }
    }

    #[tokio::test]
    async fn a_server_that_demands_a_certificate_of_us_has_shown_its_own() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let manners =
                Manners { only: Some(version), demands_certificate: true, dialogue: None };
            let (served, certified) = ask_with(manners, PLAIN).await;
            assert_eq!(served.leaf.sha256, certified.leaf.sha256);
            assert!(served.key_proven);
        }
    }

    #[tokio::test]
    async fn tls_begins_after_the_dialogue() {
        let words = b"+OK ready\r\n+OK begin\r\n";
        let manners = Manners { dialogue: Some((words, "STLS\r\n".len())), ..Manners::default() };
        let approach = Approach { starttls: Some(StartTls::Pop3), ..PLAIN };
        let (served, certified) = ask_with(manners, approach).await;
        assert_eq!(served.leaf, certified.leaf);
    }

    #[tokio::test]
    async fn an_address_is_asked_for_as_such_and_a_wildcard_by_nobody() {
        let certified = Certified::new(&["127.0.0.1"]);
        let server = TestServer::start(&certified);
        let served = ask_at(server.address, &name("127.0.0.1"), PLAIN, LIMIT).await.unwrap();
        assert_eq!(served.leaf, certified.leaf);
        let refused = ask_at(server.address, &name("*.example.com"), PLAIN, LIMIT).await;
        assert!(matches!(refused, Err(ProbeError::NotAName { .. })));
    }

    #[tokio::test]
    async fn a_client_that_takes_one_family_of_keys_is_shown_no_other() {
        let both = [KeyType::P256, KeyType::Rsa2048];
        let servers = both.map(|it| Certified::with_key(&["example.com"], it));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for certified in &servers {
                let manners = Manners { only: Some(version), ..Manners::default() };
                let listener = silent_socket().listen(8).unwrap();
                let server = TestServer::start_with(certified, manners, listener);
                for wanted in both {
                    let approach = Approach { only: Some(wanted.family()), ..PLAIN };
                    let asked = ask_at(server.address, &name("example.com"), approach, LIMIT).await;
                    match asked {
                        Ok(served) => assert!(
                            served.key_proven && served.leaf.key_type == Some(wanted),
                            "{wanted}, {version:?}: {served:?}"
                        ),
                        Err(error) => assert!(
                            matches!(error, ProbeError::Handshake { .. })
                                && certified.leaf.key_type != Some(wanted),
                            "{wanted}, {version:?}: {error:?}"
                        ),
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_listen_or_speak_tls_is_named_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let talker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let error = ask_at(address, &name("example.com"), PLAIN, LIMIT).await.unwrap_err();
        assert!(matches!(error, ProbeError::Handshake { .. }), "{error}");
        talker.await.unwrap();
        let silent = silent_socket();
        let address = silent.local_addr().unwrap();
        let error = ask_at(address, &name("example.com"), PLAIN, LIMIT).await.unwrap_err();
        assert!(matches!(error, ProbeError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_left_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        for starttls in [None, Some(StartTls::Smtp)] {
            let approach = Approach { starttls, ..PLAIN };
            let error = ask_at(address, &name("example.com"), approach, limit).await.unwrap_err();
            assert!(matches!(error, ProbeError::TimedOut { .. }), "{error}");
        }
    }
}
