//! The jobs of `journal.jobs`: claimed under a lease, ended once.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Longest `last_error` that is kept, characters.
pub const MAX_ERROR_CHARS: usize = 500;
/// Most jobs that [`JobStore::list`] returns at once.
pub const MAX_LISTED: i64 = 10_000;

/// The job table can't be read or written now.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL answered with an error.
    #[error("jobs: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("jobs: no connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
}

/// A job that a worker holds under a lease.
#[derive(Clone, PartialEq)]
pub struct Job {
    /// Its id, derived from what it is for.
    pub id: Uuid,
    /// The tenant it belongs to.
    pub tenant: i32,
    /// Position of the last event of the command that made it.
    pub position: i64,
    /// What it does, as `charge_payment`.
    pub kind: String,
    /// References to what it is about.
    pub payload: Value,
    /// The sealed secret it needs, if it still has one.
    pub sealed: Option<Vec<u8>>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Proves that the job is ours; replaced when somebody else claims it.
    pub lease: Uuid,
    /// When it was claimed, by the database's clock.
    pub claimed_at: DateTime<Utc>,
    /// How long ago it was written, by the database's clock.
    pub age: Duration,
    /// How long it had been due.
    pub late: Duration,
    /// Correlation of the command that made it.
    pub correlation: Option<Uuid>,
    /// W3C trace context of the request that made it.
    pub traceparent: Option<String>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("kind", &self.kind)
            .field("payload", &self.payload)
            .field("has_secret", &self.sealed.is_some())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What a claim found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// Jobs that are now ours, longest due first.
    pub jobs: Vec<Job>,
    /// How long until the next job of the future becomes due, if there is one.
    pub next_due: Option<Duration>,
}

/// A job as a person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: Uuid,
    /// The tenant it belongs to.
    pub tenant: i32,
    /// Position of the last event of the command that made it.
    pub position: i64,
    /// What it does.
    pub kind: String,
    /// References to what it is about.
    pub payload: Value,
    /// Whether it still has its secret.
    pub has_secret: bool,
    /// How often it was tried.
    pub attempts: i32,
    /// What the last failed attempt failed of.
    pub last_error: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// When it is or was due.
    pub run_at: DateTime<Utc>,
    /// Until when a worker holds or held it.
    pub leased_until: Option<DateTime<Utc>>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was done or died.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// For its time, for a free worker, or after a failure.
    Waiting,
    /// A worker holds it.
    Running,
    /// A dead letter: given up, a person decides.
    Dead,
    /// Ended.
    Done,
}

impl JobState {
    /// Its name in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Waiting, Self::Running, Self::Dead, Self::Done]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is none of waiting, running, dead, done"))
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these; `None`: all that are not done.
    pub state: Option<JobState>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this tenant.
    pub tenant: Option<i32>,
}

/// Unfinished work of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStats {
    /// What the jobs do.
    pub kind: String,
    /// Waiting for their time, a worker, or another try.
    pub waiting: i64,
    /// Held by a worker.
    pub running: i64,
    /// Of the waiting ones, those that failed at least once.
    pub failed: i64,
    /// Dead letters.
    pub dead: i64,
    /// How long the longest due of the unfinished has been due.
    pub oldest_due: Option<Duration>,
}

/// Claims and ends jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobStore {
    pool: Pool,
}

