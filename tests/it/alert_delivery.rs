//! Trouble is told: to a webhook that fails at first, to a real Alertmanager, to a dead man's
//! switch; and no receiver, however rude, delays a renewal.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Alertmanager, PebbleOptions, eventually, free_port};

/// The key that the webhooks of these tests are signed with.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    method: String,
    path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
    status: u16,
}

impl Received {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The type of the message.
    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// An HTTP server that answers by a script: its statuses in turn, then 204 for ever.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    ended: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Receiver {
    #[track_caller]
    pub(crate) fn answering(script: &[u16]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let ended = Arc::new(AtomicBool::new(false));
        let (kept, is_over) = (Arc::clone(&received), Arc::clone(&ended));
        let mut script = VecDeque::from(script.to_vec());
        let serving = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let status = script.pop_front().unwrap_or(204);
                if let Ok(request) = answer(stream, status) {
                    kept.lock().unwrap().push(request);
                }
            }
        });
        Self { address, received, ended, serving: Some(serving) }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What it took, of the type `kind`.
    fn taken(&self, kind: &str) -> Vec<Received> {
        let mut taken = self.received();
        taken.retain(|it| it.status < 300 && it.kind() == kind);
        taken
    }

    /// The table of it as a receiver of alerts, signed with [`SECRET`].
    fn table(&self, site: &Site) -> String {
        site.workspace.write_secret("hook.key", SECRET, 0o600);
        let url = format!("http://{}/hook", self.address);
        format!("[[alert]]\ntype = \"webhook\"\nurl = {url:?}\nsecret_file = \"hook.key\"\n")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes it from its wait.
        drop(TcpStream::connect(self.address));
        if let Some(serving) = self.serving.take() {
            serving.join().ok();
        }
    }
}

/// Reads one request from `stream` and answers it with `status`.
fn answer(stream: TcpStream, status: u16) -> std::io::Result<Received> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = http::HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name: http::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    let length = headers.get("content-length").and_then(|it| it.to_str().ok()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body)?;
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes())?;
    Ok(Received { method, path, headers, body, status })
}

/// Adds `text` to the site's configuration.
#[track_caller]
fn add(site: &Site, text: &str) {
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    crate::support::write(&site.workspace.config_file(), format!("{config}\n{text}"));
}

/// Certificates that live for `life`, so that what is a share of life comes soon.
fn living_for(life: Duration) -> SiteOptions {
    let pebble = PebbleOptions {
        profiles: vec![("default".into(), Duration::from_hours(90 * 24)), ("brief".into(), life)],
        ..PebbleOptions::default()
    };
    SiteOptions { pebble, certificate: "profile = \"brief\"\n".into(), ..SiteOptions::default() }
}

#[test]
fn a_failed_deployment_is_told_once_however_long_it_lasts_and_its_end_too() {
    // A tenth of this is the patience with a server; renewals go on all the while.
    let site = Site::with(&living_for(Duration::from_secs(40)));
    let hook = Receiver::answering(&[500, 503, 500]);
    let manager = Alertmanager::start();
    add(&site, &hook.table(&site));
    add(&site, &format!("[[alert]]\ntype = \"alertmanager\"\nurl = {:?}\n", manager.url()));
    let daemon = site.daemon();
    site.await_condition("served");
    let before = site.served_serial();

    site.nginx().break_config();
    let held = eventually(LIMIT, "Alertmanager holds the alert", || {
        let alerts = manager.alerts();
        let found = alerts.iter().find(|it| it["labels"]["alertname"] == "RenewdDeployFailed");
        found.cloned().ok_or(alerts)
    });
    assert_eq!(held["labels"]["certificate"], NAME, "{held:#}");
    assert_eq!(held["labels"]["severity"], "warning", "{held:#}");

    // The webhook's first three tries fail; pauses of 5 s, 30 s and 2 min lie between.
    let told = eventually(LIMIT * 3, "the webhook has the alert", || {
        hook.taken("deploy.failed").pop().ok_or_else(|| (hook.received(), daemon.log()))
    });
    let tries: Vec<Received> = hook.received().into_iter().take(4).collect();
    let statuses: Vec<u16> = tries.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [500, 503, 500, 204]);
    let ids: Vec<_> = tries.iter().map(|it| it.headers["webhook-id"].clone()).collect();
    assert!(ids.iter().all(|it| *it == ids[0]), "one message has one id: {ids:?}");
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    theirs.verify(&told.body, &told.headers).unwrap();
    let data = &told.json()["data"];
    assert_eq!((&data["certificate"], &data["target"]), (&NAME.into(), &"nginx".into()));
    assert_eq!(
        (&data["severity"], &data["error_code"]),
        (&"warning".into(), &"deploy.test".into())
    );
    assert!(data["title"].as_str().unwrap_or_default().contains("[emerg]"), "{data:#}");
    assert_eq!(site.served_serial(), before, "nginx was reloaded");

    site.nginx().repair_config();
    site.await_condition("served");
    // That the webhook itself took nothing for a while has begun and ended meanwhile.
    let over = eventually(LIMIT, "the webhook hears of the end", || {
        let ended = hook.taken("alert.resolved");
        let over = ended.into_iter().find(|it| it.json()["data"]["resolves"] == "deploy.failed");
        over.ok_or_else(|| hook.received())
    });
    theirs.verify(&over.body, &over.headers).unwrap();
    assert_eq!(over.json()["data"]["dedup_key"], data["dedup_key"]);
    eventually(LIMIT, "Alertmanager lets go of it", || match manager.alerts() {
        alerts if alerts.is_empty() => Ok(()),
        alerts => Err(alerts),
    });
    assert_eq!(hook.taken("deploy.failed").len(), 1, "{:#?}", hook.received());
}

