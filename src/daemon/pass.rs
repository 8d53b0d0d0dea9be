//! Looking at all certificates afresh, and when: so often, and at once where the clock was set; and
//! beside it what could not be taken away before.
//!
//! Not here: what is made of what a pass found ([`super::scheduler`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::assemble::Agent;
use crate::lifecycle::Outcome;
use crate::model::{CertificateName, StorageError, Timestamp};
use crate::plan::Asked;
use crate::sys::clock::Clock;

use super::entry::Schedule;

/// So often a whole pass over all certificates is made, and the heartbeat sent. By the monotonic
/// clock: the other one may stand still for as long as it is set back.
const BETWEEN_PASSES: Duration = Duration::from_mins(5);
/// A clock that moved by more than this against the monotonic one was set, and what it was to wake
/// for may be far away.
const CLOCK_STEP: Duration = Duration::from_secs(30);

/// What came of the look at a certificate.
type Looked = (CertificateName, Result<Outcome, StorageError>);

/// What a pass found, under which configuration; with each, how many runs had ended when it began.
pub(super) type Passed = (Arc<Agent>, Vec<(u64, Looked)>);

/// The passes of a daemon, one at a time.
pub(super) struct Passes {
    under_way: JoinSet<Passed>,
    sweeps: JoinSet<()>,
    /// When one was begun last, by the monotonic clock; `None` if none was.
    begun_at: Option<Duration>,
    /// When the daemon began, by the monotonic clock.
    daemon_began_at: Duration,
    /// What both clocks said at the last turn.
    clocks: (Timestamp, Duration),
}

impl Passes {
    /// None yet, for a daemon that begins now.
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let clocks = (clock.now(), clock.monotonic());
        Self {
            under_way: JoinSet::new(),
            sweeps: JoinSet::new(),
            begun_at: None,
            daemon_began_at: clocks.1,
            clocks,
        }
    }

    /// Whether none was ever begun.
    pub(super) fn is_none_begun(&self) -> bool {
        self.begun_at.is_none()
    }

    /// Whether everything is to be looked at afresh: now and then, in case a wake-up was lost or a
    /// file was changed; and at once where the clock was set, since every moment of `schedule` to
    /// wake at was a moment of the old time.
    pub(super) fn is_time(&mut self, clock: &dyn Clock, schedule: &mut Schedule) -> bool {
        let (passed, wall) = (clock.monotonic(), clock.now());
        if clock.monotonic().saturating_sub(passed) > CLOCK_STEP {
            // Whoever was stopped between both can't compare them.
            return false;
        }
        let expected = self.clocks.0.saturating_add(passed.saturating_sub(self.clocks.1));
        self.clocks = (wall, passed);
        let is_set = wall.since(expected).max(expected.since(wall)) > CLOCK_STEP;
        if is_set {
            schedule.clock_was_set();
        }
        let is_over = |at: Duration| passed.saturating_sub(at) >= BETWEEN_PASSES;
        match self.begun_at {
            Some(at) => is_set || is_over(at),
            // The first round does it when it ends. Work that takes hours must not keep from being
            // told how all else stands.
            None => schedule.is_whole() && is_over(self.daemon_began_at),
        }
    }

    /// Begins to look at all certificates of `agent`, unless that is being done already.
    pub(super) fn begin(&mut self, agent: Arc<Agent>, schedule: &Schedule) -> bool {
        if !self.under_way.is_empty() {
            return false;
        }
        self.begun_at = Some(agent.lifecycle.clock.monotonic());
        let ended: HashMap<_, _> =
            schedule.iter().map(|(name, it)| (name.clone(), it.ended())).collect();
        self.under_way.spawn(async move {
            let mut pass = Vec::new();
            for spec in &agent.config.certificates {
                let looked = agent.lifecycle.look(spec, Asked::ByTime).await;
                let ended = ended.get(&spec.name).copied().unwrap_or_default();
                pass.push((ended, (spec.name.clone(), looked)));
            }
            (agent, pass)
        });
        true
    }

    /// The end of one; `None` if none is under way.
    pub(super) async fn ended(&mut self) -> Option<Result<Passed, JoinError>> {
        self.under_way.join_next().await
    }

    /// Takes away, beside all else, what could not be taken away before; one sweep at a time.
    pub(super) fn sweep(&mut self, agent: &Agent) {
        while self.sweeps.try_join_next().is_some() {}
        if self.sweeps.is_empty() {
            let lifecycle = agent.lifecycle.clone();
            self.sweeps.spawn(async move { lifecycle.sweep().await });
        }
    }

    /// Has ended what is under way.
    pub(super) async fn shutdown(&mut self) {
        self.under_way.shutdown().await;
        self.sweeps.shutdown().await;
    }
}
