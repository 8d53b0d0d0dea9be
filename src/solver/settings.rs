//! What the configuration says of one solver.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::model::{ChallengeType, Identifier, SolverName};

use super::{Dns01Settings, DnsPersist01Settings};

/// One solver, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolverSettings {
    /// Its name in the configuration.
    pub name: SolverName,
    /// How it shows proofs.
    pub method: SolverMethod,
    /// The identifiers that it is for: `*.example.net` stands for every name below it. Empty: for
    /// those that name it, and for all others if it is the default.
    pub identifiers: Vec<Identifier>,
}

/// How a solver shows proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SolverMethod {
    /// http-01 by files below `<directory>/.well-known/acme-challenge/` (RFC 8555 §8.3), or
    /// straight in `directory` if `flat`.
    Webroot {
        /// The folder.
        directory: PathBuf,
        /// Whether `directory` itself is what servers show as `/.well-known/acme-challenge/`.
        flat: bool,
    },
    /// http-01 by a listener of our own, which is open only while there is something to prove.
    Listener {
        /// Where it listens; all of them at once.
        addresses: Vec<SocketAddr>,
    },
    /// tls-alpn-01 (RFC 8737) by a listener of our own, which is open only while there is something
    /// to prove.
    TlsAlpn01 {
        /// Where it listens; all of them at once.
        addresses: Vec<SocketAddr>,
    },
    /// dns-01 by TXT records (RFC 8555 §8.4).
    Dns01(Dns01Settings),
    /// The same at a name of the account's own (draft-ietf-acme-dns-account-label).
    DnsAccount01(Dns01Settings),
    /// By TXT records that people set once (draft-ietf-acme-dns-persist).
    DnsPersist01(DnsPersist01Settings),
}

impl SolverMethod {
    /// The kind of challenge that it meets.
    #[must_use]
    pub const fn challenge_type(&self) -> ChallengeType {
        match self {
            Self::Webroot { .. } | Self::Listener { .. } => ChallengeType::Http01,
            Self::TlsAlpn01 { .. } => ChallengeType::TlsAlpn01,
            Self::Dns01(_) => ChallengeType::Dns01,
            Self::DnsAccount01(_) => ChallengeType::DnsAccount01,
            Self::DnsPersist01(_) => ChallengeType::DnsPersist01,
        }
    }
}
