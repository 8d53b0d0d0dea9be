//! BIND as a site would run it: a primary that takes signed updates, and a secondary that lags.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::files::{write, write_secret};
use super::port::free_port;
use super::process::{Running, run};
use super::programs::Peers;
use super::wait::eventually;

/// How long BIND may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The keys of the tests: any 32 bytes.
pub(super) const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_SECRET: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// How far the secondary is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It looks for changes every two seconds, and is not told of any.
    Seconds,
    /// It never looks.
    ForEver,
}

/// What the servers know.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// Zones that take updates, each with the records that it begins with.
    pub zones: Vec<(String, String)>,
    /// Zones that take none.
    pub locked: Vec<(String, String)>,
    /// How far the secondary is behind.
    pub lag: Lag,
}

/// A primary and a secondary on loopback.
#[derive(Debug)]
pub struct Bind {
    _primary: Running,
    _secondary: Running,
    primary: SocketAddr,
    secondary: SocketAddr,
    folder: TempDir,
}

impl Bind {
    /// Starts both, and waits until both know all zones.
    ///
    /// # Panics
    ///
    /// If one of them does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start(options: &BindOptions) -> Self {
        (1..5).find_map(|_| Self::try_start(options)).unwrap_or_else(|| {
            panic!("no ports for BIND in several tries");
        })
    }

    /// One try; none if somebody else took one of the ports.
    #[track_caller]
    fn try_start(options: &BindOptions) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let [primary, secondary] =
            [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        write_secret(&path.join("renewd.key"), key("renewd", SECRET), 0o600);
        write_secret(&path.join("unknown.key"), key("nobody", SECRET), 0o600);
        write_secret(&path.join("wrong.key"), key("renewd", OTHER_SECRET), 0o600);
        let primary_config = primary_config(options, path, primary);
        let secondary_config = secondary_config(options, path, primary, secondary);

        let zones = || options.zones.iter().chain(&options.locked).map(|(zone, _)| zone.as_str());
        let first = start("primary", path, &primary_config, primary, &mut zones())?;
        let second = start("secondary", path, &secondary_config, secondary, &mut zones())?;
        Some(Self { _primary: first, _secondary: second, primary, secondary, folder })
    }

    /// Where the primary listens.
    #[must_use]
    pub fn primary(&self) -> SocketAddr {
        self.primary
    }

    /// Where the secondary listens.
    #[must_use]
    pub fn secondary(&self) -> SocketAddr {
        self.secondary
    }

    /// The file with the key that the zones may be changed with.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("renewd.key")
    }

    /// A file with a key that the primary has not heard of.
    #[must_use]
    pub fn unknown_key_file(&self) -> PathBuf {
        self.folder.path().join("unknown.key")
    }

    /// A file with the name of the key and another secret.
    #[must_use]
    pub fn wrong_key_file(&self) -> PathBuf {
        self.folder.path().join("wrong.key")
    }

    /// Has the TXT record `name` hold `value` alone, as an operator would.
    ///
    /// # Panics
    ///
    /// If the primary refuses it.
    #[track_caller]
    pub fn set_txt(&self, name: &str, value: &str) {
        let (ip, port) = (self.primary.ip(), self.primary.port());
        let text = format!(
            "server {ip} {port}\nupdate delete {name}. TXT\nupdate add {name}. 5 TXT \"{value}\"\nsend\n"
        );
        let file = self.folder.path().join("update");
        write(&file, text);
        let mut command = Command::new(Peers::locate().nsupdate);
        command.arg("-k").arg(self.key_file()).arg(&file);
        let done = run(&mut command, Duration::from_secs(30));
        assert_eq!(done.code, 0, "{done}");
    }

    /// The values of all TXT records that the primary has at `name`.
    #[must_use]
    #[track_caller]
    pub fn values(&self, name: &str) -> BTreeSet<String> {
        txt_values(self.primary, name)
    }
}

/// The values of all TXT records that `server` has at `name`.
#[must_use]
#[track_caller]
pub fn txt_values(server: SocketAddr, name: &str) -> BTreeSet<String> {
    let lines = dig(server, &["+short", name, "TXT"]);
    // What it says of a server that did not answer begins so.
    let values = lines.lines().filter(|it| !it.starts_with(';'));
    values.map(|it| it.trim_matches('"').to_owned()).collect()
}

