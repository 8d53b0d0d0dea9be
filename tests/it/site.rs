//! A site under test: a Pebble, an nginx, and a folder with a configuration that joins them.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Nginx, NginxOptions, Pebble, PebbleOptions, Running, TlsServer, Workspace, edit_json,
    eventually, self_signed, served_serial,
};

/// How long a state may take to come about on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The certificate's name in every test.
pub(crate) const NAME: &str = "site";

/// What a site is made of.
#[derive(Clone, Debug)]
pub(crate) struct SiteOptions {
    /// How the CA behaves; its http port is that of the site.
    pub(crate) pebble: PebbleOptions,
    /// What the certificate is for.
    pub(crate) identifiers: Vec<String>,
    /// Lines of `[[certificate]]` besides name, identifiers, solver and targets.
    pub(crate) certificate: String,
    /// Further tables of the configuration.
    pub(crate) tables: String,
    /// How control is proven.
    pub(crate) proof: ProofBy,
    /// Whether nginx serves the files of the store from the start.
    pub(crate) tls: Tls,
}

/// How control is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofBy {
    /// By files that nginx shows.
    Webroot,
    /// By a listener of renewd's own.
    Listener,
}

/// What nginx serves at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// The files of the store, which a stand-in of the test made before renewd ran.
    Store,
    /// Nothing of ours: nginx is started by the test, later.
    Later,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            pebble: PebbleOptions::default(),
            identifiers: vec!["site.example".into()],
            certificate: String::new(),
            tables: String::new(),
            proof: ProofBy::Webroot,
            tls: Tls::Store,
        }
    }
}

impl SiteOptions {
    /// Without a server: what is held and installed is all there is.
    pub(crate) fn held_only() -> Self {
        Self { tls: Tls::Later, proof: ProofBy::Listener, ..Self::default() }
    }
}

/// A site, its servers running and its configuration written.
#[derive(Debug)]
pub(crate) struct Site {
    /// The CA.
    pub(crate) pebble: Pebble,
    /// The server; none yet with [`Tls::Later`].
    pub(crate) nginx: Option<Nginx>,
    /// The configuration and the state.
    pub(crate) workspace: Workspace,
    identifiers: Vec<String>,
}

