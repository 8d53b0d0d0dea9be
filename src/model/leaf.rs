//! What we know of a certificate: read once from its DER, copied out, checked for hostile shapes.
//!
//! Certificates come from CAs, servers that we probe and files that anyone may have written, so
//! nothing of them is indexed or trusted before it is checked.
//!
//! Not here: whether a chain leads to a trusted root.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::chain_order::in_order;
use super::{Identifier, KeyType, Timestamp, Validity};

/// The SHA-256 of a certificate's DER: its identity, everywhere. Lower-case hex as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the certificate `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not the SHA-256 of anything.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-256 in hex")]
pub struct FingerprintError;

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // A sign would be taken for a part of a number.
        if text.len() != 64 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (byte, index) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = text.get(index..index + 2).ok_or(FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_not_hex| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// A certificate can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not the DER of exactly one X.509 certificate.
    #[error("is not an X.509 certificate")]
    NotACertificate,
    /// An extension appears twice or can't be parsed.
    #[error("has a broken {0} extension")]
    BrokenExtension(&'static str),
}

/// What there is to know of one certificate; an end-entity certificate as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The identity.
    pub sha256: Fingerprint,
    /// The serial number (RFC 5280 §4.1.2.2), its DER value with a leading zero byte if it has one.
    pub serial: Vec<u8>,
    /// The subject alternative names (RFC 5280 §4.2.1.6) that are DNS names or addresses. What
    /// can't be an [`Identifier`] is left out, and the common name is never read.
    pub identifiers: BTreeSet<Identifier>,
    /// When it is valid.
    pub validity: Validity,
    /// The issuer's distinguished name, for people.
    pub issuer: String,
    /// Issuer and subject as raw DER, to put a chain in order.
    pub issuer_der: Vec<u8>,
    /// The subject's distinguished name as raw DER.
    pub subject_der: Vec<u8>,
    /// The `SubjectPublicKeyInfo` as DER.
    pub public_key: Vec<u8>,
    /// The kind of key, if it is one of ours.
    pub key_type: Option<KeyType>,
    /// The authority key identifier (RFC 5280 §4.2.1.1), which RFC 9773 §4.1 needs.
    pub authority_key_identifier: Option<Vec<u8>>,
    /// Whether it may sign others (RFC 5280 §4.2.1.9).
    pub is_ca: bool,
}

impl Leaf {
    /// Reads the certificate `der`.
    ///
    /// # Errors
    ///
    /// If it is not exactly one certificate, or an extension that we rely on is broken.
    pub fn parse(der: &[u8]) -> Result<Self, LeafError> {
        let parsed = x509_parser::parse_x509_certificate(der);
        let (rest, certificate) = parsed.map_err(|_why| LeafError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(LeafError::NotACertificate);
        }
        let basic_constraints = certificate
            .basic_constraints()
            .map_err(|_why| LeafError::BrokenExtension("basic constraints"))?;
        Ok(Self {
            sha256: Fingerprint::of(der),
            serial: certificate.raw_serial().to_vec(),
            identifiers: identifiers(&certificate)?,
            validity: validity(&certificate),
            issuer: certificate.issuer().to_string(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            subject_der: certificate.subject().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
            key_type: key_type(certificate.public_key()),
            authority_key_identifier: authority_key_identifier(&certificate),
            is_ca: basic_constraints.is_some_and(|it| it.value.ca),
        })
    }

    /// The serial number as OpenSSL prints it: upper-case hex without a leading zero byte.
    #[must_use]
    pub fn serial_text(&self) -> String {
        let significant = match self.serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        significant.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Whether it signed itself, as placeholders and roots do (compared by name, not by signature).
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer_der == self.subject_der
    }

    /// Whether it is valid for the host name or address `identifier` (RFC 9525 §6.3: a wildcard
    /// covers exactly one label).
    #[must_use]
    pub fn covers(&self, identifier: &Identifier) -> bool {
        if self.identifiers.contains(identifier) {
            return true;
        }
        let Identifier::Dns(name) = identifier else { return false };
        name.split_once('.').is_some_and(|(_, parent)| {
            self.identifiers.contains(&Identifier::Dns(format!("*.{parent}")))
        })
    }
}

fn identifiers(certificate: &X509Certificate<'_>) -> Result<BTreeSet<Identifier>, LeafError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_why| LeafError::BrokenExtension("subject alternative name"))?;
    let Some(names) = names else { return Ok(BTreeSet::new()) };
    Ok(names.value.general_names.iter().filter_map(identifier).collect())
}

/// The host name or address that `name` is, if it is one.
pub(super) fn identifier(name: &GeneralName<'_>) -> Option<Identifier> {
    match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        GeneralName::IPAddress(bytes) => {
            let address: IpAddr = match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok()?.into(),
                16 => <[u8; 16]>::try_from(*bytes).ok()?.into(),
                _ => return None,
            };
            Some(Identifier::Ip(address))
        }
        _ => None,
    }
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity {
        not_before: Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_unix_seconds(validity.not_after.timestamp()),
    }
}

