//! Where an install that was interrupted may be finished: what a journal names was right when it
//! was written, and what counts is the configuration as it is now.
//!
//! Not here: finishing it ([`super::placement`]).

use std::path::{Path, PathBuf};

use super::InstallSettings;
use super::client::Client;
use super::install::named;
use crate::model::{CertificateName, TargetName, chain_text};
use crate::sys::trust::{self, Stranger};

/// The destinations of one certificate at one target.
#[derive(Debug)]
pub(super) struct Reach {
    named: Vec<PathBuf>,
    stranger: Option<Stranger>,
}

/// Why nothing is done to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// The configuration does not name it.
    Unnamed,
    /// Whoever is not trusted could have changed where it is; how, in words.
    Untrusted(String),
}

impl Reach {
    /// Of `certificate` where `settings` say, for a `stranger`, or else for this process.
    pub(super) fn new(
        settings: &[InstallSettings],
        certificate: &CertificateName,
        stranger: Option<Stranger>,
    ) -> Self {
        let named = settings.iter().filter_map(|it| named(&it.path, certificate).ok());
        Self { named: named.collect(), stranger }
    }

    /// The same for `client`, to whom it has to be allowed; `None`: for this process. Blocks.
    pub(super) fn for_client(
        settings: &[InstallSettings],
        certificate: &CertificateName,
        target: &TargetName,
        client: Option<&Client>,
    ) -> Self {
        let is_listed = client.is_none_or(|it| it.check(certificate, target).is_ok());
        let settings = if is_listed { settings } else { &[] };
        Self::new(settings, certificate, client.and_then(Client::stranger))
    }

    /// For whom it is installed, if he is not trusted.
    pub(super) const fn stranger(&self) -> Option<&Stranger> {
        self.stranger.as_ref()
    }

    /// Whether the configuration names `path`.
    pub(super) fn names(&self, path: &PathBuf) -> bool {
        self.named.contains(path)
    }

    /// Why nothing is put at `path`; `None` if it may be. Blocks.
    pub(super) fn bar(&self, path: &PathBuf) -> Option<Bar> {
        let untrusted = self.stranger.as_ref().and_then(|stranger| {
            let folder = path.parent().unwrap_or(path);
            trust::check_not_of(folder, stranger).err()
        });
        match untrusted {
            Some(error) => Some(Bar::Untrusted(chain_text(&error))),
            None if !self.names(path) => Some(Bar::Unnamed),
            None => None,
        }
    }
}

impl Bar {
    /// Whether what is ours at `path` may be taken away all the same.
    pub(super) const fn lets_remove(&self) -> bool {
        matches!(self, Self::Unnamed)
    }

    /// In words, for the log.
    pub(super) fn text(&self, path: &Path) -> String {
        match self {
            Self::Unnamed => format!("the configuration does not name {} any more", path.display()),
            Self::Untrusted(why) => why.clone(),
        }
    }
}
