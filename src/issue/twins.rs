//! Certificates for the same identifiers, as a pair with keys of two kinds is: one order at a time.
//!
//! A CA may answer newOrder with an order of the account for the same identifiers that is still
//! open (Let's Encrypt does). Two certificates would be at one order then, which is filled for the
//! key of one of them; and whichever fails would take the authorizations of both away. So:
//!
//! - At one CA they go one after the other, from before an order is placed or taken up until it is
//!   done with or left. Who waits for longer than [`TURN_LIMIT`] fails, and tries again.
//! - An order that is left open is journalled; one that the journal of another certificate names is
//!   not used. It costs a pause, until that one is done with; its authorizations are left alone.
//!
//! Not here: which kinds of keys a certificate comes in ([`crate::config`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::{IssueError, Issuer, ORDER_LIMIT};
use crate::model::{
    CaName, CertificateName, CertificateSpec, Identifier, OrderRecord, StorageError,
};

/// For so long another one's order is waited for: as long as it may take to become ready, and again
/// to be issued.
const TURN_LIMIT: Duration = ORDER_LIMIT.saturating_mul(2);

/// Certificates for the same identifiers.
#[derive(Debug, Default)]
pub struct Twins {
    names: BTreeSet<CertificateName>,
    // Held while one of them is at the CA, on purpose.
    turns: BTreeMap<CaName, Mutex<()>>,
}

impl Twins {
    /// Those among `specs` that are not alone with their identifiers, at any of `cas`. Who is at
    /// work by `previous` still is.
    #[must_use]
    pub fn among<'a>(
        specs: impl IntoIterator<Item = &'a CertificateSpec>,
        cas: &BTreeSet<CaName>,
        previous: Option<&BTreeMap<CertificateName, Arc<Self>>>,
    ) -> BTreeMap<CertificateName, Arc<Self>> {
        let mut sets: BTreeMap<BTreeSet<Identifier>, BTreeSet<CertificateName>> = BTreeMap::new();
        for spec in specs {
            sets.entry(spec.identifier_set()).or_default().insert(spec.name.clone());
        }
        let mut all = BTreeMap::new();
        for names in sets.into_values().filter(|it| it.len() > 1) {
            let known = previous.and_then(|it| it.get(names.first()?));
            let known = known.filter(|it| it.names == names && it.turns.keys().eq(cas.iter()));
            let twins = known.cloned().unwrap_or_else(|| {
                let turns = cas.iter().map(|it| (it.clone(), Mutex::default())).collect();
                Arc::new(Self { names: names.clone(), turns })
            });
            all.extend(names.into_iter().map(|it| (it, twins.clone())));
        }
        all
    }

    /// Waits until no other of them is at `ca`; `None` if it does not come to that.
    async fn turn(&self, ca: &CaName) -> Option<Option<MutexGuard<'_, ()>>> {
        match self.turns.get(ca) {
            Some(turn) => Some(Some(timeout(TURN_LIMIT, turn.lock()).await.ok()?)),
            None => Some(None),
        }
    }
}

impl Issuer {
    /// Waits until no other certificate for the identifiers of `spec` is being ordered from `ca`,
    /// and keeps them waiting until the answer is dropped.
    pub(super) async fn turn(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
    ) -> Result<Option<MutexGuard<'_, ()>>, IssueError> {
        let Some(twins) = self.twins.get(&spec.name) else { return Ok(None) };
        twins.turn(ca).await.ok_or_else(|| IssueError::TwinAtWork { ca: ca.clone() })
    }

    /// The certificate for the same identifiers as `spec` whose order at `ca` is that at `url`, if
    /// there is one.
    pub(super) async fn twin_at(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
        url: &str,
    ) -> Result<Option<CertificateName>, StorageError> {
        let orders = self.orders_of_twins(spec, ca).await?;
        let mut at_url = orders.into_iter().filter(|(_, it)| it.order_url.as_deref() == Some(url));
        Ok(at_url.next().map(|(name, _)| name))
    }

    /// The orders at `ca`, on their way or set aside, of other certificates for the same
    /// identifiers.
    pub(super) async fn orders_of_twins(
        &self,
        spec: &CertificateSpec,
        ca: &CaName,
    ) -> Result<Vec<(CertificateName, OrderRecord)>, StorageError> {
        let names = self.twins.get(&spec.name).into_iter().flat_map(|it| &it.names);
        let mut orders = Vec::new();
        for name in names.filter(|it| **it != spec.name) {
            let theirs = self.journal.orders_at(name, ca).await?;
            orders.extend(theirs.into_iter().map(|it| (name.clone(), it)));
        }
        Ok(orders)
    }
}
