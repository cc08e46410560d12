//! What happens to an order.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    Amount, Currency, CustomerId, Money, OrderId, PartnerId, PaymentId, Quantity, RefundId, Sku,
    Text,
};

/// What happens to an order. Each says what its readers need, so that none has to look elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields mean the same everywhere; see `PlacedOrder`")]
pub enum Event {
    /// It was placed.
    Placed(PlacedOrder),
    /// A payment is under way.
    PaymentOpened { order: OrderId, payment: PaymentId, money: Money },
    /// Money came. `expires_at`: a new deadline, if it was not enough.
    PaymentCaptured {
        order: OrderId,
        payment: PaymentId,
        money: Money,
        expires_at: Option<DateTime<Utc>>,
    },
    /// A payment ended without money. `expires_at`: the new deadline.
    PaymentClosed {
        order: OrderId,
        payment: PaymentId,
        money: Money,
        reason: Text,
        expires_at: Option<DateTime<Utc>>,
    },
    /// Enough money came.
    Paid { order: OrderId, customer: Option<CustomerId>, country: Option<Text>, total: Money },
    /// Goods left. `complete`: with them everything has.
    Shipped {
        order: OrderId,
        customer: Option<CustomerId>,
        shipment: u32,
        lines: Arc<[ShippedLine]>,
        complete: bool,
    },
    /// Goods arrived.
    Delivered { order: OrderId, customer: Option<CustomerId> },
    /// It was called off.
    Cancelled {
        order: OrderId,
        customer: Option<CustomerId>,
        country: Option<Text>,
        currency: Currency,
        reason: Text,
        lines: Arc<[CancelledLine]>,
        credit: Amount,
    },
    /// Its time was up.
    Expired {
        order: OrderId,
        customer: Option<CustomerId>,
        country: Option<Text>,
        currency: Currency,
        lines: Arc<[CancelledLine]>,
        credit: Amount,
    },
    /// Goods came back.
    ItemsReturned {
        order: OrderId,
        customer: Option<CustomerId>,
        country: Option<Text>,
        currency: Currency,
        lines: Arc<[ReturnedLine]>,
        credit: Amount,
    },
    /// Less is due, out of goodwill.
    Credited {
        order: OrderId,
        customer: Option<CustomerId>,
        country: Option<Text>,
        payment: PaymentId,
        credit: Money,
        reason: Text,
    },
    /// Money is on its way back.
    RefundOpened { order: OrderId, payment: PaymentId, refund: RefundId, money: Money },
    /// Money is back.
    RefundSettled { order: OrderId, payment: PaymentId, refund: RefundId, money: Money },
    /// Money did not get back.
    RefundFailed {
        order: OrderId,
        payment: PaymentId,
        refund: RefundId,
        money: Money,
        reason: Text,
    },
}

/// An order as it was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedOrder {
    /// Its id.
    pub order: OrderId,
    /// Whose it is; a guest's has none.
    pub customer: Option<CustomerId>,
    /// The partner that placed it.
    pub partner: Option<PartnerId>,
    /// The shop's own name for it.
    pub reference: Option<Text>,
    /// Where it goes.
    pub country: Option<Text>,
    /// Currency of all prices.
    pub currency: Currency,
    /// Its lines, numbered from 1.
    pub lines: Arc<[Line]>,
    /// What is asked for sending it.
    pub shipping: Amount,
    /// What is asked for tax.
    pub tax: Amount,
    /// Sum of the lines' amounts, shipping and tax.
    pub total: Amount,
    /// When its reservation ends unless it is paid. `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub line: u32,
    /// The product.
    pub sku: Sku,
    /// The product's name at the time.
    pub name: Text,
    /// Units.
    pub quantity: Quantity,
    /// Price of one.
    pub unit_price: Amount,
    /// Price of all.
    pub amount: Amount,
    /// Whether stock is kept of it.
    pub tracked: bool,
}

/// Units of a line that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippedLine {
    /// Number of the line.
    pub line: u32,
    /// The product.
    pub sku: Sku,
    /// Units.
    pub quantity: Quantity,
}

/// A line that will not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelledLine {
    /// Number of the line.
    pub line: u32,
    /// The product.
    pub sku: Sku,
    /// Units.
    pub quantity: Quantity,
    /// Their price.
    pub amount: Amount,
}

/// Units of a line that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedLine {
    /// Number of the line.
    pub line: u32,
    /// The product.
    pub sku: Sku,
    /// Units.
    pub quantity: Quantity,
    /// What was credited for them.
    pub credit: Amount,
}

impl Event {
    /// Name of the event, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Placed(_) => "OrderPlaced",
            Self::PaymentOpened { .. } => "OrderPaymentOpened",
            Self::PaymentCaptured { .. } => "OrderPaymentCaptured",
            Self::PaymentClosed { .. } => "OrderPaymentClosed",
            Self::Paid { .. } => "OrderPaid",
            Self::Shipped { .. } => "OrderShipped",
            Self::Delivered { .. } => "OrderDelivered",
            Self::Cancelled { .. } => "OrderCancelled",
            Self::Expired { .. } => "OrderExpired",
            Self::ItemsReturned { .. } => "OrderItemsReturned",
            Self::Credited { .. } => "OrderCredited",
            Self::RefundOpened { .. } => "OrderRefundOpened",
            Self::RefundSettled { .. } => "OrderRefundSettled",
            Self::RefundFailed { .. } => "OrderRefundFailed",
        }
    }
}
