//! The writer against a real PostgreSQL: order, idempotency, races, lost connections.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::time::Duration;

use bank::{Command, Database, accepted, check_history, refused, submission};
use daybook_journal::{SubmitError, Verdict, WriterConfig};
use futures::future::join_all;

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_never_overdraw_and_leave_no_gap() {
    let database = Database::create().await;
    let writers = [database.writer(), database.writer()];
    let opened = writers[0].submit(submission("open", Command::deposit("a", 100))).await;
    assert!(accepted(&opened));

    // Many small batches on both sides, so that each finds the other's events in its way.
    let clients = (0..20).map(|c| {
        let writers = writers.clone();
        async move {
            let mut outcomes = Vec::new();
            for n in 0..10 {
                let withdraw = submission(&format!("{c}/{n}"), Command::withdraw("a", 3));
                outcomes.push(writers[(c + n) % 2].submit(withdraw).await);
            }
            outcomes
        }
    });
    let outcomes: Vec<_> = join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(outcomes.iter().filter(|o| accepted(o)).count(), 33, "100 = 33 × 3 + 1");
    assert!(outcomes.iter().all(Result::is_ok), "a refusal is an outcome, no error");
    assert_eq!(check_history(&database).await.len(), 34);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_takes_effect_once_whoever_sends_it() {
    let database = Database::create().await;
    let writers = [database.writer(), database.writer()];
    let attempts = (0..50).map(|n| {
        let writer = writers[n % 2].clone();
        async move { writer.submit(submission("same", Command::deposit("a", 5))).await.unwrap() }
    });
    let outcomes = join_all(attempts).await;
    assert!(outcomes.iter().all(|o| o.verdict == outcomes[0].verdict), "one answer for all");
    assert_eq!(outcomes.iter().filter(|o| !o.repeated).count(), 1);
    assert_eq!(check_history(&database).await.len(), 1);

    // Another body under the same key is another request; another principal's key is another key.
    let mut other = submission("same", Command::deposit("a", 6));
    other.key.fingerprint = [9; 32];
    assert_eq!(writers[0].submit(other.clone()).await, Err(SubmitError::KeyReused));
    other.key.principal = "somebody-else".to_owned();
    assert!(accepted(&writers[0].submit(other).await));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_remembered_for_clients_only() {
    let database = Database::create().await;
    let writer = database.writer();
    let client = submission("c", Command::withdraw("a", 5));
    let mut backend = submission("b", Command::withdraw("a", 5));
    backend.key.remember_refusals = false;
    assert!(refused(&writer.submit(client.clone()).await));
    assert!(refused(&writer.submit(backend.clone()).await));
    assert!(accepted(&writer.submit(submission("d", Command::deposit("a", 50))).await));
    let again = writer.submit(client).await.unwrap();
    assert!(again.repeated && matches!(again.verdict, Verdict::Refused(_)));
    assert!(accepted(&writer.submit(backend).await), "decided afresh");
    let stored = database.reader().command(1, "test", "c").await.unwrap().unwrap();
    assert_eq!(stored.verdict, again.verdict);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_key_is_answered_so_though_it_would_be_refused_now() {
    let database = Database::create().await;
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("open", Command::deposit("a", 5))).await));
    let mut backend = submission("b", Command::withdraw("a", 5));
    backend.key.remember_refusals = false;
    let mut matched = submission("m", Command::deposit("z", 1));
    matched.if_match =
        Some(daybook_journal::IfMatch { stream: "account-z".to_owned(), version: 0 });
    for command in [backend, matched] {
        let first = writer.submit(command.clone()).await.unwrap();
        let again = writer.submit(command).await.unwrap();
        assert!(again.repeated && again.verdict == first.verdict, "{again:?}");
    }
    assert_eq!(check_history(&database).await.len(), 3);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_command_costs_its_neighbours_nothing() {
    let database = Database::create().await;
    let writer = database.writer();
    let pending = join_all((0..100).map(|n| {
        let command = match n {
            37 => Command::poison("a"),
            61 => Command::unstorable("a"),
            _ => Command::deposit("a", 1),
        };
        writer.enqueue(submission(&format!("k{n}"), command))
    }))
    .await;
    let outcomes = join_all(pending).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        if n == 37 || n == 61 {
            assert!(matches!(outcome, Err(SubmitError::Unstorable(_))), "{n}: {outcome:?}");
        } else {
            assert!(accepted(outcome), "{n}: {outcome:?}");
        }
    }
    assert_eq!(check_history(&database).await.len(), 98);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_holds_or_says_the_actual_version() {
    let database = Database::create().await;
    let writer = database.writer();
    let at = |key: &str, version| {
        let mut s = submission(key, Command::deposit("a", 1));
        s.if_match = Some(daybook_journal::IfMatch { stream: "account-a".to_owned(), version });
        s
    };
    assert!(accepted(&writer.submit(at("1", 0)).await));
    let conflict = writer.submit(at("2", 0)).await;
    assert_eq!(
        conflict,
        Err(SubmitError::Conflict { stream: "account-a".to_owned(), expected: 0, actual: 1 })
    );
    assert!(accepted(&writer.submit(at("2", 1)).await), "a conflict is not remembered");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_connections_are_killed() {
    let database = Database::create().await;
    let writer = database.writer();
    let killing = tokio::spawn({
        let client = database.client().await;
        async move {
            for _ in 0..15 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                client
                    .execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()
                           and application_name = 'daybook writer'",
                        &[],
                    )
                    .await
                    .unwrap();
            }
        }
    });
    let clients = (0..20).map(|c| {
        let writer = writer.clone();
        async move {
            for n in 0..40 {
                let command = submission(&format!("{c}/{n}"), Command::deposit("a", 1));
                // What any client does: ask again with the same key until there is an outcome.
                while writer.submit(command.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    });
    join_all(clients).await;
    killing.await.unwrap();
    assert_eq!(check_history(&database).await.len(), 800, "each once, none lost");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_can_be_neither_changed_nor_removed() {
    let database = Database::create().await;
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("1", Command::deposit("a", 1))).await));
    let client = database.client().await;
    for attempt in [
        "update journal.events set type = 'Other'",
        "delete from journal.events",
        "truncate journal.events",
        "set session_replication_role = replica; delete from journal.events",
    ] {
        let error = client.batch_execute(attempt).await.unwrap_err();
        let message = error.as_db_error().map(|e| e.message().to_owned()).unwrap_or_default();
        assert!(message.contains("append-only"), "{attempt}: {message}");
    }
    assert_eq!(check_history(&database).await.len(), 1);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_refused_by_name_and_a_full_queue_at_once() {
    let database = Database::create().await;
    let small = WriterConfig {
        command_events: 2,
        event_bytes: 400,
        queue_commands: 1,
        ..WriterConfig::default()
    };
    let (writer, task) = database.idle_writer(small);
    // Nobody works yet, so the queue stays full.
    let first = writer.enqueue(submission("1", Command::deposit("a", 1))).await;
    let second = writer.submit(submission("2", Command::deposit("a", 1))).await;
    assert_eq!(second, Err(SubmitError::Overloaded));
    tokio::spawn(task.run(tokio_util::sync::CancellationToken::new()));
    assert!(accepted(&first.await));

    let many = writer.submit(submission("3", Command::deposits("a", 3))).await;
    assert_eq!(many, Err(SubmitError::Limit { name: "events_per_command", value: 3, limit: 2 }));
    let large = writer.submit(submission("4", Command::note("a", &"x".repeat(500)))).await;
    assert!(matches!(large, Err(SubmitError::Limit { name: "event_bytes", limit: 400, .. })));
    assert_eq!(check_history(&database).await.len(), 1);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waited_too_long_has_no_effect() {
    let database = Database::create().await;
    let (writer, task) = database.idle_writer(WriterConfig::default());
    let mut late = submission("late", Command::deposit("a", 1));
    late.deadline = Duration::from_millis(20);
    assert_eq!(writer.submit(late).await, Err(SubmitError::Expired));
    tokio::spawn(task.run(tokio_util::sync::CancellationToken::new()));
    assert!(accepted(&writer.submit(submission("next", Command::deposit("a", 1))).await));
    let events = check_history(&database).await;
    assert_eq!(events.len(), 1, "the late one was never sent");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stops_finishes_what_was_queued() {
    let database = Database::create().await;
    let (writer, task) = database.idle_writer(WriterConfig::default());
    let pending = join_all(
        (0..100).map(|n| writer.enqueue(submission(&format!("{n}"), Command::deposit("a", 1)))),
    )
    .await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    shutdown.cancel();
    task.run(shutdown).await;
    assert!(join_all(pending).await.iter().all(accepted));
    let refused = writer.submit(submission("after", Command::deposit("a", 1))).await;
    assert!(matches!(refused, Err(SubmitError::Unavailable(_))));
    database.drop().await;
}
