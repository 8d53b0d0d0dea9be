//! The loop that decides when: see the module's header.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch as channel};
use tokio::task::{Id, JoinError, JoinSet};

use crate::assemble::{Agent, Base, WorkReport, report};
use crate::lifecycle::Outcome;
use crate::model::{
    CertificateName, Event, Failure, Health, Notice, STATUS_FORMAT, StatusDocument, StorageError,
    Timestamp, chain_text, escaped,
};
use crate::plan::backoff::{Jitter, after_local_failure};
use crate::plan::{Asked, Plan};
use crate::sys::signals::{Signal, Signals};

use super::entry::Schedule;
use super::watch::Watch;
use super::{Command, Daemon, Refused, SHUTDOWN_GRACE, herald, reload, tick};

/// The longest sleep: a clock that was stepped, or a tick that was lost, costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Every so many ticks a whole pass over all certificates is made, and the heartbeat sent.
const TICKS_A_PASS: u32 = 5;

/// A status document with nothing looked at yet.
pub(super) fn empty_document(base: &Base, agent: &Agent) -> StatusDocument {
    StatusDocument {
        format: STATUS_FORMAT,
        host: base.host.clone(),
        written_at: base.clock.now(),
        notices: agent.notices.clone(),
        certificates: Vec::new(),
    }
}

/// Runs `daemon` until `signals` ask for the end.
pub(super) async fn run(
    daemon: Daemon,
    mut commands: mpsc::Receiver<Command>,
    status: channel::Sender<StatusDocument>,
    mut signals: Signals,
) {
    let clock = daemon.base.clock.clone();
    let mut ticks = match tick::start().await {
        Ok(ticks) => ticks,
        Err(error) => {
            // Nothing that must be right hangs on it: the loop wakes every half minute anyway.
            let failure = Failure {
                at: daemon.base.clock.now(),
                code: "agent.degraded".to_owned(),
                message: chain_text(&error),
                hint: None,
            };
            daemon.base.observer.observe(&Event::Degraded { failure });
            tick::silent()
        }
    };
    let herald = herald::start(&daemon.base, &daemon.agent, status.subscribe());
    let mut watch = Watch::start(&daemon.base, &daemon.agent.config);
    let mut scheduler = Scheduler::new(daemon, status, herald);
    scheduler.recover().await;

    loop {
        scheduler.begin_due();
        scheduler.publish();
        let sleep = scheduler.sleep();
        tokio::select! {
            () = clock.sleep(sleep) => {}
            Some(done) = scheduler.work.join_next_with_id() => scheduler.end(done),
            Some(pass) = scheduler.passes.join_next() => scheduler.end_pass(pass),
            Some(command) = commands.recv() => {
                if let Command::Reload(reply) = command {
                    drop(reply.send(scheduler.reload(&mut watch).await));
                } else {
                    scheduler.take(command);
                }
            }
            Some(()) = ticks.recv() => scheduler.tick(),
            Some(changed) = watch.changed() => match changed {
                super::watch::Changed::Config => drop(scheduler.reload(&mut watch).await),
                super::watch::Changed::Certificates(names) => scheduler.wake(&names),
            },
            signal = signals.next() => match signal {
                Signal::Reload => drop(scheduler.reload(&mut watch).await),
                Signal::End => break,
            },
        }
    }
    scheduler.finish().await;
}

/// Which configuration a piece of work was begun under matters to nobody but itself.
type Worked = (CertificateName, Result<Outcome, StorageError>);

struct Scheduler {
    daemon: Daemon,
    schedule: Schedule,
    slots: Arc<Semaphore>,
    work: JoinSet<Worked>,
    at_work: HashMap<Id, CertificateName>,
    passes: JoinSet<Vec<Worked>>,
    ticks: u32,
    /// Whether a pass was begun since the start.
    had_pass: bool,
    status: channel::Sender<StatusDocument>,
    is_changed: bool,
    notices: Vec<Notice>,
    herald: herald::Herald,
}

impl Scheduler {
    fn new(
        daemon: Daemon,
        status: channel::Sender<StatusDocument>,
        herald: herald::Herald,
    ) -> Self {
        let mut schedule = Schedule::default();
        schedule.set_names(&names(&daemon.agent));
        Self {
            slots: Arc::new(Semaphore::new(daemon.agent.config.parallel.max(1))),
            schedule,
            work: JoinSet::new(),
            at_work: HashMap::new(),
            passes: JoinSet::new(),
            ticks: 0,
            had_pass: false,
            status,
            is_changed: true,
            notices: Vec::new(),
            herald,
            daemon,
        }
    }

    fn now(&self) -> Timestamp {
        self.daemon.base.clock.now()
    }

    fn sleep(&self) -> Duration {
        self.schedule.sleep(self.now(), LONGEST_SLEEP, self.slots.available_permits())
    }

    /// Puts right what the last process may have left half done.
    async fn recover(&self) {
        self.daemon.agent.lifecycle.repair_targets().await;
        self.put_all_in_order().await;
    }

