//! One certificate's revocation: asked for here, or seen on the CA's list.
//!
//! # Rules
//!
//! - What is asked for is on disk before it is done, and goes away when it is done: a kill in
//!   between costs nothing, since the CA takes a second request as well.
//! - What the CA refuses to the account is asked for once more with the certificate's own key,
//!   which needs no account. Refused for good, it is not asked again; but the key stays in other
//!   hands, the certificate is replaced as it was to be, and it is shown: for as long as it is
//!   held, or with its key in other hands until its end.
//! - A key in other hands (keyCompromise): the certificate is revoked first, whatever is served,
//!   and replaced at once by one with a new key.
//! - Any other reason, with another certificate wanted: that comes first, and the old one is
//!   revoked when every target serves the new one. Until then it is due.
//! - With no other wanted, the certificate stays where it is, revoked, and is renewed in turn.
//! - A CA that can't be reached is asked again by its ladder. One that is not in the configuration
//!   has refused nothing: it is asked when it is there again, and what to do is told once.
//!
//! Not here: the request to the CA ([`crate::issue`]).

use crate::issue::{IssueError, Side};
use crate::model::{
    Attempts, CertificateName, CertificateSpec, Event, Explain, Failure, IssuedCertificate,
    PendingRevocation, Retry, Revocation, RevocationCondition, RevocationKey, RevocationReason,
    RevocationRequest, RevocationStatus, RevokedBy, StorageError, Timestamp,
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
    /// It is not stored any more, or not known any more where it came from.
    #[error("the certificate of {0} that was to be revoked is not there any more")]
    Gone(CertificateName),
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
            Self::Gone(_) => "revoke.gone",
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
            Self::UnknownOrigin(_) | Self::Gone(_) => {
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
        let facts = self.facts(spec).await?;
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
            refused: None,
        };
        self.store.save_pending_revocation(&spec.name, Some(&pending)).await?;
        crash::point("lifecycle.revocation_asked");
        Ok(())
    }

    /// Whether a revocation for `spec` was asked for, and is still to be done.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn awaits_revocation(&self, spec: &CertificateSpec) -> Result<bool, StorageError> {
        let pending = self.store.pending_revocation(&spec.name).await?;
        Ok(pending.is_some_and(|it| it.refused.is_none()))
    }

    /// When the CA is asked again about a revocation; `None` if it is not.
    pub(super) fn revocation_poll_at(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Option<Timestamp> {
        let pending = facts.pending.as_ref().filter(|it| it.refused.is_none())?;
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
        if pending.refused.is_some() {
            if self.is_past(spec, facts, &pending).await {
                self.forget_revocation(spec, facts).await?;
            }
            return Ok(None);
        }
        let attempts = &pending.attempts;
        if attempts.waits_until(now).is_some() || attempts.forbidden_until(now).is_some() {
            return Ok(attempts.last.clone());
        }
        let old = match self.store.stored(&spec.name, pending.certificate).await {
            Ok(Some(old)) => old,
            Ok(None) => {
                // Nobody can revoke what is not there any more.
                self.forget_revocation(spec, facts).await?;
                let failure = RevokeError::Gone(spec.name.clone()).failure(now);
                self.tell_of_failure(spec, &failure, None).await;
                return Ok(Some(failure));
            }
            // What is held is renewed and handed over all the same.
            Err(error) => {
                let error = IssueError::Storage(error);
                return Ok(Some(self.note_failed_revocation(spec, facts, pending, &error).await?));
            }
        };
        if let Err(error) = self.ask_ca_to_revoke(&old, &pending.request).await {
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
        self.forget_revocation(spec, facts).await?;
        Ok(None)
    }

    /// Has the CA revoke `old` as `request` says, or where it refuses that to the account, which
    /// may be another by now, by the certificate's own key (RFC 8555 §7.6).
    async fn ask_ca_to_revoke(
        &self,
        old: &IssuedCertificate,
        request: &RevocationRequest,
    ) -> Result<(), IssueError> {
        let refused = match self.issuer.revoke(old, request).await {
            Err(error) if gives_up(&error) && old.key.is_some() => error,
            done => return done,
        };
        if request.key == RevocationKey::Certificate {
            return Err(refused);
        }
        let by_its_own_key = RevocationRequest { key: RevocationKey::Certificate, ..*request };
        match self.issuer.revoke(old, &by_its_own_key).await {
            Err(error) if gives_up(&error) => Err(refused),
            done => done,
        }
    }

    /// Whether nobody has to know any more that the CA refused `pending`.
    async fn is_past(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        pending: &PendingRevocation,
    ) -> bool {
        if facts.revocation().is_some_and(|it| it.certificate == pending.certificate) {
            return true;
        }
        if pending.request.reason != RevocationReason::KeyCompromise {
            return facts.held().is_some_and(|it| it.fingerprint() != pending.certificate);
        }
        match self.store.stored(&spec.name, pending.certificate).await {
            Ok(Some(old)) => old.chain.leaf.validity.has_expired(self.clock.now()),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    async fn forget_revocation(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<(), StorageError> {
        // What was asked for meanwhile is not what came to an end.
        facts.pending = match facts.pending.take() {
            Some(done) => self.store.settle_pending_revocation(&spec.name, &done, None).await?,
            None => None,
        };
        Ok(())
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
        let last = pending.attempts.last.as_ref();
        let is_news =
            error.side() == Side::Ca || last.is_none_or(|it| it.message != failure.message);
        if gives_up(error) {
            pending.refused = Some(failure.clone());
        } else {
            let rung = pending.attempts.failures.saturating_add(1);
            let jitter = (self.jitter)();
            let pause = match error.side() {
                Side::Ca => after_ca_failure(rung, None, jitter),
                Side::Local => after_local_failure(rung, jitter),
            };
            pending.attempts.fail(failure.clone(), error.retry(), pause);
        }
        let name = &spec.name;
        let left = Some(&pending);
        if let Some(other) = self.store.settle_pending_revocation(name, &pending, left).await? {
            facts.pending = Some(other);
            self.tell_of_failure(spec, &failure, None).await;
            return Ok(failure);
        }
        let retry_at = pending.attempts.next_attempt_at.filter(|_| pending.refused.is_none());
        facts.pending = Some(pending);
        if is_news {
            self.tell_of_failure(spec, &failure, retry_at).await;
        }
        Ok(failure)
    }

    async fn tell_of_failure(
        &self,
        spec: &CertificateSpec,
        failure: &Failure,
        retry_at: Option<Timestamp>,
    ) {
        self.write_history(spec, "revocation_failed", &failure.message).await;
        let certificate = spec.name.clone();
        let event = Event::RevocationFailed { certificate, failure: failure.clone(), retry_at };
        self.observer.observe(&event);
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

/// How the revocation stands that was asked for and is not done.
pub(super) fn status(spec: &CertificateSpec, facts: &Facts) -> Option<RevocationStatus> {
    let Some(pending) = &facts.pending else {
        let place = facts.damaged_revocation.clone()?;
        return Some(RevocationStatus {
            state: RevocationCondition::Unreadable,
            sha256: None,
            reason: None,
            since: None,
            failures: 0,
            next_attempt_at: None,
            last_error: Some(place),
            error_code: Some("revoke.unreadable".to_owned()),
            hint: Some(format!(
                "look at that file; if it is still wanted, ask again: `renewd revoke {}`; then \
                 remove the file",
                spec.name
            )),
        });
    };
    let last = pending.refused.as_ref().or(pending.attempts.last.as_ref());
    let (state, hint) = match &pending.refused {
        Some(_) => (
            RevocationCondition::Refused,
            Some("until its end it is valid: ask the CA to revoke it by its own means".to_owned()),
        ),
        None => (RevocationCondition::Pending, last.and_then(|it| it.hint.clone())),
    };
    Some(RevocationStatus {
        state,
        sha256: Some(pending.certificate),
        reason: Some(pending.request.reason.to_string()),
        since: Some(pending.asked_at),
        failures: pending.attempts.failures,
        next_attempt_at: pending.attempts.next_attempt_at.filter(|_| pending.refused.is_none()),
        last_error: last.map(|it| it.message.clone()),
        error_code: last.map(|it| it.code.clone()),
        hint,
    })
}

/// Whether asking again can't help: the CA said no to this request.
fn gives_up(error: &IssueError) -> bool {
    match error {
        IssueError::Acme(error) => error.is_refusal(),
        _ => error.retry() == Retry::AfterChange,
    }
}
