//! A database of its own with every shipped projection, and projectors to feed and to kill.

use std::{collections::BTreeMap, num::NonZeroU32, path::Path, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_commands::schemas;
use daybook_journal::{EventFilter, Reader, StoredEvent};
use daybook_projection::{
    Catalogue, Projector, ProjectorSettings, RebuildDeps, Source, install, rebuild, status,
};
use futures::SinkExt;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_mins(1);

/// The repository's own projections.
pub(crate) fn catalogue() -> Catalogue {
    Catalogue::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections"))
        .unwrap()
        .reading(&schemas::upcasters())
}

/// A row with its times written one way, so that two makers of JSON can be compared.
pub(crate) fn normal(value: Value) -> Value {
    match value {
        Value::String(text) => match DateTime::parse_from_rfc3339(&text) {
            Ok(at) => {
                let at = at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true);
                Value::String(at)
            }
            Err(_) => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(normal).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, normal(value))).collect())
        }
        plain => plain,
    }
}

/// Rows as text, in an order that is theirs alone.
pub(crate) fn sorted(rows: impl Iterator<Item = Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

pub(crate) struct Database {
    /// Of the read models.
    config: Config,
    journal_config: Config,
    admin: Config,
    names: Vec<String>,
    /// Of the read models.
    client: Client,
    journal: Client,
}

impl Database {
    /// The read models live in the journal's database, or in one of their own.
    pub(crate) async fn new(catalogue: &Catalogue, separate: bool) -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").expect(
            "DAYBOOK_TEST_DATABASE_URL is not set: this test needs a real PostgreSQL; \
             run ./scripts/test, which starts one",
        );
        let admin: Config = url.parse().unwrap();
        let server = connect(&admin).await;
        let mut names = Vec::new();
        let mut create = async || {
            let name = format!("daybook_folds_{}", Uuid::new_v4().simple());
            server.batch_execute(&format!("create database {name}")).await.unwrap();
            let mut config = admin.clone();
            config.dbname(&name);
            names.push(name);
            config
        };
        let journal_config = create().await;
        let mut journal = connect(&journal_config).await;
        daybook_journal::migrate(&mut journal).await.unwrap();
        journal
            .batch_execute("insert into journal.tenants (name, partition) values ('main', 0)")
            .await
            .unwrap();
        let config = if separate { create().await } else { journal_config.clone() };
        let mut client = connect(&config).await;
        daybook_projection::migrate(&mut client).await.unwrap();
        if separate {
            schemas::upcasters().install_alone(&client).await.unwrap();
        } else {
            schemas::upcasters().install(&client).await.unwrap();
        }
        install(&mut client, catalogue).await.unwrap();
        Self { config, journal_config, admin, names, client, journal }
    }

    fn reader(&self) -> Reader {
        let manager = deadpool_postgres::Manager::new(self.journal_config.clone(), NoTls);
        Reader::new(deadpool_postgres::Pool::builder(manager).max_size(4).build().unwrap())
    }

    pub(crate) async fn append(&self, events: &[crate::Event]) {
        let streams: Vec<_> = events.iter().map(|e| e.stream.as_str()).collect();
        let versions: Vec<_> = events.iter().map(|e| e.version).collect();
        let kinds: Vec<_> = events.iter().map(|e| e.kind).collect();
        let schema_versions: Vec<_> = events.iter().map(|e| e.schema_version).collect();
        let data: Vec<_> = events.iter().map(|e| e.data.to_string()).collect();
        let times: Vec<_> = events.iter().map(|e| e.at).collect();
        self.journal
            .execute(
                "insert into journal.events (tenant, position, stream, version, type,
                     schema_version, data, meta, occurred_at, recorded_at, mac)
                 select 1,
                     coalesce((select max(position) from journal.events where tenant = 1), 0) + n,
                     stream, version, type, schema_version, data::jsonb, '{\"actor\": \"test\"}',
                     at, at, decode(repeat('00', 33), 'hex')
                 from unnest($1::text[], $2::integer[], $3::text[], $4::smallint[], $5::text[],
                             $6::timestamptz[])
                     with ordinality as u (stream, version, type, schema_version, data, at, n)",
                &[&streams, &versions, &kinds, &schema_versions, &data, &times],
            )
            .await
            .unwrap();
    }

    /// Everything in the journal.
    pub(crate) async fn journal(&self) -> Vec<StoredEvent> {
        self.reader().events(1, 0, i64::MAX, &EventFilter::default()).await.unwrap()
    }

    /// A projector that is fed by hand.
    pub(crate) async fn projector(&self) -> Running {
        let reader = self.reader();
        let incarnation = reader.incarnation().await.unwrap();
        let settings = ProjectorSettings {
            heal_after: Duration::from_millis(300),
            retry_after: Duration::from_millis(500),
            ..ProjectorSettings::default()
        };
        let projector = Projector::new(self.config.clone(), reader, settings);
        let (feed, batches) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projector.run_on(batches, shutdown.clone()));
        Running { feed, incarnation, shutdown, task }
    }

    /// Ends every connection to the read models' database but the test's own.
    pub(crate) async fn end_connections(&self) {
        let own = self.journal.query_one("select pg_backend_pid()", &[]).await.unwrap();
        self.client
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid not in (pg_backend_pid(), $1)",
                &[&own.get::<_, i32>(0)],
            )
            .await
            .unwrap();
    }

    /// Waits until every projection stands at the journal's head.
    pub(crate) async fn caught_up(&self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let all = status(&self.client, &self.reader()).await.unwrap();
            if all.iter().all(|s| s.position == s.head && s.error.is_none()) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "waited in vain: {all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The rows of every projection.
    pub(crate) async fn rows(&self, catalogue: &Catalogue) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        for projection in catalogue.projections() {
            let sql = format!(
                "select (to_jsonb(t) - 'tenant')::text from analyst.{} t where tenant = 1",
                projection.name
            );
            let rows = self.client.query(&sql, &[]).await.unwrap();
            let rows = rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap());
            all.insert(projection.name.clone(), sorted(rows.map(normal)));
        }
        all
    }

    /// The rows of every projection as of a position: of the whole journal folded to there, and of
    /// each key by the streams that its folder names.
    pub(crate) async fn rows_as_of(
        &self,
        catalogue: &Catalogue,
        position: i64,
    ) -> [BTreeMap<String, Vec<String>>; 2] {
        self.client.batch_execute("set daybook.tenant = '1'").await.unwrap();
        let (mut folded, mut by_streams) = (BTreeMap::new(), BTreeMap::new());
        for projection in catalogue.projections() {
            let (name, schema) = (&projection.name, projection.schema());
            self.copy_journal(&projection.events, position).await;
            let whole = format!("{schema}.{name}__as_of(1, $1)");
            folded.insert(name.clone(), self.rows_of(&whole, position).await);
            let [column, streams] = match name.as_str() {
                "orders" => ["order_id", "'order-{order_id}'"],
                "payments" => ["payment_id", "'payment-{payment_id}'"],
                "stock" => ["sku", "'product-{sku}', 'stock-{sku}'"],
                _ => continue,
            };
            let each = format!(
                "(select row.* from {schema}.{name} key, {schema}.{name}__as_of_key(
                    1, $1, array[{streams}], jsonb_build_object('{column}', key.{column})
                  ) row where key.tenant = 1)"
            );
            by_streams.insert(name.clone(), self.rows_of(&each, position).await);
        }
        self.client.batch_execute("rollback").await.unwrap();
        [folded, by_streams]
    }

    /// Begins a transaction in which the read models' database has the journal up to a position.
    async fn copy_journal(&self, kinds: &[String], until: i64) {
        let begin = "rollback; select projection.open_scratch(); begin";
        self.client.batch_execute(begin).await.unwrap();
        if self.names.len() == 1 {
            return;
        }
        let mut events = self.reader().copy_events(1, 0, until, kinds).await.unwrap();
        let into = "copy pg_temp.daybook_events from stdin (format binary)";
        let sink = self.client.copy_in(into).await.unwrap();
        tokio::pin!(sink);
        while let Some(bytes) = events.next().await.unwrap() {
            sink.send(bytes).await.unwrap();
        }
        sink.finish().await.unwrap();
    }

    async fn rows_of(&self, relation: &str, position: i64) -> Vec<String> {
        let sql = format!("select (to_jsonb(t) - 'tenant')::text from {relation} t");
        let rows = self.client.query(&sql, &[&position]).await.unwrap();
        sorted(rows.iter().map(|row| normal(serde_json::from_str(row.get(0)).unwrap())))
    }

    /// Folds everything again, the journal in pieces of so many positions and the keys in shares.
    /// Returns how many rows came out differently.
    pub(crate) async fn rebuild(
        &self,
        catalogue: &Catalogue,
        pieces: Option<i64>,
        shares: u32,
    ) -> i64 {
        let mut changed = 0;
        for projection in catalogue.projections() {
            let deps = RebuildDeps {
                config: self.config.clone(),
                reader: self.reader(),
                feed: None,
                piece_positions: pieces,
                shares: NonZeroU32::new(shares),
                anew: false,
            };
            let report = rebuild(&deps, &projection.name, Source::Journal, &|_, _| {}).await;
            changed += report.unwrap().changed_rows;
        }
        changed
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, names) = (self.admin.clone(), self.names.clone());
        // its own thread and runtime: drop can't wait in the test's
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let client = connect(&admin).await;
                for name in names {
                    let drop = format!("drop database {name} with (force)");
                    client.batch_execute(&drop).await.unwrap();
                }
            });
        });
        let ended = dropped.join().is_ok() || std::thread::panicking();
        assert!(ended, "databases {:?} could not be dropped", self.names);
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL must be reachable");
    tokio::spawn(connection);
    client
}

/// A running projector.
pub(crate) struct Running {
    feed: mpsc::Sender<(Uuid, Vec<StoredEvent>)>,
    incarnation: Uuid,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn send(&self, events: Vec<StoredEvent>) {
        self.feed.send((self.incarnation, events)).await.unwrap();
    }

    /// Ends it wherever it is, with nothing said to anybody.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}
