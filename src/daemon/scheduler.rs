//! The loop that decides when: see the module's header.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::{Id, JoinError, JoinSet};

use crate::assemble::{Agent, Base, WorkReport, report};
use crate::config::Severity;
use crate::lifecycle::Outcome;
use crate::model::{
    CaName, CertificateName, Event, Failure, Notice, STATUS_FORMAT, StatusDocument, StorageError,
    Timestamp, chain_text, escaped,
};
use crate::plan::Asked;
use crate::plan::backoff::{Jitter, after_local_failure};
use crate::solver;
use crate::sys::process;
use crate::sys::signals::{Signal, Signals};

use super::entry::{Breakdown, Schedule, Stage};
use super::pass::{Passed, Passes};
use super::reload::{Begun, Reloads, Reply};
use super::supervision::{Supervision, Word};
use super::watch::{Changed, Watch};
use super::{Command, Daemon, Reloaded, SHUTDOWN_GRACE, Shown, herald, limit, notices, tick};

/// The longest sleep: a clock that was stepped, or a tick that was lost, costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// What takes no longer to show is shown before whoever waits is answered; else these wait until it
/// is shown next, or ten thousand answers would show ten thousand certificates each.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How many new certificates are put in order at once. It is work for the disk alone, and has
/// slots of its own: servers that wait for a placeholder need not wait for a CA.
const ENTERING: usize = 4;
/// To show how everything stands costs so much for each certificate that it is not done more often
/// than this times their number, unless somebody waits for it.
const SHOWING: Duration = Duration::from_micros(200);
/// What is still due after its work has just been tried: a breath, and no hot loop.
const BREATH: Duration = Duration::from_millis(200);

/// A status document with nothing looked at yet.
pub(super) fn empty_document(base: &Base, agent: &Agent) -> StatusDocument {
    StatusDocument {
        format: STATUS_FORMAT,
        host: base.host.clone(),
        written_at: base.clock.now(),
        notices: agent.all_notices(),
        certificates: Vec::new(),
    }
}

/// Runs `daemon` until `signals` ask for the end.
pub(super) async fn run(
    daemon: Daemon,
    mut commands: mpsc::Receiver<Command>,
    status: channel::Sender<Shown>,
    mut signals: Signals,
) {
    let clock = daemon.base.clock.clone();
    let mut ticks = tick::start(&daemon.base).await;
    let herald = herald::start(&daemon.base, &daemon.agent, status.subscribe());
    let mut watch = Watch::start(&daemon.base, &daemon.agent.config);
    let mut scheduler = Scheduler::new(daemon, status, herald);
    if scheduler.start(&mut signals).await == Some(Signal::End) {
        return scheduler.stop().await;
    }

    loop {
        scheduler.look_afresh();
        scheduler.begin_due();
        scheduler.publish();
        scheduler.attend();
        process::reap_orphans();
        let sleep = scheduler.sleep();
        tokio::select! {
            () = clock.sleep(sleep) => {}
            Some(done) = scheduler.work.join_next_with_id() => scheduler.end(done),
            Some(pass) = scheduler.passes.ended() => scheduler.end_pass(pass),
            Some(tended) = scheduler.tended.join_next() => {
                tended.ok().flatten().iter().for_each(|ca| scheduler.schedule.account_mended(ca));
            }
            Some(()) = scheduler.supervision.pulsed() => scheduler.live(),
            Some(loaded) = scheduler.reloads.ended() => scheduler.end_reload(loaded, &watch),
            Some(command) = commands.recv() => scheduler.take(command),
            // It wakes, and that is all.
            Some(()) = ticks.recv() => {}
            Some(changed) = watch.changed() => match changed {
                Changed::Config => scheduler.reload(None),
                Changed::Certificates(names) => scheduler.wake(&names),
            },
            signal = signals.next() => match signal {
                Signal::Reload => scheduler.reload(None),
                Signal::End => break,
            },
        }
    }
    scheduler.stop().await;
}

/// What came of the work on a certificate.
type Worked = (CertificateName, Result<Outcome, Undone>);

