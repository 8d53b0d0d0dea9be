//! Clocks that step, sleep and differ (rows T), and supervisors that restart for ever (P13).

use std::sync::Arc;
use std::time::Duration;

use renewd::model::Timestamp;
use renewd::plan::{DeployReason, Deployment};
use renewd::sys::clock::Clock;

use crate::ca::{CaOptions, How, STARTED, Step, Times, VirtualClock};
use crate::support::write;
use crate::world::{DAY, HOUR, MINUTE, Setting, World};

/// A world of `count` certificates more than the one, that has a clock of its own beside the CA's.
async fn apart(count: usize, ca: CaOptions) -> World {
    let more: String = (0..count)
        .map(|it| {
            format!(
                "[[certificate]]\nname = \"c{it}\"\ndomains = [\"c{it}.example\"]\ntargets = []\n"
            )
        })
        .collect();
    let clock = Some(VirtualClock::new(STARTED.parse().unwrap()));
    World::with(Setting { ca, certificate: more, clock, ..Setting::default() }).await
}

/// Lets `span` pass on both clocks of `world`.
fn pass(world: &World, span: Duration) {
    world.clock.advance(span);
    world.ca.clock().advance(span);
}

fn clock_is_told(world: &World) -> bool {
    world.agent.all_notices().iter().any(|it| it.code == "agent.clock")
}

/// T01: ten years ahead, then back. The CA says what time it is; three of ten are tried all the
/// same, since it may be the CA that is wrong, and nothing more happens before the clock is right.
#[tokio::test]
async fn a_clock_ten_years_ahead_renews_three_of_ten_and_none_when_it_is_back() {
    let world = apart(9, CaOptions::default()).await;
    assert_eq!(world.work_all().await, 10);
    pass(&world, DAY);
    assert_eq!(world.work_all().await, 0);
    let orders = world.orders();

    world.clock.step_to(world.now().saturating_add(3650 * DAY));
    for _ in 0..6 {
        world.work_all().await;
        pass(&world, 4 * HOUR);
    }
    assert_eq!(world.orders() - orders, 3);
    assert!(clock_is_told(&world));

    world.clock.step_to(world.ca.clock().now());
    for _ in 0..6 {
        assert_eq!(world.work_all().await, 0);
        pass(&world, 4 * HOUR);
    }
    assert_eq!(world.orders() - orders, 3);
    assert!(!clock_is_told(&world));
}

/// T01: the first CA has gone away, as it would for a clock that its own certificate is not valid
/// by: the one that is asked in its place says what time it is.
#[tokio::test]
async fn a_clock_ahead_is_found_out_by_a_stand_in_where_the_first_ca_is_silent() {
    let world = apart(9, CaOptions::default()).await;
    assert_eq!(world.work_all().await, 10);
    let gone = "[ca.gone]\ndirectory = \"http://127.0.0.1:1/dir\"\ntrust = \"root.pem\"\n";
    let both = "targets = []\nca = [\"gone\", \"lab\"]";
    let world = world
        .reconfigured(|it| {
            it.replace("targets = []", both).replace("[ca.lab]", &format!("{gone}[ca.lab]"))
        })
        .await;
    assert_eq!(world.work_all().await, 0);
    let orders = world.orders();

    world.clock.step_to(world.now().saturating_add(85 * DAY));
    for _ in 0..6 {
        world.work_all().await;
        pass(&world, HOUR);
    }
    assert!(world.orders() - orders <= 3, "{} orders", world.orders() - orders);
    assert!(clock_is_told(&world));
}

/// T02: what is due by both clocks needs nobody's leave.
#[tokio::test]
async fn what_is_due_by_the_cas_clock_as_well_is_renewed_while_ours_is_behind() {
    let world = apart(5, CaOptions::default()).await;
    assert_eq!(world.work_all().await, 6);
    pass(&world, 70 * DAY);
    world.clock.step_to(world.now().saturating_sub(HOUR / 2));
    let mut renewed = 0;
    for _ in 0..3 {
        renewed += world.work_all().await;
        pass(&world, HOUR);
    }
    assert_eq!(renewed, 6);
}

/// T01: over a restart, and with a CA that says nothing of the time but what its answers do.
#[tokio::test]
async fn a_restart_under_a_wrong_clock_lets_no_more_pass() {
    let world = apart(9, CaOptions::default()).await;
    world.work_all().await;
    let orders = world.orders();
    world.clock.step_to(world.now().saturating_add(3650 * DAY));
    let mut world = world;
    for _ in 0..4 {
        world.work_all().await;
        world = world.restart().await;
    }
    assert_eq!(world.orders() - orders, 3);
}

