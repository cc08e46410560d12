//! Declared queries over HTTP: whose rows, how new, in which pages.

use std::time::{Duration, Instant};

use daybook_identity::Role;
use reqwest::Method;
use serde_json::Value;

use crate::kit::{Answer, Api, send};

/// A query of the customer's that asks for what was written at a position.
async fn ask(api: &Api, path: &str, key: &str, position: i64, prefer: &str) -> Answer {
    let request = api
        .request(Method::GET, path, key)
        .header("daybook-min-position", position.to_string())
        .header("prefer", prefer);
    send(request).await
}

#[tokio::test]
async fn who_has_written_reads_what_was_written() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let head = api.head().await;
    let path = format!("/v1/web/orders/{order_id}");
    let answer = ask(&api, &path, &api.customer, head, "wait=25").await;
    let order = answer.ok();
    assert_eq!((&order["order_id"], &order["total"]), (&Value::from(order_id), &Value::from(250)));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let position: i64 = answer.header("daybook-position").unwrap().parse().unwrap();
    assert!(position >= head);

    // The same answer is known by its ETag, another person's doesn't exist.
    let etag = answer.header("etag").unwrap();
    let same = api.request(Method::GET, &path, &api.customer).header("if-none-match", etag);
    let same = send(same).await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    assert_eq!(same.header("etag"), Some(etag));
    assert!(same.header("daybook-position").is_some());
    let stranger = api.key(Role::Customer).await.secret;
    let others = api.get(&path, &stranger).await.problem(404, "not-found");
    let none = "/v1/web/orders/0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10";
    assert_eq!(others, api.get(none, &stranger).await.problem(404, "not-found"));
    let theirs = api.get("/v1/web/orders", &stranger).await.ok();
    assert_eq!(theirs, serde_json::json!({"items": [], "next": null}));

    // An operator's figures may be asked for again by their ETag.
    let operators = api
        .get(&format!("/v1/operator/orders/{}", order["order_id"].as_str().unwrap()), &api.operator)
        .await;
    operators.ok();
    assert_eq!(operators.header("cache-control"), Some("private, no-cache"));
    api.stop().await;
}

#[tokio::test]
async fn each_query_is_for_its_roles() {
    let api = Api::start().await;
    let partner = api.key(Role::Partner).await.secret;
    let analyst = api.key(Role::Analyst).await.secret;
    for (path, allowed) in [
        ("/v1/web/orders", &api.customer),
        ("/v1/partner/orders", &partner),
        ("/v1/operator/orders", &api.operator),
    ] {
        for key in [&api.customer, &partner, &api.operator, &analyst] {
            let answer = api.get(path, key).await;
            if key == allowed {
                answer.ok();
            } else {
                answer.problem(403, "forbidden");
            }
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn a_read_model_that_is_not_there_yet_is_503_or_older_as_the_client_likes() {
    let api = Api::start().await;
    api.product("A", 10).await;
    api.order("A", "order").await;
    let head = api.head().await;
    let path = "/v1/web/orders";

    let started = Instant::now();
    let stale = ask(&api, path, &api.customer, head, "wait=1").await;
    assert_eq!(stale.problem(503, "stale")["position"], "0");
    assert!(stale.header("retry-after").is_some());
    assert!(started.elapsed() >= Duration::from_secs(1), "it has waited");

    let older = ask(&api, path, &api.customer, head, "handling=lenient").await;
    assert_eq!(older.ok()["items"], serde_json::json!([]));
    assert_eq!(older.header("daybook-position"), Some("0"));

    // No waiting for what can't come: a position of another history.
    let started = Instant::now();
    let beyond = ask(&api, path, &api.customer, head + 1_000, "wait=30").await;
    beyond.ok();
    assert!(started.elapsed() < Duration::from_secs(10));
    api.stop().await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    for n in 0..5 {
        api.order("A", &format!("order-{n}")).await;
    }
    let head = api.head().await;
    let path = "/v1/web/orders?limit=2";
    let mut page = ask(&api, path, &api.customer, head, "wait=25").await.ok();
    let mut seen = Vec::new();
    loop {
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|order| order["order_id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next"].as_str() else { break };
        page = api.get(&format!("{path}&cursor={cursor}"), &api.customer).await.ok();
    }
    let whole = api.get("/v1/web/orders", &api.customer).await.ok();
    let all: Vec<_> = whole["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["order_id"].as_str().unwrap())
        .collect();
    assert_eq!((seen.len(), seen), (5, all.iter().map(|id| (*id).to_owned()).collect()));
    api.stop().await;
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_its_place() {
    let api = Api::start().await;
    for (path, field, place) in [
        ("/v1/web/orders/7", "order_id", "path"),
        ("/v1/web/orders?limit=0", "limit", "query"),
        ("/v1/web/orders?limit=501", "limit", "query"),
        ("/v1/web/orders?cursor=x", "cursor", "query"),
        ("/v1/web/orders?colour=red", "colour", "query"),
        ("/v1/web/orders?customer_id=0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10", "customer_id", "query"),
        ("/v1/web/orders?status=a&status=b", "status", "query"),
        ("/v1/web/orders?status=%00", "status", "query"),
    ] {
        let problem = api.get(path, &api.customer).await.problem(400, "invalid-request");
        assert_eq!((&problem["field"], &problem["in"]), (&Value::from(field), &Value::from(place)));
    }
    let wrong = ask(&api, "/v1/web/orders", &api.customer, -1, "wait=1").await;
    assert_eq!(wrong.problem(400, "invalid-request")["field"], "Daybook-Min-Position");
    api.stop().await;
}
