//! A database of its own for each test, dropped at its end.

pub(crate) mod folder;
pub(crate) mod history;

use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use daybook_journal::{EventFilter, Reader, StoredEvent, Upcaster, Upcasters};
use daybook_projection::{Catalogue, Projector, ProjectorSettings, install, status};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Where the read models of a test live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In the journal's database.
    Same,
    /// In a database of their own.
    Separate,
}

tokio::task_local! {
    pub(crate) static LAYOUT: Layout;
}

/// Makes two tests of each of these functions: with the read models in the journal's database, and
/// in one of their own.
macro_rules! in_both_layouts {
    ($($test:ident),+ $(,)?) => {
        mod same_database {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::kit::LAYOUT.scope($crate::kit::Layout::Same, super::$test()).await;
            })+
        }
        mod separate_databases {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::kit::LAYOUT.scope($crate::kit::Layout::Separate, super::$test()).await;
            })+
        }
    };
}
pub(crate) use in_both_layouts;

/// Fresh databases with the journal's and the engine's tables.
pub(crate) struct Database {
    /// Of the read models.
    pub(crate) config: Config,
    pub(crate) journal_config: Config,
    /// Of the journal.
    pub(crate) journal: Client,
    admin: Config,
    names: Vec<String>,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").expect(
            "DAYBOOK_TEST_DATABASE_URL is not set: this test needs a real PostgreSQL; \
             run ./scripts/test, which starts one",
        );
        let admin: Config = url.parse().expect("DAYBOOK_TEST_DATABASE_URL must be a database URL");
        let server = connect(&admin).await;
        let mut names = Vec::new();
        let mut create = async || {
            let name = format!("daybook_projection_{}", uuid::Uuid::new_v4().simple());
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
        let layout = LAYOUT.try_with(|layout| *layout).unwrap_or(Layout::Same);
        let config = match layout {
            Layout::Same => journal_config.clone(),
            Layout::Separate => create().await,
        };
        let mut client = connect(&config).await;
        daybook_projection::migrate(&mut client).await.unwrap();
        match layout {
            Layout::Same => upcasters().install(&client).await.unwrap(),
            Layout::Separate => upcasters().install_alone(&client).await.unwrap(),
        }
        Self { config, journal_config, journal, admin, names }
    }

    /// A connection to the read models.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.config).await
    }

    /// Connections to the read models.
    pub(crate) fn pool(&self) -> deadpool_postgres::Pool {
        pool(&self.config)
    }

    /// Connections to the journal.
    pub(crate) fn journal_pool(&self) -> deadpool_postgres::Pool {
        pool(&self.journal_config)
    }

    /// The same, where it is in another database than the read models.
    pub(crate) fn journal_elsewhere(&self) -> Option<Reader> {
        (self.names.len() > 1).then(|| self.reader())
    }

    /// Reads the journal.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.journal_pool())
    }
}

pub(crate) fn pool(config: &Config) -> deadpool_postgres::Pool {
    let manager = deadpool_postgres::Manager::new(config.clone(), NoTls);
    deadpool_postgres::Pool::builder(manager).max_size(4).build().unwrap()
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, names) = (self.admin.clone(), self.names.clone());
        // its own thread and runtime: drop can't wait in the test's
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
                async {
                    let client = connect(&admin).await;
                    for name in names {
                        let drop = format!("drop database {name} with (force)");
                        client.batch_execute(&drop).await.unwrap();
                    }
                },
            );
        });
        let ended = dropped.join().is_ok() || std::thread::panicking();
        assert!(ended, "databases {:?} could not be dropped", self.names);
    }
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL must be reachable");
    tokio::spawn(connection);
    client
}

/// The repository's own upcasters.
pub(crate) fn upcasters() -> Upcasters {
    let sql = include_str!("../../../../../schemas/upcasters/OrderPlaced/1.sql");
    Upcasters::new(vec![Upcaster { kind: "OrderPlaced", from: 1, sql }]).unwrap()
}

