//! Noticing versions that were made, changed, switched to or dropped, while running.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio_postgres::{AsyncMessage, Config, NoTls};
use tokio_util::sync::CancellationToken;

use crate::{
    notify::{CHANNEL, VERSIONS},
    versions::{self, Version},
};

/// How often it is looked although nothing was heard.
const POLL: Duration = Duration::from_secs(1);
/// Wait before a lost connection is tried again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Sends every version whenever something about one has changed, until shutdown, over a connection
/// of its own.
pub(crate) async fn watch_versions(
    config: Config,
    sender: watch::Sender<Vec<Version>>,
    shutdown: CancellationToken,
) {
    let mut known = None;
    loop {
        let lost = tokio::select! {
            () = shutdown.cancelled() => return,
            lost = follow(&config, &sender, &mut known) => lost,
        };
        if let Err(error) = lost {
            tracing::warn!(%error, "the versions of projections can't be read");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn follow(
    config: &Config,
    sender: &watch::Sender<Vec<Version>>,
    known: &mut Option<String>,
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let heard = Arc::new(Notify::new());
    let hear = Arc::clone(&heard);
    // The connection must be driven for `client` to get answers, so it runs beside.
    let driver = async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(told) = message?
                && told.payload() == VERSIONS
            {
                hear.notify_one();
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    };
    let look = async {
        client.batch_execute(&format!("listen {CHANNEL}")).await?;
        loop {
            let now = versions::fingerprint(&client).await?;
            if known.as_ref() != Some(&now) {
                sender.send_replace(versions::versions(&client).await?);
                *known = Some(now);
            }
            tokio::time::timeout(POLL, heard.notified()).await.ok();
        }
    };
    tokio::select! {
        ended = driver => ended,
        failed = look => failed,
    }
}
