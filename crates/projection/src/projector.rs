//! The worker role: one subscription to Kafka, one task per projection.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use daybook_feed::{FeedConfig, FeedError, Subscription};
use daybook_journal::{Reader, StoredEvent};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    catalogue::Catalogue,
    notify::Moved,
    worker::{Delivery, KnownHeads, Worker},
};

/// Most events that are taken from the subscription at once.
const BATCH_EVENTS: usize = 4_000;
/// Deliveries that may wait for one projection.
const QUEUE: usize = 8;
/// How long one projection's full queue may hold up the others, once, until it has room again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait for a batch.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How often the journal's heads are looked at, in case nothing comes from Kafka.
const HEADS_EVERY: Duration = Duration::from_secs(1);
/// Wait before a failed subscription is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// When a projector helps itself.
#[derive(Debug, Clone)]
pub struct ProjectorSettings {
    /// Consumer group; processes of one group share the partitions.
    pub group: String,
    /// Silence from Kafka after which events that the journal has are read from there.
    pub heal_after: Duration,
    /// How long a projection that was stopped by an event waits before it tries again.
    pub retry_after: Duration,
}

impl Default for ProjectorSettings {
    fn default() -> Self {
        Self {
            group: "daybook.projector".to_owned(),
            heal_after: Duration::from_secs(2),
            retry_after: Duration::from_secs(30),
        }
    }
}

/// Keeps the rows of every projection up to date.
#[derive(Debug, Clone)]
pub struct Projector {
    config: Config,
    reader: Reader,
    catalogue: Arc<Catalogue>,
    settings: ProjectorSettings,
}

impl Projector {
    /// A projector whose connections are made with `config` (one per projection and one more); it
    /// reads what Kafka did not bring through `reader`.
    pub fn new(
        config: Config,
        reader: Reader,
        catalogue: Arc<Catalogue>,
        settings: ProjectorSettings,
    ) -> Self {
        Self { config, reader, catalogue, settings }
    }

    /// Follows the topic until shutdown. Trouble with Kafka or PostgreSQL is logged and waited
    /// for; while Kafka is away, the journal is followed instead. Ends early only if a projection
    /// panics.
    pub async fn run(self, feed: FeedConfig, shutdown: CancellationToken) {
        let stop = shutdown.child_token();
        let mut fan = Fan::start(&self, &stop);
        let mut subscription: Option<Subscription> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = fan.failed() => break,
                read = self.read(&feed, &mut subscription) => match read {
                    Ok(Some(batch)) => {
                        let hint = subscription.as_ref().map(|s| s.commit(&batch));
                        debug_assert!(hint.is_some(), "a batch comes from a subscription");
                        fan.deliver(batch.incarnation, batch.events).await;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "subscription failed, opening it again");
                        subscription = None;
                        tokio::select! {
                            () = shutdown.cancelled() => break,
                            () = tokio::time::sleep(REOPEN) => {}
                        }
                    }
                },
            }
        }
        stop.cancel();
        if let Some(subscription) = subscription {
            subscription.close().await;
        }
        fan.end().await;
    }

    /// Follows batches that somebody else reads, each of one incarnation and ascending by
    /// position within a tenant, until shutdown or until nobody can send any more.
    pub async fn run_on(
        self,
        mut batches: mpsc::Receiver<(Uuid, Vec<StoredEvent>)>,
        shutdown: CancellationToken,
    ) {
        let stop = shutdown.child_token();
        let mut fan = Fan::start(&self, &stop);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = fan.failed() => break,
                batch = batches.recv() => match batch {
                    Some((incarnation, events)) => fan.deliver(incarnation, events).await,
                    None => break,
                },
            }
        }
        stop.cancel();
        fan.end().await;
    }

    async fn read(
        &self,
        feed: &FeedConfig,
        subscription: &mut Option<Subscription>,
    ) -> Result<Option<daybook_feed::Batch>, FeedError> {
        if subscription.is_none() {
            let tenants = self.reader.tenants().await?;
            let tenants = tenants.into_iter().map(|tenant| (tenant.name, tenant.id)).collect();
            *subscription = Some(Subscription::open(feed, &self.settings.group, tenants)?);
        }
        let subscription = subscription.as_mut().expect("just opened");
        subscription.next_batch(BATCH_EVENTS, MAX_WAIT).await
    }
}

