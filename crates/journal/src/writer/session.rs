//! The writer's connection: the lock, the reads at one snapshot, and the append.

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
use tokio::{sync::watch, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement, error::SqlState};
use uuid::Uuid;

use super::{TakenKey, cache::Head};
use crate::{follow, record, upcast::Upcasters};

/// Events that a writer reads to catch up; further behind it forgets what it knows instead.
const TAIL_EVENTS: i64 = 10_000;

/// How long the locked path may wait for the lock, and sit idle while it has it: a process that
/// is stopped in the middle holds the others up no longer than this.
const LOCKED_PATH: &str = "begin isolation level read committed; \
     set local lock_timeout = '8s'; \
     set local idle_in_transaction_session_timeout = '2s'";

/// The connection can't be used any further; what was sent over it may have taken effect.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{}", explain(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer from PostgreSQL within {0:?}")]
    Timeout(Duration),
    #[error("synchronous_commit is {0}; on or remote_apply is needed, or commands could be lost")]
    Durability(String),
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

/// What an append came to.
pub(super) enum Appended {
    At(i64),
    Behind,
    Taken(Vec<TakenKey>),
    Refused(String),
}

/// An event as the fold needs it.
pub(super) struct ReadEvent {
    pub(super) position: i64,
    pub(super) stream: String,
    pub(super) version: i32,
    pub(super) kind: String,
    pub(super) schema_version: i16,
    pub(super) data: String,
}

/// Streams and tail, in one snapshot.
pub(super) struct Read {
    /// Whether the tail starts at the head it was asked for and reaches the journal's end.
    pub(super) connects: bool,
    /// In order of position.
    pub(super) events: Vec<ReadEvent>,
    /// The journal's end, if it moved.
    pub(super) head: Option<Head>,
}

/// One connection with everything prepared. Any error ends its use.
pub(super) struct Session {
    client: Client,
    tenant: i32,
    timeout: Duration,
    append: Statement,
    read: Statement,
    doubtful: Arc<AtomicBool>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket at once, so that PostgreSQL ends what is still running.
        self.driver.abort();
    }
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
            let (client, driver, doubtful) = connect(config).await?;
            // Statements are prepared while tables are empty, and a plan for an empty table is a
            // sequential scan that would stay.
            client
                .batch_execute(
                    "set enable_seqscan = off; set plan_cache_mode = force_generic_plan; \
                     set jit = off; set default_transaction_isolation = 'read committed'; \
                     set application_name = 'daybook writer'",
                )
                .await?;
            let level: String = client.query_one("show synchronous_commit", &[]).await?.get(0);
            if level != "on" && level != "remote_apply" {
                return Err(SessionError::Durability(level));
            }
            // A small transaction that writes WAL and waits for it: answers given from records
            // that another connection wrote are durable after it.
            client
                .execute("select pg_logical_emit_message(true, 'daybook', 'writer')", &[])
                .await?;
            let append = client.prepare(include_str!("append.sql")).await?;
            let read = client.prepare(&upcasters.in_sql(include_str!("read.sql"))).await?;
            Ok(Self { client, tenant, timeout, append, read, doubtful, driver })
        });
        let session = opened.await.map_err(|_elapsed| SessionError::Timeout(timeout))??;
        session.certain()?;
        Ok(session)
    }

    /// The journal's end now.
    pub(super) async fn head(&self) -> Result<Head, SessionError> {
        let row = self
            .within(self.client.query_opt(
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
            .within(self.client.query_opt(
                "select mac from journal.events where tenant = $1 and position = $2",
                &[&self.tenant, &position],
            ))
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// All events of `streams`, and those of every stream since `head`.
    pub(super) async fn read(&self, head: &Head, streams: &[String]) -> Result<Read, SessionError> {
        let until = head.position + TAIL_EVENTS;
        let rows = self
            .within(
                self.client.query(&self.read, &[&self.tenant, &head.position, &until, &streams]),
            )
            .await?;
        let mut read = Read { connects: head.position == 0, events: Vec::new(), head: None };
        read.events.reserve(rows.len());
        for row in rows {
            let position: i64 = row.get(0);
            if position == head.position {
                read.connects = Some(row.get::<_, &[u8]>(6)) == head.mac.as_deref();
            }
            if position > head.position {
                read.head =
                    Some(Head { position, mac: Some(row.get(6)), recorded_at: Some(row.get(7)) });
            }
            read.events.push(ReadEvent {
                position,
                stream: row.get(1),
                version: row.get(2),
                kind: row.get(3),
                schema_version: row.get(4),
                data: row.get(5),
            });
        }
        if read.head.as_ref().is_some_and(|end| end.position >= until) {
            read.connects = false;
        }
        Ok(read)
    }

    /// Takes the tenant's lock, to keep until [`Session::end_locked`].
    pub(super) async fn begin_locked(&self) -> Result<(), SessionError> {
        self.within(self.client.batch_execute(LOCKED_PATH)).await?;
        self.within(self.client.execute("select journal.lock($1)", &[&self.tenant])).await?;
        Ok(())
    }

    /// Commits, or rolls back what a refused attempt left.
    pub(super) async fn end_locked(&self, commit: bool) -> Result<(), SessionError> {
        let end = if commit { "commit" } else { "rollback" };
        self.within(self.client.batch_execute(end)).await?;
        self.certain()
    }

    /// One round trip: lock, compare, write, commit.
    pub(super) async fn append(&self, a: &Append) -> Result<Appended, SessionError> {
        let answer = self
            .within_raw(self.client.query_one(
                &self.append,
                &[
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
                ],
            ))
            .await?;
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

/// Connects; warnings set the flag that is returned.
async fn connect(
    config: &tokio_postgres::Config,
) -> Result<(Client, JoinHandle<()>, Arc<AtomicBool>), tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let doubtful = Arc::new(AtomicBool::new(false));
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
    Ok((client, driver, doubtful))
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

/// Tells followers of the journal how far it reaches, after commit and coalesced: never inside
/// the append's transaction, where PostgreSQL would make commits wait for each other.
pub(super) struct Notifier {
    config: tokio_postgres::Config,
    tenant: i32,
    committed: watch::Receiver<i64>,
}

impl Notifier {
    pub(super) fn new(
        config: tokio_postgres::Config,
        tenant: i32,
        committed: watch::Receiver<i64>,
    ) -> Self {
        Self { config, tenant, committed }
    }

    /// Runs until the writer is gone. A failure costs followers latency only: they poll too.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.notify().await {
                tracing::debug!(%error, "journal wake-ups interrupted");
            } else {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn notify(&mut self) -> Result<(), tokio_postgres::Error> {
        if self.committed.changed().await.is_err() {
            return Ok(());
        }
        let (client, driver, _) = connect(&self.config).await?;
        let notify = client.prepare("select pg_notify($1, $2)").await?;
        loop {
            let payload = format!("{}:{}", self.tenant, *self.committed.borrow_and_update());
            client.execute(&notify, &[&follow::CHANNEL, &payload]).await?;
            if self.committed.changed().await.is_err() {
                driver.abort();
                return Ok(());
            }
        }
    }
}
