//! Who waits for a position is woken by a notification: sent after commit, coalesced.

mod tell;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::value::RawValue;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_postgres::{AsyncMessage, Config, NoTls};
use tokio_util::sync::CancellationToken;

pub(crate) use tell::{Moved, tell, tell_versions};

/// Channel on which moved checkpoints are told, `<projection>:<tenant>:<position>` each, followed
/// by `:<keys>`, a JSON array of the keys of changed rows, unless these are too many.
pub(crate) const CHANNEL: &str = "daybook_read";
/// What is told on it when a version was made, changed, switched to or dropped.
pub(crate) const VERSIONS: &str = "versions";
/// How often positions are read although nothing was heard: a lost notification costs no more.
const POLL: Duration = Duration::from_secs(1);
/// Wait before a lost connection is tried again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Changes that a receiver may be behind before it misses some.
const CHANGES: usize = 4_096;

/// Keys of changed rows; `None`: any row may have changed.
type Keys = Option<Arc<[String]>>;

/// A projection has moved for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChange {
    /// The projection.
    pub projection: Arc<str>,
    /// The tenant.
    pub tenant: i32,
    /// Where its rows stand now.
    pub position: i64,
    /// Keys of the rows that changed, each a JSON array of the key columns after the tenant.
    pub keys: Keys,
}

/// What a receiver of changes is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// One projection has moved.
    Changed(ReadChange),
    /// Any row of any projection may have changed: the receiver was too slow, or other versions
    /// answer now.
    Missed,
}

/// Receives changes, each once.
#[derive(Debug)]
pub struct Changes {
    receiver: broadcast::Receiver<News>,
}

