//! The form of an event in Kafka: CloudEvents 1.0 in binary mode, every column exactly.
//!
//! The value is the event's data, the key its tenant's name, the timestamp `recorded_at` in
//! milliseconds. Attributes are headers named `ce_…`; those beyond the standard's own are
//! `tenant`, `position`, `streamversion`, `schemaversion`, `incarnation`, `mac` (hex), `occurredat`
//! and `meta` (JSON text). Sources: CloudEvents 1.0.2 and its Kafka protocol binding.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use daybook_journal::StoredEvent;
use rdkafka::{
    Message,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
};
use uuid::Uuid;

/// An event as a record carries it, with the tenant's name and the journal's incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent<'a> {
    /// Name of the event's tenant.
    pub tenant: &'a str,
    /// Id of the journal's history.
    pub incarnation: Uuid,
    /// Position in the tenant's order.
    pub position: i64,
    /// Name of its stream.
    pub stream: &'a str,
    /// Place in its stream.
    pub version: i32,
    /// Event type.
    pub kind: &'a str,
    /// Version of the type's schema.
    pub schema_version: i16,
    /// JSON object, as stored.
    pub data: &'a str,
    /// JSON object, as stored.
    pub meta: &'a str,
    /// When it happened, whole microseconds.
    pub occurred_at: DateTime<Utc>,
    /// When it was written, whole microseconds.
    pub recorded_at: DateTime<Utc>,
    /// Key number and HMAC.
    pub mac: &'a [u8],
}

impl<'a> FeedEvent<'a> {
    /// An event of the journal, of the tenant of that name.
    pub fn of(tenant: &'a str, incarnation: Uuid, event: &'a StoredEvent) -> Self {
        Self {
            tenant,
            incarnation,
            position: event.position,
            stream: &event.stream,
            version: event.version,
            kind: &event.kind,
            schema_version: event.schema_version,
            data: &event.data,
            meta: &event.meta,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            mac: &event.mac,
        }
    }

