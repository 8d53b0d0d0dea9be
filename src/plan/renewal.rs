//! Decides what is due at the CA, and why.
//!
//! # Rules
//!
//! Asked in this order; the first that applies gives the reason that operators see in `plan`,
//! `status` and the log.
//!
//! 1. a certificate of a real CA, or of one that is not known any more, is never replaced by one of
//!    a CA for tests, unless a human allows it: such CAs are not asked, and where there are no others
//!    it is blocked
//! 2. an order is under way: it goes on, since the CA may have filled it already
//! 3. nothing but a placeholder is held, or nothing at all, or it can't be read
//! 4. identifiers, kind of key, certificate request, CA, profile or chain are not as wanted
//! 5. the built-in CA made it by our clock, which was ahead: it is not valid for an hour or more
//! 6. it is revoked, or is to be once there is another: at once
//! 7. the moment selected in the CA's suggested window has come (RFC 9773), or a sixth of the life
//!    is left, whichever is earlier
//! 8. without advice: two thirds of the life have passed, or half if it is under ten days
//! 9. by 7 and 8 a certificate is never due before a third of what it had left when it came has
//!    passed (a day, if the CA advises it), and ten seconds: one that came old, or seems so to a
//!    clock that runs ahead, would else be ordered anew as soon as it is there, for ever
//!
//! What is due by 7 and 8 waits where the clock has jumped and the CA's says that it is not due,
//! unless few were let pass so far ([`super::clock`]).
//!
//! A reason is not yet an attempt: after failures the ladder waits, and what the ledger refuses
//! waits until it would be allowed, which is no failure. Whoever names a certificate by hand passes
//! by the ladder, never by what the CA said (Retry-After), nor by the ledger.
//!
//! # Not here
//!
//! Which CA is asked ([`super::authority`]); the ladder's pauses ([`super::backoff`]); what the
//! ledger refuses ([`super::ledger`]); doing it ([`crate::lifecycle`]).

use std::fmt;
use std::time::Duration;

use super::authority::{Candidate, Choice, Pauses, Stakes, Turn, turn};
use super::clock::Standing;
use crate::model::{
    Attempts, CaName, CertificateSpec, ClockDoubt, Fault, Held, Identifier, KeyType, Leaf, Origin,
    Refusal, Share, Timestamp, Validity,
};

/// A clock that differs by less was not wrong, as far as anybody can say.
const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);

/// A life under this counts as short: half of it is kept in reserve, not a third.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 86_400);
/// The last sixth of a life overrules the CA's advice to wait.
const RESERVE_PARTS: u32 = 6;
/// This part of what a certificate had left when it came passes before it is due.
const FRESH_PARTS: u32 = 3;
/// Where the CA advises to renew at once, as before a revocation, no more than this passes.
const ADVISED_KEEP: Duration = Duration::from_secs(86_400);
/// A clock that is not believed is looked at again after this.
const DOUBT_PAUSE: Duration = Duration::from_secs(600);
/// This passes in any case.
const SHORTEST_KEEP: Duration = Duration::from_secs(10);

/// What is known when a decision is made.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// What is held.
    pub holding: Holding<'a>,
    /// The wanted CAs as configured now, in the order of preference, with what is known of each.
    pub cas: &'a [Candidate<'a>],
    /// Failures of our own side, which say nothing of any of them.
    pub ours: &'a Attempts,
    /// What the last of those says, if that is known.
    pub ours_fault: Option<Fault>,
    /// Whether all those tries were for what is wanted now.
    pub attempts_are_for_this: bool,
    /// The share of life left under which health is a warning.
    pub warning: Share,
    /// The moment chosen in the CA's suggested window.
    pub selected_renewal: Option<Timestamp>,
    /// The chain that is held.
    pub chain: HeldChain,
    /// Why what is held is to be replaced whatever its life, if it is.
    pub withdrawn: Option<Withdrawn>,
    /// Why any of them would refuse it now, or we hold it back; the moment is in `cas` too.
    pub refusals: &'a [(CaName, Refusal)],
    /// Why the clock is not believed, if it is not.
    pub doubt: Option<&'a ClockDoubt>,
    /// How the clock stands to what is known of it.
    pub clock: Standing,
}

/// How the held chain stands to the preferred one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldChain {
    /// It is the preferred one, the CA was asked for that in vain, or none is preferred.
    Settled,
    /// It leads elsewhere, and the CA was not asked for the preferred one.
    Other,
}

/// What is held can't stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is revoked.
    Revoked,
    /// It is to be revoked as soon as another is served.
    ToBeRevoked,
}

