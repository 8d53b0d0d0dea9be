//! One thing at a time at a target, and no wait for what does not end.
//!
//! What hangs on a mount can't be broken off: its thread stays until the mount answers, and the
//! target is its own until then, so that nothing is done beside it. Who comes meanwhile waits for
//! as long as it may take, and no longer.
//!
//! Not here: how long that is, and what is done ([`super::direct`]).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use crate::sys::clock::{Clock, SystemClock};

/// How often it is looked who has the turn: it may have gone to somebody who has less time.
const BETWEEN: Duration = Duration::from_secs(1);

/// What is done to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// What a crash interrupted is finished or undone.
    Repair,
    /// It is looked at whether it could take a certificate.
    Look,
    /// Files are put in place.
    Install,
    /// Earlier files are put back.
    PutBack,
    /// Its test is run.
    Test,
    /// Its server is told to load its files.
    Reload,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repair => "the repair of its files",
            Self::Look => "a look at its files and programs",
            Self::Install => "an install of its files",
            Self::PutBack => "the return of its earlier files",
            Self::Test => "its test",
            Self::Reload => "its reload",
        })
    }
}

/// What has not ended in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endless {
    /// What.
    pub(super) doing: Doing,
    /// How long ago it began.
    pub(super) ago: Duration,
}

/// Who may do something.
#[derive(Debug, Default)]
pub(super) struct Turn {
    lock: Arc<tokio::sync::Mutex<()>>,
    holder: Mutex<Option<Holder>>,
    clock: SystemClock,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    doing: Doing,
    since: Duration,
    until: Duration,
}

/// The turn. Somebody else's when the last copy is dropped.
#[derive(Debug)]
pub(super) struct Held {
    turn: Arc<Turn>,
    _lock: OwnedMutexGuard<()>,
}

impl Turn {
    /// Takes the turn for what may take as long as `limit`.
    ///
    /// # Errors
    ///
    /// [`Endless`] if whoever has it has had it for longer than he may.
    pub(super) async fn take(
        self: &Arc<Self>,
        doing: Doing,
        limit: Duration,
    ) -> Result<Arc<Held>, Endless> {
        let mut locking = std::pin::pin!(Arc::clone(&self.lock).lock_owned());
        let lock = loop {
            let rest = self.holder().map(|it| it.until.saturating_sub(self.clock.monotonic()));
            let rest = rest.map_or(BETWEEN, |it| it.min(BETWEEN));
            if let Ok(lock) = timeout(rest, &mut locking).await {
                break lock;
            }
            if let Some(endless) = self.endless() {
                return Err(endless);
            }
        };
        let since = self.clock.monotonic();
        *self.holder() = Some(Holder { doing, since, until: since.saturating_add(limit) });
        Ok(Arc::new(Held { turn: Arc::clone(self), _lock: lock }))
    }

    /// What has had the turn for longer than it may, and has it still.
    pub(super) fn endless(&self) -> Option<Endless> {
        let now = self.clock.monotonic();
        let holder = self.holder().filter(|it| it.until <= now)?;
        Some(Endless { doing: holder.doing, ago: now.saturating_sub(holder.since) })
    }

    fn holder(&self) -> MutexGuard<'_, Option<Holder>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the lock goes to the next, who puts down himself.
        *self.turn.holder() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(600);

    /// What comes of `wait`, which has to end long before that.
    async fn soon<T>(wait: impl Future<Output = T>) -> T {
        timeout(LONG / 30, wait).await.expect("it is waited for without end")
    }

    #[tokio::test]
    async fn who_waits_is_told_of_what_does_not_end_and_has_his_turn_after_what_does() {
        let turn = Arc::new(Turn::default());
        let held = turn.take(Doing::Install, NO_TIME).await.unwrap();
        let copy = Arc::clone(&held);
        drop(held);
        let endless = soon(turn.take(Doing::Reload, LONG)).await.unwrap_err();
        assert_eq!(endless.doing, Doing::Install);
        assert_eq!(turn.endless().unwrap().doing, Doing::Install);
        drop(copy);
        assert_eq!(turn.endless(), None);

        let held = soon(turn.take(Doing::Reload, LONG)).await.unwrap();
        assert_eq!(turn.endless(), None, "it has time left");
        let waiting = tokio::spawn({
            let turn = Arc::clone(&turn);
            async move { turn.take(Doing::Test, NO_TIME).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        soon(waiting).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_waits_behind_others_waits_for_each_of_them() {
        let turn = Arc::new(Turn::default());
        let first = turn.take(Doing::Test, LONG).await.unwrap();
        let take = |doing, limit| {
            let turn = Arc::clone(&turn);
            async move { turn.take(doing, limit).await }
        };
        let mut second = Box::pin(take(Doing::Install, Duration::from_millis(1)));
        let mut third = Box::pin(take(Doing::Reload, LONG));
        assert!(futures_util::FutureExt::now_or_never(&mut second).is_none());
        assert!(futures_util::FutureExt::now_or_never(&mut third).is_none());
        drop(first);
        let _second = soon(second).await.unwrap();
        assert_eq!(soon(third).await.unwrap_err().doing, Doing::Install);
    }
}
