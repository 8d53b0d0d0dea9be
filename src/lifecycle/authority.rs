//! Tells which CA is asked, and remembers why one was that is not the first.
//!
//! Not here: which one that is ([`crate::plan::authority`]).

use super::Lifecycle;
use super::facts::Facts;
use crate::model::{CertificateSpec, Event, Held, StandIn, Timestamp};
use crate::plan::{Asked, Choice, Reason, Renewal};

impl Lifecycle {
    /// Tells that a renewal begins at the CA of `choice`.
    pub(super) fn tell_start(&self, spec: &CertificateSpec, reason: &Reason, choice: &Choice) {
        let (certificate, ca) = (spec.name.clone(), choice.ca.clone());
        if let Some(passed_by) = &choice.stands_in {
            self.observer.observe(&Event::StandInAsked {
                certificate: certificate.clone(),
                ca: ca.clone(),
                stands_in_for: passed_by.ca.clone(),
                reason: passed_by.to_string(),
            });
        }
        let reason = reason.to_string();
        self.observer.observe(&Event::RenewalStarted { certificate, ca, reason });
    }

    /// What is remembered of `held`, which came from the CA of `choice`; `None` if that is the
    /// first.
    pub(super) fn stand_in(
        &self,
        spec: &CertificateSpec,
        held: &Held,
        choice: &Choice,
    ) -> Option<StandIn> {
        let first = spec.first_ca().filter(|it| **it != choice.ca)?;
        let reason = match &choice.stands_in {
            Some(passed_by) => passed_by.to_string(),
            None => "an order was under way there".to_owned(),
        };
        Some(StandIn {
            certificate: held.fingerprint(),
            ca: choice.ca.clone(),
            stands_in_for: first.clone(),
            reason,
            since: self.clock.now(),
        })
    }

    /// When an order is placed or gone on with by itself, after a failure.
    pub(super) fn next_order_at(&self, spec: &CertificateSpec, facts: &Facts) -> Option<Timestamp> {
        match self.plan(spec, facts, Asked::ByTime).renewal {
            Renewal::Keep { renew_at, .. } => Some(renew_at),
            Renewal::Issue(_) => Some(self.clock.now()),
            Renewal::BackOff { until, .. } => Some(until),
            Renewal::Blocked { until, .. } => until,
        }
    }
}
