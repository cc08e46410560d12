//! Long reads in bounded pages, each fetched when the one before it has been taken.

use std::future::Future;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    Direction, EventFilter, JournalError, Page, READ_TIMEOUT, Reader, StreamRange, event_from,
};
use crate::event::StoredEvent;

/// Events of one page at most.
const PAGE_EVENTS: i64 = 500;
/// Bytes of data and meta after which a page is cut short: it is this and one event at most.
const PAGE_BYTES: usize = 4 << 20;
/// Positions that one statement looks at, however few of them the filter lets through.
const WINDOW_POSITIONS: i64 = 20_000;

/// Where a tenant's page begins and ends, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Position before the first one.
    pub(crate) after: i64,
    /// Last position, which is committed.
    pub(crate) until: i64,
}

impl Reader {
    /// Events after a position, ascending, up to the head at the first poll or to
    /// [`EventFilter::until`] if that is less; the stream ends there. At most one page of them is
    /// in memory. After an error it ends.
    pub fn read(
        &self,
        tenant: i32,
        after: i64,
        filter: EventFilter,
    ) -> impl Stream<Item = Result<StoredEvent, JournalError>> + Send + use<> {
        self.read_pages(tenant, after, filter)
            .map_ok(|page| stream::iter(page.events).map(Ok))
            .try_flatten()
    }

    /// What [`Reader::read`] reads, page by page. A page may be empty where the filter lets nothing
    /// through; the last one reaches the end.
    pub fn read_pages(
        &self,
        tenant: i32,
        after: i64,
        filter: EventFilter,
    ) -> impl Stream<Item = Result<Page, JournalError>> + Send + use<> {
        let reader = self.clone();
        let begin = (after, None::<i64>);
        stream::try_unfold(begin, move |(after, until)| {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move {
                let until = match until {
                    Some(until) => until,
                    None => reader.head(tenant).await?.min(filter.until.unwrap_or(i64::MAX)),
                };
                if after >= until {
                    return Ok(None);
                }
                let window = Window { after, until };
                let page = Box::pin(reader.page(tenant, window, &filter)).await?;
                let reached = page.reached;
                Ok(Some((page, (reached, Some(until)))))
            }
        })
    }

    /// Events of a stream, from one end towards the other. At most one page of them is in memory.
    /// After an error it ends. Nothing for a stream without events.
    pub fn read_stream(
        &self,
        tenant: i32,
        stream: &str,
        range: StreamRange,
    ) -> impl Stream<Item = Result<StoredEvent, JournalError>> + Send + use<> {
        let (reader, name, direction) = (self.clone(), stream.to_owned(), range.direction);
        let first = range.from_version.unwrap_or(match direction {
            Direction::Forward => 1,
            Direction::Backward => i32::MAX,
        });
        let begin = (Some(first), range.limit.unwrap_or(i64::MAX));
        stream::try_unfold(begin, move |(from, wanted)| {
            let (reader, name) = (reader.clone(), name.clone());
            async move {
                let Some(from) = from.filter(|_| wanted > 0) else {
                    return Ok::<_, JournalError>(None);
                };
                let page = reader.stream_page(tenant, &name, direction, from, wanted);
                let events = Box::pin(page).await?;
                let Some(last) = events.last().map(|last| last.version) else { return Ok(None) };
                let next = match direction {
                    Direction::Forward => last.checked_add(1),
                    Direction::Backward => Some(last - 1).filter(|version| *version > 0),
                };
                let left = wanted - i64::try_from(events.len()).unwrap_or(i64::MAX);
                Ok(Some((stream::iter(events).map(Ok::<_, JournalError>), (next, left))))
            }
        })
        .try_flatten()
    }

