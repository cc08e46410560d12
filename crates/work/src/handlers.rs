//! What each kind of job does, and the command it ends in.

use std::{sync::Arc, time::Duration};

use daybook_commands::{
    Amount, Authority, Command, Currency, ExpireOrder, PaymentOutcome, RecordPaymentOutcome,
    RecordRefundOutcome, RefundOutcome, Request, Shop,
    jobs::{self, CHARGE_PAYMENT, EXPIRE_ORDER, REFUND_PAYMENT},
};
use daybook_journal::{Refusal, Retry, SubmitError, Verdict};
use serde::de::DeserializeOwned;

use crate::{
    gateway::{ChargeRequest, Gateway, GatewayError, RefundRequest},
    settle::{Asked, RefundSettled, Settled, judge, judge_found, judge_refund, judge_refund_found},
    store::Job,
    token::TokenSeal,
};

/// The kinds of jobs this program can do. Others are left to programs that can.
pub const KINDS: [&str; 3] = [CHARGE_PAYMENT, REFUND_PAYMENT, EXPIRE_ORDER];

/// What handlers work with.
pub(crate) struct Hands {
    pub(crate) shop: Shop,
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) seal: TokenSeal,
    pub(crate) gateway_timeout: Duration,
    pub(crate) command_deadline: Duration,
    pub(crate) key_window: Duration,
}

/// An attempt that did not end its job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For a person.
    pub(crate) error: String,
    /// Whether another attempt may end it.
    pub(crate) again: bool,
}

impl Failure {
    fn again(error: impl Into<String>) -> Self {
        Self { error: error.into(), again: true }
    }

    fn never(error: impl Into<String>) -> Self {
        Self { error: error.into(), again: false }
    }
}

impl Hands {
    /// Does the job. `Ok`: its result is recorded (or nothing is left to be recorded), it may end.
    pub(crate) async fn handle(&self, job: &Job) -> Result<(), Failure> {
        match job.kind.as_str() {
            CHARGE_PAYMENT => self.charge(job).await,
            REFUND_PAYMENT => self.refund(job).await,
            EXPIRE_ORDER => self.expire(job).await,
            other => Err(Failure::never(format!("no handler for jobs of kind {other:?}"))),
        }
    }

    async fn charge(&self, job: &Job) -> Result<(), Failure> {
        let payload: jobs::ChargePayment = payload(job)?;
        let payment_id = payload.payment_id;
        let outcome = outcome_of(self.settle(job, &payload).await?);
        if let PaymentOutcome::Unresolved { reason } = &outcome {
            let reason = reason.domain();
            tracing::error!(payment = %payment_id, %reason, "a person must look at a payment");
        }
        let command = Command::RecordPaymentOutcome(RecordPaymentOutcome { payment_id, outcome });
        // An outside fact: the journal has no business refusing it.
        self.record(job, command).await?.map_err(|refusal| refused(&refusal))
    }

    /// Charges, or learns what an earlier attempt has done. Reads nothing but the job.
    async fn settle(&self, job: &Job, payload: &jobs::ChargePayment) -> Result<Settled, Failure> {
        let Some(sealed) = &job.sealed else {
            return self.look_only(payload, "the gateway token is gone, nothing was found").await;
        };
        if job.claimed_at >= payload.deadline.0 || job.age >= self.key_window {
            return self.look_only(payload, "too late to charge, nothing was found").await;
        }
        // Perhaps this process has the wrong key; another may have the right one.
        let token = self
            .seal
            .open(payload.payment_id, sealed)
            .ok_or_else(|| Failure::again("the gateway token can't be opened with this key"))?;
        let request = ChargeRequest {
            payment_id: payload.payment_id,
            amount: payload.amount.get(),
            currency: payload.currency.domain().code().to_owned(),
            token,
            idempotency_key: format!("charge:{}", payload.payment_id),
        };
        match self.in_time(self.gateway.charge(request)).await {
            Ok(outcome) => Ok(judge(outcome)),
            // What happened is unknown: never assumed, looked up.
            Err(error) => match self.look(payload).await? {
                Some(settled) => Ok(settled),
                None if error.may_pass() => Err(Failure::again(error.to_string())),
                None => Ok(Settled::Unresolved { reason: format!("{error}; nothing was found") }),
            },
        }
    }

    /// Without charging: what the gateway knows, else a person must look.
    async fn look_only(
        &self,
        payload: &jobs::ChargePayment,
        reason: &'static str,
    ) -> Result<Settled, Failure> {
        let found = self.look(payload).await?;
        Ok(found.unwrap_or_else(|| Settled::Unresolved { reason: reason.to_owned() }))
    }

    async fn look(&self, payload: &jobs::ChargePayment) -> Result<Option<Settled>, Failure> {
        let found = self
            .in_time(self.gateway.look_up(payload.payment_id))
            .await
            .map_err(|error| Failure::again(error.to_string()))?;
        Ok(judge_found(found))
    }

