//! The one HTTP client: for the CA, for webhooks, for the control socket.
//!
//! Whoever is at the other end is not trusted: every request has a deadline, every body a cap,
//! nothing but https leaves the machine, and no redirect is followed but that of a GET to the same
//! origin. Errors carry no URL, since that of a webhook is a secret; callers name the other end.
//!
//! Not here: what a status means; waiting and trying again.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Uri, header};

/// How many redirects of a GET are followed.
const MAX_REDIRECTS: usize = 3;

/// Which certificates of the other end are trusted.
#[derive(Clone, Debug)]
pub enum Roots {
    /// What the system trusts.
    System,
    /// These alone, as PEM.
    Only(Vec<u8>),
}

/// The limits of a client.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Whom it trusts.
    pub roots: Roots,
    /// For the connection with its TLS handshake.
    pub connect_timeout: Duration,
    /// For the whole exchange, to the last byte of the body.
    pub total_timeout: Duration,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            roots: Roots::System,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            max_body: 1024 * 1024,
        }
    }
}

/// An exchange did not take place, or not within its limits.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client could not be made: no roots, or not PEM.
    #[error("cannot prepare for HTTPS: no usable trusted roots")]
    Setup(#[source] reqwest::Error),
    /// The URL is not https (or http to loopback), or not a URL.
    #[error("refuses a URL that is not https (plain http is for loopback addresses alone)")]
    NotHttps,
    /// No connection, no TLS, or broken off.
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    /// A deadline passed.
    #[error("no complete answer within the time limit")]
    TimedOut,
    /// The body is larger than allowed.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The cap.
        limit: usize,
    },
}

/// A client with its limits; cheap to clone, and keeps its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    max_body: usize,
}

impl HttpClient {
    /// A client for the network.
    ///
    /// # Errors
    ///
    /// If the roots can't be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        let mut builder = builder(settings);
        if let Roots::Only(pem) = &settings.roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Setup)?;
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(HttpError::Setup)?;
        Ok(Self { client, max_body: settings.max_body })
    }

    /// A client that speaks plain HTTP over the Unix socket `path`, whatever host a URL names.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::new`].
    pub fn over_unix_socket(path: &Path, settings: &HttpSettings) -> Result<Self, HttpError> {
        let client = builder(settings).unix_socket(path).build().map_err(HttpError::Setup)?;
        Ok(Self { client, max_body: settings.max_body })
    }

    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// If there is no answer within the limits, or the URL may not be asked.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.answer(request).await?;
        self.read(answer).await
    }

    /// Sends `request` and reads the answer's status alone: how much body comes after it, and how
    /// slowly, does not matter.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::send`].
    pub async fn status_of(&self, request: Request<Bytes>) -> Result<StatusCode, HttpError> {
        Ok(self.answer(request).await?.status())
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<reqwest::Response, HttpError> {
        let (parts, body) = request.into_parts();
        let mut uri = parts.uri;
        for _ in 0..=MAX_REDIRECTS {
            if !may_be_asked(&uri) {
                return Err(HttpError::NotHttps);
            }
            let sent = self
                .client
                .request(parts.method.clone(), uri.to_string())
                .headers(parts.headers.clone())
                .body(body.clone())
                .send()
                .await
                .map_err(failed)?;
            match redirected(&parts.method, &uri, &sent) {
                Some(next) => uri = next,
                None => return Ok(sent),
            }
        }
        Err(HttpError::TimedOut)
    }

    async fn read(&self, mut answer: reqwest::Response) -> Result<Response<Bytes>, HttpError> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.max_body {
                return Err(HttpError::TooLarge { limit: self.max_body });
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn builder(settings: &HttpSettings) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        // RFC 8555 §6.1: a client names itself.
        .user_agent(concat!("renewd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.total_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
}

fn failed(error: reqwest::Error) -> HttpError {
    if error.is_timeout() {
        HttpError::TimedOut
    } else {
        HttpError::Connection(error.without_url())
    }
}

/// Whether `uri` may be asked: https, or plain http that does not leave the machine.
#[must_use]
pub fn may_be_asked(uri: &Uri) -> bool {
    let Some(host) = uri.host() else { return false };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback(host),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where to go on, if `answer` sends a GET elsewhere on the same origin.
fn redirected(method: &Method, asked: &Uri, answer: &reqwest::Response) -> Option<Uri> {
    if !answer.status().is_redirection() || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let base: reqwest::Url = asked.to_string().parse().ok()?;
    let next = base.join(location).ok()?;
    if next.origin() == base.origin() { next.as_str().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_leaves_the_machine() {
        let asked = |uri: &str| may_be_asked(&uri.parse().unwrap());
        assert!(asked("https://ca.example/dir") && asked("https://192.0.2.1/"));
        assert!(
            asked("http://127.0.0.1:8080/") && asked("http://[::1]/") && asked("http://localhost/")
        );
        assert!(!asked("http://ca.example/dir") && !asked("http://169.254.169.254/"));
        assert!(
            !asked("http://127.0.0.1.example/") && !asked("ftp://127.0.0.1/") && !asked("/dir")
        );
    }
}
