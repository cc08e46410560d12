//! One batch of events on its way into a projection: arrays out, a moved checkpoint back.

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use daybook_journal::{Reader, StoredEvent};
use tokio_postgres::{
    Client, Row, Statement,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use crate::{
    copied::{CopyError, EventTable},
    definition::{Definition, OnError},
    generate::Reads,
};

/// JSON text, sent as `jsonb` without being parsed here.
#[derive(Debug)]
struct JsonText<'a>(&'a str);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&[1]); // the version of jsonb's binary form
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

/// Events as arrays, a column each: what `unnest` takes.
#[derive(Debug, Default)]
pub(crate) struct Arrays<'a> {
    positions: Vec<i64>,
    streams: Vec<&'a str>,
    versions: Vec<i32>,
    kinds: Vec<&'a str>,
    schema_versions: Vec<i16>,
    data: Vec<JsonText<'a>>,
    meta: Vec<Option<JsonText<'a>>>,
    occurred_at: Vec<DateTime<Utc>>,
    recorded_at: Vec<DateTime<Utc>>,
}

impl<'a> Arrays<'a> {
    pub(crate) fn of(events: &[&'a StoredEvent], reads: Reads) -> Self {
        let mut arrays = Self::default();
        for event in events {
            arrays.positions.push(event.position);
            arrays.streams.push(&event.stream);
            arrays.versions.push(event.version);
            arrays.kinds.push(&event.kind);
            arrays.schema_versions.push(event.schema_version);
            arrays.data.push(JsonText(if reads.data { &event.data } else { "null" }));
            arrays.meta.push(reads.meta.then_some(JsonText(&event.meta)));
            arrays.occurred_at.push(event.occurred_at);
            arrays.recorded_at.push(event.recorded_at);
        }
        arrays
    }

    pub(crate) fn parameters(&self) -> [&(dyn ToSql + Sync); 9] {
        [
            &self.positions,
            &self.streams,
            &self.versions,
            &self.kinds,
            &self.schema_versions,
            &self.data,
            &self.meta,
            &self.occurred_at,
            &self.recorded_at,
        ]
    }
}

/// Says when a session should plan its statements anew. Plans are made once and kept; one made
/// while a table was empty may choose any index, since all look alike then, and would go on using
/// it. Planned anew whenever the events folded have doubled, a plan is never far behind the table.
#[derive(Debug, Default)]
pub(crate) struct Replanning {
    folded: AtomicUsize,
    next: AtomicUsize,
}

impl Replanning {
    /// To be called before a batch.
    pub(crate) async fn before(
        &self,
        client: &Client,
        events: usize,
    ) -> Result<(), tokio_postgres::Error> {
        let folded = self.folded.fetch_add(events, Ordering::Relaxed);
        if folded > self.next.load(Ordering::Relaxed) {
            self.next.store(2 * folded, Ordering::Relaxed);
            client.batch_execute("discard plans").await?;
        }
        Ok(())
    }
}

/// A connection prepared to move one version of a projection.
pub(crate) struct Fold {
    client: Client,
    replanning: Replanning,
    advance: Statement,
    advance_journal: Statement,
    /// For projections that park keys.
    advance_parking: Option<Statement>,
    definition: Definition,
    reads: Reads,
    events: EventTable,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advanced {
    /// Whether the version is the one that answers queries.
    pub(crate) active: bool,
    /// Keys of the rows that were touched, a JSON array of the key's columns each; `None`: too many
    /// to name.
    pub(crate) keys: Option<Vec<String>>,
}

/// Where a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Everything up to here is in the rows.
    pub(crate) position: i64,
    /// The history that the position counts in; `None` before the first batch.
    pub(crate) incarnation: Option<Uuid>,
}

/// A step of a checkpoint, from exactly `expected` to `next`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) tenant: i32,
    pub(crate) incarnation: Uuid,
    pub(crate) expected: i64,
    pub(crate) next: i64,
}

