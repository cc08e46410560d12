//! The writer: one per tenant and process, appends by group commit and follows its own log.
//!
//! Commands queue; a batch is whatever has queued up while the batch before it committed. A batch
//! is decided in memory on state folded up to the head that the writer has seen, and appended by
//! one call that takes the tenant's lock, compares the head, writes and commits. If somebody else
//! has appended meanwhile nothing is written, and the batch is decided again while holding the
//! lock, where nobody can make it miss a second time.

mod batch;
mod cache;
mod session;

use std::{
    collections::{HashSet, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    batch::{Answer, Decided},
    cache::Cache,
    session::{Appended, Session, SessionError},
};
use crate::{
    event::Tenant,
    mac::MacKeys,
    model::{Loaded, Model},
    record,
    submission::{IdempotencyKey, Outcome, Submission, SubmitError, Verdict},
};

/// Named limits of a writer.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Commands that may wait; one more is answered [`SubmitError::Overloaded`].
    pub queue_commands: usize,
    /// Commands decided and committed together.
    pub batch_commands: usize,
    /// Events after which a batch takes no further command.
    pub batch_events: usize,
    /// Events that one command may append.
    pub command_events: usize,
    /// Streams that one command may read.
    pub command_streams: usize,
    /// Bytes of one event's data and meta in canonical form.
    pub event_bytes: usize,
    /// Streams whose state is kept in memory, least recently used out first.
    pub cached_streams: usize,
    /// How long PostgreSQL may take to answer before the connection is given up, milliseconds.
    pub answer_timeout_ms: u64,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            queue_commands: 4_096,
            batch_commands: 500,
            batch_events: 10_000,
            command_events: 5_000,
            command_streams: 5_000,
            event_bytes: 1 << 20,
            cached_streams: 20_000,
            answer_timeout_ms: 10_000,
        }
    }
}

/// Batches in a row that must find nobody else writing before the lock is no longer taken first.
const ALONE_AFTER_BATCHES: u32 = 3;
/// Pause before a lost connection is made anew; doubled up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// Where a command is on its way; decides what a caller that stops waiting is told.
mod stage {
    pub(super) const QUEUED: u8 = 0;
    pub(super) const SENT: u8 = 1;
    pub(super) const ABANDONED: u8 = 2;
}

/// A command in the queue.
struct Item<C> {
    submission: Submission<C>,
    reply: oneshot::Sender<Result<Outcome, SubmitError>>,
    stage: Arc<AtomicU8>,
}

impl<C> Item<C> {
    fn answer(self, answer: Result<Outcome, SubmitError>) {
        // A caller that no longer waits has been told so already.
        self.reply.send(answer).ok();
    }
}

/// Takes commands for one tenant. Cheap to clone.
pub struct Writer<M: Model> {
    queue: mpsc::Sender<Item<M::Command>>,
    tenant: Tenant,
}

impl<M: Model> Clone for Writer<M> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), tenant: self.tenant.clone() }
    }
}

/// An outcome on its way. Dropping it does not take the command back.
pub struct Pending(BoxFuture<'static, Result<Outcome, SubmitError>>);

impl Future for Pending {
    type Output = Result<Outcome, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl Pending {
    fn ready(answer: Result<Outcome, SubmitError>) -> Self {
        Self(Box::pin(std::future::ready(answer)))
    }

    fn waiting(
        answer: oneshot::Receiver<Result<Outcome, SubmitError>>,
        stage: Arc<AtomicU8>,
        deadline: Instant,
    ) -> Self {
        Self(Box::pin(async move {
            let lost = || {
                // Only a command that was never sent is known to have had no effect.
                let unsent = stage.compare_exchange(
                    stage::QUEUED,
                    stage::ABANDONED,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                unsent.is_ok()
            };
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_dropped)) if lost() => {
                    Err(SubmitError::Unavailable("the writer stopped".to_owned()))
                }
                Err(_elapsed) if lost() => Err(SubmitError::Expired),
                Ok(Err(_)) | Err(_) => Err(SubmitError::OutcomeUnknown),
            }
        }))
    }
}

