//! Finds out what is known of one certificate: the facts that [`crate::plan`] decides from.

use std::collections::BTreeSet;

use super::revocation_list::names_no_list;
use crate::deploy::TargetSettings;
use crate::model::{
    CaName, CaState, CertificateId, CertificateSpec, CertificateState, Chain, ClockDoubt,
    Fingerprint, Generation, Held, Journal, KeySource, OrderRecord, PendingRevocation, PrivateKey,
    Refusal, Revocation, RevocationReason, Share, StandingWatch, StorageError, TargetName,
    TargetState, Timestamp, Validity, chain_text,
};
use crate::plan::clock::Standing;
use crate::plan::{
    Asked, Candidate, Deployment, HeldChain, Holding, Observed, Plan, Renewal, Verified, WantedCa,
    Withdrawn, choose, decide_deployment, decide_renewal, suggestion,
};
use crate::store::{HeldError, Store};

/// What is known of one certificate.
#[derive(Debug)]
pub(super) struct Facts {
    /// What is held, or why it can't be used.
    pub(super) held: Result<Option<Held>, String>,
    /// How renewals went.
    pub(super) state: CertificateState,
    /// How far each target is, in the spec's order.
    pub(super) targets: Vec<(TargetName, TargetState)>,
    /// The CA at which an order for what is wanted is under way that is not stored yet.
    pub(super) order_at: Option<CaName>,
    /// The CAs that this run has asked already.
    pub(super) asked_now: BTreeSet<CaName>,
    /// The generations that are kept.
    pub(super) kept: BTreeSet<Fingerprint>,
    /// The newest of them, 0 if there is none.
    pub(super) newest: Generation,
    /// How the held chain stands to the preferred one.
    pub(super) chain: HeldChain,
    /// The revocation that was asked for and is not done yet.
    pub(super) pending: Option<PendingRevocation>,
    /// Where a request for one lies that can't be understood.
    pub(super) damaged_revocation: Option<String>,
    /// Whether what is held names no list of revoked certificates.
    pub(super) has_no_list: bool,
    /// The standing records in DNS that it is proven by, as far as they are known.
    pub(super) standing: Option<StandingWatch>,
}

impl Facts {
    /// Reads everything that is known for `spec`, and was not found out in this run.
    pub(super) async fn read(store: &Store, spec: &CertificateSpec) -> Result<Self, StorageError> {
        let held = match store.held(&spec.name).await {
            Ok(held) => Ok(held),
            // Where the system refuses to read, nothing is known: no reason to order anew.
            Err(error) if error.is_systems_fault() => return Err(unknown(spec, error)),
            Err(error) => Err(chain_text(&error)),
        };
        let mut targets = Vec::new();
        for target in &spec.targets {
            targets.push((target.clone(), store.target_state(target, &spec.name).await?));
        }
        let order = store.load_order(&spec.name).await?;
        let mut state = store.certificate_state(&spec.name).await?;
        state.adopt();
        let chain = match &held {
            Ok(Some(held)) => held_chain(spec, held).await,
            _ => HeldChain::Settled,
        };
        let has_no_list = match &held {
            Ok(Some(held)) if !held.is_placeholder() => names_no_list(held).await,
            _ => true,
        };
        let generations = store.generations(&spec.name).await?;
        let facts = Self {
            chain,
            has_no_list,
            order_at: None,
            asked_now: BTreeSet::new(),
            held,
            state,
            targets,
            pending: store.pending_revocation(&spec.name).await?,
            damaged_revocation: store.damaged_revocation(&spec.name).await?,
            standing: store.load_standing(&spec.name).await?,
            newest: generations.last().map_or(Generation(0), |(newest, _)| *newest),
            kept: generations.into_iter().map(|(_, it)| it).collect(),
        };
        let order_at = order
            .filter(|(record, key)| {
                is_under_way(record, spec) && !facts.is_done_with(record, key.as_ref(), spec)
            })
            .map(|(record, _)| record.ca);
        Ok(Self { order_at, ..facts })
    }

