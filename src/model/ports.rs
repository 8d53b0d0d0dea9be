//! What other modules need of the store, as traits that [`crate::store`] fulfils: so that neither
//! knows the other, and a shared engine can stand behind them later.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    CaName, CertificateName, Event, Fingerprint, Identifier, KeyType, LedgerRecord, OrderKind,
    PastOrder, PrivateKey, Secret, SolverName, StandingWatch, Timestamp, Token, TxtRecord,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Where the terms of service stand that were agreed to, as the CA's directory said then.
    #[serde(default)]
    pub terms: Option<String>,
    /// The key identifier of the external account binding that it was made with.
    #[serde(default)]
    pub eab_key_id: Option<String>,
    /// When the CA last denied it and it was looked for by its key, or made anew.
    #[serde(default)]
    pub recovered_at: Option<Timestamp>,
    /// When it was deactivated for good (RFC 8555 §7.3.6).
    #[serde(default)]
    pub deactivated_at: Option<Timestamp>,
}

/// Which key an account has after a rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettledKey {
    /// The next one: the CA took it.
    Next,
    /// The one it had: the CA never took the next.
    Former,
}

/// Keeps account keys. A key is on disk before the CA hears of it.
#[async_trait]
pub trait KeyVault: Send + Sync {
    /// The account and its key at `ca`, if there is one. Of a key whose description was lost, or
    /// never written, all else is the default: the CA can still be asked by it.
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

    /// Keeps a copy of the account out of the way: another one takes its place.
    async fn copy_account_aside(&self, ca: &CaName) -> Result<(), StorageError>;

    /// The key that an unfinished rollover left beside the account's, if there is one.
    async fn load_next_account_key(&self, ca: &CaName) -> Result<Option<PrivateKey>, StorageError>;

    /// Keeps `key` beside the account's, before the CA hears of it; it is on disk on return.
    async fn save_next_account_key(
        &self,
        ca: &CaName,
        key: &PrivateKey,
    ) -> Result<(), StorageError>;

    /// Ends a rollover: the next key is the account's, or it is forgotten. Without a next key
    /// nothing changes. After a crash at any moment the same call ends it the same way.
    async fn settle_account_key(
        &self,
        ca: &CaName,
        settled: SettledKey,
    ) -> Result<(), StorageError>;
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
    /// The kind of its key.
    pub key_type: KeyType,
    /// The SHA-256 of the certificate request, where that was brought and there is no pending key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<Fingerprint>,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When the CA will forget it, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Since when it is held up by answers that do not say why, or by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_since: Option<Timestamp>,
    /// How the ledger counted it, if it did.
    #[serde(default)]
    pub counted: Option<OrderKind>,
    /// Identifiers that the ledger counts as failed, since nobody knows yet what came of their
    /// proofs.
    #[serde(default)]
    pub unsettled: Vec<Identifier>,
    /// When the first of those was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proofs_spent_at: Option<Timestamp>,
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
    /// Where in DNS it was put, for dns-01: what was found out then holds for taking it away, even
    /// if an alias leads elsewhere by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<TxtRecord>,
}

/// Keeps orders that are on their way, with the keys they are for.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The order of `certificate`, if one is on its way, and its pending key, unless the key is
    /// elsewhere.
    async fn load_order(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<(OrderRecord, Option<PrivateKey>)>, StorageError>;

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

    /// Moves the order of `certificate` and its pending key out of the way, until the CA it was
    /// placed at is asked again: the CA may have filled it by then. Nothing under way is fine. What
    /// was set aside for the same CA before is replaced.
    async fn set_order_aside(&self, certificate: &CertificateName) -> Result<(), StorageError>;

    /// Makes the order of `certificate` that was set aside for `ca` the one on its way again, if
    /// there is one; it is on disk on return. Where one at `ca` is on its way already, what was set
    /// aside is the same, which a kill left there, and is forgotten.
    async fn take_up_order(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<(), StorageError>;

    /// The orders of `certificate` at `ca`: the one on its way, and the one that is set aside.
    async fn orders_at(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<Vec<OrderRecord>, StorageError>;

    /// Forgets every order of `certificate` that was set aside: nobody waits for them any more.
    async fn forget_set_aside(&self, certificate: &CertificateName) -> Result<(), StorageError>;

    /// The proofs that could not be taken away when their order was done with.
    async fn leftovers(&self) -> Result<Vec<PresentedRecord>, StorageError>;

    /// Keeps `leftover` until it is removed; it is on disk on return.
    async fn save_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError>;

    /// Forgets `leftover`: it has been taken away.
    async fn remove_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError>;

    /// What is remembered of the standing records of `certificate`, if it has any.
    async fn load_standing(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<StandingWatch>, StorageError>;

    /// Remembers `watch`, or that there are none; it is on disk on return.
    async fn save_standing(
        &self,
        certificate: &CertificateName,
        watch: Option<&StandingWatch>,
    ) -> Result<(), StorageError>;

    /// Forgets the order and its pending key: the certificate is stored, or the order is dead.
    async fn close_order(&self, certificate: &CertificateName) -> Result<(), StorageError>;
}

/// What a CA certificate of our own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthorityRole {
    /// A trust anchor: signs intermediates alone.
    Root,
    /// Signs leafs.
    Intermediate,
}

/// Names one CA certificate of a CA of our own and the key beside it: `root-0001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityLabel {
    /// What it is for.
    pub role: AuthorityRole,
    /// From 1; the later made has the higher number.
    pub number: u32,
}

impl fmt::Display for AuthorityLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            AuthorityRole::Root => "root",
            AuthorityRole::Intermediate => "intermediate",
        };
        write!(f, "{role}-{:04}", self.number)
    }
}

