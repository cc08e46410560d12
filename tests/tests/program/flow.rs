//! An order's life over HTTP: placed, charged, read back, shipped, returned; cancelled; expired.

use std::time::Duration;

use daybook_tests::{Installation, Role, Shop, charge, order, problem_code, until};
use serde_json::{Value, json};
use uuid::Uuid;

async fn web_order(shop: &Shop, id: Uuid, position: &str) -> Value {
    // The position may be one that only the shop itself was shown.
    let _there = shop.operator.get_at(&format!("/v1/operator/orders/{id}"), position).await.ok();
    shop.customer.get(&format!("/v1/web/orders/{id}")).await.ok().json()
}

#[tokio::test]
async fn an_order_is_placed_charged_shipped_delivered_and_partly_returned() {
    let shop = Shop::open(10).await;
    let id = Uuid::new_v4();
    let path = format!("/v1/operator/orders/{id}");

    let placed = shop.customer.once("PlaceOrder", &order(id, 3)).await.ok();
    let result = &placed.json()["result"];
    assert_eq!(result["order_id"], json!(id));
    assert_eq!((&result["total"], &result["currency"]), (&json!(3750), &json!("GBP")));
    let view = web_order(&shop, id, &placed.position()).await;
    assert_eq!((&view["status"], &view["due"]), (&json!("placed"), &json!(3750)), "{view}");
    let stock = shop.mugs_at(&placed.position()).await;
    assert_eq!((&stock["on_hand"], &stock["reserved"]), (&json!(10), &json!(3)), "{stock}");

    // Unpaid, nothing leaves the house.
    let early = shop.operator.once("ShipOrder", &json!({"order_id": id})).await;
    assert_eq!((early.status, problem_code(&early).as_str()), (422, "not-paid"), "{}", early.text);

    // A declined card, then too much, then a good one.
    let declined =
        shop.customer.once("ChargePayment", &charge(id, 3750, "tok_declined")).await.ok();
    assert_eq!(declined.json()["result"]["status"], "declined", "{}", declined.text);
    let over = shop.customer.once("ChargePayment", &charge(id, 3751, "tok_success")).await;
    assert_eq!((over.status, problem_code(&over).as_str()), (422, "over-charge"), "{}", over.text);
    let paid = shop.customer.once("ChargePayment", &charge(id, 3750, "tok_success")).await.ok();
    assert_eq!(paid.status, 200);
    assert_eq!(paid.json()["result"]["status"], "captured", "{}", paid.text);
    let view = web_order(&shop, id, &paid.position()).await;
    assert_eq!(
        (&view["status"], &view["paid"], &view["due"]),
        (&json!("paid"), &json!(3750), &json!(0)),
        "{view}"
    );
    assert_eq!(view["payments"].as_array().map(Vec::len), Some(2), "both tries show: {view}");
    let twice = shop.customer.once("ChargePayment", &charge(id, 1, "tok_success")).await;
    assert_eq!(problem_code(&twice), "over-charge");

    // In two parcels.
    let part = json!({"order_id": id, "lines": [{"line": 1, "quantity": 1}]});
    let shipped = shop.operator.once("ShipOrder", &part).await.ok();
    assert_eq!(shipped.json()["result"]["shipment"], 1);
    let view = web_order(&shop, id, &shipped.position()).await;
    assert_eq!(view["status"], "partly_shipped", "{view}");
    let shipped = shop.operator.once("ShipOrder", &json!({"order_id": id})).await.ok();
    assert_eq!(shipped.json()["result"]["shipment"], 2);
    let stock = shop.mugs_at(&shipped.position()).await;
    assert_eq!((&stock["on_hand"], &stock["reserved"]), (&json!(7), &json!(0)), "{stock}");
    let delivered = shop.operator.once("DeliverOrder", &json!({"order_id": id})).await.ok();
    assert_eq!(web_order(&shop, id, &delivered.position()).await["status"], "delivered");

    // One comes back; its money goes back through the gateway.
    let back = json!({
        "order_id": id, "lines": [{"line": 1, "quantity": 1}], "refund": "gateway",
    });
    let returned = shop.operator.once("ReturnItems", &back).await.ok();
    assert_eq!(returned.json()["result"]["credit"], 1250, "{}", returned.text);
    assert_eq!(returned.json()["result"]["refunds"][0]["amount"], 1250, "{}", returned.text);
    until("the refund to settle", Duration::from_secs(20), || async {
        let view = shop.operator.get(&path).await.ok().json();
        (view["refunded"] == 1250).then_some(())
    })
    .await;
    let stock = shop.mugs_at(&returned.position()).await;
    assert_eq!((&stock["on_hand"], &stock["returned"]), (&json!(8), &json!(1)), "{stock}");
    let greedy =
        json!({"order_id": id, "lines": [{"line": 1, "quantity": 3}], "refund": "gateway"});
    let answer = shop.operator.once("ReturnItems", &greedy).await;
    assert_eq!(problem_code(&answer), "too-many-returned", "{}", answer.text);
    shop.installation.check_journal().await;
}

