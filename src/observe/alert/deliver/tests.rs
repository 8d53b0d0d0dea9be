//! Receivers that are down, slow, rude or huge, in process, on loopback.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::model::{CertificateStatus, Health, RenewalCondition, Secret};
use crate::observe::alert::testing::{DAY, failing, served, start, status};
use crate::observe::alert::{ALERTS_UNDELIVERED, ALERTS_UNKEPT};
use crate::sys::clock::ManualClock;

mod channels;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An outbox in memory, which may be full, or refuse to be read so many times.
#[derive(Default)]
struct Memory {
    document: Mutex<Option<Vec<u8>>>,
    is_full: bool,
    refuses: Mutex<usize>,
}

#[async_trait]
impl Outbox for Memory {
    async fn load_alerts(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            let source = "input/output error".into();
            return Err(StorageError { action: "read", place: "alerts".into(), source });
        }
        Ok(self.document.lock().unwrap().clone())
    }

    async fn save_alerts(&self, document: &[u8]) -> Result<(), StorageError> {
        if self.is_full {
            let source = "no space left".into();
            return Err(StorageError { action: "write", place: "alerts".into(), source });
        }
        *self.document.lock().unwrap() = Some(document.to_vec());
        Ok(())
    }

    async fn set_alerts_aside(
        &self,
        _error: &(dyn std::error::Error + Sync),
    ) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Keeps all it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Observer for Heard {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Heard {
    fn failures(&self) -> Vec<Failure> {
        let events = self.0.lock().unwrap();
        let failures = events.iter().filter_map(|event| match event {
            Event::AlertUndelivered { failure, .. } | Event::Degraded { failure } => Some(failure),
            _ => None,
        });
        failures.cloned().collect()
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A receiver that answers by a script, then with 204.
struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn answering(script: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes().to_vec();
                        let path = parts.uri.path().to_owned();
                        kept.lock().unwrap().push(Received { path, headers: parts.headers, body });
                        let status = script.lock().unwrap().pop_front().unwrap_or(204);
                        let answer = hyper::Response::builder()
                            .status(status)
                            .header("location", "/elsewhere")
                            .body(Empty::<bytes::Bytes>::new())
                            .unwrap();
                        Ok::<_, Infallible>(answer)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, received }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    fn webhook(&self) -> Channel {
        webhook(self.address)
    }
}

fn webhook(address: SocketAddr) -> Channel {
    let url = Secret::new(format!("http://{address}/canary-path"));
    Channel::Webhook { url, secret: Some(Secret::new(SECRET.into())) }
}

/// A receiver that writes `answer` to whoever connects, over and over, and never ends; a byte each
/// thirty milliseconds if `slow`.
async fn endless(head: &'static str, chunk: Vec<u8>, slow: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let chunk = chunk.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                drop(stream.read(&mut request).await);
                for byte in head.bytes() {
                    if slow {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
                while stream.write_all(&chunk).await.is_ok() {}
            });
        }
    });
    address
}

struct World {
    alerts: Arc<Alerts>,
    clock: Arc<ManualClock>,
    heard: Arc<Heard>,
}

fn receiver(name: &str, channel: Channel) -> ReceiverSettings {
    ReceiverSettings {
        name: name.into(),
        channel,
        min_severity: Health::Warning,
        tell_renewed: false,
        source: PathBuf::new(),
    }
}

fn settings(receivers: Vec<ReceiverSettings>) -> AlertSettings {
    AlertSettings { receivers, ..AlertSettings::default() }
}

fn world(receivers: Vec<ReceiverSettings>, outbox: Arc<Memory>) -> World {
    let clock = Arc::new(ManualClock::new(start()));
    let heard = Arc::new(Heard::default());
    let (time, observer) = (Arc::clone(&clock), Arc::clone(&heard));
    let mut alerts = Alerts::new(settings(receivers), outbox, time, "web1".into(), observer);
    alerts.exchange_timeout = Duration::from_secs(3);
    World { alerts: Arc::new(alerts), clock, heard }
}

fn in_trouble(names: &[&str]) -> StatusDocument {
    let blocked = |name: &&str| CertificateStatus {
        renewal: RenewalCondition::Blocked,
        ..failing(served(name, DAY, 90 * DAY), Duration::ZERO, "acme.caa")
    };
    status(names.iter().map(blocked).collect())
}

