//! `renewd renew --dry-run`: the whole way at a CA for tests, with nothing live touched.
//!
//! # Rules
//!
//! - The CA that is asked is the one that `--ca` names, if it is for tests; else the certificate's
//!   own where it is for tests or built in, else its staging twin.
//! - Account, journal and certificates of the trial lie in a folder of their own, `dry-run` in the
//!   state directory. Proofs are shown for real, by the solvers of the certificate.
//! - No file is installed and no server reloaded; its own test is run, and its endpoints are asked
//!   what they serve.
//! - Afterwards the CA forgets that control was proven (RFC 8555 §7.5.2), so that the next trial
//!   proves it again.
//!
//! Not here: how a trial is told ([`super::trial`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::acme::CaSettings;
use crate::assemble::{Agent, Base, WorkReport, report};
use crate::config::{Ca, Config};
use crate::model::{CaName, CertificateSpec, ChallengeType, Explain, Observer, chain_text};
use crate::observe::log::LogObserver;
use crate::plan::Asked;

use super::arguments::{Global, RenewArguments};
use super::context::{Context, Ended, selected};
use super::exit::Exit;
use super::interruption::attended;
use super::trial::{Recorder, Trial};
use super::{output, owner};

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

/// Tries the renewal of what `arguments` name, or of all.
pub(super) async fn dry_run(global: &Global, arguments: RenewArguments) -> Result<Exit, Ended> {
    let mut context = Context::load(global)?;
    // Read while this process may still read all secrets.
    let mut live = Context::load(global)?;
    let specs = selected(&context.config, &arguments.names)?;
    let named = arguments.ca.as_ref().map(|it| for_tests(&context.config, it)).transpose()?;
    let mut failed = false;
    let mut chosen = Vec::new();
    for spec in &specs {
        match trial_ca(&context.config, spec, named.as_ref()) {
            Ok(ca) => chosen.push((spec, ca)),
            Err((message, hint)) => {
                failed = true;
                output::problem(&format!("{}: {message}", spec.name), Some(hint));
            }
        }
    }
    // As the owner of what is live: the trial's folder lies in it, and a deployer may have to run
    // the tests of the targets.
    let deployer = owner::become_owner(&mut context.config, &context.config_file).await?;
    live.config.deployer = context.config.deployer;
    let (_, live) = live.open_read_only()?;
    make_trial(&mut context.config, &chosen);
    let recorder = Arc::new(Recorder::new(LogObserver));
    let observer: Arc<dyn Observer> = recorder.clone();
    let (base, agent, own) = context.open_trial(arguments.wait, observer).await?;
    let mut trials = Vec::new();
    let trying = attended(async |stop| {
        for (spec, ca) in &chosen {
            let Some(trial) = agent.spec(&spec.name).filter(|_| !stop.is_asked()) else { continue };
            let bar = super::renew::spinner(spec.name.as_str());
            let work = Box::pin(agent.lifecycle.work(trial, Asked::Forced));
            let work = stop.unless_come(work).await;
            bar.finish_and_clear();
            let Some(work) = work else { break };
            let work = report(&spec.name, work, base.clock.now());
            let account = stop.unless_come(forget_proofs(&base, &agent, &work)).await.flatten();
            let rehearsed = Box::pin(live.lifecycle.rehearse(spec));
            let Some(targets) = stop.unless_come(rehearsed).await else { break };
            let told = Trial::new(spec, ca, work, recorder.take(), account);
            let told = told.with_targets(targets.map_err(|it| it.failure(base.clock.now())));
            failed |= !told.went_well();
            if !global.json {
                told.tell();
            }
            trials.push(told);
        }
        // Nobody else knows of what could not be taken away, also by trials before.
        stop.unless_come(agent.lifecycle.sweep()).await;
        own.end().await;
        deployer.end().await;
        failed |= stop.is_asked();
    });
    Box::pin(trying).await?;
    if global.json {
        output::json(&trials);
    }
    Ok(if failed { Exit::Failed } else { Exit::AsWanted })
}

/// The CA called `name`, if trials may go there.
fn for_tests(config: &Config, name: &CaName) -> Result<Ca, Ended> {
    let (message, hint) = match config.cas.get(name) {
        Some(ca) if ca.is_test() || matches!(ca, Ca::Local(_)) => return Ok(ca.clone()),
        Some(_) => {
            (format!("{name} is not for tests"), "name one that has `test = true`".to_owned())
        }
        None => {
            let known: Vec<_> = config
                .cas
                .values()
                .filter(|it| it.is_test())
                .map(|it| it.name().as_str())
                .collect();
            (format!("there is no CA named {name}"), format!("for tests are: {}", known.join(", ")))
        }
    };
    output::problem(&message, Some(&hint));
    Err(Ended(Exit::Usage))
}

