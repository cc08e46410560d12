//! What can go wrong between the journal and Kafka.

use daybook_journal::JournalError;
use rdkafka::error::KafkaError;

use crate::record::RecordError;

/// The feed failed. [`FeedError::is_transient`] says whether trying again can help.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Kafka can't be reached or refused a request.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Kafka did not answer in time, or less than it had announced.
    #[error("Kafka: {0}")]
    KafkaStalled(String),
    /// A Kafka client ended for good; only a new one can go on.
    #[error("Kafka client ended: {0}")]
    KafkaFatal(String),
    /// PostgreSQL answered with an error or went away.
    #[error("PostgreSQL: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had from the pool.
    #[error("PostgreSQL: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The connection that holds the partition's lock is gone.
    #[error("PostgreSQL: the connection that holds the relay's lock is lost")]
    LockLost,
    /// The topic's settings don't fit, with what to do about it.
    #[error("topic {topic}: {detail}; {remedy}")]
    Unfit {
        /// The topic.
        topic: String,
        /// What is wrong.
        detail: String,
        /// What an operator can do.
        remedy: String,
    },
    /// What stands in the topic is not what stands in the journal.
    #[error(
        "topic {topic}, partition {partition} contradicts the journal: {detail}; `daybook feed \
         check` says in full how they differ, and `daybook feed recreate` makes the topic anew, \
         filled again from the journal; or publish to a new topic"
    )]
    Contradiction {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How they differ.
        detail: String,
    },
    /// A record that is not an event of ours.
    #[error("topic {topic}, partition {partition}, offset {offset}: {reason}")]
    Foreign {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the record stands.
        offset: i64,
        /// What is wrong with it.
        reason: RecordError,
    },
    /// A record repeats a position, but not the event that stands there.
    #[error(
        "topic {topic}, partition {partition}, offset {offset}: another event than the one before at \
         tenant {tenant}'s position {position}; the journal knows which one is right"
    )]
    Contradicted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the second one stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
        /// The position that both claim.
        position: i64,
    },
    /// An event of a tenant that the reader was not told of; a newer list may have it.
    #[error("topic {topic}, partition {partition}, offset {offset}: tenant {tenant:?} is unknown")]
    UnknownTenant {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the record stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
    },
    /// A position is missing in the topic.
    #[error(
        "topic {topic}, partition {partition}: tenant {tenant} goes from position {after} to {found}"
    )]
    TopicGap {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The tenant's name.
        tenant: String,
        /// Last position before the gap; 0: the topic does not begin at position 1.
        after: i64,
        /// First position after it.
        found: i64,
    },
    /// The topic ends before the wanted position.
    #[error("topic {topic}: tenant {tenant} ends at position {found}, wanted up to {wanted}")]
    TooShort {
        /// The topic.
        topic: String,
        /// The tenant's name.
        tenant: String,
        /// Last position in the topic.
        found: i64,
        /// Position asked for.
        wanted: i64,
    },
    /// A position is missing in the journal, which can't be unless it was tampered with.
    #[error("journal: tenant {tenant} goes from position {after} to {found}")]
    JournalGap {
        /// The tenant's name.
        tenant: String,
        /// Last position before the gap.
        after: i64,
        /// First position after it.
        found: i64,
    },
    /// An event that no record can hold.
    #[error("tenant {tenant}, position {position} can't be published: {reason}")]
    Unpublishable {
        /// The tenant's name.
        tenant: String,
        /// The event's position.
        position: i64,
        /// Why not.
        reason: String,
    },
    /// A part of the feed ended without saying why: a bug.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

impl FeedError {
    /// Whether the same thing may succeed later without anybody doing anything about the data.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kafka(error) => !matches!(
                error,
                KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_)
            ),
            Self::KafkaStalled(_)
            | Self::KafkaFatal(_)
            | Self::Database(_)
            | Self::Pool(_)
            | Self::Journal(_)
            | Self::LockLost
            | Self::UnknownTenant { .. }
            | Self::Ended(_) => true,
            Self::Unfit { .. }
            | Self::Contradiction { .. }
            | Self::Foreign { .. }
            | Self::Contradicted { .. }
            | Self::TopicGap { .. }
            | Self::TooShort { .. }
            | Self::JournalGap { .. }
            | Self::Unpublishable { .. } => false,
        }
    }
}
