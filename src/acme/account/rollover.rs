//! Another key for the same account (RFC 8555 §7.3.5), safe against a crash at any moment.
//!
//! # Rules
//!
//! - The next key is on disk beside the present one before the CA hears of it.
//! - While a next key is there, the account is not used before the CA has said which key it knows
//!   (RFC 8555 §7.3.1): the next one first, since the CA knows it exactly if the rollover was done.
//! - The key changes while no order is under way: its proofs are made of the key.
//!
//! Not here: the request ([`crate::acme::ext::account`]); the files ([`crate::store`]).

use std::sync::Arc;

use super::{Account, Accounts};
use crate::acme::error::{AcmeError, Step};
use crate::acme::ext::account::change_key;
use crate::acme::ext::jws::AccountKey;
use crate::model::{PrivateKey, SettledKey};
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

    /// The key that the CA knows: `former`, or the one that an unfinished rollover left beside it.
    pub(super) async fn settled(&self, former: &PrivateKey) -> Result<Arc<AccountKey>, AcmeError> {
        let former = self.account_key(former)?;
        let next = self.vault.load_next_account_key(&self.settings.name).await;
        let Some(next) = next.map_err(|source| self.storage(source))? else { return Ok(former) };
        let next = self.account_key(&next)?;
        if self.url_of(&next).await?.is_some() {
            self.settle(SettledKey::Next).await?;
            return Ok(next);
        }
        // Where the CA knows neither, both stay: whoever finds the account lost sets both aside.
        if self.url_of(&former).await?.is_some() {
            self.settle(SettledKey::Former).await?;
        }
        Ok(former)
    }

    async fn settle(&self, settled: SettledKey) -> Result<(), AcmeError> {
        let ca = &self.settings.name;
        let done = self.vault.settle_account_key(ca, settled).await;
        done.map_err(|source| self.storage(source))?;
        tracing::info!(%ca, ?settled, "the account's key is settled");
        Ok(())
    }
}
