//! Stored forms of what happens to products.

use daybook_domain::{Text, product::Event};
use daybook_journal::{CorruptEvent, Encoded};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::{encoded, read, schema_of, unknown};
use crate::wire::{Amount, Currency, Sku};

/// A product came into the catalogue.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProductAdded {
    /// Its code.
    sku: Sku,
    /// Its name.
    name: Text,
    /// Price of one unit, in minor units.
    price: Amount,
    /// Currency of the price.
    currency: Currency,
    /// Whether stock is kept of it.
    tracked: bool,
}

/// A product costs something else from now on.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PriceChanged {
    /// The product.
    sku: Sku,
    /// Price of one unit, in minor units.
    price: Amount,
    /// Currency of the price.
    currency: Currency,
}

/// A product is not sold any more.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProductDiscontinued {
    /// The product.
    sku: Sku,
}

pub(super) fn encode(event: &Event) -> Encoded {
    let kind = event.name();
    match event {
        Event::Added { sku, name, price, tracked } => encoded(
            kind,
            &ProductAdded {
                sku: sku.clone().into(),
                name: name.clone(),
                price: price.amount.into(),
                currency: price.currency.into(),
                tracked: *tracked,
            },
        ),
        Event::PriceChanged { sku, price } => encoded(
            kind,
            &PriceChanged {
                sku: sku.clone().into(),
                price: price.amount.into(),
                currency: price.currency.into(),
            },
        ),
        Event::Discontinued(sku) => encoded(kind, &ProductDiscontinued { sku: sku.clone().into() }),
    }
}

pub(super) fn decode(kind: &str, data: &str) -> Result<Event, CorruptEvent> {
    Ok(match kind {
        "ProductAdded" => {
            let ProductAdded { sku, name, price, currency, tracked } = read(data)?;
            let price = price.domain().of(currency.domain());
            Event::Added { sku: sku.domain().clone(), name, price, tracked }
        }
        "PriceChanged" => {
            let PriceChanged { sku, price, currency } = read(data)?;
            let price = price.domain().of(currency.domain());
            Event::PriceChanged { sku: sku.domain().clone(), price }
        }
        "ProductDiscontinued" => {
            let ProductDiscontinued { sku } = read(data)?;
            Event::Discontinued(sku.domain().clone())
        }
        _ => return Err(unknown(kind)),
    })
}

pub(super) fn schema(kind: &str) -> Option<Schema> {
    Some(match kind {
        "ProductAdded" => schema_of::<ProductAdded>(),
        "PriceChanged" => schema_of::<PriceChanged>(),
        "ProductDiscontinued" => schema_of::<ProductDiscontinued>(),
        _ => return None,
    })
}
