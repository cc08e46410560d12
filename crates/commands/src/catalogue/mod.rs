//! The commands that clients may send, described for OpenAPI: what each takes, what it answers, and
//! every way in which the business may say no to it.

mod refusals;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;

use daybook_journal::Refusal;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

pub use self::refusals::{RefusalInfo, refusals};
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
    /// Bodies that can be read, the usual one first.
    pub examples: Vec<Example>,
    /// What is answered to the first of them.
    pub accepted: Answer,
    /// Every refusal it may meet, with an example.
    pub refusals: Vec<Refusal>,
}

/// A body, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What is asked with it, in a few words.
    pub title: &'static str,
    /// The body.
    pub body: Value,
}

/// What an accepted command says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Streams that it appends to, with their versions after it.
    pub streams: Vec<(String, i32)>,
    /// What the command has to say.
    pub result: Value,
    /// Whether an outcome is still to come.
    pub open: bool,
}

const SHOP: &[&str] = &["operator"];
const BUYERS: &[&str] = &["customer", "partner", "operator"];

const ORDER: &str = "0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10";
const PAYMENT: &str = "0199c2a4-6d10-7b52-9c0e-58a6c2e1d4f7";
const REFUND: &str = "5f0c1e0a-3b7d-5c55-8d0e-6f3c9a1b2d47";
const CUSTOMER: &str = "0199c29f-11aa-7c3d-b2e4-9f8e7d6c5b4a";

/// All commands that clients may send.
pub fn catalogue() -> Vec<CommandInfo> {
    let mut all = products();
    all.extend(orders());
    all.extend(payments());
    all
}

fn products() -> Vec<CommandInfo> {
    vec![
        info::<wire::AddProduct>("AddProduct", "Put a product into the catalogue", SHOP)
            .example(
                "A product with stock",
                json!({
                    "sku": "85123A", "name": "White hanging heart T-light holder",
                    "price": 255, "currency": "GBP", "tracked": true
                }),
            )
            .example(
                "A service, of which no stock is kept",
                json!({
                    "sku": "POST", "name": "Postage", "price": 395, "currency": "GBP",
                    "tracked": false
                }),
            )
            .answers(&["product-85123A"], json!({}))
            .refused(&["product-exists"]),
        info::<wire::ChangePrice>("ChangePrice", "Give a product another price", SHOP)
            .example("", json!({ "sku": "85123A", "price": 295, "currency": "GBP" }))
            .answers(&["product-85123A"], json!({}))
            .refused(&["product-unknown", "product-discontinued", "currency-differs"]),
        info::<wire::DiscontinueProduct>("DiscontinueProduct", "Sell a product no more", SHOP)
            .example("", json!({ "sku": "85123A" }))
            .answers(&["product-85123A"], json!({}))
            .refused(&["product-unknown", "product-discontinued"]),
        info::<wire::ReceiveStock>("ReceiveStock", "Take goods into stock", SHOP)
            .example("", json!({ "sku": "85123A", "quantity": 100 }))
            .answers(&["stock-85123A"], json!({}))
            .refused(&["product-unknown", "not-tracked", "stock-full"]),
        info::<wire::AdjustStock>("AdjustStock", "Correct the stock of a product", SHOP)
            .example(
                "Fewer than was thought",
                json!({ "sku": "85123A", "quantity": -2, "reason": "damaged" }),
            )
            .example(
                "More than was thought",
                json!({ "sku": "85123A", "quantity": 3, "reason": "" }),
            )
            .answers(&["stock-85123A"], json!({}))
            .refused(&["product-unknown", "not-tracked", "stock-full", "out-of-stock"]),
    ]
}

fn orders() -> Vec<CommandInfo> {
    let order = format!("order-{ORDER}");
    let (order, payment) = (order.as_str(), format!("payment-{PAYMENT}"));
    let refunds = json!([{ "refund_id": REFUND, "payment_id": PAYMENT, "amount": 510 }]);
    vec![
        info::<wire::PlaceOrder>("PlaceOrder", "Place an order and reserve its stock", BUYERS)
            .example(
                "At the shop's prices",
                json!({
                    "currency": "GBP", "country": "United Kingdom",
                    "lines": [{ "sku": "85123A", "quantity": 6 }], "expected_total": 1530
                }),
            )
            .example(
                "By an operator, who names price, shipping and tax",
                json!({
                    "order_id": ORDER, "customer_id": CUSTOMER, "currency": "GBP",
                    "reference": "536365",
                    "lines": [{ "sku": "85123A", "quantity": 6, "unit_price": 240 }],
                    "shipping": 395, "tax": 288
                }),
            )
            .answers(
                &[order, "stock-85123A"],
                json!({
                    "order_id": ORDER, "shipping": 0, "tax": 0, "total": 1530, "currency": "GBP",
                    "expires_at": "2026-11-22T12:15:00.000000Z"
                }),
            )
            .refused(&[
                "out-of-stock",
                "total-differs",
                "product-unknown",
                "product-discontinued",
                "currency-differs",
                "price-not-allowed",
                "charge-not-allowed",
                "customer-not-allowed",
                "order-exists",
                "too-many-lines",
                "too-large",
            ]),
        info::<wire::CancelOrder>(
            "CancelOrder",
            "Call an order off before anything of it was sent",
            BUYERS,
        )
        .example("", json!({ "order_id": ORDER, "reason": "ordered twice" }))
        .answers(&[order, "stock-85123A", &payment], json!({}))
        .refused(&["order-unknown", "wrong-state", "payment-open"]),
        info::<wire::ShipOrder>("ShipOrder", "Send an order or a part of it", SHOP)
            .example(
                "A part",
                json!({ "order_id": ORDER, "lines": [{ "line": 1, "quantity": 6 }] }),
            )
            .example("All that is left", json!({ "order_id": ORDER }))
            .example(
                "Released on account: before it is paid",
                json!({ "order_id": ORDER, "on_account": true }),
            )
            .answers(&[order, "stock-85123A"], json!({ "shipment": 1 }))
            .refused(&[
                "order-unknown",
                "wrong-state",
                "not-paid",
                "nothing-to-ship",
                "line-unknown",
                "line-repeated",
                "too-many-shipped",
            ]),
        info::<wire::DeliverOrder>("DeliverOrder", "Note that an order arrived", SHOP)
            .example("", json!({ "order_id": ORDER }))
            .answers(&[order], json!({}))
            .refused(&["order-unknown", "wrong-state"]),
        info::<wire::ReturnItems>(
            "ReturnItems",
            "Take goods back, credit them and give their money back",
            SHOP,
        )
        .example(
            "At their price, through the gateway",
            json!({ "order_id": ORDER, "lines": [{ "line": 1, "quantity": 2 }] }),
        )
        .example(
            "At less than their price, given back in cash",
            json!({
                "order_id": ORDER, "lines": [{ "line": 1, "quantity": 2, "credit": 400 }],
                "refund": "settled_elsewhere"
            }),
        )
        .answers(&[order, "stock-85123A", &payment], json!({ "credit": 510, "refunds": refunds }))
        .refused(&[
            "order-unknown",
            "wrong-state",
            "line-unknown",
            "line-repeated",
            "too-many-returned",
            "credit-too-high",
            "not-at-gateway",
            "stock-full",
        ]),
    ]
}

