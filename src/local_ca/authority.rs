//! The built-in CA at work: takes one step after the other until it can sign, and signs.
//!
//! # Rules
//!
//! 1. A key is on disk before a certificate for it is made; a kill in between costs nothing.
//! 2. A root's key is read only to sign an intermediate.
//! 3. In one process only one step of any built-in CA is taken at a time; that no other process
//!    takes one is the store's lease.
//!
//! Not here: which step is next ([`super::hierarchy`]).

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::{LocalCaError, LostKeyError};
use super::hierarchy::{Authority, Hierarchy, NewRoot, Step};
use super::settings::LocalCaSettings;
use super::sign::{Serial, SignError, sign_intermediate, sign_leaf, sign_root};
use super::subtree;
use crate::model::pem::write_certificates;
use crate::model::{
    AuthorityLabel, AuthorityVault, Chain, Identifier, KeyType, PrivateKey, Timestamp,
};
use crate::sys::crash;

/// The kind of a root's key.
const ROOT_KEY: KeyType = KeyType::P384;

/// The kind of an intermediate's key.
const INTERMEDIATE_KEY: KeyType = KeyType::P256;

/// A first leaf takes three steps; broken and expired ones, a few more at a time.
const MAX_STEPS: u32 = 100;

/// One step at a time, in the whole process: after a change of its settings the same CA may be
/// there twice for a while.
static TURN: Semaphore = Semaphore::const_new(1);

/// What a leaf is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// What it is for; at least one.
    pub identifiers: Vec<Identifier>,
    /// The `SubjectPublicKeyInfo` of its key, as DER.
    pub public_key: Vec<u8>,
    /// The kind of that key.
    pub key_type: KeyType,
}

/// A built-in CA.
pub struct LocalCa {
    settings: LocalCaSettings,
    vault: Arc<dyn AuthorityVault>,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Who signs leafs, and below whom.
struct Signer {
    intermediate: Authority,
    key: PrivateKey,
    root: Authority,
}

impl LocalCa {
    /// The CA that `settings` describe, kept in `vault`. Touches nothing.
    #[must_use]
    pub fn new(settings: LocalCaSettings, vault: Arc<dyn AuthorityVault>) -> Self {
        Self { settings, vault }
    }

    /// What it was made from.
    #[must_use]
    pub const fn settings(&self) -> &LocalCaSettings {
        &self.settings
    }

    /// The roots that belong into trust stores at `now`, the one that signs first. Only reads.
    ///
    /// # Errors
    ///
    /// If there is none, or one of them can't be read.
    pub async fn roots(&self, now: Timestamp) -> Result<Vec<Authority>, LocalCaError> {
        let hierarchy = self.read().await?;
        hierarchy.trust_anchors(&self.settings, now)
    }

    /// Makes what is missing for this CA to sign at `now`; on return there is a root.
    ///
    /// # Errors
    ///
    /// [`LocalCaError`]; what was made by then stays, and the next call goes on with it.
    pub async fn prepare(&self, new_root: NewRoot, now: Timestamp) -> Result<(), LocalCaError> {
        self.signer(new_root, now).await.map(drop)
    }

    /// A leaf as `request` says, and the intermediate that signed it.
    ///
    /// # Errors
    ///
    /// If it may not certify one of the identifiers, or can't sign; nothing is changed by a
    /// refusal.
    pub async fn issue(&self, request: LeafRequest, now: Timestamp) -> Result<Chain, LocalCaError> {
        let ca = &self.settings.name;
        let foreign = |permitted| {
            request.identifiers.iter().find(move |it| !subtree::permits(permitted, it)).cloned()
        };
        if let Some(identifier) = foreign(&self.settings.permitted) {
            let permitted = self.settings.permitted.clone();
            return Err(LocalCaError::NotPermitted { ca: ca.clone(), identifier, permitted });
        }
        let signer = self.signer(NewRoot::InTime, now).await?;
        if let Some(identifier) = foreign(&signer.root.permitted) {
            return Err(LocalCaError::NotPermittedByRoot {
                ca: ca.clone(),
                label: signer.root.label,
                identifier,
                permitted: signer.root.permitted,
                place: self.vault.authority_place(ca),
            });
        }
        let settings = self.settings.clone();
        self.blocking(move || {
            let by = (&signer.intermediate, &signer.key);
            sign_leaf(&request, by, &settings, now, Serial::random()?)
        })
        .await
    }

