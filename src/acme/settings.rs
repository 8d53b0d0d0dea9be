//! What the configuration says of one CA.

use std::path::PathBuf;

use crate::model::{CaName, Limits, Secret};

/// One CA that speaks ACME, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSettings {
    /// Its name in the configuration.
    pub name: CaName,
    /// Its directory URL (RFC 8555 §7.1.1).
    pub directory: String,
    /// A PEM file with the only roots that its own HTTPS is trusted by; the system's if `None`.
    pub trust: Option<PathBuf>,
    /// Whether it is one for tests: its certificates never replace those of one that isn't.
    pub test: bool,
    /// Contact URLs for its account (RFC 8555 §7.3), such as `mailto:ops@example.com`.
    pub contact: Vec<String>,
    /// Whether the operator agreed to its terms of service (RFC 8555 §7.3).
    pub terms_of_service_agreed: bool,
    /// External account binding (RFC 8555 §7.3.4).
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// How much it allows, as far as that is known; asked about by others, not by its client.
    pub limits: Limits,
}

/// Ties an ACME account to one that the operator already has at the CA (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccountBinding {
    /// The key identifier that the CA gave.
    pub key_id: String,
    /// The HMAC key that the CA gave, base64url as it gave it.
    pub hmac_key: Secret,
}
