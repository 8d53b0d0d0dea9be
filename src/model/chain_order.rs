//! In which order the certificates of a chain stand: each has signed the one before it.
//!
//! Issuers may share a name and even a key, as where one of them is cross-signed: of several ways
//! to go on, the first that came is tried first, and left again where it leads nowhere.
//!
//! Not here: reading certificates ([`super::leaf`]).

use rustls_pki_types::CertificateDer;
use x509_parser::error::X509Error;

use super::Leaf;

/// So many ways are tried. A chain of ten that shares no name needs ten.
const MAX_STEPS: usize = 10_000;

/// The places of `certificates`, from that of the first on, in an order in which all are one chain.
///
/// # Errors
///
/// How many of them are one, if not all.
pub(super) fn in_order(
    certificates: &[(Leaf, CertificateDer<'static>)],
) -> Result<Vec<usize>, usize> {
    let issuers = certificates.iter().map(|issued| {
        let fits = |issuer: &(Leaf, CertificateDer<'static>)| {
            issuer.0.is_ca
                && issuer.0.subject_der == issued.0.issuer_der
                && has_signed(&issuer.1, &issued.1)
        };
        let places = certificates.iter().enumerate().filter(|(_, issuer)| fits(issuer));
        places.map(|(place, _)| place).collect()
    });
    let mut search = Search { issuers: issuers.collect(), order: vec![0], longest: 1, steps: 0 };
    if search.goes_on_from(0) { Ok(search.order) } else { Err(search.longest) }
}

struct Search {
    /// For each certificate, who may have issued it.
    issuers: Vec<Vec<usize>>,
    /// What is one chain so far.
    order: Vec<usize>,
    longest: usize,
    steps: usize,
}

impl Search {
    /// Whether what is left leads on from `last`; if so, it is in the order.
    fn goes_on_from(&mut self, last: usize) -> bool {
        self.longest = self.longest.max(self.order.len());
        if self.order.len() >= self.issuers.len() {
            return true;
        }
        for next in self.issuers.get(last).cloned().unwrap_or_default() {
            self.steps = self.steps.saturating_add(1);
            if self.order.contains(&next) || self.steps > MAX_STEPS {
                continue;
            }
            self.order.push(next);
            if self.goes_on_from(next) {
                return true;
            }
            self.order.pop();
        }
        false
    }
}

/// Whether the key of the certificate `issuer` made the signature of `issued`.
///
/// A kind of signature that the library does not know counts as made by it: the names fit, and
/// clients judge for themselves.
fn has_signed(issuer: &[u8], issued: &[u8]) -> bool {
    let parsed = |der| x509_parser::parse_x509_certificate(der).map(|(_, certificate)| certificate);
    let (Ok(issuer), Ok(issued)) = (parsed(issuer), parsed(issued)) else { return false };
    match issued.verify_signature(Some(issuer.public_key())) {
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use crate::model::{Chain, ChainError};

    fn authority(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    }

    #[test]
    fn of_two_issuers_of_one_name_and_key_the_one_that_leads_on_is_found() {
        let key = || KeyPair::generate().unwrap();
        let (above, shared) = (Issuer::new(authority("b"), key()), key());
        let root = authority("b").self_signed(above.key()).unwrap().der().clone();
        let crossed = authority("a").signed_by(&shared, &above).unwrap().der().clone();
        let own = authority("a").self_signed(&shared).unwrap().der().clone();
        let issuer = Issuer::new(authority("a"), shared);
        let leaf = CertificateParams::new(["example.com".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key(), &issuer).unwrap().der().clone();
        let sorted = [&leaf, &own, &crossed, &root].map(Clone::clone);
        for given in [[&leaf, &crossed, &own, &root], [&leaf, &root, &crossed, &own]] {
            let chain = Chain::from_der(given.map(Clone::clone).to_vec()).unwrap();
            assert_eq!(chain.certificates(), sorted);
        }
    }

    #[test]
    fn ten_of_one_name_and_key_that_lead_nowhere_are_given_up_soon() {
        let shared = KeyPair::generate().unwrap();
        let own = |serial: u64| {
            let mut parameters = authority("a");
            parameters.serial_number = Some(serial.into());
            parameters.self_signed(&shared).unwrap().der().clone()
        };
        let stranger = authority("b").self_signed(&shared).unwrap().der().clone();
        let all: Vec<_> = (1..10).map(own).chain([stranger]).collect();
        let error = Chain::from_der(all).unwrap_err();
        assert!(matches!(error, ChainError::Disordered { position: 10 }), "{error}");
    }
}
