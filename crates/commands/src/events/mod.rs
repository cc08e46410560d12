//! Events on the wire: how each is stored, and how what was stored is read again, for ever.

mod order;
mod payment;
mod product;
mod stock;
#[cfg(test)]
mod tests;

use daybook_domain as domain;
use daybook_journal::{CorruptEvent, Encoded};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One thing that happened in the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented in the domain")]
pub enum ShopEvent {
    Product(domain::product::Event),
    Stock(domain::stock::Event),
    Order(domain::order::Event),
    Payment(domain::payment::Event),
}

/// Names of all event types.
const TYPES: [&str; 33] = [
    "OrderCancelled",
    "OrderCredited",
    "OrderDelivered",
    "OrderExpired",
    "OrderItemsReturned",
    "OrderPaid",
    "OrderPaymentCaptured",
    "OrderPaymentClosed",
    "OrderPaymentOpened",
    "OrderPlaced",
    "OrderRefundFailed",
    "OrderRefundOpened",
    "OrderRefundSettled",
    "OrderShipped",
    "PaymentCaptured",
    "PaymentDeclined",
    "PaymentDisputed",
    "PaymentIdentified",
    "PaymentRecorded",
    "PaymentRefundFailed",
    "PaymentRefundRequested",
    "PaymentRefunded",
    "PaymentRequested",
    "PaymentUnresolved",
    "PriceChanged",
    "ProductAdded",
    "ProductDiscontinued",
    "StockAdjusted",
    "StockReceived",
    "StockReleased",
    "StockReserved",
    "StockReturned",
    "StockShipped",
];

/// Types whose current version is not their first. Older versions are lifted to it before they are
/// decoded.
const LATER_VERSIONS: [(&str, i16); 1] = [("OrderPlaced", 2)];

/// The version in which events of a type are written, from 1.
pub fn event_version(kind: &str) -> i16 {
    LATER_VERSIONS.iter().find(|(later, _)| *later == kind).map_or(1, |(_, version)| *version)
}

/// Names of all event types, in alphabetical order.
pub fn event_types() -> &'static [&'static str] {
    &TYPES
}

/// JSON Schema (2020-12) of an event type's current version; `None` for an unknown type.
pub fn event_schema(kind: &str) -> Option<Value> {
    let mut schema = order::schema(kind)
        .or_else(|| payment::schema(kind))
        .or_else(|| product::schema(kind))
        .or_else(|| stock::schema(kind))?;
    schema.insert("title".to_owned(), kind.into());
    Some(schema.to_value())
}

/// The stored form of an event.
pub(crate) fn encode(event: &ShopEvent) -> Encoded {
    match event {
        ShopEvent::Product(event) => product::encode(event),
        ShopEvent::Stock(event) => stock::encode(event),
        ShopEvent::Order(event) => order::encode(event),
        ShopEvent::Payment(event) => payment::encode(event),
    }
}

/// The event of a stored form in its type's current version.
pub(crate) fn decode(
    kind: &str,
    schema_version: i16,
    data: &str,
) -> Result<ShopEvent, CorruptEvent> {
    if schema_version != event_version(kind) {
        return Err(CorruptEvent(format!("{kind}/{schema_version} is a version not known here")));
    }
    let event = match kind {
        "PriceChanged" => product::decode(kind, data).map(ShopEvent::Product),
        _ if kind.starts_with("Product") => product::decode(kind, data).map(ShopEvent::Product),
        _ if kind.starts_with("Stock") => stock::decode(kind, data).map(ShopEvent::Stock),
        _ if kind.starts_with("Order") => order::decode(kind, data).map(ShopEvent::Order),
        _ if kind.starts_with("Payment") => payment::decode(kind, data).map(ShopEvent::Payment),
        _ => Err(unknown(kind)),
    };
    event.map_err(|error| CorruptEvent(format!("{kind}/{schema_version}: {}", error.0)))
}

fn encoded(kind: &'static str, data: &impl Serialize) -> Encoded {
    let data = serde_json::to_value(data).expect("stored forms are plain structs");
    Encoded { kind, schema_version: event_version(kind), data }
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, CorruptEvent> {
    serde_json::from_str(data).map_err(|error| CorruptEvent(error.to_string()))
}

fn unknown(kind: &str) -> CorruptEvent {
    CorruptEvent(format!("{kind} is a type not known here"))
}

fn schema_of<T: JsonSchema>() -> Schema {
    // As they are written: nothing is ever left out.
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
    });
    settings.into_generator().into_root_schema_for::<T>()
}
