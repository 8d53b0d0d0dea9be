//! What a signal does to a command that does the work by itself.
//!
//! # Rules
//!
//! - At the first (SIGTERM, SIGINT, SIGHUP) no new work is begun, and what is under way goes on for
//!   a moment. Then it is dropped: its programs end, its proofs are taken away, and its journal
//!   says how the next run goes on. What was found is decided about, for the next run to tell.
//! - The second ends the process at once. What comes with the first is none: where a session or a
//!   terminal ends, it sends several; and no SIGHUP is one.
//!
//! Not here: the daemon, which does the same with more time ([`crate::daemon`]).

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::assemble::WorkReport;
use crate::model::{CertificateName, Failure, Timestamp};
use crate::solver;
use crate::sys::signals::{Signal, Signals};

use super::context::Ended;
use super::exit::Exit;
use super::output;

/// How long what is under way goes on: an answer that is on its way, such as that to a new order,
/// would else be lost, and asked for again. Whoever waits for a prompt does not wait for more.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// What comes so soon after the first signal was sent with it.
const TOGETHER: Duration = Duration::from_millis(200);

/// No test is journalled.
const WHO_TAKES_AWAY: &str = "the next run takes away what an order showed, and goes on with it; \
                              what `renewd dns test` showed is to be removed by hand";

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nobody asked for it.
    None,
    /// Nothing new is begun.
    Asked,
    /// Nothing goes on.
    Come,
}

/// Whether the command is to end.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<Stage>);

impl Stop {
    /// Whether it was asked to.
    pub(super) fn is_asked(&self) -> bool {
        *self.0.borrow() > Stage::None
    }

    /// What comes of `work`; `None` if the end is asked for before that.
    pub(super) async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.unless(Stage::Asked, work).await
    }

    /// What comes of `work`; `None` if the end has come before that. It is dropped then.
    pub(super) async fn unless_come<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.unless(Stage::Come, work).await
    }

    /// One that nobody asks for while the first is kept.
    #[cfg(test)]
    pub(super) fn in_a_test() -> (impl Sized, Self) {
        let (stages, stop) = watch::channel(Stage::None);
        (stages, Self(stop))
    }

    async fn unless<T>(&self, stage: Stage, work: impl Future<Output = T>) -> Option<T> {
        let mut stages = self.0.clone();
        let reached = async move { drop(stages.wait_for(|it| *it >= stage).await) };
        tokio::select! {
            biased;
            () = reached => None,
            done = work => Some(done),
        }
    }
}

/// Does `work`, which looks at the [`Stop`] that it is given, with signals as the module's header
/// says. When this returns, what it showed has been taken away, as far as that can be waited for.
/// To be called when the state directory is open, and nothing was begun: a signal before that ends
/// the process by itself.
///
/// # Errors
///
/// Exit code 1 at the second signal, or if the system refuses the handlers.
pub(super) async fn attended<T>(work: impl AsyncFnOnce(Stop) -> T) -> Result<T, Ended> {
    let mut signals = Signals::listen_unless_ignored().map_err(|error| {
        output::problem(&format!("cannot listen for signals: {error}"), None);
        Ended(Exit::Failed)
    })?;
    let (stages, stop) = watch::channel(Stage::None);
    let stop = Stop(stop);
    let work = async {
        let done = work(stop.clone()).await;
        if stop.is_asked() && !solver::all_taken_away().await {
            output::talk(&format!("proofs are still visible: {WHO_TAKES_AWAY}"));
        }
        done
    };
    tokio::select! {
        done = work => Ok(done),
        () = attend(async || signals.next().await, stages) => {
            output::problem("ended at once by a second signal", Some(WHO_TAKES_AWAY));
            Err(Ended(Exit::Failed))
        }
    }
}

/// Returns at the second signal that comes from `next`.
async fn attend(mut next: impl AsyncFnMut() -> Signal, stages: watch::Sender<Stage>) {
    next().await;
    stages.send_replace(Stage::Asked);
    let those_of_the_first = async {
        loop {
            next().await;
        }
    };
    drop(timeout(TOGETHER, those_of_the_first).await);
    output::talk("stopping, for a signal came; another one ends this at once");
    let second = async { while next().await != Signal::End {} };
    tokio::pin!(second);
    if timeout(LAST_STEPS, &mut second).await.is_ok() {
        return;
    }
    stages.send_replace(Stage::Come);
    second.await;
}

/// What is reported of the certificate `name` whose work was not done, or not to its end.
pub(super) fn stopped(name: &CertificateName, now: Timestamp) -> WorkReport {
    let failure = Failure {
        at: now,
        code: "agent.stopped".to_owned(),
        message: "a signal stopped the work on it".to_owned(),
        hint: Some("run the command again: it goes on where this one was".to_owned()),
    };
    WorkReport { name: name.clone(), renewed: false, failures: vec![failure], status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// How it stands `at` a time after the beginning, with `signals`, each so long after the one
    /// before: whether the process was ended at once, and the stage.
    async fn after(signals: &[(Duration, Signal)], at: Duration) -> (bool, Stage) {
        let (stages, stage) = watch::channel(Stage::None);
        let mut pending = signals.iter();
        let mut due = pending.next();
        let next = async || {
            let Some((pause, signal)) = due else { return std::future::pending().await };
            sleep(*pause).await;
            due = pending.next();
            *signal
        };
        let is_ended = tokio::select! {
            () = attend(next, stages) => true,
            () = sleep(at) => false,
        };
        (is_ended, *stage.borrow())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_begins_nothing_new_and_ends_what_is_under_way_three_seconds_later() {
        let one = [(Duration::ZERO, Signal::End)];
        assert_eq!(after(&one, SECOND).await, (false, Stage::Asked));
        assert_eq!(after(&one, 4 * SECOND).await, (false, Stage::Come));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_with_the_first_signal_is_no_second_one() {
        let together = [0, 1, 1, 148].map(|it| (Duration::from_millis(it), Signal::End));
        assert_eq!(after(&together, SECOND).await, (false, Stage::Asked));
        assert_eq!(after(&together, 60 * SECOND).await, (false, Stage::Come));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_process_before_and_after_the_last_steps_and_a_hangup_does_not()
     {
        for second in [SECOND, 10 * SECOND] {
            let of = |signal| [(Duration::ZERO, Signal::Reload), (second, signal)];
            assert!(after(&of(Signal::End), 60 * SECOND).await.0, "{second:?}");
            assert_eq!(after(&of(Signal::Reload), 60 * SECOND).await, (false, Stage::Come));
        }
    }
}
