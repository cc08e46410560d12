//! What the journal is compared with: the same rows written with less promised.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::Utc;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Statement, types::ToSql};
use uuid::Uuid;

use super::{Database, Rate, callers, notes};

/// Connections that a floor's callers share at most.
const CONNECTIONS: usize = 64;
/// Rows of one transaction of the floor that writes many.
const ROWS: usize = 500;

/// Tables like the journal's, without its triggers: `plain` draws positions from a sequence.
const TABLES: &str = "
create schema floor;
create table floor.plain (like journal.events including all);
create sequence floor.positions;
create table floor.gapless (like journal.events including all);
create table floor.rows (like journal.events including all);
create table floor.keys (like journal.commands including all);
create function floor.gapless(s text, k text, d text, m text, o timestamptz, mac bytea)
returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(77);
    insert into floor.gapless (position, occurred_at, recorded_at, tenant, version, schema_version,
                               stream, type, mac, data, meta)
    select coalesce((select position from floor.gapless where tenant = 1
                     order by position desc limit 1), 0) + 1,
           o, o, 1, 1, 1, s, k, mac, d::jsonb, m::jsonb;
end $$;
";

const COLUMNS: &str = "position, occurred_at, recorded_at, tenant, version, schema_version, \
                       stream, type, mac, data, meta";

/// One connection's prepared statement, for one caller at a time.
struct Line {
    client: Client,
    statement: Statement,
}

/// A floor to be measured.
pub(crate) struct Floors {
    database: Database,
    data: String,
    meta: String,
}

impl Floors {
    pub(crate) async fn new(database: Database) -> Self {
        database.client().await.batch_execute(TABLES).await.expect("makes the floors' tables");
        let meta = json!(notes::meta("0190c5a0-3333-4000-8000-000000000001"));
        Self { database, data: notes::data().to_string(), meta: meta.to_string() }
    }

    pub(crate) async fn remove(self) {
        self.database.remove().await;
    }

    async fn empty(&self) {
        let client = self.database.client().await;
        client
            .batch_execute(
                "truncate floor.plain, floor.gapless, floor.rows, floor.keys; checkpoint",
            )
            .await
            .expect("empties the floors' tables");
    }

    async fn lines(&self, connections: usize, statement: &str) -> Vec<Mutex<Line>> {
        let mut lines = Vec::new();
        for _ in 0..connections.min(CONNECTIONS) {
            let client = self.database.client().await;
            client
                .batch_execute("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
                .await
                .expect("sets what the writer sets");
            let statement = client.prepare(statement).await.expect("prepares");
            lines.push(Mutex::new(Line { client, statement }));
        }
        lines
    }

    /// A plain INSERT a transaction: no order, no idempotency.
    pub(crate) async fn tx(&self, count: usize, seconds: u64) -> Rate {
        let insert = format!(
            "insert into floor.plain ({COLUMNS}) values
             (nextval('floor.positions'), $5, $5, 1, 1, 1, $1, $2, $6, $3::text::jsonb, $4::text::jsonb)"
        );
        self.one_a_transaction(count, seconds, &insert).await
    }

    /// One transaction a command under the tenant's lock, in one round trip.
    pub(crate) async fn gapless(&self, count: usize, seconds: u64) -> Rate {
        let call = "select floor.gapless($1, $2, $3, $4, $5, $6)";
        self.one_a_transaction(count, seconds, call).await
    }

    async fn one_a_transaction(&self, count: usize, seconds: u64, statement: &str) -> Rate {
        self.empty().await;
        let lines = Arc::new(self.lines(count, statement).await);
        let (data, meta) = (self.data.clone(), self.meta.clone());
        callers(count, seconds, move |caller| {
            let (lines, data, meta) = (lines.clone(), data.clone(), meta.clone());
            async move {
                let line = lines[caller % lines.len()].lock().await;
                let mac = vec![1u8; 33];
                let values: [&(dyn ToSql + Sync); 6] =
                    [&notes::new_stream(), &"Noted", &data, &meta, &Utc::now(), &mac];
                line.client.execute(&line.statement, &values).await.expect("inserts");
                1
            }
        })
        .await
    }

    /// Events and idempotency rows, many a transaction, one connection.
    pub(crate) async fn rows(&self, seconds: u64) -> Rate {
        self.many(1, seconds, true).await
    }

    /// Events alone, many a transaction.
    pub(crate) async fn events(&self, connections: usize, seconds: u64) -> Rate {
        self.many(connections, seconds, false).await
    }

    async fn many(&self, connections: usize, seconds: u64, with_keys: bool) -> Rate {
        self.empty().await;
        let keys = if with_keys {
            "with k as (insert into floor.keys
                 (tenant, position, recorded_at, expires_at, principal, key, fingerprint, outcome)
             select 1, $1::bigint + n, $6::timestamptz, $6::timestamptz + interval '30 days',
                    'key:0190c5a0-2222-7000-8000-000000000001', key, $7::bytea,
                    '{\"accepted\": {\"open\": false, \"result\": {}, \"streams\": []}}'
             from unnest($8::text[]) with ordinality as k (key, n)) "
        } else {
            "with k as (select $7::bytea, $8::text[]) "
        };
        let insert = format!(
            "{keys} insert into floor.rows ({COLUMNS})
             select $1::bigint + n, $6::timestamptz, $6::timestamptz, 1, 1, 1, stream, 'Noted', $5::bytea, data::jsonb, meta::jsonb
             from unnest($2::text[], $3::text[], $4::text[]) with ordinality
                 as e (stream, data, meta, n)"
        );
        let lines = Arc::new(self.lines(connections, &insert).await);
        let position = Arc::new(AtomicUsize::new(0));
        let (data, meta) = (vec![self.data.clone(); ROWS], vec![self.meta.clone(); ROWS]);
        let constant = Arc::new((data, meta));
        callers(connections, seconds, move |caller| {
            let (lines, position, constant) = (lines.clone(), position.clone(), constant.clone());
            async move {
                let line = lines[caller % lines.len()].lock().await;
                let from = i64::try_from(position.fetch_add(ROWS, Ordering::Relaxed))
                    .expect("a bench is short");
                let streams: Vec<String> = (0..ROWS).map(|_| notes::new_stream()).collect();
                let keys: Vec<String> = (0..ROWS).map(|_| Uuid::new_v4().to_string()).collect();
                let (mac, fingerprint) = (vec![1u8; 33], vec![7u8; 32]);
                let (data, meta) = &*constant;
                let values: [&(dyn ToSql + Sync); 8] =
                    [&from, &streams, data, meta, &mac, &Utc::now(), &fingerprint, &keys];
                line.client.execute(&line.statement, &values).await.expect("inserts");
                ROWS as u64
            }
        })
        .await
    }
}
