//! Commands that take effect: once, with an answer that can be had again.

use std::time::{Duration, Instant};

use daybook_identity::Role;
use serde_json::json;

use crate::kit::{Api, send};

#[tokio::test]
async fn an_accepted_command_says_where_it_stands() {
    let api = Api::start().await;
    let product = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    let answer = send(api.command("AddProduct", "k", &product)).await;
    assert_eq!(
        answer.ok(),
        json!({"position": "1", "streams": [{"stream": "product-A", "version": 1}], "result": {}})
    );
    assert_eq!(answer.header("daybook-position"), Some("1"));
    assert_eq!(answer.header("idempotency-replayed"), None);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    // The request's id is the events' correlation, the key's owner their actor.
    let events = api.events().await;
    let meta: serde_json::Value = serde_json::from_str(&events[0].meta).unwrap();
    assert_eq!(meta["correlation"], answer.header("x-request-id").unwrap());
    assert!(meta["actor"].as_str().unwrap().starts_with("owner:"));
    api.stop().await;
}

#[tokio::test]
async fn a_trace_context_reaches_the_events() {
    let api = Api::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let product = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    send(api.command("AddProduct", "k", &product).header("traceparent", trace)).await.ok();
    let meta: serde_json::Value = serde_json::from_str(&api.events().await[0].meta).unwrap();
    assert_eq!(meta["traceparent"], trace);
    api.stop().await;
}

#[tokio::test]
async fn the_same_key_and_body_have_one_effect_and_one_answer_however_often_and_at_once() {
    let api = Api::start().await;
    api.product("A", 1).await;
    let head = api.head().await;
    let body = json!({"sku": "A", "quantity": 5});
    let all = (0..30).map(|_| send(api.command("ReceiveStock", "same", &body)));
    let answers = futures::future::join_all(all).await;
    for answer in &answers {
        assert_eq!(answer.ok(), answers[0].ok());
    }
    let fresh = answers.iter().filter(|a| a.header("idempotency-replayed").is_none()).count();
    assert_eq!(fresh, 1, "all others are marked as remembered");
    assert_eq!(api.head().await, head + 1);

    // Another body under the key is refused, another principal's equal key is another key.
    let other = json!({"sku": "A", "quantity": 6});
    send(api.command("ReceiveStock", "same", &other)).await.problem(422, "key-reused");
    send(api.command("AdjustStock", "same", &json!({"sku": "A", "quantity": 5, "reason": ""})))
        .await
        .problem(422, "key-reused");
    let colleague = api.key(Role::Operator).await;
    send(api.command_of(&colleague.secret, "ReceiveStock", "same", &other)).await.ok();
    // A rotated key is still the same principal.
    let rotated = api.keys.rotate(&colleague.id, Duration::ZERO).await.unwrap().unwrap();
    let again = send(api.command_of(&rotated.secret, "ReceiveStock", "same", &other)).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(api.head().await, head + 2);
    api.stop().await;
}

