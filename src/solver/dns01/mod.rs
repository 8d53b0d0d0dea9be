//! dns-01 (RFC 8555 §8.4): a TXT record below `_acme-challenge`; and dns-account-01, which differs
//! in its name alone.
//!
//! A proof goes through four steps, and a crash between any two of them leaves what the journal
//! knows: [`Dns01`] finds out where the record has to be (then it is journalled), adds it beside
//! those of others, waits until all servers of the zone have it, and removes exactly this value
//! afterwards.
//!
//! Not here: journalling ([`crate::issue`]).

mod acme_dns;
mod caa;
mod catalogue;
#[cfg(feature = "dns-providers")]
mod configs;
mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzz;
mod httpreq;
mod name;
mod persist;
mod program;
mod propagation;
mod provider;
#[cfg(feature = "dns-providers")]
mod providers_a_to_h;
#[cfg(feature = "dns-providers")]
mod providers_i_to_z;
mod rehearsal;
mod rfc2136;
mod settings;
mod shown;
mod tsig;
#[cfg(feature = "dns-providers")]
mod update;
mod zone;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::rr::Name;

pub use caa::caa_by_system;
pub use error::DnsError;
pub use exchange::ExchangeError;
pub use persist::DnsPersist01;
pub use provider::{Failure, ProviderError, Refusal};
pub use rehearsal::Step;
pub use settings::{Dns01Settings, DnsPersist01Settings, ProviderFault, ProviderSettings};

use crate::model::{CaaRecord, ChallengeType, Identifier, Proof, Token, TxtRecord, chain_text};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::http::{HttpClient, HttpSettings};

use super::{Presented, Solver, SolverError};
use acme_dns::AcmeDns;
use catalogue::Make;
use httpreq::HttpRequest;
use program::{ByProgram, Programs};
use propagation::{Outcome, Until, Values};
use provider::DnsProvider;
use rfc2136::Rfc2136;
use settings::Given;
use shown::Changer;
use tsig::TsigKey;
use zone::{Finder, Location, Server, Zone};

/// From so many on, values of others at one name are told of: an order under way, here or on
/// another machine, needs one or two, and a CA has to read them all.
const MANY_OTHERS: usize = 5;

/// Shows proofs as TXT records.
#[derive(Debug)]
pub struct Dns01 {
    label: DnsLabel,
    provider: String,
    /// Whether what was added may be in another zone of the same name.
    may_mistake_zone: bool,
    changer: Changer,
    finder: Finder,
    propagation_timeout: Duration,
    /// What [`Solver::locate`] found last for each name, so that what is journalled is what is
    /// added.
    located: Mutex<HashMap<Name, Location>>,
}

/// Whose name a proof is put at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsLabel {
    /// One for all accounts: dns-01.
    Common,
    /// One for each account: dns-account-01.
    OfAccount,
}

impl DnsLabel {
    const fn challenge_type(self) -> ChallengeType {
        match self {
            Self::Common => ChallengeType::Dns01,
            Self::OfAccount => ChallengeType::DnsAccount01,
        }
    }
}

impl Dns01 {
    /// The solver that puts proofs below `label` as `settings` describe. Nobody is asked yet.
    ///
    /// # Errors
    ///
    /// If the provider's settings can't be used.
    pub fn new(label: DnsLabel, settings: &Dns01Settings) -> Result<Self, DnsError> {
        Self::with(label, settings, Programs::Run)
    }

    /// As [`Dns01::new`], for a process that must not run programs: a solver that would run one
    /// says so when it is checked.
    ///
    /// # Errors
    ///
    /// If the provider's settings can't be used.
    pub fn without_programs(label: DnsLabel, settings: &Dns01Settings) -> Result<Self, DnsError> {
        Self::with(label, settings, Programs::Refused)
    }

