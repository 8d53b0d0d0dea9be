//! The orders on their way, and what of them is still to be done, which the port [`Journal`] of
//! [`crate::model`] asks the store for.
//!
//! Each is a few documents, and what matters is their order: a key is on disk before what refers to
//! it, and goes away after it.
//!
//! Not here: what any of it means ([`crate::issue`]).

use async_trait::async_trait;

use super::key::LEFTOVERS;
use super::{Key, Store};
use crate::model::{
    CaName, CertificateName, Fingerprint, Journal, OrderRecord, PresentedRecord, PrivateKey,
    StandingWatch, StorageError, TxtRecord,
};
use crate::sys::crash;

/// The order on its way.
pub(super) const ORDER: &str = "order.json";
/// The key it is for.
const PENDING_KEY: &str = "next/privkey.pem";
/// The key of an order that was set aside.
const KEY_SET_ASIDE: &str = "privkey.pem";
/// The standing records.
const STANDING: &str = "standing.json";

impl Store {
    /// The order of `certificate` that was set aside until `ca` is asked again, if there is one.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub async fn order_set_aside(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<Option<OrderRecord>, StorageError> {
        self.load_json(&Key::set_aside(certificate, ca, ORDER)).await
    }
}

#[async_trait]
impl Journal for Store {
    async fn load_order(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<(OrderRecord, Option<PrivateKey>)>, StorageError> {
        let order = Key::certificate(certificate, ORDER);
        let Some(record) = self.load_json::<OrderRecord>(&order).await? else { return Ok(None) };
        if record.csr.is_some() {
            return Ok(Some((record, None)));
        }
        let pending_key = Key::certificate(certificate, PENDING_KEY);
        let pem = self.load_bytes(&pending_key).await?;
        match pem.map(|it| PrivateKey::from_pem(&it)) {
            Some(Ok(key)) => return Ok(Some((record, Some(key)))),
            Some(Err(error)) => self.quarantine(&pending_key, &error).await?,
            None => {
                tracing::warn!(%certificate, "an order has lost its key, and counts as not there");
            }
        }
        if self.lease.is_some() {
            // Nobody goes on with it, but what it had shown is still to be taken away.
            for presented in &record.presented {
                self.save_leftover(presented).await?;
            }
            self.remove(&order).await?;
        }
        Ok(None)
    }

    async fn save_pending_key(
        &self,
        certificate: &CertificateName,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        // An order that was for another key must not find this one.
        self.remove(&Key::certificate(certificate, ORDER)).await?;
        let place = Key::certificate(certificate, PENDING_KEY);
        self.save_bytes(&place, key.secret_pem().as_bytes()).await
    }

    async fn save_order(
        &self,
        certificate: &CertificateName,
        record: &OrderRecord,
    ) -> Result<(), StorageError> {
        self.save_json(&Key::certificate(certificate, ORDER), record).await
    }

    async fn set_order_aside(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        let Some((record, key)) = self.load_order(certificate).await? else { return Ok(()) };
        let place = |file| Key::set_aside(certificate, &record.ca, file);
        self.remove(&place(ORDER)).await?;
        match &key {
            Some(key) => {
                self.save_bytes(&place(KEY_SET_ASIDE), key.secret_pem().as_bytes()).await?;
            }
            None => self.remove(&place(KEY_SET_ASIDE)).await?,
        }
        self.save_json(&place(ORDER), &record).await?;
        crash::point("store.order_set_aside");
        self.close_order(certificate).await
    }

    async fn take_up_order(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<(), StorageError> {
        let place = |file| Key::set_aside(certificate, ca, file);
        let under_way = self.load_order(certificate).await?;
        if under_way.is_some_and(|(record, _)| record.ca == *ca) {
            // A kill left both: as good as taken up.
            self.remove(&place(ORDER)).await?;
            return self.remove(&place(KEY_SET_ASIDE)).await;
        }
        let record: Option<OrderRecord> = self.load_json(&place(ORDER)).await?;
        let pem = self.load_bytes(&place(KEY_SET_ASIDE)).await?;
        let taken_up = match (record, pem.map(|it| PrivateKey::from_pem(&it))) {
            (Some(record), Some(Ok(key))) => {
                self.save_pending_key(certificate, &key).await?;
                Some(record)
            }
            // Its key is elsewhere.
            (Some(record), None) if record.csr.is_some() => {
                self.close_order(certificate).await?;
                Some(record)
            }
            _ => None,
        };
        if let Some(record) = taken_up {
            self.save_order(certificate, &record).await?;
            crash::point("store.order_taken_up");
        }
        self.remove(&place(ORDER)).await?;
        self.remove(&place(KEY_SET_ASIDE)).await
    }

    async fn orders_at(
        &self,
        certificate: &CertificateName,
        ca: &CaName,
    ) -> Result<Vec<OrderRecord>, StorageError> {
        let mut orders = Vec::new();
        for place in [Key::certificate(certificate, ORDER), Key::set_aside(certificate, ca, ORDER)]
        {
            orders.extend(self.load_json::<OrderRecord>(&place).await?.filter(|it| it.ca == *ca));
        }
        Ok(orders)
    }

    async fn forget_set_aside(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        let prefix = Key::all_set_aside(certificate);
        let listed = self.engine.list(&prefix).await.map_err(|source| StorageError {
            action: "list",
            place: format!("private/{prefix}"),
            source: source.into(),
        })?;
        for key in &listed {
            self.remove(key).await?;
        }
        Ok(())
    }

    async fn leftovers(&self) -> Result<Vec<PresentedRecord>, StorageError> {
        let listed = self.engine.list(LEFTOVERS).await.map_err(|source| StorageError {
            action: "list",
            place: format!("private/{LEFTOVERS}"),
            source: source.into(),
        })?;
        let mut leftovers = Vec::new();
        for key in listed.iter().filter(|it| it.as_str().ends_with(".json")) {
            leftovers.extend(self.load_json(key).await?);
        }
        Ok(leftovers)
    }

    async fn save_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError> {
        self.save_json(&leftover_key(leftover), leftover).await
    }

    async fn remove_leftover(&self, leftover: &PresentedRecord) -> Result<(), StorageError> {
        self.remove(&leftover_key(leftover)).await
    }

    async fn load_standing(
        &self,
        certificate: &CertificateName,
    ) -> Result<Option<StandingWatch>, StorageError> {
        self.load_json(&Key::certificate(certificate, STANDING)).await
    }

    async fn save_standing(
        &self,
        certificate: &CertificateName,
        watch: Option<&StandingWatch>,
    ) -> Result<(), StorageError> {
        let key = Key::certificate(certificate, STANDING);
        match watch {
            Some(watch) => self.save_json(&key, watch).await,
            None => self.remove(&key).await,
        }
    }

    async fn close_order(&self, certificate: &CertificateName) -> Result<(), StorageError> {
        self.remove(&Key::certificate(certificate, ORDER)).await?;
        self.remove(&Key::certificate(certificate, PENDING_KEY)).await
    }
}

/// One key for each value at each name, so that none is written over by another.
fn leftover_key(leftover: &PresentedRecord) -> Key {
    let PresentedRecord { solver, identifier, token, record } = leftover;
    let place = match record {
        Some(TxtRecord { zone, name, value }) => format!("{zone}\n{name}\n{value}"),
        None => format!("{identifier}\n{}", token.as_str()),
    };
    Key::leftover(&Fingerprint::of(format!("{solver}\n{place}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::opening::tests::World;
    use super::*;
    use crate::model::{KeyType, Timestamp};
    use crate::sys::atomic::{self, Access};

    fn ca() -> CaName {
        "lab".parse().unwrap()
    }

    fn name() -> CertificateName {
        "example.com".parse().unwrap()
    }

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyType::P256).unwrap()
    }

    fn order() -> OrderRecord {
        OrderRecord {
            ca: ca(),
            directory: "https://ca.example/dir".into(),
            order_url: Some("https://ca.example/order/1".into()),
            identifiers: vec!["example.com".parse().unwrap()],
            profile: None,
            key_type: KeyType::P256,
            csr: None,
            placed_at: Timestamp::EPOCH,
            expires_at: None,
            stuck_since: None,
            counted: None,
            unsettled: Vec::new(),
            proofs_spent_at: None,
            presented: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_an_order_had_shown_is_known_also_when_its_key_is_lost() {
        let shown = PresentedRecord {
            solver: "dns".parse().unwrap(),
            identifier: "example.com".parse().unwrap(),
            token: "abc".parse().unwrap(),
            record: None,
        };
        for damage in [Some("-----BEGIN"), None] {
            let world = World::new().await;
            world.store.save_pending_key(&name(), &key()).await.unwrap();
            let order = OrderRecord { presented: vec![shown.clone()], ..order() };
            world.store.save_order(&name(), &order).await.unwrap();
            let path = world.path("private/certificates/example.com/next/privkey.pem");
            match damage {
                Some(text) => atomic::write(&path, text.as_bytes(), Access::mode(0o600)).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert!(world.store.load_order(&name()).await.unwrap().is_none());
            assert_eq!(world.store.leftovers().await.unwrap(), std::slice::from_ref(&shown));
            assert!(!world.path("private/certificates/example.com/order.json").exists());
        }
    }

    #[tokio::test]
    async fn an_order_is_found_again_with_its_key_until_it_is_closed() {
        let world = World::new().await;
        let key = key();
        world.store.save_pending_key(&name(), &key).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none(), "a key is no order");
        world.store.save_order(&name(), &order()).await.unwrap();
        let world = world.reopened().await;
        let (record, read) = world.store.load_order(&name()).await.unwrap().unwrap();
        assert_eq!((record, read.unwrap().secret_pem()), (order(), key.secret_pem()));
        world.store.close_order(&name()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
        assert!(!world.path("private/certificates/example.com/next/privkey.pem").exists());
        world.store.close_order(&name()).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_pending_key_is_never_found_with_the_order_of_another() {
        let world = World::new().await;
        world.store.save_pending_key(&name(), &key()).await.unwrap();
        world.store.save_order(&name(), &order()).await.unwrap();
        world.store.save_pending_key(&name(), &key()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_order_set_aside_is_taken_up_for_its_own_ca_alone_or_forgotten() {
        let world = World::new().await;
        let other: CaName = "other".parse().unwrap();
        world.store.set_order_aside(&name()).await.unwrap();
        let first = key();
        world.store.save_pending_key(&name(), &first).await.unwrap();
        world.store.save_order(&name(), &order()).await.unwrap();
        world.store.set_order_aside(&name()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
        world.store.save_pending_key(&name(), &key()).await.unwrap();
        let second = OrderRecord { ca: other.clone(), ..order() };
        world.store.save_order(&name(), &second).await.unwrap();
        world.store.set_order_aside(&name()).await.unwrap();

        let world = world.reopened().await;
        world.store.take_up_order(&name(), &ca()).await.unwrap();
        let (record, read) = world.store.load_order(&name()).await.unwrap().unwrap();
        assert_eq!((record, read.unwrap().secret_pem()), (order(), first.secret_pem()));
        // There is none a second time, and what is on its way stays.
        world.store.take_up_order(&name(), &ca()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_some());
        world.store.forget_set_aside(&name()).await.unwrap();
        world.store.close_order(&name()).await.unwrap();
        world.store.take_up_order(&name(), &other).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
    }

    /// D04: killed between the two, it is there twice. What came of the one is not to come again.
    #[tokio::test]
    async fn an_order_that_a_kill_left_twice_is_there_once() {
        let world = World::new().await;
        let pending = key();
        world.store.save_pending_key(&name(), &pending).await.unwrap();
        world.store.save_order(&name(), &order()).await.unwrap();
        world.store.set_order_aside(&name()).await.unwrap();
        world.store.save_pending_key(&name(), &pending).await.unwrap();
        let newer = OrderRecord { stuck_since: Some(Timestamp::EPOCH), ..order() };
        world.store.save_order(&name(), &newer).await.unwrap();
        world.store.take_up_order(&name(), &ca()).await.unwrap();
        let (record, read) = world.store.load_order(&name()).await.unwrap().unwrap();
        assert_eq!((record, read.unwrap().secret_pem()), (newer, pending.secret_pem()));
        world.store.close_order(&name()).await.unwrap();
        world.store.take_up_order(&name(), &ca()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_order_whose_key_is_elsewhere_has_no_pending_key_wherever_it_lies() {
        let world = World::new().await;
        let elsewhere = OrderRecord { csr: Some(Fingerprint::of(b"request")), ..order() };
        world.store.save_order(&name(), &elsewhere).await.unwrap();
        let there = async || {
            let (record, key) = world.store.load_order(&name()).await.unwrap().unwrap();
            record == elsewhere && key.is_none()
        };
        assert!(there().await);
        world.store.set_order_aside(&name()).await.unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
        world.store.save_pending_key(&name(), &key()).await.unwrap();
        world.store.take_up_order(&name(), &ca()).await.unwrap();
        assert!(there().await);
        assert!(!world.path("private/certificates/example.com/next/privkey.pem").exists());
    }

    #[tokio::test]
    async fn an_order_without_a_usable_key_is_none() {
        let world = World::new().await;
        world.store.save_pending_key(&name(), &key()).await.unwrap();
        world.store.save_order(&name(), &order()).await.unwrap();
        let path = world.path("private/certificates/example.com/next/privkey.pem");
        atomic::write(&path, b"", Access::mode(0o600)).unwrap();
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
        assert!(world.store.load_order(&name()).await.unwrap().is_none());
    }
}
