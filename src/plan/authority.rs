//! Decides which CA of a certificate's list is asked now, and why.
//!
//! The first of the list is the operator's choice; the others stand in for it. What each of them
//! last said and how it failed is its own: one CA's Retry-After and pauses bind nobody who asks
//! another. All of it counts from the last new certificate on, whoever that came from.
//!
//! # Rules
//!
//! 1. The first CA is always asked first: at each renewal anew, and again whenever its pause is
//!    over. A certificate of a stand-in is no reason to renew, so nothing goes to and fro.
//! 2. A CA is passed by while it has to be waited for and its turn is over. Then the next one is
//!    asked, and so on; what all of them make us wait for is the earliest that can happen.
//! 3. Our own faults end nobody's turn: another CA would find the same. But where it is the proofs
//!    that we can't show, a CA that wants none (the built-in one) would not: then each that wants
//!    them has its turn end as after failed proofs (rules 5 and 7), so that nobody but those that
//!    want none is asked. All of one certificate are shown the same proofs, by the same solvers;
//!    that one of them may remember an earlier proof is not known before it is asked.
//! 4. With a usable certificate nothing is hurried. A turn ends when the CA has failed for 1/24 of
//!    the life, so in time before the alarm (1/12); or the warning share or the last sixth of the
//!    life begins, whichever is earlier. That holds for outages and refusals alike: while a human
//!    may still mend a refusal, it is his choice that counts.
//! 5. What the CA found of our proofs another will most likely find too: only the warning share or
//!    the last sixth ends a turn for that. CAs look from different places, so late in life it is
//!    tried.
//! 6. A CA that can't be asked before its turn ends, by its own word (Retry-After) or by what is
//!    known of its limits, has lost its turn at once: there is nothing to wait for.
//! 7. Without a usable certificate (none, expired, revoked, or without a wanted identifier) a turn
//!    ends with the first refusal, the second outage, the fourth failed proof; and at once where
//!    the CA's own word is longer than our pause.
//! 8. An order that is under way goes on at its CA, which is asked before all others; when it has
//!    to be passed by, the order is set aside, and gone on with when it is that CA's turn again.
//!
//! # Not here
//!
//! Whether anything is due ([`super::renewal`]); the pauses ([`super::backoff`]); which CAs may be
//! asked at all: one for tests may not where it would replace what came from a real one.

use std::fmt;

use super::renewal::{WantedCa, reserve_at};
use crate::model::{Attempts, CaName, CaState, Fault, Share, Timestamp, Validity};

/// This part of its life a usable certificate waits for a CA that fails.
const PATIENCE_PARTS: u32 = 24;
/// Without one, so many proofs may fail.
const PROOFS: u32 = 4;

/// One CA that may be asked, in the order of preference.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which one.
    pub ca: &'a WantedCa,
    /// How the tries there went.
    pub known: Option<&'a CaState>,
    /// Until when it would refuse, by what is known of its limits.
    pub refused_until: Option<Timestamp>,
    /// Whether an order that is not stored yet is under way there.
    pub has_order: bool,
    /// Whether this run has asked it already.
    pub was_just_asked: bool,
}

/// What hangs on it.
#[derive(Clone, Copy, Debug)]
pub struct Stakes<'a> {
    /// The life of what is held, if it is of use and does for what is wanted.
    pub life: Option<Validity>,
    /// The share of life left under which health is a warning.
    pub warning: Share,
    /// Whether our pauses count: not for a human who names the certificate.
    pub pauses: Pauses,
    /// Failures of our own that keep us from showing proofs to anybody, as far as they count.
    pub unproven: Option<&'a Attempts>,
}

/// Whether our own pauses after failures are heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// They are.
    Heeded,
    /// Only those after what this run has tried.
    PassedBy,
    /// The failures were of another wish: neither they nor their pauses count.
    OfAnotherWish,
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This CA is asked now.
    Ask(Choice),
    /// Nobody is, before `until`.
    Wait {
        /// The earliest moment at which somebody may be.
        until: Timestamp,
        /// Whether no more is expected of any CA whose turn came before a human changes something.
        needs_change: bool,
    },
}

/// The CA that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which one.
    pub ca: CaName,
    /// For whom it stands in, if it is not the first that could be asked.
    pub stands_in: Option<PassedBy>,
}

/// A CA that is passed by, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedBy {
    /// Which one.
    pub ca: CaName,
    /// Why.
    pub why: Why,
}

/// Why a CA's turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not to be asked before this moment, and its turn would be over by then.
    NotBefore(Timestamp),
    /// It has failed since this moment.
    FailingSince(Timestamp),
    /// It failed, and little life is left.
    LittleLifeLeft,
    /// It failed, and there is nothing of use to serve.
    NothingOfUse,
    /// It was not asked: we could show it no proof since this moment.
    Unproven(Timestamp),
}

impl fmt::Display for PassedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ca = &self.ca;
        match self.why {
            Why::NotBefore(moment) => write!(f, "{ca} can't be asked before {moment}"),
            Why::FailingSince(moment) => write!(f, "{ca} has failed since {moment}"),
            Why::LittleLifeLeft => write!(f, "{ca} failed, and little of the life is left"),
            Why::Unproven(moment) => write!(f, "no proof could be shown to {ca} since {moment}"),
            Why::NothingOfUse => write!(f, "{ca} failed, and there is no certificate to wait with"),
        }
    }
}

