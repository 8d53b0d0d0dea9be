//! What an operator can do about an error: a sentence for each that he can do something about.
//!
//! Not here: the errors ([`super::error`]).

use super::error::AcmeError;
use super::explain::{is_denied, is_paused};
use super::problem::{Problem, ProblemKind};

/// The hint that goes with `error`.
pub(super) fn hint(error: &AcmeError) -> Option<String> {
    let text = match error {
        AcmeError::Trust { .. } => "name a readable PEM file as trust of this CA",
        AcmeError::Setup { .. } => {
            "install the system's CA certificates, or name a PEM file as trust of this CA"
        }
        AcmeError::TermsNotAgreed { terms, .. } => {
            let place = terms.as_deref().unwrap_or("the CA's web site");
            return Some(format!(
                "read the terms of service at {place}, then set terms_of_service_agreed = true"
            ));
        }
        AcmeError::BindingRequired { .. } => BINDING,
        AcmeError::ProfileNotOffered { offered, .. } if offered.is_empty() => {
            "this CA has no profiles: take the key profile away, or choose another CA"
        }
        AcmeError::ProfileNotOffered { offered, .. } => {
            return Some(format!("set profile to one of: {}", offered.join(", ")));
        }
        AcmeError::AccountKey { .. } => {
            "see that the account's key.pem is a P-256 key in PKCS#8 and eab_hmac_file holds the \
             key as the CA gave it"
        }
        AcmeError::AccountLost { .. } => {
            "ask the CA what happened to the account; `renewd account register` looks for it again, \
             or makes a new one"
        }
        AcmeError::AccountDeactivated { .. } => {
            "to go on with this CA, run `renewd account register`, which makes a new account; or \
             choose another CA"
        }
        AcmeError::NoAccount { .. } => {
            "the first order makes it; `renewd account register` makes it now"
        }
        AcmeError::NotOffered { .. } => "ask the CA how else it can be done",
        AcmeError::Unreachable { .. } => {
            "see that this machine reaches the CA: name resolution, firewall, proxy, and for a CA \
             of one's own its root in trust"
        }
        AcmeError::Malformed { .. } => {
            "see that the CA's directory is the right URL and no proxy answers in its place"
        }
        AcmeError::RateLimited { problem, .. } if is_paused(problem) => {
            return Some(address_hint(problem));
        }
        AcmeError::Refused { place, problem, .. } if is_denied(place.step, &problem.kind) => DENIED,
        AcmeError::Refused { problem, terms, .. } => {
            return refusal_hint(problem, terms.as_deref());
        }
        AcmeError::ValidationFailed { problem, challenge, .. } => {
            return validation_hint(problem, challenge);
        }
        AcmeError::OrderInvalid { problem: Some(problem), .. } => {
            return refusal_hint(problem, None);
        }
        AcmeError::Storage { .. }
        | AcmeError::KeyGeneration { .. }
        | AcmeError::RateLimited { .. }
        | AcmeError::Unavailable { .. }
        | AcmeError::NoncesRefused { .. }
        | AcmeError::IdentifiersDiffer { .. }
        | AcmeError::AuthorizationLost { .. }
        | AcmeError::OrderInvalid { problem: None, .. }
        | AcmeError::StillWaiting { .. }
        | AcmeError::Client { .. } => return None,
    };
    Some(text.to_owned())
}

const BINDING: &str = "get a key identifier and an HMAC key from the CA and set eab_kid and \
                       eab_hmac_file of this CA";

const DENIED: &str = "see that eab_kid and eab_hmac_file of this CA are what the CA gave, and are not \
                      used up; where it wants none, ask the CA whether an account of this key was \
                      closed";

const CAA: &str = "a CAA record of the name, or of a name above it, does not allow this CA: add \
                   one that does, or choose another CA";

fn refusal_hint(problem: &Problem, terms: Option<&str>) -> Option<String> {
    let text = match problem.kind {
        ProblemKind::UserActionRequired => {
            return Some(terms.map_or_else(
                || address_hint(problem),
                |terms| format!("the CA's terms of service changed: read them at {terms}"),
            ));
        }
        ProblemKind::Caa => CAA,
        ProblemKind::ExternalAccountRequired => BINDING,
        ProblemKind::RejectedIdentifier => {
            "the CA does not issue for one of the names: take it away, or choose another CA"
        }
        ProblemKind::UnsupportedIdentifier => {
            "the CA does not take this kind of name (for IP addresses some CAs want a certain \
             profile): change the names, the profile or the CA"
        }
        ProblemKind::BadCsr => "see that the CA takes this key type and this many names",
        ProblemKind::BadPublicKey => "choose another key type: p256 is taken everywhere",
        ProblemKind::InvalidContact | ProblemKind::UnsupportedContact => {
            "correct contact: most CAs take only mailto: with a real address"
        }
        ProblemKind::InvalidProfile => "set profile to one that the CA offers, or take it away",
        ProblemKind::AccountDoesNotExist | ProblemKind::Unauthorized => {
            "ask the CA whether the account was closed; to begin with a new one, run \
             `renewd account register` with --replace"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn validation_hint(problem: &Problem, challenge: &str) -> Option<String> {
    let text = match (&problem.kind, challenge) {
        (ProblemKind::Caa, _) => CAA,
        (ProblemKind::Dns, _) => {
            "see that public name servers know the name and agree with each other"
        }
        (ProblemKind::Connection, "http-01") => {
            "see that port 80 of every address the name has is reachable from outside"
        }
        (ProblemKind::Connection | ProblemKind::Tls, "tls-alpn-01") => {
            "see that port 443 of every address the name has is reachable from outside, without a \
             proxy that ends TLS"
        }
        (ProblemKind::Unauthorized | ProblemKind::IncorrectResponse, "http-01") => {
            "see that /.well-known/acme-challenge/ of the name is served by this machine, also \
             over IPv6"
        }
        (ProblemKind::Unauthorized | ProblemKind::IncorrectResponse, "dns-persist-01") => {
            "compare the TXT record with what `renewd dns persist` prints"
        }
        (
            ProblemKind::Unauthorized | ProblemKind::IncorrectResponse,
            "dns-01" | "dns-account-01",
        ) => {
            "see that the TXT records of _acme-challenge reach all name servers before the CA looks"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn address_hint(problem: &Problem) -> String {
    let in_words = || {
        let words = problem.detail.split_whitespace();
        words.map(|it| it.trim_matches(['"', '<', '>', '(', ')', ',', '.'])).find(|it| {
            // Only what a browser may open: the words are the CA's, the click is the operator's.
            it.starts_with("https://")
        })
    };
    match problem.instance.as_deref().or_else(in_words) {
        Some(address) => format!("the CA asks you to act: open {address}"),
        None => "the CA asks you to act: see its message".to_owned(),
    }
}
