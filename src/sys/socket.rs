//! A Unix socket for one user alone, in a folder that may be somebody else's.
//!
//! Not here: sockets that systemd made ([`super::activation`]), and what is said on them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Uid, chownat, fchmod, fstat, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket's file, which goes away with this.
#[derive(Debug)]
pub struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Listens on `path`, mode 0600, for the user with the number `owner`, without blocking. A socket
/// that nobody listens on, or a link to one, is replaced, and nothing else.
///
/// # Errors
///
/// If somebody listens there, something else stands there, or the system refuses.
pub fn listen_for(path: &Path, owner: u32) -> io::Result<(UnixListener, Bound)> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() && !metadata.is_symlink() => {
            return Err(io::Error::other("something that is no socket stands there"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::other("somebody listens there already"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_not_there) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound. To change it afterwards
    // would be to follow whatever link stands there by then, as root.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let bound = Bound(path.to_owned());
    give(path, owner)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket.into(), bound))
}

/// Gives the socket at `path` to the user with the number `owner`, and never anything else: whoever
/// owns the folder may have put another file in its place by now.
fn give(path: &Path, owner: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(CWD, path, flags, Mode::empty())?;
    let metadata = fstat(&found)?;
    // One with a second name may be somebody else's.
    if FileType::from_raw_mode(metadata.st_mode) != FileType::Socket || metadata.st_nlink != 1 {
        return Err(io::Error::other("something else stands in place of the socket"));
    }
    if metadata.st_uid != owner {
        chownat(&found, "", Some(Uid::from_raw(owner)), None, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::sys::atomic::{self, Access};

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced_and_ours_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployer.sock");
        let own = rustix::process::geteuid().as_raw();
        // As a process that was killed leaves it.
        drop(UnixListener::bind(&path).unwrap());
        let (listener, bound) = listen_for(&path, own).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(listen_for(&path, own).is_err(), "somebody listens");
        drop((listener, bound));
        assert!(!path.exists());
        // As a service manager that was killed leaves it.
        symlink("gone.sock", &path).unwrap();
        drop(listen_for(&path, own).unwrap());

        atomic::write(&path, b"precious", Access::mode(0o600)).unwrap();
        assert!(listen_for(&path, own).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn nothing_is_given_away_that_stands_in_place_of_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (socket, own) = (path("socket"), rustix::process::geteuid().as_raw());
        let _listener = UnixListener::bind(&socket).unwrap();
        give(&socket, own).unwrap();
        // Only root can give anything away.
        let other = if own == 0 { 54_321 } else { own };
        give(&socket, other).unwrap();
        assert_eq!(socket.metadata().unwrap().uid(), other);

        atomic::write(&path("file"), b"precious", Access::mode(0o600)).unwrap();
        symlink("socket", path("link")).unwrap();
        fs::hard_link(&socket, path("second")).unwrap();
        for planted in ["file", "link", "second"] {
            assert!(give(&path(planted), own).is_err(), "{planted}");
        }
        assert_eq!(socket.metadata().unwrap().uid(), other);
    }
}
