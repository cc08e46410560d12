//! Declared queries over HTTP: whose rows, how new, in which pages.

use std::time::{Duration, Instant};

use daybook_api::Limits;
use daybook_identity::Role;
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{Answer, Api, Live, send};

/// A query of the customer's that asks for what was written at a position.
async fn ask(api: &Api, path: &str, key: &str, position: i64, prefer: &str) -> Answer {
    let request = api
        .request(Method::GET, path, key)
        .header("daybook-min-position", api.shown(path, position))
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
    assert!(api.opened(answer.header("daybook-position").unwrap()) >= head);

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
    let none = api.shown(path, 0);
    assert_eq!(stale.problem(503, "stale")["position"], none);
    assert!(stale.header("retry-after").is_some());
    assert_eq!(stale.header("daybook-position"), Some(none.as_str()));
    assert!(started.elapsed() >= Duration::from_secs(1), "it has waited");

    let older = ask(&api, path, &api.customer, head, "handling=lenient").await;
    assert_eq!(older.ok()["items"], serde_json::json!([]));
    assert_eq!(older.header("daybook-position"), Some(none.as_str()));

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
    let wrong = ask(&api, "/v1/operator/orders", &api.operator, -1, "wait=1").await;
    assert_eq!(wrong.problem(400, "invalid-request")["field"], "Daybook-Min-Position");
    api.stop().await;
}

/// The offers of the tests' own projection, as new as the journal.
async fn offers(api: &Api, query: &str, accept: &str) -> Answer {
    let path = format!("/v1/operator/offers{query}");
    let request = api
        .request(Method::GET, &path, &api.operator)
        .header("daybook-min-position", api.head().await.to_string())
        .header("prefer", "wait=25")
        .header("accept", accept);
    send(request).await
}

#[tokio::test]
async fn a_list_is_sent_in_the_formats_it_is_declared_with() {
    let api = Api::start().await;
    api.project();
    let head = "sku,price,was,name,history\r\n";
    let none = offers(&api, "", "text/csv").await;
    assert_eq!((none.status.as_u16(), none.text.as_str()), (200, head), "a header all the same");

    for (sku, name) in [("A", "=1+1"), ("B", "a, \"b\" c"), ("C", "plain")] {
        let product = json!({"sku": sku, "name": name, "price": 250, "currency": "GBP"});
        send(api.command("AddProduct", &format!("add-{sku}"), &product)).await.ok();
    }
    let price = json!({"sku": "B", "price": 300, "currency": "GBP"});
    send(api.command("ChangePrice", "price", &price)).await.ok();

    let csv = offers(&api, "", "text/csv").await;
    assert_eq!(csv.status, 200, "{csv:?}");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(csv.header("vary"), Some("Authorization, Accept"));
    assert_eq!(csv.header("link"), None);
    let rows = "A,250,,'=1+1,[]\r\nB,300,250,\"a, \"\"b\"\" c\",[300]\r\nC,250,,plain,[]\r\n";
    assert_eq!(csv.text, format!("{head}{rows}"));

    let ndjson = offers(&api, "", "application/x-ndjson").await;
    assert_eq!(ndjson.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        ndjson.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let json = offers(&api, "", "application/json").await;
    assert_eq!(json.ok()["items"], Value::from(lines));
    assert_eq!(json.json()["items"][0]["name"], "=1+1", "elsewhere a text is itself");

    // Each format is known by an ETag of its own.
    let etag = csv.header("etag").unwrap();
    assert!(Some(etag) != json.header("etag") && Some(etag) != ndjson.header("etag"));
    let again = api
        .request(Method::GET, "/v1/operator/offers", &api.operator)
        .header("accept", "text/csv")
        .header("if-none-match", etag);
    assert_eq!(send(again).await.status, 304);

    // Page by page: the link leads on, in the same format, to the end.
    let mut seen = String::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = offers(&api, &query, "text/csv").await;
        seen.push_str(page.text.strip_prefix(head).unwrap());
        let Some(link) = page.header("link") else { break };
        let (path, kind) = link.strip_prefix('<').unwrap().split_once(">; ").unwrap();
        assert_eq!(kind, "rel=\"next\"");
        query = path.strip_prefix("/v1/operator/offers").unwrap().to_owned();
        assert!(query.contains("limit=2"), "{query}");
    }
    assert_eq!(seen, rows);
    api.stop().await;
}

#[tokio::test]
async fn a_format_that_a_query_does_not_have_is_406_and_says_which_it_has() {
    let api = Api::start().await;
    let refused = offers(&api, "", "application/xml, text/html;q=0.5").await;
    let problem = refused.problem(406, "not-acceptable");
    assert_eq!(problem["offered"], json!(["application/json", "application/x-ndjson", "text/csv"]));
    let one = api.request(Method::GET, "/v1/operator/offers/A", &api.operator);
    let problem = send(one.header("accept", "text/csv")).await.problem(406, "not-acceptable");
    assert_eq!(problem["offered"], json!(["application/json"]));
    api.stop().await;
}

