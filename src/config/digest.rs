//! A digest of the files of a configuration: tells whether they have changed.
//!
//! Not here: noticing when to look ([`crate::daemon`]).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::Fingerprint;

use super::files::MAX_FILE_BYTES;

/// A digest of the names and contents of `files`, of folders also of the files in them that can be
/// included. What can't be read counts as empty.
#[must_use]
pub fn digest(files: &[PathBuf]) -> Fingerprint {
    let mut all = Vec::new();
    for file in files {
        add(&mut all, file);
        let entries = fs::read_dir(file).map(|it| it.flatten().collect()).unwrap_or_default();
        let mut entries: Vec<fs::DirEntry> = entries;
        entries.retain(|entry| can_be_included(&entry.path()));
        entries.sort_by_key(fs::DirEntry::file_name);
        entries.iter().for_each(|entry| add(&mut all, &entry.path()));
    }
    Fingerprint::of(&all)
}

/// Whether a file in a folder can be one that is included: not what editors and tools keep beside
/// it while they write, such as `.a.toml.swp` and `a.toml~`.
fn can_be_included(file: &Path) -> bool {
    let is_hidden = file.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
    !is_hidden && file.extension().is_some_and(|it| it == "toml" || it == "json")
}

fn add(all: &mut Vec<u8>, file: &Path) {
    let mut content = Vec::new();
    // Asked before it is opened: to open a pipe would wait for its other end.
    let is_regular = file.metadata().is_ok_and(|it| it.is_file());
    if is_regular && let Ok(opened) = fs::File::open(file) {
        // The loader says why it can't be read.
        drop(opened.take(MAX_FILE_BYTES).read_to_end(&mut content));
    }
    all.extend_from_slice(file.as_os_str().as_encoded_bytes());
    all.extend_from_slice(Fingerprint::of(&content).to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atomic::{self, Access};

    fn write(path: &Path, text: &str) {
        atomic::write(path, text.as_bytes(), Access::mode(0o600)).unwrap();
    }

    #[test]
    fn what_editors_keep_beside_a_file_is_no_change_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().to_owned()];
        write(&folder.path().join("a.toml"), "a");
        let known = digest(&files);
        for name in [".a.toml.swp", "a.toml~", "#a.toml#", "4913", ".ansible_tmpx.toml", "README"] {
            write(&folder.path().join(name), "x");
            assert_eq!(digest(&files), known, "{name}");
        }
        for name in ["b.toml", "b.json"] {
            let before = digest(&files);
            write(&folder.path().join(name), "");
            assert_ne!(digest(&files), before, "{name}");
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("a.toml");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let files = [folder.path().to_owned(), pipe];
        assert_eq!(digest(&files), digest(&files));
    }
}
