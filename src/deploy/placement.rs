//! Replaces several files as if they were one.
//!
//! No system call renames two files at once, so a journal says what is going on:
//!
//! 1. *preparing*: what stands there now is copied, and the new files are written beside their
//!    destinations. A crash in this phase is undone: nothing was replaced.
//! 2. *placing*: only renames are left. A crash in this phase is finished, or undone where a rename
//!    fails. A destination that is out of reach by then is left as it is: while it is still to be
//!    renamed to, all is undone.
//! 3. no journal: the copies are what can be put back, until what stands there is [accepted].
//!    Further changes until then add to the copies what they lack, and leave what they have: these
//!    are the files that a server last took, and not one refused set after the other.
//!
//! All of it lies in one private folder for each target and certificate.
//!
//! Not here: which files, and with what content and rights ([`super::install`]).
//!
//! [accepted]: Placement::accept

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::InstallError;
use super::reach::{Bar, Reach};
use super::standing::{Standing, remove};
use crate::model::{CertificateName, TargetName, chain_text};
use crate::sys::atomic::{self, Access};
use crate::sys::clock::{Clock, SystemClock};

/// How the names of files begin that wait beside their destinations. The sweep of temporary files
/// does not know it: these are known to the journal.
const WAITING_PREFIX: &str = ".renewd_next-";

/// How the names of folders begin that hold copies of what was replaced.
const KEPT_PREFIX: &str = "kept-";

/// The link to the copies that can be put back.
const PREVIOUS: &str = "previous";

/// What is to stand at one path.
#[derive(Debug)]
pub(super) struct Change {
    /// Where; absolute.
    pub(super) path: PathBuf,
    /// What.
    pub(super) wanted: Standing,
}

/// What becomes of the copies of what was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// They can be put back from now on, unless earlier ones can already.
    Keep,
    /// They are thrown away, and what could be put back before can be put back still.
    Discard,
}

/// The private folder of one target and certificate.
#[derive(Debug)]
pub(super) struct Placement {
    root: PathBuf,
    folder: PathBuf,
}

/// What is going on, as it lies on the disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    phase: Phase,
    moves: Vec<Move>,
    /// The folder of the copies by which this is undone.
    kept: String,
    /// The folder of the copies that can be put back when all is in place, if others than before.
    #[serde(default)]
    previous: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    Preparing,
    Placing,
}

/// One step of placing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    /// What waits beside the destination; `None` where nothing is to stand.
    from: Option<PathBuf>,
    /// The destination.
    to: PathBuf,
}

/// The destinations of a journal that are out of reach.
type Bars = BTreeMap<PathBuf, Bar>;

/// What stood at one path.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFile {
    path: PathBuf,
    was: Was,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Was {
    Nothing,
    Link { target: PathBuf },
    File { copy: String, mode: u32, owner: Option<u32>, group: Option<u32> },
}

impl Placement {
    /// In a folder below `root` for `target` and `certificate`; all are made when they are needed.
    pub(super) fn new(root: &Path, target: &TargetName, certificate: &CertificateName) -> Self {
        let folder = root.join(target.as_str()).join(certificate.as_str());
        Self { root: root.to_owned(), folder }
    }

    /// Makes all `changes`, or none. What a crash left has to be repaired before. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; what stood there before stands there again.
    pub(super) fn place(&self, changes: &[Change], copies: Copies) -> Result<(), InstallError> {
        let kept = format!("{KEPT_PREFIX}{}", random());
        let earlier = if copies == Copies::Keep { self.earlier_copies() } else { None };
        let is_lacking = |change: &&Change| {
            earlier.as_ref().is_some_and(|it| it.iter().all(|known| known.path != change.path))
        };
        let lacking: Vec<_> = changes.iter().filter(is_lacking).map(|it| &*it.path).collect();
        let previous = match (copies, &earlier) {
            (Copies::Keep, None) => Some(kept.clone()),
            (Copies::Keep, Some(_)) if !lacking.is_empty() => {
                Some(format!("{KEPT_PREFIX}{}", random()))
            }
            (Copies::Keep, Some(_)) | (Copies::Discard, _) => None,
        };
        let moves = changes.iter().map(waiting).collect();
        let mut journal = Journal { phase: Phase::Preparing, moves, kept, previous };
        atomic::directory(&self.root, Access::mode(0o700))?;
        atomic::directory(&self.folder, Access::mode(0o700))?;
        self.write_journal(&journal)?;
        let prepared = self.copy_standing(changes, &journal.kept).and_then(|()| {
            if let (Some(mut all), Some(folder)) = (earlier, &journal.previous) {
                all.extend(observed(lacking)?);
                self.keep(&all, folder)?;
            }
            for (change, step) in changes.iter().zip(&journal.moves) {
                if let Some(from) = &step.from {
                    change.wanted.prepare(from)?;
                }
            }
            journal.phase = Phase::Placing;
            self.write_journal(&journal)
        });
        // Whoever has changes made has seen that they are within reach.
        let none = Bars::new();
        if let Err(error) = prepared {
            self.abandon(&journal, &none);
            return Err(error);
        }
        self.finish(&journal, &none)
    }

