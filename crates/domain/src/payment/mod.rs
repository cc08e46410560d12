//! A payment: money asked for and what became of it, and what of it was given back.
//!
//! Facts that come from outside (what the gateway says) are never refused. One that contradicts
//! what is known becomes [`Event::Unresolved`], for a person to look at.

mod decide;
mod evolve;
mod refunds;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

pub use self::refunds::{RefundPhase, Refunds};
use crate::{Aggregate, Amount, CustomerId, Misfit, Money, OrderId, PaymentId, RefundId, Text};

/// Where a payment is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payment {
    /// Never heard of.
    #[default]
    Unknown,
    /// The gateway was asked and has not answered yet.
    Open(Attempt),
    /// The gateway's answer is unknown or contradictory; counts as open until it is known.
    Unresolved(Attempt),
    /// Closed without money.
    Declined(Attempt),
    /// The gateway took the money.
    Captured {
        /// What was asked for.
        charge: Charge,
        /// The gateway's id of it.
        gateway_payment: Text,
        /// What went back.
        refunds: Refunds,
        /// Disputes that the customer's bank opened, and how each stood last.
        disputes: Arc<BTreeMap<Text, Text>>,
    },
    /// The money came by another way.
    Recorded {
        /// What came.
        facts: Facts,
        /// What went back.
        refunds: Refunds,
    },
}

/// What never changes about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub payment: PaymentId,
    /// The order it is for.
    pub order: OrderId,
    /// The order's customer.
    pub customer: Option<CustomerId>,
    /// How much.
    pub money: Money,
}

/// A payment by way of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// What it is.
    pub facts: Facts,
    /// Name of the gateway, as `sandbox`.
    pub gateway: Text,
    /// After this nothing may be charged any more.
    pub deadline: DateTime<Utc>,
}

/// A charge that the gateway has not captured, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was asked for.
    pub charge: Charge,
    /// The gateway's id of it, once it is known.
    pub gateway_payment: Option<Text>,
}

/// A customer's bank taking a payment back, at its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// The gateway's id of it.
    pub id: Text,
    /// How much of the payment it is about.
    pub money: Money,
    /// How it stands, in the gateway's words, as `needs_response` or `lost`.
    pub status: Text,
    /// Why, in the gateway's words.
    pub reason: Text,
}

/// What a person found out about a payment whose outcome nobody knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The gateway took it.
    Captured {
        /// The gateway's id of it.
        gateway_payment: Text,
        /// How much it took.
        money: Money,
    },
    /// The gateway did not take it, and will not.
    NotCharged {
        /// How that is known.
        reason: Text,
    },
}

/// What may be asked of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Charge it.
    Request(Charge),
    /// It was settled by another way.
    Record {
        /// What came.
        facts: Facts,
        /// Country of the order.
        country: Option<Text>,
        /// How, as `cash` or `bank transfer`.
        method: Text,
        /// Where to find it in the books of that way.
        reference: Option<Text>,
    },
    /// The gateway has given it an id, before it takes anything.
    RecordGatewayPayment {
        /// The gateway's id of it.
        gateway_payment: Text,
    },
    /// The gateway says: taken.
    RecordCapture {
        /// The gateway's id of it.
        gateway_payment: Text,
        /// How much it took.
        money: Money,
    },
    /// The gateway says: not taken, and it will not be.
    RecordDecline(Text),
    /// The gateway's answer can't be made out.
    RecordDoubt(Text),
    /// The gateway says: disputed.
    RecordDispute(Dispute),
    /// A person has found out what became of it.
    Resolve(Finding),
    /// Give money back through the gateway.
    RequestRefund {
        /// Id of the refund.
        refund: RefundId,
        /// How much.
        amount: Amount,
        /// Why.
        reason: Text,
    },
    /// Money was given back by another way.
    RecordRefund {
        /// Id of the refund.
        refund: RefundId,
        /// How much.
        amount: Amount,
    },
    /// Money is to be given back, but no gateway can: somebody has to.
    OweRefund {
        /// Id of the refund.
        refund: RefundId,
        /// How much.
        amount: Amount,
        /// Why it was not done.
        reason: Text,
    },
    /// The gateway says: given back.
    RecordRefundDone(RefundId),
    /// The gateway says: not given back, and it will not be.
    RecordRefundFailure {
        /// Id of the refund.
        refund: RefundId,
        /// The gateway's reason.
        reason: Text,
    },
}

