//! Answers declared queries: typed parameters in, JSON and its position out.

mod statement;
mod values;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_journal::{JournalError, Reader};
use deadpool_postgres::Pool;
use tokio::sync::{Mutex, OnceCell, watch};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    as_of::{AsOfLimits, Folds},
    catalogue::Catalogue,
    definition::{AnswerShape, DeclaredQuery, Definition},
    notify::ReadPositions,
    parameter::{ParameterKind, Value},
    versions::{self, VersionState},
};

use statement::SETTINGS;
pub use statement::statements;
pub(crate) use statement::{
    begin, bound_sql, order_kinds, parameter_types, sample_values, statement, statement_of,
};
use values::read_cursor;
pub(crate) use values::{bad, read_place, values_before_cursor};

/// Rows of a page where the request doesn't say.
pub const LIMIT_DEFAULT: i64 = 50;
/// Most rows of a page.
pub const LIMIT_MAX: i64 = 500;
/// Longest that a query may run, milliseconds.
const QUERY_TIMEOUT_MS: u32 = 10_000;
/// The same.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_millis(QUERY_TIMEOUT_MS as u64);

/// How often one request is asked anew because the version that answers has changed meanwhile.
pub(crate) const TRIES: u32 = 5;
/// How often it is looked for changed queries although nothing was heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose rows may be seen: bound by the server, never by a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrincipalScope {
    /// The customer, for customers.
    pub customer_id: Option<Uuid>,
    /// The partner, for partners.
    pub partner_id: Option<Uuid>,
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A JSON object, or an array of objects for a list.
    pub json: String,
    /// Position of the tenant's journal that the answer stands for.
    pub position: i64,
    /// For a list: cursor of the next page, if there is one.
    pub next: Option<String>,
}

/// A query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no such row, or it is not this principal's.
    #[error("not found")]
    NotFound,
    /// A parameter is missing, unknown or of the wrong type.
    #[error("parameter {name} {detail}")]
    BadParameter {
        /// Its name.
        name: String,
        /// What is wrong, as `must be a UUID`.
        detail: String,
    },
    /// The rows don't stand at the wanted position yet.
    #[error("the read model stands at position {position}")]
    Stale {
        /// Where they stand.
        position: i64,
    },
    /// It took longer than a query may.
    #[error("the query took more than {QUERY_TIMEOUT_MS} ms")]
    TooSlow,
    /// As many queries fold the journal as may.
    #[error("{folds} queries fold the journal already")]
    Busy {
        /// How many that are.
        folds: usize,
    },
    /// Folding the journal up to the wanted position took longer than it may.
    #[error("folding the journal took more than {deadline:?}")]
    FoldTooLong {
        /// How long it may take.
        deadline: Duration,
    },
    /// There is no such query (any more).
    #[error("there is no query {0}")]
    Unknown(String),
    /// The version that answers changed again and again while the query ran.
    #[error("query {0}: the read model is being changed")]
    Changing(String),
    /// A column of the order has a type that no cursor can hold.
    #[error("query {query}: a list can't be ordered by column {column} of type {sql_type}")]
    BadOrder {
        /// Name of the query.
        query: String,
        /// Name of the column.
        column: String,
        /// The type.
        sql_type: String,
    },
    /// PostgreSQL answered with an error.
    #[error("query: {0}")]
    Database(tokio_postgres::Error),
    /// No connection could be had.
    #[error("query: no connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The journal, which is in another database, can't be read.
    #[error("query: {0}")]
    Journal(#[from] JournalError),
}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::QUERY_CANCELED) {
            return Self::TooSlow;
        }
        Self::Database(error)
    }
}

/// The queries of all versions that answer, ready to run; follows the database's versions. Cheap to
/// clone.
#[derive(Clone)]
pub struct Queries {
    inner: Arc<Inner>,
}

/// The declared queries at one moment.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Grows whenever the set changes.
    pub generation: u64,
    /// Every query, in order of projection.
    pub queries: Vec<DeclaredQuery>,
}

struct Inner {
    pool: Pool,
    positions: ReadPositions,
    folds: Folds,
    /// Where it is in another database.
    journal: Option<Reader>,
    current: RwLock<Arc<Loaded>>,
    generation: watch::Sender<u64>,
    /// Held by whoever reads the versions.
    loading: Mutex<()>,
}

#[derive(Default)]
pub(crate) struct Loaded {
    /// What the database's versions looked like; nothing before they were read.
    fingerprint: Option<String>,
    declared: Arc<Declared>,
    prepared: HashMap<String, Arc<Prepared>>,
}

impl Loaded {
    /// What is sent for a query.
    pub(crate) fn prepared(&self, query: &DeclaredQuery) -> Result<&Prepared, QueryError> {
        let prepared = self.prepared.get(&query.name);
        let prepared = prepared.filter(|prepared| prepared.query.answer == query.answer);
        prepared.map(|prepared| &**prepared).ok_or_else(|| QueryError::Unknown(query.name.clone()))
    }
}

