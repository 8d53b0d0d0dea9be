//! Problem documents (RFC 8555 §6.7, RFC 7807): read leniently, kept with their status, made safe
//! to print.
//!
//! Not here: what follows from one ([`super::error`]).

use std::fmt;

use http::StatusCode;
use serde_json::Value;

use crate::model::escaped;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $code:literal;)*) => {
        /// What kind of problem: the known types of RFC 8555 §6.7, RFC 9773 and
        /// draft-ietf-acme-profiles.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$doc])* $variant,)*
            /// Any other type, as the CA wrote it; empty if it wrote none.
            Unknown(String),
        }

        impl ProblemKind {
            fn parse(text: &str) -> Self {
                match text.strip_prefix(PREFIX) {
                    $(Some($text) => Self::$variant,)*
                    _ => Self::Unknown(cut(text, MAX_KIND_LENGTH)),
                }
            }

            /// The last part of the type, as the RFC writes it; all of it, if it is not known.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }

            /// The stable word for programs: `acme.` and the type.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("acme.", $code),)*
                    Self::Unknown(_) => "acme.refused",
                }
            }
        }
    };
}

kinds! {
    /// The CA knows no account with this key or URL.
    AccountDoesNotExist = "accountDoesNotExist", "account_does_not_exist";
    /// The certificate to be replaced has been replaced before (RFC 9773 §7.4).
    AlreadyReplaced = "alreadyReplaced", "already_replaced";
    /// The certificate is revoked already.
    AlreadyRevoked = "alreadyRevoked", "already_revoked";
    /// The CSR is not to the CA's liking.
    BadCsr = "badCSR", "bad_csr";
    /// The nonce was not one of its own, or used before.
    BadNonce = "badNonce", "bad_nonce";
    /// The key is of a kind or strength that the CA does not take.
    BadPublicKey = "badPublicKey", "bad_public_key";
    /// The reason of a revocation is not allowed.
    BadRevocationReason = "badRevocationReason", "bad_revocation_reason";
    /// The signature's algorithm is not one of the CA's.
    BadSignatureAlgorithm = "badSignatureAlgorithm", "bad_signature_algorithm";
    /// CAA records forbid the CA to issue (RFC 8659).
    Caa = "caa", "caa";
    /// Several problems, which the subproblems tell.
    Compound = "compound", "compound";
    /// The CA could not connect to the server to be validated.
    Connection = "connection", "connection";
    /// A DNS query of the CA failed.
    Dns = "dns", "dns";
    /// An account needs an external account binding.
    ExternalAccountRequired = "externalAccountRequired", "external_account_required";
    /// What the CA found does not answer its challenge.
    IncorrectResponse = "incorrectResponse", "incorrect_response";
    /// A contact URL is wrong.
    InvalidContact = "invalidContact", "invalid_contact";
    /// The profile is not one of the CA's (draft-ietf-acme-profiles).
    InvalidProfile = "invalidProfile", "invalid_profile";
    /// The request was not understood.
    Malformed = "malformed", "malformed";
    /// The order can't be finalized yet.
    OrderNotReady = "orderNotReady", "order_not_ready";
    /// Too many requests of some kind.
    RateLimited = "rateLimited", "rate_limited";
    /// The CA does not issue for an identifier.
    RejectedIdentifier = "rejectedIdentifier", "rejected_identifier";
    /// The CA's own trouble.
    ServerInternal = "serverInternal", "server_internal";
    /// The CA's TLS connection to the server to be validated failed.
    Tls = "tls", "tls";
    /// The account may not do this, or the validation found something else.
    Unauthorized = "unauthorized", "unauthorized";
    /// A contact URL is of a scheme that the CA does not take.
    UnsupportedContact = "unsupportedContact", "unsupported_contact";
    /// An identifier is of a type that the CA does not take.
    UnsupportedIdentifier = "unsupportedIdentifier", "unsupported_identifier";
    /// A human has to do something at the CA.
    UserActionRequired = "userActionRequired", "user_action_required";
}

impl ProblemKind {
    /// Whether a human has to do something for the account first, whatever was asked for with it
    /// (RFC 8555 §7.3.3, §7.3.4).
    pub(super) const fn waits_for_the_account(&self) -> bool {
        matches!(self, Self::ExternalAccountRequired | Self::UserActionRequired)
    }
}

