//! The admin API: HTTP on the control socket, for root, the daemon's own user and the group
//! `renewd-admin`.
//!
//! Default deny: a peer whose credentials are not on that list gets 403 for everything, an unknown
//! path 404, a body over 64 KiB 413. At most 64 connections, each with one request and ten seconds
//! for it; whoever is silent keeps nobody out. Certificates are named, never paths; there is no way
//! to read a key. Every call that changes something leaves a line in the log with who made it.
//!
//! Not here: what the calls do ([`crate::daemon`]); the commands that make them ([`crate::cli`]).

mod client;
mod connections;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod server;

use serde::{Deserialize, Serialize};

use crate::acme::AccountAction;
use crate::lifecycle::Outcome;
use crate::model::{
    AllowanceStatus, CaName, CertificateName, Explain, RevocationRequest, Timestamp, chain_text,
};
use crate::observe::DeliveryError;
use crate::plan::Asked;

pub use crate::daemon::Reloaded;
pub use client::{ApiError, Client};
pub use server::{ControlSocket, ServeError};

/// What to work on, and how much it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkRequest {
    /// Which certificates; empty: all.
    #[serde(default)]
    pub names: Vec<CertificateName>,
    /// Whether orders may be placed, or targets served only.
    #[serde(default)]
    pub scope: Scope,
    /// Whether also what is not due is done.
    #[serde(default)]
    pub force: bool,
    /// Whether a certificate of a CA for tests may replace one of a real CA.
    // Left out where it is not, so that a daemon of the version before takes the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_untrusted: bool,
}

/// How far work may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Orders and targets.
    #[default]
    Renew,
    /// Targets alone.
    Deploy,
}

impl WorkRequest {
    /// How the plan is to see it.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match (self.scope, self.force) {
            (Scope::Renew, true) if self.allow_untrusted => Asked::ForcedUntrusted,
            (Scope::Renew, true) => Asked::Forced,
            (Scope::Renew, false) if self.allow_untrusted => Asked::Untrusted,
            (Scope::Renew, false) if self.names.is_empty() => Asked::ByTime,
            (Scope::Renew, false) => Asked::ByName,
            (Scope::Deploy, true) => Asked::Redeploy,
            (Scope::Deploy, false) => Asked::DeployPending,
        }
    }
}

/// What would be done for one certificate, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Which one.
    pub name: CertificateName,
    /// What would be done at the CA: `keep`, `issue`, `back_off`, `blocked`.
    pub renewal: String,
    /// Why.
    pub reason: String,
    /// When it is due, or tried next.
    pub at: Option<Timestamp>,
    /// What is left for it of what its CA allows, where anything is counted.
    #[serde(default)]
    pub allowance: Option<AllowanceStatus>,
    /// What would be done at each target, and why.
    pub targets: Vec<PlanTarget>,
}

/// What would be done at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTarget {
    /// Which one.
    pub name: crate::model::TargetName,
    /// `served`, `look`, `deploy`, `back_off` or `nothing`.
    pub deployment: String,
    /// Why.
    pub reason: Option<String>,
    /// When the next look or try comes.
    pub at: Option<Timestamp>,
}

impl PlanEntry {
    /// The plan of `outcome` in words.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        use crate::plan::Renewal;

        let Outcome { plan, status, .. } = outcome;
        let (renewal, reason, at) = match &plan.renewal {
            Renewal::Keep { renew_at, reason } => {
                ("keep", reason.of_keeping().to_owned(), Some(*renew_at))
            }
            Renewal::Issue(reason) => ("issue", reason.to_string(), None),
            Renewal::BackOff { until, reason } => ("back_off", reason.to_string(), Some(*until)),
            Renewal::Blocked { until, reason } => ("blocked", reason.to_string(), *until),
        };
        let targets = plan.deployments.iter().map(|(name, it)| PlanTarget::of(name, it)).collect();
        let (name, allowance) = (status.name.clone(), status.allowance.clone());
        Self { name, renewal: renewal.to_owned(), reason, at, allowance, targets }
    }
}

impl PlanTarget {
    fn of(name: &crate::model::TargetName, deployment: &crate::plan::Deployment) -> Self {
        use crate::plan::Deployment;

        let (word, reason, at) = match deployment {
            Deployment::Served { look_at } => ("served", None, Some(*look_at)),
            Deployment::Nothing => ("nothing", None, None),
            Deployment::Look => ("look", None, None),
            Deployment::Deploy(reason) => ("deploy", Some(reason.to_string()), None),
            Deployment::BackOff { until, reason } => {
                ("back_off", Some(reason.to_string()), Some(*until))
            }
        };
        Self { name: name.clone(), deployment: word.to_owned(), reason, at }
    }
}

/// What is to be done to which account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    /// At which CA.
    pub ca: CaName,
    /// What.
    pub action: AccountAction,
}

/// What is to be revoked, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Which certificate.
    pub name: CertificateName,
    /// How.
    pub request: RevocationRequest,
}

/// What a trial of one receiver of alerts came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTried {
    /// As messages call it.
    pub receiver: String,
    /// Whether it took the message.
    pub delivered: bool,
    /// Why not.
    pub error: Option<String>,
    /// What a human can do.
    #[serde(default)]
    pub hint: Option<String>,
}

impl AlertTried {
    /// How `receiver` took a test message, in words.
    #[must_use]
    pub fn of(receiver: &str, result: &Result<(), DeliveryError>) -> Self {
        let error = result.as_ref().err();
        Self {
            receiver: receiver.to_owned(),
            delivered: error.is_none(),
            error: error.map(|it| chain_text(it)),
            hint: error.and_then(Explain::hint),
        }
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A stable word.
    pub code: String,
    /// For people.
    pub message: String,
}
