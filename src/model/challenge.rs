//! The words of proving control: token, key authorization, challenge type (RFC 8555 §8).
//!
//! Not here: how a proof is shown ([`crate::solver`]) or answered ([`crate::acme`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Identifier, StandingRecord};

/// A challenge type that a solver of ours can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChallengeType {
    /// RFC 8555 §8.3.
    #[serde(rename = "http-01")]
    Http01,
    /// RFC 8555 §8.4.
    #[serde(rename = "dns-01")]
    Dns01,
    /// RFC 8737 §3.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// dns-01 at a name of the account's own (draft-ietf-acme-dns-account-label).
    #[serde(rename = "dns-account-01")]
    DnsAccount01,
    /// By a record that stands in DNS for good (draft-ietf-acme-dns-persist).
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
}

impl ChallengeType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Http01, Self::Dns01, Self::TlsAlpn01, Self::DnsAccount01, Self::DnsPersist01];

    /// Whether it proves by DNS: wildcards too, and no addresses.
    #[must_use]
    pub const fn is_by_dns(self) -> bool {
        match self {
            Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01 => true,
            Self::Http01 | Self::TlsAlpn01 => false,
        }
    }

    /// The RFC's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
        }
    }
}

impl fmt::Display for ChallengeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A challenge's token (RFC 8555 §8.1): base64url without padding, at most 256 characters.
///
/// It becomes the name of a file, and it comes from the CA: nothing else may be one
/// (CVE-2026-40611 was a token with `../` in it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A CA sent a token that can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA sent a token that is not base64url of 1 to 256 characters")]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
        if (1..=256).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenError)
        }
    }
}

impl TryFrom<String> for Token {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What answers a challenge: token and account thumbprint (RFC 8555 §8.1). Prints only its name.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAuthorization(String);

impl KeyAuthorization {
    /// From the text that the account key makes of a token.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The body that http-01 serves.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyAuthorization")
    }
}

/// One proof to be shown: everything that a solver needs to know.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What is to be proven; for a wildcard the name without its `*.` (RFC 8555 §7.1.4).
    pub identifier: Identifier,
    /// By which kind of challenge.
    pub challenge_type: ChallengeType,
    /// Names the resource.
    pub token: Token,
    /// What it holds.
    pub key_authorization: KeyAuthorization,
    /// The URL of the account that it is for (RFC 8555 §7.1.2).
    pub account_url: String,
    /// With dns-persist-01: the record that the CA wants to find.
    pub standing: Option<StandingRecord>,
}

/// A TXT record that proves control (RFC 8555 §8.4): one value, beside which others may stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxtRecord {
    /// The zone that it is in: lower case, no dot at the end.
    pub zone: String,
    /// Its name, in full: lower case, no dot at the end.
    pub name: String,
    /// The value that is ours.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_can_never_be_a_path() {
        let long = "a".repeat(257);
        for wrong in ["", "../x", "a/b", "a.b", "a\0b", "a b", "é", "a=", ";$(id)", &long] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError), "{wrong:?}");
        }
        let right = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        assert_eq!(right.parse::<Token>().unwrap().as_str(), right);
    }

    #[test]
    fn a_key_authorization_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", KeyAuthorization::new("canary".into())), "KeyAuthorization");
    }
}
