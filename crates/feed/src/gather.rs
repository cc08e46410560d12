//! Records gathered to batches, each of one partition and one incarnation.

use std::collections::{HashMap, VecDeque};

use daybook_journal::StoredEvent;
use rdkafka::{Message, message::BorrowedMessage};
use uuid::Uuid;

use crate::{error::FeedError, record};

/// Events of one partition in the topic's order, so ascending by position within each tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The partition.
    pub partition: i32,
    /// The journal's history that these events were published from.
    pub incarnation: Uuid,
    /// The events, without repeats of what the same reader gave out before.
    pub events: Vec<StoredEvent>,
    /// Where each event stands in the partition.
    pub(crate) offsets: Vec<i64>,
}

impl Batch {
    /// Offset after the last event; 0 for an empty batch.
    pub fn next_offset(&self) -> i64 {
        self.offsets.last().map_or(0, |offset| offset + 1)
    }

    /// Splits off everything after the first `count` events.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        Self {
            partition: self.partition,
            incarnation: self.incarnation,
            events: self.events.split_off(count),
            offsets: self.offsets.split_off(count),
        }
    }

    /// Whether `next` goes on where this batch ends.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        self.partition == next.partition && self.incarnation == next.incarnation
    }

    /// Adds the events of a batch that continues this one.
    pub(crate) fn append(&mut self, next: Self) {
        self.events.extend(next.events);
        self.offsets.extend(next.offsets);
    }
}

/// What a reader does with positions that don't simply go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// Hands them on: the consumer fetches what is missing from the journal.
    Pass,
    /// Ends with an error: there is nowhere to fetch it from.
    Refuse,
}

/// Turns records into batches and drops repeats.
#[derive(Debug)]
pub(crate) struct Gather {
    topic: String,
    tenants: HashMap<String, i32>,
    gaps: Gaps,
    /// Last position that is wanted, by tenant, if not all are; other tenants are passed over.
    wanted: Option<HashMap<i32, i64>>,
    /// Last position given out, by partition and tenant.
    given: HashMap<(i32, i32), (Uuid, i64)>,
    batches: VecDeque<Batch>,
    events: usize,
    bytes: usize,
}

impl Gather {
    /// For records of `topic`; `tenants` maps names to numbers.
    pub(crate) fn new(topic: &str, tenants: HashMap<String, i32>, gaps: Gaps) -> Self {
        Self {
            topic: topic.to_owned(),
            tenants,
            gaps,
            wanted: None,
            given: HashMap::new(),
            batches: VecDeque::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Passes over unknown tenants and positions beyond these.
    pub(crate) fn only_wanted(&mut self, until: HashMap<i32, i64>) {
        self.wanted = Some(until);
    }

    /// Events gathered since the last [`Gather::take`].
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// Bytes of data and meta gathered since the last [`Gather::take`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has been gathered.
    pub(crate) fn take(&mut self) -> VecDeque<Batch> {
        (self.events, self.bytes) = (0, 0);
        std::mem::take(&mut self.batches)
    }

    /// The partition goes to somebody else, or begins anew.
    pub(crate) fn forget(&mut self, partition: i32) {
        self.given.retain(|(of, _), _| *of != partition);
    }

    /// Last position of a tenant given out, 0 before the first.
    pub(crate) fn given(&self, partition: i32, tenant: i32) -> i64 {
        self.given.get(&(partition, tenant)).map_or(0, |(_, position)| *position)
    }

    /// Adds a record.
    pub(crate) fn add(&mut self, record: &BorrowedMessage<'_>) -> Result<(), FeedError> {
        let (partition, offset) = (record.partition(), record.offset());
        // The tenant is looked up inside: an event's parts borrow from the record.
        let decoded = record::decode_received(record, |event| {
            let Some(tenant) = self.tenants.get(event.tenant) else {
                if self.wanted.is_some() {
                    return Ok(None);
                }
                return Err(FeedError::UnknownTenant {
                    topic: self.topic.clone(),
                    partition,
                    offset,
                    tenant: event.tenant.to_owned(),
                });
            };
            let beyond = self.wanted.as_ref().and_then(|wanted| wanted.get(tenant));
            if beyond.is_some_and(|until| event.position > *until) {
                return Ok(None);
            }
            Self::accept(&self.given, &self.topic, self.gaps, (partition, *tenant), &event)
                .map(|fresh| fresh.then(|| (event.incarnation, event.to_stored(*tenant))))
        });
        let fresh = decoded.map_err(|reason| FeedError::Foreign {
            topic: self.topic.clone(),
            partition,
            offset,
            reason,
        })??;
        if let Some((incarnation, event)) = fresh {
            self.given.insert((partition, event.tenant), (incarnation, event.position));
            self.push(partition, incarnation, offset, event);
        }
        Ok(())
    }

    /// Whether an event is new to this reader.
    fn accept(
        given: &HashMap<(i32, i32), (Uuid, i64)>,
        topic: &str,
        gaps: Gaps,
        key: (i32, i32),
        event: &record::FeedEvent<'_>,
    ) -> Result<bool, FeedError> {
        let (incarnation, last) = given.get(&key).copied().unwrap_or((event.incarnation, 0));
        // A repeat under another incarnation may be another event: not for us to drop, unless
        // there is nobody to ask.
        if event.position <= last && (incarnation == event.incarnation || gaps == Gaps::Refuse) {
            return Ok(false);
        }
        if gaps == Gaps::Refuse && event.position != last + 1 {
            return Err(FeedError::TopicGap {
                topic: topic.to_owned(),
                partition: key.0,
                tenant: event.tenant.to_owned(),
                after: last,
                found: event.position,
            });
        }
        Ok(true)
    }

    fn push(&mut self, partition: i32, incarnation: Uuid, offset: i64, event: StoredEvent) {
        self.events += 1;
        self.bytes += event.data.len() + event.meta.len();
        match self.batches.back_mut() {
            Some(last) if last.partition == partition && last.incarnation == incarnation => {
                last.events.push(event);
                last.offsets.push(offset);
            }
            _ => self.batches.push_back(Batch {
                partition,
                incarnation,
                events: vec![event],
                offsets: vec![offset],
            }),
        }
    }
}
