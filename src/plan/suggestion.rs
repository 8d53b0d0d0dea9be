//! Decides what follows from a CA's advice when to renew (RFC 9773): the moment, and when to ask
//! again.
//!
//! # Rules
//!
//! - The moment is chosen once for each window, uniformly in it (RFC 9773 §4.2); of a window that
//!   reaches beyond the certificate's life or into its reserve, in the part before.
//! - A window that is longer than the life says nothing of the moment: it is the usual one, or the
//!   nearest to it in the window.
//! - Another window means another choice. A window that changes more than three times within a
//!   third of the life is not followed back and forth: the earliest moment chosen stays.
//! - The CA is asked again when it says, in a minute at the earliest, and at least every tenth of
//!   the life. A life under ten minutes is too short for both: nobody is asked about it.
//! - No answer for a reason that passes: 1 min, 10 min, 100 min, 6 h. Any other: 6 h. What was
//!   advised before holds meanwhile; "no advice for this one" ends it.
//!
//! # Not here
//!
//! That a wrong window costs no site its certificate, and no CA more than an order a day:
//! [`super::renewal`]. Asking: [`crate::lifecycle`].

use std::time::Duration;

use crate::model::{
    CertificateId, Held, Leaf, RenewalInfo, SuggestedWindow, Suggestion, Timestamp, Validity,
};

use super::backoff::{Jitter, after_ca_failure};
use super::renewal::{reserve_at, usual_at};

/// The CA is not asked more often.
const SHORTEST_POLL: Duration = Duration::from_secs(60);
/// It is not left alone for longer, whatever it says: a revocation is told in this way.
const LONGEST_POLL: Duration = Duration::from_secs(24 * 3600);
/// After an answer that says nothing of the next time, or none.
const USUAL_POLL: Duration = Duration::from_secs(6 * 3600);
/// At least so many times in a life the CA is asked.
const POLLS_A_LIFE: u32 = 10;
/// So many changes of the window are followed within [`STEADY_PARTS`] of the life.
const FOLLOWED_CHANGES: usize = 3;
/// See [`FOLLOWED_CHANGES`].
const STEADY_PARTS: u32 = 3;

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// What is to be remembered.
    pub suggestion: Suggestion,
    /// Whether the window is another than before.
    pub is_new: bool,
    /// Whether it has changed too often to be followed.
    pub is_unsteady: bool,
}

/// The name by which the CA is asked about `held`; `None` if it is not: a placeholder, one that has
/// expired or lives too shortly, one that has no such name.
#[must_use]
pub fn asked_about(held: &Held, now: Timestamp) -> Option<CertificateId> {
    let validity = held.leaf.validity;
    let is_live = !held.is_placeholder() && !validity.has_expired(now);
    if is_live && validity.lifetime() >= SHORTEST_POLL * POLLS_A_LIFE {
        CertificateId::of(&held.leaf)
    } else {
        None
    }
}

/// When the CA is asked about `id`, of which `known` is known; the past if it is to be asked now.
#[must_use]
pub fn next_poll_at(id: &CertificateId, known: Option<&Suggestion>, now: Timestamp) -> Timestamp {
    let known = known.filter(|it| it.certificate_id == *id);
    // One that lies further ahead was noted by a clock that has been put right since.
    let limit = now.saturating_add(LONGEST_POLL);
    known.map(|it| it.next_poll_at).filter(|it| *it <= limit).unwrap_or(Timestamp::EPOCH)
}

/// The moment chosen for the certificate `id`, by what is `known`.
#[must_use]
pub fn selected_renewal(id: &CertificateId, known: Option<&Suggestion>) -> Option<Timestamp> {
    known.filter(|it| it.certificate_id == *id).and_then(|it| it.selected_renewal)
}

/// Whether the CA suggests to renew the certificate called `id` at `now`.
#[must_use]
pub fn is_suggested(id: &CertificateId, known: Option<&Suggestion>, now: Timestamp) -> bool {
    let window = known.filter(|it| it.certificate_id == *id).and_then(|it| it.window);
    window.is_some_and(|it| it.contains(now))
}

