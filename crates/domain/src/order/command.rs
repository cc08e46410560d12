//! What may be asked of an order.

use chrono::{DateTime, Utc};

use crate::{
    Amount, Currency, CustomerId, Money, OrderId, PartnerId, PaymentId, Quantity, RefundId,
    RefundSeed, Sku, Text,
};

/// What may be asked of an order. Facts (`Record…`) are never refused once their payment is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Place it.
    Place(NewOrder),
    /// A payment is to be charged.
    OpenPayment {
        /// Id of the payment.
        payment: PaymentId,
        /// How much.
        money: Money,
    },
    /// A payment was settled elsewhere.
    RecordPayment {
        /// Id of the payment.
        payment: PaymentId,
        /// How much.
        money: Money,
        /// When the order is to expire if this does not pay it.
        expires_at: DateTime<Utc>,
    },
    /// A payment that was opened has been captured, in time or late.
    RecordCapture {
        /// Id of the payment.
        payment: PaymentId,
        /// When the order is to expire if this does not pay it.
        expires_at: DateTime<Utc>,
        /// Where the id of a refund comes from, if it is more than is due.
        seed: RefundSeed,
    },
    /// A payment that was opened is over, without money.
    RecordClose {
        /// Id of the payment.
        payment: PaymentId,
        /// Why.
        reason: Text,
        /// When the order is to expire now that nothing is under way.
        expires_at: DateTime<Utc>,
    },
    /// Send goods.
    Ship {
        /// What; `None`: all that is left.
        lines: Option<Vec<ShipLine>>,
        /// Whether it goes although it isn't paid.
        on_account: bool,
    },
    /// It arrived.
    Deliver,
    /// Goods came back.
    Return {
        /// Which.
        lines: Vec<ReturnLine>,
        /// How money goes back.
        by: RefundBy,
        /// Where the refunds' ids come from.
        seed: RefundSeed,
    },
    /// Give money back out of goodwill.
    Refund(Goodwill),
    /// Call it off.
    Cancel {
        /// Why.
        reason: Text,
        /// Where the refunds' ids come from.
        seed: RefundSeed,
    },
    /// Its time is up.
    Expire {
        /// The deadline that passed.
        deadline: DateTime<Utc>,
        /// Where the refunds' ids come from.
        seed: RefundSeed,
    },
    /// A refund went through.
    RecordRefundDone {
        /// Id of the payment.
        payment: PaymentId,
        /// Id of the refund.
        refund: RefundId,
        /// How much.
        money: Money,
        /// Whether it had been given up before.
        after_failure: bool,
    },
    /// A refund did not go through.
    RecordRefundFailure {
        /// Id of the payment.
        payment: PaymentId,
        /// Id of the refund.
        refund: RefundId,
        /// How much.
        money: Money,
        /// Why.
        reason: Text,
    },
}

/// An order as it is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Its id.
    pub order: OrderId,
    /// Whose it is; a guest's has none.
    pub customer: Option<CustomerId>,
    /// The partner that places it.
    pub partner: Option<PartnerId>,
    /// The shop's own name for it, as an invoice number.
    pub reference: Option<Text>,
    /// Where it goes.
    pub country: Option<Text>,
    /// Currency of all prices.
    pub currency: Currency,
    /// What is ordered.
    pub lines: Vec<NewLine>,
    /// What is asked for sending it, beside the lines.
    pub shipping: Amount,
    /// What is asked for tax, beside the lines: nothing where prices hold it already.
    pub tax: Amount,
    /// What the buyer was shown.
    pub expected_total: Option<Amount>,
    /// When its reservation ends unless it is paid.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A line as it is to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// The product.
    pub sku: Sku,
    /// Its name.
    pub name: Text,
    /// Units.
    pub quantity: Quantity,
    /// Price of one.
    pub unit_price: Amount,
    /// Whether stock is kept of it.
    pub tracked: bool,
}

/// Units of a line to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipLine {
    /// Number of the line, from 1.
    pub line: u32,
    /// Units.
    pub quantity: Quantity,
}

/// Units of a line that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReturnLine {
    /// Number of the line, from 1.
    pub line: u32,
    /// Units.
    pub quantity: Quantity,
    /// What is credited for them; `None`: their price, as far as so much is due.
    pub credit: Option<Amount>,
}

/// A gift of money that was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodwill {
    /// The payment to give back from.
    pub payment: PaymentId,
    /// How much.
    pub money: Money,
    /// How it goes back.
    pub by: RefundBy,
    /// Why.
    pub reason: Text,
    /// Where the refund's id comes from.
    pub seed: RefundSeed,
}

/// How money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundBy {
    /// The gateway that took it gives it back.
    Gateway,
    /// Somebody has given it back by another way.
    Elsewhere,
}
