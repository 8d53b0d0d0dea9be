//! Replaces files and links so that nobody ever sees half of one. The only writer of files.
//!
//! Each write goes to a temporary file beside its destination, which has its mode, owner and group
//! before its first byte, is flushed, renamed, and its folder flushed. A crash leaves the old file
//! or the new one, and at worst a temporary file that [`sweep`] knows by its name.
//!
//! Not here: what is written, and which files belong together ([`crate::store`],
//! [`crate::deploy`]).

#![expect(clippy::disallowed_methods, reason = "this is the writer that all others use")]

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Gid, Uid};

use super::crash;
use crate::model::Timestamp;

/// How the name of every temporary file of ours begins.
pub const TEMPORARY_PREFIX: &str = ".renewd-";

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permission bits, such as `0o600`.
    pub mode: u32,
    /// The owner's number; ours if `None`.
    pub owner: Option<u32>,
    /// The group's number; ours if `None`.
    pub group: Option<u32>,
}

impl Access {
    /// With `mode`, owned by us.
    #[must_use]
    pub const fn mode(mode: u32) -> Self {
        Self { mode, owner: None, group: None }
    }
}

/// A file or link could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct WriteError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// What the system said.
    #[must_use]
    pub const fn io_error(&self) -> &io::Error {
        &self.source
    }
}

/// Writes `content` to the absolute `path` with `access`, replacing what is there.
///
/// On return the bytes and the name are on disk. No step leaves a file at `path` that is neither
/// the old nor the new one, and the temporary file goes away on failure. A key is at no time
/// readable for more users than `access` says: the file starts with 0600, and gets its owner and
/// mode before its first byte.
///
/// # Errors
///
/// [`WriteError`] names the step and the path; the system's error is its source. An error of the
/// last step, the flush of the directory, comes when the new file is already in place.
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: path.to_owned(), source };

    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent(path))
        .map_err(failed("create a file beside"))?;
    fill(file.as_file_mut(), path, content, access)?;
    // By the library of the system, like all other changes: there tests stand in between.
    let temporary = file.into_temp_path();
    fs::rename(&temporary, path).map_err(failed("put in place"))?;
    // There is nothing left to remove under that name.
    drop(temporary.keep());
    crash::point_at("atomic.renamed", path);
    flush_directory(parent(path))
}

/// Writes `content` to `path`, where nothing may be, with `access`: a file that waits, under a name
/// that is on record, until [`rename`] puts it in place.
///
/// On return the bytes and the name are on disk. Unlike [`write()`] it leaves nothing whose name
/// its caller does not know, wherever it is cut off; in return the file may be incomplete then.
///
/// # Errors
///
/// [`WriteError`]; the file is not there then, unless it had been there before.
pub fn create(path: &Path, content: &[u8], access: Access) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: path.to_owned(), source };

    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed("create"))?;
    crash::point_at("atomic.created", path);
    fill(&mut file, path, content, access).inspect_err(|_| drop(fs::remove_file(path)))?;
    flush_directory(parent(path))
}

/// Makes `path`, where nothing may be, a link with the relative or absolute `target`; for what
/// [`create`] is for files.
///
/// # Errors
///
/// [`WriteError`]; an error of the flush comes when the link is already there.
pub fn create_link(path: &Path, target: &Path) -> Result<(), WriteError> {
    symlink(target, path).map_err(|source| WriteError {
        step: "make the link",
        path: path.to_owned(),
        source,
    })?;
    flush_directory(parent(path))
}

