//! Name servers that lie, break off, send garbage, or lead in circles, in process, on loopback:
//! whatever they answer, what is looked for ends in an error in bounded time, and nothing panics.

#![expect(clippy::disallowed_methods, reason = "how long a question really took is what is tested")]
#![expect(clippy::cast_possible_truncation, reason = "a message is no longer than its length says")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::exchange::{ExchangeError, Recursion, ask};
use super::zone::Finder;
use super::{DnsError, DnsPersist01, DnsPersist01Settings, propagation};
use crate::model::{Explain, StandingRecord, StandingState, chain_text};
use crate::sys::clock::SystemClock;

/// No question takes longer, whoever is asked: two datagrams and a connection, with room for a
/// loaded machine.
const ONE_QUESTION: Duration = Duration::from_secs(20);

const TTL: u32 = 60;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// What is sent back for a question: any number of datagrams.
type Answer = Vec<Vec<u8>>;

/// A name server that answers as it is told.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Query>>>,
}

impl Server {
    /// Answers each question with what `answer` makes of it; by TCP with the first of these.
    async fn start(answer: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Query>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let answer = Arc::new(move |bytes: &[u8]| {
            let request = Message::from_vec(bytes).unwrap();
            noted.lock().unwrap().extend(request.queries.first().cloned());
            answer(&request)
        });
        let by_tcp = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                for datagram in answer(&buffer[..length]) {
                    drop(udp.send_to(&datagram, peer).await);
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let Ok(length) = stream.read_u16().await else { continue };
                let mut request = vec![0; usize::from(length)];
                drop(stream.read_exact(&mut request).await);
                let Some(message) = by_tcp(&request).into_iter().next() else { continue };
                let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
                drop(stream.write_all(&framed).await);
            }
        });
        Self { address, asked }
    }

    fn finder(&self) -> Finder {
        Finder { resolvers: vec![self.address], nameservers: Some(vec![self.address]) }
    }

    async fn ask(&self, kind: RecordType) -> Result<Message, ExchangeError> {
        let began = Instant::now();
        let answer = ask(self.address, &name("a.example."), kind, Recursion::Off).await;
        assert!(began.elapsed() < ONE_QUESTION, "{:?}", began.elapsed());
        answer
    }
}

/// An answer to `request`, to be filled in.
fn answer_to(request: &Message) -> Message {
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata.authoritative = true;
    answer.add_query(request.queries.first().unwrap().clone());
    answer
}

fn soa(apex: &str) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 60, 60, 60, 60);
    Record::from_rdata(name(apex), TTL, RData::SOA(data))
}

/// Says that `apex` is a zone, and makes of a question for an alias what `alias` says.
fn zone(
    apex: &'static str,
    alias: impl Fn(&Name, &mut Message) + Send + Sync + 'static,
) -> impl Fn(&Message) -> Answer {
    move |request| {
        let query = request.queries.first().unwrap();
        let mut answer = answer_to(request);
        match query.query_type() {
            RecordType::SOA => {
                answer.add_answer(soa(apex));
            }
            RecordType::CNAME => alias(query.name(), &mut answer),
            _ => {}
        }
        vec![answer.to_vec().unwrap()]
    }
}

/// A resolver that knows the zone `example.` and its four servers; of their addresses it says what
/// `tell` does.
fn served_zone(
    tell: impl Fn(RecordType, &Name, &mut Message) + Send + Sync + 'static,
) -> impl Fn(&Message) -> Answer {
    move |request| {
        let query = request.queries.first().unwrap();
        let mut answer = answer_to(request);
        match query.query_type() {
            RecordType::SOA => {
                answer.add_answer(soa("example."));
            }
            RecordType::NS => {
                for number in 1..=4 {
                    let data = RData::NS(NS(name(&format!("ns{number}.example."))));
                    answer.add_answer(Record::from_rdata(name("example."), TTL, data));
                }
            }
            kind @ (RecordType::A | RecordType::AAAA) => tell(kind, query.name(), &mut answer),
            _ => {}
        }
        vec![answer.to_vec().unwrap()]
    }
}

async fn locate(finder: &Finder, text: &str) -> Result<(), DnsError> {
    let began = Instant::now();
    let located = finder.locate(&name(text)).await;
    assert!(began.elapsed() < 4 * ONE_QUESTION, "{:?}", began.elapsed());
    located.map(drop)
}

