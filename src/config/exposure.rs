//! Who else could change what a file says that the configuration consists of or names: by its
//! mode, or by putting another file in its place.
//!
//! Not here: who may read a secret ([`super::secret`]), and whose a file must be where root does
//! what it says ([`super::files`]).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

/// That others can change a file.
#[derive(Debug)]
pub(super) struct Exposure {
    /// How; the file's name goes before it.
    pub(super) message: String,
    /// The command that ends it.
    pub(super) remedy: String,
}

/// How others than its owner can change `file`, which has `metadata`; `None` if they can't.
///
/// # Errors
///
/// If the folders that it stands in can't be looked at.
pub(super) fn of(file: &Path, metadata: &Metadata) -> io::Result<Option<Exposure>> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Ok(Some(Exposure {
            message: format!("can be written by its group or by others (mode {mode:04o})"),
            remedy: format!("chmod go-w {}", file.display()),
        }));
    }
    // At the name that it is read by, and at what a link there leads to.
    let real = file.canonicalize()?;
    for folder in [file, &real].into_iter().filter_map(|it| it.parent()) {
        let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
        if mode & 0o002 != 0 && !is_kept(mode, metadata.uid()) && !is_read_only(folder) {
            return Ok(Some(Exposure {
                message: format!("stands in a folder that anybody can write to (mode {mode:04o})"),
                remedy: format!("chmod o-w {}", folder.display()),
            }));
        }
    }
    Ok(None)
}

/// Whether a folder with `mode` lets others make files, but not replace one of `owner`, who may have
/// put it there.
fn is_kept(mode: u32, owner: u32) -> bool {
    const STICKY: u32 = 0o1000;
    mode & STICKY != 0 && [0, rustix::process::geteuid().as_raw()].contains(&owner)
}

/// Whether nobody can write to `folder`, whatever its mode: what Kubernetes mounts is 0777 as a
/// rule.
fn is_read_only(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY))
}
