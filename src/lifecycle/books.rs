//! Keeps the books: what was spent of each CA's limits, on disk and for all certificates at once.
//!
//! Of each CA one change at a time is made, and is on disk before what it counts is asked for, so
//! that eight certificates that ask at once spend eight times. Whoever only looks sees what was
//! last written.
//!
//! Not here: what is allowed and what follows ([`crate::plan::ledger`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::issue::{AskError, Bookkeeper, Entry, Purpose, Replaced, Request};
use crate::model::{
    AllowanceStatus, CaName, CertificateSpec, Held, Identifier, Ledger, LedgerRecord, Limits,
    OrderWish, Refusal, Said, StorageError, Timestamp, chain_text,
};
use crate::plan::{Asked, ledger};
use crate::sys::clock::Clock;

use super::Lifecycle;
use super::facts::Facts;

/// The books of all CAs that speak ACME.
pub struct Books {
    ledger: Arc<dyn Ledger>,
    limits: BTreeMap<CaName, Limits>,
    clock: Arc<dyn Clock>,
    kept: Arc<Kept>,
}

/// What outlives a configuration: the book of each CA.
type Kept = Mutex<BTreeMap<CaName, Arc<Book>>>;

/// The book of one CA.
#[derive(Default)]
struct Book {
    /// What was last written; `None` before it was read.
    known: Mutex<Option<Arc<LedgerRecord>>>,
    // Held while it is read, on purpose: eight who ask at once read it once.
    opening: tokio::sync::Mutex<()>,
    // Held while a change is written, on purpose: the next one must see it.
    writing: tokio::sync::Mutex<()>,
}

