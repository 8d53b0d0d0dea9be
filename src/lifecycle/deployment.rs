//! One certificate at its targets: install, test, reload, verify, and what is remembered of it.

use futures_util::future::join_all;

use crate::deploy::{self, DeployError, DeployRequest, Installed, TargetSettings, Verified};
use crate::model::{
    Attempts, CertificateSpec, EndpointCondition, Event, Explain, Failure, Held, StorageError,
    TargetName, TargetState,
};
use crate::plan::backoff::after_local_failure;
use crate::plan::{
    Asked, DeployReason, Deployment, Verified as Proof, is_looked_at_first, is_told_again,
    serves_newer,
};
use crate::sys::crash;

use super::Lifecycle;
use super::facts::{Facts, verified};

impl Lifecycle {
    /// Does what is due at every target of `spec`, side by side; returns what failed.
    pub(super) async fn deploy_due(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        asked: Asked,
    ) -> Result<Vec<Failure>, StorageError> {
        let Some(held) = facts.held().cloned() else { return Ok(Vec::new()) };
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut under_way = Vec::new();
        for (index, (name, state)) in facts.targets.iter().enumerate() {
            let Some(target) = self.targets.get(name) else { continue };
            let deployment = facts.deployment(spec, Some(target), state, asked, now);
            if matches!(deployment, Deployment::Deploy(_) | Deployment::Look) {
                due.push(index);
                let first = match deployment {
                    Deployment::Look => First::Look,
                    // It was told: perhaps it only took its time, or the operator helped it.
                    Deployment::Deploy(DeployReason::NotServed) if asked == Asked::ByTime => {
                        First::Look
                    }
                    _ if asked.redeploys() => First::Insist,
                    _ => First::HandOver,
                };
                under_way.push(self.serve(spec, &held, target, first, state.clone()));
            }
        }
        let mut failures = Vec::new();
        for (index, result) in due.into_iter().zip(join_all(under_way).await) {
            let state = result?;
            let failed = state.attempts.failures > 0;
            failures.extend(state.attempts.last.clone().filter(|_| failed));
            if let Some((_, slot)) = facts.targets.get_mut(index) {
                *slot = state;
            }
        }
        Ok(failures)
    }

    /// Asks every endpoint now what it serves, and notes it in `facts` alone.
    pub(super) async fn look_at_targets(&self, spec: &CertificateSpec, facts: &mut Facts) {
        let Some(held) = facts.held().filter(|it| !it.is_placeholder()).cloned() else { return };
        let wanted = deploy::Wanted::of(spec, &held);
        for (name, state) in &mut facts.targets {
            let Some(target) = self.targets.get(name) else { continue };
            if verified(spec, target) == Proof::ByAsking {
                let seen = deploy::look(target, &wanted, &state.endpoints, &*self.clock).await;
                self.note(&held, &seen, state);
            }
        }
    }

    /// Makes one target serve `held`, beginning with `first`, and remembers how it went.
    async fn serve(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
        first: First,
        mut state: TargetState,
    ) -> Result<TargetState, StorageError> {
        if state.attempted != Some(held.fingerprint()) {
            state.attempts.begin_anew();
            state.attempted = Some(held.fingerprint());
        }
        let Some(result) = self.attempt(spec, held, target, first, &mut state).await? else {
            self.store.save_target_state(&target.name, &spec.name, &state).await?;
            return Ok(state);
        };
        match result {
            Ok(event) => {
                let what = format!("{} {}", target.name, held.fingerprint());
                self.write_history(spec, "deployed", &what).await;
                state.attempts.succeed();
                self.observer.observe(&event);
            }
            Err(error) => {
                let failure = error.failure(self.clock.now());
                let pause =
                    after_local_failure(state.attempts.failures.saturating_add(1), (self.jitter)());
                state.attempts.fail(failure.clone(), error.retry(), pause);
                let what = format!("{}: {}", target.name, failure.message);
                self.write_history(spec, "deploy_failed", &what).await;
                self.observer.observe(&Event::DeployFailed {
                    certificate: spec.name.clone(),
                    target: target.name.clone(),
                    failure,
                    retry_at: state.attempts.next_attempt_at,
                });
            }
        }
        self.store.save_target_state(&target.name, &spec.name, &state).await?;
        Ok(state)
    }

