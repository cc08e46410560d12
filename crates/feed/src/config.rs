//! Where the feed goes and how.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use serde::{Deserialize, Serialize};

/// Settings of relay, subscription and topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedConfig {
    /// Brokers to begin with, `host:port`, comma-separated.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Partitions that the topic must at least have; a tenant's partition lies below.
    pub partitions: i32,
    /// Replicas of a topic that is made.
    pub replication: i32,
    /// `min.insync.replicas` of a topic that is made: replicas that confirm a record.
    pub min_insync: i32,
    /// How long the topic keeps records, milliseconds; -1: for ever.
    pub retention_ms: i64,
    /// Largest record, bytes; also `max.message.bytes` of a topic that is made.
    pub max_record_bytes: u32,
    /// How records are compressed on their way and in the topic: `none`, `lz4` or `snappy`.
    pub compression: String,
    /// How long the producer waits for a batch to fill, microseconds: a page of the journal is
    /// handed over within that.
    pub linger_us: u32,
    /// How long a broker may hold back an answer with nothing in it, milliseconds: adds to the
    /// latency of consumers.
    pub fetch_wait_ms: u32,
    /// `consumer` (KIP-848, brokers from 4.0) or `classic` (cooperative-sticky, older brokers).
    pub group_protocol: String,
    /// Further librdkafka settings for every client, as `sasl.username`. They win.
    pub properties: BTreeMap<String, String>,
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "daybook.events".to_owned(),
            partitions: 1,
            replication: 1,
            min_insync: 1,
            retention_ms: -1,
            max_record_bytes: 8 * 1024 * 1024,
            compression: "lz4".to_owned(),
            linger_us: 200,
            fetch_wait_ms: 10,
            group_protocol: "consumer".to_owned(),
            properties: BTreeMap::new(),
        }
    }
}

impl FeedConfig {
    /// What every client has in common.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "daybook")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set_log_level(RDKafkaLogLevel::Warning);
        client
    }

    /// A producer that emits each partition's records in order, once, without a gap, or ends.
    pub fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A record whose time runs out in the queue could be overtaken by the next one, which
            // would be a gap. So no record's time runs out: an outage is waited for, and any
            // delivery that fails ends the producer.
            .set("message.timeout.ms", "0")
            .set("enable.gapless.guarantee", "true")
            .set("linger.ms", format!("{}", f64::from(self.linger_us) / 1000.0))
            .set("batch.size", "1000000")
            .set("batch.num.messages", "10000")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            .set("message.max.bytes", self.max_record_bytes.to_string())
            .set("compression.codec", &self.compression);
        self.finish(client)
    }

    /// A consumer that starts from the beginning and never commits on its own.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_uncommitted")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", self.fetch_wait_ms.to_string())
            .set("fetch.error.backoff.ms", "100")
            // By default a queue that was full is left alone for a second, and a backlog is read
            // one queue a second.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "4194304")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "32768");
        client
    }

    /// A member of a consumer group.
    pub(crate) fn member(&self, group: &str) -> ClientConfig {
        let mut client = self.consumer(group);
        client.set("group.protocol", &self.group_protocol);
        if self.group_protocol == "classic" {
            client.set("partition.assignment.strategy", "cooperative-sticky");
            client.set("session.timeout.ms", "10000");
        }
        self.finish(client)
    }

    /// Applies the configured `properties`.
    pub(crate) fn finish(&self, mut client: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
    }
}
