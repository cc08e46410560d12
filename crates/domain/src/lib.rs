//! What the shop decides: products, stock, orders, payments. Pure: no I/O, no clock, no randomness.
//!
//! Each aggregate is a state (an enum of the phases of its life), a `decide` that turns a command
//! into events or a refusal, and an `evolve` that folds an event into the state. Both are total:
//! every pair of state and command is written out, so that a new phase or command does not compile
//! before somebody has said what it means. Times and new ids are arguments.
#![warn(clippy::wildcard_enum_match_arm)]

mod aggregate;
mod ids;
mod money;
pub mod order;
pub mod payment;
pub mod product;
mod quantity;
mod sku;
#[cfg(test)]
mod spec;
pub mod stock;

use std::sync::Arc;

pub use aggregate::{Aggregate, Misfit};
pub use ids::{CustomerId, OrderId, PartnerId, PaymentId, RefundId, RefundSeed};
pub use money::{Amount, Currency, MAX_INTEGER, Money};
pub use quantity::{Change, Quantity};
pub use sku::Sku;

/// Short text (a name, a reason), shared rather than copied.
pub type Text = Arc<str>;
