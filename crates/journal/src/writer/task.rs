//! The part of a writer that works: it follows its own log.
//!
//! A batch is decided in memory on state folded up to the head that the writer has seen, and
//! appended by one call that takes the tenant's lock, compares the head, writes and commits. While
//! that is under way the next batch is read for, on the other connection, decided on top of what
//! the one under way will leave, and sent after it: should that one not commit, this one's head
//! doesn't exist, so nothing of it is written and it is decided again. If somebody else has
//! appended meanwhile nothing is written; the writer then takes the lock first, folds what was
//! appended, and decides while it holds the lock, where nobody can make it miss a second time.
//!
//! Why every decision is taken on current state: a stream in memory has every event up to the head
//! that the writer knows. What others append is folded into all of them, streams being read at
//! that time included (`kept`); what this writer appends concerns streams in memory only. A stream
//! read later than that head may have newer events, and then the append finds another head.
//!
//! This file is the loop: what is waited for, and what is sent when. [`outcome`] has what became of
//! a batch, [`memory`] what is known of streams.

mod memory;
mod outcome;

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, MaybeDone, maybe_done},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Item, NotReady, WriterConfig,
    batch::{Batch, NotTaken, Rules, View},
    cache::Cache,
    condition::Condition,
    queue::Queue,
    session::{Appended, ReadEvent, ReadStreams, Session, SessionError, Tail},
    side::{Side, Snapshot},
};
use crate::{event::Tenant, mac::MacKeys, model::Model};

/// Batches in a row that must find nobody else writing before the lock is no longer taken first.
const ALONE_AFTER_BATCHES: u32 = 3;
/// Commands decided before the writer looks whether PostgreSQL has answered.
const DECIDE_AT_ONCE: usize = 32;
/// Batches on their way to PostgreSQL at once: while it works on one, the next is there already.
const SENT_AT_ONCE: usize = 2;
/// Smallest batch for whose sake waiting commands are split into two, one being prepared while
/// the other is appended; below it the fixed cost of a commit outweighs that.
const SPLIT_FROM: usize = 16;
/// Snapshots that may wait to be written; further ones are left for later.
const SNAPSHOTS_WAITING: usize = 64;
/// Pause before a lost connection is made anew; doubled up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// The part of a [`super::Writer`] that works; give it to a task.
pub struct WriterTask<M: Model> {
    config: tokio_postgres::Config,
    rules: Rules<M>,
    commands: mpsc::Receiver<Item<M::Command>>,
    condition: Condition,
    committed: watch::Sender<i64>,
    snapshots: Option<([u8; 32], mpsc::Sender<Snapshot>)>,
    /// What the other end of `snapshots` is given to when the task runs.
    snapshots_wanted: Option<mpsc::Receiver<Snapshot>>,
    cache: Cache<M>,
    queue: Queue<M::Command>,
    /// On their way to PostgreSQL, each decided on top of what the one before it leaves.
    sent: VecDeque<Batch<M>>,
    /// Decided on top of what `sent` leaves, and still growing.
    open: Option<Batch<M>>,
    /// Sizes of the next batches, after one was refused for its data.
    pieces: VecDeque<usize>,
    /// Batches for which the lock is still taken before deciding.
    locked_for: u32,
    /// Streams whose snapshots can't be used.
    distrusted: HashSet<String>,
    /// Events of others that were folded since the read under way was sent.
    kept: Vec<ReadEvent>,
    incarnation: Uuid,
}

