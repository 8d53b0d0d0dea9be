//! What a receiver of each kind is told, and which receiver of what.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{AlertSettings, Alerts, Channel, ReceiverSettings};
use super::{Heard, Memory, Receiver, SECRET, in_trouble, receiver, settings, world};
use crate::model::{CertificateStatus, Health, Secret, StatusDocument};
use crate::observe::alert::testing::{DAY, served, status};
use crate::sys::clock::SystemClock;

/// W06: messages replayed, forged; secrets in them.
#[tokio::test]
async fn a_webhook_is_signed_so_that_the_reference_library_verifies_it() {
    let hook = Receiver::answering(&[]).await;
    // That library compares with the time of day.
    let clock = Arc::new(SystemClock::new());
    let outbox = Arc::new(Memory::default());
    let all = settings(vec![receiver("hook", hook.webhook())]);
    let alerts = Alerts::new(all, outbox, clock, "web1".into(), Arc::new(Heard::default()));
    alerts.pass(&in_trouble(&["api"])).await;
    alerts.deliver().await;

    let received = hook.received();
    let [request] = received.as_slice() else { panic!("{received:?}") };
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    theirs.verify(&request.body, &request.headers).unwrap();
    let body = request.json();
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        (&body["type"], &body["data"]["certificate"]),
        (&"renewal.failed".into(), &"api".into())
    );
    let data = body["data"].as_object().unwrap();
    for field in [
        "severity",
        "dedup_key",
        "title",
        "host",
        "certificate",
        "target",
        "since",
        "attempts",
        "not_after",
        "next_attempt_at",
        "error_code",
        "hint",
        "command",
    ] {
        assert!(data.contains_key(field), "{field}");
    }
    assert_eq!(data["command"], "renewd status api");
    assert_eq!(data["severity"], "warning");
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let hook = Receiver::answering(&[]).await;
    let Channel::Webhook { url, .. } = hook.webhook() else { unreachable!() };
    let channel = Channel::Webhook { url, secret: None };
    let world = world(vec![receiver("hook", channel)], Arc::default());
    world.alerts.pass(&in_trouble(&["api"])).await;
    world.alerts.deliver().await;
    let received = hook.received();
    assert!(received[0].headers.contains_key("webhook-id"));
    assert!(!received[0].headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn a_unit_that_failed_is_told_to_those_who_hear_of_warnings() {
    let (hook, critical) = (Receiver::answering(&[]).await, Receiver::answering(&[]).await);
    let manager = Receiver::answering(&[]).await;
    let url = Secret::new(format!("http://{}/", manager.address));
    let world = world(
        vec![
            receiver("hook", hook.webhook()),
            receiver("manager", Channel::Alertmanager { url }),
            ReceiverSettings {
                min_severity: Health::Critical,
                ..receiver("critical", critical.webhook())
            },
        ],
        Arc::default(),
    );
    let results = world.alerts.unit_failed("renewd.service", "systemd says watchdog").await;
    let told: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told, ["hook", "manager"]);
    assert!(results.iter().all(|(_, it)| it.is_ok()), "{results:?}");
    let body = String::from_utf8(hook.received()[0].body.clone()).unwrap();
    for part in ["agent.degraded", "agent.unit_failed", "renewd.service failed", "watchdog"] {
        assert!(body.contains(part), "{body}");
    }
    let alerts = String::from_utf8(manager.received()[0].body.clone()).unwrap();
    assert!(alerts.contains("RenewdAgentDegraded"), "{alerts}");
    assert_eq!(critical.received().len(), 0);
}

#[tokio::test]
async fn each_receiver_hears_what_it_asked_for() {
    let (all, critical) = (Receiver::answering(&[]).await, Receiver::answering(&[]).await);
    let world = world(
        vec![
            ReceiverSettings { tell_renewed: true, ..receiver("all", all.webhook()) },
            ReceiverSettings {
                min_severity: Health::Critical,
                ..receiver("critical", critical.webhook())
            },
        ],
        Arc::default(),
    );
    let renewed = CertificateStatus {
        sha256: Some("cd".repeat(32).try_into().unwrap()),
        ..served("api", DAY, 90 * DAY)
    };
    for certificate in
        [served("api", 70 * DAY, 90 * DAY), served("api", 91 * DAY, 90 * DAY), renewed]
    {
        world.alerts.pass(&status(vec![certificate])).await;
    }
    world.alerts.deliver().await;
    let types = |hook: &Receiver| -> Vec<String> {
        let mut types: Vec<String> = hook
            .received()
            .iter()
            .map(|it| it.json()["type"].as_str().unwrap().to_owned())
            .collect();
        types.sort();
        types
    };
    assert_eq!(
        types(&all),
        [
            "alert.resolved",
            "alert.resolved",
            "certificate.expired",
            "certificate.expiring",
            "certificate.renewed"
        ]
    );
    assert_eq!(types(&critical), ["alert.resolved", "certificate.expired"]);
}

