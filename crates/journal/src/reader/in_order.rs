//! Events in order of position, as fast as PostgreSQL copies them: for whoever takes all of them.

use std::ops::Range;

use bytes::Bytes;

use super::{EventsCopy, JournalError, Reader};
use crate::{event::StoredEvent, upcast::Upcasters};

/// What every binary copy begins with (PostgreSQL, "COPY", binary format).
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Flags behind it, and the length of an extension, which is skipped.
const FLAGS_BYTES: usize = 4;
/// Columns of [`CopiedEvent`], in this order.
const COLUMNS: usize = 11;
/// Those of them that are text.
const TEXTS: [usize; 4] = [6, 7, 9, 10];
/// From 1970 to 2000, where PostgreSQL's timestamps begin, microseconds.
const TO_2000_US: i64 = 946_684_800_000_000;

/// A range of events, copied out. Dropped before its end, it is cancelled in PostgreSQL.
pub struct EventsInOrder {
    copy: EventsCopy,
}

/// One event as it was copied; texts are parts of what PostgreSQL sent.
#[derive(Debug, Clone)]
pub struct CopiedEvent {
    row: Bytes,
    columns: [Range<usize>; COLUMNS],
}

/// This is no part of a copy of events.
struct Damaged;

impl Reader {
    /// The events of a tenant with positions in (`after`, `until`], ascending. As they are stored,
    /// or with `lifted` in the current form of these upcasters, which must be installed.
    pub async fn copy_in_order(
        &self,
        tenant: i32,
        after: i64,
        until: i64,
        lifted: Option<&Upcasters>,
    ) -> Result<EventsInOrder, JournalError> {
        let (version, data) = match lifted {
            None => ("schema_version".to_owned(), "data".to_owned()),
            Some(set) => (
                set.in_sql("journal.current_version(type, schema_version)"),
                set.in_sql("journal.upcast(type, schema_version, data)"),
            ),
        };
        let copy = self
            .copy_out(&format!(
                "copy (select position, version, schema_version, {version}, occurred_at, \
                 recorded_at, stream, type, mac, ({data})::text, meta::text \
                 from journal.events where tenant = {tenant} and position > {after} \
                 and position <= {until} order by position) to stdout (format binary)"
            ))
            .await?;
        Ok(EventsInOrder { copy })
    }
}

impl EventsInOrder {
    /// The next event; `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<CopiedEvent>, JournalError> {
        // PostgreSQL sends one row in a message, the first one behind the header.
        while let Some(message) = self.copy.next().await? {
            let event = CopiedEvent::parse(message).map_err(|Damaged| JournalError::DamagedCopy)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }
}

impl CopiedEvent {
    /// `None`: the header alone, or the end of the copy.
    fn parse(message: Bytes) -> Result<Option<Self>, Damaged> {
        let number = |at: usize| -> Result<[u8; 4], Damaged> {
            message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or(Damaged)
        };
        let mut at = 0;
        if message.starts_with(SIGNATURE) {
            at = SIGNATURE.len() + FLAGS_BYTES;
            let extension = u32::from_be_bytes(number(at)?);
            at += 4 + usize::try_from(extension).map_err(|_| Damaged)?;
            if at == message.len() {
                return Ok(None);
            }
        }
        let count = message.get(at..at + 2).ok_or(Damaged)?;
        let count = i16::from_be_bytes(count.try_into().map_err(|_| Damaged)?);
        if count == -1 {
            return Ok(None);
        }
        at += 2;
        let mut columns = [const { 0..0 }; COLUMNS];
        for column in &mut columns {
            // A null has length −1; no column of an event is null.
            let length = i32::from_be_bytes(number(at)?);
            at += 4;
            let end = at + usize::try_from(length).map_err(|_| Damaged)?;
            *column = at..end;
            at = end;
        }
        let event = Self { row: message, columns };
        let widths = [8, 4, 2, 2, 8, 8];
        let sound = usize::try_from(count) == Ok(COLUMNS)
            && at == event.row.len()
            && widths.iter().zip(&event.columns).all(|(width, range)| range.len() == *width)
            && TEXTS.into_iter().all(|n| std::str::from_utf8(event.bytes(n)).is_ok());
        if sound { Ok(Some(event)) } else { Err(Damaged) }
    }

    fn bytes(&self, column: usize) -> &[u8] {
        &self.row[self.columns[column].clone()]
    }

    fn number<const N: usize>(&self, column: usize) -> [u8; N] {
        self.bytes(column).try_into().expect("widths were looked at")
    }

    fn text(&self, column: usize) -> &str {
        std::str::from_utf8(self.bytes(column)).expect("texts were looked at")
    }

    /// Place in the tenant's total order, from 1.
    pub fn position(&self) -> i64 {
        i64::from_be_bytes(self.number(0))
    }

    /// Place in its stream, from 1.
    pub fn version(&self) -> i32 {
        i32::from_be_bytes(self.number(1))
    }

    /// Version of the type's schema that it was stored in.
    pub fn stored_version(&self) -> i16 {
        i16::from_be_bytes(self.number(2))
    }

    /// Version of the type's schema that `data` is in here.
    pub fn schema_version(&self) -> i16 {
        i16::from_be_bytes(self.number(3))
    }

    /// When it happened in the world, microseconds since 1970.
    pub fn occurred_at_us(&self) -> i64 {
        i64::from_be_bytes(self.number(4)).saturating_add(TO_2000_US)
    }

    /// When it was written, microseconds since 1970.
    pub fn recorded_at_us(&self) -> i64 {
        i64::from_be_bytes(self.number(5)).saturating_add(TO_2000_US)
    }

    /// Name of its stream.
    pub fn stream(&self) -> &str {
        self.text(6)
    }

    /// Event type.
    pub fn kind(&self) -> &str {
        self.text(7)
    }

    /// As it is stored.
    pub fn mac(&self) -> &[u8] {
        self.bytes(8)
    }

    /// JSON object, as PostgreSQL prints its `jsonb`.
    pub fn data(&self) -> &str {
        self.text(9)
    }

    /// JSON object of [`crate::Meta`], as PostgreSQL prints its `jsonb`.
    pub fn meta(&self) -> &str {
        self.text(10)
    }

    /// Bytes that it takes in memory, roughly.
    pub fn size(&self) -> usize {
        self.row.len()
    }

    /// The same as an event of a tenant; `None`: a time that a calendar doesn't have.
    pub fn to_stored(&self, tenant: i32) -> Option<StoredEvent> {
        Some(StoredEvent {
            tenant,
            position: self.position(),
            stream: self.stream().to_owned(),
            version: self.version(),
            kind: self.kind().to_owned(),
            schema_version: self.schema_version(),
            data: self.data().to_owned(),
            meta: self.meta().to_owned(),
            occurred_at: chrono::DateTime::from_timestamp_micros(self.occurred_at_us())?,
            recorded_at: chrono::DateTime::from_timestamp_micros(self.recorded_at_us())?,
            mac: self.mac().to_owned(),
        })
    }
}
