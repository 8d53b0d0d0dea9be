//! What an operator does to an account: looks at it, tells new contacts, gives it another key, ends
//! it, has a new one made.
//!
//! Nothing of this happens by itself, and none of it but [`AccountAction::Register`] makes an
//! account.
//!
//! Not here: what orders need of an account ([`super`]).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Account, Accounts};
use crate::acme::error::{AcmeError, Step};
use crate::acme::ext::account::{deactivate, fetch_account, update_contact};
use crate::model::{AccountRecord, CaName, ChangedRecord, Timestamp};

/// What is to be done to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountAction {
    /// Ask the CA how it stands.
    Show,
    /// Tell the CA the contacts of the configuration (RFC 8555 §7.3.2), and agree to the terms of
    /// service of today.
    Update,
    /// Give it another key (RFC 8555 §7.3.5).
    RollOver,
    /// End it for good (RFC 8555 §7.3.6).
    Deactivate,
    /// See that there is one: look for a forgotten one by its key, and make a new one where there
    /// is none, or it was deactivated.
    Register,
    /// As [`AccountAction::Register`], setting aside also what the CA still knows.
    Replace,
}

impl AccountAction {
    /// Whether a new account may come of it.
    #[must_use]
    pub const fn may_make(self) -> bool {
        matches!(self, Self::Register | Self::Replace)
    }

    /// Whether an account that the CA did not want may be right after it.
    #[must_use]
    pub const fn mends(self) -> bool {
        !matches!(self, Self::Show | Self::Deactivate)
    }

    /// Whether the account may have another key after it, or be another one.
    #[must_use]
    pub const fn changes_identity(self) -> bool {
        matches!(self, Self::RollOver | Self::Register | Self::Replace)
    }
}

/// An account, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReport {
    /// At which CA.
    pub ca: CaName,
    /// Its directory URL, as configured.
    pub directory: String,
    /// The account URL; `None` if there is no account.
    pub url: Option<String>,
    /// Its status in the CA's word: valid, deactivated or revoked; `none` if there is no account.
    pub status: String,
    /// The contacts that the CA has.
    pub contact: Vec<String>,
    /// The thumbprint of its key (RFC 7638), which CAs and records in DNS know it by.
    pub thumbprint: Option<String>,
    /// The key identifier of the external account binding it was made with.
    pub eab_key_id: Option<String>,
    /// Where the terms of service stand that were agreed to.
    pub terms: Option<String>,
    /// Where other terms stand, which the CA has by now.
    pub changed_terms: Option<String>,
    /// When it was registered.
    pub registered_at: Option<Timestamp>,
    /// When it was deactivated from here.
    pub deactivated_at: Option<Timestamp>,
    /// Records in DNS that are to be set anew, since they name the account by its key or its URL.
    #[serde(default)]
    pub changed_records: Vec<ChangedRecord>,
}

impl Accounts {
    /// Does `action`, and says how the account stands then.
    pub(in crate::acme) async fn tend(
        &self,
        action: AccountAction,
    ) -> Result<AccountReport, AcmeError> {
        match action {
            AccountAction::Show => {}
            AccountAction::Update => self.update().await?,
            AccountAction::RollOver => self.roll_over().await?,
            AccountAction::Deactivate => self.deactivate().await?,
            AccountAction::Register => self.register_by_hand().await?,
            AccountAction::Replace => self.replace().await?,
        }
        self.report().await
    }

