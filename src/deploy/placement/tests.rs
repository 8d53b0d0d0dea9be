//! Tests of replacing several files as one: crashes at each step, and what is put back.

use std::os::unix::fs::symlink;

use super::*;
use crate::deploy::{InstallContent, InstallSettings};
use crate::sys::trust::Stranger;
use crate::sys::user;

/// A folder with the old files `a` and `b`, and the new ones that are to replace them.
struct World {
    folder: tempfile::TempDir,
    placement: Placement,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (target, name) = ("web".parse().unwrap(), "site".parse().unwrap());
        let placement = Placement::new(&folder.path().join("previous"), &target, &name);
        let world = Self { folder, placement };
        for name in ["a", "b"] {
            atomic::write(&world.path(name), b"old", Access::mode(0o640)).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["a", "b"].map(|it| self.path(it))
    }

    /// Where the configuration names `files`.
    fn reach(&self, files: &[&str], stranger: Option<Stranger>) -> Reach {
        let settings = |name: &&str| InstallSettings {
            content: InstallContent::FullChain,
            path: self.path(name).display().to_string(),
            owner: None,
            group: None,
            mode: None,
        };
        let settings: Vec<_> = files.iter().map(settings).collect();
        Reach::new(&settings, &"site".parse().unwrap(), stranger)
    }

    /// Repairs where the configuration is still as it was.
    fn repair(&self) {
        self.placement.repair(&self.reach(&["a", "b"], None)).unwrap();
    }

    fn changes(&self) -> [Change; 2] {
        ["a", "b"].map(|name| Change {
            path: self.path(name),
            wanted: Standing::File {
                content: Zeroizing::new(b"new".to_vec()),
                access: Access::mode(0o600),
            },
        })
    }

    /// Stops in `phase`, as a crash would, when `placed` of the files are in place.
    fn crash(&self, phase: Phase, placed: usize) -> Journal {
        let changes = self.changes();
        let journal = Journal {
            phase,
            moves: changes.iter().map(waiting).collect(),
            kept: "kept-1".into(),
            copies: true,
            previous: None,
        };
        atomic::directory(&self.placement.folder, Access::mode(0o700)).unwrap();
        let standing = observed(changes.iter().map(|it| &it.path)).unwrap();
        self.placement.keep(&standing, &journal.kept).unwrap();
        self.placement.write_journal(&journal).unwrap();
        for (number, (change, step)) in changes.iter().zip(&journal.moves).enumerate() {
            change.wanted.establish(step.from.as_ref().unwrap()).unwrap();
            if number < placed {
                atomic::rename(step.from.as_ref().unwrap(), &step.to).unwrap();
            }
        }
        journal
    }

    fn contents(&self) -> [String; 2] {
        ["a", "b"].map(|name| fs::read_to_string(self.path(name)).unwrap())
    }

    /// What lies in the files' folder, besides our own.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|it| it != "previous");
        names.sort();
        names
    }

    /// What lies in the placement's own folder.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.placement.folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn put_back(&self) {
        let changes = self.placement.previous(&self.paths()).unwrap().unwrap();
        self.placement.place(&changes, Copies::Discard).unwrap();
    }
}

#[test]
fn a_crash_before_the_first_rename_changes_nothing_and_leaves_nothing() {
    let world = World::new();
    world.crash(Phase::Preparing, 0);
    world.repair();
    assert_eq!(world.contents(), ["old", "old"]);
    assert_eq!(world.names(), ["a", "b"]);
    assert!(world.placement.previous(&world.paths()).unwrap().is_none());
}

#[test]
fn a_crash_between_the_renames_is_finished() {
    for placed in 0..=2 {
        let world = World::new();
        world.crash(Phase::Placing, placed);
        world.repair();
        assert_eq!(world.contents(), ["new", "new"], "{placed} placed");
        assert_eq!(world.names(), ["a", "b"]);
        world.put_back();
        assert_eq!(world.contents(), ["old", "old"], "{placed} placed");
    }
}

