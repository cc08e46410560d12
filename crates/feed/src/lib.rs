//! Kafka: the relay that publishes the journal, and the subscriptions that read it back.
//!
//! The topic holds every event of the journal, in order per tenant, as CloudEvents 1.0. It may
//! hold repeats, but neither a gap nor a reordering of first occurrences.

mod check;
mod client;
mod config;
mod error;
mod gather;
mod lock;
mod migrate;
mod note;
mod publisher;
mod read_all;
mod record;
mod relay;
mod scan;
mod subscription;
mod survey;
mod topic;
mod trouble;

pub use check::{CheckReport, Fault, Reach, check};
pub use config::FeedConfig;
pub use error::FeedError;
pub use gather::Batch;
pub use migrate::migrate;
pub use publisher::Publisher;
pub use read_all::{ReadAll, read_all};
pub use record::{FeedEvent, HEADER_NAMES, RecordError, decode, encode};
pub use relay::Relay;
pub use subscription::Subscription;
pub use survey::TopicSurvey;
pub use topic::{check_topic, ensure_topic, recreate_topic};
