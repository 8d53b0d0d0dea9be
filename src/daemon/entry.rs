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
    /// What happens to it now.
    pub(super) stage: Stage,
    /// What humans asked for and was not begun yet; a run each.
    wishes: Vec<Wish>,
    /// How it stood when last looked at.
    pub(super) status: Option<CertificateStatus>,
    /// What keeps its work from being done at all.
    pub(super) broken: Option<Broken>,
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
        }
    }

    /// How many certificates wait at `now` for longer than [`LONGEST_WAIT`] after they became due,
    /// and since when the first of them does.
    pub(super) fn longest_wait(&self, now: Timestamp) -> Option<(usize, Timestamp)> {
        let waits = |entry: &Entry| {
            let since = entry.wake_at.filter(|_| entry.stage == Stage::Idle)?;
            let is_long = since > Timestamp::EPOCH && now.since(since) > LONGEST_WAIT;
            is_long.then_some(since)
        };
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

    /// Whether something of it failed when it was last tried.
    fn has_failed(&self) -> bool {
        self.broken.is_some() || self.status.as_ref().is_some_and(|it| it.error_code.is_some())
    }

    /// Has it looked at at once; after the present run, if there is one.
    pub(super) fn wake(&mut self) {
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

    /// Takes in what a look found that began when `ended` runs had ended. Where something ran since,
    /// or runs now, that knows better.
    pub(super) fn looked(&mut self, ended: u64, status: CertificateStatus, wake_at: Timestamp) {
        if self.stage == Stage::Idle && self.ended == ended {
            self.wake_at = Some(self.wake_at.unwrap_or(Timestamp::MAX).min(wake_at));
            self.status = Some(status);
        }
    }

    /// How it stands, with the renewal that runs now said so.
    pub(super) fn running_status(&self) -> Option<CertificateStatus> {
        let mut status = self.status.clone()?;
        if self.stage == Stage::Working && status.renewal == RenewalCondition::Due {
            status.renewal = RenewalCondition::Running;
        }
        Some(status)
    }

    /// Begins to put it in order.
    pub(super) fn enter(&mut self) {
        self.stage = Stage::Entering;
    }

    /// Begins a run: the first of what was asked for, and for whom, is taken.
    pub(super) fn begin(&mut self) -> Asked {
        self.stage = Stage::Working;
        self.wake_at = None;
        if self.wishes.is_empty() {
            return Asked::ByTime;
        }
        let wish = self.wishes.remove(0);
        self.served.extend(wish.waiting);
        wish.asked
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
mod tests {
    use super::*;
    use crate::observe::alert::testing::{failing, served};

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn name(text: &str) -> CertificateName {
        text.parse().unwrap()
    }

    fn schedule(names: &[&str]) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.set_names(&names.iter().map(|it| name(it)).collect());
        for it in names {
            let entry = schedule.get_mut(&name(it)).unwrap();
            entry.enter();
            tell(entry.end(at(0)), it);
        }
        schedule
    }

    /// Tells those who waited for the end of a run of the certificate called `of`.
    fn tell(waiting: Vec<oneshot::Sender<WorkReport>>, of: &str) {
        waiting.into_iter().for_each(|it| drop(it.send(report(of))));
    }

    fn report(of: &str) -> WorkReport {
        WorkReport { name: name(of), renewed: false, failures: Vec::new(), status: None }
    }

    #[test]
    fn what_runs_is_not_begun_again_and_wakes_nobody() {
        let mut schedule = schedule(&["a", "b"]);
        schedule.get_mut(&name("a")).unwrap().begin();
        assert_eq!(schedule.due(at(0), 9, 9), [name("b")]);
        schedule.get_mut(&name("b")).unwrap().begin();
        assert_eq!(schedule.sleep(at(0), Duration::from_secs(30)), Duration::from_secs(30));
    }

    #[test]
    fn it_sleeps_until_the_next_moment_and_never_longer_than_allowed() {
        let mut schedule = schedule(&["a", "b"]);
        for (of, wake_at) in [("a", 100), ("b", 110)] {
            let entry = schedule.get_mut(&name(of)).unwrap();
            entry.begin();
            tell(entry.end(at(wake_at)), of);
        }
        assert_eq!(schedule.sleep(at(95), Duration::from_secs(30)), Duration::from_secs(5));
        assert_eq!(schedule.sleep(at(0), Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(schedule.due(at(100), 9, 9), [name("a")]);
    }

    /// N02: of a thousand that are due at once a few begin, those that end first and what humans wait
    /// for before all others.
    #[test]
    fn of_many_that_are_due_those_begin_that_end_first_after_what_humans_asked_for() {
        let names: Vec<String> = (0..1000).map(|it| format!("c{it:04}")).collect();
        let mut schedule = schedule(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (index, of) in (0..).zip(&names) {
            let life = Duration::from_secs(1_000_000 - index);
            let status = served(of, Duration::ZERO, life);
            schedule.get_mut(&name(of)).unwrap().status = Some(status);
        }
        let (reply, _answer) = oneshot::channel();
        schedule.get_mut(&name("c0000")).unwrap().ask(Asked::ByName, reply);
        let begun = schedule.due(at(0), 9, 4);
        assert_eq!(begun, ["c0000", "c0999", "c0998", "c0997"].map(name));
        assert!(schedule.due(at(0), 9, 0).is_empty());
    }

    #[test]
    fn an_account_that_was_put_right_has_those_tried_that_wait_for_it() {
        let mut schedule = schedule(&["a", "b", "c"]);
        let lab: CaName = "lab".parse().unwrap();
        for (of, ca, code) in [
            ("a", "lab", "acme.account_refused"),
            ("b", "other", "acme.account_refused"),
            ("c", "lab", "acme.unavailable"),
        ] {
            let life = Duration::from_secs(1_000_000);
            let mut status = served(of, Duration::ZERO, life);
            status.failing_ca = Some(ca.parse().unwrap());
            status.error_code = Some(code.to_owned());
            let entry = schedule.get_mut(&name(of)).unwrap();
            entry.begin();
            tell(entry.end(at(1000)), of);
            entry.status = Some(status);
        }
        assert_eq!(schedule.due(at(0), 9, 9), []);
        schedule.account_mended(&lab);
        assert_eq!(schedule.due(at(0), 9, 9), [name("a")]);
        // And no sooner than what a human asked for.
        let (reply, _answer) = oneshot::channel();
        schedule.get_mut(&name("b")).unwrap().ask(Asked::ByName, reply);
        assert_eq!(schedule.due(at(0), 9, 1), [name("b")]);
        assert_eq!(schedule.get_mut(&name("a")).unwrap().begin(), Asked::ByName);
    }

    #[test]
    fn who_asks_during_a_run_hears_of_the_next_one() {
        let mut schedule = schedule(&["a"]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        entry.begin();
        let (reply, mut answer) = oneshot::channel();
        entry.ask(Asked::Forced, reply);
        let (second, _gone) = oneshot::channel();
        entry.ask(Asked::ByName, second);
        tell(entry.end(at(1000)), "a");
        assert!(answer.try_recv().is_err());
        assert_eq!(schedule.due(at(0), 9, 9), [name("a")]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        assert_eq!(entry.begin(), Asked::Forced, "the stronger wish counts");
        tell(entry.end(at(1000)), "a");
        assert_eq!(answer.try_recv().unwrap().name, name("a"));
    }

    #[test]
    fn of_wishes_that_no_single_run_can_do_none_is_dropped() {
        let runs = |wishes: &[Asked]| {
            let mut entry = Entry::default();
            let mut answers = Vec::new();
            for wish in wishes {
                let (reply, answer) = oneshot::channel();
                entry.ask(*wish, reply);
                answers.push(answer);
            }
            let mut runs = Vec::new();
            while !entry.wishes.is_empty() {
                runs.push(entry.begin());
                tell(entry.end(at(0)), "a");
            }
            assert!(answers.iter_mut().all(|it| it.try_recv().is_ok()), "all are told");
            runs
        };
        assert_eq!(runs(&[Asked::ByName, Asked::DeployPending]), [Asked::ByName]);
        assert_eq!(runs(&[Asked::DeployPending, Asked::ByName]), [Asked::ByName]);
        for both in [[Asked::ByTime, Asked::DeployPending], [Asked::Redeploy, Asked::ByName]] {
            assert_eq!(runs(&both), both);
        }
        let both = [Asked::Untrusted, Asked::Forced];
        assert_eq!(runs(&both), both);
        let all = [Asked::Untrusted, Asked::Redeploy, Asked::ForcedUntrusted, Asked::ByTime];
        assert_eq!(runs(&all), [Asked::ForcedUntrusted]);
    }

    #[test]
    fn a_look_that_began_before_a_run_ended_does_not_undo_what_that_found() {
        let status = |of| served(of, Duration::ZERO, DAY);
        let found = |entry: &Entry| entry.status.as_ref().map(|it| it.name.to_string());
        let mut entry = Entry::default();
        entry.enter();
        tell(entry.end(at(0)), "a");

        // A run begins and ends while the pass looks; one that began before it is the same.
        let before = entry.ended();
        entry.begin();
        entry.looked(before, status("during"), at(5));
        assert_eq!(found(&entry), None);
        entry.status = Some(status("run"));
        tell(entry.end(at(1000)), "a");
        entry.looked(before, status("before"), at(5));
        assert_eq!((found(&entry), entry.wake_at), (Some("run".to_owned()), Some(at(1000))));

        entry.looked(entry.ended(), status("after"), at(900));
        assert_eq!((found(&entry), entry.wake_at), (Some("after".to_owned()), Some(at(900))));
    }

    #[test]
    fn a_certificate_that_is_wanted_no_more_is_forgotten_when_its_work_ends() {
        let mut schedule = schedule(&["a", "b"]);
        schedule.get_mut(&name("a")).unwrap().begin();
        schedule.set_names(&BTreeSet::from([name("c")]));
        let left: Vec<_> = schedule.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(left, ["a", "c"]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        tell(entry.end(at(1000)), "a");
        schedule.forget(&name("a"));
        assert!(schedule.get_mut(&name("a")).is_none());
    }

    #[test]
    fn however_often_all_are_woken_those_that_fail_take_turns() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut schedule = schedule(&names);
        let all: BTreeSet<_> = names.iter().map(|it| name(it)).collect();
        let mut begun = Vec::new();
        for second in 0..6 {
            schedule.set_names(&all);
            for it in &names {
                let life = Duration::from_secs(1000);
                let status = failing(served(it, Duration::ZERO, life), life, "dns.not_visible");
                schedule.get_mut(&name(it)).unwrap().status = Some(status);
            }
            let due = schedule.due(at(second), 2, 1);
            let entry = schedule.get_mut(&due[0]).unwrap();
            entry.begin();
            tell(entry.end(at(second + 300)), due[0].as_str());
            begun.extend(due);
        }
        assert_eq!(begun.iter().cloned().collect::<BTreeSet<_>>(), all, "{begun:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_nobody_behind_those_who_had_a_turn_since() {
        let mut schedule = schedule(&["a", "b"]);
        for of in ["a", "b"] {
            let life = Duration::from_secs(1000);
            let entry = schedule.get_mut(&name(of)).unwrap();
            entry.status = Some(failing(served(of, Duration::ZERO, life), life, "dns.busy"));
            entry.begin();
            tell(entry.end(at(1_000_000)), of);
        }
        schedule.clock_was_set();
        assert_eq!(schedule.due(at(0), 2, 1), [name("a")]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        entry.begin();
        tell(entry.end(at(300)), "a");
        assert_eq!(schedule.due(at(300), 2, 1), [name("b")]);
    }

    #[test]
    fn who_waits_too_long_for_a_turn_is_told_of() {
        let mut schedule = schedule(&["a", "b", "c"]);
        for (of, wake_at) in [("a", 100), ("b", 1000), ("c", 200)] {
            let entry = schedule.get_mut(&name(of)).unwrap();
            entry.begin();
            tell(entry.end(at(wake_at)), of);
        }
        let minutes = |it: i64| at(100 + 60 * it);
        assert_eq!(schedule.longest_wait(minutes(15)), None);
        assert_eq!(schedule.longest_wait(minutes(16)), Some((1, at(100))));
        assert_eq!(schedule.longest_wait(minutes(17)), Some((2, at(100))));
        schedule.get_mut(&name("a")).unwrap().begin();
        assert_eq!(schedule.longest_wait(minutes(17)), Some((1, at(200))), "its turn has come");
    }

    #[test]
    fn what_is_due_and_finds_no_slot_sleeps_instead_of_spinning() {
        let schedule = schedule(&["a", "b"]);
        assert_eq!(schedule.due(at(200), 9, 0), []);
        assert_eq!(schedule.due(at(200), 9, 1), [name("a")]);
        assert_eq!(schedule.sleep(at(200), Duration::from_secs(30)), Duration::from_secs(30));
    }

    #[test]
    fn a_round_is_done_when_all_work_is() {
        let mut schedule = schedule(&["a", "b"]);
        for it in ["a", "b"] {
            assert!(!schedule.had_a_round());
            let entry = schedule.get_mut(&name(it)).unwrap();
            entry.begin();
            assert!(!schedule.had_a_round());
            tell(schedule.get_mut(&name(it)).unwrap().end(at(1000)), it);
        }
        assert!(schedule.had_a_round());
    }

    #[test]
    fn a_change_during_a_run_is_looked_at_when_the_run_ends() {
        let mut schedule = schedule(&["a"]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        entry.begin();
        entry.wake();
        tell(entry.end(at(1000)), "a");
        assert_eq!(schedule.due(at(1), 9, 9), [name("a")]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        entry.begin();
        tell(entry.end(at(1000)), "a");
        assert_eq!(schedule.due(at(1), 9, 9), []);
    }

    #[test]
    fn a_new_certificate_is_put_in_order_before_its_work_and_once() {
        let mut schedule = Schedule::default();
        schedule.set_names(&BTreeSet::from([name("a"), name("b")]));
        assert_eq!(schedule.due(at(0), 9, 9), []);
        assert_eq!(schedule.new_ones(1), [name("a")]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        entry.enter();
        assert!(!schedule.is_whole());
        assert_eq!(schedule.new_ones(9), [name("b")]);
        for it in ["a", "b"] {
            tell(schedule.get_mut(&name(it)).unwrap().end(at(0)), it);
        }
        assert!(schedule.is_whole());
        assert_eq!(schedule.due(at(0), 9, 9), [name("a"), name("b")]);
        schedule.set_names(&BTreeSet::from([name("a"), name("b")]));
        assert_eq!(schedule.new_ones(9), []);
    }

    #[test]
    fn breakdowns_of_one_kind_are_counted_in_a_row() {
        let mut entry = Entry::default();
        let failure = |at| Failure { at, code: String::new(), message: String::new(), hint: None };
        assert_eq!(entry.break_down(Breakdown::Panic, failure(at(1))), 1);
        assert_eq!(entry.break_down(Breakdown::Panic, failure(at(2))), 2);
        assert_eq!(entry.broken.as_ref().map(|it| it.since), Some(at(1)));
        assert_eq!(entry.break_down(Breakdown::Storage, failure(at(3))), 1);
    }
}
