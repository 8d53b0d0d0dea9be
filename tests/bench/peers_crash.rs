//! Kills renewals of certbot, lego and renewd at random moments, and prints what a reader finds
//! after each kill, and what the next ordinary run makes of it.
//!
//! ```text
//! tests/peers.sh && tests/bench/peers.sh
//! cargo bench --profile dev --bench peers_crash
//! ```
//!
//! `PEERS_KILLS` is how many kills each gets (100), `PEERS_SEED` what their moments come from (1),
//! `PEERS_CLIENTS` who is killed (`certbot,lego,renewd`).
//!
//! # How it is done
//!
//! Each client has one certificate for two names, proven by http-01 into the same folder of the same
//! nginx, from a Pebble that neither sleeps nor refuses nonces; a renewal is forced by the client's
//! own option. A kill (SIGKILL, for all that the client started) comes at a moment that is drawn
//! evenly between the new order, as Pebble logs it, and the end of a renewal that nobody killed.
//! Then the files are looked at as a server would read them that is started now. Then the client is
//! run once as its timer would run it, without force, and the files are looked at again. Before the
//! next kill everything is put back as it was, so that no kill has to do with another.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench may panic, prints, and takes time"
)]

#[expect(dead_code, reason = "what the crash matrix alone needs")]
#[path = "../it/crash/paid.rs"]
mod paid;
#[path = "../support/mod.rs"]
pub mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paid::{Paid, significant};
use support::{
    Finished, Nginx, NginxOptions, Pebble, PebbleOptions, Peers, Running, free_port, program, run,
    write,
};

/// What the certificate is for.
const NAMES: [&str; 2] = ["site.example", "www.site.example"];

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// One client, ready to be killed.
struct Client {
    name: &'static str,
    version: String,
    /// Gets the first certificate.
    first: Vec<String>,
    /// Renews whatever the time.
    forced: Vec<String>,
    /// Renews what is due.
    ordinary: Vec<String>,
    environment: Vec<(&'static str, String)>,
    files: Files,
}

/// Where a server reads from.
struct Files {
    chain: PathBuf,
    key: PathBuf,
    /// The leaf and its issuers apart, where the client writes them.
    pieces: Option<[PathBuf; 2]>,
}

/// The world that the clients share.
struct World {
    pebble: Pebble,
    nginx: Nginx,
    folder: tempfile::TempDir,
}

/// What was found; each in how many of the kills.
#[derive(Default)]
struct Found {
    kills: usize,
    /// Key and chain are no pair, or one of them can't be read, after the kill.
    torn: usize,
    /// The leaf or the issuers that stand apart are not those of the chain, after the kill.
    mixed: usize,
    /// The same two after the next run.
    torn_later: usize,
    mixed_later: usize,
    /// The CA had issued when the kill came, and another certificate is held after the next run.
    lost: usize,
    /// Proofs that are visible after the kill, and after the next run.
    proofs: usize,
    proofs_later: usize,
    /// Names in the client's folder after the next run that an unkilled renewal does not leave.
    files: usize,
    /// The next run failed.
    failed: usize,
    /// The next run went on with what was under way, or ordered anew, and has a new certificate.
    finished: usize,
}

fn main() {
    let number = |variable: &str, otherwise: u64| {
        std::env::var(variable).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
    };
    let (kills, seed) = (number("PEERS_KILLS", 100), number("PEERS_SEED", 1));
    let wanted = std::env::var("PEERS_CLIENTS").unwrap_or_default();
    println!("{kills} kills each, seed {seed}");
    for make in [certbot, lego, renewd] {
        let world = World::start();
        let client = make(&world);
        if wanted.is_empty() || wanted.contains(client.name) {
            let found = world.kill_often(&client, kills, &mut fastrand::Rng::with_seed(seed));
            found.print(&client);
        }
    }
}

impl World {
    fn start() -> Self {
        let http_port = free_port();
        let pebble = Pebble::start(&PebbleOptions {
            http_port,
            profiles: vec![("default".into(), Duration::from_secs(90 * 86_400))],
            ..PebbleOptions::default()
        });
        let nginx =
            Nginx::start(&NginxOptions { http_port: Some(http_port), ..NginxOptions::default() });
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("live")).unwrap();
        Self { pebble, nginx, folder }
    }

