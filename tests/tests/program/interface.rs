//! The pages that describe the interface: health, metrics, OpenAPI, events, streams.

use daybook_tests::{Role, Shop, order};
use serde_json::Value;
use uuid::Uuid;

const COMMANDS: [&str; 12] = [
    "AddProduct",
    "ChangePrice",
    "ReceiveStock",
    "AdjustStock",
    "PlaceOrder",
    "ChargePayment",
    "RecordPayment",
    "CancelOrder",
    "ShipOrder",
    "DeliverOrder",
    "ReturnItems",
    "RefundPayment",
];

#[tokio::test]
async fn openapi_names_every_command_and_query_and_health_and_metrics_answer() {
    let shop = Shop::open(1).await;
    let nobody = shop.server.client("");
    let spec = nobody.get("/openapi.json").await.ok().json();
    assert!(spec["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{}", spec["openapi"]);
    for name in COMMANDS {
        let post = &spec["paths"][format!("/v1/commands/{name}")]["post"];
        assert!(post["requestBody"].is_object(), "{name}");
        assert!(post["responses"]["200"].is_object(), "{name}");
    }
    for path in [
        "/v1/web/orders",
        "/v1/web/orders/{order_id}",
        "/v1/operator/orders/{order_id}",
        "/v1/operator/stock/{sku}",
        "/v1/operator/sales/by-day",
        "/v1/events",
        "/v1/streams/{stream}",
    ] {
        assert!(spec["paths"][path]["get"].is_object(), "{path}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
    assert_eq!(nobody.get("/readyz").await.json(), serde_json::json!({"ready": true}));
    assert_eq!(nobody.get("/metrics").await.status, 404, "not for everybody");
    let operations = shop.server.operations();
    assert_eq!(operations.get("/v1/web/orders").await.status, 404);
    assert_eq!(operations.get("/readyz").await.ok().json()["parts"]["writer"]["state"], "ok");
    let metrics = operations.get("/metrics").await.ok();
    assert!(metrics.text.lines().any(|line| line.starts_with("# TYPE ")), "{}", metrics.text);
}

#[tokio::test]
async fn events_are_read_page_by_page_without_a_gap() {
    let shop = Shop::open(10).await;
    let analyst = shop.server.client(&shop.installation.key(Role::Analyst).await);
    for _ in 0..3 {
        let _placed = shop.customer.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
    }
    let head = shop.installation.head().await;
    let (mut after, mut seen) = (0, Vec::new());
    while after < head {
        let page = analyst.get(&format!("/v1/events?after={after}&limit=3")).await.ok();
        assert!(page.headers["content-type"].to_str().is_ok_and(|t| t.contains("ndjson")));
        let events: Vec<Value> = page
            .text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line is an event"))
            .collect();
        assert!((1..=3).contains(&events.len()));
        after = events.last().and_then(|event| event["position"].as_i64()).expect("a position");
        seen.extend(events);
    }
    let positions: Vec<i64> = seen.iter().filter_map(|event| event["position"].as_i64()).collect();
    assert_eq!(positions, (1..=head).collect::<Vec<_>>());
    assert_eq!(seen[0]["type"], "ProductAdded");
    assert_eq!(seen[0]["data"]["sku"], "MUG");
    assert_eq!(shop.operator.get("/v1/streams/order-nothing").await.status, 404);
    let stream = shop.operator.get("/v1/streams/product-MUG").await.ok().json();
    assert_eq!(stream["items"][0]["version"], 1);
}

#[tokio::test]
async fn a_read_is_at_least_as_new_as_the_position_it_names_or_stale() {
    let shop = Shop::open(10).await;
    let id = Uuid::new_v4();
    let placed = shop.customer.once("PlaceOrder", &order(id, 1)).await.ok();
    let path = format!("/v1/web/orders/{id}");
    let answer = shop.customer.get_at(&path, &placed.position()).await.ok();
    assert_eq!(answer.json()["status"], "placed");
    // For a customer a position is a text that tells nothing.
    let reached = answer.headers["daybook-position"].to_str().expect("text");
    assert!(reached.len() > 40 && placed.position().len() > 40, "{reached}");
    // The same answer is not sent twice to who has it.
    let etag = answer.headers["etag"].to_str().expect("text");
    let headers = [("if-none-match", etag)];
    let again = shop.customer.send(reqwest::Method::GET, &path, &headers, Vec::new()).await;
    assert_eq!(again.expect("an answer").status, 304);
    // A position that does not exist is not waited for.
    let headers = [("daybook-min-position", "999999999"), ("prefer", "wait=20")];
    let since = std::time::Instant::now();
    let operators = format!("/v1/operator/orders/{id}");
    let beyond = shop.operator.send(reqwest::Method::GET, &operators, &headers, Vec::new()).await;
    assert_eq!(beyond.expect("an answer").status, 200);
    assert!(since.elapsed().as_secs() < 15, "answered at once");
}
