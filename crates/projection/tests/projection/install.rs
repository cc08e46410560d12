//! Installing is safe to repeat, and starts anew what has changed.

use crate::kit::{Database, shipped};

#[tokio::test]
async fn installing_twice_changes_nothing() {
    let database = Database::new().await;
    let mut client = database.client().await;
    daybook_projection::install(&mut client, &shipped()).await.unwrap();
    let made = "select array_agg(oid order by oid)::text from pg_proc
                where pronamespace::regnamespace::text like 'read\\_%'";
    let before: String = client.query_one(made, &[]).await.unwrap().get(0);
    daybook_projection::install(&mut client, &shipped()).await.unwrap();
    let after: String = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}
