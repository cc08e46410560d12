//! Telling what has moved: soon after its commit, together with what has moved meanwhile.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_postgres::{
    Client, Config, NoTls, Statement, Transaction,
    types::{ToSql, Type},
};
use tokio_util::sync::CancellationToken;

use super::{CHANNEL, RECONNECT, VERSIONS};

/// Least time between two statements that tell something. All read models move at nearly the same
/// moment, and every listener wakes for each statement.
const TELL_EVERY: Duration = Duration::from_millis(1);
/// Longest payload, bytes; PostgreSQL takes less than 8,000.
const PAYLOAD_MAX: usize = 7_500;

/// What has moved and was not told yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    state: Arc<Mutex<Moving>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Moving {
    untold: HashMap<(String, i32), Untold>,
    /// Whose changes have all been noted here since the last one that was told as "many".
    followed: HashSet<(String, i32)>,
}

#[derive(Debug)]
struct Untold {
    position: i64,
    /// Keys of the rows that changed; `None`: too many to name.
    keys: Option<BTreeSet<String>>,
    /// Length of the keys in the payload.
    bytes: usize,
}

impl Untold {
    fn add(&mut self, position: i64, keys: Option<Vec<String>>) {
        self.position = position;
        let (Some(known), Some(keys)) = (&mut self.keys, keys) else {
            self.keys = None;
            return;
        };
        for key in keys {
            let length = key.len() + 1;
            if known.insert(key) {
                self.bytes += length;
            }
        }
        if self.bytes > PAYLOAD_MAX {
            self.keys = None;
        }
    }

    fn payload(&self, name: &str, tenant: i32) -> String {
        let position = self.position;
        let Some(keys) = &self.keys else { return format!("{name}:{tenant}:{position}") };
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let payload = format!("{name}:{tenant}:{position}:[{}]", keys.join(","));
        if payload.len() > PAYLOAD_MAX {
            return format!("{name}:{tenant}:{position}");
        }
        payload
    }
}

impl Moved {
    /// Notes that a checkpoint has moved; it will be told soon, together with what is noted until
    /// then. `keys` are those of the rows that changed, each a JSON array of the key columns after
    /// the tenant, as `["7b…"]`; `None`: too many to name.
    pub(crate) fn note(
        &self,
        projection: &str,
        tenant: i32,
        position: i64,
        keys: Option<Vec<String>>,
    ) {
        let mut state = self.state.lock().expect("no code panics while holding it");
        let place = (projection.to_owned(), tenant);
        // What changed before, another process may have died with.
        let keys = if state.followed.insert(place.clone()) { None } else { keys };
        state
            .untold
            .entry(place)
            .or_insert(Untold { position, keys: Some(BTreeSet::new()), bytes: 0 })
            .add(position, keys);
        drop(state);
        self.wake.notify_one();
    }

    /// Somebody else has moved a checkpoint: what changed meanwhile may have been told by nobody,
    /// so the next change is told as "many".
    pub(crate) fn lost(&self, projection: &str, tenant: i32) {
        let mut state = self.state.lock().expect("no code panics while holding it");
        state.followed.remove(&(projection.to_owned(), tenant));
    }

    fn take(&self) -> HashMap<(String, i32), Untold> {
        let mut state = self.state.lock().expect("no code panics while holding it");
        std::mem::take(&mut state.untold)
    }

    /// Puts back what could not be told; its keys are not worth keeping.
    fn put_back(&self, untold: HashMap<(String, i32), Untold>) {
        for ((projection, tenant), untold) in untold {
            self.lost(&projection, tenant);
            self.note(&projection, tenant, untold.position, None);
        }
    }

