//! One certificate from plan to outcome: the only place where the steps meet.
//!
//! [`Lifecycle::work`] does what [`crate::plan`] says is due, remembers how it went, and tells.
//! It can be called at any time, also after a crash at any moment: it goes on where it stopped.
//! For one certificate it must not run twice at once; its callers see to that.
//!
//! # Not here
//!
//! When to call it, for which certificates, and how many at once ([`crate::daemon`]).

mod authority;
mod books;
mod deployment;
mod facts;
mod fitness;
mod key;
mod preflight;
mod rehearsal;
mod revocation;
mod revocation_list;
mod silence;
mod standing;
mod status;
mod suggestion;
mod timekeeper;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::deploy::{Deployer, TargetSettings};
use crate::issue::{IssueError, Issuer, Purpose, Side};
use crate::model::{
    CaName, CertificateId, CertificateName, CertificateSpec, CertificateStatus, Event, Explain,
    Failure, Held, Observer, Retry, Share, StorageError, TargetName, TargetStatus, chain_text,
};
use crate::plan::backoff::{Jitter, after_ca_failure, after_local_failure};
use crate::plan::{Asked, Choice, Plan, Reason, Renewal, WantedCa};
use crate::store::Store;
use crate::sys::clock::Clock;
use crate::sys::crash;

use facts::{Facts, Wanted};

pub use books::Books;
pub use rehearsal::{TargetTrial, TestTrial};
pub use revocation::RevokeError;
pub use silence::Silences;
pub use timekeeper::Timekeeper;

/// Everything that one certificate's steps need.
pub struct Lifecycle {
    /// Keeps everything.
    pub store: Arc<Store>,
    /// Gets certificates.
    pub issuer: Arc<Issuer>,
    /// What CAs allow, and what was spent of it.
    pub books: Arc<Books>,
    /// Whether the clock can be believed.
    pub timekeeper: Arc<Timekeeper>,
    /// Hands them to servers.
    pub deployer: Arc<dyn Deployer>,
    /// All targets.
    pub targets: BTreeMap<TargetName, TargetSettings>,
    /// All CAs.
    pub cas: BTreeMap<CaName, WantedCa>,
    /// For each certificate a digest of all that its orders depend on: see [`digest`].
    pub digests: BTreeMap<CertificateName, String>,
    /// Whether [`Self::digests`] has every certificate that is wanted: part of the configuration
    /// may have been refused.
    pub knows_all_wanted: bool,
    /// The share of life left under which health is a warning.
    pub warning: Share,
    /// The share of life left under which health is critical.
    pub critical: Share,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Hears of everything.
    pub observer: Arc<dyn Observer>,
    /// Spreads pauses.
    pub jitter: fn() -> Jitter,
    /// Whom it need not wait for just now.
    pub silences: Silences,
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("targets", &self.targets.keys()).finish_non_exhaustive()
    }
}

/// How one certificate stands after some work, or a look at it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it stands now.
    pub status: CertificateStatus,
    /// What is to be done next, and when.
    pub plan: Plan,
    /// What failed in this call; empty if all that was due was done.
    pub failures: Vec<Failure>,
    /// Whether a new certificate was stored in this call.
    pub renewed: bool,
}

/// What came of one round of work.
#[derive(Debug, Default)]
struct Done {
    failures: Vec<Failure>,
    renewed: bool,
}

impl Done {
    /// Takes in what came of `more` work.
    fn add(&mut self, more: Self) {
        self.renewed |= more.renewed;
        self.failures.extend(more.failures);
    }
}

