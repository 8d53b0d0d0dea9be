//! One certificate's revocation: asked for here, or seen on the CA's list.
//!
//! # Rules
//!
//! - What is asked for is on disk before it is done, and goes away when it is done or the CA refused
//!   it for good: a kill in between costs nothing, since the CA takes a second request as well.
//! - A key in other hands (keyCompromise): the certificate is revoked first, whatever is served,
//!   and replaced at once by one with a new key.
//! - Any other reason, with another certificate wanted: that comes first, and the old one is revoked
//!   when every target serves the new one. Until then it is due.
//! - With no other wanted, the certificate stays where it is, revoked, and is renewed in turn.
//! - A CA that can't be reached is asked again by its ladder.
//!
//! Not here: the request to the CA ([`crate::issue`]).

use crate::issue::{IssueError, Side};
use crate::model::{
    Attempts, CertificateName, CertificateSpec, Event, Explain, Failure, PendingRevocation, Retry,
    Revocation, RevocationKey, RevocationRequest, RevokedBy, StorageError, Timestamp,
};
use crate::plan::backoff::{after_ca_failure, after_local_failure};
use crate::plan::{Asked, Deployment};
use crate::sys::crash;

use super::Lifecycle;
use super::facts::Facts;

/// A revocation can't even be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no certificate of a CA.
    #[error("no certificate of a CA is held for {0}")]
    NothingHeld(CertificateName),
    /// Nobody knows which CA it came from.
    #[error("it is not known which CA the certificate of {0} came from")]
    UnknownOrigin(CertificateName),
    /// Its own key is to sign, which is elsewhere.
    #[error("the key of the certificate of {0} is elsewhere, and can't sign the request")]
    KeyElsewhere(CertificateName),
    /// It is revoked already.
    #[error("the certificate of {0} is revoked already")]
    AlreadyRevoked(CertificateName),
    /// The store can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Explain for RevokeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingHeld(_) => "revoke.nothing_held",
            Self::UnknownOrigin(_) => "revoke.unknown_origin",
            Self::KeyElsewhere(_) => "revoke.key_elsewhere",
            Self::AlreadyRevoked(_) => "revoke.already_revoked",
            Self::Storage(_) => "store.failed",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Storage(_) => Retry::BackOff,
            _ => Retry::AfterChange,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NothingHeld(_) => Some("see `renewd status`".to_owned()),
            Self::UnknownOrigin(_) => {
                Some("revoke it by the means of its CA; its meta.json was lost".to_owned())
            }
            Self::KeyElsewhere(_) => {
                Some("have the account's key sign it: leave out `--key`".to_owned())
            }
            Self::AlreadyRevoked(_) => {
                Some("`renewd renew --force` replaces it, if that is wanted".to_owned())
            }
            Self::Storage(_) => None,
        }
    }
}

impl Lifecycle {
    /// Notes that the held certificate of `spec` is to be revoked; the next [`Lifecycle::work`]
    /// does it. A request that was not done yet is replaced.
    ///
    /// # Errors
    ///
    /// If there is nothing that could be revoked, or it can't be noted.
    pub async fn ask_to_revoke(
        &self,
        spec: &CertificateSpec,
        request: RevocationRequest,
    ) -> Result<(), RevokeError> {
        let facts = Facts::read(&self.store, spec).await?;
        let held = facts.held().filter(|it| !it.is_placeholder());
        let held = held.ok_or_else(|| RevokeError::NothingHeld(spec.name.clone()))?;
        let Some(origin) = &held.origin else {
            return Err(RevokeError::UnknownOrigin(spec.name.clone()));
        };
        if request.key == RevocationKey::Certificate && origin.csr.is_some() {
            return Err(RevokeError::KeyElsewhere(spec.name.clone()));
        }
        if facts.revocation().is_some() {
            return Err(RevokeError::AlreadyRevoked(spec.name.clone()));
        }
        let pending = PendingRevocation {
            certificate: held.fingerprint(),
            request,
            asked_at: self.clock.now(),
            attempts: Attempts::default(),
        };
        self.store.save_pending_revocation(&spec.name, Some(&pending)).await?;
        crash::point("lifecycle.revocation_asked");
        Ok(())
    }

