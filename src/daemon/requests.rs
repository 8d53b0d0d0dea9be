//! What others ask of the scheduler, answered beside it: nobody who asks holds it up.
//!
//! Not here: who may ask ([`crate::api`]); reloads ([`super::reload`]).

use tokio::sync::oneshot;

use crate::acme::AccountAction;
use crate::assemble::WorkReport;
use crate::lifecycle::Outcome;
use crate::model::{CaName, CertificateName, Explain, Failure, RevocationRequest};
use crate::plan::Asked;

use super::scheduler::Scheduler;
use super::{AccountOutcome, Refused};

impl Scheduler {
    /// Has `reply` told what would be done now for `wanted`, or for all.
    pub(super) fn plan(&self, wanted: Vec<CertificateName>, reply: oneshot::Sender<Vec<Outcome>>) {
        let agent = self.daemon.agent.clone();
        tokio::spawn(async move {
            let mut plans = Vec::new();
            for spec in &agent.config.certificates {
                if !wanted.is_empty() && !wanted.contains(&spec.name) {
                    continue;
                }
                if let Ok(outcome) = agent.lifecycle.look(spec, Asked::ByTime).await {
                    plans.push(outcome);
                }
            }
            drop(reply.send(plans));
        });
    }

    /// Has `action` done to the account at `ca`, and `reply` told what came of it. Where that put
    /// it right, certificates that wait for it are tried at once.
    pub(super) fn account(
        &mut self,
        ca: CaName,
        action: AccountAction,
        reply: oneshot::Sender<Result<AccountOutcome, Refused>>,
    ) {
        let (agent, clock) = (self.daemon.agent.clone(), self.daemon.base.clock.clone());
        self.tended.spawn(async move {
            let outcome = match agent.tend_account(&ca, action).await {
                Some(done) => Ok(done.map_err(|error| error.failure(clock.now()))),
                None => Err(Refused::UnknownCa(ca.clone())),
            };
            let is_mended = action.mends() && matches!(outcome, Ok(Ok(_)));
            drop(reply.send(outcome));
            is_mended.then_some(ca)
        });
    }

    /// Has it noted that the certificate `name` is to be revoked, and `reply` told whether it can
    /// be.
    pub(super) fn ask_to_revoke(
        &self,
        name: CertificateName,
        request: RevocationRequest,
        reply: oneshot::Sender<Result<Result<(), Failure>, Refused>>,
    ) {
        let (agent, clock) = (self.daemon.agent.clone(), self.daemon.base.clock.clone());
        tokio::spawn(async move {
            let answer = match agent.spec(&name) {
                Some(spec) => {
                    let asked = agent.lifecycle.ask_to_revoke(spec, request).await;
                    Ok(asked.map_err(|error| error.failure(clock.now())))
                }
                None => Err(Refused::Unknown(name)),
            };
            drop(reply.send(answer));
        });
    }

    /// Has `reply` told whether a revocation of the certificate `name` is not done yet.
    pub(super) fn awaits_revocation(&self, name: &CertificateName, reply: oneshot::Sender<bool>) {
        let agent = self.daemon.agent.clone();
        let spec = agent.spec(name).cloned();
        tokio::spawn(async move {
            let pending = match spec {
                Some(spec) => agent.lifecycle.awaits_revocation(&spec).await.unwrap_or(true),
                None => false,
            };
            // Who asked may have gone away.
            reply.send(pending).unwrap_or_default();
        });
    }

    /// Has the work on `wanted`, or on all, begun, and `reply` told what came of it.
    pub(super) fn ask(
        &mut self,
        wanted: Vec<CertificateName>,
        asked: Asked,
        reply: oneshot::Sender<Result<Vec<WorkReport>, Refused>>,
    ) {
        let agent = self.daemon.agent.clone();
        if let Some(unknown) = wanted.iter().find(|it| agent.spec(it).is_none()) {
            drop(reply.send(Err(Refused::Unknown(unknown.clone()))));
            return;
        }
        let all = || agent.config.certificates.iter().map(|it| it.name.clone()).collect();
        let wanted = if wanted.is_empty() { all() } else { wanted };
        let mut answers = Vec::new();
        for name in wanted {
            if let Some(entry) = self.schedule.get_mut(&name) {
                let (reply, answer) = oneshot::channel();
                entry.ask(asked, reply);
                answers.push(answer);
            }
        }
        tokio::spawn(async move {
            let mut reports = Vec::new();
            for answer in answers {
                match answer.await {
                    Ok(report) => reports.push(report),
                    Err(_ended) => {
                        drop(reply.send(Err(Refused::Ending)));
                        return;
                    }
                }
            }
            drop(reply.send(Ok(reports)));
        });
    }
}