    /// Whether nothing is to come of the order `record` with its `key`: its certificate is what is
    /// held, since the process died between storing it and closing the order; or the key is that of
    /// what is held, and in other hands.
    fn is_done_with(
        &self,
        record: &OrderRecord,
        key: Option<&PrivateKey>,
        spec: &CertificateSpec,
    ) -> bool {
        let Some(held) = self.held() else { return false };
        let is_same_key = match (key, spec.request()) {
            (Some(key), _) => key.public_key().is_ok_and(|it| it == held.leaf.public_key),
            (None, Some(request)) => request.public_key == held.leaf.public_key,
            (None, None) => false,
        };
        match &held.origin {
            Some(origin) if origin.order_url.is_some() && origin.order_url == record.order_url => {
                true
            }
            // It is not known which order it came from; each has a key of its own.
            None if spec.key_source == KeySource::Fresh => is_same_key,
            // With `reuse_key` or `csr_file` a new order is for the same key. And what came from no
            // order, as from the built-in CA, ended none.
            Some(_) | None => is_same_key && self.is_compromised(),
        }
    }

    /// What is held, as far as a decision needs it.
    pub(super) fn holding(&self) -> Holding<'_> {
        match &self.held {
            Ok(Some(held)) => Holding::Certificate(held),
            Ok(None) => Holding::Nothing,
            Err(why) => Holding::Unreadable(why),
        }
    }

    /// Whether the key of what is held is in other hands, or may be.
    pub(super) fn is_compromised(&self) -> bool {
        let reason = RevocationReason::KeyCompromise;
        let is_revoked =
            self.revocation().is_some_and(|it| it.reason.as_deref() == Some(reason.as_str()));
        let is_to_be = |it: &PendingRevocation| {
            it.request.reason == reason
                && self.held().is_some_and(|held| held.fingerprint() == it.certificate)
        };
        is_revoked || self.pending.as_ref().is_some_and(is_to_be)
    }

    /// The usable certificate or placeholder.
    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref().ok().and_then(Option::as_ref)
    }

    /// The life of the certificate that is held; a placeholder's does not count.
    pub(super) fn validity(&self) -> Option<Validity> {
        Some(self.held().filter(|it| !it.is_placeholder())?.leaf.validity)
    }

    /// The moment that was chosen by the CA's advice for what is held.
    fn selected_renewal(&self) -> Option<Timestamp> {
        let id = CertificateId::of(&self.held()?.leaf)?;
        suggestion::selected_renewal(&id, self.state.suggestion.as_ref())
    }

    /// Whether its CA suggests to renew the certificate called `id` at `now`.
    pub(super) fn is_suggested(&self, id: &CertificateId, now: Timestamp) -> bool {
        suggestion::is_suggested(id, self.state.suggestion.as_ref(), now)
    }

    /// What is known of the revocation of what is held.
    pub(super) fn revocation(&self) -> Option<&Revocation> {
        let held = self.held()?.fingerprint();
        self.state.revocation.as_ref().filter(|it| it.certificate == held)
    }

    /// Whether what is held is to be replaced whatever its life.
    pub(super) fn withdrawn(&self) -> Option<Withdrawn> {
        if let Some(revocation) = self.revocation() {
            return revocation.reissue.then_some(Withdrawn::Revoked);
        }
        let held = self.held()?.fingerprint();
        let pending = self.pending.as_ref().filter(|it| it.certificate == held)?;
        pending.request.reissues().then_some(Withdrawn::ToBeRevoked)
    }

    /// What is to be done, by these facts. Whether the CA is to be asked for advice is not in it.
    pub(super) fn plan(
        &self,
        spec: &CertificateSpec,
        wanted: &Wanted<'_>,
        asked: Asked,
        now: Timestamp,
    ) -> Plan {
        let cas: Vec<_> = wanted.cas.iter().map(|it| self.candidate(it, wanted.refusals)).collect();
        let observed = Observed {
            holding: self.holding(),
            cas: &cas,
            ours: &self.state.ours,
            ours_fault: self.state.ours_fault,
            attempts_are_for_this: self.state.attempted_spec.as_deref() == Some(wanted.digest),
            warning: wanted.warning,
            selected_renewal: self.selected_renewal(),
            chain: self.chain,
            withdrawn: self.withdrawn(),
            refusals: wanted.refusals,
            doubt: wanted.doubt,
            clock: wanted.clock,
        };
        let renewal = decide_renewal(spec, &observed, asked, now);
        let choice = match &renewal {
            Renewal::Issue(_) => choose(spec, &observed, asked, now),
            Renewal::Keep { .. } | Renewal::BackOff { .. } | Renewal::Blocked { .. } => None,
        };
        let deployments = self.targets.iter().map(|(name, state)| {
            (name.clone(), self.deployment(spec, (wanted.target)(name), state, asked, now))
        });
        Plan { renewal, choice, deployments: deployments.collect(), poll_at: None }
    }

    /// What is known of `ca`.
    fn candidate<'a>(&'a self, ca: &'a WantedCa, refusals: &[(CaName, Refusal)]) -> Candidate<'a> {
        let is_same = |it: &&CaState| it.directory.is_empty() || it.directory == ca.directory;
        Candidate {
            ca,
            known: self.state.cas.get(&ca.name).filter(is_same),
            refused_until: refusals.iter().find(|(it, _)| *it == ca.name).map(|(_, it)| it.until),
            has_order: self.order_at.as_ref() == Some(&ca.name),
            was_just_asked: self.asked_now.contains(&ca.name),
        }
    }

    /// What is to be done at the target whose state is `state`.
    pub(super) fn deployment(
        &self,
        spec: &CertificateSpec,
        target: Option<&TargetSettings>,
        state: &TargetState,
        asked: Asked,
        now: Timestamp,
    ) -> Deployment {
        let Some(target) = target else { return Deployment::Nothing };
        decide_deployment(self.held(), state, verified(spec, target), asked, now)
    }
}

