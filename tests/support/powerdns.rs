//! PowerDNS as a site would run it: zones in its own database, its API, and signed updates.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bind::{SECRET, dig, key};
use super::curl::curl;
use super::files::{write, write_secret};
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::wait::eventually;

/// How long it may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The key of the API.
const API_KEY: &str = "api-key-of-the-tests";

/// A running server on loopback.
#[derive(Debug)]
pub struct PowerDns {
    _process: Running,
    address: SocketAddr,
    api: SocketAddr,
    folder: TempDir,
}

impl PowerDns {
    /// Starts it and makes `zones`, each with the records that it begins with; its key may change
    /// all of them.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start(zones: &[(&str, &str)]) -> Self {
        let server = (1..5).find_map(|_| Self::try_start());
        let server = server.unwrap_or_else(|| panic!("no ports for PowerDNS in several tries"));
        let tsig = json!({ "name": "renewd", "algorithm": "hmac-sha256", "key": SECRET });
        server.ask("POST", "tsigkeys", &tsig);
        for (zone, records) in zones {
            let soa = "@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1";
            let text = format!("$ORIGIN {zone}.\n$TTL 60\n{soa}\n{records}\n");
            let made = json!({ "name": format!("{zone}."), "kind": "Native", "zone": text });
            server.ask("POST", "zones", &made);
            let allowed = json!({ "metadata": ["renewd"] });
            let path = format!("zones/{zone}./metadata/TSIG-ALLOW-DNSUPDATE");
            server.ask("PUT", &path, &allowed);
        }
        server
    }

    /// One try; none if somebody else took one of the ports.
    #[track_caller]
    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let [address, api] =
            [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        write_secret(&path.join("renewd.key"), key("renewd", SECRET), 0o600);
        write_secret(&path.join("api.key"), API_KEY, 0o600);
        write(&path.join("pdns.conf"), config(path, address, api));
        let mut command = Command::new(Peers::locate().pdns_server);
        command.arg(format!("--config-dir={}", path.display()));
        let mut process = Running::start("powerdns", &mut command, &path.join("powerdns.log"));
        let started = eventually(START_LIMIT, "PowerDNS listens", || {
            if process.ended().is_some() {
                assert!(process.log().contains("in use"), "{}", process.log());
                return Ok(false);
            }
            let answers = !dig(address, &["version.bind", "TXT", "CH", "+short"]).is_empty();
            let has_api = std::net::TcpStream::connect(api).is_ok();
            if answers && has_api { Ok(true) } else { Err("does not answer") }
        });
        started.then_some(Self { _process: process, address, api, folder })
    }

    /// Where it answers DNS and takes updates.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its API is.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The file with the key of the API.
    #[must_use]
    pub fn api_key_file(&self) -> PathBuf {
        self.folder.path().join("api.key")
    }

    /// The file with the key that the zones may be changed with.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("renewd.key")
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) {
        let url = format!("{}/api/v1/servers/localhost/{path}", self.api());
        let key = format!("X-API-Key: {API_KEY}");
        let args = ["-X", method, "-H", &key, "-d", &body.to_string(), &url];
        curl(&args).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    }
}

fn config(folder: &Path, address: SocketAddr, api: SocketAddr) -> String {
    let (port, api_port) = (address.port(), api.port());
    // The package has its backends where only an installed one would look.
    let server = Peers::locate().pdns_server;
    let library = "usr/lib/x86_64-linux-gnu/pdns";
    let root = server.parent().and_then(Path::parent).unwrap().join("root");
    let modules = [root, PathBuf::from("/")].map(|it| it.join(library));
    let modules = modules.iter().find(|it| it.join("liblmdbbackend.so").exists()).unwrap();
    let (modules, folder) = (modules.display(), folder.display());
    format!(
        "launch=lmdb
lmdb-filename={folder}/zones.lmdb
lmdb-shards=1
module-dir={modules}
socket-dir={folder}
local-address=127.0.0.1
local-port={port}
version-string=full
dnsupdate=yes
allow-dnsupdate-from=127.0.0.1
webserver=yes
webserver-address=127.0.0.1
webserver-port={api_port}
webserver-allow-from=127.0.0.1
api=yes
api-key={API_KEY}
receiver-threads=1
distributor-threads=1
security-poll-suffix=
"
    )
}
