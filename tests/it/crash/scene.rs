//! A site whose renewd is killed again and again, and what has to hold after each kill and the next
//! start.
//!
//! # What is checked
//!
//! 1. The certificate is `served` with health `ok`, nginx shows the serial number of `current`, and
//!    the files that are installed elsewhere are that pair.
//! 2. Who resolved `current` once, all the time and also while nothing of renewd ran, found a chain
//!    and a key that belong together ([`Reader`]).
//! 3. Where nothing was held, one certificate was paid for; else one, if an order was on record or
//!    filled when the kill came, and none, if not. It is `current` afterwards, so none is ever
//!    lost. No order was placed twice but one that the CA had placed and nobody could hear of, and
//!    one whose proof died with the listener that was killed while the CA looked for it; and none
//!    gave two certificates. One account at most was made.
//! 4. No proof, temporary file, half generation, open order, spare key or second account is left,
//!    no key can be read by others, and no process lives but nginx.
//! 5. What a receiver of alerts was to be told it was told, once, or twice with the same words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use super::paid::{Paid, significant};
use super::reader::{Reader, check_files, pause};
use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions};
use crate::support::{PebbleOptions, Running, eventually, run, write};

/// What is being done when the kill comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// The first run ever.
    First,
    /// A one-shot run that renews by force.
    Renewal,
    /// A daemon that is asked to renew by force.
    Daemon,
    /// The account gets another key.
    RollOver,
}

impl Flow {
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::First => &["renew"],
            Self::Renewal => &["renew", "--force", NAME],
            Self::Daemon => &["run"],
            Self::RollOver => &["account", "rollover"],
        }
    }
}

/// When the kill comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When<'a> {
    /// As `RENEWD_CRASH_AT` says.
    At(&'a str),
    /// So long after the start, or after a daemon was asked.
    After(Duration),
}

/// What came of one kill.
#[derive(Debug)]
pub(crate) struct Strike {
    /// Whether the process died of it, and not by itself before.
    pub(crate) was_killed: bool,
    /// What did not hold afterwards.
    pub(crate) violations: Vec<String>,
}

/// A site with everything that a kill could tear.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(super) site: Site,
    proof: ProofBy,
    known: Paid,
    serial: Option<String>,
    told: usize,
}

impl Scene {
    /// `hard` is a CA that is slow, forgets nonces and remembers authorizations.
    #[must_use]
    #[track_caller]
    pub(crate) fn new(proof: ProofBy, hard: bool) -> Self {
        let pebble = PebbleOptions {
            nonce_reject: if hard { 20 } else { 0 },
            authorization_reuse: if hard { 50 } else { 0 },
            validation_sleep: u8::from(hard),
            // Pebble picks any of its profiles; nothing may become due by itself meanwhile.
            profiles: vec![("default".into(), Duration::from_hours(90 * 24))],
            ..PebbleOptions::default()
        };
        // Behind the lines of the target nginx.
        let tables = "install = [\n\
             { file = \"fullchain\", path = \"@FOLDER@/installed/{name}.pem\" },\n\
             { file = \"privkey\", path = \"@FOLDER@/installed/{name}.key\" }]\n\
             [[alert]]\ntype = \"command\"\ntell_renewed = true\n\
             command = [\"/bin/sh\", \"-c\", \"cat >> @FOLDER@/told; echo >> @FOLDER@/told\"]\n";
        let identifiers = ["site.example", "www.site.example"].map(str::to_owned);
        let site = Site::with(&SiteOptions {
            pebble,
            proof,
            identifiers: identifiers.to_vec(),
            tables: tables.to_owned(),
            ..SiteOptions::default()
        });
        let folder = site.workspace.path().display().to_string();
        let config = fs::read_to_string(site.workspace.config_file()).unwrap();
        write(&site.workspace.config_file(), config.replace("@FOLDER@", &folder));
        let scene = Self { site, proof, known: Paid::default(), serial: None, told: 0 };
        fs::create_dir(scene.path("installed")).unwrap();
        write(&scene.path("told"), "");
        scene
    }

    /// Has the first certificate, for flows that go on from one.
    #[track_caller]
    pub(crate) fn begin(&mut self) {
        self.start_again();
        let violations = self.check(&Owed {
            certificates: 1,
            orders: 1,
            unheard: 0,
            unproven: 0,
            accounts: 1,
            told: 0,
        });
        assert_eq!(violations, Vec::<String>::new(), "{}", self.site.pebble.log());
    }

    /// How long a renewal takes that nobody kills.
    #[track_caller]
    pub(crate) fn length(&mut self) -> Duration {
        use renewd::sys::clock::{Clock, SystemClock};
        let clock = SystemClock::new();
        let started = clock.now();
        self.renewd(Flow::Renewal.arguments());
        let length = clock.now().since(started);
        let violations = self.check(&Owed {
            certificates: 1,
            orders: 1,
            unheard: 0,
            unproven: 0,
            accounts: 0,
            told: 1,
        });
        assert_eq!(violations, Vec::<String>::new());
        length
    }

