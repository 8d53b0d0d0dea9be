//! What one call for one certificate came to, as the control socket carries it and commands print
//! it: the same for a daemon's work and a command's own.

use serde::{Deserialize, Serialize};

use crate::lifecycle::Outcome;
use crate::model::{CertificateName, CertificateStatus, Explain, Failure, StorageError, Timestamp};

/// What came of the work on one certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkReport {
    /// Which one.
    pub name: CertificateName,
    /// Whether a new certificate was stored.
    pub renewed: bool,
    /// What failed; empty if all that was due was done.
    pub failures: Vec<Failure>,
    /// How it stands afterwards; `None` where the store can't be used.
    pub status: Option<CertificateStatus>,
}

/// What came of a revocation that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevokeReport {
    /// What came of the work on the certificate.
    pub report: WorkReport,
    /// Whether the revocation waits: for another certificate to be served, or for the CA.
    pub pending: bool,
}

/// Reports `result` of the work on `name`.
#[must_use]
pub fn report(
    name: &CertificateName,
    result: Result<Outcome, StorageError>,
    now: Timestamp,
) -> WorkReport {
    match result {
        Ok(outcome) => WorkReport {
            name: name.clone(),
            renewed: outcome.renewed,
            failures: outcome.failures,
            status: Some(outcome.status),
        },
        Err(error) => WorkReport {
            name: name.clone(),
            renewed: false,
            failures: vec![error.failure(now)],
            status: None,
        },
    }
}
