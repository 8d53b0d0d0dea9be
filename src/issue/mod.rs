//! From a spec to an issued certificate: places an order, or takes up one that an earlier run left,
//! proves control, finalizes, downloads, checks. The built-in CA ([`local`]) is asked without all
//! that.
//!
//! Every step that can't be repeated is journalled before it is made: the key, then the order URL,
//! then the proofs. Whatever moment the process dies at, the next call with the same spec goes on
//! with the same order and key, so an order that the CA has filled is never paid for twice. Where
//! another CA is asked meanwhile, it is set aside, and taken up when its own CA is asked again.
//!
//! # Not here
//!
//! Whether to ask ([`crate::plan`]); storing what came back, after which the caller closes the
//! journal ([`crate::lifecycle`]).

mod books;
mod chain;
mod check;
mod csr;
mod error;
mod fitness;
mod leftover;
mod local;
mod placeholder;
mod prove;
mod revoke;
mod standing;
mod stuck;
mod subject_key;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};

pub use books::{AskError, Bookkeeper, Entry, Purpose, Replaced, Request};
pub use check::CheckError;
pub use csr::CsrError;
pub use error::{IssueError, Side};
pub use fitness::Unfit;
pub use placeholder::placeholder;
pub use twins::Twins;

use crate::acme::{AcmeClient, AcmeError, Order, OrderRequest, OrderStatus};
use crate::local_ca::LocalCa;
use crate::model::{
    CaName, CertificateName, CertificateSpec, Chain, Event, Identifier, IssuedCertificate, Journal,
    Observer, OrderEnd, OrderRecord, OrderWish, Origin, PrivateKey, SolverName, StorageError,
    Timestamp,
};
use crate::solver::Solver;
use crate::sys::clock::Clock;
use crate::sys::crash;

use subject_key::SubjectKey;

/// For so long after it was placed an order is kept at least though its certificate is in no
/// configuration any more: one that is being written, cut between two entries, is no faulty one, and what the CA
/// has issued meanwhile need not be ordered twice.
const MAY_BE_WANTED_AGAIN: Duration = Duration::from_hours(24);

/// For longer it is not kept, whenever its CA says that it ends.
const NOT_WANTED_AGAIN: Duration = Duration::from_hours(30 * 24);

/// How long the CA may take to validate, and again to issue. An order outlives it: the next try
/// takes it up where it stands.
const ORDER_LIMIT: Duration = Duration::from_secs(300);

/// The ways to the proofs of so many identifiers are looked at at once.
const IDENTIFIERS_AT_ONCE: usize = 8;

/// What it takes to get a certificate from any of the configured CAs.
pub struct Issuer {
    /// A client for each CA.
    pub clients: BTreeMap<CaName, Arc<AcmeClient>>,
    /// The built-in CAs.
    pub local: BTreeMap<CaName, Arc<LocalCa>>,
    /// All solvers.
    pub solvers: BTreeMap<SolverName, Arc<dyn Solver>>,
    /// Keeps orders that are on their way.
    pub journal: Arc<dyn Journal>,
    /// Counts what CAs count, before they do.
    pub books: Arc<dyn Bookkeeper>,
    /// Of each CA: held while an account may be made, on purpose: all that start together make one.
    pub registering: BTreeMap<CaName, tokio::sync::Mutex<()>>,
    /// Of each certificate that others have the identifiers of: those, and it.
    pub twins: BTreeMap<CertificateName, Arc<Twins>>,
    /// For what is journalled.
    pub clock: Arc<dyn Clock>,
    /// Hears of resumed orders.
    pub observer: Arc<dyn Observer>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("cas", &self.clients.keys())
            .field("solvers", &self.solvers.keys())
            .finish_non_exhaustive()
    }
}

/// An order and the key that it is for.
struct Work {
    order: Order,
    record: OrderRecord,
    key: SubjectKey,
}

