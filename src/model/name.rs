//! Names that the operator gives: of certificates, CAs, solvers, targets and groups.
//!
//! They become names of files and folders, so they are checked once, here, and nothing else may
//! stand in a path below the state directory (`reliability.md` calls it the generic bug of the
//! field: CVE-2022-30636, CVE-2026-40611).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Identifier;

/// The longest name, in bytes.
pub const MAX_NAME_LENGTH: usize = 64;

/// A text can't be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a name: 1 to 64 of the characters a-z, 0-9, '.', '_' and '-', the first a letter or digit"
)]
pub struct NameError;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Names a certificate of the configuration, and its folder below `certs/`.
    CertificateName
}
name! {
    /// Names a CA of the configuration, and its account's folder.
    CaName
}
name! {
    /// Names a solver of the configuration.
    SolverName
}
name! {
    /// Names a target of the configuration: a server that uses certificates.
    TargetName
}
name! {
    /// Names a group of certificate settings.
    GroupName
}

impl CertificateName {
    /// The name of a certificate that was given none: its first identifier, made fit for a path.
    ///
    /// `*.example.com` becomes `wildcard.example.com`, colons become dashes, and a long name is
    /// cut and ends in a hash of the whole, so that two long names stay two.
    #[must_use]
    pub fn for_identifier(identifier: &Identifier) -> Self {
        let plain = match identifier {
            Identifier::Dns(name) => name.replace("*.", "wildcard."),
            Identifier::Ip(address) => format!("{address}").replace(':', "-"),
        };
        // An IPv6 address may begin with a colon; a name must not begin with a dash.
        let plain = if plain.starts_with('-') { format!("ip{plain}") } else { plain };
        if plain.len() <= MAX_NAME_LENGTH {
            return Self(plain);
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, plain.as_bytes());
        let hash: String =
            digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let cut: String = plain.chars().take(MAX_NAME_LENGTH - 1 - hash.len()).collect();
        Self(format!("{cut}-{hash}"))
    }
}

fn is_name(text: &str) -> bool {
    let first_fits = text.starts_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit());
    let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "._-".contains(it);
    first_fits && text.len() <= MAX_NAME_LENGTH && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H05: names that are paths.
    #[test]
    fn a_name_can_never_leave_its_folder() {
        for wrong in
            ["", ".", "..", "../x", "a/b", "a\\b", "-a", "_a", "A", "a b", "a\0", "é", "a%2e"]
        {
            assert_eq!(wrong.parse::<CertificateName>(), Err(NameError), "{wrong:?}");
        }
        assert!("a".repeat(65).parse::<CertificateName>().is_err());
        for right in ["a", "0", "example.com", "a_b-c.d", &"a".repeat(64)] {
            assert_eq!(right.parse::<CertificateName>().unwrap().as_str(), right);
        }
    }

    #[test]
    fn the_default_name_is_the_first_identifier_made_fit() {
        let name = |text: &str| CertificateName::for_identifier(&text.parse().unwrap()).to_string();
        assert_eq!(name("example.com"), "example.com");
        assert_eq!(name("*.example.com"), "wildcard.example.com");
        assert_eq!(name("2001:db8::1"), "2001-db8--1");
        assert_eq!(name("::1"), "ip--1");
        assert_eq!(name("192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = |last: char| format!("{0}.{0}.{0}{last}.example", "a".repeat(40));
        let name = |text: String| CertificateName::for_identifier(&text.parse().unwrap());
        let (first, second) = (name(long('b')), name(long('c')));
        assert_ne!(first, second);
        assert_eq!(first.as_str().len(), MAX_NAME_LENGTH);
        assert!(first.as_str().parse::<CertificateName>().is_ok());
    }
}