impl<M: Model> Writer<M> {
    /// A writer for `tenant` that logs in with `config`, directly (not through a pooler), and the
    /// task that does the work. MACs are made with `keys`.
    pub fn new(
        config: tokio_postgres::Config,
        tenant: Tenant,
        model: Arc<M>,
        keys: MacKeys,
        settings: WriterConfig,
    ) -> (Self, WriterTask<M>) {
        let (queue, commands) = mpsc::channel(settings.queue_commands);
        let (committed, _) = watch::channel(0);
        let task = WriterTask {
            cache: Cache::new(settings.cached_streams),
            tenant: tenant.clone(),
            config,
            model,
            keys,
            settings,
            commands,
            committed,
            waiting: VecDeque::new(),
            locked_for: 0,
        };
        (Self { queue, tenant }, task)
    }

    /// The tenant it writes to.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Whether its task is still running.
    pub fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Decides and appends a command; a full queue is answered at once.
    pub async fn submit(&self, submission: Submission<M::Command>) -> Result<Outcome, SubmitError> {
        let (item, pending) = wrap(submission);
        match self.queue.try_send(item) {
            Ok(()) => pending.await,
            Err(mpsc::error::TrySendError::Full(_)) => Err(SubmitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(stopped()),
        }
    }

    /// Queues a command, waiting for room; commands are decided in the order in which they were
    /// queued. The deadline runs from when it has found room.
    pub async fn enqueue(&self, submission: Submission<M::Command>) -> Pending {
        let Ok(room) = self.queue.reserve().await else {
            return Pending::ready(Err(stopped()));
        };
        let (item, pending) = wrap(submission);
        room.send(item);
        pending
    }
}

fn stopped() -> SubmitError {
    SubmitError::Unavailable("the writer stopped".to_owned())
}

fn wrap<C>(submission: Submission<C>) -> (Item<C>, Pending) {
    let (reply, answer) = oneshot::channel();
    let stage = Arc::new(AtomicU8::new(stage::QUEUED));
    let deadline = Instant::now() + submission.deadline;
    let pending = Pending::waiting(answer, stage.clone(), deadline);
    (Item { submission, reply, stage }, pending)
}

/// The part of a [`Writer`] that works; give it to a task.
pub struct WriterTask<M: Model> {
    config: tokio_postgres::Config,
    tenant: Tenant,
    model: Arc<M>,
    keys: MacKeys,
    settings: WriterConfig,
    commands: mpsc::Receiver<Item<M::Command>>,
    committed: watch::Sender<i64>,
    cache: Cache<M::State>,
    /// Commands that were received and have no answer yet, in order; each group is a batch of its
    /// own, so that a batch refused for its data can be halved.
    waiting: VecDeque<Vec<Item<M::Command>>>,
    /// Batches for which the lock is still taken before deciding.
    locked_for: u32,
}

/// What became of one attempt at a batch.
enum Attempt {
    /// Committed; the head moved to this position.
    Committed(i64),
    /// Somebody else has appended; nothing was written.
    Behind,
    /// These keys have records; nothing was written.
    Taken(Vec<TakenKey>),
    /// PostgreSQL refused the batch because of its data.
    Refused(String),
}

/// An idempotency record that stands in a batch's way.
pub(super) struct TakenKey {
    principal: String,
    key: String,
    fingerprint: Vec<u8>,
    verdict: Option<Verdict>,
}

impl<M: Model> WriterTask<M> {
    /// Works until `shutdown`, then finishes what has been queued and ends.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let notifier =
            session::Notifier::new(self.config.clone(), self.tenant.id, self.committed.subscribe());
        let notify = notifier.run();
        tokio::pin!(notify);
        tokio::select! {
            () = self.work(shutdown) => {}
            () = &mut notify => {}
        }
    }

