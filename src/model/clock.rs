//! What is known of the machine's clock beside what it says.
//!
//! Not here: the clock ([`crate::sys::clock`]), and what follows ([`crate::plan::clock`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CaName, Timestamp};

/// How long the machine runs, asleep or awake: what no step of the clock changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uptime {
    /// Which start of the machine that is; `None` if it does not say.
    pub boot: Option<String>,
    /// Since then.
    pub elapsed: Duration,
}

/// The clock when it was last known to be right: `private/clock.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// What it said.
    pub right_at: Timestamp,
    /// The start of the machine then.
    #[serde(default)]
    pub boot: Option<String>,
    /// How long the machine had run, in milliseconds.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// How many renewals were let pass since while it was in doubt.
    #[serde(default)]
    pub passed: u32,
}

impl ClockRecord {
    /// The clock is right, and says `now`.
    #[must_use]
    pub fn right(now: Timestamp, uptime: &Uptime) -> Self {
        let elapsed_ms = u64::try_from(uptime.elapsed.as_millis()).unwrap_or(u64::MAX);
        Self { right_at: now, boot: uptime.boot.clone(), elapsed_ms, passed: 0 }
    }
}

/// The code of a clock that can't be believed.
pub const CLOCK_WRONG: &str = "agent.clock";

/// A CA's clock and ours differ, and ours has jumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockDoubt {
    /// What the CA's says now.
    pub theirs: Timestamp,
    /// What ours says now.
    pub ours: Timestamp,
    /// Whose it is.
    pub ca: CaName,
    /// Whether a renewal that only our clock makes due is let pass all the same.
    pub lets_pass: bool,
}

impl ClockDoubt {
    /// Whether what is due from `moment` on waits: by the CA's clock it is not due.
    #[must_use]
    pub fn forbids(&self, moment: Timestamp) -> bool {
        self.theirs < moment && !self.lets_pass
    }
}

impl std::fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { theirs, ours, ca, .. } = self;
        write!(f, "the clock is wrong: it jumped and says {ours}, that of {ca} says {theirs}")
    }
}
