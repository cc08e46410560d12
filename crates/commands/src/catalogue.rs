//! The commands that clients may send, described for OpenAPI.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::wire;

/// A command, described.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandInfo {
    /// Its name, as in the path it is posted to.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Roles that may send it, as keys carry them.
    pub roles: &'static [&'static str],
    /// JSON Schema (2020-12) of its body.
    pub schema: Value,
    /// A body that can be read.
    pub example: Value,
}

const SHOP: &[&str] = &["operator"];
const BUYERS: &[&str] = &["customer", "partner", "operator"];

const ORDER: &str = "0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10";
const PAYMENT: &str = "0199c2a4-6d10-7b52-9c0e-58a6c2e1d4f7";

/// All commands that clients may send.
pub fn catalogue() -> Vec<CommandInfo> {
    vec![
        info::<wire::AddProduct>(
            "AddProduct",
            "Put a product into the catalogue",
            SHOP,
            json!({
                "sku": "85123A", "name": "White hanging heart T-light holder",
                "price": 255, "currency": "GBP", "tracked": true
            }),
        ),
        info::<wire::ChangePrice>(
            "ChangePrice",
            "Give a product another price",
            SHOP,
            json!({ "sku": "85123A", "price": 295, "currency": "GBP" }),
        ),
        info::<wire::ReceiveStock>(
            "ReceiveStock",
            "Take goods into stock",
            SHOP,
            json!({ "sku": "85123A", "quantity": 100 }),
        ),
        info::<wire::AdjustStock>(
            "AdjustStock",
            "Correct the stock of a product",
            SHOP,
            json!({ "sku": "85123A", "quantity": -2, "reason": "damaged" }),
        ),
        info::<wire::PlaceOrder>(
            "PlaceOrder",
            "Place an order and reserve its stock",
            BUYERS,
            json!({
                "currency": "GBP", "country": "United Kingdom",
                "lines": [{ "sku": "85123A", "quantity": 6 }], "expected_total": 1530
            }),
        ),
        info::<wire::ChargePayment>(
            "ChargePayment",
            "Charge a card for an order",
            BUYERS,
            json!({
                "order_id": ORDER, "amount": 1530, "currency": "GBP",
                "gateway_token": "tok_visa"
            }),
        ),
        info::<wire::RecordPayment>(
            "RecordPayment",
            "Record a payment that was settled elsewhere",
            SHOP,
            json!({
                "order_id": ORDER, "amount": 1530, "currency": "GBP",
                "method": "bank transfer", "reference": "2026-11-22/17"
            }),
        ),
        info::<wire::CancelOrder>(
            "CancelOrder",
            "Call an order off before anything of it was sent",
            BUYERS,
            json!({ "order_id": ORDER, "reason": "ordered twice" }),
        ),
        info::<wire::ShipOrder>(
            "ShipOrder",
            "Send an order or a part of it",
            SHOP,
            json!({ "order_id": ORDER, "lines": [{ "line": 1, "quantity": 6 }] }),
        ),
        info::<wire::DeliverOrder>(
            "DeliverOrder",
            "Note that an order arrived",
            SHOP,
            json!({ "order_id": ORDER }),
        ),
        info::<wire::ReturnItems>(
            "ReturnItems",
            "Take goods back, credit them and give their money back",
            SHOP,
            json!({
                "order_id": ORDER, "lines": [{ "line": 1, "quantity": 2 }], "refund": "gateway"
            }),
        ),
        info::<wire::RefundPayment>(
            "RefundPayment",
            "Give back part of a payment out of goodwill",
            SHOP,
            json!({
                "payment_id": PAYMENT, "amount": 200, "currency": "GBP",
                "reason": "late delivery"
            }),
        ),
    ]
}

fn info<T: JsonSchema>(
    name: &'static str,
    title: &'static str,
    roles: &'static [&'static str],
    example: Value,
) -> CommandInfo {
    // Complete in itself, so that it can stand anywhere in an OpenAPI document.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    CommandInfo { name, title, roles, schema, example }
}
