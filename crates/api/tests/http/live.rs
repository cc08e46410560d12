//! Answers that are followed: who sees what changes, once for all, until when.

use std::time::Duration;

use daybook_api::Limits;
use daybook_identity::Role;
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::kit::{Api, Live, send};

/// A request for the stream of a query, as new as the journal.
async fn follow(api: &Api, path: &str, key: &str) -> RequestBuilder {
    api.request(Method::GET, path, key)
        .header("accept", "text/event-stream")
        .header("daybook-min-position", api.shown(path, api.head().await))
        .header("prefer", "wait=25")
}

async fn open(api: &Api, path: &str, key: &str) -> Live {
    Live::open(follow(api, path, key).await).await
}

async fn price(api: &Api, sku: &str, price: i64) {
    let body = json!({"sku": sku, "price": price, "currency": "GBP"});
    send(api.command("ChangePrice", &format!("price-{sku}-{price}"), &body)).await.ok();
}

/// Evaluations of a followed query so far.
async fn evaluations(api: &Api, query: &str) -> u64 {
    let metrics = api.operations("/metrics").await.text;
    let name = format!("daybook_live_evaluations_total{{query=\"{query}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse().unwrap())
}

#[tokio::test]
async fn an_orders_page_updates_itself_when_the_order_changes() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let head = api.head().await;
    let path = format!("/v1/web/orders/{order_id}");
    let mut live = open(&api, &format!("{path}/live"), &api.customer).await;
    assert_eq!(live.header("content-type"), Some("text/event-stream"));
    assert_eq!(live.header("cache-control"), Some("no-store"));
    let position = live.header("daybook-position").unwrap().to_owned();
    assert!(api.opened(&position) >= head);

    let first = live.next().await.unwrap();
    assert_eq!(first.id.as_ref(), Some(&position));
    assert_eq!((first.name.as_str(), &first.json()["status"]), ("message", &json!("placed")));
    let page = api.get(&path, &api.customer).await.ok();
    assert_eq!(first.json(), page);

    // Somebody else's order changes, and then this one.
    api.order("A", "another").await;
    let cancel = json!({"order_id": order_id, "reason": "changed my mind"});
    let cancelled = send(api.command_of(&api.customer, "CancelOrder", "cancel", &cancel)).await;
    let position = cancelled.ok()["position"].as_str().unwrap().to_owned();
    let second = live.next().await.unwrap();
    assert!(api.opened(&second.id.clone().unwrap()) >= api.opened(&position), "{second:?}");
    assert_eq!(second.json()["status"], "cancelled");
    assert_eq!(second.json(), api.get(&path, &api.customer).await.ok());
    api.stop().await;
}

#[tokio::test]
async fn somebody_elses_order_has_no_stream_as_it_has_no_page() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let path = format!("/v1/web/orders/{order_id}");
    // Its owner follows it meanwhile.
    let mut owners = open(&api, &format!("{path}/live"), &api.customer).await;
    owners.next().await.unwrap();

    let stranger = api.key(Role::Customer).await.secret;
    let page = api.get(&path, &stranger).await.problem(404, "not-found");
    let stream = send(follow(&api, &format!("{path}/live"), &stranger).await).await;
    assert_eq!(stream.problem(404, "not-found"), page);
    let partner = api.key(Role::Partner).await.secret;
    let stream = send(follow(&api, &format!("{path}/live"), &partner).await).await;
    stream.problem(403, "forbidden");
    send(follow(&api, &format!("{path}/live"), "").await).await.problem(401, "unauthenticated");
    // Whatever they have tried, its owner still sees it.
    let cancel = json!({"order_id": order_id, "reason": "changed my mind"});
    send(api.command_of(&api.customer, "CancelOrder", "cancel", &cancel)).await.ok();
    let changed = owners.next().await.unwrap();
    assert_eq!(
        (changed.name.as_str(), &changed.json()["status"]),
        ("message", &json!("cancelled"))
    );
    api.stop().await;
}

#[tokio::test]
async fn a_change_is_evaluated_once_for_all_who_follow_the_same() {
    const SUBSCRIBERS: usize = 2_000;
    let limits = Limits { streams_of_principal: SUBSCRIBERS, ..Limits::default() };
    let api = Api::start_with(limits).await;
    api.project();
    api.product("A", 10).await;
    let path = "/v1/operator/offers/A/live";
    let mut opening: FuturesUnordered<_> =
        (0..SUBSCRIBERS).map(|_| open(&api, path, &api.operator)).collect();
    let mut subscribers = Vec::new();
    while let Some(mut live) = opening.next().await {
        assert_eq!(live.next().await.unwrap().json()["price"], 250);
        subscribers.push(live);
    }
    drop(opening);

    for (round, new_price) in [300, 350, 400].into_iter().enumerate() {
        let before = evaluations(&api, "operator_offer").await;
        price(&api, "A", new_price).await;
        for live in &mut subscribers {
            assert_eq!(live.next().await.unwrap().json()["price"], new_price);
        }
        // What was told before the first may be looked at still.
        if round > 0 {
            assert_eq!(evaluations(&api, "operator_offer").await, before + 1);
        }
    }
    let metrics = api.operations("/metrics").await.text;
    assert!(metrics.contains(&format!("daybook_live_streams {SUBSCRIBERS}")), "{metrics}");
    api.stop().await;
}

