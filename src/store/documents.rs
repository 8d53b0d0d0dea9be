//! What is remembered of certificates and targets.
//!
//! # Rules
//!
//! 1. A document that can't be understood is moved aside with a warning, and its default taken: a
//!    broken memory must not stop renewals (nor start them: what is held says what is due).
//! 2. A document that can't be read because the system refuses is an error, not a default.
//!
//! Not here: accounts ([`super::accounts`]), orders ([`super::orders`]), ledgers and alerts
//! ([`super::ports`]).

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::key::CERTIFICATES;
use super::orders::ORDER;
use super::{EngineError, Expected, Key, Store};
use crate::model::{
    CertificateName, CertificateState, ClockRecord, PendingRevocation, StorageError, TargetName,
    TargetState,
};

/// A revocation that was asked for.
const REVOCATION: &str = "revocation.json";

/// How many lines of a history are kept.
const MAX_HISTORY_LINES: usize = 1000;

/// How many bytes of a history are kept, whatever its lines hold.
const MAX_HISTORY_BYTES: usize = 1 << 20;

impl Store {
    /// What is remembered of the certificate `name`; the default if there is nothing, or nothing
    /// that can be understood.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the document can't be read.
    pub async fn certificate_state(
        &self,
        name: &CertificateName,
    ) -> Result<CertificateState, StorageError> {
        Ok(self.load_json(&state_key(name)).await?.unwrap_or_default())
    }

