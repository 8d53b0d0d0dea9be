//! One CA: its account, and the orders placed with it.
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
//! Not here: what happens to an order ([`super::order`]); when to ask ([`crate::plan`]).

use std::borrow::Cow;
use std::sync::Arc;

use instant_acme::{CertificateIdentifier, NewOrder};
use tokio::sync::Mutex;

use super::error::{AcmeError, Step};
use super::ext::account::{Registration, new_account, update_contact};
use super::ext::jws::{AccountKey, AccountKeyError};
use super::order::Order;
use super::problem::ProblemKind;
use super::settings::CaSettings;
use super::tap::Tap;
use super::wire::{Traffic, Wire, WireError};
use crate::model::{
    AccountRecord, Identifier, KeyType, KeyVault, PrivateKey, StorageError, Timestamp,
};
use crate::sys::clock::Clock;
use crate::sys::http::{HttpClient, HttpSettings, Roots};

/// The client of one CA, shared by all orders that run side by side.
pub struct AcmeClient {
    settings: CaSettings,
    vault: Arc<dyn KeyVault>,
    wire: Arc<Wire>,
    // Held while the account is found or made, on purpose: all that start together need one.
    account: Mutex<AccountSlot>,
}

#[derive(Default)]
struct AccountSlot {
    current: Option<Arc<Account>>,
    was_lost: bool,
}

/// An account that can sign.
struct Account {
    url: String,
    key: Arc<AccountKey>,
}

/// What is asked of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// What the certificate is to be for.
    pub identifiers: Vec<Identifier>,
    /// The CA's profile (draft-ietf-acme-profiles).
    pub profile: Option<String>,
    /// The certificate that is replaced, as RFC 9773 §4.1 names it; left out where the CA does not
    /// take such names.
    pub replaces: Option<String>,
}

