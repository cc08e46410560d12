//! Whether a change of the files in `schemas/` leaves every old event readable.
//!
//! Works on contents alone: whoever calls it reads folder or history.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// Files below `schemas/`, by their path in it, as `events/OrderPlaced/1.json`.
pub type SchemaFiles = BTreeMap<String, Vec<u8>>;

/// Something that must not be, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.what, self.remedy)
    }
}

/// A version of an event type, as the files name it.
type Version<'a> = (&'a str, i16);

/// Faults of `files`, in order of path: versions that lack what a version needs, and, compared with
/// the files as they were `before`, changes of what was frozen. `has_downcast` says whether it is
/// decided how a version is written before it is activated.
pub fn check(
    files: &SchemaFiles,
    before: Option<&SchemaFiles>,
    has_downcast: impl Fn(&str, i16) -> bool,
) -> Vec<Fault> {
    let mut faults = complete(files, has_downcast);
    if let Some(before) = before {
        faults.extend(frozen(files, before));
        faults.extend(commands(files, before));
    }
    faults.sort_by(|a, b| (&a.path, a.what).cmp(&(&b.path, b.what)));
    faults
}

/// What every version must have beside its schema: those before it, a frozen sample, and from the
/// second on a way up and a decision about the way down.
fn complete(files: &SchemaFiles, has_downcast: impl Fn(&str, i16) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut lacks = |path: String, what, remedy: String| {
        if !files.contains_key(&path) {
            faults.push(Fault { path, what, remedy });
        }
    };
    for (kind, version) in files.keys().filter_map(|path| version_in(path, "events", "json")) {
        lacks(
            format!("golden/{kind}/{version}.json"),
            "a version without a frozen sample",
            format!("write one event of {kind}/{version} down as it is stored"),
        );
        if version > 1 {
            let earlier = version - 1;
            lacks(
                format!("events/{kind}/{earlier}.json"),
                "a version is missing before a later one",
                "versions of a type count from 1 without a gap".to_owned(),
            );
            lacks(
                format!("upcasters/{kind}/{earlier}.sql"),
                "a version without an upcaster to it",
                format!("say in SQL how {kind}/{earlier} reads as {version}"),
            );
        }
    }
    for path in files.keys() {
        let next = version_in(path, "upcasters", "sql").map(|(kind, from)| (kind, from + 1));
        let Some((kind, version)) = next.or_else(|| version_in(path, "golden", "json")) else {
            continue;
        };
        let schema = format!("events/{kind}/{version}.json");
        if !files.contains_key(&schema) {
            faults.push(Fault {
                path: schema,
                what: "a sample or upcaster of a version without a schema",
                remedy: format!("{path} needs it"),
            });
        }
    }
    for (kind, version) in files.keys().filter_map(|path| version_in(path, "events", "json")) {
        if version > 1 && !has_downcast(kind, version) {
            faults.push(Fault {
                path: format!("events/{kind}/{version}.json"),
                what: "a version without a decision how it is written before its activation",
                remedy: "add its evolution, upcaster and downcast, to daybook-commands' schemas"
                    .to_owned(),
            });
        }
    }
    faults
}

/// What was written down for ever: schemas of existing versions, samples, and that an upcaster is
/// there. An upcaster may be corrected: read models notice by its hash and fold again.
fn frozen(files: &SchemaFiles, before: &SchemaFiles) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, what, remedy| {
        faults.push(Fault { path: path.to_owned(), what, remedy });
    };
    for (path, old) in before {
        let put_back = "put it back: events like it are in journals for ever".to_owned();
        let new = files.get(path);
        if let Some((kind, version)) = version_in(path, "events", "json") {
            let another =
                format!("put it back, and make the change {kind}/{} with an upcaster", version + 1);
            match new {
                None => fault(path, "a version was removed", put_back),
                Some(new) if !same_meaning(old, new) => {
                    fault(path, "the schema of an existing version was changed", another);
                }
                Some(_) => {}
            }
        } else if version_in(path, "golden", "json").is_some() {
            match new {
                None => fault(path, "a frozen sample was removed", put_back),
                Some(new) if json(old) != json(new) => {
                    fault(path, "a frozen sample was changed", put_back);
                }
                Some(_) => {}
            }
        } else if version_in(path, "upcasters", "sql").is_some() && new.is_none() {
            fault(path, "an upcaster was removed", put_back);
        }
    }
    faults
}

