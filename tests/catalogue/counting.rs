//! What a try costs of what the CA allows, and what of it is given back: what nobody was asked for,
//! what gave no certificate, and none of it twice.
//!
//! Not here: how much there is, and when it comes again (the tests of `renewd::plan::ledger`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use renewd::acme::AccountAction;
use renewd::model::{
    CaName, CertificateName, Explain, Journal, OrderRecord, PresentedRecord, PrivateKey,
    StandingWatch, StorageError,
};
use renewd::plan::Asked;
use renewd::store::Store;

use crate::ca::{Allowance, CaOptions, How, Limit, Limits, Step, Times};
use crate::support::free_port;
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// A world whose CA has these `limits`.
async fn world(limits: &str) -> World {
    let tables = format!("[ca.lab.limits]\n{limits}\n");
    World::with(Setting { tables, ..Setting::default() }).await
}

/// How much is left of the first limit that is told of.
async fn left(world: &World) -> u32 {
    let allowance = world.agent.lifecycle.look(&world.spec(), Asked::ByTime).await.unwrap();
    allowance.status.allowance.unwrap().limits[0].left
}

/// A01, A04: an order and an account that nobody was asked for, since no directory and no nonce
/// could be had, are there for the next try.
#[tokio::test]
async fn a_try_that_ends_before_its_request_costs_nothing() {
    for step in [Step::Directory, Step::NewNonce] {
        let world = world("new_accounts = \"1/3h\"\nnew_orders = \"1/3h\"").await;
        for how in [How::Closed, How::page(500, "<html>")] {
            world.ca.fault(step, how, Times::Always);
            let outcome = world.work_asked(Asked::ByName).await;
            assert_eq!(outcome.failures.len(), 1, "{step:?}: {outcome:?}");
            world.ca.mend();
            world.clock.advance(MINUTE);
        }
        let world = world.restart().await;
        // Before there would be another.
        world.live(2 * HOUR).await;
        assert!(world.held().is_some(), "{step:?}: {:#?}", world.told.all());
        assert_eq!((world.orders(), world.ca.count(Step::NewAccount)), (1, 1), "{step:?}");
    }
}

/// A01: where the account is known, too; and what may have been taken stays spent.
#[tokio::test]
async fn an_order_that_may_have_been_taken_is_spent_and_one_before_it_is_not() {
    let world = world("new_orders = \"2/3h\"").await;
    world.renewed().await;
    let world = world.restart().await;
    for step in [Step::Directory, Step::NewNonce] {
        world.ca.fault(step, How::Closed, Times::Always);
        world.work_asked(Asked::Forced).await;
        world.ca.mend();
        world.clock.advance(MINUTE);
        assert_eq!(left(&world).await, 1, "{step:?}");
    }
    world.ca.fault(Step::NewOrder, How::Closed, Times::Always);
    world.work_asked(Asked::Forced).await;
    assert_eq!(left(&world).await, 0);
}

/// A01: where there is no connection for an order, it was not sent.
#[tokio::test]
async fn an_order_for_which_there_is_no_connection_is_not_spent() {
    let world = world("new_orders = \"2/3h\"").await;
    world.renewed().await;
    let nowhere = format!("http://127.0.0.1:{}/order", free_port());
    let leads_nowhere = How::edit(move |it| it["newOrder"] = nowhere.as_str().into());
    world.ca.fault(Step::Directory, leads_nowhere, Times::Always);
    let world = world.restart().await;
    let outcome = world.work_asked(Asked::Forced).await;
    assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
    assert_eq!((world.orders(), left(&world).await), (1, 1), "{outcome:?}");
}

/// A01, A27: an account that was made counts also where only the look at it fails afterwards.
#[tokio::test]
async fn an_account_that_could_not_be_looked_at_was_made_all_the_same() {
    let world = world("new_accounts = \"2/3h\"").await;
    let ca = "lab".parse().unwrap();
    for (action, accounts) in [(AccountAction::Register, 1), (AccountAction::Replace, 2)] {
        world.ca.fault(Step::Account, How::problem(403, "unauthorized"), Times::Always);
        world.agent.tend_account(&ca, action).await.unwrap().unwrap_err();
        world.ca.mend();
        assert_eq!(world.ca.with(|it| it.accounts.len()), accounts, "{action:?}");
    }
    let refused = world.agent.tend_account(&ca, AccountAction::Replace).await.unwrap();
    assert_eq!(refused.unwrap_err().code(), "ledger.limit");
    assert_eq!(world.ca.with(|it| it.accounts.len()), 2);
}

