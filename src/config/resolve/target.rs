//! `[target.*]`: servers, with what their kinds bring.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::fault::Fault;
use crate::config::field::{At, Item, beside};
use crate::config::raw::{RawInstall, RawReload, RawTarget, RawVerify, built_in_tables};
use crate::config::shape::Shape;
use crate::config::show::Topic;
use crate::config::text::{TargetKind, Text};
use crate::deploy::{
    InstallSettings, ProgramSettings, ReloadSettings, TargetSettings, VerifySettings,
};
use crate::model::TargetName;

use super::World;
use super::registry::{Registry, named};

/// All targets: those with a table, and the kinds that can be used without one.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) all: Registry<TargetName, TargetSettings>,
    configured: BTreeSet<TargetName>,
    kinds: BTreeMap<TargetName, TargetKind>,
}

impl Targets {
    /// The kinds of those that [`Targets::into_used`] gives.
    pub(super) fn kinds(&self, used: &BTreeSet<TargetName>) -> BTreeMap<TargetName, TargetKind> {
        let wanted = |name: &TargetName| self.configured.contains(name) || used.contains(name);
        let kinds = self.kinds.iter().filter(|(name, _)| wanted(name));
        kinds.map(|(name, kind)| (name.clone(), *kind)).collect()
    }

    /// Those with a table, and those of `used`.
    pub(super) fn into_used(
        self,
        used: &BTreeSet<TargetName>,
    ) -> BTreeMap<TargetName, TargetSettings> {
        let Self { all, configured, .. } = self;
        let wanted = |name: &TargetName| configured.contains(name) || used.contains(name);
        all.into_good().into_iter().filter(|(name, _)| wanted(name)).collect()
    }
}

/// Resolves the targets of `items`, and adds the known kinds that have no table.
pub(super) fn resolve(items: Vec<Item<RawTarget>>, world: &mut World<'_>) -> Targets {
    let kinds = kinds();
    let mut targets =
        Targets { all: Registry::new(), configured: BTreeSet::new(), kinds: BTreeMap::new() };
    for (name, mut item) in named::<TargetName, _>(items, world) {
        targets.configured.insert(name.clone());
        let preset = preset(&name, &mut item, &kinds);
        item.shape = item.shape.or(preset).or(RawTarget::built_in());
        world.show(Topic::Target(name.clone()), &item.shape);
        targets.kinds.extend(kind(&name, &item.shape).map(|it| (name.clone(), it)));
        let settings = settings(&name, &item.shape, &mut item.faults);
        match (world.settle(item.faults), settings) {
            (true, Some(settings)) => targets.all.insert(name, settings),
            _ => targets.all.refuse(name),
        }
    }
    for (name, preset) in kinds {
        if !targets.configured.contains(&name) {
            let shape = preset.or(RawTarget::built_in());
            world.show(Topic::Target(name.clone()), &shape);
            targets.kinds.extend(kind(&name, &shape).map(|it| (name.clone(), it)));
            if let Some(settings) = settings(&name, &shape, &mut Vec::new()) {
                targets.all.insert(name, settings);
            }
        }
    }
    targets
}

/// What the kinds bring that can be used without a table.
fn kinds() -> BTreeMap<TargetName, RawTarget> {
    let items = built_in_tables().target.map(|it| it.value.0).unwrap_or_default();
    items.into_iter().filter_map(|it| Some((it.label.parse().ok()?, it.shape))).collect()
}

/// The kind of the target `name`: its `type`, else its name.
fn kind(name: &TargetName, shape: &RawTarget) -> Option<TargetKind> {
    match &shape.r#type {
        Some(at) => Some(at.value),
        None => TargetKind::from_text(name.as_str()).ok(),
    }
}

/// What the kind of `item` brings: that of its `type`, else of its name.
fn preset(
    name: &TargetName,
    item: &mut Item<RawTarget>,
    kinds: &BTreeMap<TargetName, RawTarget>,
) -> RawTarget {
    let kind = match &item.shape.r#type {
        Some(at) => at.value.to_text().trim_matches('"').parse().ok(),
        None => Some(name.clone()),
    };
    if let Some(preset) = kind.and_then(|it: TargetName| kinds.get(&it)) {
        return preset.clone();
    }
    if !item.has("type") && !TargetKind::words().contains(&name.as_str()) {
        let hint = "write type = \"command\" or type = \"other\" if it brings its own programs, \
                    or the kind of server that it is";
        let message = format!("{name} is not a known kind of target, and there is no `type`");
        item.faults.push(item.fault(message).hint(hint));
    }
    RawTarget::default()
}

