//! Decides who can't read what the configuration hands him, and what would change that.
//!
//! Takes a reader with his groups, and the way to a file with owner, group and mode of each step;
//! nothing here looks at the machine, so each rule has a table test.
//!
//! # Rules
//!
//! 1. root reads everything
//! 2. of owner, group and others, the first that fits the reader counts, as the kernel has it
//! 3. a folder must let the reader pass (x), the file must let him read (r)
//! 4. where an access list stands, its bits are not all there is: nothing is said of it
//! 5. PostgreSQL takes a key only if it is its own and nobody else's, or root's and at most
//!    readable for its group
//!
//! Not here: the look at the machine ([`super::machine`]).

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Who opens a certificate's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    /// The user's name.
    pub(super) name: String,
    /// The user's number.
    pub(super) id: u32,
    /// The numbers of the groups that he is a member of, as far as they matter here.
    pub(super) groups: BTreeSet<u32>,
    /// Whether he looks at the rights of keys himself, as PostgreSQL does.
    pub(super) is_picky: bool,
}

/// One folder on the way to a file, or the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Where.
    pub(super) path: PathBuf,
    /// The owner's number.
    pub(super) owner: u32,
    /// The group's number.
    pub(super) group: u32,
    /// The permission bits.
    pub(super) mode: u32,
    /// Whether it has an access list beside them.
    pub(super) has_list: bool,
    /// Whether `read_group` gives it its group and mode.
    pub(super) is_ruled: bool,
}

/// What stands in a reader's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle<'a> {
    /// He can't pass this folder.
    Folder(&'a Step),
    /// He can't read the file.
    File(&'a Step),
    /// He could, and will refuse to.
    Refused(&'a Step),
}

/// The first thing that keeps `reader` from reading the file at the end of `way`.
pub(super) fn obstacle<'a>(reader: &Reader, way: &'a [Step]) -> Option<Obstacle<'a>> {
    let (file, folders) = way.split_last()?;
    if let Some(folder) = folders.iter().find(|it| !allows(reader, it, 0o1)) {
        return Some(Obstacle::Folder(folder));
    }
    if !allows(reader, file, 0o4) {
        return Some(Obstacle::File(file));
    }
    (reader.is_picky && !pleases(reader, file)).then_some(Obstacle::Refused(file))
}

/// Whether `step` gives `reader` the right `bit`, one of r (4), w (2) and x (1).
fn allows(reader: &Reader, step: &Step, bit: u32) -> bool {
    let shift = if step.owner == reader.id {
        6
    } else if reader.groups.contains(&step.group) {
        3
    } else {
        0
    };
    reader.id == 0 || step.has_list || step.mode >> shift & bit != 0
}

/// Whether PostgreSQL's own rule for keys is met.
fn pleases(reader: &Reader, key: &Step) -> bool {
    (key.owner == reader.id && key.mode & 0o077 == 0) || (key.owner == 0 && key.mode & 0o037 == 0)
}

/// A group by whose name a key can be given to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its name.
    pub(super) group: String,
    /// Whether the reader is a member already.
    pub(super) is_member: bool,
}

/// What to write or run so that `reader`, the server of `service`, gets past `obstacle` on the way
/// to a file of the store, which `read_group` may read. `offer` is a group that fits.
pub(super) fn fix_for_store(
    reader: &Reader,
    obstacle: &Obstacle<'_>,
    read_group: Option<&str>,
    offer: &Offer,
    service: &str,
) -> String {
    let join = |group: &str| {
        format!("run `usermod -aG {group} {}`, then `systemctl restart {service}`", reader.name)
    };
    match (obstacle, read_group) {
        (Obstacle::Folder(step), _) if !step.is_ruled => enter(step),
        (Obstacle::Refused(_), _) => own_copy(reader),
        (_, Some(group)) => join(group),
        (_, None) => {
            let line = format!("write read_group = {:?} at the certificate", offer.group);
            if offer.is_member { line } else { format!("{line}, and {}", join(&offer.group)) }
        }
    }
}

/// What to write so that `reader` gets past `obstacle` on the way to an installed file.
pub(super) fn fix_for_install(reader: &Reader, obstacle: &Obstacle<'_>, group: &str) -> String {
    match obstacle {
        Obstacle::Folder(step) => enter(step),
        Obstacle::File(_) => format!(
            "write group = {group:?} and mode = \"0640\" into that entry of `install`, with a \
             group that {} is a member of",
            reader.name
        ),
        Obstacle::Refused(_) => format!(
            "write owner = {:?} and mode = \"0600\" into that entry of `install`",
            reader.name
        ),
    }
}

/// How to let others pass a folder, without letting them list it.
pub(super) fn enter(folder: &Step) -> String {
    format!("run `chmod o+x {}`", quoted(&folder.path.display().to_string()))
}

fn own_copy(reader: &Reader) -> String {
    let folder = "/etc/renewd/tls";
    let user = &reader.name;
    format!(
        "give it files of its own: run `install -d -m 0755 {folder}`, and write into the target \
         install = [{{ file = \"fullchain\", path = \"{folder}/{{name}}.pem\" }}, {{ file = \
         \"privkey\", path = \"{folder}/{{name}}.key\", owner = {user:?}, mode = \"0600\" }}]"
    )
}

