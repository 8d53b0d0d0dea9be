//! What the store asks of whatever keeps its private documents.
//!
//! One trait, small enough that a folder ([`super::DirectoryEngine`]) fulfils it today and a shared
//! engine (a key-value store with leases) can later: documents with revisions, leases with fencing
//! numbers, and word of what changed.
//!
//! # Rules
//!
//! 1. A document is read whole or not at all; after [`Engine::save`] it is there to stay.
//! 2. A save or removal that expects a revision fails if the document has another.
//! 3. A save or removal under a lease fails once somebody else has been given a later one, whatever
//!    either of them believes: the fencing number decides, not a clock.
//!
//! Not here: what the documents mean; the generations below `certs/`, which are files for others.

use std::fmt;
use std::fs::File;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use zeroize::Zeroizing;

use super::Key;

/// Keeps documents.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync {
    /// The document at `key`, if there is one.
    async fn load(&self, key: &Key) -> Result<Option<Document>, EngineError>;

    /// Makes `content` the document at `key`, if `expected` holds; returns its new revision.
    async fn save(
        &self,
        key: &Key,
        content: &[u8],
        expected: Expected,
        lease: &Lease,
    ) -> Result<Revision, EngineError>;

    /// Removes the document at `key`, if `expected` holds. One that isn't there stays away.
    async fn remove(&self, key: &Key, expected: Expected, lease: &Lease)
    -> Result<(), EngineError>;

    /// The keys that begin with `prefix`, in their order.
    async fn list(&self, prefix: &str) -> Result<Vec<Key>, EngineError>;

    /// Waits up to `wait` for the lease `name`, and holds it until the [`Lease`] is dropped.
    async fn acquire(&self, name: &'static str, wait: Duration) -> Result<Lease, EngineError>;

    /// Fails with [`EngineError::Fenced`] if `lease` is no longer the latest of its name.
    async fn confirm(&self, lease: &Lease) -> Result<(), EngineError>;

    /// Tells from now on of each change of a key that begins with `prefix`.
    fn watch(&self, prefix: &str) -> Watch;
}

/// What a document is at one moment. Two documents with one revision are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// As the engine writes it.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A document and its revision. It may be a key: it prints its revision alone, and is wiped.
pub struct Document {
    /// All of it.
    pub content: Zeroizing<Vec<u8>>,
    /// What it is now.
    pub revision: Revision,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.revision).finish()
    }
}

/// What must be so for a document to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Anything,
    /// There is none.
    Absent,
    /// It has this revision.
    Revision(Revision),
}

/// The right to write, until it is dropped or somebody else gets a later one.
#[derive(Debug)]
pub struct Lease {
    name: &'static str,
    fencing: u64,
    /// What holds it; a lock on a file is let go when the file is closed.
    _held: Option<File>,
}

impl Lease {
    /// The lease `name` with its fencing number, held as long as `held` is open.
    #[must_use]
    pub const fn new(name: &'static str, fencing: u64, held: Option<File>) -> Self {
        Self { name, fencing, _held: held }
    }

    /// What it is the right to.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Higher than that of every lease of this name that was given before.
    #[must_use]
    pub const fn fencing(&self) -> u64 {
        self.fencing
    }
}

/// A document can't be read or changed. What was there is there still.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It was changed by somebody else.
    #[error("{key} was changed in between")]
    Conflict {
        /// Which one.
        key: String,
    },
    /// Another process writes now.
    #[error("another process has taken over (lease {fencing} is no longer the latest)")]
    Fenced {
        /// The number of the lease that has passed.
        fencing: u64,
    },
    /// The lease is held by another process, and the wait was in vain.
    #[error("another process holds the lease {name}")]
    Held {
        /// Which lease.
        name: &'static str,
        /// Who, as far as known.
        pid: Option<u32>,
    },
    /// The medium refused.
    #[error("cannot {action} {place}")]
    Medium {
        /// What was to be done.
        action: &'static str,
        /// Where.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Word of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This document was saved or removed.
    Document(Key),
    /// More changed than could be told: look at everything.
    Missed,
}

/// Hears of changes below a prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    changes: broadcast::Receiver<Key>,
}

impl Watch {
    /// What of `changes` begins with `prefix`.
    #[must_use]
    pub fn new(prefix: &str, changes: broadcast::Receiver<Key>) -> Self {
        Self { prefix: prefix.to_owned(), changes }
    }

    /// Waits for the next change; `None` once the engine is gone.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.changes.recv().await {
                Ok(key) if key.as_str().starts_with(&self.prefix) => {
                    return Some(Change::Document(key));
                }
                Ok(_elsewhere) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Change::Missed),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