impl Lifecycle {
    /// What would be done for `spec` now, and how it stands. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn look(
        &self,
        spec: &CertificateSpec,
        asked: Asked,
    ) -> Result<Outcome, StorageError> {
        let facts = self.facts(spec).await?;
        Ok(self.outcome(spec, &facts, asked))
    }

    /// As [`Lifecycle::look`], with every endpoint asked now what it serves, and name servers what
    /// they have of its standing records. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn probe(&self, spec: &CertificateSpec) -> Result<Outcome, StorageError> {
        let mut facts = self.facts(spec).await?;
        self.look_at_targets(spec, &mut facts).await;
        self.look_at_records(spec, &mut facts).await;
        Ok(self.outcome(spec, &facts, Asked::ByTime))
    }

    /// Does what is due for `spec` and returns how it stands then.
    ///
    /// Failures of the CA's side and of each target are remembered apart and are in the outcome;
    /// one never keeps the others from being tried.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written. What was ordered by then is in the journal or stored,
    /// and the next call goes on with it.
    pub async fn work(
        &self,
        spec: &CertificateSpec,
        asked: Asked,
    ) -> Result<Outcome, StorageError> {
        let mut facts = self.begin(spec, asked).await?;
        self.forget_what_is_over(spec, &mut facts).await?;
        let mut done = Done::default();
        done.failures.extend(self.revoke_first(spec, &mut facts).await?);
        done.add(self.do_due(spec, &mut facts, asked).await?);
        // After the targets, which must not wait for a server of the CA's that is slow to answer.
        if asked.may_renew() {
            if self.look_for_revocation(spec, &mut facts).await? {
                done.add(self.do_due(spec, &mut facts, Asked::ByTime).await?);
            }
            self.ask_for_suggestion(spec, &mut facts).await?;
            let plan = self.plan(spec, &facts, Asked::ByTime);
            if plan.renewal == Renewal::Issue(Reason::SuggestedByCa) {
                done.add(self.do_due(spec, &mut facts, Asked::ByTime).await?);
                self.ask_for_suggestion(spec, &mut facts).await?;
            }
            self.watch_records(spec, &mut facts, asked).await?;
        }
        done.failures.extend(self.revoke_replaced(spec, &mut facts).await?);
        self.look_at_stand_ins(spec, &mut facts, asked).await?;
        self.prune(spec, &facts).await;

        let Done { failures, renewed } = done;
        let outcome = self.outcome(spec, &facts, Asked::ByTime);
        Ok(Outcome { failures, renewed, ..outcome })
    }

    /// Takes away orders that nobody goes on with, and failures that a success has ended.
    async fn forget_what_is_over(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<(), StorageError> {
        if facts.order_at.is_none() {
            // Left open, it would be taken up at the next renewal, and end in the old certificate.
            self.issuer.forget(&spec.name).await?;
        }
        let has_caught_up = self.catch_up(facts);
        let is_settled = facts.state.attempts.failures == 0
            && matches!(self.plan(spec, facts, Asked::ByTime).renewal, Renewal::Keep { .. });
        if has_caught_up || is_settled || facts.is_compromised() {
            // The same: what was set aside belonged to a renewal that is over, or is for a key that
            // is in other hands. One that is only held back has not failed, and is not over.
            self.issuer.forget_set_aside(spec).await?;
        }
        if has_caught_up
            && let Err(error) = self.store.save_certificate_state(&spec.name, &facts.state).await
        {
            // All else goes on with what is known; the next run tries again.
            let failure = error.failure(self.clock.now());
            self.observer.observe(&Event::Degraded { failure });
        }
        Ok(())
    }

    /// Whether the run that stored what is held died, or could write no more, before it noted that
    /// this has ended the failures; they are in `facts` no more then.
    fn catch_up(&self, facts: &mut Facts) -> bool {
        let Some(held) = facts.held() else { return false };
        let Some(generation) = held.generation else { return false };
        let ca = held.origin.as_ref().map(|it| it.ca.clone());
        facts.state.catch_up(generation, ca.as_ref(), self.clock.now())
    }

    /// Puts everything in order, and finds out what is known of `spec` and of the clock.
    async fn begin(&self, spec: &CertificateSpec, asked: Asked) -> Result<Facts, StorageError> {
        self.put_in_order(spec).await?;
        let mut facts = self.facts(spec).await?;
        if facts.held.is_err() {
            // Somebody may have taken a file away between the two looks, which is mended as any
            // other.
            self.put_in_order(spec).await?;
            facts = self.facts(spec).await?;
        }
        // It is judged by what is known of it then; all else is still to be done.
        self.timekeeper.tell_of_record(self.attend_clock(spec, asked).await);
        Ok(facts)
    }

    /// Renews and deploys what is due by `facts`, which are those of afterwards then.
    async fn do_due(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        asked: Asked,
    ) -> Result<Done, StorageError> {
        let mut done = Done::default();
        while let (true, Plan { renewal: Renewal::Issue(reason), choice, .. }) =
            (asked.may_renew(), self.plan(spec, facts, asked))
        {
            let is_new = choice.as_ref().is_none_or(|it| facts.asked_now.insert(it.ca.clone()));
            if !is_new {
                break;
            }
            let is_doubted =
                asked == Asked::ByTime && reason.is_of_time() && self.timekeeper.doubt().is_some();
            // What is due by the CA's clock as well needs nobody's leave.
            if is_doubted
                && !self.timekeeper.let_pass().await?
                && !matches!(self.plan(spec, facts, asked).renewal, Renewal::Issue(_))
            {
                break;
            }
            let renewed = self.renew(spec, facts, &reason, choice.as_ref(), asked).await?;
            let asked_now = std::mem::take(&mut facts.asked_now);
            *facts = Facts { asked_now, ..self.facts(spec).await? };
            match renewed {
                Ok(_held) => {
                    // What the CAs before it failed at has been done.
                    done = Done { renewed: true, failures: Vec::new() };
                    break;
                }
                Err(failure) => done.failures.push(failure),
            }
            if choice.is_none() {
                break;
            }
        }
        // Whoever asks for it by name is to hear that nothing was done, and why.
        if asked != Asked::ByTime && asked.may_renew() && !done.renewed && done.failures.is_empty()
        {
            let renewal = self.plan(spec, facts, asked).renewal;
            done.failures.extend(status::why_nothing(spec, facts, &renewal, self.clock.now()));
        }
        done.failures.extend(self.deploy_due(spec, facts, asked).await?);
        Ok(done)
    }

    /// Finishes or undoes what a crash left half installed at any target. For the start of the
    /// process, before any work; what can't be repaired is told, and tried again with the next
    /// install.
    pub async fn repair_targets(&self) {
        if let Err(error) = self.deployer.repair().await {
            let failure = error.failure(self.clock.now());
            self.observer.observe(&Event::Degraded { failure });
        }
    }

    /// Takes away the proofs that could not be taken away before, and those of orders for
    /// certificates that nobody wants any more. For the start, and now and then beside the work: it
    /// may take as long as a provider takes to answer.
    pub async fn sweep(&self) {
        if let Err(error) = self.sweep_all().await {
            tracing::warn!(error = chain_text(&error), "no leftover can be removed");
        }
    }

    async fn sweep_all(&self) -> Result<(), StorageError> {
        for name in self.store.ordered().await? {
            // Nobody works on it, so nobody else takes away what a crash left of its order. While
            // part of the configuration is refused, it may be one that is wanted there.
            if self.knows_all_wanted && !self.digests.contains_key(&name) {
                self.issuer.let_go(&name).await?;
            }
        }
        self.issuer.sweep().await
    }

    /// Puts right what a crash or somebody else's hand left, and puts a placeholder where servers
    /// would find nothing. [`Lifecycle::work`] begins with it.
    ///
    /// # Errors
    ///
    /// If the store can't be read or written.
    pub async fn put_in_order(&self, spec: &CertificateSpec) -> Result<(), StorageError> {
        let read_group = spec.read_group.as_deref();
        if let Some(what) = self.store.repair(&spec.name, read_group).await? {
            self.observer.observe(&Event::DriftRepaired { certificate: spec.name.clone(), what });
        }
        let holds_nothing = matches!(self.store.held(&spec.name).await, Ok(None));
        if spec.placeholder && holds_nothing {
            match crate::issue::placeholder(spec, self.clock.now()).await {
                Ok((chain, key)) => {
                    self.store.put_placeholder(&spec.name, &chain, &key, read_group).await?;
                }
                // A server that can't start is worth a warning, and no reason to order nothing.
                Err(error) => {
                    let failure = Failure {
                        at: self.clock.now(),
                        code: "issue.placeholder".to_owned(),
                        message: chain_text(&error),
                        hint: None,
                    };
                    self.observer.observe(&Event::Degraded { failure });
                }
            }
        }
        Ok(())
    }

    /// Gets and stores a certificate from the CA of `choice`; remembers and tells how that went.
    async fn renew(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        reason: &Reason,
        choice: Option<&Choice>,
        asked: Asked,
    ) -> Result<Result<Held, Failure>, StorageError> {
        let certificate = spec.name.clone();
        let digest = self.digests.get(&spec.name).map(String::as_str);
        facts.state.begin(digest, choice.map(|it| &it.ca));
        let Some(choice) = choice else {
            return Ok(Err(self.remember_failure(spec, facts, &IssueError::NoCa).await?));
        };
        let ca = &choice.ca;
        self.tell_start(spec, reason, choice);

        let purpose = self.purpose(spec, facts, ca, asked);
        match self.issue_and_store(spec, facts, ca, &purpose).await {
            Ok(held) => {
                facts.state.succeed(self.clock.now());
                facts.state.stand_in = self.stand_in(spec, &held, choice);
                self.store.save_certificate_state(&spec.name, &facts.state).await?;
                self.write_history(spec, "renewed", &held.leaf.sha256.to_string()).await;
                self.observer.observe(&Event::Renewed {
                    certificate,
                    ca: ca.clone(),
                    generation: held.generation.unwrap_or(crate::model::Generation(0)),
                    sha256: held.fingerprint(),
                    not_after: held.leaf.validity.not_after,
                });
                Ok(Ok(held))
            }
            // Nothing has failed, and no ladder is climbed: the plan waits for what is missing.
            // Where it did not see that coming (an account, a proof) it waits all the same, and for
            // others it is their turn.
            Err(error @ IssueError::HeldBack(_)) => {
                let now = self.clock.now();
                let failure = error.failure(now);
                if let IssueError::HeldBack(refusal) = &error {
                    let directory = self.cas.get(ca).map_or("", |it| it.directory.as_str());
                    facts.state.hold(directory, now, refusal.until);
                    self.store.save_certificate_state(&spec.name, &facts.state).await?;
                }
                tracing::info!(%certificate, reason = failure.message, "the order is held back");
                Ok(Err(failure))
            }
            Err(error) => {
                let failure = self.remember_failure(spec, facts, &error).await?;
                self.write_history(spec, "renewal_failed", &failure.message).await;
                let retry_at = self.next_order_at(spec, facts);
                let event =
                    Event::RenewalFailed { certificate, failure: failure.clone(), retry_at };
                self.observer.observe(&event);
                Ok(Err(failure))
            }
        }
    }

    /// The name of `held` towards `ca`, if a certificate of that CA for `spec` replaces it: they
    /// share an identifier (RFC 9773 §5).
    fn replaced(&self, spec: &CertificateSpec, held: &Held, ca: &CaName) -> Option<CertificateId> {
        let is_theirs = !held.is_placeholder() && self.ca_of(spec, held) == Some(ca);
        let shares = spec.identifiers.iter().any(|it| held.leaf.identifiers.contains(it));
        if is_theirs && shares { CertificateId::of(&held.leaf) } else { None }
    }

    async fn issue_and_store(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        ca: &CaName,
        purpose: &Purpose,
    ) -> Result<Held, IssueError> {
        self.check_ready(spec, facts, ca).await?;
        let reused = self.reused_key(spec, facts).await?;
        let issued = Box::pin(self.issuer.issue(spec, ca, purpose, reused.as_ref())).await?;
        let held = self.store.add(&spec.name, &issued, spec.read_group.as_deref()).await?;
        crash::point("lifecycle.stored");
        // From here on the new certificate is the one that servers read; a journal that can't be
        // closed is closed by the next run, which sees that its key is already in use.
        drop(self.issuer.close(spec).await);
        drop(self.issuer.forget_set_aside(spec).await);
        Ok(held)
    }

    async fn remember_failure(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        error: &IssueError,
    ) -> Result<Failure, StorageError> {
        let now = self.clock.now();
        let failure = error.failure(now);
        let life_left = facts
            .held()
            .filter(|it| !it.is_placeholder())
            .map(|it| it.leaf.validity.life_left(now));
        let ca = facts.state.attempted_ca.as_ref().and_then(|it| self.cas.get(it));
        let directory = ca.map_or("", |it| it.directory.as_str());
        let (fault, retry) = (error.fault(), error.retry());
        let failures = facts.state.tries(fault, directory).failures.saturating_add(1);
        let pause = pause(failures, error.side(), retry, life_left, (self.jitter)());
        let pause = error.longest_pause().map_or(pause, |it| pause.min(it));
        facts.state.fail(&failure, fault, directory, (retry, pause));
        facts.state.failed_beside = Some(facts.newest);
        self.store.save_certificate_state(&spec.name, &facts.state).await?;
        Ok(failure)
    }

    /// Adds a line to the certificate's history, for people; what can't be written is not missed.
    pub(super) async fn write_history(&self, spec: &CertificateSpec, what: &str, detail: &str) {
        let line = serde_json::json!({ "at": self.clock.now(), "what": what, "detail": detail });
        drop(self.store.append_history(&spec.name, &line).await);
    }

    /// Removes generations that nobody needs any more.
    async fn prune(&self, spec: &CertificateSpec, facts: &Facts) {
        let endpoints = facts.targets.iter().flat_map(|(_, state)| &state.endpoints);
        let served = endpoints.filter_map(|it| it.served_sha256);
        // What is to be revoked is needed for that.
        let served = served.chain(facts.pending.as_ref().map(|it| it.certificate)).collect();
        // What was done is not undone by what could not be tidied up: the next run tries again.
        if let Err(error) = self.store.prune(&spec.name, &served).await {
            let failure = error.failure(self.clock.now());
            self.observer.observe(&Event::Degraded { failure });
        }
    }

    fn outcome(&self, spec: &CertificateSpec, facts: &Facts, asked: Asked) -> Outcome {
        let plan = self.plan(spec, facts, asked);
        let status = status::describe(self, spec, facts, &plan, self.clock.now());
        Outcome { status, plan, failures: Vec::new(), renewed: false }
    }

    fn plan(&self, spec: &CertificateSpec, facts: &Facts, asked: Asked) -> Plan {
        let cas: Vec<WantedCa> =
            spec.cas.iter().filter_map(|it| self.cas.get(it)).cloned().collect();
        let target = |name: &TargetName| self.targets.get(name);
        let digest = self.digests.get(&spec.name).map_or("", String::as_str);
        let refusals: Vec<_> = cas
            .iter()
            .filter_map(|it| Some((it.name.clone(), self.refusal(spec, facts, &it.name, asked)?)))
            .collect();
        let doubt = self.timekeeper.doubt();
        let wanted = Wanted {
            cas: &cas,
            digest,
            warning: self.warning,
            target: &target,
            refusals: &refusals,
            doubt: doubt.as_ref(),
            clock: self.timekeeper.standing(),
        };
        let plan = facts.plan(spec, &wanted, asked, self.clock.now());
        let polls = [
            self.poll_at(spec, facts),
            self.revocation_poll_at(spec, facts),
            self.list_poll_at(facts),
            self.record_look_at(spec, facts),
            self.fitness_poll_at(spec, facts),
        ];
        Plan { poll_at: polls.into_iter().flatten().min(), ..plan }
    }
}

