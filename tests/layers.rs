//! The module map of the program, and the test that holds `src/` to it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of `src/`, lowest first, with the modules it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("plan", &["model"]),
    ("sys", &["model"]),
    ("store", &["model", "sys"]),
    ("acme", &["model", "sys"]),
    ("local_ca", &["model", "sys"]),
    ("solver", &["model", "sys"]),
    ("probe", &["model", "sys"]),
    ("deploy", &["model", "sys", "probe"]),
    ("observe", &["model", "sys"]),
    // Of the edges, config may use the settings alone: see the test of that name.
    (
        "config",
        &["model", "sys", "store", "acme", "local_ca", "solver", "probe", "deploy", "observe"],
    ),
    ("issue", &["model", "sys", "acme", "local_ca", "solver"]),
    ("lifecycle", &["model", "plan", "sys", "store", "issue", "deploy"]),
    ("assemble", ABOVE),
    ("daemon", ABOVE),
    ("api", ABOVE),
    ("cli", ABOVE),
];

/// What the upper modules may use: everything above them in the table.
const ABOVE: &[&str] = &["*"];

/// What `config` may use of the edges: each edge's settings, and no more.
const SETTINGS: &[(&str, &[&str])] = &[
    ("store", &["StoreSettings"]),
    ("acme", &["CaSettings", "ExternalAccountBinding"]),
    ("local_ca", &["LocalCaSettings", "Subtree"]),
    (
        "solver",
        &[
            "Dns01Settings",
            "DnsPersist01Settings",
            "ProviderSettings",
            "SolverMethod",
            "SolverSettings",
        ],
    ),
    ("probe", &["StartTls"]),
    (
        "deploy",
        &[
            "InstallContent",
            "InstallSettings",
            "ProgramSettings",
            "ReloadSettings",
            "TargetSettings",
            "VerifySettings",
        ],
    ),
    ("observe", &["AlertSettings", "Channel", "ReceiverSettings"]),
];

#[test]
fn map_has_no_cycle_and_matches_lib_rs() {
    let names: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let lib_rs = fs::read_to_string(src().join("lib.rs")).unwrap();
    let declared: Vec<&str> = lib_rs
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|rest| rest.trim_end_matches(';'))
        .collect();
    assert_eq!(declared, names, "src/lib.rs and MAY_USE differ");

    for (rank, (module, used)) in MAY_USE.iter().enumerate() {
        for name in used.iter().filter(|it| **it != "*") {
            assert!(names[..rank].contains(name), "{module} may use {name}, which is not below it");
        }
    }
}

#[test]
fn modules_use_only_what_the_map_allows() {
    let mut faults = Vec::new();
    for (module, allowed) in MAY_USE {
        for file in rust_files(module) {
            for (number, line) in (1..).zip(fs::read_to_string(&file).unwrap().lines()) {
                if let Some(fault) = fault(line, module, allowed) {
                    faults.push(format!("{}:{number}: {module} {fault}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with `line` of `module`, if anything.
fn fault(line: &str, module: &str, allowed: &[&str]) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::").skip(1).find_map(|used| {
        if used.starts_with('{') {
            return Some("groups modules in one `use crate::{..}`: write one `use` each".into());
        }
        let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let rank = |module: &str| MAY_USE.iter().position(|(name, _)| *name == module);
        let below = rank(used)? < rank(module)?;
        let fine = used == module || allowed.contains(&used) || (allowed == ABOVE && below);
        (!fine).then(|| format!("uses {used}"))
    })
}

#[test]
fn config_uses_the_settings_of_the_edges_and_nothing_else_of_them() {
    let mut faults = Vec::new();
    for file in rust_files("config") {
        let text = fs::read_to_string(&file).unwrap();
        for (edge, settings) in SETTINGS {
            let path = format!("crate::{edge}::");
            for rest in text.split(path.as_str()).skip(1) {
                let end = if rest.starts_with('{') { '}' } else { ';' };
                let list = rest.trim_start_matches('{').split(end).next().unwrap_or_default();
                let used = list.split(',').map(str::trim).filter(|it| !it.is_empty());
                faults.extend(
                    used.filter(|it| !settings.contains(it))
                        .map(|it| format!("{}: uses {edge}::{it}", file.display())),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `src/module.rs` and every Rust file below `src/module/`.
fn rust_files(module: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![src().join(module), src().join(format!("{module}.rs"))];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
