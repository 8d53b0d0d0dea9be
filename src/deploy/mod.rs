//! Hands a certificate to the servers that use it: install, test, reload, verify.
//!
//! The first three act on this machine and stand behind [`Deployer`], because they need rights that
//! the daemon may not have. The fourth asks the servers over the network what they serve
//! ([`verify()`], [`look`]), which anyone may do, and which is the only proof that counts.
//!
//! Not here: when to do so ([`crate::plan`]), and what is remembered of it (`lifecycle`).

mod accepted;
mod client;
mod direct;
mod endpoint;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod install;
mod lent;
mod placement;
mod programs;
mod reach;
mod remote;
mod serve;
mod settings;
mod source;
mod standing;
mod turn;
mod verify;
mod wire;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{CertificateName, Generation, TargetName};

pub use client::Client;
pub use direct::DirectDeployer;
pub use endpoint::EndpointFault;
pub use error::DeployError;
pub use install::InstallError;
pub use programs::ReloadError;
pub use remote::{RemoteError, SocketDeployer};
pub use serve::{Authority, DeployServer};
pub use settings::{
    InstallContent, InstallSettings, ProgramSettings, ReloadSettings, TargetSettings,
    VerifySettings,
};
pub use source::SourceError;
pub use turn::Doing;
pub use verify::{Verified, Wanted, look, verify};
pub use wire::{Complaint, LineError};

/// Which certificate goes to which target. It names things and carries no content: who carries it
/// out reads the store and the configuration for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployRequest {
    /// The certificate.
    pub certificate: CertificateName,
    /// Which of its generations.
    pub generation: Generation,
    /// The target.
    pub target: TargetName,
}

/// What an install did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Installed {
    /// The target has no files of its own: its server reads the store.
    Nothing,
    /// Every file had the right content and rights already.
    Unchanged,
    /// At least one file was replaced.
    Changed,
}

impl Installed {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
        }
    }
}

/// What is done to a target, the question before it, and the repair of the first. Each may be
/// repeated at any time, and may be given up half-way: whoever comes next finds the files whole, or
/// repairs them.
#[async_trait]
pub trait Deployer: Send + Sync {
    /// Finishes or undoes every install that a crash interrupted. For the start of the process:
    /// an install that is under way must not run beside it.
    async fn repair(&self) -> Result<(), DeployError>;

    /// Finds out, before anything is ordered, whether `target` could be handed a new `certificate`:
    /// its folders are there and can be written to, its programs are there. Changes nothing, and
    /// says only what is sure: what can't be told before is seen when it is done.
    async fn check(
        &self,
        certificate: &CertificateName,
        target: &TargetName,
    ) -> Result<(), DeployError>;

    /// Puts the target's files in place: all of them or, after an error, none.
    async fn install(&self, request: &DeployRequest) -> Result<Installed, DeployError>;

    /// Runs the target's test, if it has one. Changes nothing.
    async fn test(&self, request: &DeployRequest) -> Result<(), DeployError>;

    /// Tells the target's server to load its files, if the target says how; they are accepted by
    /// that, and what they replaced can't be put back any more. One reload may serve several
    /// requests: each is served by one that began after it was made.
    async fn reload(&self, request: &DeployRequest) -> Result<(), DeployError>;

    /// Puts back the accepted files, which installs of this certificate have replaced since the
    /// target's server was last told to load them, and takes away those that they added.
    async fn put_back(&self, request: &DeployRequest) -> Result<(), DeployError>;
}
