//! Changes DNS by the interface of a provider, with a client of the crate dns-update.
//!
//! What these clients say of a failure may hold what they sent, so a message is freed from every
//! secret of the settings and from the queries of URLs before it goes on. They ask proxies that the
//! environment names for this machine too: plain http to it is not said at all then.
//!
//! Not here: which providers there are ([`super::catalogue`]); RFC 2136, which is our own.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error};
use tokio::sync::Mutex;

use crate::model::{Secret, TxtRecord};

use super::catalogue::Values;
use super::provider::{DnsProvider, Failure, ProviderError, redacted};

/// For one request of a client's.
pub(super) const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

/// How long others may remember a value: several providers refuse less than ten minutes. A CA asks
/// the zone's own servers.
const TTL: u32 = 600;

/// A provider with an interface of its own.
pub(super) struct Update {
    name: String,
    updater: DnsUpdater,
    values: Values,
    secrets: Vec<Secret>,
    /// The host that is asked by plain http, if that would go through a proxy.
    behind_proxy: Option<String>,
    /// Where only one value can stand: which one is ours, by name.
    only: Mutex<HashMap<String, String>>,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("provider", &self.name).finish_non_exhaustive()
    }
}

impl Update {
    /// The provider `name`, whose messages may hold `secrets`; `behind_proxy` is the host that
    /// would be asked by plain http through a proxy.
    pub(super) fn new(
        name: String,
        updater: DnsUpdater,
        values: Values,
        secrets: Vec<Secret>,
        behind_proxy: Option<String>,
    ) -> Self {
        Self { name, updater, values, secrets, behind_proxy, only: Mutex::default() }
    }

    fn failed(&self, record: &TxtRecord, error: &Error) -> ProviderError {
        let failure = match error {
            Error::Unauthorized => Failure::Unauthorized,
            Error::NotFound => Failure::NotFound,
            _ => Failure::Other,
        };
        let message = redacted(&error.to_string(), &self.secrets);
        let (provider, zone) = (self.name.clone(), record.zone.clone());
        ProviderError::Api { provider, zone, failure, message }
    }

    /// Sets the one value of `record`, or none.
    async fn set(&self, record: &TxtRecord, values: Vec<DnsRecord>) -> dns_update::Result<()> {
        let TxtRecord { name, zone, .. } = record;
        self.updater.set_rrset(name.as_str(), DnsRecordType::TXT, TTL, values, zone.as_str()).await
    }
}

fn txt(record: &TxtRecord) -> Vec<DnsRecord> {
    vec![DnsRecord::TXT(record.value.clone())]
}

#[async_trait]
impl DnsProvider for Update {
    async fn check(&self) -> Result<(), ProviderError> {
        match self.behind_proxy.clone() {
            Some(host) => Err(ProviderError::BehindProxy { provider: self.name.clone(), host }),
            None => Ok(()),
        }
    }

    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.check().await?;
        let TxtRecord { name, zone, value } = record;
        let added = match self.values {
            Values::Many => {
                let (name, zone) = (name.as_str(), zone.as_str());
                let kind = DnsRecordType::TXT;
                self.updater.add_to_rrset(name, kind, TTL, txt(record), zone).await
            }
            Values::One => {
                let mut only = self.only.lock().await;
                if only.get(name).is_some_and(|it| it != value) {
                    let (provider, name) = (self.name.clone(), name.clone());
                    return Err(ProviderError::OneValue { provider, name });
                }
                only.insert(name.clone(), value.clone());
                self.set(record, txt(record)).await
            }
        };
        added.map_err(|error| self.failed(record, &error))
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.check().await?;
        let TxtRecord { name, zone, value } = record;
        let removed = match self.values {
            Values::Many => {
                let (name, zone) = (name.as_str(), zone.as_str());
                self.updater.remove_from_rrset(name, DnsRecordType::TXT, txt(record), zone).await
            }
            Values::One => {
                let mut only = self.only.lock().await;
                // Another value of ours has taken its place.
                if only.get(name).is_some_and(|it| it != value) {
                    return Ok(());
                }
                let removed = self.set(record, Vec::new()).await;
                if removed.is_ok() {
                    only.remove(name);
                }
                removed
            }
        };
        match removed {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(self.failed(record, &error)),
        }
    }
}