/// T02: a day back, and to 1970. Nothing is asked of the CA, all is told, and goes on afterwards.
#[tokio::test]
async fn a_clock_that_goes_back_orders_nothing_and_is_told() {
    let world = apart(4, CaOptions::default()).await;
    world.work_all().await;
    let (orders, right) = (world.orders(), world.now());
    for wrong in [right.saturating_sub(DAY), Timestamp::EPOCH] {
        world.clock.step_to(wrong);
        for _ in 0..4 {
            assert_eq!(world.work_all().await, 0);
            pass(&world, HOUR);
        }
        assert!(clock_is_told(&world), "at {wrong}");
    }
    assert_eq!(world.orders(), orders);
    world.clock.step_to(world.ca.clock().now());
    assert_eq!(world.work_all().await, 0);
    assert!(!clock_is_told(&world));
    pass(&world, 62 * DAY);
    assert_eq!(world.work_all().await, 5);
}

/// T02, A02: the clock is an hour ahead, as one that is kept in local time, until NTP puts it back.
/// What the CA said before then still holds, for all that have failed.
#[tokio::test]
async fn a_clock_that_is_put_back_by_an_hour_makes_nobody_pass_by_the_cas_word() {
    let world = apart(2, CaOptions::default()).await;
    let right = world.now();
    world.clock.step_to(right.saturating_add(HOUR));
    let busy = How::status(503).with("retry-after", "7200");
    world.ca.fault(Step::NewOrder, busy, Times::Count(3));
    assert_eq!((world.work_all().await, world.orders()), (0, 3));
    world.clock.step_to(right);
    for _ in 0..4 {
        assert_eq!((world.work_all().await, world.orders()), (0, 3), "at {}", world.now());
        pass(&world, HOUR / 2);
    }
    // By as much as the clock was ahead it lasts too long.
    pass(&world, HOUR + MINUTE);
    assert_eq!((world.work_all().await, world.orders()), (3, 6));
}

/// T01, D01: where nobody can write down that the clock is right, the certificate comes all the
/// same.
#[tokio::test]
async fn a_record_of_the_clock_that_cannot_be_kept_stops_nothing() {
    let world = World::start().await;
    let record = world.path("state/private/clock.json");
    std::fs::remove_file(&record).unwrap_or_default();
    std::fs::create_dir(&record).unwrap();
    write(&record.join("x"), "");
    world.renewed().await;
    let told = || world.agent.lifecycle.timekeeper.notice();
    assert!(told().unwrap().message.contains("private/clock.json"), "{:?}", told());
    std::fs::remove_dir_all(&record).unwrap();
    world.work_asked(renewd::plan::Asked::ByName).await;
    assert_eq!(told(), None);
}

/// T04, T07: asleep for 20 days. Lives of six days have ended, and each is renewed once; those of
/// 90 are kept; the clock is not doubted.
#[tokio::test]
async fn after_twenty_days_of_sleep_what_has_ended_is_renewed_once() {
    let world = World::with(Setting {
        certificate: "[[certificate]]\nname = \"short\"\ndomains = [\"short.example\"]\n\
                      targets = []\nprofile = \"short\"\n"
            .into(),
        ..Setting::default()
    })
    .await;
    assert_eq!(world.work_all().await, 2);
    world.clock.advance(20 * DAY);
    assert_eq!(world.work_all().await, 1);
    assert!(!clock_is_told(&world));
    assert_eq!(world.work_all().await, 0);
    assert_eq!(world.orders(), 3);
}

