//! Whom a limit is about: what was registered, what is proven, which set.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::{Fingerprint, Identifier, Limit};

/// Whom the key of a limit names, for people: a set has no name.
pub(super) fn about(limit: Limit, key: &str) -> String {
    match limit {
        Limit::CertificatesPerSet | Limit::OwnRenewals | Limit::OwnCertificates => String::new(),
        _ => key.to_owned(),
    }
}

/// One key for one set of identifiers.
pub(super) fn set_key(identifiers: &[Identifier]) -> String {
    let sorted: BTreeSet<&Identifier> = identifiers.iter().collect();
    let texts: Vec<String> = sorted.into_iter().map(ToString::to_string).collect();
    Fingerprint::of(texts.join("\n").as_bytes()).to_string()
}

/// What `identifiers` are counted as, where certificates are counted by name.
pub(super) fn registered_names(identifiers: &[Identifier]) -> BTreeSet<String> {
    let of_one = |identifier: &Identifier| match identifier {
        Identifier::Dns(name) => registered_name(name),
        Identifier::Ip(IpAddr::V4(address)) => address.to_string(),
        Identifier::Ip(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{:x}:{:x}:{:x}:{:x}::/64", a, b, c, d)
        }
    };
    identifiers.iter().map(of_one).collect()
}

/// The public suffix of `name` and one label more; `name` itself, if it is no longer than that.
pub(super) fn registered_name(name: &str) -> String {
    let name = name.strip_prefix("*.").unwrap_or(name);
    psl::domain_str(name).unwrap_or(name).to_owned()
}

/// What control is proven of, where failures are counted: a wildcard's is that of the name itself.
pub(super) fn proven_names(identifiers: &[Identifier]) -> BTreeSet<String> {
    let of_one = |identifier: &Identifier| {
        let text = identifier.to_string();
        text.strip_prefix("*.").map_or_else(|| text.clone(), str::to_owned)
    };
    identifiers.iter().map(of_one).collect()
}
