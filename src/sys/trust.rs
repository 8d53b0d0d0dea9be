//! Whether nobody but trusted users can change what a path leads to: for processes that do as
//! root what a file says.
//!
//! A path is walked name by name, through links as the system would. Each folder, link and file on
//! the way has to be a trusted user's. Nobody else may write to it, with one exception: in a folder
//! with the sticky bit, such as `/tmp`, others can make new names and neither replace nor remove
//! those that are not theirs.
//!
//! Where the question is not who can be trusted but who can't, only that one user is looked for
//! ([`check_not_of`]): folders of servers belong to many.
//!
//! Not here: what is done with the file.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::atomic::{self, Access, WriteError};
use super::user;

/// No path leads through more links (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A path can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum DistrustError {
    /// Something on it can't be looked at.
    #[error("cannot look at {}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something on it belongs to somebody else, who can change it.
    #[error("{} belongs to the user {owner}, who could change it", path.display())]
    Owner {
        /// What.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// Something on it can be written by others.
    #[error("{} can be written by its group or by others (mode {mode:04o})", path.display())]
    Writable {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something on it belongs to the one who must not have it.
    #[error("{} belongs to the user {user}, who could change it", path.display())]
    OwnedBy {
        /// What.
        path: PathBuf,
        /// The user's number.
        user: u32,
    },
    /// Something on it can be written by the one who must not.
    #[error("{} can be written by the user {user} (mode {mode:04o})", path.display())]
    WritableBy {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The user's number.
        user: u32,
    },
    /// It leads through too many links, or is not absolute.
    #[error("{} leads nowhere", path.display())]
    Nowhere {
        /// The whole path.
        path: PathBuf,
    },
}

impl DistrustError {
    /// What a human can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Owner { path, .. } => Some(format!("chown root:root {}", path.display())),
            Self::Writable { path, .. } | Self::WritableBy { path, .. } => {
                Some(format!("chmod go-w {}", path.display()))
            }
            // It may well be right that it is his.
            Self::OwnedBy { .. } | Self::Unreadable { .. } | Self::Nowhere { .. } => None,
        }
    }
}

/// That nobody but root and the present user can change what the absolute `path` leads to; returns
/// where that is, through no link. Blocks.
///
/// # Errors
///
/// [`DistrustError`] names the first thing on the way that others can change, or that is not there.
pub fn check(path: &Path) -> Result<PathBuf, DistrustError> {
    let own = rustix::process::geteuid().as_raw();
    walk(path, |it, metadata| judge(it, metadata, &[0, own]))
}

/// A user who is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The user's number.
    pub user: u32,
    /// The numbers of groups that his processes may have beyond what the system's lists say: a
    /// service manager can add some.
    pub groups: BTreeSet<u32>,
}

impl Stranger {
    /// What keeps what has `metadata` at `path` from being out of his reach. In a folder with the
    /// sticky bit he can replace nothing but what is his.
    fn judge(&self, path: &Path, metadata: &Metadata) -> Result<(), DistrustError> {
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner == self.user {
            return Err(DistrustError::OwnedBy { path: path.to_owned(), user: owner });
        }
        let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
        if is_sticky || metadata.is_symlink() {
            return Ok(());
        }
        let group = metadata.gid();
        let in_group = || self.groups.contains(&group) || user::is_member(self.user, group);
        if mode & 0o002 != 0 || (mode & 0o020 != 0 && in_group()) {
            return Err(DistrustError::WritableBy { path: path.to_owned(), mode, user: self.user });
        }
        Ok(())
    }
}

/// That `stranger` can change neither what the absolute `path` leads to nor what is on the way;
/// returns where that is, through no link. Blocks.
///
/// # Errors
///
/// [`DistrustError`] names the first thing on the way that he can change, or that is not there.
pub fn check_not_of(path: &Path, stranger: &Stranger) -> Result<PathBuf, DistrustError> {
    walk(path, |it, metadata| stranger.judge(it, metadata))
}

/// A folder was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Somebody else could choose where it would be made.
    #[error("nothing is made there as root")]
    Distrusted(#[from] DistrustError),
    /// The system refused.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Makes the absolute folder `path` with `access`, or gives it to the one that is there, if nobody
/// but root and the present user can change where that is. Blocks.
///
/// # Errors
///
/// [`MakeError`]; nothing was changed if others can.
pub fn directory(path: &Path, access: Access) -> Result<(), MakeError> {
    let nearest = path.ancestors().find(|it| it.symlink_metadata().is_ok());
    check(nearest.unwrap_or(path))?;
    Ok(atomic::directory(path, access)?)
}

fn walk(
    path: &Path,
    judge: impl Fn(&Path, &Metadata) -> Result<(), DistrustError>,
) -> Result<PathBuf, DistrustError> {
    let nowhere = || DistrustError::Nowhere { path: path.to_owned() };
    let mut real = PathBuf::from("/");
    judge(&real, &look(&real)?)?;
    let mut pending = names(path);
    if !path.is_absolute() {
        return Err(nowhere());
    }
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            // What has been walked has no links in it.
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let metadata = look(&next)?;
        if !metadata.is_symlink() {
            judge(&next, &metadata)?;
            real = next;
            continue;
        }
        judge(&next, &metadata)?;
        links += 1;
        if links > MAX_LINKS {
            return Err(nowhere());
        }
        let unreadable = |source| DistrustError::Unreadable { path: next.clone(), source };
        let target = fs::read_link(&next).map_err(unreadable)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        let mut ahead = names(&target);
        ahead.append(&mut pending);
        pending = ahead;
    }
    Ok(real)
}

