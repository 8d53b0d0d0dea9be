//! `[ca.*]`: presets, directories, external account binding.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::acme::{CaSettings, ExternalAccountBinding};
use crate::local_ca::LocalCaSettings;
use crate::model::CaName;

use super::registry::{Registry, named};
use super::{Settings, World, limits};
use crate::config::Ca;
use crate::config::exposure;
use crate::config::fault::Fault;
use crate::config::field::{At, FilePath, Item};
use crate::config::raw::{RawCa, built_in_tables};
use crate::config::secret::Sources;
use crate::config::shape::Shape;
use crate::config::show::Topic;
use crate::config::text::{CaType, Lifetime};
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
        let directory = item.shape.directory.as_ref().or(preset.directory.as_ref());
        item.shape.limits = limits::merged(item.shape.limits, directory.map(|it| &it.value));
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
pub(super) fn presets() -> BTreeMap<CaName, RawCa> {
    let built_in = built_in_tables();
    let items = built_in.ca.map(|it| it.value.0).unwrap_or_default();
    items.into_iter().filter_map(|it| Some((it.label.parse().ok()?, it.shape))).collect()
}

/// The directories of those.
pub(in crate::config) fn known_directories() -> BTreeSet<String> {
    presets().into_values().filter_map(|it| it.directory.map(|it| it.value)).collect()
}

fn resolve_one(
    name: &CaName,
    item: &mut Item<RawCa>,
    settings: &Settings,
    world: &mut World<'_>,
) -> Option<Ca> {
    let shape = item.shape.clone();
    let is_local = shape.r#type.as_ref().is_some_and(|it| it.value == CaType::Local);
    refuse_keys_of_the_other_type(item, is_local);
    if is_local {
        return Some(Ca::Local(local_settings(name, item)));
    }
    let binding = external_account_binding(item, world);
    if let Some(trust) = &shape.trust {
        world.watched.insert(trust.value.0.clone());
        item.faults.extend(exposed(trust));
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

/// That others could change the roots at `trust`, and so pose as the CA. Whether there are any is
/// seen when the CA is asked.
fn exposed(trust: &At<FilePath>) -> Option<Fault> {
    let path = &trust.value.0;
    let found = exposure::of(path, &std::fs::metadata(path).ok()?).ok()??;
    Some(trust.fault(format!("{} {}", path.display(), found.message)).hint(found.remedy))
}

/// The keys that a CA of type `acme` alone has, and those of type `local`.
const ACME_KEYS: [&str; 8] = [
    "directory",
    "trust",
    "test",
    "limits",
    "eab_kid",
    "eab_hmac_file",
    "eab_hmac_credential",
    "eab_hmac_env",
];
const LOCAL_KEYS: [&str; 7] = [
    "lifetime",
    "intermediate_lifetime",
    "root_lifetime",
    "permitted",
    "common_name",
    "organization",
    "client_auth",
];

/// A key that would not be heeded is refused.
fn refuse_keys_of_the_other_type(item: &mut Item<RawCa>, is_local: bool) {
    let (foreign, own) =
        if is_local { (&ACME_KEYS[..], "local") } else { (&LOCAL_KEYS[..], "acme") };
    for key in foreign {
        if item.has(key) {
            let fault = item.fault(format!("a CA of type {own:?} has no `{key}`"));
            let other =
                if is_local { "take it out" } else { "take it out, or write type = \"local\"" };
            item.faults.push(fault.hint(other));
        }
    }
}

/// The built-in CA `name`.
fn local_settings(name: &CaName, item: &mut Item<RawCa>) -> LocalCaSettings {
    let shape = item.shape.clone();
    let mut settings = LocalCaSettings::new(name.clone());
    let lifetime =
        |at: &Option<At<Lifetime>>, default| at.as_ref().map_or(default, |it| it.value.0);
    settings.lifetime = lifetime(&shape.lifetime, settings.lifetime);
    settings.intermediate_lifetime =
        lifetime(&shape.intermediate_lifetime, settings.intermediate_lifetime);
    settings.root_lifetime = lifetime(&shape.root_lifetime, settings.root_lifetime);
    settings.organization = shape.organization.map(|it| it.value);
    settings.client_auth = shape.client_auth.is_some_and(|it| it.value);
    if let Some(at) = shape.common_name {
        if at.value.chars().count() > LocalCaSettings::MAX_COMMON_NAME {
            let message = format!("has more than {} characters", LocalCaSettings::MAX_COMMON_NAME);
            item.faults.push(at.fault(message));
        }
        settings.common_name = at.value;
    }
    if let Some(at) = shape.permitted {
        if at.value.is_empty() && item.faults.is_empty() {
            let hint = "take it out, which permits everything, or name something";
            item.faults.push(at.fault("permits nothing").hint(hint));
        }
        settings.permitted = at.value.into_iter().map(|it| it.value).collect();
    }
    check_lifetimes(&settings, item);
    settings
}

/// Each certificate must leave the ones below it time for their whole lives.
fn check_lifetimes(settings: &LocalCaSettings, item: &mut Item<RawCa>) {
    let checks = [
        (
            ("intermediate_lifetime", settings.intermediate_lifetime),
            LocalCaSettings::LEAFS_PER_INTERMEDIATE,
            ("lifetime", settings.lifetime),
        ),
        (
            ("root_lifetime", settings.root_lifetime),
            LocalCaSettings::INTERMEDIATES_PER_ROOT,
            ("intermediate_lifetime", settings.intermediate_lifetime),
        ),
    ];
    for ((long_key, long), times, (short_key, short)) in checks {
        let least = short.saturating_mul(times);
        if long < least {
            let message = format!(
                "`{long_key}` ({}) is less than {times} times `{short_key}` ({})",
                humantime::format_duration(long),
                humantime::format_duration(short),
            );
            let hint = format!(
                "write {long_key} = \"{}\", or a shorter {short_key}",
                humantime::format_duration(least)
            );
            item.faults.push(item.fault(message).hint(hint));
        }
    }
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
        limits: limits::resolve(shape.limits.as_ref().map(|it| &it.value), directory),
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
        // As leniently as it is used: some CAs show it in plain base64, and pages leave blanks.
        let text = at.value.reveal().trim().replace('+', "-").replace('/', "_");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
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
