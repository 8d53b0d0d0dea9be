//! The CAA records that hold for a name, as a resolver tells them.
//!
//! Not here: what they say ([`crate::model::caa_fault`]).

use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::DnsError;
use super::zone::Finder;
use crate::model::{CaaRecord, Identifier};
use crate::solver::SolverError;

/// The CAA records that hold for `identifier`, as the system's resolver tells them.
///
/// # Errors
///
/// If no resolver answers.
pub async fn caa_by_system(identifier: &Identifier) -> Result<Vec<CaaRecord>, SolverError> {
    Ok(Finder { resolvers: Vec::new(), nameservers: None }.caa(identifier).await?)
}

impl Finder {
    /// The CAA records that hold for `identifier` (RFC 8659 §3): its own, at the end of its
    /// aliases, else those of the closest name above it that has any. None for an address.
    ///
    /// # Errors
    ///
    /// If no resolver answers.
    pub(super) async fn caa(&self, identifier: &Identifier) -> Result<Vec<CaaRecord>, DnsError> {
        let Identifier::Dns(host) = identifier else { return Ok(Vec::new()) };
        let base = host.strip_prefix("*.").unwrap_or(host);
        let mut name = Name::from_ascii(format!("{base}."))
            .map_err(|_too_long| DnsError::Unsuited { identifier: identifier.clone() })?;
        while !name.is_root() {
            let answer = self.resolve(&name, RecordType::CAA).await?;
            let records: Vec<CaaRecord> = answer.answers.iter().filter_map(read).collect();
            if !records.is_empty() {
                return Ok(records);
            }
            name = name.base_name();
        }
        Ok(Vec::new())
    }
}

fn read(record: &Record) -> Option<CaaRecord> {
    let RData::CAA(caa) = &record.data else { return None };
    Some(CaaRecord {
        is_critical: caa.issuer_critical,
        tag: caa.tag.clone(),
        value: crate::model::escaped(&String::from_utf8_lossy(&caa.value)),
    })
}
