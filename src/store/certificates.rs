//! The certificates that we hold: what of [`Store`] deals with the folders below `certs/`.
//!
//! Whatever moment the process dies at, [`Store::held`] afterwards is the old or the new pair.
//!
//! Not here: how a folder is written, read and repaired ([`super::lineage`], [`super::generation`],
//! [`super::repair`]).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError};

use super::error::storage;
use super::generation::{Meta, Rendered, Rights};
use super::lineage::{Lineage, Slot};
use super::{HeldError, Store, blocking, repair};
use crate::model::{
    CertificateName, Chain, Fingerprint, Generation, Held, IssuedCertificate, PrivateKey,
    StorageError,
};

impl Store {
    /// What `current` of the certificate `name` points to, key and certificate read from the same
    /// folder and found to fit; `None` if there has never been one.
    ///
    /// # Errors
    ///
    /// [`HeldError`] if the files are not as they were stored, or can't be read now:
    /// [`HeldError::is_systems_fault`] tells the two apart.
    pub async fn held(&self, name: &CertificateName) -> Result<Option<Held>, HeldError> {
        let lineage = self.lineage(name);
        let held = blocking(move || lineage.held()).await;
        held.map_err(|it| HeldError::System(io::Error::other(it)))?
    }

    /// The generations of the certificate `name` that are whole, oldest label first.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the folder can't be listed.
    pub async fn generations(
        &self,
        name: &CertificateName,
    ) -> Result<Vec<(Generation, Fingerprint)>, StorageError> {
        let lineage = self.lineage(name);
        let whole = run(&lineage.clone(), move || lineage.whole()).await?;
        Ok(whole.into_iter().map(|(generation, it)| (generation, it.leaf.sha256)).collect())
    }

    /// The generation with the leaf `sha256`, key and origin with it; `None` if there is no such
    /// whole one, or it is not known where it came from.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the generations can't be listed.
    pub async fn stored(
        &self,
        name: &CertificateName,
        sha256: Fingerprint,
    ) -> Result<Option<IssuedCertificate>, StorageError> {
        let lineage = self.lineage(name);
        run(&lineage.clone(), move || lineage.stored(sha256)).await
    }

    /// The key of the generation with the leaf `sha256`; `None` if there is no such whole one.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the generations can't be listed, or the key can't be read now.
    pub async fn key(
        &self,
        name: &CertificateName,
        sha256: Fingerprint,
    ) -> Result<Option<PrivateKey>, StorageError> {
        let lineage = self.lineage(name);
        run(&lineage.clone(), move || lineage.key(sha256)).await
    }

    /// Stores `issued` as a new generation of the certificate `name` and makes it current. On
    /// return all of it is on disk. The same certificate stored twice is one generation.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; what was current is current still, unless the last flush failed.
    pub async fn add(
        &self,
        name: &CertificateName,
        issued: &IssuedCertificate,
        read_group: Option<&str>,
    ) -> Result<Held, StorageError> {
        let meta = Meta::new(issued.chain.leaf.sha256, Some(issued.origin.clone()));
        let rendered = self.render(name, &issued.chain, issued.key.as_ref(), &meta)?;
        self.change(name, read_group, move |lineage, rights| lineage.add(&rendered, rights)).await
    }

    /// Makes the self-signed `chain` with its `key` current, as long as the certificate `name` has
    /// never had a generation; `None` if it has.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; a placeholder that was there before may be gone.
    pub async fn put_placeholder(
        &self,
        name: &CertificateName,
        chain: &Chain,
        key: &PrivateKey,
        read_group: Option<&str>,
    ) -> Result<Option<Held>, StorageError> {
        let meta = Meta::placeholder(chain.leaf.sha256);
        let rendered = self.render(name, chain, Some(key), &meta)?;
        let work =
            move |lineage: &Lineage, rights: &Rights| lineage.put_placeholder(&rendered, rights);
        self.change(name, read_group, work).await
    }

    /// Points `current` of the certificate `name` to the generation with the leaf `sha256`, one of
    /// [`Store::generations`].
    ///
    /// # Errors
    ///
    /// [`StorageError`] if there is no such whole generation, or the link can't be switched.
    pub async fn switch(
        &self,
        name: &CertificateName,
        sha256: Fingerprint,
    ) -> Result<(), StorageError> {
        let work = move |lineage: &Lineage, _: &Rights| {
            let whole = lineage.whole()?;
            let found = whole.iter().find(|(_, it)| it.leaf.sha256 == sha256);
            let (generation, _) = found.ok_or_else(|| {
                let gone = io::Error::from(io::ErrorKind::NotFound);
                storage("find that generation in", lineage.root())(gone)
            })?;
            lineage.switch(Slot::Generation(*generation))
        };
        self.change(name, None, work).await
    }

    /// Removes old generations of the certificate `name`: not the newest three, not the current
    /// one, and none in `keep`. Removes the placeholder once it isn't current. Says how many
    /// generations went.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if one can't be moved out of sight.
    pub async fn prune(
        &self,
        name: &CertificateName,
        keep: &BTreeSet<Fingerprint>,
    ) -> Result<usize, StorageError> {
        let keep = keep.clone();
        self.change(name, None, move |lineage, _| lineage.prune(&keep)).await
    }

    /// Puts right what somebody else did to the files of the certificate `name`, from what of them
    /// is whole, and says what that was; `None` if nothing was wrong or nothing could be done about
    /// it (then [`Store::held`] says so).
    ///
    /// # Errors
    ///
    /// [`StorageError`] if a file can't be written or given to `read_group`.
    pub async fn repair(
        &self,
        name: &CertificateName,
        read_group: Option<&str>,
    ) -> Result<Option<String>, StorageError> {
        let now = self.clock.now();
        self.change(name, read_group, move |lineage, rights| repair::repair(lineage, rights, now))
            .await
    }

    fn render(
        &self,
        name: &CertificateName,
        chain: &Chain,
        key: Option<&PrivateKey>,
        meta: &Meta,
    ) -> Result<Rendered, StorageError> {
        let rendered = Rendered::new(chain, key, meta);
        rendered.map_err(storage("store the certificate in", &self.certificate_dir(name)))
    }

    /// Runs `work` as the only one who writes, in this process and beyond.
    async fn change<T: Send + 'static>(
        &self,
        name: &CertificateName,
        read_group: Option<&str>,
        work: impl FnOnce(&Lineage, &Rights) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let lineage = self.lineage(name);
        let lease = Arc::clone(self.lease(&lineage.root().display())?);
        let confirmed = self.engine.confirm(&lease).await;
        confirmed.map_err(storage("write to", lineage.root()))?;
        let (writing, read_group) = (Arc::clone(&self.writing), read_group.map(str::to_owned));
        run(&lineage.clone(), move || {
            // The lease lives as long as this work, also if nobody waits for it any more.
            let _lease = lease;
            // Before all others are kept waiting: groups may come from a network.
            let rights = Rights::for_group(read_group.as_deref());
            let rights = rights.map_err(storage("choose the group of", lineage.root()))?;
            let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            work(&lineage, &rights)
        })
        .await
    }
}

async fn run<T: Send + 'static>(
    lineage: &Lineage,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    blocking(work).await.map_err(storage("finish the work on", lineage.root()))?
}
