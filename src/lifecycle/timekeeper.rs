//! Whether the clock can be believed: what is known of it, and the CA's word where it has jumped.
//!
//! Not here: what follows from either ([`crate::plan::clock`]).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{
    CLOCK_WRONG, CaName, CertificateSpec, ClockDoubt, ClockRecord, Health, Notice, StorageError,
    Timestamp, chain_text,
};
use crate::plan::Asked;
use crate::plan::clock::{Standing, agree, is_to_be_noted, lets_pass, standing};
use crate::store::Store;
use crate::sys::clock::Clock;

use super::Lifecycle;

/// How long a CA's word on the time holds, also that it says none.
const WORD_HOLDS: Duration = Duration::from_secs(600);
/// How long one that does not answer is left alone. No order can be placed at it meanwhile; once it
/// is back, it is to be asked before many are. Others are asked all the same.
const SILENCE_HOLDS: Duration = Duration::from_secs(20);
/// How long the CA may take to say what time it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Knows whether the clock can be believed.
pub struct Timekeeper {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    // Held while the CA is asked, on purpose: one answer is enough for all.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    is_read: bool,
    record: Option<ClockRecord>,
    word: Option<Word>,
    /// The CAs that did not say what time it is, and until when each is left alone, by the time
    /// that the machine has run.
    wordless: BTreeMap<CaName, Duration>,
    since: Option<Timestamp>,
    /// Why the record can't be read or written, and since when.
    unkept: Option<(String, Timestamp)>,
}

/// What time it is by a CA, and when it said so by the time that the machine had run. It holds on
/// when that CA goes away.
struct Word {
    ca: CaName,
    time: Timestamp,
    said_at: Duration,
}

/// What came of asking a CA what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is this time.
    Time(Timestamp),
    /// It answers, and does not say.
    NoTime,
    /// It does not answer.
    Nothing,
}

impl Timekeeper {
    /// Keeps what is known of `clock` in `store`.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is known, if that was not done yet.
    pub(super) async fn open(&self) -> Result<(), StorageError> {
        if self.known().is_read {
            return Ok(());
        }
        let record = self.store.clock_record().await?;
        let mut known = self.known();
        if !known.is_read {
            (known.is_read, known.record) = (true, record);
        }
        Ok(())
    }

    /// Has it told that the record can't be read or written, or no longer, by what came of that.
    pub(super) fn tell_of_record(&self, done: Result<(), StorageError>) {
        let mut known = self.known();
        match done {
            Ok(()) => known.unkept = None,
            Err(error) => {
                let reason = chain_text(&error);
                if known.unkept.is_none() {
                    tracing::warn!(reason, "what is known of the clock can't be kept");
                }
                let since = known.unkept.as_ref().map_or_else(|| self.clock.now(), |it| it.1);
                known.unkept = Some((reason, since));
            }
        }
    }

    /// How the clock stands now.
    pub(super) fn standing(&self) -> Standing {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let mut known = self.known();
        let standing = standing(known.record.as_ref(), now, &uptime);
        match standing {
            Standing::Steady => {
                (known.since, known.word) = (None, None);
                known.wordless.clear();
            }
            _ => drop(known.since.get_or_insert(now)),
        }
        standing
    }

    /// Writes down that the clock is right, if it is and that is due. Where it has jumped, has
    /// `ask` say what time it is at `ca`, and believes the clock if that agrees. Returns whether
    /// no other CA need be asked.
    pub(super) async fn attend<F>(
        &self,
        ca: &CaName,
        ask: impl FnOnce() -> F + Send,
    ) -> Result<bool, StorageError>
    where
        F: Future<Output = Said> + Send,
    {
        self.open().await?;
        if self.standing() == Standing::Steady {
            let (now, uptime) = (self.clock.now(), self.clock.uptime());
            if is_to_be_noted(self.known().record.as_ref(), now, &uptime) {
                self.note(ClockRecord::right(now, &uptime)).await?;
            }
            return Ok(true);
        }
        let _alone = self.asking.lock().await;
        if self.standing() == Standing::Steady || self.has_word() {
            return Ok(true);
        }
        if self.is_left_alone(ca) {
            return Ok(false);
        }
        let said = ask().await;
        self.hear(ca, said).await
    }

    async fn hear(&self, ca: &CaName, said: Said) -> Result<bool, StorageError> {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let said_at = uptime.elapsed;
        let left_alone_for = match said {
            Said::Time(time) if agree(time, now) => {
                return self.note(ClockRecord::right(now, &uptime)).await.map(|()| true);
            }
            Said::Time(time) => {
                self.known().word = Some(Word { ca: ca.clone(), time, said_at });
                if let Some(ClockDoubt { ours, theirs, .. }) = self.doubt() {
                    tracing::warn!(%ca, %ours, %theirs, "the clock is wrong");
                }
                return Ok(true);
            }
            Said::NoTime => {
                drop(self.known().word.take_if(|it| it.ca == *ca));
                WORD_HOLDS
            }
            Said::Nothing => SILENCE_HOLDS,
        };
        self.known().wordless.insert(ca.clone(), said_at.saturating_add(left_alone_for));
        Ok(false)
    }

