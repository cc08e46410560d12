//! Requests that must change nothing and be told why.

use daybook_identity::Role;
use futures::stream;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::kit::{Api, send};

/// A command of the operator's with a body as raw bytes.
fn raw(api: &Api, name: &str, body: impl Into<Body>) -> RequestBuilder {
    api.request(Method::POST, &format!("/v1/commands/{name}"), &api.operator)
        .header("idempotency-key", "k")
        .header("content-type", "application/json")
        .body(body)
}

#[tokio::test]
async fn a_body_that_is_no_such_command_is_400_naming_the_field_and_appends_nothing() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let head = api.head().await;
    let two_to_53 = 9_007_199_254_740_992_u64;
    let product = |member: &str, value: Value| {
        let mut body = json!({"sku": "B", "name": "b", "price": 1, "currency": "GBP"});
        body[member] = value;
        body.to_string()
    };
    let cases = [
        ("ReceiveStock", String::new(), None),
        ("ReceiveStock", r#"{"sku": "A", "quantity":"#.to_owned(), None),
        ("ReceiveStock", "not json".to_owned(), None),
        ("ReceiveStock", r#"[{"sku": "A", "quantity": 1}]"#.to_owned(), None),
        ("ReceiveStock", r#""A""#.to_owned(), None),
        ("ReceiveStock", "null".to_owned(), None),
        ("ReceiveStock", r#"{"sku": "A", "quantity": 1} x"#.to_owned(), None),
        ("ReceiveStock", "[".repeat(100_000), None),
        ("ReceiveStock", r#"{"sku": "A", "quantity": "1"}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": 1.5}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": 0}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": -1}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": null}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": 1e400}"#.to_owned(), None),
        ("ReceiveStock", r#"{"sku": "A"}"#.to_owned(), Some("quantity")),
        ("ReceiveStock", r#"{"sku": "A", "quantity": 1, "qty": 2}"#.to_owned(), Some("qty")),
        (
            "ReceiveStock",
            r#"{"sku": "A", "quantity": 1, "quantity": 2}"#.to_owned(),
            Some("quantity"),
        ),
        ("ReceiveStock", r#"{"sku": "", "quantity": 1}"#.to_owned(), Some("sku")),
        (
            "AdjustStock",
            r#"{"sku": "A", "quantity": 0, "reason": "x"}"#.to_owned(),
            Some("quantity"),
        ),
        ("AddProduct", product("currency", json!("XXQ")), Some("currency")),
        ("AddProduct", product("currency", json!("gbp")), Some("currency")),
        ("AddProduct", product("price", json!(two_to_53)), Some("price")),
        ("AddProduct", product("price", json!(-1)), Some("price")),
        ("AddProduct", product("name", json!("a\u{0}b")), Some("name")),
        (
            "AddProduct",
            r#"{"sku": "B", "name": "\ud800", "price": 1, "currency": "GBP"}"#.to_owned(),
            Some("name"),
        ),
        (
            "PlaceOrder",
            json!({"currency": "GBP", "lines": [
                {"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 0},
            ]})
            .to_string(),
            Some("lines[1].quantity"),
        ),
        ("PlaceOrder", json!({"currency": "GBP", "lines": []}).to_string(), Some("lines")),
        (
            "PlaceOrder",
            json!({"order_id": "7", "currency": "GBP", "lines": [{"sku": "A", "quantity": 1}]})
                .to_string(),
            Some("order_id"),
        ),
    ];
    for (name, body, field) in cases {
        let shown = body.chars().take(100).collect::<String>();
        let answer = send(raw(&api, name, body)).await;
        let problem = answer.problem(400, "invalid-command");
        if let Some(field) = field {
            assert_eq!(problem["field"], field, "{name} {shown} {problem}");
        }
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{name} {shown}");
    }
    let broken = b"{\"sku\": \"\xff\", \"quantity\": 1}".to_vec();
    send(raw(&api, "ReceiveStock", broken)).await.problem(400, "invalid-command");
    assert_eq!(api.head().await, head, "nothing was appended");

    // None of them was remembered under the key they all came with.
    let good = json!({"sku": "A", "quantity": 1});
    send(api.command("ReceiveStock", "k", &good)).await.ok();
    api.stop().await;
}

#[tokio::test]
async fn headers_that_are_missing_or_wrong_are_named() {
    let api = Api::start().await;
    let good = json!({"sku": "A", "name": "a", "price": 1, "currency": "GBP"});
    let request =
        || api.request(Method::POST, "/v1/commands/AddProduct", &api.operator).json(&good);
    let none = send(request()).await.problem(400, "missing-field");
    assert_eq!((&none["field"], &none["in"]), (&json!("Idempotency-Key"), &json!("header")));
    for (name, value) in [
        ("Idempotency-Key", "k".repeat(256)),
        ("Idempotency-Key", "two words".to_owned()),
        ("If-Match", "1".to_owned()),
        ("If-Match", "\"x\"".to_owned()),
        ("If-None-Match", "\"1\"".to_owned()),
        ("Prefer", "wait=soon".to_owned()),
    ] {
        let mut wrong = request();
        if name != "Idempotency-Key" {
            wrong = wrong.header("idempotency-key", "k");
        }
        let problem = send(wrong.header(name, value)).await.problem(400, "invalid-request");
        assert_eq!(problem["field"], name);
    }
    let typed = |media_type: &str| {
        api.request(Method::POST, "/v1/commands/AddProduct", &api.operator)
            .header("idempotency-key", "k")
            .header("content-type", media_type)
            .body(good.to_string())
    };
    send(typed("text/plain")).await.problem(415, "unsupported-media-type");
    send(typed("application/json; charset=utf-16")).await.problem(415, "unsupported-media-type");
    let packed = typed("application/json").header("content-encoding", "gzip");
    send(packed).await.problem(415, "unsupported-media-type");
    assert_eq!(api.head().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_declared_or_not() {
    let api = Api::start().await;
    let huge = vec![b' '; 1024 * 1024 + 1];
    let problem = send(raw(&api, "AddProduct", huge.clone())).await.problem(413, "body-too-large");
    assert_eq!(problem["limit"], 1024 * 1024);
    let pieces: Vec<_> = huge.chunks(64 * 1024).map(|p| Ok::<_, String>(p.to_vec())).collect();
    let streamed = Body::wrap_stream(stream::iter(pieces));
    send(raw(&api, "AddProduct", streamed)).await.problem(413, "body-too-large");
    // Exactly the limit is read, and then found not to be JSON.
    send(raw(&api, "AddProduct", huge[1..].to_vec())).await.problem(400, "invalid-command");
    api.stop().await;
}

#[tokio::test]
async fn unknown_commands_and_those_of_the_backend_look_the_same() {
    let api = Api::start().await;
    for name in ["Nope", "placeorder", "RecordPaymentOutcome", "RecordRefundOutcome", "ExpireOrder"]
    {
        let problem =
            send(api.command(name, "k", &json!({}))).await.problem(404, "unknown-command");
        assert_eq!(problem["field"], "name");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_key_opens_what_its_role_includes_and_nothing_else() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let head = api.head().await;
    let order = json!({"currency": "GBP", "lines": [{"sku": "A", "quantity": 1}]});
    for role in [Role::Analyst, Role::Auditor, Role::Admin] {
        let key = api.key(role).await.secret;
        let answer = send(api.command_of(&key, "PlaceOrder", "k", &order)).await;
        assert_eq!(answer.problem(403, "forbidden")["role"], role.as_str());
    }
    for role in [Role::Customer, Role::Partner] {
        let key = api.key(role).await.secret;
        for name in ["AddProduct", "ReceiveStock", "RecordPayment", "ShipOrder", "RefundPayment"] {
            let answer = send(api.command_of(&key, name, "k", &json!({}))).await;
            answer.problem(403, "forbidden");
        }
        api.get("/v1/events", &key).await.problem(403, "forbidden");
        api.get("/v1/streams/stock-A", &key).await.problem(403, "forbidden");
    }
    let analyst = api.key(Role::Analyst).await.secret;
    api.get("/v1/streams/stock-A", &analyst).await.problem(403, "forbidden");
    assert_eq!(api.get("/v1/events", &analyst).await.status, 200);
    let admin = api.key(Role::Admin).await.secret;
    api.get("/v1/events", &admin).await.problem(403, "forbidden");

    let key = api.key(Role::Operator).await;
    api.keys.revoke(&key.id).await.unwrap();
    api.get("/v1/events", &key.secret).await.problem(401, "unauthenticated");
    assert_eq!(api.head().await, head);
    api.stop().await;
}

#[tokio::test]
async fn what_belongs_to_another_customer_looks_like_what_does_not_exist() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let stranger = api.key(Role::Customer).await.secret;
    let ask = |order_id: &str, key: &str| {
        let body = json!({"order_id": order_id, "reason": "x"});
        api.command_of(&stranger, "CancelOrder", key, &body)
    };
    let others = send(ask(&order_id, "k1")).await.problem(422, "order-unknown");
    let nobodys =
        send(ask("0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10", "k2")).await.problem(422, "order-unknown");
    assert_eq!(others["detail"], nobodys["detail"]);
    api.stop().await;
}

#[tokio::test]
async fn a_customer_names_neither_prices_nor_customers() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let head = api.head().await;
    let place = |key: &str, member: &str, value: Value| {
        let mut body = json!({"currency": "GBP", "lines": [{"sku": "A", "quantity": 1}]});
        match member {
            "unit_price" => body["lines"][0][member] = value,
            _ => body[member] = value,
        }
        send(api.command_of(&api.customer, "PlaceOrder", key, &body))
    };
    let price = place("k1", "unit_price", json!(1)).await;
    price.problem(422, "price-not-allowed");
    let other = place("k2", "customer_id", json!(uuid::Uuid::new_v4())).await;
    assert!(other.status.is_client_error(), "{other:?}");
    let wrong_total = place("k3", "expected_total", json!(1)).await.problem(422, "total-differs");
    assert_eq!((&wrong_total["expected"], &wrong_total["actual"]), (&json!(1), &json!(250)));
    assert_eq!(api.head().await, head);
    api.stop().await;
}
