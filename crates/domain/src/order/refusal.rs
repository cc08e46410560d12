//! Why an order says no.

use chrono::{DateTime, Utc};

use crate::{Amount, Currency, PaymentId};

/// Why an order says no. Amounts are minor units of the order's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "a refusal's values are explained with it")]
pub enum Refusal {
    /// There is one with this id already.
    Exists,
    /// There is none with this id.
    Unknown,
    /// It would have no lines.
    NoLines,
    /// An amount would pass 2^53 − 1.
    TooLarge,
    /// The buyer was shown another total.
    TotalDiffers { expected: Amount, actual: Amount },
    /// The order is in another currency.
    CurrencyDiffers { expected: Currency, actual: Currency },
    /// That can't be done in this phase.
    WrongState { state: &'static str },
    /// With it more would be captured than is due. `captured` is less what went back; `open` is
    /// what other payments are asking for.
    OverCharge { due: Amount, captured: Amount, open: Amount },
    /// The order has a payment with this id.
    PaymentExists { payment: PaymentId },
    /// The order has no payment with this id.
    PaymentUnknown { payment: PaymentId },
    /// It has had this many payments already.
    TooManyPayments { limit: usize },
    /// Payments are under way for so much; their outcome has to be awaited.
    PaymentOpen { open: Amount },
    /// Less was paid than is due.
    NotPaid { due: Amount, paid: Amount },
    /// It is paid, so it does not expire.
    AlreadyPaid { due: Amount, paid: Amount },
    /// It expires at another time, or never.
    DeadlineMoved { expires_at: Option<DateTime<Utc>> },
    /// Nothing is left to be sent.
    NothingToShip { state: &'static str },
    /// It has no line with this number.
    LineUnknown { line: u32 },
    /// A line is named twice.
    LineRepeated { line: u32 },
    /// Fewer units of the line are left to be sent.
    TooManyShipped { line: u32, shippable: i64 },
    /// Fewer units of the line are out.
    TooManyReturned { line: u32, returnable: i64 },
    /// Less is left of what is due.
    CreditTooHigh { credit: Amount, limit: Amount },
    /// Less is left of the payment.
    RefundTooHigh { payment: PaymentId, amount: Amount, limit: Amount },
    /// So much was to go back through a gateway, but only so much of what is left came through one.
    NotAtGateway { refund: Amount, refundable: Amount },
}
