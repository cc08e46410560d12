//! The topic from its beginning, without a group: what a read model can be rebuilt from.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use daybook_journal::Tenant;
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::Link,
    config::FeedConfig,
    error::FeedError,
    gather::{Batch, Gaps, Gather},
    scan::{STALL_TIMEOUT, assign, groupless, watermarks},
};

/// Longest wait for a record before other things are looked after.
const POLL: Duration = Duration::from_millis(100);
/// How long events that are wanted from beyond the topic's end are waited for: a relay may be
/// about to publish them.
const LATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Events and bytes that are gathered before they are handed on.
const CHUNK_EVENTS: usize = 4096;
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Chunks that may wait.
const CHUNKS_WAITING: usize = 4;

/// Events of some tenants, being read from the topic's beginning. Dropping it stops the reading.
#[derive(Debug)]
pub struct ReadAll {
    chunks: mpsc::Receiver<Result<VecDeque<Batch>, FeedError>>,
    waiting: VecDeque<Batch>,
    _stop: DropGuard,
}

impl ReadAll {
    /// The next events; `None` once every tenant has reached its position.
    ///
    /// Cancelling this loses nothing.
    pub async fn next(&mut self) -> Result<Option<Batch>, FeedError> {
        loop {
            if let Some(batch) = self.waiting.pop_front() {
                return Ok(Some(batch));
            }
            match self.chunks.recv().await {
                Some(chunk) => self.waiting = chunk?,
                None => return Ok(None),
            }
        }
    }
}

/// Reads the events of these tenants from offset 0, each from position 1 up to the position beside
/// it (`i64::MAX`: up to the end that the topic has now). Every position comes once, in order.
///
/// Events of other tenants are passed over; so are positions beyond the wanted ones. Fails with
/// [`FeedError::TopicGap`] or, after ten seconds at the end without news, [`FeedError::TooShort`]
/// if the topic does not hold them all.
pub fn read_all(config: &FeedConfig, until: &[(Tenant, i64)]) -> Result<ReadAll, FeedError> {
    let stop = CancellationToken::new();
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let wanted: Vec<_> = until.iter().filter(|(_, position)| *position > 0).cloned().collect();
    let reading = Reading { config: config.clone(), wanted, stop: stop.clone() };
    std::thread::Builder::new()
        .name("feed-read-all".to_owned())
        .spawn(move || {
            if let Err(error) = reading.run(&sender) {
                sender.blocking_send(Err(error)).ok();
            }
        })
        .map_err(|error| FeedError::KafkaFatal(format!("no thread to be had: {error}")))?;
    Ok(ReadAll { chunks, waiting: VecDeque::new(), _stop: stop.drop_guard() })
}

/// The thread's side.
struct Reading {
    config: FeedConfig,
    wanted: Vec<(Tenant, i64)>,
    stop: CancellationToken,
}

impl Reading {
    fn run(
        &self,
        chunks: &mpsc::Sender<Result<VecDeque<Batch>, FeedError>>,
    ) -> Result<(), FeedError> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let topic = &self.config.topic;
        let consumer = groupless(&self.config, "reading the topic from its beginning: Kafka")?;
        let partitions: HashSet<i32> = self.wanted.iter().map(|(t, _)| t.partition).collect();
        // Where each partition ends now, and what of it comes next.
        let (mut ends, mut next) = (HashMap::new(), HashMap::new());
        for partition in partitions {
            let (low, high) = watermarks(&consumer, topic, partition, &self.stop)?;
            ends.insert(partition, high);
            next.insert(partition, low);
        }
        let tenants = self.wanted.iter().map(|(t, _)| (t.name.clone(), t.id)).collect();
        let mut gather = Gather::new(topic, tenants, Gaps::Refuse);
        gather.only_wanted(self.wanted.iter().map(|(t, until)| (t.id, *until)).collect());
        assign(&consumer, topic, next.iter().map(|(partition, offset)| (*partition, *offset)))?;
        let mut heard = Instant::now();
        loop {
            Self::gather(&consumer, &mut gather, &mut next, &mut heard)?;
            let batches = gather.take();
            if !batches.is_empty() {
                if chunks.blocking_send(Ok(batches)).is_err() {
                    return Ok(());
                }
                // A reader that took its time is no silence of Kafka's.
                heard = Instant::now();
            }
            if self.stop.is_cancelled() || self.is_complete(&gather, &next, &ends) {
                return Ok(());
            }
            let silent = heard.elapsed();
            if next.iter().all(|(partition, offset)| Some(offset) >= ends.get(partition)) {
                if silent > LATE_TIMEOUT {
                    return Err(self.too_short(&gather));
                }
            } else if silent > STALL_TIMEOUT {
                return Err(FeedError::KafkaStalled(format!(
                    "no record of topic {topic} within {} s",
                    STALL_TIMEOUT.as_secs()
                )));
            }
        }
    }

    /// Gathers what is there, waiting for a first record only.
    fn gather(
        consumer: &BaseConsumer<Link>,
        gather: &mut Gather,
        next: &mut HashMap<i32, i64>,
        heard: &mut Instant,
    ) -> Result<(), FeedError> {
        let mut wait = POLL;
        let mut polled = 0;
        while polled < CHUNK_EVENTS && gather.bytes() < CHUNK_BYTES {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(record)) => {
                    consumer.context().trouble.over();
                    *heard = Instant::now();
                    next.insert(record.partition(), record.offset() + 1);
                    gather.add(&record)?;
                    polled += 1;
                    wait = Duration::ZERO;
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(FeedError::KafkaFatal(code.to_string()));
                }
                // The end is known by offset; librdkafka goes on trying after other errors.
                Some(Err(_)) => {}
            }
        }
        Ok(())
    }

    /// Whether every tenant has come to its position, or to the end where that was asked for.
    fn is_complete(
        &self,
        gather: &Gather,
        next: &HashMap<i32, i64>,
        ends: &HashMap<i32, i64>,
    ) -> bool {
        self.wanted.iter().all(|(tenant, until)| {
            let partition = tenant.partition;
            if *until == i64::MAX {
                next.get(&partition) >= ends.get(&partition)
            } else {
                gather.given(partition, tenant.id) >= *until
            }
        })
    }

    fn too_short(&self, gather: &Gather) -> FeedError {
        let short = self.wanted.iter().find_map(|(tenant, until)| {
            let found = gather.given(tenant.partition, tenant.id);
            (found < *until).then(|| FeedError::TooShort {
                topic: self.config.topic.clone(),
                tenant: tenant.name.clone(),
                found,
                wanted: *until,
            })
        });
        short.unwrap_or(FeedError::Ended("the reading of the topic"))
    }
}
