//! Making a projection's rows anew beside the old ones, and putting them in their place at once.

use std::time::{Duration, Instant};

use daybook_feed::{FeedConfig, FeedError, ReadAll, read_all};
use daybook_journal::{JournalError, Reader, Tenant};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use crate::{
    batch,
    copied::{CopyError, EventTable},
    definition::Definition,
    install::database_detail,
    notify,
    versions::{self, VersionState},
};

/// Positions of the journal that one statement folds.
const PIECE_POSITIONS: i64 = 100_000;
/// Events from Kafka that one statement folds, and bytes of their data.
const STAGE_EVENTS: usize = 5_000;
const STAGE_BYTES: usize = 8 * 1024 * 1024;
/// So few positions may be missing when the old rows are locked for the last piece.
const LAST_PIECE_POSITIONS: i64 = 5_000;
/// How often the lock is tried, and the wait between: that of a rebuild which was killed is held
/// until the server has noticed.
const LOCK_TRIES: u32 = 10;
const LOCK_WAIT: Duration = Duration::from_millis(200);

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
/// checkpoint. `progress` hears (positions done, positions in sight) over all tenants.
pub async fn rebuild(
    deps: &RebuildDeps,
    projection: &str,
    source: Source,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<RebuildReport, RebuildError> {
    let started = Instant::now();
    let (client, connection) = deps.config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let definition = versions::versions(&client)
        .await?
        .into_iter()
        .find(|v| v.definition.name == projection && v.state == VersionState::Active)
        .ok_or_else(|| RebuildError::Unknown(projection.to_owned()))?
        .definition;
    let events = EventTable::here(&client).await?;
    let mut rebuild = Rebuild {
        deps,
        definition,
        events,
        client,
        replanning: batch::Replanning::default(),
        progress,
        done: 0,
        total: 0,
        resumed: 0,
    };
    let result = rebuild.run(source).await;
    rebuild.client.execute("select pg_advisory_unlock_all()", &[]).await.ok();
    connection.abort(); // whatever happened: with it goes the lock
    let resumed = rebuild.resumed;
    let (positions, changed_rows) = result?;
    Ok(RebuildReport {
        projection: projection.to_owned(),
        positions,
        resumed,
        changed_rows,
        elapsed: started.elapsed(),
    })
}

struct Rebuild<'a> {
    deps: &'a RebuildDeps,
    definition: Definition,
    events: EventTable,
    client: Client,
    replanning: batch::Replanning,
    progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    done: i64,
    total: i64,
    resumed: i64,
}

/// How far the staging table is for a tenant.
#[derive(Debug, Clone, Copy)]
struct Staged {
    position: i64,
    incarnation: Option<Uuid>,
}