    fn with(
        label: DnsLabel,
        settings: &Dns01Settings,
        programs: Programs,
    ) -> Result<Self, DnsError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let provider = build(&settings.provider, &clock, programs)?;
        Ok(Self {
            label,
            provider: settings.provider.name.clone(),
            may_mistake_zone: settings.provider.may_mistake_zone(),
            changer: Changer { provider, clock },
            finder: Finder {
                resolvers: settings.resolvers.clone(),
                nameservers: settings.nameservers.clone(),
            },
            propagation_timeout: settings.propagation_timeout,
            located: Mutex::default(),
        })
    }

    /// The name at which the CA looks for `proof`.
    fn name_of(&self, proof: &Proof) -> Result<Name, DnsError> {
        match self.label {
            DnsLabel::Common => name::challenge_name(&proof.identifier),
            DnsLabel::OfAccount => name::account_name(&proof.identifier, &proof.account_url),
        }
    }

    /// Where a proof at `name` goes: found out now, and kept.
    async fn locate_now(&self, name: Name) -> Result<Location, DnsError> {
        let location = self.finder.locate(&name).await?;
        let mut located = self.located.lock().unwrap_or_else(PoisonError::into_inner);
        located.insert(name, location.clone());
        Ok(location)
    }

    /// As [`Dns01::locate_now`], from memory where there is any.
    async fn location(&self, proof: &Proof) -> Result<Location, DnsError> {
        let name = self.name_of(proof)?;
        let known = {
            let located = self.located.lock().unwrap_or_else(PoisonError::into_inner);
            located.get(&name).cloned()
        };
        match known {
            Some(location) => Ok(location),
            None => self.locate_now(name).await,
        }
    }

    /// Waits until all servers of `zone` have, or no longer have, `values`. Those that nobody can
    /// ask are told of in the log.
    async fn wait(&self, zone: &Zone, values: &Values, until: Until) -> Result<(), DnsError> {
        let (limit, clock) = (self.propagation_timeout, self.changer.clock.as_ref());
        let names = || values.keys().map(name::text).collect::<Vec<_>>().join(", ");
        match propagation::wait(&zone.servers, values, until, limit, clock).await {
            Outcome::Everywhere => Ok(()),
            Outcome::Unasked(servers) => {
                let (names, servers) = (names(), listed(&servers));
                tracing::warn!(names, servers, "name servers did not answer: gone on without them");
                Ok(())
            }
            Outcome::Lacking(servers) => {
                let (names, servers) = (names(), listed(&servers));
                let may_mistake_zone = self.may_mistake_zone;
                Err(DnsError::NotVisible { names, servers, limit, may_mistake_zone })
            }
        }
    }
}

/// Makes the provider that `settings` name.
fn build(
    settings: &ProviderSettings,
    clock: &Arc<dyn Clock>,
    programs: Programs,
) -> Result<Arc<dyn DnsProvider>, DnsError> {
    let unusable = |message: &str| DnsError::Settings {
        provider: settings.name.clone(),
        message: message.to_owned(),
    };
    if let Some(fault) = settings.faults().first() {
        let subject = fault.key.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
        return Err(unusable(&format!("{subject}{}", fault.message)));
    }
    let kind = settings.kind().ok_or_else(|| unusable("there is no such provider"))?;
    let it = Given(settings);
    let client =
        || HttpClient::new(&HttpSettings::default()).map_err(|it| unusable(&chain_text(&it)));
    Ok(match &kind.make {
        Make::Rfc2136 => {
            let server = settings::host_and_port(it.value("server"));
            let server = server.ok_or_else(|| unusable("server is no host"))?;
            let key = TsigKey::parse(it.secret("key")).map_err(|it| unusable(&it.to_string()))?;
            let provider = Rfc2136::new(server, &key, clock.clone());
            Arc::new(provider.ok_or_else(|| unusable("the key can't sign"))?)
        }
        Make::HttpRequest => {
            let login =
                settings.values.get("user").map(|user| (user.as_str(), it.secret("password")));
            Arc::new(HttpRequest::new(client()?, it.value("url"), login))
        }
        Make::AcmeDns => {
            let document = settings.secrets.get("key").ok_or_else(|| unusable("key is missing"))?;
            let provider = AcmeDns::new(client()?, it.value("url"), document);
            Arc::new(provider.ok_or_else(|| unusable("the key holds no registrations"))?)
        }
        Make::Program => Arc::new(ByProgram::new(settings, programs)),
        #[cfg(feature = "dns-providers")]
        Make::Update(values, make) => {
            let secrets: Vec<_> = settings.secrets.values().cloned().collect();
            let updater =
                make(it).map_err(|it| unusable(&provider::redacted(&it.to_string(), &secrets)))?;
            let behind_proxy = settings.url().and_then(crate::sys::http::host_behind_proxy);
            let name = settings.name.clone();
            Arc::new(update::Update::new(name, updater, *values, secrets, behind_proxy))
        }
    })
}

