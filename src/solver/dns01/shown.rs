//! The records that this process shows: who changes a zone does so alone, and what two orders need
//! goes when the second is done with it.
//!
//! Some providers read a set of records and write it back: two of our own changes at once would
//! lose one. So there is one lock a zone for the whole process, whatever solver it is changed by and
//! however often the configuration is loaded anew; with it stands the count of who needs a record.
//!
//! Not here: how records are changed ([`super::provider`]), and what a process that died had shown,
//! which is journalled.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::model::{TxtRecord, chain_text};
use crate::solver::removal::Owed;
use crate::solver::{CleanUp, SolverError};
use crate::sys::clock::Clock;

use super::DnsError;
use super::provider::{DnsProvider, ProviderError};

/// How long one change may take, with all that a provider's client repeats by itself.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);

/// Before a removal that failed is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// A zone: its lock, and how many need each of its records.
type Zone = Arc<tokio::sync::Mutex<HashMap<TxtRecord, usize>>>;

static ZONES: LazyLock<Mutex<HashMap<String, Zone>>> = LazyLock::new(Mutex::default);

fn zone(record: &TxtRecord) -> Zone {
    let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(zones.entry(record.zone.clone()).or_default())
}

/// Who changes DNS, and whose clock says how long to pause.
#[derive(Clone)]
pub(super) struct Changer {
    pub(super) provider: Arc<dyn DnsProvider>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Changer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.provider.fmt(f)
    }
}

impl Changer {
    /// Adds `record`, unless this process shows it already. It is there until the result is cleaned
    /// up or dropped; after an error it is not, as far as anyone can say.
    ///
    /// # Errors
    ///
    /// If it can't be added.
    pub(super) async fn show(&self, record: TxtRecord) -> Result<Shown, DnsError> {
        let zone = zone(&record);
        // Whoever removes something there may be at it for long where the provider is broken.
        let Ok(mut needed) = timeout(CHANGE_LIMIT, zone.lock()).await else {
            let timed_out = ProviderError::TimedOut { limit: CHANGE_LIMIT };
            return Err(changed(&record, "add", timed_out));
        };
        let holders = needed.entry(record.clone()).or_default();
        *holders += 1;
        let is_first = *holders == 1;
        // From here on whatever happens, this being dropped too, takes the record away.
        let owed = Owed::new();
        let mut shown = Shown { changer: self.clone(), record: Some((record.clone(), owed)) };
        let added = if is_first { bounded(self.provider.add(&record)).await } else { Ok(()) };
        if let Err(source) = added {
            if source.is_refusal() {
                needed.remove(&record);
                shown.record = None;
                return Err(changed(&record, "add", source));
            }
            drop(needed);
            // The answer may have been lost, and not the request.
            if let Err(error) = Box::new(shown).clean_up().await {
                tracing::debug!(error = chain_text(&error), "what was not added can't be removed");
            }
            return Err(changed(&record, "add", source));
        }
        Ok(shown)
    }

    /// Removes `record`, unless this process shows it.
    ///
    /// # Errors
    ///
    /// If it can't be removed.
    pub(super) async fn remove_leftover(&self, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = zone(record);
        let needed = zone.lock().await;
        if needed.contains_key(record) {
            return Ok(());
        }
        self.remove(record).await
    }

    async fn release(&self, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = zone(record);
        let mut needed = zone.lock().await;
        let holders = needed.get(record).copied().unwrap_or_default();
        if holders > 1 {
            needed.insert(record.clone(), holders - 1);
            return Ok(());
        }
        needed.remove(record);
        self.remove(record).await
    }

    /// With the zone's lock held.
    async fn remove(&self, record: &TxtRecord) -> Result<(), DnsError> {
        for pause in PAUSES {
            if bounded(self.provider.remove(record)).await.is_ok() {
                return Ok(());
            }
            self.clock.sleep(pause).await;
        }
        bounded(self.provider.remove(record))
            .await
            .map_err(|source| changed(record, "remove", source))
    }
}

async fn bounded(
    change: impl Future<Output = Result<(), ProviderError>>,
) -> Result<(), ProviderError> {
    let timed_out = Err(ProviderError::TimedOut { limit: CHANGE_LIMIT });
    timeout(CHANGE_LIMIT, change).await.unwrap_or(timed_out)
}

fn changed(record: &TxtRecord, action: &'static str, source: ProviderError) -> DnsError {
    DnsError::Change { action, name: record.name.clone(), source }
}

/// One holder's part in a record.
pub(super) struct Shown {
    changer: Changer,
    /// `None` once it has been given up.
    record: Option<(TxtRecord, Owed)>,
}

