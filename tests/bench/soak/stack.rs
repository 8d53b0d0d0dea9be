//! The whole of renewd for each certificate: configuration, store, orders, proofs, files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use renewd::assemble::{self, Agent, Base};
use renewd::config::{self, Environment};
use renewd::model::{Event, Observer, Timestamp};
use renewd::plan::Asked;
use renewd::solver::HandedSockets;
use renewd::store::Store;
use renewd::sys::clock::Clock;

use super::{DAY, Fate, Figures, OUTAGE, profile, usual, was_gone};
use crate::ca::{Advice, CaOptions, How, Limits, Proofs, Reply, STARTED, ScriptedCa, Step, Times};
use crate::support::write;

/// Nobody hears of what happens: it is counted by what is held.
struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _event: &Event) {}
}

/// What happens by chance, in shares of all requests.
fn misfortunes() -> Vec<(Option<Step>, How, f64)> {
    let limited = Reply::problem(429, "rateLimited", "by chance").with("retry-after", "900");
    vec![
        (Some(Step::NewOrder), How::Instead(limited), 0.01),
        (Some(Step::NewOrder), How::problem(400, "malformed"), 0.01),
        (Some(Step::Finalize), How::DoneThenClosed, 0.02),
        (Some(Step::Finalize), How::problem(403, "orderNotReady"), 0.01),
        (Some(Step::Certificate), How::body("-----BEGIN CERTIFICATE-----\n"), 0.01),
        (
            Some(Step::Challenge),
            How::after(|ca| {
                if let Some(it) = ca.authorizations.values_mut().next_back() {
                    it.status = "revoked";
                }
            }),
            0.01,
        ),
        (Some(Step::RenewalInfo), How::page(500, "<html>"), 0.05),
        (Some(Step::RenewalInfo), How::body("[]"), 0.02),
        (None, How::problem(400, "badNonce"), 0.01),
        (None, How::page(502, "<html>"), 0.01),
        (None, How::problem(503, "serverInternal"), 0.01),
        (None, How::Closed, 0.005),
        (None, How::Cut, 0.003),
        (None, How::body("{\"status\":"), 0.003),
    ]
}

fn configuration(ca: &ScriptedCa, certificates: usize) -> String {
    let mut text = format!(
        "state_dir = \"state\"\nrun_dir = \"run\"\ndeployer = \"direct\"\n\
         terms_of_service_agreed = true\ndefault_ca = \"lab\"\n\
         [ca.lab]\ndirectory = {:?}\ntrust = \"root.pem\"\n\
         [ca.lab.limits]\nnew_accounts = \"10/3h\"\nnew_orders = \"300/3h\"\n\
         certificates_per_domain = \"50/7d\"\ncertificates_per_set = \"5/7d\"\n\
         failed_authorizations = \"5/1h\"\nexempt = [\"replacements\"]\n",
        ca.directory()
    );
    for index in 0..certificates {
        let (profile, _) = profile(index);
        writeln!(text, "[[certificate]]\nname = \"c{index}\"\nplaceholder = false").unwrap();
        writeln!(text, "domains = [\"www.c{index}.example\", \"c{index}.example\"]").unwrap();
        writeln!(text, "targets = []\nprofile = {profile:?}").unwrap();
    }
    text
}

