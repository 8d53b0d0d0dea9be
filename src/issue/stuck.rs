//! Orders that the CA keeps us from getting on with, and says nothing of it that concerns the
//! order.
//!
//! A page of a proxy in between, an order or a certificate that is not where the CA says, or
//! trouble at that URL alone, are no reason to give up an order that may be filled; nor may it wait
//! for them for ever. So it is noted in the journal since when that is so, and after [`PATIENCE`]
//! the next order is placed: no more than one in that time. Where what is held ends soon, or the
//! order is over by its own word, it is sooner ([`patience`]). The same holds of a certificate that
//! is not valid by our clock, which may be the one that is wrong, for more than a week yet, or for
//! half the life that is left; one that will be sooner is waited for.
//!
//! An order that the CA is only not done with is waited for to its end, if that is as near. CAs are
//! known that leave orders in `processing` for months: where the end is further off, or not known,
//! the order is given up a week after it was placed, or when half of what was left of the held
//! certificate then is over. Less would never come to an end where a human at the CA has to agree.
//!
//! A CA that is down as a whole says nothing of any order: what waits for it is kept, and counted
//! from anew when the CA is back.
//!
//! Not here: orders that the CA itself calls over ([`AcmeError::is_end_of_order`]).

use std::time::Duration;

use super::{CheckError, IssueError, Issuer, Purpose, Work, end_of, is_over, is_over_at};
use crate::acme::{AcmeClient, AcmeError, OrderStatus};
use crate::model::{
    CertificateName, CertificateSpec, IssuedCertificate, OrderRecord, StorageError, Timestamp,
    chain_text,
};

/// For so long an order is tried again.
const PATIENCE: Duration = Duration::from_hours(24);
/// For so long it is tried again however soon what is held ends.
const LEAST_PATIENCE: Duration = Duration::from_hours(1);
/// A certificate that will be valid in so long is waited for, as is the end of an order.
const WORTH_WAITING_FOR: Duration = Duration::from_hours(7 * 24);

impl Issuer {
    /// Notes what `issued`, which has come of the order of `work`, says of it, and returns whether
    /// nothing is to come of it any more.
    pub(super) async fn note_outcome(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        purpose: &Purpose,
        issued: &Result<IssuedCertificate, IssueError>,
    ) -> Result<bool, StorageError> {
        let now = self.clock.now();
        let held_until = purpose.held_until;
        let patience = patience(&work.record, held_until, now);
        let error = match issued {
            Err(IssueError::Acme(error)) => error,
            Err(IssueError::NotAsOrdered(error @ CheckError::NotYetValid { .. })) => {
                // It is waited for, unless that is for long: the next one may be right.
                let longest = worth_waiting_for(held_until, now);
                let will_come = error.will_do_in().is_some_and(|it| it <= longest);
                let record = &mut work.record;
                return Ok(
                    !will_come && self.note_stuck(&spec.name, record, patience, error).await?
                );
            }
            issued => return Ok(is_over(issued, &work.order)),
        };
        if is_over(issued, &work.order) {
            return Ok(true);
        }
        if is_too_slow(work, error, held_until, now) {
            tell_given_up(&spec.name, &work.record, work.record.placed_at, error);
            return Ok(true);
        }
        if !error.is_unexplained() && !is_withheld(work, error, held_until, now) {
            // Where the CA spoke of the order itself, nothing stands between us any more.
            if !error.is_transient() && work.record.stuck_since.take().is_some() {
                self.journal.save_order(&spec.name, &work.record).await?;
            }
            return Ok(false);
        }
        self.note_stuck(&spec.name, &mut work.record, patience, error).await
    }

    /// Notes that the order of `record` could not be looked at, and says whether that has been so
    /// for too long although its CA is there.
    pub(super) async fn note_unseen(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        record: &mut OrderRecord,
        held_until: Option<Timestamp>,
        error: &AcmeError,
    ) -> Result<bool, StorageError> {
        if !error.is_unexplained() && !passes(error) {
            return Ok(false);
        }
        if !client.is_there().await {
            if record.stuck_since.take().is_some() {
                self.journal.save_order(&spec.name, record).await?;
            }
            return Ok(false);
        }
        let patience = patience(record, held_until, self.clock.now());
        self.note_stuck(&spec.name, record, patience, error).await
    }

    /// Notes that the order of `record` was held up by `error`, and says whether that has been so
    /// for longer than `patience`.
    async fn note_stuck(
        &self,
        name: &CertificateName,
        record: &mut OrderRecord,
        patience: Duration,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<bool, StorageError> {
        let now = self.clock.now();
        // What began in the future began by a clock that was put right since.
        let Some(since) = record.stuck_since.filter(|it| *it <= now) else {
            record.stuck_since = Some(now);
            self.journal.save_order(name, record).await?;
            return Ok(false);
        };
        if now.since(since) < patience {
            return Ok(false);
        }
        tell_given_up(name, record, since, error);
        Ok(true)
    }
}

fn tell_given_up(
    certificate: &CertificateName,
    record: &OrderRecord,
    since: Timestamp,
    error: &(dyn std::error::Error + Sync),
) {
    let OrderRecord { ca, order_url, .. } = record;
    let reason = chain_text(error);
    tracing::warn!(%certificate, %ca, order_url, %since, reason, "an order is given up");
}

/// For how long the order of `record` is tried in vain: a tenth of what is left of the certificate
/// that is held until then, within bounds; and not for long when its own time is over.
fn patience(record: &OrderRecord, held_until: Option<Timestamp>, now: Timestamp) -> Duration {
    if is_over_at(record.expires_at, record, now) {
        return LEAST_PATIENCE;
    }
    held_until.map_or(PATIENCE, |it| (it.since(now) / 10).clamp(LEAST_PATIENCE, PATIENCE))
}

/// For how long at most something is waited for that is to come by itself: half of what is left of
/// the certificate that is held until then.
fn worth_waiting_for(held_until: Option<Timestamp>, now: Timestamp) -> Duration {
    held_until.map_or(WORTH_WAITING_FOR, |it| (it.since(now) / 2).min(WORTH_WAITING_FOR))
}

/// Whether `error` is that the CA is not done with the order of `work`, which has taken too long,
/// and has no end that is near enough to be waited for.
fn is_too_slow(
    work: &Work,
    error: &AcmeError,
    held_until: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let longest = worth_waiting_for(held_until, now);
    let end = end_of(&work.order, &work.record);
    let ends_in_time = end.is_some_and(|it| now < it && it <= now.saturating_add(longest));
    let is_slow = matches!(error, AcmeError::StillWaiting { .. }) && !ends_in_time;
    is_slow && now.since(work.record.placed_at) >= longest
}

/// Whether the CA has filled the order of `work`, and `error` is not only that it can't be reached
/// just now. That is waited for until the order ends, unless what is held ends before.
fn is_withheld(
    work: &Work,
    error: &AcmeError,
    held_until: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    if work.order.status() != OrderStatus::Valid {
        return false;
    }
    let end = end_of(&work.order, &work.record);
    let is_worth_it = end.is_some_and(|it| now < it)
        && held_until.is_none_or(|held| end.is_some_and(|end| end < held));
    match error {
        AcmeError::RateLimited { .. } => end.is_some_and(|it| it <= now),
        error => !passes(error) || !is_worth_it,
    }
}

/// Whether `error` is trouble that may be over in a moment.
const fn passes(error: &AcmeError) -> bool {
    error.is_transient() && !matches!(error, AcmeError::RateLimited { .. })
}
