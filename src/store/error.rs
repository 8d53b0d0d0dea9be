//! What can go wrong with the store, in the words of operators.
//!
//! Not here: errors of an engine ([`super::EngineError`]), which become sources of these.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::ReadError;
use crate::model::{ChainError, Explain, Fingerprint, KeyError, Retry, StorageError};
use crate::sys::atomic::WriteError;
use crate::sys::user::UserError;

/// The state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it, and the wait was in vain.
    #[error("another renewd{} works on {}", held_by(*pid), state_dir.display())]
    Held {
        /// The state directory.
        state_dir: PathBuf,
        /// Who, as far as known.
        pid: Option<u32>,
    },
    /// It was written by a version whose state this one would misread.
    #[error("{} was written by a newer renewd, in a form that this one can't read", state_dir.display())]
    TooNew {
        /// The state directory.
        state_dir: PathBuf,
        /// The oldest form that a reader must know.
        min_reader: u32,
    },
    /// It can't be made, read or written.
    #[error("cannot use the state directory {}", state_dir.display())]
    Unusable {
        /// The state directory.
        state_dir: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

fn held_by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl Explain for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "store.held",
            Self::TooNew { .. } => "store.too_new",
            Self::Unusable { .. } => "store.unusable",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Held { .. } | Self::Unusable { .. } => Retry::BackOff,
            Self::TooNew { .. } => Retry::AfterChange,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => {
                Some("wait longer with --wait, or stop the other process".to_owned())
            }
            Self::TooNew { .. } => Some(
                "install the newer version again, or restore a backup made before it".to_owned(),
            ),
            Self::Unusable { source, .. } => hint_for(source.as_ref()),
        }
    }
}

/// What `current` points to can't be used. Its files may be whole again after
/// [`super::Store::repair`].
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// There are generations, but no `current`.
    #[error("the link {} is missing", .0.display())]
    LinkMissing(PathBuf),
    /// `current` is no link to a generation beside it.
    #[error("{} is not a link to a generation beside it", .0.display())]
    StrangeLink(PathBuf),
    /// One of the two files can't be read.
    #[error("the held certificate is unreadable")]
    Read(#[source] ReadError),
    /// `fullchain.pem` is broken.
    #[error("{} is broken", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// In which way.
        #[source]
        source: ChainError,
    },
    /// `privkey.pem` is broken.
    #[error("{} is broken", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// In which way.
        #[source]
        source: KeyError,
    },
    /// Key and certificate are not of one pair.
    #[error("key and certificate in {} do not belong together", .0.display())]
    Mismatch(PathBuf),
    /// Another pair lies where ours was.
    #[error("{} no longer holds the certificate {expected} that was put there", directory.display())]
    Replaced {
        /// The generation's folder.
        directory: PathBuf,
        /// What was put there.
        expected: Fingerprint,
    },
    /// The system refused, or the program is ending.
    #[error("cannot look for the held certificate")]
    System(#[source] io::Error),
}

impl HeldError {
    /// Whether nothing is known to be wrong with the files: the system would not let us read them,
    /// as with too many open files, a bad disk, or missing rights. No reason for a new certificate.
    #[must_use]
    pub fn is_systems_fault(&self) -> bool {
        match self {
            Self::Read(error @ ReadError::System { source, .. }) => {
                // LOOP is a link in place of a file, which is a fault of the file.
                !error.is_absent()
                    && source.raw_os_error() != Some(rustix::io::Errno::LOOP.raw_os_error())
                    && source.kind() != io::ErrorKind::NotADirectory
            }
            Self::System(_) => true,
            _ => false,
        }
    }

    /// Whether a file that should be there is not.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Read(error) if error.is_absent())
    }
}

impl Explain for HeldError {
    fn code(&self) -> &'static str {
        if self.is_systems_fault() { "store.unavailable" } else { "store.unreadable" }
    }

    fn retry(&self) -> Retry {
        Retry::BackOff
    }

    fn hint(&self) -> Option<String> {
        if self.is_systems_fault() {
            hint_for(self)
        } else {
            Some("nothing needs to be done: it is repaired, or issued anew".to_owned())
        }
    }
}

impl Explain for StorageError {
    fn code(&self) -> &'static str {
        "store.failed"
    }

    fn retry(&self) -> Retry {
        Retry::BackOff
    }

    fn hint(&self) -> Option<String> {
        hint_for(self)
    }
}

/// Files can't be given to the group that shall read keys.
#[derive(Debug, thiserror::Error)]
#[error("renewd may not give files to the group {group:?}")]
pub struct GroupError {
    /// As the configuration names it.
    pub group: String,
    /// What the system said.
    #[source]
    pub source: WriteError,
}

/// The store was opened to be read alone.
#[derive(Debug, thiserror::Error)]
#[error("it was opened for reading only")]
pub struct ReadOnlyError;

/// Key and certificate are not of one pair.
#[derive(Debug, thiserror::Error)]
#[error("key and certificate do not belong together")]
pub struct MismatchError;

/// Wraps `source`: `action` as a verb with what comes before the place.
pub(super) fn storage<E>(action: &'static str, place: &Path) -> impl FnOnce(E) -> StorageError
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let place = place.display().to_string();
    move |source| StorageError { action, place, source: source.into() }
}

/// What a human can do about the first cause that we know a remedy for.
fn hint_for(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(GroupError { group, .. }) = error.downcast_ref() {
            return Some(format!(
                "make the user that renewd runs as a member of the group and start renewd again: \
                 usermod -aG {group} renewd"
            ));
        }
        if let Some(error) = error.downcast_ref::<UserError>() {
            return error.hint();
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return hint_for_system(error).map(str::to_owned);
        }
        cause = error.source();
    }
    None
}

fn hint_for_system(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on the file system of the state directory")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("make the file system of the state directory writable")
        }
        io::ErrorKind::PermissionDenied => {
            Some("everything below the state directory must belong to the user that renewd runs as")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_below_any_number_of_causes() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let inner = storage("write", Path::new("/a"))(full);
        let outer = storage("store the certificate in", Path::new("/b"))(inner);
        assert!(outer.hint().unwrap().starts_with("make room"), "{outer:?}");
    }

    #[test]
    fn a_certificate_is_not_taken_for_lost_because_a_file_could_not_be_opened() {
        let refused = |kind: io::ErrorKind| {
            let source = io::Error::from(kind);
            HeldError::Read(ReadError::System { path: PathBuf::from("/x"), source })
        };
        assert!(refused(io::ErrorKind::PermissionDenied).is_systems_fault());
        assert!(!refused(io::ErrorKind::NotFound).is_systems_fault());
        assert!(!HeldError::Mismatch(PathBuf::from("/x")).is_systems_fault());
    }
}
