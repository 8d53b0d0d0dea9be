//! The account at one CA: made once, kept, found again.
//!
//! # Rules
//!
//! - The account key is on disk before the CA hears of it; after a crash the same key is sent
//!   again.
//! - Whatever runs side by side, the account is found or made once.
//! - Nothing is asked of the CA before its terms are agreed to and a binding it requires is there.
//! - A key whose description was lost is not replaced: the CA is asked for its account.
//! - An account belongs to one directory: with another one it is set aside, not used.
//! - An account that the CA denies is looked for by its key, else made anew; once that has an
//!   answer, not again for three hours, also after a restart: a CA allows few new accounts.
//! - An account that was deactivated is not replaced unasked.
//! - Where a rollover or a replacement did not come to its end, the CA is asked which key it knows:
//!   [`rollover`].
//!
//! Not here: the requests themselves ([`super::ext::account`]), what operators do to an account
//! ([`upkeep`]), and where it is kept ([`crate::store`], behind [`KeyVault`]).

mod rollover;
mod upkeep;

pub use upkeep::{AccountAction, AccountReport};

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};

use super::error::{AcmeError, Step};
use super::ext::account::{Registration, new_account, update_contact};
use super::ext::jws::AccountKey;
use super::object::Directory;
use super::problem::ProblemKind;
use super::settings::CaSettings;
use super::wire::{Wire, WireError};
use crate::model::{
    AccountRecord, KeyType, KeyVault, PrivateKey, StandingAccount, StorageError, Timestamp,
    chain_text,
};
use crate::sys::crash;

/// An account that the CA denied is not looked for or made again for so long.
const RECOVERY_PAUSE: Duration = Duration::from_secs(3 * 60 * 60);

/// Held by an order for as long as it may sign.
pub(super) type InUse = Arc<OwnedRwLockReadGuard<()>>;

/// Keeps the account at one CA.
pub(super) struct Accounts {
    settings: CaSettings,
    vault: Arc<dyn KeyVault>,
    wire: Arc<Wire>,
    // Held while the account is found or made, on purpose: all that start together need one.
    slot: Mutex<Option<Arc<Account>>>,
    // Orders read; who changes the key or ends the account writes.
    in_use: Arc<RwLock<()>>,
    terms: std::sync::Mutex<Terms>,
}

/// What is known of the CA's terms of service.
#[derive(Default)]
struct Terms {
    agreed: Option<String>,
    changed: Option<(String, Timestamp)>,
}

/// An account that can sign.
pub(super) struct Account {
    pub(super) url: String,
    pub(super) key: Arc<AccountKey>,
}

impl Accounts {
    /// The account at the CA of `settings`. Asks nothing yet.
    pub(super) fn new(settings: CaSettings, vault: Arc<dyn KeyVault>, wire: Arc<Wire>) -> Self {
        let (slot, in_use, terms) = Default::default();
        Self { settings, vault, wire, slot, in_use, terms }
    }

    pub(super) const fn settings(&self) -> &CaSettings {
        &self.settings
    }

    /// Keeps the account's key as it is until dropped. To be taken before the account itself.
    pub(super) async fn in_use(&self) -> InUse {
        Arc::new(Arc::clone(&self.in_use).read_owned().await)
    }

