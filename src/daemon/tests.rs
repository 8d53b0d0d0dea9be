//! The daemon as a whole, with a clock that a hand turns and a CA that nobody runs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixDatagram};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Daemon, Handle, Refused, Reloaded};
use crate::assemble::{Base, build};
use crate::config::{self, Environment};
use crate::model::{
    CertificateName, ChallengeType, Condition, Event, Identifier, Observer, Proof, StatusDocument,
    Timestamp, Token,
};
use crate::observe::alert::ALERTS_UNDELIVERED;
use crate::solver::{HandedSockets, Presented, Solver, SolverError};
use crate::store::Store;
use crate::sys::atomic::{self, Access};
use crate::sys::clock::{Clock, ManualClock};
use crate::sys::notify::Supervisor;
use crate::sys::signals::Signals;

const LIMIT: Duration = Duration::from_secs(60);
/// As [`configuration`] says.
const PARALLEL: usize = 3;

/// Counts renewals, and panics in those of certificates called `bad`.
#[derive(Debug, Default)]
struct Counting {
    started: Mutex<BTreeMap<CertificateName, usize>>,
    panics: Mutex<usize>,
    /// Renewals that run now, and the most that ever did.
    at_once: Mutex<(usize, usize)>,
    /// How often the configuration was read and taken.
    readings: Mutex<usize>,
    /// If there is one, the next configuration in force holds up whoever tells of it.
    gate: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl Counting {
    fn started(&self, name: &str) -> usize {
        let started = self.started.lock().unwrap();
        started.get(&name.parse().unwrap()).copied().unwrap_or_default()
    }
}

impl Observer for Counting {
    fn observe(&self, event: &Event) {
        match event {
            Event::RenewalStarted { certificate, .. } => {
                *self.started.lock().unwrap().entry(certificate.clone()).or_default() += 1;
                let mut at_once = self.at_once.lock().unwrap();
                at_once.0 += 1;
                at_once.1 = at_once.1.max(at_once.0);
                drop(at_once);
                assert!(certificate.as_str() != "bad", "a fault of ours");
            }
            Event::RenewalFailed { .. } => self.at_once.lock().unwrap().0 -= 1,
            Event::ConfigLoaded { .. } => {
                *self.readings.lock().unwrap() += 1;
                let gate = self.gate.lock().unwrap().take();
                if let Some(gate) = gate {
                    gate.recv().unwrap_err();
                }
            }
            Event::Panicked { .. } => *self.panics.lock().unwrap() += 1,
            _ => {}
        }
    }
}

pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    observer: Arc<Counting>,
    pub(super) handle: Handle,
    running: JoinHandle<()>,
}

fn configuration(names: &[&str]) -> String {
    let mut text =
        "parallel = 3\nstate_dir = \"state\"\nrun_dir = \"run\"\nterms_of_service_agreed = true\n\
                    default_ca = \"dead\"\n[ca.dead]\ndirectory = \"https://127.0.0.1:1/dir\"\n"
            .to_owned();
    text += "[solver.stuck]\ntype = \"http-01\"\nwebroot = \".\"\n";
    for name in names {
        text += &format!(
            "[[certificate]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\ntargets = []\n"
        );
        if name.starts_with("stuck") {
            text += "solver = \"stuck\"\n";
        }
    }
    text
}

/// Never says whether it could show anything: as a fault of ours would hang.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl Solver for Stuck {
    fn challenge_type(&self) -> ChallengeType {
        ChallengeType::Http01
    }

    async fn check(&self) -> Result<(), SolverError> {
        std::future::pending().await
    }

    async fn present(&self, _: &Proof) -> Result<Presented, SolverError> {
        std::future::pending().await
    }

    async fn clean_up_leftover(&self, _: &Identifier, _: &Token) -> Result<(), SolverError> {
        Ok(())
    }
}

impl World {
    /// Runs a daemon for certificates called `names`.
    pub(super) async fn start(names: &[&str]) -> Self {
        Self::start_for(names, Supervisor::default()).await
    }

