//! The one clock. Everything else takes `now` as an argument or is handed a [`Clock`].

#![expect(clippy::disallowed_methods, reason = "this is the clock that all others ask")]

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use crate::model::Timestamp;

/// Tells and waits for time; in tests a hand turns it.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day, which may be stepped at any moment.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process, which never steps: for deadlines.
    fn monotonic(&self) -> Duration;

    /// Waits for `span` of monotonic time.
    async fn sleep(&self, span: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}