    /// The client's folder.
    fn live(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    fn kill_often(&self, client: &Client, kills: u64, random: &mut fastrand::Rng) -> Found {
        let first = self.run(client, &client.first);
        assert_eq!(first.code, 0, "{first}\n{}", self.pebble.log());
        let before = self.folder.path().join("before");
        copy(&self.live(), &before);
        let length = self.length(client);
        let expected = self.names(&self.live());
        let mut found = Found::default();
        for _ in 0..kills {
            self.put_back(&before);
            self.kill_once(client, length.mul_f64(random.f64()), &expected, &mut found);
        }
        found
    }

    /// The time from the new order to the end of a renewal.
    fn length(&self, client: &Client) -> Duration {
        let (mut running, ordered) = self.start_renewal(client);
        let code = running.wait(LIMIT);
        assert_eq!(code, 0, "{}", running.log());
        ordered.elapsed()
    }

    fn kill_once(
        &self,
        client: &Client,
        delay: Duration,
        expected: &BTreeSet<String>,
        found: &mut Found,
    ) {
        let known = self.paid();
        let held = self.held(client);
        let (mut running, ordered) = self.start_renewal(client);
        std::thread::park_timeout(delay.saturating_sub(ordered.elapsed()));
        running.kill();
        let paid = self.paid().since(&known);
        found.kills += 1;
        found.torn += usize::from(!self.is_pair(client));
        found.mixed += usize::from(self.is_mixed(client));
        found.proofs += usize::from(self.proofs() > 0);

        let next = self.run(client, &client.ordinary);
        found.failed += usize::from(next.code != 0);
        found.torn_later += usize::from(!self.is_pair(client));
        found.mixed_later += usize::from(self.is_mixed(client));
        found.proofs_later += usize::from(self.proofs() > 0);
        let held_later = self.held(client);
        let issued = paid.certificates.first().map(|(serial, _)| serial.clone());
        found.lost += usize::from(issued.is_some() && issued != held_later);
        found.finished += usize::from(held_later.is_some() && held_later != held);
        // With the files of one generation more or less.
        let left = self.names(&self.live());
        found.files += usize::from(left.difference(expected).next().is_some());
    }

    /// A forced renewal, from the moment at which its order is placed.
    fn start_renewal(&self, client: &Client) -> (Running, Instant) {
        let orders = self.paid().orders;
        let mut command = program(&client.forced);
        command.envs(client.environment.iter().map(|(name, value)| (name, value)));
        let log = self.folder.path().join("log");
        let mut running = Running::start(client.name, &mut command, &log);
        let started = Instant::now();
        while self.paid().orders == orders {
            assert!(running.ended().is_none() && started.elapsed() < LIMIT, "{}", running.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        (running, Instant::now())
    }

    fn run(&self, client: &Client, arguments: &[String]) -> Finished {
        let mut command = program(arguments);
        command.envs(client.environment.iter().map(|(name, value)| (name, value)));
        run(command.current_dir(self.folder.path()), LIMIT)
    }

    /// Whether key and chain are a pair, as OpenSSL sees it.
    fn is_pair(&self, client: &Client) -> bool {
        let openssl = |words: &[&str], file: &Path| {
            let path = file.display().to_string();
            let program_path = Peers::locate().openssl.display().to_string();
            let words = [&[program_path.as_str()], words, &["-in", &path]].concat();
            let done = run(&mut program(&words), LIMIT);
            (done.code == 0).then_some(done.stdout)
        };
        let key = openssl(&["pkey", "-pubout"], &client.files.key);
        let leaf = openssl(&["x509", "-noout", "-pubkey"], &client.files.chain);
        key.is_some() && key == leaf
    }

    /// Whether leaf and issuers that stand apart are others than those of the chain.
    fn is_mixed(&self, client: &Client) -> bool {
        let Some([leaf, issuers]) = &client.files.pieces else { return false };
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let chain = words(&text(&client.files.chain));
        let (leaf, issuers) = (words(&text(leaf)), words(&text(issuers)));
        !chain.starts_with(&leaf) || !chain.ends_with(&issuers)
    }

    /// The serial number of the certificate that a server would read.
    fn held(&self, client: &Client) -> Option<String> {
        let openssl = Peers::locate().openssl.display().to_string();
        let chain = client.files.chain.display().to_string();
        let done =
            run(&mut program(&[&openssl, "x509", "-noout", "-serial", "-in", &chain]), LIMIT);
        done.stdout.trim().strip_prefix("serial=").map(significant)
    }

    fn proofs(&self) -> usize {
        let folder = self.nginx.webroot().join(".well-known/acme-challenge");
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// The names in `folder`, without what differs from run to run: log files, and numbers.
    fn names(&self, folder: &Path) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(".log") {
                    continue;
                }
                let name = name.chars().map(|it| if it.is_ascii_digit() { '0' } else { it });
                names.insert(format!("{}/{}", folder.display(), name.collect::<String>()));
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
            }
        }
        names
    }

    fn put_back(&self, before: &Path) {
        fs::remove_dir_all(self.live()).unwrap();
        copy(before, &self.live());
        let proofs = self.nginx.webroot().join(".well-known/acme-challenge");
        for entry in fs::read_dir(proofs).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
    }

    fn paid(&self) -> Paid {
        Paid::read(&self.pebble.log())
    }

    fn text(&self, path: &str) -> String {
        self.live().join(path).display().to_string()
    }
}

impl Found {
    fn print(&self, client: &Client) {
        println!("\n{} ({})", client.name, client.version);
        for (what, count) in [
            ("kills", self.kills),
            ("after the kill: key and chain no pair, or not there", self.torn),
            ("after the kill: leaf or issuers apart are others than in the chain", self.mixed),
            ("after the kill: proofs visible", self.proofs),
            ("next run failed", self.failed),
            ("next run has a new certificate", self.finished),
            ("after the next run: key and chain no pair, or not there", self.torn_later),
            ("after the next run: leaf or issuers apart are others", self.mixed_later),
            ("after the next run: issued before the kill, and not held", self.lost),
            ("after the next run: proofs visible", self.proofs_later),
            ("after the next run: files that an unkilled renewal does not leave", self.files),
        ] {
            println!("{count:>6}  {what}");
        }
    }
}

/// Copies a folder with links and modes.
fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let done = run(&mut program(&["cp", "-a", &from, &to]), LIMIT);
    assert_eq!(done.code, 0, "{done}");
}

