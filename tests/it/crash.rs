//! Killed at whatever moment, renewd goes on from there: the links never lead to half of a pair,
//! and what the CA has been paid for is used.
//!
//! # What is checked after each kill and the next start
//!
//! 1. The certificate is `served` with health `ok`, the exit code is 0, and nginx shows the serial
//!    number of `current`.
//! 2. Who resolved `current` once, all the time and also while nothing of renewd ran, found a chain
//!    and a key that belong together ([`Reader`]).
//! 3. Paid is what Pebble logs as `Issued certificate serial S for order O`. The killed run and the
//!    one after it cost at most one certificate together; if they cost one, it is `current`
//!    afterwards, so none is ever lost; and no order gave two.
//! 4. No proof, temporary file, half generation, open order or second account is left, and no
//!    process but nginx itself.
//!
//! Needs the feature `crash-points`. Not here: power cuts, which need a file system that forgets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use renewd::model::{Chain, PrivateKey};
use renewd::sys::clock::{Clock, SystemClock};

use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions};
use crate::support::{PebbleOptions, Running, eventually, run};

/// What a killed run and the next one cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Exactly so many certificates and orders.
    Exactly(usize),
    /// Nothing or one certificate, whatever the moment was.
    AtMostOne,
}

#[test]
fn killed_after_the_account_it_places_the_first_order_or_none() {
    check_point("issue.account", Cost::Exactly(0));
}

#[test]
fn killed_before_finalize_it_goes_on_with_the_same_order() {
    check_point("issue.before_finalize", Cost::Exactly(1));
}

#[test]
fn killed_after_finalize_it_downloads_what_was_paid() {
    check_point("issue.after_finalize", Cost::Exactly(1));
}

#[test]
fn killed_between_generation_and_current_it_switches() {
    check_point("store.generation", Cost::Exactly(1));
}

#[test]
fn killed_after_the_switch_it_deploys() {
    check_point("store.current", Cost::Exactly(1));
}

#[test]
fn killed_before_the_journal_is_closed_it_forgets_the_order() {
    check_point("lifecycle.stored", Cost::Exactly(1));
}

#[test]
fn killed_before_the_reload_it_reloads() {
    check_point("deploy.before_reload", Cost::Exactly(1));
}

#[test]
fn killed_at_25_random_moments_it_ends_in_served_by_webroot() {
    check_random_moments(ProofBy::Webroot, 25, 0x5eed_0001);
}

#[test]
fn killed_at_25_random_moments_it_ends_in_served_by_a_listener() {
    check_random_moments(ProofBy::Listener, 25, 0x5eed_0002);
}

/// Kills the first run ever at `point`, which always costs one certificate in the end, and a forced
/// renewal later, which costs `forced`.
#[track_caller]
fn check_point(point: &str, forced: Cost) {
    let mut scene = Scene::new(ProofBy::Webroot);
    for (arguments, cost) in
        [(&["renew"][..], Cost::Exactly(1)), (&["renew", "--force", NAME], forced)]
    {
        let mut command = scene.site.workspace.command(arguments);
        let killed = run(command.env("RENEWD_CRASH_AT", point), LIMIT);
        assert_eq!(killed.code, -1, "{point} was not passed: {killed}");
        scene.renew();
        scene.check(cost, &format!("after {arguments:?} was killed at {point}"));
    }
    scene.finish();
}

/// Kills forced renewals at `count` random moments, those of one-shot runs and of daemons in turn.
#[track_caller]
fn check_random_moments(proof: ProofBy, count: u32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::new(proof);
    scene.renew();
    scene.check(Cost::Exactly(1), "at first");
    let clock = SystemClock::new();
    let started = clock.now();
    let forced = scene.site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 0, "{forced}");
    let length = clock.now().since(started);
    scene.check(Cost::Exactly(1), "after a forced renewal");

    for round in 0..count {
        let delay = length.mul_f64(random.f64());
        let force = |scene: &Scene| scene.site.workspace.spawn(&["renew", "--force", NAME]);
        let what = if round % 2 == 0 {
            let mut killed = force(&scene);
            pause(delay);
            killed.kill();
            scene.renew();
            "a one-shot run"
        } else {
            let mut killed = scene.daemon();
            let mut client = force(&scene);
            pause(delay);
            killed.kill();
            client.wait(LIMIT);
            let mut daemon = scene.daemon();
            eventually(LIMIT, &format!("all is well after the kill in round {round}"), || {
                let faults = scene.faults();
                if faults.is_empty() { Ok(()) } else { Err((faults, daemon.log())) }
            });
            assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
            "a daemon"
        };
        scene.check(Cost::AtMostOne, &format!("round {round}: {what} killed after {delay:?}"));
    }
    scene.finish();
}

