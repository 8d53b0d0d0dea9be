//! The documents, held to the program: what they name is there, and what they show works.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use renewd::cli::arguments::Arguments;
use renewd::config::{self, Config, Environment};
use renewd::sys::atomic::{self, Access};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
const NOT_IMPLEMENTED: &str = "not implemented";
/// The rows of each part of the fault catalogue, numbered from 1.
const FAULTS: [(char, usize); 9] =
    [('A', 37), ('N', 14), ('D', 14), ('P', 14), ('T', 8), ('C', 8), ('H', 11), ('W', 6), ('S', 5)];

#[test]
fn each_row_of_the_rfc_map_names_files_and_tests_that_exist() {
    let architecture = read("ARCHITECTURE.md");
    let tests = test_names();
    let map = section(&architecture, "## RFC map");
    let rows = rows(map.split("### ").next().unwrap());
    assert!(rows.len() > 30, "the RFC map has {} rows only", rows.len());
    for row in rows {
        let [section, _, files, test] =
            <[String; 4]>::try_from(row).unwrap_or_else(|row| panic!("not four cells: {row:?}"));
        if test == NOT_IMPLEMENTED {
            assert_eq!(files, "–", "{section} is not implemented and has a file");
            continue;
        }
        let (files, named) = (quoted(&files), quoted(&test));
        assert!(!files.is_empty() && !named.is_empty(), "{section} has no file or no test");
        for file in files {
            assert!(root().join(file).is_file(), "{section}: there is no {file}");
        }
        for test in named {
            assert!(tests.contains(test), "{section}: there is no test {test}");
        }
    }
}

#[test]
fn each_row_of_the_rfc_map_runs_against_a_real_server_or_says_why_not() {
    let architecture = read("ARCHITECTURE.md");
    let map = section(&architecture, "## RFC map");
    let without = section(map, "### What no real server shows");
    let reasons: BTreeSet<String> =
        rows(without).into_iter().filter_map(|row| row.into_iter().next()).collect();
    let real = test_names_in(&["tests/it", "tests/acme.rs"]);
    let mut unused = reasons.clone();
    for row in rows(map.split("### ").next().unwrap()) {
        let shown = quoted(row.last().unwrap()).into_iter().any(|it| real.contains(it));
        unused.remove(&row[0]);
        assert!(
            shown || reasons.contains(&row[0]),
            "{}: no test runs against a real server",
            row[0]
        );
    }
    assert_eq!(unused, BTreeSet::new(), "reasons for rows that are not there");
}

#[test]
fn each_row_of_the_threat_model_names_tests_that_exist() {
    let tests = test_names();
    let security = read("SECURITY.md");
    let rows = rows(section(&security, "## Who is not trusted"));
    assert!(rows.len() > 10, "{} rows only", rows.len());
    for row in rows {
        let named = quoted(row.last().unwrap());
        assert!(!named.is_empty(), "no test in {row:?}");
        for test in named {
            assert!(tests.contains(test), "there is no test {test}: {row:?}");
        }
    }
}

#[test]
fn each_fault_of_the_catalogue_has_one_row_with_tests_that_exist_or_says_why_not() {
    let catalogue = read("tests/FAULTS.md");
    let tests = test_names();
    let rows = rows(&catalogue);
    let ids: Vec<&str> = rows.iter().map(|it| it.first().unwrap().as_str()).collect();
    let expected: Vec<String> = FAULTS
        .iter()
        .flat_map(|(part, last)| (1..=*last).map(move |number| format!("{part}{number:02}")))
        .collect();
    assert_eq!(ids, expected);

    let carried = rows_of_tests();
    let mut open = Vec::new();
    for row in rows {
        let [id, fault, answer, shown] =
            <[String; 4]>::try_from(row).unwrap_or_else(|row| panic!("not four cells: {row:?}"));
        assert!(!fault.is_empty() && !answer.is_empty(), "{id} says nothing");
        let named = quoted(&shown);
        for test in &named {
            assert!(tests.contains(*test), "{id}: there is no test {test}");
        }
        if shown.starts_with("open") {
            open.push(id);
            continue;
        }
        let carries = |test: &&str| carried.get(*test).is_some_and(|ids| ids.contains(&id));
        assert!(named.is_empty() || named.iter().any(carries), "{id}: no test begins with its id");
        let reason = shown.strip_prefix("not tested: ").unwrap_or_default();
        assert!(!named.is_empty() || reason.len() > 20, "{id} has no test and no reason");
    }
    assert!(open.is_empty(), "no test shows these whole: {open:?}");
}