/// What clients rely on: that a body that was accepted still is.
fn commands(files: &SchemaFiles, before: &SchemaFiles) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, what, remedy: String| {
        faults.push(Fault { path: path.to_owned(), what, remedy });
    };
    for (path, old) in before.iter().filter(|(path, _)| path.starts_with("commands/")) {
        let Some(new) = files.get(path) else {
            fault(path, "a command was removed", "clients send it: put it back".to_owned());
            continue;
        };
        let (Some(old), Some(new)) = (json(old), json(new)) else {
            fault(path, "not JSON", "make it again from the types".to_owned());
            continue;
        };
        for name in members(&old["properties"]) {
            if new["properties"].get(name).is_none() {
                fault(path, "a field was removed", format!("clients send `{name}`: put it back"));
            }
        }
        let required = |schema: &Value, name: &str| {
            schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
        };
        for name in members(&new["properties"]) {
            if required(&new, name) && !required(&old, name) {
                let remedy = format!("older clients don't send `{name}`: give it a default");
                fault(path, "a field became required", remedy);
            }
        }
    }
    faults
}

/// Type and version in a path `<folder>/<Type>/<n>.<ends>`.
fn version_in<'a>(path: &'a str, folder: &str, ends: &str) -> Option<Version<'a>> {
    let (kind, file) = path.strip_prefix(folder)?.strip_prefix('/')?.split_once('/')?;
    let version = file.strip_suffix(ends)?.strip_suffix('.')?.parse().ok()?;
    Some((kind, version))
}

