//! Has somebody else change DNS: the protocol of lego's provider `httpreq`, in its default mode.
//!
//! `POST URL/present` and `POST URL/cleanup` with `{"fqdn": "_acme-challenge.example.com.",
//! "value": "…"}`; any answer of 200 to 299 is a yes. The name is that at the end of all aliases.
//!
//! Not here: its raw mode, which would hand over the key authorization.

use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use serde_json::json;

use crate::model::TxtRecord;
use crate::sys::http::HttpClient;

use super::provider::{DnsProvider, ProviderError};

/// Somebody who changes DNS when asked.
pub(super) struct HttpRequest {
    client: HttpClient,
    /// Without a slash at its end.
    url: String,
    /// Marked as sensitive, so that it is never shown.
    login: Option<HeaderValue>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").finish_non_exhaustive()
    }
}

impl HttpRequest {
    /// Asks at `url`; with `login` as user and password (RFC 7617) if there is one.
    pub(super) fn new(client: HttpClient, url: &str, login: Option<(&str, &str)>) -> Self {
        let login = login.and_then(|(user, password)| {
            let text = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { client, url: url.trim_end_matches('/').to_owned(), login }
    }

    async fn post(&self, action: &str, record: &TxtRecord) -> Result<(), ProviderError> {
        let body = json!({ "fqdn": format!("{}.", record.name), "value": record.value });
        let mut request = Request::post(format!("{}/{action}", self.url))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        let request = request.body(Bytes::from(body.to_string()));
        let request = request.map_err(|_not_a_url| ProviderError::http(record, "httpreq", None))?;
        let failed =
            |source| ProviderError::Http { provider: "httpreq", zone: record.zone.clone(), source };
        let status = self.client.status_of(request).await.map_err(failed)?;
        if status.is_success() {
            return Ok(());
        }
        Err(ProviderError::http(record, "httpreq", Some(status)))
    }
}

#[async_trait]
impl DnsProvider for HttpRequest {
    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.post("present", record).await
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.post("cleanup", record).await
    }
}