#[test]
fn what_is_out_of_reach_since_a_crash_gets_no_file_and_the_old_set_or_the_new_one_stands() {
    for (named, placed, then) in [
        (&["a"][..], 0, "old"),
        (&["a"], 1, "old"),
        (&["a"], 2, "new"),
        (&["b"], 0, "old"),
        (&["b"], 1, "new"),
        (&[], 0, "old"),
    ] {
        let world = World::new();
        world.crash(Phase::Placing, placed);
        world.placement.repair(&world.reach(named, None)).unwrap();
        assert_eq!(world.contents(), [then, then], "{named:?}, {placed} placed");
        assert_eq!(world.names(), ["a", "b"], "{named:?}, {placed} placed");
        assert!(!world.placement.journal_path().exists());
    }
    let world = World::new();
    world.crash(Phase::Preparing, 0);
    world.placement.repair(&world.reach(&[], None)).unwrap();
    assert_eq!(world.names(), ["a", "b"], "the key of a new one is left");
}

#[test]
fn what_was_to_be_taken_away_stays_where_it_is_out_of_reach() {
    let world = World::new();
    let changes = [Change { path: world.path("a"), wanted: Standing::Nothing }];
    let kept = "kept-1".to_owned();
    let moves = changes.iter().map(waiting).collect();
    let journal = Journal { phase: Phase::Placing, moves, kept, copies: false, previous: None };
    let crash = || {
        atomic::directory(&world.placement.folder, Access::mode(0o700)).unwrap();
        let standing = observed(changes.iter().map(|it| &it.path)).unwrap();
        world.placement.keep(&standing, &journal.kept).unwrap();
        world.placement.write_journal(&journal).unwrap();
    };
    crash();
    world.placement.repair(&world.reach(&["b"], None)).unwrap();
    assert_eq!(world.names(), ["a", "b"]);
    crash();
    world.repair();
    assert_eq!(world.names(), ["b"]);
}

#[test]
fn nothing_is_done_in_a_folder_that_has_come_to_be_a_strangers() {
    let stranger = || Some(Stranger { user: user::own_user_id(), groups: [].into() });
    for (phase, placed, then) in [
        (Phase::Preparing, 0, ["old", "old"]),
        (Phase::Placing, 0, ["old", "old"]),
        (Phase::Placing, 1, ["new", "old"]),
    ] {
        let world = World::new();
        world.crash(phase, placed);
        let before = world.names();
        world.placement.repair(&world.reach(&["a", "b"], stranger())).unwrap();
        assert_eq!(world.contents(), then, "{placed} placed");
        assert_eq!(world.names(), before, "{placed} placed");
        assert!(!world.placement.journal_path().exists(), "it must not be gone on with for ever");
    }
}

#[test]
fn where_a_rename_fails_the_others_are_undone() {
    let world = World::new();
    let journal = world.crash(Phase::Placing, 1);
    fs::remove_file(world.path("b")).unwrap();
    atomic::directory(&world.path("b/inside"), Access::mode(0o700)).unwrap();
    assert!(world.placement.finish(&journal, &Bars::new()).is_err());
    assert_eq!(fs::read(world.path("a")).unwrap(), b"old");
    assert_eq!(world.names(), ["a", "b"]);
    world.repair();
}

#[test]
fn what_can_not_be_prepared_changes_nothing() {
    let world = World::new();
    let mut changes = world.changes();
    changes[1].path = world.path("no/such/folder");
    assert!(world.placement.place(&changes, Copies::Keep(&changes)).is_err());
    assert_eq!(world.contents(), ["old", "old"]);
    assert_eq!(world.names(), ["a", "b"]);
    assert!(!world.placement.journal_path().exists());
}

#[test]
fn links_rights_and_absence_are_put_back_as_they_were() {
    let world = World::new();
    fs::remove_file(world.path("a")).unwrap();
    symlink("elsewhere", world.path("a")).unwrap();
    let [a, b] = world.changes();
    let added = Change { path: world.path("c"), wanted: a.wanted.clone() };
    let all = [a, b, added];
    world.placement.place(&all, Copies::Keep(&all)).unwrap();
    assert!(world.path("a").symlink_metadata().unwrap().is_file());
    world.put_back();
    assert_eq!(fs::read_link(world.path("a")).unwrap(), Path::new("elsewhere"));
    assert!(!world.path("c").exists());
    let Standing::File { access, .. } = Standing::observe(&world.path("b")).unwrap() else {
        panic!("no file")
    };
    assert_eq!(access.mode, 0o640);
    // Once more: what is kept stays kept.
    world.put_back();
    assert_eq!(fs::read_link(world.path("a")).unwrap(), Path::new("elsewhere"));
}

