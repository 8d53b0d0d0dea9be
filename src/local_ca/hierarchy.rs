//! What a built-in CA has, and what it has to make next. Pure: the same facts and time give the
//! same step.
//!
//! # Rules
//!
//! 1. A root is made by itself in two cases: there has never been one, and in time before the last
//!    one ends. In any other case a human has to ask for it, since trust stores have to follow.
//! 2. A root's successor is made when a quarter of the root's life is left, or two lives of an
//!    intermediate if that is more, but not before half of it has passed: the *overlap*. From then
//!    on both are trust anchors.
//! 3. The successor signs from the middle of the overlap on, and not before half an overlap has
//!    passed since it was made, so that there is time to put it into trust stores; unless the old
//!    root has not even a leaf's life left.
//! 4. An intermediate signs leafs while at least half of its life and a leaf's life and a tenth are
//!    left; one that ends with its root signs until the latter. Then the next one is made.
//! 5. An intermediate that permits something else than the settings is replaced at once.
//! 6. An intermediate that can't be used is set aside, and one that has expired is removed.
//! 7. A root whose certificate is gone or broken stops everything: what was made then would be
//!    another CA. Only the newest, as a key that has signed nothing, was left by a kill, and is
//!    gone on with.
//!
//! Not here: keys, which are read only when they have to sign ([`super::authority`]).

use std::collections::BTreeSet;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::error::LocalCaError;
use super::settings::LocalCaSettings;
use super::subtree::{self, Subtree};
use crate::model::pem::{self, PemError};
use crate::model::{
    AuthorityLabel, AuthorityRecord, AuthorityRole, Chain, Leaf, LeafError, Timestamp,
};

/// The overlap of a root and its successor is this part of the root's life.
const OVERLAP_PARTS: u32 = 4;

/// The overlap is at least so many lives of an intermediate: the last one that the old root signs
/// can live to its end.
const OVERLAP_INTERMEDIATES: u32 = 2;

/// A CA certificate of our own.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Which one.
    pub label: AuthorityLabel,
    /// It.
    pub certificate: CertificateDer<'static>,
    /// What there is to know of it.
    pub facts: Leaf,
    /// What it was made to certify; everything if empty.
    pub permitted: BTreeSet<Subtree>,
}

/// A CA certificate of our own can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is none.
    #[error("it is not there")]
    Missing,
    /// It is no PEM.
    #[error("it {0}")]
    Pem(#[source] PemError),
    /// It is no certificate.
    #[error("it {0}")]
    Unreadable(#[source] LeafError),
    /// It is not a CA's.
    #[error("it may not sign others")]
    NotOfACa,
}

impl Authority {
    /// Reads what is kept as `record`.
    ///
    /// # Errors
    ///
    /// Says why it can't be used.
    pub fn parse(record: &AuthorityRecord) -> Result<Self, AuthorityError> {
        let text = record.certificate.as_deref().ok_or(AuthorityError::Missing)?;
        let certificates = pem::parse_certificates(text).map_err(AuthorityError::Pem)?;
        let certificate = certificates.into_iter().next().ok_or(AuthorityError::Missing)?;
        let facts = Leaf::parse(&certificate).map_err(AuthorityError::Unreadable)?;
        if !facts.is_ca {
            return Err(AuthorityError::NotOfACa);
        }
        let unreadable = |_why| AuthorityError::Unreadable(LeafError::NotACertificate);
        let broken =
            |_why| AuthorityError::Unreadable(LeafError::BrokenExtension("name constraints"));
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(unreadable)?;
        let constraints = parsed.name_constraints().map_err(broken)?;
        let permitted = constraints.map(|it| subtree::permitted_by(it.value)).unwrap_or_default();
        Ok(Self { label: record.label, certificate, facts, permitted })
    }

    /// How much of its life is left at `now`.
    fn life_left(&self, now: Timestamp) -> Duration {
        self.facts.validity.life_left(now)
    }

    /// How long before its end a successor of this root is made.
    fn overlap(&self, settings: &LocalCaSettings) -> Duration {
        let lifetime = self.facts.validity.lifetime();
        let wanted = settings.intermediate_lifetime.saturating_mul(OVERLAP_INTERMEDIATES);
        wanted.max(lifetime / OVERLAP_PARTS).min(lifetime / 2)
    }

    fn has_signed(&self, other: &Self) -> bool {
        Chain::from_der(vec![other.certificate.clone(), self.certificate.clone()]).is_ok()
    }
}

/// Whether a root may be made whose predecessors have all expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRoot {
    /// No: see the rules.
    InTime,
    /// Yes, a human asks for it.
    ByHand,
}

