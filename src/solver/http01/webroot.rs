//! http-01 by files that a web server shows.
//!
//! The file is `<directory>/.well-known/acme-challenge/<token>`, or `<directory>/<token>` if flat,
//! readable for all, and there only while it is needed. What is missing below `directory` is made
//! and stays; `directory` itself is made only if flat, since a document root that is not there is a
//! mistake in the configuration.
//!
//! Two orders may have the same authorization, and so the same token, open at once: the file goes
//! when the last of them has been cleaned up.
//!
//! A document root may be on a network file system, and that may hang: no file is touched, and no
//! lock of those who touch one is waited for, but where it may block.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::model::{ChallengeType, Identifier, KeyAuthorization, Proof, Token};
use crate::solver::removal::Owed;
use crate::solver::{CleanUp, Presented, Solver, SolverError, suited};
use crate::sys::beneath::{BeneathError, Folder};

/// Below the document root.
const FOLDERS: [&str; 2] = [".well-known", "acme-challenge"];

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Shows proofs as files in a folder that a web server shows.
#[derive(Debug)]
pub struct Webroot {
    files: Arc<Files>,
}

impl Webroot {
    /// Below the document root `directory`; straight in it if `flat`. Nothing is opened yet.
    #[must_use]
    pub fn new(directory: PathBuf, flat: bool) -> Self {
        Self { files: Arc::new(Files { directory, flat, shown: Mutex::default() }) }
    }
}

#[async_trait]
impl Solver for Webroot {
    fn challenge_type(&self) -> ChallengeType {
        ChallengeType::Http01
    }

    async fn check(&self) -> Result<(), SolverError> {
        let files = Arc::clone(&self.files);
        blocking(move || files.check()).await
    }

    async fn present(&self, proof: &Proof) -> Result<Presented, SolverError> {
        suited(proof, ChallengeType::Http01)?;
        let (files, proof, owed) = (Arc::clone(&self.files), proof.clone(), Owed::new());
        // If nobody waits any more, the runtime drops the result, and with it the file goes.
        let file = blocking(move || files.show(&proof, owed)).await?;
        Ok(Presented(Box::new(file)))
    }

    async fn clean_up_leftover(
        &self,
        _identifier: &Identifier,
        token: &Token,
    ) -> Result<(), SolverError> {
        let (files, token) = (Arc::clone(&self.files), token.clone());
        blocking(move || files.remove_leftover(&token)).await
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SolverError> + Send + 'static,
) -> Result<T, SolverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(broken) => match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(SolverError::Interrupted),
        },
    }
}

/// The folder, and which files of it are shown by whom.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    flat: bool,
    shown: Mutex<HashMap<Token, Shown>>,
}

#[derive(Debug)]
struct Shown {
    /// Where the file is, even if the folder has been renamed since.
    folder: Folder,
    key_authorization: KeyAuthorization,
    /// How many [`ShownFile`]s stand for it.
    holders: usize,
}

impl Files {
    fn check(&self) -> Result<(), SolverError> {
        self.check_writable().map_err(self.failed())
    }

    /// Checks the deepest folder that is there, in which what is missing would be made.
    fn check_writable(&self) -> Result<(), BeneathError> {
        let mut folder = match Folder::open(&self.directory) {
            Err(error) if error.is_not_found() && self.flat => {
                return existing_ancestor(&self.directory)?.check_writable();
            }
            opened => opened?,
        };
        for name in self.folders() {
            folder = match folder.open_folder(name) {
                Err(error) if error.is_not_found() => break,
                opened => opened?,
            };
        }
        folder.check_writable()
    }

