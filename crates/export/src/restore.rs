//! From an export in NDJSON back to a journal, position by position.
//!
//! Everything is read twice. The first time each line and file is checked and nothing is written;
//! the second time the same checks are made again on what is then written, so that a file that
//! changes in between gains nothing.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use daybook_journal::{MacKeys, Restore, RestoreError, StoredEvent, Tenant};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::{
    manifest::{FileEntry, Format, MANIFEST, Manifest},
    ndjson::parse_line,
    thread::on_thread,
};

/// Events, and bytes of them, that are put in at once.
const BATCH_EVENTS: usize = 2_000;
const BATCH_BYTES: usize = 4 << 20;
/// Longest line that is read: an event is far smaller.
const LINE_BYTES: u64 = 64 << 20;
/// Bytes that are read together.
const BUFFER_BYTES: usize = 1 << 20;
/// Lines between two reports of progress while checking.
const REPORT_LINES: u64 = 1_000;

/// An export was not restored, or not wholly. Run again, a restore continues.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// A file can't be read.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what was exported. Nothing of it was written.
    #[error("{file}{}: {reason}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
    Damaged {
        /// Which one.
        file: String,
        /// Line from 1, where it is one line's fault.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The export doesn't belong here.
    #[error("{0}")]
    Refused(String),
    /// The journal refused events.
    #[error(transparent)]
    Journal(#[from] RestoreError),
    /// PostgreSQL answered with an error.
    #[error("journal: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// It was asked to stop.
    #[error("interrupted: what is restored is kept, the same command continues")]
    Interrupted,
}

/// What to restore, and where.
#[derive(Debug, Clone)]
pub struct RestoreSettings {
    /// The export's folder.
    pub dir: PathBuf,
    /// Whose journal; it must have the name that it had.
    pub tenant: Tenant,
    /// Keys of the installation that wrote the events.
    pub keys: MacKeys,
}

/// Which time the files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Every line is checked, nothing is written.
    Checking,
    /// Events are put in.
    Writing,
}

/// Hears how far a restore is.
pub trait RestoreProgress: Send + Sync + 'static {
    /// A stage begins.
    fn begins(&self, stage: Stage, manifest: &Manifest);
    /// Everything up to here is done in this stage.
    fn reached(&self, position: i64);
}

/// Restores an export as the owner of the journal. Returns its manifest, and how many events were
/// put in; those that are there already, from a restore that was interrupted, are compared.
pub async fn restore(
    client: &Client,
    settings: &RestoreSettings,
    progress: Arc<dyn RestoreProgress>,
) -> Result<(Manifest, i64), RestoreFailure> {
    let manifest = read_manifest(settings)?;
    let head = head(client, settings.tenant.id).await?;
    belongs(client, &manifest, head.0).await?;

    progress.begins(Stage::Checking, &manifest);
    let (checked, heard) = ((settings.clone(), manifest.clone()), progress.clone());
    on_thread(RestoreFailure::Interrupted, move || {
        let (settings, manifest) = checked;
        let mut lines = 0_u64;
        each_event(&settings, &manifest, |event| {
            lines += 1;
            if lines.is_multiple_of(REPORT_LINES) {
                heard.reached(event.position);
            }
            Ok(())
        })
    })
    .await?;

    progress.begins(Stage::Writing, &manifest);
    let (batches, waiting) = mpsc::channel(2);
    let read = (settings.clone(), manifest.clone());
    let read = on_thread(RestoreFailure::Interrupted, move || {
        let (settings, manifest) = read;
        let mut batch = Batch::default();
        each_event(&settings, &manifest, |event| match batch.add(event) {
            Some(full) => batches.blocking_send(full).map_err(|_| RestoreFailure::Interrupted),
            None => Ok(()),
        })?;
        batches.blocking_send(batch.events).map_err(|_| RestoreFailure::Interrupted)
    });
    let write = write(client, settings.tenant.id, head, waiting, &*progress);
    let (read, written) = tokio::join!(read, write);
    match (read, written) {
        (Err(error), Ok(_)) | (_, Err(error)) => Err(error),
        (Ok(()), Ok(count)) => Ok((manifest, count)),
    }
}