    /// Where a page of `limit` events after a position ends: the last one's position, or how far
    /// one can look within `most_positions`. What lies up to there never changes any more, so a
    /// read up to it finds as many. Reads no contents.
    pub async fn page_end(
        &self,
        tenant: i32,
        after: i64,
        limit: i64,
        most_positions: i64,
        filter: &EventFilter,
    ) -> Result<i64, JournalError> {
        let head = self.head(tenant).await?.min(filter.until.unwrap_or(i64::MAX));
        let end = head.min(after.saturating_add(most_positions)).max(after);
        if filter.is_open() {
            return Ok(end.min(after.saturating_add(limit)));
        }
        let (mut reached, mut wanted) = (after, limit);
        while reached < end {
            let until = end.min(reached.saturating_add(WINDOW_POSITIONS));
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(include_str!("count.sql")).await?;
            let correlation = filter.correlation.map(|id| id.to_string());
            let row = within(client.query_one(
                &statement,
                &[
                    &tenant,
                    &reached,
                    &until,
                    &filter.kinds,
                    &filter.stream_prefix,
                    &correlation,
                    &wanted,
                ],
            ))
            .await?;
            let found: i64 = row.get(0);
            if found >= wanted {
                return Ok(row.get::<_, Option<i64>>(1).unwrap_or(until));
            }
            (reached, wanted) = (until, wanted - found);
        }
        Ok(reached)
    }

    /// One page of a window.
    async fn page(
        &self,
        tenant: i32,
        window: Window,
        filter: &EventFilter,
    ) -> Result<Page, JournalError> {
        let client = self.pool.get().await?;
        page_on(&client, tenant, window, filter).await
    }

    /// One page of a window, if the history is still `incarnation` (`None`: whichever it is); and
    /// which one it is. Both are asked over one connection, and no restore survives one.
    pub(crate) async fn page_of_history(
        &self,
        tenant: i32,
        window: Window,
        filter: &EventFilter,
        incarnation: Option<Uuid>,
    ) -> Result<(Page, Uuid), JournalError> {
        let client = self.pool.get().await?;
        let asked = client.prepare_cached("select journal.incarnation()").await?;
        let (now, page) = futures::future::join(
            within(client.query_one(&asked, &[])),
            page_on(&client, tenant, window, filter),
        )
        .await;
        let now = now?.get(0);
        if incarnation.is_some_and(|begun| begun != now) {
            return Err(JournalError::AnotherHistory);
        }
        Ok((page?, now))
    }

    async fn stream_page(
        &self,
        tenant: i32,
        stream: &str,
        direction: Direction,
        from: i32,
        wanted: i64,
    ) -> Result<Vec<StoredEvent>, JournalError> {
        let client = self.pool.get().await?;
        let statement = client
            .prepare_cached(match direction {
                Direction::Forward => include_str!("stream_forward.sql"),
                Direction::Backward => include_str!("stream_backward.sql"),
            })
            .await?;
        let most = wanted.min(PAGE_EVENTS);
        let parameters: [&(dyn ToSql + Sync); 4] = [&tenant, &stream, &from, &most];
        let (events, _more) = fetch(client.query_raw(&statement, parameters)).await?;
        Ok(events)
    }
}

async fn page_on(
    client: &deadpool_postgres::Client,
    tenant: i32,
    Window { after, until }: Window,
    filter: &EventFilter,
) -> Result<Page, JournalError> {
    let until = until.min(after.saturating_add(WINDOW_POSITIONS));
    let statement = client.prepare_cached(include_str!("events.sql")).await?;
    let correlation = filter.correlation.map(|id| id.to_string());
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&tenant, &after, &until, &filter.kinds, &filter.stream_prefix, &correlation, &PAGE_EVENTS];
    let (events, more) = fetch(client.query_raw(&statement, parameters)).await?;
    let reached = match events.last() {
        Some(last) if more => last.position,
        Some(_) | None => until,
    };
    Ok(Page { events, reached })
}

/// Takes rows until there are no more or the page is full, which the second answer says. What is
/// left of them is thrown away by the connection as it comes.
async fn fetch(
    rows: impl Future<Output = Result<tokio_postgres::RowStream, tokio_postgres::Error>>,
) -> Result<(Vec<StoredEvent>, bool), JournalError> {
    within(async {
        let mut rows = std::pin::pin!(rows.await?);
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let event = event_from(&row);
            bytes += event.data.len() + event.meta.len();
            events.push(event);
            if bytes >= PAGE_BYTES {
                return Ok((events, true));
            }
        }
        let full = i64::try_from(events.len()).is_ok_and(|count| count >= PAGE_EVENTS);
        Ok((events, full))
    })
    .await
}

async fn within<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, JournalError> {
    let answer = tokio::time::timeout(READ_TIMEOUT, answer).await;
    Ok(answer.map_err(|_elapsed| JournalError::Timeout(READ_TIMEOUT))??)
}