    /// Makes one target serve `held`, beginning with `first`; `None` if it did already, as was
    /// known.
    async fn attempt(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
        first: First,
        state: &mut TargetState,
    ) -> Result<Option<Result<Event, DeployError>>, StorageError> {
        let was_fine =
            state.served == Some(held.fingerprint()) || verified(spec, target) == Proof::NotAtAll;
        let is_looked_at = match first {
            First::Look => true,
            First::HandOver => is_looked_at_first(held, self.clock.now()),
            First::Insist => false,
        };
        let seen = if is_looked_at {
            Some(self.look_twice(spec, held, target, state).await)
        } else {
            None
        };
        if let Some(Err(_)) = seen
            && let Some(error) = self.newer_served(spec, held, state).await?
        {
            return Ok(Some(Err(error)));
        }
        if let (First::Look, Some(seen)) = (first, seen) {
            let is_shown = verified(spec, target) != Proof::NotAtAll;
            match (self.still_installed(spec, held, target).await, seen) {
                (Ok(true), Ok(_)) if was_fine => return Ok(None),
                (Ok(true), Err(error))
                    if !is_told_again(state, |it| target.requires(&it.address)) =>
                {
                    return Ok(Some(Err(error)));
                }
                (Ok(true), Ok(event)) => return Ok(Some(Ok(event))),
                (Ok(true), Err(_)) => {}
                // Nobody can tell how the files are: what clients are shown is what counts.
                (Err(error), Ok(event)) if is_shown && is_of_the_deployer(&error) => {
                    return Ok(if was_fine { None } else { Some(Ok(event)) });
                }
                // By its new names it is not what the deployer may install. It is in its place all
                // the same, until there is one with those.
                (Err(error), Ok(event)) if error.code() == SOURCE && is_outdated(spec, held) => {
                    let is_in_place = is_shown || state.installed == Some(held.fingerprint());
                    let fine = if was_fine { None } else { Some(Ok(event)) };
                    return Ok(if is_in_place { fine } else { Some(Err(error)) });
                }
                // What can't be put right is handed over next, which fails too, and is remembered
                // and told with its reason. A kill before the reload must not make it be forgotten.
                (Ok(false) | Err(_), _) => {
                    state.reloaded = None;
                    self.store.save_target_state(&target.name, &spec.name, state).await?;
                }
            }
        }
        self.hand_over(spec, held, target, state).await.map(Some)
    }

    /// Why `held` is not handed over, if by `state` a newer certificate is served that we do not
    /// keep: what was restored from a backup must not take its place.
    async fn newer_served(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        state: &TargetState,
    ) -> Result<Option<DeployError>, StorageError> {
        let now = self.clock.now();
        let newer = || state.endpoints.iter().filter(|it| serves_newer(it, held, now));
        if newer().next().is_none() {
            return Ok(None);
        }
        let kept: Vec<_> =
            self.store.generations(&spec.name).await?.into_iter().map(|(_, it)| Some(it)).collect();
        let found = newer().find(|it| !kept.contains(&it.served_sha256));
        Ok(found.map(|endpoint| DeployError::ServesNewer {
            certificate: spec.name.clone(),
            address: endpoint.address.clone(),
            name: endpoint.name.clone(),
            serial: endpoint.served_serial.clone().unwrap_or_default(),
        }))
    }

    /// Whether the files that were installed for `target` are as they were put there. What somebody
    /// changed is put right on the way, and told; the server is to load it then.
    ///
    /// # Errors
    ///
    /// If they can't be looked at now, which says nothing of them.
    async fn still_installed(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
    ) -> Result<bool, DeployError> {
        let Some(request) = request(spec, held, &target.name) else { return Ok(true) };
        match self.deployer.install(&request).await? {
            Installed::Changed => {}
            Installed::Nothing | Installed::Unchanged => return Ok(true),
        }
        let what = format!("the files of the target {} were not as they had been put", target.name);
        self.observer.observe(&Event::DriftRepaired { certificate: spec.name.clone(), what });
        Ok(false)
    }

