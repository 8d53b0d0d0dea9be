//! Reads a stored generation as if it were a stranger's: beneath a directory handle, through no
//! link, with a size cap, parsed and written anew, and only if key and certificate fit. For a
//! stranger's generation more has to hold ([`Demands`]).
//!
//! Not here: the store's own care for its files ([`crate::store`]).

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::InstallContent;
use crate::model::pem::{self, MAX_PEM_BYTES};
use crate::model::{
    CertificateName, Chain, ChainError, Generation, Identifier, KeyError, PrivateKey,
};
use crate::sys::beneath::{BeneathError, Folder};

/// A stored generation can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder of it can't be reached.
    #[error(transparent)]
    Unreachable(#[from] BeneathError),
    /// A file of it can't be read.
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
    /// The file system that it is on does not answer.
    #[error("{} does not answer within {} s", folder.display(), limit.as_secs())]
    Silent {
        /// The folder of all certificates.
        folder: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Its certificates make no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Its key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It has no key, since that is elsewhere.
    #[error("there is no private key: it is elsewhere (csr_file)")]
    NoKey,
    /// It is not for the key that the configuration means by that name.
    #[error(
        "the certificate is not for the key of the request that the configuration names (csr_file)"
    )]
    OtherKey,
    /// Key and certificate are not a pair.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// It is not the certificate that the configuration means by that name.
    #[error("the certificate is not for exactly the names that the configuration gives it")]
    Names,
}

/// What has to hold of a generation that another user, who is not trusted, has stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands<'a> {
    /// The user's number: whoever owns the files. What somebody else owns was linked there.
    pub(super) owner: u32,
    /// What the certificate is for, all of it and nothing else.
    pub(super) identifiers: &'a BTreeSet<Identifier>,
    /// The public half of its key, as DER, where that is elsewhere; else it is there too.
    pub(super) key_elsewhere: Option<&'a [u8]>,
}

/// A generation's content, checked.
#[derive(Debug)]
pub(super) struct Material {
    chain: Chain,
    /// `None` where it is elsewhere.
    key: Option<PrivateKey>,
}

impl Material {
    /// Reads `generation` of `certificate` beneath `certs_dir`, which for a stranger's generation
    /// has to be a folder itself in a folder that he does not choose. Blocks.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if it is not a whole, matching pair in plain files, or not as demanded.
    pub(super) fn read(
        certs_dir: &Path,
        certificate: &CertificateName,
        generation: Generation,
        demands: Option<Demands<'_>>,
    ) -> Result<Self, SourceError> {
        let certs = match (demands, certs_dir.parent(), certs_dir.file_name()) {
            (Some(_), Some(state), Some(name)) => {
                Folder::open(state)?.open_folder(&name.to_string_lossy())?
            }
            _ => Folder::open(certs_dir)?,
        };
        let folder =
            certs.open_folder(certificate.as_str())?.open_folder(&generation.to_string())?;
        let owner = demands.map(|it| it.owner);
        let chain = Chain::parse_pem(&content(&folder, InstallContent::FullChain, owner)?)?;
        let key = match demands.map(|it| it.key_elsewhere) {
            Some(Some(public_key)) if chain.leaf.public_key != public_key => {
                return Err(SourceError::OtherKey);
            }
            Some(Some(_)) => None,
            Some(None) => Some(content(&folder, InstallContent::PrivateKey, owner)?),
            // The store has seen to it that one is there, or is to be elsewhere.
            None => match content(&folder, InstallContent::PrivateKey, owner) {
                Err(SourceError::Unreachable(error)) if error.is_not_found() => None,
                pem => Some(pem?),
            },
        };
        let key = key.map(|pem| PrivateKey::from_pem(&pem)).transpose()?;
        if let Some(key) = &key
            && key.public_key()? != chain.leaf.public_key
        {
            return Err(SourceError::Mismatch);
        }
        if demands.is_some_and(|it| !chain.is_for_exactly(it.identifiers)) {
            return Err(SourceError::Names);
        }
        Ok(Self { chain, key })
    }

    /// Whether it has what the file that holds `content` is made of.
    pub(super) const fn has(&self, content: InstallContent) -> bool {
        self.key.is_some() || !content.is_secret()
    }

    /// The content of the file that holds `content`, written anew: nothing that stood beside chain
    /// and key in the store's files gets into it.
    ///
    /// # Errors
    ///
    /// [`SourceError::NoKey`], where the key is elsewhere; none else for a key that could be read.
    pub(super) fn content(
        &self,
        content: InstallContent,
    ) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let key = || {
            let key = self.key.as_ref().ok_or(SourceError::NoKey)?;
            Ok::<_, SourceError>(pem::write_private_key(&key.secret_der()?))
        };
        let text = match content {
            InstallContent::FullChain => Zeroizing::new(self.chain.full_pem()),
            InstallContent::Certificate => Zeroizing::new(self.chain.leaf_pem()),
            InstallContent::Chain => Zeroizing::new(self.chain.issuers_pem()),
            InstallContent::PrivateKey => key()?,
            InstallContent::Combined => {
                Zeroizing::new([key()?.as_str(), &self.chain.full_pem()].concat())
            }
        };
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

fn content(
    folder: &Folder,
    content: InstallContent,
    owner: Option<u32>,
) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let name = content.file_name();
    let path = folder.path().join(name);
    let file = folder.open_file(name)?;
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
    if owner.is_some_and(|it| it != metadata.uid()) {
        return Err(refused("does not belong to the user who keeps the certificates"));
    }
    let limit = u64::try_from(MAX_PEM_BYTES).unwrap_or(u64::MAX);
    if metadata.len() > limit {
        return Err(refused("is too large"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PEM_BYTES.min(64 * 1024)));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_PEM_BYTES {
        return Err(refused("is too large"));
    }
    Ok(bytes)
}
