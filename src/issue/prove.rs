//! Proving control for an order: shows what its challenges ask for, has the CA look, and takes all
//! of it away again.
//!
//! Not here: what a crash left ([`super::leftover`]), and counting failures ([`super::books`]).

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{IDENTIFIERS_AT_ONCE, IssueError, Issuer, ORDER_LIMIT, Purpose, Work};
use crate::acme::{
    AcmeClient, AcmeError, Authorization, AuthorizationStatus, Challenge, OrderStatus,
};
use crate::model::{
    CertificateSpec, ChallengeType, Event, Identifier, PresentedRecord, Proof, SolverName,
};
use crate::solver::{Presented, SolverError};
use crate::sys::crash;

impl Issuer {
    /// Shows every proof that the order still needs, has the CA look, and takes all of them away
    /// again, whatever came of it.
    pub(super) async fn prove(
        &self,
        spec: &CertificateSpec,
        client: &AcmeClient,
        work: &mut Work,
        purpose: &Purpose,
    ) -> Result<(), IssueError> {
        let authorizations = work.order.authorizations().await?;
        self.note_standing(spec, client.settings(), &authorizations).await?;
        let tasks = self.tasks(spec, &authorizations)?;
        let at_risk: Vec<Identifier> =
            tasks.iter().map(|(_, challenge)| challenge.identifier.clone()).collect();
        self.settle_proofs(spec, work, &at_risk, purpose.lifetime).await;
        self.count_proofs(work, &at_risk, purpose.lifetime).await?;
        let proven = self.show_and_have_checked(spec, work, &tasks).await;
        self.note_proofs(spec, work, purpose.lifetime, &proven).await;
        proven
    }

    /// Shows the proofs of `tasks` for as long as the CA looks.
    async fn show_and_have_checked(
        &self,
        spec: &CertificateSpec,
        work: &mut Work,
        tasks: &[(SolverName, Challenge)],
    ) -> Result<(), IssueError> {
        // What a run that died had shown stays visible: the CA may be looking for it just now.
        let located: Vec<_> = tasks.iter().map(|it| self.locate(it).boxed()).collect();
        let located = stream::iter(located).buffered(IDENTIFIERS_AT_ONCE);
        let records: Vec<PresentedRecord> = located.try_collect().await?;
        for record in &records {
            if !work.record.presented.contains(record) {
                work.record.presented.push(record.clone());
            }
        }
        self.journal.save_order(&spec.name, &work.record).await?;

        let mut shown = Vec::new();
        let proven = async {
            self.present(tasks, &records, &mut shown).await?;
            crash::point("issue.presented");
            for (_, challenge) in tasks {
                work.order.respond(challenge).await?;
            }
            crash::point("issue.answered");
            work.order.wait_until_ready(ORDER_LIMIT).await?;
            Ok(())
        };
        let proven: Result<(), IssueError> = proven.await;
        crash::point("issue.proven");
        self.take_away(shown, &work.record).await;
        if proven.is_err() && work.order.status() == OrderStatus::Pending && !is_passing(&proven) {
            // Another one's order may hang on the same authorizations.
            if self.orders_of_twins(spec, &work.record.ca).await.is_ok_and(|it| it.is_empty()) {
                work.order.abandon().await;
            }
        }
        if proven.is_ok() && !tasks.is_empty() {
            self.observer.observe(&Event::Proven {
                certificate: spec.name.clone(),
                proofs: tasks.iter().map(proof_told).collect(),
            });
        }
        proven
    }

    /// What is journalled of the proof that a solver will show for a challenge.
    async fn locate(
        &self,
        (solver, challenge): &(SolverName, Challenge),
    ) -> Result<PresentedRecord, IssueError> {
        let proof = proof_of(challenge);
        let record = self.solver(solver)?.locate(&proof).await;
        Ok(PresentedRecord {
            record: record.map_err(|source| not_presented(solver, &proof, source))?,
            solver: solver.clone(),
            identifier: proof.identifier,
            token: proof.token,
        })
    }

    /// Which challenges are to be met, and by whom. Valid authorizations need none.
    fn tasks(
        &self,
        spec: &CertificateSpec,
        authorizations: &[Authorization],
    ) -> Result<Vec<(SolverName, Challenge)>, IssueError> {
        let mut tasks = Vec::new();
        for authorization in authorizations {
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let identifier = authorization.ordered_identifier();
            let name = spec.solvers.get(&identifier);
            let name = name.ok_or_else(|| IssueError::NoSolver(identifier.clone()))?;
            let wanted = self.solver(name)?.challenge_type();
            let challenge = authorization.challenges.iter().find(|it| it.challenge_type == wanted);
            let challenge = challenge.ok_or_else(|| IssueError::NoChallenge {
                identifier,
                wanted,
                offered: authorization.offered.clone(),
            })?;
            tasks.push((name.clone(), challenge.clone()));
        }
        Ok(tasks)
    }

    /// Shows all proofs, which are journalled as `records`, and adds to `shown` what is to be taken
    /// away again, also after an error.
    async fn present(
        &self,
        tasks: &[(SolverName, Challenge)],
        records: &[PresentedRecord],
        shown: &mut Vec<(PresentedRecord, Presented)>,
    ) -> Result<(), IssueError> {
        let mut by_solver: BTreeMap<&SolverName, Vec<Proof>> = BTreeMap::new();
        for ((name, challenge), record) in tasks.iter().zip(records) {
            let proof = proof_of(challenge);
            let presented = self.solver(name)?.present(&proof).await;
            let presented = presented.map_err(|source| not_presented(name, &proof, source))?;
            shown.push((record.clone(), presented));
            crash::point("issue.shown");
            by_solver.entry(name).or_default().push(proof);
        }
        for (name, proofs) in &by_solver {
            let Some(first) = proofs.first() else { continue };
            let visible = self.solver(name)?.await_visible(proofs).await;
            visible.map_err(|source| not_presented(name, first, source))?;
        }
        Ok(())
    }
}

/// What `task` proved, as it is told.
fn proof_told(task: &(SolverName, Challenge)) -> (Identifier, SolverName, ChallengeType) {
    let (solver, challenge) = task;
    (challenge.identifier.clone(), solver.clone(), challenge.challenge_type)
}

/// What `challenge` asks to be shown.
fn proof_of(challenge: &Challenge) -> Proof {
    Proof {
        identifier: challenge.identifier.clone(),
        challenge_type: challenge.challenge_type,
        token: challenge.token.clone(),
        key_authorization: challenge.key_authorization.clone(),
        account_url: challenge.account_url.clone(),
        standing: challenge.standing.clone(),
    }
}

fn not_presented(solver: &SolverName, proof: &Proof, source: SolverError) -> IssueError {
    IssueError::NotPresented {
        solver: solver.clone(),
        identifier: proof.identifier.clone(),
        source: Box::new(source),
    }
}

/// Whether the same order may still succeed, so that it is worth keeping.
fn is_passing(result: &Result<(), IssueError>) -> bool {
    match result {
        // The CA is slow, or wants to be left in peace: no reason to send it more.
        Err(IssueError::Acme(AcmeError::StillWaiting { .. } | AcmeError::RateLimited { .. })) => {
            true
        }
        Err(IssueError::Acme(error)) => error.is_transient() || error.is_unexplained(),
        Err(IssueError::NotPresented { .. } | IssueError::Storage(_)) | Ok(()) => true,
        Err(_) => false,
    }
}