fn json(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

fn members(object: &Value) -> impl Iterator<Item = &String> {
    object.as_object().into_iter().flat_map(serde_json::Map::keys)
}

/// Whether two schemas allow the same; what they say to people may differ.
fn same_meaning(old: &[u8], new: &[u8]) -> bool {
    match (json(old), json(new)) {
        (Some(mut old), Some(mut new)) => {
            strip(&mut old);
            strip(&mut new);
            old == new
        }
        (_, _) => false,
    }
}

/// Takes out what JSON Schema calls annotations (2020-12, core §8.3 and validation §9).
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for annotation in ["title", "description", "$comment", "examples", "deprecated"] {
                members.remove(annotation);
            }
            for (keyword, value) in members {
                // Their members are names of fields or definitions, each with a schema.
                if matches!(keyword.as_str(), "properties" | "patternProperties" | "$defs") {
                    value.as_object_mut().into_iter().flatten().for_each(|(_, field)| strip(field));
                } else if !matches!(keyword.as_str(), "const" | "enum" | "default") {
                    strip(value);
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"title": "A", "type": "object", "additionalProperties": false,
        "properties": {"title": {"type": "string"}}, "required": ["title"]}"#;

    /// Two versions of one type, and a command.
    fn files() -> SchemaFiles {
        let entry = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        BTreeMap::from([
            entry("commands/Do.json", SCHEMA),
            entry("events/A/1.json", SCHEMA),
            entry("events/A/2.json", SCHEMA),
            entry("golden/A/1.json", r#"{"title": "x"}"#),
            entry("golden/A/2.json", r#"{"title": "y"}"#),
            entry("upcasters/A/1.sql", "data"),
        ])
    }

    fn faults(change: impl Fn(&mut SchemaFiles), before: Option<&SchemaFiles>) -> Vec<String> {
        let mut files = files();
        change(&mut files);
        let faults = check(&files, before, |kind, version| (kind, version) == ("A", 2));
        faults.iter().map(|fault| format!("{}: {}", fault.path, fault.what)).collect()
    }

    fn removed(path: &str, before: Option<&SchemaFiles>) -> Vec<String> {
        faults(|files| assert!(files.remove(path).is_some()), before)
    }

    fn changed(path: &str, from: &str, to: &str, before: Option<&SchemaFiles>) -> Vec<String> {
        let change = |files: &mut SchemaFiles| {
            let text = files.get_mut(path).unwrap();
            let old = String::from_utf8(text.clone()).unwrap();
            assert!(old.contains(from), "{path}: {from}");
            *text = old.replace(from, to).into_bytes();
        };
        faults(change, before)
    }

    #[test]
    fn a_version_needs_its_sample_its_upcaster_its_downcast_and_those_before_it() {
        assert_eq!(faults(|_| {}, None), [""; 0]);
        assert_eq!(
            removed("golden/A/2.json", None),
            ["golden/A/2.json: a version without a frozen sample"]
        );
        assert_eq!(
            removed("upcasters/A/1.sql", None),
            ["upcasters/A/1.sql: a version without an upcaster to it"]
        );
        assert!(
            removed("events/A/1.json", None)
                .contains(&"events/A/1.json: a version is missing before a later one".to_owned())
        );
        assert_eq!(
            removed("events/A/2.json", None)[0],
            "events/A/2.json: a sample or upcaster of a version without a schema"
        );
        let third = faults(
            |files| {
                for path in ["events/A/3.json", "golden/A/3.json", "upcasters/A/2.sql"] {
                    files.insert(path.to_owned(), SCHEMA.into());
                }
            },
            Some(&files()),
        );
        assert_eq!(third.len(), 1, "{third:?}");
        assert!(third[0].contains("before its activation"), "{third:?}");
    }

    #[test]
    fn what_was_frozen_stays() {
        let before = files();
        let before = Some(&before);
        assert_eq!(faults(|_| {}, before), [""; 0]);
        let schema = "events/A/1.json: the schema of an existing version was changed";
        // A field called `title` is no annotation.
        assert_eq!(changed("events/A/1.json", "\"string\"", "\"integer\"", before), [schema]);
        assert_eq!(changed("events/A/1.json", "false", "true", before), [schema]);
        assert_eq!(changed("events/A/1.json", "\"A\"", "\"B\"", before), [""; 0]);
        assert!(
            removed("events/A/2.json", before)
                .contains(&"events/A/2.json: a version was removed".to_owned())
        );
        assert!(
            removed("golden/A/1.json", before)
                .contains(&"golden/A/1.json: a frozen sample was removed".to_owned())
        );
        assert_eq!(
            changed("golden/A/1.json", "x", "z", before),
            ["golden/A/1.json: a frozen sample was changed"]
        );
        assert_eq!(changed("golden/A/1.json", ": ", ":  ", before), [""; 0]);
        assert!(
            removed("upcasters/A/1.sql", before)
                .contains(&"upcasters/A/1.sql: an upcaster was removed".to_owned())
        );
        assert_eq!(changed("upcasters/A/1.sql", "data", "data || '{}'", before), [""; 0]);
    }

    #[test]
    fn a_command_takes_what_it_took() {
        let before = files();
        let before = Some(&before);
        let path = "commands/Do.json";
        assert_eq!(removed(path, before), ["commands/Do.json: a command was removed"]);
        assert_eq!(
            changed(path, "\"title\": {", "\"name\": {", before),
            ["commands/Do.json: a field was removed"]
        );
        assert_eq!(changed(path, "[\"title\"]", "[]", before), [""; 0]);
        let added = changed(path, "\"required\": [", "\"required\": [\"new\", ", before);
        assert_eq!(added, [""; 0], "a field that does not exist can't be required");
        let required = changed(
            path,
            "{\"type\": \"string\"}}, \"required\": [",
            "{\"type\": \"string\"}, \"new\": {}}, \"required\": [\"new\", ",
            before,
        );
        assert_eq!(required, ["commands/Do.json: a field became required"]);
    }
}
