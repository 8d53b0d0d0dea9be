//! Puts a changed configuration in force, or says why not.

use crate::assemble::{self, Agent};
use crate::config::{self, Config};
use crate::model::{CertificateName, chain_text};

use super::Daemon;

/// Reads the configuration file again and builds what it stands for; nothing of the old one is
/// touched. Certificates whose included entry has faults keep their last good version.
///
/// All faults, as one text, where it can't be put in force.
pub(super) fn load(daemon: &Daemon) -> Result<Agent, String> {
    let mut config = config::load(&daemon.config_file, &daemon.environment)
        .map_err(|faults| faults.to_string())?;
    if config.store != daemon.agent.config.store {
        return Err(
            "state_dir and run_dir can't be changed while the daemon runs: restart it".to_owned()
        );
    }
    keep_rejected(&mut config, &daemon.agent.config);
    assemble::build(config, &daemon.base, Some(&daemon.agent)).map_err(|error| chain_text(&error))
}

/// Takes over from `old` each certificate that `config` rejected, with the targets, solvers and CAs
/// that it needs and `config` has lost with it.
fn keep_rejected(config: &mut Config, old: &Config) {
    let rejected: Vec<CertificateName> = config.rejected.clone();
    for spec in old.certificates.iter().filter(|it| rejected.contains(&it.name)) {
        for name in &spec.targets {
            if let Some(target) = old.targets.get(name) {
                config.targets.entry(name.clone()).or_insert_with(|| target.clone());
            }
        }
        for name in spec.solvers.values() {
            if let Some(solver) = old.solvers.get(name) {
                config.solvers.entry(name.clone()).or_insert_with(|| solver.clone());
            }
        }
        for name in &spec.cas {
            if let Some(ca) = old.cas.get(name) {
                config.cas.entry(name.clone()).or_insert_with(|| ca.clone());
            }
        }
        config.certificates.push(spec.clone());
    }
}
