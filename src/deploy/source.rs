//! Reads a stored generation as if it were a stranger's: beneath a directory handle, through no
//! link, with a size cap, parsed and written anew, and only if key and certificate fit.
//!
//! Not here: the store's own care for its files ([`crate::store`]).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use zeroize::Zeroizing;

use super::InstallContent;
use crate::model::pem::MAX_PEM_BYTES;
use crate::model::{CertificateName, Chain, ChainError, Generation, KeyError, PrivateKey};

/// A stored generation can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder of it can't be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of it is not what the store writes.
    #[error("{} {what}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its certificates make no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Its key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Key and certificate are not a pair.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

/// A generation's content, checked.
#[derive(Debug)]
pub(super) struct Material {
    chain: Chain,
    key: PrivateKey,
}

impl Material {
    /// Reads `generation` of `certificate` beneath `certs_dir`. Blocks.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if it is not a whole, matching pair in plain files.
    pub(super) fn read(
        certs_dir: &Path,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<Self, SourceError> {
        let label = generation.to_string();
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let path = certs_dir.join(certificate.as_str());
        let certs = open(CWD, certs_dir, directory, certs_dir)?;
        let folder = open(&certs, certificate.as_str(), directory | OFlags::NOFOLLOW, &path)?;
        let path = path.join(&label);
        let folder = open(&folder, label.as_str(), directory | OFlags::NOFOLLOW, &path)?;

        let chain = Chain::parse_pem(&content(&folder, &path, InstallContent::FullChain)?)?;
        let key = PrivateKey::from_pem(&content(&folder, &path, InstallContent::PrivateKey)?)?;
        if key.public_key()? != chain.leaf.public_key {
            return Err(SourceError::Mismatch);
        }
        Ok(Self { chain, key })
    }

    /// The content of the file that holds `content`.
    pub(super) fn content(&self, content: InstallContent) -> Zeroizing<Vec<u8>> {
        let text = match content {
            InstallContent::FullChain => self.chain.full_pem(),
            InstallContent::Certificate => self.chain.leaf_pem(),
            InstallContent::Chain => self.chain.issuers_pem(),
            InstallContent::PrivateKey => self.key.secret_pem().to_owned(),
            InstallContent::Combined => {
                let key = Zeroizing::new(self.key.secret_pem().to_owned());
                let separator = if key.ends_with('\n') { "" } else { "\n" };
                [key.as_str(), separator, &self.chain.full_pem()].concat()
            }
        };
        Zeroizing::new(text.into_bytes())
    }
}

fn open(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
    path: &Path,
) -> Result<OwnedFd, SourceError> {
    openat(parent, name, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SourceError::Unreadable { path: path.to_owned(), source: errno.into() })
}

fn content(
    folder: &OwnedFd,
    folder_path: &Path,
    content: InstallContent,
) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let name = content.file_name();
    let path = folder_path.join(name);
    // The open of a FIFO would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(open(folder, name, flags, &path)?);
    let unreadable = |source| SourceError::Unreadable { path: path.clone(), source };
    let refused = |what| SourceError::Refused { path: path.clone(), what };

    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refused("is not a regular file"));
    }
    // A second name may be somebody's who is to be given the content of another file.
    if metadata.nlink() != 1 {
        return Err(refused("has more than one hard link"));
    }
    let limit = u64::try_from(MAX_PEM_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PEM_BYTES.min(64 * 1024)));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_PEM_BYTES {
        return Err(refused("is too large"));
    }
    Ok(bytes)
}