impl Site {
    /// Starts it with the default options.
    #[must_use]
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&SiteOptions::default())
    }

    /// Starts it.
    #[must_use]
    #[track_caller]
    pub(crate) fn with(options: &SiteOptions) -> Self {
        let workspace = Workspace::new();
        let http_port = options.pebble.http_port;
        let pebble = Pebble::start(&options.pebble);
        let mut site =
            Self { pebble, nginx: None, workspace, identifiers: options.identifiers.clone() };
        if options.tls == Tls::Store {
            site.start_nginx(http_port_for(options.proof, http_port));
        }
        site.configure(options, http_port);
        site
    }

    /// Starts nginx on the files that the store holds or will hold.
    #[track_caller]
    pub(crate) fn start_nginx(&mut self, http_port: Option<u16>) {
        let folder = self.workspace.certificate(NAME).join("current");
        let [fullchain, privkey] = ["fullchain.pem", "privkey.pem"].map(|it| folder.join(it));
        let stand_in = self.workspace.path().join("stand-in");
        let has_files = fullchain.exists();
        let files = if has_files {
            [fullchain, privkey]
        } else {
            // nginx wants files to start with; the link is moved to the store's once it has some.
            std::fs::create_dir_all(&stand_in).unwrap();
            let files = [stand_in.join("fullchain.pem"), stand_in.join("privkey.pem")];
            self_signed("stand-in.example", &files[0], &files[1]);
            let live = self.workspace.path().join("live");
            std::os::unix::fs::symlink(&stand_in, &live).unwrap();
            [live.join("fullchain.pem"), live.join("privkey.pem")]
        };
        let [fullchain, privkey] = files;
        let names = self.identifiers.clone();
        self.nginx = Some(Nginx::start(&NginxOptions {
            http_port,
            challenges: Some(self.workspace.path().join("run/acme-challenge")),
            servers: vec![TlsServer { names, fullchain, privkey, second: None }],
        }));
        if !has_files {
            let live = self.workspace.path().join("live");
            std::fs::remove_file(&live).unwrap();
            std::os::unix::fs::symlink(&folder, &live).unwrap();
        }
    }

    /// The server.
    #[must_use]
    pub(crate) fn nginx(&self) -> &Nginx {
        self.nginx.as_ref().unwrap()
    }

    /// Writes the configuration.
    #[track_caller]
    fn configure(&self, options: &SiteOptions, http_port: u16) {
        let mut text = String::from("terms_of_service_agreed = true\ndefault_ca = \"lab\"\n");
        let directory = self.pebble.directory();
        let trust = self.pebble.root_file();
        writeln!(text, "[ca.lab]\ndirectory = {directory:?}\ntrust = {trust:?}").unwrap();
        if options.proof == ProofBy::Listener {
            writeln!(text, "[solver.web-port]\ntype = \"http-01\"").unwrap();
            writeln!(text, "listen = [\"127.0.0.1:{http_port}\"]").unwrap();
        }
        let mut targets = "[]";
        if let Some(nginx) = &self.nginx {
            targets = "[\"nginx\"]";
            text.push_str(&target(nginx));
        }
        text.push_str(&options.tables);
        let identifiers = &options.identifiers;
        writeln!(text, "\n[[certificate]]\nname = {NAME:?}\ndomains = {identifiers:?}").unwrap();
        writeln!(text, "targets = {targets}").unwrap();
        if options.proof == ProofBy::Listener {
            writeln!(text, "solver = \"web-port\"").unwrap();
        }
        if !options.certificate.contains("profile") {
            // Pebble takes any of its profiles for an order that names none.
            text.push_str("profile = \"default\"\n");
        }
        text.push_str(&options.certificate);
        self.workspace.write_config(&text);
    }

    /// Runs one command on it.
    #[track_caller]
    pub(crate) fn renewd(&self, args: &[&str]) -> crate::support::Finished {
        self.workspace.renewd(args)
    }

    /// Starts the daemon.
    #[must_use]
    #[track_caller]
    pub(crate) fn daemon(&self) -> Running {
        self.workspace.spawn(&["run", "--log-level", "debug"])
    }

    /// The status of the certificate, as `renewd status --json` tells it; null if there is none.
    #[must_use]
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let shown = self.renewd(&["status", "--json"]);
        let document: Value = serde_json::from_str(&shown.stdout).unwrap_or(Value::Null);
        document["certificates"][0].clone()
    }

    /// What is remembered of the certificate's renewal.
    #[must_use]
    pub(crate) fn state_file(&self) -> PathBuf {
        let folder = self.workspace.path().join("state/private/certificates").join(NAME);
        folder.join("state.json")
    }

    /// Has the CA answer `answer` when it is asked about the held certificate (RFC 9773), and lets
    /// the time come to ask it.
    #[track_caller]
    pub(crate) fn advise(&self, answer: &Value) {
        let leaf = self.workspace.certificate(NAME).join("current/cert.pem");
        self.pebble.set_renewal_info(&std::fs::read_to_string(leaf).unwrap(), answer);
        edit_json(&self.state_file(), |state| {
            state["suggestion"]["next_poll_at"] = "1970-01-01T00:00:00Z".into();
        });
    }

    /// Waits until the certificate's condition is `condition`; returns its status.
    #[track_caller]
    pub(crate) fn await_condition(&self, condition: &str) -> Value {
        eventually(LIMIT, &format!("the condition is {condition}"), || {
            let status = self.status();
            if status["condition"] == condition { Ok(status) } else { Err(status) }
        })
    }

    /// The serial number that nginx serves once it has reloaded, as OpenSSL sees it.
    #[must_use]
    #[track_caller]
    pub(crate) fn served_serial(&self) -> Option<String> {
        self.nginx().settle();
        self.served_serial_now()
    }

    /// The same, of whichever worker answers now.
    #[must_use]
    #[track_caller]
    pub(crate) fn served_serial_now(&self) -> Option<String> {
        let name = self.identifiers.first().map(String::as_str);
        served_serial(self.nginx().https(), name)
    }

    /// The generation that `current` points to.
    #[must_use]
    pub(crate) fn current(&self) -> Option<String> {
        let link = self.workspace.certificate(NAME).join("current");
        let target = std::fs::read_link(link).ok()?;
        Some(target.to_string_lossy().into_owned())
    }
}

const fn http_port_for(proof: ProofBy, http_port: u16) -> Option<u16> {
    match proof {
        ProofBy::Webroot => Some(http_port),
        // That port is renewd's own.
        ProofBy::Listener => None,
    }
}

/// The target's table for `nginx`.
#[must_use]
pub(crate) fn target(nginx: &Nginx) -> String {
    let (test, reload) = (nginx.test_command(), nginx.reload_command());
    let address = nginx.https();
    format!(
        "[target.nginx]\ntest = {test:?}\nreload = {{ command = {reload:?} }}\n\
         verify = [{{ address = \"{address}\" }}]\nverify_timeout = \"20s\"\n"
    )
}
