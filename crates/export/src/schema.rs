//! Event types as tables: which columns an event has, from the JSON Schema of its data.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{cells::MAX_COLUMNS, manifest::SchemaVersion};

/// Why a schema makes no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema of {kind}: {reason}")]
pub struct SchemaError {
    /// Event type.
    pub kind: String,
    /// What is wrong.
    pub reason: String,
}

/// The current schema of every event type.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    tables: Vec<EventTable>,
}

/// An event type as a table: one row an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTable {
    /// Event type, as `OrderPlaced`.
    pub kind: String,
    /// The version that its columns are of.
    pub version: i16,
    /// What it says, for people.
    pub about: String,
    /// Columns of its data, in the order of their names in the schema.
    pub columns: Vec<Column>,
    sha256: String,
}

/// A column of an event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name of the member in `data`.
    pub member: String,
    /// Name of the column: the member's, with `data_` in front where the envelope has that name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// What it says, for people.
    pub about: String,
}

/// What stands in a column. Any may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    Text,
    /// A UUID.
    Id,
    /// Whole numbers: counts, and money in minor units of the currency beside it.
    Integer,
    /// True or false.
    Boolean,
    /// A moment, UTC, microseconds.
    Time,
    /// A list of rows.
    Rows(Vec<Column>),
    /// Anything else, as JSON text.
    Json,
}

/// Columns that every event has, whatever its type: these and those of [`META`].
pub(crate) const ENVELOPE: [(&str, ColumnType); 9] = [
    ("tenant", ColumnType::Text),
    ("position", ColumnType::Integer),
    ("stream", ColumnType::Text),
    ("version", ColumnType::Integer),
    ("type", ColumnType::Text),
    ("schema_version", ColumnType::Integer),
    ("stored_version", ColumnType::Integer),
    ("occurred_at", ColumnType::Time),
    ("recorded_at", ColumnType::Time),
];

/// Members of `meta` that are columns.
pub(crate) const META: [(&str, ColumnType); 6] = [
    ("actor", ColumnType::Text),
    ("command", ColumnType::Text),
    ("command_id", ColumnType::Id),
    ("correlation", ColumnType::Id),
    ("causation", ColumnType::Text),
    ("key", ColumnType::Text),
];

impl Schemas {
    /// Of each type its name, its current version and the JSON Schema of that.
    pub fn new(types: impl IntoIterator<Item = (String, i16, Value)>) -> Result<Self, SchemaError> {
        let mut tables = types
            .into_iter()
            .map(|(kind, version, schema)| EventTable::new(kind, version, &schema))
            .collect::<Result<Vec<_>, _>>()?;
        tables.sort_by(|a, b| a.kind.cmp(&b.kind));
        Ok(Self { tables })
    }

    /// The tables, by type.
    pub fn tables(&self) -> &[EventTable] {
        &self.tables
    }

    /// The table of a type.
    pub fn table(&self, kind: &str) -> Option<&EventTable> {
        let at = self.tables.binary_search_by(|table| table.kind.as_str().cmp(kind)).ok()?;
        self.tables.get(at)
    }

    /// What a manifest says of them.
    pub fn versions(&self) -> Vec<SchemaVersion> {
        let version = |table: &EventTable| SchemaVersion {
            r#type: table.kind.clone(),
            version: table.version,
            sha256: table.sha256.clone(),
        };
        self.tables.iter().map(version).collect()
    }
}

impl EventTable {
    fn new(kind: String, version: i16, schema: &Value) -> Result<Self, SchemaError> {
        let taken: Vec<&str> = ENVELOPE.iter().chain(&META).map(|(name, _)| *name).collect();
        let columns =
            columns(schema, &taken).map_err(|reason| SchemaError { kind: kind.clone(), reason })?;
        // Members of a `Value` are in order, so this is the same on every machine.
        let sha256 = hex::encode(Sha256::digest(schema.to_string()));
        Ok(Self { about: about(schema), kind, version, columns, sha256 })
    }
}

