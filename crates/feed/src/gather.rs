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
    /// The events, without those that the same reader is known to have given out before.
    pub events: Vec<StoredEvent>,
    /// Whether it begins with a repeat, and so must not be appended to what came before it.
    apart: bool,
    /// Where each event stands in the partition.
    pub(crate) offsets: Vec<i64>,
}

impl Batch {
    /// Offset after the last event; 0 for an empty batch.
    pub fn next_offset(&self) -> i64 {
        self.offsets.last().map_or(0, |offset| offset + 1)
    }

    /// Bytes of data and meta.
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.data.len() + event.meta.len()).sum()
    }

    /// Splits off everything after the first `count` events.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        Self {
            partition: self.partition,
            incarnation: self.incarnation,
            apart: false,
            events: self.events.split_off(count),
            offsets: self.offsets.split_off(count),
        }
    }

    /// Whether `next` goes on where this batch ends.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        !next.apart && self.partition == next.partition && self.incarnation == next.incarnation
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

/// What an event is to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Novelty {
    /// It goes on from what was given out.
    New,
    /// The very event has been given out.
    Known,
    /// Something was given out for its position; whether it was this event can't be told here.
    Doubtful,
}

/// What a reader has given out of a tenant.
#[derive(Debug)]
struct Given {
    incarnation: Uuid,
    /// Highest position.
    position: i64,
    /// Marks of the latest events, up to that position without a gap.
    marks: VecDeque<u64>,
}

/// Events of each tenant that are remembered, to tell a repeat from another event.
const REMEMBERED: usize = 8192;

impl Given {
    /// Enough of a mac to tell events apart.
    fn mark(mac: &[u8]) -> u64 {
        mac.iter().skip(1).take(8).fold(0, |mark, byte| (mark << 8) | u64::from(*byte))
    }

    /// The mark of the event given out for a position up to the highest one, if it is remembered.
    fn remembered(&self, position: i64) -> Option<u64> {
        let back = usize::try_from(self.position - position).ok()?;
        self.marks.len().checked_sub(back + 1).map(|at| self.marks[at])
    }

    /// Takes the next event given out into account.
    fn include(&mut self, incarnation: Uuid, position: i64, mark: u64) {
        if position != self.position + 1 {
            self.marks.clear();
        }
        if self.marks.len() == REMEMBERED {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
        (self.incarnation, self.position) = (incarnation, position);
    }
}

/// Turns records into batches and drops repeats.
#[derive(Debug)]
pub(crate) struct Gather {
    topic: String,
    tenants: HashMap<String, i32>,
    gaps: Gaps,
    /// Last position that is wanted, by tenant, if not all are; other tenants are passed over.
    wanted: Option<HashMap<i32, i64>>,
    /// What was given out, by partition and tenant.
    given: HashMap<(i32, i32), Given>,
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
        self.given.get(&(partition, tenant)).map_or(0, |given| given.position)
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
            let novelty = self.novelty(partition, offset, *tenant, &event)?;
            Ok((novelty != Novelty::Known)
                .then(|| (event.incarnation, novelty, event.to_stored(*tenant))))
        });
        let fresh = decoded.map_err(|reason| FeedError::Foreign {
            topic: self.topic.clone(),
            partition,
            offset,
            reason,
        })??;
        if let Some((incarnation, novelty, event)) = fresh {
            if novelty == Novelty::New {
                let given = self.given.entry((partition, event.tenant)).or_insert(Given {
                    incarnation,
                    position: 0,
                    marks: VecDeque::new(),
                });
                given.include(incarnation, event.position, Given::mark(&event.mac));
            }
            self.push(partition, incarnation, offset, novelty, event);
        }
        Ok(())
    }

    /// Whether an event is new to this reader.
    fn novelty(
        &self,
        partition: i32,
        offset: i64,
        tenant: i32,
        event: &record::FeedEvent<'_>,
    ) -> Result<Novelty, FeedError> {
        let given = self.given.get(&(partition, tenant));
        let last = given.map_or(0, |given| given.position);
        if let Some(given) = given.filter(|given| event.position <= given.position) {
            let remembered = given.remembered(event.position);
            if remembered.is_some_and(|mark| mark != Given::mark(event.mac)) {
                return Err(FeedError::Contradicted {
                    topic: self.topic.clone(),
                    partition,
                    offset,
                    tenant: event.tenant.to_owned(),
                    position: event.position,
                });
            }
            // Not for us to drop what may be another event, unless there is nobody to ask.
            let same = remembered.is_some() && given.incarnation == event.incarnation;
            return Ok(if same || self.gaps == Gaps::Refuse {
                Novelty::Known
            } else {
                Novelty::Doubtful
            });
        }
        if self.gaps == Gaps::Refuse && event.position != last + 1 {
            return Err(FeedError::TopicGap {
                topic: self.topic.clone(),
                partition,
                tenant: event.tenant.to_owned(),
                after: last,
                found: event.position,
            });
        }
        Ok(Novelty::New)
    }

    fn push(
        &mut self,
        partition: i32,
        incarnation: Uuid,
        offset: i64,
        novelty: Novelty,
        event: StoredEvent,
    ) {
        self.events += 1;
        self.bytes += event.data.len() + event.meta.len();
        // Batches ascend, and repeats begin below what came before them.
        let before = match self.batches.back() {
            Some(last) if novelty == Novelty::Doubtful => {
                last.events.iter().rev().find(|before| before.tenant == event.tenant)
            }
            _ => None,
        };
        let in_order = before.is_none_or(|before| before.position < event.position);
        let apart = novelty == Novelty::Doubtful && (before.is_none() || !in_order);
        match self.batches.back_mut() {
            Some(last)
                if !apart && last.partition == partition && last.incarnation == incarnation =>
            {
                last.events.push(event);
                last.offsets.push(offset);
            }
            _ => self.batches.push_back(Batch {
                partition,
                incarnation,
                apart,
                events: vec![event],
                offsets: vec![offset],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(first: u8) -> Vec<u8> {
        let mut mac = vec![7; 33];
        (mac[0], mac[1]) = (1, first);
        mac
    }

    #[test]
    fn the_latest_events_are_remembered_and_no_more_than_so_many() {
        let mut given = Given { incarnation: Uuid::nil(), position: 0, marks: VecDeque::default() };
        let last = i64::try_from(REMEMBERED).unwrap() + 10;
        for position in 1..=last {
            let first = u8::try_from(position % 251).unwrap();
            given.include(Uuid::nil(), position, Given::mark(&mac(first)));
        }
        assert_eq!(given.marks.len(), REMEMBERED);
        assert_eq!(given.remembered(10), None);
        assert_eq!(given.remembered(11), Some(Given::mark(&mac(11))));
        let of_last = mac(u8::try_from(last % 251).unwrap());
        assert_eq!(given.remembered(last), Some(Given::mark(&of_last)));
        assert_eq!(given.remembered(last + 1), None);
        // What lies before a gap is not told from what lies after it.
        given.include(Uuid::nil(), last + 5, 1);
        assert_eq!((given.remembered(last), given.remembered(last + 5)), (None, Some(1)));
    }

    #[test]
    fn the_number_of_the_key_is_no_part_of_a_mark() {
        let mut other_key = mac(3);
        other_key[0] = 2;
        assert_eq!(Given::mark(&mac(3)), Given::mark(&other_key));
        assert_ne!(Given::mark(&mac(3)), Given::mark(&mac(4)));
    }
}
