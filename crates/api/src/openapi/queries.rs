//! Operations of the declared queries, with the types that PostgreSQL reports.

use daybook_projection::{
    AnswerShape, DeclaredQuery, Description, Format, LIMIT_DEFAULT, LIMIT_MAX, ParameterKind,
    Place, TEXT_MAX,
};
use serde_json::{Map, Value, json};

use super::reference;
use crate::{format, live};

/// Schema of a query's JSON answer; what it consists of becomes components. Without a description,
/// nothing is said of its members.
pub(super) fn answer(
    query: &DeclaredQuery,
    description: Option<&Description>,
    schemas: &mut Map<String, Value>,
) -> Value {
    let row = description
        .map_or_else(|| json!({"type": "object"}), |described| row(described, &query.positions));
    match query.answer {
        AnswerShape::One => component(&query.name, "Answer", row, schemas),
        AnswerShape::List => {
            let item = component(&query.name, "Item", row, schemas);
            let page = json!({
                "type": "object",
                "required": ["items", "next"],
                "properties": {
                    "items": {"type": "array", "items": item},
                    "next": {"type": ["string", "null"],
                        "description": "`cursor` of the next page; null at the end."},
                },
            });
            component(&query.name, "Page", page, schemas)
        }
    }
}

fn row(description: &Description, positions: &[String]) -> Value {
    let members = description.columns.iter().map(|column| {
        let mut schema = column.schema.clone();
        if positions.contains(&column.name) {
            // shown as an opaque text
            let null = schema["type"].is_array().then_some("null");
            let types: Vec<&str> = ["string"].into_iter().chain(null).collect();
            schema = json!({"type": if types.len() == 1 { json!(types[0]) } else { json!(types) }});
        }
        if let Some(title) = &column.title {
            schema["description"] = json!(title);
        }
        (column.name.clone(), schema)
    });
    let members: Map<String, Value> = members.collect();
    let required: Vec<&String> = description.columns.iter().map(|column| &column.name).collect();
    json!({"type": "object", "required": required, "properties": members})
}

/// Puts a schema among the components, under a name of its own.
fn component(query: &str, what: &str, schema: Value, schemas: &mut Map<String, Value>) -> Value {
    let words = query.split('_').map(|word| {
        let mut word = word.to_owned();
        if let Some(first) = word.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        word
    });
    let mut name = words.chain([what.to_owned()]).collect::<String>();
    if schemas.contains_key(&name) {
        name = format!("{query}_{what}");
    }
    schemas.insert(name.clone(), schema);
    reference("schemas", &name)
}

/// The operation of the query itself.
pub(super) fn operation(query: &DeclaredQuery, answer: &Value) -> Value {
    let mut parameters = parameters(query);
    let mut responses = json!({
        "304": reference("responses", "NotModified"),
        "404": reference("responses", "Problem404"),
        "406": reference("responses", "Problem406"),
    });
    if query.has_as_of() {
        parameters.push(reference("parameters", "AsOf"));
        responses["422"] = reference("responses", "Problem422");
    }
    for shared in ["MinPosition", "Prefer", "IfNoneMatch"] {
        parameters.push(reference("parameters", shared));
    }
    let content = query.formats.iter().map(|format| {
        let schema = match format {
            Format::Json => answer.clone(),
            Format::Ndjson => json!({"type": "string", "description": "An item a line."}),
            Format::Csv => json!({"type": "string", "description": "RFC 4180: a header, then a \
                record an item, its members in order. Null and the empty text are both an empty \
                cell, objects and arrays are JSON. A text that begins with one of = + - @ ', a tab \
                or a line break gets an apostrophe in front, so that no spreadsheet takes it for a \
                formula: take one apostrophe off to have it back."}),
        };
        (format::bare(*format).to_owned(), json!({"schema": schema}))
    });
    let content: Map<String, Value> = content.collect();
    let mut headers = json!({
        "Daybook-Position": reference("headers", "Position"),
        "ETag": reference("headers", "ETag"),
    });
    if query.answer == AnswerShape::List {
        headers["Link"] = reference("headers", "NextPage");
    }
    responses["200"] = json!({"description": "The answer", "headers": headers, "content": content});
    json!({
        "tags": ["Queries"],
        "operationId": query.name,
        "summary": query.title,
        "parameters": parameters,
        "responses": responses,
    })
}

/// The operation that follows the query.
pub(super) fn live(query: &DeclaredQuery, answer: &Value) -> Value {
    let mut parameters = parameters(query);
    for shared in ["MinPosition", "Prefer", "LastEventId"] {
        parameters.push(reference("parameters", shared));
    }
    let schema = json!({
        "type": "string",
        "description": "Server-sent events (WHATWG HTML, 9.2). The first is the current answer, \
            then one comes whenever the answer has changed: `data` is the answer's JSON, `id` its \
            position. A slow client is sent the newest answer only. The last event is named `end`, \
            its `data` an object whose `reason` is `shutdown`, `key-ended`, `gone` (there is no \
            such row any more) or `query-changed`. Comments are signs of life.",
        "contentMediaType": "application/json",
        "contentSchema": answer,
    });
    json!({
        "tags": ["Queries"],
        "operationId": format!("{}_live", query.name),
        "summary": format!("{}, and again whenever it changes", query.title),
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The answers, until the client closes",
                "headers": {"Daybook-Position": reference("headers", "Position")},
                "content": {live::EVENT_STREAM: {"schema": schema}},
            },
            "404": reference("responses", "Problem404"),
            "406": reference("responses", "Problem406"),
            "429": reference("responses", "Problem429"),
        },
    })
}

/// Parameters of path and query string.
fn parameters(query: &DeclaredQuery) -> Vec<Value> {
    let parameters = query.parameters.iter().map(|parameter| {
        let place = match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
        };
        json!({
            "name": parameter.name, "in": place,
            "required": parameter.required || parameter.place == Place::Path,
            "description": parameter.title,
            "schema": match (query.answer, parameter.name.as_str()) {
                (AnswerShape::List, "limit") => json!({"type": "integer", "minimum": 1,
                    "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}),
                _ => kind_schema(parameter.kind),
            },
        })
    });
    parameters.collect()
}

fn kind_schema(kind: ParameterKind) -> Value {
    match kind {
        ParameterKind::Text => {
            json!({"type": "string", "maxLength": TEXT_MAX, "pattern": "^[^\\u0000]*$"})
        }
        ParameterKind::Uuid => json!({"type": "string", "format": "uuid"}),
        ParameterKind::Date => json!({"type": "string", "format": "date"}),
        ParameterKind::Timestamptz => json!({"type": "string", "format": "date-time"}),
        ParameterKind::Integer => json!({"type": "integer", "format": "int32"}),
        ParameterKind::Bigint => json!({"type": "integer", "format": "int64"}),
        ParameterKind::Boolean => json!({"type": "boolean"}),
        ParameterKind::Position => json!({"type": "string"}),
    }
}