/// Why there is no outcome.
#[derive(Debug)]
enum Undone {
    /// The state directory can't be used.
    Storage(StorageError),
    /// It went on for so long that it was given up.
    Overdue(Duration),
}

pub(super) struct Scheduler {
    pub(super) daemon: Daemon,
    pub(super) schedule: Schedule,
    work: JoinSet<Worked>,
    at_work: HashMap<Id, (CertificateName, Stage)>,
    passes: Passes,
    /// What is done to accounts: says whose was put right.
    pub(super) tended: JoinSet<Option<CaName>>,
    reloads: Reloads,
    rejected: Option<Notice>,
    /// Whether each certificate had its turn since this began.
    had_turns: bool,
    /// Who waits for what is to be shown next.
    answers: Vec<(oneshot::Sender<WorkReport>, WorkReport)>,
    status: channel::Sender<Shown>,
    is_changed: bool,
    /// When what changed is to be shown, by the monotonic clock.
    show_at: Duration,
    herald: herald::Herald,
    supervision: Supervision,
}

impl Scheduler {
    fn new(mut daemon: Daemon, status: channel::Sender<Shown>, herald: herald::Herald) -> Self {
        let supervision = Supervision::new(std::mem::take(&mut daemon.supervisor));
        let mut schedule = Schedule::default();
        schedule.set_names(&names(&daemon.agent));
        let passes = Passes::new(&*daemon.base.clock);
        Self {
            schedule,
            work: JoinSet::new(),
            at_work: HashMap::new(),
            passes,
            tended: JoinSet::new(),
            reloads: Reloads::default(),
            rejected: None,
            had_turns: false,
            answers: Vec::new(),
            status,
            is_changed: true,
            show_at: Duration::ZERO,
            herald,
            supervision,
            daemon,
        }
    }

    fn now(&self) -> Timestamp {
        self.daemon.base.clock.now()
    }

    fn sleep(&self) -> Duration {
        let longest = if self.is_changed {
            self.show_at.saturating_sub(self.monotonic())
        } else {
            LONGEST_SLEEP
        };
        let longest = self.supervision.sleep(self.monotonic(), longest);
        self.schedule.sleep(self.now(), longest)
    }

    fn monotonic(&self) -> Duration {
        self.daemon.base.clock.monotonic()
    }

    /// Has repaired what the last process may have left half done at targets, and is ready then;
    /// the signal that came meanwhile. It may be the end, which does not wait for that.
    async fn start(&mut self, signals: &mut Signals) -> Option<Signal> {
        let lifecycle = self.daemon.agent.lifecycle.clone();
        let mut repairing = std::pin::pin!(lifecycle.repair_targets());
        let mut came = None;
        loop {
            tokio::select! {
                () = &mut repairing => break,
                signal = signals.next() => came = Some(signal),
            }
            if came == Some(Signal::End) {
                return came;
            }
        }
        self.passes.sweep(&self.daemon.agent);
        self.publish();
        self.say(Word::Ready);
        if came == Some(Signal::Reload) {
            self.reload(None);
        }
        came
    }

    /// Says that it ends, and ends.
    async fn stop(mut self) {
        self.say(Word::Stopping);
        self.finish().await;
    }

    /// Tells the service manager `word`.
    fn say(&mut self, word: Word) {
        let now = self.monotonic();
        self.supervision.tell(word, now);
    }

    /// Tells the service manager what it is to hear at this turn of the loop.
    fn attend(&mut self) {
        let (now, store) = (self.monotonic(), self.daemon.base.store.clone());
        self.supervision.turn(now, || async move { store.pulse().await });
    }

    /// The loop turns, and the store has answered.
    fn live(&mut self) {
        let now = self.monotonic();
        self.supervision.alive(now);
    }

    /// How many of `limit` slots are free for what is at `stage`. Also work that began under an
    /// older configuration counts.
    fn free(&self, stage: Stage, limit: usize) -> usize {
        limit.saturating_sub(self.at_work.values().filter(|(_, it)| *it == stage).count())
    }

