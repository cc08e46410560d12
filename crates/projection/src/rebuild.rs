//! Making a projection's rows anew beside the old ones, and putting them in their place at once.

mod journal;
mod kafka;
mod share;

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use daybook_feed::{FeedConfig, FeedError};
use daybook_journal::{JournalError, Reader};
use tokio_postgres::Config;
use uuid::Uuid;

use crate::{
    copied::{CopyError, EventTable},
    definition::Definition,
    install::database_detail,
    notify,
    versions::{self, VersionState},
};
use share::Session;

/// So few positions may be missing when the old rows are locked for the last piece.
const LAST_PIECE_POSITIONS: i64 = 5_000;
/// Where a rebuild reads events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the journal.
    Journal,
    /// From the topic, from offset 0, and nothing from the journal's events.
    Kafka,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Kafka => "kafka",
        }
    }
}

/// What a rebuild needs.
#[derive(Debug, Clone)]
pub struct RebuildDeps {
    /// Connections are made with this; its login needs what a projector's needs, no more.
    pub config: Config,
    /// Reads the journal, which may be in another database than the rows.
    pub reader: Reader,
    /// The topic, needed for [`Source::Kafka`].
    pub feed: Option<FeedConfig>,
    /// Positions of the journal that one statement folds; `None`: 100,000.
    pub piece_positions: Option<i64>,
    /// In how many shares of the keys, each by a connection of its own, the journal is folded;
    /// `None`: two for a tenant with 300,000 positions or more, one for others. A rebuild that was
    /// ended in the middle keeps the number that it began with, and one from the topic has one.
    pub shares: Option<NonZeroU32>,
    /// Begin at the first event, also where an earlier rebuild was ended in the middle.
    pub anew: bool,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildReport {
    /// Name of the projection.
    pub projection: String,
    /// Position that its rows now stand for, by tenant.
    pub positions: Vec<(i32, i64)>,
    /// Positions that an earlier rebuild, which was ended in the middle, had done already.
    pub resumed: i64,
    /// In how many shares the journal of the tenant with the most of them was folded.
    pub shares: usize,
    /// Rows that came out differently from what stood there: inserted, changed or removed.
    pub changed_rows: i64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A rebuild failed; the old rows are untouched.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(String),
    /// Another rebuild of the same projection runs.
    #[error("projection {0} is being rebuilt by somebody else")]
    Busy(String),
    /// A rebuild from Kafka without a topic.
    #[error("no topic was given to rebuild from")]
    NoTopic,
    /// PostgreSQL answered with an error, or could not fold an event.
    #[error("rebuild: {}", database_detail(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The journal can't be read.
    #[error("rebuild: {0}")]
    Journal(#[from] JournalError),
    /// The topic can't be read, or doesn't hold all events.
    #[error("rebuild: {0}")]
    Feed(#[from] FeedError),
}

impl From<CopyError> for RebuildError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Database(error) => Self::Database(error),
            CopyError::Journal(error) => Self::Journal(error),
        }
    }
}

/// Makes the rows of a projection anew for every tenant. Queries and the running projector go on
/// meanwhile; only rows that come out differently are touched, in one transaction with the
/// checkpoint. `progress` hears (positions done, positions in sight) over all tenants; a position
/// that half of the shares have done is half done.
pub async fn rebuild(
    deps: &RebuildDeps,
    projection: &str,
    source: Source,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<RebuildReport, RebuildError> {
    let started = Instant::now();
    let session = Session::open(&deps.config).await?;
    let definition = versions::versions(&session.client)
        .await?
        .into_iter()
        .find(|v| v.definition.name == projection && v.state == VersionState::Active)
        .ok_or_else(|| RebuildError::Unknown(projection.to_owned()))?
        .definition;
    let events = EventTable::here(&session.client).await?;
    let mut rebuild = Rebuild {
        deps,
        definition,
        events,
        sessions: vec![session],
        locked_shares: 0,
        progress,
        before: 0,
        total: 0,
        resumed: 0,
        shares: 1,
    };
    let result = rebuild.run(source).await;
    for session in rebuild.sessions {
        session.close().await; // whatever happened: with it go the locks
    }
    let (positions, changed_rows) = result?;
    Ok(RebuildReport {
        projection: projection.to_owned(),
        positions,
        resumed: rebuild.resumed,
        shares: rebuild.shares,
        changed_rows,
        elapsed: started.elapsed(),
    })
}

struct Rebuild<'a> {
    deps: &'a RebuildDeps,
    definition: Definition,
    events: EventTable,
    /// One a share, the first of which does everything else as well.
    sessions: Vec<Session>,
    /// How many of them hold their share's lock.
    locked_shares: usize,
    progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    /// Positions of tenants that are done.
    before: i64,
    total: i64,
    resumed: i64,
    shares: usize,
}

/// How far the staging table is for a tenant.
#[derive(Debug, Clone)]
struct Staged {
    /// Up to where the keys of each share are folded.
    places: Vec<i64>,
    incarnation: Option<Uuid>,
}

impl Staged {
    /// Where the last of the shares stands: every key is folded up to here.
    fn behind(&self) -> i64 {
        self.places.iter().copied().min().unwrap_or(0)
    }

    /// Positions that are done, half of them where half of the shares have done them.
    fn mean(&self) -> i64 {
        self.places.iter().sum::<i64>() / i64::try_from(self.places.len()).unwrap_or(1)
    }
}

