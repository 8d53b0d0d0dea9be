//! Orders that do not go the straight way (A12 to A17).

use std::sync::OnceLock;
use std::time::Duration;

use renewd::model::{CertificateStatus, Event, Health, STATUS_FORMAT, StatusDocument, Timestamp};
use renewd::observe::AlertSettings;
use renewd::observe::alert::{self, AlertType};
use renewd::plan::Asked;
use serde_json::json;

use crate::ca::{CaOptions, Fault, Forgery, How, Reply, Step, Times};
use crate::support::write;
use crate::world::{DAY, HOUR, Setting, World};

/// A12: an order expires while its proofs are looked for, or while nobody goes on with it.
#[tokio::test]
async fn an_order_that_expires_between_steps_is_followed_by_a_fresh_one() {
    let world = World::start().await;
    let expire = How::after(|ca| {
        let now = ca.now();
        ca.orders.values_mut().for_each(|it| it.expires = now);
    });
    world.ca.fault(Step::Challenge, expire.clone(), Times::Count(1));
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.order_invalid", "{failure:?}");
    assert_eq!(world.state()["attempts"]["failures"], 1);
    world.live(HOUR).await;
    assert!(world.held().is_some() && world.proofs().is_empty());
    assert_eq!((world.orders(), world.ca.issued()), (2, 1));

    // Nobody was there for a week: that is no failure more.
    let world = World::start().await;
    world.ca.fault(Step::Authorization, How::Silent, Times::Count(1));
    world.failed().await;
    let world = world.restart().await;
    world.clock.advance(8 * DAY);
    world.renewed().await;
    assert_eq!((world.orders(), world.ca.issued()), (2, 1));
}

/// A13: an order stays in processing. It is looked at until it expires, then there is a new one.
#[tokio::test]
async fn an_order_that_stays_in_processing_for_ever_is_given_up_at_its_end() {
    let options =
        CaOptions { issuing_takes: 10_000 * DAY, order_lifetime: 2 * DAY, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.still_waiting", "{failure:?}");
    assert!(failure.message.contains("/order/"), "{failure:?}");
    world.live(DAY).await;
    assert_eq!(world.orders(), 1, "it is kept");
    let looks = world.ca.count(Step::Order);
    assert!(looks < 200, "{looks}");
    world.ca.with(|it| it.options.issuing_takes = Duration::ZERO);
    world.live(3 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.count(Step::Finalize)), (2, 2));
}

/// A13: what is held came from no order, and its key stays. The order under way is for that key
/// too, and goes on all the same.
#[tokio::test]
async fn an_order_for_the_key_of_what_the_built_in_ca_signed_is_not_thrown_away() {
    let world = World::with(Setting {
        ca: CaOptions { issuing_takes: HOUR, ..CaOptions::default() },
        certificate: "ca = \"inside\"\nreuse_key = true\n".into(),
        tables: "[ca.inside]\ntype = \"local\"\n".into(),
        ..Setting::default()
    });
    let world = world.await;
    world.renewed().await;
    let held = world.held();
    let world = world.reconfigured(|it| it.replace("ca = \"inside\"\n", "")).await;
    let failure = world.failed().await;
    assert_eq!(failure.code, "acme.still_waiting", "{failure:?}");
    world.live(3 * HOUR).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// A13: the same, where it is not known any more which order it came from.
#[tokio::test]
async fn an_order_for_the_key_of_what_has_no_meta_json_is_not_thrown_away() {
    let options = CaOptions { issuing_takes: HOUR, ..CaOptions::default() };
    let setting =
        Setting { ca: options, certificate: "reuse_key = true\n".into(), ..Setting::default() };
    let world = World::with(setting).await;
    world.live(3 * HOUR).await;
    let held = world.held();
    assert_eq!((held.is_some(), world.orders()), (true, 1));
    std::fs::remove_file(world.path("state/certs/site/current/meta.json")).unwrap();
    world.clock.advance(62 * DAY);
    world.live(3 * HOUR).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (2, 2));
}

