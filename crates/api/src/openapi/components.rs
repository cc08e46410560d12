//! What operations share: schemas, parameters, headers and the responses that are problems.

use std::fmt::Write as _;

use daybook_journal::Refusal;
use serde_json::{Map, Value, json};

use super::{key_schema, reference};
use crate::{
    limits::Limits,
    problem::{KINDS, Problem},
};

/// Moves a command's schema among the components, and the definitions inside it as well: a
/// `#/$defs/…` would point into the OpenAPI document's root.
pub(super) fn hoist(name: &str, mut schema: Value, schemas: &mut Map<String, Value>) {
    let definitions = match schema.as_object_mut() {
        Some(members) => {
            members.remove("$schema");
            members.remove("$defs")
        }
        None => None,
    };
    let Some(Value::Object(definitions)) = definitions else {
        schemas.insert(name.to_owned(), schema);
        return;
    };
    // The same name may stand for another thing in another command.
    let clash = |inner: &str, definition: &Value| {
        schemas.get(inner).is_some_and(|known| known != definition)
    };
    let renamed: Map<String, Value> = definitions
        .iter()
        .map(|(inner, definition)| {
            let mut definition = definition.clone();
            point(&mut definition, &|inner| inner.to_owned());
            let own =
                if clash(inner, &definition) { format!("{name}{inner}") } else { inner.clone() };
            (inner.clone(), Value::String(own))
        })
        .collect();
    let rename =
        |inner: &str| renamed.get(inner).and_then(Value::as_str).unwrap_or(inner).to_owned();
    for (inner, mut definition) in definitions.clone() {
        point(&mut definition, &rename);
        schemas.insert(rename(&inner), definition);
    }
    point(&mut schema, &rename);
    schemas.insert(name.to_owned(), schema);
}

