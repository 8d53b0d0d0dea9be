//! The peers themselves work, and leave nothing behind.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Alertmanager, Endpoint, Nginx, NginxOptions, Pebble, PebbleOptions, Running, TlsServer,
    Workspace, curl, eventually, eventually_async, free_port, program, run, self_signed,
    served_certificate, served_serial, txt_values, write,
};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn pebble_answers_through_its_root_and_nobody_elses() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let root = pebble.root_file();

    let directory = curl(&["--cacert", root.to_str().unwrap(), &pebble.directory()]).unwrap();
    let directory: serde_json::Value = serde_json::from_str(&directory).unwrap();
    assert!(directory["newOrder"].is_string(), "{directory}");
    assert_eq!(directory["meta"]["profiles"]["short"], "short", "{directory}");
    assert!(curl(&[&pebble.directory()]).is_err(), "trusted without its root");
    assert!(pebble.root_pem().contains("BEGIN CERTIFICATE"));
    assert!(pebble.issuer_root_pem().contains("BEGIN CERTIFICATE"));
    assert_ne!(pebble.root_pem(), pebble.issuer_root_pem());
}

#[test]
fn pebble_counts_what_it_is_asked() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let before = pebble.requests();
    let root = pebble.root_file();

    for _ in 0..3 {
        curl(&["--cacert", root.to_str().unwrap(), &pebble.directory()]).unwrap();
    }

    let asked = || {
        let more = pebble.requests().count(Endpoint::Directory) - before.count(Endpoint::Directory);
        if more == 3 { Ok(()) } else { Err(pebble.log()) }
    };
    eventually(LIMIT, "three requests are in the log", asked);
    assert_eq!(pebble.requests().order_flow(), 0);
    assert_eq!(pebble.requests().count(Endpoint::Other), before.count(Endpoint::Other));
}

#[test]
fn pebble_takes_every_option() {
    let options = PebbleOptions {
        nonce_reject: 20,
        authorization_reuse: 100,
        validation_sleep: 1,
        always_valid: true,
        strict: true,
        external_account_binding: Some((
            "kid-1".into(),
            "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0".into(),
        )),
        alternate_roots: 1,
        ..PebbleOptions::default()
    };
    let (http_port, tls_port) = (options.http_port, options.tls_port);
    let pebble = Pebble::start(&options);

    assert_eq!((pebble.http_port(), pebble.tls_port()), (http_port, tls_port));
    assert!(pebble.log().contains("reject 20% of good nonces"), "{}", pebble.log());
    assert!(pebble.management("roots/1").contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_paused_pebble_does_not_answer_until_it_is_resumed() {
    let mut pebble = Pebble::start(&PebbleOptions::default());
    let (root, directory) = (pebble.root_file(), pebble.directory());
    let ask = |limit| curl(&["--cacert", root.to_str().unwrap(), "--max-time", limit, &directory]);

    pebble.pause();
    assert!(ask("1").is_err());
    pebble.resume();
    assert!(ask("30").is_ok());
}

#[test]
fn its_dns_server_serves_what_it_is_told() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let record = json!({ "host": "_acme-challenge.example.com.", "value": "proof" });
    pebble.tell_dns("set-txt", &record);
    let values = txt_values(pebble.dns_server(), "_acme-challenge.example.com");
    assert!(values.iter().any(|it| it.contains("proof")), "{values:?}");
}

#[test]
fn nginx_serves_a_certificate_that_openssl_sees() {
    let nginx = Nginx::start(&NginxOptions::default());

    let serial = served_serial(nginx.https(), Some("localhost")).unwrap();
    assert!(!serial.is_empty() && serial.bytes().all(|it| it.is_ascii_hexdigit()), "{serial}");
    assert_eq!(served_serial(nginx.https(), None), Some(serial));
    let leaf = served_certificate(nginx.https(), None).unwrap();
    assert!(leaf.starts_with("-----BEGIN CERTIFICATE-----\n"), "{leaf}");
    assert_eq!(served_serial(nginx.http(), None), None, "the plain listener has no certificate");
}

#[test]
fn nginx_serves_a_replaced_certificate_after_a_reload_by_the_same_master() {
    let workspace = Workspace::new();
    let [fullchain, privkey] = ["site.pem", "site.key"].map(|it| workspace.path().join(it));
    self_signed("site.example", &fullchain, &privkey);
    let names = vec!["site.example".to_owned()];
    let server =
        TlsServer { names, fullchain: fullchain.clone(), privkey: privkey.clone(), second: None };
    let nginx = Nginx::start(&NginxOptions { servers: vec![server], ..NginxOptions::default() });
    let first = served_serial(nginx.https(), Some("site.example")).unwrap();
    let master = nginx.master_pid();

    self_signed("site.example", &fullchain, &privkey);
    assert_eq!(served_serial(nginx.https(), Some("site.example")).unwrap(), first);
    let done = run(&mut program(&nginx.reload_command()), LIMIT);
    assert_eq!(done.code, 0, "{done}");

    eventually(LIMIT, "the new certificate is served", || {
        let served = served_serial(nginx.https(), Some("site.example"));
        if served.as_ref().is_some_and(|it| *it != first) { Ok(()) } else { Err(served) }
    });
    assert_eq!(nginx.master_pid(), master);
    let pid = std::fs::read_to_string(nginx.pid_file()).unwrap();
    assert_eq!(pid.trim(), master.to_string());
}

#[test]
fn a_broken_nginx_configuration_fails_its_test_and_not_the_running_server() {
    let nginx = Nginx::start(&NginxOptions::default());
    let test = || run(&mut program(&nginx.test_command()), LIMIT);
    assert_eq!(test().code, 0, "{}", test());

    nginx.break_config();
    let broken = test();
    assert_ne!(broken.code, 0);
    assert!(broken.stderr.contains("no_such_directive"), "{broken}");
    assert_ne!(run(&mut program(&nginx.reload_command()), LIMIT).code, 0);
    assert!(served_serial(nginx.https(), None).is_some(), "{}", nginx.log());

    nginx.repair_config();
    assert_eq!(test().code, 0, "{}", test());
}

#[test]
fn nginx_serves_challenges_where_pebble_looks_for_them() {
    let port = free_port();
    let own = Nginx::start(&NginxOptions { http_port: Some(port), ..NginxOptions::default() });
    assert_eq!(own.http().port(), port);
    write(&own.webroot().join(".well-known/acme-challenge/token"), "in the webroot");

    let workspace = Workspace::new();
    workspace.write("challenges/token", "in the folder");
    let challenges = Some(workspace.path().join("challenges"));
    let shared = Nginx::start(&NginxOptions { challenges, ..NginxOptions::default() });

    let ask = |nginx: &Nginx| {
        curl(&[&format!("http://{}/.well-known/acme-challenge/token", nginx.http())])
    };
    assert_eq!(ask(&own).unwrap(), "in the webroot");
    assert_eq!(ask(&shared).unwrap(), "in the folder");
}

#[test]
fn alertmanager_holds_the_alerts_that_it_is_sent() {
    let alertmanager = Alertmanager::start();
    assert_eq!(alertmanager.alerts(), Vec::<serde_json::Value>::new());

    let alert = json!([{ "labels": { "alertname": "CertificateExpiring" } }]);
    let url = format!("{}/api/v2/alerts", alertmanager.url());
    curl(&["--header", "content-type: application/json", "--data", &alert.to_string(), &url])
        .unwrap();

    let alerts = eventually(LIMIT, "the alert is held", || match alertmanager.alerts() {
        alerts if alerts.len() == 1 => Ok(alerts),
        alerts => Err(alerts),
    });
    assert_eq!(alerts[0]["labels"]["alertname"], "CertificateExpiring");
}

#[test]
fn peers_leave_no_process_behind() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let nginx = Nginx::start(&NginxOptions::default());
    let workers = eventually(LIMIT, "nginx has a worker", || {
        Some(nginx.worker_pids()).filter(|it| !it.is_empty()).ok_or("none")
    });
    let pids = [workers, vec![pebble.pid(), nginx.master_pid()]].concat();
    assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");

    drop(pebble);
    drop(nginx);

    eventually(LIMIT, "all have ended", || match pids.iter().find(|pid| lives(**pid)) {
        None => Ok(()),
        Some(pid) => Err(pid),
    });
}

