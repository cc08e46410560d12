//! The examples of a folder: given these events, then these rows.

use std::{collections::BTreeMap, fs, path::Path};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_journal::{StoredEvent, Upcasters};
use serde::Deserialize;
use serde_json::Value;

use crate::definition::CatalogueError;

/// Tenant of every example's events.
pub(crate) const TENANT: i32 = 1;
/// When the first event of an example happens if it doesn't say; each later one a second later.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// One example, as a file of `examples/` has it, in JSON or TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Name of its file.
    #[serde(skip)]
    pub file: String,
    /// What it shows, in a few words.
    pub title: String,
    given: Vec<Given>,
    /// Rows in order of key, each with those columns that matter.
    pub(crate) then: Vec<BTreeMap<String, Value>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(rename = "type")]
    kind: String,
    data: Value,
    occurred_at: Option<DateTime<Utc>>,
    stream: Option<String>,
    schema_version: Option<i16>,
}

impl Example {
    /// Every example of a projection's folder, by file name; none where there is no `examples/`.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, CatalogueError> {
        let dir = folder.join("examples");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |source| CatalogueError::Unreadable { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).map_err(unreadable(&dir))? {
            paths.push(entry.map_err(unreadable(&dir))?.path());
        }
        paths.sort();
        let mut examples = Vec::new();
        for path in paths {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
            let read: Result<Self, String> = match path.extension().and_then(|e| e.to_str()) {
                Some("json") => serde_json::from_str(&text).map_err(|error| error.to_string()),
                Some("toml") => toml::from_str(&text).map_err(|error| error.to_string()),
                _ => continue,
            };
            let example = read.map_err(|detail| CatalogueError::Invalid {
                projection: folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().into(),
                detail: format!("examples/{file}: {detail}"),
            })?;
            examples.push(Self { file, ..example });
        }
        Ok(examples)
    }

    /// Types of the events that it gives.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|given| given.kind.as_str())
    }

    /// The events as the journal would have them, positions from 1. An event that doesn't say its
    /// version is in the current one of its type.
    pub(crate) fn events(&self, upcasters: &Upcasters) -> Vec<StoredEvent> {
        let mut streams: BTreeMap<&str, i32> = BTreeMap::new();
        let mut now: DateTime<Utc> = BEGIN.parse().expect("it is a time");
        let mut events = Vec::new();
        for (position, given) in (1..).zip(&self.given) {
            let stream = given.stream.as_deref().unwrap_or("example");
            let version = streams.entry(stream).or_insert(0);
            *version += 1;
            now = given.occurred_at.unwrap_or(now + TimeDelta::seconds(1));
            let current = upcasters.current(&given.kind).unwrap_or(1);
            events.push(StoredEvent {
                tenant: TENANT,
                position,
                stream: stream.to_owned(),
                version: *version,
                kind: given.kind.clone(),
                schema_version: given.schema_version.unwrap_or(current),
                data: given.data.to_string(),
                meta: "{}".to_owned(),
                occurred_at: now,
                recorded_at: now,
                mac: Vec::new(),
            });
        }
        events
    }

    /// What is wrong with these rows; nothing, if they are as the example says.
    pub(crate) fn compare(&self, rows: &[Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        if rows.len() != self.then.len() {
            wrong.push(format!("{} rows, not {}", rows.len(), self.then.len()));
        }
        for (n, (row, then)) in (1..).zip(rows.iter().zip(&self.then)) {
            for (column, expected) in then {
                match row.get(column) {
                    None => wrong.push(format!("row {n}: there is no column {column}")),
                    Some(found) if same(found, expected) => {}
                    Some(found) => {
                        wrong.push(format!("row {n}: {column} is {found}, not {expected}"));
                    }
                }
            }
        }
        wrong
    }
}

/// Equal, times also where they are written otherwise.
fn same(found: &Value, expected: &Value) -> bool {
    let time =
        |value: &Value| value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| same(f, e))
        }
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && found.iter().all(|(k, f)| expected.get(k).is_some_and(|e| same(f, e)))
        }
        _ => found == expected || time(found).is_some_and(|found| time(expected) == Some(found)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_compared_by_the_columns_that_are_named() {
        let example: Example = serde_json::from_value(json!({
            "title": "T",
            "given": [{"type": "A", "data": {}}, {"type": "A", "data": {}, "stream": "s"}],
            "then": [{"n": 1, "at": "2026-01-01T00:00:00Z", "list": [{"at": "2026-01-01T01:00:00+01:00"}]}],
        }))
        .unwrap();
        let row = json!({"n": 1, "at": "2026-01-01T00:00:00+00:00", "more": 7,
            "list": [{"at": "2026-01-01T00:00:00Z"}]});
        assert_eq!(example.compare(std::slice::from_ref(&row)), Vec::<String>::new());
        assert_eq!(example.compare(&[]), ["0 rows, not 1"]);
        let other = json!({"n": 2, "at": "2026-01-01T00:00:01+00:00"});
        assert_eq!(
            example.compare(&[other, row]),
            [
                "2 rows, not 1",
                "row 1: at is \"2026-01-01T00:00:01+00:00\", not \"2026-01-01T00:00:00Z\"",
                "row 1: there is no column list",
                "row 1: n is 2, not 1",
            ]
        );
        let events = example.events(&Upcasters::default());
        assert_eq!(
            events.iter().map(|e| (e.position, e.version)).collect::<Vec<_>>(),
            [(1, 1), (2, 1)]
        );
    }

    #[test]
    fn a_misspelt_member_is_refused() {
        let read = serde_json::from_value::<Example>(
            json!({"title": "T", "given": [{"type": "A", "dta": {}}], "then": []}),
        );
        assert!(read.unwrap_err().to_string().contains("dta"));
    }
}