    /// Asks the endpoints what they serve; twice before a reload is thought of, since one lost
    /// connection is no reason for it.
    async fn look_twice(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
        state: &mut TargetState,
    ) -> Result<Event, DeployError> {
        if verified(spec, target) == Proof::NotAtAll {
            state.checked_at = Some(self.clock.now());
            return Ok(installed_event(spec, &target.name));
        }
        let wanted = deploy::Wanted::of(spec, held);
        let look = || deploy::look(target, &wanted, &state.endpoints, &*self.clock);
        let mut seen = look().await;
        if seen.error.is_some() {
            seen = look().await;
        }
        self.note(held, &seen, state);
        seen.error.map_or_else(|| Ok(served_event(spec, target, held)), Err)
    }

    /// Install, test, reload, verify; each step that was made is remembered before the next.
    async fn hand_over(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
        state: &mut TargetState,
    ) -> Result<Result<Event, DeployError>, StorageError> {
        let Some(request) = request(spec, held, &target.name) else {
            return Ok(Ok(installed_event(spec, &target.name)));
        };
        if let Err(error) = self.install_and_test(spec, held, target, &request, state).await? {
            return Ok(Err(error));
        }
        crash::point("deploy.installed");
        (state.untested, state.without_fault) = (None, None);
        state.installed = Some(held.fingerprint());
        // Also where it was told before, and is told again by hand: what fails now is tried again.
        state.reloaded = None;
        self.store.save_target_state(&target.name, &spec.name, state).await?;

        crash::point("deploy.before_reload");
        if let Err(error) = self.deployer.reload(&request).await {
            return Ok(Err(error));
        }
        crash::point("deploy.reloaded");
        state.reloaded = Some(held.fingerprint());
        self.store.save_target_state(&target.name, &spec.name, state).await?;

        if verified(spec, target) == Proof::NotAtAll {
            state.checked_at = Some(self.clock.now());
            return Ok(Ok(installed_event(spec, &target.name)));
        }
        let wanted = deploy::Wanted::of(spec, held);
        let seen = deploy::verify(target, &wanted, &state.endpoints, &*self.clock).await;
        crash::point("deploy.verified");
        self.note(held, &seen, state);
        Ok(match seen.error {
            Some(error) => Err(error),
            None => Ok(served_event(spec, target, held)),
        })
    }

    /// Puts the files in place and has the server's own test judge them.
    ///
    /// Where the test refuses, the old files tell whose fault it is: if it passes with them, the
    /// new ones are, and the old ones stay; if not, somebody broke the server's configuration, and
    /// the new files stay for when it is mended. That is found out anew when the test says something
    /// else than at the last try, for who mends the configuration does not mend the files, and now
    /// and then, for a test may say nothing. Not at each try: it changes the files for a moment.
    async fn install_and_test(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        target: &TargetSettings,
        request: &DeployRequest,
        state: &mut TargetState,
    ) -> Result<Result<(), DeployError>, StorageError> {
        let fingerprint = Some(held.fingerprint());
        let was_untested = state.untested == fingerprint;
        let can_be_refused = target.test.is_some() && !target.install.is_empty();
        if can_be_refused && state.installed != fingerprint && !was_untested {
            state.untested = fingerprint;
            self.store.save_target_state(&target.name, &spec.name, state).await?;
        }
        let installed = match self.deployer.install(request).await {
            Ok(installed) => installed,
            Err(error) => return Ok(Err(error)),
        };
        let Err(error) = self.deployer.test(request).await else { return Ok(Ok(())) };
        let is_judged = match installed {
            Installed::Changed => true,
            Installed::Unchanged => was_untested,
            Installed::Nothing => false,
        };
        if !is_judged {
            // What stands there stood there before.
            state.untested = None;
            return Ok(Err(error));
        }
        let was_without_fault = installed == Installed::Unchanged
            && state.without_fault == fingerprint
            && says_as_before(&error.failure(self.clock.now()), &state.attempts);
        if was_without_fault && !state.attempts.failures.is_multiple_of(JUDGED_EVERY) {
            return Ok(Err(error));
        }
        let (error, stays) = self.find_whose_fault(request, error).await;
        state.without_fault = fingerprint.filter(|_| stays);
        Ok(Err(error))
    }

