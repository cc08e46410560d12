//! Queries as of a position or a time over HTTP: for whom, with which answers.

use std::time::Duration;

use daybook_api::Limits;
use daybook_identity::Role;
use daybook_projection::AsOfLimits;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Api, send};

#[tokio::test]
async fn an_order_is_shown_as_it_was_at_a_position_and_at_a_second() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let placed = api.head().await;
    let cancel = json!({"order_id": order_id, "reason": "changed my mind"});
    send(api.command("CancelOrder", "cancel", &cancel)).await.ok();
    let head = api.head().await;
    let path = format!("/v1/operator/orders/{order_id}");
    // No projector runs: what is answered comes from the journal.
    api.get(&path, &api.operator).await.problem(404, "not-found");

    let then = api.get(&format!("{path}?as_of={placed}"), &api.operator).await;
    assert_eq!(then.ok()["status"], "placed");
    assert_eq!(then.header("daybook-position"), Some(placed.to_string().as_str()));
    assert_eq!(then.header("cache-control"), Some("private, no-cache"));
    let now = api.get(&format!("{path}?as_of={head}"), &api.operator).await;
    assert_eq!(now.ok()["status"], "cancelled");
    let etag = then.header("etag").unwrap();
    let again = api.request(Method::GET, &format!("{path}?as_of={placed}"), &api.operator);
    let again = send(again.header("if-none-match", etag)).await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (304, Some(etag)));
    assert_ne!(now.header("etag"), Some(etag));

    let events = api.events().await;
    let recorded = |position: i64| {
        let event = events.iter().find(|event| event.position == position).unwrap();
        event.recorded_at
    };
    for (time, position) in [
        (recorded(placed), placed),
        (recorded(head), head),
        (recorded(head) - chrono::Duration::microseconds(1), placed),
    ] {
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let answer = api.get(&format!("{path}?as_of={time}"), &api.operator).await;
        answer.ok();
        assert_eq!(answer.header("daybook-position"), Some(position.to_string().as_str()));
    }
    // before the first event
    for early in ["0", "2001-01-01T00:00:00Z"] {
        api.get(&format!("{path}?as_of={early}"), &api.operator).await.problem(404, "not-found");
        let none = api.get(&format!("/v1/operator/orders?as_of={early}"), &api.operator).await;
        assert_eq!(none.ok(), json!({"items": [], "next": null}));
        assert_eq!(none.header("daybook-position"), Some("0"));
    }
    // sales of the day, from the whole journal
    let sales = |position: i64| format!("/v1/operator/sales/by-day?as_of={position}");
    let units = async |path: String| api.get(&path, &api.operator).await.ok()["items"].clone();
    let before = units(sales(placed - 2)).await;
    assert_eq!(before, json!([]));
    let sold = units(sales(placed)).await;
    assert_eq!((&sold[0]["units"], &sold[0]["cancelled_units"]), (&json!(1), &json!(0)));
    let sold = units(sales(head)).await;
    assert_eq!((&sold[0]["units"], &sold[0]["cancelled_units"]), (&json!(1), &json!(1)));
    api.stop().await;
}

