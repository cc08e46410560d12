//! A writer follows its own log: what it decides on is current whoever else writes, whatever it
//! has read, kept, forgotten or speculated on.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use bank::{
    Bank, Command, Database, accepted, check_history, hold_lock, refused, submission, until,
    until_waiting,
};
use daybook_journal::{Model, Outcome, StoredEvent, SubmitError, Verdict, WriterConfig};
use futures::future::join_all;
use serde_json::Value;

fn moved(event: &StoredEvent) -> i64 {
    serde_json::from_str::<Value>(&event.data).unwrap()["by"].as_i64().unwrap_or(0)
}

/// Balances after the whole history; none is ever below zero on the way.
fn balances(events: &[StoredEvent]) -> BTreeMap<String, i64> {
    let mut balances: BTreeMap<String, i64> = BTreeMap::new();
    // A transfer's two events belong together.
    for event in events {
        let balance = balances.entry(event.stream.clone()).or_default();
        *balance += moved(event);
        assert!(*balance >= 0, "{} is overdrawn at {}", event.stream, event.position);
    }
    balances
}

fn position(outcome: &Result<Outcome, SubmitError>) -> Option<i64> {
    match &outcome.as_ref().ok()?.verdict {
        Verdict::Accepted(accepted) => Some(accepted.position),
        Verdict::Refused(_) => None,
    }
}

/// Writers that forget everything at once, so that every command reads while others append, and one
/// that remembers.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_on_what_others_have_changed_meanwhile() {
    const ACCOUNTS: usize = 12;
    const WRITERS: usize = 3;
    let database = Database::create().await;
    let forgetful = WriterConfig { cache_bytes: 1, ..WriterConfig::default() };
    let writers = [forgetful.clone(), forgetful, WriterConfig::default()]
        .map(|c| database.writer_of(Arc::default(), c));
    let account = |n: usize| format!("a{}", n % ACCOUNTS);
    // The other half is empty, and known to be, until somebody pays in.
    for n in 0..ACCOUNTS / 2 {
        let open = submission(&format!("open/{n}"), Command::deposit(&account(n), 20));
        assert!(accepted(&writers[n % WRITERS].submit(open).await));
    }
    let clients = (0..60usize).map(|client| {
        let writers = writers.clone();
        async move {
            let mut outcomes = Vec::new();
            for n in 0..20usize {
                let key = format!("{client}/{n}");
                let mixed = client * 7 + n * 13;
                let command = match mixed % 4 {
                    0 => Command::deposit(&account(mixed / 4), 3),
                    1 => Command::withdraw(&account(mixed / 4), 9),
                    _ => Command::transfer(&account(mixed / 4), &account(mixed / 4 + 5), 7),
                };
                let outcome = writers[mixed % WRITERS].submit(submission(&key, command)).await;
                outcomes.push((key, outcome));
            }
            outcomes
        }
    });
    let outcomes: Vec<_> = join_all(clients).await.into_iter().flatten().collect();
    let events = check_history(&database).await;
    balances(&events);
    // Each answer names the place of its last event, and nothing that was refused is there.
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for event in &events {
        let meta: Value = serde_json::from_str(&event.meta).unwrap();
        last.insert(meta["key"].as_str().unwrap().to_owned(), event.position);
    }
    for (key, outcome) in &outcomes {
        assert!(outcome.is_ok(), "{key}: {outcome:?}");
        assert_eq!(position(outcome), last.get(key).copied(), "{key}");
    }
    assert!(outcomes.iter().any(|(_, outcome)| refused(outcome)), "some are refused");
    database.drop().await;
}

/// Forty commands at once make two batches that are on their way together.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_on_a_batch_that_failed_is_decided_again() {
    let database = Database::create().await;
    let other = database.writer();
    // Somebody else has used this key already: here it will not deposit a second time.
    assert!(accepted(&other.submit(submission("taken", Command::deposit("a", 100))).await));

    for (first, name) in [
        (submission("taken", Command::deposit("a", 100)), "a key that is taken"),
        (submission("poison", Command::poison("a")), "data that PostgreSQL refuses"),
    ] {
        let (writer, task) = database.idle_writer(WriterConfig::default());
        let mut commands = vec![first];
        commands.extend(
            (0..19).map(|n| submission(&format!("{name}/{n}"), Command::note("a", "waits"))),
        );
        commands.push(submission(&format!("{name}/large"), Command::withdraw("a", 150)));
        commands.extend(
            (20..39).map(|n| submission(&format!("{name}/{n}"), Command::note("a", "waits"))),
        );
        let mut pending = Vec::new();
        for command in commands {
            pending.push(writer.enqueue(command).await);
        }
        tokio::spawn(task.run(tokio_util::sync::CancellationToken::new()));
        let outcomes = join_all(pending).await;
        assert!(refused(&outcomes[20]), "{name}: the account holds 100");
        let others = outcomes.iter().enumerate().filter(|(index, _)| ![0, 20].contains(index));
        for (index, outcome) in others {
            assert!(accepted(outcome), "{name}: {index} {outcome:?}");
        }
    }
    assert_eq!(balances(&check_history(&database).await)["account-a"], 100);
    database.drop().await;
}

