//! All generations of one certificate: the folder `certs/<name>/`.
//!
//! # Rules
//!
//! 1. A generation appears whole, by a rename, and is never changed but to repair it.
//! 2. `current` is a relative link, and switches by one rename.
//! 3. The placeholder is `current` only while there has never been a generation.
//! 4. What is removed is first moved out of sight by a rename.
//!
//! Not here: putting right what somebody else broke ([`super::repair`]).

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HeldError;
use super::error::storage;
use super::generation::{self, Rendered, Rights, Whole};
use crate::model::{
    Fingerprint, Generation, Held, IssuedCertificate, PastOrder, PrivateKey, StorageError,
    Timestamp,
};
use crate::sys::atomic::{self, Access, TEMPORARY_PREFIX};
use crate::sys::crash;

/// The folder of the placeholder.
pub(super) const PLACEHOLDER: &str = "placeholder";

/// The one link that is ever switched.
const CURRENT: &str = "current";

/// How many generations are kept.
const KEPT: usize = 3;

/// Of `certs/<name>/`.
pub(super) const LINEAGE_MODE: u32 = 0o711;

/// How often a link is followed again because it was switched while we read.
const MAX_READS: usize = 5;

/// What `current` may point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Generation(Generation),
    Placeholder,
}

impl Slot {
    pub(super) fn name(self) -> String {
        match self {
            Self::Generation(generation) => generation.to_string(),
            Self::Placeholder => PLACEHOLDER.to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == PLACEHOLDER {
            return Some(Self::Placeholder);
        }
        text.parse().ok().map(Self::Generation)
    }
}

/// The folder of one certificate. All of its functions block.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    root: PathBuf,
}

impl Lineage {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn directory(&self, slot: Slot) -> PathBuf {
        self.root.join(slot.name())
    }

    pub(super) fn current_path(&self) -> PathBuf {
        self.root.join(CURRENT)
    }

    /// What `current` points to; whether that is there is another question.
    pub(super) fn current(&self) -> Result<Option<Slot>, HeldError> {
        let path = self.current_path();
        match fs::read_link(&path) {
            Ok(target) => match target.to_str().and_then(Slot::parse) {
                Some(slot) => Ok(Some(slot)),
                None => Err(HeldError::StrangeLink(path)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(HeldError::StrangeLink(path))
            }
            Err(error) => Err(HeldError::System(error)),
        }
    }

    /// The labels that are taken, lowest first.
    pub(super) fn labels(&self) -> io::Result<Vec<Generation>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut labels = BTreeSet::new();
        for entry in entries {
            labels.extend(entry?.file_name().to_str().and_then(|it| it.parse::<Generation>().ok()));
        }
        Ok(labels.into_iter().collect())
    }

    /// What is held: the link is followed once, and both files read from where it led.
    pub(super) fn held(&self) -> Result<Option<Held>, HeldError> {
        let mut reads = 1;
        loop {
            let Some(slot) = self.current()? else {
                let labels = self.labels().map_err(HeldError::System)?;
                let never = labels.is_empty() && !self.directory(Slot::Placeholder).exists();
                return if never {
                    Ok(None)
                } else {
                    Err(HeldError::LinkMissing(self.current_path()))
                };
            };
            match generation::read(&self.directory(slot)) {
                Ok(whole) => return Ok(Some(self.as_held(slot, whole))),
                // It was switched and the old one pruned since: what counts is the new one.
                Err(error)
                    if error.is_absent()
                        && reads < MAX_READS
                        && self.current().is_ok_and(|it| it != Some(slot)) => {}
                Err(error) => return Err(error),
            }
            reads += 1;
        }
    }

    fn as_held(&self, slot: Slot, whole: Whole) -> Held {
        let placeholder = whole.meta.as_ref().is_some_and(|it| it.placeholder);
        let generation = match slot {
            Slot::Generation(generation) if !placeholder => Some(generation),
            _ => None,
        };
        let origin = whole.meta.and_then(|it| it.origin);
        let Whole { leaf, needs_issuer, .. } = whole;
        Held { generation, leaf, needs_issuer, origin, directory: self.directory(slot) }
    }

    /// All generations that are whole, lowest label first.
    pub(super) fn whole(&self) -> Result<Vec<(Generation, Whole)>, StorageError> {
        let labels = self.labels().map_err(storage("list", &self.root))?;
        let read = |it: Generation| {
            generation::read(&self.directory(Slot::Generation(it))).ok().map(|whole| (it, whole))
        };
        Ok(labels.into_iter().filter_map(read).collect())
    }

    /// The orders at `directory`, the URL of a CA's directory, whose certificates are still held.
    pub(super) fn past_orders(&self, directory: &str) -> io::Result<Vec<PastOrder>> {
        let mut orders: Vec<PastOrder> = Vec::new();
        for generation in self.labels()? {
            let place = self.directory(Slot::Generation(generation));
            let Some((leaf, origin)) = generation::issued(&place, directory) else { continue };
            let identifiers: Vec<_> = leaf.identifiers.iter().cloned().collect();
            orders.push(PastOrder {
                // What came before the generations that are kept was of the same set, as a rule.
                renews: generation != Generation(1),
                issued_at: origin.issued_at,
                lifetime: leaf.validity.lifetime(),
                identifiers,
            });
        }
        Ok(orders)
    }

    /// The generation with the leaf `sha256`.
    pub(super) fn stored(
        &self,
        sha256: Fingerprint,
    ) -> Result<Option<IssuedCertificate>, StorageError> {
        self.find(sha256, generation::stored)
    }

