//! What a partition really holds: read from the noted offset, or whole, to its end.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    client::Link,
    config::FeedConfig,
    error::FeedError,
    note::Note,
    record::{self, MAC_BYTES, RecordError},
};

/// Longest wait for one answer from Kafka, and how long a wait can't be interrupted.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_SLICE: Duration = Duration::from_secs(2);
/// Longest time without a record while there are some.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one look for a record may take; shorter, so that nothing goes unnoticed.
const POLL: Duration = Duration::from_millis(100);

/// How far a tenant's events reach in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Highest position.
    pub(crate) position: i64,
    /// Mac of its event.
    pub(crate) mac: [u8; MAC_BYTES],
}

/// What a partition holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By name of the tenant: those with a record in what was read.
    pub(crate) tenants: HashMap<String, Reached>,
    /// Whether the partition was read whole, so that a note says nothing more.
    pub(crate) whole: bool,
    /// Records read.
    pub(crate) records: u64,
}

impl Found {
    /// Takes a record into account; `false` if it leaves a gap to what came before it, which is
    /// `noted` for a tenant's first record.
    fn include(&mut self, noted: i64, begins_late: bool, place: &record::Place<'_>) -> bool {
        self.records += 1;
        let known = self.tenants.get_mut(place.tenant);
        let may_begin = known.is_none() && begins_late;
        let before = known.as_ref().map_or(noted, |reached| reached.position);
        if place.position > before + 1 && !may_begin {
            return false;
        }
        let reached = Reached { position: place.position, mac: place.mac };
        match known {
            Some(known) if known.position < place.position => *known = reached,
            Some(_) => {}
            None => drop(self.tenants.insert(place.tenant.to_owned(), reached)),
        }
        true
    }
}

/// A consumer of given partitions from given offsets, in no group.
pub(crate) fn groupless(config: &FeedConfig, what: &str) -> Result<BaseConsumer<Link>, FeedError> {
    // librdkafka asks for a group's name even when no group is joined, as here.
    let mut client = config.consumer(&format!("daybook-{}", Uuid::new_v4()));
    client.set("enable.partition.eof", "true");
    Ok(config.finish(client).create_with_context(Link::new(what))?)
}

/// Starts `consumer` at these offsets of the topic, by partition.
pub(crate) fn assign(
    consumer: &BaseConsumer<Link>,
    topic: &str,
    offsets: impl IntoIterator<Item = (i32, i64)>,
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    consumer.assign(&list)
}

/// Reads what the partition holds. `names` gives the names of tenants' numbers. Blocks; ends soon
/// after `stop`.
///
/// Believes the note as far as the topic bears it out: where the topic ends before it, holds
/// another event at that place, or has a gap after it, the partition is read whole.
pub(crate) fn scan(
    config: &FeedConfig,
    partition: i32,
    note: Option<&Note>,
    names: &HashMap<i32, String>,
    stop: &CancellationToken,
) -> Result<Found, FeedError> {
    let consumer = groupless(config, "relay: reading the topic's end")?;
    let (low, high) = watermarks(&consumer, &config.topic, partition, stop)?;
    let scan = Scan { config, partition, consumer: &consumer, low, high, stop };
    if let Some(note) = note {
        if note.next_offset > high {
            tracing::warn!(
                topic = config.topic,
                partition,
                noted = note.next_offset,
                end = high,
                "topic ends before what was acknowledged: truncated or made anew; reading it whole"
            );
        } else if let Some(found) = scan.tail(note, names)? {
            return Ok(found);
        } else {
            tracing::warn!(
                topic = config.topic,
                partition,
                "topic is not the one that was noted; reading it whole"
            );
        }
    }
    scan.whole()
}

