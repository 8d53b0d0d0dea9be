//! Which files a target wants, and whether they are there already.
//!
//! Not here: replacing them ([`super::placement`]).

use std::io;
use std::path::{Component, PathBuf};
use std::time::Duration;

use super::placement::{Change, Copies, Placement};
use super::reach::Reach;
use super::source::Material;
use super::standing::Standing;
use super::{InstallSettings, Installed, SourceError};
use crate::model::CertificateName;
use crate::model::Explain;
use crate::sys::atomic::{self, Access, WriteError};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::trust::{self, DistrustError, Stranger};
use crate::sys::user::{UserError, first_group_of, group_id, user_id};
use crate::sys::volume::{self, Room};

/// Temporary files of ours that are older were left by a crash.
const LEFT_BY_A_CRASH: Duration = Duration::from_secs(3600);

/// What is to be left where files are installed, before anything is ordered.
const NEEDED: Room = Room { bytes: 256 << 10, files: 8 };

/// A file could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not the absolute path of a file.
    #[error("{path:?} is not the absolute path of a file")]
    NotAPath {
        /// As configured, the name filled in.
        path: String,
    },
    /// The folder it is to be put in is not there.
    #[error("the folder {} is not there", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing can be put into the folder.
    #[error("nothing can be written into the folder {}", folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else stands in its place.
    #[error("{} {what}, and is not replaced", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Its owner or group is not known.
    #[error(transparent)]
    User(#[from] UserError),
    /// A file of ours can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file can't be taken away.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is stored can't be written out.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The folder it is to be put in could be another one by then.
    #[error("nothing is written there as root")]
    Untrusted(#[source] DistrustError),
    /// The work was broken off: the agent ends, or has a fault.
    #[error("the work was broken off")]
    BrokenOff(#[source] tokio::task::JoinError),
}

impl InstallError {
    /// What a human can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAPath { .. } => Some("write a path that begins with '/'".into()),
            Self::NoFolder { folder } => Some(format!(
                "make it with the rights you want: install -d -m 0755 {}",
                folder.display()
            )),
            Self::InTheWay { path, .. } => {
                Some(format!("move {} away, or install to another path", path.display()))
            }
            Self::User(error) => error.hint(),
            Self::Write(error) => hint_for_system(error.io_error()),
            Self::Unwritable { source, .. } => hint_for_system(source),
            Self::Untrusted(_) => Some(
                "install to a folder that the daemon's user can't change, nor any above it".into(),
            ),
            Self::Read { .. } | Self::Remove { .. } | Self::Source(_) | Self::BrokenOff(_) => None,
        }
    }
}

fn hint_for_system(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "only root may write there or give files away: use the deployer \
             (deployer = \"socket\"), or leave out owner and group"
        }
        io::ErrorKind::StorageFull => "make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "make that file system writable; if it is, the deployer's unit keeps it from writing \
             there: `renewd check --systemd` prints what it needs"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Whether the files of `settings` could be put in place, as far as that can be told without doing
/// it: their folders are there and may be written to, their owners are known. Blocks.
///
/// # Errors
///
/// [`InstallError`] says what stands in the way.
pub(super) fn check_writable(
    settings: &[InstallSettings],
    certificate: &CertificateName,
) -> Result<(), InstallError> {
    for file in settings {
        let path = destination(&file.path, certificate)?;
        let folder = path.parent().unwrap_or(&path);
        volume::check_writable(folder)
            .and_then(|()| volume::check_room(folder, NEEDED))
            .map_err(|source| InstallError::Unwritable { folder: folder.to_owned(), source })?;
        access(file)?;
    }
    Ok(())
}

/// Puts the files of `settings` in place with the content of `material`. Blocks.
///
/// # Errors
///
/// [`InstallError`]; the files are what they were before.
pub(super) fn install(
    settings: &[InstallSettings],
    material: &Material,
    certificate: &CertificateName,
    placement: &Placement,
    reach: &Reach,
) -> Result<Installed, InstallError> {
    check_folders(settings, certificate, reach.stranger())?;
    placement.repair(reach)?;
    let (mut all, mut changes) = (Vec::new(), Vec::new());
    for file in settings {
        let path = destination(&file.path, certificate)?;
        let content = material.content(file.content)?;
        let wanted = Standing::File { content, access: access(file)? };
        let is_met = wanted.is_met_by(&Standing::observe(&path)?);
        all.push(Change { path, wanted });
        changes.extend(all.last().filter(|_| !is_met).cloned());
    }
    if changes.is_empty() {
        placement.note_placed(&all)?;
        return Ok(Installed::Unchanged);
    }
    let now = SystemClock::new().now();
    for folder in changes.iter().filter_map(|it| it.path.parent()) {
        atomic::sweep(folder, LEFT_BY_A_CRASH, now);
    }
    placement.place(&changes, Copies::Keep(&all))?;
    Ok(Installed::Changed)
}

