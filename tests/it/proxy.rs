//! An HTTP proxy between renewd and the CA: used, not trusted with more than it needs, and its
//! password nowhere to be read. What is said in plain text on this machine is not said to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Finished, HttpRequests, PowerDns, Workspace, run};

/// The password; nothing else holds these letters.
const PASSWORD: &str = "canary-of-the-proxy";

/// A proxy on loopback that opens tunnels for who has the password.
#[derive(Debug)]
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    heads: Mutex<Vec<String>>,
    tunnels: AtomicUsize,
    /// Whether each tunnel breaks off after its first bytes.
    dies: AtomicBool,
    has_ended: AtomicBool,
}

impl Proxy {
    #[track_caller]
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<Shared> = Arc::default();
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                thread::spawn(move || drop(tunnel(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    fn url(&self, password: &str) -> String {
        format!("http://agent:{password}@{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn tunnel(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    shared.heads.lock().unwrap().push(head.clone());
    // "agent:canary-of-the-proxy", as RFC 7617 has it.
    let login = "Basic YWdlbnQ6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==";
    if !head.contains(login) {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\
              content-length: 0\r\n\r\n",
        );
    }
    let port = head.split_whitespace().nth(1).and_then(|it| it.rsplit_once(':'));
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).unwrap();
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    shared.tunnels.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    if shared.dies.load(Ordering::SeqCst) {
        client.read_exact(&mut byte)?;
        return client.shutdown(Shutdown::Both);
    }
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// N10: everything for the CA goes through it; where it refuses or dies, that is a failure like any
/// other; its password is in no output and no file.
#[test]
fn a_proxy_is_used_may_die_and_its_password_is_nowhere_to_be_read() {
    let site = Site::with(&SiteOptions {
        tls: Tls::Later,
        proof: ProofBy::Listener,
        ..SiteOptions::default()
    });
    let proxy = Proxy::start();
    let mut printed = String::new();
    let mut renew = |password: &str| -> Finished {
        let mut command = site.workspace.command(&["renew", NAME, "--log-level", "debug"]);
        let done = run(command.env("HTTPS_PROXY", proxy.url(password)), LIMIT);
        printed.push_str(&done.to_string());
        done
    };
    assert_eq!(renew("not-the-canary").code, 1);
    proxy.shared.dies.store(true, Ordering::SeqCst);
    let broken = renew(PASSWORD);
    assert_eq!(broken.code, 1, "{broken}");
    assert_eq!(site.status()["error_code"], "acme.unreachable");
    let tunnels = proxy.shared.tunnels.load(Ordering::SeqCst);
    assert!(tunnels > 0, "{broken}");

    proxy.shared.dies.store(false, Ordering::SeqCst);
    let renewed = renew(PASSWORD);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert!(proxy.shared.tunnels.load(Ordering::SeqCst) > tunnels);
    let heads = proxy.shared.heads.lock().unwrap().clone();
    assert!(heads.iter().all(|it| it.starts_with("CONNECT ")), "{heads:?}");

    assert!(!printed.contains("canary"), "{printed}");
    let state = site.workspace.path().join("state");
    let mut grep = crate::support::program(&["grep", "-r", "canary", state.to_str().unwrap()]);
    let found = run(&mut grep, LIMIT);
    assert_eq!(found.code, 1, "{found}");
}

/// N10: plain http to this machine asks no proxy; a client that would ask one is not used.
#[test]
fn credentials_for_this_machine_are_said_to_no_proxy() {
    let (changer, server) = (HttpRequests::start(), PowerDns::start(&[("site.example", "")]));
    let proxy = Proxy::start();
    let (address, key_file) = (server.address(), server.api_key_file());
    let solver = |name: &str, lines: String| {
        format!(
            "[solver.{name}]\ntype = \"dns-01\"\nresolvers = [\"{address}\"]\n\
             nameservers = []\nprovider = \"{name}\"\n{lines}\n"
        )
    };
    let workspace = Workspace::new();
    let own = solver("httpreq", format!("url = \"{}\"", changer.url()));
    let others = format!("url = \"{}\"\nkey_file = {key_file:?}", server.api());
    workspace.write_config(&(own + &solver("pdns", others)));
    let usual = Workspace::new();
    usual.write_config(&solver("pdns", format!("key_file = {key_file:?}")));
    let test_in = |workspace: &Workspace, solver: &str, excepted: &str| {
        let mut command = workspace.command(&["dns", "test", solver, "www.site.example"]);
        command.env("HTTP_PROXY", proxy.url(PASSWORD)).env("ALL_PROXY", proxy.url(PASSWORD));
        run(command.env("NO_PROXY", excepted), LIMIT)
    };
    let test = |solver: &str, excepted: &str| test_in(&workspace, solver, excepted);

    let done = test("httpreq", "");
    assert_eq!((done.code, changer.asked().len()), (0, 2), "{done}");
    let refused = test("pdns", "");
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("NO_PROXY=127.0.0.1"), "{refused}");
    assert!(!refused.to_string().contains("canary"), "{refused}");
    // Its client has a URL where none is written.
    let refused = test_in(&usual, "pdns", "");
    assert!(refused.stderr.contains("NO_PROXY=localhost"), "{refused}");
    let excepted = test("pdns", "127.0.0.1");
    assert_eq!(excepted.code, 0, "{excepted}");
    assert_eq!(proxy.shared.heads.lock().unwrap().len(), 0);
}
