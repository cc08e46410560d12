//! What must happen next because of what happened: events to jobs, and what the jobs carry.

use chrono::{DateTime, Utc};
use daybook_domain::{order, payment};
use daybook_journal::NewJob;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    events::ShopEvent,
    wire::{Amount, Currency, Time},
};

/// Kind of the job that charges a payment at its gateway; its secret is the sealed token.
pub const CHARGE_PAYMENT: &str = "charge_payment";
/// Kind of the job that gives money back at its gateway.
pub const REFUND_PAYMENT: &str = "refund_payment";
/// Kind of the job that ends the reservation of an unpaid order.
pub const EXPIRE_ORDER: &str = "expire_order";

/// Ids of jobs are UUIDs of version 5 in this namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f0e_3c52_5d1b_4b0e_9c3a_62d7_f1a4_0b95);

/// What a job of kind [`CHARGE_PAYMENT`] carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargePayment {
    /// The payment.
    pub payment_id: Uuid,
    /// Its order.
    pub order_id: Uuid,
    /// How much, in minor units.
    pub amount: Amount,
    /// Its currency.
    pub currency: Currency,
    /// After this nothing may be charged any more.
    pub deadline: Time,
}

/// What a job of kind [`REFUND_PAYMENT`] carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPayment {
    /// The payment.
    pub payment_id: Uuid,
    /// The refund.
    pub refund_id: Uuid,
    /// The payment's order.
    pub order_id: Uuid,
    /// How much, in minor units.
    pub amount: Amount,
    /// Its currency.
    pub currency: Currency,
}

/// What a job of kind [`EXPIRE_ORDER`] carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireOrder {
    /// The order.
    pub order_id: Uuid,
    /// The deadline that passes when the job runs.
    pub deadline: Time,
}

/// The job that an event asks for, if any. Its id follows from the tenant, the kind and what it is
/// about, so that the same event asks for the same job however often it is asked.
pub fn reaction(tenant: &str, event: &ShopEvent, now: DateTime<Utc>) -> Option<NewJob> {
    match event {
        ShopEvent::Payment(event) => payment_reaction(tenant, event),
        ShopEvent::Order(event) => order_reaction(tenant, event, now),
        ShopEvent::Product(_) | ShopEvent::Stock(_) => None,
    }
}

fn payment_reaction(tenant: &str, event: &payment::Event) -> Option<NewJob> {
    match event {
        payment::Event::Requested(payment::Charge { facts, deadline, .. }) => {
            let payload = ChargePayment {
                payment_id: facts.payment.0,
                order_id: facts.order.0,
                amount: facts.money.amount.into(),
                currency: facts.money.currency.into(),
                deadline: (*deadline).into(),
            };
            Some(job(tenant, CHARGE_PAYMENT, &facts.payment.to_string(), 0, &payload))
        }
        payment::Event::RefundRequested { payment, order, refund, money, .. } => {
            let payload = RefundPayment {
                payment_id: payment.0,
                refund_id: refund.0,
                order_id: order.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
            };
            Some(job(tenant, REFUND_PAYMENT, &refund.to_string(), 0, &payload))
        }
        payment::Event::Identified { .. }
        | payment::Event::Captured { .. }
        | payment::Event::Declined { .. }
        | payment::Event::Unresolved { .. }
        | payment::Event::Disputed { .. }
        | payment::Event::Recorded { .. }
        | payment::Event::Refunded { .. }
        | payment::Event::RefundFailed { .. } => None,
    }
}

fn order_reaction(tenant: &str, event: &order::Event, now: DateTime<Utc>) -> Option<NewJob> {
    let (order, deadline) = match event {
        order::Event::Placed(placed) => (placed.order, placed.expires_at?),
        order::Event::PaymentCaptured { order, expires_at, .. }
        | order::Event::PaymentClosed { order, expires_at, .. } => (*order, (*expires_at)?),
        order::Event::PaymentOpened { .. }
        | order::Event::Paid { .. }
        | order::Event::Shipped { .. }
        | order::Event::Delivered { .. }
        | order::Event::Cancelled { .. }
        | order::Event::Expired { .. }
        | order::Event::ItemsReturned { .. }
        | order::Event::Credited { .. }
        | order::Event::RefundOpened { .. }
        | order::Event::RefundSettled { .. }
        | order::Event::RefundFailed { .. } => return None,
    };
    let payload = ExpireOrder { order_id: order.0, deadline: deadline.into() };
    let delay_ms = (deadline - now).num_milliseconds().max(0);
    let about = format!("{order}/{}", payload.deadline);
    let delay_ms = u32::try_from(delay_ms).unwrap_or(u32::MAX);
    Some(job(tenant, EXPIRE_ORDER, &about, delay_ms, &payload))
}

fn job(
    tenant: &str,
    kind: &'static str,
    about: &str,
    delay_ms: u32,
    payload: &impl Serialize,
) -> NewJob {
    NewJob {
        id: Uuid::new_v5(&NAMESPACE, format!("{tenant}/{kind}/{about}").as_bytes()),
        kind,
        delay_ms,
        payload: serde_json::to_value(payload).expect("payloads are plain structs"),
        sealed: None,
    }
}
