//! What the CA knows, and how a request finds its way: nonces, signatures, accounts first, then the
//! resource (RFC 8555 §6).
//!
//! Not here: faults and the network ([`super::serve`]); what single resources do (the files
//! beside).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use renewd::model::Timestamp;
use renewd::sys::clock::Clock;
use serde_json::{Value, json};

use super::authority::{Authority, Forgery};
use super::clock::VirtualClock;
use super::fault::{Fault, Step};
use super::jws::{Jws, encoded};
use super::limits::Buckets;
use super::objects::{Account, Advice, Authorization, Certificate, Order};
use super::options::CaOptions;
use super::reply::Reply;
use super::validate::Validation;

/// So many nonces are known at once; older ones are refused.
const MAX_NONCES: usize = 20_000;
/// So many requests are remembered whole.
const MAX_LOG: usize = 10_000;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// What kind of body.
    pub content_type: String,
    /// The body.
    pub body: bytes::Bytes,
}

/// A request that the CA was sent.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which kind.
    pub step: Step,
    /// The path.
    pub path: String,
    /// When.
    pub at: Timestamp,
    /// The JWS's payload; null if empty.
    pub payload: Value,
}

/// What the CA knows.
#[derive(Debug)]
pub struct Model {
    /// How it is set up; may be changed at any time.
    pub options: CaOptions,
    /// How it misbehaves.
    pub faults: Vec<Fault>,
    /// How many requests there were of each kind.
    pub counts: BTreeMap<Step, u64>,
    /// The last of them.
    pub log: VecDeque<Seen>,
    /// Its accounts, by number.
    pub accounts: BTreeMap<u64, Account>,
    /// Its orders.
    pub orders: BTreeMap<u64, Order>,
    /// Its authorizations.
    pub authorizations: BTreeMap<u64, Authorization>,
    /// Its certificates.
    pub certificates: BTreeMap<u64, Certificate>,
    /// How many certificates it ever made.
    pub issued: u64,
    /// What the next certificate is to be like, if not as ordered.
    pub forgery: Option<Forgery>,
    /// Advice for single certificates, by their names of RFC 9773 §4.1.
    pub advice: HashMap<String, Advice>,
    /// Advice for all others, in place of the usual one.
    pub advice_for_all: Option<Advice>,
    /// Identifiers whose proofs are not accepted, with the problem type.
    pub refused: BTreeMap<String, String>,
    /// What is left of its limits.
    pub buckets: Buckets,
    pub(super) authority: Arc<Authority>,
    pub(super) base: String,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) sets_issued: HashSet<String>,
    pub(super) random: fastrand::Rng,
    prefix: u32,
    nonces: HashSet<String>,
    nonces_in_order: VecDeque<String>,
    numbers: u64,
}

impl Model {
    pub(super) fn new(options: CaOptions, base: String, clock: Arc<VirtualClock>) -> Self {
        Self {
            authority: Arc::new(Authority::new(options.alternates)),
            random: fastrand::Rng::with_seed(options.seed),
            options,
            base,
            clock,
            faults: Vec::new(),
            counts: BTreeMap::new(),
            log: VecDeque::new(),
            accounts: BTreeMap::new(),
            orders: BTreeMap::new(),
            authorizations: BTreeMap::new(),
            certificates: BTreeMap::new(),
            issued: 0,
            forgery: None,
            advice: HashMap::new(),
            advice_for_all: None,
            refused: BTreeMap::new(),
            buckets: Buckets::default(),
            sets_issued: HashSet::new(),
            prefix: 1,
            nonces: HashSet::new(),
            nonces_in_order: VecDeque::new(),
            numbers: 0,
        }
    }

    /// The time at the CA.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Gives the resources of its directory other URLs; the old ones are gone.
    pub fn move_resources(&mut self) {
        self.prefix += 1;
    }

