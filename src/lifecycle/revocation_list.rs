//! Looks the held certificate up in its CA's list of revoked ones (RFC 5280 §4.2.1.13).
//!
//! # Rules
//!
//! - The URLs are the certificate's own, so only an address that anybody may reach is asked; the
//!   machine itself only where the CA's directory is there too.
//! - A list is fetched at most every six hours a URL, whoever needs it, and asked for with what the
//!   server said of the last one, so that an unchanged one costs nothing.
//! - What is not found out is no failure: it is told, and the certificate is renewed in turn.
//! - A list only counts with the signature of the certificate's issuer, which stands in its chain.
//!
//! Not here: when ([`crate::plan::revocation`]); reading a list ([`crate::model::look_up`]).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};

use super::Lifecycle;
use super::facts::Facts;
use crate::model::{
    CertificateSpec, Event, Failure, Fingerprint, Held, IssuedCertificate, KeptList, ListError,
    Revocation, RevocationCheck, RevokedBy, StorageError, Timestamp, chain_text, look_up,
    revocation_list_urls,
};
use crate::plan::revocation::{INTERVAL, next_check_at};
use crate::sys::http::{HttpClient, HttpError, HttpSettings, Reach, is_loopback_url};

/// The largest list that is read, in bytes.
const MAX_LIST: usize = 16 * 1024 * 1024;
/// How long fetching one may take: others wait for the slot.
const LIMIT: Duration = Duration::from_secs(20);
/// For so long a host that did not answer is not asked for any list.
const SILENCE: Duration = Duration::from_mins(5);
/// So many URLs are tried, one after the other, until one gives a list.
const MAX_URLS: usize = 3;

impl Lifecycle {
    /// When the lists of what is held are looked at next; `None` if they are not.
    pub(super) fn list_poll_at(&self, facts: &Facts) -> Option<Timestamp> {
        let held = facts.held()?;
        if facts.revocation().is_some() || facts.has_no_list {
            return None;
        }
        next_check_at(held, facts.state.revocation_check.as_ref(), self.clock.now())
    }

    /// Looks what is held up in its CA's list, if that is due; says whether it was found there.
    pub(super) async fn look_for_revocation(
        &self,
        spec: &CertificateSpec,
        facts: &mut Facts,
    ) -> Result<bool, StorageError> {
        let now = self.clock.now();
        if self.list_poll_at(facts).is_none_or(|it| it > now) {
            return Ok(false);
        }
        let Some(held) = facts.held().cloned() else { return Ok(false) };
        let Some(stored) = self.store.stored(&spec.name, held.fingerprint()).await? else {
            return Ok(false);
        };
        facts.state.revocation_check =
            Some(RevocationCheck { certificate: held.fingerprint(), checked_at: now });
        let listed = self.listed(&stored).await;
        match listed {
            Ok(Some(reason)) => {
                let revocation = Revocation {
                    certificate: held.fingerprint(),
                    since: now,
                    reason: Some(reason.to_owned()),
                    by: RevokedBy::Others,
                    reissue: true,
                };
                self.remember_revocation(spec, facts, revocation, held.leaf.serial_text()).await?;
                return Ok(true);
            }
            Ok(None) => {}
            Err(error) => self.observer.observe(&Event::RevocationUnknown {
                certificate: spec.name.clone(),
                failure: self.unknown(&error),
            }),
        }
        self.store.save_certificate_state(&spec.name, &facts.state).await?;
        Ok(false)
    }

