//! Limits: each is refused by name, with the value and the limit, and can be set.

use daybook_tests::{Client, Installation, Role, problem_code};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};

/// Commands that are sent at once to fill a queue.
const AT_ONCE: usize = 1_300;

async fn operator_of(installation: &Installation) -> (daybook_tests::Process, Client) {
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    for sku in ["A", "B", "C"] {
        let body = json!({"sku": sku, "name": sku, "price": 100, "currency": "GBP"});
        let _added = operator.once("AddProduct", &body).await.ok();
        let _received =
            operator.once("ReceiveStock", &json!({"sku": sku, "quantity": 100})).await.ok();
    }
    (server, operator)
}

fn order(skus: &[&str]) -> Value {
    let lines: Vec<Value> = skus.iter().map(|sku| json!({"sku": sku, "quantity": 1})).collect();
    json!({"currency": "GBP", "lines": lines})
}

/// Name, value and limit of a problem.
fn limit_of(answer: &daybook_tests::Answer) -> (String, i64, i64) {
    let problem = answer.json();
    let name = problem["limit"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned();
    let number = |member: &str| problem[member].as_i64().expect("a number");
    (name, number("actual"), number("at_most"))
}

#[tokio::test]
async fn streams_and_events_of_a_command_are_bounded() {
    let settings = [("DAYBOOK_STREAMS_PER_COMMAND", "5"), ("DAYBOOK_EVENTS_PER_COMMAND", "2")];
    let installation = Installation::with_settings(&settings).await;
    let (_server, operator) = operator_of(&installation).await;
    let head = installation.head().await;
    // An order reads itself and two streams of each product.
    let streams = operator.once("PlaceOrder", &order(&["A", "B", "C"])).await;
    assert_eq!((streams.status, problem_code(&streams).as_str()), (422, "limit-exceeded"));
    assert_eq!(limit_of(&streams), ("streams_per_command".to_owned(), 7, 5));
    // And appends one event of its own and one for each product.
    let events = operator.once("PlaceOrder", &order(&["A", "B"])).await;
    assert_eq!((events.status, problem_code(&events).as_str()), (422, "limit-exceeded"));
    assert_eq!(limit_of(&events), ("events_per_command".to_owned(), 3, 2));
    assert_eq!(installation.head().await, head, "nothing was appended");
    let _placed = operator.once("PlaceOrder", &order(&["A"])).await.ok();
}

#[tokio::test]
async fn the_size_of_an_event_is_bounded() {
    let installation = Installation::with_settings(&[("DAYBOOK_EVENT_BYTES", "1024")]).await;
    let (_server, operator) = operator_of(&installation).await;
    let many: Vec<&str> = ["A", "B", "C"].into_iter().cycle().take(60).collect();
    let large = operator.once("PlaceOrder", &order(&many)).await;
    assert_eq!((large.status, problem_code(&large).as_str()), (422, "limit-exceeded"));
    let (name, value, limit) = limit_of(&large);
    assert_eq!((name.as_str(), limit), ("event_bytes", 1024));
    assert!(value > limit, "{value}");
}

#[tokio::test]
async fn a_full_queue_is_answered_at_once_by_name() {
    let settings = [("DAYBOOK_QUEUE_COMMANDS", "2"), ("DAYBOOK_COMMAND_DEADLINE_MS", "60000")];
    let installation = Installation::with_settings(&settings).await;
    let (_server, operator) = operator_of(&installation).await;
    // Nobody can append as long as this transaction has the tenant's lock.
    let mut database = installation.connect().await;
    let lock = database.transaction().await.expect("a transaction");
    lock.execute("select journal.lock(1)", &[]).await.expect("the lock");
    // More than wait in the queue and in the batches on their way together.
    let body = json!({"sku": "A", "quantity": 1});
    let mut sending: FuturesUnordered<_> = (0..AT_ONCE)
        .map(|_| async {
            let key = uuid::Uuid::new_v4().to_string();
            operator.command("ReceiveStock", &key, &body).await
        })
        .collect();
    // Nobody is answered before the lock is free but those for whom there is no room.
    let full = sending.next().await.expect("an answer");
    assert_eq!((full.status, problem_code(&full).as_str()), (503, "overloaded"));
    assert_eq!(full.headers["retry-after"], "1");
    assert_eq!(limit_of(&full), ("queue_commands".to_owned(), 3, 2));
    lock.rollback().await.expect("the lock is given back");
    while let Some(answer) = sending.next().await {
        assert!(matches!(answer.status, 200 | 503), "{} {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_at_the_start_by_name() {
    let installation = Installation::new().await;
    for setting in [
        "event_bytes",
        "events_per_command",
        "streams_per_command",
        "queue_commands",
        "batch_commands",
        "batch_events",
        "snapshot_events",
    ] {
        let output = installation.run(&["--set", &format!("{setting}=0"), "settings"]).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(setting), "{errors}");
    }
}
