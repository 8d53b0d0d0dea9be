//! The standing records of dns-persist-01: notes which ones the CA wants, while its challenges are
//! seen, and looks at them later without an order.
//!
//! Not here: when they are looked at ([`crate::plan::standing`]).

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{IssueError, Issuer};
use crate::acme::{Authorization, CaSettings};
use crate::model::{
    CertificateSpec, ChallengeType, Identifier, StandingAccount, StandingFinding, StandingWatch,
    WatchedRecord, chain_text,
};
use crate::solver::DnsPersist01;

/// So many records are looked at side by side.
const LOOKS: usize = 8;

impl Issuer {
    /// Whether `identifier` of `spec` is proven by a record that stands for good.
    #[must_use]
    pub fn is_proven_by_standing(&self, spec: &CertificateSpec, identifier: &Identifier) -> bool {
        let solver = spec.solvers.get(identifier).and_then(|it| self.solvers.get(it));
        solver.is_some_and(|it| it.challenge_type() == ChallengeType::DnsPersist01)
    }

    /// Remembers which standing records `authorizations` of the CA of `settings` want for `spec`.
    /// What was found before of the same ones stays known.
    pub(super) async fn note_standing(
        &self,
        spec: &CertificateSpec,
        settings: &CaSettings,
        authorizations: &[Authorization],
    ) -> Result<(), IssueError> {
        let known = self.journal.load_standing(&spec.name).await?;
        let same_ca = |it: &&StandingWatch| it.directory == settings.directory;
        let before = known.as_ref().filter(same_ca);
        let records: Vec<WatchedRecord> = authorizations
            .iter()
            .filter(|it| self.is_proven_by_standing(spec, &it.ordered_identifier()))
            .filter_map(|it| record(it, before))
            .collect();
        if records.is_empty() {
            if known.is_some() {
                self.journal.save_standing(&spec.name, None).await?;
            }
            return Ok(());
        }
        let (ca, directory) = (settings.name.clone(), settings.directory.clone());
        let watch = StandingWatch { ca, directory, looked_at: None, records };
        Ok(self.journal.save_standing(&spec.name, Some(&watch)).await?)
    }

    /// The account that the records of `watch` are to name; `None` if it is not known here.
    pub async fn standing_account(&self, watch: &StandingWatch) -> Option<StandingAccount> {
        let client = self.clients.get(&watch.ca)?;
        if client.settings().directory != watch.directory {
            return None;
        }
        client.standing_account().await.ok().flatten()
    }

    /// What there is of each of `records`, as `account` needs it; `None` where that can't be found
    /// out now, nor within `limit`.
    pub async fn look_at_records(
        &self,
        spec: &CertificateSpec,
        records: &[WatchedRecord],
        account: &StandingAccount,
        limit: Duration,
    ) -> Vec<Option<StandingFinding>> {
        let mut findings = vec![None; records.len()];
        let mut looks = Vec::new();
        for (record, finding) in records.iter().zip(&mut findings) {
            looks.push(async move { *finding = self.look_at(spec, record, account).await });
        }
        let all = stream::iter(looks).buffer_unordered(LOOKS).collect::<Vec<()>>();
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(
                certificate = %spec.name,
                ?limit,
                "name servers are too slow to look at all standing records"
            );
        }
        findings
    }

    async fn look_at(
        &self,
        spec: &CertificateSpec,
        record: &WatchedRecord,
        account: &StandingAccount,
    ) -> Option<StandingFinding> {
        let solver = self.solvers.get(spec.solvers.get(&record.identifier)?)?;
        let wanted = record.terms.record(&record.identifier, account)?;
        match solver.look(&base(&record.identifier), &wanted).await {
            Ok(finding) => finding,
            Err(error) => {
                let reason = chain_text(&error);
                tracing::info!(
                    record = record.name,
                    reason,
                    "a standing record can't be looked at"
                );
                None
            }
        }
    }
}

/// The record that `authorization` wants, with what was found of it `before`.
fn record(authorization: &Authorization, before: Option<&StandingWatch>) -> Option<WatchedRecord> {
    let wanted = authorization.challenges.iter().find_map(|it| it.standing.as_ref())?;
    let identifier = authorization.ordered_identifier();
    let name = DnsPersist01::record_name(&authorization.identifier).ok()?;
    let (terms, value) = (wanted.terms(), wanted.value());
    let known = before.into_iter().flat_map(|it| &it.records);
    let known = known.filter(|it| it.identifier == identifier && it.value == value);
    let found = known.filter_map(|it| it.found).next();
    Some(WatchedRecord { identifier, name, terms, value, found })
}

/// `identifier` without its `*.`.
fn base(identifier: &Identifier) -> Identifier {
    match identifier {
        Identifier::Dns(name) => {
            Identifier::Dns(name.strip_prefix("*.").unwrap_or(name).to_owned())
        }
        Identifier::Ip(address) => Identifier::Ip(*address),
    }
}
