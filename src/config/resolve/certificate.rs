//! `[[certificate]]`, `[group.*]` and `[defaults]`: what is wanted, every default filled in.
//!
//! Not here: the kinds of its key ([`key`]); what it can't share with another
//! ([`super::claims`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Ca;
use crate::config::fault::{Fault, Severity};
use crate::config::field::{At, Item};
use crate::config::raw::RawCertificate;
use crate::config::shape::{Line, Shape};
use crate::config::show::{Section, Topic};
use crate::config::tree::Place;
use crate::model::{
    CaName, CertificateName, CertificateSpec, GroupName, Identifier, KeySource, SolverName,
    TargetName,
};

use super::claims::Claims;
use super::csr;
use super::key::{self, One};
use super::names;
use super::registry::{Registry, named};
use super::solver::{self, Solvers};
use super::target::Targets;
use super::{Settings, World};

type Groups = Registry<GroupName, RawCertificate>;

/// What certificates name.
pub(super) struct Edges<'a> {
    pub(super) cas: &'a Registry<CaName, Ca>,
    pub(super) solvers: &'a Solvers,
    pub(super) targets: &'a Targets,
    pub(super) groups: &'a Groups,
}

/// `[defaults]` without the keys that can't be one.
pub(super) fn check_defaults(defaults: RawCertificate, world: &mut World<'_>) -> RawCertificate {
    let mut faults = Vec::new();
    let defaults = without_own_keys(defaults, &mut faults);
    world.settle(faults);
    defaults
}

/// The groups of `items`.
pub(super) fn groups(items: Vec<Item<RawCertificate>>, world: &mut World<'_>) -> Groups {
    let mut groups = Registry::new();
    for (name, mut item) in named::<GroupName, _>(items, world) {
        let mut shape = without_own_keys(item.shape, &mut item.faults);
        if let Some(at) = shape.group.take() {
            item.faults.push(at.fault("a group has no group of its own"));
        }
        if world.settle(item.faults) {
            groups.insert(name, shape);
        } else {
            groups.refuse(name);
        }
    }
    groups
}

fn without_own_keys(mut shape: RawCertificate, faults: &mut Vec<Fault>) -> RawCertificate {
    let message = "belongs to one certificate alone";
    faults.extend(shape.name.take().map(|it| it.fault(message)));
    faults.extend(shape.domains.take().map(|it| it.fault(message)));
    faults.extend(shape.csr_file.take().map(|it| it.fault(message)));
    shape
}

/// The certificates of `items`, and the names of those that were refused.
pub(super) fn resolve(
    items: Vec<Item<RawCertificate>>,
    defaults: &RawCertificate,
    settings: &Settings,
    edges: &Edges<'_>,
    world: &mut World<'_>,
) -> (Vec<CertificateSpec>, Vec<CertificateName>) {
    let mut specs: Vec<CertificateSpec> = Vec::new();
    let mut rejected = Vec::new();
    let mut claims = Claims::default();
    for mut item in items {
        let layered = layered(&mut item, defaults, edges, world);
        let request = csr::read(&mut item, &mut world.watched);
        let wanted = key::each(name_of(&item), &layered, request, &mut item.faults);
        for one in &wanted {
            claims.claim_name(one, &mut item);
        }
        let resolved = resolve_one(&wanted, &mut item, &layered, settings, edges, world);
        for (spec, _) in &resolved {
            claims.claim_paths(spec, &mut item, edges);
        }
        if !world.settle(item.faults) || resolved.is_empty() {
            rejected.extend(wanted.into_iter().map(|it| it.name));
            continue;
        }
        for (spec, lines) in resolved {
            let topic = Topic::Certificate(spec.name.clone());
            world.shown.push(Section { topic, lines });
            specs.push(spec);
        }
    }
    // The second of two is refused; the first of its name stands.
    rejected.retain(|name| specs.iter().all(|it| it.name != *name));
    rejected.sort();
    rejected.dedup();
    (specs, rejected)
}

/// Its name, or that of its first domain.
fn name_of(item: &Item<RawCertificate>) -> Option<CertificateName> {
    if let Some(at) = &item.shape.name {
        return Some(at.value.clone());
    }
    let first = item.shape.domains.as_ref().and_then(|it| it.value.first())?;
    (!item.has("name")).then(|| CertificateName::for_identifier(&first.value))
}

