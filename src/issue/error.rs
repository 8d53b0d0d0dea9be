//! Why an order did not end in a certificate.

use std::error::Error;
use std::time::Duration;

use crate::acme::AcmeError;
use crate::local_ca::LocalCaError;
use crate::model::{
    CaName, CertificateName, ChainError, ChallengeType, Explain, Fault, Identifier, KeyError,
    Refusal, Retry, SolverName, StorageError,
};
use crate::solver::SolverError;

use super::check::CheckError;
use super::csr::CsrError;

/// What is to come by time alone is not asked for more often.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);

/// That another one's order is in the way is over when that one is done with it.
const TWIN_PAUSE: Duration = Duration::from_hours(1);

/// An order did not end in a certificate.
///
/// Each variant is one thing that an operator can act on. The messages do not repeat their source:
/// whoever prints an error prints the whole chain.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The spec names no CA; the configuration would not have let it pass.
    #[error("no CA is named")]
    NoCa,
    /// The configuration names no such CA; it would not have been let pass.
    #[error("there is no CA named {0}")]
    UnknownCa(CaName),
    /// The CA that a certificate came from is not in the configuration any more.
    #[error("the certificate came from {directory}, and there is no CA {ca} with that directory")]
    OriginUnknown {
        /// Its name then.
        ca: CaName,
        /// Its directory.
        directory: String,
    },
    /// The built-in CA keeps no list of what it revoked.
    #[error("the built-in CA {0} can't revoke")]
    NoRevocation(CaName),
    /// The configuration names no such solver; it would not have been let pass.
    #[error("there is no solver named {0}")]
    UnknownSolver(SolverName),
    /// The CA wants a proof for something that no solver was configured for.
    #[error("there is no solver for {0}")]
    NoSolver(Identifier),
    /// The solver can't show anything now; asked before the order, so nothing is spent.
    #[error("the solver {solver} can't work, so nothing was ordered")]
    SolverNotReady {
        /// Which one.
        solver: SolverName,
        /// Why.
        #[source]
        source: Box<SolverError>,
    },
    /// What would be issued could not be kept; asked before the order, so nothing is spent.
    #[error("the store can't take a certificate, so nothing was ordered")]
    StoreNotReady(#[source] StorageError),
    /// What would be issued could be handed to nobody; asked before the order, so nothing is spent.
    #[error("no target can take the certificate, so nothing was ordered")]
    TargetNotReady {
        /// What can be done about the first of them.
        hint: Option<String>,
        /// Why the first of them can't.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The solver could not show a proof.
    #[error("the solver {solver} could not show the proof for {identifier}")]
    NotPresented {
        /// Which one.
        solver: SolverName,
        /// For what.
        identifier: Identifier,
        /// Why.
        #[source]
        source: Box<SolverError>,
    },
    /// The CA offers no challenge that the solver can meet.
    #[error(
        "the CA offers no {wanted} challenge for {identifier} (offered: {}; configured: {wanted})",
        offered.join(", ")
    )]
    NoChallenge {
        /// For what.
        identifier: Identifier,
        /// What the solver can do.
        wanted: ChallengeType,
        /// What the CA offers.
        offered: Vec<String>,
    },
    /// Another certificate for the same identifiers is being ordered for longer than it should
    /// take.
    #[error("{ca}: another certificate for the same names is being ordered, and takes its time")]
    TwinAtWork {
        /// Where.
        ca: CaName,
    },
    /// The CA has an open order for the same identifiers, which is for another key.
    #[error(
        "{ca}: the CA gives no new order beside {url}, which is that of the certificate {twin}"
    )]
    OrderOfTwin {
        /// Where.
        ca: CaName,
        /// Whose order it is.
        twin: CertificateName,
        /// Which order.
        url: String,
    },
    /// The CA would refuse it, or it is more than we ask of any CA; nothing was asked.
    #[error(transparent)]
    HeldBack(Box<Refusal>),
    /// Something at or on the way to the CA.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The journal can't be read or written: without it no order is placed or finalized.
    #[error("the order can't be journalled, so it is not gone on with")]
    Storage(#[from] StorageError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key that is to be used again can't be read at this moment.
    #[error("the key that is to be used again can't be read")]
    KeyUnreadable(#[source] StorageError),
    /// The key is not here, and is needed to sign.
    #[error("the key of the certificate is elsewhere, and can't sign here")]
    KeyElsewhere,
    /// The key that is elsewhere is in other hands too, and would be certified again.
    #[error("the key of the certificate request is in other hands")]
    RequestCompromised,
    /// No CSR could be made.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The built-in CA can't certify.
    #[error(transparent)]
    Local(#[from] LocalCaError),
    /// What the CA sent is no chain.
    #[error("the CA sent something that is no certificate chain")]
    Chain(#[from] ChainError),
    /// What the CA sent is not what was ordered.
    #[error("the CA sent another certificate than the one ordered")]
    NotAsOrdered(#[from] CheckError),
}

/// On whose side a failure lies, which says which ladder waits after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The CA's, or the way to it: asking again costs its resources and our allowance.
    Ca,
    /// Ours: nobody else is asked.
    Local,
}

impl IssueError {
    /// On whose side the failure lies.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self {
            Self::SolverNotReady { .. }
            | Self::StoreNotReady(_)
            | Self::TargetNotReady { .. }
            | Self::NotPresented { .. }
            | Self::TwinAtWork { .. }
            | Self::HeldBack(_)
            | Self::Storage(_)
            | Self::Key(_)
            | Self::KeyUnreadable(_)
            | Self::KeyElsewhere
            | Self::RequestCompromised
            | Self::Csr(_)
            | Self::Local(_)
            | Self::NoCa
            | Self::UnknownCa(_)
            | Self::OriginUnknown { .. }
            | Self::NoRevocation(_)
            | Self::UnknownSolver(_)
            | Self::NoSolver(_)
            | Self::Acme(AcmeError::Storage { .. } | AcmeError::KeyGeneration { .. }) => {
                Side::Local
            }
            Self::NoChallenge { .. }
            | Self::OrderOfTwin { .. }
            | Self::Acme(_)
            | Self::Chain(_)
            | Self::NotAsOrdered(_) => Side::Ca,
        }
    }

    /// Whether another CA may do better.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::SolverNotReady { .. }
            | Self::NotPresented { .. }
            | Self::UnknownSolver(_)
            | Self::NoSolver(_) => Fault::Solver,
            Self::StoreNotReady(_)
            | Self::TargetNotReady { .. }
            | Self::TwinAtWork { .. }
            | Self::HeldBack(_)
            | Self::Storage(_)
            | Self::Key(_)
            | Self::KeyUnreadable(_)
            | Self::KeyElsewhere
            | Self::RequestCompromised
            | Self::Csr(_)
            | Self::NoCa
            | Self::UnknownCa(_)
            | Self::OriginUnknown { .. }
            | Self::Local(LocalCaError::Storage(_)) => Fault::Ours,
            // Another one may offer the challenge.
            Self::NoChallenge { .. } | Self::NoRevocation(_) => Fault::Refusal,
            Self::Local(error) if error.retry() == Retry::AfterChange => Fault::Refusal,
            Self::Local(_) | Self::OrderOfTwin { .. } | Self::Chain(_) | Self::NotAsOrdered(_) => {
                Fault::Outage
            }
            Self::Acme(error) => error.fault(),
        }
    }
}

