//! A database and a topic of a test's own, removed afterwards.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use daybook_feed::{Batch, FeedConfig, FeedError, Relay, Subscription, decode};
use daybook_journal::{EventFilter, Heads, Reader, StoredEvent, Tenant};
use deadpool_postgres::{Manager, Pool};
use futures::FutureExt as _;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers as _, Message, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run ./scripts/test"))
}

/// Database, topic and what reads them.
pub(crate) struct Bed {
    pub(crate) feed: FeedConfig,
    pub(crate) pg: tokio_postgres::Config,
    pub(crate) pool: Pool,
    pub(crate) reader: Reader,
    database: String,
}

/// Runs a test with a bed of its own and removes it, also when the test fails.
pub(crate) async fn with_bed<F, T>(partitions: i32, test: T)
where
    F: Future<Output = ()>,
    T: FnOnce(Arc<Bed>) -> F,
{
    let bed = Arc::new(Bed::make(partitions).await);
    let outcome = AssertUnwindSafe(test(Arc::clone(&bed))).catch_unwind().await;
    bed.delete_topic().await;
    bed.pool.close();
    maintain(&format!("drop database {} with (force)", bed.database)).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn maintain(statement: &str) {
    let (client, connection) =
        tokio_postgres::connect(&service("DAYBOOK_TEST_DATABASE_URL"), NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    driving.abort();
}

impl Bed {
    async fn make(partitions: i32) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let database = format!("feed_test_{id}");
        maintain(&format!("create database {database}")).await;
        let mut pg: tokio_postgres::Config = service("DAYBOOK_TEST_DATABASE_URL").parse().unwrap();
        pg.dbname(&database);
        let (mut client, connection) = pg.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        daybook_journal::migrate(&mut client).await.unwrap();
        daybook_feed::migrate(&mut client).await.unwrap();
        daybook_feed::migrate(&mut client).await.unwrap();
        let pool = Pool::builder(Manager::new(pg.clone(), NoTls)).max_size(8).build().unwrap();
        let feed = FeedConfig {
            brokers: service("DAYBOOK_TEST_KAFKA_BROKERS"),
            topic: format!("feed-test-{id}"),
            partitions,
            ..FeedConfig::default()
        };
        Self { feed, pg, reader: Reader::new(pool.clone()), pool, database }
    }

    /// A tenant, on the next partition round robin.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        self.reader.add_tenant(name, self.feed.partitions).await.unwrap()
    }

    /// Appends events `from` to `until`; `history` tells events at the same position apart.
    pub(crate) async fn append(&self, tenant: &Tenant, from: i64, until: i64, history: i32) {
        let client = self.pool.get().await.unwrap();
        let insert = include_str!("insert_events.sql");
        client.execute(insert, &[&tenant.id, &from, &until, &history]).await.unwrap();
    }

    /// Runs a statement and says how many rows it met.
    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        self.pool.get().await.unwrap().execute(statement, &[]).await.unwrap()
    }

    /// All events of a tenant, as the journal has them.
    pub(crate) async fn journal(&self, tenant: &Tenant) -> Vec<StoredEvent> {
        let all = EventFilter::default();
        self.reader.events(tenant.id, 0, i64::MAX, &all).await.unwrap()
    }

    /// Starts a relay with wake-ups.
    pub(crate) fn relay(&self) -> Running {
        let stop = CancellationToken::new();
        let (heads, task) = Heads::new(self.pg.clone(), self.reader.clone());
        tokio::spawn(task.run(stop.clone()));
        let relay = Relay::new(
            self.feed.clone(),
            self.pool.clone(),
            self.pg.clone(),
            self.reader.clone(),
            heads,
        );
        Running { task: tokio::spawn(relay.run(stop.clone())), stop }
    }

    /// Opens a subscription to these tenants.
    pub(crate) fn subscribe(&self, group: &str, tenants: &[&Tenant]) -> Subscription {
        let group = format!("{}-{group}", self.feed.topic);
        let tenants = tenants.iter().map(|t| (t.name.clone(), t.id)).collect();
        Subscription::open(&self.feed, &group, tenants).unwrap()
    }

    /// Waits until the relay has noted a position, and so stands in the topic.
    pub(crate) async fn noted(&self, tenant: &Tenant, position: i64) {
        let client = self.pool.get().await.unwrap();
        wait_for(&format!("tenant {} noted at {position}", tenant.name), async || {
            let noted = "select coalesce(max(position), 0) from feed.positions where tenant = $1";
            let noted: i64 = client.query_one(noted, &[&tenant.id]).await.unwrap().get(0);
            (noted == position).then_some(())
        })
        .await;
    }

    /// All records of a partition as they stand: tenant's name, position and history.
    pub(crate) async fn records(&self, partition: i32) -> Vec<(String, i64, u8)> {
        let config = self.feed.clone();
        tokio::task::spawn_blocking(move || records(&config, partition)).await.unwrap()
    }

    /// Checks what is promised of the topic: per tenant, first occurrences are 1, 2, … `until`.
    /// Returns how many records are repeats.
    pub(crate) async fn assert_contiguous(
        &self,
        partition: i32,
        until: &BTreeMap<&str, i64>,
    ) -> usize {
        let records = self.records(partition).await;
        let mut reached: BTreeMap<&str, i64> = BTreeMap::new();
        let mut repeats = 0;
        for (offset, (tenant, position, _)) in records.iter().enumerate() {
            let last = reached.entry(tenant).or_default();
            assert!(*position <= *last + 1, "gap at {offset}: {tenant} {last} to {position}");
            if *position == *last + 1 {
                *last = *position;
            } else {
                repeats += 1;
            }
        }
        assert_eq!(&reached, until);
        repeats
    }

    /// Deletes the topic and waits until it is gone.
    pub(crate) async fn delete_topic(&self) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        admin.delete_topics(&[&self.feed.topic], &AdminOptions::new()).await.unwrap();
        wait_for("topic deleted", async || {
            let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
            let there = metadata.topics().iter().any(|topic| topic.name() == self.feed.topic);
            (!there).then_some(())
        })
        .await;
    }

    /// Settings of a Kafka client of the test's own.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.feed.brokers);
        client
    }
}

