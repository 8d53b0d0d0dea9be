//! The ports of [`crate::model`] that the store fulfils: accounts, orders on their way, ledgers,
//! alerts.
//!
//! Each is a few documents, and what matters is their order: a key is on disk before what refers to
//! it, and goes away after it.
//!
//! Not here: what any of it means.

use async_trait::async_trait;

use super::key::LEFTOVERS;
use super::{Key, Store};
use crate::model::{
    AccountRecord, CaName, CertificateName, Fingerprint, Journal, KeyVault, Ledger, LedgerRecord,
    OrderRecord, Outbox, PresentedRecord, PrivateKey, SettledKey, StandingWatch, StorageError,
    TxtRecord,
};
use crate::sys::crash;

/// The description of an account.
const ACCOUNT: &str = "account.json";
/// The account's key.
const ACCOUNT_KEY: &str = "key.pem";
/// The key that a rollover is to give it.
const NEXT_ACCOUNT_KEY: &str = "next_key.pem";
/// The key that it had before the last rollover.
const FORMER_ACCOUNT_KEY: &str = "former_key.pem";
/// The order on its way.
pub(super) const ORDER: &str = "order.json";
/// The standing records.
const STANDING: &str = "standing.json";
/// The key it is for.
const PENDING_KEY: &str = "next/privkey.pem";
/// The key of an order that was set aside.
const KEY_SET_ASIDE: &str = "privkey.pem";

#[async_trait]
impl KeyVault for Store {
    async fn load_account(
        &self,
        ca: &CaName,
    ) -> Result<Option<(AccountRecord, PrivateKey)>, StorageError> {
        let description = Key::account(ca, ACCOUNT);
        let Some(pem) = self.load_bytes(&Key::account(ca, ACCOUNT_KEY)).await? else {
            if self.load_bytes(&description).await?.is_some() {
                tracing::warn!(%ca, "an account has lost its key, and counts as not there");
            }
            return Ok(None);
        };
        match PrivateKey::from_pem(&pem) {
            Ok(key) => {
                let record = self.load_json(&description).await?;
                Ok(Some((record.unwrap_or_default(), key)))
            }
            Err(error) => {
                let error = crate::model::chain_text(&error);
                tracing::warn!(%ca, error, "an account's key can't be understood: it is set aside");
                if self.lease.is_some() {
                    self.set_account_aside(ca).await?;
                }
                Ok(None)
            }
        }
    }

    async fn save_account(
        &self,
        ca: &CaName,
        record: &AccountRecord,
        key: Option<&PrivateKey>,
    ) -> Result<(), StorageError> {
        if let Some(key) = key {
            let place = Key::account(ca, ACCOUNT_KEY);
            let before = self.load_bytes(&place).await?;
            // An account key can't be had again: another one is never written over. Nor does a new
            // key ever stand beside the description of an account that it is not the key of.
            if before.is_none_or(|it| it.as_slice() != key.secret_pem().as_bytes()) {
                self.set_account_aside(ca).await?;
            }
            self.save_bytes(&place, key.secret_pem().as_bytes()).await?;
        }
        self.save_json(&Key::account(ca, ACCOUNT), record).await
    }

    async fn set_account_aside(&self, ca: &CaName) -> Result<(), StorageError> {
        let files = [ACCOUNT_KEY, NEXT_ACCOUNT_KEY, FORMER_ACCOUNT_KEY, ACCOUNT];
        self.copy_aside(ca, &files).await?;
        // The key first: alone it would be taken for that of an account whose description was lost.
        for file in files {
            self.remove(&Key::account(ca, file)).await?;
        }
        Ok(())
    }

    async fn copy_account_aside(&self, ca: &CaName) -> Result<(), StorageError> {
        // The next key is that of the other account.
        self.copy_aside(ca, &[ACCOUNT_KEY, FORMER_ACCOUNT_KEY, ACCOUNT]).await
    }