/// Key by key: the certificate's, its group's, the defaults', the built-in value.
fn layered(
    item: &mut Item<RawCertificate>,
    defaults: &RawCertificate,
    edges: &Edges<'_>,
    world: &World<'_>,
) -> RawCertificate {
    let own = item.shape.clone();
    let named = own.group.as_ref().or(defaults.group.as_ref());
    let group = match named.map(|at| (at, edges.groups.get(&at.value))) {
        Some((_, Some(group))) => group.clone(),
        Some((at, None)) => {
            item.faults.push(edges.groups.fault("group", at, world));
            RawCertificate::default()
        }
        None => RawCertificate::default(),
    };
    own.or(group).or(defaults.clone()).or(RawCertificate::built_in())
}

/// What `wanted`, the certificates of `item`, come to; nothing without an identifier or a CA.
/// Everything but the name is looked at even if that could not be read.
fn resolve_one(
    wanted: &[One],
    item: &mut Item<RawCertificate>,
    layered: &RawCertificate,
    settings: &Settings,
    edges: &Edges<'_>,
    world: &World<'_>,
) -> Vec<(CertificateSpec, Vec<Line>)> {
    let mut faults = Vec::new();
    let identifiers = identifiers(item, &mut faults);
    let cas = cas(layered, settings, edges, world, &mut faults);
    check_public(item, &identifiers, &cas, layered, edges, &mut faults);
    let is_proven = check_local(&identifiers, &cas, layered, edges, &mut faults);
    let proven = if is_proven { identifiers.as_slice() } else { &[] };
    let solvers =
        solver::choose(proven, layered.solver.as_ref(), edges.solvers, world, &mut faults);
    let targets = targets(layered, edges, world, &mut faults);
    if let Some(request) = wanted.first().and_then(|it| it.request.as_ref()) {
        csr::check(request, item, layered, &identifiers, edges, &mut faults);
    }
    let verify_names = layered.verify_names.as_ref().map(|it| it.value.clone()).unwrap_or_default();
    for at in verify_names.iter().filter(|it| it.value.is_wildcard()) {
        let message = format!("{} is a wildcard: no server can be asked for it", at.value);
        faults.push(at.fault(message).hint("write a name that it stands for"));
    }
    item.faults.append(&mut faults);
    if identifiers.is_empty() || cas.is_empty() {
        return Vec::new();
    }
    let is_kept = layered.reuse_key.as_ref().is_some_and(|it| it.value);
    let spec = |one: &One| CertificateSpec {
        name: one.name.clone(),
        identifiers: identifiers.iter().map(|it| it.value.clone()).collect(),
        cas: cas.clone(),
        key_type: one.key_type,
        paired_with: one.paired_with.clone(),
        key_source: match &one.request {
            Some(request) => KeySource::Elsewhere(request.value.clone()),
            None if is_kept => KeySource::Kept,
            None => KeySource::Fresh,
        },
        profile: layered.profile.as_ref().map(|it| it.value.clone()),
        preferred_chain: layered.preferred_chain.as_ref().map(|it| it.value.clone()),
        solvers: solvers.clone(),
        targets: targets.clone(),
        verify_names: verify_names.iter().map(|it| it.value.clone()).collect(),
        verify: layered.verify.as_ref().is_none_or(|it| it.value),
        read_group: layered.read_group.as_ref().map(|it| it.value.clone()),
        placeholder: one.request.is_none()
            && layered.placeholder.as_ref().is_none_or(|it| it.value),
        source: item.place.file().to_owned(),
    };
    let shown = |one| lines(layered, one, settings, &solvers);
    wanted.iter().map(|one| (spec(one), shown(one))).collect()
}

fn identifiers(item: &Item<RawCertificate>, faults: &mut Vec<Fault>) -> Vec<At<Identifier>> {
    let Some(domains) = &item.shape.domains else {
        if !item.has("domains") {
            let hint = "write domains = [\"www.example.com\"]";
            faults.push(item.fault("there is no `domains`").hint(hint));
        }
        return Vec::new();
    };
    if domains.value.is_empty() && item.faults.is_empty() {
        faults.push(domains.fault("names no domain"));
    }
    names::single(domains, faults)
}

