//! What can go wrong between a stored certificate and a server that serves it.

use std::sync::Arc;
use std::time::Duration;

use super::programs::program_hint;
use super::remote::RemoteError;
use super::{Doing, EndpointFault, InstallError, ReloadError, SourceError};
use crate::model::{CertificateName, Explain, Generation, Identifier, Retry, TargetName};
use crate::sys::process::ProcessError;

/// A certificate is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The configuration has no such target.
    #[error("there is no target {target}")]
    UnknownTarget {
        /// Its name.
        target: TargetName,
    },
    /// The deployer's configuration has no such certificate.
    #[error("the deployer's configuration has no certificate {certificate}")]
    UnknownCertificate {
        /// Its name.
        certificate: CertificateName,
    },
    /// The configuration does not hand that certificate to that target.
    #[error("the configuration does not hand {certificate} to target {target}")]
    NotListed {
        /// The certificate.
        certificate: CertificateName,
        /// The target.
        target: TargetName,
    },
    /// The deployer process could not be asked, or it refused or failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The stored generation can't be used.
    #[error("generation {generation} of {certificate} can't be deployed")]
    Source {
        /// The certificate.
        certificate: CertificateName,
        /// The generation.
        generation: Generation,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// The files could not be put in place; the old ones stand.
    #[error("cannot install the files of target {target}")]
    Install {
        /// The target.
        target: TargetName,
        /// Why.
        #[source]
        source: InstallError,
    },
    /// What was begun there does not end, and nothing else is done to it before.
    #[error(
        "target {target} does not answer: {doing}, begun {} ago, has not ended",
        humantime::format_duration(Duration::from_secs(ago.as_secs()))
    )]
    Silent {
        /// The target.
        target: TargetName,
        /// What was begun.
        doing: Doing,
        /// How long ago.
        ago: Duration,
        /// The folders or the program that it is about.
        places: Vec<String>,
    },
    /// Nothing is kept that could be put back.
    #[error("no earlier files of {certificate} are kept for target {target}")]
    NothingKept {
        /// The certificate.
        certificate: CertificateName,
        /// The target.
        target: TargetName,
    },
    /// The server would not accept its configuration; it was not told to reload.
    #[error("the test of target {target} failed")]
    Test {
        /// The target.
        target: TargetName,
        /// The program and its arguments, as one would type them.
        command: String,
        /// What the program said.
        #[source]
        source: ProcessError,
    },
    /// The server could not be told to load its files.
    #[error("cannot reload target {target}")]
    Reload {
        /// The target.
        target: TargetName,
        /// Why. Shared, since one reload may serve several requests.
        #[source]
        source: Arc<ReloadError>,
    },
    /// An endpoint that should serve the certificate does not.
    #[error("{address} does not serve the certificate for {name}")]
    NotServed {
        /// The endpoint, as configured.
        address: String,
        /// The name it was asked for.
        name: Identifier,
        /// What it did instead.
        #[source]
        source: Box<EndpointFault>,
    },
    /// An endpoint serves a certificate that is newer than the one we hold, which is not handed
    /// over.
    #[error(
        "{address} serves a newer certificate for {name} than the one that is held \
         (serial {serial}), and keeps it"
    )]
    ServesNewer {
        /// The certificate that is held.
        certificate: CertificateName,
        /// The endpoint, as configured.
        address: String,
        /// The name it was asked for.
        name: Identifier,
        /// The serial number of what it serves.
        serial: String,
    },
    /// No endpoint was ever seen to serve the certificate, and none of them has to.
    #[error("no endpoint of target {target} was ever seen to serve {name}")]
    Unproven {
        /// The target.
        target: TargetName,
        /// The first name that was asked for.
        name: Identifier,
        /// What the first endpoint did.
        #[source]
        source: Box<EndpointFault>,
    },
    /// There is no name that an endpoint could be asked for.
    #[error("there is no name to ask target {target} for")]
    NoName {
        /// The target.
        target: TargetName,
    },
}

