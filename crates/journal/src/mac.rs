//! The MAC that the writer stores with each event (design §10).

use std::{collections::BTreeMap, io::Write};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::event::StoredEvent;

/// Keys for event MACs, by number. The database never holds them.
#[derive(Clone)]
pub struct MacKeys {
    /// Each key has been taken in already: what is left is to add the message.
    keys: BTreeMap<u8, Hmac<Sha256>>,
    current: u8,
}

impl std::fmt::Debug for MacKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

/// What a MAC covers: every column of an event, in the form of design §10's leaf.
pub(crate) struct Leaf<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) position: i64,
    pub(crate) stream: &'a str,
    pub(crate) version: i32,
    pub(crate) kind: &'a str,
    pub(crate) schema_version: i16,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) recorded_at: DateTime<Utc>,
    /// Of the RFC 8785 form of `data`.
    pub(crate) data: Sha256Hex,
    /// Of the RFC 8785 form of `meta`.
    pub(crate) meta: Sha256Hex,
}

/// A SHA-256 in lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sha256Hex([u8; 64]);

impl Sha256Hex {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digits = [0; 64];
        hex::encode_to_slice(Sha256::digest(bytes), &mut digits).expect("two digits a byte");
        Self(digits)
    }
}

/// Room for a leaf with names of usual length.
const LEAF_BYTES: usize = 512;

impl Leaf<'_> {
    /// RFC 8785 form of the leaf object, format 1. Stream, type and tenant names hold no
    /// character that JSON escapes (checked when they are written), and members are in order.
    fn to_vec(&self) -> Vec<u8> {
        let mut leaf = Vec::with_capacity(LEAF_BYTES);
        leaf.extend_from_slice(br#"{"data_sha256":""#);
        leaf.extend_from_slice(&self.data.0);
        leaf.extend_from_slice(br#"","format":1,"meta_sha256":""#);
        leaf.extend_from_slice(&self.meta.0);
        write!(
            leaf,
            concat!(
                r#"","occurred_at":{},"position":{},"recorded_at":{},"schema_version":{},"#,
                r#""stream":"{}","tenant":"{}","type":"{}","version":{}}}"#
            ),
            self.occurred_at.timestamp_micros(),
            self.position,
            self.recorded_at.timestamp_micros(),
            self.schema_version,
            self.stream,
            self.tenant,
            self.kind,
            self.version,
        )
        .expect("memory takes what is written");
        leaf
    }
}

/// Whether a name of a stream or type may stand in a leaf as it is: it has no character that JSON
/// escapes.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

impl MacKeys {
    /// Keys by number; the highest number signs, all of them verify. `None` without any key.
    pub fn new(keys: BTreeMap<u8, Vec<u8>>) -> Option<Self> {
        let current = *keys.keys().next_back()?;
        let taken_in = |key: Vec<u8>| {
            Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length")
        };
        let keys = keys.into_iter().map(|(number, key)| (number, taken_in(key))).collect();
        Some(Self { keys, current })
    }

    /// 33 bytes: the key's number and the HMAC-SHA-256 of the leaf under it.
    pub(crate) fn sign(&self, leaf: &Leaf<'_>) -> Vec<u8> {
        self.sign_bytes(&leaf.to_vec())
    }

    /// 33 bytes over something else than an event; `message` begins with what it is, and not with
    /// a brace as leaves do.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let key = self.keys.get(&self.current).expect("current key is present").clone();
        let mut mac = Vec::with_capacity(33);
        mac.push(self.current);
        mac.extend_from_slice(&key.chain_update(message).finalize().into_bytes());
        mac
    }

    /// Whether [`MacKeys::sign_bytes`] made this of `message`.
    pub(crate) fn verify_bytes(&self, message: &[u8], mac: &[u8]) -> bool {
        let Some((number, hmac)) = mac.split_first() else { return false };
        self.keys
            .get(number)
            .is_some_and(|key| key.clone().chain_update(message).verify_slice(hmac).is_ok())
    }

    /// Whether a stored event carries the MAC that its columns deserve. `false` too where the key
    /// is unknown or `data` or `meta` break the rules of [`crate::canonical`].
    pub fn verify(&self, tenant: &str, event: &StoredEvent) -> bool {
        let canonical = |text: &str| {
            serde_json::from_str(text).ok().and_then(|value| crate::canonical::to_vec(&value).ok())
        };
        let (Some(data), Some(meta)) = (canonical(&event.data), canonical(&event.meta)) else {
            return false;
        };
        let leaf = Leaf {
            tenant,
            position: event.position,
            stream: &event.stream,
            version: event.version,
            kind: &event.kind,
            schema_version: event.schema_version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            data: Sha256Hex::of(&data),
            meta: Sha256Hex::of(&meta),
        };
        self.verify_bytes(&leaf.to_vec(), &event.mac)
    }
}
