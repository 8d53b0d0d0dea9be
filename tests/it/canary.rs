//! Marked secrets go through every flow, those that end well and those that fail; then everything
//! that came out of renewd is searched for them, in each form that a secret takes.
//!
//! # What is searched
//!
//! 1. standard output and standard error of every command and of the daemon, at level trace, as
//!    text and as JSON, and of commands that panic
//! 2. what the control socket answers, `status.json`, the bodies and headers of webhooks
//! 3. environment, arguments and input of every program that renewd starts
//! 4. every file in the site's folder: a secret may stand in its own file alone, and there with
//!    mode 0600
//!
//! Keys that renewd makes are secrets as well: they are read from the state at the end, and
//! searched for as PEM and by their private number.
//!
//! Not here: the journal, whose fields and sentences are those of the JSON (`observe::journal`);
//! that no type prints a secret, which tests beside the types show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::alert_delivery::Receiver;
use crate::challenges::bind_with;
use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{
    Bind, Endpoint, Finished, HttpRequests, PebbleOptions, Running, Workspace, curl, eventually,
    free_port, program, run, write,
};

/// One thing that nobody may see.
struct Canary {
    /// What it is, for whoever reads of a leak.
    what: String,
    /// Its bytes.
    secret: Vec<u8>,
    /// Each way in which it could be written, in bytes to look for.
    forms: Vec<Vec<u8>>,
    /// The files that it may stand in.
    homes: Vec<PathBuf>,
}

impl Canary {
    fn new(what: &str, secret: &[u8], homes: &[PathBuf]) -> Self {
        let forms = forms(secret);
        Self { what: what.to_owned(), secret: secret.to_vec(), forms, homes: homes.to_vec() }
    }

    fn is_in(&self, output: &[u8]) -> bool {
        AhoCorasick::new(&self.forms).unwrap().is_match(output)
    }
}

/// Looks for many secrets at once.
struct Search<'a> {
    canaries: &'a [Canary],
    /// The canary of each form.
    of: Vec<usize>,
    forms: AhoCorasick,
}

impl<'a> Search<'a> {
    fn new(canaries: &'a [Canary]) -> Self {
        let forms = |(index, it): (usize, &'a Canary)| it.forms.iter().map(move |it| (index, it));
        let (of, forms): (Vec<_>, Vec<_>) = canaries.iter().enumerate().flat_map(forms).unzip();
        Self { canaries, of, forms: AhoCorasick::new(forms).unwrap() }
    }

    /// Those that stand in `output`.
    fn found(&self, output: &[u8]) -> Vec<&'a Canary> {
        let found = self.forms.find_overlapping_iter(output).map(|it| self.of[it.pattern()]);
        let found: BTreeSet<usize> = found.collect();
        found.into_iter().map(|it| &self.canaries[it]).collect()
    }
}

/// `secret` as it is, in both kinds of base64 wherever it stands in what is encoded, in hexadecimal
/// and percent-encoded.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    for skipped in 0..3 {
        // The first and last characters depend on what stands around it.
        let padded = [vec![b'x'; skipped], secret.to_vec()].concat();
        let whole = padded.len() / 3 * 4;
        for encoded in
            [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)]
        {
            let from = if skipped == 0 { 0 } else { 4 };
            forms.push(encoded[from..whole].into());
        }
    }
    let lower: String = secret.iter().map(|it| format!("{it:02x}")).collect();
    let percent: String = secret.iter().map(|it| format!("%{it:02X}")).collect();
    let colons = secret.iter().map(|it| format!("{it:02x}")).collect::<Vec<_>>().join(":");
    for text in [lower.to_uppercase(), lower, percent, colons] {
        forms.push(text.into());
    }
    forms
}

/// A site through which all secrets go.
struct Cage {
    site: Site,
    bind: Bind,
    receiver: Receiver,
    changer: HttpRequests,
    canaries: Vec<Canary>,
    /// What came out, by where.
    outputs: BTreeMap<String, Vec<u8>>,
}

