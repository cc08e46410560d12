//! Which versions of event types may be written, and which processes can read what.
//!
//! A new version is first shipped readable. It is written from its activation on, which is refused
//! while a registered process can't read it; and a process that can't read what is activated
//! doesn't start. So no process ever meets an event that it can't read.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use deadpool_postgres::{Pool, PoolError};
use tokio_postgres::{Client, error::SqlState};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a process looks for activations: so much later it begins to write a new version.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a process says that it is still there; it lapses after `journal.process_lapse()`.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// A version of an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventVersion {
    /// Event type, as `OrderPlaced`.
    pub kind: &'static str,
    /// Version of its schema, from 1.
    pub version: i16,
}

impl fmt::Display for EventVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.version)
    }
}

/// An event can't be written: its version is not activated, and no activated one can say it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}/{version} is not activated")]
pub struct NotActivated {
    /// Event type, as `OrderPlaced`.
    pub kind: &'static str,
    /// The version that would have to be activated.
    pub version: i16,
}

/// The versions that may be written, as far as this process knows; what is activated stays so.
/// Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct Activations {
    known: Arc<HashMap<(&'static str, i16), AtomicBool>>,
}

impl Activations {
    fn new(known: &[EventVersion], activated: bool) -> Self {
        let known =
            known.iter().map(|v| ((v.kind, v.version), AtomicBool::new(activated))).collect();
        Self { known: Arc::new(known) }
    }

    /// Every one of these may be written.
    pub fn all(known: &[EventVersion]) -> Self {
        Self::new(known, true)
    }

    /// None of these may be written until [`Activations::activate`].
    pub fn none(known: &[EventVersion]) -> Self {
        Self::new(known, false)
    }

    /// Whether the version may be written.
    pub fn contains(&self, kind: &str, version: i16) -> bool {
        self.known.get(&(kind, version)).is_some_and(|known| known.load(Ordering::Acquire))
    }

    /// From here on the version may be written. One that this program doesn't know it can't write.
    pub fn activate(&self, kind: &str, version: i16) {
        if let Some(known) = self.known.get(&(kind, version)) {
            known.store(true, Ordering::Release);
        }
    }
}

/// An activation, a registration or a look at them failed.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// PostgreSQL answered with an error.
    #[error("activations: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("activations: no connection: {0}")]
    Pool(#[from] PoolError),
    /// A version is activated that this program can't read; it must not run.
    #[error("activated here, and this program can't read it: {0}; run a newer program")]
    Unreadable(String),
    /// Processes can't read the version. It can be activated when they have been replaced or have
    /// been gone for half a minute.
    #[error("these processes can't read it; replace or stop them first: {}", .0.join(", "))]
    Blind(Vec<String>),
    /// The version before is not activated.
    #[error("{0}")]
    OutOfOrder(String),
}

impl ActivationError {
    fn of(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else { return error.into() };
        let detail = database.detail().unwrap_or_default();
        if *database.code() == SqlState::from_code("DB003") {
            Self::Unreadable(detail.to_owned())
        } else if *database.code() == SqlState::from_code("DB004") {
            Self::Blind(serde_json::from_str(detail).unwrap_or_default())
        } else if *database.code() == SqlState::from_code("DB005") {
            Self::OutOfOrder(database.message().to_owned())
        } else {
            error.into()
        }
    }
}

/// An activated version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// Event type.
    pub kind: String,
    /// Version of its schema.
    pub version: i16,
    /// Since when it may be written.
    pub since: DateTime<Utc>,
}

/// A process that reads events, as it registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredProcess {
    /// Roles, machine and process number.
    pub name: String,
    /// When it registered first.
    pub started_at: DateTime<Utc>,
    /// When it was last heard of.
    pub seen_at: DateTime<Utc>,
    /// Whether it still counts.
    pub alive: bool,
    /// Newest version it can read of each type.
    pub reads: BTreeMap<String, i16>,
}

/// Everything that is activated, in order of type and version.
pub async fn activated(client: &Client) -> Result<Vec<Activated>, ActivationError> {
    let rows = client
        .query(
            "select type, version, activated_at from journal.activations order by type, version",
            &[],
        )
        .await?;
    let activated = |row: &tokio_postgres::Row| Activated {
        kind: row.get(0),
        version: row.get(1),
        since: row.get(2),
    };
    Ok(rows.iter().map(activated).collect())
}

/// The processes that are registered, lapsed ones included, in order of name.
pub async fn processes(client: &Client) -> Result<Vec<RegisteredProcess>, ActivationError> {
    let rows = client
        .query(
            "select name, started_at, seen_at,
                    seen_at > clock_timestamp() - journal.process_lapse(), types, versions
             from journal.processes order by name",
            &[],
        )
        .await?;
    let process = |row: &tokio_postgres::Row| {
        let (types, versions): (Vec<String>, Vec<i16>) = (row.get(4), row.get(5));
        RegisteredProcess {
            name: row.get(0),
            started_at: row.get(1),
            seen_at: row.get(2),
            alive: row.get(3),
            reads: types.into_iter().zip(versions).collect(),
        }
    };
    Ok(rows.iter().map(process).collect())
}

