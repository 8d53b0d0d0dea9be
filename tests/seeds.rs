//! Every fuzz target on what is kept for it in `tests/fuzz/seeds`: real texts, examples of the
//! RFCs, and what fuzzing once found. `tests/fuzz.sh` looks for more.
//!
//! Needs the feature `fuzzing`.

#![cfg(feature = "fuzzing")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "fuzz/src/targets.rs"]
mod targets;

use targets::TARGETS;

#[test]
fn what_is_kept_for_fuzzing_makes_nothing_panic() {
    let mut found = Vec::new();
    for (name, target) in TARGETS {
        for (file, seed) in seeds(name) {
            // As it is, and as a broken connection leaves it.
            let (half, _) = seed.split_at(seed.len() / 2);
            for input in [&seed[..], half, &[]] {
                if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
                    found.push(format!("{name}: {} of {}", input.len(), file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    let folders = fs::read_dir(root().join("tests/fuzz/seeds")).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, targets);
    let readme = fs::read_to_string(root().join("tests/fuzz/README.md")).unwrap();
    for name in targets {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} has no row in the README");
        let kept = seeds(&name);
        assert!(kept.len() >= 3, "{name} has {} seeds", kept.len());
        let large = kept.iter().find(|(_, seed)| seed.len() > 16 * 1024);
        assert_eq!(large.map(|(file, _)| file), None, "tests/fuzz.sh cuts it");
    }
}

/// What is fuzzed is what is released: the same versions of everything.
#[test]
fn fuzzing_is_locked_to_the_dependencies_of_the_program() {
    let packages = |path: &str| -> BTreeSet<(String, String)> {
        let lock: toml::Table = fs::read_to_string(root().join(path)).unwrap().parse().unwrap();
        let text = |it: &toml::Value, key: &str| it[key].as_str().unwrap().to_owned();
        let packages = lock["package"].as_array().unwrap().iter();
        packages.map(|it| (text(it, "name"), text(it, "version"))).collect()
    };
    let program = packages("Cargo.lock");
    let own = ["renewd-fuzz", "libfuzzer-sys", "arbitrary"];
    let others: Vec<_> = packages("tests/fuzz/Cargo.lock")
        .into_iter()
        .filter(|it| !own.contains(&it.0.as_str()) && !program.contains(it))
        .collect();
    let hint = "cp Cargo.lock tests/fuzz/ && cargo metadata --manifest-path tests/fuzz/Cargo.toml";
    assert!(others.is_empty(), "{others:?}; {hint}");
    let manifest: toml::Table =
        fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let locked = packages("tests/fuzz/Cargo.lock");
    let optional = |it: &toml::Value| it.get("optional").is_some();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    for (name, _) in dependencies.iter().filter(|(_, it)| !optional(it)) {
        assert!(locked.iter().any(|it| it.0 == *name), "{name} is not in its lock file; {hint}");
    }
}

/// The seeds of the target `name`, with the files they are kept in.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut folders = vec![root().join("tests/fuzz/seeds").join(name)];
    if name == "config" {
        folders.push(root().join("examples"));
    }
    let files = folders.iter().flat_map(|it| fs::read_dir(it).unwrap());
    files.map(|it| it.unwrap().path()).map(|it| (it.clone(), fs::read(it).unwrap())).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
