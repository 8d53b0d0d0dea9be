//! What can be wrong with a configuration, and how it is told: file, line, key, message, hint.
//!
//! Not here: finding it.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::{Explain, Retry, escaped};

use super::tree::Place;

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused as a whole.
    Error,
    /// One entry, or one included file, is refused; the rest holds.
    Rejection,
    /// Everything holds, but the operator should know.
    Warning,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file it stands in.
    pub file: PathBuf,
    /// The line, counted from 1; `None` for what is wrong with the file as a whole.
    pub line: Option<usize>,
    /// The key, with the tables it stands in, such as `ca.lab.directory`.
    pub key: Option<String>,
    /// What is wrong; never holds a secret.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// What follows.
    pub severity: Severity,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        let severity = Severity::Error;
        Self { file: file.to_owned(), line: None, key: None, message, hint: None, severity }
    }

    /// A fault at `place`.
    pub(super) fn at(place: &Place, key: &str, message: impl Into<String>) -> Self {
        Self {
            line: place.line(),
            key: (!key.is_empty()).then(|| key.to_owned()),
            ..Self::of_file(place.file(), message)
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

impl fmt::Display for Fault {
    /// What a file says may come from a tenant: none of it can write to a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", escaped(&self.file.to_string_lossy()))?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {}:", escaped(key))?;
        }
        write!(f, " {}", escaped(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", escaped(hint))?;
        }
        Ok(())
    }
}

/// All that is wrong with a configuration, by file and line. Prints each on lines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `faults` in the order of files and lines, none twice.
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(sorted(faults))
    }

    /// The faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// How many they are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, which no refused configuration has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `faults` in the order of files and lines, none twice: a faulty default is found once for each
/// certificate that it is for.
pub(super) fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    // Stable, so that faults of one line stay in the order they were found in.
    faults.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let mut single: Vec<Fault> = Vec::with_capacity(faults.len());
    for fault in faults {
        if !single.contains(&fault) {
            single.push(fault);
        }
    }
    single
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Faults {}

impl Explain for Faults {
    fn code(&self) -> &'static str {
        "config.rejected"
    }

    fn retry(&self) -> Retry {
        Retry::AfterChange
    }

    fn hint(&self) -> Option<String> {
        Some("correct the configuration; `renewd check` says whether it is right".to_owned())
    }
}
