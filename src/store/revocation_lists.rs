//! CAs' lists of revoked certificates, kept by where they came from: a folder for each below
//! `private/crl/`.
//!
//! Losing one costs a request. One that nobody asked for in a month is removed with the next that
//! is kept: CAs change where their lists lie.
//!
//! Not here: what a list says ([`crate::model::look_up`]).

use std::time::Duration;

use super::key::REVOCATION_LISTS;
use super::{Key, Store};
use crate::model::{Fingerprint, KeptList, StorageError};

/// The list, in DER.
const LIST: &str = "list.der";
/// Where it came from, and when.
const META: &str = "meta.json";
/// How long a list is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Store {
    /// The kept list of `url`, if there is one that is as it was when it came.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be read.
    pub async fn revocation_list(
        &self,
        url: &str,
    ) -> Result<Option<(KeptList, Vec<u8>)>, StorageError> {
        let meta: Option<KeptList> = self.load_json(&Key::revocation_list(url, META)).await?;
        let list = self.load_bytes(&Key::revocation_list(url, LIST)).await?;
        let kept = meta.filter(|it| it.url == url).zip(list.map(|it| it.to_vec()));
        Ok(kept.filter(|(meta, list)| meta.sha256.is_none_or(|it| it == Fingerprint::of(list))))
    }

    /// Keeps `list`; removes what nobody asked for in a month.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn save_revocation_list(
        &self,
        meta: &KeptList,
        list: &[u8],
    ) -> Result<(), StorageError> {
        // Without its description it is none: a kill in between leaves no list of another time.
        self.remove(&Key::revocation_list(&meta.url, META)).await?;
        self.save_bytes(&Key::revocation_list(&meta.url, LIST), list).await?;
        self.save_json(&Key::revocation_list(&meta.url, META), meta).await?;
        let listed = self.engine.list(REVOCATION_LISTS).await.unwrap_or_default();
        for key in listed.iter().filter(|it| it.as_str().ends_with(META)) {
            let Some(old) = self.load_json::<KeptList>(key).await? else { continue };
            if meta.fetched_at.since(old.fetched_at) > KEPT {
                self.remove(key).await?;
                self.remove(&Key::revocation_list(&old.url, LIST)).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::tests::World;
    use super::*;
    use crate::model::Timestamp;

    fn kept(url: &str, day: u64) -> KeptList {
        let fetched_at = Timestamp::EPOCH.saturating_add(Duration::from_secs(day * 86_400));
        let etag = Some("\"1\"".into());
        KeptList { url: url.into(), fetched_at, sha256: None, etag, last_modified: None }
    }

    #[tokio::test]
    async fn a_list_is_kept_by_its_url_and_goes_when_nobody_asks_for_it() {
        let world = World::new().await;
        let list = |url: &'static str| world.store.revocation_list(url);
        assert_eq!(list("http://a.example/1").await.unwrap(), None);
        let first = kept("http://a.example/1", 1);
        world.store.save_revocation_list(&first, b"one").await.unwrap();
        world.store.save_revocation_list(&kept("http://b.example/1", 31), b"two").await.unwrap();
        assert_eq!(list("http://a.example/1").await.unwrap(), Some((first, b"one".to_vec())));
        world.store.save_revocation_list(&kept("http://b.example/1", 32), b"two").await.unwrap();
        assert_eq!(list("http://a.example/1").await.unwrap(), None);
        assert!(list("http://b.example/1").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_kept_list_that_was_damaged_is_fetched_again() {
        let world = World::new().await;
        let url = "http://a.example/1";
        let meta = KeptList { sha256: Some(Fingerprint::of(b"one")), ..kept(url, 1) };
        world.store.save_revocation_list(&meta, b"one").await.unwrap();
        let known = Some((meta.clone(), b"one".to_vec()));
        assert_eq!(world.store.revocation_list(url).await.unwrap(), known);
        world.store.save_bytes(&Key::revocation_list(url, LIST), b"o").await.unwrap();
        assert_eq!(world.store.revocation_list(url).await.unwrap(), None);
    }
}
