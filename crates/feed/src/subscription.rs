//! A place in a consumer group: the events of some partitions, as they come.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    client::Link,
    config::FeedConfig,
    error::FeedError,
    gather::{Batch, Gaps, Gather},
};

/// Longest wait for a record before other things are looked after.
const POLL: Duration = Duration::from_millis(100);
/// Events and bytes that are gathered before they are handed on.
const CHUNK_EVENTS: usize = 1024;
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// Chunks that may wait for the consumer.
const CHUNKS_WAITING: usize = 4;
/// How long a full queue is waited for before the partitions are paused: pausing throws away what
/// has been fetched, and not polling for long would cost the place in the group.
const PAUSE_AFTER: Duration = Duration::from_secs(5);
/// How often commits are sent; they are hints.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

type Chunk = Result<VecDeque<Batch>, FeedError>;

/// What the subscriber tells the thread: offsets to commit, by partition.
type Commits = Arc<Mutex<HashMap<i32, i64>>>;

/// Reads the topic as a member of a consumer group.
///
/// Starts where the group has committed, or at the beginning. Commits are hints: what was read
/// since the last one comes again after a restart or when partitions move, so whoever folds events
/// keeps a checkpoint of its own. A repeat is dropped if it is known to be the very event that was
/// given out; one that is another event ends the subscription with [`FeedError::Contradicted`]; of
/// one too long ago to tell, or of another incarnation, the consumer decides. Dropping the
/// subscription leaves the group without waiting for that.
#[derive(Debug)]
pub struct Subscription {
    chunks: mpsc::Receiver<Chunk>,
    waiting: VecDeque<Batch>,
    commits: Commits,
    ended: oneshot::Receiver<()>,
    stop: CancellationToken,
}

