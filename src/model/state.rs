//! What is remembered of a certificate and of each of its targets, between runs.
//!
//! Unknown fields are passed over and missing ones have defaults, so that version N-1 reads what
//! version N wrote.

use serde::{Deserialize, Serialize};

use super::{
    Attempts, CaName, Fingerprint, Identifier, Revocation, RevocationCheck, Suggestion, Timestamp,
};

/// `private/certificates/<name>/state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// How the renewal goes.
    #[serde(default)]
    pub attempts: Attempts,
    /// A digest of what was wanted when `attempts` failed: a changed configuration starts afresh.
    #[serde(default)]
    pub attempted_spec: Option<String>,
    /// The CA that was asked in the last of them: what it said binds nobody who asks another.
    #[serde(default)]
    pub attempted_ca: Option<CaName>,
    /// Failures of the CA's side in a row, for what was wanted then: how far its ladder is climbed.
    #[serde(default)]
    pub ca_failures: u32,
    /// Failures of our own side in a row, likewise.
    #[serde(default)]
    pub local_failures: u32,
    /// What the CA advised for the certificate that is held, or was.
    #[serde(default)]
    pub suggestion: Option<Suggestion>,
    /// The certificate that is revoked, if it is the held one or was.
    #[serde(default)]
    pub revocation: Option<Revocation>,
    /// When the CA's list was last looked at.
    #[serde(default)]
    pub revocation_check: Option<RevocationCheck>,
}

impl CertificateState {
    /// Notes that `ca` is asked for what has the digest `spec`. If something else was wanted
    /// before, both ladders begin anew; what another CA said is forgotten.
    pub fn begin(&mut self, spec: Option<&str>, ca: Option<&CaName>) {
        if self.attempted_spec.as_deref() != spec {
            self.attempted_spec = spec.map(str::to_owned);
            (self.ca_failures, self.local_failures) = (0, 0);
        }
        if self.attempted_ca.as_ref() != ca {
            self.attempted_ca = ca.cloned();
            self.attempts.not_before = None;
        }
    }

    /// Notes a success: nothing is left of the failures before it.
    pub fn succeed(&mut self) {
        self.attempts.succeed();
        (self.ca_failures, self.local_failures) = (0, 0);
    }
}

/// `private/targets/<target>/<name>.json`: how far one certificate has come at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// How the deployment goes.
    #[serde(default)]
    pub attempts: Attempts,
    /// The certificate that `attempts` were for: a new one starts afresh.
    #[serde(default)]
    pub attempted: Option<Fingerprint>,
    /// The certificate whose files are in place.
    #[serde(default)]
    pub installed: Option<Fingerprint>,
    /// The certificate that the server was last told to load.
    #[serde(default)]
    pub reloaded: Option<Fingerprint>,
    /// The certificate that every endpoint was last seen to serve.
    #[serde(default)]
    pub served: Option<Fingerprint>,
    /// When the endpoints were last asked.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// What each endpoint answered.
    #[serde(default)]
    pub endpoints: Vec<EndpointState>,
}

/// What one endpoint answered for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Where it listens.
    pub address: String,
    /// The name it was asked for.
    pub name: Identifier,
    /// What came of it.
    pub state: EndpointCondition,
    /// The serial number that it served.
    #[serde(default)]
    pub served_serial: Option<String>,
    /// The identity of what it served.
    #[serde(default)]
    pub served_sha256: Option<Fingerprint>,
    /// When it was asked.
    pub checked_at: Timestamp,
    /// Whether it has ever served a certificate of ours for this name.
    #[serde(default)]
    pub ever_served: bool,
    /// Why it could not be asked, or why what it serves is wrong.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// How an endpoint, or a target as a whole, stands; the words of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCondition {
    /// Nothing done yet for the certificate we hold.
    #[default]
    Waiting,
    /// Files in place and server told; nobody is to be asked.
    Installed,
    /// Seen to serve the certificate we hold.
    Served,
    /// Does not serve it, or could not be made to.
    Failed,
    /// Never seen serving this name.
    Unproven,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_wish_begins_the_ladders_anew_and_another_ca_is_bound_by_nothing() {
        let until = Some(Timestamp::from_unix_seconds(5000));
        let (one, other): (CaName, CaName) = ("one".parse().unwrap(), "other".parse().unwrap());
        let mut state = CertificateState::default();
        state.begin(Some("a"), Some(&one));
        (state.ca_failures, state.local_failures) = (3, 2);
        (state.attempts.failures, state.attempts.not_before) = (5, until);

        state.begin(Some("a"), Some(&one));
        assert_eq!((state.ca_failures, state.local_failures), (3, 2));
        state.begin(Some("b"), Some(&one));
        assert_eq!((state.ca_failures, state.local_failures, state.attempts.failures), (0, 0, 5));
        assert_eq!(state.attempts.not_before, until, "the same CA's word holds for any wish");
        state.begin(Some("b"), Some(&other));
        assert_eq!(state.attempts.not_before, None);
    }
}
