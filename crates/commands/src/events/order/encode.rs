//! From the domain's events to their stored forms.

use daybook_domain::{
    CustomerId, Money, OrderId, PaymentId, RefundId,
    order::{self, Event},
};
use daybook_journal::Encoded;
use uuid::Uuid;

use super::{super::encoded, stored};

pub(in super::super) fn encode(event: &Event) -> Encoded {
    let kind = event.name();
    match event {
        Event::Placed(placed) => encoded(kind, &order_placed(placed)),
        Event::PaymentOpened { order, payment, money } => encoded(
            kind,
            &stored::OrderPaymentOpened {
                order_id: order.0,
                payment_id: payment.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
            },
        ),
        Event::PaymentCaptured { order, payment, money, expires_at } => encoded(
            kind,
            &stored::OrderPaymentCaptured {
                order_id: order.0,
                payment_id: payment.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                expires_at: expires_at.map(Into::into),
            },
        ),
        Event::PaymentClosed { order, payment, money, reason, expires_at } => encoded(
            kind,
            &stored::OrderPaymentClosed {
                order_id: order.0,
                payment_id: payment.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                reason: reason.clone(),
                expires_at: expires_at.map(Into::into),
            },
        ),
        Event::Paid { order, customer, country, total } => encoded(
            kind,
            &stored::OrderPaid {
                order_id: order.0,
                customer_id: id(*customer),
                country: country.clone(),
                total: total.amount.into(),
                currency: total.currency.into(),
            },
        ),
        Event::Shipped { order, customer, shipment, lines, complete } => encoded(
            kind,
            &stored::OrderShipped {
                order_id: order.0,
                customer_id: id(*customer),
                shipment: *shipment,
                lines: lines
                    .iter()
                    .map(|line| stored::ShippedLine {
                        line: line.line,
                        sku: line.sku.clone().into(),
                        quantity: line.quantity.into(),
                    })
                    .collect(),
                complete: *complete,
            },
        ),
        Event::Delivered { order, customer } => {
            encoded(kind, &stored::OrderDelivered { order_id: order.0, customer_id: id(*customer) })
        }
        Event::Cancelled { order, customer, country, currency, reason, lines, credit } => encoded(
            kind,
            &stored::OrderCancelled {
                order_id: order.0,
                customer_id: id(*customer),
                country: country.clone(),
                currency: (*currency).into(),
                reason: reason.clone(),
                lines: unsent(lines),
                credit: (*credit).into(),
            },
        ),
        Event::Expired { order, customer, country, currency, lines, credit } => encoded(
            kind,
            &stored::OrderExpired {
                order_id: order.0,
                customer_id: id(*customer),
                country: country.clone(),
                currency: (*currency).into(),
                lines: unsent(lines),
                credit: (*credit).into(),
            },
        ),
        Event::ItemsReturned { order, customer, country, currency, lines, credit } => encoded(
            kind,
            &stored::OrderItemsReturned {
                order_id: order.0,
                customer_id: id(*customer),
                country: country.clone(),
                currency: (*currency).into(),
                lines: lines
                    .iter()
                    .map(|line| stored::ReturnedLine {
                        line: line.line,
                        sku: line.sku.clone().into(),
                        quantity: line.quantity.into(),
                        credit: line.credit.into(),
                    })
                    .collect(),
                credit: (*credit).into(),
            },
        ),
        Event::Credited { order, customer, country, payment, credit, reason } => encoded(
            kind,
            &stored::OrderCredited {
                order_id: order.0,
                customer_id: id(*customer),
                country: country.clone(),
                currency: credit.currency.into(),
                payment_id: payment.0,
                credit: credit.amount.into(),
                reason: reason.clone(),
            },
        ),
        Event::RefundOpened { order, payment, refund, money }
        | Event::RefundSettled { order, payment, refund, money } => {
            encoded(kind, &order_refund(*order, *payment, *refund, *money))
        }
        Event::RefundFailed { order, payment, refund, money, reason } => encoded(
            kind,
            &stored::OrderRefundFailed {
                order_id: order.0,
                payment_id: payment.0,
                refund_id: refund.0,
                amount: money.amount.into(),
                currency: money.currency.into(),
                reason: reason.clone(),
            },
        ),
    }
}

fn id(customer: Option<CustomerId>) -> Option<Uuid> {
    customer.map(|customer| customer.0)
}

fn order_placed(placed: &order::PlacedOrder) -> stored::OrderPlaced {
    let line = |line: &order::Line| stored::PlacedLine {
        line: line.line,
        sku: line.sku.clone().into(),
        name: line.name.clone(),
        quantity: line.quantity.into(),
        unit_price: line.unit_price.into(),
        amount: line.amount.into(),
        tracked: line.tracked,
    };
    stored::OrderPlaced {
        order_id: placed.order.0,
        customer_id: id(placed.customer),
        partner_id: placed.partner.map(|partner| partner.0),
        reference: placed.reference.clone(),
        country: placed.country.clone(),
        currency: placed.currency.into(),
        lines: placed.lines.iter().map(line).collect(),
        shipping: placed.shipping.into(),
        tax: placed.tax.into(),
        total: placed.total.into(),
        expires_at: placed.expires_at.map(Into::into),
    }
}

fn unsent(lines: &[order::CancelledLine]) -> Vec<stored::CancelledLine> {
    let line = |line: &order::CancelledLine| stored::CancelledLine {
        line: line.line,
        sku: line.sku.clone().into(),
        quantity: line.quantity.into(),
        amount: line.amount.into(),
    };
    lines.iter().map(line).collect()
}

fn order_refund(
    order: OrderId,
    payment: PaymentId,
    refund: RefundId,
    money: Money,
) -> stored::OrderRefund {
    stored::OrderRefund {
        order_id: order.0,
        payment_id: payment.0,
        refund_id: refund.0,
        amount: money.amount.into(),
        currency: money.currency.into(),
    }
}
