//! Everything below the state directory.
//!
//! Two halves: private documents behind one trait ([`Engine`]), with typed faces on top, and the
//! generations below `certs/`, which are files because servers read them. [`Store`] holds both, and
//! the lease that makes this process the only writer.
//!
//! Not here: what is kept and why; files that servers read elsewhere ([`crate::deploy`]).

mod accounts;
mod authorities;
mod certificates;
mod directory;
mod documents;
mod engine;
mod error;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod generation;
mod key;
mod lineage;
mod opening;
mod orders;
mod ports;
mod preflight;
mod pulse;
mod repair;
mod revocation_lists;
mod settings;

pub use directory::DirectoryEngine;
pub use engine::{Change, Document, Engine, EngineError, Expected, Lease, Revision, Watch};
pub use error::{GroupError, HeldError, MismatchError, OpenError, ReadOnlyError};
pub use file::ReadError;
pub use key::Key;
pub use opening::Store;
pub use settings::StoreSettings;

/// Runs `work` where it may block. Fails if `work` panics or the runtime ends.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}
