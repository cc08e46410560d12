//! A gateway whose network the tests control.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use daybook_work::{
    ChargeOutcome, ChargeRequest, Gateway, GatewayError, RefundOutcome, RefundRequest,
    SandboxGateway,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The sandbox behind a network that can be cut, and whose answers can be held up.
pub(crate) struct Staged {
    pub(crate) inner: SandboxGateway,
    /// Requests to move money don't arrive.
    pub(crate) deaf: AtomicBool,
    /// Answers to look-ups don't arrive.
    pub(crate) blind: AtomicBool,
    /// Money moves, but the answer of each move needs a permit.
    pub(crate) answers: Semaphore,
    /// How many moves arrived.
    pub(crate) arrived: AtomicUsize,
    /// How many answers are held up now, and were at most.
    held: AtomicUsize,
    pub(crate) most_held: AtomicUsize,
}

impl Staged {
    pub(crate) fn new(inner: SandboxGateway) -> Self {
        Self {
            inner,
            deaf: AtomicBool::new(false),
            blind: AtomicBool::new(false),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            arrived: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            most_held: AtomicUsize::new(0),
        }
    }

    pub(crate) fn hold_answers(self) -> Self {
        Self { answers: Semaphore::new(0), ..self }
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, SeqCst);
    }

    pub(crate) fn set_blind(&self, blind: bool) {
        self.blind.store(blind, SeqCst);
    }

    fn hear(&self) -> Result<(), GatewayError> {
        if self.deaf.load(SeqCst) { Err(GatewayError::Unreachable("cut".into())) } else { Ok(()) }
    }

    fn see(&self) -> Result<(), GatewayError> {
        if self.blind.load(SeqCst) { Err(GatewayError::Timeout) } else { Ok(()) }
    }

    async fn hold(&self) {
        self.arrived.fetch_add(1, SeqCst);
        let held = self.held.fetch_add(1, SeqCst) + 1;
        self.most_held.fetch_max(held, SeqCst);
        self.answers.acquire().await.expect("never closed").forget();
        self.held.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Gateway for Staged {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn charge(&self, request: ChargeRequest) -> Result<ChargeOutcome, GatewayError> {
        self.hear()?;
        let answer = self.inner.charge(request).await;
        self.hold().await;
        self.see()?;
        answer
    }

    async fn look_up(&self, payment_id: Uuid) -> Result<Vec<ChargeOutcome>, GatewayError> {
        self.see()?;
        self.inner.look_up(payment_id).await
    }

    async fn refund(&self, request: RefundRequest) -> Result<RefundOutcome, GatewayError> {
        self.hear()?;
        let answer = self.inner.refund(request).await;
        self.hold().await;
        self.see()?;
        answer
    }

    async fn look_up_refund(&self, refund_id: Uuid) -> Result<Vec<RefundOutcome>, GatewayError> {
        self.see()?;
        self.inner.look_up_refund(refund_id).await
    }
}
