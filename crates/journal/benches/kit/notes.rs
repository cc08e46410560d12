//! A model whose commands cost almost nothing, so that what is measured is the journal.

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_journal::{
    CorruptEvent, Decision, Encoded, IdempotencyKey, Loaded, Meta, Model, NotActivated, Refusal,
    Submission,
};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) struct Notes;

/// One note in a stream; with its `meta` an event is about 500 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted;

pub(crate) fn data() -> Value {
    json!({
        "order_id": "0190c5a0-1111-7000-8000-000000000001",
        "lines": [
            { "sku": "85123A", "quantity": 6, "unit_price": 255 },
            { "sku": "71053", "quantity": 6, "unit_price": 339 },
            { "sku": "84406B", "quantity": 8, "unit_price": 275 },
            { "sku": "84029G", "quantity": 6, "unit_price": 339 },
        ],
        "total": 7798,
        "currency": "GBP",
        "country": "United Kingdom",
    })
}

impl Model for Notes {
    type Command = String;
    type Event = Noted;
    type State = ();

    fn reads(&self, stream: &String, _loaded: &Loaded<()>) -> Vec<String> {
        vec![stream.clone()]
    }

    fn decide(
        &self,
        stream: &String,
        _loaded: &Loaded<()>,
        _now: DateTime<Utc>,
    ) -> Result<Decision<Noted>, Refusal> {
        Ok(Decision {
            events: vec![(stream.clone(), Noted)],
            jobs: Vec::new(),
            result: json!({}),
            open: false,
        })
    }

    fn evolve(
        &self,
        _stream: &str,
        _state: Option<()>,
        _event: &Noted,
    ) -> Result<(), CorruptEvent> {
        Ok(())
    }

    fn encode(&self, _event: &Noted) -> Result<Encoded, NotActivated> {
        Ok(Encoded { kind: "Noted", schema_version: 1, data: data() })
    }

    fn decode(&self, _kind: &str, _version: i16, data: &str) -> Result<Noted, CorruptEvent> {
        match serde_json::from_str::<Value>(data) {
            Ok(_) => Ok(Noted),
            Err(error) => Err(CorruptEvent(error.to_string())),
        }
    }
}

pub(crate) fn meta(key: &str) -> Meta {
    Meta {
        actor: "key:0190c5a0-2222-7000-8000-000000000001".to_owned(),
        command_id: Uuid::now_v7(),
        command: "Note".to_owned(),
        key: key.to_owned(),
        correlation: Uuid::now_v7(),
        causation: None,
        traceparent: None,
    }
}

/// One command under a key of its own.
pub(crate) fn submission(stream: String) -> Submission<String> {
    let key = Uuid::new_v4().to_string();
    Submission {
        command: stream,
        meta: meta(&key),
        key: IdempotencyKey {
            principal: "key:0190c5a0-2222-7000-8000-000000000001".to_owned(),
            key,
            fingerprint: [7; 32],
            keep: Some(Duration::from_hours(720)),
            remember_refusals: true,
        },
        occurred_at: None,
        if_match: None,
        deadline: Duration::from_secs(30),
    }
}

/// A stream that nobody has used.
pub(crate) fn new_stream() -> String {
    format!("order-{}", Uuid::now_v7())
}
