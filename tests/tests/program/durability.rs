//! Nothing that was acknowledged is lost: what is not on the standby yet is not promised, a database
//! that may forget is refused, and a promoted standby is another history.

use std::time::Duration;

use daybook_tests::{Cluster, Installation, Process, Role, Standby, problem_code, until};
use serde_json::{Value, json};
use tokio_postgres::Client as Database;

/// Longest wait for what must come.
const SOON: Duration = Duration::from_secs(30);
/// How long a command may wait: longer than everything that the test does meanwhile.
const DEADLINE: (&str, &str) = ("DAYBOOK_COMMAND_DEADLINE_MS", "60000");

/// A backend of the writer that waits for the standby, doing something whose text holds `what`.
async fn waiting(database: &Database, what: &str) -> Option<i32> {
    let row = database
        .query_opt(include_str!("sql/waiting_for_standby.sql"), &[&what])
        .await
        .expect("a superuser may look at backends");
    row.map(|row| row.get(0))
}

async fn received(database: &Database) -> i64 {
    let count = "select count(*) from journal.events where type = 'StockReceived'";
    database.query_one(count, &[]).await.expect("readable").get(0)
}

/// A cluster whose commits wait for its standby, a shop on it, and a watcher that doesn't wait.
async fn replicated() -> (Process, Database, Installation, Standby, Cluster) {
    let cluster = Cluster::start();
    let standby = cluster.standby();
    let installation = Installation::on_server(cluster.url(), &[DEADLINE]).await;
    let server = installation.start("serve").await;
    let database = installation.connect().await;
    for statement in
        ["set synchronous_commit = local", "alter system set synchronous_standby_names = '*'"]
    {
        database.batch_execute(statement).await.expect("a superuser may change settings");
    }
    database.execute("select pg_reload_conf()", &[]).await.expect("a superuser may reload");
    until("the standby to count", SOON, async || {
        let sync = "select from pg_stat_replication where sync_state = 'sync'";
        database.query_opt(sync, &[]).await.expect("a superuser may look").map(|_row| ())
    })
    .await;
    (server, database, installation, standby, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_the_standby_yet_is_not_acknowledged() {
    let (server, database, installation, standby, _cluster) = replicated().await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();

    standby.stop();
    let body = json!({"sku": "MUG", "quantity": 7});
    let answer = tokio::spawn({
        let (operator, body) = (operator.clone(), body.clone());
        async move { operator.command("ReceiveStock", "the-one", &body).await }
    });
    let append = until("the append to wait for the standby", SOON, async || {
        waiting(&database, "journal.append").await
    })
    .await;
    // Somebody loses patience: PostgreSQL commits without the standby and says so in a warning.
    let cancelled = database.execute("select pg_cancel_backend($1)", &[&append]).await;
    cancelled.expect("a superuser may cancel");
    // The writer makes its connection anew, and waits until that proves that everything is there.
    until("the writer to ask for proof", SOON, async || {
        assert!(!answer.is_finished(), "acknowledged what only one server has");
        waiting(&database, "pg_logical_emit_message").await
    })
    .await;
    assert_eq!(received(&database).await, 1, "the event is visible, and could still be lost");
    let by_key = operator.get("/v1/commands/by-key/the-one").await;
    assert_eq!((by_key.status, problem_code(&by_key).as_str()), (503, "unavailable"));
    assert!(!answer.is_finished(), "acknowledged what only one server has");

    standby.start();
    let answer = answer.await.expect("no panic").ok();
    assert_eq!(answer.headers["idempotency-replayed"], "true", "{}", answer.text);
    let by_key = operator.get("/v1/commands/by-key/the-one").await.ok().json();
    assert_eq!(by_key["position"], answer.json()["position"]);
    assert_eq!(received(&database).await, 1, "once");
    installation.check_journal().await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_is_another_history_from_the_first_moment() {
    let (server, database, installation, standby, cluster) = replicated().await;
    let incarnation = async |database: &Database| -> String {
        let ask = "select journal.incarnation()::text";
        database.query_one(ask, &[]).await.expect("an incarnation").get(0)
    };
    let original = incarnation(&database).await;
    let url =
        installation.database_url().replace(server_of(cluster.url()), server_of(standby.url()));
    let (other, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("a hot standby answers");
    tokio::spawn(connection);
    assert_eq!(incarnation(&other).await, original, "as long as it follows it has its history");

    standby.promote();
    let promoted = incarnation(&other).await;
    assert_ne!(promoted, original, "from here on the two may differ");
    assert_eq!(incarnation(&other).await, promoted, "replaced once");
    assert_eq!(incarnation(&database).await, original, "the old primary goes on");
    drop(server);
}

/// Host and port of a connection string.
fn server_of(url: &str) -> &str {
    let (_user, server) = url.rsplit_once('@').expect("a user");
    server.split('/').next().expect("a server")
}

#[tokio::test]
async fn a_database_that_may_forget_is_refused_at_the_start_by_name() {
    let installation = Installation::new().await;
    let database = installation.connect().await;
    let set = format!("alter database {} set synchronous_commit = off", installation.database());
    database.batch_execute(&set).await.expect("a superuser may change settings");
    for (arguments, where_said) in
        [(&["serve"][..], "stderr"), (&["work"], "stderr"), (&["doctor"], "stdout")]
    {
        let output = installation.run_with(&[], arguments).await;
        let said = if where_said == "stdout" { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said).into_owned();
        assert!(!output.status.success(), "{arguments:?} {said}");
        assert!(said.contains("synchronous_commit is off"), "{arguments:?} {said}");
    }
}

#[tokio::test]
async fn a_clock_that_runs_ahead_makes_a_process_unready_until_it_is_right() {
    let installation = Installation::new().await;
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let database = installation.connect().await;
    // What the process asks of the database's clock is answered ten seconds late.
    let set_back =
        include_str!("sql/set_clock_back.sql").replace("{database}", installation.database());
    database.batch_execute(&set_back).await.expect("the clock is put back");
    let body = json!({"sku": "MUG", "quantity": 1});
    let refused = operator.command("ReceiveStock", "k", &body).await;
    assert_eq!((refused.status, problem_code(&refused).as_str()), (503, "unavailable"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(operator.get("/readyz").await.status, 503);
    let ready = server.operations().get("/readyz").await;
    let writer = &ready.json()["parts"]["writer"]["state"];
    assert_eq!(ready.status, 503, "{}", ready.text);
    assert_eq!(*writer, json!("main: this machine's clock is ahead of the database's"));
    assert_eq!(operator.get("/livez").await.status, 200, "restarting it would not help");

    database
        .batch_execute("drop function late.clock_timestamp()")
        .await
        .expect("it is right again");
    until("the process to be ready", SOON, async || {
        (operator.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let _received = operator.command("ReceiveStock", "k", &body).await.ok();
    let state: Value = server.operations().get("/readyz").await.json();
    assert_eq!(state["parts"]["writer"]["state"], "ok");
}