/// The tasks of all projections and the queues to them.
struct Fan {
    queues: Vec<Queue>,
    heads: KnownHeads,
    tasks: JoinSet<()>,
}

struct Queue {
    projection: String,
    sender: mpsc::Sender<Delivery>,
    /// Tells the projection that it was not given everything.
    missed: Arc<AtomicBool>,
    /// It was full for too long: nobody waits for it until it has room again.
    lagging: bool,
}

impl Fan {
    fn start(projector: &Projector, stop: &CancellationToken) -> Self {
        let (heads, moved) = (KnownHeads::default(), Moved::default());
        let mut tasks = JoinSet::new();
        let mut queues = Vec::new();
        for definition in projector.catalogue.projections() {
            let (sender, deliveries) = mpsc::channel(QUEUE);
            let missed = Arc::new(AtomicBool::new(false));
            let worker = Worker {
                definition: definition.clone(),
                config: projector.config.clone(),
                reader: projector.reader.clone(),
                deliveries,
                missed: Arc::clone(&missed),
                heads: heads.clone(),
                moved: moved.clone(),
                heal_after: projector.settings.heal_after,
                retry_after: projector.settings.retry_after,
                tenants: HashMap::new(),
            };
            tasks.spawn(worker.run(stop.clone()));
            let projection = definition.name.clone();
            queues.push(Queue { projection, sender, missed, lagging: false });
        }
        tasks.spawn(moved.run(projector.config.clone(), stop.clone()));
        tasks.spawn(watch_heads(projector.reader.clone(), heads.clone(), stop.clone()));
        Self { queues, heads, tasks }
    }

    /// Hands events to every projection. One whose queue stays full misses them, and reads them
    /// from the journal when it gets there.
    async fn deliver(&mut self, incarnation: Uuid, events: Vec<StoredEvent>) {
        for (tenant, events) in by_tenant(events) {
            if let Some(last) = events.last() {
                self.heads.note(tenant, last.position);
            }
            let delivery = Delivery { tenant, incarnation, events: Arc::new(events) };
            for queue in &mut self.queues {
                queue.deliver(delivery.clone()).await;
            }
        }
    }

    /// Completes when a task has ended that should not have.
    async fn failed(&mut self) {
        if let Some(ended) = self.tasks.join_next().await {
            tracing::error!(?ended, "a projection's task ended");
        }
    }

    async fn end(mut self) {
        drop(self.queues);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Queue {
    async fn deliver(&mut self, delivery: Delivery) {
        let full = match self.sender.try_send(delivery) {
            Ok(()) => {
                self.lagging = false;
                return;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(delivery)) => delivery,
        };
        if self.lagging {
            self.missed.store(true, Ordering::Relaxed);
            return;
        }
        if self.sender.send_timeout(full, PATIENCE).await.is_err() {
            self.lagging = true;
            self.missed.store(true, Ordering::Relaxed);
            tracing::info!(projection = self.projection, "lagging: it will read from the journal");
        }
    }
}

/// Cuts a batch by tenant, keeping the order within each.
fn by_tenant(events: Vec<StoredEvent>) -> VecDeque<(i32, Vec<StoredEvent>)> {
    let one = events.first().map(|e| e.tenant);
    if let Some(tenant) = one.filter(|tenant| events.iter().all(|e| e.tenant == *tenant)) {
        return VecDeque::from([(tenant, events)]);
    }
    let mut tenants: VecDeque<(i32, Vec<StoredEvent>)> = VecDeque::new();
    for event in events {
        match tenants.iter_mut().find(|(tenant, _)| *tenant == event.tenant) {
            Some((_, events)) => events.push(event),
            None => tenants.push_back((event.tenant, vec![event])),
        }
    }
    tenants
}

/// Looks at the journal's heads, so that nothing is missed when nothing comes from Kafka.
async fn watch_heads(reader: Reader, heads: KnownHeads, stop: CancellationToken) {
    loop {
        let look = async {
            for tenant in reader.tenants().await? {
                heads.note(tenant.id, reader.head(tenant.id).await?);
            }
            Ok::<_, daybook_journal::JournalError>(())
        };
        tokio::select! {
            () = stop.cancelled() => return,
            looked = look => if let Err(error) = looked {
                tracing::debug!(%error, "the journal's heads can't be read");
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HEADS_EVERY) => {}
        }
    }
}