#[async_trait]
impl Solver for Dns01 {
    fn challenge_type(&self) -> ChallengeType {
        self.label.challenge_type()
    }

    async fn caa(&self, identifier: &Identifier) -> Result<Option<Vec<CaaRecord>>, SolverError> {
        if self.finder.resolvers.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.finder.caa(identifier).await?))
    }

    async fn check(&self) -> Result<(), SolverError> {
        // Whether the provider would do it only a change can tell: `renewd dns test` makes one.
        let provider = || self.provider.clone();
        let checked = self.changer.provider.check().await;
        Ok(checked.map_err(|source| DnsError::NotReady { provider: provider(), source })?)
    }

    async fn check_identifier(&self, identifier: &Identifier) -> Result<(), SolverError> {
        if self.label == DnsLabel::Common {
            self.finder.locate(&name::challenge_name(identifier)?).await?;
        }
        // The other label follows from the account, which may not be there yet.
        Ok(())
    }

    async fn locate(&self, proof: &Proof) -> Result<Option<TxtRecord>, SolverError> {
        let location = self.locate_now(self.name_of(proof)?).await?;
        Ok(Some(record(&location, name::txt_value(&proof.key_authorization))))
    }

    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError> {
        let Proof { identifier, challenge_type, .. } = proof;
        if *challenge_type != self.label.challenge_type() {
            let (identifier, challenge_type) = (identifier.clone(), *challenge_type);
            return Err(SolverError::Unsuited { identifier, challenge_type });
        }
        let location = self.location(proof).await?;
        let record = record(&location, name::txt_value(&proof.key_authorization));
        Ok(Presented(Box::new(self.changer.show(record).await?)))
    }

    async fn await_visible(&self, proofs: &[Proof]) -> Result<(), SolverError> {
        let mut zones: BTreeMap<Name, (Zone, Values)> = BTreeMap::new();
        for proof in proofs {
            let Location { name, zone } = self.location(proof).await?;
            let entry = zones.entry(zone.apex.clone()).or_insert_with(|| (zone, Values::new()));
            entry.1.entry(name).or_default().insert(name::txt_value(&proof.key_authorization));
        }
        let waits = zones.values().map(|(zone, values)| self.wait(zone, values, Until::There));
        for waited in futures_util::future::join_all(waits).await {
            waited?;
        }
        let others = zones.values().map(|(zone, it)| propagation::others(&zone.servers, it));
        futures_util::future::join_all(others).await.into_iter().for_each(tell_of_others);
        Ok(())
    }

    async fn clean_up_record(&self, record: &TxtRecord) -> Result<(), SolverError> {
        Ok(self.changer.remove_leftover(record).await?)
    }

    async fn clean_up_leftover(&self, _: &Identifier, _: &Token) -> Result<(), SolverError> {
        // What was added was journalled as a record.
        Ok(())
    }
}

/// Tells of names at which others have left many values. These are not ours to remove.
fn tell_of_others(counts: BTreeMap<Name, usize>) {
    for (name, others) in counts.into_iter().filter(|(_, others)| *others >= MANY_OTHERS) {
        tracing::warn!(
            name = name::text(&name),
            others,
            "values of others are beside ours, and stay: remove those that no client waits for",
        );
    }
}

fn record(location: &Location, value: String) -> TxtRecord {
    let zone = name::text(&location.zone.apex);
    TxtRecord { zone, name: name::text(&location.name), value }
}

fn listed(servers: &[Server]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == self.address.to_string() {
            return f.write_str(&self.name);
        }
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// One value at one name.
fn values_of(name: &Name, value: &str) -> Values {
    Values::from([(name.clone(), BTreeSet::from([value.to_owned()]))])
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