/// The CA at which `spec` is tried, `named` if a human named one; else why it is not tried, and
/// what can be done.
fn trial_ca(
    config: &Config,
    spec: &CertificateSpec,
    named: Option<&Ca>,
) -> Result<Ca, (&'static str, &'static str)> {
    let stands = |it| {
        let solver = config.solvers.get(it);
        solver.is_some_and(|it| it.method.challenge_type() == ChallengeType::DnsPersist01)
    };
    if spec.solvers.values().any(stands) {
        return Err((
            "dns-persist-01 is bound to the account, and a trial has another: it was not tried",
            "`renewd dns persist` and `renewd status` say how its records stand",
        ));
    }
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let own = spec.first_ca().and_then(|name| config.cas.get(name));
    let twin = own.and_then(|it| match it {
        // In the trial's folder it has keys of its own.
        Ca::Local(_) => Some(it.clone()),
        Ca::Acme(settings) if settings.test => Some(it.clone()),
        Ca::Acme(settings) => twin(config, settings),
    });
    twin.ok_or((
        "its CA has no twin for tests, so it was not tried",
        "name a CA for tests by --ca; it needs `test = true`",
    ))
}

/// The CA for tests beside that of `settings`: as it is configured, also with what binds its
/// accounts.
fn twin(config: &Config, settings: &CaSettings) -> Option<Ca> {
    let (_, directory) = TWINS.iter().find(|(real, _)| *real == settings.directory)?;
    let is_twin = |it: &&Ca| it.is_test() && it.directory() == *directory;
    config.cas.values().find(is_twin).cloned()
}

/// Makes of `config` one that knows nothing but the trials.
fn make_trial(config: &mut Config, trials: &[(&CertificateSpec, Ca)]) {
    config.store.state_dir = config.store.state_dir.join("dry-run");
    config.targets = BTreeMap::new();
    config.cas = trials.iter().map(|(_, ca)| (ca.name().clone(), ca.clone())).collect();
    config.certificates = trials
        .iter()
        .map(|(spec, ca)| CertificateSpec {
            cas: vec![ca.name().clone()],
            targets: Vec::new(),
            placeholder: false,
            ..(*spec).clone()
        })
        .collect();
}

/// Has the CA forget that control was proven for what was tried; returns the account of the trial.
async fn forget_proofs(base: &Base, agent: &Agent, work: &WorkReport) -> Option<String> {
    let held = base.store.held(&work.name).await.ok().flatten();
    let origin = held.and_then(|it| it.origin)?;
    let client = agent.lifecycle.issuer.clients.get(&origin.ca)?;
    if let Some(url) = origin.order_url.filter(|_| work.renewed) {
        match client.order(&url).await {
            Ok(mut order) => order.withdraw().await,
            Err(error) => {
                let reason = chain_text(&error);
                tracing::debug!(certificate = %work.name, reason, "proofs are not forgotten");
            }
        }
    }
    client.account_url().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_twin_is_a_ca_for_tests_that_is_known_without_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let text = "terms_of_service_agreed = true\n[ca.google-staging]\neab_kid = \"of-staging\"\n\
                    eab_hmac_env = \"HMAC\"\n[[certificate]]\ndomains = [\"example.com\"]\n";
        crate::sys::atomic::write(&file, text.as_bytes(), crate::sys::atomic::Access::mode(0o600))
            .unwrap();
        let mut environment = crate::config::Environment::default();
        environment.variables.insert("HMAC".into(), "c2VjcmV0".into());
        let config = crate::config::load(&file, &environment).unwrap();
        let twin_of = |name: &str| match &config.cas[&name.parse::<CaName>().unwrap()] {
            Ca::Acme(settings) => twin(&config, settings),
            Ca::Local(_) => None,
        };
        let name = |name: &str| twin_of(name).map(|it| it.name().to_string());
        assert_eq!(name("letsencrypt").as_deref(), Some("letsencrypt-staging"));
        assert_eq!(name("google").as_deref(), Some("google-staging"));
        assert_eq!(name("zerossl"), None);
        let Some(Ca::Acme(google)) = twin_of("google") else { panic!("it speaks ACME") };
        assert_eq!(google.external_account_binding.unwrap().key_id, "of-staging");
    }
}