#[test]
fn what_was_never_accepted_does_not_take_the_place_of_what_can_be_put_back() {
    let world = World::new();
    world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    let [mut a, b] = world.changes();
    a.wanted = Standing::File { content: b"newer".to_vec().into(), access: Access::mode(0o600) };
    let c = Change { path: world.path("c"), wanted: a.wanted.clone() };
    let all = [a.clone(), b, c.clone()];
    world.placement.place(&[a, c], Copies::Keep(&all)).unwrap();
    assert_eq!(world.contents(), ["newer", "new"]);
    world.put_back();
    assert_eq!(world.contents(), ["old", "old"]);
    assert!(!world.path("c").exists());
}

#[test]
fn what_is_accepted_is_what_is_put_back_after_the_next_change() {
    let world = World::new();
    assert!(world.placement.accept(&world.paths()).unwrap());
    world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    assert!(world.placement.accept(&world.paths()).unwrap());
    assert!(world.placement.previous(&world.paths()).unwrap().is_none());
    assert_eq!(world.kept(), ["accepted.json"], "a copy of a key that nobody needs");
    let [mut a, b] = world.changes();
    a.wanted = Standing::Nothing;
    world.placement.place(&[a.clone()], Copies::Keep(&[a, b])).unwrap();
    world.put_back();
    assert_eq!(world.contents(), ["new", "new"]);
}

#[test]
fn nothing_is_accepted_while_a_crash_is_to_be_repaired() {
    let world = World::new();
    let journal = world.crash(Phase::Placing, 2);
    atomic::link(&world.placement.folder.join(PREVIOUS), Path::new(&journal.kept)).unwrap();
    assert!(!world.placement.accept(&world.paths()).unwrap());
    world.repair();
    world.put_back();
    assert_eq!(world.contents(), ["old", "old"]);
}

#[test]
fn an_unreadable_journal_does_not_stop_the_next_install() {
    let world = World::new();
    world.crash(Phase::Placing, 1);
    atomic::write(&world.placement.journal_path(), b"{", Access::mode(0o600)).unwrap();
    world.repair();
    world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    assert_eq!(world.contents(), ["new", "new"]);
}

#[test]
fn copies_of_keys_are_for_nobody_else_and_only_the_last_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    for _ in 0..3 {
        world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    }
    let folder = &world.placement.folder;
    let kept = world.kept();
    let [accepted, copies, link] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((accepted.as_str(), link.as_str()), ("accepted.json", "previous"));
    for path in [world.placement.root.clone(), folder.clone(), folder.join(copies)] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }
    for file in [folder.join(accepted), folder.join(copies).join("0")] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn copies_that_a_crash_left_go_at_the_next_start_and_a_link_to_none_stops_nobody() {
    let world = World::new();
    world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    let link = world.placement.folder.join(PREVIOUS);
    fs::remove_file(&link).unwrap();
    world.repair();
    assert_eq!(world.kept(), ["accepted.json"]);

    symlink("kept-that-are-gone", &link).unwrap();
    assert!(world.placement.previous(&world.paths()).unwrap().is_none());
    world.placement.place(&world.changes(), Copies::Keep(&world.changes())).unwrap();
    assert!(world.placement.accept(&world.paths()).unwrap());
    assert_eq!(world.kept(), ["accepted.json"]);
}

/// An upgrade goes on with what the version before it began.
#[test]
fn a_journal_without_what_later_versions_write_is_finished_and_can_be_put_back() {
    let world = World::new();
    let journal = world.crash(Phase::Placing, 1);
    let text = serde_json::to_string(&journal).unwrap();
    assert!(text.contains("\"copies\":true") && !text.contains("previous"), "{text}");
    world.repair();
    assert_eq!(world.contents(), ["new", "new"]);
    assert!(!world.placement.folder.join(ACCEPTED).exists());
    world.put_back();
    assert_eq!(world.contents(), ["old", "old"]);
}