    /// Tells what has moved, one statement for all that has gathered while the one before ran.
    pub(crate) async fn run(self, config: Config, shutdown: CancellationToken) {
        let mut client: Option<Teller> = None;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = async {
                    self.wake.notified().await;
                    tokio::time::sleep_until(next).await;
                } => {}
            }
            next = Instant::now() + TELL_EVERY;
            if client.as_ref().is_none_or(|teller| teller.client.is_closed()) {
                client = connect(&config).await;
            }
            let Some(open) = &client else {
                tokio::time::sleep(RECONNECT).await;
                self.wake.notify_one();
                continue;
            };
            let untold = self.take();
            let payloads: Vec<String> =
                untold.iter().map(|((name, tenant), u)| u.payload(name, *tenant)).collect();
            if let Err(error) = open.tell(&payloads).await {
                tracing::debug!(%error, "moved positions could not be told");
                client = None;
                self.put_back(untold);
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

/// Tells each of some payloads.
const TELL: &str = "select pg_notify($1, p) from unnest($2::text[]) as p";

/// Tells payloads to all listeners, in one round trip.
pub(crate) async fn tell(
    client: &Client,
    payloads: &[String],
) -> Result<(), tokio_postgres::Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&CHANNEL, Type::TEXT), (&payloads, Type::TEXT_ARRAY)];
    client.execute_typed(TELL, &parameters).await.map(|_| ())
}

/// Tells all listeners, with the transaction's commit, that some version is another now.
pub(crate) async fn tell_versions(
    transaction: &Transaction<'_>,
) -> Result<(), tokio_postgres::Error> {
    transaction.execute("select pg_notify($1, $2)", &[&CHANNEL, &VERSIONS]).await.map(|_| ())
}

/// A connection that tells, with its statement prepared.
struct Teller {
    client: Client,
    statement: Statement,
}

impl Teller {
    async fn tell(&self, payloads: &[String]) -> Result<(), tokio_postgres::Error> {
        self.client.execute(&self.statement, &[&CHANNEL, &payloads]).await.map(|_| ())
    }
}

async fn connect(config: &Config) -> Option<Teller> {
    let connected = async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        // Whoever is told finds rows that are there already: nothing of this need reach the disk,
        // and everything told would wait for that.
        client.batch_execute("set synchronous_commit = off").await?;
        let statement = client.prepare(TELL).await?;
        Ok::<_, tokio_postgres::Error>(Teller { client, statement })
    };
    match connected.await {
        Ok(client) => Some(client),
        Err(error) => {
            tracing::debug!(%error, "no connection for notifications");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(moved: &Moved) -> Vec<String> {
        moved.take().iter().map(|((name, tenant), u)| u.payload(name, *tenant)).collect()
    }

    fn key(n: usize) -> Vec<String> {
        vec![format!("[\"{n}\"]")]
    }

    #[test]
    fn keys_are_gathered_until_they_are_told() {
        let moved = Moved::default();
        moved.note("t", 1, 4, Some(key(1)));
        assert_eq!(payloads(&moved), ["t:1:4"], "what was before this process is unknown");
        moved.note("t", 1, 5, Some(key(1)));
        moved.note("t", 1, 7, Some(key(2)));
        moved.note("t", 1, 8, Some(key(1)));
        moved.note("t", 1, 9, Some(Vec::new()));
        assert_eq!(payloads(&moved), ["t:1:9:[[\"1\"],[\"2\"]]"]);
        moved.note("t", 1, 10, Some(Vec::new()));
        assert_eq!(payloads(&moved), ["t:1:10:[]"]);
        moved.note("t", 1, 11, Some(key(1)));
        moved.note("t", 1, 12, None);
        moved.note("t", 1, 13, Some(key(1)));
        assert_eq!(payloads(&moved), ["t:1:13"]);
        moved.lost("t", 1);
        moved.note("t", 1, 14, Some(key(1)));
        assert_eq!(payloads(&moved), ["t:1:14"]);
    }

    #[test]
    fn more_keys_than_fit_are_many_and_what_was_not_told_is_told_as_many() {
        let moved = Moved::default();
        moved.note("t", 1, 1, None);
        moved.take();
        for n in 0..5_000 {
            moved.note("t", 1, 2, Some(key(n)));
        }
        assert_eq!(payloads(&moved), ["t:1:2"]);
        for n in 0..500 {
            moved.note("t", 1, 3, Some(key(n)));
        }
        let told = payloads(&moved);
        assert!((3_000..8_000).contains(&told[0].len()), "{}", told[0].len());
        moved.note("t", 1, 4, Some(key(1)));
        moved.put_back(moved.take());
        assert_eq!(payloads(&moved), ["t:1:4"]);
    }
}