    /// The key of the generation with the leaf `sha256`.
    pub(super) fn key(&self, sha256: Fingerprint) -> Result<Option<PrivateKey>, StorageError> {
        self.find(sha256, generation::key)
    }

    /// What `read` finds in the folder of the generation with the leaf `sha256`. Where the system
    /// refuses to read one that may be it, nothing is known: that is an error.
    fn find<T>(
        &self,
        sha256: Fingerprint,
        read: fn(&Path) -> Result<Option<T>, HeldError>,
    ) -> Result<Option<T>, StorageError> {
        let labels = self.labels().map_err(storage("list", &self.root))?;
        let mut unknown = None;
        for directory in labels.into_iter().map(|it| self.directory(Slot::Generation(it))) {
            match generation::read(&directory) {
                Ok(whole) if whole.leaf.sha256 == sha256 => {
                    return read(&directory).map_err(storage("read what is in", &directory));
                }
                Err(error) if error.is_systems_fault() => {
                    unknown = Some(storage("read what is in", &directory)(error));
                }
                Ok(_) | Err(_) => {}
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    /// Makes `rendered` the current generation. One that is there already is only pointed to.
    pub(super) fn add(&self, rendered: &Rendered, rights: &Rights) -> Result<Held, StorageError> {
        self.make_root()?;
        let known = self.whole()?;
        let known = known.iter().find(|(_, it)| it.leaf.sha256 == rendered.leaf.sha256);
        let generation = match known {
            Some((generation, _)) => *generation,
            None => self.add_folder(rendered, rights)?,
        };
        crash::point("store.generation");
        self.switch(Slot::Generation(generation))?;
        crash::point("store.current");
        let held = self.held().map_err(storage("read back what was stored in", &self.root))?;
        held.ok_or_else(|| {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            storage("read back what was stored in", &self.root)(gone)
        })
    }

    fn add_folder(&self, rendered: &Rendered, rights: &Rights) -> Result<Generation, StorageError> {
        let last = self.labels().map_err(storage("list", &self.root))?.last().copied();
        let generation = last.unwrap_or(Generation(0)).next();
        self.place(rendered, rights, Slot::Generation(generation))?;
        Ok(generation)
    }

    /// Writes `rendered` out of sight, and renames it to `slot`, where nothing may be.
    fn place(&self, rendered: &Rendered, rights: &Rights, slot: Slot) -> Result<(), StorageError> {
        let hidden = self.hidden_folder()?;
        rendered.write(hidden.path(), rights)?;
        let place = self.directory(slot);
        atomic::rename(hidden.path(), &place).map_err(storage("put in place", &place))?;
        // It is no longer there to be removed.
        drop(hidden.keep());
        Ok(())
    }

    /// Points `current` to `slot`.
    pub(super) fn switch(&self, slot: Slot) -> Result<(), StorageError> {
        let current = self.current_path();
        atomic::link(&current, Path::new(&slot.name())).map_err(storage("switch", &current))
    }

    /// Makes `rendered` the placeholder, unless there has ever been a generation.
    pub(super) fn put_placeholder(
        &self,
        rendered: &Rendered,
        rights: &Rights,
    ) -> Result<Option<Held>, StorageError> {
        self.make_root()?;
        if !self.labels().map_err(storage("list", &self.root))?.is_empty() {
            return Ok(None);
        }
        self.discard(&self.directory(Slot::Placeholder))?;
        self.place(rendered, rights, Slot::Placeholder)?;
        self.switch(Slot::Placeholder)?;
        self.held().map_err(storage("read back what was stored in", &self.root))
    }

    /// Removes what is neither current, nor among the newest, nor in `keep`; says how many.
    pub(super) fn prune(&self, keep: &BTreeSet<Fingerprint>) -> Result<usize, StorageError> {
        // While what is held is in doubt, nothing that may yet be needed goes away.
        let Ok(Some(held)) = self.held() else { return Ok(0) };
        let Some(current) = held.generation else { return Ok(0) };
        let labels = self.labels().map_err(storage("list", &self.root))?;
        let mut removed = 0;
        for generation in labels.into_iter().rev().skip(KEPT) {
            let directory = self.directory(Slot::Generation(generation));
            let kept = || match generation::read(&directory) {
                Ok(whole) => keep.contains(&whole.leaf.sha256),
                // It may be one of them.
                Err(error) => error.is_systems_fault(),
            };
            if generation != current && !kept() {
                self.discard(&directory)?;
                removed += 1;
            }
        }
        self.discard(&self.directory(Slot::Placeholder))?;
        Ok(removed)
    }

    /// Moves `path` out of sight and removes it. What can't be removed is swept later.
    fn discard(&self, path: &Path) -> Result<(), StorageError> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let hidden = self.hidden_folder()?;
        let grave = hidden.path().join("old");
        atomic::rename(path, &grave).map_err(storage("remove", path))?;
        atomic::flush_directory(&self.root).map_err(storage("remove", path))
    }

    /// A folder for us alone, removed when dropped, and swept if we don't live that long.
    fn hidden_folder(&self) -> Result<tempfile::TempDir, StorageError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.root)
            .map_err(storage("make a folder in", &self.root))
    }

    fn make_root(&self) -> Result<(), StorageError> {
        atomic::directory(&self.root, Access::mode(LINEAGE_MODE))
            .map_err(storage("make", &self.root))
    }

    /// Removes what a crash left. Only the one writer may call it.
    pub(super) fn sweep(&self, now: Timestamp) {
        atomic::sweep(&self.root, Duration::ZERO, now);
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
            if ours && entry.file_type().is_ok_and(|it| it.is_dir()) {
                // What can't be removed is left for the next time.
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}