/// C02: renewd starts while an included file is broken: the order for what stands in it goes on
/// when it is mended.
#[tokio::test]
async fn a_start_beside_a_broken_file_throws_no_order_away() {
    let options = CaOptions { issuing_takes: HOUR, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    world.failed().await;
    let text = std::fs::read_to_string(world.path("renewd.toml")).unwrap();
    let (main, entry) = text.split_at(text.find("[[certificate]]").unwrap());
    let included = world.path("conf.d/site.toml");
    std::fs::create_dir(world.path("conf.d")).unwrap();
    let mut world = world;
    // An empty file is none that is refused: it wants nothing.
    for broken in ["[[certificate", "[[certificate]]\nname = 7\n", ""] {
        write(&included, broken);
        world = world.reconfigured(|_| format!("include = [\"conf.d/*\"]\n{main}")).await;
        assert!(world.agent.config.certificates.is_empty());
        world.agent.lifecycle.sweep().await;
    }
    write(&included, entry);
    let world = world.restart().await;
    world.live(3 * HOUR).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));

    // Wanted nowhere any more, it goes: what it shows at once, itself when it will not come back.
    world.clock.advance(62 * DAY);
    world.failed().await;
    std::fs::remove_file(included).unwrap();
    // As a run that was killed during its proof leaves it.
    let order = world.path("state/private/certificates/site/order.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&order).unwrap()).unwrap();
    let solver = world.spec().solvers.into_values().next().unwrap().to_string();
    let token = "DGyRejmCefe7v4NfDGDKfA";
    record["presented"] =
        json!([{ "solver": solver, "identifier": "site.example", "token": token }]);
    crate::support::write_secret(&order, record.to_string(), 0o600);
    write(&world.path("run/acme-challenge").join(token), "proof");
    let world = world.restart().await;
    world.agent.lifecycle.sweep().await;
    assert!(order.exists());
    assert_eq!(world.proofs(), Vec::<String>::new());
    world.clock.advance(8 * DAY);
    world.agent.lifecycle.sweep().await;
    assert!(!order.exists());
}

/// A14: orderNotReady once, and for ever.
#[tokio::test]
async fn an_order_that_is_not_ready_is_finalized_again_and_not_for_ever() {
    let not_ready = How::problem(403, "orderNotReady");
    let world = World::start().await;
    world.ca.fault(Step::Finalize, not_ready.clone(), Times::Count(1));
    world.renewed().await;
    assert_eq!((world.ca.count(Step::Finalize), world.ca.issued()), (2, 1));

    let world = World::start().await;
    world.ca.fault(Step::Finalize, not_ready, Times::Always);
    world.failed().await;
    assert_eq!(world.ca.count(Step::Finalize), 3);
    world.live(DAY).await;
    assert!(world.ca.count(Step::Finalize) <= 18, "{}", world.ca.count(Step::Finalize));
}

