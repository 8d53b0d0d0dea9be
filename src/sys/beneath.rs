//! Small public files in folders that others may write to, such as a web server's document root.
//!
//! A folder is opened once and everything below it is reached through that handle, one name at a
//! time, by `openat2` with `RESOLVE_BENEATH` and without following any link (where the kernel or a
//! filter does not know `openat2`: by `openat` with `O_NOFOLLOW`, which for a single name refuses
//! the same). So a link planted below the folder leads nowhere.
//!
//! Nothing is flushed: these files are worth nothing after a crash.
//!
//! Not here: files that must be replaced in one step ([`super::atomic`]).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

/// Something below a folder could not be reached, made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct BeneathError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl BeneathError {
    /// What the system said.
    #[must_use]
    pub const fn io_error(&self) -> &io::Error {
        &self.source
    }

    /// Whether something is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl Folder {
    /// Opens the folder `path`. Links on the way to it are followed: the operator named it.
    ///
    /// # Errors
    ///
    /// If it is not there, is no folder, or may not be reached.
    pub fn open(path: &Path) -> Result<Self, BeneathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(failed("open the folder", path.to_owned()))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Where it is, as it was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder `name` in this one.
    ///
    /// # Errors
    ///
    /// If it is not there, is a link or no folder, or may not be reached.
    pub fn open_folder(&self, name: &str) -> Result<Self, BeneathError> {
        let path = self.path.join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let handle = self
            .open_name(name, flags, Mode::empty())
            .map_err(failed("open the folder", path.clone()))?;
        Ok(Self { handle, path })
    }

    /// Opens the file `name` in this folder to read it. What it is, a pipe perhaps, is for the
    /// caller to see: to open it does not block.
    ///
    /// # Errors
    ///
    /// If it is not there, is a link, or may not be read.
    pub fn open_file(&self, name: &str) -> Result<File, BeneathError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = self.open_name(name, flags, Mode::empty());
        opened.map(File::from).map_err(failed("open", self.path.join(name)))
    }

    /// Opens the folder `name` in this one; if it is not there it is made and gets `mode`, whatever
    /// the umask. The mode of one that is there stays.
    ///
    /// # Errors
    ///
    /// If it can't be made, or for the reasons of [`Folder::open_folder`].
    pub fn open_or_make_folder(&self, name: &str, mode: u32) -> Result<Self, BeneathError> {
        let path = self.path.join(name);
        let mode = Mode::from_raw_mode(mode);
        checked(name).map_err(failed("make the folder", path.clone()))?;
        match rustix::fs::mkdirat(&self.handle, name, mode) {
            Err(Errno::EXIST) => return self.open_folder(name),
            // Where we may not write, a folder that is there already will do.
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) if self.open_folder(name).is_ok() => {
                return self.open_folder(name);
            }
            made => made.map_err(failed("make the folder", path.clone()))?,
        }
        // An O_PATH handle can't change a mode.
        let handle = self
            .open_name(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(failed("open the folder", path.clone()))?;
        rustix::fs::fchmod(&handle, mode).map_err(failed("set the mode of", path.clone()))?;
        Ok(Self { handle, path })
    }

    /// Writes the new file `name` with `content` and `mode`, whatever the umask. What was there
    /// under that name, a link too, is removed first; nothing is ever written through it.
    ///
    /// Readers may for a moment see no file, or one that is not complete. After a failure there is
    /// none.
    ///
    /// # Errors
    ///
    /// If what is there can't be removed, or the file can't be made or written.
    pub fn write_file(&self, name: &str, content: &[u8], mode: u32) -> Result<(), BeneathError> {
        let path = self.path.join(name);
        let mode = Mode::from_raw_mode(mode);
        let create = || self.open_name(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode);
        let handle = match create() {
            Err(Errno::EXIST) => {
                self.remove_file(name)?;
                create()
            }
            created => created,
        };
        let handle = handle.map_err(failed("make the file", path.clone()))?;
        let written = rustix::fs::fchmod(&handle, mode)
            .map_err(io::Error::from)
            .and_then(|()| File::from(handle).write_all(content));
        written.map_err(|source| {
            // The failure of the write is the one to tell of.
            self.remove_file(name).unwrap_or_default();
            BeneathError { step: "write", path, source }
        })
    }

    /// Removes the file or link `name`. Nothing there is fine.
    ///
    /// # Errors
    ///
    /// If it is a folder, or may not be removed.
    pub fn remove_file(&self, name: &str) -> Result<(), BeneathError> {
        let removed =
            checked(name).and_then(|()| rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()));
        match removed {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(failed("remove", self.path.join(name))),
        }
    }

    /// Whether a file could be written here now, space included; leaves no trace.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn check_writable(&self) -> Result<(), BeneathError> {
        const STEP: &str = "write into the folder";
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(unnamed) => File::from(unnamed)
                .write_all(&[0; 4096])
                .map_err(|source| BeneathError { step: STEP, path: self.path.clone(), source }),
            // Not every file system has files without a name (NFS has none).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let access = Access::WRITE_OK | Access::EXEC_OK;
                rustix::fs::accessat(&self.handle, ".", access, AtFlags::EACCESS)
                    .map_err(failed(STEP, self.path.clone()))
            }
            Err(errno) => Err(failed(STEP, self.path.clone())(errno)),
        }
    }

    fn open_name(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        checked(name)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // openat2 refuses a mode where nothing is made.
        let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
        match rustix::fs::openat2(self.handle.as_fd(), name, flags, mode, resolve) {
            // Old kernels do not know it, and filters of old container engines answer EPERM.
            Err(Errno::NOSYS | Errno::PERM) => open_plainly(&self.handle, name, flags, mode),
            opened => opened,
        }
    }
}

