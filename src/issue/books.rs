//! What the CA counts, told to whoever keeps the books before the CA is asked.
//!
//! Each request that counts is asked for first and is spent then; afterwards it is noted what was
//! not spent after all. Whatever dies between the two has spent it.
//!
//! Not here: what is allowed, and where it is kept ([`crate::lifecycle`]).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{IssueError, Issuer, Work};
use crate::acme::{AcmeError, Order, OrderStatus, Step};
use crate::model::{
    CaName, CertificateId, CertificateName, CertificateSpec, Identifier, IssuedCertificate,
    OrderEnd, OrderKind, OrderRecord, OrderWish, Refusal, RefusedStep, Said, StorageError,
    Timestamp, chain_text,
};

/// What an order is for, beside its spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// The certificate of the same CA that the new one stands for (RFC 9773 §5).
    pub replaces: Option<Replaced>,
    /// Whether the same CA has certified the same set before.
    pub renews: bool,
    /// Whether a human asked for it.
    pub by_hand: bool,
    /// How long a certificate for it lives, as far as known.
    pub lifetime: Option<Duration>,
    /// When the certificate ends that is held, if one is.
    pub held_until: Option<Timestamp>,
}

/// The certificate that another stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// How the CA calls it (RFC 9773 §4.1).
    pub id: CertificateId,
    /// Whether the CA suggests to replace it now. Only then does Let's Encrypt exempt the order
    /// from its limits ("Rate Limits", ARI renewals).
    pub is_suggested: bool,
}

impl Purpose {
    /// How its order is counted.
    #[must_use]
    pub const fn kind(&self) -> OrderKind {
        let Self { replaces, renews, by_hand, .. } = self;
        let replaces = matches!(replaces, Some(Replaced { is_suggested: true, .. }));
        OrderKind { replaces, renews: *renews, by_hand: *by_hand }
    }

    /// The order for `identifiers`, as the ledger sees it.
    #[must_use]
    pub const fn wish<'a>(&self, identifiers: &'a [Identifier]) -> OrderWish<'a> {
        OrderWish { identifiers, kind: self.kind(), lifetime: self.lifetime }
    }
}

