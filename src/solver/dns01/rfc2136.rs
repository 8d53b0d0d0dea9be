//! Changes a zone by dynamic update (RFC 2136), signed by TSIG (RFC 8945).
//!
//! Each update adds or removes one value, which the server does as a whole or not at all; nothing
//! of others is touched, and doing it twice is doing it once (RFC 2136 §2.5.1, §2.5.4). Updates go
//! over TCP, so that none is cut short, and an answer counts only with a signature that fits.
//!
//! Not here: which zone ([`super::zone`]); SIG(0), GSS-TSIG and updates without a key.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

use crate::model::TxtRecord;
use crate::sys::clock::Clock;

use super::exchange::{ExchangeError, by_tcp};
use super::provider::{DnsProvider, ProviderError, Refusal};
use super::tsig::{Algorithm, TsigKey};

/// How long others may remember the value; a CA asks the zone's own servers.
const TTL: u32 = 60;

/// How far the clocks may differ, in seconds (RFC 8945 §10 advises this).
const FUDGE: u16 = 300;

/// A primary server that takes updates.
pub(super) struct Rfc2136 {
    /// `host:port`.
    server: String,
    signer: TSigner,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rfc2136").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Rfc2136 {
    /// Updates at `server` (`host:port`), signed with `key`; none if the key can't sign.
    pub(super) fn new(server: String, key: &TsigKey, clock: Arc<dyn Clock>) -> Option<Self> {
        let algorithm = match key.algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let name = Name::from_ascii(&key.name).ok()?;
        let signer = TSigner::new(key.bytes()?.to_vec(), algorithm, name, FUDGE).ok()?;
        Some(Self { server, signer, clock })
    }

    /// Sends an update of `record`, whose class and TTL say what is to be done.
    async fn update(
        &self,
        record: &TxtRecord,
        class: DNSClass,
        ttl: u32,
    ) -> Result<(), ProviderError> {
        let failed = |source| ProviderError::Exchange {
            server: self.server.clone(),
            zone: record.zone.clone(),
            source,
        };
        let unsigned = || ProviderError::Unsigned { server: self.server.clone() };
        let mut message = message(record, class, ttl).map_err(failed)?;
        let now = self.clock.now().unix_seconds();
        let signed = message.finalize(&self.signer, now);
        let mut verifier = signed.map_err(|_no_key| unsigned())?.ok_or_else(unsigned)?;
        let request = message.to_vec().map_err(|_too_long| failed(ExchangeError::Malformed))?;

        let mut last = ExchangeError::TimedOut;
        for address in self.addresses().await? {
            let bytes = match by_tcp(address, &request).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let answer =
                Message::from_vec(&bytes).map_err(|_garbage| failed(ExchangeError::Malformed))?;
            if answer.id != message.id {
                return Err(failed(ExchangeError::Malformed));
            }
            // What a server says of a key that it does not accept, it can't sign (RFC 8945 §5.3.2).
            if let Some(refusal) = refusal(&answer) {
                let (server, zone) = (self.server.clone(), record.zone.clone());
                return Err(ProviderError::Refused { server, zone, refusal });
            }
            return verifier.verify(&bytes).map(drop).map_err(|_forged| unsigned());
        }
        Err(failed(last))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ProviderError> {
        let failed = |source| ProviderError::Resolve { server: self.server.clone(), source };
        let addresses: Vec<_> =
            tokio::net::lookup_host(&self.server).await.map_err(failed)?.collect();
        if addresses.is_empty() {
            return Err(failed(std::io::Error::other("the name has no address")));
        }
        Ok(addresses)
    }
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    async fn add(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        self.update(record, DNSClass::IN, TTL).await
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        // RFC 2136 §2.5.4: class NONE and TTL 0 delete the one record with this value.
        self.update(record, DNSClass::NONE, 0).await
    }
}

fn message(record: &TxtRecord, class: DNSClass, ttl: u32) -> Result<Message, ExchangeError> {
    let name = |text: &str| {
        Name::from_ascii(format!("{text}.")).map_err(|_not_one| ExchangeError::Malformed)
    };
    let mut zone = Query::query(name(&record.zone)?, RecordType::SOA);
    zone.set_query_class(DNSClass::IN);
    let data = RData::TXT(TXT::new(vec![record.value.clone()]));
    let mut update = Record::from_rdata(name(&record.name)?, ttl, data);
    update.dns_class = class;

    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(zone);
    // RFC 2136 §2.2: updates stand where answers refer to authorities.
    message.add_authority(update);
    Ok(message)
}

/// What the server refuses, if it does.
pub(super) fn refusal(answer: &Message) -> Option<Refusal> {
    let of_key = answer.signature().and_then(|it| it.data.error);
    Some(match (answer.response_code, of_key) {
        (ResponseCode::NoError, None) => return None,
        (_, Some(TsigError::BadKey)) => Refusal::BadKey,
        (_, Some(TsigError::BadSig)) => Refusal::BadSignature,
        (_, Some(TsigError::BadTime)) => Refusal::BadTime,
        (ResponseCode::Refused, _) => Refusal::Refused,
        (ResponseCode::NotAuth, _) => Refusal::NotAuthoritative,
        (ResponseCode::NotZone, _) => Refusal::NotInZone,
        (code, _) => Refusal::Other(code.into()),
    })
}