impl Rebuild<'_> {
    async fn run(&mut self, source: Source) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let Definition { name, version, .. } = &self.definition.clone();
        let first = self.first();
        first.lock_rebuild(name).await?;
        let forget = "delete from projection.rebuilds where projection = $1 and version = $2";
        if self.deps.anew || !self.can_go_on(source).await? {
            first.client.execute(forget, &[name, version]).await?;
            let make = "select projection.make_staging($1, $2)";
            first.client.execute(make, &[name, version]).await?;
        }
        let tenants = self.deps.reader.tenants().await?;
        let result = match source {
            Source::Journal => self.read_journal(&tenants).await,
            Source::Kafka => self.read_kafka(&tenants).await,
        };
        match result {
            Ok(done) => {
                let first = self.first();
                first.client.execute(forget, &[name, version]).await?;
                let drop = "select projection.drop_staging($1, $2)";
                first.client.execute(drop, &[name, version]).await?;
                Ok(done)
            }
            // what is staged stays: the next rebuild goes on from there
            Err(error) => {
                for session in &self.sessions {
                    session.client.batch_execute("rollback").await.ok();
                }
                Err(error)
            }
        }
    }

    fn first(&self) -> &Session {
        &self.sessions[0]
    }

    /// Whether an earlier rebuild from the same source, and of the same history, left something.
    async fn can_go_on(&self, source: Source) -> Result<bool, RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        let staging = format!("{}.{name}__staging", self.definition.schema());
        let incarnation = self.deps.reader.incarnation().await?;
        let row = self
            .first()
            .client
            .query_one(
                "select to_regclass($4) is not null and count(*) > 0
                        and bool_and(source = $3 and coalesce(incarnation = $5, position = 0))
                 from projection.rebuilds where projection = $1 and version = $2",
                &[name, version, &source.as_str(), &staging, &incarnation],
            )
            .await?;
        Ok(row.get::<_, Option<bool>>(0).unwrap_or(false))
    }

    /// What is staged of a tenant; where nothing is, a rebuild in so many shares begins. From here on
    /// nobody else folds a share.
    async fn staged(
        &mut self,
        tenant: i32,
        source: Source,
        incarnation: Option<Uuid>,
        shares: i32,
    ) -> Result<Staged, RebuildError> {
        let Definition { name, version, .. } = self.definition.clone();
        self.first()
            .client
            .execute(
                "insert into projection.rebuilds
                    (projection, version, tenant, source, incarnation, position, shares, share)
                 select $1, $2, $3, $4, $5, 0, $6, generate_series(0, $6 - 1)
                 where not exists (select from projection.rebuilds
                                   where projection = $1 and version = $2 and tenant = $3)",
                &[&name, &version, &tenant, &source.as_str(), &incarnation, &shares],
            )
            .await?;
        let places = "select position, incarnation from projection.rebuilds
                      where projection = $1 and version = $2 and tenant = $3 order by share";
        let shares = self.first().client.query(places, &[&name, &version, &tenant]).await?.len();
        self.open_sessions(shares).await?;
        // whoever folded one before has noted what it came to
        let rows = self.first().client.query(places, &[&name, &version, &tenant]).await?;
        let staged = Staged {
            places: rows.iter().map(|row| row.get(0)).collect(),
            incarnation: rows.first().and_then(|row| row.get(1)),
        };
        self.shares = self.shares.max(staged.places.len());
        self.resumed += staged.mean();
        self.step(staged.mean());
        Ok(staged)
    }

    /// Puts the staged rows in place, in the transaction that holds the checkpoint's lock.
    async fn swap(
        &self,
        tenant: i32,
        position: i64,
        incarnation: Option<Uuid>,
    ) -> Result<i64, RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        let (schema, client) = (self.definition.schema(), &self.first().client);
        let changed: i64 = client
            .query_one(&format!("select {schema}.{name}__swap($1)"), &[&tenant])
            .await?
            .get(0);
        client
            .execute(
                "update projection.checkpoints
                 set position = $4, incarnation = $5, error = null, updated_at = clock_timestamp()
                 where projection = $1 and version = $2 and tenant = $3",
                &[name, version, &tenant, &position, &incarnation],
            )
            .await?;
        client.batch_execute("commit").await?;
        notify::tell(client, &[format!("{name}:{tenant}:{position}")]).await?;
        Ok(changed)
    }

    /// From here to the end of the transaction no projector moves this tenant's rows.
    async fn lock_checkpoint(&self, tenant: i32) -> Result<(), RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        let client = &self.first().client;
        client
            .execute(
                "insert into projection.checkpoints (projection, version, tenant, position)
                 values ($1, $2, $3, 0) on conflict do nothing",
                &[name, version, &tenant],
            )
            .await?;
        client
            .execute(
                "select from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3 for update",
                &[name, version, &tenant],
            )
            .await?;
        Ok(())
    }

    async fn head(&self, tenant: i32) -> Result<i64, RebuildError> {
        Ok(self.deps.reader.head(tenant).await?)
    }

    /// Says that so many positions of the tenant at hand are done.
    fn step(&mut self, positions: i64) {
        let done = self.before + positions;
        self.total = self.total.max(done);
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        (self.progress)(unsigned(done), unsigned(self.total));
    }

    /// Says that a tenant is done.
    fn finished(&mut self, position: i64) {
        self.step(position);
        self.before += position;
    }
}
