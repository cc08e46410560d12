//! The writer: one per tenant and process, appends by group commit and follows its own log.
//!
//! This file is what callers hold; [`task`] is what works: commands queue, and a batch is whatever
//! has queued up while the batch before it committed.

mod batch;
mod cache;
mod condition;
mod queue;
mod session;
mod side;
mod task;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::condition::Condition;
pub use self::{condition::NotReady, task::WriterTask};
use crate::{
    event::Tenant,
    mac::MacKeys,
    model::Model,
    submission::{Outcome, Submission, SubmitError},
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
    /// Bytes of streams' states that are kept in memory, roughly ([`Model::weight`]); least
    /// recently used out first. What waiting commands need is kept beyond it.
    pub cache_bytes: usize,
    /// Events of a stream after which its state is written down as a snapshot, so that nobody has
    /// to fold more than about so many to read it.
    pub snapshot_events: i32,
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
            cache_bytes: 64 << 20,
            snapshot_events: 1_000,
            answer_timeout_ms: 10_000,
        }
    }
}

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
    /// Whether it may be decided. From here on a caller that stops waiting doesn't know whether
    /// it took effect; one that has stopped before was told that it didn't.
    fn take(&self) -> bool {
        let taken = self.stage.compare_exchange(
            stage::QUEUED,
            stage::SENT,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        // One that is decided again has been taken already.
        taken.is_ok() || taken == Err(stage::SENT)
    }

    fn answer(self, answer: Result<Outcome, SubmitError>) {
        // A caller that no longer waits has been told so already.
        self.reply.send(answer).ok();
    }
}

/// Takes commands for one tenant. Cheap to clone.
pub struct Writer<M: Model> {
    queue: mpsc::Sender<Item<M::Command>>,
    condition: Condition,
    tenant: Tenant,
}

impl<M: Model> Clone for Writer<M> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            condition: self.condition.clone(),
            tenant: self.tenant.clone(),
        }
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
        let condition = Condition::default();
        let task = WriterTask::new(
            config,
            tenant.clone(),
            model,
            keys,
            settings,
            commands,
            condition.clone(),
        );
        (Self { queue, condition, tenant }, task)
    }

    /// The tenant it writes to.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Whether its task is running and nothing that it knows of keeps it from writing. It takes
    /// commands all the same: they are answered as they can be.
    pub fn ready(&self) -> Result<(), NotReady> {
        if self.queue.is_closed() {
            return Err(NotReady::Stopped);
        }
        self.condition.get()
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