fn peer(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-peers/bin").join(name);
    assert!(path.exists(), "{name} is missing: run tests/bench/peers.sh");
    path.display().to_string()
}

fn version(words: &[&str]) -> String {
    let done = run(&mut program(words), LIMIT);
    done.stdout.lines().chain(done.stderr.lines()).next().unwrap_or_default().trim().to_owned()
}

fn certbot(world: &World) -> Client {
    let program = peer("certbot");
    let (config, work, logs) = (world.text("config"), world.text("work"), world.text("logs"));
    let (directory, webroot) = (world.pebble.directory(), world.nginx.webroot());
    let webroot = webroot.display().to_string();
    let words = |words: &[&str]| -> Vec<String> {
        let folders = [
            "--config-dir",
            &config,
            "--work-dir",
            &work,
            "--logs-dir",
            &logs,
            "--server",
            &directory,
        ];
        let all = [&[program.as_str()], words, &folders, &["-n"]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let mut first = vec!["certonly", "--webroot", "-w", &webroot, "--agree-tos"];
    first.extend(["--register-unsafely-without-email", "--cert-name", "site"]);
    first.extend(NAMES.iter().flat_map(|it| ["-d", it]));
    let live = world.live().join("config/live/site");
    Client {
        name: "certbot",
        version: version(&[&program, "--version"]),
        first: words(&first),
        forced: words(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]),
        ordinary: words(&["renew", "--no-random-sleep-on-renew"]),
        environment: vec![("REQUESTS_CA_BUNDLE", world.pebble.root_file().display().to_string())],
        files: Files {
            chain: live.join("fullchain.pem"),
            key: live.join("privkey.pem"),
            pieces: Some([live.join("cert.pem"), live.join("chain.pem")]),
        },
    }
}

fn lego(world: &World) -> Client {
    let program = peer("lego");
    let (path, directory) = (world.text("lego"), world.pebble.directory());
    let webroot = world.nginx.webroot().display().to_string();
    let words = |words: &[&str]| -> Vec<String> {
        let mut all = vec![program.as_str(), "--server", &directory, "--path", &path];
        all.extend(["--accept-tos", "--email", "ops@example.com", "--http"]);
        all.extend(["--http.webroot", &webroot]);
        all.extend(NAMES.iter().flat_map(|it| ["--domains", it]));
        all.extend(words);
        all.into_iter().map(str::to_owned).collect()
    };
    let files = world.live().join("lego/certificates");
    Client {
        name: "lego",
        version: "Debian's package 4.9.1-1".to_owned(),
        first: words(&["run"]),
        forced: words(&["renew", "--days", "999", "--no-random-sleep"]),
        ordinary: words(&["renew", "--no-random-sleep"]),
        environment: vec![("LEGO_CA_CERTIFICATES", world.pebble.root_file().display().to_string())],
        files: Files {
            chain: files.join("site.example.crt"),
            key: files.join("site.example.key"),
            pieces: None,
        },
    }
}

fn renewd(world: &World) -> Client {
    let program = env!("CARGO_BIN_EXE_renewd").to_owned();
    let config = world.text("renewd.toml");
    let (directory, root) = (world.pebble.directory(), world.pebble.root_file());
    let webroot = world.nginx.webroot();
    let text = format!(
        "state_dir = \"state\"\nrun_dir = \"run\"\ndeployer = \"direct\"\ndefault_ca = \"lab\"\n\
         terms_of_service_agreed = true\n\
         [ca.lab]\ndirectory = {directory:?}\ntrust = {root:?}\n\
         [solver.docroot]\ntype = \"http-01\"\nwebroot = {webroot:?}\n\
         [[certificate]]\nname = \"site\"\ndomains = {NAMES:?}\nsolver = \"docroot\"\n\
         targets = []\nprofile = \"default\"\n"
    );
    write(Path::new(&config), text);
    let words = |words: &[&str]| -> Vec<String> {
        let all = [&[program.as_str()], words, &["-c", &config]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let current = world.live().join("state/certs/site/current");
    Client {
        name: "renewd",
        version: version(&[&program, "--version"]),
        first: words(&["renew"]),
        forced: words(&["renew", "--force", "site"]),
        ordinary: words(&["renew"]),
        environment: Vec::new(),
        files: Files {
            chain: current.join("fullchain.pem"),
            key: current.join("privkey.pem"),
            pieces: Some([current.join("cert.pem"), current.join("chain.pem")]),
        },
    }
}
