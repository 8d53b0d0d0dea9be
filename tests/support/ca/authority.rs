//! The keys of the CA, and real certificates by them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use renewd::model::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::jws::encoded;

/// Roots, each of which has signed the one intermediate.
#[derive(Debug)]
pub(super) struct Authority {
    roots: Vec<CertifiedIssuer<'static, KeyPair>>,
    /// The same intermediate as each root signed it: the first one issues.
    intermediates: Vec<CertifiedIssuer<'static, KeyPair>>,
}

/// What is wrong with a certificate that is otherwise as ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// It is for a key that nobody has.
    OtherKey,
    /// It is for other names.
    OtherNames,
    /// It lacks a name.
    NameMissing,
    /// It is over.
    Expired,
    /// It begins tomorrow.
    Tomorrow,
    /// It may sign others.
    OfACa,
}

/// A certificate as it was made.
#[derive(Debug)]
pub(super) struct Made {
    /// The leaf.
    pub der: CertificateDer<'static>,
    /// Its name by RFC 9773 §4.1.
    pub id: String,
}

impl Authority {
    /// With `alternates` roots beside the first.
    #[must_use]
    pub(super) fn new(alternates: usize) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem();
        let mut authority = Self { roots: Vec::new(), intermediates: Vec::new() };
        for number in 0..=alternates {
            let params = of_a_ca(&format!("Scripted Root {number}"));
            let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let params = of_a_ca("Scripted Intermediate");
            let key = KeyPair::from_pem(&pem).unwrap();
            let intermediate = CertifiedIssuer::signed_by(params, key, &root).unwrap();
            authority.roots.push(root);
            authority.intermediates.push(intermediate);
        }
        authority
    }

    /// How many chains there are for a certificate.
    #[must_use]
    pub(super) fn chains(&self) -> usize {
        self.roots.len()
    }

    /// The root number `index`, as PEM.
    #[must_use]
    pub(super) fn root_pem(&self, index: usize) -> String {
        self.roots[index].pem()
    }

    /// The intermediate that the root number `index` signed, as PEM.
    #[must_use]
    pub(super) fn intermediate_pem(&self, index: usize) -> String {
        self.intermediates[index].pem()
    }

    /// The chain number `index` of the certificate `leaf`, as PEM.
    #[must_use]
    pub(super) fn chain(&self, leaf: &CertificateDer<'_>, index: usize) -> String {
        format!("{}{}", pem(leaf), self.intermediate_pem(index))
    }

    /// A certificate for the CSR, valid from `not_before` to `not_after`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the CSR.
    pub(super) fn issue(
        &self,
        csr: &CertificateSigningRequestParams,
        (not_before, not_after): (Timestamp, Timestamp),
        forgery: Option<Forgery>,
    ) -> Result<Made, &'static str> {
        let mut params = csr.params.clone();
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (moment(not_before), moment(not_after));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut serial: Vec<u8> = (0..16).map(|_| fastrand::u8(..)).collect();
        serial[0] = 0x2a;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let day = time::Duration::days(1);
        match forgery {
            Some(Forgery::OtherNames) => {
                let other = "other.example".to_owned().try_into().map_err(|_bad| "name")?;
                params.subject_alt_names = vec![SanType::DnsName(other)];
            }
            Some(Forgery::NameMissing) => drop(params.subject_alt_names.pop()),
            Some(Forgery::Expired) => {
                params.not_before -= day * 200;
                params.not_after = moment(not_before) - day;
            }
            Some(Forgery::Tomorrow) => {
                params.not_before += day;
                params.not_after += day;
            }
            Some(Forgery::OfACa) => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Some(Forgery::OtherKey) | None => {}
        }
        let issuer = &self.intermediates[0];
        let made = if forgery == Some(Forgery::OtherKey) {
            params.signed_by(&KeyPair::generate().unwrap(), issuer)
        } else {
            params.signed_by(&csr.public_key, issuer)
        };
        let der = made.map_err(|_refused| "the certificate can't be made")?.der().clone();
        let id = name_of(&der).ok_or("the certificate has no name")?;
        Ok(Made { der, id })
    }
}

/// Reads a CSR, whose signature must hold.
///
/// # Errors
///
/// If it is none.
pub(super) fn read_csr(der: &[u8]) -> Result<CertificateSigningRequestParams, &'static str> {
    let der = CertificateSigningRequestDer::from(der.to_vec());
    CertificateSigningRequestParams::from_der(&der).map_err(|_refused| "the CSR is none")
}

/// The identifiers of a CSR, as text, sorted.
#[must_use]
pub(super) fn names_of(csr: &CertificateSigningRequestParams) -> Vec<String> {
    let mut names: Vec<String> = (csr.params.subject_alt_names.iter())
        .map(|it| match it {
            SanType::DnsName(name) => name.as_str().to_ascii_lowercase(),
            SanType::IpAddress(address) => address.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The certificate's name by RFC 9773 §4.1, read from the certificate itself.
fn name_of(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let authority = certificate.extensions().iter().find_map(|it| match it.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(it) => it.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(format!("{}.{}", encoded(authority.0), encoded(certificate.raw_serial())))
}

/// The public key of a certificate, as it stands in it.
#[must_use]
pub(super) fn public_key_of(der: &[u8]) -> Vec<u8> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    certificate.public_key().subject_public_key.data.to_vec()
}

/// A certificate as PEM.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|it| &text[it..text.len().min(it + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn of_a_ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn moment(moment: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.unix_seconds().cast_signed()).unwrap()
}
