//! What follows from an error: its word for programs, when to try again, and whether another CA may
//! do better; the one place where problem types (RFC 8555 §6.7) are sorted.
//!
//! # Rules
//!
//! - 429 and rateLimited: not before the CA's Retry-After; without one, by the ladder
//! - 5xx and serverInternal: the same
//! - what only a change by the operator can mend (CAA records, EAB keys, contacts, the profile,
//!   terms, an action at the CA, a closed account): after a change
//! - all else, and problem types that nobody knows yet: by the ladder
//!
//! Another CA finds what this one found of our proofs ([`Fault::Proof`]), has rules and accounts of
//! its own where this one refuses ([`Fault::Refusal`]), and knows nothing of this one's trouble,
//! nor of problem types that nobody knows yet ([`Fault::Outage`]). A key of an account that can't
//! be kept is our own trouble.
//!
//! Not here: waiting ([`crate::plan`]); what an operator can do ([`super::hint`]).

use super::error::{AcmeError, Step};
use super::problem::{Problem, ProblemKind};
use crate::model::{Explain, Fault, Retry};

impl Explain for AcmeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Trust { .. } | Self::Setup { .. } => "acme.setup",
            Self::TermsNotAgreed { .. } => "acme.terms_not_agreed",
            Self::BindingRequired { .. } => ProblemKind::ExternalAccountRequired.code(),
            Self::ProfileNotOffered { .. } => ProblemKind::InvalidProfile.code(),
            Self::Storage { .. } => "acme.account_not_kept",
            Self::KeyGeneration { .. } | Self::AccountKey { .. } => "acme.account_key",
            Self::AccountLost { .. } => "acme.account_lost",
            Self::AccountDeactivated { .. } => "acme.account_deactivated",
            Self::NoAccount { .. } => "acme.no_account",
            Self::NotOffered { .. } => "acme.not_offered",
            Self::Unreachable { .. } => "acme.unreachable",
            Self::RateLimited { .. } => ProblemKind::RateLimited.code(),
            Self::Unavailable { .. } => "acme.unavailable",
            Self::Refused { place, problem, .. } if is_closed(place.step, &problem.kind) => {
                "acme.account_closed"
            }
            Self::Refused { place, problem, .. } if is_denied(place.step, &problem.kind) => {
                "acme.account_refused"
            }
            Self::Refused { problem, .. } => problem.kind.code(),
            Self::NoncesRefused { .. } => ProblemKind::BadNonce.code(),
            Self::Malformed { .. } | Self::Client { .. } => "acme.not_understood",
            Self::IdentifiersDiffer { .. } => "acme.identifiers_differ",
            Self::ValidationFailed { .. } => "acme.validation_failed",
            Self::AuthorizationLost { .. } => "acme.authorization_lost",
            Self::OrderInvalid { .. } => "acme.order_invalid",
            Self::StillWaiting { .. } => "acme.still_waiting",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Trust { .. }
            | Self::TermsNotAgreed { .. }
            | Self::BindingRequired { .. }
            | Self::ProfileNotOffered { .. }
            | Self::AccountKey { .. }
            | Self::AccountDeactivated { .. }
            | Self::NoAccount { .. }
            | Self::NotOffered { .. }
            | Self::AccountLost { .. } => Retry::AfterChange,
            Self::RateLimited { problem, retry_at: None, .. } if is_paused(problem) => {
                Retry::AfterChange
            }
            Self::RateLimited { .. } | Self::Unavailable { .. } | Self::StillWaiting { .. } => {
                self.retry_at().map_or(Retry::BackOff, Retry::NotBefore)
            }
            Self::Refused { place, problem, .. }
                if is_closed(place.step, &problem.kind) || is_denied(place.step, &problem.kind) =>
            {
                Retry::AfterChange
            }
            Self::Refused { problem, .. } => after(&problem.kind),
            Self::ValidationFailed { problem, .. }
            | Self::OrderInvalid { problem: Some(problem), .. } => after(&problem.kind),
            Self::Setup { .. }
            | Self::Storage { .. }
            | Self::KeyGeneration { .. }
            | Self::Unreachable { .. }
            | Self::NoncesRefused { .. }
            | Self::Malformed { .. }
            | Self::IdentifiersDiffer { .. }
            | Self::AuthorizationLost { .. }
            | Self::OrderInvalid { problem: None, .. }
            | Self::Client { .. } => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        super::hint::hint(self)
    }
}

