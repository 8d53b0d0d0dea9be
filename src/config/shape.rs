//! Tables with known keys.
//!
//! [`shape!`] makes a struct of optional, placed fields, and with it all that depends on the list
//! of its keys: reading, merging, built-in values, showing, the reference and the JSON Schema. So
//! a key is written down once, with its documentation and its default.

use super::field::{Field, Reading};
use super::tree::{self, Place, Table};

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldInfo {
    pub(super) key: &'static str,
    /// The lines of its documentation, as written.
    pub(super) doc: &'static [&'static str],
    /// Its built-in value, as TOML.
    pub(super) default: Option<&'static str>,
    /// A value it could have, as TOML, where there is no built-in one.
    pub(super) example: Option<&'static str>,
}

/// One key that is set, for showing.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) place: Place,
    /// The key with the tables it stands in: tells whose default it is.
    pub(super) path: String,
}

/// A table with known keys, all of them optional here.
pub(super) trait Shape: Field + Clone + Default {
    /// Its keys, in the order of the reference.
    const FIELDS: &'static [FieldInfo];

    /// Reads the known keys of `table`.
    fn read_fields(table: &Table, reading: &mut Reading) -> Self;

    /// Key by key its own value, or else that of `other`.
    fn or(self, other: Self) -> Self;

    /// What is set.
    fn lines(&self) -> Vec<Line>;

    /// Only the built-in values. A test reads all of them.
    fn built_in() -> Self {
        let mut text = String::new();
        for field in Self::FIELDS {
            if let Some(default) = field.default {
                text.push_str(&format!("{} = {default}\n", field.key));
            }
        }
        Self::read_fields(&tree::parse_built_in(&text), &mut Reading::default())
    }
}

/// Makes a [`Shape`]. A field is `key: Type`, `key: Type = default` or `key: Type as example`.
macro_rules! shape {
    (
        $(#[doc = $about:literal])*
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty $(= $default:tt)? $(as $example:tt)?,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(super) struct $name {
            $(
                $(#[doc = $doc])*
                $(#[schemars(extend("default" = $default))])?
                pub(super) $field: Option<$crate::config::field::At<$type>>,
            )*
        }

        impl $crate::config::shape::Shape for $name {
            const FIELDS: &'static [$crate::config::shape::FieldInfo] = &[$(
                $crate::config::shape::FieldInfo {
                    key: $crate::config::shape::plain(stringify!($field)),
                    doc: &[$($doc),*],
                    default: $crate::config::shape::first(&[$(stringify!($default))?]),
                    example: $crate::config::shape::first(&[$(stringify!($example))?]),
                },
            )*];

            fn read_fields(
                table: &$crate::config::tree::Table,
                reading: &mut $crate::config::field::Reading,
            ) -> Self {
                Self {
                    $($field: {
                        let key = $crate::config::shape::plain(stringify!($field));
                        reading.field(table, key)
                    },)*
                }
            }

            fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)* }
            }

            fn lines(&self) -> Vec<$crate::config::shape::Line> {
                let mut lines = Vec::new();
                $(if let Some(at) = &self.$field {
                    let key = $crate::config::shape::plain(stringify!($field));
                    lines.extend($crate::config::shape::line(key, at));
                })*
                lines
            }
        }

        impl $crate::config::field::Field for $name {
            fn read(
                node: &$crate::config::tree::Node,
                reading: &mut $crate::config::field::Reading,
            ) -> Option<Self> {
                $crate::config::field::read_shape(node, reading)
            }

            fn show(&self) -> Option<String> {
                let lines = $crate::config::shape::Shape::lines(self);
                let parts: Vec<String> =
                    lines.iter().map(|it| format!("{} = {}", it.key, it.value)).collect();
                Some(format!("{{ {} }}", parts.join(", ")))
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }
    };
}

pub(super) use shape;

/// The line that shows `at`.
pub(super) fn line<T: Field>(key: &'static str, at: &super::field::At<T>) -> Option<Line> {
    let value = at.value.show()?;
    Some(Line { key, value, place: at.place.clone(), path: at.key.clone() })
}

/// `text`, the name of a field, as the key that it is: `r#type` is `type`.
pub(super) const fn plain(text: &'static str) -> &'static str {
    match text.as_bytes() {
        [b'r', b'#', ..] => text.split_at(2).1,
        _ => text,
    }
}

/// The one text of `texts`, if there is one.
pub(super) const fn first(texts: &[&'static str]) -> Option<&'static str> {
    match texts {
        [text, ..] => Some(text),
        [] => None,
    }
}
