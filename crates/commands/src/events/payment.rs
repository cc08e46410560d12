//! Stored forms of what happens to payments.

use daybook_domain::{
    CustomerId, OrderId, PaymentId, RefundId, Text,
    payment::{Charge, Dispute, Event, Facts},
};
use daybook_journal::{CorruptEvent, Encoded};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{encoded, read, schema_of, unknown};
use crate::wire::{Amount, Currency, Time};

/// The gateway is to take a payment.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentRequested {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// How much, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// Name of the gateway.
    gateway: Text,
    /// After this nothing may be charged any more.
    deadline: Time,
}

/// The gateway knows a payment by an id (identified), and took it (captured).
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentAtGateway {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// How much, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// Name of the gateway.
    gateway: Text,
    /// The gateway's id of the payment.
    gateway_payment_id: Text,
}

/// The gateway did not take a payment (declined), or nobody knows whether it did (unresolved).
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentNotTaken {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// How much was asked for, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// Why.
    reason: Text,
}

/// The customer's bank wants a payment back, or says how that stands.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentDisputed {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// How much was captured, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// The gateway's id of the dispute.
    dispute_id: Text,
    /// How much is disputed, in minor units.
    disputed: Amount,
    /// Of which currency.
    disputed_currency: Currency,
    /// How it stands, in the gateway's words.
    status: Text,
    /// Why, in the gateway's words.
    reason: Text,
}

/// A payment was settled elsewhere.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentRecorded {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// The order's country.
    country: Option<Text>,
    /// How much, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// How.
    method: Text,
    /// Where to find it in the books of that way.
    reference: Option<Text>,
}

/// The gateway is to give money back (requested), or did not (failed).
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentRefundReasoned {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The refund.
    refund_id: Uuid,
    /// How much, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// Why.
    reason: Text,
}

/// Money went back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentRefunded {
    /// The payment.
    payment_id: Uuid,
    /// Its order.
    order_id: Uuid,
    /// The order's customer.
    customer_id: Option<Uuid>,
    /// The refund.
    refund_id: Uuid,
    /// How much, in minor units.
    amount: Amount,
    /// Its currency.
    currency: Currency,
    /// Whether by another way than the gateway; then nothing had been requested before.
    settled_elsewhere: bool,
}

fn customer(facts: &Facts) -> Option<Uuid> {
    facts.customer.map(|customer| customer.0)
}

fn facts(
    payment_id: Uuid,
    order_id: Uuid,
    customer_id: Option<Uuid>,
    amount: Amount,
    currency: Currency,
) -> Facts {
    Facts {
        payment: PaymentId(payment_id),
        order: OrderId(order_id),
        customer: customer_id.map(CustomerId),
        money: amount.domain().of(currency.domain()),
    }
}

fn not_taken(kind: &'static str, facts: &Facts, reason: &Text) -> Encoded {
    encoded(
        kind,
        &PaymentNotTaken {
            payment_id: facts.payment.0,
            order_id: facts.order.0,
            customer_id: customer(facts),
            amount: facts.money.amount.into(),
            currency: facts.money.currency.into(),
            reason: reason.clone(),
        },
    )
}

pub(super) fn encode(event: &Event) -> Encoded {
    let kind = event.name();
    match event {
        Event::Requested(Charge { facts, gateway, deadline }) => encoded(
            kind,
            &PaymentRequested {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                customer_id: customer(facts),
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                gateway: gateway.clone(),
                deadline: (*deadline).into(),
            },
        ),
        Event::Identified { facts, gateway, gateway_payment }
        | Event::Captured { facts, gateway, gateway_payment } => encoded(
            kind,
            &PaymentAtGateway {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                customer_id: customer(facts),
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                gateway: gateway.clone(),
                gateway_payment_id: gateway_payment.clone(),
            },
        ),
        Event::Declined { facts, reason } | Event::Unresolved { facts, reason } => {
            not_taken(kind, facts, reason)
        }
        Event::Disputed { facts, dispute: Dispute { id, money, status, reason } } => encoded(
            kind,
            &PaymentDisputed {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                customer_id: customer(facts),
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                dispute_id: id.clone(),
                disputed: money.amount.into(),
                disputed_currency: money.currency.into(),
                status: status.clone(),
                reason: reason.clone(),
            },
        ),
        Event::Recorded { facts, country, method, reference } => encoded(
            kind,
            &PaymentRecorded {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                customer_id: customer(facts),
                country: country.clone(),
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                method: method.clone(),
                reference: reference.clone(),
            },
        ),
        Event::RefundRequested { payment, order, refund, money, reason }
        | Event::RefundFailed { payment, order, refund, money, reason } => encoded(
            kind,
            &PaymentRefundReasoned {
                payment_id: payment.0,
                order_id: order.0,
                refund_id: refund.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                reason: reason.clone(),
            },
        ),
        Event::Refunded { payment, order, customer, refund, money, settled_elsewhere } => encoded(
            kind,
            &PaymentRefunded {
                payment_id: payment.0,
                order_id: order.0,
                customer_id: customer.map(|customer| customer.0),
                refund_id: refund.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                settled_elsewhere: *settled_elsewhere,
            },
        ),
    }
}