    fn show(self: &Arc<Self>, proof: &Proof, owed: Owed) -> Result<ShownFile, SolverError> {
        let Proof { token, key_authorization, .. } = proof;
        // Held over the writing, so that nobody removes the file meanwhile.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let same = shown.get_mut(token).filter(|it| it.key_authorization == *key_authorization);
        if let Some(same) = same {
            same.holders += 1;
        } else {
            let folder = self.make_folder().map_err(self.failed())?;
            let content = key_authorization.as_str().as_bytes();
            folder.write_file(token.as_str(), content, FILE_MODE).map_err(self.failed())?;
            let holders = shown.remove(token).map_or(0, |it| it.holders) + 1;
            let key_authorization = key_authorization.clone();
            shown.insert(token.clone(), Shown { folder, key_authorization, holders });
        }
        Ok(ShownFile { files: Arc::clone(self), token: Some((token.clone(), owed)) })
    }

    /// Gives up one holder's part in the file of `token`; the last one removes it.
    fn release(&self, token: &Token) -> Result<(), SolverError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = shown.get_mut(token) else { return Ok(()) };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return Ok(());
        }
        let Some(entry) = shown.remove(token) else { return Ok(()) };
        entry.folder.remove_file(token.as_str()).map_err(self.failed())
    }

    fn remove_leftover(&self, token: &Token) -> Result<(), SolverError> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.contains_key(token) {
            return Ok(());
        }
        let removed = self.open_folder().and_then(|it| it.remove_file(token.as_str()));
        match removed {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map_err(self.failed()),
        }
    }

    fn make_folder(&self) -> Result<Folder, BeneathError> {
        let mut folder =
            if self.flat { open_or_make(&self.directory)? } else { Folder::open(&self.directory)? };
        for name in self.folders() {
            folder = folder.open_or_make_folder(name, FOLDER_MODE)?;
        }
        Ok(folder)
    }

    fn open_folder(&self) -> Result<Folder, BeneathError> {
        let mut folder = Folder::open(&self.directory)?;
        for name in self.folders() {
            folder = folder.open_folder(name)?;
        }
        Ok(folder)
    }

    fn folders(&self) -> &'static [&'static str] {
        if self.flat { &[] } else { &FOLDERS }
    }

    fn failed(&self) -> impl FnOnce(BeneathError) -> SolverError {
        let directory = self.directory.clone();
        move |source| SolverError::Webroot { directory, source }
    }
}

/// Opens the folder `path`, and makes it and what is missing above it.
fn open_or_make(path: &Path) -> Result<Folder, BeneathError> {
    let missing = match Folder::open(path) {
        Err(error) if error.is_not_found() => error,
        opened => return opened,
    };
    let (parent, name) = (path.parent(), path.file_name().and_then(OsStr::to_str));
    let (Some(parent), Some(name)) = (parent, name) else { return Err(missing) };
    open_or_make(parent)?.open_or_make_folder(name, FOLDER_MODE)
}

/// The first folder above `path` that is there.
fn existing_ancestor(path: &Path) -> Result<Folder, BeneathError> {
    let parent = path.parent().unwrap_or(path);
    match Folder::open(parent) {
        Err(error) if error.is_not_found() && parent != path => existing_ancestor(parent),
        opened => opened,
    }
}

/// One holder's part in a file that is shown.
struct ShownFile {
    files: Arc<Files>,
    /// `None` once it has been given up.
    token: Option<(Token, Owed)>,
}

#[async_trait]
impl CleanUp for ShownFile {
    async fn clean_up(mut self: Box<Self>) -> Result<(), SolverError> {
        let Some((token, owed)) = self.token.take() else { return Ok(()) };
        let files = Arc::clone(&self.files);
        blocking(move || {
            let _owed = owed;
            files.release(&token)
        })
        .await
    }
}

impl Drop for ShownFile {
    fn drop(&mut self) {
        let Some((token, owed)) = self.token.take() else { return };
        let files = Arc::clone(&self.files);
        let release = move || {
            let _owed = owed;
            if let Err(error) = files.release(&token) {
                tracing::warn!(%error, "a challenge file could not be removed");
            }
        };
        // Whoever drops it may be on one of the runtime's few threads, and never wait here.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(release)),
            Err(_none) => release(),
        }
    }
}

#[cfg(test)]
mod tests;