#[tokio::test]
async fn a_receiver_that_is_down_three_times_gets_its_message_once_under_one_id() {
    let hook = Receiver::answering(&[500, 503, 302]).await;
    let world = world(vec![receiver("hook", hook.webhook())], Arc::default());
    world.alerts.pass(&in_trouble(&["api"])).await;
    for pause in [5, 30, 120] {
        world.alerts.deliver().await;
        let before = hook.received().len();
        world.clock.advance(Duration::from_secs(pause - 1));
        world.alerts.deliver().await;
        assert_eq!(hook.received().len(), before, "tried before its pause of {pause} s was over");
        world.clock.advance(Duration::from_secs(1));
    }
    world.alerts.deliver().await;
    world.clock.advance(DAY);
    world.alerts.deliver().await;

    let received = hook.received();
    assert_eq!(received.len(), 4);
    for other in &received {
        assert_eq!(other.headers["webhook-id"], received[0].headers["webhook-id"]);
        assert_eq!(other.body, received[0].body);
        assert_eq!(other.path, "/canary-path", "a redirect was followed");
    }
    assert_ne!(received[3].headers["webhook-timestamp"], received[0].headers["webhook-timestamp"]);
}

/// W01: a day of silence is some thirty tries, and then the message comes, once; what came
/// meanwhile comes after it.
#[tokio::test]
async fn a_receiver_that_is_down_for_a_day_costs_few_tries_and_misses_nothing() {
    let hook = Receiver::answering(&[503; 64]).await;
    let outbox = Arc::new(Memory::default());
    let world = world(vec![receiver("hook", hook.webhook())], Arc::clone(&outbox));
    world.alerts.pass(&in_trouble(&["a"])).await;
    for minute in 0..24 * 60 {
        if minute == 600 {
            world.alerts.pass(&in_trouble(&["a", "b"])).await;
        }
        world.alerts.deliver().await;
        world.clock.advance(Duration::from_secs(60));
    }
    let tries = hook.received().len();
    assert!((24..40).contains(&tries), "{tries} tries in a day");

    let back = Receiver::answering(&[]).await;
    world.alerts.reconfigure(settings(vec![receiver("hook", back.webhook())]));
    for _ in 0..70 {
        world.clock.advance(Duration::from_secs(60));
        world.alerts.deliver().await;
    }
    let sent: Vec<_> =
        back.received().iter().map(|it| it.json()["data"]["certificate"].clone()).collect();
    assert_eq!(sent, ["a", "b"]);
}

/// W02: who limits us is left alone by the ladder, as who is down.
#[tokio::test]
async fn a_receiver_that_limits_us_is_left_alone_for_a_while() {
    let hook = Receiver::answering(&[429, 429]).await;
    let world = world(vec![receiver("hook", hook.webhook())], Arc::default());
    world.alerts.pass(&in_trouble(&["a"])).await;
    for (pause, expected) in [(4, 1), (1, 2), (29, 2), (1, 3), (3600, 3)] {
        world.alerts.deliver().await;
        world.clock.advance(Duration::from_secs(pause));
        world.alerts.deliver().await;
        assert_eq!(hook.received().len(), expected, "after {pause} s more");
    }
}