impl Explain for DeployError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownTarget { .. } => "deploy.unknown_target",
            Self::UnknownCertificate { .. } | Self::NotListed { .. } => "deploy.not_listed",
            Self::Remote(error) => error.code(),
            Self::Source { .. } => "deploy.source",
            Self::Install { .. } => "deploy.install",
            Self::Silent { .. } => "deploy.silent",
            Self::NothingKept { .. } => "deploy.nothing_kept",
            Self::Test { .. } => "deploy.test",
            Self::Reload { .. } => "deploy.reload",
            Self::NotServed { .. } => "deploy.not_served",
            Self::ServesNewer { .. } => "deploy.serves_newer",
            Self::Unproven { .. } | Self::NoName { .. } => "deploy.unproven",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::UnknownTarget { .. } | Self::NothingKept { .. } | Self::NoName { .. } => {
                Retry::AfterChange
            }
            Self::Remote(error) => error.retry(),
            // What stops a deployment is on this machine, and a human may put it right any minute.
            Self::UnknownCertificate { .. }
            | Self::NotListed { .. }
            | Self::Source { .. }
            | Self::Install { .. }
            | Self::Silent { .. }
            | Self::Test { .. }
            | Self::Reload { .. }
            | Self::NotServed { .. }
            | Self::ServesNewer { .. }
            | Self::Unproven { .. } => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownTarget { target } => format!("add [target.{target}], or correct the name"),
            Self::UnknownCertificate { certificate } => format!(
                "daemon and deployer may read different files: does `renewd config show \
                 {certificate}` know it, as root too?"
            ),
            Self::NotListed { certificate, target } => {
                format!("add {target} to the targets of {certificate}, if it is to go there")
            }
            Self::Remote(error) => return error.hint(),
            Self::Source { certificate, source: SourceError::Names, .. } => format!(
                "the configuration may have changed: `renewd renew {certificate}` orders what it \
                 says now"
            ),
            Self::Source { source: SourceError::Silent { .. }, .. } => {
                "see whether the mount hangs that the state directory lies on; it is tried again"
                    .to_owned()
            }
            Self::Source { certificate, .. } => {
                format!("look with `renewd show {certificate}`; the store is repaired on its own")
            }
            Self::Install { source, .. } => return source.hint(),
            Self::Silent { target, places, .. } => format!(
                "see whether a mount hangs: {}. Nothing more is done to {target} until that ends, \
                 then it goes on by itself; other targets are served meanwhile",
                places.join(", ")
            ),
            Self::NothingKept { certificate, .. } => {
                format!("`renewd show {certificate}` lists the generations that are kept")
            }
            Self::Test { source: error @ ProcessError::Untrusted { .. }, .. } => {
                return program_hint(error);
            }
            Self::Test { command, .. } => format!(
                "run `{command}` and put right what it names; the server goes on with what it \
                 has, and the test is repeated on its own"
            ),
            Self::Reload { source, .. } => return source.hint(),
            Self::NotServed { address, source, .. } => source.hint(address),
            Self::Unproven { target, source, .. } if source.lacks_family() => {
                source.hint(target.as_str())
            }
            Self::ServesNewer { certificate, .. } => format!(
                "was the state directory put back from a backup, or does another client renew what \
                 it serves? The next renewal replaces both; `renewd renew --force {certificate}` \
                 does so now, `renewd deploy {certificate}` hands over the held one all the same"
            ),
            Self::Unproven { target, .. } => format!(
                "say in [target.{target}] where its server listens: \
                 verify = [{{ address = \"host:port\" }}]"
            ),
            Self::NoName { target } => format!(
                "state verify_names for the certificate, or names in the verify entries of \
                 [target.{target}]: nobody can ask for a wildcard"
            ),
        };
        Some(hint)
    }
}
