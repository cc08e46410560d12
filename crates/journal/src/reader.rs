//! Reading the journal: by stream, by tenant from a position, and what commands ended in.
//!
//! Long reads are async streams that fetch one bounded page when the last event of the page before
//! it has been taken. A consumer that is slow costs the memory of one page, and between two pages
//! no connection is held.

mod busy;
mod copy;
mod in_order;
mod pages;

pub use copy::EventsCopy;
pub use in_order::{CopiedEvent, EventsInOrder};
pub(crate) use pages::Window;

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    event::{StoredEvent, Tenant},
    record,
    submission::Outcome,
};

/// Classes of SQLSTATE that pass: connection, rollback, resources, an operator's doing.
const TRANSIENT_CLASSES: [&str; 4] = ["08", "40", "53", "57"];

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
    /// PostgreSQL took too long over a bounded read.
    #[error("journal: no answer within {0:?}")]
    Timeout(Duration),
    /// A follower found another history than the one it began with (a restore, a fail-over): the
    /// positions that it has seen may name other events now.
    #[error("journal: the history is another one since a restore or fail-over; read it anew")]
    AnotherHistory,
    /// PostgreSQL copied something else than an event.
    #[error("journal: what PostgreSQL copied is not an event")]
    DamagedCopy,
}

impl JournalError {
    /// Whether the same read may succeed later: the connection broke, or PostgreSQL is starting,
    /// stopping or too busy.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Timeout(_) => true,
            Self::Database(error) => {
                if let Some(code) = error.code() {
                    return TRANSIENT_CLASSES.iter().any(|class| code.code().starts_with(class));
                }
                let cause = std::error::Error::source(error);
                error.is_closed()
                    || cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
            }
            Self::DamagedRecord(_)
            | Self::TenantName(_)
            | Self::AnotherHistory
            | Self::DamagedCopy => false,
        }
    }
}

/// Which events of a tenant to read.
///
/// Only `until` spares work. The others are compared while reading: events are found by position
/// alone, since every further index would be paid for by each append. So a read costs what the
/// positions cost that it looks at, however few it lets through; whoever wants one stream reads
/// that ([`Reader::read_stream`]), and whoever wants one correlation says between which positions.
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

impl EventFilter {
    /// Whether it lets every event through, up to `until`.
    pub fn is_open(&self) -> bool {
        self.kinds.is_empty() && self.stream_prefix.is_none() && self.correlation.is_none()
    }
}

/// From which end a stream is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// Which part of a stream to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamRange {
    /// From which end.
    pub direction: Direction,
    /// First version wanted; `None`: where the direction begins.
    pub from_version: Option<i32>,
    /// Most events wanted; `None`: all up to the other end.
    pub limit: Option<i64>,
}

/// A piece of the tenant's total order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Events that the filter let through, by position.
    pub events: Vec<StoredEvent>,
    /// Position up to which everything has been looked at; the next page begins after it.
    pub reached: i64,
}

/// A stream and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its name.
    pub stream: String,
    /// Version of its last event, which is also how many events it has.
    pub version: i32,
    /// Position of its last event.
    pub position: i64,
    /// When its last event was written.
    pub recorded_at: chrono::DateTime<chrono::Utc>,
}

/// Columns of [`StoredEvent`], in the order in which [`event_from`] reads them.
const EVENT_COLUMNS: &str = "tenant, position, stream, version, type, schema_version, \
     data::text, meta::text, occurred_at, recorded_at, mac";

/// Longest that one read may take; a page is bounded, so more means trouble.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest wait for the proof that what can be read is durable.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Position of the tenant's last event; 0 without events. Dropped before its end, it is
    /// cancelled in PostgreSQL.
    pub async fn head(&self, tenant: i32) -> Result<i64, JournalError> {
        let last = "select position from journal.events where tenant = $1
             order by position desc limit 1";
        Ok(self.one(last, &[&tenant]).await?.map_or(0, |row| row.get(0)))
    }

    /// Position of the tenant's last event recorded at or before a moment; 0 before the first one.
    /// Costs a look-up in the index for each doubling of the journal. Dropped before its end, it is
    /// cancelled in PostgreSQL.
    pub async fn position_at(
        &self,
        tenant: i32,
        at: chrono::DateTime<chrono::Utc>,
    ) -> Result<i64, JournalError> {
        let found = self.one(include_str!("reader/position_at.sql"), &[&tenant, &at]).await?;
        Ok(found.map_or(0, |row| row.get(0)))
    }

    /// At most `limit` events after a position, ascending, all of them in memory: for small limits.
    /// [`Reader::read`] has no such bound.
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
        .map_err(|_elapsed| JournalError::Timeout(READ_TIMEOUT))??;
        Ok(rows.iter().map(event_from).collect())
    }

    /// At most `limit` events of a stream from a version on, ascending, all of them in memory: for
    /// small limits. [`Reader::read_stream`] has no such bound.
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

    /// Where a stream ends; `None` without events.
    pub async fn stream_end(
        &self,
        tenant: i32,
        stream: &str,
    ) -> Result<Option<StreamEnd>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(
                "select stream, version, position, recorded_at from journal.events
                 where tenant = $1 and stream = $2 order by version desc limit 1",
            )
            .await?;
        Ok(client.query_opt(&statement, &[&tenant, &stream]).await?.as_ref().map(end_from))
    }

    /// At most `limit` streams, by name in the order of their bytes: those after `after` whose
    /// names start with `prefix`. Costs two look-ups in the index a stream, however long they are.
    pub async fn streams(
        &self,
        tenant: i32,
        prefix: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<StreamEnd>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("reader/streams.sql")).await?;
        let rows = client.query(&statement, &[&tenant, &prefix, &after, &limit]).await?;
        Ok(rows.iter().map(end_from).collect())
    }

    /// Waits until everything that can be read now is as durable as what a writer acknowledges: on
    /// disk, and on the standbys that are waited for. Who says "accepted" of what it has read, and
    /// not written, asks this first: it may be visible and not replicated, where a commit's wait for
    /// the standby was called off.
    pub async fn await_durable(&self) -> Result<(), JournalError> {
        let client = self.pool.get().await?;
        let prove = "select pg_logical_emit_message(true, 'daybook', 'reader')";
        match tokio::time::timeout(DURABLE_TIMEOUT, client.execute(prove, &[])).await {
            Ok(proven) => Ok(proven.map(|_one| ())?),
            Err(_elapsed) => {
                // It is still busy: nobody else should wait behind this.
                drop(deadpool_postgres::Object::take(client));
                Err(JournalError::Timeout(DURABLE_TIMEOUT))
            }
        }
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

fn end_from(row: &Row) -> StreamEnd {
    StreamEnd {
        stream: row.get(0),
        version: row.get(1),
        position: row.get(2),
        recorded_at: row.get(3),
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