/// The statements of one query.
pub(crate) struct Prepared {
    query: DeclaredQuery,
    first: String,
    /// Of the pages after the first; known once PostgreSQL has said the types of the order.
    following: OnceCell<(String, Vec<ParameterKind>)>,
}

/// Keeps [`Queries`] up to date with the database; spawn its `run`.
pub struct QueriesTask {
    queries: Queries,
}

impl QueriesTask {
    /// Looks for changed versions when one is told, and each second, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.queries.reload().await {
                tracing::debug!(%error, "declared queries can't be read");
            }
            let told = self.queries.inner.positions.versions_changed();
            tokio::select! {
                () = shutdown.cancelled() => return,
                told = tokio::time::timeout(LOOK_EVERY, told) => drop(told),
            }
        }
    }
}

impl Queries {
    /// Queries run over `pool`, whose user needs no more than to read schema `projection` and those
    /// of the versions. There are none before the task has run or [`Queries::reload`] was awaited.
    pub fn new(pool: Pool, positions: ReadPositions) -> (Self, QueriesTask) {
        Self::with_limits(pool, positions, AsOfLimits::default(), None)
    }

    /// The same with other bounds on queries as of a position. Where the journal is in another
    /// database, `journal` reads it.
    pub fn with_limits(
        pool: Pool,
        positions: ReadPositions,
        as_of: AsOfLimits,
        journal: Option<Reader>,
    ) -> (Self, QueriesTask) {
        let inner = Inner {
            pool,
            positions,
            folds: Folds::new(as_of),
            journal,
            current: RwLock::default(),
            generation: watch::Sender::new(0),
            loading: Mutex::default(),
        };
        let queries = Self { inner: Arc::new(inner) };
        (queries.clone(), QueriesTask { queries })
    }

    /// Takes the catalogue's projections for those that answer, until the database says otherwise.
    pub fn assume(&self, catalogue: &Catalogue) {
        self.load(None, catalogue.projections().iter());
    }

    /// Where the read models stand, as it is heard.
    pub fn positions(&self) -> &ReadPositions {
        &self.inner.positions
    }

    /// Connections over which queries run.
    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// Places to fold the journal in.
    pub(crate) fn folds(&self) -> &Folds {
        &self.inner.folds
    }

    /// Reads the journal where it is in another database.
    pub(crate) fn journal(&self) -> Option<&Reader> {
        self.inner.journal.as_ref()
    }

    /// Whether the read models are in another database than the journal.
    pub fn are_elsewhere(&self) -> bool {
        self.inner.journal.is_some()
    }