/// Does nothing for about `delay`: what happens meanwhile is the point.
fn pause(delay: Duration) {
    thread::park_timeout(delay);
}

/// A site with somebody who reads `current` all the time.
struct Scene {
    reader: Reader,
    site: Site,
    known: Paid,
    serial: Option<String>,
}

impl Scene {
    #[track_caller]
    fn new(proof: ProofBy) -> Self {
        let pebble = PebbleOptions {
            nonce_reject: 20,
            authorization_reuse: 50,
            validation_sleep: 1,
            // Pebble picks any of its profiles; nothing may become due by itself meanwhile.
            profiles: vec![("default".into(), Duration::from_hours(90 * 24))],
            ..PebbleOptions::default()
        };
        let site = Site::with(&SiteOptions { pebble, proof, ..SiteOptions::default() });
        let reader = Reader::start(site.workspace.certificate(NAME));
        Self { reader, site, known: Paid::default(), serial: None }
    }

    /// The next start, as one run.
    #[track_caller]
    fn renew(&self) {
        let done = self.site.renewd(&["renew"]);
        assert_eq!(done.code, 0, "{done}\n{}", self.site.pebble.log());
    }

    /// A daemon that listens.
    #[track_caller]
    fn daemon(&self) -> Running {
        let daemon = self.site.daemon();
        let socket = self.site.workspace.path().join("run/control.sock");
        eventually(LIMIT, "the daemon listens", || {
            std::os::unix::net::UnixStream::connect(&socket)
                .map(drop)
                .map_err(|_refused| daemon.log())
        });
        daemon
    }

    /// Checks everything that the head of this file promises.
    #[track_caller]
    fn check(&mut self, cost: Cost, when: &str) {
        eventually(Duration::from_secs(10), when, || {
            let faults = self.faults();
            if faults.is_empty() { Ok(()) } else { Err(faults) }
        });
        let left = self.left_overs();
        assert_eq!(left, Vec::<String>::new(), "{when}");

        let paid = Paid::read(&self.site.pebble.log());
        let new = paid.certificates.get(self.known.certificates.len()..).unwrap_or_default();
        let orders = paid.orders - self.known.orders;
        match cost {
            Cost::Exactly(count) => assert_eq!((new.len(), orders), (count, count), "{when}"),
            // The CA may have looked for a proof while nobody lived to show it.
            Cost::AtMostOne => assert!(new.len() <= 1 && orders <= 2, "{when}: {new:?} {orders}"),
        }
        let serial = self.site.status()["serial"].as_str().map(str::to_owned);
        match new.first() {
            Some((issued, _)) => {
                let current = serial.as_deref().map(significant);
                assert_eq!(current.as_ref(), Some(issued), "{when}: one was lost");
            }
            None => assert_eq!(serial, self.serial, "{when}"),
        }
        let filled: BTreeSet<_> = paid.certificates.iter().map(|(_, order)| order).collect();
        assert_eq!(filled.len(), paid.certificates.len(), "{when}: {:?}", paid.certificates);
        (self.known, self.serial) = (paid, serial);
    }

    /// What of the outcome is not as it should be yet.
    fn faults(&self) -> Vec<String> {
        let status = self.site.status();
        let is = |key: &str, wanted: &str| {
            let found = status[key].as_str().unwrap_or_default();
            (found != wanted).then(|| format!("{key} is {found:?}: {status:#}"))
        };
        let served = self.site.served_serial().unwrap_or_default();
        let mut faults: Vec<String> =
            [is("condition", "served"), is("health", "ok"), is("renewal", "idle")]
                .into_iter()
                .chain([is("serial", &served)])
                .flatten()
                .collect();
        let private = self.site.workspace.path().join("state/private/certificates").join(NAME);
        for open in ["order.json", "next/privkey.pem"] {
            if private.join(open).exists() {
                faults.push(format!("{open} is there"));
            }
        }
        faults
    }

