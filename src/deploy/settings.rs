//! What the configuration says of one target: a server that uses certificates.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Identifier, TargetName};
use crate::probe::StartTls;

/// One target, as configured, with its kind's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// Its name in the configuration.
    pub name: TargetName,
    /// Files to be put where the server looks, besides those of the store.
    pub install: Vec<InstallSettings>,
    /// The program that says whether the server would accept its configuration.
    pub test: Option<ProgramSettings>,
    /// How the server is told to load its files again.
    pub reload: Option<ReloadSettings>,
    /// Where it is asked what it serves; empty: nowhere, and deployed means installed and told.
    pub verify: Vec<VerifySettings>,
    /// How long after a reload all endpoints may take to serve the new certificate.
    pub verify_timeout: Duration,
}

impl TargetSettings {
    /// How long its slowest program may run.
    #[must_use]
    pub fn longest_program(&self) -> Duration {
        let reload = match &self.reload {
            Some(ReloadSettings::Systemd { timeout, .. }) => Some(*timeout),
            Some(ReloadSettings::Command(program)) => Some(program.timeout),
            Some(ReloadSettings::Signal { .. }) | None => None,
        };
        let test = self.test.as_ref().map(|it| it.timeout);
        reload.max(test).unwrap_or_default()
    }

    /// The folders that files are installed in, as configured, each once.
    pub(super) fn folders(&self) -> Vec<String> {
        let folder = |it: &InstallSettings| Some(it.path.rsplit_once('/')?.0.to_owned());
        let mut folders: Vec<String> = self.install.iter().filter_map(folder).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Whether the operator named the endpoint `address`: it has to serve.
    #[must_use]
    pub fn requires(&self, address: &str) -> bool {
        self.verify.iter().any(|it| it.required && it.address == address)
    }
}

/// A program and its limits. Started without a shell, in a process group of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramSettings {
    /// The program and its arguments; the first is looked up in a fixed `PATH` if it has no slash.
    pub arguments: Vec<String>,
    /// When it is killed.
    pub timeout: Duration,
}

/// How a server is told to load its files again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadSettings {
    /// `systemctl try-reload-or-restart UNIT`: a unit that can't reload is restarted, one that does
    /// not run is left alone.
    Systemd {
        /// The unit.
        unit: String,
        /// When systemctl is killed.
        timeout: Duration,
    },
    /// A signal to the process whose number stands in a file.
    Signal {
        /// Its name without `SIG`, such as `HUP`.
        signal: String,
        /// The file.
        pid_file: PathBuf,
    },
    /// A program. It is told by `RENEWD_CERTIFICATE`, `RENEWD_TARGET`, `RENEWD_GENERATION`,
    /// `RENEWD_DIRECTORY`, `RENEWD_FULLCHAIN` and, unless the key is elsewhere, `RENEWD_PRIVKEY`
    /// what was deployed (by the
    /// deployer process these are copies, gone when the program has ended), and is run for
    /// each certificate, unless it is one that steers servers as a whole (`nginx -s reload`): then
    /// one run serves all who asked before it began.
    Command(ProgramSettings),
}

/// One file to be put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallSettings {
    /// What it holds.
    pub content: InstallContent,
    /// Where; `{name}` stands for the certificate's name.
    pub path: String,
    /// Its owner; ours if `None`.
    pub owner: Option<String>,
    /// Its group; the owner's if `None`.
    pub group: Option<String>,
    /// Its mode; 0600 for what holds a key and 0644 else if `None`.
    pub mode: Option<u32>,
}

/// Which of a generation's files an installed file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallContent {
    /// Leaf and intermediates.
    FullChain,
    /// The leaf.
    Certificate,
    /// The intermediates.
    Chain,
    /// The private key.
    PrivateKey,
    /// Private key, leaf and intermediates in one.
    Combined,
}

impl InstallContent {
    /// Whether it holds the private key.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::PrivateKey | Self::Combined)
    }

    /// The file's name in a generation.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::FullChain => "fullchain.pem",
            Self::Certificate => "cert.pem",
            Self::Chain => "chain.pem",
            Self::PrivateKey => "privkey.pem",
            Self::Combined => "combined.pem",
        }
    }
}

/// One endpoint of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifySettings {
    /// `host:port`, or `[address]:port`.
    pub address: String,
    /// The names to ask for there; the certificate's identifiers if empty.
    pub names: Vec<Identifier>,
    /// The protocol spoken before TLS begins.
    pub starttls: Option<StartTls>,
    /// Whether a deployment fails where this endpoint was never seen to serve the name, and shows
    /// no certificate for it. True for what the operator wrote; false for a kind's guesses, such as
    /// `[::1]:443`.
    pub required: bool,
}