    /// Remembers `state` of the certificate `name`; it is on disk on return.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn save_certificate_state(
        &self,
        name: &CertificateName,
        state: &CertificateState,
    ) -> Result<(), StorageError> {
        self.save_json(&state_key(name), state).await
    }

    /// What is remembered of the certificate `name` at `target`; the default if there is nothing,
    /// or nothing that can be understood.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the document can't be read.
    pub async fn target_state(
        &self,
        target: &TargetName,
        name: &CertificateName,
    ) -> Result<TargetState, StorageError> {
        Ok(self.load_json(&Key::target(target, name)).await?.unwrap_or_default())
    }

    /// Remembers `state` of the certificate `name` at `target`; it is on disk on return.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn save_target_state(
        &self,
        target: &TargetName,
        name: &CertificateName,
        state: &TargetState,
    ) -> Result<(), StorageError> {
        self.save_json(&Key::target(target, name), state).await
    }

    /// The revocation of a certificate named `name` that was asked for and is not done yet.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the document can't be read.
    pub async fn pending_revocation(
        &self,
        name: &CertificateName,
    ) -> Result<Option<PendingRevocation>, StorageError> {
        self.load_json(&Key::certificate(name, REVOCATION)).await
    }

    /// Remembers `pending`, or that there is none; it is on disk on return.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn save_pending_revocation(
        &self,
        name: &CertificateName,
        pending: Option<&PendingRevocation>,
    ) -> Result<(), StorageError> {
        let _alone = self.revoking.lock().await;
        self.write_pending_revocation(name, pending).await
    }

    /// Puts `left` in the place of the pending revocation `done`, unless another was asked for since
    /// that was read: that stays, and is returned.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be read or written.
    pub async fn settle_pending_revocation(
        &self,
        name: &CertificateName,
        done: &PendingRevocation,
        left: Option<&PendingRevocation>,
    ) -> Result<Option<PendingRevocation>, StorageError> {
        let _alone = self.revoking.lock().await;
        let asked = |it: &PendingRevocation| (it.certificate, it.request, it.asked_at);
        let kept = self.pending_revocation(name).await?;
        let other = kept.filter(|it| asked(it) != asked(done));
        if other.is_none() {
            self.write_pending_revocation(name, left).await?;
        }
        Ok(other)
    }

    async fn write_pending_revocation(
        &self,
        name: &CertificateName,
        pending: Option<&PendingRevocation>,
    ) -> Result<(), StorageError> {
        let key = Key::certificate(name, REVOCATION);
        match pending {
            Some(pending) => self.save_json(&key, pending).await,
            None => self.remove(&key).await,
        }
    }

    /// Where a request for a revocation of the certificate `name` lies that could not be
    /// understood.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if that can't be found out.
    pub async fn damaged_revocation(
        &self,
        name: &CertificateName,
    ) -> Result<Option<String>, StorageError> {
        let key = Key::certificate(name, REVOCATION);
        let listed = self.engine.list(&format!("{key}.corrupt-")).await;
        let listed = listed.map_err(|it| self.failed("look for", &key, it))?;
        Ok(listed.last().map(|it| self.place(it)))
    }

    /// When the clock was last known to be right, if that is known.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the document can't be read.
    pub async fn clock_record(&self) -> Result<Option<ClockRecord>, StorageError> {
        self.load_json(&Key::clock()).await
    }

    /// Remembers `record`; it is on disk on return.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn save_clock_record(&self, record: &ClockRecord) -> Result<(), StorageError> {
        self.save_json(&Key::clock(), record).await
    }

    /// Adds `line` to the history of the certificate `name`, of which the last thousand lines and
    /// the last MiB are kept. A line larger than that is left out.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be written.
    pub async fn append_history(
        &self,
        name: &CertificateName,
        line: &serde_json::Value,
    ) -> Result<(), StorageError> {
        let key = history_key(name);
        let before = self.load_bytes(&key).await?.unwrap_or_default();
        let before = String::from_utf8_lossy(&before);
        let line = line.to_string();
        let mut kept: Vec<&str> = Vec::new();
        let mut size = 0;
        let newest_first =
            std::iter::once(line.as_str()).chain(before.lines().rev()).take(MAX_HISTORY_LINES);
        for line in newest_first {
            size += line.len() + 1;
            if size > MAX_HISTORY_BYTES {
                break;
            }
            kept.push(line);
        }
        let mut text = String::with_capacity(size);
        for line in kept.iter().rev() {
            text.push_str(line);
            text.push('\n');
        }
        self.save_bytes(&key, text.as_bytes()).await
    }

    /// The history of the certificate `name`, oldest first. What is no JSON is passed over.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it can't be read.
    pub async fn history(
        &self,
        name: &CertificateName,
    ) -> Result<Vec<serde_json::Value>, StorageError> {
        let text = self.load_bytes(&history_key(name)).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect())
    }

    /// The certificates that an order is on record for, wanted or not.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the documents can't be listed.
    pub async fn ordered(&self) -> Result<Vec<CertificateName>, StorageError> {
        let listed = self.engine.list(CERTIFICATES).await.map_err(|source| StorageError {
            action: "list",
            place: format!("private/{CERTIFICATES}"),
            source: source.into(),
        })?;
        let name_of = |key: &Key| {
            let name = key.as_str().strip_prefix(CERTIFICATES)?.strip_suffix(ORDER)?;
            name.strip_suffix('/')?.parse().ok()
        };
        Ok(listed.iter().filter_map(name_of).collect())
    }

    /// The document at `key`. One that can't be understood is moved aside, and counts as none.
    pub(super) async fn load_json<T: DeserializeOwned>(
        &self,
        key: &Key,
    ) -> Result<Option<T>, StorageError> {
        let Some(content) = self.load_bytes(key).await? else { return Ok(None) };
        match serde_json::from_slice(&content) {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                self.quarantine(key, &error).await?;
                Ok(None)
            }
        }
    }

    pub(super) async fn save_json<T: Serialize + Sync>(
        &self,
        key: &Key,
        document: &T,
    ) -> Result<(), StorageError> {
        let mut text = serde_json::to_vec_pretty(document).map_err(|it| StorageError {
            action: "write",
            place: self.place(key),
            source: it.into(),
        })?;
        text.push(b'\n');
        self.save_bytes(key, &text).await
    }

    pub(super) async fn load_bytes(
        &self,
        key: &Key,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StorageError> {
        let loaded = self.engine.load(key).await.map_err(|it| self.failed("read", key, it))?;
        Ok(loaded.map(|it| it.content))
    }

    pub(super) async fn save_bytes(&self, key: &Key, content: &[u8]) -> Result<(), StorageError> {
        let lease = self.lease(&self.place(key))?;
        let saved = self.engine.save(key, content, Expected::Anything, lease).await;
        saved.map(drop).map_err(|it| self.failed("write", key, it))
    }

    pub(super) async fn remove(&self, key: &Key) -> Result<(), StorageError> {
        let lease = self.lease(&self.place(key))?;
        let removed = self.engine.remove(key, Expected::Anything, lease).await;
        removed.map_err(|it| self.failed("remove", key, it))
    }

    /// Moves the document at `key` aside, since `error` says that it is broken. A store that is
    /// only read leaves it where it is.
    pub(super) async fn quarantine(
        &self,
        key: &Key,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), StorageError> {
        let mut aside = key.with_suffix(&format!(".corrupt-{}", self.moment()));
        // The clock may stand still or go back; what was moved aside before stays.
        while self.load_bytes(&aside).await?.is_some() {
            aside = aside.with_suffix("-x");
        }
        tracing::warn!(
            document = %self.place(key),
            moved_to = %aside,
            error = %crate::model::escaped(&error.to_string()),
            "a document can't be understood, and counts as not there"
        );
        if self.lease.is_none() {
            return Ok(());
        }
        if let Some(content) = self.load_bytes(key).await? {
            self.save_bytes(&aside, &content).await?;
        }
        self.remove(key).await
    }

    /// Now, as it can stand in a key: `20261123t101500z`.
    pub(super) fn moment(&self) -> String {
        let text = self.clock.now().to_string();
        text.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
    }

    pub(super) fn place(&self, key: &Key) -> String {
        self.settings.private_dir().join(key.as_str()).display().to_string()
    }

    fn failed(&self, action: &'static str, key: &Key, error: EngineError) -> StorageError {
        StorageError { action, place: self.place(key), source: error.into() }
    }
}