fn about(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// The columns of an object's members, whose names are to be others than `taken`.
fn columns(schema: &Value, taken: &[&str]) -> Result<Vec<Column>, String> {
    let members = schema["properties"].as_object().ok_or("it is no object with properties")?;
    if members.len() > MAX_COLUMNS {
        return Err(format!("it has more than {MAX_COLUMNS} members"));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(members.len());
    for (member, schema) in members {
        let plain =
            member.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let front = if taken.contains(&member.as_str()) { "data_" } else { "" };
        let name = format!("{front}{member}");
        if !plain || columns.iter().any(|column| column.name == name) {
            return Err(format!("member {member:?} can't be a column"));
        }
        let kind = column_type(schema)?;
        columns.push(Column { member: member.clone(), name, kind, about: about(schema) });
    }
    Ok(columns)
}

fn column_type(schema: &Value) -> Result<ColumnType, String> {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => {
            several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => Vec::new(),
    };
    Ok(match (types.as_slice(), schema["format"].as_str()) {
        (["string"], Some("date-time")) => ColumnType::Time,
        (["string"], Some("uuid")) => ColumnType::Id,
        (["string"], _) => ColumnType::Text,
        (["integer"], _) => ColumnType::Integer,
        (["boolean"], _) => ColumnType::Boolean,
        (["array"], _) if schema["items"]["type"] == "object" => {
            match columns(&schema["items"], &[])? {
                columns if columns.is_empty() => ColumnType::Json,
                columns => ColumnType::Rows(columns),
            }
        }
        _ => ColumnType::Json,
    })
}

/// A type's name as databases write names: `OrderPlaced` is `order_placed`.
pub(crate) fn snake_case(kind: &str) -> String {
    let mut name = String::with_capacity(kind.len() + 4);
    for letter in kind.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(properties: &Value) -> Result<EventTable, SchemaError> {
        let schema = json!({ "description": "It happened.", "properties": properties });
        EventTable::new("ThingDone".to_owned(), 3, &schema)
    }

    #[test]
    fn columns_have_the_types_that_the_schema_says() {
        let table = table(&json!({
            "at": { "type": ["string", "null"], "format": "date-time" },
            "id": { "type": "string", "format": "uuid", "description": "Which." },
            "lines": { "type": "array", "items": { "type": "object", "properties": {
                "sku": { "type": "string" }, "position": { "type": "integer" } } } },
            "amount": { "type": ["null", "integer"] },
            "done": { "type": "boolean" },
            "tags": { "type": "array", "items": { "type": "string" } },
            "either": { "type": ["string", "integer"] },
            "key": { "type": "string" },
        }))
        .unwrap();
        let found: Vec<(&str, &ColumnType)> =
            table.columns.iter().map(|column| (&*column.name, &column.kind)).collect();
        let ColumnType::Rows(lines) = &table.columns[6].kind else { panic!("{found:?}") };
        assert_eq!(lines[0].name, "position", "within rows there is no envelope");
        assert_eq!(
            found,
            [
                ("amount", &ColumnType::Integer),
                ("at", &ColumnType::Time),
                ("done", &ColumnType::Boolean),
                ("either", &ColumnType::Json),
                ("id", &ColumnType::Id),
                ("data_key", &ColumnType::Text),
                ("lines", &ColumnType::Rows(lines.clone())),
                ("tags", &ColumnType::Json),
            ]
        );
        assert_eq!((&*table.columns[4].about, &*table.about), ("Which.", "It happened."));
    }

    #[test]
    fn what_makes_no_column_is_refused_by_name() {
        let error = table(&json!({ "Name": { "type": "string" } })).unwrap_err().to_string();
        assert_eq!(error, "schema of ThingDone: member \"Name\" can't be a column");
        let both = json!({ "key": { "type": "string" }, "data_key": { "type": "string" } });
        assert!(table(&both).is_err(), "two columns of one name");
    }

    #[test]
    fn another_schema_has_another_hash() {
        let hash = |text: &str| table(&json!({ "a": { "type": text } })).unwrap().sha256;
        assert_eq!(hash("string"), hash("string"));
        assert_ne!(hash("string"), hash("integer"));
    }

    #[test]
    fn names_of_types_as_databases_write_them() {
        assert_eq!(snake_case("OrderPlaced"), "order_placed");
        assert_eq!(snake_case("PaymentRefundFailed"), "payment_refund_failed");
    }
}
