//! The current form with typed columns: a folder of Parquet files for each event type.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{Schema, SchemaRef};
use daybook_journal::CopiedEvent;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::Compression,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
    },
};

use crate::{
    cells::{Table, field},
    error::ExportError,
    file::NewFile,
    manifest::FileEntry,
    schema::{ENVELOPE, EventTable, META, Schemas},
};

/// Rows that are encoded together.
const BATCH_ROWS: usize = 4_096;
/// Rows of a row group: what a reader skips or takes as a whole, and what is held in memory.
const GROUP_ROWS: usize = 65_536;

/// The files of one piece: one for each type that occurs.
pub(crate) struct ParquetFiles {
    dir: PathBuf,
    tenant: String,
    schemas: Arc<Schemas>,
    from: i64,
    files: BTreeMap<String, TypeFile>,
}

struct TypeFile {
    name: String,
    path: PathBuf,
    version: i16,
    schema: SchemaRef,
    envelope: Envelope,
    meta: Table,
    data: Table,
    writer: ArrowWriter<NewFile>,
    rows: usize,
    events: u64,
    from: i64,
    until: i64,
}

impl ParquetFiles {
    /// Begins a piece whose first event is at a position.
    pub(crate) fn new(dir: &Path, tenant: &str, schemas: Arc<Schemas>, from: i64) -> Self {
        let (dir, tenant) = (dir.to_owned(), tenant.to_owned());
        Self { dir, tenant, schemas, from, files: BTreeMap::new() }
    }

    pub(crate) fn event(&mut self, event: &CopiedEvent) -> Result<(), ExportError> {
        if !self.files.contains_key(event.kind()) {
            let table = self.schemas.table(event.kind()).ok_or_else(|| {
                let kind = event.kind();
                ExportError::damaged(event.position(), format!("type {kind} is not known here"))
            })?;
            let file = TypeFile::create(&self.dir, table, self.from)?;
            self.files.insert(event.kind().to_owned(), file);
        }
        let file = self.files.get_mut(event.kind()).expect("it was just put in");
        file.event(&self.tenant, event)
    }

    pub(crate) fn finish(self) -> Result<Vec<FileEntry>, ExportError> {
        self.files.into_values().map(TypeFile::finish).collect()
    }
}

impl TypeFile {
    fn create(dir: &Path, table: &EventTable, from: i64) -> Result<Self, ExportError> {
        let folder = dir.join(&table.kind);
        fs::create_dir_all(&folder).map_err(ExportError::file(&folder))?;
        let name = format!("{}/events-{from:012}.parquet", table.kind);
        let path = dir.join(&name);
        let file = NewFile::create(&path).map_err(ExportError::file(&path))?;
        let (meta, data) = (Table::some_of(&META), Table::new(&table.columns));
        let envelope = ENVELOPE.iter().map(|(name, kind)| Arc::new(field(name, kind, false)));
        let fields = envelope.chain(meta.fields().iter().chain(data.fields()).cloned());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // The file says all of it by itself; nothing of the machine or the moment gets in.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options)?;
        Ok(Self {
            name,
            path,
            version: table.version,
            schema,
            envelope: Envelope::default(),
            meta,
            data,
            writer,
            rows: 0,
            events: 0,
            from: 0,
            until: 0,
        })
    }

    fn event(&mut self, tenant: &str, event: &CopiedEvent) -> Result<(), ExportError> {
        let damaged = |reason: String| ExportError::damaged(event.position(), reason);
        if event.schema_version() != self.version {
            return Err(damaged(format!(
                "{}/{} can't be read here, only version {}",
                event.kind(),
                event.schema_version(),
                self.version
            )));
        }
        self.envelope.append(tenant, event);
        self.meta.append(event.meta()).map_err(|error| damaged(format!("meta: {error}")))?;
        self.data.append(event.data()).map_err(|error| damaged(format!("data: {error}")))?;
        if self.events == 0 {
            self.from = event.position();
        }
        self.until = event.position();
        self.events += 1;
        self.rows += 1;
        if self.rows == BATCH_ROWS { self.encode() } else { Ok(()) }
    }

    fn encode(&mut self) -> Result<(), ExportError> {
        self.rows = 0;
        let mut columns = self.envelope.take();
        columns.append(&mut self.meta.take());
        columns.append(&mut self.data.take());
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(parquet::errors::ParquetError::from)?;
        Ok(self.writer.write(&batch)?)
    }

    fn finish(mut self) -> Result<FileEntry, ExportError> {
        if self.rows > 0 {
            self.encode()?;
        }
        let Self { name, path, writer, events, from, until, .. } = self;
        let file = writer.into_inner()?;
        let written = file.finish().map_err(ExportError::file(&path))?;
        let (bytes, sha256) = (written.bytes, written.sha256);
        Ok(FileEntry { path: name, from, until, events, bytes, sha256 })
    }
}

/// The columns of [`ENVELOPE`].
#[derive(Default)]
struct Envelope {
    tenant: StringBuilder,
    position: Int64Builder,
    stream: StringBuilder,
    version: Int64Builder,
    kind: StringBuilder,
    schema_version: Int64Builder,
    stored_version: Int64Builder,
    occurred_at: TimestampMicrosecondBuilder,
    recorded_at: TimestampMicrosecondBuilder,
}

impl Envelope {
    fn append(&mut self, tenant: &str, event: &CopiedEvent) {
        self.tenant.append_value(tenant);
        self.position.append_value(event.position());
        self.stream.append_value(event.stream());
        self.version.append_value(event.version().into());
        self.kind.append_value(event.kind());
        self.schema_version.append_value(event.schema_version().into());
        self.stored_version.append_value(event.stored_version().into());
        self.occurred_at.append_value(event.occurred_at_us());
        self.recorded_at.append_value(event.recorded_at_us());
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let utc = |cells: &mut TimestampMicrosecondBuilder| cells.finish().with_timezone("UTC");
        vec![
            Arc::new(self.tenant.finish()),
            Arc::new(self.position.finish()),
            Arc::new(self.stream.finish()),
            Arc::new(self.version.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.schema_version.finish()),
            Arc::new(self.stored_version.finish()),
            Arc::new(utc(&mut self.occurred_at)),
            Arc::new(utc(&mut self.recorded_at)),
        ]
    }
}

/// Fixed, so that the same rows are the same bytes.
fn properties(table: &EventTable) -> WriterProperties {
    let about = |key: &str, value: String| KeyValue::new(format!("daybook.{key}"), value);
    WriterProperties::builder()
        .set_created_by("daybook".to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_key_value_metadata(Some(vec![
            about("type", table.kind.clone()),
            about("schema_version", table.version.to_string()),
        ]))
        .build()
}