/// `text` as one word of a shell's.
fn quoted(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._-+@%:,=".contains(it);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: u32 = 110;
    const SSL_CERT: u32 = 103;

    fn reader(groups: &[u32]) -> Reader {
        let groups = groups.iter().copied().collect();
        Reader { name: "mosquitto".into(), id: BROKER, groups, is_picky: false }
    }

    fn step(path: &str, owner: u32, group: u32, mode: u32) -> Step {
        Step { path: path.into(), owner, group, mode, has_list: false, is_ruled: false }
    }

    /// The way to a key of the store with `group` and `mode`s of the generation and the key.
    fn way(group: u32, folder: u32, key: u32) -> [Step; 3] {
        [
            step("/state", 900, 900, 0o711),
            Step { is_ruled: true, ..step("/state/certs/a/0001", 900, group, folder) },
            Step { is_ruled: true, ..step("/state/certs/a/0001/privkey.pem", 900, group, key) },
        ]
    }

    #[test]
    fn a_member_of_the_group_reads_the_key_and_nobody_else_does() {
        let way = way(SSL_CERT, 0o750, 0o640);
        assert_eq!(obstacle(&reader(&[SSL_CERT]), &way), None);
        assert_eq!(obstacle(&reader(&[]), &way), Some(Obstacle::Folder(&way[1])));
        let root = Reader { id: 0, ..reader(&[]) };
        assert_eq!(obstacle(&root, &way), None);
    }

    #[test]
    fn a_folder_must_be_passed_and_the_file_read() {
        let mut way = way(SSL_CERT, 0o751, 0o600);
        assert_eq!(obstacle(&reader(&[SSL_CERT]), &way), Some(Obstacle::File(&way[2])));
        way[2].mode = 0o604;
        assert_eq!(obstacle(&reader(&[]), &way), None);
        // To list a folder is not to pass it.
        way[0].mode = 0o744;
        assert_eq!(obstacle(&reader(&[]), &way), Some(Obstacle::Folder(&way[0])));
        way[0].has_list = true;
        assert_eq!(obstacle(&reader(&[]), &way), None);
    }

    #[test]
    fn who_is_the_owner_is_judged_as_the_owner_and_a_member_as_a_member() {
        let locked_out = [step("/key", BROKER, SSL_CERT, 0o044)];
        assert_eq!(
            obstacle(&reader(&[SSL_CERT]), &locked_out),
            Some(Obstacle::File(&locked_out[0]))
        );
        let group_locked_out = [step("/key", 0, SSL_CERT, 0o604)];
        assert!(obstacle(&reader(&[SSL_CERT]), &group_locked_out).is_some());
        assert!(obstacle(&reader(&[]), &group_locked_out).is_none());
    }

    #[test]
    fn postgresql_refuses_a_key_that_is_neither_its_own_nor_roots() {
        let picky = Reader { is_picky: true, ..reader(&[SSL_CERT]) };
        for (owner, mode, is_taken) in [
            (900, 0o640, false),
            (BROKER, 0o600, true),
            (BROKER, 0o640, false),
            (0, 0o640, true),
            (0, 0o644, false),
        ] {
            let key = [step("/key", owner, SSL_CERT, mode)];
            let expected = (!is_taken).then_some(Obstacle::Refused(&key[0]));
            assert_eq!(obstacle(&picky, &key), expected, "{owner} {mode:o}");
        }
    }

    #[test]
    fn each_obstacle_has_its_fix() {
        let key = way(900, 0o750, 0o600);
        let (generation, file) = (Obstacle::Folder(&key[1]), Obstacle::File(&key[2]));
        let above = Obstacle::Folder(&key[0]);
        let fix = |obstacle: &Obstacle<'_>, group, is_member| {
            let offer = Offer { group: "ssl-cert".into(), is_member };
            fix_for_store(&reader(&[]), obstacle, group, &offer, "mosquitto.service")
        };
        assert_eq!(
            fix(&generation, Some("tls"), true),
            "run `usermod -aG tls mosquitto`, then `systemctl restart mosquitto.service`"
        );
        assert_eq!(
            fix(&generation, None, false),
            "write read_group = \"ssl-cert\" at the certificate, and run \
             `usermod -aG ssl-cert mosquitto`, then `systemctl restart mosquitto.service`"
        );
        assert_eq!(fix(&file, None, true), "write read_group = \"ssl-cert\" at the certificate");
        assert_eq!(fix(&above, Some("tls"), false), "run `chmod o+x /state`");
        let refused = fix(&Obstacle::Refused(&key[2]), Some("tls"), true);
        assert!(refused.contains("owner = \"mosquitto\", mode = \"0600\""), "{refused}");

        let home = step("/home/it's mine", 1000, 1000, 0o700);
        assert_eq!(
            fix_for_install(&reader(&[]), &Obstacle::Folder(&home), "tls"),
            r"run `chmod o+x '/home/it'\''s mine'`"
        );
        let install = fix_for_install(&reader(&[]), &file, "tls");
        assert!(install.contains("group = \"tls\" and mode = \"0640\""), "{install}");
    }
}
