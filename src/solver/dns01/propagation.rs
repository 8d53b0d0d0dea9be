//! Waits until every authoritative server has what was added: a CA asks any of them.
//!
//! # Rules
//!
//! 1. Every address is asked directly, without recursion, again and again, until all have all
//!    values.
//! 2. A server that does not answer is no evidence of anything: it may be hidden behind a firewall,
//!    or its IPv6 address be broken. Once those that answer have everything, it is waited for no
//!    longer than [`GRACE`], and then gone on without it. Where none answers nobody knows what is
//!    there yet: all are waited for to the deadline, and then gone on without them.
//! 3. An address that this machine has no way to, such as one of IPv6 where there is IPv4 alone, is
//!    neither waited for nor told of, unless all are such.
//! 4. A server that answers and lacks a value at the deadline is evidence that the CA would find
//!    nothing either. The proof fails here, where nothing is spent, instead of there, where an
//!    attempt would be.
//!
//! So nobody waits past the deadline, and what can't be asked never stands in the way.
//!
//! Not here: which servers there are ([`super::zone`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use crate::sys::clock::Clock;

use super::exchange::{ExchangeError, Recursion, ask};
use super::zone::Server;

/// How long those that do not answer are waited for when all others have everything.
pub(super) const GRACE: Duration = Duration::from_secs(20);

/// How long others' values are counted.
const OTHERS_LIMIT: Duration = Duration::from_secs(5);

/// Between two rounds, at first and at most.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// What servers are to have, or no longer have, at one name.
pub(super) type Values = BTreeMap<Name, BTreeSet<String>>;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// All values are there.
    There,
    /// None of them is.
    Gone,
}

/// How the wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All servers answered, and are as wanted.
    Everywhere,
    /// Those that answered are as wanted; these did not.
    Unasked(Vec<Server>),
    /// These answered, and were not as wanted at the deadline.
    Lacking(Vec<Server>),
}

/// What one server said in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    AsWanted,
    Lacks,
    Silent,
    /// It could not be asked from here.
    WithoutWay,
}

impl Report {
    /// What `error` says of a server that gave no answer.
    fn of(error: &ExchangeError) -> Self {
        if error.is_without_a_way() { Self::WithoutWay } else { Self::Silent }
    }
}

/// Asks all of `servers` until they are as wanted, `limit` at most.
pub(super) async fn wait(
    servers: &[Server],
    values: &Values,
    until: Until,
    limit: Duration,
    clock: &dyn Clock,
) -> Outcome {
    wait_for(servers, limit, clock, |server| look(server, values, until)).await
}

/// As [`wait`], for what `look` looks for.
pub(super) async fn wait_for<'a, F: Future<Output = Report>>(
    servers: &'a [Server],
    limit: Duration,
    clock: &dyn Clock,
    look: impl Fn(&'a Server) -> F,
) -> Outcome {
    let started = clock.monotonic();
    let mut interval = INTERVAL;
    loop {
        let reports = join_all(servers.iter().map(&look)).await;
        let passed = clock.monotonic().saturating_sub(started);
        if let Some(outcome) = judge(servers, &reports, passed, limit) {
            return outcome;
        }
        clock.sleep(interval.min(limit.saturating_sub(passed))).await;
        interval = (interval * 2).min(MAX_INTERVAL);
    }
}

/// What follows from one round that ended `passed` after the first began; none: ask again.
fn judge(
    servers: &[Server],
    reports: &[Report],
    passed: Duration,
    limit: Duration,
) -> Option<Outcome> {
    let those = |wanted: Report| -> Vec<Server> {
        let pairs = servers.iter().zip(reports).filter(|(_, it)| **it == wanted);
        pairs.map(|(server, _)| server.clone()).collect()
    };
    let (lacking, mut silent) = (those(Report::Lacks), those(Report::Silent));
    if reports.iter().all(|it| *it == Report::WithoutWay) {
        silent = servers.to_vec();
    }
    if lacking.is_empty() && silent.is_empty() {
        return Some(Outcome::Everywhere);
    }
    let is_there = reports.contains(&Report::AsWanted);
    let patience = if is_there { GRACE.min(limit) } else { limit };
    if lacking.is_empty() && passed >= patience {
        return Some(Outcome::Unasked(silent));
    }
    (passed >= limit).then_some(Outcome::Lacking(lacking))
}

/// Asks `server` for all of `values`.
async fn look(server: &Server, values: &Values, until: Until) -> Report {
    for (name, wanted) in values {
        let found = match values_at(server, name).await {
            Ok(found) => found,
            Err(report) => return report,
        };
        let is_as_wanted = match until {
            Until::There => wanted.is_subset(&found),
            Until::Gone => wanted.is_disjoint(&found),
        };
        if !is_as_wanted {
            return Report::Lacks;
        }
    }
    Report::AsWanted
}

