//! Makes the certificates of the built-in CA. Time, keys and serial numbers are arguments.
//!
//! # Rules
//!
//! 1. Names of CA certificates end in eight digits of their key's identifier, so that two keys
//!    never have one name, and one key never has two.
//! 2. A certificate begins an hour before now, or a tenth of its life if that is less, for clocks
//!    that are behind; its whole life is what the settings say.
//! 3. No certificate outlives the one that signed it.
//! 4. A root signs intermediates, an intermediate signs leafs (path lengths 1 and 0); both carry
//!    what is permitted, since not all clients heed what stands in a root.
//! 5. A leaf has no subject and a critical subject alternative name (RFC 5280 §4.2.1.6).
//!
//! Not here: what is permitted ([`super::LocalCa::issue`] asks that before), and the choice of who
//! signs ([`super::hierarchy`]).

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;

use super::authority::LeafRequest;
use super::hierarchy::Authority;
use super::settings::LocalCaSettings;
use super::subtree;
use crate::model::{Chain, ChainError, Identifier, KeyError, PrivateKey, Timestamp, Validity};

/// How far before now a certificate begins at most.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// No more than this part of its life lies before now.
const BACKDATED_PARTS: u32 = 10;

/// A serial number: 128 random bits behind a one, so that it is positive and always of one length
/// (RFC 5280 §4.1.2.2 allows 20 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial([u8; 17]);

impl Serial {
    /// The number that ends in `bytes`.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        let mut number = [1; 17];
        number.iter_mut().skip(1).zip(bytes).for_each(|(to, from)| *to = from);
        Self(number)
    }

    /// From the system's generator.
    ///
    /// # Errors
    ///
    /// If the generator fails.
    pub(super) fn random() -> Result<Self, SignError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| SignError::NoRandomness)?;
        Ok(Self::new(bytes))
    }
}

/// A certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The system's generator of random numbers fails.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The library refused.
    #[error("the certificate can't be made")]
    Library(#[from] rcgen::Error),
    /// The key can't be used.
    #[error("the key can't be used")]
    Key(#[from] KeyError),
    /// What was signed is no chain.
    #[error("what was signed can't be read back")]
    Chain(#[from] ChainError),
    /// The certificate that signs ends before anything could begin.
    #[error("the certificate that signs expired at {0}")]
    SignerExpired(Timestamp),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// A root for `key`.
pub(super) fn sign_root(
    key: &PrivateKey,
    settings: &LocalCaSettings,
    now: Timestamp,
    serial: Serial,
) -> Result<CertificateDer<'static>, SignError> {
    let pair = key.pair()?;
    let validity = validity(settings.root_lifetime, now, Timestamp::MAX)?;
    let parameters = ca_parameters("root", 1, &pair, settings, validity, serial);
    Ok(parameters.self_signed(&pair)?.der().clone())
}

/// An intermediate for `key` below `root`.
pub(super) fn sign_intermediate(
    key: &PrivateKey,
    (root, root_key): (&Authority, &PrivateKey),
    settings: &LocalCaSettings,
    now: Timestamp,
    serial: Serial,
) -> Result<CertificateDer<'static>, SignError> {
    let pair = key.pair()?;
    let end = root.facts.validity.not_after;
    let validity = validity(settings.intermediate_lifetime, now, end)?;
    let mut parameters = ca_parameters("intermediate", 0, &pair, settings, validity, serial);
    parameters.use_authority_key_identifier_extension = true;
    let issuer = issuer(root, root_key)?;
    Ok(parameters.signed_by(&pair, &issuer)?.der().clone())
}

/// A leaf as `request` says, signed by `signer`, with `signer`'s certificate behind it. Whether the
/// CA may certify that is not asked: [`super::LocalCa::issue`] does, and clients will.
///
/// # Errors
///
/// [`SignError`]; none is expected of a signer that is valid at `now`.
pub fn sign_leaf(
    request: &LeafRequest,
    (signer, signer_key): (&Authority, &PrivateKey),
    settings: &LocalCaSettings,
    now: Timestamp,
    serial: Serial,
) -> Result<Chain, SignError> {
    let validity = validity(settings.lifetime, now, signer.facts.validity.not_after)?;
    let mut parameters = parameters(validity, serial);
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.subject_alt_names =
        request.identifiers.iter().map(alternative_name).collect::<Result<_, _>>()?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if request.key_type.is_slow() {
        // RSA: TLS 1.2 has suites in which the client encrypts to it.
        parameters.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if settings.client_auth {
        parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let public_key = SubjectPublicKeyInfo::from_der(&request.public_key)?;
    let leaf = parameters.signed_by(&public_key, &issuer(signer, signer_key)?)?;
    Ok(Chain::from_der(vec![leaf.der().clone(), signer.certificate.clone()])?)
}

/// What a certificate that begins about `now` is valid for: `lifetime`, but never past `end`.
fn validity(lifetime: Duration, now: Timestamp, end: Timestamp) -> Result<Validity, SignError> {
    if end <= now {
        return Err(SignError::SignerExpired(end));
    }
    let not_before = now.saturating_sub(BACKDATED.min(lifetime / BACKDATED_PARTS));
    Ok(Validity { not_before, not_after: not_before.saturating_add(lifetime).min(end) })
}

fn parameters(validity: Validity, serial: Serial) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // The library's default is a name of its own.
    parameters.distinguished_name = DistinguishedName::new();
    parameters.not_before = SystemTime::from(validity.not_before).into();
    parameters.not_after = SystemTime::from(validity.not_after).into();
    parameters.serial_number = Some(SerialNumber::from_slice(&serial.0));
    parameters
}

fn ca_parameters(
    role: &str,
    path_length: u8,
    pair: &KeyPair,
    settings: &LocalCaSettings,
    validity: Validity,
    serial: Serial,
) -> CertificateParams {
    let mut parameters = parameters(validity, serial);
    if let Some(organization) = &settings.organization {
        parameters.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    let identifier = parameters.key_identifier(pair);
    let digits: String = identifier.iter().take(4).map(|it| format!("{it:02x}")).collect();
    let name = format!("{} {role} {digits}", settings.common_name);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.name_constraints = subtree::constraints(&settings.permitted);
    parameters
}

fn issuer<'a>(signer: &Authority, key: &PrivateKey) -> Result<Issuer<'a, KeyPair>, SignError> {
    Ok(Issuer::from_ca_cert_der(&signer.certificate, key.pair()?)?)
}

fn alternative_name(identifier: &Identifier) -> Result<SanType, rcgen::Error> {
    Ok(match identifier {
        Identifier::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Identifier::Ip(address) => SanType::IpAddress(*address),
    })
}