    /// The account; found or made if this process has not yet.
    pub(super) async fn account(&self) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.slot.lock().await;
        if let Some(account) = &*slot {
            return Ok(Arc::clone(account));
        }
        let account = Arc::new(self.load_or_register().await?);
        *slot = Some(Arc::clone(&account));
        Ok(account)
    }

    /// Its URL, if this process has found or made it.
    pub(super) async fn known_url(&self) -> Option<String> {
        self.slot.lock().await.as_ref().map(|it| it.url.clone())
    }

    /// Whether there is one, as far as is known here.
    pub(super) async fn is_made(&self) -> Result<bool, AcmeError> {
        let slot = self.slot.lock().await;
        if slot.is_some() {
            return Ok(true);
        }
        let is_it = |it: &AccountRecord| {
            it.directory == self.settings.directory
                && (it.url.is_some() || it.deactivated_at.is_some())
        };
        Ok(self.load().await?.is_some_and(|(record, _)| is_it(&record)))
    }

    async fn load_or_register(&self) -> Result<Account, AcmeError> {
        match self.load().await? {
            Some((record, key)) if record.directory == self.settings.directory => {
                self.check_is_alive(&record)?;
                let (record, key) = self.settled(record, &key).await?;
                match record.url.clone() {
                    Some(url) => {
                        self.remember_terms(record.terms.clone());
                        let account = Account { url, key };
                        self.tell_contact(&account, record).await;
                        Ok(account)
                    }
                    None => self.register(record, key).await,
                }
            }
            Some((record, _)) => {
                tracing::warn!(
                    ca = %self.settings.name,
                    directory = record.directory,
                    "the account belongs to another directory and is set aside"
                );
                self.register_anew(None).await
            }
            None => self.register_new(None).await,
        }
    }

    /// The URL of the account that there is; `None` if there is none, and one could be made.
    pub(super) async fn readiness(&self) -> Result<Option<String>, AcmeError> {
        let known = self.load().await?.map(|(record, _)| record);
        let known = known.filter(|it| it.directory == self.settings.directory);
        match known {
            Some(record) if record.url.is_some() => {
                self.check_is_alive(&record)?;
                self.directory().await?;
                Ok(record.url)
            }
            _ => self.check_may_register().await.map(|()| None),
        }
    }

    /// Finds out what became of `lost`, which the CA says it does not know.
    pub(super) async fn recover(&self, lost: &Arc<Account>) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.slot.lock().await;
        if let Some(current) = &*slot
            && !Arc::ptr_eq(current, lost)
        {
            return Ok(Arc::clone(current));
        }
        // Whatever comes of this, who comes next goes on by what is kept then.
        *slot = None;
        let record = self.load().await?.map(|(record, _)| record).unwrap_or_default();
        if record.url.is_none() {
            // Another is on its way already, and only the CA's answer to that is missing.
            let account = Arc::new(self.load_or_register().await?);
            *slot = Some(Arc::clone(&account));
            return Ok(account);
        }
        let now = self.now();
        // A moment in the future is one of a clock that was put right since.
        let recovered_at = record.recovered_at.filter(|it| *it <= now);
        if recovered_at.is_some_and(|it| now.since(it) < RECOVERY_PAUSE) {
            return Err(self.lost());
        }
        // Kept with what the CA answers: trouble on the way is none of the account's.
        let record = AccountRecord { recovered_at: Some(now), ..record };
        let account = Arc::new(self.find_or_replace(record, &lost.key).await?);
        *slot = Some(Arc::clone(&account));
        Ok(account)
    }

    /// The account of `key` if the CA knows it under any URL, else a new one in its place.
    async fn find_or_replace(
        &self,
        record: AccountRecord,
        key: &Arc<AccountKey>,
    ) -> Result<Account, AcmeError> {
        if let Some(url) = self.url_of(key).await? {
            return self.keep(AccountRecord { url: Some(url.clone()), ..record }, url, key).await;
        }
        tracing::warn!(
            ca = %self.settings.name,
            account = record.url,
            "the CA forgot the account; a new one is made"
        );
        self.register_anew(record.recovered_at).await
    }

    /// The URL of the account of `key` (RFC 8555 §7.3.1); `None` if the CA knows none.
    async fn url_of(&self, key: &AccountKey) -> Result<Option<String>, AcmeError> {
        let found = new_account(&self.wire, key, &self.settings, Registration::FindOnly).await;
        match found.map_err(|fault| self.error(Step::FindAccount, fault)) {
            Ok(url) => Ok(Some(url)),
            Err(error) if error.refusal() == Some(&ProblemKind::AccountDoesNotExist) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn register_anew(&self, recovered_at: Option<Timestamp>) -> Result<Account, AcmeError> {
        // Nothing is set aside that could not be replaced.
        self.check_may_register().await?;
        let set_aside = self.vault.set_account_aside(&self.settings.name).await;
        set_aside.map_err(|source| self.storage(source))?;
        self.register_new(recovered_at).await
    }

    async fn register_new(&self, recovered_at: Option<Timestamp>) -> Result<Account, AcmeError> {
        let (record, key) = self.make_key(recovered_at).await?;
        self.register(record, key).await
    }

    async fn register(
        &self,
        record: AccountRecord,
        key: Arc<AccountKey>,
    ) -> Result<Account, AcmeError> {
        self.check_may_register().await?;
        let made = new_account(&self.wire, &key, &self.settings, Registration::FindOrMake).await;
        let url = made.map_err(|fault| self.error(Step::Account, fault))?;
        crash::point("acme.registered");
        tracing::info!(ca = %self.settings.name, account = url, "the account is registered");
        let record = self.registered(record, &url).await?;
        self.keep(record, url, &key).await
    }

    /// `record` with what is known of the account at `url`, which was registered now.
    async fn registered(
        &self,
        record: AccountRecord,
        url: &str,
    ) -> Result<AccountRecord, AcmeError> {
        let binding = self.settings.external_account_binding.as_ref();
        Ok(AccountRecord {
            url: Some(url.to_owned()),
            contact: self.settings.contact.clone(),
            registered_at: Some(self.now()),
            terms: self.directory().await?.meta.terms_of_service.clone(),
            eab_key_id: binding.map(|it| it.key_id.clone()),
            ..record
        })
    }

    async fn keep(
        &self,
        record: AccountRecord,
        url: String,
        key: &Arc<AccountKey>,
    ) -> Result<Account, AcmeError> {
        self.save(&record, None).await?;
        self.remember_terms(record.terms);
        Ok(Account { url, key: Arc::clone(key) })
    }

    /// A new account key, which is on disk on return.
    async fn make_key(
        &self,
        recovered_at: Option<Timestamp>,
    ) -> Result<(AccountRecord, Arc<AccountKey>), AcmeError> {
        self.check_may_register().await?;
        let key = self.generate_key()?;
        let record = AccountRecord {
            directory: self.settings.directory.clone(),
            contact: self.settings.contact.clone(),
            recovered_at,
            ..AccountRecord::default()
        };
        self.save(&record, Some(&key)).await?;
        Ok((record, self.account_key(&key)?))
    }

    /// Tells the CA contacts that changed since it was last told. No order waits for that to work.
    async fn tell_contact(&self, account: &Account, record: AccountRecord) {
        if record.contact == self.settings.contact {
            return;
        }
        let contact = &self.settings.contact;
        let told = update_contact(&self.wire, &account.key, &account.url, contact).await;
        let kept = match told.map_err(|fault| self.error(Step::UpdateAccount, fault)) {
            Ok(()) => {
                let record = AccountRecord { contact: contact.clone(), ..record };
                self.save(&record, None).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let error = chain_text(&error);
            tracing::warn!(ca = %self.settings.name, error, "the CA was not told the new contact");
        }
    }

    /// Sees whether the CA's terms of service are still those that were agreed to. Others are told
    /// of, and stop nothing: a CA that wants to be asked anew says so itself (RFC 8555 §7.3.3).
    pub(super) async fn compare_terms(&self) {
        // Not worth a request of its own: whoever comes here has just used it.
        let Some(directory) = self.wire.known_directory().await else { return };
        let Some(current) = directory.meta.terms_of_service.clone() else { return };
        let agreed = self.terms.lock().unwrap_or_else(PoisonError::into_inner).agreed.clone();
        match agreed {
            // From a time when they were not kept: those of today are taken for them.
            None => {
                if let Ok(Some((record, _))) = self.load().await {
                    let record = AccountRecord { terms: Some(current.clone()), ..record };
                    drop(self.save(&record, None).await);
                }
                self.remember_terms(Some(current));
            }
            Some(agreed) if agreed == current => self.remember_terms(Some(current)),
            Some(agreed) => {
                let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
                if terms.changed.as_ref().is_none_or(|(known, _)| *known != current) {
                    let ca = &self.settings.name;
                    tracing::warn!(%ca, agreed, current, "the CA's terms of service changed");
                    terms.changed = Some((current, self.now()));
                }
            }
        }
    }

    /// The CA's terms of service and since when they are known, if others were agreed to.
    pub(super) fn changed_terms(&self) -> Option<(String, Timestamp)> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).changed.clone()
    }

    fn remember_terms(&self, agreed: Option<String>) {
        let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        *terms = Terms { agreed, changed: None };
    }

    fn check_is_alive(&self, record: &AccountRecord) -> Result<(), AcmeError> {
        let ca = self.settings.name.clone();
        record.deactivated_at.map_or(Ok(()), |at| Err(AcmeError::AccountDeactivated { ca, at }))
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
        self.wire.directory().await.map_err(|fault| self.error(Step::Account, fault))
    }

    /// The account that is kept, as records in DNS name it.
    pub(super) async fn standing_account(&self) -> Result<Option<StandingAccount>, AcmeError> {
        let Some((record, key)) = self.load().await? else { return Ok(None) };
        let Some(url) = record.url.filter(|_| record.directory == self.settings.directory) else {
            return Ok(None);
        };
        Ok(Some(StandingAccount { url, thumbprint: self.account_key(&key)?.thumbprint() }))
    }

    async fn load(&self) -> Result<Option<(AccountRecord, PrivateKey)>, AcmeError> {
        let stored = self.vault.load_account(&self.settings.name).await;
        let mut stored = stored.map_err(|source| self.storage(source))?;
        if let Some((record, _)) = &mut stored
            && record.directory.is_empty()
        {
            // Its description was lost, or never written: the CA knows the account by its key, or
            // makes one for it.
            record.directory.clone_from(&self.settings.directory);
        }
        Ok(stored)
    }

    async fn save(
        &self,
        record: &AccountRecord,
        key: Option<&PrivateKey>,
    ) -> Result<(), AcmeError> {
        let kept = self.vault.save_account(&self.settings.name, record, key).await;
        kept.map_err(|source| self.storage(source))
    }

    fn generate_key(&self) -> Result<PrivateKey, AcmeError> {
        let ca = &self.settings.name;
        PrivateKey::generate(KeyType::P256)
            .map_err(|source| AcmeError::KeyGeneration { ca: ca.clone(), source })
    }

    fn account_key(&self, key: &PrivateKey) -> Result<Arc<AccountKey>, AcmeError> {
        let key = AccountKey::new(key);
        key.map(Arc::new)
            .map_err(|source| AcmeError::AccountKey { ca: self.settings.name.clone(), source })
    }

    fn now(&self) -> Timestamp {
        self.wire.clock().now()
    }

    fn error(&self, step: Step, fault: WireError) -> AcmeError {
        AcmeError::new(&self.settings.name, step, &self.settings.directory, fault, self.now())
    }

    fn storage(&self, source: StorageError) -> AcmeError {
        AcmeError::Storage { ca: self.settings.name.clone(), source }
    }

    /// The CA goes on denying the account.
    pub(super) fn lost(&self) -> AcmeError {
        AcmeError::AccountLost { ca: self.settings.name.clone() }
    }
}
