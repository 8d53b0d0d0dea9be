//! Where a proof has to be put: along aliases, in which zone, and which servers know that zone.
//!
//! # Rules
//!
//! 1. The zone of a name is found at the resolver, by asking for the SOA of the name above the
//!    record, and then of each name above that. The record's own name is never asked for there: the
//!    resolver would remember that it does not exist, and a CA may use the same one.
//! 2. The record's own name is asked for at the zone's servers. An alias (CNAME) leads to another
//!    name, at most [`MAX_ALIASES`] times and never in a circle; a delegation (NS) leads to a zone
//!    below.
//! 3. Where a record is to be put, an alias that a wildcard makes for every name is none: it leads
//!    to whoever serves the site, and what is put beside it hides it (RFC 4592 §2.2.1). It is known
//!    by a name that nobody has: it gets the same alias. Where a record is only read, such an alias
//!    is followed, as a CA follows it.
//! 4. If none of these servers answers, the resolver is asked after all: a firewall must not keep
//!    anyone from getting a certificate.
//!
//! Not here: changing the zone, and waiting for its servers ([`super::propagation`]).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use super::DnsError;
use super::exchange::{ExchangeError, Recursion, ask};
use super::name::{LABEL, text};

/// How long it may take to find out where a name leads.
const LOCATE_LIMIT: Duration = Duration::from_secs(60);

/// How long a server or a resolver is waited for alone.
const HEAD_START: Duration = Duration::from_secs(1);

/// How many aliases are followed.
pub(super) const MAX_ALIASES: usize = 8;

/// How many zones further down a server may point.
const MAX_DELEGATIONS: usize = 8;

/// How many names and addresses of servers are asked; no zone has use for more.
const MAX_SERVERS: usize = 16;

const DNS_PORT: u16 = 53;

/// A label that nobody has: an alias for it is that of every name beside it.
const NOBODYS_LABEL: &str = "_renewd-asks-for-a-name-that-is-not-there";

const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// A zone and those who know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    /// Its name.
    pub(super) apex: Name,
    /// Its servers, every address; empty if nobody is to be asked.
    pub(super) servers: Vec<Server>,
}

/// One address of an authoritative server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    /// What the zone calls it; its address if the configuration names it.
    pub(super) name: String,
    /// Where it is asked.
    pub(super) address: SocketAddr,
}

/// Where a record has to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The name at the end of all aliases.
    pub(super) name: Name,
    /// The zone that holds it.
    pub(super) zone: Zone,
}

/// Finds zones.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    /// The resolvers to ask; the system's if empty.
    pub(super) resolvers: Vec<SocketAddr>,
    /// Whom to ask in place of the servers that zones name.
    pub(super) nameservers: Option<Vec<SocketAddr>>,
}

/// What a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// A record is to be put there.
    Put,
    /// Somebody has put one there.
    Read,
}

/// What lies one step from a name.
enum Step {
    Here(Zone),
    Alias(Name),
}

impl Finder {
    /// Where a record for `name` has to be put, and which zone that is in.
    ///
    /// # Errors
    ///
    /// If no resolver answers, there is no such zone, aliases do not end, or it takes too long: an
    /// order waits for it, and each step of a long way may wait for servers that are silent.
    pub(super) async fn locate(&self, name: &Name) -> Result<Location, DnsError> {
        self.follow_in_time(name, Aim::Put).await
    }

    /// Where a CA finds the records of `name`, whoever has put them there.
    ///
    /// # Errors
    ///
    /// As [`Finder::locate`].
    pub(super) async fn locate_standing(&self, name: &Name) -> Result<Location, DnsError> {
        self.follow_in_time(name, Aim::Read).await
    }

    async fn follow_in_time(&self, name: &Name, aim: Aim) -> Result<Location, DnsError> {
        let located = timeout(LOCATE_LIMIT, self.follow(name, aim)).await;
        located.unwrap_or_else(|_elapsed| Err(DnsError::TooSlow { name: text(name) }))
    }

