//! What kind of file system a folder lies on: whether what is written there is there tomorrow.
//!
//! Not here: what to do about it.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

/// File systems that end with the machine or the container, by their numbers in statfs(2).
const PASSING: [(i128, &str); 3] =
    [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlay")];

/// The name of the file system of `folder`, or of the nearest folder above it that is there, if it
/// is one that lives in memory or is a container's own layer.
///
/// # Errors
///
/// If the system does not say.
pub fn passing(folder: &Path) -> io::Result<Option<&'static str>> {
    let there = folder.ancestors().find(|it| it.exists()).unwrap_or_else(|| Path::new("/"));
    // The number has 32 bits; where the field is wider or signed, the rest may be its sign.
    let kind = i128::from(statfs(there)?.f_type) & 0xffff_ffff;
    Ok(PASSING.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_told_from_others_also_before_it_is_there() {
        assert_eq!(passing(Path::new("/dev/shm/renewd/state")).unwrap(), Some("tmpfs"));
        assert_eq!(passing(Path::new("/sys/renewd")).unwrap(), None);
    }
}
