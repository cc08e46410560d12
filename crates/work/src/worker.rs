//! The worker: claims what is due, runs it under a lease, ends it once its result is recorded.

use std::{sync::Arc, time::Duration};

use daybook_commands::Shop;
use deadpool_postgres::Pool;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::RetryPolicy,
    gateway::Gateway,
    handlers::{Failure, Hands, KINDS},
    store::{Job, JobStore, StoreError},
    token::TokenSeal,
    wake,
};

/// Named limits of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Jobs at once in this process, at least 1.
    pub concurrency: usize,
    /// How long a claim holds without a sign of life. Prolonged at every third of it.
    pub lease_ms: u64,
    /// How often to look for jobs when nothing is heard.
    pub poll_ms: u64,
    /// Shortest time between a wake-up and the next look, so that a busy journal with few jobs
    /// doesn't keep the worker looking.
    pub wake_gap_ms: u64,
    /// How long running jobs may go on after shutdown before they are given back.
    pub drain_ms: u64,
    /// How long one call to the gateway may take before its outcome counts as unknown.
    pub gateway_timeout_ms: u64,
    /// How long a result may wait in the journal's queue before the attempt fails.
    pub command_deadline_ms: u64,
    /// For how long the gateway surely remembers an idempotency key. Older payments and refunds are
    /// only looked up: the same request could move the money again.
    pub key_window_ms: u64,
    /// When failed jobs are tried again.
    pub retry: RetryPolicy,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            concurrency: 16,
            lease_ms: 30_000,
            poll_ms: 1_000,
            wake_gap_ms: 10,
            drain_ms: 15_000,
            gateway_timeout_ms: 10_000,
            command_deadline_ms: 30_000,
            key_window_ms: 23 * 60 * 60 * 1_000,
            retry: RetryPolicy::default(),
        }
    }
}

/// What a worker needs. Whoever hands in the shop keeps its writers running until the worker has
/// drained.
pub struct WorkerDeps {
    /// For the job table.
    pub pool: Pool,
    /// For one connection that listens for new jobs.
    pub listen: tokio_postgres::Config,
    /// Takes the results.
    pub shop: Shop,
    /// Moves the money.
    pub gateway: Arc<dyn Gateway>,
    /// Opens the gateway tokens.
    pub seal: TokenSeal,
    /// Limits.
    pub settings: WorkerSettings,
}

/// Runs jobs. Any number of workers may run on one database.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Works until shutdown, then lets running jobs end and gives back those that don't. A database
    /// that is away is waited for.
    pub async fn run(deps: WorkerDeps, shutdown: CancellationToken) {
        let WorkerDeps { pool, listen, shop, gateway, seal, settings } = deps;
        let hands = Hands {
            shop,
            gateway,
            seal,
            gateway_timeout: Duration::from_millis(settings.gateway_timeout_ms),
            command_deadline: Duration::from_millis(settings.command_deadline_ms),
            key_window: Duration::from_millis(settings.key_window_ms),
        };
        let bench = Arc::new(Bench { store: JobStore::new(pool), hands, settings });
        let wake = Notify::new();
        tokio::join!(wake::listen(&listen, &wake, &shutdown), dispatch(&bench, &wake, &shutdown));
    }
}

/// What running jobs share.
struct Bench {
    store: JobStore,
    hands: Hands,
    settings: WorkerSettings,
}

/// Claims jobs and runs them, never more at once than allowed.
async fn dispatch(bench: &Arc<Bench>, wake: &Notify, shutdown: &CancellationToken) {
    let concurrency = bench.settings.concurrency.max(1);
    let lease = Duration::from_millis(bench.settings.lease_ms);
    let poll = Duration::from_millis(bench.settings.poll_ms);
    let wake_gap = Duration::from_millis(bench.settings.wake_gap_ms);
    let give_back = CancellationToken::new();
    let mut running = JoinSet::new();
    let mut look_at = Instant::now();
    let mut reachable = true;
    while !shutdown.is_cancelled() {
        let free = concurrency - running.len();
        if free > 0 && look_at <= Instant::now() {
            let asked_at = Instant::now();
            match bench.store.claim(&KINDS, free, lease).await {
                Ok(claim) => {
                    reachable = true;
                    // A full hand: there may be more at once. Else at the next due time.
                    look_at = if claim.jobs.len() == free {
                        asked_at
                    } else {
                        Instant::now() + claim.next_due.map_or(poll, |due| due.min(poll))
                    };
                    for job in claim.jobs {
                        let held_until = asked_at + lease;
                        running.spawn(run_job(bench.clone(), job, held_until, give_back.clone()));
                    }
                }
                Err(error) => {
                    if std::mem::replace(&mut reachable, false) {
                        tracing::warn!(%error, "no jobs can be claimed, trying on");
                    }
                    look_at = Instant::now() + poll;
                }
            }
            metrics::gauge!("daybook_jobs_running").set(count(running.len()));
            continue;
        }
        let has_room = running.len() < concurrency;
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(ended) = running.join_next() => {
                if let Some(due) = due_again(ended) {
                    look_at = look_at.min(Instant::now() + due);
                }
            }
            () = wake.notified(), if has_room => {
                look_at = look_at.min(Instant::now() + wake_gap);
            }
            () = tokio::time::sleep_until(look_at), if has_room => {}
        }
    }
    let drain = Duration::from_millis(bench.settings.drain_ms);
    let drained = tokio::time::timeout(drain, join_all(&mut running)).await.is_ok();
    if !drained {
        tracing::warn!(jobs = running.len(), "giving back jobs that don't end");
        give_back.cancel();
        join_all(&mut running).await;
    }
}