    /// Takes steps until one intermediate can sign.
    async fn signer(&self, new_root: NewRoot, now: Timestamp) -> Result<Signer, LocalCaError> {
        let ca = &self.settings.name;
        let ending = |_closed| LocalCaError::Sign(ca.clone(), SignError::Ending);
        let _turn = TURN.acquire().await.map_err(ending)?;
        for _ in 0..MAX_STEPS {
            let hierarchy = self.read().await?;
            match hierarchy.next_step(&self.settings, new_root, now)? {
                Step::MakeRoot(label) => self.make_root(label, now).await?,
                Step::MakeIntermediate { label, root } => {
                    let Some(root) = hierarchy.get(root) else { continue };
                    self.make_intermediate(label, root, now).await?;
                }
                Step::SetAside(label) => self.vault.set_authority_aside(ca, label).await?,
                Step::Remove(label) => self.vault.remove_authority(ca, label).await?,
                Step::Sign { signer, root } => {
                    let (Some(intermediate), Some(root)) =
                        (hierarchy.get(signer), hierarchy.get(root))
                    else {
                        continue;
                    };
                    self.tell_of_successor(&hierarchy, root);
                    let (intermediate, root) = (intermediate.clone(), root.clone());
                    match self.key_of(&intermediate).await? {
                        Ok(key) => return Ok(Signer { intermediate, key, root }),
                        Err(_broken) => self.vault.set_authority_aside(ca, signer).await?,
                    }
                }
            }
        }
        Err(LocalCaError::Unsettled { ca: ca.clone(), place: self.vault.authority_place(ca) })
    }

    /// What is kept, if every root can be read.
    async fn read(&self) -> Result<Hierarchy, LocalCaError> {
        let ca = &self.settings.name;
        let records = self.vault.list_authorities(ca).await?;
        Hierarchy::of(&records).map_err(|(label, source)| LocalCaError::RootLost {
            ca: ca.clone(),
            label,
            place: self.vault.authority_place(ca),
            source,
        })
    }

    async fn make_root(&self, label: AuthorityLabel, now: Timestamp) -> Result<(), LocalCaError> {
        let Some(key) = self.key_for(label, ROOT_KEY).await? else { return Ok(()) };
        let settings = self.settings.clone();
        let root =
            self.blocking(move || sign_root(&key, &settings, now, Serial::random()?)).await?;
        let ca = &self.settings.name;
        self.vault.save_authority_certificate(ca, label, &write_certificates([&root])).await?;
        tracing::info!(%ca, root = %label, "a root was made: put it into the trust stores");
        Ok(())
    }

    async fn make_intermediate(
        &self,
        label: AuthorityLabel,
        root: &Authority,
        now: Timestamp,
    ) -> Result<(), LocalCaError> {
        let ca = &self.settings.name;
        let root_key = self.key_of(root).await?.map_err(|source| LocalCaError::RootKeyLost {
            ca: ca.clone(),
            label: root.label,
            place: self.vault.authority_place(ca),
            source,
        })?;
        let Some(key) = self.key_for(label, INTERMEDIATE_KEY).await? else { return Ok(()) };
        let (settings, root) = (self.settings.clone(), root.clone());
        let intermediate = self
            .blocking(move || {
                sign_intermediate(&key, (&root, &root_key), &settings, now, Serial::random()?)
            })
            .await?;
        let pem = write_certificates([&intermediate]);
        Ok(self.vault.save_authority_certificate(ca, label, &pem).await?)
    }

    /// The key of `authority`, or why it can't sign.
    async fn key_of(
        &self,
        authority: &Authority,
    ) -> Result<Result<PrivateKey, LostKeyError>, LocalCaError> {
        let kept = self.vault.load_authority_key(&self.settings.name, authority.label).await?;
        let Some(pem) = kept else { return Ok(Err(LostKeyError::Missing)) };
        Ok(match PrivateKey::from_pem(pem.reveal().as_bytes()) {
            Err(error) => Err(LostKeyError::Broken(error)),
            Ok(key) if key.public_key().is_ok_and(|it| it == authority.facts.public_key) => Ok(key),
            Ok(_other) => Err(LostKeyError::Foreign),
        })
    }

    /// The key for a certificate that is still to be made: the one that a process left which died,
    /// or a new one, on disk. `None` if what was left had to make room: look again.
    async fn key_for(
        &self,
        label: AuthorityLabel,
        kind: KeyType,
    ) -> Result<Option<PrivateKey>, LocalCaError> {
        let ca = &self.settings.name;
        if let Some(left) = self.vault.load_authority_key(ca, label).await? {
            let key = PrivateKey::from_pem(left.reveal().as_bytes()).ok();
            if key.is_none() {
                self.vault.set_authority_aside(ca, label).await?;
            }
            return Ok(key);
        }
        let unmade = |error| LocalCaError::Key(ca.clone(), error);
        let key = PrivateKey::generate(kind).map_err(unmade)?;
        self.vault.save_authority_key(ca, label, &key).await?;
        crash::point("local_ca.key");
        Ok(Some(key))
    }

    /// As long as the successor of `root` waits for its turn, people can still get ready for it.
    fn tell_of_successor(&self, hierarchy: &Hierarchy, root: &Authority) {
        if let Some(successor) = hierarchy.successor(root.label) {
            tracing::warn!(
                ca = %self.settings.name,
                root = %successor.label,
                "this root is going to sign: put it into every trust store beside the old one",
            );
        }
    }

    /// Runs `work`, which signs, where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, LocalCaError> {
        let signed = match tokio::task::spawn_blocking(work).await {
            Ok(signed) => signed,
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_ending) => Err(SignError::Ending),
            },
        };
        signed.map_err(|error| LocalCaError::Sign(self.settings.name.clone(), error))
    }
}