    async fn report(&self) -> Result<AccountReport, AcmeError> {
        let ca = self.settings.name.clone();
        let directory = self.settings.directory.clone();
        let known = self.load().await?.filter(|(record, _)| record.directory == directory);
        let (record, key) = known.unzip();
        let record: AccountRecord = record.unwrap_or_default();
        let mut report = AccountReport {
            ca,
            directory,
            url: record.url.clone(),
            status: "none".to_owned(),
            contact: record.contact,
            thumbprint: None,
            eab_key_id: record.eab_key_id,
            terms: record.terms,
            changed_terms: None,
            registered_at: record.registered_at,
            deactivated_at: record.deactivated_at,
            changed_records: Vec::new(),
        };
        if record.url.is_none() {
            return Ok(report);
        }
        if record.deactivated_at.is_some() {
            let key = key.map(|key| self.account_key(&key)).transpose()?;
            report.thumbprint = key.map(|key| key.thumbprint());
            "deactivated".clone_into(&mut report.status);
            return Ok(report);
        }
        let account = self.known_account().await?;
        let told = fetch_account(&self.wire, &account.key, &account.url).await;
        let told = told.map_err(|fault| self.error(Step::FetchAccount, fault))?;
        self.compare_terms().await;
        report.thumbprint = Some(account.key.thumbprint());
        report.status = crate::model::escaped(&told.status);
        report.contact = told.contact.iter().map(|it| crate::model::escaped(it)).collect();
        report.changed_terms = self.changed_terms().map(|(terms, _)| terms);
        Ok(report)
    }

    /// The account that there is; makes none.
    pub(super) async fn known_account(&self) -> Result<Arc<Account>, AcmeError> {
        let known = self.load().await?.filter(|(record, _)| {
            record.directory == self.settings.directory && record.url.is_some()
        });
        if known.is_none() {
            return Err(AcmeError::NoAccount { ca: self.settings.name.clone() });
        }
        self.account().await
    }

    async fn update(&self) -> Result<(), AcmeError> {
        let account = self.known_account().await?;
        let contact = &self.settings.contact;
        let told = update_contact(&self.wire, &account.key, &account.url, contact).await;
        told.map_err(|fault| self.error(Step::UpdateAccount, fault))?;
        let terms = self.directory().await?.meta.terms_of_service.clone();
        let Some((record, _)) = self.load().await? else { return Ok(()) };
        let terms = if self.settings.terms_of_service_agreed { terms } else { record.terms };
        let record = AccountRecord { contact: contact.clone(), terms, ..record };
        self.save(&record, None).await?;
        self.remember_terms(record.terms);
        Ok(())
    }

    async fn deactivate(&self) -> Result<(), AcmeError> {
        let _alone = self.in_use.write().await;
        let account = self.known_account().await?;
        let mut slot = self.slot.lock().await;
        let Some((record, _)) = self.load().await? else { return Ok(()) };
        // Before the CA hears of it: whoever is killed now must not find an account that seems
        // lost, and make another in its place.
        let marked = AccountRecord { deactivated_at: Some(self.now()), ..record.clone() };
        self.save(&marked, None).await?;
        *slot = None;
        if let Err(fault) = deactivate(&self.wire, &account.key, &account.url).await {
            self.save(&record, None).await?;
            return Err(self.error(Step::DeactivateAccount, fault));
        }
        tracing::warn!(ca = %self.settings.name, account = account.url, "the account is ended");
        Ok(())
    }

    async fn register_by_hand(&self) -> Result<(), AcmeError> {
        let _alone = self.in_use.write().await;
        let mut slot = self.slot.lock().await;
        let account = match self.load().await? {
            Some((record, _)) if record.deactivated_at.is_some() => {
                self.register_anew(None).await?
            }
            Some((record, key))
                if record.directory == self.settings.directory && record.url.is_some() =>
            {
                let (record, key) = self.settled(record, &key).await?;
                self.find_or_replace(record, &key).await?
            }
            _ => self.load_or_register().await?,
        };
        *slot = Some(Arc::new(account));
        Ok(())
    }

    async fn replace(&self) -> Result<(), AcmeError> {
        let _alone = self.in_use.write().await;
        let mut slot = self.slot.lock().await;
        let in_use = self.load().await?.filter(|(record, _)| {
            record.directory == self.settings.directory
                && record.url.is_some()
                && record.deactivated_at.is_none()
        });
        *slot = None;
        let account = match in_use {
            Some((record, key)) => self.supersede(record, &key).await?,
            None => self.register_anew(None).await?,
        };
        *slot = Some(Arc::new(account));
        Ok(())
    }
}
