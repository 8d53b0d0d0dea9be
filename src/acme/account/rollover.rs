//! Another key for the same account (RFC 8555 §7.3.5), or another account in place of one that is
//! in use, safe against a crash at any moment.
//!
//! # Rules
//!
//! - The next key is on disk beside the present one before the CA hears of it.
//! - While a next key is there, the account is not used before the CA has said which key it knows
//!   (RFC 8555 §7.3.1): the next one first, since the CA knows it exactly if it was done.
//! - An account that is in use stays so until the CA has made the other, and is kept aside then.
//! - The key changes while no order is under way: its proofs are made of the key.
//!
//! Not here: the request ([`crate::acme::ext::account`]); the files ([`crate::store`]).

use std::sync::Arc;

use super::{Account, Accounts};
use crate::acme::error::{AcmeError, Step};
use crate::acme::ext::account::{Registration, change_key, new_account};
use crate::acme::ext::jws::AccountKey;
use crate::model::{AccountRecord, PrivateKey, SettledKey};
use crate::sys::crash;

impl Accounts {
    /// Gives the account another key. After an error the next use of the account finds out which
    /// key the CA knows.
    pub(super) async fn roll_over(&self) -> Result<(), AcmeError> {
        let _alone = self.in_use.write().await;
        let account = self.known_account().await?;
        let directory = self.directory().await?;
        let Some(url) = &directory.key_change else {
            let (ca, what) = (self.settings.name.clone(), "another key for an account");
            return Err(AcmeError::NotOffered { ca, what });
        };
        let ca = &self.settings.name;
        let mut slot = self.slot.lock().await;
        // Until it is done, nobody knows which key is the right one.
        *slot = None;
        let next = self.generate_key()?;
        let kept = self.vault.save_next_account_key(ca, &next).await;
        kept.map_err(|source| self.storage(source))?;
        crash::point("acme.rollover_kept");
        let next = self.account_key(&next)?;
        let changed = change_key(&self.wire, url, &account.url, &account.key, &next).await;
        changed.map_err(|fault| self.error(Step::RollOver, fault))?;
        crash::point("acme.rollover_done");
        self.settle(SettledKey::Next).await?;
        tracing::info!(%ca, account = account.url, "the account has another key");
        *slot = Some(Arc::new(Account { url: account.url.clone(), key: next }));
        Ok(())
    }

    /// Has the CA make another account, and puts it in place of the one of `record` and `key`,
    /// which is used on if the CA refuses.
    pub(super) async fn supersede(
        &self,
        record: AccountRecord,
        key: &PrivateKey,
    ) -> Result<Account, AcmeError> {
        self.check_may_register().await?;
        // A next key that the CA knows already must not be lost. One that it has closed may be.
        match self.settled(record, key).await {
            Err(error) if !error.is_refusal() => return Err(error),
            _ => {}
        }
        let next = self.generate_key()?;
        let kept = self.vault.save_next_account_key(&self.settings.name, &next).await;
        kept.map_err(|source| self.storage(source))?;
        let next = self.account_key(&next)?;
        let made = new_account(&self.wire, &next, &self.settings, Registration::FindOrMake).await;
        match made.map_err(|fault| self.error(Step::Account, fault)) {
            Ok(url) => self.put_in_place(url, next).await,
            Err(error) => {
                if error.is_refusal() || matches!(error, AcmeError::RateLimited { .. }) {
                    self.settle(SettledKey::Former).await?;
                }
                Err(error)
            }
        }
    }

    /// Makes the account at `url`, whose key is the next one, the one that is used; a copy of the
    /// present one is kept aside.
    async fn put_in_place(&self, url: String, next: Arc<AccountKey>) -> Result<Account, AcmeError> {
        let record = AccountRecord {
            directory: self.settings.directory.clone(),
            ..AccountRecord::default()
        };
        let record = self.registered(record, &url).await?;
        let copied = self.vault.copy_account_aside(&self.settings.name).await;
        copied.map_err(|source| self.storage(source))?;
        // The URL first: with it the next key is known for what it is, also after a crash.
        let account = self.keep(record, url, &next).await?;
        self.settle(SettledKey::Next).await?;
        tracing::info!(ca = %self.settings.name, account = account.url, "the account is replaced");
        Ok(account)
    }

    /// `record` and the key of it that the CA knows: `former`, or the one that an unfinished
    /// rollover or replacement left beside it, which may belong to another account.
    pub(super) async fn settled(
        &self,
        record: AccountRecord,
        former: &PrivateKey,
    ) -> Result<(AccountRecord, Arc<AccountKey>), AcmeError> {
        let former = self.account_key(former)?;
        let next = self.vault.load_next_account_key(&self.settings.name).await;
        let Some(next) = next.map_err(|source| self.storage(source))? else {
            return Ok((record, former));
        };
        let next = self.account_key(&next)?;
        if let Some(url) = self.url_of(&next).await? {
            if record.url.as_ref().is_none_or(|it| *it == url) {
                self.settle(SettledKey::Next).await?;
                return Ok((record, next));
            }
            self.put_in_place(url, Arc::clone(&next)).await?;
            let record = self.load().await?.map(|(record, _)| record).unwrap_or_default();
            return Ok((record, next));
        }
        // Where the CA knows neither, both stay: whoever finds the account lost sets both aside.
        if self.url_of(&former).await?.is_some() {
            self.settle(SettledKey::Former).await?;
        }
        Ok((record, former))
    }

    async fn settle(&self, settled: SettledKey) -> Result<(), AcmeError> {
        let ca = &self.settings.name;
        let done = self.vault.settle_account_key(ca, settled).await;
        done.map_err(|source| self.storage(source))?;
        tracing::info!(%ca, ?settled, "the account's key is settled");
        Ok(())
    }
}
