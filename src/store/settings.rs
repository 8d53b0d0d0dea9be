//! Where the store lies.

use std::path::{Path, PathBuf};

/// The folders of the store and of the running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// What must outlive the process: `certs/` and `private/`.
    pub state_dir: PathBuf,
    /// Sockets, the status file, challenge files.
    pub run_dir: PathBuf,
}

impl StoreSettings {
    /// The folder of everybody's certificates.
    #[must_use]
    pub fn certs_dir(&self) -> PathBuf {
        self.state_dir.join("certs")
    }

    /// The folder of what nobody else may read.
    #[must_use]
    pub fn private_dir(&self) -> PathBuf {
        self.state_dir.join("private")
    }

    /// The socket on which a daemon takes orders.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// The socket on which the deployer takes requests.
    #[must_use]
    pub fn deployer_socket(&self) -> PathBuf {
        self.run_dir.join("deployer.sock")
    }

    /// The status file.
    #[must_use]
    pub fn status_file(&self) -> PathBuf {
        self.run_dir.join("status.json")
    }

    /// Where the solver `web` puts challenge files.
    #[must_use]
    pub fn challenge_dir(&self) -> PathBuf {
        self.run_dir.join("acme-challenge")
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            state_dir: Path::new("/var/lib/renewd").to_owned(),
            run_dir: Path::new("/run/renewd").to_owned(),
        }
    }
}
