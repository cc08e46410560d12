//! Streams and events as they are read over HTTP.

use daybook_identity::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Answer, Api, send};

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_stream_is_read_page_by_page_to_its_end() {
    let api = Api::start().await;
    api.product("a/b c", 1).await;
    for n in 0..3 {
        let body = json!({"sku": "a/b c", "quantity": n + 1});
        send(api.command("ReceiveStock", &format!("k{n}"), &body)).await.ok();
    }
    let auditor = api.key(Role::Auditor).await.secret;
    let path = "/v1/streams/stock-a%2Fb%20c";
    let mut from = "1".to_owned();
    let mut versions = Vec::new();
    loop {
        let page = api.get(&format!("{path}?from_version={from}&limit=3"), &auditor).await.ok();
        for event in page["items"].as_array().unwrap() {
            assert_eq!(event["stream"], "stock-a/b c");
            assert_eq!(event["type"], "StockReceived");
            assert_eq!(event["data"]["sku"], "a/b c");
            versions.push(event["version"].as_i64().unwrap());
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut from),
            None => break,
        }
    }
    assert_eq!(versions, [1, 2, 3, 4]);

    let newest = api.get(&format!("{path}?direction=backward&limit=3"), &auditor).await.ok();
    let versions: Vec<_> =
        newest["items"].as_array().unwrap().iter().map(|e| e["version"].clone()).collect();
    assert_eq!((json!(versions), &newest["next"]), (json!([4, 3, 2]), &json!("1")));
    let rest = format!("{path}?direction=backward&limit=3&from_version=1");
    let rest = api.get(&rest, &auditor).await.ok();
    assert_eq!((&rest["items"][0]["version"], &rest["next"]), (&json!(1), &Value::Null));

    let beyond = api.get(&format!("{path}?from_version=9"), &auditor).await.ok();
    assert_eq!(beyond, json!({"items": [], "next": null}));
    api.get("/v1/streams/stock-none", &auditor).await.problem(404, "not-found");
    api.get("/v1/streams/stock-none?from_version=2", &auditor).await.problem(404, "not-found");
    api.get("/v1/streams/stock%00", &auditor).await.problem(404, "not-found");
    for (query, field) in [
        ("from_version=0", "from_version"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("direction=up", "direction"),
        ("page=2", "page"),
    ] {
        let answer = api.get(&format!("{path}?{query}"), &auditor).await;
        assert_eq!(answer.problem(400, "invalid-request")["field"], field);
    }
    api.stop().await;
}

#[tokio::test]
async fn all_events_are_read_in_order_and_the_answer_says_where_to_go_on() {
    let api = Api::start().await;
    api.product("A", 5).await;
    api.product("B", 5).await;
    api.order("A", "order").await;
    let head = api.head().await;
    let all = lines(&api.get("/v1/events", &api.operator).await);
    let positions: Vec<_> = all.iter().map(|e| e["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (1..=head).collect::<Vec<_>>());

    let mut path = "/v1/events?limit=2".to_owned();
    let mut read = Vec::new();
    loop {
        let page = api.get(&path, &api.operator).await;
        read.extend(lines(&page));
        let Some(link) = page.header("link") else {
            assert_eq!(page.header("daybook-position"), Some(head.to_string().as_str()));
            break;
        };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(read, all, "page by page is the same");

    let filtered = api.get("/v1/events?types=OrderPlaced,StockReserved", &api.operator).await;
    let types: Vec<_> = lines(&filtered).iter().map(|e| e["type"].clone()).collect();
    assert_eq!(types, ["OrderPlaced", "StockReserved"]);
    assert_eq!(filtered.header("daybook-position"), Some(head.to_string().as_str()));
    let prefixed = lines(&api.get("/v1/events?stream_prefix=product-", &api.operator).await);
    assert_eq!(prefixed.len(), 2);
    // What one request set in motion, by its id.
    let order = all.iter().find(|event| event["type"] == "OrderPlaced").unwrap();
    let correlation = order["meta"]["correlation"].as_str().unwrap();
    let path = format!("/v1/events?correlation={correlation}");
    let related = lines(&api.get(&path, &api.operator).await);
    assert_eq!(related.iter().map(|e| e["type"].clone()).collect::<Vec<_>>().len(), 2);
    let until = lines(&api.get("/v1/events?until=2", &api.operator).await);
    assert_eq!(until, all[..2]);
    // A filter that lets nothing through still says how far was looked.
    let none = api.get(&format!("/v1/events?after={head}"), &api.operator).await;
    assert_eq!((lines(&none).len(), none.header("link")), (0, None));
    assert_eq!(none.header("daybook-position"), Some(head.to_string().as_str()));

    for (query, field) in [
        ("after=-1", "after"),
        ("until=x", "until"),
        ("limit=1000001", "limit"),
        ("types=Nope", "types"),
        ("correlation=x", "correlation"),
        ("stream_prefix=%00", "stream_prefix"),
        ("type=OrderPlaced", "type"),
        ("after=1&after=2", "after"),
    ] {
        let answer = api.get(&format!("/v1/events?{query}"), &api.operator).await;
        assert_eq!(answer.problem(400, "invalid-request")["field"], field);
    }
    api.stop().await;
}

#[tokio::test]
async fn no_tenant_sees_another() {
    let api = Api::start().await;
    api.product("A", 5).await;
    let other = api.reader.add_tenant("other", 1).await.unwrap();
    let key = api.keys.create(other.id, Role::Operator, None, "o").await.unwrap().secret;
    assert_eq!(lines(&api.get("/v1/events", &key).await), Vec::<Value>::new());
    api.get("/v1/streams/stock-A", &key).await.problem(404, "not-found");
    api.get("/v1/commands/by-key/add-A", &key).await.problem(404, "key-unknown");
    // No writer of this process appends for that tenant.
    let body = json!({"sku": "A", "quantity": 1});
    let answer = send(api.command_of(&key, "ReceiveStock", "k", &body)).await;
    answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    api.stop().await;
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let api = Api::start().await;
    api.product("A", 5).await;
    let answer = send(api.request(Method::HEAD, "/v1/events", &api.operator)).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    assert_eq!(answer.header("daybook-position"), Some("2"));
    api.stop().await;
}
