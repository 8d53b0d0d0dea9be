//! Which files can be put back where a server's test refuses new ones: those that it was last told
//! to load.
//!
//! # Rules
//!
//! 1. What is accepted is known by a digest for each path. Of a path that is not known, what stands
//!    there counts as accepted: nobody has judged it, and there is nothing else to go back to.
//! 2. Of a path that is to change, what stands there is kept if it is accepted; else what is kept
//!    already, if that is. So refused files, one set after the other, displace nothing.
//! 3. Nothing need be kept where the accepted file is what is to stand there: somebody changed it,
//!    and it is put right.
//! 4. Where neither is left, somebody else's files are in the place of ours: they are what there is
//!    to go back to, all of them, and accepted from then on.
//! 5. What is put back is a whole set: with one path missing, nothing is.
//!
//! Not here: how files are kept and replaced ([`super::placement`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::placement::Change;
use super::standing::Standing;
use crate::model::Fingerprint;

/// What a server was last told to load, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted(BTreeMap<PathBuf, Fingerprint>);

impl Accepted {
    /// That all of `standing` are.
    pub(super) fn of(standing: &[Change]) -> Self {
        let mut accepted = Self::default();
        standing.iter().for_each(|it| accepted.add(it));
        accepted
    }

    fn add(&mut self, standing: &Change) {
        self.0.insert(standing.path.clone(), standing.wanted.digest());
    }

    /// Whether `file` is what is accepted at its path.
    fn is(&self, file: &Change) -> bool {
        self.0.get(&file.path) == Some(&file.wanted.digest())
    }

    /// What is to be kept when all `changes` are made to what is `standing` at their paths, while
    /// `earlier` is kept.
    pub(super) fn choose(
        &mut self,
        standing: &[Change],
        changes: &[Change],
        earlier: Vec<Change>,
    ) -> Vec<Change> {
        for file in standing.iter().filter(|it| !self.0.contains_key(&it.path)).collect::<Vec<_>>()
        {
            self.add(file);
        }
        let mut kept = earlier;
        kept.retain(|it| self.is(it));
        let is_kept = |kept: &[Change], file: &Change| kept.iter().any(|it| it.path == file.path);
        let is_lost = |(file, change): (&Change, &Change)| {
            !self.is(file) && !is_kept(&kept, file) && !self.is(change)
        };
        if standing.iter().zip(changes).any(is_lost) {
            kept.retain(|it| !is_kept(standing, it));
            standing.iter().for_each(|it| self.add(it));
        }
        for file in standing {
            if self.is(file) && !is_kept(&kept, file) {
                kept.push(file.clone());
            }
        }
        kept
    }

    /// The changes that put back what is accepted at each of `standing`'s paths, from what is
    /// `kept`; `None` if something is missing.
    pub(super) fn to_put_back(
        &self,
        standing: &[Change],
        mut kept: Vec<Change>,
    ) -> Option<Vec<Change>> {
        kept.retain(|it| self.is(it));
        let is_there = |file: &Change| {
            !self.0.contains_key(&file.path)
                || self.is(file)
                || kept.iter().any(|it| it.path == file.path)
        };
        (standing.iter().all(is_there) && !kept.is_empty()).then_some(kept)
    }
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

    #[test]
    fn what_is_accepted_is_kept_once_and_for_all_changes() {
        let mut accepted = Accepted::of(&pair("a"));
        let kept = accepted.choose(&pair("a"), &pair("b"), Vec::new());
        assert_eq!(kept, pair("a"));
        let kept = accepted.choose(&pair("b"), &pair("c"), kept);
        assert_eq!(kept, pair("a"));
        // One file of those that were refused is put right.
        let kept = accepted.choose(&[file("pem", "junk")], &[file("pem", "c")], kept);
        assert_eq!(kept, pair("a"));
        assert_eq!(accepted, Accepted::of(&pair("a")));
        assert_eq!(accepted.to_put_back(&pair("c"), kept), Some(pair("a")));
    }

    #[test]
    fn what_was_kept_of_files_before_the_accepted_ones_is_forgotten() {
        let mut accepted = Accepted::of(&pair("b"));
        let kept = accepted.choose(&[file("pem", "b")], &[file("pem", "c")], pair("a"));
        assert_eq!(kept, [file("pem", "b")], "its key stays where it is");
        let standing = [file("pem", "c"), file("key", "b")];
        assert_eq!(accepted.to_put_back(&standing, kept), Some(vec![file("pem", "b")]));
        assert_eq!(accepted.to_put_back(&standing, pair("a")), None);
    }

    #[test]
    fn a_repair_keeps_nothing_of_what_somebody_put_there() {
        let mut accepted = Accepted::of(&pair("a"));
        let kept = accepted.choose(&[file("pem", "junk")], &[file("pem", "a")], Vec::new());
        assert_eq!(kept, []);
        let kept = accepted.choose(&pair("a"), &pair("b"), kept);
        assert_eq!(kept, pair("a"));
        // The same for rights.
        let mut wide = file("key", "a");
        let access = Access::mode(0o644);
        wide.wanted = Standing::File { content: b"a".to_vec().into(), access };
        assert_eq!(accepted.choose(&[wide], &[file("key", "a")], Vec::new()), []);
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
        let kept = accepted.choose(&[file("more", "")], &[file("more", "b")], kept);
        assert_eq!(kept, [&before[..], &[file("more", "")]].concat());
    }

    #[test]
    fn somebodys_files_in_the_place_of_ours_are_kept_all_of_them() {
        let mut accepted = Accepted::of(&pair("a"));
        let kept = accepted.choose(&pair("theirs"), &pair("b"), Vec::new());
        assert_eq!(kept, pair("theirs"));
        assert_eq!(accepted.to_put_back(&pair("b"), kept), Some(pair("theirs")));

        // Half of a pair is none.
        let mut accepted = Accepted::of(&pair("a"));
        let half = [file("pem", "junk"), file("key", "a")];
        assert_eq!(accepted.choose(&half, &pair("b"), Vec::new()), half);
        let accepted = Accepted::of(&pair("a"));
        assert_eq!(accepted.to_put_back(&pair("b"), vec![file("key", "a")]), None);
    }
}