fn settings(
    name: &TargetName,
    shape: &RawTarget,
    faults: &mut Vec<Fault>,
) -> Option<TargetSettings> {
    let timeout = shape.timeout.as_ref()?.value.0;
    let verify_timeout = shape.verify_timeout.as_ref()?.value.0;
    let test = shape.test.as_ref().and_then(|it| program(it, timeout, faults));
    let reload = shape.reload.as_ref().and_then(|it| reload(it, timeout, faults));
    let verify = shape.verify.iter().flat_map(|it| &it.value);
    let verify = verify.filter_map(|it| endpoint(it, faults)).collect();
    let installs = shape.install.iter().flat_map(|it| &it.value);
    let install = installs.filter_map(|it| install(it, faults)).collect();
    Some(TargetSettings { name: name.clone(), install, test, reload, verify, verify_timeout })
}

fn program(
    at: &At<Vec<At<String>>>,
    timeout: Duration,
    faults: &mut Vec<Fault>,
) -> Option<ProgramSettings> {
    let arguments: Vec<String> = at.value.iter().map(|it| it.value.clone()).collect();
    let Some(first) = arguments.first() else {
        // An empty list takes a kind's program away.
        return None;
    };
    if first.contains(' ') {
        let hint = "write each argument as an item of its own: no shell takes them apart";
        faults.push(at.fault(format!("{first:?} holds spaces")).hint(hint));
    }
    Some(ProgramSettings { arguments, timeout })
}

fn reload(
    at: &At<RawReload>,
    timeout: Duration,
    faults: &mut Vec<Fault>,
) -> Option<ReloadSettings> {
    let RawReload { systemd, signal, pid_file, command } = &at.value;
    match (systemd, signal, pid_file, command) {
        (Some(unit), None, None, None) => {
            Some(ReloadSettings::Systemd { unit: unit.value.clone(), timeout })
        }
        (None, Some(signal), Some(pid_file), None) => {
            let name = signal.value.strip_prefix("SIG").unwrap_or(&signal.value).to_owned();
            Some(ReloadSettings::Signal { signal: name, pid_file: pid_file.value.0.clone() })
        }
        (None, None, None, Some(command)) => {
            program(command, timeout, faults).map(ReloadSettings::Command)
        }
        _ => {
            let hint = "write { systemd = \"UNIT\" }, { signal = \"HUP\", pid_file = \"FILE\" } or \
                        { command = [\"PROGRAM\", \"ARGUMENT\"] }";
            faults.push(at.fault("is not one way to reload").hint(hint));
            None
        }
    }
}

fn endpoint(at: &At<RawVerify>, faults: &mut Vec<Fault>) -> Option<VerifySettings> {
    let Some(address) = &at.value.address else {
        faults
            .push(at.fault("there is no `address`").hint("write { address = \"127.0.0.1:443\" }"));
        return None;
    };
    let port = address.value.rsplit_once(':').and_then(|(host, port)| {
        let is_host = !host.is_empty() && (host.ends_with(']') || !host.contains(':'));
        port.parse::<u16>().ok().filter(|it| is_host && *it > 0)
    });
    if port.is_none() {
        let message = format!("{:?} is not host:port or [address]:port", address.value);
        faults.push(address.fault(message));
    }
    let names = at.value.names.as_ref().map(|it| it.value.clone()).unwrap_or_default();
    for name in names.iter().filter(|it| it.value.is_wildcard()) {
        let message = format!("{} is a wildcard: no server can be asked for it", name.value);
        faults.push(name.fault(message).hint("write a name that it stands for"));
    }
    Some(VerifySettings {
        address: address.value.clone(),
        names: names.into_iter().map(|it| it.value).collect(),
        starttls: at.value.starttls.as_ref().map(|it| it.value),
        required: !at.place.is_built_in(),
    })
}

fn install(at: &At<RawInstall>, faults: &mut Vec<Fault>) -> Option<InstallSettings> {
    let RawInstall { file, path, owner, group, mode } = &at.value;
    let (Some(file), Some(path)) = (file, path) else {
        let hint = "write { file = \"fullchain\", path = \"/etc/tls/{name}.pem\" }";
        faults.push(at.fault("`file` and `path` are needed").hint(hint));
        return None;
    };
    let place = beside(&path.place, &path.value);
    if place.file_name().is_none() || path.value.ends_with('/') {
        faults.push(path.fault(format!("{:?} names no file", path.value)));
    }
    let mode = mode.as_ref();
    if let Some(mode) = mode.filter(|it| file.value.is_secret() && it.value.0 & 0o007 != 0) {
        let hint = "write mode = \"0640\" and a group that may read it";
        faults.push(mode.fault("lets everybody reach a private key").hint(hint));
    }
    Some(InstallSettings {
        content: file.value,
        path: place.to_string_lossy().into_owned(),
        owner: owner.as_ref().map(|it| it.value.clone()),
        group: group.as_ref().map(|it| it.value.clone()),
        mode: mode.map(|it| it.value.0),
    })
}
