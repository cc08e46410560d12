//! Who waits for whom: an answer for its commit, nobody for another tenant, no commit for wake-ups.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bank::{
    Bank, Command, Database, accepted, check_history, hold_lock, submission, until, until_waiting,
};
use daybook_journal::{SubmitError, WriterConfig};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

/// Commands whose wake-ups are counted.
const COMMITS: i64 = 300;
/// Wake-ups that may be sent before the connection for them is held up, and after.
const FEW: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_sent_is_answered_by_its_commit_or_not_at_all() {
    let database = Database::create().await;
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("open", Command::deposit("a", 100))).await));
    let holder = hold_lock(&database, 1).await;
    let mut late = submission("late", Command::withdraw("a", 10));
    late.deadline = Duration::from_secs(3);
    let waiting = tokio::spawn({
        let (writer, late) = (writer.clone(), late.clone());
        async move { writer.submit(late).await }
    });
    until_waiting(&database, 1).await;
    // It can be neither called off nor promised: nobody knows yet.
    assert_eq!(waiting.await.unwrap(), Err(SubmitError::OutcomeUnknown));
    let known = database.reader().command(1, "test", "late").await.unwrap();
    assert_eq!(known, None, "nothing is committed");

    // Asked again with its key it says what became of it: it took effect, once.
    holder.batch_execute("commit").await.unwrap();
    late.deadline = Duration::from_secs(20);
    let again = writer.submit(late).await.unwrap();
    assert!(again.repeated, "{again:?}");
    assert_eq!(check_history(&database).await.len(), 2);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_wait_for_each_other() {
    let database = Database::create().await;
    let second = database.reader().add_tenant("second", 1).await.unwrap();
    let (writer, other) = (database.writer(), database.writer_for(second.clone()));
    let holder = hold_lock(&database, 1).await;
    let held_up = tokio::spawn({
        let writer = writer.clone();
        async move { writer.submit(submission("1", Command::deposit("a", 5))).await }
    });
    until_waiting(&database, 1).await;
    for n in 0..20 {
        let deposit = submission(&format!("{n}"), Command::deposit("a", 1));
        assert!(accepted(&other.submit(deposit).await), "the second tenant's lock is free");
    }
    assert!(!held_up.is_finished(), "the first tenant's is not");
    holder.batch_execute("commit").await.unwrap();
    assert!(accepted(&held_up.await.unwrap()));
    // Each has positions, streams and keys of its own.
    assert_eq!(check_history(&database).await.len(), 1);
    assert_eq!(database.reader().head(second.id).await.unwrap(), 20);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_next_batch_needs_is_read_while_the_one_before_it_commits() {
    let database = Database::create().await;
    let other = database.writer();
    assert!(accepted(&other.submit(submission("b", Command::deposits("b", 40))).await));
    let bank = Arc::new(Bank::default());
    // It does not give up waiting for its append and begin anew.
    let settings = WriterConfig { answer_timeout_ms: 60_000, ..WriterConfig::default() };
    let writer = database.writer_of(bank.clone(), settings);
    let holder = hold_lock(&database, 1).await;
    let send = |key: &str, command| {
        let (writer, command) = (writer.clone(), submission(key, command));
        tokio::spawn(async move { writer.submit(command).await })
    };
    let first = send("first", Command::deposit("a", 1));
    until_waiting(&database, 1).await;
    let next = send("next", Command::withdraw("b", 40));
    until("the next batch's stream to be read", async || {
        (bank.decoded.load(Ordering::Relaxed) == 40).then_some(())
    })
    .await;
    assert!(!first.is_finished() && !next.is_finished(), "the lock is held all the while");
    holder.batch_execute("commit").await.unwrap();
    assert!(accepted(&first.await.unwrap()) && accepted(&next.await.unwrap()));
    assert_eq!(check_history(&database).await.len(), 42);
    database.drop().await;
}

/// Listens for wake-ups; each is its position.
async fn listen(database: &Database) -> (tokio_postgres::Client, mpsc::UnboundedReceiver<i64>) {
    let (client, mut connection) = database.config().connect(NoTls).await.unwrap();
    let (heard, positions) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message {
                let position = note.payload().split_once(':').unwrap().1.parse().unwrap();
                heard.send(position).ok();
            }
        }
    });
    client.batch_execute("listen daybook_journal").await.unwrap();
    (client, positions)
}

/// Wake-ups have a connection of their own, which also keeps snapshots: held up there, it sends none
/// for a while. Commits neither wait for it nor carry any themselves, and afterwards one says it all.
#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_are_coalesced_and_no_commit_waits_for_them() {
    let database = Database::create().await;
    let (_listening, mut heard) = listen(&database).await;
    let settings = WriterConfig { snapshot_events: 1, ..WriterConfig::default() };
    let writer = database.writer_of(Arc::default(), settings);
    let holder = database.client().await;
    holder.batch_execute("begin; lock table journal.snapshots in share mode").await.unwrap();
    for n in 0..COMMITS {
        let deposit = submission(&format!("{n}"), Command::deposit("a", 1));
        assert!(accepted(&writer.submit(deposit).await));
    }
    holder.batch_execute("commit").await.unwrap();

    let mut positions = Vec::new();
    while positions.last() != Some(&COMMITS) {
        let position = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await;
        positions.push(position.expect("the last commit is heard of").unwrap());
    }
    assert!(
        positions.is_sorted_by(|a, b| a < b),
        "each says more than the one before: {positions:?}"
    );
    assert!(positions.len() < FEW, "{} wake-ups for {COMMITS} commits", positions.len());
    database.drop().await;
}