impl Book {
    fn known(&self) -> MutexGuard<'_, Option<Arc<LedgerRecord>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Books kept in `ledger`, of CAs with these `limits`.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        limits: BTreeMap<CaName, Limits>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { ledger, limits, clock, kept: Arc::default() }
    }

    /// The same books with other `limits`, as a new configuration has them.
    #[must_use]
    pub fn with_limits(&self, limits: BTreeMap<CaName, Limits>) -> Self {
        let (ledger, clock) = (self.ledger.clone(), self.clock.clone());
        Self { ledger, limits, clock, kept: self.kept.clone() }
    }

    /// Reads what is known of `ca`, if that was not done yet. Where that is nothing, it is made of
    /// the certificates that are held, and kept at once: to look through all of them takes a while.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub async fn open(&self, ca: &CaName) -> Result<(), StorageError> {
        let book = self.book(ca);
        let Some(limits) = self.limits.get(ca) else { return Ok(()) };
        let _alone = book.opening.lock().await;
        if book.known().is_some() {
            return Ok(());
        }
        let record = match self.ledger.load_ledger(ca).await? {
            Some(record) => record,
            None => {
                let orders = self.ledger.past_orders(&limits.directory).await?;
                let record = ledger::rebuilt(limits, orders, self.clock.now());
                self.keep_rebuilt(ca, &record).await;
                record
            }
        };
        *book.known() = Some(Arc::new(record));
        Ok(())
    }

    /// Keeps `record`, which was made anew. Where that can't be done, as by who only reads, the
    /// next process makes it again.
    async fn keep_rebuilt(&self, ca: &CaName, record: &LedgerRecord) {
        if !self.ledger.keeps_ledgers() {
            return;
        }
        if let Err(error) = self.ledger.save_ledger(ca, record).await {
            tracing::warn!(%ca, error = chain_text(&error), "the ledger can't be kept");
        }
    }

    /// What an order of `wish` at `ca` would be refused for now.
    #[must_use]
    pub fn refusal(&self, ca: &CaName, wish: &OrderWish<'_>) -> Option<Refusal> {
        let limits = self.limits.get(ca)?;
        ledger::refusal(&self.record(ca), limits, wish, self.clock.now())
    }

    /// What going on with an order at `ca` would be refused for now. Its proofs are not asked of:
    /// they may be spent already, and by itself; who shows more of them asks.
    fn request_refusal(&self, ca: &CaName) -> Option<Refusal> {
        self.limits.get(ca)?;
        ledger::request_refusal(&self.record(ca), self.clock.now())
    }

    /// How long the last certificate for `identifiers` from `ca` lived.
    fn known_lifetime(&self, ca: &CaName, identifiers: &[Identifier]) -> Option<Duration> {
        ledger::known_lifetime(&self.record(ca), identifiers)
    }

    /// What is left at `ca` for an order of `wish`, for people; `None` of a CA without books.
    fn status(
        &self,
        ca: &CaName,
        wish: &OrderWish<'_>,
        refusal: Option<&Refusal>,
    ) -> Option<AllowanceStatus> {
        let limits = self.limits.get(ca)?;
        let limits = ledger::left(&self.record(ca), limits, wish, self.clock.now());
        Some(AllowanceStatus {
            ca: ca.clone(),
            refused_until: refusal.map(|it| it.until),
            refused_by: refusal.map(ToString::to_string),
            limits,
        })
    }

    /// What is known of `ca`, as that of its directory of today. Where the clock went back since it
    /// was written, what was to come is counted from now on: it would be as far away at every later
    /// look else.
    fn record(&self, ca: &CaName) -> Arc<LedgerRecord> {
        let now = self.clock.now();
        let book = self.book(ca);
        let mut known = book.known();
        let Some(record) = known.as_mut() else { return Arc::default() };
        if record.written_at.is_some_and(|it| now < it) {
            ledger::tidy(Arc::make_mut(record), now);
        }
        let directory = self.limits.get(ca).map(|it| it.directory.as_str());
        if let Some(directory) = directory.filter(|it| record.directory.as_deref() != Some(it)) {
            ledger::turn_to(Arc::make_mut(record), directory);
        }
        Arc::clone(record)
    }

    fn book(&self, ca: &CaName) -> Arc<Book> {
        let mut books = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(books.entry(ca.clone()).or_default())
    }

    /// Changes what is known of `ca`; it is on disk on return. Nothing is changed on an error.
    async fn change(
        &self,
        ca: &CaName,
        change: impl FnOnce(&mut LedgerRecord, &Limits, Timestamp) -> Result<(), Refusal> + Send,
    ) -> Result<(), AskError> {
        let Some(limits) = self.limits.get(ca) else { return Ok(()) };
        let book = self.book(ca);
        let _alone = book.writing.lock().await;
        self.open(ca).await?;
        let now = self.clock.now();
        let mut before = LedgerRecord::clone(&self.record(ca));
        ledger::tidy(&mut before, now);
        let mut record = before.clone();
        change(&mut record, limits, now)?;
        if record != before {
            self.ledger.save_ledger(ca, &record).await?;
            *book.known() = Some(Arc::new(record));
        }
        Ok(())
    }

    /// As [`Books::change`], of what is no reason to stop if it can't be written.
    async fn correct(
        &self,
        ca: &CaName,
        change: impl FnOnce(&mut LedgerRecord, &Limits, Timestamp) + Send,
    ) {
        let changed = self.change(ca, |record, limits, now| {
            change(record, limits, now);
            Ok(())
        });
        if let Err(error) = changed.await {
            tracing::warn!(%ca, error = chain_text(&error), "the ledger can't be corrected");
        }
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books").field("cas", &self.limits.keys()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bookkeeper for Books {
    async fn ask(&self, ca: &CaName, request: Request<'_>) -> Result<(), AskError> {
        let or = |refusal: Option<Refusal>| refusal.map_or(Ok(()), Err);
        let spend = |record: &mut LedgerRecord, limits: &Limits, now: Timestamp| {
            match request {
                Request::Account => {
                    or(ledger::account_refusal(record, limits, now))?;
                    ledger::spend_account(record, limits, now);
                }
                Request::Order(wish) => {
                    or(ledger::refusal(record, limits, wish, now))?;
                    ledger::spend_order(record, limits, wish, now);
                }
                Request::Glance => {
                    or(ledger::glance_refusal(record, limits, now))?;
                    ledger::spend_glance(record, limits, now);
                }
                Request::Proof(identifiers, lifetime) => {
                    or(ledger::proof_refusal(record, limits, identifiers, lifetime, now))?;
                    ledger::spend_proof(record, limits, identifiers, lifetime, now);
                }
            }
            Ok(())
        };
        self.change(ca, spend).await
    }

    async fn note(&self, ca: &CaName, entry: Entry<'_>) {
        let note = |record: &mut LedgerRecord, limits: &Limits, now: Timestamp| match entry {
            Entry::Account => ledger::spend_account(record, limits, now),
            Entry::NoAccount => ledger::give_account_back(record, limits, now),
            Entry::Replaces(wish) => ledger::settle_replacement(record, limits, wish, now),
            Entry::NoCertificate(wish, end, spent_at) => {
                ledger::give_order_back(record, limits, wish, end, spent_at, now);
            }
            Entry::Issued(identifiers, life) => ledger::note_lifetime(record, identifiers, life),
            Entry::NotFailed(identifiers, life, spent_at) => {
                ledger::give_proof_back(record, limits, identifiers, life, spent_at, now);
            }
            Entry::Proven(identifiers, life, spent_at) => {
                ledger::give_proof_back(record, limits, identifiers, life, spent_at, now);
                ledger::note_proven(record, identifiers);
            }
        };
        self.correct(ca, note).await;
    }

    async fn hear(&self, ca: &CaName, identifiers: &[Identifier], said: &Said<'_>) {
        let note = |record: &mut LedgerRecord, _: &Limits, now: Timestamp| {
            ledger::note_refusal(record, identifiers, said, now);
        };
        self.correct(ca, note).await;
    }
}

