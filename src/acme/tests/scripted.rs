//! A CA that does as it is told, a clock turned by whoever sleeps, a vault in memory.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::acme::{AcmeClient, CaSettings, OrderRequest};
use crate::model::{
    AccountRecord, CaName, KeyVault, PrivateKey, SettledKey, StorageError, Timestamp,
};
use crate::sys::clock::Clock;

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Reply {
    /// An answer with `status` and a JSON `body`.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into() }
    }

    /// An answer with `status` and the text `body`.
    pub(super) fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// A problem document of the RFC's type `kind`.
    pub(super) fn problem(status: u16, kind: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self::json(status, &json!({ "type": kind, "detail": "as scripted" }))
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    /// The JWS's header; null without one.
    pub(super) header: Value,
    /// The JWS's payload; null if empty.
    pub(super) payload: Value,
}

impl Seen {
    /// The request inside the payload, as a key change has one.
    pub(super) fn inner(&self) -> Self {
        let (header, payload) = taken_apart(&self.payload);
        Self { header, payload, ..self.clone() }
    }
}

/// Header and payload of a JWS.
fn taken_apart(jws: &Value) -> (Value, Value) {
    let decoded = |part: &str| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(jws[part].as_str().unwrap_or_default());
        serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
    };
    (decoded("protected"), decoded("payload"))
}

#[derive(Default)]
struct Script {
    replies: HashMap<String, VecDeque<Reply>>,
    seen: Vec<Seen>,
    nonces: u32,
}

/// A CA whose answers are scripted by path; on its own it gives directory, nonces and accounts.
pub(super) struct ScriptedCa {
    pub(super) url: String,
    pub(super) clock: Arc<TestClock>,
    pub(super) vault: Arc<MemoryVault>,
    script: Arc<Mutex<Script>>,
    server: tokio::task::JoinHandle<()>,
}

impl ScriptedCa {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let server = tokio::spawn(serve(listener, Arc::clone(&script)));
        let ca = Self { url, clock: Arc::default(), vault: Arc::default(), script, server };
        ca.on("/dir", [Reply::json(200, &ca.directory())]);
        ca.on("/nonce", [Reply::text(200, "")]);
        ca.on("/account", [Reply::json(201, &json!({})).with("location", ca.at("/account/1"))]);
        ca
    }

    /// A URL of this CA.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// What its directory says.
    pub(super) fn directory(&self) -> Value {
        json!({
            "newNonce": self.at("/nonce"), "newAccount": self.at("/account"),
            "newOrder": self.at("/order"), "keyChange": self.at("/key-change"),
            "revokeCert": self.at("/revoke"), "future": [1, 2],
            "meta": { "termsOfService": "https://ca.example/terms", "profiles": { "short": "6 d" } }
        })
    }

    /// Answers requests for `path` one after the other; the last answer is repeated.
    pub(super) fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.script.lock().unwrap().replies.insert(path.to_owned(), replies);
    }

    /// All requests so far for `path`.
    pub(super) fn seen(&self, path: &str) -> Vec<Seen> {
        let script = self.script.lock().unwrap();
        script.seen.iter().filter(|it| it.path == path).cloned().collect()
    }

    /// How the CA is configured.
    pub(super) fn settings(&self) -> CaSettings {
        CaSettings {
            name: "lab".parse().unwrap(),
            directory: self.at("/dir"),
            trust: None,
            test: true,
            contact: vec!["mailto:ops@example.com".into()],
            terms_of_service_agreed: true,
            external_account_binding: None,
            limits: crate::model::Limits::default(),
        }
    }

    pub(super) fn client(&self) -> AcmeClient {
        self.client_with(self.settings())
    }

    pub(super) fn client_with(&self, settings: CaSettings) -> AcmeClient {
        let vault = Arc::clone(&self.vault) as Arc<dyn KeyVault>;
        AcmeClient::new(settings, vault, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap()
    }

    /// An order object for `example.com` and `www.example.com`.
    pub(super) fn order(&self, status: &str) -> Value {
        json!({
            "status": status,
            "identifiers": [
                { "type": "dns", "value": "www.example.com" }, { "type": "dns", "value": "example.com" }
            ],
            "authorizations": [self.at("/authz/1"), self.at("/authz/2")],
            "finalize": self.at("/finalize"), "certificate": self.at("/certificate")
        })
    }

    /// The answer to newOrder with such an order.
    pub(super) fn placed(&self, status: &str) -> Reply {
        Reply::json(201, &self.order(status)).with("location", self.at("/order/1"))
    }

    /// The answer to a look at such an order.
    pub(super) fn looked_at(&self, status: &str) -> Reply {
        Reply::json(200, &self.order(status))
    }

    /// Gives both authorizations in `status`, with one http-01 challenge each.
    pub(super) fn give_authorizations(&self, status: &str) {
        for (number, name) in [(1, "example.com"), (2, "www.example.com")] {
            let path = format!("/challenge/{number}");
            let challenge = json!({
                "type": "http-01", "url": self.at(&path), "token": format!("token-{number}"),
                "status": "pending"
            });
            self.on(&path, [Reply::json(200, &challenge)]);
            let authorization = json!({
                "status": status, "identifier": { "type": "dns", "value": name },
                "challenges": [challenge]
            });
            self.on(&format!("/authz/{number}"), [Reply::json(200, &authorization)]);
        }
    }
}

