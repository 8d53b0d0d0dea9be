//! Which files can be put back where a server's test refuses new ones: those that it was last told
//! to load.
//!
//! # Rules
//!
//! 1. What is accepted is known by a digest for each path. Of a path that is not known, what stands
//!    there counts as accepted: nobody has judged it, and there is nothing else to go back to.
//! 2. Of a path that is to change, what stands there is kept if it is accepted; else what is kept
//!    already, if that is. So refused files, one set after the other, displace nothing.
//! 3. Nothing is kept where the accepted file is what is to stand there: somebody changed it, and it
//!    is put right.
//! 4. Where what stands there is a chain and its key, and neither what is accepted nor with anything
//!    that we put there since, somebody has put a certificate of his own in place, which his server
//!    has: that is accepted, whatever was before. Damage is not.
//! 5. What is put back is a whole set: with one path missing, nothing is.
//!
//! Not here: how files are kept and replaced ([`super::placement`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::placement::Change;
use super::standing::Standing;
use crate::model::{Chain, Fingerprint, PrivateKey};

/// So many of the files that were put at one path since the accepted one are known again.
const MAX_PLACED: usize = 16;

/// What a server was last told to load, and what was put there since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    files: BTreeMap<PathBuf, Fingerprint>,
    /// Or was to be put there.
    placed: BTreeMap<PathBuf, Vec<Fingerprint>>,
}

impl Accepted {
    /// That all of `standing` are, if all were accepted, put there by us, or not known; whether
    /// they were. Others came between the install and this.
    pub(super) fn accept(&mut self, standing: &[Change]) -> bool {
        let is_known = |it: &Change| self.files.contains_key(&it.path);
        if standing.iter().any(|it| is_known(it) && !self.is(it) && !self.was_placed(it)) {
            return false;
        }
        self.set(standing);
        true
    }

    fn set(&mut self, standing: &[Change]) {
        self.files = standing.iter().map(|it| (it.path.clone(), it.wanted.digest())).collect();
        self.placed.clear();
    }

    /// Whether `file` is what is accepted at its path.
    fn is(&self, file: &Change) -> bool {
        self.files.get(&file.path) == Some(&file.wanted.digest())
    }

    /// Whether `file` was put at its path since then, or was to be.
    fn was_placed(&self, file: &Change) -> bool {
        self.placed.get(&file.path).is_some_and(|it| it.contains(&file.wanted.digest()))
    }

    /// What is to be kept when all `changes` are made, while `earlier` is kept and `standing` is
    /// what is at all paths, also those that stay as they are.
    pub(super) fn choose(
        &mut self,
        standing: &[Change],
        changes: &[Change],
        earlier: Vec<Change>,
    ) -> Vec<Change> {
        for file in standing {
            self.files.entry(file.path.clone()).or_insert_with(|| file.wanted.digest());
        }
        let is_ours = |it: &Change| self.is(it) || self.was_placed(it);
        let is_theirs = !standing.iter().all(is_ours)
            && standing.iter().all(|it| self.is(it) || !self.was_placed(it))
            && is_pair(standing);
        let is_repair = changes.iter().all(|it| self.is(it));
        if is_theirs && !is_repair {
            self.set(standing);
        }
        let mut kept = earlier;
        kept.retain(|it| self.is(it));
        for file in changes.iter().filter(|it| !self.is(it)) {
            let replaced = at(standing, &file.path).filter(|it| self.is(it));
            if let Some(replaced) = replaced.filter(|it| at(&kept, &it.path).is_none()) {
                kept.push(replaced.clone());
            }
        }
        kept
    }

    /// That all of `wanted` stand there or are about to, and that it was we who wanted them.
    pub(super) fn note_placed(&mut self, wanted: &[Change]) {
        let is_known = |it: &&Change| self.is(it) || self.was_placed(it);
        let new: Vec<_> = wanted.iter().filter(|it| !is_known(it)).collect();
        for file in new {
            let placed = self.placed.entry(file.path.clone()).or_default();
            placed.push(file.wanted.digest());
            let over = placed.len().saturating_sub(MAX_PLACED);
            placed.drain(..over);
        }
    }

    /// The changes that put back what is accepted at each of `standing`'s paths, from what is
    /// `kept`; `None` if something is missing, or nothing is kept.
    pub(super) fn to_put_back(
        &self,
        standing: &[Change],
        mut kept: Vec<Change>,
    ) -> Option<Vec<Change>> {
        kept.retain(|it| self.is(it));
        let is_there = |file: &Change| {
            let is_known = self.files.contains_key(&file.path);
            !is_known || self.is(file) || at(&kept, &file.path).is_some()
        };
        (standing.iter().all(is_there) && !kept.is_empty()).then_some(kept)
    }
}

/// Which of `files` is at `path`.
pub(super) fn at<'a>(files: &'a [Change], path: &Path) -> Option<&'a Change> {
    files.iter().find(|it| it.path == path)
}

