//! The OpenAPI 3.1 document, made from the table of routes, the commands and the declared queries.

mod components;
mod queries;

use std::sync::Arc;

use daybook_commands::{Answer, CommandInfo};
use daybook_projection::{DeclaredQuery, Description};
use serde_json::{Map, Value, json};

use crate::{
    limits::Limits,
    live,
    routes::{Endpoint, Route, Routes, Scope},
};

/// What every route with a principal may answer.
const OF_A_PRINCIPAL: [u16; 5] = [400, 401, 403, 500, 503];

/// The whole document. `descriptions` say what each query answers, where it is known.
pub(crate) fn document(
    routes: &Routes,
    commands: &[CommandInfo],
    queries: &[DeclaredQuery],
    descriptions: &[Option<Arc<Description>>],
    limits: &Limits,
) -> Value {
    let mut schemas = components::shared_schemas();
    for command in commands {
        components::hoist(command.name, command.schema.clone(), &mut schemas);
    }
    let answers: Vec<Value> = queries
        .iter()
        .zip(descriptions)
        .map(|(query, description)| queries::answer(query, description.as_deref(), &mut schemas))
        .collect();
    let mut paths = Map::new();
    for route in routes.all() {
        let operation = operation(route, commands, queries, &answers, limits);
        let Some(operation) = operation else { continue };
        let item = paths.entry(route.template.clone()).or_insert_with(|| json!({}));
        item[route.method.as_str().to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Daybook",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Backend of a shop: commands in, projections out.",
            "description": "Commands change the shop, each takes effect once per Idempotency-Key. \
                Queries read projections and say which position they have reached. Every error is \
                a problem as RFC 9457 has it. Positions are opaque text.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "tags": [
            {"name": "Commands", "description": "Change the shop."},
            {"name": "Queries", "description": "Read projections, once or as they change."},
            {"name": "Journal", "description": "Read what happened, event by event."},
            {"name": "Service", "description": "The service about itself; needs no key."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {"apiKey": {
                "type": "http", "scheme": "bearer", "bearerFormat": "dbk_<id>_<secret>",
                "description": "An API key. It carries a role and, for customers and partners, \
                    their id.",
            }},
            "schemas": schemas,
            "parameters": components::shared_parameters(limits),
            "headers": components::shared_headers(),
            "responses": components::shared_responses(),
        },
    })
}

fn operation(
    route: &Route,
    commands: &[CommandInfo],
    queries: &[DeclaredQuery],
    answers: &[Value],
    limits: &Limits,
) -> Option<Value> {
    let mut operation = match &route.endpoint {
        Endpoint::Command(name) => command(commands.iter().find(|c| c.name == *name)?),
        // The one is no resource, it only gives unknown names their problem; the others have a
        // listener of their own.
        Endpoint::NoCommand | Endpoint::Readiness | Endpoint::Metrics => return None,
        Endpoint::ByKey => by_key(),
        Endpoint::Query(index) => queries::operation(queries.get(*index)?, answers.get(*index)?),
        Endpoint::Live(index) => queries::live(queries.get(*index)?, answers.get(*index)?),
        Endpoint::Stream => stream(limits),
        Endpoint::Events => events(limits),
        Endpoint::LiveEvents => live_events(),
        Endpoint::Livez => service(
            "live",
            "Whether the process runs",
            &json!({"type": "object",
            "properties": {"live": {"const": true}}, "required": ["live"]}),
        ),
        Endpoint::Readyz => {
            let schema = json!({"type": "object",
                "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]});
            let mut ready = service("ready", "Whether requests would be served", &schema);
            ready["responses"]["503"] = answer("A required part is missing", &schema);
            ready
        }
        Endpoint::OpenApi => {
            let mut openapi = service("openapi", "This document", &json!({"type": "object"}));
            openapi["responses"]["200"]["headers"] = json!({"ETag": reference("headers", "ETag")});
            openapi["responses"]["304"] = reference("responses", "NotModified");
            openapi["parameters"] = json!([reference("parameters", "IfNoneMatch")]);
            openapi
        }
        Endpoint::Docs => text("docs", "This document as a page", "text/html", &json!({})),
        Endpoint::Problem => {
            let mut page =
                service("problem", "What a kind of problem means", &json!({"type": "object"}));
            page["parameters"] = json!([{
                "name": "code", "in": "path", "required": true,
                "description": "Last part of a problem's type.",
                "schema": {"type": "string", "examples": ["stale"]},
            }]);
            page["responses"]["404"] = reference("responses", "Problem404");
            page
        }
    };
    match &route.scope {
        Scope::Public => operation["security"] = json!([]),
        Scope::Principal => for_principals(&mut operation, "Roles: every role."),
        Scope::Roles(roles) => {
            let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            for_principals(&mut operation, &format!("Roles: {}.", names.join(", ")));
            operation["x-roles"] = json!(names);
        }
    }
    // Every answer has these.
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            if response.get("$ref").is_none() {
                response["headers"]["X-Request-Id"] = reference("headers", "RequestId");
            }
        }
    }
    Some(operation)
}

