//! The power goes, and with it all that was not flushed: what is left is whole, and what the CA was
//! asked for is still known.
//!
//! `support::Disk` is the disk, from which everything is lost that may be lost. D05.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use renewd::model::{Chain, PrivateKey};
use serde_json::Value;

use super::reader::Reader;
use super::scene::{Flow, Scene, Strike};
use super::table::ROWS;
use crate::site::{LIMIT, NAME, ProofBy};
use crate::support::{Change, Disk, FailingDisk, Kept, run};

/// The folders that outlive a power cut; others are memory, or not of renewd's making.
const ON_DISK: [&str; 2] = ["state", "installed"];

/// Where this is set the power goes at every point of the table.
const SWEEP: &str = "RENEWD_TEST_SWEEP";

/// Where it goes else: right after what cannot be repeated, and between a rename and its flush.
const POINTS: [(Flow, &str); 6] = [
    (Flow::First, "acme.registered"),
    (Flow::First, "issue.after_finalize"),
    (Flow::Renewal, "atomic.renamed:order.json"),
    (Flow::Renewal, "issue.after_finalize"),
    (Flow::Renewal, "atomic.linked:current"),
    (Flow::Renewal, "atomic.moved:installed/site.key"),
];

type Tree = BTreeMap<PathBuf, Kept>;

/// D05: at no moment of a run that nobody kills would less than whole files and pairs be left, and
/// when it ends, all of it would be.
#[test]
fn at_no_moment_would_a_power_cut_leave_an_empty_file_or_half_a_pair() {
    let recorder = FailingDisk::build();
    let mut scene = Scene::new(ProofBy::Webroot, false);
    for flow in [Flow::First, Flow::Renewal] {
        let (mut disk, changes) = scene.record(flow, &recorder);
        for (number, change) in changes.iter().enumerate() {
            disk.apply(change);
            let faults = faults(&of_renewd(disk.kept()));
            assert!(faults.is_empty(), "{flow:?}, after {number}, {change:?}: {faults:#?}");
        }
        let now = of_renewd(disk.now());
        let found = of_renewd(Disk::of(scene.site.workspace.path()).now());
        assert_eq!(differences(&now, &found), [] as [&PathBuf; 0], "{flow:?}: not all was seen");
        let kept = of_renewd(disk.kept());
        let lost = differences(&now, &kept);
        assert_eq!(lost, [] as [&PathBuf; 0], "{flow:?}: not flushed at the end");
    }
}

/// D05: after the next start it is served, with the order that was on record and the same account.
#[test]
fn wherever_the_power_goes_it_ends_in_served_and_pays_nothing_twice() {
    let recorder = FailingDisk::build();
    let mut scene = Scene::new(ProofBy::Webroot, false);
    let mut points = POINTS.to_vec();
    if std::env::var_os(SWEEP).is_some() {
        let flows = [Flow::First, Flow::Renewal];
        let rows = ROWS.iter().filter(|it| flows.contains(&it.flow));
        points = rows.map(|it| (it.flow, it.at)).collect();
    }
    let mut violations = Vec::new();
    for (flow, at) in points {
        let strike = scene.cut_power(flow, at, &recorder);
        if !strike.was_killed {
            violations.push(format!("{at} was not passed"));
        }
        violations.extend(strike.violations.iter().map(|it| format!("{flow:?}, {at}: {it}")));
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

impl Scene {
    /// Has `flow`, which is one run, killed at the point `at`, and then takes from the disk what
    /// was not flushed; starts again, and checks all that a kill is checked for.
    #[track_caller]
    fn cut_power(&mut self, flow: Flow, at: &str, recorder: &FailingDisk) -> Strike {
        let mut disk = self.disk_before(flow);
        let mut command = self.site.workspace.command(flow.arguments());
        let command = command.env("RENEWD_CRASH_AT", at);
        let killed = run(recorder.recorded(command, self.site.workspace.path()), LIMIT);
        assert!(matches!(killed.code, -1 | 0), "neither killed nor well: {killed}");
        recorder.changes().iter().for_each(|it| disk.apply(it));
        ON_DISK.into_iter().for_each(|it| disk.lose_power(it));
        let reader = Reader::start(self.site.workspace.certificate(NAME));
        let violations = self.go_on(flow, reader);
        Strike { was_killed: killed.code == -1, violations }
    }

    /// The disk before `flow`, and what a run that nobody kills changed on it.
    #[track_caller]
    fn record(&mut self, flow: Flow, recorder: &FailingDisk) -> (Disk, Vec<Change>) {
        let disk = self.disk_before(flow);
        let mut command = self.site.workspace.command(flow.arguments());
        let done = run(recorder.recorded(&mut command, self.site.workspace.path()), LIMIT);
        assert_eq!(done.code, 0, "{done}");
        self.take_stock();
        (disk, recorder.changes())
    }

    #[track_caller]
    fn disk_before(&mut self, flow: Flow) -> Disk {
        if flow == Flow::First {
            self.forget();
        }
        Disk::of(self.site.workspace.path())
    }
}

/// What of `tree` renewd wrote to last: no locks, which are empty, nothing temporary, and none of
/// the copies of an install, which go away some time.
fn of_renewd(tree: Tree) -> Tree {
    let is_temporary = |path: &Path| {
        path.components().any(|it| {
            let name = it.as_os_str().as_encoded_bytes();
            name.starts_with(b".renewd") || name.starts_with(b"kept-")
        })
    };
    let is_lock = |path: &Path, it: &Kept| {
        matches!(it, Kept::File(..))
            && path.starts_with("state/private/locks")
            && path.extension().is_none()
    };
    tree.into_iter()
        .filter(|(path, _)| ON_DISK.iter().any(|it| path.starts_with(it)))
        .filter(|(path, it)| !is_temporary(path) && !is_lock(path, it))
        .collect()
}

/// The paths that are not the same in `one` and `other`.
fn differences<'a>(one: &'a Tree, other: &'a Tree) -> Vec<&'a PathBuf> {
    let differ = |path: &&PathBuf| one.get(*path) != other.get(*path);
    let paths: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    paths.into_iter().filter(differ).collect()
}

/// What is not whole in `tree`.
fn faults(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, kept) in tree {
        let Kept::File(content, _) = kept else { continue };
        // Nobody issued a placeholder.
        let is_empty = path.ends_with("placeholder/chain.pem");
        // Documents are JSON; all else is lines.
        let is_whole = is_empty
            || content.ends_with(b"\n")
            || serde_json::from_slice::<Value>(content).is_ok();
        if !is_whole {
            faults.push(format!("{}: {} bytes", path.display(), content.len()));
        }
    }
    let certificate = Path::new("state/certs/site");
    if let Some(Kept::Link(target)) = tree.get(&certificate.join("current")) {
        faults.extend(torn(tree, &certificate.join(target)));
    }
    faults
}

/// What keeps the files in `folder` from being a pair.
fn torn(tree: &Tree, folder: &Path) -> Option<String> {
    let read = |name: &str| match tree.get(&folder.join(name)) {
        Some(Kept::File(content, _)) => content.as_slice(),
        _ => &[],
    };
    let chain = Chain::parse_pem(read("fullchain.pem"));
    let key = PrivateKey::from_pem(read("privkey.pem")).and_then(|it| it.public_key());
    match (chain, key) {
        (Ok(chain), Ok(key)) if chain.leaf.public_key == key => None,
        _ => Some(format!("current leads to {}, which is no pair", folder.display())),
    }
}
