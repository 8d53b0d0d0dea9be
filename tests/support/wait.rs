//! The one way to wait: for a state, and not for ever.

#![expect(clippy::disallowed_methods, reason = "waiting needs a clock and a sleep, once")]

use std::fmt::Debug;
use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

/// How often a state is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at a state until `look` finds it reached, and returns what it found.
///
/// `look` answers `Err` with the state as it is for "not yet". It is asked at least twice, also
/// with a `limit` of zero, so that a machine that stood still does not fail a test.
///
/// # Panics
///
/// After `limit`, with `what` and the last state.
#[track_caller]
pub fn eventually<T, S: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let started = Instant::now();
    loop {
        let late = started.elapsed() > limit;
        match look() {
            Ok(reached) => return reached,
            Err(state) if late => panic!("not within {limit:?}: {what}; last: {state:#?}"),
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

/// Whether `reached` comes true within `limit`; for clean-up, which must not panic.
pub(super) fn within(limit: Duration, mut reached: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !reached() {
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(INTERVAL);
    }
    true
}

/// As [`eventually`], for a test whose other side runs on the same runtime.
///
/// # Panics
///
/// After `limit`, with `what` and the last state.
pub async fn eventually_async<T, S: Debug, F: Future<Output = Result<T, S>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        let late = started.elapsed() > limit;
        match look().await {
            Ok(reached) => return reached,
            Err(state) if late => panic!("not within {limit:?}: {what}; last: {state:#?}"),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
