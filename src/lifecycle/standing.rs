//! Watches the standing records of one certificate (dns-persist-01) between its renewals: what is
//! wrong with one is told while there is time, not by the renewal that it fails.
//!
//! Which records the CA wants is known from its challenges, so a look asks name servers alone, and
//! nobody's budget pays for it.
//!
//! Not here: when, and what a finding means ([`crate::plan::standing`]).

use std::time::Duration;

use super::Lifecycle;
use super::facts::Facts;
use crate::model::{
    CaName, CertificateSpec, ChangedRecord, Event, Journal, RecordCondition, RecordStatus,
    StandingWatch, StorageError, Timestamp, WatchedRecord, chain_text,
};
use crate::plan::standing;

/// How long all looks of one certificate may take: others wait for the slot.
const LIMIT: Duration = Duration::from_secs(30);

impl Lifecycle {
    /// The records that `spec` is proven by, of those that `facts` know.
    fn watched<'a>(&self, spec: &CertificateSpec, facts: &'a Facts) -> Option<&'a StandingWatch> {
        let watch = facts.standing.as_ref().filter(|it| spec.cas.contains(&it.ca))?;
        watch.records.iter().any(|it| self.is_watched(spec, it)).then_some(watch)
    }

    fn is_watched(&self, spec: &CertificateSpec, record: &WatchedRecord) -> bool {
        self.issuer.is_proven_by_standing(spec, &record.identifier)
    }

    /// When the records of `spec` are looked at next; `None` if it has none.
    pub(super) fn record_look_at(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Option<Timestamp> {
        let watch = self.watched(spec, facts)?;
        Some(standing::next_look_at(watch, facts.validity(), self.clock.now()))
    }

    /// Looks at the records of `spec` if that is due; what is found is in `facts` then, and on
    /// disk.
    pub(super) async fn watch_records(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        asked: super::Asked,
    ) -> Result<(), StorageError> {
        let now = self.clock.now();
        let is_due = self.record_look_at(spec, facts).is_some_and(|it| it <= now);
        if !is_due && asked == super::Asked::ByTime {
            return Ok(());
        }
        self.look_at_records(spec, facts).await;
        match &facts.standing {
            Some(watch) => self.store.save_standing(&spec.name, Some(watch)).await,
            None => Ok(()),
        }
    }

    /// Looks at the records of `spec` now; what is found is in `facts` then, and nowhere else.
    pub(super) async fn look_at_records(&self, spec: &CertificateSpec, facts: &mut Facts) {
        let Some(watch) = self.watched(spec, facts) else { return };
        let mut watch = watch.clone();
        // Whatever comes of it, the next look has its time.
        watch.looked_at = Some(self.clock.now());
        let Some(account) = self.issuer.standing_account(&watch).await else {
            facts.standing = Some(watch);
            return;
        };
        let before = self.records(spec, facts);
        watch.records.retain(|it| self.is_watched(spec, it));
        let findings = self.issuer.look_at_records(spec, &watch.records, &account, LIMIT).await;
        let now = self.clock.now();
        for (index, record) in watch.records.iter_mut().enumerate() {
            if let Some(wanted) = record.terms.record(&record.identifier, &account) {
                record.value = wanted.value();
            }
            if let Some(Some(finding)) = findings.get(index) {
                record.found = Some(standing::found(record.found, finding.state, now));
            }
        }
        facts.standing = Some(watch);
        self.tell_of_records(spec, &before, &self.records(spec, facts));
    }

    fn tell_of_records(
        &self,
        spec: &CertificateSpec,
        before: &[RecordStatus],
        after: &[RecordStatus],
    ) {
        for record in after {
            let known = before.iter().find(|it| it.identifier == record.identifier);
            let was = known.map_or(RecordCondition::Unknown, |it| it.state);
            let is_first = was == RecordCondition::Unknown && record.trouble().is_none();
            if was == record.state || is_first {
                continue;
            }
            let certificate = spec.name.clone();
            self.observer.observe(&Event::RecordChanged {
                certificate,
                record: record.name.clone(),
                trouble: record.trouble(),
                hint: record.hint(),
            });
        }
    }

    /// How the records of `spec` stand.
    pub(super) fn records(&self, spec: &CertificateSpec, facts: &Facts) -> Vec<RecordStatus> {
        let Some(watch) = self.watched(spec, facts) else { return Vec::new() };
        let (now, not_after) = (self.clock.now(), facts.validity().map(|it| it.not_after));
        let status = |record: &WatchedRecord| {
            let (state, until) = standing::condition(record.found, not_after, now);
            RecordStatus {
                identifier: record.identifier.clone(),
                name: record.name.clone(),
                value: record.value.clone(),
                state,
                until,
                since: record.found.map(|it| it.since),
                checked_at: watch.looked_at,
            }
        };
        watch.records.iter().filter(|it| self.is_watched(spec, it)).map(status).collect()
    }

    /// After the account at `ca` got another key, or became another one: has the records of `specs`
    /// looked at soon, and says which are to be set anew. What can't be found out is told by that
    /// look.
    pub async fn account_changed(
        &self,
        ca: &CaName,
        specs: &[CertificateSpec],
    ) -> Vec<ChangedRecord> {
        let mut changed = Vec::new();
        for spec in specs.iter().filter(|it| it.cas.contains(ca)) {
            match self.changed_records(ca, spec).await {
                Ok(of_this) => changed.extend(of_this),
                Err(error) => {
                    let error = chain_text(&error);
                    tracing::warn!(certificate = %spec.name, error, "records are not known");
                }
            }
        }
        changed
    }

    async fn changed_records(
        &self,
        ca: &CaName,
        spec: &CertificateSpec,
    ) -> Result<Vec<ChangedRecord>, StorageError> {
        let known = self.store.load_standing(&spec.name).await?.filter(|it| it.ca == *ca);
        let Some(mut watch) = known else { return Ok(Vec::new()) };
        let Some(account) = self.issuer.standing_account(&watch).await else {
            return Ok(Vec::new());
        };
        let mut changed = Vec::new();
        for record in watch.records.iter().filter(|it| self.is_watched(spec, it)) {
            let wanted = record.terms.record(&record.identifier, &account);
            let Some(value) = wanted.map(|it| it.value()).filter(|it| *it != record.value) else {
                continue;
            };
            let (certificate, name) = (spec.name.clone(), record.name.clone());
            changed.push(ChangedRecord { certificate, name, value });
        }
        if !changed.is_empty() {
            watch.looked_at = None;
            self.store.save_standing(&spec.name, Some(&watch)).await?;
        }
        Ok(changed)
    }
}
