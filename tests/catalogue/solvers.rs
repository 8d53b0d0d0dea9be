//! Proofs that can't be shown or taken away: a provider that is broken, or does not know us.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use renewd::model::{
    ChallengeType, Health, Identifier, Journal, Proof, RenewalCondition, Token, TxtRecord,
};
use renewd::plan::Asked;
use renewd::solver::dns01::{DnsError, Failure, ProviderError};
use renewd::solver::{CleanUp, Presented, Solver, SolverError};

use crate::ca::{CaOptions, How, ScriptedCa, Step, Times, VirtualClock};
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// Shows proofs as the solver behind it does, unless it is made to fail.
#[derive(Debug)]
struct Provider {
    behind: Arc<dyn Solver>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    clock: Arc<VirtualClock>,
    refuses: AtomicBool,
    hangs: AtomicBool,
    is_lost: AtomicBool,
    shown: AtomicUsize,
    removed: Mutex<Vec<String>>,
}

impl State {
    /// One removal; it does not end while the provider hangs.
    async fn remove(&self, what: String) {
        self.removed.lock().unwrap().push(what);
        while self.hangs.load(Ordering::Relaxed) {
            self.clock.let_pass(Duration::from_secs(1)).await;
        }
    }

    fn refusal(&self) -> Result<(), SolverError> {
        if !self.refuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let source = ProviderError::Api {
            provider: "lab".into(),
            zone: "example.".into(),
            failure: Failure::Unauthorized,
            message: "it answered 401".into(),
        };
        Err(DnsError::Change { action: "add", name: "site.example".into(), source }.into())
    }
}

struct Shown {
    behind: Presented,
    what: String,
    state: Arc<State>,
}

#[async_trait]
impl CleanUp for Shown {
    async fn clean_up(self: Box<Self>) -> Result<(), SolverError> {
        self.state.remove(self.what).await;
        self.behind.clean_up().await
    }
}

#[async_trait]
impl Solver for Provider {
    fn challenge_type(&self) -> ChallengeType {
        self.behind.challenge_type()
    }

    async fn check(&self) -> Result<(), SolverError> {
        Ok(())
    }

    async fn check_identifier(&self, identifier: &Identifier) -> Result<(), SolverError> {
        if !self.state.is_lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(DnsError::ZoneNotFound { name: identifier.to_string() }.into())
    }

    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError> {
        self.state.refusal()?;
        self.state.shown.fetch_add(1, Ordering::Relaxed);
        let (what, state) = (proof.identifier.to_string(), self.state.clone());
        Ok(Presented::new(Shown { behind: self.behind.present(proof).await?, what, state }))
    }

    async fn clean_up_record(&self, record: &TxtRecord) -> Result<(), SolverError> {
        self.behind.clean_up_record(record).await
    }

    async fn clean_up_leftover(
        &self,
        identifier: &Identifier,
        token: &Token,
    ) -> Result<(), SolverError> {
        self.state.remove(identifier.to_string()).await;
        self.behind.clean_up_leftover(identifier, token).await
    }
}

/// A world whose proofs are shown by a provider.
async fn world(names: usize) -> (World, Arc<State>) {
    let names = (0..names).map(|it| format!("n{it}.example")).collect();
    with(Setting { names, ..Setting::default() }).await
}

/// The same, with another CA that wants proofs and one that wants none to stand in.
async fn world_with_stand_ins() -> (World, Arc<State>) {
    let tables = "[ca.spare]\ndirectory = \"http://127.0.0.1:1/dir\"\ntrust = \"root.pem\"\n\
                  [ca.inside]\ntype = \"local\"\n";
    let certificate = "ca = [\"lab\", \"spare\", \"inside\"]\n";
    with(Setting {
        certificate: certificate.to_owned(),
        tables: tables.to_owned(),
        ..Setting::default()
    })
    .await
}

