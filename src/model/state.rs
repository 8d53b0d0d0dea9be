//! What is remembered of a certificate and of each of its targets, between runs.
//!
//! Unknown fields are passed over and missing ones have defaults, so that version N-1 reads what
//! version N wrote.

use serde::{Deserialize, Serialize};

use super::{Attempts, Fingerprint, Identifier, Timestamp};

/// `private/certificates/<name>/state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateState {
    /// How the renewal goes.
    #[serde(default)]
    pub attempts: Attempts,
    /// A digest of what was wanted when `attempts` failed: a changed configuration starts afresh.
    #[serde(default)]
    pub attempted_spec: Option<String>,
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