/// A15: the CA issues, and its answer is lost. Exactly that certificate is used.
#[tokio::test]
async fn what_was_issued_without_an_answer_is_downloaded() {
    for lost in [How::DoneThenSilent, How::DoneThenClosed, How::Cut] {
        let what = format!("{lost:?}");
        let world = World::start().await;
        world.ca.fault(Step::Finalize, lost.clone(), Times::Count(1));
        world.renewed().await;
        assert_eq!((world.ca.count(Step::Finalize), world.ca.issued()), (1, 1), "{what}");
    }
    // And if the process ends before it could look.
    let world = World::start().await;
    let lost = How::after(|ca| {
        for at in [Step::Order, Step::Certificate] {
            ca.faults.push(Fault { at: Some(at), how: How::Closed, times: Times::Always });
        }
    });
    world.ca.fault(Step::Finalize, lost, Times::Count(1));
    world.failed().await;
    let world = world.restart().await;
    world.ca.mend();
    world.live(3 * HOUR).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// A15, A34: what was issued is not there. The order is tried for a day, then there is a new one.
#[tokio::test]
async fn a_certificate_that_is_nowhere_is_ordered_anew_once_a_day() {
    let world = World::start().await;
    world.ca.fault(Step::Certificate, How::after(|ca| ca.certificates.clear()), Times::Count(1));
    world.live(23 * HOUR).await;
    assert_eq!((world.held(), world.orders()), (None, 1));
    assert!(world.ca.count(Step::Certificate) >= 4, "{}", world.ca.count(Step::Certificate));
    world.live(2 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (2, 2));

    // The same each time; and a certificate that is none, or has no place at all.
    let no_place = How::edit(|it| drop(it.as_object_mut().unwrap().remove("certificate")));
    let faults = [
        (Step::Certificate, How::page(200, "<html>")),
        (Step::Certificate, How::status(410)),
        (Step::Order, no_place),
    ];
    for (step, how) in faults {
        let world = World::start().await;
        world.ca.fault(step, how.clone(), Times::Always);
        world.ca.with(|it| it.options.issuing_takes = Duration::from_secs(5));
        world.live(6 * DAY).await;
        assert!((3..=7).contains(&world.orders()), "{how:?} at {step:?}: {}", world.orders());
        world.ca.mend();
        world.live(2 * DAY).await;
        assert!(world.held().is_some(), "{how:?} at {step:?}");
    }
}

/// A15: a CA that is down where it keeps certificates is waited for while the order lives.
#[tokio::test]
async fn a_certificate_that_can_not_be_fetched_for_days_is_not_paid_for_twice() {
    let world = World::start().await;
    world.ca.fault(Step::Certificate, How::status(503), Times::Always);
    world.live(4 * DAY).await;
    world.ca.mend();
    world.live(2 * DAY).await;
    assert!(world.held().is_some());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// A08, A15: a page of a proxy says nothing of an order that is filled.
#[tokio::test]
async fn a_page_in_place_of_an_order_does_not_end_it() {
    for status in [403, 404, 408] {
        let world = World::start().await;
        world.ca.fault(Step::Certificate, How::Closed, Times::Always);
        world.failed().await;
        world.ca.mend();
        world.ca.fault(Step::Order, How::page(status, "<html>not here"), Times::Count(1));
        world.live(3 * HOUR).await;
        assert!(world.held().is_some(), "{status}: {:#?}", world.told.all());
        assert_eq!((world.orders(), world.ca.issued()), (1, 1), "{status}");
    }
    // It is not waited for without end either.
    let world = World::start().await;
    world.ca.fault(Step::Order, How::page(404, "<html>not here"), Times::Always);
    world.live(4 * DAY).await;
    assert!((2..=5).contains(&world.orders()), "{}", world.orders());
    world.ca.mend();
    world.live(2 * DAY).await;
    assert!(world.held().is_some());
}

/// A01, A08: a hiccup while proofs are looked for costs neither the proof nor the order.
#[tokio::test]
async fn a_hiccup_of_the_ca_spends_no_authorization() {
    let again = |how: How| {
        How::after(move |ca| {
            let (at, how) = (Some(Step::Challenge), how.clone());
            ca.faults.push(Fault { at, how, times: Times::Count(1) });
        })
    };
    for how in [How::status(503), How::DoneThenClosed] {
        // At the second challenge.
        let world = World::start().await;
        world.ca.fault(Step::Challenge, again(how.clone()), Times::Count(1));
        world.renewed().await;
        assert_eq!((world.orders(), world.ca.count(Step::Challenge)), (1, 3), "{how:?}");
    }
    for how in [How::page(200, "<html>"), How::page(404, "<html>"), How::body("[]")] {
        let world = World::start().await;
        world.ca.with(|it| it.options.validation_takes = Duration::from_secs(5));
        world.ca.fault(Step::Order, how.clone(), Times::Count(1));
        world.renewed().await;
        assert_eq!(world.orders(), 1, "{how:?}");
    }
}

/// A16: orders that are ready at once, or old ones given again.
#[tokio::test]
async fn what_is_done_already_is_not_done_again() {
    let options = CaOptions { reuse_authorizations: 30 * DAY, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    world.renewed().await;
    let answered = world.ca.count(Step::Challenge);
    let forced = world.work_asked(Asked::Forced).await;
    assert!(forced.renewed && world.ca.issued() == 2);
    assert_eq!(world.ca.count(Step::Challenge), answered, "valid ones are left alone");

    // The journal is lost, and the CA gives the order that it knows.
    let options = CaOptions { reuse_orders: true, ..CaOptions::default() };
    let world = World::with(Setting { ca: options, ..Setting::default() }).await;
    world.ca.fault(Step::Finalize, How::status(503), Times::Count(1));
    world.failed().await;
    std::fs::remove_file(world.path("state/private/certificates/site/order.json")).unwrap();
    let answered = world.ca.count(Step::Challenge);
    let world = world.restart().await;
    world.live(HOUR).await;
    assert!(world.held().is_some());
    assert_eq!((world.ca.with(|it| it.orders.len()), world.ca.issued()), (1, 1));
    assert_eq!(world.ca.count(Step::Challenge), answered);
}

/// A17: the order in the answer is for other identifiers.
#[tokio::test]
async fn an_order_for_others_is_refused_before_anything_is_shown_or_asked() {
    let evil = json!({ "type": "dns", "value": "evil.example" });
    let added = {
        let evil = evil.clone();
        How::edit(move |it| it["identifiers"].as_array_mut().unwrap().push(evil.clone()))
    };
    let removed = How::edit(|it| drop(it["identifiers"].as_array_mut().unwrap().pop()));
    let changed = How::edit(move |it| it["identifiers"][0] = evil.clone());
    for how in [added, removed, changed] {
        let world = World::start().await;
        world.ca.fault(Step::NewOrder, how, Times::Count(1));
        let failure = world.failed().await;
        assert_eq!(failure.code, "acme.identifiers_differ", "{failure:?}");
        assert!(failure.message.contains("site.example"), "{failure:?}");
        let touched = [Step::Authorization, Step::Challenge, Step::Finalize];
        assert!(touched.iter().all(|it| world.ca.count(*it) == 0));
        world.live(HOUR).await;
        assert!(world.held().is_some());
    }
}

/// A33: the CA is down for a week, around the moment of a renewal. What is held stays and is
/// served; the CA is asked by the ladder, and afterwards once.
#[tokio::test]
async fn a_week_without_the_ca_costs_no_certificate_and_ends_without_a_burst() {
    let world = World::start().await;
    world.renewed().await;
    world.live(58 * DAY).await;
    let held = world.held();
    let (from, until) = (world.now(), world.now().saturating_add(7 * DAY));
    world.ca.fault_everywhere(How::Closed, Times::Between(from, until));
    let before = world.ca.requests();
    world.live(7 * DAY).await;
    assert_eq!(world.held(), held, "the old one stays");
    let during = world.ca.requests() - before;
    assert!((3..=100).contains(&during), "{during}");
    let failed = |it: &Event| matches!(it, Event::RenewalFailed { retry_at: Some(_), .. });
    assert!(world.told.all().iter().filter(|it| failed(it)).count() >= 3);
    let status = world.work().await.status;
    assert!(status.since.is_some_and(|it| it < world.now()), "{status:?}");

    let before = world.ca.requests();
    world.live(2 * DAY).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    assert_eq!(world.ca.issued(), 2);
    assert!(world.ca.requests() - before <= 40, "{}", world.ca.requests() - before);
}

/// The kinds and severities of what is told of a certificate that stands as `status` says.
fn told(world: &World, status: CertificateStatus) -> Vec<(AlertType, Health)> {
    let document = StatusDocument {
        format: STATUS_FORMAT,
        host: "host.example".into(),
        written_at: world.now(),
        notices: Vec::new(),
        certificates: vec![status],
    };
    let found = alert::troubles(&document, &AlertSettings::default(), world.now());
    found.into_iter().map(|it| (it.kind, it.severity)).collect()
}

/// A33: with a life of six days a week is too long: it is told as critical, and mended afterwards.
#[tokio::test]
async fn a_week_without_the_ca_is_critical_for_a_short_life_and_mended_at_the_next_try() {
    let setting = Setting { certificate: "profile = \"short\"\n".into(), ..Setting::default() };
    let world = World::with(setting).await;
    world.renewed().await;
    world.live(2 * DAY).await;
    let (from, until) = (world.now(), world.now().saturating_add(7 * DAY));
    world.ca.fault_everywhere(How::status(503), Times::Between(from, until));
    world.live(2 * DAY).await;
    let status = world.work().await.status;
    assert_eq!(told(&world, status).first().map(|it| it.0), Some(AlertType::CaUnavailable));
    world.live(5 * DAY).await;
    let status = world.work().await.status;
    let expired = (AlertType::CertificateExpired, Health::Critical);
    assert!(told(&world, status.clone()).contains(&expired), "{status:?}");
    assert_eq!(status.health, Health::Critical, "{status:?}");
    assert_eq!(status.condition, renewd::model::Condition::Expired, "{status:?}");
    // The longest pause is a day and a fifth.
    world.live(29 * HOUR).await;
    let status = world.work().await.status;
    assert!(status.not_after.unwrap_or(Timestamp::EPOCH) > world.now(), "{status:?}");
    assert_eq!(world.ca.issued(), 2);
}

/// A02: who would be refused an account waits, and neither fails nor tries in a hurry.
#[tokio::test]
async fn an_account_that_would_be_refused_is_waited_for_without_hurry() {
    let tables = "[ca.lab.limits]\nnew_accounts = \"1/1h\"\n".to_owned();
    let world = World::with(Setting { tables, ..Setting::default() }).await;
    // Nobody knows whether one was made.
    world.ca.fault(Step::NewAccount, How::Closed, Times::Count(1));
    world.failed().await;
    let rounds = world.live(HOUR / 2).await;
    assert!(rounds <= 6, "{rounds} rounds");
    assert_eq!((world.held(), world.ca.count(Step::NewAccount)), (None, 1));
    assert_eq!(world.state()["attempts"]["failures"], 1);
    world.live(HOUR).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
}

/// A13: what an order has spent of a limit keeps nobody from going on with it.
#[tokio::test]
async fn an_order_under_way_is_not_held_back_by_its_own_proofs() {
    let tables = "[ca.lab.limits]\nfailed_authorizations = \"1/1h\"\n".to_owned();
    let world = World::with(Setting { tables, ..Setting::default() }).await;
    world.ca.fault(Step::Order, How::Closed, Times::Always);
    world.failed().await;
    world.ca.mend();
    world.live(HOUR / 4).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!(world.orders(), 1);
}

/// A34: what stood between us and the CA is counted from when it began, and not from the last time.
#[tokio::test]
async fn a_page_today_and_another_tomorrow_end_no_order() {
    let world = World::start().await;
    world.ca.with(|it| it.options.issuing_takes = 40 * HOUR);
    let tried = async |page: bool| {
        if page {
            world.ca.fault(Step::Order, How::page(404, "<html>not here"), Times::Count(1));
        }
        let outcome = world.work_asked(Asked::ByName).await;
        assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
        world.clock.advance(HOUR);
    };
    tried(false).await;
    tried(true).await;
    tried(false).await;
    world.clock.advance(26 * HOUR);
    tried(true).await;
    world.live(3 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// In place of each look at the first order that is looked at from now on, `reply` comes.
fn first_order(reply: impl Fn() -> Reply + Send + Sync + 'static) -> How {
    let first = OnceLock::new();
    How::change(move |it| {
        let order: serde_json::Value = serde_json::from_slice(&it.body).unwrap();
        let finalize = order["finalize"].as_str().unwrap().to_owned();
        if *first.get_or_init(|| finalize.clone()) == finalize {
            *it = reply();
        }
    })
}

/// A world whose certificate ends in twelve hours.
pub(crate) async fn about_to_end() -> World {
    let setting = Setting { certificate: "profile = \"short\"\n".into(), ..Setting::default() };
    let world = World::with(setting).await;
    world.renewed().await;
    world.clock.advance(6 * DAY - 13 * HOUR);
    world
}

/// How many orders there are; one that was refused for what it replaces is none.
pub(crate) fn placed(world: &World) -> usize {
    world.ca.with(|it| it.orders.len())
}

/// A34: the URL of one order is in trouble for good, while the CA is well. After a day the next one
/// is placed.
#[tokio::test]
async fn an_order_whose_url_is_in_trouble_for_good_is_given_up_after_a_day() {
    let world = World::start().await;
    world.ca.fault(Step::Order, first_order(|| Reply::empty(500)), Times::Always);
    world.live(23 * HOUR).await;
    assert_eq!((world.held(), world.orders()), (None, 1));
    world.live(2 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (2, 1));
}

/// A33, A34: a CA that is down as a whole says nothing of an order, nor do the days before it was.
#[tokio::test]
async fn an_order_is_kept_while_the_ca_is_down_as_a_whole() {
    let world = World::start().await;
    world.ca.fault(Step::Certificate, How::Closed, Times::Always);
    world.failed().await;
    world.ca.mend();
    world.ca.fault(Step::Order, How::status(500), Times::Count(1));
    world.clock.advance(HOUR);
    world.failed().await;
    for how in [How::status(503), How::Closed, How::page(404, "<html>")] {
        let (from, until) = (world.now(), world.now().saturating_add(2 * DAY));
        world.ca.fault_everywhere(how, Times::Between(from, until));
        world.live(2 * DAY).await;
    }
    assert_eq!(world.orders(), 1);
    world.ca.mend();
    world.ca.fault(Step::Order, How::status(500), Times::Count(1));
    // Two pauses of the ladder, each of a day and a fifth at most.
    world.live(3 * DAY).await;
    assert!(world.held().is_some(), "{:#?}", world.told.all());
    assert_eq!((world.orders(), world.ca.issued()), (1, 1));
}

/// A34: what is held ends in hours. No order is waited for as if it had weeks.
#[tokio::test]
async fn no_order_that_is_stuck_is_waited_for_until_what_is_held_ends() {
    for reply in [|| Reply::text(404, "text/html", "<html>"), || Reply::empty(500)] {
        let world = about_to_end().await;
        let held = world.held();
        world.ca.fault(Step::Order, first_order(reply), Times::Always);
        world.live(6 * HOUR).await;
        assert_ne!(world.held(), held, "{:#?}", world.told.all());
        assert_eq!((placed(&world), world.ca.issued()), (3, 2));
    }
    // It is filled, and where it would be fetched there is only trouble.
    let world = about_to_end().await;
    let held = world.held();
    world.ca.fault(Step::Certificate, How::status(503), Times::Always);
    world.live(4 * HOUR).await;
    assert!((3..=5).contains(&placed(&world)), "{}", placed(&world));
    world.ca.mend();
    world.live(3 * HOUR).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    // It will be valid when what is held is not any more.
    let world = about_to_end().await;
    let held = world.held();
    world.ca.with(|it| it.forgery = Some(Forgery::Tomorrow));
    world.failed().await;
    world.ca.with(|it| it.forgery = None);
    world.live(6 * HOUR).await;
    assert_ne!(world.held(), held, "{:#?}", world.told.all());
    assert_eq!((placed(&world), world.ca.issued()), (3, 3));
}