    /// Repairs, sweeps and puts placeholders down for all certificates before the first order:
    /// servers that wait for their files need not wait for the CA.
    async fn put_all_in_order(&self) {
        let agent = &self.daemon.agent;
        for spec in &agent.config.certificates {
            if let Err(error) = agent.lifecycle.put_in_order(spec).await {
                let failure =
                    report(&spec.name, Err(error), self.now()).failures.into_iter().next();
                if let Some(failure) = failure {
                    self.daemon.base.observer.observe(&Event::Degraded { failure });
                }
            }
        }
    }

    /// Begins the work of every certificate that is due; what finds no slot waits for one.
    fn begin_due(&mut self) {
        for name in self.schedule.due(self.now()) {
            let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
            let agent = self.daemon.agent.clone();
            let Some(spec) = agent.spec(&name).cloned() else { continue };
            let Some(entry) = self.schedule.get_mut(&name) else { continue };
            let asked = entry.begin();
            let lifecycle = agent.lifecycle.clone();
            let task = self.work.spawn(async move {
                let result = lifecycle.work(&spec, asked).await;
                drop(slot);
                (spec.name, result)
            });
            self.at_work.insert(task.id(), name);
        }
    }

    fn end(&mut self, done: Result<(Id, Worked), JoinError>) {
        match done {
            Ok((id, (name, result))) => {
                self.at_work.remove(&id);
                let now = self.now();
                let wake_at = match &result {
                    Ok(outcome) => outcome.plan.wake_at(),
                    Err(_) => now.saturating_add(after_local_failure(4, Jitter::NONE)),
                };
                let report = report(&name, result, now);
                if let Some(entry) = self.schedule.get_mut(&name) {
                    entry.panics = 0;
                    if report.status.is_some() {
                        entry.status.clone_from(&report.status);
                    }
                    // What is still due at once has just been tried: a breath, and no hot loop.
                    entry.end(&report, wake_at.max(now.saturating_add(Duration::from_millis(200))));
                }
                self.note_storage(&report);
            }
            Err(error) => self.end_in_panic(&error),
        }
        self.schedule.set_known(&names(&self.daemon.agent));
        self.is_changed = true;
        // The first heartbeat need not wait for a tick.
        if !self.had_pass && self.schedule.iter().all(|(_, it)| it.status.is_some()) {
            self.begin_pass();
        }
    }

    /// A panic is counted and shown, waits by the local ladder, and ends nothing else.
    fn end_in_panic(&mut self, error: &JoinError) {
        let Some(name) = self.at_work.remove(&error.id()) else { return };
        let message = escaped(&error.to_string());
        let event = Event::Panicked { certificate: name.clone(), message: message.clone() };
        self.daemon.base.observer.observe(&event);
        let now = self.now();
        let Some(entry) = self.schedule.get_mut(&name) else { return };
        entry.panics = entry.panics.saturating_add(1);
        let pause = after_local_failure(entry.panics, Jitter::NONE);
        let panics = entry.panics;
        let failure = Failure { at: now, code: "agent.panicked".to_owned(), message, hint: None };
        let report = WorkReport {
            name: name.clone(),
            renewed: false,
            failures: vec![failure],
            status: None,
        };
        entry.end(&report, now.saturating_add(pause));
        self.note(Notice {
            code: "agent.degraded".to_owned(),
            health: Health::Warning,
            message: format!("the work on {name} panicked {panics} times in a row"),
            since: now,
            hint: Some("report this with the log: it is a fault of renewd".to_owned()),
        });
    }

    /// Shows that the state directory can't be used, until it can again.
    fn note_storage(&mut self, report: &WorkReport) {
        let code = "agent.storage";
        match report.failures.iter().find(|it| report.status.is_none() && it.code == "store.failed")
        {
            Some(failure) => self.note(Notice {
                code: code.to_owned(),
                health: Health::Critical,
                message: failure.message.clone(),
                since: failure.at,
                hint: failure.hint.clone(),
            }),
            None => self.notices.retain(|it| it.code != code),
        }
    }