/// W05: a webhook that was revoked.
#[tokio::test]
async fn whom_no_alert_reaches_the_status_names_until_one_does() {
    let [gone, picky] =
        [Receiver::answering(&[404; 3]).await, Receiver::answering(&[400; 3]).await];
    let well = Receiver::answering(&[]).await;
    let receivers = [("hook1", &gone), ("hook2", &picky), ("well", &well)];
    let receivers = receivers.map(|(name, it)| receiver(name, it.webhook()));
    let outbox = Arc::new(Memory::default());
    let first = world(receivers.to_vec(), Arc::clone(&outbox));
    first.alerts.pass(&in_trouble(&["api"])).await;
    let noted = async |alerts: &Alerts| {
        let mut status = in_trouble(&["api"]);
        alerts.note_undelivered(&mut status).await;
        assert_eq!(*alerts.notices().borrow(), status.notices);
        alerts.pass(&status).await;
        status.notices.into_iter().map(|it| (it.code, it.message)).collect::<Vec<_>>()
    };
    for pause in [5, 30] {
        first.alerts.deliver().await;
        assert_eq!(noted(&first.alerts).await, []);
        first.clock.advance(Duration::from_secs(pause));
    }
    first.alerts.deliver().await;
    let said = |name, why| {
        let rest = "since 2026-11-23T10:00:00Z, 1 wait";
        let message =
            format!("alerts for {name} do not arrive: the receiver answered {why}; {rest}");
        (ALERTS_UNDELIVERED.to_owned(), message)
    };
    let expected = [said("hook1", "404 Not Found"), said("hook2", "400 Bad Request")];
    assert_eq!(noted(&first.alerts).await, expected);

    // The next process knows it too, and tells the others: each such receiver is its own trouble.
    let next = world(receivers.to_vec(), outbox);
    next.clock.advance(Duration::from_secs(35));
    assert_eq!(noted(&next.alerts).await.len(), 2);
    next.alerts.deliver().await;
    let kinds = |it: &Receiver| -> Vec<_> {
        it.received().iter().map(|it| it.json()["data"]["error_code"].clone()).collect()
    };
    assert_eq!(kinds(&well), ["acme.caa", ALERTS_UNDELIVERED, ALERTS_UNDELIVERED]);

    next.clock.advance(Duration::from_secs(120));
    next.alerts.deliver().await;
    assert_eq!(noted(&next.alerts).await, []);
    next.alerts.deliver().await;
    assert_eq!(kinds(&well).len(), 5, "both are over");
}

#[tokio::test]
async fn what_is_wanted_and_could_not_be_looked_at_is_not_over() {
    let hook = Receiver::answering(&[]).await;
    let plain = settings(vec![receiver("hook", hook.webhook())]);
    let world = world(Vec::new(), Arc::default());
    let wanted = ["api".parse().unwrap()].into();
    world.alerts.reconfigure(AlertSettings { wanted, ..plain.clone() });
    world.alerts.pass(&in_trouble(&["api"])).await;
    world.alerts.pass(&in_trouble(&[])).await;
    world.alerts.deliver().await;
    assert_eq!(hook.received().len(), 1);
    world.alerts.reconfigure(plain);
    world.alerts.pass(&in_trouble(&[])).await;
    world.alerts.deliver().await;
    assert_eq!(hook.received().len(), 2);
}

#[tokio::test]
async fn a_restart_neither_forgets_nor_repeats() {
    let hook = Receiver::answering(&[500]).await;
    let outbox = Arc::new(Memory::default());
    let trouble = in_trouble(&["api"]);
    let first = world(vec![receiver("hook", hook.webhook())], Arc::clone(&outbox));
    first.alerts.pass(&trouble).await;
    first.alerts.deliver().await;

    let second = world(vec![receiver("hook", hook.webhook())], outbox);
    second.alerts.pass(&trouble).await;
    second.alerts.deliver().await;
    assert_eq!(hook.received().len(), 1, "the pause outlives the process");
    second.clock.advance(Duration::from_secs(5));
    second.alerts.pass(&trouble).await;
    second.alerts.deliver().await;
    second.alerts.deliver().await;
    assert_eq!(hook.received().len(), 2);
}

