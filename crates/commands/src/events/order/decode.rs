//! From stored forms to the domain's events.

use std::sync::Arc;

use daybook_domain::{
    CustomerId, OrderId, PartnerId, PaymentId, RefundId,
    order::{self, Event},
};
use daybook_journal::CorruptEvent;

use super::{
    super::{read, unknown},
    stored,
};

pub(in super::super) fn decode(kind: &str, data: &str) -> Result<Event, CorruptEvent> {
    Ok(match kind {
        "OrderPlaced" => {
            let s: stored::OrderPlaced = read(data)?;
            Event::Placed(order::PlacedOrder {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                partner: s.partner_id.map(PartnerId),
                reference: s.reference,
                country: s.country,
                currency: s.currency.domain(),
                lines: s.lines.into_iter().map(placed_line).collect(),
                shipping: s.shipping.domain(),
                tax: s.tax.domain(),
                total: s.total.domain(),
                expires_at: s.expires_at.map(|time| time.0),
            })
        }
        "OrderPaymentOpened" => {
            let s: stored::OrderPaymentOpened = read(data)?;
            Event::PaymentOpened {
                order: OrderId(s.order_id),
                payment: PaymentId(s.payment_id),
                money: s.amount.domain().of(s.currency.domain()),
            }
        }
        "OrderPaymentCaptured" => {
            let s: stored::OrderPaymentCaptured = read(data)?;
            Event::PaymentCaptured {
                order: OrderId(s.order_id),
                payment: PaymentId(s.payment_id),
                money: s.amount.domain().of(s.currency.domain()),
                expires_at: s.expires_at.map(|time| time.0),
            }
        }
        "OrderPaymentClosed" => {
            let s: stored::OrderPaymentClosed = read(data)?;
            Event::PaymentClosed {
                order: OrderId(s.order_id),
                payment: PaymentId(s.payment_id),
                money: s.amount.domain().of(s.currency.domain()),
                reason: s.reason,
                expires_at: s.expires_at.map(|time| time.0),
            }
        }
        "OrderPaid" => {
            let s: stored::OrderPaid = read(data)?;
            Event::Paid {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                country: s.country,
                total: s.total.domain().of(s.currency.domain()),
            }
        }
        "OrderShipped" => {
            let s: stored::OrderShipped = read(data)?;
            let line = |line: stored::ShippedLine| order::ShippedLine {
                line: line.line,
                sku: line.sku.domain().clone(),
                quantity: line.quantity.domain(),
            };
            Event::Shipped {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                shipment: s.shipment,
                lines: s.lines.into_iter().map(line).collect(),
                complete: s.complete,
            }
        }
        "OrderDelivered" => {
            let s: stored::OrderDelivered = read(data)?;
            Event::Delivered { order: OrderId(s.order_id), customer: s.customer_id.map(CustomerId) }
        }
        "OrderCancelled" => {
            let s: stored::OrderCancelled = read(data)?;
            Event::Cancelled {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                country: s.country,
                currency: s.currency.domain(),
                reason: s.reason,
                lines: unsent(s.lines),
                credit: s.credit.domain(),
            }
        }
        "OrderExpired" => {
            let s: stored::OrderExpired = read(data)?;
            Event::Expired {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                country: s.country,
                currency: s.currency.domain(),
                lines: unsent(s.lines),
                credit: s.credit.domain(),
            }
        }
        "OrderItemsReturned" => {
            let s: stored::OrderItemsReturned = read(data)?;
            let line = |line: stored::ReturnedLine| order::ReturnedLine {
                line: line.line,
                sku: line.sku.domain().clone(),
                quantity: line.quantity.domain(),
                credit: line.credit.domain(),
            };
            Event::ItemsReturned {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                country: s.country,
                currency: s.currency.domain(),
                lines: s.lines.into_iter().map(line).collect(),
                credit: s.credit.domain(),
            }
        }
        "OrderCredited" => {
            let s: stored::OrderCredited = read(data)?;
            Event::Credited {
                order: OrderId(s.order_id),
                customer: s.customer_id.map(CustomerId),
                country: s.country,
                payment: PaymentId(s.payment_id),
                credit: s.credit.domain().of(s.currency.domain()),
                reason: s.reason,
            }
        }
        "OrderRefundOpened" | "OrderRefundSettled" => {
            let s: stored::OrderRefund = read(data)?;
            let (order, payment) = (OrderId(s.order_id), PaymentId(s.payment_id));
            let refund = RefundId(s.refund_id);
            let money = s.amount.domain().of(s.currency.domain());
            if kind == "OrderRefundOpened" {
                Event::RefundOpened { order, payment, refund, money }
            } else {
                Event::RefundSettled { order, payment, refund, money }
            }
        }
        "OrderRefundFailed" => {
            let s: stored::OrderRefundFailed = read(data)?;
            Event::RefundFailed {
                order: OrderId(s.order_id),
                payment: PaymentId(s.payment_id),
                refund: RefundId(s.refund_id),
                money: s.amount.domain().of(s.currency.domain()),
                reason: s.reason,
            }
        }
        _ => return Err(unknown(kind)),
    })
}

fn placed_line(line: stored::PlacedLine) -> order::Line {
    order::Line {
        line: line.line,
        sku: line.sku.domain().clone(),
        name: line.name,
        quantity: line.quantity.domain(),
        unit_price: line.unit_price.domain(),
        amount: line.amount.domain(),
        tracked: line.tracked,
    }
}

fn unsent(lines: Vec<stored::CancelledLine>) -> Arc<[order::CancelledLine]> {
    let line = |line: stored::CancelledLine| order::CancelledLine {
        line: line.line,
        sku: line.sku.domain().clone(),
        quantity: line.quantity.domain(),
        amount: line.amount.domain(),
    };
    lines.into_iter().map(line).collect()
}
