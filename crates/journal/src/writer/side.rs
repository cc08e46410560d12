//! What a writer does beside its appends, on a connection of its own: wake-ups and snapshots.
//! Neither is needed for correctness, so its transactions don't wait for the disk.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use crate::follow;

/// Wake-ups come at most this often; commits between two of them share one.
const NOTIFY_EVERY: Duration = Duration::from_millis(1);
/// Pause before a lost connection is made anew.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// A state to be written down.
pub(super) struct Snapshot {
    pub(super) stream: String,
    pub(super) version: i32,
    pub(super) position: i64,
    pub(super) incarnation: Uuid,
    pub(super) fingerprint: [u8; 32],
    pub(super) mac: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// Tells followers of the journal how far it reaches, after commit and coalesced: never inside
/// the append's transaction, where PostgreSQL would make commits wait for each other. And keeps
/// snapshots.
pub(super) struct Side {
    config: tokio_postgres::Config,
    tenant: i32,
    committed: watch::Receiver<i64>,
    snapshots: mpsc::Receiver<Snapshot>,
}

impl Side {
    pub(super) fn new(
        config: tokio_postgres::Config,
        tenant: i32,
        committed: watch::Receiver<i64>,
        snapshots: mpsc::Receiver<Snapshot>,
    ) -> Self {
        Self { config, tenant, committed, snapshots }
    }

    /// Runs until the writer is gone. A failure costs followers latency and readers time, no more.
    pub(super) async fn run(mut self) {
        loop {
            match self.work().await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "wake-ups and snapshots interrupted"),
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn work(&mut self) -> Result<(), tokio_postgres::Error> {
        if self.committed.changed().await.is_err() {
            return Ok(());
        }
        self.committed.mark_changed();
        let (client, connection) = self.config.connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let worked = self.work_on(&client).await;
        driver.abort();
        worked
    }

    async fn work_on(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client
            .batch_execute("set synchronous_commit = off; set application_name = 'daybook writer'")
            .await?;
        let notify = client.prepare("select pg_notify($1, $2)").await?;
        let keep = client.prepare(include_str!("snapshot.sql")).await?;
        loop {
            tokio::select! {
                moved = self.committed.changed() => {
                    if moved.is_err() {
                        return Ok(());
                    }
                    let payload =
                        format!("{}:{}", self.tenant, *self.committed.borrow_and_update());
                    client.execute(&notify, &[&follow::CHANNEL, &payload]).await?;
                    tokio::time::sleep(NOTIFY_EVERY).await;
                }
                Some(snapshot) = self.snapshots.recv() => {
                    self.keep(client, &keep, &snapshot).await?;
                }
            }
        }
    }

    async fn keep(
        &self,
        client: &Client,
        statement: &Statement,
        snapshot: &Snapshot,
    ) -> Result<(), tokio_postgres::Error> {
        let Snapshot { stream, version, position, incarnation, fingerprint, mac, state } = snapshot;
        client
            .execute(
                statement,
                &[
                    &self.tenant,
                    stream,
                    &fingerprint.as_slice(),
                    version,
                    position,
                    incarnation,
                    mac,
                    state,
                ],
            )
            .await?;
        metrics::counter!("daybook_journal_snapshots_total").increment(1);
        Ok(())
    }
}
