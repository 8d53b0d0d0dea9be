//! nginx, as a site would run it: a master with a worker, a plain and a TLS listener.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::files::{self_signed, write};
use super::port::free_port;
use super::process::Running;
use super::programs::Peers;
use super::wait::eventually;

/// How long nginx may take to listen after its start, and to let go of an old worker.
const LIMIT: Duration = Duration::from_secs(60);

/// One name that nginx serves by TLS, and with what.
#[derive(Clone, Debug)]
pub struct TlsServer {
    /// For `server_name`; the first server also answers for all other names.
    pub names: Vec<String>,
    /// For `ssl_certificate`.
    pub fullchain: PathBuf,
    /// For `ssl_certificate_key`.
    pub privkey: PathBuf,
    /// A second certificate and its key, of another kind of key; served by TLS 1.2 and 1.3.
    pub second: Option<[PathBuf; 2]>,
}

/// What nginx serves; the defaults are a self-signed certificate for `localhost`.
#[derive(Clone, Debug, Default)]
pub struct NginxOptions {
    /// The port without TLS: where Pebble looks for http-01. Any free one if none is given.
    pub http_port: Option<u16>,
    /// The folder whose files are the tokens; else `.well-known/acme-challenge` in
    /// [`Nginx::webroot`].
    pub challenges: Option<PathBuf>,
    /// What is served by TLS, all on one port.
    pub servers: Vec<TlsServer>,
}

/// A running nginx on loopback.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    config: String,
    http: SocketAddr,
    https: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx and waits until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log; files that `servers` names have to be there.
    #[must_use]
    #[track_caller]
    pub fn start(options: &NginxOptions) -> Self {
        let mut ports = (1..5).map(|_| (options.http_port.unwrap_or_else(free_port), free_port()));
        let started = ports.find_map(|(http, https)| Self::try_start(options, http, https));
        started.unwrap_or_else(|| panic!("no ports for nginx in several tries"))
    }

    /// One try; none if somebody else took one of the ports.
    #[track_caller]
    fn try_start(options: &NginxOptions, http_port: u16, https_port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path();
        let mut options = options.clone();
        if options.servers.is_empty() {
            let [fullchain, privkey] =
                ["self-signed.pem", "self-signed.key"].map(|it| prefix.join(it));
            self_signed("localhost", &fullchain, &privkey);
            let names = vec!["localhost".into()];
            options.servers.push(TlsServer { names, fullchain, privkey, second: None });
        }
        fs::create_dir_all(prefix.join("webroot/.well-known/acme-challenge")).unwrap();
        let [http, https] = [http_port, https_port].map(|port| (Ipv4Addr::LOCALHOST, port).into());
        let config = config(prefix, &options, http, https);
        write(&config_file(prefix), &config);

        let mut command = Command::new(Peers::locate().nginx);
        command.args(arguments(prefix)).args(["-g", "daemon off;"]);
        let mut process = Running::start("nginx", &mut command, &prefix.join("error.log"));
        let started = eventually(LIMIT, "nginx listens", || {
            if process.ended().is_some() {
                assert!(process.log().contains("Address already in use"), "{}", process.log());
                return Ok(false);
            }
            // The pid file comes after all listeners are bound.
            let pid = fs::read_to_string(prefix.join("nginx.pid")).unwrap_or_default();
            let ours = pid.trim() == process.pid().to_string();
            let listens = ours && TcpStream::connect(https).is_ok();
            listens.then_some(true).ok_or_else(|| process.log())
        });
        started.then_some(Self { process, config, http, https, folder })
    }

    /// The folder that is served without TLS, made for a solver with `webroot`.
    #[must_use]
    pub fn webroot(&self) -> PathBuf {
        self.folder.path().join("webroot")
    }

    /// The listener without TLS.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The listener with TLS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// The process id of the master, which stays the same over reloads.
    #[must_use]
    pub fn master_pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process ids of its workers, which a reload changes.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        let master = self.master_pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children.unwrap_or_default().split_whitespace().filter_map(|it| it.parse().ok()).collect()
    }

    /// Waits until no worker of before the last reload is left: one that was told to quit may
    /// accept once more.
    #[track_caller]
    pub fn settle(&self) {
        eventually(LIMIT, "the old worker is gone", || match self.worker_pids().len() {
            0 | 1 => Ok(()),
            count => Err(count),
        });
    }

    /// Its pid file, for a reload by signal.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join("nginx.pid")
    }

    /// The program and arguments that test its configuration.
    #[must_use]
    pub fn test_command(&self) -> Vec<String> {
        self.command(&["-t", "-q"])
    }

    /// The program and arguments that reload it.
    #[must_use]
    pub fn reload_command(&self) -> Vec<String> {
        self.command(&["-s", "reload"])
    }

    fn command(&self, action: &[&str]) -> Vec<String> {
        let program = Peers::locate().nginx.to_string_lossy().into_owned();
        let action = action.iter().map(|it| (*it).to_owned());
        std::iter::once(program).chain(arguments(self.folder.path())).chain(action).collect()
    }

    /// Leaves a fault in its configuration file, as a hasty admin would: it runs on, but neither a
    /// test nor a reload succeeds.
    pub fn break_config(&self) {
        write(&config_file(self.folder.path()), format!("{}\nno_such_directive;\n", self.config));
    }

    /// Takes the fault of [`Nginx::break_config`] out again.
    pub fn repair_config(&self) {
        write(&config_file(self.folder.path()), &self.config);
    }

    /// All it has written to its error log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn config_file(prefix: &Path) -> PathBuf {
    prefix.join("nginx.conf")
}

/// What each call of nginx needs to mean this one and to leave the system's files alone.
fn arguments(prefix: &Path) -> Vec<String> {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let [p, c, e] = ["-p", "-c", "-e"].map(String::from);
    let error_log = path(prefix.join("error.log"));
    vec![p, path(prefix.to_owned()), c, path(config_file(prefix)), e, error_log]
}

fn config(prefix: &Path, options: &NginxOptions, http: SocketAddr, https: SocketAddr) -> String {
    let prefix = prefix.display();
    // A worker that root's nginx hands to `nobody` could not read the test's own folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let challenges = match &options.challenges {
        Some(folder) => format!("alias {}/;", folder.display()),
        None => format!("root {prefix}/webroot;"),
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|it| format!("  {it}_temp_path {prefix}/tmp_{it};\n"))
        .concat();
    let mut text = format!(
        "{user}
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
events {{ worker_connections 256; }}
http {{
  access_log {prefix}/access.log;
{temporary}
  server {{
    listen {http};
    location /.well-known/acme-challenge/ {{ default_type text/plain; {challenges} }}
    location / {{ return 404; }}
  }}
"
    );
    for TlsServer { names, fullchain, privkey, second } in &options.servers {
        let (fullchain, privkey) = (fullchain.display(), privkey.display());
        let second = second.iter().map(|[fullchain, privkey]| {
            let (fullchain, privkey) = (fullchain.display(), privkey.display());
            format!(
                "    ssl_certificate {fullchain};\n    ssl_certificate_key {privkey};\n    \
                 ssl_protocols TLSv1.2 TLSv1.3;\n"
            )
        });
        let second: String = second.collect();
        write!(
            text,
            "  server {{
    listen {https} ssl;
    server_name {};
    ssl_certificate {fullchain};
    ssl_certificate_key {privkey};
{second}    location / {{ default_type text/plain; return 200 \"served\\n\"; }}
  }}
",
            names.join(" ")
        )
        .unwrap();
    }
    text.push_str("}\n");
    text
}