/// What is to be asked of a CA.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// A new account.
    Account,
    /// An order.
    Order(&'a OrderWish<'a>),
    /// An order that is given up as soon as it is seen.
    Glance,
    /// That it validates these identifiers, each of which may fail.
    Proof(&'a [Identifier], Option<Duration>),
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An account was made that nobody asked for here first.
    Account,
    /// No account was made.
    NoAccount,
    /// The order was taken as one that replaces a certificate.
    Replaces(&'a OrderWish<'a>),
    /// The order, which was spent then, gave no certificate.
    NoCertificate(&'a OrderWish<'a>, OrderEnd, Timestamp),
    /// The order gave a certificate for these identifiers that lives so long.
    Issued(&'a [Identifier], Duration),
    /// None of these failed, which were spent then.
    NotFailed(&'a [Identifier], Option<Duration>, Timestamp),
    /// Control of these was proven, which were spent then.
    Proven(&'a [Identifier], Option<Duration>, Timestamp),
}

/// What is to be asked of a CA is not asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It would be refused, or is too much for us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It can't be counted.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Keeps the books of all CAs.
#[async_trait]
pub trait Bookkeeper: fmt::Debug + Send + Sync {
    /// Spends what `request` may cost at `ca`, which is on disk on return.
    ///
    /// # Errors
    ///
    /// If it would be refused, or can't be written: it is not to be asked for then.
    async fn ask(&self, ca: &CaName, request: Request<'_>) -> Result<(), AskError>;

    /// Notes what came of a request; what can't be written stays spent.
    async fn note(&self, ca: &CaName, entry: Entry<'_>);

    /// Notes that `ca` refused more than it allows, in an order for `identifiers`.
    async fn hear(&self, ca: &CaName, identifiers: &[Identifier], said: &Said<'_>);
}

impl From<AskError> for IssueError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => Self::HeldBack(Box::new(refusal)),
            AskError::Storage(source) => Self::Storage(source),
        }
    }
}

impl Issuer {
    /// Has the books know what `error` says of limits.
    pub(super) async fn hear(&self, ca: &CaName, spec: &CertificateSpec, error: &AcmeError) {
        let AcmeError::RateLimited { place, problem, retry_at: Some(until) } = error else {
            return;
        };
        let step = match place.step {
            _ if place.is_before => RefusedStep::Before,
            Step::Account => RefusedStep::Account,
            _ => RefusedStep::Order,
        };
        let status = problem.status.unwrap_or_default();
        let said = Said { step, status, text: &problem.detail, until: *until };
        self.books.hear(ca, &spec.identifiers, &said).await;
    }

    /// Notes that nothing comes of the order of `work` any more; one that the CA has filled, or may
    /// be filling, has cost what it costs.
    pub(super) async fn note_end(
        &self,
        name: &CertificateName,
        work: &mut Work,
        purpose: &Purpose,
    ) {
        if !matches!(work.order.status(), OrderStatus::Processing | OrderStatus::Valid) {
            self.note_no_certificate(name, &mut work.record, purpose).await;
        }
    }

    /// Notes that the order of `record` gave no certificate: once, also after a crash.
    pub(super) async fn note_no_certificate(
        &self,
        name: &CertificateName,
        record: &mut OrderRecord,
        purpose: &Purpose,
    ) {
        let Some(kind) = record.counted.take() else { return };
        if let Err(error) = self.journal.save_order(name, record).await {
            let error = chain_text(&error);
            tracing::warn!(certificate = %name, error, "the ledger can't be corrected");
            return;
        }
        let lifetime = purpose.lifetime;
        let wish = OrderWish { identifiers: &record.identifiers, kind, lifetime };
        let entry = Entry::NoCertificate(&wish, OrderEnd::MaybePlaced, record.placed_at);
        self.books.note(&record.ca, entry).await;
    }

    /// Notes what became of a request to place an order for `wish`, which was spent at `spent_at`;
    /// returns how it is counted now.
    pub(super) async fn note_placed(
        &self,
        ca: &CaName,
        wish: &OrderWish<'_>,
        spent_at: Timestamp,
        placed: &Result<Order, AcmeError>,
    ) -> OrderKind {
        let plain = OrderKind { replaces: false, ..wish.kind };
        match placed {
            Ok(order) if order.is_replacement() => {
                self.books.note(ca, Entry::Replaces(wish)).await;
                wish.kind
            }
            Ok(_) => plain,
            Err(error) => {
                let end = if error.is_surely_not_done() {
                    OrderEnd::NotPlaced
                } else {
                    OrderEnd::MaybePlaced
                };
                let spent = OrderWish { kind: plain, ..*wish };
                self.books.note(ca, Entry::NoCertificate(&spent, end, spent_at)).await;
                plain
            }
        }
    }

    /// Notes what became of proofs that an earlier run spent and did not hear the end of: all but
    /// those that are still `pending` were found.
    pub(super) async fn settle_proofs(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        pending: &[Identifier],
        lifetime: Option<Duration>,
    ) {
        let unsettled = work.record.unsettled.iter();
        let (open, proven): (Vec<_>, Vec<_>) =
            unsettled.cloned().partition(|it| pending.contains(it));
        let spent_at = work.record.proofs_spent_at.unwrap_or(work.record.placed_at);
        if !proven.is_empty() && self.note_settled(spec, work, open).await {
            self.books.note(&work.record.ca, Entry::Proven(&proven, lifetime, spent_at)).await;
        }
    }

    /// Spends the proofs of `identifiers`. One that an earlier run spent for this order, and that
    /// is to be found still, has not failed: it is not spent again.
    pub(super) async fn count_proofs(
        &self,
        work: &mut Work,
        identifiers: &[Identifier],
        lifetime: Option<Duration>,
    ) -> Result<(), AskError> {
        let unsettled = &work.record.unsettled;
        let more: Vec<_> =
            identifiers.iter().filter(|it| !unsettled.contains(it)).cloned().collect();
        self.books.ask(&work.record.ca, Request::Proof(&more, lifetime)).await?;
        // On disk with the proofs that are shown next; until then they stay spent after a crash.
        let before = work.record.proofs_spent_at.filter(|_| !work.record.unsettled.is_empty());
        work.record.proofs_spent_at = before.or_else(|| Some(self.clock.now()));
        work.record.unsettled = identifiers.to_vec();
        Ok(())
    }

    /// Notes what became of the proofs that were spent for `work`.
    pub(super) async fn note_proofs(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        lifetime: Option<Duration>,
        proven: &Result<(), IssueError>,
    ) {
        let identifiers = work.record.unsettled.clone();
        let spent_at = work.record.proofs_spent_at.unwrap_or(work.record.placed_at);
        let fine = match proven {
            Ok(()) => identifiers.clone(),
            Err(IssueError::Acme(AcmeError::ValidationFailed { identifier, others, .. })) => {
                let bare = |it: &Identifier| it.to_string().trim_start_matches("*.").to_owned();
                let failed: Vec<_> = others.iter().chain([identifier]).map(bare).collect();
                identifiers.iter().filter(|it| !failed.contains(&bare(it))).cloned().collect()
            }
            // The CA may have looked, or look later, and find nothing.
            Err(IssueError::Acme(_)) => return,
            // It was never told to look.
            Err(_) => identifiers.clone(),
        };
        if self.note_settled(spec, work, Vec::new()).await {
            let entry = match proven {
                Ok(()) => Entry::Proven(&fine, lifetime, spent_at),
                Err(_) => Entry::NotFailed(&fine, lifetime, spent_at),
            };
            self.books.note(&work.record.ca, entry).await;
        }
    }

    /// Has the journal know that of all that was spent only `open` is not settled; after a crash
    /// nothing is given back twice then. Where it can't be written, nothing is given back.
    async fn note_settled(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        open: Vec<Identifier>,
    ) -> bool {
        let record = OrderRecord { unsettled: open, ..work.record.clone() };
        if let Err(error) = self.journal.save_order(&spec.name, &record).await {
            let (certificate, error) = (&spec.name, chain_text(&error));
            tracing::warn!(%certificate, error, "the ledger can't be corrected");
            return false;
        }
        work.record = record;
        true
    }

    /// Notes that `issued` came of an order at `ca`.
    pub(super) async fn note_issued(&self, ca: &CaName, issued: &IssuedCertificate) {
        let leaf = &issued.chain.leaf;
        let identifiers: Vec<_> = leaf.identifiers.iter().cloned().collect();
        self.books.note(ca, Entry::Issued(&identifiers, leaf.validity.lifetime())).await;
    }
}
