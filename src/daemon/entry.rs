//! What the scheduler knows of each certificate: when to wake for it, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::assemble::WorkReport;
use crate::model::{
    CaName, CertificateName, CertificateStatus, Failure, RenewalCondition, Timestamp,
};
use crate::observe::alert::ACCOUNT_CODES;
use crate::plan::Asked;

use super::turn::{self, Due, Slots};

/// Who waits longer for a turn is told of: nothing that takes minutes is missed by a quarter of an
/// hour.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// How far one certificate is in the daemon's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was never looked at: what it left is to be put in order first.
    #[default]
    New,
    /// It is put in order, and looked at, now.
    Entering,
    /// Nothing runs for it.
    Idle,
    /// Its work runs now.
    Working,
}

/// Why the work on a certificate came to nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakdown {
    /// It panicked.
    Panic,
    /// It did not end, and was given up.
    Overdue,
    /// The state directory can't be used.
    Storage,
}

/// What keeps the work on a certificate from being done at all, until a run goes through.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// Of which kind.
    pub(super) kind: Breakdown,
    /// How many runs in a row.
    pub(super) count: u32,
    /// The last of them.
    pub(super) failure: Failure,
    /// Since when.
    pub(super) since: Timestamp,
}

/// One certificate's place in the schedule.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// When there may be something to do.
    pub(super) wake_at: Option<Timestamp>,
    /// When the pause after its last run ends, whatever wakes it before.
    pause_ends_at: Option<Timestamp>,
    /// Since when it waits for its turn, as was noted last.
    due_since: Option<Timestamp>,
    /// What happens to it now.
    pub(super) stage: Stage,
    /// What humans asked for and was not begun yet; a run each.
    wishes: Vec<Wish>,
    /// How it stood when last looked at.
    pub(super) status: Option<CertificateStatus>,
    /// What keeps its work from being done at all.
    pub(super) broken: Option<Broken>,
    /// What the present run, or the last one, was begun for.
    begun_for: Option<Asked>,
    /// Whether something changed since the present run began, which that run may have missed.
    changed_meanwhile: bool,
    /// Who waits for the present run to end.
    served: Vec<oneshot::Sender<WorkReport>>,
    /// How many runs have ended.
    ended: u64,
}

/// What a human asked for, and whoever waits for it.
#[derive(Debug)]
struct Wish {
    asked: Asked,
    waiting: Vec<oneshot::Sender<WorkReport>>,
}

/// All certificates of the configuration in force.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: BTreeMap<CertificateName, Entry>,
}

impl Schedule {
    /// Takes `names` in, to be looked at at once, and forgets all others but those at work.
    pub(super) fn set_names(&mut self, names: &BTreeSet<CertificateName>) {
        self.entries.retain(|name, entry| names.contains(name) || entry.is_running());
        for name in names {
            self.entries.entry(name.clone()).or_default().wake();
        }
    }

    /// Forgets `name`, unless its work runs.
    pub(super) fn forget(&mut self, name: &CertificateName) {
        self.entries.retain(|known, entry| known != name || entry.is_running());
    }

    /// Has all certificates tried at once that wait for the account at `ca`, whatever their pauses.
    pub(super) fn account_mended(&mut self, ca: &CaName) {
        for entry in self.entries.values_mut() {
            let waits = entry.status.as_ref().is_some_and(|it| {
                let code = it.error_code.as_deref();
                it.failing_ca.as_ref() == Some(ca)
                    && code.is_some_and(|it| ACCOUNT_CODES.contains(&it))
            });
            if waits {
                entry.wish(Asked::ByName, None);
            }
        }
    }

