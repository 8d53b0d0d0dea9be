//! The account at one CA: made once, kept, found again.
//!
//! # Rules
//!
//! - The account key is on disk before the CA hears of it; after a crash the same key is sent again.
//! - Whatever runs side by side, the account is found or made once.
//! - Nothing is asked of the CA before its terms are agreed to and a binding it requires is there.
//! - An account belongs to one directory: with another one it is set aside, not used.
//! - An account that the CA does not know any more is looked for by its key once, made anew once,
//!   and then given up: a CA allows few new accounts.
//!
//! Not here: the requests themselves ([`super::ext::account`]), and where it is kept
//! ([`crate::store`], behind [`KeyVault`]).

use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::{AcmeError, Step};
use super::ext::account::{Registration, new_account, update_contact};
use super::ext::jws::AccountKey;
use super::object::Directory;
use super::problem::ProblemKind;
use super::settings::CaSettings;
use super::wire::{Wire, WireError};
use crate::model::{
    AccountRecord, KeyType, KeyVault, PrivateKey, StorageError, Timestamp, chain_text,
};

/// Keeps the account at one CA.
pub(super) struct Accounts {
    settings: CaSettings,
    vault: Arc<dyn KeyVault>,
    wire: Arc<Wire>,
    // Held while the account is found or made, on purpose: all that start together need one.
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    current: Option<Arc<Account>>,
    was_lost: bool,
}

/// An account that can sign.
pub(super) struct Account {
    pub(super) url: String,
    pub(super) key: Arc<AccountKey>,
}

impl Accounts {
    /// The account at the CA of `settings`. Asks nothing yet.
    pub(super) fn new(settings: CaSettings, vault: Arc<dyn KeyVault>, wire: Arc<Wire>) -> Self {
        Self { settings, vault, wire, slot: Mutex::default() }
    }

    pub(super) const fn settings(&self) -> &CaSettings {
        &self.settings
    }

