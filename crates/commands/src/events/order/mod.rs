//! Stored forms of what happens to orders.

mod decode;
mod encode;
mod stored;

use schemars::Schema;

pub(super) use self::{decode::decode, encode::encode};
use super::schema_of;

pub(super) fn schema(kind: &str) -> Option<Schema> {
    Some(match kind {
        "OrderPlaced" => schema_of::<stored::OrderPlaced>(),
        "OrderPaymentOpened" => schema_of::<stored::OrderPaymentOpened>(),
        "OrderPaymentCaptured" => schema_of::<stored::OrderPaymentCaptured>(),
        "OrderPaymentClosed" => schema_of::<stored::OrderPaymentClosed>(),
        "OrderPaid" => schema_of::<stored::OrderPaid>(),
        "OrderShipped" => schema_of::<stored::OrderShipped>(),
        "OrderDelivered" => schema_of::<stored::OrderDelivered>(),
        "OrderCancelled" => schema_of::<stored::OrderCancelled>(),
        "OrderExpired" => schema_of::<stored::OrderExpired>(),
        "OrderItemsReturned" => schema_of::<stored::OrderItemsReturned>(),
        "OrderCredited" => schema_of::<stored::OrderCredited>(),
        "OrderRefundOpened" | "OrderRefundSettled" => schema_of::<stored::OrderRefund>(),
        "OrderRefundFailed" => schema_of::<stored::OrderRefundFailed>(),
        _ => return None,
    })
}
