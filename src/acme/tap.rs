//! What instant-acme sends its requests through: our [`Wire`], with a look at each answer.
//!
//! One tap belongs to one order. It answers for the directory and for newNonce from what the wire
//! holds, keeps Replay-Nonce and Retry-After to itself (so that nonces are shared by all orders,
//! and no wait of the CA's is added up without a clamp), and shows objects in instant-acme's words
//! ([`super::object::shown`]). The last answer as it really was is kept for the order to read.
//!
//! Not here: nonces that are refused, directories, counting: [`super::wire`].

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use super::account::{Account, InUse};
use super::ext::jws::{AccountKey, Envelope};
use super::object;
use super::wire::{Answer, Wire, WireError};

/// A clone shares everything: one half is given to instant-acme, the other reads along.
#[derive(Clone)]
pub(super) struct Tap {
    wire: Arc<Wire>,
    key: Arc<AccountKey>,
    last: Arc<Mutex<Option<Answer>>>,
    replaces: Option<Arc<str>>,
    // The account's key stays what it is for as long as an order lives.
    _in_use: InUse,
}

type Answering = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl Tap {
    /// A tap for an order of the `account`, which may replace a certificate.
    pub(super) fn new(
        wire: Arc<Wire>,
        account: &Account,
        in_use: InUse,
        replaces: Option<&str>,
    ) -> Self {
        let key = Arc::clone(&account.key);
        Self { wire, key, last: Arc::default(), replaces: replaces.map(Arc::from), _in_use: in_use }
    }

    /// Whether its order names a certificate that it replaces.
    pub(super) const fn replaces(&self) -> bool {
        self.replaces.is_some()
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The answer to the last signed request; at most once.
    pub(super) fn take(&self) -> Option<Answer> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Fetches what is at `url` for the account `kid` (RFC 8555 §6.3).
    pub(super) async fn fetch(&self, kid: &str, url: &str) -> Result<Answer, WireError> {
        self.wire.post(url, &Envelope::post_as_get(kid, url), &self.key).await
    }

    /// What really went wrong where instant-acme stopped with `error`.
    pub(super) fn fault(&self, error: Error) -> WireError {
        let last = self.take();
        match error {
            Error::Other(source) => match source.downcast::<WireError>() {
                Ok(fault) => *fault,
                Err(source) => WireError::Client { source: Error::Other(source) },
            },
            // A success of the CA's that instant-acme could not read.
            error => last.map_or(WireError::Client { source: error }, |answer| {
                answer.malformed("is not what RFC 8555 says")
            }),
        }
    }

    async fn answer(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        match parts.method {
            Method::HEAD => self.hand_out_nonce().await.map_err(stopped),
            Method::POST => {
                let Ok(body) = body.collect().await;
                self.post(&url, body.to_bytes()).await.map_err(stopped)
            }
            // The only GET that is made here is that of the directory.
            _ => {
                let directory = self.wire.directory().await.map_err(stopped)?;
                let body = serde_json::to_vec(directory.as_ref())?;
                Ok(response(HeaderMap::new(), body.into()))
            }
        }
    }

    async fn hand_out_nonce(&self) -> Result<BytesResponse, WireError> {
        let nonce = self.wire.nonce().await?;
        let mut headers = HeaderMap::new();
        if let Ok(value) = nonce.parse() {
            headers.insert("replay-nonce", value);
        }
        Ok(response(headers, Bytes::new()))
    }

    async fn post(&self, url: &str, body: Bytes) -> Result<BytesResponse, WireError> {
        let Some(envelope) = Envelope::of_body(&body) else {
            return Err(WireError::Client { source: Error::Str("a request that is not signed") });
        };
        let answer = self.wire.post_signed(url, body, &envelope, &self.key).await?;
        let mut headers = HeaderMap::new();
        if let Some(location) = answer.headers.get(header::LOCATION) {
            headers.insert(header::LOCATION, location.clone());
        }
        let shown = object::shown(&answer.body, self.replaces.as_deref());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(response(headers, shown))
    }
}

impl HttpClient for Tap {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answering {
        Box::pin(self.clone().answer(request))
    }
}

fn response(headers: HeaderMap, body: Bytes) -> BytesResponse {
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    response.into()
}

fn stopped(fault: WireError) -> Error {
    Error::Other(Box::new(fault))
}
