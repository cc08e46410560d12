//! What the measurements share: a database of its own for each run, callers, percentiles, medians.

#![allow(
    dead_code,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "each measurement uses its part; figures are printed"
)]

pub(crate) mod floors;
pub(crate) mod notes;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_journal::{MacKeys, Reader, Tenant, Writer, WriterConfig};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers run for so long before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// The server that `DATABASE_URL` names; its user may create databases.
#[derive(Clone)]
pub(crate) struct Server {
    admin: Config,
}

/// A migrated database with the tenant `main`; [`Database::remove`] removes it.
pub(crate) struct Database {
    name: String,
    admin: Config,
}

impl Server {
    /// # Panics
    /// Without `DATABASE_URL`, which `scripts/bench` sets.
    pub(crate) fn of_environment() -> Self {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run scripts/bench, which starts a PostgreSQL");
        Self { admin: url.parse().expect("DATABASE_URL is a connection string") }
    }

    pub(crate) async fn database(&self) -> Database {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        let admin = connect(&self.admin).await;
        admin.batch_execute(&format!("create database {name}")).await.expect("may create it");
        let database = Database { name, admin: self.admin.clone() };
        daybook_journal::migrate(&mut database.client().await).await.expect("migrates");
        let pool = deadpool_postgres::Pool::builder(deadpool_postgres::Manager::new(
            database.config(),
            NoTls,
        ));
        let reader = Reader::new(pool.max_size(1).build().expect("a pool"));
        reader.add_tenant("main", 1).await.expect("adds a tenant");
        // What earlier runs left to be written is not this run's to pay.
        admin.batch_execute("checkpoint").await.expect("may checkpoint");
        database
    }
}

impl Database {
    pub(crate) fn config(&self) -> Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    pub(crate) fn named(server: &Server, name: &str) -> Self {
        Self { name: name.to_owned(), admin: server.admin.clone() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    /// Its address as a URL, for programs of PostgreSQL's.
    pub(crate) fn url(&self) -> String {
        let url = std::env::var("DATABASE_URL").expect("it was there before");
        let (server, _name) = url.rsplit_once('/').expect("it names a database");
        format!("{server}/{}", self.name)
    }

    pub(crate) async fn remove(self) {
        let drop = format!("drop database {} with (force)", self.name);
        connect(&self.admin).await.batch_execute(&drop).await.expect("may drop it");
    }
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

pub(crate) fn tenant() -> Tenant {
    Tenant { id: 1, name: "main".to_owned(), partition: 0 }
}

pub(crate) fn keys() -> MacKeys {
    MacKeys::new(BTreeMap::from([(1, vec![7; 32])])).expect("there is a key")
}

/// How fast something went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rate {
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Runs `operation(caller)` again and again by every caller. It returns how many things it did.
pub(crate) async fn callers<F, Fut>(callers: usize, seconds: u64, operation: F) -> Rate
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = u64> + Send,
{
    let operation = Arc::new(operation);
    let done = Arc::new(AtomicU64::new(0));
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds);
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let (operation, done) = (operation.clone(), done.clone());
            tokio::spawn(async move {
                let mut micros: Vec<u32> = Vec::new();
                loop {
                    let start = Instant::now();
                    if start >= until {
                        return micros;
                    }
                    let n = operation(caller).await;
                    let end = Instant::now();
                    if end >= from && end < until {
                        done.fetch_add(n, Ordering::Relaxed);
                        micros.push(u32::try_from((end - start).as_micros()).unwrap_or(u32::MAX));
                    }
                }
            })
        })
        .collect();
    let mut micros = Vec::new();
    for caller in running {
        micros.extend(caller.await.expect("a caller panicked"));
    }
    micros.sort_unstable();
    Rate {
        per_s: done.load(Ordering::Relaxed) as f64 / seconds as f64,
        p50_ms: percentile(&micros, 50),
        p99_ms: percentile(&micros, 99),
    }
}

/// Commands accepted by the journal's own interface, one process, each in a stream of its own.
pub(crate) async fn append(database: &Database, count: usize, seconds: u64) -> Rate {
    let config = WriterConfig::default();
    let (writer, task) =
        Writer::new(database.config(), tenant(), Arc::new(notes::Notes), keys(), config);
    let stop = CancellationToken::new();
    let running = tokio::spawn(task.run(stop.clone()));
    let rate = callers(count, seconds, move |_caller| {
        let writer = writer.clone();
        async move {
            let outcome = writer.submit(notes::submission(notes::new_stream())).await;
            outcome.expect("the command is accepted");
            1
        }
    })
    .await;
    stop.cancel();
    running.await.expect("the writer ends");
    rate
}

/// Percentile of sorted microseconds, in milliseconds.
pub(crate) fn percentile(micros: &[u32], percent: usize) -> f64 {
    let index = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
    micros.get(index).map_or(0.0, |&us| f64::from(us) / 1e3)
}

/// The run in the middle by its rate.
pub(crate) fn median(mut runs: Vec<Rate>) -> Rate {
    runs.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

/// To so many decimals, for printing.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}
