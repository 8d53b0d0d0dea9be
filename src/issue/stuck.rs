//! Orders that the CA keeps us from getting on with, and says nothing of it that concerns the order.
//!
//! A page of a proxy in between, or a certificate that is not where the CA says, are no reason to
//! give up an order that may be filled; nor may it wait for them for ever. So it is noted in the
//! journal since when that is so, and after [`PATIENCE`] the next order is placed: no more than one
//! in that time. The same holds of a certificate that is not valid for more than a week yet by our
//! clock, which may be the one that is wrong; one that will be sooner is waited for.
//!
//! Not here: orders that the CA itself calls over ([`AcmeError::is_end_of_order`]).

use std::time::Duration;

use super::{CheckError, IssueError, Issuer, Work, is_over};
use crate::acme::{AcmeError, Order, OrderStatus};
use crate::model::{
    CertificateName, CertificateSpec, IssuedCertificate, OrderRecord, StorageError, Timestamp,
    chain_text,
};

/// For so long an order is tried again.
const PATIENCE: Duration = Duration::from_hours(24);
/// A certificate that will be valid in so long is waited for.
const WORTH_WAITING_FOR: Duration = Duration::from_hours(7 * 24);

impl Issuer {
    /// Notes what `issued`, which has come of the order of `work`, says of it, and returns whether
    /// nothing is to come of it any more.
    pub(super) async fn note_outcome(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        issued: &Result<IssuedCertificate, IssueError>,
    ) -> Result<bool, StorageError> {
        let error = match issued {
            Err(IssueError::Acme(error)) => error,
            Err(IssueError::NotAsOrdered(error @ CheckError::NotYetValid { .. })) => {
                // It is waited for, unless that is for long: the next one may be right.
                let will_come = error.will_do_in().is_some_and(|it| it <= WORTH_WAITING_FOR);
                let record = &mut work.record;
                return Ok(!will_come && self.note_stuck(&spec.name, record, error).await?);
            }
            issued => return Ok(is_over(issued, &work.order)),
        };
        if is_over(issued, &work.order) {
            return Ok(true);
        }
        if !error.is_unexplained() && !is_withheld(&work.order, error, self.clock.now()) {
            // Where the CA spoke of the order itself, nothing stands between us any more.
            if !error.is_transient() && work.record.stuck_since.take().is_some() {
                self.journal.save_order(&spec.name, &work.record).await?;
            }
            return Ok(false);
        }
        self.note_stuck(&spec.name, &mut work.record, error).await
    }

    /// Notes that the order of `record` was held up by `error`, and says whether that has been so
    /// for too long.
    pub(super) async fn note_stuck(
        &self,
        name: &CertificateName,
        record: &mut OrderRecord,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<bool, StorageError> {
        let now = self.clock.now();
        // What began in the future began by a clock that was put right since.
        let Some(since) = record.stuck_since.filter(|it| *it <= now) else {
            record.stuck_since = Some(now);
            self.journal.save_order(name, record).await?;
            return Ok(false);
        };
        if now.since(since) < PATIENCE {
            return Ok(false);
        }
        let (certificate, ca, order_url) = (name, &record.ca, &record.order_url);
        let reason = chain_text(error);
        tracing::warn!(%certificate, %ca, order_url, %since, reason, "an order is given up");
        Ok(true)
    }
}

/// Whether the CA has filled `order`, and `error` is not only that it can't be reached just now.
fn is_withheld(order: &Order, error: &AcmeError, now: Timestamp) -> bool {
    let passes = error.is_transient() || matches!(error, AcmeError::RateLimited { .. });
    let has_ended = order.expires_at().is_some_and(|it| it <= now);
    order.status() == OrderStatus::Valid && (!passes || has_ended)
}
