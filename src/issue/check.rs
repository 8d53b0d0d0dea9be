//! Looks at what a CA sent before anything is done with it.
//!
//! A certificate that is not for our key, not for the names that were ordered, or not valid now
//! would take down the servers that it is given to; so it is refused here, and the one that is in
//! use stays. That each certificate of a chain signed the one before it is seen when it is read
//! ([`Chain::parse_pem`]).
//!
//! Not here: whether clients trust the CA. Only a handshake shows that ([`crate::probe`]).

use std::collections::BTreeSet;
use std::time::Duration;

use super::subject_key::SubjectKey;
use crate::model::{Chain, Explain, Identifier, KeyError, Retry, Timestamp};

/// How far in the future a certificate's validity may begin: CAs' clocks differ from ours.
const MAX_SKEW: Duration = Duration::from_secs(60 * 60);

/// What a CA sent can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Our own key can't be read.
    #[error("our key can't be compared with the certificate")]
    Key(#[source] KeyError),
    /// It is for another key.
    #[error("the CA sent a certificate that is not for our key")]
    ForeignKey,
    /// Its names are not those that were ordered.
    #[error(
        "the CA sent a certificate for other names than were ordered ({})",
        differences(missing, extra)
    )]
    OtherNames {
        /// Ordered, and not in it.
        missing: Vec<Identifier>,
        /// In it, and not ordered.
        extra: Vec<Identifier>,
    },
    /// It may sign other certificates (RFC 5280 §4.2.1.9), so it is not one for a server.
    #[error("the CA sent a certificate of a CA")]
    OfACa,
    /// Its validity ends before it begins, or at once.
    #[error("the CA sent a certificate that is valid at no time")]
    NeverValid,
    /// Its validity begins too late.
    #[error("the CA sent a certificate that is valid only from {not_before}, and now is {now}")]
    NotYetValid {
        /// The first moment.
        not_before: Timestamp,
        /// When it was checked.
        now: Timestamp,
    },
    /// Its validity is over.
    #[error("the CA sent a certificate that expired at {not_after}, and now is {now}")]
    Expired {
        /// The last moment.
        not_after: Timestamp,
        /// When it was checked.
        now: Timestamp,
    },
}

impl CheckError {
    /// After how long the same certificate will do, if time alone brings that.
    pub(super) fn will_do_in(&self) -> Option<Duration> {
        match self {
            Self::NotYetValid { not_before, now } => {
                Some(not_before.saturating_sub(MAX_SKEW).since(*now))
            }
            _ => None,
        }
    }
}

impl Explain for CheckError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "issue.unusable_key",
            _ => "issue.unusable_certificate",
        }
    }

    fn retry(&self) -> Retry {
        Retry::BackOff
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Key(_) => "take reuse_key off the certificate, so that it gets a new key".into(),
            Self::NotYetValid { .. } | Self::Expired { .. } => {
                "see whether this machine's clock is right: `timedatectl`; if it is, tell the CA"
                    .into()
            }
            Self::ForeignKey | Self::OtherNames { .. } | Self::OfACa | Self::NeverValid => {
                "this is a fault of the CA: tell it, or name another one by ca =; the certificate \
                 in use stays"
                    .into()
            }
        })
    }
}

/// Finds out whether `chain` is what was ordered: for `key`, for exactly `identifiers`, valid at
/// `now` (or in an hour at the latest, as clocks differ), and not itself a CA's.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(super) fn check(
    chain: &Chain,
    key: &SubjectKey,
    identifiers: &[Identifier],
    now: Timestamp,
) -> Result<(), CheckError> {
    let leaf = &chain.leaf;
    if key.public_key().map_err(CheckError::Key)? != leaf.public_key {
        return Err(CheckError::ForeignKey);
    }
    let ordered: BTreeSet<Identifier> = identifiers.iter().cloned().collect();
    if ordered != leaf.identifiers {
        let missing = ordered.difference(&leaf.identifiers).cloned().collect();
        let extra = leaf.identifiers.difference(&ordered).cloned().collect();
        return Err(CheckError::OtherNames { missing, extra });
    }
    if leaf.is_ca {
        return Err(CheckError::OfACa);
    }
    let validity = leaf.validity;
    if validity.lifetime().is_zero() {
        return Err(CheckError::NeverValid);
    }
    if validity.has_expired(now) {
        return Err(CheckError::Expired { not_after: validity.not_after, now });
    }
    if validity.not_before > now.saturating_add(MAX_SKEW) {
        return Err(CheckError::NotYetValid { not_before: validity.not_before, now });
    }
    Ok(())
}

