//! Fills in defaults and holds each entry against the others: from [`RawFile`]s to a [`Config`].
//!
//! Order: settings, CAs, solvers, targets, groups, certificates, alerts. Each entry brings its own
//! faults; [`World::settle`] decides what follows from them.

mod alert;
mod ca;
mod limits;
mod certificate;
mod claims;
mod csr;
mod key;
mod names;
mod registry;
mod solver;
mod target;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{CaName, CertificateSpec};
use crate::store::StoreSettings;

use crate::config::digest::digest;
use crate::config::fault::{Fault, Faults, Severity, sorted};
use crate::config::field::{At, Item};
use crate::config::files::Documents;
use crate::config::raw::{RawCertificate, RawFile};
use crate::config::secret::Secrets;
use crate::config::shape::Shape;
use crate::config::show::{Section, Topic};
use crate::config::tree::Place;
use crate::config::{Ca, Config, DeployerChoice, Environment};

pub(super) use ca::known_directories;

/// What every step of the resolution needs.
struct World<'a> {
    environment: &'a Environment,
    secrets: Secrets,
    main_file: Arc<Path>,
    included_files: BTreeSet<PathBuf>,
    /// Whether an included file could not be read: what is unknown may stand in it.
    incomplete: bool,
    watched: BTreeSet<PathBuf>,
    findings: Vec<Fault>,
    shown: Vec<Section>,
}

impl World<'_> {
    /// Takes the faults of one entry. Returns whether the entry stands.
    ///
    /// A fault in an included file refuses the entry alone; any other, the whole configuration.
    fn settle(&mut self, faults: Vec<Fault>) -> bool {
        let mut stands = true;
        for mut fault in faults {
            if fault.severity == Severity::Error && self.included_files.contains(&fault.file) {
                fault.severity = Severity::Rejection;
            }
            stands &= fault.severity == Severity::Warning;
            self.findings.push(fault);
        }
        stands
    }

    /// The faults of an entry that names something unknown: where a file is missing from the
    /// picture, that alone does not refuse the whole configuration.
    fn unknown(&self, fault: Fault) -> Fault {
        if self.incomplete { fault.severity(Severity::Rejection) } else { fault }
    }

    fn show(&mut self, topic: Topic, shape: &impl Shape) {
        self.shown.push(Section { topic, lines: shape.lines() });
    }
}

/// The settings that stand at the top of the main file.
struct Settings {
    store: StoreSettings,
    ephemeral: bool,
    deployer: DeployerChoice,
    parallel: usize,
    contact: Vec<String>,
    /// `None` only if it could not be read, which is a fault.
    default_ca: Option<At<CaName>>,
    terms: Option<At<bool>>,
}

/// Makes a [`Config`] of `documents`.
pub(super) fn resolve(
    mut documents: Documents,
    environment: &Environment,
    secrets: Secrets,
) -> Result<Config, Faults> {
    let mut world = World {
        environment,
        secrets,
        main_file: Arc::clone(&documents.main_file),
        included_files: std::mem::take(&mut documents.included_files),
        incomplete: !documents.unreadable.is_empty(),
        watched: std::mem::take(&mut documents.watched),
        findings: std::mem::take(&mut documents.faults),
        shown: Vec::new(),
    };
    let settings = settings(&documents.main, &mut world);
    let defaults = documents.main.defaults.take().map(|it| it.value).unwrap_or_default();
    let defaults = certificate::check_defaults(defaults, &mut world);

    let cas = ca::resolve(
        all(&mut documents, |it| it.ca.take().map(|it| it.value.0)),
        &settings,
        &mut world,
    );
    let solvers = solver::resolve(
        all(&mut documents, |it| it.solver.take().map(|it| it.value.0)),
        &settings.store,
        &mut world,
    );
    let targets = target::resolve(
        all(&mut documents, |it| it.target.take().map(|it| it.value.0)),
        &mut world,
    );
    let groups = certificate::groups(
        all(&mut documents, |it| it.group.take().map(|it| it.value.0)),
        &mut world,
    );
    let wanted: Vec<Item<RawCertificate>> =
        all(&mut documents, |it| it.certificate.take().map(|it| it.value.0));
    let wanted_count = wanted.len();
    let edges =
        certificate::Edges { cas: &cas, solvers: &solvers, targets: &targets, groups: &groups };
    let (certificates, rejected) =
        certificate::resolve(wanted, &defaults, &settings, &edges, &mut world);
    let is_short = certificates.len() < wanted_count;
    let needs_terms = needs_terms(&certificates, is_short, &cas, &world);
    check_terms(&settings, needs_terms, &mut world);
    let mut alerts = alert::resolve(
        documents.main.alerts.take().map(|it| it.value),
        all(&mut documents, |it| it.alert.take().map(|it| it.value.0)),
        &mut world,
    );
    let names = certificates.iter().map(|it| it.name.clone());
    alerts.wanted = names.chain(rejected.iter().cloned()).collect();

    let findings = sorted(world.findings);
    alerts.is_partial = findings.iter().any(|it| it.severity == Severity::Rejection);
    if findings.iter().any(|it| it.severity == Severity::Error) {
        // A rejection in the main file only follows from another fault, which is told.
        let is_cause = |it: &Fault| match it.severity {
            Severity::Error => true,
            Severity::Rejection => it.file != *documents.main_file,
            Severity::Warning => false,
        };
        return Err(Faults::new(findings.into_iter().filter(is_cause).collect()));
    }
    let used: BTreeSet<_> = certificates.iter().flat_map(|it| it.targets.iter().cloned()).collect();
    let kinds = targets.kinds(&used);
    let files: Vec<PathBuf> = world.watched.into_iter().collect();
    Ok(Config {
        store: settings.store,
        ephemeral: settings.ephemeral,
        deployer: settings.deployer,
        parallel: settings.parallel,
        cas: cas.into_good(),
        solvers: solvers.all.into_good(),
        targets: targets.into_used(&used),
        kinds,
        alerts,
        certificates,
        seen: digest(&files),
        files,
        warnings: findings,
        rejected,
        rejected_files: documents.unreadable,
        shown: world.shown,
    })
}