/// The kind of `key`, if it is one of ours.
pub(super) fn key_type(key: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    match key.parsed().ok()? {
        PublicKey::EC(point) => match point.key_size() {
            256 => Some(KeyType::P256),
            384 => Some(KeyType::P384),
            _ => None,
        },
        PublicKey::RSA(key) => match key.key_size() {
            2048 => Some(KeyType::Rsa2048),
            3072 => Some(KeyType::Rsa3072),
            4096 => Some(KeyType::Rsa4096),
            _ => None,
        },
        _ => None,
    }
}

fn authority_key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => {
            found.key_identifier.as_ref().map(|it| it.0.to_vec())
        }
        _ => None,
    })
}

fn issuer_name(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return String::new();
    };
    let name = certificate.issuer().iter_common_name().next();
    name.and_then(|it| it.as_str().ok()).unwrap_or_default().to_owned()
}

/// A leaf and the certificates that lead from it towards a trust anchor, in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What there is to know of the first one.
    pub leaf: Leaf,
    certificates: Vec<CertificateDer<'static>>,
}

/// The longest chain that is taken.
pub const MAX_CHAIN_LENGTH: usize = 10;

/// Certificates do not make a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Not PEM, or no certificate in it.
    #[error("the chain {0}")]
    Pem(#[source] super::pem::PemError),
    /// More than [`MAX_CHAIN_LENGTH`].
    #[error("the chain has more than {MAX_CHAIN_LENGTH} certificates")]
    TooLong,
    /// One of them can't be read; counted from 1.
    #[error("certificate {position} of the chain can't be used")]
    Unreadable {
        /// Where it stands, from 1.
        position: usize,
        /// Why.
        #[source]
        source: LeafError,
    },
    /// No order of them leads from the leaf upwards.
    #[error("certificate {position} of the chain did not issue the one before it")]
    Disordered {
        /// Where it stands, from 1.
        position: usize,
    },
}

impl Chain {
    /// Reads a chain from `pem`, leaf first (RFC 8555 §7.4.2). Intermediates in a wrong order are
    /// put right; what does not belong to the chain is refused.
    ///
    /// # Errors
    ///
    /// Says what is wrong, and with which certificate.
    pub fn parse_pem(pem: &[u8]) -> Result<Self, ChainError> {
        Self::from_der(super::pem::parse_certificates(pem).map_err(ChainError::Pem)?)
    }

    /// As [`Chain::parse_pem`], from DER.
    ///
    /// # Errors
    ///
    /// Says what is wrong, and with which certificate.
    pub fn from_der(certificates: Vec<CertificateDer<'static>>) -> Result<Self, ChainError> {
        if certificates.len() > MAX_CHAIN_LENGTH {
            return Err(ChainError::TooLong);
        }
        let mut pending = Vec::new();
        for (position, der) in (1..).zip(certificates) {
            let parsed = Leaf::parse(&der);
            let read = parsed.map_err(|source| ChainError::Unreadable { position, source })?;
            pending.push((read, der));
        }
        if pending.is_empty() {
            return Err(ChainError::Pem(super::pem::PemError::Missing("certificate")));
        }
        let order = in_order(&pending)
            .map_err(|length| ChainError::Disordered { position: length.saturating_add(1) })?;
        let sorted = order.iter().filter_map(|place| pending.get(*place));
        let certificates = sorted.map(|(_, der)| der.clone()).collect();
        let (leaf, _) = pending.swap_remove(0);
        Ok(Self { leaf, certificates })
    }

    /// Whether the leaf names exactly `identifiers`: each of them, and nothing else of any kind
    /// among its subject alternative names.
    #[must_use]
    pub fn is_for_exactly(&self, identifiers: &BTreeSet<Identifier>) -> bool {
        let parsed = self.certificates.first().map(|it| x509_parser::parse_x509_certificate(it));
        let Some(Ok((_, certificate))) = parsed else { return false };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
        let all_known = names.value.general_names.iter().all(|it| identifier(it).is_some());
        all_known && self.leaf.identifiers == *identifiers
    }

