//! Reading the journal ahead of the producer, tenant by tenant in turn.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use daybook_journal::Tenant;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_postgres::Row;

use super::{Shared, session::Session};
use crate::error::FeedError;

/// How often tenants are looked at without a wake-up.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Least time between two readings of a tenant that was read to its end. What is appended meanwhile
/// goes on together: a record costs Kafka, and each read model behind it, far less in a batch.
const READ_EVERY: Duration = Duration::from_millis(4);
/// Events of a page: the first and the largest one, and the bytes that the size is steered to.
const PAGE_FIRST: i64 = 500;
const PAGE_LARGEST: i64 = 4000;
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// Events of one tenant with consecutive positions.
pub(super) struct Page {
    pub(super) tenant: Tenant,
    pub(super) rows: Vec<Row>,
}

/// How far a tenant has been read.
struct Tail {
    tenant: Tenant,
    read: i64,
    limit: i64,
    heads: watch::Receiver<i64>,
}

impl Tail {
    /// Reads the next page; `true` if there may be more.
    async fn advance(
        &mut self,
        session: &Session,
        pages: &mpsc::Sender<Page>,
    ) -> Result<bool, FeedError> {
        let head = *self.heads.borrow_and_update();
        let limit = self.limit;
        let rows = session.page(self.tenant.id, self.read, limit).await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if count == 0 {
            return Ok(false);
        }
        let mut bytes = 0;
        for row in &rows {
            let found: i64 = row.try_get(0)?;
            if found != self.read + 1 {
                return Err(FeedError::JournalGap {
                    tenant: self.tenant.name.clone(),
                    after: self.read,
                    found,
                });
            }
            self.read = found;
            bytes += i64::try_from(row.raw_size_bytes()).unwrap_or(i64::MAX);
        }
        self.limit = (PAGE_BYTES / (bytes / count).max(1)).clamp(1, PAGE_LARGEST);
        let page = Page { tenant: self.tenant.clone(), rows };
        pages.send(page).await.map_err(|_closed| FeedError::Ended("the relay's producer"))?;
        Ok(count == limit || head > self.read)
    }
}

/// Resolves when a tenant's head has moved, but not before some time; `None`: it won't any more.
fn moved(
    tenant: i32,
    mut heads: watch::Receiver<i64>,
    not_before: Instant,
) -> BoxFuture<'static, Option<(i32, watch::Receiver<i64>)>> {
    async move {
        heads.changed().await.ok()?;
        tokio::time::sleep_until(not_before).await;
        heads.mark_unchanged();
        Some((tenant, heads))
    }
    .boxed()
}

/// Reads the tenants' new events, page by page, in turn, and goes on with the next page while the
/// last one is handed over.
pub(super) async fn read(
    shared: &Shared,
    session: &Session,
    mut tenants: watch::Receiver<Vec<Tenant>>,
    positions: HashMap<i32, i64>,
    pages: mpsc::Sender<Page>,
) -> Result<std::convert::Infallible, FeedError> {
    let mut tails: HashMap<i32, Tail> = HashMap::new();
    let mut wakings = FuturesUnordered::new();
    let mut poll = tokio::time::interval(POLL_EVERY);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut line: VecDeque<i32> = VecDeque::new();
    let mut in_line: HashSet<i32> = HashSet::new();
    tenants.mark_changed();
    loop {
        while let Some(id) = line.pop_front() {
            in_line.remove(&id);
            let Some(tail) = tails.get_mut(&id) else { continue };
            if tail.advance(session, &pages).await? && in_line.insert(id) {
                line.push_back(id);
            }
            // Those who woke meanwhile get their turn before this one has it again.
            while let Some(Some(Some((woken, heads)))) = wakings.next().now_or_never() {
                wakings.push(moved(woken, heads, Instant::now() + READ_EVERY));
                if in_line.insert(woken) {
                    line.push_front(woken);
                }
            }
        }
        tokio::select! {
            Some(woken) = wakings.next(), if !wakings.is_empty() => {
                if let Some((woken, heads)) = woken {
                    wakings.push(moved(woken, heads, Instant::now() + READ_EVERY));
                    in_line.insert(woken);
                    line.push_back(woken);
                }
            }
            _ = poll.tick() => {
                line.extend(tails.keys().filter(|id| in_line.insert(**id)));
            }
            changed = tenants.changed() => {
                changed.map_err(|_closed| FeedError::Ended("the relay's list of tenants"))?;
                for tenant in tenants.borrow_and_update().iter() {
                    tails.entry(tenant.id).or_insert_with(|| {
                        let heads = shared.heads.watch(tenant.id);
                        wakings.push(moved(tenant.id, heads.clone(), Instant::now()));
                        in_line.insert(tenant.id);
                        line.push_back(tenant.id);
                        Tail {
                            tenant: tenant.clone(),
                            read: positions.get(&tenant.id).copied().unwrap_or(0),
                            limit: PAGE_FIRST,
                            heads,
                        }
                    });
                }
            }
        }
    }
}
