//! What is remembered of one CA from the tries to get one certificate there; so that what one CA
//! said, or failed at, binds nobody who asks another.
//!
//! Not here: which CA is asked ([`crate::plan::authority`]).

use serde::{Deserialize, Serialize};

use super::{Attempts, CaName, Fingerprint, Timestamp};

/// Whom a failed try for a certificate says something about: whether another CA may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Our own machine: the disk, a key, a target. Every CA would find the same.
    Ours,
    /// Our own way to show proofs: a solver, DNS. Every CA that wants proofs would find the same.
    Solver,
    /// What the CA found, or did not, when it looked for our proofs. Another looks from elsewhere,
    /// and will most likely find the same.
    Proof,
    /// This CA does not want to, until a human changes something: our account there, its CAA
    /// records, its rules. Another has rules of its own.
    Refusal,
    /// This CA can't now: it is down, too busy, or does not keep to the protocol. Also what a later
    /// version calls otherwise.
    #[serde(other)]
    Outage,
}

impl Fault {
    /// Whether it lies on our side, so that it says nothing of the CA.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Solver)
    }
}

/// How the tries at one CA went, for one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaState {
    /// The directory URL of the CA then; empty if that is not known.
    #[serde(default)]
    pub directory: String,
    /// The failures since there was last a new certificate, whoever it came from.
    #[serde(default)]
    pub attempts: Attempts,
    /// What the last failure says.
    #[serde(default)]
    pub fault: Option<Fault>,
}

impl CaState {
    /// Forgets the failures, and keeps until when the CA does not want to be asked.
    pub fn begin_anew(&mut self) {
        let Attempts { last, not_before, .. } = std::mem::take(&mut self.attempts);
        self.attempts = Attempts { last, not_before, ..Attempts::default() };
        self.fault = None;
    }
}

/// That a certificate came from another CA than the first on its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandIn {
    /// Which certificate.
    pub certificate: Fingerprint,
    /// Where it came from.
    pub ca: CaName,
    /// The CA that is first on the list.
    pub stands_in_for: CaName,
    /// Why that one was passed by, in words.
    pub reason: String,
    /// When it came.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_a_later_version_writes_is_one_of_the_cas() {
        let known: Fault = serde_json::from_str("\"proof\"").unwrap();
        let unknown: Fault = serde_json::from_str("\"eclipse\"").unwrap();
        assert_eq!((known, unknown), (Fault::Proof, Fault::Outage));
    }
}
