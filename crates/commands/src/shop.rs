//! The door to the shop: takes a request, makes it ready, and hands it to the tenant's writer.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, Utc};
use daybook_journal::{
    IdempotencyKey, IfMatch, Meta, NotReady, Outcome, Submission, SubmitError, Writer, canonical,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::{
    authority::Authority,
    model::{ShopCommand, ShopModel},
    streams,
    wire::Command,
};

/// A command and everything about how it was sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// On whose behalf.
    pub authority: Authority,
    /// Whose idempotency keys these are, and who stands in the events as the actor.
    pub principal: String,
    /// The idempotency key, 1 to 255 characters.
    pub key: String,
    /// Id shared by everything that one request set in motion.
    pub correlation: Uuid,
    /// What directly caused it, as `job:<uuid>`.
    pub causation: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// When it happened in the world; `None`: now.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Version at which the command's own stream must be.
    pub if_match: Option<i32>,
    /// How long it may wait before it is sent.
    pub deadline: Duration,
    /// How long its outcome is remembered; `None`: for ever, as always for the backend and
    /// imports.
    pub keep: Option<Duration>,
}

/// Encrypts the token of a payment for the job that charges it.
pub trait SealToken: Send + Sync {
    /// What goes into the job's row; can be opened only together with the payment's id.
    fn seal(&self, payment_id: Uuid, token: &str) -> Vec<u8>;
}

/// Takes commands for all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Shop {
    inner: Arc<Inner>,
}

struct Inner {
    writers: HashMap<i32, Writer<ShopModel>>,
    seal: Arc<dyn SealToken>,
    fingerprint_key: Vec<u8>,
}

impl Shop {
    /// A shop that writes with `writers` (by tenant number), seals tokens with `seal`, and makes
    /// fingerprints of requests with a key that the database never holds.
    pub fn new(
        writers: HashMap<i32, Writer<ShopModel>>,
        seal: Arc<dyn SealToken>,
        fingerprint_key: Vec<u8>,
    ) -> Self {
        Self { inner: Arc::new(Inner { writers, seal, fingerprint_key }) }
    }

    /// Whether the writers of all tenants can write, as far as they know; else the first that can't,
    /// by the tenant's name.
    pub fn ready(&self) -> Result<(), (String, NotReady)> {
        self.inner.writers.values().try_for_each(|writer| {
            writer.ready().map_err(|trouble| (writer.tenant().name.clone(), trouble))
        })
    }

    /// Decides and appends a command; [`SubmitError::Overloaded`] at once when the tenant's queue
    /// is full, [`SubmitError::Unavailable`] when the tenant has no writer here.
    pub async fn execute(&self, tenant: i32, request: Request) -> Result<Outcome, SubmitError> {
        let submission = self.inner.prepare(request)?;
        self.inner.writer(tenant)?.submit(submission).await
    }

    /// Queues a command, waiting for room. Commands are decided in the order in which they were
    /// queued, so one may follow on another before that is answered.
    pub async fn enqueue(&self, tenant: i32, request: Request) -> Pending {
        let writer = self.inner.writer(tenant);
        match self.inner.prepare(request).and_then(|s| writer.map(|writer| (s, writer))) {
            Ok((submission, writer)) => Pending::Queued(writer.enqueue(submission).await),
            Err(error) => Pending::Failed(Some(error)),
        }
    }
}

/// An outcome on its way. Dropping it does not take the command back.
pub enum Pending {
    /// The writer has it.
    #[doc(hidden)]
    Queued(daybook_journal::Pending),
    /// It was not queued.
    #[doc(hidden)]
    Failed(Option<SubmitError>),
}

impl Future for Pending {
    type Output = Result<Outcome, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Queued(pending) => Pin::new(pending).poll(cx),
            Self::Failed(error) => {
                let gone = || SubmitError::Unavailable("it was answered already".to_owned());
                Poll::Ready(Err(error.take().unwrap_or_else(gone)))
            }
        }
    }
}

impl Inner {
    fn writer(&self, tenant: i32) -> Result<&Writer<ShopModel>, SubmitError> {
        self.writers.get(&tenant).ok_or_else(|| {
            SubmitError::Unavailable("this process does not write for the tenant".to_owned())
        })
    }

    /// Draws the ids, takes the fingerprint, and takes the token out of the command.
    fn prepare(&self, request: Request) -> Result<Submission<ShopCommand>, SubmitError> {
        let fingerprint = fingerprint(&self.fingerprint_key, &request.command)?;
        let (fresh, command_id) = (Uuid::now_v7(), Uuid::now_v7());
        let Request { mut command, authority, principal, key, .. } = request;
        let sealed = if let Command::ChargePayment(charge) = &mut command {
            let payment_id = charge.payment_id.unwrap_or(fresh);
            Some(self.seal.seal(payment_id, &charge.gateway_token.take()))
        } else {
            None
        };
        let (keep, remember_refusals) = match authority {
            Authority::Customer(_) | Authority::Partner(_) | Authority::Operator => {
                (request.keep, true)
            }
            Authority::Import => (None, true),
            Authority::Backend => (None, false),
        };
        let if_match = request
            .if_match
            .map(|version| IfMatch { stream: streams::subject(&command, fresh), version });
        Ok(Submission {
            meta: Meta {
                actor: principal.clone(),
                command_id,
                command: command.name().to_owned(),
                key: key.clone(),
                correlation: request.correlation,
                causation: request.causation,
                traceparent: request.traceparent,
            },
            key: IdempotencyKey { principal, key, fingerprint, keep, remember_refusals },
            command: ShopCommand::new(command, authority, fresh, sealed),
            occurred_at: request.occurred_at,
            if_match,
            deadline: request.deadline,
        })
    }
}

