//! The journal in open formats: NDJSON that restores it, Parquet and views for analysts.
//!
//! [`export()`] writes a range of a tenant's events to a folder of files with a manifest, the same
//! bytes each time, and continues where it was interrupted. [`restore()`] puts such an export, in
//! NDJSON, into an empty journal, and refuses a damaged one by file and line.
//!
//! Everything typed comes from the JSON Schemas of the event types ([`Schemas`]), so that a new type
//! needs nothing here.

mod cells;
mod error;
mod export;
mod file;
mod folder;
mod manifest;
mod ndjson;
mod parquet;
mod restore;
mod schema;
mod thread;
mod views;

pub use error::ExportError;
pub use export::{ExportProgress, ExportSettings, FILE_EVENTS, export};
pub use manifest::{FileEntry, Format, MANIFEST, Manifest, Plan, SchemaVersion, TypeCount};
pub use restore::{RestoreFailure, RestoreProgress, RestoreSettings, Stage, restore};
pub use schema::{Column, ColumnType, EventTable, SchemaError, Schemas};
pub use views::install_views;
