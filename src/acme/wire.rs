//! Exchanges with one CA: the directory, nonces, signed requests; shared by all its orders.
//!
//! What comes back is either a success or a [`WireError`] that keeps what the CA said: its status,
//! its problem document, its Retry-After. A request whose nonce was refused is signed again and
//! sent again, up to ten times in all, with the nonce of the refusal (RFC 8555 §6.5).
//!
//! Not here: what any of it means ([`super::error`], [`super::order`]); limits of time and size
//! ([`crate::sys::http`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio::sync::Mutex;

use super::ext::jws::{AccountKey, AccountKeyError, Envelope};
use super::header as fields;
use super::nonce::NoncePool;
use super::object::Directory;
use super::problem::{Problem, ProblemKind, excerpt};
use crate::model::{CaName, Timestamp};
use crate::sys::clock::Clock;
use crate::sys::http::{HttpClient, HttpError};

/// How often a request is sent in all while its nonce is refused.
const MAX_TRIES: u32 = 10;

/// From this try on, there is a pause before the next: the CA's machines may not have told each
/// other of their nonces yet.
const TRIES_WITHOUT_PAUSE: u32 = 3;

/// How long a directory is used before it is fetched again.
const DIRECTORY_LIFETIME: Duration = Duration::from_hours(24);

/// For how long a directory that could not be had is not asked for again: all that start together,
/// or wait for each other, need one answer.
const FAILURE_LIFETIME: Duration = Duration::from_secs(15);

/// A clock that differs by more than this is worth a word.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The way to one CA.
pub(super) struct Wire {
    ca: CaName,
    directory_url: String,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    nonces: NoncePool,
    // Held while the directory is fetched, on purpose: all that start together need one request.
    directory: Mutex<Cache>,
    sent: Counters,
    skew_seconds: AtomicU64,
}

#[derive(Default)]
struct Cache {
    directory: Option<CachedDirectory>,
    /// The last failure to have one, and when that was.
    failure: Option<(Duration, WireError)>,
}

struct CachedDirectory {
    directory: Arc<Directory>,
    fetched_at: Duration,
}

#[derive(Default)]
struct Counters {
    signed: AtomicU64,
    nonces: AtomicU64,
    directories: AtomicU64,
}

/// How many requests a CA was sent by this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Signed ones: all that belongs to accounts and orders.
    pub signed: u64,
    /// For a new nonce.
    pub nonces: u64,
    /// For the directory.
    pub directories: u64,
}

/// An answer with a status of 2xx.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// Says that the answer is not what it should be.
    pub(super) fn malformed(&self, what: &'static str) -> WireError {
        WireError::Malformed {
            url: self.url.clone(),
            what,
            excerpt: excerpt(&self.body),
            source: None,
        }
    }

    /// The answer as a JSON object of the kind `T`.
    pub(super) fn read<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
    ) -> Result<T, WireError> {
        serde_json::from_slice(&self.body).map_err(|error| WireError::Malformed {
            url: self.url.clone(),
            what,
            excerpt: excerpt(&self.body),
            source: Some(error),
        })
    }
}

