//! The stand-in until the first certificate is there: a server that is started before it can load
//! something, and clients see at once that it is not the real one.
//!
//! Not here: telling one from a real one later, which the store's `meta.json` does.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

use crate::model::{Chain, ChainError, Identifier, KeyError, PrivateKey, Timestamp};

/// The subject's common name, for whoever looks at what a server serves.
const COMMON_NAME: &str = "renewd placeholder";

/// How far before now it begins, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// How long it is valid: a server may be without its first certificate for long.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A placeholder could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlaceholderError {
    /// There is no key, or none that can be used.
    #[error("no key for a placeholder could be made")]
    Key(#[from] KeyError),
    /// The library would not sign.
    #[error("a placeholder could not be signed")]
    Sign(#[from] rcgen::Error),
    /// What was signed can't be read back.
    #[error("a placeholder could not be read back")]
    Chain(#[from] ChainError),
    /// A moment that no certificate can hold.
    #[error("a placeholder can't hold the time {0}")]
    Time(Timestamp),
}

/// A self-signed certificate for `identifiers` and `key`, valid from an hour before `now` for a
/// year.
///
/// # Errors
///
/// [`PlaceholderError`]; none is expected while the system's generator works.
pub fn placeholder(
    identifiers: &[Identifier],
    key: &PrivateKey,
    now: Timestamp,
) -> Result<Chain, PlaceholderError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    parameters.not_before = date(now.saturating_sub(BACKDATED))?;
    parameters.not_after = date(now.saturating_add(LIFETIME))?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for identifier in identifiers {
        parameters.subject_alt_names.push(match identifier {
            Identifier::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Identifier::Ip(address) => SanType::IpAddress(*address),
        });
    }
    let certificate = parameters.self_signed(&key.pair()?)?;
    Ok(Chain::from_der(vec![certificate.der().clone()])?)
}

fn date(moment: Timestamp) -> Result<OffsetDateTime, PlaceholderError> {
    let seconds =
        i64::try_from(moment.unix_seconds()).map_err(|_large| PlaceholderError::Time(moment))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_large| PlaceholderError::Time(moment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::KeyType;

    fn identifiers(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn it_is_for_every_identifier_and_fits_its_key() {
        let names = identifiers(&["example.com", "*.example.net", "192.0.2.7", "2001:db8::1"]);
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let chain = placeholder(&names, &key, now).unwrap();
        assert_eq!(chain.leaf.identifiers, names.into_iter().collect());
        assert_eq!(chain.leaf.public_key, key.public_key().unwrap());
        assert!(chain.leaf.is_self_issued() && !chain.leaf.is_ca);
        assert_eq!(chain.leaf.issuer, "CN=renewd placeholder");
        assert_eq!(chain.leaf.validity.not_before.to_string(), "2026-11-23T09:00:00Z");
        assert_eq!(chain.leaf.validity.not_after.to_string(), "2027-11-23T10:00:00Z");
    }

    #[test]
    fn it_may_be_for_nothing_at_all() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let chain = placeholder(&[], &key, Timestamp::EPOCH).unwrap();
        assert!(chain.leaf.identifiers.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_can_be_made_whatever_the_clock_says(seconds in any::<i64>(), near_end in 0_i64..100_000_000) {
            let key = PrivateKey::generate(KeyType::P256).unwrap();
            let last = i64::try_from(Timestamp::MAX.unix_seconds()).unwrap();
            for seconds in [seconds, last - near_end, near_end] {
                let now = Timestamp::from_unix_seconds(seconds);
                let chain = placeholder(&identifiers(&["example.com"]), &key, now).unwrap();
                prop_assert!(chain.leaf.validity.not_before <= now);
                prop_assert!(chain.leaf.validity.not_after >= now.min(Timestamp::MAX.saturating_sub(Duration::from_secs(1))));
            }
        }
    }
}
