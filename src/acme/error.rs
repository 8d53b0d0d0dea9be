//! What can go wrong with a CA, as an operator sees it.
//!
//! Not here: what follows from it ([`super::explain`]), and what he can do ([`super::hint`]).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::ext::jws::AccountKeyError;
use super::header::MAX_PAUSE;
use super::object::{AuthorizationStatus, OrderStatus};
use super::problem::{Problem, ProblemKind};
use super::wire::WireError;
use crate::model::{CaName, Identifier, KeyError, StorageError, Timestamp};
use crate::sys::http::HttpError;

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finding or making the account, with the directory and nonces before it.
    Account,
    /// Looking for a known account by its key (RFC 8555 §7.3.1).
    FindAccount,
    /// Looking at the account (RFC 8555 §7.1.2).
    FetchAccount,
    /// Telling the CA new contacts (RFC 8555 §7.3.2).
    UpdateAccount,
    /// Giving the account another key (RFC 8555 §7.3.5).
    RollOver,
    /// Ending the account (RFC 8555 §7.3.6).
    DeactivateAccount,
    /// Revoking a certificate (RFC 8555 §7.6).
    Revoke,
    /// newOrder (RFC 8555 §7.4).
    PlaceOrder,
    /// Looking at an order.
    FetchOrder,
    /// Looking at an authorization (RFC 8555 §7.5).
    FetchAuthorization,
    /// Telling the CA to look (RFC 8555 §7.5.1).
    RespondToChallenge,
    /// Sending the CSR (RFC 8555 §7.4).
    Finalize,
    /// Fetching the certificate (RFC 8555 §7.4.2).
    Download,
    /// Asking when to renew (RFC 9773 §4).
    FetchRenewalInfo,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Account => "find or make the account",
            Self::FindAccount => "find the account",
            Self::FetchAccount => "look at the account",
            Self::UpdateAccount => "update the account",
            Self::RollOver => "roll the account key over",
            Self::DeactivateAccount => "deactivate the account",
            Self::Revoke => "revoke the certificate",
            Self::PlaceOrder => "place an order",
            Self::FetchOrder => "fetch the order",
            Self::FetchAuthorization => "fetch an authorization",
            Self::RespondToChallenge => "respond to a challenge",
            Self::Finalize => "finalize the order",
            Self::Download => "download the certificate",
            Self::FetchRenewalInfo => "ask when to renew",
        })
    }
}

/// Where something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// At which CA.
    pub ca: CaName,
    /// In which step.
    pub step: Step,
    /// At which URL; that of the order, where no single request failed.
    pub url: String,
    /// Whether that was before the step's own request: the directory, a nonce or a connection could
    /// not be had, so the CA was not asked for anything.
    pub is_before: bool,
    /// Whether the same was asked for in another way just before, and may have been done: an order
    /// that replaces a certificate, before the one that does not say so.
    pub is_again: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot {} at {}", self.ca, self.step, self.url)
    }
}

