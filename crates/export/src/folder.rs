//! An export's folder: what of it is finished, and that nobody else is at it.
//!
//! Files are made in *pieces*: one file of NDJSON, or a file of each type for Parquet. A piece that
//! is on disk is noted as a line in the journal of progress, so an export that was interrupted goes
//! on behind the last one that is noted and still what it was. The manifest takes its place at the
//! end.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::ExportError,
    file::{self, UNFINISHED},
    manifest::{FileEntry, MANIFEST, Manifest, Plan, TypeCount},
};

/// Name of the journal of progress.
const PROGRESS: &str = "progress.ndjson";

/// Files that belong together, and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) types: Vec<TypeCount>,
}

/// What is found in a folder.
pub(crate) enum Found {
    /// Nothing, or an export to be continued.
    Begun(Folder),
    /// The same export, complete and sound.
    Complete(Manifest),
}

/// A folder that an export writes to, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    progress: File,
    pub(crate) plan: Plan,
    pub(crate) pieces: Vec<Piece>,
}

/// Where an export was, for whoever asks for "until the end" again.
pub(crate) fn planned(dir: &Path) -> Option<Plan> {
    let manifest = fs::read(dir.join(MANIFEST)).ok();
    if let Some(manifest) = manifest.and_then(|text| Manifest::parse(&text).ok()) {
        return Some(manifest.plan);
    }
    let progress = fs::read_to_string(dir.join(PROGRESS)).ok()?;
    serde_json::from_str(progress.lines().next()?).ok()
}

