//! Reads typed values out of a [`Node`], going on after each fault.
//!
//! [`Field`] is what a key can hold; [`Reading`] collects the faults. The types that stand as one
//! text are in [`super::text`], the tables with known keys in [`super::shape`].

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::fault::Fault;
use super::shape::Shape;
use super::suggest;
use super::tree::{Node, Place, Table, Value};

/// A value, its place, and its key with the tables it stands in.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
    pub(super) key: String,
}

impl<T> At<T> {
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(&self.place, &self.key, message)
    }

    /// Another value at the same place.
    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, place: self.place.clone(), key: self.key.clone() }
    }
}

/// What a key can hold.
pub(super) trait Field: Sized {
    /// Reads `node`; `None` if there is nothing to go on with. Every fault goes to `reading`.
    fn read(node: &Node, reading: &mut Reading) -> Option<Self>;

    /// The value as the configuration would write it; `None` if it can't stand in one line.
    fn show(&self) -> Option<String>;

    /// What it looks like, for editors and validators.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl<T: Field> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// The faults of one entry while it is read, and the key that is being read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    path: Vec<String>,
    pub(super) faults: Vec<Fault>,
}

impl Reading {
    /// Begins at `path`.
    pub(super) fn of(path: &[&str]) -> Self {
        Self { path: path.iter().map(|it| (*it).to_owned()).collect(), faults: Vec::new() }
    }

    /// A new reading, with faults of its own, one key below this one.
    fn below(&self, key: &str) -> Self {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Self { path, faults: Vec::new() }
    }

    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Notes a fault of the key that is being read.
    pub(super) fn fault(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let fault = Fault::at(place, &self.key(), message);
        self.faults.push(Fault { hint, ..fault });
    }

    /// Says that `node` is not `wanted`.
    pub(super) fn expected(&mut self, wanted: &str, node: &Node, hint: Option<String>) {
        let message = format!("expected {wanted}, found {}", node.value.kind());
        self.fault(&node.place, message, hint);
    }

    /// Reads `key` of `table`, if it is there.
    pub(super) fn field<T: Field>(&mut self, table: &Table, key: &str) -> Option<At<T>> {
        let entry = table.get(key)?;
        self.path.push(key.to_owned());
        let value = T::read(&entry.node, self);
        let at = value.map(|value| At { value, place: entry.place.clone(), key: self.key() });
        self.path.pop();
        at
    }

    /// Faults every key of `table` that `S` does not know.
    fn refuse_unknown<S: Shape>(&mut self, table: &Table) {
        let known: Vec<&str> = S::FIELDS.iter().map(|it| it.key).collect();
        for entry in &table.entries {
            if !known.contains(&entry.key.as_str()) {
                self.path.push(entry.key.clone());
                let hint = suggest::for_key(&entry.key, &known);
                self.fault(&entry.place, "there is no such key here", hint);
                self.path.pop();
            }
        }
    }
}

/// Reads a table whose keys are those of `S`.
pub(super) fn read_shape<S: Shape>(node: &Node, reading: &mut Reading) -> Option<S> {
    let Value::Table(table) = &node.value else {
        reading.expected("a table", node, None);
        return None;
    };
    reading.refuse_unknown::<S>(table);
    Some(S::read_fields(table, reading))
}

impl Field for bool {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::Flag(flag) = node.value else {
            let quoted = matches!(&node.value, Value::Text(it) if it == "true" || it == "false");
            let hint = quoted.then(|| "write it without quotes".to_owned());
            reading.expected("true or false", node, hint);
            return None;
        };
        Some(flag)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A number from 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) usize);

impl Field for Count {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::Number(number) = &node.value else {
            reading.expected("a number", node, None);
            return None;
        };
        match number.parse() {
            Ok(count @ 1..=1000) => Some(Self(count)),
            _ => {
                let message = format!("{number} is not a number from 1 to 1000");
                reading.fault(&node.place, message, None);
                None
            }
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 1000 })
    }
}

/// A path; a relative one is relative to the file it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) PathBuf);

