//! What a declared query answers, as PostgreSQL reports it: columns, their types, and the row that
//! it answers from.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio_postgres::{
    Client, Column as SqlColumn,
    types::{Kind, Type},
};

use crate::{
    definition::{self, AnswerShape, DeclaredQuery},
    lexer::{self, Piece},
    queries::{Queries, QueryError, bound_sql, parameter_types},
};

/// Deepest nesting of arrays and composites that is spelled out.
const MAX_DEPTH: usize = 8;
/// Words that can make a column null which its table never has null.
const NULLING: [&str; 6] = ["left", "right", "full", "rollup", "cube", "sets"];

/// What a query answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its columns, in the order of the SQL.
    pub columns: Vec<Column>,
    /// The parameter that is the key of the one row it answers from: its answer changes only with
    /// that row. Without one, any change of the projection may change it.
    pub key: Option<String>,
}

/// A column of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, a member of each object.
    pub name: String,
    /// JSON Schema of its values as answers have them.
    pub schema: Value,
    /// What it holds, where the query's declaration or a comment in PostgreSQL says so.
    pub title: Option<String>,
}

impl Queries {
    /// What a declared query answers.
    pub async fn describe(&self, query: &DeclaredQuery) -> Result<Description, QueryError> {
        let client = self.pool().get().await?;
        let statement =
            client.prepare_typed(&bound_sql(query), &parameter_types(query, &[])).await?;
        let origins = origins(&client, statement.columns()).await?;
        let may_null = words(&query.sql).any(|word| NULLING.contains(&word.as_str()));
        let columns = statement.columns().iter().map(|column| {
            let origin = place(column).and_then(|place| origins.get(&place));
            let never_null = !may_null && origin.is_some_and(|origin| origin.never_null);
            let declared = query.columns.get(column.name()).cloned();
            Column {
                name: column.name().to_owned(),
                schema: schema(column.type_(), !never_null, 0),
                title: declared.or_else(|| origin.and_then(|origin| origin.comment.clone())),
            }
        });
        let columns = columns.collect();
        let key = if query.key.is_some() {
            query.key.clone()
        } else {
            let keys = client
                .query(
                    include_str!("../sql/describe_key.sql"),
                    &[&definition::schema_of(&query.projection, &query.version), &query.projection],
                )
                .await?;
            let keys: Vec<String> = keys.iter().map(|row| row.get(0)).collect();
            derived_key(query, &keys)
        };
        Ok(Description { columns, key })
    }
}

/// What the table says of a column that comes straight from it.
struct Origin {
    never_null: bool,
    comment: Option<String>,
}

fn place(column: &SqlColumn) -> Option<(u32, i16)> {
    column.table_oid().zip(column.column_id()).filter(|(table, _)| *table != 0)
}

async fn origins(
    client: &Client,
    columns: &[SqlColumn],
) -> Result<HashMap<(u32, i16), Origin>, tokio_postgres::Error> {
    let (tables, numbers): (Vec<u32>, Vec<i16>) = columns.iter().filter_map(place).unzip();
    let rows =
        client.query(include_str!("../sql/describe_columns.sql"), &[&tables, &numbers]).await?;
    let origins = rows.iter().map(|row| {
        ((row.get(0), row.get(1)), Origin { never_null: row.get(2), comment: row.get(3) })
    });
    Ok(origins.collect())
}

/// The only key column, where a query answers one row and reads nothing but the projection's own
/// table, once: then a parameter of that name, which it must have, says which row.
fn derived_key(query: &DeclaredQuery, keys: &[String]) -> Option<String> {
    let [key] = keys else { return None };
    let own = format!("read.{}", query.projection);
    let bound = query.answer == AnswerShape::One
        && query.parameters.iter().any(|p| p.required && p.name == *key)
        && tables(&query.sql) == [own];
    bound.then(|| key.clone())
}

