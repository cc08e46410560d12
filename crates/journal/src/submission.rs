//! What goes into the writer and what comes out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{activation::NotActivated, event::Meta, model::Refusal};

/// A command on its way to the writer.
#[derive(Debug, Clone)]
pub struct Submission<C> {
    /// The command.
    pub command: C,
    /// Its idempotency key.
    pub key: IdempotencyKey,
    /// What its events' `meta` will say.
    pub meta: Meta,
    /// When it happened in the world; `None`: now.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Version that the client insists on.
    pub if_match: Option<IfMatch>,
    /// How long it may wait before it is sent.
    pub deadline: Duration,
}

/// How long a command made by [`Submission::new`] may wait before it is sent.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

impl<C> Submission<C> {
    /// A command called `name`, under a key. It happens now, is its own correlation, insists on no
    /// version, and may wait for 5 s.
    pub fn new(name: &str, command: C, key: IdempotencyKey) -> Self {
        let meta = Meta {
            actor: key.principal.clone(),
            command_id: Uuid::now_v7(),
            command: name.to_owned(),
            key: key.key.clone(),
            correlation: Uuid::now_v7(),
            causation: None,
            traceparent: None,
        };
        Self { command, key, meta, occurred_at: None, if_match: None, deadline: DEFAULT_DEADLINE }
    }
}

/// Scope, name and fingerprint under which an outcome is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Whose key it is: two principals' equal keys are different keys.
    pub principal: String,
    /// The key, 1 to 255 characters.
    pub key: String,
    /// Keyed hash of the command's name and body.
    pub fingerprint: [u8; 32],
    /// How long the outcome is kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Whether a refusal is remembered too (clients: yes; the backend's own commands: no).
    pub remember_refusals: bool,
}

impl IdempotencyKey {
    /// A client's key: its outcome is kept for ever, a refusal too.
    pub fn new(principal: &str, key: &str, fingerprint: [u8; 32]) -> Self {
        let (principal, key) = (principal.to_owned(), key.to_owned());
        Self { principal, key, fingerprint, keep: None, remember_refusals: true }
    }
}

/// The version at which the client wants a stream to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch {
    /// Name of the stream.
    pub stream: String,
    /// Version it must have; 0: it must have no events.
    pub version: i32,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Accepted or refused.
    pub verdict: Verdict,
    /// Whether this was remembered from an earlier time the same key was used.
    pub repeated: bool,
}

/// Accepted or refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its events are in the journal.
    Accepted(Accepted),
    /// The business said no; nothing was appended.
    Refused(Refusal),
}

/// What an accepted command appended.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// Position of its last event (the head's, if it needed none).
    pub position: i64,
    /// Streams it appended to, with their versions after it.
    pub streams: Vec<(String, i32)>,
    /// What the model has to say.
    pub result: Value,
    /// Whether an outcome is still to come.
    pub open: bool,
}

/// Why a command has no outcome. See [`SubmitError::retry`] for what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// `If-Match` does not hold.
    #[error("stream {stream} is at version {actual}, not {expected}")]
    Conflict {
        /// The stream.
        stream: String,
        /// Version asked for.
        expected: i32,
        /// Version it has.
        actual: i32,
    },
    /// The key was used before with another command or body.
    #[error("the idempotency key was used before for another request")]
    KeyReused,
    /// A named limit was passed.
    #[error("{name} is {value}, the limit is {limit}")]
    Limit {
        /// Name of the limit.
        name: &'static str,
        /// The value.
        value: usize,
        /// The limit.
        limit: usize,
    },
    /// An event's data can't be stored, or the database refused it because of its contents.
    #[error("the command's events can't be stored: {0}")]
    Unstorable(String),
    /// A stream can't be folded: the journal holds an event that this program can't read.
    #[error("a stream can't be read: {0}")]
    Corrupt(String),
    /// It needs a version of an event type that is not activated yet. Nothing happened.
    #[error("{kind}/{version} is not activated")]
    NotActivated {
        /// Event type, as `OrderPlaced`.
        kind: &'static str,
        /// The version.
        version: i16,
    },
    /// The queue is full. Nothing happened.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The deadline passed before it was sent. Nothing happened.
    #[error("the command waited too long")]
    Expired,
    /// The database can't be reached or the writer is stopping. Nothing happened.
    #[error("the journal can't be written now: {0}")]
    Unavailable(String),
    /// It was sent and the answer was lost. Ask again with the same key.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
}

/// What a caller may do about a [`SubmitError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same again changes nothing.
    Never,
    /// The same again, with the same key, may succeed.
    SameKey,
}

impl From<NotActivated> for SubmitError {
    fn from(NotActivated { kind, version }: NotActivated) -> Self {
        Self::NotActivated { kind, version }
    }
}

impl SubmitError {
    /// Whether the same command may be sent again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. }
            | Self::KeyReused
            | Self::Limit { .. }
            | Self::Unstorable(_)
            | Self::Corrupt(_) => Retry::Never,
            Self::NotActivated { .. }
            | Self::Overloaded
            | Self::Expired
            | Self::Unavailable(_)
            | Self::OutcomeUnknown => Retry::SameKey,
        }
    }
}
