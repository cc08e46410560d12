//! The relay: a backlog beside a bare producer of the same messages, and how soon what is committed
//! is received at steady rates.
//!
//! `scripts/bench feed --json` starts PostgreSQL and Kafka and runs this; one JSON object a line.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

mod backlog;
#[path = "../../../journal/benches/kit/mod.rs"]
mod kit;
mod steady;

use std::time::Duration;

use clap::Parser;
use daybook_feed::{FeedConfig, FeedError, Relay, ensure_topic};
use daybook_journal::{Heads, Reader};
use deadpool_postgres::{Manager, Pool};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use kit::{Database, Server};

/// Longest wait for an answer of Kafka's.
const ANSWER: Duration = Duration::from_secs(30);

/// The relay: a backlog beside a bare producer, and commit → received at steady rates
#[derive(Debug, Parser)]
struct Arguments {
    /// Events of the backlog; 0 leaves it out
    #[arg(long, default_value_t = 500_000)]
    events: i64,
    /// Runs of the backlog; the median of each figure counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Steady events a second; none leaves them out
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "100,500,2000")]
    rates: Vec<u32>,
    /// Seconds of each steady rate
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Concurrent writers, each with a connection of its own
    #[arg(long, default_value_t = 8)]
    writers: u32,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let server = Server::of_environment();
    if arguments.events > 0 {
        println!("{}", backlog::measure(&server, arguments.events, arguments.runs).await);
    }
    for &rate in &arguments.rates {
        let figures = steady::measure(&server, rate, arguments.seconds, arguments.writers).await;
        println!("{figures}");
    }
}

/// A database, a topic of its own, and a relay between them.
struct Bed {
    database: Database,
    feed: FeedConfig,
}

impl Bed {
    async fn make(server: &Server) -> Self {
        let database = server.database().await;
        daybook_feed::migrate(&mut database.client().await).await.expect("migrates");
        Self { database, feed: topic().await }
    }

    /// Starts a relay as a process of its own would have it: woken through PostgreSQL.
    fn relay(&self) -> Running {
        let config = self.database.config();
        let manager = Manager::new(config.clone(), NoTls);
        let pool = Pool::builder(manager).max_size(4).build().expect("a pool");
        let reader = Reader::new(pool.clone());
        let stop = CancellationToken::new();
        let (heads, listening) = Heads::new(config.clone(), reader.clone());
        tokio::spawn(listening.run(stop.clone()));
        let relay = Relay::new(self.feed.clone(), pool, config, reader, heads);
        Running { task: tokio::spawn(relay.run(stop.clone())), stop }
    }

    async fn remove(self) {
        remove_topic(&self.feed).await;
        self.database.remove().await;
    }
}

/// A relay at work.
struct Running {
    task: JoinHandle<Result<(), FeedError>>,
    stop: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("the relay ends in order");
    }
}

/// Settings with a new topic of one partition, made.
async fn topic() -> FeedConfig {
    let feed = FeedConfig {
        brokers: std::env::var("KAFKA_BROKERS")
            .expect("KAFKA_BROKERS is not set: run scripts/bench, which starts a Kafka"),
        topic: format!("bench.{}", Uuid::new_v4().simple()),
        ..FeedConfig::default()
    };
    ensure_topic(&feed).await.expect("the topic can be made");
    feed
}

async fn remove_topic(feed: &FeedConfig) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &feed.brokers)
        .create()
        .expect("a client of Kafka");
    admin.delete_topics(&[&feed.topic], &AdminOptions::new()).await.expect("it can be deleted");
}

/// Offset after the last record.
fn end_of(consumer: &BaseConsumer, feed: &FeedConfig) -> i64 {
    consumer.fetch_watermarks(&feed.topic, 0, ANSWER).expect("Kafka answers").1
}