impl IssueError {
    /// The longest pause after which another try is worth it: time alone, or a clock that is put
    /// right, mends it.
    #[must_use]
    pub fn longest_pause(&self) -> Option<Duration> {
        match self {
            Self::NotAsOrdered(error) => Some(error.will_do_in()?.max(SHORTEST_PAUSE)),
            Self::OrderOfTwin { .. } => Some(TWIN_PAUSE),
            _ => None,
        }
    }
}

impl Explain for IssueError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoCa | Self::UnknownCa(_) | Self::UnknownSolver(_) | Self::NoSolver(_) => {
                "config.incomplete"
            }
            Self::SolverNotReady { source, .. } | Self::NotPresented { source, .. } => {
                source.code()
            }
            Self::StoreNotReady(_) => "store.not_ready",
            Self::TargetNotReady { .. } => "deploy.not_ready",
            Self::NoChallenge { .. } => "issue.no_challenge",
            Self::TwinAtWork { .. } | Self::OrderOfTwin { .. } => "issue.twin",
            Self::NoRevocation(_) => "issue.no_revocation",
            Self::OriginUnknown { .. } => "revoke.unknown_ca",
            Self::HeldBack(refusal) => refusal.code(),
            Self::Acme(source) => source.code(),
            Self::Local(source) => source.code(),
            Self::Storage(_) | Self::KeyUnreadable(_) => "store.failed",
            Self::Key(_) | Self::Csr(_) | Self::KeyElsewhere | Self::RequestCompromised => {
                "issue.key"
            }
            Self::Chain(_) => "issue.chain",
            Self::NotAsOrdered(source) => source.code(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::HeldBack(refusal) => Retry::NotBefore(refusal.until),
            Self::Acme(source) => source.retry(),
            Self::Local(source) => source.retry(),
            Self::NoChallenge { .. }
            | Self::NoCa
            | Self::UnknownCa(_)
            | Self::NoRevocation(_)
            | Self::KeyElsewhere
            | Self::RequestCompromised
            | Self::UnknownSolver(_)
            | Self::NoSolver(_) => Retry::AfterChange,
            Self::SolverNotReady { source, .. } | Self::NotPresented { source, .. } => {
                source.retry()
            }
            Self::NotAsOrdered(source) => source.retry(),
            _ => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::SolverNotReady { source, .. } | Self::NotPresented { source, .. } => {
                source.hint()
            }
            Self::StoreNotReady(source) => source.hint(),
            Self::TargetNotReady { hint, .. } => hint.clone(),
            Self::HeldBack(refusal) => Some(refusal.hint().to_owned()),
            Self::Acme(source) => source.hint(),
            Self::Local(source) => source.hint(),
            Self::NotAsOrdered(source) => source.hint(),
            Self::NoRevocation(_) => Some(
                "replace it with `renewd renew --force`; whoever has the old key can use it until \
                 the certificate ends"
                    .to_owned(),
            ),
            Self::OriginUnknown { ca, .. } => Some(format!(
                "put [ca.{ca}] with that directory back until it is revoked, or have the CA revoke it \
                 by its own means; with the table there it is asked within five minutes"
            )),
            Self::OrderOfTwin { twin, .. } => Some(format!(
                "`renewd show {twin}` says what keeps that one; this one is ordered after it"
            )),
            Self::NoChallenge { .. } => Some(
                "configure a solver of a kind that the CA offers for this name, or another CA"
                    .into(),
            ),
            Self::Storage(_) => {
                Some("make the state directory writable and see that the disk has room".into())
            }
            Self::KeyUnreadable(source) => source.hint(),
            Self::KeyElsewhere => Some("have the account's key sign it: leave out `--key`".into()),
            Self::RequestCompromised => Some(
                "make another key where it is kept, and put its request in the place of csr_file; \
                 a certificate for it is ordered at once"
                    .into(),
            ),
            Self::NoCa | Self::UnknownCa(_) | Self::UnknownSolver(_) | Self::NoSolver(_) => {
                Some("run `renewd check`".into())
            }
            Self::TwinAtWork { .. } | Self::Key(_) | Self::Csr(_) | Self::Chain(_) => None,
        }
    }
}
