//! The daemon: renews by itself, starts on placeholders, repairs, reloads, and goes on after
//! trouble.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use renewd::sys::clock::{Clock, SystemClock};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{LIMIT, NAME, Site, SiteOptions, Tls, target};
use crate::support::{
    Endpoint, PebbleOptions, Workspace, curl_as, eventually, served_certificate, write,
};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

fn short_lived() -> SiteOptions {
    SiteOptions { certificate: "profile = \"short\"\n".into(), ..SiteOptions::default() }
}

/// Probes nginx every 200 ms for `span`, and returns the serial numbers it served in their order.
#[track_caller]
fn probe_for(site: &Site, span: Duration) -> Vec<String> {
    let interval = Duration::from_millis(200);
    let rounds = span.as_millis() / interval.as_millis();
    let mut serials: Vec<String> = Vec::new();
    for round in 0..rounds {
        let serial = site.served_serial_now();
        let serial = serial.unwrap_or_else(|| panic!("handshake {round} failed after {serials:?}"));
        if serials.last() != Some(&serial) {
            serials.push(serial);
        }
        eventually(interval * 2, "an interval passes", ticks(interval));
    }
    serials
}

/// For [`eventually`]: done after `span`.
fn ticks(span: Duration) -> impl FnMut() -> Result<(), Duration> {
    let mut waited = Duration::ZERO;
    move || {
        waited += Duration::from_millis(50);
        if waited >= span { Ok(()) } else { Err(waited) }
    }
}

#[test]
fn a_certificate_of_30_seconds_is_renewed_again_and_again_without_a_failed_handshake() {
    let site = Site::with(&short_lived());
    let daemon = site.daemon();
    site.await_condition("served");
    let master = site.nginx().master_pid();

    let serials = probe_for(&site, Duration::from_secs(120));

    assert!(
        serials.len() >= 5,
        "only {} certificates in two minutes: {serials:?}\n{}",
        serials.len(),
        daemon.log()
    );
    assert_eq!(site.nginx().master_pid(), master);
    let status = site.status();
    assert_eq!(status["health"], "ok", "{status:#}");
}

