//! Alerts as a real Alertmanager takes them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use renewd::model::{
    Event, Health, Notice, Observer, Outbox, STATUS_FORMAT, Secret, StatusDocument, StorageError,
    Timestamp,
};
use renewd::observe::{AlertSettings, Alerts, Channel, ReceiverSettings};
use renewd::sys::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::support::{Alertmanager, eventually};

/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_real_alertmanager_holds_what_is_wrong_and_lets_go_of_what_is_over() {
    let manager = Alertmanager::start();
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = Arc::<Heard>::clone(&heard);
    let clock = Arc::new(SystemClock::new());
    let alerts = Alerts::new(
        settings(manager.url()),
        Arc::new(Memory::default()),
        Arc::<SystemClock>::clone(&clock),
        "web1".to_owned(),
        observer,
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tell = |notices| {
        runtime.block_on(async {
            alerts.pass(&status(notices, clock.now())).await;
            alerts.deliver().await;
        });
        assert_eq!(heard.0.lock().unwrap().as_slice(), []);
    };

    tell(vec![rejected(clock.now())]);
    let held = eventually(LIMIT, "the alert is held", || match manager.alerts() {
        alerts if alerts.len() == 1 => Ok(alerts),
        alerts => Err(alerts),
    });
    let alert = held.first().unwrap_or(&Value::Null);
    assert_eq!(alert.pointer("/labels/alertname"), Some(&"RenewdConfigRejected".into()));
    assert_eq!(alert.pointer("/labels/severity"), Some(&"warning".into()));
    assert_eq!(alert.pointer("/annotations/summary"), Some(&"renewd.toml:3: unknown key".into()));

    tell(Vec::new());
    eventually(LIMIT, "the alert is resolved", || match manager.alerts() {
        alerts if alerts.is_empty() => Ok(()),
        alerts => Err(alerts),
    });

    let tested = runtime.block_on(alerts.test());
    assert!(tested.iter().all(|(_, result)| result.is_ok()), "{tested:?}");
}

fn settings(url: String) -> AlertSettings {
    let receiver = ReceiverSettings {
        name: "manager".to_owned(),
        channel: Channel::Alertmanager { url: Secret::new(url) },
        min_severity: Health::Warning,
        tell_renewed: false,
        source: PathBuf::new(),
    };
    AlertSettings { receivers: vec![receiver], ..AlertSettings::default() }
}

fn rejected(since: Timestamp) -> Notice {
    Notice {
        code: "config.rejected".to_owned(),
        health: Health::Warning,
        message: "renewd.toml:3: unknown key".to_owned(),
        since,
        hint: None,
    }
}

fn status(notices: Vec<Notice>, now: Timestamp) -> StatusDocument {
    StatusDocument {
        format: STATUS_FORMAT,
        host: "web1".to_owned(),
        written_at: now,
        notices,
        certificates: Vec::new(),
    }
}

/// An outbox in memory.
#[derive(Default)]
struct Memory(Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Outbox for Memory {
    async fn load_alerts(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn save_alerts(&self, document: &[u8]) -> Result<(), StorageError> {
        *self.0.lock().unwrap() = Some(document.to_vec());
        Ok(())
    }

    async fn set_alerts_aside(
        &self,
        _error: &(dyn std::error::Error + Sync),
    ) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Keeps all it hears: here, what could not be delivered.
#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Observer for Heard {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}