    async fn follow(&self, name: &Name, aim: Aim) -> Result<Location, DnsError> {
        let mut seen = BTreeSet::from([name.to_lowercase()]);
        let mut current = name.clone();
        for _ in 0..=MAX_ALIASES {
            let zone = self.zone_above(&current).await?;
            match self.step(&current, zone, aim).await? {
                Step::Here(zone) => return Ok(Location { name: current, zone }),
                Step::Alias(target) => {
                    if !seen.insert(target.to_lowercase()) {
                        return Err(DnsError::AliasLoop { name: text(name) });
                    }
                    current = target;
                }
            }
        }
        Err(DnsError::TooManyAliases { name: text(name) })
    }

    /// Asks the servers of `zone` for `name`, and follows delegations down.
    async fn step(&self, name: &Name, mut zone: Zone, aim: Aim) -> Result<Step, DnsError> {
        for _ in 0..MAX_DELEGATIONS {
            let Some(answer) = alias_at(&zone.servers, name).await else {
                return self.step_by_resolver(name, zone, aim).await;
            };
            if let Some(target) = alias_of(&answer, name) {
                let ask = async |it: &Name| alias_at(&zone.servers, it).await;
                let is_passed_by = aim == Aim::Put && is_everybodys(&target, name, ask).await;
                return Ok(if is_passed_by { Step::Here(zone) } else { Step::Alias(target) });
            }
            if let Some(apex) = delegation(&answer, name, &zone.apex) {
                zone = self.zone(apex, &server_names(&answer.authorities)).await?;
                continue;
            }
            return Ok(Step::Here(match denier(&answer, name) {
                // The server holds a zone further down too, and speaks for that one.
                Some(apex) if apex != zone.apex => self.zone_named(apex).await?,
                _ => zone,
            }));
        }
        Err(DnsError::ZoneNotFound { name: text(name) })
    }

    async fn step_by_resolver(&self, name: &Name, zone: Zone, aim: Aim) -> Result<Step, DnsError> {
        let answer = self.resolve(name, RecordType::CNAME).await?;
        let Some(target) = alias_of(&answer, name) else { return Ok(Step::Here(zone)) };
        let ask = async |it: &Name| self.resolve(it, RecordType::CNAME).await.ok();
        let is_passed_by = aim == Aim::Put && is_everybodys(&target, name, ask).await;
        Ok(if is_passed_by { Step::Here(zone) } else { Step::Alias(target) })
    }

    /// The zone that holds the name above `name`.
    async fn zone_above(&self, name: &Name) -> Result<Zone, DnsError> {
        let mut above = name.base_name();
        while !above.is_root() {
            let answer = self.resolve(&above, RecordType::SOA).await?;
            // Of an alias, the SOA is that of the zone it leads to: that one says nothing of ours.
            let owner = answer.answers.iter().chain(&answer.authorities).find_map(|record| {
                let is_soa = matches!(record.data, RData::SOA(_));
                (is_soa && record.name.zone_of(&above)).then(|| record.name.clone())
            });
            if let Some(apex) = owner {
                return self.zone_named(apex).await;
            }
            above = above.base_name();
        }
        Err(DnsError::ZoneNotFound { name: text(name) })
    }

    /// The zone `apex` with its servers, whose names the resolver knows.
    async fn zone_named(&self, apex: Name) -> Result<Zone, DnsError> {
        let servers = match &self.nameservers {
            Some(_) => Vec::new(),
            None => server_names(&self.resolve(&apex, RecordType::NS).await?.answers),
        };
        self.zone(apex, &servers).await
    }

