//! What the journal asks of the domain that it stores.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{activation::NotActivated, upcast::Upcasters};

/// A domain that the journal can store: how its commands are decided and its events folded.
///
/// Everything here is pure: the same arguments give the same answer. The journal may call
/// `decide` several times for one command, and keeps the last answer only.
pub trait Model: Send + Sync + 'static {
    /// What callers submit.
    type Command: Send + Sync + 'static;
    /// One thing that happened, in the domain's terms.
    type Event: Send + Sync + 'static;
    /// State of one stream. Clones are cheap or rare: a state is cloned when it changes.
    type State: Clone + Send + Sync + 'static;

    /// Names of the streams that `decide` needs, as far as `loaded` lets one say. Called again
    /// with what it named until it names nothing that isn't loaded.
    fn reads(&self, command: &Self::Command, loaded: &Loaded<Self::State>) -> Vec<String>;

    /// The events, jobs and result of a command, or the refusal. `now` is in whole microseconds.
    fn decide(
        &self,
        command: &Self::Command,
        loaded: &Loaded<Self::State>,
        now: DateTime<Utc>,
    ) -> Result<Decision<Self::Event>, Refusal>;

    /// Whether whoever sent the command may learn the version of `stream` where the command is
    /// refused. If so, an `If-Match` that does not hold goes before the refusal; if not, the
    /// refusal is the answer, and it says nothing of the stream. A stream without events has no
    /// version to learn, unless the model says otherwise.
    fn may_learn_version(
        &self,
        _command: &Self::Command,
        loaded: &Loaded<Self::State>,
        stream: &str,
    ) -> bool {
        loaded.get(stream).is_some()
    }

    /// The state of `stream` after `event`; `None` is a stream without events.
    fn evolve(
        &self,
        stream: &str,
        state: Option<Self::State>,
        event: &Self::Event,
    ) -> Result<Self::State, CorruptEvent>;

    /// The wire form of an event, in a version that may be written.
    fn encode(&self, event: &Self::Event) -> Result<Encoded, NotActivated>;

    /// What lifts stored data to the form that `decode` reads; without any, it reads what was
    /// stored.
    fn upcasters(&self) -> Upcasters {
        Upcasters::default()
    }

    /// The event of a wire form: data in its type's current version, lifted to it by
    /// [`Model::upcasters`], and that version. A version that is not known here is an error.
    fn decode(
        &self,
        kind: &str,
        schema_version: i16,
        data: &str,
    ) -> Result<Self::Event, CorruptEvent>;

    /// How much memory a state takes, bytes, roughly: what [`crate::WriterConfig::cache_bytes`]
    /// counts beside a stream's name.
    fn weight(&self, _state: &Self::State) -> usize {
        size_of::<Self::State>()
    }

    /// What snapshots are made of: 32 bytes that differ whenever `evolve`, the form that `freeze`
    /// writes or the upcasters do. `None`: this model makes no snapshots.
    fn snapshots(&self) -> Option<[u8; 32]> {
        None
    }

    /// A state as bytes, to start from when the stream is read again; `None`: not worth it.
    fn freeze(&self, _state: &Self::State) -> Option<Vec<u8>> {
        None
    }

    /// The state of `stream` that `freeze` wrote under the same [`Model::snapshots`]; `None`: not
    /// readable, so the stream is folded from its first event.
    fn thaw(&self, _stream: &str, _frozen: &[u8]) -> Option<Self::State> {
        None
    }
}

/// States of the streams read for a command. A stream that was read and has no events is loaded
/// with `None`.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    streams: HashMap<String, Option<Arc<S>>>,
}

impl<S> Default for Loaded<S> {
    fn default() -> Self {
        Self { streams: HashMap::new() }
    }
}

impl<S> Loaded<S> {
    /// Whether the stream has been read, with or without events.
    pub fn contains(&self, stream: &str) -> bool {
        self.streams.contains_key(stream)
    }

    /// State of a stream; `None` if it has no events or was not read.
    pub fn get(&self, stream: &str) -> Option<&S> {
        self.streams.get(stream).and_then(|state| state.as_deref())
    }

    /// Adds a stream's state.
    pub fn insert(&mut self, stream: impl Into<String>, state: Option<Arc<S>>) {
        self.streams.insert(stream.into(), state);
    }
}

/// What an accepted command does.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<E> {
    /// Events in the order in which they are appended, each with its stream. A stream's name is
    /// text without control characters, `"` and `\`; an event type's likewise.
    pub events: Vec<(String, E)>,
    /// Work to be done because of them, written in the same transaction.
    pub jobs: Vec<NewJob>,
    /// What the client is told beside position and streams.
    pub result: Value,
    /// Whether an outcome is still to come (a card to be charged): HTTP 202 rather than 200.
    pub open: bool,
}

impl<E> Decision<E> {
    /// Events and nothing else: no jobs, no result, nothing still to come.
    pub fn new(events: Vec<(String, E)>) -> Self {
        Self { events, jobs: Vec::new(), result: Value::Null, open: false }
    }
}

/// A job as it is born: opaque to the journal but for its id, kind and time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Derived from what it is for, so that writing it twice writes it once.
    pub id: Uuid,
    /// What it does, as `charge_payment`.
    pub kind: &'static str,
    /// How long after the append it becomes due, milliseconds.
    pub delay_ms: u32,
    /// References only, never personal data or secrets.
    pub payload: Value,
    /// A secret the job needs, already encrypted.
    pub sealed: Option<Vec<u8>>,
}

/// The business saying no. Remembered under the command's key for clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Kind of refusal, kebab-case, as `out-of-stock`.
    pub code: String,
    /// A sentence for a person.
    pub detail: String,
    /// The values that matter, a JSON object.
    pub values: Value,
}

impl Refusal {
    /// A refusal of a kind, with the values that matter (a JSON object).
    pub fn new(code: &str, detail: impl Into<String>, values: Value) -> Self {
        Self { code: code.to_owned(), detail: detail.into(), values }
    }
}

/// An event's wire form.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Event type, as `OrderPlaced`.
    pub kind: &'static str,
    /// Version of its schema.
    pub schema_version: i16,
    /// JSON object that follows the rules of [`crate::canonical`].
    pub data: Value,
}

/// An event that can't be read or does not fit the state it meets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event can't be folded: {0}")]
pub struct CorruptEvent(pub String);