    /// Begins the work of every certificate that is due; what finds no slot waits for one.
    fn begin_due(&mut self) {
        for name in self.schedule.new_ones(self.free(Stage::Entering, ENTERING)) {
            self.begin(name, Stage::Entering);
        }
        let limit = self.daemon.agent.config.parallel.max(1);
        for name in self.schedule.due(self.now(), limit, self.free(Stage::Working, limit)) {
            self.begin(name, Stage::Working);
        }
    }

    fn begin(&mut self, name: CertificateName, stage: Stage) {
        let agent = self.daemon.agent.clone();
        let Some(spec) = agent.spec(&name).cloned() else {
            self.schedule.forget(&name);
            return;
        };
        let Some(entry) = self.schedule.get_mut(&name) else { return };
        self.is_changed = true;
        let asked = match stage {
            Stage::Working => Some(entry.begin()),
            _ => {
                entry.enter();
                None
            }
        };
        let (lifecycle, clock) = (agent.lifecycle.clone(), self.daemon.base.clock.clone());
        let limit = limit::longest(&agent.config, &spec);
        let task = self.work.spawn(async move {
            let work = async {
                match asked {
                    Some(asked) => lifecycle.work(&spec, asked).await,
                    None => match lifecycle.put_in_order(&spec).await {
                        Ok(()) => lifecycle.look(&spec, Asked::ByTime).await,
                        Err(error) => Err(error),
                    },
                }
            };
            let result = tokio::select! {
                result = work => result.map_err(Undone::Storage),
                () = clock.sleep(limit) => Err(Undone::Overdue(limit)),
            };
            (spec.name, result)
        });
        self.at_work.insert(task.id(), (name, stage));
    }

    /// Takes the end of what [`Self::begin`] began.
    fn end(&mut self, done: Result<(Id, Worked), JoinError>) {
        let (id, result) = match done {
            Ok((id, (_, result))) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((name, stage)) = self.at_work.remove(&id) else { return };
        match result {
            Ok(Ok(outcome)) => self.end_well(&name, stage, outcome),
            Ok(Err(Undone::Storage(error))) => {
                let failures = report(&name, Err(error), self.now()).failures;
                let event = |failure| Event::Degraded { failure };
                self.break_down(&name, Breakdown::Storage, failures, event);
            }
            Ok(Err(Undone::Overdue(limit))) => {
                let limit = humantime::format_duration(limit);
                let failure = Failure {
                    at: self.now(),
                    code: "agent.overdue".to_owned(),
                    message: format!("the work on {name} did not end within {limit}: given up"),
                    hint: Some(notices::OVERDUE_HINT.to_owned()),
                };
                let event = |failure| Event::Degraded { failure };
                self.break_down(&name, Breakdown::Overdue, vec![failure], event);
            }
            Err(error) => {
                let message = escaped(&error.to_string());
                let (certificate, text) = (name.clone(), message.clone());
                let failure = Failure {
                    at: self.now(),
                    code: "agent.panicked".to_owned(),
                    message,
                    hint: Some(notices::FAULT_HINT.to_owned()),
                };
                let event = |_| Event::Panicked { certificate, message: text };
                self.break_down(&name, Breakdown::Panic, vec![failure], event);
            }
        }
        if self.daemon.agent.spec(&name).is_none() {
            self.schedule.forget(&name);
        }
        self.is_changed = true;
        // The first heartbeat need not wait for a tick.
        if self.passes.is_none_begun() && self.schedule.had_a_round() {
            self.begin_pass();
        }
    }

    fn end_well(&mut self, name: &CertificateName, stage: Stage, outcome: Outcome) {
        let now = self.now();
        let wake_at = match stage {
            Stage::Working => outcome.plan.wake_at().max(now.saturating_add(BREATH)),
            _ => Timestamp::EPOCH,
        };
        let report = report(name, Ok(outcome), now);
        let Some(entry) = self.schedule.get_mut(name) else { return };
        entry.broken = None;
        entry.status.clone_from(&report.status);
        self.answer(name, &report, wake_at);
    }

    /// Ends the run of `name` with `report`. Whoever asked for it and hears that it is done, sees
    /// so.
    fn answer(&mut self, name: &CertificateName, report: &WorkReport, wake_at: Timestamp) {
        let Some(entry) = self.schedule.get_mut(name) else { return };
        let waiting = entry.end(wake_at);
        if !waiting.is_empty() && self.cost_of_showing() <= AT_ONCE {
            self.show_at = Duration::ZERO;
        }
        self.answers.extend(waiting.into_iter().map(|it| (it, report.clone())));
        self.is_changed = true;
    }

    /// How long it may take to show how everything stands.
    fn cost_of_showing(&self) -> Duration {
        let count = u32::try_from(self.schedule.iter().count()).unwrap_or(u32::MAX);
        SHOWING.saturating_mul(count)
    }

    /// What came to nothing is counted, told and shown, waits by the local ladder, and ends nothing
    /// else.
    fn break_down(
        &mut self,
        name: &CertificateName,
        kind: Breakdown,
        failures: Vec<Failure>,
        event: impl FnOnce(Failure) -> Event,
    ) {
        let Some(failure) = failures.first().cloned() else { return };
        self.daemon.base.observer.observe(&event(failure.clone()));
        let now = self.now();
        let Some(entry) = self.schedule.get_mut(name) else { return };
        let pause = after_local_failure(entry.break_down(kind, failure), Jitter::NONE);
        let report = WorkReport { name: name.clone(), renewed: false, failures, status: None };
        self.answer(name, &report, now.saturating_add(pause));
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Plan(names, reply) => self.plan(names, reply),
            Command::Work(names, asked, reply) => self.ask(names, asked, reply),
            Command::Account(ca, action, reply) => self.account(ca, action, reply),
            Command::AskToRevoke(name, request, reply) => {
                self.ask_to_revoke(name, request, reply);
            }
            Command::AwaitsRevocation(name, reply) => self.awaits_revocation(&name, reply),
            Command::Reload(reply) => self.reload(Some(reply)),
        }
    }

