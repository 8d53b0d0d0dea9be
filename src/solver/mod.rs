//! Makes proofs of control visible to a CA, and takes them away again.
//!
//! A [`Solver`] shows any number of [`Proof`]s at once; each is visible from the return of
//! [`Solver::present`] until its [`Presented`] is cleaned up or dropped, whichever way that comes
//! about. What a killed process left is taken away by [`Solver::clean_up_leftover`].
//!
//! Not here: what is to be proven, and telling the CA to look ([`crate::issue`]).

pub mod dns01;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod http01;
mod listener;
mod removal;
mod settings;
mod tls_alpn01;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use dns01::{
    Dns01, Dns01Settings, DnsLabel, DnsPersist01, DnsPersist01Settings, ProviderFault,
    ProviderSettings, caa_by_system,
};
pub use error::SolverError;
pub use http01::Webroot;
pub use listener::{Dialogue, HandedSockets, Listener};
pub use removal::all_taken_away;
pub use settings::{SolverMethod, SolverSettings};

use crate::model::{
    CaaRecord, ChallengeType, Identifier, Proof, StandingFinding, StandingRecord, Token, TxtRecord,
};

/// Shows proofs of one kind of challenge.
#[async_trait]
pub trait Solver: fmt::Debug + Send + Sync {
    /// The kind.
    fn challenge_type(&self) -> ChallengeType;

    /// Finds out whether it could show a proof now, and changes nothing. To be asked before an
    /// order is placed.
    ///
    /// # Errors
    ///
    /// Says what stands in the way: a folder that can't be written, an address that is taken.
    async fn check(&self) -> Result<(), SolverError>;

    /// Finds out whether the way to a proof for `identifier` is there now: for DNS, the zone that
    /// it goes into. Changes nothing. To be asked before an order is placed, where there is time to
    /// wait: the CA may yet want no proof.
    ///
    /// # Errors
    ///
    /// Says what stands in the way.
    async fn check_identifier(&self, _identifier: &Identifier) -> Result<(), SolverError> {
        Ok(())
    }

    /// The CAA records that hold for `identifier` (RFC 8659 §3), as the resolvers say that were
    /// given to this solver; `None` if it was given none.
    ///
    /// # Errors
    ///
    /// If none of them answers.
    async fn caa(&self, _identifier: &Identifier) -> Result<Option<Vec<CaaRecord>>, SolverError> {
        Ok(None)
    }

    /// Finds out which record `proof` would be put into, if it is DNS where it goes, and changes
    /// nothing. To be asked and journalled before each [`Solver::present`].
    ///
    /// # Errors
    ///
    /// If that can't be found out now.
    async fn locate(&self, _proof: &Proof) -> Result<Option<TxtRecord>, SolverError> {
        Ok(None)
    }

    /// Makes `proof` visible. It is when this returns, or for what takes its time when
    /// [`Solver::await_visible`] has returned too, and until the result is cleaned up or dropped.
    /// If the future is dropped instead, nothing stays visible.
    ///
    /// # Errors
    ///
    /// Says why not; then nothing of it is visible.
    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError>;

    /// Waits until a CA would find all of `proofs`, which have been presented, wherever it looks.
    /// It never waits for ever.
    ///
    /// # Errors
    ///
    /// If it is plain that the CA would not find them.
    async fn await_visible(&self, _proofs: &[Proof]) -> Result<(), SolverError> {
        Ok(())
    }

    /// Asks every server once what it has of the record `wanted` for `identifier`; `None` if none
    /// answers, or this kind of challenge knows no records that stand for good.
    ///
    /// # Errors
    ///
    /// If the servers can't be found.
    async fn look(
        &self,
        _identifier: &Identifier,
        _wanted: &StandingRecord,
    ) -> Result<Option<StandingFinding>, SolverError> {
        Ok(None)
    }

    /// Takes away `record`, which a run that crashed had journalled. It not being there is fine,
    /// and what this process itself shows stays.
    ///
    /// # Errors
    ///
    /// If it is there and can't be removed.
    async fn clean_up_record(&self, _record: &TxtRecord) -> Result<(), SolverError> {
        Ok(())
    }