impl JobStore {
    /// A store on a pool whose user may select and update `journal.jobs` and select
    /// `journal.events`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Takes up to `limit` due jobs of these kinds, each under a new lease. No two callers get the
    /// same job while its lease holds.
    pub async fn claim(
        &self,
        kinds: &[&str],
        limit: usize,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/claim.sql")).await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = client.query(&statement, &[&limit, &kinds, &millis(lease)]).await?;
        let next_due = rows
            .first()
            .map(|row| row.try_get::<_, Option<i64>>("next_due_in_ms"))
            .transpose()?
            .flatten()
            .map(from_millis);
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let Some(id) = row.try_get("id")? else { continue };
            let attempts: i32 = row.try_get("attempts")?;
            let correlation: Option<String> = row.try_get("correlation")?;
            jobs.push(Job {
                id,
                tenant: row.try_get("tenant")?,
                position: row.try_get("position")?,
                kind: row.try_get("kind")?,
                payload: row.try_get("payload")?,
                sealed: row.try_get("sealed")?,
                attempt: u32::try_from(attempts).unwrap_or(1),
                lease: row.try_get("lease")?,
                claimed_at: row.try_get("claimed_at")?,
                age: from_millis(row.try_get("age_ms")?),
                late: from_millis(row.try_get("late_ms")?),
                correlation: correlation.and_then(|text| text.parse().ok()),
                traceparent: row.try_get("traceparent")?,
            });
        }
        Ok(Claim { jobs, next_due })
    }

    /// Prolongs the lease to `lease` from now. `false`: the job is somebody else's.
    pub async fn renew(&self, job: &Job, lease: Duration) -> Result<bool, StoreError> {
        self.change(include_str!("sql/renew.sql"), &[&job.id, &job.lease, &millis(lease)]).await
    }

    /// Ends the job as done and clears its secret. `false`: it is somebody else's, nothing changed.
    pub async fn finish(&self, job: &Job) -> Result<bool, StoreError> {
        self.change(include_str!("sql/finish.sql"), &[&job.id, &job.lease]).await
    }

    /// Gives the job back after a failure, due again after `delay`. `false`: somebody else's.
    pub async fn retry_later(
        &self,
        job: &Job,
        delay: Duration,
        error: &str,
    ) -> Result<bool, StoreError> {
        self.change(
            include_str!("sql/retry_later.sql"),
            &[&job.id, &job.lease, &millis(delay), &shortened(error)],
        )
        .await
    }

    /// Gives the job back at once, this attempt not counted. `false`: somebody else's.
    pub async fn release(&self, job: &Job) -> Result<bool, StoreError> {
        self.change(include_str!("sql/release.sql"), &[&job.id, &job.lease]).await
    }

    /// Makes the job a dead letter and clears its secret. `false`: somebody else's.
    pub async fn bury(&self, job: &Job, error: &str) -> Result<bool, StoreError> {
        self.change(include_str!("sql/bury.sql"), &[&job.id, &job.lease, &shortened(error)]).await
    }

    /// Jobs for a person to look at, newest first, `limit` capped at [`MAX_LISTED`].
    pub async fn list(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let state = filter.state.map(JobState::as_str);
        self.rows(&[
            &state,
            &filter.kind,
            &filter.tenant,
            &limit.clamp(0, MAX_LISTED),
            &None::<Uuid>,
        ])
        .await
    }

    /// One job, in whatever state.
    pub async fn show(&self, id: Uuid) -> Result<Option<JobRow>, StoreError> {
        let rows =
            self.rows(&[&None::<&str>, &None::<&str>, &None::<i32>, &1_i64, &Some(id)]).await?;
        Ok(rows.into_iter().next())
    }

    /// Lets a dead letter start over, or a job that waits after a failure run now. `false`: there
    /// is no such job in such a state. A dead letter has lost its secret: a payment is looked up,
    /// not charged.
    pub async fn retry_now(&self, id: Uuid) -> Result<bool, StoreError> {
        self.change(include_str!("sql/retry_now.sql"), &[&id]).await
    }

    /// Ends a dead letter for good, with what it died of. `false`: there is no such dead letter.
    pub async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        let chars = i32::try_from(MAX_ERROR_CHARS).expect("a small constant");
        self.change(include_str!("sql/discard.sql"), &[&id, &chars]).await
    }

    /// Unfinished work by kind.
    pub async fn stats(&self) -> Result<Vec<KindStats>, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/stats.sql")).await?;
        let mut stats = Vec::new();
        for row in client.query(&statement, &[]).await? {
            stats.push(KindStats {
                kind: row.try_get("kind")?,
                waiting: row.try_get("waiting")?,
                running: row.try_get("running")?,
                failed: row.try_get("failed")?,
                dead: row.try_get("dead")?,
                oldest_due: row.try_get::<_, Option<i64>>("oldest_due_ms")?.map(from_millis),
            });
        }
        Ok(stats)
    }

    async fn change(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<bool, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, params).await? > 0)
    }

    async fn rows(&self, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<JobRow>, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/list.sql")).await?;
        let mut jobs = Vec::new();
        for row in client.query(&statement, params).await? {
            let state: String = row.try_get("state")?;
            jobs.push(JobRow {
                id: row.try_get("id")?,
                tenant: row.try_get("tenant")?,
                position: row.try_get("position")?,
                kind: row.try_get("kind")?,
                payload: row.try_get("payload")?,
                has_secret: row.try_get("has_secret")?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                state: state.parse().expect("the table's check and list.sql know no other state"),
                run_at: row.try_get("run_at")?,
                leased_until: row.try_get("leased_until")?,
                created_at: row.try_get("created_at")?,
                ended_at: row.try_get("ended_at")?,
            });
        }
        Ok(jobs)
    }
}

/// `$n * interval` takes a double.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn from_millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn shortened(error: &str) -> String {
    // PostgreSQL's text has no U+0000.
    error.chars().filter(|c| *c != '\0').take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_at_its_limit_and_storable() {
        assert_eq!(shortened(&"é".repeat(MAX_ERROR_CHARS + 1)).chars().count(), MAX_ERROR_CHARS);
        assert_eq!(shortened("a\0b"), "ab");
    }

    #[test]
    fn a_state_reads_as_it_prints() {
        for state in [JobState::Waiting, JobState::Running, JobState::Dead, JobState::Done] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("gone".parse::<JobState>().is_err());
    }
}
