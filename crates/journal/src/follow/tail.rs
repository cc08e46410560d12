//! A followed journal: what is there, then what comes, each event once.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use uuid::Uuid;

use super::Heads;
use crate::{
    event::StoredEvent,
    reader::{EventFilter, JournalError, Page, Reader, Window},
};

/// Pause before a read is tried again after a failure that may pass; doubled up to
/// [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Where a follower stands.
struct Follower {
    reader: Reader,
    heads: Heads,
    head: watch::Receiver<i64>,
    tenant: i32,
    filter: EventFilter,
    /// Up to here everything is committed, as far as it has heard.
    known: i64,
    /// Up to here everything has been looked at.
    reached: i64,
    /// The history that it follows, once it has read.
    incarnation: Option<Uuid>,
    ended: bool,
}

impl Reader {
    /// Events after a position, ascending: first those that are there, then each as it is
    /// committed, without a gap and without a repeat. Ends at [`EventFilter::until`], or never.
    ///
    /// Wake-ups come from `heads`, whose [`super::HeadsTask`] must be running: after a commit at
    /// once, and within half a second where a notification was lost. What is read is decided by
    /// positions alone, so a lost wake-up costs latency and nothing else. A connection that breaks
    /// is made anew as long as it takes; the stream ends after any other error, and after
    /// [`JournalError::AnotherHistory`]. At most one page of events is in memory.
    pub fn follow(
        &self,
        tenant: i32,
        after: i64,
        filter: EventFilter,
        heads: &Heads,
    ) -> impl Stream<Item = Result<StoredEvent, JournalError>> + Send + use<> {
        self.follow_pages(tenant, after, filter, heads)
            .map_ok(|page| stream::iter(page.events).map(Ok))
            .try_flatten()
    }

    /// What [`Reader::follow`] follows, page by page, so that it can be seen how far it has looked
    /// where the filter lets nothing through. A page may be empty.
    pub fn follow_pages(
        &self,
        tenant: i32,
        after: i64,
        filter: EventFilter,
        heads: &Heads,
    ) -> impl Stream<Item = Result<Page, JournalError>> + Send + use<> {
        let follower = Follower {
            reader: self.clone(),
            head: heads.watch(tenant),
            heads: heads.clone(),
            tenant,
            filter,
            known: 0,
            reached: after,
            incarnation: None,
            ended: false,
        };
        stream::unfold(follower, async |mut follower| {
            let next = follower.next().await?;
            Some((next, follower))
        })
    }
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Page, JournalError>> {
        let until = self.filter.until.unwrap_or(i64::MAX);
        let mut pause = RETRY_MIN;
        loop {
            if self.ended || self.reached >= until {
                return None;
            }
            // Boxed: what is on the way of a read is large, and its user has to carry it.
            match Box::pin(self.turn(until)).await {
                Ok(Some(page)) => return Some(Ok(page)),
                Ok(None) => pause = RETRY_MIN,
                Err(error) if error.is_transient() => {
                    // Nothing of the page that failed was taken: it is read again from the start.
                    tracing::debug!(%error, tenant = self.tenant, "following is interrupted");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Reads the next page, or waits until there may be one.
    async fn turn(&mut self, until: i64) -> Result<Option<Page>, JournalError> {
        // Marked as seen before it is compared, so that a move in between wakes the wait below.
        self.known = self.known.max(*self.head.borrow_and_update());
        if self.incarnation.is_none() {
            // What is there already should not wait for the first notification or look.
            self.known = self.known.max(self.reader.head(self.tenant).await?);
        }
        if self.known <= self.reached && self.incarnation.is_some() {
            if self.head.changed().await.is_err() {
                self.head = self.heads.watch(self.tenant);
            }
            return Ok(None);
        }
        let window = Window { after: self.reached, until: self.known.max(self.reached).min(until) };
        let (page, incarnation) = self
            .reader
            .page_of_history(self.tenant, window, &self.filter, self.incarnation)
            .await?;
        self.incarnation = Some(incarnation);
        self.reached = page.reached;
        Ok(Some(page))
    }
}