    /// The event as the journal knows it, under the tenant's number.
    pub fn to_stored(&self, tenant: i32) -> StoredEvent {
        StoredEvent {
            tenant,
            position: self.position,
            stream: self.stream.to_owned(),
            version: self.version,
            kind: self.kind.to_owned(),
            schema_version: self.schema_version,
            data: self.data.to_owned(),
            meta: self.meta.to_owned(),
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            mac: self.mac.to_vec(),
        }
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A header that every event has is not there.
    #[error("not a Daybook event: header {0} is missing")]
    Missing(&'static str),
    /// A header is there twice.
    #[error("not a Daybook event: header {0} is there twice")]
    Twice(&'static str),
    /// A header's value makes no sense.
    #[error("not a Daybook event: header {name} can't be {value:?}")]
    Header {
        /// The header.
        name: &'static str,
        /// Its value, cut off when long.
        value: String,
    },
    /// A header's name is not UTF-8.
    #[error("not a Daybook event: a header's name is not UTF-8")]
    HeaderName,
    /// The key is not the tenant's name.
    #[error("not a Daybook event: the key is not the tenant's name")]
    Key,
    /// The value is not a JSON object in UTF-8.
    #[error("not a Daybook event: the value is not a JSON object")]
    Value,
}

/// Names of the headers that every record has, in the order in which they stand there.
pub const HEADER_NAMES: [&str; 15] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_subject",
    "content-type",
    "ce_tenant",
    "ce_position",
    "ce_streamversion",
    "ce_schemaversion",
    "ce_incarnation",
    "ce_mac",
    "ce_occurredat",
    "ce_meta",
];
const SPEC_VERSION: usize = 0;
const ID: usize = 1;
const TYPE: usize = 3;
const TIME: usize = 4;
const SUBJECT: usize = 5;
const CONTENT_TYPE: usize = 6;
const TENANT: usize = 7;
const POSITION: usize = 8;
const STREAM_VERSION: usize = 9;
const SCHEMA_VERSION: usize = 10;
const INCARNATION: usize = 11;
const MAC: usize = 12;
const OCCURRED_AT: usize = 13;
const META: usize = 14;

/// Bytes of a mac: key number and HMAC-SHA-256.
pub(crate) const MAC_BYTES: usize = 33;

/// The headers of an event's record. Its value is `event.data`, its key `event.tenant`, its
/// timestamp `event.recorded_at` in milliseconds.
///
/// Fails with the reason if the event has a time that RFC 3339 can't write (a year beyond 9999).
pub fn encode(event: &FeedEvent<'_>) -> Result<OwnedHeaders, String> {
    let mut text = String::with_capacity(80);
    let mut headers = Some(OwnedHeaders::new_with_capacity(HEADER_NAMES.len()));
    let mut add = |index: usize, value: &str| {
        // `insert` takes the headers and gives them back.
        let header = Header { key: HEADER_NAMES[index], value: Some(value) };
        headers = headers.take().map(|headers| headers.insert(header));
    };
    add(SPEC_VERSION, "1.0");
    add(ID, written(&mut text, format_args!("{}/{}", event.tenant, event.position)));
    add(2, written(&mut text, format_args!("/daybook/{}", event.tenant)));
    add(TYPE, event.kind);
    add(TIME, time_text(&mut text, event.recorded_at)?);
    add(SUBJECT, event.stream);
    add(CONTENT_TYPE, "application/json");
    add(TENANT, event.tenant);
    add(POSITION, written(&mut text, format_args!("{}", event.position)));
    add(STREAM_VERSION, written(&mut text, format_args!("{}", event.version)));
    add(SCHEMA_VERSION, written(&mut text, format_args!("{}", event.schema_version)));
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    add(INCARNATION, event.incarnation.hyphenated().encode_lower(&mut id));
    let mut mac = [0; 2 * MAC_BYTES];
    hex::encode_to_slice(event.mac, &mut mac)
        .map_err(|_wrong_length| format!("its mac has {} bytes", event.mac.len()))?;
    add(MAC, std::str::from_utf8(&mac).expect("hexadecimal digits"));
    add(OCCURRED_AT, time_text(&mut text, event.occurred_at)?);
    add(META, event.meta);
    Ok(headers.expect("each insertion gives them back"))
}

fn written<'t>(text: &'t mut String, value: std::fmt::Arguments<'_>) -> &'t str {
    text.clear();
    text.write_fmt(value).expect("a string takes everything");
    text
}

/// RFC 3339 in UTC with six digits of a second. Written by hand: this runs twice a record.
fn time_text(text: &mut String, time: DateTime<Utc>) -> Result<&str, String> {
    let naive = time.naive_utc();
    let year = u32::try_from(naive.year()).ok().filter(|year| *year <= 9999);
    let year = year.ok_or_else(|| format!("RFC 3339 has no year {}", naive.year()))?;
    if time.nanosecond() >= 1_000_000_000 {
        // A leap second: rare enough for the slow way.
        let slow = time.to_rfc3339_opts(SecondsFormat::Micros, true);
        return Ok(written(text, format_args!("{slow}")));
    }
    let mut digits = *b"0000-00-00T00:00:00.000000Z";
    for (at, width, mut value) in [
        (0, 4, year),
        (5, 2, naive.month()),
        (8, 2, naive.day()),
        (11, 2, naive.hour()),
        (14, 2, naive.minute()),
        (17, 2, naive.second()),
        (20, 6, naive.nanosecond() / 1000),
    ] {
        for digit in digits[at..at + width].iter_mut().rev() {
            *digit = b'0' + u8::try_from(value % 10).expect("below ten");
            value /= 10;
        }
    }
    Ok(written(text, format_args!("{}", std::str::from_utf8(&digits).expect("ASCII"))))
}

/// Values of the headers that we know.
struct Fields<'a>([Option<&'a [u8]>; HEADER_NAMES.len()]);

impl<'a> Fields<'a> {
    fn read<H: Headers>(headers: Option<&'a H>) -> Result<Self, RecordError> {
        let mut fields = [None; HEADER_NAMES.len()];
        let Some(headers) = headers else { return Ok(Self(fields)) };
        for (nth, header) in headers.iter().enumerate() {
            // Ours stand in the order of HEADER_NAMES; others' may stand anywhere.
            let index = if HEADER_NAMES.get(nth) == Some(&header.key) {
                Some(nth)
            } else {
                HEADER_NAMES.iter().position(|name| *name == header.key)
            };
            if let Some(index) = index {
                let value = header.value.ok_or(RecordError::Missing(HEADER_NAMES[index]))?;
                if fields[index].replace(value).is_some() {
                    return Err(RecordError::Twice(HEADER_NAMES[index]));
                }
            }
        }
        Ok(Self(fields))
    }