/// Whose turn it is at `now`; `None` if nobody may be asked at all.
#[must_use]
pub fn turn(candidates: &[Candidate<'_>], stakes: &Stakes<'_>, now: Timestamp) -> Option<Turn> {
    let mut ordered: Vec<&Candidate<'_>> = candidates.iter().collect();
    ordered.sort_by_key(|it| !it.has_order);
    let mut rest = ordered.iter().peekable();
    let (mut earliest, mut needs_change) = (Timestamp::MAX, true);
    let mut passed_by = None;
    while let Some(candidate) = rest.next() {
        let ca = candidate.ca.name.clone();
        let record = Record::of(candidate, stakes, now);
        let Some(until) = record.waits_until() else {
            return Some(Turn::Ask(Choice { ca, stands_in: passed_by }));
        };
        earliest = earliest.min(until);
        needs_change &= record.needs_change;
        let Some((ends_at, why)) = record.turn_ends(stakes, now) else { break };
        if now < ends_at {
            if rest.peek().is_some() {
                earliest = earliest.min(ends_at);
            }
            break;
        }
        passed_by.get_or_insert(PassedBy { ca, why });
    }
    (!ordered.is_empty()).then_some(Turn::Wait { until: earliest, needs_change })
}

/// What a CA's record comes to at one moment.
struct Record<'a> {
    /// Failures in a row, of what is wanted now.
    failures: u32,
    /// The first of them.
    since: Option<Timestamp>,
    /// What the last of them says.
    fault: Fault,
    /// Until when our pause lasts.
    pause: Option<Timestamp>,
    /// Until when it does not want to be asked.
    word: Option<Timestamp>,
    /// Whether that is longer than our pause.
    word_is_longer: bool,
    /// Whether only a change by a human is expected to help.
    needs_change: bool,
    /// What keeps us from showing it proofs, and until when it makes us wait.
    unproven: Option<(&'a Attempts, Timestamp)>,
}

impl<'a> Record<'a> {
    fn of(candidate: &Candidate<'_>, stakes: &Stakes<'a>, now: Timestamp) -> Self {
        let nothing = Attempts::default();
        let attempts = candidate.known.map_or(&nothing, |it| &it.attempts);
        let refused_until = candidate.refused_until.filter(|it| now < *it);
        let word = attempts.forbidden_until(now).max(refused_until);
        let counts = stakes.pauses != Pauses::OfAnotherWish;
        let pause = attempts.waits_until(now).filter(|_| match stakes.pauses {
            Pauses::Heeded => true,
            Pauses::PassedBy => candidate.was_just_asked,
            Pauses::OfAnotherWish => false,
        });
        let failures = if counts { attempts.failures } else { 0 };
        let unproven = stakes.unproven.filter(|_| candidate.ca.wants_proof);
        let unproven = unproven.and_then(|it| Some((it, it.waits_until(now)?)));
        let last_pause = attempts.next_attempt_at.filter(|_| failures > 0);
        Self {
            failures,
            since: attempts.since.filter(|_| failures > 0),
            fault: candidate.known.and_then(|it| it.fault).unwrap_or(Fault::Outage),
            pause,
            word,
            word_is_longer: word.is_some_and(|it| last_pause.is_none_or(|pause| pause <= it)),
            needs_change: match unproven {
                Some((ours, _)) => ours.needs_change,
                None => attempts.needs_change && word.is_none(),
            },
            unproven,
        }
    }

    /// Until when it has to be waited for; `None` if it can be asked.
    fn waits_until(&self) -> Option<Timestamp> {
        self.word.max(self.pause).max(self.unproven.map(|(_, until)| until))
    }

    /// When its turn ends, and why; `None` if nothing is known to end it.
    fn turn_ends(&self, stakes: &Stakes<'_>, now: Timestamp) -> Option<(Timestamp, Why)> {
        let Some((ours, _)) = self.unproven else { return self.ends_by_itself(stakes, now) };
        let has_failed = self.failures > 0 || self.word.is_some();
        let by_itself = self.ends_by_itself(stakes, now).filter(|_| has_failed);
        let why = Why::Unproven(ours.since.unwrap_or(now));
        let unproven = match stakes.life {
            Some(validity) => Some((late_at(validity, stakes), why)),
            None => (PROOFS <= ours.failures).then_some((now, why)),
        };
        by_itself.into_iter().chain(unproven).min_by_key(|(at, _)| *at)
    }

    /// The same by what it did itself.
    fn ends_by_itself(&self, stakes: &Stakes<'_>, now: Timestamp) -> Option<(Timestamp, Why)> {
        let Some(validity) = stakes.life else { return self.ends_without_life(now) };
        let lifetime = validity.lifetime();
        let late_at = late_at(validity, stakes);
        let since = self.since.unwrap_or(now);
        let patient_until = since.saturating_add(lifetime / PATIENCE_PARTS);
        let (ends_at, why) = match self.fault {
            Fault::Outage | Fault::Refusal if patient_until <= late_at => {
                (patient_until, Why::FailingSince(since))
            }
            _ => (late_at, Why::LittleLifeLeft),
        };
        match self.word {
            Some(word) if ends_at <= word => Some((now, Why::NotBefore(word))),
            _ => Some((ends_at, why)),
        }
    }

    fn ends_without_life(&self, now: Timestamp) -> Option<(Timestamp, Why)> {
        let enough = match self.fault {
            Fault::Refusal => 1,
            Fault::Outage | Fault::Ours | Fault::Solver => 2,
            Fault::Proof => PROOFS,
        };
        match self.word {
            Some(word) if self.word_is_longer => Some((now, Why::NotBefore(word))),
            _ => (enough <= self.failures).then_some((now, Why::NothingOfUse)),
        }
    }
}

/// When little of a life is left.
fn late_at(validity: Validity, stakes: &Stakes<'_>) -> Timestamp {
    let warning = stakes.warning.of(validity.lifetime());
    validity.not_after.saturating_sub(warning).min(reserve_at(validity))
}

#[cfg(test)]
mod tests;