/// What `dig` prints when it asks `server`.
#[track_caller]
pub(super) fn dig(server: SocketAddr, args: &[&str]) -> String {
    let mut command = Command::new(Peers::locate().dig);
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string()]);
    command.args(["+norecurse", "+time=10", "+tries=3"]).args(args);
    run(&mut command, Duration::from_secs(60)).stdout
}

/// A key file as `tsig-keygen` writes it.
pub(super) fn key(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n")
}

/// Starts a server and waits until it knows `zones`; none if the port is taken.
#[track_caller]
fn start(
    name: &str,
    folder: &Path,
    config: &str,
    address: SocketAddr,
    zones: &mut dyn Iterator<Item = &str>,
) -> Option<Running> {
    let file = folder.join(format!("{name}.conf"));
    write(&file, config);
    let mut command = Command::new(Peers::locate().named);
    // -g: in the foreground, log to standard error; one thread is enough for a test.
    command.arg("-g").args(["-n", "1", "-4", "-c"]).arg(&file).current_dir(folder);
    let mut process = Running::start(name, &mut command, &folder.join(format!("{name}.log")));
    let zones: Vec<&str> = zones.collect();
    let started = eventually(START_LIMIT, "BIND knows its zones", || {
        if process.log().contains("address in use") || process.ended().is_some() {
            assert!(process.log().contains("address in use"), "{}", process.log());
            return Ok(false);
        }
        let lacks = zones.iter().filter(|it| dig(address, &["+short", it, "SOA"]).is_empty());
        let lacks: Vec<_> = lacks.copied().collect();
        assert!(!process.log().contains("not loaded due to errors"), "{}", process.log());
        if lacks.is_empty() { Ok(true) } else { Err(lacks.join(" ")) }
    });
    started.then_some(process)
}

/// `recursion` is `yes` or `no`.
fn head(name: &str, folder: &Path, address: SocketAddr, recursion: &str) -> String {
    let (folder, port) = (folder.display(), address.port());
    format!(
        "options {{
  directory \"{folder}\";
  listen-on port {port} {{ 127.0.0.1; }};
  pid-file \"{folder}/{name}.pid\";
  session-keyfile \"{folder}/{name}.session\";
  recursion {recursion};
  notify no;
  dnssec-validation no;
  allow-transfer {{ 127.0.0.1; }};
  check-names primary ignore;
  check-names secondary ignore;
}};
controls {{ }};
"
    )
}

fn primary_config(options: &BindOptions, folder: &Path, address: SocketAddr) -> String {
    let mut text = head("primary", folder, address, "no") + &key("renewd", SECRET);
    let refresh = match options.lag {
        Lag::Seconds => 2,
        Lag::ForEver => 86_400,
    };
    let zones = options.zones.iter().map(|it| (it, "allow-update { key renewd; };"));
    for ((zone, records), update) in zones.chain(options.locked.iter().map(|it| (it, ""))) {
        let file = folder.join(format!("{zone}.zone"));
        let soa = format!("@ SOA ns1 root 1 {refresh} {refresh} 86400 60");
        let servers = "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.1";
        write(&file, format!("$ORIGIN {zone}.\n$TTL 60\n{soa}\n{servers}\n{records}\n"));
        let file = file.display();
        writeln!(text, "zone \"{zone}\" {{ type primary; file \"{file}\"; {update} }};").unwrap();
    }
    text
}

fn secondary_config(
    options: &BindOptions,
    folder: &Path,
    primary: SocketAddr,
    address: SocketAddr,
) -> String {
    // Only a resolver follows an alias from one zone into another.
    let mut text = head("secondary", folder, address, "yes");
    let port = primary.port();
    for (zone, _) in options.zones.iter().chain(&options.locked) {
        writeln!(
            text,
            "zone \"{zone}\" {{ type secondary; file \"{zone}.copy\"; \
             primaries port {port} {{ 127.0.0.1; }}; min-refresh-time 2; min-retry-time 2; }};"
        )
        .unwrap();
    }
    text
}
