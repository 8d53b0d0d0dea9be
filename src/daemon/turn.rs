//! Whose work begins next, of all that is due, so that nobody's trouble costs others their turn.
//!
//! # Rules
//!
//! 1. What humans asked for comes first.
//! 2. Of what is well, that comes first which has waited for more than [`PATIENCE`], and then that
//!    which ends soonest; what is missing has ended.
//! 3. What failed when it was last tried comes in the order in which its pauses ended: it may fail
//!    slowly and for ever, and would else come before all that end later.
//! 4. A quarter of the slots, and one at least, is for what is well; as many are for what failed.
//!    The rest is for what is well before what failed.
//! 5. Where there is but one slot, it is for whichever first of both kinds has waited longer.
//!
//! So a certificate that is well and due waits for others that are well, and for no more than one
//! round of those that are not.
//!
//! Not here: what is due ([`super::entry`]).

use std::time::Duration;

use crate::model::{CertificateName, Timestamp};

/// Longer than this nobody waits for others that end sooner and come again and again.
const PATIENCE: Duration = Duration::from_mins(5);

/// A certificate whose work is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due<'a> {
    /// Its name.
    pub(super) name: &'a CertificateName,
    /// Whether a human asked for it.
    pub(super) is_asked: bool,
    /// Whether something of it failed when it was last tried.
    pub(super) has_failed: bool,
    /// The last moment of what is held.
    pub(super) not_after: Option<Timestamp>,
    /// When its last pause ended, whatever woke it before.
    pub(super) since: Timestamp,
}

/// The slots for work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// How many there are.
    pub(super) all: usize,
    /// How many of them nobody has.
    pub(super) free: usize,
    /// How many are taken by what failed when it was last tried.
    pub(super) failed: usize,
}

impl Slots {
    /// How many are kept for each kind.
    fn kept(self) -> usize {
        (self.all / 4).max(1)
    }
}

/// The names of those of `due` that get the free ones of `slots` at `now`.
pub(super) fn next(due: Vec<Due<'_>>, slots: Slots, now: Timestamp) -> Vec<CertificateName> {
    let ends_at = |it: &Due<'_>| it.not_after.unwrap_or(Timestamp::EPOCH);
    let (mut asked, by_time): (Vec<_>, Vec<_>) = due.into_iter().partition(|it| it.is_asked);
    let (mut failed, mut well): (Vec<_>, Vec<_>) =
        by_time.into_iter().partition(|it| it.has_failed);
    asked.sort_by_key(ends_at);
    well.sort_by_key(|it| {
        let overdue_since = Some(it.since).filter(|it| now.since(*it) > PATIENCE);
        (overdue_since.is_none(), overdue_since, ends_at(it))
    });
    failed.sort_by_key(|it| it.since);
    let (before, after) = failed_ones(&failed, &well, slots);
    let all = asked.iter().chain(before).chain(&well).chain(after);
    all.take(slots.free).map(|it| it.name.clone()).collect()
}

