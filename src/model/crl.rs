//! Lists of revoked certificates (RFC 5280 §5): where they lie, and whether a certificate is on
//! one.
//!
//! A list comes over plain HTTP from whoever answers there, so nothing of it counts before the
//! signature of the certificate's own issuer was found on it.
//!
//! Not here: fetching one ([`crate::lifecycle`]).

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::ReasonCode;

use super::Timestamp;

/// A list can't be used for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// Not the DER of exactly one list.
    #[error("is not a list of revoked certificates")]
    NotAList,
    /// The certificate or its issuer can't be read.
    #[error("can't be compared with a certificate that can't be read")]
    NotACertificate,
    /// It is another issuer's.
    #[error("is another issuer's")]
    OtherIssuer,
    /// The issuer did not sign it.
    #[error("is not signed by the certificate's issuer")]
    Unsigned,
    /// It tells of other issuers' certificates too, or is only a part that needs another list.
    #[error("is of a kind that is not understood")]
    Unsuitable,
}

/// What a list says of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// When the next list is due.
    pub next_update: Option<Timestamp>,
    /// Whether the certificate is on it.
    pub listed: Option<Listed>,
}

/// A certificate that is on a list: revoked, or on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Since when, as the CA says.
    pub revoked_at: Timestamp,
    /// Why, in the RFC's word.
    pub reason: &'static str,
}

/// Where the lists lie that a certificate (DER) may be on (RFC 5280 §4.2.1.13): the URLs of its
/// distribution points, as they stand there. None if it can't be read, or names none.
#[must_use]
pub fn revocation_list_urls(certificate: &[u8]) -> Vec<String> {
    let Some(certificate) = parsed(certificate) else { return Vec::new() };
    let points = certificate.iter_extensions().filter_map(|it| match it.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(&points.points),
        _ => None,
    });
    let names = points.flatten().filter_map(|point| match &point.distribution_point {
        // A list of somebody else's would have to be signed by him.
        Some(DistributionPointName::FullName(names)) if point.crl_issuer.is_none() => Some(names),
        _ => None,
    });
    let urls = names.flatten().filter_map(|it| match it {
        GeneralName::URI(url) => Some((*url).to_owned()),
        _ => None,
    });
    urls.collect()
}

/// Looks `certificate` up in `list`; both DER, as is the certificate of its `issuer`.
///
/// # Errors
///
/// [`RevocationListError`] if the list says nothing about it.
pub fn look_up(
    list: &[u8],
    certificate: &[u8],
    issuer: &[u8],
) -> Result<Listing, RevocationListError> {
    let parsed_list = x509_parser::parse_x509_crl(list);
    let (rest, list) = parsed_list.map_err(|_why| RevocationListError::NotAList)?;
    if !rest.is_empty() {
        return Err(RevocationListError::NotAList);
    }
    let (Some(certificate), Some(issuer)) = (parsed(certificate), parsed(issuer)) else {
        return Err(RevocationListError::NotACertificate);
    };
    let name = certificate.issuer().as_raw();
    if list.issuer().as_raw() != name || issuer.subject().as_raw() != name {
        return Err(RevocationListError::OtherIssuer);
    }
    list.verify_signature(issuer.public_key()).map_err(|_why| RevocationListError::Unsigned)?;
    if !is_understood(&list) {
        return Err(RevocationListError::Unsuitable);
    }
    let moment = |it: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(it.timestamp());
    let entry =
        list.iter_revoked_certificates().find(|it| it.user_certificate == certificate.serial);
    let listed = entry.and_then(|entry| {
        let code = entry.reason_code().map_or(ReasonCode::Unspecified, |(_, code)| code);
        // It was on hold, and is not any more.
        (code != ReasonCode::RemoveFromCRL)
            .then(|| Listed { revoked_at: moment(entry.revocation_date), reason: word(code) })
    });
    Ok(Listing { next_update: list.next_update().map(moment), listed })
}

/// Whether nothing marked critical says that the list must be read in another way.
fn is_understood(list: &CertificateRevocationList<'_>) -> bool {
    list.extensions().iter().all(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => !point.indirect_crl,
        // Above all the mark of a list that only tells what changed (RFC 5280 §5.2.4).
        _ => !extension.critical,
    })
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, it)| it)
}

const fn word(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::KeyCompromise => "keyCompromise",
        ReasonCode::CACompromise => "cACompromise",
        ReasonCode::AffiliationChanged => "affiliationChanged",
        ReasonCode::Superseded => "superseded",
        ReasonCode::CessationOfOperation => "cessationOfOperation",
        ReasonCode::CertificateHold => "certificateHold",
        ReasonCode::PrivilegeWithdrawn => "privilegeWithdrawn",
        ReasonCode::AACompromise => "aACompromise",
        _ => "unspecified",
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
        RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    /// An issuer named `name`, and its certificate.
    fn issuer(name: &str) -> (Issuer<'static, KeyPair>, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        (Issuer::new(params, key), certificate)
    }

    fn leaf(issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["site.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(4711));
        let uris = vec!["http://crl.example/1.crl".to_owned(), "ldap://x/y".to_owned()];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
    }

    fn list(issuer: &Issuer<'_, KeyPair>, revoked: &[(u64, RevocationReason)]) -> Vec<u8> {
        let revoked_certs = revoked.iter().map(|(serial, reason)| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 11, 1),
            reason_code: Some(*reason),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 2),
            next_update: date_time_ymd(2026, 11, 9),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_found_on_its_issuers_list_with_the_reason() {
        let (ca, authority) = issuer("ca");
        let leaf = leaf(&ca);
        assert_eq!(revocation_list_urls(&leaf), ["http://crl.example/1.crl", "ldap://x/y"]);
        let revoked = [(1, RevocationReason::Superseded), (4711, RevocationReason::KeyCompromise)];
        let found = look_up(&list(&ca, &revoked), &leaf, &authority).unwrap();
        assert_eq!(found.listed.unwrap().reason, "keyCompromise");
        assert_eq!(found.next_update.unwrap().to_string(), "2026-11-09T00:00:00Z");
        let found = look_up(&list(&ca, &revoked[..1]), &leaf, &authority).unwrap();
        assert_eq!(found.listed, None);
    }

    #[test]
    fn a_hold_counts_and_one_that_is_over_does_not() {
        let (ca, authority) = issuer("ca");
        let leaf = leaf(&ca);
        let listed = |reason| look_up(&list(&ca, &[(4711, reason)]), &leaf, &authority).unwrap();
        assert!(listed(RevocationReason::CertificateHold).listed.is_some());
        assert!(listed(RevocationReason::RemoveFromCrl).listed.is_none());
    }

    #[test]
    fn a_list_that_the_issuer_did_not_sign_says_nothing() {
        let (ca, authority) = issuer("ca");
        let leaf = leaf(&ca);
        let revoked = [(4711, RevocationReason::KeyCompromise)];
        let look = |list: &[u8]| look_up(list, &leaf, &authority).unwrap_err();
        let (namesake, _) = issuer("ca");
        assert_eq!(look(&list(&namesake, &revoked)), RevocationListError::Unsigned);
        let (other, _) = issuer("other");
        assert_eq!(look(&list(&other, &revoked)), RevocationListError::OtherIssuer);
        assert_eq!(look(b"<html>"), RevocationListError::NotAList);
        let mut longer = list(&ca, &revoked);
        longer.push(0);
        assert_eq!(look(&longer), RevocationListError::NotAList);
        assert!(revocation_list_urls(b"garbage").is_empty());
    }
}
