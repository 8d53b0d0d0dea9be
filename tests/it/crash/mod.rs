//! Killed at whatever moment, renewd goes on from there: the links never lead to half of a pair,
//! and what the CA has been paid for is used. What is checked each time stands in [`scene`].
//!
//! The matrix here kills once at each row of [`table`]; the bench `crash_matrix` kills at every
//! single passing of every point, and at many more random moments.
//!
//! Power cuts, which take more than a process, stand in [`power`].
//!
//! Needs the feature `crash-points`.

mod paid;
mod power;
mod reader;
mod scene;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::site::{LIMIT, ProofBy, Site};
use crate::support::{Workspace, run, write};

use scene::{Flow, Scene, When};
use table::{OF_REVOCATION, OF_STAND_INS, OF_THE_BUILT_IN_CA, ROWS};

/// D04: killed after any step.
#[test]
fn killed_at_each_point_of_a_first_order_it_ends_in_served() {
    check_rows(&[Flow::First]);
}

#[test]
fn killed_at_each_point_of_a_renewal_it_ends_in_served() {
    check_rows(&[Flow::Renewal]);
}

#[test]
fn killed_at_each_point_of_a_rollover_or_of_a_daemon_it_ends_in_served() {
    check_rows(&[Flow::RollOver, Flow::Daemon]);
}

#[test]
fn killed_at_random_moments_it_ends_in_served_by_webroot() {
    check_random_moments(ProofBy::Webroot, 10, 0x5eed_0001);
}

#[test]
fn killed_at_random_moments_it_ends_in_served_by_a_listener() {
    check_random_moments(ProofBy::Listener, 10, 0x5eed_0002);
}

#[test]
fn killed_while_it_makes_its_own_ca_it_goes_on_with_the_same_keys() {
    for at in OF_THE_BUILT_IN_CA {
        let workspace = Workspace::new();
        workspace.write_config(
            "default_ca = \"inside\"\n[ca.inside]\ntype = \"local\"\n\
             [[certificate]]\nname = \"site\"\ndomains = [\"site.example\"]\ntargets = []\n",
        );
        let mut command = workspace.command(&["renew"]);
        let killed = run(command.env("RENEWD_CRASH_AT", at), LIMIT);
        assert_eq!(killed.code, -1, "{at} was not passed: {killed}");
        let before = keys_below(&workspace.path().join("state/private/ca"));
        let done = workspace.renewd(&["renew"]);
        assert_eq!(done.code, 0, "{at}: {done}");
        let after = keys_below(&workspace.path().join("state/private/ca"));
        assert!(before.is_subset(&after) && after.len() == 2, "{at}: {before:?} {after:?}");
    }
}

#[test]
fn the_proofs_of_a_certificate_that_nobody_wants_any_more_go_away_too() {
    let site = Site::start();
    let mut command = site.workspace.command(&["renew"]);
    let killed = run(command.env("RENEWD_CRASH_AT", "issue.presented"), LIMIT);
    assert_eq!(killed.code, -1, "{killed}");
    let proofs = || fs::read_dir(site.workspace.path().join("run/acme-challenge")).unwrap().count();
    assert_eq!(proofs(), 1);

    let config = fs::read_to_string(site.workspace.config_file()).unwrap();
    let others = config.replace("name = \"site\"", "name = \"other\"");
    write(&site.workspace.config_file(), others.replace("[\"nginx\"]", "[]"));
    let done = site.renewd(&["renew"]);
    assert_eq!(done.code, 0, "{done}");
    assert_eq!(proofs(), 0);
    // The order itself may be wanted again: a configuration can be cut in the middle.
    let order = site.workspace.path().join("state/private/certificates/site/order.json");
    let kept: Value = serde_json::from_slice(&fs::read(order).unwrap()).unwrap();
    assert_eq!(kept["presented"], serde_json::json!([]));
}

#[test]
fn every_point_of_the_code_has_its_row() {
    let mut in_code = BTreeSet::new();
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                pending.push(entry.path());
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap();
            for call in ["crash::point(\"", "crash::point_at(\""] {
                let names = text.split(call).skip(1).filter_map(|it| it.split('"').next());
                in_code.extend(names.map(str::to_owned));
            }
        }
    }
    let name_of = |at: &str| at.split(':').next().unwrap_or_default().to_owned();
    let rows = ROWS.iter().map(|it| it.at).chain(OF_THE_BUILT_IN_CA.iter().copied());
    let rows = rows.chain(OF_REVOCATION.iter().copied());
    let rows = rows.chain(OF_STAND_INS.iter().copied());
    let in_table: BTreeSet<String> = rows.map(name_of).collect();
    assert_eq!(in_code, in_table);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let missing: Vec<_> =
        in_code.iter().filter(|it| !documented.contains(&format!("`{it}`"))).collect();
    assert_eq!(missing, [] as [&String; 0], "ARCHITECTURE.md names each point");
}

/// Kills at each row of `flows`.
#[track_caller]
fn check_rows(flows: &[Flow]) {
    let mut scene = Scene::new(ProofBy::Webroot, false);
    if flows != [Flow::First] {
        scene.begin();
    }
    let mut violations = Vec::new();
    for flow in flows {
        violations.extend(documents_without_a_row(&scene.trace(*flow)));
    }
    for row in ROWS.iter().filter(|it| flows.contains(&it.flow)) {
        let mut strike = scene.strike(row.flow, When::At(row.at));
        if !strike.was_killed && strike.violations.is_empty() {
            // Once in ten thousand renewals Pebble wants neither name proven again.
            strike = scene.strike(row.flow, When::At(row.at));
        }
        if !strike.was_killed {
            violations.push(format!("{row:?} was not passed"));
        }
        violations.extend(strike.violations.iter().map(|it| format!("{row:?}: {it}")));
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The documents that are written on the way that `passed` shows, and that no row of any flow kills
/// at: one that is new belongs into the table.
fn documents_without_a_row(passed: &[String]) -> Vec<String> {
    let renamed = passed.iter().filter_map(|it| it.strip_prefix("atomic.renamed:"));
    // What is made out of sight becomes visible as a whole.
    let documents = renamed.filter(|it| !it.contains("/.renewd-") && !it.contains("/kept-"));
    let has_row = |document: &str| {
        let ends = ROWS.iter().filter_map(|it| it.at.strip_prefix("atomic.renamed:"));
        ends.into_iter().any(|end| Path::new(document).ends_with(end))
    };
    let lacking: BTreeSet<_> = documents.filter(|it| !has_row(it)).collect();
    lacking.into_iter().map(|it| format!("{it} has no row")).collect()
}

/// Kills forced renewals at `count` random moments, those of one-shot runs and of daemons in turn.
#[track_caller]
fn check_random_moments(proof: ProofBy, count: u32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::new(proof, true);
    scene.begin();
    let length = scene.length();
    for round in 0..count {
        let delay = length.mul_f64(random.f64());
        let flow = if round % 2 == 0 { Flow::Renewal } else { Flow::Daemon };
        scene.forget_what_was_spent();
        let violations = scene.strike(flow, When::After(delay)).violations;
        assert!(violations.is_empty(), "{flow:?} killed after {delay:?}: {violations:#?}");
    }
}

/// The keys in the folders below `folder`.
fn keys_below(folder: &Path) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            keys.extend(keys_below(&entry.path()));
        } else if entry.file_name() == "key.pem" {
            keys.insert(fs::read_to_string(entry.path()).unwrap());
        }
    }
    keys
}
