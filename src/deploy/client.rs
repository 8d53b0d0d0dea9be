//! Whom a deployer with more rights than its client works for, and what it may be asked.
//!
//! All of it comes from the configuration: which certificates there are, what they are for, and
//! which targets they go to. A client only names things.
//!
//! Not here: who is at the other end of a socket ([`super::serve`]).

use std::collections::{BTreeMap, BTreeSet};

use super::DeployError;
use super::source::Demands;
use crate::model::{CertificateName, CertificateSpec, Identifier, TargetName};
use crate::sys::trust::Stranger;
use crate::sys::user;

/// A user who may ask for deployments and is not trusted with anything else.
#[derive(Clone, Debug)]
pub struct Client {
    /// The user's number: whose files the stored certificates have to be.
    pub(super) user: u32,
    certificates: BTreeMap<CertificateName, Permitted>,
    /// The groups that keys are given to, which only a process in them can do.
    read_groups: BTreeSet<String>,
}

/// What may be asked for one certificate.
#[derive(Clone, Debug)]
struct Permitted {
    identifiers: BTreeSet<Identifier>,
    targets: BTreeSet<TargetName>,
    /// The public half of its key, where that is elsewhere.
    key_elsewhere: Option<Vec<u8>>,
}

impl Client {
    /// The user with the number `user`, who may ask for what `certificates` say and nothing else.
    #[must_use]
    pub fn new(user: u32, certificates: &[CertificateSpec]) -> Self {
        let permitted = |spec: &CertificateSpec| {
            let targets = spec.targets.iter().cloned().collect();
            let key_elsewhere = spec.request().map(|it| it.public_key.clone());
            let identifiers = spec.identifier_set();
            (spec.name.clone(), Permitted { identifiers, targets, key_elsewhere })
        };
        let read_groups = certificates.iter().filter_map(|it| it.read_group.clone()).collect();
        Self { user, certificates: certificates.iter().map(permitted).collect(), read_groups }
    }

    /// The user, if he has not all rights of this process anyway. May block, where groups come from
    /// the network.
    pub(super) fn stranger(&self) -> Option<Stranger> {
        let user = Some(self.user).filter(|it| ![0, user::own_user_id()].contains(it))?;
        let groups = self.read_groups.iter().filter_map(|it| user::group_id(it).ok());
        Some(Stranger { user, groups: groups.collect() })
    }

    /// That anything may be asked for `certificate` at `target`.
    ///
    /// # Errors
    ///
    /// [`DeployError::UnknownCertificate`], or [`DeployError::NotListed`] for a target that the
    /// certificate does not go to.
    pub(super) fn check(
        &self,
        certificate: &CertificateName,
        target: &TargetName,
    ) -> Result<(), DeployError> {
        let Some(permitted) = self.certificates.get(certificate) else {
            return Err(DeployError::UnknownCertificate { certificate: certificate.clone() });
        };
        if permitted.targets.contains(target) {
            return Ok(());
        }
        let (certificate, target) = (certificate.clone(), target.clone());
        Err(DeployError::NotListed { certificate, target })
    }

    /// What has to hold of a generation of `certificate`.
    pub(super) fn demands(&self, certificate: &CertificateName) -> Option<Demands<'_>> {
        let permitted = self.certificates.get(certificate)?;
        Some(Demands {
            owner: self.user,
            identifiers: &permitted.identifiers,
            key_elsewhere: permitted.key_elsewhere.as_deref(),
        })
    }
}
