//! newAccount with a key that is ours already (RFC 8555 §7.3), and what is done to an account.
//!
//! The same key may be sent again after a crash: the CA answers with the account it has.
//!
//! Not here: where key and account are kept, and when to ask ([`crate::acme::client`]).

use http::header;
use serde::Deserialize;
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

/// What the CA says of an account (RFC 8555 §7.1.2).
#[derive(Clone, Debug, Deserialize)]
pub(in crate::acme) struct AccountObject {
    /// valid, deactivated or revoked; or a word of tomorrow.
    pub(in crate::acme) status: String,
    #[serde(default)]
    pub(in crate::acme) contact: Vec<String>,
}

/// Asks the CA how `account` stands.
///
/// # Errors
///
/// Whatever the exchange met.
pub(in crate::acme) async fn fetch_account(
    wire: &Wire,
    key: &AccountKey,
    account: &str,
) -> Result<AccountObject, WireError> {
    let envelope = Envelope::post_as_get(account, account);
    wire.post(account, &envelope, key).await?.read("is not an ACME account")
}

/// Ends `account` for good (RFC 8555 §7.3.6).
///
/// # Errors
///
/// Whatever the exchange met.
pub(in crate::acme) async fn deactivate(
    wire: &Wire,
    key: &AccountKey,
    account: &str,
) -> Result<(), WireError> {
    let envelope = Envelope::new(key, Some(account), account, &json!({ "status": "deactivated" }));
    wire.post(account, &envelope, key).await.map(drop)
}

/// Gives `account` the key `next` in place of `key` (RFC 8555 §7.3.5) at the resource `url`.
///
/// # Errors
///
/// Whatever the exchange met. Without an answer, the CA may have done it.
pub(in crate::acme) async fn change_key(
    wire: &Wire,
    url: &str,
    account: &str,
    key: &AccountKey,
    next: &AccountKey,
) -> Result<(), WireError> {
    let change = json!({ "account": account, "oldKey": key.jwk() });
    let inner = Envelope::new(next, None, url, &change).sealed_within(next)?;
    let envelope = Envelope::new(key, Some(account), url, &inner);
    wire.post(url, &envelope, key).await.map(drop)
}
