//! From the journal to files: read in order by one task, written by a thread.

use std::{path::PathBuf, sync::Arc};

use daybook_journal::{CopiedEvent, Reader, Tenant, Upcasters};
use tokio::sync::mpsc;

use crate::{
    error::ExportError,
    folder::{self, Folder, Found, Piece, add, in_order},
    manifest::{Format, Manifest, Plan, TypeCount},
    ndjson::NdjsonFile,
    parquet::ParquetFiles,
    schema::Schemas,
    thread::on_thread,
};

/// Positions that one statement copies: PostgreSQL's snapshot is never older than that.
const WINDOW_POSITIONS: i64 = 100_000;
/// Events, and bytes of them, that are handed to the writing thread at once.
const BATCH_EVENTS: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait for it.
const BATCHES_WAITING: usize = 4;
/// Bytes of events after which a piece ends, however few they are.
const PIECE_BYTES: usize = 128 << 20;

/// What an export says of a position without an event.
const MISSING: &str = "it is missing in the journal";

/// Most events of a file unless it is said otherwise.
pub const FILE_EVENTS: u32 = 250_000;

/// What to export.
#[derive(Debug, Clone)]
pub struct ExportSettings {
    /// In which format.
    pub format: Format,
    /// Whose events.
    pub tenant: Tenant,
    /// First position, from 1.
    pub from: i64,
    /// Last position; `None`: where the journal ends now or, where an export is continued, where
    /// it ended when that began.
    pub until: Option<i64>,
    /// Where the files go; made if it is not there.
    pub dir: PathBuf,
    /// Most events of a file, at least 1.
    pub file_events: u32,
    /// The event types, as Parquet needs them.
    pub schemas: Arc<Schemas>,
    /// What lifts old events to them.
    pub upcasters: Upcasters,
}

/// Hears of the plan once, then of each position that has been reached.
pub trait ExportProgress: Send + Sync + 'static {
    /// This is going to be exported; everything before `next` is there already.
    fn planned(&self, plan: &Plan, next: i64);
    /// Everything up to here is checked or written.
    fn reached(&self, position: i64);
}

/// Exports a range, or continues an export that was interrupted. The same range, schema set and
/// `file_events` give the same bytes. Dropped or ended at any moment, it can be called again.
pub async fn export(
    reader: &Reader,
    settings: &ExportSettings,
    progress: Arc<dyn ExportProgress>,
) -> Result<Manifest, ExportError> {
    let plan = plan(reader, settings).await?;
    let (dir, opened, heard) = (settings.dir.clone(), plan.clone(), progress.clone());
    let found = on_thread(ExportError::Interrupted, move || {
        Folder::open(&dir, opened, |until| heard.reached(until))
    })
    .await?;
    let folder = match found {
        Found::Complete(manifest) => {
            progress.planned(&plan, plan.until + 1);
            return Ok(manifest);
        }
        Found::Begun(folder) => folder,
    };
    progress.planned(&plan, folder.next());
    let after = folder.next() - 1;
    let (batches, waiting) = mpsc::channel(BATCHES_WAITING);
    let pieces = Pieces::new(folder, settings.schemas.clone());
    let written = on_thread(ExportError::Interrupted, move || pieces.write(waiting, &*progress));
    let read = read(reader, settings, after, plan.until, batches);
    let (written, read) = tokio::join!(written, read);
    // Where writing failed, reading has nobody to read for.
    match (written, read) {
        (Err(ExportError::Interrupted), Err(error)) => Err(error),
        (written, _) => written,
    }
}

async fn plan(reader: &Reader, settings: &ExportSettings) -> Result<Plan, ExportError> {
    let ExportSettings { from, until, .. } = *settings;
    let incarnation = reader.incarnation().await?;
    let head = reader.head(settings.tenant.id).await?;
    let begun = folder::planned(&settings.dir)
        .filter(|plan| plan.incarnation == incarnation && plan.from == from);
    let until = until.or(begun.map(|plan| plan.until)).unwrap_or(head);
    if until > head {
        return Err(ExportError::Range(format!(
            "tenant {}'s journal ends at position {head}: there is none {until} yet",
            settings.tenant.name
        )));
    }
    if from < 1 || until < from - 1 {
        return Err(ExportError::Range(format!("from {from} until {until} is no range")));
    }
    Ok(Plan {
        daybook_export: Plan::FORM,
        format: settings.format,
        tenant: settings.tenant.name.clone(),
        incarnation,
        from,
        until,
        file_events: settings.file_events.max(1),
        schemas: settings.schemas.versions(),
        upcasters: settings.upcasters.digest().to_owned(),
    })
}