/// N07: aliases that lead in a circle, to themselves, or on and on.
#[tokio::test]
async fn aliases_that_do_not_end_are_an_error_after_a_few_questions() {
    let to = |target: Name, from: &Name, answer: &mut Message| {
        answer.add_answer(Record::from_rdata(from.clone(), TTL, RData::CNAME(CNAME(target))));
    };
    let itself =
        Server::start(zone("example.", move |it, answer| to(it.clone(), it, answer))).await;
    let error = locate(&itself.finder(), "_acme-challenge.example.").await.unwrap_err();
    assert!(matches!(error, DnsError::AliasLoop { .. }), "{error}");

    let longer = Server::start(zone("example.", move |it, answer| {
        let number = it.iter().next().unwrap().len() % 60 + 1;
        to(name(&format!("{}.example.", "x".repeat(number))), it, answer);
    }))
    .await;
    let error = locate(&longer.finder(), "_acme-challenge.example.").await.unwrap_err();
    assert!(matches!(error, DnsError::TooManyAliases { .. }), "{error}");
    assert_eq!((error.code(), error.hint().is_some()), ("dns.alias", true));
    let asked = longer.asked.lock().unwrap().len();
    assert!(asked < 40, "{asked} questions");
}

/// N13: a wildcard alias for the site leads no proof away, whoever tells of it, and what a CA would
/// read by it is read; an alias for the record itself is followed.
#[tokio::test]
async fn an_alias_that_a_wildcard_makes_leads_no_proof_away() {
    let (record, target) = (name("_acme-challenge.www.example."), name("lb.example."));
    let alias = |owner: &Name, answer: &mut Message| {
        let data = RData::CNAME(CNAME(name("LB.example.")));
        answer.add_answer(Record::from_rdata(owner.clone(), TTL, data));
    };
    let of_all = Server::start(zone("example.", move |it, answer| {
        if *it == name("lb.example.") {
            answer.add_authority(soa("example."));
        } else {
            alias(it, answer);
        }
    }))
    .await;
    let of_one = Server::start(zone("example.", move |it, answer| {
        if *it == name("_acme-challenge.www.example.") {
            alias(it, answer);
        }
    }))
    .await;
    let by_resolver = |it: &Server| Finder { nameservers: Some(Vec::new()), ..it.finder() };
    for (finder, expected) in [
        (of_all.finder(), &record),
        (by_resolver(&of_all), &record),
        (of_one.finder(), &target),
        (by_resolver(&of_one), &target),
    ] {
        assert_eq!(finder.locate(&record).await.unwrap().name, *expected);
        assert_eq!(finder.locate_standing(&record).await.unwrap().name, target);
    }
    let of_account = name("_ujmmovf2vn55tgye._acme-challenge.www.example.");
    assert_eq!(of_all.finder().locate(&of_account).await.unwrap().name, target);
}

/// N07: servers that send us to a zone further down, again and again.
#[tokio::test]
async fn delegations_that_do_not_end_cost_a_few_questions() {
    let down = |it: &Name, answer: &mut Message| {
        answer.metadata.authoritative = false;
        for labels in 2..=it.num_labels() {
            let owner = it.trim_to(usize::from(labels));
            let data = RData::NS(NS(name("ns.example.")));
            answer.add_authority(Record::from_rdata(owner, TTL, data));
        }
    };
    let server = Server::start(zone("example.", down)).await;
    let deep = format!("_acme-challenge.{}example.", "a.".repeat(40));
    // Where it ends there is a zone all the same: its server answers for whatever it is asked.
    locate(&server.finder(), &deep).await.unwrap();
    let asked = server.asked.lock().unwrap().len();
    assert!(asked < 100, "{asked} questions");
}

/// N07: codes that mean "not for you" or "not now" are told with the server that gave them.
#[tokio::test]
async fn a_resolver_that_refuses_or_fails_is_named_with_what_it_said() {
    for (code, words) in [
        (ResponseCode::ServFail, "Server Failure"),
        (ResponseCode::Refused, "Query refused"),
        (ResponseCode::NotImp, "Not Implemented"),
    ] {
        let server = Server::start(move |request: &Message| {
            let mut answer = answer_to(request);
            answer.metadata.response_code = code;
            vec![answer.to_vec().unwrap()]
        })
        .await;
        let error = locate(&server.finder(), "_acme-challenge.a.example.").await.unwrap_err();
        let text = chain_text(&error).to_lowercase();
        assert!(text.contains(&words.to_lowercase()), "{text}");
        assert!(text.contains(&server.address.to_string()), "{text}");
        assert_eq!(error.code(), "dns.resolver");
    }
}

