//! The locks that active relays hold in PostgreSQL, one for each partition.

use tokio_postgres::Client;

/// Name of the lock of a partition of a topic.
pub(crate) fn name(topic: &str, partition: i32) -> String {
    format!("daybook relay {topic}/{partition}")
}

/// Takes the lock of that name for as long as the connection lives, if nobody has it.
pub(crate) async fn try_take(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    let locked = "select pg_try_advisory_lock(hashtextextended($1, 0))";
    Ok(client.query_one(locked, &[&name]).await?.get(0))
}