    async fn load_next_account_key(&self, ca: &CaName) -> Result<Option<PrivateKey>, StorageError> {
        let place = Key::account(ca, NEXT_ACCOUNT_KEY);
        let Some(pem) = self.load_bytes(&place).await? else { return Ok(None) };
        match PrivateKey::from_pem(&pem) {
            Ok(key) => Ok(Some(key)),
            Err(error) => {
                self.quarantine(&place, &error).await?;
                Ok(None)
            }
        }
    }

    async fn save_next_account_key(
        &self,
        ca: &CaName,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        self.save_bytes(&Key::account(ca, NEXT_ACCOUNT_KEY), key.secret_pem().as_bytes()).await
    }

    async fn settle_account_key(
        &self,
        ca: &CaName,
        settled: SettledKey,
    ) -> Result<(), StorageError> {
        let next = Key::account(ca, NEXT_ACCOUNT_KEY);
        let Some(pem) = self.load_bytes(&next).await? else { return Ok(()) };
        if settled == SettledKey::Next {
            let place = Key::account(ca, ACCOUNT_KEY);
            // Of no use at the CA any more, unless the CA goes back to a backup of its own.
            if let Some(former) = self.load_bytes(&place).await?
                && former != pem
            {
                self.save_bytes(&Key::account(ca, FORMER_ACCOUNT_KEY), &former).await?;
            }
            self.save_bytes(&place, &pem).await?;
            crash::point("store.account_key");
        }
        self.remove(&next).await
    }
}

