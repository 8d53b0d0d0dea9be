//! Decides what is due, and why; pure, with the time as an argument.
//!
//! Renewal (at the CA) and deployment (at each target) are decided and backed off apart: trouble
//! with the CA never hides a server to reload, nor the reverse. Nothing here reads a clock, a file
//! or a random number, so the same facts always give the same plan.
//!
//! # Not here
//!
//! Finding the facts and doing what was decided: [`crate::lifecycle`].

pub mod authority;
pub mod backoff;
pub mod clock;
mod deployment;
pub mod fitness;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod key;
pub mod ledger;
mod renewal;
pub mod revocation;
pub mod standing;
pub mod suggestion;

pub use authority::{Candidate, Choice, PassedBy};
pub use deployment::{
    DeployReason, Deployment, Verified, decide as decide_deployment, is_looked_at_first,
    is_told_again, look_interval, serves_newer,
};
pub use key::{KeyChoice, NotReused, decide as decide_key};
pub use renewal::{
    Asked, HeldChain, Holding, Observed, Reason, Renewal, WantedCa, Withdrawn, choose,
    decide as decide_renewal, is_in_reserve,
};

use crate::model::{TargetName, Timestamp};

/// What is to be done for one certificate, now or at `wake_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At the CA.
    pub renewal: Renewal,
    /// Which CA is asked, where one is.
    pub choice: Option<Choice>,
    /// At each target.
    pub deployments: Vec<(TargetName, Deployment)>,
    /// When somebody is asked about what is held; `None` if nobody is.
    pub poll_at: Option<Timestamp>,
}

impl Plan {
    /// Whether there is something to do at this moment.
    #[must_use]
    pub fn is_due(&self) -> bool {
        matches!(self.renewal, Renewal::Issue(_))
            || self
                .deployments
                .iter()
                .any(|(_, it)| matches!(it, Deployment::Deploy(_) | Deployment::Look))
    }

    /// The first moment at which there may be something to do; the past where there is now.
    #[must_use]
    pub fn wake_at(&self) -> Timestamp {
        let renewal = match &self.renewal {
            Renewal::Keep { renew_at, .. } => *renew_at,
            Renewal::Issue(_) => Timestamp::EPOCH,
            Renewal::BackOff { until, .. } => *until,
            Renewal::Blocked { until, .. } => until.unwrap_or(Timestamp::MAX),
        };
        let deployments = self.deployments.iter().map(|(_, deployment)| match deployment {
            Deployment::Served { look_at } => *look_at,
            Deployment::Nothing => Timestamp::MAX,
            Deployment::Look | Deployment::Deploy(_) => Timestamp::EPOCH,
            Deployment::BackOff { until, .. } => *until,
        });
        deployments.chain(self.poll_at).fold(renewal, Timestamp::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn the_earliest_of_all_wakes() {
        let keep = Renewal::Keep { renew_at: at(500), reason: Reason::LifePassed };
        let target = |name: &str, deployment| (name.parse().unwrap(), deployment);
        let waiting = Deployment::BackOff { until: at(30), reason: DeployReason::NotServed };
        let served = Deployment::Served { look_at: at(90) };
        let plan =
            |deployments| Plan { renewal: keep.clone(), choice: None, deployments, poll_at: None };

        let quiet = plan(vec![target("a", served), target("b", waiting)]);
        assert_eq!((quiet.wake_at(), quiet.is_due()), (at(30), false));
        let due = plan(vec![target("a", Deployment::Look)]);
        assert_eq!((due.wake_at(), due.is_due()), (Timestamp::EPOCH, true));
        let alone = plan(Vec::new());
        assert_eq!((alone.wake_at(), alone.is_due()), (at(500), false));
        let asked = Plan { poll_at: Some(at(400)), ..alone.clone() };
        assert_eq!((asked.wake_at(), asked.is_due()), (at(400), false));
        let blocked = Renewal::Blocked { until: None, reason: Reason::Missing };
        assert_eq!(Plan { renewal: blocked, ..alone }.wake_at(), Timestamp::MAX);
    }
}