/// A12: an order that ended while it was pending gave no certificate, whatever the CA calls it.
#[tokio::test]
async fn an_order_that_ended_while_it_was_pending_is_given_back() {
    for calls_it in ["invalid", "pending"] {
        let tables = "[ca.lab.limits]\ncertificates_per_set = \"1/60d\"\n".to_owned();
        let ca = CaOptions { order_lifetime: DAY, ..CaOptions::default() };
        let world = World::with(Setting { tables, ca, ..Setting::default() }).await;
        world.ca.fault(Step::Authorization, How::Closed, Times::Always);
        world.failed().await;
        world.ca.mend();
        world.clock.advance(2 * DAY);
        let call = How::edit(move |order| {
            if order["status"] == "invalid" {
                order["status"] = calls_it.into();
            }
        });
        world.ca.fault(Step::Order, call, Times::Always);
        world.renewed().await;
        assert_eq!((world.orders(), world.ca.issued()), (2, 1), "{calls_it}");
        assert_eq!(left(&world).await, 0, "{calls_it}");
    }
}

/// A01, D04: after a kill, whoever gives out nonces says that there is nothing. That is no word on
/// the order, which is filled.
#[tokio::test]
async fn what_is_said_where_nonces_are_given_out_ends_no_order() {
    let world = World::start().await;
    world.ca.fault(Step::Certificate, How::Closed, Times::Always);
    world.failed().await;
    world.ca.mend();
    for step in [Step::NewNonce, Step::Directory] {
        let world = &world;
        world.ca.fault(step, How::problem(404, "malformed"), Times::Always);
        // Another process has no nonce, and no directory.
        world.clock.advance(2 * DAY);
        world.work_asked(Asked::ByName).await;
        world.ca.mend();
    }
    let world = world.restart().await;
    world.ca.fault(Step::NewNonce, How::status(404), Times::Count(1));
    world.work_asked(Asked::ByName).await;
    world.clock.advance(MINUTE);
    let outcome = world.work_asked(Asked::ByName).await;
    assert!(outcome.renewed, "{outcome:?}");
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// D04: whatever dies after an order was given back and before it is forgotten gives it back once.
#[tokio::test]
async fn an_order_that_gave_nothing_is_given_back_once_whatever_dies_then() {
    let mut world = world("certificates_per_set = \"9/60d\"").await;
    for _ in 0..3 {
        world.work_asked(Asked::Forced).await;
    }
    assert_eq!((left(&world).await, world.ca.issued()), (6, 3));
    // As if killed at the end of it: what is to be forgotten is there still.
    let store = world.base.store.clone();
    let journal = Arc::new(Unforgetting { store, is_on: AtomicBool::new(true) });
    world.journal_by(journal.clone());
    let invalid = How::after(|ca| ca.orders.values_mut().for_each(|it| it.status = "invalid"));
    world.ca.fault(Step::Challenge, invalid, Times::Count(1));
    for _ in 0..3 {
        assert!(!world.work_asked(Asked::Forced).await.failures.is_empty());
        assert_eq!(left(&world).await, 6);
    }
    assert_eq!(world.orders(), 4);
    journal.is_on.store(false, Ordering::Relaxed);
    assert!(world.work_asked(Asked::Forced).await.renewed, "{:#?}", world.told.all());
    assert_eq!(left(&world).await, 5);
}

/// D11: where the ledger is lost or can't be understood, the orders count whose certificates are
/// held.
#[tokio::test]
async fn a_lost_ledger_is_made_of_the_certificates_that_are_held() {
    let world = world("certificates_per_set = \"9/60d\"").await;
    for _ in 0..3 {
        world.work_asked(Asked::Forced).await;
    }
    let ledger = world.path("state/private/ledger/lab.json");
    std::fs::remove_file(&ledger).unwrap();
    // What is none of ours, or damaged, is no reason to count nothing.
    std::os::unix::fs::symlink("nowhere", world.path("state/certs/link")).unwrap();
    crate::support::write(&world.path("state/certs/other/0001"), "x");
    std::fs::remove_file(world.path("state/certs/site/0001/privkey.pem")).unwrap();
    let world = world.restart().await;
    assert_eq!(left(&world).await, 6);
    crate::support::write(&ledger, "{");
    let world = world.restart().await;
    world.work_asked(Asked::Forced).await;
    assert_eq!(left(&world).await, 5);
    // Another CA has nothing to do with it, whatever its name.
    std::fs::remove_file(&ledger).unwrap();
    let meta = world.path("state/certs/site/current/meta.json");
    crate::support::edit_json(&meta, |it| it["origin"]["directory"] = "https://other/".into());
    let world = world.restart().await;
    assert_eq!(left(&world).await, 7);
}

/// A journal that forgets no order while `is_on`.
struct Unforgetting {
    store: Arc<Store>,
    is_on: AtomicBool,
}

#[async_trait]
impl Journal for Unforgetting {
    async fn load_order(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<(OrderRecord, Option<PrivateKey>)>, StorageError> {
        self.store.load_order(certificate).await
    }

    async fn save_pending_key(
        &self,
        certificate: &CertificateName,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        self.store.save_pending_key(certificate, key).await
    }

    async fn save_order(
        &self,
        certificate: &CertificateName,
        record: &OrderRecord,
    ) -> Result<(), StorageError> {
        self.store.save_order(certificate, record).await
    }

    async fn set_order_aside(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        self.store.set_order_aside(certificate).await
    }

    async fn take_up_order(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<(), StorageError> {
        self.store.take_up_order(certificate, ca).await
    }

    async fn orders_at(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<Vec<OrderRecord>, StorageError> {
        self.store.orders_at(certificate, ca).await
    }

    async fn forget_set_aside(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        self.store.forget_set_aside(certificate).await
    }

    async fn leftovers(&self) -> Result<Vec<PresentedRecord>, StorageError> {
        self.store.leftovers().await
    }

    async fn save_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError> {
        self.store.save_leftover(leftover).await
    }

    async fn remove_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError> {
        self.store.remove_leftover(leftover).await
    }

    async fn load_standing(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<StandingWatch>, StorageError> {
        self.store.load_standing(certificate).await
    }

    async fn save_standing(
        &self,
        certificate: &CertificateName,
        watch: Option<&StandingWatch>,
    ) -> Result<(), StorageError> {
        self.store.save_standing(certificate, watch).await
    }

    async fn close_order(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        let is_there = self.store.load_order(certificate).await?.is_some();
        if is_there && self.is_on.load(Ordering::Relaxed) {
            let (action, place) = ("remove", certificate.to_string());
            return Err(StorageError { action, place, source: "as after a kill".into() });
        }
        self.store.close_order(certificate).await
    }
}

/// A02: Let's Encrypt exempts a replacement at the time that it suggests for it. At any other, five
/// by hand are all that there are in a week, and the sixth is not even sent.
#[tokio::test]
async fn a_replacement_is_exempt_within_the_window_alone_and_counts_for_those_after_it() {
    let one_in_three_days = Allowance { capacity: 3, refill: 3 * DAY };
    let limits = Limits([(Limit::PerSet, one_in_three_days)].into());
    let tables = "[ca.lab.limits]\ncertificates_per_set = \"3/9d\"\n\
                  exempt = [\"replacements\", \"renewals\"]\n";
    let ca = CaOptions { limits, ..CaOptions::default() };
    let world = World::with(Setting { tables: tables.to_owned(), ca, ..Setting::default() }).await;
    world.renewed().await;
    for expected in [1, 0] {
        assert!(world.work_asked(Asked::Forced).await.renewed);
        assert_eq!(left(&world).await, expected);
    }
    let outcome = world.work_asked(Asked::Forced).await;
    assert_eq!(outcome.failures[0].code, "ledger.limit", "{outcome:?}");
    assert_eq!((world.orders(), world.ca.issued()), (3, 3));

    let hour = i64::try_from(HOUR.as_secs()).unwrap();
    world.clock.advance(30 * HOUR);
    world.ca.advise_all(-hour, hour);
    world.live(2 * HOUR).await;
    assert_eq!((world.orders(), world.ca.issued()), (4, 4));
    // One would have come back meanwhile.
    world.clock.advance(50 * HOUR);
    assert_eq!(left(&world).await, 0);
}
