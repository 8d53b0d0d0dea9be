//! Revocation (RFC 8555 §7.6), by the account's key or the certificate's own.
//!
//! Not here: what follows from it ([`crate::lifecycle`]).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use super::jws::{AccountKey, Envelope};
use crate::acme::wire::{Wire, WireError};
use crate::model::RevocationReason;

/// Asks the CA at `url` to revoke `certificate` (DER) for `reason`, signed with `key`, which is
/// that of the account `kid` or else the certificate's.
///
/// # Errors
///
/// Whatever the exchange met.
pub(in crate::acme) async fn revoke(
    wire: &Wire,
    url: &str,
    key: &AccountKey,
    kid: Option<&str>,
    certificate: &[u8],
    reason: RevocationReason,
) -> Result<(), WireError> {
    let certificate = BASE64_URL_SAFE_NO_PAD.encode(certificate);
    let payload = match reason {
        // RFC 5280 §5.3.1: it is left out rather than said.
        RevocationReason::Unspecified => json!({ "certificate": certificate }),
        reason => json!({ "certificate": certificate, "reason": reason.code() }),
    };
    let envelope = Envelope::new(key, kid, url, &payload);
    wire.post(url, &envelope, key).await.map(drop)
}