impl AcmeClient {
    /// A client of the CA of `settings`. Reads the file with its trusted roots; asks nothing.
    ///
    /// # Errors
    ///
    /// If there are no usable trusted roots.
    pub fn new(
        settings: CaSettings,
        vault: Arc<dyn KeyVault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AcmeError> {
        let ca = &settings.name;
        let roots =
            match &settings.trust {
                None => Roots::System,
                Some(path) => Roots::Only(std::fs::read(path).map_err(|source| {
                    AcmeError::Trust { ca: ca.clone(), path: path.clone(), source }
                })?),
            };
        let http = HttpClient::new(&HttpSettings { roots, ..HttpSettings::default() })
            .map_err(|source| AcmeError::Setup { ca: ca.clone(), source })?;
        let wire = Wire::new(ca.clone(), settings.directory.clone(), http, clock);
        Ok(Self { settings, vault, wire: Arc::new(wire), account: Mutex::default() })
    }

    /// What the configuration says of the CA.
    #[must_use]
    pub const fn settings(&self) -> &CaSettings {
        &self.settings
    }

    /// How many requests were sent since this client was made.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }

    /// The account URL (RFC 8555 §7.3); finds or makes the account if this process has not yet.
    ///
    /// # Errors
    ///
    /// If the account can't be kept, or the CA does not give one.
    pub async fn account_url(&self) -> Result<String, AcmeError> {
        Ok(self.account().await?.url.clone())
    }

    /// Places an order (RFC 8555 §7.4). It may be an old one of the same account, in any state.
    ///
    /// # Errors
    ///
    /// If the CA does not take it, or answers with an order for other identifiers.
    pub async fn new_order(&self, request: &OrderRequest) -> Result<Order, AcmeError> {
        self.check_profile(request.profile.as_deref()).await?;
        let account = self.account().await?;
        match self.place(&account, request).await {
            Err(error) if error.refusal() == Some(&ProblemKind::AccountDoesNotExist) => {
                let account = self.recover_account(&account).await?;
                self.place(&account, request).await.map_err(|error| match error.refusal() {
                    Some(ProblemKind::AccountDoesNotExist) => self.account_lost(),
                    _ => error,
                })
            }
            placed => placed,
        }
    }

    /// Takes up the order at `url` again (RFC 8555 §7.4), as after a crash.
    ///
    /// # Errors
    ///
    /// If it can't be fetched; [`AcmeError::is_end_of_order`] says whether it is gone.
    pub async fn order(&self, url: &str) -> Result<Order, AcmeError> {
        let account = self.account().await?;
        let tap = Tap::new(Arc::clone(&self.wire), Arc::clone(&account.key), None);
        let client = self.signed_in(&account, &tap, Step::FetchOrder).await?;
        let fetched = client.order(url.to_owned()).await;
        let fetched =
            fetched.map_err(|error| self.error(Step::FetchOrder, url, tap.fault(error)))?;
        Order::new(self.settings.name.clone(), &client, fetched, tap, Step::FetchOrder)
    }

    async fn place(&self, account: &Account, request: &OrderRequest) -> Result<Order, AcmeError> {
        let replaces = match &request.replaces {
            Some(name) if self.directory().await?.renewal_info.is_some() => Some(name.as_str()),
            _ => None,
        };
        let placed = self.place_once(account, request, replaces).await;
        // A CA that forgot the old certificate, gave it to another account or saw it replaced must
        // not keep us from a new one; how each of them says so differs too much to tell apart.
        match placed {
            Err(AcmeError::Refused { ref problem, .. })
                if replaces.is_some() && problem.kind != ProblemKind::AccountDoesNotExist =>
            {
                tracing::warn!(ca = %self.settings.name, %problem, "ordering without replaces");
                self.place_once(account, request, None).await
            }
            placed => placed,
        }
    }

    async fn place_once(
        &self,
        account: &Account,
        request: &OrderRequest,
        replaces: Option<&str>,
    ) -> Result<Order, AcmeError> {
        let tap = Tap::new(Arc::clone(&self.wire), Arc::clone(&account.key), replaces);
        let client = self.signed_in(account, &tap, Step::PlaceOrder).await?;
        let identifiers: Vec<_> = request.identifiers.iter().map(in_their_words).collect();
        let mut order = NewOrder::new(&identifiers);
        if let Some(profile) = &request.profile {
            order = order.profile(profile);
        }
        if let Some((authority_key_identifier, serial)) =
            replaces.and_then(|name| name.split_once('.'))
        {
            order = order.replaces(CertificateIdentifier {
                authority_key_identifier: Cow::Borrowed(authority_key_identifier),
                serial: Cow::Borrowed(serial),
            });
        }
        let placed = client.new_order(&order).await;
        let placed = placed.map_err(|error| {
            self.error(Step::PlaceOrder, &self.settings.directory, tap.fault(error))
        })?;
        let order = Order::new(self.settings.name.clone(), &client, placed, tap, Step::PlaceOrder)?;
        order.check_identifiers(&request.identifiers)?;
        Ok(order)
    }

    /// instant-acme's account, whose requests run through `tap`. Asks nothing but the directory.
    async fn signed_in(
        &self,
        account: &Account,
        tap: &Tap,
        step: Step,
    ) -> Result<instant_acme::Account, AcmeError> {
        let directory = self.settings.directory.clone();
        instant_acme::Account::builder_with_http(Box::new(tap.clone()))
            .from_parts(account.url.clone(), account.key.pkcs8(), directory)
            .await
            .map_err(|error| self.error(step, &self.settings.directory, tap.fault(error)))
    }

    async fn account(&self) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.account.lock().await;
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
    async fn recover_account(&self, lost: &Arc<Account>) -> Result<Arc<Account>, AcmeError> {
        let mut slot = self.account.lock().await;
        if let Some(current) = &slot.current
            && !Arc::ptr_eq(current, lost)
        {
            return Ok(Arc::clone(current));
        }
        if slot.was_lost {
            return Err(self.account_lost());
        }
        slot.was_lost = true;
        let found =
            new_account(&self.wire, &lost.key, &self.settings, Registration::FindOnly).await;
        let found = found.map_err(|fault| self.error_of_account(fault));
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
        let url = made.map_err(|fault| self.error_of_account(fault))?;
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
        let kept = match told.map_err(|fault| self.error_of_account(fault)) {
            Ok(()) => {
                let record = AccountRecord { contact: contact.clone(), ..record };
                let kept = self.vault.save_account(&self.settings.name, &record, None).await;
                kept.map_err(|source| self.storage(source))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let error = crate::model::chain_text(&error);
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

    /// A CA that does not know a profile must say so; one that knows no profiles would pass over
    /// the field and make another certificate than was wanted.
    async fn check_profile(&self, profile: Option<&str>) -> Result<(), AcmeError> {
        let Some(profile) = profile else { return Ok(()) };
        if self.directory().await?.meta.profiles.contains_key(profile) {
            return Ok(());
        }
        self.wire.forget_directory().await;
        let directory = self.directory().await?;
        if directory.meta.profiles.contains_key(profile) {
            return Ok(());
        }
        let offered = directory.meta.profiles.keys().map(|it| crate::model::escaped(it)).collect();
        let ca = self.settings.name.clone();
        Err(AcmeError::ProfileNotOffered { ca, profile: profile.to_owned(), offered })
    }

    async fn directory(&self) -> Result<Arc<super::object::Directory>, AcmeError> {
        self.wire.directory().await.map_err(|fault| self.error_of_account(fault))
    }

    fn account_key(&self, key: &PrivateKey) -> Result<Arc<AccountKey>, AcmeError> {
        let failed = |source: AccountKeyError| AcmeError::AccountKey {
            ca: self.settings.name.clone(),
            source,
        };
        AccountKey::new(key).map(Arc::new).map_err(failed)
    }

    fn now(&self) -> Timestamp {
        self.wire.clock().now()
    }

    fn error(&self, step: Step, url: &str, fault: WireError) -> AcmeError {
        AcmeError::new(&self.settings.name, step, url, fault, self.now())
    }

    fn error_of_account(&self, fault: WireError) -> AcmeError {
        self.error(Step::Account, &self.settings.directory, fault)
    }

    fn storage(&self, source: StorageError) -> AcmeError {
        AcmeError::Storage { ca: self.settings.name.clone(), source }
    }

    fn account_lost(&self) -> AcmeError {
        AcmeError::AccountLost { ca: self.settings.name.clone() }
    }
}

impl std::fmt::Debug for AcmeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeClient").field("ca", &self.settings.name).finish_non_exhaustive()
    }
}

fn in_their_words(identifier: &Identifier) -> instant_acme::Identifier {
    match identifier {
        Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
    }
}