/// Gives the new `file`, which is `path` or to become it, its owner, its mode and then its content,
/// and flushes it.
fn fill(file: &mut File, path: &Path, content: &[u8], access: Access) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: path.to_owned(), source };

    // The owner first: changing it clears set-id bits, and the mode must be the last word.
    if access.owner.is_some() || access.group.is_some() {
        let owner = access.owner.map(Uid::from_raw);
        let group = access.group.map(Gid::from_raw);
        rustix::fs::fchown(&*file, owner, group)
            .map_err(|errno| failed("set the owner of")(errno.into()))?;
    }
    file.set_permissions(Permissions::from_mode(access.mode)).map_err(failed("set the mode of"))?;
    file.write_all(content).map_err(failed("write"))?;
    crash::point_at("atomic.written", path);
    file.sync_all().map_err(failed("flush"))?;
    crash::point_at("atomic.flushed", path);
    Ok(())
}

/// Finds out whether `bytes` could be written in `directory` now, by writing and flushing them.
/// What was written is gone on return.
///
/// # Errors
///
/// [`WriteError`] names the step that a [`write()`] there would fail at.
pub fn probe(directory: &Path, bytes: usize) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: directory.to_owned(), source };

    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(failed("create a file in"))?;
    // No zeros: some file systems keep those for nothing.
    file.write_all(&vec![0x5a; bytes]).map_err(failed("write a file in"))?;
    file.as_file().sync_all().map_err(failed("flush a file in"))?;
    file.close().map_err(failed("remove a file from"))
}

/// Makes `path` a link with the relative or absolute `target`, replacing the link that is there.
///
/// Who resolves the link sees the old target or the new one.
///
/// # Errors
///
/// [`WriteError`]; what was there is still there, unless the last step failed, the flush.
pub fn link(path: &Path, target: &Path) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: path.to_owned(), source };

    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
    let temporary = parent(path).join(format!("{TEMPORARY_PREFIX}{random}"));
    symlink(target, &temporary).map_err(failed("make a link beside"))?;
    crash::point_at("atomic.link_made", path);
    if let Err(source) = fs::rename(&temporary, path) {
        // What is left of a failed rename is swept with the other temporary files.
        drop(fs::remove_file(&temporary));
        return Err(failed("put the link in place at")(source));
    }
    crash::point_at("atomic.linked", path);
    flush_directory(parent(path))
}

/// Renames the folder or file `from` to `to`, which must not be a folder with something in it.
///
/// # Errors
///
/// [`WriteError`]; an error of the flush comes when the new name is already in place.
pub fn rename(from: &Path, to: &Path) -> Result<(), WriteError> {
    fs::rename(from, to).map_err(|source| WriteError {
        step: "rename something to",
        path: to.to_owned(),
        source,
    })?;
    crash::point_at("atomic.moved", to);
    flush_directory(parent(to))
}

/// Makes the folder `path` and what is missing above it; the last one gets `access`, also if it is
/// there already. On return all of them are on disk.
///
/// # Errors
///
/// [`WriteError`] if one can't be made, is no folder, or is not ours to change.
pub fn directory(path: &Path, access: Access) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { step, path: path.to_owned(), source };

    if !path.is_dir() {
        let missing = path.ancestors().skip(1).take_while(|it| !it.is_dir());
        for folder in missing.collect::<Vec<_>>().into_iter().rev() {
            make(folder, 0o755).map_err(failed("make the folders above"))?;
            flush_directory(parent(folder))?;
        }
        // Narrow at first, so that nobody gets in between the making and the mode.
        make(path, 0o700).map_err(failed("make the folder"))?;
        crash::point_at("atomic.folder_made", path);
        flush_directory(parent(path))?;
    }
    let handle = File::open(path).map_err(failed("open the folder"))?;
    let metadata = handle.metadata().map_err(failed("read the mode of"))?;
    if access.owner.is_some() || access.group.is_some() {
        let owner = access.owner.map(Uid::from_raw);
        let group = access.group.map(Gid::from_raw);
        rustix::fs::fchown(&handle, owner, group)
            .map_err(|errno| failed("set the owner of")(errno.into()))?;
    }
    if metadata.permissions().mode() & 0o7777 != access.mode {
        handle
            .set_permissions(Permissions::from_mode(access.mode))
            .map_err(failed("set the mode of"))?;
        handle.sync_all().map_err(failed("flush"))?;
    }
    Ok(())
}

