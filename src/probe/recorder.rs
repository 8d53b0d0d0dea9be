//! Records what a server shows during a handshake, and judges only whether it holds the key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, Error, SignatureScheme, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::model::KeyFamily;

/// What a server showed before the handshake ended, one way or the other.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Leaf first, as sent; empty if it never came to that.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether the server signed the handshake with the leaf's key.
    pub(super) key_proven: bool,
}

/// Accepts every certificate and keeps it.
pub(super) struct Recorder {
    provider: Arc<CryptoProvider>,
    /// The only keys that it takes, if not all.
    only: Option<KeyFamily>,
    recorded: Mutex<Recorded>,
}

impl Recorder {
    /// One that takes keys of the family `only` alone, or all.
    pub(super) fn new(only: Option<KeyFamily>) -> Arc<Self> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Some(family) = only {
            provider.cipher_suites.retain(|it| suits(*it, family));
        }
        Arc::new(Self { provider: Arc::new(provider), only, recorded: Mutex::default() })
    }

    /// A configuration for one handshake that reports here.
    ///
    /// # Errors
    ///
    /// None with the provider that is built in.
    pub(super) fn config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        // A resumed session shows no certificate. Each configuration serves one handshake, so this
        // matters only to who shares one later.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// What was recorded, leaving nothing.
    pub(super) fn take(&self) -> Recorded {
        std::mem::take(&mut self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_proof(
        &self,
        proof: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.key_proven = proof.is_ok();
        proof
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(end_entity).chain(intermediates);
        let chain = shown.map(|it| it.clone().into_owned()).collect();
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        *recorded = Recorded { chain, key_proven: false };
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        self.note_proof(verify_tls12_signature(message, cert, dss, known))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        self.note_proof(verify_tls13_signature(message, cert, dss, known))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        if let Some(family) = self.only {
            schemes.retain(|it| may_be_offered(*it, family));
        }
        schemes
    }
}

/// Whether a server with a key of `family` can take `suite`: in TLS 1.3 it takes any.
fn suits(suite: SupportedCipherSuite, family: KeyFamily) -> bool {
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            suite.sign.iter().any(|it| family_of(*it) == Some(family))
        }
        SupportedCipherSuite::Tls13(_) => true,
    }
}

/// Whether a client that takes keys of `family` alone may name `scheme`.
///
/// It may name RSA as of PKCS#1 in any case. In TLS 1.3 no server signs a handshake with that (RFC
/// 8446 §4.2.3), in TLS 1.2 the cipher suites have ruled it out; and a server that looks at how its
/// chain is signed may have an ECDSA certificate of a CA that signs with RSA.
fn may_be_offered(scheme: SignatureScheme, family: KeyFamily) -> bool {
    is_pkcs1(scheme) || family_of(scheme) == Some(family)
}

const fn is_pkcs1(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

/// The keys that sign by `scheme`; `None` if those are none of ours.
const fn family_of(scheme: SignatureScheme) -> Option<KeyFamily> {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
        | SignatureScheme::ECDSA_NISTP384_SHA384
        | SignatureScheme::ECDSA_NISTP521_SHA512 => Some(KeyFamily::Ecdsa),
        SignatureScheme::RSA_PSS_SHA256
        | SignatureScheme::RSA_PSS_SHA384
        | SignatureScheme::RSA_PSS_SHA512 => Some(KeyFamily::Rsa),
        _ if is_pkcs1(scheme) => Some(KeyFamily::Rsa),
        _ => None,
    }
}