/// Whether `files` are one certificate's, with its key if there is one among them.
fn is_pair(files: &[Change]) -> bool {
    let (mut keys, mut certified) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let Standing::File { content, .. } = &file.wanted else { return false };
        let key = PrivateKey::from_pem(content).ok().and_then(|it| it.public_key().ok());
        let chain = Chain::parse_pem(content).ok();
        if key.is_none() && chain.is_none() {
            return false;
        }
        keys.extend(key);
        certified.extend(chain.map(|it| it.leaf.public_key));
    }
    !certified.is_empty() && keys.len() <= 1 && keys.is_subset(&certified)
}

impl Standing {
    /// By which it is known again; rights do not count, which the configuration says.
    fn digest(&self) -> Fingerprint {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        match self {
            Self::Nothing => bytes.extend(b"nothing"),
            Self::Link(target) => {
                bytes.extend(b"link ");
                bytes.extend(target.as_os_str().as_encoded_bytes());
            }
            Self::File { content, .. } => {
                bytes.extend(b"file ");
                bytes.extend(content.iter());
            }
        }
        Fingerprint::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::test_server::Certified;
    use crate::sys::atomic::Access;

    fn file(path: &str, content: &str) -> Change {
        let access = Access::mode(0o600);
        let wanted = match content {
            "" => Standing::Nothing,
            _ => Standing::File { content: content.as_bytes().to_vec().into(), access },
        };
        Change { path: path.into(), wanted }
    }

    /// A chain and its key.
    fn pair(content: &str) -> Vec<Change> {
        vec![file("pem", content), file("key", content)]
    }

    /// [`Accepted::choose`] with what follows it: `files` are those that are to stand there.
    fn choose(
        accepted: &mut Accepted,
        standing: &[Change],
        changes: &[Change],
        earlier: Vec<Change>,
    ) -> Vec<Change> {
        let kept = accepted.choose(standing, changes, earlier);
        accepted.note_placed(changes);
        kept
    }

    fn accepted(standing: &[Change]) -> Accepted {
        let mut accepted = Accepted::default();
        assert!(accepted.accept(standing));
        accepted
    }

    #[test]
    fn what_is_accepted_is_kept_once_and_for_all_changes() {
        let mut accepted = accepted(&pair("a"));
        let kept = choose(&mut accepted, &pair("a"), &pair("b"), Vec::new());
        assert_eq!(kept, pair("a"));
        let kept = choose(&mut accepted, &pair("b"), &pair("c"), kept);
        assert_eq!(kept, pair("a"));
        // One file of those that were refused is put right.
        let standing = [file("pem", "junk"), file("key", "c")];
        let kept = choose(&mut accepted, &standing, &[file("pem", "c")], kept);
        assert_eq!(kept, pair("a"));
        // One of them was never put in place: the process died.
        let kept = choose(&mut accepted, &pair("b"), &pair("d"), kept);
        assert_eq!(kept, pair("a"));
        assert_eq!(accepted.to_put_back(&pair("d"), kept), Some(pair("a")));
    }

    #[test]
    fn what_was_kept_of_files_before_the_accepted_ones_is_forgotten() {
        let mut accepted = accepted(&pair("b"));
        let kept = choose(&mut accepted, &pair("b"), &[file("pem", "c")], pair("a"));
        assert_eq!(kept, [file("pem", "b")], "its key stays where it is");
        let standing = [file("pem", "c"), file("key", "b")];
        assert_eq!(accepted.to_put_back(&standing, kept), Some(vec![file("pem", "b")]));
        assert_eq!(accepted.to_put_back(&standing, pair("a")), None);
    }

    #[test]
    fn a_repair_keeps_nothing_of_what_somebody_put_there() {
        let mut accepted = accepted(&pair("a"));
        let standing = [file("pem", "junk"), file("key", "a")];
        let kept = choose(&mut accepted, &standing, &[file("pem", "a")], Vec::new());
        assert_eq!(kept, []);
        assert_eq!(choose(&mut accepted, &pair("junk"), &pair("a"), Vec::new()), []);
        let kept = choose(&mut accepted, &pair("a"), &pair("b"), kept);
        assert_eq!(kept, pair("a"));
    }

    #[test]
    fn a_file_whose_owner_or_rights_somebody_changed_is_not_kept_where_they_are_put_right() {
        let with = |access| {
            let content = b"a".to_vec().into();
            Change { path: "key".into(), wanted: Standing::File { content, access } }
        };
        let wide = with(Access::mode(0o644));
        let of_somebody = with(Access { owner: Some(1000), ..Access::mode(0o600) });
        for drifted in [wide, of_somebody] {
            let mut accepted = accepted(&pair("a"));
            let standing = [file("pem", "a"), drifted];
            let kept = choose(&mut accepted, &standing, &[file("key", "a")], Vec::new());
            assert_eq!(kept, []);
            // And is what it was where it is replaced.
            assert_eq!(choose(&mut accepted, &standing, &pair("b"), Vec::new()), standing);
        }
    }

    #[test]
    fn what_nobody_judged_is_what_there_is_to_go_back_to() {
        let mut accepted = Accepted::default();
        let before = [file("pem", ""), file("key", "of somebody")];
        let kept = choose(&mut accepted, &before, &pair("a"), Vec::new());
        assert_eq!(kept, before);
        let kept = choose(&mut accepted, &pair("a"), &pair("b"), kept);
        assert_eq!(kept, before);
        // A file that the configuration names since then.
        let standing = [&pair("b")[..], &[file("more", "")]].concat();
        let kept = choose(&mut accepted, &standing, &[file("more", "b")], kept);
        assert_eq!(kept, [&before[..], &[file("more", "")]].concat());
    }

    #[test]
    fn a_certificate_that_somebody_put_in_place_of_ours_is_kept_also_after_a_refusal() {
        let (theirs, other) = (Certified::new(&["a.example"]), Certified::new(&["a.example"]));
        let set = |chain: &str, key: &str| vec![file("pem", chain), file("key", key)];
        for earlier in [Vec::new(), pair("a")] {
            let mut accepted = accepted(&pair("a"));
            choose(&mut accepted, &pair("a"), &pair("b"), Vec::new());
            let standing = set(&theirs.certificate_pem, &theirs.key_pem);
            let kept = choose(&mut accepted, &standing, &pair("b"), earlier.clone());
            assert_eq!(kept, standing);
            assert_eq!(accepted.to_put_back(&pair("b"), kept), Some(standing));
        }
        // For the key that the accepted one has.
        let standing = set(&theirs.certificate_pem, &theirs.key_pem);
        let mut accepted = accepted(&set("of the same key", &theirs.key_pem));
        assert_eq!(choose(&mut accepted, &standing, &pair("b"), Vec::new()), standing);
        assert!(!is_pair(&set(&theirs.certificate_pem, &other.key_pem)));
        assert!(!is_pair(&[file("pem", &theirs.certificate_pem), file("key", "")]));
        assert!(is_pair(&[file("pem", &theirs.certificate_pem)]));
    }

    #[test]
    fn damage_displaces_nothing_whether_a_part_or_all_is_gone() {
        for damaged in [pair("junk"), pair(""), vec![file("pem", "a"), file("key", "")]] {
            let mut accepted = accepted(&pair("a"));
            let kept = choose(&mut accepted, &pair("a"), &pair("b"), Vec::new());
            // It was put back, and then damaged; or was damaged where it is refused.
            let kept = choose(&mut accepted, &damaged, &pair("b"), kept);
            assert_eq!(kept, pair("a"));
            assert_eq!(accepted.to_put_back(&pair("b"), kept), Some(pair("a")));
        }
    }

    #[test]
    fn half_of_what_is_accepted_is_never_put_back() {
        let three =
            |cert, chain, key| vec![file("cert", cert), file("chain", chain), file("key", key)];
        let mut accepted = accepted(&three("a", "x", "a"));
        let kept = choose(
            &mut accepted,
            &three("a", "x", "a"),
            &[file("cert", "b"), file("key", "b")],
            Vec::new(),
        );
        assert_eq!(kept, [file("cert", "a"), file("key", "a")]);
        // The chain of the refused one is damaged; the next is of another issuer, for the same key.
        let changes = [file("cert", "c"), file("chain", "y")];
        let kept = choose(&mut accepted, &three("b", "junk", "b"), &changes, kept);
        assert_eq!(kept, [file("cert", "a"), file("key", "a")]);
        assert_eq!(accepted.to_put_back(&three("c", "y", "b"), kept), None);
    }

    #[test]
    fn what_came_between_an_install_and_its_reload_is_not_accepted() {
        let mut accepted = accepted(&pair("a"));
        choose(&mut accepted, &pair("a"), &pair("b"), Vec::new());
        let before = accepted.clone();
        assert!(!accepted.accept(&[file("pem", "junk"), file("key", "b")]));
        assert_eq!(accepted, before);
        assert!(accepted.accept(&pair("b")));
    }

    #[test]
    fn of_refused_files_without_number_the_last_are_known() {
        let mut accepted = accepted(&pair("a"));
        let mut kept = Vec::new();
        for number in 0..100 {
            let [now, next] = [number, number + 1].map(|it| pair(&format!("b{it}")));
            let now = if number == 0 { pair("a") } else { now };
            kept = choose(&mut accepted, &now, &next, kept);
        }
        assert_eq!(kept, pair("a"));
        assert!(accepted.placed.values().all(|it| it.len() == MAX_PLACED));
    }
}