#[test]
fn a_receiver_that_never_answers_delays_no_renewal() {
    let site = Site::start();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    silent.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    add(&site, &format!("[[alert]]\ntype = \"webhook\"\nurl = {url:?}\ntell_renewed = true\n"));
    let daemon = site.daemon();
    site.await_condition("served");

    // The first certificate renews nothing, so only the second is told of.
    let second = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(second.code, 0, "{second}");

    // A try is given up after 10 s: one of these is longer than a renewal, on any machine.
    let outlasted = (0..3).any(|_| {
        let held = eventually(LIMIT, "the receiver is told", || {
            silent.accept().map(|(stream, _)| stream).map_err(|_none| daemon.log())
        });
        let before = site.served_serial();
        let forced = site.renewd(&["renew", "--force", NAME]);
        assert_eq!(forced.code, 0, "{forced}");
        assert_ne!(site.served_serial(), before);
        is_open(held)
    });
    assert!(outlasted, "no renewal ended before its receiver was given up\n{}", daemon.log());
}

/// Whether the other side still waits for an answer on `stream`.
fn is_open(mut stream: TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut request = [0; 4096];
    loop {
        match stream.read(&mut request) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_test_says_who_was_reached_and_what_failed() {
    let site = Site::with(&SiteOptions { tls: Tls::Later, ..SiteOptions::default() });
    let nobody = site.renewd(&["alert", "test"]);
    assert_eq!(nobody.code, 1, "{nobody}");
    assert!(nobody.stderr.contains("nobody would be told"), "{nobody}");

    let nobody = site.renewd(&["alert", "unit-failed", "renewd.service"]);
    assert_eq!(nobody.code, 0, "{nobody}");
    assert!(nobody.stderr.contains("no [[alert]] wants to hear of it"), "{nobody}");

    let hook = Receiver::answering(&[]);
    add(&site, &hook.table(&site));
    let delivered = site.renewd(&["alert", "test"]);
    assert_eq!((delivered.code, delivered.stdout.as_str()), (0, "webhook-1: delivered\n"));
    let told = hook.taken("alert.test").pop().unwrap();
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    theirs.verify(&told.body, &told.headers).unwrap();
    assert_eq!((told.method.as_str(), told.path.as_str()), ("POST", "/hook"));

    let unit = site.renewd(&["alert", "unit-failed", "renewd.service"]);
    assert_eq!((unit.code, unit.stdout.as_str()), (0, "webhook-1: delivered\n"), "{unit}");
    assert_eq!(hook.taken("agent.degraded").len(), 1);

    let closed = format!("http://127.0.0.1:{}/", free_port());
    add(&site, &format!("[[alert]]\ntype = \"webhook\"\nname = \"dead\"\nurl = {closed:?}\n"));
    let failed = site.renewd(&["alert", "test"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, "webhook-1: delivered\n"), "{failed}");
    assert!(failed.stderr.contains("error: dead: "), "{failed}");
    assert!(failed.stderr.contains("hint: "), "{failed}");
}

#[test]
fn what_a_run_could_not_deliver_the_next_one_does() {
    // Nobody shows the proofs, so the first order fails and nothing is held.
    let site = Site::with(&SiteOptions { tls: Tls::Later, ..SiteOptions::default() });
    let hook = Receiver::answering(&[500]);
    add(&site, &hook.table(&site));

    let failed = site.renewd(&["renew"]);
    assert_eq!(failed.code, 1, "{failed}");
    let tries = hook.received();
    assert_eq!(tries.len(), 1, "{tries:?}");
    assert_eq!((tries[0].kind().as_str(), tries[0].status), ("certificate.missing", 500));

    // The receiver's pause is 5 s; a run within it leaves the message where it is.
    let told = eventually(LIMIT, "a later run delivers it", || {
        let run = site.renewd(&["renew"]);
        hook.taken("certificate.missing").pop().ok_or(run)
    });
    assert_eq!(told.headers["webhook-id"], tries[0].headers["webhook-id"]);
    let again = site.renewd(&["renew"]);
    assert_eq!(hook.received().len(), 2, "told again: {again}");
}

#[test]
fn a_run_over_all_certificates_ends_with_the_heartbeat_and_no_other_does() {
    let site = Site::with(&SiteOptions { proof: ProofBy::Listener, ..SiteOptions::default() });
    let watcher = Receiver::answering(&[]);
    let url = format!("http://{}/canary", watcher.address);
    add(&site, &format!("[alerts]\nheartbeat_url = {url:?}\n"));
    let all = site.renewd(&["renew"]);
    assert_eq!(all.code, 0, "{all}");
    assert_eq!(watcher.received().len(), 1);
    let served = site.renewd(&["deploy", "--pending"]);
    assert_eq!((served.code, watcher.received().len()), (0, 1), "{served}");
    let run = site.workspace.path().join("run");
    assert!(!run.exists(), "nobody watches a file there");
    std::fs::create_dir(&run).unwrap();
    site.workspace.write("conf.d/other.toml", "[[certificate]]\ndomain = \"other.example\"\n");
    let rest = site.renewd(&["renew"]);
    assert_eq!((rest.code, watcher.received().len()), (1, 1), "nobody looks at the other: {rest}");
    let left = std::fs::read(run.join("status.json")).unwrap();
    let left: Value = serde_json::from_slice(&left).unwrap();
    assert_eq!(left["certificates"][0]["condition"], "served", "{left}");
    let said = left["notices"].to_string();
    assert!(said.contains("config.rejected") && said.contains("conf.d/other.toml:2"), "{left}");
    std::fs::remove_file(site.workspace.path().join("conf.d/other.toml")).unwrap();
    add(&site, "[[certificate]]\ndomains = [\"b.example\"]\n");
    let one = site.renewd(&["renew", NAME]);
    assert_eq!(one.code, 0, "{one}");
    assert_eq!(watcher.received().len(), 1, "of b.example that run knows nothing");
}

#[test]
fn a_daemon_that_goes_without_a_part_of_its_configuration_sends_no_heartbeat() {
    let site = Site::with(&SiteOptions { proof: ProofBy::Listener, ..SiteOptions::default() });
    let (hook, watcher) = (Receiver::answering(&[]), Receiver::answering(&[]));
    let url = format!("http://{}/canary", watcher.address);
    add(&site, &format!("[alerts]\nheartbeat_url = {url:?}\n{}", hook.table(&site)));
    site.workspace.write("conf.d/other.toml", "[[certificate]]\ndomain = \"other.example\"\n");
    let mut daemon = site.daemon();
    // It is told only when all that is in force was looked at, as the heartbeat would be.
    eventually(LIMIT, "the refused part is told", || {
        hook.taken("config.rejected").pop().ok_or_else(|| daemon.log())
    });
    site.await_condition("served");
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    assert_eq!(watcher.received().len(), 0, "nobody looks at the other: {}", daemon.log());
}

#[test]
fn the_heartbeat_comes_after_the_first_round_and_only_with_a_writable_store() {
    let site = Site::with(&SiteOptions { proof: ProofBy::Listener, ..SiteOptions::default() });
    let watcher = Receiver::answering(&[]);
    let url = format!("http://{}/canary", watcher.address);
    add(&site, &format!("[alerts]\nheartbeat_url = {url:?}\n"));
    let mut daemon = site.daemon();
    eventually(LIMIT, "the first heartbeat comes", || match watcher.received().as_slice() {
        [] => Err(daemon.log()),
        _ => Ok(()),
    });
    // It stands for a whole round, so that round's work was done before it.
    assert_eq!(site.status()["condition"], "served");
    let first = &watcher.received()[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("GET", "/canary"));
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0);

    // A folder where the record of alerts should be: nothing can be kept of them.
    let alerts = site.workspace.path().join("state/private/alerts");
    let kept: Vec<_> = std::fs::read_dir(&alerts).unwrap().map(|it| it.unwrap().path()).collect();
    for file in kept {
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("in-the-way")).unwrap();
    }
    let before = watcher.received().len();
    let daemon = site.daemon();
    eventually(LIMIT, "it is said that nothing can be kept", || {
        let log = daemon.log();
        if log.contains("alerts.not_kept") { Ok(()) } else { Err(log) }
    });
    site.await_condition("served");
    assert_eq!(watcher.received().len(), before, "{}", daemon.log());
    // Who misses it finds out why.
    eventually(LIMIT, "the status says so", || {
        let shown = site.renewd(&["status", "--json"]);
        if shown.stdout.contains("agent.alerts_unkept") { Ok(()) } else { Err(shown) }
    });
}
