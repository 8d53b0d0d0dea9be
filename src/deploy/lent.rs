//! A generation's files for programs that are run with more rights than whoever stored them: copies
//! that nobody else can change, or exchange for links to what only the program may read.
//!
//! Not here: files that stay ([`super::install`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Material;
use super::{DeployRequest, InstallContent, InstallError};
use crate::sys::atomic::{self, Access};

/// All that a generation has.
const CONTENTS: [InstallContent; 5] = [
    InstallContent::FullChain,
    InstallContent::Certificate,
    InstallContent::Chain,
    InstallContent::PrivateKey,
    InstallContent::Combined,
];

/// One generation, laid out as in the store; gone when this is dropped.
#[derive(Debug)]
#[must_use = "the files go away with it"]
pub(super) struct Lent {
    certs_dir: PathBuf,
}

impl Lent {
    /// Writes `material`, the generation of `request`, into a folder of the target below
    /// `lent_dir`, which has to be private. What a crash left there goes away. Blocks.
    ///
    /// # Errors
    ///
    /// [`InstallError`] if it can't be written; nothing of it is left then.
    pub(super) fn new(
        lent_dir: &Path,
        request: &DeployRequest,
        material: &Material,
    ) -> Result<Self, InstallError> {
        let certs_dir = lent_dir.join(request.target.as_str());
        drop(fs::remove_dir_all(&certs_dir));
        let lent = Self { certs_dir };
        let certificate = lent.certs_dir.join(request.certificate.as_str());
        let folder = certificate.join(request.generation.to_string());
        atomic::directory(lent_dir, Access::mode(0o700))?;
        atomic::directory(&folder, Access::mode(0o700))?;
        for content in CONTENTS.into_iter().filter(|it| material.has(*it)) {
            let text = material.content(content)?;
            atomic::write(&folder.join(content.file_name()), &text, Access::mode(0o600))?;
        }
        Ok(lent)
    }

    /// What stands for the store's folder of certificates.
    pub(super) fn certs_dir(&self) -> &Path {
        &self.certs_dir
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // What can't be removed now is removed before the next program runs.
        drop(fs::remove_dir_all(&self.certs_dir));
    }
}
