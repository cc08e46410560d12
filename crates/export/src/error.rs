//! Why an export or a restore did not come to its end.

use std::{io, path::Path};

use daybook_journal::JournalError;

/// An export failed. What was finished before is kept: run again, it continues.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file can't be written or read.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The folder holds something that this export can't continue.
    #[error("{0}")]
    Folder(String),
    /// The range can't be had.
    #[error("{0}")]
    Range(String),
    /// The journal holds something that must not be.
    #[error("position {position}: {reason}")]
    Damaged {
        /// Where.
        position: i64,
        /// What.
        reason: String,
    },
    /// Parquet's writer refused something.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// It was asked to stop.
    #[error("interrupted: what is finished is kept, the same command continues")]
    Interrupted,
}

impl ExportError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |error| Self::File { path, error }
    }

    pub(crate) fn damaged(position: i64, reason: impl Into<String>) -> Self {
        Self::Damaged { position, reason: reason.into() }
    }
}