async fn with(setting: Setting) -> (World, Arc<State>) {
    let mut world = World::with(setting).await;
    let state = Arc::new(State {
        clock: world.clock.clone(),
        refuses: AtomicBool::new(false),
        hangs: AtomicBool::new(false),
        is_lost: AtomicBool::new(false),
        shown: AtomicUsize::new(0),
        removed: Mutex::default(),
    });
    world.show_by(|behind| Arc::new(Provider { behind, state: state.clone() }));
    (world, state)
}

/// What was shown is taken away with one request for each name.
#[tokio::test]
async fn a_provider_is_asked_once_to_take_a_proof_away() {
    let (world, state) = world(3).await;
    world.renewed().await;
    assert_eq!(*state.removed.lock().unwrap(), ["n0.example", "n1.example", "n2.example"]);
    assert!(world.base.store.leftovers().await.unwrap().is_empty());
}

/// N07: while DNS does not say where a proof would go, nothing is ordered, until so little of the
/// life is left that it is worth an order in vain: the CA may want no proof.
#[tokio::test]
async fn what_has_no_zone_is_not_ordered_before_the_last_sixth_of_a_life() {
    let (world, state) = world(2).await;
    world.renewed().await;
    state.is_lost.store(true, Ordering::Relaxed);
    world.clock.advance(70 * DAY);
    let failure = world.failed().await;
    assert_eq!(failure.code, "dns.zone", "{failure:?}");
    assert!(failure.message.contains("nothing was ordered"), "{failure:?}");
    world.live(4 * DAY).await;
    assert_eq!(world.orders(), 1, "{:#?}", world.told.all());
    world.live(2 * DAY).await;
    assert_eq!((world.orders(), world.ca.issued()), (2, 2), "{:#?}", world.told.all());
}

/// N11: a provider that breaks after the proof costs minutes; what it shows is taken away when it
/// is well.
#[tokio::test]
async fn a_provider_that_hangs_when_proofs_are_to_go_does_not_hold_a_proven_order() {
    let (world, state) = world(10).await;
    state.hangs.store(true, Ordering::Relaxed);
    let began = world.now();
    world.renewed().await;
    let took = world.now().since(began);
    assert!(took <= 4 * MINUTE, "{took:?}");
    assert_eq!(world.base.store.leftovers().await.unwrap().len(), 10);

    state.hangs.store(false, Ordering::Relaxed);
    world.agent.lifecycle.sweep().await;
    assert!(world.base.store.leftovers().await.unwrap().is_empty());
    assert!(world.proofs().is_empty());
}

/// N12: a provider that does not know our token: a human is told at once, and what he mends is
/// found soon.
#[tokio::test]
async fn a_provider_that_refuses_us_is_told_at_once_and_tried_every_five_minutes() {
    let (world, state) = world(2).await;
    state.refuses.store(true, Ordering::Relaxed);
    for _ in 0..6 {
        let failure = world.failed().await;
        assert_eq!(failure.code, "dns.change", "{failure:?}");
        let status = world.work().await.status;
        assert_eq!(status.renewal, RenewalCondition::Blocked, "{status:?}");
        assert_ne!(status.health, Health::Ok, "{status:?}");
        let next = status.next_attempt_at.unwrap();
        assert!(next.since(world.now()) <= 6 * MINUTE, "{status:?}");
        world.clock.advance_to(next);
    }
    assert_eq!(world.orders(), 1, "the order is kept");
    state.refuses.store(false, Ordering::Relaxed);
    world.renewed().await;
    assert_eq!((world.orders(), state.shown.load(Ordering::Relaxed)), (1, 2));
}

/// A disk that does not keep the account is our own trouble: the CA's ladder has no part in it.
#[tokio::test]
async fn an_account_that_can_not_be_kept_is_tried_by_the_ladder_of_our_own_side() {
    let world = World::start().await;
    let place = world.path("state/private/accounts/lab");
    crate::support::write(&place, "in the way");
    for _ in 0..4 {
        let failure = world.failed().await;
        assert_eq!(failure.code, "acme.account_not_kept", "{failure:?}");
        world.clock.advance_to(world.work().await.status.next_attempt_at.unwrap());
    }
    std::fs::remove_file(&place).unwrap();
    world.live(6 * MINUTE).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
}

