//! One generation: a folder with a certificate, its key, and what follows from the two.
//!
//! `fullchain.pem` and `privkey.pem` (unless the key is elsewhere) are the generation; `cert.pem`,
//! `chain.pem` and `combined.pem` are made of them, and `meta.json` says which certificate was put
//! here and where it came from.
//!
//! Not here: which generation is `current` ([`super::lineage`]).

use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::HeldError;
use super::error::{GroupError, MismatchError, storage};
use super::file::{self, Content};
use crate::model::pem::MAX_PEM_BYTES;
use crate::model::{Chain, Fingerprint, IssuedCertificate, Leaf, Origin, PrivateKey, StorageError};
use crate::sys::atomic::{self, Access, WriteError};
use crate::sys::user;

/// Leaf and intermediates.
pub(super) const FULL_CHAIN: &str = "fullchain.pem";
/// The leaf.
pub(super) const CERTIFICATE: &str = "cert.pem";
/// The intermediates.
pub(super) const CHAIN: &str = "chain.pem";
/// The key.
pub(super) const PRIVATE_KEY: &str = "privkey.pem";
/// The key, the leaf and the intermediates.
pub(super) const COMBINED: &str = "combined.pem";
/// What was put here, and where it came from.
pub(super) const META: &str = "meta.json";

/// Of a generation's folder.
const FOLDER_MODE: u32 = 0o750;

/// `meta.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Of this document.
    #[serde(default)]
    format: u32,
    /// The leaf's identity.
    pub(super) sha256: Fingerprint,
    /// Whether it is self-signed, to stand in for the first real one.
    #[serde(default)]
    pub(super) placeholder: bool,
    /// Where it came from, if that is known.
    #[serde(default)]
    pub(super) origin: Option<Origin>,
}

impl Meta {
    pub(super) const fn new(sha256: Fingerprint, origin: Option<Origin>) -> Self {
        Self { format: 1, sha256, placeholder: false, origin }
    }

    pub(super) const fn placeholder(sha256: Fingerprint) -> Self {
        Self { format: 1, sha256, placeholder: true, origin: None }
    }

    /// Whether there is no key here because it is elsewhere.
    fn key_is_elsewhere(&self) -> bool {
        self.origin.as_ref().is_some_and(|it| it.csr.is_some())
    }
}

/// Who may read what: the group of the configuration, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    group: Option<(String, u32)>,
}

impl Rights {
    /// For `read_group`. May block.
    pub(super) fn for_group(read_group: Option<&str>) -> Result<Self, user::UserError> {
        let group = read_group.map(|it| user::group_id(it).map(|id| (it.to_owned(), id)));
        Ok(Self { group: group.transpose()? })
    }

    /// The number of the group that everything shall belong to.
    pub(super) fn group_id(&self) -> u32 {
        self.group.as_ref().map_or_else(user::own_group_id, |(_, id)| *id)
    }

    /// The permission bits of `file`.
    pub(super) fn mode(&self, file: &str) -> u32 {
        match (is_secret(file), &self.group) {
            (false, _) => 0o644,
            (true, Some(_)) => 0o640,
            (true, None) => 0o600,
        }
    }

    /// For something that has the group `now` or, if `None`, will be made with ours.
    ///
    /// The group is named only where it must be changed: a sandbox may forbid even a chown(2) that
    /// changes nothing.
    fn access(&self, mode: u32, now: Option<u32>) -> Access {
        let now = now.unwrap_or_else(user::own_group_id);
        let wanted = self.group_id();
        Access { group: (now != wanted).then_some(wanted), ..Access::mode(mode) }
    }

    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let name = path.file_name().map(|it| it.to_string_lossy()).unwrap_or_default();
        let access = self.access(self.mode(&name), None);
        atomic::write(path, content, access).map_err(|it| self.failed(path, it))
    }

    /// As [`Rights::write`], where the folder hands a strange group down to new files.
    pub(super) fn write_with_group(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let name = path.file_name().map(|it| it.to_string_lossy()).unwrap_or_default();
        let access = Access { group: Some(self.group_id()), ..Access::mode(self.mode(&name)) };
        atomic::write(path, content, access).map_err(|it| self.failed(path, it))
    }

    /// Gives the folder `path`, which now has the group `now`, its mode and group.
    pub(super) fn set_folder(&self, path: &Path, now: Option<u32>) -> Result<(), StorageError> {
        atomic::directory(path, self.access(FOLDER_MODE, now)).map_err(|it| self.failed(path, it))
    }

    /// Whether a folder has what [`Rights::set_folder`] gives it.
    pub(super) fn folder_is_right(&self, mode: u32, group: u32) -> bool {
        mode == FOLDER_MODE && group == self.group_id()
    }

    fn failed(&self, path: &Path, error: WriteError) -> StorageError {
        let not_permitted = rustix::io::Errno::PERM.raw_os_error();
        match &self.group {
            Some((group, _)) if error.io_error().raw_os_error() == Some(not_permitted) => {
                let error = GroupError { group: group.clone(), source: error };
                storage("set the group of", path)(error)
            }
            _ => storage("store", path)(error),
        }
    }
}