/// Hands over the events in (`after`, `until`]. Ends early where nobody takes them.
async fn read(
    reader: &Reader,
    settings: &ExportSettings,
    after: i64,
    until: i64,
    batches: mpsc::Sender<Vec<CopiedEvent>>,
) -> Result<(), ExportError> {
    let lifted = match settings.format {
        Format::Ndjson => None,
        Format::Parquet => Some(&settings.upcasters),
    };
    let mut after = after;
    while after < until {
        let end = until.min(after + WINDOW_POSITIONS);
        let mut copy = reader.copy_in_order(settings.tenant.id, after, end, lifted).await?;
        let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_EVENTS), 0);
        let mut last = after;
        while let Some(event) = copy.next().await? {
            last = event.position();
            bytes += event.size();
            batch.push(event);
            if batch.len() == BATCH_EVENTS || bytes >= BATCH_BYTES {
                bytes = 0;
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_EVENTS));
                if batches.send(full).await.is_err() {
                    return Ok(());
                }
            }
        }
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
        if last != end {
            return Err(ExportError::damaged(last + 1, MISSING));
        }
        after = end;
    }
    Ok(())
}

/// Cuts the order into pieces. Where one ends is decided by the events alone.
struct Pieces {
    folder: Folder,
    schemas: Arc<Schemas>,
    /// Position that comes next.
    next: i64,
    open: Option<OpenPiece>,
}

struct OpenPiece {
    from: i64,
    events: u32,
    bytes: usize,
    types: Vec<TypeCount>,
    files: Files,
}

enum Files {
    Ndjson(NdjsonFile),
    Parquet(ParquetFiles),
}

impl Pieces {
    fn new(folder: Folder, schemas: Arc<Schemas>) -> Self {
        Self { next: folder.next(), folder, schemas, open: None }
    }

    fn write(
        mut self,
        mut waiting: mpsc::Receiver<Vec<CopiedEvent>>,
        progress: &dyn ExportProgress,
    ) -> Result<Manifest, ExportError> {
        while let Some(batch) = waiting.blocking_recv() {
            for event in &batch {
                self.event(event)?;
            }
            progress.reached(self.next - 1);
        }
        if self.next <= self.folder.plan.until {
            return Err(ExportError::Interrupted);
        }
        self.end_piece()?;
        self.folder.finish()
    }

    fn event(&mut self, event: &CopiedEvent) -> Result<(), ExportError> {
        let position = event.position();
        if position != self.next {
            return Err(ExportError::damaged(self.next, MISSING));
        }
        let piece = match &mut self.open {
            Some(piece) => piece,
            none => none.insert(OpenPiece::begin(&self.folder, &self.schemas, position)?),
        };
        piece.add(event)?;
        self.next += 1;
        if piece.events >= self.folder.plan.file_events || piece.bytes >= PIECE_BYTES {
            self.end_piece()?;
        }
        Ok(())
    }

    fn end_piece(&mut self) -> Result<(), ExportError> {
        match self.open.take() {
            Some(piece) => {
                let piece = piece.finish(self.next - 1)?;
                self.folder.note(piece)
            }
            None => Ok(()),
        }
    }
}

impl OpenPiece {
    fn begin(folder: &Folder, schemas: &Arc<Schemas>, from: i64) -> Result<Self, ExportError> {
        let (dir, tenant) = (folder.dir(), folder.plan.tenant.as_str());
        let files = match folder.plan.format {
            Format::Ndjson => Files::Ndjson(NdjsonFile::create(dir, tenant, from)?),
            Format::Parquet => {
                Files::Parquet(ParquetFiles::new(dir, tenant, schemas.clone(), from))
            }
        };
        Ok(Self { from, events: 0, bytes: 0, types: Vec::new(), files })
    }

    fn add(&mut self, event: &CopiedEvent) -> Result<(), ExportError> {
        self.events += 1;
        self.bytes += event.size();
        add(&mut self.types, event.kind(), event.stored_version(), 1);
        match &mut self.files {
            Files::Ndjson(file) => file.event(event),
            Files::Parquet(files) => files.event(event),
        }
    }

    fn finish(self, until: i64) -> Result<Piece, ExportError> {
        let (from, events) = (self.from, u64::from(self.events));
        let files = match self.files {
            Files::Ndjson(file) => vec![file.finish(from, until, events)?],
            Files::Parquet(files) => files.finish()?,
        };
        Ok(Piece { from, until, files, types: in_order(self.types) })
    }
}
