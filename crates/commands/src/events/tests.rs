//! What was stored once is read for ever, and stored the same.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use daybook_journal::canonical;
use serde_json::Value;

use super::*;

/// Set to write the files of schemas anew instead of comparing them.
const WRITE: &str = "DAYBOOK_WRITE_SCHEMAS";

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a sample is of its type's current version.
fn is_current((kind, version, _): &(String, i16, Value)) -> bool {
    *version == event_version(kind)
}

/// Frozen samples: type, version, contents.
fn samples() -> Vec<(String, i16, Value)> {
    let mut samples = Vec::new();
    for folder in fs::read_dir(schemas().join("golden")).unwrap() {
        let folder = folder.unwrap().path();
        let kind = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let version = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            samples.push((kind.clone(), version, json(&file)));
        }
    }
    samples
}

#[test]
fn frozen_samples_are_read_and_stored_as_they_were() {
    // Older versions are lifted before they come here.
    for (kind, version, frozen) in samples().into_iter().filter(is_current) {
        let bytes = canonical::to_vec(&frozen).unwrap();
        let event = decode(&kind, version, std::str::from_utf8(&bytes).unwrap())
            .unwrap_or_else(|error| panic!("{error}"));
        let again = encode(&event);
        assert_eq!((again.kind, again.schema_version), (&*kind, version));
        assert_eq!(canonical::to_vec(&again.data).unwrap(), bytes, "{kind}");
    }
}

#[test]
fn every_type_has_a_frozen_sample_with_all_its_fields() {
    let samples = samples();
    let types: BTreeSet<&str> = samples.iter().map(|(kind, ..)| &**kind).collect();
    assert_eq!(types, event_types().iter().copied().collect());
    assert!(event_types().is_sorted());
    for (kind, version, _) in &samples {
        let earlier: BTreeSet<i16> =
            samples.iter().filter(|(k, ..)| k == kind).map(|(_, version, _)| *version).collect();
        assert_eq!(earlier, (1..=event_version(kind)).collect(), "{kind}/{version}");
    }
    for (kind, version, sample) in &samples {
        let schema = json(&schemas().join(format!("events/{kind}/{version}.json")));
        let fields: BTreeSet<&str> =
            sample.as_object().unwrap().keys().map(String::as_str).collect();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(fields, properties.keys().map(String::as_str).collect(), "{kind}");
        // Nothing may be left out: what is not there is null.
        let required = schema["required"].as_array().unwrap();
        let required: BTreeSet<&str> = required.iter().map(|r| r.as_str().unwrap()).collect();
        assert_eq!(fields, required, "{kind}");
        assert_eq!(schema["additionalProperties"], false, "{kind}");
    }
}

#[test]
fn schemas_on_disk_are_those_of_the_program() {
    let events = event_types().iter().map(|kind| {
        (format!("events/{kind}/{}.json", event_version(kind)), event_schema(kind).unwrap())
    });
    let commands = crate::catalogue()
        .into_iter()
        .map(|command| (format!("commands/{}.json", command.name), command.schema));
    let feed = std::iter::once(("asyncapi.json".to_owned(), crate::schemas::asyncapi()));
    for (name, schema) in events.chain(commands).chain(feed) {
        let path = schemas().join(&name);
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("{schema:#}\n")).unwrap();
        }
        assert_eq!(json(&path), schema, "{name}: run once with {WRITE}=1");
    }
}

#[test]
fn the_description_of_the_feed_has_a_message_for_each_version_of_each_type() {
    let document = crate::schemas::asyncapi();
    let messages = document["components"]["messages"].as_object().unwrap();
    let versions: BTreeSet<String> = crate::schemas::event_versions()
        .iter()
        .map(|version| format!("{}.{}", version.kind, version.version))
        .collect();
    assert_eq!(messages.keys().cloned().collect::<BTreeSet<_>>(), versions);
    // What is referred to is there.
    for (kind, version, sample) in samples() {
        let name = format!("{kind}.{version}");
        let payload = &messages[&name]["payload"]["$ref"];
        let pointer = payload.as_str().unwrap().strip_prefix('#').unwrap();
        let schema = document.pointer(pointer).unwrap();
        let file = json(&schemas().join(format!("events/{kind}/{version}.json")));
        assert_eq!(schema["properties"], file["properties"], "{name}");
        assert_eq!(schema["required"].as_array().unwrap().len(), sample.as_object().unwrap().len());
        let listed = &document["channels"]["events"]["messages"][&name]["$ref"];
        assert!(document.pointer(listed.as_str().unwrap().strip_prefix('#').unwrap()).is_some());
    }
}