fn records(config: &FeedConfig, partition: i32) -> Vec<(String, i64, u8)> {
    let read = |record: &OwnedMessage| {
        decode(record, |e| (e.tenant.to_owned(), e.position, e.mac[0])).unwrap()
    };
    read_raw(config, partition).iter().map(read).collect()
}

/// A partition's records as they are. Blocks.
fn read_raw(config: &FeedConfig, partition: i32) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let (low, high) = consumer.fetch_watermarks(&config.topic, partition, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&config.topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    let started = Instant::now();
    while i64::try_from(records.len()).unwrap() < high - low {
        assert!(started.elapsed() < PATIENCE, "{} of {high} records", records.len());
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            records.push(record.unwrap().detach());
        }
    }
    records
}

/// A relay at work.
pub(crate) struct Running {
    pub(crate) task: JoinHandle<Result<(), FeedError>>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    /// Shuts it down in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it at once, with whatever it was doing.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
        self.stop.cancel();
    }

    /// Waits for the error that it ends with.
    pub(crate) async fn error(self) -> FeedError {
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("relay goes on");
        ended.unwrap().expect_err("relay has ended without an error")
    }
}

/// Asks until there is an answer.
pub(crate) async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Receives batches until every tenant has reached its position; the events by tenant.
pub(crate) async fn receive(
    subscription: &mut Subscription,
    until: &[(&Tenant, i64)],
) -> HashMap<i32, Vec<StoredEvent>> {
    let mut events: HashMap<i32, Vec<StoredEvent>> = HashMap::new();
    let started = Instant::now();
    while !until.iter().all(|(tenant, position)| {
        events.get(&tenant.id).and_then(|e| e.last()).is_some_and(|e| e.position >= *position)
    }) {
        assert!(started.elapsed() < PATIENCE, "events don't come");
        let batch = subscription.next_batch(700, Duration::from_secs(1)).await.unwrap();
        if let Some(batch) = batch {
            take(&mut events, &batch);
            subscription.commit(&batch);
        }
    }
    events
}

/// Adds a batch's events, checking its bounds.
pub(crate) fn take(events: &mut HashMap<i32, Vec<StoredEvent>>, batch: &Batch) {
    assert!(!batch.events.is_empty() && batch.events.len() <= 4096);
    for event in &batch.events {
        events.entry(event.tenant).or_default().push(event.clone());
    }
}

impl Bed {
    /// The same database and topic again.
    pub(crate) fn share(other: &Self) -> Self {
        Self {
            feed: other.feed.clone(),
            pg: other.pg.clone(),
            pool: other.pool.clone(),
            reader: other.reader.clone(),
            database: other.database.clone(),
        }
    }
}

/// Writes the first `count` records of a partition once more.
pub(crate) async fn repeat(bed: &Bed, partition: i32, count: usize) {
    write_again(bed, partition, 0, count, false).await;
}

/// Writes records of partition 0 once more as other events: with other macs.
pub(crate) async fn contradict(bed: &Bed, from: usize, count: usize) {
    write_again(bed, 0, from, count, true).await;
}

async fn write_again(bed: &Bed, partition: i32, from: usize, count: usize, other: bool) {
    let (config, client) = (bed.feed.clone(), bed.client());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = client.create().unwrap();
        for record in read_raw(&config, partition).into_iter().skip(from).take(count) {
            let mut headers = OwnedHeaders::new();
            for header in record.headers().unwrap().iter() {
                let mut value = header.value.unwrap().to_vec();
                if other && header.key == "ce_mac" {
                    // Hexadecimal digits: of the key's number, and then the mac itself.
                    value[2] = if value[2] == b'a' { b'b' } else { b'a' };
                }
                headers = headers.insert(Header { key: header.key, value: Some(&value) });
            }
            let again = BaseRecord::to(&config.topic)
                .partition(partition)
                .key(record.key().unwrap())
                .payload(record.payload().unwrap())
                .headers(headers);
            assert!(producer.send(again).is_ok());
        }
        producer.flush(PATIENCE).unwrap();
    })
    .await
    .unwrap();
}

/// Removes the first `count` records of partition 0, as retention does.
pub(crate) async fn remove_records(bed: &Bed, count: i64) {
    let admin: AdminClient<DefaultClientContext> = bed.client().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&bed.feed.topic, 0, Offset::Offset(count)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}
