//! Takes away the proofs that an order is done with and that are still visible: those of a run that
//! died, and those whose removal failed.
//!
//! What can't be taken away when its order is done with is kept apart, so that it outlives the
//! order, and is tried again with [`Issuer::sweep`].
//!
//! Not here: taking away what this run has just shown, which whoever showed it does first.

use super::Issuer;
use crate::model::{OrderRecord, PresentedRecord, StorageError, chain_text};

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

    /// Takes away all that the order of `record` has shown. What fails here must not stop an order:
    /// it is kept, and tried again later.
    pub(super) async fn clean_up_leftovers(&self, record: &OrderRecord) {
        for presented in &record.presented {
            let is_gone = self.clean_up(presented).await;
            if !is_gone && let Err(error) = self.journal.save_leftover(presented).await {
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
        if let Err(error) = &removed {
            let error = chain_text(error);
            tracing::warn!(
                solver = %name, %identifier, error,
                "a proof can't be taken away: it will be tried again"
            );
        }
        removed.is_ok()
    }
}