    /// Looks at `names`, whose files somebody touched.
    ///
    /// Not while their work runs: then it is nearly always our own writing that is seen. Nor while
    /// they wait after a breakdown, since a write that fails touches files as well, and would so
    /// wake itself for ever.
    fn wake(&mut self, names: &[CertificateName]) {
        for name in names {
            let entry = self.schedule.get_mut(name);
            if let Some(entry) = entry.filter(|it| !it.is_running() && it.broken.is_none()) {
                entry.wake();
            }
        }
    }

    /// Looks at all certificates again if it is time to.
    fn look_afresh(&mut self) {
        let is_time = self.passes.is_time(&*self.daemon.base.clock, &mut self.schedule);
        if is_time && self.begin_pass() {
            self.passes.sweep(&self.daemon.agent);
        }
    }

    /// Begins to look at all certificates, unless that is being done already.
    fn begin_pass(&mut self) -> bool {
        self.passes.begin(self.daemon.agent.clone(), &self.schedule)
    }

    fn end_pass(&mut self, pass: Result<Passed, JoinError>) {
        let (agent, pass) = match pass {
            Ok(pass) => pass,
            Err(error) => {
                let failure = Failure {
                    at: self.now(),
                    code: "agent.panicked".to_owned(),
                    message: format!("the look at all certificates panicked: {error}"),
                    hint: Some(notices::FAULT_HINT.to_owned()),
                };
                self.daemon.base.observer.observe(&Event::Degraded { failure });
                return;
            }
        };
        let is_in_force = Arc::ptr_eq(&agent, &self.daemon.agent);
        let mut is_whole = !agent.config.alerts.is_partial;
        for (ended, (name, looked)) in pass {
            let Some(entry) = self.schedule.get_mut(&name) else { continue };
            match looked {
                Ok(outcome) if is_in_force => {
                    entry.looked(ended, outcome.status, outcome.plan.wake_at());
                }
                Ok(_) => {}
                Err(error) => {
                    // Its work fails by the same, and is told; it may be hours away.
                    tracing::warn!(%name, error = chain_text(&error), "it can't be looked at");
                    is_whole = false;
                    if entry.broken.is_none() {
                        entry.wake();
                    }
                }
            }
        }
        self.is_changed = true;
        self.show_at = Duration::ZERO;
        self.publish();
        self.had_turns |= self.schedule.had_turns();
        let is_whole = is_whole && self.rejected.is_none();
        if is_whole && self.had_turns && self.schedule.longest_wait(self.now()).is_none() {
            self.herald.whole_pass();
        }
    }

