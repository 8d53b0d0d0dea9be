//! Reads the main file and the files it includes, each as a tree and then as [`RawFile`].
//!
//! Refuses files that others may write or replace. A file that can't be read or parsed is refused
//! alone if it is an included one. What the values mean is [`super::resolve`]'s business.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::digest;
use super::exposure;
use super::fault::{Fault, Faults, Severity};
use super::field::{At, Reading, beside, read_shape};
use super::json::parse_json;
use super::raw::RawFile;
use super::tree::{Node, Place, Table, Value, parse_toml};
use crate::model::Fingerprint;

/// No file of a configuration is larger: thousands of certificates fit.
pub(super) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What an included file may hold.
pub(super) const TABLES: [&str; 6] = ["certificate", "target", "solver", "ca", "group", "alert"];

/// What is included where the main file does not say.
const INCLUDED_BY_DEFAULT: [&str; 2] = ["conf.d/*.toml", "conf.d/*.json"];

const SETTING_HINT: &str = "put it into the main file; an included file holds tables of \
                            certificates, targets, solvers, CAs, groups and alerts";

/// The files of a configuration, the main file first.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) main: RawFile,
    pub(super) main_file: Arc<Path>,
    pub(super) included: Vec<RawFile>,
    pub(super) faults: Vec<Fault>,
    pub(super) included_files: BTreeSet<PathBuf>,
    /// Included files of which nothing could be read.
    pub(super) unreadable: BTreeSet<PathBuf>,
    /// Files and folders whose change may change the configuration.
    pub(super) watched: BTreeSet<PathBuf>,
}

/// Files as they were just before they were read.
#[derive(Debug)]
pub(super) struct Snapshot {
    main: (Vec<PathBuf>, Fingerprint),
    all: (Vec<PathBuf>, Fingerprint),
}

impl Snapshot {
    /// Whether they are the same now, so that what was read is what is there.
    pub(super) fn holds(&self) -> bool {
        [&self.main, &self.all].iter().all(|(files, seen)| digest(files) == *seen)
    }
}

/// Reads `main_file` and all that it includes.
///
/// # Errors
///
/// What keeps the main file from being read or parsed. All other faults are in the result.
pub(super) fn read_all(main_file: &Path) -> Result<(Documents, Snapshot), Faults> {
    let main_file = std::path::absolute(main_file).unwrap_or_else(|_| main_file.to_owned());
    let main_file: Arc<Path> = Arc::from(main_file);
    let main_alone = vec![main_file.to_path_buf()];
    let main_seen = digest(&main_alone);
    let (main, faults) = read_file(&main_file, None).map_err(Faults::new)?;

    let mut documents = Documents {
        main,
        main_file: Arc::clone(&main_file),
        included: Vec::new(),
        faults,
        included_files: BTreeSet::new(),
        unreadable: BTreeSet::new(),
        watched: BTreeSet::from([main_file.to_path_buf()]),
    };
    let patterns = match &documents.main.include {
        Some(include) => include.value.clone(),
        None => INCLUDED_BY_DEFAULT.map(|it| included_by_default(&main_file, it)).to_vec(),
    };
    let mut included = Vec::new();
    let mut known = BTreeSet::from([main_file.to_path_buf()]);
    for pattern in &patterns {
        included
            .extend(documents.expand(pattern).into_iter().filter(|it| known.insert(it.clone())));
    }
    documents.watched.extend(known);
    let all: Vec<_> = documents.watched.iter().cloned().collect();
    let seen = digest(&all);
    let snapshot = Snapshot { main: (main_alone, main_seen), all: (all, seen) };
    included.iter().for_each(|it| documents.include(it));
    Ok((documents, snapshot))
}

/// `pattern`, as if the first line of `main_file` said it.
fn included_by_default(main_file: &Arc<Path>, pattern: &str) -> At<String> {
    let place = Place::File(Arc::clone(main_file), 1);
    At { value: pattern.to_owned(), place, key: "include".to_owned() }
}

impl Documents {
    /// The files that `pattern` names, in the alphabet's order.
    fn expand(&mut self, pattern: &At<String>) -> Vec<PathBuf> {
        let path = beside(&pattern.place, &pattern.value);
        let is_pattern = pattern.value.contains(['*', '?', '[']);
        if !is_pattern {
            self.watched.insert(path.clone());
            return vec![path];
        }
        if let Some(folder) = path.parent().filter(|it| it.is_dir()) {
            self.watched.insert(folder.to_owned());
        }
        let options =
            glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        let found = match glob::glob_with(&path.to_string_lossy(), options) {
            Ok(found) => found,
            Err(error) => {
                self.faults.push(pattern.fault(format!("{:?}: {}", pattern.value, error.msg)));
                return Vec::new();
            }
        };
        let mut files = Vec::new();
        for entry in found {
            match entry {
                Ok(file) => files.push(file),
                Err(error) => {
                    let message = format!("cannot be read: {}", error.error());
                    let fault = Fault::of_file(error.path(), message);
                    self.faults.push(fault.severity(Severity::Rejection));
                }
            }
        }
        files
    }

