//! How much of what this process shows in DNS and in files is still to be taken away, for whoever
//! ends it.
//!
//! A record and a file go away by a task of their own, which goes on when nobody waits for it any
//! more: by [`all_taken_away`] the end of the process waits for all of them. What is not gone by
//! then is known to the journal, and taken away by the next start.
//!
//! Not here: how a record and a file are removed ([`super::dns01`], [`super::http01`]). Sockets are
//! gone as soon as they are dropped.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long an end waits: some requests to a provider that is well, and a part of the 20 s in which
/// the daemon is to end.
const LIMIT: Duration = Duration::from_secs(5);

/// One count for the process, which has one end.
static OWED: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// One removal that is still to be done, until this is dropped.
#[derive(Debug)]
pub(super) struct Owed(&'static watch::Sender<usize>);

impl Owed {
    /// From now on.
    pub(super) fn new() -> Self {
        Self::to(&OWED)
    }

    fn to(count: &'static watch::Sender<usize>) -> Self {
        count.send_modify(|it| *it = it.saturating_add(1));
        Self(count)
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.send_modify(|it| *it = it.saturating_sub(1));
    }
}

/// Waits for some seconds until this process shows nothing in DNS and in files any more; whether
/// that came about. To be called when all work is dropped, before the state directory is given to
/// another process: that one may want to show the same.
pub async fn all_taken_away() -> bool {
    settled(&OWED, LIMIT).await
}

async fn settled(count: &watch::Sender<usize>, limit: Duration) -> bool {
    let mut count = count.subscribe();
    timeout(limit, count.wait_for(|it| *it == 0)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_every_removal_and_not_for_ever() {
        let count: &'static _ = Box::leak(Box::new(watch::Sender::new(0)));
        assert!(settled(count, Duration::ZERO).await, "nothing is owed");
        let (first, second) = (Owed::to(count), Owed::to(count));
        let waiting = tokio::spawn(settled(count, LIMIT));
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one is still owed");
        drop(second);
        assert!(waiting.await.unwrap());
        let _never = Owed::to(count);
        assert!(!settled(count, LIMIT).await);
    }
}
