//! Replaces several files as if they were one.
//!
//! No system call renames two files at once, so a journal says what is going on:
//!
//! 1. *preparing*: what stands there now is copied, and the new files are written beside their
//!    destinations. A crash in this phase is undone: nothing was replaced.
//! 2. *placing*: only renames are left. A crash in this phase is finished, or undone where a rename
//!    fails. A destination that is out of reach by then is left as it is: while it is still to be
//!    renamed to, all is undone.
//! 3. no journal: what is kept can be put back, until what stands there is accepted.
//!
//! All of it lies in one private folder for each target and certificate.
//!
//! Not here: which files, and with what content and rights ([`super::install`]); which of those that
//! stood there are kept ([`super::accepted`]).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::InstallError;
use super::accepted::{self, Accepted};
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

/// What is accepted of the files that stand there.
const ACCEPTED: &str = "accepted.json";

/// What is to stand at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Where; absolute.
    pub(super) path: PathBuf,
    /// What.
    pub(super) wanted: Standing,
}

/// What becomes of the copies of what was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies<'a> {
    /// What is accepted of them can be put back from now on; with all files that are wanted, also
    /// those that stand there already.
    Keep(&'a [Change]),
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
    /// Whether they are what can be put back when all is in place.
    #[serde(default)]
    copies: bool,
    /// The folder of what can be put back then, where that is neither these nor what was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub(super) fn place(&self, changes: &[Change], copies: Copies<'_>) -> Result<(), InstallError> {
        atomic::directory(&self.root, Access::mode(0o700))?;
        atomic::directory(&self.folder, Access::mode(0o700))?;
        let standing = observed(changes.iter().map(|it| &it.path))?;
        let to_keep = match copies {
            Copies::Keep(wanted) => self.to_keep(&standing, changes, wanted)?,
            Copies::Discard => None,
        };
        let is_all = to_keep.as_ref() == Some(&standing);
        let mut journal = Journal {
            phase: Phase::Preparing,
            moves: changes.iter().map(waiting).collect(),
            kept: new_folder(),
            copies: is_all,
            previous: to_keep.as_ref().filter(|_| !is_all).map(|_| new_folder()),
        };
        self.write_journal(&journal)?;
        let prepared = self.keep(&standing, &journal.kept).and_then(|()| {
            if let (Some(files), Some(folder)) = (&to_keep, &journal.previous) {
                self.keep(files, folder)?;
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.remove_lone_copies();
                return Ok(());
            }
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

    /// The changes that put back what is accepted at `paths`; `None` if that is not kept. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`] if it can't be found out.
    pub(super) fn previous(&self, paths: &[PathBuf]) -> Result<Option<Vec<Change>>, InstallError> {
        let Some(kept) = self.kept()? else { return Ok(None) };
        Ok(match self.accepted()? {
            Some(accepted) => accepted.to_put_back(&observed(paths)?, kept),
            // Of an earlier version, which knew no more than what it had replaced.
            None => paths.iter().all(|it| accepted::at(&kept, it).is_some()).then_some(kept),
        })
    }

    /// What stands at `paths` is accepted, and what was kept until then removed; whether it is: not
    /// if somebody has changed it since it was put there. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; what is accepted may be what was before, and what was kept be there still.
    pub(super) fn accept(&self, paths: &[PathBuf]) -> Result<bool, InstallError> {
        if !is_there(&self.folder)? {
            return Ok(true);
        }
        // What was not finished may lead to copies still, and is not what was meant to stand there.
        if is_there(&self.journal_path())? {
            return Ok(false);
        }
        let before = self.accepted()?;
        let mut accepted = before.clone().unwrap_or_default();
        if !accepted.accept(&observed(paths)?) {
            return Ok(false);
        }
        if before.as_ref() != Some(&accepted) {
            write_document(&self.folder.join(ACCEPTED), &accepted)?;
        }
        let link = self.folder.join(PREVIOUS);
        if is_there(&link)? {
            remove(&link)?;
        }
        self.remove_lone_copies();
        Ok(true)
    }

    /// Notes that the files that stand there are the `wanted` ones, though we did not put them
    /// there. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`] if it is not known what was noted before.
    pub(super) fn note_placed(&self, wanted: &[Change]) -> Result<(), InstallError> {
        let Some(before) = self.accepted()? else { return Ok(()) };
        let mut accepted = before.clone();
        accepted.note_placed(wanted);
        self.note_accepted(Some(&before), &accepted);
        Ok(())
    }

    /// What is to be kept when `changes` are made to what is `standing` at their paths, so that all
    /// is as `wanted`; `None` if that is what is kept already, or nothing.
    fn to_keep(
        &self,
        standing: &[Change],
        changes: &[Change],
        wanted: &[Change],
    ) -> Result<Option<Vec<Change>>, InstallError> {
        let others = wanted.iter().map(|it| &it.path);
        let others = others.filter(|it| accepted::at(standing, it).is_none());
        let all = [standing, &observed(others)?].concat();
        let earlier = self.kept()?.unwrap_or_default();
        let before = self.accepted()?;
        let mut accepted = before.clone().unwrap_or_default();
        let to_keep = accepted.choose(&all, changes, earlier.clone());
        accepted.note_placed(wanted);
        self.note_accepted(before.as_ref(), &accepted);
        Ok((!to_keep.is_empty() && to_keep != earlier).then_some(to_keep))
    }

    /// Writes what is accepted. Where that fails, which is told, there is no reason to go without a
    /// certificate.
    fn note_accepted(&self, before: Option<&Accepted>, accepted: &Accepted) {
        if before == Some(accepted) {
            return;
        }
        if let Err(error) = write_document(&self.folder.join(ACCEPTED), accepted) {
            let error = chain_text(&error);
            tracing::warn!(folder = %self.folder.display(), error, "what is accepted is not noted");
        }
    }

    /// What is accepted, if that is known.
    fn accepted(&self) -> Result<Option<Accepted>, InstallError> {
        read_document(&self.folder.join(ACCEPTED))
    }

    /// What is kept; `None` if nothing is, or it is of no use.
    fn kept(&self) -> Result<Option<Vec<Change>>, InstallError> {
        if !is_there(&self.folder.join(PREVIOUS))? {
            return Ok(None);
        }
        match self.copies(PREVIOUS) {
            Err(InstallError::Read { path, source }) if is_useless(&source) => {
                tracing::warn!(path = %path.display(), %source, "earlier files can't be put back");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// The renames, and what follows them.
    fn finish(&self, journal: &Journal, bars: &Bars) -> Result<(), InstallError> {
        if let Err(error) = place_all(&journal.moves, bars) {
            self.undo(journal, bars)?;
            self.abandon(journal, bars);
            return Err(error);
        }
        let previous = journal.copies.then_some(&journal.kept).or(journal.previous.as_ref());
        if let Some(previous) = previous {
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
        let wanted = match fs::read_link(self.folder.join(PREVIOUS)) {
            Ok(wanted) => wanted,
            Err(error) if error.kind() == io::ErrorKind::NotFound => PathBuf::new(),
            Err(_) => return,
        };
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(KEPT_PREFIX) && wanted != Path::new(&name) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
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
fn observed<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Vec<Change>, InstallError> {
    let observe =
        |path: &PathBuf| Ok(Change { path: path.clone(), wanted: Standing::observe(path)? });
    paths.into_iter().map(observe).collect()
}

/// Whether anything stands at `path`.
fn is_there(path: &Path) -> Result<bool, InstallError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(InstallError::Read { path: path.to_owned(), source }),
    }
}

/// Whether `error` says that there is nothing to be read, or nothing that means anything, and will
/// say so again.
fn is_useless(error: &io::Error) -> bool {
    let of_the_moment = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    !of_the_moment.iter().any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}

fn new_folder() -> String {
    format!("{KEPT_PREFIX}{}", random())
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

/// The document at `path`; `None` if there is none that can be understood.
fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, InstallError> {
    let document = fs::read(path).and_then(|it| Ok(serde_json::from_slice(&it)?));
    match document {
        Ok(document) => Ok(Some(document)),
        Err(error) if is_useless(&error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "it is passed over");
            }
            Ok(None)
        }
        Err(source) => Err(InstallError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
