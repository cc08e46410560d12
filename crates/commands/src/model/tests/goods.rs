//! Catalogue and stock, sending, taking back, calling off.

use super::*;

fn ship(order: Uuid) -> Value {
    json!({ "order_id": order })
}

#[test]
fn catalogue_and_stock_keep_to_their_rules() {
    let mut shelf = Shelf::stocked();
    let operator = Authority::Operator;
    let add = json!({ "sku": "CUP", "name": "x", "price": 1, "currency": "GBP" });
    assert_eq!(
        shelf.refuses(operator, "AddProduct", add),
        ("product-exists".to_owned(), json!({ "sku": "CUP" }))
    );
    let change = |currency: &str| json!({ "sku": "CUP", "price": 5, "currency": currency });
    assert_eq!(shelf.refuses(operator, "ChangePrice", change("EUR")).0, "currency-differs");
    assert_eq!(shelf.does(operator, "ChangePrice", change("GBP")).kinds, ["PriceChanged"]);
    let receive = |sku: &str| json!({ "sku": sku, "quantity": 1 });
    assert_eq!(shelf.refuses(operator, "ReceiveStock", receive("SPOON")).0, "product-unknown");
    assert_eq!(shelf.refuses(operator, "ReceiveStock", receive("POST")).0, "not-tracked");
    let adjust = |units: i64| json!({ "sku": "CUP", "quantity": units, "reason": "" });
    assert_eq!(
        shelf.refuses(operator, "AdjustStock", adjust(-11)).1["missing"][0]["available"],
        10
    );
    assert_eq!(shelf.does(operator, "AdjustStock", adjust(-10)).kinds, ["StockAdjusted"]);
    assert_eq!(shelf.levels("CUP"), (0, 0));
}

#[test]
fn an_order_leaves_with_its_stock() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let (code, values) = shelf.refuses(Authority::Operator, "ShipOrder", ship(order_id));
    assert_eq!((code.as_str(), values), ("not-paid", json!({ "due": 1050, "paid": 0 })));
    shelf.paid(order_id, 1050);
    let part = json!({
        "order_id": order_id,
        "lines": [{ "line": 4, "quantity": 1 }, { "line": 1, "quantity": 2 }]
    });
    let done = shelf.does(Authority::Operator, "ShipOrder", part);
    assert_eq!(done.kinds, ["OrderShipped", "StockShipped"]);
    assert_eq!((&done.result, &done.data[1]["quantity"]), (&json!({ "shipment": 1 }), &json!(3)));
    let done = shelf.does(Authority::Operator, "ShipOrder", ship(order_id));
    assert_eq!(done.kinds, ["OrderShipped", "StockShipped", "StockShipped"]);
    assert_eq!(done.result, json!({ "shipment": 2 }));
    assert_eq!(done.data[0]["complete"], true);
    assert_eq!((shelf.levels("CUP"), shelf.levels("PLATE")), ((8, 0), (6, 0)));
    assert_eq!(
        shelf.refuses(Authority::Operator, "ShipOrder", ship(order_id)).0,
        "nothing-to-ship"
    );
    assert_eq!(
        shelf.does(Authority::Operator, "DeliverOrder", ship(order_id)).kinds,
        ["OrderDelivered"]
    );
}

#[test]
fn an_operator_may_send_on_account() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let body = json!({ "order_id": order_id, "on_account": true });
    shelf.does(Authority::Operator, "ShipOrder", body);
    assert_eq!(shelf.levels("CUP"), (8, 0));
}

fn returned(order: Uuid, lines: &Value, refund: &str) -> Value {
    json!({ "order_id": order, "lines": lines, "refund": refund })
}

#[test]
fn what_comes_back_is_restocked_and_its_money_asked_back() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.paid(order_id, 1050);
    shelf.does(Authority::Operator, "ShipOrder", ship(order_id));
    let lines = json!([
        { "line": 2, "quantity": 1 }, { "line": 1, "quantity": 2, "credit": 150 },
        { "line": 3, "quantity": 1 }
    ]);
    let done =
        shelf.does(Authority::Operator, "ReturnItems", returned(order_id, &lines, "gateway"));
    assert_eq!(
        done.kinds,
        [
            "OrderItemsReturned",
            "StockReturned",
            "StockReturned",
            "PaymentRefundRequested",
            "OrderRefundOpened"
        ]
    );
    assert_eq!(done.result["credit"], 500);
    assert_eq!(done.result["refunds"][0]["amount"], 500);
    assert_eq!(id(&done.result["refunds"][0]["payment_id"]), payment);
    assert_eq!((shelf.levels("CUP"), shelf.levels("PLATE")), ((9, 0), (8, 0)));
    let [job] = &done.jobs[..] else { panic!("one job, not {:?}", done.jobs) };
    assert_eq!(job.kind, jobs::REFUND_PAYMENT);
    let payload: jobs::RefundPayment = serde_json::from_value(job.payload.clone()).unwrap();
    assert_eq!((payload.payment_id, payload.amount.get()), (payment, 500));
    assert_eq!(payload.refund_id, id(&done.result["refunds"][0]["refund_id"]));
}

