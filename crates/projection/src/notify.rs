//! Who waits for a position is woken by a notification: sent after commit, coalesced.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Transaction};
use tokio_util::sync::CancellationToken;

/// Channel on which moved checkpoints are told, `<projection>:<tenant>:<position>` each.
pub(crate) const CHANNEL: &str = "daybook_read";
/// What is told on it when a version was made, changed, switched to or dropped.
pub(crate) const VERSIONS: &str = "versions";
/// How often positions are read although nothing was heard: a lost notification costs no more.
const POLL: Duration = Duration::from_secs(1);
/// Wait before a lost connection is tried again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Positions that have moved and not been told yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    latest: Arc<Mutex<HashMap<(String, i32), i64>>>,
    wake: Arc<Notify>,
}

impl Moved {
    /// Notes that a checkpoint has moved; it will be told soon, unless a later one is first.
    /// `keys` are those of the rows that were touched, `None` too many to name.
    pub(crate) fn note(
        &self,
        projection: &str,
        tenant: i32,
        position: i64,
        _keys: Option<Vec<String>>,
    ) {
        let mut latest = self.latest.lock().expect("no code panics while holding it");
        latest.insert((projection.to_owned(), tenant), position);
        drop(latest);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<String> {
        let mut latest = self.latest.lock().expect("no code panics while holding it");
        latest.drain().map(|((name, tenant), at)| format!("{name}:{tenant}:{at}")).collect()
    }

    /// Tells what has moved, one statement for all that has gathered while the one before ran.
    pub(crate) async fn run(self, config: Config, shutdown: CancellationToken) {
        let mut client: Option<Client> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
            }
            if client.as_ref().is_none_or(Client::is_closed) {
                client = connect(&config).await;
            }
            let Some(open) = &client else {
                tokio::time::sleep(RECONNECT).await;
                self.wake.notify_one();
                continue;
            };
            let payloads = self.take();
            if let Err(error) = tell(open, &payloads).await {
                // listeners poll as well
                tracing::debug!(%error, "moved positions could not be told");
                client = None;
            }
        }
    }
}

/// Tells payloads to all listeners.
pub(crate) async fn tell(
    client: &Client,
    payloads: &[String],
) -> Result<(), tokio_postgres::Error> {
    client
        .execute("select pg_notify($1, p) from unnest($2::text[]) as p", &[&CHANNEL, &payloads])
        .await
        .map(|_| ())
}

/// Tells all listeners, with the transaction's commit, that some version is another now.
pub(crate) async fn tell_versions(
    transaction: &Transaction<'_>,
) -> Result<(), tokio_postgres::Error> {
    transaction.execute("select pg_notify($1, $2)", &[&CHANNEL, &VERSIONS]).await.map(|_| ())
}

async fn connect(config: &Config) -> Option<Client> {
    match config.connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Some(client)
        }
        Err(error) => {
            tracing::debug!(%error, "no connection for notifications");
            None
        }
    }
}

type Positions = Mutex<HashMap<(String, i32), watch::Sender<i64>>>;

/// Newest position heard of, per projection and tenant. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ReadPositions {
    positions: Arc<Positions>,
    versions: Arc<Notify>,
}

/// Keeps [`ReadPositions`] up to date; spawn its `run`.
#[derive(Debug)]
pub struct ReadPositionsTask {
    config: Config,
    positions: ReadPositions,
}

impl ReadPositions {
    /// Positions as told over one connection of their own, made with `config`.
    pub fn new(config: Config) -> (Self, ReadPositionsTask) {
        let positions = Self::default();
        (positions.clone(), ReadPositionsTask { config, positions })
    }

    /// The newest position of a projection for a tenant, as it changes. May fall after a rebuild
    /// of the journal's database, never otherwise.
    pub fn watch(&self, projection: &str, tenant: i32) -> watch::Receiver<i64> {
        let mut positions = self.positions.lock().expect("no code panics while holding it");
        positions
            .entry((projection.to_owned(), tenant))
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Completes when it is heard that a version was made, changed, switched to or dropped.
    pub(crate) async fn versions_changed(&self) {
        self.versions.notified().await;
    }

    fn heard(&self, projection: &str, tenant: i32, position: i64, may_fall: bool) {
        let mut positions = self.positions.lock().expect("no code panics while holding it");
        positions
            .entry((projection.to_owned(), tenant))
            .or_insert_with(|| watch::Sender::new(0))
            .send_if_modified(|known| {
                let news = position > *known || (may_fall && position < *known);
                if news {
                    *known = position;
                }
                news
            });
    }
}

impl ReadPositionsTask {
    /// Listens and polls until shutdown; reconnects by itself.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let lost = tokio::select! {
                () = shutdown.cancelled() => return,
                lost = self.listen() => lost,
            };
            if let Err(error) = lost {
                tracing::warn!(%error, "the connection that listens for positions is lost");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RECONNECT) => {}
            }
        }
    }

    async fn listen(&self) -> Result<(), tokio_postgres::Error> {
        let (client, mut connection) = self.config.connect(NoTls).await?;
        let (sender, mut heard) = mpsc::unbounded_channel();
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        // The connection must be driven for `client` to get answers, so it runs beside.
        let driver = async move {
            while let Some(message) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message? {
                    sender.send(notification).ok();
                }
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        let follow = async {
            client.batch_execute(&format!("listen {CHANNEL}")).await?;
            loop {
                for row in client
                    .query(
                        "select projection, tenant, position from projection.active
                         join projection.checkpoints using (projection, version)",
                        &[],
                    )
                    .await?
                {
                    self.positions.heard(row.get(0), row.get(1), row.get(2), true);
                }
                let poll = tokio::time::sleep(POLL);
                tokio::pin!(poll);
                loop {
                    tokio::select! {
                        () = &mut poll => break,
                        told = heard.recv() => match told {
                            Some(told) => self.told(told.payload()),
                            None => return Ok(()),
                        },
                    }
                }
            }
        };
        tokio::select! {
            ended = driver => ended,
            failed = follow => failed,
        }
    }

    fn told(&self, payload: &str) {
        if payload == VERSIONS {
            self.positions.versions.notify_one();
            return;
        }
        let mut parts = payload.split(':');
        let (Some(projection), Some(tenant), Some(position)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        if let (Ok(tenant), Ok(position)) = (tenant.parse(), position.parse()) {
            self.positions.heard(projection, tenant, position, false);
        }
    }
}
