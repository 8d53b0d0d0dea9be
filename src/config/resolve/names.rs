//! What is known to be refused of a certificate's identifiers, said before anything is ordered.
//!
//! # Rules
//!
//! 1. An identifier that stands twice, in whatever spelling, is taken once.
//! 2. No CA takes more than 100.
//! 3. Let's Encrypt takes 25 under `tlsserver` and `shortlived`, addresses under `shortlived`
//!    alone, no name without a dot, and no name that a wildcard beside it covers.
//!
//! A long first name is no fault: requests have an empty subject, which no length is too much for.
//!
//! Not here: the form of one identifier ([`Identifier`]), and what other CAs and the profiles of
//! tomorrow allow, which they say themselves.

use crate::config::fault::{Fault, Severity};
use crate::config::field::At;
use crate::model::{CaName, Identifier};

/// No public CA takes more (Let's Encrypt's limit; RFC 8555 has none).
const MAX_IDENTIFIERS: usize = 100;

/// Let's Encrypt's limit under all profiles but `classic`.
const MAX_OF_SHORT: usize = 25;

/// The profiles of Let's Encrypt that take fewer identifiers.
const SHORT: [&str; 2] = ["tlsserver", "shortlived"];

/// The only profile of Let's Encrypt that has addresses.
const WITH_ADDRESSES: &str = "shortlived";

/// The end of the host of all of Let's Encrypt's directories.
const LETS_ENCRYPT: &str = ".api.letsencrypt.org/directory";

/// The identifiers of `domains`, each once.
pub(super) fn single(
    domains: &At<Vec<At<Identifier>>>,
    faults: &mut Vec<Fault>,
) -> Vec<At<Identifier>> {
    let mut single: Vec<At<Identifier>> = Vec::new();
    for at in &domains.value {
        if single.iter().any(|it| it.value == at.value) {
            let fault = at.fault(format!("{} stands here a second time", at.value));
            faults.push(fault.severity(Severity::Warning));
        } else {
            single.push(at.clone());
        }
    }
    if single.len() > MAX_IDENTIFIERS {
        faults.push(too_many(domains, single.len(), MAX_IDENTIFIERS, "CAs take"));
    }
    single
}

fn too_many(domains: &At<Vec<At<Identifier>>>, count: usize, limit: usize, who: &str) -> Fault {
    let message = format!("{count} domains are more than the {limit} that {who}");
    domains.fault(message).hint("make several certificates of it")
}

/// Whether `directory` is one of Let's Encrypt's.
pub(super) fn is_lets_encrypt(directory: &str) -> bool {
    directory.ends_with(LETS_ENCRYPT)
}

/// Faults what Let's Encrypt, which is called `ca` here, would refuse of `single`, the identifiers
/// of `domains`, under `profile`.
pub(super) fn check_lets_encrypt(
    ca: &CaName,
    domains: &At<Vec<At<Identifier>>>,
    single: &[At<Identifier>],
    profile: Option<&str>,
    faults: &mut Vec<Fault>,
) {
    if let Some(profile) = profile.filter(|it| SHORT.contains(it))
        && single.len() > MAX_OF_SHORT
    {
        let who = format!("{ca} takes under the profile {profile}");
        faults.push(too_many(domains, single.len(), MAX_OF_SHORT, &who));
    }
    for at in single {
        faults.extend(refused(ca, at, single, profile));
    }
}

fn refused(
    ca: &CaName,
    at: &At<Identifier>,
    beside: &[At<Identifier>],
    profile: Option<&str>,
) -> Option<Fault> {
    let Identifier::Dns(name) = &at.value else {
        if profile == Some(WITH_ADDRESSES) {
            return None;
        }
        let message = format!(
            "{} is an address, which {ca} certifies under the profile {WITH_ADDRESSES} alone",
            at.value
        );
        return Some(at.fault(message).hint(format!("write profile = \"{WITH_ADDRESSES}\"")));
    };
    let host = name.strip_prefix("*.").unwrap_or(name);
    if !host.contains('.') {
        let message =
            format!("{name} is not a name of the public DNS, and {ca} certifies no other");
        return Some(at.fault(message).hint("write the whole name, or name a CA of your own"));
    }
    let (_, parent) = name.split_once('.')?;
    let wildcard = Identifier::Dns(format!("*.{parent}"));
    if wildcard != at.value && beside.iter().any(|it| it.value == wildcard) {
        let message = format!("{name} is covered by {wildcard}, and {ca} refuses it beside that");
        return Some(at.fault(message).hint("take it out: the wildcard is enough"));
    }
    None
}
