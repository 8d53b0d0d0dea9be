//! The certificates and keys of CAs of our own: a folder for each below `private/ca/NAME/`.
//!
//! # Rules
//!
//! 1. No key and no certificate is ever written over: what has to make room is set aside first.
//! 2. A certificate goes away before its key, so that none is ever left without the key it was
//!    made with.
//!
//! Not here: what the certificates say, and which of them signs ([`crate::local_ca`]).

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Expected, Key, Store};
use crate::model::{
    AuthorityLabel, AuthorityRecord, AuthorityVault, CaName, PrivateKey, Secret, StorageError,
};

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

#[async_trait]
impl AuthorityVault for Store {
    async fn list_authorities(&self, ca: &CaName) -> Result<Vec<AuthorityRecord>, StorageError> {
        let prefix = Key::authorities(ca);
        let listed = self.engine.list(&prefix).await.map_err(|source| StorageError {
            action: "list",
            place: self.authority_place(ca),
            source: source.into(),
        })?;
        let mut records: BTreeMap<AuthorityLabel, AuthorityRecord> = BTreeMap::new();
        for key in &listed {
            let Some((folder, file)) =
                key.as_str().strip_prefix(&prefix).and_then(|it| it.split_once('/'))
            else {
                continue;
            };
            // What was set aside has no label for a name.
            let Ok(label) = folder.parse::<AuthorityLabel>() else { continue };
            let empty = AuthorityRecord { label, certificate: None, has_key: false };
            let record = records.entry(label).or_insert(empty);
            match file {
                KEY => record.has_key = true,
                CERTIFICATE => {
                    record.certificate = self.load_bytes(key).await?.map(|it| it.to_vec());
                }
                _ => {}
            }
        }
        Ok(records.into_values().collect())
    }

