//! The writer's connections: the lock, the reads, and the append.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls, Row, Statement, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::cache::Head;
use crate::{
    durability::{NotDurable, check_durability},
    record,
    submission::Verdict,
    upcast::Upcasters,
};

/// Events that a writer reads to catch up; further behind it forgets what it knows instead.
const TAIL_EVENTS: i64 = 10_000;

/// How long the locked path may wait for the lock, and sit idle while it has it: a process that
/// is stopped in the middle holds the others up no longer than this.
const LOCKED_PATH: &str = "begin isolation level read committed; \
     set local lock_timeout = '8s'; \
     set local idle_in_transaction_session_timeout = '2s'";

/// Statements are prepared while tables are small, and on a page or two all plans cost the same: a
/// scan from end to end, or the head found by sorting everything, would stay while the tables grow.
/// Everything that a writer asks is found by an index and in its order.
const SETTINGS: &str = "set enable_seqscan = off; set enable_bitmapscan = off; \
     set enable_sort = off; set plan_cache_mode = force_generic_plan; set jit = off; \
     set default_transaction_isolation = 'read committed'; \
     set application_name = 'daybook writer'";

/// The connection can't be used any further; what was sent over it may have taken effect.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{}", explain(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer from PostgreSQL within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Durability(#[from] NotDurable),
    #[error("PostgreSQL committed without its standby: the outcome is not certain yet")]
    Unreplicated,
}

fn explain(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{error}: {}", db.message()))
}

/// Everything that one append writes, as parallel arrays.
#[derive(Debug, Default)]
pub(super) struct Append {
    pub(super) head: Head,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) streams: Vec<String>,
    pub(super) versions: Vec<i32>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) schema_versions: Vec<i16>,
    pub(super) occurred_at: Vec<DateTime<Utc>>,
    pub(super) data: Vec<String>,
    pub(super) meta: Vec<String>,
    pub(super) macs: Vec<Vec<u8>>,
    pub(super) principals: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) fingerprints: Vec<Vec<u8>>,
    pub(super) positions: Vec<Option<i64>>,
    pub(super) keep_s: Vec<Option<i64>>,
    pub(super) outcomes: Vec<Option<String>>,
    pub(super) job_ids: Vec<Uuid>,
    pub(super) job_positions: Vec<i64>,
    pub(super) job_delays_ms: Vec<i32>,
    pub(super) job_kinds: Vec<&'static str>,
    pub(super) job_payloads: Vec<String>,
    pub(super) job_sealed: Vec<Option<Vec<u8>>>,
}

/// An idempotency record that stands in a batch's way.
pub(super) struct TakenKey {
    pub(super) principal: String,
    pub(super) key: String,
    pub(super) fingerprint: Vec<u8>,
    /// `None`: the record is damaged.
    pub(super) verdict: Option<Verdict>,
}

/// What an append came to.
pub(super) enum Appended {
    /// Committed; the head is at this position.
    At(i64),
    /// Somebody else has appended; nothing was written.
    Behind,
    /// These keys have records; nothing was written.
    Taken(Vec<TakenKey>),
    /// PostgreSQL refused the batch because of its data.
    Refused(String),
    /// PostgreSQL refused the batch because this machine's clock runs ahead of its own.
    ClockAhead(String),
}

/// An event as the fold needs it, in its type's current version.
#[derive(Debug, Clone)]
pub(super) struct ReadEvent {
    pub(super) position: i64,
    pub(super) stream: String,
    pub(super) version: i32,
    pub(super) kind: String,
    pub(super) schema_version: i16,
    /// `None`: not read; the stream's state after the event isn't known.
    pub(super) data: Option<String>,
}

