//! A configuration file as a tree in which every value knows its place.
//!
//! serde stops at its first error; a tree can be walked to the end. Made from TOML here and from
//! JSON in [`super::json`]; what the keys mean is not known here.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A line of a file, counted from 1.
    File(Arc<Path>, usize),
    /// A variable of the environment.
    Variable(&'static str),
    /// The program itself.
    BuiltIn,
}

impl Place {
    /// The file, or what stands for it in messages.
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::File(file, _) => file,
            Self::Variable(name) => Path::new(name),
            Self::BuiltIn => Path::new("built-in"),
        }
    }

    pub(super) const fn line(&self) -> Option<usize> {
        match self {
            Self::File(_, line) => Some(*line),
            Self::Variable(_) | Self::BuiltIn => None,
        }
    }

    pub(super) const fn is_built_in(&self) -> bool {
        matches!(self, Self::BuiltIn)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value of any kind that TOML and JSON share.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// As written.
    Number(String),
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// A kind that no key takes, by its name: a date, null.
    Other(&'static str),
}

impl Value {
    /// What it is, for "expected …, found …".
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a bare number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Keys and values, in the order of their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|it| it.key == key)
    }
}

/// One key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands; its value may begin later.
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Parses `text`, the content of `file`, as TOML 1.1.
///
/// # Errors
///
/// Every syntax error that the parser can tell apart.
pub(super) fn parse_toml(text: &str, file: &Arc<Path>) -> Result<Table, Vec<Fault>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let place = |offset| Place::File(Arc::clone(file), lines.at(offset));
        return Ok(convert_table(table.into_inner(), &place));
    }
    Err(errors.iter().map(|it| syntax_fault(it, text, &lines, file)).collect())
}

/// Parses `text`, which is the program's own, as TOML; every place is "built-in".
pub(super) fn parse_built_in(text: &str) -> Table {
    let (table, _errors) = DeTable::parse_recoverable(text);
    convert_table(table.into_inner(), &|_offset| Place::BuiltIn)
}

fn syntax_fault(error: &toml::de::Error, text: &str, lines: &Lines, file: &Arc<Path>) -> Fault {
    let line = lines.at(error.span().map_or(text.len(), |it| it.start));
    let fault = Fault::at(&Place::File(Arc::clone(file), line), "", error.message());
    if error.message() != "duplicate key" {
        return fault;
    }
    let Some((first, key)) = first_of_duplicate(text, line) else { return fault };
    let message = format!("{key} stands here a second time, first in line {first}");
    Fault { message, ..fault }.hint("put both into one, or name one of them otherwise")
}

/// The line that the key or table of `line` stands in first, and its text.
fn first_of_duplicate(text: &str, line: usize) -> Option<(usize, String)> {
    let key_of = |text: &str| {
        let text = text.trim();
        let end =
            if text.starts_with('[') { text.rfind(']').map(|it| it + 1) } else { text.find('=') };
        end.and_then(|it| text.get(..it)).map(|it| it.trim().to_owned())
    };
    let wanted = key_of(text.lines().nth(line.saturating_sub(1))?)?;
    let earlier: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    let is_table = wanted.starts_with('[');
    for (index, candidate) in earlier.iter().enumerate().rev() {
        if key_of(candidate).as_ref() == Some(&wanted) {
            return Some((index + 1, wanted));
        }
        if !is_table && candidate.trim_start().starts_with('[') {
            return None;
        }
    }
    None
}

fn convert_table(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    let mut entries: Vec<(usize, Entry)> = table
        .into_iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let node = convert(value, place);
            (start, Entry { key: key.into_inner().into_owned(), place: place(start), node })
        })
        .collect();
    entries.sort_by_key(|(start, _)| *start);
    Table { entries: entries.into_iter().map(|(_, entry)| entry).collect() }
}

fn convert(value: toml::Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Node {
    let start = value.span().start;
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Number(number.to_string()),
        DeValue::Float(number) => Value::Number(number.to_string()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|it| convert(it, place)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, place)),
    };
    Node { place: place(start), value }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, it)| *it == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    /// The number of the line that holds the byte at `offset`, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).max(1)
    }
}