impl Folder {
    /// Opens or makes a folder for a plan. Files that are finished are read once, to see that they
    /// are what was written; `checked` hears of each piece's bytes.
    pub(crate) fn open(
        dir: &Path,
        plan: Plan,
        checked: impl Fn(i64),
    ) -> Result<Found, ExportError> {
        fs::create_dir_all(dir).map_err(ExportError::file(dir))?;
        let path = dir.join(MANIFEST);
        match fs::read(&path) {
            Ok(text) => return complete(dir, &plan, &text, checked).map(Found::Complete),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ExportError::file(&path)(error)),
        }
        let path = dir.join(PROGRESS);
        let failed = || ExportError::file(&path);
        let is_new = !path.exists();
        if is_new && fs::read_dir(dir).map_err(ExportError::file(dir))?.next().is_some() {
            return Err(ExportError::Folder(format!(
                "{} holds something else than an export: name a new folder",
                dir.display()
            )));
        }
        let progress =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed())?;
        if progress.try_lock().is_err() {
            return Err(ExportError::Folder(format!(
                "another process exports to {}",
                dir.display()
            )));
        }
        let text = fs::read(&path).map_err(failed())?;
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let begun = lines.next().and_then(|line| serde_json::from_slice::<Plan>(line).ok());
        if let Some(begun) = &begun {
            same_plan(dir, begun, &plan)?;
        }
        let mut folder = Self { dir: dir.to_owned(), progress, plan, pieces: Vec::new() };
        // Its last line may be half a one, and a file may not be what it was: from there on it is
        // made anew.
        for line in lines.filter(|_| begun.is_some()) {
            let Ok(piece) = serde_json::from_slice::<Piece>(line) else { break };
            if !folder.holds(&piece) {
                break;
            }
            checked(piece.until);
            folder.pieces.push(piece);
        }
        folder.begin_again()?;
        Ok(Found::Begun(folder))
    }

    /// Position behind the last finished piece.
    pub(crate) fn next(&self) -> i64 {
        self.pieces.last().map_or(self.plan.from, |piece| piece.until + 1)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes a piece whose files are finished.
    pub(crate) fn note(&mut self, piece: Piece) -> Result<(), ExportError> {
        let folders: BTreeSet<PathBuf> = piece
            .files
            .iter()
            .filter_map(|file| Some(self.dir.join(Path::new(&file.path).parent()?)))
            .chain([self.dir.clone()])
            .collect();
        for folder in folders {
            file::sync_folder(&folder).map_err(ExportError::file(&folder))?;
        }
        self.append(&piece)?;
        self.pieces.push(piece);
        Ok(())
    }

    /// Writes the manifest; the export is complete.
    pub(crate) fn finish(self) -> Result<Manifest, ExportError> {
        let files: Vec<FileEntry> =
            self.pieces.iter().flat_map(|piece| piece.files.iter().cloned()).collect();
        let mut types: Vec<TypeCount> = Vec::new();
        for count in self.pieces.iter().flat_map(|piece| &piece.types) {
            add(&mut types, &count.r#type, count.schema_version, count.events);
        }
        let manifest = Manifest {
            events: types.iter().map(|count| count.events).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            plan: self.plan,
            types: in_order(types),
            files,
        };
        let path = self.dir.join(MANIFEST);
        file::write_whole(&path, &manifest.to_json()).map_err(ExportError::file(&path))?;
        let path = self.dir.join(PROGRESS);
        fs::remove_file(&path).map_err(ExportError::file(&path))?;
        Ok(manifest)
    }

    /// Writes the journal of progress anew with what is kept, and removes every other file.
    fn begin_again(&mut self) -> Result<(), ExportError> {
        let kept: BTreeSet<PathBuf> = self
            .pieces
            .iter()
            .flat_map(|piece| &piece.files)
            .map(|file| self.dir.join(&file.path))
            .collect();
        remove_others(&self.dir, &kept)?;
        let path = self.dir.join(PROGRESS);
        self.progress.set_len(0).map_err(ExportError::file(&path))?;
        self.append(&self.plan.clone())?;
        for piece in self.pieces.clone() {
            self.append(&piece)?;
        }
        file::sync_folder(&self.dir).map_err(ExportError::file(&self.dir))
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), ExportError> {
        let path = self.dir.join(PROGRESS);
        let mut text = serde_json::to_vec(line).expect("string keys only");
        text.push(b'\n');
        self.progress
            .write_all(&text)
            .and_then(|()| self.progress.sync_data())
            .map_err(ExportError::file(&path))
    }

    fn holds(&self, piece: &Piece) -> bool {
        piece.from == self.next() && piece.files.iter().all(|entry| is_sound(&self.dir, entry))
    }
}

/// By type, then by version.
pub(crate) fn in_order(mut types: Vec<TypeCount>) -> Vec<TypeCount> {
    types.sort_by(|a, b| (&a.r#type, a.schema_version).cmp(&(&b.r#type, b.schema_version)));
    types
}

/// Counts events of a type and version.
pub(crate) fn add(types: &mut Vec<TypeCount>, kind: &str, schema_version: i16, events: u64) {
    let found = types
        .iter_mut()
        .find(|count| count.schema_version == schema_version && count.r#type == kind);
    match found {
        Some(count) => count.events += events,
        None => types.push(TypeCount { r#type: kind.to_owned(), schema_version, events }),
    }
}

fn is_sound(dir: &Path, entry: &FileEntry) -> bool {
    file::hash(&dir.join(&entry.path))
        .is_ok_and(|found| found.bytes == entry.bytes && found.sha256 == entry.sha256)
}

fn complete(
    dir: &Path,
    plan: &Plan,
    text: &[u8],
    checked: impl Fn(i64),
) -> Result<Manifest, ExportError> {
    let manifest = Manifest::parse(text).map_err(|wrong| {
        ExportError::Folder(format!("{}: {wrong}", dir.join(MANIFEST).display()))
    })?;
    same_plan(dir, &manifest.plan, plan)?;
    for entry in &manifest.files {
        if !is_sound(dir, entry) {
            return Err(ExportError::Folder(format!(
                "{} is complete, but {} is not what the manifest says: remove both and export again",
                dir.display(),
                entry.path
            )));
        }
        checked(entry.until);
    }
    // Ended between its last two steps, it left this behind.
    let path = dir.join(PROGRESS);
    if path.exists() {
        fs::remove_file(&path).map_err(ExportError::file(&path))?;
    }
    Ok(manifest)
}

fn same_plan(dir: &Path, there: &Plan, wanted: &Plan) -> Result<(), ExportError> {
    if there == wanted {
        return Ok(());
    }
    let differs = [
        ("of another format", there.format != wanted.format),
        ("of another tenant", there.tenant != wanted.tenant),
        ("of another history (incarnation)", there.incarnation != wanted.incarnation),
        ("of another range", (there.from, there.until) != (wanted.from, wanted.until)),
        ("with files of another size", there.file_events != wanted.file_events),
    ];
    let why = differs
        .iter()
        .find_map(|(why, differs)| differs.then_some(*why))
        .unwrap_or("by a program that knows other schemas");
    Err(ExportError::Folder(format!("{} holds an export {why}: name a new folder", dir.display())))
}

/// Removes what an interrupted export left, in the folder and in folders of types.
fn remove_others(dir: &Path, kept: &BTreeSet<PathBuf>) -> Result<(), ExportError> {
    for entry in fs::read_dir(dir).map_err(ExportError::file(dir))? {
        let path = entry.map_err(ExportError::file(dir))?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = [".ndjson", ".parquet", UNFINISHED].iter().any(|end| name.ends_with(end));
        if ours && name != PROGRESS && !kept.contains(&path) {
            fs::remove_file(&path).map_err(ExportError::file(&path))?;
        }
    }
    Ok(())
}