/// From here on the version is written, by every process within a second. `false`: it was
/// activated already. [`ActivationError::Blind`] while a registered process can't read it.
pub async fn activate(client: &Client, version: EventVersion) -> Result<bool, ActivationError> {
    let row = client
        .query_one("select journal.activate($1, $2)", &[&version.kind, &version.version])
        .await
        .map_err(ActivationError::of)?;
    Ok(row.get(0))
}

/// What a migration activates by itself, and how many versions that were: all of `known` in a
/// journal without events; `first` in one that was written before activations were kept; nothing
/// in any other.
pub async fn adopt(
    client: &Client,
    known: &[EventVersion],
    first: &[EventVersion],
) -> Result<i64, ActivationError> {
    let ((known_kinds, known_versions), (first_kinds, first_versions)) =
        (columns(known), columns(first));
    let row = client
        .query_one(
            "select journal.adopt_activations($1, $2, $3, $4)",
            &[&known_kinds, &known_versions, &first_kinds, &first_versions],
        )
        .await
        .map_err(ActivationError::of)?;
    Ok(row.get(0))
}

fn columns(versions: &[EventVersion]) -> (Vec<&'static str>, Vec<i16>) {
    versions.iter().map(|v| (v.kind, v.version)).unzip()
}

/// Registers this process as one that reads these versions, under a name that a person can find
/// it by. [`ActivationError::Unreadable`]: another version is activated; it must not run.
///
/// The view that is returned is as of now and stays so until the task runs.
pub async fn register(
    pool: Pool,
    name: String,
    known: &[EventVersion],
) -> Result<(Activations, ProcessTask), ActivationError> {
    let mut newest: BTreeMap<&'static str, i16> = BTreeMap::new();
    for EventVersion { kind, version } in known {
        let newest = newest.entry(kind).or_insert(*version);
        *newest = (*newest).max(*version);
    }
    let task = ProcessTask {
        pool,
        id: Uuid::new_v4(),
        name,
        newest,
        activations: Activations::none(known),
    };
    task.register().await?;
    task.look().await?;
    Ok((task.activations.clone(), task))
}

/// The part of a registration that stays alive; give it to a task.
#[derive(Debug)]
pub struct ProcessTask {
    pool: Pool,
    id: Uuid,
    name: String,
    newest: BTreeMap<&'static str, i16>,
    activations: Activations,
}

impl ProcessTask {
    /// Keeps the registration and the view of activations fresh until `shutdown`, then ends the
    /// registration. Fails if this process had lapsed and meanwhile something was activated that
    /// it can't read: the process must end. A database that doesn't answer is waited for.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ActivationError> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = looks.tick() => {}
            }
            let fresh = async {
                if heard.elapsed() >= HEARTBEAT_EVERY {
                    self.heartbeat().await?;
                    heard = tokio::time::Instant::now();
                }
                self.look().await
            };
            match fresh.await {
                Ok(()) => {}
                Err(error @ ActivationError::Unreadable(_)) => return Err(error),
                Err(error) => tracing::debug!(%error, "activations can't be looked at"),
            }
        }
        if let Err(error) = self.unregister().await {
            tracing::debug!(%error, "the registration stays until it lapses");
        }
        Ok(())
    }

    async fn register(&self) -> Result<(), ActivationError> {
        let (kinds, versions): (Vec<&str>, Vec<i16>) =
            self.newest.iter().map(|(kind, version)| (*kind, *version)).unzip();
        self.pool
            .get()
            .await?
            .execute(
                "select journal.register_process($1, $2, $3, $4)",
                &[&self.id, &self.name, &kinds, &versions],
            )
            .await
            .map_err(ActivationError::of)?;
        Ok(())
    }

    async fn heartbeat(&self) -> Result<(), ActivationError> {
        let client = self.pool.get().await?;
        let alive: bool =
            client.query_one("select journal.heartbeat($1)", &[&self.id]).await?.get(0);
        drop(client);
        if alive { Ok(()) } else { self.register().await }
    }

    /// One small read: there is a row a version.
    async fn look(&self) -> Result<(), ActivationError> {
        let client = self.pool.get().await?;
        let statement =
            client.prepare_cached("select type, version from journal.activations").await?;
        for row in client.query(&statement, &[]).await? {
            self.activations.activate(row.get(0), row.get(1));
        }
        Ok(())
    }

    async fn unregister(&self) -> Result<(), ActivationError> {
        let client = self.pool.get().await?;
        client.execute("select journal.deregister_process($1)", &[&self.id]).await?;
        Ok(())
    }
}
