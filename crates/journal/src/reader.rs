//! Reading the journal: by stream, by tenant from a position, and what commands ended in.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    event::{StoredEvent, Tenant},
    record,
    submission::Outcome,
};

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// PostgreSQL answered with an error.
    #[error("journal: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("journal: no connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// An idempotency record that this program can't read.
    #[error("journal: idempotency record of key {0:?} is damaged")]
    DamagedRecord(String),
    /// A tenant's name that breaks the rules.
    #[error("tenant name {0:?} is not [a-z][a-z0-9-]*, at most 63 characters")]
    TenantName(String),
}

/// Which events of a tenant to read.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only these types; empty: all.
    pub kinds: Vec<String>,
    /// Only streams whose name starts so.
    pub stream_prefix: Option<String>,
    /// Only one correlation.
    pub correlation: Option<Uuid>,
    /// Only up to this position, inclusive.
    pub until: Option<i64>,
}

/// Columns of [`StoredEvent`], in the order in which [`event_from`] reads them.
const EVENT_COLUMNS: &str = "tenant, position, stream, version, type, schema_version, \
     data::text, meta::text, occurred_at, recorded_at, mac";

/// Longest that one read may take, milliseconds; a page is bounded, so more means trouble.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Reads the journal through a pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: Pool,
}

impl Reader {
    /// A reader on a pool whose user may select from `journal`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// All tenants, by number.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached("select tenant, name, partition from journal.tenants order by tenant")
            .await?;
        Ok(client.query(&statement, &[]).await?.iter().map(tenant_from).collect())
    }

    /// The tenant of that name.
    pub async fn tenant(&self, name: &str) -> Result<Option<Tenant>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached("select tenant, name, partition from journal.tenants where name = $1")
            .await?;
        Ok(client.query_opt(&statement, &[&name]).await?.as_ref().map(tenant_from))
    }

    /// The tenant of that name, made if there is none; its Kafka partition is the next one round
    /// robin of `partitions` (at least 1).
    pub async fn add_tenant(&self, name: &str, partitions: i32) -> Result<Tenant, JournalError> {
        let valid = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid {
            return Err(JournalError::TenantName(name.to_owned()));
        }
        let client = self.pool.get().await?;
        client
            .execute(
                "insert into journal.tenants (name, partition)
                 select $1, (select count(*) from journal.tenants)::integer % $2
                 on conflict (name) do nothing",
                &[&name, &partitions.max(1)],
            )
            .await?;
        let row = client
            .query_one(
                "select tenant, name, partition from journal.tenants where name = $1",
                &[&name],
            )
            .await?;
        Ok(tenant_from(&row))
    }

    /// The random id of this history; another one after a restore or fail-over.
    pub async fn incarnation(&self) -> Result<Uuid, JournalError> {
        let client = self.pool.get().await?;
        Ok(client.query_one("select journal.incarnation()", &[]).await?.get(0))
    }

    /// Position of the tenant's last event; 0 without events.
    pub async fn head(&self, tenant: i32) -> Result<i64, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(
                "select position from journal.events where tenant = $1
                 order by position desc limit 1",
            )
            .await?;
        Ok(client.query_opt(&statement, &[&tenant]).await?.map_or(0, |row| row.get(0)))
    }

    /// At most `limit` events after a position, ascending.
    pub async fn events(
        &self,
        tenant: i32,
        after: i64,
        limit: i64,
        filter: &EventFilter,
    ) -> Result<Vec<StoredEvent>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(&format!(
                "select {EVENT_COLUMNS} from journal.events
                 where tenant = $1 and position > $2 and position <= $3
                   and (cardinality($4::text[]) = 0 or type = any($4))
                   and ($5::text is null or starts_with(stream, $5))
                   and ($6::text is null or meta->>'correlation' = $6)
                 order by position limit $7"
            ))
            .await?;
        let until = filter.until.unwrap_or(i64::MAX);
        let correlation = filter.correlation.map(|id| id.to_string());
        let rows = tokio::time::timeout(
            READ_TIMEOUT,
            client.query(
                &statement,
                &[
                    &tenant,
                    &after,
                    &until,
                    &filter.kinds,
                    &filter.stream_prefix,
                    &correlation,
                    &limit,
                ],
            ),
        )
        .await
        .map_err(|_elapsed| {
            JournalError::Pool(deadpool_postgres::PoolError::Timeout(
                deadpool_postgres::TimeoutType::Wait,
            ))
        })??;
        Ok(rows.iter().map(event_from).collect())
    }

    /// At most `limit` events of a stream from a version on, ascending.
    pub async fn stream(
        &self,
        tenant: i32,
        stream: &str,
        from_version: i32,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(&format!(
                "select {EVENT_COLUMNS} from journal.events
                 where tenant = $1 and stream = $2 and version >= $3 order by version limit $4"
            ))
            .await?;
        let rows = client.query(&statement, &[&tenant, &stream, &from_version, &limit]).await?;
        Ok(rows.iter().map(event_from).collect())
    }

    /// What the command with that idempotency key ended in; `None`: no such key (any more).
    pub async fn command(
        &self,
        tenant: i32,
        principal: &str,
        key: &str,
    ) -> Result<Option<Outcome>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(
                "select position, outcome from journal.commands
                 where tenant = $1 and principal = $2 and key = $3",
            )
            .await?;
        let Some(row) = client.query_opt(&statement, &[&tenant, &principal, &key]).await? else {
            return Ok(None);
        };
        let verdict = record::verdict(row.get(0), row.get(1))
            .ok_or_else(|| JournalError::DamagedRecord(key.to_owned()))?;
        Ok(Some(Outcome { verdict, repeated: true }))
    }
}

fn tenant_from(row: &Row) -> Tenant {
    Tenant { id: row.get(0), name: row.get(1), partition: row.get(2) }
}

fn event_from(row: &Row) -> StoredEvent {
    StoredEvent {
        tenant: row.get(0),
        position: row.get(1),
        stream: row.get(2),
        version: row.get(3),
        kind: row.get(4),
        schema_version: row.get(5),
        data: row.get(6),
        meta: row.get(7),
        occurred_at: row.get(8),
        recorded_at: row.get(9),
        mac: row.get(10),
    }
}