    async fn work(&mut self, shutdown: CancellationToken) {
        let mut pause = RECONNECT_MIN;
        let mut session: Option<Session> = None;
        loop {
            if self.waiting.is_empty() && !self.receive(&shutdown).await {
                return;
            }
            let connected = match session.take() {
                Some(open) => Ok(open),
                None => self.connect().await,
            };
            let result = match connected {
                Ok(mut open) => {
                    let result = self.batch(&mut open).await;
                    if result.is_ok() {
                        session = Some(open);
                    }
                    result
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => pause = RECONNECT_MIN,
                Err(error) => {
                    tracing::warn!(%error, tenant = self.tenant.name, "journal connection lost");
                    metrics::counter!("daybook_journal_connection_lost_total").increment(1);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_MAX);
                    self.drop_abandoned();
                    if shutdown.is_cancelled() {
                        // Nobody can be told more than that the outcome is open.
                        self.waiting.clear();
                        return;
                    }
                }
            }
        }
    }

    /// Waits for commands; `false` when there will be no more.
    async fn receive(&mut self, shutdown: &CancellationToken) -> bool {
        let limit = self.settings.batch_commands;
        let mut group = Vec::with_capacity(limit);
        let received = tokio::select! {
            n = self.commands.recv_many(&mut group, limit) => n,
            () = shutdown.cancelled(), if !self.commands.is_closed() => {
                self.commands.close();
                self.commands.recv_many(&mut group, limit).await
            }
        };
        if !group.is_empty() {
            self.waiting.push_back(group);
        }
        received > 0
    }

    /// A connection whose head the cache agrees with.
    async fn connect(&mut self) -> Result<Session, SessionError> {
        let timeout = Duration::from_millis(self.settings.answer_timeout_ms);
        let session =
            Session::open(&self.config, self.tenant.id, timeout, &self.model.upcasters()).await?;
        let head = self.cache.head();
        if head.position > 0 && session.mac_at(head.position).await?.as_ref() != head.mac.as_ref() {
            self.cache.clear();
        }
        if self.cache.head().position == 0 {
            self.cache.restart(session.head().await?);
        }
        Ok(session)
    }

    /// Those whose callers no longer wait and that were never sent need no work.
    fn drop_abandoned(&mut self) {
        for group in &mut self.waiting {
            group.retain(|item| !item.reply.is_closed());
        }
        self.waiting.retain(|group| !group.is_empty());
    }

