//! One version's own task: takes batches as they come, fetches what is missing from the journal,
//! stops alone where an event can't be folded, and is switched to when it has caught up.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_journal::{EventFilter, JournalError, Reader, StoredEvent};
use tokio::sync::{mpsc, watch};
use tokio_postgres::{Config, NoTls, error::SqlState};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    batch::{Advanced, Fold, Step},
    copied::CopyError,
    definition::{Definition, OnError, short},
    install::database_detail,
    notify::Moved,
    versions::VersionState,
};

/// Most events of one statement.
const BATCH_EVENTS: usize = 5_000;
/// Most bytes of data of one statement, unless one event alone is larger.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Most deliveries that are looked at together.
const DELIVERIES: usize = 16;
/// Most positions that one reading of the journal covers, and most events it brings.
const HEAL_POSITIONS: i64 = 20_000;
const HEAL_EVENTS: i64 = 2_000;
/// So many missing positions are folded inside PostgreSQL, without fetching their events.
const SET_BASED_FROM: i64 = 5_000;
/// Positions of one such statement: of the version that answers, whose rows should not stand still
/// for long, and of others.
const SET_BASED_POSITIONS: i64 = 20_000;
const SET_BASED_POSITIONS_UNSEEN: i64 = 100_000;
/// A version with no tenant further behind than this is tried to be switched to.
const SWITCH_WITHIN: i64 = 2_000;
/// How often it is looked whether something is missing that nothing was delivered for.
const TICK: Duration = Duration::from_millis(500);
/// Wait before a lost connection is tried again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Events of one tenant on their way to every projection.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) tenant: i32,
    pub(crate) incarnation: Uuid,
    /// Ascending by position.
    pub(crate) events: Arc<Vec<StoredEvent>>,
}

/// Newest position known of each tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownHeads(Arc<Mutex<HashMap<i32, i64>>>);

impl KnownHeads {
    /// Notes a position of a tenant.
    pub(crate) fn note(&self, tenant: i32, position: i64) {
        let mut heads = self.0.lock().expect("no code panics while holding it");
        let head = heads.entry(tenant).or_insert(0);
        *head = position.max(*head);
    }

    fn all(&self) -> Vec<(i32, i64)> {
        let heads = self.0.lock().expect("no code panics while holding it");
        heads.iter().map(|(tenant, head)| (*tenant, *head)).collect()
    }
}

/// Where the worker's version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: VersionState,
    /// To be switched to once it has caught up.
    pub(crate) automatic: bool,
}

/// What a worker needs.
pub(crate) struct Worker {
    pub(crate) definition: Definition,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) config: Config,
    pub(crate) reader: Reader,
    pub(crate) deliveries: mpsc::Receiver<Delivery>,
    /// Set when something was not delivered because the queue was full.
    pub(crate) missed: Arc<AtomicBool>,
    pub(crate) heads: KnownHeads,
    pub(crate) moved: Moved,
    /// Silence after which missing events are fetched from the journal.
    pub(crate) heal_after: Duration,
    /// How long a projection that was stopped by an event waits before it tries again.
    pub(crate) retry_after: Duration,
    pub(crate) tenants: HashMap<i32, TenantState>,
    /// Whether the analysts' view is known to show this version.
    pub(crate) shown: bool,
}

/// How far a tenant is.
#[derive(Debug)]
pub(crate) struct TenantState {
    position: i64,
    heard: Instant,
    stopped_until: Option<Instant>,
    /// Up to here an event may be guilty: events are fetched, so that it can be named.
    careful_until: i64,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{}", database_detail(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Events collected for one step.
struct Pending<'a> {
    tenant: i32,
    incarnation: Uuid,
    next: i64,
    relevant: Vec<&'a StoredEvent>,
    bytes: usize,
}

