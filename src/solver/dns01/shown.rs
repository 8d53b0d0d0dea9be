//! The records that this process shows: who changes a zone does so alone, and what two orders need
//! goes when the second is done with it.
//!
//! Some providers read a set of records and write it back: two of our own changes at once would
//! lose one. So there is one lock a zone for the whole process, whatever solver it is changed by
//! and however often the configuration is loaded anew; with it stands the count of who needs a
//! record. It is held for one request, never over a pause: a provider that adds and does not remove
//! keeps no proof from being shown.
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

/// How long it may take to add a record, with all that a provider's client repeats by itself; and
/// how long it is waited until nobody else of ours changes the zone.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);

/// How long one try to remove a record may take: it is repeated, now and later, and others wait.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);

/// Before a removal that failed is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// What this process does with one zone.
#[derive(Default)]
struct Zone {
    /// Who needs each of its records. Held while a change is made, on purpose.
    needed: tokio::sync::Mutex<HashMap<TxtRecord, Need>>,
    // Held while a removal waits for `needed`, on purpose: whoever shows something waits for one
    // removal at most, however many there are.
    removing: tokio::sync::Mutex<()>,
}

/// What is known of a record that this process shows, or tries to.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    /// How many need it.
    holders: usize,
    /// Whether it was added. While it could not be, each of them tries it for itself.
    is_added: bool,
}

static ZONES: LazyLock<Mutex<HashMap<String, Arc<Zone>>>> = LazyLock::new(Mutex::default);