/// Makes the folder `path`, unless somebody was faster.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Flushes a folder: a rename is only in its cache until then (fsync(2)).
///
/// # Errors
///
/// [`WriteError`] if it can't be opened or flushed.
pub fn flush_directory(path: &Path) -> Result<(), WriteError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| WriteError {
        step: "flush the directory",
        path: path.to_owned(),
        source,
    })
}

/// Removes temporary files of ours in `directory` that are older than `age` at `now`: what a crash
/// left. What can't be removed is left for the next time.
pub fn sweep(directory: &Path, age: Duration, now: Timestamp) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        let changed = entry.path().symlink_metadata().and_then(|it| it.modified());
        if changed.is_ok_and(|it| now.since(it.into()) >= age) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Opens `path` to be locked, making it with mode 0600 if it is not there. Its content is nothing.
///
/// # Errors
///
/// [`WriteError`] if it can't be opened.
pub fn lock_file(path: &Path) -> Result<File, WriteError> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|source| WriteError { step: "open the lock", path: path.to_owned(), source })
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write(&path, b"a longer first content", Access::mode(0o600)).unwrap();
        write(&path, b"second", Access::mode(0o640)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
        assert_eq!(names(folder.path()), ["key.pem"]);
    }

    #[test]
    fn a_file_that_waits_is_made_under_its_own_name_and_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".waiting");
        create(&path, b"first", Access::mode(0o640)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
        let error = create(&path, b"second", Access::mode(0o640)).unwrap_err();
        assert_eq!(error.io_error().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), [".waiting"]);
    }

    /// D07: a hard link to a file of ours.
    #[test]
    fn a_hard_link_to_the_old_file_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        write(&path, b"old", Access::mode(0o600)).unwrap();
        fs::hard_link(&path, &other).unwrap();
        write(&path, b"new", Access::mode(0o600)).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"old");
    }

    /// D06: links planted at a file, its temporary or its folder.
    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("a"), folder.path().join("victim"));
        write(&victim, b"precious", Access::mode(0o600)).unwrap();
        symlink(&victim, &path).unwrap();
        write(&path, b"new", Access::mode(0o600)).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(path.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_link_is_switched_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("current");
        link(&current, Path::new("0001")).unwrap();
        link(&current, Path::new("0002")).unwrap();
        assert_eq!(fs::read_link(&current).unwrap(), Path::new("0002"));
        assert_eq!(names(folder.path()), ["current"]);
    }

    #[test]
    fn a_failed_write_names_its_step_and_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        directory(&path.join("inside"), Access::mode(0o700)).unwrap();
        let error = write(&path, b"x", Access::mode(0o600)).unwrap_err();
        assert!(error.to_string().starts_with("cannot put in place "), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_probe_leaves_nothing_and_says_where_nothing_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path(), 100_000).unwrap();
        assert!(names(folder.path()).is_empty());
        let error = probe(&folder.path().join("none"), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot create a file in "), "{error}");
    }

    /// D14: temporary files of a crash.
    #[test]
    fn only_old_temporary_files_of_ours_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".renewd-abc", "other", ".hidden"] {
            write(&folder.path().join(name), b"", Access::mode(0o600)).unwrap();
        }
        let hour = Duration::from_secs(3600);
        let written: Timestamp =
            fs::metadata(folder.path().join("other")).unwrap().modified().unwrap().into();
        sweep(folder.path(), hour, written);
        assert_eq!(names(folder.path()).len(), 3);
        sweep(folder.path(), hour, written.saturating_add(hour * 2));
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".hidden", "other"]);
    }

    #[test]
    fn a_folder_gets_its_mode_also_if_it_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        directory(&path, Access::mode(0o700)).unwrap();
        directory(&path, Access::mode(0o711)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o711);
    }
}
