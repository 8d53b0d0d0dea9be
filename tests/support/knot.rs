//! Knot as a site would run it: a primary that takes signed updates.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::bind::{SECRET, dig, key};
use super::files::{write, write_secret};
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::wait::eventually;

/// How long it may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server on loopback.
#[derive(Debug)]
pub struct Knot {
    _process: Running,
    address: SocketAddr,
    folder: TempDir,
}

impl Knot {
    /// Starts it with `zones`, each with the records that it begins with, and waits until it
    /// answers for all of them; its key may change them.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start(zones: &[(&str, &str)]) -> Self {
        (1..5).find_map(|_| Self::try_start(zones)).unwrap_or_else(|| {
            panic!("no port for Knot in several tries");
        })
    }

    /// One try; none if somebody else took the port.
    #[track_caller]
    fn try_start(zones: &[(&str, &str)]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        write_secret(&path.join("renewd.key"), key("renewd", SECRET), 0o600);
        let file = path.join("knot.conf");
        write(&file, config(path, address, zones));
        let mut command = Command::new(Peers::locate().knotd);
        command.arg("-c").arg(&file);
        let mut process = Running::start("knot", &mut command, &path.join("knot.log"));
        let started = eventually(START_LIMIT, "Knot knows its zones", || {
            if process.ended().is_some() || process.log().contains("address already in use") {
                assert!(process.log().contains("in use"), "{}", process.log());
                return Ok(false);
            }
            let lacks =
                zones.iter().filter(|(it, _)| dig(address, &["+short", it, "SOA"]).is_empty());
            let lacks: Vec<_> = lacks.map(|(zone, _)| *zone).collect();
            if lacks.is_empty() { Ok(true) } else { Err(lacks.join(" ")) }
        });
        started.then_some(Self { _process: process, address, folder })
    }

    /// Where it answers and takes updates.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with the key that the zones may be changed with.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("renewd.key")
    }
}

fn config(folder: &Path, address: SocketAddr, zones: &[(&str, &str)]) -> String {
    let (port, place) = (address.port(), folder.display());
    let mut text = format!(
        "server:
  rundir: \"{place}\"
  listen: 127.0.0.1@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: info
database:
  storage: \"{place}\"
  journal-db-max-size: 16M
key:
  - id: renewd
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: renewd
    key: renewd
    action: update
zone:
"
    );
    for (zone, records) in zones {
        let file = folder.join(format!("{zone}.zone"));
        let soa = "@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1";
        write(&file, format!("$ORIGIN {zone}.\n$TTL 60\n{soa}\n{records}\n"));
        let file = file.display();
        writeln!(text, "  - domain: {zone}\n    file: \"{file}\"\n    acl: renewd").unwrap();
    }
    text
}