    fn note(&mut self, notice: Notice) {
        let known = self.notices.iter_mut().find(|it| it.code == notice.code);
        match known {
            Some(known) => *known = Notice { since: known.since, ..notice },
            None => self.notices.push(notice),
        }
        self.is_changed = true;
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Plan(names, reply) => self.plan(names, reply),
            Command::Work(names, asked, reply) => self.ask(names, asked, reply),
            Command::Reload(_) => {}
        }
    }

    fn plan(
        &mut self,
        wanted: Vec<CertificateName>,
        reply: oneshot::Sender<Vec<(CertificateName, Plan)>>,
    ) {
        let agent = self.daemon.agent.clone();
        tokio::spawn(async move {
            let mut plans = Vec::new();
            for spec in &agent.config.certificates {
                if !wanted.is_empty() && !wanted.contains(&spec.name) {
                    continue;
                }
                if let Ok(outcome) = agent.lifecycle.look(spec, Asked::ByTime).await {
                    plans.push((spec.name.clone(), outcome.plan));
                }
            }
            drop(reply.send(plans));
        });
    }

    fn ask(
        &mut self,
        wanted: Vec<CertificateName>,
        asked: Asked,
        reply: oneshot::Sender<Result<Vec<WorkReport>, Refused>>,
    ) {
        let known = names(&self.daemon.agent);
        if let Some(unknown) = wanted.iter().find(|it| !known.contains(it)) {
            drop(reply.send(Err(Refused::Unknown(unknown.clone()))));
            return;
        }
        let wanted = if wanted.is_empty() { known } else { wanted };
        let mut answers = Vec::new();
        for name in wanted {
            if let Some(entry) = self.schedule.get_mut(&name) {
                let (reply, answer) = oneshot::channel();
                entry.ask(asked, reply);
                answers.push(answer);
            }
        }
        tokio::spawn(async move {
            let mut reports = Vec::new();
            for answer in answers {
                match answer.await {
                    Ok(report) => reports.push(report),
                    Err(_ended) => {
                        drop(reply.send(Err(Refused::Ending)));
                        return;
                    }
                }
            }
            drop(reply.send(Ok(reports)));
        });
    }

    fn wake(&mut self, names: &[CertificateName]) {
        for name in names {
            if let Some(entry) = self.schedule.get_mut(name).filter(|it| !it.is_running) {
                entry.wake_at = Some(Timestamp::EPOCH);
            }
        }
    }

    /// Now and then looks at everything afresh, in case a wake-up was lost or a file was changed.
    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_A_PASS) {
            self.begin_pass();
        }
    }

    fn begin_pass(&mut self) {
        if !self.passes.is_empty() {
            return;
        }
        self.had_pass = true;
        let agent = self.daemon.agent.clone();
        self.passes.spawn(async move {
            let mut pass = Vec::new();
            for spec in &agent.config.certificates {
                let looked = agent.lifecycle.look(spec, Asked::ByTime).await;
                pass.push((spec.name.clone(), looked));
            }
            pass
        });
    }

    fn end_pass(&mut self, pass: Result<Vec<Worked>, JoinError>) {
        let Ok(pass) = pass else { return };
        let mut is_whole = true;
        for (name, looked) in pass {
            let Some(entry) = self.schedule.get_mut(&name) else { continue };
            match looked {
                Ok(outcome) if !entry.is_running => {
                    let earlier =
                        entry.wake_at.unwrap_or(Timestamp::MAX).min(outcome.plan.wake_at());
                    entry.wake_at = Some(earlier);
                    entry.status = Some(outcome.status);
                }
                Ok(_) => {}
                Err(_) => is_whole = false,
            }
        }
        self.is_changed = true;
        self.publish();
        if is_whole {
            self.herald.whole_pass();
        }
    }

    async fn reload(&mut self, watch: &mut Watch) -> Result<usize, String> {
        let code = "config.rejected";
        match reload::load(&self.daemon) {
            Ok(agent) => {
                let agent = Arc::new(agent);
                self.notices.retain(|it| it.code != code);
                self.slots = Arc::new(Semaphore::new(agent.config.parallel.max(1)));
                self.schedule.set_names(&names(&agent));
                agent.alerts.reconfigure(agent.config.alerts.clone());
                watch.follow(&agent.config);
                let certificates = agent.config.certificates.len();
                self.daemon.agent = agent;
                self.daemon.base.observer.observe(&Event::ConfigLoaded { certificates });
                self.put_all_in_order().await;
                self.is_changed = true;
                Ok(certificates)
            }
            Err(faults) => {
                self.daemon
                    .base
                    .observer
                    .observe(&Event::ConfigRejected { faults: faults.clone() });
                self.note(Notice {
                    code: code.to_owned(),
                    health: Health::Warning,
                    message: format!(
                        "the configuration was refused, the old one stays: {}",
                        faults.lines().map(str::trim).collect::<Vec<_>>().join("; ")
                    ),
                    since: self.now(),
                    hint: Some(
                        "run `renewd check`, mend what it names, and run `renewd reload`"
                            .to_owned(),
                    ),
                });
                Err(faults)
            }
        }
    }

    /// Shows how everything stands, if anything changed.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let agent = &self.daemon.agent;
        let mut document = empty_document(&self.daemon.base, agent);
        document.notices.extend(self.notices.iter().cloned());
        let order: HashMap<_, _> =
            agent.config.certificates.iter().zip(0..).map(|(spec, at)| (&spec.name, at)).collect();
        let mut certificates: Vec<_> = self
            .schedule
            .iter()
            .filter_map(|(name, entry)| Some((*order.get(name)?, entry.running_status()?)))
            .collect();
        certificates.sort_by_key(|(at, _): &(i32, _)| *at);
        document.certificates = certificates.into_iter().map(|(_, status)| status).collect();
        self.status.send_replace(document);
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
        self.publish();
        self.herald.finish().await;
    }
}

fn names(agent: &Agent) -> Vec<CertificateName> {
    agent.config.certificates.iter().map(|it| it.name.clone()).collect()
}
