//! Columns being filled, straight from JSON text: nothing in between is built.

use std::{fmt, sync::Arc};

use arrow_array::{
    ArrayRef, ListArray, StructArray,
    builder::{BooleanBuilder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use chrono::DateTime;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::schema::{Column, ColumnType};

/// Most columns of a table: each has a bit in a `u64` while a row is read.
pub(crate) const MAX_COLUMNS: usize = 64;

/// The cells of one column, until they are taken.
pub(crate) enum Cells {
    /// Also ids, and JSON.
    Text(StringBuilder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    /// Microseconds since 1970.
    Time(TimestampMicrosecondBuilder),
    /// JSON as it stands.
    Json(StringBuilder),
    Rows(RowsCells),
}

/// Lists of rows.
pub(crate) struct RowsCells {
    table: Table,
    /// Where each list ends.
    ends: Vec<i32>,
    is_there: Vec<bool>,
    rows: i32,
}

/// Columns that are filled together, a row at a time, each from the member of its name.
pub(crate) struct Table {
    members: Vec<String>,
    fields: Fields,
    pub(crate) cells: Vec<Cells>,
    /// Whether a member without a column is passed over, or an error.
    ignores_others: bool,
}

/// The Arrow field of a column.
pub(crate) fn field(name: &str, kind: &ColumnType, nullable: bool) -> Field {
    let kind = match kind {
        // DuckDB and Polars join ids as text; Polars reads Parquet's UUIDs as 16 bytes.
        ColumnType::Text | ColumnType::Id | ColumnType::Json => DataType::Utf8,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Rows(columns) => DataType::List(Arc::new(Field::new(
            "element",
            DataType::Struct(fields(columns)),
            false,
        ))),
    };
    Field::new(name, kind, nullable)
}

fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(|column| field(&column.name, &column.kind, true)).collect()
}

impl Cells {
    pub(crate) fn new(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Text | ColumnType::Id => Self::Text(StringBuilder::new()),
            ColumnType::Integer => Self::Integer(Int64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Time => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            ColumnType::Json => Self::Json(StringBuilder::new()),
            ColumnType::Rows(columns) => Self::Rows(RowsCells {
                table: Table::new(columns),
                ends: Vec::new(),
                is_there: Vec::new(),
                rows: 0,
            }),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(cells) | Self::Json(cells) => cells.append_null(),
            Self::Integer(cells) => cells.append_null(),
            Self::Boolean(cells) => cells.append_null(),
            Self::Time(cells) => cells.append_null(),
            Self::Rows(lists) => {
                lists.ends.push(lists.rows);
                lists.is_there.push(false);
            }
        }
    }

    /// Takes what has been filled in.
    pub(crate) fn take(&mut self) -> ArrayRef {
        match self {
            Self::Text(cells) | Self::Json(cells) => Arc::new(cells.finish()),
            Self::Integer(cells) => Arc::new(cells.finish()),
            Self::Boolean(cells) => Arc::new(cells.finish()),
            Self::Time(cells) => Arc::new(cells.finish()),
            Self::Rows(lists) => Arc::new(lists.take()),
        }
    }
}

impl RowsCells {
    fn take(&mut self) -> ListArray {
        let fields = self.table.fields.clone();
        let rows = StructArray::new(fields.clone(), self.table.take(), None);
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let is_there = std::mem::take(&mut self.is_there);
        self.rows = 0;
        let element = Field::new("element", DataType::Struct(fields), false);
        ListArray::new(
            Arc::new(element),
            arrow_buffer::OffsetBuffer::new(offsets.into()),
            Arc::new(rows),
            Some(is_there.into()),
        )
    }
}

impl Table {
    /// At most [`MAX_COLUMNS`] columns.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self {
            members: columns.iter().map(|column| column.member.clone()).collect(),
            fields: fields(columns),
            cells: columns.iter().map(|column| Cells::new(&column.kind)).collect(),
            ignores_others: false,
        }
    }

    /// Columns of the same names as their members; what else there is, is passed over.
    pub(crate) fn some_of(columns: &[(&str, ColumnType)]) -> Self {
        Self {
            members: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            fields: columns.iter().map(|(name, kind)| field(name, kind, true)).collect(),
            cells: columns.iter().map(|(_, kind)| Cells::new(kind)).collect(),
            ignores_others: true,
        }
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Appends a row from the text of a JSON object. After an error the table is of no use.
    pub(crate) fn append(&mut self, json: &str) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(json);
        RowSeed(self).deserialize(&mut json)?;
        json.end()
    }

    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        self.cells.iter_mut().map(Cells::take).collect()
    }
}

struct RowSeed<'a>(&'a mut Table);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let table = self.0;
        let mut seen = 0_u64;
        while let Some(at) = map.next_key_seed(MemberSeed(table))? {
            let Some(at) = at else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & (1 << at) != 0 {
                return Err(A::Error::custom(format_args!("member {} twice", table.members[at])));
            }
            seen |= 1 << at;
            map.next_value_seed(CellSeed(&mut table.cells[at]))?;
        }
        for (at, cells) in table.cells.iter_mut().enumerate() {
            if seen & (1 << at) == 0 {
                cells.append_null();
            }
        }
        Ok(())
    }
}

/// Finds a member's column.
struct MemberSeed<'a>(&'a Table);

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        match self.0.members.iter().position(|member| member == name) {
            None if !self.0.ignores_others => {
                Err(E::custom(format_args!("member {name} is not in the schema")))
            }
            found => Ok(found),
        }
    }
}

struct CellSeed<'a>(&'a mut Cells);

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if let Cells::Json(cells) = self.0 {
            let value: &RawValue = serde::Deserialize::deserialize(deserializer)?;
            match value.get() {
                "null" => cells.append_null(),
                json => cells.append_value(json),
            }
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cells::Text(_) => "a text",
            Cells::Integer(_) => "an integer",
            Cells::Boolean(_) => "true or false",
            Cells::Time(_) => "a time",
            Cells::Json(_) => "JSON",
            Cells::Rows(_) => "an array of objects",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.append_null();
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.0 {
            Cells::Text(cells) => cells.append_value(text),
            Cells::Time(cells) => match DateTime::parse_from_rfc3339(text) {
                Ok(at) => cells.append_value(at.timestamp_micros()),
                Err(error) => return Err(E::custom(format_args!("time {text:?}: {error}"))),
            },
            _ => return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Cells::Boolean(cells) = self.0 else {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self));
        };
        cells.append_value(value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        let Cells::Integer(cells) = self.0 else {
            return Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self));
        };
        cells.append_value(number);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Cells::Rows(lists) = self.0 else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        while items.next_element_seed(RowSeed(&mut lists.table))?.is_some() {
            lists.rows += 1;
        }
        lists.ends.push(lists.rows);
        lists.is_there.push(true);
        Ok(())
    }
}
