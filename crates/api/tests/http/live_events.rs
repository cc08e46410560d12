//! The journal as it is followed over HTTP, and what clients that don't read it cost.

use std::time::Duration;

use daybook_api::Limits;
use daybook_identity::Role;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::kit::{Api, Live, LiveEvent, send};

/// Events of a journal that no buffer on the way can hold, and bytes of each one, about.
const MANY: i64 = 40_000;
const EVENT_BYTES: usize = 2_000;

fn follow(api: &Api, path: &str, key: &str) -> RequestBuilder {
    api.request(Method::GET, path, key).header("accept", "text/event-stream")
}

/// The next event's position and type, whose `id` must be the position.
async fn next(live: &mut Live) -> (i64, String) {
    let event = live.next().await.expect("the stream goes on");
    assert_eq!(event.name, "message", "{event:?}");
    let data = event.json();
    assert_eq!(event.id, Some(data["position"].to_string()));
    (data["position"].as_i64().unwrap(), data["type"].as_str().unwrap().to_owned())
}

fn reason(event: &LiveEvent) -> Value {
    assert_eq!(event.name, "end", "{event:?}");
    event.json()["reason"].clone()
}

/// A figure of the server's; 0 where it is not there yet.
async fn figure(api: &Api, name: &str) -> usize {
    let metrics = api.operations("/metrics").await.text;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn what_is_there_comes_first_and_then_each_event_once_as_it_happens() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let mut live = Live::open(follow(&api, "/v1/events/live?after=0", &api.operator)).await;
    assert_eq!(live.header("content-type"), Some("text/event-stream"));
    assert_eq!(live.header("cache-control"), Some("no-store"));
    assert_eq!(live.header("daybook-position"), Some("0"));
    assert_eq!(next(&mut live).await, (1, "ProductAdded".to_owned()));
    assert_eq!(next(&mut live).await, (2, "StockReceived".to_owned()));
    api.product("B", 10).await;
    assert_eq!(next(&mut live).await, (3, "ProductAdded".to_owned()));
    assert_eq!(next(&mut live).await, (4, "StockReceived".to_owned()));

    // The same event as in the list of all.
    let mut again = Live::open(follow(&api, "/v1/events/live?after=3", &api.operator)).await;
    let listed = api.get("/v1/events?after=3", &api.operator).await.json();
    assert_eq!(again.next().await.unwrap().json(), listed);

    // Who comes back goes on behind what it has, whatever the address says.
    let back = follow(&api, "/v1/events/live?after=0", &api.operator).header("last-event-id", "3");
    let mut back = Live::open(back).await;
    assert_eq!(next(&mut back).await.0, 4);
    // Who says nothing is sent what comes from now on.
    let mut new = Live::open(follow(&api, "/v1/events/live", &api.operator)).await;
    api.product("C", 1).await;
    assert_eq!(next(&mut new).await.0, 5);
    assert_eq!(next(&mut back).await.0, 5);
    api.stop().await;
}

#[tokio::test]
async fn filters_let_through_what_they_do_in_the_list_and_until_ends_it() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let path = "/v1/events/live?after=0&types=StockReceived,StockReserved&stream_prefix=stock-";
    let mut live = Live::open(follow(&api, path, &api.operator)).await;
    assert_eq!(next(&mut live).await, (2, "StockReceived".to_owned()));
    api.product("B", 10).await;
    assert_eq!(next(&mut live).await, (4, "StockReceived".to_owned()));
    api.order("B", "order").await;
    assert_eq!(next(&mut live).await.1, "StockReserved");

    let order = api.events().await.into_iter().find(|e| e.kind == "OrderPlaced").unwrap();
    let meta: Value = serde_json::from_str(&order.meta).unwrap();
    let until = api.head().await;
    let correlation = meta["correlation"].as_str().unwrap();
    let path = format!("/v1/events/live?after=0&correlation={correlation}&until={until}");
    let mut live = Live::open(follow(&api, &path, &api.operator)).await;
    let mut kinds = vec![next(&mut live).await.1, next(&mut live).await.1];
    kinds.sort();
    assert_eq!(kinds, ["OrderPlaced", "StockReserved"]);
    assert_eq!(reason(&live.next().await.unwrap()), "complete");
    assert!(live.next().await.is_none());
    api.stop().await;
}