/// What is held of a certificate.
#[derive(Clone, Debug)]
pub enum Holding<'a> {
    /// Nothing.
    Nothing,
    /// Something that can't be used, and why.
    Unreadable(&'a str),
    /// A certificate, perhaps the placeholder.
    Certificate(&'a Held),
}

/// What of a CA matters for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCa {
    /// Its name.
    pub name: CaName,
    /// Its directory URL.
    pub directory: String,
    /// Whether it is one for tests.
    pub test: bool,
    /// Whether it has control proven: the built-in CA does not.
    pub wants_proof: bool,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Time itself.
    ByTime,
    /// A human, for this certificate: the ladder does not count.
    ByName,
    /// The same, and a CA for tests may replace what came from a real one.
    Untrusted,
    /// A human, for what its targets do not serve yet; nothing at the CA.
    DeployPending,
    /// A human, for all its targets, whatever they serve; nothing at the CA.
    Redeploy,
    /// A human, for this certificate, due or not.
    Forced,
    /// The same, and a CA for tests may replace what came from a real one.
    ForcedUntrusted,
}

impl Asked {
    /// Whether this can lead to an order.
    #[must_use]
    pub const fn may_renew(self) -> bool {
        !matches!(self, Self::DeployPending | Self::Redeploy)
    }

    /// Whether whoever does this does all that is asked for by `other`.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        let heeds_pauses = |it| it == Self::ByTime;
        self.may_renew() >= other.may_renew()
            && self.is_forced() >= other.is_forced()
            && self.allows_untrusted() >= other.allows_untrusted()
            && self.redeploys() >= other.redeploys()
            && heeds_pauses(self) <= heeds_pauses(other)
    }

    /// Whether it is to be renewed, due or not.
    #[must_use]
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::Forced | Self::ForcedUntrusted)
    }

    /// Whether a certificate of a CA for tests may replace one of a real CA.
    #[must_use]
    pub const fn allows_untrusted(self) -> bool {
        matches!(self, Self::Untrusted | Self::ForcedUntrusted)
    }

    /// Whether targets are handed the certificate whatever they serve.
    #[must_use]
    pub const fn redeploys(self) -> bool {
        matches!(self, Self::Redeploy) || self.is_forced()
    }
}

/// What is to be done at the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing before `renew_at`.
    Keep {
        /// When it becomes due.
        renew_at: Timestamp,
        /// By which rule.
        reason: Reason,
    },
    /// Order now.
    Issue(Reason),
    /// Due, and waiting: after failures, or for what the CA allows.
    BackOff {
        /// Until then.
        until: Timestamp,
        /// Why it is due.
        reason: Reason,
    },
    /// Due, and waiting for a human; tried again all the same at `until`, if that is given.
    Blocked {
        /// When the next try comes by itself.
        until: Option<Timestamp>,
        /// Why it is due, or what blocks it.
        reason: Reason,
    },
}

/// Why a certificate is due or kept, in the words that operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is held.
    Missing,
    /// Only a placeholder is held.
    Placeholder,
    /// What is held can't be used.
    Unreadable(String),
    /// This wanted identifier is not on it.
    IdentifierMissing(Identifier),
    /// This identifier on it is wanted no more.
    IdentifierUnwanted(Identifier),
    /// The kind of key is another.
    KeyTypeChanged(KeyType),
    /// It was asked for by another certificate request, or the key is to be elsewhere, or here.
    RequestChanged,
    /// It came from another CA.
    CaChanged(CaName),
    /// The CA's name stands for another directory now.
    DirectoryChanged,
    /// Another profile is wanted.
    ProfileChanged,
    /// Another chain is preferred.
    ChainChanged(String),
    /// A CA of our own made it by our clock, which was ahead then.
    NotYetValid,
    /// It is revoked.
    Revoked,
    /// It is to be revoked, once another is served.
    ToBeRevoked,
    /// The CA suggested this moment.
    SuggestedByCa,
    /// The reserve begins, whatever the CA suggested.
    NearExpiry,
    /// The usual share of its life has passed.
    LifePassed,
    /// An order is under way.
    OrderUnderWay,
    /// A human wants it.
    Forced,
    /// The held one is of a real CA, the wanted CA is for tests.
    TestCa(CaName),
    /// It is due for this reason, and refused by the ledger.
    HeldBack(Box<Self>, Refusal),
    /// It is due for this reason, and only by a clock that is not believed.
    ClockDoubted(Box<Self>, ClockDoubt),
}