fn differences(missing: &[Identifier], extra: &[Identifier]) -> String {
    let list = |label: &str, names: &[Identifier]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| format!("{label}: {}", names.join(", ")))
    };
    let both = [list("missing", missing), list("not ordered", extra)];
    both.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use time::OffsetDateTime;

    use super::*;
    use crate::model::{KeyType, PrivateKey};

    const DAY: i64 = 24 * 60 * 60;
    const START: i64 = 1_700_000_000;

    /// The moment `seconds` after the certificates of these tests become valid.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(START + seconds)
    }

    fn identifiers(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn moment(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(START + seconds).unwrap()
    }

    /// A key, and a chain for it that is valid for 90 days, changed by `change`.
    fn issued(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (SubjectKey, Chain) {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        (parameters.not_before, parameters.not_after) = (moment(0), moment(90 * DAY));
        change(&mut parameters);
        let leaf = parameters.signed_by(&key.pair().unwrap(), &issuer).unwrap();
        let chain = Chain::from_der(vec![leaf.der().clone(), issuer.der().clone()]).unwrap();
        (SubjectKey::Ours(key), chain)
    }

    fn unchanged(_: &mut CertificateParams) {}

    #[test]
    fn what_was_ordered_is_taken_whatever_the_order_of_its_names() {
        let (key, chain) = issued(&["b.example", "*.a.example", "2001:db8::1"], unchanged);
        let ordered = identifiers(&["2001:db8::1", "b.example", "*.a.example"]);
        check(&chain, &key, &ordered, at(DAY)).unwrap();
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (_, chain) = issued(&["example.com"], unchanged);
        let key = SubjectKey::Ours(PrivateKey::generate(KeyType::P256).unwrap());
        let error = check(&chain, &key, &identifiers(&["example.com"]), at(DAY)).unwrap_err();
        assert!(matches!(error, CheckError::ForeignKey));
        assert_eq!(error.code(), "issue.unusable_certificate");
        assert_eq!(error.retry(), Retry::BackOff);
        assert!(error.hint().is_some());
    }

    #[test]
    fn other_names_are_refused_and_listed() {
        let (key, chain) = issued(&["example.com", "extra.example"], unchanged);
        let ordered = identifiers(&["example.com", "www.example.com"]);
        let error = check(&chain, &key, &ordered, at(DAY)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the CA sent a certificate for other names than were ordered \
             (missing: www.example.com; not ordered: extra.example)"
        );
        // A wildcard covers the name, but is not what was ordered.
        let (key, chain) = issued(&["*.example.com"], unchanged);
        assert!(check(&chain, &key, &identifiers(&["www.example.com"]), at(DAY)).is_err());
    }

    #[test]
    fn a_certificate_that_may_sign_others_is_refused() {
        let (key, chain) = issued(&["example.com"], |it| {
            it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        let error = check(&chain, &key, &identifiers(&["example.com"]), at(DAY)).unwrap_err();
        assert!(matches!(error, CheckError::OfACa));
    }

    #[test]
    fn validity_may_begin_an_hour_from_now_and_ends_with_its_last_second() {
        let (key, chain) = issued(&["example.com"], unchanged);
        let check_at = |now| check(&chain, &key, &identifiers(&["example.com"]), now);
        check_at(at(-3600)).unwrap();
        assert!(matches!(check_at(at(-3601)), Err(CheckError::NotYetValid { .. })));
        check_at(at(90 * DAY)).unwrap();
        assert!(matches!(check_at(at(90 * DAY + 1)), Err(CheckError::Expired { .. })));
        assert!(check_at(at(-3601)).unwrap_err().hint().unwrap().contains("clock"));
    }

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_refused() {
        let (key, chain) = issued(&["example.com"], |it| it.not_after = moment(-60));
        let error = check(&chain, &key, &identifiers(&["example.com"]), at(-120)).unwrap_err();
        assert!(matches!(error, CheckError::NeverValid));
    }
}
