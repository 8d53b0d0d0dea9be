//! Waiting for an order to get on: looks at it, with pauses between them, and an end.
//!
//! Not here: how long a pause is ([`crate::acme::poll`]).

use std::sync::Arc;
use std::time::Duration;

use super::Order;
use crate::acme::error::{AcmeError, Step};
use crate::acme::header::MAX_PAUSE;
use crate::acme::object::OrderStatus;
use crate::acme::poll::Polling;

/// A wait for the order to get on.
pub(super) struct Watch {
    polling: Polling,
    trouble: Option<AcmeError>,
}

impl Order {
    /// Waits until the order is ready, processing or valid.
    ///
    /// # Errors
    ///
    /// [`AcmeError::ValidationFailed`] and the like if it becomes invalid;
    /// [`AcmeError::StillWaiting`] after `limit`, or earlier if the CA wants to be asked later.
    pub async fn wait_until_ready(&mut self, limit: Duration) -> Result<(), AcmeError> {
        let mut watch = self.watch(limit);
        loop {
            match self.state.status {
                OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(self.why_invalid().await),
                OrderStatus::Pending | OrderStatus::Unknown(_) => {
                    self.look_again(&mut watch).await?;
                }
            }
        }
    }

    /// Looks at the order again, after the wait that the CA or our own rhythm asks for. Trouble
    /// that passes is kept for the end, should there be no time left for another look.
    pub(super) async fn look_again(&mut self, watch: &mut Watch) -> Result<(), AcmeError> {
        self.pause(watch).await?;
        match self.refresh(Step::FetchOrder).await {
            Ok(()) => {
                watch.trouble = None;
                Ok(())
            }
            Err(error) if error.is_unexplained() => {
                self.note(error, watch);
                Ok(())
            }
            Err(error) => self.tolerate(error, watch),
        }
    }

    pub(super) async fn pause(&mut self, watch: &mut Watch) -> Result<(), AcmeError> {
        let clock = Arc::clone(self.tap.wire().clock());
        let Some(wait) = watch.polling.next(clock.monotonic(), self.retry_after) else {
            return Err(match watch.trouble.take() {
                Some(trouble) => trouble,
                None => self.still_waiting(Step::FetchOrder),
            });
        };
        clock.sleep(wait).await;
        Ok(())
    }

    pub(super) fn tolerate(
        &mut self,
        error: AcmeError,
        watch: &mut Watch,
    ) -> Result<(), AcmeError> {
        if !error.is_transient() {
            return Err(error);
        }
        self.note(error, watch);
        Ok(())
    }

    fn note(&mut self, error: AcmeError, watch: &mut Watch) {
        let now = self.tap.wire().clock().now();
        self.retry_after = error.retry_at().map(|moment| moment.since(now));
        watch.trouble = Some(error);
    }

    pub(super) fn watch(&self, limit: Duration) -> Watch {
        let clock = self.tap.wire().clock();
        // Longer than the order lives there is nothing to wait for; an end in the past says more
        // about a clock than about the order.
        let left = self.expires_at().map(|end| end.since(clock.now())).filter(|it| !it.is_zero());
        let limit = left.map_or(limit, |left| left.min(limit));
        Watch { polling: Polling::new(clock.monotonic(), limit), trouble: None }
    }

    pub(super) fn still_waiting(&self, step: Step) -> AcmeError {
        let now = self.tap.wire().clock().now();
        AcmeError::StillWaiting {
            place: self.place(step),
            status: self.status(),
            retry_at: self.retry_after.map(|wait| now.saturating_add(wait.min(MAX_PAUSE))),
        }
    }
}