impl Field for FilePath {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let text = String::read(node, reading)?;
        Some(Self(beside(&node.place, &text)))
    }

    fn show(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// `path`, taken as relative to the folder of the file of `place`.
pub(super) fn beside(place: &Place, path: &str) -> PathBuf {
    place.file().parent().unwrap_or_else(|| Path::new("")).join(path)
}

impl<T: Field> Field for Vec<At<T>> {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let hint = match &node.value {
                Value::Text(text) => Some(format!("write [{text:?}]")),
                _ => None,
            };
            reading.expected("a list", node, hint);
            return None;
        };
        let key = reading.key();
        let mut read = Self::new();
        for item in items {
            if let Some(value) = T::read(item, reading) {
                read.push(At { value, place: item.place.clone(), key: key.clone() });
            }
        }
        Some(read)
    }

    fn show(&self) -> Option<String> {
        let items: Option<Vec<String>> = self.iter().map(|it| it.value.show()).collect();
        items.map(|items| format!("[{}]", items.join(", ")))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<At<T>>);

impl<T: Field> Field for OneOrMany<T> {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        if matches!(node.value, Value::List(_)) {
            let list = Vec::read(node, reading)?;
            return Some(Self(list));
        }
        let value = T::read(node, reading)?;
        Some(Self(vec![At { value, place: node.place.clone(), key: reading.key() }]))
    }

    fn show(&self) -> Option<String> {
        match self.0.as_slice() {
            [one] => one.value.show(),
            _ => self.0.show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A table of texts whose keys are not known here.
#[derive(Clone, Debug)]
pub(super) struct Texts(pub(super) Vec<(String, At<String>)>);

impl Field for Texts {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            reading.expected("a table of texts", node, None);
            return None;
        };
        let keys = table.entries.iter().map(|it| it.key.clone());
        let texts = keys.filter_map(|key| Some((key.clone(), reading.field(table, &key)?)));
        Some(Self(texts.collect()))
    }

    fn show(&self) -> Option<String> {
        let texts =
            self.0.iter().filter_map(|(key, at)| Some(format!("{key} = {}", at.value.show()?)));
        Some(format!("{{ {} }}", texts.collect::<Vec<_>>().join(", ")))
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// A key that is known and refused: it comes with a later version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later;

impl Field for Later {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let hint = "take it out; this version would not heed it";
        reading.fault(&node.place, "comes with a later version", Some(hint.to_owned()));
        None
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!(false)
    }
}

/// One table of many of its kind: read apart from the others, so that it can be refused alone.
#[derive(Clone, Debug)]
pub(super) struct Item<T> {
    /// The key that names it; empty in a list of tables.
    pub(super) label: String,
    /// Where it begins.
    pub(super) place: Place,
    /// The tables it stands in and its name, such as `ca.lab`.
    pub(super) key: String,
    /// What could be read of it.
    pub(super) shape: T,
    /// The keys it holds, with those that could not be read.
    pub(super) keys: Vec<String>,
    /// What was wrong with it so far.
    pub(super) faults: Vec<Fault>,
}

impl<T: Shape> Item<T> {
    fn read(node: &Node, label: &str, place: &Place, mut reading: Reading) -> Self {
        let shape = read_shape(node, &mut reading).unwrap_or_default();
        let keys = match &node.value {
            Value::Table(table) => table.entries.iter().map(|it| it.key.clone()).collect(),
            _ => Vec::new(),
        };
        let (label, place, key) = (label.to_owned(), place.clone(), reading.key());
        Self { label, place, key, shape, keys, faults: reading.faults }
    }
}

impl<T> Item<T> {
    /// Whether it holds `key`, be it readable or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|it| it == key)
    }

    /// A fault of the entry as a whole, or of a `key` that is missing.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(&self.place, &self.key, message)
    }
}

/// Tables by name, such as `[ca.*]`.
#[derive(Clone, Debug)]
pub(super) struct Entries<T>(pub(super) Vec<Item<T>>);

impl<T: Shape> Field for Entries<T> {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            let wanted = format!("tables such as [{}.NAME]", reading.key());
            reading.expected(&wanted, node, None);
            return None;
        };
        let item = |entry: &super::tree::Entry| {
            Item::read(&entry.node, &entry.key, &entry.place, reading.below(&entry.key))
        };
        Some(Self(table.entries.iter().map(item).collect()))
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}

/// A list of tables, such as `[[certificate]]`.
#[derive(Clone, Debug)]
pub(super) struct Items<T>(pub(super) Vec<Item<T>>);

impl<T: Shape> Field for Items<T> {
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let hint = matches!(node.value, Value::Table(_))
                .then(|| format!("write [[{}]], with two brackets, for each", reading.key()));
            reading.expected("a list of tables", node, hint);
            return None;
        };
        let item = |it: &Node| Item::read(it, "", &it.place, Reading::of(&[&reading.key()]));
        Some(Self(items.iter().map(item).collect()))
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}