    fn include(&mut self, file: &Path) {
        self.included_files.insert(file.to_owned());
        let file: Arc<Path> = Arc::from(file);
        let faults = match read_file(&file, Some(&TABLES)) {
            Ok((raw, faults)) => {
                self.included.push(raw);
                faults
            }
            Err(faults) => {
                self.unreadable.insert(file.to_path_buf());
                faults
            }
        };
        let rejections = faults.into_iter().map(|it| it.severity(Severity::Rejection));
        self.faults.extend(rejections);
    }
}

/// Reads one file; of its keys at the top, `allowed` alone are read if given.
fn read_file(
    file: &Arc<Path>,
    allowed: Option<&[&str]>,
) -> Result<(RawFile, Vec<Fault>), Vec<Fault>> {
    let text = read_text(file).map_err(|fault| vec![fault])?;
    parse(&text, file, allowed)
}

/// Reads `text`, the content of `file`; of its keys at the top, `allowed` alone are read if given.
pub(super) fn parse(
    text: &str,
    file: &Arc<Path>,
    allowed: Option<&[&str]>,
) -> Result<(RawFile, Vec<Fault>), Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = file.extension().is_some_and(|it| it == "json");
    let mut table = if is_json { parse_json(text, file) } else { parse_toml(text, file) }?;

    let mut faults = Vec::new();
    if let Some(allowed) = allowed {
        faults = take_settings(&mut table, allowed);
    }
    let mut reading = Reading::default();
    let node = Node { place: Place::File(Arc::clone(file), 1), value: Value::Table(table) };
    let raw = read_shape(&node, &mut reading).unwrap_or_default();
    faults.append(&mut reading.faults);
    Ok((raw, faults))
}

/// Takes the settings out of an included `table`, each with a fault.
fn take_settings(table: &mut Table, allowed: &[&str]) -> Vec<Fault> {
    use super::shape::Shape;

    let is_setting =
        |key: &str| !allowed.contains(&key) && RawFile::FIELDS.iter().any(|field| field.key == key);
    let (settings, rest) =
        std::mem::take(&mut table.entries).into_iter().partition(|it| is_setting(&it.key));
    table.entries = rest;
    let settings: Vec<super::tree::Entry> = settings;
    let fault = |it: &super::tree::Entry| {
        Fault::at(&it.place, &it.key, "only the main file may say this").hint(SETTING_HINT)
    };
    settings.iter().map(fault).collect()
}

/// The text of `file`, which nobody but its owner may write, and which is root's where root reads
/// it.
fn read_text(file: &Path) -> Result<String, Fault> {
    let unreadable =
        |error: &std::io::Error| Fault::of_file(file, format!("cannot be read: {error}"));
    // Asked before it is opened: to open a pipe would wait for its other end.
    let metadata = fs::metadata(file).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(Fault::of_file(file, "is not a regular file"));
    }
    let mut opened = fs::File::open(file).map_err(|error| unreadable(&error))?;
    let metadata = opened.metadata().map_err(|error| unreadable(&error))?;
    if let Some(found) = exposure::of(file, &metadata).map_err(|error| unreadable(&error))? {
        return Err(Fault::of_file(file, found.message).hint(found.remedy));
    }
    // Root runs the programs that it names. Others may have to read what their administrator wrote.
    if rustix::process::geteuid().is_root() && metadata.uid() != 0 {
        let message = format!("belongs to the user {}, and root runs what it says", metadata.uid());
        let hint = format!("chown root {}", file.display());
        return Err(Fault::of_file(file, message).hint(hint));
    }
    let mut content = Vec::new();
    let limit = MAX_FILE_BYTES + 1;
    let read = Read::by_ref(&mut opened).take(limit).read_to_end(&mut content);
    read.map_err(|error| unreadable(&error))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Fault::of_file(file, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(content).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = valid.filter(|it| **it == b'\n').count() + 1;
        Fault { line: Some(line), ..Fault::of_file(file, "is not UTF-8") }
    })
}
