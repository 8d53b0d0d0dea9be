//! `[ca.*]`: presets, directories, external account binding.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::acme::{CaSettings, ExternalAccountBinding};
use crate::model::CaName;

use super::registry::{Registry, named};
use super::{Settings, World};
use crate::config::Ca;
use crate::config::field::Item;
use crate::config::raw::{RawCa, built_in_tables};
use crate::config::secret::Sources;
use crate::config::shape::Shape;
use crate::config::show::Topic;
use crate::config::text::CaType;
use crate::config::url;

/// All CAs: those of `items`, and the presets.
pub(super) fn resolve(
    items: Vec<Item<RawCa>>,
    settings: &Settings,
    world: &mut World<'_>,
) -> Registry<CaName, Ca> {
    let mut presets = presets();
    let mut cas = Registry::new();
    for (name, mut item) in named::<CaName, _>(items, world) {
        let preset = presets.remove(&name).unwrap_or_default();
        item.shape = item.shape.or(preset).or(RawCa::built_in());
        world.show(Topic::Ca(name.clone()), &item.shape);
        let ca = resolve_one(&name, &mut item, settings, world);
        match (world.settle(item.faults), ca) {
            (true, Some(ca)) => cas.insert(name, ca),
            _ => cas.refuse(name),
        }
    }
    for (name, preset) in presets {
        let shape = preset.or(RawCa::built_in());
        world.show(Topic::Ca(name.clone()), &shape);
        if let Some(directory) = &shape.directory {
            let ca = ca_settings(&name, &shape, &directory.value, settings, None);
            cas.insert(name, ca);
        }
    }
    cas
}

/// The CAs that are known without a table.
fn presets() -> BTreeMap<CaName, RawCa> {
    let built_in = built_in_tables();
    let items = built_in.ca.map(|it| it.value.0).unwrap_or_default();
    items.into_iter().filter_map(|it| Some((it.label.parse().ok()?, it.shape))).collect()
}

fn resolve_one(
    name: &CaName,
    item: &mut Item<RawCa>,
    settings: &Settings,
    world: &mut World<'_>,
) -> Option<Ca> {
    let shape = item.shape.clone();
    if let Some(at) = shape.r#type.as_ref().filter(|it| it.value == CaType::Local) {
        let hint = "name another CA, or run one that speaks ACME";
        item.faults = vec![at.fault("\"local\" comes with a later version").hint(hint)];
        return None;
    }
    let binding = external_account_binding(item, world);
    if let Some(trust) = &shape.trust {
        world.watched.insert(trust.value.0.clone());
    }
    let Some(directory) = &shape.directory else {
        if !item.has("directory") {
            let hint = "write directory = \"https://…\", the URL that the CA calls its directory";
            item.faults.push(item.fault("there is no `directory`").hint(hint));
        }
        return None;
    };
    if let Err(message) = url::check(&directory.value) {
        item.faults.push(directory.fault(format!("{:?} {message}", directory.value)));
    }
    Some(ca_settings(name, &shape, &directory.value, settings, binding))
}

fn ca_settings(
    name: &CaName,
    shape: &RawCa,
    directory: &str,
    settings: &Settings,
    external_account_binding: Option<ExternalAccountBinding>,
) -> Ca {
    Ca::Acme(CaSettings {
        name: name.clone(),
        directory: directory.to_owned(),
        trust: shape.trust.as_ref().map(|it| it.value.0.clone()),
        test: shape.test.as_ref().is_some_and(|it| it.value),
        contact: settings.contact.clone(),
        terms_of_service_agreed: settings.terms.as_ref().is_some_and(|it| it.value),
        external_account_binding,
    })
}

/// RFC 8555 §7.3.4: key identifier and HMAC key go together.
fn external_account_binding(
    item: &mut Item<RawCa>,
    world: &mut World<'_>,
) -> Option<ExternalAccountBinding> {
    let shape = &item.shape;
    let sources = Sources {
        inline: None,
        file: shape.eab_hmac_file.as_ref(),
        credential: shape.eab_hmac_credential.as_ref(),
        variable: shape.eab_hmac_env.as_ref(),
    };
    let has_key =
        ["eab_hmac_file", "eab_hmac_credential", "eab_hmac_env"].iter().any(|it| item.has(it));
    let hmac_key =
        sources.read(world.secrets, world.environment, &mut world.watched, &mut item.faults);
    if let Some(at) = &hmac_key {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(at.value.reveal().trim_end_matches('='));
        if bytes.is_err() {
            let hint = "store the HMAC key as the CA gave it, without anything else";
            item.faults.push(at.fault("what it names is not base64url").hint(hint));
        }
    }
    match (&shape.eab_kid, hmac_key) {
        (Some(kid), Some(key)) => {
            Some(ExternalAccountBinding { key_id: kid.value.clone(), hmac_key: key.value })
        }
        (Some(kid), None) => {
            if !has_key {
                item.faults.push(kid.fault("has no HMAC key").hint("add `eab_hmac_file`"));
            }
            None
        }
        (None, Some(key)) => {
            if !item.has("eab_kid") {
                item.faults.push(key.fault("has no key identifier").hint("add `eab_kid`"));
            }
            None
        }
        (None, None) => None,
    }
}