/// What the configuration wants of one certificate, beside its spec.
pub(super) struct Wanted<'a> {
    /// Its CAs.
    pub(super) cas: &'a [WantedCa],
    /// A digest of all that an order depends on.
    pub(super) digest: &'a str,
    /// The share of life left under which health is a warning.
    pub(super) warning: Share,
    /// Looks a target up.
    pub(super) target: &'a dyn Fn(&TargetName) -> Option<&'a TargetSettings>,
    /// Why any of its CAs would not be asked now, by what is known of limits.
    pub(super) refusals: &'a [(CaName, Refusal)],
    /// Why the clock is not believed.
    pub(super) doubt: Option<&'a ClockDoubt>,
    /// How the clock stands to what is known of it.
    pub(super) clock: Standing,
}

/// Whether `target` is asked what it serves of `spec`.
pub(super) fn verified(spec: &CertificateSpec, target: &TargetSettings) -> Verified {
    if spec.verify && !target.verify.is_empty() { Verified::ByAsking } else { Verified::NotAtAll }
}

fn unknown(spec: &CertificateSpec, error: HeldError) -> StorageError {
    StorageError {
        action: "read the certificate",
        place: spec.name.to_string(),
        source: Box::new(error),
    }
}

/// How the chain of `held` stands to the one that `spec` prefers.
async fn held_chain(spec: &CertificateSpec, held: &Held) -> HeldChain {
    let (Some(preferred), Some(origin)) = (&spec.preferred_chain, &held.origin) else {
        return HeldChain::Settled;
    };
    if origin.preferred_chain.as_ref() == Some(preferred) {
        return HeldChain::Settled;
    }
    let pem = tokio::fs::read(held.directory.join("fullchain.pem")).await;
    // What can't be read has been told of elsewhere, and is no reason to order anew.
    let chain = pem.ok().and_then(|it| Chain::parse_pem(&it).ok());
    match chain {
        Some(chain) if !chain.issuer_names().contains(preferred) => HeldChain::Other,
        _ => HeldChain::Settled,
    }
}

/// Whether `record` is an order at the CA that is still wanted.
pub(super) fn is_under_way(record: &OrderRecord, spec: &CertificateSpec) -> bool {
    let ordered: BTreeSet<_> = record.identifiers.iter().cloned().collect();
    record.order_url.is_some()
        && spec.cas.contains(&record.ca)
        && ordered == spec.identifier_set()
        && record.profile == spec.profile
        && record.key_type == spec.key_type
        && record.csr == spec.request().map(|it| it.sha256)
}