impl Reason {
    /// Whether it is due only because time has passed.
    #[must_use]
    pub const fn is_of_time(&self) -> bool {
        matches!(self, Self::SuggestedByCa | Self::NearExpiry | Self::LifePassed)
    }

    /// Why a certificate is kept that will be due by this rule.
    #[must_use]
    pub const fn of_keeping(&self) -> &'static str {
        match self {
            Self::SuggestedByCa => "the CA suggests that moment",
            _ => "it is not due",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no certificate yet"),
            Self::Placeholder => f.write_str("there is only a placeholder"),
            Self::Unreadable(why) => write!(f, "what is stored can't be used: {why}"),
            Self::IdentifierMissing(identifier) => write!(f, "{identifier} is not on it"),
            Self::IdentifierUnwanted(identifier) => write!(f, "{identifier} is wanted no more"),
            Self::KeyTypeChanged(wanted) => write!(f, "its key is to be {wanted}"),
            Self::RequestChanged => f.write_str("its certificate request is another one"),
            Self::CaChanged(wanted) => write!(f, "it is to come from the CA {wanted}"),
            Self::DirectoryChanged => f.write_str("its CA has another directory now"),
            Self::ProfileChanged => f.write_str("another profile is wanted"),
            Self::ChainChanged(wanted) => write!(f, "its chain is to lead to {wanted}"),
            Self::NotYetValid => f.write_str("it was made by a clock that was ahead"),
            Self::Revoked => f.write_str("it is revoked"),
            Self::ToBeRevoked => f.write_str("it is to be revoked"),
            Self::SuggestedByCa => f.write_str("the CA suggests this moment"),
            Self::NearExpiry => f.write_str("a sixth of its life is left"),
            Self::LifePassed => f.write_str("the usual share of its life has passed"),
            Self::OrderUnderWay => f.write_str("an order is under way"),
            Self::Forced => f.write_str("asked for by hand"),
            Self::HeldBack(due, refusal) => write!(f, "{due}; {refusal}"),
            Self::ClockDoubted(due, doubt) => write!(f, "{due}, by our clock alone; {doubt}"),
            Self::TestCa(ca) => {
                write!(f, "the CA {ca} is for tests, and would replace a certificate of a real CA")
            }
        }
    }
}

/// Decides what to do about `spec` at `now`.
#[must_use]
pub fn decide(
    spec: &CertificateSpec,
    observed: &Observed<'_>,
    asked: Asked,
    now: Timestamp,
) -> Renewal {
    let allowed = allowed(observed, asked);
    if let ([], Some(first)) = (allowed.as_slice(), observed.cas.first()) {
        let reason = Reason::TestCa(first.ca.name.clone());
        return Renewal::Blocked { until: None, reason };
    }
    let reason = match need(spec, observed, asked, now) {
        _ if allowed.iter().any(|it| it.has_order) => Reason::OrderUnderWay,
        Need::Now(reason) => reason,
        Need::At(renew_at, reason) if now < renew_at => return Renewal::Keep { renew_at, reason },
        Need::At(renew_at, reason) => match observed.doubt {
            Some(doubt) if asked == Asked::ByTime && doubt.forbids(renew_at) => {
                let until = now.saturating_add(DOUBT_PAUSE);
                let reason = Reason::ClockDoubted(Box::new(reason), doubt.clone());
                return Renewal::BackOff { until, reason };
            }
            _ => reason,
        },
    };
    if let Some(until) = waits_for_us(observed, asked, now) {
        return waiting(until, observed.ours.needs_change, reason);
    }
    match turn(&allowed, &stakes(spec, observed, asked, now), now) {
        Some(Turn::Wait { until, needs_change }) => match held_back(observed, until, now) {
            Some(refusal) => Renewal::BackOff {
                until,
                reason: Reason::HeldBack(Box::new(reason), refusal.clone()),
            },
            None => waiting(until, needs_change, reason),
        },
        Some(Turn::Ask(_)) | None => Renewal::Issue(reason),
    }
}

/// The refusal that is waited for until `until`; `None` if that is a failure's pause or what the CA
/// said to this certificate.
fn held_back<'a>(observed: &Observed<'a>, until: Timestamp, now: Timestamp) -> Option<&'a Refusal> {
    let said = |it: &Candidate<'_>| it.known.and_then(|it| it.attempts.forbidden_until(now));
    let was_told = observed.cas.iter().any(|it| said(it) == Some(until));
    let refusals = observed.refusals.iter().map(|(_, it)| it);
    refusals.filter(|_| !was_told).find(|it| it.until == until)
}

