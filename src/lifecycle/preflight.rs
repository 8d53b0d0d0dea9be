//! What has to be so before an order is placed: what comes of it can be kept, and handed to
//! somebody, and the way to its proofs is there. Whether solvers could work is for [`crate::issue`]
//! to ask.
//!
//! # Rules
//!
//! 1. Without a store that can be written and has room nothing is asked of a CA, nor is an order
//!    gone on with.
//! 2. If none of its targets could take a certificate, no order is placed for it; nor while nobody
//!    is there who could hand it over. One that can take it is enough: the others fail by
//!    themselves, and are told of. All are asked at once, so that one that does not answer holds up
//!    nobody.
//! 3. While DNS does not say where a proof goes, no order is placed either.
//! 4. The last sixth of a life overrules rules 2 and 3, as it does the CA's advice, and so does a
//!    revocation: what servers read from the store is worth more then than one order in vain, and
//!    the CA may want no proof.
//! 5. An order that the CA has, under way or set aside for it, goes on whatever they say: the CA
//!    may have filled it. One at another CA says nothing of this one.
//! 6. What is found is a failure of our side: it costs the CA nothing, and is tried again by the
//!    short ladder.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Lifecycle;
use super::facts::{Facts, is_under_way};
use crate::issue::IssueError;
use crate::model::{CaName, CertificateSpec, Explain, StorageError};
use crate::plan::is_in_reserve;

impl Lifecycle {
    /// Finds out whether a certificate for `spec` from `ca` could be proven for, kept and handed
    /// over now.
    ///
    /// # Errors
    ///
    /// [`IssueError::StoreNotReady`], [`IssueError::SolverNotReady`] or
    /// [`IssueError::TargetNotReady`]; [`IssueError::Storage`] if the journal can't be read.
    pub(super) async fn check_ready(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        ca: &CaName,
    ) -> Result<(), IssueError> {
        self.store.check_room(&spec.name).await.map_err(IssueError::StoreNotReady)?;
        let held = facts.held().filter(|it| !it.is_placeholder());
        let is_urgent = held.is_some_and(|it| is_in_reserve(&it.leaf, self.clock.now()))
            || facts.withdrawn().is_some();
        if is_urgent || self.has_order(spec, facts, ca).await? {
            return Ok(());
        }
        self.issuer.check_identifiers(spec, ca).await?;
        self.check_targets(spec).await
    }

    /// Whether an order for `spec` at `ca` is under way, or set aside until that is asked again.
    async fn has_order(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
        ca: &CaName,
    ) -> Result<bool, StorageError> {
        if facts.order_at.as_ref() == Some(ca) {
            return Ok(true);
        }
        let set_aside = self.store.order_set_aside(&spec.name, ca).await?;
        Ok(set_aside.is_some_and(|it| is_under_way(&it, spec)))
    }

    async fn check_targets(&self, spec: &CertificateSpec) -> Result<(), IssueError> {
        let ask = |(place, target)| async move {
            let checked = self.deployer.check(&spec.name, target).await;
            (place, checked)
        };
        let mut asked: FuturesUnordered<_> = spec.targets.iter().enumerate().map(ask).collect();
        let mut errors = BTreeMap::new();
        while let Some((place, checked)) = asked.next().await {
            let Err(error) = checked else { return Ok(()) };
            errors.insert(place, error);
        }
        let Some((_, error)) = errors.pop_first() else { return Ok(()) };
        Err(IssueError::TargetNotReady { hint: error.hint(), source: Box::new(error) })
    }
}