/// An exchange did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// No answer.
    #[error("no answer from {url}")]
    Unreachable { url: String, source: Arc<HttpError> },
    /// The CA said no.
    #[error("refused at {url}")]
    Refused {
        url: String,
        #[source]
        problem: Box<Problem>,
        retry_after: Option<Duration>,
        terms: Option<String>,
    },
    /// What was to be asked for never was: the directory, a nonce or a connection could not be had.
    #[error("nothing was asked for")]
    NotSent(#[source] Box<Self>),
    /// Each nonce was refused.
    #[error("{MAX_TRIES} nonces were refused at {url}")]
    NoncesRefused { url: String },
    /// A success that can't be understood.
    #[error("the answer {what}: {excerpt:?}")]
    Malformed {
        url: String,
        what: &'static str,
        excerpt: String,
        source: Option<serde_json::Error>,
    },
    /// The account key can't sign.
    #[error("cannot sign")]
    Key(#[from] AccountKeyError),
    /// instant-acme did not go on.
    #[error("cannot go on")]
    Client { source: instant_acme::Error },
}

impl Wire {
    /// The way to the CA `ca` with this directory. Asks nothing yet.
    pub(super) fn new(
        ca: CaName,
        directory_url: String,
        http: HttpClient,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ca,
            directory_url,
            http,
            clock,
            nonces: NoncePool::default(),
            directory: Mutex::default(),
            sent: Counters::default(),
            skew_seconds: AtomicU64::new(0),
        }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The requests sent so far.
    pub(super) fn traffic(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            signed: count(&self.sent.signed),
            nonces: count(&self.sent.nonces),
            directories: count(&self.sent.directories),
        }
    }

    /// By how much our clock and the CA's differed at the last answer with a date, if that is much.
    pub(super) fn clock_skew(&self) -> Option<Duration> {
        let seconds = self.skew_seconds.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// What time it is by the CA's clock, whatever it answers; `None` if it does not say.
    pub(super) async fn time(&self) -> Result<Option<Timestamp>, WireError> {
        self.sent.directories.fetch_add(1, Ordering::Relaxed);
        let exchange = self.send(Method::GET, &self.directory_url, Bytes::new()).await?;
        Ok(fields::date(&exchange.answer.headers))
    }

    /// The directory: fetched at first use, when it is a day old, and after
    /// [`Wire::forget_directory`]; but not for a moment after that failed.
    ///
    /// # Errors
    ///
    /// [`WireError::NotSent`]: nothing else is asked for without it.
    pub(super) async fn directory(&self) -> Result<Arc<Directory>, WireError> {
        self.cached_directory().await.map_err(WireError::before_request)
    }

    async fn cached_directory(&self) -> Result<Arc<Directory>, WireError> {
        let mut cache = self.directory.lock().await;
        let now = self.clock.monotonic();
        if let Some(directory) = cache.fresh(now) {
            return Ok(directory);
        }
        if let Some((failed_at, fault)) = &cache.failure
            && now.saturating_sub(*failed_at) < FAILURE_LIFETIME
            && let Some(fault) = fault.again()
        {
            return Err(fault);
        }
        match self.fetch_directory().await {
            Ok(directory) => {
                let kept = CachedDirectory { directory: Arc::clone(&directory), fetched_at: now };
                *cache = Cache { directory: Some(kept), failure: None };
                Ok(directory)
            }
            Err(fault) => {
                cache.failure = fault.again().map(|it| (self.clock.monotonic(), it));
                Err(fault)
            }
        }
    }

    /// The directory, if it is known and no more than a day old. Asks nothing.
    pub(super) async fn known_directory(&self) -> Option<Arc<Directory>> {
        self.directory.lock().await.fresh(self.clock.monotonic())
    }

    async fn fetch_directory(&self) -> Result<Arc<Directory>, WireError> {
        self.sent.directories.fetch_add(1, Ordering::Relaxed);
        let exchange = self.send(Method::GET, &self.directory_url, Bytes::new()).await?;
        let answer = exchange.success()?;
        Ok(Arc::new(answer.read("is not an ACME directory")?))
    }

    /// Lets the next user of the directory fetch it anew.
    pub(super) async fn forget_directory(&self) {
        self.directory.lock().await.directory = None;
    }

    /// A nonce that was not used before: a kept one, else a new one of the CA (RFC 8555 §7.2).
    ///
    /// # Errors
    ///
    /// [`WireError::NotSent`]: nothing is signed without it.
    pub(super) async fn nonce(&self) -> Result<String, WireError> {
        match self.nonces.take() {
            Some(nonce) => Ok(nonce),
            None => self.new_nonce().await.map_err(WireError::before_request),
        }
    }

    async fn new_nonce(&self) -> Result<String, WireError> {
        let url = self.cached_directory().await?.new_nonce.clone();
        self.sent.nonces.fetch_add(1, Ordering::Relaxed);
        let exchange = self.send(Method::HEAD, &url, Bytes::new()).await?;
        let nonce = fields::nonce(&exchange.answer.headers);
        let answer = exchange.success()?;
        nonce.ok_or_else(|| answer.malformed("holds no nonce"))
    }

    /// Whether the CA gives a nonce now. Where it does not, it may have moved: the next user of the
    /// directory fetches it anew.
    pub(super) async fn is_there(&self) -> bool {
        match self.new_nonce().await {
            Ok(nonce) => {
                self.nonces.put(nonce);
                true
            }
            Err(_) => {
                self.forget_directory().await;
                false
            }
        }
    }

    /// What is at `url`, unsigned: the little that a CA tells anyone.
    pub(super) async fn get(&self, url: &str) -> Result<Answer, WireError> {
        let exchange = self.send(Method::GET, url, Bytes::new()).await?;
        if exchange.status == StatusCode::NOT_FOUND {
            self.forget_directory().await;
        }
        exchange.success()
    }

    /// Signs `envelope` with `key` and sends it to `url`; again if its nonce is refused.
    pub(super) async fn post(
        &self,
        url: &str,
        envelope: &Envelope,
        key: &AccountKey,
    ) -> Result<Answer, WireError> {
        let first = envelope.sealed(key, &self.nonce().await?)?;
        self.post_signed(url, first, envelope, key).await
    }

    /// Sends `first`, which is `envelope` signed already, to `url`; if its nonce is refused, signs
    /// anew with `key` and sends again.
    ///
    /// A badNonce is safe to answer so, whatever was asked for: the CA looked no further.
    pub(super) async fn post_signed(
        &self,
        url: &str,
        first: Bytes,
        envelope: &Envelope,
        key: &AccountKey,
    ) -> Result<Answer, WireError> {
        let mut body = first;
        for tries in 1..=MAX_TRIES {
            self.sent.signed.fetch_add(1, Ordering::Relaxed);
            let exchange =
                self.send(Method::POST, url, body).await.map_err(WireError::of_request)?;
            let nonce = fields::nonce(&exchange.answer.headers);
            if !exchange.is_bad_nonce() {
                if let Some(nonce) = nonce {
                    self.nonces.put(nonce);
                }
                if exchange.status == StatusCode::NOT_FOUND {
                    // The CA may have moved its resources: the next attempt asks for the map.
                    self.forget_directory().await;
                }
                return exchange.success();
            }
            self.nonces.clear();
            if tries == MAX_TRIES {
                break;
            }
            if tries >= TRIES_WITHOUT_PAUSE {
                self.clock.sleep(Duration::from_millis(fastrand::u64(100..1000))).await;
            }
            let nonce = match nonce {
                Some(nonce) => nonce,
                None => self.nonce().await?,
            };
            body = envelope.sealed(key, &nonce)?;
        }
        Err(WireError::NoncesRefused { url: url.to_owned() })
    }

    async fn send(&self, method: Method, url: &str, body: Bytes) -> Result<Exchange, WireError> {
        let unreachable =
            |source| WireError::Unreachable { url: url.to_owned(), source: Arc::new(source) };
        let mut request = Request::new(body);
        *request.uri_mut() = url.parse().map_err(|_no_uri| unreachable(HttpError::NotHttps))?;
        if method == Method::POST {
            let jose = HeaderValue::from_static("application/jose+json");
            request.headers_mut().insert(header::CONTENT_TYPE, jose);
        }
        *request.method_mut() = method;
        let (parts, body) = self.http.send(request).await.map_err(unreachable)?.into_parts();
        self.compare_clocks(&parts.headers);
        tracing::debug!(ca = %self.ca, url, status = parts.status.as_u16(), "the CA answered");
        Ok(Exchange {
            status: parts.status,
            retry_after: fields::retry_after(&parts.headers, self.clock.now()),
            answer: Answer { url: url.to_owned(), headers: parts.headers, body },
        })
    }

    /// Warns once when the CA's clock and ours come to differ; nothing else hangs on it, since
    /// either of them may be the wrong one.
    fn compare_clocks(&self, headers: &HeaderMap) {
        let Some(theirs) = fields::date(headers) else { return };
        let ours = self.clock.now();
        let skew = ours.since(theirs).max(theirs.since(ours));
        let skew_seconds = if skew > MAX_CLOCK_SKEW { skew.as_secs() } else { 0 };
        if self.skew_seconds.swap(skew_seconds, Ordering::Relaxed) == 0 && skew_seconds > 0 {
            tracing::warn!(
                ca = %self.ca,
                skew_seconds,
                %ours,
                %theirs,
                "our clock and the CA's differ"
            );
        }
    }
}

impl Cache {
    fn fresh(&self, now: Duration) -> Option<Arc<Directory>> {
        let known = self.directory.as_ref();
        let fresh = known.filter(|it| now.saturating_sub(it.fetched_at) < DIRECTORY_LIFETIME);
        fresh.map(|it| Arc::clone(&it.directory))
    }
}

impl WireError {
    /// The same, met before anything else could be asked for.
    fn before_request(self) -> Self {
        Self::NotSent(Box::new(self))
    }

    /// The same of a request that was to be carried out: without a connection it was not sent.
    fn of_request(self) -> Self {
        match &self {
            Self::Unreachable { source, .. } if source.is_unconnected() => self.before_request(),
            _ => self,
        }
    }

    /// The same for somebody else, if it is one that concerns all.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Unreachable { url, source } => {
                Some(Self::Unreachable { url: url.clone(), source: Arc::clone(source) })
            }
            Self::Refused { url, problem, retry_after, terms } => Some(Self::Refused {
                url: url.clone(),
                problem: problem.clone(),
                retry_after: *retry_after,
                terms: terms.clone(),
            }),
            Self::Malformed { url, what, excerpt, .. } => Some(Self::Malformed {
                url: url.clone(),
                what,
                excerpt: excerpt.clone(),
                source: None,
            }),
            Self::NotSent(_) | Self::NoncesRefused { .. } | Self::Key(_) | Self::Client { .. } => {
                None
            }
        }
    }
}

/// An answer of any status.
struct Exchange {
    status: StatusCode,
    retry_after: Option<Duration>,
    answer: Answer,
}

impl Exchange {
    fn problem(&self) -> Problem {
        Problem::of_answer(self.status, &self.answer.body)
    }

    fn is_bad_nonce(&self) -> bool {
        !self.status.is_success() && self.problem().kind == ProblemKind::BadNonce
    }

    fn success(self) -> Result<Answer, WireError> {
        if self.status.is_success() {
            return Ok(self.answer);
        }
        Err(WireError::Refused {
            problem: Box::new(self.problem()),
            retry_after: self.retry_after,
            terms: fields::links(&self.answer.headers, "terms-of-service").into_iter().next(),
            url: self.answer.url,
        })
    }
}
