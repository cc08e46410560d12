//! The worker role: one subscription to Kafka, one task per version of a projection.

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
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    definition::short,
    notify::Moved,
    versions::{Version, VersionState},
    watch::watch_versions,
    worker::{Delivery, KnownHeads, Standing, Worker},
};

/// Most events that are taken from the subscription at once.
const BATCH_EVENTS: usize = 4_000;
/// Deliveries that may wait for one version.
const QUEUE: usize = 8;
/// How long the full queue of one that answers queries may hold up the others, once, until it has
/// room again.
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

/// Keeps the rows of every version of every projection up to date, and makes versions that have
/// caught up the ones that answer. Which there are it reads from the database, again and again.
#[derive(Debug, Clone)]
pub struct Projector {
    config: Config,
    reader: Reader,
    settings: ProjectorSettings,
}

impl Projector {
    /// A projector whose connections are made with `config` (one per version and two more); it
    /// reads what Kafka did not bring through `reader`.
    pub fn new(config: Config, reader: Reader, settings: ProjectorSettings) -> Self {
        Self { config, reader, settings }
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
                () = fan.changed_or_failed() => if fan.has_failed { break },
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
                () = fan.changed_or_failed() => if fan.has_failed { break },
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

/// The tasks of all versions and the queues to them.
struct Fan {
    projector: Projector,
    versions: watch::Receiver<Vec<Version>>,
    queues: Vec<Queue>,
    heads: KnownHeads,
    moved: Moved,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Versions were read once; those that come later are new.
    began: bool,
    has_failed: bool,
}

struct Queue {
    projection: String,
    version: String,
    standing: watch::Sender<Standing>,
    sender: mpsc::Sender<Delivery>,
    /// Tells the worker that it was not given everything.
    missed: Arc<AtomicBool>,
    /// It was full for too long: nobody waits for it until it has room again.
    lagging: bool,
    stop: CancellationToken,
}

impl Fan {
    fn start(projector: &Projector, stop: &CancellationToken) -> Self {
        let (heads, moved) = (KnownHeads::default(), Moved::default());
        let mut tasks = JoinSet::new();
        let (sender, versions) = watch::channel(Vec::new());
        tasks.spawn(watch_versions(projector.config.clone(), sender, stop.clone()));
        tasks.spawn(moved.clone().run(projector.config.clone(), stop.clone()));
        tasks.spawn(watch_heads(projector.reader.clone(), heads.clone(), stop.clone()));
        Self {
            projector: projector.clone(),
            versions,
            queues: Vec::new(),
            heads,
            moved,
            tasks,
            stop: stop.clone(),
            began: false,
            has_failed: false,
        }
    }

    /// Completes when the versions that there are have changed, and follows them; or when a task
    /// has ended that should not have.
    async fn changed_or_failed(&mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.versions.changed() => {
                    let versions = self.versions.borrow_and_update().clone();
                    self.follow(versions);
                    return;
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    // of a version that is no more
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(%error, "a projection's task ended");
                        self.has_failed = true;
                        return;
                    }
                },
                // everything has been stopped
                else => std::future::pending().await,
            }
        }
    }

    /// Starts workers of new versions, ends those of dropped ones, and tells the others where they
    /// stand.
    fn follow(&mut self, versions: Vec<Version>) {
        self.queues.retain(|queue| {
            let there = versions.iter().any(|v| queue.is_of(v));
            if !there {
                tracing::info!(queue.projection, version = short(&queue.version), "dropped");
                queue.stop.cancel();
            }
            there
        });
        for version in versions {
            let standing = Standing { state: version.state, automatic: version.automatic };
            if let Some(queue) = self.queues.iter().find(|queue| queue.is_of(&version)) {
                queue.standing.send_replace(standing);
            } else {
                self.work_on(version, standing);
            }
        }
        self.began = true;
    }

    fn work_on(&mut self, version: Version, standing: Standing) {
        let definition = version.definition;
        let (sender, deliveries) = mpsc::channel(QUEUE);
        let (standing_sender, standing_receiver) = watch::channel(standing);
        // What came before it was there was not delivered to it.
        let news = self.began || standing.state == VersionState::Building;
        let missed = Arc::new(AtomicBool::new(news));
        let stop = self.stop.child_token();
        self.queues.push(Queue {
            projection: definition.name.clone(),
            version: definition.version.clone(),
            standing: standing_sender,
            sender,
            missed: Arc::clone(&missed),
            lagging: false,
            stop: stop.clone(),
        });
        let worker = Worker {
            definition,
            standing: standing_receiver,
            config: self.projector.config.clone(),
            reader: self.projector.reader.clone(),
            deliveries,
            missed,
            heads: self.heads.clone(),
            moved: self.moved.clone(),
            heal_after: self.projector.settings.heal_after,
            retry_after: self.projector.settings.retry_after,
            tenants: HashMap::new(),
            shown: false,
        };
        self.tasks.spawn(worker.run(stop));
    }

    /// Hands events to every version. One whose queue stays full misses them, and reads them
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

    async fn end(mut self) {
        drop(self.queues);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Queue {
    fn is_of(&self, version: &Version) -> bool {
        self.projection == version.definition.name && self.version == version.definition.version
    }

    async fn deliver(&mut self, delivery: Delivery) {
        let full = match self.sender.try_send(delivery) {
            Ok(()) => {
                self.lagging = false;
                return;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
            Err(mpsc::error::TrySendError::Full(delivery)) => delivery,
        };
        // nobody waits for what answers no queries
        let answers = self.standing.borrow().state == VersionState::Active;
        if self.lagging || !answers {
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
