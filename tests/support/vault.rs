//! An account at a CA, kept in memory: for tests of the ACME client alone.
//!
//! Not here: the store that keeps it on disk, which `tests/it` and `tests/store` are for.

use std::sync::Mutex;

use async_trait::async_trait;
use renewd::model::{AccountRecord, CaName, KeyVault, PrivateKey, SettledKey, StorageError};

/// Keeps one account, at whichever CA.
#[derive(Default)]
pub struct MemoryVault(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    account: Option<(AccountRecord, String)>,
    next_key: Option<String>,
}

impl MemoryVault {
    /// Has `look` see what is kept of the account, or change it.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn account<T>(&self, look: impl FnOnce(&mut AccountRecord) -> T) -> T {
        look(&mut self.0.lock().unwrap().account.as_mut().unwrap().0)
    }
}

fn key(pem: &str) -> PrivateKey {
    PrivateKey::from_pem(pem.as_bytes()).unwrap()
}

#[async_trait]
impl KeyVault for MemoryVault {
    async fn load_account(
        &self,
        _ca: &CaName,
    ) -> Result<Option<(AccountRecord, PrivateKey)>, StorageError> {
        let kept = self.0.lock().unwrap().account.clone();
        Ok(kept.map(|(record, pem)| (record, key(&pem))))
    }

    async fn save_account(
        &self,
        _ca: &CaName,
        record: &AccountRecord,
        key: Option<&PrivateKey>,
    ) -> Result<(), StorageError> {
        let mut kept = self.0.lock().unwrap();
        let pem = match key {
            Some(key) => key.secret_pem().to_owned(),
            None => kept.account.take().unwrap().1,
        };
        kept.account = Some((record.clone(), pem));
        Ok(())
    }

    async fn set_account_aside(&self, _ca: &CaName) -> Result<(), StorageError> {
        *self.0.lock().unwrap() = Kept::default();
        Ok(())
    }

    async fn copy_account_aside(&self, _ca: &CaName) -> Result<(), StorageError> {
        Ok(())
    }

    async fn load_next_account_key(
        &self,
        _ca: &CaName,
    ) -> Result<Option<PrivateKey>, StorageError> {
        Ok(self.0.lock().unwrap().next_key.as_deref().map(key))
    }

    async fn save_next_account_key(
        &self,
        _ca: &CaName,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        self.0.lock().unwrap().next_key = Some(key.secret_pem().to_owned());
        Ok(())
    }

    async fn settle_account_key(
        &self,
        _ca: &CaName,
        settled: SettledKey,
    ) -> Result<(), StorageError> {
        let mut kept = self.0.lock().unwrap();
        let next = kept.next_key.take();
        if let (SettledKey::Next, Some(next)) = (settled, next) {
            kept.account.as_mut().unwrap().1 = next;
        }
        Ok(())
    }
}
