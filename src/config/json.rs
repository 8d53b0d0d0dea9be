//! JSON as a tree in which every value knows its line.
//!
//! `serde_json` tells no places while it reads, but it takes a reader's bytes one by one and looks
//! at most one byte ahead: so the reader counts lines, and the visitor asks it. A test holds
//! `serde_json` to that.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fault::Fault;
use super::tree::{Entry, Node, Place, Table, Value};

/// Parses `text`, the content of `file`, as JSON.
///
/// # Errors
///
/// The first syntax error, or a key that stands twice in one table.
pub(super) fn parse_json(text: &str, file: &Arc<Path>) -> Result<Table, Vec<Fault>> {
    let position = Position { file, line: Cell::new(1) };
    let reader = Counted { rest: text.as_bytes(), line: &position.line };
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let parsed = Seed(&position).deserialize(&mut parser).and_then(|node| {
        parser.end()?;
        Ok(node)
    });
    match parsed {
        Ok(Node { value: Value::Table(table), .. }) => Ok(table),
        Ok(node) => {
            let message = format!("expected an object, found {}", node.value.kind());
            Err(vec![Fault::at(&node.place, "", message)])
        }
        Err(error) => {
            let line = if error.line() == 0 { position.line.get() } else { error.line() };
            let text = error.to_string();
            // serde_json ends its message with the place, which stands in front here.
            let message = text.split(" at line ").next().unwrap_or_default();
            Err(vec![Fault::at(&Place::File(Arc::clone(file), line), "", message)])
        }
    }
}

/// A reader that counts the lines it has handed out.
struct Counted<'a> {
    rest: &'a [u8],
    line: &'a Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.rest.read(buffer)?;
        let read = buffer.get(..length).unwrap_or_default();
        self.line.set(self.line.get() + read.iter().filter(|it| **it == b'\n').count());
        Ok(length)
    }
}

struct Position<'a> {
    file: &'a Arc<Path>,
    line: Cell<usize>,
}

impl Position<'_> {
    fn place(&self) -> Place {
        Place::File(Arc::clone(self.file), self.line.get())
    }
}

/// Reads one value into a [`Node`].
#[derive(Clone, Copy)]
struct Seed<'a>(&'a Position<'a>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let place = self.0.place();
        let value = deserializer.deserialize_any(self)?;
        Ok(Node { place, value })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut table = Table::default();
        while let Some(key) = members.next_key::<String>()? {
            let place = self.0.place();
            if let Some(first) = table.get(&key).and_then(|it| it.place.line()) {
                return Err(serde::de::Error::custom(format_args!(
                    "{key:?} stands here a second time, first in line {first}"
                )));
            }
            let node = members.next_value_seed(self)?;
            table.entries.push(Entry { key, place, node });
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<Path> {
        Arc::from(Path::new("a.json"))
    }

    #[test]
    fn every_key_and_item_knows_its_line() {
        let text = "{\n \"a\": [\n  1\n ,\n  \"x\"],\n\n \"b\":\n {\"c\": true}\n}\n";
        let table = parse_json(text, &file()).unwrap();
        let line = |place: &Place| place.line().unwrap();
        assert_eq!(line(&table.entries[0].place), 2);
        let Value::List(items) = &table.entries[0].node.value else { panic!("no list") };
        assert_eq!((line(&items[0].place), line(&items[1].place)), (3, 5));
        assert_eq!(line(&table.entries[1].place), 7);
        let Value::Table(inner) = &table.entries[1].node.value else { panic!("no table") };
        assert_eq!(line(&inner.entries[0].place), 8);
    }

    #[test]
    fn syntax_errors_have_their_line() {
        let faults = parse_json("{\n \"a\": 1,\n \"b\" 2\n}", &file()).unwrap_err();
        assert_eq!((faults[0].line, faults[0].message.as_str()), (Some(3), "expected `:`"));
        let faults = parse_json("{\"a\": 1}\n}", &file()).unwrap_err();
        assert_eq!(faults[0].line, Some(2));
    }

    #[test]
    fn a_key_that_stands_twice_is_told_with_both_places() {
        let faults = parse_json("{\n \"a\": 1,\n \"a\": 2\n}", &file()).unwrap_err();
        assert_eq!(faults[0].line, Some(3));
        assert_eq!(faults[0].message, "\"a\" stands here a second time, first in line 2");
    }
}