/// First offset of a partition and the offset after its last record. Blocks.
pub(crate) fn watermarks(
    consumer: &BaseConsumer<Link>,
    topic: &str,
    partition: i32,
    stop: &CancellationToken,
) -> Result<(i64, i64), FeedError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        match consumer.fetch_watermarks(topic, partition, REQUEST_SLICE) {
            Ok(watermarks) => return Ok(watermarks),
            Err(error) if stop.is_cancelled() || Instant::now() > deadline => {
                return Err(error.into());
            }
            // Not at once: some errors come without delay.
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Hands the place of every record that a partition holds now to `each`. Blocks.
pub(crate) fn read_partition(
    config: &FeedConfig,
    partition: i32,
    stop: &CancellationToken,
    mut each: impl FnMut(record::Place<'_>),
) -> Result<(), FeedError> {
    let consumer = groupless(config, "reading the topic: Kafka")?;
    let (low, high) = watermarks(&consumer, &config.topic, partition, stop)?;
    let scan = Scan { config, partition, consumer: &consumer, low, high, stop };
    scan.read(low, |_offset, place| {
        each(place);
        Ok(true)
    })
}

/// Hands what stands at each offset of a partition from `low` to `high` to `each`, until it says
/// `false`: the place of a record, or why it is none of ours. Blocks.
pub(crate) fn read_range(
    config: &FeedConfig,
    partition: i32,
    (low, high): (i64, i64),
    stop: &CancellationToken,
    each: impl FnMut(i64, Result<record::Place<'_>, RecordError>) -> Result<bool, FeedError>,
) -> Result<(), FeedError> {
    let consumer = groupless(config, "reading the topic: Kafka")?;
    let scan = Scan { config, partition, consumer: &consumer, low, high, stop };
    scan.read_all(low, each)
}

struct Scan<'a> {
    config: &'a FeedConfig,
    partition: i32,
    consumer: &'a BaseConsumer<Link>,
    /// First offset.
    low: i64,
    /// Offset after the last record.
    high: i64,
    stop: &'a CancellationToken,
}

impl Scan<'_> {
    /// From the noted offset on; `None` if what stands there doesn't fit the note.
    fn tail(&self, note: &Note, names: &HashMap<i32, String>) -> Result<Option<Found>, FeedError> {
        let noted: HashMap<&str, i64> = (note.positions.iter())
            .filter_map(|(tenant, position)| Some((names.get(tenant)?.as_str(), *position)))
            .collect();
        let last = note.next_offset - 1;
        let last_tenant = names.get(&note.last.0).map(String::as_str);
        let begins_late = self.low > last;
        let mut found = Found::default();
        let mut fits = true;
        self.read(last.max(self.low), |offset, place| {
            let noted = noted.get(place.tenant).copied().unwrap_or(0);
            if offset == last {
                fits &= last_tenant == Some(place.tenant) && note.last.1 == place.position;
            }
            fits &= found.include(noted, begins_late, &place);
            Ok(fits)
        })?;
        Ok(fits.then_some(found))
    }

    /// From the first record on.
    fn whole(&self) -> Result<Found, FeedError> {
        let mut found = Found { whole: true, ..Found::default() };
        // Where retention has removed records, a tenant may begin anywhere.
        let begins_late = self.low > 0;
        self.read(self.low, |_, place| {
            let after = found.tenants.get(place.tenant).map_or(0, |reached| reached.position);
            if found.include(0, begins_late, &place) {
                return Ok(true);
            }
            Err(FeedError::TopicGap {
                topic: self.config.topic.clone(),
                partition: self.partition,
                tenant: place.tenant.to_owned(),
                after,
                found: place.position,
            })
        })?;
        Ok(found)
    }

    /// Hands every record from `from` to the end to `each`, until it says `false`; one that is none
    /// of ours is an error.
    fn read(
        &self,
        from: i64,
        mut each: impl FnMut(i64, record::Place<'_>) -> Result<bool, FeedError>,
    ) -> Result<(), FeedError> {
        self.read_all(from, |offset, place| {
            let foreign = |reason| FeedError::Foreign {
                topic: self.config.topic.clone(),
                partition: self.partition,
                offset,
                reason,
            };
            each(offset, place.map_err(foreign)?)
        })
    }

    /// The same, where a record that is none of ours is for `each` to judge.
    fn read_all(
        &self,
        from: i64,
        mut each: impl FnMut(i64, Result<record::Place<'_>, RecordError>) -> Result<bool, FeedError>,
    ) -> Result<(), FeedError> {
        if from >= self.high {
            return Ok(());
        }
        assign(self.consumer, &self.config.topic, [(self.partition, from)])?;
        let mut heard = Instant::now();
        loop {
            if self.stop.is_cancelled() {
                return Err(FeedError::KafkaStalled("interrupted".to_owned()));
            }
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let offset = message.offset();
                    let go_on = record::place_received(&message, |place| each(offset, Ok(place)));
                    let go_on = go_on.unwrap_or_else(|reason| each(offset, Err(reason)))?;
                    if !go_on || offset + 1 >= self.high {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    return Err(FeedError::KafkaStalled(format!(
                        "topic {}, partition {} ends before its announced end {}",
                        self.config.topic, self.partition, self.high
                    )));
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(FeedError::KafkaFatal(code.to_string()));
                }
                Some(Err(_)) | None if heard.elapsed() > STALL_TIMEOUT => {
                    return Err(FeedError::KafkaStalled(format!(
                        "no record of topic {}, partition {} within {} s",
                        self.config.topic,
                        self.partition,
                        STALL_TIMEOUT.as_secs()
                    )));
                }
                Some(Err(_)) | None => {}
            }
        }
    }
}
