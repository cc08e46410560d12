//! Typed parameters of declared queries: parsed and refused by name before PostgreSQL sees them.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Longest text parameter, in characters.
pub const TEXT_MAX: usize = 1_000;

/// Type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// Any text without U+0000, at most [`TEXT_MAX`] characters.
    Text,
    /// A UUID in its usual form.
    Uuid,
    /// `2011-12-09`.
    Date,
    /// RFC 3339 with an offset, `2011-12-09T12:50:00Z`.
    Timestamptz,
    /// A 32-bit integer.
    Integer,
    /// A 64-bit integer.
    Bigint,
    /// `true` or `false`.
    Boolean,
    /// A position of the journal, 0 or more. Whoever asks sees it as a text that is opaque.
    Position,
}

/// A value or null, in the Rust type that its SQL type takes.
pub(crate) type Value = Box<dyn ToSql + Sync + Send>;

impl ParameterKind {
    /// Name of the SQL type.
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Integer => "integer",
            Self::Bigint | Self::Position => "bigint",
            Self::Boolean => "boolean",
        }
    }

    /// The SQL type on the wire.
    pub(crate) fn sql_type(self) -> Type {
        match self {
            Self::Text => Type::TEXT,
            Self::Uuid => Type::UUID,
            Self::Date => Type::DATE,
            Self::Timestamptz => Type::TIMESTAMPTZ,
            Self::Integer => Type::INT4,
            Self::Bigint | Self::Position => Type::INT8,
            Self::Boolean => Type::BOOL,
        }
    }

    /// The kind that takes values of this PostgreSQL type.
    pub(crate) fn of_type(name: &str) -> Option<Self> {
        Some(match name {
            "text" | "varchar" | "bpchar" => Self::Text,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamptz" => Self::Timestamptz,
            "int4" => Self::Integer,
            "int8" => Self::Bigint,
            "bool" => Self::Boolean,
            _ => return None,
        })
    }

    /// Reads a value; the error says what was expected.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let expected = |what: &str| format!("must be {what}");
        Ok(match self {
            Self::Text if text.chars().count() > TEXT_MAX => {
                return Err(format!("must be at most {TEXT_MAX} characters long"));
            }
            Self::Text if text.contains('\0') => return Err("must not contain U+0000".into()),
            Self::Text => Box::new(text.to_owned()),
            Self::Uuid => Box::new(Uuid::try_parse(text).map_err(|_| expected("a UUID"))?),
            Self::Date => Box::new(
                NaiveDate::parse_from_str(text, "%Y-%m-%d")
                    .ok()
                    .filter(|day| (1..=9999).contains(&chrono::Datelike::year(day)))
                    .ok_or_else(|| expected("a date as 2011-12-09"))?,
            ),
            Self::Timestamptz => Box::new(
                DateTime::parse_from_rfc3339(text)
                    .map_err(|_| expected("a time as 2011-12-09T12:50:00Z"))?
                    .with_timezone(&Utc),
            ),
            Self::Integer => {
                Box::new(text.parse::<i32>().map_err(|_| expected("a 32-bit integer"))?)
            }
            Self::Bigint => {
                Box::new(text.parse::<i64>().map_err(|_| expected("a 64-bit integer"))?)
            }
            Self::Boolean => Box::new(text.parse::<bool>().map_err(|_| expected("true or false"))?),
            Self::Position => {
                let position = text.parse::<i64>().ok().filter(|position| *position >= 0);
                Box::new(position.ok_or_else(|| expected("a position"))?)
            }
        })
    }

    /// The null of this type.
    pub(crate) fn null(self) -> Value {
        match self {
            Self::Text => Box::new(None::<String>),
            Self::Uuid => Box::new(None::<Uuid>),
            Self::Date => Box::new(None::<NaiveDate>),
            Self::Timestamptz => Box::new(None::<DateTime<Utc>>),
            Self::Integer => Box::new(None::<i32>),
            Self::Bigint | Self::Position => Box::new(None::<i64>),
            Self::Boolean => Box::new(None::<bool>),
        }
    }
}

/// Where a parameter stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, as `{order_id}`.
    Path,
    /// In the query string.
    Query,
}

/// A declared parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as in the SQL file.
    pub name: String,
    /// Its type.
    pub kind: ParameterKind,
    /// Whether a request must give it.
    pub required: bool,
    /// Where it stands.
    pub place: Place,
    /// What it means, in a few words.
    pub title: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_refused_with_what_was_expected() {
        for (kind, wrong) in [
            (ParameterKind::Uuid, "42"),
            (ParameterKind::Date, "2011-02-30"),
            (ParameterKind::Date, "99999-01-01"),
            (ParameterKind::Timestamptz, "2011-12-09"),
            (ParameterKind::Timestamptz, "2011-12-09T12:50:00"),
            (ParameterKind::Integer, "2147483648"),
            (ParameterKind::Bigint, "1.5"),
            (ParameterKind::Bigint, ""),
            (ParameterKind::Boolean, "yes"),
            (ParameterKind::Position, "-1"),
            (ParameterKind::Position, "x"),
            (ParameterKind::Text, "a\0b"),
        ] {
            assert!(kind.parse(wrong).unwrap_err().starts_with("must "), "{kind:?} {wrong}");
        }
        assert!(ParameterKind::Text.parse(&"x".repeat(1_001)).is_err());
    }

    #[test]
    fn right_values_are_read() {
        for (kind, right) in [
            (ParameterKind::Uuid, "018f2a3b-0000-7000-8000-000000000001"),
            (ParameterKind::Date, "2011-12-09"),
            (ParameterKind::Timestamptz, "2011-12-09T12:50:00.123456+01:00"),
            (ParameterKind::Integer, "-7"),
            (ParameterKind::Bigint, "9223372036854775807"),
            (ParameterKind::Boolean, "false"),
            (ParameterKind::Position, "0"),
            (ParameterKind::Text, "'; drop table x; --"),
        ] {
            assert!(kind.parse(right).is_ok(), "{kind:?} {right}");
        }
    }
}
