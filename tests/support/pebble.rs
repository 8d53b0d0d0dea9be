//! Pebble, the ACME server that its clients are tested with, and the DNS server that it asks.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::curl::curl;
use super::files::{write, write_secret};
use super::front::Front;
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::requests::Requests;
use super::wait::eventually;

/// How long Pebble may take to answer after its start; it makes its own CA first.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How a Pebble behaves; the defaults are those of a friendly CA.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// Share of good nonces that it refuses, in percent.
    pub nonce_reject: u8,
    /// Share of valid authorizations that it uses again, in percent. Pebble takes one in a hundred
    /// also at 0, since its random number from 0 on is to be *above* this one for a new
    /// authorization (`makeAuthorizations`): who needs a proof in an order has it be the first for
    /// its names.
    pub authorization_reuse: u8,
    /// Seconds to sleep before each validation, at most.
    pub validation_sleep: u8,
    /// Takes every challenge for fulfilled, without a look.
    pub always_valid: bool,
    /// Refuses what a coming version of ACME will refuse.
    pub strict: bool,
    /// Profiles and how long their certificates live; an order that names none gets any of them.
    pub profiles: Vec<(String, Duration)>,
    /// Where it looks for http-01, on the identifier's address.
    pub http_port: u16,
    /// Where it looks for tls-alpn-01, on the identifier's address.
    pub tls_port: u16,
    /// Requires an external account binding with this key id and key (base64url).
    pub external_account_binding: Option<(String, String)>,
    /// Number of alternate chains beside the default one.
    pub alternate_roots: u8,
    /// The DNS server that it asks in place of its own.
    pub resolver: Option<SocketAddr>,
}

impl Default for PebbleOptions {
    fn default() -> Self {
        Self {
            nonce_reject: 0,
            authorization_reuse: 0,
            validation_sleep: 0,
            always_valid: false,
            strict: false,
            profiles: vec![
                ("default".into(), Duration::from_hours(90 * 24)),
                ("short".into(), Duration::from_secs(30)),
            ],
            http_port: free_port(),
            tls_port: free_port(),
            external_account_binding: None,
            alternate_roots: 0,
            resolver: None,
        }
    }
}

/// A running Pebble, with a DNS server for which every name is 127.0.0.1.
#[derive(Debug)]
pub struct Pebble {
    process: Running,
    _dns: Running,
    options: PebbleOptions,
    ports: Ports,
    root_pem: String,
    folder: TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    acme: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
}

impl Pebble {
    /// Starts Pebble and its DNS server on loopback, and waits until the directory answers.
    ///
    /// # Panics
    ///
    /// If one of them does not start, with its log.
    #[must_use]
    #[track_caller]
    pub fn start(options: &PebbleOptions) -> Self {
        (1..5).find_map(|_| Self::try_start(options)).unwrap_or_else(|| {
            panic!("no ports for Pebble in several tries");
        })
    }

    /// One try; none if somebody else took one of the ports.
    #[track_caller]
    fn try_start(options: &PebbleOptions) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports {
            acme: free_port(),
            management: free_port(),
            dns: free_port(),
            dns_management: free_port(),
        };
        let root_pem = write_server_certificate(folder.path());
        write(&folder.path().join("pebble.json"), options.config(ports, folder.path()).to_string());

        let dns = start_dns(ports, folder.path())?;
        let process = start_pebble(options, ports, folder.path())?;
        Some(Self { process, _dns: dns, options: options.clone(), ports, root_pem, folder })
    }

    /// A front before it, which the CA is reached by at the front's own directory URL.
    #[must_use]
    #[track_caller]
    pub fn front(&self) -> Front {
        Front::start((Ipv4Addr::LOCALHOST, self.ports.acme).into(), self.folder.path())
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.acme)
    }

    /// The root of its own HTTPS, as PEM; also the file [`Pebble::root_file`].
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The file with [`Pebble::root_pem`], for `trust`.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The root that its certificates lead to, as PEM; made anew at every start.
    #[must_use]
    #[track_caller]
    pub fn issuer_root_pem(&self) -> String {
        self.management("roots/0")
    }

    /// What its management interface answers to a GET of `path`.
    #[must_use]
    #[track_caller]
    pub fn management(&self, path: &str) -> String {
        let url = format!("https://localhost:{}/{path}", self.ports.management);
        let root = self.root_file();
        curl(&["--cacert", &root.to_string_lossy(), &url]).unwrap()
    }

    /// Has it answer `answer` when it is asked when to renew the `certificate`, given as PEM.
    #[track_caller]
    pub fn set_renewal_info(&self, certificate: &str, answer: &serde_json::Value) {
        let body = json!({ "certificate": certificate, "ariResponse": answer.to_string() });
        let url = format!("https://localhost:{}/set-renewal-info/", self.ports.management);
        let root = self.root_file();
        let body = body.to_string();
        curl(&["--cacert", &root.to_string_lossy(), "--data", &body, &url]).unwrap();
    }

    /// Where it looks for http-01.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.options.http_port
    }

    /// Where it looks for tls-alpn-01.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.options.tls_port
    }

    /// Its DNS server, for UDP and TCP.
    #[must_use]
    pub fn dns_server(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.dns).into()
    }

    /// Tells its DNS server something, for example `set-txt` with `{"host":"…","value":"…"}`.
    #[track_caller]
    pub fn tell_dns(&self, verb: &str, body: &serde_json::Value) {
        let url = format!("http://127.0.0.1:{}/{verb}", self.ports.dns_management);
        curl(&["--data", &body.to_string(), &url]).unwrap();
    }

    /// Has its DNS server name this CA, and no other, in the CAA records of `host`.
    #[track_caller]
    pub fn allow_only(&self, host: &str, ca: &str) {
        let policy = json!([{ "tag": "issue", "value": ca }]);
        self.tell_dns("add-caa", &json!({ "host": host, "policies": policy }));
    }

    /// Stops answering without closing anything, until [`Pebble::resume`].
    pub fn pause(&mut self) {
        self.process.signal(rustix::process::Signal::STOP);
    }

    /// Answers again.
    pub fn resume(&mut self) {
        self.process.signal(rustix::process::Signal::CONT);
    }

    /// All requests that it has seen since its start.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests::read(&self.process.log())
    }

    /// All it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // A stopped process does not see that it should end.
        self.resume();
    }
}