#[test]
fn each_part_of_the_security_is_shown_by_a_test_or_a_file_or_says_that_nothing_does() {
    let tests = test_names();
    let security = read("SECURITY.md");
    let rows = rows(section(&security, "## How it is confined"));
    assert!(rows.len() > 10, "{} rows only", rows.len());
    for row in rows {
        let shown_by = row.last().unwrap();
        let named = quoted(shown_by);
        assert!(!named.is_empty() || shown_by.starts_with("nothing"), "{row:?}");
        for name in named {
            let is_there = tests.contains(name) || root().join(name).is_file();
            assert!(is_there, "there is no {name}: {row:?}");
        }
    }
}

#[test]
fn the_map_has_every_module_in_the_order_of_its_layers() {
    let lib = read("src/lib.rs");
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let architecture = read("ARCHITECTURE.md");
    let mapped: Vec<&str> = architecture
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    assert_eq!(mapped, modules);
}

#[test]
fn the_smallest_configuration_of_the_readme_is_the_example_and_loads() {
    let readme = read("README.md");
    let smallest = blocks(section(&readme, "## The smallest configuration"), "toml").remove(0);
    let example = read("examples/minimal.toml");
    let example: Vec<&str> = example.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(smallest.trim(), example.join("\n").trim());

    let config = load(&smallest);
    let [certificate] = config.certificates.as_slice() else { panic!("not one certificate") };
    assert_eq!(certificate.name.as_str(), "example.com");
    assert_eq!(certificate.first_ca().unwrap().as_str(), "letsencrypt");
    assert_eq!(certificate.key_type.to_string(), "p256");
    assert!(certificate.placeholder && certificate.verify);
    let solver = certificate.solvers.values().next().unwrap();
    assert_eq!(solver.as_str(), "web");
    let target = config.targets.values().next().unwrap();
    let addresses: Vec<&str> = target.verify.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1:443", "[::1]:443"]);
}

#[test]
fn every_configuration_in_the_readme_loads() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "toml");
    assert!(blocks.len() >= 3, "{} blocks only", blocks.len());
    let smallest = blocks.first().unwrap().clone();
    for block in &blocks {
        let is_whole = block.contains("[[certificate]]");
        load(&if is_whole { block.clone() } else { format!("{smallest}\n{block}") });
    }
}

#[test]
fn every_command_and_option_of_the_help_is_in_the_readme() {
    let readme = read("README.md");
    let commands = section(&readme, "## Commands");
    let program = Arguments::command();
    check_command(&program, "renewd", commands);
}

#[track_caller]
fn check_command(command: &Command, words: &str, text: &str) {
    for argument in command.get_arguments() {
        if let Some(long) = argument.get_long().filter(|it| !["help", "version"].contains(it)) {
            assert!(text.contains(&format!("--{long}")), "`{words} --{long}` is not in the README");
        }
    }
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|it| it.get_name() != "help" && !it.is_hide_set())
        .collect();
    if below.is_empty() {
        assert!(text.contains(&format!("`{words}")), "`{words}` is not in the README");
    }
    for sub in below {
        check_command(sub, &format!("{words} {}", sub.get_name()), text);
    }
}

#[test]
fn no_hint_names_a_command_or_option_that_is_not_there() {
    let program = Arguments::command();
    let mut seen = 0;
    for file in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        // Documentation may speak of later versions; what operators read may not.
        let lines = text.lines().filter(|it| !it.trim_start().starts_with("//"));
        let text: String =
            lines.map(|it| format!("{} ", it.trim().trim_end_matches('\\'))).collect();
        for named in text.split("`renewd ").skip(1).filter_map(|it| it.split('`').next()) {
            let mut words = named.split_whitespace();
            let command = words.next().and_then(|it| program.find_subcommand(it));
            let command = command.unwrap_or_else(|| panic!("{}: {named}", file.display()));
            for option in words.filter_map(|it| it.strip_prefix("--")) {
                let all = command.get_arguments().chain(program.get_arguments());
                let is_there = all.filter_map(|it| it.get_long()).any(|it| it == option);
                assert!(is_there, "{}: {named}", file.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen} commands seen in hints");
}

#[test]
fn every_exit_code_of_the_help_is_in_the_readme() {
    let help = Arguments::command().get_after_help().unwrap().to_string();
    let listed = help.strip_prefix("Exit codes: ").unwrap().split("; ");
    let codes: Vec<&str> = listed.filter_map(|it| it.split_whitespace().next()).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "6"]);
    let readme = read("README.md");
    let commands = rows(section(&readme, "## Commands"));
    let explained: Vec<&str> =
        commands.iter().map(|it| it.first().unwrap().as_str()).filter(|it| it.len() == 1).collect();
    assert_eq!(explained, codes);
}

