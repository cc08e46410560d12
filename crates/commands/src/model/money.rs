//! What a command does to the streams it is about: payments, and the money side of orders.

use daybook_domain::{
    Aggregate, OrderId, PaymentId, RefundId, Text,
    order::{self, Goodwill},
    payment::{self, Charge, Facts, RefundPhase},
};
use daybook_journal::Refusal;
use serde_json::{Value, json};

use super::{
    decide::{Decided, Desk},
    draft::Draft,
    refusals,
};
use crate::wire::{self, PaymentOutcome, RefundOutcome};

pub(super) fn by(refund: wire::RefundBy) -> order::RefundBy {
    match refund {
        wire::RefundBy::Gateway => order::RefundBy::Gateway,
        wire::RefundBy::SettledElsewhere => order::RefundBy::Elsewhere,
    }
}

pub(super) fn charge<'a>(desk: &Desk<'a>, c: &wire::ChargePayment) -> Result<Decided<'a>, Refusal> {
    let payment = PaymentId(c.payment_id.unwrap_or(desk.asked.fresh));
    let money = c.amount.domain().of(c.currency.domain());
    let opening = order::Command::OpenPayment { payment, money };
    let (order, details, opened) = desk.ask_order(c.order_id, &opening)?;
    let facts = Facts { payment, order, customer: details.customer(), money };
    let (gateway, deadline) = (desk.gateway(), desk.payment_deadline());
    let mut draft = desk.draft();
    draft.payment(payment, &payment::Command::Request(Charge { facts, gateway, deadline }))?;
    draft.orders(order, opened);
    let result = json!({ "payment_id": payment.0, "order_id": order.0, "status": "open" });
    Ok(Decided { draft, result, open: true })
}

pub(super) fn record<'a>(desk: &Desk<'a>, c: &wire::RecordPayment) -> Result<Decided<'a>, Refusal> {
    let payment = PaymentId(c.payment_id.unwrap_or(desk.asked.fresh));
    let money = c.amount.domain().of(c.currency.domain());
    let recording = order::Command::RecordPayment { payment, money, expires_at: desk.expiry() };
    let (order, details, recorded) = desk.ask_order(c.order_id, &recording)?;
    let command = payment::Command::Record {
        facts: Facts { payment, order, customer: details.customer(), money },
        country: details.country().cloned(),
        method: c.method.domain(),
        reference: c.reference.as_ref().map(wire::Reference::domain),
    };
    let mut draft = desk.draft();
    draft.payment(payment, &command)?;
    draft.orders(order, recorded);
    Ok(Decided { draft, result: json!({ "payment_id": payment.0 }), open: false })
}

pub(super) fn refund<'a>(desk: &Desk<'a>, c: &wire::RefundPayment) -> Result<Decided<'a>, Refusal> {
    let payment = PaymentId(c.payment_id);
    let facts = desk.states.payment(payment).facts();
    let facts = facts.ok_or_else(|| refusals::payment_unknown(payment))?;
    let reason = c.reason.domain();
    let command = order::Command::Refund(Goodwill {
        payment,
        money: c.amount.domain().of(c.currency.domain()),
        by: by(c.refund),
        reason: reason.clone(),
        seed: desk.seed(),
    });
    let (order, _, events) = desk.ask_order(facts.order.0, &command)?;
    let mut draft = desk.draft();
    follow(&mut draft, order, events, &reason)?;
    Ok(draft.into())
}

pub(super) fn payment_outcome<'a>(
    desk: &Desk<'a>,
    c: &wire::RecordPaymentOutcome,
) -> Result<Decided<'a>, Refusal> {
    let payment = PaymentId(c.payment_id);
    let command = match &c.outcome {
        PaymentOutcome::Captured { gateway_payment_id, amount, currency } => {
            payment::Command::RecordCapture {
                gateway_payment: gateway_payment_id.as_str().into(),
                money: amount.domain().of(currency.domain()),
            }
        }
        PaymentOutcome::Declined { reason } => payment::Command::RecordDecline(reason.domain()),
        PaymentOutcome::Unresolved { reason } => payment::Command::RecordDoubt(reason.domain()),
    };
    settle(desk, payment, &command)
}

pub(super) fn resolve<'a>(
    desk: &Desk<'a>,
    c: &wire::ResolvePayment,
) -> Result<Decided<'a>, Refusal> {
    let payment = PaymentId(c.payment_id);
    let finding = match &c.outcome {
        wire::Finding::Captured(found) => {
            let gateway_payment = found.gateway_payment_id.domain();
            if let Some(other) = counted_for(desk, payment, &gateway_payment) {
                return Err(refusals::gateway_payment_counted(&gateway_payment, other));
            }
            let money = found.amount.domain().of(found.currency.domain());
            payment::Finding::Captured { gateway_payment, money }
        }
        wire::Finding::NotCharged(found) => {
            payment::Finding::NotCharged { reason: found.reason.domain() }
        }
    };
    settle(desk, payment, &payment::Command::Resolve(finding))
}

/// Another payment of the same order that the gateway knows by this id. Whoever looks there for one
/// of several tries finds the others too.
fn counted_for(desk: &Desk<'_>, payment: PaymentId, gateway_payment: &Text) -> Option<PaymentId> {
    let order = desk.states.order_of(payment).details()?;
    let mut others = order.ledger().parts().iter().map(|part| part.payment);
    others.find(|other| {
        *other != payment && desk.states.payment(*other).gateway_payment() == Some(gateway_payment)
    })
}

pub(super) fn gateway_payment<'a>(
    desk: &Desk<'a>,
    c: &wire::RecordGatewayPayment,
) -> Result<Decided<'a>, Refusal> {
    let gateway_payment = c.gateway_payment_id.as_str().into();
    let command = payment::Command::RecordGatewayPayment { gateway_payment };
    let mut draft = desk.draft();
    draft.payment(PaymentId(c.payment_id), &command)?;
    Ok(draft.into())
}