pub(super) fn decode(kind: &str, data: &str) -> Result<Event, CorruptEvent> {
    Ok(match kind {
        "PaymentRequested" => {
            let s: PaymentRequested = read(data)?;
            Event::Requested(Charge {
                facts: facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency),
                gateway: s.gateway,
                deadline: s.deadline.0,
            })
        }
        "PaymentIdentified" | "PaymentCaptured" => {
            let s: PaymentAtGateway = read(data)?;
            let facts = facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency);
            let (gateway, gateway_payment) = (s.gateway, s.gateway_payment_id);
            if kind == "PaymentIdentified" {
                Event::Identified { facts, gateway, gateway_payment }
            } else {
                Event::Captured { facts, gateway, gateway_payment }
            }
        }
        "PaymentDeclined" | "PaymentUnresolved" => {
            let s: PaymentNotTaken = read(data)?;
            let facts = facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency);
            if kind == "PaymentDeclined" {
                Event::Declined { facts, reason: s.reason }
            } else {
                Event::Unresolved { facts, reason: s.reason }
            }
        }
        "PaymentDisputed" => {
            let s: PaymentDisputed = read(data)?;
            Event::Disputed {
                facts: facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency),
                dispute: Dispute {
                    id: s.dispute_id,
                    money: s.disputed.domain().of(s.disputed_currency.domain()),
                    status: s.status,
                    reason: s.reason,
                },
            }
        }
        "PaymentRecorded" => {
            let s: PaymentRecorded = read(data)?;
            Event::Recorded {
                facts: facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency),
                country: s.country,
                method: s.method,
                reference: s.reference,
            }
        }
        "PaymentRefundRequested" | "PaymentRefundFailed" => {
            let s: PaymentRefundReasoned = read(data)?;
            let (payment, order) = (PaymentId(s.payment_id), OrderId(s.order_id));
            let (refund, reason) = (RefundId(s.refund_id), s.reason);
            let money = s.amount.domain().of(s.currency.domain());
            if kind == "PaymentRefundRequested" {
                Event::RefundRequested { payment, order, refund, money, reason }
            } else {
                Event::RefundFailed { payment, order, refund, money, reason }
            }
        }
        "PaymentRefunded" => {
            let s: PaymentRefunded = read(data)?;
            Event::Refunded {
                payment: PaymentId(s.payment_id),
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                refund: RefundId(s.refund_id),
                money: s.amount.domain().of(s.currency.domain()),
                settled_elsewhere: s.settled_elsewhere,
            }
        }
        _ => return Err(unknown(kind)),
    })
}

pub(super) fn schema(kind: &str) -> Option<Schema> {
    Some(match kind {
        "PaymentRequested" => schema_of::<PaymentRequested>(),
        "PaymentIdentified" | "PaymentCaptured" => schema_of::<PaymentAtGateway>(),
        "PaymentDisputed" => schema_of::<PaymentDisputed>(),
        "PaymentDeclined" | "PaymentUnresolved" => schema_of::<PaymentNotTaken>(),
        "PaymentRecorded" => schema_of::<PaymentRecorded>(),
        "PaymentRefundRequested" | "PaymentRefundFailed" => schema_of::<PaymentRefundReasoned>(),
        "PaymentRefunded" => schema_of::<PaymentRefunded>(),
        _ => return None,
    })
}