fn for_principals(operation: &mut Value, roles: &str) {
    for status in OF_A_PRINCIPAL {
        let name = format!("Problem{status}");
        operation["responses"][status.to_string()] = reference("responses", &name);
    }
    let description = operation["description"].as_str().unwrap_or_default();
    operation["description"] = json!(format!("{description} {roles}").trim());
}

fn command(info: &CommandInfo) -> Value {
    let outcome = |description: &str| {
        let mut response = answer(description, &reference("schemas", "CommandAnswer"));
        response["headers"] = json!({
            "Daybook-Position": reference("headers", "Position"),
            "Idempotency-Replayed": reference("headers", "Replayed"),
        });
        response
    };
    let mut open = outcome("Accepted; an outcome is still to come");
    open["headers"]["Location"] = json!({
        "description": "Where to ask for the outcome.", "schema": {"type": "string"},
    });
    let mut responses = json!({"200": outcome("Accepted"), "202": open});
    let status = if info.accepted.open { "202" } else { "200" };
    responses[status]["content"]["application/json"]["example"] = accepted(&info.accepted);
    for status in [408, 412, 413, 415] {
        responses[status.to_string()] = reference("responses", &format!("Problem{status}"));
    }
    responses["422"] = components::refused(&info.refusals);
    let bodies = (1..).zip(&info.examples).map(|(number, example)| {
        (format!("example-{number}"), json!({"summary": example.title, "value": example.body}))
    });
    let bodies: Map<String, Value> = bodies.collect();
    json!({
        "tags": ["Commands"],
        "operationId": info.name,
        "summary": info.title,
        "parameters": [
            reference("parameters", "IdempotencyKey"),
            reference("parameters", "IfMatch"),
            reference("parameters", "IfNoneMatchStar"),
            reference("parameters", "Prefer"),
            reference("parameters", "Traceparent"),
        ],
        "requestBody": {"required": true, "content": {"application/json": {
            "schema": reference("schemas", info.name), "examples": bodies,
        }}},
        "responses": responses,
    })
}

/// An accepted command's answer, as it might be.
fn accepted(answer: &Answer) -> Value {
    let streams = answer.streams.iter();
    let streams: Vec<Value> =
        streams.map(|(stream, version)| json!({"stream": stream, "version": version})).collect();
    json!({"position": "4711", "streams": streams, "result": answer.result})
}

fn by_key() -> Value {
    let mut found = answer(
        "Accepted or refused",
        &json!({"oneOf": [
            {"type": "object", "required": ["outcome", "problem"], "properties": {
                "outcome": {"const": "refused"}, "problem": reference("schemas", "Problem"),
            }},
            {"allOf": [reference("schemas", "CommandAnswer"), {
                "type": "object", "required": ["outcome", "open"], "properties": {
                    "outcome": {"const": "accepted"},
                    "open": {"type": "boolean", "description": "Whether an outcome is to come."},
                },
            }]},
        ]}),
    );
    found["headers"] = json!({"Daybook-Position": reference("headers", "Position")});
    json!({
        "tags": ["Commands"],
        "operationId": "commandByKey",
        "summary": "What became of a command of yours",
        "parameters": [{
            "name": "key", "in": "path", "required": true,
            "description": "The Idempotency-Key that it was sent with.",
            "schema": key_schema(),
        }],
        "responses": {"200": found, "404": reference("responses", "Problem404")},
    })
}

fn stream(limits: &Limits) -> Value {
    let mut found = answer(
        "A page of the stream, sent as it is read",
        &json!({"type": "object", "required": ["items", "next"], "properties": {
            "items": {"type": "array", "items": reference("schemas", "Event")},
            "next": {"type": ["string", "null"],
                "description": "`from_version` of the next page; null at the end."},
        }}),
    );
    found["headers"] = json!({"Daybook-Position": reference("headers", "Position")});
    json!({
        "tags": ["Journal"],
        "operationId": "stream",
        "summary": "One stream's events",
        "parameters": [
            {"name": "stream", "in": "path", "required": true,
             "description": "Name of the stream, percent-encoded.",
             "schema": {"type": "string", "examples": ["stock-85123A"]}},
            {"name": "from_version", "in": "query", "description": "First version wanted.",
             "schema": {"type": "integer", "minimum": 1, "maximum": i32::MAX}},
            {"name": "direction", "in": "query",
             "description": "Oldest first from version 1, or newest first from the last one.",
             "schema": {"enum": ["forward", "backward"], "default": "forward"}},
            page_size(limits.page_events),
        ],
        "responses": {"200": found, "404": reference("responses", "Problem404")},
    })
}