impl AcmeError {
    /// Whether another CA may do better.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Storage { .. } | Self::KeyGeneration { .. } => Fault::Ours,
            Self::Trust { .. }
            | Self::TermsNotAgreed { .. }
            | Self::BindingRequired { .. }
            | Self::ProfileNotOffered { .. }
            | Self::AccountKey { .. }
            | Self::AccountLost { .. }
            | Self::AccountDeactivated { .. }
            | Self::NoAccount { .. }
            | Self::NotOffered { .. } => Fault::Refusal,
            Self::RateLimited { retry_at: None, problem, .. } if is_paused(problem) => {
                Fault::Refusal
            }
            Self::Refused { place, problem, .. }
                if is_closed(place.step, &problem.kind) || is_denied(place.step, &problem.kind) =>
            {
                Fault::Refusal
            }
            Self::Refused { problem, .. }
            | Self::ValidationFailed { problem, .. }
            | Self::OrderInvalid { problem: Some(problem), .. } => fault(&problem.kind),
            Self::Setup { .. }
            | Self::Unreachable { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::NoncesRefused { .. }
            | Self::Malformed { .. }
            | Self::IdentifiersDiffer { .. }
            | Self::AuthorizationLost { .. }
            | Self::OrderInvalid { problem: None, .. }
            | Self::StillWaiting { .. }
            | Self::Client { .. } => Fault::Outage,
        }
    }
}

/// Whom a problem of this kind says something about, wherever it appears.
const fn fault(kind: &ProblemKind) -> Fault {
    match kind {
        ProblemKind::Connection
        | ProblemKind::Dns
        | ProblemKind::IncorrectResponse
        | ProblemKind::Tls
        | ProblemKind::Unauthorized => Fault::Proof,
        // What this CA takes as keys, names and contacts is its own rule.
        ProblemKind::AccountDoesNotExist
        | ProblemKind::BadCsr
        | ProblemKind::BadPublicKey
        | ProblemKind::BadSignatureAlgorithm
        | ProblemKind::Caa
        | ProblemKind::ExternalAccountRequired
        | ProblemKind::InvalidContact
        | ProblemKind::InvalidProfile
        | ProblemKind::RejectedIdentifier
        | ProblemKind::UnsupportedContact
        | ProblemKind::UnsupportedIdentifier
        | ProblemKind::UserActionRequired => Fault::Refusal,
        ProblemKind::AlreadyReplaced
        | ProblemKind::AlreadyRevoked
        | ProblemKind::BadNonce
        | ProblemKind::BadRevocationReason
        | ProblemKind::Compound
        | ProblemKind::Malformed
        | ProblemKind::OrderNotReady
        | ProblemKind::RateLimited
        | ProblemKind::ServerInternal
        | ProblemKind::Unknown(_) => Fault::Outage,
    }
}

/// Whether a refusal in `step` says that the account is closed. Of an order it says only that this
/// one is lost.
fn is_closed(step: Step, kind: &ProblemKind) -> bool {
    *kind == ProblemKind::Unauthorized
        && matches!(step, Step::FindAccount | Step::FetchAccount | Step::PlaceOrder)
}

/// Whether a refusal in `step` says that the CA makes no account for us: there is none yet that
/// could be closed.
pub(super) fn is_denied(step: Step, kind: &ProblemKind) -> bool {
    *kind == ProblemKind::Unauthorized && step == Step::Account
}

/// What follows from a problem of this kind, wherever it appears: what a CA refuses by a rule of
/// its own it will refuse again.
const fn after(kind: &ProblemKind) -> Retry {
    match fault(kind) {
        Fault::Refusal => Retry::AfterChange,
        Fault::Ours | Fault::Solver | Fault::Outage | Fault::Proof => Retry::BackOff,
    }
}

