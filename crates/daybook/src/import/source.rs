//! The file: opened, unpacked if it is gzip, hashed, and read line by line.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::row::{BadRow, Dictionary, HEADER, Row};

/// Longest line, bytes; a longer one is a bad row.
const MAX_LINE: usize = 16 * 1024;
/// Most rows of a file.
const MAX_ROWS: u32 = 100_000_000;

/// A file that was read to its end.
#[derive(Debug)]
pub(crate) struct Contents {
    /// SHA-256 of the uncompressed file, lower-case hex.
    pub(crate) sha256: String,
    /// How many rows it has, good and bad.
    pub(crate) row_count: u32,
    /// The rows that can be read, in order.
    pub(crate) rows: Vec<Row>,
    /// The others, in order.
    pub(crate) bad: Vec<BadRow>,
    /// Texts of the columns.
    pub(crate) names: Dictionary,
}

impl Contents {
    /// Reads the file at `path`, plain or gzip (known by its first bytes). A file with another
    /// header is an error; a bad row is not.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let packed = file
            .fill_buf()
            .with_context(|| format!("can't read {}", path.display()))?
            .starts_with(&[0x1f, 0x8b]);
        if packed { Self::read_from(MultiGzDecoder::new(file)) } else { Self::read_from(file) }
            .with_context(|| format!("can't import {}", path.display()))
    }

    /// The same from anything that can be read.
    pub(crate) fn read_from(source: impl Read) -> anyhow::Result<Self> {
        let mut lines = Lines::new(source);
        check_header(lines.next()?.as_ref())?;
        let mut contents = Self {
            sha256: String::new(),
            row_count: 0,
            rows: Vec::new(),
            bad: Vec::new(),
            names: Dictionary::default(),
        };
        while let Some(line) = lines.next()? {
            if contents.row_count == MAX_ROWS {
                bail!("the file has more than {MAX_ROWS} rows");
            }
            contents.row_count += 1;
            let number = contents.row_count;
            let row = match line {
                Line::Whole(line) => Row::parse(number, line, &mut contents.names),
                Line::TooLong => Err(format!("the line is longer than {MAX_LINE} bytes")),
            };
            match row {
                Ok(row) => contents.rows.push(row),
                Err(reason) => contents.bad.push(BadRow { row: number, reason }),
            }
        }
        contents.sha256 = lines.sha256();
        Ok(contents)
    }
}

fn check_header(line: Option<&Line<'_>>) -> anyhow::Result<()> {
    let expected = HEADER.join(",");
    let found = match line {
        None => bail!("the file is empty; expected the columns {expected}"),
        Some(Line::Whole(line)) => String::from_utf8_lossy(line),
        Some(Line::TooLong) => {
            bail!("the first line is too long for a header; expected the columns {expected}")
        }
    };
    let found = found.strip_prefix('\u{feff}').unwrap_or(&found);
    if found != expected {
        let found: String = found.chars().take(200).collect();
        bail!(
            "this is not a UCI Online Retail file: expected the columns {expected}, found {found:?}"
        );
    }
    Ok(())
}

/// A line without its line break.
enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Lines of a source, hashing every byte on the way.
struct Lines<R> {
    source: BufReader<Hashing<R>>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(source: R) -> Self {
        let hashing = Hashing { source, hash: Sha256::new() };
        Self { source: BufReader::with_capacity(1 << 16, hashing), line: Vec::new() }
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut seen = 0_usize;
        loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                if seen == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            let room = (MAX_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = piece.len() + usize::from(end.is_some());
            seen += used;
            self.source.consume(used);
            if end.is_some() {
                break;
            }
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(Some(if self.line.len() > MAX_LINE { Line::TooLong } else { Line::Whole(&self.line) }))
    }

    fn sha256(self) -> String {
        hex::encode(self.source.into_inner().hash.finalize())
    }
}

struct Hashing<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEAD: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";

    #[test]
    fn a_bad_row_does_not_stop_the_rest() {
        let good = "1,A,x,6,2010-12-01 08:26:00,2.55,1.0,UK";
        let long = "y".repeat(40_000);
        let text = format!("{HEAD}\r\n{good}\r\n1,A,\"x,6\n{good}\n{long}\n\n{good}");
        let contents = Contents::read_from(text.as_bytes()).unwrap();
        assert_eq!(contents.row_count, 6);
        assert_eq!(contents.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 3, 6]);
        assert_eq!(contents.bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), [2, 4, 5]);
        assert!(contents.bad[0].reason.contains("not closed"));
        assert!(contents.bad[1].reason.contains("longer than"));
        assert_eq!(contents.sha256, hex::encode(Sha256::digest(text.as_bytes())));
    }

    #[test]
    fn another_format_is_refused_at_its_header() {
        for (text, found) in [
            ("Invoice,StockCode\n1,A\n", "\"Invoice,StockCode\""),
            ("", "the file is empty"),
            ("{\"a\":1}\n", "{"),
        ] {
            let error = Contents::read_from(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
            assert!(error.contains(HEAD), "{error}");
        }
        assert_eq!(Contents::read_from(format!("{HEAD}\n").as_bytes()).unwrap().row_count, 0);
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_and_hashed_unpacked() {
        let text = format!("{HEAD}\n1,A,x,6,2010-12-01 08:26:00,2.55,1.0,UK\n");
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        let packed = directory.path().join("packed");
        std::fs::write(&plain, &text).unwrap();
        let mut writer = flate2::write::GzEncoder::new(
            File::create(&packed).unwrap(),
            flate2::Compression::fast(),
        );
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap();
        let (plain, packed) = (Contents::read(&plain).unwrap(), Contents::read(&packed).unwrap());
        assert_eq!(plain.sha256, packed.sha256);
        assert_eq!(packed.rows.len(), 1);
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut.gz");
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(format!("{HEAD}\n").repeat(100).as_bytes()).unwrap();
        let whole = writer.finish().unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(Contents::read(&path).is_err());
    }
}
