//! What the scheduler knows of each certificate: when to wake for it, and who waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::assemble::WorkReport;
use crate::model::{CertificateName, CertificateStatus, RenewalCondition, Timestamp};
use crate::plan::Asked;

/// One certificate's place in the schedule.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// When there may be something to do.
    pub(super) wake_at: Option<Timestamp>,
    /// Whether its work runs now.
    pub(super) is_running: bool,
    /// What a human asked for and was not begun yet.
    pub(super) asked: Option<Asked>,
    /// How it stood when last looked at.
    pub(super) status: Option<CertificateStatus>,
    /// Panics in a row.
    pub(super) panics: u32,
    /// Who waits for the next run to end.
    waiting: Vec<oneshot::Sender<WorkReport>>,
    /// Who waits for the present run to end.
    served: Vec<oneshot::Sender<WorkReport>>,
}

/// All certificates of the configuration in force.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: BTreeMap<CertificateName, Entry>,
}

impl Schedule {
    /// Takes `names` in, to be looked at at once, and forgets all others but those at work.
    pub(super) fn set_names(&mut self, names: &[CertificateName]) {
        self.set_known(names);
        for name in names {
            self.entries.entry(name.clone()).or_default().wake_at = Some(Timestamp::EPOCH);
        }
    }

    /// Forgets what is neither in `names` nor at work.
    pub(super) fn set_known(&mut self, names: &[CertificateName]) {
        self.entries.retain(|name, entry| names.contains(name) || entry.is_running);
    }

    /// The entry of `name`.
    pub(super) fn get_mut(&mut self, name: &CertificateName) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// All entries, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&CertificateName, &Entry)> {
        self.entries.iter()
    }

    /// The names whose work is to begin now: what humans asked for first, then what ends soonest.
    pub(super) fn due(&self, now: Timestamp) -> Vec<CertificateName> {
        let is_due = |entry: &Entry| {
            !entry.is_running
                && (entry.asked.is_some() || entry.wake_at.is_some_and(|it| it <= now))
        };
        let mut due: Vec<_> = self.entries.iter().filter(|(_, entry)| is_due(entry)).collect();
        due.sort_by_key(|(_, entry)| {
            let not_after = entry.status.as_ref().and_then(|it| it.not_after);
            (entry.asked.is_none(), not_after.unwrap_or(Timestamp::EPOCH))
        });
        due.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// How long to sleep from `now` until the next entry can begin; never longer than `longest`.
    ///
    /// While no slot is free, nothing can: the end of what runs wakes the scheduler.
    pub(super) fn sleep(&self, now: Timestamp, longest: Duration, free_slots: usize) -> Duration {
        if free_slots == 0 {
            return longest;
        }
        let idle = self.entries.values().filter(|it| !it.is_running);
        let next = idle.filter_map(|it| it.wake_at).min();
        next.map_or(longest, |it| it.since(now).min(longest))
    }
}

impl Entry {
    /// Has `reply` told of the next run, which is to do what is `asked`; the stronger wish counts.
    pub(super) fn ask(&mut self, asked: Asked, reply: oneshot::Sender<WorkReport>) {
        self.asked = self.asked.max(Some(asked));
        self.waiting.push(reply);
    }

    /// How it stands, with the renewal that runs now said so.
    pub(super) fn running_status(&self) -> Option<CertificateStatus> {
        let mut status = self.status.clone()?;
        if self.is_running && status.renewal == RenewalCondition::Due {
            status.renewal = RenewalCondition::Running;
        }
        Some(status)
    }

    /// Begins a run: what was asked for, and for whom, is taken.
    pub(super) fn begin(&mut self) -> Asked {
        self.is_running = true;
        self.wake_at = None;
        self.served.append(&mut self.waiting);
        self.asked.take().unwrap_or(Asked::ByTime)
    }

    /// Ends a run: whoever waited for it is told.
    pub(super) fn end(&mut self, report: &WorkReport, wake_at: Timestamp) {
        self.is_running = false;
        self.wake_at = Some(wake_at);
        for reply in self.served.drain(..) {
            // Who asked may have gone away.
            drop(reply.send(report.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn name(text: &str) -> CertificateName {
        text.parse().unwrap()
    }

    fn schedule(names: &[&str]) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.set_names(&names.iter().map(|it| name(it)).collect::<Vec<_>>());
        schedule
    }

    fn report(of: &str) -> WorkReport {
        WorkReport { name: name(of), renewed: false, failures: Vec::new(), status: None }
    }

    #[test]
    fn what_runs_is_not_begun_again_and_wakes_nobody() {
        let mut schedule = schedule(&["a", "b"]);
        schedule.get_mut(&name("a")).unwrap().begin();
        assert_eq!(schedule.due(at(0)), [name("b")]);
        schedule.get_mut(&name("b")).unwrap().begin();
        assert_eq!(schedule.sleep(at(0), Duration::from_secs(30), 1), Duration::from_secs(30));
    }

    #[test]
    fn it_sleeps_until_the_next_moment_and_never_longer_than_allowed() {
        let mut schedule = schedule(&["a", "b"]);
        for (of, wake_at) in [("a", 100), ("b", 110)] {
            let entry = schedule.get_mut(&name(of)).unwrap();
            entry.begin();
            entry.end(&report(of), at(wake_at));
        }
        assert_eq!(schedule.sleep(at(95), Duration::from_secs(30), 1), Duration::from_secs(5));
        assert_eq!(schedule.sleep(at(0), Duration::from_secs(30), 1), Duration::from_secs(30));
        assert_eq!(schedule.sleep(at(200), Duration::from_secs(30), 1), Duration::ZERO);
        assert_eq!(schedule.due(at(100)), [name("a")]);
    }

    #[test]
    fn what_is_due_and_finds_no_slot_does_not_keep_the_scheduler_awake() {
        let schedule = schedule(&["a"]);
        assert_eq!(schedule.sleep(at(5), Duration::from_secs(30), 0), Duration::from_secs(30));
        assert_eq!(schedule.sleep(at(5), Duration::from_secs(30), 1), Duration::ZERO);
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
        entry.end(&report("a"), at(1000));
        assert!(answer.try_recv().is_err());
        assert_eq!(schedule.due(at(0)), [name("a")]);
        let entry = schedule.get_mut(&name("a")).unwrap();
        assert_eq!(entry.begin(), Asked::Forced, "the stronger wish counts");
        entry.end(&report("a"), at(1000));
        assert_eq!(answer.try_recv().unwrap().name, name("a"));
    }

    #[test]
    fn a_certificate_that_is_wanted_no_more_is_forgotten_when_its_work_ends() {
        let mut schedule = schedule(&["a", "b"]);
        schedule.get_mut(&name("a")).unwrap().begin();
        schedule.set_names(&[name("c")]);
        let left: Vec<_> = schedule.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(left, ["a", "c"]);
    }
}