/// N07: where no proof can be shown, a CA that wants none stands in as it would for one that is
/// down; another that wants the same proofs is not asked.
#[tokio::test]
async fn a_new_site_whose_proofs_can_not_be_shown_gets_a_certificate_of_a_ca_that_wants_none() {
    let (world, state) = world_with_stand_ins().await;
    state.is_lost.store(true, Ordering::Relaxed);
    let failure = world.failed().await;
    assert_eq!(failure.code, "dns.zone", "{failure:?}");
    world.live(2 * MINUTE).await;
    assert_eq!(world.held(), None, "{:#?}", world.told.all());
    world.live(2 * MINUTE).await;
    let status = world.work().await.status;
    assert_eq!(status.ca.unwrap().as_str(), "inside");
    let reason = status.stand_in.unwrap().reason;
    assert!(reason.starts_with("no proof could be shown to lab since"), "{reason}");
    assert_eq!((world.orders(), world.ca.requests()), (0, 0), "nobody was asked in vain");
    assert_eq!(world.state()["cas"], serde_json::json!({}), "{}", world.state());
}

/// N07: the same with a certificate of use: it is waited with until little of its life is left, and
/// the first CA is asked again at the next renewal.
#[tokio::test]
async fn a_life_that_runs_out_while_no_proof_can_be_shown_is_renewed_by_a_ca_that_wants_none() {
    let (world, state) = world_with_stand_ins().await;
    world.renewed().await;
    let first = world.held();
    state.refuses.store(true, Ordering::Relaxed);
    world.clock.advance(67 * DAY);
    world.live(DAY / 4).await;
    assert_eq!(world.held(), first, "{:#?}", world.told.all());
    world.live(DAY / 2).await;
    assert_ne!(world.held(), first, "{:#?}", world.told.all());
    let status = world.work().await.status;
    assert_eq!(status.ca.unwrap().as_str(), "inside");
    assert_eq!(world.orders(), 2, "one was placed and never proven");
    state.refuses.store(false, Ordering::Relaxed);
    world.work_asked(Asked::Forced).await;
    assert_eq!(world.work().await.status.ca.unwrap().as_str(), "lab");
}

/// N07: what an order at one CA lets pass says nothing of another, and what the CA may have filled
/// is fetched whatever DNS says: also an order that was set aside meanwhile.
#[tokio::test]
async fn the_way_to_a_proof_is_looked_for_unless_the_ca_that_is_asked_has_an_order() {
    let spare = ScriptedCa::start(CaOptions::default()).await;
    let (world, state) = with(Setting {
        certificate: "ca = [\"lab\", \"spare\"]\n".into(),
        tables: format!("[ca.spare]\ndirectory = {:?}\ntrust = \"root.pem\"\n", spare.directory()),
        ..Setting::default()
    })
    .await;
    world.ca.fault(Step::Finalize, How::page(503, "down"), Times::Always);
    spare.fault(Step::NewOrder, How::page(503, "down"), Times::Always);
    world.failed().await;
    state.is_lost.store(true, Ordering::Relaxed);
    world.live(5 * MINUTE).await;
    let told = || world.told.all();
    assert_eq!((world.orders(), spare.count(Step::NewOrder)), (1, 0), "{:#?}", told());
    state.is_lost.store(false, Ordering::Relaxed);
    for _ in 0..40 {
        if spare.count(Step::NewOrder) == 0 {
            world.live(MINUTE / 2).await;
        }
    }
    assert_ne!(spare.count(Step::NewOrder), 0, "{:#?}", told());
    assert!(world.path("state/private/certificates/site/aside/lab/order.json").is_file());
    state.is_lost.store(true, Ordering::Relaxed);
    world.ca.mend();
    world.live(4 * HOUR).await;
    assert_eq!((world.orders(), world.ca.issued()), (1, 1), "{:#?}", told());
    assert_eq!(world.work().await.status.ca.unwrap().as_str(), "lab");
}