    /// Leaves the earlier files in place if the server's test, which refused the new ones by `error`,
    /// passes with them, else the new ones; what is to be told of it, and whether the new ones stay.
    async fn find_whose_fault(
        &self,
        request: &DeployRequest,
        error: DeployError,
    ) -> (DeployError, bool) {
        match self.deployer.put_back(request).await {
            Ok(()) => {}
            // There were none.
            Err(none) if none.code() == NOTHING_KEPT => return (error, false),
            Err(other) => return (other, false),
        }
        if self.deployer.test(request).await.is_ok() {
            return (error, false);
        }
        match self.deployer.install(request).await {
            Ok(_) => (error, true),
            Err(other) => (other, false),
        }
    }

    fn note(&self, held: &Held, seen: &Verified, state: &mut TargetState) {
        state.endpoints.clone_from(&seen.endpoints);
        state.checked_at = Some(self.clock.now());
        let serves = seen.state == EndpointCondition::Served;
        state.served = serves.then(|| held.fingerprint());
    }
}

/// What the deployer is asked for; nothing for a placeholder.
pub(super) fn request(
    spec: &CertificateSpec,
    held: &Held,
    target: &TargetName,
) -> Option<DeployRequest> {
    let generation = held.generation?;
    Some(DeployRequest { certificate: spec.name.clone(), generation, target: target.clone() })
}

/// Whether `error` says nothing of the target: the deployer is away, broke off, or does nothing at
/// all just now, such as while its configuration is refused.
fn is_of_the_deployer(error: &DeployError) -> bool {
    let codes = ["deploy.deployer_unreachable", "deploy.deployer_failed", "deploy.refused"];
    matches!(error, DeployError::Remote(_)) && codes.contains(&error.code())
}

/// Whether `failure` is the last of `attempts` once more; of numbers a program may say others each
/// time.
fn says_as_before(failure: &Failure, attempts: &Attempts) -> bool {
    let words =
        |it: &Failure| -> String { it.message.chars().filter(|it| !it.is_ascii_digit()).collect() };
    attempts.last.as_ref().is_some_and(|it| it.code == failure.code && words(it) == words(failure))
}

/// What a deployer says that refuses what is stored.
const SOURCE: &str = "deploy.source";

/// A test that says the same of new files each time, and said it of the earlier ones, is asked of
/// these again after so many tries: an hour, by the ladder.
const JUDGED_EVERY: u32 = 12;

/// What a deployer says that has nothing to put back.
const NOTHING_KEPT: &str = "deploy.nothing_kept";

/// Whether `held` is for other names, or another request, than are wanted by now.
fn is_outdated(spec: &CertificateSpec, held: &Held) -> bool {
    let request = spec.request().map(|it| it.sha256);
    held.leaf.identifiers != spec.identifier_set()
        || held.origin.as_ref().is_some_and(|it| it.csr != request)
}

/// With what the work on a target begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// It may serve the certificate already.
    Look,
    /// It does not.
    HandOver,
    /// It is to be told whatever it serves.
    Insist,
}

fn served_event(spec: &CertificateSpec, target: &TargetSettings, held: &Held) -> Event {
    Event::Served {
        certificate: spec.name.clone(),
        target: target.name.clone(),
        sha256: held.fingerprint(),
    }
}

fn installed_event(spec: &CertificateSpec, target: &TargetName) -> Event {
    Event::Installed { certificate: spec.name.clone(), target: target.clone() }
}
