//! `[alerts]` and `[[alert]]`: who is told of trouble, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::fault::{Fault, Severity};
use crate::config::field::{At, Item};
use crate::config::raw::{RawAlert, RawAlerts};
use crate::config::secret::{Secrets, Sources};
use crate::config::shape::Shape;
use crate::config::show::Topic;
use crate::config::text::{AlertType, Text};
use crate::config::tree::Place;
use crate::config::url;
use crate::model::{Health, Secret};
use crate::observe::{AlertSettings, Channel, ReceiverSettings};

use super::World;

/// The keys that only some types of receivers have.
const KEYS_OF_TYPES: [(&str, &[AlertType]); 9] = [
    ("url", &[AlertType::Webhook, AlertType::Alertmanager]),
    ("url_file", &[AlertType::Webhook, AlertType::Alertmanager]),
    ("url_credential", &[AlertType::Webhook, AlertType::Alertmanager]),
    ("url_env", &[AlertType::Webhook, AlertType::Alertmanager]),
    ("secret_file", &[AlertType::Webhook]),
    ("secret_credential", &[AlertType::Webhook]),
    ("secret_env", &[AlertType::Webhook]),
    ("command", &[AlertType::Command]),
    ("timeout", &[AlertType::Command]),
];

/// What is in force of alerts.
pub(super) fn resolve(
    alerts: Option<RawAlerts>,
    items: Vec<Item<RawAlert>>,
    world: &mut World<'_>,
) -> AlertSettings {
    let alerts = alerts.unwrap_or_default().or(RawAlerts::built_in());
    world.show(Topic::Alerts, &alerts);
    let mut settings = thresholds(&alerts, world);
    settings.heartbeat_url = heartbeat(&alerts, world);

    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    for mut item in items {
        item.shape = item.shape.or(RawAlert::built_in());
        let name = name_of(&mut item, &mut numbers, &mut names);
        world.show(Topic::Alert(name.clone()), &item.shape);
        let receiver = receiver(name, &mut item, world);
        let file = item.place.file().to_owned();
        if world.settle(item.faults)
            && let Some(receiver) = receiver
        {
            settings.receivers.push(receiver);
        } else {
            settings.refused_in.insert(file);
        }
    }
    let is_nobody = settings.receivers.is_empty() && settings.heartbeat_url.is_none();
    if is_nobody && world.secrets == Secrets::Read {
        let message = "nobody will be told of trouble: there is no [[alert]] and no heartbeat";
        let hint = "add an [[alert]], or heartbeat_url_file to [alerts]";
        let fault = Fault::of_file(&world.main_file, message).hint(hint);
        world.settle(vec![fault.severity(Severity::Warning)]);
    }
    settings
}

fn thresholds(alerts: &RawAlerts, world: &mut World<'_>) -> AlertSettings {
    let mut settings = AlertSettings::default();
    if let Some(at) = &alerts.warning {
        settings.warning = at.value;
    }
    if let Some(at) = &alerts.failing_for {
        settings.failing_for = at.value;
    }
    if let Some(at) = &alerts.critical {
        settings.critical = at.value;
        // Compared over a span so long that no two fractions of a file fall together.
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        if at.value.of(century) >= settings.warning.of(century) {
            let message = format!("{} is not less than `warning`, {}", at.value, settings.warning);
            world.settle(vec![at.fault(message).hint("a warning must come before it is critical")]);
        }
    }
    settings
}

fn heartbeat(alerts: &RawAlerts, world: &mut World<'_>) -> Option<Secret> {
    let sources = Sources {
        inline: alerts.heartbeat_url.as_ref(),
        file: alerts.heartbeat_url_file.as_ref(),
        credential: alerts.heartbeat_url_credential.as_ref(),
        variable: alerts.heartbeat_url_env.as_ref(),
    };
    let mut faults = Vec::new();
    let url = sources.read(world.secrets, world.environment, &mut world.watched, &mut faults);
    faults.extend(url.as_ref().and_then(url_fault));
    world.settle(faults);
    url.map(|it| it.value)
}

/// What is wrong with the URL `at`, told without it.
fn url_fault(at: &At<Secret>) -> Option<Fault> {
    let message = url::check(at.value.reveal()).err()?;
    Some(at.fault(format!("the URL {message}")))
}