/// How many other values are beside each of `values`, as the first of `servers` has it that can
/// say. Nothing hangs on it: where servers are slow to say it is left at what was heard by then.
pub(super) async fn others(servers: &[Server], values: &Values) -> BTreeMap<Name, usize> {
    let mut counts = BTreeMap::new();
    let count = async {
        for (name, wanted) in values {
            counts.insert(name.clone(), others_at(servers, name, wanted).await);
        }
    };
    drop(timeout(OTHERS_LIMIT, count).await);
    counts
}

async fn others_at(servers: &[Server], name: &Name, wanted: &BTreeSet<String>) -> usize {
    for server in servers {
        if let Ok(found) = values_at(server, name).await {
            return found.difference(wanted).count();
        }
    }
    0
}

/// The values of all TXT records that `server` has at `name`.
///
/// # Errors
///
/// If it can't say: what is to be reported of it.
pub(super) async fn values_at(server: &Server, name: &Name) -> Result<BTreeSet<String>, Report> {
    let answer = ask(server.address, name, RecordType::TXT, Recursion::Off).await;
    let answer = answer.map_err(|error| Report::of(&error))?;
    txt_values(&answer, name).ok_or(Report::Silent)
}

/// The values of all TXT records at `name`; none if the server does not know the zone.
pub(super) fn txt_values(answer: &Message, name: &Name) -> Option<BTreeSet<String>> {
    // A server that does not hold the zone answers by naming others, or with an error.
    let is_known = matches!(answer.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !is_known || (answer.answers.is_empty() && !answer.authoritative) {
        return None;
    }
    let values = answer.answers.iter().filter_map(|record| match &record.data {
        // RFC 8555 §8.4 knows one string; a longer text is cut into several (RFC 1035 §3.3.14).
        RData::TXT(txt) if record.name == *name => {
            Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
        }
        _ => None,
    });
    Some(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    #[track_caller]
    fn check(reports: &[Report], seconds: u64, expected: Option<&Outcome>) {
        let passed = Duration::from_secs(seconds);
        let judged = judge(&servers(reports.len()), reports, passed, LIMIT);
        assert_eq!(judged.as_ref(), expected);
    }

    fn servers(count: usize) -> Vec<Server> {
        let server = |it| Server { name: format!("ns{it}"), address: ([192, 0, 2, it], 53).into() };
        (1..).take(count).map(server).collect()
    }

    #[test]
    fn all_servers_with_all_values_end_the_wait_at_once() {
        check(&[Report::AsWanted, Report::AsWanted], 0, Some(&Outcome::Everywhere));
        check(&[Report::AsWanted, Report::Lacks], 299, None);
    }

    #[test]
    fn a_server_that_lacks_a_value_at_the_deadline_fails_the_proof_here() {
        let lacking = Outcome::Lacking(servers(2)[1..].to_vec());
        check(&[Report::AsWanted, Report::Lacks], 300, Some(&lacking));
        check(&[Report::Silent, Report::Lacks], 300, Some(&lacking));
    }

    #[test]
    fn a_server_that_nobody_can_ask_is_gone_on_without() {
        let unasked = Outcome::Unasked(servers(2)[1..].to_vec());
        check(&[Report::AsWanted, Report::Silent], 19, None);
        check(&[Report::AsWanted, Report::Silent], 20, Some(&unasked));
        check(&[Report::Lacks, Report::Silent], 20, None);
    }

    /// N14: as behind a firewall that lets no question out.
    #[test]
    fn where_nobody_answers_all_the_time_there_is_passes_before_it_is_gone_on() {
        check(&[Report::Silent, Report::Silent], 20, None);
        check(&[Report::Silent, Report::Silent], 299, None);
        check(&[Report::Silent, Report::Silent], 300, Some(&Outcome::Unasked(servers(2))));
        check(&[], 0, Some(&Outcome::Everywhere));
    }

    /// N14: the IPv6 addresses of name servers, on a machine that has none of its own.
    #[test]
    fn an_address_that_there_is_no_way_to_is_not_waited_for_while_another_is_asked() {
        use Report::{AsWanted, Lacks, Silent, WithoutWay};
        check(&[AsWanted, WithoutWay], 0, Some(&Outcome::Everywhere));
        check(&[Lacks, WithoutWay], 299, None);
        check(&[Lacks, WithoutWay], 300, Some(&Outcome::Lacking(servers(1))));
        check(&[Silent, WithoutWay], 299, None);
        check(&[Silent, WithoutWay], 300, Some(&Outcome::Unasked(servers(1))));
        check(&[WithoutWay, WithoutWay], 299, None);
        check(&[WithoutWay, WithoutWay], 300, Some(&Outcome::Unasked(servers(2))));
    }

    #[test]
    fn a_referral_is_no_answer_and_a_denial_is() {
        use hickory_proto::op::{MessageType, OpCode};
        let name = Name::from_ascii("_acme-challenge.example.com.").unwrap();
        let mut answer = Message::new(1, MessageType::Response, OpCode::Query);
        assert_eq!(txt_values(&answer, &name), None);
        answer.metadata.authoritative = true;
        assert_eq!(txt_values(&answer, &name), Some(BTreeSet::new()));
        answer.metadata.response_code = ResponseCode::Refused;
        assert_eq!(txt_values(&answer, &name), None);
    }
}
