//! A backlog through the relay, and the same messages from memory through a bare producer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_feed::FeedConfig;
use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Headers as _, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer},
};
use serde_json::{Value, json};

use crate::{
    Bed, end_of,
    kit::{Server, rounded},
    remove_topic, topic,
};

/// Events written to the journal in one statement.
const FILL: i64 = 50_000;
/// How often the topic's end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A message as the relay made it.
struct Kept {
    key: Vec<u8>,
    value: Vec<u8>,
    timestamp: i64,
    headers: OwnedHeaders,
}

pub(crate) async fn measure(server: &Server, events: i64, runs: usize) -> Value {
    let bed = Bed::make(server).await;
    fill(&bed, events).await;
    let (mut relayed, mut produced, mut bytes) = (vec![], vec![], 0);
    for run in 1..=runs {
        eprintln!("feed: {events} events, run {run} of {runs}");
        // Each run into a topic of its own, which the relay knows nothing of.
        let run_bed = Bed { feed: topic().await, database: server_database(server, &bed) };
        relayed.push(events as f64 / relay(&run_bed, events).await);
        let feed = run_bed.feed.clone();
        let messages = tokio::task::spawn_blocking(move || read(&feed, events)).await;
        let messages = messages.expect("no panic");
        bytes = messages.iter().map(size).sum::<usize>() / messages.len();
        remove_topic(&run_bed.feed).await;
        let feed = topic().await;
        let into = feed.clone();
        let seconds = tokio::task::spawn_blocking(move || produce(&into, messages)).await;
        produced.push(events as f64 / seconds.expect("no panic"));
        remove_topic(&feed).await;
    }
    bed.remove().await;
    let (relayed, produced) = (median(relayed), median(produced));
    json!({
        "bench": "feed",
        "step": "backlog",
        "events": events,
        "message_bytes": bytes,
        "events_per_s": rounded(relayed, 0),
        "producer_per_s": rounded(produced, 0),
        "ratio_producer": rounded(relayed / produced, 3),
    })
}

fn server_database(server: &Server, bed: &Bed) -> crate::Database {
    crate::Database::named(server, bed.database.name())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Events in bulk, as the journal's own measurements write them.
async fn fill(bed: &Bed, events: i64) {
    let client = bed.database.client().await;
    let insert = include_str!("../../../journal/benches/growth/fill_events.sql");
    let mut from = 0;
    while from < events {
        let until = (from + FILL).min(events);
        client.execute(insert, &[&from, &until]).await.expect("the journal takes events");
        from = until;
    }
    for statement in ["vacuum analyze journal.events", "checkpoint"] {
        client.batch_execute(statement).await.expect("a superuser");
    }
}

/// Seconds from the relay's start until the topic holds every event.
async fn relay(bed: &Bed, events: i64) -> f64 {
    let mut client = bed.feed.consumer("unused");
    let consumer: BaseConsumer = client.set("group.id", "unused").create().expect("a consumer");
    let consumer = Arc::new(consumer);
    let started = Instant::now();
    let relay = bed.relay();
    loop {
        let (consumer, feed) = (Arc::clone(&consumer), bed.feed.clone());
        let end = tokio::task::spawn_blocking(move || end_of(&consumer, &feed)).await;
        if end.expect("no panic") >= events {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    relay.stop().await;
    seconds
}

/// All messages of the topic, into memory.
fn read(feed: &FeedConfig, events: i64) -> Vec<Kept> {
    let consumer: BaseConsumer = feed.consumer("unused").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&feed.topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("there is such a partition");
    let mut kept = Vec::with_capacity(usize::try_from(events).expect("it fits in memory"));
    while kept.len() < kept.capacity() {
        let Some(record) = consumer.poll(Duration::from_secs(1)) else { continue };
        let record = record.expect("Kafka gives it out");
        kept.push(Kept {
            key: record.key().expect("a key").to_vec(),
            value: record.payload().expect("a value").to_vec(),
            timestamp: record.timestamp().to_millis().expect("a timestamp"),
            headers: record.headers().expect("headers").detach(),
        });
    }
    kept
}

fn size(message: &Kept) -> usize {
    let headers = message.headers.iter();
    let headers: usize = headers.map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len)).sum();
    message.key.len() + message.value.len() + headers
}

/// Counts what is acknowledged.
struct Acknowledged(Arc<AtomicI64>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "Kafka takes every message");
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Seconds that a bare producer with the relay's settings takes for messages that lie ready.
fn produce(feed: &FeedConfig, messages: Vec<Kept>) -> f64 {
    let wanted = i64::try_from(messages.len()).expect("a number");
    let acknowledged = Arc::new(AtomicI64::new(0));
    let started = Instant::now();
    let context = Acknowledged(Arc::clone(&acknowledged));
    let producer: ThreadedProducer<_> =
        feed.producer().create_with_context(context).expect("a producer");
    for message in messages {
        let mut record = BaseRecord::to(&feed.topic)
            .partition(0)
            .key(&message.key)
            .payload(&message.value)
            .timestamp(message.timestamp)
            .headers(message.headers);
        while let Err((error, refused)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "it takes every message");
            std::thread::sleep(Duration::from_millis(1));
            record = refused;
        }
    }
    while acknowledged.load(Ordering::Acquire) < wanted {
        std::thread::sleep(Duration::from_millis(1));
    }
    started.elapsed().as_secs_f64()
}