#[test]
fn nginx_starts_on_the_placeholder_and_gets_the_real_certificate_through_itself() {
    let mut site = Site::with(&SiteOptions { tls: Tls::Later, ..SiteOptions::default() });
    let mut daemon = site.daemon();
    let fullchain = site.workspace.certificate(NAME).join("current/fullchain.pem");
    eventually(LIMIT, "the placeholder is there", || {
        if fullchain.exists() { Ok(()) } else { Err(site.status()) }
    });
    assert_eq!(site.current().as_deref(), Some("placeholder"));

    // Nobody shows the proofs yet, so the first order fails; the placeholder is enough for nginx.
    site.start_nginx(Some(site.pebble.http_port()));
    let first = served_certificate(site.nginx().https(), Some("site.example")).unwrap();
    assert!(!first.is_empty());
    let placeholder = site.served_serial().unwrap();

    // The operator adds the server, and asks for it now; the daemon need not be restarted.
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    let config = config.replace("targets = []", "targets = [\"nginx\"]");
    let config = config.replacen("[ca.lab]", &format!("{}[ca.lab]", target(site.nginx())), 1);
    write(&site.workspace.config_file(), &config);
    let reloaded = site.renewd(&["reload"]);
    assert_eq!(reloaded.code, 0, "{reloaded}\n{}", daemon.log());
    let renewed = site.renewd(&["renew", NAME]);
    assert_eq!(renewed.code, 0, "{renewed}\n{}", daemon.log());

    let status = site.await_condition("served");
    let serial = site.served_serial().unwrap();
    assert_ne!(serial, placeholder);
    assert_eq!(status["serial"], serial.as_str());
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

/// P07: the server's configuration is broken by others.
#[test]
fn a_broken_nginx_is_not_reloaded_and_served_by_itself_once_repaired() {
    let site = Site::start();
    let mut daemon = site.daemon();
    site.await_condition("served");
    let before = site.served_serial().unwrap();

    site.nginx().break_config();
    let forced = site.renewd(&["renew", "--force", NAME]);
    assert_eq!(forced.code, 1, "{forced}");
    let status = site.status();
    assert_eq!(status["condition"], "not_served", "{status:#}");
    let target = &status["targets"][0];
    assert_eq!(target["state"], "failed", "{status:#}");
    let words = target["last_error"].as_str().unwrap_or_default();
    assert!(words.contains("[emerg]"), "nginx's own words are missing: {words}");
    assert_eq!(site.served_serial().as_ref(), Some(&before), "nginx keeps serving");

    site.nginx().repair_config();
    let status = site.await_condition("served");
    let serial = site.served_serial().unwrap();
    assert_ne!(serial, before);
    assert_eq!(status["serial"], serial.as_str());
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
}

#[test]
fn files_that_somebody_removed_are_put_back_without_a_new_order() {
    let site = Site::start();
    let daemon = site.daemon();
    site.await_condition("served");
    let orders = site.pebble.requests().count(Endpoint::NewOrder);

    let current = site.workspace.certificate(NAME).join("current");
    std::fs::remove_file(current.join("chain.pem")).unwrap();
    std::fs::remove_file(&current).unwrap();

    eventually(LIMIT, "the files are back", || {
        let is_back = current.join("chain.pem").exists() && current.join("privkey.pem").exists();
        if is_back { Ok(()) } else { Err(daemon.log()) }
    });
    assert_eq!(site.pebble.requests().count(Endpoint::NewOrder), orders);
}

#[test]
fn a_faulty_configuration_is_refused_and_the_old_one_stays_in_force() {
    let site = Site::start();
    let mut daemon = site.daemon();
    site.await_condition("served");
    let good = std::fs::read_to_string(site.workspace.config_file()).unwrap();

    write(&site.workspace.config_file(), good.replace("domains", "hosts"));
    daemon.signal(Signal::HUP);
    let notices = |code: &'static str| {
        let site = &site;
        move || {
            let shown = std::fs::read(site.workspace.path().join("run/status.json"));
            let document: Value =
                serde_json::from_slice(&shown.unwrap_or_default()).unwrap_or(Value::Null);
            let notices = document["notices"].as_array().cloned().unwrap_or_default();
            if !notices.iter().any(|it| it["code"] == code) {
                return Err(document);
            }
            let kept = &document["certificates"][0];
            assert_eq!(kept["domains"][0], "site.example", "the old one stays: {document:#}");
            assert_eq!(kept["condition"], "served", "{document:#}");
            Ok(())
        }
    };
    eventually(LIMIT, "the refusal is shown", notices("config.rejected"));
    let checked = site.renewd(&["check"]);
    assert_eq!(checked.code, 3, "{checked}");
    assert!(checked.stderr.contains("renewd.toml:"), "{checked}");
    assert_eq!(daemon.ended(), None);

    write(&site.workspace.config_file(), good.replace("site.example", "new.example"));
    daemon.signal(Signal::HUP);
    eventually(LIMIT, "the new name is served", || {
        let status = site.status();
        let is_new = status["domains"][0] == "new.example" && status["condition"] == "served";
        if is_new { Ok(()) } else { Err(status) }
    });
}

/// P01: two agents on one store; a command beside a daemon.
#[test]
fn a_second_writer_waits_and_says_so() {
    let site = Site::start();
    let daemon = site.daemon();
    site.await_condition("served");
    let begun = SystemClock::new();
    let refused = crate::support::run(&mut site.workspace.command(&["run"]), LIMIT);
    assert_eq!(refused.code, 4, "{refused}");
    assert!(begun.monotonic() >= Duration::from_secs(50), "it did not wait: {refused}");
    let holder = daemon.pid().to_string();
    let said = &refused.stderr;
    assert!(said.contains(&holder) && said.contains("hint: "), "{holder}: {refused}");
}

