//! Looks at the machine's users, groups and folders, and tells who can't read what.
//!
//! What the store's own folders and files have is not looked at but known: the daemon gives them
//! owner, group and mode, and puts them right. So a configuration can be checked before the first
//! certificate is there.
//!
//! Not here: the rules ([`super::rights`]).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, DeployerChoice, TargetKind};
use crate::deploy::{InstallSettings, ReloadSettings, TargetSettings};
use crate::model::{CertificateSpec, Explain};
use crate::sys::user::{self, UserError};

use super::Finding;
use super::rights::{Obstacle, Offer, Reader, Step, fix_for_install, fix_for_store, obstacle};
use super::units::Units;

/// The group that Debian has for those who read keys.
const USUAL_GROUP: &str = "ssl-cert";

/// The attribute that holds an access list.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Who can't do with keys what `config` wants of him on this machine.
pub(super) fn findings(config: &Config, units: &Units) -> Vec<Finding> {
    let owner = Owner::of_state(config);
    let mut findings = Vec::new();
    let groups: BTreeSet<&str> =
        config.certificates.iter().filter_map(|it| it.read_group.as_deref()).collect();
    findings.extend(groups.into_iter().filter_map(|it| owner.finding(it, units)));
    for spec in &config.certificates {
        for name in &spec.targets {
            let Some(target) = config.targets.get(name) else { continue };
            let server = config.kinds.get(name).and_then(|it| Server::of(*it, target));
            let view = View { config, owner: &owner, spec, target };
            findings.extend(view.installed(server.as_ref()));
            if let Some(server) = &server
                && !target.install.iter().any(|it| it.content.is_secret())
            {
                findings.extend(view.stored(server));
            }
        }
    }
    findings
}

/// The user whose files the state directory holds: the daemon's.
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn of_state(config: &Config) -> Self {
        if let Ok(metadata) = config.store.state_dir.metadata() {
            return Self { user: metadata.uid(), group: metadata.gid() };
        }
        let packaged = || Some((user::user_id("renewd").ok()?, user::first_group_of("renewd")));
        match packaged().filter(|_| user::own_user_id() == 0) {
            Some((user, Ok(Some(group)))) => Self { user, group },
            _ => Self { user: user::own_user_id(), group: user::own_group_id() },
        }
    }

    /// What is wrong where files are to be given to `group`.
    fn finding(&self, group: &str, units: &Units) -> Option<Finding> {
        let subject = format!("read_group {group}");
        let id = match user::group_id(group) {
            Ok(id) => id,
            Err(error) => return Some(unknown(subject, &error)),
        };
        let is_fine = self.user == 0
            || self.group == id
            || user::is_member(self.user, id)
            || units.daemon_has_group(group);
        (!is_fine).then(|| {
            let name = user::user_name(self.user);
            Finding {
                subject,
                message: format!(
                    "renewd runs as {name}, who is not a member of the group {group} and can't \
                     give it the keys"
                ),
                hint: Some(format!(
                    "put SupplementaryGroups={group} into the unit (`renewd check --systemd` \
                     prints the drop-in), or run `usermod -aG {group} {name}`; then start renewd \
                     again"
                )),
            }
        })
    }
}

fn unknown(subject: String, error: &UserError) -> Finding {
    Finding { subject, message: error.to_string(), hint: error.hint() }
}

/// A server that does not read its files as root, on this machine.
struct Server {
    user: String,
    id: u32,
    is_picky: bool,
    unit: String,
}

impl Server {
    /// The server of `target`, if it is one of a known kind, does not read its files as root, and
    /// has its user here. One in a container has its users there.
    fn of(kind: TargetKind, target: &TargetSettings) -> Option<Self> {
        let (user, is_picky) = match kind {
            TargetKind::Postgresql => ("postgres", true),
            TargetKind::Mosquitto => ("mosquitto", false),
            // Their masters read keys as root, before they give that up.
            TargetKind::Nginx
            | TargetKind::Apache
            | TargetKind::Haproxy
            | TargetKind::Postfix
            | TargetKind::Dovecot => return None,
            TargetKind::Command | TargetKind::Other => return None,
        };
        let id = user::user_id(user).ok()?;
        let unit = match &target.reload {
            Some(ReloadSettings::Systemd { unit, .. }) => unit.clone(),
            _ => format!("{}.service", if is_picky { "postgresql" } else { user }),
        };
        Some(Self { user: user.to_owned(), id, is_picky, unit })
    }