/// Those of `failed` that come before all of `well`, and those that come after.
fn failed_ones<'a, 'b>(
    failed: &'a [Due<'b>],
    well: &[Due<'_>],
    slots: Slots,
) -> (&'a [Due<'b>], &'a [Due<'b>]) {
    if slots.all <= 1 {
        let waited_longer = |it: &Due<'_>| well.first().is_none_or(|other| it.since < other.since);
        let is_their_turn = failed.first().is_some_and(waited_longer);
        return if is_their_turn { (failed, &[]) } else { (&[], failed) };
    }
    let most = slots.all.saturating_sub(slots.kept()).saturating_sub(slots.failed);
    let failed = failed.get(..most).unwrap_or(failed);
    let first = slots.kept().saturating_sub(slots.failed);
    failed.split_at_checked(first).unwrap_or((failed, &[]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A certificate of a run in virtual time, in minutes.
    #[derive(Clone, Copy, Debug)]
    struct Played {
        has_failed: bool,
        not_after: i64,
        /// When it is due next.
        due_at: i64,
        /// How long its work takes, and how long after that it is due again.
        takes: i64,
        pause: i64,
    }

    /// A slow one that is never renewed, and so always the one that ends first.
    const FAILING: Played =
        Played { has_failed: true, not_after: 0, due_at: 0, takes: 5, pause: 5 };
    const WELL: Played =
        Played { has_failed: false, not_after: 90_000, due_at: 0, takes: 1, pause: 60_000 };

    /// Plays `all` for `minutes` with so many `slots`; returns when each began.
    fn play(all: &[Played], slots: usize, minutes: i64) -> Vec<Vec<i64>> {
        let names: Vec<CertificateName> =
            (0..all.len()).map(|it| format!("c{it}").parse().unwrap()).collect();
        let mut all = all.to_vec();
        let mut began = vec![Vec::new(); all.len()];
        let mut at_work: BTreeMap<usize, i64> = BTreeMap::new();
        for now in 0..minutes {
            at_work.retain(|_, ends_at| *ends_at > now);
            let is_due =
                |(index, it): &(usize, &Played)| it.due_at <= now && !at_work.contains_key(index);
            let due = all.iter().enumerate().filter(is_due).map(|(index, it)| Due {
                name: &names[index],
                is_asked: false,
                has_failed: it.has_failed,
                not_after: Some(Timestamp::from_unix_seconds(it.not_after)),
                since: Timestamp::from_unix_seconds(it.due_at * 60),
            });
            let failed = at_work.keys().filter(|it| all[**it].has_failed).count();
            let of = Slots { all: slots, free: slots - at_work.len(), failed };
            let clock = Timestamp::from_unix_seconds(now * 60);
            for name in next(due.collect(), of, clock) {
                let index = names.iter().position(|it| *it == name).unwrap();
                let it = &mut all[index];
                at_work.insert(index, now + it.takes);
                it.due_at = now + it.takes + it.pause;
                began[index].push(now);
            }
            assert!(at_work.len() <= slots);
        }
        began
    }

    #[test]
    fn however_many_fail_slowly_what_is_well_begins_when_it_is_due() {
        for slots in [2, 3, 8] {
            let mut all = vec![FAILING; 100];
            all.push(Played { due_at: 60, ..WELL });
            assert_eq!(play(&all, slots, 120)[100], [60], "{slots} slots");
        }
    }

    #[test]
    fn with_one_slot_what_is_well_waits_for_one_round_of_what_fails() {
        let mut all = vec![FAILING; 30];
        all.push(Played { due_at: 7, ..WELL });
        let began = play(&all, 1, 1000);
        assert!(began[30].len() == 1 && began[30][0] <= 7 + 30 * 5, "{began:?}");
    }

    #[test]
    fn of_those_that_fail_each_has_its_turn() {
        for slots in [1, 2, 8] {
            let began = play(&[FAILING; 30], slots, 1000);
            let counts = began.iter().map(Vec::len);
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            assert!(least > 0 && most - least <= 1, "{slots} slots: {least} to {most}");
        }
    }

    #[test]
    fn what_failed_is_tried_again_however_much_is_due_that_is_well() {
        for slots in [1, 2, 8] {
            let mut all = vec![Played { pause: 0, ..WELL }; 100];
            all.push(Played { due_at: 60, ..FAILING });
            let began = play(&all, slots, 1000);
            assert!(!began[100].is_empty(), "{slots} slots");
        }
    }

    #[test]
    fn of_what_is_well_each_has_its_turn_however_often_others_come_that_end_sooner() {
        for slots in [1, 2, 8] {
            let often = Played { pause: 5, not_after: 1, ..WELL };
            let mut all = vec![often; 100];
            all.push(Played { due_at: 60, ..WELL });
            let began = play(&all, slots, 300);
            assert!(!began[100].is_empty(), "{slots} slots");
        }
    }

    #[test]
    fn of_what_is_well_that_begins_first_which_ends_soonest() {
        let lives = [700, 0, 500];
        let all = lives.map(|not_after| Played { not_after, ..WELL });
        let began = play(&all, 1, 10);
        assert_eq!(began, [[2], [0], [1]]);
    }
}
