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
    CertificateName, CertificateSpec, Condition, Failure, Health, STATUS_FORMAT, StatusDocument,
    chain_text, escaped,
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
    let mut refused = None;
    let reports = match context.daemon_at_work(wait)? {
        Some(daemon) => ask(&daemon, &request).await?,
        None => {
            let context = Context::load(global)?;
            // Of all that is wanted, that was not done: a timer must not seem content. As what
            // failed it is told as an alert, so not by the code that nobody has told of.
            let is_short = request.names.is_empty() && context.config.alerts.is_partial;
            refused = is_short.then_some(Exit::Failed);
            do_it(context, &request, wait).await?
        }
    };
    if global.json {
        output::json(&reports);
    } else {
        reports.iter().for_each(show);
    }
    let exits = reports.iter().map(exit_of).chain(refused);
    Ok(exits.max_by_key(|it| *it as u8).unwrap_or(Exit::AsWanted))
}

/// Has the daemon do it.
async fn ask(daemon: &Client, request: &WorkRequest) -> Result<Vec<WorkReport>, Ended> {
    let spinner = spinner("the daemon is at work");
    let answer = daemon.renew(request).await;
    spinner.finish_and_clear();
    answer.map_err(|error| ended(&error))
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
        let work = work_on(&agent, &base, &specs, request.asked(), &stop);
        let sweep = stop.unless_come(agent.lifecycle.sweep());
        let (_, mut reports) = tokio::join!(sweep, work);
        let order = |name: &CertificateName| specs.iter().position(|it| it.name == *name);
        reports.sort_by_key(|it| order(&it.name));
        // What is not told now is told by the next run.
        stop.unless_asked(Box::pin(conclude(&agent, &base, request.scope, &reports))).await;
        deployer.end().await;
        reports
    }))
    .await
}

/// Works on `specs` side by side, at most as many at once as the configuration says, until `stop`.
async fn work_on(
    agent: &Agent,
    base: &Base,
    specs: &[CertificateSpec],
    asked: Asked,
    stop: &Stop,
) -> Vec<WorkReport> {
    let slots = Arc::new(Semaphore::new(agent.config.parallel.max(1)));
    let progress = MultiProgress::new();
    let mut tasks = JoinSet::new();
    for spec in specs.iter().cloned() {
        let (slots, lifecycle, clock) =
            (slots.clone(), agent.lifecycle.clone(), base.clock.clone());
        let stop = stop.clone();
        let bar = output::is_watched().then(|| progress.add(spinner(spec.name.as_str())));
        tasks.spawn(async move {
            let result = match stop.unless_asked(slots.acquire_owned()).await {
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
    let mut certificates = Vec::new();
    for spec in &agent.config.certificates {
        let known = reports.iter().find(|it| it.name == spec.name).and_then(|it| it.status.clone());
        let status = match known {
            Some(status) => Some(status),
            None => agent.lifecycle.look(spec, Asked::ByTime).await.ok().map(|it| it.status),
        };
        certificates.extend(status);
    }
    let mut document = StatusDocument {
        format: STATUS_FORMAT,
        host: base.host.clone(),
        written_at: base.clock.now(),
        notices: agent.all_notices(),
        certificates,
    };
    document.note_unfit_stand_ins();
    document.note_revocations();
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

pub(super) fn exit_of(report: &WorkReport) -> Exit {
    let health = report.status.as_ref().map_or(Health::Warning, |it| it.health);
    match (health, report.failures.is_empty()) {
        (Health::Critical, _) => Exit::Critical,
        (_, false) | (Health::Warning, _) => Exit::Failed,
        (Health::Ok, true) => Exit::AsWanted,
    }
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