    /// What a killed run left that nobody needs.
    fn left_overs(&self) -> Vec<String> {
        let root = self.site.workspace.path();
        let mut left = names(&root.join("run/acme-challenge"));
        let accounts = names(&root.join("state/private/accounts"));
        left.extend(accounts.into_iter().filter(|it| it != "lab"));
        let mut pending = vec![root.join("state"), root.join("run")];
        while let Some(folder) = pending.pop() {
            for name in names(&folder) {
                let path = folder.join(&name);
                if name.starts_with(".renewd-") {
                    left.push(path.display().to_string());
                }
                if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
                    pending.push(path);
                }
            }
        }
        let certificate = self.site.workspace.certificate(NAME);
        for generation in names(&certificate).into_iter().filter(|it| it != "current") {
            let found = names(&certificate.join(&generation));
            let whole = ["cert.pem", "chain.pem", "combined.pem", "fullchain.pem", "meta.json"];
            let is_whole =
                found.iter().map(String::as_str).eq(whole.into_iter().chain(["privkey.pem"]));
            if !is_whole || generation.parse::<u32>().is_err() {
                left.push(format!("{generation}: {found:?}"));
            }
        }
        left.extend(self.processes());
        left
    }

    /// The processes that renewd started or is.
    fn processes(&self) -> Vec<String> {
        let nginx = self.site.nginx();
        let folder = nginx.pid_file().parent().unwrap().display().to_string();
        let config = self.site.workspace.config_file().display().to_string();
        let mut found = Vec::new();
        for pid in names(Path::new("/proc")).into_iter().filter(|it| it.parse::<u32>().is_ok()) {
            let read = |file: &str| {
                let bytes = fs::read(Path::new("/proc").join(&pid).join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let arguments = read("cmdline");
            let is_ours = arguments.contains(&folder) || read("environ").contains(&config);
            if is_ours && pid != nginx.master_pid().to_string() {
                found.push(format!("process {pid}: {arguments}"));
            }
        }
        found
    }

    /// Ends the reading, and checks what was read.
    #[track_caller]
    fn finish(self) {
        let reads = self.reader.stop();
        assert!(reads > 20, "`current` was resolved {reads} times only");
    }
}

/// The names in `folder`, in the alphabet's order; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What Pebble has been asked to pay for, from its log.
#[derive(Debug, Default)]
struct Paid {
    /// Serial number and order of each certificate.
    certificates: Vec<(String, String)>,
    /// How many orders were placed.
    orders: usize,
}

impl Paid {
    fn read(log: &str) -> Self {
        let issued = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("Issued certificate serial ")?;
            let (serial, order) = rest.split_once(" for order ")?;
            Some((significant(serial), order.trim().to_owned()))
        });
        let orders = log.lines().filter(|it| it.contains("Added order ")).count();
        Self { certificates: issued.collect(), orders }
    }
}

/// A serial number as everybody writes it.
fn significant(serial: &str) -> String {
    serial.trim_start_matches('0').to_ascii_uppercase()
}

/// Resolves `current` again and again, and reads chain and key where it leads.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32, String>>,
}

impl Reader {
    fn start(certificate: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut reads = 0;
            while !is_over.load(Ordering::Relaxed) {
                match fs::read_link(certificate.join("current")) {
                    Ok(target) => {
                        check_pair(&certificate.join(&target))
                            .map_err(|fault| format!("{}: {fault}", target.display()))?;
                        reads += 1;
                    }
                    // Before the first placeholder there is none; later there always is.
                    Err(error) if reads > 0 => return Err(format!("current: {error}")),
                    Err(_) => {}
                }
                pause(Duration::from_millis(2));
            }
            Ok(reads)
        });
        Self { stop, thread }
    }

    /// How often it read, and never found anything but a pair.
    #[track_caller]
    fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap_or_else(|fault| panic!("{fault}"))
    }
}

/// Whether the chain and the key in `folder` belong together.
fn check_pair(folder: &Path) -> Result<(), String> {
    let read = |name: &str| fs::read(folder.join(name)).map_err(|it| format!("{name}: {it}"));
    let (chain, key) = (read("fullchain.pem")?, read("privkey.pem")?);
    let chain = Chain::parse_pem(&chain).map_err(|it| format!("fullchain.pem: {it}"))?;
    let key = PrivateKey::from_pem(&key).and_then(|it| it.public_key());
    let key = key.map_err(|it| format!("privkey.pem: {it}"))?;
    if key == chain.leaf.public_key { Ok(()) } else { Err("no pair".to_owned()) }
}
