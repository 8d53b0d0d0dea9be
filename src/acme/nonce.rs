//! Nonces (RFC 8555 §6.5), shared by all orders of one CA.
//!
//! Not here: asking for one ([`super::wire`]); whether one is well formed ([`super::header`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nonces that were not used yet, the freshest on top.
#[derive(Debug, Default)]
pub(super) struct NoncePool(Mutex<Vec<String>>);

impl NoncePool {
    /// Keeps `nonce`; of too many, the oldest goes.
    pub(super) fn put(&self, nonce: String) {
        let mut nonces = self.lock();
        if nonces.len() >= MAX_NONCES {
            nonces.remove(0);
        }
        nonces.push(nonce);
    }

    /// The freshest nonce, which is not here any more: none is ever used twice.
    pub(super) fn take(&self) -> Option<String> {
        self.lock().pop()
    }

    /// Forgets all: where one was refused, the others are likely as old, or from a CA's machine
    /// that is gone.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        // A panic between two pushes leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than the orders that run side by side.
const MAX_NONCES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freshest_comes_first_and_none_comes_twice() {
        let pool = NoncePool::default();
        pool.put("old".into());
        pool.put("new".into());
        assert_eq!(pool.take().as_deref(), Some("new"));
        assert_eq!(pool.take().as_deref(), Some("old"));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn only_the_freshest_are_kept() {
        let pool = NoncePool::default();
        for number in 0..1000 {
            pool.put(number.to_string());
        }
        let kept: Vec<String> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_NONCES, "999"));
    }
}
