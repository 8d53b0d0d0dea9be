//! Changes a record that an acme-dns server holds, to which `_acme-challenge` is an alias.
//!
//! Its key is a JSON object with a registration for each name, as `POST /register` gave it:
//! `{"example.com": {"username", "password", "subdomain", "fulldomain"}}`. The one whose
//! `fulldomain` the alias leads to is used. The server keeps the two last values and forgets older
//! ones by itself, so there is nothing to remove.
//!
//! Not here: registering.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, header};
use serde::Deserialize;
use serde_json::json;

use crate::model::{Secret, TxtRecord};
use crate::sys::http::HttpClient;

use super::provider::{DnsProvider, ProviderError};

/// What the server gave when a name was registered.
#[derive(Deserialize)]
struct Registration {
    username: String,
    password: String,
    subdomain: String,
    fulldomain: String,
}

/// An acme-dns server.
pub(super) struct AcmeDns {
    client: HttpClient,
    url: String,
    /// By the name of the record that they may change.
    registrations: BTreeMap<String, (Registration, Secret)>,
}

impl fmt::Debug for AcmeDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeDns")
            .field("records", &self.registrations.keys())
            .finish_non_exhaustive()
    }
}

impl AcmeDns {
    /// The server at `url`, with the registrations in `document`; none if that is not one.
    pub(super) fn new(client: HttpClient, url: &str, document: &Secret) -> Option<Self> {
        let read: BTreeMap<String, Registration> = serde_json::from_str(document.reveal()).ok()?;
        let registrations = read.into_values().map(|mut it| {
            let password = Secret::new(std::mem::take(&mut it.password));
            let name = it.fulldomain.trim_end_matches('.').to_ascii_lowercase();
            (name, (it, password))
        });
        let registrations = registrations.collect();
        Some(Self { client, url: url.trim_end_matches('/').to_owned(), registrations })
    }
}

#[async_trait]
impl DnsProvider for AcmeDns {
    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        let Some((registration, password)) = self.registrations.get(&record.name) else {
            return Err(ProviderError::NotRegistered { name: record.name.clone() });
        };
        let body = json!({ "subdomain": registration.subdomain, "txt": record.value });
        let request = Request::post(format!("{}/update", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Api-User", &registration.username)
            .header("X-Api-Key", password.reveal())
            .body(Bytes::from(body.to_string()));
        let request = request.map_err(|_not_one| ProviderError::http(record, "acme-dns", None))?;
        let failed = |source| ProviderError::Http {
            provider: "acme-dns",
            zone: record.zone.clone(),
            source,
        };
        let status = self.client.status_of(request).await.map_err(failed)?;
        if status.is_success() {
            return Ok(());
        }
        Err(ProviderError::http(record, "acme-dns", Some(status)))
    }

    async fn remove(&self, _record: &TxtRecord) -> Result<(), ProviderError> {
        Ok(())
    }
}
