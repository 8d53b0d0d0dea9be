//! Name constraints (RFC 5280 §4.2.1.10): what a CA may certify.
//!
//! # Rules
//!
//! 1. A name permits itself and all names below it, wildcards among them.
//! 2. A network permits its addresses.
//! 3. Where anything is permitted, nothing else is: the RFC leaves a kind of name that is not
//!    mentioned free, so the kind that is missing is excluded as a whole.
//!
//! Not here: other kinds of names (mail, directories), which no leaf of ours has.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::extensions::{GeneralName, NameConstraints as ParsedConstraints};

use crate::model::{Identifier, IdentifierError};

/// One part of what is permitted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subtree {
    /// A name, and all below it.
    Dns(String),
    /// The addresses that begin with the first `prefix` bits of `address`; its other bits are 0.
    Network {
        /// The first address.
        address: IpAddr,
        /// How many bits count.
        prefix: u8,
    },
}

/// A text can't be a [`Subtree`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubtreeError {
    /// Neither an address nor a name.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// A star says nothing here.
    #[error("is a wildcard: write {0:?}, which permits all names below it too")]
    Wildcard(String),
    /// What stands behind the slash.
    #[error("has no prefix from 0 to {0} behind the slash")]
    Prefix(u8),
    /// It names an address, not a network.
    #[error("has bits set behind its prefix: write {0:?}")]
    HostBits(String),
}

impl Subtree {
    /// Whether `identifier` lies inside.
    #[must_use]
    pub fn permits(&self, identifier: &Identifier) -> bool {
        match (self, identifier) {
            (Self::Dns(top), Identifier::Dns(name)) => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                name.strip_suffix(top.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::Network { address, prefix }, Identifier::Ip(other)) => {
                address.is_ipv4() == other.is_ipv4() && first_bits(*other, *prefix) == *address
            }
            _ => false,
        }
    }
}

/// Whether `permitted` lets a certificate for `identifier` pass. Nothing permitted is no rule.
#[must_use]
pub(super) fn permits(permitted: &BTreeSet<Subtree>, identifier: &Identifier) -> bool {
    permitted.is_empty() || permitted.iter().any(|it| it.permits(identifier))
}

/// The extension that permits `permitted` and nothing else; `None` if there is no rule.
#[must_use]
pub(super) fn constraints(permitted: &BTreeSet<Subtree>) -> Option<NameConstraints> {
    if permitted.is_empty() {
        return None;
    }
    let permitted_subtrees: Vec<_> = permitted.iter().map(general_subtree).collect();
    let has_names = permitted.iter().any(|it| matches!(it, Subtree::Dns(_)));
    let has_networks = permitted.iter().any(|it| matches!(it, Subtree::Network { .. }));
    let mut excluded_subtrees = Vec::new();
    if !has_names {
        // Every name lies below the empty one.
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    if !has_networks {
        excluded_subtrees.extend([
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ]);
    }
    Some(NameConstraints { permitted_subtrees, excluded_subtrees })
}

fn general_subtree(subtree: &Subtree) -> GeneralSubtree {
    match subtree {
        Subtree::Dns(name) => GeneralSubtree::DnsName(name.clone()),
        Subtree::Network { address, prefix } => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, *prefix))
        }
    }
}

/// What a certificate with the extension `parsed` permits. What none of ours has is left out.
#[must_use]
pub(super) fn permitted_by(parsed: &ParsedConstraints<'_>) -> BTreeSet<Subtree> {
    let permitted = parsed.permitted_subtrees.iter().flatten();
    permitted.filter_map(|it| subtree(&it.base)).collect()
}

