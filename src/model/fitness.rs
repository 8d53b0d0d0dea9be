//! Whether a stand-in would issue if it were asked: what is kept of the last look.
//!
//! Not here: looking ([`crate::issue`]), and when ([`crate::plan::fitness`]).

use serde::{Deserialize, Serialize};

use super::{CaName, Failure, Timestamp};

/// What is known of the fitness of one stand-in for one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitness {
    /// When it was looked at.
    pub checked_at: Timestamp,
    /// When it is looked at next.
    pub next_check_at: Timestamp,
    /// A digest of what was wanted then: another wish is looked at anew.
    #[serde(default)]
    pub spec: String,
    /// Since when it would not issue, if it would not.
    #[serde(default)]
    pub unfit_since: Option<Timestamp>,
    /// Why not.
    #[serde(default)]
    pub fault: Option<Failure>,
}

/// The fitness of one stand-in, as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandInStatus {
    /// Which CA.
    pub ca: CaName,
    /// Whether it would issue, as far as can be seen.
    pub fit: bool,
    /// When it was looked at.
    pub checked_at: Timestamp,
    /// Since when it would not.
    pub since: Option<Timestamp>,
    /// Why not.
    pub last_error: Option<String>,
    /// A stable word for it.
    pub error_code: Option<String>,
    /// What a human can do.
    pub hint: Option<String>,
}

impl StandInStatus {
    /// What is known of `ca`.
    #[must_use]
    pub fn of(ca: &CaName, known: &Fitness) -> Self {
        let fault = known.fault.as_ref();
        Self {
            ca: ca.clone(),
            fit: fault.is_none(),
            checked_at: known.checked_at,
            since: known.unfit_since,
            last_error: fault.map(|it| it.message.clone()),
            error_code: fault.map(|it| it.code.clone()),
            hint: fault.and_then(|it| it.hint.clone()),
        }
    }
}
