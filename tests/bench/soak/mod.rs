//! Years in minutes: fleets of certificates of mixed lifetimes, at the scripted CA and by its
//! limits, with faults of all kinds by chance, a week without the CA, and incidents that replace a
//! part of all certificates at once.
//!
//! [`stack`] runs the whole of renewd, with files in memory; [`decisions`] runs what it decides by
//! (`plan`, the state of each certificate) for fleets that would take too long otherwise. Shared by
//! the bench, which prints the figures, and by `tests/catalogue/seasons.rs`, which holds small
//! ones.

pub(crate) mod decisions;
pub(crate) mod stack;

use std::fmt;
use std::time::Duration;

use renewd::model::Timestamp;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A fleet and its fate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// How many certificates.
    pub(crate) certificates: usize,
    /// For how long.
    pub(crate) days: u32,
    /// What happens by chance.
    pub(crate) seed: u64,
    /// When the CA is gone for a week; a day.
    pub(crate) outage: u32,
    /// When a part of all certificates is to be replaced at once; a day.
    pub(crate) incident: u32,
}

/// How long the CA is gone.
pub(crate) const OUTAGE: Duration = Duration::from_secs(7 * 86_400);

/// The profile of the certificate number `index`: six in ten live 90 days, three 45, one 6.
pub(crate) const fn profile(index: usize) -> (&'static str, u32) {
    match index % 10 {
        0..=5 => ("default", 90),
        6..=8 => ("medium", 45),
        _ => ("short", 6),
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) issued: u64,
    pub(crate) orders: u64,
    pub(crate) failures: u64,
    pub(crate) polls: u64,
    pub(crate) works: u64,
    /// How many certificates expired before there was another, and the CA was gone too long.
    pub(crate) lost_to_outages: u64,
    /// The same although the CA was there for a fair share of what was left: never.
    pub(crate) lost: Vec<String>,
    /// How often one of the CA's own limits was run into: never.
    pub(crate) limited: u64,
    /// The most orders of one certificate in a day, while the CA was there.
    pub(crate) orders_a_day: u64,
    /// Resident memory in KiB and open descriptors, by the day.
    pub(crate) footprint: Vec<(u32, u64, usize)>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  work done         {}", self.works)?;
        writeln!(f, "  advice asked for  {}", self.polls)?;
        writeln!(f, "  orders            {}", self.orders)?;
        writeln!(f, "  certificates made {}", self.issued)?;
        writeln!(f, "  failed tries      {}", self.failures)?;
        writeln!(f, "  orders a day      {} at most for one certificate", self.orders_a_day)?;
        writeln!(f, "  limits run into   {}", self.limited)?;
        writeln!(f, "  expired           {}", self.lost.len())?;
        writeln!(f, "  … for want of CA  {}", self.lost_to_outages)?;
        for (day, memory, descriptors) in &self.footprint {
            writeln!(f, "  day {day:>4}: {memory:>7} KiB resident, {descriptors} descriptors")?;
        }
        Ok(())
    }
}

impl Figures {
    /// Notes the footprint of this process.
    pub(crate) fn note_footprint(&mut self, day: u32) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
        let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        self.footprint.push((day, memory, descriptors));
    }

    /// What must hold of every fate.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.lost.is_empty(), "expired: {:#?}\n{self}", self.lost);
        assert_eq!(self.limited, 0, "limits were run into\n{self}");
        assert!(self.issued > 0 && self.failures > 0, "nothing happened\n{self}");
        assert!(self.orders_a_day <= 12, "too many orders for one\n{self}");
    }
}

/// When a certificate of this life is due by itself.
pub(crate) fn usual(from: Timestamp, until: Timestamp) -> Timestamp {
    let life = until.since(from);
    let share = if life < 10 * DAY { life / 2 } else { life / 3 * 2 };
    from.saturating_add(share)
}

/// Whether the CA was there for less than half of the time between `due` and `end`, but for an
/// outage from `gone` on.
pub(crate) fn was_gone(due: Timestamp, end: Timestamp, gone: Timestamp) -> bool {
    let back = gone.saturating_add(OUTAGE);
    let absent = end.min(back).since(due.max(gone));
    absent > end.since(due) / 2
}