#[test]
fn every_error_code_in_the_readme_is_one_that_the_program_gives() {
    let readme = read("README.md");
    let rows = rows(section(&readme, "## Where to look when it fails"));
    assert!(rows.len() >= 10, "{} errors only", rows.len());
    let source: String =
        files(&root().join("src"), "rs").iter().map(|it| fs::read_to_string(it).unwrap()).collect();
    for row in rows {
        let code = quoted(row.first().unwrap()).remove(0);
        // Codes of the CA's problem types are put together from `acme.` and their word.
        let word = code.strip_prefix("acme.").unwrap_or(code);
        let given = [code, word].iter().any(|it| source.contains(&format!("\"{it}\"")));
        assert!(given, "nothing gives the code {code}");
    }
}

#[test]
fn every_example_is_named_in_a_document() {
    let text: String = DOCUMENTS.iter().map(|it| read(it)).collect();
    for file in fs::read_dir(root().join("examples")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(text.contains(&format!("examples/{name}")), "no document names {name}");
    }
}

#[test]
fn every_file_that_a_document_links_to_is_there() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|it| it.split(')').next()) {
            let is_ours = !link.starts_with("http") && !link.starts_with('#');
            assert!(!is_ours || root().join(link).exists(), "{document}: there is no {link}");
        }
    }
}

#[test]
fn every_source_file_that_a_document_names_is_there() {
    for document in DOCUMENTS {
        let text = read(document);
        let words = text.split(|it: char| it.is_whitespace() || "`(),".contains(it));
        for path in words.filter(|it| ["src/", "tests/"].iter().any(|top| it.starts_with(top))) {
            let path = path.trim_end_matches(['.', ':', ';']);
            let is_pattern = path.contains('*');
            assert!(is_pattern || root().join(path).exists(), "{document}: there is no {path}");
        }
    }
}

/// Loads `text` as a main file, with the secret files that the README names beside it.
#[track_caller]
fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("renewd.toml");
    atomic::write(&main, text.as_bytes(), Access::mode(0o644)).unwrap();
    let secret = folder.path().join("webhook.key");
    atomic::write(&secret, b"whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ=", Access::mode(0o600)).unwrap();
    config::load(&main, &Environment::default()).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// The part of `text` from the heading that begins with `heading` to the next of its level.
#[track_caller]
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading}")) + 1;
    let rest = text.get(start..).unwrap();
    let level = heading.split(' ').next().unwrap();
    let end = rest.find(&format!("\n{level} ")).unwrap_or(rest.len());
    rest.get(..end).unwrap()
}

/// The cells of each row of the tables in `text`, without heads and rules.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &&str| line.starts_with("|---");
    let is_head = |at: usize| lines.get(at + 1).is_some_and(is_rule);
    let table = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| line.starts_with('|') && !is_rule(line) && !is_head(*at));
    table
        .map(|(_, line)| {
            let line = line.replace("\\|", "/");
            let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
            inner.split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// What stands in backticks in `text`.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The contents of the fenced blocks of `language` in `text`, without their indentation.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        open = match open.take() {
            Some((_, block)) if line.trim() == "```" => {
                blocks.push(block);
                None
            }
            Some((indent, block)) => {
                Some((indent, format!("{block}{}\n", line.get(indent..).unwrap_or_default())))
            }
            None if line.trim() == format!("```{language}") => Some((indent, String::new())),
            None => None,
        };
    }
    blocks
}

/// The names of all functions that stand under a test attribute.
fn test_names() -> BTreeSet<String> {
    test_names_in(&["src", "tests"])
}

/// Those below the folders and in the files `places`.
fn test_names_in(places: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in places.iter().flat_map(|it| files(&root().join(it), "rs")) {
        let text = fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
            let name = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some(name) = name.and_then(|it| it.split('(').next()).filter(|_| is_test) {
                names.insert(name.to_owned());
                is_test = false;
            }
        }
    }
    names
}

/// All files below `folder` that end in `extension`, or itself if it is a file.
/// The rows of the fault catalogue that each test's doc comment begins with: `D01, D03: what …`.
fn rows_of_tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut carried: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in ["src", "tests"].iter().flat_map(|it| files(&root().join(it), "rs")) {
        let text = fs::read_to_string(file).unwrap();
        let mut comment = Vec::new();
        for line in text.lines().map(str::trim) {
            let name = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some((name, _)) = name.and_then(|it| it.split_once('(')) {
                let head = comment.first().and_then(|it: &&str| it.split_once(": "));
                let ids = head.map(|(ids, _)| ids.split(", ").map(str::to_owned).collect());
                carried
                    .entry(name.to_owned())
                    .or_default()
                    .extend(ids.unwrap_or_else(BTreeSet::new));
            }
            match line.strip_prefix("/// ") {
                Some(words) => comment.push(words),
                None if line.starts_with("#[") => {}
                None => comment.clear(),
            }
        }
    }
    carried
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