impl Store {
    /// Copies `files` of the account at `ca` to a folder of their own beside it.
    async fn copy_aside(&self, ca: &CaName, files: &[&'static str]) -> Result<(), StorageError> {
        let mut suffix = format!(".aside-{}", self.moment());
        // The clock may stand still or go back; what was set aside before stays.
        while self.load_bytes(&Key::account_aside(ca, &suffix, ACCOUNT_KEY)).await?.is_some() {
            suffix.push_str("-x");
        }
        for file in files {
            if let Some(content) = self.load_bytes(&Key::account(ca, file)).await? {
                self.save_bytes(&Key::account_aside(ca, &suffix, file), &content).await?;
            }
        }
        Ok(())
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

#[async_trait]
impl Ledger for Store {
    async fn load_ledger(&self, ca: &CaName) -> Result<Option<LedgerRecord>, StorageError> {
        self.load_json(&Key::ledger(ca)).await
    }

    async fn save_ledger(&self, ca: &CaName, record: &LedgerRecord) -> Result<(), StorageError> {
        self.save_json(&Key::ledger(ca), record).await
    }
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
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::opening::tests::World;
    use super::*;
    use crate::model::{KeyType, Spent, Timestamp};
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

    fn account() -> AccountRecord {
        AccountRecord {
            directory: "https://ca.example/dir".into(),
            url: None,
            contact: vec!["mailto:ops@example.com".into()],
            ..AccountRecord::default()
        }
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
            stuck_since: None,
            counted: None,
            unsettled: Vec::new(),
            proofs_spent_at: None,
            presented: Vec::new(),
        }
    }

    fn folders(world: &World) -> Vec<String> {
        let entries = fs::read_dir(world.path("private/accounts")).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn an_account_outlives_the_process_with_its_key() {
        let world = World::new().await;
        assert!(world.store.load_account(&ca()).await.unwrap().is_none());
        let key = key();
        world.store.save_account(&ca(), &account(), Some(&key)).await.unwrap();
        let registered = AccountRecord { url: Some("https://ca.example/1".into()), ..account() };
        world.store.save_account(&ca(), &registered, None).await.unwrap();
        let world = world.reopened().await;
        let (record, read) = world.store.load_account(&ca()).await.unwrap().unwrap();
        assert_eq!((record, read.secret_pem()), (registered, key.secret_pem()));
        let mode = |path: &str| world.path(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("private/accounts/lab/key.pem"), 0o600);
        assert_eq!(mode("private/accounts/lab"), 0o700);
    }

    #[tokio::test]
    async fn an_account_set_aside_is_gone_but_kept() {
        let world = World::new().await;
        let key = key();
        world.store.save_account(&ca(), &account(), Some(&key)).await.unwrap();
        world.store.set_account_aside(&ca()).await.unwrap();
        assert!(world.store.load_account(&ca()).await.unwrap().is_none());
        let names = folders(&world);
        let aside = names.iter().find(|it| it.starts_with("lab.aside-2")).unwrap();
        let kept = world.path("private/accounts").join(aside).join("key.pem");
        assert_eq!(fs::read_to_string(kept).unwrap(), key.secret_pem());
    }

    #[tokio::test]
    async fn a_rollover_ends_with_one_key_whichever_the_ca_knows() {
        for (settled, wins) in [(SettledKey::Next, 1), (SettledKey::Former, 0)] {
            let world = World::new().await;
            let keys = [key(), key()];
            world.store.save_account(&ca(), &account(), Some(&keys[0])).await.unwrap();
            world.store.save_next_account_key(&ca(), &keys[1]).await.unwrap();
            let world = world.reopened().await;
            let next = world.store.load_next_account_key(&ca()).await.unwrap().unwrap();
            assert_eq!(next.secret_pem(), keys[1].secret_pem());
            for _ in 0..2 {
                world.store.settle_account_key(&ca(), settled).await.unwrap();
            }
            assert!(world.store.load_next_account_key(&ca()).await.unwrap().is_none());
            let (record, read) = world.store.load_account(&ca()).await.unwrap().unwrap();
            assert_eq!((record, read.secret_pem()), (account(), keys[wins].secret_pem()));
            assert_eq!(folders(&world).len(), 1, "nothing is set aside");
        }
    }

    #[tokio::test]
    async fn an_account_key_is_never_written_over() {
        let world = World::new().await;
        world.store.save_account(&ca(), &account(), Some(&key())).await.unwrap();
        world.store.save_account(&ca(), &account(), Some(&key())).await.unwrap();
        assert_eq!(folders(&world).len(), 2);
        assert!(world.store.load_account(&ca()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_key_outlives_the_description_of_its_account() {
        let world = World::new().await;
        let key = key();
        world.store.save_account(&ca(), &account(), Some(&key)).await.unwrap();
        let path = world.path("private/accounts/lab/account.json");
        for damage in [Some("{"), Some(""), Some(r#"{"directory":7}"#), None] {
            match damage {
                Some(text) => atomic::write(&path, text.as_bytes(), Access::mode(0o600)).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
            let (record, kept) = world.store.load_account(&ca()).await.unwrap().unwrap();
            assert_eq!(record, AccountRecord::default(), "{damage:?}");
            assert_eq!(kept.secret_pem(), key.secret_pem());
            // As a kill between the two leaves it, too: the same key is kept again beside it.
            world.store.save_account(&ca(), &account(), Some(&kept)).await.unwrap();
            assert_eq!(folders(&world), ["lab"]);
        }
        let kept = fs::read_dir(world.path("private/accounts/lab")).unwrap();
        assert_eq!(kept.count(), 2 + 3, "each damaged description");
    }

    #[tokio::test]
    async fn a_broken_account_key_is_set_aside_with_all_that_belongs_to_it() {
        let world = World::new().await;
        world.store.save_account(&ca(), &account(), Some(&key())).await.unwrap();
        let path = world.path("private/accounts/lab/key.pem");
        atomic::write(&path, b"-----BEGIN", Access::mode(0o600)).unwrap();
        assert!(world.store.load_account(&ca()).await.unwrap().is_none());
        let names = folders(&world);
        let aside = names.iter().find(|it| it.starts_with("lab.aside-2")).unwrap();
        for file in ["key.pem", "account.json"] {
            assert!(world.path("private/accounts").join(aside).join(file).is_file());
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