/// The bytes of the signing key that stands in the environment.
const FROM_THE_ENVIRONMENT: &[u8] = b"canary-from-the-environment-0815";

/// What the configuration says beside targets and solvers.
const REST: &str = r#"[alerts]
heartbeat_url_file = "heartbeat.url"
[[alert]]
type = "webhook"
url_file = "hook.url"
secret_file = "hook.key"
tell_renewed = true
[[certificate]]
name = "by-dns"
domains = ["*.site.example"]
solver = "dns"
[[certificate]]
name = "by-req"
domains = ["req.site.example"]
solver = "req"
[[certificate]]
name = "by-token"
domains = ["token.site.example"]
solver = "token"
[[certificate]]
name = "by-program"
domains = ["program.site.example"]
solver = "program"
[[certificate]]
name = "inside"
ca = "own"
domains = ["inside.example"]
targets = ["server"]
"#;

fn in_the_environment() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(FROM_THE_ENVIRONMENT))
}

/// Where programs that renewd starts write what they were given.
const SEEN: &str = "seen-by-programs";

impl Cage {
    fn new() -> Self {
        let bind = bind_with("web A 127.0.0.1\n");
        let (receiver, changer) = (Receiver::answering(&[]), HttpRequests::start());
        let eab_key = b"canary-eab-hmac-key-4711-0815-xy";
        let eab = ("kid-1".to_owned(), BASE64_URL_SAFE_NO_PAD.encode(eab_key));
        let pebble = PebbleOptions {
            resolver: Some(bind.primary()),
            external_account_binding: Some(eab.clone()),
            profiles: vec![("default".into(), Duration::from_hours(90 * 24))],
            ..PebbleOptions::default()
        };
        let site = Site::with(&SiteOptions {
            pebble,
            identifiers: vec!["web.site.example".into()],
            proof: ProofBy::Listener,
            tls: Tls::Later,
            ..SiteOptions::default()
        });
        let mut cage =
            Self { site, bind, receiver, changer, canaries: Vec::new(), outputs: BTreeMap::new() };
        cage.secret("lab.hmac", &eab.1, eab_key);
        cage.add_secrets();
        cage.configure();
        cage
    }

    /// Puts `text` into the file `name`, in which `secret` stands.
    fn secret(&mut self, name: &str, text: &str, secret: &[u8]) {
        let path = self.site.workspace.write_secret(name, text, 0o600);
        self.canaries.push(Canary::new(name, secret, &[path]));
    }

    fn add_secrets(&mut self) {
        let hook = "canary-webhook-signing-key-12345";
        let hook_text = format!("whsec_{}", BASE64_STANDARD.encode(hook));
        self.secret("hook.key", &hook_text, hook.as_bytes());
        for name in ["hook.url", "heartbeat.url"] {
            let secret = format!("canary-in-{name}-0815");
            let url = format!("http://{}/{secret}?token={secret}", self.receiver.address);
            self.secret(name, &url, secret.as_bytes());
        }
        // Nobody listens there.
        let dead = format!("http://127.0.0.1:{}/canary-in-dead.url-4711", free_port());
        self.secret("dead.url", &dead, b"canary-in-dead.url-4711");
        self.secret("httpreq.password", "canary-httpreq-password", b"canary-httpreq-password");
        let of_program = "canary-of-the-dns-program";
        self.secret("program.key", &format!("DNS_TOKEN={of_program}\n"), of_program.as_bytes());
        self.secret("token", "canary-provider-token-0815", b"canary-provider-token-0815");
        let tsig = fs::read_to_string(self.bind.key_file()).unwrap();
        let (_, secret) = tsig.split_once("secret \"").unwrap();
        let secret = secret.split('"').next().unwrap();
        let bytes = BASE64_STANDARD.decode(secret).unwrap();
        self.secret("tsig.key", &tsig, &bytes);
        self.canaries.push(Canary::new("HOOK_SECRET", FROM_THE_ENVIRONMENT, &[]));
    }

