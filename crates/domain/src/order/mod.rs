//! An order: what was asked for, what became of each line, and the money side of it.
//!
//! The money rules. *Due* is the total less all credits (cancelled or returned lines, goodwill).
//! Money *kept* is what was captured less what went back or is on its way back; an order is *paid*
//! when kept ≥ due. What is kept above due goes back.

mod command;
mod decide;
mod event;
mod evolve;
mod fulfil;
mod ledger;
mod pay;
mod refusal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use self::{
    command::{Command, Goodwill, NewLine, NewOrder, RefundBy, ReturnLine, ShipLine},
    event::{CancelledLine, Event, Line, PlacedOrder, ReturnedLine, ShippedLine},
    ledger::{Ledger, Part, PartPhase},
    refusal::Refusal,
};
use crate::{Aggregate, Currency, CustomerId, Misfit, OrderId, PartnerId, Text};

/// Most payments that one order can have, declined ones included: nobody tries cards on it.
pub const MAX_PAYMENTS: usize = 200;

/// Where an order is in its life. Money may still move in every phase but the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Order {
    /// Never heard of.
    #[default]
    Unplaced,
    /// Placed, stock reserved, nothing sent.
    Placed(Details),
    /// Some of it was sent.
    PartShipped(Details),
    /// All of it was sent.
    Shipped(Details),
    /// All of it arrived.
    Delivered(Details),
    /// Called off before anything was sent.
    Cancelled(Details),
    /// Never paid in time.
    Expired(Details),
}

/// What is known of an order that was placed. Clones share the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    order: OrderId,
    customer: Option<CustomerId>,
    partner: Option<PartnerId>,
    country: Option<Text>,
    currency: Currency,
    lines: Arc<[Line]>,
    progress: Arc<Vec<Progress>>,
    shipments: u32,
    ledger: Ledger,
    expires_at: Option<DateTime<Utc>>,
}

/// What became of a line. Always 0 ≤ returned ≤ shipped ≤ ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Units sent.
    pub shipped: i64,
    /// Units that came back.
    pub returned: i64,
}

impl Order {
    /// Name of the phase, as clients see it.
    pub fn phase(&self) -> &'static str {
        match self {
            Self::Unplaced => "unplaced",
            Self::Placed(_) => "placed",
            Self::PartShipped(_) => "part-shipped",
            Self::Shipped(_) => "shipped",
            Self::Delivered(_) => "delivered",
            Self::Cancelled(_) => "cancelled",
            Self::Expired(_) => "expired",
        }
    }

    /// What is known of it, once it is placed.
    pub fn details(&self) -> Option<&Details> {
        match self {
            Self::Unplaced => None,
            Self::Placed(details)
            | Self::PartShipped(details)
            | Self::Shipped(details)
            | Self::Delivered(details)
            | Self::Cancelled(details)
            | Self::Expired(details) => Some(details),
        }
    }
}

impl Details {
    /// Its id.
    pub fn order(&self) -> OrderId {
        self.order
    }

    /// Whose it is; a guest's has none.
    pub fn customer(&self) -> Option<CustomerId> {
        self.customer
    }

    /// The partner that placed it.
    pub fn partner(&self) -> Option<PartnerId> {
        self.partner
    }

    /// Where it goes, as far as the shop needs to know.
    pub fn country(&self) -> Option<&Text> {
        self.country.as_ref()
    }

    /// The currency of all its amounts.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Its lines; line n stands at n − 1.
    pub fn lines(&self) -> &Arc<[Line]> {
        &self.lines
    }

    /// The line with this number (from 1), and what became of it.
    pub fn line(&self, number: u32) -> Option<(&Line, Progress)> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        Some((self.lines.get(index)?, *self.progress.get(index)?))
    }

    /// Lines with what became of them.
    pub fn with_progress(&self) -> impl Iterator<Item = (&Line, Progress)> {
        self.lines.iter().zip(self.progress.iter().copied())
    }

    /// How many shipments left.
    pub fn shipments(&self) -> u32 {
        self.shipments
    }

    /// Its money.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When its reservation ends unless it is paid. `None`: never.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }
}

impl Aggregate for Order {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        decide::decide(self, command)
    }

    fn evolve(self, event: &Event) -> Result<Self, Misfit> {
        evolve::evolve(self, event)
    }
}