/// A backup that was restored, or a standby that was promoted, may hold another event at a
/// position.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_more_than_its_position() {
    let database = Database::create().await;
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("1", Command::deposit("a", 5))).await));
    assert!(accepted(&writer.submit(submission("2", Command::deposit("a", 95))).await));

    // What another history wrote at position 2: one unit, not 95.
    database
        .client()
        .await
        .batch_execute(
            "alter table journal.events disable trigger all;
             create temp table kept as select * from journal.events where position = 2;
             delete from journal.events where position = 2;
             update kept set data = '{\"by\": 1}', mac = decode('01' || repeat('ab', 32), 'hex');
             insert into journal.events select * from kept;
             alter table journal.events enable always trigger events_never_change;
             alter table journal.events enable always trigger events_never_truncated;",
        )
        .await
        .unwrap();
    let large = writer.submit(submission("3", Command::withdraw("a", 50))).await;
    assert!(refused(&large), "the account holds 6: {large:?}");
    assert!(accepted(&writer.submit(submission("4", Command::withdraw("a", 6))).await));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_append_refuses_any_isolation_but_read_committed() {
    let database = Database::create().await;
    let client = database.client().await;
    let call = "select journal.append(1, 0, null, now(), '{}', '{}', '{}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')";
    for level in ["repeatable read", "serializable"] {
        client.batch_execute(&format!("begin isolation level {level}")).await.unwrap();
        let error = client.batch_execute(call).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("read committed"), "{error}");
        client.batch_execute("rollback").await.unwrap();
    }
    client.batch_execute(call).await.unwrap();

    // A database that has another level by default doesn't disturb a writer.
    let name =
        client.query_one("select current_database()", &[]).await.unwrap().get::<_, String>(0);
    let set = format!("alter database {name} set default_transaction_isolation = 'serializable'");
    client.batch_execute(&set).await.unwrap();
    let writers = [database.writer(), database.writer()];
    for n in 0..6 {
        let deposit = submission(&format!("{n}"), Command::deposit("a", 1));
        assert!(accepted(&writers[n % 2].submit(deposit).await));
    }
    assert_eq!(balances(&check_history(&database).await)["account-a"], 6);
    database.drop().await;
}

