//! The small ports of [`crate::model`] that the store fulfils: ledgers and alerts, a document each,
//! and the orders that a lost ledger is made of.
//!
//! Not here: what any of it means; accounts ([`super::accounts`]) and orders ([`super::orders`]).

use std::path::Path;

use async_trait::async_trait;

use super::error::storage;
use super::lineage::Lineage;
use super::opening::folders_in;
use super::{Key, Store, blocking};
use crate::model::{CaName, Ledger, LedgerRecord, Outbox, PastOrder, StorageError};

#[async_trait]
impl Ledger for Store {
    async fn load_ledger(&self, ca: &CaName) -> Result<Option<LedgerRecord>, StorageError> {
        self.load_json(&Key::ledger(ca)).await
    }

    async fn past_orders(&self, directory: &str) -> Result<Vec<PastOrder>, StorageError> {
        let (certs, directory) = (self.settings.certs_dir(), directory.to_owned());
        let place = certs.clone();
        let found = blocking(move || past_orders(&certs, &directory)).await;
        found.map_err(storage("look through", &place))
    }

    fn keeps_ledgers(&self) -> bool {
        self.lease.is_some()
    }

    async fn save_ledger(&self, ca: &CaName, record: &LedgerRecord) -> Result<(), StorageError> {
        self.save_json(&Key::ledger(ca), record).await
    }
}

/// What can't be read is not counted: one certificate's folder is to stop no other's order, and the
/// CA says itself what it counts.
fn past_orders(certs: &Path, directory: &str) -> Vec<PastOrder> {
    let mut orders = Vec::new();
    for folder in folders_in(certs) {
        match Lineage::new(folder.clone()).past_orders(directory) {
            Ok(found) => orders.extend(found),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "its orders are not counted");
            }
        }
    }
    orders
}

#[async_trait]
impl Outbox for Store {
    async fn load_alerts(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.load_bytes(&Key::outbox()).await?.map(|it| it.to_vec()))
    }

    async fn save_alerts(&self, document: &[u8]) -> Result<(), StorageError> {
        self.save_bytes(&Key::outbox(), document).await
    }

    async fn set_alerts_aside(
        &self,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), StorageError> {
        self.quarantine(&Key::outbox(), error).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::tests::World;
    use super::*;
    use crate::model::{Spent, Timestamp};
    use crate::sys::atomic::{self, Access};

    fn ca() -> CaName {
        "lab".parse().unwrap()
    }

    #[tokio::test]
    async fn alerts_outlive_the_process() {
        let world = World::new().await;
        assert_eq!(world.store.load_alerts().await.unwrap(), None);
        world.store.save_alerts(b"[1]").await.unwrap();
        let world = world.reopened().await;
        assert_eq!(world.store.load_alerts().await.unwrap().unwrap(), b"[1]");
        assert!(world.path("private/alerts/outbox.json").is_file());
    }

    #[tokio::test]
    async fn what_was_spent_outlives_the_process_and_a_broken_ledger_counts_as_none() {
        let world = World::new().await;
        assert_eq!(world.store.load_ledger(&ca()).await.unwrap(), None);
        let spent = Spent { whole_at: Timestamp::from_unix_seconds(5), interval_ms: 1 };
        let of_limit = [(String::new(), spent)].into();
        let record = LedgerRecord {
            spent: [("new_orders".to_owned(), of_limit)].into(),
            ..LedgerRecord::default()
        };
        world.store.save_ledger(&ca(), &record).await.unwrap();
        let world = world.reopened().await;
        assert_eq!(world.store.load_ledger(&ca()).await.unwrap(), Some(record));
        let path = world.path("private/ledger/lab.json");
        atomic::write(&path, b"{", Access::mode(0o600)).unwrap();
        assert_eq!(world.store.load_ledger(&ca()).await.unwrap(), None);
        let later = br#"{"spent":{"moons":{"x":{"whole_at":"2026-11-23T10:00:00Z","interval_ms":1,"y":2}}},"more":1}"#;
        atomic::write(&path, later, Access::mode(0o600)).unwrap();
        assert!(world.store.load_ledger(&ca()).await.unwrap().is_some());
    }
}