#[test]
fn history_is_imported_without_a_job() {
    let mut shelf = Shelf::stocked();
    let import = Authority::Import;
    let mut body = order();
    for line in body["lines"].as_array_mut().unwrap() {
        line["unit_price"] = json!(10);
    }
    let order_id = id(&shelf.does(import, "PlaceOrder", body).result["order_id"]);
    let pay = json!({
        "order_id": order_id, "amount": 70, "currency": "GBP", "method": "uci-retail"
    });
    let done = shelf.does(import, "RecordPayment", pay);
    assert_eq!(done.kinds, ["PaymentRecorded", "OrderPaymentCaptured", "OrderPaid"]);
    shelf.does(import, "ShipOrder", ship(order_id));
    let lines = json!([{ "line": 1, "quantity": 3, "credit": 25 }]);
    let done = shelf.does(import, "ReturnItems", returned(order_id, &lines, "settled_elsewhere"));
    assert_eq!(
        done.kinds,
        [
            "OrderItemsReturned",
            "StockReturned",
            "PaymentRefunded",
            "OrderRefundOpened",
            "OrderRefundSettled"
        ]
    );
    assert_eq!(done.data[2]["settled_elsewhere"], true);
    assert_eq!(done.result["refunds"][0]["amount"], 25);
    // A return for nothing gives nothing back.
    let lines = json!([{ "line": 2, "quantity": 1, "credit": 0 }]);
    let done = shelf.does(import, "ReturnItems", returned(order_id, &lines, "settled_elsewhere"));
    assert_eq!(done.kinds, ["OrderItemsReturned", "StockReturned"]);
    assert!(shelf.jobs.is_empty());
    // The gateway never had that money.
    let lines = json!([{ "line": 2, "quantity": 1 }]);
    let refused =
        shelf.refuses(Authority::Operator, "ReturnItems", returned(order_id, &lines, "gateway"));
    assert_eq!(refused, ("not-at-gateway".to_owned(), json!({ "refund": 10, "refundable": 0 })));
}

#[test]
fn a_cancelled_order_frees_its_stock_and_gives_back_its_money() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.charged(order_id, 1050);
    let body = json!({ "order_id": order_id, "reason": "ordered twice" });
    let refused = shelf.refuses(ANNA, "CancelOrder", body.clone());
    assert_eq!(refused, ("payment-open".to_owned(), json!({ "open": 1050 })));
    shelf.outcome(payment, captured(1050)).unwrap();
    let done = shelf.does(ANNA, "CancelOrder", body.clone());
    assert_eq!(
        done.kinds,
        [
            "OrderCancelled",
            "StockReleased",
            "StockReleased",
            "PaymentRefundRequested",
            "OrderRefundOpened"
        ]
    );
    assert_eq!(done.data[0]["credit"], 1050);
    assert_eq!(done.data[3]["reason"], "cancelled");
    assert_eq!((shelf.levels("CUP"), shelf.levels("PLATE")), ((10, 0), (10, 0)));
    assert_eq!(
        shelf.refuses(ANNA, "CancelOrder", body),
        ("wrong-state".to_owned(), json!({ "order_id": order_id, "state": "cancelled" }))
    );
}

#[test]
fn what_no_gateway_can_give_back_is_owed_and_no_job() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let pay = json!({ "order_id": order_id, "amount": 50, "currency": "GBP", "method": "cash" });
    let done = shelf.does(Authority::Operator, "RecordPayment", pay);
    // It was not enough, so the order goes on waiting, from now.
    assert_eq!(done.kinds, ["PaymentRecorded", "OrderPaymentCaptured"]);
    assert_eq!(done.jobs[0].kind, jobs::EXPIRE_ORDER);
    let payment = id(&done.result["payment_id"]);
    let done = shelf.does(ANNA, "CancelOrder", json!({ "order_id": order_id, "reason": "no" }));
    assert_eq!(done.kinds[3..], ["PaymentRefundFailed", "OrderRefundOpened", "OrderRefundFailed"]);
    assert!(done.jobs.is_empty());
    let body = json!({
        "payment_id": payment, "amount": 50, "currency": "GBP", "reason": "owed",
        "refund": "settled_elsewhere"
    });
    let done = shelf.does(Authority::Operator, "RefundPayment", body);
    assert_eq!(done.kinds, ["PaymentRefunded", "OrderRefundOpened", "OrderRefundSettled"]);
}

