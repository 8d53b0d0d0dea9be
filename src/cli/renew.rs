//! `renewd renew` and `renewd deploy`: bring what is due to served, and end.
//!
//! Beside a running daemon they ask it and wait; without one they do the work themselves. What
//! comes of it is shown in the same words.
//!
//! Not here: what a signal does to them ([`super::interruption`]).

use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::{ApiError, Client, Scope, WorkRequest};
use crate::assemble::{Agent, Base, WorkReport, report};
use crate::config::Severity;
use crate::model::{
    AGENT_BEHIND, CertificateName, CertificateSpec, Condition, Failure, Health, Notice,
    STATUS_FORMAT, StatusDocument, Timestamp, chain_text, escaped,
};
use crate::observe::status_file;
use crate::plan::Asked;

use super::arguments::{DeployArguments, Global, RenewArguments};
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::interruption::{Stop, attended, stopped};
use super::{dry_run, output};

/// How long a one-shot run tries to deliver its alerts, which is more than a program has as a rule;
/// the rest is on disk.
const ALERT_TIME: Duration = Duration::from_secs(45);

/// How long after its beginning a run that nobody watches begins new work: its systemd unit gives it
/// half an hour, of which what hangs and the alerts have the rest.
const BEGINS_WORK: Duration = Duration::from_mins(20);

/// How long a run that is told to end takes to decide about alerts, for the next one to deliver.
const LAST_WORD: Duration = Duration::from_secs(5);

const BEHIND_HINT: &str = "see in the log what takes so long, or raise `parallel`; the daemon has \
                           no such end";

/// Renews what is due.
pub(super) async fn renew(global: &Global, arguments: RenewArguments) -> Result<Exit, Ended> {
    if arguments.dry_run {
        return Box::pin(dry_run::dry_run(global, arguments)).await;
    }
    let request = WorkRequest {
        names: arguments.names,
        scope: Scope::Renew,
        force: arguments.beyond.force,
        allow_untrusted: arguments.beyond.allow_untrusted,
    };
    work(global, request, arguments.wait).await
}

/// Hands certificates over again.
pub(super) async fn deploy(global: &Global, arguments: DeployArguments) -> Result<Exit, Ended> {
    let request = WorkRequest {
        names: arguments.names,
        scope: Scope::Deploy,
        force: !arguments.pending,
        allow_untrusted: false,
    };
    work(global, request, arguments.wait).await
}

async fn work(
    global: &Global,
    request: WorkRequest,
    wait: Option<Duration>,
) -> Result<Exit, Ended> {
    // A daemon has the secrets; whoever asks it need not be able to read them.
    let context = Context::load_to_look(global)?;
    selected(&context.config, &request.names)?;
    // Of all that is wanted, that was not done: a timer must not seem content. As what failed it is
    // told as an alert, so not by the code that nobody has told of.
    let (reports, is_short) = match context.daemon_at_work(wait)? {
        Some(daemon) => (ask(&daemon, &request).await?, goes_without_parts(&daemon).await),
        None => {
            let context = Context::load(global)?;
            let is_short = context.config.alerts.is_partial;
            (do_it(context, &request, wait).await?, is_short)
        }
    };
    if global.json {
        output::json(&reports);
    } else {
        reports.iter().for_each(show);
    }
    let refused = is_short && request.names.is_empty();
    let exits = reports.iter().map(exit_of).chain(refused.then_some(Exit::Failed));
    Ok(exits.max_by_key(|it| *it as u8).unwrap_or(Exit::AsWanted))
}

/// Has the daemon do it.
async fn ask(daemon: &Client, request: &WorkRequest) -> Result<Vec<WorkReport>, Ended> {
    let spinner = spinner("the daemon is at work");
    let answer = daemon.renew(request).await;
    spinner.finish_and_clear();
    answer.map_err(|error| ended(&error))
}

