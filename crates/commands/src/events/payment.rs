//! Stored forms of what happens to payments.

use daybook_domain::{
    CustomerId, OrderId, PaymentId, RefundId, Text,
    payment::{Charge, Event, Facts},
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

/// The gateway took a payment.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PaymentCaptured {
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
    match event {
        Event::Requested(Charge { facts, gateway, deadline }) => encoded(
            "PaymentRequested",
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
        Event::Captured { facts, gateway, gateway_payment } => encoded(
            "PaymentCaptured",
            &PaymentCaptured {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                customer_id: customer(facts),
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                gateway: gateway.clone(),
                gateway_payment_id: gateway_payment.clone(),
            },
        ),
        Event::Declined { facts, reason } => not_taken("PaymentDeclined", facts, reason),
        Event::Unresolved { facts, reason } => not_taken("PaymentUnresolved", facts, reason),
        Event::Recorded { facts, country, method, reference } => encoded(
            "PaymentRecorded",
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
        Event::RefundRequested { payment, order, refund, money, reason } => encoded(
            "PaymentRefundRequested",
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
            "PaymentRefunded",
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
        Event::RefundFailed { payment, order, refund, money, reason } => encoded(
            "PaymentRefundFailed",
            &PaymentRefundReasoned {
                payment_id: payment.0,
                order_id: order.0,
                refund_id: refund.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                reason: reason.clone(),
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
        "PaymentCaptured" => {
            let s: PaymentCaptured = read(data)?;
            Event::Captured {
                facts: facts(s.payment_id, s.order_id, s.customer_id, s.amount, s.currency),
                gateway: s.gateway,
                gateway_payment: s.gateway_payment_id,
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
        "PaymentCaptured" => schema_of::<PaymentCaptured>(),
        "PaymentDeclined" | "PaymentUnresolved" => schema_of::<PaymentNotTaken>(),
        "PaymentRecorded" => schema_of::<PaymentRecorded>(),
        "PaymentRefundRequested" | "PaymentRefundFailed" => schema_of::<PaymentRefundReasoned>(),
        "PaymentRefunded" => schema_of::<PaymentRefunded>(),
        _ => return None,
    })
}
