//! Whether a CA would issue if it were asked, as far as that can be seen without asking it for
//! anything: its directory, our account there or what making one takes, the profile, CAA records.
//!
//! Not here: when to look, and what follows ([`crate::lifecycle`]).

use super::Issuer;
use crate::acme::{AcmeClient, AcmeError};
use crate::model::{
    CaName, CaaCandidate, CaaFault, CaaRecord, CertificateSpec, Explain, Identifier, Retry,
    caa_fault, chain_text,
};
use crate::solver::{Solver, SolverError, caa_by_system};
use crate::sys::http::is_loopback_url;

/// A CA would not issue.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It can't be reached, or an order would be refused.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// CAA records forbid it.
    #[error("{ca}: CAA records keep it from issuing for {identifier}: {fault}")]
    Caa {
        /// Which CA.
        ca: CaName,
        /// For what.
        identifier: Identifier,
        /// Why.
        fault: CaaFault,
    },
}

impl Explain for Unfit {
    fn code(&self) -> &'static str {
        match self {
            Self::Acme(source) => source.code(),
            Self::Caa { .. } => "acme.caa",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Acme(source) => source.retry(),
            Self::Caa { .. } => Retry::AfterChange,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Acme(source) => source.hint(),
            Self::Caa { .. } => Some(
                "add a CAA record that allows it, or take the CA off the certificate's list"
                    .to_owned(),
            ),
        }
    }
}

impl Issuer {
    /// Whether `ca` would issue for `spec`, as far as can be seen. Makes no account and no order. A
    /// built-in CA always would, and where DNS does not answer its records count as none.
    ///
    /// # Errors
    ///
    /// [`Unfit`] says why not.
    pub async fn rehearse(&self, spec: &CertificateSpec, ca: &CaName) -> Result<(), Unfit> {
        let Some(client) = self.clients.get(ca) else { return Ok(()) };
        let readiness = client.readiness(spec.profile.as_deref()).await?;
        for identifier in &spec.identifiers {
            let solver = spec.solvers.get(identifier).and_then(|it| self.solvers.get(it));
            let Some(solver) = solver else { continue };
            let records = match caa(client, solver.as_ref(), identifier).await {
                Ok(records) => records,
                Err(error) => {
                    // The CA has resolvers of its own; ours is no reason to alarm anybody.
                    let error = chain_text(&error);
                    tracing::debug!(%ca, %identifier, error, "CAA records can't be looked at");
                    return Ok(());
                }
            };
            let candidate = CaaCandidate {
                identities: &readiness.caa_identities,
                account_url: readiness.account_url.as_deref(),
                method: solver.challenge_type(),
            };
            if let Some(fault) = caa_fault(&records, identifier.is_wildcard(), &candidate) {
                let (ca, identifier) = (ca.clone(), identifier.clone());
                return Err(Unfit::Caa { ca, identifier, fault });
            }
        }
        Ok(())
    }
}

/// The CAA records that hold for `identifier` where the CA of `client` looks: by the resolvers of
/// `solver`, else those of the system. What public DNS says is nothing to a CA on this machine.
async fn caa(
    client: &AcmeClient,
    solver: &dyn Solver,
    identifier: &Identifier,
) -> Result<Vec<CaaRecord>, SolverError> {
    match solver.caa(identifier).await? {
        Some(records) => Ok(records),
        None if is_loopback_url(&client.settings().directory) => Ok(Vec::new()),
        None => caa_by_system(identifier).await,
    }
}
