//! The example does what it shows, the first time and again.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

#[allow(dead_code, reason = "its `main` is not run here")]
#[path = "../examples/bank.rs"]
mod example;

use bank::Database;

#[tokio::test]
async fn the_bank_of_the_example_moves_money_once_however_often_it_is_run() {
    let database = Database::create().await;
    for _ in 0..2 {
        let balances = example::run(database.config()).await.unwrap();
        assert_eq!(balances, [70, 20], "100 came, 30 changed hands, 71 did not, 10 went");
    }
    let (reader, tenant) = (database.reader(), "bank");
    let tenant = reader.tenant(tenant).await.unwrap().unwrap();
    assert_eq!(reader.head(tenant.id).await.unwrap(), 6, "nothing took effect twice");
    database.drop().await;
}