/// A generation as it is written: a name and a content for each file.
pub(super) struct Rendered {
    pub(super) leaf: Leaf,
    pub(super) files: Vec<(&'static str, Zeroizing<Vec<u8>>)>,
}

impl Rendered {
    /// All files of the pair `chain` and `key`; without the key exactly where `meta` says that it
    /// is elsewhere.
    pub(super) fn new(
        chain: &Chain,
        key: Option<&PrivateKey>,
        meta: &Meta,
    ) -> Result<Self, RenderError> {
        if key.is_none() != meta.key_is_elsewhere() {
            return Err(RenderError::Mismatch(MismatchError));
        }
        let full_chain = chain.full_pem();
        let text = |text: String| Zeroizing::new(text.into_bytes());
        let mut meta = serde_json::to_string_pretty(meta)?;
        meta.push('\n');
        let mut files = vec![
            (FULL_CHAIN, text(full_chain.clone())),
            (CERTIFICATE, text(chain.leaf_pem())),
            (CHAIN, text(chain.issuers_pem())),
        ];
        if let Some(key) = key {
            if key.public_key()? != chain.leaf.public_key {
                return Err(RenderError::Mismatch(MismatchError));
            }
            let key = key.secret_pem().trim_end();
            files.push((PRIVATE_KEY, text(format!("{key}\n"))));
            files.push((COMBINED, text(format!("{key}\n{full_chain}"))));
        }
        files.push((META, text(meta)));
        Ok(Self { leaf: chain.leaf.clone(), files })
    }