    /// Runs a daemon for certificates called `names`, which tells `supervisor` how it is.
    async fn start_for(names: &[&str], supervisor: Supervisor) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config_file = folder.path().join("renewd.toml");
        atomic::write(&config_file, configuration(names).as_bytes(), Access::mode(0o600)).unwrap();
        atomic::directory(&folder.path().join("run"), Access::mode(0o755)).unwrap();
        let environment = Environment::default();
        let config = config::load(&config_file, &environment).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_800_000_000)));
        let observer = Arc::new(Counting::default());
        let store = Store::open(&config.store, clock.clone(), Duration::ZERO).await.unwrap();
        let base = Base {
            store: Arc::new(store),
            clock: clock.clone(),
            observer: observer.clone(),
            host: "test".to_owned(),
            handed: HandedSockets::default(),
        };
        let mut agent = build(config, &base, None).unwrap();
        let issuer = Arc::get_mut(&mut agent.lifecycle).map(|it| &mut it.issuer).unwrap();
        let solvers = Arc::get_mut(issuer).map(|it| &mut it.solvers).unwrap();
        solvers.insert("stuck".parse().unwrap(), Arc::new(Stuck));
        let agent = Arc::new(agent);
        let (running, handle) =
            Daemon { base, agent, config_file, environment, supervisor }.prepare();
        let running = tokio::spawn(running.run(Signals::listen().unwrap()));
        Self { folder, clock, observer, handle, running }
    }

    fn configure(&self, names: &[&str]) {
        let file = self.folder.path().join("renewd.toml");
        atomic::write(&file, configuration(names).as_bytes(), Access::mode(0o600)).unwrap();
    }

    /// Turns the clock until the status is as `is_right` says; shows it.
    async fn until(&self, is_right: impl Fn(&StatusDocument) -> bool) -> StatusDocument {
        self.until_by(Duration::from_secs(1), is_right).await
    }

    /// As [`World::until`], with so much time passing at each turn.
    async fn until_by(
        &self,
        step: Duration,
        is_right: impl Fn(&StatusDocument) -> bool,
    ) -> StatusDocument {
        let turning = async {
            loop {
                let status = self.handle.status();
                if is_right(&status) {
                    return status;
                }
                self.clock.advance(step);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, turning).await.unwrap_or_else(|_late| panic!("{:#?}", self.handle.status()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn in_force(certificates: usize) -> Result<Reloaded, Refused> {
    Ok(Reloaded { certificates, rejected: Vec::new() })
}

fn failures(status: &StatusDocument, name: &str) -> Option<u32> {
    status.certificates.iter().find(|it| it.name.as_str() == name).map(|it| it.failures)
}

/// P11: a task that panics, hangs or runs away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_ones_work_is_counted_shown_and_tried_again_and_the_others_go_on() {
    let world = World::start(&["bad", "good"]).await;
    let status = world.until(|it| failures(it, "good") >= Some(1)).await;
    assert_eq!(status.certificates.len(), 2, "also the one that panics is shown: {status:#?}");

    let status = world
        .until(|it| it.notices.iter().any(|it| it.message.contains("bad panicked 3 times")))
        .await;
    assert!(status.notices.iter().any(|it| it.code == "agent.degraded"));
    assert!(*world.observer.panics.lock().unwrap() >= 3);
    assert!(world.observer.started("bad") >= 3);

    // The ladder of local failures, so no hot loop: 5 s, 30 s, 2 min.
    let begun = world.observer.started("bad");
    let passed = world.clock.monotonic();
    world.until(|_| world.observer.started("bad") > begun).await;
    let pause = world.clock.monotonic().saturating_sub(passed);
    // Some of it has passed before the third is seen here; the rung before is shorter.
    assert!(pause >= Duration::from_secs(45), "{pause:?}");
}

/// T02: a clock that is set back by a year makes nobody wait for a year.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_keeps_nobody_waiting_for_the_old_time() {
    let world = World::start(&["site"]).await;
    world.until(|_| world.observer.started("site") >= 2).await;
    let year = Duration::from_hours(24 * 365);
    world.clock.step(world.clock.now().saturating_sub(year));
    let (set_at, tried) = (world.clock.monotonic(), world.observer.started("site"));
    let by = Duration::from_secs(20);
    world.until_by(by, |_| world.observer.started("site") > tried).await;
    let passed = world.clock.monotonic().saturating_sub(set_at);
    // Ten minutes, and a fifth, is what it pauses for after a second failure.
    assert!(passed < Duration::from_hours(24), "{passed:?}");
}

/// P11: a task that panics, hangs or runs away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_never_ends_is_given_up_told_and_tried_again_and_its_slots_go_to_others() {
    let stuck = ["stuck-a", "stuck-b", "stuck-c"];
    assert_eq!(stuck.len(), PARALLEL, "they take all slots");
    let world = World::start(&["good", "stuck-a", "stuck-b", "stuck-c"]).await;
    let begun = |times| stuck.iter().all(|it| world.observer.started(it) >= times);
    world.until(|_| begun(1)).await;
    let handle = world.handle.clone();
    let asked = tokio::spawn(async move {
        handle.work(vec!["stuck-a".parse().unwrap()], crate::plan::Asked::ByName).await
    });
    let (tried, since) = (world.observer.started("good"), world.clock.monotonic());

    let minute = Duration::from_mins(1);
    let status = world
        .until_by(minute, |it| {
            let given_up = |name: &&str| {
                let words = format!("the work on {name} did not end");
                it.notices.iter().any(|it| it.message == words && it.code == "agent.degraded")
            };
            stuck.iter().all(given_up)
        })
        .await;
    let waited = world.clock.monotonic().saturating_sub(since);
    assert!(waited >= Duration::from_hours(2), "rightful work takes its time: {waited:?}");
    assert_eq!(status.certificates.len(), 4, "also those that hang are shown: {status:#?}");
    // Not all at once: a slot is kept for what is well.
    world.until_by(minute, |_| begun(2) && world.observer.started("good") > tried).await;
    // Whoever waits hears of it as well.
    world.until_by(minute, |_| asked.is_finished()).await;
    let reports = asked.await.unwrap().unwrap();
    assert_eq!(reports[0].failures[0].code, "agent.overdue", "{reports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trouble_of_the_agent_is_over_when_its_certificate_is_gone() {
    let world = World::start(&["bad", "good"]).await;
    let is_degraded = |it: &StatusDocument| it.notices.iter().any(|it| it.code == "agent.degraded");
    world.until(is_degraded).await;
    world.configure(&["good"]);
    assert_eq!(world.handle.reload().await, in_force(1));
    let status = world.until(|it| !is_degraded(it)).await;
    assert_eq!(status.certificates.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_and_added_again_comes_back_and_backoff_outlives_it() {
    let world = World::start(&["one", "two"]).await;
    world.until(|it| failures(it, "two") >= Some(1)).await;
    let begun = world.observer.started("two");
    world.configure(&["one"]);
    assert_eq!(world.handle.reload().await, in_force(1));
    let status = world.until(|it| it.certificates.len() == 1).await;
    assert_eq!(status.certificates[0].name.as_str(), "one");
    world.configure(&["one", "two"]);
    assert_eq!(world.handle.reload().await, in_force(2));
    let status = world.until(|it| it.certificates.len() == 2).await;
    assert!(failures(&status, "two") >= Some(1), "{status:#?}");
    // The first pause is a minute; a reload does not shorten it.
    assert!(world.observer.started("two") <= begun + 1);
}

/// H08: a thousand renewals at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reloads_is_answered_with_few_readings_and_no_more_work_than_slots() {
    let names: Vec<String> = (0..50).map(|it| format!("c{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = World::start(&names).await;
    let before = *world.observer.readings.lock().unwrap();
    let storm = (0..200).map(|_| world.handle.reload());
    let answers = timeout(LIMIT, futures_util::future::join_all(storm)).await.unwrap();
    let busy = answers.iter().filter(|it| **it == Err(Refused::Busy)).count();
    let done = answers.iter().filter(|it| **it == in_force(50)).count();
    assert_eq!(busy + done, 200, "{answers:?}");
    assert!(done >= 1);
    let readings = *world.observer.readings.lock().unwrap() - before;
    assert!((1..=20).contains(&readings), "{readings} readings");
    let tried = |it: &StatusDocument| it.certificates.iter().filter(|it| it.failures >= 1).count();
    world.until(|it| tried(it) == 50).await;
    let (_, most) = *world.observer.at_once.lock().unwrap();
    assert!((1..=PARALLEL).contains(&most), "{most} at once");
}

/// H08: the same of work that a thousand ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_ask_for_the_same_work_have_it_done_a_few_times_and_in_turn() {
    let world = World::start(&["one", "two"]).await;
    world.until(|it| failures(it, "one") >= Some(1)).await;
    let before = world.observer.started("one");
    let asked = || world.handle.work(Vec::new(), crate::plan::Asked::ByName);
    let storm = (0..1000).map(|_| asked());
    let answers = timeout(LIMIT, futures_util::future::join_all(storm)).await.unwrap();
    let done = answers.iter().filter(|it| it.as_ref().is_ok_and(|it| it.len() == 2)).count();
    let busy = answers.iter().filter(|it| matches!(it, Err(Refused::Busy))).count();
    assert_eq!(done + busy, 1000);
    assert!(done >= 1);
    // Whoever comes during a run is answered by the next one, and there is no third to wait for.
    let runs = world.observer.started("one") - before;
    assert!((1..=20).contains(&runs), "{runs} runs for {done} answers");
    let (_, most) = *world.observer.at_once.lock().unwrap();
    assert!((1..=PARALLEL).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_work_is_answered_and_sees_what_came_of_it_at_once() {
    let world = World::start(&["one", "two"]).await;
    world.until(|it| failures(it, "one") >= Some(1)).await;
    for round in 2..5 {
        let asked = world.handle.work(vec!["one".parse().unwrap()], crate::plan::Asked::ByName);
        let reports = timeout(LIMIT, asked).await.unwrap().unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].failures.len(), 1, "{reports:?}");
        let shown = world.until(|it| failures(it, "one") >= Some(round)).await;
        assert_eq!(failures(&shown, "one"), Some(round));
    }
    let unknown = world.handle.work(vec!["none".parse().unwrap()], crate::plan::Asked::ByName);
    assert!(matches!(unknown.await, Err(Refused::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_turns_shows_life_and_one_that_stands_still_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    let address = path.to_str().unwrap();
    let supervisor = Supervisor::from_variables(|name| match name {
        "NOTIFY_SOCKET" => Some(address.to_owned()),
        "WATCHDOG_USEC" => Some("10000000".to_owned()),
        _ => None,
    });
    let world = World::start_for(&["one"], supervisor.unwrap()).await;
    let next = async |wanted: &str| {
        let mut buffer = [0; 4096];
        let listening = async {
            loop {
                world.clock.advance(Duration::from_secs(1));
                let waited = timeout(Duration::from_millis(20), heard.recv(&mut buffer)).await;
                let Ok(count) = waited else { continue };
                let text = String::from_utf8_lossy(&buffer[..count.unwrap()]).into_owned();
                if text.starts_with(wanted) {
                    return text;
                }
            }
        };
        timeout(LIMIT, listening).await.unwrap_or_else(|_late| panic!("no {wanted}"))
    };
    next("READY=1\nSTATUS=").await;
    for _ in 0..3 {
        next("WATCHDOG=1").await;
    }

    let (open, gate) = std::sync::mpsc::channel();
    *world.observer.gate.lock().unwrap() = Some(gate);
    let handle = world.handle.clone();
    let reload = tokio::spawn(async move { handle.reload().await });
    next("RELOADING=1\nMONOTONIC_USEC=").await;
    let is_stuck = async {
        while world.observer.gate.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, is_stuck).await.unwrap();
    let mut buffer = [0; 4096];
    while heard.try_recv(&mut buffer).is_ok() {}
    for _ in 0..50 {
        world.clock.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(heard.try_recv(&mut buffer).is_err(), "a loop that stands still tells nothing");

    drop(open);
    next("READY=1\n").await;
    next("WATCHDOG=1").await;
    assert_eq!(reload.await.unwrap(), in_force(1));
}

/// W05: a receiver that is dead.
#[tokio::test]
async fn that_a_receiver_is_dead_is_shown_and_told_to_the_others() {
    let world = World::start(&["a"]).await;
    let file = world.folder.path().join("renewd.toml");
    let alert = "[[alert]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n";
    let text = format!("{}{alert}", configuration(&["a"]));
    atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
    assert_eq!(world.handle.reload().await, in_force(1));
    let is_told = |it: &StatusDocument| it.notices.iter().any(|it| it.code == ALERTS_UNDELIVERED);
    world.until_by(Duration::from_secs(10), is_told).await;
    let holds_it = |file: &str| {
        let text = fs::read_to_string(world.folder.path().join(file)).unwrap_or_default();
        text.contains(ALERTS_UNDELIVERED)
    };
    world.until(|_| holds_it("run/status.json")).await;
    world.until(|_| holds_it("state/private/alerts/outbox.json")).await;
}

/// Somebody who watches for the heartbeat.
struct Watcher {
    address: SocketAddr,
    heard: Arc<Mutex<usize>>,
}

impl Watcher {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if matches!(stream.read(&mut request).await, Ok(count) if count > 0) {
                    *counted.lock().unwrap() += 1;
                }
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                drop(stream.write_all(answer).await);
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> usize {
        *self.heard.lock().unwrap()
    }
}

/// W05: whoever watches hears nothing while renewd does not do what its configuration says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_heartbeat_is_sent_while_a_configuration_is_refused() {
    let world = World::start(&["a"]).await;
    let watcher = Watcher::start().await;
    let file = world.folder.path().join("renewd.toml");
    let configure = |more: &str| {
        let alerts = format!("[alerts]\nheartbeat_url = \"http://{}/\"\n", watcher.address);
        let text = format!("{}{alerts}{more}", configuration(&["a"]));
        atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
    };
    configure("");
    assert_eq!(world.handle.reload().await, in_force(1));
    let by = Duration::from_secs(20);
    world.until_by(by, |_| watcher.heard() > 1).await;

    configure("nonsense = 1\n");
    assert!(matches!(world.handle.reload().await, Err(Refused::Faulty(_))));
    let (heard, refused_at) = (watcher.heard(), world.clock.monotonic());
    let hour = Duration::from_hours(1);
    world.until_by(by, |_| world.clock.monotonic().saturating_sub(refused_at) > hour).await;
    // One may have been on its way, and one about to be sent; of an hour there are twelve.
    let meanwhile = watcher.heard() - heard;
    assert!(meanwhile <= 2, "{meanwhile} heartbeats");

    configure("");
    assert_eq!(world.handle.reload().await, in_force(1));
    world.until_by(by, |_| watcher.heard() > heard + meanwhile).await;
}

/// What can't be looked at is tried at once, and told: its next try may be weeks away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_looked_at_is_tried_and_told_long_before_it_was_due() {
    let world = World::start(&["site"]).await;
    let file = world.folder.path().join("renewd.toml");
    let of_nobody = "directory = \"https://127.0.0.1:1/dir\"";
    let text = configuration(&["site"]).replace(of_nobody, "type = \"local\"");
    atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
    assert_eq!(world.handle.reload().await, in_force(1));
    let is_held =
        |it: &StatusDocument| it.certificates.iter().any(|it| it.condition == Condition::Held);
    world.until(is_held).await;
    // What its new files wake comes first: they are quiet by a clock that no hand turns.
    let held_at = world.clock.monotonic();
    let settled = |_: &StatusDocument| {
        world.clock.monotonic().saturating_sub(held_at) > Duration::from_mins(15)
    };
    world.until_by(Duration::from_secs(3), settled).await;
    let state = world.folder.path().join("state/private/certificates/site/state.json");
    fs::remove_file(&state).unwrap();
    atomic::directory(&state.join("in-the-way"), Access::mode(0o700)).unwrap();
    let broken_at = world.clock.monotonic();
    let is_told = |it: &StatusDocument| it.notices.iter().any(|it| it.code == "agent.storage");
    let status = world.until_by(Duration::from_secs(10), is_told).await;
    let passed = world.clock.monotonic().saturating_sub(broken_at);
    assert!(passed < Duration::from_hours(12), "{passed:?}: {status:#?}");
}
