//! Keeps the books: what was spent of each CA's limits, on disk and for all certificates at once.
//!
//! One change at a time is made, and is on disk before what it counts is asked for, so that eight
//! certificates that ask at once spend eight times. Whoever only looks sees what was last written.
//!
//! Not here: what is allowed and what follows ([`crate::plan::ledger`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::issue::{AskError, Bookkeeper, Entry, Purpose, Request};
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

    /// Reads what is known of `ca`, if that was not done yet.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub async fn open(&self, ca: &CaName) -> Result<(), StorageError> {
        let book = self.book(ca);
        if !self.limits.contains_key(ca) || book.known().is_some() {
            return Ok(());
        }
        let record = self.ledger.load_ledger(ca).await?.unwrap_or_default();
        book.known().get_or_insert_with(|| Arc::new(record));
        Ok(())
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
        if let Some(record) = book.known().as_mut() {
            ledger::tidy(Arc::make_mut(record), now);
        }
        let before = self.record(ca);
        let mut record = LedgerRecord::clone(&before);
        change(&mut record, limits, now)?;
        if record != *before {
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
            Entry::NoCertificate(wish, end) => {
                ledger::give_order_back(record, limits, wish, end, now);
            }
            Entry::Issued(identifiers, life) => ledger::note_lifetime(record, identifiers, life),
            Entry::NotFailed(identifiers, life) => {
                ledger::give_proof_back(record, limits, identifiers, life, now);
            }
            Entry::Proven(identifiers, life) => {
                ledger::give_proof_back(record, limits, identifiers, life, now);
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
            tracing::warn!(error = chain_text(&error), "the clock's record can't be read");
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
            replaces: held.and_then(|it| self.replaced(spec, it, ca)),
            renews: held.filter(is_theirs).is_some_and(renews),
            by_hand: asked != Asked::ByTime,
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
mod tests {
    use super::*;
    use crate::model::{Limit, OrderEnd, OrderKind, RefusedStep};
    use crate::store::{Store, StoreSettings};
    use crate::sys::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);
    const BY_HAND: OrderKind = OrderKind { replaces: false, renews: false, by_hand: true };

    struct World {
        clock: Arc<ManualClock>,
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
            Self { clock, folder: tempfile::tempdir().unwrap() }
        }

        /// The books of a new process, of a CA that takes `orders`.
        async fn books(&self, orders: &str) -> Arc<Books> {
            let settings = StoreSettings {
                state_dir: self.folder.path().join("state"),
                run_dir: self.folder.path().join("run"),
            };
            let store = Store::open(&settings, self.clock.clone(), Duration::ZERO).await.unwrap();
            let rates = [(Limit::NewOrders, orders.parse().unwrap())].into();
            let limits = [(ca(), Limits { rates, ..Limits::default() })].into();
            Arc::new(Books::new(Arc::new(store), limits, self.clock.clone()))
        }
    }

    fn ca() -> CaName {
        "lab".parse().unwrap()
    }

    fn site(number: u32) -> Vec<Identifier> {
        vec![format!("site{number}.example").parse().unwrap()]
    }

    async fn order(books: &Books, number: u32) -> Result<(), AskError> {
        let site = site(number);
        let wish = OrderWish { identifiers: &site, kind: BY_HAND, lifetime: None };
        books.ask(&ca(), Request::Order(&wish)).await
    }

    #[tokio::test]
    async fn those_who_ask_at_once_spend_no_more_than_there_is_also_after_a_crash() {
        let world = World::new();
        let books = world.books("3/1h").await;
        let asked = (0..8).map(|it| {
            let books = books.clone();
            tokio::spawn(async move { order(&books, it).await.is_ok() })
        });
        let mut placed = 0;
        for task in asked.collect::<Vec<_>>() {
            placed += u32::from(task.await.unwrap());
        }
        assert_eq!(placed, 3);
        // What was spent is on disk before it is asked for: a crash counts.
        drop(books);
        let books = world.books("3/1h").await;
        assert!(matches!(order(&books, 9).await, Err(AskError::Refused(_))));
        world.clock.advance(HOUR / 3);
        order(&books, 9).await.unwrap();
        assert!(order(&books, 9).await.is_err());
    }

    #[tokio::test]
    async fn what_was_not_taken_is_there_again_and_other_limits_find_what_was_spent() {
        let world = World::new();
        let books = world.books("1/1h").await;
        order(&books, 1).await.unwrap();
        let spent = site(1);
        let wish = OrderWish { identifiers: &spent, kind: BY_HAND, lifetime: None };
        books.note(&ca(), Entry::NoCertificate(&wish, OrderEnd::NotPlaced)).await;
        order(&books, 2).await.unwrap();
        let rates = [(Limit::NewOrders, "2/1h".parse().unwrap())].into();
        let limits = [(ca(), Limits { rates, ..Limits::default() })].into();
        let books = books.with_limits(limits);
        order(&books, 3).await.unwrap();
        assert!(order(&books, 4).await.is_err());
    }

    /// A02, A03: what the CA said until when holds after a restart, for all that it concerns, and a
    /// moment in the past holds for nothing.
    #[tokio::test]
    async fn what_the_ca_said_outlives_the_process() {
        let world = World::new();
        let books = world.books("300/3h").await;
        let now = world.clock.now();
        let text = "too many new orders (300) from this account in the last 3h0m0s";
        let said = |until| Said { step: RefusedStep::Order, status: 429, text, until };
        books.hear(&ca(), &site(1), &said(now)).await;
        order(&books, 1).await.unwrap();
        books.hear(&ca(), &site(1), &said(now.saturating_add(HOUR))).await;
        drop(books);
        let books = world.books("300/3h").await;
        let Err(AskError::Refused(refusal)) = order(&books, 2).await else { panic!("let pass") };
        assert_eq!(
            (refusal.until, refusal.said.as_deref()),
            (now.saturating_add(HOUR), Some(text))
        );
        world.clock.advance(HOUR);
        order(&books, 2).await.unwrap();
    }

    /// Another directory under the same name is another CA: it has refused and counted nothing. Who
    /// goes back and forth wins nothing.
    #[tokio::test]
    async fn what_one_directory_counted_is_none_of_another_and_is_there_when_the_name_goes_back() {
        let world = World::new();
        let at = |directory: &str| {
            let rates = [(Limit::NewOrders, "1/1h".parse().unwrap())].into();
            let directory = directory.to_owned();
            [(ca(), Limits { directory, rates, ..Limits::default() })].into()
        };
        let real = world.books("1/1h").await.with_limits(at("https://real.example"));
        order(&real, 1).await.unwrap();
        let said = Said {
            step: RefusedStep::Order,
            status: 503,
            text: "Service busy; retry later.",
            until: world.clock.now().saturating_add(2 * HOUR),
        };
        real.hear(&ca(), &site(1), &said).await;
        let test = real.with_limits(at("https://test.example"));
        order(&test, 1).await.unwrap();
        assert!(matches!(order(&test, 1).await, Err(AskError::Refused(_))));
        // On disk, too.
        drop((real, test));
        let books = world.books("1/1h").await;
        let real = books.with_limits(at("https://real.example"));
        let Err(AskError::Refused(refusal)) = order(&real, 1).await else { panic!("let pass") };
        assert_eq!(refusal.said.as_deref(), Some("Service busy; retry later."));
        world.clock.advance(2 * HOUR);
        order(&real, 1).await.unwrap();
    }

    /// Our own caps are no CA's.
    #[tokio::test]
    async fn who_changes_the_directory_again_and_again_is_held_by_our_own_caps() {
        let world = World::new();
        let mut books = world.books("300/3h").await;
        let mut placed = 0;
        for round in 0..9 {
            let directory = format!("https://ca{round}.example");
            books = books
                .with_limits([(ca(), Limits { directory, ..Limits::default() })].into())
                .into();
            let site = site(1);
            let kind = OrderKind { by_hand: false, ..BY_HAND };
            let wish = OrderWish { identifiers: &site, kind, lifetime: None };
            placed += u32::from(books.ask(&ca(), Request::Order(&wish)).await.is_ok());
        }
        assert_eq!(placed, 5);
    }

    /// D11: what can't be read is not taken for nothing: no order is placed by it.
    #[tokio::test]
    async fn where_the_ledger_cannot_be_read_nothing_is_asked_for_until_it_can() {
        let world = World::new();
        let books = world.books("3/1h").await;
        let ledger = world.folder.path().join("state/private/ledger/lab.json");
        std::fs::create_dir_all(&ledger).unwrap();
        let Err(AskError::Storage(error)) = order(&books, 1).await else { panic!("let pass") };
        assert!(chain_text(&error).contains("ledger/lab.json"), "{}", chain_text(&error));
        std::fs::remove_dir(&ledger).unwrap();
        order(&books, 1).await.unwrap();
    }

    /// D01: what can't be written is not asked for, and was not spent.
    #[tokio::test]
    async fn where_the_ledger_cannot_be_written_nothing_is_asked_for_and_nothing_is_spent() {
        let world = World::new();
        let books = world.books("1/1h").await;
        books.open(&ca()).await.unwrap();
        let folder = world.folder.path().join("state/private/ledger");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        for _ in 0..9 {
            assert!(matches!(order(&books, 1).await, Err(AskError::Storage(_))));
        }
        std::fs::remove_file(&folder).unwrap();
        order(&books, 1).await.unwrap();
        assert!(matches!(order(&books, 1).await, Err(AskError::Refused(_))));
    }

    /// T01: what was noted by a clock that ran ahead lasts as long as it was to, from when that is put
    /// right; in a process that saw it and in the next one.
    #[tokio::test]
    async fn what_a_clock_that_ran_ahead_noted_does_not_move_along_with_the_time() {
        for is_new_process in [false, true] {
            let world = World::new();
            let mut books = world.books("300/3h").await;
            let right = world.clock.now();
            let ahead = right.saturating_add(30 * 24 * HOUR);
            world.clock.step(ahead);
            let said = Said {
                step: RefusedStep::Order,
                status: 429,
                text: "Service busy; retry later.",
                until: ahead.saturating_add(HOUR),
            };
            books.hear(&ca(), &site(1), &said).await;
            world.clock.step(right);
            if is_new_process {
                drop(books);
                books = world.books("300/3h").await;
            }
            assert!(matches!(order(&books, 1).await, Err(AskError::Refused(_))));
            world.clock.advance(HOUR / 2);
            assert!(order(&books, 1).await.is_err());
            world.clock.advance(HOUR / 2);
            order(&books, 1).await.unwrap();
        }
    }
}
