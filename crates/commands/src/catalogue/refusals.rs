//! Every way in which the business says no to a client, with the values that it tells.

use daybook_journal::Refusal;
use serde_json::{Value, json};

use super::{CUSTOMER, ORDER, PAYMENT};

/// A kind of refusal, described.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalInfo {
    /// What may be done about it.
    pub help: &'static str,
    /// One that may be met: its code is the kind's, its values have the kind's names and types.
    pub refusal: Refusal,
}

/// All kinds of refusals, in alphabetical order of their codes.
pub fn refusals() -> Vec<RefusalInfo> {
    let limit = daybook_domain::MAX_INTEGER;
    let sku = json!({ "sku": "85123A" });
    vec![
        kind(
            "amount-differs",
            "Another sum was asked for.",
            json!({
                "payment_id": PAYMENT, "expected": 1530, "expected_currency": "GBP",
                "actual": 1350, "actual_currency": "GBP"
            }),
            "Only the whole sum pays it: give another one back at the gateway and say that it was \
             not charged.",
        ),
        kind(
            "charge-not-allowed",
            "The shipping is the shop's to say.",
            json!({ "field": "shipping" }),
            "Leave `field` out; `expected_total` lets a buyer insist on what was shown.",
        ),
        kind(
            "credit-too-high",
            "Less is left of what is due.",
            json!({ "credit": 600, "limit": 510 }),
            "Credit at most `limit` for this line.",
        ),
        kind(
            "currency-differs",
            "The currency is GBP, not EUR.",
            json!({ "expected": "GBP", "actual": "EUR" }),
            "Use `expected`.",
        ),
        kind(
            "customer-not-allowed",
            "An order can't be placed for another.",
            json!({ "customer_id": CUSTOMER }),
            "Leave `customer_id` out: the order is the key's own.",
        ),
        kind(
            "gateway-payment-counted",
            "The gateway took that for another payment of the order.",
            json!({ "gateway_payment_id": "ch_3Qx7", "payment_id": PAYMENT }),
            "Look the payment up at the gateway by our payment id: one charge pays once.",
        ),
        kind(
            "gateway-payment-differs",
            "The gateway knows the payment by another id.",
            json!({ "payment_id": PAYMENT, "expected": "ch_3Qx7", "actual": "ch_3Qz9" }),
            "Look the payment up at the gateway by `expected`.",
        ),
        kind(
            "line-repeated",
            "A line is named twice.",
            json!({ "line": 1 }),
            "Name each line once, with all its units.",
        ),
        kind(
            "line-unknown",
            "The order has no such line.",
            json!({ "line": 7 }),
            "Lines are numbered from 1.",
        ),
        kind(
            "not-at-gateway",
            "What is to go back did not come through a gateway: say that it was settled elsewhere.",
            json!({ "refund": 510, "refundable": 0 }),
            "Give the money back by another way, then send `refund`: `settled_elsewhere`.",
        ),
        kind(
            "not-paid",
            "Less is paid than is due.",
            json!({ "due": 1530, "paid": 500 }),
            "Await the payment, or release the order on account.",
        ),
        kind(
            "not-tracked",
            "No stock is kept of the product.",
            sku.clone(),
            "It can be ordered without stock.",
        ),
        kind(
            "not-unresolved",
            "The payment is captured: there is nothing to resolve.",
            json!({ "payment_id": PAYMENT, "state": "captured" }),
            "Only what looking could not settle is left to a person.",
        ),
        kind(
            "nothing-to-ship",
            "Everything has been sent.",
            json!({ "order_id": ORDER, "state": "shipped" }),
            "Nothing is left of the order.",
        ),
        kind(
            "order-exists",
            "There is an order with this id already.",
            json!({ "order_id": ORDER }),
            "Bring a new id, or none.",
        ),
        kind(
            "order-unknown",
            "There is no such order.",
            json!({ "order_id": ORDER }),
            "What belongs to somebody else looks the same.",
        ),
        kind(
            "out-of-stock",
            "Not enough is in stock.",
            json!({ "missing": [{ "sku": "85123A", "wanted": 6, "available": 2 }] }),
            "Ask for at most what is available.",
        ),
        kind(
            "over-charge",
            "With it more would be paid than is due.",
            json!({ "due": 1530, "captured": 1000, "open": 500 }),
            "At most `due` − `captured` − `open` can still be paid.",
        ),
        kind(
            "payment-exists",
            "There is a payment with this id already.",
            json!({ "payment_id": PAYMENT }),
            "Bring a new id, or none.",
        ),
        kind(
            "payment-open",
            "A payment is under way; wait for its outcome.",
            json!({ "open": 1530 }),
            "Ask again once its outcome is known.",
        ),
        kind(
            "payment-unknown",
            "There is no such payment.",
            json!({ "payment_id": PAYMENT }),
            "Check the id.",
        ),
        kind(
            "price-not-allowed",
            "The price is the product's.",
            sku.clone(),
            "Leave `unit_price` out; `expected_total` lets a buyer insist on what was shown.",
        ),
        kind(
            "product-discontinued",
            "The product is not sold any more.",
            sku.clone(),
            "Nothing sells it again: add it under another code.",
        ),
        kind(
            "product-exists",
            "There is a product with this code already.",
            sku.clone(),
            "Use another code.",
        ),
        kind("product-unknown", "There is no such product.", sku, "Check the code; case matters."),
        kind(
            "refund-too-high",
            "Less is left of the payment.",
            json!({ "payment_id": PAYMENT, "amount": 1600, "limit": 1530 }),
            "Give back at most `limit`.",
        ),
        kind(
            "stock-full",
            "More would be in stock than can be counted.",
            json!({ "sku": "85123A", "on_hand": limit, "limit": limit }),
            "Correct the stock first.",
        ),
        kind(
            "too-large",
            "A sum would pass 9007199254740991.",
            json!({ "limit": limit }),
            "Order less at once.",
        ),
        kind(
            "too-many-lines",
            "The order has too many lines.",
            json!({ "lines": 2001, "limit": 2000 }),
            "Place several orders.",
        ),
        kind(
            "too-many-payments",
            "The order has had too many payments.",
            json!({ "limit": daybook_domain::order::MAX_PAYMENTS }),
            "Declined ones count too: place the order anew.",
        ),
        kind(
            "too-many-returned",
            "Fewer units of the line can come back.",
            json!({ "line": 1, "returnable": 4 }),
            "Take back at most `returnable`.",
        ),
        kind(
            "too-many-shipped",
            "Fewer units of the line are left to be sent.",
            json!({ "line": 1, "shippable": 2 }),
            "Send at most `shippable`.",
        ),
        kind(
            "total-differs",
            "The total is another than the one expected.",
            json!({ "expected": 1530, "actual": 1770 }),
            "Show the buyer `actual`, and ask again.",
        ),
        kind(
            "wrong-state",
            "The order is delivered.",
            json!({ "order_id": ORDER, "state": "delivered" }),
            "That can't be done any more, or not yet.",
        ),
    ]
}

fn kind(code: &str, detail: &str, values: Value, help: &'static str) -> RefusalInfo {
    let (code, detail) = (code.to_owned(), detail.to_owned());
    RefusalInfo { help, refusal: Refusal { code, detail, values } }
}
