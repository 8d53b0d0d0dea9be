//! Whether the store still answers.
//!
//! Not here: what is done where it doesn't ([`crate::daemon`]).

use std::sync::{Arc, PoisonError};

use super::{Expected, Key, Store, blocking};

impl Store {
    /// Ends when the store has answered, be it with an error: when nothing that writes is stuck in
    /// it, and its disk has been asked. Writes nothing.
    ///
    /// What hangs here hangs for every certificate.
    pub async fn pulse(&self) {
        let writing = Arc::clone(&self.writing);
        let passed = blocking(move || {
            drop(writing.lock().unwrap_or_else(PoisonError::into_inner));
        });
        drop(passed.await);
        if let (Some(lease), Some(key)) = (&self.lease, Key::parse("pulse")) {
            // There is none: to remove it waits for whoever writes, and asks the disk, no more.
            drop(self.engine.remove(&key, Expected::Anything, lease).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::store::{Store, StoreSettings};
    use crate::sys::clock::SystemClock;

    use super::*;

    #[tokio::test]
    async fn a_store_in_which_a_writer_is_stuck_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            state_dir: folder.path().join("state"),
            run_dir: folder.path().join("run"),
        };
        let clock = Arc::new(SystemClock::new());
        let store = Store::open(&settings, clock, Duration::ZERO).await.unwrap();
        store.pulse().await;
        let writing = Arc::clone(&store.writing);
        let (stuck, is_stuck) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let _writing = writing.lock().unwrap();
            stuck.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        is_stuck.await.unwrap();
        let mut pulse = std::pin::pin!(store.pulse());
        assert!(timeout(Duration::from_millis(300), &mut pulse).await.is_err());
        drop(end);
        timeout(Duration::from_secs(60), pulse).await.unwrap();
        writer.join().unwrap();
    }
}
