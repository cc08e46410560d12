//! Queries as of a position: the definition that answers now, folded up to there, in place of its
//! table.

mod plan;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_journal::Reader;
use deadpool_postgres::{Client, Object};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{
    NoTls,
    types::{ToSql, Type},
};

use crate::{
    copied,
    definition::{AnswerShape, DeclaredQuery},
    parameter::{ParameterKind, Value},
    queries::{
        Answer, Found, PrincipalScope, QUERY_TIMEOUT, Queries, QueryError, TRIES, bad, begin,
        is_gone, parameter_types, read_place, statement_of, values_before_cursor,
    },
};

pub(crate) use plan::{AsOfPlan, check_streams, placeholders};

/// The parameter that says as of when; no query may declare one of this name.
pub(crate) const PARAMETER: &str = "as_of";
/// Roles that may look back, where a query is for them.
pub(crate) const ROLES: [&str; 3] = ["operator", "analyst", "auditor"];
/// Longest that a cancelled statement is waited for before its place is given to another.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// Bounds on queries that fold the journal. Those that read the streams of one key have the bounds
/// of other queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOfLimits {
    /// How many may fold at once.
    pub folds: usize,
    /// Longest that one may take.
    pub deadline: Duration,
}

impl Default for AsOfLimits {
    fn default() -> Self {
        Self { folds: 2, deadline: Duration::from_secs(20) }
    }
}

/// As of when a query is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    /// The position, not beyond the journal's head.
    pub position: i64,
    /// What the request says, which pages after the first must repeat: a time may come to mean a
    /// later position, a page goes on at the position of the first.
    pub asked: String,
}

/// Places to fold the journal in, and how long one may be kept.
pub(crate) struct Folds {
    limits: AsOfLimits,
    free: Arc<Semaphore>,
}

impl Folds {
    pub(crate) fn new(limits: AsOfLimits) -> Self {
        Self { limits, free: Arc::new(Semaphore::new(limits.folds)) }
    }
}

/// Where the next page of an answer as of a position begins.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor<'a> {
    as_of: String,
    position: i64,
    #[serde(borrow)]
    place: &'a RawValue,
}

impl DeclaredQuery {
    /// Whether the role may ask this query as of a position.
    pub fn offers_as_of(&self, role: &str) -> bool {
        self.as_of.is_some() && ROLES.contains(&role) && self.roles.iter().any(|own| own == role)
    }

    /// Whether somebody may ask this query as of a position.
    pub fn has_as_of(&self) -> bool {
        self.roles.iter().any(|role| self.offers_as_of(role))
    }
}

impl Queries {
    /// Longest that an answer as of a position may take, with finding out which position that is.
    pub fn as_of_longest(
        &self,
        query: &DeclaredQuery,
        params: &HashMap<String, String>,
    ) -> Duration {
        let is_keyed = query.as_of.as_ref().is_some_and(|plan| plan.is_bound(params));
        if is_keyed { QUERY_TIMEOUT } else { self.folds().limits.deadline }
    }