#[test]
fn goodwill_is_credited_and_asked_back() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.paid(order_id, 1050);
    let body = |payment: Uuid, amount: i64| json!({ "payment_id": payment, "amount": amount, "currency": "GBP", "reason": "late" });
    let done = shelf.does(Authority::Operator, "RefundPayment", body(payment, 200));
    assert_eq!(done.kinds, ["OrderCredited", "PaymentRefundRequested", "OrderRefundOpened"]);
    assert_eq!(done.data[0]["credit"], 200);
    assert_eq!(done.data[1]["reason"], "late");
    assert_eq!(
        shelf.refuses(Authority::Operator, "RefundPayment", body(payment, 851)),
        (
            "refund-too-high".to_owned(),
            json!({ "payment_id": payment, "amount": 851, "limit": 850 })
        )
    );
    let nowhere = Uuid::from_u128(404);
    assert_eq!(
        shelf.refuses(Authority::Operator, "RefundPayment", body(nowhere, 1)).0,
        "payment-unknown"
    );
}

#[test]
fn an_order_of_two_thousand_lines_goes_through() {
    let mut shelf = Shelf::new();
    let import = Authority::Import;
    for n in 0..2_000 {
        let sku = format!("S{n}");
        let add = json!({ "sku": sku, "name": "x", "price": 1, "currency": "GBP" });
        shelf.does(import, "AddProduct", add);
        shelf.does(import, "ReceiveStock", json!({ "sku": sku, "quantity": 2 }));
    }
    let lines: Vec<_> =
        (0..2_000).map(|n| json!({ "sku": format!("S{n}"), "quantity": 2 })).collect();
    let done = shelf.does(import, "PlaceOrder", json!({ "currency": "GBP", "lines": lines }));
    assert_eq!(done.kinds.len(), 2_001);
    let order_id = id(&done.result["order_id"]);
    let pay = json!({ "order_id": order_id, "amount": 4000, "currency": "GBP", "method": "x" });
    shelf.does(import, "RecordPayment", pay);
    assert_eq!(shelf.does(import, "ShipOrder", ship(order_id)).kinds.len(), 2_001);
}

#[test]
fn what_is_discontinued_is_not_ordered_but_still_sent_and_taken_back() {
    let mut shelf = Shelf::stocked();
    let operator = Authority::Operator;
    let order_id = shelf.ordered();
    shelf.paid(order_id, 1050);
    let done = shelf.does(operator, "DiscontinueProduct", json!({ "sku": "CUP" }));
    assert_eq!(done.kinds, ["ProductDiscontinued"]);
    let refused = ("product-discontinued".to_owned(), json!({ "sku": "CUP" }));
    for authority in [ANNA, PARTNER, operator, Authority::Import] {
        assert_eq!(shelf.refuses(authority, "PlaceOrder", order()), refused);
    }
    let price = json!({ "sku": "CUP", "price": 1, "currency": "GBP" });
    assert_eq!(shelf.refuses(operator, "ChangePrice", price), refused);
    assert_eq!(shelf.refuses(operator, "DiscontinueProduct", json!({ "sku": "CUP" })), refused);
    let again = json!({ "sku": "CUP", "name": "Cup", "price": 1, "currency": "GBP" });
    assert_eq!(shelf.refuses(operator, "AddProduct", again).0, "product-exists");

    shelf.does(operator, "ShipOrder", ship(order_id));
    let lines = json!([{ "line": 2, "quantity": 2 }]);
    shelf.does(operator, "ReturnItems", returned(order_id, &lines, "gateway"));
    assert_eq!(shelf.levels("CUP"), (10, 0));
    // What is left of it can be counted and thrown away.
    shelf.does(operator, "AdjustStock", json!({ "sku": "CUP", "quantity": -10, "reason": "" }));
    shelf.does(operator, "ReceiveStock", json!({ "sku": "CUP", "quantity": 1 }));
}