    /// The account; found or made if this process has not yet.
    pub(super) async fn account(&self) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.slot.lock().await;
        if let Some(account) = &slot.current {
            return Ok(Arc::clone(account));
        }
        let account = Arc::new(self.load_or_register().await?);
        slot.current = Some(Arc::clone(&account));
        Ok(account)
    }

    async fn load_or_register(&self) -> Result<Account, AcmeError> {
        let stored = self.vault.load_account(&self.settings.name).await;
        match stored.map_err(|source| self.storage(source))? {
            Some((record, key)) if record.directory == self.settings.directory => {
                let key = self.account_key(&key)?;
                match record.url.clone() {
                    Some(url) => {
                        let account = Account { url, key };
                        self.tell_contact(&account, record).await;
                        Ok(account)
                    }
                    None => self.register(key).await,
                }
            }
            Some((record, _)) => {
                tracing::warn!(
                    ca = %self.settings.name,
                    directory = record.directory,
                    "the account belongs to another directory and is set aside"
                );
                self.register_anew().await
            }
            None => {
                let key = self.make_key().await?;
                self.register(key).await
            }
        }
    }

    /// Finds out what became of `lost`, which the CA says it does not know.
    pub(super) async fn recover(&self, lost: &Arc<Account>) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.slot.lock().await;
        if let Some(current) = &slot.current
            && !Arc::ptr_eq(current, lost)
        {
            return Ok(Arc::clone(current));
        }
        if slot.was_lost {
            return Err(self.lost());
        }
        slot.was_lost = true;
        let found =
            new_account(&self.wire, &lost.key, &self.settings, Registration::FindOnly).await;
        let found = found.map_err(|fault| self.error(fault));
        let account = match found {
            Ok(url) => self.keep(url, Arc::clone(&lost.key)).await?,
            Err(error) if error.refusal() == Some(&ProblemKind::AccountDoesNotExist) => {
                tracing::warn!(
                    ca = %self.settings.name,
                    account = lost.url,
                    "the CA forgot the account; a new one is made"
                );
                self.register_anew().await?
            }
            Err(error) => return Err(error),
        };
        let account = Arc::new(account);
        slot.current = Some(Arc::clone(&account));
        Ok(account)
    }

    async fn register_anew(&self) -> Result<Account, AcmeError> {
        // Nothing is set aside that could not be replaced.
        self.check_may_register().await?;
        let set_aside = self.vault.set_account_aside(&self.settings.name).await;
        set_aside.map_err(|source| self.storage(source))?;
        let key = self.make_key().await?;
        self.register(key).await
    }

    async fn register(&self, key: Arc<AccountKey>) -> Result<Account, AcmeError> {
        self.check_may_register().await?;
        let made = new_account(&self.wire, &key, &self.settings, Registration::FindOrMake).await;
        let url = made.map_err(|fault| self.error(fault))?;
        tracing::info!(ca = %self.settings.name, account = url, "the account is registered");
        self.keep(url, key).await
    }

    async fn keep(&self, url: String, key: Arc<AccountKey>) -> Result<Account, AcmeError> {
        let record = AccountRecord {
            directory: self.settings.directory.clone(),
            url: Some(url.clone()),
            contact: self.settings.contact.clone(),
            registered_at: Some(self.now()),
        };
        let kept = self.vault.save_account(&self.settings.name, &record, None).await;
        kept.map_err(|source| self.storage(source))?;
        Ok(Account { url, key })
    }

    /// A new account key, which is on disk on return.
    async fn make_key(&self) -> Result<Arc<AccountKey>, AcmeError> {
        self.check_may_register().await?;
        let key = PrivateKey::generate(KeyType::P256).map_err(|source| {
            AcmeError::KeyGeneration { ca: self.settings.name.clone(), source }
        })?;
        let record = AccountRecord {
            directory: self.settings.directory.clone(),
            url: None,
            contact: self.settings.contact.clone(),
            registered_at: None,
        };
        let kept = self.vault.save_account(&self.settings.name, &record, Some(&key)).await;
        kept.map_err(|source| self.storage(source))?;
        self.account_key(&key)
    }

    /// Tells the CA contacts that changed since it was last told. No order waits for that to work.
    async fn tell_contact(&self, account: &Account, record: AccountRecord) {
        if record.contact == self.settings.contact {
            return;
        }
        let contact = &self.settings.contact;
        let told = update_contact(&self.wire, &account.key, &account.url, contact).await;
        let kept = match told.map_err(|fault| self.error(fault)) {
            Ok(()) => {
                let record = AccountRecord { contact: contact.clone(), ..record };
                let kept = self.vault.save_account(&self.settings.name, &record, None).await;
                kept.map_err(|source| self.storage(source))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let error = chain_text(&error);
            tracing::warn!(ca = %self.settings.name, error, "the CA was not told the new contact");
        }
    }

    async fn check_may_register(&self) -> Result<(), AcmeError> {
        let ca = &self.settings.name;
        let directory = self.directory().await;
        if !self.settings.terms_of_service_agreed {
            let terms = directory.ok().and_then(|it| it.meta.terms_of_service.clone());
            return Err(AcmeError::TermsNotAgreed { ca: ca.clone(), terms });
        }
        let required = directory?.meta.external_account_required;
        if required && self.settings.external_account_binding.is_none() {
            return Err(AcmeError::BindingRequired { ca: ca.clone() });
        }
        Ok(())
    }

    /// The CA's directory.
    pub(super) async fn directory(&self) -> Result<Arc<Directory>, AcmeError> {
        self.wire.directory().await.map_err(|fault| self.error(fault))
    }

    fn account_key(&self, key: &PrivateKey) -> Result<Arc<AccountKey>, AcmeError> {
        let key = AccountKey::new(key);
        key.map(Arc::new)
            .map_err(|source| AcmeError::AccountKey { ca: self.settings.name.clone(), source })
    }

    fn now(&self) -> Timestamp {
        self.wire.clock().now()
    }

    fn error(&self, fault: WireError) -> AcmeError {
        AcmeError::new(
            &self.settings.name,
            Step::Account,
            &self.settings.directory,
            fault,
            self.now(),
        )
    }

    fn storage(&self, source: StorageError) -> AcmeError {
        AcmeError::Storage { ca: self.settings.name.clone(), source }
    }

    /// The CA goes on denying the account.
    pub(super) fn lost(&self) -> AcmeError {
        AcmeError::AccountLost { ca: self.settings.name.clone() }
    }
}
