//! What other modules need of the store, as traits that [`crate::store`] fulfils: so that neither
//! knows the other, and a shared engine can stand behind them later.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    CaName, CertificateName, Event, Identifier, KeyType, PrivateKey, SolverName, Timestamp, Token,
};

/// The store could not do what was asked; nothing is known to have changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {place}")]
pub struct StorageError {
    /// What was to be done, as a verb with its object: `write`, `read the account in`.
    pub action: &'static str,
    /// The file, or what else it is kept in.
    pub place: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// An account as it is kept (`account.json`); its key stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// The directory URL that the account belongs to.
    pub directory: String,
    /// The account URL (RFC 8555 §7.3), once the CA has told it.
    #[serde(default)]
    pub url: Option<String>,
    /// The contacts that the CA was last told.
    #[serde(default)]
    pub contact: Vec<String>,
    /// When it was registered.
    #[serde(default)]
    pub registered_at: Option<Timestamp>,
}

/// Keeps account keys. A key is on disk before the CA hears of it.
#[async_trait]
pub trait KeyVault: Send + Sync {
    /// The account and its key at `ca`, if there is one.
    async fn load_account(
        &self,
        ca: &CaName,
    ) -> Result<Option<(AccountRecord, PrivateKey)>, StorageError>;

    /// Keeps `record` and, if given, `key`; both are on disk on return, the key first.
    async fn save_account(
        &self,
        ca: &CaName,
        record: &AccountRecord,
        key: Option<&PrivateKey>,
    ) -> Result<(), StorageError>;

    /// Moves the account out of the way, keeping it: its directory changed or the CA forgot it.
    async fn set_account_aside(&self, ca: &CaName) -> Result<(), StorageError>;
}

/// An order on its way (`order.json`): written before the step that can't be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The CA it was placed at.
    pub ca: CaName,
    /// The directory URL of that CA at that time.
    pub directory: String,
    /// The order URL; `None` until the CA has told it.
    #[serde(default)]
    pub order_url: Option<String>,
    /// What it is for.
    pub identifiers: Vec<Identifier>,
    /// The profile asked for.
    #[serde(default)]
    pub profile: Option<String>,
    /// The kind of the pending key.
    pub key_type: KeyType,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Proofs made visible and not yet taken away.
    #[serde(default)]
    pub presented: Vec<PresentedRecord>,
}

/// A proof that was made visible, to be taken away by whoever comes after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentedRecord {
    /// Who made it visible.
    pub solver: SolverName,
    /// What it proves.
    pub identifier: Identifier,
    /// Its name.
    pub token: Token,
}

/// Keeps orders that are on their way, with the keys they are for.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The order of `certificate` and its pending key, if one is on its way.
    async fn load_order(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<(OrderRecord, PrivateKey)>, StorageError>;

    /// Keeps `key` as the pending key: the first step of an order.
    async fn save_pending_key(
        &self,
        certificate: &CertificateName,
        key: &PrivateKey,
    ) -> Result<(), StorageError>;

    /// Keeps `record`; it is on disk on return.
    async fn save_order(
        &self,
        certificate: &CertificateName,
        record: &OrderRecord,
    ) -> Result<(), StorageError>;

    /// Forgets the order and its pending key: the certificate is stored, or the order is dead.
    async fn close_order(&self, certificate: &CertificateName) -> Result<(), StorageError>;
}

/// Keeps alerts until they are delivered: one document, whose form is its user's.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The document, if there is one.
    async fn load_alerts(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces the document; it is on disk on return.
    async fn save_alerts(&self, document: &[u8]) -> Result<(), StorageError>;
}

/// Hears of everything that happens, and causes nothing.
pub trait Observer: Send + Sync {
    /// Takes note of `event`; must not block.
    fn observe(&self, event: &Event);
}