#[async_trait]
impl CleanUp for Shown {
    async fn clean_up(mut self: Box<Self>) -> Result<(), SolverError> {
        let Some((record, owed)) = self.record.take() else { return Ok(()) };
        // A task of its own, so that it goes on when nobody waits any more.
        let changer = self.changer.clone();
        let removed = tokio::spawn(async move {
            let _owed = owed;
            let removed = changer.release(&record).await;
            warn(&removed, &record);
            removed
        });
        match removed.await {
            Ok(removed) => removed.map_err(SolverError::from),
            Err(_ended) => Err(SolverError::Interrupted),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let Some((record, owed)) = self.record.take() else { return };
        // Without a runtime the process is ending: the journal knows the record.
        let Ok(runtime) = Handle::try_current() else { return };
        let changer = self.changer.clone();
        runtime.spawn(async move {
            let _owed = owed;
            warn(&changer.release(&record).await, &record);
        });
    }
}

/// Tells of a record that stays: its name and value are public.
fn warn(removed: &Result<(), DnsError>, record: &TxtRecord) {
    if let Err(error) = removed {
        let TxtRecord { name, value, .. } = record;
        tracing::warn!(error = chain_text(error), name, value, "a TXT record could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;

    /// Writes down what it is asked to do.
    #[derive(Debug, Default)]
    struct Recorder {
        log: Mutex<Vec<String>>,
        adding: Adding,
    }

    /// What comes of adding.
    #[derive(Debug, Default, PartialEq)]
    enum Adding {
        #[default]
        Succeeds,
        IsLost,
        IsRefused,
    }

    #[async_trait]
    impl DnsProvider for Recorder {
        async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
            self.log.lock().unwrap().push(format!("add {}", record.value));
            tokio::task::yield_now().await;
            match self.adding {
                Adding::Succeeds => Ok(()),
                Adding::IsLost => Err(ProviderError::TimedOut { limit: Duration::ZERO }),
                Adding::IsRefused => {
                    Err(ProviderError::NotRegistered { name: record.name.clone() })
                }
            }
        }

        async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
            self.log.lock().unwrap().push(format!("remove {}", record.value));
            Ok(())
        }
    }

    fn changer(adding: Adding) -> (Arc<Recorder>, Changer) {
        let recorder = Arc::new(Recorder { adding, ..Recorder::default() });
        let clock = Arc::new(SystemClock::new());
        (recorder.clone(), Changer { provider: recorder, clock })
    }

    fn record(zone: &str, value: &str) -> TxtRecord {
        let name = format!("_acme-challenge.{zone}");
        TxtRecord { zone: zone.to_owned(), name, value: value.to_owned() }
    }

    #[tokio::test]
    async fn what_two_need_is_added_once_and_goes_with_the_second() {
        let (recorder, changer) = changer(Adding::Succeeds);
        let record = record("two.example", "a");
        let first = changer.show(record.clone()).await.unwrap();
        let second = changer.show(record.clone()).await.unwrap();
        Box::new(first).clean_up().await.unwrap();
        changer.remove_leftover(&record).await.unwrap();
        assert_eq!(*recorder.log.lock().unwrap(), ["add a"]);
        Box::new(second).clean_up().await.unwrap();
        assert_eq!(*recorder.log.lock().unwrap(), ["add a", "remove a"]);
        changer.remove_leftover(&record).await.unwrap();
        assert_eq!(recorder.log.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_could_not_be_added_is_removed_in_case_it_was() {
        let (recorder, changer) = changer(Adding::IsLost);
        assert!(changer.show(record("lost.example", "a")).await.is_err());
        assert_eq!(*recorder.log.lock().unwrap(), ["add a", "remove a"]);
    }

    #[tokio::test]
    async fn what_was_refused_is_not_asked_to_be_removed() {
        let (recorder, changer) = changer(Adding::IsRefused);
        assert!(changer.show(record("refused.example", "a")).await.is_err());
        assert_eq!(*recorder.log.lock().unwrap(), ["add a"]);
        assert!(zone(&record("refused.example", "a")).lock().await.is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_nothing() {
        let (recorder, changer) = changer(Adding::Succeeds);
        let record = record("given-up.example", "a");
        {
            let mut showing = Box::pin(changer.show(record.clone()));
            assert!(futures_util::poll!(showing.as_mut()).is_pending());
        }
        // Whoever comes next waits for the removal, since both need the zone.
        let next = changer.show(self::record("given-up.example", "b")).await.unwrap();
        drop(next);
        let zone = zone(&record);
        for _ in 0..1000 {
            if zone.lock().await.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut log = recorder.log.lock().unwrap().clone();
        log.sort();
        assert_eq!(log, ["add a", "add b", "remove a", "remove b"]);
    }
}
