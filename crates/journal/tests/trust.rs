//! What a writer does not trust: a clock that runs ahead, a database that may forget, a history that
//! is another one, names that a leaf can't hold.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::time::Duration;

use bank::{Bank, Command, Database, accepted, check_history, refused, submission, until};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_journal::{NotReady, SubmitError, Writer};

/// Puts the database's clock back, as far as anybody can tell who asks it.
async fn set_clock_back(database: &Database, by: &str) {
    let client = database.client().await;
    let name: String = client.query_one("select current_database()", &[]).await.unwrap().get(0);
    client
        .batch_execute(&format!(
            "create schema if not exists late;
             create or replace function late.clock_timestamp() returns timestamptz
             language sql volatile return pg_catalog.clock_timestamp() - interval '{by}';
             alter database {name} set search_path = late, pg_catalog;
             alter function journal.append set search_path = late, pg_catalog, pg_temp"
        ))
        .await
        .unwrap();
}

/// Waits until the writer is ready although nobody sends it anything.
async fn until_ready(writer: &Writer<Bank>) {
    until("the writer to find that it can write", async || writer.ready().ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_runs_ahead_is_refused_and_makes_unready_until_it_is_right() {
    let database = Database::create().await;
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("1", Command::deposit("a", 5))).await));
    assert_eq!(writer.ready(), Ok(()));

    set_clock_back(&database, "10 seconds").await;
    let outcome = writer.submit(submission("2", Command::deposit("a", 5))).await;
    assert!(
        matches!(&outcome, Err(SubmitError::Unavailable(why)) if why.contains("clock")),
        "{outcome:?}"
    );
    assert_eq!(writer.ready(), Err(NotReady::ClockAhead));
    // What writes no event needs no clock, and says nothing about it.
    assert!(refused(&writer.submit(submission("no", Command::withdraw("a", 9))).await));
    assert_eq!(writer.ready(), Err(NotReady::ClockAhead));
    assert_eq!(database.reader().command(1, "test", "2").await.unwrap(), None, "nothing happened");

    // A little ahead, as machines are.
    set_clock_back(&database, "1 second").await;
    until_ready(&writer).await;
    assert!(accepted(&writer.submit(submission("2", Command::deposit("a", 5))).await));
    assert_eq!(check_history(&database).await.len(), 2);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_ahead_already_is_followed() {
    let database = Database::create().await;
    let later = Utc::now() + TimeDelta::hours(1);
    database
        .client()
        .await
        .execute(
            "insert into journal.events (position, occurred_at, recorded_at, tenant, version,
                                         schema_version, stream, type, mac, data, meta)
             values (1, $1, $1, 1, 1, 1, 'account-a', 'Moved', decode(repeat('00', 33), 'hex'),
                     '{\"by\": 5}', '{}')",
            &[&later],
        )
        .await
        .unwrap();
    let writer = database.writer();
    for n in 0..3 {
        let deposit = submission(&format!("{n}"), Command::deposit("a", 5));
        assert!(accepted(&writer.submit(deposit).await));
    }
    let rows = database
        .client()
        .await
        .query("select recorded_at from journal.events order by position", &[])
        .await
        .unwrap();
    let times: Vec<DateTime<Utc>> = rows.iter().map(|row| row.get(0)).collect();
    assert!(times.len() == 4 && times.is_sorted(), "{times:?}");
    assert_eq!(times[3] - times[0], TimeDelta::zero(), "time stands still until it has come");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_forget_what_it_acknowledged_is_not_written_to() {
    let database = Database::create().await;
    let client = database.client().await;
    let name: String = client.query_one("select current_database()", &[]).await.unwrap().get(0);
    for level in ["off", "local", "remote_write"] {
        let set = format!("alter database {name} set synchronous_commit = {level}");
        client.batch_execute(&set).await.unwrap();
        let writer = database.writer();
        let mut deposit = submission(level, Command::deposit("a", 5));
        deposit.deadline = Duration::from_secs(1);
        assert_eq!(writer.submit(deposit.clone()).await, Err(SubmitError::Expired), "{level}");
        assert_eq!(writer.ready(), Err(NotReady::NotDurable), "{level}");

        let set = format!("alter database {name} set synchronous_commit = remote_apply");
        client.batch_execute(&set).await.unwrap();
        until_ready(&writer).await;
        deposit.deadline = Duration::from_secs(20);
        assert!(accepted(&writer.submit(deposit).await), "after {level}");
    }
    assert_eq!(
        check_history(&database).await.len(),
        3,
        "nothing was written that was not promised"
    );
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_is_another_history() {
    let database = Database::create().await;
    let original = database.reader().incarnation().await.unwrap();
    assert_eq!(database.reader().incarnation().await.unwrap(), original, "it stays");
    let copy = database.copy().await;
    let copied = copy.reader().incarnation().await.unwrap();
    assert_ne!(copied, original, "positions of the one say nothing of the other");
    assert_eq!(copy.reader().incarnation().await.unwrap(), copied, "replaced once");
    assert_eq!(database.reader().incarnation().await.unwrap(), original);
    copy.drop().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_leaf_can_not_hold_as_it_is_is_refused() {
    let database = Database::create().await;
    let writer = database.writer();
    for account in ["a\"b", "a\\b", "a\nb", "a\u{1}"] {
        let outcome = writer.submit(submission(account, Command::deposit(account, 5))).await;
        assert!(matches!(outcome, Err(SubmitError::Unstorable(_))), "{account:?}: {outcome:?}");
    }
    assert!(accepted(&writer.submit(submission("1", Command::deposit("ä b/€", 5))).await));
    assert_eq!(check_history(&database).await.len(), 1);
    database.drop().await;
}