    /// Whether a revocation for `spec` was asked for and is not done yet.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn awaits_revocation(&self, spec: &CertificateSpec) -> Result<bool, StorageError> {
        Ok(self.store.pending_revocation(&spec.name).await?.is_some())
    }

    /// When the CA is asked again about a revocation; `None` if it is not.
    pub(super) fn revocation_poll_at(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Option<Timestamp> {
        let pending = facts.pending.as_ref()?;
        let is_time = pending.request.revokes_first() || self.is_replaced(spec, facts, pending);
        is_time.then(|| pending.attempts.next_attempt_at.unwrap_or(Timestamp::EPOCH))
    }

    /// Does what is to be revoked before anything else.
    pub(super) async fn revoke_first(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<Option<Failure>, StorageError> {
        match facts.pending.clone() {
            Some(pending) if pending.request.revokes_first() => {
                self.revoke(spec, facts, pending).await
            }
            _ => Ok(None),
        }
    }

    /// Does what is to be revoked once every target serves another.
    pub(super) async fn revoke_replaced(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<Option<Failure>, StorageError> {
        match facts.pending.clone() {
            Some(pending)
                if !pending.request.revokes_first() && self.is_replaced(spec, facts, &pending) =>
            {
                self.revoke(spec, facts, pending).await
            }
            _ => Ok(None),
        }
    }

    /// Whether another certificate is held, and served wherever it is to be.
    fn is_replaced(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        pending: &PendingRevocation,
    ) -> bool {
        let Some(held) = facts.held().filter(|it| !it.is_placeholder()) else { return false };
        let now = self.clock.now();
        let is_settled = |(name, state): &(_, _)| {
            let target = self.targets.get(name);
            let deployment = facts.deployment(spec, target, state, Asked::ByTime, now);
            matches!(deployment, Deployment::Served { .. } | Deployment::Nothing)
        };
        held.fingerprint() != pending.certificate && facts.targets.iter().all(is_settled)
    }

    async fn revoke(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        pending: PendingRevocation,
    ) -> Result<Option<Failure>, StorageError> {
        let now = self.clock.now();
        let attempts = &pending.attempts;
        if attempts.waits_until(now).is_some() || attempts.forbidden_until(now).is_some() {
            return Ok(attempts.last.clone());
        }
        let Some(old) = self.store.stored(&spec.name, pending.certificate).await? else {
            // Nobody can revoke what is not there any more.
            self.store.save_pending_revocation(&spec.name, None).await?;
            facts.pending = None;
            return Ok(None);
        };
        if let Err(error) = self.issuer.revoke(&old, &pending.request).await {
            return Ok(Some(self.note_failed_revocation(spec, facts, pending, &error).await?));
        }
        crash::point("lifecycle.revocation_done");
        let revocation = Revocation {
            certificate: pending.certificate,
            since: now,
            reason: Some(pending.request.reason.to_string()),
            by: RevokedBy::Us,
            reissue: pending.request.reissues(),
        };
        self.remember_revocation(spec, facts, revocation, old.chain.leaf.serial_text()).await?;
        crash::point("lifecycle.revocation_noted");
        self.store.save_pending_revocation(&spec.name, None).await?;
        facts.pending = None;
        Ok(None)
    }

    /// Remembers that the CA did not revoke; what it refused for good is not asked again.
    async fn note_failed_revocation(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        mut pending: PendingRevocation,
        error: &IssueError,
    ) -> Result<Failure, StorageError> {
        let failure = error.failure(self.clock.now());
        facts.pending = if gives_up(error) {
            None
        } else {
            let rung = pending.attempts.failures.saturating_add(1);
            let jitter = (self.jitter)();
            let pause = match error.side() {
                Side::Ca => after_ca_failure(rung, None, jitter),
                Side::Local => after_local_failure(rung, jitter),
            };
            pending.attempts.fail(failure.clone(), error.retry(), pause);
            Some(pending)
        };
        self.store.save_pending_revocation(&spec.name, facts.pending.as_ref()).await?;
        self.write_history(spec, "revocation_failed", &failure.message).await;
        let certificate = spec.name.clone();
        let retry_at = facts.pending.as_ref().and_then(|it| it.attempts.next_attempt_at);
        let event = Event::RevocationFailed { certificate, failure: failure.clone(), retry_at };
        self.observer.observe(&event);
        Ok(failure)
    }

    pub(super) async fn remember_revocation(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
        revocation: Revocation,
        serial: String,
    ) -> Result<(), StorageError> {
        let reason = revocation.reason.clone();
        let event = Event::Revoked {
            certificate: spec.name.clone(),
            serial: serial.clone(),
            reason: reason.clone(),
            by: revocation.by,
        };
        facts.state.revocation = Some(revocation);
        self.store.save_certificate_state(&spec.name, &facts.state).await?;
        let detail = format!("{serial} {}", reason.unwrap_or_default());
        self.write_history(spec, "revoked", detail.trim()).await;
        self.observer.observe(&event);
        Ok(())
    }
}

/// Whether asking again can't help: the CA said no to this request.
fn gives_up(error: &IssueError) -> bool {
    match error {
        IssueError::Acme(error) => error.is_refusal(),
        _ => error.retry() == Retry::AfterChange,
    }
}