/// The CA that an order for `spec` is placed at, or gone on with, at `now`; `None` if none is
/// asked.
#[must_use]
pub fn choose(
    spec: &CertificateSpec,
    observed: &Observed<'_>,
    asked: Asked,
    now: Timestamp,
) -> Option<Choice> {
    match turn(&allowed(observed, asked), &stakes(spec, observed, asked, now), now)? {
        Turn::Ask(choice) => Some(choice),
        Turn::Wait { .. } => None,
    }
}

/// How pressing an order is.
enum Need {
    /// It is due, whatever the time.
    Now(Reason),
    /// It is due from this moment on.
    At(Timestamp, Reason),
}

fn need(spec: &CertificateSpec, observed: &Observed<'_>, asked: Asked, now: Timestamp) -> Need {
    let held = match &observed.holding {
        Holding::Nothing => return Need::Now(Reason::Missing),
        Holding::Unreadable(why) => return Need::Now(Reason::Unreadable((*why).to_owned())),
        Holding::Certificate(held) if held.is_placeholder() => {
            return Need::Now(Reason::Placeholder);
        }
        Holding::Certificate(held) => held,
    };
    if let Some(reason) = difference(spec, held, observed.cas) {
        return Need::Now(reason);
    }
    if let (Some(preferred), HeldChain::Other) = (&spec.preferred_chain, observed.chain) {
        return Need::Now(Reason::ChainChanged(preferred.clone()));
    }
    if observed.clock != Standing::Behind && is_from_the_future(held, observed.cas, now) {
        return Need::Now(Reason::NotYetValid);
    }
    match observed.withdrawn {
        Some(Withdrawn::Revoked) => return Need::Now(Reason::Revoked),
        Some(Withdrawn::ToBeRevoked) => return Need::Now(Reason::ToBeRevoked),
        None if asked.is_forced() => return Need::Now(Reason::Forced),
        None => {}
    }
    let (renew_at, reason) = due_at(&held.leaf, observed.selected_renewal);
    Need::At(renew_at.max(fresh_until(held, &reason, now)), reason)
}

/// Whether `held` was made here by a clock that was ahead: no client takes it, and another costs
/// nobody anything. Where a CA with a clock of its own made it, ours is the one that is wrong.
fn is_from_the_future(held: &Held, cas: &[Candidate<'_>], now: Timestamp) -> bool {
    let Some(origin) = &held.origin else { return false };
    let is_of_ours = cas.iter().any(|it| !it.ca.wants_proof && it.ca.name == origin.ca);
    is_of_ours && held.leaf.validity.not_before > now.saturating_add(CLOCK_TOLERANCE)
}

/// The moment `leaf` becomes due, and the rule that says so.
fn due_at(leaf: &Leaf, selected: Option<Timestamp>) -> (Timestamp, Reason) {
    let reserve_at = reserve_at(leaf.validity);
    match selected {
        // A wrong window, ours or the CA's, must not cost the site its certificate.
        Some(selected_at) if selected_at <= reserve_at => (selected_at, Reason::SuggestedByCa),
        Some(_) => (reserve_at, Reason::NearExpiry),
        None => (usual_at(leaf.validity), Reason::LifePassed),
    }
}

/// Whether no more than the last sixth of the life of `leaf` is left at `now`.
#[must_use]
pub fn is_in_reserve(leaf: &Leaf, now: Timestamp) -> bool {
    now >= reserve_at(leaf.validity)
}

/// Where the last sixth of a life begins.
pub(super) fn reserve_at(validity: Validity) -> Timestamp {
    validity.not_after.saturating_sub(validity.lifetime() / RESERVE_PARTS)
}

/// When a certificate is due without advice.
pub(super) fn usual_at(validity: Validity) -> Timestamp {
    let lifetime = validity.lifetime();
    let share = if lifetime < SHORT_LIFE { lifetime / 2 } else { lifetime / 3 * 2 };
    validity.not_before.saturating_add(share)
}

/// Until when `held` is too new to be due by `reason`; the past if we do not know when it came.
fn fresh_until(held: &Held, reason: &Reason, now: Timestamp) -> Timestamp {
    // One that came in the future came by a clock that has been put right since.
    let issued_at = held.origin.as_ref().map(|it| it.issued_at).filter(|it| *it <= now);
    issued_at.map_or(Timestamp::EPOCH, |issued_at| {
        let left = held.leaf.validity.life_left(issued_at);
        let kept = SHORTEST_KEEP.max(left / FRESH_PARTS);
        let kept = if *reason == Reason::SuggestedByCa { kept.min(ADVISED_KEEP) } else { kept };
        issued_at.saturating_add(kept)
    })
}

/// The CAs that may be asked: those for tests only where nothing of a real one would be replaced,
/// or a human allows it.
fn allowed<'a>(observed: &Observed<'a>, asked: Asked) -> Vec<Candidate<'a>> {
    // Where a damaged disk has lost what it is, it may be a real one; servers may still have that.
    let is_real = match &observed.holding {
        Holding::Certificate(held) => {
            !held.is_placeholder() && held.origin.as_ref().is_none_or(|it| !it.test)
        }
        Holding::Unreadable(_) => observed.cas.iter().any(|it| !it.ca.test),
        Holding::Nothing => false,
    };
    let keeps_real = is_real && !asked.allows_untrusted();
    observed.cas.iter().filter(|it| !(keeps_real && it.ca.test)).copied().collect()
}