impl Fold {
    /// Prepares a connection. Commits need not wait for the disk: rows and checkpoint are lost
    /// together if at all, and are made again from the events.
    pub(crate) async fn prepare(
        client: Client,
        definition: &Definition,
    ) -> Result<Self, tokio_postgres::Error> {
        client
            .batch_execute("set synchronous_commit = off; set timezone = 'UTC'; set jit = off")
            .await?;
        let (schema, name) = (definition.schema(), &definition.name);
        let advance = client
            .prepare(&format!(
                "select * from {schema}.{name}__advance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
                 $11, $12, $13)"
            ))
            .await?;
        let events = EventTable::here(&client).await?;
        let advance_journal = client
            .prepare(&format!("select * from {schema}.{name}__advance_journal($1, $2, $3, $4)"))
            .await?;
        let advance_parking = match definition.on_error {
            OnError::Stop => None,
            OnError::Park => Some(
                client
                    .prepare(&format!(
                        "select * from {schema}.{name}__advance_parking($1, $2, $3, $4, $5, $6, \
                         $7, $8, $9, $10, $11, $12, $13)"
                    ))
                    .await?,
            ),
        };
        Ok(Self {
            client,
            replanning: Replanning::default(),
            advance,
            advance_journal,
            advance_parking,
            definition: definition.clone(),
            reads: Reads::any(definition),
            events,
        })
    }

    /// The connection, for statements beside the fold.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Folds the events of one step (ascending, only types that the projection reads) onto the
    /// rows and moves the checkpoint, in one transaction. `None`: the checkpoint stands elsewhere,
    /// and nothing was changed.
    pub(crate) async fn advance(
        &self,
        step: Step,
        events: &[&StoredEvent],
    ) -> Result<Option<Advanced>, tokio_postgres::Error> {
        self.replanning.before(&self.client, events.len()).await?;
        let arrays = Arrays::of(events, self.reads);
        let parameters: Vec<_> = step.parameters().into_iter().chain(arrays.parameters()).collect();
        let row = self.client.query_one(&self.advance, &parameters).await?;
        Ok(Advanced::of(&row))
    }

    /// The same with one event that was refused, key by key; also answers the keys that are parked
    /// now. For projections that park.
    pub(crate) async fn advance_parking(
        &self,
        step: Step,
        event: &StoredEvent,
    ) -> Result<Option<(Advanced, Vec<String>)>, tokio_postgres::Error> {
        let statement = self.advance_parking.as_ref().expect("the projection parks keys");
        let arrays = Arrays::of(&[event], self.reads);
        let parameters: Vec<_> = step.parameters().into_iter().chain(arrays.parameters()).collect();
        let row = self.client.query_one(statement, &parameters).await?;
        Ok(Advanced::of(&row).map(|advanced| (advanced, row.get(3))))
    }

    /// How many keys are parked, by tenant.
    pub(crate) async fn count_parked(&self) -> Result<Vec<(i32, i64)>, tokio_postgres::Error> {
        let rows = self
            .client
            .query(
                "select tenant, count(*) from projection.parked
                 where projection = $1 and version = $2 group by tenant",
                &[&self.definition.name, &self.definition.version],
            )
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The same with the events that the journal has, in one statement: where it is in another
    /// database, with what `reader` copies here.
    pub(crate) async fn advance_journal(
        &self,
        reader: &Reader,
        step: Step,
    ) -> Result<Option<Advanced>, CopyError> {
        let positions = usize::try_from(step.next - step.expected).unwrap_or(0);
        self.replanning.before(&self.client, positions).await?;
        if self.events == EventTable::Journal {
            let row = self.client.query_one(&self.advance_journal, &step.parameters()).await?;
            return Ok(Advanced::of(&row));
        }
        self.client.batch_execute("begin").await?;
        let advanced = self.advance_copied(reader, step).await;
        let end = if matches!(advanced, Ok(Some(_))) { "commit" } else { "rollback" };
        self.client.batch_execute(end).await?;
        advanced
    }

    async fn advance_copied(
        &self,
        reader: &Reader,
        step: Step,
    ) -> Result<Option<Advanced>, CopyError> {
        let Step { tenant, expected, next, .. } = step;
        let (client, definition) = (&self.client, &self.definition);
        self.events.bring(client, definition, reader, tenant, expected, next).await?;
        let row = client.query_one(&self.advance_journal, &step.parameters()).await?;
        Ok(Advanced::of(&row))
    }

    /// Makes this version the one that answers, if it is to be and no position would fall. False:
    /// not yet.
    pub(crate) async fn switch_to(&self) -> Result<bool, tokio_postgres::Error> {
        let switched = self
            .client
            .query_one(
                "select projection.switch_when_ready($1, $2)",
                &[&self.definition.name, &self.definition.version],
            )
            .await;
        match switched {
            Ok(row) => Ok(row.get(0)),
            // somebody holds a checkpoint for long: a rebuild
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets analysts see the version that answers. False: somebody is reading what they see now.
    pub(crate) async fn show_analysts(&self) -> Result<bool, tokio_postgres::Error> {
        let row = self
            .client
            .query_one("select projection.show_analysts($1)", &[&self.definition.name])
            .await?;
        Ok(row.get(0))
    }

    /// Where the checkpoint of a tenant stands; position 0 where there is none yet.
    pub(crate) async fn checkpoint(
        &self,
        tenant: i32,
    ) -> Result<Checkpoint, tokio_postgres::Error> {
        let row = self
            .client
            .query_opt(
                "select position, incarnation from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3",
                &[&self.definition.name, &self.definition.version, &tenant],
            )
            .await?;
        Ok(row.map_or(Checkpoint { position: 0, incarnation: None }, |row| Checkpoint {
            position: row.get(0),
            incarnation: row.get(1),
        }))
    }
}

impl Advanced {
    fn of(row: &Row) -> Option<Self> {
        row.get::<_, bool>(0).then(|| Self { active: row.get(1), keys: row.get(2) })
    }
}

impl Step {
    pub(crate) fn parameters(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.tenant, &self.incarnation, &self.expected, &self.next]
    }
}

/// Folds events onto the staging table of a rebuild.
pub(crate) async fn stage(
    client: &Client,
    definition: &Definition,
    tenant: i32,
    events: &[&StoredEvent],
) -> Result<(), tokio_postgres::Error> {
    let statement = format!(
        "select {}.{}__stage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        definition.schema(),
        definition.name
    );
    let arrays = Arrays::of(events, Reads::any(definition));
    let head: [&(dyn ToSql + Sync); 1] = [&tenant];
    let parameters: Vec<_> = head.into_iter().chain(arrays.parameters()).collect();
    client.query_one(&statement, &parameters).await.map(|_| ())
}
