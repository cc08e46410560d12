//! What the journal stores: events, and the envelope around them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::canonical::{RuleBroken, object_of_texts};

/// A shop with a total order of its own. `id` is local to one database, `name` is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Number in this database, from 1.
    pub id: i32,
    /// Name, `[a-z][a-z0-9-]*`, at most 63 characters.
    pub name: String,
    /// Kafka partition its events go to, chosen once.
    pub partition: i32,
}

/// One event as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Number of the tenant it belongs to.
    pub tenant: i32,
    /// Place in the tenant's total order, from 1, without a gap.
    pub position: i64,
    /// Name of its stream, as `order-<uuid>`.
    pub stream: String,
    /// Place in its stream, from 1, without a gap.
    pub version: i32,
    /// Event type, as `OrderPlaced`.
    pub kind: String,
    /// Version of the type's schema, from 1.
    pub schema_version: i16,
    /// JSON object, as PostgreSQL prints its `jsonb`.
    pub data: String,
    /// JSON object of [`Meta`], as PostgreSQL prints its `jsonb`.
    pub meta: String,
    /// When it happened in the world, microseconds.
    pub occurred_at: DateTime<Utc>,
    /// When it was written, microseconds; never decreases within a tenant.
    pub recorded_at: DateTime<Utc>,
    /// Key number (1 byte) and HMAC-SHA-256 (32 bytes) over the leaf.
    pub mac: Vec<u8>,
}

/// Who and what caused an event; stored with each event of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Principal that sent the command, as `key:<uuid>` or `backend`.
    pub actor: String,
    /// Id of the command, given by the writer's caller.
    pub command_id: Uuid,
    /// Name of the command, as `PlaceOrder`.
    pub command: String,
    /// Idempotency key it came with, so that idempotency records can be rebuilt.
    pub key: String,
    /// Id shared by everything that one request set in motion.
    pub correlation: Uuid,
    /// What directly caused the command, as `job:<uuid>` or `event:<position>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<String>,
    /// W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Meta {
    /// Its RFC 8785 form.
    pub(crate) fn to_canonical(&self) -> Result<Vec<u8>, RuleBroken> {
        let mut buffers = [[0; uuid::fmt::Hyphenated::LENGTH]; 2];
        let [command_id, correlation] = &mut buffers;
        // In the order of the members' names.
        object_of_texts([
            ("actor", Some(self.actor.as_str())),
            ("causation", self.causation.as_deref()),
            ("command", Some(self.command.as_str())),
            ("command_id", Some(&*self.command_id.hyphenated().encode_lower(command_id))),
            ("correlation", Some(&*self.correlation.hyphenated().encode_lower(correlation))),
            ("key", Some(self.key.as_str())),
            ("traceparent", self.traceparent.as_deref()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;

    #[test]
    fn canonical_meta_is_what_any_reader_of_its_json_makes_of_it() {
        let mut meta = Meta {
            actor: "key:\"€\"\n".to_owned(),
            command_id: Uuid::from_u128(1 << 127),
            command: "PlaceOrder".to_owned(),
            key: "k-1".to_owned(),
            correlation: Uuid::from_u128(u128::MAX),
            causation: None,
            traceparent: None,
        };
        let generally = |meta: &Meta| canonical::to_vec(&serde_json::to_value(meta).unwrap());
        assert_eq!(meta.to_canonical(), generally(&meta));
        meta.causation = Some("job:1".to_owned());
        meta.traceparent = Some("00-a-b-01".to_owned());
        assert_eq!(meta.to_canonical(), generally(&meta));
        meta.key = "\0".to_owned();
        assert_eq!(meta.to_canonical().unwrap_err(), generally(&meta).unwrap_err());
    }
}