    /// The points that `flow` passes when nobody kills it, in their order, as
    /// `RENEWD_CRASH_TRACE` has them.
    #[track_caller]
    pub(crate) fn trace(&mut self, flow: Flow) -> Vec<String> {
        let trace = self.path("trace");
        write(&trace, "");
        if flow == Flow::First {
            self.forget();
        }
        let variable = ("RENEWD_CRASH_TRACE", trace.to_str().unwrap());
        if flow == Flow::Daemon {
            let mut daemon = self.daemon(Some(variable));
            self.renewd(Flow::Renewal.arguments());
            // At its end it gives a message little time; the next start would tell it.
            eventually(LIMIT, "the renewal is told", || {
                let told: usize = self.told().values().sum();
                if told > self.told { Ok(()) } else { Err(daemon.log()) }
            });
            daemon.terminate(LIMIT);
        } else {
            let mut command = self.site.workspace.command(flow.arguments());
            let done = run(command.env(variable.0, variable.1), LIMIT);
            assert_eq!(done.code, 0, "{done}");
        }
        self.take_stock();
        let text = fs::read_to_string(trace).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills `flow` once, starts again, and checks all that the head of this file promises.
    #[track_caller]
    pub(crate) fn strike(&mut self, flow: Flow, when: When<'_>) -> Strike {
        if flow == Flow::First {
            self.forget();
        }
        let reader = Reader::start(self.site.workspace.certificate(NAME));
        let was_killed = match (flow, when) {
            (Flow::Daemon, _) => self.kill_daemon(when),
            (_, When::At(at)) => {
                let mut command = self.site.workspace.command(flow.arguments());
                let killed = run(command.env("RENEWD_CRASH_AT", at), LIMIT);
                assert!(matches!(killed.code, -1 | 0), "neither killed nor well: {killed}");
                killed.code == -1
            }
            (_, When::After(delay)) => {
                let mut running = self.site.workspace.spawn(flow.arguments());
                pause(delay);
                let is_over = running.ended().is_some();
                running.kill();
                !is_over
            }
        };
        let violations = self.go_on(flow, reader);
        Strike { was_killed, violations }
    }

    /// Starts again after a kill during `flow`, and checks everything.
    #[track_caller]
    pub(super) fn go_on(&mut self, flow: Flow, reader: Reader) -> Vec<String> {
        let owed = self.owed(flow);
        match flow {
            Flow::First | Flow::Renewal => self.start_again(),
            Flow::RollOver => self.renewd(Flow::Renewal.arguments()),
            Flow::Daemon => self.start_daemon_again(&owed),
        }
        let mut violations = self.check(&owed);
        match reader.stop() {
            Ok(reads) if flow == Flow::First || reads > 0 => {}
            Ok(_) => violations.push("`current` could not be read once".to_owned()),
            Err(fault) => violations.push(fault),
        }
        violations
    }

    /// Asks a daemon to renew, and kills it.
    #[track_caller]
    fn kill_daemon(&self, when: When<'_>) -> bool {
        if let When::At(at) = when {
            let mut daemon = self.site.workspace.spawn_with(&["run"], &[("RENEWD_CRASH_AT", at)]);
            if !self.await_socket(&mut daemon) {
                return true;
            }
            // It fails if the daemon is killed under it.
            self.site.renewd(Flow::Renewal.arguments());
            // Its sockets are gone a moment before it is.
            let is_alive =
                || if daemon.ended().is_some() { vec![] } else { vec!["it lives".into()] };
            let is_over = eventually_or(Duration::from_secs(2), is_alive).is_empty();
            daemon.kill();
            return is_over;
        }
        let When::After(delay) = when else { return false };
        let mut daemon = self.daemon(None);
        let mut client = self.site.workspace.spawn(Flow::Renewal.arguments());
        pause(delay);
        daemon.kill();
        client.wait(LIMIT);
        true
    }

    /// What may be paid and told until all is well again, by what is on record right after a kill.
    fn owed(&self, flow: Flow) -> Owed {
        let paid = self.paid().since(&self.known);
        let order = self.path("state/private/certificates").join(NAME).join("order.json");
        let order: Value = fs::read(order)
            .ok()
            .and_then(|it| serde_json::from_slice(&it).ok())
            .unwrap_or_default();
        let is_on_record = order["order_url"].is_string() || !paid.certificates.is_empty();
        let unheard = usize::from(!is_on_record);
        // A webroot shows proofs whoever lives.
        let was_shown = order["presented"].as_array().is_some_and(|it| !it.is_empty());
        let unproven = usize::from(self.proof == ProofBy::Listener && was_shown);
        match flow {
            // An order of which nobody but the CA knows is placed again.
            Flow::First => Owed {
                certificates: 1,
                orders: paid.orders + unheard,
                unheard,
                unproven,
                accounts: 1,
                told: 0,
            },
            Flow::Renewal | Flow::Daemon => {
                let certificates = usize::from(is_on_record);
                Owed {
                    certificates,
                    orders: paid.orders,
                    unheard,
                    unproven,
                    accounts: 0,
                    told: certificates,
                }
            }
            Flow::RollOver => {
                Owed { certificates: 1, orders: 1, unheard: 0, unproven: 0, accounts: 0, told: 1 }
            }
        }
    }

    /// The next start, as one run.
    #[track_caller]
    fn start_again(&self) {
        self.renewd(&["renew"]);
    }

    #[track_caller]
    fn renewd(&self, arguments: &[&str]) {
        let done = self.site.renewd(arguments);
        assert_eq!(done.code, 0, "{done}\n{}", self.site.pebble.log());
    }

    /// The next start, as a daemon, until all is well, and told.
    #[track_caller]
    fn start_daemon_again(&self, owed: &Owed) {
        let mut daemon = self.daemon(None);
        eventually(LIMIT, "all is well after the kill", || {
            let mut faults = self.faults(&self.site.status());
            faults.extend(self.wrongly_told(owed));
            faults.extend(self.not_noted());
            if faults.is_empty() { Ok(()) } else { Err((faults, daemon.log())) }
        });
        assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    }

    /// A daemon that listens.
    #[track_caller]
    fn daemon(&self, variable: Option<(&str, &str)>) -> Running {
        let variables: Vec<_> = variable.into_iter().collect();
        let mut daemon = self.site.workspace.spawn_with(&["run"], &variables);
        assert!(self.await_socket(&mut daemon), "{}", daemon.log());
        daemon
    }

    /// Whether `daemon` listens some time, and does not end before.
    #[track_caller]
    fn await_socket(&self, daemon: &mut Running) -> bool {
        let socket = self.path("run/control.sock");
        eventually(LIMIT, "the daemon listens or ends", || {
            if daemon.ended().is_some() {
                return Ok(false);
            }
            let connected = std::os::unix::net::UnixStream::connect(&socket);
            connected.map(|_| true).map_err(|_refused| daemon.log())
        })
    }

    /// As if renewd had never run: nginx goes on with what it has loaded.
    #[track_caller]
    pub(crate) fn forget(&mut self) {
        for folder in ["state", "installed"] {
            fs::remove_dir_all(self.path(folder)).unwrap_or_default();
        }
        fs::create_dir(self.path("installed")).unwrap();
        self.take_stock();
        self.serial = None;
    }

    /// Forgets what was spent of our own caps, which would end hundreds of renewals of one set.
    pub(crate) fn forget_what_was_spent(&self) {
        fs::remove_dir_all(self.path("state/private/ledger")).unwrap_or_default();
    }

    /// Takes what is paid and told for what was owed.
    pub(super) fn take_stock(&mut self) {
        self.known = self.paid();
        self.told = self.told().values().sum();
        self.serial = self.site.status()["serial"].as_str().map(str::to_owned);
    }

    /// What of `owed`, and of all else, does not hold.
    #[track_caller]
    fn check(&mut self, owed: &Owed) -> Vec<String> {
        let mut violations = Vec::new();
        let status = self.site.status();
        // Programs that a kill set free may take a moment to end.
        let left = eventually_or(Duration::from_secs(5), || self.left_overs());
        violations.extend(self.faults(&status));
        violations.extend(left);

        let paid = self.paid();
        let new = paid.since(&self.known);
        let unproven = owed.unproven.min(new.unproven);
        let orders = owed.orders..=owed.orders + owed.unheard + unproven;
        if new.certificates.len() != owed.certificates || !orders.contains(&new.orders) {
            violations.push(format!("owed were {owed:?}, paid {new:?}"));
        }
        if new.accounts > owed.accounts {
            violations.push(format!("{} accounts were made", new.accounts));
        }
        if !paid.is_one_for_one() {
            violations.push(format!("an order gave two: {:?}", paid.certificates));
        }
        let serial = status["serial"].as_str().map(str::to_owned);
        match new.certificates.last() {
            Some((issued, _)) if serial.as_deref().map(significant).as_ref() != Some(issued) => {
                violations.push(format!("{issued} was paid for, {serial:?} is held"));
            }
            None if serial != self.serial => {
                violations.push(format!("{:?} was held, {serial:?} is", self.serial));
            }
            _ => {}
        }
        violations.extend(self.wrongly_told(owed));
        self.take_stock();
        violations
    }

    /// What of the outcome is not as it should be.
    fn faults(&self, status: &Value) -> Vec<String> {
        let is = |key: &str, wanted: &str| {
            let found = status[key].as_str().unwrap_or_default();
            (found != wanted).then(|| format!("{key} is {found:?}, not {wanted:?}: {status:#}"))
        };
        let served = self.site.served_serial().unwrap_or_default();
        let facts = [
            is("condition", "served"),
            is("health", "ok"),
            is("renewal", "idle"),
            is("serial", &served),
        ];
        let mut faults: Vec<String> = facts.into_iter().flatten().collect();
        let private = self.path("state/private/certificates").join(NAME);
        for open in ["order.json", "next/privkey.pem"] {
            if private.join(open).exists() {
                faults.push(format!("{open} is there"));
            }
        }
        let installed = |end: &str| self.path("installed").join(format!("{NAME}.{end}"));
        faults.extend(check_files(&installed("pem"), &installed("key")).err());
        let current = self.site.workspace.certificate(NAME).join("current/fullchain.pem");
        if fs::read(current).ok() != fs::read(installed("pem")).ok() {
            faults.push("what is installed is not current".to_owned());
        }
        faults
    }

    /// What a killed run left that nobody needs, and keys that others can read.
    fn left_overs(&self) -> Vec<String> {
        let mut left = names(&self.path("run/acme-challenge"));
        let accounts = names(&self.path("state/private/accounts"));
        left.extend(accounts.into_iter().filter(|it| it != "lab"));
        let mut pending = ["state", "run", "installed"].map(|it| self.path(it)).to_vec();
        while let Some(folder) = pending.pop() {
            for name in names(&folder) {
                let path = folder.join(&name);
                let Ok(metadata) = path.symlink_metadata() else { continue };
                let is_left = name.starts_with(".renewd")
                    || name.contains("corrupt")
                    || name == "next_key.pem"
                    || name == "journal.json"
                    || name.starts_with("kept-");
                if is_left {
                    left.push(path.display().to_string());
                }
                if metadata.is_dir() {
                    pending.push(path);
                } else if metadata.is_file() && is_open_secret(&path) {
                    left.push(format!("{} can be read by others", path.display()));
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

    /// What the receiver of alerts should have heard, and did not, or should not have.
    fn wrongly_told(&self, owed: &Owed) -> Option<String> {
        let told = self.told();
        let before = self.told;
        let all: usize = told.values().sum();
        let new = all.saturating_sub(before);
        let is_right = new >= owed.told && new <= 2 * owed.told && told.values().all(|it| *it <= 2);
        (!is_right).then(|| format!("of {} messages {new} were told: {told:?}", owed.told))
    }

    /// What is still to be told by what is on record.
    fn not_noted(&self) -> Option<String> {
        let outbox = fs::read(self.path("state/private/alerts/outbox.json")).unwrap_or_default();
        let outbox: Value = serde_json::from_slice(&outbox).unwrap_or_default();
        let is_empty = |it: &Value| it["messages"].as_array().is_none_or(Vec::is_empty);
        let is_noted = outbox["queues"].as_object().is_none_or(|it| it.values().all(is_empty));
        (!is_noted).then(|| format!("still to be told: {outbox:#}"))
    }

    /// How often the receiver was told of each renewal.
    fn told(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for line in fs::read_to_string(self.path("told")).unwrap().lines() {
            if line.contains("certificate.renewed") {
                *told.entry(line.to_owned()).or_default() += 1;
            }
        }
        told
    }

    fn paid(&self) -> Paid {
        Paid::read(&self.site.pebble.log())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.site.workspace.path().join(path)
    }
}

/// What has to be paid and told after a kill.
#[derive(Debug)]
struct Owed {
    certificates: usize,
    orders: usize,
    /// Orders that may come on top: what a killed process had asked for, the CA may have done only
    /// after its log was read.
    unheard: usize,
    /// Orders more, if the CA gives the one on record up: the proof that was on show died with its
    /// listener.
    unproven: usize,
    accounts: usize,
    told: usize,
}

/// Whether the file at `path` holds a key and can be read by others than its owner.
fn is_open_secret(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty());
    let Ok(metadata) = path.symlink_metadata() else { return false };
    opened.is_ok()
        && metadata.mode() & 0o077 != 0
        && fs::read(path).is_ok_and(|it| it.windows(11).any(|word| word == b"PRIVATE KEY"))
}

/// What `look` finds, once it finds nothing or `limit` is over.
fn eventually_or(limit: Duration, mut look: impl FnMut() -> Vec<String>) -> Vec<String> {
    use renewd::sys::clock::{Clock, SystemClock};
    let clock = SystemClock::new();
    let give_up_at = clock.monotonic().saturating_add(limit);
    loop {
        let found = look();
        if found.is_empty() || clock.monotonic() > give_up_at {
            return found;
        }
        pause(Duration::from_millis(50));
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
