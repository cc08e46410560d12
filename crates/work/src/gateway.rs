//! What Daybook asks of a payment gateway, whoever runs it.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What stands for a card at the gateway. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayToken(String);

impl GatewayToken {
    /// A token as the frontend got it from the gateway.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself, for the request to the gateway and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for GatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayToken(…)")
    }
}

/// A card to be charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    /// Our id of the payment; the gateway keeps it and finds the charge by it.
    pub payment_id: Uuid,
    /// Minor units, greater than 0.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The card.
    pub token: GatewayToken,
    /// The same for every try of the same payment.
    pub idempotency_key: String,
}

/// What the gateway says about a charge. Only what it says: amounts are compared by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeOutcome {
    /// The money is taken.
    Captured {
        /// The gateway's id of the charge.
        gateway_payment_id: String,
        /// Minor units, as taken.
        amount: i64,
        /// ISO 4217, as taken.
        currency: String,
    },
    /// Nothing is taken, and the same card would not do.
    Declined {
        /// Safe to show, as `card_declined`.
        reason: String,
    },
}

/// Money to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// Our id of the refund; the gateway keeps it and finds the refund by it.
    pub refund_id: Uuid,
    /// Our id of the payment it is from.
    pub payment_id: Uuid,
    /// Minor units, greater than 0.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The same for every try of the same refund.
    pub idempotency_key: String,
}

/// What the gateway says about a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundOutcome {
    /// The money is given back.
    Refunded {
        /// The gateway's id of the refund.
        gateway_refund_id: String,
        /// Minor units, as given back.
        amount: i64,
        /// ISO 4217, as given back.
        currency: String,
    },
    /// Nothing is given back, and the same again would not be.
    Failed {
        /// As `refund_exceeds_charge`.
        reason: String,
    },
}

/// Why the gateway gave no outcome. What happened there is unknown unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// No answer in time: it may have happened or not.
    #[error("the gateway did not answer in time")]
    Timeout,
    /// No connection.
    #[error("the gateway can't be reached: {0}")]
    Unreachable(String),
    /// A 5xx. `replayed`: the gateway has stored it for this idempotency key and will repeat it for
    /// ever, so the same key can't help any more.
    #[error("the gateway failed{}", if *replayed { " (a stored answer)" } else { "" })]
    Server {
        /// Whether this is the stored answer of an earlier try.
        replayed: bool,
    },
    /// The gateway refuses the request as such: a defect of ours, which repeating doesn't mend.
    #[error("the gateway does not take the request: {0}")]
    Rejected(String),
}

impl GatewayError {
    /// Whether the same request with the same key may get another answer.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable(_) | Self::Server { replayed: false } => true,
            Self::Server { replayed: true } | Self::Rejected(_) => false,
        }
    }
}

/// A payment gateway. Implementations send a request once and never repeat it by themselves.
#[async_trait]
pub trait Gateway: Send + Sync {
    /// Name of the gateway as events say it, as `sandbox`.
    fn name(&self) -> &'static str;

    /// Takes money, once for one idempotency key: the same key gets the same answer.
    async fn charge(&self, request: ChargeRequest) -> Result<ChargeOutcome, GatewayError>;

    /// Everything the gateway knows about a payment of ours; empty: nothing was taken or declined.
    async fn look_up(&self, payment_id: Uuid) -> Result<Vec<ChargeOutcome>, GatewayError>;

    /// Gives money back, once for one idempotency key.
    async fn refund(&self, request: RefundRequest) -> Result<RefundOutcome, GatewayError>;

    /// Everything the gateway knows about a refund of ours; empty: nothing was given back.
    async fn look_up_refund(&self, refund_id: Uuid) -> Result<Vec<RefundOutcome>, GatewayError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let request = ChargeRequest {
            payment_id: Uuid::nil(),
            amount: 1,
            currency: "EUR".into(),
            token: GatewayToken::new("tok_secret"),
            idempotency_key: "charge:1".into(),
        };
        assert!(!format!("{request:?}").contains("tok_secret"));
        assert_eq!(request.token.reveal(), "tok_secret");
    }

    #[test]
    fn a_stored_answer_is_not_worth_another_try() {
        assert!(GatewayError::Server { replayed: false }.may_pass());
        assert!(GatewayError::Timeout.may_pass());
        assert!(GatewayError::Unreachable(String::new()).may_pass());
        assert!(!GatewayError::Server { replayed: true }.may_pass());
        assert!(!GatewayError::Rejected(String::new()).may_pass());
    }
}