fn payments() -> Vec<CommandInfo> {
    let (order, payment) = (format!("order-{ORDER}"), format!("payment-{PAYMENT}"));
    let (order, payment) = (order.as_str(), payment.as_str());
    let new_payment = &[
        "order-unknown",
        "wrong-state",
        "over-charge",
        "currency-differs",
        "payment-exists",
        "too-many-payments",
    ];
    vec![
        info::<wire::ChargePayment>("ChargePayment", "Charge a card for an order", BUYERS)
            .example(
                "All that is due",
                json!({
                    "order_id": ORDER, "amount": 1530, "currency": "GBP",
                    "gateway_token": "tok_visa"
                }),
            )
            .example(
                "A part, under an id of the client's",
                json!({
                    "payment_id": PAYMENT, "order_id": ORDER, "amount": 500, "currency": "GBP",
                    "gateway_token": "tok_visa"
                }),
            )
            .answers(
                &[payment, order],
                json!({ "payment_id": PAYMENT, "order_id": ORDER, "status": "open" }),
            )
            .open()
            .refused(new_payment),
        info::<wire::RecordPayment>(
            "RecordPayment",
            "Record a payment that was settled elsewhere",
            SHOP,
        )
        .example(
            "",
            json!({
                "order_id": ORDER, "amount": 1530, "currency": "GBP",
                "method": "bank transfer", "reference": "2026-11-22/17"
            }),
        )
        .answers(&[payment, order], json!({ "payment_id": PAYMENT }))
        .refused(new_payment),
        info::<wire::RefundPayment>(
            "RefundPayment",
            "Give back part of a payment out of goodwill",
            SHOP,
        )
        .example(
            "",
            json!({
                "payment_id": PAYMENT, "amount": 200, "currency": "GBP",
                "reason": "late delivery", "refund": "gateway"
            }),
        )
        .answers(&[order, payment], json!({}))
        .refused(&[
            "payment-unknown",
            "currency-differs",
            "refund-too-high",
            "not-at-gateway",
        ]),
        info::<wire::ResolvePayment>(
            "ResolvePayment",
            "Settle a payment whose outcome nobody knew, by what a person found out",
            SHOP,
        )
        .example(
            "The gateway's books show that it was taken",
            json!({
                "payment_id": PAYMENT,
                "outcome": { "captured": {
                    "gateway_payment_id": "ch_3Qx7", "amount": 1530, "currency": "GBP"
                } }
            }),
        )
        .example(
            "The gateway's books show nothing",
            json!({
                "payment_id": PAYMENT,
                "outcome": { "not_charged": { "reason": "not in the settlement of 22 November" } }
            }),
        )
        .answers(&[payment, order], json!({}))
        .refused(&[
            "payment-unknown",
            "not-unresolved",
            "amount-differs",
            "gateway-payment-differs",
            "gateway-payment-counted",
        ]),
    ]
}

fn info<T: JsonSchema>(
    name: &'static str,
    title: &'static str,
    roles: &'static [&'static str],
) -> CommandInfo {
    // Complete in itself, so that it can stand anywhere in an OpenAPI document.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let accepted = Answer { streams: vec![], result: json!({}), open: false };
    CommandInfo { name, title, roles, schema, examples: vec![], accepted, refusals: vec![] }
}

impl CommandInfo {
    /// One more body. Without a title of its own, it has the command's.
    fn example(mut self, title: &'static str, body: Value) -> Self {
        let title = if title.is_empty() { self.title } else { title };
        self.examples.push(Example { title, body });
        self
    }

    fn answers(mut self, streams: &[&str], result: Value) -> Self {
        let streams = (2..).zip(streams).map(|(version, stream)| ((*stream).to_owned(), version));
        self.accepted = Answer { streams: streams.collect(), result, open: false };
        self
    }

    fn open(mut self) -> Self {
        self.accepted.open = true;
        self
    }

    fn refused(mut self, codes: &[&str]) -> Self {
        let known = refusals();
        let example = |code: &&str| {
            let info = known.iter().find(|info| info.refusal.code == *code);
            info.expect("every code stands in the list of refusals").refusal.clone()
        };
        self.refusals = codes.iter().map(example).collect();
        self
    }
}