/// What is to be done before the CA can sign a leaf, or who signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make this root.
    MakeRoot(AuthorityLabel),
    /// Make this intermediate below that root.
    MakeIntermediate { label: AuthorityLabel, root: AuthorityLabel },
    /// Move this one out of the way.
    SetAside(AuthorityLabel),
    /// Remove this one.
    Remove(AuthorityLabel),
    /// Nothing: this one signs, below that root.
    Sign { signer: AuthorityLabel, root: AuthorityLabel },
}

/// All certificates of one CA.
#[derive(Debug)]
pub(super) struct Hierarchy {
    roots: Vec<Authority>,
    intermediates: Vec<Authority>,
    /// Intermediates that can't be used.
    broken: Vec<AuthorityLabel>,
    /// Keys whose certificates were not yet made when a process died.
    unfinished: Vec<AuthorityLabel>,
    /// The highest number of each role.
    last_root: u32,
    last_intermediate: u32,
}

impl Hierarchy {
    /// Sorts `records`. Fails with the first root whose certificate can't be used.
    pub(super) fn of(
        records: &[AuthorityRecord],
    ) -> Result<Self, (AuthorityLabel, AuthorityError)> {
        let last = |role| {
            let numbers = records.iter().filter(|it| it.label.role == role);
            numbers.map(|it| it.label.number).max().unwrap_or(0)
        };
        let mut hierarchy = Self {
            roots: Vec::new(),
            intermediates: Vec::new(),
            broken: Vec::new(),
            unfinished: Vec::new(),
            last_root: last(AuthorityRole::Root),
            last_intermediate: last(AuthorityRole::Intermediate),
        };
        let mut without_certificate = Vec::new();
        for record in records {
            let label = record.label;
            match (label.role, Authority::parse(record)) {
                (AuthorityRole::Root, Ok(root)) => hierarchy.roots.push(root),
                (AuthorityRole::Intermediate, Ok(intermediate)) if record.has_key => {
                    hierarchy.intermediates.push(intermediate);
                }
                (role, Err(AuthorityError::Missing)) if record.has_key => match role {
                    AuthorityRole::Root => without_certificate.push(label),
                    AuthorityRole::Intermediate => hierarchy.unfinished.push(label),
                },
                (AuthorityRole::Intermediate, _) => hierarchy.broken.push(label),
                (AuthorityRole::Root, Err(error)) => return Err((label, error)),
            }
        }
        for label in without_certificate {
            if hierarchy.may_have_signed(label) {
                return Err((label, AuthorityError::Missing));
            }
            hierarchy.unfinished.push(label);
        }
        Ok(hierarchy)
    }

    /// Whether a root without a certificate ever had one: an intermediate is there that no other
    /// root has signed, or one that can't say, or it is not the root that was made last.
    fn may_have_signed(&self, root: AuthorityLabel) -> bool {
        let is_others = |it: &Authority| self.roots.iter().any(|root| root.has_signed(it));
        root.number != self.last_root
            || !self.broken.is_empty()
            || !self.intermediates.iter().all(is_others)
    }

    /// The one called `label`.
    pub(super) fn get(&self, label: AuthorityLabel) -> Option<&Authority> {
        self.roots.iter().chain(&self.intermediates).find(|it| it.label == label)
    }

    /// The roots that are trust anchors at `now`, the oldest first; at least one.
    pub(super) fn trust_anchors(
        &self,
        settings: &LocalCaSettings,
        now: Timestamp,
    ) -> Result<Vec<Authority>, LocalCaError> {
        let alive = self.roots.iter().filter(|it| !it.facts.validity.has_expired(now));
        let alive: Vec<Authority> = alive.cloned().collect();
        if !alive.is_empty() {
            return Ok(alive);
        }
        let ca = settings.name.clone();
        Err(match self.last_to_end() {
            Some(last) => {
                LocalCaError::RootExpired { ca, not_after: last.facts.validity.not_after, now }
            }
            None => LocalCaError::NoRoot(ca),
        })
    }

