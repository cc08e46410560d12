//! Placing and paying, and whose business it is.

use super::*;

#[test]
fn an_order_reserves_what_it_takes_and_says_what_it_costs() {
    let mut shelf = Shelf::stocked();
    let done = shelf.does(ANNA, "PlaceOrder", order());
    // One event a product, in order of codes; none for what has no stock.
    assert_eq!(done.kinds, ["OrderPlaced", "StockReserved", "StockReserved"]);
    assert_eq!(done.data[1]["sku"], "CUP");
    assert_eq!((&done.data[2]["sku"], &done.data[2]["quantity"]), (&json!("PLATE"), &json!(4)));
    assert_eq!(done.data[0]["customer_id"], json!(Uuid::from_u128(0xa)));
    assert_eq!(done.data[0]["partner_id"], Value::Null);
    assert_eq!(done.result["total"], 1050);
    assert_eq!(done.result["expires_at"], "2026-11-22T12:15:00.000000Z");
    assert_eq!((shelf.levels("CUP"), shelf.levels("PLATE")), ((10, 2), (10, 4)));
    let [job] = &done.jobs[..] else { panic!("one job, not {:?}", done.jobs) };
    assert_eq!((job.kind, job.delay_ms), (jobs::EXPIRE_ORDER, 900_000));
    assert_eq!(job.payload["deadline"], "2026-11-22T12:15:00.000000Z");
}

#[test]
fn nothing_is_sold_that_is_not_there() {
    let mut shelf = Shelf::stocked();
    let body = json!({
        "currency": "GBP",
        "lines": [
            { "sku": "CUP", "quantity": 6 }, { "sku": "PLATE", "quantity": 11 },
            { "sku": "CUP", "quantity": 5 }, { "sku": "POST", "quantity": 1000 }
        ]
    });
    let (code, values) = shelf.refuses(ANNA, "PlaceOrder", body);
    assert_eq!(code, "out-of-stock");
    assert_eq!(
        values["missing"],
        json!([
            { "sku": "CUP", "wanted": 11, "available": 10 },
            { "sku": "PLATE", "wanted": 11, "available": 10 }
        ])
    );
    assert_eq!(shelf.levels("CUP"), (10, 0));
}

#[test]
fn a_customer_names_no_price_and_no_other_customer() {
    let mut shelf = Shelf::stocked();
    let line = json!({ "sku": "CUP", "quantity": 1, "unit_price": 1 });
    let body = json!({ "currency": "GBP", "lines": [line] });
    assert_eq!(shelf.refuses(ANNA, "PlaceOrder", body.clone()).0, "price-not-allowed");
    assert_eq!(shelf.refuses(PARTNER, "PlaceOrder", body.clone()).0, "price-not-allowed");
    assert_eq!(shelf.does(Authority::Operator, "PlaceOrder", body).result["total"], 1);

    let mut other = order();
    other["customer_id"] = json!(Uuid::from_u128(0xb));
    assert_eq!(shelf.refuses(ANNA, "PlaceOrder", other.clone()).0, "customer-not-allowed");
    assert_eq!(shelf.refuses(PARTNER, "PlaceOrder", other.clone()).0, "customer-not-allowed");
    shelf.does(BERT, "PlaceOrder", other);
}

#[test]
fn a_buyer_names_neither_shipping_nor_tax() {
    let mut shelf = Shelf::stocked();
    shelf.does(Authority::Operator, "ReceiveStock", json!({ "sku": "PLATE", "quantity": 50 }));
    let with = |field: &str, amount: i64| {
        let mut body = order();
        body[field] = json!(amount);
        body
    };
    let refused = |field: &str| ("charge-not-allowed".to_owned(), json!({ "field": field }));
    for field in ["shipping", "tax"] {
        for buyer in [ANNA, PARTNER] {
            assert_eq!(shelf.refuses(buyer, "PlaceOrder", with(field, 0)), refused(field));
        }
        let done = shelf.does(Authority::Operator, "PlaceOrder", with(field, 70));
        assert_eq!((&done.result[field], &done.result["total"]), (&json!(70), &json!(1120)));
        assert_eq!((&done.data[0][field], &done.data[0]["total"]), (&json!(70), &json!(1120)));
    }

    // The shop says what sending costs; who buys may insist on what was shown.
    let (gbp, flat) = (wire::Currency::new("GBP").unwrap(), wire::Amount::new(395).unwrap());
    let flat_shipping = BTreeMap::from([(gbp, flat)]);
    let settings = ShopSettings { flat_shipping, partners_charge: true, ..ShopSettings::default() };
    shelf.model = ShopModel::new(settings);
    let (code, values) = shelf.refuses(ANNA, "PlaceOrder", with("expected_total", 1050));
    assert_eq!((&*code, values), ("total-differs", json!({ "expected": 1050, "actual": 1445 })));
    assert_eq!(shelf.refuses(ANNA, "PlaceOrder", with("shipping", 395)), refused("shipping"));
    let done = shelf.does(ANNA, "PlaceOrder", with("expected_total", 1445));
    assert_eq!((&done.data[0]["shipping"], &done.data[0]["tax"]), (&json!(395), &json!(0)));
    // A partner that may, and an operator, may waive it; history has what it names.
    for (authority, body, total) in [
        (PARTNER, order(), 1445),
        (PARTNER, with("shipping", 0), 1050),
        (Authority::Operator, with("tax", 5), 1450),
        (Authority::Import, order(), 1050),
    ] {
        let mut body = body;
        body["lines"][1]["quantity"] = json!(1);
        let done = shelf.does(authority, "PlaceOrder", body);
        assert_eq!(done.result["total"], total - 300, "{authority:?}");
    }
}

