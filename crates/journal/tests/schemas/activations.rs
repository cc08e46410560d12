//! What may be written, and who must be able to read it first.

use std::time::{Duration, Instant};

use daybook_journal::{
    Activations, EventVersion,
    activation::{self, ActivationError, activate, activated, adopt, register},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::{Database, store};

const A1: EventVersion = EventVersion { kind: "A", version: 1 };
const A2: EventVersion = EventVersion { kind: "A", version: 2 };
const B1: EventVersion = EventVersion { kind: "B", version: 1 };

async fn names(client: &Client) -> Vec<String> {
    let all = activated(client).await.unwrap();
    all.iter().map(|one| format!("{}/{}", one.kind, one.version)).collect()
}

/// Waits until it holds; fails after a while.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As if every process had been silent for so long.
async fn silence(client: &Client, seconds: f64) {
    client
        .execute(
            "update journal.processes set seen_at = seen_at - make_interval(secs => $1)",
            &[&seconds],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_journal_has_everything_and_an_old_one_what_it_had() {
    let database = Database::create().await;
    let client = database.client().await;
    assert_eq!(adopt(&client, &[A1, A2], &[A1]).await.unwrap(), 2);
    assert_eq!(names(&client).await, ["A/1", "A/2"]);
    // Still without events, a newer program comes.
    assert_eq!(adopt(&client, &[A1, A2, B1], &[A1]).await.unwrap(), 1);

    // With events nothing is added by itself.
    client.batch_execute("delete from journal.activations where type = 'B'").await.unwrap();
    store(&client, "A", 1, "{}").await;
    assert_eq!(adopt(&client, &[A1, A2, B1], &[A1]).await.unwrap(), 0);
    assert_eq!(names(&client).await, ["A/1", "A/2"]);

    // Events from before activations were kept.
    client.batch_execute("delete from journal.activations").await.unwrap();
    assert_eq!(adopt(&client, &[A1, A2, B1], &[A1]).await.unwrap(), 1);
    assert_eq!(names(&client).await, ["A/1"]);
    database.drop().await;
}

#[tokio::test]
async fn an_empty_journal_has_no_version_that_a_process_can_not_read() {
    let database = Database::create().await;
    let client = database.client().await;
    let (_, _task) = register(database.pool(), "old".to_owned(), &[A1]).await.unwrap();
    adopt(&client, &[A1, A2, B1], &[]).await.unwrap();
    assert_eq!(names(&client).await, ["A/1"]);
    database.drop().await;
}

#[tokio::test]
async fn a_process_that_can_not_read_it_blocks_an_activation_by_name() {
    let database = Database::create().await;
    let client = database.client().await;
    adopt(&client, &[A1], &[]).await.unwrap();
    store(&client, "A", 1, "{}").await;
    let (_, old) = register(database.pool(), "serve@here:7".to_owned(), &[A1]).await.unwrap();
    let (_, _new) = register(database.pool(), "work@here:8".to_owned(), &[A1, A2]).await.unwrap();

    let refused = activate(&client, A2).await.unwrap_err();
    assert!(
        matches!(&refused, ActivationError::Blind(names) if *names == ["serve@here:7"]),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("serve@here:7"), "{refused}");
    // Likewise a type that it doesn't know at all.
    assert!(matches!(activate(&client, B1).await, Err(ActivationError::Blind(_))));

    // It stops properly, and no longer counts.
    let stop = CancellationToken::new();
    stop.cancel();
    old.run(stop).await.unwrap();
    assert!(activate(&client, A2).await.unwrap());
    assert!(!activate(&client, A2).await.unwrap(), "it was already");

    // From now on the old program doesn't start.
    let refused = register(database.pool(), "serve@here:9".to_owned(), &[A1]).await.unwrap_err();
    assert!(matches!(&refused, ActivationError::Unreadable(v) if v == "A/2"), "{refused:?}");
    database.drop().await;
}

#[tokio::test]
async fn versions_are_activated_in_order() {
    let database = Database::create().await;
    let client = database.client().await;
    assert!(matches!(activate(&client, A2).await, Err(ActivationError::OutOfOrder(_))));
    assert!(activate(&client, A1).await.unwrap());
    assert!(activate(&client, A2).await.unwrap());
    database.drop().await;
}

#[tokio::test]
async fn a_silent_process_lapses_and_must_end_if_it_can_read_no_longer() {
    let database = Database::create().await;
    let client = database.client().await;
    adopt(&client, &[A1], &[]).await.unwrap();
    let (_, task) = register(database.pool(), "old".to_owned(), &[A1]).await.unwrap();
    silence(&client, 20.0).await;
    assert!(matches!(activate(&client, A2).await, Err(ActivationError::Blind(_))));
    silence(&client, 20.0).await;
    assert!(activate(&client, A2).await.unwrap(), "it has been silent for 40 s");
    assert!(!activation::processes(&client).await.unwrap()[0].alive);

    // It was only stopped for a while: its next heartbeat tells it.
    let ended = tokio::time::timeout(Duration::from_secs(20), task.run(CancellationToken::new()));
    let ended = ended.await.expect("it ends by itself");
    assert!(matches!(ended, Err(ActivationError::Unreadable(v)) if v == "A/2"));
    database.drop().await;
}

#[tokio::test]
async fn a_lapsed_process_that_can_read_everything_goes_on() {
    let database = Database::create().await;
    let client = database.client().await;
    adopt(&client, &[A1], &[]).await.unwrap();
    let (_, task) = register(database.pool(), "new".to_owned(), &[A1, A2]).await.unwrap();
    silence(&client, 40.0).await;
    let running = tokio::spawn(task.run(CancellationToken::new()));
    let end = Instant::now() + Duration::from_secs(20);
    while !activation::processes(&client).await.unwrap()[0].alive {
        assert!(Instant::now() < end, "it did not register again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!running.is_finished());
    running.abort();
    database.drop().await;
}

#[tokio::test]
async fn a_running_process_learns_of_an_activation_within_a_second() {
    let database = Database::create().await;
    let client = database.client().await;
    adopt(&client, &[A1], &[]).await.unwrap();
    store(&client, "A", 1, "{}").await;
    let known = [A1, A2];
    let (activations, task) = register(database.pool(), "p".to_owned(), &known).await.unwrap();
    assert!(activations.contains("A", 1), "known from the start");
    assert!(!activations.contains("A", 2) && !activations.contains("B", 1));
    tokio::spawn(task.run(CancellationToken::new()));
    activate(&client, A2).await.unwrap();
    let since = Instant::now();
    until("the activation is seen", || activations.contains("A", 2)).await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(Activations::all(&known).contains("A", 2));
    assert!(!Activations::none(&known).contains("A", 1));
    database.drop().await;
}

/// Waits until somebody waits for an advisory lock in this database.
async fn until_somebody_waits(client: &Client) {
    let sql = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
               where d.datname = current_database() and locktype = 'advisory' and not granted";
    let end = Instant::now() + Duration::from_secs(10);
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < end, "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_activation_and_a_registration_never_miss_each_other() {
    let database = Database::create().await;
    let client = database.client().await;
    adopt(&client, &[A1, B1], &[]).await.unwrap();

    // An activation that has not committed: a process that can't read it waits, and is refused.
    let holding = database.client().await;
    holding.batch_execute("begin").await.unwrap();
    assert!(activate(&holding, A2).await.unwrap());
    let old = tokio::spawn(register(database.pool(), "old".to_owned(), &[A1, B1]));
    until_somebody_waits(&client).await;
    holding.batch_execute("commit").await.unwrap();
    assert!(matches!(old.await.unwrap(), Err(ActivationError::Unreadable(v)) if v == "A/2"));

    // A registration that has not committed: the activation waits, and is refused.
    let register_old = "begin; select journal.register_process(
        gen_random_uuid(), 'slow', array['A', 'B'], array[2, 1]::smallint[])";
    holding.batch_execute(register_old).await.unwrap();
    let activating = database.client().await;
    let b2 = EventVersion { kind: "B", version: 2 };
    let refused = tokio::spawn(async move { activate(&activating, b2).await });
    until_somebody_waits(&client).await;
    holding.batch_execute("commit").await.unwrap();
    let refused = refused.await.unwrap();
    assert!(matches!(&refused, Err(ActivationError::Blind(names)) if *names == ["slow"]));
    database.drop().await;
}
