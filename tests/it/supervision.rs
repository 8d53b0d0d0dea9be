//! What a service manager hears of the real daemon, and what `systemctl reload` would see.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::site::{LIMIT, NAME, ProofBy, Site, SiteOptions, Tls};
use crate::support::{Endpoint, Running, Supervisor, curl, eventually, program, write};

/// Long enough for a machine that is busy with other tests.
const WATCHDOG: Duration = Duration::from_secs(16);

/// Starts the daemon of `site` for `supervisor`.
#[track_caller]
fn supervised(site: &Site, supervisor: &Supervisor) -> Running {
    let mut command = site.workspace.command(&["run"]);
    supervisor.supervise(&mut command, WATCHDOG);
    Running::start("renewd", &mut command, &site.workspace.path().join("renewd.log"))
}

#[test]
fn a_daemon_tells_of_its_start_its_life_its_reloads_and_its_end() {
    let site = Site::start();
    let mut supervisor = Supervisor::new(site.workspace.path());
    let mut daemon = supervised(&site, &supervisor);

    supervisor.await_message(LIMIT, "READY=1\nSTATUS=");
    // Ready means that it can be asked.
    let socket = site.workspace.path().join("run/control.sock");
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    supervisor.await_message(LIMIT, "STATUS=1 certificate, 1 served, next at ");
    for _ in 0..2 {
        supervisor.await_message(WATCHDOG, "WATCHDOG=1");
    }

    let config = site.workspace.config_file();
    let good = std::fs::read_to_string(&config).unwrap();
    write(&config, good.replace("domains", "hosts"));
    daemon.signal(Signal::HUP);
    let begun = supervisor.await_message(LIMIT, "RELOADING=1\nMONOTONIC_USEC=");
    assert!(!begun.contains("READY"), "{begun}");
    let refused = supervisor.await_message(LIMIT, "READY=1\n");
    assert!(refused.contains("the configuration was refused"), "{refused}");

    write(&config, &good);
    daemon.signal(Signal::HUP);
    supervisor.await_message(LIMIT, "RELOADING=1\n");
    eventually(LIMIT, "the refusal is over", || {
        let told = supervisor.await_message(LIMIT, "STATUS=");
        if told.contains("refused") { Err(told) } else { Ok(()) }
    });

    daemon.signal(Signal::TERM);
    let last = supervisor.await_message(LIMIT, "STOPPING=1\nSTATUS=");
    assert!(last.contains("ending"), "{last}");
    assert_eq!(daemon.wait(Duration::from_secs(20)), 0, "{}", daemon.log());
    assert!(!supervisor.heard().iter().any(|it| it.contains("READY")));
}

#[test]
fn a_reload_succeeds_when_it_is_in_force_and_says_what_is_wrong_when_it_is_not() {
    let site = Site::start();
    let config = site.workspace.config_file();
    let good = std::fs::read_to_string(&config).unwrap();
    let mut daemon = site.daemon();
    site.await_condition("served");
    let orders = site.pebble.requests().count(Endpoint::NewOrder);

    write(&config, good.replace("domains", "hosts"));
    let refused = site.renewd(&["reload"]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr.contains("renewd.toml:"), "{refused}");
    assert!(refused.stderr.contains("hosts"), "{refused}");
    assert_eq!(daemon.ended(), None);

    // A part that is refused is no success either, and the rest is in force.
    site.workspace.write("conf.d/tenant.toml", "[[certificate]]\nhosts = [\"tenant.example\"]\n");
    write(&config, format!("include = [\"conf.d/*.toml\"]\n{good}"));
    let partly = site.renewd(&["reload"]);
    assert_eq!(partly.code, 3, "{partly}");
    assert!(partly.stderr.contains("tenant.toml:2"), "{partly}");
    // Nor is all well for a timer that has the daemon look at all there is; at one, it is.
    let all = site.renewd(&["renew"]);
    assert_eq!(all.code, 1, "{all}");
    assert!(all.stderr.contains("tenant.toml:2"), "{all}");
    let one = site.renewd(&["renew", NAME]);
    assert_eq!(one.code, 0, "{one}");

    site.workspace.write(
        "conf.d/tenant.toml",
        "[[certificate]]\nname = \"tenant\"\ndomains = [\"tenant.example\"]\ntargets = []\n",
    );
    let accepted = site.renewd(&["reload"]);
    assert_eq!(accepted.code, 0, "{accepted}");
    assert!(accepted.stdout.contains("2 certificates"), "{accepted}");
    let plan = site.renewd(&["plan", "tenant"]);
    assert_eq!(plan.code, 0, "in force is known at once: {plan}");

    let status = site.status();
    assert_eq!(status["name"], NAME, "{status:#}");
    let requests = site.pebble.requests();
    assert!(requests.count(Endpoint::NewOrder) <= orders + 1, "{requests:#?}");

    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    let nobody = site.renewd(&["reload"]);
    assert_eq!(nobody.code, 1, "{nobody}");
    assert!(nobody.stderr.contains("no daemon listens on"), "{nobody}");
}

#[test]
fn a_port_that_was_handed_over_shows_proofs_and_is_answered_all_the_time() {
    let options =
        SiteOptions { proof: ProofBy::Listener, tls: Tls::Later, ..SiteOptions::default() };
    let site = Site::with(&options);
    let socket = TcpListener::bind(("127.0.0.1", site.pebble.http_port())).unwrap();
    let address = socket.local_addr().unwrap();
    // As systemd does it: the socket is number 3, and the variables name this very process.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run";
    let renewd = site.workspace.command(&[]).get_program().to_owned();
    let mut command = program(&["sh".as_ref(), "-c".as_ref(), script.as_ref(), renewd.as_os_str()]);
    command.current_dir(site.workspace.path()).env("RENEWD_CONFIG", site.workspace.config_file());
    let handed: OwnedFd = socket.try_clone().unwrap().into();
    let log = site.workspace.path().join("renewd.log");
    let mut daemon = Running::start_with("renewd", &mut command, &log, Stdio::from(handed));

    site.await_condition("held");
    let answer = || {
        let url = format!("http://{address}/.well-known/acme-challenge/abc");
        curl(&["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &url])
    };
    let answered = answer().unwrap_or_else(|error| error);
    assert!(answered.contains("404"), "{answered}");
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    // It was not ours to close.
    let _waiting = std::net::TcpStream::connect(address).unwrap();
    socket.accept().unwrap();
}