    /// The zone `apex` with the addresses of its servers. None at all would let a proof pass for
    /// seen everywhere, so there is one, unless the configuration says whom to ask.
    async fn zone(&self, apex: Name, server_names: &[Name]) -> Result<Zone, DnsError> {
        if let Some(addresses) = &self.nameservers {
            let server = |it: &SocketAddr| Server { name: it.to_string(), address: *it };
            return Ok(Zone { apex, servers: addresses.iter().map(server).collect() });
        }
        let wanted = server_names.iter().take(MAX_SERVERS).flat_map(|name| {
            [RecordType::A, RecordType::AAAA]
                .map(|kind| async move { (name, self.resolve(name, kind).await) })
        });
        let (mut servers, mut failed) = (BTreeSet::new(), None);
        for (name, answer) in join_all(wanted).await {
            match answer {
                Ok(answer) => {
                    let addresses = answer.answers.iter().filter_map(|it| address_of(&it.data));
                    servers.extend(addresses.map(|it| Server {
                        name: text(name),
                        address: SocketAddr::new(it, DNS_PORT),
                    }));
                }
                // One server without an address is no reason not to ask the others.
                Err(error) => failed = Some(error),
            }
        }
        if servers.is_empty() {
            let zone = text(&apex);
            return Err(failed.unwrap_or(DnsError::NoServers { zone }));
        }
        Ok(Zone { apex, servers: servers.into_iter().take(2 * MAX_SERVERS).collect() })
    }

    /// What the first resolver that answers says.
    pub(super) async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let resolvers = self.resolvers()?;
        let asked = resolvers.iter().map(|it| ask(*it, name, kind, Recursion::Desired));
        first_answer(asked).await.map_err(|source| {
            let resolvers = resolvers.iter().map(ToString::to_string).collect::<Vec<_>>();
            DnsError::Resolver { name: text(name), resolvers: resolvers.join(", "), source }
        })
    }

    /// Read each time: the system's may change with the network.
    fn resolvers(&self) -> Result<Vec<SocketAddr>, DnsError> {
        if !self.resolvers.is_empty() {
            return Ok(self.resolvers.clone());
        }
        let file = fs::read_to_string(Path::new(RESOLVER_FILE));
        let found = parse_resolvers(&file.map_err(|source| DnsError::NoResolver { source })?);
        if found.is_empty() {
            let source = std::io::Error::other("it names no nameserver");
            return Err(DnsError::NoResolver { source });
        }
        Ok(found)
    }
}

/// What the first of `servers` that answers says of `name`. Asked for as an alias: for it a server
/// gives the same alias, delegation or denial as for any other type.
async fn alias_at(servers: &[Server], name: &Name) -> Option<Message> {
    let asked = servers.iter().map(|it| ask(it.address, name, RecordType::CNAME, Recursion::Off));
    first_answer(asked).await.ok()
}

/// What comes first of `questions` to several servers, of which each is asked when those before it
/// have failed, or been silent for a while.
///
/// # Errors
///
/// If none answers: what was heard last.
async fn first_answer<F>(
    mut questions: impl ExactSizeIterator<Item = F>,
) -> Result<Message, ExchangeError>
where
    F: Future<Output = Result<Message, ExchangeError>>,
{
    let mut asked = FuturesUnordered::new();
    let mut last = ExchangeError::TimedOut;
    loop {
        match questions.next() {
            Some(question) => asked.push(question),
            None if asked.is_empty() => return Err(last),
            None => {}
        }
        // Where nobody else is left to ask, those that were asked have all the time they take.
        let limit = if questions.len() > 0 { HEAD_START } else { LOCATE_LIMIT };
        match timeout(limit, asked.next()).await {
            Ok(Some(Ok(answer))) if is_answer(&answer) => return Ok(answer),
            Ok(Some(Ok(answer))) => last = ExchangeError::Code(answer.response_code.to_string()),
            Ok(Some(Err(error))) => last = error,
            Ok(None) | Err(_) => {}
        }
    }
}