impl Issuer {
    /// Gets a certificate for `spec` from `ca`; at most one order of `spec.name` at a time.
    ///
    /// It is for the key `reused`, else for a new one; where an earlier order goes on, for that
    /// one's.
    ///
    /// What the CA counts is spent in the books before it is asked for, and not asked for where
    /// they refuse: [`IssueError::HeldBack`]. What is under way stays so then.
    ///
    /// On return with a certificate the journal still holds its order: [`Issuer::close`] it when
    /// the certificate is stored. After an error it holds what the next call goes on with.
    ///
    /// # Errors
    ///
    /// [`IssueError`] says what failed, and by [`IssueError::side`] on whose side.
    pub async fn issue(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
        purpose: &Purpose,
        reused: Option<&PrivateKey>,
    ) -> Result<IssuedCertificate, IssueError> {
        if let Some(local) = self.local.get(ca) {
            return self.issue_locally(spec, local, reused).await;
        }
        let client = self.clients.get(ca).ok_or_else(|| IssueError::UnknownCa(ca.clone()))?;
        let _turn = self.turn(spec, ca).await?;
        self.order(spec, client, purpose, reused).await
    }

    /// The same at the CA of `client`, while no other certificate for these names is at it.
    async fn order(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        purpose: &Purpose,
        reused: Option<&PrivateKey>,
    ) -> Result<IssuedCertificate, IssueError> {
        self.make_way(spec, &client.settings().name).await?;
        let journalled = self.journal.load_order(&spec.name).await?;
        if journalled.is_none() {
            self.check_solvers(spec).await?;
        }
        self.account(spec, client).await?;
        crash::point("issue.account");

        if let Some(mut resumed) = self.resume(spec, client, journalled, purpose).await? {
            let issued = self.carry_out(spec, client, &mut resumed, purpose).await;
            if !self.note_outcome(spec, &mut resumed, purpose, &issued).await? {
                return issued;
            }
            // The CA may have looked for the proofs while nobody showed them: a crash is no
            // failure, and an order that gave nothing costs nothing. The next one is on its own.
            self.note_end(&spec.name, &mut resumed, purpose).await;
            self.close(spec).await?;
            self.check_solvers(spec).await?;
        }
        let mut placed = self.place(spec, client, purpose, reused).await?;
        let issued = self.carry_out(spec, client, &mut placed, purpose).await;
        if self.note_outcome(spec, &mut placed, purpose, &issued).await? {
            self.note_end(&spec.name, &mut placed, purpose).await;
            self.close(spec).await?;
        }
        issued
    }

    /// Sees that what is on its way for `spec`, if anything is, is an order at `ca`: one at another
    /// CA is set aside, and one at `ca` that was set aside is taken up.
    async fn make_way(&self, spec: &CertificateSpec, ca: &CaName) -> Result<(), StorageError> {
        let journalled = self.journal.load_order(&spec.name).await?;
        if let Some((record, _)) = journalled.filter(|(record, _)| record.ca != *ca) {
            // Nobody looks for its proofs while another CA is asked.
            self.clean_up_leftovers(&record).await;
            let record = OrderRecord { presented: Vec::new(), ..record };
            self.journal.save_order(&spec.name, &record).await?;
            self.journal.set_order_aside(&spec.name).await?;
        }
        self.journal.take_up_order(&spec.name, ca).await
    }

    /// Forgets the orders of `spec` at CAs that are not asked any more.
    ///
    /// # Errors
    ///
    /// If the journal can't be written.
    pub async fn forget_set_aside(&self, spec: &CertificateSpec) -> Result<(), StorageError> {
        self.journal.forget_set_aside(&spec.name).await
    }

    /// Finds the account at the CA of `client`, or makes one, which is counted before it is asked
    /// for; `spec` is whose certificate it is for.
    ///
    /// # Errors
    ///
    /// [`IssueError`] says why there is none.
    pub async fn account(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
    ) -> Result<(), IssueError> {
        let ca = &client.settings().name;
        let alone = match self.registering.get(ca) {
            Some(it) => Some(it.lock().await),
            None => None,
        };
        if client.has_account().await? {
            drop(alone);
            client.account_url().await?;
            return Ok(());
        }
        self.books.ask(ca, Request::Account).await?;
        let made = client.account_url().await;
        if let Err(error) = &made {
            if error.is_surely_not_done() {
                self.books.note(ca, Entry::NoAccount).await;
            }
            self.hear(ca, spec, error).await;
        }
        made?;
        Ok(())
    }