/// A stream's snapshot.
pub(super) struct ReadSnapshot {
    pub(super) position: i64,
    pub(super) stream: String,
    pub(super) version: i32,
    pub(super) mac: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// Streams as one snapshot of the database has them.
pub(super) struct ReadStreams {
    pub(super) snapshots: Vec<ReadSnapshot>,
    /// Those behind the snapshots, each stream's in order.
    pub(super) events: Vec<ReadEvent>,
}

/// What was appended behind a head.
pub(super) struct Tail {
    /// Whether it starts at the head it was asked for and reaches the journal's end.
    pub(super) connects: bool,
    /// In order of position.
    pub(super) events: Vec<ReadEvent>,
    /// The journal's end, if it moved.
    pub(super) end: Option<Head>,
}

/// A connection that is closed with its socket when it is dropped, so that PostgreSQL ends what is
/// still running on it.
struct Line {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Two connections with everything prepared: one appends, the other reads meanwhile. Any error
/// ends the use of both.
pub(super) struct Session {
    writing: Line,
    reading: Line,
    tenant: i32,
    timeout: Duration,
    incarnation: Uuid,
    append: Statement,
    lock: Statement,
    tail: Statement,
    streams: Statement,
    doubtful: Arc<AtomicBool>,
}

impl Session {
    /// Connects, checks durability, and proves that everything committed before is replicated.
    /// Events are read in the form that `upcasters` lift them to.
    pub(super) async fn open(
        config: &tokio_postgres::Config,
        tenant: i32,
        timeout: Duration,
        upcasters: &Upcasters,
    ) -> Result<Self, SessionError> {
        let opened = tokio::time::timeout(timeout, async {
            let doubtful = Arc::new(AtomicBool::new(false));
            let writing = connect(config, &doubtful).await?;
            let reading = connect(config, &doubtful).await?;
            for line in [&writing, &reading] {
                line.client.batch_execute(SETTINGS).await?;
            }
            check_durability(&writing.client).await??;
            // A small transaction that writes WAL and waits for it: answers given from records
            // that another connection wrote are durable after it.
            let prove = "select pg_logical_emit_message(true, 'daybook', 'writer')";
            writing.client.execute(prove, &[]).await?;
            let incarnation =
                reading.client.query_one("select journal.incarnation()", &[]).await?.get(0);
            let append = writing.client.prepare(include_str!("append.sql")).await?;
            let lock = writing.client.prepare("select journal.lock($1)").await?;
            let tail = writing.client.prepare(&upcasters.in_sql(include_str!("tail.sql"))).await?;
            let streams =
                reading.client.prepare(&upcasters.in_sql(include_str!("streams.sql"))).await?;
            Ok::<_, SessionError>(Self {
                writing,
                reading,
                tenant,
                timeout,
                incarnation,
                append,
                lock,
                tail,
                streams,
                doubtful,
            })
        });
        let session = opened.await.map_err(|_elapsed| SessionError::Timeout(timeout))??;
        session.certain()?;
        Ok(session)
    }

    /// The history that positions are of.
    pub(super) fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    /// The journal's end now.
    pub(super) async fn head(&self) -> Result<Head, SessionError> {
        let row = self
            .within(self.writing.client.query_opt(
                "select position, mac, recorded_at from journal.events where tenant = $1
                 order by position desc limit 1",
                &[&self.tenant],
            ))
            .await?;
        Ok(row.map_or_else(Head::default, |row| Head {
            position: row.get(0),
            mac: Some(row.get(1)),
            recorded_at: Some(row.get(2)),
        }))
    }

