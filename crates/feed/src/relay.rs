//! The relay: journal to Kafka, in order per tenant, without a gap.
//!
//! For each partition one process is active, held by an advisory lock of PostgreSQL; others wait
//! their turn. The active one reads what the partition holds already and goes on from there, so
//! each producer emits a contiguous ascending run per tenant that starts at or below what is in the
//! topic plus one. Whatever two relays do that both believe they are active, the topic then holds
//! repeats at worst.

mod group;
mod noting;
mod progress;
mod reading;
mod session;

use std::{collections::HashMap, sync::Arc, time::Duration};

use daybook_journal::{Heads, Reader, Tenant};
use deadpool_postgres::Pool;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::FeedConfig,
    error::FeedError,
    topic::ensure_topic,
    trouble::{Backoff, Trouble},
};

/// How often new tenants are looked for.
const TENANTS_EVERY: Duration = Duration::from_secs(1);

/// What the parts of a relay share.
struct Shared {
    config: FeedConfig,
    pool: Pool,
    reader: Reader,
    heads: Heads,
    sessions: session::Sessions,
}

/// Publishes the journal to Kafka. Any number may run; each partition has one that is active.
pub struct Relay {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay of the journal behind `reader`. `pool` is for its notes in schema `feed`;
    /// `pg_config` for the one connection that holds its locks and reads events, which must go to
    /// PostgreSQL directly; `heads` wakes it.
    pub fn new(
        config: FeedConfig,
        pool: Pool,
        pg_config: tokio_postgres::Config,
        reader: Reader,
        heads: Heads,
    ) -> Self {
        let sessions = session::Sessions::new(pg_config);
        Self { shared: Arc::new(Shared { config, pool, reader, heads, sessions }) }
    }

    /// Runs until `shutdown`; what is under way is then acknowledged, for a few seconds at most.
    ///
    /// PostgreSQL or Kafka going away is waited for. An error comes back only where waiting can't
    /// help: the topic's settings don't fit ([`FeedError::Unfit`]), or what it holds contradicts
    /// the journal.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), FeedError> {
        let stop = shutdown.child_token();
        let _stop_at_end = stop.clone().drop_guard();
        if !self.prepare_topic(&stop).await? {
            return Ok(());
        }
        let trouble = Trouble::new("relay: list of tenants");
        let mut backoff = Backoff::new();
        let mut groups = JoinSet::new();
        let mut running: HashMap<i32, watch::Sender<Vec<Tenant>>> = HashMap::new();
        loop {
            let pause = match self.shared.reader.tenants().await {
                Ok(tenants) => {
                    trouble.over();
                    backoff.reset();
                    for (partition, tenants) in self.by_partition(tenants)? {
                        let known = running.entry(partition).or_insert_with(|| {
                            let (sender, receiver) = watch::channel(tenants.clone());
                            let group =
                                group::Group::new(Arc::clone(&self.shared), partition, receiver);
                            groups.spawn(group.run(stop.clone()));
                            sender
                        });
                        known.send_if_modified(|known| {
                            let differ = *known != tenants;
                            *known = tenants;
                            differ
                        });
                    }
                    TENANTS_EVERY
                }
                Err(error) => {
                    trouble.report(&error);
                    backoff.next()
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                Some(ended) = groups.join_next() => Self::group_ended(ended, &stop)?,
            }
        }
        while let Some(ended) = groups.join_next().await {
            Self::group_ended(ended, &stop)?;
        }
        Ok(())
    }

    /// A partition's group ends by itself only for a reason.
    fn group_ended(
        ended: Result<Result<(), FeedError>, tokio::task::JoinError>,
        stop: &CancellationToken,
    ) -> Result<(), FeedError> {
        match ended {
            Ok(Ok(())) if stop.is_cancelled() => Ok(()),
            Ok(Ok(())) | Err(_) => Err(FeedError::Ended("a partition's relay")),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Waits for Kafka and makes or checks the topic; `false`: shut down meanwhile.
    async fn prepare_topic(&self, stop: &CancellationToken) -> Result<bool, FeedError> {
        let trouble = Trouble::new("relay: topic");
        let mut backoff = Backoff::new();
        loop {
            let ensured = tokio::select! {
                () = stop.cancelled() => return Ok(false),
                ensured = ensure_topic(&self.shared.config) => ensured,
            };
            match ensured {
                Ok(()) => {
                    trouble.over();
                    return Ok(true);
                }
                Err(error) if error.is_transient() => {
                    trouble.report(&error);
                    tokio::select! {
                        () = stop.cancelled() => return Ok(false),
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn by_partition(&self, tenants: Vec<Tenant>) -> Result<HashMap<i32, Vec<Tenant>>, FeedError> {
        let config = &self.shared.config;
        let mut partitions: HashMap<i32, Vec<Tenant>> = HashMap::new();
        for tenant in tenants {
            if tenant.partition >= config.partitions {
                return Err(FeedError::Unfit {
                    topic: config.topic.clone(),
                    detail: format!(
                        "tenant {} belongs to partition {}, and {} are configured",
                        tenant.name, tenant.partition, config.partitions
                    ),
                    remedy: "configure as many partitions as when the tenant was made".to_owned(),
                });
            }
            partitions.entry(tenant.partition).or_default().push(tenant);
        }
        Ok(partitions)
    }
}