    /// The entry of `name`.
    pub(super) fn get_mut(&mut self, name: &CertificateName) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// All entries, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&CertificateName, &Entry)> {
        self.entries.iter()
    }

    /// At most `count` names that were never looked at.
    pub(super) fn new_ones(&self, count: usize) -> Vec<CertificateName> {
        let new = self.entries.iter().filter(|(_, entry)| entry.stage == Stage::New);
        new.take(count).map(|(name, _)| name.clone()).collect()
    }

    /// Whether every certificate was looked at since it came in.
    pub(super) fn is_whole(&self) -> bool {
        self.entries.values().all(|it| !matches!(it.stage, Stage::New | Stage::Entering))
    }

    /// Whether the work on every certificate was done since it last was to be looked at.
    pub(super) fn had_a_round(&self) -> bool {
        self.entries.values().all(|it| it.wake_at.is_some_and(|at| at > Timestamp::EPOCH))
    }

    /// Whether the work on every certificate was done or is being done.
    pub(super) fn had_turns(&self) -> bool {
        let had_turn = |it: &Entry| {
            it.stage == Stage::Working || it.wake_at.is_some_and(|at| at > Timestamp::EPOCH)
        };
        self.entries.values().all(had_turn)
    }

    /// The names whose work is to begin now, with `limit` slots of which `free` are free.
    pub(super) fn due(&self, now: Timestamp, limit: usize, free: usize) -> Vec<CertificateName> {
        if free == 0 {
            return Vec::new();
        }
        let due = self.entries.iter().filter_map(|(name, entry)| entry.due(name, now));
        let at_work = self.entries.values().filter(|it| it.stage == Stage::Working);
        let failed = at_work.filter(|it| it.has_failed()).count();
        turn::next(due.collect(), Slots { all: limit, free, failed }, now)
    }

    /// Has all looked at at once. What is remembered of pauses was of the old time: of one that was
    /// far ahead it would keep those from their turn who had none since.
    pub(super) fn clock_was_set(&mut self) {
        for entry in self.entries.values_mut() {
            entry.wake();
            entry.pause_ends_at = None;
            entry.due_since = None;
        }
    }

    /// Notes who waits for his turn at `now`, for [`Self::longest_wait`]. Who failed when he was
    /// tried last is none of them: his own trouble is told, and whoever is well comes before him.
    pub(super) fn note_waits(&mut self, now: Timestamp) {
        self.entries.values_mut().for_each(|it| it.note_wait(now));
    }

    /// How many certificates wait at `now` for longer than [`LONGEST_WAIT`] after they became due,
    /// and since when the first of them does.
    pub(super) fn longest_wait(&self, now: Timestamp) -> Option<(usize, Timestamp)> {
        let is_long = |since: &Timestamp| now.since(*since) > LONGEST_WAIT;
        let waits = |entry: &Entry| entry.due_since.filter(is_long);
        let all: Vec<_> = self.entries.values().filter_map(waits).collect();
        all.iter().min().map(|since| (all.len(), *since))
    }

    /// How long to sleep from `now` until the next entry is due; never longer than `longest`.
    ///
    /// What is due already and was not begun waits for other work to end, which wakes by itself.
    pub(super) fn sleep(&self, now: Timestamp, longest: Duration) -> Duration {
        let idle = self.entries.values().filter(|it| it.stage == Stage::Idle);
        let next = idle.filter_map(|it| it.wake_at).filter(|it| *it > now).min();
        next.map_or(longest, |it| it.since(now).min(longest))
    }
}