impl PebbleOptions {
    /// Pebble's own configuration file.
    fn config(&self, ports: Ports, folder: &Path) -> serde_json::Value {
        let profiles: serde_json::Map<_, _> = (self.profiles.iter())
            .map(|(name, life)| {
                (name.clone(), json!({ "description": name, "validityPeriod": life.as_secs() }))
            })
            .collect();
        let keys: serde_json::Map<_, _> = (self.external_account_binding.iter())
            .map(|(kid, key)| (kid.clone(), json!(key)))
            .collect();
        json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.acme),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": folder.join("server.pem"),
            "privateKey": folder.join("server.key"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.external_account_binding.is_some(),
            "externalAccountMACKeys": keys,
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": profiles,
        } })
    }
}

#[track_caller]
fn start_dns(ports: Ports, folder: &Path) -> Option<Running> {
    let mut command = Command::new(Peers::locate().challtestsrv);
    command
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
        .args(["-dnsserver", &format!("127.0.0.1:{}", ports.dns)])
        .args(["-management", &format!("127.0.0.1:{}", ports.dns_management)]);
    let mut dns = Running::start("challtestsrv", &mut command, &folder.join("dns.log"));
    let started = eventually(START_LIMIT, "challtestsrv listens", || {
        if dns.log().contains("address already in use") || dns.ended().is_some() {
            assert!(dns.log().contains("address already in use"), "{}", dns.log());
            return Ok(false);
        }
        let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        (listens(ports.dns) && listens(ports.dns_management))
            .then_some(true)
            .ok_or_else(|| dns.log())
    });
    started.then_some(dns)
}

#[track_caller]
fn start_pebble(options: &PebbleOptions, ports: Ports, folder: &Path) -> Option<Running> {
    let resolver = options.resolver.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, ports.dns).into());
    let mut command = Command::new(Peers::locate().pebble);
    command
        .arg("-config")
        .arg(folder.join("pebble.json"))
        .args(["-dnsserver", &resolver.to_string()])
        .env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string())
        .env("PEBBLE_AUTHZREUSE", options.authorization_reuse.to_string())
        .env("PEBBLE_ALTERNATE_ROOTS", options.alternate_roots.to_string());
    match options.validation_sleep {
        0 => command.env("PEBBLE_VA_NOSLEEP", "1"),
        seconds => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
    };
    if options.always_valid {
        command.env("PEBBLE_VA_ALWAYS_VALID", "1");
    }
    if options.strict {
        command.arg("-strict");
    }
    let mut pebble = Running::start("pebble", &mut command, &folder.join("pebble.log"));

    // Through its root, so that a stranger on the port is not taken for our Pebble.
    let root = folder.join("root.pem").to_string_lossy().into_owned();
    let urls = [
        format!("https://localhost:{}/roots/0", ports.management),
        format!("https://localhost:{}/dir", ports.acme),
    ];
    let started = eventually(START_LIMIT, "Pebble answers", || {
        if pebble.log().contains("address already in use") || pebble.ended().is_some() {
            assert!(pebble.log().contains("address already in use"), "{}", pebble.log());
            return Ok(false);
        }
        let faults = urls.iter().filter_map(|url| curl(&["--cacert", &root, url]).err());
        let faults: Vec<String> = faults.collect();
        faults.is_empty().then_some(true).ok_or_else(|| (faults, pebble.log()))
    });
    started.then_some(pebble)
}

/// Writes `root.pem`, `server.pem` and `server.key` for Pebble's own HTTPS; returns the root.
fn write_server_certificate(folder: &Path) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "root of a Pebble under test");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1"].map(String::from);
    let params = CertificateParams::new(names).unwrap();
    let leaf = params.signed_by(&key, &root).unwrap();
    write(&folder.join("root.pem"), root.pem());
    write(&folder.join("server.pem"), leaf.pem());
    write_secret(&folder.join("server.key"), key.serialize_pem(), 0o600);
    root.pem()
}