    /// Takes away what a run that crashed left of the proof of `token` for `identifier`. Nothing
    /// there is fine, and what this process itself shows stays.
    ///
    /// # Errors
    ///
    /// If it is there and can't be removed.
    async fn clean_up_leftover(
        &self,
        identifier: &Identifier,
        token: &Token,
    ) -> Result<(), SolverError>;
}

/// Makes the solver that `settings` describe. Nothing is opened yet; what it needs of `handed` is
/// served from now on. To be called where tasks can be started.
///
/// # Errors
///
/// If it could never show anything.
pub fn build(
    settings: &SolverSettings,
    handed: &HandedSockets,
) -> Result<Arc<dyn Solver>, SolverError> {
    Ok(match &settings.method {
        SolverMethod::Webroot { directory, flat } => {
            Arc::new(Webroot::new(directory.clone(), *flat))
        }
        SolverMethod::Listener { addresses } => {
            Arc::new(Listener::new(Dialogue::Http01, addresses.clone(), handed)?)
        }
        SolverMethod::TlsAlpn01 { addresses } => {
            Arc::new(Listener::new(Dialogue::TlsAlpn01, addresses.clone(), handed)?)
        }
        SolverMethod::Dns01(settings) => Arc::new(Dns01::new(DnsLabel::Common, settings)?),
        SolverMethod::DnsAccount01(settings) => {
            Arc::new(Dns01::new(DnsLabel::OfAccount, settings)?)
        }
        SolverMethod::DnsPersist01(settings) => Arc::new(DnsPersist01::new(settings)),
    })
}

/// That `proof` is one that a server can show by `wanted`, which knows no wildcards (RFC 8555 §8.3,
/// RFC 8737 §3, and the Baseline Requirements of the CAs).
fn suited(proof: &Proof, wanted: ChallengeType) -> Result<(), SolverError> {
    let Proof { identifier, challenge_type, .. } = proof;
    if *challenge_type == wanted && !identifier.is_wildcard() {
        return Ok(());
    }
    Err(SolverError::Unsuited { identifier: identifier.clone(), challenge_type: *challenge_type })
}

/// A proof that is visible now, until this is cleaned up or dropped.
#[must_use = "the proof is taken away when this is dropped"]
pub struct Presented(Box<dyn CleanUp>);

impl Presented {
    /// A proof that is visible now, and is taken away by `clean_up`.
    pub fn new(clean_up: impl CleanUp + 'static) -> Self {
        Self(Box::new(clean_up))
    }

    /// Takes the proof away. Dropping does so too, but can't say whether it succeeded.
    ///
    /// # Errors
    ///
    /// If it stays visible.
    pub async fn clean_up(self) -> Result<(), SolverError> {
        self.0.clean_up().await
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

/// What a solver's `present` leaves behind: takes its proof away when asked to or dropped.
#[async_trait]
pub trait CleanUp: Send + Sync {
    /// Takes the proof away.
    ///
    /// # Errors
    ///
    /// If it stays visible.
    async fn clean_up(self: Box<Self>) -> Result<(), SolverError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyAuthorization;

    /// The http-01 proof of `token` for `identifier`, whose key authorization is
    /// `TOKEN.thumbprint`.
    pub(super) fn proof(identifier: &str, token: &str) -> Proof {
        Proof {
            identifier: identifier.parse().unwrap(),
            challenge_type: ChallengeType::Http01,
            token: token.parse().unwrap(),
            key_authorization: KeyAuthorization::new(format!("{token}.thumbprint")),
            account_url: "https://ca.example/acct/1".to_owned(),
            standing: None,
        }
    }

    #[test]
    fn only_its_own_kind_without_wildcards_is_suited() {
        let suited = |proof: &Proof| suited(proof, ChallengeType::Http01);
        suited(&proof("example.com", "abc")).unwrap();
        suited(&proof("2001:db8::1", "abc")).unwrap();
        assert!(suited(&proof("*.example.com", "abc")).is_err());
        let by_dns = Proof { challenge_type: ChallengeType::Dns01, ..proof("example.com", "abc") };
        assert!(suited(&by_dns).is_err());
    }

    #[test]
    fn a_listener_without_addresses_is_refused() {
        let method = SolverMethod::Listener { addresses: vec![] };
        let name = "own-port".parse().unwrap();
        let settings = SolverSettings { name, method, identifiers: vec![] };
        assert!(matches!(build(&settings, &HandedSockets::default()), Err(SolverError::NoAddress)));
    }
}