impl Entry {
    /// Whether something runs for it.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Entering | Stage::Working)
    }

    /// It as one of those whose work is to begin, if it is at `now`.
    fn due<'a>(&self, name: &'a CertificateName, now: Timestamp) -> Option<Due<'a>> {
        let is_wished = !self.wishes.is_empty();
        let is_awake = self.wake_at.is_some_and(|it| it <= now);
        if self.stage != Stage::Idle || !is_wished && !is_awake {
            return None;
        }
        // For a wish that is nobody's (an account was mended) a human does not wait.
        let is_asked = self.wishes.iter().any(|it| !it.waiting.is_empty());
        let not_after = self.status.as_ref().and_then(|it| it.not_after);
        let has_failed = self.has_failed();
        // A reload wakes all: those that just had their turn would have it again.
        let since = self.pause_ends_at.unwrap_or(Timestamp::EPOCH);
        Some(Due { name, is_asked, has_failed, not_after, since })
    }

    fn note_wait(&mut self, now: Timestamp) {
        let is_due = match self.stage {
            Stage::New => true,
            Stage::Idle => !self.wishes.is_empty() || self.wake_at.is_some_and(|it| it <= now),
            Stage::Entering | Stage::Working => false,
        };
        // Whoever was woken waits since he is first found awake, if not for longer.
        let since = self.due_since.or_else(|| self.due_at()).map_or(now, |it| it.min(now));
        self.due_since = (is_due && !self.has_failed()).then_some(since);
    }

    /// When it becomes due by itself; nothing where it was woken.
    fn due_at(&self) -> Option<Timestamp> {
        self.wake_at.filter(|it| *it > Timestamp::EPOCH)
    }

    /// Whether something of it failed when it was last tried.
    fn has_failed(&self) -> bool {
        self.broken.is_some() || self.status.as_ref().is_some_and(|it| it.error_code.is_some())
    }

    /// Has it looked at at once; after the present run, if there is one.
    pub(super) fn wake(&mut self) {
        self.due_since = self.due_since.or_else(|| self.due_at());
        self.wake_at = Some(Timestamp::EPOCH);
        self.changed_meanwhile = self.is_running();
    }

    /// Has `reply` told of the first run from now on that does what is `asked`, among other things
    /// perhaps. What no single run can do takes two.
    pub(super) fn ask(&mut self, asked: Asked, reply: oneshot::Sender<WorkReport>) {
        self.wish(asked, Some(reply));
    }

    fn wish(&mut self, asked: Asked, reply: Option<oneshot::Sender<WorkReport>>) {
        if let Some(wish) = self.wishes.iter_mut().find(|it| it.asked.covers(asked)) {
            wish.waiting.extend(reply);
            return;
        }
        let mut waiting = Vec::new();
        for covered in self.wishes.extract_if(.., |it| asked.covers(it.asked)) {
            waiting.extend(covered.waiting);
        }
        waiting.extend(reply);
        self.wishes.push(Wish { asked, waiting });
    }

    /// How many runs have ended: see [`Self::looked`].
    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    /// Takes in what a look found that began when `ended` runs had ended. Where something ran
    /// since, or runs now, that knows better.
    pub(super) fn looked(&mut self, ended: u64, status: CertificateStatus, wake_at: Timestamp) {
        if self.stage == Stage::Idle && self.ended == ended {
            self.due_since = self.due_since.or_else(|| self.due_at());
            self.wake_at = Some(self.wake_at.unwrap_or(Timestamp::MAX).min(wake_at));
            self.status = Some(status);
        }
    }

    /// How it stands at `now`, with the renewal that runs said so. One that failed stays what it
    /// is until a try succeeds: alerts are decided from this, and would be over at each try.
    pub(super) fn running_status(&self, now: Timestamp) -> Option<CertificateStatus> {
        let mut status = self.status.clone()?;
        let asked = self.begun_for.filter(|it| self.stage == Stage::Working && it.may_renew());
        let is_renewed = asked.is_some_and(|asked| match status.renewal {
            RenewalCondition::Due => true,
            // It was looked at before it became due.
            RenewalCondition::Idle => {
                asked.is_forced() || status.renew_at.is_some_and(|it| it <= now)
            }
            _ => false,
        });
        if is_renewed {
            status.renewal = RenewalCondition::Running;
        }
        Some(status)
    }

    /// Begins to put it in order.
    pub(super) fn enter(&mut self) {
        self.stage = Stage::Entering;
        self.due_since = None;
    }

    /// Begins a run: the first of what was asked for, and for whom, is taken.
    pub(super) fn begin(&mut self) -> Asked {
        self.stage = Stage::Working;
        self.wake_at = None;
        self.due_since = None;
        let asked = if self.wishes.is_empty() {
            Asked::ByTime
        } else {
            let wish = self.wishes.remove(0);
            self.served.extend(wish.waiting);
            wish.asked
        };
        self.begun_for = Some(asked);
        asked
    }

    /// Ends what ran: the next look comes at `wake_at`, or at once if something changed meanwhile.
    /// Returns who waited for it, and is still to be told.
    #[must_use]
    pub(super) fn end(&mut self, wake_at: Timestamp) -> Vec<oneshot::Sender<WorkReport>> {
        self.stage = Stage::Idle;
        self.pause_ends_at = Some(wake_at);
        self.ended = self.ended.saturating_add(1);
        let changed = std::mem::take(&mut self.changed_meanwhile);
        self.wake_at = Some(if changed { Timestamp::EPOCH } else { wake_at });
        std::mem::take(&mut self.served)
    }

    /// Takes note that a run came to nothing; returns how many did in a row.
    pub(super) fn break_down(&mut self, kind: Breakdown, failure: Failure) -> u32 {
        let known = self.broken.take().filter(|it| it.kind == kind);
        let (count, since) = known.map_or((0, failure.at), |it| (it.count, it.since));
        let count = count.saturating_add(1);
        self.broken = Some(Broken { kind, count, failure, since });
        count
    }
}

#[cfg(test)]
mod tests;
