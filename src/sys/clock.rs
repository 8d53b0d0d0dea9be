//! The one clock. Everything else takes `now` as an argument or is handed a [`Clock`].

#![expect(clippy::disallowed_methods, reason = "this is the clock that all others ask")]

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use crate::model::{Timestamp, Uptime};

/// Tells and waits for time; in tests a hand turns it.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day, which may be stepped at any moment.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process, which never steps: for deadlines.
    fn monotonic(&self) -> Duration;

    /// How long the machine runs, asleep or awake, and which start of it that is: by what a step of
    /// [`Clock::now`] shows. Without an answer of its own, this process stands for the machine.
    fn uptime(&self) -> Uptime {
        let boot = Some(format!("process {}", std::process::id()));
        Uptime { boot, elapsed: self.monotonic() }
    }

    /// Waits for `span` of monotonic time.
    async fn sleep(&self, span: Duration);
}

/// Time since the machine was started, by the clock that other programs know as the monotonic one.
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    boot: Option<String>,
}

impl SystemClock {
    /// The machine's clock.
    #[must_use]
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self { started: Instant::now(), boot: boot.ok().map(|it| it.trim().to_owned()) }
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

    fn uptime(&self) -> Uptime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Uptime { boot: self.boot.clone(), elapsed: Duration::try_from(now).unwrap_or_default() }
    }

    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// A clock for tests that a hand turns.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct ManualClock {
    started: std::sync::Mutex<Timestamp>,
    passed: tokio::sync::watch::Sender<Duration>,
}

#[cfg(test)]
impl ManualClock {
    /// Stands at `started`.
    pub(crate) fn new(started: Timestamp) -> Self {
        let started = std::sync::Mutex::new(started);
        Self { started, passed: tokio::sync::watch::Sender::new(Duration::ZERO) }
    }

    /// Sets it to `now`, as a hand or a time server does; no time passes by that.
    pub(crate) fn step(&self, now: Timestamp) {
        let mut started = self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *started = now.saturating_sub(self.monotonic());
    }

    /// Turns it on by `span`, which wakes those whose wait is over.
    pub(crate) fn advance(&self, span: Duration) {
        self.passed.send_modify(|it| *it += span);
    }
}

#[cfg(test)]
#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let started = *self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        started.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.passed.borrow()
    }

    async fn sleep(&self, span: Duration) {
        let until = self.monotonic() + span;
        let mut passed = self.passed.subscribe();
        // The sender lives as long as this clock, so the wait can only end with the time.
        drop(passed.wait_for(|it| *it >= until).await);
    }
}