/// The pause after the `failures`th failure in a row, by the ladder of its `side`. What a human is
/// to mend on our own side is found mended soon: only there nobody else is asked.
fn pause(
    failures: u32,
    side: Side,
    retry: Retry,
    life_left: Option<Duration>,
    jitter: Jitter,
) -> Duration {
    match (side, retry) {
        (Side::Local, Retry::BackOff | Retry::AfterChange) => after_local_failure(failures, jitter),
        (Side::Ca, Retry::AfterChange) => after_ca_failure(u32::MAX, life_left, jitter),
        _ => after_ca_failure(failures, life_left, jitter),
    }
}

/// A digest of `parts`: what was wanted when a renewal failed, so that a changed wish is tried at
/// once. Nothing secret may be among them.
#[must_use]
pub fn digest(parts: &[String]) -> String {
    crate::model::Fingerprint::of(parts.join("\n").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_ladder_and_a_ca_that_needs_a_human_the_longest_pause() {
        let seconds =
            |failures, side, retry| pause(failures, side, retry, None, Jitter::NONE).as_secs();
        for retry in [Retry::BackOff, Retry::AfterChange] {
            let local = [1, 2, 3, 4].map(|it| seconds(it, Side::Local, retry));
            assert_eq!(local, [5, 30, 120, 300]);
        }
        assert_eq!([1, 2].map(|it| seconds(it, Side::Ca, Retry::BackOff)), [60, 600]);
        assert_eq!(seconds(1, Side::Ca, Retry::AfterChange), 86_400);
    }
}
