//! Stored forms of what happens to orders, field by field.

use daybook_domain::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wire::{Amount, Currency, Quantity, Sku, Time};

/// An order was placed.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderPlaced {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer; a guest's has none.
    pub(super) customer_id: Option<Uuid>,
    /// The partner that placed it.
    pub(super) partner_id: Option<Uuid>,
    /// The shop's own name for it.
    pub(super) reference: Option<Text>,
    /// Where it goes.
    pub(super) country: Option<Text>,
    /// Currency of all its amounts.
    pub(super) currency: Currency,
    /// What is ordered.
    pub(super) lines: Vec<PlacedLine>,
    /// What is asked for sending it, in minor units.
    pub(super) shipping: Amount,
    /// What is asked for tax beside the prices, in minor units.
    pub(super) tax: Amount,
    /// Sum of the lines, shipping and tax, in minor units.
    pub(super) total: Amount,
    /// When its reservation ends unless it is paid.
    pub(super) expires_at: Option<Time>,
}

/// A line of an order.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlacedLine {
    /// Its number, from 1.
    pub(super) line: u32,
    /// The product.
    pub(super) sku: Sku,
    /// The product's name at the time.
    pub(super) name: Text,
    /// Units.
    pub(super) quantity: Quantity,
    /// Price of one, in minor units.
    pub(super) unit_price: Amount,
    /// Price of all, in minor units.
    pub(super) amount: Amount,
    /// Whether stock is kept of it.
    pub(super) tracked: bool,
}

/// A payment of an order is under way.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderPaymentOpened {
    /// The order.
    pub(super) order_id: Uuid,
    /// The payment.
    pub(super) payment_id: Uuid,
    /// How much, in minor units.
    pub(super) amount: Amount,
    /// Its currency.
    pub(super) currency: Currency,
}

/// Money came for an order.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderPaymentCaptured {
    /// The order.
    pub(super) order_id: Uuid,
    /// The payment.
    pub(super) payment_id: Uuid,
    /// How much, in minor units.
    pub(super) amount: Amount,
    /// Its currency.
    pub(super) currency: Currency,
    /// When the order expires now, if it was not enough.
    pub(super) expires_at: Option<Time>,
}

/// A payment of an order ended without money.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderPaymentClosed {
    /// The order.
    pub(super) order_id: Uuid,
    /// The payment.
    pub(super) payment_id: Uuid,
    /// How much it was to be, in minor units.
    pub(super) amount: Amount,
    /// Its currency.
    pub(super) currency: Currency,
    /// Why.
    pub(super) reason: Text,
    /// When the order expires now.
    pub(super) expires_at: Option<Time>,
}

/// Enough money came for an order.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderPaid {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Where it goes.
    pub(super) country: Option<Text>,
    /// Sum of its lines, shipping and tax, in minor units.
    pub(super) total: Amount,
    /// Its currency.
    pub(super) currency: Currency,
}

/// Goods left.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderShipped {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Number of the shipment within the order, from 1.
    pub(super) shipment: u32,
    /// What left.
    pub(super) lines: Vec<ShippedLine>,
    /// Whether with it everything has left.
    pub(super) complete: bool,
}

/// Units of a line that left.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShippedLine {
    /// Number of the line.
    pub(super) line: u32,
    /// The product.
    pub(super) sku: Sku,
    /// Units.
    pub(super) quantity: Quantity,
}

/// Goods arrived.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderDelivered {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
}

/// An order was called off.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderCancelled {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Where it would have gone.
    pub(super) country: Option<Text>,
    /// Its currency.
    pub(super) currency: Currency,
    /// Why.
    pub(super) reason: Text,
    /// What will not be sent.
    pub(super) lines: Vec<CancelledLine>,
    /// What is credited, in minor units: all that was due.
    pub(super) credit: Amount,
}

/// An order was not paid in time.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderExpired {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Where it would have gone.
    pub(super) country: Option<Text>,
    /// Its currency.
    pub(super) currency: Currency,
    /// What will not be sent.
    pub(super) lines: Vec<CancelledLine>,
    /// What is credited, in minor units: all that was due.
    pub(super) credit: Amount,
}

/// A line that will not be sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelledLine {
    /// Number of the line.
    pub(super) line: u32,
    /// The product.
    pub(super) sku: Sku,
    /// Units.
    pub(super) quantity: Quantity,
    /// Their price, in minor units.
    pub(super) amount: Amount,
}

/// Goods came back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderItemsReturned {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Where they came from.
    pub(super) country: Option<Text>,
    /// The order's currency.
    pub(super) currency: Currency,
    /// What came back.
    pub(super) lines: Vec<ReturnedLine>,
    /// What is credited for all, in minor units.
    pub(super) credit: Amount,
}

/// Units of a line that came back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReturnedLine {
    /// Number of the line.
    pub(super) line: u32,
    /// The product.
    pub(super) sku: Sku,
    /// Units.
    pub(super) quantity: Quantity,
    /// What is credited for them, in minor units.
    pub(super) credit: Amount,
}

/// Less is due for an order, out of goodwill.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderCredited {
    /// The order.
    pub(super) order_id: Uuid,
    /// Its customer.
    pub(super) customer_id: Option<Uuid>,
    /// Where it goes.
    pub(super) country: Option<Text>,
    /// Its currency.
    pub(super) currency: Currency,
    /// The payment that is given back from.
    pub(super) payment_id: Uuid,
    /// What is credited, in minor units.
    pub(super) credit: Amount,
    /// Why.
    pub(super) reason: Text,
}

/// Money of an order is on its way back (opened), or got there (settled).
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRefund {
    /// The order.
    pub(super) order_id: Uuid,
    /// The payment.
    pub(super) payment_id: Uuid,
    /// The refund.
    pub(super) refund_id: Uuid,
    /// How much, in minor units.
    pub(super) amount: Amount,
    /// Its currency.
    pub(super) currency: Currency,
}

/// Money of an order did not get back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRefundFailed {
    /// The order.
    pub(super) order_id: Uuid,
    /// The payment.
    pub(super) payment_id: Uuid,
    /// The refund.
    pub(super) refund_id: Uuid,
    /// How much, in minor units.
    pub(super) amount: Amount,
    /// Its currency.
    pub(super) currency: Currency,
    /// Why.
    pub(super) reason: Text,
}