impl Changes {
    /// The next news; `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<News> {
        match self.receiver.recv().await {
            Ok(news) => Some(news),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(News::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Newest position heard of, per projection and tenant, and what has changed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadPositions {
    heard: Arc<Mutex<HashMap<(String, i32), Heard>>>,
    changes: broadcast::Sender<News>,
    versions: Arc<Notify>,
}

impl Default for ReadPositions {
    fn default() -> Self {
        Self {
            heard: Arc::default(),
            changes: broadcast::Sender::new(CHANGES),
            versions: Arc::default(),
        }
    }
}

/// What is known of one projection for one tenant.
#[derive(Debug, Default)]
struct Heard {
    position: i64,
    /// Up to here changes have been passed on.
    told: i64,
    /// Where it stood when it was last looked at: told by the next time, or never.
    looked: i64,
    /// Who waits for a position; the second number tells apart those who wait for the same one.
    waiting: BTreeMap<(i64, u64), oneshot::Sender<()>>,
    waiters: u64,
}

impl Heard {
    fn at(&mut self, position: i64) {
        self.position = position;
        let later = self.waiting.split_off(&(position + 1, 0));
        for (_, waiter) in std::mem::replace(&mut self.waiting, later) {
            waiter.send(()).ok();
        }
    }
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

    /// The newest position heard of, 0 before any. May fall after a rebuild or a restore, never
    /// otherwise.
    pub fn position(&self, projection: &str, tenant: i32) -> i64 {
        let heard = self.heard();
        heard.get(&(projection.to_owned(), tenant)).map_or(0, |heard| heard.position)
    }

    /// Completes once a projection has been heard to stand at a position or beyond. Who waits
    /// costs nothing until then, however often the projection moves.
    pub async fn reached(&self, projection: &str, tenant: i32, position: i64) {
        let place = (projection.to_owned(), tenant);
        let (waiter, reached) = oneshot::channel();
        let number = {
            let mut heard = self.heard();
            let heard = heard.entry(place.clone()).or_default();
            if heard.position >= position {
                return;
            }
            heard.waiters += 1;
            heard.waiting.insert((position, heard.waiters), waiter);
            heard.waiters
        };
        let _gone = Waiting { positions: self, place, at: (position, number) };
        reached.await.ok();
    }

    /// Every change from now on.
    pub fn changes(&self) -> Changes {
        Changes { receiver: self.changes.subscribe() }
    }

    /// Completes when it is heard that a version was made, changed, switched to or dropped.
    pub(crate) async fn versions_changed(&self) {
        self.versions.notified().await;
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<(String, i32), Heard>> {
        self.heard.lock().expect("no code panics while holding it")
    }

    /// A notification came.
    fn told(&self, projection: &str, tenant: i32, position: i64, keys: Keys) {
        let mut heard = self.heard();
        let heard = heard.entry((projection.to_owned(), tenant)).or_default();
        heard.told = position.max(heard.told);
        if position > heard.position {
            heard.at(position);
        }
        self.pass_on(projection, tenant, position, keys);
    }

    /// The checkpoint was looked at. `anew`: notifications may have been lost before.
    fn looked(&self, projection: &str, tenant: i32, position: i64, anew: bool) {
        let mut heard = self.heard();
        let heard = heard.entry((projection.to_owned(), tenant)).or_default();
        let fell = position < heard.position;
        // What stood here a look ago and is still untold will not be told any more.
        let untold = heard.looked.min(position) > heard.told || (anew && position > heard.told);
        heard.looked = position;
        if position != heard.position {
            heard.at(position);
        }
        if fell || untold {
            heard.told = position;
            self.pass_on(projection, tenant, position, None);
        }
    }

    fn pass_on(&self, projection: &str, tenant: i32, position: i64, keys: Keys) {
        // Nobody need be interested.
        let change = ReadChange { projection: projection.into(), tenant, position, keys };
        self.changes.send(News::Changed(change)).ok();
    }
}

/// Takes a waiter out that has gone away.
struct Waiting<'a> {
    positions: &'a ReadPositions,
    place: (String, i32),
    at: (i64, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(heard) = self.positions.heard().get_mut(&self.place) {
            heard.waiting.remove(&self.at);
        }
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
            let mut anew = true;
            loop {
                for row in client
                    .query(
                        "select projection, tenant, position from projection.active
                         join projection.checkpoints using (projection, version)",
                        &[],
                    )
                    .await?
                {
                    self.positions.looked(row.get(0), row.get(1), row.get(2), anew);
                }
                anew = false;
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
            self.positions.changes.send(News::Missed).ok();
        } else if let Some((projection, tenant, position, keys)) = read_payload(payload) {
            self.positions.told(projection, tenant, position, keys);
        }
    }
}

/// A payload as [`tell::Moved`] makes it; `None` for anything else.
fn read_payload(payload: &str) -> Option<(&str, i32, i64, Keys)> {
    let mut parts = payload.splitn(4, ':');
    let (projection, tenant, position) = (parts.next()?, parts.next()?, parts.next()?);
    // Keys that can't be read may be any.
    let keys = parts.next().and_then(|keys| {
        let keys: Vec<&RawValue> = serde_json::from_str(keys).ok()?;
        Some(keys.iter().map(|key| key.get().to_owned()).collect())
    });
    Some((projection, tenant.parse().ok()?, position.parse().ok()?, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        let (name, tenant, position, keys) = read_payload("t:1:9:[[\"a:b\"],[7, \"c\"]]").unwrap();
        assert_eq!((name, tenant, position), ("t", 1, 9));
        assert_eq!(&*keys.unwrap(), ["[\"a:b\"]", "[7, \"c\"]"]);
        assert_eq!(read_payload("t:1:9"), Some(("t", 1, 9, None)));
        assert_eq!(read_payload("t:1:9:[").unwrap().3, None);
        assert_eq!(read_payload("t:1:9:[]").unwrap().3.unwrap().len(), 0);
        for wrong in ["", "t", "t:1", "t:x:9", "t:1:x"] {
            assert_eq!(read_payload(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_its_position_and_leaves_nothing_behind() {
        let positions = ReadPositions::default();
        positions.reached("t", 1, 0).await;
        let waiting = |position| {
            let positions = positions.clone();
            tokio::spawn(async move { positions.reached("t", 1, position).await })
        };
        let (five, six, seven) = (waiting(5), waiting(6), waiting(7));
        tokio::task::yield_now().await;
        let waiters = || positions.heard()[&("t".to_owned(), 1)].waiting.len();
        assert_eq!(waiters(), 3);
        positions.told("t", 1, 6, None);
        five.await.unwrap();
        six.await.unwrap();
        assert_eq!(waiters(), 1);
        seven.abort();
        assert!(seven.await.is_err());
        assert_eq!(waiters(), 0);
        positions.reached("t", 1, 6).await;
        assert_eq!((positions.position("t", 1), positions.position("t", 2)), (6, 0));
    }

    /// The keys of every change there is.
    fn drained(changes: &mut Changes) -> Vec<(i64, Option<usize>)> {
        std::iter::from_fn(|| changes.receiver.try_recv().ok())
            .map(|news| match news {
                News::Changed(change) => (change.position, change.keys.map(|keys| keys.len())),
                News::Missed => panic!("nothing was missed"),
            })
            .collect()
    }

    #[test]
    fn what_was_not_told_is_found_by_looking_and_a_late_notification_is_no_loss() {
        let positions = ReadPositions::default();
        let mut changes = positions.changes();
        let keys = || Some(Arc::from([String::new()]));
        positions.looked("t", 1, 3, true);
        assert_eq!(drained(&mut changes), [(3, None)], "before it listened, anything happened");
        positions.told("t", 1, 4, keys());
        // looked at before the notification has come
        positions.looked("t", 1, 5, false);
        positions.told("t", 1, 5, keys());
        positions.looked("t", 1, 5, false);
        positions.looked("t", 1, 5, false);
        assert_eq!(drained(&mut changes), [(4, Some(1)), (5, Some(1))]);
        // of this one nothing is heard
        positions.looked("t", 1, 6, false);
        assert_eq!(drained(&mut changes), []);
        assert_eq!(positions.position("t", 1), 6, "who waits is woken at once");
        positions.looked("t", 1, 6, false);
        positions.looked("t", 1, 6, false);
        assert_eq!(drained(&mut changes), [(6, None)]);
        // a restore
        positions.looked("t", 1, 2, false);
        assert_eq!(drained(&mut changes), [(2, None)]);
    }

    #[tokio::test]
    async fn a_receiver_that_is_too_slow_is_told_that_it_missed_something() {
        let positions = ReadPositions::default();
        let mut changes = positions.changes();
        for position in 0..=i64::try_from(CHANGES).unwrap() {
            positions.told("t", 1, position, None);
        }
        assert_eq!(changes.next().await, Some(News::Missed));
        assert!(matches!(changes.next().await, Some(News::Changed(c)) if c.position == 1));
    }
}