fn cas(
    layered: &RawCertificate,
    settings: &Settings,
    edges: &Edges<'_>,
    world: &World<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<CaName> {
    let wanted: Vec<At<CaName>> = match &layered.ca {
        Some(at) => at.value.0.clone(),
        None => settings.default_ca.iter().cloned().collect(),
    };
    if wanted.is_empty() {
        faults.extend(layered.ca.as_ref().map(|it| it.fault("names no CA")));
    }
    let mut cas: Vec<CaName> = Vec::new();
    for at in wanted {
        if edges.cas.get(&at.value).is_none() {
            faults.push(edges.cas.fault("ca", &at, world));
        } else if cas.contains(&at.value) {
            faults.push(at.fault(format!("{} stands here a second time", at.value)));
        } else {
            faults.extend(mixture(&at, cas.first(), edges));
            cas.push(at.value);
        }
    }
    cas
}

/// That `at` is for tests and `first` is not, or the reverse.
fn mixture(at: &At<CaName>, first: Option<&CaName>, edges: &Edges<'_>) -> Option<Fault> {
    let is_test = |name| edges.cas.get(name).map(Ca::is_test);
    let first = first?;
    let message = match (is_test(&at.value)?, is_test(first)?) {
        (true, false) => format!(
            "{} is for tests: it stands in only while no certificate of a real CA is held",
            at.value
        ),
        (false, true) => format!(
            "{first} is for tests: it is asked no more once {} has given a certificate",
            at.value
        ),
        _ => return None,
    };
    let hint = "name real CAs alone, or CAs for tests alone";
    Some(at.fault(message).hint(hint).severity(Severity::Warning))
}

/// What CAs whose rules are known would refuse is a fault already here.
fn check_public(
    item: &Item<RawCertificate>,
    identifiers: &[At<Identifier>],
    cas: &[CaName],
    layered: &RawCertificate,
    edges: &Edges<'_>,
    faults: &mut Vec<Fault>,
) {
    let Some(domains) = &item.shape.domains else { return };
    let profile = layered.profile.as_ref().map(|it| it.value.as_str());
    for name in cas {
        if let Some(Ca::Acme(settings)) = edges.cas.get(name)
            && names::is_lets_encrypt(&settings.directory)
        {
            names::check_lets_encrypt(name, domains, identifiers, profile, faults);
        }
    }
}

/// Whether any of `cas` wants proofs of control; a built-in one does not. What that would refuse to
/// certify is a fault already here.
fn check_local(
    identifiers: &[At<Identifier>],
    cas: &[CaName],
    layered: &RawCertificate,
    edges: &Edges<'_>,
    faults: &mut Vec<Fault>,
) -> bool {
    let mut is_proven = cas.is_empty();
    for name in cas {
        let Some(Ca::Local(settings)) = edges.cas.get(name) else {
            is_proven = true;
            continue;
        };
        if let Some(at) = &layered.profile {
            let fault = at.fault(format!("the CA {name} is built in, and has no profiles"));
            faults.push(fault.hint("take it out; how long it is valid stands at the CA"));
        }
        let permitted = &settings.permitted;
        let refused = |it: &&At<Identifier>| !permitted.iter().any(|one| one.permits(&it.value));
        for at in identifiers.iter().filter(refused).filter(|_| !permitted.is_empty()) {
            let list: Vec<String> = permitted.iter().map(ToString::to_string).collect();
            let message = format!(
                "the CA {name} may not certify {}: permitted is {}",
                at.value,
                list.join(", ")
            );
            faults.push(at.fault(message).hint("take it off, or name another CA"));
        }
    }
    is_proven
}

fn targets(
    layered: &RawCertificate,
    edges: &Edges<'_>,
    world: &World<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<TargetName> {
    let mut targets = Vec::new();
    for at in layered.targets.iter().flat_map(|it| &it.value) {
        if edges.targets.all.get(&at.value).is_none() {
            faults.push(edges.targets.all.fault("target", at, world));
        } else if !targets.contains(&at.value) {
            targets.push(at.value.clone());
        }
    }
    targets
}

/// What is shown of a certificate: what is set, and what follows from other tables.
fn lines(
    layered: &RawCertificate,
    one: &One,
    settings: &Settings,
    solvers: &BTreeMap<Identifier, SolverName>,
) -> Vec<Line> {
    let mut shown = RawCertificate { key: one.shown.clone(), ..layered.clone() };
    if one.request.is_some() {
        shown.placeholder = shown.placeholder.map(|it| it.with(false));
    }
    let mut lines = shown.lines();
    let derived =
        |key, value: String, place: Place| Line { key, value, place, path: String::new() };
    if layered.name.as_ref().is_none_or(|it| it.value != one.name) {
        lines.retain(|it| it.key != "name");
        lines.insert(0, derived("name", format!("\"{}\"", one.name), Place::BuiltIn));
    }
    if let (None, Some(at)) = (&layered.ca, &settings.default_ca) {
        lines.push(derived("ca", format!("\"{}\"", at.value), at.place.clone()));
    }
    if layered.solver.is_none() {
        let used: BTreeSet<&SolverName> = solvers.values().collect();
        let text = match used.first() {
            Some(solver) if used.len() == 1 => solver.to_string(),
            _ => {
                let each = solvers.iter().map(|(identifier, it)| format!("{it} for {identifier}"));
                each.collect::<Vec<String>>().join(", ")
            }
        };
        lines.push(derived("solver", format!("\"{text}\""), Place::BuiltIn));
    }
    lines
}
