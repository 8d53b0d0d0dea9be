//! Tells how everything stands: the status file, alerts, the heartbeat.
//!
//! It runs beside the scheduler and never holds it up: a receiver that is slow, dead or wrong costs
//! a renewal nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::assemble::{Agent, Base};
use crate::model::{Event, Failure, Observer, chain_text};
use crate::observe::{Alerts, status_file};
use crate::sys::clock::Clock;

use super::Shown;

/// Changes within this time are told together.
const QUIET: Duration = Duration::from_millis(300);
/// How long the last alerts may take when the daemon ends; the rest is on disk.
const LAST_DELIVERY: Duration = Duration::from_secs(2);

/// The way to the herald's tasks.
pub(super) struct Herald {
    passes: mpsc::Sender<()>,
    telling: JoinHandle<()>,
    delivering: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

/// Starts the herald for `agent`; it tells of everything that comes through `status`.
pub(super) fn start(base: &Base, agent: &Agent, status: channel::Receiver<Shown>) -> Herald {
    let (passes, whole) = mpsc::channel(1);
    let (end, ended) = oneshot::channel::<()>();
    let alerts = agent.alerts.clone();
    let teller = Teller {
        file: agent.config.store.status_file(),
        clock: base.clock.clone(),
        observer: base.observer.clone(),
        alerts: alerts.clone(),
    };
    let delivering = tokio::spawn(async move {
        alerts.run(async { drop(ended.await) }).await;
    });
    Herald { telling: tokio::spawn(teller.run(status, whole)), delivering, passes, end }
}

impl Herald {
    /// A whole pass over all certificates was made.
    pub(super) fn whole_pass(&self) {
        // One that is still to be told of is as good as two.
        self.passes.try_send(()).unwrap_or_default();
    }

    /// Tells the last of it and ends.
    pub(super) async fn finish(self) {
        drop(self.passes);
        drop(timeout(LAST_DELIVERY, self.telling).await);
        drop(self.end);
        drop(timeout(LAST_DELIVERY, self.delivering).await);
    }
}

struct Teller {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    alerts: Arc<Alerts>,
}

impl Teller {
    async fn run(self, mut status: channel::Receiver<Shown>, mut passes: mpsc::Receiver<()>) {
        let mut undelivered = self.alerts.notices();
        self.tell(&mut status).await;
        loop {
            tokio::select! {
                // That a receiver is dead is told to the others.
                Ok(()) = undelivered.changed() => {
                    self.clock.sleep(QUIET).await;
                    self.tell(&mut status).await;
                }
                Ok(()) = status.changed() => {
                    self.clock.sleep(QUIET).await;
                    self.tell(&mut status).await;
                }
                pass = passes.recv() => {
                    // Thresholds pass with time, also if nothing else changes.
                    let is_told = self.tell(&mut status).await;
                    match pass {
                        Some(()) if is_told => self.alerts.heartbeat().await,
                        Some(()) => {}
                        None => return,
                    }
                }
            }
        }
    }

    /// Writes the status file and decides about alerts; whether both could be done.
    async fn tell(&self, status: &mut channel::Receiver<Shown>) -> bool {
        let mut shown = status.borrow_and_update().clone();
        self.alerts.note_undelivered(&mut shown.document).await;
        let (file, document) = (self.file.clone(), shown.document.clone());
        let writing = tokio::task::spawn_blocking(move || status_file::write(&file, &document));
        let written = match writing.await {
            Ok(written) => written.map_err(|error| chain_text(&error)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(message) = &written {
            let failure = Failure {
                at: self.clock.now(),
                code: "agent.degraded".to_owned(),
                message: message.clone(),
                hint: Some("make the run directory writable and see that it has room".to_owned()),
            };
            self.observer.observe(&Event::Degraded { failure });
        }
        // Trouble that was told before a restart is not over because nobody has looked yet.
        if shown.is_whole {
            self.alerts.pass(&shown.document).await;
        }
        written.is_ok() && shown.is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::tests::World;
    use crate::observe::LogObserver;

    /// W05: the heartbeat stands for all certificates, and for a status that can be read.
    #[tokio::test]
    async fn all_is_told_only_where_all_were_looked_at_and_the_status_file_was_written() {
        let world = World::start(&["a"]).await;
        let shown = |is_whole| Shown { document: world.handle.status(), is_whole };
        let (sender, mut status) = channel::channel(shown(false));
        let mut teller = Teller {
            file: world.folder.path().join("status.json"),
            clock: world.clock.clone(),
            observer: Arc::new(LogObserver),
            alerts: world.handle.alerts.clone(),
        };
        assert!(!teller.tell(&mut status).await, "some are still to be looked at");
        assert!(teller.file.exists());
        sender.send_replace(shown(true));
        assert!(teller.tell(&mut status).await);
        teller.file = world.folder.path().join("no/such/folder/status.json");
        assert!(!teller.tell(&mut status).await, "nobody could read how all stands");
    }
}