    /// Writes all of it into `directory`, a folder that nobody else sees yet.
    pub(super) fn write(&self, directory: &Path, rights: &Rights) -> Result<(), StorageError> {
        for (name, content) in &self.files {
            rights.write(&directory.join(name), content)?;
        }
        rights.set_folder(directory, None)
    }
}

/// A pair can't be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenderError {
    #[error(transparent)]
    Mismatch(#[from] MismatchError),
    #[error(transparent)]
    Key(#[from] crate::model::KeyError),
    #[error("its description can't be written")]
    Meta(#[from] serde_json::Error),
}

/// What a generation's folder says, once all of it was found to fit together.
pub(super) struct Whole {
    pub(super) leaf: Leaf,
    pub(super) needs_issuer: bool,
    pub(super) meta: Option<Meta>,
}

/// Reads the generation in `directory`, a path through no link of ours.
pub(super) fn read(directory: &Path) -> Result<Whole, HeldError> {
    let path = directory.join(FULL_CHAIN);
    let pem = file::read(&path, MAX_PEM_BYTES).map_err(HeldError::Read)?;
    let chain = Chain::parse_pem(&pem.bytes).map_err(|source| HeldError::Chain { path, source })?;
    let meta = read_meta(directory)?;
    if !meta.as_ref().is_some_and(Meta::key_is_elsewhere) {
        let path = directory.join(PRIVATE_KEY);
        let pem = file::read(&path, MAX_PEM_BYTES).map_err(HeldError::Read)?;
        let public_key = PrivateKey::from_pem(&pem.bytes).and_then(|it| it.public_key());
        let public_key = public_key.map_err(|source| HeldError::Key { path, source })?;
        if public_key != chain.leaf.public_key {
            return Err(HeldError::Mismatch(directory.to_owned()));
        }
    }
    match &meta {
        Some(Meta { sha256, .. }) if *sha256 != chain.leaf.sha256 => {
            Err(HeldError::Replaced { directory: directory.to_owned(), expected: *sha256 })
        }
        _ => Ok(Whole { needs_issuer: chain.needs_issuer(), leaf: chain.leaf, meta }),
    }
}

/// What is in `directory`; `None` if it is not whole, or not known where it came from.
pub(super) fn stored(directory: &Path) -> Result<Option<IssuedCertificate>, HeldError> {
    let pem = read_if_usable(directory, FULL_CHAIN)?;
    let chain = pem.and_then(|it| Chain::parse_pem(&it.bytes).ok());
    let origin = read_meta(directory)?.and_then(|it| it.origin);
    let (Some(chain), Some(origin)) = (chain, origin) else { return Ok(None) };
    if origin.csr.is_some() {
        return Ok(Some(IssuedCertificate { chain, key: None, origin }));
    }
    let is_its = |it: &PrivateKey| it.public_key().is_ok_and(|it| it == chain.leaf.public_key);
    let key = key(directory)?.filter(is_its);
    Ok(key.map(|key| IssuedCertificate { chain, key: Some(key), origin }))
}

/// The certificate in `directory` and where it came from, whether its key is there or not; `None`
/// if that can't be told, or it came from another CA than the one whose directory is at `url`.
pub(super) fn issued(directory: &Path, url: &str) -> Option<(Leaf, Origin)> {
    let meta = read_meta(directory).ok().flatten()?;
    // Before any chain is read: of many thousands, most may have come from another one.
    let origin = meta.origin.filter(|it| it.directory == url)?;
    let pem = read_if_usable(directory, FULL_CHAIN).ok().flatten()?;
    let chain = Chain::parse_pem(&pem.bytes).ok().filter(|it| it.leaf.sha256 == meta.sha256)?;
    Some((chain.leaf, origin))
}

/// The key in `directory`, if there is one that can be used.
pub(super) fn key(directory: &Path) -> Result<Option<PrivateKey>, HeldError> {
    let pem = read_if_usable(directory, PRIVATE_KEY)?;
    Ok(pem.and_then(|it| PrivateKey::from_pem(&it.bytes).ok()))
}

/// The file `name` in `directory`; `None` if it is not there, or what is there is no such file.
/// That the system refuses at this moment to read it is an error, and says nothing of what is
/// there.
fn read_if_usable(directory: &Path, name: &str) -> Result<Option<Content>, HeldError> {
    match file::read(&directory.join(name), MAX_PEM_BYTES).map_err(HeldError::Read) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.is_systems_fault() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Makes the generation in `directory` anew from whatever is left of it: certificate and key each
/// stand there twice, and the certificate a third time in two pieces. `None` if no pair is left, or
/// none of the certificate that was put here.
pub(super) fn salvage(directory: &Path) -> Option<Rendered> {
    let load =
        |name: &str| -> Option<Content> { file::read(&directory.join(name), MAX_PEM_BYTES).ok() };
    let meta = read_meta(directory).ok()?;
    let pieces = || {
        let mut pem = load(CERTIFICATE)?.bytes;
        pem.extend_from_slice(&load(CHAIN)?.bytes);
        Some(pem)
    };
    let chains = [load(FULL_CHAIN).map(|it| it.bytes), load(COMBINED).map(|it| it.bytes), pieces()];
    let keys = [load(PRIVATE_KEY), load(COMBINED)];
    let keys: Vec<PrivateKey> = keys.iter().flatten().filter_map(|it| key_of(&it.bytes)).collect();
    for chain in chains.iter().flatten().filter_map(|it| Chain::parse_pem(it).ok()) {
        let sha256 = chain.leaf.sha256;
        if meta.as_ref().is_some_and(|it| it.sha256 != sha256) {
            continue;
        }
        let meta = meta.clone().unwrap_or_else(|| {
            // The name of its folder is all that is left to tell a placeholder by.
            let placeholder = directory.ends_with(super::lineage::PLACEHOLDER);
            Meta { placeholder, ..Meta::new(sha256, None) }
        });
        // Where the key is elsewhere there is none to look for.
        let keys = std::iter::once(None).chain(keys.iter().map(Some));
        let mut rendered = keys.filter_map(|it| Rendered::new(&chain, it, &meta).ok());
        if let Some(rendered) = rendered.next() {
            return Some(rendered);
        }
    }
    None
}

/// What `meta.json` in `directory` says; `None` if it says nothing that can be understood.
pub(super) fn read_meta(directory: &Path) -> Result<Option<Meta>, HeldError> {
    let content = read_if_usable(directory, META)?;
    Ok(content.and_then(|it| serde_json::from_slice(&it.bytes).ok()))
}

/// The key of `pem`, without the certificates that may stand around it.
fn key_of(pem: &[u8]) -> Option<PrivateKey> {
    const END: &str = "PRIVATE KEY-----";
    let text = std::str::from_utf8(pem).ok()?;
    let label = text.match_indices("-----BEGIN ").find(|(start, _)| {
        let line = text.get(*start..).and_then(|it| it.lines().next());
        line.is_some_and(|it| it.ends_with(END))
    });
    let section = text.get(label?.0..)?;
    let end = section.find("-----END ")?;
    let end = end + section.get(end..)?.find(END)? + END.len();
    PrivateKey::from_pem(section.get(..end)?.as_bytes()).ok()
}

fn is_secret(file: &str) -> bool {
    // All but these are readable for all, so that a file of a later version is not by accident.
    !matches!(file, FULL_CHAIN | CERTIFICATE | CHAIN | META)
}
