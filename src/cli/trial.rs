//! What came of one trial of `renewd renew --dry-run`: step by step, and what it does not prove.
//!
//! Not here: how it is carried out ([`super::dry_run`]).

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::assemble::WorkReport;
use crate::config::Ca;
use crate::lifecycle::{TargetTrial, TestTrial};
use crate::model::{CertificateSpec, EndpointCondition, Event, Failure, Observer, escaped};

use super::output;

/// Hears of everything that an observer hears of, and keeps it.
#[derive(Debug)]
pub(super) struct Recorder<O> {
    inner: O,
    events: Mutex<Vec<Event>>,
}

impl<O> Recorder<O> {
    /// Beside `inner`.
    pub(super) const fn new(inner: O) -> Self {
        Self { inner, events: Mutex::new(Vec::new()) }
    }

    /// What happened since this was last asked.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<O: Observer> Observer for Recorder<O> {
    fn observe(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        self.inner.observe(event);
    }
}

/// One trial.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    #[serde(flatten)]
    work: WorkReport,
    /// The CA for tests.
    ca: String,
    /// Each step that was made, in words.
    steps: Vec<Step>,
    targets: Vec<TargetTrial>,
    not_proven: Vec<String>,
}

/// One step.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    detail: String,
}

impl Trial {
    /// Of `spec` at `ca`: `work` came of it, and these `events` on the way.
    pub(super) fn new(
        spec: &CertificateSpec,
        ca: &Ca,
        work: WorkReport,
        events: Vec<Event>,
        account: Option<String>,
    ) -> Self {
        let mut steps = Vec::new();
        let mut add = |step, detail: String| steps.push(Step { step, detail: escaped(&detail) });
        add("ca", format!("{} at {}", ca.name(), ca.directory()));
        if let Some(account) = account {
            add("account", account);
        }
        let mut is_proven = matches!(ca, Ca::Local(_));
        for event in events {
            match event {
                Event::Proven { proofs, .. } => {
                    is_proven = true;
                    for (identifier, solver, challenge_type) in proofs {
                        add("proven", format!("{identifier} by {challenge_type} with {solver}"));
                    }
                }
                Event::OrderResumed { order_url, .. } => {
                    add("order", format!("{order_url}, resumed"))
                }
                _ => {}
            }
        }
        if let Some(status) = work.status.as_ref().filter(|_| work.renewed) {
            let [serial, issuer] = [&status.serial, &status.issuer].map(Option::as_deref);
            let until = status.not_after.map_or_else(String::new, |it| format!(", until {it}"));
            let (serial, issuer) = (serial.unwrap_or_default(), issuer.unwrap_or_default());
            add("issued", format!("serial {serial} by {issuer}{until}"));
            let generation = status.generation.as_deref().unwrap_or_default();
            add("stored", format!("as generation {generation} of the trial's own folder"));
        }
        let mut not_proven = Vec::new();
        if !is_proven && work.renewed {
            let what = "control of its names: the CA for tests had it on record from before";
            not_proven.push(what.to_owned());
        }
        let targets: Vec<_> = spec.targets.iter().map(ToString::to_string).collect();
        if !targets.is_empty() {
            not_proven.push(format!("that {} would load and serve it", targets.join(", ")));
        }
        if let Some(own) = spec.first_ca().filter(|it| *it != ca.name()) {
            not_proven.push(format!(
                "that {own} itself would issue it now (its limits, CAA, its account)"
            ));
        }
        Self { work, ca: ca.name().to_string(), steps, targets: Vec::new(), not_proven }
    }

    /// With what came of the trial of its targets, or why there was none.
    pub(super) fn with_targets(mut self, targets: Result<Vec<TargetTrial>, Failure>) -> Self {
        match targets {
            Ok(targets) => self.targets = targets,
            Err(failure) => self.work.failures.push(failure),
        }
        let tests = self.targets.iter().filter_map(|it| match &it.test {
            TestTrial::Failed(failure) => Some(failure.clone()),
            TestTrial::Passed | TestTrial::None | TestTrial::NothingHeld => None,
        });
        self.work.failures.extend(tests);
        self
    }

    /// Whether a renewal would go well, as far as it was tried.
    pub(super) fn went_well(&self) -> bool {
        self.work.renewed && self.work.failures.is_empty()
    }

    /// Tells it to people.
    pub(super) fn tell(&self) {
        let name = &self.work.name;
        if self.went_well() {
            output::data(&format!("{name}: the trial went well"));
        } else {
            output::data(&format!("{name}: the trial did not go well"));
        }
        for Step { step, detail } in &self.steps {
            output::data(&format!("  {step:<8} {detail}"));
        }
        for target in &self.targets {
            output::data(&format!("  {:<8} {}: {}", "target", target.name, words(target)));
        }
        for what in &self.not_proven {
            output::data(&format!("  not proven: {what}"));
        }
        for failure in &self.work.failures {
            output::problem(&format!("{name}: {}", failure.message), failure.hint.as_deref());
        }
    }
}

fn words(target: &TargetTrial) -> String {
    let test = match &target.test {
        TestTrial::Passed => "its test passes",
        TestTrial::Failed(_) => "its test fails",
        TestTrial::None => "it has no test",
        TestTrial::NothingHeld => "its test was not run, since nothing is held yet",
    };
    let endpoints = target.endpoints.iter().map(|it| {
        let answer = match (it.state, it.served_serial.as_deref()) {
            (EndpointCondition::Served, _) => "serves what is held",
            (_, Some(_)) => "serves another certificate",
            (_, None) => "does not answer with a certificate",
        };
        format!("{} as {} {answer}", it.address, it.name)
    });
    std::iter::once(test.to_owned()).chain(endpoints).collect::<Vec<_>>().join("; ")
}