#[tokio::test]
async fn a_refusal_is_remembered_as_well() {
    let api = Api::start().await;
    let body = json!({"sku": "A", "quantity": 5});
    let refused = send(api.command("ReceiveStock", "k", &body)).await;
    refused.problem(422, "product-unknown");
    api.product("A", 1).await;
    let again = send(api.command("ReceiveStock", "k", &body)).await;
    assert_eq!(again.json(), refused.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    api.stop().await;
}

#[tokio::test]
async fn if_match_holds_or_nothing_happens() {
    let api = Api::start().await;
    let product = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    let new = api.command("AddProduct", "k1", &product).header("if-none-match", "*");
    send(new).await.ok();
    let price = json!({"sku": "A", "price": 300, "currency": "GBP"});
    let change = |key: &str, version: &str| {
        send(api.command("ChangePrice", key, &price).header("if-match", version))
    };
    let conflict = change("k2", "\"7\"").await.problem(412, "version-conflict");
    assert_eq!(
        (&conflict["stream"], &conflict["expected"], &conflict["actual"]),
        (&json!("product-A"), &json!(7), &json!(1))
    );
    // A conflict is not remembered: the same key may be tried again with what is right.
    change("k2", "\"1\"").await.ok();
    let new = api.command("ChangePrice", "k3", &price).header("if-none-match", "*");
    send(new).await.problem(412, "version-conflict");
    assert_eq!(api.head().await, 2);
    api.stop().await;
}

#[tokio::test]
async fn the_owner_of_a_key_can_ask_what_became_of_it_and_nobody_else() {
    let api = Api::start().await;
    let product = json!({"sku": "A", "name": "a", "price": 250, "currency": "GBP"});
    let sent = send(api.command("AddProduct", "a/b?", &product)).await.ok();
    let found = api.get("/v1/commands/by-key/a%2Fb%3F", &api.operator).await;
    let body = found.ok();
    assert_eq!(body["outcome"], "accepted");
    assert_eq!((&body["position"], &body["streams"]), (&sent["position"], &sent["streams"]));
    assert_eq!(found.header("daybook-position"), Some("1"));

    send(api.command("AddProduct", "again", &product)).await.problem(422, "product-exists");
    let refused = api.get("/v1/commands/by-key/again", &api.operator).await.ok();
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(refused["problem"]["type"], "/problems/product-exists");

    api.get("/v1/commands/by-key/never", &api.operator).await.problem(404, "key-unknown");
    api.get("/v1/commands/by-key/again", &api.customer).await.problem(404, "key-unknown");
    let wrong = api.get("/v1/commands/by-key/a%20b", &api.operator).await;
    assert_eq!(wrong.problem(400, "invalid-request")["in"], "path");
    api.stop().await;
}

#[tokio::test]
async fn an_order_that_can_t_be_filled_says_what_is_missing() {
    let api = Api::start().await;
    api.product("A", 3).await;
    let order = json!({"currency": "GBP", "lines": [{"sku": "A", "quantity": 4}]});
    let refused = send(api.command_of(&api.customer, "PlaceOrder", "k", &order)).await;
    let problem = refused.problem(422, "out-of-stock");
    assert_eq!(problem["missing"], json!([{"sku": "A", "wanted": 4, "available": 3}]));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    api.stop().await;
}

#[tokio::test]
async fn a_charge_is_202_with_a_place_to_ask_and_its_token_stands_nowhere() {
    let api = Api::start().await;
    api.product("A", 3).await;
    let order_id = api.order("A", "order").await;
    let charge = json!({
        "order_id": order_id, "amount": 250, "currency": "GBP", "gateway_token": "tok_secret",
    });
    let answer = send(api.command_of(&api.customer, "ChargePayment", "charge", &charge)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.header("location"), Some("/v1/commands/by-key/charge"));
    let body = answer.json();
    assert_eq!(body["result"]["status"], "open");
    assert_eq!(body["result"]["order_id"], order_id);
    let open = api.get("/v1/commands/by-key/charge", &api.customer).await;
    assert_eq!(open.ok()["open"], true);
    for event in api.events().await {
        assert!(!format!("{} {}", event.data, event.meta).contains("tok_secret"));
    }
    assert!(!format!("{}{}", answer.text, open.text).contains("tok_secret"));

    // What was open when it was remembered is looked at afresh.
    let payment_id = body["result"]["payment_id"].as_str().unwrap();
    let captured = api.captured(payment_id).await;
    let found = api.get("/v1/commands/by-key/charge", &api.customer).await.ok();
    assert_eq!((&found["open"], &found["result"]["status"]), (&json!(false), &json!("captured")));
    let again = send(api.command_of(&api.customer, "ChargePayment", "charge", &charge)).await;
    let again_body = again.ok();
    assert_eq!(again_body["result"]["status"], "captured");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let position = api.opened(again_body["position"].as_str().unwrap());
    assert!(position > api.opened(body["position"].as_str().unwrap()));
    assert!(position <= captured.position);
    api.stop().await;
}

#[tokio::test]
async fn who_prefers_to_wait_gets_the_outcome_of_the_charge() {
    let api = Api::start().await;
    api.product("A", 3).await;
    let order_id = api.order("A", "order").await;
    let payment_id = uuid::Uuid::now_v7().to_string();
    let charge = json!({
        "payment_id": payment_id, "order_id": order_id, "amount": 250, "currency": "GBP",
        "gateway_token": "tok_1",
    });
    let request = api
        .command_of(&api.customer, "ChargePayment", "charge", &charge)
        .header("prefer", "wait=20");
    let gateway = async {
        let stream = format!("payment-{payment_id}");
        while api.reader.stream(api.tenant.id, &stream, 1, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        api.captured(&payment_id).await;
    };
    let (answer, ()) = tokio::join!(send(request), gateway);
    assert_eq!(answer.ok()["result"]["status"], "captured");
    assert_eq!(answer.header("location"), None);
    api.stop().await;
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_that_it_is_open() {
    let api = Api::start().await;
    api.product("A", 3).await;
    let order_id = api.order("A", "order").await;
    let charge = json!({
        "order_id": order_id, "amount": 250, "currency": "GBP", "gateway_token": "tok_1",
    });
    let started = Instant::now();
    let request = api.command_of(&api.customer, "ChargePayment", "charge", &charge);
    let answer = send(request.header("prefer", "wait=1")).await;
    assert_eq!(answer.status, 202);
    assert!(started.elapsed() >= Duration::from_secs(1));
    api.stop().await;
}