    async fn refund(&self, job: &Job) -> Result<(), Failure> {
        let payload: jobs::RefundPayment = payload(job)?;
        let outcome = match self.settle_refund(job, &payload).await? {
            RefundSettled::Refunded => RefundOutcome::Refunded {},
            RefundSettled::Failed { reason } => RefundOutcome::Failed { reason: reason.into() },
            RefundSettled::Contradiction(what) => return Err(Failure::never(what)),
        };
        let command = Command::RecordRefundOutcome(RecordRefundOutcome {
            payment_id: payload.payment_id,
            refund_id: payload.refund_id,
            outcome,
        });
        self.record(job, command).await?.map_err(|refusal| refused(&refusal))
    }

    async fn settle_refund(
        &self,
        job: &Job,
        payload: &jobs::RefundPayment,
    ) -> Result<RefundSettled, Failure> {
        let asked =
            Asked { amount: payload.amount.get(), currency: payload.currency.domain().code() };
        if job.age >= self.key_window {
            // The gateway may have forgotten the key: the same request could refund twice.
            return self.look_refund(payload, asked).await?.ok_or_else(|| {
                Failure::never("too late to ask for the refund again, and the gateway has none")
            });
        }
        let request = RefundRequest {
            refund_id: payload.refund_id,
            payment_id: payload.payment_id,
            amount: payload.amount.get(),
            currency: payload.currency.domain().code().to_owned(),
            idempotency_key: format!("refund:{}", payload.refund_id),
        };
        match self.in_time(self.gateway.refund(request)).await {
            Ok(outcome) => Ok(judge_refund(asked, outcome)),
            Err(error) => match self.look_refund(payload, asked).await? {
                Some(settled) => Ok(settled),
                None if error.may_pass() => Err(Failure::again(error.to_string())),
                None => Err(Failure::never(error.to_string())),
            },
        }
    }

    async fn look_refund(
        &self,
        payload: &jobs::RefundPayment,
        asked: Asked<'_>,
    ) -> Result<Option<RefundSettled>, Failure> {
        let found = self
            .in_time(self.gateway.look_up_refund(payload.refund_id))
            .await
            .map_err(|error| Failure::again(error.to_string()))?;
        Ok(judge_refund_found(asked, found))
    }

    async fn expire(&self, job: &Job) -> Result<(), Failure> {
        let payload: jobs::ExpireOrder = payload(job)?;
        let order_id = payload.order_id;
        let command = Command::ExpireOrder(ExpireOrder { order_id, deadline: payload.deadline });
        if let Err(refusal) = self.record(job, command).await? {
            // Paid, cancelled, or being paid meanwhile: then there is nothing to expire.
            tracing::debug!(%order_id, code = refusal.code, "order does not expire");
        }
        Ok(())
    }

    /// Hands the result in as a command under the job's own key, and waits for its outcome. The
    /// same job's second result, whoever brings it, is answered with the first one's outcome.
    async fn record(&self, job: &Job, command: Command) -> Result<Result<(), Refusal>, Failure> {
        let request = Request {
            command,
            authority: Authority::Backend,
            principal: "backend".to_owned(),
            key: format!("job:{}", job.id),
            correlation: job.correlation.unwrap_or(job.id),
            causation: Some(format!("job:{}", job.id)),
            traceparent: job.traceparent.clone(),
            occurred_at: None,
            if_match: None,
            deadline: self.command_deadline,
            keep: None,
        };
        match self.shop.enqueue(job.tenant, request).await.await {
            Ok(outcome) => Ok(match outcome.verdict {
                Verdict::Accepted(_) => Ok(()),
                Verdict::Refused(refusal) => Err(refusal),
            }),
            Err(SubmitError::KeyReused) => {
                Err(Failure::never("another result of this job is recorded already"))
            }
            Err(error) => Err(match error.retry() {
                Retry::SameKey => Failure::again(error.to_string()),
                Retry::Never => Failure::never(error.to_string()),
            }),
        }
    }

    /// A call to the gateway, which is given up after a while: what came of it is then unknown.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        tokio::time::timeout(self.gateway_timeout, call).await.unwrap_or(Err(GatewayError::Timeout))
    }
}

/// The outcome as the payment takes it. What can't be written down as it was said is for a person.
fn outcome_of(settled: Settled) -> PaymentOutcome {
    match settled {
        Settled::Captured { gateway_payment_id, amount, currency } => {
            match (Amount::new(amount), Currency::new(&currency)) {
                (Ok(amount), Ok(currency)) => {
                    PaymentOutcome::Captured { gateway_payment_id, amount, currency }
                }
                (Err(_), _) | (_, Err(_)) => PaymentOutcome::Unresolved {
                    reason: format!("the gateway took {amount} {currency} as {gateway_payment_id}")
                        .into(),
                },
            }
        }
        Settled::Declined { reason } => PaymentOutcome::Declined { reason: reason.into() },
        Settled::Unresolved { reason } => PaymentOutcome::Unresolved { reason: reason.into() },
    }
}

fn payload<T: DeserializeOwned>(job: &Job) -> Result<T, Failure> {
    serde_json::from_value(job.payload.clone())
        .map_err(|error| Failure::never(format!("the payload can't be read: {error}")))
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::never(format!("its result was refused: {}: {}", refusal.code, refusal.detail))
}
