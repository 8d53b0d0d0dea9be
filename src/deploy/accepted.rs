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
//! 4. Where all that is to change is neither accepted nor was put there by us, and nothing else of
//!    ours that is not accepted stands beside it, somebody has put a certificate of his own there,
//!    which his server has: that is accepted, whatever was before.
//! 5. What is put back is a whole set: with one path missing, nothing is.
//!
//! Not here: how files are kept and replaced ([`super::placement`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::placement::Change;
use super::standing::Standing;
use crate::model::Fingerprint;

/// So many of the files that were put at one path since the accepted one are known again.
const MAX_PLACED: usize = 16;

/// What a server was last told to load, and what was put there since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    files: BTreeMap<PathBuf, Fingerprint>,
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

    /// Whether `file` was put at its path since then.
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
        let replaced: Vec<&Change> =
            changes.iter().filter_map(|it| at(standing, &it.path)).collect();
        let is_repair = changes.iter().all(|it| self.is(it));
        let is_theirs = replaced.iter().all(|it| !self.is(it))
            && standing.iter().all(|it| self.is(it) || !self.was_placed(it));
        if is_theirs && !is_repair {
            self.set(standing);
        }
        let mut kept = earlier;
        kept.retain(|it| self.is(it));
        for file in replaced {
            // A file whose owner somebody changed is known again, and no better than what is kept.
            let is_put_right = at(changes, &file.path).is_some_and(|it| self.is(it));
            if self.is(file) && !is_put_right {
                kept.retain(|it| it.path != file.path);
                kept.push(file.clone());
            }
        }
        changes.iter().for_each(|it| self.note_placed(it));
        kept
    }

    fn note_placed(&mut self, change: &Change) {
        let placed = self.placed.entry(change.path.clone()).or_default();
        let digest = change.wanted.digest();
        placed.retain(|it| *it != digest);
        placed.push(digest);
        let over = placed.len().saturating_sub(MAX_PLACED);
        placed.drain(..over);
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

impl Standing {
    /// By which it is known again; whose it is does not count.
    fn digest(&self) -> Fingerprint {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        match self {
            Self::Nothing => bytes.extend(b"nothing"),
            Self::Link(target) => {
                bytes.extend(b"link ");
                bytes.extend(target.as_os_str().as_encoded_bytes());
            }
            Self::File { content, access } => {
                bytes.extend(format!("file {:o} ", access.mode).bytes());
                bytes.extend(content.iter());
            }
        }
        Fingerprint::of(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn accepted(standing: &[Change]) -> Accepted {
        let mut accepted = Accepted::default();
        assert!(accepted.accept(standing));
        accepted
    }

    #[test]
    fn what_is_accepted_is_kept_once_and_for_all_changes() {
        let mut accepted = accepted(&pair("a"));
        let kept = accepted.choose(&pair("a"), &pair("b"), Vec::new());
        assert_eq!(kept, pair("a"));
        let kept = accepted.choose(&pair("b"), &pair("c"), kept);
        assert_eq!(kept, pair("a"));
        // One file of those that were refused is put right.
        let standing = [file("pem", "junk"), file("key", "c")];
        let kept = accepted.choose(&standing, &[file("pem", "c")], kept);
        assert_eq!(kept, pair("a"));
        // One of them was never put in place: the process died.
        let kept = accepted.choose(&pair("b"), &pair("d"), kept);
        assert_eq!(kept, pair("a"));
        assert_eq!(accepted.to_put_back(&pair("d"), kept), Some(pair("a")));
    }

    #[test]
    fn what_was_kept_of_files_before_the_accepted_ones_is_forgotten() {
        let mut accepted = accepted(&pair("b"));
        let kept = accepted.choose(&pair("b"), &[file("pem", "c")], pair("a"));
        assert_eq!(kept, [file("pem", "b")], "its key stays where it is");
        let standing = [file("pem", "c"), file("key", "b")];
        assert_eq!(accepted.to_put_back(&standing, kept), Some(vec![file("pem", "b")]));
        assert_eq!(accepted.to_put_back(&standing, pair("a")), None);
    }

    #[test]
    fn a_repair_keeps_nothing_of_what_somebody_put_there() {
        let mut accepted = accepted(&pair("a"));
        let standing = [file("pem", "junk"), file("key", "a")];
        let kept = accepted.choose(&standing, &[file("pem", "a")], Vec::new());
        assert_eq!(kept, []);
        assert_eq!(accepted.choose(&pair("junk"), &pair("a"), Vec::new()), []);
        let kept = accepted.choose(&pair("a"), &pair("b"), kept);
        assert_eq!(kept, pair("a"));
    }

    #[test]
    fn a_file_of_the_wrong_owner_or_with_wide_rights_is_never_kept() {
        let with = |access| {
            let content = b"a".to_vec().into();
            Change { path: "key".into(), wanted: Standing::File { content, access } }
        };
        let wide = with(Access::mode(0o644));
        let of_somebody = with(Access { owner: Some(1000), ..Access::mode(0o600) });
        for drifted in [wide, of_somebody] {
            let mut accepted = accepted(&pair("a"));
            let standing = [file("pem", "a"), drifted];
            assert_eq!(accepted.choose(&standing, &[file("key", "a")], Vec::new()), []);
        }
    }

    #[test]
    fn what_nobody_judged_is_what_there_is_to_go_back_to() {
        let mut accepted = Accepted::default();
        let before = [file("pem", ""), file("key", "of somebody")];
        let kept = accepted.choose(&before, &pair("a"), Vec::new());
        assert_eq!(kept, before);
        let kept = accepted.choose(&pair("a"), &pair("b"), kept);
        assert_eq!(kept, before);
        // A file that the configuration names since then.
        let standing = [&pair("b")[..], &[file("more", "")]].concat();
        let kept = accepted.choose(&standing, &[file("more", "b")], kept);
        assert_eq!(kept, [&before[..], &[file("more", "")]].concat());
    }

    #[test]
    fn a_certificate_that_somebody_put_in_place_of_ours_is_kept_also_after_a_refusal() {
        for earlier in [Vec::new(), pair("a")] {
            let mut accepted = accepted(&pair("a"));
            accepted.choose(&pair("a"), &pair("b"), Vec::new());
            let kept = accepted.choose(&pair("theirs"), &pair("b"), earlier);
            assert_eq!(kept, pair("theirs"));
            assert_eq!(accepted.to_put_back(&pair("b"), kept), Some(pair("theirs")));
        }
    }

    #[test]
    fn half_of_what_is_accepted_is_never_put_back() {
        let three =
            |cert, chain, key| vec![file("cert", cert), file("chain", chain), file("key", key)];
        let mut accepted = accepted(&three("a", "x", "a"));
        let kept = accepted.choose(
            &three("a", "x", "a"),
            &[file("cert", "b"), file("key", "b")],
            Vec::new(),
        );
        assert_eq!(kept, [file("cert", "a"), file("key", "a")]);
        // The chain of the refused one is damaged; the next is of another issuer, for the same key.
        let changes = [file("cert", "c"), file("chain", "y")];
        let kept = accepted.choose(&three("b", "junk", "b"), &changes, kept);
        assert_eq!(kept, [file("cert", "a"), file("key", "a")]);
        assert_eq!(accepted.to_put_back(&three("c", "y", "b"), kept), None);
    }

    #[test]
    fn what_came_between_an_install_and_its_reload_is_not_accepted() {
        let mut accepted = accepted(&pair("a"));
        accepted.choose(&pair("a"), &pair("b"), Vec::new());
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
            kept = accepted.choose(&now, &next, kept);
        }
        assert_eq!(kept, pair("a"));
        assert!(accepted.placed.values().all(|it| it.len() == MAX_PLACED));
    }
}
