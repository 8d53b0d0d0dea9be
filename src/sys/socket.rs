//! A Unix socket for one user alone, in a folder that may be somebody else's.
//!
//! Not here: sockets that systemd made ([`super::activation`]), and what is said on them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
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
/// that nobody listens on is replaced, and nothing else.
///
/// # Errors
///
/// If somebody listens there, something else stands there, or the system refuses.
pub fn listen_for(path: &Path, owner: u32) -> io::Result<(UnixListener, Bound)> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.file_type().is_socket() => {
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
    if path.symlink_metadata()?.uid() != owner {
        lchown(path, Some(owner), None)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket.into(), bound))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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

        atomic::write(&path, b"precious", Access::mode(0o600)).unwrap();
        assert!(listen_for(&path, own).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