#[tokio::test]
async fn a_gateway_token_stands_nowhere_after_the_charge() {
    let shop = Shop::open(10).await;
    let id = Uuid::new_v4();
    let _placed = shop.customer.once("PlaceOrder", &order(id, 1)).await.ok();
    let paid = shop.customer.once("ChargePayment", &charge(id, 1250, "tok_success")).await.ok();
    assert!(!paid.text.contains("tok_success"));
    let database = shop.installation.connect().await;
    let rows = database
        .query(include_str!("sql/token_anywhere.sql"), &[&"tok_success"])
        .await
        .expect("the journal can be read");
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(!shop.server.log().contains("tok_success"));
}

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_and_money_back() {
    let shop = Shop::open(10).await;
    let (unpaid, paid) = (Uuid::new_v4(), Uuid::new_v4());
    let _placed = shop.customer.once("PlaceOrder", &order(unpaid, 2)).await.ok();
    let cancel = |id: Uuid| json!({"order_id": id, "reason": "changed my mind"});
    let cancelled = shop.customer.once("CancelOrder", &cancel(unpaid)).await.ok();
    let view = web_order(&shop, unpaid, &cancelled.position()).await;
    assert_eq!((&view["status"], &view["due"]), (&json!("cancelled"), &json!(0)), "{view}");
    let stock = shop.mugs_at(&cancelled.position()).await;
    assert_eq!((&stock["on_hand"], &stock["reserved"]), (&json!(10), &json!(0)), "{stock}");
    let late = shop.customer.once("ChargePayment", &charge(unpaid, 2500, "tok_success")).await;
    assert_eq!(late.status, 422, "{}", late.text);

    let _placed = shop.customer.once("PlaceOrder", &order(paid, 2)).await.ok();
    let charged =
        shop.customer.once("ChargePayment", &charge(paid, 2500, "tok_success")).await.ok();
    assert_eq!(charged.json()["result"]["status"], "captured");
    let cancelled = shop.customer.once("CancelOrder", &cancel(paid)).await.ok();
    let path = format!("/v1/web/orders/{paid}");
    until("the refund to settle", Duration::from_secs(20), || async {
        let view = shop.customer.get_at(&path, &cancelled.position()).await.ok().json();
        (view["refunded"] == 2500).then_some(())
    })
    .await;
    shop.installation.check_journal().await;
}

#[tokio::test]
async fn an_unpaid_order_expires_and_its_stock_comes_back_but_not_a_paid_ones() {
    let installation = Installation::with_settings(&[("DAYBOOK_RESERVATION_S", "2")]).await;
    let shop = Shop::open_on(installation, 10).await;
    let (unpaid, paid) = (Uuid::new_v4(), Uuid::new_v4());
    let _placed = shop.customer.once("PlaceOrder", &order(paid, 1)).await.ok();
    let charged =
        shop.customer.once("ChargePayment", &charge(paid, 1250, "tok_success")).await.ok();
    assert_eq!(charged.json()["result"]["status"], "captured");
    let placed = shop.customer.once("PlaceOrder", &order(unpaid, 4)).await.ok();
    assert!(placed.json()["result"]["expires_at"].is_string(), "{}", placed.text);
    until("the unpaid order to expire", Duration::from_secs(30), || async {
        let view = web_order(&shop, unpaid, &placed.position()).await;
        (view["status"] == "expired").then_some(())
    })
    .await;
    let head = shop.installation.head().await.to_string();
    assert_eq!(web_order(&shop, paid, &head).await["status"], "paid");
    let stock = shop.mugs_at(&head).await;
    assert_eq!((&stock["on_hand"], &stock["reserved"]), (&json!(10), &json!(1)), "{stock}");
}

#[tokio::test]
async fn what_belongs_to_somebody_else_answers_as_what_does_not_exist() {
    let shop = Shop::open(10).await;
    let id = Uuid::new_v4();
    let placed = shop.customer.once("PlaceOrder", &order(id, 1)).await.ok();
    let nothing = Uuid::new_v4();

    for client in [&shop.stranger, &shop.customer] {
        assert_eq!(client.get(&format!("/v1/operator/orders/{id}")).await.status, 403);
        assert_eq!(client.get("/v1/events?after=0").await.status, 403);
        assert_eq!(client.get(&format!("/v1/streams/order-{id}")).await.status, 403);
    }
    let theirs = shop.stranger.get_at(&format!("/v1/web/orders/{id}"), &placed.position()).await;
    let none = shop.stranger.get_at(&format!("/v1/web/orders/{nothing}"), &placed.position()).await;
    assert_eq!((theirs.status, none.status), (404, 404));
    assert_eq!(theirs.json(), none.json(), "nothing tells them apart");
    let list = shop.stranger.get_at("/v1/web/orders", &placed.position()).await.ok();
    assert!(!list.text.contains(&id.to_string()), "{}", list.text);

    let head = shop.installation.head().await;
    for (name, body) in [
        ("CancelOrder", json!({"order_id": id, "reason": "mine now"})),
        ("ChargePayment", charge(id, 1250, "tok_success")),
    ] {
        let theirs = shop.stranger.once(name, &body).await;
        let mut body = body;
        body["order_id"] = json!(nothing);
        let none = shop.stranger.once(name, &body).await;
        assert_eq!((theirs.status, none.status), (422, 422), "{name}");
        assert_eq!(problem_code(&theirs), "order-unknown", "{name}");
        let strip = |text: &str, id: Uuid| text.replace(&id.to_string(), "ID");
        assert_eq!(strip(&theirs.text, id), strip(&none.text, nothing), "{name}");
    }
    assert_eq!(shop.installation.head().await, head);
    assert_eq!(web_order(&shop, id, &placed.position()).await["status"], "placed");
}

#[tokio::test]
async fn a_revoked_key_is_refused() {
    let shop = Shop::open(0).await;
    let key = shop.installation.key(Role::Operator).await;
    let client = shop.server.client(&key);
    assert_eq!(client.get("/v1/operator/stock").await.status, 200);
    // dbk_<id>_<secret>
    let id = key.split('_').nth(1).expect("a key has three parts");
    shop.installation.run_ok(&["keys", "revoke", id]).await;
    until("the key to be refused", Duration::from_secs(5), || async {
        (client.get("/v1/operator/stock").await.status == 401).then_some(())
    })
    .await;
}