#[tokio::test]
async fn only_operators_analysts_and_auditors_look_back() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let analyst = api.key(Role::Analyst).await.secret;
    let auditor = api.key(Role::Auditor).await.secret;
    let partner = api.key(Role::Partner).await.secret;
    let unknown = async |path: &str, key: &str| {
        let problem = api.get(path, key).await.problem(400, "invalid-request");
        assert_eq!((&problem["field"], &problem["in"]), (&json!("as_of"), &json!("query")));
        assert_eq!(problem["detail"], "There is no such parameter here.");
    };
    unknown("/v1/web/orders?as_of=1", &api.customer).await;
    unknown("/v1/mobile/orders?as_of=1", &api.customer).await;
    unknown("/v1/partner/orders?as_of=1", &partner).await;
    // a wrong value is not looked at before
    unknown("/v1/partner/orders?as_of=x", &partner).await;

    // nobody can follow what does not change
    unknown("/v1/operator/orders/live?as_of=1", &api.operator).await;

    let path = "/v1/operator/sales/by-day?as_of=1";
    api.get(path, &api.operator).await.ok();
    api.get(path, &analyst).await.ok();
    // a query is for its own roles, today as of any position
    for key in [&api.customer, &partner, &auditor] {
        api.get(path, key).await.problem(403, "forbidden");
    }
    api.get("/v1/operator/orders?as_of=1", &analyst).await.problem(403, "forbidden");

    let document = api.get("/openapi.json", "").await.ok();
    let offers = |path: &str| {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap().clone();
        parameters.iter().any(|p| p["$ref"] == "#/components/parameters/AsOf")
    };
    assert_eq!(document["components"]["parameters"]["AsOf"]["name"], "as_of");
    assert!(offers("/v1/operator/orders") && offers("/v1/operator/sales/by-day"));
    assert!(!offers("/v1/web/orders") && !offers("/v1/partner/orders"));
    // every shipped query that one of these roles may send can look back
    for (path, item) in document["paths"].as_object().unwrap() {
        let roles = item["get"]["x-roles"].as_array().cloned().unwrap_or_default();
        let is_query = item["get"]["tags"][0] == "Queries" && !path.ends_with("/live");
        if is_query && roles.iter().any(|r| ["operator", "analyst"].contains(&r.as_str().unwrap()))
        {
            assert!(offers(path), "{path}");
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn what_can_not_be_is_said_by_name() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let head = api.head().await;
    let path = "/v1/operator/stock";
    let refused = async |as_of: &str| {
        let answer = api.get(&format!("{path}?as_of={as_of}"), &api.operator).await;
        let problem = answer.problem(400, "invalid-request");
        assert_eq!((&problem["field"], &problem["in"]), (&json!("as_of"), &json!("query")));
        problem["detail"].as_str().unwrap().to_owned()
    };
    let ends = format!("The journal ends at position {head}: nothing is known beyond.");
    assert_eq!(refused(&(head + 1).to_string()).await, ends);
    assert_eq!(refused("99999999999999999999").await, ends);
    assert_eq!(refused("2999-01-01T00:00:00Z").await, "This time is still to come.");
    for odd in ["", "-1", "1.5", "yesterday", "2011-12-09", "2011-12-09T12:50:00", "1%00"] {
        assert!(refused(odd).await.starts_with("as_of is a position or a time"), "{odd}");
    }
    let both = api.request(Method::GET, &format!("{path}?as_of={head}"), &api.operator);
    let both = send(both.header("daybook-min-position", "1")).await;
    let problem = both.problem(400, "invalid-request");
    assert_eq!(
        (&problem["field"], &problem["in"]),
        (&json!("Daybook-Min-Position"), &json!("header"))
    );
    let twice = api.get(&format!("{path}?as_of=1&as_of=2"), &api.operator).await;
    assert_eq!(twice.problem(400, "invalid-request")["field"], "as_of");

    // a page goes on at its own position only
    for sku in ["B", "C"] {
        api.product(sku, 1).await;
    }
    let now = api.head().await;
    let list = |rest: &str| format!("{path}?limit=1{rest}");
    let first = api.get(&list(&format!("&as_of={now}")), &api.operator).await.ok();
    let cursor = first["next"].as_str().unwrap();
    let next = api.get(&list(&format!("&as_of={now}&cursor={cursor}")), &api.operator).await.ok();
    assert_eq!((&first["items"][0]["sku"], &next["items"][0]["sku"]), (&json!("A"), &json!("B")));
    for other in [format!("&cursor={cursor}"), format!("&as_of={head}&cursor={cursor}")] {
        let refused = api.get(&list(&other), &api.operator).await.problem(400, "invalid-request");
        assert_eq!(refused["field"], Value::from("cursor"));
    }
    api.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_worked_for() {
    let api = Api::start().await;
    api.product("A", 10).await;
    let path = "/v1/operator/stock?as_of=1";
    api.get(path, &api.operator).await.ok();
    let (mut locking, looking) = (api.client().await, api.client().await);
    // the statement waits for this lock
    let lock = locking.transaction().await.unwrap();
    lock.batch_execute("lock table projection.active in access exclusive mode").await.unwrap();
    let gone = tokio::spawn(send(api.request(Method::GET, path, &api.operator)));
    until_waiting(&looking, "%stock\\_\\_as\\_of%", 1).await;
    gone.abort();
    until_waiting(&looking, "%stock\\_\\_as\\_of%", 0).await;
    lock.commit().await.unwrap();
    api.get(path, &api.operator).await.ok();
    api.stop().await;
}

#[tokio::test]
async fn a_journal_that_does_not_say_which_position_it_is_ends_the_answer_at_its_deadline() {
    let as_of = AsOfLimits { deadline: Duration::from_secs(1), ..AsOfLimits::default() };
    let api = Api::start_with_all(Limits::default(), as_of).await;
    api.product("A", 10).await;
    let path = "/v1/operator/stock?as_of=";
    api.get("/v1/operator/stock", &api.operator).await.ok();
    let (mut locking, looking) = (api.client().await, api.client().await);
    let lock = locking.transaction().await.unwrap();
    lock.batch_execute("lock table journal.events in access exclusive mode").await.unwrap();
    // together more than there are connections
    for asked in ["1", "2011-12-09T12:50:00Z", "1"] {
        let path = format!("{path}{asked}");
        let all = join_all((0..4).map(|_| api.get(&path, &api.operator)));
        let ended = tokio::time::timeout(Duration::from_mins(1), all).await;
        for refused in ended.expect("the lock is not waited for") {
            refused.problem(503, "unavailable");
        }
    }
    // the lock is still held
    until_waiting(&looking, "%recursive search%", 0).await;

    lock.commit().await.unwrap();
    // a busy machine may take long over it
    let mut answer = api.get(&format!("{path}1"), &api.operator).await;
    for _ in 0..10 {
        if answer.status != 422 && answer.status != 503 {
            break;
        }
        answer = api.get(&format!("{path}1"), &api.operator).await;
    }
    answer.ok();
    assert_eq!(answer.header("daybook-position"), Some("1"));
    api.stop().await;
}

/// Waits until so many statements like this wait for a lock.
async fn until_waiting(looking: &tokio_postgres::Client, like: &str, wanted: i64) {
    let count = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like $1";
    let mut patience = 1_500;
    while looking.query_one(count, &[&like]).await.unwrap().get::<_, i64>(0) != wanted {
        assert!(patience > 0, "waited in vain for {wanted} waiting");
        patience -= 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