fn state_key(name: &CertificateName) -> Key {
    Key::certificate(name, "state.json")
}

fn history_key(name: &CertificateName) -> Key {
    Key::certificate(name, "history.jsonl")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::opening::tests::World;
    use super::*;
    use crate::model::{Attempts, Fingerprint, RevocationRequest, Timestamp};
    use crate::sys::atomic::{self, Access};

    fn name() -> CertificateName {
        "example.com".parse().unwrap()
    }

    fn failed_twice() -> CertificateState {
        CertificateState {
            attempts: Attempts { failures: 2, ..Attempts::default() },
            ..Default::default()
        }
    }

    fn names_in(world: &World, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(world.path(folder)).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn failures_outlive_the_process() {
        let world = World::new().await;
        world.store.save_certificate_state(&name(), &failed_twice()).await.unwrap();
        let world = world.reopened().await;
        assert_eq!(world.store.certificate_state(&name()).await.unwrap(), failed_twice());
    }

    #[tokio::test]
    async fn the_state_of_a_target_is_its_own() {
        let world = World::new().await;
        let state = TargetState { attempts: failed_twice().attempts, ..TargetState::default() };
        let (nginx, haproxy) = ("nginx".parse().unwrap(), "haproxy".parse().unwrap());
        world.store.save_target_state(&nginx, &name(), &state).await.unwrap();
        assert_eq!(world.store.target_state(&nginx, &name()).await.unwrap(), state);
        assert_eq!(world.store.target_state(&haproxy, &name()).await.unwrap(), Default::default());
        assert!(world.path("private/targets/nginx/example.com.json").is_file());
    }

    #[tokio::test]
    async fn what_is_to_be_revoked_now_is_not_settled_with_what_was_before() {
        let world = World::new().await;
        let (store, name) = (&world.store, name());
        let asked_at = |seconds| PendingRevocation {
            certificate: Fingerprint::of(b"leaf"),
            request: RevocationRequest::default(),
            asked_at: Timestamp::from_unix_seconds(seconds),
            attempts: Attempts::default(),
            refused: None,
        };
        let (first, second) = (asked_at(1), asked_at(2));
        store.save_pending_revocation(&name, Some(&first)).await.unwrap();
        let tried = PendingRevocation { attempts: failed_twice().attempts, ..first.clone() };
        let settle = |done, left| store.settle_pending_revocation(&name, done, left);
        assert_eq!(settle(&first, Some(&tried)).await.unwrap(), None);
        assert_eq!(store.pending_revocation(&name).await.unwrap(), Some(tried.clone()));

        store.save_pending_revocation(&name, Some(&second)).await.unwrap();
        for left in [None, Some(&first)] {
            assert_eq!(settle(&first, left).await.unwrap(), Some(second.clone()));
            assert_eq!(store.pending_revocation(&name).await.unwrap(), Some(second.clone()));
        }
        assert_eq!(settle(&second, None).await.unwrap(), None);
        assert_eq!(store.pending_revocation(&name).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_broken_state_is_moved_aside_and_counts_as_none() {
        let world = World::new().await;
        world.store.save_certificate_state(&name(), &failed_twice()).await.unwrap();
        let path = world.path("private/certificates/example.com/state.json");
        for broken in ["", "{", "[1]", r#"{"attempts":7}"#] {
            atomic::write(&path, broken.as_bytes(), Access::mode(0o600)).unwrap();
            let state = world.store.certificate_state(&name()).await.unwrap();
            assert_eq!(state, CertificateState::default(), "{broken:?}");
            assert!(!path.exists());
            let names = names_in(&world, "private/certificates/example.com");
            assert!(names.iter().any(|it| it.starts_with("state.json.corrupt-2")), "{names:?}");
        }
        // Also of the same second: none is written over another.
        assert_eq!(names_in(&world, "private/certificates/example.com").len(), 4);
        world.store.save_certificate_state(&name(), &failed_twice()).await.unwrap();
        assert_eq!(world.store.certificate_state(&name()).await.unwrap(), failed_twice());
    }

    #[tokio::test]
    async fn fields_of_a_later_version_are_passed_over() {
        let world = World::new().await;
        world.store.save_certificate_state(&name(), &failed_twice()).await.unwrap();
        let path = world.path("private/certificates/example.com/state.json");
        let later = br#"{"attempts":{"failures":2,"mood":"bad"},"more":[1]}"#;
        atomic::write(&path, later, Access::mode(0o600)).unwrap();
        assert_eq!(world.store.certificate_state(&name()).await.unwrap(), failed_twice());
    }

    #[tokio::test]
    async fn a_state_that_the_system_will_not_let_us_read_is_not_the_default() {
        let world = World::new().await;
        let path = world.path("private/certificates/example.com/state.json");
        atomic::directory(&path, Access::mode(0o700)).unwrap();
        let error = world.store.certificate_state(&name()).await.unwrap_err();
        assert!(error.place.ends_with("state.json"), "{error}");
    }

    #[tokio::test]
    async fn a_history_keeps_its_last_thousand_lines() {
        let world = World::new().await;
        let path = world.path("private/certificates/example.com/history.jsonl");
        let old: String = (0..1500).map(|it| format!("{{\"n\":{it}}}\n")).collect();
        atomic::directory(path.parent().unwrap(), Access::mode(0o700)).unwrap();
        atomic::write(&path, old.as_bytes(), Access::mode(0o600)).unwrap();
        world.store.append_history(&name(), &serde_json::json!({"n": 1500})).await.unwrap();
        let history = world.store.history(&name()).await.unwrap();
        assert_eq!(history.len(), MAX_HISTORY_LINES);
        assert_eq!(history.first().unwrap()["n"], 501);
        assert_eq!(history.last().unwrap()["n"], 1500);
    }

    #[tokio::test]
    async fn a_history_is_bounded_in_bytes_too() {
        let world = World::new().await;
        let line = serde_json::json!({"text": "x".repeat(300_000)});
        for _ in 0..5 {
            world.store.append_history(&name(), &line).await.unwrap();
        }
        assert_eq!(world.store.history(&name()).await.unwrap().len(), 3);
    }
}
