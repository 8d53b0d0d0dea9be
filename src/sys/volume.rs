//! What a folder's file system is like: whether what is written there is there tomorrow, whether
//! there is room, whether we may write there at all.
//!
//! Not here: what to do about it; writing ([`super::atomic`]).

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat, statfs, statvfs};

/// File systems that end with the machine or the container, by their numbers in statfs(2).
const PASSING: [(i128, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// Network file systems, on which a lock or a rename may not be what it is on a disk, by their
/// numbers in linux/magic.h; Lustre's is in its own source. What comes through FUSE can't be told
/// apart.
const OF_A_NETWORK: [(i128, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
];

/// The name of the file system of `folder`, or of the nearest folder above it that is there, if it
/// is one that lives in memory or is a container's own layer.
///
/// # Errors
///
/// If the system does not say.
pub fn passing(folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(named(&PASSING, kind(folder)?))
}

/// The name of the file system of `folder`, or of the nearest folder above it that is there, if it
/// is a network file system.
///
/// # Errors
///
/// If the system does not say.
pub fn of_a_network(folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(named(&OF_A_NETWORK, kind(folder)?))
}

fn kind(folder: &Path) -> io::Result<i128> {
    let there = folder.ancestors().find(|it| it.exists()).unwrap_or_else(|| Path::new("/"));
    // The number has 32 bits; where the field is wider or signed, the rest may be its sign.
    Ok(i128::from(statfs(there)?.f_type) & 0xffff_ffff)
}

fn named(known: &[(i128, &'static str)], kind: i128) -> Option<&'static str> {
    known.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// How much is to fit on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// In files and folders.
    pub files: u64,
}

/// Finds out whether `needed` fits on the file system of `folder`, by what that says of itself. One
/// that counts no files has room for any number of them. Writes nothing.
///
/// # Errors
///
/// [`io::ErrorKind::StorageFull`] with what is left, or why it can't be asked.
pub fn check_room(folder: &Path, needed: Room) -> io::Result<()> {
    let volume = statvfs(folder)?;
    let bytes = volume.f_bavail.saturating_mul(volume.f_frsize);
    let files = if volume.f_files == 0 { u64::MAX } else { volume.f_favail };
    if bytes >= needed.bytes && files >= needed.files {
        return Ok(());
    }
    let left = if bytes < needed.bytes {
        format!("{bytes} bytes are left, {} are needed", needed.bytes)
    } else {
        format!("{files} files can still be made, {} are needed", needed.files)
    };
    Err(io::Error::new(io::ErrorKind::StorageFull, left))
}

/// Finds out whether we may make files in `folder`. Writes nothing.
///
/// # Errors
///
/// Why not: no right to, a file system that is read-only, no folder.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    Ok(accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_system_has_no_room_for_is_said_in_numbers() {
        let folder = tempfile::tempdir().unwrap();
        check_room(folder.path(), Room { bytes: 1, files: 1 }).unwrap();
        let bytes = check_room(folder.path(), Room { bytes: u64::MAX, files: 1 }).unwrap_err();
        assert_eq!(bytes.kind(), io::ErrorKind::StorageFull);
        assert!(bytes.to_string().ends_with(" bytes are left, 18446744073709551615 are needed"));
        // The kernel's own tables have no room at all.
        assert!(check_room(Path::new("/proc"), Room { bytes: 1, files: 0 }).is_err());
        check_room(Path::new("/proc"), Room { bytes: 0, files: 1000 }).unwrap();
        assert!(check_room(&folder.path().join("none"), Room { bytes: 0, files: 0 }).is_err());
    }

    #[test]
    fn a_folder_in_memory_is_told_from_others_also_before_it_is_there() {
        assert_eq!(passing(Path::new("/dev/shm/renewd/state")).unwrap(), Some("tmpfs"));
        assert_eq!(passing(Path::new("/sys/renewd")).unwrap(), None);
        assert_eq!(of_a_network(Path::new("/dev/shm/renewd/state")).unwrap(), None);
        // As statfs(2) has it on a machine with such a mount: rustix names the same number.
        let nfs = i128::from(rustix::fs::NFS_SUPER_MAGIC);
        assert_eq!((named(&OF_A_NETWORK, nfs), named(&PASSING, nfs)), (Some("NFS"), None));
    }
}