/// A CA's account of what went wrong, safe to print: escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Its type.
    pub kind: ProblemKind,
    /// The CA's words; the beginning of the body, if that was no problem document.
    pub detail: String,
    /// The HTTP status; `None` for a problem inside another object.
    pub status: Option<u16>,
    /// Where a human is to look (RFC 8555 §7.3.3).
    pub instance: Option<String>,
    /// What concerns single identifiers (RFC 8555 §6.7.1).
    pub subproblems: Vec<Subproblem>,
}

/// The part of a problem that concerns one identifier (RFC 8555 §6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The identifier as the CA wrote it.
    pub identifier: Option<String>,
    /// Its type.
    pub kind: ProblemKind,
    /// The CA's words.
    pub detail: String,
}

impl Problem {
    /// What the answer with this status and body says. A body that is no problem document, such
    /// as a proxy's page, is told by its beginning; the status is never lost.
    pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> Self {
        let read = serde_json::from_slice::<Value>(body).ok().as_ref().and_then(Self::of_value);
        let problem = read.unwrap_or_else(|| Self {
            kind: ProblemKind::Unknown(String::new()),
            detail: excerpt(body),
            status: None,
            instance: None,
            subproblems: Vec::new(),
        });
        Self { status: Some(status.as_u16()), ..problem }
    }

    /// Whether it is the CA's own word: a document with a type of ACME, and not what a web server
    /// says by itself. That there is nothing some CAs say with a bare 404, and proxies with a page.
    pub(super) fn is_of_acme(&self) -> bool {
        match &self.kind {
            ProblemKind::Unknown(kind) if !kind.starts_with(PREFIX) => {
                self.status == Some(404) && kind.is_empty() && self.detail.is_empty()
            }
            _ => true,
        }
    }

    /// The problem document `value`; `None` if it has neither type nor detail.
    pub(super) fn of_value(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if text("type").is_none() && text("detail").is_none() {
            return None;
        }
        let listed = value.get("subproblems").and_then(Value::as_array);
        let subproblems =
            listed.into_iter().flatten().take(MAX_SUBPROBLEMS).map(Subproblem::of_value).collect();
        Some(Self {
            kind: ProblemKind::parse(text("type").unwrap_or_default()),
            detail: cut(text("detail").unwrap_or_default(), MAX_DETAIL_LENGTH),
            status: None,
            instance: text("instance").map(|it| cut(it, MAX_DETAIL_LENGTH)),
            subproblems,
        })
    }
}

impl Subproblem {
    fn of_value(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let identifier = value.get("identifier").and_then(|it| it.get("value"));
        Self {
            identifier: identifier.and_then(Value::as_str).map(|it| cut(it, MAX_KIND_LENGTH)),
            kind: ProblemKind::parse(text("type")),
            detail: cut(text("detail"), MAX_SUBDETAIL_LENGTH),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        f.write_str(if self.detail.is_empty() { "no reason given" } else { &self.detail })?;
        match (kind.is_empty(), self.status) {
            (false, Some(status)) => write!(f, " ({kind}, HTTP {status})")?,
            (false, None) => write!(f, " ({kind})")?,
            (true, Some(status)) => write!(f, " (HTTP {status})")?,
            (true, None) => {}
        }
        for subproblem in &self.subproblems {
            let identifier = subproblem.identifier.as_deref().unwrap_or("an identifier");
            write!(f, "; {identifier}: {} ({})", subproblem.detail, subproblem.kind.as_str())?;
        }
        Ok(())
    }
}

/// The beginning of `body`, printable.
pub(super) fn excerpt(body: &[u8]) -> String {
    let start = body.get(..MAX_EXCERPT_LENGTH.min(body.len())).unwrap_or_default();
    escaped(String::from_utf8_lossy(start).trim())
}

fn cut(text: &str, limit: usize) -> String {
    let mut cut: String = text.chars().take(limit).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    escaped(&cut)
}

const PREFIX: &str = "urn:ietf:params:acme:error:";
const MAX_KIND_LENGTH: usize = 300;
/// Long enough for the address with a signed token that Let's Encrypt sends for a paused account.
const MAX_DETAIL_LENGTH: usize = 2000;
const MAX_SUBDETAIL_LENGTH: usize = 300;
const MAX_SUBPROBLEMS: usize = 20;
const MAX_EXCERPT_LENGTH: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_of_the_rfc_is_read_whole() {
        let document = json!({
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers requested were rejected",
            "subproblems": [{
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "This CA will not issue for \"example.net\"",
                "identifier": { "type": "dns", "value": "example.net" }
            }]
        });
        let problem = Problem::of_answer(StatusCode::FORBIDDEN, document.to_string().as_bytes());
        assert_eq!(problem.kind, ProblemKind::Malformed);
        assert_eq!(problem.subproblems[0].kind, ProblemKind::RejectedIdentifier);
        assert_eq!(
            problem.to_string(),
            "Some of the identifiers requested were rejected (malformed, HTTP 403); \
             example.net: This CA will not issue for \"example.net\" (rejectedIdentifier)"
        );
    }

