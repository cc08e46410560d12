//! `If-Match` and `If-None-Match`: of the stream that a command names, or nothing happens.

use std::collections::BTreeSet;

use daybook_identity::Role;
use serde_json::{Value, json};

use crate::kit::{Api, send};

/// Sends a command at a wrong version, as something new, and then at the version that its stream
/// has; the result of the last.
async fn insisting(api: &Api, name: &str, stream: &str, body: &Value) -> Value {
    let end = api.reader.stream_end(api.tenant.id, stream).await.unwrap();
    let actual = end.map_or(0, |end| end.version);
    let head = api.head().await;
    let key = |suffix: &str| format!("{name}-{stream}-{actual}-{suffix}").replace(' ', "_");

    let wrong = api.command(name, &key("wrong"), body).header("if-match", "\"99\"");
    let problem = send(wrong).await.problem(412, "version-conflict");
    let said = (&problem["stream"], &problem["expected"], &problem["actual"]);
    assert_eq!(said, (&json!(stream), &json!(99), &json!(actual)), "{name}");

    let new = api.command(name, &key("new"), body).header("if-none-match", "*");
    if actual == 0 {
        return send(new).await.json()["result"].clone();
    }
    let problem = send(new).await.problem(412, "version-conflict");
    let said = (&problem["stream"], &problem["expected"], &problem["actual"]);
    assert_eq!(said, (&json!(stream), &json!(0), &json!(actual)), "{name}");
    assert_eq!(api.head().await, head, "{name}: nothing happened");

    // A conflict is not remembered: the same key may be used with what is right.
    let version = format!("\"{actual}\"");
    let right = api.command(name, &key("wrong"), body).header("if-match", version);
    let answer = send(right).await;
    assert!(answer.status.is_success(), "{name}: {answer:?}");
    let moved = api.reader.stream_end(api.tenant.id, stream).await.unwrap().unwrap();
    assert!(moved.version > actual, "{name} appends to the stream it names");
    answer.json()["result"].clone()
}

#[tokio::test]
async fn each_command_insists_on_the_stream_that_it_names() {
    let api = Api::start().await;
    let product = json!({"sku": "A b", "name": "a", "price": 250, "currency": "GBP"});
    insisting(&api, "AddProduct", "product-A b", &product).await;
    let price = json!({"sku": "A b", "price": 250, "currency": "GBP"});
    let dearer = json!({"sku": "A b", "price": 300, "currency": "GBP"});
    insisting(&api, "ChangePrice", "product-A b", &dearer).await;
    insisting(&api, "ChangePrice", "product-A b", &price).await;
    let units = json!({"sku": "A b", "quantity": 50});
    insisting(&api, "ReceiveStock", "stock-A b", &units).await;
    insisting(&api, "ReceiveStock", "stock-A b", &units).await;
    let adjust = json!({"sku": "A b", "quantity": -1, "reason": "damaged"});
    insisting(&api, "AdjustStock", "stock-A b", &adjust).await;

    let place = |id: uuid::Uuid| {
        json!({
            "order_id": id, "currency": "GBP", "lines": [{"sku": "A b", "quantity": 2}],
        })
    };
    let ids: Vec<uuid::Uuid> = (0..4).map(|_| uuid::Uuid::new_v4()).collect();
    for id in &ids[..3] {
        insisting(&api, "PlaceOrder", &format!("order-{id}"), &place(*id)).await;
    }
    let cancelled = format!("order-{}", ids[0]);
    let cancel = json!({"order_id": ids[0], "reason": "x"});
    insisting(&api, "CancelOrder", &cancelled, &cancel).await;

    let record = json!({
        "order_id": ids[1], "amount": 500, "currency": "GBP", "method": "cash", "reference": "1",
    });
    let order = format!("order-{}", ids[2]);
    let charge = json!({
        "order_id": ids[2], "amount": 500, "currency": "GBP", "gateway_token": "tok_1",
    });
    let charged = insisting(&api, "ChargePayment", &order, &charge).await;
    let payment_id = charged["payment_id"].as_str().unwrap();
    api.captured_amount(payment_id, 500).await;
    insisting(&api, "ShipOrder", &order, &json!({"order_id": ids[2]})).await;
    insisting(&api, "DeliverOrder", &order, &json!({"order_id": ids[2]})).await;
    let refund = json!({
        "payment_id": payment_id, "amount": 10, "currency": "GBP", "reason": "late",
    });
    insisting(&api, "RefundPayment", &format!("payment-{payment_id}"), &refund).await;
    let items = json!({
        "order_id": ids[2], "lines": [{"line": 1, "quantity": 1}], "refund": "settled_elsewhere",
    });
    insisting(&api, "ReturnItems", &order, &items).await;

    let charge = json!({
        "order_id": ids[1], "payment_id": ids[3], "amount": 500, "currency": "GBP",
        "gateway_token": "tok_1",
    });
    send(api.command("ChargePayment", "charge", &charge)).await;
    let unresolved = json!({"unresolved": {"reason": "no answer"}});
    api.payment_ended(&ids[3].to_string(), &unresolved).await;
    let resolve = json!({"payment_id": ids[3], "outcome": {"not_charged": {"reason": "looked"}}});
    insisting(&api, "ResolvePayment", &format!("payment-{}", ids[3]), &resolve).await;
    insisting(&api, "RecordPayment", &format!("order-{}", ids[1]), &record).await;
    insisting(&api, "DiscontinueProduct", "product-A b", &json!({"sku": "A b"})).await;

    let sent: BTreeSet<String> = api
        .events()
        .await
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.meta).unwrap()["command"].to_string())
        .collect();
    for command in daybook_commands::catalogue() {
        assert!(sent.contains(&format!("{:?}", command.name)), "{} is not tried", command.name);
    }
    api.stop().await;
}

