//! The key of a certificate that is to be issued, where it is not a new one.
//!
//! Not here: the rules ([`crate::plan::decide_key`]).

use crate::issue::IssueError;
use crate::model::{CertificateSpec, Event, PrivateKey};
use crate::plan::{KeyChoice, NotReused, decide_key};

use super::Lifecycle;
use super::facts::Facts;

impl Lifecycle {
    /// The key of ours that the next certificate of `spec` is to be for; `None` for a new one, or
    /// one that is elsewhere. That one was to be used again and can't be is told.
    ///
    /// # Errors
    ///
    /// If it can't be read at this moment: no reason for another one, which nobody would expect. If
    /// the key of the request that was brought is in other hands.
    pub(super) async fn reused_key(
        &self,
        spec: &CertificateSpec,
        facts: &Facts,
    ) -> Result<Option<PrivateKey>, IssueError> {
        let why = match decide_key(spec, &facts.holding(), facts.is_compromised()) {
            KeyChoice::New | KeyChoice::Elsewhere => return Ok(None),
            KeyChoice::ElsewhereCompromised => return Err(IssueError::RequestCompromised),
            KeyChoice::Same(sha256) => {
                let key = self.store.key(&spec.name, sha256).await;
                match key.map_err(IssueError::KeyUnreadable)? {
                    Some(key) => return Ok(Some(key)),
                    None => NotReused::Missing,
                }
            }
            KeyChoice::NewAlthough(why) => why,
        };
        let why = why.to_string();
        self.write_history(spec, "new_key", &why).await;
        self.observer.observe(&Event::KeyNotReused { certificate: spec.name.clone(), why });
        Ok(None)
    }
}