/// Waits until the snapshot of that fold which `wanted` says is kept.
async fn until_kept(database: &Database, revision: u8, wanted: &str) {
    let client = database.client().await;
    let fingerprint = Bank { revision, ..Bank::default() }.snapshots().unwrap();
    let kept = format!("select from journal.snapshots where fingerprint = $1 and {wanted}");
    until("the snapshot", async || {
        client.query_opt(&kept, &[&fingerprint.as_slice()]).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_read_from_its_snapshot() {
    let database = Database::create().await;
    let settings = WriterConfig { snapshot_events: 100, ..WriterConfig::default() };
    let writer = database.writer_of(Arc::default(), settings.clone());
    for n in 0..5 {
        let many = submission(&format!("{n}"), Command::deposits("a", 100));
        assert!(accepted(&writer.submit(many).await));
    }
    until_kept(&database, 0, "version >= 500").await;

    // What a new writer reads of the stream, and that it knows its state.
    let mut count = 0;
    // Those that have read it stay, so that what they offer is kept.
    let mut readers = Vec::new();
    let mut decoded_by = async |bank: Bank| {
        count += 1;
        let bank = Arc::new(bank);
        let writer = database.writer_of(bank.clone(), settings.clone());
        let large =
            writer.submit(submission(&format!("large {count}"), Command::withdraw("a", 501))).await;
        assert!(refused(&large), "500 are there");
        let exact = format!("exact {count}");
        assert!(accepted(&writer.submit(submission(&exact, Command::withdraw("a", 500))).await));
        let back = format!("back {count}");
        assert!(accepted(&writer.submit(submission(&back, Command::deposit("a", 500))).await));
        readers.push(writer);
        bank.decoded.load(Ordering::Relaxed)
    };
    assert!(decoded_by(Bank::default()).await < 100, "the snapshot stands for 500 events");
    let another = || Bank { revision: 1, ..Bank::default() };
    assert!(decoded_by(another()).await >= 500, "another fold doesn't use it");
    until_kept(&database, 1, "version >= 500").await;
    assert!(decoded_by(another()).await < 100, "it has its own");
    assert!(decoded_by(Bank::default()).await < 100, "beside that of the first");

    // Somebody who can write to the database can't make anybody believe another state.
    let client = database.client().await;
    let [first, second] = [Bank::default(), another()].map(|bank| bank.snapshots().unwrap());
    client
        .execute("delete from journal.snapshots where fingerprint = $1", &[&first.as_slice()])
        .await
        .unwrap();
    let passed_off = "update journal.snapshots set fingerprint = $1, taken_at = '-infinity' where fingerprint = $2";
    let changed = client.execute(passed_off, &[&first.as_slice(), &second.as_slice()]).await;
    assert_eq!(changed.unwrap(), 1);
    assert!(decoded_by(Bank::default()).await >= 500, "its mac says that it is another fold's");
    // Whoever found none that it could use keeps one of its own.
    until_kept(&database, 0, "taken_at <> '-infinity'").await;
    client.batch_execute("update journal.snapshots set state = '999999'").await.unwrap();
    assert!(decoded_by(Bank::default()).await >= 500, "its mac doesn't match");
    until_kept(&database, 0, "state <> '999999'").await;
    client
        .batch_execute("update journal.snapshots set incarnation = gen_random_uuid()")
        .await
        .unwrap();
    assert!(decoded_by(Bank::default()).await >= 500, "it is of another history");
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_empty_is_not_taken_for_empty_later() {
    let database = Database::create().await;
    let [writer, other] = [database.writer(), database.writer()];
    assert!(refused(&writer.submit(submission("1", Command::withdraw("a", 5))).await));
    assert!(accepted(&other.submit(submission("2", Command::deposit("a", 5))).await));
    assert!(accepted(&writer.submit(submission("3", Command::withdraw("a", 5))).await));
    assert_eq!(balances(&check_history(&database).await)["account-a"], 0);
    database.drop().await;
}

/// The read of account `a` takes its view of the database and is then held up; meanwhile somebody
/// else empties the account, and the writer hears of that through another command.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_append_during_a_read_counts() {
    let database = Database::create().await;
    let other = database.writer();
    let note = Command::note("a", "slow to read");
    // The last one is the other writer's head, which it reads when it looks what came after.
    for command in [Command::deposit("a", 100), note, Command::deposit("c", 1)] {
        let key = format!("{command:?}");
        assert!(accepted(&other.submit(submission(&key, command)).await));
    }
    // Whoever reads a note waits for a lock of the test's.
    let slowly =
        "create or replace function journal.upcast(type text, schema_version smallint, data jsonb)
        returns jsonb language plpgsql volatile as $$
        begin
            if type = 'Noted' then perform pg_advisory_xact_lock_shared(1684107371, 77); end if;
            return data;
        end $$";
    database.client().await.batch_execute(slowly).await.unwrap();
    let writer = database.writer();
    assert!(accepted(&writer.submit(submission("b1", Command::deposit("b", 1))).await));
    let send = |writer: &daybook_journal::Writer<Bank>, key: &str, command| {
        let (writer, command) = (writer.clone(), submission(key, command));
        tokio::spawn(async move { writer.submit(command).await })
    };
    // Whoever wants to append waits, in the order of asking.
    let (appends, reads) = (hold_lock(&database, 1).await, hold_lock(&database, 77).await);
    let early = send(&other, "early", Command::withdraw("a", 100));
    until_waiting(&database, 1).await;
    let warm = send(&writer, "b2", Command::deposit("b", 1));
    until_waiting(&database, 2).await;
    let late = send(&writer, "late", Command::withdraw("a", 100));
    until_waiting(&database, 3).await;
    appends.batch_execute("commit").await.unwrap();

    assert!(accepted(&early.await.unwrap()));
    assert!(accepted(&warm.await.unwrap()), "it finds another head, and is decided again");
    assert!(!late.is_finished(), "its read is still under way");
    reads.batch_execute("commit").await.unwrap();
    assert!(refused(&late.await.unwrap()), "the account is empty");
    assert_eq!(balances(&check_history(&database).await)["account-a"], 0);
    database.drop().await;
}
