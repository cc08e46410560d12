//! Wake-ups: how far each tenant's journal reaches, as soon as it is known.

mod tail;

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_util::sync::CancellationToken;

use crate::reader::Reader;

/// Channel of the notifications that a writer sends after a commit: `<tenant>:<position>`.
pub(crate) const CHANNEL: &str = "daybook_journal";

/// How often heads are read without a notification: a lost wake-up costs this much latency.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Pause before the notification connection is made anew.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

type Watches = Arc<Mutex<HashMap<i32, watch::Sender<i64>>>>;

/// Newest head heard of, per tenant. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heads {
    watches: Watches,
}

/// The part of [`Heads`] that listens; give it to a task.
#[derive(Debug)]
pub struct HeadsTask {
    heads: Heads,
    config: tokio_postgres::Config,
    reader: Reader,
}

impl Heads {
    /// Heads heard through one connection of its own, with polling through `reader` as the net.
    pub fn new(config: tokio_postgres::Config, reader: Reader) -> (Self, HeadsTask) {
        let heads = Self::default();
        (heads.clone(), HeadsTask { heads, config, reader })
    }

    /// The tenant's head as it moves; 0 until something is known. A head that is seen here is
    /// committed. It may lag behind.
    pub fn watch(&self, tenant: i32) -> watch::Receiver<i64> {
        let mut watches = self.watches.lock().expect("no code panics while holding it");
        watches.entry(tenant).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Tells whoever watches in this process that the tenant's journal reaches a position, which
    /// must be committed: sooner than by the notification, which goes through PostgreSQL.
    pub fn note(&self, tenant: i32, position: i64) {
        self.advance(tenant, position);
    }

    fn advance(&self, tenant: i32, position: i64) {
        let mut watches = self.watches.lock().expect("no code panics while holding it");
        watches.entry(tenant).or_insert_with(|| watch::channel(0).0).send_if_modified(|head| {
            let newer = position > *head;
            if newer {
                *head = position;
            }
            newer
        });
    }

    fn watched(&self) -> Vec<i32> {
        let watches = self.watches.lock().expect("no code panics while holding it");
        watches
            .iter()
            .filter(|(_, sender)| sender.receiver_count() > 0)
            .map(|(id, _)| *id)
            .collect()
    }
}

impl HeadsTask {
    /// Listens and polls until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let listen = async {
            loop {
                if let Err(error) = self.listen().await {
                    tracing::debug!(%error, "journal notifications interrupted; polling meanwhile");
                }
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
        };
        let poll = async {
            let mut ticks = tokio::time::interval(POLL_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                for tenant in self.heads.watched() {
                    match self.reader.head(tenant).await {
                        Ok(position) => self.heads.advance(tenant, position),
                        Err(error) => tracing::debug!(%error, tenant, "head can't be read"),
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async { tokio::join!(listen, poll); } => {}
        }
    }

    async fn listen(&self) -> Result<(), tokio_postgres::Error> {
        let (client, mut connection) = self.config.connect(NoTls).await?;
        let (heard, mut messages) = mpsc::unbounded_channel();
        let drive = async {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(note) = message? {
                    heard.send(note.payload().to_owned()).ok();
                }
            }
            Ok(())
        };
        let advance = async {
            while let Some(payload) = messages.recv().await {
                let parsed = payload
                    .split_once(':')
                    .and_then(|(t, p)| Some((t.parse().ok()?, p.parse().ok()?)));
                if let Some((tenant, position)) = parsed {
                    self.heads.advance(tenant, position);
                }
            }
        };
        let listen = async {
            client.batch_execute(&format!("listen {CHANNEL}")).await?;
            // The client must outlive the connection, or the connection ends.
            std::future::pending::<Result<(), tokio_postgres::Error>>().await
        };
        tokio::select! {
            ended = drive => ended,
            () = advance => Ok(()),
            failed = listen => failed,
        }
    }
}
