//! Goes the whole way of a proof with a value of chance, and no CA: to prove a solver before it is
//! needed.
//!
//! Not here: printing the steps ([`crate::cli`]).

use std::fmt;

use crate::model::Identifier;
use crate::solver::{CleanUp, SolverError};

use super::propagation::{self, Until};
use super::{Dns01, listed, name, record, values_of};

/// Something that was done, and went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Where the record goes is known.
    Located {
        /// The name at which a CA asks.
        asked: String,
        /// The record, at the end of all aliases.
        name: String,
        /// Its zone.
        zone: String,
        /// The servers that will be asked.
        servers: String,
    },
    /// The provider has added the value.
    Added {
        /// The value.
        value: String,
    },
    /// All servers that answer have it.
    Seen {
        /// So many values of others are beside it.
        others: usize,
    },
    /// The provider has removed the value.
    Removed,
    /// No server that answers has it any more.
    Gone,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Located { asked, name, zone, servers } => {
                if asked != name {
                    writeln!(f, "{asked} leads to {name}")?;
                }
                writeln!(f, "zone {zone} holds {name}")?;
                let servers = if servers.is_empty() { "nobody" } else { servers };
                write!(f, "name servers to ask: {servers}")
            }
            Self::Added { value } => write!(f, "added the value {value}"),
            Self::Seen { others: 0 } => f.write_str("all name servers that answer have it"),
            Self::Seen { others } => write!(
                f,
                "all name servers that answer have it, beside {others} of others, which stay"
            ),
            Self::Removed => f.write_str("removed it"),
            Self::Gone => f.write_str("no name server that answers has it any more"),
        }
    }
}

impl Dns01 {
    /// Adds a value of chance where a dns-01 proof of `identifier` would go, waits until all
    /// servers have it, removes it, and waits until none has it. `tell` hears of each step as it is
    /// done. The value is removed whatever fails.
    ///
    /// # Errors
    ///
    /// Says which step failed, and why.
    pub async fn rehearse(
        &self,
        identifier: &Identifier,
        mut tell: impl FnMut(Step) + Send,
    ) -> Result<(), SolverError> {
        let asked = name::challenge_name(identifier)?;
        let location = self.locate_now(asked.clone()).await?;
        let value = format!("renewd-test-{:016x}", fastrand::u64(..));
        let record = record(&location, value.clone());
        tell(Step::Located {
            asked: name::text(&asked),
            name: record.name.clone(),
            zone: record.zone.clone(),
            servers: listed(&location.zone.servers),
        });
        let shown = Box::new(self.changer.show(record).await?);
        tell(Step::Added { value: value.clone() });

        let values = values_of(&location.name, &value);
        let seen = self.wait(&location.zone, &values, Until::There).await;
        if seen.is_ok() {
            let others = propagation::others(&location.zone.servers, &values).await;
            tell(Step::Seen { others: others.values().sum() });
        }
        shown.clean_up().await?;
        tell(Step::Removed);
        seen?;
        self.wait(&location.zone, &values, Until::Gone).await?;
        tell(Step::Gone);
        Ok(())
    }
}