    /// As a reader of what lies at the end of `way`.
    fn reader(&self, way: &[Step]) -> Reader {
        let groups = way.iter().map(|it| it.group).filter(|it| user::is_member(self.id, *it));
        Reader {
            name: self.user.clone(),
            id: self.id,
            groups: groups.collect(),
            is_picky: self.is_picky,
        }
    }
}

/// One certificate at one target.
struct View<'a> {
    config: &'a Config,
    owner: &'a Owner,
    spec: &'a CertificateSpec,
    target: &'a TargetSettings,
}

impl View<'_> {
    fn subject(&self) -> String {
        format!("certificate {}, target {}", self.spec.name, self.target.name)
    }

    /// What keeps `server` from reading the key in the store.
    fn stored(&self, server: &Server) -> Option<Finding> {
        if self.spec.request().is_some() {
            return None;
        }
        let read_group = self.spec.read_group.as_deref();
        let group = match read_group.map(user::group_id) {
            Some(Ok(group)) => group,
            // That there is no such group has been told.
            Some(Err(_)) => return None,
            None => self.owner.group,
        };
        let way = self.way_in_store(group);
        let reader = server.reader(&way);
        let found = obstacle(&reader, &way)?;
        let usual = user::group_id(USUAL_GROUP).ok();
        let offer = match usual {
            Some(id) => {
                Offer { group: USUAL_GROUP.to_owned(), is_member: user::is_member(server.id, id) }
            }
            None => Offer { group: own_group(server), is_member: true },
        };
        Some(Finding {
            subject: self.subject(),
            message: words(&reader, &found, &way),
            hint: Some(fix_for_store(&reader, &found, read_group, &offer, &server.unit)),
        })
    }

    /// The way to the key in the store, with the rights that the daemon gives it.
    fn way_in_store(&self, group: u32) -> Vec<Step> {
        let state_dir = &self.config.store.state_dir;
        let certificate = self.config.store.certs_dir().join(self.spec.name.as_str());
        let step = |path: &Path, group, mode| Step {
            path: path.to_owned(),
            owner: self.owner.user,
            group,
            mode,
            has_list: false,
            is_ruled: true,
        };
        let mut way = state_dir.parent().map(way_to).unwrap_or_default();
        for folder in [state_dir, &self.config.store.certs_dir(), &certificate] {
            way.push(Step { is_ruled: false, ..step(folder, self.owner.group, 0o711) });
        }
        let current = certificate.join("current");
        way.push(step(&current, group, 0o750));
        let mode = if self.spec.read_group.is_some() { 0o640 } else { 0o600 };
        way.push(step(&current.join("privkey.pem"), group, mode));
        way
    }

    /// What is wrong with the files that are installed: for whoever installs them, and for
    /// `server`.
    fn installed(&self, server: Option<&Server>) -> Vec<Finding> {
        let finding = |file| self.installed_file(file, server);
        self.target.install.iter().filter_map(finding).collect()
    }

    fn installed_file(&self, file: &InstallSettings, server: Option<&Server>) -> Option<Finding> {
        let path = PathBuf::from(file.path.replace("{name}", self.spec.name.as_str()));
        let installer = self.installer();
        let step = match installed_step(file, path, installer) {
            Ok(step) => step,
            Err(error) => return Some(unknown(self.subject(), &error)),
        };
        if installer.0 != 0 && step.owner != installer.0 {
            return Some(Finding {
                subject: self.subject(),
                message: format!(
                    "renewd installs {} as {} and can't give it to {}",
                    step.path.display(),
                    user::user_name(installer.0),
                    user::user_name(step.owner)
                ),
                hint: Some(
                    "use the deployer, which is root (deployer = \"socket\"), or leave out `owner`"
                        .to_owned(),
                ),
            });
        }
        let server = server?;
        // That the folder is not there is told by itself.
        let folder = step.path.parent().filter(|it| it.is_dir())?;
        let mut way = way_to(folder);
        way.push(step);
        let reader =
            Reader { is_picky: server.is_picky && file.content.is_secret(), ..server.reader(&way) };
        let found = obstacle(&reader, &way)?;
        Some(Finding {
            subject: self.subject(),
            message: words(&reader, &found, &way),
            hint: Some(fix_for_install(&reader, &found, &own_group(server))),
        })
    }

    /// User and group of whoever installs files.
    fn installer(&self) -> (u32, u32) {
        let is_deployer = match self.config.deployer {
            DeployerChoice::Socket => true,
            DeployerChoice::Direct => false,
            DeployerChoice::Auto => self.config.store.run_dir.join("deployer.sock").exists(),
        };
        if is_deployer { (0, 0) } else { (self.owner.user, self.owner.group) }
    }
}

