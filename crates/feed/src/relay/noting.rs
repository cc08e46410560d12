//! Noting progress in PostgreSQL, and showing it in figures.

use std::{collections::HashMap, time::Duration};

use daybook_journal::Tenant;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Shared, progress::Progress};
use crate::{
    error::FeedError,
    note::{self, Note},
    trouble::Trouble,
};

/// How often progress is noted while there is some: this much is read again after a crash.
const NOTE_EVERY: Duration = Duration::from_millis(500);
/// How often figures are renewed without progress.
const FIGURES_EVERY: Duration = Duration::from_secs(2);

/// Notes progress and shows it in figures.
pub(super) struct Noting<'a> {
    pub(super) shared: &'a Shared,
    pub(super) partition: i32,
    pub(super) incarnation: Uuid,
    pub(super) progress: &'a Progress,
}

impl Noting<'_> {
    pub(super) async fn run(
        &self,
        tenants: watch::Receiver<Vec<Tenant>>,
    ) -> Result<std::convert::Infallible, FeedError> {
        let trouble = Trouble::new(format!("relay of partition {}: note", self.partition));
        let published = metrics::counter!("daybook_relay_published_total");
        let mut heads = HashMap::new();
        let mut counted = 0;
        loop {
            let _woken =
                tokio::time::timeout(FIGURES_EVERY, self.progress.acknowledged.notified()).await;
            let count = self.progress.count();
            published.increment(u64::try_from(count - counted).unwrap_or(0));
            self.show(&tenants.borrow(), &mut heads);
            if count > counted {
                match self.note().await {
                    Ok(()) => trouble.over(),
                    // A note that is behind costs reading, at the next start, no more.
                    Err(error) => trouble.report(&error),
                }
                counted = count;
                tokio::time::sleep(NOTE_EVERY).await;
            }
        }
    }

    /// Renews the figures of every tenant.
    fn show(&self, tenants: &[Tenant], heads: &mut HashMap<i32, watch::Receiver<i64>>) {
        let positions = self.progress.state().positions.clone();
        for tenant in tenants {
            let position = positions.get(&tenant.id).copied().unwrap_or(0);
            let head = *heads
                .entry(tenant.id)
                .or_insert_with(|| self.shared.heads.watch(tenant.id))
                .borrow();
            #[expect(clippy::cast_precision_loss, reason = "a figure for a chart")]
            for (gauge, value) in [
                ("daybook_relay_position", position as f64),
                ("daybook_relay_lag", (head - position).max(0) as f64),
            ] {
                metrics::gauge!(gauge, "tenant" => tenant.name.clone()).set(value);
            }
        }
    }

    /// Writes down what is acknowledged, if anything is.
    pub(super) async fn note(&self) -> Result<(), FeedError> {
        let note = {
            let state = self.progress.state();
            let Some((next_offset, last)) = state.reached else { return Ok(()) };
            Note {
                incarnation: self.incarnation,
                next_offset,
                last,
                positions: state.positions.clone(),
            }
        };
        note::save(&self.shared.pool, &self.shared.config.topic, self.partition, &note).await
    }
}
