//! Roles in processes of their own: each may be killed, none of the others notices for long.

use daybook_tests::{Installation, Role, order};
use serde_json::json;
use uuid::Uuid;

/// Orders between two kills.
const ORDERS: i64 = 40;

#[tokio::test]
async fn killed_relays_and_projectors_lose_and_repeat_nothing() {
    let installation = Installation::new().await;
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let customer = server.client(&installation.key(Role::Customer(Uuid::new_v4())).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let mut last =
        operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 1000})).await.ok();

    let (mut relay, mut projector) =
        (installation.start("relay").await, installation.start("project").await);
    for round in 1..=3 {
        for _ in 0..ORDERS {
            last = customer.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
        }
        // In the middle of their work, or behind it: both must be right.
        relay.kill().await;
        projector.kill().await;
        for _ in 0..ORDERS {
            last = customer.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
        }
        (relay, projector) =
            (installation.start("relay").await, installation.start("project").await);
        let headers = [("daybook-min-position", last.position()), ("prefer", "wait=30".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        // A consumer group lets a killed member go only after its session has timed out.
        let stock =
            daybook_tests::until("the read model", std::time::Duration::from_secs(90), || async {
                let path = "/v1/operator/stock/MUG";
                let answer = operator.send(reqwest::Method::GET, path, &headers, Vec::new()).await;
                let answer = answer.expect("the server can be reached");
                (answer.status == 200).then(|| answer.json())
            })
            .await;
        assert_eq!(stock["reserved"], json!(2 * ORDERS * round), "{stock}");
    }
    let sales = operator.get_at("/v1/operator/sales/by-day", &last.position()).await.ok().json();
    assert_eq!(sales["items"][0]["orders"], json!(6 * ORDERS), "{sales}");
    assert_eq!(sales["items"][0]["sales"], json!(6 * ORDERS * 1250), "{sales}");

    // The same from zero, and from Kafka alone.
    for arguments in [
        ["projections", "rebuild", "--all"].as_slice(),
        ["projections", "rebuild", "--all", "--from", "kafka"].as_slice(),
    ] {
        installation.run_ok(arguments).await;
        let again =
            operator.get_at("/v1/operator/sales/by-day", &last.position()).await.ok().json();
        assert_eq!(again["items"], sales["items"]);
        let stock = operator.get_at("/v1/operator/stock/MUG", &last.position()).await.ok().json();
        assert_eq!(stock["reserved"], json!(6 * ORDERS), "{stock}");
    }
    installation.check_journal().await;
    for process in [server, relay, projector] {
        assert!(process.stop().await.success(), "a stop that was asked for is a success");
    }
}

#[tokio::test]
async fn a_stopped_server_answers_what_it_has_accepted() {
    let installation = Installation::new().await;
    let server = installation.start("serve").await;
    let operator = installation.key(Role::Operator).await;
    let client = server.client(&operator);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = client.once("AddProduct", &mug).await.ok();
    let sending: Vec<_> = (1..=200)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let stock = json!({"sku": "MUG", "quantity": 1});
                client.try_command("ReceiveStock", &format!("r{number}"), &stock).await
            })
        })
        .collect();
    assert!(server.stop().await.success());
    let mut accepted = 0;
    for answer in futures::future::join_all(sending).await {
        match answer.expect("no panic") {
            Ok(answer) if answer.status == 200 => accepted += 1,
            // Refused at the door, or before it: no effect.
            Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text),
            Err(error) => assert!(error.is_connect() || error.is_request(), "{error:?}"),
        }
    }
    let database = installation.connect().await;
    let received = "select count(*) from journal.events where type = 'StockReceived'";
    let count: i64 = database.query_one(received, &[]).await.expect("readable").get(0);
    assert_eq!(count, accepted, "every effect was answered");
}