fn is_answer(answer: &Message) -> bool {
    matches!(answer.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Whether a wildcard makes the alias of `name` to `target`: whoever is asked by `ask` gives it to a
/// name that nobody has, too.
async fn is_everybodys(
    target: &Name,
    name: &Name,
    ask: impl AsyncFnOnce(&Name) -> Option<Message>,
) -> bool {
    let Some(nobodys) = nobodys_name(name) else { return false };
    let answer = ask(&nobodys).await;
    answer.and_then(|it| alias_of(&it, &nobodys)).as_ref() == Some(target)
}

/// A name beside `name` that nobody has; none if it would be too long for one, nor directly below
/// [`LABEL`]: a wildcard there is for proofs alone (dns-account-01).
fn nobodys_name(name: &Name) -> Option<Name> {
    let above = name.base_name();
    let first = above.iter().next();
    let is_for_proofs = first.is_some_and(|it| it.eq_ignore_ascii_case(LABEL.as_bytes()));
    if is_for_proofs { None } else { above.prepend_label(NOBODYS_LABEL).ok() }
}

/// Where `name` is an alias to, in whatever order the records came.
pub(super) fn alias_of(answer: &Message, name: &Name) -> Option<Name> {
    answer.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some(target.0.clone()),
        _ => None,
    })
}

/// The zone below `apex` that `answer` sends us to for `name`, if it does.
pub(super) fn delegation(answer: &Message, name: &Name, apex: &Name) -> Option<Name> {
    if answer.authoritative || !answer.answers.is_empty() {
        return None;
    }
    let owner = answer.authorities.iter().find(|it| matches!(it.data, RData::NS(_)))?;
    let is_below = owner.name != *apex && apex.zone_of(&owner.name) && owner.name.zone_of(name);
    is_below.then(|| owner.name.clone())
}

/// The zone in whose name `answer` says that there is no such record at `name` (RFC 2308 §3).
pub(super) fn denier(answer: &Message, name: &Name) -> Option<Name> {
    let soa = answer.authorities.iter().find(|it| matches!(it.data, RData::SOA(_)))?;
    let speaks = answer.authoritative && answer.answers.is_empty() && soa.name.zone_of(name);
    speaks.then(|| soa.name.clone())
}

pub(super) fn server_names(records: &[hickory_proto::rr::Record]) -> Vec<Name> {
    let names = records.iter().filter_map(|record| match &record.data {
        RData::NS(name) => Some(name.0.clone()),
        _ => None,
    });
    names.collect()
}

pub(super) const fn address_of(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// The servers that a file like `/etc/resolv.conf` names.
fn parse_resolvers(file: &str) -> Vec<SocketAddr> {
    let addresses = file.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        // An IPv6 address may carry its interface, which a socket address here can't.
        Some(SocketAddr::new(address.split('%').next()?.parse().ok()?, DNS_PORT))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{CNAME, NS};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer() -> Message {
        Message::new(1, MessageType::Response, OpCode::Query)
    }

    #[test]
    fn resolvers_are_read_and_all_else_passed_over() {
        let file = "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.1\nnameserver\n\
                    nameserver 2001:db8::1\nnameserver nonsense\n";
        let found: Vec<String> = parse_resolvers(file).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn an_alias_is_found_in_whatever_order_records_come() {
        let mut answer = answer();
        let record = |owner: &str, target: &str| {
            Record::from_rdata(name(owner), 5, RData::CNAME(CNAME(name(target))))
        };
        answer.add_answer(record("b.example.", "c.example."));
        answer.add_answer(record("A.Example.", "b.example."));
        assert_eq!(alias_of(&answer, &name("a.example.")), Some(name("b.example.")));
        assert_eq!(alias_of(&answer, &name("c.example.")), None);
    }

    #[test]
    fn only_a_delegation_downwards_is_followed() {
        let asked = name("_acme-challenge.www.example.com.");
        let of = |owner: &str| {
            let mut answer = answer();
            let ns = RData::NS(NS(name("ns.example.net.")));
            answer.add_authority(Record::from_rdata(name(owner), 5, ns));
            delegation(&answer, &asked, &name("example.com."))
        };
        assert_eq!(of("www.example.com."), Some(name("www.example.com.")));
        assert_eq!(of("example.com."), None);
        assert_eq!(of("com."), None);
        assert_eq!(of("other.example.com."), None);
    }
}
