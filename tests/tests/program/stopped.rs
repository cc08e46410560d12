//! A process that is stopped with SIGSTOP while it holds the tenant's lock: the others wait for
//! about two seconds, not for as long as it is stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_tests::{Client, Installation, Process, Role};
use serde_json::json;
use tokio_postgres::Client as Database;
use uuid::Uuid;

/// Clients of each server that keep both writers in each other's way.
const SENDERS: usize = 4;
/// How often the process is stopped to find it with the lock.
const STOPS: usize = 400;
/// How long the other process may take. The lock is given up after 2 s, and then it is the other's
/// turn (found with the lock, the stopped one has had it for [`STANDS_STILL`] already, so that it
/// takes 1.7 s where nothing else goes on); the rest is for a slow machine.
const WITHIN: Duration = Duration::from_secs(3);
/// Longer than any process that runs stays idle within its transaction, on a slow machine too.
const STANDS_STILL: Duration = Duration::from_millis(300);

/// Backend that holds a tenant's lock and waits for its client, and since when.
async fn holder(database: &Database) -> Option<(i32, String)> {
    let row = database
        .query_opt(include_str!("sql/lock_holder.sql"), &[])
        .await
        .expect("a superuser may look at locks");
    row.map(|row| (row.get(0), row.get(1)))
}

/// Stops the process again and again until it is caught while its backend holds the lock.
async fn stop_with_lock(process: &Process, database: &Database) -> i32 {
    for _ in 0..STOPS {
        process.pause().await;
        if let Some(found) = holder(database).await {
            // A process that runs goes on within milliseconds; the stopped one stays.
            tokio::time::sleep(STANDS_STILL).await;
            if holder(database).await.as_ref() == Some(&found) {
                return found.0;
            }
        }
        process.resume().await;
        tokio::task::yield_now().await;
    }
    panic!("the process was never caught with the lock in {STOPS} stops");
}

/// Takes one unit in after another until told to stop; whatever the answer.
async fn keep_sending(client: Client, stop: Arc<AtomicBool>) {
    let body = json!({"sku": "MUG", "quantity": 1});
    while !stop.load(Ordering::Relaxed) {
        let key = Uuid::new_v4().to_string();
        let sent = client.try_command("ReceiveStock", &key, &body);
        drop(tokio::time::timeout(Duration::from_secs(20), sent).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_with_the_lock_holds_the_others_up_for_two_seconds_or_so() {
    // Time enough that a command is answered late rather than not at all.
    let deadline = [("DAYBOOK_COMMAND_DEADLINE_MS", "30000")];
    let installation = Installation::with_settings(&deadline).await;
    let stopped = installation.start("serve").await;
    let running = installation.start("serve").await;
    let operator = installation.key(Role::Operator).await;
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = running.client(&operator).once("AddProduct", &mug).await.ok();

    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2 * SENDERS)
        .map(|number| {
            let server = if number % 2 == 0 { &stopped } else { &running };
            tokio::spawn(keep_sending(server.client(&operator), Arc::clone(&stop)))
        })
        .collect();
    let database = installation.connect().await;
    let backend = stop_with_lock(&stopped, &database).await;

    let since = Instant::now();
    let body = json!({"sku": "MUG", "quantity": 1});
    let answered = running.client(&operator).command("ReceiveStock", "meanwhile", &body).await;
    let took = since.elapsed();
    println!("answered after {took:?}");
    let _accepted = answered.ok();
    assert!(took < WITHIN, "the other process was held up for {took:?}");
    let alive = "select 1 from pg_stat_activity where pid = $1";
    let alive = database.query_opt(alive, &[&backend]).await.expect("a look");
    assert!(alive.is_none(), "PostgreSQL ended the transaction that stood still");

    // The stopped one finds its connection gone when it goes on, and works again.
    stopped.resume().await;
    let again = stopped.client(&operator).once("ReceiveStock", &body).await;
    let _accepted = again.ok();
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("no sender panics");
    }
    installation.check_journal().await;
    for process in [stopped, running] {
        assert!(process.stop().await.success());
    }
}
