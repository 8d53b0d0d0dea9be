//! One order from its placing to its certificate (RFC 8555 §7.1.6, §7.4, §7.5).
//!
//! # Rules
//!
//! - An order may be met in any state: what is done already is not done again.
//! - No challenge is shown or answered for an identifier that was not asked for.
//! - Only pending challenges are answered, and a valid order is never finalized again.
//! - After a finalize without an answer, the order is looked at before anything else.
//! - While the order is waited for, trouble that passes (no answer, 5xx, a page in place of the
//!   order) is waited for too; every wait ends.
//!
//! Not here: who shows what proves control ([`crate::solver`]), the key and the CSR, whether the
//! certificate is the right one ([`crate::issue`]).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::authorization::{self, Authorization, Challenge, Prover};
use super::error::{AcmeError, Place, Step};
use super::object::{
    AuthorizationObject, AuthorizationStatus, ChallengeStatus, OrderObject, OrderStatus,
};
use super::problem::ProblemKind;
use super::tap::Tap;
use super::wire::{Answer, WireError};
use crate::model::{CaName, ChallengeType, Identifier, Timestamp, escaped};

mod wait;

/// How often one call of [`Order::finalize`] sends the CSR.
const MAX_FINALIZE_TRIES: u32 = 3;

/// How many other chains of a certificate are looked at; known CAs offer one or two.
const MAX_ALTERNATES: usize = 8;

/// How many authorizations an order may have, each of which is fetched. A CA may want others than
/// one for each identifier (RFC 8555 §7.1.3); known ones do not, and take 100 identifiers.
const MAX_AUTHORIZATIONS: usize = 1000;

/// How long [`Order::finalize`] waits for an order that the CA calls not ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long [`Order::respond`] tries.
const RESPOND_LIMIT: Duration = Duration::from_secs(300);

/// An order at a CA.
pub struct Order {
    ca: CaName,
    theirs: instant_acme::Order,
    tap: Tap,
    thumbprint: String,
    account_url: String,
    alternates: Vec<String>,
    state: OrderObject,
    identifiers: Vec<Identifier>,
    authorizations: HashMap<String, AuthorizationObject>,
    retry_after: Option<Duration>,
}

impl Order {
    /// The order `theirs`, whose answer has just run through `tap` in the `step`.
    pub(super) fn new(
        ca: CaName,
        account: &instant_acme::Account,
        theirs: instant_acme::Order,
        tap: Tap,
        step: Step,
    ) -> Result<Self, AcmeError> {
        let now = tap.wire().clock().now();
        let read = || {
            let answer = tap.take().ok_or(WireError::Client { source: NO_ANSWER.into() })?;
            let state = read_object(&answer)?;
            let identifiers =
                state.identifiers.iter().map(super::object::IdentifierObject::identifier);
            let identifiers: Option<Vec<_>> = identifiers.collect();
            let identifiers = identifiers
                .ok_or_else(|| answer.malformed("holds an identifier that nobody asks for"))?;
            Ok((state, identifiers))
        };
        let (state, identifiers) =
            read().map_err(|fault| AcmeError::new(&ca, step, theirs.url(), fault, now))?;
        let thumbprint = account.key_thumbprint().to_owned();
        let account_url = account.id().to_owned();
        let authorizations = HashMap::new();
        Ok(Self {
            ca,
            theirs,
            tap,
            thumbprint,
            account_url,
            alternates: Vec::new(),
            state,
            identifiers,
            authorizations,
            retry_after: None,
        })
    }

    /// The order URL (RFC 8555 §7.1.3), by which [`super::AcmeClient::order`] takes it up again.
    #[must_use]
    pub fn url(&self) -> &str {
        self.theirs.url()
    }

