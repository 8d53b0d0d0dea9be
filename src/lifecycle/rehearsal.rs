//! What can be tried at a target without telling it of anything: its server's own test, and what
//! its endpoints answer now. What would fail for reasons of today's fails here too.
//!
//! Not here: installing and reloading ([`super::deployment`]).

use serde::Serialize;

use super::Lifecycle;
use super::deployment::request;
use super::facts::Facts;
use crate::model::{CertificateSpec, EndpointState, Explain, Failure, StorageError, TargetName};

/// What came of the trial of one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetTrial {
    /// The target.
    pub name: TargetName,
    /// What its server's own test says of the configuration and files that it has now.
    pub test: TestTrial,
    /// What its endpoints answer now.
    pub endpoints: Vec<EndpointState>,
}

/// What came of a server's own test.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "failure")]
pub enum TestTrial {
    /// It passes.
    Passed,
    /// It fails, or could not be run.
    Failed(Failure),
    /// The target has none.
    None,
    /// It takes a certificate that is held, and there is none yet.
    NothingHeld,
}

impl Lifecycle {
    /// Runs the test of every target of `spec`, and asks its endpoints what they serve. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// If the store can't be read.
    pub async fn rehearse(&self, spec: &CertificateSpec) -> Result<Vec<TargetTrial>, StorageError> {
        let mut facts = Facts::read(&self.store, spec).await?;
        self.look_at_targets(spec, &mut facts).await;
        let mut trials = Vec::new();
        for (name, state) in &facts.targets {
            let has_test = self.targets.get(name).is_some_and(|it| it.test.is_some());
            let request = facts.held().and_then(|held| request(spec, held, name));
            let test = match request {
                _ if !has_test => TestTrial::None,
                None => TestTrial::NothingHeld,
                Some(request) => match self.deployer.test(&request).await {
                    Ok(()) => TestTrial::Passed,
                    Err(error) => TestTrial::Failed(error.failure(self.clock.now())),
                },
            };
            let endpoints = state.endpoints.clone();
            trials.push(TargetTrial { name: name.clone(), test, endpoints });
        }
        Ok(trials)
    }
}
