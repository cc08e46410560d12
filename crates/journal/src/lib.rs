//! The event store: append, read, follow, idempotency. Generic over the model it stores.
//!
//! A *tenant* is one total order: its events have positions 1, 2, 3, … without a gap, in the order
//! in which they were committed. A *stream* is a part of it with versions 1, 2, 3, …: one account,
//! one order. A *command* reads some streams, and is refused or appends events to some streams,
//! all or nothing. Every event is written once and never changed; PostgreSQL refuses it by trigger.
//!
//! # A walk through
//!
//! 1. A [`Model`] says how commands are decided and events folded. It is pure.
//! 2. [`migrate`] makes schema `journal`; [`Reader::add_tenant`] makes a tenant.
//! 3. [`Writer::new`] gives a handle to submit commands with, and a [`WriterTask`] that does the
//!    work: one of each per tenant and process, in any number of processes.
//! 4. [`Writer::submit`] decides on current state and answers when it is committed. Under the same
//!    [`IdempotencyKey`] a command takes effect once, however often it is sent. What goes wrong is
//!    one of three: a [`Refusal`] (the model says no), [`SubmitError::Conflict`] (the stream is not
//!    at the version asked for), or a failure, of which [`SubmitError::retry`] says whether it may
//!    be sent again.
//! 5. [`Reader::read`], [`Reader::read_stream`] and [`Reader::follow`] read in constant memory:
//!    the whole order from a position, one stream from either end, and what comes live.
//!
//! Positions are from 1, 0 being before the first event; versions likewise. Times are in whole
//! microseconds. Amounts and everything else in an event are the model's.
//!
//! ```no_run
//! use std::{collections::BTreeMap, sync::Arc};
//!
//! use chrono::{DateTime, Utc};
//! use daybook_journal::{
//!     CorruptEvent, Decision, Encoded, EventFilter, Heads, IdempotencyKey, Loaded, MacKeys, Model,
//!     NotActivated, Reader, Refusal, Submission, Writer, WriterConfig,
//! };
//! use futures::StreamExt;
//! use serde_json::json;
//! use tokio_util::sync::CancellationToken;
//!
//! /// Counts to ten.
//! struct Counter;
//! struct Increment;
//! struct Incremented;
//!
//! impl Model for Counter {
//!     type Command = Increment;
//!     type Event = Incremented;
//!     type State = u64;
//!
//!     fn reads(&self, _: &Increment, _: &Loaded<u64>) -> Vec<String> {
//!         vec!["counter-1".to_owned()]
//!     }
//!     fn decide(
//!         &self,
//!         _: &Increment,
//!         loaded: &Loaded<u64>,
//!         _now: DateTime<Utc>,
//!     ) -> Result<Decision<Incremented>, Refusal> {
//!         match loaded.get("counter-1").copied().unwrap_or(0) {
//!             10 => Err(Refusal::new("full", "It counts to ten.", json!({ "count": 10 }))),
//!             _ => Ok(Decision::new(vec![("counter-1".to_owned(), Incremented)])),
//!         }
//!     }
//!     fn evolve(&self, _: &str, n: Option<u64>, _: &Incremented) -> Result<u64, CorruptEvent> {
//!         Ok(n.unwrap_or(0) + 1)
//!     }
//!     fn encode(&self, _: &Incremented) -> Result<Encoded, NotActivated> {
//!         Ok(Encoded { kind: "Incremented", schema_version: 1, data: json!({}) })
//!     }
//!     fn decode(&self, kind: &str, _: i16, _: &str) -> Result<Incremented, CorruptEvent> {
//!         match kind {
//!             "Incremented" => Ok(Incremented),
//!             other => Err(CorruptEvent(format!("unknown type {other}"))),
//!         }
//!     }
//! }
//!
//! # async fn walk(config: tokio_postgres::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let manager = deadpool_postgres::Manager::new(config.clone(), tokio_postgres::NoTls);
//! let pool = deadpool_postgres::Pool::builder(manager).build()?;
//! daybook_journal::migrate(&mut **pool.get().await?).await?;
//! let reader = Reader::new(pool);
//! let tenant = reader.add_tenant("main", 1).await?;
//!
//! // The key makes a MAC of each event, so that a changed history is noticed. Keep it.
//! let keys = MacKeys::new(BTreeMap::from([(1, vec![7; 32])])).expect("there is one");
//! let (writer, task) = Writer::new(
//!     config.clone(),
//!     tenant.clone(),
//!     Arc::new(Counter),
//!     keys,
//!     WriterConfig::default(),
//! );
//! let stop = CancellationToken::new();
//! tokio::spawn(task.run(stop.clone()));
//!
//! let key = IdempotencyKey::new("somebody", "increment-1", [0; 32]);
//! let outcome = writer.submit(Submission::new("Increment", Increment, key)).await?;
//! println!("{:?}", outcome.verdict);
//!
//! // Everything there is, then everything that comes.
//! let (heads, listening) = Heads::new(config, reader.clone());
//! tokio::spawn(listening.run(stop.clone()));
//! let mut events = Box::pin(reader.follow(tenant.id, 0, EventFilter::default(), &heads));
//! while let Some(event) = events.next().await {
//!     println!("{}", event?.position);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/bank.rs` is a small program that runs. Whoever writes needs a connection of its own,
//! directly to PostgreSQL 15 or newer with `fsync` and `synchronous_commit` on; readers share a
//! pool. Errors are described where they are defined: [`SubmitError`], [`JournalError`].

pub mod activation;
pub mod canonical;
mod durability;
mod event;
mod follow;
mod janitor;
mod mac;
mod migrate;
mod model;
mod reader;
mod record;
mod restore;
mod submission;
mod upcast;
mod writer;

pub use activation::{Activations, EventVersion, NotActivated};
pub use durability::{NotDurable, check_durability};
pub use event::{Meta, StoredEvent, Tenant};
pub use follow::{Heads, HeadsTask};
pub use janitor::{Janitor, JanitorSettings, Swept};
pub use mac::MacKeys;
pub use migrate::migrate;
pub use model::{CorruptEvent, Decision, Encoded, Loaded, Model, NewJob, Refusal};
pub use reader::{
    CopiedEvent, Direction, EventFilter, EventsCopy, EventsInOrder, JournalError, Page, Reader,
    StreamEnd, StreamRange,
};
pub use restore::{Restore, RestoreError};
pub use submission::{
    Accepted, IdempotencyKey, IfMatch, Outcome, Retry, Submission, SubmitError, Verdict,
};
pub use upcast::{BrokenChain, Upcaster, Upcasters};
pub use writer::{NotReady, Pending, Writer, WriterConfig, WriterTask};