/// Whether the daemon goes without a part of what its configuration says by now, which is printed.
/// If it can't be asked, that was not what anybody wanted to know: what was done is known.
async fn goes_without_parts(daemon: &Client) -> bool {
    let notices = daemon.status().await.map(|it| it.notices).unwrap_or_default();
    let refused = notices.iter().filter(|it| it.code == "config.rejected");
    refused.inspect(|it| output::talk(&it.message)).count() > 0
}

/// Tells why the daemon did not do what was asked.
pub(super) fn ended(error: &ApiError) -> Ended {
    let (exit, hint) = match error {
        ApiError::Refused { code, .. } if code == "busy" || code == "ending" => {
            (Exit::Waited, "try again in a moment")
        }
        ApiError::TimedOut => (Exit::Waited, "it goes on; see `renewd status`, or raise --wait"),
        ApiError::Unreachable(_) => (Exit::Failed, "see the daemon's log"),
        ApiError::Refused { code, .. } if code == "forbidden" => {
            (Exit::Failed, "run as root, or as a member of the group renewd-admin")
        }
        ApiError::Refused { code, .. } if code == "config_rejected" => {
            (Exit::Configuration, "mend what is named; the old configuration stays in force")
        }
        ApiError::Refused { code, .. } if code == "unknown_certificate" || code == "unknown_ca" => {
            (Exit::Usage, "the daemon's configuration is another: run `renewd reload`")
        }
        ApiError::Refused { .. } | ApiError::Strange(_) => (Exit::Failed, "see the daemon's log"),
    };
    output::problem(&chain_text(error), Some(hint));
    Ended(exit)
}

/// Does it here, as the only writer of the state directory.
async fn do_it(
    context: Context,
    request: &WorkRequest,
    wait: Option<Duration>,
) -> Result<Vec<WorkReport>, Ended> {
    let specs = selected(&context.config, &request.names)?;
    let refused = context.config.warnings.iter().filter(|it| it.severity == Severity::Rejection);
    refused.for_each(|it| output::talk(&it.to_string()));
    let (base, agent, deployer) = context.open(wait).await?;
    Box::pin(attended(async |stop| {
        stop.unless_come(agent.lifecycle.repair_targets()).await;
        let is_for_all = request.names.is_empty();
        let until = (is_for_all && !output::is_watched()).then_some(BEGINS_WORK);
        let work = work_on(&agent, &base, &specs, request.asked(), &stop, until);
        let sweep = stop.unless_come(agent.lifecycle.sweep());
        let (_, mut reports) = tokio::join!(sweep, work);
        let order = |name: &CertificateName| specs.iter().position(|it| it.name == *name);
        reports.sort_by_key(|it| order(&it.name));
        let concluded = Box::pin(conclude(&agent, &base, request.scope, &reports));
        if stop.unless_asked(concluded).await.is_none() {
            // What was found must not be found anew by the next run only, which may end like this
            // one: it delivers what is on disk.
            let deciding = async {
                let mut document = document(&agent, &base, &reports).await;
                agent.alerts.note_undelivered(&mut document).await;
                agent.alerts.pass(&document).await;
            };
            drop(tokio::time::timeout(LAST_WORD, Box::pin(deciding)).await);
        }
        deployer.end().await;
        reports
    }))
    .await
}

/// `specs` in the order in which they have their turns: those that end first, and after all of them
/// those that failed before, whose tries may take long and be in vain.
async fn in_turn(base: &Base, specs: &[CertificateSpec]) -> Vec<CertificateSpec> {
    let mut ranked = Vec::new();
    for spec in specs {
        let held = base.store.held(&spec.name).await.ok().flatten();
        let held = held.filter(|it| !it.is_placeholder());
        let ends_at = held.map_or(Timestamp::EPOCH, |it| it.leaf.validity.not_after);
        let state = base.store.certificate_state(&spec.name).await;
        let mut has_failed = state.is_ok_and(|it| it.attempts.failures > 0);
        for target in &spec.targets {
            let state = base.store.target_state(target, &spec.name).await;
            has_failed |= state.is_ok_and(|it| it.attempts.failures > 0);
        }
        ranked.push((has_failed, ends_at, spec.clone()));
    }
    ranked.sort_by_key(|(has_failed, ends_at, _)| (*has_failed, *ends_at));
    ranked.into_iter().map(|(.., spec)| spec).collect()
}