    /// Brings the first waiting group to an answer, or part of it.
    async fn batch(&mut self, session: &mut Session) -> Result<(), SessionError> {
        let Some(group) = self.waiting.pop_front() else { return Ok(()) };
        let (mut group, mut later) = admit(group);
        if group.is_empty() {
            self.put_back(later);
            return Ok(());
        }
        // Without a lock first; holding it where somebody else has been writing.
        let mut locked = self.locked_for > 0;
        loop {
            let (attempt, decided) = match self.attempt(session, &group, locked).await {
                Ok(done) => done,
                Err(error) => {
                    group.append(&mut later);
                    self.put_back(group);
                    return Err(error);
                }
            };
            match attempt {
                Attempt::Committed(position) => {
                    self.committed.send_if_modified(|head| {
                        let moved = *head != position;
                        *head = position;
                        moved
                    });
                    let rest = group.split_off(decided.answers.len());
                    for (item, answer) in group.into_iter().zip(decided.answers) {
                        item.answer(answer.into_outcome());
                    }
                    later.splice(0..0, rest);
                    self.put_back(later);
                    return Ok(());
                }
                Attempt::Behind => {
                    metrics::counter!("daybook_journal_head_missed_total").increment(1);
                    locked = true;
                    self.locked_for = ALONE_AFTER_BATCHES;
                }
                Attempt::Taken(taken) => {
                    group = answer_taken(group, &taken);
                    if group.is_empty() {
                        self.put_back(later);
                        return Ok(());
                    }
                }
                Attempt::Refused(reason) => {
                    if group.len() == 1 {
                        for item in group {
                            tracing::warn!(%reason, "a command's data was refused by the database");
                            item.answer(Err(SubmitError::Unstorable(
                                "the database refused its data".to_owned(),
                            )));
                        }
                        self.put_back(later);
                    } else {
                        let mut second = group.split_off(group.len() / 2);
                        second.append(&mut later);
                        self.put_back(second);
                        self.put_back(group);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn put_back(&mut self, group: Vec<Item<M::Command>>) {
        if !group.is_empty() {
            self.waiting.push_front(group);
        }
    }

    /// Reads what is missing, decides, appends.
    async fn attempt(
        &mut self,
        session: &mut Session,
        group: &[Item<M::Command>],
        locked: bool,
    ) -> Result<(Attempt, Decided<M>), SessionError> {
        if locked {
            session.begin_locked().await?;
            let head = self.cache.head().position;
            self.load(session, Vec::new()).await?;
            if self.cache.head().position == head {
                self.locked_for = self.locked_for.saturating_sub(1);
            } else {
                self.locked_for = ALONE_AFTER_BATCHES;
            }
        }
        let result = self.attempt_at_head(session, group).await;
        if locked {
            let commit = matches!(result, Ok((Attempt::Committed(_), _)));
            session.end_locked(commit).await?;
        }
        let (attempt, mut decided) = result?;
        if let Attempt::Committed(position) = attempt {
            self.cache.commit(std::mem::take(&mut decided.changed), decided.head.clone());
            debug_assert_eq!(position, self.cache.head().position);
            metrics::histogram!("daybook_journal_batch_commands")
                .record(f64::from(u32::try_from(decided.answers.len()).unwrap_or(u32::MAX)));
        }
        Ok((attempt, decided))
    }

    async fn attempt_at_head(
        &mut self,
        session: &mut Session,
        group: &[Item<M::Command>],
    ) -> Result<(Attempt, Decided<M>), SessionError> {
        self.load_for(session, group).await?;
        let decided = self.decide(group);
        let attempt = match session.append(&decided.append).await? {
            Appended::At(position) => Attempt::Committed(position),
            Appended::Behind => Attempt::Behind,
            Appended::Taken(taken) => Attempt::Taken(taken),
            Appended::Refused(reason) => Attempt::Refused(reason),
        };
        Ok((attempt, decided))
    }

    /// Reads the streams that the group's commands name until they name no more.
    async fn load_for(
        &mut self,
        session: &Session,
        group: &[Item<M::Command>],
    ) -> Result<(), SessionError> {
        loop {
            let mut cold: Vec<String> = Vec::new();
            let mut seen: HashSet<String> = HashSet::new();
            for item in group {
                let command = &item.submission.command;
                let mut loaded = Loaded::default();
                // Follows the names through what is cached; asks again only after they grew.
                loop {
                    let mut grew = false;
                    for stream in self.model.reads(command, &loaded) {
                        if loaded.contains(&stream) {
                            continue;
                        }
                        if let Some(cached) = self.cache.peek(&stream) {
                            // One that can't be folded is reported when it is decided on.
                            let state = cached.state.clone().unwrap_or(None);
                            loaded.insert(stream, state);
                            grew = true;
                        } else if seen.insert(stream.clone()) {
                            cold.push(stream);
                        }
                    }
                    if !grew {
                        break;
                    }
                }
            }
            if cold.is_empty() {
                return Ok(());
            }
            self.load(session, cold).await?;
        }
    }

    /// Reads streams together with the tail since the head, in one snapshot, and folds both: the
    /// cache then stands at that snapshot's head, every stream of it.
    async fn load(&mut self, session: &Session, cold: Vec<String>) -> Result<(), SessionError> {
        let head = self.cache.head().clone();
        let read = session.read(&head, &cold).await?;
        if !read.connects {
            // Too far behind, or another history: start from what is there now.
            self.cache.clear();
            self.cache.restart(session.head().await?);
            return Ok(());
        }
        for stream in cold {
            self.cache.begin(stream);
        }
        for event in &read.events {
            let folded = self.cache.fold(event, |state| {
                let decoded = self.model.decode(&event.kind, event.schema_version, &event.data)?;
                self.model.evolve(&event.stream, state, &decoded)
            });
            if let Err(error) = folded {
                tracing::error!(
                    %error, stream = event.stream, position = event.position,
                    "an event can't be folded; commands that read its stream fail"
                );
            }
        }
        if let Some(last) = read.head {
            self.cache.advance(last);
        }
        Ok(())
    }

    fn decide(&mut self, group: &[Item<M::Command>]) -> Decided<M> {
        let recorded_at = self.recorded_at();
        batch::decide(
            &batch::Rules {
                model: &*self.model,
                keys: &self.keys,
                tenant: &self.tenant,
                settings: &self.settings,
                recorded_at,
            },
            &mut self.cache,
            group.iter().map(|item| &item.submission),
        )
    }

    /// The greater of this machine's clock and the head's, so that it never decreases.
    fn recorded_at(&self) -> DateTime<Utc> {
        let now = Utc::now().trunc_subsecs(6);
        self.cache.head().recorded_at.map_or(now, |head| head.max(now))
    }
}

/// Splits a group into what is decided now and what must wait for the next batch: a key
/// stands once in a batch, and abandoned commands in none.
fn admit<C>(group: Vec<Item<C>>) -> (Vec<Item<C>>, Vec<Item<C>>) {
    let mut keys: HashSet<(String, String)> = HashSet::with_capacity(group.len());
    let mut now = Vec::with_capacity(group.len());
    let mut later = Vec::new();
    for item in group {
        let IdempotencyKey { principal, key, .. } = &item.submission.key;
        // Order is kept: behind one that must wait, everything waits.
        if !later.is_empty() || !keys.insert((principal.clone(), key.clone())) {
            later.push(item);
            continue;
        }
        let sent = item.stage.compare_exchange(
            stage::QUEUED,
            stage::SENT,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        // One that is being asked again after a lost connection has been sent already.
        if sent.is_ok() || sent == Err(stage::SENT) {
            now.push(item);
        }
    }
    (now, later)
}

/// Answers those whose keys have records; returns the others.
fn answer_taken<C>(group: Vec<Item<C>>, taken: &[TakenKey]) -> Vec<Item<C>> {
    let mut others = Vec::with_capacity(group.len());
    for item in group {
        let key = &item.submission.key;
        let Some(record) = taken.iter().find(|t| t.principal == key.principal && t.key == key.key)
        else {
            others.push(item);
            continue;
        };
        let answer = if record.fingerprint != key.fingerprint {
            Err(SubmitError::KeyReused)
        } else if let Some(verdict) = &record.verdict {
            Ok(Outcome { verdict: verdict.clone(), repeated: true })
        } else {
            Err(SubmitError::Corrupt(format!("idempotency record {:?} is damaged", key.key)))
        };
        item.answer(answer);
    }
    others
}

impl Answer {
    fn into_outcome(self) -> Result<Outcome, SubmitError> {
        self.0.map(|verdict| Outcome { verdict, repeated: false })
    }

    /// Position and text to remember; no text: nothing is remembered.
    fn record(&self, remember_refusals: bool) -> (Option<i64>, Option<String>) {
        match &self.0 {
            Ok(verdict @ Verdict::Accepted(accepted)) => {
                (Some(accepted.position), Some(record::to_json(verdict)))
            }
            Ok(verdict @ Verdict::Refused(_)) if remember_refusals => {
                (None, Some(record::to_json(verdict)))
            }
            Ok(Verdict::Refused(_)) | Err(_) => (None, None),
        }
    }
}