/// What hangs on the choice of a CA.
fn stakes<'a>(
    spec: &CertificateSpec,
    observed: &Observed<'a>,
    asked: Asked,
    now: Timestamp,
) -> Stakes<'a> {
    let pauses = match asked {
        _ if !observed.attempts_are_for_this => Pauses::OfAnotherWish,
        Asked::ByTime => Pauses::Heeded,
        _ => Pauses::PassedBy,
    };
    let held = match &observed.holding {
        Holding::Certificate(held) if !held.is_placeholder() => Some(held),
        _ => None,
    };
    let is_of_use = |held: &&&Held| {
        !held.leaf.validity.has_expired(now)
            && observed.withdrawn != Some(Withdrawn::Revoked)
            && spec.identifier_set().is_subset(&held.leaf.identifiers)
    };
    let life = held.filter(is_of_use).map(|it| it.leaf.validity);
    let was_tried = || observed.cas.iter().any(|it| it.ca.wants_proof && it.was_just_asked);
    let heeds_ours = match pauses {
        Pauses::Heeded => true,
        Pauses::PassedBy => was_tried(),
        Pauses::OfAnotherWish => false,
    };
    let is_of_proofs = observed.ours_fault == Some(Fault::Solver);
    let unproven = (is_of_proofs && heeds_ours).then_some(observed.ours);
    Stakes { life, warning: observed.warning, pauses, unproven }
}

fn difference(spec: &CertificateSpec, held: &Held, cas: &[Candidate<'_>]) -> Option<Reason> {
    let wanted = spec.identifier_set();
    if let Some(missing) = wanted.difference(&held.leaf.identifiers).next() {
        return Some(Reason::IdentifierMissing(missing.clone()));
    }
    if let Some(unwanted) = held.leaf.identifiers.difference(&wanted).next() {
        return Some(Reason::IdentifierUnwanted(unwanted.clone()));
    }
    if held.leaf.key_type.is_some_and(|it| it != spec.key_type) {
        return Some(Reason::KeyTypeChanged(spec.key_type));
    }
    origin_difference(spec, held.origin.as_ref()?, cas)
}

/// A certificate of any CA on the list is as good as one of the first: see [`super::authority`].
fn origin_difference(
    spec: &CertificateSpec,
    origin: &Origin,
    cas: &[Candidate<'_>],
) -> Option<Reason> {
    if origin.csr != spec.request().map(|it| it.sha256) {
        return Some(Reason::RequestChanged);
    }
    let Some(listed) = cas.iter().find(|it| it.ca.name == origin.ca) else {
        return cas.first().map(|wanted| Reason::CaChanged(wanted.ca.name.clone()));
    };
    if listed.ca.directory != origin.directory {
        return Some(Reason::DirectoryChanged);
    }
    (spec.profile != origin.profile).then_some(Reason::ProfileChanged)
}

/// Until when our own side's failures keep us from asking any CA. Those of a solver keep us only
/// from those that want proofs, which [`turn`] knows.
fn waits_for_us(observed: &Observed<'_>, asked: Asked, now: Timestamp) -> Option<Timestamp> {
    let heeded = asked == Asked::ByTime
        && observed.attempts_are_for_this
        && observed.ours_fault != Some(Fault::Solver);
    observed.ours.waits_until(now).filter(|_| heeded)
}

const fn waiting(until: Timestamp, needs_change: bool, reason: Reason) -> Renewal {
    if needs_change {
        Renewal::Blocked { until: Some(until), reason }
    } else {
        Renewal::BackOff { until, reason }
    }
}

#[cfg(test)]
pub(super) mod tests;
