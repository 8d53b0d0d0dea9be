//! What a run leaves that died between two steps, or that was held back, and who makes up for it
//! (D04). The kills themselves are in `tests/it`: here the documents are put as a kill leaves them.

use std::fs;

use renewd::plan::Asked;

use crate::ca::{CaOptions, How, ScriptedCa, Step, Times};
use crate::support::write_secret;
use crate::world::{DAY, HOUR, MINUTE, World};

/// Where what is remembered of the certificate lies.
const FOLDER: &str = "state/private/certificates/site";
/// An order and its key on their way, and where they are set aside.
const ORDER: [[&str; 2]; 2] =
    [["order.json", "aside/lab/order.json"], ["next/privkey.pem", "aside/lab/privkey.pem"]];

fn read(world: &World, file: &str) -> Vec<u8> {
    fs::read(world.path(FOLDER).join(file)).unwrap()
}

fn put(world: &World, file: &str, content: &[u8]) {
    write_secret(&world.path(FOLDER).join(file), content, 0o600);
}

fn is_set_aside(world: &World) -> bool {
    world.path(FOLDER).join("aside/lab/order.json").exists()
}

/// D04: killed, or without room on the disk, between the switch to the new certificate and the note
/// that it came. The failures before it are over all the same, and the next ladder begins anew.
#[tokio::test]
async fn failures_end_with_the_certificate_that_came_after_them_though_nobody_noted_it() {
    let world = World::start().await;
    world.renewed().await;
    world.clock.advance(62 * DAY);
    world.ca.fault(Step::NewOrder, How::status(503), Times::Count(3));
    for _ in 0..3 {
        let outcome = world.work_asked(Asked::ByName).await;
        assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
    }
    assert_eq!(world.state()["attempts"]["failures"], 3);
    let failing = read(&world, "state.json");
    let outcome = world.work_asked(Asked::ByName).await;
    assert!(outcome.renewed, "{outcome:?}");
    put(&world, "state.json", &failing);

    let world = world.restart().await;
    world.work().await;
    assert_eq!(world.state()["attempts"]["failures"], 0);
    world.clock.advance(62 * DAY);
    world.ca.fault(Step::NewOrder, How::status(503), Times::Count(1));
    world.failed().await;
    let next = world.work().await.status.next_attempt_at.unwrap();
    assert!(next.since(world.now()) <= 2 * MINUTE, "the ladder's first pause: {next}");
}

/// D04: killed before what was set aside was forgotten. It belongs to a renewal that is over: the
/// next one, however late, does not end in a certificate of then.
#[tokio::test]
async fn an_order_set_aside_is_forgotten_when_a_certificate_has_come_though_a_kill_kept_it() {
    for (has_noted_success, later) in [(true, 0), (false, 0), (false, 62)] {
        let world = World::start().await;
        world.ca.fault(Step::Finalize, How::status(503), Times::Count(1));
        world.failed().await;
        let order = ORDER.map(|[under_way, aside]| (aside, read(&world, under_way)));
        let failing = read(&world, "state.json");
        world.live(HOUR).await;
        let held = world.held();
        assert!(held.is_some(), "{:#?}", world.told.all());

        for (file, content) in &order {
            put(&world, file, content);
        }
        if !has_noted_success {
            put(&world, "state.json", &failing);
        }
        let world = world.restart().await;
        world.clock.advance(later * DAY);
        let outcome = world.work().await;
        assert_eq!(world.state()["attempts"]["failures"], 0);
        assert!(!is_set_aside(&world), "{later} days later");
        assert_eq!((outcome.renewed, world.held() != held), (later > 0, later > 0), "{outcome:?}");
    }
}

/// D04: an order is set aside, since its CA wants to be left alone, and the CA that is asked in its
/// place is not asked just now. Nothing has failed, and nothing is over: it is not paid for twice.
#[tokio::test]
async fn an_order_set_aside_is_kept_while_the_other_ca_is_held_back() {
    let world = World::start().await;
    world.ca.fault(Step::Finalize, How::status(503), Times::Count(1));
    world.failed().await;
    // A kill would have noted no failure.
    fs::remove_file(world.path(FOLDER).join("state.json")).unwrap();
    let spare = ScriptedCa::start_at(CaOptions::default(), world.clock.clone()).await;
    let more = format!(
        "[[certificate]]\nname = \"other\"\ndomains = [\"other.example\"]\ntargets = []\n\
         [[certificate]]\nname = \"third\"\ndomains = [\"third.example\"]\ntargets = []\n\
         ca = \"spare\"\n\
         [ca.spare]\ndirectory = {:?}\ntrust = \"root.pem\"\n\
         [ca.spare.limits]\nnew_accounts = \"1/4h\"\n",
        spare.directory()
    );
    let (one, two) = ("name = \"site\"\n", "name = \"site\"\nca = [\"lab\", \"spare\"]\n");
    let world = world.reconfigured(|text| format!("{}\n{more}", text.replacen(one, two, 1))).await;

    // Two others find out that the one wants to be left alone, and that the other has no room.
    let busy = How::problem(503, "rateLimited").with("retry-after", "7200");
    world.ca.fault(Step::NewOrder, busy, Times::Count(1));
    spare.fault(Step::NewAccount, How::Closed, Times::Count(1));
    for spec in &world.agent.config.certificates[1..] {
        let outcome = world.agent.lifecycle.work(spec, Asked::ByTime).await.unwrap();
        assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
    }
    for _ in 0..3 {
        let failure = world.failed().await;
        assert_eq!(failure.code, "ledger.limit", "{failure:?}");
        assert!(is_set_aside(&world));
        world.clock.advance(15 * MINUTE);
    }
    assert_eq!(world.state()["attempts"]["failures"], 0);
    world.live(2 * HOUR).await;
    assert!(world.held().is_some() && !is_set_aside(&world), "{:#?}", world.told.all());
    let placed = world.ca.with(|it| it.orders.len());
    assert_eq!((placed, world.ca.issued(), spare.issued()), (1, 1, 0));
}