    /// Whether clients have to be shown the leaf's issuer as well: it is here, and no root, which
    /// they would know.
    #[must_use]
    pub fn needs_issuer(&self) -> bool {
        let issuer = self.certificates.get(1).map(|it| Leaf::parse(it));
        issuer.is_some_and(|it| it.is_ok_and(|it| !it.is_self_issued()))
    }

    /// All of them, leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The common name of each certificate's issuer, the leaf's first; empty where it has none.
    #[must_use]
    pub fn issuer_names(&self) -> Vec<String> {
        self.certificates.iter().map(|it| issuer_name(it)).collect()
    }

    /// `fullchain.pem`: all of them.
    #[must_use]
    pub fn full_pem(&self) -> String {
        super::pem::write_certificates(&self.certificates)
    }

    /// `cert.pem`: the leaf.
    #[must_use]
    pub fn leaf_pem(&self) -> String {
        super::pem::write_certificates(self.certificates.first())
    }

    /// `chain.pem`: all but the leaf.
    #[must_use]
    pub fn issuers_pem(&self) -> String {
        super::pem::write_certificates(self.certificates.iter().skip(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};

    use super::*;

    /// A root, an intermediate and a leaf for `names`, in this order, as DER.
    fn hierarchy(names: &[&str]) -> Vec<CertificateDer<'static>> {
        let authority = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            parameters
        };
        let root =
            CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let parameters = authority("intermediate");
        let intermediate = parameters.signed_by(&key, &root).unwrap();
        let issuer = Issuer::new(parameters, key);
        let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.use_authority_key_identifier_extension = true;
        let leaf = parameters.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        vec![root.der().clone(), intermediate.der().clone(), leaf.der().clone()]
    }

    fn leaf(names: &[&str]) -> Leaf {
        Leaf::parse(hierarchy(names).last().unwrap()).unwrap()
    }

    #[test]
    fn an_issuer_is_needed_where_there_is_one_that_is_no_root() {
        let all = hierarchy(&["a.example"]);
        let [root, intermediate, leaf] = &all[..] else { panic!("{all:?}") };
        let needs = |chain: &[&CertificateDer<'static>]| {
            let chain = chain.iter().map(|it| (*it).clone()).collect();
            Chain::from_der(chain).unwrap().needs_issuer()
        };
        assert!(needs(&[leaf, intermediate]) && needs(&[leaf, root, intermediate]));
        assert!(!needs(&[leaf]) && !needs(&[intermediate, root]));
    }

    #[test]
    fn a_leaf_for_exactly_some_names_has_no_other_of_any_kind() {
        let wanted: BTreeSet<Identifier> = ["a.example", "*.a.example", "192.0.2.7"]
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        let chain = |others: &[rcgen::SanType]| {
            let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            let mut parameters = CertificateParams::new(names).unwrap();
            parameters.subject_alt_names.extend_from_slice(others);
            let key = KeyPair::generate().unwrap();
            let der = parameters.self_signed(&key).unwrap().der().clone();
            Chain::from_der(vec![der]).unwrap()
        };
        assert!(chain(&[]).is_for_exactly(&wanted));
        let other = |text: &str| text.try_into().unwrap();
        for san in [
            rcgen::SanType::Rfc822Name(other("a@a.example")),
            rcgen::SanType::DnsName(other("b.example")),
            rcgen::SanType::DnsName(other("under_score.example")),
            rcgen::SanType::URI(other("https://a.example")),
        ] {
            assert!(!chain(std::slice::from_ref(&san)).is_for_exactly(&wanted), "{san:?}");
        }
        assert!(!chain(&[]).is_for_exactly(&BTreeSet::new()));
    }