impl Drop for ScriptedCa {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What [`ScriptedCa::order`] is an order for.
pub(super) fn request() -> OrderRequest {
    let identifiers = ["example.com", "www.example.com"].map(|it| it.parse().unwrap());
    OrderRequest { identifiers: identifiers.to_vec(), profile: None, replaces: None }
}

async fn serve(listener: tokio::net::TcpListener, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        let answering =
            hyper::service::service_fn(move |request| answer(request, Arc::clone(&script)));
        // What it says of the time is scripted too.
        let connection = hyper::server::conn::http1::Builder::new()
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), answering);
        // A client that hangs up, as at a body that is too large, is no fault of the test.
        drop(tokio::spawn(async move { drop(connection.await) }));
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
    let jws: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (header, payload) = taken_apart(&jws);
    let mut script = script.lock().unwrap();
    let path = parts.uri.path().to_owned();
    script.seen.push(Seen { method: parts.method, path: path.clone(), header, payload });
    let reply = match script.replies.get_mut(&path) {
        Some(replies) if replies.len() > 1 => replies.pop_front(),
        Some(replies) => replies.front().cloned(),
        None => None,
    };
    let reply = reply.unwrap_or_else(|| Reply::problem(404, "malformed"));
    script.nonces += 1;
    let mut response = Response::builder()
        .status(reply.status)
        .header("replay-nonce", format!("nonce-{}", script.nonces));
    for (name, value) in reply.headers {
        if name == "replay-nonce" {
            response.headers_mut().unwrap().remove(name);
        }
        response = response.header(name, value);
    }
    Ok(response
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(reply.body))
        .unwrap())
}

/// A clock that goes on when somebody sleeps, and only then.
#[derive(Debug, Default)]
pub(super) struct TestClock {
    slept: Mutex<Vec<Duration>>,
}

impl TestClock {
    /// Every wait, in seconds.
    pub(super) fn waits(&self) -> Vec<u64> {
        self.slept.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        "2026-11-23T10:00:00Z".parse::<Timestamp>().unwrap().saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.slept.lock().unwrap().iter().sum()
    }

    async fn sleep(&self, span: Duration) {
        self.slept.lock().unwrap().push(span);
        tokio::task::yield_now().await;
    }
}

/// Accounts in memory; those set aside are kept.
#[derive(Default)]
pub(super) struct MemoryVault {
    kept: Mutex<Option<(AccountRecord, String)>>,
    next_key: Mutex<Option<String>>,
    aside: Mutex<Vec<AccountRecord>>,
}

impl MemoryVault {
    /// The account that is kept, with its key.
    pub(super) fn account(&self) -> Option<(AccountRecord, String)> {
        self.kept.lock().unwrap().clone()
    }

    /// The key that an unfinished rollover left.
    pub(super) fn next_key(&self) -> Option<String> {
        self.next_key.lock().unwrap().clone()
    }

    /// Changes the record that is kept.
    pub(super) fn change(&self, change: impl FnOnce(&mut AccountRecord)) {
        change(&mut self.kept.lock().unwrap().as_mut().unwrap().0);
    }

    /// The accounts that were set aside.
    pub(super) fn set_aside(&self) -> Vec<AccountRecord> {
        self.aside.lock().unwrap().clone()
    }
}

#[async_trait]
impl KeyVault for MemoryVault {
    async fn load_account(
        &self,
        _ca: &CaName,
    ) -> Result<Option<(AccountRecord, PrivateKey)>, StorageError> {
        Ok(self
            .account()
            .map(|(record, pem)| (record, PrivateKey::from_pem(pem.as_bytes()).unwrap())))
    }

    async fn save_account(
        &self,
        _ca: &CaName,
        record: &AccountRecord,
        key: Option<&PrivateKey>,
    ) -> Result<(), StorageError> {
        let mut kept = self.kept.lock().unwrap();
        let pem = match key {
            Some(key) => key.secret_pem().to_owned(),
            None => kept.take().unwrap().1,
        };
        *kept = Some((record.clone(), pem));
        Ok(())
    }

    async fn set_account_aside(&self, _ca: &CaName) -> Result<(), StorageError> {
        let account = self.kept.lock().unwrap().take();
        self.aside.lock().unwrap().extend(account.map(|(record, _)| record));
        *self.next_key.lock().unwrap() = None;
        Ok(())
    }

    async fn copy_account_aside(&self, _ca: &CaName) -> Result<(), StorageError> {
        let account = self.kept.lock().unwrap().clone();
        self.aside.lock().unwrap().extend(account.map(|(record, _)| record));
        Ok(())
    }

    async fn load_next_account_key(
        &self,
        _ca: &CaName,
    ) -> Result<Option<PrivateKey>, StorageError> {
        let pem = self.next_key.lock().unwrap().clone();
        Ok(pem.map(|pem| PrivateKey::from_pem(pem.as_bytes()).unwrap()))
    }

    async fn save_next_account_key(
        &self,
        _ca: &CaName,
        key: &PrivateKey,
    ) -> Result<(), StorageError> {
        *self.next_key.lock().unwrap() = Some(key.secret_pem().to_owned());
        Ok(())
    }

    async fn settle_account_key(
        &self,
        _ca: &CaName,
        settled: SettledKey,
    ) -> Result<(), StorageError> {
        let next = self.next_key.lock().unwrap().take();
        if let (SettledKey::Next, Some(next)) = (settled, next) {
            self.kept.lock().unwrap().as_mut().unwrap().1 = next;
        }
        Ok(())
    }
}