pub(super) fn dispute<'a>(
    desk: &Desk<'a>,
    c: &wire::RecordDispute,
) -> Result<Decided<'a>, Refusal> {
    let dispute = payment::Dispute {
        id: c.dispute_id.as_str().into(),
        money: c.amount.domain().of(c.currency.domain()),
        status: c.status.domain(),
        reason: c.reason.domain(),
    };
    let mut draft = desk.draft();
    draft.payment(PaymentId(c.payment_id), &payment::Command::RecordDispute(dispute))?;
    Ok(draft.into())
}

/// A payment that may come to its end by `command`, and what its order makes of that.
fn settle<'a>(
    desk: &Desk<'a>,
    payment: PaymentId,
    command: &payment::Command,
) -> Result<Decided<'a>, Refusal> {
    let mut draft = desk.draft();
    for event in draft.payment(payment, command)? {
        let command = match &event {
            payment::Event::Captured { .. } => order::Command::RecordCapture {
                payment,
                expires_at: desk.expiry(),
                seed: desk.seed(),
            },
            payment::Event::Declined { reason, .. } => order::Command::RecordClose {
                payment,
                reason: reason.clone(),
                expires_at: desk.expiry(),
            },
            // Nothing is settled, so the order goes on waiting.
            payment::Event::Unresolved { .. }
            | payment::Event::Requested(_)
            | payment::Event::Identified { .. }
            | payment::Event::Disputed { .. }
            | payment::Event::Recorded { .. }
            | payment::Event::RefundRequested { .. }
            | payment::Event::Refunded { .. }
            | payment::Event::RefundFailed { .. } => continue,
        };
        let (order, events) = tell_order(desk, payment, &command)?;
        follow(&mut draft, order, events, &"more than is due".into())?;
    }
    Ok(draft.into())
}

pub(super) fn refund_outcome<'a>(
    desk: &Desk<'a>,
    c: &wire::RecordRefundOutcome,
) -> Result<Decided<'a>, Refusal> {
    let (payment, refund) = (PaymentId(c.payment_id), RefundId(c.refund_id));
    let command = match &c.outcome {
        RefundOutcome::Refunded {} => payment::Command::RecordRefundDone(refund),
        RefundOutcome::Failed { reason } => {
            payment::Command::RecordRefundFailure { refund, reason: reason.domain() }
        }
    };
    let mut draft = desk.draft();
    let before = draft.payment_state(payment).refund(refund);
    let after_failure = matches!(before, Some((_, RefundPhase::Failed)));
    for event in draft.payment(payment, &command)? {
        let command = match event {
            payment::Event::Refunded { refund, money, .. } => {
                order::Command::RecordRefundDone { payment, refund, money, after_failure }
            }
            payment::Event::RefundFailed { refund, money, reason, .. } => {
                order::Command::RecordRefundFailure { payment, refund, money, reason }
            }
            payment::Event::Unresolved { .. }
            | payment::Event::Requested(_)
            | payment::Event::Identified { .. }
            | payment::Event::Disputed { .. }
            | payment::Event::Captured { .. }
            | payment::Event::Declined { .. }
            | payment::Event::Recorded { .. }
            | payment::Event::RefundRequested { .. } => continue,
        };
        // The payment has said its part already.
        let (order, events) = tell_order(desk, payment, &command)?;
        draft.orders(order, events);
    }
    Ok(draft.into())
}

/// What the order of a payment makes of a fact about it.
fn tell_order(
    desk: &Desk<'_>,
    payment: PaymentId,
    command: &order::Command,
) -> Result<(OrderId, Vec<order::Event>), Refusal> {
    let facts = desk.states.payment(payment).facts();
    let order = facts.ok_or_else(|| refusals::payment_unknown(payment))?.order;
    let events = desk.states.order(order).decide(command);
    Ok((order, events.map_err(|refusal| refusals::order(order, refusal))?))
}

/// Takes down an order's money events, each refund with what it means for its payment.
///
/// An order says how a refund goes by what follows its opening: at once settled, it was given back
/// by another way; at once failed, no gateway can give it back; else the gateway is asked.
pub(super) fn follow(
    draft: &mut Draft<'_>,
    order: OrderId,
    events: Vec<order::Event>,
    reason: &Text,
) -> Result<(), Refusal> {
    let mut events = events.into_iter().peekable();
    while let Some(event) = events.next() {
        if let order::Event::RefundOpened { payment, refund, money, .. } = &event {
            let (refund, amount) = (*refund, money.amount);
            let command = match events.peek() {
                Some(order::Event::RefundSettled { refund: next, .. }) if *next == refund => {
                    payment::Command::RecordRefund { refund, amount }
                }
                Some(order::Event::RefundFailed { refund: next, reason, .. })
                    if *next == refund =>
                {
                    payment::Command::OweRefund { refund, amount, reason: reason.clone() }
                }
                Some(_) | None => {
                    payment::Command::RequestRefund { refund, amount, reason: reason.clone() }
                }
            };
            draft.payment(*payment, &command)?;
        }
        draft.order(order, event);
    }
    Ok(())
}

/// The refunds among an order's events, as clients are told of them.
pub(super) fn refunds_of(events: &[order::Event]) -> Vec<Value> {
    let mut refunds = Vec::new();
    for event in events {
        if let order::Event::RefundOpened { payment, refund, money, .. } = event {
            refunds.push(json!({
                "refund_id": refund.0, "payment_id": payment.0, "amount": money.amount.get()
            }));
        }
    }
    refunds
}