impl Rebuild<'_> {
    async fn run(&mut self, source: Source) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let Definition { name, version, .. } = &self.definition.clone();
        let mut tries = 0;
        while !self.lock().await? {
            tries += 1;
            if tries == LOCK_TRIES {
                return Err(RebuildError::Busy(name.clone()));
            }
            tokio::time::sleep(LOCK_WAIT).await;
        }
        self.client.batch_execute("set timezone = 'UTC'; set jit = off").await?;
        if self.deps.anew || !self.can_go_on(source).await? {
            self.client
                .execute(
                    "delete from projection.rebuilds where projection = $1 and version = $2",
                    &[name, version],
                )
                .await?;
            self.client.execute("select projection.make_staging($1, $2)", &[name, version]).await?;
        }
        let tenants = self.deps.reader.tenants().await?;
        let result = match source {
            Source::Journal => self.read_journal(&tenants).await,
            Source::Kafka => self.read_kafka(&tenants).await,
        };
        match result {
            Ok(done) => {
                self.client
                    .execute(
                        "delete from projection.rebuilds where projection = $1 and version = $2",
                        &[name, version],
                    )
                    .await?;
                self.client
                    .execute("select projection.drop_staging($1, $2)", &[name, version])
                    .await?;
                Ok(done)
            }
            // what is staged stays: the next rebuild goes on from there
            Err(error) => {
                self.client.batch_execute("rollback").await.ok();
                Err(error)
            }
        }
    }

    /// Takes the lock of this projection's rebuilds, if it is free.
    async fn lock(&self) -> Result<bool, RebuildError> {
        let row = self
            .client
            .query_one(
                "select pg_try_advisory_lock(hashtext('daybook.projection.rebuild'), hashtext($1))",
                &[&self.definition.name],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Whether an earlier rebuild from the same source, and of the same history, left something.
    async fn can_go_on(&self, source: Source) -> Result<bool, RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        let staging = format!("{}.{name}__staging", self.definition.schema());
        let incarnation = self.deps.reader.incarnation().await?;
        let row = self
            .client
            .query_one(
                "select to_regclass($4) is not null and count(*) > 0
                        and bool_and(source = $3 and incarnation = $5)
                 from projection.rebuilds where projection = $1 and version = $2",
                &[name, version, &source.as_str(), &staging, &incarnation],
            )
            .await?;
        Ok(row.get::<_, Option<bool>>(0).unwrap_or(false))
    }

    /// What is staged of a tenant.
    async fn staged(
        &mut self,
        tenant: i32,
        incarnation: Option<Uuid>,
    ) -> Result<Staged, RebuildError> {
        let row = self
            .client
            .query_opt(
                "select position, incarnation from projection.rebuilds
                 where projection = $1 and version = $2 and tenant = $3",
                &[&self.definition.name, &self.definition.version, &tenant],
            )
            .await?;
        let staged = row.map_or(Staged { position: 0, incarnation }, |row| Staged {
            position: row.get(0),
            incarnation: row.get(1),
        });
        self.resumed += staged.position;
        self.step(staged.position);
        Ok(staged)
    }

    /// Notes what is staged of a tenant, in the transaction that staged it.
    async fn note(&self, source: Source, tenant: i32, staged: Staged) -> Result<(), RebuildError> {
        self.client
            .execute(
                "insert into projection.rebuilds as r
                    (projection, version, tenant, source, position, incarnation)
                 values ($1, $2, $3, $4, $5, $6)
                 on conflict (projection, version, tenant) do update
                    set position = excluded.position, incarnation = excluded.incarnation",
                &[
                    &self.definition.name,
                    &self.definition.version,
                    &tenant,
                    &source.as_str(),
                    &staged.position,
                    &staged.incarnation,
                ],
            )
            .await?;
        Ok(())
    }

    async fn read_journal(
        &mut self,
        tenants: &[Tenant],
    ) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let incarnation = self.deps.reader.incarnation().await?;
        for tenant in tenants {
            self.total += self.head(tenant.id).await?;
        }
        let (mut positions, mut changed) = (Vec::new(), 0);
        for tenant in tenants {
            let mut staged = self.staged(tenant.id, Some(incarnation)).await?;
            loop {
                let head = self.head(tenant.id).await?;
                self.stage_journal(tenant.id, &mut staged, head, true).await?;
                if self.head(tenant.id).await? - staged.position <= LAST_PIECE_POSITIONS {
                    break;
                }
            }
            self.client.batch_execute("begin").await?;
            self.lock_checkpoint(tenant.id).await?;
            let head = self.head(tenant.id).await?;
            self.stage_journal(tenant.id, &mut staged, head, false).await?;
            changed += self.swap(tenant.id, staged).await?;
            positions.push((tenant.id, staged.position));
        }
        Ok((positions, changed))
    }

    async fn stage_journal(
        &mut self,
        tenant: i32,
        staged: &mut Staged,
        until: i64,
        each_alone: bool,
    ) -> Result<(), RebuildError> {
        while staged.position < until {
            let piece = self.deps.piece_positions.unwrap_or(PIECE_POSITIONS).max(1);
            let next = until.min(staged.position + piece);
            let positions = usize::try_from(piece).unwrap_or(usize::MAX);
            self.replanning.before(&self.client, positions).await?;
            if each_alone {
                self.client.batch_execute("begin").await?;
            }
            self.fold_piece(tenant, staged.position, next).await?;
            self.note(Source::Journal, tenant, Staged { position: next, ..*staged }).await?;
            if each_alone {
                self.client.batch_execute("commit").await?;
            }
            self.step(next - staged.position);
            staged.position = next;
        }
        Ok(())
    }

    /// Folds a piece of the journal, wherever that is.
    async fn fold_piece(&self, tenant: i32, after: i64, until: i64) -> Result<(), RebuildError> {
        let (client, definition) = (&self.client, &self.definition);
        self.events.bring(client, definition, &self.deps.reader, tenant, after, until).await?;
        let (schema, name) = (definition.schema(), &definition.name);
        let statement = format!("select {schema}.{name}__stage_journal($1, $2, $3)");
        client.query_one(&statement, &[&tenant, &after, &until]).await?;
        Ok(())
    }

    async fn read_kafka(
        &mut self,
        tenants: &[Tenant],
    ) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let feed = self.deps.feed.clone().ok_or(RebuildError::NoTopic)?;
        let (mut positions, mut changed) = (Vec::new(), 0);
        for tenant in tenants {
            let mut staged = self.staged(tenant.id, None).await?;
            // what the topic holds now
            let mut reading = read_all(&feed, &[(tenant.clone(), i64::MAX)])?;
            self.stage_kafka(tenant.id, &mut reading, &mut staged, i64::MAX, true).await?;
            drop(reading);

            // what the rows that are served have beyond that
            let mut further: Option<ReadAll> = None;
            loop {
                let served = self.served(tenant.id).await?;
                let last_piece = served - staged.position <= LAST_PIECE_POSITIONS;
                if last_piece {
                    self.client.batch_execute("begin").await?;
                    self.lock_checkpoint(tenant.id).await?;
                }
                let served = self.served(tenant.id).await?;
                if served > staged.position {
                    if further.is_none() {
                        // open-ended: read no further than is wanted each time
                        further = Some(read_all(&feed, &[(tenant.clone(), i64::MAX - 1)])?);
                    }
                    let reading = further.as_mut().expect("just opened");
                    self.stage_kafka(tenant.id, reading, &mut staged, served, !last_piece).await?;
                }
                if last_piece {
                    break;
                }
            }
            changed += self.swap(tenant.id, staged).await?;
            positions.push((tenant.id, staged.position));
        }
        Ok((positions, changed))
    }

    /// Folds what is read until the staging table has position `until`, or the reading ends.
    async fn stage_kafka(
        &mut self,
        tenant: i32,
        reading: &mut ReadAll,
        staged: &mut Staged,
        until: i64,
        each_alone: bool,
    ) -> Result<(), RebuildError> {
        let mut relevant = Vec::new();
        let mut bytes = 0;
        let mut read = staged.position;
        while read < until {
            let batch = reading.next().await?;
            let ended = batch.is_none();
            if let Some(batch) = batch {
                for event in batch.events {
                    if event.position <= read {
                        continue;
                    }
                    read = event.position;
                    staged.incarnation = Some(batch.incarnation);
                    if self.definition.reads(&event.kind) {
                        bytes += event.data.len();
                        relevant.push(event);
                    }
                }
            }
            if ended || read >= until || relevant.len() >= STAGE_EVENTS || bytes >= STAGE_BYTES {
                if each_alone {
                    self.client.batch_execute("begin").await?;
                }
                if !relevant.is_empty() {
                    self.replanning.before(&self.client, relevant.len()).await?;
                    let events: Vec<_> = relevant.iter().collect();
                    batch::stage(&self.client, &self.definition, tenant, &events).await?;
                }
                self.note(Source::Kafka, tenant, Staged { position: read, ..*staged }).await?;
                if each_alone {
                    self.client.batch_execute("commit").await?;
                }
                self.total = self.total.max(self.done + read - staged.position);
                self.step(read - staged.position);
                staged.position = read;
                relevant.clear();
                bytes = 0;
            }
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Puts the staged rows in place, in the transaction that holds the checkpoint's lock.
    async fn swap(&self, tenant: i32, staged: Staged) -> Result<i64, RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        let schema = self.definition.schema();
        let changed: i64 = self
            .client
            .query_one(&format!("select {schema}.{name}__swap($1)"), &[&tenant])
            .await?
            .get(0);
        self.client
            .execute(
                "update projection.checkpoints
                 set position = $4, incarnation = $5, error = null, updated_at = clock_timestamp()
                 where projection = $1 and version = $2 and tenant = $3",
                &[name, version, &tenant, &staged.position, &staged.incarnation],
            )
            .await?;
        self.client.batch_execute("commit").await?;
        notify::tell(&self.client, &[format!("{name}:{tenant}:{}", staged.position)]).await?;
        Ok(changed)
    }

    /// From here to the end of the transaction no projector moves this tenant's rows.
    async fn lock_checkpoint(&self, tenant: i32) -> Result<(), RebuildError> {
        let Definition { name, version, .. } = &self.definition;
        self.client
            .execute(
                "insert into projection.checkpoints (projection, version, tenant, position)
                 values ($1, $2, $3, 0) on conflict do nothing",
                &[name, version, &tenant],
            )
            .await?;
        self.client
            .execute(
                "select from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3 for update",
                &[name, version, &tenant],
            )
            .await?;
        Ok(())
    }

    /// Position of the rows that are being served.
    async fn served(&self, tenant: i32) -> Result<i64, RebuildError> {
        let row = self
            .client
            .query_opt(
                "select position from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3",
                &[&self.definition.name, &self.definition.version, &tenant],
            )
            .await?;
        Ok(row.map_or(0, |row| row.get(0)))
    }

    async fn head(&self, tenant: i32) -> Result<i64, RebuildError> {
        Ok(self.deps.reader.head(tenant).await?)
    }

    fn step(&mut self, positions: i64) {
        self.done += positions;
        self.total = self.total.max(self.done);
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        (self.progress)(unsigned(self.done), unsigned(self.total));
    }
}