#[tokio::test]
async fn what_must_be_new_and_is_not_is_412_though_it_would_be_refused_anyway() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let product = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    let again = api.command("AddProduct", "k1", &product).header("if-none-match", "*");
    let problem = send(again).await.problem(412, "version-conflict");
    assert_eq!((&problem["stream"], &problem["actual"]), (&json!("product-A"), &json!(1)));
    // Not remembered: without the header it is decided, and refused.
    send(api.command("AddProduct", "k1", &product)).await.problem(422, "product-exists");

    let order_id = api.order("A", "order").await;
    let order =
        json!({"order_id": order_id, "currency": "GBP", "lines": [{"sku": "A", "quantity": 1}]});
    let place = |who: &str, key: &str| {
        send(api.command_of(who, "PlaceOrder", key, &order).header("if-none-match", "*"))
    };
    place(&api.operator, "k2").await.problem(412, "version-conflict");
    place(&api.customer, "k3").await.problem(412, "version-conflict");
    let stranger = api.key(Role::Customer).await.secret;
    let refused = place(&stranger, "k4").await.problem(422, "order-exists");
    assert_eq!(refused["actual"], Value::Null, "its version is nobody else's business");

    // A version that has passed is that, whatever else would be wrong with the command.
    let cancel = json!({"order_id": order_id, "reason": "x"});
    send(api.command("CancelOrder", "k5", &cancel)).await.ok();
    let late = api.command("CancelOrder", "k6", &cancel).header("if-match", "\"1\"");
    assert_eq!(send(late).await.problem(412, "version-conflict")["actual"], 2);
    api.stop().await;
}

#[tokio::test]
async fn headers_that_say_nothing_clear_are_400_by_name() {
    let api = Api::start().await;
    let body = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    for (name, value) in [
        ("If-Match", "1"),
        ("If-Match", "*"),
        ("If-Match", "W/\"1\""),
        ("If-Match", "\"1\", \"2\""),
        ("If-Match", "\"-1\""),
        ("If-Match", "\"99999999999\""),
        ("If-Match", ""),
        ("If-None-Match", "\"1\""),
        ("If-None-Match", "**"),
        ("If-None-Match", ""),
    ] {
        let request = api.command("AddProduct", "k", &body).header(name, value);
        let problem = send(request).await.problem(400, "invalid-request");
        assert_eq!(
            (&problem["field"], &problem["in"]),
            (&json!(name), &json!("header")),
            "{value}"
        );
    }
    let both = api
        .command("AddProduct", "k", &body)
        .header("if-match", "\"0\"")
        .header("if-none-match", "*");
    assert_eq!(send(both).await.problem(400, "invalid-request")["field"], "If-Match");
    let twice = api
        .command("AddProduct", "k", &body)
        .header("if-match", "\"0\"")
        .header("if-match", "\"0\"");
    assert_eq!(send(twice).await.problem(400, "invalid-request")["field"], "If-Match");
    assert_eq!(api.head().await, 0, "nothing was appended");
    api.stop().await;
}

#[tokio::test]
async fn somebody_else_s_order_has_no_version_to_insist_on() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let stranger = api.key(Role::Customer).await.secret;
    let mut answers = Vec::new();
    for (number, id) in
        [order_id.as_str(), "0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10"].iter().enumerate()
    {
        let body = json!({"order_id": id, "reason": "x"});
        let request = api.command_of(&stranger, "CancelOrder", &format!("k{number}"), &body);
        let problem =
            send(request.header("if-match", "\"99\"")).await.problem(422, "order-unknown");
        answers.push(problem["detail"].clone());
    }
    assert_eq!(answers[0], answers[1]);
    api.stop().await;
}