    /// Mac of the event at a position.
    pub(super) async fn mac_at(&self, position: i64) -> Result<Option<Vec<u8>>, SessionError> {
        let row = self
            .within(self.writing.client.query_opt(
                "select mac from journal.events where tenant = $1 and position = $2",
                &[&self.tenant, &position],
            ))
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Snapshots made under `fingerprint` of streams, and their events behind those; of the
    /// `distrusted` ones all events.
    pub(super) async fn streams(
        &self,
        streams: &[String],
        fingerprint: &[u8],
        distrusted: &[String],
    ) -> Result<ReadStreams, SessionError> {
        let rows = self
            .within(self.reading.client.query(
                &self.streams,
                &[&self.tenant, &streams, &fingerprint, &self.incarnation, &distrusted],
            ))
            .await?;
        let mut read =
            ReadStreams { snapshots: Vec::new(), events: Vec::with_capacity(rows.len()) };
        for row in rows {
            if row.get::<_, Option<&str>>(3).is_some() {
                read.events.push(read_event(&row));
            } else {
                read.snapshots.push(ReadSnapshot {
                    position: row.get(0),
                    stream: row.get(1),
                    version: row.get(2),
                    mac: row.get(6),
                    state: row.get(7),
                });
            }
        }
        // The order of rows is the plan's, not the statement's.
        read.events.sort_unstable_by_key(|event| event.position);
        Ok(read)
    }

    /// Takes the tenant's lock, to keep until [`Session::append_locked`] or
    /// [`Session::release`], and reads what was appended behind `head`: one round trip.
    pub(super) async fn lock(&self, head: &Head) -> Result<Tail, SessionError> {
        let client = &self.writing.client;
        let until = head.position + TAIL_EVENTS;
        let tenant: [&(dyn ToSql + Sync); 1] = [&self.tenant];
        let range: [&(dyn ToSql + Sync); 3] = [&self.tenant, &head.position, &until];
        let (begun, locked, rows) = self
            .within_raw(async {
                // Sent at once, executed one after the other; each has a snapshot of its own, so
                // the tail is as of a time when the lock was held.
                tokio::join!(
                    client.batch_execute(LOCKED_PATH),
                    client.execute(&self.lock, &tenant),
                    client.query(&self.tail, &range),
                )
            })
            .await?;
        begun?;
        locked?;
        let mut tail = Tail { connects: head.position == 0, events: Vec::new(), end: None };
        for row in rows? {
            let position: i64 = row.get(0);
            if position == head.position {
                tail.connects = Some(row.get::<_, &[u8]>(6)) == head.mac.as_deref();
                continue;
            }
            tail.end =
                Some(Head { position, mac: Some(row.get(6)), recorded_at: Some(row.get(7)) });
            tail.events.push(read_event(&row));
        }
        if tail.end.as_ref().is_some_and(|end| end.position >= until) {
            tail.connects = false;
        }
        Ok(tail)
    }

    /// Gives the lock back without having written.
    pub(super) async fn release(&self) -> Result<(), SessionError> {
        self.within(self.writing.client.batch_execute("rollback")).await
    }

    /// One round trip: lock, compare, write, commit.
    pub(super) async fn append(&self, append: &Append) -> Result<Appended, SessionError> {
        let answer = self.within_raw(self.call_append(append)).await?;
        self.appended(answer)
    }

    /// The same where the lock is held already; gives it back.
    pub(super) async fn append_locked(&self, append: &Append) -> Result<Appended, SessionError> {
        let (answer, ended) = self
            .within_raw(async {
                // After a failed append this is a rollback.
                let commit = self.writing.client.batch_execute("commit");
                tokio::join!(self.call_append(append), commit)
            })
            .await?;
        ended?;
        self.appended(answer)
    }

    async fn call_append(&self, a: &Append) -> Result<Row, tokio_postgres::Error> {
        let values: [&(dyn ToSql + Sync); 24] = [
            &self.tenant,
            &a.head.position,
            &a.head.mac,
            &a.recorded_at,
            &a.streams,
            &a.versions,
            &a.kinds,
            &a.schema_versions,
            &a.occurred_at,
            &a.data,
            &a.meta,
            &a.macs,
            &a.principals,
            &a.keys,
            &a.fingerprints,
            &a.positions,
            &a.keep_s,
            &a.outcomes,
            &a.job_ids,
            &a.job_positions,
            &a.job_delays_ms,
            &a.job_kinds,
            &a.job_payloads,
            &a.job_sealed,
        ];
        self.writing.client.query_one(&self.append, &values).await
    }

    fn appended(
        &self,
        answer: Result<Row, tokio_postgres::Error>,
    ) -> Result<Appended, SessionError> {
        self.certain()?;
        let error = match answer {
            Ok(row) => {
                let position: i64 = row.get(0);
                return Ok(if position < 0 { Appended::Behind } else { Appended::At(position) });
            }
            Err(error) => error,
        };
        let Some(database) = error.as_db_error() else { return Err(error.into()) };
        if *database.code() == SqlState::from_code("DB001") {
            return Ok(Appended::Taken(taken(database.detail().unwrap_or("[]"))));
        }
        if *database.code() == SqlState::from_code("DB002") {
            return Ok(Appended::ClockAhead(database.message().to_owned()));
        }
        // Class 22 is bad data, 23 a broken constraint, 54 a limit of the server.
        if ["22", "23", "54"].iter().any(|class| database.code().code().starts_with(class)) {
            return Ok(Appended::Refused(database.message().to_owned()));
        }
        Err(error.into())
    }

    /// A commit that did not wait for its standby says so in a warning.
    fn certain(&self) -> Result<(), SessionError> {
        if self.doubtful.load(Ordering::Acquire) { Err(SessionError::Unreplicated) } else { Ok(()) }
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SessionError> {
        Ok(self.within_raw(answer).await??)
    }

    async fn within_raw<T>(&self, answer: impl Future<Output = T>) -> Result<T, SessionError> {
        tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_elapsed| SessionError::Timeout(self.timeout))
    }
}

fn read_event(row: &Row) -> ReadEvent {
    ReadEvent {
        position: row.get(0),
        stream: row.get(1),
        version: row.get(2),
        kind: row.get(3),
        schema_version: row.get(4),
        data: row.get(5),
    }
}

/// Connects; warnings set the flag.
async fn connect(
    config: &tokio_postgres::Config,
    doubtful: &Arc<AtomicBool>,
) -> Result<Line, tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let seen = doubtful.clone();
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.severity() == "WARNING"
            {
                tracing::warn!(message = notice.message(), "PostgreSQL warns the writer");
                seen.store(true, Ordering::Release);
            }
        }
    });
    Ok(Line { client, driver })
}

#[derive(Deserialize)]
struct TakenRow {
    principal: String,
    key: String,
    fingerprint: String,
    position: Option<i64>,
    outcome: Value,
}

fn taken(detail: &str) -> Vec<TakenKey> {
    let rows: Vec<TakenRow> = serde_json::from_str(detail).unwrap_or_default();
    rows.into_iter()
        .map(|row| TakenKey {
            principal: row.principal,
            key: row.key,
            fingerprint: hex::decode(row.fingerprint).unwrap_or_default(),
            verdict: record::verdict(row.position, row.outcome),
        })
        .collect()
}