#[test]
fn what_is_unknown_or_differs_is_refused_with_its_values() {
    let mut shelf = Shelf::stocked();
    let place = |line: Value, currency: &str| json!({ "currency": currency, "lines": [line] });
    let cup = json!({ "sku": "CUP", "quantity": 1 });
    let cases = [
        (
            place(json!({ "sku": "cup", "quantity": 1 }), "GBP"),
            "product-unknown",
            json!({ "sku": "cup" }),
        ),
        (
            place(cup.clone(), "EUR"),
            "currency-differs",
            json!({ "expected": "GBP", "actual": "EUR" }),
        ),
        (
            json!({ "currency": "GBP", "lines": [cup], "expected_total": 299 }),
            "total-differs",
            json!({ "expected": 299, "actual": 300 }),
        ),
    ];
    for (body, code, values) in cases {
        assert_eq!(shelf.refuses(ANNA, "PlaceOrder", body), (code.to_owned(), values));
    }
    let lines = vec![json!({ "sku": "POST", "quantity": 1 }); 2_001];
    let (code, values) =
        shelf.refuses(ANNA, "PlaceOrder", json!({ "currency": "GBP", "lines": lines }));
    assert_eq!(
        (code.as_str(), values),
        ("too-many-lines", json!({ "lines": 2001, "limit": 2000 }))
    );
    let body = json!({
        "currency": "GBP", "lines": [{ "sku": "POST", "quantity": 9_007_199_254_740_991_i64 }]
    });
    assert_eq!(shelf.refuses(ANNA, "PlaceOrder", body).0, "too-large");
}

#[test]
fn an_id_that_a_client_brings_is_new() {
    let mut shelf = Shelf::stocked();
    let mut body = order();
    body["order_id"] = json!(Uuid::from_u128(7));
    shelf.does(ANNA, "PlaceOrder", body.clone());
    assert_eq!(shelf.refuses(ANNA, "PlaceOrder", body).0, "order-exists");
    let mut charge = charge(Uuid::from_u128(7), 50);
    charge["payment_id"] = json!(Uuid::from_u128(8));
    shelf.does(ANNA, "ChargePayment", charge.clone());
    assert_eq!(shelf.refuses(ANNA, "ChargePayment", charge.clone()).0, "payment-exists");
    let other = shelf.ordered();
    charge["order_id"] = json!(other);
    assert_eq!(shelf.refuses(ANNA, "ChargePayment", charge).0, "payment-exists");
}

#[test]
fn another_s_order_is_as_unknown_as_none() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let nowhere = Uuid::from_u128(404);
    for stranger in [BERT, PARTNER, Authority::Partner(Uuid::from_u128(0xa))] {
        for body in [charge, |order: Uuid, _: i64| json!({ "order_id": order, "reason": "x" })] {
            let name =
                if body(nowhere, 1)["amount"].is_null() { "CancelOrder" } else { "ChargePayment" };
            let theirs = shelf.asks(stranger, name, body(order_id, 1)).unwrap_err();
            let none = shelf.asks(stranger, name, body(nowhere, 1)).unwrap_err();
            assert_eq!((&*theirs.code, &theirs.detail), ("order-unknown", &none.detail));
            assert_eq!(theirs.values, json!({ "order_id": order_id }));
            assert_eq!(none.values, json!({ "order_id": nowhere }));
        }
    }
}