#[tokio::test]
async fn what_can_not_be_followed_is_refused_by_name() {
    let api = Api::start().await;
    api.product("A", 10).await;
    for (query, field) in [
        ("after=-1", "after"),
        ("after=3", "after"),
        ("types=Nope", "types"),
        ("correlation=x", "correlation"),
        ("stream_prefix=%00", "stream_prefix"),
        ("limit=1", "limit"),
    ] {
        let answer = send(follow(&api, &format!("/v1/events/live?{query}"), &api.operator)).await;
        assert_eq!(answer.problem(400, "invalid-request")["field"], field, "{query}");
    }
    // From elsewhere: what comes before it would be left out in silence.
    for id in ["3", "x", "-1", ""] {
        let request = follow(&api, "/v1/events/live", &api.operator).header("last-event-id", id);
        let problem = send(request).await.problem(400, "invalid-request");
        assert_eq!(problem["field"], "last-event-id", "{id:?}");
    }
    let json = api.request(Method::GET, "/v1/events/live", &api.operator);
    let json = send(json.header("accept", "application/json")).await;
    assert_eq!(json.problem(406, "not-acceptable")["offered"], json!(["text/event-stream"]));
    for role in [Role::Customer, Role::Partner, Role::Admin] {
        let key = api.key(role).await.secret;
        send(follow(&api, "/v1/events/live", &key)).await.problem(403, "forbidden");
    }
    send(follow(&api, "/v1/events/live", "")).await.problem(401, "unauthenticated");
    for role in [Role::Analyst, Role::Auditor] {
        let key = api.key(role).await.secret;
        let mut live = Live::open(follow(&api, "/v1/events/live?after=1", &key)).await;
        assert_eq!(next(&mut live).await.0, 2);
    }
    // Another tenant's journal is another one, and empty.
    let other = api.reader.add_tenant("other", 1).await.unwrap();
    let key = api.keys.create(other.id, Role::Operator, None, "o").await.unwrap().secret;
    let answer = send(follow(&api, "/v1/events/live?after=1", &key)).await;
    assert_eq!(answer.problem(400, "invalid-request")["field"], "after");
    api.stop().await;
}

#[tokio::test]
async fn it_ends_with_its_key_and_at_shutdown_and_is_counted_with_other_streams() {
    let limits = Limits { streams_of_principal: 1, ..Limits::default() };
    let mut api = Api::start_with(limits).await;
    let (ending, staying) = (api.key(Role::Analyst).await, api.key(Role::Analyst).await);
    let mut ended = Live::open(follow(&api, "/v1/events/live", &ending.secret)).await;
    let mut other = Live::open(follow(&api, "/v1/events/live", &staying.secret)).await;
    let second = send(follow(&api, "/v1/events/live", &staying.secret)).await;
    assert_eq!(second.problem(429, "too-many-streams")["at_most"], 1);
    api.sql(&format!(
        "update identity.api_keys set revoked_at = clock_timestamp() where id = '{}'",
        ending.id
    ))
    .await;
    assert_eq!(reason(&ended.next().await.unwrap()), "key-ended");
    assert!(ended.next().await.is_none(), "the connection ends");
    api.product("A", 1).await;
    assert_eq!(next(&mut other).await.0, 1);
    assert_eq!(next(&mut other).await.0, 2);
    api.begin_shutdown();
    assert_eq!(reason(&other.next().await.unwrap()), "shutdown");
    assert!((1_000..5_000).contains(&other.retry.unwrap()));
    assert!(other.next().await.is_none());
    api.shut_down().await.unwrap();
    api.stop().await;
}

/// A client that asks and then reads nothing.
async fn stalled(api: &Api, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(api.address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", api.operator);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A client that reads nothing of more than fits on the way is cut off; what was made for it until
/// then is what fits, not the journal.
async fn is_cut_off(path: &str, route: &str) {
    let api = Api::start_with(Limits {
        write_wait: Duration::from_millis(500),
        replay_events: MANY,
        scan_positions: MANY,
        ..Limits::default()
    })
    .await;
    api.sql(&format!(
        "insert into journal.events (tenant, position, stream, version, type, schema_version, data,
             meta, occurred_at, recorded_at, mac)
         select {}, n, 'stock-bulk', n, 'StockReceived', 1,
             jsonb_build_object('sku', repeat('x', {EVENT_BYTES})), '{{}}', clock_timestamp(),
             clock_timestamp(), decode(repeat('00', 33), 'hex')
         from generate_series(1, {MANY}) as n",
        api.tenant.id
    ))
    .await;
    let mut slow = stalled(&api, path).await;
    let cut = async {
        while figure(&api, "daybook_http_connections_cut_total{reason=\"too-slow\"}").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), cut).await.expect("the connection is cut");
    let sent = format!("daybook_http_events_sent_total{{route=\"{route}\"}}");
    let made = figure(&api, &sent).await;
    let all = usize::try_from(MANY).unwrap();
    assert!(made > 0 && made < all / 4, "{made} of {MANY} were made for a client that is stalled");
    assert_eq!(figure(&api, "daybook_live_streams").await, 0, "its place is given back");

    // It sees that this was not all.
    let mut received = Vec::new();
    slow.read_to_end(&mut received).await.ok();
    assert!(received.starts_with(b"HTTP/1.1 200 "));
    assert!(!received.ends_with(b"0\r\n\r\n"), "an answer that was cut is not one that ended");
    assert!(received.len() < all * EVENT_BYTES / 4, "{}", received.len());

    // One that reads is sent everything, however long it takes.
    let mut reading = api.request(Method::GET, path, &api.operator).send().await.unwrap();
    let mut bytes = 0;
    while bytes < all * EVENT_BYTES {
        bytes += reading.chunk().await.unwrap().expect("there is more").len();
    }
    // Each event has more than its data.
    assert!(figure(&api, &sent).await > all * 3 / 4);
    api.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_what_it_follows_is_cut_off() {
    is_cut_off("/v1/events/live?after=0", "/v1/events/live").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_all_events_is_cut_off() {
    is_cut_off(&format!("/v1/events?limit={MANY}"), "/v1/events").await;
}