/// Puts back what `settings` name and is accepted, with the rights that they say; whether that is
/// kept. Blocks.
///
/// # Errors
///
/// [`InstallError`]; the files are what they were before.
pub(super) fn put_back(
    settings: &[InstallSettings],
    certificate: &CertificateName,
    placement: &Placement,
    reach: &Reach,
) -> Result<bool, InstallError> {
    check_folders(settings, certificate, reach.stranger())?;
    placement.repair(reach)?;
    let paths = destinations(settings, certificate)?;
    let Some(mut changes) = placement.previous(&paths)? else { return Ok(false) };
    // Where we may write is for the configuration to say, as it is now.
    changes.retain(|it| reach.names(&it.path));
    for (path, file) in paths.iter().zip(settings) {
        let change = changes.iter_mut().find(|it| it.path == *path);
        if let Some(Standing::File { access: rights, .. }) = change.map(|it| &mut it.wanted) {
            *rights = access(file)?;
        }
    }
    placement.place(&changes, Copies::Discard)?;
    Ok(!changes.is_empty())
}

/// Accepts what stands where `settings` say: it is what can be put back from the next install on;
/// whether it could be accepted ([`Placement::accept`]). Blocks.
///
/// # Errors
///
/// [`InstallError`]; what can be put back is what it was before.
pub(super) fn accept(
    settings: &[InstallSettings],
    certificate: &CertificateName,
    placement: &Placement,
    stranger: Option<&Stranger>,
) -> Result<bool, InstallError> {
    check_folders(settings, certificate, stranger)?;
    placement.accept(&destinations(settings, certificate)?)
}

fn destinations(
    settings: &[InstallSettings],
    certificate: &CertificateName,
) -> Result<Vec<PathBuf>, InstallError> {
    settings.iter().map(|it| named(&it.path, certificate)).collect()
}

/// The path that a configured `path` stands for; its folder is there.
fn destination(path: &str, certificate: &CertificateName) -> Result<PathBuf, InstallError> {
    let path = named(path, certificate)?;
    let folder = path.parent().unwrap_or(&path);
    if folder.is_dir() { Ok(path) } else { Err(InstallError::NoFolder { folder: folder.into() }) }
}

/// The path that a configured `path` stands for.
pub(super) fn named(path: &str, certificate: &CertificateName) -> Result<PathBuf, InstallError> {
    let text = path.replace("{name}", certificate.as_str());
    let path = PathBuf::from(&text);
    let plain = path.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
    let is_file = path.parent().is_some() && !text.ends_with('/');
    if plain && is_file && path.is_absolute() {
        Ok(path)
    } else {
        Err(InstallError::NotAPath { path: text })
    }
}

/// That no folder on the way to the files of `settings` is one that `stranger`, for whom they are
/// installed, could exchange for a link to where he may not write; nothing to ask without one.
/// Blocks.
///
/// # Errors
///
/// [`InstallError`] names it.
pub(super) fn check_folders(
    settings: &[InstallSettings],
    certificate: &CertificateName,
    stranger: Option<&Stranger>,
) -> Result<(), InstallError> {
    let Some(stranger) = stranger else { return Ok(()) };
    for file in settings {
        let path = destination(&file.path, certificate)?;
        trust::check_not_of(path.parent().unwrap_or(&path), stranger)
            .map_err(InstallError::Untrusted)?;
    }
    Ok(())
}

fn access(file: &InstallSettings) -> Result<Access, InstallError> {
    let owner = file.owner.as_deref().map(user_id).transpose()?;
    let group = match (&file.group, &file.owner) {
        (Some(group), _) => Some(group_id(group)?),
        (None, Some(owner)) => first_group_of(owner)?,
        (None, None) => None,
    };
    let mode = match file.mode {
        Some(mode) => mode,
        None if file.content.is_secret() => 0o600,
        None => 0o644,
    };
    Ok(Access { mode, owner, group })
}