    fn configure(&self) {
        let seen = self.site.workspace.path().join(SEEN);
        let note =
            format!("{{ env; tr '\\\\0' ' ' </proc/$$/cmdline; cat; }} >>{}", seen.display());
        let resolver = self.bind.primary();
        let by_dns = format!(
            "type = \"dns-01\"\nresolvers = [\"{resolver}\"]\nnameservers = [\"{resolver}\"]\n\
             propagation_timeout = \"1s\"\n"
        );
        let unread = "nameservers = []\n";
        let config = fs::read_to_string(self.site.workspace.config_file()).unwrap();
        let config = config
            .replace("[ca.lab]\n", "[ca.lab]\neab_kid = \"kid-1\"\neab_hmac_file = \"lab.hmac\"\n")
            .replace("targets = []", "targets = [\"server\"]");
        let changer = self.changer.url();
        let token_url = format!("http://127.0.0.1:{}", free_port());
        let blind = by_dns.replace(&format!("nameservers = [\"{resolver}\"]\n"), unread);
        let text = format!(
            "{config}
[ca.own]
type = \"local\"
[target.server]
type = \"other\"
test = [\"/bin/sh\", \"-c\", \"{note}\"]
reload = {{ command = [\"/bin/sh\", \"-c\", \"{note}\"] }}
verify = []
install = [{{ file = \"combined\", path = \"{{name}}.pem\", mode = \"0600\" }}]
[solver.dns]
{by_dns}provider = \"rfc2136\"
server = \"{resolver}\"
key_file = \"tsig.key\"
[solver.req]
{blind}provider = \"httpreq\"
url = \"{changer}\"
user = \"renewd\"
password_file = \"httpreq.password\"
[solver.token]
{blind}provider = \"pdns\"
url = \"{token_url}\"
key_file = \"token\"
[solver.program]
{blind}provider = \"program\"
program = [\"/bin/sh\", \"-c\", \"env >>{seen}.dns; echo no: $DNS_TOKEN >&2; exit 1\"]
key_file = \"program.key\"
[[alert]]
type = \"command\"
command = [\"/bin/sh\", \"-c\", \"{note}\"]
tell_renewed = true
{REST}",
            seen = seen.display(),
        );
        write(&self.site.workspace.config_file(), text);
    }

    /// Runs one command, its log at trace in `format`; keeps what it printed.
    fn renewd(&mut self, format: &str, arguments: &[&str]) -> i32 {
        let options = ["--log-level", "trace", "--log-format", format];
        let mut command = self.site.workspace.command(&[arguments, &options].concat());
        command.env("HOOK_SECRET", in_the_environment());
        let done = run(&mut command, LIMIT);
        assert!(!done.stderr.contains("panicked"), "{done}");
        self.keep(format, arguments, &done);
        done.code
    }

    /// Runs one command that panics where it passes `point`; keeps what it printed.
    fn panicking(&mut self, point: &str, arguments: &[&str]) {
        let mut command = self.site.workspace.command(arguments);
        command.env("HOOK_SECRET", in_the_environment()).env("RUST_BACKTRACE", "full");
        let done = run(command.env("RENEWD_CRASH_AT", format!("panic:{point}")), LIMIT);
        assert!(done.code != 0 && done.stderr.contains("panicked at"), "{done}");
        self.keep(point, arguments, &done);
    }

    fn keep(&mut self, format: &str, arguments: &[&str], done: &Finished) {
        let name = format!("{} ({format}, {})", arguments.join(" "), self.outputs.len());
        self.outputs.insert(name, done.to_string().into_bytes());
    }

    fn daemon(&self) -> Running {
        let mut command = self.site.workspace.command(&["run", "--log-level", "trace"]);
        command.env("HOOK_SECRET", in_the_environment());
        Running::start("renewd", &mut command, &self.site.workspace.path().join("daemon.log"))
    }

    /// Tells of trouble also to somebody who does not listen: one-shot runs would wait for him.
    fn tell_the_deaf(&self) {
        let config = fs::read_to_string(self.site.workspace.config_file()).unwrap();
        let deaf = "[[alert]]\ntype = \"webhook\"\nurl_file = \"dead.url\"\n\
                    secret_env = \"HOOK_SECRET\"\ntell_renewed = true\n";
        write(&self.site.workspace.config_file(), config + deaf);
    }

    /// What the daemon's control socket answers to each question.
    fn ask(&mut self) {
        let socket = self.site.workspace.path().join("run/control.sock");
        let socket = socket.to_string_lossy().into_owned();
        for path in ["/v1/status", "/v1/plan", "/v1/account", "/v1/alert-test", "/"] {
            for method in ["GET", "POST"] {
                let url = format!("http://localhost{path}");
                let asked = ["-s", "-X", method, "-d", "{\"x\":1}", "--unix-socket", &socket, &url];
                let answer = curl(&asked).unwrap_or_else(std::convert::identity);
                self.outputs.insert(format!("{method} {path}"), answer.into_bytes());
            }
        }
    }

    /// Adds the keys that renewd has made, each with the files that are its own.
    fn add_keys(&mut self) {
        let mut keys: BTreeMap<Vec<u8>, Vec<PathBuf>> = BTreeMap::new();
        for path in files(self.site.workspace.path()) {
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let begins = "-----BEGIN PRIVATE KEY-----";
            for part in text.split(begins).skip(1) {
                let body: String = part
                    .split("-----END")
                    .next()
                    .unwrap()
                    .chars()
                    .filter(|it| !it.is_whitespace())
                    .collect();
                let der = BASE64_STANDARD.decode(body).unwrap();
                keys.entry(der).or_default().push(path.clone());
            }
        }
        assert!(keys.len() >= 6, "only {} keys were made", keys.len());
        for (index, (der, homes)) in keys.into_iter().enumerate() {
            let what = format!("key {index} of {}", homes[0].display());
            let mut canary = Canary::new(&what, private_number(&der), &homes);
            // As its lines in PEM, which are the same wherever it is printed.
            let body = BASE64_STANDARD.encode(&der);
            canary.forms.push(body.as_bytes()[64..128].to_vec());
            self.canaries.push(canary);
        }
    }

    /// Everything that got out, with where.
    fn leaks(&self) -> Vec<String> {
        let search = Search::new(&self.canaries);
        let mut leaks = Vec::new();
        for (place, output) in &self.outputs {
            let found = search.found(output);
            leaks.extend(found.iter().map(|it| format!("{}: {place}", it.what)));
        }
        for path in files(self.site.workspace.path()) {
            let content = fs::read(&path).unwrap_or_default();
            let mode = path.metadata().map_or(0, |it| it.permissions().mode() & 0o777);
            for canary in search.found(&content) {
                if !canary.homes.contains(&path) {
                    leaks.push(format!("{}: the file {}", canary.what, path.display()));
                } else if mode != 0o600 {
                    leaks.push(format!("{}: {} has mode {mode:o}", canary.what, path.display()));
                }
            }
        }
        leaks
    }
}

/// The number that makes an EC or RSA key in PKCS #8 private; of RSA its first prime's like.
fn private_number(der: &[u8]) -> &[u8] {
    // RFC 5915: ECPrivateKey is SEQUENCE { INTEGER 1, OCTET STRING number, … }.
    let marks: [&[u8]; 2] = [&[0x02, 0x01, 0x01, 0x04, 0x20], &[0x02, 0x01, 0x01, 0x04, 0x30]];
    for mark in marks {
        if let Some(at) = der.windows(mark.len()).position(|it| it == mark) {
            let from = at + mark.len();
            return &der[from..from + usize::from(mark[4])];
        }
    }
    &der[der.len() / 2..der.len() / 2 + 32]
}

/// Every regular file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            pending.extend(fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path()));
        } else if metadata.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_secret_leaves_its_own_file_in_any_flow() {
    let mut cage = Cage::new();
    // With the first order, for which there must be a proof: a later one may do without.
    for point in ["issue.presented", "issue.before_finalize", "deploy.installed"] {
        cage.panicking(point, &["renew", NAME]);
    }
    // What fails does so in each form of the log; what ends well too.
    assert_eq!(cage.renewd("text", &["renew", "site", "by-dns", "inside"]), 0, "{}", cage.told());
    assert_eq!(cage.renewd("json", &["renew", "--force"]), 1, "{}", cage.told());
    for arguments in [
        &["status", "--json", "--probe"][..],
        &["show", NAME],
        &["plan", "--json"],
        &["check"],
        &["config", "show"],
        &["account", "show", "lab", "--json"],
        &["account", "update", "lab"],
        &["account", "rollover", "lab"],
        &["dns", "test", "dns", "any.site.example"],
        &["dns", "test", "req", "any.site.example"],
        &["dns", "persist", NAME],
        &["ca", "root", "own"],
        &["renew", "--dry-run", "inside"],
        &["revoke", NAME, "--yes", "--reason", "keyCompromise", "--key", "certificate"],
    ] {
        cage.renewd("text", arguments);
    }
    let wrong = fs::read_to_string(cage.bind.wrong_key_file()).unwrap();
    cage.site.workspace.write_secret("tsig.key", &wrong, 0o600);
    assert_eq!(
        cage.renewd("json", &["dns", "test", "dns", "any.site.example"]),
        1,
        "{}",
        cage.told()
    );
    // Another account is bound with a key that the CA does not know.
    cage.site.workspace.write_secret("lab.hmac", "Y2FuYXJ5LXdyb25nLWhtYWMta2V5LTAwMDA", 0o600);
    let own = cage.site.workspace.path().join("lab.hmac");
    cage.canaries.push(Canary::new("wrong lab.hmac", b"canary-wrong-hmac-key-0000", &[own]));
    assert_eq!(cage.renewd("text", &["account", "register", "lab", "--replace"]), 1);

    cage.tell_the_deaf();
    let heartbeats =
        |cage: &Cage| cage.receiver.received().iter().filter(|it| it.body.is_empty()).count();
    let before = heartbeats(&cage);
    let mut daemon = cage.daemon();
    // It comes after a first round: providers that refuse to take leftovers out of one zone take
    // turns.
    eventually(LIMIT * 4, "the daemon has been alive", || {
        if heartbeats(&cage) > before { Ok(()) } else { Err(daemon.log()) }
    });
    check_undumpable(daemon.pid());
    cage.ask();
    assert_eq!(cage.renewd("json", &["renew", "--force", "inside"]), 0, "{}", cage.told());
    cage.renewd("json", &["reload"]);
    cage.renewd("text", &["alert", "test"]);
    assert_eq!(daemon.terminate(LIMIT), 0, "{}", daemon.log());
    let signed = cage.receiver.received();
    let signed = signed.iter().filter(|it| it.headers.contains_key("webhook-signature"));
    assert!(signed.count() > 1, "{}", daemon.log());
    // The first line is the test's own, and holds what it put into the environment.
    let log = daemon.log();
    write(&cage.site.workspace.path().join("daemon.log"), log.split_once('\n').unwrap().1);

    for (index, received) in cage.receiver.received().into_iter().enumerate() {
        let headers = format!("{:?}", received.headers).into_bytes();
        cage.outputs.insert(format!("webhook {index}"), [received.body, headers].concat());
    }
    for (index, (path, body)) in cage.changer.asked().into_iter().enumerate() {
        cage.outputs.insert(format!("httpreq {index}{path}"), body.into_bytes());
    }
    assert!(cage.site.pebble.requests().count(Endpoint::NewAccount) >= 1);
    cage.check();
}

impl Cage {
    /// Everything that was printed, for whoever reads of a failure.
    fn told(&self) -> String {
        let texts = self.outputs.iter().map(|(name, it)| (name, String::from_utf8_lossy(it)));
        texts.map(|(name, text)| format!("--- {name}\n{text}\n")).collect()
    }

    #[track_caller]
    fn check(mut self) {
        let seen = self.site.workspace.path().join(SEEN);
        let seen_by_programs = fs::read_to_string(&seen).unwrap();
        fs::set_permissions(&seen, fs::Permissions::from_mode(0o600)).unwrap();
        for given in ["RENEWD_CERTIFICATE", "\"type\":\"certificate.renewed\""] {
            assert!(seen_by_programs.contains(given), "{given}: {seen_by_programs}");
        }
        // A DNS program is given its own secret, by its environment alone.
        let dns = seen.with_extension("dns");
        let of_program = fs::read(&dns).unwrap();
        for canary in &mut self.canaries {
            if canary.what == "program.key" {
                assert!(canary.is_in(&of_program));
                fs::set_permissions(&dns, fs::Permissions::from_mode(0o600)).unwrap();
                canary.homes.push(dns.clone());
            }
        }
        self.add_keys();
        assert_eq!(self.leaks(), Vec::<String>::new());

        // The search itself finds what is there, in each form.
        for index in 0..self.canaries.len() {
            let canary = &self.canaries[index];
            let secret = &canary.secret;
            let hidden = [&b"around it: "[..], secret, b", and more"].concat();
            let encoded = BASE64_URL_SAFE_NO_PAD.encode(&hidden);
            let hex: String = hidden.iter().map(|it| format!("{it:02x}")).collect();
            for output in [&hidden[..], encoded.as_bytes(), hex.as_bytes()] {
                assert!(canary.is_in(output), "{} is not found", canary.what);
            }
        }
        let printed: usize = self.outputs.values().map(Vec::len).sum();
        assert!(printed > 50_000, "only {printed} bytes were searched");
    }
}

/// No image of the memory of `pid` is written where the limit is heeded.
#[track_caller]
fn check_undumpable(pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|it| it.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Nobody is called so.
const OWNER: u32 = 54_322;

/// Needs root to become another user, whom the kernel's answer can be seen by.
#[test]
fn the_daemon_leaves_no_core_and_no_other_process_of_its_user_reads_it() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let workspace = Workspace::new();
    let folder = workspace.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
    for name in ["state", "run"] {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(OWNER), Some(OWNER)).unwrap();
    }
    workspace.write_config(
        "[ca.own]\ntype = \"local\"\n[[certificate]]\nname = \"inside\"\nca = \"own\"\n\
         domains = [\"inside.example\"]\n",
    );
    // Where the tree lies that user may not go.
    let copy = folder.join("renewd");
    // By a program: what this process writes, its other children may hold open for a moment.
    let copying = ["cp", env!("CARGO_BIN_EXE_renewd"), copy.to_str().unwrap()];
    let copied = run(&mut program(&copying), LIMIT);
    assert_eq!(copied.code, 0, "{copied}");
    let as_owner = |line: &str| {
        let mut command = program(&["/bin/sh", "-c", line]);
        command.uid(OWNER).gid(OWNER).current_dir(folder);
        command
    };
    let line = format!(
        "ulimit -c $(ulimit -H -c); exec {} -c {} run",
        copy.display(),
        workspace.config_file().display()
    );
    let mut daemon = Running::start("renewd", &mut as_owner(&line), &folder.join("daemon.log"));
    let socket = folder.join("run/control.sock");
    eventually(LIMIT, "the daemon listens", || {
        std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|_no| daemon.log())
    });
    check_undumpable(daemon.pid());
    // What can be dumped belongs to its user in /proc, and else to root.
    let shown = Path::new("/proc").join(daemon.pid().to_string());
    assert_eq!(shown.join("environ").metadata().unwrap().uid(), 0, "{}", daemon.log());
    let status = fs::read_to_string(shown.join("status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{OWNER}\t")), "{status}");
    let read = format!("cat /proc/{}/environ", daemon.pid());
    let read = run(&mut as_owner(&read), LIMIT);
    assert_ne!(read.code, 0, "{read}");
    assert_eq!(daemon.terminate(LIMIT), 0, "{}", daemon.log());
}
