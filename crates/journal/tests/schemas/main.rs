//! Upcasters and activations against a real PostgreSQL, with types made up for it.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod activations;
mod upcasters;

use deadpool_postgres::{Manager, Pool};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// A migrated database of its own; [`Database::drop`] removes it.
struct Database {
    name: String,
    admin: Config,
}

impl Database {
    async fn create() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").unwrap_or_else(|_| {
            panic!(
                "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL"
            )
        });
        let admin: Config = url.parse().unwrap();
        let database = Self { name: format!("schemas_{}", Uuid::new_v4().simple()), admin };
        connect(&database.admin)
            .await
            .batch_execute(&format!("create database {}", database.name))
            .await
            .unwrap();
        daybook_journal::migrate(&mut database.client().await).await.unwrap();
        database
    }

    fn config(&self) -> Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    fn pool(&self) -> Pool {
        Pool::builder(Manager::new(self.config(), NoTls)).max_size(2).build().unwrap()
    }

    async fn drop(self) {
        connect(&self.admin)
            .await
            .batch_execute(&format!("drop database {} with (force)", self.name))
            .await
            .unwrap();
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Writes an event as it is stored, at the next position of tenant 1.
async fn store(client: &Client, kind: &str, version: i16, data: &str) {
    client
        .execute(
            "insert into journal.events (tenant, position, stream, version, type, schema_version,
                data, meta, occurred_at, recorded_at, mac)
             select 1, n, 's', n, $1, $2, $3::text::jsonb, '{}', now(), now(),
                decode(repeat('00', 33), 'hex')
             from (select count(*) + 1 from journal.events) as next (n)",
            &[&kind, &version, &data],
        )
        .await
        .unwrap();
}