#[tokio::test]
async fn a_list_is_followed_too_and_a_query_that_is_not_live_can_not_be() {
    let api = Api::start().await;
    api.project();
    let mut live = open(&api, "/v1/operator/offers/live?limit=1", &api.operator).await;
    assert_eq!(live.next().await.unwrap().json(), json!({"items": [], "next": null}));
    api.product("B", 1).await;
    let one = live.next().await.unwrap().json();
    assert_eq!((&one["items"][0]["sku"], &one["next"]), (&json!("B"), &Value::Null));
    api.product("A", 1).await;
    let one = live.next().await.unwrap().json();
    assert_eq!(one["items"][0]["sku"], "A");
    assert!(one["next"].is_string(), "{one}");

    let total = api.get("/v1/operator/offers-total/live", &api.operator).await;
    total.problem(404, "not-found");
    api.get("/v1/operator/offers-total", &api.operator).await.ok();
    let json = api.request(Method::GET, "/v1/operator/offers/live", &api.operator);
    let json = send(json.header("accept", "application/json")).await;
    assert_eq!(json.problem(406, "not-acceptable")["offered"], json!(["text/event-stream"]));
    let wrong = api.get("/v1/operator/offers/live?limit=x", &api.operator).await;
    assert_eq!(wrong.problem(400, "invalid-request")["field"], "limit");
    api.stop().await;
}

#[tokio::test]
async fn who_comes_back_is_sent_what_has_changed_and_nothing_else() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let path = "/v1/operator/offers/A/live";
    let mut live = open(&api, path, &api.operator).await;
    let first = live.next().await.unwrap();
    drop(live);
    // Something else happens meanwhile.
    api.product("B", 10).await;

    let again = follow(&api, path, &api.operator).await;
    let mut live = Live::open(again.header("last-event-id", first.id.clone().unwrap())).await;
    price(&api, "A", 300).await;
    let next = live.next().await.unwrap();
    assert_eq!(next.json()["price"], 300, "the answer that was seen is not sent again");

    let stale = follow(&api, path, &api.operator).await;
    let mut live = Live::open(stale.header("last-event-id", first.id.clone().unwrap())).await;
    assert_eq!(live.next().await.unwrap().json()["price"], 300);
    // What is no position of ours is as good as none.
    let odd = follow(&api, path, &api.operator).await;
    let mut live = Live::open(odd.header("last-event-id", "x")).await;
    assert_eq!(live.next().await.unwrap().json()["price"], 300);
    api.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it_and_no_other() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let (ending, staying) = (api.key(Role::Operator).await, api.key(Role::Operator).await);
    let path = "/v1/operator/offers/A/live";
    let mut ended = open(&api, path, &ending.secret).await;
    let mut other = open(&api, path, &staying.secret).await;
    ended.next().await.unwrap();
    other.next().await.unwrap();
    // As another process would: nothing here is told.
    api.sql(&format!(
        "update identity.api_keys set revoked_at = clock_timestamp() where id = '{}'",
        ending.id
    ))
    .await;
    let last = ended.next().await.unwrap();
    assert_eq!((last.name.as_str(), last.json()), ("end", json!({"reason": "key-ended"})));
    assert!(ended.next().await.is_none(), "the connection ends");
    price(&api, "A", 300).await;
    assert_eq!(other.next().await.unwrap().json()["price"], 300);
    api.stop().await;
}

#[tokio::test]
async fn at_shutdown_streams_end_and_say_when_to_come_back() {
    let mut api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let mut live = open(&api, "/v1/operator/offers/A/live", &api.operator).await;
    live.next().await.unwrap();
    api.begin_shutdown();
    let last = live.next().await.unwrap();
    assert_eq!((last.name.as_str(), last.json()), ("end", json!({"reason": "shutdown"})));
    let retry = live.retry.unwrap();
    assert!((1_000..5_000).contains(&retry), "{retry}");
    assert!(live.next().await.is_none());
    api.shut_down().await.unwrap();
    api.stop().await;
}

#[tokio::test]
async fn streams_are_limited_in_all_and_by_principal_and_make_room_when_they_close() {
    let limits = Limits { streams: 2, streams_of_principal: 1, ..Limits::default() };
    let api = Api::start_with(limits).await;
    api.project();
    let path = "/v1/operator/offers/live";
    let (second, third) = (api.key(Role::Operator).await, api.key(Role::Operator).await);
    let mine = open(&api, path, &api.operator).await;
    let own = send(follow(&api, path, &api.operator).await).await;
    assert_eq!(own.problem(429, "too-many-streams")["at_most"], 1);
    assert!(own.header("retry-after").is_some());
    let theirs = open(&api, path, &second.secret).await;
    let full = send(follow(&api, path, &third.secret).await).await;
    assert_eq!(full.problem(503, "too-busy")["limit"], "streams");
    drop(mine);
    // The server notices when the connection has closed.
    let opened = async {
        loop {
            let request = follow(&api, path, &third.secret).await;
            let response = request.send().await.unwrap();
            if response.status() == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opened).await.expect("there is room again");
    drop(theirs);
    api.stop().await;
}