/// Lets every `#/$defs/X` point to `#/components/schemas/<rename(X)>`.
fn point(value: &mut Value, rename: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = (name == "$ref")
                    .then(|| member.as_str()?.strip_prefix("#/$defs/").map(str::to_owned))
                    .flatten();
                match inner {
                    Some(inner) => {
                        *member = json!(format!("#/components/schemas/{}", rename(&inner)));
                    }
                    None => point(member, rename),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point(item, rename)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn shared_schemas() -> Map<String, Value> {
    let json = json!({
        "Problem": {
            "type": "object",
            "description": "RFC 9457. Members beside these are the values that matter.",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "description": "`/problems/<code>`; of a refusal, the \
                    code says why."},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string"},
                "field": {"type": "string", "description": "What is wrong or missing, as \
                    `lines[2].quantity`."},
                "in": {"enum": ["header", "path", "query", "body"],
                    "description": "Where `field` stands."},
            },
        },
        "CommandAnswer": {
            "type": "object",
            "required": ["position", "streams", "result"],
            "properties": {
                "position": {"type": "string",
                    "description": "Opaque. Send it as Daybook-Min-Position to read your write."},
                "streams": {"type": "array", "items": {
                    "type": "object", "required": ["stream", "version"],
                    "properties": {
                        "stream": {"type": "string"},
                        "version": {"type": "integer", "minimum": 1},
                    },
                }, "description": "Streams that the command appended to, with their versions; for customers \
                    and partners those of the order and its payments."},
                "result": {"type": "object", "description": "What the command has to say."},
            },
        },
        "Event": {
            "type": "object",
            "required": ["position", "stream", "version", "type", "schema_version", "occurred_at",
                "recorded_at", "data", "meta"],
            "properties": {
                "position": {"type": "integer", "format": "int64", "minimum": 1},
                "stream": {"type": "string"},
                "version": {"type": "integer", "minimum": 1},
                "type": {"type": "string", "enum": daybook_commands::event_types()},
                "schema_version": {"type": "integer", "minimum": 1},
                "occurred_at": {"type": "string", "format": "date-time"},
                "recorded_at": {"type": "string", "format": "date-time"},
                "data": {"type": "object"},
                "meta": {"type": "object"},
            },
        },
    });
    match json {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

pub(super) fn shared_parameters(limits: &Limits) -> Value {
    let wait = limits.prefer_wait.as_secs();
    json!({
        "IdempotencyKey": {
            "name": "Idempotency-Key", "in": "header", "required": true, "schema": key_schema(),
            "description": "Names this command. The same key with the same body has the same \
                answer and no second effect.",
        },
        "IfMatch": {
            "name": "If-Match", "in": "header",
            "schema": {"type": "string", "pattern": "^\"[0-9]{1,10}\"$"},
            "description": "Version that the stream which the command names must have: its order, \
                payment, product, stock or customer. Else 412 with the version that it has.",
        },
        "IfNoneMatchStar": {
            "name": "If-None-Match", "in": "header", "schema": {"const": "*"},
            "description": "The stream that the command names must not exist yet. Else 412. Not \
                together with If-Match.",
        },
        "IfNoneMatch": {
            "name": "If-None-Match", "in": "header", "schema": {"type": "string"},
            "description": "ETag of the answer that you have.",
        },
        "Prefer": {
            "name": "Prefer", "in": "header", "schema": {"type": "string"},
            "description": format!("`wait=<seconds>`: wait for an open outcome or for the \
                position asked for, at most {wait} s. `handling=lenient`: rather an older answer \
                than none."),
        },
        "LastEventId": {
            "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
            "description": "`id` of the last event that you have: an answer that has not changed \
                since isn't sent again.",
        },
        "Traceparent": {
            "name": "traceparent", "in": "header", "schema": {"type": "string"},
            "description": "W3C trace context, kept with the events.",
        },
        "AsOf": {
            "name": "as_of", "in": "query", "schema": {"type": "string", "anyOf": [
                {"pattern": "^[0-9]{1,19}$"}, {"format": "date-time"},
            ]},
            "description": "For operators, analysts and auditors: the answer as of this position, \
                or as of the last position recorded by this time, which Daybook-Position names. \
                Pages after the first repeat it with their `cursor`. Not together with \
                Daybook-Min-Position.",
        },
        "MinPosition": {
            "name": "Daybook-Min-Position", "in": "header",
            "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            "description": "The answer must know everything up to this position of yours.",
        },
    })
}

pub(super) fn shared_headers() -> Value {
    json!({
        "RequestId": {"description": "Id of this request, correlation id of its events.",
            "schema": {"type": "string", "format": "uuid"}},
        "Position": {"description": "Position that the answer has.", "schema": {"type": "string"}},
        "Replayed": {"description": "Present if the answer was remembered.",
            "schema": {"const": "true"}},
        "ETag": {"description": "Hash of the answer.", "schema": {"type": "string"}},
        "NextPage": {"description": "The next page (`rel=\"next\"`), where there is one.",
            "schema": {"type": "string"}},
        "RetryAfter": {"description": "Seconds to wait before sending it again.",
            "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    })
}

/// One response a status, with every kind of problem that has it.
pub(super) fn shared_responses() -> Value {
    let mut responses = Map::new();
    for kind in KINDS {
        let status = kind.status.as_u16();
        let response = responses.entry(format!("Problem{status}")).or_insert_with(|| {
            json!({
                "description": "",
                "headers": {"X-Request-Id": reference("headers", "RequestId")},
                "content": {"application/problem+json": {"schema": reference("schemas", "Problem")}},
            })
        });
        let before = response["description"].as_str().unwrap_or_default();
        let separator = if before.is_empty() { "" } else { "\n" };
        let more = format!("{before}{separator}`{}`: {}. {}", kind.code, kind.title, kind.help);
        response["description"] = json!(more);
        match status {
            401 => {
                response["headers"]["WWW-Authenticate"] = reference("headers", "Authenticate");
            }
            429 | 503 => response["headers"]["Retry-After"] = reference("headers", "RetryAfter"),
            _ => {}
        }
    }
    responses.insert(
        "NotModified".to_owned(),
        json!({
            "description": "The answer is the one that you have.",
            "headers": {
                "ETag": reference("headers", "ETag"),
                "Daybook-Position": reference("headers", "Position"),
                "X-Request-Id": reference("headers", "RequestId"),
            },
        }),
    );
    Value::Object(responses)
}

/// A command's 422: every way in which the business may say no to it, each with an example, and
/// what else has this status.
pub(super) fn refused(refusals: &[Refusal]) -> Value {
    let mut response = shared_responses()["Problem422"].take();
    let mut description = "The business says no:".to_owned();
    let mut examples = Map::new();
    for refusal in refusals {
        let problem = Problem::refusal(refusal.clone());
        write!(description, "\n`{}`: {}", refusal.code, refusal.detail)
            .expect("writing to a string can't fail");
        let example = json!({"summary": problem.title, "value": problem.to_json()});
        examples.insert(refusal.code.clone(), example);
    }
    let others = response["description"].as_str().unwrap_or_default();
    response["description"] = json!(format!("{description}\nOr:\n{others}"));
    response["content"]["application/problem+json"]["examples"] = Value::Object(examples);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(of_line: &str) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}}},
            "$defs": {
                "Line": {"properties": {"q": {"$ref": "#/$defs/Quantity"}}, "title": of_line},
                "Quantity": {"type": "integer"},
            },
        })
    }

    #[test]
    fn definitions_inside_a_schema_become_components_of_the_document() {
        let mut schemas = Map::new();
        hoist("PlaceOrder", schema("x"), &mut schemas);
        assert_eq!(
            schemas["PlaceOrder"],
            json!({"type": "object", "properties": {"lines": {
                "type": "array", "items": {"$ref": "#/components/schemas/Line"},
            }}})
        );
        assert_eq!(schemas["Line"]["properties"]["q"]["$ref"], "#/components/schemas/Quantity");
        assert_eq!(schemas["Quantity"], json!({"type": "integer"}));
    }

    #[test]
    fn equal_definitions_are_shared_and_different_ones_kept_apart() {
        let mut schemas = Map::new();
        hoist("A", schema("x"), &mut schemas);
        hoist("B", schema("x"), &mut schemas);
        hoist("C", schema("y"), &mut schemas);
        let names: Vec<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "B", "C", "CLine", "Line", "Quantity"]);
        let items = |name: &str| schemas[name]["properties"]["lines"]["items"]["$ref"].clone();
        assert_eq!(items("B"), "#/components/schemas/Line");
        assert_eq!(items("C"), "#/components/schemas/CLine");
    }
}