/// H04, H09, H11: huge and nested bodies, other content types, settings of the caller's own.
#[test]
fn the_control_socket_refuses_what_it_does_not_know() {
    let site = Site::start();
    let _daemon = site.daemon();
    site.await_condition("served");
    let socket = site.workspace.path().join("run/control.sock");
    let ask = |arguments: &[&str]| {
        let mut all = vec![
            "--unix-socket",
            socket.to_str().unwrap(),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ];
        all.extend(arguments);
        // curl fails on an error status; what it printed is the status all the same.
        crate::support::curl(&all).unwrap_or_else(|error| error)
    };
    let large = "x".repeat(70 * 1024);
    let json = ["-H", "content-type: application/json", "-d"];
    let renew = "http://localhost/v1/renew";
    assert!(ask(&["http://localhost/v1/keys"]).contains("404"));
    assert!(ask(&[json[0], json[1], json[2], &large, renew]).contains("413"));
    assert!(ask(&["-d", "{}", renew]).contains("415"));
    let unsized_body = ["-H", "transfer-encoding: chunked"];
    let large_and_unsized = [unsized_body[0], unsized_body[1], json[0], json[1], json[2], &large];
    assert!(ask(&[large_and_unsized.as_slice(), &[renew]].concat()).contains("413"));
    assert!(ask(&[json[0], json[1], json[2], &"[".repeat(60_000), renew]).contains("422"));
    for foreign in ["\"directory\":\"https://evil.example/\"", "\"program\":[\"/bin/sh\"]"] {
        let body = format!("{{\"names\":[],{foreign}}}");
        assert!(ask(&[json[0], json[1], json[2], &body, renew]).contains("422"), "{foreign}");
    }
    assert!(ask(&[json[0], json[1], json[2], "{\"names\":[\"../x\"]}", renew]).contains("422"));
    assert!(ask(&[json[0], json[1], json[2], "{\"names\":[\"other\"]}", renew]).contains("404"));
    eventually(HALF_A_SECOND, "the daemon still answers", || match site.status() {
        Value::Null => Err(()),
        _ => Ok(()),
    });
}