    /// Answers a query from the rows as they were at a position, of which another page may be asked
    /// for with the same `as_of`. Where the parameters say which row it is and the projection says
    /// in which streams that row's events are, only these are read; else the journal is folded.
    /// What the answer may take ([`Queries::as_of_longest`]) counts from `since`. Dropped before it
    /// is done, it is cancelled in PostgreSQL.
    pub async fn run_as_of(
        &self,
        query: &DeclaredQuery,
        tenant: i32,
        principal: PrincipalScope,
        params: &HashMap<String, String>,
        as_of: &AsOf,
        since: Instant,
    ) -> Result<Answer, QueryError> {
        let end = since + self.as_of_longest(query, params);
        let mut slot = None;
        for _try in 0..TRIES {
            let current = self.current();
            let prepared = current.prepared(query)?;
            let query = prepared.query();
            let plan = query.as_of.as_ref().ok_or_else(|| bad(PARAMETER, "is unknown here"))?;
            let mut values = values_before_cursor(query, tenant, principal, params)?;
            let mut kinds: &[ParameterKind] = &[];
            let mut position = as_of.position;
            if let Some(cursor) = params.get("cursor").filter(|_| query.answer == AnswerShape::List)
            {
                let (first, place) = read_cursor(cursor, as_of)?;
                position = first;
                match self.following(prepared).await {
                    Ok((_, of_order)) => kinds = of_order,
                    Err(error) if is_gone(&error) => {
                        self.reload_after(&current, Some(error)).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                values.extend(read_place(&place, kinds)?);
            }
            let is_keyed = plan.is_bound(params);
            if !is_keyed && slot.is_none() {
                let folds = self.folds();
                let free = Arc::clone(&folds.free).try_acquire_owned();
                slot = Some(free.map_err(|_| QueryError::Busy { folds: folds.limits.folds })?);
            }
            let statement = Statement::new(query, plan, kinds, is_keyed);
            values.push(Box::new(position));
            let (statement, values) = (&statement, &*values);
            let asked = Asked { query, tenant, statement, values, position, end };
            let found;
            (found, slot) = self.ask_as_of(&asked, slot).await;
            match found {
                Ok(Some(found)) => return answer(found, position, as_of),
                // another version answers by now
                Ok(None) => self.reload_after(&current, None).await?,
                Err(error) if is_gone(&error) => self.reload_after(&current, Some(error)).await?,
                Err(QueryError::TooSlow) if !is_keyed => {
                    return Err(QueryError::FoldTooLong { deadline: self.folds().limits.deadline });
                }
                Err(error) => return Err(error),
            }
        }
        Err(QueryError::Changing(query.name.clone()))
    }

    /// `None`: another version answers by now. With it comes the place to fold in, if one was given.
    async fn ask_as_of(
        &self,
        asked: &Asked<'_>,
        place: Option<OwnedSemaphorePermit>,
    ) -> (Result<Option<Found>, QueryError>, Option<OwnedSemaphorePermit>) {
        let client = match self.pool().get().await {
            Ok(client) => client,
            Err(error) => return (Err(error.into()), place),
        };
        let longest = asked.left();
        if longest.is_zero() {
            return (Err(QueryError::TooSlow), place);
        }
        let mut first = begin(asked.tenant, longest);
        let running = Running { held: Some((client, place)) };
        if let Some(journal) = self.journal() {
            match timeout(longest, running.copy(asked, &first, journal)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return (Err(error), running.end()),
                // in the middle of it: the connection is not given back
                Err(_) => return (Err(QueryError::TooSlow), None),
            }
            let left = asked.left().as_millis().max(1);
            first = format!("set local statement_timeout = {left}");
        }
        let found = running.ask(asked, &first).await;
        (found, running.end())
    }
}

/// What is asked.
struct Asked<'a> {
    query: &'a DeclaredQuery,
    tenant: i32,
    statement: &'a Statement,
    values: &'a [Value],
    position: i64,
    /// When the answer must be there.
    end: Instant,
}

impl Asked<'_> {
    /// Time until the answer must be there.
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

/// A statement under way. Dropped before its end, it is cancelled in PostgreSQL, its connection is
/// closed, and its place is given to another once it has really ended.
struct Running {
    held: Option<(Client, Option<OwnedSemaphorePermit>)>,
}

impl Running {
    fn client(&self) -> &Client {
        let (client, _place) = self.held.as_ref().expect("held until its end");
        client
    }

    /// Sends `first`, which begins the transaction or goes on with it, and the statement.
    async fn ask(&self, asked: &Asked<'_>, first: &str) -> Result<Option<Found>, QueryError> {
        let (client, statement) = (self.client(), asked.statement);
        let prepared = client.prepare_typed_cached(&statement.sql, &statement.types).await?;
        let values = asked.parameters();
        let (begun, row, ended) = futures::join!(
            client.batch_execute(first),
            client.query_one(&prepared, &values),
            client.batch_execute("commit"),
        );
        begun?;
        let row = row?;
        ended?;
        Ok(Found::of(asked.query, &row))
    }