    /// Finishes or undoes what a crash interrupted, within `reach`; nothing to do if nothing was.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`] if the journal can't be read, or could be neither finished nor undone.
    pub(super) fn repair(&self, reach: &Reach) -> Result<(), InstallError> {
        // In a private folder, which nobody else is at work in: whatever is temporary is left.
        atomic::sweep(&self.folder, Duration::ZERO, SystemClock::new().now());
        let path = self.journal_path();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| InstallError::Read { path: path.clone(), source })?,
        };
        let Ok(journal) = serde_json::from_slice::<Journal>(&text) else {
            // It was never half-written; somebody else wrote it, and it must not stop us for ever.
            tracing::warn!(path = %path.display(), "a journal of an install is unreadable");
            return Ok(atomic::rename(&path, &path.with_extension("corrupt"))?);
        };
        let bars: Bars = journal
            .moves
            .iter()
            .filter_map(|it| Some((it.to.clone(), reach.bar(&it.to)?)))
            .collect();
        for (path, bar) in &bars {
            let reason = bar.text(path);
            tracing::warn!(path = %path.display(), reason, "an interrupted install ends without it");
        }
        let waits_there = journal.moves.iter().any(|it| bars.contains_key(&it.to) && it.waits());
        match journal.phase {
            Phase::Placing if !waits_there => return self.finish(&journal, &bars),
            // Half of the new files beside half of the old ones would fit neither.
            Phase::Placing => self.undo(&journal, &bars)?,
            Phase::Preparing => {}
        }
        self.abandon(&journal, &bars);
        Ok(())
    }

    /// The changes that put back what was replaced last; `None` if nothing is kept. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError::Read`] if the copies can't be read.
    pub(super) fn previous(&self) -> Result<Option<Vec<Change>>, InstallError> {
        let link = self.folder.join(PREVIOUS);
        match fs::read_link(&link) {
            Ok(_) => self.copies(PREVIOUS).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(InstallError::Read { path: link, source }),
        }
    }

    /// What stands there is what is to stand there: the copies of what was replaced are removed.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError::Remove`]; they may be there still.
    pub(super) fn accept(&self) -> Result<(), InstallError> {
        let link = self.folder.join(PREVIOUS);
        // What was not finished may lead to copies still.
        if link.symlink_metadata().is_err() || self.journal_path().exists() {
            return Ok(());
        }
        remove(&link)?;
        self.remove_lone_copies();
        Ok(())
    }

    /// The copies that can be put back; none also where they can't be read, which is told.
    fn earlier_copies(&self) -> Option<Vec<Change>> {
        self.previous().unwrap_or_else(|error| {
            let error = chain_text(&error);
            tracing::warn!(folder = %self.folder.display(), error, "copies can't be put back");
            None
        })
    }

    /// The renames, and what follows them.
    fn finish(&self, journal: &Journal, bars: &Bars) -> Result<(), InstallError> {
        if let Err(error) = place_all(&journal.moves, bars) {
            self.undo(journal, bars)?;
            self.abandon(journal, bars);
            return Err(error);
        }
        if let Some(previous) = &journal.previous {
            atomic::link(&self.folder.join(PREVIOUS), Path::new(previous))?;
        }
        self.close()
    }

    /// Brings back what the copies say, where a new file is in place already.
    fn undo(&self, journal: &Journal, bars: &Bars) -> Result<(), InstallError> {
        let changes = self.copies(&journal.kept)?;
        for (step, change) in journal.moves.iter().zip(&changes) {
            let waits = step.from.is_some() && step.waits();
            if !waits && !bars.contains_key(&step.to) {
                change.wanted.establish(&change.path)?;
            }
        }
        Ok(())
    }

    /// Takes away what was prepared; destinations are as they were. What can't be taken away now is
    /// left: it stands in nobody's way.
    fn abandon(&self, journal: &Journal, bars: &Bars) {
        for step in &journal.moves {
            let Some(from) = &step.from else { continue };
            if bars.get(&step.to).is_none_or(Bar::lets_remove) {
                drop(fs::remove_file(from));
            } else if step.waits() {
                tracing::warn!(path = %from.display(), "a file of an interrupted install is left");
            }
        }
        if let Err(error) = self.close() {
            let error = chain_text(&error);
            tracing::warn!(folder = %self.folder.display(), error, "an install left its journal");
        }
    }

    /// Removes the journal, and then the copies that nothing leads to.
    fn close(&self) -> Result<(), InstallError> {
        remove(&self.journal_path())?;
        self.remove_lone_copies();
        Ok(())
    }

    /// Removes the copies that [`PREVIOUS`] does not lead to.
    fn remove_lone_copies(&self) {
        let wanted = fs::read_link(self.folder.join(PREVIOUS)).unwrap_or_default();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(KEPT_PREFIX) && wanted != Path::new(&name) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }

    fn copy_standing(&self, changes: &[Change], kept: &str) -> Result<(), InstallError> {
        self.keep(&observed(changes.iter().map(|it| &*it.path))?, kept)
    }

    /// Writes `standing` into the folder `kept`.
    fn keep(&self, standing: &[Change], kept: &str) -> Result<(), InstallError> {
        let folder = self.folder.join(kept);
        atomic::directory(&folder, Access::mode(0o700))?;
        let mut files = Vec::new();
        for (number, Change { path, wanted }) in standing.iter().enumerate() {
            let was = match wanted {
                Standing::Nothing => Was::Nothing,
                Standing::Link(target) => Was::Link { target: target.clone() },
                Standing::File { content, access } => {
                    let copy = number.to_string();
                    atomic::write(&folder.join(&copy), content, Access::mode(0o600))?;
                    let Access { mode, owner, group } = *access;
                    Was::File { copy, mode, owner, group }
                }
            };
            files.push(KeptFile { path: path.clone(), was });
        }
        write_document(&folder.join("files.json"), &files)
    }

    /// The copies in `kept` as the changes that bring them back, in the order they were made in.
    fn copies(&self, kept: &str) -> Result<Vec<Change>, InstallError> {
        let folder = self.folder.join(kept);
        let read = |path: &Path| {
            fs::read(path).map_err(|source| InstallError::Read { path: path.to_owned(), source })
        };
        let path = folder.join("files.json");
        let files: Vec<KeptFile> = serde_json::from_slice(&read(&path)?)
            .map_err(|error| InstallError::Read { path, source: error.into() })?;
        let change = |KeptFile { path, was }: KeptFile| {
            let wanted = match was {
                Was::Nothing => Standing::Nothing,
                Was::Link { target } => Standing::Link(target),
                Was::File { copy, mode, owner, group } => Standing::File {
                    content: Zeroizing::new(read(&folder.join(copy))?),
                    access: Access { mode, owner, group },
                },
            };
            Ok(Change { path, wanted })
        };
        files.into_iter().map(change).collect()
    }

    fn journal_path(&self) -> PathBuf {
        self.folder.join("journal.json")
    }

    fn write_journal(&self, journal: &Journal) -> Result<(), InstallError> {
        write_document(&self.journal_path(), journal)
    }
}

