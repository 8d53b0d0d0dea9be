//! The one HTTP client: for the CA, for webhooks, for the control socket.
//!
//! Whoever is at the other end is not trusted: every request has a deadline, every body a cap,
//! nothing but https leaves the machine, also not by a proxy (but for what is signed by itself,
//! where a caller asks for that), and no redirect is followed but that of a GET to the same origin.
//! Errors carry no URL, since that of a webhook is a secret; callers name the other end.
//!
//! Not here: what a status means; waiting and trying again.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper_util::client::proxy::matcher::Matcher as Proxies;

/// How many redirects of a GET are followed.
const MAX_REDIRECTS: usize = 3;
/// The variables that name proxies, as the HTTP library reads them.
const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// How long a name is looked up that a proxy would look up too.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

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

/// Which addresses a client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those that anybody may reach: never this machine, its neighbours, or a private network.
    Public,
    /// This machine alone.
    Loopback,
}

impl Reach {
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Loopback => address.is_loopback(),
        }
    }
}

/// Looks up the names that a client for strangers' URLs connects to: those of the URLs within
/// `reach`, and those of `proxies`, which are the operator's, wherever they lead.
struct Resolver {
    reach: Reach,
    proxies: Vec<String>,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let reach = self.reach;
        let is_proxy = self.proxies.iter().any(|it| it.eq_ignore_ascii_case(name.as_str()));
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            // Looked up here and connected to: no second answer can lead elsewhere.
            let allowed: Vec<_> = found.filter(|it| is_proxy || reach.allows(it.ip())).collect();
            if allowed.is_empty() {
                return Err("no address that may be asked".into());
            }
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
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
    /// The URL leads where its author has no business.
    #[error("refuses a URL that leads to this machine or into a private network")]
    OutOfReach,
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

impl HttpError {
    /// Whether there was no connection, so that nothing was sent.
    #[must_use]
    pub fn is_unconnected(&self) -> bool {
        match self {
            Self::Setup(_) | Self::NotHttps | Self::OutOfReach => true,
            Self::Connection(error) => error.is_connect(),
            Self::TimedOut | Self::TooLarge { .. } => false,
        }
    }
}

/// A client with its limits; cheap to clone, and keeps its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    /// For plain http, where that is for this machine alone: a proxy may be another one.
    local: Option<reqwest::Client>,
    max_body: usize,
    strangers: Option<Reach>,
    /// Whether there is a proxy, which looks up names by itself.
    has_proxy: bool,
}