    /// That our clock has jumped and a CA's says otherwise, if it is so.
    pub(super) fn doubt(&self) -> Option<ClockDoubt> {
        if self.standing() == Standing::Steady {
            return None;
        }
        let (ours, elapsed) = (self.clock.now(), self.clock.uptime().elapsed);
        let known = self.known();
        let word = known.word.as_ref()?;
        let theirs = word.time.saturating_add(elapsed.saturating_sub(word.said_at));
        let lets_pass = lets_pass(known.record.as_ref());
        Some(ClockDoubt { theirs, ours, ca: word.ca.clone(), lets_pass })
    }

    /// Notes that a renewal is let pass while the clock is in doubt; `false` if it is not, since
    /// others have passed meanwhile.
    pub(super) async fn let_pass(&self) -> Result<bool, StorageError> {
        let _alone = self.asking.lock().await;
        let record = self.known().record.clone();
        if !lets_pass(record.as_ref()) {
            return Ok(false);
        }
        let Some(record) = record else { return Ok(true) };
        let passed = record.passed.saturating_add(1);
        self.note(ClockRecord { passed, ..record }).await?;
        Ok(true)
    }

    /// What is to be known of the clock.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        let standing = self.standing();
        let now = self.clock.now();
        let since = self.known().since.unwrap_or(now);
        let message = match (self.doubt(), standing) {
            (Some(doubt), _) => {
                format!("{doubt}; renewals that are due by it alone wait")
            }
            (None, Standing::Behind) => {
                let right_at = self.known().record.as_ref().map(|it| it.right_at.to_string());
                let right_at = right_at.unwrap_or_default();
                format!("the clock is wrong: it says {now}, and was right at {right_at} before")
            }
            // A machine that was off, as likely as not: the CA is asked before anything is renewed.
            (None, Standing::Ahead | Standing::Steady) => return self.unkept(),
        };
        Some(Notice {
            code: CLOCK_WRONG.to_owned(),
            health: Health::Warning,
            message,
            since,
            hint: Some(
                "set it right (`timedatectl`); if it is right, it is believed as soon as the CA's \
                 agrees"
                    .to_owned(),
            ),
        })
    }

    fn unkept(&self) -> Option<Notice> {
        let (reason, since) = self.known().unkept.clone()?;
        Some(Notice {
            code: "agent.degraded".to_owned(),
            health: Health::Warning,
            message: format!(
                "what is known of the clock can't be kept, so one that jumps would not be noticed: \
                 {reason}"
            ),
            since,
            hint: Some(
                "make the file readable and writable for its owner, or remove it".to_owned(),
            ),
        })
    }

    fn has_word(&self) -> bool {
        let elapsed = self.clock.uptime().elapsed;
        let known = self.known();
        known.word.as_ref().is_some_and(|it| elapsed.saturating_sub(it.said_at) < WORD_HOLDS)
    }

    fn is_left_alone(&self, ca: &CaName) -> bool {
        let elapsed = self.clock.uptime().elapsed;
        self.known().wordless.get(ca).is_some_and(|until| elapsed < *until)
    }

    async fn note(&self, record: ClockRecord) -> Result<(), StorageError> {
        self.store.save_clock_record(&record).await?;
        self.known().record = Some(record);
        Ok(())
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timekeeper").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Lifecycle {
    /// Sees to it that the clock is known to be right, or not to be, where an order may follow.
    pub(super) async fn attend_clock(
        &self,
        spec: &CertificateSpec,
        asked: Asked,
    ) -> Result<(), StorageError> {
        if !asked.may_renew() {
            return Ok(());
        }
        // A CA of our own has our own clock, and costs nobody anything.
        for ca in &spec.cas {
            let Some(client) = self.issuer.clients.get(ca) else { continue };
            let ask = || async {
                match tokio::time::timeout(ANSWER_LIMIT, client.time()).await {
                    Ok(Ok(time)) => time.map_or(Said::NoTime, Said::Time),
                    Ok(Err(_)) | Err(_) => Said::Nothing,
                }
            };
            // One that has gone away gets no order; the next, which would, is asked instead.
            if self.timekeeper.attend(ca, ask).await? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreSettings;
    use crate::sys::clock::ManualClock;

    const DAY: Duration = Duration::from_secs(86_400);

    struct World {
        keeper: Timekeeper,
        clock: Arc<ManualClock>,
        _folder: tempfile::TempDir,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            state_dir: folder.path().join("state"),
            run_dir: folder.path().join("run"),
        };
        let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let store = Store::open(&settings, clock.clone(), Duration::ZERO).await.unwrap();
        let keeper = Timekeeper::new(Arc::new(store), clock.clone());
        World { keeper, clock, _folder: folder }
    }

    impl World {
        async fn attend(&self, theirs: Option<Timestamp>) -> Option<ClockDoubt> {
            let ca = "lab".parse().unwrap();
            let said = theirs.map_or(Said::NoTime, Said::Time);
            self.keeper.attend(&ca, || async { said }).await.unwrap();
            self.keeper.doubt()
        }

        async fn unasked(&self) -> Option<ClockDoubt> {
            let ca = "lab".parse().unwrap();
            let ask = || async { panic!("nobody is asked") };
            self.keeper.attend(&ca, ask).await.unwrap();
            self.keeper.doubt()
        }
    }

    /// T01: ten years ahead, then back.
    #[tokio::test]
    async fn a_clock_that_jumps_ahead_is_doubted_until_it_is_put_right() {
        let world = world().await;
        assert_eq!(world.unasked().await, None);
        let right = world.clock.now();
        world.clock.step(right.saturating_add(DAY * 3650));
        let doubt = world.attend(Some(right)).await.unwrap();
        assert_eq!((doubt.theirs, doubt.lets_pass), (right, true));
        assert!(world.keeper.notice().unwrap().message.contains("that of lab says 2026-11-23"));
        for _ in 0..3 {
            assert!(world.unasked().await.unwrap().lets_pass);
            assert!(world.keeper.let_pass().await.unwrap());
        }
        assert!(!world.unasked().await.unwrap().lets_pass);
        assert!(!world.keeper.let_pass().await.unwrap());
        // The CA's word goes on with the machine's own time, and is asked for again after a while.
        world.clock.advance(WORD_HOLDS);
        assert_eq!(world.keeper.doubt().unwrap().theirs, right.saturating_add(WORD_HOLDS));
        assert!(world.attend(None).await.is_none(), "nobody says that it is wrong");
        world.clock.step(right.saturating_add(WORD_HOLDS));
        assert_eq!(world.unasked().await, None);
        assert_eq!(world.keeper.notice(), None);
    }

    /// T01: many are due at once by a clock that jumps.
    #[tokio::test]
    async fn of_many_at_once_no_more_pass_than_one_after_the_other() {
        let world = world().await;
        world.unasked().await;
        let right = world.clock.now();
        world.clock.step(right.saturating_add(DAY * 3650));
        world.attend(Some(right)).await.unwrap();
        let passing = futures_util::future::join_all((0..20).map(|_| world.keeper.let_pass()));
        let passed = passing.await.into_iter().filter(|it| *it.as_ref().unwrap()).count();
        assert_eq!(passed, 3);
    }

    /// T01: the network comes after renewd.
    #[tokio::test]
    async fn a_ca_that_does_not_answer_is_asked_again_before_it_could_take_many_orders() {
        let world = world().await;
        world.unasked().await;
        let right = world.clock.now();
        world.clock.step(right.saturating_add(DAY * 60));
        let ca = "lab".parse().unwrap();
        world.keeper.attend(&ca, || async { Said::Nothing }).await.unwrap();
        assert_eq!(world.unasked().await, None);
        world.clock.advance(SILENCE_HOLDS);
        assert!(world.attend(Some(right)).await.is_some());
    }

    /// T01: a CA that is silent frees no other of being asked, and takes nothing back that it said.
    #[tokio::test]
    async fn a_silent_ca_stands_in_nobodys_way() {
        let world = world().await;
        world.unasked().await;
        let right = world.clock.now();
        world.clock.step(right.saturating_add(DAY * 60));
        let gone = "gone".parse().unwrap();
        let is_enough = world.keeper.attend(&gone, || async { Said::Nothing }).await.unwrap();
        assert!(!is_enough);
        let is_enough = world.keeper.attend(&gone, || async { panic!("it is left alone") }).await;
        assert!(!is_enough.unwrap());
        assert!(world.attend(Some(right)).await.is_some());
        world.clock.advance(WORD_HOLDS);
        world.keeper.attend(&gone, || async { Said::NoTime }).await.unwrap();
        let lab = "lab".parse().unwrap();
        world.keeper.attend(&lab, || async { Said::Nothing }).await.unwrap();
        assert!(world.keeper.doubt().is_some());
    }

    /// T01: a clock that was wrong and is put right by a jump is believed as soon as the CA agrees.
    #[tokio::test]
    async fn a_jump_that_the_ca_agrees_with_is_no_fault() {
        let world = world().await;
        world.unasked().await;
        let later = world.clock.now().saturating_add(DAY * 30);
        world.clock.step(later);
        assert_eq!(world.attend(Some(later)).await, None);
        assert_eq!(world.unasked().await, None);
    }

    /// T02: a day back, and to 1970.
    #[tokio::test]
    async fn a_clock_that_goes_back_is_told_of() {
        let world = world().await;
        world.unasked().await;
        let right = world.clock.now();
        for wrong in [right.saturating_sub(DAY), Timestamp::EPOCH] {
            world.clock.step(wrong);
            assert_eq!(world.attend(None).await, None);
            let notice = world.keeper.notice().unwrap();
            assert!(notice.message.contains("was right at 2026-11-23T10:00:00Z"), "{notice:?}");
        }
        world.clock.step(right);
        assert_eq!(world.keeper.notice(), None);
    }

    /// T04: asleep for 20 days.
    #[tokio::test]
    async fn a_machine_that_slept_asks_nobody() {
        let world = world().await;
        world.unasked().await;
        world.clock.advance(DAY * 20);
        assert_eq!(world.unasked().await, None);
    }
}