fn subtree(name: &GeneralName<'_>) -> Option<Subtree> {
    match name {
        GeneralName::DNSName(name) => Some(Subtree::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
            let address: IpAddr = match address.len() {
                4 => <[u8; 4]>::try_from(address).ok()?.into(),
                16 => <[u8; 16]>::try_from(address).ok()?.into(),
                _ => return None,
            };
            let prefix: u32 = mask.iter().map(|it| it.leading_ones()).sum();
            Some(Subtree::Network { address, prefix: u8::try_from(prefix).ok()? })
        }
        _ => None,
    }
}

/// `address` with all but its first `prefix` bits 0.
fn first_bits(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shr(prefix).map_or(u32::MAX, |it| !it);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shr(prefix).map_or(u128::MAX, |it| !it);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

impl FromStr for Subtree {
    type Err = SubtreeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        // RFC 5280 permits what is below a name; a dot in front of it is a habit of OpenSSL's.
        let address = if prefix.is_none() { address.trim_start_matches('.') } else { address };
        let address = match address.parse()? {
            Identifier::Ip(address) => address,
            Identifier::Dns(name) if prefix.is_some() => {
                drop(name);
                return Err(IdentifierError::NotAnAddress.into());
            }
            Identifier::Dns(name) => {
                return match name.strip_prefix("*.") {
                    Some(top) => Err(SubtreeError::Wildcard(top.to_owned())),
                    None => Ok(Self::Dns(name)),
                };
            }
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => {
                let prefix = prefix.parse().ok().filter(|it| *it <= bits);
                prefix.ok_or(SubtreeError::Prefix(bits))?
            }
        };
        let network = Self::Network { address: first_bits(address, prefix), prefix };
        match network {
            Self::Network { address: first, .. } if first != address => {
                Err(SubtreeError::HostBits(network.to_string()))
            }
            network => Ok(network),
        }
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.pad(name),
            Self::Network { address, prefix } => f.pad(&format!("{address}/{prefix}")),
        }
    }
}

impl fmt::Debug for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn subtree(text: &str) -> Subtree {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(subtree: &str, inside: &[&str], outside: &[&str]) {
        let parsed = self::subtree(subtree);
        for name in inside {
            assert!(parsed.permits(&name.parse().unwrap()), "{name} is in {subtree}");
        }
        for name in outside {
            assert!(!parsed.permits(&name.parse().unwrap()), "{name} is not in {subtree}");
        }
    }

    #[test]
    fn a_name_permits_itself_and_what_is_below_it() {
        check(
            "internal.example",
            &[
                "internal.example",
                "a.internal.example",
                "*.internal.example",
                "a.b.internal.example",
            ],
            &["example", "xinternal.example", "*.example", "internal.example.org", "10.0.0.1"],
        );
        assert_eq!(subtree(".Internal.Example").to_string(), "internal.example");
    }

    #[test]
    fn a_network_permits_its_addresses() {
        check("10.0.0.0/8", &["10.0.0.0", "10.255.0.1"], &["11.0.0.0", "9.255.255.255", "::10"]);
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]);
        check("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1", "2001:db7::1"]);
        check("0.0.0.0/0", &["255.255.255.255"], &["::", "example.com"]);
    }

    #[test]
    fn what_is_neither_is_refused_with_what_to_write() {
        let refused = |text: &str| text.parse::<Subtree>().unwrap_err().to_string();
        assert!(refused("*.example.com").contains("\"example.com\""));
        assert!(refused("10.0.0.1/8").contains("\"10.0.0.0/8\""));
        assert!(refused("10.0.0.0/33").contains("0 to 32"));
        assert!(refused("10.0.0.0/x").contains("0 to 32"));
        assert!(refused("example.com/8").contains("not an IP address"));
        assert!(refused("").contains("empty"));
    }

    #[test]
    fn without_a_rule_everything_is_permitted() {
        assert!(permits(&BTreeSet::new(), &"example.com".parse().unwrap()));
        assert!(constraints(&BTreeSet::new()).is_none());
        let names = BTreeSet::from([subtree("internal.example")]);
        assert!(!permits(&names, &"10.0.0.1".parse().unwrap()));
    }
}
