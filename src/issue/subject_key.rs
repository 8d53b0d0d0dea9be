//! The key that a certificate is for: ours, or one that is elsewhere and has sent a request.
//!
//! Not here: which of ours it is ([`crate::plan::decide_key`]).

use crate::model::{
    CertificateRequest, CertificateSpec, Identifier, KeyError, KeySource, PrivateKey,
};

use super::csr::{self, CsrError, generate_key};

/// The key of an order.
#[derive(Debug)]
pub(super) enum SubjectKey {
    /// We have it.
    Ours(PrivateKey),
    /// Who has it signed this.
    Elsewhere(CertificateRequest),
}

impl SubjectKey {
    /// The key of the next order for `spec`: that of its request, else `reused`, else a new one.
    pub(super) async fn choose(
        spec: &CertificateSpec,
        reused: Option<&PrivateKey>,
    ) -> Result<Self, KeyError> {
        Ok(match (&spec.key_source, reused) {
            (KeySource::Elsewhere(request), _) => Self::Elsewhere(request.clone()),
            (_, Some(key)) => Self::Ours(key.duplicate()),
            (_, None) => Self::Ours(generate_key(spec.key_type).await?),
        })
    }

    /// The key of a journalled order, whose own is `pending`; `None` if it was lost.
    pub(super) fn of_journal(spec: &CertificateSpec, pending: Option<PrivateKey>) -> Option<Self> {
        match pending {
            Some(key) => Some(Self::Ours(key)),
            None => spec.request().cloned().map(Self::Elsewhere),
        }
    }

    /// Its public half, as DER.
    pub(super) fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Ours(key) => key.public_key(),
            Self::Elsewhere(request) => Ok(request.public_key.clone()),
        }
    }

    /// The request for a certificate for `identifiers`, as DER. One that was brought is sent as it
    /// is: it asks for the same.
    pub(super) fn request(&self, identifiers: &[Identifier]) -> Result<Vec<u8>, CsrError> {
        match self {
            Self::Ours(key) => csr::build(identifiers, key),
            Self::Elsewhere(request) => Ok(request.der().to_vec()),
        }
    }

    /// The key itself, if we have it.
    pub(super) fn ours(&self) -> Option<PrivateKey> {
        match self {
            Self::Ours(key) => Some(key.duplicate()),
            Self::Elsewhere(_) => None,
        }
    }
}
