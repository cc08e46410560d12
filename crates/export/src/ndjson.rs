//! The stored form: one event a line, with everything that a restore needs.

use std::{io::Write, path::Path};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use daybook_journal::{CopiedEvent, StoredEvent};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{error::ExportError, file::NewFile, manifest::FileEntry};

/// A file of lines being written.
#[derive(Debug)]
pub(crate) struct NdjsonFile {
    name: String,
    file: NewFile,
    tenant: String,
    line: Vec<u8>,
}

impl NdjsonFile {
    /// Begins the file whose first event is at a position.
    pub(crate) fn create(dir: &Path, tenant: &str, from: i64) -> Result<Self, ExportError> {
        let name = format!("events-{from:012}.ndjson");
        let path = dir.join(&name);
        let file = NewFile::create(&path).map_err(ExportError::file(&path))?;
        Ok(Self { name, file, tenant: json_text(tenant), line: Vec::with_capacity(1024) })
    }

    pub(crate) fn event(&mut self, event: &CopiedEvent) -> Result<(), ExportError> {
        self.line.clear();
        write_line(&mut self.line, &self.tenant, event)
            .ok_or_else(|| ExportError::damaged(event.position(), "a time no calendar has"))?;
        self.file.write_all(&self.line).map_err(ExportError::file(self.file.path()))
    }

    pub(crate) fn finish(
        self,
        from: i64,
        until: i64,
        events: u64,
    ) -> Result<FileEntry, ExportError> {
        let Self { name, file, .. } = self;
        let failed = ExportError::file(file.path());
        let written = file.finish().map_err(failed)?;
        let (bytes, sha256) = (written.bytes, written.sha256);
        Ok(FileEntry { path: name, from, until, events, bytes, sha256 })
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// `data` and `meta` stand as PostgreSQL prints them: on one line, and the same for the same value.
fn write_line(line: &mut Vec<u8>, tenant: &str, event: &CopiedEvent) -> Option<()> {
    macro_rules! put {
        ($($part:expr),*) => {{ $(line.extend_from_slice($part);)* }};
    }
    let mut digits = Digits::default();
    put!(b"{\"tenant\":", tenant.as_bytes());
    put!(b",\"position\":", digits.of(event.position()));
    put!(b",\"stream\":", json_text(event.stream()).as_bytes());
    put!(b",\"version\":", digits.of(event.version().into()));
    put!(b",\"type\":", json_text(event.kind()).as_bytes());
    put!(b",\"schema_version\":", digits.of(event.stored_version().into()));
    put!(b",\"occurred_at\":\"");
    write_time(line, event.occurred_at_us())?;
    put!(b"\",\"recorded_at\":\"");
    write_time(line, event.recorded_at_us())?;
    put!(b"\",\"mac\":\"");
    for byte in event.mac() {
        let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
        put!(&[digit(byte >> 4), digit(byte & 15)]);
    }
    put!(b"\",\"data\":", event.data().as_bytes());
    put!(b",\"meta\":", event.meta().as_bytes(), b"}\n");
    Some(())
}

/// A number's decimal digits, without an allocation for each.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, number: i64) -> &[u8] {
        let mut rest: &mut [u8] = &mut self.0;
        let room = rest.len();
        write!(rest, "{number}").expect("an i64 has at most 20 characters");
        let left = rest.len();
        &self.0[..room - left]
    }
}

/// RFC 3339 in UTC with six digits of the second, which chrono's own formatting takes five times as
/// long for.
fn write_time(line: &mut Vec<u8>, at_us: i64) -> Option<()> {
    let at: DateTime<Utc> = DateTime::from_timestamp_micros(at_us)?;
    let Ok(year @ 0..=9999) = u32::try_from(at.year()) else {
        line.extend_from_slice(at.to_rfc3339_opts(SecondsFormat::Micros, true).as_bytes());
        return Some(());
    };
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |end: usize, width: usize, mut number: u32| {
        for place in (end - width..end).rev() {
            text[place] = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
        }
    };
    put(4, 4, year);
    put(7, 2, at.month());
    put(10, 2, at.day());
    put(13, 2, at.hour());
    put(16, 2, at.minute());
    put(19, 2, at.second());
    put(26, 6, at.nanosecond() / 1_000);
    line.extend_from_slice(&text);
    Some(())
}

/// A line as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    tenant: String,
    position: i64,
    stream: String,
    version: i32,
    r#type: String,
    schema_version: i16,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    mac: String,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    meta: &'a RawValue,
}

/// The event on a line and the name of its tenant, or what is wrong.
pub(crate) fn parse_line(line: &[u8], tenant: i32) -> Result<(String, StoredEvent), String> {
    let read: Line<'_> =
        serde_json::from_slice(line).map_err(|error| format!("no event: {error}"))?;
    let whole = |at: &DateTime<Utc>| at.timestamp_subsec_nanos().is_multiple_of(1_000);
    if !whole(&read.occurred_at) || !whole(&read.recorded_at) {
        return Err("times are in whole microseconds".to_owned());
    }
    let mac = hex::decode(&read.mac).map_err(|_odd| "its mac is not hexadecimal".to_owned())?;
    let event = StoredEvent {
        tenant,
        position: read.position,
        stream: read.stream,
        version: read.version,
        kind: read.r#type,
        schema_version: read.schema_version,
        data: read.data.get().to_owned(),
        meta: read.meta.get().to_owned(),
        occurred_at: read.occurred_at,
        recorded_at: read.recorded_at,
        mac,
    };
    Ok((read.tenant, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(at_us: i64) -> String {
        let mut line = Vec::new();
        write_time(&mut line, at_us).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn times_are_those_of_chrono() {
        for at_us in
            [0, -1, 1_291_191_960_000_001, -62_135_596_800_000_000, 253_402_300_800_000_000]
        {
            let at = DateTime::from_timestamp_micros(at_us).unwrap();
            assert_eq!(time(at_us), at.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(Digits::default().of(number), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_line_has_these_members_and_no_others() {
        let line = r#"{"tenant":"main","position":7,"stream":"stock-A","version":2,
            "type":"StockReceived","schema_version":1,"occurred_at":"2010-12-01T08:26:00.000001Z",
            "recorded_at":"2010-12-01T08:26:00.000002Z","mac":"01ff","data":{"sku": "A"},
            "meta":{"key": "k"}}"#;
        let (tenant, event) = parse_line(line.as_bytes(), 3).unwrap();
        assert_eq!((tenant.as_str(), event.tenant, event.position), ("main", 3, 7));
        assert_eq!((event.mac, event.data.as_str()), (vec![1, 255], r#"{"sku": "A"}"#));
        for (from, to, wrong) in [
            (r#""position":7,"#, "", "missing field `position`"),
            (r#""version":2"#, r#""version":2,"more":1"#, "unknown field `more`"),
            ("01ff", "01f", "its mac is not hexadecimal"),
            ("000001Z", "0000011Z", "times are in whole microseconds"),
            (r#""meta":{"key": "k"}}"#, r#""meta":{"key": "k"#, "no event"),
        ] {
            let error = parse_line(line.replace(from, to).as_bytes(), 3).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
