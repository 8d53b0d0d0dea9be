//! The reference of every key, and the JSON Schema: both from the types of [`super::raw`].

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::{
    RawAlert, RawAlerts, RawCa, RawCertificate, RawFile, RawInstall, RawReload, RawSolver,
    RawTarget, RawVerify,
};
use super::shape::{FieldInfo, Shape};

/// Every key with what it means and its default, as a TOML file in which all is commented out.
/// Where there is no default, an example stands, marked so.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of renewd.toml. `#key = value` is the default; `#key = value  # example`\n\
         # shows the form of a key that has none. Spans of time have units. Relative paths are\n\
         # relative to the file they stand in.\n",
    );
    push::<RawFile>(&mut text, "", "");
    push::<RawCertificate>(
        &mut text,
        "[[certificate]]",
        "one certificate; [defaults] and [group.NAME] take the same keys, but `name` and `domains`",
    );
    push::<RawCa>(&mut text, "[ca.NAME]", "one CA");
    push::<RawSolver>(&mut text, "[solver.NAME]", "one way to prove control");
    push::<RawTarget>(&mut text, "[target.NAME]", "one server that uses certificates");
    push::<RawReload>(
        &mut text,
        "[target.NAME.reload]",
        "how it loads its files again: `systemd`, `signal` with `pid_file`, or `command`",
    );
    push::<RawVerify>(
        &mut text,
        "[[target.NAME.verify]]",
        "one address at which it is asked what it serves",
    );
    push::<RawInstall>(&mut text, "[[target.NAME.install]]", "one file to be put in place");
    push::<RawAlerts>(&mut text, "[alerts]", "when anyone is told of trouble");
    push::<RawAlert>(&mut text, "[[alert]]", "one receiver of alerts");
    text
}

fn push<S: Shape>(text: &mut String, header: &str, about: &str) {
    if !header.is_empty() {
        text.push_str(&format!("\n# {about}\n#{header}\n"));
    }
    for field in S::FIELDS {
        push_field(text, field);
    }
}

/// Keys that hold tables have sections of their own, and what comes later is not promised.
fn push_field(text: &mut String, field: &FieldInfo) {
    let (value, mark) = match (field.default, field.example) {
        (Some(default), _) => (default, ""),
        (None, Some(example)) => (example, "  # example"),
        (None, None) => return,
    };
    text.push('\n');
    for line in field.doc {
        text.push_str(&format!("#{line}\n"));
    }
    text.push_str(&format!("#{} = {value}{mark}\n", field.key));
}

/// The configuration as JSON Schema (draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<RawFile>().to_value();
    forbid_null(&mut schema);
    schema
}

/// Takes out what schemars adds for optional fields: a key can be left out, never be null.
fn forbid_null(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|it| it != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    members.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|it| it.get("type").is_none_or(|it| it != "null"));
            }
            if let Some(Value::Array(choices)) = members.get_mut("enum") {
                choices.retain(|it| !it.is_null());
            }
            members.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}