/// What happens to a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The gateway is to take it.
    Requested(Charge),
    /// The gateway's id of it is known.
    Identified {
        /// What it is.
        facts: Facts,
        /// Name of the gateway.
        gateway: Text,
        /// The gateway's id of it.
        gateway_payment: Text,
    },
    /// It was taken.
    Captured {
        /// What it is.
        facts: Facts,
        /// Name of the gateway.
        gateway: Text,
        /// The gateway's id of it.
        gateway_payment: Text,
    },
    /// It was not taken.
    Declined {
        /// What it is.
        facts: Facts,
        /// Why.
        reason: Text,
    },
    /// Nobody knows, or two answers contradict each other.
    Unresolved {
        /// What it is.
        facts: Facts,
        /// What is wrong.
        reason: Text,
    },
    /// The customer's bank wants it back, or says how that stands: for a person.
    Disputed {
        /// What it is.
        facts: Facts,
        /// What the gateway says.
        dispute: Dispute,
    },
    /// It came by another way.
    Recorded {
        /// What came.
        facts: Facts,
        /// Country of the order.
        country: Option<Text>,
        /// How.
        method: Text,
        /// Where to find it.
        reference: Option<Text>,
    },
    /// The gateway is to give money back.
    RefundRequested {
        /// The payment.
        payment: PaymentId,
        /// Its order.
        order: OrderId,
        /// The refund.
        refund: RefundId,
        /// How much.
        money: Money,
        /// Why.
        reason: Text,
    },
    /// Money was given back.
    Refunded {
        /// The payment.
        payment: PaymentId,
        /// Its order.
        order: OrderId,
        /// Its order's customer.
        customer: Option<CustomerId>,
        /// The refund.
        refund: RefundId,
        /// How much.
        money: Money,
        /// Whether by another way than the gateway.
        settled_elsewhere: bool,
    },
    /// Money was not given back.
    RefundFailed {
        /// The payment.
        payment: PaymentId,
        /// Its order.
        order: OrderId,
        /// The refund.
        refund: RefundId,
        /// How much.
        money: Money,
        /// Why.
        reason: Text,
    },
}

/// Why a payment says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is one with this id already.
    Exists,
    /// There is none with this id.
    Unknown,
    /// No money has come that could go back.
    NotCaptured {
        /// The phase it is in.
        state: &'static str,
    },
    /// More is to go back than is left of it.
    RefundTooHigh {
        /// Minor units asked for.
        amount: Amount,
        /// Minor units left.
        limit: Amount,
    },
    /// A refund with this id exists.
    RefundExists {
        /// Its id.
        refund: RefundId,
    },
    /// It did not come through a gateway, so none can give it back.
    NotAtGateway {
        /// Minor units asked for.
        amount: Amount,
    },
    /// Its outcome is known, or still awaited: nothing is left to a person.
    NotUnresolved {
        /// The phase it is in.
        state: &'static str,
    },
    /// Another sum was taken than the one asked for: that does not pay it.
    AmountDiffers {
        /// What was asked for.
        expected: Money,
        /// What is said to have been taken.
        actual: Money,
    },
    /// The gateway knows it by another id.
    GatewayPaymentDiffers {
        /// The id that the gateway gave it.
        expected: Text,
        /// The id that was named.
        actual: Text,
    },
}

impl Event {
    /// Name of the event, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Requested(_) => "PaymentRequested",
            Self::Identified { .. } => "PaymentIdentified",
            Self::Captured { .. } => "PaymentCaptured",
            Self::Declined { .. } => "PaymentDeclined",
            Self::Unresolved { .. } => "PaymentUnresolved",
            Self::Disputed { .. } => "PaymentDisputed",
            Self::Recorded { .. } => "PaymentRecorded",
            Self::RefundRequested { .. } => "PaymentRefundRequested",
            Self::Refunded { .. } => "PaymentRefunded",
            Self::RefundFailed { .. } => "PaymentRefundFailed",
        }
    }
}

impl Payment {
    /// Name of the phase, as clients see it.
    pub fn phase(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Open(_) => "open",
            Self::Unresolved(_) => "unresolved",
            Self::Declined(_) => "declined",
            Self::Captured { .. } => "captured",
            Self::Recorded { .. } => "recorded",
        }
    }

    /// What never changes about it, once it exists.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Unknown => None,
            Self::Open(attempt) | Self::Unresolved(attempt) | Self::Declined(attempt) => {
                Some(&attempt.charge.facts)
            }
            Self::Captured { charge, .. } => Some(&charge.facts),
            Self::Recorded { facts, .. } => Some(facts),
        }
    }

    /// The gateway's id of it, as far as it is known.
    pub fn gateway_payment(&self) -> Option<&Text> {
        match self {
            Self::Unknown | Self::Recorded { .. } => None,
            Self::Open(attempt) | Self::Unresolved(attempt) | Self::Declined(attempt) => {
                attempt.gateway_payment.as_ref()
            }
            Self::Captured { gateway_payment, .. } => Some(gateway_payment),
        }
    }

    /// How much a refund is of, and how it stands.
    pub fn refund(&self, refund: RefundId) -> Option<(Amount, RefundPhase)> {
        match self {
            Self::Unknown | Self::Open(_) | Self::Unresolved(_) | Self::Declined(_) => None,
            Self::Captured { refunds, .. } | Self::Recorded { refunds, .. } => refunds.get(refund),
        }
    }
}

impl Aggregate for Payment {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        decide::decide(self, command)
    }

    fn evolve(self, event: &Event) -> Result<Self, Misfit> {
        evolve::evolve(self, event)
    }
}
