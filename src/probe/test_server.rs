//! A TLS server in this process, for the tests of this module and of those above it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::model::{KeyType, Leaf, PrivateKey};

/// A certificate, self-signed or with its issuer's, and its key.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) leaf: Leaf,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    /// What is shown, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key_der: Vec<u8>,
}

impl Certified {
    /// A new one for `names`.
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::with_key(names, KeyType::P256)
    }

    /// As [`Certified::new`], with a key of `key_type`.
    pub(crate) fn with_key(names: &[&str], key_type: KeyType) -> Self {
        let key = PrivateKey::generate(key_type).unwrap();
        let made = parameters(names).self_signed(&key.pair().unwrap()).unwrap();
        Self::made(&made, &key, &[])
    }

    /// As [`Certified::new`], signed by an intermediate that is called `issuer`, and shown with it.
    pub(crate) fn issued_by(issuer: &str, names: &[&str]) -> Self {
        let authority = |name: &str| {
            let mut parameters = parameters(&[]);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name = DistinguishedName::new();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters
        };
        let generate = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("Root"), generate()).unwrap();
        let of_issuer = generate();
        let intermediate = authority(issuer).signed_by(&of_issuer, &root).unwrap();
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let signer = Issuer::new(authority(issuer), of_issuer);
        let made = parameters(names).signed_by(&key.pair().unwrap(), &signer).unwrap();
        Self::made(&made, &key, &[intermediate.der().clone()])
    }

    /// The same, shown without its issuer.
    pub(crate) fn alone(&self) -> Self {
        Self { chain: self.chain.iter().take(1).cloned().collect(), ..self.clone() }
    }

    fn made(
        made: &rcgen::Certificate,
        key: &PrivateKey,
        issuers: &[CertificateDer<'static>],
    ) -> Self {
        let pair = key.pair().unwrap();
        Self {
            leaf: Leaf::parse(made.der()).unwrap(),
            certificate_pem: made.pem().replace("\r\n", "\n"),
            key_pem: key.secret_pem().to_owned(),
            chain: [&[made.der().clone()], issuers].concat(),
            key_der: pair.serialize_der(),
        }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

fn parameters(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// How a server behaves, besides showing its certificate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Speaks this version alone.
    pub(crate) only: Option<&'static SupportedProtocolVersion>,
    /// Breaks off if the client shows no certificate.
    pub(crate) demands_certificate: bool,
    /// Says this at once, and begins TLS after it has read this many bytes.
    pub(crate) dialogue: Option<(&'static [u8], usize)>,
}

/// A socket that holds a free port of loopback and accepts nobody until it is told to listen.
pub(crate) fn silent_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

/// A server that listens on a free port of loopback until it is dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    shown: Arc<Mutex<Vec<Certified>>>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) fn start(certified: &Certified) -> Self {
        let listener = silent_socket().listen(64).unwrap();
        Self::start_with(certified, Manners::default(), listener)
    }

    /// As `manners` say, on `listener`.
    pub(crate) fn start_with(
        certified: &Certified,
        manners: Manners,
        listener: TcpListener,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shown = Arc::new(Mutex::new(vec![certified.clone()]));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (certificates, count) = (Arc::clone(&shown), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let turn = count.fetch_add(1, Ordering::SeqCst);
                let certified = {
                    let certificates = certificates.lock().unwrap();
                    certificates[turn.min(certificates.len() - 1)].clone()
                };
                tokio::spawn(async move { serve(stream, &certified, manners).await });
            }
        });
        Self { address, shown, accepted, task }
    }

    /// Shows `certificates` from now on: one to each connection in turn, the last to all others.
    pub(crate) fn show(&self, certificates: &[&Certified]) {
        let mut shown = self.shown.lock().unwrap();
        *shown = certificates.iter().map(|it| (*it).clone()).collect();
        self.accepted.store(0, Ordering::SeqCst);
    }

    /// How many connections there were since the last change.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, certified: &Certified, manners: Manners) {
    if let Some((words, length)) = manners.dialogue {
        stream.write_all(words).await.unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
    let acceptor = TlsAcceptor::from(Arc::new(config(certified, manners)));
    // A client that goes away is as good as one that says goodbye.
    if let Ok(mut tls) = acceptor.accept(stream).await {
        drop(tls.read_u8().await);
    }
}

fn config(certified: &Certified, manners: Manners) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = match manners.only {
        Some(version) => builder.with_protocol_versions(&[version]).unwrap(),
        None => builder.with_safe_default_protocol_versions().unwrap(),
    };
    let builder = if manners.demands_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(certified.chain[0].clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(certified.chain.clone(), certified.key()).unwrap()
}
