//! Prints what is in force, and where each value comes from.

use std::fmt::Write;

use crate::model::{CaName, CertificateName, SolverName, TargetName, escaped};

use super::Config;
use super::shape::Line;
use super::tree::Place;

/// What a [`Section`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Settings,
    Ca(CaName),
    Solver(SolverName),
    Target(TargetName),
    Certificate(CertificateName),
    Alerts,
    Alert(String),
}

/// What is in force of one table.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) topic: Topic,
    pub(super) lines: Vec<Line>,
}

/// What is in force: of everything, or of one certificate and what it uses. One value a line, as
/// the configuration would write it, with its place behind a `#`. Secrets are not shown.
///
/// Empty if there is no certificate of that name.
#[must_use]
pub fn show(config: &Config, certificate: Option<&CertificateName>) -> String {
    let mut text = String::new();
    for section in &config.shown {
        if is_wanted(section, config, certificate) {
            if !text.is_empty() {
                text.push('\n');
            }
            write_section(&mut text, section);
        }
    }
    text
}

/// Whether `section` is shown: what nothing uses and nobody wrote is not.
fn is_wanted(section: &Section, config: &Config, certificate: Option<&CertificateName>) -> bool {
    let mut specs = config
        .certificates
        .iter()
        .filter(|it| certificate.is_none_or(|certificate| it.name == *certificate));
    let is_written = section.lines.iter().any(|it| !it.place.is_built_in());
    let all = certificate.is_none() && is_written;
    match &section.topic {
        Topic::Settings | Topic::Alerts | Topic::Alert(_) => certificate.is_none(),
        Topic::Certificate(name) => specs.any(|it| it.name == *name),
        Topic::Ca(name) => all || specs.any(|it| it.cas.contains(name)),
        Topic::Solver(name) => all || specs.any(|it| it.solvers.values().any(|it| it == name)),
        Topic::Target(name) => all || specs.any(|it| it.targets.contains(name)),
    }
}

fn write_section(text: &mut String, section: &Section) {
    let header = match &section.topic {
        Topic::Settings => None,
        Topic::Ca(name) => Some(format!("[ca.{name}]")),
        Topic::Solver(name) => Some(format!("[solver.{name}]")),
        Topic::Target(name) => Some(format!("[target.{name}]")),
        Topic::Certificate(name) => Some(format!("[[certificate]]  # {name}")),
        Topic::Alerts => Some("[alerts]".to_owned()),
        Topic::Alert(name) => Some(format!("[[alert]]  # {name}")),
    };
    if let Some(header) = header {
        text.push_str(&header);
        text.push('\n');
    }
    for line in &section.lines {
        // Keys of a tenant's are among the values, and names of files and groups in the origin.
        let line = format!("{} = {}  # {}", line.key, line.value, origin(line));
        // Writing to a String never fails.
        let _written = writeln!(text, "{}", escaped(&line));
    }
}

fn origin(line: &Line) -> String {
    let whose = match line.path.split('.').collect::<Vec<_>>().as_slice() {
        ["group", name, ..] => format!(", group {name}"),
        ["defaults", ..] => ", defaults".to_owned(),
        _ => String::new(),
    };
    match &line.place {
        Place::File(file, number) => format!("{}:{number}{whose}", file.display()),
        Place::Variable(name) => format!("variable {name}"),
        Place::BuiltIn => "built-in".to_owned(),
    }
}
