//! The accounts at CAs, which the port [`KeyVault`] of [`crate::model`] asks the store for.
//!
//! Each is a few documents, and what matters is their order: a key is on disk before what refers to
//! it, and goes away before it where it would be taken for another's.
//!
//! Not here: what an account is and when it gets another key ([`crate::acme`]).

use async_trait::async_trait;

use super::{Key, Store};
use crate::model::{AccountRecord, CaName, KeyVault, PrivateKey, SettledKey, StorageError};
use crate::sys::crash;

/// The description of an account.
const ACCOUNT: &str = "account.json";
/// The account's key.
const ACCOUNT_KEY: &str = "key.pem";
/// The key that a rollover is to give it.
const NEXT_ACCOUNT_KEY: &str = "next_key.pem";
/// The key that it had before the last rollover.
const FORMER_ACCOUNT_KEY: &str = "former_key.pem";

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::opening::tests::World;
    use super::*;
    use crate::model::KeyType;
    use crate::sys::atomic::{self, Access};

    fn ca() -> CaName {
        "lab".parse().unwrap()
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
}