#[test]
fn a_partner_acts_on_what_it_placed() {
    let mut shelf = Shelf::stocked();
    let done = shelf.does(PARTNER, "PlaceOrder", order());
    assert_eq!(done.data[0]["partner_id"], json!(Uuid::from_u128(0xc)));
    assert_eq!(done.data[0]["customer_id"], Value::Null);
    let order_id = id(&done.result["order_id"]);
    shelf.does(PARTNER, "ChargePayment", charge(order_id, 10));
    assert_eq!(shelf.refuses(ANNA, "ChargePayment", charge(order_id, 10)).0, "order-unknown");
}

#[test]
fn roles_keep_to_their_commands() {
    let mut shelf = Shelf::stocked();
    for info in crate::catalogue() {
        let body = info.examples[0].body.to_string();
        let command = Command::parse(info.name, body.as_bytes()).unwrap();
        for (role, authority) in
            [("customer", ANNA), ("partner", PARTNER), ("operator", Authority::Operator)]
        {
            let may = info.roles.contains(&role);
            assert_eq!(authority.may_send(&command), may, "{role} {}", info.name);
            if !may {
                let refusal = shelf.sends(authority, command.clone()).unwrap_err();
                assert_eq!(refusal.code, "not-allowed");
            }
        }
        assert!(Authority::Import.may_send(&command));
        assert!(!Authority::Backend.may_send(&command));
    }
    let (payment_id, gateway_payment_id) = (Uuid::nil(), "ch_1".to_owned());
    let identify = wire::RecordGatewayPayment { payment_id, gateway_payment_id };
    let expire = wire::ExpireOrder { order_id: Uuid::nil(), deadline: shelf.now.into() };
    for command in [Command::ExpireOrder(expire), Command::RecordGatewayPayment(identify)] {
        assert!(Authority::Backend.may_send(&command));
        for authority in [ANNA, PARTNER, Authority::Operator, Authority::Import] {
            assert!(!authority.may_send(&command));
        }
    }
}

#[test]
fn a_charge_is_a_job_with_a_sealed_token() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let done = shelf.does(ANNA, "ChargePayment", charge(order_id, 1050));
    assert_eq!(done.kinds, ["PaymentRequested", "OrderPaymentOpened"]);
    assert!(done.open);
    assert_eq!(
        (&done.result["status"], &done.result["order_id"]),
        (&json!("open"), &json!(order_id))
    );
    let [job] = &done.jobs[..] else { panic!("one job, not {:?}", done.jobs) };
    assert_eq!((job.kind, job.delay_ms), (jobs::CHARGE_PAYMENT, 0));
    assert_eq!(job.sealed.as_deref(), Some(&b"sealed"[..]));
    let payload: jobs::ChargePayment = serde_json::from_value(job.payload.clone()).unwrap();
    assert_eq!((payload.order_id, payload.amount.get()), (order_id, 1050));
    assert_eq!(payload.deadline.to_string(), "2026-11-22T13:00:00.000000Z");
    assert!(!format!("{:?}", done.data).contains("tok_visa"));
    let (code, values) = shelf.refuses(ANNA, "ChargePayment", charge(order_id, 1));
    assert_eq!(
        (code.as_str(), values),
        ("over-charge", json!({ "due": 1050, "captured": 0, "open": 1050 }))
    );
}

#[test]
fn an_import_s_orders_never_expire() {
    let mut shelf = Shelf::stocked();
    let mut body = order();
    body["customer_id"] = json!(Uuid::from_u128(0x17850));
    body["reference"] = json!("536365");
    let done = shelf.does(Authority::Import, "PlaceOrder", body);
    assert_eq!(done.data[0]["expires_at"], Value::Null);
    assert_eq!(done.result["expires_at"], Value::Null);
    assert_eq!(done.data[0]["customer_id"], json!(Uuid::from_u128(0x17850)));
    assert!(done.jobs.is_empty());
}

#[test]
fn jobs_of_two_tenants_are_two() {
    let event = ShopEvent::Order(daybook_domain::order::Event::PaymentClosed {
        order: daybook_domain::OrderId(Uuid::nil()),
        payment: daybook_domain::PaymentId(Uuid::nil()),
        money: daybook_domain::Amount::ZERO.of(daybook_domain::Currency::from_code("GBP").unwrap()),
        reason: "x".into(),
        expires_at: Some(DateTime::UNIX_EPOCH),
    });
    let id = |tenant| jobs::reaction(tenant, &event, DateTime::UNIX_EPOCH).unwrap().id;
    assert_eq!(id("main"), id("main"));
    assert_ne!(id("main"), id("other"));
}