impl HttpClient {
    /// A client for the network.
    ///
    /// # Errors
    ///
    /// If the roots can't be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        Self::with(settings, || builder(settings))
    }

    /// As [`HttpClient::new`], where what `begun` makes uses the proxies that there are.
    fn with(
        settings: &HttpSettings,
        begun: impl Fn() -> reqwest::ClientBuilder,
    ) -> Result<Self, HttpError> {
        let mut builder = begun();
        if let Roots::Only(pem) = &settings.roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Setup)?;
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(HttpError::Setup)?;
        // It sees no certificate, so it needs no roots.
        let local = begun().no_proxy().tls_certs_only([]).build().map_err(HttpError::Setup)?;
        let (max_body, local) = (settings.max_body, Some(local));
        Ok(Self { client, local, max_body, strangers: None, has_proxy: false })
    }

    /// A client that speaks plain HTTP over the Unix socket `path`, whatever host a URL names.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::new`].
    pub fn over_unix_socket(path: &Path, settings: &HttpSettings) -> Result<Self, HttpError> {
        let client = builder(settings).unix_socket(path).build().map_err(HttpError::Setup)?;
        let max_body = settings.max_body;
        Ok(Self { client, local: None, max_body, strangers: None, has_proxy: false })
    }

    /// A client for URLs that a stranger wrote, such as those in a certificate: plain HTTP too, and
    /// to addresses within `reach` alone, whatever their name resolves to. Behind a proxy a name
    /// that nobody here knows is the proxy's to judge.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::new`].
    pub fn for_strangers(settings: &HttpSettings, reach: Reach) -> Result<Self, HttpError> {
        let proxies = PROXY_VARIABLES.iter().filter_map(|it| std::env::var(it).ok());
        let proxies = proxies.filter_map(|it| host_of_proxy(&it)).collect();
        Self::behind(proxies, builder(settings), settings.max_body, reach)
    }

    /// As [`HttpClient::for_strangers`], where `builder` uses proxies on the hosts `proxies`.
    fn behind(
        proxies: Vec<String>,
        builder: reqwest::ClientBuilder,
        max_body: usize,
        reach: Reach,
    ) -> Result<Self, HttpError> {
        let has_proxy = !proxies.is_empty();
        let builder = builder.dns_resolver(std::sync::Arc::new(Resolver { reach, proxies }));
        let client = builder.build().map_err(HttpError::Setup)?;
        Ok(Self { client, local: None, max_body, strangers: Some(reach), has_proxy })
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
            match self.strangers {
                Some(reach)
                    if may_be_asked_by_strangers(&uri, reach)
                        && !(self.has_proxy && leads_beyond(&uri, reach).await) => {}
                Some(_) => return Err(HttpError::OutOfReach),
                None if may_be_asked(&uri) => {}
                None => return Err(HttpError::NotHttps),
            }
            let client = match &self.local {
                Some(local) if uri.scheme_str() == Some("http") => local,
                _ => &self.client,
            };
            let sent = client
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
        // Another crate may switch these on for all: a small answer must not unfold to a large one.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
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

/// Whether `url` leads to this machine.
#[must_use]
pub fn is_loopback_url(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
}

/// The host of `url`, if that is one of plain http for which a client that is not ours would ask a
/// proxy: one that the environment names, and does not except it from.
#[must_use]
pub fn host_behind_proxy(url: &str) -> Option<String> {
    host_behind(&Proxies::from_system(), url)
}

fn host_behind(proxies: &Proxies, url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let is_plain = uri.scheme_str() == Some("http");
    if !is_plain || proxies.intercept(&uri).is_none() {
        return None;
    }
    uri.host().map(|it| bare(it).to_owned())
}

/// A name is judged when it is resolved; here only what is no name.
fn may_be_asked_by_strangers(uri: &Uri, reach: Reach) -> bool {
    let Some(host) = uri.host() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && bare(host).parse::<IpAddr>().map_or(true, |it| reach.allows(it))
}

/// Whether the name in `uri`, which a proxy would look up, is known here to lead beyond `reach`.
async fn leads_beyond(uri: &Uri, reach: Reach) -> bool {
    let host = uri.host().unwrap_or_default();
    if host.starts_with('[') {
        return false;
    }
    let found = tokio::time::timeout(LOOK_UP_LIMIT, tokio::net::lookup_host((host, 0))).await;
    match found {
        Ok(Ok(mut addresses)) => !addresses.all(|it| reach.allows(it.ip())),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The host in the value of a variable that names a proxy, with or without a scheme.
fn host_of_proxy(value: &str) -> Option<String> {
    let uri: Uri = value.trim().trim_end_matches('/').parse().ok()?;
    uri.host().map(str::to_owned)
}

/// Whether anybody may reach `address`: none of the special ranges of RFC 6890 and its successors.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            let special = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_documentation()
                || matches!((first, second, third), (0 | 224.., _, _) | (100, 64..=127, _))
                || matches!((first, second, third), (192, 0, 0) | (198, 18..=19, _));
            !special
        }
        IpAddr::V6(address) => match address.segments() {
            // An IPv4 address in other clothes: mapped, and by NAT64.
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
                is_public(IpAddr::from([a, b, c, d]))
            }
            // 6to4 and Teredo lead into IPv4 unseen; documentation.
            [0x2002, ..] | [0x2001, 0 | 0xdb8, ..] => false,
            // Only these are given out so far.
            [first, ..] => (0x2000..0x4000).contains(&first),
        },
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host` without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
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

    /// H06: URLs that lead into the private network.
    #[test]
    fn a_strangers_url_leads_neither_here_nor_into_a_private_network() {
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        let asked = |url: &str, reach| may_be_asked_by_strangers(&url.parse().unwrap(), reach);
        assert!(asked("http://crl.example/1", Reach::Public));
        assert!(asked("http://127.0.0.1:80/1", Reach::Loopback));
        assert!(!asked("http://127.0.0.1:80/1", Reach::Public));
        assert!(!asked("http://[::1]/1", Reach::Public) && !asked("ftp://x/1", Reach::Public));
        assert!(!asked("http://8.8.8.8/1", Reach::Loopback));
    }

    #[tokio::test]
    async fn a_strangers_name_that_resolves_to_this_machine_is_not_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let client = HttpClient::for_strangers(&HttpSettings::default(), Reach::Public).unwrap();
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.parse().unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Connection(_)) && error.is_unconnected(), "{error:?}");
        let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err(), "nobody connected");
    }

    #[tokio::test]
    async fn a_stranger_leads_nobody_on_to_another_server() {
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}/", elsewhere.local_addr().unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = HttpClient::for_strangers(&HttpSettings::default(), Reach::Loopback).unwrap();
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.parse().unwrap();
        let head = format!("302 Found\r\nlocation: {location}\r\n");
        let (answer, _) = tokio::join!(client.send(request), answer_one(listener, &head));
        assert_eq!(answer.unwrap().status(), StatusCode::FOUND);
        let accepted = tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await;
        assert!(accepted.is_err(), "nobody connected");
    }

    /// Answers one request with the status and fields of `head`, and returns its first line.
    async fn answer_one(listener: tokio::net::TcpListener, head: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 {head}content-length: 4\r\n\r\nlist");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap().lines().next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_proxy_may_have_a_name_of_this_machine_and_a_strangers_url_may_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let builder = builder(&HttpSettings::default());
        let builder = builder.proxy(reqwest::Proxy::all(&url).unwrap());
        let host = host_of_proxy(&url).unwrap();
        let client = HttpClient::behind(vec![host], builder, 1024, Reach::Public).unwrap();
        let get = |url: &str| {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = url.parse().unwrap();
            client.send(request)
        };
        for inside in ["http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/"] {
            assert!(matches!(get(inside).await, Err(HttpError::OutOfReach)), "{inside}");
        }
        let asked = tokio::spawn(answer_one(listener, "200 OK\r\n"));
        let answer = get("http://crl.nowhere.invalid/1").await.unwrap();
        assert_eq!(answer.body().as_ref(), b"list");
        assert_eq!(asked.await.unwrap(), "GET http://crl.nowhere.invalid/1 HTTP/1.1");
    }

    /// N10: what is said in plain text on this machine is for nobody on the way to a proxy.
    #[tokio::test]
    async fn plain_http_to_this_machine_asks_no_proxy() {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxies = format!("http://{}", proxy.local_addr().unwrap());
        let settings = HttpSettings::default();
        let begun = || builder(&settings).proxy(reqwest::Proxy::all(&proxies).unwrap());
        let client = HttpClient::with(&settings, begun).unwrap();
        let get = |url: String| {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = url.parse().unwrap();
            client.send(request)
        };
        for host in ["127.0.0.1", "localhost"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{host}:{}/x", listener.local_addr().unwrap().port());
            let asking = async { tokio::join!(get(url), answer_one(listener, "200 OK\r\n")) };
            let (answer, asked) = tokio::select! {
                told = asking => told,
                _ = proxy.accept() => panic!("the proxy is asked for {host}"),
            };
            assert_eq!(answer.unwrap().body().as_ref(), b"list");
            assert_eq!(asked, "GET /x HTTP/1.1");
        }
        // What is encrypted goes the way that the operator chose.
        tokio::select! {
            answer = get("https://127.0.0.1:1/".to_owned()) => panic!("{answer:?}"),
            asked = answer_one(proxy, "502 Bad Gateway\r\n") => {
                assert_eq!(asked, "CONNECT 127.0.0.1:1 HTTP/1.1");
            }
        }
    }

    #[test]
    fn who_heeds_the_environment_asks_a_proxy_for_this_machine_unless_it_is_excepted() {
        let behind = |all: &str, no: &str, url: &str| {
            host_behind(&Proxies::builder().all(all).no(no).build(), url)
        };
        let (proxy, local) = ("http://proxy.lan:3128", "http://127.0.0.1:8081");
        assert_eq!(behind(proxy, "", local).as_deref(), Some("127.0.0.1"));
        assert_eq!(behind(proxy, "example.com", "http://[::1]:8081").as_deref(), Some("::1"));
        assert_eq!(behind(proxy, "", "http://localhost/api").as_deref(), Some("localhost"));
        assert_eq!(behind(proxy, "", "https://127.0.0.1:8081"), None, "nobody reads that");
        for (all, no, url) in [
            (proxy, "example.com, 127.0.0.1", local),
            (proxy, "127.0.0.0/8", local),
            (proxy, "::1", "http://[::1]:8081"),
            ("", "", local),
        ] {
            assert_eq!(behind(all, no, url), None, "{all} {no} {url}");
        }
    }

    #[test]
    fn a_proxy_is_named_in_many_ways() {
        let host = |value| host_of_proxy(value).unwrap_or_default();
        for value in ["http://proxy.lan:3128", "proxy.lan:3128", "http://u:p@proxy.lan:3128/"] {
            assert_eq!(host(value), "proxy.lan", "{value}");
        }
        assert_eq!((host("socks5h://proxy.lan"), host("")), ("proxy.lan".into(), String::new()));
    }

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