/// Works on `specs` side by side, at most as many at once as the configuration says, until `stop`;
/// if `begins` is given, only as long after now.
async fn work_on(
    agent: &Agent,
    base: &Base,
    specs: &[CertificateSpec],
    asked: Asked,
    stop: &Stop,
    begins: Option<Duration>,
) -> Vec<WorkReport> {
    let until = begins.map(|it| base.clock.monotonic().saturating_add(it));
    let slots = Arc::new(Semaphore::new(agent.config.parallel.max(1)));
    let progress = MultiProgress::new();
    let mut tasks = JoinSet::new();
    for spec in in_turn(base, specs).await {
        let (slots, lifecycle, clock) =
            (slots.clone(), agent.lifecycle.clone(), base.clock.clone());
        let stop = stop.clone();
        let bar = output::is_watched().then(|| progress.add(spinner(spec.name.as_str())));
        tasks.spawn(async move {
            let slot = stop.unless_asked(slots.acquire_owned()).await;
            if slot.is_some() && until.is_some_and(|it| clock.monotonic() >= it) {
                return unbegun(&spec.name, clock.now());
            }
            let result = match slot {
                Some(_slot) => stop.unless_come(Box::pin(lifecycle.work(&spec, asked))).await,
                None => None,
            };
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            match result {
                Some(result) => report(&spec.name, result, clock.now()),
                None => stopped(&spec.name, clock.now()),
            }
        });
    }
    let mut reports = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(report) => reports.push(report),
            // One certificate's panic does not end the others' work; it is told, and fails the run.
            Err(error) => output::problem(&escaped(&error.to_string()), None),
        }
    }
    for spec in specs {
        if !reports.iter().any(|it| it.name == spec.name) {
            reports.push(panicked(&spec.name, base));
        }
    }
    reports
}

/// What is reported of the certificate `name` whose turn did not come in time.
fn unbegun(name: &CertificateName, now: Timestamp) -> WorkReport {
    let failure = Failure {
        at: now,
        code: AGENT_BEHIND.to_owned(),
        message: "its turn did not come: what was before it took all the time of this run"
            .to_owned(),
        hint: Some(BEHIND_HINT.to_owned()),
    };
    WorkReport { name: name.clone(), renewed: false, failures: vec![failure], status: None }
}

fn panicked(name: &CertificateName, base: &Base) -> WorkReport {
    let failure = Failure {
        at: base.clock.now(),
        code: "agent.panicked".to_owned(),
        message: "the work on it panicked".to_owned(),
        hint: Some("report this with what was printed: it is a fault of renewd".to_owned()),
    };
    WorkReport { name: name.clone(), renewed: false, failures: vec![failure], status: None }
}

/// [`alert`], and the heartbeat if `reports` are of a whole pass: of all certificates, none of
/// which could not be looked at.
async fn conclude(agent: &Agent, base: &Base, scope: Scope, reports: &[WorkReport]) {
    alert(agent, base, reports).await;
    let is_seen =
        |name: &CertificateName| reports.iter().any(|it| it.name == *name && it.status.is_some());
    let is_whole = !agent.config.alerts.is_partial && scope == Scope::Renew;
    if is_whole && agent.config.certificates.iter().all(|it| is_seen(&it.name)) {
        drop(tokio::time::timeout(ALERT_TIME, agent.alerts.heartbeat()).await);
    }
}

