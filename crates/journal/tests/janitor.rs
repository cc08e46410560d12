//! The janitor against a real PostgreSQL: what goes, what stays, and in what pieces.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::time::Duration;

use bank::{Command, Database, submission};
use daybook_journal::{Janitor, JanitorSettings, Swept, Verdict};
use tokio_util::sync::CancellationToken;

const PIECE: i32 = 500;

fn janitor(database: &Database) -> Janitor {
    let settings = JanitorSettings {
        piece_rows: PIECE,
        pause: Duration::from_millis(1),
        every: Duration::from_millis(50),
        ..JanitorSettings::default()
    };
    Janitor::new(database.config(), settings)
}

/// Idempotency records, `count` for each `expires_at`.
async fn add_commands(client: &tokio_postgres::Client, count: i32, expires_at: &str) {
    let sql = format!(
        "insert into journal.commands
             (tenant, recorded_at, expires_at, principal, key, fingerprint, outcome)
         select 1, now(), {expires_at}, 'p', gen_random_uuid()::text, decode(repeat('00', 32), 'hex'),
                '{{}}' from generate_series(1, {count})"
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn add_jobs(client: &tokio_postgres::Client, count: i32, state: &str, ended_at: &str) {
    let sql = format!(
        "insert into journal.jobs (id, tenant, position, run_at, kind, payload, state, ended_at)
         select gen_random_uuid(), 1, 1, now(), 'k', '{{}}', '{state}', {ended_at}
         from generate_series(1, {count})"
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn count(client: &tokio_postgres::Client, table: &str) -> i64 {
    let sql = format!("select count(*) from journal.{table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_large_backlog_goes_in_small_pieces_and_the_rest_stays() {
    let database = Database::create().await;
    let client = database.client().await;
    // What each statement removes is written down where the test finds it.
    client.batch_execute(include_str!("sql/count_pieces.sql")).await.unwrap();
    add_commands(&client, 7_300, "now() - interval '1 second'").await;
    add_commands(&client, 40, "now() + interval '1 hour'").await;
    add_commands(&client, 60, "null").await;
    add_jobs(&client, 3_100, "done", "now() - interval '31 days'").await;
    add_jobs(&client, 20, "done", "now() - interval '29 days'").await;
    add_jobs(&client, 30, "dead", "now() - interval '1 year'").await;
    add_jobs(&client, 10, "waiting", "null").await;

    let swept = janitor(&database).sweep().await.unwrap();
    assert_eq!(swept, Some(Swept { commands: 7_300, jobs: 3_100 }));
    assert_eq!(count(&client, "commands").await, 100);
    assert_eq!(count(&client, "jobs").await, 60);
    let row = client
        .query_one(
            "select max(removed), count(distinct transaction), sum(removed)::bigint from pieces
             where removed > 0",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, i64>(0) <= i64::from(PIECE), "a piece is bounded");
    assert_eq!(row.get::<_, i64>(1), 15 + 7, "each piece is a transaction of its own");
    assert_eq!(row.get::<_, i64>(2), 7_300 + 3_100);
    assert_eq!(janitor(&database).sweep().await.unwrap(), Some(Swept::default()));
    database.drop().await;
}

#[tokio::test]
async fn a_piece_reads_no_more_than_it_removes() {
    let database = Database::create().await;
    let client = database.client().await;
    add_commands(&client, 20_000, "now() - interval '1 second'").await;
    add_jobs(&client, 20_000, "done", "now() - interval '31 days'").await;
    // Without statistics, as after an import: the plan must not depend on them.
    for (call, index, table) in [
        ("journal.remove_expired_commands(100)", "commands_expiring", "commands"),
        ("journal.remove_done_jobs(0, 100)", "jobs_done", "jobs"),
    ] {
        let removed: i32 = client.query_one(&format!("select {call}"), &[]).await.unwrap().get(0);
        assert_eq!(removed, 100);
        let read = "select pg_stat_get_xact_tuples_returned($1::regclass)";
        client.batch_execute("begin").await.unwrap();
        client.query_one(&format!("select {call}"), &[]).await.unwrap();
        let index = format!("journal.{index}");
        let sql = read.replace("$1", &format!("'{index}'"));
        let through_index: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        let sql = read.replace("$1", &format!("'journal.{table}'"));
        let scanned: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        client.batch_execute("commit").await.unwrap();
        assert!((100..=400).contains(&through_index), "{index}: {through_index} read");
        assert!(scanned <= 400, "{table}: {scanned} scanned");
    }
    database.drop().await;
}

#[tokio::test]
async fn one_sweeps_and_rows_in_use_are_left_for_the_next_time() {
    let database = Database::create().await;
    let client = database.client().await;
    add_commands(&client, 10, "now() - interval '1 second'").await;
    let sweeping = database.client().await;
    sweeping.execute("select pg_advisory_lock(1684107371, -1)", &[]).await.unwrap();
    assert_eq!(janitor(&database).sweep().await.unwrap(), None, "somebody else sweeps");
    drop(sweeping);

    let holder = database.client().await;
    holder.batch_execute("begin; select from journal.commands limit 3 for update").await.unwrap();
    let patient = async {
        loop {
            // The lock goes with its connection, a moment later.
            if let Some(swept) = janitor(&database).sweep().await.unwrap() {
                return swept;
            }
        }
    };
    let swept = tokio::time::timeout(Duration::from_secs(20), patient).await.unwrap();
    assert_eq!(swept, Swept { commands: 7, jobs: 0 });
    holder.batch_execute("rollback").await.unwrap();

    // Running, it comes back for them.
    let stop = CancellationToken::new();
    let running = tokio::spawn(janitor(&database).run(stop.clone()));
    while count(&client, "commands").await > 0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    database.drop().await;
}

/// A key is promised to be kept for a time, and is answered for as long as it is there: nothing
/// takes effect twice while anybody can tell. Once it is removed it is a new key.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_answered_until_it_is_removed() {
    let database = Database::create().await;
    let client = database.client().await;
    let writer = database.writer();
    let deposit = || submission("once", Command::deposit("a", 5));
    let first = writer.submit(deposit()).await.unwrap();
    client
        .batch_execute("update journal.commands set expires_at = now() - interval '1 day'")
        .await
        .unwrap();

    // Another process's writer, which remembers nothing.
    for writer in [writer, database.writer()] {
        let again = writer.submit(deposit()).await.unwrap();
        assert!(again.repeated);
        assert_eq!(again.verdict, first.verdict);
    }
    assert_eq!(count(&client, "events").await, 1, "no second effect");
    let found = database.reader().command(1, "test", "once").await.unwrap();
    assert_eq!(found.map(|outcome| outcome.verdict), Some(first.verdict));

    assert_eq!(janitor(&database).sweep().await.unwrap(), Some(Swept { commands: 1, jobs: 0 }));
    assert!(database.reader().command(1, "test", "once").await.unwrap().is_none());
    let anew = database.writer().submit(deposit()).await.unwrap();
    assert!(!anew.repeated);
    assert!(matches!(anew.verdict, Verdict::Accepted(_)));
    assert_eq!(count(&client, "events").await, 2);
    database.drop().await;
}

/// Records that go while their keys are being sent cost nobody an answer.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_removed_while_they_are_sent_get_an_answer() {
    let database = Database::create().await;
    let client = database.client().await;
    let writer = database.writer();
    let stop = CancellationToken::new();
    let settings = JanitorSettings {
        every: Duration::ZERO,
        pause: Duration::ZERO,
        ..JanitorSettings::default()
    };
    let running = tokio::spawn(Janitor::new(database.config(), settings).run(stop.clone()));
    for _ in 0..40 {
        client.batch_execute("update journal.commands set expires_at = now()").await.unwrap();
        let sending =
            (0..10).map(|n| writer.submit(submission(&format!("k{n}"), Command::deposit("a", 1))));
        for outcome in futures::future::join_all(sending).await {
            assert!(matches!(outcome.unwrap().verdict, Verdict::Accepted(_)));
        }
    }
    stop.cancel();
    running.await.unwrap();
    database.drop().await;
}
