//! What only one certificate can have: its name, and the paths that its files are installed to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::fault::Fault;
use crate::config::field::Item;
use crate::config::raw::RawCertificate;
use crate::config::tree::Place;
use crate::model::{CertificateName, CertificateSpec};

use super::certificate::Edges;
use super::key::One;

/// What only one certificate can have. A refused one keeps what it claimed: its last good version
/// is still in force.
#[derive(Debug, Default)]
pub(super) struct Claims {
    names: BTreeMap<CertificateName, Claim>,
    paths: BTreeMap<PathBuf, (CertificateName, Place)>,
}

/// Who has a name.
#[derive(Debug)]
struct Claim {
    place: Place,
    is_second: bool,
}

impl Claims {
    pub(super) fn claim_name(&mut self, one: &One, item: &mut Item<RawCertificate>) {
        let name = &one.name;
        let place = item.shape.name.as_ref().map_or(&item.place, |it| &it.place);
        if let Some(first) = self.names.get(name) {
            let of_pair = |it| if it { ", the RSA one of a pair" } else { "" };
            let message = format!(
                "there is a second certificate {name}{}, the first is at {}{}",
                of_pair(one.is_second()),
                first.place,
                of_pair(first.is_second),
            );
            let fault = Fault { message, ..Fault::at(place, "certificate.name", "") };
            item.faults.push(fault.hint("give one of them another `name`"));
        } else {
            let claim = Claim { place: place.clone(), is_second: one.is_second() };
            self.names.insert(name.clone(), claim);
        }
    }

    /// Two certificates in one file would take turns there.
    pub(super) fn claim_paths(
        &mut self,
        spec: &CertificateSpec,
        item: &mut Item<RawCertificate>,
        edges: &Edges<'_>,
    ) {
        let targets = spec.targets.iter().filter_map(|it| edges.targets.all.get(it));
        for (target, install) in targets.flat_map(|it| it.install.iter().map(move |one| (it, one)))
        {
            let path = PathBuf::from(install.path.replace("{name}", spec.name.as_str()));
            if let Some((other, first)) = self.paths.get(&path) {
                let message = format!(
                    "target {} would install {} for certificate {}, which certificate {other} at \
                     {first} already has",
                    target.name,
                    path.display(),
                    spec.name,
                );
                let hint = "write {name} into the path of the target";
                item.faults.push(item.fault(message).hint(hint));
            } else {
                self.paths.insert(path, (spec.name.clone(), item.place.clone()));
            }
        }
    }
}
