//! That state which costs a public CA something to make anew is kept where it lasts.
//!
//! An account and a certificate at each start of a container soon hit the CA's limits, and then
//! there is no certificate at all: so this is found out before the first order, not after the last.
//!
//! A network file system may keep it, and not keep a lock: that is told.
//!
//! Not here: what the file system is ([`crate::sys::volume`]).

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::model::{CaName, Explain, Health, Notice, Retry, Timestamp};
use crate::sys::volume;

/// The state directory lies where it is lost at the end of the machine or container.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state directory {} is on {file_system}, which is lost at the next start: every start \
     would ask {ca} for a new account and new certificates, and soon hit its limits",
    state_dir.display()
)]
pub struct PassingState {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The kind of file system.
    pub file_system: &'static str,
    /// The first CA that would be asked too often.
    pub ca: CaName,
}

impl Explain for PassingState {
    fn code(&self) -> &'static str {
        "state.passing"
    }

    fn retry(&self) -> Retry {
        Retry::AfterChange
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "mount a volume at {}, or set state_dir to a folder on a disk; if it lasts all the \
             same, or is meant to be lost, write `ephemeral = true` at the top of the configuration",
            self.state_dir.display()
        ))
    }
}

/// Refuses a `config` whose state would be lost although a public CA is asked; one that says
/// `ephemeral = true` is let pass.
///
/// # Errors
///
/// [`PassingState`]. A file system that does not say what it is counts as one that lasts.
pub fn check_lasting(config: &Config) -> Result<(), PassingState> {
    if config.ephemeral {
        return Ok(());
    }
    let state_dir = &config.store.state_dir;
    match (config.public_cas().first(), volume::passing(state_dir)) {
        (Some(ca), Ok(Some(file_system))) => {
            Err(PassingState { state_dir: state_dir.clone(), file_system, ca: (*ca).clone() })
        }
        _ => Ok(()),
    }
}

/// The code of [`on_a_network`].
pub const ON_A_NETWORK: &str = "state.on_a_network";

/// That the state directory of `config` lies on a network file system.
pub(super) fn on_a_network(config: &Config, since: Timestamp) -> Option<Notice> {
    let state_dir = &config.store.state_dir;
    let file_system = volume::of_a_network(state_dir).ok().flatten()?;
    Some(notice(state_dir, file_system, since))
}

/// It is no trouble yet: what is lost with a lock is the work of a second writer, and only if there
/// is one.
fn notice(state_dir: &Path, file_system: &str, since: Timestamp) -> Notice {
    Notice {
        code: ON_A_NETWORK.to_owned(),
        health: Health::Ok,
        message: format!(
            "the state directory {} is on {file_system}, a network file system: locks may be lost \
             there, and what was written may be gone after a crash",
            state_dir.display()
        ),
        since,
        hint: Some("set state_dir to a folder on a disk of this machine".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::sys::atomic::{self, Access};

    fn checked(text: &str) -> Result<(), PassingState> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("renewd.toml");
        let text = format!(
            "terms_of_service_agreed = true\n{text}\n[[certificate]]\ndomains = [\"a.example\"]\n"
        );
        atomic::write(&file, text.as_bytes(), Access::mode(0o600)).unwrap();
        check_lasting(&config::load(&file, &Environment::default()).unwrap())
    }

    #[test]
    fn a_public_ca_is_not_asked_for_what_is_lost_at_the_next_start() {
        let state = "state_dir = \"/dev/shm/renewd/state\"";
        let refused = checked(state).unwrap_err();
        assert_eq!((refused.file_system, refused.ca.as_str()), ("tmpfs", "letsencrypt"));
        assert!(refused.hint().unwrap().contains("ephemeral = true"));
        // By another name it is the same CA.
        let alias = "[ca.own]\ndirectory = \"https://acme-v02.api.letsencrypt.org/directory\"";
        assert!(checked(&format!("{state}\ndefault_ca = \"own\"\n{alias}")).is_err());
    }

    #[test]
    fn a_network_file_system_is_told_of_as_no_trouble_yet() {
        let since = Timestamp::from_unix_seconds(0);
        let told = notice(Path::new("/srv/renewd"), "NFS", since);
        assert_eq!((told.code.as_str(), told.health), (ON_A_NETWORK, Health::Ok));
        assert!(told.message.contains("/srv/renewd is on NFS") && told.hint.is_some(), "{told:?}");
    }

    #[test]
    fn a_ca_for_tests_or_of_ones_own_and_whoever_says_so_may_lose_it() {
        let state = "state_dir = \"/dev/shm/renewd/state\"";
        checked(&format!("{state}\nephemeral = true")).unwrap();
        checked(&format!("{state}\ndefault_ca = \"letsencrypt-staging\"")).unwrap();
        let own = "[ca.own]\ndirectory = \"https://ca.example/directory\"";
        checked(&format!("{state}\ndefault_ca = \"own\"\n{own}")).unwrap();
        checked("state_dir = \"/sys/renewd\"").unwrap();
    }
}