fn zone(record: &TxtRecord) -> Arc<Zone> {
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
        let Ok(mut needed) = timeout(CHANGE_LIMIT, zone.needed.lock()).await else {
            let TxtRecord { zone, name, .. } = record;
            return Err(DnsError::Busy { zone, name, limit: CHANGE_LIMIT });
        };
        let need = needed.entry(record.clone()).or_default();
        need.holders += 1;
        // From here on whatever happens, this being dropped too, takes the record away.
        let owed = Owed::new();
        let mut shown = Shown { changer: self.clone(), record: Some((record.clone(), owed)) };
        if need.is_added {
            return Ok(shown);
        }
        let added = bounded(CHANGE_LIMIT, self.provider.add(&record)).await;
        need.is_added = added.is_ok();
        if let Err(source) = added {
            if source.is_refusal() {
                forget(&mut needed, &record);
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
        for pause in PAUSES {
            if self.try_to_remove(&zone, record).await.is_ok() {
                return Ok(());
            }
            self.clock.sleep(pause).await;
        }
        let removed = self.try_to_remove(&zone, record).await;
        removed.map_err(|source| changed(record, "remove", source))
    }

    async fn release(&self, record: &TxtRecord) -> Result<(), DnsError> {
        {
            let zone = zone(record);
            let mut needed = zone.needed.lock().await;
            if forget(&mut needed, record) > 0 {
                return Ok(());
            }
        }
        self.remove_leftover(record).await
    }

    /// Removes `record` from `zone`, unless it is shown, also since an earlier try.
    async fn try_to_remove(&self, zone: &Zone, record: &TxtRecord) -> Result<(), ProviderError> {
        let _next = zone.removing.lock().await;
        let needed = zone.needed.lock().await;
        if needed.contains_key(record) {
            return Ok(());
        }
        bounded(REMOVAL_LIMIT, self.provider.remove(record)).await
    }
}

/// One holder of `record` less; says how many are left.
fn forget(needed: &mut HashMap<TxtRecord, Need>, record: &TxtRecord) -> usize {
    let Some(need) = needed.get_mut(record) else { return 0 };
    need.holders = need.holders.saturating_sub(1);
    let left = need.holders;
    if left == 0 {
        needed.remove(record);
    }
    left
}

async fn bounded(
    limit: Duration,
    change: impl Future<Output = Result<(), ProviderError>>,
) -> Result<(), ProviderError> {
    timeout(limit, change).await.unwrap_or(Err(ProviderError::TimedOut { limit }))
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
    use crate::model::Explain;
    use crate::sys::clock::{ManualClock, SystemClock};

    /// Writes down what it is asked to do.
    #[derive(Debug, Default)]
    struct Recorder {
        log: Mutex<Vec<String>>,
        adding: Adding,
        removing: Removing,
    }

    /// What comes of removing.
    #[derive(Debug, Default, PartialEq)]
    enum Removing {
        #[default]
        Succeeds,
        Fails,
        Hangs,
    }

    /// What comes of adding.
    #[derive(Debug, Default, PartialEq)]
    enum Adding {
        #[default]
        Succeeds,
        IsLost,
        IsLostAtFirst,
        IsRefused,
    }

    #[async_trait]
    impl DnsProvider for Recorder {
        async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
            self.log.lock().unwrap().push(format!("add {}", record.value));
            tokio::task::yield_now().await;
            match self.adding {
                Adding::Succeeds => Ok(()),
                Adding::IsLostAtFirst if self.log.lock().unwrap().len() > 1 => Ok(()),
                Adding::IsLost | Adding::IsLostAtFirst => {
                    Err(ProviderError::TimedOut { limit: Duration::ZERO })
                }
                Adding::IsRefused => {
                    Err(ProviderError::NotRegistered { name: record.name.clone() })
                }
            }
        }

        async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
            self.log.lock().unwrap().push(format!("remove {}", record.value));
            match self.removing {
                Removing::Succeeds => Ok(()),
                Removing::Fails => Err(ProviderError::TimedOut { limit: Duration::ZERO }),
                Removing::Hangs => std::future::pending().await,
            }
        }
    }

    fn changer(adding: Adding) -> (Arc<Recorder>, Changer) {
        let recorder = Arc::new(Recorder { adding, ..Recorder::default() });
        let clock = Arc::new(SystemClock::new());
        (recorder.clone(), Changer { provider: recorder, clock })
    }

    /// The changer of a provider that removes nothing; its pauses pass by the clock.
    fn changer_that_removes_nothing(
        removing: Removing,
        clock: Arc<dyn Clock>,
    ) -> (Arc<Recorder>, Changer) {
        let recorder = Arc::new(Recorder { removing, ..Recorder::default() });
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

    /// N08: who waits while it is added for another takes it for shown only if it was.
    #[tokio::test]
    async fn what_could_not_be_added_for_one_is_added_for_the_next() {
        let (recorder, changer) = changer(Adding::IsLostAtFirst);
        let record = record("next.example", "a");
        let both = (changer.show(record.clone()), changer.show(record.clone()));
        let (first, second) = tokio::join!(both.0, both.1);
        assert!(first.is_err());
        assert_eq!(*recorder.log.lock().unwrap(), ["add a", "add a"]);
        let third = changer.show(record.clone()).await.unwrap();
        assert_eq!(recorder.log.lock().unwrap().len(), 2, "it is there");
        Box::new(second.unwrap()).clean_up().await.unwrap();
        Box::new(third).clean_up().await.unwrap();
        assert_eq!(*recorder.log.lock().unwrap(), ["add a", "add a", "remove a"]);
    }

    #[tokio::test]
    async fn what_was_refused_is_not_asked_to_be_removed() {
        let (recorder, changer) = changer(Adding::IsRefused);
        assert!(changer.show(record("refused.example", "a")).await.is_err());
        assert_eq!(*recorder.log.lock().unwrap(), ["add a"]);
        assert!(zone(&record("refused.example", "a")).needed.lock().await.is_empty());
    }

    /// N08: however many removals hang, who shows something waits for one of them.
    #[tokio::test(start_paused = true)]
    async fn a_provider_that_adds_and_hangs_at_removals_keeps_no_proof_from_being_shown() {
        let clock = Arc::new(SystemClock::new());
        let (recorder, changer) = changer_that_removes_nothing(Removing::Hangs, clock);
        for number in 0..10 {
            let (changer, leftover) =
                (changer.clone(), record("hangs.example", &format!("left {number}")));
            tokio::spawn(async move { changer.remove_leftover(&leftover).await });
        }
        // Until all of them are at it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(recorder.log.lock().unwrap().len(), 1);
        let showing = changer.show(record("hangs.example", "a"));
        let shown = timeout(REMOVAL_LIMIT, showing).await.unwrap().unwrap();
        assert_eq!(*recorder.log.lock().unwrap(), ["remove left 0", "add a"]);
        let removed = timeout(20 * 4 * REMOVAL_LIMIT, Box::new(shown).clean_up()).await.unwrap();
        assert!(removed.is_err(), "it is tried again later, by the journal");
    }

    #[tokio::test]
    async fn a_pause_between_two_removals_keeps_nobody_waiting_and_what_is_shown_again_stays() {
        let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let (recorder, changer) = changer_that_removes_nothing(Removing::Fails, clock.clone());
        let record = record("pause.example", "a");
        let mut removing = Box::pin(changer.remove_leftover(&record));
        assert!(futures_util::poll!(removing.as_mut()).is_pending());
        let showing = changer.show(record.clone());
        let shown = timeout(Duration::from_secs(10), showing).await.unwrap().unwrap();
        clock.advance(Duration::from_secs(10));
        timeout(Duration::from_secs(10), removing).await.unwrap().unwrap();
        assert_eq!(*recorder.log.lock().unwrap(), ["remove a", "add a"]);
        std::mem::forget(shown);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_in_vain_for_others_at_the_zone_hears_of_them_and_asks_nobody() {
        let (recorder, changer) = changer(Adding::Succeeds);
        let record = record("busy.example", "a");
        let zone = zone(&record);
        let busy = zone.needed.lock().await;
        let Err(error) = changer.show(record.clone()).await else { panic!("it was busy") };
        drop(busy);
        let text = chain_text(&error);
        let expected = "the TXT record _acme-challenge.busy.example was not added: other changes of \
                        the zone busy.example have been under way for 120s";
        assert_eq!((text.as_str(), error.code()), (expected, "dns.busy"));
        assert!(error.hint().unwrap().contains("busy.example"));
        assert!(recorder.log.lock().unwrap().is_empty());
        changer.show(record).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_nothing() {
        let (recorder, changer) = changer(Adding::Succeeds);
        let record = record("given-up.example", "a");
        {
            let mut showing = Box::pin(changer.show(record.clone()));
            assert!(futures_util::poll!(showing.as_mut()).is_pending());
        }
        let next = changer.show(self::record("given-up.example", "b")).await.unwrap();
        drop(next);
        for _ in 0..1000 {
            if recorder.log.lock().unwrap().len() == 4 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut log = recorder.log.lock().unwrap().clone();
        log.sort();
        assert_eq!(log, ["add a", "add b", "remove a", "remove b"]);
    }
}
