//! Reads files of the state directory as if a stranger had put them there: no links, regular files
//! alone, and no more than a limit.
//!
//! Not here: writing, which is [`crate::sys::atomic`].

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// A file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused; also where a link lies in place of a file.
    #[error("cannot read {}", path.display())]
    System {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder, pipe or device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// More than was asked for.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most that is read.
        limit: usize,
    },
}

impl ReadError {
    /// Whether there is nothing of that name.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A file's bytes, and whose it is.
pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
}

/// Reads the regular file `path`, at most `limit` bytes. The folders above it may be links, it may
/// not.
pub(super) fn read(path: &Path, limit: usize) -> Result<Content, ReadError> {
    let system = |source| ReadError::System { path: path.to_owned(), source };

    // NONBLOCK: opening a pipe that somebody planted must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(|it| system(it.into()))?;
    let mut file = File::from(handle);
    let metadata = file.metadata().map_err(system)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(path.to_owned()));
    }
    let too_large = || ReadError::TooLarge { path: path.to_owned(), limit };
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > limit {
        return Err(too_large());
    }
    // Room for all of it at once: a buffer that grows leaves copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.by_ref().take(most).read_to_end(&mut bytes).map_err(system)?;
    if bytes.len() > limit {
        return Err(too_large());
    }
    Ok(Content { bytes, mode: mode(&metadata), owner: metadata.uid(), group: metadata.gid() })
}

/// The permission bits.
pub(super) fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::atomic::{self, Access};

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        atomic::write(&path, b"12345", Access::mode(0o640)).unwrap();
        let content = read(&path, 5).ok().unwrap();
        assert_eq!((content.bytes.as_slice(), content.mode), (&b"12345"[..], 0o640));
        assert!(matches!(read(&path, 4), Err(ReadError::TooLarge { limit: 4, .. })));
    }

    #[test]
    fn links_folders_and_pipes_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        atomic::write(&file, b"x", Access::mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        assert!(matches!(read(&link, 9), Err(ReadError::System { .. })));
        assert!(matches!(read(folder.path(), 9), Err(ReadError::NotAFile(_))));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(read(&pipe, 9), Err(ReadError::NotAFile(_))));
        assert!(read(&folder.path().join("none"), 9).err().unwrap().is_absent());
    }
}