impl Subscription {
    /// Joins `group`; `tenants` maps names to numbers. Does not wait for Kafka.
    ///
    /// A tenant that is not in the list ends the subscription with [`FeedError::UnknownTenant`]:
    /// open a new one with a newer list.
    pub fn open(
        config: &FeedConfig,
        group: &str,
        tenants: HashMap<String, i32>,
    ) -> Result<Self, FeedError> {
        let what = format!("subscription of group {group}: Kafka");
        let consumer: BaseConsumer<Link> =
            config.member(group).create_with_context(Link::new(what))?;
        consumer.subscribe(&[&config.topic])?;
        let (chunk_sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let (end_sender, ended) = oneshot::channel();
        let commits = Commits::default();
        let stop = CancellationToken::new();
        let member = Member {
            consumer,
            topic: config.topic.clone(),
            gather: Gather::new(&config.topic, tenants, Gaps::Pass),
            chunks: chunk_sender,
            commits: Arc::clone(&commits),
            committed: Instant::now(),
            stop: stop.clone(),
        };
        std::thread::Builder::new()
            .name("feed-subscription".to_owned())
            .spawn(move || {
                member.run();
                end_sender.send(()).ok();
            })
            .map_err(|error| FeedError::KafkaFatal(format!("no thread to be had: {error}")))?;
        Ok(Self { chunks, waiting: VecDeque::new(), commits, ended, stop })
    }

    /// The next events: what is there, at once, up to `max_events` of one partition and about two
    /// megabytes; or `None` if there is nothing within `max_wait`.
    ///
    /// After an error the subscription has ended. Cancelling this loses nothing.
    pub async fn next_batch(
        &mut self,
        max_events: usize,
        max_wait: Duration,
    ) -> Result<Option<Batch>, FeedError> {
        if self.waiting.is_empty() {
            match tokio::time::timeout(max_wait, self.chunks.recv()).await {
                Ok(Some(chunk)) => self.waiting = chunk?,
                Ok(None) => return Err(FeedError::Ended("the subscription")),
                Err(_elapsed) => return Ok(None),
            }
        }
        let Some(mut batch) = self.waiting.pop_front() else { return Ok(None) };
        while batch.events.len() < max_events {
            if self.waiting.is_empty() {
                // An error waits until what came before it has been handed out.
                match self.chunks.try_recv() {
                    Ok(Ok(chunk)) => self.waiting = chunk,
                    Ok(Err(error)) => {
                        self.fail_next(error);
                        break;
                    }
                    Err(_) => break,
                }
            }
            match self.waiting.front() {
                Some(next)
                    if batch.continues_in(next) && batch.bytes() + next.bytes() <= CHUNK_BYTES =>
                {
                    batch.append(self.waiting.pop_front().expect("just seen"));
                }
                _ => break,
            }
        }
        if batch.events.len() > max_events {
            self.waiting.push_front(batch.split_off(max_events));
        }
        Ok(Some(batch))
    }

    /// Has the next call answer with `error`.
    fn fail_next(&mut self, error: FeedError) {
        let (sender, chunks) = mpsc::channel(1);
        // There is room for one.
        sender.try_send(Err(error)).ok();
        self.chunks = chunks;
    }

    /// Tells the group, soon, that everything up to the end of `batch` need not come again.
    pub fn commit(&self, batch: &Batch) {
        if batch.events.is_empty() {
            return;
        }
        let mut commits = self.commits.lock().expect("no code panics while holding it");
        commits.insert(batch.partition, batch.next_offset());
    }

    /// Leaves the group after a last commit, and waits for it.
    pub async fn close(mut self) {
        self.stop.cancel();
        self.chunks.close();
        (&mut self.ended).await.ok();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The thread's side: polls the consumer, which blocks.
struct Member {
    consumer: BaseConsumer<Link>,
    topic: String,
    gather: Gather,
    chunks: mpsc::Sender<Chunk>,
    commits: Commits,
    committed: Instant,
    stop: CancellationToken,
}

impl Member {
    fn run(mut self) {
        while !self.stop.is_cancelled() {
            let gathered = self.gather();
            let batches = self.gather.take();
            if !batches.is_empty() && !self.hand_on(Ok(batches)) {
                break;
            }
            if let Err(error) = gathered {
                self.hand_on(Err(error));
                break;
            }
            if self.committed.elapsed() >= COMMIT_EVERY {
                self.commit(CommitMode::Async);
            }
        }
        self.commit(CommitMode::Sync);
        // Dropping the consumer leaves the group, here, where it may block.
    }

    /// Gathers what is there, waiting for a first record only.
    fn gather(&mut self) -> Result<(), FeedError> {
        let mut wait = POLL;
        while self.gather.events() < CHUNK_EVENTS && self.gather.bytes() < CHUNK_BYTES {
            let polled = self.consumer.poll(wait);
            for partition in self.consumer.context().take_revoked() {
                self.gather.forget(partition);
            }
            match polled {
                None => break,
                Some(Ok(record)) => {
                    self.consumer.context().trouble.over();
                    self.gather.add(&record)?;
                    wait = Duration::ZERO;
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    let reason =
                        self.consumer.client().fatal_error().map_or_else(String::new, |(_, r)| r);
                    return Err(FeedError::KafkaFatal(format!("{code}: {reason}")));
                }
                // librdkafka goes on trying; the context has reported it.
                Some(Err(_)) => {}
            }
        }
        Ok(())
    }

    /// Hands a chunk to the subscriber; `false`: there is none any more.
    fn hand_on(&mut self, chunk: Chunk) -> bool {
        let mut chunk = chunk;
        let since = Instant::now();
        let mut paused = None;
        loop {
            match self.chunks.try_send(chunk) {
                Ok(()) => break,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(back)) => chunk = back,
            }
            if self.stop.is_cancelled() {
                return false;
            }
            if since.elapsed() < PAUSE_AFTER {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.keep_place(&mut paused);
        }
        if let Some(paused) = paused
            && let Err(error) = self.consumer.resume(&paused)
        {
            tracing::warn!(%error, "partitions can't be resumed");
        }
        true
    }

    /// Polls, so as to stay in the group, with every partition paused.
    fn keep_place(&mut self, paused: &mut Option<TopicPartitionList>) {
        // Each time anew: partitions may have come meanwhile.
        match self.consumer.assignment() {
            Ok(assignment) if assignment.count() > 0 => {
                if let Err(error) = self.consumer.pause(&assignment) {
                    tracing::debug!(%error, "partitions can't be paused");
                }
                *paused = Some(assignment);
            }
            Ok(_) | Err(_) => {}
        }
        let record = self.consumer.poll(POLL);
        for partition in self.consumer.context().take_revoked() {
            self.gather.forget(partition);
        }
        if let Some(Ok(record)) = record {
            // It had been fetched before the pause: have it come again.
            let offset = Offset::Offset(record.offset());
            let sought =
                self.consumer.seek(&self.topic, record.partition(), offset, Duration::from_secs(1));
            if let Err(error) = sought {
                tracing::debug!(%error, "a record that came while paused is left to the consumer");
            }
        }
        if self.committed.elapsed() >= COMMIT_EVERY {
            self.commit(CommitMode::Async);
        }
    }

    fn commit(&mut self, mode: CommitMode) {
        self.committed = Instant::now();
        let offsets =
            std::mem::take(&mut *self.commits.lock().expect("no code panics while holding it"));
        if offsets.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(offset));
            debug_assert!(added.is_ok(), "an offset is positive");
        }
        if let Err(error) = self.consumer.commit(&list, mode) {
            tracing::debug!(%error, "offsets not committed: events will come again");
        }
    }
}
