//! newAccount with a key that is ours already (RFC 8555 §7.3), and the account's contacts.
//!
//! The same key may be sent again after a crash: the CA answers with the account it has.
//!
//! Not here: where key and account are kept, and when to ask ([`crate::acme::client`]).

use http::header;
use serde_json::{Map, Value, json};

use super::jws::{self, AccountKey, Envelope};
use crate::acme::settings::CaSettings;
use crate::acme::wire::{Wire, WireError};

/// Which account is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::acme) enum Registration {
    /// The one of this key; it is made if there is none.
    FindOrMake,
    /// The one of this key, if there is one (RFC 8555 §7.3.1).
    FindOnly,
}

/// Asks the CA for the account of `key`; returns the account URL.
///
/// # Errors
///
/// Whatever the exchange met; [`WireError::Malformed`] if the CA names no account URL.
pub(in crate::acme) async fn new_account(
    wire: &Wire,
    key: &AccountKey,
    settings: &CaSettings,
    registration: Registration,
) -> Result<String, WireError> {
    let url = wire.directory().await?.new_account.clone();
    let payload = match registration {
        Registration::FindOnly => json!({ "onlyReturnExisting": true }),
        Registration::FindOrMake => {
            let mut payload = Map::new();
            payload.insert("termsOfServiceAgreed".into(), true.into());
            if !settings.contact.is_empty() {
                payload.insert("contact".into(), json!(settings.contact));
            }
            if let Some(binding) = &settings.external_account_binding {
                let binding = jws::external_account_binding(binding, key, &url)?;
                payload.insert("externalAccountBinding".into(), binding);
            }
            Value::Object(payload)
        }
    };
    let envelope = Envelope::new(key, None, &url, &payload);
    let answer = wire.post(&url, &envelope, key).await?;
    let location = answer.headers.get(header::LOCATION).and_then(|it| it.to_str().ok());
    location.map(str::to_owned).ok_or_else(|| answer.malformed("names no account URL"))
}

/// Tells the CA the contacts of `account` (RFC 8555 §7.3.2).
///
/// # Errors
///
/// Whatever the exchange met.
pub(in crate::acme) async fn update_contact(
    wire: &Wire,
    key: &AccountKey,
    account: &str,
    contact: &[String],
) -> Result<(), WireError> {
    let payload: Value = json!({ "contact": contact });
    let envelope = Envelope::new(key, Some(account), account, &payload);
    wire.post(account, &envelope, key).await.map(drop)
}