/// Something did not work with a CA.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The file with the trusted roots of the CA can't be used.
    #[error("{ca}: cannot read the trusted roots of the CA in {}", path.display())]
    Trust {
        /// The CA.
        ca: CaName,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There can be no client for the CA.
    #[error("{ca}: cannot prepare for the CA")]
    Setup {
        /// The CA.
        ca: CaName,
        /// Why not.
        #[source]
        source: HttpError,
    },
    /// The operator has not agreed to the terms of service (RFC 8555 §7.3).
    #[error("{ca}: the terms of service of the CA are not agreed to")]
    TermsNotAgreed {
        /// The CA.
        ca: CaName,
        /// Where they stand, if the CA says so.
        terms: Option<String>,
    },
    /// The CA wants an external account binding, and none is configured (RFC 8555 §7.3.4).
    #[error("{ca}: the CA requires an external account binding, and none is configured")]
    BindingRequired {
        /// The CA.
        ca: CaName,
    },
    /// The CA does not offer the profile (draft-ietf-acme-profiles).
    #[error("{ca}: the CA does not offer the profile {profile:?}")]
    ProfileNotOffered {
        /// The CA.
        ca: CaName,
        /// As configured.
        profile: String,
        /// What it does offer.
        offered: Vec<String>,
    },
    /// The account can't be read or kept.
    #[error("{ca}: the account cannot be kept")]
    Storage {
        /// The CA.
        ca: CaName,
        /// Why not.
        #[source]
        source: StorageError,
    },
    /// No account key can be made.
    #[error("{ca}: no account key can be made")]
    KeyGeneration {
        /// The CA.
        ca: CaName,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// The account key, or that of the external account binding, can't sign.
    #[error("{ca}: cannot sign for the account")]
    AccountKey {
        /// The CA.
        ca: CaName,
        /// Why not.
        #[source]
        source: AccountKeyError,
    },
    /// The account was deactivated by hand, and none is made in its place unasked.
    #[error("{ca}: the account was deactivated on {at}")]
    AccountDeactivated {
        /// The CA.
        ca: CaName,
        /// When.
        at: Timestamp,
    },
    /// There is no account to work on.
    #[error("{ca}: there is no account")]
    NoAccount {
        /// The CA.
        ca: CaName,
    },
    /// The CA has no resource for what was asked for (RFC 8555 §7.1.1).
    #[error("{ca}: the CA does not offer {what}")]
    NotOffered {
        /// The CA.
        ca: CaName,
        /// What.
        what: &'static str,
    },
    /// The CA goes on denying an account that was just found or made anew.
    #[error("{ca}: the CA denies the account it has just confirmed")]
    AccountLost {
        /// The CA.
        ca: CaName,
    },
    /// No answer, or no complete one.
    #[error("{place}")]
    Unreachable {
        /// Where.
        place: Box<Place>,
        /// Why not.
        #[source]
        source: Arc<HttpError>,
    },
    /// The CA limits our rate (RFC 8555 §6.6).
    #[error("{place}: the CA limits our rate")]
    RateLimited {
        /// Where.
        place: Box<Place>,
        /// The CA's words.
        #[source]
        problem: Box<Problem>,
        /// From Retry-After.
        retry_at: Option<Timestamp>,
    },
    /// The CA has trouble of its own.
    #[error("{place}: the CA is in trouble")]
    Unavailable {
        /// Where.
        place: Box<Place>,
        /// The CA's words.
        #[source]
        problem: Box<Problem>,
        /// From Retry-After.
        retry_at: Option<Timestamp>,
    },
    /// The CA said no.
    #[error("{place}: the CA refused")]
    Refused {
        /// Where.
        place: Box<Place>,
        /// The CA's words.
        #[source]
        problem: Box<Problem>,
        /// Where its terms of service stand, if it says so.
        terms: Option<String>,
    },
    /// The CA refused every nonce it gave (RFC 8555 §6.5).
    #[error("{place}: the CA refused each nonce it gave")]
    NoncesRefused {
        /// Where.
        place: Box<Place>,
    },
    /// The CA's answer can't be understood.
    #[error("{place}: the answer {what}; it begins with \"{excerpt}\"")]
    Malformed {
        /// Where.
        place: Box<Place>,
        /// What is wrong with it.
        what: &'static str,
        /// Its first bytes.
        excerpt: String,
        /// What the parser says.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The order is not for what was asked for.
    #[error("{place}: the order is for {answered}, but {asked} was asked for")]
    IdentifiersDiffer {
        /// Where.
        place: Box<Place>,
        /// What was asked for.
        asked: String,
        /// What the CA says.
        answered: String,
    },
    /// The CA could not validate our control of an identifier (RFC 8555 §7.5.1).
    #[error("{}: the CA could not validate {identifier} by {challenge}{}", place.ca, also(others))]
    ValidationFailed {
        /// Where; the URL is that of the order.
        place: Box<Place>,
        /// Which; with its `*.` if it is a wildcard.
        identifier: Identifier,
        /// The challenge's type.
        challenge: String,
        /// What the CA found.
        #[source]
        problem: Box<Problem>,
        /// The other identifiers that failed in the same order.
        others: Vec<Identifier>,
    },
    /// An authorization is no longer good for anything, without a failure of ours.
    #[error("{place}: the authorization of {identifier} is {status}")]
    AuthorizationLost {
        /// Where.
        place: Box<Place>,
        /// Of which identifier.
        identifier: Identifier,
        /// What it is.
        status: AuthorizationStatus,
    },
    /// The order came to nothing, and the CA names no identifier.
    #[error("{place}: the order is invalid")]
    OrderInvalid {
        /// Where.
        place: Box<Place>,
        /// The CA's words, if it found any.
        #[source]
        problem: Option<Box<Problem>>,
    },
    /// The order does not get on; it is still there, and can be taken up again.
    #[error("{place}: the order is still {status}")]
    StillWaiting {
        /// Where.
        place: Box<Place>,
        /// Its state.
        status: OrderStatus,
        /// From Retry-After.
        retry_at: Option<Timestamp>,
    },
    /// instant-acme did not go on.
    #[error("{place}")]
    Client {
        /// Where.
        place: Box<Place>,
        /// Why not.
        #[source]
        source: instant_acme::Error,
    },
}

fn also(others: &[Identifier]) -> String {
    let names: Vec<String> = others.iter().map(Identifier::value).collect();
    if names.is_empty() { String::new() } else { format!(" (nor {})", names.join(", ")) }
}

impl AcmeError {
    /// What `fault` in the `step` means; `url` is said where the fault names none.
    pub(super) fn new(
        ca: &CaName,
        step: Step,
        url: &str,
        fault: WireError,
        now: Timestamp,
    ) -> Self {
        Self::met(ca, step, url, fault, false, now)
    }

    fn met(
        ca: &CaName,
        step: Step,
        url: &str,
        fault: WireError,
        is_before: bool,
        now: Timestamp,
    ) -> Self {
        let place =
            |url: String| Box::new(Place { ca: ca.clone(), step, url, is_before, is_again: false });
        match fault {
            WireError::NotSent(fault) => Self::met(ca, step, url, *fault, true, now),
            WireError::Unreachable { url, source } => {
                Self::Unreachable { place: place(url), source }
            }
            WireError::NoncesRefused { url } => Self::NoncesRefused { place: place(url) },
            WireError::Malformed { url, what, excerpt, source } => {
                Self::Malformed { place: place(url), what, excerpt, source }
            }
            WireError::Key(source) => Self::AccountKey { ca: ca.clone(), source },
            WireError::Client { source } => Self::Client { place: place(url.to_owned()), source },
            WireError::Refused { url, problem, retry_after, terms } => {
                let place = place(url);
                let retry_at = retry_after.map(|wait| now.saturating_add(wait));
                let status = problem.status.unwrap_or_default();
                if status == 429 || problem.kind == ProblemKind::RateLimited {
                    Self::RateLimited { place, problem, retry_at }
                } else if status >= 500 || problem.kind == ProblemKind::ServerInternal {
                    let retry_at = retry_after.map(|it| now.saturating_add(it.min(MAX_PAUSE)));
                    Self::Unavailable { place, problem, retry_at }
                } else {
                    Self::Refused { place, problem, terms }
                }
            }
        }
    }

    /// Whether the same request may well succeed in a moment.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::NoncesRefused { .. }
                | Self::RateLimited { retry_at: Some(_), .. }
        )
    }

    /// This of something that was asked for again, after it may have been done the first time.
    pub(super) fn asked_again(mut self) -> Self {
        if let Self::Unreachable { place, .. }
        | Self::RateLimited { place, .. }
        | Self::Unavailable { place, .. }
        | Self::Refused { place, .. }
        | Self::NoncesRefused { place }
        | Self::Malformed { place, .. }
        | Self::Client { place, .. } = &mut self
        {
            place.is_again = true;
        }
        self
    }

    /// Whether the CA surely did not do what was asked for: it said no, or was not asked.
    #[must_use]
    pub fn is_surely_not_done(&self) -> bool {
        match self {
            Self::Unreachable { place, .. }
            | Self::RateLimited { place, .. }
            | Self::Unavailable { place, .. }
            | Self::Refused { place, .. }
            | Self::NoncesRefused { place }
            | Self::Malformed { place, .. }
            | Self::Client { place, .. }
                if place.is_again =>
            {
                false
            }
            Self::Unreachable { place, .. }
            | Self::Unavailable { place, .. }
            | Self::Malformed { place, .. }
            | Self::Client { place, .. } => place.is_before,
            // The page of a proxy may stand in the place of any answer.
            Self::Refused { place, .. } => place.is_before || !self.is_unexplained(),
            Self::Trust { .. }
            | Self::Setup { .. }
            | Self::TermsNotAgreed { .. }
            | Self::BindingRequired { .. }
            | Self::ProfileNotOffered { .. }
            | Self::KeyGeneration { .. }
            | Self::AccountKey { .. }
            | Self::AccountDeactivated { .. }
            | Self::NoAccount { .. }
            | Self::NotOffered { .. }
            | Self::AccountLost { .. }
            | Self::RateLimited { .. }
            | Self::NoncesRefused { .. } => true,
            // An account may be made, and can't be kept.
            Self::Storage { .. }
            | Self::IdentifiersDiffer { .. }
            | Self::ValidationFailed { .. }
            | Self::AuthorizationLost { .. }
            | Self::OrderInvalid { .. }
            | Self::StillWaiting { .. } => false,
        }
    }

    /// Whether the order it belongs to can't lead to a certificate any more: the next attempt
    /// needs a new one.
    #[must_use]
    pub fn is_end_of_order(&self) -> bool {
        if let Self::Refused { place, problem, .. } = self {
            // The CA does not know it, or it is another account's; or it does not take our CSR.
            let steps = [Step::FetchOrder, Step::FetchAuthorization, Step::Finalize];
            // What is said where nonces are given out, or of the account, is not said of the order.
            return !place.is_before
                && steps.contains(&place.step)
                && !self.is_unexplained()
                && !problem.kind.waits_for_the_account();
        }
        matches!(
            self,
            Self::IdentifiersDiffer { .. }
                | Self::ValidationFailed { .. }
                | Self::AuthorizationLost { .. }
                | Self::OrderInvalid { .. }
        )
    }

    /// Whether the answer holds no word of ACME, as the page of a proxy in between: it says nothing
    /// of what was asked for.
    #[must_use]
    pub fn is_unexplained(&self) -> bool {
        match self {
            Self::Malformed { .. } => true,
            Self::Refused { problem, .. } => !problem.is_of_acme(),
            _ => false,
        }
    }

    /// Whether the CA understood the request and said no to it. A proxy's page is not its word, nor
    /// is a type that we don't know, nor that nothing is to be found under a URL.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { place, problem, .. } => {
                !place.is_before
                    && !matches!(problem.kind, ProblemKind::Unknown(_))
                    && problem.status != Some(404)
            }
            _ => matches!(self, Self::NotOffered { .. }),
        }
    }

    /// The type of the problem with which a request was refused.
    pub(super) fn refusal(&self) -> Option<&ProblemKind> {
        match self {
            Self::Refused { place, problem, .. } if !place.is_before => Some(&problem.kind),
            _ => None,
        }
    }

    /// When the CA allows the next request, if it says so.
    pub(super) const fn retry_at(&self) -> Option<Timestamp> {
        if let Self::RateLimited { retry_at, .. }
        | Self::Unavailable { retry_at, .. }
        | Self::StillWaiting { retry_at, .. } = self
        {
            *retry_at
        } else {
            None
        }
    }
}