/// N07: bytes that are no message, or none for us: passed over until the time is up.
#[tokio::test]
async fn garbage_bombs_and_answers_to_other_questions_are_no_answers() {
    let pointers = |request: &Message| {
        // A name that points to itself, and one that points on for as long as there are bytes.
        let mut bytes = answer_to(request).to_vec().unwrap();
        bytes[7] = 200;
        let start = bytes.len() as u16;
        for at in 0..2000_u16 {
            let target = if at == 0 { start } else { start + 2 * (at - 1) };
            bytes.extend((0xc000 | (target & 0x3fff)).to_be_bytes());
        }
        vec![bytes]
    };
    let another = |request: &Message| {
        let mut number = answer_to(request);
        number.metadata.id = request.id.wrapping_add(1);
        let mut question = answer_to(request);
        question.queries[0].set_name(name("b.example."));
        let mut query = answer_to(request);
        query.metadata.message_type = MessageType::Query;
        [number, question, query].map(|it| it.to_vec().unwrap()).to_vec()
    };
    let garbage =
        |_: &Message| vec![vec![], vec![0xff; 5], vec![0; 12], vec![0xff; 512], vec![0xc0; 60_000]];
    // Side by side, for each waits until the time is up.
    let servers =
        [Server::start(pointers).await, Server::start(another).await, Server::start(garbage).await];
    let asked = servers.each_ref().map(|it| it.ask(RecordType::TXT));
    for answer in futures_util::future::join_all(asked).await {
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// N07: an answer that is cut short, or larger than any datagram, comes by TCP; one that is there
/// among others counts in whatever order.
#[tokio::test]
async fn an_answer_that_is_cut_huge_or_shuffled_is_read_whole() {
    let full = |request: &Message| {
        let mut answer = answer_to(request);
        for number in 0..500 {
            let text = TXT::new(vec![format!("{number:0200}")]);
            answer.add_answer(Record::from_rdata(name("a.example."), TTL, RData::TXT(text)));
        }
        answer
    };
    // What is cut short in datagrams is asked for by TCP, and believed there as it is.
    let cut = Server::start(|request: &Message| {
        let mut cut = answer_to(request);
        cut.metadata.truncation = true;
        vec![cut.to_vec().unwrap()]
    })
    .await;
    let answer = cut.ask(RecordType::TXT).await.unwrap();
    assert!(answer.truncation && answer.answers.is_empty());

    let server = Server::start(move |request: &Message| {
        let mut bytes = full(request);
        bytes.answers.truncate(250);
        bytes.answers.reverse();
        vec![bytes.to_vec().unwrap()]
    })
    .await;
    let answer = server.ask(RecordType::TXT).await.unwrap();
    assert_eq!(answer.answers.len(), 250);
}

/// N03, N05: the record's own name is never asked for at a resolver, which would remember that it
/// is not there; nor does what the resolver believes count where other servers are named.
#[tokio::test]
async fn a_resolver_is_never_asked_for_the_record_itself() {
    let record = "_acme-challenge.www.example.";
    let resolver = Server::start(zone("example.", |_, _| {})).await;
    let inner = Server::start(zone("example.", |_, answer| {
        answer.add_authority(soa("example."));
    }))
    .await;
    let finder =
        Finder { resolvers: vec![resolver.address], nameservers: Some(vec![inner.address]) };
    let location = finder.locate(&name(record)).await.unwrap();
    let values = super::values_of(&location.name, "the-value");
    let (limit, clock) = (Duration::from_millis(10), SystemClock::new());
    let waited = propagation::wait(
        &location.zone.servers,
        &values,
        propagation::Until::There,
        limit,
        &clock,
    );
    assert!(matches!(waited.await, propagation::Outcome::Lacking(_)));
    let asked = |server: &Server| -> Vec<(Name, RecordType)> {
        let asked = server.asked.lock().unwrap();
        asked.iter().map(|it| (it.name().clone(), it.query_type())).collect()
    };
    assert!(asked(&resolver).iter().all(|(it, _)| *it != name(record)), "{:?}", asked(&resolver));
    assert!(asked(&inner).contains(&(name(record), RecordType::TXT)), "{:?}", asked(&inner));

    // Who is behind another view names nobody, and goes on without a look.
    let nobody = Finder { nameservers: Some(Vec::new()), ..finder };
    let location = nobody.locate(&name(record)).await.unwrap();
    assert!(location.zone.servers.is_empty());
}

/// N14: who can't be asked whether a record is there is not taken for one who has it.
#[tokio::test]
async fn a_zone_whose_servers_have_no_address_is_an_error_unless_others_are_named() {
    for (code, words) in [
        (ResponseCode::NoError, "no name server of example has an address"),
        (ResponseCode::ServFail, "no resolver answers for ns"),
    ] {
        let resolver =
            Server::start(served_zone(move |_, _, answer| answer.metadata.response_code = code));
        let finder = Finder { nameservers: None, ..resolver.await.finder() };
        let error = locate(&finder, "_acme-challenge.www.example.").await.unwrap_err();
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!((error.code(), error.hint().is_some()), ("dns.resolver", true));
        let nobody = Finder { nameservers: Some(Vec::new()), ..finder };
        locate(&nobody, "_acme-challenge.www.example.").await.unwrap();
    }
}

/// N01: the first resolver is dead, as `/etc/resolv.conf` may have it: each question, also for the
/// eight addresses of the zone's servers, waits for it for a moment and no longer.
#[tokio::test]
async fn a_dead_resolver_before_a_good_one_costs_a_moment() {
    let udp = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let dead = udp.local_addr().unwrap();
    // A connection is taken by the system, and read by nobody.
    let _tcp = TcpListener::bind(dead).await;
    let good = Server::start(served_zone(|kind, owner, answer| {
        if kind == RecordType::A {
            let data = RData::A("127.0.0.1".parse().unwrap());
            answer.add_answer(Record::from_rdata(owner.clone(), TTL, data));
        }
    }))
    .await;
    let began = Instant::now();
    let finder = Finder { resolvers: vec![dead, good.address], nameservers: None };
    let location = finder.locate(&name("_acme-challenge.www.example.")).await.unwrap();
    assert!(began.elapsed() < ONE_QUESTION, "{:?}", began.elapsed());
    assert_eq!(location.zone.servers.len(), 4);
}

/// Route 53 can hold a public and a private zone of one name, and its client takes either.
#[cfg(feature = "dns-providers")]
#[tokio::test]
async fn where_another_zone_may_have_been_changed_the_hint_says_which_key_names_the_right_one() {
    use super::{Dns01, Dns01Settings, DnsLabel, ProviderSettings, values_of};
    use crate::model::Secret;
    // Its client reads the roots that the system trusts.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let server = Server::start(zone("example.", |_, _| {})).await;
    let record = name("_acme-challenge.www.example.");
    let zone = server.finder().locate(&record).await.unwrap().zone;
    for (id, is_told) in [(None, true), (Some("Z1"), false)] {
        let secret = |key: &str| (key.to_owned(), Secret::new("canary".to_owned()));
        let provider = ProviderSettings {
            name: "route53".to_owned(),
            program: Vec::new(),
            values: id.map(|id| ("hosted_zone_id".to_owned(), id.to_owned())).into_iter().collect(),
            secrets: ["key", "secret"].map(secret).into(),
        };
        let settings = Dns01Settings {
            provider,
            resolvers: vec![server.address],
            nameservers: Some(vec![server.address]),
            propagation_timeout: Duration::from_millis(10),
        };
        let solver = Dns01::new(DnsLabel::Common, &settings).unwrap();
        let values = values_of(&record, "the-value");
        let error = solver.wait(&zone, &values, propagation::Until::There).await.unwrap_err();
        let hint = error.hint().unwrap();
        assert!(hint.contains("propagation_timeout"), "{hint}");
        assert_eq!(hint.contains("options.hosted_zone_id"), is_told, "{hint}");
    }
}

/// N04: of five servers four are silent, and the one that answers lacks a standing record. That is
/// found out in the time that one silent server takes, not all of them.
#[tokio::test]
async fn silent_servers_do_not_hide_that_another_lacks_a_standing_record() {
    let resolver = Server::start(zone("example.", |_, _| {})).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(UdpSocket::bind(("127.0.0.1", 0)).await.unwrap());
    }
    let lacking = Server::start(zone("example.", |_, _| {})).await;
    let mut nameservers: Vec<_> = silent.iter().map(|it| it.local_addr().unwrap()).collect();
    nameservers.push(lacking.address);
    let solver = DnsPersist01::new(&DnsPersist01Settings {
        resolvers: vec![resolver.address],
        nameservers: Some(nameservers),
        ..DnsPersist01Settings::default()
    });
    let wanted = StandingRecord::plain(vec!["ca.example".into()], "https://ca.example/1", false);
    let began = Instant::now();
    let found = solver.look(&"www.example".parse().unwrap(), &wanted).await.unwrap().unwrap();
    assert!(began.elapsed() < ONE_QUESTION, "{:?}", began.elapsed());
    assert_eq!(found.state, StandingState::Missing);
    assert!(found.servers.contains(&lacking.address.to_string()), "{}", found.servers);
}