    /// Takes away all that a run which died left of an order that does not go on: its certificate
    /// is stored, or it is not wanted any more. Nothing there is fine.
    ///
    /// # Errors
    ///
    /// If the journal can't be read or written.
    pub async fn forget(&self, name: &CertificateName) -> Result<(), StorageError> {
        if let Some((record, _)) = self.journal.load_order(name).await? {
            self.clean_up_leftovers(&record).await;
        }
        self.journal.close_order(name).await
    }

    /// Takes away the proofs of an order for a certificate that nobody wants by now. The order
    /// itself is kept until the CA forgets it, but for a day after it was placed at least, and for a
    /// month at most.
    ///
    /// # Errors
    ///
    /// If the journal can't be read or written.
    pub async fn let_go(&self, name: &CertificateName) -> Result<(), StorageError> {
        let Some((mut record, _)) = self.journal.load_order(name).await? else {
            return self.journal.close_order(name).await;
        };
        let least = record.placed_at.saturating_add(MAY_BE_WANTED_AGAIN);
        let most = record.placed_at.saturating_add(NOT_WANTED_AGAIN);
        let until = record.expires_at.unwrap_or(least).clamp(least, most);
        if self.clock.now() >= until {
            return self.forget(name).await;
        }
        if !record.presented.is_empty() {
            self.clean_up_leftovers(&record).await;
            // A provider takes its time: it may be wanted again by now, and have been gone on with.
            let now = self.journal.load_order(name).await?;
            if now.is_some_and(|(it, _)| it == record) {
                record.presented.clear();
                self.journal.save_order(name, &record).await?;
            }
        }
        Ok(())
    }

    /// Forgets the order of `spec`: its certificate is stored, or nobody wants it any more.
    ///
    /// # Errors
    ///
    /// If the journal can't be written.
    pub async fn close(&self, spec: &CertificateSpec) -> Result<(), IssueError> {
        Ok(self.journal.close_order(&spec.name).await?)
    }

    /// Brings the order of `work` to its certificate.
    async fn carry_out(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        work: &mut Work,
        purpose: &Purpose,
    ) -> Result<IssuedCertificate, IssueError> {
        let issued = self.go_through(spec, client, work, purpose).await;
        if let Err(IssueError::Acme(error)) = &issued {
            self.hear(&work.record.ca, spec, error).await;
        }
        issued
    }

    async fn go_through(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        work: &mut Work,
        purpose: &Purpose,
    ) -> Result<IssuedCertificate, IssueError> {
        if work.order.status() == OrderStatus::Pending {
            self.prove(spec, client, work, purpose).await?;
        } else {
            self.settle_proofs(spec, work, &[], purpose.lifetime).await;
            self.clean_up_leftovers(&work.record).await;
        }
        if work.order.status() == OrderStatus::Ready {
            let csr = work.key.request(&spec.identifiers)?;
            crash::point("issue.before_finalize");
            work.order.finalize(&csr).await?;
            crash::point("issue.after_finalize");
        }
        let pem = work.order.download(ORDER_LIMIT).await?;
        crash::point("issue.downloaded");
        let checked =
            Chain::parse_pem(pem.as_bytes()).map_err(IssueError::from).and_then(|chain| {
                check::check(&chain, &work.key, &spec.identifiers, self.clock.now())?;
                Ok(chain)
            });
        match checked {
            Ok(chain) => {
                let chain = self.preferred(spec, &work.order, chain).await;
                let issued = self.certificate(spec, client, work, chain)?;
                self.note_issued(&work.record.ca, &issued).await;
                Ok(issued)
            }
            // Ours may be the clock that is wrong; what is paid for is there when that is mended.
            Err(error @ IssueError::NotAsOrdered(CheckError::NotYetValid { .. })) => Err(error),
            Err(error) => {
                // A filled order with the wrong certificate would be downloaded again for ever.
                self.close(spec).await?;
                Err(error)
            }
        }
    }

    fn certificate(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        work: &Work,
        chain: Chain,
    ) -> Result<IssuedCertificate, IssueError> {
        let origin = Origin {
            ca: work.record.ca.clone(),
            directory: work.record.directory.clone(),
            profile: work.record.profile.clone(),
            preferred_chain: spec.preferred_chain.clone(),
            key_type: work.record.key_type,
            csr: work.record.csr,
            issued_at: self.clock.now(),
            order_url: Some(work.order.url().to_owned()),
            test: client.settings().test,
        };
        Ok(IssuedCertificate { chain, key: work.key.ours(), origin })
    }

