//! The event store: append, read, follow, idempotency. Generic over the model it stores.

pub mod activation;
pub mod canonical;
mod event;
mod follow;
mod janitor;
mod mac;
mod migrate;
mod model;
mod reader;
mod record;
mod submission;
mod upcast;
mod writer;

pub use activation::{Activations, EventVersion, NotActivated};
pub use event::{Meta, StoredEvent, Tenant};
pub use follow::{Heads, HeadsTask};
pub use janitor::{Janitor, JanitorSettings, Swept};
pub use mac::MacKeys;
pub use migrate::migrate;
pub use model::{CorruptEvent, Decision, Encoded, Loaded, Model, NewJob, Refusal};
pub use reader::{Direction, EventFilter, JournalError, Page, Reader, StreamEnd, StreamRange};
pub use submission::{
    Accepted, IdempotencyKey, IfMatch, Outcome, Retry, Submission, SubmitError, Verdict,
};
pub use upcast::{BrokenChain, Upcaster, Upcasters};
pub use writer::{Pending, Writer, WriterConfig, WriterTask};
