//! Names of streams. They keep to characters that JSON does not escape.

use daybook_domain::{OrderId, PaymentId, Sku};
use uuid::Uuid;

use crate::wire::Command;

pub(crate) fn product(sku: &Sku) -> String {
    format!("product-{sku}")
}

pub(crate) fn stock(sku: &Sku) -> String {
    format!("stock-{sku}")
}

/// Whether it is the stream of a stock.
pub(crate) fn is_stock(stream: &str) -> bool {
    stream.starts_with("stock-")
}

pub(crate) fn order(order: OrderId) -> String {
    format!("order-{order}")
}

pub(crate) fn payment(payment: PaymentId) -> String {
    format!("payment-{payment}")
}

/// The stream that a command is about, which its `If-Match` speaks of. `fresh` is the id of what
/// it creates, unless it brings one.
pub(crate) fn subject(command: &Command, fresh: Uuid) -> String {
    match command {
        Command::AddProduct(c) => product(c.sku.domain()),
        Command::ChangePrice(c) => product(c.sku.domain()),
        Command::DiscontinueProduct(c) => product(c.sku.domain()),
        Command::ReceiveStock(c) => stock(c.sku.domain()),
        Command::AdjustStock(c) => stock(c.sku.domain()),
        Command::PlaceOrder(c) => order(OrderId(c.order_id.unwrap_or(fresh))),
        Command::ChargePayment(c) => order(OrderId(c.order_id)),
        Command::RecordPayment(c) => order(OrderId(c.order_id)),
        Command::CancelOrder(c) => order(OrderId(c.order_id)),
        Command::ShipOrder(c) => order(OrderId(c.order_id)),
        Command::DeliverOrder(c) => order(OrderId(c.order_id)),
        Command::ReturnItems(c) => order(OrderId(c.order_id)),
        Command::RefundPayment(c) => payment(PaymentId(c.payment_id)),
        Command::ResolvePayment(c) => payment(PaymentId(c.payment_id)),
        Command::RecordGatewayPayment(c) => payment(PaymentId(c.payment_id)),
        Command::RecordDispute(c) => payment(PaymentId(c.payment_id)),
        Command::RecordPaymentOutcome(c) => payment(PaymentId(c.payment_id)),
        Command::RecordRefundOutcome(c) => payment(PaymentId(c.payment_id)),
        Command::ExpireOrder(c) => order(OrderId(c.order_id)),
    }
}