/// D02: the disk reads again later, and what waits for a receiver that is down is still there.
#[tokio::test]
async fn a_book_that_can_not_be_read_for_a_while_is_not_written_over() {
    let hook = Receiver::answering(&[500]).await;
    let outbox = Arc::new(Memory::default());
    let first = world(vec![receiver("hook", hook.webhook())], Arc::clone(&outbox));
    first.alerts.pass(&in_trouble(&["api"])).await;
    first.alerts.deliver().await;
    let before = outbox.document.lock().unwrap().clone();

    *outbox.refuses.lock().unwrap() = 3;
    let second = world(vec![receiver("hook", hook.webhook())], Arc::clone(&outbox));
    second.alerts.pass(&in_trouble(&["shop"])).await;
    second.alerts.deliver().await;
    assert_eq!(hook.received().len(), 2, "it is told without what is on disk");
    assert_eq!(*outbox.document.lock().unwrap(), before);
    let codes: Vec<String> = second.heard.failures().into_iter().map(|it| it.code).collect();
    assert_eq!(codes, ["alerts.unreadable", "alerts.not_kept", "alerts.not_kept"]);
    let is_shown = || {
        let notices = second.alerts.notices();
        notices.borrow().iter().any(|it| it.code == ALERTS_UNKEPT)
    };
    assert!(is_shown(), "who misses the heartbeat looks there");

    *outbox.refuses.lock().unwrap() = 0;
    second.clock.advance(Duration::from_secs(5));
    second.alerts.pass(&in_trouble(&["api"])).await;
    second.alerts.deliver().await;
    second.alerts.deliver().await;
    let told: Vec<(String, String)> = hook
        .received()
        .iter()
        .map(|it| it.json())
        .map(|it| (it["type"].to_string(), it["data"]["certificate"].to_string()))
        .collect();
    // Of both: what waited on disk, and the end of what was told without it.
    let about = |name: &str| told.iter().filter(|it| it.1.contains(name)).count();
    assert_eq!((about("api"), about("shop")), (2, 2), "{told:?}");
    assert!(told.iter().any(|it| it.0.contains("resolved") && it.1.contains("shop")), "{told:?}");
    assert_ne!(*outbox.document.lock().unwrap(), before, "it is kept again");
    assert!(!is_shown());
}

#[tokio::test]
async fn a_damaged_book_and_a_full_disk_are_said_and_alerts_go_out_all_the_same() {
    let hook = Receiver::answering(&[]).await;
    let document = Mutex::new(Some(b"{".to_vec()));
    let outbox = Memory { document, is_full: true, ..Memory::default() };
    let world = world(vec![receiver("hook", hook.webhook())], Arc::new(outbox));
    world.alerts.pass(&in_trouble(&["api"])).await;
    world.alerts.deliver().await;
    assert_eq!(hook.received().len(), 1);
    let codes: Vec<String> = world.heard.failures().into_iter().map(|it| it.code).collect();
    assert_eq!(codes, ["alerts.damaged", "alerts.not_kept", "alerts.not_kept"]);
    let mut shown = in_trouble(&[]);
    world.alerts.note_undelivered(&mut shown).await;
    assert_eq!(shown.notices[0].code, ALERTS_UNKEPT);
    // Once, however often it is tried and whatever it says.
    for _ in 0..3 {
        world.clock.advance(Duration::from_mins(5));
        world.alerts.pass(&shown).await;
        world.alerts.deliver().await;
        shown = in_trouble(&[]);
        world.alerts.note_undelivered(&mut shown).await;
    }
    let told = hook.received().into_iter().map(|it| it.json()["data"]["error_code"].clone());
    assert_eq!(told.filter(|it| it == ALERTS_UNKEPT).count(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_keep_the_message_from_another() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = Receiver::answering(&[]).await;
    let dead = webhook(silent.local_addr().unwrap());
    let world =
        world(vec![receiver("dead", dead), receiver("hook", hook.webhook())], Arc::default());
    world.alerts.pass(&in_trouble(&["api"])).await;
    let alerts = Arc::clone(&world.alerts);
    let delivering = tokio::spawn(async move { alerts.deliver().await });
    eventually(|| hook.received().len() == 1).await;
    // Nor does it hold up who decides.
    world.alerts.pass(&in_trouble(&["api", "www"])).await;
    delivering.await.unwrap();
    assert_eq!(world.heard.failures()[0].code, "alert.unreachable");
}

/// W03: an answer of a gigabyte.
#[tokio::test]
async fn a_huge_answer_is_not_read_and_a_slow_one_not_waited_for() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
    let huge = endless(ok, vec![b'x'; 65536], false).await;
    let slow = endless("HTTP/1.1 200 OK\r\nx-a: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        \r\n\r\n", Vec::new(), true).await;
    let world = world(
        vec![receiver("huge", webhook(huge)), receiver("slow", webhook(slow))],
        Arc::default(),
    );
    let results: BTreeMap<String, Result<(), DeliveryError>> =
        world.alerts.test().await.into_iter().collect();
    assert!(results["huge"].is_ok(), "{results:?}");
    let slow = results["slow"].as_ref().unwrap_err();
    assert_eq!(
        chain_text(slow),
        "the receiver gave no answer: no complete answer within the time limit"
    );
}

#[tokio::test]
async fn a_receiver_whose_certificate_nobody_trusts_is_told_nothing() {
    let (address, handshakes) = untrusted().await;
    let url = Secret::new(format!("https://{address}/canary-path"));
    let channel = Channel::Webhook { url, secret: None };
    let world = world(vec![receiver("tls", channel)], Arc::default());
    let (_, result) = world.alerts.test().await.remove(0);
    let error = result.unwrap_err();
    assert_eq!(error.code(), "alert.unreachable");
    assert!(!chain_text(&error).contains("canary"), "{}", chain_text(&error));
    eventually(|| !handshakes.lock().unwrap().is_empty()).await;
    assert_eq!(handshakes.lock().unwrap().as_slice(), [false]);
}

/// A server with a certificate that it signed itself, and whether each handshake went through.
async fn untrusted() -> (SocketAddr, Arc<Mutex<Vec<bool>>>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handshakes: Arc<Mutex<Vec<bool>>> = Arc::default();
    let noted = Arc::clone(&handshakes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // With TLS 1.3 the server's half may end before the client refuses: read on.
            let went_through = match acceptor.accept(stream).await {
                Ok(mut stream) => stream.read_u8().await.is_ok(),
                Err(_) => false,
            };
            noted.lock().unwrap().push(went_through);
        }
    });
    (address, handshakes)
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_content_does_not_hold_up_the_next() {
    let hook = Receiver::answering(&[400]).await;
    let world = world(vec![receiver("hook", hook.webhook())], Arc::default());
    world.alerts.pass(&in_trouble(&["a", "b"])).await;
    world.alerts.deliver().await;
    let sent: Vec<_> =
        hook.received().iter().map(|it| it.json()["data"]["certificate"].clone()).collect();
    assert_eq!(sent, ["a", "b"]);
    world.clock.advance(Duration::from_secs(5));
    world.alerts.deliver().await;
    assert_eq!(hook.received()[2].json()["data"]["certificate"], "a");
}

