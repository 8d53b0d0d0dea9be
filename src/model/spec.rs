//! What the operator wants of one certificate, every default filled in.
//!
//! Not here: the file's shape ([`crate::config`]); CAs, solvers and targets, whose settings their
//! own modules hold and which appear here by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{
    CaName, CertificateName, CertificateRequest, Identifier, KeyType, SolverName, TargetName,
};

/// One certificate as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// Its name, and its folder's.
    pub name: CertificateName,
    /// What it is for, without duplicates, in the operator's order; never empty.
    pub identifiers: Vec<Identifier>,
    /// The CA and its stand-ins; never empty.
    pub cas: Vec<CaName>,
    /// The kind of its key.
    pub key_type: KeyType,
    /// The other certificate of a pair: for the same identifiers, with a key of the other family.
    /// Servers have both, and show each client the one that it takes.
    pub paired_with: Option<CertificateName>,
    /// Where the key of the next certificate comes from.
    pub key_source: KeySource,
    /// The CA's profile (draft-ietf-acme-profiles), if one is asked for.
    pub profile: Option<String>,
    /// The common name of an issuer that the chain is to lead to, where the CA offers several
    /// (RFC 8555 §7.4.2).
    pub preferred_chain: Option<String>,
    /// Which solver proves which identifier; one entry for each of [`Self::identifiers`].
    pub solvers: BTreeMap<Identifier, SolverName>,
    /// The servers that use it.
    pub targets: Vec<TargetName>,
    /// Host names to ask servers for, where they differ from the identifiers; for wildcards.
    pub verify_names: Vec<Identifier>,
    /// Whether the servers are asked what they serve.
    pub verify: bool,
    /// The system's group that may read the key.
    pub read_group: Option<String>,
    /// Whether a self-signed stand-in is put down until the first certificate is there.
    pub placeholder: bool,
    /// The file that says so, for messages.
    pub source: PathBuf,
}

/// Where the key of a certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// A new one each time.
    #[default]
    Fresh,
    /// That of the certificate before it, as long as it may be used.
    Kept,
    /// It is elsewhere, and has sent this request.
    Elsewhere(CertificateRequest),
}

impl CertificateSpec {
    /// The identifiers as a set, to compare with a certificate's.
    #[must_use]
    pub fn identifier_set(&self) -> BTreeSet<Identifier> {
        self.identifiers.iter().cloned().collect()
    }

    /// The request of a key that is elsewhere.
    #[must_use]
    pub const fn request(&self) -> Option<&CertificateRequest> {
        match &self.key_source {
            KeySource::Elsewhere(request) => Some(request),
            KeySource::Fresh | KeySource::Kept => None,
        }
    }

    /// The CA that is asked first.
    ///
    /// `None` only for a spec that the configuration would not have let pass.
    #[must_use]
    pub fn first_ca(&self) -> Option<&CaName> {
        self.cas.first()
    }
}
