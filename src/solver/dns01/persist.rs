//! dns-persist-01 (draft-ietf-acme-dns-persist): a TXT record that people set once, and that stands
//! for good. Nothing is ever changed here: the solver waits until every authoritative server has
//! the record, so that a missing one costs no attempt at the CA.
//!
//! Not here: what the record says ([`StandingRecord`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{
    CaaRecord, ChallengeType, Identifier, Proof, StandingFinding, StandingRecord, StandingState,
    Timestamp, Token,
};
use crate::solver::{CleanUp, Presented, Solver, SolverError};
use crate::sys::clock::{Clock, SystemClock};

use super::propagation::{Outcome, Report, values_at, wait_for};
use super::zone::{Finder, Location, Server};
use super::{DnsError, DnsPersist01Settings, listed, name};

/// From when on before its end a record is spoken of.
const NEAR_END: Duration = Duration::from_hours(30 * 24);

/// Finds standing records.
#[derive(Debug)]
pub struct DnsPersist01 {
    finder: Finder,
    propagation_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl DnsPersist01 {
    /// The solver that `settings` describe. Nobody is asked yet.
    #[must_use]
    pub fn new(settings: &DnsPersist01Settings) -> Self {
        let DnsPersist01Settings { resolvers, nameservers, propagation_timeout } = settings;
        Self {
            finder: Finder { resolvers: resolvers.clone(), nameservers: nameservers.clone() },
            propagation_timeout: *propagation_timeout,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The name of the record for `identifier`, without a dot at the end.
    ///
    /// # Errors
    ///
    /// If `identifier` is an address, or too long.
    pub fn record_name(identifier: &Identifier) -> Result<String, SolverError> {
        Ok(name::text(&name::standing_name(identifier)?))
    }

    /// Asks every authoritative server once, side by side, what it has for `identifier`; `None` if
    /// none answers.
    ///
    /// # Errors
    ///
    /// If the servers can't be found.
    pub async fn look(
        &self,
        identifier: &Identifier,
        wanted: &StandingRecord,
    ) -> Result<Option<StandingFinding>, SolverError> {
        let location = self.finder.locate_standing(&name::standing_name(identifier)?).await?;
        let now = self.clock.now();
        let mut found: Option<(StandingState, Vec<Server>)> = None;
        let servers = &location.zone.servers;
        let states = servers.iter().map(|it| state_at(it, &location, wanted, now));
        let states = futures_util::future::join_all(states).await;
        for (server, state) in servers.iter().zip(states) {
            let Ok(state) = state else { continue };
            match &mut found {
                Some((worst, servers)) if *worst == state => servers.push(server.clone()),
                Some((StandingState::Fits(_), _)) | None => {
                    found = Some((state, vec![server.clone()]));
                }
                Some(_) => {}
            }
        }
        Ok(found.map(|(state, servers)| StandingFinding { state, servers: listed(&servers) }))
    }

    async fn wait(&self, proof: &Proof, wanted: &StandingRecord) -> Result<(), DnsError> {
        let asked = name::standing_name(&proof.identifier)?;
        let location = self.finder.locate_standing(&asked).await?;
        let seen = Mutex::new(StandingState::Missing);
        let look = |server| {
            let (location, seen) = (&location, &seen);
            async move {
                let state = state_at(server, location, wanted, self.clock.now()).await;
                let state = match state {
                    Ok(state) => state,
                    Err(report) => return report,
                };
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = state;
                let is_there = matches!(state, StandingState::Fits(_));
                if is_there { Report::AsWanted } else { Report::Lacks }
            }
        };
        let (servers, limit) = (&location.zone.servers, self.propagation_timeout);
        let outcome = wait_for(servers, limit, self.clock.as_ref(), look).await;
        let state = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let record = name::text(&asked);
        match outcome {
            Outcome::Everywhere => {}
            Outcome::Unasked(servers) => {
                let servers = listed(&servers);
                tracing::warn!(
                    record,
                    servers,
                    "name servers did not answer: gone on without them"
                );
            }
            Outcome::Lacking(servers) => {
                let (name, servers) = (record, listed(&servers));
                return Err(DnsError::NotStanding { name, value: wanted.value(), state, servers });
            }
        }
        if let StandingState::Fits(Some(until)) = state
            && until.saturating_sub(NEAR_END) <= self.clock.now()
        {
            tracing::warn!(record, %until, "the standing record ends soon: give it a later end");
        }
        Ok(())
    }
}

/// What `server` has at the end of `location`; an error says why it can't tell.
async fn state_at(
    server: &Server,
    location: &Location,
    wanted: &StandingRecord,
    now: Timestamp,
) -> Result<StandingState, Report> {
    let values = values_at(server, &location.name).await?;
    Ok(wanted.judge(values.iter().map(String::as_str), now))
}

#[async_trait]
impl Solver for DnsPersist01 {
    fn challenge_type(&self) -> ChallengeType {
        ChallengeType::DnsPersist01
    }

    async fn caa(&self, identifier: &Identifier) -> Result<Option<Vec<CaaRecord>>, SolverError> {
        if self.finder.resolvers.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.finder.caa(identifier).await?))
    }

    async fn check(&self) -> Result<(), SolverError> {
        // What has to stand there, only the CA's challenge says.
        Ok(())
    }

    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError> {
        standing(proof)?;
        Ok(Presented(Box::new(Nothing)))
    }

    async fn await_visible(&self, proofs: &[Proof]) -> Result<(), SolverError> {
        let waits = proofs.iter().map(async |proof| self.wait(proof, standing(proof)?).await);
        for waited in futures_util::future::join_all(waits).await {
            waited?;
        }
        Ok(())
    }

    async fn look(
        &self,
        identifier: &Identifier,
        wanted: &StandingRecord,
    ) -> Result<Option<StandingFinding>, SolverError> {
        Self::look(self, identifier, wanted).await
    }

    async fn clean_up_leftover(&self, _: &Identifier, _: &Token) -> Result<(), SolverError> {
        // Nothing was shown that is not to stay.
        Ok(())
    }
}

fn standing(proof: &Proof) -> Result<&StandingRecord, DnsError> {
    let unsuited = || DnsError::Unsuited { identifier: proof.identifier.clone() };
    proof.standing.as_ref().ok_or_else(unsuited)
}

/// What this solver shows.
struct Nothing;

#[async_trait]
impl CleanUp for Nothing {
    async fn clean_up(self: Box<Self>) -> Result<(), SolverError> {
        Ok(())
    }
}
