//! Looks whether the stand-ins of a certificate would issue if they were asked, while all is well.
//!
//! It costs a CA one request a day and process, for its directory, however many certificates name
//! it; the rest is known here or in DNS. Nothing waits for it.
//!
//! Not here: when ([`crate::plan::fitness`]); what is looked at ([`crate::issue`]).

use std::time::Duration;

use super::Lifecycle;
use super::facts::Facts;
use crate::issue::Unfit;
use crate::model::{
    CaName, CertificateSpec, Event, Explain, Failure, Fitness, StorageError, Timestamp,
};
use crate::plan::{Asked, fitness};

/// How long a look may take: others wait for the slot.
const LIMIT: Duration = Duration::from_secs(30);

impl Lifecycle {
    /// Each stand-in of `spec` that would not issue if it were asked now, and why; changes nothing.
    pub async fn unfit_stand_ins(&self, spec: &CertificateSpec) -> Vec<(CaName, Unfit)> {
        let mut unfit = Vec::new();
        for ca in stand_ins(spec) {
            let looked = tokio::time::timeout(LIMIT, self.issuer.rehearse(spec, ca)).await;
            if let Ok(Err(error)) = looked {
                unfit.push((ca.clone(), error));
            }
        }
        unfit
    }

    /// When a stand-in of `spec` is looked at next; `None` if none is.
    pub(super) fn fitness_poll_at(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Option<Timestamp> {
        if !is_calm(facts) {
            return None;
        }
        let (digest, now) = (self.digest_of(spec), self.clock.now());
        let next = |ca| fitness::next_check_at(facts.state.fitness.get(ca), digest, now);
        stand_ins(spec).iter().map(next).min()
    }

    /// Looks at each stand-in of `spec` that is to be looked at now; what was found is in `facts`
    /// then, and on disk.
    pub(super) async fn look_at_stand_ins(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        asked: Asked,
    ) -> Result<(), StorageError> {
        let is_due = self.fitness_poll_at(spec, facts).is_some_and(|it| it <= self.clock.now());
        if !asked.may_renew() || !is_due {
            return Ok(());
        }
        facts.state.fitness.retain(|ca, _| stand_ins(spec).contains(ca));
        for ca in stand_ins(spec) {
            let known = facts.state.fitness.get(ca);
            let now = self.clock.now();
            if now < fitness::next_check_at(known, self.digest_of(spec), now) {
                continue;
            }
            let looked = tokio::time::timeout(LIMIT, self.issuer.rehearse(spec, ca)).await;
            let now = self.clock.now();
            let fault = match looked {
                Ok(looked) => looked.err().map(|error| error.failure(now)),
                // A slow DNS says nothing of the CA: what was known stays.
                Err(_elapsed) => known.and_then(|it| it.fault.clone()),
            };
            self.tell_fitness(spec, ca, known.and_then(|it| it.fault.as_ref()), fault.as_ref());
            let since = known.and_then(|it| it.unfit_since);
            let found = Fitness {
                checked_at: now,
                next_check_at: fitness::after(fault.is_none(), (self.jitter)(), now),
                spec: self.digest_of(spec).to_owned(),
                unfit_since: fault.as_ref().map(|_| since.unwrap_or(now)),
                fault,
            };
            facts.state.fitness.insert(ca.clone(), found);
        }
        self.store.save_certificate_state(&spec.name, &facts.state).await
    }

    /// Tells what is new about the fitness of `ca`.
    fn tell_fitness(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
        before: Option<&Failure>,
        fault: Option<&Failure>,
    ) {
        let (certificate, ca) = (spec.name.clone(), ca.clone());
        match (before, fault) {
            (Some(before), Some(fault)) if before.code == fault.code => {}
            (_, Some(fault)) => {
                let failure = fault.clone();
                self.observer.observe(&Event::StandInUnfit { certificate, ca, failure });
            }
            (Some(_), None) => self.observer.observe(&Event::StandInFit { certificate, ca }),
            (None, None) => {}
        }
    }

    fn digest_of(&self, spec: &CertificateSpec) -> &str {
        self.digests.get(&spec.name).map_or("", String::as_str)
    }
}

/// All CAs of `spec` but the first.
fn stand_ins(spec: &CertificateSpec) -> &[CaName] {
    spec.cas.get(1..).unwrap_or_default()
}

/// Whether nothing more pressing than a look at stand-ins is under way: in trouble they are asked.
fn is_calm(facts: &Facts) -> bool {
    facts.state.attempts.failures == 0
}