impl Move {
    /// Whether it is still to be made.
    fn waits(&self) -> bool {
        self.from.as_ref().unwrap_or(&self.to).symlink_metadata().is_ok()
    }
}

/// Every rename that is still to be done, but for those that `bars` keep from it.
fn place_all(moves: &[Move], bars: &Bars) -> Result<(), InstallError> {
    for step in moves.iter().filter(|it| !bars.contains_key(&it.to)) {
        match &step.from {
            None => Standing::Nothing.establish(&step.to)?,
            Some(from) if step.waits() => atomic::rename(from, &step.to)?,
            Some(_) => {}
        }
    }
    Ok(())
}

/// What stands at each of `paths` now.
fn observed<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Vec<Change>, InstallError> {
    let observe =
        |path: &Path| Ok(Change { path: path.to_owned(), wanted: Standing::observe(path)? });
    paths.into_iter().map(observe).collect()
}

fn waiting(change: &Change) -> Move {
    let beside = || change.path.with_file_name(format!("{WAITING_PREFIX}{}", random()));
    let from = (change.wanted != Standing::Nothing).then(beside);
    Move { from, to: change.path.clone() }
}

fn random() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(12).collect()
}

fn write_document(path: &Path, document: &impl Serialize) -> Result<(), InstallError> {
    let text = serde_json::to_vec(document)
        .map_err(|error| InstallError::Read { path: path.to_owned(), source: error.into() })?;
    Ok(atomic::write(path, &text, Access::mode(0o600))?)
}

#[cfg(test)]
mod tests;