/// Whether a human has to end a pause of the account, at an address that the CA names: Let's
/// Encrypt says so as rateLimited, without a Retry-After.
pub(super) fn is_paused(problem: &Problem) -> bool {
    problem.detail.contains("unpause")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::acme::error::Step;
    use crate::acme::wire::WireError;
    use crate::model::{Timestamp, chain_text};

    fn refused(status: u16, kind: &str, detail: &str, retry_after: Option<u64>) -> AcmeError {
        let body =
            json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        let status = StatusCode::from_u16(status).unwrap();
        let fault = WireError::Refused {
            url: "https://ca.example/new-order".into(),
            problem: Box::new(Problem::of_answer(status, body.to_string().as_bytes())),
            retry_after: retry_after.map(Duration::from_secs),
            terms: None,
        };
        let now = Timestamp::from_unix_seconds(1000);
        AcmeError::new(&"lab".parse().unwrap(), Step::PlaceOrder, "", fault, now)
    }

    #[test]
    fn rate_limits_hold_until_the_moment_the_ca_names() {
        let until = Retry::NotBefore(Timestamp::from_unix_seconds(1060));
        assert_eq!(refused(429, "rateLimited", "", Some(60)).retry(), until);
        assert_eq!(refused(503, "rateLimited", "", Some(60)).retry(), until);
        assert_eq!(refused(503, "serverInternal", "", Some(60)).retry(), until);
        assert_eq!(refused(429, "rateLimited", "", None).retry(), Retry::BackOff);
        assert_eq!(refused(500, "malformed", "", None).retry(), Retry::BackOff);
    }

    #[test]
    fn a_paused_account_waits_for_a_human_who_is_told_where_to_go() {
        let paused = refused(429, "rateLimited", "visit: https://ca/sfe/v1/unpause?jwt=x", None);
        assert_eq!(paused.retry(), Retry::AfterChange);
        assert!(paused.hint().unwrap().contains("https://ca/sfe/v1/unpause?jwt=x"));
    }

    #[test]
    fn what_only_the_operator_can_mend_waits_for_him_and_says_how() {
        for kind in [
            "caa",
            "rejectedIdentifier",
            "unsupportedIdentifier",
            "badCSR",
            "badPublicKey",
            "externalAccountRequired",
            "invalidContact",
            "unsupportedContact",
            "userActionRequired",
            "invalidProfile",
        ] {
            let error = refused(403, kind, "no", None);
            assert_eq!(error.retry(), Retry::AfterChange, "{kind}");
            assert!(error.hint().is_some(), "{kind}");
        }
    }

    #[test]
    fn each_kind_of_problem_says_whether_another_ca_may_do_better() {
        let fault = |status, kind| refused(status, kind, "", None).fault();
        for kind in ["connection", "dns", "incorrectResponse", "tls"] {
            assert_eq!(fault(400, kind), Fault::Proof, "{kind}");
        }
        for kind in ["caa", "rejectedIdentifier", "badCSR", "unauthorized", "userActionRequired"] {
            assert_eq!(fault(403, kind), Fault::Refusal, "{kind}");
        }
        for kind in ["rateLimited", "serverInternal", "malformed", "fromTheFuture"] {
            assert_eq!(fault(400, kind), Fault::Outage, "{kind}");
        }
        assert_eq!(fault(503, "connection"), Fault::Outage, "a CA that is down says nothing else");
        let paused = refused(429, "rateLimited", "visit: https://ca/sfe/v1/unpause?jwt=x", None);
        assert_eq!(paused.fault(), Fault::Refusal);
    }

    #[test]
    fn what_a_validation_found_is_of_the_proof_unless_it_is_of_the_cas_rules() {
        let found = |kind: &str| {
            let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}") });
            let bytes = body.to_string();
            AcmeError::ValidationFailed {
                place: Box::new(crate::acme::error::Place {
                    ca: "lab".parse().unwrap(),
                    step: Step::RespondToChallenge,
                    url: String::new(),
                    is_before: false,
                    is_again: false,
                }),
                identifier: "example.com".parse().unwrap(),
                challenge: "http-01".into(),
                problem: Box::new(Problem::of_answer(StatusCode::FORBIDDEN, bytes.as_bytes())),
                others: Vec::new(),
            }
            .fault()
        };
        assert_eq!(found("unauthorized"), Fault::Proof);
        assert_eq!(found("caa"), Fault::Refusal);
        assert_eq!(found("serverInternal"), Fault::Outage);
    }

    #[test]
    fn an_unknown_kind_of_problem_means_to_back_off() {
        let error = refused(400, "fromTheFuture", "no", None);
        assert_eq!((error.retry(), error.code()), (Retry::BackOff, "acme.refused"));
    }

    #[test]
    fn an_error_names_the_ca_the_step_the_url_and_the_reason_once_each() {
        let text = chain_text(&refused(403, "caa", "CAA forbids", None));
        assert_eq!(
            text,
            "lab: cannot place an order at https://ca.example/new-order: the CA refused: \
             CAA forbids (caa, HTTP 403)"
        );
    }
}
