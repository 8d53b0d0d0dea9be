//! What can go wrong with a proof in DNS, and what to do about it.

use std::io;
use std::time::Duration;

use crate::model::{Explain, Identifier, Retry, StandingState};

use super::exchange::ExchangeError;
use super::provider::ProviderError;
use super::zone::MAX_ALIASES;

/// A proof can't be put into DNS, is not seen there, or can't be taken away.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// There is no name at which a CA would look.
    #[error("{identifier} can't be proven by dns-01: it is an address, or too long")]
    Unsuited {
        /// What was to be proven.
        identifier: Identifier,
    },
    /// The system names no resolver.
    #[error("no resolver is known: /etc/resolv.conf can't be used")]
    NoResolver {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No resolver has an answer.
    #[error("no resolver answers for {name} (asked: {resolvers})")]
    Resolver {
        /// What was asked for.
        name: String,
        /// Who was asked.
        resolvers: String,
        /// What the last of them said.
        #[source]
        source: ExchangeError,
    },
    /// No name above it has a zone.
    #[error("no zone holds {name}")]
    ZoneNotFound {
        /// The name.
        name: String,
    },
    /// Nobody could say whether a record is there.
    #[error("no name server of {zone} has an address")]
    NoServers {
        /// The zone.
        zone: String,
    },
    /// Too many servers on the way are silent.
    #[error("it takes too long to find the name servers of {name}")]
    TooSlow {
        /// The name.
        name: String,
    },
    /// Aliases lead in a circle.
    #[error("the aliases of {name} lead in a circle")]
    AliasLoop {
        /// Where they begin.
        name: String,
    },
    /// Aliases do not end.
    #[error("{name} leads over more than {MAX_ALIASES} aliases")]
    TooManyAliases {
        /// Where they begin.
        name: String,
    },
    /// The provider did not do it.
    #[error("cannot {action} the TXT record {name}")]
    Change {
        /// `add` or `remove`.
        action: &'static str,
        /// The record.
        name: String,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// Others of our own are at the zone, and do not end.
    #[error(
        "the TXT record {name} was not added: other changes of the zone {zone} have been under way \
         for {limit:?}"
    )]
    Busy {
        /// The zone.
        zone: String,
        /// The record.
        name: String,
        /// How long it was waited for them.
        limit: Duration,
    },
    /// The provider can't be asked.
    #[error("the provider {provider} can't be used here")]
    NotReady {
        /// Its name.
        provider: String,
        /// Why not.
        #[source]
        source: ProviderError,
    },
    /// Servers answer, and lack it.
    #[error("after {limit:?} these name servers do not have the TXT records of {names}: {servers}")]
    NotVisible {
        /// The records.
        names: String,
        /// The servers.
        servers: String,
        /// How long it was waited for.
        limit: Duration,
        /// Whether they may be in another zone of the same name.
        may_mistake_zone: bool,
    },
    /// The record that is to stand there for good is not there, or not right.
    #[error("the TXT record {name} does not prove it: {state} (at {servers})")]
    NotStanding {
        /// Its name.
        name: String,
        /// What it has to be.
        value: String,
        /// What is there.
        state: StandingState,
        /// The servers that say so.
        servers: String,
    },
    /// The settings of the provider can't be used.
    #[error("the provider {provider} can't be used: {message}")]
    Settings {
        /// Its name.
        provider: String,
        /// Why not.
        message: String,
    },
}

impl Explain for DnsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unsuited { .. } => "solver.unsuited",
            Self::NoResolver { .. }
            | Self::Resolver { .. }
            | Self::NoServers { .. }
            | Self::TooSlow { .. } => "dns.resolver",
            Self::ZoneNotFound { .. } => "dns.zone",
            Self::AliasLoop { .. } | Self::TooManyAliases { .. } => "dns.alias",
            Self::Change { .. } => "dns.change",
            Self::Busy { .. } => "dns.busy",
            Self::NotVisible { .. } => "dns.not_visible",
            Self::NotStanding { .. } => "dns.persist",
            Self::NotReady { .. } | Self::Settings { .. } => "dns.settings",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Unsuited { .. } | Self::Settings { .. } => Retry::AfterChange,
            Self::Change { source, .. } | Self::NotReady { source, .. } => source.retry(),
            _ => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unsuited { .. } => "choose another solver for it by solver = or for =".into(),
            Self::NoResolver { .. } => {
                "set resolvers = [\"192.0.2.53:53\"] at the solver, or mend /etc/resolv.conf".into()
            }
            Self::Resolver { .. } => {
                "see that a resolver answers here, or set resolvers = at the solver".into()
            }
            Self::NoServers { zone } => format!(
                "see `dig NS {zone}` and the addresses of these names; where only the outer view \
                 has them, set nameservers = at the solver"
            ),
            Self::ZoneNotFound { name } => format!(
                "see `dig SOA` of the names above {name}; where the inner and the outer view \
                 differ, set resolvers = at the solver"
            ),
            Self::TooSlow { name } => {
                format!("see by `dig +trace {name}` which servers are silent")
            }
            Self::AliasLoop { name } | Self::TooManyAliases { name } => {
                format!("see `dig CNAME {name}`, and mend the alias that leads back")
            }
            Self::Busy { zone, .. } => format!(
                "see in the log which change of {zone} does not end; `renewd dns test` tries its \
                 provider without a CA"
            ),
            Self::Change { source, .. } | Self::NotReady { source, .. } => return source.hint(),
            Self::NotVisible { may_mistake_zone: true, .. } => {
                "set options.hosted_zone_id at the solver: Route 53 may have a private zone of the \
                 same name, which was changed in its place; else see why the servers lag, or raise \
                 propagation_timeout"
                    .into()
            }
            Self::NotVisible { .. } => "see why the servers lag (`dig SOA` at each: their serial \
                                        numbers), or raise propagation_timeout at the solver"
                .into(),
            Self::NotStanding { name, value, .. } => {
                format!("set it for good: {name}. IN TXT \"{value}\"")
            }
            Self::Settings { provider, .. } => {
                format!("see what {provider} needs in `renewd config reference`")
            }
        })
    }
}
