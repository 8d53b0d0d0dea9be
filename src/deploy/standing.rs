//! What stands at a path where a file is to be installed, and what should.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use zeroize::Zeroizing;

use super::InstallError;
use crate::sys::atomic::{self, Access};
use crate::sys::crash;

/// No file that we replace is larger: a larger one is somebody's mistake in the path.
const MAX_BYTES: u64 = 1024 * 1024;

/// What stands at a path, or should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Nothing,
    /// A link, never followed.
    Link(PathBuf),
    /// A file.
    File {
        /// Its content.
        content: Zeroizing<Vec<u8>>,
        /// Its rights; where it is only wanted, `None` stands for whatever we are.
        access: Access,
    },
}

impl Standing {
    /// What stands at `path`. Blocks.
    ///
    /// # Errors
    ///
    /// If it can't be read, or is something that no file of ours ever replaces.
    pub(super) fn observe(path: &Path) -> Result<Self, InstallError> {
        let unreadable = |source| InstallError::Read { path: path.to_owned(), source };
        let not_ours = |what| InstallError::InTheWay { path: path.to_owned(), what };
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            other => other.map_err(unreadable)?,
        };
        if metadata.is_symlink() {
            return fs::read_link(path).map(Self::Link).map_err(unreadable);
        }
        if !metadata.is_file() {
            return Err(not_ours("is not a file"));
        }
        // It may be another file by now: what is opened is what is judged.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(CWD, path, flags, Mode::empty());
        let file = File::from(opened.map_err(|errno| unreadable(errno.into()))?);
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.len() > MAX_BYTES {
            return Err(not_ours("is too large to be a certificate or key"));
        }
        let mut content = Zeroizing::new(Vec::new());
        file.take(MAX_BYTES).read_to_end(&mut content).map_err(unreadable)?;
        let access = Access {
            mode: metadata.permissions().mode() & 0o7777,
            owner: Some(metadata.uid()),
            group: Some(metadata.gid()),
        };
        Ok(Self::File { content, access })
    }

    /// Whether `found` needs no change to be what this says.
    pub(super) fn is_met_by(&self, found: &Self) -> bool {
        match (self, found) {
            (
                Self::File { content, access },
                Self::File { content: found_content, access: found },
            ) => {
                let ours = Some(rustix::process::geteuid().as_raw());
                content == found_content
                    && access.mode == found.mode
                    && access.owner.or(ours) == found.owner
                    // A folder with the set-group-id bit chooses the group of what is made in it.
                    && (access.group.is_none() || access.group == found.group)
            }
            (wanted, found) => wanted == found,
        }
    }

    /// Makes it so at `path`, in one step. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; the old thing stands then.
    pub(super) fn establish(&self, path: &Path) -> Result<(), InstallError> {
        match self {
            Self::File { content, access } => Ok(atomic::write(path, content, *access)?),
            Self::Link(target) => Ok(atomic::link(path, target)?),
            Self::Nothing => remove(path),
        }
    }

    /// Makes it so at `path`, where nothing may be: it waits there to be renamed. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; nothing new stands there then, unless the process is cut off.
    pub(super) fn prepare(&self, path: &Path) -> Result<(), InstallError> {
        match self {
            Self::File { content, access } => Ok(atomic::create(path, content, *access)?),
            Self::Link(target) => Ok(atomic::create_link(path, target)?),
            Self::Nothing => Ok(()),
        }
    }
}

/// Takes away the file or link at `path`; it may be gone already.
///
/// # Errors
///
/// [`InstallError`] if it is still there, or the folder can't be flushed.
pub(super) fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::Remove { path: path.to_owned(), source })
        }
        _ => {
            crash::point_at("deploy.removed", path);
            Ok(atomic::flush_directory(path.parent().unwrap_or(path))?)
        }
    }
}
