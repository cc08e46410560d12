//! Hears of new jobs as they are committed, over PostgreSQL's notifications.

use std::{future::poll_fn, time::Duration};

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Config, NoTls};
use tokio_util::sync::CancellationToken;

use crate::backoff::RetryPolicy;

/// How a lost connection is sought again: for ever.
const RECONNECT: RetryPolicy =
    RetryPolicy { first_ms: 100, ceiling_ms: 10_000, max_attempts: u32::MAX };
/// A connection that held so long was a good one: the backoff starts over.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// Notifies `wake` of every append heard of, until shutdown. A wake-up that is lost costs latency
/// only, since workers poll as well.
pub(crate) async fn listen(config: &Config, wake: &Notify, shutdown: &CancellationToken) {
    let mut failures = 0;
    loop {
        let since = tokio::time::Instant::now();
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            error = listen_once(config, wake) => error,
        };
        failures = if since.elapsed() >= GOOD_AFTER { 1 } else { failures + 1 };
        let delay = RECONNECT.delay(failures, rand::random()).unwrap_or(GOOD_AFTER);
        tracing::warn!(%error, ?delay, "not listening for new jobs, polling only");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

async fn listen_once(config: &Config, wake: &Notify) -> Lost {
    let (client, mut connection) = match config.connect(NoTls).await {
        Ok(connected) => connected,
        Err(error) => return Lost::Failed(error),
    };
    let subscribe = async {
        let subscribed = client.batch_execute("listen daybook_journal").await;
        // Whatever was appended before this is found by looking.
        wake.notify_one();
        match subscribed {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let hear = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => wake.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Lost::Failed(error),
                None => return Lost::Closed,
            }
        }
    };
    tokio::select! {
        lost = hear => lost,
        error = subscribe => Lost::Failed(error),
    }
}

/// Why nothing is heard any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// PostgreSQL or the network said so.
    #[error("{0}")]
    Failed(tokio_postgres::Error),
    /// The connection ended without a word.
    #[error("the connection was closed")]
    Closed,
}