/// HMAC-SHA-256 over the command's name and its body in canonical form, token included.
fn fingerprint(key: &[u8], command: &Command) -> Result<[u8; 32], SubmitError> {
    let unstorable = |error: String| SubmitError::Unstorable(error);
    let body = serde_json::to_value(command).map_err(|error| unstorable(error.to_string()))?;
    let body = canonical::to_vec(&body).map_err(|broken| unstorable(broken.to_string()))?;
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    let mac = mac.chain_update(command.name()).chain_update([0]).chain_update(body);
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Reversed;

    impl SealToken for Reversed {
        fn seal(&self, payment_id: Uuid, token: &str) -> Vec<u8> {
            let reversed: String = token.chars().rev().collect();
            format!("{payment_id}:{reversed}").into_bytes()
        }
    }

    fn inner() -> Inner {
        let fingerprint_key = b"key".to_vec();
        Inner { writers: HashMap::new(), seal: Arc::new(Reversed), fingerprint_key }
    }

    fn charge(token: &str, payment: Option<u128>) -> Command {
        let mut body = json!({
            "order_id": Uuid::nil(), "amount": 5, "currency": "GBP", "gateway_token": token
        });
        if let Some(payment) = payment {
            body["payment_id"] = json!(Uuid::from_u128(payment));
        }
        Command::parse("ChargePayment", body.to_string().as_bytes()).unwrap()
    }

    fn request(command: Command, authority: Authority) -> Request {
        Request {
            command,
            authority,
            principal: "owner:7".to_owned(),
            key: "k".to_owned(),
            correlation: Uuid::nil(),
            causation: None,
            traceparent: None,
            occurred_at: None,
            if_match: Some(3),
            deadline: Duration::from_secs(5),
            keep: Some(Duration::from_mins(1)),
        }
    }

    #[test]
    fn a_token_leaves_the_command_and_is_sealed_with_its_payment() {
        let request = request(charge("tok_secret", Some(9)), Authority::Operator);
        let submission = inner().prepare(request).unwrap();
        let sealed = submission.command.sealed.clone().unwrap();
        assert_eq!(sealed, format!("{}:terces_kot", Uuid::from_u128(9)).into_bytes());
        let left = serde_json::to_string(&submission.command.command).unwrap();
        assert!(!left.contains("tok_secret"), "{left}");
        assert!(!format!("{submission:?}").contains("tok_secret"));
        let if_match = submission.if_match.unwrap();
        assert_eq!(if_match.stream, format!("order-{}", Uuid::nil()));
        assert_eq!(if_match.version, 3);
    }

    #[test]
    fn a_drawn_id_is_the_one_the_token_is_sealed_with() {
        let request = request(charge("t", None), Authority::Operator);
        let command = inner().prepare(request).unwrap().command;
        assert_eq!(command.sealed.unwrap(), format!("{}:t", command.fresh).into_bytes());
    }

    #[test]
    fn a_fingerprint_tells_requests_apart_and_repeats_together() {
        let of = |command: &Command| fingerprint(b"key", command).unwrap();
        assert_eq!(of(&charge("a", None)), of(&charge("a", None)));
        assert_ne!(of(&charge("a", None)), of(&charge("b", None)));
        assert_ne!(of(&charge("a", None)), of(&charge("a", Some(1))));
        assert_ne!(of(&charge("a", None)), fingerprint(b"other", &charge("a", None)).unwrap());
        let body = br#"{"order_id":"00000000-0000-0000-0000-000000000000"}"#;
        let deliver = Command::parse("DeliverOrder", body).unwrap();
        let ship = Command::parse("ShipOrder", body).unwrap();
        assert_ne!(of(&deliver), of(&ship));
        // The order of members and what is given as it would be anyway change nothing.
        let spelt = br#"{"on_account":false,"order_id":"00000000000000000000000000000000"}"#;
        assert_eq!(of(&ship), of(&Command::parse("ShipOrder", spelt).unwrap()));
    }

    #[test]
    fn who_asks_decides_what_is_remembered_and_for_how_long() {
        let kept = |authority| {
            let key = inner().prepare(request(charge("t", None), authority)).unwrap().key;
            (key.keep, key.remember_refusals)
        };
        let minute = Some(Duration::from_mins(1));
        assert_eq!(kept(Authority::Customer(Uuid::nil())), (minute, true));
        assert_eq!(kept(Authority::Operator), (minute, true));
        assert_eq!(kept(Authority::Import), (None, true));
        assert_eq!(kept(Authority::Backend), (None, false));
    }

    #[test]
    fn what_a_gateway_sends_is_safe_to_store() {
        let outcome = crate::PaymentOutcome::Declined { reason: "bad\u{0}".into() };
        let payment_id = Uuid::nil();
        let command = crate::RecordPaymentOutcome { payment_id, outcome };
        fingerprint(b"key", &Command::RecordPaymentOutcome(command)).unwrap();
    }

    #[tokio::test]
    async fn a_tenant_without_a_writer_is_unavailable() {
        let shop = Shop::new(HashMap::new(), Arc::new(Reversed), vec![]);
        let refused = shop.execute(1, request(charge("t", None), Authority::Operator)).await;
        assert!(matches!(refused, Err(SubmitError::Unavailable(_))));
        let pending = shop.enqueue(1, request(charge("t", None), Authority::Operator)).await;
        assert!(matches!(pending.await, Err(SubmitError::Unavailable(_))));
    }
}