/// Lives through `fate`; calls `told` once each simulated day.
pub(crate) async fn live(fate: Fate, mut told: impl FnMut(u32, &Figures)) -> Figures {
    fastrand::seed(fate.seed);
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let ca = ScriptedCa::start(CaOptions {
        proofs: Proofs::Files(folder.path().join("run/acme-challenge")),
        limits: Limits::lets_encrypt(),
        poll_after: Duration::from_hours(12),
        reuse_authorizations: Duration::from_hours(7),
        seed: fate.seed,
        ..CaOptions::default()
    })
    .await;
    let agent = agent(&ca, folder.path(), fate.certificates).await;
    let (turned, specs) = (ca.clock(), agent.config.certificates.clone());

    let started: Timestamp = STARTED.parse().unwrap();
    let on = |day: u32| started.saturating_add(DAY * day);
    let (gone, incident) = (on(fate.outage), on(fate.incident));
    trouble(&ca, gone);
    let mut figures = Figures::default();
    let mut wakes: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    // As at a first start, but over an hour: so many at once are another test's matter.
    for index in 0..specs.len() {
        let after = Duration::from_hours(1).mul_f64(fastrand::f64());
        wakes.push(Reverse((started.saturating_add(after), index)));
    }
    let mut lives: HashMap<usize, (Timestamp, Timestamp)> = HashMap::new();
    let mut ordered: HashMap<(usize, u64), u64> = HashMap::new();
    let (mut day, mut had_incident) = (0, false);
    while let Some(Reverse((at, index))) = wakes.pop() {
        if at >= on(fate.days) {
            break;
        }
        turned.advance_to(at);
        while turned.now() >= on(day + 1) {
            day += 1;
            ca.with(crate::ca::Model::prune);
            ordered.clear();
            if day % 20 == 0 {
                figures.note_footprint(day);
            }
            told(day, &figures);
        }
        if !had_incident && turned.now() >= incident {
            had_incident = true;
            advise_at_once(&ca, turned.now());
        }
        let before = ca.count(Step::NewOrder);
        let outcome = agent.lifecycle.work(&specs[index], Asked::ByTime).await.unwrap();
        figures.works += 1;
        figures.failures += u64::from(!outcome.failures.is_empty());
        let orders = ordered.entry((index, u64::from(day))).or_default();
        // Where nobody answers, nobody is burdened.
        let is_gone = gone <= at && at < gone.saturating_add(OUTAGE);
        *orders += if is_gone { 0 } else { ca.count(Step::NewOrder) - before };
        figures.orders_a_day = figures.orders_a_day.max(*orders);

        let now = turned.now();
        let status = outcome.status;
        if let (Some(from), Some(until)) = (status.not_before, status.not_after) {
            let known = lives.insert(index, (from, until));
            // Whoever is replaced after its end was missed for a while.
            let ended = known.filter(|(_, end)| *end < now && outcome.renewed);
            if let Some((from, end)) = ended {
                if was_gone(usual(from, end), end, gone) {
                    figures.lost_to_outages += 1;
                } else {
                    figures.lost.push(format!("{} at {end}, by {now}", status.name));
                }
            }
        }
        let soon = now.saturating_add(Duration::from_secs(1));
        wakes.push(Reverse((outcome.plan.wake_at().max(soon), index)));
    }
    let lost = lives.iter().filter(|(_, (_, end))| *end < turned.now());
    figures.lost.extend(lost.map(|(index, (_, end))| format!("c{index} at {end}, for good")));
    assert_eq!(lives.len(), specs.len(), "each has one");
    figures.issued = ca.issued();
    figures.orders = ca.count(Step::NewOrder);
    figures.polls = ca.count(Step::RenewalInfo);
    figures.limited = ca.with(|it| it.buckets.refused.values().sum());
    figures
}

/// The whole of renewd for `certificates` of `ca`, below `folder`, with nobody to watch it.
async fn agent(ca: &ScriptedCa, folder: &Path, certificates: usize) -> Agent {
    write(&folder.join("renewd.toml"), configuration(ca, certificates));
    write(&folder.join("root.pem"), ca.root_pem());
    let config = config::load(&folder.join("renewd.toml"), &Environment::default());
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    let clock: Arc<dyn Clock> = ca.clock();
    let store = Store::open(&config.store, clock.clone(), DAY).await.unwrap();
    let base = Base {
        store: Arc::new(store),
        clock,
        observer: Arc::new(Nobody),
        host: "host.example".into(),
        handed: HandedSockets::default(),
    };
    assemble::build(config, &base, None).unwrap()
}

/// Faults of all kinds at `ca`, and none of it to be reached for a while from `gone` on.
fn trouble(ca: &ScriptedCa, gone: Timestamp) {
    ca.fault_everywhere(How::Closed, Times::Between(gone, gone.saturating_add(OUTAGE)));
    for (at, how, share) in misfortunes() {
        match at {
            Some(at) => ca.fault(at, how, Times::Share(share)),
            None => ca.fault_everywhere(how, Times::Share(share)),
        }
    }
}

/// Has `ca` advise to renew a third of all its certificates at once.
fn advise_at_once(ca: &ScriptedCa, now: Timestamp) {
    let over = Advice::between(now.saturating_sub(DAY * 2), now.saturating_sub(DAY));
    ca.with(|it| {
        let ids: Vec<String> =
            it.certificates.values().step_by(3).map(|it| it.id.clone()).collect();
        it.advice.extend(ids.into_iter().map(|id| (id, over.clone())));
    });
}