fn read_manifest(settings: &RestoreSettings) -> Result<Manifest, RestoreFailure> {
    let path = settings.dir.join(MANIFEST);
    let text = fs::read(&path)
        .map_err(|error| RestoreFailure::File { path: path.display().to_string(), error })?;
    let manifest = Manifest::parse(&text).map_err(|reason| RestoreFailure::Damaged {
        file: MANIFEST.to_owned(),
        line: None,
        reason,
    })?;
    if manifest.plan.format != Format::Ndjson {
        return Err(RestoreFailure::Refused(
            "this export is in Parquet, the current form: only the stored form, NDJSON, restores a \
             journal"
                .to_owned(),
        ));
    }
    if manifest.plan.tenant != settings.tenant.name {
        return Err(RestoreFailure::Refused(format!(
            "these are events of tenant {}, as their macs say: restore them to a tenant of that name \
             (`daybook tenants add {}`, then `--tenant {}`), not to {}",
            manifest.plan.tenant, manifest.plan.tenant, manifest.plan.tenant, settings.tenant.name
        )));
    }
    Ok(manifest)
}

/// Position and mac of the last event; (0, `None`) without any.
async fn head(
    client: &Client,
    tenant: i32,
) -> Result<(i64, Option<Vec<u8>>), tokio_postgres::Error> {
    let sql = "select position, mac from journal.events where tenant = $1
               order by position desc limit 1";
    let row = client.query_opt(sql, &[&tenant]).await?;
    Ok(row.map_or((0, None), |row| (row.get(0), Some(row.get(1)))))
}

