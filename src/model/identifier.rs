//! What a certificate is for: a DNS name or an IP address (RFC 8555 §7.1.4, RFC 8738 §3).
//!
//! Parsing normalises, so that two identifiers are equal exactly if a CA takes them for the same.
//!
//! Not here: how many a profile allows, and which a CA refuses (a single label is fine for a CA of
//! one's own).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One identifier of an order or certificate, in normal form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Identifier {
    /// A DNS name: A-labels, lower case, no dot at the end; perhaps `*.` at its beginning.
    Dns(String),
    /// An IP address, written as RFC 5952 says.
    Ip(IpAddr),
}

impl Identifier {
    /// Whether this is a wildcard (`*.example.com`), which only dns-01 and its kin can prove.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// The value as an order writes it (RFC 8555 §7.1.4: a wildcard keeps its `*.`).
    #[must_use]
    pub fn value(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.pad(name),
            Self::Ip(address) => fmt::Display::fmt(address, f),
        }
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text can't be an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing is left of it.
    #[error("is empty")]
    Empty,
    /// A star that is not the whole first label.
    #[error("has a '*' elsewhere than in front, as in *.example.com")]
    MisplacedWildcard,
    /// IDNA (UTS #46) refuses it, or it holds a character that no host name has.
    #[error("is not a host name: labels are letters, digits and inner hyphens")]
    NotAHostName,
    /// A label of more than 63 or a name of more than 253 bytes (RFC 1035 §2.3.4).
    #[error("is too long: 63 bytes a label, 253 in all")]
    TooLong,
    /// An IPv6 address with a zone, or in brackets.
    #[error("is not an IP address: write it bare, without brackets, zone or port")]
    NotAnAddress,
}

impl FromStr for Identifier {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        if text.contains(':') {
            return Err(IdentifierError::NotAnAddress);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(IdentifierError::Empty);
        }
        let (wildcard, host) = text.strip_prefix("*.").map_or(("", text), |host| ("*.", host));
        if host.contains('*') {
            return Err(IdentifierError::MisplacedWildcard);
        }
        let host = idna::domain_to_ascii(host).map_err(|_refused| IdentifierError::NotAHostName)?;
        check_host(&host)?;
        Ok(Self::Dns(format!("{wildcard}{host}")))
    }
}

fn check_host(host: &str) -> Result<(), IdentifierError> {
    if host.len() > 253 || host.split('.').any(|label| label.len() > 63) {
        return Err(IdentifierError::TooLong);
    }
    let label_fits = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    if !host.split('.').all(label_fits) {
        return Err(IdentifierError::NotAHostName);
    }
    // A name like 1.2.3 or 300.1.1.1 is a mistyped address: no top-level domain is all digits.
    let top = host.rsplit('.').next().unwrap_or_default();
    if top.bytes().all(|it| it.is_ascii_digit()) {
        return Err(IdentifierError::NotAnAddress);
    }
    Ok(())
}

impl TryFrom<String> for Identifier {
    type Error = IdentifierError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Identifier> for String {
    fn from(identifier: Identifier) -> Self {
        identifier.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::CertificateName;

    #[track_caller]
    fn normal(text: &str) -> String {
        text.parse::<Identifier>().unwrap().to_string()
    }

    /// C07: too many names, long ones, capitals, dots, IPv6.
    #[test]
    fn names_are_normalised() {
        assert_eq!(normal("EXAMPLE.com."), "example.com");
        assert_eq!(normal("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(normal("*.Example.COM"), "*.example.com");
        assert_eq!(normal("2001:DB8:0:0::1"), "2001:db8::1");
    }

    #[test]
    fn what_no_ca_would_take_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<Identifier>().unwrap_err();
        assert_eq!(refused(""), IdentifierError::Empty);
        assert_eq!(refused("."), IdentifierError::Empty);
        assert_eq!(refused("a.*.example.com"), IdentifierError::MisplacedWildcard);
        assert_eq!(refused("*.*.example.com"), IdentifierError::MisplacedWildcard);
        assert_eq!(refused("under_score.example.com"), IdentifierError::NotAHostName);
        assert_eq!(refused("a..example.com"), IdentifierError::NotAHostName);
        assert_eq!(refused("-a.example.com"), IdentifierError::NotAHostName);
        assert_eq!(refused("a b.example.com"), IdentifierError::NotAHostName);
        assert_eq!(refused(&format!("{}.example.com", "a".repeat(64))), IdentifierError::TooLong);
        assert_eq!(refused("[2001:db8::1]"), IdentifierError::NotAnAddress);
        assert_eq!(refused("fe80::1%eth0"), IdentifierError::NotAnAddress);
        assert_eq!(refused("300.1.1.1"), IdentifierError::NotAnAddress);
    }

    proptest! {
        #[test]
        fn normal_form_is_final_whatever_was_written(text in "\\PC{0,40}|[*]?[.]?([a-zA-Z0-9_é-]{0,20}[.。]?){0,5}") {
            if let Ok(identifier) = text.parse::<Identifier>() {
                let normal = identifier.value();
                prop_assert_eq!(normal.parse::<Identifier>(), Ok(identifier.clone()));
                prop_assert!(normal.is_ascii() && normal.to_lowercase() == normal, "{}", normal);
                let name = CertificateName::for_identifier(&identifier);
                prop_assert_eq!(name.as_str().parse::<CertificateName>(), Ok(name));
            }
        }

        #[test]
        fn case_and_the_last_dot_make_no_other_identifier(
            name in "([*][.])?([a-z]([a-z0-9-]{0,18}[a-z0-9])?[.]){1,4}[a-z]{2,10}", upper in any::<u64>(),
        ) {
            // A label with hyphens in its third and fourth place is IDNA's to judge.
            prop_assume!(!name.split('.').any(|it| it.get(2..4) == Some("--")));
            let normal: Identifier = name.parse().unwrap();
            let turned = |(at, it): (usize, char)| {
                if upper >> (at % 64) & 1 == 1 { it.to_ascii_uppercase() } else { it }
            };
            let shouted: String = name.chars().enumerate().map(turned).collect();
            for text in [format!("{name}."), format!("{shouted}."), shouted] {
                prop_assert_eq!(text.parse::<Identifier>(), Ok(normal.clone()), "{}", text);
            }
        }

        #[test]
        fn every_address_is_one_identifier_and_one_name(bits in any::<u128>(), four in any::<u32>()) {
            for address in [IpAddr::V6(bits.into()), IpAddr::V4(four.into())] {
                let identifier = Identifier::Ip(address);
                prop_assert_eq!(identifier.value().parse::<Identifier>(), Ok(identifier.clone()));
                let name = CertificateName::for_identifier(&identifier);
                prop_assert_eq!(name.as_str().parse::<CertificateName>(), Ok(name));
            }
        }
    }
}