#[tokio::test]
async fn thousands_wait_for_a_position_at_once_and_those_beyond_the_limit_are_told_so() {
    const WAITERS: usize = 2_000;
    let limits =
        Limits { waiters: WAITERS, prefer_wait: Duration::from_mins(5), ..Limits::default() };
    let api = Api::start_with(limits).await;
    api.product("A", 10).await;
    let head = api.head().await;
    let waiting = || {
        let request = api
            .request(Method::GET, "/v1/operator/stock/A", &api.operator)
            .header("daybook-min-position", head.to_string())
            .header("prefer", "wait=300");
        tokio::spawn(send(request))
    };
    let mut waiters: FuturesUnordered<_> = (0..=WAITERS).map(|_| waiting()).collect();

    // Nothing is projected: all wait but the one for whom there is no room.
    let full = waiters.next().await.unwrap().unwrap();
    let problem = full.problem(503, "too-busy");
    assert_eq!((&problem["limit"], &problem["at_most"]), (&json!("waiters"), &json!(WAITERS)));
    assert!(full.header("retry-after").is_some());
    // Who does not wait is answered.
    api.get("/v1/operator/offers", &api.operator).await.ok();

    api.project();
    while let Some(answer) = waiters.next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.ok()["on_hand"], 10);
        let position: i64 = answer.header("daybook-position").unwrap().parse().unwrap();
        assert!(position >= head);
    }
    api.stop().await;
}

#[tokio::test]
async fn customers_and_partners_see_no_position_that_tells_how_much_the_shop_sells() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let partner = api.key(Role::Partner).await.secret;
    let place = async |key: &str| {
        let body = json!({"currency": "GBP", "lines": [{"sku": "A", "quantity": 1}]});
        let placed = send(api.command_of(&partner, "PlaceOrder", key, &body)).await;
        let position = placed.ok()["position"].as_str().unwrap().to_owned();
        assert_eq!(placed.header("daybook-position"), Some(position.as_str()));
        assert_eq!(api.opened(&position), api.head().await);
        let streams = placed.ok()["streams"].as_array().unwrap().clone();
        assert_eq!(streams.len(), 1, "not the product's stock: {streams:?}");
        assert!(streams[0]["stream"].as_str().unwrap().starts_with("order-"));
        let known = api.get(&format!("/v1/commands/by-key/{key}"), &partner).await;
        assert_eq!(known.ok()["position"], position, "equal positions have equal tokens");
        position
    };
    place("one").await;
    let last = place("two").await;
    let get = async |query: &str, accept: &str| {
        let path = format!("/v1/partner/orders/changes{query}");
        let request = api.request(Method::GET, &path, &partner).header("accept", accept);
        send(request.header("daybook-min-position", &last).header("prefer", "wait=25")).await
    };
    let all = get("", "application/json").await.ok();
    let changes: Vec<&str> =
        all["items"].as_array().unwrap().iter().map(|o| o["change"].as_str().unwrap()).collect();
    assert_eq!(changes.len(), 2);
    assert!(api.opened(changes[0]) < api.opened(changes[1]));
    let csv = get("", "text/csv").await.text;
    assert!(csv.contains(changes[0]) && csv.contains(changes[1]), "{csv}");
    let one = get(&format!("?after={}", changes[0]), "application/json").await.ok();
    assert_eq!(one["items"], json!([all["items"][1]]));

    // Pages go on at a cursor that can't be read, and is good for its query alone.
    let first = get("?limit=1", "application/json").await.ok();
    let cursor = first["next"].as_str().unwrap();
    let next = get(&format!("?limit=1&cursor={cursor}"), "application/json").await.ok();
    assert_eq!(next["items"], json!([all["items"][1]]));
    let elsewhere = api.get(&format!("/v1/partner/orders?cursor={cursor}"), &partner).await;
    assert_eq!(elsewhere.problem(400, "invalid-request")["field"], "cursor");

    // Numbers are no positions here: trying them would find the newest.
    let head = api.head().await;
    let of_another = api.shown_of(Uuid::nil(), "/v1/partner/", head);
    for (after, detail) in [(head.to_string(), "must be a position"), (of_another, "begin anew")] {
        let refused = get(&format!("?after={after}"), "application/json").await;
        let problem = refused.problem(400, "invalid-request");
        assert_eq!(problem["field"], "after");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let number = api.request(Method::GET, "/v1/partner/orders", &partner);
    let number = send(number.header("daybook-min-position", head.to_string())).await;
    assert_eq!(number.problem(400, "invalid-request")["field"], "Daybook-Min-Position");

    // What is followed has them sealed as well, also where it is evaluated anew.
    let mut live = Live::open(api.request(Method::GET, "/v1/partner/orders/live", &partner)).await;
    live.next().await.unwrap();
    place("three").await;
    let event = live.next().await.unwrap();
    assert!(api.opened(&event.id.clone().unwrap()) > head);
    assert!(api.opened(event.json()["items"][0]["change"].as_str().unwrap()) > head);
    api.stop().await;
}