async fn join_all(running: &mut JoinSet<Option<Duration>>) {
    while let Some(ended) = running.join_next().await {
        due_again(ended);
    }
}

/// How long until a job that has been run is due again, if it is.
fn due_again(ended: Result<Option<Duration>, tokio::task::JoinError>) -> Option<Duration> {
    ended.unwrap_or_else(|error| {
        // Its lease runs out, and it is tried again.
        tracing::error!(%error, "a job panicked");
        None
    })
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    /// Due again after this long.
    Retried(Duration),
    Dead,
    Released,
    LeaseLost,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried(_) => "retried",
            Self::Dead => "dead",
            Self::Released => "released",
            Self::LeaseLost => "lease_lost",
        }
    }
}

/// Runs a job and ends it or gives it back; how long until it is due again, if it is.
async fn run_job(
    bench: Arc<Bench>,
    job: Job,
    held_until: Instant,
    give_back: CancellationToken,
) -> Option<Duration> {
    let started = Instant::now();
    let kind = job.kind.clone();
    metrics::histogram!("daybook_job_pickup_seconds", "kind" => kind.clone())
        .record(job.late.as_secs_f64());
    let ended = attempt(&bench, &job, held_until, &give_back).await;
    metrics::histogram!("daybook_job_seconds", "kind" => kind.clone())
        .record(started.elapsed().as_secs_f64());
    match ended {
        Ok(ended) => {
            metrics::counter!("daybook_jobs_total", "kind" => kind, "outcome" => ended.as_str())
                .increment(1);
            match ended {
                Ended::Retried(delay) => Some(delay),
                Ended::Done | Ended::Dead | Ended::Released | Ended::LeaseLost => None,
            }
        }
        Err(error) => {
            // Its lease runs out, and whoever takes it finds the result recorded already.
            tracing::warn!(job = %job.id, kind, %error, "a job could not be ended");
            None
        }
    }
}

async fn attempt(
    bench: &Bench,
    job: &Job,
    held_until: Instant,
    give_back: &CancellationToken,
) -> Result<Ended, StoreError> {
    let (store, policy) = (&bench.store, &bench.settings.retry);
    if job.attempt > policy.max_attempts {
        // The last attempt took its worker down with it, or lost its lease.
        tracing::error!(job = %job.id, kind = job.kind, "job buried: the last attempt did not end");
        return Ok(if_ours(store.bury(job, "the last attempt did not end").await?, Ended::Dead));
    }
    let handled = tokio::select! {
        handled = bench.hands.handle(job) => handled,
        () = lease_lost(bench, job, held_until) => {
            tracing::warn!(job = %job.id, kind = job.kind, "lease lost, the attempt is abandoned");
            return Ok(Ended::LeaseLost);
        }
        () = give_back.cancelled() => {
            return Ok(if_ours(store.release(job).await?, Ended::Released));
        }
    };
    let Err(Failure { error, again }) = handled else {
        return Ok(if_ours(store.finish(job).await?, Ended::Done));
    };
    let delay = if again { policy.delay(job.attempt, rand::random()) } else { None };
    if let Some(delay) = delay {
        tracing::info!(job = %job.id, kind = job.kind, attempt = job.attempt, error, ?delay,
            "job failed, to be tried again");
        Ok(if_ours(store.retry_later(job, delay, &error).await?, Ended::Retried(delay)))
    } else {
        tracing::error!(job = %job.id, kind = job.kind, attempt = job.attempt, error,
            "job failed for good: a dead letter");
        Ok(if_ours(store.bury(job, &error).await?, Ended::Dead))
    }
}

/// Nothing changes when the lease is another's: whoever holds it ends the job.
fn if_ours(ours: bool, how: Ended) -> Ended {
    if ours { how } else { Ended::LeaseLost }
}

/// Prolongs the lease for as long as it is ours; returns when it isn't, or when it can't be told
/// and its time is up.
async fn lease_lost(bench: &Bench, job: &Job, mut held_until: Instant) {
    let lease = Duration::from_millis(bench.settings.lease_ms);
    loop {
        tokio::time::sleep(lease / 3).await;
        let asked_at = Instant::now();
        let renewed = tokio::time::timeout_at(held_until, bench.store.renew(job, lease)).await;
        match renewed {
            Ok(Ok(true)) => held_until = asked_at + lease,
            Ok(Ok(false)) => return,
            Ok(Err(error)) => {
                tracing::warn!(job = %job.id, %error, "lease not prolonged");
                if Instant::now() >= held_until {
                    return;
                }
            }
            Err(_elapsed) => return,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of jobs")]
fn count(jobs: usize) -> f64 {
    jobs as f64
}