/// Chooses a moment in `window` for a certificate that is valid for `validity`.
#[must_use]
pub fn select(window: SuggestedWindow, validity: Validity, luck: Jitter) -> Timestamp {
    let inside = |moment: Timestamp| moment.min(window.end).max(window.start);
    if window.end.since(window.start) > validity.lifetime() {
        return inside(usual_at(validity));
    }
    let first = inside(validity.not_before);
    let last = inside(reserve_at(validity)).max(first);
    first.saturating_add(last.since(first).mul_f64(luck.share())).min(last)
}

/// What follows from the answer `info` about `leaf`, named `id`, of which `known` was known.
#[must_use]
pub fn learn(
    id: CertificateId,
    known: Option<&Suggestion>,
    info: &RenewalInfo,
    leaf: &Leaf,
    luck: Jitter,
    now: Timestamp,
) -> Learnt {
    let life = leaf.validity.lifetime();
    let mut suggestion = of_this(id, known);
    suggestion.failures = 0;
    suggestion.next_poll_at =
        now.saturating_add(poll_interval(info.poll_after.unwrap_or(USUAL_POLL), life));
    suggestion.explanation_url.clone_from(&info.explanation_url);
    let Some(window) = info.suggested_window else {
        (suggestion.window, suggestion.selected_renewal) = (None, None);
        return Learnt { suggestion, is_new: false, is_unsteady: false };
    };
    if suggestion.window == Some(window) && suggestion.selected_renewal.is_some() {
        return Learnt { suggestion, is_new: false, is_unsteady: false };
    }
    let earlier = suggestion.selected_renewal;
    if earlier.is_some() {
        suggestion.changed_at.push(now);
        suggestion.changed_at.retain(|it| now.since(*it) <= life / STEADY_PARTS);
        let surplus = suggestion.changed_at.len().saturating_sub(FOLLOWED_CHANGES + 1);
        suggestion.changed_at.drain(..surplus);
    }
    let is_unsteady = suggestion.changed_at.len() > FOLLOWED_CHANGES;
    let chosen = select(window, leaf.validity, luck);
    suggestion.window = Some(window);
    suggestion.selected_renewal = Some(match earlier {
        Some(earlier) if is_unsteady => earlier.min(chosen),
        _ => chosen,
    });
    Learnt { suggestion, is_new: true, is_unsteady }
}

/// What follows from no usable answer about `leaf`, named `id`: `retry_at` is when the CA wants to
/// be asked again, if it said so; `is_transient` says that it may well answer soon.
#[must_use]
pub fn miss(
    id: CertificateId,
    known: Option<&Suggestion>,
    leaf: &Leaf,
    is_transient: bool,
    retry_at: Option<Timestamp>,
    now: Timestamp,
) -> Suggestion {
    let mut suggestion = of_this(id, known);
    suggestion.failures = suggestion.failures.saturating_add(1);
    let by_ladder = after_ca_failure(suggestion.failures, None, Jitter::NONE).min(USUAL_POLL);
    let pause = match retry_at {
        Some(retry_at) => retry_at.since(now),
        None if is_transient => by_ladder,
        None => USUAL_POLL,
    };
    let pause = poll_interval(pause, leaf.validity.lifetime());
    suggestion.next_poll_at = now.saturating_add(pause);
    suggestion
}

/// Whether `selected` asks for `leaf` now, before it would have been due without advice.
#[must_use]
pub fn is_early(leaf: &Leaf, selected: Timestamp, now: Timestamp) -> bool {
    selected <= now && now < usual_at(leaf.validity)
}

fn of_this(id: CertificateId, known: Option<&Suggestion>) -> Suggestion {
    match known.filter(|it| it.certificate_id == id) {
        Some(known) => known.clone(),
        None => Suggestion::unknown(id),
    }
}

fn poll_interval(wanted: Duration, life: Duration) -> Duration {
    wanted.min(life / POLLS_A_LIFE).min(LONGEST_POLL).max(SHORTEST_POLL)
}

#[cfg(test)]
mod tests;
