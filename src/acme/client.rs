//! One CA, and the orders placed with it.
//!
//! Not here: its account ([`super::account`]); what happens to an order ([`super::order`]); when to
//! ask ([`crate::plan`]).

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{CertificateIdentifier, NewOrder};

use super::account::{Account, AccountAction, AccountReport, Accounts, InUse};
use super::error::{AcmeError, Step};
use super::ext::jws::AccountKey;
use super::ext::revocation::revoke;
use super::object::Directory;
use super::order::Order;
use super::problem::ProblemKind;
use super::settings::CaSettings;
use super::tap::Tap;
use super::wire::{Traffic, Wire, WireError};
use crate::model::{
    Identifier, KeyVault, PrivateKey, RevocationReason, StandingAccount, Timestamp, chain_text,
    escaped,
};
use crate::sys::clock::Clock;
use crate::sys::http::{HttpClient, HttpSettings, Roots};

/// The client of one CA, shared by all orders that run side by side.
pub struct AcmeClient {
    accounts: Accounts,
    wire: Arc<Wire>,
    /// The content of the file with the trusted roots, if there is one.
    trusted: Option<Vec<u8>>,
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

/// What is known of a CA before it is asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The names by which it goes in CAA records (RFC 8555 §7.1.1).
    pub caa_identities: Vec<String>,
    /// The account URL; `None` while there is no account, and one could be made.
    pub account_url: Option<String>,
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
        let unreadable = |path: &Path, source| {
            let path = path.to_owned();
            AcmeError::Trust { ca: ca.clone(), path, source }
        };
        let read = |path: &PathBuf| std::fs::read(path).map_err(|it| unreadable(path, it));
        let trusted = settings.trust.as_ref().map(read).transpose()?;
        let roots = trusted.clone().map_or(Roots::System, Roots::Only);
        let http = HttpClient::new(&HttpSettings { roots, ..HttpSettings::default() })
            .map_err(|source| AcmeError::Setup { ca: ca.clone(), source })?;
        let wire = Arc::new(Wire::new(ca.clone(), settings.directory.clone(), http, clock));
        let accounts = Accounts::new(settings, vault, Arc::clone(&wire));
        Ok(Self { accounts, wire, trusted })
    }

    /// Whether the file with the trusted roots is as it was when this was made. An internal CA that
    /// comes to another root would else be out of reach for as long as the process lives.
    #[must_use]
    pub fn trusts_what_is_there(&self) -> bool {
        let path = self.settings().trust.as_ref();
        path.map(|it| std::fs::read(it).ok()) == self.trusted.clone().map(Some)
    }

    /// What the configuration says of the CA.
    #[must_use]
    pub const fn settings(&self) -> &CaSettings {
        self.accounts.settings()
    }

    /// How many requests were sent since this client was made.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }

    /// By how much our clock and the CA's differed at the last answer; `None` up to five minutes.
    #[must_use]
    pub fn clock_skew(&self) -> Option<Duration> {
        self.wire.clock_skew()
    }

    /// What time it is by the CA's clock, asked for now; `None` if it does not say.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn time(&self) -> Result<Option<Timestamp>, AcmeError> {
        let time = self.wire.time().await;
        time.map_err(|fault| self.error(Step::Account, &self.settings().directory, fault))
    }

    /// The account URL (RFC 8555 §7.3); finds or makes the account if this process has not yet.
    ///
    /// # Errors
    ///
    /// If the account can't be kept, or the CA does not give one.
    pub async fn account_url(&self) -> Result<String, AcmeError> {
        Ok(self.accounts.account().await?.url.clone())
    }

    /// The account URL, as far as this process knows it. Asks nothing.
    pub async fn known_account_url(&self) -> Option<String> {
        self.accounts.known_url().await
    }

    /// Whether there is an account already, as far as is known here. Asks nothing of the CA; waits
    /// while one is being made.
    ///
    /// # Errors
    ///
    /// If what is kept of it can't be read.
    pub async fn has_account(&self) -> Result<bool, AcmeError> {
        self.accounts.is_made().await
    }

    /// The account as records of dns-persist-01 name it; `None` if there is none yet. Asks nothing.
    ///
    /// # Errors
    ///
    /// If what is kept of it can't be read.
    pub async fn standing_account(&self) -> Result<Option<StandingAccount>, AcmeError> {
        self.accounts.standing_account().await
    }

    /// Finds out whether an order with `profile` could be placed, by the CA's directory, which may
    /// be a day old, and by what is known of our account. Changes nothing.
    ///
    /// # Errors
    ///
    /// Says what stands in the way.
    pub async fn readiness(&self, profile: Option<&str>) -> Result<Readiness, AcmeError> {
        let account_url = self.accounts.readiness().await?;
        self.check_profile(profile).await?;
        let caa_identities = self.accounts.directory().await?.meta.caa_identities.clone();
        Ok(Readiness { caa_identities, account_url })
    }

    /// Does what an operator asks of the account, and says how it stands then.
    ///
    /// What needs the account's key for itself waits until no order is under way with it.
    ///
    /// # Errors
    ///
    /// If there is no account, the CA does not do it, or the account can't be kept. After a
    /// rollover that failed, the next use finds out which key the CA knows.
    pub async fn tend_account(&self, action: AccountAction) -> Result<AccountReport, AcmeError> {
        self.accounts.tend(action).await
    }

    /// Has the CA revoke `certificate` (DER) for `reason` (RFC 8555 §7.6), asked by its own `key`,
    /// or by the account where that is `None`. One that is revoked already is a success.
    ///
    /// # Errors
    ///
    /// If the CA does not do it; also one that does not know the certificate as the account's.
    pub async fn revoke(
        &self,
        certificate: &[u8],
        key: Option<&PrivateKey>,
        reason: RevocationReason,
    ) -> Result<(), AcmeError> {
        let ca = &self.settings().name;
        let in_use = self.accounts.in_use().await;
        let directory = self.accounts.directory().await?;
        let Some(url) = &directory.revoke_cert else {
            return Err(AcmeError::NotOffered { ca: ca.clone(), what: "revocation" });
        };
        let done = match key {
            Some(key) => {
                let key = AccountKey::of_certificate(key)
                    .map_err(|source| AcmeError::AccountKey { ca: ca.clone(), source })?;
                revoke(&self.wire, url, &key, None, certificate, reason).await
            }
            None => {
                let account = self.accounts.account().await?;
                let kid = Some(account.url.as_str());
                revoke(&self.wire, url, &account.key, kid, certificate, reason).await
            }
        };
        drop(in_use);
        match done.map_err(|fault| self.error(Step::Revoke, url, fault)) {
            Err(error) if error.refusal() == Some(&ProblemKind::AlreadyRevoked) => Ok(()),
            done => done,
        }
    }

    /// Where the CA's terms of service stand now and since when that is known, if the account
    /// agreed to others.
    #[must_use]
    pub fn changed_terms(&self) -> Option<(String, Timestamp)> {
        self.accounts.changed_terms()
    }

    /// Places an order (RFC 8555 §7.4). It may be an old one of the same account, in any state.
    ///
    /// # Errors
    ///
    /// If the CA does not take it, or answers with an order for other identifiers.
    pub async fn new_order(&self, request: &OrderRequest) -> Result<Order, AcmeError> {
        self.check_profile(request.profile.as_deref()).await?;
        let in_use = self.accounts.in_use().await;
        let account = self.accounts.account().await?;
        let placed = self.place(&account, &in_use, request).await;
        self.accounts.compare_terms().await;
        match placed {
            Err(error) if error.refusal() == Some(&ProblemKind::AccountDoesNotExist) => {
                let account = self.accounts.recover(&account).await?;
                let placed = self.place(&account, &in_use, request).await;
                placed.map_err(|error| match error.refusal() {
                    Some(ProblemKind::AccountDoesNotExist) => self.accounts.lost(),
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
        let in_use = self.accounts.in_use().await;
        let account = self.accounts.account().await?;
        let tap = Tap::new(Arc::clone(&self.wire), &account, in_use, None);
        let client = self.signed_in(&account, &tap, Step::FetchOrder).await?;
        let fetched = client.order(url.to_owned()).await;
        let fetched =
            fetched.map_err(|error| self.error(Step::FetchOrder, url, tap.fault(error)))?;
        Order::new(self.settings().name.clone(), &client, fetched, tap, Step::FetchOrder)
    }

    /// Whether the CA answers at all: asks it for a nonce, where its directory says. What keeps us
    /// from one order then is not that the CA is down.
    pub async fn is_there(&self) -> bool {
        self.wire.is_there().await
    }

    async fn place(
        &self,
        account: &Account,
        in_use: &InUse,
        request: &OrderRequest,
    ) -> Result<Order, AcmeError> {
        let replaces = match &request.replaces {
            Some(name) if self.accounts.directory().await?.renewal_info.is_some() => {
                Some(name.as_str())
            }
            _ => None,
        };
        let placed = self.place_once(account, in_use, request, replaces).await;
        // A CA that forgot the old certificate, gave it to another account or saw it replaced must
        // not keep us from a new one; how each of them says so differs too much to tell apart.
        match placed {
            Err(ref error) if replaces.is_some() && may_be_of_replaces(error) => {
                let reason = chain_text(error);
                tracing::warn!(ca = %self.settings().name, reason, "ordering without replaces");
                let plain = self.place_once(account, in_use, request, None).await;
                // What the CA says of the second is what counts; that nothing was done is to hold
                // of both.
                plain.map_err(|it| if error.is_surely_not_done() { it } else { it.asked_again() })
            }
            placed => placed,
        }
    }

    async fn place_once(
        &self,
        account: &Account,
        in_use: &InUse,
        request: &OrderRequest,
        replaces: Option<&str>,
    ) -> Result<Order, AcmeError> {
        let tap = Tap::new(Arc::clone(&self.wire), account, InUse::clone(in_use), replaces);
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
            self.error(Step::PlaceOrder, &self.settings().directory, tap.fault(error))
        })?;
        let order =
            Order::new(self.settings().name.clone(), &client, placed, tap, Step::PlaceOrder)?;
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
        let directory = self.settings().directory.clone();
        instant_acme::Account::builder_with_http(Box::new(tap.clone()))
            .from_parts(account.url.clone(), account.key.pkcs8(), directory)
            .await
            .map_err(|error| self.error(step, &self.settings().directory, tap.fault(error)))
    }

    /// A CA that does not know a profile must say so; one that knows no profiles would pass over
    /// the field and make another certificate than was wanted.
    async fn check_profile(&self, profile: Option<&str>) -> Result<(), AcmeError> {
        let Some(profile) = profile else { return Ok(()) };
        if self.accounts.directory().await?.meta.profiles.contains_key(profile) {
            return Ok(());
        }
        self.wire.forget_directory().await;
        let directory = self.accounts.directory().await?;
        if directory.meta.profiles.contains_key(profile) {
            return Ok(());
        }
        let offered = directory.meta.profiles.keys().map(|it| escaped(it)).collect();
        let ca = self.settings().name.clone();
        Err(AcmeError::ProfileNotOffered { ca, profile: profile.to_owned(), offered })
    }

    /// The CA's directory, for `step`.
    pub(super) async fn directory(&self, step: Step) -> Result<Arc<Directory>, AcmeError> {
        let fetched = self.wire.directory().await;
        fetched.map_err(|fault| self.error(step, &self.settings().directory, fault))
    }

    /// The way to the CA.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn error(&self, step: Step, url: &str, fault: WireError) -> AcmeError {
        AcmeError::new(&self.settings().name, step, url, fault, self.wire.clock().now())
    }
}

impl std::fmt::Debug for AcmeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeClient").field("ca", &self.settings().name).finish_non_exhaustive()
    }
}

/// Whether an order that replaces a certificate may have failed by that. A CA that stumbles over
/// its own record of the old certificate answers 500, each time; one that is down answers 503.
fn may_be_of_replaces(error: &AcmeError) -> bool {
    match error {
        AcmeError::Refused { problem, .. } => problem.kind != ProblemKind::AccountDoesNotExist,
        AcmeError::Unavailable { problem, retry_at: None, .. } => problem.status == Some(500),
        _ => false,
    }
}

fn in_their_words(identifier: &Identifier) -> instant_acme::Identifier {
    match identifier {
        Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
    }
}