    /// Which kind of request goes to `path`.
    #[must_use]
    pub fn step(&self, path: &str) -> Step {
        let mut parts = path.trim_start_matches('/').split('/');
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        if first == Some(&self.prefix()) {
            return match second {
                Some("new-nonce") => Step::NewNonce,
                Some("new-account") => Step::NewAccount,
                Some("new-order") => Step::NewOrder,
                Some("key-change") => Step::KeyChange,
                Some("revoke-cert") => Step::Revoke,
                Some("renewal-info") => Step::RenewalInfo,
                _ => Step::Elsewhere,
            };
        }
        match (first, third) {
            (Some("dir"), _) => Step::Directory,
            (Some("account"), _) => Step::Account,
            (Some("order"), _) => Step::Order,
            (Some("authorization"), _) => Step::Authorization,
            (Some("challenge"), _) => Step::Challenge,
            (Some("finalize"), _) => Step::Finalize,
            (Some("certificate"), None) => Step::Certificate,
            (Some("certificate"), Some(_)) => Step::Alternate,
            _ => Step::Elsewhere,
        }
    }

    pub(super) fn note(&mut self, step: Step, asked: &Asked) {
        *self.counts.entry(step).or_default() += 1;
        let payload = Jws::parse(&asked.body).map(|it| it.value()).unwrap_or_default();
        self.log.push_back(Seen { step, path: asked.path.clone(), at: self.now(), payload });
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
        }
    }

    /// Carries the request out, and answers; with what is to be validated before the answer goes.
    pub(super) fn answer(&mut self, asked: &Asked) -> (Reply, Option<Validation>) {
        let step = self.step(&asked.path);
        let mut validation = None;
        let answered = match (step, asked.method.as_str()) {
            (Step::Elsewhere, _) => Err(not_found()),
            (Step::Directory, "GET") => Ok(Reply::json(200, &self.directory_value())),
            (Step::NewNonce, "HEAD") => Ok(Reply::empty(200)),
            (Step::NewNonce, "GET") => Ok(Reply::empty(204)),
            (Step::RenewalInfo, "GET") => self.renewal_info(last(&asked.path)),
            (_, "POST") => self.signed(step, asked, &mut validation),
            _ => Err(Reply::problem(405, "malformed", "no such method here")),
        };
        let reply = answered.unwrap_or_else(|problem| problem);
        if matches!(asked.method.as_str(), "POST") || step == Step::NewNonce {
            let nonce = self.new_nonce();
            return (reply.with("replay-nonce", nonce), validation);
        }
        (reply, validation)
    }

    fn signed(
        &mut self,
        step: Step,
        asked: &Asked,
        validation: &mut Option<Validation>,
    ) -> Result<Reply, Reply> {
        if asked.content_type != "application/jose+json" {
            return Err(Reply::problem(415, "malformed", "not application/jose+json"));
        }
        let jws = Jws::parse(&asked.body).ok_or_else(|| malformed("not a JWS"))?;
        if !matches!(jws.text("alg"), Some("ES256" | "ES384" | "RS256")) {
            return Err(Reply::problem(400, "badSignatureAlgorithm", "not an algorithm we take"));
        }
        if jws.text("url") != Some(&format!("{}{}", self.base, asked.path)) {
            return Err(Reply::problem(401, "unauthorized", "the url header is another URL"));
        }
        let nonce = jws.text("nonce").unwrap_or_default();
        if !self.nonces.remove(nonce) {
            return Err(Reply::problem(400, "badNonce", "the nonce is not one of ours, or used"));
        }
        match (jws.header.get("jwk"), jws.text("kid")) {
            (Some(key), None) if matches!(step, Step::NewAccount | Step::Revoke) => {
                let key = key.clone();
                if !jws.is_signed_by(&key) {
                    return Err(malformed("the signature does not hold"));
                }
                match step {
                    Step::NewAccount => self.new_account(&jws, &key),
                    _ => self.revoke(&jws, None, &key),
                }
            }
            (None, Some(kid)) if step != Step::NewAccount => {
                let number = self.account_of(kid)?;
                let key = self.accounts[&number].key.clone();
                if !jws.is_signed_by(&key) {
                    return Err(malformed("the signature does not hold"));
                }
                self.of_account(step, asked, &jws, number, validation)
            }
            _ => Err(malformed("one of jwk and kid, the right one here")),
        }
    }

    fn of_account(
        &mut self,
        step: Step,
        asked: &Asked,
        jws: &Jws,
        account: u64,
        validation: &mut Option<Validation>,
    ) -> Result<Reply, Reply> {
        let path = asked.path.as_str();
        match step {
            Step::Account => self.account(jws, number(path, 1)?, account),
            Step::KeyChange => self.change_key(jws, account),
            Step::NewOrder => self.new_order(jws, account),
            Step::Order => self.order(jws, number(path, 1)?, account),
            Step::Authorization => self.authorization(jws, number(path, 1)?, account),
            Step::Challenge => {
                let (authorization, index) = (number(path, 1)?, number(path, 2)?);
                let (reply, wanted) = self.challenge(jws, authorization, index, account)?;
                *validation = wanted;
                Ok(reply)
            }
            Step::Finalize => self.finalize(jws, number(path, 1)?, account),
            Step::Certificate => self.certificate(jws, number(path, 1)?, 0, account),
            Step::Alternate => self.certificate(jws, number(path, 1)?, number(path, 2)?, account),
            Step::Revoke => self.revoke(jws, Some(account), &Value::Null),
            Step::Directory
            | Step::NewNonce
            | Step::NewAccount
            | Step::RenewalInfo
            | Step::Elsewhere => Err(not_found()),
        }
    }

    fn account_of(&self, kid: &str) -> Result<u64, Reply> {
        let number = kid
            .strip_prefix(&format!("{}/account/", self.base))
            .and_then(|it| it.parse::<u64>().ok())
            .filter(|it| self.accounts.contains_key(it));
        let Some(number) = number else {
            return Err(Reply::problem(400, "accountDoesNotExist", "no such account"));
        };
        if self.accounts[&number].status != "valid" {
            return Err(Reply::problem(401, "unauthorized", "the account is deactivated"));
        }
        Ok(number)
    }

    /// The directory (RFC 8555 §7.1.1).
    pub(super) fn directory_value(&self) -> Value {
        let at = |name: &str| self.at(&format!("/{}/{name}", self.prefix()));
        let profiles: serde_json::Map<_, _> = (self.options.profiles.iter())
            .map(|it| (it.name.clone(), json!(format!("{:?}", it.lifetime))))
            .collect();
        let mut directory = json!({
            "newNonce": at("new-nonce"), "newAccount": at("new-account"),
            "newOrder": at("new-order"), "keyChange": at("key-change"),
            "revokeCert": at("revoke-cert"),
            "meta": {
                "termsOfService": self.options.terms, "profiles": profiles,
                "externalAccountRequired": self.options.binding.is_some(),
            }
        });
        if self.options.renewal_info {
            directory["renewalInfo"] = json!(at("renewal-info"));
        }
        directory
    }

    /// The URL of `path`.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn prefix(&self) -> String {
        format!("acme-{}", self.prefix)
    }

    fn new_nonce(&mut self) -> String {
        let bytes: Vec<u8> = (0..16).map(|_| fastrand::u8(..)).collect();
        let nonce = encoded(bytes);
        self.nonces.insert(nonce.clone());
        self.nonces_in_order.push_back(nonce.clone());
        if self.nonces_in_order.len() > MAX_NONCES {
            let oldest = self.nonces_in_order.pop_front().unwrap_or_default();
            self.nonces.remove(&oldest);
        }
        nonce
    }

    pub(super) fn new_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn new_token(&mut self) -> String {
        encoded((0..24).map(|_| fastrand::u8(..)).collect::<Vec<u8>>())
    }

    /// Forgets what nobody asks for any more: for runs of years.
    pub fn prune(&mut self) {
        let now = self.now();
        let week = Duration::from_hours(7 * 24);
        self.orders.retain(|_, it| now.since(it.expires) < week);
        let used: HashSet<u64> =
            self.orders.values().flat_map(|it| it.authorizations.clone()).collect();
        self.authorizations.retain(|number, it| used.contains(number) || it.expires > now);
        self.certificates.retain(|_, it| now < it.not_after);
        self.buckets.prune(&self.options.limits, now);
        let ids: HashSet<&String> = self.certificates.values().map(|it| &it.id).collect();
        self.advice.retain(|id, _| ids.contains(id));
    }
}

/// A problem of a request that can't be understood.
pub(super) fn malformed(detail: &str) -> Reply {
    Reply::problem(400, "malformed", detail)
}

pub(super) fn not_found() -> Reply {
    Reply::problem(404, "malformed", "there is nothing here")
}

fn number(path: &str, position: usize) -> Result<u64, Reply> {
    let part = path.trim_start_matches('/').split('/').nth(position);
    part.and_then(|it| it.parse().ok()).ok_or_else(not_found)
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
