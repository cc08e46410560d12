//! A new version of an event comes into use: readable first, written once every process reads it.

use std::time::Duration;

use daybook_tests::{Installation, Role, Shop, order, problem_code};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

/// Makes an installation what it was before OrderPlaced/2 was activated.
async fn forget_the_activation(client: &Client) {
    let sql = "delete from journal.activations where type = 'OrderPlaced' and version = 2";
    assert_eq!(client.execute(sql, &[]).await.expect("activations can be changed here"), 1);
}

/// Registers a process that knows of every type its first version only, as an older program does.
async fn older_process(client: &Client, name: &str) {
    let sql = "select journal.register_process(gen_random_uuid(), $1, array_agg(type),
                                               array_agg(1::smallint))
               from (select distinct type from journal.activations) as known";
    client.execute(sql, &[&name]).await.expect("a process can be registered");
}

/// Schema version and data as they are stored, of an order.
async fn stored(client: &Client, order: Uuid) -> (i16, Value) {
    let sql = "select schema_version, data::text from journal.events
               where stream = $1 and type = 'OrderPlaced'";
    let row = client.query_one(sql, &[&format!("order-{order}")]).await.expect("it was placed");
    let data: String = row.get(1);
    (row.get(0), serde_json::from_str(&data).expect("it is JSON"))
}

async fn activate(installation: &Installation) -> Result<String, String> {
    let done = installation.run(&["schemas", "activate", "OrderPlaced/2"]).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

#[tokio::test]
async fn old_and_new_run_side_by_side_until_a_version_is_activated() {
    let installation = Installation::new().await;
    let client = installation.connect().await;
    let list = installation.run_ok(&["schemas", "list"]).await;
    assert!(!list.contains("not activated"), "a new installation has everything: {list}");
    forget_the_activation(&client).await;
    let shop = Shop::open_on(installation, 100).await;
    let installation = &shop.installation;

    // The version before is written, and what only the new one could say is refused.
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let _placed = shop.operator.once("PlaceOrder", &order(first, 1)).await.ok();
    let (version, data) = stored(&client, first).await;
    assert_eq!((version, data.get("shipping")), (1, None));
    let mut sent = order(second, 1);
    sent["shipping"] = json!(395);
    let head = installation.head().await;
    let refused = shop.operator.command("PlaceOrder", "with-shipping", &sent).await;
    assert_eq!((refused.status, &*problem_code(&refused)), (503, "not-activated"));
    assert_eq!(refused.json()["event_type"], "OrderPlaced");
    assert_eq!(refused.json()["schema_version"], 2);
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert_eq!(installation.head().await, head);
    let unknown = shop.operator.get("/v1/commands/by-key/with-shipping").await;
    assert_eq!(unknown.status, 404, "nothing is remembered: {}", unknown.text);

    // Migrating again changes nothing about it; an older process stands in the way by name.
    let said = installation.run_ok(&["migrate"]).await;
    assert!(said.contains("OrderPlaced/2"), "{said}");
    older_process(&client, "serve@shelf-7:4711").await;
    let blocked = activate(installation).await.expect_err("an older process runs");
    assert!(blocked.contains("serve@shelf-7:4711"), "{blocked}");
    let list = installation.run_ok(&["schemas", "list"]).await;
    assert!(list.contains("not activated: daybook schemas activate OrderPlaced/2"), "{list}");
    assert!(list.contains("process serve@shelf-7:4711"), "{list}");
    assert!(list.lines().any(|line| line.starts_with("process serve+")), "{list}");
    let gone = "delete from journal.processes where name like '%shelf-7%'";
    client.execute(gone, &[]).await.expect("it is stopped");

    // Activated, the very same request takes effect, without a restart.
    let said = activate(installation).await.expect("nothing stands in the way");
    assert!(said.contains("written from now on"), "{said}");
    let placed = daybook_tests::until("the activation is seen", Duration::from_secs(5), || async {
        let answer = shop.operator.command("PlaceOrder", "with-shipping", &sent).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let (version, data) = stored(&client, second).await;
    assert_eq!((version, &data["shipping"], &data["total"]), (2, &json!(395), &json!(1645)));

    // Both are orders like any other: in the read model, however it was made, and to a charge.
    let position = placed.position();
    for rebuilt in [
        None,
        Some(&["projections", "rebuild", "orders"][..]),
        Some(&["projections", "rebuild", "orders", "--from", "kafka"][..]),
    ] {
        if let Some(arguments) = rebuilt {
            installation.run_ok(arguments).await;
        }
        for (id, shipping, total) in [(first, 0, 1250), (second, 395, 1645)] {
            let path = format!("/v1/operator/orders/{id}");
            let row = shop.operator.get_at(&path, &position).await.ok().json();
            assert_eq!(
                (&row["shipping"], &row["total"]),
                (&json!(shipping), &json!(total)),
                "{row} {rebuilt:?}"
            );
        }
    }
    let payment = |id: Uuid, amount: i64| {
        json!({"order_id": id, "amount": amount, "currency": "GBP", "method": "bank transfer",
               "reference": "r"})
    };
    for (id, total) in [(first, 1250), (second, 1645)] {
        let over = shop.operator.once("RecordPayment", &payment(id, total + 1)).await;
        assert_eq!(over.status, 422, "{}", over.text);
        let _paid = shop.operator.once("RecordPayment", &payment(id, total)).await.ok();
    }

    // What is copied and audited is what was stored.
    let stream = shop.operator.get(&format!("/v1/streams/order-{first}")).await.ok().text;
    assert!(stream.contains("\"schema_version\":1"), "{stream}");
    assert!(!stream.contains("\"shipping\""), "{stream}");
    let current = "select schema_version, data->>'shipping' from journal.current_events
                   where stream = $1 and version = 1";
    let row = client.query_one(current, &[&format!("order-{first}")]).await.expect("it is there");
    assert_eq!((row.get::<_, i16>(0), row.get::<_, &str>(1)), (2, "0"));
    installation.check_journal().await;
    assert!(shop.server.stop().await.success());
    let left = "select count(*) from journal.processes";
    let left: i64 = client.query_one(left, &[]).await.expect("they can be counted").get(0);
    assert_eq!(left, 0, "who stops is no longer registered");
}

#[tokio::test]
async fn a_program_that_can_not_read_what_is_activated_does_not_start() {
    let installation = Installation::new().await;
    let client = installation.connect().await;
    let newer = "insert into journal.activations values ('OrderPlaced', 3, now())";
    client.execute(newer, &[]).await.expect("activations can be changed here");
    let _key = installation.key(Role::Operator).await;
    for role in ["serve", "project", "work", "up"] {
        let ended = tokio::time::timeout(Duration::from_secs(30), installation.run(&[role])).await;
        let ended = ended.expect("it does not start");
        assert!(!ended.status.success(), "{role}");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("OrderPlaced/3"), "{role}: {said}");
    }
}