    /// Its state when it was last looked at.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        self.state.status.clone()
    }

    /// What it is for, as the CA says.
    #[must_use]
    pub fn identifiers(&self) -> &[Identifier] {
        &self.identifiers
    }

    /// Whether the CA took it as one that replaces a certificate (RFC 9773 §5); not known of one
    /// that was taken up again.
    #[must_use]
    pub const fn is_replacement(&self) -> bool {
        self.tap.replaces()
    }

    /// When the CA will forget it (RFC 8555 §7.1.3), if it says so.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.state.expires.as_deref()?.parse().ok()
    }

    /// Refuses an order that is for anything else than `asked`.
    ///
    /// # Errors
    ///
    /// [`AcmeError::IdentifiersDiffer`].
    pub fn check_identifiers(&self, asked: &[Identifier]) -> Result<(), AcmeError> {
        let set = |list: &[Identifier]| list.iter().cloned().collect::<BTreeSet<_>>();
        let (asked, answered) = (set(asked), set(&self.identifiers));
        if asked == answered {
            return Ok(());
        }
        let text = |set: &BTreeSet<Identifier>| {
            set.iter().map(Identifier::value).collect::<Vec<_>>().join(", ")
        };
        Err(AcmeError::IdentifiersDiffer {
            place: self.place(Step::PlaceOrder),
            asked: text(&asked),
            answered: text(&answered),
        })
    }

    /// Its authorizations (RFC 8555 §7.1.4), in the CA's order; fetched unless they were since the
    /// order was last looked at.
    ///
    /// # Errors
    ///
    /// If one can't be fetched, or is for an identifier that the order is not for.
    pub async fn authorizations(&mut self) -> Result<Vec<Authorization>, AcmeError> {
        self.fetch_authorizations().await?;
        let account_hash_prefix = self.account_hash_prefix().await;
        let prover = Prover {
            account_url: &self.account_url,
            thumbprint: &self.thumbprint,
            account_hash_prefix: account_hash_prefix.as_deref(),
        };
        let mut found = Vec::new();
        let mut theirs = self.theirs.authorizations();
        while let Some(Ok(handle)) = theirs.next().await {
            let malformed = |what| AcmeError::Malformed {
                place: Box::new(Place {
                    ca: self.ca.clone(),
                    step: Step::FetchAuthorization,
                    url: handle.url().to_owned(),
                    is_before: false,
                    is_again: false,
                }),
                what,
                excerpt: escaped(&handle.identifier().to_string()),
                source: None,
            };
            let object = self.authorizations.get(handle.url());
            // One that was not understood before has not got better.
            let object = object.ok_or_else(|| malformed("is not an authorization"))?;
            let read = authorization::read(object, &self.identifiers, prover);
            found.push(read.map_err(malformed)?);
        }
        Ok(found)
    }

    /// Below which URL the CA names accounts in records of dns-persist-01, if it offers that and
    /// says so.
    async fn account_hash_prefix(&self) -> Option<String> {
        let mut challenges = self.authorizations.values().flat_map(|it| &it.challenges);
        let kind = ChallengeType::DnsPersist01.as_str();
        if !challenges.any(|it| it.kind() == kind) {
            return None;
        }
        self.tap.wire().directory().await.ok()?.meta.account_hash_prefix.clone()
    }

    /// Tells the CA to look at `challenge` (RFC 8555 §7.5.1), if it is pending; again, if that
    /// fails in a way that passes: its authorization is not to be spent on that.
    ///
    /// # Errors
    ///
    /// If the CA does not take note.
    pub async fn respond(&mut self, challenge: &Challenge) -> Result<(), AcmeError> {
        if challenge.status != ChallengeStatus::Pending {
            return Ok(());
        }
        let mut watch = self.watch(RESPOND_LIMIT);
        let mut is_first = true;
        loop {
            match self.answer(challenge).await {
                Ok(()) => return Ok(()),
                // The CA may have taken note although we did not hear it say so, and refuses to do
                // so twice: the order tells.
                Err(error) if !is_first && error.is_refusal() => return Ok(()),
                Err(error) => {
                    self.tolerate(error, &mut watch)?;
                    self.pause(&mut watch).await?;
                }
            }
            is_first = false;
        }
    }

    async fn answer(&mut self, challenge: &Challenge) -> Result<(), AcmeError> {
        let mut told = Err("a challenge of another order".into());
        let mut authorizations = self.theirs.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut handle = match next {
                Ok(handle) => handle,
                Err(error) => {
                    told = Err(error);
                    break;
                }
            };
            if !handle.challenges.iter().any(|it| it.url == challenge.url) {
                continue;
            }
            if let Some(mut theirs) =
                handle.challenge(authorization::in_their_words(challenge.challenge_type))
            {
                told = theirs.set_ready().await;
            }
            break;
        }
        match told {
            // The CA took note; what it says of the challenge beyond that is not needed.
            Err(instant_acme::Error::Json(_)) => {}
            told => told.map_err(|error| self.fault(Step::RespondToChallenge, error))?,
        }
        if let Some(answer) = self.tap.take() {
            self.note_retry_after(&answer);
        }
        Ok(())
    }

    /// Sends the CSR (RFC 8555 §7.4), unless the order has had one already.
    ///
    /// # Errors
    ///
    /// If the CA does not take it. The order can be taken up again unless
    /// [`AcmeError::is_end_of_order`] says otherwise.
    pub async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), AcmeError> {
        let mut last = None;
        for _ in 0..MAX_FINALIZE_TRIES {
            match self.state.status {
                OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(self.why_invalid().await),
                OrderStatus::Pending | OrderStatus::Unknown(_) => {
                    self.wait_until_ready(READY_LIMIT).await?;
                    continue;
                }
                OrderStatus::Ready => {}
            }
            let Err(error) = self.send_csr(csr_der).await else {
                // The CA has the CSR, whatever it calls the state: never a second one.
                return match self.state.status {
                    OrderStatus::Invalid => Err(self.why_invalid().await),
                    _ => Ok(()),
                };
            };
            let not_ready = error.refusal() == Some(&ProblemKind::OrderNotReady);
            let unknown = matches!(
                error,
                AcmeError::Unreachable { .. }
                    | AcmeError::Unavailable { .. }
                    | AcmeError::Malformed { .. }
            );
            if !not_ready && !unknown {
                return Err(error);
            }
            // The CA may have the CSR although we did not hear it say so.
            if self.refresh(Step::FetchOrder).await.is_err() {
                return Err(error);
            }
            if unknown && self.state.status == OrderStatus::Ready {
                return Err(error);
            }
            if not_ready && self.state.status == OrderStatus::Ready {
                self.tap.wire().clock().sleep(Duration::from_secs(1)).await;
            }
            last = Some(error);
        }
        match last {
            Some(error) => Err(error),
            None => Err(self.still_waiting(Step::Finalize)),
        }
    }

    /// Waits until the order is valid and fetches its certificate chain as PEM (RFC 8555 §7.4.2).
    ///
    /// # Errors
    ///
    /// As [`Order::wait_until_ready`].
    pub async fn download(&mut self, limit: Duration) -> Result<String, AcmeError> {
        let mut watch = self.watch(limit);
        loop {
            match self.state.status {
                OrderStatus::Valid => match self.fetch_certificate().await {
                    Ok(chain) => return Ok(chain),
                    Err(error) => {
                        self.tolerate(error, &mut watch)?;
                        self.pause(&mut watch).await?;
                    }
                },
                OrderStatus::Invalid => return Err(self.why_invalid().await),
                OrderStatus::Pending
                | OrderStatus::Ready
                | OrderStatus::Processing
                | OrderStatus::Unknown(_) => self.look_again(&mut watch).await?,
            }
        }
    }

    /// Where other chains for the certificate are, as the CA said with [`Order::download`]
    /// (RFC 8555 §7.4.2).
    #[must_use]
    pub fn alternates(&self) -> &[String] {
        &self.alternates
    }

    /// Fetches the chain at `url`, one of [`Order::alternates`], as PEM.
    ///
    /// # Errors
    ///
    /// If it does not come, or is none.
    pub async fn download_alternate(&self, url: &str) -> Result<String, AcmeError> {
        let error = |fault| {
            AcmeError::new(&self.ca, Step::Download, url, fault, self.tap.wire().clock().now())
        };
        let answer = self.tap.fetch(&self.account_url, url).await.map_err(error)?;
        match std::str::from_utf8(&answer.body) {
            Ok(chain) if chain.contains(FIRST_LINE) => Ok(chain.to_owned()),
            _ => Err(error(answer.malformed("is not a certificate chain in PEM"))),
        }
    }

    /// Gives the order up: deactivates authorizations that are still pending (RFC 8555 §7.5.2), so
    /// that they do not count against the CA's limits. Best effort.
    pub async fn abandon(&mut self) {
        self.deactivate(&[instant_acme::AuthorizationStatus::Pending]).await;
    }

    /// Has the CA forget that control was proven (RFC 8555 §7.5.2): the next order for the same
    /// identifiers has to prove it again. Best effort.
    pub async fn withdraw(&mut self) {
        use instant_acme::AuthorizationStatus::{Pending, Valid};
        self.deactivate(&[Pending, Valid]).await;
    }

    async fn deactivate(&mut self, states: &[instant_acme::AuthorizationStatus]) {
        let mut theirs = self.theirs.authorizations();
        while let Some(Ok(mut handle)) = theirs.next().await {
            let is_meant = states.contains(&handle.status);
            if is_meant && let Err(error) = handle.deactivate().await {
                let error = escaped(&error.to_string());
                tracing::debug!(ca = %self.ca, error, "an authorization was not deactivated");
            }
        }
        drop(self.tap.take());
    }

    async fn send_csr(&mut self, csr_der: &[u8]) -> Result<(), AcmeError> {
        let sent = self.theirs.finalize_csr(csr_der).await;
        sent.map_err(|error| self.fault(Step::Finalize, error))?;
        self.read_state(Step::Finalize)
    }

    async fn fetch_certificate(&mut self) -> Result<String, AcmeError> {
        let fetched = self.theirs.certificate().await;
        let chain = fetched.map_err(|error| self.fault(Step::Download, error))?;
        let answer = self.tap.take();
        match (chain, answer) {
            (Some(chain), answer) if chain.contains(FIRST_LINE) => {
                let headers = answer.map(|it| it.headers).unwrap_or_default();
                self.alternates = super::header::links(&headers, "alternate");
                self.alternates.truncate(MAX_ALTERNATES);
                Ok(chain)
            }
            (_, Some(answer)) => {
                let fault = answer.malformed("is not a certificate chain in PEM");
                Err(self.error(Step::Download, fault))
            }
            (_, None) => Err(self.still_waiting(Step::Download)),
        }
    }

    async fn refresh(&mut self, step: Step) -> Result<(), AcmeError> {
        let refreshed = self.theirs.refresh().await.map(drop);
        refreshed.map_err(|error| self.fault(step, error))?;
        self.read_state(step)
    }

    fn read_state(&mut self, step: Step) -> Result<(), AcmeError> {
        let answer = self.tap.take().ok_or(WireError::Client { source: NO_ANSWER.into() });
        let answer = answer.map_err(|fault| self.error(step, fault))?;
        self.note_retry_after(&answer);
        self.state = read_object(&answer).map_err(|fault| self.error(step, fault))?;
        Ok(())
    }

    /// The reason why the order is invalid, as the authorizations tell it.
    async fn why_invalid(&mut self) -> AcmeError {
        if let Err(error) = self.fetch_authorizations().await {
            tracing::debug!(%error, "the reason of an invalid order is not known");
        }
        let problem = self.state.problem().map(Box::new);
        let mut failures = authorization::failures(self.authorizations.values());
        if !failures.is_empty() {
            let first = failures.remove(0);
            return AcmeError::ValidationFailed {
                place: self.place(Step::FetchOrder),
                identifier: first.identifier,
                challenge: first.challenge,
                problem: Box::new(first.problem),
                others: failures.into_iter().map(|it| it.identifier).collect(),
            };
        }
        let lost = self.authorizations.values().find_map(|it| match &it.status {
            AuthorizationStatus::Deactivated
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Revoked => {
                Some((it.identifier.identifier()?, it.status.clone()))
            }
            _ => None,
        });
        match (problem, lost) {
            (None, Some((identifier, status))) => {
                let place = self.place(Step::FetchAuthorization);
                AcmeError::AuthorizationLost { place, identifier, status }
            }
            (problem, _) => {
                AcmeError::OrderInvalid { place: self.place(Step::FetchOrder), problem }
            }
        }
    }

    /// Fetches the authorizations that were not fetched since the order was last looked at: with
    /// each look, instant-acme forgets them.
    async fn fetch_authorizations(&mut self) -> Result<(), AcmeError> {
        let mut stopped = None;
        let mut theirs = self.theirs.authorizations();
        while let Some(next) = theirs.next().await {
            let handle = match next {
                Ok(handle) => handle,
                Err(error) => {
                    stopped = Some(self.tap.fault(error));
                    break;
                }
            };
            // None was asked for if instant-acme still has this one.
            let Some(answer) = self.tap.take() else { continue };
            match answer.read("is not an authorization") {
                Ok(object) => drop(self.authorizations.insert(handle.url().to_owned(), object)),
                Err(fault) => {
                    stopped = Some(fault);
                    break;
                }
            }
        }
        stopped.map_or(Ok(()), |fault| Err(self.error(Step::FetchAuthorization, fault)))
    }

    fn note_retry_after(&mut self, answer: &Answer) {
        let now = self.tap.wire().clock().now();
        self.retry_after = super::header::retry_after(&answer.headers, now);
    }

    fn place(&self, step: Step) -> Box<Place> {
        let (ca, url) = (self.ca.clone(), self.url().to_owned());
        Box::new(Place { ca, step, url, is_before: false, is_again: false })
    }

    fn fault(&self, step: Step, error: instant_acme::Error) -> AcmeError {
        let fault = self.tap.fault(error);
        self.error(step, fault)
    }

    fn error(&self, step: Step, fault: WireError) -> AcmeError {
        AcmeError::new(&self.ca, step, self.url(), fault, self.tap.wire().clock().now())
    }
}

/// The order that `answer` is.
fn read_object(answer: &Answer) -> Result<OrderObject, WireError> {
    let object: OrderObject = answer.read("is not an order")?;
    if object.authorizations.len() > MAX_AUTHORIZATIONS {
        return Err(answer.malformed("has more authorizations than anybody needs"));
    }
    Ok(object)
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("url", &self.url())
            .field("status", &self.state.status)
            .finish_non_exhaustive()
    }
}

const NO_ANSWER: &str = "no answer was seen";
const FIRST_LINE: &str = "-----BEGIN CERTIFICATE-----";
