//! Whether the store could take a certificate now: asked before an order is placed, since what
//! can't be kept must not be ordered.
//!
//! # Rules
//!
//! 1. Both halves of the state directory are written to and flushed, for real: a quota, a disk that
//!    fails, missing rights and too many open files show in nothing else.
//! 2. There is room for more than the largest certificate needs, in bytes and in files.
//! 3. What was written is gone again.
//!
//! Not here: what follows from it ([`crate::lifecycle`]).

use std::path::Path;

use super::error::storage;
use super::{Store, blocking};
use crate::model::{CertificateName, StorageError};
use crate::sys::atomic;
use crate::sys::volume::{self, Room};

/// What is to be left. A generation of a hundred names has some 100 KiB in six files and two
/// folders; its order, key, state and history are of that size again.
const NEEDED: Room = Room { bytes: 1 << 20, files: 32 };

/// How much is written for a try: as much as a generation.
const TRIED_BYTES: usize = 128 << 10;

impl Store {
    /// Finds out whether a new generation of the certificate `name`, and all that an order needs
    /// before it, could be stored now. Nothing is left of the try.
    ///
    /// # Errors
    ///
    /// [`StorageError`] says what stands in the way.
    pub async fn check_room(&self, name: &CertificateName) -> Result<(), StorageError> {
        let lineage = self.certificate_dir(name);
        let lease = self.lease(&lineage.display())?;
        let confirmed = self.engine.confirm(lease).await;
        confirmed.map_err(storage("write to", &lineage))?;
        let private = self.settings.private_dir().join("certificates");
        let folders =
            [(lineage.clone(), self.settings.certs_dir()), (private.join(name.as_str()), private)];
        let tried = blocking(move || {
            folders
                .into_iter()
                .try_for_each(|(own, above)| check_folder(if own.is_dir() { &own } else { &above }))
        });
        tried.await.map_err(storage("try to write to", &lineage))?
    }
}

fn check_folder(folder: &Path) -> Result<(), StorageError> {
    volume::check_room(folder, NEEDED).map_err(storage("be sure of room in", folder))?;
    atomic::probe(folder, TRIED_BYTES).map_err(storage("write in", folder))
}