impl Worker {
    /// Works until shutdown, whatever happens to its connection.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.serve() => ended,
            };
            match ended {
                Ok(()) => return,
                Err(error) => {
                    let version = short(&self.definition.version);
                    tracing::warn!(projection = self.definition.name, version, %error, "trying again");
                }
            }
            // what was moved is in the database
            self.tenants.retain(|_, state| state.stopped_until.is_some());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RECONNECT) => {}
            }
        }
    }

    /// Works over one connection. `Ok`: nothing will be delivered any more.
    async fn serve(&mut self) -> Result<(), Trouble> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let served = async {
            let fold = Fold::prepare(client, &self.definition).await?;
            self.follow(&fold).await
        }
        .await;
        connection.abort();
        served
    }

    async fn follow(&mut self, fold: &Fold) -> Result<(), Trouble> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deliveries = Vec::with_capacity(DELIVERIES);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    self.heal_silent(fold).await?;
                    self.settle(fold).await?;
                    self.gauge_parked(fold).await?;
                }
                count = self.deliveries.recv_many(&mut deliveries, DELIVERIES) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.take(fold, &deliveries).await?;
                    deliveries.clear();
                }
            }
        }
    }

    /// Folds deliveries, several in one step where they go on from each other.
    async fn take(&mut self, fold: &Fold, deliveries: &[Delivery]) -> Result<(), Trouble> {
        let mut pending: Option<Pending<'_>> = None;
        for delivery in deliveries {
            let tenant = delivery.tenant;
            self.state(fold, tenant).await?.heard = Instant::now();
            if pending
                .as_ref()
                .is_some_and(|p| (p.tenant, p.incarnation) != (tenant, delivery.incarnation))
            {
                self.flush(fold, pending.take()).await?;
            }
            let mut events = delivery.events.iter().peekable();
            while let Some(event) = events.peek() {
                if self.is_stopped(tenant) {
                    pending = None;
                    break;
                }
                let at = match &pending {
                    Some(pending) => pending.next,
                    None => self.state(fold, tenant).await?.position,
                };
                if event.position <= at {
                    events.next();
                } else if event.position > at + 1 {
                    self.flush(fold, pending.take()).await?;
                    if self.state(fold, tenant).await?.position == at {
                        self.heal(fold, tenant, event.position - 1).await?;
                    }
                } else {
                    let pending_now = pending.get_or_insert_with(|| Pending {
                        tenant,
                        incarnation: delivery.incarnation,
                        next: at,
                        relevant: Vec::new(),
                        bytes: 0,
                    });
                    pending_now.next = event.position;
                    if self.definition.reads(&event.kind) {
                        pending_now.relevant.push(event);
                        pending_now.bytes += event.data.len();
                    }
                    events.next();
                    if pending_now.relevant.len() >= BATCH_EVENTS
                        || pending_now.bytes >= BATCH_BYTES
                    {
                        self.flush(fold, pending.take()).await?;
                    }
                }
            }
        }
        self.flush(fold, pending).await
    }

    async fn flush(&mut self, fold: &Fold, pending: Option<Pending<'_>>) -> Result<(), Trouble> {
        match pending {
            Some(p) if !self.is_stopped(p.tenant) => {
                self.advance(fold, p.tenant, p.incarnation, p.next, &p.relevant).await
            }
            _ => Ok(()),
        }
    }

    /// Brings tenants up to date that are behind although nothing is being delivered.
    async fn heal_silent(&mut self, fold: &Fold) -> Result<(), Trouble> {
        // what was not delivered is fetched once everything that was is done
        let missed = self.deliveries.is_empty() && self.missed.swap(false, Ordering::Relaxed);
        for (tenant, head) in self.heads.all() {
            let heal_after = self.heal_after;
            let state = self.state(fold, tenant).await?;
            let retry = state.stopped_until.is_some_and(|until| until <= Instant::now());
            if retry {
                state.stopped_until = None;
                state.careful_until = state.position + HEAL_POSITIONS;
            }
            if state.position < head && (retry || missed || state.heard.elapsed() >= heal_after) {
                self.heal(fold, tenant, head).await?;
            }
        }
        Ok(())
    }

    /// Shows how many keys wait for somebody.
    async fn gauge_parked(&mut self, fold: &Fold) -> Result<(), Trouble> {
        if self.parks() {
            let counts = fold.count_parked().await?;
            for tenant in self.tenants.keys() {
                let count = counts.iter().find(|(of, _)| of == tenant).map_or(0, |(_, n)| *n);
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                metrics::gauge!("daybook_projection_parked_keys", &self.labels(*tenant))
                    .set(count as f64);
            }
        }
        Ok(())
    }

    /// Makes the version the one that answers once it has caught up, if it is to be; and once it
    /// is, lets analysts see it.
    async fn settle(&mut self, fold: &Fold) -> Result<(), Trouble> {
        let standing = *self.standing.borrow_and_update();
        if standing.state == VersionState::Building && standing.automatic {
            for (tenant, head) in self.heads.all() {
                let stopped = self.is_stopped(tenant);
                if stopped || self.state(fold, tenant).await?.position < head - SWITCH_WITHIN {
                    return Ok(());
                }
            }
            self.shown = false;
            if !fold.switch_to().await? {
                return Ok(());
            }
            let (projection, version) = (&self.definition.name, short(&self.definition.version));
            tracing::info!(projection, version, "switched to");
            for (tenant, state) in &self.tenants {
                self.moved.note(projection, *tenant, state.position, None);
            }
        } else if standing.state != VersionState::Active {
            self.shown = false;
            return Ok(());
        }
        if !self.shown {
            self.shown = fold.show_analysts().await?;
        }
        Ok(())
    }

    /// Folds what is missing up to a position, from the journal, in bounded pieces.
    async fn heal(&mut self, fold: &Fold, tenant: i32, until: i64) -> Result<(), Trouble> {
        let incarnation = self.reader.incarnation().await?;
        loop {
            let state = self.state(fold, tenant).await?;
            let (at, careful_until) = (state.position, state.careful_until);
            if at >= until || self.is_stopped(tenant) {
                return Ok(());
            }
            if until - at >= SET_BASED_FROM && at >= careful_until {
                self.heal_set_based(fold, tenant, incarnation, at, until).await?;
                continue;
            }
            let piece = until.min(at + HEAL_POSITIONS);
            let filter = EventFilter {
                kinds: self.definition.events.clone(),
                until: Some(piece),
                ..EventFilter::default()
            };
            let events = self.reader.events(tenant, at, HEAL_EVENTS, &filter).await?;
            let whole = i64::try_from(events.len()).is_ok_and(|count| count < HEAL_EVENTS);
            let next = if whole { piece } else { events.last().map_or(piece, |e| e.position) };
            self.count_healed(next - at);
            let events: Vec<_> = events.iter().collect();
            self.advance(fold, tenant, incarnation, next, &events).await?;
        }
    }

    /// Folds the next piece in one statement. One that PostgreSQL refuses is left to be folded with
    /// care.
    async fn heal_set_based(
        &mut self,
        fold: &Fold,
        tenant: i32,
        incarnation: Uuid,
        at: i64,
        until: i64,
    ) -> Result<(), Trouble> {
        let seen = self.standing.borrow().state == VersionState::Active;
        let most = if seen { SET_BASED_POSITIONS } else { SET_BASED_POSITIONS_UNSEEN };
        let next = until.min(at + most);
        let step = Step { tenant, incarnation, expected: at, next };
        match fold.advance_journal(&self.reader, step).await {
            Ok(Some(advanced)) => {
                self.count_healed(next - at);
                self.moved_to(tenant, next, 0, advanced);
                Ok(())
            }
            Ok(None) => self.reload(fold, tenant, incarnation).await,
            Err(CopyError::Database(error)) if is_events_fault(&error) => {
                self.state(fold, tenant).await?.careful_until = next;
                Ok(())
            }
            Err(CopyError::Database(error)) => Err(error.into()),
            Err(CopyError::Journal(error)) => Err(error.into()),
        }
    }

    fn count_healed(&self, positions: i64) {
        metrics::counter!("daybook_projection_healed_positions_total",
            "projection" => self.definition.name.clone())
        .increment(u64::try_from(positions).unwrap_or(0));
    }

    /// Moves the checkpoint from where it stands to `next` over these events; halves what
    /// PostgreSQL refuses until the guilty event stands alone.
    async fn advance(
        &mut self,
        fold: &Fold,
        tenant: i32,
        incarnation: Uuid,
        next: i64,
        events: &[&StoredEvent],
    ) -> Result<(), Trouble> {
        let mut todo = vec![(events, next)];
        while let Some((events, next)) = todo.pop() {
            let bytes: usize = events.iter().map(|e| e.data.len()).sum();
            if events.len() > 1 && bytes > 2 * BATCH_BYTES {
                halve(&mut todo, events, next);
                continue;
            }
            let expected = self.state(fold, tenant).await?.position;
            if next <= expected {
                continue;
            }
            let step = Step { tenant, incarnation, expected, next };
            match fold.advance(step, events).await {
                Ok(Some(advanced)) => self.moved_to(tenant, next, events.len(), advanced),
                Ok(None) => return self.reload(fold, tenant, incarnation).await,
                Err(error) if !is_events_fault(&error) => return Err(error.into()),
                Err(_) if events.len() > 1 => halve(&mut todo, events, next),
                Err(error) => {
                    let guilty = events.first().copied();
                    // up to just before the guilty event all is well
                    if let Some(before) = guilty.map(|e| e.position - 1).filter(|b| *b > expected)
                        && let Some(advanced) =
                            fold.advance(Step { next: before, ..step }, &[]).await?
                    {
                        self.moved_to(tenant, before, 0, advanced);
                    }
                    if let Some(event) = guilty.filter(|_| self.parks()) {
                        let expected = self.state(fold, tenant).await?.position;
                        match self.park(fold, Step { expected, ..step }, event).await {
                            Ok(true) => continue,
                            Ok(false) => return self.reload(fold, tenant, incarnation).await,
                            // key.sql itself can't say whose it is
                            Err(error) if is_events_fault(&error) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                    let kind = guilty.map(|e| e.kind.as_str());
                    let at = guilty.map(|e| e.position);
                    return self.stop(fold, tenant, at, kind, &database_detail(&error)).await;
                }
            }
        }
        Ok(())
    }

    fn parks(&self) -> bool {
        self.definition.on_error == OnError::Park
    }

    /// Goes on over an event that can't be folded, putting the keys aside that it can't be folded
    /// onto. False: the checkpoint stands elsewhere.
    async fn park(
        &mut self,
        fold: &Fold,
        step: Step,
        event: &StoredEvent,
    ) -> Result<bool, tokio_postgres::Error> {
        let Some((advanced, keys)) = fold.advance_parking(step, event).await? else {
            return Ok(false);
        };
        let (projection, version) = (&self.definition.name, short(&self.definition.version));
        let (tenant, position, kind) = (step.tenant, event.position, &event.kind);
        tracing::error!(projection, version, tenant, position, kind, ?keys, "parked");
        self.moved_to(tenant, step.next, 1, advanced);
        Ok(true)
    }

    fn moved_to(&mut self, tenant: i32, position: i64, events: usize, advanced: Advanced) {
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.position = position;
        }
        if advanced.active {
            self.moved.note(&self.definition.name, tenant, position, advanced.keys);
        }
        let labels = self.labels(tenant);
        metrics::counter!("daybook_projection_events_total", &labels)
            .increment(u64::try_from(events).unwrap_or(u64::MAX));
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("daybook_projection_position", &labels).set(position as f64);
        metrics::gauge!("daybook_projection_stopped", &labels).set(0.0);
    }

    fn labels(&self, tenant: i32) -> [(&'static str, String); 3] {
        [
            ("projection", self.definition.name.clone()),
            ("version", short(&self.definition.version).to_owned()),
            ("tenant", tenant.to_string()),
        ]
    }

    /// Somebody else has moved the checkpoint: goes on from where it stands now.
    async fn reload(&mut self, fold: &Fold, tenant: i32, ours: Uuid) -> Result<(), Trouble> {
        self.tenants.remove(&tenant);
        self.moved.lost(&self.definition.name, tenant);
        let found = fold.checkpoint(tenant).await?;
        tracing::debug!(
            projection = self.definition.name,
            tenant,
            position = found.position,
            "checkpoint was moved elsewhere"
        );
        if found.position > 0 && found.incarnation.is_some_and(|theirs| theirs != ours) {
            let detail = format!(
                "its rows come from another history of the journal ({:?}, now {ours}): rebuild it",
                found.incarnation
            );
            return self.stop(fold, tenant, None, None, &detail).await;
        }
        self.state(fold, tenant).await.map(|_| ())
    }

    /// Stops this projection for this tenant, for a while, where everybody can see it.
    async fn stop(
        &mut self,
        fold: &Fold,
        tenant: i32,
        position: Option<i64>,
        kind: Option<&str>,
        detail: &str,
    ) -> Result<(), Trouble> {
        let (projection, version) = (&self.definition.name, &self.definition.version);
        tracing::error!(
            projection,
            version = short(version),
            tenant,
            position,
            kind,
            error = detail,
            "stopped"
        );
        let error = serde_json::json!({"position": position, "type": kind, "message": detail});
        fold.client()
            .execute(
                "insert into projection.checkpoints (projection, version, tenant, position, error)
                 values ($1, $2, $3, 0, $4)
                 on conflict (projection, version, tenant)
                 do update set error = excluded.error, updated_at = clock_timestamp()",
                &[projection, version, &tenant, &error],
            )
            .await?;
        metrics::gauge!("daybook_projection_stopped", &self.labels(tenant)).set(1.0);
        let until = Instant::now() + self.retry_after;
        self.state(fold, tenant).await?.stopped_until = Some(until);
        Ok(())
    }

    fn is_stopped(&self, tenant: i32) -> bool {
        self.tenants.get(&tenant).is_some_and(|state| state.stopped_until.is_some())
    }

    /// Where a tenant stands, read from its checkpoint at first.
    async fn state(&mut self, fold: &Fold, tenant: i32) -> Result<&mut TenantState, Trouble> {
        match self.tenants.entry(tenant) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let position = fold.checkpoint(tenant).await?.position;
                Ok(unknown.insert(TenantState {
                    position,
                    heard: Instant::now(),
                    stopped_until: None,
                    careful_until: 0,
                }))
            }
        }
    }
}

/// Puts both halves of a batch where its first half is taken next.
fn halve<'a, 'e>(
    todo: &mut Vec<(&'a [&'e StoredEvent], i64)>,
    events: &'a [&'e StoredEvent],
    next: i64,
) {
    let (left, right) = events.split_at(events.len() / 2);
    let between = left.last().expect("half of at least two").position;
    todo.push((right, next));
    todo.push((left, between));
}

/// Whether PostgreSQL refused because of what the events and the definition say, so that trying
/// again changes nothing.
fn is_events_fault(error: &tokio_postgres::Error) -> bool {
    let Some(db) = error.as_db_error() else { return false };
    let code = db.code();
    match &code.code()[..2] {
        // data, constraints, missing cases, raised by the fold, limits of a row or an index
        "20" | "21" | "22" | "23" | "2F" | "38" | "39" | "54" | "P0" => true,
        // names and types, but only inside of our function: without it, it is being installed
        "42" => *code != SqlState::INSUFFICIENT_PRIVILEGE && db.where_().is_some(),
        _ => false,
    }
}