/// Words of the SQL outside strings and comments, in lower case.
fn words(sql: &str) -> impl Iterator<Item = String> {
    lexer::pieces(sql).into_iter().flat_map(|piece| match piece {
        Piece::Code(code) => code
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map(str::to_ascii_lowercase)
            .collect(),
        Piece::Opaque(_) => Vec::new(),
    })
}

/// Everything in schema `read` that the SQL names, but functions.
fn tables(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in lexer::pieces(sql) {
        let Piece::Code(code) = piece else { continue };
        let code = code.to_ascii_lowercase();
        for (at, _) in code.match_indices("read.") {
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
            if at > 0 && is_name(&code.as_bytes()[at - 1]) {
                continue;
            }
            let from = &code[at + "read.".len()..];
            let length = from.bytes().take_while(is_name).count();
            if !from[length..].trim_start().starts_with('(') {
                found.push(format!("read.{}", &from[..length]));
            }
        }
    }
    found
}

/// JSON Schema of a type's values as `to_json` makes them, times in UTC.
fn schema(sql_type: &Type, nullable: bool, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return json!({});
    }
    let plain = match sql_type.kind() {
        Kind::Domain(base) => return schema(base, nullable, depth + 1),
        Kind::Array(item) => {
            json!({"type": "array", "items": schema(item, true, depth + 1)})
        }
        Kind::Enum(labels) => json!({"type": "string", "enum": labels}),
        Kind::Composite(fields) => {
            let members = fields
                .iter()
                .map(|field| (field.name().to_owned(), schema(field.type_(), true, depth + 1)));
            let members: serde_json::Map<_, _> = members.collect();
            let required: Vec<_> = members.keys().cloned().collect();
            json!({"type": "object", "properties": members, "required": required})
        }
        _ => simple(sql_type),
    };
    if nullable { or_null(plain) } else { plain }
}

fn simple(sql_type: &Type) -> Value {
    match sql_type.name() {
        "bool" => json!({"type": "boolean"}),
        "int2" | "int4" => json!({"type": "integer", "format": "int32"}),
        "int8" => json!({"type": "integer", "format": "int64"}),
        "float4" | "float8" | "numeric" => json!({"type": "number"}),
        "uuid" => json!({"type": "string", "format": "uuid"}),
        "date" => json!({"type": "string", "format": "date"}),
        "timestamptz" => json!({"type": "string", "format": "date-time"}),
        // whatever JSON the column holds
        "json" | "jsonb" => json!({}),
        // everything else is sent in PostgreSQL's own text form
        _ => json!({"type": "string"}),
    }
}

fn or_null(mut schema: Value) -> Value {
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(labels) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        labels.push(Value::Null);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_what_json_shows_of_them() {
        let of = |sql_type| schema(&sql_type, false, 0);
        assert_eq!(of(Type::INT8), json!({"type": "integer", "format": "int64"}));
        assert_eq!(of(Type::NUMERIC), json!({"type": "number"}));
        assert_eq!(of(Type::TIMESTAMPTZ), json!({"type": "string", "format": "date-time"}));
        assert_eq!(of(Type::JSONB), json!({}));
        assert_eq!(of(Type::INTERVAL), json!({"type": "string"}));
        assert_eq!(
            schema(&Type::UUID_ARRAY, true, 0),
            json!({"type": ["array", "null"],
                "items": {"type": ["string", "null"], "format": "uuid"}})
        );
        let labels = Kind::Enum(vec!["a".into(), "b".into()]);
        let label = Type::new("label".into(), 1, labels, "read".into());
        assert_eq!(
            schema(&label, true, 0),
            json!({"type": ["string", "null"], "enum": ["a", "b", null]})
        );
    }

    #[test]
    fn tables_and_words_are_found_outside_strings_comments_and_calls() {
        let sql =
            "select read.f(x), 'read.no' -- read.no\n from READ.t left join read.u on spread.x";
        assert_eq!(tables(sql), ["read.t", "read.u"]);
        assert!(words(sql).any(|word| word == "left"));
        assert!(!words("select 'left' as a_left").any(|word| word == "left"));
    }
}
