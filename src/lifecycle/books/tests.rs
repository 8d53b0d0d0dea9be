use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::model::{Limit, OrderEnd, OrderKind, PastOrder, RefusedStep};
use crate::store::{OpenError, Store, StoreSettings};
use crate::sys::atomic::{self, Access};
use crate::sys::clock::{ManualClock, SystemClock};

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
        let store = Store::open(&settings, self.clock.clone(), Duration::ZERO).await;
        // A program that another test starts just now may hold the lock of the one before.
        let store = match store {
            Err(OpenError::Held { .. }) => {
                let clock = Arc::new(SystemClock::new());
                drop(Store::open(&settings, clock, Duration::from_secs(20)).await.unwrap());
                Store::open(&settings, self.clock.clone(), Duration::ZERO).await
            }
            store => store,
        };
        let store = store.unwrap();
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
    let entry = Entry::NoCertificate(&wish, OrderEnd::NotPlaced, world.clock.now());
    books.note(&ca(), entry).await;
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
    assert_eq!((refusal.until, refusal.said.as_deref()), (now.saturating_add(HOUR), Some(text)));
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
        books =
            books.with_limits([(ca(), Limits { directory, ..Limits::default() })].into()).into();
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
    atomic::write(&folder, b"", Access::mode(0o600)).unwrap();
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

/// One CA whose ledger takes its time is none of another's.
#[tokio::test]
async fn a_ledger_that_is_being_written_keeps_no_other_ca_waiting() {
    let rates: BTreeMap<_, _> = [(Limit::NewOrders, "3/1h".parse().unwrap())].into();
    let limits =
        |ca: &str| (ca.parse().unwrap(), Limits { rates: rates.clone(), ..Limits::default() });
    let clock = World::new().clock;
    let books = Books::new(Arc::new(Slow), [limits("slow"), limits("lab")].into(), clock);
    let site = site(1);
    let wish = OrderWish { identifiers: &site, kind: BY_HAND, lifetime: None };
    let slow = "slow".parse().unwrap();
    tokio::select! {
        biased;
        _ = books.ask(&slow, Request::Order(&wish)) => panic!("it is written"),
        asked = async {
            tokio::task::yield_now().await;
            order(&books, 1).await
        } => asked.unwrap(),
    }
}

/// D11: a ledger that is not there is made once for all who ask at once.
#[tokio::test]
async fn a_lost_ledger_is_made_once_for_all_who_ask_at_once() {
    let counting = Arc::new(Counting::default());
    let limits = [(ca(), Limits::default())].into();
    let books = Books::new(counting.clone(), limits, World::new().clock);
    let lab = ca();
    let asked = std::iter::repeat_with(|| books.open(&lab)).take(8);
    futures_util::future::try_join_all(asked).await.unwrap();
    assert_eq!(counting.0.load(Ordering::Relaxed), 1);
}

/// D11: a ledger that is not there is looked for in what is held once, and not at each start; who
/// only reads writes none, and can do without.
#[tokio::test]
async fn a_lost_ledger_is_kept_at_once_unless_somebody_only_reads() {
    let world = World::new();
    let file = world.folder.path().join("state/private/ledger/lab.json");
    let books = world.books("3/1h").await;
    books.open(&ca()).await.unwrap();
    assert!(file.is_file(), "also of a CA that is never asked");
    drop(books);

    std::fs::remove_file(&file).unwrap();
    let settings = StoreSettings {
        state_dir: world.folder.path().join("state"),
        run_dir: world.folder.path().join("run"),
    };
    let reading = Arc::new(Store::open_read_only(&settings));
    let limits = [(ca(), Limits::default())].into();
    let books = Books::new(reading, limits, world.clock.clone());
    books.open(&ca()).await.unwrap();
    assert!(!file.exists());
    assert!(books.book(&ca()).known().is_some());
}

/// Counts how often it was looked for past orders, which takes a while.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Ledger for Counting {
    async fn load_ledger(&self, _ca: &CaName) -> Result<Option<LedgerRecord>, StorageError> {
        tokio::task::yield_now().await;
        Ok(None)
    }

    async fn past_orders(&self, _directory: &str) -> Result<Vec<PastOrder>, StorageError> {
        tokio::task::yield_now().await;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }

    fn keeps_ledgers(&self) -> bool {
        true
    }

    async fn save_ledger(&self, _: &CaName, _: &LedgerRecord) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Never gets done with the ledger of the CA `slow`.
struct Slow;

#[async_trait]
impl Ledger for Slow {
    async fn load_ledger(&self, _ca: &CaName) -> Result<Option<LedgerRecord>, StorageError> {
        Ok(None)
    }

    async fn past_orders(&self, _directory: &str) -> Result<Vec<PastOrder>, StorageError> {
        Ok(Vec::new())
    }

    fn keeps_ledgers(&self) -> bool {
        true
    }

    async fn save_ledger(&self, ca: &CaName, _record: &LedgerRecord) -> Result<(), StorageError> {
        if ca.as_str() == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
