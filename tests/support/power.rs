//! What is left of a few folders when the power goes: a model of the disk that forgets the most
//! that a disk may, fed with what [`super::FailingDisk`] recorded.
//!
//! # Rules
//!
//! 1. Of a file there is what it held when it was flushed last; of one that never was, an empty
//!    one.
//! 2. A name is there, leads elsewhere or is gone once its folder was flushed after that.
//! 3. A mode is kept with the file or folder that has it.
//!
//! Real file systems keep more than that, each of them something else.

#![expect(clippy::indexing_slicing, reason = "nodes are numbered here, and none goes away")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::files::write_secret;

/// What there is of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A file with its mode.
    File(Vec<u8>, u32),
    /// A folder with its mode.
    Folder(u32),
    /// A link and where it leads.
    Link(PathBuf),
}

/// One line of the record, with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    call: String,
    path: PathBuf,
    more: Vec<u8>,
    mode: u32,
}

impl Change {
    /// Reads a record; what was cut off at its end is left out.
    pub(super) fn read_all(mut record: &[u8]) -> Vec<Self> {
        let mut changes = Vec::new();
        while let Some((change, rest)) = Self::read(record) {
            changes.push(change);
            record = rest;
        }
        changes
    }

    fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let end = record.iter().position(|it| *it == b'\n')?;
        let head = std::str::from_utf8(&record[..end]).ok()?;
        let words: Vec<&str> = head.split(' ').collect();
        let [call, path, more, mode] = words[..] else { return None };
        let (path, rest) = record[end + 1..].split_at_checked(path.parse().ok()?)?;
        let (more, rest) = rest.split_at_checked(more.parse().ok()?)?;
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        let mode = u32::from_str_radix(mode, 8).ok()?;
        Some((Self { call: call.to_owned(), path, more: more.to_vec(), mode }, rest))
    }
}

/// A disk: what is on it, and what of that would be there again.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
}

/// A file, folder or link, as it is and as it was flushed last.
#[derive(Clone, Debug)]
struct Node {
    now: Content,
    flushed: Content,
    mode: u32,
    flushed_mode: u32,
}

#[derive(Clone, Debug)]
enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, usize>),
    Link(PathBuf),
}

impl Disk {
    /// The folder `root` with all that is below it, flushed.
    #[must_use]
    #[track_caller]
    pub fn of(root: &Path) -> Self {
        let mut disk = Self { root: root.to_owned(), nodes: Vec::new() };
        disk.take_in(root);
        disk
    }

    #[track_caller]
    fn take_in(&mut self, path: &Path) -> usize {
        let metadata = path.symlink_metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        let number = self.add(Content::File(Vec::new()), mode);
        let content = if metadata.is_symlink() {
            Content::Link(fs::read_link(path).unwrap())
        } else if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
            Content::Folder(entries.map(|it| (it.file_name(), self.take_in(&it.path()))).collect())
        } else if metadata.is_file() {
            Content::File(fs::read(path).unwrap())
        } else {
            // A socket is never read.
            Content::File(Vec::new())
        };
        let node = &mut self.nodes[number];
        (node.flushed, node.flushed_mode) = (content.clone(), mode);
        node.now = content;
        number
    }

    /// Something new, of which nothing is flushed yet.
    fn add(&mut self, now: Content, mode: u32) -> usize {
        let flushed = match &now {
            Content::File(_) => Content::File(Vec::new()),
            Content::Folder(_) => Content::Folder(BTreeMap::new()),
            // A link is one with its name.
            Content::Link(target) => Content::Link(target.clone()),
        };
        self.nodes.push(Node { now, flushed, mode, flushed_mode: mode });
        self.nodes.len() - 1
    }

    /// Does what `change` did.
    pub fn apply(&mut self, change: &Change) {
        let Change { call, path, more, mode } = change;
        match call.as_str() {
            "open" if self.find(path).is_none() => {
                let file = self.add(Content::File(Vec::new()), *mode);
                self.enter(path, file);
            }
            "mkdir" => {
                let folder = self.add(Content::Folder(BTreeMap::new()), *mode);
                self.enter(path, folder);
            }
            "symlink" => {
                let target = PathBuf::from(OsString::from_vec(more.clone()));
                let link = self.add(Content::Link(target), 0o777);
                self.enter(path, link);
            }
            "rename" => {
                if let Some(moved) = self.find(path) {
                    self.leave(path);
                    self.enter(Path::new(&OsString::from_vec(more.clone())), moved);
                }
            }
            "unlink" => self.leave(path),
            "write" | "fsync" | "chmod" => {
                let Some(number) = self.find(path) else { return };
                let node = &mut self.nodes[number];
                match (call.as_str(), &mut node.now) {
                    ("write", Content::File(content)) => content.extend_from_slice(more),
                    ("fsync", now) => {
                        (node.flushed, node.flushed_mode) = (now.clone(), node.mode);
                    }
                    ("chmod", _) => node.mode = *mode,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn entries_above(&mut self, path: &Path) -> Option<&mut BTreeMap<OsString, usize>> {
        let above = self.find(path.parent()?)?;
        match &mut self.nodes[above].now {
            Content::Folder(entries) => Some(entries),
            _ => None,
        }
    }

    fn enter(&mut self, path: &Path, number: usize) {
        let name = path.file_name().unwrap_or_default().to_owned();
        self.entries_above(path).map(|it| it.insert(name, number));
    }

    fn leave(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default();
        self.entries_above(path).map(|it| it.remove(name));
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut number = 0;
        for name in path.strip_prefix(&self.root).ok()?.components() {
            let Content::Folder(entries) = &self.nodes[number].now else { return None };
            number = *entries.get(name.as_os_str())?;
        }
        Some(number)
    }

    /// All that is there, by its path below the root.
    #[must_use]
    pub fn now(&self) -> BTreeMap<PathBuf, Kept> {
        self.listed(|node| (&node.now, node.mode))
    }

    /// All that would be there if the power went now, by its path below the root.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<PathBuf, Kept> {
        self.listed(|node| (&node.flushed, node.flushed_mode))
    }

    fn listed(&self, seen: impl Fn(&Node) -> (&Content, u32)) -> BTreeMap<PathBuf, Kept> {
        let mut listed = BTreeMap::new();
        let mut pending = vec![(PathBuf::new(), 0)];
        while let Some((path, number)) = pending.pop() {
            let (content, mode) = seen(&self.nodes[number]);
            let kept = match content {
                Content::File(content) => Kept::File(content.clone(), mode),
                Content::Link(target) => Kept::Link(target.clone()),
                Content::Folder(entries) => {
                    pending.extend(entries.iter().map(|(name, it)| (path.join(name), *it)));
                    Kept::Folder(mode)
                }
            };
            listed.insert(path, kept);
        }
        listed
    }

    /// Makes the folder `name` below the root what is left of it when the power goes now.
    #[track_caller]
    pub fn lose_power(&self, name: &str) {
        let folder = self.root.join(name);
        fs::remove_dir_all(&folder).unwrap_or_default();
        let mut modes = Vec::new();
        for (path, kept) in self.kept().into_iter().filter(|(path, _)| path.starts_with(name)) {
            let path = self.root.join(path);
            match kept {
                Kept::Folder(mode) => {
                    fs::create_dir(&path).unwrap();
                    modes.push((path, mode));
                }
                Kept::File(content, mode) => write_secret(&path, content, mode),
                Kept::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            }
        }
        for (path, mode) in modes {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}