/// H01: no credential, a wrong or an old one.
#[test]
fn a_stranger_whom_the_sockets_mode_lets_in_is_refused_and_changes_nothing() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let workspace = Workspace::new();
    let certificate = "[[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\n";
    workspace.write_config(&format!(
        "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n{certificate}targets = []\n"
    ));
    let daemon = workspace.spawn(&["run"]);
    let status = || {
        let shown = workspace.renewd(&["status", "--json"]).stdout;
        let document: Value = serde_json::from_str(&shown).unwrap_or(Value::Null);
        document["certificates"][0].clone()
    };
    let held = eventually(LIMIT, "it is held", || match status() {
        status if status["condition"] == "held" => Ok(status),
        status => Err(status),
    });
    // As somebody's hand may leave it.
    let run = workspace.path().join("run");
    let socket = run.join("control.sock");
    for (path, mode) in [(workspace.path(), 0o711), (&*run, 0o755), (&*socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let nobody = 65_534;
    let renew = r#"{"names":["site"],"force":true}"#;
    let revoke = r#"{"name":"site","request":{"reason":"superseded"}}"#;
    let account = r#"{"ca":"inside","action":"show"}"#;
    for (path, body) in [
        ("status", None),
        ("nothing", None),
        ("plan", Some(renew)),
        ("renew", Some(renew)),
        ("revoke", Some(revoke)),
        ("account", Some(account)),
        ("alert-test", Some("{}")),
        ("reload", Some("{}")),
    ] {
        let url = format!("http://localhost/v1/{path}");
        let mut args = vec![url.as_str()];
        args.extend(body.iter().flat_map(|it| ["-H", "content-type: application/json", "-d", it]));
        let (code, said) = curl_as(nobody, &socket, &args).unwrap();
        assert_eq!(code, "403", "{path}: {said}");
        assert!(said.contains("\"forbidden\"") && !said.contains("site"), "{path}: {said}");
    }
    let refused = daemon.log().matches("refused a user who is no administrator").count();
    assert_eq!(refused, 8, "{}", daemon.log());
    let after = status();
    for key in ["serial", "generation", "condition", "revocation"] {
        assert_eq!(after[key], held[key], "{after:#}");
    }
    let (code, said) = curl_as(0, &socket, &["http://localhost/v1/status"]).unwrap();
    assert!(code == "200" && said.contains("site"), "{code}: {said}");
}

#[test]
fn installed_files_that_somebody_changed_are_put_right_and_loaded() {
    let installed = Workspace::new();
    let folder = installed.path().join("tls");
    std::fs::create_dir(&folder).unwrap();
    let (chain, key) = (folder.join("site.pem"), folder.join("site.key"));
    let tables = format!(
        "[target.files]\ntype = \"command\"\nverify = []\n\
         reload = {{ command = [\"/bin/sh\", \"-c\", \"echo reloaded >> {}/reloads\"] }}\n\
         install = [{{ file = \"fullchain\", path = {chain:?} }}, {{ file = \"privkey\", path = {key:?} }}]\n",
        installed.path().display()
    );
    // Looked at every 30 seconds, and not renewed meanwhile.
    let pebble = PebbleOptions {
        profiles: vec![("default".into(), Duration::from_mins(10))],
        ..PebbleOptions::default()
    };
    let site =
        Site::with(&SiteOptions { tls: Tls::Later, pebble, tables, ..SiteOptions::default() });
    let config = std::fs::read_to_string(site.workspace.config_file()).unwrap();
    write(&site.workspace.config_file(), config.replace("targets = []", "targets = [\"files\"]"));
    let mut nobody = site;
    nobody.start_nginx(Some(nobody.pebble.http_port()));
    let site = nobody;

    let daemon = site.daemon();
    site.await_condition("held");
    let reloads = || {
        std::fs::read_to_string(installed.path().join("reloads"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    let before = reloads();
    assert!(before > 0, "{}", daemon.log());
    write(&chain, "edited by hand");
    eventually(LIMIT, "the chain is put right", || {
        let content = std::fs::read_to_string(&chain).unwrap();
        if content.contains("BEGIN CERTIFICATE") { Ok(()) } else { Err(daemon.log()) }
    });
    eventually(LIMIT, "the server was told", || {
        if reloads() > before { Ok(()) } else { Err(daemon.log()) }
    });
    let log = daemon.log();
    assert!(log.contains("the files of the target files were not as they had been put"), "{log}");

    // What can't be put right is a failure, and no silence.
    std::fs::remove_dir_all(&folder).unwrap();
    eventually(LIMIT, "the target fails", || {
        let status = site.status();
        let target = &status["targets"][0];
        let is_told = target["state"] == "failed" && target["error_code"] == "deploy.install";
        if is_told { Ok(()) } else { Err(status) }
    });
}

/// P02: told to end during an order, a program, a write.
#[test]
fn the_end_is_in_time_and_clean_during_an_order_with_a_peer_on_the_socket() {
    let options = SiteOptions {
        pebble: PebbleOptions { validation_sleep: 8, ..PebbleOptions::default() },
        ..SiteOptions::default()
    };
    let mut site = Site::with(&options);
    let mut daemon = site.daemon();
    let proofs = site.workspace.path().join("run/acme-challenge");
    let shown = || std::fs::read_dir(&proofs).map(Iterator::count).unwrap_or_default();
    eventually(LIMIT, "a proof is shown", || match shown() {
        0 => Err(daemon.log()),
        count => Ok(count),
    });
    // So that the order does not come to its end by itself.
    site.pebble.pause();
    let socket = site.workspace.path().join("run/control.sock");
    // It never finishes its request.
    let mut idler = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut idler, b"GET /v1/sta").unwrap();

    assert_eq!(shown(), 1, "{}", daemon.log());
    assert_eq!(daemon.terminate(Duration::from_secs(20)), 0, "{}", daemon.log());
    assert!(!socket.exists());
    assert_eq!(shown(), 0, "a proof was left behind");

    site.pebble.resume();
    let _next = site.daemon();
    site.await_condition("served");
}

#[test]
fn a_daemon_whose_socket_cannot_be_made_says_so_and_ends() {
    let site = Site::with(&SiteOptions { tls: Tls::Later, ..SiteOptions::default() });
    let socket = site.workspace.path().join("run/control.sock");
    std::fs::create_dir_all(socket.join("in the way")).unwrap();
    let refused = site.renewd(&["run"]);
    assert_eq!(refused.code, 5, "{refused}");
    assert!(refused.stderr.contains("hint:"), "{refused}");
}