    /// Why `stored` is revoked, if one of its lists says so.
    async fn listed(&self, stored: &IssuedCertificate) -> Result<Option<&'static str>, ListError> {
        let [leaf, issuer, ..] = stored.chain.certificates() else { return Ok(None) };
        let mut last = None;
        for url in list_urls(leaf).into_iter().take(MAX_URLS) {
            let list = match self.list(&url, &stored.origin.directory).await {
                Ok(list) => list,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            let (leaf, issuer) = (leaf.clone(), issuer.clone());
            // Thousands of entries keep a processor busy for a while.
            let looked = tokio::task::spawn_blocking(move || look_up(&list, &leaf, &issuer));
            match looked.await {
                Ok(Ok(found)) => return Ok(found.listed.map(|it| it.reason)),
                Ok(Err(source)) => last = Some(ListError::Unusable { url, source }),
                Err(_ended) => {}
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// The list at `url`: the kept one while it is fresh, else what the server has.
    async fn list(&self, url: &str, directory: &str) -> Result<Vec<u8>, ListError> {
        let now = self.clock.now();
        let kept = self.store.revocation_list(url).await.ok().flatten();
        let is_fresh = |it: &&(KeptList, Vec<u8>)| {
            it.0.fetched_at <= now && now.since(it.0.fetched_at) < INTERVAL
        };
        if let Some((_, list)) = kept.as_ref().filter(is_fresh) {
            return Ok(list.clone());
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ListError::NotFetched {
            url: url.to_owned(),
            source,
        };
        let reach = if is_loopback_url(directory) { Reach::Loopback } else { Reach::Public };
        let settings =
            HttpSettings { total_timeout: LIMIT, max_body: MAX_LIST, ..HttpSettings::default() };
        let client = HttpClient::for_strangers(&settings, reach).map_err(|it| failed(it.into()))?;
        let request =
            request(url, kept.as_ref().map(|(it, _)| it)).map_err(|it| failed(it.into()))?;
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        if self.silences.has(&host, self.clock.monotonic()) {
            return Err(failed(format!("{host} did not answer a moment ago").into()));
        }
        let answer = client.send(request).await.map_err(|error| {
            if matches!(error, HttpError::TimedOut | HttpError::Connection(_)) {
                self.silences.note(&host, self.clock.monotonic(), SILENCE);
            }
            failed(error.into())
        })?;
        let text = |name| answer.headers().get(name).and_then(|it| it.to_str().ok());
        let meta = KeptList {
            url: url.to_owned(),
            fetched_at: now,
            sha256: Some(Fingerprint::of(answer.body())),
            etag: text(header::ETAG).map(str::to_owned),
            last_modified: text(header::LAST_MODIFIED).map(str::to_owned),
        };
        let (meta, list) = match (answer.status(), kept) {
            (StatusCode::OK, _) => (meta, answer.body().to_vec()),
            (StatusCode::NOT_MODIFIED, Some((kept, list))) => {
                (KeptList { fetched_at: now, ..kept }, list)
            }
            (status, _) => return Err(failed(format!("the server answers {status}").into())),
        };
        // A list that can't be kept is fetched again; nothing else hangs on it.
        drop(self.store.save_revocation_list(&meta, &list).await);
        Ok(list)
    }

    fn unknown(&self, error: &ListError) -> Failure {
        Failure {
            at: self.clock.now(),
            code: "revocation.unknown".to_owned(),
            message: chain_text(error),
            hint: None,
        }
    }
}

/// The URLs among those of `leaf` that can be asked.
fn list_urls(leaf: &[u8]) -> Vec<String> {
    let mut urls = revocation_list_urls(leaf);
    urls.retain(|it| it.starts_with("http://") || it.starts_with("https://"));
    urls
}

/// Whether `held` names no list that could be asked for. One that can't be read names none.
pub(super) async fn names_no_list(held: &Held) -> bool {
    let pem = tokio::fs::read(held.directory.join("cert.pem")).await.unwrap_or_default();
    let certificates = crate::model::pem::parse_certificates(&pem).unwrap_or_default();
    certificates.first().is_none_or(|it| list_urls(it).is_empty())
}

fn request(url: &str, kept: Option<&KeptList>) -> Result<Request<Bytes>, http::Error> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = Uri::try_from(url)?;
    let headers = request.headers_mut();
    if let Some(etag) = kept.and_then(|it| it.etag.as_deref()) {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(etag)?);
    } else if let Some(moment) = kept.and_then(|it| it.last_modified.as_deref()) {
        headers.insert(header::IF_MODIFIED_SINCE, HeaderValue::from_str(moment)?);
    }
    Ok(request)
}
