//! `renewd renew --dry-run`: the whole way at a CA for tests, with nothing live touched.
//!
//! A CA that is for tests is asked itself, one that has a staging twin by that twin. The account,
//! journal and certificates of the trial lie in a folder of their own, `dry-run` in the state
//! directory, and no target is told of anything.

use std::collections::BTreeMap;

use crate::acme::CaSettings;
use crate::assemble::report;
use crate::config::{Ca, Config};
use crate::model::{CaName, CertificateName, CertificateSpec};
use crate::plan::Asked;

use super::arguments::Global;
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::output;

/// CAs and their twins for tests, by directory URL (the CAs' own documentation).
const TWINS: [(&str, &str); 2] = [
    (
        "https://acme-v02.api.letsencrypt.org/directory",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    (
        "https://dv.acme-v02.api.pki.goog/directory",
        "https://dv.acme-v02.test-api.pki.goog/directory",
    ),
];

/// Tries the renewal of `names`, or of all.
pub(super) async fn dry_run(global: &Global, names: &[CertificateName]) -> Result<Exit, Ended> {
    let mut context = Context::load(global)?;
    let specs = selected(&context.config, names)?;
    let (trials, without_twin) = trials(&context.config, &specs);
    for spec in &without_twin {
        let message = format!("{}: its CA has no twin for tests, so it was not tried", spec.name);
        output::problem(&message, Some("name a CA for tests with `ca` and `test = true`"));
    }
    make_trial(&mut context.config, &trials);
    let (base, agent, deployer) = context.open(None).await?;
    let mut failed = !without_twin.is_empty();
    let mut reports = Vec::new();
    for (spec, _) in &trials {
        let Some(trial) = agent.spec(&spec.name) else { continue };
        let bar = super::renew::spinner(spec.name.as_str());
        let result = agent.lifecycle.work(trial, Asked::Forced).await;
        bar.finish_and_clear();
        let report = report(&spec.name, result, base.clock.now());
        failed |= !report.renewed;
        if report.renewed && !global.json {
            output::data(&format!("{}: the trial went well", spec.name));
            say_what_is_not_proven(spec);
        }
        for failure in &report.failures {
            let message = format!("{}: {}", spec.name, failure.message);
            output::problem(&message, failure.hint.as_deref());
        }
        reports.push(report);
    }
    deployer.end().await;
    if global.json {
        output::json(&reports);
    }
    Ok(if failed { Exit::Failed } else { Exit::AsWanted })
}

/// Each of `specs` with the CA for tests that stands for its own; and those that have none.
fn trials<'a>(
    config: &Config,
    specs: &'a [CertificateSpec],
) -> (Vec<(&'a CertificateSpec, Ca)>, Vec<&'a CertificateSpec>) {
    let mut trials = Vec::new();
    let mut without_twin = Vec::new();
    for spec in specs {
        let ca = spec.first_ca().and_then(|name| config.cas.get(name));
        let twin = ca.and_then(|it| match it {
            Ca::Acme(settings) => twin(settings).map(Ca::Acme),
            // In the trial's folder it has keys of its own.
            Ca::Local(_) => Some(it.clone()),
        });
        match twin {
            Some(twin) => trials.push((spec, twin)),
            None => without_twin.push(spec),
        }
    }
    (trials, without_twin)
}

fn twin(settings: &CaSettings) -> Option<CaSettings> {
    if settings.test {
        return Some(settings.clone());
    }
    let (_, directory) = TWINS.iter().find(|(real, _)| *real == settings.directory)?;
    let name: CaName = format!("{}-staging", settings.name).parse().ok()?;
    Some(CaSettings { name, directory: (*directory).to_owned(), test: true, ..settings.clone() })
}

/// Makes of `config` one that knows nothing but the trials.
fn make_trial(config: &mut Config, trials: &[(&CertificateSpec, Ca)]) {
    config.store.state_dir = config.store.state_dir.join("dry-run");
    config.targets = BTreeMap::new();
    config.cas = trials.iter().map(|(_, twin)| (twin.name().clone(), twin.clone())).collect();
    config.certificates = trials
        .iter()
        .map(|(spec, twin)| CertificateSpec {
            cas: vec![twin.name().clone()],
            targets: Vec::new(),
            placeholder: false,
            ..(*spec).clone()
        })
        .collect();
}

fn say_what_is_not_proven(spec: &CertificateSpec) {
    let targets: Vec<_> = spec.targets.iter().map(ToString::to_string).collect();
    if !targets.is_empty() {
        output::data(&format!("  not proven: that {} would load and serve it", targets.join(", ")));
    }
    if let Some(ca) = spec.first_ca() {
        output::data(&format!(
            "  not proven: that {ca} itself would issue it now (its limits, CAA, an account's state)"
        ));
    }
}