/// A name is no label of a CA certificate.
#[derive(Debug, thiserror::Error)]
#[error("not a label of a CA certificate, such as root-0001")]
pub struct AuthorityLabelError;

impl FromStr for AuthorityLabel {
    type Err = AuthorityLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (role, number) = text.rsplit_once('-').ok_or(AuthorityLabelError)?;
        let role = match role {
            "root" => AuthorityRole::Root,
            "intermediate" => AuthorityRole::Intermediate,
            _ => return Err(AuthorityLabelError),
        };
        let number = number.parse().map_err(|_not_a_number| AuthorityLabelError)?;
        let label = Self { role, number };
        // root-01 would be a second name of root-0001.
        if label.to_string() == text { Ok(label) } else { Err(AuthorityLabelError) }
    }
}

/// What is kept of one CA certificate of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRecord {
    /// Which one.
    pub label: AuthorityLabel,
    /// Its PEM, not looked at; `None` if there is none (yet).
    pub certificate: Option<Vec<u8>>,
    /// Whether a key is there.
    pub has_key: bool,
}

/// Keeps the certificates and keys of CAs of our own. A key is on disk before what it signs.
#[async_trait]
pub trait AuthorityVault: Send + Sync {
    /// All that is kept for `ca`, roots first, each kind in the order it was made. Reads no key.
    async fn list_authorities(&self, ca: &CaName) -> Result<Vec<AuthorityRecord>, StorageError>;

    /// The key of `label` as PEM, not looked at; `None` if there is none.
    async fn load_authority_key(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<Option<Secret>, StorageError>;

    /// Keeps `key`; it is on disk on return. Fails where there is one: none is written over.
    async fn save_authority_key(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
        key: &PrivateKey,
    ) -> Result<(), StorageError>;

    /// Keeps the certificate `pem`; it is on disk on return. Fails where there is one.
    async fn save_authority_certificate(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
        pem: &str,
    ) -> Result<(), StorageError>;

    /// Moves certificate and key out of the way, keeping them.
    async fn set_authority_aside(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError>;

    /// Removes certificate and key for good.
    async fn remove_authority(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError>;

    /// Where all of `ca` lies, for messages.
    fn authority_place(&self, ca: &CaName) -> String;
}

/// Keeps what was spent of the limits of each CA.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// What was spent at `ca`, if anything is known; nothing is, where it can't be understood.
    async fn load_ledger(&self, ca: &CaName) -> Result<Option<LedgerRecord>, StorageError>;

    /// The orders at `directory` whose certificates are still held: all that is known where there
    /// is no ledger.
    async fn past_orders(&self, directory: &str) -> Result<Vec<PastOrder>, StorageError>;

    /// Whether anything can be kept: not by whoever only reads.
    fn keeps_ledgers(&self) -> bool;

    /// Keeps `record`; it is on disk on return.
    async fn save_ledger(&self, ca: &CaName, record: &LedgerRecord) -> Result<(), StorageError>;
}

/// Keeps alerts until they are delivered: one document, whose form is its user's.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The document, if there is one.
    async fn load_alerts(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces the document; it is on disk on return.
    async fn save_alerts(&self, document: &[u8]) -> Result<(), StorageError>;

    /// Moves the document out of the way, keeping it: `error` says why it can't be understood.
    async fn set_alerts_aside(
        &self,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), StorageError>;
}

/// Hears of everything that happens, and causes nothing.
pub trait Observer: Send + Sync {
    /// Takes note of `event`; must not block.
    fn observe(&self, event: &Event);
}
