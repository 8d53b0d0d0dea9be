//! What fuzzing feeds to this module: files as anybody may write them who may write one that is
//! included.
//!
//! Built with the feature `fuzzing` alone. `tests/fuzz` calls it with what it makes up, and
//! `tests/seeds.rs` with what is kept; a panic is a finding.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{Fault, Severity};
use super::files::{Documents, TABLES, parse};
use super::raw::RawFile;
use super::secret::Secrets;
use super::{Environment, resolve, show};

/// The main file of what an included one is tried in.
const MAIN: &str = "terms_of_service_agreed = true\ninclude = []\n";

/// Takes `text` for a main file, and for one that is included; for JSON if it begins with a brace.
pub fn file(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let name = if text.trim_start().starts_with('{') { "renewd.json" } else { "renewd.toml" };
    let file: Arc<Path> = Arc::from(Path::new("/nonexistent").join(name));
    match parse(&text, &file, None) {
        Ok((main, faults)) => check(documents(main, Vec::new(), faults)),
        Err(faults) => faults.iter().for_each(check_fault),
    }
    let included: Arc<Path> = Arc::from(Path::new("/nonexistent/conf.d").join(name));
    let Ok((raw, faults)) = parse(&text, &included, Some(&TABLES)) else { return };
    let faults: Vec<Fault> =
        faults.into_iter().map(|it| it.severity(Severity::Rejection)).collect();
    if let Ok((main, _none)) = parse(MAIN, &file, None) {
        let documents = documents(main, vec![raw], faults);
        let included_files = BTreeSet::from([included.to_path_buf()]);
        check(Documents { included_files, ..documents });
    }
}

fn documents(main: RawFile, included: Vec<RawFile>, faults: Vec<Fault>) -> Documents {
    let main_file: Arc<Path> = Arc::from(Path::new("/nonexistent/renewd.toml"));
    let (included_files, unreadable) = (BTreeSet::new(), BTreeSet::new());
    let watched: BTreeSet<PathBuf> = BTreeSet::new();
    Documents { main, main_file, included, faults, included_files, unreadable, watched }
}

fn check(documents: Documents) {
    let is_included = !documents.included.is_empty();
    match resolve::resolve(documents, &Environment::default(), Secrets::PassOver) {
        Ok(config) => {
            config.warnings.iter().for_each(check_fault);
            let shown = show(&config, None);
            assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
            drop(config.credentials());
            for certificate in &config.certificates {
                assert!(!certificate.identifiers.is_empty(), "{}", certificate.name);
            }
        }
        Err(faults) => {
            assert!(!is_included, "what is included stops the main file: {faults}");
            faults.iter().for_each(check_fault);
        }
    }
}

/// A fault is shown to administrators, whoever wrote the file.
fn check_fault(fault: &Fault) {
    let text = fault.to_string();
    assert!(!text.replace("\n  ", "").contains(char::is_control), "{text:?}");
}