    /// Finds out whether the way to a proof of each identifier of `spec` is there now, if `ca` is
    /// one that wants proofs.
    ///
    /// # Errors
    ///
    /// [`IssueError::SolverNotReady`] of the first of which it is not.
    pub async fn check_identifiers(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
    ) -> Result<(), IssueError> {
        if !self.clients.contains_key(ca) {
            return Ok(());
        }
        let asked: Vec<_> = spec.solvers.iter().map(|it| self.check_way(it).boxed()).collect();
        futures_util::stream::iter(asked).buffered(IDENTIFIERS_AT_ONCE).try_collect().await
    }

    async fn check_way(&self, (of, name): (&Identifier, &SolverName)) -> Result<(), IssueError> {
        let checked = self.solver(name)?.check_identifier(of).await;
        checked.map_err(|source| IssueError::SolverNotReady {
            solver: name.clone(),
            source: Box::new(source),
        })
    }

    /// Asks every solver of `spec` whether it could work: no order is placed that can't be proven.
    async fn check_solvers(&self, spec: &CertificateSpec) -> Result<(), IssueError> {
        let names: BTreeSet<_> = spec.solvers.values().collect();
        for name in names {
            let solver = self.solver(name)?;
            solver.check().await.map_err(|source| IssueError::SolverNotReady {
                solver: name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// The order that an earlier run left, if it is for the same thing and still alive.
    async fn resume(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        journalled: Option<(OrderRecord, Option<PrivateKey>)>,
        purpose: &Purpose,
    ) -> Result<Option<Work>, IssueError> {
        let Some((mut record, key)) = journalled else { return Ok(None) };
        let mut order_url = record.order_url.clone().filter(|_| is_for(&record, spec, client));
        if let Some(url) = &order_url
            && self.twin_at(spec, &record.ca, url).await?.is_some()
        {
            order_url = None;
        }
        if let (Some(order_url), Some(key)) = (order_url, SubjectKey::of_journal(spec, key)) {
            match client.order(&order_url).await {
                Ok(order) if is_alive(&order, &record, self.clock.now()) => {
                    record.expires_at = end_of(&order, &record);
                    self.observer.observe(&Event::OrderResumed {
                        certificate: spec.name.clone(),
                        order_url,
                    });
                    return Ok(Some(Work { order, record, key }));
                }
                Ok(order) if is_in_vain(&order, &record, self.clock.now()) => {
                    self.note_no_certificate(&spec.name, &mut record, purpose).await;
                }
                // It may have been filled, here and where the CA does not know it any more: what it
                // cost stays spent.
                Ok(_) => {}
                Err(error) if error.is_end_of_order() => {}
                Err(error) => {
                    self.hear(&record.ca, spec, &error).await;
                    let held_until = purpose.held_until;
                    if !self.note_unseen(spec, client, &mut record, held_until, &error).await? {
                        return Err(error.into());
                    }
                }
            }
        }
        self.clean_up_leftovers(&record).await;
        self.journal.close_order(&spec.name).await?;
        // Not asked before: an order that needs no proof any more needs no solver.
        self.check_solvers(spec).await?;
        Ok(None)
    }

    async fn place(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        purpose: &Purpose,
        reused: Option<&PrivateKey>,
    ) -> Result<Work, IssueError> {
        let key = SubjectKey::choose(spec, reused).await?;
        match &key {
            SubjectKey::Ours(key) => self.journal.save_pending_key(&spec.name, key).await?,
            // An order that was for another key must not find this one's.
            SubjectKey::Elsewhere(_) => self.journal.close_order(&spec.name).await?,
        }
        let settings = client.settings();
        let mut record = OrderRecord {
            ca: settings.name.clone(),
            directory: settings.directory.clone(),
            order_url: None,
            identifiers: spec.identifiers.clone(),
            profile: spec.profile.clone(),
            key_type: spec.key_type,
            csr: spec.request().map(|it| it.sha256),
            placed_at: self.clock.now(),
            expires_at: None,
            stuck_since: None,
            counted: None,
            unsettled: Vec::new(),
            proofs_spent_at: None,
            presented: Vec::new(),
        };
        let request = OrderRequest {
            identifiers: spec.identifiers.clone(),
            profile: spec.profile.clone(),
            replaces: purpose.replaces.as_ref().map(|it| it.id.to_string()),
        };
        let wish = purpose.wish(&spec.identifiers);
        self.books.ask(&settings.name, Request::Order(&wish)).await?;
        record.placed_at = self.clock.now();
        let placed = self.new_order(client, &request).await;
        let counted = self.note_placed(&settings.name, &wish, record.placed_at, &placed).await;
        record.counted = Some(counted);
        if let Err(error) = &placed {
            self.hear(&settings.name, spec, error).await;
        }
        let order = placed?;
        if let Some(twin) = self.twin_at(spec, &settings.name, order.url()).await? {
            let spent = OrderWish { kind: counted, ..wish };
            let entry = Entry::NoCertificate(&spent, OrderEnd::NotPlaced, record.placed_at);
            self.books.note(&settings.name, entry).await;
            let url = order.url().to_owned();
            return Err(IssueError::OrderOfTwin { ca: settings.name.clone(), twin, url });
        }
        crash::point("issue.ordered");
        record.order_url = Some(order.url().to_owned());
        record.expires_at = order.expires_at();
        self.journal.save_order(&spec.name, &record).await?;
        Ok(Work { order, record, key })
    }

    /// As [`AcmeClient::new_order`]; an account that is made meanwhile, since the CA has forgotten
    /// ours, is counted.
    async fn new_order(
        &self,
        client: &AcmeClient,
        request: &OrderRequest,
    ) -> Result<Order, AcmeError> {
        let before = client.account_url().await?;
        let placed = client.new_order(request).await;
        if client.known_account_url().await.is_some_and(|it| it != before) {
            self.books.note(&client.settings().name, Entry::Account).await;
        }
        placed
    }

    fn solver(&self, name: &SolverName) -> Result<&Arc<dyn Solver>, IssueError> {
        self.solvers.get(name).ok_or_else(|| IssueError::UnknownSolver(name.clone()))
    }
}

fn is_for(record: &OrderRecord, spec: &CertificateSpec, client: &AcmeClient) -> bool {
    let settings = client.settings();
    let ordered: BTreeSet<_> = record.identifiers.iter().cloned().collect();
    record.ca == settings.name
        && record.directory == settings.directory
        && ordered == spec.identifier_set()
        && record.profile == spec.profile
        && record.key_type == spec.key_type
        && record.csr == spec.request().map(|it| it.sha256)
}

/// Whether `order` may still lead to what `record` says was ordered.
fn is_alive(order: &Order, record: &OrderRecord, now: Timestamp) -> bool {
    // What is valid is downloaded however late.
    !is_dead(order)
        && (order.status() == OrderStatus::Valid || !has_ended(order, record, now))
        && order.check_identifiers(&record.identifiers).is_ok()
}

/// Whether the time of `order` is over. A CA that never gets on with an order may never call it
/// invalid either; but an end before the beginning says more about a clock.
fn has_ended(order: &Order, record: &OrderRecord, now: Timestamp) -> bool {
    is_over_at(end_of(order, record), record, now)
}

/// When `order` ends: the CA need not say so in every state (RFC 8555 §7.1.3), and what it said
/// before still holds.
fn end_of(order: &Order, record: &OrderRecord) -> Option<Timestamp> {
    order.expires_at().or(record.expires_at)
}

/// The same of an order that ends so.
fn is_over_at(expires_at: Option<Timestamp>, record: &OrderRecord, now: Timestamp) -> bool {
    expires_at.is_some_and(|end| record.placed_at < end && end <= now)
}

/// Whether `order` has given no certificate, and gives none any more.
fn is_in_vain(order: &Order, record: &OrderRecord, now: Timestamp) -> bool {
    let is_unfilled = matches!(order.status(), OrderStatus::Pending | OrderStatus::Ready);
    is_dead(order) || (is_unfilled && has_ended(order, record, now))
}

/// Whether nothing can come of `order` any more.
fn is_over(issued: &Result<IssuedCertificate, IssueError>, order: &Order) -> bool {
    match issued {
        Err(IssueError::Acme(error)) => error.is_end_of_order() || is_dead(order),
        Err(_) => is_dead(order),
        Ok(_) => false,
    }
}

fn is_dead(order: &Order) -> bool {
    order.status() == OrderStatus::Invalid
}
