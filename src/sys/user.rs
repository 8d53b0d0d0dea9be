//! The system's users and groups, by name; and giving up being root.
//!
//! Not here: what a file's owner should be.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};

use crate::model::{Explain, Retry};

/// A user or group can't be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody is called that.
    #[error("there is no user {0:?} on this machine")]
    UnknownUser(String),
    /// No group is called that.
    #[error("there is no group {0:?} on this machine")]
    UnknownGroup(String),
    /// The system could not be asked.
    #[error("cannot look up {name:?} in the system's users and groups")]
    Lookup {
        /// Whom we asked for.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// We are root, and could not become somebody else.
    #[error("cannot become the user {id}")]
    Become {
        /// The user's number.
        id: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Explain for UserError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownUser(_) => "system.unknown_user",
            Self::UnknownGroup(_) => "system.unknown_group",
            Self::Lookup { .. } => "system.user_lookup_failed",
            Self::Become { .. } => "system.user_not_changed",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::UnknownUser(_) | Self::UnknownGroup(_) => Retry::AfterChange,
            Self::Lookup { .. } | Self::Become { .. } => Retry::BackOff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownUser(name) => {
                Some(format!("correct the name, or make the user: useradd --system {name}"))
            }
            Self::UnknownGroup(name) => {
                Some(format!("correct the name, or make the group: groupadd --system {name}"))
            }
            Self::Become { .. } => Some(
                "root may be without its rights here (a container without CAP_SETUID): run as that \
                 user"
                    .to_owned(),
            ),
            Self::Lookup { .. } => None,
        }
    }
}

/// The number of the user `name`; a name of digits alone is a number itself if nobody is called so.
///
/// May block, where users come from the network.
///
/// # Errors
///
/// [`UserError`] if there is none, or the system can't be asked.
pub fn user_id(name: &str) -> Result<u32, UserError> {
    let found = User::from_name(name).map_err(|errno| lookup(name, errno))?;
    found
        .map(|it| it.uid.as_raw())
        .or_else(|| number(name))
        .ok_or_else(|| UserError::UnknownUser(name.to_owned()))
}

/// The number of the group `name`; a name of digits alone is a number itself if no group is called
/// so.
///
/// May block, where groups come from the network.
///
/// # Errors
///
/// [`UserError`] if there is none, or the system can't be asked.
pub fn group_id(name: &str) -> Result<u32, UserError> {
    let found = Group::from_name(name).map_err(|errno| lookup(name, errno))?;
    found
        .map(|it| it.gid.as_raw())
        .or_else(|| number(name))
        .ok_or_else(|| UserError::UnknownGroup(name.to_owned()))
}

/// The number of the first group of the user `name`; none if only the number `name` is known.
///
/// May block, where users come from the network.
///
/// # Errors
///
/// [`UserError`] if the system can't be asked.
pub fn first_group_of(name: &str) -> Result<Option<u32>, UserError> {
    let found = User::from_name(name).map_err(|errno| lookup(name, errno))?;
    Ok(found.map(|it| it.gid.as_raw()))
}

/// What the user with the number `id` is called; the number itself if nobody has it.
///
/// May block, where users come from the network.
#[must_use]
pub fn user_name(id: u32) -> String {
    let found = User::from_uid(Uid::from_raw(id)).ok().flatten();
    found.map_or_else(|| id.to_string(), |it| it.name)
}

/// What the group with the number `id` is called; the number itself if no group has it.
///
/// May block, where groups come from the network.
#[must_use]
pub fn group_name(id: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(id)).ok().flatten();
    found.map_or_else(|| id.to_string(), |it| it.name)
}

/// The number of the user as whom this process acts.
#[must_use]
pub fn own_user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The number of the group as which this process acts.
#[must_use]
pub fn own_group_id() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Whom [`become_owner_of`] would make of this process: the user and group of `folder`, or of the
/// nearest folder above it that is there. `None` unless this process is root's and they are not.
#[must_use]
pub fn other_owner_of(folder: &Path) -> Option<(u32, u32)> {
    if own_user_id() != 0 {
        return None;
    }
    let metadata = folder.ancestors().find_map(|it| it.metadata().ok())?;
    (metadata.uid() != 0).then(|| (metadata.uid(), metadata.gid()))
}

/// If this process is root's and `folder` is another user's, becomes that user for good, with all
/// of the user's groups, in every thread. Says as whom it acts now if that has changed.
///
/// A folder that isn't there is its parent's owner's, who could make it. May block, where users
/// come from the network.
///
/// # Errors
///
/// [`UserError`] if the system refuses. The process may have changed its groups by then: end it.
pub fn become_owner_of(folder: &Path) -> Result<Option<u32>, UserError> {
    let Some((owner, group)) = other_owner_of(folder) else { return Ok(None) };
    let failed = |errno: nix::Error| UserError::Become { id: owner, source: errno.into() };

    let user = User::from_uid(Uid::from_raw(owner)).map_err(failed)?;
    let group = user.as_ref().map_or_else(|| Gid::from_raw(group), |it| it.gid);
    match user.and_then(|it| CString::new(it.name).ok()) {
        Some(name) => initgroups(&name, group).map_err(failed)?,
        None => setgroups(&[group]).map_err(failed)?,
    }
    setgid(group).map_err(failed)?;
    // Last: nothing of the above is allowed afterwards. It sets the saved number too, so there is
    // no way back.
    setuid(Uid::from_raw(owner)).map_err(failed)?;
    Ok(Some(owner))
}

/// Whether the user with the number `user` is a member of the group with the number `group`, by
/// the system's lists. An error counts as no.
///
/// May block, where users come from the network.
#[must_use]
pub fn is_member(user: u32, group: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(user)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    let groups = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
    groups.iter().any(|it| it.as_raw() == group)
}

fn lookup(name: &str, errno: nix::Error) -> UserError {
    UserError::Lookup { name: name.to_owned(), source: errno.into() }
}

/// `name` as a number, as chown(1) takes it; never the number that means "unchanged".
fn number(name: &str) -> Option<u32> {
    let digits = !name.is_empty() && name.bytes().all(|it| it.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten().filter(|it| *it != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_number_zero_as_user_and_group() {
        assert_eq!(user_id("root").unwrap(), 0);
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(first_group_of("root").unwrap(), Some(0));
        assert_eq!((user_name(0), group_name(0)), ("root".into(), "root".into()));
        assert_eq!(user_name(4_294_967_000), "4294967000");
    }

    #[test]
    fn digits_are_a_number_and_the_number_for_unchanged_is_refused() {
        assert_eq!(group_id("54321").unwrap(), 54321);
        assert!(group_id("4294967295").is_err());
        assert!(user_id("").is_err());
    }

    #[test]
    fn what_is_not_there_yet_is_its_parents_owners_and_roots_own_changes_nothing() {
        use std::os::unix::fs::chown;

        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("state/dry-run");
        assert_eq!(other_owner_of(&missing), None);
        assert_eq!(become_owner_of(folder.path()).unwrap(), None);
        // Only root can give a folder away, and only root has somebody to become.
        if own_user_id() == 0 {
            chown(folder.path(), Some(54321), Some(54322)).unwrap();
            assert_eq!(other_owner_of(&missing), Some((54321, 54322)));
        }
    }

    #[test]
    fn an_unknown_group_is_named_with_what_to_do() {
        let error = group_id("no-such-group").unwrap_err();
        assert_eq!(error.to_string(), "there is no group \"no-such-group\" on this machine");
        assert!(error.hint().unwrap().contains("groupadd --system no-such-group"));
    }
}
