//! Everybody wants the last units: none is sold twice, and nobody is charged for none.

use std::collections::BTreeMap;

use daybook_tests::{Client, Installation, Role, order, problem_code};
use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

/// Two hundred orders at once for ten units each of a product that has a hundred.
async fn two_hundred_orders_at(servers: usize) {
    let installation = Installation::new().await;
    let mut processes = Vec::new();
    for _ in 0..servers {
        processes.push(installation.start("serve").await);
    }
    let operator = processes[0].client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let _received =
        operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 100})).await.ok();
    let customer = installation.key(Role::Customer(Uuid::new_v4())).await;
    let clients: Vec<Client> = processes.iter().map(|process| process.client(&customer)).collect();

    let answers = join_all((0..200).map(|number| {
        let client = &clients[number % servers];
        async move { client.once("PlaceOrder", &order(Uuid::new_v4(), 10)).await }
    }))
    .await;

    let mut outcomes = BTreeMap::new();
    for answer in &answers {
        let outcome = match answer.status {
            200 => "accepted".to_owned(),
            422 => {
                // Refused with what is left; decided in one order, so nothing is left by then.
                let missing = json!([{"sku": "MUG", "wanted": 10, "available": 0}]);
                assert_eq!(answer.json()["missing"], missing, "{}", answer.text);
                problem_code(answer)
            }
            _ => format!("{} {}", answer.status, answer.text),
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([("accepted".to_owned(), 10), ("out-of-stock".to_owned(), 190)]);
    assert_eq!(outcomes, expected);

    installation.check_journal().await;
    let database = installation.connect().await;
    let counts = database
        .query_one(include_str!("sql/last_units.sql"), &[])
        .await
        .expect("the journal can be read");
    let count = |name: &str| -> i64 { counts.get(name) };
    assert_eq!(count("orders"), 10);
    assert_eq!(count("reserved"), 100);
    assert_eq!(count("charged"), 0, "nobody was charged");
    for process in processes {
        assert!(process.stop().await.success());
    }
}

#[tokio::test]
async fn ten_of_two_hundred_orders_get_the_hundred_units_at_one_server() {
    two_hundred_orders_at(1).await;
}

#[tokio::test]
async fn ten_of_two_hundred_orders_get_the_hundred_units_at_four_servers() {
    two_hundred_orders_at(4).await;
}