/// The file that `file` stands for at `path`, as `installer` will make it.
fn installed_step(
    file: &InstallSettings,
    path: PathBuf,
    installer: (u32, u32),
) -> Result<Step, UserError> {
    let owner = file.owner.as_deref().map(user::user_id).transpose()?;
    let group = match (&file.group, &file.owner) {
        (Some(group), _) => Some(user::group_id(group)?),
        (None, Some(owner)) => user::first_group_of(owner)?,
        (None, None) => None,
    };
    let usual_mode = if file.content.is_secret() { 0o600 } else { 0o644 };
    Ok(Step {
        path,
        owner: owner.unwrap_or(installer.0),
        group: group.unwrap_or(installer.1),
        mode: file.mode.unwrap_or(usual_mode),
        has_list: false,
        is_ruled: false,
    })
}

/// Each folder on the way to `folder` and itself, links followed, as far as they are there: those
/// that are made later let everybody pass.
fn way_to(folder: &Path) -> Vec<Step> {
    let real = folder.ancestors().find_map(|it| it.canonicalize().ok()).unwrap_or_default();
    let mut way: Vec<Step> = real.ancestors().filter_map(look).collect();
    way.reverse();
    way
}

fn look(path: &Path) -> Option<Step> {
    let metadata = path.metadata().ok()?;
    let mut list = [0_u8; 1];
    // RANGE: there is one, and it is longer.
    let has_list = !matches!(
        rustix::fs::getxattr(path, ACCESS_LIST, &mut list),
        Err(error) if error != rustix::io::Errno::RANGE
    );
    Some(Step {
        path: path.to_owned(),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        has_list,
        is_ruled: false,
    })
}

/// The group that a server's user is in from the start.
fn own_group(server: &Server) -> String {
    let first = user::first_group_of(&server.user).ok().flatten();
    first.map_or_else(|| server.user.clone(), user::group_name)
}

/// Who, which path, and why not.
fn words(reader: &Reader, found: &Obstacle<'_>, way: &[Step]) -> String {
    let file = way.last().map(|it| it.path.display().to_string()).unwrap_or_default();
    let rights = |it: &Step| {
        let (owner, group) = (user::user_name(it.owner), user::group_name(it.group));
        format!("{owner}:{group} {:04o}", it.mode)
    };
    let who = &reader.name;
    match found {
        Obstacle::Folder(step) => format!(
            "{who} can't read {file}: it can't enter {} ({})",
            step.path.display(),
            rights(step)
        ),
        Obstacle::File(step) => format!("{who} can't read {file} ({})", rights(step)),
        Obstacle::Refused(step) => format!(
            "{who} does not take {file} ({}): its server wants a key that is its own with mode \
             0600, or root's with 0640",
            rights(step)
        ),
    }
}
