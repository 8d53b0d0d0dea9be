//! What Prometheus' Alertmanager (API version 2) is sent: not messages, but all that is open.
//!
//! Alertmanager takes an alert for resolved that is not repeated, so each carries an end 15 minutes
//! ahead and all are sent again every 5 minutes: it may miss two. What is over is sent once with
//! its end. An alert is known by its labels, `severity` among them: one that rose is a second
//! alert, and the first ends by itself.
//!
//! Not here: the wire and the times ([`super::deliver`]).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::{Health, Timestamp};

use super::book::AlertBook;
use super::message::{Affected, AlertType, Message, severity_text};

/// After how long all open alerts are sent again.
pub(super) const REPEAT_AFTER: Duration = Duration::from_secs(5 * 60);

/// For how long an alert stays open there without being repeated.
const HOLDS_FOR: Duration = Duration::from_secs(15 * 60);

/// All that is open in `book` and `wanted`, and what `queued` says to be over or tells besides
/// troubles; as the list that is to be posted.
pub(super) fn alerts(
    book: &AlertBook,
    queued: &[Message],
    wanted: impl Fn(&Message) -> bool,
    now: Timestamp,
) -> Vec<Value> {
    let open = book.open.values().filter(|it| wanted(&it.message));
    let mut known = BTreeSet::new();
    let mut list = Vec::new();
    for alert in open {
        known.insert(alert.message.dedup_key.as_str());
        let ends_at = now.saturating_add(HOLDS_FOR);
        let (affected, began_at) = (alert.message.as_affected(), alert.opened_at.min(now));
        list.push(entry(&alert.message, &affected, began_at, ends_at));
    }
    for message in queued {
        match message.kind {
            AlertType::AlertResolved => {
                let single = [message.as_affected()];
                let ended = if message.alerts.is_empty() { &single[..] } else { &message.alerts };
                let again = |it: &&Affected| !known.contains(it.dedup_key.as_str());
                let ended = ended.iter().filter(again);
                list.extend(ended.map(|it| {
                    let ended_at = message.at.min(now);
                    entry(message, it, message.since.unwrap_or(ended_at), ended_at)
                }));
            }
            AlertType::CertificateRenewed | AlertType::AlertTest => {
                let ends_at = message.at.saturating_add(HOLDS_FOR);
                list.push(entry(message, &message.as_affected(), message.at, ends_at));
            }
            // A trouble that is still there is in the book; one that is not, was over in between.
            _ => {}
        }
    }
    list
}

fn entry(message: &Message, alert: &Affected, starts_at: Timestamp, ends_at: Timestamp) -> Value {
    let mut labels = json!({
        "alertname": alert_name(alert.kind),
        "severity": if alert.severity == Health::Ok { "info" } else { severity_text(alert.severity) },
        "instance": message.host,
        "dedup_key": alert.dedup_key,
    });
    // Alertmanager takes an empty label for none at all.
    if let Some(labels) = labels.as_object_mut() {
        if let Some(certificate) = &alert.certificate {
            labels.insert("certificate".into(), json!(certificate));
        }
        if let Some(target) = &alert.target {
            labels.insert("target".into(), json!(target));
        }
    }
    let description = match &message.hint {
        Some(hint) => format!("{} Run `{}` for more.", sentence(hint), message.command),
        None => format!("Run `{}` for more.", message.command),
    };
    json!({
        "labels": labels,
        "annotations": { "summary": alert.title, "description": description },
        // By a clock that was ahead it may have begun after its end, and Alertmanager refuses all that
        // comes with such a one.
        "startsAt": starts_at.min(ends_at),
        "endsAt": ends_at,
    })
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{text}{end}")
}

/// `certificate.expiring` as Alertmanager's users write it: `RenewdCertificateExpiring`.
fn alert_name(kind: AlertType) -> String {
    let mut name = "Renewd".to_owned();
    for word in kind.as_str().split(['.', '_']) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|it| it.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T01: what was told by a clock that was ahead is over when that is right again. A parcel with
    /// an alert that ends before it begins is refused as a whole.
    #[test]
    fn nothing_ends_before_it_begins() {
        let (now, ahead) = (Timestamp::from_unix_seconds(1000), Timestamp::MAX);
        let over = Message::plain(AlertType::AlertResolved, "web1", "over".to_owned(), now);
        let over = Message { since: Some(ahead), ..over };
        let later = Message { at: ahead, ..over.clone() };
        for over in [over, later] {
            let list = alerts(&AlertBook::default(), &[over], |_| true, now);
            assert_eq!((&list[0]["startsAt"], &list[0]["endsAt"]), (&json!(now), &json!(now)));
        }
    }

    #[test]
    fn an_alert_is_named_in_camel_case() {
        assert_eq!(alert_name(AlertType::CertificateExpiring), "RenewdCertificateExpiring");
        assert_eq!(alert_name(AlertType::AccountActionRequired), "RenewdAccountActionRequired");
    }
}