fn events(limits: &Limits) -> Value {
    let mut events = text(
        "events",
        "All events, in order of position",
        "application/x-ndjson",
        &json!({"type": "string",
            "description": "One event a line, each as #/components/schemas/Event."}),
    );
    events["tags"] = json!(["Journal"]);
    events["description"] = json!(format!(
        "Sent as it is read, in constant memory at both ends. Daybook-Position says how far it \
         looks: ask on with that as `after`. Filters are compared while reading, so an answer \
         looks at {} positions or at `limit`, whichever is more, and may be empty before the end. \
         An answer whose connection breaks is incomplete: go on after the last position received.",
        limits.scan_positions
    ));
    let mut parameters = selection();
    parameters.push(page_size(limits.replay_events));
    events["parameters"] = json!(parameters);
    events["responses"]["200"]["headers"] = json!({
        "Daybook-Position": reference("headers", "Position"),
        "Link": {"description": "The next page (`rel=\"next\"`), where this one does not reach the end.",
            "schema": {"type": "string"}},
    });
    events
}

/// Which events are asked for.
fn selection() -> Vec<Value> {
    vec![
        json!({"name": "after", "in": "query", "description": "Only events after this position.",
            "schema": {"type": "integer", "format": "int64", "minimum": 0}}),
        json!({"name": "until", "in": "query", "description": "Only events up to this position.",
            "schema": {"type": "integer", "format": "int64", "minimum": 0}}),
        json!({"name": "types", "in": "query", "style": "form", "explode": false,
            "description": "Only these event types.",
            "schema": {"type": "array", "minItems": 1, "maxItems": 100,
                "items": {"type": "string", "enum": daybook_commands::event_types()}}}),
        json!({"name": "stream_prefix", "in": "query",
            "description": "Only streams whose name starts so, as `order-`.",
            "schema": {"type": "string"}}),
        json!({"name": "correlation", "in": "query",
            "description": "Only what one request set in motion: its X-Request-Id.",
            "schema": {"type": "string", "format": "uuid"}}),
    ]
}

fn live_events() -> Value {
    let schema = json!({
        "type": "string",
        "description": "Server-sent events (WHATWG HTML, 9.2): `data` is an event's JSON, `id` its \
            position. An `id` without `data` says how far the journal was looked at: a client that \
            comes back goes on from there. Comments are signs of life. The last event is named \
            `end`, its `data` an object whose `reason` is `shutdown`, `key-ended`, `complete` \
            (`until` is reached), `too-slow` (what was sent was not taken), `another-history` (the \
            journal was restored: read it anew) or `failed`.",
        "contentMediaType": "application/json",
        "contentSchema": reference("schemas", "Event"),
    });
    let mut parameters = selection();
    parameters.push(json!({
        "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
        "description": "`id` of the last event that you have; goes before `after`.",
    }));
    json!({
        "tags": ["Journal"],
        "operationId": "live_events",
        "summary": "All events, in order of position, and each as it happens",
        "description": "Begins after Last-Event-ID, or after `after`, or with what comes from now \
            on; then each event once, without a gap. A position beyond the end of the journal is \
            refused.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The events, until the client closes",
                "headers": {"Daybook-Position": reference("headers", "Position")},
                "content": {live::EVENT_STREAM: {"schema": schema}},
            },
            "406": reference("responses", "Problem406"),
            "429": reference("responses", "Problem429"),
        },
    })
}

fn page_size(most: i64) -> Value {
    json!({"name": "limit", "in": "query", "description": "Most events wanted.",
        "schema": {"type": "integer", "minimum": 1, "maximum": most,
            "default": most.min(1_000)}})
}

fn service(id: &str, summary: &str, schema: &Value) -> Value {
    json!({
        "tags": ["Service"], "operationId": id, "summary": summary,
        "responses": {"200": answer(summary, schema)},
    })
}

fn text(id: &str, summary: &str, media_type: &str, schema: &Value) -> Value {
    json!({
        "tags": ["Service"], "operationId": id, "summary": summary,
        "responses": {"200": {
            "description": summary, "content": {media_type: {"schema": schema}},
        }},
    })
}

fn answer(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn reference(section: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{section}/{name}")})
}

fn key_schema() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"})
}
