//! The topic as an AsyncAPI 3 document, made from the schemas that events are written with.

use serde_json::{Map, Value, json};

use super::{EVOLUTIONS, event_versions};
use crate::events::{event_schema, event_version};

/// Name of the topic unless an installation chooses another one.
const TOPIC: &str = "daybook.events";

/// Headers of a record: CloudEvents 1.0 in binary mode. A test compares them with a record.
fn headers() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    let number = |description: &str| json!({"type": "string", "pattern": "^[1-9][0-9]*$", "description": description});
    let properties = json!({
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": text("`<tenant>/<position>`: a record that comes twice has the same."),
        "ce_source": text("`/daybook/<tenant>`."),
        "ce_type": text("Event type."),
        "ce_time": time("When the event was recorded."),
        "ce_subject": text("Name of the event's stream."),
        "content-type": {"type": "string", "const": "application/json"},
        "ce_tenant": text("Name of the tenant, which is the record's key too."),
        "ce_position": number("Place in the tenant's order, from 1 without a gap."),
        "ce_streamversion": number("Place in its stream, from 1 without a gap."),
        "ce_schemaversion": number("Version of the type's schema that the value is in."),
        "ce_incarnation": {"type": "string", "format": "uuid",
            "description": "Id of the journal's history; another one after a restore."},
        "ce_mac": {"type": "string", "pattern": "^[0-9a-f]{66}$",
            "description": "Number of the key and HMAC-SHA-256 over the event."},
        "ce_occurredat": time("When it happened in the world."),
        "ce_meta": text("Who did it and in what context: a JSON object."),
    });
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// Schema of one version of a type.
fn schema(kind: &str, version: i16) -> Option<Value> {
    let schema = if version == event_version(kind) {
        event_schema(kind)?
    } else {
        let evolution = EVOLUTIONS.iter().find(|e| e.kind == kind && e.from == version)?;
        serde_json::from_str(evolution.schema).ok()?
    };
    let mut schema = schema;
    // Inside a document it is the document that says which dialect it speaks.
    schema.as_object_mut()?.remove("$schema");
    Some(schema)
}

/// The document. A message is a version of an event type.
pub fn asyncapi() -> Value {
    let (mut messages, mut of_channel, mut schemas) = (Map::new(), Map::new(), Map::new());
    schemas.insert("Headers".to_owned(), headers());
    for version in event_versions() {
        let Some(schema) = schema(version.kind, version.version) else { continue };
        let name = format!("{}.{}", version.kind, version.version);
        messages.insert(
            name.clone(),
            json!({
                "name": name,
                "title": version.kind,
                "summary": schema["description"],
                "contentType": "application/json",
                "headers": {"allOf": [
                    {"$ref": "#/components/schemas/Headers"},
                    {"type": "object", "properties": {
                        "ce_type": {"const": version.kind},
                        "ce_schemaversion": {"const": version.version.to_string()},
                    }},
                ]},
                "payload": {"$ref": format!("#/components/schemas/{name}")},
                "bindings": {"kafka": {
                    "key": {"type": "string", "description": "Name of the tenant."},
                    "bindingVersion": "0.5.0",
                }},
            }),
        );
        of_channel.insert(name.clone(), json!({"$ref": format!("#/components/messages/{name}")}));
        schemas.insert(name, schema);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Daybook's event feed",
            "version": "1.0.0",
            "description": "Every event of the journal, in order per tenant, as CloudEvents 1.0 in \
                binary mode. A record may come again, with the same `ce_id` and `ce_mac`; none is \
                missing and none comes before its time. Values are in the form in which they were \
                stored: each version of a type is a message of its own.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {"events": {
            "address": TOPIC,
            "description": "A tenant's events are in one partition. Setting `topic` names another \
                topic.",
            "messages": of_channel,
            "bindings": {"kafka": {"topic": TOPIC, "bindingVersion": "0.5.0"}},
        }},
        "operations": {"publish_events": {
            "action": "send",
            "channel": {"$ref": "#/channels/events"},
            "summary": "The relay publishes what the journal has.",
        }},
        "components": {"messages": messages, "schemas": schemas},
    })
}