#[tokio::test]
async fn a_program_gets_the_message_on_its_input_and_the_rest_in_its_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("told");
    let script = "{ cat; echo; echo $RENEWD_ALERT_TYPE $RENEWD_ALERT_SEVERITY \
                  $RENEWD_ALERT_CERTIFICATE; } > \"$0\"";
    let arguments =
        ["sh", "-c", script, path.to_str().unwrap()].iter().map(ToString::to_string).collect();
    let channel = Channel::Command { arguments, timeout: Duration::from_secs(30) };
    let world = world(vec![receiver("program", channel)], Arc::default());
    world.alerts.pass(&in_trouble(&["api"])).await;
    world.alerts.deliver().await;
    assert_eq!(world.heard.failures(), []);
    let told = std::fs::read_to_string(path).unwrap();
    let (body, environment) = told.trim_end().split_once('\n').unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], "renewal.failed");
    assert_eq!(environment, "renewal.failed warning api");
}

#[tokio::test]
async fn an_alertmanager_is_told_all_that_is_open_every_five_minutes_and_once_of_the_end() {
    let manager = Receiver::answering(&[]).await;
    let url = Secret::new(format!("http://{}/", manager.address));
    let world = world(vec![receiver("am", Channel::Alertmanager { url })], Arc::default());
    let trouble = in_trouble(&["api"]);
    let step = async |status: &StatusDocument, seconds| {
        world.clock.advance(Duration::from_secs(seconds));
        world.alerts.pass(status).await;
        world.alerts.deliver().await;
        manager.received().len()
    };
    assert_eq!(step(&trouble, 0).await, 1);
    assert_eq!(step(&trouble, 299).await, 1);
    assert_eq!(step(&trouble, 1).await, 2);
    assert_eq!(step(&status(Vec::new()), 10).await, 3);
    assert_eq!(step(&status(Vec::new()), 600).await, 3);

    let received = manager.received();
    assert_eq!(received[0].path, "/api/v2/alerts");
    let [first, again, over] = [0, 1, 2].map(|it| received[it].json()[0].clone());
    let labels = serde_json::json!({
        "alertname": "RenewdRenewalFailed", "severity": "warning", "instance": "web1",
        "dedup_key": "web1/renewal.failed/api", "certificate": "api",
    });
    for alert in [&first, &again, &over] {
        assert_eq!(alert["labels"], labels);
    }
    assert_eq!(first["startsAt"], "2026-11-23T10:00:00Z");
    assert_eq!(first["endsAt"], "2026-11-23T10:15:00Z");
    assert_eq!(again["startsAt"], first["startsAt"]);
    assert_eq!(again["endsAt"], "2026-11-23T10:20:00Z");
    assert_eq!(over["endsAt"], "2026-11-23T10:05:10Z");
    let description = "look at the CAA records. Run `renewd status api` for more.";
    assert_eq!(first["annotations"]["description"], description);
}

#[tokio::test]
async fn the_heartbeat_is_a_get_and_its_failure_is_heard() {
    let watcher = Receiver::answering(&[200, 404]).await;
    let heartbeat_url = Some(Secret::new(format!("http://{}/canary", watcher.address)));
    let world = world(Vec::new(), Arc::default());
    world.alerts.reconfigure(AlertSettings { heartbeat_url, ..AlertSettings::default() });
    world.alerts.heartbeat().await;
    assert_eq!(world.heard.failures(), []);
    world.alerts.heartbeat().await;
    assert_eq!(world.heard.failures()[0].message, "the receiver answered 404 Not Found");
    assert_eq!(watcher.received()[0].path, "/canary");
}

#[tokio::test]
async fn without_a_writable_store_the_heartbeat_stops() {
    let watcher = Receiver::answering(&[]).await;
    let outbox = Memory { document: Mutex::default(), is_full: true, ..Memory::default() };
    let world = world(Vec::new(), Arc::new(outbox));
    let heartbeat_url = Some(Secret::new(format!("http://{}/", watcher.address)));
    world.alerts.reconfigure(AlertSettings { heartbeat_url, ..AlertSettings::default() });
    world.alerts.heartbeat().await;
    assert!(watcher.received().is_empty());
    assert_eq!(world.heard.failures()[0].code, "alerts.not_kept");
}