    /// Every declared query.
    pub fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.current().declared)
    }

    /// The generation of [`Queries::declared`], as it changes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }

    /// Reads the versions that answer, if any has changed since.
    pub async fn reload(&self) -> Result<(), QueryError> {
        let _one_at_a_time = self.inner.loading.lock().await;
        let client = self.inner.pool.get().await?;
        let fingerprint = versions::fingerprint(&**client).await?;
        if self.current().fingerprint.as_ref() == Some(&fingerprint) {
            return Ok(());
        }
        let versions = versions::versions(&**client).await?;
        let active = versions.iter().filter(|version| version.state == VersionState::Active);
        self.load(Some(fingerprint), active.map(|version| &version.definition));
        Ok(())
    }

    /// Reads the versions again after a statement made from `before` has failed. The failure is the
    /// query's own if nothing has changed.
    pub(crate) async fn reload_after(
        &self,
        before: &Arc<Loaded>,
        failed: Option<QueryError>,
    ) -> Result<(), QueryError> {
        if !Arc::ptr_eq(before, &self.current()) {
            return Ok(()); // somebody else was faster
        }
        self.reload().await?;
        match failed {
            Some(error) if Arc::ptr_eq(before, &self.current()) => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.inner.current.read().expect("no code panics while holding it"))
    }

    fn load<'a>(
        &self,
        fingerprint: Option<String>,
        definitions: impl Iterator<Item = &'a Definition>,
    ) {
        let queries: Vec<DeclaredQuery> = definitions.flat_map(|d| d.queries.clone()).collect();
        let before = self.current();
        let same = before.declared.queries == queries;
        let generation = before.declared.generation + u64::from(!same);
        let prepared = queries.iter().map(|query| {
            let known = before.prepared.get(&query.name).filter(|known| known.query == *query);
            (query.name.clone(), known.map_or_else(|| Arc::new(Prepared::new(query)), Arc::clone))
        });
        let loaded = Arc::new(Loaded {
            fingerprint,
            prepared: prepared.collect(),
            declared: Arc::new(Declared { generation, queries }),
        });
        *self.inner.current.write().expect("no code panics while holding it") = loaded;
        self.inner.generation.send_if_modified(|known| {
            *known = generation;
            !same
        });
    }

    /// Answers a query for a principal. `params` are those of path and query string, as text.
    /// With `min_position`, waits until the rows stand there, at most `wait`.
    pub async fn run(
        &self,
        query: &DeclaredQuery,
        tenant: i32,
        principal: PrincipalScope,
        params: &HashMap<String, String>,
        min_position: Option<i64>,
        wait: Duration,
    ) -> Result<Answer, QueryError> {
        let mut waited = false;
        for _try in 0..TRIES {
            let current = self.current();
            let prepared = current.prepared(query)?;
            let query = &prepared.query;
            let mut values = values_before_cursor(query, tenant, principal, params)?;
            let cursor = params.get("cursor").filter(|_| query.answer == AnswerShape::List);
            let following = match cursor {
                None => None,
                Some(cursor) => match self.following(prepared).await {
                    Ok((sql, kinds)) => {
                        values.extend(read_cursor(cursor, kinds)?);
                        Some((sql.as_str(), kinds.as_slice()))
                    }
                    Err(error) if is_gone(&error) => {
                        self.reload_after(&current, Some(error)).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if let Some(wanted) = min_position.filter(|_| !waited) {
                waited = true;
                // The answer itself says whether it is new enough, so a missed wake-up does no harm.
                let reached = self.inner.positions.reached(&query.projection, tenant, wanted);
                tokio::time::timeout(wait, reached).await.ok();
            }
            let (sql, kinds) = following.unwrap_or((&prepared.first, &[]));
            match self.answer(query, tenant, sql, kinds, &values).await {
                Ok(Some(found)) => return found.into_answer(min_position),
                // another version answers by now
                Ok(None) => self.reload_after(&current, None).await?,
                Err(error) if is_gone(&error) => self.reload_after(&current, Some(error)).await?,
                Err(error) => return Err(error),
            }
        }
        Err(QueryError::Changing(query.name.clone()))
    }

    /// One round trip: both statements are sent before the first answer is awaited. Each is a
    /// transaction of its own, so an abandoned request can't leave one open either. `None`: the
    /// version that the statement was made for is not the one that answers.
    async fn answer(
        &self,
        query: &DeclaredQuery,
        tenant: i32,
        sql: &str,
        kinds: &[ParameterKind],
        values: &[Value],
    ) -> Result<Option<Found>, QueryError> {
        let client = self.inner.pool.get().await?;
        let settings = client.prepare_typed_cached(SETTINGS, &[Type::INT4]).await?;
        let statement = client.prepare_typed_cached(sql, &parameter_types(query, kinds)).await?;
        let values: Vec<_> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let tenant: [&(dyn ToSql + Sync); 1] = [&tenant];
        let (set, row) = futures::join!(
            client.execute(&settings, &tenant),
            client.query_one(&statement, &values),
        );
        set?; // without it, whatever was found is nobody's
        Ok(Found::of(query, &row?))
    }

    /// The statement of the pages after the first, with the types of its order.
    pub(crate) async fn following<'a>(
        &self,
        prepared: &'a Prepared,
    ) -> Result<&'a (String, Vec<ParameterKind>), QueryError> {
        prepared.following.get_or_try_init(|| self.make_following(&prepared.query)).await
    }

    async fn make_following(
        &self,
        query: &DeclaredQuery,
    ) -> Result<(String, Vec<ParameterKind>), QueryError> {
        let client = self.inner.pool.get().await?;
        let columns = client.prepare_typed(&bound_sql(query), &parameter_types(query, &[])).await?;
        let kinds = order_kinds(query, columns.columns())?;
        Ok((statement(query, Some(&kinds)), kinds))
    }
}

impl Prepared {
    pub(crate) fn query(&self) -> &DeclaredQuery {
        &self.query
    }

    fn new(query: &DeclaredQuery) -> Self {
        Self { query: query.clone(), first: statement(query, None), following: OnceCell::new() }
    }
}

/// What a statement found, all of it in one snapshot.
pub(crate) struct Found {
    position: i64,
    pub(crate) json: Option<String>,
    /// For a list: the place of the last row, if there is more.
    pub(crate) place: Option<String>,
}

impl Found {
    /// `None`: the version that the statement was made for is not the one that answers.
    pub(crate) fn of(query: &DeclaredQuery, row: &Row) -> Option<Self> {
        if row.get::<_, Option<&str>>(0) != Some(&query.version) {
            return None;
        }
        let place = if query.answer == AnswerShape::List { row.get(3) } else { None };
        Some(Self { position: row.get(1), json: row.get(2), place })
    }

    fn into_answer(self, min_position: Option<i64>) -> Result<Answer, QueryError> {
        let position = self.position;
        if min_position.is_some_and(|wanted| position < wanted) {
            return Err(QueryError::Stale { position });
        }
        let next = self.place.map(|place| URL_SAFE_NO_PAD.encode(place));
        Ok(Answer { json: self.json.ok_or(QueryError::NotFound)?, position, next })
    }
}

/// Whether what the statement names is no more: its version was dropped.
pub(crate) fn is_gone(error: &QueryError) -> bool {
    let QueryError::Database(error) = error else { return false };
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_OBJECT,
            SqlState::INVALID_SCHEMA_NAME,
        ]
        .contains(code)
    })
}
