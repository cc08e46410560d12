//! What a command costs: transactions, memory and rows looked at don't grow with what is stored.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::sync::{Arc, atomic::Ordering};

use bank::{Bank, Command, Database, accepted, check_history, refused, submission, until};
use daybook_journal::{Writer, WriterConfig};
use futures::future::join_all;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Commands that wait when the writer starts.
const WAITING: usize = 400;
/// Transactions that they take at most, and those that migrations and connections do.
const TRANSACTIONS: i64 = 150;
/// Events that stand in the journal before what is measured.
const STORED: i32 = 100_000;
/// Events that a writer reads at most to see that it is too far behind; each of the two does once.
const TAIL: usize = 10_000;
/// Commands that are measured.
const MEASURED: usize = 300;

/// Waits until no writer is connected any more: then PostgreSQL has counted all that they did.
async fn until_counted(client: &Client) {
    let connected = "select from pg_stat_activity
        where datname = current_database() and application_name = 'daybook writer' limit 1";
    until("the writers to be gone", async || {
        client.query_opt(connected, &[]).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_queued_up_is_read_at_once_and_committed_at_once() {
    let database = Database::create().await;
    let (writer, task) = database.idle_writer(WriterConfig::default());
    let mut pending = Vec::new();
    for n in 0..WAITING {
        let deposit = submission(&format!("k{n}"), Command::deposit(&format!("a{n}"), 1));
        pending.push(writer.enqueue(deposit).await);
    }
    let stop = CancellationToken::new();
    stop.cancel();
    task.run(stop).await;
    assert!(join_all(pending).await.iter().all(accepted));
    let client = database.client().await;
    until_counted(&client).await;
    let row = client
        .query_one(
            "select count(distinct xmin::text),
                    (select xact_commit from pg_stat_database where datname = current_database())
             from journal.events",
            &[],
        )
        .await
        .unwrap();
    let (appends, all): (i64, i64) = (row.get(0), row.get(1));
    // Half of what waits each time, while the other half commits.
    assert!(appends < 20, "{appends} transactions appended {WAITING} commands");
    assert!(all < TRANSACTIONS, "{all} transactions, reads included");
    assert_eq!(check_history(&database).await.len(), WAITING);
    database.drop().await;
}

/// Sends commands by two writers in turn, so that each finds what the other has appended: some on
/// streams that nobody knows, some under keys that are taken.
async fn send(writers: &[Writer<Bank>; 2], round: &str, count: usize) {
    for n in 0..count {
        let account = format!("{round}-{}", n / 3);
        let deposit = submission(&format!("{round}/{n}"), Command::deposit(&account, 1));
        assert!(accepted(&writers[n % 2].submit(deposit.clone()).await));
        if n % 10 == 0 {
            assert!(writers[(n + 1) % 2].submit(deposit).await.unwrap().repeated);
            // Looked up under its key as well, though its refusal is not remembered.
            let mut backend = submission(&format!("{round}/b{n}"), Command::withdraw(&account, 9));
            backend.key.remember_refusals = false;
            assert!(refused(&writers[n % 2].submit(backend).await));
        }
    }
}

/// Rows that were looked at one after the other, and rows found by an index, of the tables that
/// grow.
async fn looked_at(client: &Client) -> (i64, i64) {
    let row = client
        .query_one(
            "select sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint
             from pg_stat_user_tables
             where schemaname = 'journal' and relname in ('events', 'commands', 'snapshots')",
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// Plans are made when a statement is prepared or first run: here on tables of a page, which
/// PostgreSQL likes to read from end to end. They are kept while the tables grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_looks_at_no_more_rows_because_more_are_stored() {
    let database = Database::create().await;
    let client = database.client().await;
    assert!(accepted(&database.writer().submit(submission("1", Command::deposit("a", 1))).await));
    client.batch_execute("analyze").await.unwrap();
    let stop = CancellationToken::new();
    let (mut writers, mut running) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (writer, task) = database.idle_writer(WriterConfig::default());
        writers.push(writer);
        running.push(tokio::spawn(task.run(stop.clone())));
    }
    let writers: [Writer<Bank>; 2] = writers.try_into().ok().unwrap();
    send(&writers, "small", 30).await;
    let fill = format!(
        "insert into journal.events (position, occurred_at, recorded_at, tenant, version,
                                     schema_version, stream, type, mac, data, meta)
         select 31 + n, now(), (select max(recorded_at) from journal.events), 1, 1, 1,
                'filled-' || n, 'Moved', decode(repeat('00', 33), 'hex'), '{{\"by\": 1}}', '{{}}'
         from generate_series(1, {STORED}) n;
         insert into journal.commands (tenant, recorded_at, principal, key, fingerprint, outcome)
         select 1, now(), 'test', 'filled-' || n, decode(repeat('00', 32), 'hex'), '{{}}'
         from generate_series(1, {STORED}) n"
    );
    client.batch_execute(&fill).await.unwrap();
    client.execute("select pg_stat_force_next_flush()", &[]).await.unwrap();
    let (seq_before, _) = looked_at(&client).await;
    send(&writers, "large", MEASURED).await;
    stop.cancel();
    join_all(running).await;
    until_counted(&client).await;
    let (seq, idx) = looked_at(&client).await;
    let seq = seq - seq_before;
    assert!(seq < i64::from(STORED), "{seq} rows were looked at from end to end");
    let most = i64::try_from(2 * TAIL + 10 * MEASURED).unwrap();
    assert!(idx < most, "{idx} rows were fetched for {MEASURED} commands");
    database.drop().await;
}

/// Deposits to accounts one after the other; how many events were read for that.
async fn touch(
    writer: &Writer<Bank>,
    bank: &Bank,
    round: &str,
    accounts: impl Iterator<Item = usize>,
) -> usize {
    let before = bank.decoded.load(Ordering::Relaxed);
    for n in accounts {
        let deposit = submission(&format!("{round}/{n}"), Command::deposit(&format!("a{n}"), 1));
        assert!(accepted(&writer.submit(deposit).await));
    }
    bank.decoded.load(Ordering::Relaxed) - before
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_holds_what_was_used_last_and_no_more() {
    let database = Database::create().await;
    let others = Arc::new(Bank::default());
    let filling = database.writer_of(others.clone(), WriterConfig::default());
    touch(&filling, &others, "fill", 0..100).await;

    // Room for about twenty accounts.
    let bank = Arc::new(Bank::default());
    let settings = WriterConfig { cache_bytes: 20 * 180, ..WriterConfig::default() };
    let writer = database.writer_of(bank.clone(), settings);
    assert_eq!(touch(&writer, &bank, "first", 0..100).await, 100, "each is read once");
    assert_eq!(touch(&writer, &bank, "last", 90..100).await, 0, "these are in memory");
    assert_eq!(
        touch(&writer, &bank, "old", 0..10).await,
        20,
        "these had to go, and are read again"
    );
    // What is used all the time stays, if it is only read, however many others come and go.
    for n in 10..80 {
        let round = format!("used {n}");
        assert_eq!(touch(&writer, &bank, &round, std::iter::once(n)).await, 2, "{round}");
        let before = bank.decoded.load(Ordering::Relaxed);
        let outcome = writer.submit(submission(&round, Command::withdraw("a9", 1_000))).await;
        assert!(refused(&outcome));
        assert_eq!(bank.decoded.load(Ordering::Relaxed), before, "{round}");
    }
    check_history(&database).await;
    database.drop().await;
}
