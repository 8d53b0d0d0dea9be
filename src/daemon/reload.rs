//! Puts a changed configuration in force, or says why not.
//!
//! Reading one takes as long as the disk does, so it happens beside the scheduler; one at a time,
//! and requests that come meanwhile are answered by one more reading after it.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::assemble::{self, Agent, Base, PassingState};
use crate::config::{self, Config, Environment};
use crate::model::{CertificateSpec, Explain, chain_text};
use crate::observe::ReceiverSettings;

use super::{Daemon, Reloaded};

/// Hears what is in force, or all faults as one text.
pub(super) type Reply = oneshot::Sender<Result<Reloaded, String>>;

/// Whether a reading was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Just now.
    Now,
    /// None was, or one is under way already.
    NotNow,
}

/// The reading of configurations that is under way or waited for.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    task: JoinSet<Result<Agent, String>>,
    waiting: Vec<Reply>,
    next: Option<Vec<Reply>>,
}

impl Reloads {
    /// Has the configuration of `daemon` read again; `reply` hears of it.
    pub(super) fn ask(&mut self, daemon: &Daemon, reply: Option<Reply>) -> Begun {
        if self.task.is_empty() {
            self.waiting.extend(reply);
            self.begin(daemon);
            return Begun::Now;
        }
        // What is being read may be older than what is asked for.
        self.next.get_or_insert_default().extend(reply);
        Begun::NotNow
    }

    fn begin(&mut self, daemon: &Daemon) {
        let (base, agent) = (daemon.base.clone(), daemon.agent.clone());
        let (file, environment) = (daemon.config_file.clone(), daemon.environment.clone());
        self.task.spawn_blocking(move || load(&base, &agent, &file, &environment));
    }

    /// Waits for the reading that is under way; `None` if none is.
    pub(super) async fn ended(&mut self) -> Option<Result<Agent, String>> {
        let ended = self.task.join_next().await?;
        Some(ended.unwrap_or_else(|error| Err(format!("reading it panicked: {error}"))))
    }

    /// Tells all who waited for the reading that ended; begins the next one if it was asked for.
    pub(super) fn answer(&mut self, result: &Result<Reloaded, String>, daemon: &Daemon) -> Begun {
        for reply in self.waiting.drain(..) {
            // Who asked may have gone away.
            drop(reply.send(result.clone()));
        }
        if let Some(next) = self.next.take() {
            self.waiting = next;
            self.begin(daemon);
            return Begun::Now;
        }
        Begun::NotNow
    }
}

/// Reads the configuration `file` again and builds what it stands for; nothing of the `old` one is
/// touched. Certificates whose included entry or file has faults keep their last good version.
///
/// All faults, as one text, where it can't be put in force.
fn load(
    base: &Base,
    old: &Arc<Agent>,
    file: &Path,
    environment: &Environment,
) -> Result<Agent, String> {
    let mut config = config::load(file, environment).map_err(|faults| faults.to_string())?;
    if config.store != old.config.store {
        return Err(
            "state_dir and run_dir can't be changed while the daemon runs: restart it".to_owned()
        );
    }
    keep_rejected(&mut config, &old.config);
    assemble::check_lasting(&config).map_err(|error| told(&error))?;
    assemble::build(config, base, Some(old)).map_err(|error| chain_text(&error))
}

/// `error` with what to do about it.
fn told(error: &PassingState) -> String {
    let hint = error.hint().unwrap_or_default();
    format!("{error}\n  hint: {hint}")
}