    /// Begins the transaction, with the events that the statement will need copied from another
    /// database. After a failure it is over.
    async fn copy(
        &self,
        asked: &Asked<'_>,
        begin: &str,
        journal: &Reader,
    ) -> Result<(), QueryError> {
        let client = self.client();
        // before the transaction, which may make no table, as none may after a plain query
        client.batch_execute("set default_transaction_read_only = off").await?;
        copied::open(client).await?;
        client.batch_execute(begin).await?;
        let copied = async {
            let Statement { types, streams, events, .. } = asked.statement;
            let (tenant, until) = (asked.tenant, asked.position);
            let copy = match streams {
                None => journal.copy_events(tenant, 0, until, events).await?,
                Some(streams) => {
                    let streams = client.prepare_typed_cached(streams, types).await?;
                    let found = client.query_one(&streams, &asked.parameters()).await?;
                    let streams: Vec<String> = found.get(0);
                    journal.copy_streams(tenant, &streams, until, events).await?
                }
            };
            copied::fill(client, copy).await?;
            Ok(())
        };
        let copied = copied.await;
        if copied.is_err() {
            client.batch_execute("rollback").await.ok();
        }
        copied
    }

    /// Gives the connection back.
    fn end(mut self) -> Option<OwnedSemaphorePermit> {
        self.held.take().and_then(|(_client, place)| place)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some((client, place)), Ok(runtime)) =
            (self.held.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Out of the pool: a cancellation that comes late must not meet somebody else's statement.
        let client = Object::take(client);
        runtime.spawn(async move {
            let cancelled = async {
                client.cancel_token().cancel_query(NoTls).await?;
                client.batch_execute("").await // answered behind what was cancelled
            };
            match timeout(CANCEL_WAIT, cancelled).await {
                Ok(Ok(())) => tracing::debug!("a query that nobody waits for is cancelled"),
                Ok(Err(error)) => tracing::debug!(%error, "a query can't be cancelled"),
                Err(_) => tracing::warn!("a cancelled query goes on"),
            }
            drop((client, place));
        });
    }
}

/// What is sent for a query as of a position, the last parameter.
struct Statement {
    sql: String,
    types: Vec<Type>,
    /// Finds the names of the streams that hold the events, with the same parameters; `None`: they
    /// lie anywhere.
    streams: Option<String>,
    /// Types of these events.
    events: Vec<String>,
}

impl Statement {
    fn new(
        query: &DeclaredQuery,
        plan: &AsOfPlan,
        kinds: &[ParameterKind],
        is_keyed: bool,
    ) -> Self {
        let mut types = parameter_types(query, kinds);
        types.push(Type::INT8);
        let (table, schema) = (&query.projection, query.schema());
        let given = format!("$1::integer, ${}::bigint", types.len());
        let key = is_keyed.then(|| plan.arguments(query));
        let rows = match &key {
            None => format!("{schema}.{table}__as_of({given})"),
            Some(key) => format!("{schema}.{table}__as_of_key({given}, {key})"),
        };
        let streams = key.map(|key| format!("select {schema}.{table}__as_of_streams({key})"));
        let sql = format!(
            "with \"{table}\" as materialized (select * from {rows})\n{}",
            statement_of(query, &query.sql_without_table(), (!kinds.is_empty()).then_some(kinds))
        );
        Self { sql, types, streams, events: plan.events.clone() }
    }
}

fn answer(found: Found, position: i64, as_of: &AsOf) -> Result<Answer, QueryError> {
    let json = found.json.ok_or(QueryError::NotFound)?;
    let next = found.place.map(|place| {
        let place = RawValue::from_string(place).expect("PostgreSQL's JSON is JSON");
        let cursor = Cursor { as_of: as_of.asked.clone(), position, place: &place };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).expect("a cursor is JSON"))
    });
    Ok(Answer { json, position, next })
}

/// The position of the first page and the place of the last row seen.
fn read_cursor(cursor: &str, as_of: &AsOf) -> Result<(i64, Vec<u8>), QueryError> {
    let wrong = || bad("cursor", "must be `next` of an earlier answer with the same as_of");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
    let read: Cursor<'_> = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    let is_same = read.as_of == as_of.asked && (0..=as_of.position).contains(&read.position);
    if is_same { Ok((read.position, read.place.get().into())) } else { Err(wrong()) }
}