/// Decides about alerts and tries to deliver them, within limits: what is not delivered now is on
/// disk for the next run.
pub(super) async fn alert(agent: &Agent, base: &Base, reports: &[WorkReport]) {
    let mut document = document(agent, base, reports).await;
    // Twice, where the first time shows who is dead: that is for the others, and there is no later.
    let mut known = agent.alerts.notices();
    let notices = document.notices.clone();
    for _ in 0..2 {
        document.notices.clone_from(&notices);
        agent.alerts.note_undelivered(&mut document).await;
        known.mark_unchanged();
        agent.alerts.pass(&document).await;
        agent.alerts.deliver_within(ALERT_TIME).await;
        if !known.has_changed().unwrap_or_default() {
            break;
        }
    }
    leave_status(agent, document).await;
}

/// That some of `reports` are of what had no turn.
fn behind(reports: &[WorkReport], now: Timestamp) -> Option<Notice> {
    let waits = |it: &&WorkReport| it.failures.iter().any(|it| it.code == AGENT_BEHIND);
    let count = reports.iter().filter(waits).count();
    (count > 0).then(|| Notice {
        code: AGENT_BEHIND.to_owned(),
        health: Health::Warning,
        message: format!("{} had no turn within a whole run", output::counted(count)),
        since: now,
        hint: Some(BEHIND_HINT.to_owned()),
    })
}

/// How all certificates stand, of which those that `reports` tell of need not be looked at.
async fn document(agent: &Agent, base: &Base, reports: &[WorkReport]) -> StatusDocument {
    let mut certificates = Vec::new();
    for spec in &agent.config.certificates {
        let known = reports.iter().find(|it| it.name == spec.name).and_then(|it| it.status.clone());
        let status = match known {
            Some(status) => Some(status),
            None => agent.lifecycle.look(spec, Asked::ByTime).await.ok().map(|it| it.status),
        };
        certificates.extend(status);
    }
    let mut notices = agent.all_notices();
    notices.extend(behind(reports, base.clock.now()));
    let mut document = StatusDocument {
        format: STATUS_FORMAT,
        host: base.host.clone(),
        written_at: base.clock.now(),
        notices,
        certificates,
    };
    document.note_unfit_stand_ins();
    document.note_revocations();
    document
}

/// Leaves `document` where the daemon would keep it, for what watches that file; where there is no
/// run directory, nobody does.
async fn leave_status(agent: &Agent, document: StatusDocument) {
    let file = agent.config.store.status_file();
    let writing = tokio::task::spawn_blocking(move || match file.parent() {
        Some(folder) if folder.is_dir() => status_file::write(&file, &document),
        _ => Ok(()),
    });
    if let Ok(Err(error)) = writing.await {
        tracing::warn!(error = chain_text(&error), "the status file could not be written");
    }
}

pub(super) fn show(report: &WorkReport) {
    let condition = report.status.as_ref().map(|it| words(it.condition));
    let what = if report.renewed { "renewed, " } else { "" };
    output::data(&format!("{}: {what}{}", report.name, condition.unwrap_or("unknown")));
    for failure in &report.failures {
        output::problem(&format!("{}: {}", report.name, failure.message), failure.hint.as_deref());
    }
    let next = report.status.as_ref().and_then(|it| it.next_attempt_at);
    if let Some(next) = next.filter(|_| !report.failures.is_empty()) {
        output::talk(&format!("  next: a daemon or the next run tries again from {next} on"));
    }
}

const fn words(condition: Condition) -> &'static str {
    match condition {
        Condition::Missing => "missing",
        Condition::Placeholder => "only a placeholder",
        Condition::Held => "held",
        Condition::Served => "served",
        Condition::NotServed => "not served",
        Condition::Expired => "expired",
        Condition::Revoked => "revoked",
        Condition::Unmanaged => "not in the configuration",
    }
}

/// How a command ends that had `report` to make.
pub(super) fn exit_of(report: &WorkReport) -> Exit {
    let health = report.status.as_ref().map_or(Health::Warning, |it| it.health);
    let (stands, done) = (Exit::of(health), Exit::of_failures(&report.failures));
    if stands as u8 > done as u8 { stands } else { done }
}