/// Its `name`, or its type and its number among those of its type.
fn name_of(
    item: &mut Item<RawAlert>,
    numbers: &mut BTreeMap<String, usize>,
    names: &mut BTreeMap<String, Place>,
) -> String {
    let word = item.shape.r#type.as_ref().map(|it| it.value.to_text().replace('"', ""));
    let word = word.unwrap_or_else(|| "alert".to_owned());
    let number = numbers.entry(word.clone()).or_default();
    *number += 1;
    let (name, place) = match &item.shape.name {
        Some(at) => (at.value.clone(), at.place.clone()),
        None => (format!("{word}-{number}"), item.place.clone()),
    };
    if let Some(first) = names.get(&name) {
        let message = format!("there is a second receiver {name}, the first is at {first}");
        let fault = Fault::at(&place, "alert.name", message);
        item.faults.push(fault.hint("give one of them another `name`"));
    } else {
        names.insert(name.clone(), place);
    }
    name
}

fn receiver(
    name: String,
    item: &mut Item<RawAlert>,
    world: &mut World<'_>,
) -> Option<ReceiverSettings> {
    let Some(kind) = item.shape.r#type.clone() else {
        if !item.has("type") {
            let hint = "write type = \"webhook\", \"command\" or \"alertmanager\"";
            item.faults.push(item.fault("there is no `type`").hint(hint));
        }
        return None;
    };
    refuse_keys_of_other_types(item, &kind);
    let channel = match kind.value {
        AlertType::Webhook => {
            let url = url(item, world);
            let secret = signing_key(item, world);
            Channel::Webhook { url: url?, secret }
        }
        AlertType::Alertmanager => Channel::Alertmanager { url: url(item, world)? },
        AlertType::Command => command(item)?,
    };
    Some(ReceiverSettings {
        name,
        channel,
        min_severity: item.shape.min_severity.as_ref().map_or(Health::Warning, |it| it.value),
        tell_renewed: item.shape.tell_renewed.as_ref().is_some_and(|it| it.value),
        source: item.place.file().to_owned(),
    })
}

fn refuse_keys_of_other_types(item: &mut Item<RawAlert>, kind: &At<AlertType>) {
    let lines = item.shape.lines();
    for line in lines.iter().filter(|it| !it.place.is_built_in()) {
        let owners = KEYS_OF_TYPES.iter().find(|(key, _)| *key == line.key).map(|(_, it)| *it);
        if owners.is_some_and(|it| !it.contains(&kind.value)) {
            let word = kind.value.to_text();
            let message = format!("a receiver of type {word} has no `{}`", line.key);
            item.faults.push(Fault::at(&line.place, &line.path, message));
        }
    }
}

fn url(item: &mut Item<RawAlert>, world: &mut World<'_>) -> Option<Secret> {
    let shape = &item.shape;
    let sources = Sources {
        inline: shape.url.as_ref(),
        file: shape.url_file.as_ref(),
        credential: shape.url_credential.as_ref(),
        variable: shape.url_env.as_ref(),
    };
    let is_given = ["url", "url_file", "url_credential", "url_env"].iter().any(|it| item.has(it));
    let url = sources.read(world.secrets, world.environment, &mut world.watched, &mut item.faults);
    if !is_given {
        let hint = "write `url`, or `url_file` if it is as good as a password";
        item.faults.push(item.fault("there is no `url`").hint(hint));
    }
    item.faults.extend(url.as_ref().and_then(url_fault));
    url.map(|it| it.value)
}

/// The key that signs, if one is named (Standard Webhooks: `whsec_` and Base64, or plain Base64).
fn signing_key(item: &mut Item<RawAlert>, world: &mut World<'_>) -> Option<Secret> {
    let shape = &item.shape;
    let sources = Sources {
        inline: None,
        file: shape.secret_file.as_ref(),
        credential: shape.secret_credential.as_ref(),
        variable: shape.secret_env.as_ref(),
    };
    let at =
        sources.read(world.secrets, world.environment, &mut world.watched, &mut item.faults)?;
    let text = at.value.reveal();
    if BASE64_STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).is_err() {
        let hint = "make one with: openssl rand -base64 32";
        item.faults.push(at.fault("the key that it names is not Base64").hint(hint));
    }
    Some(at.value)
}

fn command(item: &mut Item<RawAlert>) -> Option<Channel> {
    let arguments: Vec<String> =
        item.shape.command.iter().flat_map(|it| &it.value).map(|it| it.value.clone()).collect();
    if arguments.is_empty() {
        let hint = "write command = [\"/path/to/program\"]";
        item.faults.push(item.fault("there is no `command`").hint(hint));
        return None;
    }
    let timeout = item.shape.timeout.as_ref()?.value.0;
    Some(Channel::Command { arguments, timeout })
}
