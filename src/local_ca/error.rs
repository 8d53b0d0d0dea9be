//! Why the built-in CA can't certify, in the words of operators.

use std::collections::BTreeSet;

use super::hierarchy::AuthorityError;
use super::sign::SignError;
use super::subtree::Subtree;
use crate::model::{
    AuthorityLabel, CaName, Explain, Identifier, KeyError, Retry, StorageError, Timestamp,
};

/// The built-in CA can't certify. What is issued already stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// The configuration does not permit it.
    #[error("the CA {ca} may not certify {identifier}: permitted is {}", list(permitted))]
    NotPermitted {
        /// Which CA.
        ca: CaName,
        /// What it was asked for.
        identifier: Identifier,
        /// What it may certify.
        permitted: BTreeSet<Subtree>,
    },
    /// The configuration permits it, the root was made for less; clients would refuse the leaf.
    #[error(
        "the root {label} of the CA {ca} was made to certify {} alone, and not {identifier}",
        list(permitted)
    )]
    NotPermittedByRoot {
        /// Which CA.
        ca: CaName,
        /// Which root.
        label: AuthorityLabel,
        /// What was asked for.
        identifier: Identifier,
        /// What the root was made for.
        permitted: BTreeSet<Subtree>,
        /// Where the CA is kept.
        place: String,
    },
    /// Every root begins in the future: the clock is behind, and a new root would be one too many.
    #[error("the root of the CA {ca} is valid only from {not_before}, and now is {now}")]
    ClockBehind {
        /// Which CA.
        ca: CaName,
        /// The first moment of the root.
        not_before: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// Every root is past its end, so nobody's trust store has a good one.
    #[error("the root of the CA {ca} expired at {not_after}, and now is {now}")]
    RootExpired {
        /// Which CA.
        ca: CaName,
        /// The last moment of the last root.
        not_after: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// A root's certificate is gone or broken.
    #[error("the certificate of {label} of the CA {ca} in {place} can't be used")]
    RootLost {
        /// Which CA.
        ca: CaName,
        /// Which root.
        label: AuthorityLabel,
        /// Where the CA is kept.
        place: String,
        /// What is wrong with it.
        #[source]
        source: AuthorityError,
    },
    /// A root's key is gone or broken, and an intermediate has to be signed.
    #[error("the key of {label} of the CA {ca} in {place} is lost")]
    RootKeyLost {
        /// Which CA.
        ca: CaName,
        /// Which root.
        label: AuthorityLabel,
        /// Where the CA is kept.
        place: String,
        /// What is wrong with it.
        #[source]
        source: LostKeyError,
    },
    /// There is no root, and it was only to be looked for.
    #[error("the CA {0} has no root yet")]
    NoRoot(CaName),
    /// What was made was gone again, more than once: somebody else's hand is in its folder.
    #[error("the CA {ca} in {place} changes while it is being used")]
    Unsettled {
        /// Which CA.
        ca: CaName,
        /// Where the CA is kept.
        place: String,
    },
    /// A key could not be made.
    #[error("the CA {0} could not make a key")]
    Key(CaName, #[source] KeyError),
    /// A certificate could not be signed.
    #[error("the CA {0} could not sign")]
    Sign(CaName, #[source] SignError),
    /// What it signs with can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A key that has to sign can't.
#[derive(Debug, thiserror::Error)]
pub enum LostKeyError {
    /// There is none.
    #[error("it is not there")]
    Missing,
    /// It can't be read.
    #[error("it can't be read")]
    Broken(#[source] KeyError),
    /// It is the key of another certificate.
    #[error("it does not belong to the certificate beside it")]
    Foreign,
}

fn list(permitted: &BTreeSet<Subtree>) -> String {
    permitted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Explain for LocalCaError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } | Self::NotPermittedByRoot { .. } => "local_ca.not_permitted",
            Self::ClockBehind { .. } => "local_ca.clock",
            Self::RootExpired { .. } => "local_ca.root_expired",
            Self::RootLost { .. } | Self::RootKeyLost { .. } => "local_ca.root_lost",
            Self::NoRoot(_) => "local_ca.no_root",
            Self::Unsettled { .. } => "local_ca.unsettled",
            Self::Key(..) | Self::Sign(..) => "local_ca.unsigned",
            Self::Storage(_) => "store.failed",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NotPermitted { .. }
            | Self::NotPermittedByRoot { .. }
            | Self::RootExpired { .. }
            | Self::RootLost { .. }
            | Self::RootKeyLost { .. } => Retry::AfterChange,
            Self::ClockBehind { .. }
            | Self::NoRoot(_)
            | Self::Unsettled { .. }
            | Self::Key(..)
            | Self::Sign(..)
            | Self::Storage(_) => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotPermitted { ca, .. } => format!(
                "take it off the certificate, or name another CA; a wider `permitted` in \
                 [ca.{ca}] needs a new root"
            ),
            Self::NotPermittedByRoot { place, .. } => format!(
                "take it off the certificate; or, for a new root, move {place} elsewhere, run \
                 `renewd ca init`, and put the new root into every trust store"
            ),
            Self::ClockBehind { .. } => "set this machine's clock: `timedatectl`".into(),
            Self::RootExpired { .. } => {
                "if this machine's clock is right, make a new root with `renewd ca init`, and put \
                 it into every trust store"
                    .into()
            }
            Self::RootLost { label, place, .. } => format!(
                "put it back as {place}/{label}/cert.pem, from a backup or from any trust store \
                 that has it; if it is gone for good, move {place} elsewhere, run `renewd ca \
                 init`, and put the new root into every trust store"
            ),
            Self::RootKeyLost { label, place, .. } => format!(
                "put it back as {place}/{label}/key.pem from a backup; if it is gone for good, \
                 move {place} elsewhere, run `renewd ca init`, and put the new root into every \
                 trust store"
            ),
            Self::NoRoot(_) => {
                "make it with `renewd ca init`; the first `renewd renew` makes it too".into()
            }
            Self::Unsettled { place, .. } => {
                format!("see who else writes below {place}; it belongs to renewd alone")
            }
            Self::Key(..) | Self::Sign(..) => return None,
            Self::Storage(_) => {
                "make the state directory writable and see that the disk has room".into()
            }
        })
    }
}