/// A sign of life on a terminal; nothing elsewhere.
pub(super) fn spinner(what: &str) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    bar.set_style(style.unwrap_or_else(|_wrong| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{build, testing};
    use crate::config::{self, Environment};
    use crate::model::Retry;
    use crate::sys::atomic::{self, Access};
    use crate::sys::clock::ManualClock;

    struct World {
        _folder: tempfile::TempDir,
        base: Base,
        agent: Agent,
    }

    /// Certificates called `names`, of a CA of our own, with nothing held yet.
    async fn world(names: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let mut text = "state_dir = \"state\"\nrun_dir = \"run\"\ndefault_ca = \"inside\"\n\
                        [ca.inside]\ntype = \"local\"\n"
            .to_owned();
        for name in names {
            let domains = format!("domains = [\"{name}.example\"]\ntargets = []\n");
            text += &format!("[[certificate]]\nname = \"{name}\"\n{domains}");
        }
        atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
        let config = config::load(&file, &Environment::default()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_800_000_000)));
        let base = testing::base(&config, clock).await;
        let agent = build(config, &base, None).unwrap();
        World { _folder: folder, base, agent }
    }

    impl World {
        /// What comes of a run that begins work only for so long.
        async fn run(&self, begins: Option<Duration>) -> Vec<WorkReport> {
            let (_nobody_asks, stop) = Stop::in_a_test();
            let specs = &self.agent.config.certificates;
            work_on(&self.agent, &self.base, specs, Asked::ByTime, &stop, begins).await
        }
    }

    /// N02: many that fail slowly.
    #[tokio::test]
    async fn what_failed_before_has_its_turn_after_all_else() {
        let world = world(&["failing", "one", "two"]).await;
        let store = &world.base.store;
        let name = "failing".parse().unwrap();
        let mut state = store.certificate_state(&name).await.unwrap();
        let failure = Failure {
            at: world.base.clock.now(),
            code: "dns.change".to_owned(),
            message: String::new(),
            hint: None,
        };
        state.attempts.fail(failure, Retry::BackOff, Duration::ZERO);
        store.save_certificate_state(&name, &state).await.unwrap();
        let turns = in_turn(&world.base, &world.agent.config.certificates).await;
        let names: Vec<&str> = turns.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["one", "two", "failing"]);
    }

    /// N02: what is before it takes all the time that a timer's unit has.
    #[tokio::test]
    async fn what_has_no_turn_within_the_time_of_a_run_is_not_begun_and_told() {
        let world = world(&["one", "two"]).await;
        let reports = world.run(Some(Duration::ZERO)).await;
        let codes: Vec<Vec<&str>> = reports
            .iter()
            .map(|it| it.failures.iter().map(|it| it.code.as_str()).collect())
            .collect();
        assert_eq!(codes, [[AGENT_BEHIND], [AGENT_BEHIND]]);
        assert!(reports.iter().all(|it| exit_of(it) == Exit::Failed), "{reports:?}");
        let told = document(&world.agent, &world.base, &reports).await;
        let behind: Vec<_> = told.notices.iter().filter(|it| it.code == AGENT_BEHIND).collect();
        assert_eq!(behind.len(), 1, "{told:?}");
        assert!(behind[0].message.starts_with("2 certificates"), "{behind:?}");
        let nothing = |it: &crate::model::CertificateStatus| it.condition != Condition::Held;
        assert!(told.certificates.iter().all(nothing), "{told:?}");

        let reports = world.run(Some(Duration::from_secs(1))).await;
        assert!(reports.iter().all(|it| it.renewed && it.failures.is_empty()), "{reports:?}");
        let told = document(&world.agent, &world.base, &reports).await;
        assert!(told.notices.iter().all(|it| it.code != AGENT_BEHIND), "{told:?}");
    }
}
