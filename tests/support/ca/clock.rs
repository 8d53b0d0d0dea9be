//! A clock that nobody waits for: it goes on when somebody sleeps, or a test turns it.
//!
//! Who sleeps moves the time of all by his span, so what is driven with it is driven one step after
//! the other. Time limits of the network run on tokio's clock, not on this one: a silent CA lets
//! both of them pass ([`VirtualClock::let_pass`]), and nobody waits for those either.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use renewd::model::Timestamp;
use renewd::sys::clock::Clock;

/// Time without waiting.
#[derive(Debug)]
pub struct VirtualClock {
    passed: Mutex<Passed>,
    // tokio's clock stands still while it is turned, once for the whole runtime.
    turning: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Passed {
    monotonic: Duration,
    wall: Timestamp,
    slept: Duration,
    sleeps: u64,
}

impl VirtualClock {
    /// Stands at `started`.
    #[must_use]
    pub fn new(started: Timestamp) -> Arc<Self> {
        let passed =
            Passed { monotonic: Duration::ZERO, wall: started, slept: Duration::ZERO, sleeps: 0 };
        Arc::new(Self { passed: Mutex::new(passed), turning: tokio::sync::Mutex::default() })
    }

    /// Turns it on by `span`.
    pub fn advance(&self, span: Duration) {
        let mut passed = self.passed.lock().unwrap();
        passed.monotonic += span;
        passed.wall = passed.wall.saturating_add(span);
    }

    /// Turns it on to `moment`, if that is ahead.
    pub fn advance_to(&self, moment: Timestamp) {
        self.advance(moment.since(self.now()));
    }

    /// Sets the time of day to `moment`, as somebody's hand would; what runs on monotonic time does
    /// not feel it.
    pub fn step_to(&self, moment: Timestamp) {
        self.passed.lock().unwrap().wall = moment;
    }

    /// For how long was slept, and how often.
    #[must_use]
    pub fn slept(&self) -> (Duration, u64) {
        let passed = self.passed.lock().unwrap();
        (passed.slept, passed.sleeps)
    }

    /// Lets `span` pass for this clock and for the time limits of the network. For runtimes of one
    /// thread alone.
    pub async fn let_pass(&self, span: Duration) {
        let _turning = self.turning.lock().await;
        self.advance(span);
        tokio::time::pause();
        // Also where nobody waits for the end of this.
        let _resumed = Resumed;
        tokio::time::advance(span).await;
    }
}

/// Lets the time limits of the network be real again when it goes.
struct Resumed;

impl Drop for Resumed {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.passed.lock().unwrap().wall
    }

    fn monotonic(&self) -> Duration {
        self.passed.lock().unwrap().monotonic
    }

    async fn sleep(&self, span: Duration) {
        self.advance(span);
        {
            let mut passed = self.passed.lock().unwrap();
            passed.slept += span;
            passed.sleeps += 1;
        }
        tokio::task::yield_now().await;
    }
}