/// The folder of the repository's own projections, reading through its upcasters.
pub(crate) fn shipped() -> Catalogue {
    Catalogue::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections"))
        .unwrap()
        .reading(&upcasters())
}

/// An event to be.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) stream: String,
    pub(crate) kind: &'static str,
    pub(crate) data: Value,
    pub(crate) occurred_at: DateTime<Utc>,
}

/// Appends events to the journal of a tenant, with positions and versions as they come.
pub(crate) async fn append(client: &Client, tenant: i32, events: &[NewEvent]) {
    let streams: Vec<_> = events.iter().map(|e| e.stream.as_str()).collect();
    let kinds: Vec<_> = events.iter().map(|e| e.kind).collect();
    let data: Vec<_> = events.iter().map(|e| &e.data).collect();
    let times: Vec<_> = events.iter().map(|e| e.occurred_at).collect();
    client
        .execute(
            "insert into journal.events (tenant, position, stream, version, type, schema_version,
                data, meta, occurred_at, recorded_at, mac)
             select $1, coalesce((select max(position) from journal.events where tenant = $1), 0) + n,
                stream,
                (select count(*) from journal.events e where e.tenant = $1 and e.stream = u.stream)
                    + row_number() over (partition by stream order by n),
                type, case when data ? 'shipping' then 2 else 1 end, data, '{\"actor\": \"test\"}', occurred_at, clock_timestamp(),
                decode(repeat('00', 33), 'hex')
             from unnest($2::text[], $3::text[], $4::jsonb[], $5::timestamptz[])
                with ordinality as u (stream, type, data, occurred_at, n)",
            &[&tenant, &streams, &kinds, &data, &times],
        )
        .await
        .unwrap();
}

/// All rows of a projection's active version as JSON text, in order.
pub(crate) async fn rows(client: &Client, projection: &str) -> Vec<String> {
    client
        .query(&format!("select to_jsonb(t)::text from analyst.{projection} t order by 1"), &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// A database with these projections installed.
pub(crate) async fn installed(catalogue: &Catalogue) -> (Database, Client) {
    let database = Database::new().await;
    let mut client = database.client().await;
    install(&mut client, catalogue).await.unwrap();
    (database, client)
}

/// Everything in the journal of a tenant.
pub(crate) async fn journal(database: &Database, tenant: i32) -> Vec<StoredEvent> {
    let reader = database.reader();
    reader.events(tenant, 0, i64::MAX, &EventFilter::default()).await.unwrap()
}

/// A running projector that is fed by hand.
pub(crate) struct Running {
    pub(crate) feed: Option<mpsc::Sender<(Uuid, Vec<StoredEvent>)>>,
    pub(crate) incarnation: Uuid,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(database: &Database) -> Self {
        let reader = database.reader();
        let incarnation = reader.incarnation().await.unwrap();
        let settings = ProjectorSettings {
            heal_after: Duration::from_millis(300),
            retry_after: Duration::from_millis(500),
            ..ProjectorSettings::default()
        };
        let projector = Projector::new(database.config.clone(), reader, settings);
        let (feed, batches) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projector.run_on(batches, shutdown.clone()));
        Self { feed: Some(feed), incarnation, shutdown, task }
    }

    pub(crate) async fn send(&self, events: Vec<StoredEvent>) {
        self.feed.as_ref().unwrap().send((self.incarnation, events)).await.unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Waits until a condition holds; fails with what it was waiting for after 30 s.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until every projection but these stands at the journal's head.
pub(crate) async fn caught_up(database: &Database, except: &[&str]) {
    let (client, reader) = (database.client().await, database.reader());
    until("every projection at the head", || async {
        status(&client, &reader)
            .await
            .unwrap()
            .iter()
            .filter(|s| !except.contains(&s.name.as_str()))
            .all(|s| s.position == s.head && s.error.is_none())
    })
    .await;
}
