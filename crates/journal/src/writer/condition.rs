//! What keeps a writer that runs from writing, and the look whether it still does.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls};

use crate::durability::check_durability;

/// How far ahead of the database's clock a batch may be; `journal.append` says the same.
const MOST_AHEAD: TimeDelta = TimeDelta::seconds(2);
/// How often a writer that can't write looks whether it can again: nobody may send it commands
/// meanwhile, by which it would notice.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a [`super::Writer`] can't write now. Its process should get no requests until it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Its task has ended.
    #[error("stopped")]
    Stopped,
    /// A batch was refused because this machine's clock is more than two seconds ahead of the
    /// database's.
    #[error("this machine's clock is ahead of the database's")]
    ClockAhead,
    /// PostgreSQL is set so that what was acknowledged could be lost.
    #[error("the database is not set to keep what it has acknowledged")]
    NotDurable,
}

/// A writer's condition, shared by the handle and the task. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Condition(watch::Sender<Option<NotReady>>);

impl Default for Condition {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Condition {
    pub(super) fn get(&self) -> Result<(), NotReady> {
        self.0.borrow().map_or(Ok(()), Err)
    }

    pub(super) fn set(&self, trouble: NotReady) {
        self.0.send_replace(Some(trouble));
    }

    /// It has written: whatever it was is over.
    pub(super) fn clear(&self) {
        self.0.send_if_modified(|trouble| trouble.take().is_some());
    }

    /// Looks after a trouble until it is over; never ends.
    pub(super) async fn watch(&self, config: &Config) {
        let mut condition = self.0.subscribe();
        loop {
            if condition.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match look(config).await {
                Ok(true) => {
                    tracing::info!("what kept the writer from writing is over");
                    self.clear();
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the database can't be looked at"),
            }
        }
    }
}

/// Whether a batch would be accepted.
async fn look(config: &Config) -> Result<bool, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let fine = is_fine(&client).await;
    driver.abort();
    fine
}

async fn is_fine(client: &Client) -> Result<bool, tokio_postgres::Error> {
    if check_durability(client).await?.is_err() {
        return Ok(false);
    }
    let here = Utc::now();
    let there: DateTime<Utc> = client.query_one("select clock_timestamp()", &[]).await?.get(0);
    Ok(here - there <= MOST_AHEAD)
}
