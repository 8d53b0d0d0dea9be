//! Where the real peers are.

use std::path::{Path, PathBuf};

/// The programs that `tests/peers.sh` fetched.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The ACME server.
    pub pebble: PathBuf,
    /// The DNS server that it asks.
    pub challtestsrv: PathBuf,
    /// The web server.
    pub nginx: PathBuf,
    /// Prometheus' alertmanager.
    pub alertmanager: PathBuf,
    /// The TLS client that is not ours.
    pub openssl: PathBuf,
    /// The HTTP client that is not ours.
    pub curl: PathBuf,
    /// BIND's name server.
    pub named: PathBuf,
    /// The DNS client that is not ours.
    pub dig: PathBuf,
    /// Changes a DNS zone.
    pub nsupdate: PathBuf,
    /// PowerDNS' authoritative server.
    pub pdns_server: PathBuf,
    /// Knot's name server.
    pub knotd: PathBuf,
    /// acme.sh, with its folder `dnsapi` beside what this leads to.
    pub acme_sh: PathBuf,
    /// moto, which plays Route 53.
    pub moto_server: PathBuf,
}

impl Peers {
    /// Finds all of them below `target/peers`.
    ///
    /// # Panics
    ///
    /// If one is missing: a test without its peer has failed, it is not skipped.
    #[must_use]
    pub fn locate() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin");
        let program = |name: &str| {
            let path = folder.join(name);
            assert!(path.exists(), "the peer {name} is missing: run tests/peers.sh");
            path
        };
        Self {
            pebble: program("pebble"),
            challtestsrv: program("pebble-challtestsrv"),
            nginx: program("nginx"),
            alertmanager: program("prometheus-alertmanager"),
            openssl: program("openssl"),
            curl: program("curl"),
            named: program("named"),
            dig: program("dig"),
            nsupdate: program("nsupdate"),
            pdns_server: program("pdns_server"),
            knotd: program("knotd"),
            acme_sh: program("acme.sh"),
            moto_server: program("moto_server"),
        }
    }
}
