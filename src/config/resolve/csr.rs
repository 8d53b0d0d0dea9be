//! `csr_file`: a certificate whose key is elsewhere, and only its request is here.
//!
//! # Rules
//!
//! 1. The request is read with the configuration, is watched like it, and nobody but its owner may
//!    change it: who could would get a certificate for a key of his own.
//! 2. It asks for exactly `domains`.
//! 3. A `key` that the certificate itself names is that of the request.
//! 4. Nothing is wanted for which the key would be needed: neither a placeholder nor a target that
//!    installs the key.
//!
//! Not here: what makes a request one ([`CertificateRequest`]).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::config::exposure;
use crate::config::fault::Fault;
use crate::config::field::{At, FilePath, Item};
use crate::config::raw::RawCertificate;
use crate::model::{CertificateRequest, Identifier, MAX_REQUEST_BYTES, chain_text};

use super::certificate::Edges;

/// The request of `item`, if it names one that can be used. Its file is added to `watched`.
pub(super) fn read(
    item: &mut Item<RawCertificate>,
    watched: &mut BTreeSet<PathBuf>,
) -> Option<At<CertificateRequest>> {
    let at = item.shape.csr_file.clone()?;
    watched.insert(at.value.0.clone());
    match load(&at) {
        Ok(request) => Some(at.with(request)),
        Err(fault) => {
            item.faults.push(fault);
            None
        }
    }
}

fn load(at: &At<FilePath>) -> Result<CertificateRequest, Fault> {
    let path = &at.value.0;
    let shown = path.display();
    let failed = |error: io::Error| at.fault(format!("{shown} cannot be read: {error}"));
    // Asked before it is opened: to open a pipe would wait for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(at.fault(format!("{shown} is not a regular file")));
    }
    let mut opened = fs::File::open(path).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if let Some(found) = exposure::of(path, &metadata).map_err(failed)? {
        return Err(at.fault(format!("{shown} {}", found.message)).hint(found.remedy));
    }
    let limit = u64::try_from(MAX_REQUEST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut content = Vec::new();
    Read::by_ref(&mut opened).take(limit).read_to_end(&mut content).map_err(failed)?;
    CertificateRequest::parse(&content)
        .map_err(|error| at.fault(format!("{shown} {}", chain_text(&error))))
}

/// Holds `request` of `item` against `identifiers` and everything else that is wanted.
pub(super) fn check(
    request: &At<CertificateRequest>,
    item: &Item<RawCertificate>,
    layered: &RawCertificate,
    identifiers: &[At<Identifier>],
    edges: &Edges<'_>,
    faults: &mut Vec<Fault>,
) {
    let wanted: BTreeSet<Identifier> = identifiers.iter().map(|it| it.value.clone()).collect();
    let asked = &request.value.identifiers;
    if !wanted.is_empty() && wanted != *asked {
        let list = |label: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| format!("{label}: {}", names.join(", ")))
        };
        let missing = wanted.difference(asked).map(ToString::to_string).collect();
        let extra = asked.difference(&wanted).map(ToString::to_string).collect();
        let both = [list("missing", missing), list("not in `domains`", extra)];
        let both: Vec<String> = both.into_iter().flatten().collect();
        let message = format!("asks for other names than `domains` ({})", both.join("; "));
        let hint = "make the request anew for exactly `domains`, or correct those";
        faults.push(request.fault(message).hint(hint));
    }
    let key_type = request.value.key_type;
    if let Some(at) = &item.shape.key
        && !at.value.0.iter().all(|it| it.value == key_type)
    {
        let fault = at.fault(format!("contradicts csr_file, whose key is {key_type}"));
        faults.push(fault.hint("take it out: the request says it"));
    }
    if let Some(at) = item.shape.placeholder.as_ref().filter(|it| it.value) {
        let fault = at.fault("none can be made where the key is elsewhere (csr_file)");
        faults.push(fault.hint("take it out, and start the server when the certificate is there"));
    }
    for at in layered.targets.iter().flat_map(|it| &it.value) {
        let install = edges.targets.all.get(&at.value).map(|it| it.install.as_slice());
        let secret = install.unwrap_or_default().iter().find(|it| it.content.is_secret());
        if let Some(install) = secret {
            let message = format!(
                "target {} installs {}, and the key is elsewhere (csr_file)",
                at.value,
                install.content.file_name()
            );
            let hint = "name a target that installs fullchain, cert or chain alone";
            faults.push(at.fault(message).hint(hint));
        }
    }
}
