//! The coarse tick: once a minute, by tokio-cron-scheduler, as a safety net.
//!
//! It only wakes the scheduler. Nothing that must be right hangs on it, since that crate drops jobs
//! after a stall, never runs one again that panicked, and runs none while a clock that was set back
//! comes to the old time again. The scheduler wakes by itself twice a minute.

use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::assemble::Base;
use crate::model::{Event, Failure, chain_text};

/// At the start of every minute, in UTC.
const EVERY_MINUTE: &str = "0 * * * * *";

/// Ticks, for as long as this is kept.
pub(super) struct Ticks {
    received: mpsc::Receiver<()>,
    // The job ends with its scheduler.
    _scheduler: Option<JobScheduler>,
    // Without this a silent receiver would be a closed one.
    _sender: mpsc::Sender<()>,
}

impl Ticks {
    /// Waits for the next tick.
    pub(super) async fn recv(&mut self) -> Option<()> {
        self.received.recv().await
    }
}

/// Starts the tick. Where it can't be had that is told, and none ever comes.
pub(super) async fn start(base: &Base) -> Ticks {
    match scheduled().await {
        Ok(ticks) => ticks,
        Err(error) => {
            let failure = Failure {
                at: base.clock.now(),
                code: "agent.degraded".to_owned(),
                message: chain_text(&error),
                hint: None,
            };
            base.observer.observe(&Event::Degraded { failure });
            silent()
        }
    }
}

async fn scheduled() -> Result<Ticks, JobSchedulerError> {
    let (sender, received) = mpsc::channel(1);
    let scheduler = JobScheduler::new().await?;
    let poke = sender.clone();
    let job = Job::new_async(EVERY_MINUTE, move |_id, _scheduler| {
        let poke = poke.clone();
        Box::pin(async move {
            // A tick that waits already is as good as two.
            poke.try_send(()).unwrap_or_default();
        })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(Ticks { received, _scheduler: Some(scheduler), _sender: sender })
}

/// A tick that never comes.
fn silent() -> Ticks {
    let (sender, received) = mpsc::channel(1);
    Ticks { received, _scheduler: None, _sender: sender }
}