/// Whether there is a process `pid` that is not only waiting to be reaped.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

#[test]
fn a_running_program_ends_by_signal_by_kill_and_by_itself() {
    let workspace = Workspace::new();
    let log = workspace.path().join("log");
    let start = |script: &str| Running::start("sh", &mut program(&["sh", "-c", script]), &log);

    let mut patient = start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done");
    eventually(LIMIT, "the trap is set", || {
        if patient.log().contains("\nready") { Ok(()) } else { Err(patient.log()) }
    });
    assert_eq!(patient.ended(), None);
    assert_eq!(patient.terminate(LIMIT), 7);

    let mut deaf = start("trap '' TERM; sleep 600");
    deaf.kill();
    assert_eq!(deaf.wait(LIMIT), -1);

    let mut asleep = start("exec sleep 600");
    asleep.signal(Signal::INT);
    assert_eq!(asleep.wait(LIMIT), -1);
    assert_eq!(start("exit 3").wait(LIMIT), 3);
}

#[test]
fn a_workspace_holds_configuration_and_secrets_and_runs_the_program() {
    use std::os::unix::fs::PermissionsExt;

    let workspace = Workspace::default();
    workspace.write_config("terms_of_service_agreed = true\n");
    let config = std::fs::read_to_string(workspace.config_file()).unwrap();
    assert!(config.ends_with("terms_of_service_agreed = true\n"), "{config}");
    assert!(workspace.certificate("site").ends_with(Path::new("state/certs/site")));

    let secret = workspace.write_secret("hook.key", "secret", 0o600);
    assert_eq!(std::fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);

    let done = workspace.renewd(&["--help"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done}");
    assert_eq!(workspace.spawn(&["--help"]).wait(LIMIT), 0);
}

#[tokio::test]
async fn waiting_beside_a_task_lets_it_run() {
    let task = tokio::spawn(async { 5 });
    eventually_async(LIMIT, "the task is done", async || {
        if task.is_finished() { Ok(()) } else { Err("running") }
    })
    .await;
    assert_eq!(task.await.unwrap(), 5);
}

#[test]
#[should_panic(expected = "not within 0ns: pigs fly; last: \"on the ground\"")]
fn waiting_in_vain_says_for_what_and_how_it_stands() {
    eventually(Duration::ZERO, "pigs fly", || Err::<(), _>("on the ground"));
}