    #[test]
    fn a_page_of_a_proxy_keeps_its_status_and_its_beginning() {
        let page = format!("<html>\n<b>Bad\x1b[31m gateway</b>{}", "x".repeat(5000));
        let problem = Problem::of_answer(StatusCode::BAD_GATEWAY, page.as_bytes());
        assert_eq!(problem.status, Some(502));
        assert!(problem.detail.starts_with("<html> <b>Bad\\u{1b}[31m gateway</b>xxx"));
        assert!(problem.detail.len() < 250);
        assert_eq!(
            Problem::of_answer(StatusCode::BAD_GATEWAY, b"").to_string(),
            "no reason given (HTTP 502)"
        );
    }

    #[test]
    fn a_page_of_a_proxy_is_not_the_cas_own_word_and_a_bare_404_is() {
        let is_of_acme = |status: u16, body: &str| {
            Problem::of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).is_of_acme()
        };
        for body in ["<html>", "not found", r#"{"type":"about:blank","title":"Not Found"}"#] {
            assert!(!is_of_acme(404, body), "{body}");
        }
        assert!(is_of_acme(404, r#"{"type":"urn:ietf:params:acme:error:malformed"}"#));
        assert!(is_of_acme(404, r#"{"type":"urn:ietf:params:acme:error:fromTheFuture"}"#));
        assert!(is_of_acme(404, "") && !is_of_acme(403, ""));
    }

    #[test]
    fn wrong_types_inside_are_passed_over() {
        let document = json!({
            "type": "urn:ietf:params:acme:error:dns", "detail": 5, "status": "400",
            "subproblems": [5, null, { "identifier": "x" }], "instance": []
        });
        let problem = Problem::of_value(&document).unwrap();
        assert_eq!((problem.kind, problem.detail.as_str()), (ProblemKind::Dns, ""));
        assert_eq!(problem.subproblems.len(), 3);
        assert_eq!(Problem::of_value(&json!({"status": "pending"})), None);
        assert_eq!(Problem::of_value(&json!(null)), None);
    }

    #[test]
    fn endless_words_are_cut_and_can_not_write_to_a_terminal() {
        let many: Vec<Value> = (0..500).map(|_| json!({"detail": "y".repeat(9000)})).collect();
        let document =
            json!({ "type": "x\x07", "detail": "é\x1b".repeat(9000), "subproblems": many });
        let text = Problem::of_value(&document).unwrap().to_string();
        assert!(text.len() < 40_000, "{}", text.len());
        assert!(!text.contains(['\x1b', '\x07']));
    }

    #[test]
    fn each_known_type_is_read_back_as_itself() {
        for text in ["rateLimited", "caa", "userActionRequired", "invalidProfile"] {
            let kind = ProblemKind::parse(&format!("{PREFIX}{text}"));
            assert_eq!(kind.as_str(), text);
            assert!(!matches!(kind, ProblemKind::Unknown(_)), "{text}");
        }
        let foreign = ProblemKind::parse("about:blank");
        assert_eq!((foreign.as_str(), foreign.code()), ("about:blank", "acme.refused"));
    }
}