    fn last_to_end(&self) -> Option<&Authority> {
        self.roots.iter().max_by_key(|it| it.facts.validity.not_after)
    }

    /// A root that is a trust anchor and does not sign yet beside `root`, which does.
    pub(super) fn successor(&self, root: AuthorityLabel) -> Option<&Authority> {
        self.roots.iter().rev().find(|it| it.label > root)
    }

    /// What is to be done first.
    pub(super) fn next_step(
        &self,
        settings: &LocalCaSettings,
        new_root: NewRoot,
        now: Timestamp,
    ) -> Result<Step, LocalCaError> {
        let Some(root) = self.signing_root(settings, now) else {
            return self.first_root(settings, new_root, now);
        };
        if self.successor(root.label).is_none() && root.life_left(now) < root.overlap(settings) {
            return Ok(Step::MakeRoot(self.next_label(AuthorityRole::Root)));
        }
        if let Some(label) = self.broken.first() {
            return Ok(Step::SetAside(*label));
        }
        let has_expired = |it: &&Authority| it.facts.validity.has_expired(now);
        if let Some(expired) = self.intermediates.iter().find(has_expired) {
            return Ok(Step::Remove(expired.label));
        }
        let mut newest_first = self.intermediates.iter().rev();
        let signer = newest_first.find(|it| is_fit(it, root, settings, now));
        Ok(match signer {
            Some(signer) => Step::Sign { signer: signer.label, root: root.label },
            None => Step::MakeIntermediate {
                label: self.next_label(AuthorityRole::Intermediate),
                root: root.label,
            },
        })
    }

    /// What to do where no root can sign.
    fn first_root(
        &self,
        settings: &LocalCaSettings,
        new_root: NewRoot,
        now: Timestamp,
    ) -> Result<Step, LocalCaError> {
        let ca = settings.name.clone();
        let Some(last) = self.last_to_end() else {
            return Ok(Step::MakeRoot(self.next_label(AuthorityRole::Root)));
        };
        let validity = last.facts.validity;
        if !validity.has_expired(now) {
            return Err(LocalCaError::ClockBehind { ca, not_before: validity.not_before, now });
        }
        match new_root {
            NewRoot::ByHand => Ok(Step::MakeRoot(self.next_label(AuthorityRole::Root))),
            NewRoot::InTime => {
                Err(LocalCaError::RootExpired { ca, not_after: validity.not_after, now })
            }
        }
    }

    /// The root that signs intermediates at `now`, if any can.
    fn signing_root(&self, settings: &LocalCaSettings, now: Timestamp) -> Option<&Authority> {
        let mut valid = self.roots.iter().filter(|it| it.facts.validity.contains(now));
        let first = valid.next()?;
        Some(valid.fold(first, |old, new| {
            let half_overlap = old.overlap(settings) / 2;
            let is_known = now.since(new.facts.validity.not_before) >= half_overlap;
            let is_over = old.life_left(now) < leaf_reserve(settings);
            let is_its_turn = is_known && old.life_left(now) < half_overlap;
            if is_over || is_its_turn { new } else { old }
        }))
    }

    /// The label of the next certificate for `role`: that of a key which waits for it, or a new
    /// one.
    fn next_label(&self, role: AuthorityRole) -> AuthorityLabel {
        let last = match role {
            AuthorityRole::Root => self.last_root,
            AuthorityRole::Intermediate => self.last_intermediate,
        };
        let unfinished = self.unfinished.iter().copied().find(|it| it.role == role);
        let number = last.saturating_add(1);
        unfinished.unwrap_or(AuthorityLabel { role, number })
    }
}

/// What an intermediate or root needs to have left to sign a leaf that lives to its end.
fn leaf_reserve(settings: &LocalCaSettings) -> Duration {
    settings.lifetime.saturating_add(settings.lifetime / 10)
}

/// Whether `intermediate` may sign leafs below `root` at `now`.
fn is_fit(
    intermediate: &Authority,
    root: &Authority,
    settings: &LocalCaSettings,
    now: Timestamp,
) -> bool {
    let validity = intermediate.facts.validity;
    let ends_with_root = validity.not_after == root.facts.validity.not_after;
    let left = intermediate.life_left(now);
    validity.contains(now)
        && intermediate.permitted == settings.permitted
        && left >= leaf_reserve(settings)
        && (left >= validity.lifetime() / 2 || ends_with_root)
        && root.has_signed(intermediate)
}
