//! Files that are there whole or not at all, and their hashes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// What the name of a file ends with until it is finished.
pub(crate) const UNFINISHED: &str = ".unfinished";
/// Bytes that are written or read together.
const BUFFER_BYTES: usize = 1 << 20;

/// A file on its way: under a name of its own until it is finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    out: BufWriter<Hashed>,
}

#[derive(Debug)]
struct Hashed {
    file: File,
    hash: Sha256,
    bytes: u64,
}

/// Size and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// SHA-256, lower-case hexadecimal digits.
    pub(crate) sha256: String,
}

impl NewFile {
    /// Begins a file that will be at `path`. What was left unfinished there is overwritten.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(unfinished(path))?;
        let hashed = Hashed { file, hash: Sha256::new(), bytes: 0 };
        let out = BufWriter::with_capacity(BUFFER_BYTES, hashed);
        Ok(Self { path: path.to_owned(), out })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in place, on disk for good once its folder is synced too.
    pub(crate) fn finish(self) -> io::Result<Written> {
        let Hashed { file, hash, bytes } =
            self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(unfinished(&self.path), &self.path)?;
        Ok(Written { bytes, sha256: hex::encode(hash.finalize()) })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// Writes a whole small file, durably.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Size and hash of what is there.
pub(crate) fn hash(path: &Path) -> io::Result<Written> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Written { bytes, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}