/// What stands in for `openat2`: `flags` have `NOFOLLOW`, and `name` is a single one.
fn open_plainly(folder: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, flags, mode)
}

/// That `name` is one component of a path, and leads down.
fn checked(name: &str) -> Result<(), Errno> {
    let leads_elsewhere = matches!(name, "" | "." | "..") || name.contains(['/', '\0']);
    if leads_elsewhere { Err(Errno::INVAL) } else { Ok(()) }
}

fn failed(step: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> BeneathError {
    move |errno| BeneathError { step, path, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::sys::atomic;

    #[test]
    fn a_name_that_is_not_one_component_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        for wrong in ["", ".", "..", "../x", "a/b", "/etc", "a\0b"] {
            assert!(folder.write_file(wrong, b"x", 0o644).is_err(), "{wrong:?}");
            assert!(folder.open_or_make_folder(wrong, 0o755).is_err(), "{wrong:?}");
            assert!(folder.open_folder(wrong).is_err(), "{wrong:?}");
            assert!(folder.remove_file(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_link_is_replaced_as_a_file_and_refused_as_a_folder() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        atomic::write(&victim, b"precious", atomic::Access::mode(0o600)).unwrap();
        symlink(&victim, directory.path().join("file")).unwrap();
        symlink("/etc", directory.path().join("folder")).unwrap();

        let folder = Folder::open(directory.path()).unwrap();
        folder.write_file("file", b"new", 0o644).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(directory.path().join("file").symlink_metadata().unwrap().is_file());
        assert!(folder.open_folder("folder").is_err());
        assert!(folder.open_or_make_folder("folder", 0o755).is_err());
    }

    #[test]
    fn what_stands_in_for_openat2_follows_no_link_either() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/etc", directory.path().join("folder")).unwrap();
        symlink("/etc/hostname", directory.path().join("file")).unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        let open = |name, flags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open_plainly(&folder.handle, name, flags, Mode::empty())
        };
        assert_eq!(open("folder", OFlags::PATH | OFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
        assert_eq!(open("folder", OFlags::RDONLY | OFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
        assert_eq!(open("file", OFlags::WRONLY).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_folder_that_is_there_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        let mode = || directory.path().join("a").metadata().unwrap().mode() & 0o7777;
        folder.open_or_make_folder("a", 0o750).unwrap();
        assert_eq!(mode(), 0o750);
        folder.open_or_make_folder("a", 0o755).unwrap();
        assert_eq!(mode(), 0o750);
    }

    #[test]
    fn a_check_leaves_no_trace_and_sees_a_folder_that_can_not_be_written() {
        let directory = tempfile::tempdir().unwrap();
        Folder::open(directory.path()).unwrap().check_writable().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        // Even root makes no file here.
        assert!(Folder::open(Path::new("/proc/self")).unwrap().check_writable().is_err());
    }

    #[test]
    fn removing_what_is_not_there_is_fine_and_a_folder_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        folder.remove_file("nothing").unwrap();
        folder.open_or_make_folder("inner", 0o755).unwrap();
        assert!(folder.remove_file("inner").is_err());
        assert!(folder.write_file("inner", b"x", 0o644).is_err());
    }
}
