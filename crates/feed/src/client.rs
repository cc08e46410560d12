//! What all Kafka clients share: quiet logs, and an end that blocks nobody.

use std::ops::Deref;

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};

use crate::trouble::Trouble;

/// Context of a client. librdkafka reports every attempt to reconnect; here that is news once.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whether the connection to Kafka is in trouble.
    pub(crate) trouble: Trouble,
    revoked: std::sync::Mutex<Vec<i32>>,
}

impl Link {
    /// `what` uses Kafka, in a few words for the log.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { trouble: Trouble::new(what), revoked: std::sync::Mutex::default() }
    }

    /// Partitions taken away since the last call.
    pub(crate) fn take_revoked(&self) -> Vec<i32> {
        std::mem::take(&mut *self.revoked.lock().expect("no code panics while holding it"))
    }
}

impl ClientContext for Link {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Having read everything is no trouble, though librdkafka reports it here too.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.trouble.report(&format_args!("{error} ({reason})"));
        }
    }
}

impl ConsumerContext for Link {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let mut revoked = self.revoked.lock().expect("no code panics while holding it");
            revoked.extend(list.elements().iter().map(TopicPartitionListElem::partition));
        }
    }
}

/// A Kafka client, which may take a while to end, and so ends on a thread of its own.
pub(crate) struct EndsElsewhere<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> EndsElsewhere<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for EndsElsewhere<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken by drop only")
    }
}

impl<T: Send + 'static> Drop for EndsElsewhere<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where no thread can be had the closure is dropped here, and with it the client.
        let _ended_here =
            std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || drop(client));
    }
}
