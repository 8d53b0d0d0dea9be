//! The reference of every key, and the JSON Schema: both from the types of [`super::raw`].

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::{
    RawAlert, RawAlerts, RawCa, RawCertificate, RawFile, RawInstall, RawLimits, RawReload,
    RawSolver, RawTarget, RawVerify,
};
use super::shape::{FieldInfo, Shape};
use crate::solver::ProviderSettings;

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
        "one certificate; [defaults] takes these keys but `name`, `domains` and `csr_file`, and \
         [group.NAME] but those and `group`",
    );
    push::<RawCa>(&mut text, "[ca.NAME]", "one CA");
    push::<RawLimits>(
        &mut text,
        "[ca.NAME.limits]",
        "how much it allows; known of letsencrypt and letsencrypt-staging",
    );
    push::<RawSolver>(&mut text, "[solver.NAME]", "one way to prove control");
    push::<RawTarget>(&mut text, TARGET, "one server that uses certificates");
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
    text.push_str(
        "\n# What each provider for dns-01 needs in [solver.NAME]; each `_file` can also be\n",
    );
    text.push_str("# `_credential` or `_env`:\n");
    for line in ProviderSettings::reference() {
        text.push_str(&format!("# {line}\n"));
    }
    text
}

/// Keys of `[target.*]` that are tables, and are told of below headers of their own.
const WITH_SECTIONS: [&str; 3] = ["reload", "verify", "install"];
const TARGET: &str = "[target.NAME]";
/// Likewise of `[ca.*]`.
const LIMITS: (&str, &str) = ("[ca.NAME]", "limits");

fn push<S: Shape>(text: &mut String, header: &str, about: &str) {
    if !header.is_empty() {
        text.push_str(&format!("\n# {about}\n#{header}\n"));
    }
    let has_section =
        |key| (header == TARGET && WITH_SECTIONS.contains(&key)) || (header, key) == LIMITS;
    for field in S::FIELDS.iter().filter(|it| !has_section(it.key)) {
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
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), Value::from("renewd.toml"));
    }
    schema
}

/// Takes out what schemars adds for optional fields: a key can be left out, never be null. So a key
/// that nothing but null would fit, since it comes with a later version, is no key at all.
fn forbid_null(value: &mut Value) {
    let is_null = |it: &Value| it.get("type").is_some_and(|it| it == "null");
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                properties.retain(|_, it| !is_null(it));
            }
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|it| it != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    members.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("enum") {
                choices.retain(|it| !it.is_null());
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|it| !is_null(it));
                if let [Value::Object(one)] = choices.as_slice() {
                    let one = one.clone();
                    members.remove("anyOf");
                    for (key, value) in one {
                        members.entry(key).or_insert(value);
                    }
                }
            }
            members.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_no_null_and_every_default() {
        let schema = schema();
        assert!(!schema.to_string().contains("null"), "{schema:#}");
        assert_eq!(schema.pointer("/properties/parallel/default"), Some(&Value::from(8)));
        assert!(schema.pointer("/$defs/RawCertificate/properties/domains").is_some());
        assert_eq!(schema.pointer("/$defs/RawCertificate/properties/window"), None);
        assert_eq!(schema.pointer("/additionalProperties"), Some(&Value::Bool(false)));
    }

    #[test]
    fn the_reference_is_toml_once_its_values_are_taken_in() {
        let reference = reference();
        let is_value = |it: &str| it.starts_with('#') && !it.starts_with("# ");
        let text: String = reference
            .lines()
            .filter(|it| is_value(it))
            .map(|it| format!("{}\n", &it[1..]))
            .collect();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["parallel"].as_integer(), Some(8));
        assert!(table["target"]["NAME"]["install"].is_array());
    }
}
