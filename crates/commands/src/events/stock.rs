//! Stored forms of what happens to stock.

use daybook_domain::{
    OrderId, Text,
    stock::{Event, Movement},
};
use daybook_journal::{CorruptEvent, Encoded};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{encoded, read, schema_of, unknown};
use crate::wire::{Change, Quantity, Sku};

/// Goods came in.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StockReceived {
    /// The product.
    sku: Sku,
    /// Units.
    quantity: Quantity,
}

/// Stock was corrected.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StockAdjusted {
    /// The product.
    sku: Sku,
    /// Units more or fewer.
    quantity: Change,
    /// Why.
    reason: Text,
}

/// Units were promised to an order, freed of the promise, sent out, or taken back: as the type says.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StockMoved {
    /// The product.
    sku: Sku,
    /// The order.
    order_id: Uuid,
    /// Units.
    quantity: Quantity,
}

impl From<&Movement> for StockMoved {
    fn from(movement: &Movement) -> Self {
        Self {
            sku: movement.sku.clone().into(),
            order_id: movement.order.0,
            quantity: movement.quantity.into(),
        }
    }
}

impl From<StockMoved> for Movement {
    fn from(stored: StockMoved) -> Self {
        Self {
            sku: stored.sku.domain().clone(),
            order: OrderId(stored.order_id),
            quantity: stored.quantity.domain(),
        }
    }
}

pub(super) fn encode(event: &Event) -> Encoded {
    match event {
        Event::Received(sku, quantity) => encoded(
            "StockReceived",
            &StockReceived { sku: sku.clone().into(), quantity: (*quantity).into() },
        ),
        Event::Adjusted(sku, change, reason) => encoded(
            "StockAdjusted",
            &StockAdjusted {
                sku: sku.clone().into(),
                quantity: (*change).into(),
                reason: reason.clone(),
            },
        ),
        Event::Reserved(movement) => encoded("StockReserved", &StockMoved::from(movement)),
        Event::Released(movement) => encoded("StockReleased", &StockMoved::from(movement)),
        Event::Shipped(movement) => encoded("StockShipped", &StockMoved::from(movement)),
        Event::Returned(movement) => encoded("StockReturned", &StockMoved::from(movement)),
    }
}

pub(super) fn decode(kind: &str, data: &str) -> Result<Event, CorruptEvent> {
    let moved = || read::<StockMoved>(data).map(Movement::from);
    Ok(match kind {
        "StockReceived" => {
            let StockReceived { sku, quantity } = read(data)?;
            Event::Received(sku.domain().clone(), quantity.domain())
        }
        "StockAdjusted" => {
            let StockAdjusted { sku, quantity, reason } = read(data)?;
            Event::Adjusted(sku.domain().clone(), quantity.domain(), reason)
        }
        "StockReserved" => Event::Reserved(moved()?),
        "StockReleased" => Event::Released(moved()?),
        "StockShipped" => Event::Shipped(moved()?),
        "StockReturned" => Event::Returned(moved()?),
        _ => return Err(unknown(kind)),
    })
}

pub(super) fn schema(kind: &str) -> Option<Schema> {
    Some(match kind {
        "StockReceived" => schema_of::<StockReceived>(),
        "StockAdjusted" => schema_of::<StockAdjusted>(),
        "StockReserved" | "StockReleased" | "StockShipped" | "StockReturned" => {
            schema_of::<StockMoved>()
        }
        _ => return None,
    })
}