    async fn load_authority_key(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<Option<Secret>, StorageError> {
        let pem = self.load_bytes(&Key::authority(ca, label, "", KEY)).await?;
        Ok(pem.map(|it| Secret::new(String::from_utf8_lossy(&it).into_owned())))
    }

    async fn save_authority_key(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        let place = Key::authority(ca, label, "", KEY);
        self.save_new(&place, key.secret_pem().as_bytes()).await
    }

    async fn save_authority_certificate(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
        pem: &str,
    ) -> Result<(), StorageError> {
        self.save_new(&Key::authority(ca, label, "", CERTIFICATE), pem.as_bytes()).await
    }

    async fn set_authority_aside(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError> {
        let mut suffix = format!(".aside-{}", self.moment());
        // The clock may stand still or go back; what was set aside before stays.
        while self.load_bytes(&Key::authority(ca, label, &suffix, KEY)).await?.is_some()
            || self.load_bytes(&Key::authority(ca, label, &suffix, CERTIFICATE)).await?.is_some()
        {
            suffix.push_str("-x");
        }
        tracing::warn!(%ca, %label, "a CA certificate of our own can't be used, and is set aside");
        for file in [KEY, CERTIFICATE] {
            if let Some(content) = self.load_bytes(&Key::authority(ca, label, "", file)).await? {
                self.save_new(&Key::authority(ca, label, &suffix, file), &content).await?;
            }
        }
        self.remove_authority(ca, label).await
    }

    async fn remove_authority(
        &self,
        ca: &CaName,
        label: AuthorityLabel,
    ) -> Result<(), StorageError> {
        for file in [CERTIFICATE, KEY] {
            self.remove(&Key::authority(ca, label, "", file)).await?;
        }
        Ok(())
    }

    fn authority_place(&self, ca: &CaName) -> String {
        self.settings.private_dir().join("ca").join(ca.as_str()).display().to_string()
    }
}

impl Store {
    /// Saves a document where there is none.
    async fn save_new(&self, key: &Key, content: &[u8]) -> Result<(), StorageError> {
        let lease = self.lease(&self.place(key))?;
        let saved = self.engine.save(key, content, Expected::Absent, lease).await;
        saved.map(drop).map_err(|source| StorageError {
            action: "write",
            place: self.place(key),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::opening::tests::World;
    use super::*;
    use crate::model::{AuthorityRole, KeyType};

    const ROOT: AuthorityLabel = AuthorityLabel { role: AuthorityRole::Root, number: 1 };
    const INTERMEDIATE: AuthorityLabel =
        AuthorityLabel { role: AuthorityRole::Intermediate, number: 12 };

    fn ca() -> CaName {
        "inside".parse().unwrap()
    }

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyType::P256).unwrap()
    }

    async fn listed(world: &World) -> Vec<(String, bool, bool)> {
        let records = world.store.list_authorities(&ca()).await.unwrap();
        let one =
            |it: AuthorityRecord| (it.label.to_string(), it.certificate.is_some(), it.has_key);
        records.into_iter().map(one).collect()
    }

    #[tokio::test]
    async fn what_a_ca_signs_with_outlives_the_process_and_is_for_its_owner_alone() {
        let world = World::new().await;
        assert!(listed(&world).await.is_empty());
        let key = key();
        world.store.save_authority_key(&ca(), INTERMEDIATE, &key).await.unwrap();
        world.store.save_authority_key(&ca(), ROOT, &key).await.unwrap();
        world.store.save_authority_certificate(&ca(), ROOT, "root").await.unwrap();
        let world = world.reopened().await;
        let expected =
            [("root-0001".into(), true, true), ("intermediate-0012".into(), false, true)];
        assert_eq!(listed(&world).await, expected);
        let read = world.store.load_authority_key(&ca(), ROOT).await.unwrap().unwrap();
        assert_eq!(read.reveal(), key.secret_pem());
        let mode = |path: &str| world.path(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("private/ca/inside/root-0001/key.pem"), 0o600);
        assert_eq!(mode("private/ca/inside/root-0001"), 0o700);
    }

    #[tokio::test]
    async fn nothing_a_ca_signs_with_is_ever_written_over() {
        let world = World::new().await;
        let first = key();
        world.store.save_authority_key(&ca(), ROOT, &first).await.unwrap();
        assert!(world.store.save_authority_key(&ca(), ROOT, &key()).await.is_err());
        world.store.save_authority_certificate(&ca(), ROOT, "one").await.unwrap();
        assert!(world.store.save_authority_certificate(&ca(), ROOT, "two").await.is_err());
        let read = world.store.load_authority_key(&ca(), ROOT).await.unwrap().unwrap();
        assert_eq!(read.reveal(), first.secret_pem());
    }

    #[tokio::test]
    async fn what_is_set_aside_is_kept_and_no_longer_found() {
        let world = World::new().await;
        for _ in 0..2 {
            world.store.save_authority_key(&ca(), INTERMEDIATE, &key()).await.unwrap();
            world.store.save_authority_certificate(&ca(), INTERMEDIATE, "x").await.unwrap();
            world.store.set_authority_aside(&ca(), INTERMEDIATE).await.unwrap();
        }
        assert!(listed(&world).await.is_empty());
        let folders = std::fs::read_dir(world.path("private/ca/inside")).unwrap();
        let kept = folders.filter(|it| it.as_ref().unwrap().path().join("key.pem").exists());
        assert_eq!(kept.count(), 2);
    }

    #[tokio::test]
    async fn names_of_one_ca_are_not_taken_for_those_of_another() {
        let world = World::new().await;
        let other: CaName = "inside2".parse().unwrap();
        world.store.save_authority_key(&other, ROOT, &key()).await.unwrap();
        assert!(listed(&world).await.is_empty());
        assert_eq!("root-01".parse::<AuthorityLabel>().ok(), None);
        assert_eq!("intermediate-10000".parse::<AuthorityLabel>().unwrap().number, 10_000);
    }
}
