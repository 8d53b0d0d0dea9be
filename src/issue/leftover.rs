//! Takes away the proofs that an order is done with: those of this run, and those that are still
//! visible of a run that died.
//!
//! An order that is proven must not wait for somebody's broken interface: all of it together ends
//! after [`CLEAN_UP_LIMIT`]. What is not known to be gone by then is kept apart, so that it
//! outlives the order, and is tried again with [`Issuer::sweep`].
//!
//! Not here: how a proof is taken away ([`crate::solver`]).

use std::time::Duration;

use tokio::time::timeout;

use super::Issuer;
use crate::model::{OrderRecord, PresentedRecord, StorageError, chain_text};
use crate::solver::{Presented, SolverError};

/// How long an order waits until its proofs are taken away.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(120);

impl Issuer {
    /// Takes away what could not be taken away before. What fails again stays for the next time.
    ///
    /// # Errors
    ///
    /// If the journal can't be read or written.
    pub async fn sweep(&self) -> Result<(), StorageError> {
        for leftover in self.journal.leftovers().await? {
            if self.clean_up(&leftover).await {
                self.journal.remove_leftover(&leftover).await?;
            }
        }
        Ok(())
    }

    /// Takes away all that a run which died left of the order of `record`.
    pub(super) async fn clean_up_leftovers(&self, record: &OrderRecord) {
        self.take_away(Vec::new(), record).await;
    }

    /// Takes away what this run has `shown` of the order of `record`, and what others left of it.
    /// What fails here must not stop an order: it is kept, and tried again later.
    pub(super) async fn take_away(
        &self,
        shown: Vec<(PresentedRecord, Presented)>,
        record: &OrderRecord,
    ) {
        let is_shown = |it: &&PresentedRecord| shown.iter().any(|(known, _)| known == *it);
        let others: Vec<_> = record.presented.iter().filter(|it| !is_shown(it)).cloned().collect();
        let mut left = record.presented.clone();
        let taking_away = async {
            for (presented, proof) in shown {
                let removed = proof.clean_up().await;
                tell(&presented, &removed);
                if removed.is_ok() {
                    left.retain(|it| *it != presented);
                }
            }
            for presented in &others {
                if self.clean_up(presented).await {
                    left.retain(|it| it != presented);
                }
            }
        };
        if timeout(CLEAN_UP_LIMIT, taking_away).await.is_err() {
            let limit = CLEAN_UP_LIMIT;
            tracing::warn!(?limit, "proofs can't be taken away in time: it will be tried again");
        }
        for presented in &left {
            if let Err(error) = self.journal.save_leftover(presented).await {
                tracing::warn!(error = chain_text(&error), "what is to be removed can't be kept");
            }
        }
    }

    /// Whether `presented` is not visible any more, as far as its solver can say.
    async fn clean_up(&self, presented: &PresentedRecord) -> bool {
        let PresentedRecord { solver: name, identifier, token, record } = presented;
        let Ok(solver) = self.solver(name) else {
            tracing::warn!(
                solver = %name, %identifier,
                "a proof is left, and the solver that can take it away is not configured any more"
            );
            return false;
        };
        let removed = match record {
            Some(record) => solver.clean_up_record(record).await,
            None => solver.clean_up_leftover(identifier, token).await,
        };
        tell(presented, &removed);
        removed.is_ok()
    }
}

fn tell(presented: &PresentedRecord, removed: &Result<(), SolverError>) {
    let PresentedRecord { solver, identifier, .. } = presented;
    if let Err(error) = removed {
        let error = chain_text(error);
        tracing::warn!(
            %solver, %identifier, error,
            "a proof can't be taken away: it will be tried again"
        );
    }
}
