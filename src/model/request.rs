//! A certificate request that somebody brings (PKCS#10, RFC 2986): its key is elsewhere, in a
//! hardware module or an appliance, and never comes here.
//!
//! # Rules
//!
//! 1. It is signed by its own key, which is of a kind that certificates of ours can have.
//! 2. What it asks for is host names and addresses, and nothing else; a common name counts among
//!    them, since CAs read it so (RFC 8555 §7.4).
//!
//! Not here: requests for our own keys ([`crate::issue`]).

use std::collections::BTreeSet;
use std::fmt;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use super::leaf::{identifier, key_type};
use super::pem::{self, PemError};
use super::{Fingerprint, Identifier, KeyType};

/// No request is larger: a hundred names of the longest kind fit.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// A certificate request, read and found to hold together.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The SHA-256 of its DER.
    pub sha256: Fingerprint,
    /// What it asks for.
    pub identifiers: BTreeSet<Identifier>,
    /// The `SubjectPublicKeyInfo` of its key, as DER.
    pub public_key: Vec<u8>,
    /// The kind of its key.
    pub key_type: KeyType,
    der: Vec<u8>,
}

/// A file is no certificate request that could be used.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// More than [`MAX_REQUEST_BYTES`].
    #[error("is larger than {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
    /// It is PEM, and broken or of something else.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not the DER of exactly one request.
    #[error("is not a certificate request (PKCS#10), as PEM or DER")]
    NotARequest,
    /// Somebody changed it, or it is signed in a way that CAs do not take.
    #[error("is not signed by its own key")]
    Unsigned,
    /// A key that certificates of ours can't have.
    #[error("is for a key that is none of p256, p384, rsa2048, rsa3072 and rsa4096")]
    KeyType,
    /// A common name that CAs would take for a name to certify.
    #[error("has the common name {0:?}, which is neither a host name nor an address")]
    CommonName(String),
    /// An e-mail address, a URI or the like.
    #[error("asks for something that is neither a host name nor an address")]
    OtherName,
}

impl CertificateRequest {
    /// Reads a request from PEM, or else DER.
    ///
    /// # Errors
    ///
    /// [`RequestError`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        const PEM: &[u8] = b"-----BEGIN ";

        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        let is_pem = bytes.windows(PEM.len()).any(|it| it == PEM);
        let der = if is_pem { pem::parse_request(bytes)? } else { bytes.to_vec() };
        let parsed = X509CertificationRequest::from_der(&der);
        let (rest, request) = parsed.map_err(|_why| RequestError::NotARequest)?;
        if !rest.is_empty() {
            return Err(RequestError::NotARequest);
        }
        let subject_key = &request.certification_request_info.subject_pki;
        let key_type = key_type(subject_key).ok_or(RequestError::KeyType)?;
        request.verify_signature().map_err(|_why| RequestError::Unsigned)?;
        Ok(Self {
            sha256: Fingerprint::of(&der),
            identifiers: identifiers(&request)?,
            public_key: subject_key.raw.to_vec(),
            key_type,
            der: der.clone(),
        })
    }

    /// Its DER, for a CA.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

fn identifiers(
    request: &X509CertificationRequest<'_>,
) -> Result<BTreeSet<Identifier>, RequestError> {
    let mut identifiers = BTreeSet::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            for name in &names.general_names {
                identifiers.insert(identifier(name).ok_or(RequestError::OtherName)?);
            }
        }
    }
    for name in request.certification_request_info.subject.iter_common_name() {
        let text = name.as_str().unwrap_or_default();
        let parsed = text.parse().map_err(|_not_one| RequestError::CommonName(text.to_owned()));
        identifiers.insert(parsed?);
    }
    Ok(identifiers)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};

    use super::*;
    use crate::model::PrivateKey;

    fn request(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> String {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        change(&mut parameters);
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        parameters.serialize_request(&key.pair().unwrap()).unwrap().pem().unwrap()
    }

    fn names(request: &CertificateRequest) -> Vec<String> {
        request.identifiers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_is_read_from_pem_and_der_with_all_that_it_asks_for() {
        let text = request(&["B.example", "*.a.example", "192.0.2.7"], |it| {
            it.distinguished_name.push(DnType::CommonName, "c.example");
        });
        let read = CertificateRequest::parse(text.as_bytes()).unwrap();
        assert_eq!(read.key_type, KeyType::P256);
        assert_eq!(names(&read), ["*.a.example", "b.example", "c.example", "192.0.2.7"]);
        assert_eq!(CertificateRequest::parse(read.der()).unwrap(), read);
        let older = text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
        assert_eq!(CertificateRequest::parse(older.as_bytes()).unwrap(), read);
        assert_eq!(Fingerprint::of(read.der()), read.sha256);
    }

    #[test]
    fn what_no_ca_would_certify_is_refused() {
        let common = request(&["a.example"], |it| {
            it.distinguished_name.push(DnType::CommonName, "My Appliance");
        });
        let refused = CertificateRequest::parse(common.as_bytes()).unwrap_err();
        assert!(matches!(refused, RequestError::CommonName(it) if it == "My Appliance"));
        let mail = request(&["a.example"], |it| {
            it.subject_alt_names.push(SanType::Rfc822Name("a@a.example".try_into().unwrap()));
        });
        let refused = CertificateRequest::parse(mail.as_bytes()).unwrap_err();
        assert!(matches!(refused, RequestError::OtherName));
    }

    #[test]
    fn a_request_that_was_changed_and_what_is_none_is_refused() {
        let read = CertificateRequest::parse(request(&["a.example"], |_| {}).as_bytes()).unwrap();
        let at = read.der().windows(9).position(|it| it == b"a.example").unwrap();
        let mut changed = read.der().to_vec();
        changed[at] = b'b';
        assert!(matches!(CertificateRequest::parse(&changed), Err(RequestError::Unsigned)));
        let more = [read.der(), b"x"].concat();
        assert!(matches!(CertificateRequest::parse(&more), Err(RequestError::NotARequest)));
        for (bytes, wanted) in [
            (&b"garbage"[..], "is not a certificate request (PKCS#10), as PEM or DER"),
            (b"", "is not a certificate request (PKCS#10), as PEM or DER"),
            (b"-----BEGIN X-----\nAAAA\n-----END X-----\n", "holds no certificate request"),
            (&vec![b'0'; MAX_REQUEST_BYTES + 1], "is larger than 65536 bytes"),
        ] {
            let error = CertificateRequest::parse(bytes).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }
}