/// Takes over from `old` each certificate that `config` rejected by itself or with its file, and
/// the targets, solvers and CAs that it needs and `config` has lost with it; and so each receiver
/// of alerts.
fn keep_rejected(config: &mut Config, old: &Config) {
    let is_rejected = |it: &&CertificateSpec| config.has_rejected(it);
    // One that another file brings by now needs no older version.
    let is_there =
        |it: &CertificateSpec| config.certificates.iter().any(|other| other.name == it.name);
    let kept = old.certificates.iter().filter(is_rejected).filter(|it| !is_there(it)).cloned();
    let kept: Vec<CertificateSpec> = kept.collect();
    for spec in kept {
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
        config.certificates.push(spec);
    }
    // Of a refused entry not even the name is certain.
    let is_refused = |it: &&ReceiverSettings| {
        [&config.alerts.refused_in, &config.rejected_files].iter().any(|of| of.contains(&it.source))
    };
    let is_there =
        |it: &&ReceiverSettings| config.alerts.receivers.iter().any(|of| of.name == it.name);
    let kept = old.alerts.receivers.iter().filter(is_refused).filter(|it| !is_there(it)).cloned();
    let kept: Vec<ReceiverSettings> = kept.collect();
    config.alerts.receivers.extend(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic::{self, Access};

    const MAIN: &str = "terms_of_service_agreed = true\ninclude = [\"conf.d/*.toml\"]\n\
                        [[certificate]]\ndomains = [\"main.example\"]\n";
    const TENANT: &str = "[solver.own]\ntype = \"http-01\"\nwebroot = \"/srv/tenant\"\n\
                          [ca.own]\ndirectory = \"https://ca.example/\"\n\
                          [target.own]\ntype = \"command\"\nreload = { command = [\"tell\"] }\n\
                          [[certificate]]\ndomains = [\"tenant.example\"]\nsolver = \"own\"\n\
                          ca = \"own\"\ntargets = [\"own\"]\n\
                          [[alert]]\nname = \"tenant\"\ntype = \"command\"\n\
                          command = [\"tell\"]\n";

    fn load(folder: &Path, tenant: &str) -> Config {
        for (file, text) in [("renewd.toml", MAIN), ("conf.d/tenant.toml", tenant)] {
            let path = folder.join(file);
            atomic::directory(path.parent().unwrap(), Access::mode(0o755)).unwrap();
            atomic::write(&path, text.as_bytes(), Access::mode(0o644)).unwrap();
        }
        config::load(&folder.join("renewd.toml"), &Environment::default()).unwrap()
    }

    fn names(config: &Config) -> Vec<&str> {
        config.certificates.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn what_an_included_file_brought_stays_while_the_file_or_the_entry_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let good = load(folder.path(), TENANT);
        let misspelt = TENANT.replace("ca = ", "cas = ").replace("name = ", "nam = ");
        for broken in ["[[certificate]\n".to_owned(), misspelt] {
            let mut old = good.clone();
            // Each time, what was kept is the old one of the next reload.
            for _ in 0..2 {
                let mut config = load(folder.path(), &broken);
                assert_eq!(names(&config), ["main.example"], "{broken}");
                keep_rejected(&mut config, &old);
                assert_eq!(names(&config), ["main.example", "tenant.example"], "{broken}");
                let receivers = config.alerts.receivers.iter().map(|it| it.name.as_str());
                assert_eq!(receivers.collect::<Vec<_>>(), ["tenant"], "{broken}");
                let kept = config.certificates.last().unwrap();
                assert!(kept.targets.iter().all(|it| config.targets.contains_key(it)));
                assert!(kept.solvers.values().all(|it| config.solvers.contains_key(it)));
                assert!(kept.cas.iter().all(|it| config.cas.contains_key(it)));
                old = config;
            }
        }
    }

    #[test]
    fn what_was_taken_out_is_forgotten_and_what_moved_is_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let old = load(folder.path(), TENANT);
        let mut config = load(folder.path(), "");
        keep_rejected(&mut config, &old);
        assert_eq!(names(&config), ["main.example"]);

        let other = folder.path().join("conf.d/other.toml");
        atomic::write(&other, TENANT.as_bytes(), Access::mode(0o644)).unwrap();
        let mut config = load(folder.path(), "[[certificate]\n");
        keep_rejected(&mut config, &old);
        assert_eq!(names(&config), ["main.example", "tenant.example"]);
        assert_eq!(config.certificates.last().unwrap().source, other);
    }
}
