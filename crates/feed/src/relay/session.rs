//! The relay's own connection to PostgreSQL: holds its locks and reads events.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{NoTls, Row, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{error::FeedError, lock};

/// How often the connection is tried out: a lock is lost with it.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the answer; a page of events may stand before it in the line.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection at a time, shared by the groups of a relay.
pub(super) struct Sessions {
    config: tokio_postgres::Config,
    current: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl Sessions {
    pub(super) fn new(config: tokio_postgres::Config) -> Self {
        Self { config, current: tokio::sync::Mutex::default() }
    }

    /// The current connection, made if there is none or it was lost.
    pub(super) async fn get(&self) -> Result<Arc<Session>, FeedError> {
        let mut current = self.current.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.lost.is_cancelled()) {
            return Ok(Arc::clone(session));
        }
        let session = tokio::time::timeout(CONNECT_TIMEOUT, Session::open(&self.config))
            .await
            .map_err(|_elapsed| FeedError::LockLost)??;
        let session = Arc::new(session);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }
}

/// A connection. Dropped, it ends, and PostgreSQL gives its locks to others.
pub(super) struct Session {
    client: Arc<tokio_postgres::Client>,
    page: Statement,
    /// Cancelled once the connection is gone.
    pub(super) lost: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
}

impl Session {
    async fn open(config: &tokio_postgres::Config) -> Result<Self, FeedError> {
        let mut config = config.clone();
        config.application_name("daybook relay");
        let (client, connection) = config.connect(NoTls).await?;
        let client = Arc::new(client);
        let lost = CancellationToken::new();
        let (driven, pinging) = (lost.clone(), Arc::clone(&client));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "relay's connection to PostgreSQL ended");
                    }
                }
                () = ping(pinging) => {}
                () = stopped.cancelled() => {}
            }
            driven.cancel();
        });
        client.batch_execute(include_str!("../sql/session.sql")).await?;
        let page = client.prepare(include_str!("../sql/page.sql")).await?;
        Ok(Self { client, page, lost, _stop: stop.drop_guard() })
    }

    /// Takes the lock of that name if nobody has it.
    pub(super) async fn try_lock(&self, name: &str) -> Result<bool, FeedError> {
        Ok(lock::try_take(&self.client, name).await?)
    }

    /// Gives the lock back.
    pub(super) async fn unlock(&self, name: &str) -> Result<(), FeedError> {
        let unlocked = "select pg_advisory_unlock(hashtextextended($1, 0))";
        self.client.query_one(unlocked, &[&name]).await?;
        Ok(())
    }

    /// Id of the journal's history.
    pub(super) async fn incarnation(&self) -> Result<Uuid, FeedError> {
        Ok(self.client.query_one("select journal.incarnation()", &[]).await?.get(0))
    }

    /// Mac of the tenant's event at a position, if there is one.
    pub(super) async fn mac(
        &self,
        tenant: i32,
        position: i64,
    ) -> Result<Option<Vec<u8>>, FeedError> {
        let mac = "select mac from journal.events where tenant = $1 and position = $2";
        Ok(self.client.query_opt(mac, &[&tenant, &position]).await?.map(|row| row.get(0)))
    }

    /// Position of the tenant's last event; 0 without events.
    pub(super) async fn head(&self, tenant: i32) -> Result<i64, FeedError> {
        let head = "select position from journal.events where tenant = $1
            order by position desc limit 1";
        Ok(self.client.query_opt(head, &[&tenant]).await?.map_or(0, |row| row.get(0)))
    }

    /// At most `limit` events after a position: the columns of `sql/page.sql`.
    pub(super) async fn page(
        &self,
        tenant: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Row>, FeedError> {
        Ok(self.client.query(&self.page, &[&tenant, &after, &limit]).await?)
    }
}

/// Ends when the connection gives no sign of life.
async fn ping(client: Arc<tokio_postgres::Client>) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let answer = tokio::time::timeout(PING_TIMEOUT, client.simple_query("")).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
    }
}