    fn text(&self, index: usize) -> Result<&'a str, RecordError> {
        let bytes = self.0[index].ok_or(RecordError::Missing(HEADER_NAMES[index]))?;
        std::str::from_utf8(bytes).map_err(|_not_utf8| self.wrong(index))
    }

    fn parsed<T>(
        &self,
        index: usize,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, RecordError> {
        parse(self.text(index)?).ok_or_else(|| self.wrong(index))
    }

    fn wrong(&self, index: usize) -> RecordError {
        const SHOWN: usize = 100;
        let bytes = self.0[index].unwrap_or_default();
        let value = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
        RecordError::Header { name: HEADER_NAMES[index], value }
    }

    fn require(&self, index: usize, valid: impl FnOnce(&str) -> bool) -> Result<(), RecordError> {
        self.parsed(index, |text| valid(text).then_some(()))
    }

    fn positive<T>(&self, index: usize) -> Result<T, RecordError>
    where
        T: std::str::FromStr + PartialOrd + Default,
    {
        self.parsed(index, |text| {
            let canonical = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
            text.parse().ok().filter(|number| canonical && *number > T::default())
        })
    }

    fn time(&self, index: usize) -> Result<DateTime<Utc>, RecordError> {
        self.parsed(index, |text| DateTime::parse_from_rfc3339(text).ok().map(Into::into))
    }

    fn mac(&self) -> Result<[u8; MAC_BYTES], RecordError> {
        let mut mac = [0; MAC_BYTES];
        self.parsed(MAC, |text| hex::decode_to_slice(text, &mut mac).ok())?;
        Ok(mac)
    }
}

/// Which event a record is: enough to know how far a topic reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) position: i64,
    pub(crate) mac: [u8; MAC_BYTES],
}

/// Reads an event from a record's parts and hands it to `use_it`.
///
/// Unknown headers are left alone, as CloudEvents asks. The value is checked to be UTF-8 in
/// braces, not parsed.
pub fn decode<M: Message, T>(
    record: &M,
    use_it: impl FnOnce(FeedEvent<'_>) -> T,
) -> Result<T, RecordError> {
    let fields = Fields::read(record.headers())?;
    let place = place_of(&fields, record.key())?;
    let data = record.payload().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let data = data.filter(|text| is_object(text)).ok_or(RecordError::Value)?;
    fields.require(CONTENT_TYPE, |text| text.starts_with("application/json"))?;
    fields.require(META, is_object)?;
    Ok(use_it(FeedEvent {
        tenant: place.tenant,
        incarnation: fields.parsed(INCARNATION, |text| Uuid::try_parse(text).ok())?,
        position: place.position,
        stream: fields.text(SUBJECT)?,
        version: fields.positive(STREAM_VERSION)?,
        kind: fields.text(TYPE)?,
        schema_version: fields.positive(SCHEMA_VERSION)?,
        data,
        meta: fields.text(META)?,
        occurred_at: fields.time(OCCURRED_AT)?,
        recorded_at: fields.time(TIME)?,
        mac: &place.mac,
    }))
}

fn place_of<'a>(fields: &Fields<'a>, key: Option<&[u8]>) -> Result<Place<'a>, RecordError> {
    fields.require(SPEC_VERSION, |text| text == "1.0")?;
    let tenant = fields.text(TENANT)?;
    let position = fields.positive(POSITION)?;
    let id = fields.text(ID)?;
    if id.strip_prefix(tenant).and_then(|rest| rest.strip_prefix('/'))
        != Some(fields.text(POSITION)?)
    {
        return Err(fields.wrong(ID));
    }
    if key != Some(tenant.as_bytes()) {
        return Err(RecordError::Key);
    }
    Ok(Place { tenant, position, mac: fields.mac()? })
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}')
}

/// [`decode`] for records from a consumer, whoever wrote them: rdkafka panics over a header whose
/// name is not UTF-8.
pub(crate) fn decode_received<T>(
    record: &BorrowedMessage<'_>,
    use_it: impl FnOnce(FeedEvent<'_>) -> T,
) -> Result<T, RecordError> {
    catch_unwind(AssertUnwindSafe(|| decode(record, use_it)))
        .unwrap_or(Err(RecordError::HeaderName))
}

/// The [`Place`] of a record from a consumer.
pub(crate) fn place_received<T>(
    record: &BorrowedMessage<'_>,
    use_it: impl FnOnce(Place<'_>) -> T,
) -> Result<T, RecordError> {
    catch_unwind(AssertUnwindSafe(|| {
        place_of(&Fields::read(record.headers())?, record.key()).map(use_it)
    }))
    .unwrap_or(Err(RecordError::HeaderName))
}

#[cfg(test)]
mod tests;