#[tokio::test]
async fn neither_url_nor_secret_is_ever_printed() {
    let refusing = Receiver::answering(&[500]).await;
    // Bound, so that no other test gets the port, and not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = nobody.local_addr().unwrap();
    let all = vec![
        receiver("refusing", refusing.webhook()),
        receiver("closed", webhook(closed)),
        receiver(
            "plain",
            Channel::Alertmanager { url: Secret::new("http://canary.example/".into()) },
        ),
        receiver("none", Channel::Alertmanager { url: Secret::new("canary path".into()) }),
    ];
    let world = world(all.clone(), Arc::default());
    world.alerts.pass(&in_trouble(&["api"])).await;
    world.alerts.deliver().await;
    let results = world.alerts.test().await;
    let failures = world.heard.failures();
    assert_eq!(failures.len(), 4, "{failures:?}");
    let errors: Vec<String> =
        results.iter().filter_map(|(_, it)| it.as_ref().err().map(|it| chain_text(it))).collect();
    let printed = format!("{failures:?} {results:?} {errors:?} {all:?}");
    for canary in ["canary", "whsec", &SECRET[6..]] {
        assert!(!printed.contains(canary), "{printed}");
    }
}

#[tokio::test]
async fn the_loop_delivers_what_comes_tries_again_and_ends_when_told() {
    let hook = Receiver::answering(&[500]).await;
    let world = world(Vec::new(), Arc::default());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let alerts = Arc::clone(&world.alerts);
    let running = tokio::spawn(async move { alerts.run(async { drop(ended.await) }).await });
    // Receivers may come while it runs.
    world.alerts.reconfigure(settings(vec![receiver("hook", hook.webhook())]));
    world.alerts.pass(&in_trouble(&["api"])).await;
    eventually(|| hook.received().len() == 1).await;
    eventually(|| {
        world.clock.advance(Duration::from_secs(1));
        hook.received().len() == 2
    })
    .await;
    end.send(()).unwrap();
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

/// Waits until `holds`, for ten seconds at most.
async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come about within ten seconds");
}
