//! Every way of saying no is one that clients were told of, and every one they were told of exists.

use std::{collections::BTreeSet, sync::LazyLock};

use super::*;
use crate::{CommandInfo, catalogue};

static CATALOGUE: LazyLock<Vec<CommandInfo>> = LazyLock::new(catalogue);

fn names_of(values: &Value) -> BTreeSet<&str> {
    values.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Fails unless the command's description lists such a refusal, with values of the same names.
pub(super) fn is_listed(command: &str, refusal: &Refusal) {
    // Roles are checked before, and the backend's own commands are not described.
    let Some(info) = CATALOGUE.iter().find(|info| info.name == command) else { return };
    if refusal.code == "not-allowed" {
        return;
    }
    let listed = info.refusals.iter().find(|listed| listed.code == refusal.code);
    let listed = listed.unwrap_or_else(|| panic!("{command} does not list {refusal:?}"));
    assert_eq!(names_of(&refusal.values), names_of(&listed.values), "{command} {}", refusal.code);
}

/// A shop, and which refusals were met in it.
struct Counter {
    shelf: Shelf,
    met: BTreeSet<(String, String)>,
}

impl Counter {
    #[track_caller]
    fn no(&mut self, authority: Authority, name: &str, body: Value, code: &str) {
        assert_eq!(self.shelf.refuses(authority, name, body).0, code);
        self.met.insert((name.to_owned(), code.to_owned()));
    }

    #[track_caller]
    fn shop_says_no(&mut self, name: &str, body: Value, code: &str) {
        self.no(Authority::Operator, name, body, code);
    }

    fn does(&mut self, name: &str, body: Value) -> Value {
        self.shelf.does(Authority::Operator, name, body).result
    }
}

const MOST: i64 = 9_007_199_254_740_991;

#[test]
fn every_refusal_that_is_listed_can_be_met() {
    let mut counter = Counter { shelf: Shelf::stocked(), met: BTreeSet::new() };
    products(&mut counter);
    placing(&mut counter);
    for sku in ["CUP", "PLATE"] {
        counter.does("ReceiveStock", json!({ "sku": sku, "quantity": 100 }));
    }
    goods(&mut counter);
    paying(&mut counter);
    giving_back(&mut counter);
    let listed = CATALOGUE.iter().flat_map(|info| {
        info.refusals.iter().map(|refusal| (info.name.to_owned(), refusal.code.clone()))
    });
    assert_eq!(counter.met, listed.collect());
}

fn products(counter: &mut Counter) {
    let add = |sku: &str| json!({ "sku": sku, "name": sku, "price": 7, "currency": "GBP" });
    let price = |sku: &str, currency| json!({ "sku": sku, "price": 1, "currency": currency });
    let adjust = |sku: &str, quantity| json!({ "sku": sku, "quantity": quantity, "reason": "" });
    let receive = |sku: &str, quantity| json!({ "sku": sku, "quantity": quantity });
    counter.does("AddProduct", add("OLD"));
    counter.does("DiscontinueProduct", json!({ "sku": "OLD" }));
    counter.shop_says_no("AddProduct", add("CUP"), "product-exists");
    counter.shop_says_no("ChangePrice", price("NONE", "GBP"), "product-unknown");
    counter.shop_says_no("ChangePrice", price("OLD", "GBP"), "product-discontinued");
    counter.shop_says_no("ChangePrice", price("CUP", "EUR"), "currency-differs");
    for (sku, code) in [("NONE", "product-unknown"), ("OLD", "product-discontinued")] {
        counter.shop_says_no("DiscontinueProduct", json!({ "sku": sku }), code);
    }
    for (sku, quantity, code) in
        [("NONE", 1, "product-unknown"), ("POST", 1, "not-tracked"), ("CUP", MOST, "stock-full")]
    {
        counter.shop_says_no("ReceiveStock", receive(sku, quantity), code);
        counter.shop_says_no("AdjustStock", adjust(sku, quantity), code);
    }
    counter.shop_says_no("AdjustStock", adjust("CUP", -11), "out-of-stock");
}

fn placing(counter: &mut Counter) {
    let of = |sku: &str, quantity: i64| json!({ "currency": "GBP", "lines": [{ "sku": sku, "quantity": quantity }] });
    let with = |field: &str, value: Value| {
        let mut body = of("CUP", 1);
        body[field] = value;
        body
    };
    let known = counter.shelf.ordered();
    let lines = vec![json!({ "sku": "POST", "quantity": 1 }); 2_001];
    let priced = json!([{ "sku": "CUP", "quantity": 1, "unit_price": 1 }]);
    for (body, code) in [
        (of("CUP", 11), "out-of-stock"),
        (with("expected_total", json!(1)), "total-differs"),
        (of("NONE", 1), "product-unknown"),
        (of("OLD", 1), "product-discontinued"),
        (with("currency", json!("EUR")), "currency-differs"),
        (with("lines", priced), "price-not-allowed"),
        (with("tax", json!(1)), "charge-not-allowed"),
        (with("customer_id", json!(known)), "customer-not-allowed"),
        (with("order_id", json!(known)), "order-exists"),
        (with("lines", json!(lines)), "too-many-lines"),
        (of("POST", MOST), "too-large"),
    ] {
        counter.no(ANNA, "PlaceOrder", body, code);
    }
}

fn goods(counter: &mut Counter) {
    let about = |order: Uuid| json!({ "order_id": order });
    let lines = |order: Uuid, lines: Value| json!({ "order_id": order, "lines": lines });
    let why = |order: Uuid| json!({ "order_id": order, "reason": "no" });
    let line = |line: u32, quantity: i64| json!({ "line": line, "quantity": quantity });
    let nowhere = Uuid::from_u128(404);
    let unknown = "order-unknown";
    counter.no(ANNA, "CancelOrder", why(nowhere), unknown);
    counter.shop_says_no("ShipOrder", about(nowhere), unknown);
    counter.shop_says_no("DeliverOrder", about(nowhere), unknown);
    counter.shop_says_no("ReturnItems", lines(nowhere, json!([line(1, 1)])), unknown);

    let open = counter.shelf.ordered();
    let payment = counter.shelf.charged(open, 1050);
    counter.no(ANNA, "CancelOrder", why(open), "payment-open");
    counter.shop_says_no("ShipOrder", about(open), "not-paid");
    counter.shop_says_no("DeliverOrder", about(open), "wrong-state");
    counter.shelf.outcome(payment, declined()).unwrap();
    counter.shelf.does(ANNA, "CancelOrder", why(open));
    counter.no(ANNA, "CancelOrder", why(open), "wrong-state");
    counter.shop_says_no("ShipOrder", about(open), "wrong-state");
    counter.shop_says_no("ReturnItems", lines(open, json!([line(1, 1)])), "wrong-state");

    let sent = counter.shelf.ordered();
    counter.shelf.paid(sent, 1050);
    for (named, code) in [
        (json!([line(9, 1)]), "line-unknown"),
        (json!([line(1, 1), line(1, 1)]), "line-repeated"),
        (json!([line(2, 3)]), "too-many-shipped"),
    ] {
        counter.shop_says_no("ShipOrder", lines(sent, named), code);
    }
    counter.does("ShipOrder", about(sent));
    counter.shop_says_no("ShipOrder", about(sent), "nothing-to-ship");
    let dear = json!([{ "line": 2, "quantity": 1, "credit": 1051 }]);
    for (named, code) in [
        (json!([line(9, 1)]), "line-unknown"),
        (json!([line(1, 1), line(1, 1)]), "line-repeated"),
        (json!([line(2, 3)]), "too-many-returned"),
        (dear, "credit-too-high"),
    ] {
        counter.shop_says_no("ReturnItems", lines(sent, named), code);
    }
    let (on_hand, _) = counter.shelf.levels("CUP");
    counter.does("ReceiveStock", json!({ "sku": "CUP", "quantity": MOST - on_hand }));
    counter.shop_says_no("ReturnItems", lines(sent, json!([line(2, 1)])), "stock-full");
    let reason = "counted again";
    let fewer = json!({ "sku": "CUP", "quantity": on_hand - MOST, "reason": reason });
    counter.does("AdjustStock", fewer);

    let cash = counter.shelf.ordered();
    let body = json!({ "order_id": cash, "amount": 1050, "currency": "GBP", "method": "cash" });
    counter.does("RecordPayment", body);
    counter.does("ShipOrder", about(cash));
    counter.shop_says_no("ReturnItems", lines(cash, json!([line(2, 1)])), "not-at-gateway");
}

fn paying(counter: &mut Counter) {
    let ended = counter.shelf.ordered();
    counter.shelf.does(ANNA, "CancelOrder", json!({ "order_id": ended, "reason": "no" }));
    let order = counter.shelf.ordered();
    let known = counter.shelf.charged(order, 50);
    let tried = counter.shelf.ordered();
    for _ in 0..200 {
        let payment = counter.shelf.charged(tried, 1);
        counter.shelf.outcome(payment, declined()).unwrap();
    }
    for name in ["ChargePayment", "RecordPayment"] {
        let pay = |order: Uuid, amount: i64| {
            let mut body = json!({ "order_id": order, "amount": amount, "currency": "GBP" });
            let (field, value) = match name {
                "ChargePayment" => ("gateway_token", "tok_visa"),
                _ => ("method", "cash"),
            };
            body[field] = json!(value);
            body
        };
        let (mut foreign, mut again) = (pay(order, 1), pay(order, 1));
        foreign["currency"] = json!("EUR");
        again["payment_id"] = json!(known);
        for (body, code) in [
            (pay(Uuid::from_u128(404), 1), "order-unknown"),
            (pay(ended, 1), "wrong-state"),
            (pay(order, 1001), "over-charge"),
            (foreign, "currency-differs"),
            (again, "payment-exists"),
            (pay(tried, 1), "too-many-payments"),
        ] {
            counter.shop_says_no(name, body, code);
        }
    }
}

fn giving_back(counter: &mut Counter) {
    let order = counter.shelf.ordered();
    let cash = json!({ "order_id": order, "amount": 50, "currency": "GBP", "method": "cash" });
    let cash = id(&counter.does("RecordPayment", cash)["payment_id"]);
    let card = counter.shelf.paid(order, 1000);
    let refund = |payment: Uuid, amount: i64, currency: &str| {
        json!({
            "payment_id": payment, "amount": amount, "currency": currency, "reason": "late"
        })
    };
    for (body, code) in [
        (refund(Uuid::from_u128(404), 1, "GBP"), "payment-unknown"),
        (refund(card, 1, "EUR"), "currency-differs"),
        (refund(card, 1001, "GBP"), "refund-too-high"),
        (refund(cash, 1, "GBP"), "not-at-gateway"),
    ] {
        counter.shop_says_no("RefundPayment", body, code);
    }

    let order = counter.shelf.ordered();
    let payment_id = counter.shelf.charged(order, 1000);
    let gateway_payment_id = "ch_1".to_owned();
    let identify = wire::RecordGatewayPayment { payment_id, gateway_payment_id };
    let identify = Command::RecordGatewayPayment(identify);
    counter.shelf.sends(Authority::Backend, identify).unwrap();
    let found = |payment: Uuid, gateway_id: &str, amount: i64| {
        json!({ "payment_id": payment, "outcome": { "captured": {
            "gateway_payment_id": gateway_id, "amount": amount, "currency": "GBP"
        } } })
    };
    counter.shop_says_no("ResolvePayment", found(payment_id, "ch_1", 1000), "not-unresolved");
    let other = counter.shelf.charged(order, 50);
    for payment in [payment_id, other] {
        let doubt = wire::PaymentOutcome::Unresolved { reason: "?".into() };
        counter.shelf.outcome(payment, doubt).unwrap();
    }
    counter.shop_says_no("ResolvePayment", found(other, "ch_1", 50), "gateway-payment-counted");
    for (body, code) in [
        (found(Uuid::from_u128(404), "ch_1", 1000), "payment-unknown"),
        (found(payment_id, "ch_1", 999), "amount-differs"),
        (found(payment_id, "ch_2", 1000), "gateway-payment-differs"),
    ] {
        counter.shop_says_no("ResolvePayment", body, code);
    }
}