/// T02, A18: our clock is three hours behind. What the CA certifies is not valid yet by it: it is
/// neither thrown away nor ordered again, and there as soon as the clock is put right.
#[tokio::test]
async fn a_clock_that_is_behind_wastes_no_certificate() {
    let right: Timestamp = STARTED.parse().unwrap();
    let clock = VirtualClock::new(right.saturating_sub(3 * HOUR));
    let world =
        World::with(Setting { clock: Some(Arc::clone(&clock)), ..Setting::default() }).await;
    let failure = world.failed().await;
    assert!(failure.message.contains("valid only from"), "{failure:?}");
    assert!(failure.hint.as_deref().unwrap_or_default().contains("timedatectl"), "{failure:?}");
    for _ in 0..4 {
        clock.advance(10 * MINUTE);
        world.work_asked(renewd::plan::Asked::ByName).await;
    }
    assert_eq!((world.orders(), world.ca.issued(), world.held()), (1, 1, None));
    let world = world.restart().await;
    clock.step_to(right);
    world.renewed().await;
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// A18: what is not valid for days is not waited for without end: there is another order once a
/// day.
#[tokio::test]
async fn what_is_not_valid_for_days_is_ordered_once_a_day() {
    let right: Timestamp = STARTED.parse().unwrap();
    let clock = VirtualClock::new(right.saturating_sub(10 * DAY));
    let world =
        World::with(Setting { clock: Some(Arc::clone(&clock)), ..Setting::default() }).await;
    for _ in 0..15 {
        let outcome = world.work_asked(renewd::plan::Asked::ByName).await;
        assert!(!outcome.renewed, "{outcome:?}");
        clock.advance(5 * HOUR);
    }
    assert_eq!(world.orders(), 3, "{:#?}", world.told.all());
}

/// T05: the CA's clock is half an hour ahead, and it begins lives at once. What is not valid yet by
/// our clock is stored, and handed to nobody before it is.
#[tokio::test]
async fn a_certificate_that_begins_in_the_future_is_handed_out_when_it_is_valid() {
    let mut ca = CaOptions::default();
    ca.profiles[0].backdated = Duration::ZERO;
    let right: Timestamp = STARTED.parse().unwrap();
    let clock = VirtualClock::new(right.saturating_sub(HOUR / 2));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let installed = folder.path().join("site.pem");
    let setting = Setting {
        ca,
        tables: format!(
            "[target.files]\ntype = \"other\"\n\
             install = [{{ file = \"fullchain\", path = {installed:?} }}]\n"
        ),
        certificate: "[[certificate]]\nname = \"later\"\ndomains = [\"later.example\"]\n\
                      targets = [\"files\"]\n"
            .into(),
        clock: Some(Arc::clone(&clock)),
        ..Setting::default()
    };
    let world = World::with(setting).await;
    let spec = world.agent.config.certificates[1].clone();
    let work = || world.agent.lifecycle.work(&spec, renewd::plan::Asked::ByTime);
    let outcome = work().await.unwrap();
    assert!(outcome.renewed, "{:?}", outcome.failures);
    let [(_, deployment)] = outcome.plan.deployments.as_slice() else { panic!("no target") };
    let waits = Deployment::BackOff { until: right, reason: DeployReason::NotYetValid };
    assert_eq!(deployment, &waits);
    assert!(!installed.exists());

    clock.advance_to(right.saturating_sub(Duration::from_secs(1)));
    work().await.unwrap();
    assert!(!installed.exists());
    clock.advance(Duration::from_secs(1));
    work().await.unwrap();
    assert!(installed.exists());
    assert_eq!(world.orders(), 1);
}

/// T06: it has expired when we start. It is renewed, by one order, and no advice is asked for.
#[tokio::test]
async fn what_has_expired_at_the_start_is_renewed_without_asking_for_advice() {
    let world = World::start().await;
    world.renewed().await;
    let advice = world.ca.count(Step::RenewalInfo);
    world.clock.advance(200 * DAY);
    let world = world.restart().await;
    let held = world.held();
    world.renewed().await;
    assert_ne!(world.held(), held);
    assert_eq!(world.orders(), 2);
    // What came new is asked about; of what has expired nobody was.
    assert!(world.ca.count(Step::RenewalInfo) <= advice + 1);
}

/// P13: a supervisor restarts us every other second, whatever we end of. What failed is tried as
/// often as if nobody had.
#[tokio::test]
async fn restarts_without_end_lead_to_no_more_orders_than_the_ladder() {
    let mut world = World::start().await;
    world.ca.with(|it| it.options.proofs = crate::ca::Proofs::Files("/nowhere".into()));
    for _ in 0..15 {
        world.work().await;
        world.clock.advance(Duration::from_secs(2));
        world = world.restart().await;
    }
    assert_eq!(world.orders(), 1);
    for _ in 0..10 {
        world.work().await;
        world.clock.advance(6 * MINUTE);
        world = world.restart().await;
    }
    assert!((2..=4).contains(&world.orders()), "{} orders in an hour", world.orders());
}