    fn reload(&mut self, reply: Option<Reply>) {
        if self.reloads.ask(&self.daemon, reply) == Begun::Now {
            self.say(Word::Reloading);
        }
    }

    /// Puts what was read in force, or tells why not.
    fn end_reload(&mut self, loaded: Result<Agent, String>, watch: &Watch) {
        let result = loaded.map(|agent| self.put_in_force(agent, watch));
        if let Err(faults) = &result {
            let event = Event::ConfigRejected { faults: faults.clone() };
            self.daemon.base.observer.observe(&event);
            let since = self.rejected.as_ref().map_or_else(|| self.now(), |it| it.since);
            self.rejected = Some(notices::rejected(faults, since));
        }
        self.is_changed = true;
        self.show_at = Duration::ZERO;
        self.publish();
        // Before the answer: whoever asked may look at the service as soon as it has that.
        self.say(Word::Ready);
        if self.reloads.answer(&result, &self.daemon) == Begun::Now {
            self.say(Word::Reloading);
        }
    }

    fn put_in_force(&mut self, agent: Agent, watch: &Watch) -> Reloaded {
        self.rejected = None;
        self.schedule.set_names(&names(&agent));
        agent.alerts.reconfigure(agent.config.alerts.clone());
        watch.follow(&agent.config);
        let certificates = agent.config.certificates.len();
        let faults = agent.config.warnings.iter();
        let rejected = faults.filter(|it| it.severity == Severity::Rejection);
        let rejected = rejected.map(ToString::to_string).collect();
        self.daemon.agent = agent.into();
        self.daemon.base.observer.observe(&Event::ConfigLoaded { certificates });
        Reloaded { certificates, rejected }
    }

    /// Shows how everything stands, if anything changed.
    fn publish(&mut self) {
        let now = self.daemon.base.clock.monotonic();
        if !self.is_changed || now < self.show_at {
            return;
        }
        self.is_changed = false;
        let wall = self.now();
        let agent = &self.daemon.agent;
        let mut document = empty_document(&self.daemon.base, agent);
        document.notices.extend(self.rejected.clone());
        self.schedule.note_waits(wall);
        document.notices.extend(notices::of(&self.schedule, wall));
        let order: HashMap<_, _> =
            agent.config.certificates.iter().zip(0..).map(|(spec, at)| (&spec.name, at)).collect();
        let mut certificates: Vec<_> = self
            .schedule
            .iter()
            .filter_map(|(name, entry)| Some((*order.get(name)?, entry.running_status(wall)?)))
            .collect();
        certificates.sort_by_key(|(at, _): &(i32, _)| *at);
        document.certificates = certificates.into_iter().map(|(_, status)| status).collect();
        document.note_unfit_stand_ins();
        document.note_revocations();
        self.show_at = now.saturating_add(self.cost_of_showing());
        self.supervision.show(&document);
        self.status.send_replace(Shown { document, is_whole: self.schedule.is_whole() });
        for (reply, report) in self.answers.drain(..) {
            // Who asked may have gone away.
            drop(reply.send(report));
        }
    }

    /// Lets work under way end for a while, then ends it; its journals say how to go on.
    async fn finish(mut self) {
        let all = async {
            while let Some(done) = self.work.join_next_with_id().await {
                self.end(done);
            }
        };
        drop(tokio::time::timeout(SHUTDOWN_GRACE, all).await);
        self.work.shutdown().await;
        self.passes.shutdown().await;
        self.is_changed = true;
        self.show_at = Duration::ZERO;
        self.publish();
        // While the state directory is still ours: the next process may show the same again.
        let ((), is_clean) = tokio::join!(self.herald.finish(), solver::all_taken_away());
        if !is_clean {
            tracing::warn!("proofs are still visible: the next start takes them away");
        }
    }
}

fn names(agent: &Agent) -> BTreeSet<CertificateName> {
    agent.config.certificates.iter().map(|it| it.name.clone()).collect()
}