fn judge(path: &Path, metadata: &Metadata, trusted: &[u32]) -> Result<(), DistrustError> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !trusted.contains(&owner) {
        return Err(DistrustError::Owner { path: path.to_owned(), owner });
    }
    let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
    // The mode of a link means nothing.
    if mode & 0o022 != 0 && !is_sticky && !metadata.is_symlink() {
        return Err(DistrustError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn look(path: &Path) -> Result<Metadata, DistrustError> {
    path.symlink_metadata()
        .map_err(|source| DistrustError::Unreadable { path: path.to_owned(), source })
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |it: Component<'_>| match it {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::sys::atomic::{self, Access};

    fn world() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        atomic::directory(&inner, Access::mode(0o755)).unwrap();
        let file = inner.join("file");
        atomic::write(&file, b"x", Access::mode(0o644)).unwrap();
        (folder, file)
    }

    fn stranger(user: u32, groups: &[u32]) -> Stranger {
        Stranger { user, groups: groups.iter().copied().collect() }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_is_named_at_each_level_and_a_sticky_folder_is_none() {
        let (folder, file) = world();
        assert_eq!(check(&file).unwrap(), file.canonicalize().unwrap());
        for (path, wrong, right) in
            [(file.clone(), 0o664, 0o644), (folder.path().join("inner"), 0o757, 0o755)]
        {
            set_mode(&path, wrong);
            let error = check(&file).unwrap_err();
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
            assert_eq!(error.hint().unwrap(), format!("chmod go-w {}", path.display()));
            set_mode(&path, right);
        }
        set_mode(&folder.path().join("inner"), 0o1777);
        assert!(check(&file).is_ok());
    }

    #[test]
    fn links_are_followed_and_what_they_lead_through_is_judged() {
        let (folder, file) = world();
        let link = folder.path().join("link");
        symlink("inner/../inner/file", &link).unwrap();
        assert_eq!(check(&link).unwrap(), file.canonicalize().unwrap());
        set_mode(&folder.path().join("inner"), 0o777);
        assert!(check(&link).is_err());
        let ring = folder.path().join("ring");
        symlink("ring", &ring).unwrap();
        assert!(matches!(check(&ring), Err(DistrustError::Nowhere { .. })));
        assert!(matches!(check(Path::new("etc")), Err(DistrustError::Nowhere { .. })));
        assert!(matches!(
            check(&folder.path().join("missing")),
            Err(DistrustError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_strangers_folder_on_the_way_is_named() {
        let (folder, file) = world();
        let own = user::own_user_id();
        let other = stranger(own.wrapping_add(1), &[]);
        assert!(check_not_of(&file, &other).is_ok());
        let error = check_not_of(&file, &stranger(own, &[])).unwrap_err();
        assert!(matches!(error, DistrustError::OwnedBy { user, .. } if user == own), "{error}");
        assert!(check_not_of(&folder.path().join("missing"), &other).is_err());
    }

    #[test]
    fn what_a_stranger_can_write_is_as_good_as_his() {
        let (folder, file) = world();
        let inner = folder.path().join("inner");
        let other = user::own_user_id().wrapping_add(1);
        let (without, with) = (stranger(other, &[]), stranger(other, &[user::own_group_id()]));
        for path in [&inner, &file] {
            let usual = path.metadata().unwrap().mode();
            set_mode(path, usual | 0o002);
            let error = check_not_of(&file, &without).unwrap_err();
            assert_eq!(error.hint().unwrap(), format!("chmod go-w {}", path.display()));
            set_mode(path, usual | 0o020);
            assert!(check_not_of(&file, &without).is_ok());
            assert!(check_not_of(&file, &with).is_err(), "{}", path.display());
            set_mode(path, usual);
        }
        set_mode(&inner, 0o1777);
        assert!(check_not_of(&file, &with).is_ok());
    }

    #[test]
    fn a_folder_is_made_and_changed_only_where_nobody_else_chooses_its_place() {
        let (folder, _file) = world();
        let inner = folder.path().join("inner");
        directory(&inner.join("a/b"), Access::mode(0o700)).unwrap();
        set_mode(&inner, 0o777);
        for (path, mode) in [(inner.join("c"), None), (inner.join("a/b"), Some(0o700))] {
            let made = directory(&path, Access::mode(0o755));
            assert!(matches!(made, Err(MakeError::Distrusted(_))), "{made:?}");
            assert_eq!(path.metadata().ok().map(|it| it.mode() & 0o7777), mode);
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_named_with_its_owner() {
        let (_folder, file) = world();
        let metadata = look(&file).unwrap();
        let error = judge(&file, &metadata, &[metadata.uid().wrapping_add(1)]).unwrap_err();
        assert!(matches!(error, DistrustError::Owner { owner, .. } if owner == metadata.uid()));
        assert!(error.hint().unwrap().starts_with("chown root:root "));
    }
}
