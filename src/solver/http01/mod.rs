//! http-01 (RFC 8555 §8.3): a resource below `/.well-known/acme-challenge/` whose name is the token
//! and whose content is the key authorization.
//!
//! Two ways: files that a web server shows ([`Webroot`]), and a small web server of our own that is
//! there only while it is needed ([`Listener`]).

mod connections;
mod handed;
mod listener;
mod request;
mod webroot;

pub use handed::HandedSockets;
pub use listener::Listener;
pub use webroot::Webroot;

use super::SolverError;
use crate::model::{ChallengeType, Proof};

/// That `proof` is one that http-01 can show: it knows no wildcards (RFC 8555 §8.3, and the Baseline
/// Requirements of the CAs).
fn suited(proof: &Proof) -> Result<(), SolverError> {
    let Proof { identifier, challenge_type, .. } = proof;
    if *challenge_type == ChallengeType::Http01 && !identifier.is_wildcard() {
        return Ok(());
    }
    Err(SolverError::Unsuited { identifier: identifier.clone(), challenge_type: *challenge_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyAuthorization;

    /// The proof of `token` for `identifier`, whose key authorization is `TOKEN.thumbprint`.
    pub(super) fn proof(identifier: &str, token: &str) -> Proof {
        Proof {
            identifier: identifier.parse().unwrap(),
            challenge_type: ChallengeType::Http01,
            token: token.parse().unwrap(),
            key_authorization: KeyAuthorization::new(format!("{token}.thumbprint")),
        }
    }

    #[test]
    fn only_http_01_without_wildcards_is_suited() {
        suited(&proof("example.com", "abc")).unwrap();
        suited(&proof("2001:db8::1", "abc")).unwrap();
        assert!(suited(&proof("*.example.com", "abc")).is_err());
        let by_dns = Proof { challenge_type: ChallengeType::Dns01, ..proof("example.com", "abc") };
        assert!(suited(&by_dns).is_err());
    }
}
