//! A database of its own for each test.

use std::{panic::resume_unwind, time::Duration};

use daybook_commands::schemas;
use daybook_journal::Reader;
use daybook_work::{JobStore, sandbox};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use serde_json::Value;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// A fresh database with the schemas `journal` and `sandbox`, and a tenant.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) tenant: daybook_journal::Tenant,
}

impl Database {
    pub(crate) fn store(&self) -> JobStore {
        JobStore::new(self.pool.clone())
    }

    /// Writes a job as an append does, due in `due_in_ms`.
    pub(crate) async fn add_job(
        &self,
        kind: &str,
        due_in_ms: i64,
        payload: &Value,
        sealed: Option<&[u8]>,
    ) -> Uuid {
        let id = Uuid::now_v7();
        let sql = "insert into journal.jobs (id, tenant, position, run_at, kind, payload, sealed)
            values ($1, $2, 1, clock_timestamp() + $3::bigint * interval '1 millisecond', $4, $5, $6)";
        let client = self.pool.get().await.unwrap();
        let tenant = self.tenant.id;
        client.execute(sql, &[&id, &tenant, &due_in_ms, &kind, payload, &sealed]).await.unwrap();
        id
    }

    /// Lets time pass for a job: its lease has run out.
    pub(crate) async fn expire_lease(&self, id: Uuid) {
        let sql = "update journal.jobs set leased_until = clock_timestamp() - interval '1 ms'
            where id = $1";
        assert_eq!(self.pool.get().await.unwrap().execute(sql, &[&id]).await.unwrap(), 1);
    }

    pub(crate) async fn has_secret(&self, id: Uuid) -> bool {
        let sql = "select sealed is not null from journal.jobs where id = $1";
        self.pool.get().await.unwrap().query_one(sql, &[&id]).await.unwrap().get(0)
    }
}

/// Runs a test on a database of its own, which goes again whatever becomes of the test.
pub(crate) async fn on_database<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Database) -> F,
) {
    let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").unwrap_or_else(|_| {
        panic!("DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL")
    });
    let server: Config = url.parse().expect("DAYBOOK_TEST_DATABASE_URL is a connection string");
    let admin = connect(&server).await;
    let name = format!("work_{}", Uuid::now_v7().simple());
    admin.batch_execute(&format!("create database {name}")).await.unwrap();
    let mut config = server;
    config.dbname(&name);
    let database = prepare(config).await;
    let pool = database.pool.clone();
    let ended = tokio::spawn(test(database)).await;
    pool.close();
    admin.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
    if let Err(error) = ended {
        resume_unwind(error.into_panic());
    }
}

async fn prepare(config: Config) -> Database {
    let mut client = connect(&config).await;
    daybook_journal::migrate(&mut client).await.unwrap();
    schemas::upcasters().install(&client).await.unwrap();
    sandbox::migrate(&mut client).await.unwrap();
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method });
    let pool = Pool::builder(manager).max_size(12).build().unwrap();
    let tenant = Reader::new(pool.clone()).add_tenant("main", 1).await.unwrap();
    Database { config, pool, tenant }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// Waits until `condition` gives a value; panics, naming `what`, when it takes too long.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
