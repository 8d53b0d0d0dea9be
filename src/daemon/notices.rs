//! What is wrong with the agent itself, as the status shows it: made afresh from what is wrong in
//! this moment, so that nothing stays when it is over.
//!
//! Not here: what the configuration alone shows ([`crate::assemble`]).

use crate::model::{AGENT_BEHIND, Health, Notice, STATE_UNUSABLE, Timestamp};

use super::entry::{Breakdown, Broken, Schedule};

/// What to do about work that panicked.
pub(super) const FAULT_HINT: &str = "report this with the log: it is a fault of renewd";
/// What to do about work that did not end.
pub(super) const OVERDUE_HINT: &str = "see whether a mount hangs, below the state directory or where files are installed, or a \
     resolver; it is tried again. If nothing does, report this with the log: it is a fault of renewd";
/// Faults of ours at so many certificates are shown singly.
const MAX_FAULTS: usize = 20;

/// What keeps the work on certificates of `schedule` from being done at all, or in time, at `now`.
pub(super) fn of(schedule: &Schedule, now: Timestamp) -> Vec<Notice> {
    let broken = |kind| {
        schedule.iter().filter_map(move |(name, entry)| {
            Some((name, entry.broken.as_ref().filter(|it| it.kind == kind)?))
        })
    };
    let faults = [
        (Breakdown::Panic, "panicked", FAULT_HINT),
        (Breakdown::Overdue, "did not end", OVERDUE_HINT),
    ];
    let mut notices: Vec<Notice> = faults
        .into_iter()
        .flat_map(|(kind, what, hint)| broken(kind).map(move |it| (it, what, hint)))
        .take(MAX_FAULTS)
        .map(|((name, it), what, hint)| Notice {
            code: "agent.degraded".to_owned(),
            health: Health::Warning,
            message: format!("the work on {name} {what}{}", in_a_row(it.count)),
            since: it.since,
            hint: Some(hint.to_owned()),
        })
        .collect();
    // One cause, one notice: a full disk is a trouble of all certificates.
    let all: Vec<&Broken> = broken(Breakdown::Storage).map(|(_, it)| it).collect();
    notices.extend(all.first().map(|first| Notice {
        code: STATE_UNUSABLE.to_owned(),
        health: Health::Critical,
        message: match all.len() {
            1 => format!("1 certificate stands still: {}", first.failure.message),
            count => format!("{count} certificates stand still: {}", first.failure.message),
        },
        since: all.iter().map(|it| it.since).fold(first.since, Timestamp::min),
        hint: first.failure.hint.clone(),
    }));
    notices.extend(schedule.longest_wait(now).map(|(count, since)| Notice {
        code: AGENT_BEHIND.to_owned(),
        health: Health::Warning,
        message: match count {
            1 => format!("1 certificate waits for its turn, since {since}"),
            _ => format!("{count} certificates wait for their turn, the first since {since}"),
        },
        since,
        hint: Some(
            "see in the log what takes so long; `parallel` says how many have it".to_owned(),
        ),
    }));
    notices
}

/// A new configuration was refused for `faults`, first at `since`.
pub(super) fn rejected(faults: &str, since: Timestamp) -> Notice {
    Notice {
        code: "config.rejected".to_owned(),
        health: Health::Warning,
        message: format!(
            "the configuration was refused, the old one stays: {}",
            faults.lines().map(str::trim).collect::<Vec<_>>().join("; ")
        ),
        since,
        hint: Some("run `renewd check`, mend what it names, and run `renewd reload`".to_owned()),
    }
}

/// How often, where it was more than once.
fn in_a_row(count: u32) -> String {
    if count > 1 { format!(" {count} times in a row") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{CertificateName, Failure};

    #[test]
    fn each_panic_is_shown_singly_and_a_broken_store_once_until_they_are_over() {
        let names = ["a", "b", "c", "d", "e"].map(|it| it.parse::<CertificateName>().unwrap());
        let mut schedule = Schedule::default();
        schedule.set_names(&names.iter().cloned().collect::<BTreeSet<_>>());
        let [panic, storage] = [Breakdown::Panic, Breakdown::Storage];
        let kinds = [Breakdown::Overdue, storage, panic, storage, panic];
        for (name, kind) in names.iter().zip(kinds) {
            let message = format!("no room for {name}");
            let failure =
                Failure { at: Timestamp::EPOCH, code: "x".to_owned(), message, hint: None };
            schedule.get_mut(name).unwrap().break_down(kind, failure);
        }
        let texts: Vec<_> =
            of(&schedule, Timestamp::EPOCH).into_iter().map(|it| it.message).collect();
        assert_eq!(
            texts,
            [
                "the work on c panicked",
                "the work on e panicked",
                "the work on a did not end",
                "2 certificates stand still: no room for b",
            ]
        );
        let is_our_fault = |it: &Notice| it.hint.as_deref() == Some(FAULT_HINT);
        let ours: Vec<_> = of(&schedule, Timestamp::EPOCH).iter().map(is_our_fault).collect();
        assert_eq!(ours, [true, true, false, false], "what does not end may hang on a mount");
        for name in &names {
            schedule.get_mut(name).unwrap().broken = None;
        }
        assert_eq!(of(&schedule, Timestamp::EPOCH), []);
    }
}
