//! Secrets from where they stand: a file, a credential of systemd's, a variable.
//!
//! No message holds any part of a secret.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::model::Secret;

use super::Environment;
use super::exposure;
use super::fault::Fault;
use super::field::{At, FilePath};
use super::text::SecretText;

/// No secret is larger.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// What a secret looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One line.
    Line,
    /// A document of several lines: a key file, a key in PEM, JSON.
    Document,
}

/// The keys that one secret can be given by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sources<'a> {
    /// In the configuration itself: only for URLs, which are secrets just sometimes.
    pub(super) inline: Option<&'a At<SecretText>>,
    pub(super) file: Option<&'a At<FilePath>>,
    pub(super) credential: Option<&'a At<String>>,
    pub(super) variable: Option<&'a At<String>>,
}

/// Whether secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// They are, and one that can't be is a fault.
    Read,
    /// They are not: as if none were named.
    PassOver,
}

impl Sources<'_> {
    /// As [`Sources::read_as`], of a secret that is one line.
    pub(super) fn read(
        self,
        secrets: Secrets,
        environment: &Environment,
        watched: &mut BTreeSet<PathBuf>,
        faults: &mut Vec<Fault>,
    ) -> Option<At<Secret>> {
        self.read_as(Form::Line, secrets, environment, watched, faults)
    }

    /// The secret, with the place that names it; `None` if none is named or a fault was found, or
    /// if `secrets` are not read.
    pub(super) fn read_as(
        self,
        form: Form,
        secrets: Secrets,
        environment: &Environment,
        watched: &mut BTreeSet<PathBuf>,
        faults: &mut Vec<Fault>,
    ) -> Option<At<Secret>> {
        if secrets == Secrets::PassOver {
            return None;
        }
        let mut found: Vec<Result<At<Secret>, Fault>> = Vec::new();
        if let Some(at) = self.inline {
            found.push(Ok(at.with(at.value.0.clone())));
        }
        if let Some(at) = self.file {
            watched.insert(at.value.0.clone());
            found.push(from_file(at, &at.value.0, Readers::OwnerAndGroup, form));
        }
        if let Some(at) = self.credential {
            found.push(from_credential(at, environment, watched, form));
        }
        if let Some(at) = self.variable {
            found.push(from_variable(at, environment, form));
        }
        if found.len() > 1 {
            let key = |it: &Result<At<Secret>, Fault>| match it {
                Ok(at) => Some(at.fault("is given twice")),
                Err(fault) => Some(Fault { message: "is given twice".to_owned(), ..fault.clone() }),
            };
            let fault = found.last().and_then(key);
            faults.extend(fault.map(|it| it.hint("keep one of the keys that name it")));
            return None;
        }
        match found.pop()? {
            Ok(at) => Some(at),
            Err(fault) => {
                faults.push(fault);
                None
            }
        }
    }
}

/// Who may read a secret's file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    OwnerAndGroup,
    /// systemd sees to it.
    Any,
}

fn from_credential(
    at: &At<String>,
    environment: &Environment,
    watched: &mut BTreeSet<PathBuf>,
    form: Form,
) -> Result<At<Secret>, Fault> {
    let name = &at.value;
    if name.contains('/') || name.starts_with('.') {
        return Err(at.fault(format!("{name:?} is not the name of a credential")));
    }
    let Some(directory) = &environment.credentials_directory else {
        let message = format!("there is no credential {name:?}: systemd has passed none");
        return Err(at
            .fault(message)
            .hint(format!("add `LoadCredential={name}:/path` to the unit")));
    };
    let path = directory.join(name);
    watched.insert(path.clone());
    from_file(at, &path, Readers::Any, form)
}

fn from_variable(
    at: &At<String>,
    environment: &Environment,
    form: Form,
) -> Result<At<Secret>, Fault> {
    let name = &at.value;
    let Some(value) = environment.variables.get(name) else {
        return Err(at.fault(format!("the variable {name} is not set")));
    };
    cleaned(value, form)
        .map(|it| at.with(it))
        .map_err(|fault| at.fault(format!("the variable {name} {fault}")))
}

fn from_file<T>(
    at: &At<T>,
    path: &Path,
    readers: Readers,
    form: Form,
) -> Result<At<Secret>, Fault> {
    let shown = path.display();
    let failed = |error: std::io::Error| at.fault(format!("{shown} cannot be read: {error}"));
    // Asked before it is opened: to open a pipe would wait for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(at.fault(format!("{shown} is not a regular file")));
    }
    let mut opened = fs::File::open(path).map_err(failed)?;
    if readers == Readers::OwnerAndGroup {
        let metadata = opened.metadata().map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            let message =
                format!("{shown} holds a secret that everybody can reach (mode {mode:04o})");
            return Err(at.fault(message).hint(format!("chmod o-rwx {shown}")));
        }
        if let Some(found) = exposure::of(path, &metadata).map_err(failed)? {
            return Err(at.fault(format!("{shown} {}", found.message)).hint(found.remedy));
        }
    }
    let mut text = Zeroizing::new(String::new());
    let read = Read::by_ref(&mut opened).take(MAX_SECRET_BYTES + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    cleaned(&text, form).map(|it| at.with(it)).map_err(|fault| at.fault(format!("{shown} {fault}")))
}

/// `text` without what editors and `echo` add, or what is wrong with it.
fn cleaned(text: &str, form: Form) -> Result<Secret, &'static str> {
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err("is too long for a secret");
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("is empty");
    }
    let is_fine = |it: char| form == Form::Document && matches!(it, '\n' | '\r' | '\t');
    if text.chars().any(|it| it.is_control() && !is_fine(it)) {
        return Err("holds more than one line, or control characters");
    }
    Ok(Secret::new(text.to_owned()))
}