/// What the writing connection is doing.
enum Flight<'s> {
    Nothing,
    /// Waiting for the lock, then for the tail.
    Locking(BoxFuture<'s, Result<Tail, SessionError>>),
    /// The lock is held; nobody else can append.
    Held,
    /// The lock is given back.
    Releasing(BoxFuture<'s, Result<(), SessionError>>),
    /// One for each batch in [`WriterTask::sent`].
    Appending(VecDeque<Append<'s>>),
}

type Append<'s> = Pin<Box<MaybeDone<BoxFuture<'s, Result<Appended, SessionError>>>>>;

/// Streams on their way into memory.
type Reading<'s> = BoxFuture<'s, Result<(Vec<String>, ReadStreams), SessionError>>;

/// What the writer waited for.
enum Happened {
    /// The first batch that was sent came to this.
    Appended(Appended),
    Locked(Tail),
    Released,
    Read(Vec<String>, ReadStreams),
    Received,
    ShuttingDown,
    MoreToDecide,
}

impl<M: Model> WriterTask<M> {
    pub(super) fn new(
        config: tokio_postgres::Config,
        tenant: Tenant,
        model: Arc<M>,
        keys: MacKeys,
        settings: WriterConfig,
        commands: mpsc::Receiver<Item<M::Command>>,
        condition: Condition,
    ) -> Self {
        let (offered, wanted) = mpsc::channel(SNAPSHOTS_WAITING);
        Self {
            config,
            commands,
            condition,
            committed: watch::channel(0).0,
            snapshots: model.snapshots().map(|fingerprint| (fingerprint, offered)),
            snapshots_wanted: Some(wanted),
            cache: Cache::new(model.clone(), settings.cache_bytes),
            queue: Queue::default(),
            sent: VecDeque::new(),
            open: None,
            pieces: VecDeque::new(),
            locked_for: 0,
            distrusted: HashSet::new(),
            kept: Vec::new(),
            incarnation: Uuid::nil(),
            rules: Rules { model, keys, tenant, settings },
        }
    }

    /// Works until `shutdown`, then finishes what has been queued and ends.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let wanted = self.snapshots_wanted.take().expect("a task runs once");
        let tenant = self.rules.tenant.id;
        let side = Side::new(self.config.clone(), tenant, self.committed.subscribe(), wanted);
        let (condition, config) = (self.condition.clone(), self.config.clone());
        tokio::select! {
            () = self.work(shutdown) => {}
            () = side.run() => {}
            () = condition.watch(&config) => {}
        }
    }

    async fn work(&mut self, shutdown: CancellationToken) {
        let mut pause = RECONNECT_MIN;
        loop {
            // A connection is made when there is something to do, and made anew until it is done.
            if self.queue.is_empty() && !self.receive(&shutdown).await {
                return;
            }
            let worked = match self.connect().await {
                Ok(session) => {
                    pause = RECONNECT_MIN;
                    self.follow(&session, &shutdown).await
                }
                Err(error) => Err(error),
            };
            self.recall();
            let Err(error) = worked else { return };
            if let SessionError::Durability(_) = error {
                self.condition.set(NotReady::NotDurable);
            }
            tracing::warn!(%error, tenant = self.rules.tenant.name, "journal connection lost");
            metrics::counter!("daybook_journal_connection_lost_total").increment(1);
            if shutdown.is_cancelled() {
                // Nobody can be told more than that the outcome is open.
                self.queue.clear();
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
            self.queue.drop_abandoned();
        }
    }

    /// Waits for commands; `false` when there will be no more.
    async fn receive(&mut self, shutdown: &CancellationToken) -> bool {
        let limit = self.rules.settings.batch_commands;
        let mut received = Vec::new();
        let n = tokio::select! {
            n = self.commands.recv_many(&mut received, limit) => n,
            () = shutdown.cancelled(), if !self.commands.is_closed() => {
                self.commands.close();
                self.commands.recv_many(&mut received, limit).await
            }
        };
        for item in received {
            self.queue.push_back(item);
        }
        n > 0
    }

    /// Connections whose history the cache agrees with.
    async fn connect(&mut self) -> Result<Session, SessionError> {
        let timeout = Duration::from_millis(self.rules.settings.answer_timeout_ms);
        let upcasters = self.rules.model.upcasters();
        let session =
            Session::open(&self.config, self.rules.tenant.id, timeout, &upcasters).await?;
        let head = self.cache.head();
        let same = session.incarnation() == self.incarnation
            && head.position > 0
            && session.mac_at(head.position).await?.as_ref() == head.mac.as_ref();
        if !same {
            self.cache.restart(session.head().await?);
            self.incarnation = session.incarnation();
        }
        Ok(session)
    }

    /// What was decided and hasn't committed is undecided again, in its order.
    fn recall(&mut self) {
        if let Some(open) = self.open.take() {
            self.queue.put_back(open.items.into_iter());
        }
        while let Some(sent) = self.sent.pop_back() {
            self.queue.put_back(sent.items.into_iter());
        }
    }

    /// Works on one session until it breaks, or until the queue is closed and empty.
    async fn follow(
        &mut self,
        session: &Session,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut flight = Flight::Nothing;
        let mut reading: Option<Reading<'_>> = None;
        loop {
            if reading.is_none() {
                reading = self.read_cold(session);
            }
            let mut more = self.decide(&flight);
            if !more {
                let before = self.sent.len();
                flight = self.launch(session, flight, reading.is_some());
                more = self.sent.len() > before && self.queue.has_warm();
            }
            let idle = matches!(flight, Flight::Nothing) && reading.is_none() && !more;
            if idle
                && self.queue.is_empty()
                && self.commands.is_closed()
                && self.commands.is_empty()
            {
                return Ok(());
            }
            match self.wait(&mut flight, &mut reading, more, shutdown).await? {
                Happened::Appended(Appended::At(position)) => {
                    self.has_committed(session, &mut flight, position);
                }
                Happened::Appended(failed) => {
                    self.has_failed(flight, failed).await?;
                    flight = Flight::Nothing;
                }
                Happened::Locked(tail) => {
                    flight = Flight::Held;
                    if !self.fold_tail(tail, session, reading.is_some()).await? {
                        reading = None;
                    }
                }
                Happened::Released => flight = Flight::Nothing,
                Happened::Read(streams, read) => {
                    reading = None;
                    self.take_in(&streams, read);
                }
                Happened::Received | Happened::MoreToDecide => {}
                Happened::ShuttingDown => self.commands.close(),
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait<'s>(
        &mut self,
        flight: &mut Flight<'s>,
        reading: &mut Option<Reading<'s>>,
        more: bool,
        shutdown: &CancellationToken,
    ) -> Result<Happened, SessionError> {
        let room = (2 * self.rules.settings.batch_commands).saturating_sub(self.queue.len());
        let mut received = Vec::new();
        let answered = async {
            match flight {
                Flight::Appending(appends) => match appends.front_mut() {
                    Some(append) => finish(append).await.map(Happened::Appended),
                    None => std::future::pending().await,
                },
                Flight::Locking(lock) => lock.await.map(Happened::Locked),
                Flight::Releasing(release) => release.await.map(|()| Happened::Released),
                Flight::Nothing | Flight::Held => std::future::pending().await,
            }
        };
        let read = async {
            match reading {
                Some(reading) => reading.await.map(|(names, read)| Happened::Read(names, read)),
                None => std::future::pending().await,
            }
        };
        let happened = tokio::select! {
            biased;
            happened = answered => happened,
            happened = read => happened,
            n = self.commands.recv_many(&mut received, room), if room > 0 && !self.drained() => {
                debug_assert!(n > 0 || self.commands.is_closed());
                Ok(Happened::Received)
            }
            () = shutdown.cancelled(), if !self.commands.is_closed() => Ok(Happened::ShuttingDown),
            // No yield: callers that were just woken would all go first.
            () = std::future::ready(()), if more => Ok(Happened::MoreToDecide),
        };
        for item in received {
            self.queue.push_back(item);
        }
        happened
    }

    /// Whether no command will come any more.
    fn drained(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty()
    }

    /// Starts reading the streams that waiting commands need and that are not in memory.
    fn read_cold<'s>(&mut self, session: &'s Session) -> Option<Reading<'s>> {
        let limit = 2 * self.rules.settings.batch_commands;
        let mut view = View::new(&self.rules, &mut self.cache, &self.sent, self.open.as_ref());
        let streams = self.queue.scan(&mut view, limit);
        if streams.is_empty() {
            return None;
        }
        self.kept.clear();
        let fingerprint = self.snapshots.as_ref().map_or([0; 32], |(fingerprint, _)| *fingerprint);
        let distrusted: Vec<String> =
            streams.iter().filter(|stream| self.distrusted.contains(*stream)).cloned().collect();
        let read = async move {
            let read = session.streams(&streams, &fingerprint, &distrusted).await?;
            Ok((streams, read))
        };
        Some(read.boxed())
    }

    /// Decides commands that have all they read in memory; whether there is more to decide now.
    fn decide(&mut self, flight: &Flight<'_>) -> bool {
        let may = match flight {
            Flight::Nothing => self.locked_for == 0,
            // While waiting for the lock on what may have changed by then; see `fold_tail`.
            Flight::Held | Flight::Locking(_) => true,
            // A piece of a refused batch is sent when the one before it has an answer.
            Flight::Appending(_) => self.pieces.is_empty(),
            Flight::Releasing(_) => false,
        };
        if !may {
            return false;
        }
        let most = self.batch_commands();
        for _ in 0..DECIDE_AT_ONCE {
            if self.open.as_ref().is_some_and(|open| self.is_full(open, most)) {
                return false;
            }
            let Some(item) = self.queue.pop_warm() else { return false };
            if !item.take() {
                continue;
            }
            let open = self.open.get_or_insert_with(|| {
                let head = self.sent.back().map_or_else(|| self.cache.head(), Batch::end).clone();
                Batch::behind(head, self.locked_for > 0)
            });
            match open.take(&self.rules, &mut self.cache, &self.sent, item) {
                Ok(()) => {}
                Err(not_taken) => {
                    match *not_taken {
                        NotTaken::SameKey(item) => self.queue.put_back(std::iter::once(item)),
                        NotTaken::Cold(item, stream) => self.queue.put_back_cold(item, stream),
                    }
                    return false;
                }
            }
        }
        self.queue.has_warm()
    }

    /// How many commands the open batch is to have.
    fn batch_commands(&self) -> usize {
        let most = self.rules.settings.batch_commands;
        if let Some(&piece) = self.pieces.front() {
            return piece.min(most);
        }
        if self.locked_for > 0 {
            return most;
        }
        // Half of those under way: the other half is appended meanwhile.
        let open = self.open.as_ref().map_or(0, |open| open.items.len());
        let sent: usize = self.sent.iter().map(|batch| batch.items.len()).sum();
        (self.queue.len() + open + sent).div_ceil(2).max(SPLIT_FROM).min(most)
    }

    fn is_full(&self, open: &Batch<M>, most: usize) -> bool {
        open.items.len() >= most || open.events() >= self.rules.settings.batch_events
    }

    /// Gives the writing connection something to do, if there is something.
    fn launch<'s>(
        &mut self,
        session: &'s Session,
        mut flight: Flight<'s>,
        reading: bool,
    ) -> Flight<'s> {
        let most = self.batch_commands();
        let (decided, full) = self
            .open
            .as_ref()
            .map_or((0, false), |open| (open.items.len(), self.is_full(open, most)));
        match &mut flight {
            Flight::Nothing if self.locked_for > 0 => {
                if decided > 0 || !self.queue.is_empty() {
                    let head = self.cache.head().clone();
                    flight = Flight::Locking(async move { session.lock(&head).await }.boxed());
                }
            }
            // A few wait a moment for those that are still being read: two batches cost twice.
            Flight::Nothing if decided > 0 && (!reading || 2 * decided >= most) => {
                self.send(session, &mut flight);
            }
            Flight::Appending(appends)
                if full && self.locked_for == 0 && appends.len() < SENT_AT_ONCE =>
            {
                self.send(session, &mut flight);
            }
            Flight::Held if decided > 0 => self.send(session, &mut flight),
            // What is to be decided is still being read; the lock's own time-out bounds this.
            Flight::Held if reading => {}
            Flight::Held => flight = Flight::Releasing(session.release().boxed()),
            Flight::Nothing | Flight::Locking(_) | Flight::Releasing(_) | Flight::Appending(_) => {}
        }
        flight
    }

    /// Sends the open batch, if there is one, behind those that are on their way.
    fn send<'s>(&mut self, session: &'s Session, flight: &mut Flight<'s>) {
        let Some(mut batch) = self.open.take() else { return };
        self.pieces.pop_front();
        let append = batch.close();
        self.sent.push_back(batch);
        let locked = matches!(flight, Flight::Held);
        let sending = async move {
            if locked {
                session.append_locked(&append).await
            } else {
                session.append(&append).await
            }
        };
        let mut sending = Box::pin(maybe_done(sending.boxed()));
        // Polled once, so that it is on its way before anything else is done.
        let _pending = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match flight {
            Flight::Appending(appends) => appends.push_back(sending),
            Flight::Nothing | Flight::Locking(_) | Flight::Held | Flight::Releasing(_) => {
                *flight = Flight::Appending(VecDeque::from([sending]));
            }
        }
    }
}

/// What an append came to, once it has.
async fn finish(append: &mut Append<'_>) -> Result<Appended, SessionError> {
    append.as_mut().await;
    append.as_mut().take_output().expect("it was waited for, and is taken once")
}
