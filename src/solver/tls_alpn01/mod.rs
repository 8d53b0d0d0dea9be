//! tls-alpn-01 (RFC 8737): a TLS server that shows a certificate made for one proof to whoever asks
//! for it by ALPN `acme-tls/1`.
//!
//! A client that offers `acme-tls/1` and nothing else, for the SNI of a proof that is shown now,
//! gets that proof's certificate; the connection is closed after the handshake. Everybody else gets
//! an alert. An address is asked for by its name in `in-addr.arpa` or `ip6.arpa` (RFC 8738 §6).
//!
//! Not here: sockets and the limits of connections ([`crate::solver::listener`]).

mod certificate;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub(super) use certificate::ChallengeCertificate;

use super::listener::{Board, Limits, Shown};

/// The only protocol that is spoken (RFC 8737 §4).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Makes one handshake on `stream` with a certificate of `board`, and closes.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    board: Arc<Board>,
    limits: Limits,
) {
    // How a conversation with a stranger ends is of no interest.
    let Ok(config) = server_config(board) else { return };
    let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
    if let Ok(Ok(mut stream)) = timeout(limits.head, handshake).await {
        drop(stream.shutdown().await);
    }
}

fn server_config(board: Arc<Board>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates { board }));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    // Nobody comes back, and a session that is taken up again shows no certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Chooses the certificate that a client is shown.
struct Certificates {
    board: Arc<Board>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: the list of a CA holds this protocol alone. A client that offers others too
        // is not one, and may not be told which names are being proven.
        let mut offered = hello.alpn()?;
        let (ACME_TLS, None) = (offered.next()?, offered.next()) else { return None };
        let name = hello.server_name()?;
        self.board.find(|shown| match shown {
            Shown::TlsAlpn01(certificate) if certificate.is_for(name) => Some(certificate.key()),
            Shown::TlsAlpn01(_) | Shown::Http01(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