/// What `section` takes of all files, the main file's first.
fn all<T>(documents: &mut Documents, section: impl Fn(&mut RawFile) -> Option<Vec<T>>) -> Vec<T> {
    let mut items = section(&mut documents.main).unwrap_or_default();
    for raw in &mut documents.included {
        items.extend(section(raw).unwrap_or_default());
    }
    items
}

fn settings(main: &RawFile, world: &mut World<'_>) -> Settings {
    let mut faults = Vec::new();
    let mut raw = main.clone().or(RawFile::built_in());
    if let Some(at) = default_ca_of_environment(world.environment, &mut faults) {
        raw.default_ca = Some(at);
    }
    let built_in = StoreSettings::default();
    let store = StoreSettings {
        state_dir: raw.state_dir.as_ref().map_or(built_in.state_dir, |it| it.value.0.clone()),
        run_dir: raw.run_dir.as_ref().map_or(built_in.run_dir, |it| it.value.0.clone()),
    };
    let contact: Vec<At<String>> =
        raw.contact.as_ref().map(|it| it.value.0.clone()).unwrap_or_default();
    for at in &contact {
        if !at.value.starts_with("mailto:") || !at.value.contains('@') {
            let hint = format!("write {:?}", format!("mailto:{}", at.value));
            let fault = at.fault(format!("{:?} is not a URL that starts with mailto:", at.value));
            faults.push(if at.value.contains('@') { fault.hint(hint) } else { fault });
        }
    }
    world.show(Topic::Settings, &raw);
    world.settle(faults);
    Settings {
        store,
        ephemeral: raw.ephemeral.is_some_and(|it| it.value),
        deployer: raw.deployer.map_or(DeployerChoice::Auto, |it| it.value),
        parallel: raw.parallel.map_or(1, |it| it.value.0),
        contact: contact.into_iter().map(|it| it.value).collect(),
        default_ca: raw.default_ca,
        terms: raw.terms_of_service_agreed,
    }
}

const DEFAULT_CA_VARIABLE: &str = "RENEWD_DEFAULT_CA";

fn default_ca_of_environment(
    environment: &Environment,
    faults: &mut Vec<Fault>,
) -> Option<At<CaName>> {
    let text = environment.variables.get(DEFAULT_CA_VARIABLE).filter(|it| !it.is_empty())?;
    let place = Place::Variable(DEFAULT_CA_VARIABLE);
    match text.parse() {
        Ok(value) => Some(At { value, place, key: String::new() }),
        Err(error) => {
            let message = format!("{text:?} is {error}");
            faults.push(Fault::at(&place, "", message));
            None
        }
    }
}

/// Whether any of `certificates` is of a CA that has terms, which the built-in one has not. Of an
/// entry that was refused, so that they are short of one, nobody knows which CA it means: in the
/// main file it has all refused, so what may be wanting besides is told with it.
fn needs_terms(
    certificates: &[CertificateSpec],
    is_short: bool,
    cas: &registry::Registry<CaName, Ca>,
    world: &World<'_>,
) -> bool {
    let is_refused = world.findings.iter().any(|it| it.severity == Severity::Error);
    let is_acme = |name: &CaName| matches!(cas.get(name), Some(Ca::Acme(_)));
    is_refused && is_short || certificates.iter().any(|it| it.cas.iter().any(is_acme))
}

/// RFC 8555 §7.3: a CA may refuse accounts that have not agreed, so nothing could be ordered.
fn check_terms(settings: &Settings, is_needed: bool, world: &mut World<'_>) {
    let hint = "read the terms of service of your CA, then write `terms_of_service_agreed = true` \
                at the top of the file";
    let message = "the terms of service of the CA are not agreed to";
    let fault = match &settings.terms {
        Some(at) if at.value => return,
        Some(at) => at.fault(message),
        None => Fault {
            key: Some("terms_of_service_agreed".to_owned()),
            ..Fault::of_file(&world.main_file, message)
        },
    };
    // A value that could not be read has its own fault.
    let is_told =
        world.findings.iter().any(|it| it.key.as_deref() == Some("terms_of_service_agreed"));
    if is_needed && !is_told {
        world.settle(vec![fault.hint(hint)]);
    }
}
