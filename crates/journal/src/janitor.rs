//! The janitor: removes idempotency records that have expired and jobs that were done long ago.

use std::time::{Duration, Instant};

use tokio_postgres::{Config, NoTls, Statement, types::ToSql};
use tokio_util::sync::CancellationToken;

/// Named limits of a janitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JanitorSettings {
    /// Rows that one transaction removes at most, at least 1.
    pub piece_rows: i32,
    /// Rest between two full pieces, so that a large backlog leaves room for others.
    pub pause: Duration,
    /// Time between two sweeps.
    pub every: Duration,
    /// How long a job that is done is kept, whole seconds. Dead letters are kept for ever.
    pub keep_jobs: Duration,
}

impl Default for JanitorSettings {
    fn default() -> Self {
        Self {
            piece_rows: 1_000,
            pause: Duration::from_millis(100),
            every: Duration::from_mins(1),
            keep_jobs: Duration::from_hours(30 * 24),
        }
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expired idempotency records.
    pub commands: u64,
    /// Jobs that were done.
    pub jobs: u64,
}

/// Removes what nobody needs any more. Any number of them may run on one database: one sweeps, the
/// others find its lock and wait for their next turn.
///
/// A key is kept for at least as long as it was promised: one that has expired is still answered
/// with its outcome until it is removed, and is a new command from then on.
#[derive(Debug, Clone)]
pub struct Janitor {
    config: Config,
    settings: JanitorSettings,
}

impl Janitor {
    /// A janitor whose login may execute `journal.remove_expired_commands` and
    /// `journal.remove_done_jobs`.
    pub fn new(mut config: Config, settings: JanitorSettings) -> Self {
        config.application_name("daybook janitor");
        Self { config, settings }
    }

    /// Sweeps now and then until shutdown. A database that is away is waited for.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let started = Instant::now();
            let swept = tokio::select! {
                () = shutdown.cancelled() => return,
                swept = self.sweep() => swept,
            };
            match swept {
                Ok(Some(swept)) => {
                    metrics::histogram!("daybook_janitor_sweep_seconds")
                        .record(started.elapsed().as_secs_f64());
                    if swept != Swept::default() {
                        let Swept { commands, jobs } = swept;
                        tracing::info!(commands, jobs, "removed what has expired");
                    }
                }
                Ok(None) => tracing::debug!("another process sweeps"),
                Err(error) => {
                    metrics::counter!("daybook_janitor_failures_total").increment(1);
                    tracing::warn!(%error, "nothing can be removed now, trying again");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.settings.every) => {}
            }
        }
    }

    /// Removes everything that has expired, a piece a transaction. `None`: somebody else is at it.
    /// Dropped in the middle, it ends after the piece at hand.
    pub async fn sweep(&self) -> Result<Option<Swept>, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        // The socket closes with it, and PostgreSQL gives the lock back.
        let _closed = AbortOnDrop(connection);
        // What a crash brings back is removed again: no commit need wait for the disk.
        client
            .batch_execute(
                "set synchronous_commit = off; set statement_timeout = '60s'; set jit = off",
            )
            .await?;
        // "dayk", as the writers' locks; tenants count from 1 and migrations hold 0.
        let locked = client.query_one("select pg_try_advisory_lock(1684107371, -1)", &[]).await?;
        if !locked.get::<_, bool>(0) {
            return Ok(None);
        }
        let rows = self.settings.piece_rows.max(1);
        let keep_s = i64::try_from(self.settings.keep_jobs.as_secs()).unwrap_or(i64::MAX);
        let commands = client.prepare("select journal.remove_expired_commands($1)").await?;
        let jobs = client.prepare("select journal.remove_done_jobs($1, $2)").await?;
        Ok(Some(Swept {
            commands: self.pieces(&client, &commands, &[&rows], "commands").await?,
            jobs: self.pieces(&client, &jobs, &[&keep_s, &rows], "jobs").await?,
        }))
    }

    /// Runs the statement until it removes less than it might; how many rows in all.
    async fn pieces(
        &self,
        client: &tokio_postgres::Client,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
        what: &'static str,
    ) -> Result<u64, tokio_postgres::Error> {
        let mut total = 0;
        loop {
            let removed: i32 = client.query_one(statement, params).await?.get(0);
            let removed = u64::try_from(removed).unwrap_or(0);
            metrics::counter!("daybook_janitor_removed_total", "what" => what).increment(removed);
            total += removed;
            if removed < u64::try_from(self.settings.piece_rows.max(1)).unwrap_or(1) {
                return Ok(total);
            }
            tokio::time::sleep(self.settings.pause).await;
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