    #[test]
    fn a_leaf_tells_its_names_key_and_issuer() {
        let leaf = leaf(&["example.com", "*.example.net", "192.0.2.7", "2001:db8::1"]);
        let names: Vec<String> = leaf.identifiers.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["*.example.net", "example.com", "192.0.2.7", "2001:db8::1"]);
        assert_eq!(leaf.key_type, Some(KeyType::P256));
        assert!(leaf.issuer.contains("intermediate"));
        assert!(leaf.authority_key_identifier.is_some());
        assert!(!leaf.is_self_issued() && !leaf.is_ca);
    }

    #[test]
    fn a_wildcard_covers_one_label_and_not_the_apex() {
        let leaf = leaf(&["*.example.net"]);
        let covers = |name: &str| leaf.covers(&name.parse().unwrap());
        assert!(covers("a.example.net") && covers("*.example.net"));
        assert!(!covers("example.net") && !covers("a.b.example.net") && !covers("192.0.2.7"));
    }

    #[test]
    fn serials_print_as_openssl_prints_them() {
        let mut leaf = leaf(&["example.com"]);
        leaf.serial = vec![0x00, 0xab, 0x01];
        assert_eq!(leaf.serial_text(), "AB01");
        leaf.serial = vec![0];
        assert_eq!(leaf.serial_text(), "00");
    }

    #[test]
    fn trailing_bytes_and_garbage_are_no_certificate() {
        let mut der = hierarchy(&["example.com"]).pop().unwrap().to_vec();
        der.push(0);
        assert_eq!(Leaf::parse(&der), Err(LeafError::NotACertificate));
        assert_eq!(Leaf::parse(b""), Err(LeafError::NotACertificate));
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_put_right() {
        let mut certificates = hierarchy(&["example.com"]);
        certificates.rotate_right(1);
        let [leaf, root, intermediate] = <[_; 3]>::try_from(certificates).unwrap();
        let chain =
            Chain::from_der(vec![leaf.clone(), root.clone(), intermediate.clone()]).unwrap();
        assert_eq!(chain.certificates(), [leaf, intermediate, root]);
    }

    #[test]
    fn a_stranger_in_a_chain_is_refused() {
        let [_, intermediate, leaf] = <[_; 3]>::try_from(hierarchy(&["example.com"])).unwrap();
        let stranger = hierarchy(&["example.org"]).remove(1);
        let chain = |list: Vec<CertificateDer<'static>>| Chain::from_der(list);
        assert!(matches!(
            chain(vec![leaf.clone(), stranger]),
            Err(ChainError::Disordered { position: 2 })
        ));
        let doubled = vec![leaf.clone(), intermediate.clone(), intermediate];
        assert!(matches!(chain(doubled), Err(ChainError::Disordered { position: 3 })));
        assert!(matches!(chain(vec![leaf; 11]), Err(ChainError::TooLong)));
        assert!(Chain::parse_pem(b"").is_err());
    }

    #[test]
    fn fingerprints_read_back_what_they_print() {
        let fingerprint = Fingerprint::of(b"x");
        assert_eq!(Fingerprint::try_from(fingerprint.to_string()).unwrap(), fingerprint);
        assert!(Fingerprint::try_from("zz".repeat(32)).is_err());
        assert!(Fingerprint::try_from("+0".repeat(32)).is_err());
        assert!(Fingerprint::try_from("é".repeat(32)).is_err());
    }

    /// A leaf and all that lead from it to a root, in that order, as DER.
    static LONG_CHAIN: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
        let authority = |number: usize| {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("ca {number}"));
            parameters
        };
        let key = KeyPair::generate().unwrap();
        let mut issuer = Issuer::new(authority(0), key);
        let mut chain = vec![authority(0).self_signed(issuer.key()).unwrap().der().clone()];
        for number in 1..6 {
            let key = KeyPair::generate().unwrap();
            chain.push(authority(number).signed_by(&key, &issuer).unwrap().der().clone());
            issuer = Issuer::new(authority(number), key);
        }
        let leaf = CertificateParams::new(["example.com".to_owned()]).unwrap();
        chain.push(leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone());
        chain.reverse();
        chain
    });

    fn shuffled() -> impl Strategy<Value = Vec<CertificateDer<'static>>> {
        (1..=LONG_CHAIN.len())
            .prop_flat_map(|length| Just(LONG_CHAIN[1..length].to_vec()).prop_shuffle())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_chain_is_the_same_in_whatever_order_its_issuers_come(issuers in shuffled()) {
            let (leaf, length) = (LONG_CHAIN[0].clone(), issuers.len() + 1);
            let chain = Chain::from_der([vec![leaf], issuers].concat()).unwrap();
            prop_assert_eq!(chain.certificates(), &LONG_CHAIN[..length]);
            prop_assert_eq!(Chain::parse_pem(chain.full_pem().as_bytes()).unwrap(), chain);
        }

        #[test]
        fn a_chain_with_a_gap_is_none(gap in 1_usize..6, issuers in Just(LONG_CHAIN[1..].to_vec()).prop_shuffle()) {
            let missing = LONG_CHAIN[gap].clone();
            let others = issuers.into_iter().filter(|it| *it != missing);
            let others: Vec<_> = std::iter::once(LONG_CHAIN[0].clone()).chain(others).collect();
            let disordered = matches!(Chain::from_der(others), Err(ChainError::Disordered { position }) if position == gap + 1);
            prop_assert!(disordered);
        }
    }
}