/// Whether the export can follow what is there, and its versions may be written here.
async fn belongs(client: &Client, manifest: &Manifest, head: i64) -> Result<(), RestoreFailure> {
    let plan = &manifest.plan;
    if head < plan.from - 1 {
        return Err(RestoreFailure::Refused(format!(
            "this export begins at position {}, and the journal here ends at {head}: restore the \
             part before it first",
            plan.from
        )));
    }
    if head > plan.until {
        return Err(RestoreFailure::Refused(format!(
            "the journal here ends at position {head}, behind the export's last one, {}: a restore \
             wants an empty journal, or one that it was interrupted in",
            plan.until
        )));
    }
    let activated: Vec<(String, i16)> = client
        .query("select type, version from journal.activations", &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for count in &manifest.types {
        if !activated
            .iter()
            .any(|(kind, version)| *kind == count.r#type && *version == count.schema_version)
        {
            return Err(RestoreFailure::Refused(format!(
                "{}/{} is not activated here: use a newer program, or `daybook schemas activate`",
                count.r#type, count.schema_version
            )));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Batch {
    events: Vec<StoredEvent>,
    bytes: usize,
}

impl Batch {
    /// The events so far, once they are enough.
    fn add(&mut self, event: StoredEvent) -> Option<Vec<StoredEvent>> {
        self.bytes += event.data.len() + event.meta.len();
        self.events.push(event);
        if self.events.len() < BATCH_EVENTS && self.bytes < BATCH_BYTES {
            return None;
        }
        self.bytes = 0;
        Some(std::mem::take(&mut self.events))
    }
}

async fn write(
    client: &Client,
    tenant: i32,
    head: (i64, Option<Vec<u8>>),
    mut waiting: mpsc::Receiver<Vec<StoredEvent>>,
    progress: &dyn RestoreProgress,
) -> Result<i64, RestoreFailure> {
    let restore = Restore::new(client).await?;
    let (mut head, mut mac) = head;
    let mut written = 0;
    while let Some(mut batch) = waiting.recv().await {
        let Some(last) = batch.last().map(|event| event.position) else { continue };
        let there = batch.partition_point(|event| event.position <= head);
        compare(client, tenant, &batch[..there]).await?;
        batch.drain(..there);
        if let Some(event) = batch.last() {
            let next_mac = event.mac.clone();
            head = restore.put(tenant, (head, mac.as_deref()), &batch).await?;
            mac = Some(next_mac);
            written += i64::try_from(batch.len()).unwrap_or(i64::MAX);
        }
        progress.reached(last);
    }
    Ok(written)
}

/// Whether the events that are there are these.
async fn compare(
    client: &Client,
    tenant: i32,
    events: &[StoredEvent],
) -> Result<(), RestoreFailure> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let sql = "select mac from journal.events where tenant = $1 and position between $2 and $3
               order by position";
    let rows = client.query(sql, &[&tenant, &first.position, &last.position]).await?;
    for (at, event) in events.iter().enumerate() {
        if rows.get(at).map(|row| row.get::<_, &[u8]>(0)) != Some(event.mac.as_slice()) {
            return Err(RestoreFailure::Refused(format!(
                "position {} holds another event here: a restore wants an empty journal, or one \
                 that it was interrupted in",
                event.position
            )));
        }
    }
    Ok(())
}

/// Reads all files and hands on each event that is what it was.
fn each_event(
    settings: &RestoreSettings,
    manifest: &Manifest,
    mut each: impl FnMut(StoredEvent) -> Result<(), RestoreFailure>,
) -> Result<(), RestoreFailure> {
    for entry in &manifest.files {
        read_file(settings, entry, &mut each)?;
    }
    Ok(())
}

fn read_file(
    settings: &RestoreSettings,
    entry: &FileEntry,
    each: &mut impl FnMut(StoredEvent) -> Result<(), RestoreFailure>,
) -> Result<(), RestoreFailure> {
    let path = settings.dir.join(&entry.path);
    let failed =
        |path: &Path, error| RestoreFailure::File { path: path.display().to_string(), error };
    let damaged = |line: Option<u64>, reason: String| RestoreFailure::Damaged {
        file: entry.path.clone(),
        line,
        reason,
    };
    let file = File::open(&path).map_err(|error| failed(&path, error))?;
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let (mut line, mut number, mut next) = (Vec::new(), 0, entry.from);
    loop {
        line.clear();
        let read = (&mut file).take(LINE_BYTES).read_until(b'\n', &mut line);
        let read = read.map_err(|error| failed(&path, error))?;
        if read == 0 {
            break;
        }
        number += 1;
        hash.update(&line);
        bytes += read as u64;
        if line.last() != Some(&b'\n') {
            return Err(damaged(Some(number), "the file is cut off within this line".to_owned()));
        }
        if next > entry.until {
            return Err(damaged(
                Some(number),
                format!("there is more than the manifest's {} events", entry.events),
            ));
        }
        let event = check(settings, &line, next).map_err(|reason| damaged(Some(number), reason))?;
        each(event)?;
        next += 1;
    }
    if next <= entry.until {
        return Err(damaged(
            Some(number),
            format!(
                "the file is cut off behind this line, positions {next} to {} are missing",
                entry.until
            ),
        ));
    }
    let found = hex::encode(hash.finalize());
    if bytes != entry.bytes || found != entry.sha256 {
        return Err(damaged(
            None,
            format!(
                "{bytes} bytes with SHA-256 {found}, where the manifest says {} with {}; each event \
                 is what it was",
                entry.bytes, entry.sha256
            ),
        ));
    }
    Ok(())
}

/// The event on a line, if it is the one at `position` that the writer signed.
fn check(settings: &RestoreSettings, line: &[u8], position: i64) -> Result<StoredEvent, String> {
    let (tenant, event) = parse_line(line, settings.tenant.id)?;
    if tenant != settings.tenant.name {
        return Err(format!(
            "this is an event of tenant {tenant}, not of {}",
            settings.tenant.name
        ));
    }
    if event.position < position {
        return Err(format!("position {} again, where {position} comes next", event.position));
    }
    if event.position > position {
        return Err(match event.position - 1 {
            last if last == position => format!("position {position} is missing before this line"),
            last => format!("positions {position} to {last} are missing before this line"),
        });
    }
    if !settings.keys.verify(&tenant, &event) {
        let number = event.mac.first().copied().unwrap_or_default();
        return Err(format!(
            "the mac of position {position} disagrees: the event was changed, or secret mac-{number} \
             is not the one of the installation that wrote it"
        ));
    }
    Ok(event)
}
