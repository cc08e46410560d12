//! What an export holds, in a file beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the manifest: it is there once the export is complete.
pub const MANIFEST: &str = "manifest.json";
/// The form of manifest and files that this program writes and reads.
const FORM: u32 = 1;

/// In which format events are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One event a line, as it is stored, with everything that a restore needs.
    Ndjson,
    /// A folder of files a type, in the current form with typed columns.
    Parquet,
}

/// A version of an event type's schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaVersion {
    /// Event type.
    pub r#type: String,
    /// Its current version.
    pub version: i16,
    /// SHA-256 of its JSON Schema.
    pub sha256: String,
}

/// What decides an export's bytes, beside the journal itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The form of manifest and files.
    pub daybook_export: u32,
    /// The format.
    pub format: Format,
    /// Name of the tenant.
    pub tenant: String,
    /// The journal's history: positions of another one may name other events.
    pub incarnation: Uuid,
    /// First position.
    pub from: i64,
    /// Last position; `from` − 1 where there are no events.
    pub until: i64,
    /// Most events of a file.
    pub file_events: u32,
    /// The schema set: what events are lifted to in Parquet.
    pub schemas: Vec<SchemaVersion>,
    /// Hash of what lifts old events; empty where nothing does.
    pub upcasters: String,
}

impl Plan {
    /// The form that this program writes.
    pub(crate) const FORM: u32 = FORM;
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where, in the export's folder.
    pub path: String,
    /// Its first position.
    pub from: i64,
    /// Its last position. A Parquet file holds those of its type only.
    pub until: i64,
    /// How many events.
    pub events: u64,
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// How many events there are of a type, in one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeCount {
    /// Event type.
    pub r#type: String,
    /// The version that they were stored in.
    pub schema_version: i16,
    /// How many.
    pub events: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What was asked for.
    #[serde(flatten)]
    pub plan: Plan,
    /// How many events.
    pub events: u64,
    /// How many bytes in all files.
    pub bytes: u64,
    /// Stored versions that occur.
    pub types: Vec<TypeCount>,
    /// The files, by position.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Its text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest has string keys only");
        text.push(b'\n');
        text
    }

    /// Reads the text, and says what is wrong with it in itself.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let plan = &manifest.plan;
        if plan.daybook_export != FORM {
            return Err(format!("form {} is not known here", plan.daybook_export));
        }
        if plan.from < 1 || plan.until < plan.from - 1 {
            return Err(format!("from {} until {} is no range", plan.from, plan.until));
        }
        let span = u64::try_from(plan.until - plan.from + 1).unwrap_or_default();
        let sum = |of: fn(&FileEntry) -> u64| manifest.files.iter().map(of).sum::<u64>();
        let typed: u64 = manifest.types.iter().map(|count| count.events).sum();
        for (what, events) in [
            ("`events` says", manifest.events),
            ("its files have", sum(|file| file.events)),
            ("its types have", typed),
        ] {
            if events != span {
                return Err(format!(
                    "positions {} to {} are {span} events, {what} {events}",
                    plan.from, plan.until
                ));
            }
        }
        if sum(|file| file.bytes) != manifest.bytes {
            return Err("the files' bytes are not what `bytes` says".to_owned());
        }
        let mut next = plan.from;
        for file in &manifest.files {
            let plain = Path::new(&file.path)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain || file.path.is_empty() {
                return Err(format!("{:?} is no path in its folder", file.path));
            }
            if plan.format == Format::Ndjson {
                let events = u64::try_from(file.until - file.from + 1).unwrap_or_default();
                if file.from != next || events != file.events || events == 0 {
                    return Err(format!(
                        "{} is said to hold positions {} to {}, {} events; position {next} comes \
                         next",
                        file.path, file.from, file.until, file.events
                    ));
                }
                next = file.until + 1;
            }
        }
        Ok(manifest)
    }
}