impl Lifecycle {
    /// Reads all facts of `spec`, and the books of its CAs.
    pub(super) async fn facts(&self, spec: &CertificateSpec) -> Result<Facts, StorageError> {
        // The clock is judged by what is known of it; nothing else waits for that.
        if let Err(error) = self.timekeeper.open().await {
            self.timekeeper.tell_of_record(Err(error));
        }
        for ca in &spec.cas {
            // Whoever asks for an order finds that out again, and does not get it; but nothing else
            // waits for these books.
            if let Err(error) = self.books.open(ca).await {
                tracing::warn!(%ca, error = chain_text(&error), "the ledger can't be read");
            }
        }
        Facts::read(&self.store, spec).await
    }

    /// What an order for `spec` at `ca` is for, when it is `asked` for.
    pub(super) fn purpose(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        ca: &CaName,
        asked: Asked,
    ) -> Purpose {
        let held = facts.held().filter(|it| !it.is_placeholder());
        let is_theirs = |it: &&Held| self.ca_of(spec, it) == Some(ca);
        let renews = |it: &Held| it.leaf.identifiers == spec.identifier_set();
        Purpose {
            replaces: held
                .and_then(|it| self.replaced(spec, it, ca))
                .map(|id| Replaced { is_suggested: facts.is_suggested(&id, self.clock.now()), id }),
            renews: held.filter(is_theirs).is_some_and(renews),
            by_hand: asked != Asked::ByTime,
            held_until: held.map(|it| it.leaf.validity.not_after),
            lifetime: held
                .map(|it| it.leaf.validity.lifetime())
                .or_else(|| self.books.known_lifetime(ca, &spec.identifiers)),
        }
    }

    /// Why nothing would be asked of `ca` for `spec` now.
    pub(super) fn refusal(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        ca: &CaName,
        asked: Asked,
    ) -> Option<Refusal> {
        let purpose = self.purpose(spec, facts, ca, asked);
        let wish = purpose.wish(&spec.identifiers);
        if facts.order_at.as_ref() == Some(ca) {
            self.books.request_refusal(ca)
        } else {
            self.books.refusal(ca, &wish)
        }
    }

    /// What is left for `spec` of what its CA allows; `None` of a CA that counts nothing.
    pub(super) fn allowance(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Option<AllowanceStatus> {
        let ca = spec.first_ca()?;
        let purpose = self.purpose(spec, facts, ca, Asked::ByTime);
        let refusal = self.refusal(spec, facts, ca, Asked::ByTime);
        self.books.status(ca, &purpose.wish(&spec.identifiers), refusal.as_ref())
    }
}

#[cfg(test)]
mod tests;
